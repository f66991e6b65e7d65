// SPDX-License-Identifier: GPL-2.0-only
/*
 * tx.c - what is sent over a link, and in what order
 *
 * Writers and the receive worker put packets and control flags on flows; the driver takes them off with vst_link_next()
 * whenever its ring has room, in the scheduler's order. A header is built when it leaves, with the credit of that
 * moment.
 */
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "vst.h"
#include "trace.h"

/* Packets of the message that is next, or of several that are one of ours; a stream has none. */
static u32 next_packets(const struct vst_flow *flow)
{
	const struct vst_pkt *pkt;
	u32 n = 0;

	list_for_each_entry(pkt, &flow->tx, node) {
		n += 1 + pkt->more;
		if (flow->key.type == VSP_TYPE_STREAM || (pkt->flags & VSP_SEQ_EOM))
			break;
	}
	return n;
}

static void start_meter_timer(struct vst_flow *flow, u32 tries)
{
	u32 ms = VST_METER_RETRY_MS << min_t(u32, tries, VST_METER_DOUBLINGS);

	vst_flow_get(flow);
	if (!queue_delayed_work(flow->side->wq, &flow->meter_timer, msecs_to_jiffies(ms)))
		vst_flow_put(flow);
}

/* Does the peer hold as much as it may, so that so many packets more have to wait? */
static bool is_full(const struct vst_flow *flow, u32 packets)
{
	return !vsp_meter_fits(&flow->meter, packets, flow->txc.peer_buf_alloc);
}

/* Is the peer to be asked what it has read? */
static bool is_question_due(const struct vst_flow *flow)
{
	return !flow->asked && vsp_meter_ask(&flow->meter, flow->txc.peer_buf_alloc);
}

/*
 * Must payload wait until the peer has read more packets? Not in the middle of a message, which nobody can read. A
 * stock peer says by itself what it has read only when its window runs low, so it is asked.
 */
static bool is_held(struct vst_flow *flow)
{
	u32 packets = next_packets(flow), tries;
	bool held, ask;

	spin_lock(&flow->lock);
	held = !flow->midway && is_full(flow, packets);
	ask = is_question_due(flow) || (held && !flow->asked);
	if (held && !flow->held) {
		vst_count(flow->link, VST_STAT_TX_HELD, 1);
		flow->traffic.tx_held++;
	}
	flow->held = held;
	flow->asked |= ask;
	tries = flow->meter_tries;
	spin_unlock(&flow->lock);
	if (ask)
		flow->ctl |= VST_CTL_CREDIT_REQUEST;
	if (held)
		start_meter_timer(flow, tries);
	return held;
}

/* Is there anything that may go out now? The end waits behind the payload. */
static bool has_work(struct vst_flow *flow)
{
	u32 behind = list_empty(&flow->tx) ? 0 : VST_CTL_SHUTDOWN;

	if (flow->key.type == VSP_TYPE_DGRAM)
		return behind && !flow->spent;
	if (behind && !is_held(flow))
		return true;
	return flow->ctl & ~behind;
}

/*
 * What is small waits while something small of its flow lies in the ring, and leaves when the device has used that, or
 * when its writer waits: one that is faster than the device rings its bell once for many writes, and those of a stream
 * leave as one. Never behind large ones: a tail has nothing to wait for. Nor with something else to say.
 */
static bool is_corked(const struct vst_flow *flow)
{
	return flow->in_ring && flow->small && flow->waiting && flow->waiting < VST_CORK_MAX && !flow->ctl;
}

static void set_corked(struct vst_flow *flow, bool corked)
{
	struct vst_link *link = flow->link;
	int more = corked - flow->corked;

	link->n_corked += more;
	if (flow->key.type != VSP_TYPE_DGRAM)
		link->n_gathering += more;
	WRITE_ONCE(flow->corked, corked);
}

/* tx_lock is held. The scheduler holds the reference. */
static void schedule_flow(struct vst_flow *flow)
{
	set_corked(flow, flow->spent && !list_empty(&flow->tx));
	if (vsp_flow_queued(&flow->sched) || !has_work(flow))
		return;
	vst_flow_get(flow);
	vsp_sched_wake(&flow->link->sched, &flow->sched);
}

/* There may be something to send, now or with what follows. tx_lock is held. */
static void wake_flow(struct vst_flow *flow)
{
	if (vsp_flow_queued(&flow->sched))
		return;
	if (!flow->spent && is_corked(flow))
		set_corked(flow, true);
	else
		schedule_flow(flow);
}

/*
 * The peer's answer to the last question changed nothing, or it has none; or an update has waited long enough. The
 * header of either tells of room.
 */
static void meter_timeout(struct work_struct *work)
{
	struct vst_flow *flow = container_of(work, struct vst_flow, meter_timer.work);
	bool held, tell;

	spin_lock(&flow->lock);
	held = flow->held && !flow->over;
	if (held && flow->meter_tries < VST_METER_DOUBLINGS)
		flow->meter_tries++;
	tell = flow->tell && !flow->over && !flow->closing &&
	       vsp_rxc_update_due(&flow->rxc, vst_lowat(flow, 1), flow->txc.peer_buf_alloc);
	flow->tell = false;
	spin_unlock(&flow->lock);
	if (held)
		vst_send_ctl(flow, VST_CTL_CREDIT_REQUEST, 0);
	else if (tell)
		vst_send_ctl(flow, VST_CTL_CREDIT_UPDATE, 0);
	vst_flow_put(flow);
}

/* The peer hears of room in a moment, unless there is reason to say so before. The socket is owned. */
void vst_tell_later(struct vst_flow *flow)
{
	bool told;

	spin_lock(&flow->lock);
	told = flow->tell;
	flow->tell = true;
	spin_unlock(&flow->lock);
	if (!told)
		start_meter_timer(flow, 0);
}

void vst_tx_init(struct vst_flow *flow)
{
	INIT_DELAYED_WORK(&flow->meter_timer, meter_timeout);
}

/* After vst_tx_end(), which keeps the timer from being started again: it does not outlive the socket. */
void vst_tx_quiet(struct vst_flow *flow)
{
	if (delayed_work_pending(&flow->meter_timer) && cancel_delayed_work(&flow->meter_timer))
		vst_flow_put(flow);
}

/* How many packets of messages may be queued: with their bookkeeping they take no more memory than the window. */
int vst_tx_pkts_max(const struct vst_flow *flow)
{
	return max_t(u32, READ_ONCE(flow->txc.cap) / VST_PKT_COST, 1);
}

/* Are as many packets queued as may be? Then the writer is woken when they are fewer. */
bool vst_tx_stuffed(struct vst_flow *flow)
{
	if (atomic_read(&flow->n_pkts) < vst_tx_pkts_max(flow))
		return false;
	WRITE_ONCE(flow->stuffed, true);
	/* Pairs with unstuff(): it sees the flag, or this sees its count. */
	smp_mb();
	return atomic_read(&flow->n_pkts) >= vst_tx_pkts_max(flow);
}

/* A packet of payload leaves. The flow's lock is held. */
static void count_sent(struct vst_flow *flow, u32 len)
{
	flow->traffic.tx_packets++;
	flow->traffic.tx_bytes += len;
	vsp_txc_sent(&flow->txc, len);
	vsp_meter_sent(&flow->meter, flow->txc.sent_cnt, flow->txc.peer_buf_alloc);
}

static struct vsp_hdr flow_hdr(struct vst_flow *flow, enum vsp_op op, u32 len, u32 flags)
{
	struct vsp_hdr hdr = {
		.src = flow->key.local,
		.dst = flow->key.remote,
		.len = len,
		.type = flow->key.type,
		.op = op,
		.flags = flags,
	};
	struct vsp_stamp stamp;

	spin_lock(&flow->lock);
	stamp = vsp_rxc_stamp(&flow->rxc);
	flow->requested |= op == VSP_OP_REQUEST;
	if (op == VSP_OP_RW)
		count_sent(flow, len);
	trace_vst_credit(flow, op, true);
	spin_unlock(&flow->lock);
	hdr.buf_alloc = stamp.buf_alloc;
	hdr.fwd_cnt = stamp.fwd_cnt;
	return hdr;
}

/* The header of a packet, or of the first message in it; it does for the others, but for its length. */
static struct vsp_wire pkt_hdr(struct vst_flow *flow, const struct vst_pkt *pkt)
{
	u32 i, from = vst_pkt_end(pkt, 0);
	struct vsp_hdr hdr = flow_hdr(flow, VSP_OP_RW, from, pkt->flags);

	if (pkt->more) {
		spin_lock(&flow->lock);
		for (i = 1; i <= pkt->more; i++) {
			count_sent(flow, vst_pkt_end(pkt, i) - from);
			from = vst_pkt_end(pkt, i);
		}
		spin_unlock(&flow->lock);
	}
	return vsp_encode(hdr);
}

/* The next control header of a flow, in the order in which they make sense; OP_INVALID: payload is next. */
static enum vsp_op next_ctl(struct vst_flow *flow, u32 *flags)
{
	static const struct {
		u32 ctl;
		enum vsp_op op;
	} order[] = {
		{ VST_CTL_RST, VSP_OP_RST },
		{ VST_CTL_REQUEST, VSP_OP_REQUEST },
		{ VST_CTL_RESPONSE, VSP_OP_RESPONSE },
		{ VST_CTL_CREDIT_REQUEST, VSP_OP_CREDIT_REQUEST },
		{ VST_CTL_CREDIT_UPDATE, VSP_OP_CREDIT_UPDATE },
	};
	unsigned int i;

	*flags = 0;
	/* Payload carries the credit too. */
	if (!list_empty(&flow->tx) && !READ_ONCE(flow->held))
		flow->ctl &= ~VST_CTL_CREDIT_UPDATE;
	for (i = 0; i < ARRAY_SIZE(order); i++) {
		if (flow->ctl & order[i].ctl) {
			flow->ctl &= ~order[i].ctl;
			return order[i].op;
		}
	}
	if (list_empty(&flow->tx)) {
		flow->ctl &= ~VST_CTL_SHUTDOWN;
		*flags = flow->ctl_shut;
		return VSP_OP_SHUTDOWN;
	}
	return VSP_OP_INVALID;
}

/*
 * Does somebody wait for the device to have used this packet? Of a message the next writer may, of a datagram whoever
 * fills the socket's send buffer, of user pages their owner. A stream's writer waits for credit. Nobody has the bytes
 * of a connection that is over: vst_tx_end() counts them once more.
 */
static bool is_awaited(const struct vst_pkt *pkt)
{
	return pkt->zc || pkt->flow->key.type != VSP_TYPE_STREAM;
}

static bool is_shared(const struct vst_link *link)
{
	return time_before(jiffies, link->shared_until);
}

static void note_sender(struct vst_link *link, const struct vst_flow *flow)
{
	if (link->sender == flow)
		return;
	if (link->sender)
		link->shared_until = jiffies + msecs_to_jiffies(VST_SHARED_MS);
	link->sender = flow;
}

/* A socket's share of the ring, the one or the other. */
static u32 share_packets(const struct vst_link *link)
{
	return is_shared(link) ? VST_DGRAM_RING_SHARED : VST_DGRAM_RING;
}

static u32 share_bytes(const struct vst_link *link)
{
	return is_shared(link) ? VST_DGRAM_BYTES_SHARED : U32_MAX;
}

static bool has_share(const struct vst_flow *flow)
{
	return flow->n_in_ring >= share_packets(flow->link) || flow->in_ring >= share_bytes(flow->link);
}

static bool has_half_share(const struct vst_flow *flow)
{
	return flow->n_in_ring > share_packets(flow->link) / 2 || flow->in_ring > share_bytes(flow->link) / 2;
}

/*
 * A packet of a datagram goes to the ring: until its last, nothing but its next may follow. Credit bounds what a
 * connection has in the ring; here nothing would, and others would wait for the receiver to take all of it. Who sends
 * alone delays nobody, and fills one half of the ring while the device empties the other.
 */
static void next_of_dgram(struct vst_link *link, struct vst_flow *flow)
{
	link->midway = flow->midway ? flow : NULL;
	if (flow->midway)
		return;
	vst_count(link, VST_STAT_DGRAM_TX, 1);
	flow->spent = has_share(flow);
	set_corked(flow, flow->spent && !list_empty(&flow->tx));
}

static void next_of_flow(struct vst_link *link, struct vst_flow *flow, struct vst_out *out)
{
	u32 flags, len = 0, more = 0;
	enum vsp_op op = next_ctl(flow, &flags);

	if (op == VSP_OP_RST)
		link->n_resets--;
	if (op != VSP_OP_INVALID) {
		out->wire = vsp_encode(flow_hdr(flow, op, 0, flags));
		vst_tap(&out->wire, NULL, 0);
	} else {
		out->pkt = list_first_entry(&flow->tx, struct vst_pkt, node);
		list_del(&out->pkt->node);
		len = out->pkt->len;
		more = out->pkt->more;
		flow->waiting -= len + VST_PKT_COST;
		flow->in_ring += len;
		flow->n_in_ring++;
		note_sender(link, flow);
		link->n_awaited += is_awaited(out->pkt);
		flow->small = len < VST_CORK_MAX;
		flow->midway = flow->key.type != VSP_TYPE_STREAM && !(out->pkt->flags & VSP_SEQ_EOM);
		if (flow->key.type == VSP_TYPE_DGRAM)
			next_of_dgram(link, flow);
		else
			out->pkt->wire = pkt_hdr(flow, out->pkt);
		vst_tap_pkt(out->pkt);
	}
	vsp_sched_charge(&link->sched, &flow->sched, len + more * VSP_SCHED_PACKET_COST, has_work(flow));
	vst_count(link, VST_STAT_TX_BYTES, len);
	vst_count(link, VST_STAT_TX_PACKETS, more);
	if (!vsp_flow_queued(&flow->sched))
		vst_flow_put(flow);
}

/**
 * vst_link_next - what goes to the ring next
 * @link: its tx_lock is held, it is up and the ring has room for one packet
 * @out: filled in
 *
 * Return: false if nothing waits.
 */
bool vst_link_next(struct vst_link *link, struct vst_out *out)
{
	struct vsp_flow *next;

	lockdep_assert_held(&link->tx_lock);
	out->pkt = NULL;
	if (link->midway) {
		next_of_flow(link, link->midway, out);
	} else if (link->dgrams.probe_due) {
		out->wire = vsp_encode(vst_dgram_probe(link));
		vst_tap(&out->wire, NULL, 0);
	} else if (link->budget.used) {
		out->wire = vsp_encode(link->replies[link->reply_head]);
		vst_tap(&out->wire, NULL, 0);
		link->reply_head = (link->reply_head + 1) % VSP_REPLIES_DEFAULT;
		vst_count(link, VST_STAT_REPLIES, 1);
		if (vsp_budget_give(&link->budget))
			link->ops->resume_rx(link);
	} else {
		next = vsp_sched_next(&link->sched);
		if (!next)
			return false;
		next_of_flow(link, container_of(next, struct vst_flow, sched), out);
	}
	vst_count(link, VST_STAT_TX_PACKETS, 1);
	return true;
}

/* Is all that waits kept back until more of it has come? Without a lock: a hint. */
bool vst_link_gathers(const struct vst_link *link)
{
	u32 n = READ_ONCE(link->n_gathering);

	return n && n == READ_ONCE(link->n_corked);
}

/* May anything go to the ring as soon as it has room? tx_lock is held. */
bool vst_link_ready(const struct vst_link *link)
{
	lockdep_assert_held(&link->tx_lock);
	return link->budget.used || link->dgrams.probe_due || vsp_sched_next(&link->sched);
}

/* Does anything wait until the device has used what lies in the ring? tx_lock is held. */
bool vst_link_waiting(const struct vst_link *link)
{
	return vst_link_ready(link) || link->n_corked;
}

/* These packets of the flow will never be sent. */
static void drop_pkts(const struct vst_flow *flow, const struct list_head *pkts)
{
	const struct vst_pkt *pkt;
	u32 bytes = 0;

	list_for_each_entry(pkt, pkts, node)
		bytes += pkt->len;
	vst_drop(flow, VST_DROP_UNSENT, bytes);
}

/* Datagrams, or what is left of one, that will not leave. */
static void count_dropped(const struct vst_flow *flow)
{
	const struct vst_pkt *pkt;

	list_for_each_entry(pkt, &flow->tx, node)
		vst_count(flow->link, VST_STAT_DGRAM_TX_DROPPED, !!(pkt->flags & VSP_SEQ_EOM));
}

/* Nothing that waits will leave any more. tx_lock is held; packets to free go to @dropped. */
static void drop_waiting(struct vst_flow *flow, struct list_head *dropped)
{
	if (flow->key.type == VSP_TYPE_DGRAM)
		count_dropped(flow);
	drop_pkts(flow, &flow->tx);
	list_splice_tail_init(&flow->tx, dropped);
	flow->waiting = 0;
	set_corked(flow, false);
}

/* The device has used a packet: account for it and put it on @done, to be freed without tx_lock, which is held. */
void vst_pkt_done(struct vst_pkt *pkt, struct list_head *done)
{
	struct vst_flow *flow = pkt->flow;

	flow->in_ring -= pkt->len;
	flow->n_in_ring--;
	flow->link->n_awaited -= is_awaited(pkt) + flow->mute;
	list_add_tail(&pkt->node, done);
	if (flow->spent ? has_half_share(flow) : flow->in_ring)
		return;
	flow->spent = false;
	if (!flow->corked)
		return;
	if (flow->link->up)
		schedule_flow(flow);
	else
		drop_waiting(flow, done);
}

void vst_pkts_free(struct list_head *done)
{
	struct vst_pkt *pkt, *next;

	list_for_each_entry_safe(pkt, next, done, node)
		vst_pkt_free(pkt);
	INIT_LIST_HEAD(done);
}

/**
 * vst_reply - answer a packet that has no connection with a reset
 * @link: the device
 * @to: the packet
 *
 * Never an answer to a reset. The receive worker checked vst_rx_ready() before it took the packet and finds room,
 * unless the accept worker was faster.
 *
 * Return: false if the budget is spent. A link that is down has nobody to answer.
 */
bool vst_reply(struct vst_link *link, const struct vsp_hdr *to)
{
	return to->op == VSP_OP_RST || vst_answer(link, vsp_rst_for(to));
}

/* The same with any header. */
bool vst_answer(struct vst_link *link, struct vsp_hdr hdr)
{
	bool taken, up;

	spin_lock(&link->tx_lock);
	up = link->up;
	taken = up && vsp_budget_take(&link->budget);
	if (taken)
		link->replies[(link->reply_head + link->budget.used - 1) % VSP_REPLIES_DEFAULT] = hdr;
	spin_unlock(&link->tx_lock);
	if (taken)
		link->ops->tell(link);
	return taken || !up;
}

/**
 * vst_send_ctl - owe the peer control headers
 * @flow: the connection
 * @ctl: enum vst_ctl but for VST_CTL_RST, which is vst_tx_end()'s
 * @shut: hints to announce, with VST_CTL_SHUTDOWN
 */
void vst_send_ctl(struct vst_flow *flow, u32 ctl, u32 shut)
{
	struct vst_link *link = flow->link;
	bool can;

	spin_lock(&link->tx_lock);
	can = link->up && !flow->mute;
	if (can) {
		flow->ctl |= ctl;
		flow->ctl_shut |= shut;
		wake_flow(flow);
	}
	spin_unlock(&link->tx_lock);
	if (!can)
		return;
	if (ctl & (VST_CTL_REQUEST | VST_CTL_RESPONSE | VST_CTL_SHUTDOWN))
		link->ops->tell(link);
	else
		link->ops->pump(link);
}

/* May a whole message follow in this packet? Not more than the peer may hold, of which we know at least as much. */
static bool has_room_for_message(const struct vst_flow *flow, const struct vst_pkt *pkt, u32 len)
{
	u32 most = min_t(u32, VST_MESSAGES_MAX, vsp_meter_budget(READ_ONCE(flow->txc.peer_buf_alloc)) / 2);

	return flow->link->ops->splits && pkt->cap == VST_TAIL_ROOM && (pkt->flags & VSP_SEQ_EOM) &&
	       pkt->more + 1 < most && pkt->len + len + (pkt->more + 1) * sizeof(u16) <= pkt->cap;
}

/*
 * Where the bytes of a stream, or a message, go if they fit into the flow's last packet, which waits. Then many small
 * writes are few packets, which take little memory; and of a stream the peer, which counts them, gets few.
 */
static void *room_behind(const struct vst_flow *flow, u32 len, u32 flags)
{
	struct vst_pkt *tail;

	if (list_empty(&flow->tx))
		return NULL;
	tail = list_last_entry(&flow->tx, struct vst_pkt, node);
	if (tail->zc || tail->page || tail->flags != flags || tail->cap - tail->len < len)
		return NULL;
	if (flow->key.type == VSP_TYPE_SEQPACKET && !has_room_for_message(flow, tail, len))
		return NULL;
	return tail->data + tail->len;
}

/* They are there. */
static void append(struct vst_flow *flow, u32 len)
{
	struct vst_pkt *tail = list_last_entry(&flow->tx, struct vst_pkt, node);

	if (flow->key.type == VSP_TYPE_SEQPACKET)
		*vst_pkt_mark(tail, tail->more++) = tail->len;
	tail->len += len;
	flow->waiting += len;
}

static bool coalesced(struct vst_flow *flow, struct list_head *pkts)
{
	const struct vst_pkt *pkt = list_first_entry(pkts, struct vst_pkt, node);
	void *to;

	if (flow->key.type != VSP_TYPE_STREAM || pkt->zc || pkt->page)
		return false;
	to = room_behind(flow, pkt->len, 0);
	if (!to)
		return false;
	memcpy(to, pkt->data, pkt->len);
	append(flow, pkt->len);
	return true;
}

/* What is not there is fetched without a lock. */
static bool copy_at_once(void *to, struct iov_iter *from, u32 len)
{
	size_t got;

	pagefault_disable();
	/* Not copy_from_iter(), which would look at the size of the packet. */
	got = _copy_from_iter(to, len, from);
	pagefault_enable();
	if (got == len)
		return true;
	iov_iter_revert(from, got);
	return false;
}

/**
 * vst_send_behind - send bytes of a stream, or a message, with others that wait
 * @flow: whose they are
 * @from: what is written; a message is whole
 * @len: 1 .. VST_BEHIND_MAX bytes, granted
 * @flags: of the message; 0 of a stream
 *
 * If those are kept back, the interrupt that lets them go is under way or asked for; if not, somebody was told of them.
 * So nobody need be told of these.
 *
 * Return: false if nothing waits, or it has no room, or the caller's memory is not there: the bytes need a packet.
 */
bool vst_send_behind(struct vst_flow *flow, struct iov_iter *from, u32 len, u32 flags)
{
	struct vst_link *link = flow->link;
	void *to = NULL;
	bool done;

	spin_lock(&link->tx_lock);
	if (flow->corked || vsp_flow_queued(&flow->sched))
		to = room_behind(flow, len, flags);
	done = to && copy_at_once(to, from, len);
	if (done)
		append(flow, len);
	spin_unlock(&link->tx_lock);
	return done;
}

static void enqueue(struct vst_flow *flow, struct list_head *pkts)
{
	const struct vst_pkt *pkt;

	list_for_each_entry(pkt, pkts, node)
		flow->waiting += pkt->len + VST_PKT_COST;
	list_splice_tail_init(pkts, &flow->tx);
}

/*
 * Did the peer say something since we did? Then it will wait for this, and we for it. One who writes ahead does better
 * to leave sending to others: they take many packets at once.
 */
static bool took_turn(struct vst_flow *flow)
{
	u64 heard = READ_ONCE(flow->traffic.rx_packets);
	bool took = flow->heard != heard;

	flow->heard = heard;
	return took;
}

/*
 * Queue packets behind those of their flow, all at once. They are consumed. The interrupt that lets go those that are
 * kept back with others is under way or asked for. False: they will never leave.
 */
bool vst_send_pkts(struct vst_flow *flow, struct list_head *pkts)
{
	struct vst_link *link = flow->link;
	bool can, behind = false, takes_turns = false;

	spin_lock(&link->tx_lock);
	can = link->up && !flow->mute;
	if (can) {
		takes_turns = took_turn(flow);
		behind = flow->corked;
		if (!coalesced(flow, pkts))
			enqueue(flow, pkts);
		wake_flow(flow);
		behind = flow->corked && (behind || link->ops->looks_again);
	}
	spin_unlock(&link->tx_lock);
	if (!can)
		drop_pkts(flow, pkts);
	else if (!behind && takes_turns)
		link->ops->drive(link);
	else if (!behind)
		link->ops->pump(link);
	vst_pkts_free(pkts);
	return can;
}

/**
 * vst_may_write - may payload go to the ring without being queued?
 * @flow: whose it is; the socket is owned, and the driver's ring locked
 *
 * Where nothing may go before it there is no order to keep. What a tap is shown has to lie in memory of ours.
 */
bool vst_may_write(struct vst_flow *flow)
{
	struct vst_link *link = flow->link;
	bool may;

	if (vst_is_tapped())
		return false;
	spin_lock(&link->tx_lock);
	may = link->up && !flow->mute && !flow->midway && list_empty(&flow->tx) && !link->midway &&
	      !vst_link_ready(link);
	spin_unlock(&link->tx_lock);
	if (!may || flow->key.type == VSP_TYPE_DGRAM)
		return may;
	spin_lock(&flow->lock);
	may = !is_full(flow, 1) && !is_question_due(flow);
	spin_unlock(&flow->lock);
	return may;
}

/* It does: the header. */
struct vsp_wire vst_written(struct vst_flow *flow, const struct vst_write *w)
{
	vst_count(flow->link, VST_STAT_TX_PACKETS, 1);
	vst_count(flow->link, VST_STAT_TX_BYTES, w->len);
	vst_count(flow->link, VST_STAT_TX_STRAIGHT, 1);
	vst_count(flow->link, VST_STAT_DGRAM_TX, !!w->dgram);
	return vsp_encode(w->dgram ? *w->dgram : flow_hdr(flow, VSP_OP_RW, w->len, w->flags));
}

/* Did all of it go to the ring at once? Then there is no more to do. What is small goes better with others. */
bool vst_went_straight(struct vst_flow *flow, const struct vst_write *w)
{
	const struct vst_link_ops *ops = flow->link->ops;

	return w->len >= VST_STRAIGHT_MIN && w->len <= VSP_MAX_PAYLOAD && ops->write && ops->write(flow, w);
}

/* Nothing more is to be expected of the writer for now: what is kept back leaves. */
void vst_push(struct vst_flow *flow)
{
	struct vst_link *link = flow->link;
	bool corked;

	/* Whoever writes at the same time has not waited yet. */
	if (!READ_ONCE(flow->corked))
		return;
	spin_lock(&link->tx_lock);
	corked = flow->corked;
	if (corked)
		schedule_flow(flow);
	spin_unlock(&link->tx_lock);
	if (corked)
		link->ops->pump(link);
}

/* Its address is free from now on: what is sent for the next connection that has it comes after this. */
static void hurry(struct vst_flow *flow)
{
	if (!vsp_flow_queued(&flow->sched))
		vst_flow_get(flow);
	vsp_sched_hurry(&flow->link->sched, &flow->sched);
}

/**
 * vst_tx_end - the flow sends nothing any more, but for a last reset
 * @flow: the connection
 * @rst: send one
 *
 * What waits is dropped. The first call decides: the flow's address may belong to another connection by the next one.
 * The flow lives on until the reset has left. A peer that takes nothing must not make us keep more than vst_max_resets:
 * it hears of others when it sends to them.
 */
void vst_tx_end(struct vst_flow *flow, bool rst)
{
	struct vst_link *link = flow->link;
	bool was_queued = false, in_ring;
	LIST_HEAD(dropped);

	spin_lock(&link->tx_lock);
	if (flow->mute) {
		spin_unlock(&link->tx_lock);
		return;
	}
	WRITE_ONCE(flow->mute, true);
	in_ring = flow->n_in_ring;
	link->n_awaited += flow->n_in_ring;
	drop_waiting(flow, &dropped);
	rst = rst && link->up;
	if (rst && link->n_resets >= READ_ONCE(vst_max_resets)) {
		vst_count(link, VST_STAT_RESETS_UNSENT, 1);
		rst = false;
	}
	flow->ctl = rst ? VST_CTL_RST : 0;
	if (rst) {
		link->n_resets++;
		hurry(flow);
	} else if (vsp_flow_queued(&flow->sched)) {
		vsp_sched_remove(&link->sched, &flow->sched);
		was_queued = true;
	}
	spin_unlock(&link->tx_lock);
	vst_pkts_free(&dropped);
	if (was_queued)
		vst_flow_put(flow);
	if (in_ring)
		link->ops->pump(link);
	else if (rst)
		link->ops->tell(link);
}

/* The link went down: nothing that waits will ever leave. tx_lock is held; packets to free go to @dropped. */
void vst_tx_drain(struct vst_link *link, struct list_head *dropped)
{
	struct vsp_flow *next;
	struct vst_flow *flow;

	lockdep_assert_held(&link->tx_lock);
	link->budget.used = 0;
	link->n_resets = 0;
	link->midway = NULL;
	link->dgrams.probe_due = false;
	while ((next = vsp_sched_next(&link->sched))) {
		flow = container_of(next, struct vst_flow, sched);
		flow->ctl = 0;
		drop_waiting(flow, dropped);
		vsp_sched_remove(&link->sched, next);
		vst_flow_put(flow);
	}
}
