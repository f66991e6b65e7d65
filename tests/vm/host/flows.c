// SPDX-License-Identifier: BSD-2-Clause
/* Connections between a guest and its host. */
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vhost.h>

enum {
	PORT = 5000,
	STREAM = 3 << 20,
};

static struct guest g;

static void opened_by_guest(void)
{
	struct flow f;
	int l = host_listen(PORT, 8);

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	flow_to_host(&g, &f, 1000, 100, PEER_TWO);
	flow_to_guest(&g, &f, 1000, 100);
	flow_finish(&g, &f);
	guest_quiet(&g);
	guest_end(&g);
}

static void opened_by_host(void)
{
	struct flow f;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_host(&g, 50);
	flow_to_host(&g, &f, 1000, 100, PEER_TWO);
	flow_to_guest(&g, &f, 1000, 100);
	flow_finish(&g, &f);
	guest_quiet(&g);
	guest_end(&g);
}

static void refusals(void)
{
	struct flow f = { .host_port = PORT, .guest_port = 50 };
	struct vsp_hdr hdr;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	CHECK(host_connect(CID + 1, 50) == -ENODEV);
	f.fd = host_connect(CID, 50);
	CHECK(f.fd >= 0);
	hdr = guest_expect(&g, &f, VSP_OP_REQUEST);
	f.host_port = hdr.src.port;
	guest_send(&g, guest_hdr(&g, &f, VSP_OP_RST));
	CHECK(host_connected(f.fd) == ECONNRESET);
	close(f.fd);
	f.host_port = PORT;
	guest_send(&g, guest_hdr(&g, &f, VSP_OP_REQUEST));
	guest_expect(&g, &f, VSP_OP_RST);
	CHECK(!vu_vhost_run(&g.peer.f, false));
	CHECK(host_connect(CID, 50) == -EHOSTUNREACH);
	guest_end(&g);
	CHECK(host_connect(CID, 50) == -ENODEV);
}

/* Streams are there if nothing was negotiated; they are not if they could have been and were not. */
static void features(void)
{
	struct flow f = { .host_port = PORT, .guest_port = 50 };
	int l = host_listen(PORT, 8);
	u64 offered = 0;

	guest_begin(&g, CID, 128, 3776, 0);
	CHECK(!ioctl(g.peer.f.device, VHOST_GET_FEATURES, &offered));
	CHECK(offered & VU_BIT(VSP_F_STREAM) && offered & VU_BIT(VSP_F_NO_IMPLIED_STREAM));
	f = open_by_guest(&g, l, PORT, 50);
	flow_to_host(&g, &f, 1000, 100, PEER_TWO);
	flow_finish(&g, &f);
	guest_end(&g);

	guest_begin(&g, CID, 128, 3776, VU_BIT(VSP_F_NO_IMPLIED_STREAM));
	guest_send(&g, guest_hdr(&g, &f, VSP_OP_REQUEST));
	guest_expect(&g, &f, VSP_OP_RST);
	CHECK(counter(CID, "rejects/type") == 1);
	CHECK(host_connect(CID, 50) == -ENETUNREACH);
	guest_end(&g);

	guest_begin(&g, CID, 128, 3776, VU_BIT(VSP_F_NO_IMPLIED_STREAM) | VU_BIT(VSP_F_STREAM));
	f = open_by_host(&g, 50);
	flow_finish(&g, &f);
	guest_end(&g);
}

/* Every shape of chain, packets of every size class. */
static void chains(void)
{
	static const u32 sizes[] = { 1, 64, 1000, 4096, 4097, 10000, 33000, 65536 };
	int l = host_listen(PORT, 8);
	struct flow f;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	for (u32 shape = 0; shape < NUM_PEER_SHAPES; shape++) {
		for (u32 i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			flow_to_host(&g, &f, sizes[i] < 1000 ? 10 * sizes[i] : 300000, sizes[i], shape);
	}
	flow_finish(&g, &f);
	guest_end(&g);
}

static void stream(u32 ring, u32 buffer, u64 features)
{
	int l = host_listen(PORT, 8);
	struct flow f;

	guest_begin(&g, CID, ring, buffer, features);
	f = open_by_guest(&g, l, PORT, 50);
	flow_to_host(&g, &f, STREAM, 65536, ring < 2 ? PEER_ONE : PEER_TWO);
	flow_to_guest(&g, &f, STREAM, 1 << 20);
	flow_to_guest(&g, &f, 20000, 64);
	flow_finish(&g, &f);
	guest_end(&g);
	close(l);
}

/* Receive buffers from the smallest that carries payload to one that holds a whole packet; rings of all sizes. */
static void streams(void)
{
	stream(128, 3776, FEATURES);
	stream(128, 3776, 0);
	stream(128, 3776, VU_BIT(VU_F_EVENT_IDX));
	stream(128, VSP_HDR_LEN + VSP_MAX_PAYLOAD, VU_BIT(VU_F_INDIRECT_DESC));
	stream(256, VSP_HDR_LEN + 100, FEATURES);
	stream(1, VSP_HDR_LEN + VSP_MAX_PAYLOAD, FEATURES);
	stream(2, 5000, FEATURES);
	stream(32768, 3776, FEATURES);
}

/* The index wraps, with one connection after the other. */
static void many_packets(void)
{
	int l = host_listen(PORT, 8);
	struct flow f;

	guest_begin(&g, CID, 16, 200, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	flow_to_host(&g, &f, 70000, 1, PEER_ONE);
	flow_to_guest(&g, &f, 70000 * 2, 100);
	flow_finish(&g, &f);
	guest_end(&g);
}

static void half_close(void)
{
	int l = host_listen(PORT, 8);
	struct vsp_hdr hdr;
	struct flow f;
	u8 byte;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	flow_to_host(&g, &f, 5000, 5000, PEER_TWO);
	hdr = guest_hdr(&g, &f, VSP_OP_SHUTDOWN);
	hdr.flags = VSP_SHUTDOWN_SEND;
	guest_send(&g, hdr);
	CHECK(host_wait(f.fd, POLLRDHUP, WAIT_MS));
	CHECK(recv(f.fd, &byte, 1, 0) == 0);
	flow_to_guest(&g, &f, 5000, 5000);
	flow_finish(&g, &f);
	guest_end(&g);
}

/* A writer stops at the guest's window, and at the end of it goes on. */
static void window(void)
{
	u8 buf[4096] = { 0 };
	struct vsp_hdr hdr;
	struct flow f;
	u32 sent = 0;
	ssize_t n;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_host(&g, 50);
	while ((n = send(f.fd, buf, sizeof(buf), MSG_NOSIGNAL)) > 0)
		sent += (u32)n;
	CHECK(errno == EAGAIN && sent == WINDOW);
	while (f.got < WINDOW && peer_recv(&g.peer, &hdr, g.buf, WAIT_MS))
		f.got += hdr.len;
	CHECK(f.got == WINDOW);
	CHECK(!host_wait(f.fd, POLLOUT, 0));
	guest_send(&g, guest_hdr(&g, &f, VSP_OP_CREDIT_UPDATE));
	CHECK(host_wait(f.fd, POLLOUT, WAIT_MS));
	flow_finish(&g, &f);
	guest_end(&g);
}

/* The length of what is in the next buffer that the host has filled. Nothing is posted, so nothing wakes the host. */
static u32 next_filled(void)
{
	u64 until = now_ms() + WAIT_MS;
	u32 len;

	while (vu_drv_used(&g.peer.f.drv[0], &len) < 0) {
		CHECK(now_ms() < until);
		pause_a_little();
	}
	return len;
}

/* A small write is kept back behind one of which the guest has got a part, and follows when it has got the rest. */
static void kept_back(void)
{
	enum { ROOM = 10, FIRST = 25, SECOND = 7 };
	int l = host_listen(PORT, 8);
	const u8 buf[FIRST] = { 0 };
	struct flow f;

	guest_begin(&g, CID, 2, VSP_HDR_LEN + ROOM, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	CHECK(send(f.fd, buf, FIRST, 0) == FIRST);
	for (u32 i = 0; i < 2; i++)
		CHECK(next_filled() == VSP_HDR_LEN + ROOM);
	CHECK(send(f.fd, buf, SECOND, 0) == SECOND);
	peer_post_all(&g.peer);
	CHECK(next_filled() == VSP_HDR_LEN + FIRST - 2 * ROOM);
	CHECK(next_filled() == VSP_HDR_LEN + SECOND);
	f.got = f.written = FIRST + SECOND;
	peer_post_all(&g.peer);
	flow_finish(&g, &f);
	guest_end(&g);
}

/* Packets that are there at once are given back with few interrupts, and what they say comes with few. */
static void interrupts(void)
{
	enum { PACKETS = 60 };
	struct vsp_hdr hdr;
	u64 calls = 0;
	u32 seen = 0, len;

	guest_begin(&g, CID, 256, 3776, 0);
	CHECK(!vu_vhost_run(&g.peer.f, false));
	for (u32 i = 0; i < PACKETS; i++) {
		struct flow f = { .host_port = PORT, .guest_port = 100 + i };

		CHECK(peer_send(&g.peer, guest_hdr(&g, &f, VSP_OP_RW), NULL, 0, PEER_ONE));
	}
	CHECK(!vu_vhost_run(&g.peer.f, true));
	counter_reaches(CID, "replies", PACKETS);
	while (seen < PACKETS) {
		CHECK(peer_recv(&g.peer, &hdr, NULL, WAIT_MS));
		CHECK(hdr.op == VSP_OP_RST);
		seen++;
	}
	seen = 0;
	while (vu_drv_used(&g.peer.f.drv[1], &len) >= 0)
		seen++;
	CHECK(seen == PACKETS);
	CHECK(read(g.peer.f.drv[1].call_fd, &calls, sizeof(calls)) == sizeof(calls));
	fprintf(stderr, "# %llu interrupts for %d packets\n", (unsigned long long)calls, PACKETS);
	CHECK(calls <= 4);
	guest_end(&g);
}

#define INJECT "/sys/kernel/debug/fail_page_alloc/"

static void inject(const char *name, const char *value)
{
	char path[96];
	FILE *file;

	snprintf(path, sizeof(path), "%s%s", INJECT, name);
	file = fopen(path, "w");
	CHECK(file && fputs(value, file) >= 0 && !fclose(file));
}

static void stop_injecting(void)
{
	inject("probability", "0");
}

/* The kernel has single pages only, as after weeks of use: slower, but nothing ends. */
static void small_pieces(void)
{
	int l = host_listen(PORT, 8);
	struct flow f;

	if (access(INJECT "probability", W_OK))
		exit(SKIPPED);
	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	atexit(stop_injecting);
	inject("verbose", "0");
	inject("ignore-gfp-wait", "N");
	inject("min-order", "1");
	inject("times", "-1");
	inject("probability", "100");
	flow_to_host(&g, &f, STREAM, 65536, PEER_TWO);
	flow_to_guest(&g, &f, STREAM, 1 << 20);
	stop_injecting();
	flow_finish(&g, &f);
	guest_end(&g);
}

const struct test flow_tests[] = {
	{ "a connection that the guest opens", opened_by_guest },
	{ "a connection that the host opens", opened_by_host },
	{ "which types of socket there are", features },
	{ "nobody there: ENODEV, EHOSTUNREACH, ECONNRESET, and a reset for the guest", refusals },
	{ "chains of every shape, packets of every size", chains },
	{ "3 MiB each way with buffers and rings from the smallest to the largest", streams },
	{ "70,000 packets each way: indices wrap", many_packets },
	{ "3 MiB each way while the kernel has no large blocks", small_pieces },
	{ "half-close: the host reads the end and goes on writing", half_close },
	{ "a writer stops at the guest's window", window },
	{ "what is kept back behind a part of a packet follows the rest", kept_back },
	{ "one interrupt for a batch", interrupts },
	{ NULL, NULL },
};
