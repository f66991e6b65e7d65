// SPDX-License-Identifier: BSD-2-Clause
/*
 * sibling.c - connections between guests, from memory to memory
 *
 * Such a connection is two of the engine's, one in each guest, that know each other: each guest deals with a peer that
 * keeps the rules, whatever the other one does. Payload is copied from the ring of one into the buffers of the other
 * when the other's scheduler gives the connection its turn. What finds no buffer or no credit waits on the sender's
 * ring for a moment or is copied to vsd_conn.tail, as for a Unix socket.
 *
 * Credit of a stream is the reader's: a guest is told that bytes were read when the other one says so, not when they
 * were moved, and may send what the other has room for; but never more than our own window beyond what the other has
 * got. That bounds what a guest that takes nothing makes us keep, and the sender is charged for it. Messages are put
 * together here before they go on, so their window is ours alone: one that depends on the reader might close in the
 * middle of a message.
 *
 * Both guests are served by one thread. Facts about either end come as news of its own guest's engine, so nothing here
 * is called while the other guest's connections are walked.
 */
#include "daemon/guest.h"

#include <string.h>

static struct vsock_mux *mux_of(const struct vsd_conn *s)
{
	return &s->watch.guest->mux;
}

struct vsd_guest *vsd_sibling_find(struct vsd_guest *g, u32 cid)
{
	struct vsd_guest *to = g->loop->guests;

	while (to && to->opts->guest_cid != cid)
		to = to->next;
	return to && to != g && vsd_names_meet(&g->opts->groups, &to->opts->groups) ? to : NULL;
}

/* Is a driver there that knows this type? */
static bool ready_for(const struct vsd_guest *g, u16 type)
{
	return vu_ring_live(&g->dev.rings[VU_RING_RX]) && (g->mux.filter.types & VSP_TYPES(type));
}

/* The end in the guest @to of a connection from @s. NULL: refused. */
static struct vsd_conn *begin(struct vsd_conn *s, struct vsd_guest *to)
{
	struct vsp_addr from = { .cid = s->c.guest_cid, .port = s->c.guest_port };
	struct vsp_addr at = { .cid = s->c.host_cid, .port = s->c.host_port };
	struct vsd_conn *p = NULL;

	if (!to || !ready_for(to, s->c.type))
		return NULL;
	if (to->draining || !vsd_policy_allows(&to->opts->to_guest, s->c.host_port)) {
		to->counters.denied++;
		vsd_guest_warn(to, "guest %u refused: port %u is not for others", from.cid, s->c.host_port);
		return NULL;
	}
	if (to->from_siblings < (to->opts->conns_max + VSD_SIBLING_PART - 1) / VSD_SIBLING_PART)
		p = vsd_conn_new(to);
	if (!p) {
		to->mux.rejects[VSP_REJECT_BACKLOG]++;
		vsd_guest_warn(to,
			       "connection of guest %u refused: too many are open; see --max-connections, --max-memory",
			       from.cid);
		return NULL;
	}
	vsd_guest_wake(to);
	p->sibling = true;
	p->seqpacket = s->seqpacket;
	p->from_sibling = true;
	to->from_siblings++;
	if (vsock_mux_connect_from(&to->mux, &p->c, s->c.type, from, at))
		return p;
	vsd_conn_reap(p);
	return NULL;
}

/*
 * Does the sender @p wait for what the reader @s need not tell? Linux keeps no more underway than its own window,
 * whatever it is offered; and a reader that has room for more need not say anything when it has read all of that.
 */
static bool must_ask(const struct vsd_conn *p, const struct vsd_conn *s)
{
	u32 own = p->c.txc.peer_buf_alloc;

	if (p->c.state != VSP_ESTABLISHED || (p->c.hints & VSP_SHUTDOWN_SEND) || !vsp_txc_unacked(&s->c.txc))
		return false;
	return p->c.rxc.asked || (own < s->c.txc.peer_buf_alloc && vsp_rxc_unread(&p->c.rxc) > own / 2);
}

/* What the sender @p may have underway: both bounds only ever move forward, however the reader changes its window. */
static u32 window(const struct vsd_conn *p, const struct vsd_conn *s)
{
	u32 ours = p->c.window, theirs = s->c.txc.peer_buf_alloc;
	u32 on_ring = vsp_txc_unacked(&s->c.txc);

	if (theirs > VSP_WINDOW_MAX)
		theirs = VSP_WINDOW_MAX;
	return theirs < ours || theirs - ours < on_ring ? theirs : ours + on_ring;
}

/* @p sent, or @s read. */
static void account(struct vsd_conn *p, struct vsd_conn *s)
{
	u32 read = s->c.txc.peer_fwd_cnt - s->relayed;

	s->relayed += read;
	if (p->deaf || p->seqpacket)
		return;
	vsd_guest_wake(p->watch.guest);
	vsock_mux_relay(mux_of(p), &p->c, read, window(p, s));
	vsd_guest_wake(s->watch.guest);
	vsock_mux_await(mux_of(s), &s->c, must_ask(p, s));
}

void vsd_sibling_account(struct vsd_conn *s)
{
	if (!s->peer)
		return;
	account(s->peer, s);
	account(s, s->peer);
}

void vsd_sibling_dial(struct vsd_conn *s)
{
	struct vsd_conn *p = begin(s, vsd_sibling_find(s->watch.guest, s->c.host_cid));

	s->sibling = true;
	if (!p) {
		s->watch.guest->counters.refused++;
		vsock_mux_deny(mux_of(s), &s->c);
		return;
	}
	s->peer = p;
	p->peer = s;
	s->phase = VSD_PHASE_WAIT;
	p->phase = VSD_PHASE_WAIT;
	account(p, s);
}

void vsd_sibling_opened(struct vsd_conn *s)
{
	struct vsd_conn *p = s->peer;

	/* The one that asked is told by this. */
	if (s->phase != VSD_PHASE_WAIT || !p)
		return;
	s->phase = VSD_PHASE_OPEN;
	p->phase = VSD_PHASE_OPEN;
	vsd_guest_wake(p->watch.guest);
	vsock_mux_accept(mux_of(p), &p->c);
}

void vsd_sibling_part(struct vsd_conn *s, bool clean)
{
	struct vsd_conn *p = s->peer;

	if (!p)
		return;
	s->peer = NULL;
	p->peer = NULL;
	vsd_guest_wake(p->watch.guest);
	if (p->phase == VSD_PHASE_LINGER)
		vsd_conn_hang_up(p);
	else if (clean || p->c.state != VSP_ESTABLISHED)
		vsock_mux_close(mux_of(p), &p->c);
	else if (p->c.state == VSP_ESTABLISHED)
		vsock_mux_abort(mux_of(p), &p->c);
	vsd_conn_reap(p);
}

/* Is something of this guest's underway to the other? */
static bool underway(const struct vsd_conn *s)
{
	return s->tail.len || (s->peer && s->peer->rest.len);
}

/* The other guest has everything. */
static void arrived(struct vsd_conn *s)
{
	struct vsd_conn *p = s->peer;

	if (s->phase == VSD_PHASE_LINGER) {
		vsd_sibling_part(s, true);
		vsd_conn_hang_up(s);
		vsd_conn_reap(s);
		return;
	}
	if (!(s->c.hints & VSP_SHUTDOWN_SEND))
		return;
	vsd_guest_wake(p->watch.guest);
	vsock_mux_shut(mux_of(p), &p->c, VSP_SHUTDOWN_SEND);
	vsd_guest_wake(s->watch.guest);
	vsock_mux_drained(mux_of(s), &s->c);
}

/* The other guest reads no more: what is underway to it is dropped, and this one told. */
static void deafen(struct vsd_conn *s)
{
	vsd_guest_wake(s->watch.guest);
	s->deaf = true;
	vsd_conn_release(s);
	vsock_mux_consumed(mux_of(s), &s->c, vsp_rxc_unread(&s->c.rxc));
	vsock_mux_await(mux_of(s->peer), &s->peer->c, false);
	vsd_conn_drop(s);
	vsock_tail_clear(&s->peer->rest);
	if (s->phase == VSD_PHASE_OPEN)
		vsock_mux_shut(mux_of(s), &s->c, VSP_SHUTDOWN_RCV);
	if (s->phase == VSD_PHASE_LINGER || (s->c.hints & VSP_SHUTDOWN_SEND))
		arrived(s);
}

void vsd_sibling_hinted(struct vsd_conn *s)
{
	struct vsd_conn *p = s->peer;

	if (!p)
		return;
	if ((s->c.hints & VSP_SHUTDOWN_SEND) && s->part.len) {
		s->lost = true;
		vsock_mux_abort(mux_of(s), &s->c);
		return;
	}
	if ((s->c.hints & VSP_SHUTDOWN_SEND) && !underway(s))
		arrived(s);
	if ((s->c.hints & VSP_SHUTDOWN_RCV) && s->peer == p && !p->deaf)
		deafen(p);
}

void vsd_sibling_over(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;
	bool clean = s->c.err == VSP_ERR_NONE && !s->lost;

	if (s->phase == VSD_PHASE_WAIT)
		g->counters.refused++;
	if (clean && s->phase == VSD_PHASE_OPEN && s->peer && underway(s)) {
		s->phase = VSD_PHASE_LINGER;
		vsock_timer_start(&g->mux.timers, &s->c.timer, g->loop->now + g->opts->linger_ms * VSD_MS);
		return;
	}
	vsd_sibling_part(s, clean);
	vsd_conn_hang_up(s);
}

/* Let the other guest have its turns while something is offered. */
static void offer(struct vsd_conn *s, struct vsd_offer *o)
{
	struct vsd_conn *p = s->peer;
	struct vsd_guest *to = p->watch.guest;
	bool more = true;

	s->offer = o;
	vsd_guest_wake(to);
	vsock_mux_ready(&to->mux, &p->c, true);
	for (u32 i = 0; i < VSD_ROUNDS && more && s->peer && (s->seqpacket ? !o->taken : o->left > 0); i++)
		more = vsd_to_guest(to);
	s->offer = NULL;
}

/* Does the other guest read? */
static bool heard(const struct vsd_conn *s)
{
	const struct vsd_conn *p = s->peer;

	return p && !s->deaf && p->c.state == VSP_ESTABLISHED && !(p->c.hints & VSP_SHUTDOWN_RCV);
}

u32 vsd_sibling_offer(struct vsd_conn *s, const struct iovec *iov, u32 niov, u32 bytes)
{
	struct vsd_offer o = { .iov = iov, .niov = niov, .left = bytes };

	if (!heard(s)) {
		vsock_mux_consumed(mux_of(s), &s->c, bytes);
		return bytes;
	}
	if (underway(s))
		return 0;
	offer(s, &o);
	return bytes - o.left;
}

bool vsd_sibling_offer_message(struct vsd_conn *s, const struct iovec *iov, u32 niov, u32 len, bool eor)
{
	struct vsd_offer o = { .iov = iov, .niov = niov, .left = len, .eor = eor };

	if (!heard(s)) {
		vsock_mux_consumed(mux_of(s), &s->c, len);
		return true;
	}
	if (underway(s))
		return false;
	offer(s, &o);
	return o.taken;
}

/* Move at most @room bytes to @to. */
static u32 take_offered(struct vsd_offer *o, u8 *to, u32 room)
{
	u32 done = 0;

	while (done < room && o->left) {
		u32 n = (u32)o->iov->iov_len - o->skip;

		n = n < room - done ? n : room - done;
		memcpy(to + done, (const u8 *)o->iov->iov_base + o->skip, n);
		done += n;
		o->left -= n;
		o->skip += n;
		if (o->skip == o->iov->iov_len) {
			o->iov++;
			o->niov--;
			o->skip = 0;
		}
	}
	return done;
}

static u32 take_kept(struct vsock_tail *t, u8 *to, u32 room)
{
	u32 n = t->len < room ? t->len : room;

	if (!n)
		return 0;
	memcpy(to, t->bytes + t->first, n);
	vsock_tail_drop(t, n);
	return n;
}

bool vsd_sibling_peek(struct vsd_conn *s, u32 *len, bool *eor)
{
	struct vsd_conn *p = s->peer;
	u32 head;

	if (p && p->tail.len) {
		memcpy(&head, p->tail.bytes + p->tail.first, sizeof(head));
		*len = head & ~VSD_RECORD_EOR;
		*eor = head & VSD_RECORD_EOR;
		return true;
	}
	if (!p || !p->offer || p->offer->taken)
		return false;
	*len = p->offer->left;
	*eor = p->offer->eor;
	return true;
}

/* What is taken is a message: the first of those kept, or the one that is offered. */
static void begin_message(struct vsd_conn *p)
{
	u32 head;

	if (!p->tail.len) {
		if (!p->offer->left)
			vsp_record_empty_read(&p->record);
		p->offer->taken = true;
		return;
	}
	memcpy(&head, p->tail.bytes + p->tail.first, sizeof(head));
	vsock_tail_drop(&p->tail, sizeof(head));
	head &= ~VSD_RECORD_EOR;
	p->queued -= head;
	if (!head)
		vsp_record_empty_read(&p->record);
}

u32 vsd_sibling_take(struct vsd_conn *s, const struct iovec *iov, u32 niov)
{
	struct vsd_conn *p = s->peer;
	u32 done = 0;
	bool kept;

	if (!p)
		return 0;
	kept = p->tail.len;
	if (s->seqpacket)
		begin_message(p);
	for (u32 i = 0; i < niov; i++) {
		u8 *to = iov[i].iov_base;
		u32 room = (u32)iov[i].iov_len, n = kept ? take_kept(&p->tail, to, room) : 0;

		if (p->offer && (!kept || !s->seqpacket))
			n += take_offered(p->offer, to + n, room - n);
		done += n;
	}
	p->watch.guest->counters.bytes_from_guest += done;
	if (s->seqpacket) {
		vsd_guest_wake(p->watch.guest);
		vsock_mux_consumed(mux_of(p), &p->c, done);
	}
	return done;
}

void vsd_sibling_moved(struct vsd_conn *s)
{
	struct vsd_conn *p = s->peer;

	if (p)
		account(p, s);
	if (p && (underway(p) || (p->offer && (p->seqpacket ? !p->offer->taken : p->offer->left > 0))))
		return;
	vsock_mux_ready(mux_of(s), &s->c, false);
	if (!p)
		return;
	vsd_conn_release(p);
	arrived(p);
}
