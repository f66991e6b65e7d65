// SPDX-License-Identifier: BSD-2-Clause
/* Devices that pause, reboot, close, change their CID; and many of them. */
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vhost.h>

enum { PORT = 5000 };

static struct guest g;

/* QEMU's stop and cont: nothing is lost, nothing ends. */
static void paused(void)
{
	struct vhost_vring_state base[2] = { { .index = 0 }, { .index = 1 } };
	int l = host_listen(PORT, 8);
	struct flow f, held;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	flow_to_guest(&g, &f, 100000, 65536);
	flow_to_host(&g, &f, 100000, 65536, PEER_TWO);
	for (u32 round = 0; round < 20; round++) {
		u8 buf[40000];

		/* More than the buffers of the ring hold, so that a packet is cut in two by the pause. */
		for (u32 i = 0; i < sizeof(buf); i++)
			buf[i] = byte_at(f.written + i, 2);
		CHECK(send(f.fd, buf, sizeof(buf), 0) == sizeof(buf));
		f.written += sizeof(buf);
		CHECK(!vu_vhost_run(&g.peer.f, false));
		for (u32 i = 0; i < 2; i++) {
			CHECK(!ioctl(g.peer.f.device, VHOST_GET_VRING_BASE, &base[i]));
			CHECK(!ioctl(g.peer.f.device, VHOST_SET_VRING_BASE, &base[i]));
		}
		held = f;
		CHECK(!vu_vhost_share(&g.peer.f));
		CHECK(!vu_vhost_run(&g.peer.f, true));
		flow_to_guest(&g, &f, 100, 100);
		CHECK(f.got == held.written + 100);
		flow_to_host(&g, &f, 10000, 3000, PEER_FRAGS);
	}
	flow_finish(&g, &f);
	guest_end(&g);
}

/* A guest that boots anew: connections of before end at once, and nothing of theirs arrives. */
static void rebooted(void)
{
	int l = host_listen(PORT, 8), waiting;
	struct flow full, idle, fresh;
	struct vsp_hdr hdr;
	u8 buf[4096] = { 0 };

	guest_begin(&g, CID, 8, 3776, FEATURES);
	idle = open_by_guest(&g, l, PORT, 50);
	full = open_by_host(&g, 51);
	while (send(full.fd, buf, sizeof(buf), MSG_NOSIGNAL) > 0)
		;
	CHECK(errno == EAGAIN);
	waiting = host_connect_patiently(false, CID, 52);
	CHECK(waiting >= 0);
	guest_reboot(&g);
	CHECK(host_error(idle.fd) == ECONNRESET && host_error(full.fd) == ECONNRESET);
	CHECK(host_connected(waiting) == ECONNRESET);
	CHECK(!peer_recv(&g.peer, &hdr, g.buf, QUIET_MS));
	close(full.fd);
	close(idle.fd);
	close(waiting);
	CHECK(!peer_recv(&g.peer, &hdr, g.buf, QUIET_MS));
	/* The listener works on, and so do the old ports. */
	fresh = open_by_guest(&g, l, PORT, 50);
	flow_to_host(&g, &fresh, 100000, 65536, PEER_TWO);
	flow_to_guest(&g, &fresh, 100000, 65536);
	flow_finish(&g, &fresh);
	guest_end(&g);
}

/* A request for an address that we think is in use: whoever had it has forgotten. */
static void replaced(void)
{
	int l = host_listen(PORT, 8);
	struct flow old, new;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	old = open_by_guest(&g, l, PORT, 50);
	flow_to_host(&g, &old, 1000, 1000, PEER_TWO);
	new = open_by_guest(&g, l, PORT, 50);
	CHECK(host_error(old.fd) == ECONNRESET);
	close(old.fd);
	flow_to_host(&g, &new, 1000, 1000, PEER_TWO);
	flow_to_guest(&g, &new, 1000, 1000);
	flow_finish(&g, &new);
	guest_end(&g);
}

/* The device closes in the middle of everything. */
static void closed(void)
{
	int l = host_listen(PORT, 64);

	for (u32 round = 0; round < 20; round++) {
		struct flow f[8];
		int waiting;
		u8 buf[4096] = { 0 };

		guest_begin(&g, CID, 64, 3776, FEATURES);
		for (u32 i = 0; i < 8; i++)
			f[i] = i % 2 ? open_by_guest(&g, l, PORT, 50 + i) : open_by_host(&g, 50 + i);
		waiting = host_connect_patiently(false, CID, 99);
		for (u32 i = 0; i < 8; i++) {
			struct vsp_hdr hdr = guest_hdr(&g, &f[i], VSP_OP_RW);

			hdr.len = 5000;
			guest_send(&g, hdr);
			while (send(f[i].fd, buf, sizeof(buf), MSG_NOSIGNAL) > 0)
				;
		}
		guest_end(&g);
		CHECK(host_connected(waiting) == ECONNRESET);
		for (u32 i = 0; i < 8; i++) {
			CHECK(host_error(f[i].fd) == ECONNRESET);
			CHECK(send(f[i].fd, buf, 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
			close(f[i].fd);
		}
		close(waiting);
	}
}

/* Chains go from one region into the next; 509 of them are taken, overlaps are not, and a hole is found. */
static void regions(void)
{
	const u32 most = 509;
	int l = host_listen(PORT, 8);
	struct flow f;

	guest_begin(&g, CID, 128, 65000, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	CHECK(guest_share_pieces(&g, most + 1, 0, 0, 0) == -E2BIG);
	CHECK(guest_share_pieces(&g, most, 0, 0, 4096) == -EFAULT);
	flow_to_host(&g, &f, 300000, 65536, PEER_FRAGS);
	CHECK(!guest_share_pieces(&g, most, 0, 0, 0));
	flow_to_host(&g, &f, 2000000, 65536, PEER_INDIRECT);
	flow_to_guest(&g, &f, 2000000, 65536);
	/* Of eight pieces the first holds both rings, and these three nearly all receive buffers. */
	CHECK(!guest_share_pieces(&g, 8, 1, 3, 0));
	while (send(f.fd, g.buf, sizeof(g.buf), MSG_NOSIGNAL) > 0)
		;
	if (errno == EAGAIN)
		CHECK(host_error(f.fd) == ECONNRESET);
	counter_reaches(CID, "rejects/memory", 1);
	close(f.fd);
	guest_end(&g);
}

/* Another CID: connections of the old one end, the new one is reachable, the old one is free. */
static void renamed(void)
{
	int l = host_listen(PORT, 8);
	u64 cid = CID + 1;
	struct flow f;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	CHECK(!ioctl(g.peer.f.device, VHOST_VSOCK_SET_GUEST_CID, &cid));
	CHECK(host_error(f.fd) == ECONNRESET);
	close(f.fd);
	g.cid = CID + 1;
	CHECK(host_connect(CID, 50) == -ENODEV);
	f = open_by_host(&g, 60);
	flow_to_host(&g, &f, 1000, 1000, PEER_TWO);
	flow_finish(&g, &f);
	guest_end(&g);
}

const struct test life_tests[] = {
	{ "stop and go on, 20 times with data under way: nothing is lost", paused },
	{ "a reboot resets connections, delivers nothing stale, and keeps listeners", rebooted },
	{ "a request for an address in use replaces its connection", replaced },
	{ "the device closes under load: ECONNRESET for all, at once", closed },
	{ "a guest gets another CID", renamed },
	{ "memory of 509 regions; overlaps and holes", regions },
	{ NULL, NULL },
};
