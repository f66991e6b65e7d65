// SPDX-License-Identifier: GPL-2.0-only
/*
 * listen.c - requests on their way to a listener
 *
 * The receive worker serves a request at once, if it need not wait for the listener's lock. Memory it waits for as with
 * payload; the mutex of the core's that choosing a transport takes is held for moments only, and by nobody who sleeps.
 * Else the listener gets an inbox and a work item of its own, so one that is stuck stops only itself.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

#include "vst.h"

struct vst_inbox {
	struct list_head node; /* in vst_link.inboxes */
	struct delayed_work work;
	struct vst_link *link; /* a reference */
	struct sock *sk;       /* the listener; a reference */
	struct list_head requests;
	struct vst_request *serving; /* taken from there: the work's, but for its @ask.cancelled */
	u32 n;
};

struct vst_request {
	struct list_head node; /* in vst_inbox.requests */
	struct vsp_hdr hdr;
	struct vst_ask ask;
	bool waited; /* for the reply budget; counted once */
};

/* What keeps a request from being served, with the listener's lock held. */
static bool can_accept(const struct vst_link *link, const struct sock *sk)
{
	return sk->sk_state == TCP_LISTEN && sk->sk_shutdown != SHUTDOWN_MASK && !sk_acceptq_is_full(sk) &&
	       READ_ONCE(link->up);
}

/* The peer gave up, or knows nothing any more of what it asked for until now. */
static bool is_forgotten(const struct vst_link *link, const struct vst_ask *ask)
{
	return READ_ONCE(ask->cancelled) || ask->resets != READ_ONCE(link->resets);
}

/* Give the child its flow's address and its peer's window, and begin. Returns 0 or an error; the child is locked. */
static int open_child(struct vst_link *link, struct sock *child, const struct vsp_hdr *hdr, const struct vst_ask *ask)
{
	struct vst_key key = { .local = hdr->dst, .remote = hdr->src, .type = hdr->type };
	/* Nothing was sent that a request could acknowledge: its fwd_cnt means nothing. */
	struct vsp_stamp stamp = { .buf_alloc = hdr->buf_alloc };
	struct vst_flow *flow = vsock_sk(child)->trans;
	int err;

	spin_lock(&flow->lock);
	vsp_txc_update(&flow->txc, stamp);
	flow->open = true;
	spin_unlock(&flow->lock);
	refcount_inc(&link->ref);
	err = vst_flow_insert(flow, link, key, ask);
	if (!err)
		vst_spawn(flow);
	return err;
}

/* The listener is locked. Returns false if the peer has to be refused, unless it has forgotten the request. */
static bool accept_one(struct vst_link *link, struct sock *sk, const struct vsp_hdr *hdr, const struct vst_ask *ask)
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
	    open_child(link, child, hdr, ask)) {
		child->sk_state = TCP_CLOSE;
		release_sock(child);
		sock_put(child);
		return false;
	}
	vst_acceptq_added(sk);
	vsock_enqueue_accept(sk, child);
	vst_step(vchild->trans, VSP_EV_ACCEPT);
	release_sock(child);
	return true;
}

/* The last request is done with; take the next. An inbox that has none leaves the list and is the caller's. */
static struct vst_request *inbox_next(struct vst_inbox *inbox)
{
	struct vst_link *link = inbox->link;
	struct vst_request *req, *done;

	spin_lock(&link->inbox_lock);
	done = inbox->serving;
	req = list_first_entry_or_null(&inbox->requests, struct vst_request, node);
	if (req) {
		list_del(&req->node);
		inbox->n--;
		link->n_requests--;
	} else {
		list_del(&inbox->node);
	}
	inbox->serving = req;
	spin_unlock(&link->inbox_lock);
	kfree(done);
	return req;
}

static void put_back(struct vst_inbox *inbox, struct vst_request *req)
{
	spin_lock(&inbox->link->inbox_lock);
	inbox->serving = NULL;
	list_add(&req->node, &inbox->requests);
	inbox->n++;
	inbox->link->n_requests++;
	spin_unlock(&inbox->link->inbox_lock);
}

/*
 * Grant or refuse, unless the peer has forgotten it. False if it has to be refused and the reply budget is spent: every
 * request is answered.
 */
static bool serve(struct vst_inbox *inbox, struct vst_request *req)
{
	struct vst_link *link = inbox->link;
	bool ok;

	lock_sock(inbox->sk);
	/* That may have taken long. */
	ok = !is_forgotten(link, &req->ask) && accept_one(link, inbox->sk, &req->hdr, &req->ask);
	release_sock(inbox->sk);
	if (ok) {
		inbox->sk->sk_data_ready(inbox->sk);
		return true;
	}
	if (is_forgotten(link, &req->ask))
		return true;
	if (!vst_reply(link, &req->hdr)) {
		if (!req->waited)
			vst_link_reject(link, VSP_REJECT_REPLIES);
		req->waited = true;
		return false;
	}
	vst_link_reject(link, VSP_REJECT_BACKLOG);
	return true;
}

static void end_inbox(struct vst_inbox *inbox)
{
	struct vst_side *side = inbox->link->side;

	sock_put(inbox->sk);
	vst_link_put(inbox->link);
	kfree(inbox);
	if (atomic_dec_and_test(&side->n_inboxes))
		wake_up_var(&side->n_inboxes);
}

static void inbox_work(struct work_struct *work)
{
	struct vst_inbox *inbox = container_of(work, struct vst_inbox, work.work);
	struct vst_link *link = inbox->link;
	struct vst_request *req;

	while ((req = inbox_next(inbox))) {
		if (!serve(inbox, req)) {
			put_back(inbox, req);
			queue_delayed_work(link->side->inbox_wq, &inbox->work, msecs_to_jiffies(VST_REFUSE_RETRY_MS));
			return;
		}
	}
	end_inbox(inbox);
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
 * Takes over the reference to @sk, unless there is no memory. inbox_lock is held. The work is queued here, and again by
 * itself: while an inbox is in the list its work is queued or running and will look for more, and once it is not the
 * work has freed it.
 */
static struct vst_inbox *new_inbox(struct vst_link *link, struct sock *sk)
{
	struct vst_inbox *inbox = kzalloc(sizeof(*inbox), GFP_ATOMIC | __GFP_NOWARN);

	if (!inbox)
		return NULL;
	INIT_DELAYED_WORK(&inbox->work, inbox_work);
	INIT_LIST_HEAD(&inbox->requests);
	refcount_inc(&link->ref);
	inbox->link = link;
	inbox->sk = sk;
	list_add(&inbox->node, &link->inboxes);
	atomic_inc(&link->side->n_inboxes);
	queue_delayed_work(link->side->inbox_wq, &inbox->work, 0);
	return inbox;
}

/* A burst may be as long as the backlog, however busy the listener is; all bursts together are bounded, too. */
static bool inbox_fits(const struct vst_link *link, const struct vst_inbox *inbox)
{
	u32 limit = max_t(u32, VST_INBOX_MIN, READ_ONCE(inbox->sk->sk_max_ack_backlog) + 1);

	return inbox->n < limit && link->n_requests < VST_REQUESTS_MAX;
}

/* Do requests for @sk wait that came before? */
static bool has_inbox(struct vst_link *link, const struct sock *sk)
{
	bool has;

	spin_lock(&link->inbox_lock);
	has = find_inbox(link, sk);
	spin_unlock(&link->inbox_lock);
	return has;
}

/* What lock_sock() does, if it need not wait; lockdep has to be told too. */
static bool try_lock_sock(struct sock *sk)
{
	bool mine;

	spin_lock_bh(&sk->sk_lock.slock);
	mine = !sock_owned_by_user(sk);
	if (mine)
		sk->sk_lock.owned = 1;
	spin_unlock_bh(&sk->sk_lock.slock);
	if (mine)
		mutex_acquire(&sk->sk_lock.dep_map, 0, 1, _THIS_IP_);
	return mine;
}

/*
 * Serve a request at once. The listener is locked, and is let go; the reference is taken over. Returns false if the
 * peer has to be refused.
 */
static bool serve_now(struct vst_link *link, struct sock *sk, const struct vsp_hdr *hdr, const struct vst_ask *ask)
{
	/* What is written back may go through the caller. */
	unsigned int noio = memalloc_noio_save();
	bool ok = accept_one(link, sk, hdr, ask);

	memalloc_noio_restore(noio);
	release_sock(sk);
	if (ok)
		vst_rx_accepted(link, sk, 0);
	else
		sock_put(sk);
	return ok || is_forgotten(link, ask);
}

/**
 * vst_listen_request - a request arrived for a listener
 * @link: the device it came over
 * @sk: the listener; the reference is taken over
 * @hdr: the request
 * @ask: since before it was looked at
 *
 * Return: VSP_OK; or VSP_REJECT_BACKLOG, and the caller refuses. May sleep for memory.
 */
enum vsp_reject vst_listen_request(struct vst_link *link, struct sock *sk, const struct vsp_hdr *hdr,
				   struct vst_ask ask)
{
	struct vst_inbox *inbox;
	struct vst_request *req;
	bool fits, kept = false;

	if (!has_inbox(link, sk) && try_lock_sock(sk)) {
		if (can_accept(link, sk))
			return serve_now(link, sk, hdr, &ask) ? VSP_OK : VSP_REJECT_BACKLOG;
		/* What has to be refused is no hurry, and may have to wait for room for the answer. */
		release_sock(sk);
	}
	req = kmalloc(sizeof(*req), GFP_NOIO | __GFP_NOWARN);
	spin_lock(&link->inbox_lock);
	inbox = find_inbox(link, sk);
	if (!inbox) {
		inbox = new_inbox(link, sk);
		kept = inbox;
	}
	fits = req && inbox && inbox_fits(link, inbox);
	if (fits) {
		req->hdr = *hdr;
		req->ask = ask;
		req->waited = false;
		list_add_tail(&req->node, &inbox->requests);
		inbox->n++;
		link->n_requests++;
	}
	spin_unlock(&link->inbox_lock);
	/* Not under the lock: a listener that was closed meanwhile may end here. */
	if (!kept)
		sock_put(sk);
	if (!fits)
		kfree(req);
	return fits ? VSP_OK : VSP_REJECT_BACKLOG;
}

/* The inbox's link's inbox_lock is held. */
static void drop_request(struct vst_inbox *inbox, struct vst_request *req)
{
	list_del(&req->node);
	kfree(req);
	inbox->n--;
	inbox->link->n_requests--;
}

/* What the peer asked for before a reset takes no room from what it asks for since, which may be here already. */
void vst_listen_forget(struct vst_link *link)
{
	struct vst_request *req, *next;
	struct vst_inbox *inbox;

	spin_lock(&link->inbox_lock);
	list_for_each_entry(inbox, &link->inboxes, node)
		list_for_each_entry_safe(req, next, &inbox->requests, node)
			if (is_forgotten(link, &req->ask))
				drop_request(inbox, req);
	spin_unlock(&link->inbox_lock);
}

static bool asks_for(const struct vsp_hdr *req, const struct vsp_hdr *hdr)
{
	return vsp_addr_eq(req->src, hdr->src) && vsp_addr_eq(req->dst, hdr->dst) && req->type == hdr->type;
}

/*
 * The peer gave up, perhaps before its request was served. One that is being granted has its flow in the table by now,
 * or never will.
 */
void vst_listen_cancel(struct vst_link *link, const struct vsp_hdr *hdr)
{
	struct vst_request *req, *next;
	struct vst_inbox *inbox;

	spin_lock(&link->inbox_lock);
	list_for_each_entry(inbox, &link->inboxes, node) {
		if (inbox->serving && asks_for(&inbox->serving->hdr, hdr)) {
			spin_lock(&link->flows_lock);
			WRITE_ONCE(inbox->serving->ask.cancelled, true);
			spin_unlock(&link->flows_lock);
		}
		list_for_each_entry_safe(req, next, &inbox->requests, node)
			if (asks_for(&req->hdr, hdr))
				drop_request(inbox, req);
	}
	spin_unlock(&link->inbox_lock);
}
