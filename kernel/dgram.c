// SPDX-License-Identifier: GPL-2.0-only
/*
 * dgram.c - datagram sockets: ports, routes, what is sent and what arrives
 *
 * The core gives a datagram socket its transport when it is made, long before anybody knows where its datagrams go. So
 * there is one transport for all, and each datagram is routed by its destination: to a link, or to a socket here.
 *
 * A datagram that arrives is queued on sk_receive_queue, which is where the core's poll() looks, by the receive worker
 * and without the socket's lock; SO_RCVBUF bounds the queue. A socket sends through a flow of its own for the link
 * (struct vst_flow, in no table), so it has its turn as a connection has; what it sent is charged to SO_SNDBUF until
 * the device has used it. Nothing is retransmitted and nothing waits for a receiver.
 *
 * Where network namespaces may keep to themselves (7.0), sockets see each other as the core's rule says, and devices
 * see those in namespaces that do not. A port is taken for those that see its socket.
 */
#include <linux/filter.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/uio.h>

#include "vst.h"
#include "trace.h"

static bool datagrams = true;
module_param(datagrams, bool, 0444);
MODULE_PARM_DESC(datagrams, "offer SOCK_DGRAM (default yes)");

enum {
	PORT_UNPRIVILEGED = 1024,	      /* the first that anybody may bind to */
	LINEAR_MAX = SKB_MAX_HEAD(0),	      /* payload up to this many bytes lies in one piece of one page */
	FRAG_ORDER = PAGE_ALLOC_COSTLY_ORDER, /* largest pieces of payload that is copied */
};

/**
 * struct vst_dgram_sock - a datagram socket
 * @sk: the socket
 * @flow: to the link it sent to last, or NULL; with the socket's lock held
 * @node: in the table of ports, under its lock; unhashed: not bound
 * @local: its address, likewise
 */
struct vst_dgram_sock {
	struct sock *sk;
	struct vst_flow *flow;
	struct hlist_node node;
	struct vsp_addr local;
};

/* What skb->cb says of a datagram that waits to be read. */
struct dgram_cb {
	struct vsp_addr src;
};

/* Where a datagram goes. */
struct dgram_path {
	struct vst_link *link; /* a reference; NULL: to a socket here */
	struct net *net;       /* the sender's */
	struct vsp_addr src;
	struct vsp_addr dst;
};

static struct hlist_head ports[VST_DGRAM_BUCKETS];
static DEFINE_SPINLOCK(ports_lock);
static struct vst_side __rcu *sides[NUM_VST_DGRAM_WAYS];
static bool registered;

static struct vst_dgram_sock *dgram_of(const struct vsock_sock *vsk)
{
	return vsk->trans;
}

static struct dgram_cb *cb_of(struct sk_buff *skb)
{
	return (struct dgram_cb *)skb->cb;
}

/* ---- ports ---- */

static struct hlist_head *bucket_of(u32 port)
{
	return &ports[port % VST_DGRAM_BUCKETS];
}

static bool overlap(u32 a, u32 b)
{
	return a == b || a == VMADDR_CID_ANY || b == VMADDR_CID_ANY;
}

/* Is it connected to somebody else? Read without the socket's lock: connect() decides about what comes after it. */
static bool is_for(const struct vst_dgram_sock *d, struct vsp_addr src)
{
	const struct sockaddr_vm *peer = &vsock_sk(d->sk)->remote_addr;
	u32 port = READ_ONCE(peer->svm_port), cid = READ_ONCE(peer->svm_cid);

	return port == VMADDR_PORT_ANY || (port == src.port && overlap(cid, src.cid));
}

/* As seen from a namespace, or from a device: NULL. */
static struct vst_dgram_sock *bound_to(struct vsp_addr addr, struct net *net)
{
	struct vst_dgram_sock *d;

	lockdep_assert_held(&ports_lock);
	hlist_for_each_entry(d, bucket_of(addr.port), node) {
		if (d->local.port == addr.port && overlap(d->local.cid, addr.cid) &&
		    vst_nets_meet(net, sock_net(d->sk)))
			return d;
	}
	return NULL;
}

/* The socket for datagrams from @src, in a namespace or behind a device, to @dst, with a reference, or NULL. */
static struct sock *find_sock(struct vsp_addr src, struct net *net, struct vsp_addr dst)
{
	struct vst_dgram_sock *d;
	struct sock *sk = NULL;

	spin_lock(&ports_lock);
	d = bound_to(dst, net);
	if (d && is_for(d, src) && refcount_inc_not_zero(&d->sk->sk_refcnt))
		sk = d->sk;
	spin_unlock(&ports_lock);
	return sk;
}

/* A port that nobody has, from a random one on, or VMADDR_PORT_ANY. */
static u32 free_port(u32 cid, struct net *net)
{
	u32 first = get_random_u32(), i;

	for (i = 0; i < U32_MAX - PORT_UNPRIVILEGED; i++) {
		struct vsp_addr addr = { .cid = cid };

		addr.port = PORT_UNPRIVILEGED + (first + i) % (U32_MAX - PORT_UNPRIVILEGED);
		if (!bound_to(addr, net))
			return addr.port;
	}
	return VMADDR_PORT_ANY;
}

static int bind_port(struct vst_dgram_sock *d, struct vsp_addr addr)
{
	struct net *net = sock_net(d->sk);
	int err = 0;

	spin_lock(&ports_lock);
	if (addr.port == VMADDR_PORT_ANY)
		addr.port = free_port(addr.cid, net);
	else if (bound_to(addr, net))
		err = -EADDRINUSE;
	if (!err && addr.port == VMADDR_PORT_ANY)
		err = -EADDRNOTAVAIL;
	if (!err) {
		d->local = addr;
		vsock_addr_init(&vsock_sk(d->sk)->local_addr, addr.cid, addr.port);
		hlist_add_head(&d->node, bucket_of(addr.port));
	}
	spin_unlock(&ports_lock);
	return err;
}

static int vst_dgram_bind(struct vsock_sock *vsk, struct sockaddr_vm *addr)
{
	struct vsp_addr to = { .cid = addr->svm_cid, .port = addr->svm_port };

	if (to.port < PORT_UNPRIVILEGED && !capable(CAP_NET_BIND_SERVICE))
		return -EACCES;
	return bind_port(dgram_of(vsk), to);
}

static void unbind(struct vst_dgram_sock *d)
{
	spin_lock(&ports_lock);
	hlist_del_init(&d->node);
	spin_unlock(&ports_lock);
}

/* Sockets that are bound to a CID by number have the new one from now on. */
void vst_dgram_set_cid(u32 old, u32 cid)
{
	struct vst_dgram_sock *d;
	u32 i;

	spin_lock(&ports_lock);
	for (i = 0; i < VST_DGRAM_BUCKETS; i++) {
		hlist_for_each_entry(d, &ports[i], node) {
			if (d->local.cid != old)
				continue;
			d->local.cid = cid;
			vsock_sk(d->sk)->local_addr.svm_cid = cid;
		}
	}
	spin_unlock(&ports_lock);
}

/* ---- routes ---- */

void vst_dgram_add_side(struct vst_side *side)
{
	rcu_assign_pointer(sides[side->way], side);
}

void vst_dgram_remove_side(struct vst_side *side)
{
	RCU_INIT_POINTER(sides[side->way], NULL);
	synchronize_rcu();
}

static bool has_side(enum vst_dgram_way way)
{
	return rcu_access_pointer(sides[way]);
}

/*
 * The link that leads to @cid, with a reference to it and to its module, which datagram sockets do not hold; or why
 * there is none.
 */
static struct vst_link *link_to(enum vst_dgram_way way, u32 cid)
{
	struct vst_link *link = ERR_PTR(-ENODEV);
	struct vst_side *side;

	rcu_read_lock();
	side = rcu_dereference(sides[way]);
	if (side && try_module_get(side->ops.module)) {
		link = side->route(cid);
		if (IS_ERR(link))
			module_put(side->ops.module);
	}
	rcu_read_unlock();
	return link;
}

static void put_link(struct vst_link *link)
{
	struct module *owner = link->side->ops.module;

	vst_link_put(link);
	module_put(owner);
}

static u32 own_cid(void)
{
	u32 cid = VMADDR_CID_ANY;
	struct vst_side *side;

	rcu_read_lock();
	side = rcu_dereference(sides[VST_DGRAM_TO_HOST]);
	if (side)
		cid = side->ops.get_local_cid();
	rcu_read_unlock();
	return cid;
}

/* What a sender that may be bound to any CID calls itself. */
static u32 vst_dgram_local_cid(void)
{
	u32 cid = own_cid();

	if (cid != VMADDR_CID_ANY)
		return cid;
	return has_side(VST_DGRAM_TO_GUEST) ? VMADDR_CID_HOST : VMADDR_CID_LOCAL;
}

/* The link that leads to @to, which is not here. */
static struct vst_link *link_away(const struct sockaddr_vm *to, struct net *net)
{
	bool may_be_guest = to->svm_cid > VMADDR_CID_HOST && !(to->svm_flags & VMADDR_FLAG_TO_HOST);
	struct vst_link *found = ERR_PTR(-ENODEV);

	if (may_be_guest)
		found = link_to(VST_DGRAM_TO_GUEST, to->svm_cid);
	/* A guest that is there and does not run is not looked for elsewhere. */
	if (found == ERR_PTR(-ENODEV) && (!may_be_guest || vst_net_fallback(net)))
		found = link_to(VST_DGRAM_TO_HOST, to->svm_cid);
	return found;
}

/* The link for @to, or NULL where it is a socket here. */
static int find_link(const struct sockaddr_vm *to, struct net *net, struct vst_link **link)
{
	struct vst_link *found;

	*link = NULL;
	if (to->svm_cid == VMADDR_CID_LOCAL)
		return vsock_find_cid(VMADDR_CID_LOCAL) ? 0 : -ENODEV;
	if (to->svm_cid == own_cid())
		return 0;
	found = link_away(to, net);
	if (found == ERR_PTR(-ENODEV) && to->svm_cid == VMADDR_CID_HOST && has_side(VST_DGRAM_TO_GUEST))
		return 0;
	if (!vst_net_global(net)) {
		if (!IS_ERR(found))
			put_link(found);
		return -ENETUNREACH;
	}
	if (!IS_ERR(found))
		*link = found;
	return PTR_ERR_OR_ZERO(found);
}

static int find_path(struct vsock_sock *vsk, const struct sockaddr_vm *to, struct dgram_path *p)
{
	u32 bound = vsk->local_addr.svm_cid;
	int err;

	p->net = sock_net(sk_vsock(vsk));
	err = find_link(to, p->net, &p->link);
	if (err)
		return err;
	p->dst = (struct vsp_addr){ .cid = to->svm_cid, .port = to->svm_port };
	/* To a socket here, the address that it is known by answers, too. */
	p->src.cid = p->link ? READ_ONCE(p->link->local_cid) : to->svm_cid;
	p->src.port = vsk->local_addr.svm_port;
	if (bound == VMADDR_CID_ANY || bound == p->src.cid)
		return 0;
	if (p->link)
		put_link(p->link);
	return -EINVAL;
}

/* ---- the socket's life ---- */

/* Is the answer to the probe there? */
static bool is_known(const struct vst_dgrams *d)
{
	return READ_ONCE(d->peer) != VST_DGRAM_UNKNOWN;
}

/* Jiffies for which that answer is worth waiting for; 0 where it is there, or will hardly come any more. */
static long answer_due(const struct vst_dgrams *d)
{
	long left;

	if (is_known(d))
		return 0;
	/* Pairs with vst_dgram_forget(): a probe that is not answered has the time that goes with it. */
	smp_rmb();
	left = (long)(READ_ONCE(d->until) - jiffies);
	return max(left, 0L);
}

/* Is there anybody that a datagram could be sent to? Waits for the answer to the probe. */
static int is_available(void)
{
	struct vst_link *link = link_to(VST_DGRAM_TO_HOST, VMADDR_CID_HOST);
	struct vst_dgrams *d;
	long left;
	int err = 0;

	if (IS_ERR(link))
		return 0;
	d = &link->dgrams;
	left = answer_due(d);
	if (left)
		left = wait_event_killable_timeout(d->wait, is_known(d), left);
	if (left == -ERESTARTSYS)
		err = -EINTR;
	else if (READ_ONCE(d->peer) != VST_DGRAM_PRESENT && !has_side(VST_DGRAM_TO_GUEST))
		err = -ENODEV;
	put_link(link);
	return err;
}

static int vst_dgram_init(struct vsock_sock *vsk, struct vsock_sock *psk)
{
	struct vst_dgram_sock *d;
	int err = is_available();

	if (err)
		return err;
	d = kzalloc(sizeof(*d), GFP_KERNEL_ACCOUNT);
	if (!d)
		return -ENOMEM;
	d->sk = sk_vsock(vsk);
	vsk->trans = d;
	return 0;
}

static void drop_flow(struct vst_dgram_sock *d)
{
	if (d->flow)
		vst_flow_put(d->flow);
	d->flow = NULL;
}

/* What it sent and what is still waiting is sent nevertheless. */
static void vst_dgram_release(struct vsock_sock *vsk)
{
	struct vst_dgram_sock *d = dgram_of(vsk);

	unbind(d);
	drop_flow(d);
	vsock_remove_sock(vsk);
}

static void vst_dgram_destruct(struct vsock_sock *vsk)
{
	struct vst_dgram_sock *d = dgram_of(vsk);

	if (!d)
		return;
	/* Queued after release() by a worker that had found the socket before it; not every core looks again. */
	skb_queue_purge(&d->sk->sk_receive_queue);
	vsk->trans = NULL;
	kfree(d);
}

/* ---- sending ---- */

/* A packet of @len bytes counts so much against the send buffer. */
static u32 charge_of(u32 len)
{
	return len + VST_PKT_COST;
}

static void charge(struct sock *sk, struct vst_pkt *pkt)
{
	refcount_add(charge_of(pkt->len), &sk->sk_wmem_alloc);
	pkt->sk = sk;
}

void vst_dgram_uncharge(struct sock *sk, u32 len)
{
	/* One less, which keeps the socket until its writers were woken. */
	WARN_ON_ONCE(refcount_sub_and_test(charge_of(len) - 1, &sk->sk_wmem_alloc));
	sk->sk_write_space(sk);
	sk_free(sk);
}

static bool has_room(const struct sock *sk)
{
	return sk_wmem_alloc_get(sk) < READ_ONCE(sk->sk_sndbuf);
}

/* What ends a wait for room, with the socket's lock held. */
static bool wait_is_over(const struct sock *sk)
{
	return has_room(sk) || sk->sk_err || (sk->sk_shutdown & SEND_SHUTDOWN);
}

/*
 * Wait until the send buffer has room. The socket's lock is released meanwhile, so that others may receive, and the
 * caller looks at everything again.
 */
static int wait_for_room(struct sock *sk, const struct msghdr *msg)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	long timeout = sock_sndtimeo(sk, msg->msg_flags & MSG_DONTWAIT);
	int err = 0;

	if (wait_is_over(sk))
		return 0;
	add_wait_queue(sk_sleep(sk), &wait);
	while (!wait_is_over(sk) && !err) {
		if (!timeout)
			err = -EAGAIN;
		else if (signal_pending(current))
			err = sock_intr_errno(timeout);
		else
			sk_wait_event(sk, &timeout, wait_is_over(sk), &wait);
	}
	remove_wait_queue(sk_sleep(sk), &wait);
	return err;
}

/*
 * After a reset the peer is asked again; wait for its answer as socket() does, with the socket's lock released. Returns
 * 1 if the caller has to look at everything again.
 */
static int wait_for_answer(struct sock *sk, struct vst_dgrams *peer, const struct msghdr *msg)
{
	long due = answer_due(peer), timeout = sock_sndtimeo(sk, msg->msg_flags & MSG_DONTWAIT);
	long left;

	if (!due)
		return 0;
	if (!timeout)
		return -EAGAIN;
	release_sock(sk);
	left = wait_event_interruptible_timeout(peer->wait, is_known(peer), min(due, timeout));
	lock_sock(sk);
	if (left < 0)
		return sock_intr_errno(timeout);
	return left || due <= timeout ? 1 : -EAGAIN;
}

/* The socket's flow over a link. */
static struct vst_flow *flow_over(struct vst_dgram_sock *d, struct vst_link *link)
{
	struct vst_flow *flow = d->flow;

	if (flow && flow->link == link)
		return flow;
	drop_flow(d);
	if (!try_module_get(link->side->ops.module))
		return NULL;
	flow = vst_flow_new(link->side, vsock_sk(d->sk));
	if (!flow) {
		module_put(link->side->ops.module);
		return NULL;
	}
	refcount_inc(&link->ref);
	flow->link = link;
	flow->key.type = VSP_TYPE_DGRAM;
	d->flow = flow;
	return flow;
}

static struct vsp_hdr piece_hdr(const struct dgram_path *p, struct vsp_dgram_piece piece)
{
	struct vsp_hdr hdr = {
		.src = p->src,
		.dst = p->dst,
		.len = piece.len,
		.type = VSP_TYPE_DGRAM,
		.op = VSP_OP_RW,
		.buf_alloc = piece.buf_alloc,
		.fwd_cnt = piece.fwd_cnt,
	};

	return hdr;
}

/* A packet for what is left behind @offset, or, where memory is short and the peer allows it, the beginning of that. */
static struct vst_pkt *next_pkt(struct vst_flow *flow, const struct dgram_path *p, u32 total, u32 offset, u32 *room)
{
	struct vsp_dgram_piece piece;
	struct vst_pkt *pkt;

	for (;;) {
		piece = vsp_dgram_piece_at(total, offset, *room);
		pkt = vst_pkt_new(flow, piece.len, piece.len, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (pkt || piece.len <= VST_SMALL_PKT || !READ_ONCE(p->link->dgrams.fragments))
			break;
		*room = max_t(u32, *room / 2, VST_SMALL_PKT);
	}
	if (!pkt)
		return NULL;
	pkt->wire = vsp_encode(piece_hdr(p, piece));
	pkt->flags = offset + piece.len == total ? VSP_SEQ_EOM : 0;
	return pkt;
}

/* Cut a datagram into as few packets as there is memory for. On failure nothing is left of it. */
static int stage(struct vst_flow *flow, const struct dgram_path *p, struct sock *sk, struct msghdr *msg, u32 total,
		 struct list_head *pkts)
{
	u32 offset = 0, room = VSP_MAX_PAYLOAD;

	do {
		struct vst_pkt *pkt = next_pkt(flow, p, total, offset, &room);
		void *data;

		if (!pkt)
			return -ENOMEM;
		list_add_tail(&pkt->node, pkts);
		charge(sk, pkt);
		data = pkt->page ? page_address(pkt->page) : pkt->data;
		if (!copy_from_iter_full(data, pkt->len, &msg->msg_iter))
			return -EFAULT;
		offset += pkt->len;
	} while (offset < total);
	return 0;
}

static int send_over(struct vst_dgram_sock *d, const struct dgram_path *p, struct msghdr *msg, u32 len)
{
	const struct vsp_hdr hdr = piece_hdr(p, (struct vsp_dgram_piece){ .len = len });
	const struct vst_write w = { .from = &msg->msg_iter, .len = len, .dgram = &hdr };
	const struct vst_dgrams *peer = &p->link->dgrams;
	struct vst_flow *flow;
	LIST_HEAD(pkts);
	int err;

	if (READ_ONCE(peer->peer) != VST_DGRAM_PRESENT)
		return -ENODEV;
	if (len > READ_ONCE(peer->max))
		return -EMSGSIZE;
	flow = flow_over(d, p->link);
	if (!flow)
		return -ENOBUFS;
	if (vst_went_straight(flow, &w))
		return len;
	err = stage(flow, p, d->sk, msg, len, &pkts);
	if (err) {
		vst_pkts_free(&pkts);
		return err;
	}
	return vst_send_pkts(flow, &pkts) ? len : -ENODEV;
}

/* ---- receiving ---- */

/* An skb with room for @len bytes, which are not there yet. */
static struct sk_buff *skb_for(u32 len, gfp_t gfp)
{
	u32 linear = len <= LINEAR_MAX ? len : 0;
	struct sk_buff *skb;
	int err;

	skb = alloc_skb_with_frags(linear, len - linear, FRAG_ORDER, &err, gfp);
	if (!skb)
		return NULL;
	skb_put(skb, linear);
	skb->data_len = len - linear;
	skb->len = len;
	return skb;
}

/* Who receives a datagram; a reference. @sk is NULL where it is dropped, and @what says why. */
struct receiver {
	struct sock *sk;
	enum vst_stat what;
};

/* What sock_queue_rcv_skb() looks at, and shutdown(). Both may change at any time. */
static bool takes_none(const struct sock *sk)
{
	return (READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN) ||
	       atomic_read(&sk->sk_rmem_alloc) >= READ_ONCE(sk->sk_rcvbuf);
}

/* For a datagram from a namespace or a device. What nobody takes need not be copied first. */
static struct receiver receiver_of(struct vsp_addr src, struct net *net, struct vsp_addr dst)
{
	struct receiver r = { .sk = find_sock(src, net, dst), .what = VST_STAT_DGRAM_RX };

	if (!r.sk) {
		r.what = VST_STAT_DGRAM_RX_UNBOUND;
	} else if (takes_none(r.sk)) {
		atomic_inc(&r.sk->sk_drops);
		sock_put(r.sk);
		r.sk = NULL;
		r.what = VST_STAT_DGRAM_RX_FULL;
	}
	return r;
}

/* What sock_queue_rcv_skb() does with what there is room for, but for waking who reads. False: it is not taken. */
static bool queue_quietly(struct sock *sk, struct sk_buff *skb)
{
	struct sk_buff_head *queue = &sk->sk_receive_queue;

	if (sk_filter(sk, skb))
		return false;
	if (!sk_rmem_schedule(sk, skb, skb->truesize)) {
		atomic_inc(&sk->sk_drops);
		return false;
	}
	skb_set_owner_r(skb, sk);
	spin_lock_bh(&queue->lock);
	sock_skb_set_dropcount(sk, skb);
	__skb_queue_tail(queue, skb);
	spin_unlock_bh(&queue->lock);
	return true;
}

/*
 * Wake who reads, when other packets have come, too: one that is woken for each datagram of many sleeps again before
 * the next. But before the receive buffer is full.
 */
static void wake_reader(struct vst_link *link, struct sock *sk, u32 len)
{
	sock_hold(sk);
	vst_rx_accepted(link, sk, len);
	if (atomic_read(&sk->sk_rmem_alloc) >= READ_ONCE(sk->sk_rcvbuf) / 2)
		vst_rx_settle(link);
}

/*
 * Queue a datagram, which came over @link or from here: NULL. It is consumed, and so is the receiver. @skb NULL: there
 * was no memory. Returns what became of it.
 */
static enum vst_stat deliver(struct receiver r, struct vst_link *link, struct vsp_addr src, struct sk_buff *skb)
{
	/* Once queued it is the reader's. */
	u32 len = skb ? skb->len : 0;

	if (!r.sk) {
		kfree_skb(skb);
		return r.what;
	}
	if (!skb) {
		r.what = VST_STAT_DGRAM_RX_NO_MEMORY;
	} else {
		cb_of(skb)->src = src;
		if (!queue_quietly(r.sk, skb)) {
			kfree_skb(skb);
			r.what = VST_STAT_DGRAM_RX_FULL;
		} else if (link) {
			wake_reader(link, r.sk, len);
		} else {
			r.sk->sk_data_ready(r.sk);
		}
	}
	sock_put(r.sk);
	return r.what;
}

/* The peer of a connected socket has nobody bound. */
static void refuse(struct vsp_addr by, struct net *net, struct vsp_addr whom)
{
	struct sock *sk = find_sock(by, net, whom);

	if (!sk)
		return;
	if (READ_ONCE(vsock_sk(sk)->remote_addr.svm_port) == by.port) {
		sk->sk_err = ECONNREFUSED;
		sk_error_report(sk);
	}
	sock_put(sk);
}

/* To a socket here. What does not fit is dropped, as everywhere. */
static int send_here(const struct dgram_path *p, struct msghdr *msg, u32 len)
{
	struct sk_buff *skb;

	if (len > VSP_DGRAM_MAX)
		return -EMSGSIZE;
	skb = skb_for(len, GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!skb)
		return -ENOBUFS;
	if (skb_copy_datagram_from_iter(skb, 0, &msg->msg_iter, len)) {
		kfree_skb(skb);
		return -EFAULT;
	}
	if (deliver(receiver_of(p->src, p->net, p->dst), NULL, p->src, skb) == VST_STAT_DGRAM_RX_UNBOUND)
		refuse(p->dst, p->net, p->src);
	return len;
}

/* Wait until one datagram may be sent, and find out where it goes. Without an error @p->link has a reference. */
static int get_ready(struct vsock_sock *vsk, const struct sockaddr_vm *to, const struct msghdr *msg,
		     struct dgram_path *p)
{
	struct sock *sk = sk_vsock(vsk);
	int n;

	do {
		n = wait_for_room(sk, msg);
		if (n)
			return n;
		n = sock_error(sk);
		if (!n && (sk->sk_shutdown & SEND_SHUTDOWN))
			n = -EPIPE;
		if (!n)
			n = find_path(vsk, to, p);
		if (n || !p->link)
			return n;
		n = wait_for_answer(sk, &p->link->dgrams, msg);
		if (n)
			put_link(p->link);
	} while (n > 0);
	return n;
}

static int vst_dgram_enqueue(struct vsock_sock *vsk, struct sockaddr_vm *remote, struct msghdr *msg, size_t len)
{
	struct sockaddr_vm to = *remote; /* may be vsk->remote_addr, which changes while we wait */
	struct dgram_path p;
	int n;

	if (len > VSP_DGRAM_MAX)
		return -EMSGSIZE;
	n = get_ready(vsk, &to, msg, &p);
	if (n)
		return n;
	if (!p.link)
		return send_here(&p, msg, len);
	n = send_over(dgram_of(vsk), &p, msg, len);
	put_link(p.link);
	return n;
}

static int vst_dgram_dequeue(struct vsock_sock *vsk, struct msghdr *msg, size_t len, int flags)
{
	struct sock *sk = sk_vsock(vsk);
	struct sk_buff *skb;
	int n, err;

	if (flags & (MSG_OOB | MSG_ERRQUEUE))
		return -EOPNOTSUPP;
	skb = skb_recv_datagram(sk, flags, &err);
	if (!skb)
		return err;
	n = min_t(size_t, len, skb->len);
	if (n < skb->len)
		msg->msg_flags |= MSG_TRUNC;
	err = skb_copy_datagram_msg(skb, 0, msg, n);
	if (!err) {
		sock_recv_cmsgs(msg, sk, skb);
		if (msg->msg_name) {
			vsock_addr_init(msg->msg_name, cb_of(skb)->src.cid, cb_of(skb)->src.port);
			msg->msg_namelen = sizeof(struct sockaddr_vm);
		}
		err = flags & MSG_TRUNC ? skb->len : n;
	}
	skb_free_datagram(sk, skb);
	return err;
}

/* Count a datagram that did not arrive, and answer one that nobody is bound for, but not a flood of them. */
static void dropped(struct vst_link *link, const struct vsp_hdr *hdr, u32 len, enum vst_stat why)
{
	struct vst_dgrams *d = &link->dgrams;

	vst_count(link, why, 1);
	trace_vst_dgram_drop(link, hdr, len, why);
	/* A peer that did not say that it has datagrams must not be sent a packet of their type. */
	if (why != VST_STAT_DGRAM_RX_UNBOUND || READ_ONCE(d->peer) != VST_DGRAM_PRESENT)
		return;
	if (time_after_eq(jiffies, d->refusal_second + HZ)) {
		d->refusal_second = jiffies;
		d->refusals = 0;
	}
	if (d->refusals >= VST_DGRAM_REFUSALS)
		return;
	d->refusals++;
	if (vst_reply(link, hdr))
		vst_count(link, VST_STAT_DGRAM_REFUSED, 1);
}

/* What became of a datagram of @len bytes. */
static void settle(struct vst_link *link, const struct vsp_hdr *hdr, u32 len, enum vst_stat what)
{
	if (what == VST_STAT_DGRAM_RX)
		vst_count(link, what, 1);
	else
		dropped(link, hdr, len, what);
}

/* One packet, one datagram: the receive buffer itself, where that wastes less than half of it, or a copy. */
static struct sk_buff *skb_of(struct vst_link *link, struct vst_payload *payload, u32 len)
{
	u32 room = PAGE_SIZE << payload->order;
	gfp_t gfp = GFP_NOIO | __GFP_NOWARN;
	struct sk_buff *skb;

	if (payload->page && len > VST_COPY_MAX && len >= room / 2) {
		skb = alloc_skb(0, gfp);
		if (!skb)
			return NULL;
		skb_add_rx_frag(skb, 0, payload->page, 0, len, room);
		payload->taken = true;
		vst_count(link, VST_STAT_RX_HANDED, 1);
		return skb;
	}
	skb = skb_for(len, gfp);
	if (skb && len)
		skb_store_bits(skb, 0, payload->data, len);
	vst_count(link, VST_STAT_RX_COPIED, 1);
	return skb;
}

/* One packet, one datagram. */
static void rx_whole(struct vst_link *link, const struct vsp_hdr *hdr, struct vst_payload *payload)
{
	struct receiver r = receiver_of(hdr->src, NULL, hdr->dst);
	struct sk_buff *skb = NULL;

	if (r.sk && hdr->len && !payload->data) {
		/* It takes datagrams by now, but this one's payload was left behind. */
		atomic_inc(&r.sk->sk_drops);
		r.what = VST_STAT_DGRAM_RX_FULL;
		sock_put(r.sk);
		r.sk = NULL;
	}
	if (r.sk)
		skb = skb_of(link, payload, hdr->len);
	settle(link, hdr, hdr->len, deliver(r, link, hdr->src, skb));
}

/* The datagram that was being put together is given up. */
static void give_up(struct vst_link *link, const struct vsp_hdr *hdr)
{
	kfree_skb(link->dgrams.skb);
	link->dgrams.skb = NULL;
	dropped(link, hdr, 0, VST_STAT_DGRAM_RX_CUT);
}

static void rx_data(struct vst_link *link, const struct vsp_hdr *hdr, struct vst_payload *payload)
{
	struct vst_dgrams *d = &link->dgrams;
	struct vsp_dgram_verdict v = vsp_dgram_add(&d->slot, hdr);
	struct sk_buff *skb;

	if (v.lost)
		give_up(link, hdr);
	switch (v.what) {
	case VSP_DGRAM_BAD:
		vst_link_reject(link, v.why);
		return;
	case VSP_DGRAM_WHOLE:
		rx_whole(link, hdr, payload);
		return;
	case VSP_DGRAM_FIRST:
		d->skb = skb_for(v.total, GFP_NOIO | __GFP_NOWARN);
		break;
	default:
		break;
	}
	if (d->skb)
		skb_store_bits(d->skb, v.offset, payload->data, hdr->len);
	if (v.what != VSP_DGRAM_LAST)
		return;
	skb = d->skb;
	d->skb = NULL;
	settle(link, hdr, v.total, deliver(receiver_of(hdr->src, NULL, hdr->dst), link, hdr->src, skb));
}

bool vst_dgram_refuses(const struct vsp_wire *wire)
{
	struct vsp_addr src = { .cid = le64_to_cpu(wire->src_cid), .port = le32_to_cpu(wire->src_port) };
	struct vsp_addr dst = { .cid = le64_to_cpu(wire->dst_cid), .port = le32_to_cpu(wire->dst_port) };
	struct sock *sk;
	bool refuses;

	if (le16_to_cpu(wire->type) != VSP_TYPE_DGRAM || le16_to_cpu(wire->op) != VSP_OP_RW || wire->buf_alloc)
		return false;
	sk = find_sock(src, NULL, dst);
	refuses = !sk || takes_none(sk);
	if (sk)
		sock_put(sk);
	return refuses;
}

/* ---- discovery ---- */

u32 vst_dgram_types(void)
{
	return registered ? VSP_TYPES(VSP_TYPE_DGRAM) : 0;
}

void vst_dgram_link_init(struct vst_link *link)
{
	init_waitqueue_head(&link->dgrams.wait);
	link->dgrams.max = VSP_DGRAM_MAX;
	link->dgrams.until = jiffies;
}

void vst_dgram_link_stop(struct vst_link *link)
{
	vsp_dgram_interrupt(&link->dgrams.slot);
	kfree_skb(link->dgrams.skb);
	link->dgrams.skb = NULL;
}

void vst_dgram_forget(struct vst_link *link, bool offered)
{
	struct vst_dgrams *d = &link->dgrams;

	if (!registered)
		return;
	d->offered = offered;
	WRITE_ONCE(d->fragments, false);
	WRITE_ONCE(d->max, VSP_DGRAM_MAX);
	/* Pairs with answer_due(): vst_dgram_discover() has said until when. */
	smp_wmb();
	WRITE_ONCE(d->peer, offered ? VST_DGRAM_PRESENT : VST_DGRAM_UNKNOWN);
}

void vst_dgram_discover(struct vst_link *link, bool offered)
{
	struct vst_dgrams *d = &link->dgrams;

	if (!registered)
		return;
	WRITE_ONCE(d->until, jiffies + msecs_to_jiffies(VST_DGRAM_PROBE_MS));
	vst_dgram_forget(link, offered);
	spin_lock(&link->tx_lock);
	d->probe_due = link->up;
	spin_unlock(&link->tx_lock);
	link->ops->pump(link);
}

struct vsp_hdr vst_dgram_probe(struct vst_link *link)
{
	struct vsp_hdr hdr = {
		.src = { .cid = link->local_cid, .port = VSP_PORT_ANY },
		.dst = { .cid = VSP_CID_HOST, .port = VSP_PORT_ANY },
		.type = VSP_TYPE_DGRAM,
		.op = VSP_OP_CREDIT_REQUEST,
		.buf_alloc = VSP_DGRAM_MAX,
		.fwd_cnt = VSP_DGRAM_REVISION,
	};

	lockdep_assert_held(&link->tx_lock);
	link->dgrams.probe_due = false;
	return hdr;
}

static void learn(struct vst_dgrams *d, enum vst_dgram_peer peer)
{
	WRITE_ONCE(d->peer, peer);
	wake_up_all(&d->wait);
}

static void learn_from(struct vst_dgrams *d, const struct vsp_hdr *hdr)
{
	WRITE_ONCE(d->max, min_t(u32, hdr->buf_alloc, VSP_DGRAM_MAX));
	WRITE_ONCE(d->fragments, hdr->fwd_cnt >= VSP_DGRAM_REVISION);
	learn(d, VST_DGRAM_PRESENT);
}

/* Between no ports: it is about datagrams as such. */
static bool is_discovery(const struct vsp_hdr *hdr)
{
	return hdr->src.port == VSP_PORT_ANY && hdr->dst.port == VSP_PORT_ANY;
}

static void rx_discovery(struct vst_link *link, const struct vsp_hdr *hdr)
{
	struct vsp_hdr answer = {
		.src = hdr->dst,
		.dst = hdr->src,
		.type = VSP_TYPE_DGRAM,
		.op = VSP_OP_CREDIT_UPDATE,
		.buf_alloc = VSP_DGRAM_MAX,
		.fwd_cnt = VSP_DGRAM_REVISION,
	};

	learn_from(&link->dgrams, hdr);
	if (hdr->op == VSP_OP_CREDIT_REQUEST && !vst_answer(link, answer))
		vst_link_reject(link, VSP_REJECT_REPLIES);
}

/* A device that does not know the probe's type answers with a reset of this, or of another type that it knows. */
static bool refuses_probe(const struct vsp_decoded *d)
{
	return d->hdr.op == VSP_OP_RST && (d->why == VSP_OK || d->why == VSP_REJECT_TYPE) && is_discovery(&d->hdr);
}

bool vst_dgram_rx(struct vst_link *link, const struct vsp_decoded *d, struct vst_payload *payload)
{
	struct vst_dgrams *dgrams = &link->dgrams;
	bool ours = d->why == VSP_OK && d->hdr.type == VSP_TYPE_DGRAM;

	if (!(ours && d->hdr.op == VSP_OP_RW) && vsp_dgram_interrupt(&dgrams->slot))
		give_up(link, &d->hdr);
	if (refuses_probe(d)) {
		if (registered && !dgrams->offered)
			learn(dgrams, VST_DGRAM_ABSENT);
		return true;
	}
	if (!ours)
		return false;
	if (d->hdr.op == VSP_OP_RW)
		rx_data(link, &d->hdr, payload);
	else if (d->hdr.op == VSP_OP_RST)
		refuse(d->hdr.src, NULL, d->hdr.dst);
	else if (is_discovery(&d->hdr))
		rx_discovery(link, &d->hdr);
	else
		vst_link_reject(link, VSP_REJECT_STATE);
	return true;
}

/* ---- the transport ---- */

static bool vst_dgram_allow(VST_ALLOW_ARGS)
{
	return true;
}

/* SIOCINQ, which the core of 6.17 and later asks of any socket. */
static s64 vst_dgram_has_data(struct vsock_sock *vsk)
{
	struct sock *sk = sk_vsock(vsk);
	const struct sk_buff *skb;
	s64 len = 0;

	spin_lock_bh(&sk->sk_receive_queue.lock);
	skb = skb_peek(&sk->sk_receive_queue);
	if (skb)
		len = skb->len;
	spin_unlock_bh(&sk->sk_receive_queue.lock);
	return len;
}

#ifdef VST_HAVE_UNSENT_BYTES
static ssize_t vst_dgram_unsent_bytes(struct vsock_sock *vsk)
{
	return sk_wmem_alloc_get(sk_vsock(vsk));
}
#endif

#ifdef VST_HAVE_READ_SKB
static int vst_dgram_read_skb(struct vsock_sock *vsk, skb_read_actor_t actor)
{
	struct sock *sk = sk_vsock(vsk);
	struct sk_buff *skb;
	int taken = 0, err;
	bool any = false;

	/* It is called once for all that came meanwhile. */
	while ((skb = skb_recv_datagram(sk, MSG_DONTWAIT, &err))) {
		skb_orphan(skb);
		taken += skb->len;
		any = true;
		actor(sk, skb);
	}
	return any ? taken : err;
}
#endif

/* The operations of connections are absent: this transport has no other sockets than datagram ones. */
static const struct vsock_transport dgram_ops = {
	.module = THIS_MODULE,
	.init = vst_dgram_init,
	.destruct = vst_dgram_destruct,
	.release = vst_dgram_release,
	.get_local_cid = vst_dgram_local_cid,
	.dgram_allow = vst_dgram_allow,
	.dgram_bind = vst_dgram_bind,
	.dgram_enqueue = vst_dgram_enqueue,
	.dgram_dequeue = vst_dgram_dequeue,
	.stream_has_data = vst_dgram_has_data,
#ifdef VST_HAVE_UNSENT_BYTES
	.unsent_bytes = vst_dgram_unsent_bytes,
#endif
#ifdef VST_HAVE_READ_SKB
	.read_skb = vst_dgram_read_skb,
#endif
};

void vst_dgram_register(void)
{
	int err;

	if (!datagrams)
		return;
	err = vsock_core_register(&dgram_ops, VSOCK_TRANSPORT_F_DGRAM);
	registered = !err;
	if (err)
		pr_warn(KBUILD_MODNAME
			": no datagrams: another module has them (error %d), as vmw_vsock_vmci_transport does on any "
			"machine; put \"install vmw_vsock_vmci_transport /bin/false\" into /etc/modprobe.d/, reboot\n",
			err);
}

void vst_dgram_unregister(void)
{
	if (registered)
		vsock_core_unregister(&dgram_ops);
}
