// SPDX-License-Identifier: GPL-2.0-only
/*
 * sock.c - the operations that af_vsock calls, and the one place where a connection changes its state
 *
 * All operations run with the socket's lock held unless they say otherwise. What the receive worker has seen in the
 * meantime lies in vst_flow.bits and reaches the socket through the doorbell: at once if the socket is free, from its
 * backlog if not. That handler may not sleep: the core releases sockets in TASK_INTERRUPTIBLE.
 */
#include <linux/sched/signal.h>
#include <linux/skmsg.h>
#include <linux/uio.h>

#include "vst.h"
#include "trace.h"

/* The errno of a verdict's error; the order is enum vsp_err's. */
static const int errno_of[] = {
	[VSP_ERR_NONE] = 0,	  [VSP_ERR_REFUSED] = ECONNRESET, [VSP_ERR_RESET] = ECONNRESET,
	[VSP_ERR_PROTO] = EPROTO, [VSP_ERR_TIMEOUT] = ETIMEDOUT,
};
static_assert(ARRAY_SIZE(errno_of) == NUM_VSP_ERRS);

static struct vst_flow *flow_of(const struct vsock_sock *vsk)
{
	return vsk->trans;
}

/* Bytes that recv() can have now: none that a sockmap is about to have. */
static u32 readable(struct vst_flow *flow)
{
	u32 n;

	spin_lock(&flow->lock);
	n = flow->skb_busy || flow->for_skb ? 0 : flow->readable;
	spin_unlock(&flow->lock);
	return n;
}

/* Is there anything that recv() could return? Of a seqpacket flow, only whole messages. */
static bool has_unread(struct vst_flow *flow)
{
	bool any;

	spin_lock(&flow->lock);
	any = flow->key.type == VSP_TYPE_SEQPACKET ? flow->records.count : flow->readable;
	spin_unlock(&flow->lock);
	return any;
}

/* ---- the state ---- */

static void start_close_timer(struct vst_flow *flow, struct sock *sk)
{
	sock_hold(sk);
	flow->close_armed = true;
	queue_delayed_work(flow->side->wq, &flow->close_timer, msecs_to_jiffies(VST_CLOSE_TIMEOUT_MS));
}

static void stop_close_timer(struct vst_flow *flow, struct sock *sk)
{
	if (!flow->close_armed)
		return;
	flow->close_armed = false;
	/* If it runs already, it waits for the lock that we hold, finds itself disarmed and drops the reference. */
	if (cancel_delayed_work(&flow->close_timer))
		sock_put(sk);
}

/*
 * connect() is over. If it did not wait, the core's timer keeps the socket, and through it us, until it would have run
 * out. Should it run just now, it waits for our lock, finds nothing to do, and drops the reference itself.
 */
static void stop_connect_timer(struct sock *sk)
{
	struct delayed_work *work = &vsock_sk(sk)->connect_work;

	if (delayed_work_pending(work) && cancel_delayed_work(work))
		sock_put(sk);
}

static void open_sock(struct sock *sk)
{
	sk->sk_state = TCP_ESTABLISHED;
	if (sk->sk_socket)
		sk->sk_socket->state = SS_CONNECTED;
	vsock_insert_connected(vsock_sk(sk));
	sk->sk_state_change(sk);
}

static void take_hints(struct vst_flow *flow, struct sock *sk)
{
	u32 hints;

	spin_lock(&flow->lock);
	hints = flow->hints;
	spin_unlock(&flow->lock);
	/* The hints have the values of RCV_SHUTDOWN and SEND_SHUTDOWN. */
	WRITE_ONCE(vsock_sk(sk)->peer_shutdown, hints);
	sk->sk_state_change(sk);
}

/*
 * close() leaves a socket behind until the peer agrees. One that never does must not make us keep more of them than
 * vst_max_orphans; beyond it, connections are reset.
 */
static bool take_orphan(struct vst_flow *flow)
{
	struct vst_link *link = flow->link;

	flow->orphan = atomic_inc_return(&link->n_orphans) <= READ_ONCE(vst_max_orphans);
	if (flow->orphan)
		return true;
	atomic_dec(&link->n_orphans);
	vst_count(link, VST_STAT_ORPHANS_RESET, 1);
	return false;
}

static void put_orphan(struct vst_flow *flow)
{
	if (flow->orphan)
		atomic_dec(&flow->link->n_orphans);
	flow->orphan = false;
}

/*
 * The connection is over. What was received stays readable: af_vsock reads only from TCP_ESTABLISHED, so the socket
 * keeps that state while there is anything to read, or an error to report.
 */
static void hang_up(struct vst_flow *flow, struct sock *sk, enum vsp_state from, enum vsp_err err)
{
	bool unread = has_unread(flow);

	if (err != VSP_ERR_NONE)
		vst_count(flow->link, VST_STAT_RESETS, 1);
	if (from == VSP_CONNECTING) {
		sk->sk_state = TCP_CLOSE;
	} else {
		sock_set_flag(sk, SOCK_DONE);
		WRITE_ONCE(vsock_sk(sk)->peer_shutdown, SHUTDOWN_MASK);
		if (err == VSP_ERR_NONE && !unread)
			sk->sk_state = TCP_CLOSING;
		sk->sk_state_change(sk);
	}
	if (err == VSP_ERR_NONE)
		return;
	/* The core drops a message that it has taken if the socket has an error by then. */
	if (unread && flow->key.type == VSP_TYPE_SEQPACKET) {
		flow->late_err = errno_of[err];
		return;
	}
	sk->sk_err = errno_of[err];
	sk_error_report(sk);
}

static void forget(struct vst_flow *flow, struct sock *sk)
{
	spin_lock(&flow->lock);
	flow->over = true;
	spin_unlock(&flow->lock);
	vst_flow_forget(flow);
	put_orphan(flow);
	if (flow->released)
		vsock_remove_sock(vsock_sk(sk));
	else
		vsock_remove_connected(vsock_sk(sk));
}

/**
 * vst_step - an event happened to a connection
 * @flow: the connection
 * @event: what happened, with its conditions folded in
 *
 * With vst_spawn() the only writer of vst_flow.state. The caller owns the flow's socket. Does not sleep.
 */
void vst_step(struct vst_flow *flow, enum vsp_event event)
{
	enum vsp_state from = flow->state;
	struct vsp_verdict v = vsp_conn_step(from, event);
	struct sock *sk = flow->sk;

	sock_owned_by_me(sk);
	trace_vst_step(flow, from, event, v);
	if (WARN_ON_ONCE(!v.possible))
		return;
	flow->state = v.next;
	if (v.acts & VSP_ACT_STOP_TIMER) {
		stop_close_timer(flow, sk);
		stop_connect_timer(sk);
	}
	/* Starting the timer of connect() is the core's part; that of a close() which waits begins when it is done. */
	if ((v.acts & VSP_ACT_START_TIMER) && v.next == VSP_CLOSING && !flow->lingers)
		start_close_timer(flow, sk);
	if (v.acts & VSP_ACT_OPEN) {
		open_sock(sk);
		/* shutdown() before the answer came: now there is somebody to tell. */
		if (flow->shut)
			vst_send_ctl(flow, VST_CTL_SHUTDOWN, flow->shut);
	}
	if (v.acts & VSP_ACT_HINT)
		take_hints(flow, sk);
	if (v.acts & VSP_ACT_SEND_REQUEST)
		vst_send_ctl(flow, VST_CTL_REQUEST, 0);
	if (v.acts & VSP_ACT_SEND_RESPONSE)
		vst_send_ctl(flow, VST_CTL_RESPONSE, 0);
	if (v.acts & VSP_ACT_SEND_SHUTDOWN)
		vst_send_ctl(flow, VST_CTL_SHUTDOWN, flow->shut);
	if (v.next == VSP_CLOSED && flow->link)
		vst_tx_end(flow, v.acts & VSP_ACT_SEND_RST);
	if (v.acts & VSP_ACT_HANGUP)
		hang_up(flow, sk, from, v.err);
	if (v.acts & VSP_ACT_FORGET)
		forget(flow, sk);
}

/* A listener was asked for this connection, whose socket is owned: what VSP_ACT_SPAWN stands for. */
void vst_spawn(struct vst_flow *flow)
{
	sock_owned_by_me(flow->sk);
	trace_vst_step(flow, VSP_LISTEN, VSP_EV_REQUEST, vsp_conn_step(VSP_LISTEN, VSP_EV_REQUEST));
	flow->state = VSP_ACCEPTING;
}

/* ---- the doorbell ---- */

static void step_unless_closed(struct vst_flow *flow, enum vsp_event event)
{
	if (flow->state != VSP_CLOSED)
		vst_step(flow, event);
}

/* Tell the socket what the receive worker saw, in the order in which it makes sense. The socket is owned. */
static void answer_bell(struct vst_flow *flow)
{
	u32 hints;

	clear_bit(VST_BIT_BELL, &flow->bits);
	/* Pairs with set_bit(), test_and_set_bit() in vst_ring_bell(): a bit set after this rings again. */
	smp_mb__after_atomic();
	if (test_and_clear_bit(VST_BIT_RESPONSE, &flow->bits))
		step_unless_closed(flow, VSP_EV_RESPONSE);
	spin_lock(&flow->lock);
	hints = flow->hints;
	spin_unlock(&flow->lock);
	if (test_and_clear_bit(VST_BIT_SHUTDOWN, &flow->bits))
		step_unless_closed(flow, vsp_event_of_shutdown(hints, has_unread(flow)));
	if (test_and_clear_bit(VST_BIT_VIOLATION, &flow->bits))
		step_unless_closed(flow, VSP_EV_VIOLATION);
	if (test_and_clear_bit(VST_BIT_RST, &flow->bits))
		step_unless_closed(flow, vsp_event_of_rst(hints, flow->shut));
	if (test_and_clear_bit(VST_BIT_REPLACED, &flow->bits))
		step_unless_closed(flow, VSP_EV_REQUEST);
	if (test_and_clear_bit(VST_BIT_GONE, &flow->bits))
		step_unless_closed(flow, VSP_EV_GONE);
}

static int backlog_rcv(struct sock *sk, struct sk_buff *skb)
{
	struct vst_flow *flow = flow_of(vsock_sk(sk));

	if (skb != &flow->bell)
		return flow->core_backlog_rcv(sk, skb);
	answer_bell(flow);
	return 0;
}

/**
 * vst_ring_bell - have the socket look at vst_flow.bits
 * @flow: the connection
 * @sk: the flow's socket; the caller has a reference and no lock
 *
 * Does not wait: a socket in use by a process finds the bell on its backlog when the process lets go. There is one skb
 * per flow, queued at most once, so the backlog's limit does not apply to it.
 */
void vst_ring_bell(struct vst_flow *flow, struct sock *sk)
{
	spin_lock_bh(&sk->sk_lock.slock);
	if (sock_owned_by_user(sk)) {
		if (!test_and_set_bit(VST_BIT_BELL, &flow->bits) && flow_of(vsock_sk(sk)) == flow)
			__sk_add_backlog(sk, &flow->bell);
		spin_unlock_bh(&sk->sk_lock.slock);
		return;
	}
	/* What lock_sock() does, but without waiting; lockdep has to be told too. */
	sk->sk_lock.owned = 1;
	spin_unlock_bh(&sk->sk_lock.slock);
	mutex_acquire(&sk->sk_lock.dep_map, 0, 1, _THIS_IP_);
	if (flow_of(vsock_sk(sk)) == flow)
		answer_bell(flow);
	release_sock(sk);
}

/* The flow is being replaced: its bell must not ring for the next one. The socket is owned. */
static void purge_bell(struct vst_flow *flow, struct sock *sk)
{
	struct sk_buff *skb, *prev = NULL;

	spin_lock_bh(&sk->sk_lock.slock);
	for (skb = sk->sk_backlog.head; skb && skb != &flow->bell; skb = skb->next)
		prev = skb;
	if (skb) {
		if (prev)
			prev->next = skb->next;
		else
			sk->sk_backlog.head = skb->next;
		if (sk->sk_backlog.tail == skb)
			sk->sk_backlog.tail = prev;
		skb_mark_not_on_list(skb);
	}
	spin_unlock_bh(&sk->sk_lock.slock);
}

/* ---- birth and death ---- */

static void adopt(struct vst_flow *flow, struct sock *sk)
{
	flow->core_backlog_rcv = sk->sk_backlog_rcv;
	flow->sk = sk;
	WRITE_ONCE(vsock_sk(sk)->trans, flow);
	sk->sk_backlog_rcv = backlog_rcv;
}

/* Part flow and socket. The flow may live on for packets and replies under way. */
static void disown(struct vst_flow *flow, struct sock *sk)
{
	spin_lock(&flow->lock);
	flow->over = true;
	flow->sk = NULL;
	spin_unlock(&flow->lock);
	if (flow->link) {
		vst_tx_end(flow, flow->state != VSP_CLOSED);
		vst_tx_quiet(flow);
	}
	vst_flow_forget(flow);
	/* In this order: vst_ring_bell() looks at trans under the lock that purge_bell() takes. */
	WRITE_ONCE(vsock_sk(sk)->trans, NULL);
	purge_bell(flow, sk);
	sk->sk_backlog_rcv = flow->core_backlog_rcv;
	put_orphan(flow);
	WARN_ON_ONCE(flow->close_armed);
	vst_flow_purge_rx(flow);
	vst_flow_put(flow);
}

/**
 * vst_sock_init - vsock_transport.init, but for the side, which the transport's own init adds
 * @side: the transport
 * @vsk: the socket
 * @psk: the listener, for a socket that is being accepted
 *
 * Return: 0 or -ENOMEM. May sleep.
 */
int vst_sock_init(struct vst_side *side, struct vsock_sock *vsk, struct vsock_sock *psk)
{
	struct vst_flow *flow;

	if (vsk->buffer_size > VSP_WINDOW_MAX)
		vsk->buffer_size = VSP_WINDOW_MAX;
	flow = vst_flow_new(side, vsk);
	if (!flow)
		return -ENOMEM;
	adopt(flow, sk_vsock(vsk));
	return 0;
}

static void vst_sock_destruct(struct vsock_sock *vsk)
{
	if (vsk->trans)
		disown(flow_of(vsk), sk_vsock(vsk));
}

static bool may_linger(const struct sock *sk)
{
	return sock_flag(sk, SOCK_LINGER) && sk->sk_lingertime && !(current->flags & PF_EXITING);
}

/* Bytes that the device has not taken. The caller has a reference to the flow, which has its link. */
static ssize_t unsent_bytes(struct vst_flow *flow)
{
	ssize_t bytes;

	/* What the device has used without an interrupt for it is not unsent. */
	flow->link->ops->pump(flow->link);
	spin_lock(&flow->lock);
	/* What waited when the connection ended was dropped. */
	bytes = READ_ONCE(flow->mute) ? 0 : vsp_txc_unsent(&flow->txc);
	spin_unlock(&flow->lock);
	return bytes + READ_ONCE(flow->in_ring);
}

/*
 * As newer kernels have it in-tree, and socket(7): until all is sent, for as long as the user said; older ones wait for
 * the peer's reader, too. Only then begins the time that every close has. The device interrupts for nothing of this, so
 * somebody has to look.
 */
static void linger(struct vst_flow *flow, struct sock *sk)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	long timeout = sk->sk_lingertime, look;

	add_wait_queue(sk_sleep(sk), &wait);
	while (timeout && flow->state == VSP_CLOSING && unsent_bytes(flow) && !signal_pending(current)) {
		look = min_t(long, timeout, msecs_to_jiffies(VST_LINGER_LOOK_MS));
		timeout -= look;
		sk_wait_event(sk, &look, flow->state != VSP_CLOSING, &wait);
		timeout += look;
	}
	remove_wait_queue(sk_sleep(sk), &wait);
	if (flow->state == VSP_CLOSING)
		start_close_timer(flow, sk);
}

static void vst_sock_release(struct vsock_sock *vsk)
{
	struct vst_flow *flow = flow_of(vsk);
	struct sock *sk = sk_vsock(vsk);
	bool last;

	spin_lock(&flow->lock);
	last = flow->hints == VSP_SHUTDOWN_BOTH && flow->state == VSP_ESTABLISHED;
	flow->closing = true;
	spin_unlock(&flow->lock);
	flow->released = true;
	flow->shut = VSP_SHUTDOWN_BOTH;
	flow->lingers = may_linger(sk);
	last = last || (flow->state == VSP_ESTABLISHED && !take_orphan(flow));
	vst_step(flow, last ? VSP_EV_CLOSE_LAST : VSP_EV_CLOSE);
	vst_flow_purge_rx(flow);
	if (flow->state == VSP_CLOSING && flow->lingers)
		linger(flow, sk);
	if (flow->state == VSP_CLOSED) {
		sock_set_flag(sk, SOCK_DONE);
		vsock_remove_sock(vsk);
	}
}

/* A flow leaves the table once; a socket that connects again needs another. */
static struct vst_flow *fresh_flow(struct vsock_sock *vsk)
{
	struct vst_flow *flow = flow_of(vsk);
	struct vst_flow *next;

	if (!flow->link)
		return flow;
	next = vst_flow_new(flow->side, vsk);
	if (!next)
		return NULL;
	disown(flow, sk_vsock(vsk));
	adopt(next, sk_vsock(vsk));
	return next;
}

static int connect_flow(struct vsock_sock *vsk)
{
	struct vst_flow *flow = fresh_flow(vsk);
	struct vst_key key = { 0 };
	struct vst_link *link;
	struct vst_ask ask;
	int err;

	if (!flow)
		return -ENOMEM;
	link = flow->side->route(vsk->remote_addr.svm_cid);
	if (IS_ERR(link))
		return PTR_ERR(link);
	ask = vst_link_ask(link);
	key.local.cid = READ_ONCE(link->local_cid);
	key.local.port = vsk->local_addr.svm_port;
	key.remote.cid = vsk->remote_addr.svm_cid;
	key.remote.port = vsk->remote_addr.svm_port;
	key.type = sk_vsock(vsk)->sk_type == SOCK_STREAM ? VSP_TYPE_STREAM : VSP_TYPE_SEQPACKET;
	err = vst_flow_insert(flow, link, key, &ask);
	if (!err)
		vst_step(flow, VSP_EV_CONNECT);
	return err;
}

static int vst_sock_connect(struct vsock_sock *vsk)
{
	int err;

	/* What an earlier attempt left and nobody asked for: older cores would take it for the end of this one. */
	sk_vsock(vsk)->sk_err = 0;
	err = connect_flow(vsk);
	/* The core has set TCP_SYN_SENT already and leaves it on error. */
	if (err)
		sk_vsock(vsk)->sk_state = TCP_CLOSE;
	return err;
}

/* connect() was interrupted or timed out; the core has set the socket's state. */
static int vst_sock_cancel_pkt(struct vsock_sock *vsk)
{
	struct vst_flow *flow = flow_of(vsk);

	if (flow->state == VSP_CONNECTING)
		vst_step(flow, VSP_EV_CLOSE);
	return 0;
}

static int vst_sock_shutdown(struct vsock_sock *vsk, int mode)
{
	struct vst_flow *flow = flow_of(vsk);

	flow->shut |= mode & VSP_SHUTDOWN_BOTH;
	vst_step(flow, VSP_EV_SHUT);
	/* The core has taken the flag away, by which it tells a connection that is over from one that never was. */
	if (flow->state == VSP_CLOSED && vsk->peer_shutdown)
		sock_set_flag(sk_vsock(vsk), SOCK_DONE);
	return 0;
}

/* ---- receiving ---- */

/* Take away what was read; segments to free go to @segs. The flow's lock is held. */
static void take_segs(struct vst_flow *flow, struct list_head *segs)
{
	struct vst_seg *seg, *next;

	list_for_each_entry_safe(seg, next, &flow->rx, node) {
		if (seg->off < seg->len)
			break;
		list_move_tail(&seg->node, segs);
	}
}

/*
 * Copy up to @len of the @avail bytes that were there when the lock was last held. Without the lock: the receiver only
 * adds bytes behind these. Returns the bytes copied; fewer than wanted if the user's memory faulted.
 */
static size_t copy_segs(struct vst_flow *flow, struct msghdr *msg, size_t len, bool peek)
{
	struct vst_seg *seg;
	size_t done = 0;

	list_for_each_entry(seg, &flow->rx, node) {
		size_t n = min_t(size_t, READ_ONCE(seg->len) - seg->off, len - done);
		size_t got = copy_to_iter(seg->data + seg->off, n, &msg->msg_iter);

		done += got;
		if (!peek)
			seg->off += got;
		if (got < n || done == len)
			break;
	}
	return done;
}

/* What has to be done without the lock when something was read. */
struct read_result {
	bool due;     /* the peer hears of the room */
	bool later;   /* but it may wait for more */
	bool drained; /* nothing will ever be left to read */
	bool missed;  /* a sockmap was turned away meanwhile */
};

/* Account for @bytes that were read. */
static struct read_result finish_read(struct vst_flow *flow, size_t bytes, int rcvlowat)
{
	u32 lowat = vst_lowat(flow, rcvlowat), peer_buf_alloc = flow->txc.peer_buf_alloc;
	struct read_result res = { 0 };

	vsp_rxc_consume(&flow->rxc, bytes);
	flow->readable -= bytes;
	flow->rx_busy = false;
	res.missed = flow->rx_missed && flow->readable;
	flow->rx_missed = false;
	res.drained = flow->hints == VSP_SHUTDOWN_BOTH && !vsp_rxc_unread(&flow->rxc) && !flow->records.count;
	res.due = vsp_rxc_update_due(&flow->rxc, lowat, peer_buf_alloc);
	res.later = res.due && vsp_rxc_update_may_wait(&flow->rxc, lowat, peer_buf_alloc);
	return res;
}

/* The reader took @bytes, or a whole message of as many, off the queue. What follows from that. */
static void end_read(struct vst_flow *flow, struct sock *sk, size_t bytes, bool message)
{
	struct vst_seg *seg, *next;
	struct read_result res;
	LIST_HEAD(segs);

	spin_lock(&flow->lock);
	if (message) {
		vst_records_pop(&flow->records);
		if (!bytes)
			vsp_record_empty_read(&flow->arriving);
	}
	res = finish_read(flow, bytes, READ_ONCE(sk->sk_rcvlowat));
	take_segs(flow, &segs);
	spin_unlock(&flow->lock);
	list_for_each_entry_safe(seg, next, &segs, node)
		vst_seg_free(flow->link, seg);
	if (res.later && flow->state == VSP_ESTABLISHED)
		vst_tell_later(flow);
	else if (res.due && flow->state == VSP_ESTABLISHED)
		vst_send_ctl(flow, VST_CTL_CREDIT_UPDATE, 0);
	if (res.missed)
		sk->sk_data_ready(sk);
	if (res.drained && (bytes || message) && flow->state == VSP_ESTABLISHED)
		vst_step(flow, VSP_EV_DRAINED);
}

/* What a sockmap's program has let pass, which is older than what we still have. */
enum passed { NO_SOCKMAP, PASSED_NOTHING, PASSED_SOON, PASSED_NOW };

#ifdef VST_HAVE_READ_SKB
/* PASSED_SOON: it lacks memory, and tries again. */
static enum passed passed_by_sockmap(const struct sock *sk)
{
	enum passed passed = PASSED_NOTHING;
	const struct sk_psock *psock;

	rcu_read_lock();
	psock = sk_psock(sk);
	if (!psock)
		passed = NO_SOCKMAP;
	else if (!list_empty_careful(&psock->ingress_msg))
		passed = PASSED_NOW;
	else if (!skb_queue_empty_lockless(&psock->ingress_skb))
		passed = PASSED_SOON;
	rcu_read_unlock();
	return passed;
}

/*
 * The core's recv() looks at what has passed first, but it may be here already: for bytes that the sockmap then had, or
 * for the rest of MSG_WAITALL. Returns 0 if there are none.
 */
static ssize_t read_passed(struct sock *sk, struct msghdr *msg, size_t len, int flags)
{
	struct sk_psock *psock = sk_psock_get(sk);
	int n;

	if (!psock)
		return 0;
	n = sk_msg_recvmsg(sk, psock, msg, len, flags);
	sk_psock_put(sk, psock);
	return n;
}
#else
static enum passed passed_by_sockmap(const struct sock *sk)
{
	return NO_SOCKMAP;
}

static ssize_t read_passed(struct sock *sk, struct msghdr *msg, size_t len, int flags)
{
	return 0;
}
#endif

/*
 * Behind a sockmap the core's recv() asks for data and RCV_SHUTDOWN and for nothing else, and would wait for ever once
 * the connection is over. So an error is data, which it then does not find, and the end is as after shutdown(). The
 * socket is owned.
 */
static bool sockmap_hears_end(struct vst_flow *flow, struct sock *sk)
{
	bool idle;

	if (!sk->sk_err && !(vsock_sk(sk)->peer_shutdown & SEND_SHUTDOWN))
		return false;
	spin_lock(&flow->lock);
	idle = !flow->readable && !flow->skb_busy && !flow->for_skb;
	spin_unlock(&flow->lock);
	/* In this order: what is not ours any more has passed. */
	if (!idle || passed_by_sockmap(sk) != PASSED_NOTHING)
		return false;
	if (!sk->sk_err)
		sk->sk_shutdown |= RCV_SHUTDOWN;
	return true;
}

static ssize_t vst_sock_stream_dequeue(struct vsock_sock *vsk, struct msghdr *msg, size_t len, int flags)
{
	struct vst_flow *flow = flow_of(vsk);
	bool peek = flags & MSG_PEEK;
	size_t done;
	u32 avail;

	if (passed_by_sockmap(sk_vsock(vsk)) == PASSED_NOW)
		return read_passed(sk_vsock(vsk), msg, len, flags);
	spin_lock(&flow->lock);
	flow->rx_busy = !flow->skb_busy && !flow->for_skb;
	avail = flow->rx_busy ? flow->readable : 0;
	spin_unlock(&flow->lock);
	len = min_t(size_t, len, avail);
	done = len ? copy_segs(flow, msg, len, peek) : 0;
	end_read(flow, sk_vsock(vsk), peek ? 0 : done, false);
	if (!done && len)
		return -EFAULT;
	/* See sockmap_hears_end(). */
	return done ? done : -sk_vsock(vsk)->sk_err;
}

/* Pass over @len bytes that the user's buffer had no room for. */
static void skip_segs(struct vst_flow *flow, size_t len)
{
	struct vst_seg *seg;

	list_for_each_entry(seg, &flow->rx, node) {
		size_t n = min_t(size_t, READ_ONCE(seg->len) - seg->off, len);

		seg->off += n;
		len -= n;
		if (!len)
			break;
	}
}

/* One message, at most: what does not fit is dropped. As in-tree, one that faults is dropped too. */
static ssize_t vst_sock_seqpacket_dequeue(struct vsock_sock *vsk, struct msghdr *msg, int flags)
{
	struct vst_flow *flow = flow_of(vsk);
	bool peek = flags & MSG_PEEK;
	struct vst_record rec;
	size_t want, done;

	spin_lock(&flow->lock);
	if (!flow->records.count) {
		spin_unlock(&flow->lock);
		return 0;
	}
	flow->rx_busy = true;
	rec = vst_records_first(&flow->records);
	spin_unlock(&flow->lock);
	want = min_t(size_t, rec.len, msg_data_left(msg));
	done = want ? copy_segs(flow, msg, want, peek) : 0;
	if (!peek)
		skip_segs(flow, rec.len - done);
	end_read(flow, sk_vsock(vsk), peek ? 0 : rec.len, !peek);
	if (rec.eor)
		msg->msg_flags |= MSG_EOR;
	if (done < want)
		return -EFAULT;
	return rec.len;
}

/*
 * The core takes "no message" with an error for the end of file. It asks for the error only behind a message, so one
 * of length 0 that vst_sock_seqpacket_dequeue() then does not find stands for it.
 */
static u32 vst_sock_seqpacket_has_data(struct vsock_sock *vsk)
{
	struct vst_flow *flow = flow_of(vsk);
	struct sock *sk = sk_vsock(vsk);
	u32 count;

	spin_lock(&flow->lock);
	count = flow->records.count;
	spin_unlock(&flow->lock);
	if (count)
		return count;
	/* As for a stream. */
	vst_push(flow);
	if (flow->late_err) {
		sk->sk_err = flow->late_err;
		flow->late_err = 0;
		sk_error_report(sk);
	}
	return sk->sk_err || sockmap_hears_end(flow, sk);
}

static s64 vst_sock_stream_has_data(struct vsock_sock *vsk)
{
	enum passed passed = passed_by_sockmap(sk_vsock(vsk));
	struct vst_flow *flow = flow_of(vsk);
	u32 n = readable(flow);

	if (passed > PASSED_NOTHING)
		return passed == PASSED_NOW;
	if (n)
		return n;
	/* Who waits for an answer has said all there is to say. */
	vst_push(flow);
	return sockmap_hears_end(flow, sk_vsock(vsk));
}

static u64 vst_sock_stream_rcvhiwat(struct vsock_sock *vsk)
{
	return vsk->buffer_size;
}

#ifdef VST_HAVE_READ_SKB
enum {
	READ_SKB_MAX = 16384, /* bytes of one skb: an atomic allocation of this size may still be expected to succeed */
	READ_SKB_MIN = 1024,  /* the same where memory is short */
};

/* From here on nobody else takes bytes away, so that they pass in order. False: a reader copies them just now. */
static bool begin_read_skb(struct vst_flow *flow)
{
	bool mine;

	spin_lock(&flow->lock);
	mine = !flow->rx_busy && !flow->skb_busy;
	flow->rx_missed |= flow->rx_busy;
	flow->skb_busy |= mine;
	spin_unlock(&flow->lock);
	return mine;
}

/* Take as much as there is room for in @skb, of one segment. If nothing is left to take, others may: false. */
static bool fill_skb(struct vst_flow *flow, struct sk_buff *skb)
{
	struct vst_seg *seg;
	bool due;
	u32 n;

	spin_lock(&flow->lock);
	seg = list_first_entry_or_null(&flow->rx, struct vst_seg, node);
	if (!seg || !skb) {
		flow->skb_busy = false;
		spin_unlock(&flow->lock);
		return false;
	}
	n = min_t(u32, seg->len - seg->off, skb_availroom(skb));
	skb_put_data(skb, seg->data + seg->off, n);
	seg->off += n;
	if (seg->off == seg->len)
		list_del(&seg->node);
	else
		seg = NULL;
	vsp_rxc_consume(&flow->rxc, n);
	flow->readable -= n;
	due = vsp_rxc_update_due(&flow->rxc, 1, flow->txc.peer_buf_alloc);
	spin_unlock(&flow->lock);
	if (seg)
		vst_seg_free(flow->link, seg);
	if (due)
		vst_send_ctl(flow, VST_CTL_CREDIT_UPDATE, 0);
	return true;
}

/*
 * For sockmap: runs from sk_data_ready() in the receive worker, without the socket's lock, and takes all there is.
 * While a reader copies, the reader calls sk_data_ready() again when it is done. Messages, and bytes for which there is
 * no memory, are left to the reader, who is woken for 0.
 */
static int vst_sock_read_skb(struct vsock_sock *vsk, skb_read_actor_t recv_actor)
{
	struct vst_flow *flow = vst_flow_of_unlocked(vsk);
	struct sk_buff *skb;
	int taken = 0;

	if (!flow)
		return -EAGAIN;
	if (flow->key.type != VSP_TYPE_STREAM)
		goto out;
	taken = -EAGAIN;
	if (!begin_read_skb(flow))
		goto out;
	taken = 0;
	for (;;) {
		skb = alloc_skb(READ_SKB_MAX, GFP_ATOMIC | __GFP_NOWARN);
		if (!skb)
			skb = alloc_skb(READ_SKB_MIN, GFP_ATOMIC | __GFP_NOWARN);
		if (!fill_skb(flow, skb))
			break;
		taken += skb->len;
		recv_actor(sk_vsock(vsk), skb);
	}
	kfree_skb(skb);
out:
	vst_flow_put(flow);
	return taken;
}
#endif

/* ---- sending ---- */

/* What two fields that change together say while they do is not always so. */
static s64 glimpse_space(const struct vst_flow *flow)
{
	return data_race((s64)vsp_txc_window(&flow->txc) - vsp_txc_unacked(&flow->txc));
}

/*
 * A writer that waits with a message has space when all of it fits, or never will: it then learns EMSGSIZE. Whether
 * there is as much as was seen shows when it is taken. That there is none is what writers fall asleep on: it is true.
 */
static s64 vst_sock_stream_has_space(struct vsock_sock *vsk)
{
	struct vst_flow *flow = flow_of(vsk);
	s64 space = glimpse_space(flow);

	if (space > 0 && !flow->need)
		return space;
	spin_lock(&flow->lock);
	space = vsp_txc_space(&flow->txc);
	if (flow->need > vsp_txc_window(&flow->txc))
		space = max_t(s64, space, 1);
	else if (flow->need > space || (flow->need && vst_tx_stuffed(flow)))
		space = 0;
	spin_unlock(&flow->lock);
	return space;
}

/* Where one packet waits already, or is about to wait, more small writes are to be expected that fit into the next. */
static bool wants_room(const struct vst_flow *flow, u32 len)
{
	u32 most = flow->key.type == VSP_TYPE_STREAM ? VST_TAIL_ROOM - 1 : flow->link->ops->splits ? VST_BEHIND_MAX : 0;

	return len <= most && (READ_ONCE(flow->in_ring) || !list_empty_careful(&flow->tx));
}

/* Room for up to @len bytes; less where memory is short. *@len is what it holds. */
static struct vst_pkt *pkt_for(struct vst_flow *flow, u32 *len)
{
	u32 room = wants_room(flow, *len) ? VST_TAIL_ROOM : 0;
	struct vst_pkt *pkt;

	for (;;) {
		pkt = vst_pkt_new(flow, *len, max(*len, room), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (pkt || *len <= VST_PKT_MIN)
			return pkt;
		*len = max_t(u32, *len / 2, VST_PKT_MIN);
	}
}

static void untake(struct vst_flow *flow, u32 bytes)
{
	spin_lock(&flow->lock);
	vsp_txc_untake(&flow->txc, bytes);
	spin_unlock(&flow->lock);
}

static void *payload_of(struct vst_pkt *pkt)
{
	return pkt->page ? page_address(pkt->page) : pkt->data;
}

/* A send by MSG_ZEROCOPY: who is told when the device has used it, and whether the pages or a copy are sent. */
struct zc_send {
	struct ubuf_info *uarg;
	bool pins;
};

/*
 * Pin up to @want bytes of what @msg has left. All or nothing: a page that cannot be had is ENOMEM, for zero-copy
 * senders as in-tree.
 */
static int pin_payload(struct vst_pkt *pkt, struct msghdr *msg, u32 want)
{
	struct vst_zc *zc = pkt->zc;
	struct page *pages[VST_ZC_FRAGS];
	size_t start;
	ssize_t got;
	u32 i;

	pkt->len = 0;
	while (pkt->len < want && zc->n < VST_ZC_FRAGS) {
		got = iov_iter_get_pages2(&msg->msg_iter, pages, want - pkt->len, VST_ZC_FRAGS - zc->n, &start);
		if (got <= 0) {
			/* The core may try again with what is left, and that begins with these. */
			iov_iter_revert(&msg->msg_iter, pkt->len);
			return -ENOMEM;
		}
		pkt->len += got;
		for (i = 0; got; i++, start = 0) {
			u32 n = min_t(size_t, got, PAGE_SIZE - start);

			zc->frags[zc->n++] = (struct bio_vec){ .bv_page = pages[i], .bv_len = n, .bv_offset = start };
			got -= n;
		}
	}
	return 0;
}

/* A packet with up to @want bytes of what @msg has left; fewer where memory is short or the user's memory ends. */
static struct vst_pkt *pkt_from(struct vst_flow *flow, struct msghdr *msg, u32 want, const struct zc_send *zc)
{
	struct vst_pkt *pkt;
	int err = 0;

	if (zc->pins) {
		pkt = vst_pkt_new_zc(flow, zc->uarg);
		err = pkt ? pin_payload(pkt, msg, want) : -ENOMEM;
	} else {
		pkt = pkt_for(flow, &want);
		if (!pkt)
			return ERR_PTR(-ENOMEM);
		pkt->len = copy_from_iter(payload_of(pkt), want, &msg->msg_iter);
		if (!pkt->len)
			err = -EFAULT;
	}
	if (!err)
		return pkt;
	if (pkt)
		vst_pkt_free(pkt);
	return ERR_PTR(err);
}

/*
 * As in-tree, one notification for what is sent without waiting. What goes in parts, for want of credit, is copied, and
 * the user is told so.
 */
static noinline int make_zerocopy(struct zc_send *zc, struct vst_flow *flow, const struct msghdr *msg, size_t len)
{
	struct sock *sk = flow->sk;

	if (!(msg->msg_ubuf || sock_flag(sk, SOCK_ZEROCOPY)))
		return 0;
	zc->pins = flow->link->zerocopy;
	if (flow->key.type == VSP_TYPE_STREAM)
		zc->pins &= len <= vst_sock_stream_has_space(vsock_sk(sk));
	if (msg->msg_ubuf) {
		zc->uarg = msg->msg_ubuf;
		net_zcopy_get(zc->uarg);
		return 0;
	}
	zc->uarg = vst_zerocopy_realloc(sk, len, NULL);
	if (!zc->uarg)
		return -ENOMEM; /* as in-tree, although TCP says ENOBUFS */
	if (!zc->pins)
		uarg_to_msgzc(zc->uarg)->zerocopy = 0;
	return 0;
}

static int begin_zerocopy(struct zc_send *zc, struct vst_flow *flow, const struct msghdr *msg, size_t len)
{
	*zc = (struct zc_send){ 0 };
	return msg->msg_flags & MSG_ZEROCOPY ? make_zerocopy(zc, flow, msg, len) : 0;
}

/* The packets have references of their own. @sent: something was sent. */
static void end_zerocopy(const struct zc_send *zc, const struct msghdr *msg, bool sent)
{
	if (likely(!zc->uarg))
		return;
	if (sent || zc->uarg == msg->msg_ubuf)
		net_zcopy_put(zc->uarg);
	else
		net_zcopy_put_abort(zc->uarg, true);
}

static void send_staged(struct vst_flow *flow, struct list_head *pkts, const struct zc_send *zc)
{
	/* Before the packets: the ring keeps room for their pieces. Under tx_lock it is seen with the first of them. */
	if (zc->pins)
		WRITE_ONCE(flow->link->zc_seen, true);
	vst_send_pkts(flow, pkts);
}

/* Does a small write, or message, join others that wait? Then there is no more to do. */
static bool went_behind(struct vst_flow *flow, struct msghdr *msg, u32 len, u32 flags)
{
	if (len > VST_BEHIND_MAX || !READ_ONCE(flow->waiting))
		return false;
	if (flow->key.type == VSP_TYPE_SEQPACKET && !flow->link->ops->splits)
		return false;
	return vst_send_behind(flow, &msg->msg_iter, len, flags);
}

/* Send one packet of what @msg has left, as far as credit goes. Returns the bytes sent, 0 without credit, an error. */
static ssize_t send_one(struct vst_flow *flow, struct msghdr *msg, size_t left, const struct zc_send *zc)
{
	struct vst_write w = { .from = &msg->msg_iter };
	struct vst_pkt *pkt;
	LIST_HEAD(pkts);
	u32 granted, got;

	spin_lock(&flow->lock);
	granted = vsp_txc_take(&flow->txc, min_t(size_t, left, VSP_MAX_PAYLOAD));
	spin_unlock(&flow->lock);
	if (!granted)
		return 0;
	w.len = granted;
	if (!zc->uarg && (went_behind(flow, msg, granted, 0) || vst_went_straight(flow, &w)))
		return granted;
	pkt = pkt_from(flow, msg, granted, zc);
	if (IS_ERR(pkt)) {
		untake(flow, granted);
		return PTR_ERR(pkt);
	}
	/* Once it is sent, it is not ours to look at. */
	got = pkt->len;
	if (got < granted)
		untake(flow, granted - got);
	list_add(&pkt->node, &pkts);
	send_staged(flow, &pkts, zc);
	return got;
}

static ssize_t vst_sock_stream_enqueue(struct vsock_sock *vsk, struct msghdr *msg, size_t len)
{
	struct vst_flow *flow = flow_of(vsk);
	struct zc_send zc;
	size_t done = 0;
	ssize_t n = begin_zerocopy(&zc, flow, msg, len);

	if (n)
		return n;
	while (done < len) {
		n = send_one(flow, msg, len - done, &zc);
		if (n <= 0)
			break;
		done += n;
	}
	end_zerocopy(&zc, msg, done);
	return done ? done : n;
}

/* Cut a message into packets and fill them. On failure nothing is left of it. */
static int stage_message(struct vst_flow *flow, struct msghdr *msg, struct vsp_frag frag, struct list_head *pkts,
			 const struct zc_send *zc)
{
	struct vst_pkt *pkt;

	while (frag.left) {
		pkt = pkt_from(flow, msg, min_t(u32, frag.left, VSP_MAX_PAYLOAD), zc);
		if (IS_ERR(pkt))
			return PTR_ERR(pkt);
		list_add_tail(&pkt->node, pkts);
		pkt->flags = vsp_frag_next(&frag, pkt->len).flags;
	}
	return 0;
}

/* With credit for all of it. */
static int send_message(struct vst_flow *flow, struct msghdr *msg, u32 len)
{
	struct vsp_frag frag = { .left = len, .flags = msg->msg_flags & MSG_EOR ? VSP_SEQ_EOR : 0 };
	const struct vst_write w = { .from = &msg->msg_iter, .len = len, .flags = frag.flags | VSP_SEQ_EOM };
	struct zc_send zc;
	LIST_HEAD(pkts);
	int err = begin_zerocopy(&zc, flow, msg, len);

	if (err)
		return err;
	if (!zc.uarg && (went_behind(flow, msg, len, w.flags) || vst_went_straight(flow, &w)))
		return 0;
	err = stage_message(flow, msg, frag, &pkts, &zc);
	if (err)
		vst_pkts_free(&pkts);
	else
		send_staged(flow, &pkts, &zc);
	end_zerocopy(&zc, msg, !err);
	return err;
}

/* Credit for all of it or none. The flow's lock is held. */
static bool take_all(struct vst_flow *flow, u32 len)
{
	u32 got = vsp_txc_take(&flow->txc, len);

	if (got < len)
		vsp_txc_untake(&flow->txc, got);
	return got == len;
}

/*
 * A message is sent whole or not at all: the core would glue the next one to what went out of a message that a
 * timeout or a signal cut short. Without credit for all of it, 0 and a @need make the core wait, or return EAGAIN.
 */
static int vst_sock_seqpacket_enqueue(struct vsock_sock *vsk, struct msghdr *msg, size_t len)
{
	struct vst_flow *flow = flow_of(vsk);
	int err = 0;

	spin_lock(&flow->lock);
	if (len > vsp_txc_window(&flow->txc))
		err = -EMSGSIZE;
	else
		flow->need = vst_tx_stuffed(flow) || !take_all(flow, len) ? len : 0;
	spin_unlock(&flow->lock);
	/* One that waits asks when it begins to; see vst_sock_notify_send_pre_block(). */
	if (!err && flow->need && (msg->msg_flags & MSG_DONTWAIT))
		vst_send_ctl(flow, VST_CTL_CREDIT_REQUEST, 0);
	if (err || flow->need)
		return err;
	err = send_message(flow, msg, len);
	if (err)
		untake(flow, len);
	return err ? err : len;
}

#ifdef VST_HAVE_UNSENT_BYTES
/* SIOCOUTQ: bytes that the device has not taken. Some kernels call it without the socket's lock. */
static ssize_t vst_sock_unsent_bytes(struct vsock_sock *vsk)
{
	struct vst_flow *flow = vst_flow_of_unlocked(vsk);
	ssize_t bytes = 0;

	if (!flow)
		return 0;
	if (flow->link)
		bytes = unsent_bytes(flow);
	vst_flow_put(flow);
	return bytes;
}
#endif

#ifdef VST_HAVE_ZEROCOPY
/* Where the ring has no room for packets of many pieces their payload is copied, and the user is told. */
static bool vst_sock_msgzerocopy_allow(void)
{
	return true;
}
#endif

/* ---- notifications and settings ---- */

static bool vst_sock_stream_is_active(struct vsock_sock *vsk)
{
	return true;
}

static bool vst_sock_stream_allow(VST_ALLOW_ARGS)
{
	return true;
}

static bool vst_sock_dgram_allow(VST_ALLOW_ARGS)
{
	return false;
}

static int vst_sock_notify_poll_in(struct vsock_sock *vsk, size_t target, bool *ready)
{
	struct vst_flow *flow = flow_of(vsk);

	*ready = sk_vsock(vsk)->sk_type == SOCK_SEQPACKET ? has_unread(flow) : readable(flow) >= target;
	if (!*ready)
		vst_push(flow);
	return 0;
}

/* A connection that is over is writable: the write will say why it is not. */
static int vst_sock_notify_poll_out(struct vsock_sock *vsk, size_t target, bool *ready)
{
	struct vst_flow *flow = flow_of(vsk);

	*ready = flow->state != VSP_ESTABLISHED || vst_sock_stream_has_space(vsk) > 0;
	if (!*ready)
		vst_push(flow);
	return 0;
}

static int vst_sock_notify_recv(struct vsock_sock *vsk, size_t target, struct vsock_transport_recv_notify_data *data)
{
	return 0;
}

static int vst_sock_notify_recv_post_dequeue(struct vsock_sock *vsk, size_t target, ssize_t copied, bool data_read,
					     struct vsock_transport_recv_notify_data *data)
{
	return 0;
}

/* A new send: what an earlier one needed no longer matters. */
static int vst_sock_notify_send_init(struct vsock_sock *vsk, struct vsock_transport_send_notify_data *data)
{
	flow_of(vsk)->need = 0;
	return 0;
}

/* A writer that may need more in one piece than there is asks for it; the answer comes again with everything read. */
static int vst_sock_notify_send_pre_block(struct vsock_sock *vsk, struct vsock_transport_send_notify_data *data)
{
	struct vst_flow *flow = flow_of(vsk);

	vst_push(flow);
	if (flow->key.type == VSP_TYPE_SEQPACKET && flow->state == VSP_ESTABLISHED)
		vst_send_ctl(flow, VST_CTL_CREDIT_REQUEST, 0);
	return 0;
}

static int vst_sock_notify_send(struct vsock_sock *vsk, struct vsock_transport_send_notify_data *data)
{
	return 0;
}

static int vst_sock_notify_send_post_enqueue(struct vsock_sock *vsk, ssize_t written,
					     struct vsock_transport_send_notify_data *data)
{
	return 0;
}

/* SO_VM_SOCKETS_BUFFER_*: our window, and the most that we keep in flight. */
static void vst_sock_notify_buffer_size(struct vsock_sock *vsk, u64 *val)
{
	struct vst_flow *flow = flow_of(vsk);

	*val = vsp_window_clamp(*val);
	spin_lock(&flow->lock);
	flow->rxc.buf_alloc = *val;
	flow->txc.cap = *val;
	spin_unlock(&flow->lock);
	if (flow->state != VSP_ESTABLISHED)
		return;
	vst_send_ctl(flow, VST_CTL_CREDIT_UPDATE, 0);
	/* One who waits to write may have been waiting for no more than this. */
	sk_vsock(vsk)->sk_write_space(sk_vsock(vsk));
}

/* SO_RCVLOWAT: a reader that waits for more than the peer believes it may send needs the peer to know better. */
static int vst_sock_set_rcvlowat(struct vsock_sock *vsk, int val)
{
	struct vst_flow *flow = flow_of(vsk);
	bool due;

	if (!vst_core_sets_rcvlowat())
		WRITE_ONCE(sk_vsock(vsk)->sk_rcvlowat, val ?: 1);
	spin_lock(&flow->lock);
	due = vsp_rxc_update_due(&flow->rxc, val ?: 1, flow->txc.peer_buf_alloc);
	spin_unlock(&flow->lock);
	if (due && flow->state == VSP_ESTABLISHED)
		vst_send_ctl(flow, VST_CTL_CREDIT_UPDATE, 0);
	return 0;
}

/*
 * A transport copies these and adds .module, .init, .get_local_cid and .seqpacket_allow. Operations of datagram
 * sockets are absent: the core calls them only for types that the transport allows.
 */
const struct vsock_transport vst_sock_ops = {
	.destruct = vst_sock_destruct,
	.release = vst_sock_release,
	.cancel_pkt = vst_sock_cancel_pkt,
	.connect = vst_sock_connect,
	.shutdown = vst_sock_shutdown,

	.dgram_allow = vst_sock_dgram_allow,

	.stream_dequeue = vst_sock_stream_dequeue,
	.stream_enqueue = vst_sock_stream_enqueue,
	.stream_has_data = vst_sock_stream_has_data,
	.stream_has_space = vst_sock_stream_has_space,
	.stream_rcvhiwat = vst_sock_stream_rcvhiwat,
	.stream_is_active = vst_sock_stream_is_active,
	.stream_allow = vst_sock_stream_allow,

	.seqpacket_dequeue = vst_sock_seqpacket_dequeue,
	.seqpacket_enqueue = vst_sock_seqpacket_enqueue,
	.seqpacket_has_data = vst_sock_seqpacket_has_data,

	.notify_poll_in = vst_sock_notify_poll_in,
	.notify_poll_out = vst_sock_notify_poll_out,
	.notify_recv_init = vst_sock_notify_recv,
	.notify_recv_pre_block = vst_sock_notify_recv,
	.notify_recv_pre_dequeue = vst_sock_notify_recv,
	.notify_recv_post_dequeue = vst_sock_notify_recv_post_dequeue,
	.notify_send_init = vst_sock_notify_send_init,
	.notify_send_pre_block = vst_sock_notify_send_pre_block,
	.notify_send_pre_enqueue = vst_sock_notify_send,
	.notify_send_post_enqueue = vst_sock_notify_send_post_enqueue,
	.notify_buffer_size = vst_sock_notify_buffer_size,
	.VST_OP_SET_RCVLOWAT = vst_sock_set_rcvlowat,
#ifdef VST_HAVE_UNSENT_BYTES
	.unsent_bytes = vst_sock_unsent_bytes,
#endif
#ifdef VST_HAVE_ZEROCOPY
	.msgzerocopy_allow = vst_sock_msgzerocopy_allow,
#endif
#ifdef VST_HAVE_READ_SKB
	.read_skb = vst_sock_read_skb,
#endif
};
