// SPDX-License-Identifier: BSD-2-Clause
/*
 * How fast vsockd moves bytes, with a guest made of packets as the load generator (no virtual machine).
 *
 * Beside each figure stand a plain copy and a plain relay between two Unix sockets, taken in the same run. The guest's
 * window and vsockd's are 256 KiB. Usage: VSOCKD=PATH bench-vsockd [MILLISECONDS]
 */
#include "../e2e/fixture.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	WINDOW = 256 << 10,
	RING = 128,
};

static u64 run_ns = 1000000000;

static u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* A process that reads, or writes in pieces, for ever. */
static pid_t pump(int fd, u32 piece, bool writes)
{
	static char buf[1 << 20];
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

static void wait_for(struct vu_drv *d)
{
	struct pollfd pfd = { .fd = d->call_fd, .events = POLLIN };

	if (vu_drv_await(d))
		poll(&pfd, 1, 1000);
}

static double to_guest(u32 piece, u32 buffer)
{
	static struct fix f;
	struct vsp_hdr hdr;
	u64 until, begin, got = 0;
	u32 told = 0, port, len;
	pid_t pid;
	int fd, head;
	struct vu_drv *d = &f.peer.f.drv[0];

	fix_daemon(&f, NULL);
	fix_guest(&f, RING, buffer);
	fd = fix_dial(&f, 1024);
	port = fix_expect(&f, VSP_OP_REQUEST).src.port;
	fix_send(&f, fix_hdr(port, 1024, VSP_OP_RESPONSE));
	CHECK(fix_ok(fd) == port);
	pid = pump(fd, piece, true);
	begin = now_ns();
	until = begin + run_ns;
	while (now_ns() < until) {
		while ((head = vu_drv_used(d, &len)) >= 0) {
			struct vu_seg seg = { .gpa = le64_to_cpu(d->desc[head].addr), .len = buffer, .write = true };

			got += len - VSP_HDR_LEN;
			vu_drv_add(d, &seg, 1);
		}
		vu_drv_publish(d);
		if ((u32)got - told >= WINDOW / 4) {
			hdr = fix_hdr(port, 1024, VSP_OP_CREDIT_UPDATE);
			hdr.fwd_cnt = told = (u32)got;
			fix_send(&f, hdr);
			continue;
		}
		wait_for(d);
	}
	begin = now_ns() - begin;
	stop(pid);
	close(fd);
	fix_end(&f);
	return (double)got / (double)begin;
}

static double from_guest(u32 piece)
{
	static struct fix f;
	struct vsp_hdr hdr, rw = fix_hdr(1000, 50, VSP_OP_RW);
	u64 until, begin, sent = 0;
	struct vu_drv *d = &f.peer.f.drv[1];
	u32 unused;
	pid_t pid;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, RING, 3776);
	fix_send(&f, fix_hdr(1000, 50, VSP_OP_RST));
	fd = fix_listener(&f, 1000);
	fix_send(&f, fix_hdr(1000, 50, VSP_OP_REQUEST));
	fd = accept(fd, NULL, NULL);
	hdr = fix_expect(&f, VSP_OP_RESPONSE);
	pid = pump(fd, 0, false);
	rw.len = piece;
	begin = now_ns();
	until = begin + run_ns;
	while (now_ns() < until) {
		u32 burst = 0;

		while (vu_drv_used(d, &unused) >= 0)
			;
		while (d->nfree && hdr.buf_alloc - ((u32)sent - hdr.fwd_cnt) >= piece && burst++ < 64) {
			u64 at = peer_scratch(&f.peer) + d->free % 8 * 70000ull;
			struct vu_seg seg = { .gpa = vu_front_gpa(at), .len = VSP_HDR_LEN + piece };
			struct vsp_wire wire = vsp_encode(rw);

			memcpy(f.peer.f.mem + at, &wire, sizeof(wire));
			vu_drv_add(d, &seg, 1);
			sent += piece;
		}
		vu_drv_publish(d);
		if (peer_recv(&f.peer, &hdr, NULL, 0) || burst)
			continue;
		if (d->nfree)
			peer_recv(&f.peer, &hdr, NULL, 1000);
		else
			wait_for(d);
	}
	begin = now_ns() - begin;
	stop(pid);
	close(fd);
	fix_end(&f);
	return (double)sent / (double)begin;
}

static double round_trip_us(void)
{
	static struct fix f;
	struct vsp_hdr rw;
	u64 until, begin, n = 0;
	char c;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, RING, 3776);
	fd = fix_open(&f, fix_listener(&f, 1000), 1000, 50);
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (read(fd, &c, 1) == 1 && write(fd, &c, 1) == 1)
			;
		_exit(0);
	}
	close(fd);
	begin = now_ns();
	until = begin + run_ns;
	for (; now_ns() < until; n++) {
		rw = fix_hdr(1000, 50, VSP_OP_RW);
		rw.len = 1;
		rw.fwd_cnt = (u32)n;
		fix_send(&f, rw);
		CHECK(fix_expect(&f, VSP_OP_RW).len == 1);
	}
	begin = now_ns() - begin;
	fix_end(&f);
	return (double)begin / (double)n / 1000;
}

static double plain_copy(void)
{
	char *a = malloc(1 << 20), *b = malloc(1 << 20);
	u64 begin = now_ns(), done = 0;

	memset(a, 1, 1 << 20);
	for (; now_ns() - begin < run_ns / 4; done += 1 << 20) {
		memcpy(b, a, 1 << 20);
		__asm__ volatile("" : : "r"(b) : "memory");
	}
	free(a);
	free(b);
	return (double)done / (double)(now_ns() - begin);
}

static double plain_relay(u32 piece)
{
	static char buf[65536];
	u64 begin, done = 0;
	int in[2], out[2];
	pid_t w, r;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, in) && !socketpair(AF_UNIX, SOCK_STREAM, 0, out));
	w = pump(in[1], piece, true);
	r = pump(out[1], 0, false);
	begin = now_ns();
	while (now_ns() - begin < run_ns) {
		ssize_t n = read(in[0], buf, piece);

		CHECK(n > 0 && write(out[0], buf, (size_t)n) == n);
		done += (u64)n;
	}
	begin = now_ns() - begin;
	stop(w);
	stop(r);
	for (int i = 0; i < 2; i++) {
		close(in[i]);
		close(out[i]);
	}
	return (double)done / (double)begin;
}

int main(int argc, char **argv)
{
	static const u32 pieces[] = { 65536, 1024, 64 };

	if (!getenv("VSOCKD"))
		return 77;
	if (argc > 1)
		run_ns = strtoull(argv[1], NULL, 10) * 1000000;
	signal(SIGPIPE, SIG_IGN);
	printf("copy                           %7.2f GB/s\n", plain_copy());
	for (u32 i = 0; i < ARRAY_SIZE(pieces); i++) {
		printf("%5u B  unix relay             %7.3f GB/s\n", pieces[i], plain_relay(pieces[i]));
		printf("%5u B  to guest, 3776 B       %7.3f GB/s\n", pieces[i], to_guest(pieces[i], 3776));
		printf("%5u B  to guest, 64 KiB       %7.3f GB/s\n", pieces[i],
		       to_guest(pieces[i], 65536 + VSP_HDR_LEN));
		printf("%5u B  from guest             %7.3f GB/s\n", pieces[i], from_guest(pieces[i]));
	}
	printf("    1 B  round trip, blocking   %7.1f us\n", round_trip_us());
	return 0;
}
