// SPDX-License-Identifier: BSD-2-Clause
/*
 * to_guest.c - bytes of Unix sockets into the guest's receive buffers, without a copy in between
 *
 * A turn of a connection takes as many buffers as its deficit and its credit allow, reads into all of them with one
 * system call that leaves room for the headers, and writes the headers afterwards. Buffers that stayed empty go back.
 *
 * A seqpacket message begins when the guest has credit for all of it, so that it never stops in the middle for want of
 * it. What does not fit into the buffers of a turn is kept and goes first in the next.
 */
#include "daemon/guest.h"

#include "kernel/proto/names.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* A receive buffer taken for this turn. */
struct buffer {
	u16 head;
	u16 first; /* segment in vsd_segments.iov */
	u16 niov;
	u32 room; /* payload */
};

struct turn {
	struct buffer buffers[VSD_TURN_CHAINS];
	u32 n;
	u32 niov;
	u32 out; /* segments in vsd_segments.out */
	u32 bytes;
	bool drained; /* the socket is empty for now */
};

/* Write the first bytes of a chain, whose payload is there. */
static void put_header(struct vsd_guest *g, const struct iovec *iov, u32 niov, struct vsp_hdr hdr)
{
	struct vsp_wire wire = vsp_encode(hdr);
	const u8 *from = (const u8 *)&wire;
	size_t left = sizeof(wire);

	for (u32 i = 0; i < niov && left; i++) {
		size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;

		memcpy(iov[i].iov_base, from, n);
		from += n;
		left -= n;
	}
	vu_mem_dirty_iov(&g->dev.mem, iov, niov, VSP_HDR_LEN + (u64)hdr.len);
	vsd_tap_packet(g, &wire, iov, niov, VSP_HDR_LEN, hdr.len);
	vsd_limit_take(&g->to_limit, g->opts->rate_kib, VSP_HDR_LEN + hdr.len, g->loop->now);
}

/* Take a buffer; false where there is none. Ones too small for a header and a byte go back at once, if they may. */
static bool take_buffer(struct vsd_guest *g, struct turn *t)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_RX];

	for (u32 skipped = 0; skipped <= r->size; skipped++) {
		struct iovec *iov = &g->loop->to.iov[t->niov];
		struct vu_pop p = vu_ring_pop(r, &g->dev.mem, true, iov, VSD_BATCH_IOV - t->niov);

		if (p.what == VU_POP_BROKEN) {
			g->mux.rejects[p.why]++;
			vsd_guest_warn(g, "rx ring is broken (%s); not served until the guest resets it",
				       vsp_reject_name(p.why));
		}
		if (p.what != VU_POP_CHAIN)
			return false;
		if (p.bytes > VSP_HDR_LEN) {
			t->buffers[t->n++] = (struct buffer){ .head = p.head,
							      .first = (u16)t->niov,
							      .niov = (u16)p.niov,
							      .room = p.bytes - VSP_HDR_LEN };
			t->niov += p.niov;
			g->mux.piece = p.bytes - VSP_HDR_LEN;
			return true;
		}
		if (t->n) {
			/* Used entries keep the order of the ring: its turn comes when those before it are used. */
			vu_ring_unpop(r, 1);
			return false;
		}
		g->mux.rejects[VSP_REJECT_SHORT]++;
		vu_ring_use(r, p.head, 0);
	}
	return false;
}

/* Add @len bytes behind the header of buffer @b to the segments of the system call. */
static void add_room(struct vsd_loop *l, struct turn *t, const struct buffer *b, u32 len)
{
	size_t skip = VSP_HDR_LEN;

	for (u32 i = 0; i < b->niov && len; i++) {
		const struct iovec *iov = &l->to.iov[b->first + i];
		size_t n;

		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		n = iov->iov_len - skip < len ? iov->iov_len - skip : len;
		l->to.out[t->out++] = (struct iovec){ .iov_base = (u8 *)iov->iov_base + skip, .iov_len = n };
		len -= (u32)n;
		skip = 0;
	}
}

/* Take buffers for what the connection may send in this turn, at most @most bytes; @enough need not be exceeded. */
static void gather(struct vsd_guest *g, struct turn *t, const struct vsock_conn *c, u32 most, u32 enough)
{
	u32 credit = vsock_conn_credit(c) < most ? vsock_conn_credit(c) : most;
	u32 packets = most == UINT32_MAX ? vsock_conn_packets(c) : VSD_TURN_CHAINS;
	s32 deficit = c->flow.deficit;

	while (credit && deficit > 0 && t->bytes < enough && t->n < VSD_TURN_CHAINS && t->n < packets) {
		struct buffer *b;
		u32 len;

		if (!take_buffer(g, t))
			return;
		b = &t->buffers[t->n - 1];
		len = b->room < VSP_MAX_PAYLOAD ? b->room : VSP_MAX_PAYLOAD;
		len = len < credit ? len : credit;
		if (t->n > 1 && t->out + b->niov > VU_CHAIN_IOV_MAX) {
			vu_ring_unpop(&g->dev.rings[VU_RING_RX], 1);
			t->n--;
			return;
		}
		b->room = len;
		add_room(g->loop, t, b, len);
		t->bytes += len;
		credit -= len;
		deficit -= (s32)(len + VSP_SCHED_PACKET_COST);
	}
}

/*
 * Bytes that the socket gave; 0: none now, or never again, and the connection knows. Less than there was room for means
 * that no more was there, and the next byte raises an event: no need to ask. Descriptors that a client sends along cut
 * a read short as well, and behind a hang-up nothing raises an event any more.
 */
static u32 fill(struct vsd_guest *g, struct turn *t, struct vsd_conn *s)
{
	struct msghdr mh = { .msg_iov = g->loop->to.out, .msg_iovlen = t->out };
	ssize_t n;

	if (s->sibling)
		return vsd_sibling_take(s, mh.msg_iov, t->out);
	n = s->fd < 0 ? 0 : recvmsg(s->fd, &mh, MSG_DONTWAIT);
	if (n > 0) {
		t->drained = (u32)n < t->bytes && !s->last && !(mh.msg_flags & MSG_CTRUNC);
		return (u32)n;
	}
	if (n == 0) {
		vsd_conn_eof(s);
	} else if (errno == EAGAIN || errno == EINTR) {
		vsock_mux_ready(&g->mux, &s->c, false);
	} else if (errno == EFAULT) {
		g->dev.mem.lost = 1;
		vsock_mux_ready(&g->mux, &s->c, false);
	} else {
		/* ECONNRESET: the peer closed without reading everything that the guest sent. */
		s->lost = true;
		vsd_conn_eof(s);
	}
	return 0;
}

/* Write the headers of the first @bytes of a turn, use its buffers and give the others back. */
static u32 finish(struct vsd_guest *g, struct turn *t, struct vsd_conn *s, u32 bytes, struct vsp_frag *frag)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_RX];
	u32 filled = 0;

	g->counters.bytes_to_guest += bytes;
	/* An empty message is a packet too. */
	for (; filled < t->n && (bytes || (frag && !filled)); filled++) {
		const struct buffer *b = &t->buffers[filled];
		u32 len = bytes < b->room ? bytes : b->room;
		u32 flags = frag ? vsp_frag_next(frag, len ? len : 1).flags : 0;

		put_header(g, &g->loop->to.iov[b->first], b->niov, vsock_mux_data(&g->mux, &s->c, len, flags));
		vu_ring_use(r, b->head, VSP_HDR_LEN + len);
		bytes -= len;
	}
	vu_ring_unpop(r, (u16)(t->n - filled));
	g->counters.packets_to_guest += filled;
	return filled;
}

/* What the host sends next. */
enum next { NEXT_MESSAGE, NEXT_NOTHING, NEXT_END };

/* Look at the next message: its length, and whether it ends a record, without taking it. */
static enum next peek(struct vsd_guest *g, struct vsd_conn *s, u32 *len, bool *eor)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct msghdr mh = { .msg_control = control.bytes, .msg_controllen = sizeof(control) };
	ssize_t n;

	*eor = false;
	if (s->sibling) {
		if (vsd_sibling_peek(s, len, eor))
			return NEXT_MESSAGE;
		vsd_sibling_moved(s);
		return NEXT_NOTHING;
	}
	n = s->fd < 0 ? 0 : recvmsg(s->fd, &mh, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
	*len = n > 0 ? (u32)n : 0;
	if (n > 0 || (n == 0 && mh.msg_controllen && s->fd >= 0))
		return NEXT_MESSAGE;
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		vsock_mux_ready(&g->mux, &s->c, false);
		return NEXT_NOTHING;
	}
	s->lost |= n < 0;
	vsd_conn_eof(s);
	return NEXT_END;
}

/* May a message of @len bytes begin? Where the guest's window will never take it, the connection ends. */
static bool may_begin(struct vsd_guest *g, struct vsd_conn *s, u32 len)
{
	if (len > vsp_txc_window(&s->c.txc) && s->c.txc.peer_buf_alloc) {
		g->counters.messages_too_big++;
		vsd_guest_warn(g, "a message of %u bytes is more than the window of guest port %u; reset", len,
			       s->c.guest_port);
		s->lost = true;
		vsock_mux_abort(&g->mux, &s->c);
		return false;
	}
	vsock_mux_need(&g->mux, &s->c, len);
	return vsock_mux_may_send(&g->mux, &s->c);
}

/* Read a message of @len bytes into the buffers of the turn, and what they cannot take into vsd_conn.rest. */
static bool read_message(struct vsd_guest *g, struct turn *t, struct vsd_conn *s, u32 len)
{
	struct vsd_loop *l = g->loop;
	struct msghdr mh = { .msg_iov = l->to.out };
	ssize_t n;

	if (len > t->bytes) {
		void *rest = vsock_tail_reserve(&s->rest, len - t->bytes);

		if (!rest) {
			g->mux.rejects[VSP_REJECT_NO_MEMORY]++;
			s->lost = true;
			vsock_mux_abort(&g->mux, &s->c);
			return false;
		}
		l->to.out[t->out++] = (struct iovec){ .iov_base = rest, .iov_len = len - t->bytes };
	}
	mh.msg_iovlen = t->out;
	n = s->sibling ? (ssize_t)vsd_sibling_take(s, l->to.out, t->out) : recvmsg(s->fd, &mh, MSG_DONTWAIT);
	if (n == (ssize_t)len)
		return true;
	g->dev.mem.lost |= n < 0 && errno == EFAULT;
	s->lost = true;
	vsock_mux_abort(&g->mux, &s->c);
	return false;
}

/* More of the message that was begun. */
static void copy_rest(struct vsd_guest *g, struct turn *t, struct vsd_conn *s)
{
	for (u32 i = 0; i < t->out && s->rest.len; i++) {
		const struct iovec *to = &g->loop->to.out[i];
		u32 n = to->iov_len < s->rest.len ? (u32)to->iov_len : s->rest.len;

		memcpy(to->iov_base, s->rest.bytes + s->rest.first, n);
		vsock_tail_drop(&s->rest, n);
	}
}

/* A turn of a seqpacket connection: one message, or a part of it. False: no buffer. */
static bool send_message(struct vsd_guest *g, struct vsd_conn *s, u32 *used)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_RX];
	struct turn t = { 0 };
	struct vsp_frag frag = { .left = s->rest.len };
	u32 bytes;

	if (!s->rest.len && (peek(g, s, &frag.left, &s->rest_eor) != NEXT_MESSAGE || !may_begin(g, s, frag.left)))
		return true;
	frag.flags = s->rest_eor ? VSP_SEQ_EOR : 0;
	if (frag.left)
		gather(g, &t, &s->c, frag.left, frag.left);
	else
		take_buffer(g, &t);
	if (!t.n)
		return false;
	/* One segment must be free for what does not fit. */
	if (t.out == VU_CHAIN_IOV_MAX && frag.left > t.bytes)
		t.bytes -= (u32)g->loop->to.out[--t.out].iov_len;
	bytes = frag.left < t.bytes ? frag.left : t.bytes;
	if (s->rest.len) {
		copy_rest(g, &t, s);
	} else if (!read_message(g, &t, s, frag.left)) {
		vu_ring_unpop(r, (u16)t.n);
		return true;
	}
	/* The rest may go in any pieces; the length of the next message is not known yet. */
	vsock_mux_need(&g->mux, &s->c, s->rest.len ? 1 : 0);
	*used += finish(g, &t, s, bytes, &frag);
	if (s->sibling)
		vsd_sibling_moved(s);
	return true;
}

/* A turn of a stream connection that has data, or its end. False: no buffer. */
static bool send_data(struct vsd_guest *g, struct vsd_conn *s, u32 *used)
{
	u32 enough = s->expect > VSD_EXPECT_MIN ? s->expect : VSD_EXPECT_MIN, bytes;
	struct turn t = { 0 };

	gather(g, &t, &s->c, UINT32_MAX, s->sibling ? UINT32_MAX : enough);
	if (!t.n)
		return false;
	bytes = fill(g, &t, s);
	s->expect = bytes < VSD_EXPECT_MAX / 2 ? 2 * bytes : VSD_EXPECT_MAX;
	*used += finish(g, &t, s, bytes, NULL);
	if (s->sibling)
		vsd_sibling_moved(s);
	else if (t.drained)
		vsock_mux_ready(&g->mux, &s->c, false);
	return true;
}

/* A turn of a connection that has something for the guest. False: no buffer. */
static bool send_some(struct vsd_guest *g, struct vsd_conn *s, u32 *used)
{
	return s->seqpacket ? send_message(g, s, used) : send_data(g, s, used);
}

static bool send_control(struct vsd_guest *g, struct vsock_turn turn, u32 *used)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_RX];
	struct turn t = { 0 };
	const struct buffer *b = &t.buffers[0];

	if (!take_buffer(g, &t))
		return false;
	put_header(g, &g->loop->to.iov[b->first], b->niov, vsock_mux_control(&g->mux, turn));
	vu_ring_use(r, b->head, VSP_HDR_LEN);
	g->counters.packets_to_guest++;
	*used += 1;
	return true;
}

/* A turn of datagrams: one of them, or a piece of one. False: no buffer. */
static bool send_datagram(struct vsd_guest *g, struct vsp_flow *f, u32 *used)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_RX];
	struct turn t = { 0 };
	const struct buffer *b = &t.buffers[0];
	struct vsp_hdr hdr;
	const u8 *bytes;

	if (!take_buffer(g, &t))
		return false;
	/* One that is dropped counts, too, or a flood of them would be one turn. */
	*used += 1;
	bytes = vsd_dgram_next(g, f, b->room, &hdr);
	if (!bytes) {
		vu_ring_unpop(r, 1);
		return true;
	}
	add_room(g->loop, &t, b, hdr.len);
	for (u32 i = 0; i < t.out; i++) {
		memcpy(g->loop->to.out[i].iov_base, bytes, g->loop->to.out[i].iov_len);
		bytes += g->loop->to.out[i].iov_len;
	}
	put_header(g, &g->loop->to.iov[b->first], b->niov, hdr);
	vu_ring_use(r, b->head, VSP_HDR_LEN + hdr.len);
	g->counters.packets_to_guest++;
	g->counters.bytes_to_guest += hdr.len;
	return true;
}

static bool take_turn(struct vsd_guest *g, struct vsock_turn turn, u32 *used)
{
	if (turn.driver)
		return send_datagram(g, turn.driver, used);
	if (turn.control)
		return send_control(g, turn, used);
	return send_some(g, vsd_conn_of(turn.conn), used);
}

bool vsd_to_guest(struct vsd_guest *g)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_RX];
	u32 used = 0;

	g->to_waits = false;
	if (g->starved || !vu_ring_live(r))
		return false;
	while (used < VSD_TURN_CHAINS && vsd_to_allowed(g)) {
		struct vsock_turn turn = vsock_mux_next(&g->mux);
		bool sent;

		if (!turn.any)
			break;
		/* Nothing may come between the pieces of a datagram. */
		if (g->dgrams.midway)
			turn.driver = g->dgrams.midway;
		sent = take_turn(g, turn, &used);
		if (!sent) {
			g->starved = !vu_ring_await(r);
			break;
		}
	}
	vu_ring_publish(r);
	if (g->starved || !vsock_mux_next(&g->mux).any || !vu_ring_live(r))
		return false;
	g->to_waits = !vsd_to_allowed(g);
	return !g->to_waits;
}
