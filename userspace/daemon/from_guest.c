// SPDX-License-Identifier: BSD-2-Clause
/*
 * from_guest.c - packets of the guest to Unix sockets, straight from guest memory
 *
 * A batch takes chains off the ring in order, judges each header from a private copy, and collects the payload of each
 * connection. At the end each connection's payload goes out with one system call, and all chains are given back with
 * one publication. What a socket does not take is copied, so that a slow reader never holds the ring for long; credit
 * bounds the copy.
 */
#include "daemon/guest.h"

#include "kernel/proto/names.h"

#include <string.h>

/**
 * struct batch - the current batch, beside what struct vsd_loop holds
 * @niov: segments
 * @packets: packets with payload
 * @dgrams: datagrams, or pieces of some
 * @taken: chains
 * @only: the connection of all of them
 * @mixed: there is none: chains of others, or without payload, were among them
 * @left: chains at the end of the batch that were left on the ring
 * @late: datagrams at the end of it whose receivers take nothing now
 * @hurry: such are taken nevertheless
 */
struct batch {
	u32 niov;
	u32 packets;
	u32 dgrams;
	u32 taken;
	struct vsd_conn *only;
	bool mixed;
	u16 left;
	u16 late;
	bool hurry;
};

/*
 * The socket took @done bytes of the batch, which is of this connection alone. The packet in which it stopped is kept;
 * those behind it go back to the ring, so that they need not be copied, for a short while: then they are taken in any
 * case, and as soon as there is a chain of anybody else behind them.
 */
static void hold(struct vsd_guest *g, struct batch *b, struct vsd_conn *s, u32 done)
{
	struct vsd_loop *l = g->loop;
	u32 bytes = 0, niov = 0, i = s->batch_first;

	for (; i != VSD_NO_PACKET && bytes < done; i = l->packets[i].next) {
		bytes += l->packets[i].len;
		niov += l->packets[i].niov;
	}
	if (bytes > done)
		vsd_conn_keep(s, l->from.out, niov, done);
	if (i == VSD_NO_PACKET || s->c.state != VSP_ESTABLISHED)
		return;
	b->left = (u16)(b->packets - i);
	vsock_mux_unarrive(&s->c, s->batch_bytes - bytes);
	vu_ring_unuse(&g->dev.rings[VU_RING_TX], b->left);
	g->tap.again += b->left;
	vsd_limit_give(&g->from_limit, g->opts->rate_kib, s->batch_bytes - bytes + (u64)b->left * VSP_HDR_LEN);
	g->counters.packets_from_guest -= b->left;
	if (g->held != s || done)
		g->held_until = g->loop->now + VSD_HOLD_MS * VSD_MS;
	g->held = s;
}

static void flush_conn(struct vsd_guest *g, struct batch *b, struct vsd_conn *s)
{
	struct vsd_loop *l = g->loop;
	u32 niov = 0, done;

	for (u32 i = s->batch_first; i != VSD_NO_PACKET; i = l->packets[i].next) {
		const struct vsd_packet *p = &l->packets[i];

		memcpy(&l->from.out[niov], &l->from.iov[p->first], p->niov * sizeof(l->from.out[0]));
		niov += p->niov;
	}
	done = s->batch_bytes ? vsd_conn_offer(s, l->from.out, niov, s->batch_bytes) : 0;
	if (done < s->batch_bytes) {
		bool may_hold = !b->mixed && b->taken == b->packets && (g->held != s || g->loop->now < g->held_until);

		if (may_hold)
			hold(g, b, s, done);
		else
			vsd_conn_keep(s, l->from.out, niov, done);
	}
	s->batch_first = VSD_NO_PACKET;
	s->batch_bytes = 0;
	s->batch_iov = 0;
}

static void flush_all(struct vsd_guest *g, struct batch *b)
{
	while (g->batch) {
		struct vsd_conn *s = g->batch;

		g->batch = s->batch_next;
		flush_conn(g, b, s);
		s->batched = false;
		vsd_conn_reap(s);
	}
	if (!b->left)
		g->held = NULL;
}

/* Copy the header out of the chain; what is left of @iov is the payload. Returns bytes copied. */
static u32 split_header(struct iovec *iov, u32 niov, struct vsp_wire *wire)
{
	u32 have = 0;

	for (u32 i = 0; i < niov && have < VSP_HDR_LEN; i++) {
		size_t n = iov[i].iov_len < VSP_HDR_LEN - have ? iov[i].iov_len : VSP_HDR_LEN - have;

		memcpy((u8 *)wire + have, iov[i].iov_base, n);
		iov[i].iov_base = (u8 *)iov[i].iov_base + n;
		iov[i].iov_len -= n;
		have += (u32)n;
	}
	return have;
}

/* Cut the segments to @len bytes, empty ones out. Returns how many are left, moved to the front. */
static u32 trim(struct iovec *iov, u32 niov, u32 len)
{
	u32 kept = 0;

	for (u32 i = 0; i < niov && len; i++) {
		size_t n = iov[i].iov_len < len ? iov[i].iov_len : len;

		if (!n)
			continue;
		iov[kept++] = (struct iovec){ .iov_base = iov[i].iov_base, .iov_len = n };
		len -= (u32)n;
	}
	return kept;
}

static void collect(struct vsd_guest *g, struct batch *b, struct vsd_conn *s, u32 niov, u32 len)
{
	struct vsd_loop *l = g->loop;
	struct vsd_packet *p = &l->packets[b->packets];

	if (s->batch_iov + niov > VU_CHAIN_IOV_MAX) {
		b->mixed = true; /* what is flushed in the middle cannot go back */
		flush_conn(g, b, s);
	}
	b->mixed |= b->only && b->only != s;
	b->only = s;
	*p = (struct vsd_packet){ .first = (u16)b->niov, .niov = (u16)niov, .len = len, .next = VSD_NO_PACKET };
	if (!s->batched) {
		s->batched = true;
		s->batch_first = VSD_NO_PACKET;
		s->batch_next = g->batch;
		g->batch = s;
	}
	if (s->batch_first == VSD_NO_PACKET)
		s->batch_first = (u16)b->packets;
	else
		l->packets[s->batch_last].next = (u16)b->packets;
	s->batch_last = (u16)b->packets;
	s->batch_iov += niov;
	s->batch_bytes += len;
	b->niov += niov;
	b->packets++;
}

/* Behind AF_VSOCK all addresses are the host's that no other guest has: some guests expect it at one of them. */
static bool to_host(struct vsd_guest *g, u32 cid)
{
	return cid == g->mux.params.host_cid || (g->opts->forward_cid != VSP_CID_ANY && !vsd_sibling_find(g, cid));
}

static void spawn(struct vsd_guest *g, const struct vsp_hdr *hdr)
{
	struct vsd_conn *s;

	/* The guest sees what it sees where nobody listens. */
	if (g->draining || !vsd_policy_allows(&g->opts->from_guest, hdr->dst.port)) {
		g->counters.denied++;
		vsd_guest_warn(g, "connection to %u:%u refused: not for this guest", hdr->dst.cid, hdr->dst.port);
		vsock_mux_refuse(&g->mux, hdr, VSP_REJECT_NO_FLOW);
		return;
	}
	s = vsd_conn_new(g);
	if (!s) {
		vsock_mux_refuse(&g->mux, hdr, VSP_REJECT_BACKLOG);
		vsd_guest_warn(
			g, "connection to %u:%u refused: %u connections are open; see --max-connections, --max-memory",
			hdr->dst.cid, hdr->dst.port, g->conns);
		return;
	}
	s->seqpacket = hdr->type == VSP_TYPE_SEQPACKET;
	s->dial_until = g->loop->now + g->opts->connect_ms * VSD_MS;
	vsock_mux_spawn(&g->mux, &s->c, hdr);
	if (to_host(g, hdr->dst.cid))
		vsd_host_dial(s);
	else
		vsd_sibling_dial(s);
}

static void packet(struct vsd_guest *g, struct batch *b, const struct vsp_decoded *d, u32 niov)
{
	const struct vsp_hdr *hdr = &d->hdr;
	bool good = d->why == VSP_OK;
	struct vsock_conn *c;
	struct vsd_conn *s;
	enum vsock_arrival what;

	if (good && hdr->type == VSP_TYPE_DGRAM) {
		b->mixed = true;
		b->dgrams++;
		niov = trim(&g->loop->from.iov[b->niov], niov, hdr->len);
		vsd_dgram_arrive(g, hdr, &g->loop->from.iov[b->niov], niov);
		return;
	}
	vsd_dgram_interrupt(g);
	if (good && vsd_dgram_denied(g, hdr))
		return;
	c = vsock_mux_find(&g->mux, d);
	s = c ? vsd_conn_of(c) : NULL;
	if (!c && good && !to_host(g, hdr->dst.cid) && !vsd_sibling_find(g, hdr->dst.cid)) {
		vsock_mux_refuse(&g->mux, hdr, VSP_REJECT_DST_CID);
		return;
	}
	/* Any other packet of a connection comes after the payload before it. */
	if (s && s->batched && (!good || hdr->op != VSP_OP_RW)) {
		b->mixed = true;
		flush_conn(g, b, s);
	}
	what = vsock_mux_arrive(&g->mux, c, d, s ? vsd_conn_unread(s) : 0);
	if (s && s->sibling)
		vsd_sibling_account(s);
	switch (what) {
	case VSOCK_DELIVER:
		assert(s);
		niov = trim(&g->loop->from.iov[b->niov], niov, hdr->len);
		if (s->seqpacket)
			vsd_record_arrive(s, hdr, &g->loop->from.iov[b->niov], niov);
		else
			collect(g, b, s, niov, hdr->len);
		break;
	case VSOCK_SPAWN:
		spawn(g, hdr);
		break;
	default:
		/* Payload right behind the answer needs somebody to go to. */
		if (s && (c->facts & VSOCK_OPENED))
			vsd_conn_news(s);
		break;
	}
}

/* To whoever looks on; once, though it was on the ring twice. */
static void show(struct vsd_guest *g, const struct vsp_wire *wire, const struct iovec *iov, const struct vu_pop *p)
{
	u32 there = p->bytes - VSP_HDR_LEN, said = le32_to_cpu(wire->len);

	if (g->tap.again)
		g->tap.again--;
	else
		vsd_tap_packet(g, wire, iov, p->niov, 0, said < there ? said : there);
}

enum took { TOOK_ONE, TOOK_NONE, TOOK_NO_ROOM };

/*
 * Datagrams whose receiver takes nothing now stay on the ring for a short while, so that a flood is not faster than who
 * reads it. But only as long as no chain of anybody else is behind them: then they are taken from the first on, to be
 * kept or dropped. True: this chain was dealt with.
 */
static bool wait_for_receiver(struct vsd_guest *g, struct batch *b, const struct vsp_decoded *d)
{
	bool late = d->why == VSP_OK && d->hdr.type == VSP_TYPE_DGRAM && vsd_dgram_must_wait(g, &d->hdr);

	if (b->hurry)
		return false;
	if (late) {
		b->mixed = true;
		b->late++;
	} else if (b->late) {
		vu_ring_unpop(&g->dev.rings[VU_RING_TX], b->late + 1);
		b->late = 0;
		b->hurry = true;
		late = true;
	}
	return late;
}

static enum took take(struct vsd_guest *g, struct batch *b)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_TX];
	struct iovec *iov = &g->loop->from.iov[b->niov];
	struct vu_pop p = vu_ring_pop(r, &g->dev.mem, false, iov, VSD_BATCH_IOV - b->niov);
	struct vsp_wire wire;
	struct vsp_decoded d;
	u32 have;

	if (p.what == VU_POP_NO_ROOM)
		return TOOK_NO_ROOM;
	if (p.what == VU_POP_BROKEN) {
		g->mux.rejects[p.why]++;
		vsd_guest_warn(g, "tx ring is broken (%s); not served until the guest resets it",
			       vsp_reject_name(p.why));
	}
	if (p.what != VU_POP_CHAIN)
		return TOOK_NONE;
	have = split_header(iov, p.niov, &wire);
	d = vsp_decode(&wire, p.bytes, g->mux.filter);
	if (wait_for_receiver(g, b, &d))
		return TOOK_ONE;
	if (have == VSP_HDR_LEN)
		show(g, &wire, iov, &p);
	packet(g, b, &d, p.niov);
	vsd_limit_take(&g->from_limit, g->opts->rate_kib, p.bytes, g->loop->now);
	g->counters.packets_from_guest++;
	vu_ring_use(r, p.head, 0);
	b->taken++;
	return TOOK_ONE;
}

bool vsd_from_guest(struct vsd_guest *g)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_TX];
	struct batch b = { .hurry = g->dgrams.held_until && g->loop->now >= g->dgrams.held_until };
	enum took t = TOOK_ONE;
	bool stopped = false, limited = false;

	g->from_waits = false;
	if (!g->from_due || !vu_ring_live(r))
		return false;
	vu_ring_hush(r);
	/* Each datagram is a system call: of these a batch has fewer. */
	for (u32 n = 0; n < VSD_BATCH_PACKETS && b.dgrams < VSD_DGRAM_BATCH && t == TOOK_ONE; n++) {
		/* A packet that might have to be answered waits until answers have left. */
		stopped = !vsp_budget_left(&g->mux.budget);
		limited = !vsd_from_allowed(g);
		if (stopped || limited)
			break;
		t = take(g, &b);
	}
	flush_all(g, &b);
	if (b.late) {
		vu_ring_unpop(r, b.late);
		b.left = b.late;
	}
	vsd_dgram_hold(g, b.late);
	vu_ring_publish(r);
	if (stopped) {
		g->mux.rejects[VSP_REJECT_REPLIES]++;
		return false;
	}
	/* It is looked at again when its rate allows; nothing rings for that. */
	g->from_waits = limited;
	if (limited)
		return false;
	/* While we come back by ourselves the guest need not ring. */
	if (t == TOOK_NONE && g->loop->polling && !b.left)
		return false;
	if (t == TOOK_NONE)
		g->from_due = vu_ring_await_past(r, b.left);
	else if (b.left)
		g->from_due = false;
	return g->from_due;
}
