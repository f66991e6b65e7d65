// SPDX-License-Identifier: BSD-2-Clause
/* Programs that stop, disks that are full, guests by the dozen: whoever has nothing to do with it does not notice. */
#include "fixture.h"
#include "tests.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PORT = 1000,
};

/* What a guest may send of a stream, by what the daemon said last. */
struct sender {
	u32 port;
	u32 sent;
	u32 fwd;
	u32 alloc;
};

static void learn(struct fix *f, struct sender *s)
{
	struct vsp_hdr hdr;

	while (peer_recv(&f->peer, &hdr, NULL, 0)) {
		if (hdr.dst.port != s->port)
			continue;
		CHECK(hdr.op != VSP_OP_RST);
		s->fwd = hdr.fwd_cnt;
		s->alloc = hdr.buf_alloc;
	}
}

/* Send up to @most bytes of the pattern, as far as credit goes. Returns how many. */
static u32 send_some(struct fix *f, struct sender *s, u32 most)
{
	struct vsp_hdr hdr = fix_hdr(PORT, s->port, VSP_OP_RW);
	u32 room;

	hdr.src.cid = f->cid;
	learn(f, s);
	room = s->alloc - (s->sent - s->fwd);
	hdr.len = most < room ? most : room;
	hdr.len = hdr.len < sizeof(f->buf) ? hdr.len : (u32)sizeof(f->buf);
	for (u32 i = 0; i < hdr.len; i++)
		f->buf[i] = fix_byte(s->sent + i, 1);
	if (hdr.len)
		fix_send(f, hdr);
	s->sent += hdr.len;
	return hdr.len;
}

/* A connection of the guest to @listener, and what it may send there. */
static int open_sender(struct fix *f, int listener, u32 guest_port, struct sender *s)
{
	struct vsp_hdr hdr = fix_hdr(PORT, guest_port, VSP_OP_REQUEST);
	int fd;

	hdr.src.cid = f->cid;
	fix_send(f, hdr);
	fd = accept(listener, NULL, NULL);
	CHECK(fd >= 0);
	hdr = fix_expect(f, VSP_OP_RESPONSE);
	*s = (struct sender){ .port = guest_port, .alloc = hdr.buf_alloc };
	return fd;
}

/* A byte there and one back, through another connection. */
static void works(struct fix *f, int fd, u32 guest_port)
{
	struct vsp_hdr hdr = fix_hdr(PORT, guest_port, VSP_OP_RW);
	char c;

	hdr.len = 1;
	fix_send(f, hdr);
	CHECK(read(fd, &c, 1) == 1);
}

/* Become a host program that reads @total bytes of the pattern and ends with 0 if they were right. */
static void read_pattern(int fd, u32 total)
{
	u8 buf[4096];
	u32 got = 0;
	ssize_t n;

	while (got < total && (n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != fix_byte(got + (u32)i, 1))
				_exit(1);
		}
		got += (u32)n;
	}
	_exit(got == total ? 0 : 2);
}

/* A host program is stopped in the middle: only what it reads waits, the daemon sleeps, and then everything comes. */
static void stopped_program(void)
{
	enum { TOTAL = 3 << 20 };
	static struct fix f;
	struct sender s;
	int l, fd, other, status;
	u64 until;
	u32 n;
	pid_t pid;

	fix_daemon(&f, NULL);
	fix_guest(&f, 64, 3776);
	l = fix_listener(&f, PORT);
	fd = open_sender(&f, l, 50, &s);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		read_pattern(fd, TOTAL);
	close(fd);
	other = fix_open(&f, l, PORT, 51);
	CHECK(send_some(&f, &s, 1000) == 1000);
	CHECK(!kill(pid, SIGSTOP) && waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	/* Until there is neither credit nor news: its socket is full, and the window of the guest. */
	for (u32 idle = 0; idle < 100; works(&f, other, 51)) {
		n = send_some(&f, &s, TOTAL - s.sent);
		idle = n ? 0 : idle + 1;
	}
	CHECK(s.sent < TOTAL && s.alloc == s.sent - s.fwd);
	CHECK(!kill(pid, SIGCONT));
	for (until = fix_now_ms() + PEER_WAIT_MS; s.sent < TOTAL;) {
		CHECK(fix_now_ms() < until);
		send_some(&f, &s, TOTAL - s.sent);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	works(&f, other, 51);
	fix_end(&f);
}

/* A host program that reads byte by byte: all are right, and the guest does not hear of every one. */
static void byte_by_byte(void)
{
	enum { TOTAL = 20000 };
	static struct fix f;
	struct vsp_hdr hdr;
	struct sender s;
	u32 told = 0;
	u8 byte;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 64, 3776);
	fd = open_sender(&f, fix_listener(&f, PORT), 50, &s);
	CHECK(send_some(&f, &s, TOTAL) == TOTAL);
	for (u32 i = 0; i < TOTAL; i++) {
		CHECK(read(fd, &byte, 1) == 1 && byte == fix_byte(i, 1));
		while (peer_recv(&f.peer, &hdr, NULL, 0))
			told++;
	}
	CHECK(told <= 4);
	fix_end(&f);
}

/* A daemon whose log goes to @log, and a guest. */
static void begin_logging_to(struct fix *f, const char *log)
{
	u64 until = fix_now_ms() + PEER_WAIT_MS;
	char path[64];
	FILE *script;

	snprintf(path, sizeof(path), "/tmp/vsd-e2e-log.%d", getpid());
	script = fopen(path, "w");
	CHECK(script && fprintf(script, "#!/bin/sh\nexec %s \"$@\" 2>%s\n", fix_program(), log) > 0);
	CHECK(!fclose(script) && !chmod(path, 0700));
	fix_spawn(f, path, NULL);
	while (peer_open(&f->peer, f->socket, 64, 3776, false, FEATURES))
		CHECK(fix_now_ms() < until);
	unlink(path);
}

/* The log goes to a disk that is full. What is logged is lost, and nothing else. */
static void full_disk(void)
{
	static struct fix f;
	struct vsp_hdr hdr;
	int l, fd;

	begin_logging_to(&f, "/dev/full");
	l = fix_listener(&f, PORT);
	for (u32 i = 0; i < 100; i++) {
		/* Each of these is a line of the log: something refused, and all the counters. */
		hdr = fix_hdr(PORT + 1, 100 + i, VSP_OP_REQUEST);
		fix_send(&f, hdr);
		CHECK(!kill(f.pid, SIGUSR1));
		fix_expect(&f, VSP_OP_RST);
	}
	fd = fix_open(&f, l, PORT, 51);
	works(&f, fd, 51);
	fix_end(&f);
}

/* Report until the pipe takes no more. */
static void fill_log(struct fix *f, int log)
{
	struct pollfd p = { .fd = log, .events = POLLOUT };

	for (u64 until = fix_now_ms() + PEER_WAIT_MS; poll(&p, 1, 0);)
		CHECK(fix_now_ms() < until && !kill(f->pid, SIGUSR1));
}

/*
 * Nobody reads the log, and it is a pipe: neither guests nor signals nor the end wait for that. When somebody reads
 * again he gets whole lines, and hears how many there are not.
 */
static void stuck_log(void)
{
	enum { PIPE_BYTES = 4096, REFUSALS = 50 };
	char path[64], text[8 * PIPE_BYTES + 1] = "";
	static struct fix f;
	int log, fd;
	size_t len = 0;

	snprintf(path, sizeof(path), "/tmp/vsd-e2e-fifo.%d", getpid());
	CHECK(!mkfifo(path, 0600));
	log = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	CHECK(log >= 0 && fcntl(log, F_SETPIPE_SZ, PIPE_BYTES) == PIPE_BYTES);
	begin_logging_to(&f, path);
	unlink(path);
	fill_log(&f, log);
	for (u32 i = 0; i < REFUSALS; i++) {
		fix_send(&f, fix_hdr(PORT + 1, 100 + i, VSP_OP_REQUEST));
		CHECK(!kill(f.pid, SIGUSR1));
		fix_expect(&f, VSP_OP_RST);
	}
	fd = fix_open(&f, fix_listener(&f, PORT), PORT, 51);
	works(&f, fd, 51);
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; !strstr(text, "\nwarn log: ");) {
		ssize_t n = read(log, text + len, sizeof(text) - 1 - len);

		CHECK(fix_now_ms() < until && !kill(f.pid, SIGUSR1));
		len += n > 0 ? (size_t)n : 0;
		text[len] = '\0';
	}
	CHECK(strstr(text, " lines were left out: "));
	for (const char *line = text; strchr(line, '\n'); line = strchr(line, '\n') + 1)
		CHECK(!strncmp(line, "info ", 5) || !strncmp(line, "report ", 7) || !strncmp(line, "warn ", 5));
	fill_log(&f, log);
	fix_end(&f);
	close(log);
}

/* Everything that a guest can get wrong, as fast as it can, and its answers stay where they are. */
static void misbehave(struct fix *f)
{
	struct vsp_hdr hdr;

	for (u32 i = 0; i < 500; i++) {
		hdr = fix_hdr(PORT, 50, (enum vsp_op)(i % (NUM_VSP_OPS + 3)));
		hdr.src.cid = i % 5 ? f->cid : i;
		hdr.dst.cid = i % 7 ? VSP_CID_HOST : CID + i % 64;
		hdr.type = (u16)(i % 11 ? VSP_TYPE_STREAM : i);
		hdr.len = i % 3 ? i * 100 : 0;
		hdr.fwd_cnt = i * 0x01010101u;
		if (f->peer.f.drv[1].nfree < 8)
			break;
		CHECK(peer_send(&f->peer, hdr, f->buf, hdr.len % 60000, (enum peer_shape)(i % NUM_PEER_SHAPES)));
	}
}

/* Fifty guests of one daemon, one of which does all it can: the others have their bytes, and soon. */
static void fifty_guests(void)
{
	enum { GUESTS = 50, BYTES = 30000 };
	static struct fix f[GUESTS];
	static int fd[GUESTS];
	static struct sender s[GUESTS];
	u8 *got = malloc(BYTES);
	u64 begun;

	fix_fleet(f, GUESTS, NULL, NULL);
	for (u32 i = 0; i < GUESTS; i++)
		fix_guest(&f[i], 32, 3776);
	for (u32 i = 1; i < GUESTS; i++)
		fd[i] = open_sender(&f[i], fix_listener(&f[i], PORT), 50, &s[i]);
	begun = fix_now_ms();
	for (u32 i = 1; i < GUESTS; i++) {
		misbehave(&f[0]);
		CHECK(send_some(&f[i], &s[i], BYTES) == BYTES);
		CHECK(got && fix_read(fd[i], got, BYTES) == BYTES);
		for (u32 k = 0; k < BYTES; k++)
			CHECK(got[k] == fix_byte(k, 1));
	}
	CHECK(fix_now_ms() - begun < PEER_WAIT_MS);
	free(got);
	fix_fleet_end(f, GUESTS);
}

/* A guest with a rate: what passes takes its time, both ways, the daemon sleeps meanwhile, and no other guest waits. */
static void limited_rate(void)
{
	/* The last turn of a connection, 64 KiB, and a burst of 10 ms may be ahead of it. */
	enum { RATE_KIB = 1024, BYTES = 200 << 10, AT_LEAST_MS = (BYTES - 65536) / RATE_KIB * 1000 / 1024 - 20 };
	static const char *const keys[] = { "max-rate=1024", NULL };
	static struct fix f[2];
	static u8 got[BYTES];
	struct sender s[2];
	struct vsp_hdr hdr;
	u64 began, switches;
	int fd[2];

	fix_fleet(f, 2, keys, NULL);
	for (u32 i = 0; i < 2; i++) {
		fix_guest(&f[i], 64, 3776);
		fd[i] = open_sender(&f[i], fix_listener(&f[i], PORT), 50, &s[i]);
	}
	began = fix_now_ms();
	switches = fix_threads(&f[0], "voluntary_ctxt_switches");
	while (s[0].sent < BYTES)
		CHECK(send_some(&f[0], &s[0], BYTES - s[0].sent) > 0);
	/* Its packets wait; those of the other do not. */
	CHECK(send_some(&f[1], &s[1], 10000) == 10000 && fix_read(fd[1], got, 10000) == 10000);
	CHECK(fix_now_ms() - began < AT_LEAST_MS);
	CHECK(fix_read(fd[0], got, BYTES) == BYTES);
	CHECK(fix_now_ms() - began >= AT_LEAST_MS);
	for (u32 i = 0; i < BYTES; i++)
		CHECK(got[i] == fix_byte(i, 1));
	/* To the guest. */
	began = fix_now_ms();
	fix_write(fd[0], got, BYTES);
	for (u32 n = 0; n < BYTES; n += hdr.len)
		hdr = fix_expect(&f[0], VSP_OP_RW);
	CHECK(fix_now_ms() - began >= AT_LEAST_MS);
	CHECK(fix_threads(&f[0], "voluntary_ctxt_switches") - switches < 2000);
	fix_fleet_end(f, 2);
}

/*
 * A guest with a limit of memory: what all its connections may send unread is never more, the last one gets little and
 * not nothing, the next is refused; who goes makes room. And the guest uses all that it may.
 */
static void limited_memory(void)
{
	enum { LIMIT = 1 << 20, FIRST = LIMIT / 64, MANY = 1000, LEAST = 4096 };
	static const char *const args[] = { "--max-memory", "1024", NULL };
	static u32 allocs[MANY];
	static struct fix f;
	struct vsp_hdr hdr;
	u64 before, sum = 0;
	int l, fd[MANY];
	u32 n = 0;

	fix_daemon(&f, args);
	fix_guest(&f, 64, 3776);
	l = fix_listener(&f, PORT);
	before = fix_status(&f, "RssAnon");
	do {
		CHECK(n < MANY);
		fix_send(&f, fix_hdr(PORT, 100 + n, VSP_OP_REQUEST));
		CHECK(peer_recv(&f.peer, &hdr, NULL, PEER_WAIT_MS));
		if (hdr.op != VSP_OP_RESPONSE)
			break;
		fd[n] = accept(l, NULL, NULL);
		allocs[n] = hdr.buf_alloc;
		CHECK(fd[n] >= 0 && allocs[n] >= LEAST && (!n ? allocs[n] == FIRST : allocs[n] <= allocs[n - 1]));
		sum += allocs[n++];
	} while (sum <= LIMIT);
	CHECK(hdr.op == VSP_OP_RST && n > 64 && sum <= LIMIT && sum > LIMIT * 3 / 4);
	fix_reject(&f, "backlog", 1);
	/* Everything that may be sent: the sockets take some, and the daemon keeps some. */
	for (u32 round = 0; round < 2; round++) {
		for (u32 i = 0; i < n; i++) {
			hdr = fix_hdr(PORT, 100 + i, VSP_OP_RW);
			hdr.len = allocs[i];
			CHECK(peer_send(&f.peer, hdr, f.buf, hdr.len, PEER_TWO));
			while (peer_recv(&f.peer, &hdr, NULL, 0))
				CHECK(hdr.op != VSP_OP_RST);
		}
	}
	CHECK(fix_status(&f, "RssAnon") - before < 2 * LIMIT / 1024 + 1024 + FIX_SANITIZER_KIB);
	/* One goes: there is room for another. */
	hdr = fix_hdr(PORT, 100, VSP_OP_RST);
	fix_send(&f, hdr);
	while (recv(fd[0], f.buf, sizeof(f.buf), 0) > 0)
		;
	fix_send(&f, fix_hdr(PORT, 99, VSP_OP_REQUEST));
	CHECK(fix_expect(&f, VSP_OP_RESPONSE).buf_alloc >= LEAST);
	fix_end(&f);
}

const struct test faults_tests[] = {
	{ "faults: a host program that is stopped", stopped_program },
	{ "faults: a host program that reads byte by byte", byte_by_byte },
	{ "faults: a full disk", full_disk },
	{ "faults: a log that nobody reads", stuck_log },
	{ "faults: a guest with a rate", limited_rate },
	{ "faults: a guest with a limit of memory", limited_memory },
	{ "faults: fifty guests, one of them hostile", fifty_guests },
	{ 0 },
};
