/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vst.h - the kernel shell around the rules: what vst_common.ko offers to the guest driver and to the host device
 *
 * Three objects, each reference-counted:
 *
 *   vst_side  one vsock transport (guest-to-host, host-to-guest): the operations it registered and its table of flows;
 *   vst_link  one device or one guest: what is to be sent to it, in what order, and what it was refused;
 *   vst_flow  one connection: ledgers, received bytes, packets to send, events that its socket has not seen.
 *
 * A flow outlives its socket's interest in it, so that the worker that receives never needs the socket's lock; see
 * docs/LOCKING.md. What a peer may do is decided in proto/, never here.
 */
#ifndef VST_H
#define VST_H

#include <linux/bvec.h>
#include <linux/err.h>
#include <linux/list.h>
#include <linux/refcount.h>
#include <linux/rhashtable.h>
#include <linux/skbuff.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <net/af_vsock.h>
#include <net/sock.h>

#include "dgram.h"
#include "proto/budget.h"
#include "proto/conn.h"
#include "proto/credit.h"
#include "proto/frame.h"
#include "proto/meter.h"
#include "proto/names.h"
#include "proto/sched.h"
#include "proto/wire.h"

enum {
	VST_INBOX_MIN = 64,	     /* requests that may wait for a listener's lock, or its backlog if that is more */
	VST_REQUESTS_MAX = 8192,     /* the same for all listeners of a link */
	VST_REFUSE_RETRY_MS = 10,    /* until a refusal that found the reply budget spent is tried again */
	VST_ORPHANS_DEFAULT = 1024,  /* closed connections of a link that the peer has yet to agree to */
	VST_RESETS_DEFAULT = 8192,   /* ended connections of a link whose reset waits for room in the ring */
	VST_CLOSE_TIMEOUT_MS = 8000, /* from close() to the reset that ends waiting for the peer's: as in-tree */
	VST_LINGER_LOOK_MS = 20,     /* between looks of a close() with SO_LINGER whether all is sent */
	VST_COPY_MAX = 4096,	     /* payload up to this many bytes is copied out of the receive buffer */
	VST_SEG_MIN = 1984,	     /* payload of a segment where memory has only pieces of 2 KiB */
	VST_PKT_MIN = 1920,	     /* payload of a packet where memory has only pieces of 2 KiB */
	VST_SMALL_PKT = 4096,	     /* payload up to this many bytes lies behind its header, in one allocation */
	VST_METER_RETRY_MS = 10,     /* until a peer that holds too many packets is asked again what it has read */
	VST_METER_DOUBLINGS = 6,     /* that time doubles with each question in vain, so often */
	VST_CLOSE_HELD_MAX = 38,     /* times VST_CLOSE_TIMEOUT_MS that a close waits for such a peer: five minutes */
	VST_PKT_COST = 256,	     /* what a queued packet of a message counts at least against the window */
	VST_SHARED_MS = 20,	     /* a link is taken to be shared for so long after two flows have taken turns */
	VST_TAIL_ROOM = 1920,	     /* a small packet behind others has room for so much: for the writes to come */
	VST_CORK_MAX = 4096,	     /* less than this a flow keeps back, with VST_PKT_COST for each packet */
	VST_BEHIND_MAX = 256,	     /* bytes of a write that may join such a packet without one of its own */
	VST_MESSAGES_MAX = 32,	     /* that make one packet so */
	VST_STRAIGHT_MIN = 8192,     /* bytes of a write that goes straight to the ring: smaller ones go together */
	/* Packets of a flow, or connections of a listener, or their bytes, that come at most before it is woken. */
	VST_WAKE_PACKETS = 32,
	VST_WAKE_BYTES = 64 << 10,
	VST_SPARES = 4,		     /* blocks of 64 KiB that a link keeps for its next packets */
	/* Pieces of zero-copy payload in a packet: the largest payload, not aligned, where a page has 4 KiB. */
	VST_ZC_FRAGS = 17,
};

struct vst_link;
struct vst_flow;
struct vst_side;

/**
 * struct vst_spares - blocks of pages for payload that will be needed again in a moment
 * @block: each NULL or of 64 KiB
 *
 * Kernels that clear all memory before they give it away spend as much on a block as a copy costs. Only those bytes of
 * one that were written anew are ever read. It stays charged to whoever had it first.
 */
struct vst_spares {
	struct page *block[VST_SPARES];
};

/* What connections are found by. Both addresses: a guest's siblings and, on a host, its guests all have ports. */
struct vst_key {
	struct vsp_addr local;
	struct vsp_addr remote;
	u32 type;
};

/**
 * struct vst_seg - bytes that arrived and wait for the reader
 * @node: in vst_flow.rx
 * @page: where the bytes lie, or NULL if they lie in @room
 * @order: of @page
 * @off: bytes that the reader has taken
 * @len: bytes that arrived, those it has taken included
 * @cap: bytes that fit
 * @data: the first byte
 * @room: bytes of a small segment
 *
 * Memory is at most twice the payload: bytes that were copied fill a segment before the next begins, and a receive
 * buffer is handed over only if it is at least half full.
 */
struct vst_seg {
	struct list_head node;
	struct page *page;
	u32 order;
	u32 off;
	u32 len;
	u32 cap;
	u8 *data;
	u8 room[];
};

/* A message of a seqpacket flow: its length and whether it ends a record (MSG_EOR). */
struct vst_record {
	u32 len;
	bool eor;
};

/**
 * struct vst_records - the messages that wait to be read
 * @chunks: their lengths
 * @count: how many there are
 * @spare: a chunk for the next push; its pusher's alone
 */
struct vst_records {
	struct list_head chunks;
	u32 count;
	struct vst_rec_chunk *spare;
};

/**
 * struct vst_zc - payload that stays in the pages of the user who sends it
 * @uarg: is told when the device has used the packet; a reference
 * @n: pieces
 * @frags: the pieces, each within a page, of which it has a reference
 */
struct vst_zc {
	struct ubuf_info *uarg;
	u32 n;
	struct bio_vec frags[VST_ZC_FRAGS];
};

/**
 * struct vst_pkt - payload on its way to the peer
 * @node: in vst_flow.tx, or in a list of packets to free
 * @flow: whose it is; a reference
 * @page: payload of more than VST_SMALL_PKT bytes, or NULL: then it follows @wire
 * @cap: bytes that fit behind @wire
 * @order: of @page
 * @zc: payload of the user's, or NULL
 * @len: bytes of payload
 * @flags: the header's
 * @more: whole messages in it beside the first, which all have a header of their own; see vst_pkt_end()
 * @sk: whose send buffer it is charged to, of a datagram; see vst_dgram_uncharge()
 * @wire: the header, filled in when the packet goes to the ring; of a datagram, before
 * @data: payload of at most VST_SMALL_PKT bytes
 */
struct vst_pkt {
	struct list_head node;
	struct vst_flow *flow;
	struct page *page;
	u32 order;
	u32 cap;
	u32 len;
	u32 flags;
	u32 more;
	struct vst_zc *zc;
	struct sock *sk;
	struct vsp_wire wire;
	u8 data[];
};

/* Where a message ends, of a packet that has room for more after it: from the end of its memory downwards. */
static inline u16 *vst_pkt_mark(const struct vst_pkt *pkt, u32 i)
{
	return (u16 *)(pkt->data + pkt->cap) - 1 - i;
}

/* Where the message with this number ends. */
static inline u32 vst_pkt_end(const struct vst_pkt *pkt, u32 i)
{
	return i < pkt->more ? *vst_pkt_mark(pkt, i) : pkt->len;
}

/**
 * struct vst_ask - a connection that is asked for, until its flow is in the table
 * @resets: vst_link.resets when it was
 * @cancelled: the peer gave up; under vst_link.flows_lock, read without it, too
 */
struct vst_ask {
	u32 resets;
	bool cancelled;
};

/* What vst_link_next() hands to the ring: a packet, or a header alone. */
struct vst_out {
	struct vst_pkt *pkt;  /* the callee's from now on; NULL for a header alone */
	struct vsp_wire wire; /* the header, if @pkt is NULL */
};

/* Headers that a flow owes its peer. They are flags until they are sent, so they cost no memory. */
enum vst_ctl {
	VST_CTL_REQUEST = 1 << 0,
	VST_CTL_RESPONSE = 1 << 1,
	VST_CTL_CREDIT_UPDATE = 1 << 2,
	VST_CTL_CREDIT_REQUEST = 1 << 3,
	VST_CTL_SHUTDOWN = 1 << 4, /* after the packets that wait */
	VST_CTL_RST = 1 << 5,	   /* instead of everything that waits */
};

/* Bits of vst_flow.bits: what happened that the socket has to be told with its lock held. They are set once. */
enum vst_bit {
	VST_BIT_BELL, /* the doorbell lies on the socket's backlog */
	VST_BIT_RESPONSE,
	VST_BIT_SHUTDOWN,
	VST_BIT_RST,
	VST_BIT_VIOLATION,
	VST_BIT_REPLACED, /* the peer asked for a new connection with this address */
	VST_BIT_GONE,
};

/* Payload of a flow that went to the ring, or arrived for it; and how often it was held back. */
struct vst_traffic {
	u64 rx_packets;
	u64 rx_bytes;
	u64 tx_packets;
	u64 tx_bytes;
	u32 tx_held;
};

/**
 * struct vst_flow - one connection; or, outside the table, what one datagram socket sends over one link
 * @id: its number, never used again while the module is loaded
 * @ref: the socket, the table, the scheduler and each packet hold one each
 * @side: the transport it belongs to
 * @link: the device it runs over, a reference; set once, before the flow is in the table
 * @key: its address; set with @link
 * @hash: in vst_side.flows
 * @on_link: in vst_link.flows, under vst_link.flows_lock
 * @rcu: frees it after a grace period
 * @bits: enum vst_bit, atomic
 * @n_pkts: packets that are queued or in the ring, atomic; one with room for more counts as what it could be
 * @meter_timer: asks a peer that holds too many packets again, or tells it what was read; holds a reference to the
 *	flow
 * @lock: guards what the third paragraph lists
 *
 * With the socket owned:
 * @state: the connection's state; written by vst_step() and vst_spawn() only
 * @shut: VSP_SHUTDOWN_* that we have announced
 * @close_timer: armed by VSP_ACT_START_TIMER; holds a reference to the socket
 * @close_armed: it is
 * @released: close() was called; the socket lives on for the peer's answer
 * @lingers: and waits for it (SO_LINGER)
 * @orphan: it is counted in vst_link.n_orphans for that
 * @need: bytes that the message a writer waits with needs, of a seqpacket flow; 0: nobody waits
 * @close_waits: how often the close timer was prolonged
 * @late_err: an error that the socket will have when the last message was read, or 0
 * @core_backlog_rcv: what the core had installed
 * @bell: stands in a socket's backlog for "look at @bits"; nothing but its address and its place in the list matters
 *
 * Under @lock:
 * @sk: the socket, no reference; NULL once it is gone
 * @txc: what we may send
 * @rxc: what we may be sent
 * @traffic: counters
 * @meter: packets that the peer holds unread
 * @held: payload waits until it has read some
 * @asked: it was asked how many it has read, and has not read any since
 * @meter_tries: how often in vain
 * @tell: the peer asked, and hears from @meter_timer what was read
 * @stuffed: a writer waits for @n_pkts to fall
 * @rx: segments to read. The receiver appends to the last; only the owner of the socket takes any away
 * @readable: bytes in @rx; less than what @rxc counts while the receiver gets memory for a packet
 * @records: complete messages, of a seqpacket flow
 * @arriving: the message that is arriving, of a seqpacket flow
 * @rx_busy: a reader copies from @rx without @lock
 * @rx_missed: read_skb() was turned away by @rx_busy
 * @skb_busy: read_skb() takes what is in @rx: readers wait until it has
 * @for_skb: what arrived just now is for read_skb(), which is about to be called: likewise
 * @hints: the peer's VSP_SHUTDOWN_*, permanent
 * @requested: the request has left; what arrives before that is of an earlier attempt with this address
 * @open: payload may arrive
 * @closing: close() was called; payload is discarded
 * @over: the receiver saw the end; the flow leaves the table
 *
 * Under vst_link.tx_lock:
 * @sched: its turn
 * @tx: packets to send
 * @ctl: enum vst_ctl
 * @waiting: what @tx amounts to, with VST_PKT_COST for each packet
 * @in_ring: bytes that the ring holds
 * @n_in_ring: packets likewise
 * @ctl_shut: hints for VST_CTL_SHUTDOWN
 * @midway: the last packet to the ring did not end its message
 * @small: it had little payload
 * @corked: @tx is kept back; see is_corked()
 * @spent: a datagram socket has its share of the ring, and waits until half of that was used
 * @mute: nothing more is queued; see vst_tx_end()
 * @heard: packets with payload that had arrived when the last one was queued
 */
struct vst_flow {
	u64 id;
	refcount_t ref;
	struct vst_side *side;
	struct vst_link *link;
	struct vst_key key;
	struct rhash_head hash;
	struct list_head on_link;
	struct rcu_head rcu;
	unsigned long bits;
	atomic_t n_pkts;
	struct delayed_work meter_timer;

	enum vsp_state state;
	u32 shut;
	struct delayed_work close_timer;
	bool close_armed;
	bool released;
	bool lingers;
	bool orphan;
	u32 close_waits;
	u32 need;
	int late_err;
	int (*core_backlog_rcv)(struct sock *sk, struct sk_buff *skb);
	struct sk_buff bell;

	spinlock_t lock;
	struct sock *sk;
	struct vsp_txc txc;
	struct vsp_rxc rxc;
	struct vst_traffic traffic;
	struct vsp_meter meter;
	bool held;
	bool asked;
	bool stuffed;
	u32 meter_tries;
	bool tell;
	struct list_head rx;
	u32 readable;
	struct vst_records records;
	struct vsp_record arriving;
	bool rx_busy;
	bool rx_missed;
	bool skb_busy;
	bool for_skb;
	bool requested;
	bool open;
	bool closing;
	bool over;
	u32 hints;

	struct vsp_flow sched;
	struct list_head tx;
	u32 ctl;
	u32 ctl_shut;
	u32 waiting;
	u32 in_ring;
	u32 n_in_ring;
	bool midway;
	bool small;
	bool corked;
	bool spent;
	bool mute;
	u64 heard;
};

/**
 * struct vst_side - one transport; static in the module that registers it
 *
 * Its module's:
 * @ops: vst_sock_ops, and what differs
 * @way: which of the two it is
 * @route: the link that leads to @remote_cid, with a reference, or what connect() answers; must not sleep
 *
 * vst_side_register()'s:
 * @flows: the table
 * @wq: timers of connections; unloading waits for it
 * @inbox_wq: accepts, each of which may wait for a listener that is stuck, and so for none of the others' timers
 * @n_inboxes: listeners with requests waiting, of all links
 */
struct vst_side {
	struct vsock_transport ops;
	enum vst_dgram_way way;
	struct vst_link *(*route)(u32 remote_cid);

	struct rhashtable flows;
	struct workqueue_struct *wq;
	struct workqueue_struct *inbox_wq;
	atomic_t n_inboxes;
};

/**
 * struct vst_write - a packet's payload that is still the writer's
 * @from: where it is; goes on behind it when it was copied
 * @len: bytes, up to VSP_MAX_PAYLOAD; of a connection they are granted
 * @flags: VSP_SEQ_ of a message
 * @dgram: the header of a datagram, all of which this is; NULL: it is a connection's
 */
struct vst_write {
	struct iov_iter *from;
	u32 len;
	u32 flags;
	const struct vsp_hdr *dgram;
};

/* What a link needs of the driver behind it. */
struct vst_link_ops {
	/*
	 * Take back what the peer has used, and move what waits to the ring, as far as it has room: now or soon, by
	 * a worker. Called without locks; may not sleep.
	 */
	void (*pump)(struct vst_link *link);
	/* The same where a header without payload waits: the beginning of a connection, its end, or a refusal. */
	void (*tell)(struct vst_link *link);
	/* The same by a writer who has just queued something: in a process, which may be asked to do more itself. */
	void (*drive)(struct vst_link *link);
	/*
	 * Copy payload from a writer to the ring at once, all of it or nothing; NULL: the driver cannot.
	 * In a process that owns the flow's socket; does not sleep. It asks vst_may_write() before, with its ring
	 * locked, and calls vst_written() for the header. See vst_went_straight().
	 */
	bool (*write)(struct vst_flow *flow, const struct vst_write *w);
	/* Who has used a packet looks, without being told, for what was kept back behind it. */
	bool looks_again;
	/* It makes the packets of several messages; see vst_pkt.more. */
	bool splits;
	/* The reply budget has room again: go on receiving. Called with tx_lock held. */
	void (*resume_rx)(struct vst_link *link);
	/* Free the driver's structure. Called once, when the last reference went. */
	void (*free)(struct vst_link *link);
};

/* Counters of a link that are not reject reasons. */
enum vst_stat {
	VST_STAT_RX_PACKETS,
	VST_STAT_RX_BYTES,
	VST_STAT_RX_COPIED,    /* packets whose payload was copied out of the receive buffer */
	VST_STAT_RX_HANDED,    /* packets whose receive buffer went to the reader */
	VST_STAT_RX_NO_BUFFER, /* receive buffers of the wanted size that could not be had */
	VST_STAT_TX_PACKETS,
	VST_STAT_TX_BYTES,
	VST_STAT_TX_STRAIGHT, /* packets that their writer put into the peer's buffers itself */
	VST_STAT_TX_HELD,	     /* times that payload had to wait for a peer with too many packets unread */
	VST_STAT_REPLIES,	     /* resets sent for packets without a connection */
	VST_STAT_CONNECTIONS,	     /* connections begun, both directions */
	VST_STAT_RESETS,	     /* connections that ended with an error */
	VST_STAT_ORPHANS_RESET,	     /* closed connections beyond vst_max_orphans that waited for the peer */
	VST_STAT_RESETS_UNSENT,	     /* ends that a peer which takes no packets was not told of: vst_max_resets */
	VST_STAT_RX_DROPPED,	     /* bytes that arrived and that nobody read */
	VST_STAT_TX_DROPPED,	     /* bytes that were written and never sent */
	VST_STAT_DGRAM_RX,	     /* datagrams that went to a socket; the next ones were dropped: */
	VST_STAT_DGRAM_RX_FULL,	     /* the socket's receive buffer was full, or it receives no more */
	VST_STAT_DGRAM_RX_UNBOUND,   /* nobody is bound for them, or not to their sender */
	VST_STAT_DGRAM_RX_CUT,	     /* fragments that make no datagram */
	VST_STAT_DGRAM_RX_NO_MEMORY, /* for want of memory */
	VST_STAT_DGRAM_REFUSED,	     /* resets sent for those that nobody is bound for */
	VST_STAT_DGRAM_TX,	     /* datagrams that went to the ring */
	VST_STAT_DGRAM_TX_DROPPED,   /* that waited for it when the link went down, or fitted no buffer of the peer */
	NUM_VST_STATS,
};

/* Payload that is thrown away, with its connection or because of its end. */
enum vst_drop {
	VST_DROP_UNREAD, /* it waited for a reader */
	VST_DROP_LATE,	 /* it arrived after close() */
	VST_DROP_UNSENT, /* it waited for credit or for room in the ring */
};

/**
 * struct vst_link - one device, or one guest
 * @ref: the driver and each flow hold one
 * @side: its transport
 * @ops: its driver
 * @local_cid: our CID on it; changes with a transport reset only
 * @peer_cid: the only CID at its other end, or VSP_CID_ANY where the peer forwards for others
 * @types: VSP_TYPES() that were negotiated
 * @n_orphans: connections that were closed here and not there; atomic
 * @zerocopy: the ring has room for packets of many pieces
 * @zc_seen: there was one: the ring keeps room for the next
 * @spares: what was sent or read, and will be needed again in a moment; without a lock
 * @on_report: in the list of all links, report.c's
 *
 * @tx_lock: guards the driver's transmit ring and
 * @sched: flows with something to send
 * @budget: replies that wait
 * @reply_head: the oldest of them
 * @replies: a ring of them
 * @n_resets: connections that are over but for VST_CTL_RST
 * @midway: the flow whose datagram has fragments on the ring, or NULL: nothing may come between them
 * @sender: whose payload went to the ring last; nobody looks into it
 * @shared_until: for so long others are taken to send as well, in jiffies
 * @n_corked: flows that keep something back until the device has used what they have in the ring
 * @n_gathering: those of them for which more is to come, and that do not just have their share of the ring
 * @n_awaited: packets in the ring that somebody waits for; see is_awaited()
 * @up: the ring may be used
 *
 * @flows_lock: guards
 * @flows: every flow in the table that runs over this link
 * @resets: how often all of them, and those that were asked for, have ended; read without the lock, too
 *
 * @inbox_lock: guards
 * @inboxes: requests on their way to listeners
 * @n_requests: how many, all listeners together
 *
 * @dgrams: see dgram.h
 *
 * The receive worker's own:
 * @rx_unwoken: a flow whose reader has yet to hear of what arrived, with a reference, or NULL
 * @rx_listener: the same of a listener that got connections, or a socket, datagrams; at most one of both is there
 * @rx_unwoken_bytes: how much that is, a packet counting at least VST_WAKE_BYTES / VST_WAKE_PACKETS
 *
 * @rejects: packets refused, by reason; atomic
 * @stats: other counters, enum vst_stat; atomic
 */
struct vst_link {
	refcount_t ref;
	struct vst_side *side;
	const struct vst_link_ops *ops;
	u32 local_cid;
	u32 peer_cid;
	u32 types;
	atomic_t n_orphans;
	bool zerocopy;
	bool zc_seen;
	struct vst_spares spares;
	struct list_head on_report;

	spinlock_t tx_lock;
	struct vsp_sched sched;
	struct vsp_budget budget;
	u32 reply_head;
	struct vsp_hdr replies[VSP_REPLIES_DEFAULT];
	u32 n_resets;
	struct vst_flow *midway;
	const struct vst_flow *sender;
	unsigned long shared_until;
	u32 n_corked;
	u32 n_gathering;
	u32 n_awaited;
	bool up;

	spinlock_t flows_lock;
	struct list_head flows;
	u32 resets;

	spinlock_t inbox_lock;
	struct list_head inboxes;
	u32 n_requests;

	struct vst_dgrams dgrams;

	struct vst_flow *rx_unwoken;
	struct sock *rx_listener;
	u32 rx_unwoken_bytes;

	atomic64_t rejects[NUM_VSP_REJECTS];
	atomic64_t stats[NUM_VST_STATS];
};

/* main.c: objects alive, for tests and for the curious: /sys/module/vst_common/parameters/live_* */
extern atomic_t vst_live_flows;
extern atomic_t vst_live_pkts;
extern atomic_t vst_live_segs;
extern atomic_t vst_live_links;
extern int vst_max_orphans;
extern unsigned int vst_max_resets;

/* flow.c: birth, death and table */
struct vst_flow *vst_flow_new(struct vst_side *side, struct vsock_sock *vsk);
void vst_flow_get(struct vst_flow *flow);
void vst_flow_put(struct vst_flow *flow);
int vst_flow_insert(struct vst_flow *flow, struct vst_link *link, struct vst_key key, const struct vst_ask *ask);
void vst_flow_forget(struct vst_flow *flow);
struct vst_flow *vst_flow_of_unlocked(const struct vsock_sock *vsk);
struct vst_flow *vst_flow_find(struct vst_side *side, const struct vst_key *key);
struct sock *vst_flow_sock(struct vst_flow *flow);
void vst_flow_purge_rx(struct vst_flow *flow);
int vst_side_register(struct vst_side *side);
void vst_side_unregister(struct vst_side *side);

/* link.c */
void vst_link_init(struct vst_link *link, struct vst_side *side, const struct vst_link_ops *ops, u32 local_cid);
bool vst_link_tryget(struct vst_link *link);
void vst_link_put(struct vst_link *link);
void vst_link_up(struct vst_link *link);
void vst_link_down(struct vst_link *link);
struct vst_ask vst_link_ask(const struct vst_link *link);
void vst_link_reset(struct vst_link *link);
void vst_link_set_cid(struct vst_link *link, u32 cid);
void vst_link_reject(struct vst_link *link, enum vsp_reject why);
void vst_drop(const struct vst_flow *flow, enum vst_drop why, u32 bytes);
const char *vst_stat_name(u32 stat);

static inline void vst_count(struct vst_link *link, enum vst_stat stat, u64 n)
{
	atomic64_add(n, &link->stats[stat]);
}

/* pkt.c: payload in both directions */
struct vst_pkt *vst_pkt_new(struct vst_flow *flow, u32 len, u32 cap, gfp_t gfp);
struct vst_pkt *vst_pkt_new_zc(struct vst_flow *flow, struct ubuf_info *uarg);
void vst_pkt_free(struct vst_pkt *pkt);
int vst_pkt_init(void);
void vst_pkt_exit(void);
struct vst_seg *vst_seg_new(struct vst_spares *spares, u32 len, gfp_t gfp);
struct vst_seg *vst_seg_from_page(struct page *page, u32 order, u32 len, gfp_t gfp);
void vst_seg_free(struct vst_link *link, struct vst_seg *seg);
struct page *vst_payload_pages(struct vst_spares *spares, u32 order, gfp_t gfp);
void vst_spares_free(struct vst_spares *spares);

/* record.c */
void vst_records_init(struct vst_records *r);
void vst_records_free(struct vst_records *r);
bool vst_records_reserve(struct vst_records *r);
void vst_records_push(struct vst_records *r, struct vst_record rec);
struct vst_record vst_records_first(const struct vst_records *r);
void vst_records_pop(struct vst_records *r);
void vst_records_move(struct vst_records *to, struct vst_records *from);

/* report.c */
void vst_report_add(struct vst_link *link);
void vst_report_remove(struct vst_link *link);
int vst_report_init(void);
void vst_report_exit(void);

/* tap.c */
void vst_tap(const struct vsp_wire *wire, const void *data, u32 len);
void vst_tap_pkt(const struct vst_pkt *pkt);
bool vst_is_tapped(void);

/* tx.c */
bool vst_link_next(struct vst_link *link, struct vst_out *out);
bool vst_link_gathers(const struct vst_link *link);
bool vst_link_ready(const struct vst_link *link);
bool vst_link_waiting(const struct vst_link *link);
void vst_pkt_done(struct vst_pkt *pkt, struct list_head *done);
void vst_pkts_free(struct list_head *done);
bool vst_reply(struct vst_link *link, const struct vsp_hdr *to);
bool vst_answer(struct vst_link *link, struct vsp_hdr hdr);
void vst_send_ctl(struct vst_flow *flow, u32 ctl, u32 shut);
bool vst_send_pkts(struct vst_flow *flow, struct list_head *pkts);
bool vst_send_behind(struct vst_flow *flow, struct iov_iter *from, u32 len, u32 flags);
bool vst_may_write(struct vst_flow *flow);
struct vsp_wire vst_written(struct vst_flow *flow, const struct vst_write *w);
bool vst_went_straight(struct vst_flow *flow, const struct vst_write *w);
void vst_push(struct vst_flow *flow);
void vst_tell_later(struct vst_flow *flow);
void vst_tx_end(struct vst_flow *flow, bool rst);
void vst_tx_init(struct vst_flow *flow);
void vst_tx_quiet(struct vst_flow *flow);
int vst_tx_pkts_max(const struct vst_flow *flow);
bool vst_tx_stuffed(struct vst_flow *flow);
void vst_tx_drain(struct vst_link *link, struct list_head *dropped);

/**
 * struct vst_payload - payload in a receive buffer
 * @data: where it lies; NULL: there is none, or vst_dgram_refuses() said that nobody wants it
 * @page: the pages that it begins, or NULL if they are not to be had; the callee takes them over by setting @taken
 * @order: of @page
 * @len: bytes of payload
 * @taken: out: the page belongs to a flow now
 */
struct vst_payload {
	const u8 *data;
	struct page *page;
	u32 order;
	u32 len;
	bool taken;
};

/*
 * What a reader waits for, in bytes. The beginning of a message cannot be read, so nothing but room makes its end come:
 * the peer always hears of room for another packet. The flow's lock is held.
 */
static inline u32 vst_lowat(const struct vst_flow *flow, int rcvlowat)
{
	return flow->arriving.len ? vsp_rxc_unread(&flow->rxc) + VSP_MAX_PAYLOAD : rcvlowat;
}

/* rx.c */
bool vst_rx_ready(const struct vst_link *link);
void vst_rx_settle(struct vst_link *link);
void vst_rx_accepted(struct vst_link *link, struct sock *sk, u32 len);
void vst_rx(struct vst_link *link, const struct vsp_wire *wire, u32 have, struct vst_payload *payload);

/* listen.c */
enum vsp_reject vst_listen_request(struct vst_link *link, struct sock *sk, const struct vsp_hdr *hdr,
				   struct vst_ask ask);
void vst_listen_forget(struct vst_link *link);
void vst_listen_cancel(struct vst_link *link, const struct vsp_hdr *hdr);

/* sock.c */
extern const struct vsock_transport vst_sock_ops;
int vst_sock_init(struct vst_side *side, struct vsock_sock *vsk, struct vsock_sock *psk);
void vst_step(struct vst_flow *flow, enum vsp_event event);
void vst_spawn(struct vst_flow *flow);
void vst_ring_bell(struct vst_flow *flow, struct sock *sk);

#endif
