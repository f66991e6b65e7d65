// SPDX-License-Identifier: GPL-2.0-only
/*
 * tx.c - what is sent over a link, and in what order
 *
 * Writers and the receive worker put packets and control flags on flows; the driver takes them off with vst_link_next()
 * whenever its ring has room, in the scheduler's order. A header is built when it leaves, with the credit of that
 * moment.
 */
#include "vst.h"

static bool has_work(const struct vst_flow *flow)
{
	return flow->ctl || !list_empty(&flow->tx);
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
	if (len)
		vsp_txc_sent(&flow->txc, len);
	spin_unlock(&flow->lock);
	hdr.buf_alloc = stamp.buf_alloc;
	hdr.fwd_cnt = stamp.fwd_cnt;
	return hdr;
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
	if (!list_empty(&flow->tx))
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

static void next_of_flow(struct vst_link *link, struct vst_flow *flow, struct vst_out *out)
{
	u32 flags, len = 0;
	enum vsp_op op = next_ctl(flow, &flags);

	if (op != VSP_OP_INVALID) {
		out->wire = vsp_encode(flow_hdr(flow, op, 0, flags));
		vst_tap(&out->wire, NULL, 0);
	} else {
		out->pkt = list_first_entry(&flow->tx, struct vst_pkt, node);
		list_del(&out->pkt->node);
		len = out->pkt->len;
		flow->in_ring += len;
		out->pkt->wire = vsp_encode(flow_hdr(flow, VSP_OP_RW, len, out->pkt->flags));
		vst_tap_pkt(out->pkt);
	}
	vsp_sched_charge(&link->sched, &flow->sched, len, has_work(flow));
	vst_count(link, VST_STAT_TX_BYTES, len);
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
	if (link->budget.used) {
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

/* Does anything wait for room in the ring? tx_lock is held. */
bool vst_link_waiting(const struct vst_link *link)
{
	lockdep_assert_held(&link->tx_lock);
	return link->budget.used || vsp_sched_next(&link->sched);
}

/* The device has used a packet: account for it and put it on @done, to be freed without tx_lock, which is held. */
void vst_pkt_done(struct vst_pkt *pkt, struct list_head *done)
{
	pkt->flow->in_ring -= pkt->len;
	list_add_tail(&pkt->node, done);
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
	bool taken, up;

	if (to->op == VSP_OP_RST)
		return true;
	spin_lock(&link->tx_lock);
	up = link->up;
	taken = up && vsp_budget_take(&link->budget);
	if (taken)
		link->replies[(link->reply_head + link->budget.used - 1) % VSP_REPLIES_DEFAULT] = vsp_rst_for(to);
	spin_unlock(&link->tx_lock);
	if (taken)
		link->ops->pump(link);
	return taken || !up;
}

static void wake_flow(struct vst_flow *flow)
{
	if (vsp_flow_queued(&flow->sched))
		return;
	vst_flow_get(flow);
	vsp_sched_wake(&flow->link->sched, &flow->sched);
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
	if (can)
		link->ops->pump(link);
}

/* Queue packets behind those of their flow, all at once. They are consumed. */
void vst_send_pkts(struct vst_flow *flow, struct list_head *pkts)
{
	struct vst_link *link = flow->link;
	bool can;

	spin_lock(&link->tx_lock);
	can = link->up && !flow->mute;
	if (can) {
		list_splice_tail_init(pkts, &flow->tx);
		wake_flow(flow);
	}
	spin_unlock(&link->tx_lock);
	if (can)
		link->ops->pump(link);
	else
		vst_pkts_free(pkts);
}

/**
 * vst_tx_end - the flow sends nothing any more, but for a last reset
 * @flow: the connection
 * @rst: send one
 *
 * What waits is dropped. The first call decides: the flow's address may belong to another connection by the next one.
 */
void vst_tx_end(struct vst_flow *flow, bool rst)
{
	struct vst_link *link = flow->link;
	bool was_queued = false;
	LIST_HEAD(dropped);

	spin_lock(&link->tx_lock);
	if (flow->mute) {
		spin_unlock(&link->tx_lock);
		return;
	}
	flow->mute = true;
	list_splice_init(&flow->tx, &dropped);
	rst = rst && link->up;
	flow->ctl = rst ? VST_CTL_RST : 0;
	if (rst) {
		wake_flow(flow);
	} else if (vsp_flow_queued(&flow->sched)) {
		vsp_sched_remove(&link->sched, &flow->sched);
		was_queued = true;
	}
	spin_unlock(&link->tx_lock);
	vst_pkts_free(&dropped);
	if (was_queued)
		vst_flow_put(flow);
	if (rst)
		link->ops->pump(link);
}

/* The link went down: nothing that waits will ever leave. tx_lock is held; packets to free go to @dropped. */
void vst_tx_drain(struct vst_link *link, struct list_head *dropped)
{
	struct vsp_flow *next;
	struct vst_flow *flow;

	lockdep_assert_held(&link->tx_lock);
	link->budget.used = 0;
	while ((next = vsp_sched_next(&link->sched))) {
		flow = container_of(next, struct vst_flow, sched);
		flow->ctl = 0;
		list_splice_tail_init(&flow->tx, dropped);
		vsp_sched_remove(&link->sched, next);
		vst_flow_put(flow);
	}
}
