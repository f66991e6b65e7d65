// SPDX-License-Identifier: BSD-2-Clause
/*
 * What a guest does to the pings of another: nothing, honest traffic at full speed, and what a hostile one may try.
 * Prints NAME, the median and the 99th percentile of the other's round trips in microseconds.
 */
#include "host.h"
#include "speed.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PORT = 5100,
	PINGS = 1500,
	WARM_UP = 100,
	OTHER = CID + 1,
	RING = 256,
	PIECES = 1024,	    /* in a chain: more break the ring */
	BUSY_PACKETS = 500, /* of the neighbour, until it counts as busy */
};

static struct guest g;

static u64 now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000 + (u64)ts.tv_nsec / 1000;
}

/* ---- the neighbours; each runs until it is killed ---- */

static void *read_thread(void *arg)
{
	static u8 buf[1 << 20];
	int fd = *(int *)arg;

	while (host_wait(fd, POLLIN, WAIT_MS) && recv(fd, buf, sizeof(buf), 0) != 0)
		;
	return NULL;
}

static void be_honest(void)
{
	pthread_t thread;
	struct vsp_hdr hdr;
	struct flow f;

	guest_begin(&g, OTHER, RING, 3776, FEATURES);
	f = open_by_host(&g, 50);
	CHECK(!pthread_create(&thread, NULL, read_thread, &f.fd));
	for (;;) {
		while (f.edge - f.sent < VSP_MAX_PAYLOAD) {
			CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
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

/* Sends packets of @op for nobody, or for the connection @f, as fast as they are taken. */
static void flood(struct flow *f, enum vsp_op op, u32 ports)
{
	for (u32 i = 0;; i++) {
		f->guest_port = 50 + i % ports;
		guest_send(&g, guest_hdr(&g, f, op));
		if (i % 64 == 0)
			take_all();
	}
}

static void ask_for_credit(void)
{
	struct flow f;

	guest_begin(&g, OTHER, RING, 3776, FEATURES);
	f = open_by_host(&g, 50);
	flood(&f, VSP_OP_CREDIT_REQUEST, 1);
}

static void talk_to_nobody(void)
{
	struct flow f = { .host_port = PORT + 1 };

	guest_begin(&g, OTHER, RING, 3776, FEATURES);
	flood(&f, VSP_OP_RW, 1000);
}

static void open_and_leave(void)
{
	struct flow f = { .host_port = PORT + 1 };

	host_listen(PORT + 1, 128);
	guest_begin(&g, OTHER, RING, 3776, FEATURES);
	flood(&f, VSP_OP_REQUEST, 1000);
}

/* Chains of as many pieces as there may be, with a byte in each. */
static void long_chains(void)
{
	static struct vu_seg segs[PIECES];
	struct vu_drv *d = &g.peer.f.drv[1];
	u64 at;
	u32 unused;

	guest_begin(&g, OTHER, RING, 3776, FEATURES);
	at = peer_scratch(&g.peer);
	for (u32 i = 0; i < PIECES; i++)
		segs[i] = (struct vu_seg){ .gpa = vu_front_gpa(at), .len = 1 };
	for (;;) {
		while (vu_drv_add_indirect(d, segs, PIECES, (void *)(g.peer.f.mem + at + 4096),
					   vu_front_gpa(at + 4096)) >= 0)
			;
		vu_drv_publish(d);
		take_all();
		if (vu_drv_await(d))
			host_wait(d->call_fd, POLLIN, WAIT_MS);
		while (vu_drv_used(d, &unused) >= 0)
			;
	}
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
		CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
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

	guest_begin(&g, CID, 128, 3776, FEATURES);
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

int neighbours_list(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} all[] = {
		{ "idle", NULL },
		{ "honest", be_honest },
		{ "hostile:credit_requests", ask_for_credit },
		{ "hostile:no_connection", talk_to_nobody },
		{ "hostile:requests", open_and_leave },
		{ "hostile:long_chains", long_chains },
	};

	for (u32 i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		pid_t pid = 0;
		int status;

		fflush(stdout);
		if (all[i].run)
			pid = fork();
		CHECK(pid >= 0);
		if (all[i].run && !pid) {
			all[i].run();
			exit(1);
		}
		if (pid)
			wait_until_busy();
		measure(all[i].name);
		if (!pid)
			continue;
		/* It must have lived until now. */
		CHECK(waitpid(pid, &status, WNOHANG) == 0);
		CHECK(!kill(pid, SIGKILL) && waitpid(pid, &status, 0) == pid);
	}
	return 0;
}
