// SPDX-License-Identifier: GPL-2.0-only
/*
 * listen.c - requests on their way to a listener
 *
 * Serving a request takes the listener's lock, memory and a mutex of the core's: nothing for the receive worker. Each
 * listener that has requests waiting gets an inbox and a work item of its own, so one that is stuck stops only itself.
 */
#include <linux/slab.h>

#include "vst.h"

struct vst_inbox {
	struct list_head node; /* in vst_link.inboxes */
	struct work_struct work;
	struct vst_link *link; /* a reference */
	struct sock *sk;       /* the listener; a reference */
	u32 first;
	u32 n;
	struct vsp_hdr queue[VST_INBOX_MAX];
};

/* What keeps a request from being served, with the listener's lock held. */
static bool can_accept(const struct vst_link *link, const struct sock *sk)
{
	return sk->sk_state == TCP_LISTEN && sk->sk_shutdown != SHUTDOWN_MASK && !sk_acceptq_is_full(sk) &&
	       READ_ONCE(link->up);
}

/* Give the child its flow's address and its peer's window. Returns 0 or an error; the child is locked. */
static int open_child(struct vst_link *link, struct sock *child, const struct vsp_hdr *hdr)
{
	struct vst_key key = { .local = hdr->dst, .remote = hdr->src, .type = hdr->type };
	/* Nothing was sent that a request could acknowledge: its fwd_cnt means nothing. */
	struct vsp_stamp stamp = { .buf_alloc = hdr->buf_alloc };
	struct vst_flow *flow = vsock_sk(child)->trans;

	spin_lock(&flow->lock);
	vsp_txc_update(&flow->txc, stamp);
	flow->open = true;
	spin_unlock(&flow->lock);
	flow->state = VSP_ACCEPTING;
	refcount_inc(&link->ref);
	return vst_flow_insert(flow, link, key);
}

/* The listener is locked. Returns false if the peer has to be refused. */
static bool accept_one(struct vst_link *link, struct sock *sk, const struct vsp_hdr *hdr)
{
	struct vsock_sock *vchild;
	struct sock *child;

	if (!can_accept(link, sk))
		return false;
	child = vsock_create_connected(sk);
	if (!child)
		return false;
	lock_sock_nested(child, SINGLE_DEPTH_NESTING);
	vchild = vsock_sk(child);
	child->sk_state = TCP_ESTABLISHED;
	vsock_addr_init(&vchild->local_addr, hdr->dst.cid, hdr->dst.port);
	vsock_addr_init(&vchild->remote_addr, hdr->src.cid, hdr->src.port);
	/* The core chooses the transport by address; a request that came over another one is refused. */
	if (vsock_assign_transport(vchild, vsock_sk(sk)) || vchild->transport != &link->side->ops ||
	    open_child(link, child, hdr)) {
		child->sk_state = TCP_CLOSE;
		release_sock(child);
		sock_put(child);
		return false;
	}
	vst_acceptq_added(sk);
	vsock_enqueue_accept(sk, child);
	vst_step(vchild->trans, VSP_EV_ACCEPT);
	release_sock(child);
	sk->sk_data_ready(sk);
	return true;
}

/* Take the next request; an inbox that has none leaves the list and is this caller's to free. */
static bool inbox_next(struct vst_inbox *inbox, struct vsp_hdr *hdr)
{
	struct vst_link *link = inbox->link;
	bool got;

	spin_lock(&link->inbox_lock);
	got = inbox->n > 0;
	if (got) {
		*hdr = inbox->queue[inbox->first];
		inbox->first = (inbox->first + 1) % VST_INBOX_MAX;
		inbox->n--;
	} else {
		list_del(&inbox->node);
		link->n_inboxes--;
	}
	spin_unlock(&link->inbox_lock);
	return got;
}

static void inbox_work(struct work_struct *work)
{
	struct vst_inbox *inbox = container_of(work, struct vst_inbox, work);
	struct vst_link *link = inbox->link;
	struct vsp_hdr hdr;
	bool ok;

	while (inbox_next(inbox, &hdr)) {
		/* Cancelled in the meantime. */
		if (hdr.op != VSP_OP_REQUEST)
			continue;
		lock_sock(inbox->sk);
		ok = accept_one(link, inbox->sk, &hdr);
		release_sock(inbox->sk);
		if (!ok) {
			vst_link_reject(link, VSP_REJECT_BACKLOG);
			vst_reply(link, &hdr);
		}
	}
	sock_put(inbox->sk);
	vst_link_put(link);
	kfree(inbox);
}

static struct vst_inbox *find_inbox(struct vst_link *link, const struct sock *sk)
{
	struct vst_inbox *inbox;

	list_for_each_entry(inbox, &link->inboxes, node) {
		if (inbox->sk == sk)
			return inbox;
	}
	return NULL;
}

/*
 * Takes over the reference to @sk. inbox_lock is held. The work is queued here and never again: while an inbox is in
 * the list its work is queued or running and will look for more, and once it is not the work has freed it.
 */
static struct vst_inbox *new_inbox(struct vst_link *link, struct sock *sk)
{
	struct vst_inbox *inbox = NULL;

	if (link->n_inboxes < VST_INBOXES_MAX)
		inbox = kzalloc(sizeof(*inbox), GFP_ATOMIC | __GFP_NOWARN);
	if (!inbox) {
		sock_put(sk);
		return NULL;
	}
	INIT_WORK(&inbox->work, inbox_work);
	refcount_inc(&link->ref);
	inbox->link = link;
	inbox->sk = sk;
	list_add(&inbox->node, &link->inboxes);
	link->n_inboxes++;
	queue_work(link->side->accept_wq, &inbox->work);
	return inbox;
}

/**
 * vst_listen_request - a request arrived for a listener
 * @link: the device it came over
 * @sk: the listener; the reference is taken over
 * @hdr: the request
 *
 * Return: VSP_OK; or VSP_REJECT_BACKLOG, and the caller refuses. Does not sleep.
 */
enum vsp_reject vst_listen_request(struct vst_link *link, struct sock *sk, const struct vsp_hdr *hdr)
{
	struct vst_inbox *inbox;
	bool fits = false;

	spin_lock(&link->inbox_lock);
	inbox = find_inbox(link, sk);
	if (inbox)
		sock_put(sk);
	else
		inbox = new_inbox(link, sk);
	fits = inbox && inbox->n < VST_INBOX_MAX;
	if (fits) {
		inbox->queue[(inbox->first + inbox->n) % VST_INBOX_MAX] = *hdr;
		inbox->n++;
	}
	spin_unlock(&link->inbox_lock);
	return fits ? VSP_OK : VSP_REJECT_BACKLOG;
}

/* The peer gave up, perhaps before its request was served. */
void vst_listen_cancel(struct vst_link *link, const struct vsp_hdr *hdr)
{
	struct vst_inbox *inbox;
	struct vsp_hdr *req;
	u32 i;

	spin_lock(&link->inbox_lock);
	list_for_each_entry(inbox, &link->inboxes, node) {
		for (i = 0; i < inbox->n; i++) {
			req = &inbox->queue[(inbox->first + i) % VST_INBOX_MAX];
			if (vsp_addr_eq(req->src, hdr->src) && vsp_addr_eq(req->dst, hdr->dst) &&
			    req->type == hdr->type)
				req->op = VSP_OP_INVALID;
		}
	}
	spin_unlock(&link->inbox_lock);
}
