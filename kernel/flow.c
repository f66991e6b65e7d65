// SPDX-License-Identifier: GPL-2.0-only
/*
 * flow.c - a connection's memory: how it is born, found and freed
 *
 * A flow is in the table while packets for its address are meant for it. It leaves the table once, and never returns: a
 * socket that connects again gets a new flow.
 */
#include <linux/jhash.h>
#include <linux/wait_bit.h>

#include "vst.h"
#include "trace.h"

static atomic64_t last_id = ATOMIC64_INIT(0);

static const struct rhashtable_params flow_params = {
	.key_len = sizeof(struct vst_key),
	.key_offset = offsetof(struct vst_flow, key),
	.head_offset = offsetof(struct vst_flow, hash),
	/* A table that shrinks to nothing grows, and is copied, for each few connections. */
	.min_size = 64,
	.automatic_shrinking = true,
};

/**
 * vst_side_register - sockets find a transport from now on
 * @side: zeroed memory, but for what is its module's
 *
 * Return: 0, -ENOMEM, or -EBUSY if another one is registered for this way. May sleep.
 */
int vst_side_register(struct vst_side *side)
{
	int err, feature = side->way == VST_DGRAM_TO_HOST ? VSOCK_TRANSPORT_F_G2H : VSOCK_TRANSPORT_F_H2G;

	side->wq = alloc_workqueue("vst", WQ_UNBOUND, 0);
	if (!side->wq)
		return -ENOMEM;
	err = -ENOMEM;
	side->inbox_wq = alloc_workqueue("vst_inbox", WQ_UNBOUND, 0);
	if (!side->inbox_wq)
		goto destroy_wq;
	err = rhashtable_init(&side->flows, &flow_params);
	if (err)
		goto destroy_inbox_wq;
	err = vsock_core_register(&side->ops, feature);
	if (err)
		goto destroy_flows;
	vst_dgram_add_side(side);
	return 0;

destroy_flows:
	rhashtable_destroy(&side->flows);
destroy_inbox_wq:
	destroy_workqueue(side->inbox_wq);
destroy_wq:
	destroy_workqueue(side->wq);
	return err;
}

/* No link is left. Nor is a socket, and a flow in the table, once the core has let go of the transport. */
void vst_side_unregister(struct vst_side *side)
{
	vst_dgram_remove_side(side);
	vsock_core_unregister(&side->ops);
	/* An inbox may be waiting for its timer, which destroying the queue would not wait for. */
	wait_var_event(&side->n_inboxes, !atomic_read(&side->n_inboxes));
	destroy_workqueue(side->inbox_wq);
	/* Waits for a close_timeout() that dropped the last socket and has yet to return. */
	destroy_workqueue(side->wq);
	rhashtable_destroy(&side->flows);
}

static void close_timeout(struct work_struct *work)
{
	struct vst_flow *flow = container_of(work, struct vst_flow, close_timer.work);
	struct sock *sk = flow->sk;

	/* The reference that arming the timer took keeps @sk, and through it @flow, alive; its end may unload us. */
	lock_sock(sk);
	/* Payload that a slow reader keeps from going out is not lost to a close; but it is not kept for ever. */
	if (flow->close_armed && READ_ONCE(flow->held) && flow->close_waits++ < VST_CLOSE_HELD_MAX) {
		queue_delayed_work(flow->side->wq, &flow->close_timer, msecs_to_jiffies(VST_CLOSE_TIMEOUT_MS));
		release_sock(sk);
		return;
	}
	if (flow->close_armed) {
		flow->close_armed = false;
		vst_step(flow, VSP_EV_TIMEOUT);
	}
	release_sock(sk);
	sock_put(sk);
}

/**
 * vst_flow_new - a flow for a socket, in no table yet
 * @side: the transport
 * @vsk: the socket; its buffer size becomes the window
 *
 * Return: a flow with one reference, or NULL. May sleep.
 */
struct vst_flow *vst_flow_new(struct vst_side *side, struct vsock_sock *vsk)
{
	struct vst_flow *flow = kzalloc(sizeof(*flow), GFP_KERNEL_ACCOUNT);

	if (!flow)
		return NULL;
	flow->id = atomic64_inc_return(&last_id);
	refcount_set(&flow->ref, 1);
	flow->side = side;
	INIT_LIST_HEAD(&flow->on_link);
	INIT_LIST_HEAD(&flow->rx);
	vst_records_init(&flow->records);
	INIT_LIST_HEAD(&flow->tx);
	INIT_DELAYED_WORK(&flow->close_timer, close_timeout);
	spin_lock_init(&flow->lock);
	vst_tx_init(flow);
	flow->state = VSP_CLOSED;
	flow->txc = vsp_txc_init(vsp_window_clamp(vsk->buffer_size));
	flow->rxc = vsp_rxc_init(vsp_window_clamp(vsk->buffer_size));
	atomic_inc(&vst_live_flows);
	return flow;
}

void vst_flow_get(struct vst_flow *flow)
{
	refcount_inc(&flow->ref);
}

static void flow_free_rcu(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct vst_flow, rcu));
}

/* May be called under vst_link.tx_lock: what a flow's end releases takes no lock of a link that has other users. */
void vst_flow_put(struct vst_flow *flow)
{
	if (!refcount_dec_and_test(&flow->ref))
		return;
	trace_vst_end(flow);
	vst_flow_purge_rx(flow);
	vst_records_free(&flow->records);
	if (flow->link)
		vst_link_put(flow->link);
	if (flow->key.type == VSP_TYPE_DGRAM)
		module_put(flow->side->ops.module);
	atomic_dec(&vst_live_flows);
	call_rcu(&flow->rcu, flow_free_rcu);
}

/**
 * vst_flow_insert - give a flow its address and let packets find it
 * @flow: a flow that was never in the table
 * @link: the device; a reference is taken over, also on failure
 * @key: the address
 * @ask: since when the connection is asked for
 *
 * Return: 0, -EADDRINUSE if a connection with this address exists, -ENODEV if the link went down, -ECONNRESET if it was
 * reset since or the peer gave up, -ENOMEM.
 */
int vst_flow_insert(struct vst_flow *flow, struct vst_link *link, struct vst_key key, const struct vst_ask *ask)
{
	int err;

	flow->link = link;
	flow->key = key;
	spin_lock(&link->flows_lock);
	vst_flow_get(flow);
	/*
	 * A link that goes down or is reset ends its flows under this lock, and a peer that gives up says so before it
	 * looks for one: this flow is seen then, or is not let in.
	 */
	if (!READ_ONCE(link->up))
		err = -ENODEV;
	else if (ask->cancelled || ask->resets != link->resets)
		err = -ECONNRESET;
	else
		err = rhashtable_lookup_insert_fast(&flow->side->flows, &flow->hash, flow_params);
	if (!err)
		list_add_tail(&flow->on_link, &link->flows);
	spin_unlock(&link->flows_lock);
	if (err) {
		vst_flow_put(flow);
		return err == -EEXIST ? -EADDRINUSE : err;
	}
	vst_count(link, VST_STAT_CONNECTIONS, 1);
	return 0;
}

/* Packets no longer find it, its address is free. Harmless if it is not in the table. */
void vst_flow_forget(struct vst_flow *flow)
{
	struct vst_link *link = flow->link;
	bool was_in;

	if (!link)
		return;
	spin_lock(&link->flows_lock);
	was_in = !list_empty(&flow->on_link);
	if (was_in) {
		list_del_init(&flow->on_link);
		rhashtable_remove_fast(&flow->side->flows, &flow->hash, flow_params);
	}
	spin_unlock(&link->flows_lock);
	if (was_in)
		vst_flow_put(flow);
}

/* The flow of a socket whose lock the caller does not hold, with a reference, or NULL: it may be parting. */
struct vst_flow *vst_flow_of_unlocked(const struct vsock_sock *vsk)
{
	struct vst_flow *flow;

	rcu_read_lock();
	flow = READ_ONCE(vsk->trans);
	if (flow && !refcount_inc_not_zero(&flow->ref))
		flow = NULL;
	rcu_read_unlock();
	return flow;
}

/* The flow with this address, with a reference, or NULL. */
struct vst_flow *vst_flow_find(struct vst_side *side, const struct vst_key *key)
{
	struct vst_flow *flow;

	rcu_read_lock();
	flow = rhashtable_lookup(&side->flows, key, flow_params);
	if (flow && !refcount_inc_not_zero(&flow->ref))
		flow = NULL;
	rcu_read_unlock();
	return flow;
}

/* The flow's socket with a reference, or NULL if it is gone or going. Takes vst_flow.lock. */
struct sock *vst_flow_sock(struct vst_flow *flow)
{
	struct sock *sk;

	spin_lock(&flow->lock);
	sk = flow->sk;
	if (sk && !refcount_inc_not_zero(&sk->sk_refcnt))
		sk = NULL;
	spin_unlock(&flow->lock);
	return sk;
}

/*
 * Free what was received. The caller owns the socket and has set @closing or parted with the flow, so that nothing more
 * comes, or nobody else has it.
 */
void vst_flow_purge_rx(struct vst_flow *flow)
{
	struct vst_seg *seg, *next;
	struct vst_records records;
	LIST_HEAD(segs);

	if (list_empty(&flow->rx) && !flow->records.count)
		return;
	spin_lock(&flow->lock);
	list_splice_init(&flow->rx, &segs);
	vst_drop(flow, VST_DROP_UNREAD, flow->readable);
	vsp_rxc_consume(&flow->rxc, flow->readable);
	flow->readable = 0;
	vst_records_move(&records, &flow->records);
	spin_unlock(&flow->lock);
	vst_records_free(&records);
	list_for_each_entry_safe(seg, next, &segs, node)
		vst_seg_free(flow->link, seg);
}
