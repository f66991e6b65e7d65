/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * credit.h - the two ledgers of a flow: what we may send, and what we may be sent
 *
 * All counters are free-running u32 of payload bytes and are compared by subtraction only, only here. A difference
 * that may be negative is an s64 and is clamped: the formula that virtio 1.4 5.10.6.3 prints
 * (peer_buf_alloc - (tx_cnt - peer_fwd_cnt), all u32) turns a window that shrank under bytes in flight into 4 GiB.
 *
 * The ledgers have no lock; the shell says which lock guards each.
 */
#ifndef VSP_CREDIT_H
#define VSP_CREDIT_H

#include "env.h"

enum {
	/* Largest window we offer or believe in: with it, "ahead" and "behind" are never confused in u32. */
	VSP_WINDOW_MAX = 1 << 30,
	VSP_WINDOW_DEFAULT = 256 << 10,
};

/**
 * struct vsp_txc - what we may send
 * @tx_cnt: bytes that writers were granted: sent, or waiting in the flow's queue
 * @sent_cnt: bytes of @tx_cnt that the peer can have seen, because they were put on the ring
 * @peer_fwd_cnt: bytes that the peer says it has consumed; never ahead of @sent_cnt
 * @peer_buf_alloc: the peer's whole window
 * @cap: the most we keep in flight, whatever the peer offers: a peer that advertises 4 GiB cannot make us queue it
 */
struct vsp_txc {
	u32 tx_cnt;
	u32 sent_cnt;
	u32 peer_fwd_cnt;
	u32 peer_buf_alloc;
	u32 cap;
};

/* The credit fields of a header. */
struct vsp_stamp {
	u32 buf_alloc;
	u32 fwd_cnt;
};

/**
 * struct vsp_rxc - what we may be sent
 * @buf_alloc: our whole window, as the next header will state it
 * @rx_cnt: bytes of payload that arrived
 * @fwd_cnt: bytes that the reader consumed
 * @edge: the rx_cnt up to which the peer was ever told it may send; it never moves back, so a window that the user
 *	shrinks does not condemn bytes already under way
 * @told: what the last header stated: what the peer believes
 * @asked: the peer asked for credit and may be waiting for more than half of the window
 */
struct vsp_rxc {
	u32 buf_alloc;
	u32 rx_cnt;
	u32 fwd_cnt;
	u32 edge;
	struct vsp_stamp told;
	bool asked;
};

enum vsp_credit {
	VSP_CREDIT_SAME, /* nothing new */
	VSP_CREDIT_GREW, /* a writer may be able to go on */
	VSP_CREDIT_SHRANK,
	VSP_CREDIT_LIE, /* acknowledges bytes that were never sent; the ledger is unchanged */
};

struct vsp_txc vsp_txc_init(u32 cap);
struct vsp_rxc vsp_rxc_init(u32 buf_alloc);

/* A window as the user asked for it, brought into what the protocol can carry: 1 .. VSP_WINDOW_MAX bytes. */
u32 vsp_window_clamp(u64 bytes);

/* The window that sending obeys: the peer's or the cap, whichever is less. */
static inline u32 vsp_txc_window(const struct vsp_txc *t)
{
	return t->peer_buf_alloc < t->cap ? t->peer_buf_alloc : t->cap;
}

/* Bytes in flight or queued that the peer has not consumed. */
static inline u32 vsp_txc_unacked(const struct vsp_txc *t)
{
	return t->tx_cnt - t->peer_fwd_cnt;
}

/* Bytes granted to writers that are not on the ring. */
static inline u32 vsp_txc_unsent(const struct vsp_txc *t)
{
	return t->tx_cnt - t->sent_cnt;
}

/* How many bytes a writer may be granted now: virtio 1.4 5.10.6.3, both: only what the peer has room for. */
u32 vsp_txc_space(const struct vsp_txc *t);

/* Grant up to @want bytes; returns how many. */
u32 vsp_txc_take(struct vsp_txc *t, u32 want);

/* Give back @bytes of the newest grant, none of which was put on the ring (the copy from the user failed). */
void vsp_txc_untake(struct vsp_txc *t, u32 bytes);

/* @bytes of what was granted were put on the ring. */
void vsp_txc_sent(struct vsp_txc *t, u32 bytes);

/**
 * vsp_txc_update - believe, or not, the credit fields of a header
 * @t: the ledger
 * @stamp: the header's credit fields
 *
 * An acknowledgement ahead of what the peer can have seen is a lie. One behind what it said before is stale (a peer
 * whose threads overtook each other) and is ignored, its buf_alloc with it.
 */
enum vsp_credit vsp_txc_update(struct vsp_txc *t, struct vsp_stamp stamp);

/* May @bytes of payload arrive? If so they are counted. */
bool vsp_rxc_admit(struct vsp_rxc *r, u32 bytes);

/* The newest @bytes that were admitted stay with the peer for now and will arrive again. */
void vsp_rxc_unadmit(struct vsp_rxc *r, u32 bytes);

/* The reader consumed @bytes, or they were discarded. */
void vsp_rxc_consume(struct vsp_rxc *r, u32 bytes);

/* Bytes that arrived and were not consumed. */
static inline u32 vsp_rxc_unread(const struct vsp_rxc *r)
{
	return r->rx_cnt - r->fwd_cnt;
}

/* The peer asked (VSP_OP_CREDIT_REQUEST): until everything was read, it is told of any room there is. */
void vsp_rxc_ask(struct vsp_rxc *r);

/* What the next header must say. The caller sends it: from here on the peer may use the window it states. */
struct vsp_stamp vsp_rxc_stamp(struct vsp_rxc *r);

/**
 * vsp_rxc_update_due - is it time to tell the peer about room that it does not know of?
 * @r: the ledger
 * @lowat: bytes that a reader waits for (SO_RCVLOWAT); at least 1
 * @peer_buf_alloc: the peer's own window: Linux keeps no more than that in flight, whatever we offer
 *
 * When half of what the peer would ever fill is news, the peer has asked, or the reader waits for more than the peer
 * believes it may send. Never without news. A sender that needs more in one piece asks; one that takes what there is
 * always has half of it or more by the time everything is read.
 */
bool vsp_rxc_update_due(const struct vsp_rxc *r, u32 lowat, u32 peer_buf_alloc);

/**
 * vsp_rxc_update_may_wait - may an update that is due wait for more to tell, if not for long?
 * @r: the ledger
 * @lowat: as for vsp_rxc_update_due()
 * @peer_buf_alloc: likewise
 *
 * When it is due only because the peer has asked, and there is less news than there are bytes unread. Otherwise one who
 * asks while much is unread would be told of each message that is read.
 */
bool vsp_rxc_update_may_wait(const struct vsp_rxc *r, u32 lowat, u32 peer_buf_alloc);

#endif
