// SPDX-License-Identifier: BSD-2-Clause
#include "lean.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	RING = 128,
	AT_ONCE = 32, /* connections that are asked for before the first is waited for */
	PORTS = 1 << 20, /* of a measurement, at most */
};

static u32 next_port = PORTS;

u64 now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static void grow(struct lean *l, u32 n)
{
	l->lanes = realloc(l->lanes, n * sizeof(*l->lanes));
	CHECK(l->lanes);
	for (; l->n < n; l->n++)
		l->lanes[l->n] = (struct lane){
			.flow = { .host_port = LANE_HOST_PORT, .guest_port = l->port + l->n, .fd = -1 }
		};
}

void lean_begin(struct lean *l, u32 n, u32 buffer)
{
	guest_begin(&l->g, CID, RING, buffer, FEATURES | VU_BIT(VSP_F_SEQPACKET));
	l->over_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(l->over_fd >= 0);
	l->port = next_port;
	next_port += PORTS;
	l->lanes = NULL;
	l->n = l->ended = 0;
	l->over = l->timed = false;
	grow(l, n);
}

void lean_go_on(struct lean *l, u32 n)
{
	u64 count;

	CHECK(read(l->over_fd, &count, sizeof(count)) == sizeof(count));
	l->over = false;
	grow(l, n);
}

void lean_end(struct lean *l)
{
	if (l->timed)
		CHECK(!pthread_join(l->clock, NULL));
	for (u32 i = 0; i < l->n; i++) {
		if (l->lanes[i].flow.fd >= 0)
			close(l->lanes[i].flow.fd);
	}
	guest_end(&l->g);
	close(l->over_fd);
	free(l->lanes);
}

static void make_blocking(int fd)
{
	CHECK(!fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK));
}

void lean_open_by_host(struct lean *l, u32 i, u16 type)
{
	struct lane *lane = &l->lanes[i];

	lane->type = type;
	lane->flow.messages = type == VSP_TYPE_SEQPACKET;
	flow_ask_guest(&l->g, &lane->flow);
	make_blocking(lane->flow.fd);
}

void lean_open_by_guest(struct lean *l, int listener, u32 first)
{
	u32 asked = first, opened = first;

	while (opened < l->n) {
		for (; asked < l->n && asked < opened + AT_ONCE; asked++) {
			l->lanes[asked].type = VSP_TYPE_STREAM;
			lean_send(l, &l->lanes[asked], VSP_OP_REQUEST, 0);
		}
		if (!lean_take(l))
			lean_wait(l, false);
		for (; opened < asked && l->lanes[opened].answered; opened++) {
			l->lanes[opened].flow.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
			CHECK(l->lanes[opened].flow.fd >= 0);
		}
	}
}

bool lean_try_send(struct lean *l, struct lane *lane, enum vsp_op op, u32 len)
{
	struct vsp_hdr hdr = guest_hdr(&l->g, &lane->flow, op);

	hdr.type = lane->type;
	hdr.len = len;
	if (op == VSP_OP_RW && lane->type == VSP_TYPE_SEQPACKET)
		hdr.flags = VSP_SEQ_EOM;
	if (lane->type == VSP_TYPE_DGRAM)
		hdr.buf_alloc = hdr.fwd_cnt = 0;
	if (!peer_push(&l->g.peer, hdr))
		return false;
	lane->flow.sent += len;
	lane->acked = lane->flow.got;
	return true;
}

void lean_send(struct lean *l, struct lane *lane, enum vsp_op op, u32 len)
{
	struct vu_drv *d = &l->g.peer.f.drv[1];

	while (!lean_try_send(l, lane, op, len)) {
		if (vu_drv_await(d))
			CHECK(host_wait(d->call_fd, POLLIN, WAIT_MS));
	}
}

static void arrived(struct lean *l, const struct vsp_wire *wire)
{
	u32 i = le32_to_cpu(wire->dst_port) - l->port, len = le32_to_cpu(wire->len);
	enum vsp_op op = le16_to_cpu(wire->op);
	struct lane *lane;

	/* The kernel's own module resets connections of an earlier measurement, seconds after it has ended. */
	if (i >= l->n)
		return;
	lane = &l->lanes[i];
	CHECK(op != VSP_OP_RST);
	lane->answered |= op == VSP_OP_RESPONSE;
	lane->flow.edge = le32_to_cpu(wire->fwd_cnt) + le32_to_cpu(wire->buf_alloc);
	lane->flow.read = le32_to_cpu(wire->fwd_cnt);
	lane->asked = false;
	if (op == VSP_OP_RW)
		lane->flow.got += len;
	if (lane->type == VSP_TYPE_DGRAM)
		return;
	if (op == VSP_OP_SHUTDOWN) {
		lean_send(l, lane, VSP_OP_RST, 0);
		l->ended++;
	}
	if (op == VSP_OP_RW && lane->echoes)
		lean_send(l, lane, VSP_OP_RW, len);
	else if (op == VSP_OP_CREDIT_REQUEST || lane->flow.got - lane->acked >= WINDOW / 4)
		lean_send(l, lane, VSP_OP_CREDIT_UPDATE, 0);
}

u32 lean_take(struct lean *l)
{
	const struct vsp_wire *wire;
	u32 len, n = 0;

	while ((wire = peer_look(&l->g.peer, &len))) {
		arrived(l, wire);
		n++;
	}
	if (n)
		peer_post_all(&l->g.peer);
	return n;
}

void lean_wait(struct lean *l, bool room)
{
	struct vu_drv *drv = l->g.peer.f.drv;
	struct pollfd fds[] = { { .fd = drv[0].call_fd, .events = POLLIN },
				{ .fd = l->over_fd, .events = POLLIN },
				{ .fd = drv[1].call_fd, .events = POLLIN } };

	if (vu_drv_await(&drv[0]) && (!room || vu_drv_await(&drv[1])))
		CHECK(poll(fds, room ? 3 : 2, -1) > 0);
}

void lean_end_soon(struct lean *l)
{
	const u64 one = 1;

	__atomic_store_n(&l->over, true, __ATOMIC_RELEASE);
	CHECK(write(l->over_fd, &one, sizeof(one)) == sizeof(one));
}

bool lean_over(const struct lean *l)
{
	return __atomic_load_n(&l->over, __ATOMIC_ACQUIRE);
}

static void *clock_thread(void *arg)
{
	struct lean *l = arg;

	if (!host_wait(l->over_fd, POLLIN, (int)l->ms))
		lean_end_soon(l);
	return NULL;
}

void lean_end_after(struct lean *l, u32 ms)
{
	l->ms = ms;
	l->timed = true;
	CHECK(!pthread_create(&l->clock, NULL, clock_thread, l));
}
