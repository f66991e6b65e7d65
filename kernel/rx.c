// SPDX-License-Identifier: GPL-2.0-only
/*
 * rx.c - what arrives over a link
 *
 * One worker per link runs vst_rx(). It takes spinlocks only, never a socket's lock: payload and credit are settled
 * here, under the flow's lock; what changes a socket's state is left as a bit for the socket (vst_ring_bell()). A
 * process that is stuck with its socket's lock held therefore delays nobody else.
 */
#include <linux/skmsg.h>

#include "vst.h"
#include "trace.h"

/* What became of a packet under the flow's lock, to be acted on without it. */
struct rx_result {
	bool no_flow; /* the flow is over: the packet is for nobody, or for a new connection */
	bool wake_reader;
	bool feed; /* and it is a sockmap */
	bool wake_writer;
	bool send_credit;
	bool unheld; /* payload that waited may go */
	bool ended;  /* the flow is over from this packet on */
	bool reset;  /* and the peer has to be told */
	bool bell;   /* the socket has to be told */
	enum vsp_reject why;
};

/* Is there room for another reply? If not, the caller stops taking packets until vst_link_ops.resume_rx(). */
bool vst_rx_ready(const struct vst_link *link)
{
	/* Without the lock: whoever makes room calls resume_rx() after that, and the caller looks once more. */
	struct vsp_budget budget = { .limit = link->budget.limit, .used = READ_ONCE(link->budget.used) };

	return vsp_budget_left(&budget);
}

/* The state as far as packets go. The socket's may lag behind by what lies in vst_flow.bits. */
static enum vsp_state wire_state(const struct vst_flow *flow)
{
	if (flow->closing)
		return VSP_CLOSING;
	return flow->open ? VSP_ESTABLISHED : VSP_CONNECTING;
}

/* Credit of a packet that has any: a reset is sent by whoever knows of no flow, a request by one with another flow. */
static bool take_credit(struct vst_flow *flow, const struct vsp_hdr *hdr, struct rx_result *res)
{
	struct vsp_stamp stamp = { .buf_alloc = hdr->buf_alloc, .fwd_cnt = hdr->fwd_cnt };

	if (hdr->op == VSP_OP_RST || hdr->op == VSP_OP_REQUEST)
		return true;
	switch (vsp_txc_update(&flow->txc, stamp)) {
	case VSP_CREDIT_LIE:
		res->why = VSP_REJECT_FWD_CNT;
		return false;
	case VSP_CREDIT_GREW:
		res->wake_writer = true;
		break;
	default:
		break;
	}
	trace_vst_credit(flow, hdr->op, false);
	if (vsp_meter_acked(&flow->meter, flow->txc.peer_fwd_cnt)) {
		flow->asked = false;
		flow->meter_tries = 0;
		res->unheld = flow->held;
	}
	return true;
}

/* The end of what the peer sends, in the middle of a message: it will never be whole. */
static bool cuts_message(const struct vst_flow *flow)
{
	return flow->open && (flow->hints & VSP_SHUTDOWN_SEND) && flow->arriving.len;
}

/* Fold the packet and what the ledgers say of it into an event. */
static enum vsp_event fold(struct vst_flow *flow, const struct vsp_hdr *hdr, struct rx_result *res)
{
	if (!take_credit(flow, hdr, res))
		return VSP_EV_VIOLATION;
	switch (hdr->op) {
	case VSP_OP_RW:
		if (flow->open && (flow->hints & VSP_SHUTDOWN_SEND)) {
			res->why = VSP_REJECT_AFTER_END;
			return VSP_EV_VIOLATION;
		}
		if (flow->open && !vsp_rxc_admit(&flow->rxc, hdr->len)) {
			res->why = VSP_REJECT_CREDIT;
			return VSP_EV_VIOLATION;
		}
		return VSP_EV_DATA;
	case VSP_OP_SHUTDOWN:
		flow->hints |= hdr->flags & VSP_SHUTDOWN_BOTH;
		if (cuts_message(flow)) {
			res->why = VSP_REJECT_STATE;
			return VSP_EV_VIOLATION;
		}
		return vsp_event_of_shutdown(flow->hints, vsp_rxc_unread(&flow->rxc) || flow->records.count);
	case VSP_OP_RESPONSE:
		/* So an earlier one answered an attempt that was given up, and this payload was of that. */
		if (flow->traffic.rx_packets) {
			res->why = VSP_REJECT_STATE;
			return VSP_EV_VIOLATION;
		}
		return VSP_EV_RESPONSE;
	case VSP_OP_RST:
		return vsp_event_of_rst(flow->hints, READ_ONCE(flow->shut));
	case VSP_OP_CREDIT_REQUEST:
		vsp_rxc_ask(&flow->rxc);
		return VSP_EV_CREDIT_REQUEST;
	default:
		return vsp_event_of(hdr->op);
	}
}

/* The bit that tells the socket of an event, or -1 if it need not know. */
static int bit_of(enum vsp_event event, struct vsp_verdict v)
{
	if (v.acts & VSP_ACT_AGAIN)
		return VST_BIT_REPLACED;
	switch (event) {
	case VSP_EV_RESPONSE:
		return v.acts & VSP_ACT_OPEN ? VST_BIT_RESPONSE : -1;
	case VSP_EV_SHUTDOWN_PART:
	case VSP_EV_SHUTDOWN_UNREAD:
	case VSP_EV_SHUTDOWN:
		return v.acts & VSP_ACT_HINT ? VST_BIT_SHUTDOWN : VST_BIT_VIOLATION;
	case VSP_EV_RST:
	case VSP_EV_RST_AFTER_END:
		return VST_BIT_RST;
	default:
		return v.next == VSP_CLOSED ? VST_BIT_VIOLATION : -1;
	}
}

/* Run the packet through the table, under the flow's lock. Payload is not touched yet. */
static struct vsp_verdict judge(struct vst_flow *flow, const struct vsp_hdr *hdr, enum vsp_reject why,
				struct rx_result *res)
{
	enum vsp_state state = wire_state(flow);
	enum vsp_event event = VSP_EV_VIOLATION;
	struct vsp_verdict v;
	int bit;

	res->why = why;
	/* See vsp_ends_flow(). */
	if (why == VSP_OK || hdr->op == VSP_OP_RST)
		event = fold(flow, hdr, res);
	v = vsp_conn_step(state, event);
	if ((v.acts & VSP_ACT_UNEXPECTED) && res->why == VSP_OK)
		res->why = VSP_REJECT_STATE;
	if (v.acts & VSP_ACT_OPEN)
		flow->open = true;
	bit = bit_of(event, v);
	if (bit >= 0) {
		set_bit(bit, &flow->bits);
		res->bell = true;
	}
	res->ended = v.next == VSP_CLOSED;
	res->reset = v.acts & VSP_ACT_SEND_RST;
	res->no_flow = v.acts & VSP_ACT_AGAIN;
	res->send_credit = v.acts & VSP_ACT_SEND_CREDIT;
	if (res->ended)
		flow->over = true;
	return v;
}

/* Fill what room the last segment has; returns the bytes that went there. */
static u32 fill_tail(struct vst_flow *flow, const u8 *data, u32 len)
{
	struct vst_seg *tail;
	u32 n;

	if (list_empty(&flow->rx))
		return 0;
	tail = list_last_entry(&flow->rx, struct vst_seg, node);
	n = min(len, tail->cap - tail->len);
	memcpy(tail->data + tail->len, data, n);
	tail->len += n;
	flow->readable += n;
	return n;
}

/* Is the receive buffer itself to be handed to the reader? Only where that wastes less than half of it. */
static bool may_hand(const struct vst_payload *payload)
{
	return payload->page && payload->len > VST_COPY_MAX && payload->len >= (PAGE_SIZE << payload->order) / 2;
}

/*
 * A segment with up to @len bytes of the payload, those at @from, or with the receive buffer. Memory may be there in
 * small pieces only.
 */
static struct vst_seg *seg_for(struct vst_link *link, struct vst_payload *payload, u32 from, u32 len)
{
	struct vst_seg *seg;

	if (may_hand(payload)) {
		seg = vst_seg_from_page(payload->page, payload->order, len, GFP_NOIO | __GFP_NOWARN);
		payload->taken = seg;
		vst_count(link, VST_STAT_RX_HANDED, 1);
		return seg;
	}
	seg = vst_seg_new(&link->spares, len, GFP_NOIO | __GFP_NOWARN);
	if (!seg && len > VST_SEG_MIN) {
		len = VST_SEG_MIN;
		seg = vst_seg_new(&link->spares, len, GFP_NOIO | __GFP_NOWARN);
	}
	if (seg) {
		memcpy(seg->data, payload->data + from, len);
		seg->len = len;
		vst_count(link, VST_STAT_RX_COPIED, 1);
	}
	return seg;
}

/* Segments with the rest of the payload. False without memory; *@segs holds some then. */
static bool segs_for(struct vst_link *link, struct vst_payload *payload, u32 from, struct list_head *segs)
{
	struct vst_seg *seg;

	while (from < payload->len) {
		seg = seg_for(link, payload, from, payload->len - from);
		if (!seg)
			return false;
		list_add_tail(&seg->node, segs);
		from += seg->len;
	}
	return true;
}

static void free_segs(struct vst_link *link, struct list_head *segs)
{
	struct vst_seg *seg, *next;

	list_for_each_entry_safe(seg, next, segs, node)
		vst_seg_free(link, seg);
}

/* Nobody will read these bytes: they count as consumed, so that the peer's window does not leak away. */
static void discard(struct vst_flow *flow, u32 len, struct rx_result *res)
{
	vst_drop(flow, VST_DROP_LATE, len);
	vsp_rxc_consume(&flow->rxc, len);
	res->send_credit |= vsp_rxc_update_due(&flow->rxc, 1, flow->txc.peer_buf_alloc);
}

/* Without memory the connection ends: a stream with a hole in it is worse. */
static void fail_delivery(struct vst_flow *flow, enum vsp_reject why, struct rx_result *res)
{
	res->why = why;
	res->ended = true;
	res->reset = true;
	res->bell = true;
	flow->over = true;
	set_bit(VST_BIT_VIOLATION, &flow->bits);
}

/*
 * Does a sockmap's program wait for what arrives at this socket? A reader must not see it first: it would wait here for
 * what the sockmap then has.
 */
static bool feeds_sockmap(const struct sock *sk)
{
	const struct sk_psock *psock;
	bool feeds;

	rcu_read_lock();
	psock = sk_psock(sk);
	feeds = psock && psock->saved_data_ready;
	rcu_read_unlock();
	return feeds;
}

/*
 * Append admitted payload. Called with the flow's lock held and returns with it held, but drops it to get memory; this
 * worker is the only one that appends. In the meantime the socket may have closed.
 */
static void deliver(struct vst_link *link, struct vst_flow *flow, struct vst_payload *payload, struct rx_result *res)
{
	u32 done = may_hand(payload) ? 0 : fill_tail(flow, payload->data, payload->len);
	bool got = true;
	LIST_HEAD(segs);

	if (done < payload->len) {
		spin_unlock(&flow->lock);
		got = segs_for(link, payload, done, &segs);
		spin_lock(&flow->lock);
	}
	if (!got) {
		fail_delivery(flow, VSP_REJECT_NO_MEMORY, res);
	} else if (flow->closing || !flow->sk) {
		discard(flow, payload->len - done, res);
	} else {
		list_splice_tail_init(&segs, &flow->rx);
		flow->readable += payload->len - done;
		res->wake_reader = flow->readable >= (u32)READ_ONCE(flow->sk->sk_rcvlowat);
		res->feed = res->wake_reader && flow->key.type == VSP_TYPE_STREAM && feeds_sockmap(flow->sk);
		flow->for_skb = res->feed;
	}
	if (!list_empty(&segs)) {
		spin_unlock(&flow->lock);
		free_segs(link, &segs);
		spin_lock(&flow->lock);
	}
}

/* The sockmap had its turn. What it has left, for want of memory, is for the reader. */
static void end_feeding(struct vst_flow *flow, struct sock *sk)
{
	bool left;

	spin_lock(&flow->lock);
	flow->for_skb = false;
	left = flow->readable;
	spin_unlock(&flow->lock);
	if (left)
		sk->sk_data_ready(sk);
}

/* A packet of a seqpacket flow was delivered: does it end a message? The flow's lock is held; room was reserved. */
static void end_record(struct vst_flow *flow, const struct vsp_hdr *hdr, struct rx_result *res)
{
	struct vst_record rec = { .eor = hdr->flags & VSP_SEQ_EOR };

	res->wake_reader = false;
	if (res->ended || flow->closing)
		return;
	switch (vsp_record_add(&flow->arriving, hdr->len, hdr->flags, &rec.len)) {
	case VSP_RECORD_END:
		vst_records_push(&flow->records, rec);
		res->wake_reader = true;
		break;
	case VSP_RECORD_FULL:
		fail_delivery(flow, VSP_REJECT_RECORDS, res);
		break;
	case VSP_RECORD_PART:
		res->send_credit |= vsp_rxc_update_due(&flow->rxc, vst_lowat(flow, 1), flow->txc.peer_buf_alloc);
		break;
	}
}

static void settle_listener(struct vst_link *link)
{
	struct sock *sk = link->rx_listener;

	if (!sk)
		return;
	link->rx_listener = NULL;
	sk->sk_data_ready(sk);
	sock_put(sk);
}

/**
 * vst_rx_settle - wake the reader or listener that has not been woken for what arrived last
 * @link: the device; its receive worker has no more packets for now, or is about to let others have a turn
 *
 * One that is woken for each packet of many sleeps again before the next, which costs both more than the packet.
 */
void vst_rx_settle(struct vst_link *link)
{
	struct vst_flow *flow = link->rx_unwoken;
	struct sock *sk;

	settle_listener(link);
	if (!flow)
		return;
	link->rx_unwoken = NULL;
	sk = vst_flow_sock(flow);
	if (sk) {
		sk->sk_data_ready(sk);
		sock_put(sk);
	}
	vst_flow_put(flow);
}

/* Of @len bytes more the reader will hear, now if it is much: it can copy while the next packets come. */
static void count_unwoken(struct vst_link *link, u32 len)
{
	link->rx_unwoken_bytes += max_t(u32, len, VST_WAKE_BYTES / VST_WAKE_PACKETS);
	if (link->rx_unwoken_bytes >= VST_WAKE_BYTES)
		vst_rx_settle(link);
}

/* Other packets may follow at once. At most one flow or listener waits for them, and for no packets but its own. */
static void wake_reader_soon(struct vst_link *link, struct vst_flow *flow, u32 len)
{
	if (link->rx_unwoken != flow) {
		vst_rx_settle(link);
		vst_flow_get(flow);
		link->rx_unwoken = flow;
		link->rx_unwoken_bytes = 0;
	}
	count_unwoken(link, len);
}

/* The same with the connections of a listener, or a socket's datagrams, of @len bytes; its reference is taken over. */
void vst_rx_accepted(struct vst_link *link, struct sock *sk, u32 len)
{
	if (link->rx_listener == sk) {
		sock_put(sk);
	} else {
		vst_rx_settle(link);
		link->rx_listener = sk;
		link->rx_unwoken_bytes = 0;
	}
	count_unwoken(link, len);
}

/* Everything that needs a socket, or the link, after the flow's lock was dropped. */
static void act(struct vst_link *link, struct vst_flow *flow, const struct rx_result *res, u32 len)
{
	struct sock *sk;

	if (res->why != VSP_OK)
		vst_link_reject(link, res->why);
	if (res->ended) {
		vst_tx_end(flow, res->reset);
		vst_flow_forget(flow);
	} else if (res->send_credit) {
		vst_send_ctl(flow, VST_CTL_CREDIT_UPDATE, 0);
	} else if (res->unheld) {
		vst_send_ctl(flow, 0, 0);
	}
	if (res->wake_reader && !res->feed)
		wake_reader_soon(link, flow, len);
	if (!res->bell && !res->feed && !res->wake_writer)
		return;
	sk = vst_flow_sock(flow);
	if (!sk)
		return;
	if (res->bell)
		vst_ring_bell(flow, sk);
	if (res->feed) {
		sk->sk_data_ready(sk);
		end_feeding(flow, sk);
	}
	if (res->wake_writer)
		sk->sk_write_space(sk);
	sock_put(sk);
}

/* Returns false if the packet is not this flow's after all. */
static bool rx_flow(struct vst_link *link, struct vst_flow *flow, const struct vsp_decoded *d,
		    struct vst_payload *payload)
{
	bool seqpacket = flow->key.type == VSP_TYPE_SEQPACKET;
	struct rx_result res = { 0 };
	struct vsp_verdict v;
	bool reserved = !seqpacket || d->hdr.op != VSP_OP_RW || vst_records_reserve(&flow->records);

	spin_lock(&flow->lock);
	if (flow->over) {
		spin_unlock(&flow->lock);
		return false;
	}
	/* Of an earlier attempt. Not answered: the reset might leave behind the request, and end this one. */
	if (!flow->open && !flow->requested) {
		spin_unlock(&flow->lock);
		vst_link_reject(link, d->why == VSP_OK ? VSP_REJECT_STATE : d->why);
		return true;
	}
	v = judge(flow, &d->hdr, d->why, &res);
	payload->len = d->hdr.len;
	if (v.acts & (VSP_ACT_DELIVER | VSP_ACT_DISCARD)) {
		flow->traffic.rx_packets++;
		flow->traffic.rx_bytes += payload->len;
	}
	if ((v.acts & VSP_ACT_DELIVER) && !reserved)
		fail_delivery(flow, VSP_REJECT_NO_MEMORY, &res);
	else if ((v.acts & VSP_ACT_DELIVER) && payload->len)
		deliver(link, flow, payload, &res);
	if ((v.acts & VSP_ACT_DELIVER) && seqpacket)
		end_record(flow, &d->hdr, &res);
	if (v.acts & VSP_ACT_DISCARD)
		discard(flow, payload->len, &res);
	spin_unlock(&flow->lock);
	act(link, flow, &res, payload->len);
	return !res.no_flow;
}

static enum vsp_reject rx_no_flow(struct vst_link *link, const struct vsp_hdr *hdr, struct vst_ask ask)
{
	struct sockaddr_vm addr;
	struct sock *sk;

	/* A reset for what is already gone is the normal end of two closes that crossed. */
	if (hdr->op == VSP_OP_RST)
		return VSP_OK;
	if (hdr->op != VSP_OP_REQUEST)
		return VSP_REJECT_NO_FLOW;
	vsock_addr_init(&addr, hdr->dst.cid, hdr->dst.port);
	sk = vsock_find_bound_socket(&addr);
	if (!sk)
		return VSP_REJECT_NO_FLOW;
	if (READ_ONCE(sk->sk_state) != TCP_LISTEN ||
	    sk->sk_type != (hdr->type == VSP_TYPE_STREAM ? SOCK_STREAM : SOCK_SEQPACKET)) {
		sock_put(sk);
		return VSP_REJECT_NO_FLOW;
	}
	return vst_listen_request(link, sk, hdr, ask);
}

/**
 * vst_rx - a packet arrived
 * @link: the device; vst_rx_ready() was true
 * @wire: a private copy of the header
 * @have: bytes that arrived, header and payload together
 * @payload: where the payload lies; @len is set here
 *
 * May sleep for memory. One caller at a time per link, who calls vst_rx_settle() after the last packet.
 */
void vst_rx(struct vst_link *link, const struct vsp_wire *wire, u32 have, struct vst_payload *payload)
{
	struct vst_ask ask = vst_link_ask(link);
	struct vsp_filter filter = { .my_cid = READ_ONCE(link->local_cid),
				     .peer_cid = link->peer_cid,
				     .types = link->types };
	struct vsp_decoded d = vsp_decode(wire, have, filter);
	struct vst_key key = { .local = d.hdr.dst, .remote = d.hdr.src, .type = d.hdr.type };
	struct vst_flow *flow = NULL;
	bool served = false;

	vst_count(link, VST_STAT_RX_PACKETS, 1);
	vst_count(link, VST_STAT_RX_BYTES, have > VSP_HDR_LEN ? have - VSP_HDR_LEN : 0);
	if (have >= VSP_HDR_LEN)
		vst_tap(wire, payload->data, payload->data ? min(have - VSP_HDR_LEN, le32_to_cpu(wire->len)) : 0);
	if (vst_dgram_rx(link, &d, payload))
		return;
	if (d.why == VSP_OK || vsp_ends_flow(d.why)) {
		/* In this order: what is being granted just now is stopped, or found. */
		if (d.hdr.op == VSP_OP_RST)
			vst_listen_cancel(link, &d.hdr);
		flow = vst_flow_find(link->side, &key);
	}
	if (flow) {
		served = rx_flow(link, flow, &d, payload);
		vst_flow_put(flow);
	}
	if (served)
		return;
	if (d.why == VSP_OK)
		d.why = rx_no_flow(link, &d.hdr, ask);
	if (d.why == VSP_OK)
		return;
	vst_link_reject(link, d.why);
	if (vsp_wants_rst(d.why, &d.hdr) && !vst_reply(link, &d.hdr))
		vst_link_reject(link, VSP_REJECT_REPLIES);
}
