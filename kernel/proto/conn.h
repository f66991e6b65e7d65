/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * conn.h - the life of a connection, as one table
 *
 * vsp_conn_step(state, event) says what becomes of a connection, by value. The table holds no conditions: whoever calls
 * folds them into the event first (was the shutdown complete? is anything left to read?). What is to be done comes back
 * as a closed set of acts without arguments, performed in ascending bit order.
 *
 * The table does not know which side it plays: guest, host, daemon and simulator use the same one. It covers stream and
 * seqpacket flows; datagrams have no state (dgram.h).
 */
#ifndef VSP_CONN_H
#define VSP_CONN_H

#include "credit.h"
#include "wire.h"

enum vsp_state {
	VSP_CLOSED,	/* nothing; or over, and only a socket is left */
	VSP_LISTEN,	/* waiting for requests (a socket, never a connection) */
	VSP_ACCEPTING,	/* REQUEST came, not answered yet */
	VSP_CONNECTING, /* REQUEST sent, not answered yet */
	VSP_ESTABLISHED,
	VSP_CLOSING, /* closed here; SHUTDOWN is out or queued; the peer's RST ends it */
	NUM_VSP_STATES,
};

enum vsp_event {
	/* from the peer */
	VSP_EV_REQUEST,
	VSP_EV_REQUEST_AGAIN, /* of a connection that the peer asked for before, and on which nothing happened since */
	VSP_EV_RESPONSE,
	VSP_EV_RST,		/* in the middle: data may be missing */
	VSP_EV_RST_AFTER_END,	/* after the peer's "will not send", or after we closed both directions */
	VSP_EV_SHUTDOWN_PART,	/* hints so far leave one direction open */
	VSP_EV_SHUTDOWN_UNREAD, /* hints close both directions; data is left to read */
	VSP_EV_SHUTDOWN,	/* hints close both directions; everything was read */
	VSP_EV_DATA,		/* RW within its credit */
	VSP_EV_CREDIT_UPDATE,
	VSP_EV_CREDIT_REQUEST,
	VSP_EV_VIOLATION, /* any packet of this flow that was refused: enum vsp_reject says why */
	/* from here */
	VSP_EV_LISTEN,
	VSP_EV_CONNECT,
	VSP_EV_ACCEPT,	   /* the request is granted */
	VSP_EV_REFUSE,	   /* the request is denied: no listener, no room, no memory */
	VSP_EV_SHUT,	   /* shutdown() of one or both directions */
	VSP_EV_DRAINED,	   /* the last byte was read after the peer closed both directions */
	VSP_EV_CLOSE,	   /* close() */
	VSP_EV_CLOSE_LAST, /* close() after the peer closed both directions */
	VSP_EV_TIMEOUT,	   /* the timer of VSP_ACT_START_TIMER ran out */
	VSP_EV_GONE,	   /* TRANSPORT_RESET, or the device is gone */
	NUM_VSP_EVENTS,
};

/* What to do, in this order. */
enum vsp_act {
	VSP_ACT_STOP_TIMER = 1 << 0,
	VSP_ACT_START_TIMER = 1 << 1,
	VSP_ACT_SPAWN = 1 << 2,	  /* begin a new connection in VSP_ACCEPTING for this request */
	VSP_ACT_OPEN = 1 << 3,	  /* it is connected: tell who waits */
	VSP_ACT_HINT = 1 << 4,	  /* record the peer's shutdown hints, tell who waits */
	VSP_ACT_DELIVER = 1 << 5, /* the payload goes to the reader */
	VSP_ACT_DISCARD = 1 << 6, /* the payload counts as consumed and goes nowhere */
	VSP_ACT_CREDIT = 1 << 7,  /* wake writers if there is room */
	VSP_ACT_SEND_REQUEST = 1 << 8,
	VSP_ACT_SEND_RESPONSE = 1 << 9,
	VSP_ACT_SEND_CREDIT = 1 << 10,
	VSP_ACT_SEND_SHUTDOWN = 1 << 11, /* after queued data */
	VSP_ACT_SEND_RST = 1 << 12,	 /* at once; queued data is dropped */
	VSP_ACT_HANGUP = 1 << 13,	 /* it is over: set the verdict's error, tell everybody who waits */
	VSP_ACT_FORGET = 1 << 14,	 /* take it out of the tables: its address may be used again */
	VSP_ACT_AGAIN = 1 << 15,	 /* the packet is for a new connection: dispatch it once more */
	VSP_ACT_UNEXPECTED = 1 << 16,	 /* count VSP_REJECT_STATE */
	NUM_VSP_ACTS = 17,
};

/* The error that VSP_ACT_HANGUP reports; the shell turns it into an errno. */
enum vsp_err {
	VSP_ERR_NONE,	 /* an orderly end */
	VSP_ERR_REFUSED, /* ECONNRESET from connect(), as vsock has always said it */
	VSP_ERR_RESET,	 /* ECONNRESET */
	VSP_ERR_PROTO,	 /* EPROTO: the peer broke the protocol */
	VSP_ERR_TIMEOUT, /* ETIMEDOUT */
	NUM_VSP_ERRS,
};

struct vsp_verdict {
	u32 acts;
	u8 next;       /* enum vsp_state */
	u8 err;	       /* enum vsp_err; meaningful with VSP_ACT_HANGUP */
	bool possible; /* false: this event cannot happen in this state; the caller has a bug */
};

/* Every cell is defined; both arguments must be in range. */
struct vsp_verdict vsp_conn_step(enum vsp_state state, enum vsp_event event);

/* The event that a packet with a connection-oriented op other than SHUTDOWN and RST is, before any condition. */
enum vsp_event vsp_event_of(enum vsp_op op);

/**
 * vsp_event_of_request - fold an arriving OP_REQUEST for an address that has a connection
 * @t: what we sent on it
 * @r: what the peer sent
 * @hints: the peer's hints up to now
 * @said: the hints that we have sent, or, of a connection that we asked for, VSP_SHUTDOWN_BOTH
 *
 * A peer whose connect() was interrupted may ask again while our answer is on its way (Linux does, without a reset).
 * It takes that answer for its second request's, so the connection must live on if nothing tells the two apart. If it
 * has forgotten the first one instead, it gets what it asks for, too.
 */
enum vsp_event vsp_event_of_request(const struct vsp_txc *t, const struct vsp_rxc *r, u32 hints, u32 said);

/**
 * vsp_event_of_shutdown - fold an arriving OP_SHUTDOWN
 * @hints: the peer's hints up to now, this packet's included ("permanent once sent", 5.10.6.4)
 * @unread: bytes (or messages) that the reader has not consumed
 */
enum vsp_event vsp_event_of_shutdown(u32 hints, bool unread);

/**
 * vsp_event_of_rst - fold an arriving OP_RST
 * @hints: the peer's hints up to now
 * @said: the hints that we have sent
 *
 * A reset that answers our SHUTDOWN of both directions is the second half of a clean disconnect (5.10.6.4).
 */
enum vsp_event vsp_event_of_rst(u32 hints, u32 said);

#endif
