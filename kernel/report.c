// SPDX-License-Identifier: GPL-2.0-only
/*
 * report.c - tells programs of the connections there are, by generic netlink
 *
 * proto/report.h is the interface. Nothing is asked of who asks: ss tells everybody as much of other sockets. A dump
 * that does not fit into one message goes on where it stopped by counting, so connections that come and go meanwhile
 * may be missing in it, or be there twice.
 */
#include <net/genetlink.h>

#include "vst.h"
#include "proto/report.h"

/* Every link there is. */
static LIST_HEAD(links);
static DEFINE_SPINLOCK(links_lock);

static struct genl_family family;

void vst_report_add(struct vst_link *link)
{
	spin_lock(&links_lock);
	list_add_tail(&link->on_report, &links);
	spin_unlock(&links_lock);
}

void vst_report_remove(struct vst_link *link)
{
	spin_lock(&links_lock);
	list_del(&link->on_report);
	spin_unlock(&links_lock);
}

/* What of a flow changes while it is looked at. */
struct snapshot {
	bool shown;
	struct vst_traffic traffic;
	struct vsp_txc txc;
	struct vsp_rxc rxc;
};

static struct snapshot look_at(struct vst_flow *flow, const struct net *net)
{
	struct snapshot s;

	spin_lock(&flow->lock);
	s.shown = flow->sk && net_eq(sock_net(flow->sk), net);
	s.traffic = flow->traffic;
	s.txc = flow->txc;
	s.rxc = flow->rxc;
	spin_unlock(&flow->lock);
	return s;
}

static bool put_addr(struct sk_buff *skb, const struct vst_flow *flow)
{
	return !nla_put_u64_64bit(skb, VST_REPORT_ID, flow->id, VST_REPORT_PAD) &&
	       !nla_put_u32(skb, VST_REPORT_LOCAL_CID, flow->key.local.cid) &&
	       !nla_put_u32(skb, VST_REPORT_LOCAL_PORT, flow->key.local.port) &&
	       !nla_put_u32(skb, VST_REPORT_REMOTE_CID, flow->key.remote.cid) &&
	       !nla_put_u32(skb, VST_REPORT_REMOTE_PORT, flow->key.remote.port) &&
	       !nla_put_string(skb, VST_REPORT_TYPE, vsp_type_name(flow->key.type)) &&
	       !nla_put_string(skb, VST_REPORT_STATE, vsp_state_name(READ_ONCE(flow->state)));
}

static bool put_numbers(struct sk_buff *skb, const struct snapshot *s)
{
	const struct vst_traffic *t = &s->traffic;

	return !nla_put_u64_64bit(skb, VST_REPORT_RX_PACKETS, t->rx_packets, VST_REPORT_PAD) &&
	       !nla_put_u64_64bit(skb, VST_REPORT_RX_BYTES, t->rx_bytes, VST_REPORT_PAD) &&
	       !nla_put_u64_64bit(skb, VST_REPORT_TX_PACKETS, t->tx_packets, VST_REPORT_PAD) &&
	       !nla_put_u64_64bit(skb, VST_REPORT_TX_BYTES, t->tx_bytes, VST_REPORT_PAD) &&
	       !nla_put_u32(skb, VST_REPORT_UNREAD, vsp_rxc_unread(&s->rxc)) &&
	       !nla_put_u32(skb, VST_REPORT_RX_WINDOW, s->rxc.buf_alloc) &&
	       !nla_put_u32(skb, VST_REPORT_UNSENT, vsp_txc_unsent(&s->txc)) &&
	       !nla_put_u32(skb, VST_REPORT_UNACKED, vsp_txc_unacked(&s->txc)) &&
	       !nla_put_u32(skb, VST_REPORT_TX_WINDOW, vsp_txc_window(&s->txc)) &&
	       !nla_put_u32(skb, VST_REPORT_TX_HELD, t->tx_held);
}

/* Returns false if the message has no room for it. */
static bool put_flow(struct sk_buff *skb, struct netlink_callback *cb, struct vst_flow *flow)
{
	struct snapshot s = look_at(flow, sock_net(skb->sk));
	void *head;

	if (!s.shown)
		return true;
	head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family, NLM_F_MULTI, VST_REPORT_FLOWS);
	if (!head)
		return false;
	if (!put_addr(skb, flow) || !put_numbers(skb, &s)) {
		genlmsg_cancel(skb, head);
		return false;
	}
	genlmsg_end(skb, head);
	return true;
}

/* The flows of a link from number @cb->args[0] on, of all links; @at counts them. Returns false if there is no room. */
static bool put_link(struct sk_buff *skb, struct netlink_callback *cb, struct vst_link *link, long *at)
{
	struct vst_flow *flow;
	bool fits = true;

	spin_lock(&link->flows_lock);
	list_for_each_entry(flow, &link->flows, on_link) {
		fits = *at < cb->args[0] || put_flow(skb, cb, flow);
		if (!fits)
			break;
		++*at;
	}
	spin_unlock(&link->flows_lock);
	return fits;
}

static int dump_flows(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct vst_link *link;
	long at = 0;

	spin_lock(&links_lock);
	list_for_each_entry(link, &links, on_report) {
		if (!put_link(skb, cb, link, &at))
			break;
	}
	spin_unlock(&links_lock);
	cb->args[0] = at;
	return skb->len;
}

static const struct genl_ops ops[] = {
	{ .cmd = VST_REPORT_FLOWS, .dumpit = dump_flows },
};

static struct genl_family family = {
	.name = VST_REPORT_NAME,
	.version = VST_REPORT_VERSION,
	.netnsok = true,
	.module = THIS_MODULE,
	.ops = ops,
	.n_ops = ARRAY_SIZE(ops),
};

int vst_report_init(void)
{
	return genl_register_family(&family);
}

void vst_report_exit(void)
{
	genl_unregister_family(&family);
}
