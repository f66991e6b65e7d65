/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim.h - two engines, two rings between them, applications at both ends, and everything that can go wrong
 *
 * One seed is one world. Nothing in it depends on anything else: no clock, no address, no system call decides. What can
 * be done next is done in an order that the seed chooses; when nothing can be done, time moves to the next deadline. So
 * a stall is exact: nothing will ever happen again and somebody is not finished.
 *
 *   main.c    seeds, processes, what is printed
 *   world.c   time, whose turn it is, resets, what must hold at all times
 *   rings.c   packets between the ends; doorbells that come late or (for long) not at all
 *   end.c     what the daemon's data paths do, without bytes: packets to and from an engine
 *   app.c     who connects, writes, reads, closes; what must hold for a flow
 *   liar.c    packets that no honest engine sends
 *
 * Payload is not carried, but every packet says, beside its header, of which flow and which bytes it is. What is
 * checked is counted here, in 64 bits, and not read from the ledgers of the rules.
 */
#ifndef SIM_H
#define SIM_H

#include "engine/mux.h"
#include "kernel/proto/frame.h"

enum {
	SIM_HOST,
	SIM_GUEST,
	SIM_ENDS,

	SIM_GUEST_CID = 3,
	SIM_CONNS_MAX = 48,	  /* of an end; more than flows that are begun, so that a leak shows */
	SIM_FLOWS_MAX = 20,	  /* begun in a world */
	SIM_RING_MAX = 32,	  /* packets on a ring */
	SIM_STEPS_MAX = 400000,	  /* in a world; the longest of 100,000 takes a tenth of that */
	SIM_BYTES_MAX = 300000,	  /* written to a flow in one direction */
	SIM_SOCKET_BYTES = 65536, /* written and not sent */
	SIM_MESSAGES_MAX = 40,	  /* of a flow and direction */
	SIM_PORTS = 8,		  /* of the guest, so that they are used again */
};

#define SIM_MS 1000000ull
#define SIM_NEVER VSOCK_NEVER

struct sim_rng {
	u64 state;
};

u32 sim_random(struct sim_rng *r);

/* 0 .. @below - 1 */
u32 sim_below(struct sim_rng *r, u32 below);

/* True once in @n times. */
bool sim_once_in(struct sim_rng *r, u32 n);

/* Any number up to @max, small ones as often as large ones. */
u32 sim_some(struct sim_rng *r, u32 max);

/**
 * struct sim_packet - a packet, and what is known of it but not written on it
 * @wire: its header
 * @have: bytes that lie behind it, header included
 * @flow: of which flow it is, or -1
 * @offset: its first byte in the stream of the flow's direction
 * @forged: no engine made it
 */
struct sim_packet {
	struct vsp_wire wire;
	u32 have;
	int flow;
	u64 offset;
	bool forged;
};

/**
 * struct sim_ring - one direction
 * @size: packets that it holds; @piece: payload that a packet holds
 * @first, @n: those on it
 * @reader_sleeps: whoever takes packets waits for a doorbell; @writer_sleeps: whoever puts them waits for room
 * @reader_rings: when that doorbell will ring, SIM_NEVER: nobody rang; @writer_rings: likewise
 * @stopped_until: the reader does not look before that, whoever rings
 */
struct sim_ring {
	u32 size;
	u32 piece;
	u32 first;
	u32 n;
	struct sim_packet packets[SIM_RING_MAX];
	bool reader_sleeps;
	bool writer_sleeps;
	u64 reader_rings;
	u64 writer_rings;
	u64 stopped_until;
};

struct sim_world;

/* An end: an engine, the ring that it writes and the one that it reads. */
struct sim_end {
	struct vsock_mux mux;
	struct sim_world *world;
	struct sim_app *apps;
	struct sim_ring *out;
	struct sim_ring *in;
	u32 side;
};

/* One direction of a flow, by what was seen: absolute counts, from 0. */
struct sim_direction {
	u64 total;	/* bytes that its writer will write */
	u64 sent;	/* bytes that were put on the ring */
	u64 received;	/* bytes that were delivered */
	u64 read;	/* bytes that were consumed */
	u64 promised;	/* highest byte that the writer has been allowed, by any header that reached it */
	u64 acked;	/* bytes that the writer knows to be consumed */
	u64 offered;	/* highest byte that any header of the reader's allowed */
	u32 window;	/* the reader's window as the writer knows it */
	u32 window_max; /* the largest that the reader ever had */
	u32 packets;	/* put on the ring */
	u32 messages_sent;
	u32 messages_received;
};

/* Why a flow may end in another way than an orderly one, or without all of its bytes. */
enum sim_excuse {
	SIM_REFUSED = 1 << 0,
	SIM_RESET = 1 << 1,   /* transport reset, or an end forgot everything */
	SIM_LIED = 1 << 2,    /* a forged packet reached it */
	SIM_ABORTED = 1 << 3, /* an application gave up with a reset */
	SIM_EARLY = 1 << 4,   /* an application closed before the end */
	SIM_TOO_BIG = 1 << 5, /* a message that will never fit the window */
	SIM_REUSED = 1 << 6,  /* its ports had an unhappy flow before, of which a packet may still be under way */
};

/**
 * struct sim_flow - what is known of a flow at both ends
 * @type: enum vsp_type
 * @began: enum sim side that connected
 * @base: where the 32-bit counters of each direction start
 * @dir: by the side that writes
 * @excuses: enum sim_excuse
 * @target: liars aim at it
 * @eager: seqpacket: a message begins without credit for all of it
 * @app: the ends, as long as they are there
 */
struct sim_flow {
	u16 type;
	u8 began;
	u32 base[SIM_ENDS];
	struct sim_direction dir[SIM_ENDS];
	u32 excuses;
	bool target;
	bool eager;
	struct sim_app *app[SIM_ENDS];
	u32 messages[SIM_ENDS][SIM_MESSAGES_MAX];
	u32 nmessages[SIM_ENDS];
};

/**
 * struct sim_app - one end of a flow
 * @c: the engine's part
 * @flow: index of its flow
 * @written: bytes, or messages, that may be sent
 * @frag: seqpacket: what is left of the message that is being sent
 * @record: seqpacket: the message that arrives
 * @readable: bytes that were delivered and can be read: of seqpacket, those of whole messages
 * @wake: when it acts next
 * @answer_at: when the request is answered; @refuses: so it will be
 * @abort_at, @close_at: after so many bytes sent it gives up, or closes
 * @pace: how long it waits between two acts, at most
 * @opened: may write; @over: the engine is done with it; @mute: nothing will be sent any more
 * @shut: it said that it will not send; @heard_end: the peer's end was taken note of
 */
struct sim_app {
	struct vsock_conn c;
	struct sim_app *next;
	struct sim_end *end;
	int flow;
	u64 written;
	struct vsp_frag frag;
	struct vsp_record record;
	u32 readable;
	u64 wake;
	u64 answer_at;
	bool refuses;
	u64 abort_at;
	u64 close_at;
	u64 pace;
	bool opened;
	bool over;
	bool mute;
	bool shut;
	bool heard_end;
};

/* What may go wrong in this world: once in so many times; 0: never. */
struct sim_faults {
	u32 late;   /* a doorbell */
	u32 lost;   /* a doorbell, for long */
	u32 back;   /* a packet stays on the ring though it was looked at */
	u32 resize; /* a window grows or shrinks */
	u32 stop;   /* an end does not look at its ring for a while */
	u32 reset;  /* everybody forgets everything */
	u32 forget; /* one end does */
	u32 lie;
	u32 abort;
	u32 early;
	u32 refuse;
};

struct sim_world {
	u64 seed;
	struct sim_rng rng;
	u64 now;
	u64 steps;
	bool calm; /* nothing goes wrong any more */
	bool late; /* an end was kept waiting: deadlines may pass */
	bool trace;
	u32 liar; /* side that lies, or SIM_ENDS */
	struct sim_faults faults;
	struct sim_ring rings[SIM_ENDS]; /* by the side that writes */
	struct sim_end ends[SIM_ENDS];
	struct sim_flow flows[SIM_FLOWS_MAX];
	u32 nflows; /* begun so far */
	u32 to_begin;
	u64 begin_at;
	bool used[SIM_PORTS]; /* ports of the guest that had an unhappy flow */
};

/* main.c: the end of this world, and of the process. */
void sim_fail(const struct sim_world *w, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));
void sim_trace(const struct sim_world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define SIM_CHECK(w, cond)                                      \
	do {                                                    \
		if (!(cond))                                    \
			sim_fail(w, "%s: %s", __func__, #cond); \
	} while (0)

/* world.c */
void sim_run(u64 seed, bool trace);

/* rings.c */
void sim_ring_init(struct sim_world *w, struct sim_ring *r);
void sim_ring_clear(struct sim_ring *r);
bool sim_ring_full(const struct sim_ring *r);
void sim_ring_put(struct sim_world *w, struct sim_ring *r, const struct sim_packet *p);
struct sim_packet sim_ring_take(struct sim_world *w, struct sim_ring *r);
void sim_ring_put_back(struct sim_ring *r);
void sim_ring_wait_packet(struct sim_ring *r);
void sim_ring_wait_room(struct sim_ring *r);
void sim_ring_time(struct sim_ring *r, u64 now);
u64 sim_ring_deadline(const struct sim_ring *r, u64 now);
bool sim_ring_readable(const struct sim_ring *r, u64 now);

/* end.c */
void sim_end_from_peer(struct sim_end *e);
void sim_end_to_peer(struct sim_end *e);
void sim_end_news(struct sim_end *e);
void sim_end_expire(struct sim_end *e);

/* app.c */
void sim_app_begin(struct sim_end *e);
void sim_app_spawn(struct sim_end *e, const struct vsp_hdr *hdr, const struct sim_packet *p);
void sim_app_news(struct sim_app *a);
void sim_app_act(struct sim_app *a);
void sim_app_deliver(struct sim_app *a, const struct vsp_hdr *hdr, const struct sim_packet *p);
void sim_app_check(const struct sim_app *a);
bool sim_app_next_message(struct sim_app *a, u32 *len);
void sim_app_sent(struct sim_app *a, bool last);
void sim_apps_reap(struct sim_end *e);

static inline struct sim_app *sim_app_of(struct vsock_conn *c)
{
	return (struct sim_app *)(void *)((u8 *)c - offsetof(struct sim_app, c));
}

static inline struct sim_flow *sim_flow_of(const struct sim_app *a)
{
	return &a->end->world->flows[a->flow];
}

/* liar.c */
void sim_lie(struct sim_world *w);

#endif
