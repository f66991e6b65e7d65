// SPDX-License-Identifier: BSD-2-Clause
/* What the daemon keeps, and what it does when there is nothing to do. */
#include "fixture.h"
#include "tests.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void wait_fds(struct fix *f, u32 most)
{
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; fix_fds(f) > most;)
		CHECK(fix_now_ms() < until);
}

/* Processor time of the daemon, in ticks. */
static u64 ticks(const struct fix *f)
{
	unsigned long long user = 0, system = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", f->pid);
	file = fopen(path, "r");
	CHECK(file &&
	      fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2);
	fclose(file);
	return user + system;
}

static u64 switches(struct fix *f)
{
	return fix_threads(f, "voluntary_ctxt_switches") + fix_threads(f, "nonvoluntary_ctxt_switches");
}

/*
 * In a while the daemon wakes at most so often, and does next to nothing: no event keeps firing. What came before may
 * still be at work, and a busy machine or a sanitizer's own thread adds switches, so it is looked at a few times: what
 * keeps firing does so in each of them.
 */
static void check_wakes(struct fix *f, u32 wakes)
{
	enum { WHILE_MS = 300, TICKS = 3, LOOKS = 10 };
	u64 woken = 0, used = 0;

	for (u32 i = 0; i < LOOKS; i++) {
		u64 woken_before = switches(f), used_before = ticks(f);

		usleep(WHILE_MS * 1000);
		woken = switches(f) - woken_before;
		used = ticks(f) - used_before;
		if (woken <= wakes && used <= TICKS)
			return;
	}
	CHECK(woken <= wakes);
	CHECK(used <= TICKS);
}

static void check_idle(struct fix *f)
{
	check_wakes(f, 5);
}

/* Polling ends by itself, and nothing that came meanwhile is forgotten. */
static void polling_ends(void)
{
	static const char *const args[] = { "--poll-us", "200", NULL };
	struct vsp_hdr rw;
	struct fix f;
	char c;
	int fd;

	fix_daemon(&f, args);
	fix_guest(&f, 128, 3776);
	fd = fix_open(&f, fix_listener(&f, 1000), 1000, 50);
	for (u32 i = 0; i < 2000; i++) {
		rw = fix_hdr(1000, 50, VSP_OP_RW);
		rw.len = 1;
		rw.fwd_cnt = i;
		fix_send(&f, rw);
		CHECK(read(fd, &c, 1) == 1);
		/* Spacing: sometimes while it polls, sometimes about when it stops, sometimes when it sleeps. */
		usleep(i % 8 * 50);
		fix_write(fd, "x", 1);
		CHECK(fix_expect(&f, VSP_OP_RW).len == 1);
	}
	check_idle(&f);
	fix_end(&f);
}

/*
 * Newer Linux resets a flow of which more than buf_alloc / 576 packets wait, and acknowledges small ones only when
 * asked. So: never more than that, asked in time, asked again where the reader was slow, and nothing is lost. A host
 * program that writes single bytes while the guest reads none of them.
 */
static void packets_are_metered(void)
{
	enum { BYTES = 3000, WINDOW = 65536, MOST = WINDOW / 576 - 2 };
	struct vsp_hdr hdr, up;
	struct fix f;
	u32 held = 0, got = 0, most = 0, asked = 0, port;
	u64 until = fix_now_ms() + 3ull * PEER_WAIT_MS;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fd = fix_dial(&f, 1024);
	port = fix_expect(&f, VSP_OP_REQUEST).src.port;
	hdr = fix_hdr(port, 1024, VSP_OP_RESPONSE);
	hdr.buf_alloc = WINDOW;
	fix_send(&f, hdr);
	CHECK(fix_ok(fd) == port);
	up = fix_hdr(port, 1024, VSP_OP_CREDIT_UPDATE);
	up.buf_alloc = WINDOW;
	for (u32 sent = 0; got < BYTES;) {
		/* One byte a packet, as long as packets come: what comes later is in the socket meanwhile. */
		if (sent < BYTES)
			sent += send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
		CHECK(fix_now_ms() < until);
		if (!peer_recv(&f.peer, &hdr, NULL, 1))
			continue;
		if (hdr.op == VSP_OP_CREDIT_REQUEST) {
			/* The reader is slow: it takes what there is at every third question. */
			held = asked % 3 == 2 ? 0 : held;
			up.fwd_cnt = asked++ % 3 == 2 ? got : up.fwd_cnt;
			fix_send(&f, up);
			continue;
		}
		CHECK(hdr.op == VSP_OP_RW);
		got += hdr.len;
		most = ++held > most ? held : most;
		CHECK(held <= MOST);
	}
	CHECK(got == BYTES && most > MOST / 2 && asked >= 3);
	/* Nobody is asked who has nothing to wait for. */
	up.fwd_cnt = got;
	fix_send(&f, up);
	for (until = fix_now_ms() + 100; fix_now_ms() < until;) {
		if (peer_recv(&f.peer, &hdr, NULL, 10))
			fix_send(&f, up);
	}
	check_idle(&f);
	fix_end(&f);
}

static void clients_that_leave(void)
{
	struct fix f;
	u32 fds;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fds = fix_fds(&f);
	for (u32 i = 0; i < 50; i++)
		close(fix_dial(&f, 1024));
	wait_fds(&f, fds);
	check_idle(&f);
	fix_end(&f);
}

static void idle_states(void)
{
	struct vsp_hdr hdr;
	struct fix f;
	int l, fd[4];

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	l = fix_listener(&f, 1000);
	for (u32 i = 0; i < 4; i++)
		fd[i] = fix_open(&f, l, 1000, 50 + i);
	check_idle(&f);
	/* Half-closed by the host, by the guest. */
	shutdown(fd[0], SHUT_WR);
	fix_expect(&f, VSP_OP_SHUTDOWN);
	hdr = fix_hdr(1000, 51, VSP_OP_SHUTDOWN);
	hdr.flags = VSP_SHUTDOWN_SEND;
	fix_send(&f, hdr);
	/* Bytes and the end for a guest without credit. */
	hdr = fix_hdr(1000, 52, VSP_OP_CREDIT_UPDATE);
	hdr.buf_alloc = 0;
	fix_send(&f, hdr);
	hdr = fix_hdr(1000, 52, VSP_OP_CREDIT_REQUEST);
	hdr.buf_alloc = 0;
	fix_send(&f, hdr);
	while (peer_recv(&f.peer, &hdr, NULL, 0))
		;
	fix_write(fd[2], "waits", 5);
	close(fd[2]);
	/* The guest will not receive; the host leaves. */
	hdr = fix_hdr(1000, 53, VSP_OP_SHUTDOWN);
	hdr.flags = VSP_SHUTDOWN_RCV;
	fix_send(&f, hdr);
	while (peer_recv(&f.peer, &hdr, NULL, 100))
		;
	check_idle(&f);
	fix_end(&f);
}

static void killed_client(void)
{
	static struct fix f;
	struct vsp_hdr hdr;
	u32 fds, got;
	pid_t pid;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fds = fix_fds(&f);
	for (u32 i = 0; i < 10; i++) {
		pid = fork();
		if (!pid) {
			int fd = fix_dial(&f, 1024);

			fix_ok(fd);
			for (;;)
				fix_write(fd, f.buf, sizeof(f.buf));
		}
		hdr = fix_expect(&f, VSP_OP_REQUEST);
		fix_send(&f, fix_hdr(hdr.src.port, 1024, VSP_OP_RESPONSE));
		for (got = 0; got < 100000; got += hdr.len)
			hdr = fix_expect(&f, VSP_OP_RW);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		/* Everything that is in the socket still comes, then the end. */
		hdr = fix_hdr(hdr.src.port, 1024, VSP_OP_CREDIT_UPDATE);
		hdr.buf_alloc = 64 << 20;
		fix_send(&f, hdr);
		do {
			CHECK(peer_recv(&f.peer, &hdr, NULL, PEER_WAIT_MS));
		} while (hdr.op != VSP_OP_SHUTDOWN);
		CHECK(hdr.flags == VSP_SHUTDOWN_BOTH);
		fix_send(&f, fix_hdr(hdr.src.port, 1024, VSP_OP_RST));
	}
	wait_fds(&f, fds);
	fix_end(&f);
}

static void ten_thousand(void)
{
	/* Of our own descriptors and of the daemon's. */
	enum { MANY = 10000 };
	static const char *const args[] = { "--max-connections", "10000", NULL };
	static struct fix f;
	struct rlimit lim;
	u64 before;
	int l, fd = -1;
	char c;

	CHECK(!getrlimit(RLIMIT_NOFILE, &lim));
	if (lim.rlim_max < MANY + 100) {
		printf("# only %llu descriptors\n", (unsigned long long)lim.rlim_max);
		exit(TEST_SKIPPED);
	}
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	fix_daemon(&f, args);
	fix_guest(&f, 128, 3776);
	l = fix_listener(&f, 1000);
	before = fix_status(&f, "RssAnon");
	for (u32 i = 0; i < MANY; i++)
		fd = fix_open(&f, l, 1000, 20000 + i);
	printf("# %llu bytes of RssAnon per idle connection\n",
	       (unsigned long long)(fix_status(&f, "RssAnon") - before) * 1024 / MANY);
	fix_write(fd, "x", 1);
	CHECK(fix_expect(&f, VSP_OP_RW).dst.port == 20000 + MANY - 1);
	check_idle(&f);
	peer_close(&f.peer);
	CHECK(read(fd, &c, 1) == 0);
	fix_end(&f);
}

static u32 first_free_fd(struct fix *f)
{
	char path[64];
	u32 n = 0;

	do {
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", f->pid, n++);
	} while (!access(path, F_OK));
	return n - 1;
}

/* No descriptor left: clients and guest are refused, who is connected goes on, nothing spins, and it recovers. */
static void out_of_descriptors(void)
{
	struct rlimit tight, old;
	struct vsp_hdr hdr;
	struct fix f;
	int fd, l, old_fd;
	char c;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	l = fix_listener(&f, 1000);
	old_fd = fix_open(&f, l, 1000, 49);
	CHECK(!prlimit(f.pid, RLIMIT_NOFILE, NULL, &old));
	tight = old;
	tight.rlim_cur = first_free_fd(&f);
	CHECK(!prlimit(f.pid, RLIMIT_NOFILE, &tight, NULL));
	fd = fix_client(&f);
	CHECK(recv(fd, &c, 1, 0) <= 0);
	fix_send(&f, fix_hdr(1000, 50, VSP_OP_REQUEST));
	fix_expect(&f, VSP_OP_RST);
	fix_write(old_fd, "x", 1);
	CHECK(fix_expect(&f, VSP_OP_RW).len == 1);
	check_idle(&f);
	CHECK(fix_said(&f, "refused: Too many open files") >= 1);
	CHECK(!prlimit(f.pid, RLIMIT_NOFILE, &old, NULL));
	fix_open(&f, l, 1000, 51);
	fd = fix_dial(&f, 9);
	hdr = fix_expect(&f, VSP_OP_REQUEST);
	fix_send(&f, fix_hdr(hdr.src.port, 9, VSP_OP_RESPONSE));
	CHECK(fix_ok(fd) == hdr.src.port);
	fix_end(&f);
}

static int dial(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	CHECK(fd >= 0 && !connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

/* Nor one for a monitor, or for vstat: they wait, nothing spins, and they have their turn when there is one. */
static void out_of_descriptors_for_others(void)
{
	enum { TRIES = 20 };
	char control[64], said[8];
	const char *args[] = { "--control", control, NULL };
	struct rlimit tight, old;
	struct fix f;
	int fd;

	snprintf(control, sizeof(control), "/tmp/vsd-e2e-control.%d", getpid());
	fix_daemon(&f, args);
	CHECK(!prlimit(f.pid, RLIMIT_NOFILE, NULL, &old));
	tight = old;
	tight.rlim_cur = first_free_fd(&f);
	CHECK(!prlimit(f.pid, RLIMIT_NOFILE, &tight, NULL));
	fd = dial(control);
	fix_write(fd, "guests\n", 7);
	check_wakes(&f, TRIES);
	close(dial(f.socket));
	fix_await_said(&f, "cannot accept a front-end: Too many open files", 1);
	check_wakes(&f, TRIES);
	CHECK(recv(fd, said, 1, MSG_DONTWAIT) < 0);
	CHECK(!prlimit(f.pid, RLIMIT_NOFILE, &old, NULL));
	CHECK(fix_read(fd, said, 6) == 6 && !memcmp(said, "guest ", 6));
	fix_guest(&f, 128, 3776);
	fix_open(&f, fix_listener(&f, 1000), 1000, 51);
	check_idle(&f);
	fix_end(&f);
}

/* A limit too low for a reserve: half of it is for connections, and the rest is there for a monitor. */
static void few_descriptors(void)
{
	enum { FILES = 64, CLIENTS = 40 };
	const struct rlimit lim = { .rlim_cur = FILES, .rlim_max = FILES };
	int fd[CLIENTS];
	struct fix f;
	u32 open = 0;

	CHECK(!setrlimit(RLIMIT_NOFILE, &lim));
	fix_daemon(&f, NULL);
	CHECK(fix_said(&f, "only 64 files may be open, so 32 connections") == 1);
	for (u32 i = 0; i < CLIENTS; i++)
		fd[i] = fix_client(&f);
	fix_await_said(&f, "host client refused: 32 connections are open", 1);
	/* The last of them was looked at when those before it were. */
	for (char c; recv(fd[CLIENTS - 1], &c, 1, 0) > 0;)
		;
	for (u32 i = 0; i < CLIENTS; i++) {
		char c;

		open += recv(fd[i], &c, 1, MSG_DONTWAIT) < 0;
	}
	CHECK(open == FILES / 2);
	for (u32 i = 10; i < CLIENTS; i++)
		close(fd[i]);
	fix_guest(&f, 128, 3776);
	fix_reject(&f, "backlog", CLIENTS - FILES / 2);
	CHECK(fix_said(&f, "Too many open files") == 0);
	fix_end(&f);
}

/* Only what nobody answers at is removed: not a file, and not what somebody uses. */
static void files_in_the_way(void)
{
	static const char *const suffixes[] = { "", "_seqpacket", "_dgram" };
	char path[128], text[8] = "";
	struct fix f;
	int status, fd;

	for (u32 i = 0; i < ARRAY_SIZE(suffixes); i++) {
		const char *args[] = { "--guest-cid", "7", "--socket", f.socket, "--uds-path", f.uds, NULL };

		fix_prepare(&f);
		snprintf(path, sizeof(path), "%s%s", f.uds, suffixes[i]);
		fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		CHECK(fd >= 0 && write(fd, "keep me", 7) == 7);
		fix_start(&f, fix_program(), args);
		CHECK(waitpid(f.pid, &status, 0) == f.pid && WIFEXITED(status) && WEXITSTATUS(status) == 1);
		CHECK(fix_said(&f, "somebody is using it; stop that program or choose another path") == 1);
		CHECK(!access(path, F_OK) && pread(fd, text, 7, 0) == 7 && !strcmp(text, "keep me"));
		close(fd);
		fix_forget(&f);
	}
}

static void second_daemon_is_refused(void)
{
	struct fix f;
	int status;
	pid_t pid;

	fix_daemon(&f, NULL);
	pid = fork();
	if (!pid) {
		execl(fix_program(), "vsockd", "--socket", f.socket, "--uds-path", f.uds, NULL);
		_exit(127);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1);
	close(fix_client(&f));
	fix_end(&f);
}

const struct test resource_tests[] = {
	{ "resource: fifty clients that leave at once", clients_that_leave },
	{ "resource: polling ends by itself", polling_ends },
	{ "resource: packets in the guest are metered", packets_are_metered },
	{ "resource: idle means idle", idle_states },
	{ "resource: clients killed in mid-transfer", killed_client },
	{ "resource: ten thousand connections", ten_thousand },
	{ "resource: out of descriptors", out_of_descriptors },
	{ "resource: out of descriptors for others", out_of_descriptors_for_others },
	{ "resource: few descriptors", few_descriptors },
	{ "resource: files in the way", files_in_the_way },
	{ "resource: a second daemon is refused", second_daemon_is_refused },
	{ 0 },
};
