// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a guest does to the pings of another: nothing, honest traffic at full speed, and what a hostile one may try.
 * Prints NAME, the median and the 99th percentile of the other's round trips in microseconds, once for each.
 */
#include "host.h"
#include "speed.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PORT = 5100,
	NOBODY = 5101,
	PINGS = 1000,
	WARM_UP = 50,
	OTHER = CID + 1,
	RING = 256,
	BUFFER = 3776,
	PIECES = 1024,	    /* in a chain: more break the ring */
	FLOWS = 1000,	    /* that a flood claims to have */
	BUSY_PACKETS = 500, /* of the neighbour, until it counts as busy */
};

static struct guest g;

static u64 now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000 + (u64)ts.tv_nsec / 1000;
}

/* ---- the neighbours: each runs until it is killed ---- */

static void *read_thread(void *arg)
{
	static u8 buf[1 << 20];
	int fd = *(int *)arg;

	while (host_wait(fd, POLLIN, WAIT_MS) && recv(fd, buf, sizeof(buf), 0) != 0)
		;
	return NULL;
}

/* Waits for credit without sleep: its processor is as busy as that of the others. */
static void be_honest(void)
{
	struct flow f = open_by_host(&g, 50);
	struct vsp_hdr hdr;
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, read_thread, &f.fd));
	for (;;) {
		while (f.edge - f.sent < VSP_MAX_PAYLOAD) {
			if (peer_recv(&g.peer, &hdr, NULL, 0))
				f.edge = hdr.fwd_cnt + hdr.buf_alloc;
		}
		hdr = guest_hdr(&g, &f, VSP_OP_RW);
		hdr.len = VSP_MAX_PAYLOAD;
		CHECK(peer_send(&g.peer, hdr, g.buf, hdr.len, PEER_INDIRECT));
		f.sent += hdr.len;
	}
}

/* Take what came, and drop it. */
static void take_all(void)
{
	struct vsp_hdr hdr;

	while (peer_recv(&g.peer, &hdr, NULL, 0))
		;
}

/* Packets of @op for @f, whose guest's port changes within a range of @ports, as fast as they are taken. */
static void flood(struct flow f, enum vsp_op op, u32 ports, u32 packets)
{
	const u32 first = f.guest_port;

	for (u32 i = 0; !packets || i < packets; i++) {
		f.guest_port = first + i % ports;
		guest_send(&g, guest_hdr(&g, &f, op));
		if (i % 64 == 0)
			take_all();
	}
}

static void ask_for_credit(void)
{
	flood(open_by_host(&g, 50), VSP_OP_CREDIT_REQUEST, 1, 0);
}

static void talk_to_nobody(void)
{
	flood((struct flow){ .host_port = NOBODY, .guest_port = 50 }, VSP_OP_RW, FLOWS, 0);
}

static void open_and_leave(void)
{
	host_listen(PORT, 128);
	flood((struct flow){ .host_port = PORT, .guest_port = 50 }, VSP_OP_REQUEST, FLOWS, 0);
}

static void ring_bells(void)
{
	const u64 one = 1;

	flood((struct flow){ .host_port = NOBODY, .guest_port = 50 }, VSP_OP_RW, FLOWS, BUSY_PACKETS);
	for (u32 i = 0;; i = !i)
		CHECK(write(g.peer.f.drv[i].kick_fd, &one, sizeof(one)) > 0 || errno == EAGAIN);
}

/* Its processor is as busy with something else. */
static void compute(void)
{
	flood((struct flow){ .host_port = NOBODY, .guest_port = 50 }, VSP_OP_RW, FLOWS, BUSY_PACKETS);
	for (;;)
		CHECK(getppid() > 0);
}

/* Chains of as many pieces as there may be, with @len bytes in each. */
static void send_chains(u32 len)
{
	static struct vu_seg segs[PIECES];
	struct vu_drv *d = &g.peer.f.drv[1];
	u64 at = peer_scratch(&g.peer), table = at + 4096;
	u32 unused;

	for (u32 i = 0; i < PIECES; i++)
		segs[i] = (struct vu_seg){ .gpa = vu_front_gpa(at), .len = len };
	for (;;) {
		while (vu_drv_add_indirect(d, segs, PIECES, (void *)(g.peer.f.mem + table), vu_front_gpa(table)) >= 0)
			;
		vu_drv_publish(d);
		take_all();
		if (vu_drv_await(d))
			host_wait(d->call_fd, POLLIN, WAIT_MS);
		while (vu_drv_used(d, &unused) >= 0)
			;
	}
}

static void long_chains(void)
{
	send_chains(1);
}

static void empty_chains(void)
{
	send_chains(0);
}

/* ---- the one that pings ---- */

static void *echo_thread(void *arg)
{
	int fd = *(int *)arg;
	u8 byte;

	while (host_wait(fd, POLLIN, WAIT_MS) && recv(fd, &byte, 1, 0) == 1)
		CHECK(send(fd, &byte, 1, MSG_NOSIGNAL) == 1);
	return NULL;
}

static u64 ping(struct flow *f)
{
	struct vsp_hdr hdr = guest_hdr(&g, f, VSP_OP_RW);
	u64 began = now_us();
	u32 got = f->got;

	hdr.len = 1;
	guest_send(&g, hdr);
	while (f->got == got) {
		CHECK(peer_recv(&g.peer, &hdr, NULL, WAIT_MS));
		f->got += hdr.len;
	}
	return now_us() - began;
}

static int by_value(const void *a, const void *b)
{
	u64 one = *(const u64 *)a, other = *(const u64 *)b;

	return one < other ? -1 : one > other;
}

static void measure(const char *name)
{
	static u64 us[PINGS];
	pthread_t thread;
	struct flow f;

	guest_begin(&g, CID, 128, BUFFER, FEATURES);
	f = open_by_host(&g, 50);
	CHECK(!pthread_create(&thread, NULL, echo_thread, &f.fd));
	for (u32 i = 0; i < WARM_UP; i++)
		ping(&f);
	for (u32 i = 0; i < PINGS; i++)
		us[i] = ping(&f);
	qsort(us, PINGS, sizeof(us[0]), by_value);
	printf("%s %llu %llu\n", name, (unsigned long long)us[PINGS / 2], (unsigned long long)us[PINGS * 99 / 100]);
	shutdown(f.fd, SHUT_RDWR);
	CHECK(!pthread_join(thread, NULL));
	close(f.fd);
	guest_end(&g);
}

static void wait_until_busy(void)
{
	u64 until = now_ms() + WAIT_MS, packets = 0;

	while (!counter_of(OTHER, "rx_packets", &packets) || packets < BUSY_PACKETS) {
		CHECK(now_ms() < until);
		pause_a_little();
	}
}

static pid_t begin_neighbour(void (*run)(void))
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		guest_begin(&g, OTHER, RING, BUFFER, FEATURES);
		run();
		exit(1);
	}
	wait_until_busy();
	return pid;
}

/* It must have been at it until now. */
static void end_neighbour(pid_t pid)
{
	int status;

	CHECK(waitpid(pid, &status, WNOHANG) == 0);
	CHECK(!kill(pid, SIGKILL) && waitpid(pid, &status, 0) == pid);
}

int neighbours_list(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {
		{ "honest", be_honest },
		{ "computing", compute },
		{ "credit_requests", ask_for_credit },
		{ "no_connection", talk_to_nobody },
		{ "requests", open_and_leave },
		{ "doorbells", ring_bells },
		{ "long_chains", long_chains },
		{ "empty_chains", empty_chains },
	};

	measure("alone");
	for (u32 i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		pid_t pid = begin_neighbour(all[i].run);

		measure(all[i].name);
		end_neighbour(pid);
	}
	return 0;
}
