/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dgram.h - datagrams of a guest, and the Unix datagram sockets that they come from and go to
 *
 * docs/PROTOCOL.md says what is on the ring and how host programs take part. Everything here is bounded: sockets by
 * number, what a slow receiver has not taken by bytes. What does not fit is dropped and counted.
 */
#ifndef VSD_DGRAM_H
#define VSD_DGRAM_H

#include "daemon/loop.h"
#include "kernel/proto/dgram.h"
#include "kernel/proto/sched.h"

#include <sys/un.h>

enum {
	VSD_DGRAM_SOURCES = 256,     /* ports of the guest, and other guests, that can be answered; the oldest goes */
	VSD_DGRAM_CLIENTS = 256,     /* host programs with a port given out; the oldest goes */
	VSD_DGRAM_CLIENT_MS = 60000, /* a host program that was silent for so long loses its port */
	VSD_DGRAM_DESTS = 64,	     /* receivers for which datagrams wait */
	VSD_DGRAM_QUEUE = 256 << 10, /* bytes that wait for one of them, each datagram counting VSD_DGRAM_COST more */
	VSD_DGRAM_QUEUES = 1 << 20,  /* the same for all of them together */
	VSD_DGRAM_COST = 256,
	VSD_DGRAM_REFUSALS = 100,  /* resets a second for datagrams that nobody is bound for */
	VSD_DGRAM_RETRY_MS = 10,   /* until a receiver is tried again that no event speaks for */
	VSD_DGRAM_HOLD_MS = 10,	   /* that datagrams stay on the ring for a receiver that takes nothing */
	/*
	 * Datagrams of the guest that go out before it has their buffers again, and what is for it has its turn: a half
	 * of what a socket of our driver has on the ring, so that it fills the one half while the other goes out.
	 */
	VSD_DGRAM_BATCH = 16,
	VSD_DGRAM_ANSWER_MS = 100, /* for a device to say that it has datagrams; no answer is the answer no */
	VSD_DGRAM_DROPS = 64,	   /* datagrams of the host dropped at a time, where no guest takes them */
	VSD_DGRAM_PREFIX_MAX = 32, /* bytes of "SENDTO 4294967295 4294967295\n", and to spare */
	VSD_DGRAM_SUFFIX_MAX = 28, /* of "_dgram@4294967295.4294967295", behind uds-path */
};

/* A datagram that waits, with its payload. */
struct vsd_dgram {
	struct vsd_dgram *next;
	struct vsp_addr src;
	struct vsp_addr dst;
	u32 len;
	u8 bytes[];
};

struct vsd_dgram_queue {
	struct vsd_dgram *first;
	struct vsd_dgram **end;
	u32 bytes; /* with VSD_DGRAM_COST for each */
};

/* Where datagrams for the guest come from. */
enum vsd_dgram_kind {
	VSD_DGRAM_CLIENTS_SOCK, /* PATH_dgram: SENDTO */
	VSD_DGRAM_SOURCE,	/* PATH_dgram@CID.PORT: answers to a port of the guest */
	VSD_DGRAM_SIBLING,	/* another guest */
};

/**
 * struct vsd_dgram_sock - one of those; a flow towards the guest
 * @watch: for epoll
 * @flow: its turn
 * @next: the next of the guest
 * @kind: enum vsd_dgram_kind
 * @fd: the socket; -1: another guest
 * @at: the guest's port; or the other guest, which has no port here
 * @room_watched: an event is asked for when its send buffer has room
 * @last: the host port that the guest's port sent to last
 * @used: when it was used last
 * @queue: what the other guest sent
 */
struct vsd_dgram_sock {
	struct vsd_watch watch;
	struct vsp_flow flow;
	struct vsd_dgram_sock *next;
	u8 kind;
	int fd;
	struct vsp_addr at;
	bool room_watched;
	u32 last;
	u64 used;
	struct vsd_dgram_queue queue;
};

/**
 * struct vsd_dgram_dest - a receiver on the host that did not take what was sent to it
 * @watch: for epoll
 * @next: the next of the guest
 * @fd: a socket connected to it, which says when it takes more, or -1
 * @blind: no event says so: it is tried again at vsd_dgrams.retry_at
 * @port: its port
 * @queue: what waits
 */
struct vsd_dgram_dest {
	struct vsd_watch watch;
	struct vsd_dgram_dest *next;
	int fd;
	bool blind;
	u32 port;
	struct vsd_dgram_queue queue;
};

/* A host program that was given a port. */
struct vsd_dgram_client {
	struct sockaddr_un name;
	u32 name_len;
	u32 port;
	u64 used;
};

/* Counters of datagrams since the daemon started; all but the first two are of dropped ones. */
struct vsd_dgram_counters {
	u64 from_guest; /* that a receiver took */
	u64 to_guest;	/* that lie in the guest's buffers */
	u64 unbound;	/* nobody was bound for them */
	u64 full;	/* the receiver's queue, or all of them, were full */
	u64 cut;	/* fragments from the guest that make no datagram */
	u64 no_guest;	/* for a guest without datagrams, or none at all */
	u64 too_big;	/* more than the guest takes */
	u64 bad;	/* from host programs: without SENDTO, to another machine, or from somebody who may not */
	u64 no_memory;	/* or descriptors */
	u64 refused;	/* resets sent to the guest */
	u64 bounced;	/* resets from the guest: nobody is bound there */
};

/**
 * struct vsd_dgrams - datagrams of a guest
 * @on: they are offered
 * @known: the guest has them
 * @fragments: it puts fragments together
 * @asked: we are the driver, and have asked; @answer_until: what is to be sent waits for the answer until then, or 0
 * @max: bytes of the largest that it takes
 * @clients_sock: PATH_dgram
 * @sources: sockets for its ports, and other guests; @n_sources: how many
 * @dests: receivers that are slow; @n_dests: how many; @queued: bytes for all of them
 * @held_until: datagrams were left on the tx ring until then, for receivers that take nothing now; 0: none
 * @retry_at: when receivers are tried again that no event speaks for; 0: never
 * @clients: host programs with a port, or NULL; @last_port: given out last
 * @dead_socks, @dead_dests: to be freed at the end of the turn
 * @slot: the datagram from the guest that is being put together; @slot_bytes: its bytes
 * @out: the datagram for the guest that is being cut, with its line, or NULL; @out_data: its payload
 * @out_src, @out_dst, @out_len, @out_done: of it
 * @midway: the guest has its beginning: nothing else may be sent; of that flow
 * @refusals_since: when the second began that @refusals counts in
 */
struct vsd_dgrams {
	bool on;
	bool known;
	bool fragments;
	bool asked;
	u64 answer_until;
	u32 max;
	struct vsd_dgram_sock clients_sock;
	struct vsd_dgram_sock *sources;
	u32 n_sources;
	struct vsd_dgram_dest *dests;
	u32 n_dests;
	u32 queued;
	u64 held_until;
	u64 retry_at;
	struct vsd_dgram_client *clients;
	u32 last_port;
	struct vsd_dgram_sock *dead_socks;
	struct vsd_dgram_dest *dead_dests;
	struct vsp_dgram slot;
	u8 *slot_bytes;
	u8 *out;
	u8 *out_data;
	struct vsp_addr out_src;
	struct vsp_addr out_dst;
	u32 out_len;
	u32 out_done;
	struct vsp_flow *midway;
	u64 refusals_since;
	u32 refusals;
	struct vsd_dgram_counters n;
};

/* Bind PATH_dgram. 0, or -errno after a message. */
int vsd_dgram_start(struct vsd_guest *g);
void vsd_dgram_stop(struct vsd_guest *g);

/* The guest is gone, or started anew: what it had is forgotten. Its flows are out of the scheduler. */
void vsd_dgram_forget(struct vsd_guest *g);

/* Which features were negotiated. */
void vsd_dgram_negotiated(struct vsd_guest *g);

/* We are the driver: ask the device whether it has datagrams. */
void vsd_dgram_ask(struct vsd_guest *g);

/* The time to answer is over: vsd_dgrams.answer_until. */
void vsd_dgram_unanswered(struct vsd_guest *g);

/* Is this packet, of whatever type, the answer no? Then it was dealt with. */
bool vsd_dgram_denied(struct vsd_guest *g, const struct vsp_hdr *hdr);

/* An event of PATH_dgram, a source or a receiver. */
void vsd_dgram_event(struct vsd_watch *w);

/* It is time: vsd_dgrams.retry_at. */
void vsd_dgram_retry(struct vsd_guest *g);

/* Is this a datagram in one packet for a receiver on the host that takes nothing now? It need not be taken yet. */
bool vsd_dgram_must_wait(struct vsd_guest *g, const struct vsp_hdr *hdr);

/* At the end of a batch: were such @held, left on the ring? They are taken after VSD_DGRAM_HOLD_MS in any case. */
void vsd_dgram_hold(struct vsd_guest *g, bool held);

/* A packet from the guest that is no datagram. */
void vsd_dgram_interrupt(struct vsd_guest *g);

/* A packet of type 3 from the guest; the segments are its payload. */
void vsd_dgram_arrive(struct vsd_guest *g, const struct vsp_hdr *hdr, struct iovec *iov, u32 niov);

/**
 * vsd_dgram_next - what a flow has for the guest
 * @f: the flow whose turn it is
 * @room: payload of the buffer
 * @hdr: filled in
 *
 * Return: its bytes, hdr->len of them, to be copied at once; NULL: nothing.
 */
const u8 *vsd_dgram_next(struct vsd_guest *g, struct vsp_flow *f, u32 room, struct vsp_hdr *hdr);

/* Give memory back. */
void vsd_dgram_bury(struct vsd_guest *g);

#endif
