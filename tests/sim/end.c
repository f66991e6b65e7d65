// SPDX-License-Identifier: BSD-2-Clause
/*
 * end.c - an engine at work, as the daemon drives it (from_guest.c, to_guest.c), without bytes
 */
#include "sim.h"

enum {
	BATCH = 16, /* packets in a turn of an end */
};

/*
 * Credit as the wire says it, unwrapped: what the header says of the direction @d, whose counters start at @base, was
 * @acked and @promised.
 */
static u64 unwrap(u64 near, u32 base, u32 wire)
{
	u32 behind = (u32)near + base - wire;

	return near - behind;
}

/* An engine put this header on its ring: the other direction's reader has promised. */
static void note_promise(struct sim_world *w, struct sim_app *a, struct vsp_hdr hdr)
{
	struct sim_direction *d = &sim_flow_of(a)->dir[!a->end->side];
	u64 acked = unwrap(d->read, sim_flow_of(a)->base[!a->end->side], hdr.fwd_cnt);

	SIM_CHECK(w, acked == d->read);
	if (d->offered < acked + hdr.buf_alloc)
		d->offered = acked + hdr.buf_alloc;
	if (d->window_max < hdr.buf_alloc)
		d->window_max = hdr.buf_alloc;
}

/* An honest header reached the writer: this is what it may send from now on. */
static void note_credit(struct sim_app *a, const struct vsp_hdr *hdr)
{
	struct sim_direction *d = &sim_flow_of(a)->dir[a->end->side];

	if (hdr->op == VSP_OP_RST)
		return;
	d->acked = unwrap(d->sent, sim_flow_of(a)->base[a->end->side], hdr->fwd_cnt);
	d->window = hdr->buf_alloc;
	if (d->promised < d->acked + hdr->buf_alloc)
		d->promised = d->acked + hdr->buf_alloc;
}

/* A lie excuses whom it is about; of honest ends only those of the same flow have anything to say to each other. */
static void check_address(struct sim_end *e, struct sim_app *a, const struct sim_packet *p)
{
	struct sim_world *w = e->world;

	if (p->forged) {
		SIM_CHECK(w, w->flows[p->flow].target);
		w->flows[p->flow].excuses |= SIM_LIED;
		/* It may have ended one end of the flow only: the other has to notice by itself. */
		for (u32 i = 0; i < SIM_ENDS; i++) {
			struct sim_app *hit = w->flows[p->flow].app[i];

			if (hit && w->calm && hit->wake > w->now)
				hit->wake = w->now;
		}
		/* Its ports may have been used again meanwhile. */
		if (a)
			sim_flow_of(a)->excuses |= SIM_LIED;
		return;
	}
	if (!a || p->flow < 0 || p->flow == a->flow)
		return;
	/* The same here: an end of the flow before is left only where something went wrong. */
	SIM_CHECK(w, w->flows[p->flow].excuses || sim_flow_of(a)->excuses);
	sim_flow_of(a)->excuses |= w->flows[p->flow].excuses;
}

static u32 unread(const struct sim_app *a)
{
	const struct sim_direction *in = &sim_flow_of(a)->dir[!a->end->side];

	return (u32)(in->received - in->read);
}

/* The engine dropped bytes that nobody will read. */
static void discard(struct sim_app *a, u32 len)
{
	struct sim_direction *in = &sim_flow_of(a)->dir[!a->end->side];

	in->received += len;
	in->read += len;
}

/* Deal with one packet. False: it stays on the ring for now. */
static bool packet(struct sim_end *e, const struct sim_packet *p)
{
	struct sim_world *w = e->world;
	struct vsp_decoded d = vsp_decode(&p->wire, p->have, e->mux.filter);
	enum vsock_arrival what;
	struct vsock_conn *c;
	struct sim_app *a;
	bool closing;

	c = vsock_mux_find(&e->mux, &d);
	a = c ? sim_app_of(c) : NULL;
	sim_trace(w, "%s takes op %u of %u:%u-%u:%u len %u flags %x credit %u+%u%s", e->side ? "guest" : "host",
		  d.hdr.op, d.hdr.src.cid, d.hdr.src.port, d.hdr.dst.cid, d.hdr.dst.port, d.hdr.len, d.hdr.flags,
		  d.hdr.fwd_cnt, d.hdr.buf_alloc, p->forged ? " (forged)" : "");
	check_address(e, a, p);
	/* The answer to a lie may be as strange as the lie. */
	SIM_CHECK(w, d.why == VSP_OK || p->forged || (p->flow < 0 && w->faults.lie));
	if (a && !p->forged && p->flow == a->flow && d.hdr.op != VSP_OP_REQUEST)
		note_credit(a, &d.hdr);
	closing = a && a->c.state == VSP_CLOSING;
	what = vsock_mux_arrive(&e->mux, c, &d, a ? unread(a) : 0);
	/* What a refused packet carried is missing: its connection does not go on. */
	SIM_CHECK(w, d.why == VSP_OK || !a || a->c.state == VSP_CLOSED);
	if (closing && a->c.state == VSP_CLOSING && d.hdr.op == VSP_OP_RW)
		discard(a, d.hdr.len);
	switch (what) {
	case VSOCK_DELIVER:
		if (!w->calm && w->faults.back && d.hdr.len && sim_once_in(&w->rng, w->faults.back)) {
			vsock_mux_unarrive(c, d.hdr.len);
			return false;
		}
		sim_app_deliver(a, &d.hdr, p);
		break;
	case VSOCK_SPAWN:
		sim_end_news(e);
		sim_app_spawn(e, &d.hdr, p);
		break;
	default:
		break;
	}
	sim_end_news(e);
	return true;
}

void sim_end_from_peer(struct sim_end *e)
{
	struct sim_world *w = e->world;

	for (u32 i = 0; i < BATCH; i++) {
		struct sim_packet p;

		/* What might have to be answered waits until answers have left. */
		if (!vsp_budget_left(&e->mux.budget))
			return;
		if (!e->in->n) {
			sim_ring_wait_packet(e->in);
			return;
		}
		p = sim_ring_take(w, e->in);
		if (!packet(e, &p)) {
			sim_ring_put_back(e->in);
			return;
		}
	}
}

static void put(struct sim_end *e, struct sim_app *a, struct vsp_hdr hdr, u64 offset)
{
	struct sim_packet p = {
		.wire = vsp_encode(hdr), .have = VSP_HDR_LEN + hdr.len, .flow = a ? a->flow : -1, .offset = offset
	};

	if (a)
		note_promise(e->world, a, hdr);
	sim_trace(e->world, "%s puts op %u of %u:%u-%u:%u len %u flags %x credit %u+%u", e->side ? "guest" : "host",
		  hdr.op, hdr.src.cid, hdr.src.port, hdr.dst.cid, hdr.dst.port, hdr.len, hdr.flags, hdr.fwd_cnt,
		  hdr.buf_alloc);
	sim_ring_put(e->world, e->out, &p);
}

/* A packet of data; what credit says is checked against what was seen, not against the ledger. */
static void put_data(struct sim_end *e, struct sim_app *a, u32 len, u32 flags)
{
	struct sim_flow *f = sim_flow_of(a);
	struct sim_direction *d = &f->dir[e->side];
	struct sim_world *w = e->world;
	u64 offset = d->sent;

	d->sent += len;
	d->packets++;
	SIM_CHECK(w, !a->shut && !a->mute);
	if (!(f->excuses & SIM_LIED)) {
		SIM_CHECK(w, d->sent <= d->promised);
		SIM_CHECK(w, !len || d->sent - d->acked <= d->window);
	}
	put(e, a, vsock_mux_data(&e->mux, &a->c, len, flags), offset);
}

/* A turn of a stream: as many packets as the ring, its credit and its deficit allow. */
static void send_stream(struct sim_end *e, struct sim_app *a)
{
	u32 credit = vsock_conn_credit(&a->c), packets = vsock_conn_packets(&a->c);
	s32 deficit = a->c.flow.deficit;

	while (credit && packets && deficit > 0 && !sim_ring_full(e->out)) {
		u64 left = a->written - sim_flow_of(a)->dir[e->side].sent;
		u32 len = left < e->out->piece ? (u32)left : e->out->piece;

		if (!left)
			break;
		len = len < credit ? len : credit;
		put_data(e, a, len, 0);
		credit -= len;
		packets--;
		deficit -= (s32)(len + VSP_SCHED_PACKET_COST);
	}
	sim_app_sent(a, false);
}

static void check_fits(const struct sim_app *a, u32 len)
{
	const struct sim_flow *f = sim_flow_of(a);
	const struct sim_direction *d = &f->dir[a->end->side];

	SIM_CHECK(a->end->world, (f->excuses & SIM_LIED) || !len || d->sent + len - d->acked <= d->window);
}

/* A turn of a seqpacket connection: one message, or a part of it. */
static void send_message(struct sim_end *e, struct sim_app *a)
{
	struct sim_world *w = e->world;
	s32 deficit = a->c.flow.deficit;
	u32 len;

	if (!a->c.midway) {
		if (!sim_app_next_message(a, &len))
			return;
		if (len > vsp_txc_window(&a->c.txc) && a->c.txc.peer_buf_alloc) {
			sim_flow_of(a)->excuses |= SIM_TOO_BIG;
			vsock_mux_abort(&e->mux, &a->c);
			return;
		}
		/* Linux begins a message with any credit; we do not. */
		vsock_mux_need(&e->mux, &a->c, sim_flow_of(a)->eager && len ? 1 : len);
		if (!vsock_mux_may_send(&e->mux, &a->c))
			return;
		if (!sim_flow_of(a)->eager)
			check_fits(a, len);
		a->frag = (struct vsp_frag){ .left = len };
	}
	do {
		struct vsp_piece p;

		/* The window may have shrunk; the rest goes in any pieces. */
		len = vsock_conn_credit(&a->c) < e->out->piece ? vsock_conn_credit(&a->c) : e->out->piece;
		if (a->frag.left && !len)
			return;
		p = vsp_frag_next(&a->frag, len ? len : 1);
		vsock_mux_need(&e->mux, &a->c, p.last ? 0 : 1);
		put_data(e, a, p.len, p.flags);
		sim_app_sent(a, p.last);
		deficit -= (s32)(p.len + VSP_SCHED_PACKET_COST);
		if (p.last)
			return;
	} while (deficit > 0 && !sim_ring_full(e->out));
	SIM_CHECK(w, a->c.midway);
}

void sim_end_to_peer(struct sim_end *e)
{
	for (u32 i = 0; i < BATCH; i++) {
		struct vsock_turn turn = vsock_mux_next(&e->mux);

		if (!turn.any)
			return;
		if (sim_ring_full(e->out)) {
			sim_ring_wait_room(e->out);
			return;
		}
		if (turn.control)
			put(e, turn.conn ? sim_app_of(turn.conn) : NULL, vsock_mux_control(&e->mux, turn), 0);
		else if (turn.conn->type == VSP_TYPE_STREAM)
			send_stream(e, sim_app_of(turn.conn));
		else
			send_message(e, sim_app_of(turn.conn));
		sim_end_news(e);
	}
}

void sim_end_news(struct sim_end *e)
{
	struct vsock_conn *c;

	while ((c = vsock_mux_news(&e->mux)) != NULL)
		sim_app_news(sim_app_of(c));
}

void sim_end_expire(struct sim_end *e)
{
	struct vsock_timer *t;

	while ((t = vsock_timers_expire(&e->mux.timers, e->world->now)) != NULL) {
		struct vsock_conn *c = (struct vsock_conn *)(void *)((u8 *)t - offsetof(struct vsock_conn, timer));

		sim_trace(e->world, "%s: deadline of port %u in state %u", e->side ? "guest" : "host", c->host_port,
			  c->state);
		vsock_mux_timeout(&e->mux, c);
		sim_end_news(e);
	}
}
