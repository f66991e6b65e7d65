// SPDX-License-Identifier: GPL-2.0-only
/*
 * link.c - a device or a guest: its life, its resets and its counters
 *
 * What is sent over a link is in tx.c, what is received in rx.c.
 */
#include "vst.h"
#include "trace.h"

static const char *const stat_names[] = {
	[VST_STAT_RX_PACKETS] = "rx_packets",
	[VST_STAT_RX_BYTES] = "rx_bytes",
	[VST_STAT_RX_COPIED] = "rx_copied",
	[VST_STAT_RX_HANDED] = "rx_handed",
	[VST_STAT_RX_NO_BUFFER] = "rx_no_buffer",
	[VST_STAT_TX_PACKETS] = "tx_packets",
	[VST_STAT_TX_BYTES] = "tx_bytes",
	[VST_STAT_TX_STRAIGHT] = "tx_straight",
	[VST_STAT_TX_HELD] = "tx_held",
	[VST_STAT_REPLIES] = "replies",
	[VST_STAT_CONNECTIONS] = "connections",
	[VST_STAT_RESETS] = "resets",
	[VST_STAT_ORPHANS_RESET] = "orphans_reset",
	[VST_STAT_RESETS_UNSENT] = "resets_unsent",
	[VST_STAT_RX_DROPPED] = "rx_dropped",
	[VST_STAT_TX_DROPPED] = "tx_dropped",
	[VST_STAT_DGRAM_RX] = "dgram_rx",
	[VST_STAT_DGRAM_RX_FULL] = "dgram_rx_full",
	[VST_STAT_DGRAM_RX_UNBOUND] = "dgram_rx_unbound",
	[VST_STAT_DGRAM_RX_CUT] = "dgram_rx_cut",
	[VST_STAT_DGRAM_RX_NO_MEMORY] = "dgram_rx_no_memory",
	[VST_STAT_DGRAM_REFUSED] = "dgram_refused",
	[VST_STAT_DGRAM_TX] = "dgram_tx",
	[VST_STAT_DGRAM_TX_DROPPED] = "dgram_tx_dropped",
};
static_assert(ARRAY_SIZE(stat_names) == NUM_VST_STATS);

const char *vst_stat_name(u32 stat)
{
	return stat < NUM_VST_STATS ? stat_names[stat] : "?";
}

/**
 * vst_link_init - a link with one reference, down
 * @side: the transport
 * @ops: the driver behind the link
 * @local_cid: our CID on it, or VSP_CID_ANY if it is not known yet
 * @link: zeroed memory inside the driver's structure
 */
void vst_link_init(struct vst_link *link, struct vst_side *side, const struct vst_link_ops *ops, u32 local_cid)
{
	refcount_set(&link->ref, 1);
	link->side = side;
	link->ops = ops;
	link->local_cid = local_cid;
	link->peer_cid = VSP_CID_ANY;
	link->types = VSP_TYPES(VSP_TYPE_STREAM);
	spin_lock_init(&link->tx_lock);
	spin_lock_init(&link->flows_lock);
	spin_lock_init(&link->inbox_lock);
	INIT_LIST_HEAD(&link->flows);
	INIT_LIST_HEAD(&link->inboxes);
	vsp_sched_init(&link->sched);
	link->budget.limit = VSP_REPLIES_DEFAULT;
	link->shared_until = jiffies;
	vst_dgram_link_init(link);
	atomic_inc(&vst_live_links);
	vst_report_add(link);
}

/* For routes under RCU: a reference, unless the last one has gone. */
bool vst_link_tryget(struct vst_link *link)
{
	return refcount_inc_not_zero(&link->ref);
}

void vst_link_put(struct vst_link *link)
{
	if (!refcount_dec_and_test(&link->ref))
		return;
	vst_report_remove(link);
	vst_spares_free(&link->spares);
	atomic_dec(&vst_live_links);
	link->ops->free(link);
}

/* The ring is ready. Sends what waits. */
void vst_link_up(struct vst_link *link)
{
	spin_lock(&link->tx_lock);
	WRITE_ONCE(link->up, true);
	spin_unlock(&link->tx_lock);
	link->ops->pump(link);
}

/* The ring is going. After this, nothing touches it from here. */
void vst_link_down(struct vst_link *link)
{
	LIST_HEAD(dropped);

	spin_lock(&link->tx_lock);
	WRITE_ONCE(link->up, false);
	vst_tx_drain(link, &dropped);
	spin_unlock(&link->tx_lock);
	vst_pkts_free(&dropped);
	vst_spares_free(&link->spares);
}

static void flow_gone(struct vst_flow *flow)
{
	struct sock *sk = vst_flow_sock(flow);

	spin_lock(&flow->lock);
	flow->over = true;
	spin_unlock(&flow->lock);
	vst_tx_end(flow, false);
	vst_flow_forget(flow);
	set_bit(VST_BIT_GONE, &flow->bits);
	if (!sk)
		return;
	vst_ring_bell(flow, sk);
	sock_put(sk);
}

/**
 * vst_link_ask - a connection is asked for from now on
 * @link: the device
 *
 * To be called before a request is taken to be for us, or our CID is looked at: both are of after the last reset then,
 * or vst_flow_insert() finds another one.
 */
struct vst_ask vst_link_ask(const struct vst_link *link)
{
	/* Pairs with smp_store_release() in vst_link_reset(). */
	return (struct vst_ask){ .resets = smp_load_acquire(&link->resets) };
}

/**
 * vst_link_reset - end every connection of a link, those still connecting included
 * @link: the device; may be up or down
 *
 * virtio 1.4 5.10.6.7, driver: existing connections are shut down on TRANSPORT_RESET. Sockets see ECONNRESET at once.
 * Requests that wait for their listener, or are being granted, are of no connection any more. Their answer would make
 * one that ends never.
 * Not through vsock_for_each_connected_socket(): it misses sockets that are connecting, and its lock is the wrong way
 * round.
 */
void vst_link_reset(struct vst_link *link)
{
	struct vst_flow *flow;
	LIST_HEAD(flows);

	spin_lock(&link->flows_lock);
	/* After our CID, if that is new. */
	smp_store_release(&link->resets, link->resets + 1);
	list_splice_init(&link->flows, &flows);
	while (!list_empty(&flows)) {
		flow = list_first_entry(&flows, struct vst_flow, on_link);
		vst_flow_get(flow);
		spin_unlock(&link->flows_lock);
		flow_gone(flow);
		vst_flow_put(flow);
		spin_lock(&link->flows_lock);
	}
	spin_unlock(&link->flows_lock);
	vst_listen_forget(link);
}

/* A socket that is bound to the old CID and not connected; one that is may not be touched without its lock. */
static bool follows_cid(const struct vst_link *link, const struct vsock_sock *vsk, u32 old)
{
	const struct sock *sk = sk_vsock(vsk);

	return (sk->sk_type == SOCK_STREAM || sk->sk_type == SOCK_SEQPACKET) && vsk->local_addr.svm_cid == old &&
	       (sk->sk_state == TCP_LISTEN || sk->sk_state == TCP_CLOSE);
}

/**
 * vst_link_set_cid - the device says that we have another CID
 * @link: the device
 * @cid: the CID that it says we have
 *
 * virtio 1.4 5.10.6.7, driver: listen connections remain operational with the current CID. One that is bound to the
 * old CID by number would never be found again, so its address is rewritten; the core's table is keyed by port alone.
 */
void vst_link_set_cid(struct vst_link *link, u32 cid)
{
	u32 old = link->local_cid;
	struct vsock_sock *vsk;
	unsigned int i;

	WRITE_ONCE(link->local_cid, cid);
	if (old == cid || old == VSP_CID_ANY)
		return;
	spin_lock_bh(&vsock_table_lock);
	for (i = 0; i < VSOCK_HASH_SIZE; i++) {
		list_for_each_entry(vsk, &vsock_bind_table[i], bound_table) {
			if (follows_cid(link, vsk, old))
				vsk->local_addr.svm_cid = cid;
		}
	}
	spin_unlock_bh(&vsock_table_lock);
	vst_dgram_set_cid(old, cid);
}

void vst_link_reject(struct vst_link *link, enum vsp_reject why)
{
	atomic64_inc(&link->rejects[why]);
	trace_vst_reject(link, why);
}

/* Payload of @flow is thrown away. One that has any has a link. */
void vst_drop(const struct vst_flow *flow, enum vst_drop why, u32 bytes)
{
	if (!bytes)
		return;
	vst_count(flow->link, why == VST_DROP_UNSENT ? VST_STAT_TX_DROPPED : VST_STAT_RX_DROPPED, bytes);
	trace_vst_drop(flow, why, bytes);
}
