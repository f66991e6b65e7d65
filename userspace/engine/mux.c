// SPDX-License-Identifier: BSD-2-Clause
#include "engine/mux.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static u32 bucket_of(const struct vsock_mux *m, struct vsp_addr host, struct vsp_addr guest)
{
	u64 x = ((u64)host.port << 32 | guest.port) ^ ((u64)m->params.seed << 16);

	x *= 0x9e3779b97f4a7c15u;
	x ^= x >> 29;
	/* Not beside the ports: who chooses both would have many that make the same sum. */
	x ^= (u64)host.cid << 32 | guest.cid;
	x *= 0xbf58476d1ce4e5b9u;
	return (u32)(x >> 32) & m->mask;
}

int vsock_mux_init(struct vsock_mux *m, const struct vsock_params *params)
{
	u32 buckets = 64;

	memset(m, 0, sizeof(*m));
	m->params = *params;
	m->filter =
		(struct vsp_filter){ .my_cid = VSP_CID_ANY, .peer_cid = params->guest_cid, .types = vsp_types_for(0) };
	m->budget.limit = VSP_REPLIES_DEFAULT;
	m->last_port = VSOCK_PORTS - 1;
	m->piece = VSOCK_PIECE_DEFAULT;
	m->news_end = &m->news;
	vsp_sched_init(&m->sched);
	while (buckets < params->conns_max)
		buckets *= 2;
	m->mask = buckets - 1;
	m->buckets = calloc(buckets, sizeof(struct vsock_conn *));
	m->port_buckets = calloc(buckets, sizeof(struct vsock_conn *));
	if (m->buckets && m->port_buckets && !vsock_timers_init(&m->timers, params->conns_max))
		return 0;
	vsock_mux_fini(m);
	return -ENOMEM;
}

void vsock_mux_fini(struct vsock_mux *m)
{
	vsock_timers_fini(&m->timers);
	free(m->buckets);
	free(m->port_buckets);
}

static struct vsp_addr host_of(const struct vsock_conn *c)
{
	return (struct vsp_addr){ .cid = c->host_cid, .port = c->host_port };
}

static struct vsp_addr guest_of(const struct vsock_conn *c)
{
	return (struct vsp_addr){ .cid = c->guest_cid, .port = c->guest_port };
}

/* The bucket of a port of the host, whoever is at the other end. */
static u32 port_bucket_of(const struct vsock_mux *m, struct vsp_addr host)
{
	return bucket_of(m, host, (struct vsp_addr){ 0 });
}

static bool is_at(const struct vsock_conn *c, struct vsp_addr host)
{
	return c->host_cid == host.cid && c->host_port == host.port;
}

static struct vsock_conn *lookup(struct vsock_mux *m, u16 type, struct vsp_addr host, struct vsp_addr guest)
{
	struct vsock_conn *c = m->buckets[bucket_of(m, host, guest)];

	while (c && (!is_at(c, host) || !vsp_addr_eq(guest_of(c), guest) || c->type != type))
		c = c->next;
	return c;
}

static bool port_in_use(struct vsock_mux *m, struct vsp_addr host)
{
	struct vsock_conn *c = m->port_buckets[port_bucket_of(m, host)];

	while (c && !is_at(c, host))
		c = c->port_next;
	return c;
}

static void hash(struct vsock_mux *m, struct vsock_conn *c)
{
	struct vsock_conn **by_both = &m->buckets[bucket_of(m, host_of(c), guest_of(c))];
	struct vsock_conn **by_port = &m->port_buckets[port_bucket_of(m, host_of(c))];

	c->next = *by_both;
	*by_both = c;
	c->port_next = *by_port;
	*by_port = c;
	c->hashed = true;
	m->hashed++;
}

static void unhash(struct vsock_mux *m, struct vsock_conn *c)
{
	struct vsock_conn **p = &m->buckets[bucket_of(m, host_of(c), guest_of(c))];

	if (!c->hashed)
		return;
	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	p = &m->port_buckets[port_bucket_of(m, host_of(c))];
	while (*p != c)
		p = &(*p)->port_next;
	*p = c->port_next;
	c->hashed = false;
	m->hashed--;
}

static void tell(struct vsock_mux *m, struct vsock_conn *c, u8 facts)
{
	if (!facts)
		return;
	c->facts |= facts;
	if (c->in_news)
		return;
	c->in_news = true;
	c->news_next = NULL;
	*m->news_end = c;
	m->news_end = &c->news_next;
}

struct vsock_conn *vsock_mux_news(struct vsock_mux *m)
{
	struct vsock_conn *c = m->news;

	if (!c)
		return NULL;
	m->news = c->news_next;
	if (!m->news)
		m->news_end = &m->news;
	c->in_news = false;
	return c;
}

/* Could it put data on the ring now? */
static bool may_send_data(const struct vsock_conn *c)
{
	return c->ready && c->state == VSP_ESTABLISHED && !(c->shut & VSP_SHUTDOWN_SEND) &&
	       !(c->hints & VSP_SHUTDOWN_RCV);
}

/* Must it wait until the guest has read more packets? Not in the middle of a message, which nobody can read. */
static bool metered(const struct vsock_mux *m, const struct vsock_conn *c)
{
	return !c->midway && !vsp_meter_fits(&c->meter, c->need / m->piece + 1, c->txc.peer_buf_alloc);
}

bool vsock_mux_may_send(const struct vsock_mux *m, const struct vsock_conn *c)
{
	return vsp_txc_space(&c->txc) >= c->need && !metered(m, c);
}

/*
 * The guest answers at once, whether anything was read or not, and may say nothing when there is room for a message but
 * not less than it deems worth telling: so it is asked again after a while.
 */
static void ask_again_later(struct vsock_mux *m, struct vsock_conn *c)
{
	u32 doublings = c->meter_tries < VSOCK_METER_DOUBLINGS ? c->meter_tries : VSOCK_METER_DOUBLINGS;

	if (!c->timer.place)
		vsock_timer_start(&m->timers, &c->timer, m->now + ((u64)VSOCK_METER_RETRY_NS << doublings));
}

/* Put it into the scheduler, or take it out, as what it has to send demands. */
static bool wants_turn(struct vsock_mux *m, struct vsock_conn *c)
{
	bool data = may_send_data(c);
	bool waits = data && !vsock_mux_may_send(m, c);
	bool awaits = c->awaited && c->state == VSP_ESTABLISHED;

	if (waits || awaits || (data && vsp_meter_ask(&c->meter, c->txc.peer_buf_alloc))) {
		if (!c->asked)
			c->sends |= VSOCK_SEND_CREDIT_REQUEST;
		c->asked = true;
	}
	if (awaits || (waits && (c->need > 1 || metered(m, c))))
		ask_again_later(m, c);
	return c->sends || (data && !waits);
}

static void reschedule(struct vsock_mux *m, struct vsock_conn *c)
{
	if (wants_turn(m, c))
		vsp_sched_wake(&m->sched, &c->flow);
	else
		vsp_sched_remove(&m->sched, &c->flow);
}

static u8 sends_of(u32 acts)
{
	u8 sends = 0;

	if (acts & VSP_ACT_SEND_REQUEST)
		sends |= VSOCK_SEND_REQUEST;
	if (acts & VSP_ACT_SEND_RESPONSE)
		sends |= VSOCK_SEND_RESPONSE;
	if (acts & VSP_ACT_SEND_CREDIT)
		sends |= VSOCK_SEND_CREDIT_UPDATE;
	if (acts & VSP_ACT_SEND_SHUTDOWN)
		sends |= VSOCK_SEND_SHUTDOWN;
	return sends;
}

static u8 facts_of(u32 acts)
{
	u8 facts = 0;

	if (acts & VSP_ACT_OPEN)
		facts |= VSOCK_OPENED;
	if (acts & VSP_ACT_HINT)
		facts |= VSOCK_HINTED;
	if (acts & (VSP_ACT_HANGUP | VSP_ACT_FORGET))
		facts |= VSOCK_OVER;
	return facts;
}

/* The only writer of vsock_conn.state. Returns the acts for those that concern the packet itself. */
static u32 step(struct vsock_mux *m, struct vsock_conn *c, enum vsp_event event)
{
	struct vsp_verdict v = vsp_conn_step(c->state, event);

	assert(v.possible);
	if (m->trace)
		m->trace(c, c->state, event, &v);
	/* The timer of an established connection is the meter's. */
	if ((v.acts & VSP_ACT_STOP_TIMER) || (c->state == VSP_ESTABLISHED && v.next != VSP_ESTABLISHED))
		vsock_timer_stop(&m->timers, &c->timer);
	c->state = v.next;
	if (v.acts & VSP_ACT_START_TIMER)
		vsock_timer_start(&m->timers, &c->timer,
				  m->now + (v.next == VSP_CONNECTING ? m->params.connect_timeout :
								       m->params.close_timeout));
	c->sends |= sends_of(v.acts);
	if (v.acts & VSP_ACT_HANGUP)
		c->err = v.err;
	if (v.acts & VSP_ACT_FORGET) {
		unhash(m, c);
		c->sends = 0;
	}
	if (v.acts & VSP_ACT_SEND_RST)
		c->sends = VSOCK_SEND_RST;
	if (v.acts & VSP_ACT_UNEXPECTED)
		m->rejects[VSP_REJECT_STATE]++;
	tell(m, c, facts_of(v.acts));
	reschedule(m, c);
	return v.acts;
}

void vsock_mux_owe(struct vsock_mux *m, struct vsp_hdr hdr)
{
	if (!vsp_budget_take(&m->budget)) {
		m->rejects[VSP_REJECT_REPLIES]++;
		return;
	}
	m->replies[(m->replies_first + m->budget.used - 1) % VSP_REPLIES_DEFAULT] = hdr;
	vsp_sched_wake(&m->sched, &m->replies_flow);
}

void vsock_mux_refuse(struct vsock_mux *m, const struct vsp_hdr *hdr, enum vsp_reject why)
{
	m->rejects[why]++;
	/*
	 * A CID that is not here is answered like a port that is not: whoever connects to it need not wait for
	 * a timeout.
	 */
	if (vsp_wants_rst(why == VSP_REJECT_DST_CID ? VSP_REJECT_NO_FLOW : why, hdr))
		vsock_mux_owe(m, vsp_rst_for(hdr));
}

struct vsock_conn *vsock_mux_find(struct vsock_mux *m, const struct vsp_decoded *d)
{
	if (d->why != VSP_OK && !vsp_ends_flow(d->why))
		return NULL;
	return lookup(m, d->hdr.type, d->hdr.dst, d->hdr.src);
}

static enum vsp_event event_of(struct vsock_conn *c, const struct vsp_hdr *hdr, u32 unread)
{
	switch (hdr->op) {
	case VSP_OP_SHUTDOWN:
		c->hints |= hdr->flags & VSP_SHUTDOWN_BOTH;
		return vsp_event_of_shutdown(c->hints, unread);
	case VSP_OP_RST:
		return vsp_event_of_rst(c->hints, c->shut);
	case VSP_OP_REQUEST:
		return vsp_event_of_request(&c->txc, &c->rxc, c->hints, c->ours ? VSP_SHUTDOWN_BOTH : c->shut);
	default:
		return vsp_event_of(hdr->op);
	}
}

/* VSP_OK, or which promise the packet breaks. Its payload is counted. */
static enum vsp_reject judge_credit(struct vsock_conn *c, const struct vsp_hdr *hdr)
{
	struct vsp_stamp stamp = { .buf_alloc = hdr->buf_alloc, .fwd_cnt = hdr->fwd_cnt };

	if (hdr->op == VSP_OP_RST || hdr->op == VSP_OP_REQUEST)
		return VSP_OK;
	switch (vsp_txc_update(&c->txc, stamp)) {
	case VSP_CREDIT_LIE:
		return VSP_REJECT_FWD_CNT;
	case VSP_CREDIT_GREW:
		c->asked = false;
		c->meter_tries = 0;
		break;
	default:
		break;
	}
	if (hdr->op == VSP_OP_CREDIT_REQUEST)
		vsp_rxc_ask(&c->rxc);
	if (vsp_meter_acked(&c->meter, c->txc.peer_fwd_cnt)) {
		c->asked = false;
		c->meter_tries = 0;
	}
	if (hdr->op != VSP_OP_RW)
		return VSP_OK;
	if (c->hints & VSP_SHUTDOWN_SEND)
		return VSP_REJECT_AFTER_END;
	return vsp_rxc_admit(&c->rxc, hdr->len) ? VSP_OK : VSP_REJECT_CREDIT;
}

enum vsock_arrival vsock_mux_arrive(struct vsock_mux *m, struct vsock_conn *c, const struct vsp_decoded *d, u32 unread)
{
	const struct vsp_hdr *hdr = &d->hdr;
	enum vsp_reject why = d->why;
	u32 acts;

	if (!c) {
		if (why == VSP_OK && hdr->op == VSP_OP_REQUEST)
			return VSOCK_SPAWN;
		/* A reset for what is gone already is how many a connection ends; nothing was refused. */
		if (why != VSP_OK || hdr->op != VSP_OP_RST)
			vsock_mux_refuse(m, hdr, why != VSP_OK ? why : VSP_REJECT_NO_FLOW);
		return VSOCK_NOTHING;
	}
	if (why == VSP_OK)
		why = judge_credit(c, hdr);
	/* So an earlier one answered an attempt that was given up, and the payload was of that. */
	if (why == VSP_OK && hdr->op == VSP_OP_RESPONSE && c->heard)
		why = VSP_REJECT_STATE;
	if (why != VSP_OK)
		m->rejects[why]++;
	/* For resets see vsp_ends_flow(). */
	if (why != VSP_OK && hdr->op != VSP_OP_RST) {
		step(m, c, VSP_EV_VIOLATION);
		return VSOCK_NOTHING;
	}
	acts = step(m, c, event_of(c, hdr, unread));
	if (hdr->op == VSP_OP_REQUEST && c->state == VSP_ESTABLISHED)
		vsp_txc_update(&c->txc, (struct vsp_stamp){ .buf_alloc = hdr->buf_alloc });
	if (acts & VSP_ACT_AGAIN)
		return VSOCK_SPAWN;
	c->heard |= acts & (VSP_ACT_DELIVER | VSP_ACT_DISCARD);
	if (acts & VSP_ACT_DISCARD)
		vsock_mux_consumed(m, c, hdr->len);
	return acts & VSP_ACT_DELIVER ? VSOCK_DELIVER : VSOCK_NOTHING;
}

void vsock_mux_unarrive(struct vsock_conn *c, u32 bytes)
{
	vsp_rxc_unadmit(&c->rxc, bytes);
}

static void prepare(struct vsock_mux *m, struct vsock_conn *c, u16 type, struct vsp_addr host, struct vsp_addr guest)
{
	c->type = type;
	c->host_cid = host.cid;
	c->host_port = host.port;
	c->guest_cid = guest.cid;
	c->guest_port = guest.port;
	c->lowat = 1;
	/* The length of the first message is not known yet. */
	c->need = type == VSP_TYPE_SEQPACKET ? 0 : 1;
	c->txc = vsp_txc_init(VSP_WINDOW_MAX);
	if (!c->window)
		c->window = m->params.window;
	c->rxc = vsp_rxc_init(c->window);
	hash(m, c);
}

void vsock_mux_spawn(struct vsock_mux *m, struct vsock_conn *c, const struct vsp_hdr *hdr)
{
	struct vsp_stamp stamp = { .buf_alloc = hdr->buf_alloc };

	prepare(m, c, hdr->type, hdr->dst, hdr->src);
	/* Begun by VSP_ACT_SPAWN of a listener, which here is every port of the host. */
	c->state = VSP_ACCEPTING;
	vsp_txc_update(&c->txc, stamp);
}

void vsock_mux_accept(struct vsock_mux *m, struct vsock_conn *c)
{
	step(m, c, VSP_EV_ACCEPT);
}

void vsock_mux_deny(struct vsock_mux *m, struct vsock_conn *c)
{
	step(m, c, VSP_EV_REFUSE);
}

bool vsock_mux_connect_from(struct vsock_mux *m, struct vsock_conn *c, u16 type, struct vsp_addr host,
			    struct vsp_addr guest)
{
	if (lookup(m, type, host, guest))
		return false;
	prepare(m, c, type, host, guest);
	c->ours = true;
	step(m, c, VSP_EV_CONNECT);
	return true;
}

bool vsock_mux_connect(struct vsock_mux *m, struct vsock_conn *c, u16 type, struct vsp_addr guest)
{
	/*
	 * There are more ports than connections, so a free one is found after as many tries as there are
	 * connections.
	 */
	for (u32 tries = 0; tries <= m->hashed; tries++) {
		struct vsp_addr host = { .cid = m->params.host_cid };

		m->last_port = (m->last_port + 1) % VSOCK_PORTS;
		host.port = VSOCK_PORT_FIRST + m->last_port;
		if (!port_in_use(m, host))
			return vsock_mux_connect_from(m, c, type, host, guest);
	}
	return false;
}

/* Is half of what the guest would ever have underway read, which it was not told? */
static bool much_read(const struct vsock_conn *c, u32 own)
{
	u32 news = c->rxc.fwd_cnt - c->rxc.told.fwd_cnt;

	return news && news >= own / 2;
}

static void announce_room(struct vsock_mux *m, struct vsock_conn *c)
{
	u32 own = c->txc.peer_buf_alloc;

	/*
	 * A window of another reader's may be larger, but is never open as a whole; and it may shrink by what was read,
	 * so that there is no more room than before.
	 */
	own = own < c->window ? own : c->window;
	if (c->state < VSP_ESTABLISHED || (c->hints & VSP_SHUTDOWN_SEND))
		return;
	if (!vsp_rxc_update_due(&c->rxc, c->lowat, own) && !much_read(c, own))
		return;
	c->sends |= VSOCK_SEND_CREDIT_UPDATE;
	reschedule(m, c);
}

void vsock_mux_consumed(struct vsock_mux *m, struct vsock_conn *c, u32 bytes)
{
	vsp_rxc_consume(&c->rxc, bytes);
	announce_room(m, c);
}

void vsock_mux_relay(struct vsock_mux *m, struct vsock_conn *c, u32 bytes, u32 window)
{
	vsp_rxc_consume(&c->rxc, bytes);
	c->rxc.buf_alloc = window;
	c->lowat = vsp_rxc_unread(&c->rxc) + VSP_MAX_PAYLOAD;
	announce_room(m, c);
}

void vsock_mux_await(struct vsock_mux *m, struct vsock_conn *c, bool awaits)
{
	if (c->awaited == awaits)
		return;
	c->awaited = awaits;
	reschedule(m, c);
}

void vsock_mux_lowat(struct vsock_mux *m, struct vsock_conn *c, u32 lowat)
{
	c->lowat = lowat;
	announce_room(m, c);
}

void vsock_mux_drained(struct vsock_mux *m, struct vsock_conn *c)
{
	if (c->state == VSP_ESTABLISHED && (c->hints & VSP_SHUTDOWN_BOTH) == VSP_SHUTDOWN_BOTH)
		step(m, c, VSP_EV_DRAINED);
}

void vsock_mux_ready(struct vsock_mux *m, struct vsock_conn *c, bool ready)
{
	c->ready = ready;
	reschedule(m, c);
}

void vsock_mux_need(struct vsock_mux *m, struct vsock_conn *c, u32 bytes)
{
	c->need = bytes;
	reschedule(m, c);
}

void vsock_mux_shut(struct vsock_mux *m, struct vsock_conn *c, u8 hints)
{
	if ((c->shut | hints) == c->shut || c->state != VSP_ESTABLISHED)
		return;
	c->shut |= hints;
	step(m, c, VSP_EV_SHUT);
}

void vsock_mux_close(struct vsock_mux *m, struct vsock_conn *c)
{
	if (c->state == VSP_CLOSING || c->state == VSP_CLOSED)
		return;
	c->shut = VSP_SHUTDOWN_BOTH;
	step(m, c, VSP_EV_CLOSE);
}

void vsock_mux_abort(struct vsock_mux *m, struct vsock_conn *c)
{
	/* The table has no event for "lost here": it ends as a violation does, with a reset at once. */
	if (c->state != VSP_CLOSED)
		step(m, c, VSP_EV_VIOLATION);
}

void vsock_mux_timeout(struct vsock_mux *m, struct vsock_conn *c)
{
	if (c->state != VSP_ESTABLISHED) {
		step(m, c, VSP_EV_TIMEOUT);
		return;
	}
	if (c->meter_tries < VSOCK_METER_DOUBLINGS)
		c->meter_tries++;
	c->asked = false;
	reschedule(m, c);
}

void vsock_mux_gone(struct vsock_mux *m)
{
	for (u32 i = 0; i <= m->mask; i++) {
		while (m->buckets[i])
			step(m, m->buckets[i], VSP_EV_GONE);
	}
	/* What is left in the scheduler owes a guest something that is not there any more. */
	for (struct vsp_flow *f; (f = vsp_sched_next(&m->sched)) != NULL;) {
		struct vsock_conn *c = (struct vsock_conn *)(void *)((u8 *)f - offsetof(struct vsock_conn, flow));

		vsp_sched_remove(&m->sched, f);
		if (f == &m->replies_flow || f->owner != VSOCK_OWNER_MUX)
			continue;
		c->sends = 0;
		tell(m, c, VSOCK_SENT_LAST);
	}
	m->replies_first = 0;
	m->budget.used = 0;
}

struct vsock_turn vsock_mux_next(const struct vsock_mux *m)
{
	struct vsp_flow *f = vsp_sched_next(&m->sched);
	struct vsock_conn *c;

	if (!f)
		return (struct vsock_turn){ .any = false };
	if (f->owner != VSOCK_OWNER_MUX)
		return (struct vsock_turn){ .any = true, .driver = f };
	if (f == &m->replies_flow)
		return (struct vsock_turn){ .any = true, .control = true };
	c = (struct vsock_conn *)(void *)((u8 *)f - offsetof(struct vsock_conn, flow));
	return (struct vsock_turn){ .any = true, .conn = c, .control = c->sends != 0 };
}

static struct vsp_hdr next_reply(struct vsock_mux *m)
{
	struct vsp_hdr hdr = m->replies[m->replies_first];

	m->replies_first = (m->replies_first + 1) % VSP_REPLIES_DEFAULT;
	vsp_budget_give(&m->budget);
	vsp_sched_charge(&m->sched, &m->replies_flow, 0, m->budget.used > 0);
	return hdr;
}

static struct vsp_hdr header(struct vsock_conn *c, enum vsp_op op, u32 flags, u32 len)
{
	/* virtio 1.4 5.10.6.3, both: every packet of a flow has valid credit, a reset too. */
	struct vsp_stamp stamp = vsp_rxc_stamp(&c->rxc);

	return (struct vsp_hdr){
		.src = host_of(c),
		.dst = guest_of(c),
		.len = len,
		.type = c->type,
		.op = (u16)op,
		.flags = flags,
		.buf_alloc = stamp.buf_alloc,
		.fwd_cnt = stamp.fwd_cnt,
	};
}

static enum vsp_op op_of_send(u8 send)
{
	switch (send) {
	case VSOCK_SEND_RST:
		return VSP_OP_RST;
	case VSOCK_SEND_REQUEST:
		return VSP_OP_REQUEST;
	case VSOCK_SEND_RESPONSE:
		return VSP_OP_RESPONSE;
	case VSOCK_SEND_CREDIT_REQUEST:
		return VSP_OP_CREDIT_REQUEST;
	case VSOCK_SEND_CREDIT_UPDATE:
		return VSP_OP_CREDIT_UPDATE;
	default:
		return VSP_OP_SHUTDOWN;
	}
}

struct vsp_hdr vsock_mux_control(struct vsock_mux *m, struct vsock_turn turn)
{
	struct vsock_conn *c = turn.conn;
	struct vsp_hdr hdr;
	u8 send;

	if (!c)
		return next_reply(m);
	send = c->sends & (u8)-c->sends;
	hdr = header(c, op_of_send(send), send == VSOCK_SEND_SHUTDOWN ? c->shut : 0, 0);
	c->sends &= (u8)~send;
	/* Every header states our credit. */
	if (send != VSOCK_SEND_RST)
		c->sends &= (u8)~VSOCK_SEND_CREDIT_UPDATE;
	vsp_sched_charge(&m->sched, &c->flow, 0, wants_turn(m, c));
	if (c->state == VSP_CLOSED && !c->sends)
		tell(m, c, VSOCK_SENT_LAST);
	return hdr;
}

u32 vsock_conn_packets(const struct vsock_conn *c)
{
	u32 budget = vsp_meter_budget(c->txc.peer_buf_alloc);

	if (c->midway)
		return UINT32_MAX;
	return c->meter.out < budget ? budget - c->meter.out : 1;
}

u32 vsock_conn_credit(const struct vsock_conn *c)
{
	return vsp_txc_space(&c->txc);
}

struct vsp_hdr vsock_mux_data(struct vsock_mux *m, struct vsock_conn *c, u32 len, u32 flags)
{
	u32 taken = vsp_txc_take(&c->txc, len);

	assert(taken == len);
	vsp_txc_sent(&c->txc, taken);
	vsp_meter_sent(&c->meter, c->txc.sent_cnt, c->txc.peer_buf_alloc);
	c->midway = c->type == VSP_TYPE_SEQPACKET && !(flags & VSP_SEQ_EOM);
	c->sends &= (u8)~VSOCK_SEND_CREDIT_UPDATE;
	vsp_sched_charge(&m->sched, &c->flow, len, wants_turn(m, c));
	return header(c, VSP_OP_RW, flags, len);
}
