// SPDX-License-Identifier: BSD-2-Clause
#include "load.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	HOST_PORT = 1000,
	GUEST_PORT = 1024,
	CROWD_PORT = 20000,
	SEND_SLOTS = 8,		  /* packets of the guest that differ in place */
	SEND_SLOT = 70000,	  /* bytes between them */
	SEND_BURST = 64,	  /* packets between two looks at the receive ring */
	PUMP_BYTES = 1 << 20,	  /* a reader's buffer */
	PLAIN_SNDBUF = 512 << 10, /* of who writes in the daemon's place */
};

u64 load_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* Processor time of all threads of a process, ns. */
static u64 cpu_of(int pid)
{
	char path[64], line[128];
	u64 sum = 0;
	struct dirent *e;
	FILE *file;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", pid, e->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(line, sizeof(line), file))
			sum += strtoull(line, NULL, 10);
		fclose(file);
	}
	if (d)
		closedir(d);
	return sum;
}

/* Who takes part in a measurement; processes, each in its own. */
enum part { PART_DAEMON, PART_HOST, PART_GUEST, NUM_PARTS };

/* A measurement that goes on. */
struct clock {
	u64 start;
	int pid[NUM_PARTS];
	u64 cpu[NUM_PARTS];
};

static struct clock begin_clock(const struct fix *f, pid_t host)
{
	struct clock c = { .pid = { f->pid, host, getpid() } };

	for (u32 i = 0; i < NUM_PARTS; i++)
		c.cpu[i] = cpu_of(c.pid[i]);
	c.start = load_now();
	return c;
}

/* @bytes went through. */
static struct load_result end_clock(const struct clock *c, u64 bytes)
{
	struct load_result r = { .value = (double)bytes / (double)(load_now() - c->start) };
	double cpu[NUM_PARTS];

	for (u32 i = 0; i < NUM_PARTS; i++)
		cpu[i] = (double)(cpu_of(c->pid[i]) - c->cpu[i]) * 1000 / (double)bytes;
	r.cpu_us = cpu[PART_DAEMON];
	r.host_us = cpu[PART_HOST];
	r.guest_us = cpu[PART_GUEST];
	return r;
}

/* A process that reads, or writes in pieces, for ever. */
static pid_t pump(int fd, u32 piece, bool writes)
{
	static char buf[PUMP_BYTES];
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if ((writes ? write(fd, buf, piece) : read(fd, buf, sizeof(buf))) <= 0)
			_exit(0);
	}
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A daemon and a guest in front of it. */
static void begin(struct fix *f, const struct load_side *side, const struct load *l)
{
	const u64 until = fix_now_ms() + LOAD_PATIENCE_MS;
	const char *args[8];
	char window[16];
	u32 n = 0;

	if (l->window) {
		snprintf(window, sizeof(window), "%u", l->window);
		args[n++] = "--tx-buffer-size";
		args[n++] = window;
	}
	if (side->poll_us) {
		args[n++] = "--poll-us";
		args[n++] = side->poll_us;
	}
	/* Others have no limit to raise. */
	if (l->conns && !strcmp(side->program, fix_program())) {
		args[n++] = "--max-connections";
		args[n++] = "20000";
	}
	args[n] = NULL;
	fix_spawn(f, side->program, args);
	f->peer.whole = true; /* not everybody takes a buffer that crosses from one region to another */
	while (peer_open(&f->peer, f->socket, LOAD_RING, l->buffer ? l->buffer : LOAD_BUFFER, false, FEATURES)) {
		CHECK(fix_now_ms() < until);
		poll(NULL, 0, 1); /* poll interval */
	}
}

static struct vsp_hdr header(const struct load *l, u32 host_port, u32 guest_port, enum vsp_op op)
{
	struct vsp_hdr hdr = fix_hdr(host_port, guest_port, op);

	hdr.buf_alloc = l->window ? l->window : LOAD_WINDOW;
	return hdr;
}

static void wait_for(struct vu_drv *d)
{
	struct pollfd pfd = { .fd = d->call_fd, .events = POLLIN };

	if (vu_drv_await(d))
		poll(&pfd, 1, 1000);
}

/* Take what arrived and give the buffers back. */
static u64 take(struct vu_drv *d, u32 buffer)
{
	u64 got = 0;
	int head;
	u32 len;

	while ((head = vu_drv_used(d, &len)) >= 0) {
		struct vu_seg seg = { .gpa = le64_to_cpu(d->desc[head].addr), .len = buffer, .write = true };

		got += len - VSP_HDR_LEN;
		vu_drv_add(d, &seg, 1);
	}
	vu_drv_publish(d);
	return got;
}

struct load_result load_to_guest(const struct load_side *side, const struct load *l)
{
	static struct fix f;
	struct vsp_hdr hdr;
	struct vu_drv *d = &f.peer.f.drv[0];
	struct load_result r;
	struct clock clock;
	u64 got = 0;
	u32 told = 0, port, window = l->window ? l->window : LOAD_WINDOW;
	pid_t pid;
	int fd;

	begin(&f, side, l);
	fd = fix_dial(&f, GUEST_PORT);
	port = fix_expect(&f, VSP_OP_REQUEST).src.port;
	fix_send(&f, header(l, port, GUEST_PORT, VSP_OP_RESPONSE));
	CHECK(fix_ok(fd));
	pid = pump(fd, l->piece, true);
	clock = begin_clock(&f, pid);
	while (load_now() - clock.start < l->ns) {
		got += take(d, f.peer.buffer);
		if ((u32)got - told < window / 4) {
			wait_for(d);
			continue;
		}
		hdr = header(l, port, GUEST_PORT, VSP_OP_CREDIT_UPDATE);
		hdr.fwd_cnt = told = (u32)got;
		fix_send(&f, hdr);
	}
	r = end_clock(&clock, got);
	stop(pid);
	close(fd);
	fix_abandon(&f);
	return r;
}

/* Packets as many as ring and window take, but not so many that the answers are late. */
static u64 send_burst(struct fix *f, const struct vsp_hdr *rw, u32 room)
{
	struct vu_drv *d = &f->peer.f.drv[1];
	const struct vsp_wire wire = vsp_encode(*rw);
	u64 sent = 0;
	u32 unused;

	while (vu_drv_used(d, &unused) >= 0)
		;
	for (u32 i = 0; i < SEND_BURST && d->nfree && room - sent >= rw->len; i++, sent += rw->len) {
		u64 at = peer_scratch(&f->peer) + d->free % SEND_SLOTS * (u64)SEND_SLOT;
		struct vu_seg seg = { .gpa = vu_front_gpa(at), .len = VSP_HDR_LEN + rw->len };

		memcpy(f->peer.f.mem + at, &wire, sizeof(wire));
		vu_drv_add(d, &seg, 1);
	}
	vu_drv_publish(d);
	return sent;
}

struct load_result load_from_guest(const struct load_side *side, const struct load *l)
{
	static struct fix f;
	struct vsp_hdr hdr, rw = header(l, HOST_PORT, GUEST_PORT, VSP_OP_RW);
	struct vu_drv *d = &f.peer.f.drv[1];
	struct load_result r;
	struct clock clock;
	u64 sent = 0;
	pid_t pid;
	int fd;

	begin(&f, side, l);
	fd = fix_listener(&f, HOST_PORT);
	fix_send(&f, header(l, HOST_PORT, GUEST_PORT, VSP_OP_REQUEST));
	fd = accept(fd, NULL, NULL);
	hdr = fix_expect(&f, VSP_OP_RESPONSE);
	pid = pump(fd, 0, false);
	rw.len = l->piece;
	clock = begin_clock(&f, pid);
	while (load_now() - clock.start < l->ns) {
		u64 burst = send_burst(&f, &rw, hdr.buf_alloc - ((u32)sent - hdr.fwd_cnt));

		sent += burst;
		if (peer_recv(&f.peer, &hdr, NULL, 0) || burst)
			continue;
		if (d->nfree)
			peer_recv(&f.peer, &hdr, NULL, 1000);
		else
			wait_for(d);
	}
	r = end_clock(&clock, sent);
	stop(pid);
	close(fd);
	fix_abandon(&f);
	return r;
}

/* A connection whose host end sends back what it gets. */
static pid_t open_echo(struct fix *f, const struct load *l, int listener, u32 guest_port)
{
	pid_t pid;
	char c;
	int fd;

	fix_send(f, header(l, HOST_PORT, guest_port, VSP_OP_REQUEST));
	fd = accept(listener, NULL, NULL);
	fix_expect(f, VSP_OP_RESPONSE);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (read(fd, &c, 1) == 1 && write(fd, &c, 1) == 1)
			;
		_exit(0);
	}
	close(fd);
	return pid;
}

static struct load_result bounce(struct fix *f, const struct load *l, u32 guest_port)
{
	u64 cpu = cpu_of(f->pid), start = load_now(), took, n = 0;

	do {
		struct vsp_hdr rw = header(l, HOST_PORT, guest_port, VSP_OP_RW);

		rw.len = 1;
		rw.fwd_cnt = (u32)n++;
		fix_send(f, rw);
		CHECK(fix_expect(f, VSP_OP_RW).len == 1);
		took = load_now() - start;
	} while (took < l->ns);
	return (struct load_result){ .value = (double)took / (double)n / 1000,
				     .cpu_us = (double)(cpu_of(f->pid) - cpu) / (double)n / 1000 };
}

struct load_result load_round_trip(const struct load_side *side, const struct load *l)
{
	static struct fix f;
	struct load_result r;
	pid_t pid;

	begin(&f, side, l);
	pid = open_echo(&f, l, fix_listener(&f, HOST_PORT), GUEST_PORT);
	r = bounce(&f, l, GUEST_PORT);
	stop(pid);
	fix_abandon(&f);
	return r;
}

/* Idle connections; the host's ends are left to the process's exit or to close_crowd(). */
static void open_crowd(struct fix *f, const struct load *l, int listener, int *fds)
{
	for (u32 i = 0; i < l->conns; i++) {
		fix_send(f, header(l, HOST_PORT, CROWD_PORT + i, VSP_OP_REQUEST));
		fds[i] = accept(listener, NULL, NULL);
		CHECK(fds[i] >= 0);
		fix_expect(f, VSP_OP_RESPONSE);
	}
}

static void close_crowd(int *fds, u32 n)
{
	for (u32 i = 0; i < n; i++)
		close(fds[i]);
	free(fds);
}

struct load_result load_crowd(const struct load_side *side, const struct load *l)
{
	static struct fix f;
	int *fds = calloc(l->conns, sizeof(int));
	struct load_result alone, beside;
	pid_t first, more;
	int listener;

	begin(&f, side, l);
	listener = fix_listener(&f, HOST_PORT);
	first = open_echo(&f, l, listener, GUEST_PORT);
	alone = bounce(&f, l, GUEST_PORT);
	open_crowd(&f, l, listener, fds);
	more = open_echo(&f, l, listener, GUEST_PORT + 1);
	beside = bounce(&f, l, GUEST_PORT + 1);
	stop(first);
	stop(more);
	fix_abandon(&f);
	close_crowd(fds, l->conns);
	close(listener);
	return (struct load_result){ .value = beside.value / alone.value, .cpu_us = beside.cpu_us };
}

struct load_result load_memory(const struct load_side *side, const struct load *l)
{
	static struct fix f;
	int *fds = calloc(l->conns, sizeof(int));
	int listener;
	u64 before, after;
	pid_t first;

	begin(&f, side, l);
	listener = fix_listener(&f, HOST_PORT);
	first = open_echo(&f, l, listener, GUEST_PORT);
	before = fix_status(&f, "RssAnon");
	open_crowd(&f, l, listener, fds);
	after = fix_status(&f, "RssAnon");
	stop(first);
	fix_abandon(&f);
	close_crowd(fds, l->conns);
	close(listener);
	return (struct load_result){ .value = (double)(after - before) * 1024 / l->conns };
}

double load_copy(u64 ns)
{
	char *a = malloc(PUMP_BYTES), *b = malloc(PUMP_BYTES);
	u64 start = load_now(), done = 0;

	CHECK(a && b);
	memset(a, 1, PUMP_BYTES);
	for (; load_now() - start < ns; done += PUMP_BYTES) {
		memcpy(b, a, PUMP_BYTES);
		__asm__ volatile("" : : "r"(b) : "memory");
	}
	free(a);
	free(b);
	return (double)done / (double)(load_now() - start);
}

/* The memory of a guest that has no daemon. */
static u8 plain_memory[(LOAD_RING + 1) * SEND_SLOT];

/* Its buffers, or packets, from number @i on. Returns how many. */
static u32 plain_iov(struct iovec *iov, const struct load *l, u32 i, bool to_guest)
{
	const u32 stride = to_guest ? l->buffer ? l->buffer : LOAD_BUFFER : SEND_SLOT;
	const u32 slots = to_guest ? LOAD_RING : SEND_SLOTS, window = l->window ? l->window : LOAD_WINDOW;
	u32 n = 0, len = to_guest ? stride - VSP_HDR_LEN : l->piece;

	for (u32 bytes = 0; n < SEND_BURST && bytes < window; n++, bytes += len)
		iov[n] = (struct iovec){ &plain_memory[(u64)((i + n) % slots) * stride + VSP_HDR_LEN], len };
	return n;
}

static double plain(const struct load *l, bool to_guest)
{
	struct iovec iov[SEND_BURST];
	const int room = PLAIN_SNDBUF;
	u64 start, done = 0;
	int pipe[2];
	ssize_t n;
	pid_t other;

	memset(plain_memory, 0, sizeof(plain_memory));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pipe));
	other = pump(pipe[1], l->piece, to_guest);
	setsockopt(pipe[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	start = load_now();
	for (u32 i = 0; load_now() - start < l->ns; done += (u64)n) {
		u32 niov = plain_iov(iov, l, i, to_guest);

		n = to_guest ? readv(pipe[0], iov, (int)niov) : writev(pipe[0], iov, (int)niov);
		CHECK(n > 0);
		i += ((u32)n + (u32)iov[0].iov_len - 1) / (u32)iov[0].iov_len;
	}
	start = load_now() - start;
	stop(other);
	close(pipe[0]);
	close(pipe[1]);
	return (double)done / (double)start;
}

double load_plain_to_guest(const struct load *l)
{
	return plain(l, true);
}

double load_plain_from_guest(const struct load *l)
{
	return plain(l, false);
}

double load_relay(u64 ns, u32 piece)
{
	static char buf[65536];
	u64 start, done = 0;
	int in[2], out[2];
	pid_t w, r;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, in) && !socketpair(AF_UNIX, SOCK_STREAM, 0, out));
	w = pump(in[1], piece, true);
	r = pump(out[1], 0, false);
	start = load_now();
	while (load_now() - start < ns) {
		ssize_t n = read(in[0], buf, piece);

		CHECK(n > 0 && write(out[0], buf, (size_t)n) == n);
		done += (u64)n;
	}
	start = load_now() - start;
	stop(w);
	stop(r);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
	return (double)done / (double)start;
}
