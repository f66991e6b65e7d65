/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mux.h - all connections of one guest, without a socket or a ring
 *
 * The engine owns what the rules (kernel/proto/) judge: states, both ledgers, who sends next, deadlines. It makes no
 * system call and reads no clock; whoever drives it (the daemon, a simulator) carries the bytes:
 *
 *   from the guest: vsp_decode() -> vsock_mux_find() -> vsock_mux_arrive() says what to do with the payload
 *   to the guest:   vsock_mux_next() -> vsock_mux_control(), or bytes read into the guest and vsock_mux_data() for
 *                   each packet
 *   and after both: vsock_mux_news() hands out connections to which something happened, with facts as bits
 *
 * Connections are embedded in the driver's own; the engine allocates none.
 *
 * It is named as the host sees it: "host" is our end, "guest" is whoever is at the other end of the rings. A guest that
 * uses it (guest/) is the host of its own engine, and everybody that its device leads to is the guest.
 */
#ifndef VSOCK_MUX_H
#define VSOCK_MUX_H

#include "engine/timers.h"
#include "kernel/proto/budget.h"
#include "kernel/proto/conn.h"
#include "kernel/proto/credit.h"
#include "kernel/proto/meter.h"
#include "kernel/proto/sched.h"

enum {
	/* Ports given to connections that the host opens: the hybrid protocol's range. */
	VSOCK_PORT_FIRST = 1 << 30,
	VSOCK_PORTS = 1 << 30,
	/* A guest that may have read without saying so is asked again after this, doubled each time up to 64 times. */
	VSOCK_METER_RETRY_NS = 10000000,
	VSOCK_METER_DOUBLINGS = 6,
	VSOCK_PIECE_DEFAULT = 1024, /* payload of a receive buffer of the guest, before one was seen */
};

/* Control packets that a connection owes its peer, sent in this order. */
enum vsock_send {
	VSOCK_SEND_RST = 1 << 0,
	VSOCK_SEND_REQUEST = 1 << 1,
	VSOCK_SEND_RESPONSE = 1 << 2,
	VSOCK_SEND_CREDIT_REQUEST = 1 << 3,
	VSOCK_SEND_CREDIT_UPDATE = 1 << 4,
	VSOCK_SEND_SHUTDOWN = 1 << 5,
};

/* What happened to a connection that its driver must know. */
enum vsock_fact {
	VSOCK_OPENED = 1 << 0,	  /* the guest accepted */
	VSOCK_HINTED = 1 << 1,	  /* the guest's shutdown hints grew: vsock_conn.hints */
	VSOCK_OVER = 1 << 2,	  /* it is closed and out of the table: vsock_conn.err */
	VSOCK_SENT_LAST = 1 << 3, /* it owes the guest nothing any more */
};

/**
 * struct vsock_conn - a connection
 * @flow: its place in the scheduler towards the guest
 * @next: chain of its bucket; @port_next: chain of its host port's bucket; @news_next: chain of connections with facts
 * @txc: towards the guest
 * @rxc: from the guest
 * @meter: packets that the guest holds unread
 * @timer: the deadline of its state; while established, when to ask for credit again
 * @need: what it has for the guest next needs this much credit: 1 where any part of it may go, 0 where none is needed
 * @window: receive window, bytes; where the driver has set none, vsock_params.window; see vsock_mux_relay()
 * @lowat: the reader can do nothing with fewer bytes than this, at least 1
 * @host_cid, @host_port: our end; @guest_cid, @guest_port: the guest's
 * @type: enum vsp_type
 * @state: enum vsp_state, written in one function
 * @err: enum vsp_err, once VSOCK_OVER
 * @hints: VSP_SHUTDOWN_* that the guest announced
 * @shut: VSP_SHUTDOWN_* that we announced or owe
 * @sends: enum vsock_send
 * @facts: enum vsock_fact not handed out yet
 * @ours: we asked for it
 * @hashed: it is in the tables
 * @in_news: it is in the chain of news
 * @ready: the driver has bytes, or the end, for the guest
 * @asked: credit was asked for since it last grew
 * @awaited: the driver waits for the guest to have read; see vsock_mux_await()
 * @midway: the guest has the beginning of a message
 * @heard: payload of the guest's was taken
 * @meter_tries: times that it was asked in vain
 */
struct vsock_conn {
	struct vsp_flow flow;
	struct vsock_conn *next;
	struct vsock_conn *port_next;
	struct vsock_conn *news_next;
	struct vsp_txc txc;
	struct vsp_rxc rxc;
	struct vsp_meter meter;
	struct vsock_timer timer;
	u32 need;
	u32 window;
	u32 lowat;
	u32 host_cid;
	u32 host_port;
	u32 guest_cid;
	u32 guest_port;
	u16 type;
	u8 state;
	u8 err;
	u8 hints;
	u8 shut;
	u8 sends;
	u8 facts;
	bool ours;
	bool hashed;
	bool in_news;
	bool ready;
	bool asked;
	bool awaited;
	bool midway;
	bool heard;
	u8 meter_tries;
};

/**
 * struct vsock_params - what distinguishes one guest's engine from another's
 * @guest_cid: the guest's address; VSP_CID_ANY where there are many
 * @host_cid: our own, of connections that we open
 * @window: receive window of each connection, bytes
 * @conns_max: most connections at a time
 * @connect_timeout: for an answer to a REQUEST, ns
 * @close_timeout: for the RST that answers a SHUTDOWN, ns
 * @seed: unknown to the guest, for the hash
 */
struct vsock_params {
	u32 guest_cid;
	u32 host_cid;
	u32 window;
	u32 conns_max;
	u64 connect_timeout;
	u64 close_timeout;
	u32 seed;
};

/* Called at every step of a connection, if set; it must change nothing. */
typedef void (*vsock_trace_fn)(const struct vsock_conn *c, enum vsp_state from, enum vsp_event event,
			       const struct vsp_verdict *v);

/**
 * struct vsock_mux - the engine of one guest
 * @params: as given
 * @filter: for vsp_decode(); which destinations there are is the driver's to say
 * @now: the time, kept up to date by the driver
 * @buckets, @port_buckets: the tables, by both ends and by host port; @mask: their size - 1
 * @hashed: connections in the tables
 * @sched: who sends to the guest next
 * @replies: resets that answer packets of no connection; @replies_flow: their place in the scheduler
 * @budget: how many of them may wait
 * @timers: deadlines of all connections
 * @news: connections with facts, oldest first
 * @last_port: host port given out last
 * @piece: payload of a receive buffer of the guest; the driver keeps it up to date
 * @rejects: refused packets by reason
 * @trace: see vsock_trace_fn
 */
struct vsock_mux {
	struct vsock_params params;
	struct vsp_filter filter;
	u64 now;
	struct vsock_conn **buckets;
	struct vsock_conn **port_buckets;
	u32 mask;
	u32 hashed;
	struct vsp_sched sched;
	struct vsp_flow replies_flow;
	struct vsp_hdr replies[VSP_REPLIES_DEFAULT];
	u32 replies_first;
	struct vsp_budget budget;
	struct vsock_timers timers;
	struct vsock_conn *news;
	struct vsock_conn **news_end;
	u32 last_port;
	u32 piece;
	u64 rejects[NUM_VSP_REJECTS];
	vsock_trace_fn trace;
};

/* 0 or -ENOMEM. */
int vsock_mux_init(struct vsock_mux *m, const struct vsock_params *params);

/* All connections are out of the tables by now: vsock_mux_gone() and the driver's answer to its news. */
void vsock_mux_fini(struct vsock_mux *m);

/* What to do with a packet. */
enum vsock_arrival {
	VSOCK_NOTHING, /* it was dealt with */
	VSOCK_DELIVER, /* its payload goes to the connection's reader; vsock_mux_consumed() when it did */
	VSOCK_SPAWN,   /* it asks for a connection: vsock_mux_spawn() or vsock_mux_refuse() */
};

/* The connection that a packet from the guest belongs to, or, if it was refused, that it ends; or NULL. */
struct vsock_conn *vsock_mux_find(struct vsock_mux *m, const struct vsp_decoded *d);

/**
 * vsock_mux_arrive - deal with a packet
 * @c: vsock_mux_find() of it
 * @unread: bytes of this connection that were delivered and not consumed
 *
 * Only while vsp_budget_left(&m->budget): it might have to be answered.
 */
enum vsock_arrival vsock_mux_arrive(struct vsock_mux *m, struct vsock_conn *c, const struct vsp_decoded *d, u32 unread);

/* The newest @bytes of payload that were to be delivered stay on the guest's ring and will arrive again. */
void vsock_mux_unarrive(struct vsock_conn *c, u32 bytes);

/* Count a packet that was refused, and answer it if the rules say so. */
void vsock_mux_refuse(struct vsock_mux *m, const struct vsp_hdr *hdr, enum vsp_reject why);

/* Send a header that belongs to no connection. Only while vsp_budget_left(&m->budget). */
void vsock_mux_owe(struct vsock_mux *m, struct vsp_hdr hdr);

/* @c, zero but for @window, becomes the connection that @hdr asks for: VSP_ACCEPTING until vsock_mux_accept(). */
void vsock_mux_spawn(struct vsock_mux *m, struct vsock_conn *c, const struct vsp_hdr *hdr);
void vsock_mux_accept(struct vsock_mux *m, struct vsock_conn *c);
void vsock_mux_deny(struct vsock_mux *m, struct vsock_conn *c);

/* @c, zero but for @window, becomes a connection to @guest. False: no host port is free. */
bool vsock_mux_connect(struct vsock_mux *m, struct vsock_conn *c, u16 type, struct vsp_addr guest);

/* The same from @host, which need not be the host's CID. False: the guest has this connection already. */
bool vsock_mux_connect_from(struct vsock_mux *m, struct vsock_conn *c, u16 type, struct vsp_addr host,
			    struct vsp_addr guest);

/* The reader took @bytes that were delivered. */
void vsock_mux_consumed(struct vsock_mux *m, struct vsock_conn *c, u32 bytes);

/* Everything that was delivered has been consumed; matters after the guest closed both directions. */
void vsock_mux_drained(struct vsock_mux *m, struct vsock_conn *c);

/* The driver has (or has not) bytes or the end of them for the guest. */
void vsock_mux_ready(struct vsock_mux *m, struct vsock_conn *c, bool ready);

/* What it has next goes to the guest in one piece of @bytes of credit, or 1: in any pieces. */
void vsock_mux_need(struct vsock_mux *m, struct vsock_conn *c, u32 bytes);

/*
 * Somebody else is the reader: @bytes were read, and @window may be underway, in place of vsock_conn.window. A guest
 * that believes in less than a packet's room is told of any more, as that need not come from reading.
 */
void vsock_mux_relay(struct vsock_mux *m, struct vsock_conn *c, u32 bytes, u32 window);

/* The driver waits (or not) until the guest has read more of what it got: the guest is asked, and asked again. */
void vsock_mux_await(struct vsock_mux *m, struct vsock_conn *c, bool awaits);

/* The reader can do nothing before @lowat bytes are there, or 1: tell the guest of room that it does not know of. */
void vsock_mux_lowat(struct vsock_mux *m, struct vsock_conn *c, u32 lowat);

/* We will not send (VSP_SHUTDOWN_SEND) or not receive any more. */
void vsock_mux_shut(struct vsock_mux *m, struct vsock_conn *c, u8 hints);

/* Both directions are done with: an orderly end. */
void vsock_mux_close(struct vsock_mux *m, struct vsock_conn *c);

/* The end, bytes were lost: the guest sees a reset. */
void vsock_mux_abort(struct vsock_mux *m, struct vsock_conn *c);

/* The guest forgot everything, or is gone. Flows of the driver leave the scheduler. */
void vsock_mux_gone(struct vsock_mux *m);

/* The timer of a connection's state ran out. */
void vsock_mux_timeout(struct vsock_mux *m, struct vsock_conn *c);

/* vsp_flow.owner in vsock_mux.sched. */
enum vsock_owner {
	VSOCK_OWNER_MUX,    /* a connection's, or the replies' */
	VSOCK_OWNER_DRIVER, /* something that the driver sends beside connections */
};

/* A turn: who may put something on the ring. */
struct vsock_turn {
	bool any;		 /* somebody may */
	struct vsp_flow *driver; /* the driver's; the rest says nothing */
	struct vsock_conn *conn; /* NULL: a reply */
	bool control;		 /* a control packet; otherwise data */
};

struct vsock_turn vsock_mux_next(const struct vsock_mux *m);

/* The control packet of this turn; it counts as sent. */
struct vsp_hdr vsock_mux_control(struct vsock_mux *m, struct vsock_turn turn);

/* How many bytes of data may follow each other in this turn; at least vsock_conn.need. */
u32 vsock_conn_credit(const struct vsock_conn *c);

/* May what it has next be sent, as far as credit and the guest's patience with small packets go? */
bool vsock_mux_may_send(const struct vsock_mux *m, const struct vsock_conn *c);

/* How many packets of data may follow each other in this turn; at least 1. */
u32 vsock_conn_packets(const struct vsock_conn *c);

/* The header of a data packet of @len bytes with @flags (VSP_SEQ_*), which counts as sent. */
struct vsp_hdr vsock_mux_data(struct vsock_mux *m, struct vsock_conn *c, u32 len, u32 flags);

/* The next connection to which something happened, with its @facts; the driver clears them. NULL: no more. */
struct vsock_conn *vsock_mux_news(struct vsock_mux *m);

/* May its memory be given back? Not while it owes the guest something or is known anywhere here. */
static inline bool vsock_conn_idle(const struct vsock_conn *c)
{
	return c->state == VSP_CLOSED && !c->hashed && !c->sends && !c->in_news && !c->timer.place;
}

#endif
