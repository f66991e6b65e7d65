/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dgram.h - datagram sockets: what links and drivers need of dgram.c
 *
 * The core has one transport for all SOCK_DGRAM sockets, so this one serves guest driver and host device alike: it
 * routes each datagram by its destination to a link of one of the two sides, or to a socket of this machine. What
 * datagrams look like on a ring is in docs/PROTOCOL.md.
 */
#ifndef VST_DGRAM_H
#define VST_DGRAM_H

#include <linux/wait.h>

#include "proto/dgram.h"

struct sk_buff;
struct vst_link;
struct vst_payload;
struct vst_side;

enum {
	VST_DGRAM_PROBE_MS = 100, /* a peer that has not answered the probe by then has no datagrams, until it does */
	VST_DGRAM_REFUSALS = 100, /* resets a second and link for datagrams that nobody is bound for */
	VST_DGRAM_BUCKETS = 1024, /* of the table of ports */
	VST_DGRAM_RING = 32,	  /* packets of one socket in the ring, or what its last datagram needs; others pass */
	VST_DGRAM_RING_SHARED = 4, /* the same while others send, too, */
	VST_DGRAM_BYTES_SHARED = 64 << 10, /* or so many bytes */
};

/* Sides that datagrams are routed to. */
enum vst_dgram_way {
	VST_DGRAM_TO_HOST,  /* a guest's device */
	VST_DGRAM_TO_GUEST, /* a host's guests */
	NUM_VST_DGRAM_WAYS,
};

/* Does the other end of a link have datagrams? */
enum vst_dgram_peer {
	VST_DGRAM_UNKNOWN,
	VST_DGRAM_ABSENT,
	VST_DGRAM_PRESENT,
};

/**
 * struct vst_dgrams - datagrams of a link
 * @peer: enum vst_dgram_peer
 * @offered: the feature bit was negotiated: a refused probe means no fragments, not no datagrams
 * @fragments: the peer puts fragments together
 * @max: bytes of the largest datagram that the peer takes
 * @until: when waiting for the answer to the probe is over, in jiffies
 * @wait: for that answer
 * @probe_due: under vst_link.tx_lock: the probe goes out next
 *
 * The receive worker's alone:
 * @slot: the datagram that is being put together
 * @skb: its bytes; NULL if there is none, or there was no memory
 * @refusal_second: the second, in jiffies, that @refusals counts in
 * @refusals: resets sent in it
 */
struct vst_dgrams {
	u8 peer;
	bool offered;
	bool fragments;
	u32 max;
	unsigned long until;
	wait_queue_head_t wait;
	bool probe_due;

	struct vsp_dgram slot;
	struct sk_buff *skb;
	unsigned long refusal_second;
	u32 refusals;
};

/* The transport itself: with vst_common.ko. */
void vst_dgram_register(void);
void vst_dgram_unregister(void);

/* A side comes, before it has links; or goes, when no link is left. May sleep. */
void vst_dgram_add_side(struct vst_side *side);
void vst_dgram_remove_side(struct vst_side *side);

/* VSP_TYPES() that a link has beside those that were negotiated. */
u32 vst_dgram_types(void);

/* vst_link_init() of this part, and its end: nothing is received any more. */
void vst_dgram_link_init(struct vst_link *link);
void vst_dgram_link_stop(struct vst_link *link);

/* What was found out about the peer is forgotten: it begins anew. @offered: the feature bit was negotiated. */
void vst_dgram_forget(struct vst_link *link, bool offered);

/**
 * vst_dgram_discover - ask the peer of a link whether it has datagrams, forgetting what was known
 * @link: up
 * @offered: the feature bit was negotiated
 */
void vst_dgram_discover(struct vst_link *link, bool offered);

/* The header of the probe. vst_link.tx_lock is held. */
struct vsp_hdr vst_dgram_probe(struct vst_link *link);

/* This machine's CID on a link changed. */
void vst_dgram_set_cid(u32 old, u32 cid);

/**
 * vst_dgram_rx - a packet arrived
 * @link: as for vst_rx()
 * @d: the packet, of any type
 * @payload: where its payload lies
 *
 * Return: true if it was dealt with. May sleep for memory; takes no socket's lock.
 */
bool vst_dgram_rx(struct vst_link *link, const struct vsp_decoded *d, struct vst_payload *payload);

/**
 * vst_dgram_refuses - is this a datagram, in one packet, that nobody takes now?
 * @wire: a header that need not be good
 *
 * Then its payload need not be copied out of the ring: vst_dgram_rx() drops what has no vst_payload.data.
 */
bool vst_dgram_refuses(const struct vsp_wire *wire);

/* A packet that a datagram socket sent was used, or dropped. */
void vst_dgram_uncharge(struct sock *sk, u32 len);

#endif
