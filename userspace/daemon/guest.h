/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * guest.h - one guest: its front-end's session, its connections, the sockets of both
 *
 * Everything of a guest is served by one thread (loop.h), which never blocks: every socket is non-blocking, every wait
 * is an epoll event or a deadline. Connection sockets are edge-triggered, so a connection that can do nothing wakes
 * nobody, whatever its socket's state; what an edge said is remembered in struct vsd_conn until a system call says
 * otherwise.
 *
 *   guest.c        events, deadlines, news of the engine
 *   session.c      who is at the other end of the rings (session.h)
 *   event.c        the event queue
 *   conn.c         what happens to one connection's socket
 *   sibling.c      connections between guests
 *   listen.c       the sockets at which programs of the host connect
 *   host.c         host clients: the hybrid protocol
 *   dial.c         host listeners
 *   record.c       messages from the guest
 *   dgram.c        datagrams
 *   print.c        what is to be known of it
 *   tap.c          packets for somebody who looks on
 *   from_guest.c   the data path from the guest
 *   to_guest.c     the data path to the guest
 */
#ifndef VSD_GUEST_H
#define VSD_GUEST_H

#include "daemon/config.h"
#include "daemon/dgram.h"
#include "daemon/loop.h"
#include "daemon/tap.h"
#include "engine/mux.h"
#include "engine/tail.h"
#include "kernel/proto/frame.h"
#include "vu/dev.h"

#include <stdio.h>

struct vsg_device;

enum {
	VSD_TURN_CHAINS = 64, /* receive buffers of the guest filled by one system call */
	/*
	 * A stream's read has room for twice what the last one brought, but for so much at least: the buffers that stay
	 * empty were taken for nothing.
	 */
	VSD_EXPECT_MIN = 8 << 10,
	VSD_EXPECT_MAX = VSD_TURN_CHAINS * VSP_MAX_PAYLOAD,
	VSD_TURN_IOV = 1024,	   /* their memory segments: VU_CHAIN_IOV_MAX, so that any chain fits */
	VSD_HOLD_MS = 1,	   /* packets of a connection whose socket is full stay on the ring */
	VSD_ROUNDS = 4,		   /* batches in each direction before other guests and events have their turn */
	VSD_MESSAGES = 64,	   /* vhost-user messages dealt with at a time */
	VSD_ACCEPT_BATCH = 64,	   /* host clients accepted at a time */
	VSD_DIAL_RETRY_MS = 5,	   /* a host listener's backlog was full: look again */
	VSD_ACCEPT_RETRY_MS = 100, /* out of descriptors or memory: look again */
	VSD_SIBLING_PART = 2,	   /* other guests may use one of so many of a guest's connections */
};

/* How host clients come. */
enum vsd_host_kind {
	VSD_HOST_STREAM,    /* they say CONNECT */
	VSD_HOST_SEQPACKET, /* the same in records, at PATH_seqpacket */
	VSD_HOST_PORT,	    /* to a port's own socket, without a word */
	VSD_HOST_VSOCK,	    /* to a port in AF_VSOCK */
};

/**
 * struct vsd_listener - a socket at which host clients connect
 * @watch: for epoll
 * @fd: the socket, or -1
 * @kind: enum vsd_host_kind
 * @port: the guest's, where the socket is for one
 * @path: to be removed with it; empty: it was handed in, or is in AF_VSOCK
 */
struct vsd_listener {
	struct vsd_watch watch;
	int fd;
	u8 kind;
	u32 port;
	char path[VSD_PATH_MAX];
};

/* What a connection's socket is doing. */
enum vsd_phase {
	VSD_PHASE_NONE,	   /* no socket (any more) */
	VSD_PHASE_COMMAND, /* a host client has not said yet where it wants to go */
	VSD_PHASE_PASS,	   /* a host client has not passed its socket yet */
	VSD_PHASE_DIAL,	   /* a host listener's backlog is full */
	VSD_PHASE_CONNECT, /* a host listener in AF_VSOCK has not answered yet */
	VSD_PHASE_WAIT,	   /* a host client, or another guest, waits for the guest's answer */
	VSD_PHASE_OPEN,
	VSD_PHASE_LINGER, /* the guest is done; the last bytes wait for their reader */
};

/* Payload of a guest that is offered to another while it is still on the ring. */
struct vsd_offer {
	const struct iovec *iov;
	u32 niov;
	u32 skip;   /* bytes of the first segment that are done with */
	u32 left;   /* bytes */
	bool taken; /* seqpacket: the message was */
	bool eor;   /* seqpacket: it ends a record */
};

/**
 * struct vsd_conn - a connection of a guest, and its Unix socket or the other guest's end
 * @watch: for epoll
 * @c: the engine's part
 * @all_next, @all_link: list of all connections of the guest
 * @tail: bytes from the guest that the socket did not take yet; seqpacket: messages, each behind its length
 * @part: seqpacket: the beginning of a message from the guest
 * @rest: seqpacket: what is left of a message for the guest
 * @record: seqpacket: messages from the guest, counted
 * @queued: seqpacket: payload in @tail
 * @dial_until: when to stop dialling
 * @peer: the other guest's end, as long as it is there
 * @relayed: bytes that its guest read and the other guest may send again
 * @offer: what is offered to it at this moment
 * @fd: the socket, or -1
 * @say_fd: the client passed @fd along this socket, which is to be told; or -1
 * @say_keep: and closed only with @fd
 * @passed: @fd was passed, and may be open elsewhere
 * @phase: enum vsd_phase
 * @charged: of vsd_guest.charged
 * @seqpacket: its socket, and the guest's, is of that type
 * @silent: the client said no command and hears no answer to it
 * @sibling: there is no socket, but another guest
 * @from_sibling: it was the other guest that asked for it
 * @rest_eor: @rest is the end of a record
 * @batch_first, @batch_last: its packets in the current batch; @batch_bytes, @batch_iov: their sums
 * @batch_next: next connection with packets in the batch
 * @batched: it is in that chain
 * @wants_out: EPOLLOUT is asked for
 * @expect: room that the next read of a stream is given
 * @last: the peer writes no more: what is in the socket is the last
 * @hup: the peer closed both directions
 * @eof: everything that the peer sent was read
 * @deaf: the peer does not read any more: what the guest sends is dropped
 * @lost: something was dropped, so this must not end like a clean end
 * @wrote_all: shutdown(SHUT_WR) was done
 */
struct vsd_conn {
	struct vsd_watch watch;
	struct vsock_conn c;
	struct vsd_conn *all_next;
	struct vsd_conn **all_link;
	struct vsock_tail tail;
	struct vsock_tail part;
	struct vsock_tail rest;
	struct vsp_record record;
	u32 queued;
	u64 dial_until;
	struct vsd_conn *peer;
	u32 relayed;
	struct vsd_offer *offer;
	struct vsd_conn *batch_next;
	u32 batch_bytes;
	u32 batch_iov;
	u16 batch_first;
	u16 batch_last;
	int fd;
	int say_fd;
	u32 charged;
	u32 expect;
	u8 phase;
	bool seqpacket;
	bool silent;
	bool say_keep;
	bool passed;
	bool sibling;
	bool rest_eor;
	bool from_sibling;
	bool batched;
	bool wants_out;
	bool last;
	bool hup;
	bool eof;
	bool deaf;
	bool lost;
	bool wrote_all;
};

/* Counters since the daemon started, beside vsock_mux.rejects. */
struct vsd_counters {
	u64 bytes_from_guest;
	u64 bytes_to_guest;
	u64 packets_from_guest;
	u64 packets_to_guest;
	u64 opened;
	u64 refused;
	u64 denied;    /* by the lists of ports */
	u64 resets;    /* open connections that did not end in order */
	u64 timed_out; /* and those, and clients, that a deadline ended */
	u64 sessions;
	u64 transport_resets; /* told to a driver that was at work before */
	u64 messages_too_big; /* a socket or the guest's window will never take them */
};

/**
 * struct vsd_guest - one guest
 * @opts: as configured
 * @loop: its thread's
 * @next: the next guest of the thread
 * @name: "guest 3", for the log
 * @dev: its front-end's session
 * @mux: its connections
 * @all: every struct vsd_conn
 * @dead: connections whose memory is given back at the end of this turn: events about them may still be in hand
 * @dgrams: see dgram.h
 * @conns: how many there are, @dead not counted; @from_siblings: of these, opened by other guests
 * @charged: bytes that they may make us hold; see vsd_guest_opts.memory_kib
 * @vu_fd: listener for front-ends, or -1; @handed_fd: the front-end that was handed in, or -1
 * @listeners, @n_listeners: for host clients
 * @device: of vguest: what it knows of its device (guest/session.c)
 * @session_at: when to look for the other end again, or 0
 * @polled_kick: doorbells that epoll knows, owned here (vu/dev.h)
 * @drain_kick: of those, the ones that have to be read
 * @due: there is something to do
 * @from_due: the tx ring may hold something
 * @held: packets of this connection, and no others, were left on the tx ring, because its socket is full
 * @held_until: then they are taken in any case
 * @starved: the rx ring has no buffer; its doorbell is awaited
 * @host_paused: the listeners for host clients are not polled
 * @host_again: until then
 * @met: the driver of this session was met: its rings run
 * @reset_due: it was at work before this session, and is to be told that its connections are gone
 * @draining: no new connections
 * @tap: a capture
 * @from_limit, @to_limit: of vsd_guest_opts.rate_kib; @from_waits, @to_waits: for that and nothing else
 */
struct vsd_guest {
	const struct vsd_guest_opts *opts;
	struct vsd_loop *loop;
	struct vsd_guest *next;
	char name[24];
	struct vu_dev dev;
	struct vsock_mux mux;
	struct vsd_conn *all;
	struct vsd_conn *dead;
	struct vsd_conn *batch;
	struct vsd_counters counters;
	struct vsd_rate rate;
	struct vsd_dgrams dgrams;
	u32 conns;
	u32 from_siblings;
	u64 charged;
	int vu_fd;
	int handed_fd;
	struct vsd_listener *listeners;
	u32 n_listeners;
	struct vsg_device *device;
	u64 session_at;
	int polled_kick[VU_RINGS_MAX];
	bool drain_kick[VU_RINGS_MAX];
	struct vsd_watch vu_watch;
	struct vsd_watch front_watch;
	struct vsd_watch kick_watch[VU_RINGS_MAX];
	struct vsd_conn *held;
	u64 held_until;
	bool due;
	bool from_due;
	bool starved;
	bool host_paused;
	u64 host_again;
	bool met;
	bool reset_due;
	bool draining;
	struct vsd_tap tap;
	struct vsd_limit from_limit;
	struct vsd_limit to_limit;
	bool from_waits;
	bool to_waits;
};

/* guest.c */

/* Bind its sockets and wait for its front-end, served by @loop from now on. 0, or -errno after a message. */
int vsd_guest_start(struct vsd_guest *g, struct vsd_loop *loop, const struct vsd_guest_opts *opts);

/* End connections between these ends with a reset. False: there is none. */
bool vsd_guest_reset(struct vsd_guest *g, u32 host_cid, u32 host_port, u32 guest_port);

/* Go on with other settings, for which vsd_guest_same() holds. */
void vsd_guest_reconfigure(struct vsd_guest *g, const struct vsd_guest_opts *opts);

/* End everything and unlink its sockets. */
void vsd_guest_stop(struct vsd_guest *g);

/* Something happened to it: it is to be served in this turn of the loop, or the next. */
static inline void vsd_guest_wake(struct vsd_guest *g)
{
	g->due = true;
	g->mux.now = g->loop->now;
}

void vsd_guest_event(struct vsd_watch *w, u32 events);

/* Let epoll say when there is something to read from @fd. 0 or -errno. */
int vsd_guest_watch(struct vsd_guest *g, struct vsd_watch *w, enum vsd_source source, int fd, u32 events);

/* Not any more. To close @fd does the same only if nobody else has it open. */
void vsd_guest_unwatch(struct vsd_guest *g, int fd);

/* Deal with what the engine says about connections. */
void vsd_guest_news(struct vsd_guest *g);

/* Do what is to be done now. True: there is more to do at once. */
bool vsd_guest_serve(struct vsd_guest *g);

/* May packets from it, or to it, be moved now, as far as its rate goes? */
static inline bool vsd_from_allowed(const struct vsd_guest *g)
{
	return vsd_limit_until(&g->from_limit, g->opts->rate_kib) <= g->loop->now;
}

static inline bool vsd_to_allowed(const struct vsd_guest *g)
{
	return vsd_limit_until(&g->to_limit, g->opts->rate_kib) <= g->loop->now;
}

/* Packets that it moved up to now: has anything happened? */
static inline u64 vsd_guest_moved(const struct vsd_guest *g)
{
	return g->counters.packets_from_guest + g->counters.packets_to_guest;
}

/* When it must be served again even if nothing happens, or VSOCK_NEVER. */
u64 vsd_guest_deadline(const struct vsd_guest *g);

/* Write its counters to the log. */
void vsd_guest_report(const struct vsd_guest *g, enum vsd_level level);

/* A warning that the guest or a client can provoke at will. */
void vsd_guest_warn(struct vsd_guest *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* event.c */

/* A ring was started or stopped. */
void vsd_event_rings(struct vsd_guest *g);

/* Tell the driver what it is to be told, as far as it has buffers for that. */
void vsd_event_serve(struct vsd_guest *g);

/* conn.c */

/* A new one, or NULL where the limit is reached or memory is short. */
struct vsd_conn *vsd_conn_new(struct vsd_guest *g);

/* Its socket; from now on epoll knows it. 0 or -errno; the socket is closed with the connection. */
int vsd_conn_attach(struct vsd_conn *s, int fd);
void vsd_conn_event(struct vsd_conn *s, u32 events);

/* Deal with what the engine says about it. */
void vsd_conn_news(struct vsd_conn *s);

/* Its deadline passed. */
void vsd_conn_timeout(struct vsd_conn *s);

/* Close its socket, or part from the other guest, now. */
void vsd_conn_hang_up(struct vsd_conn *s);

/* Drop what the guest sent and nobody has got. */
void vsd_conn_drop(struct vsd_conn *s);

/* Give its memory back (at the end of the turn) if nothing is left of it. */
void vsd_conn_reap(struct vsd_conn *s);

/* The socket has nothing more for the guest. */
void vsd_conn_eof(struct vsd_conn *s);

/* Write the segments, @bytes in all, to the socket. Returns how many are done with: written, or nobody reads them. */
u32 vsd_conn_offer(struct vsd_conn *s, struct iovec *iov, u32 niov, u32 bytes);

/* Keep the segments from byte @done on until the socket takes them. */
void vsd_conn_keep(struct vsd_conn *s, const struct iovec *iov, u32 niov, u32 done);

/* Packets of this connection that were left on the ring are looked at again. */
static inline void vsd_conn_release(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;

	if (g->held != s)
		return;
	g->held = NULL;
	g->from_due = true;
	vsd_guest_wake(g);
}

static inline struct vsd_conn *vsd_conn_of(struct vsock_conn *c)
{
	return (struct vsd_conn *)(void *)((u8 *)c - offsetof(struct vsd_conn, c));
}

/* The socket does not read any more. */
void vsd_conn_deaf(struct vsd_conn *s);

/* Ask for EPOLLOUT, or not. */
void vsd_conn_want_out(struct vsd_conn *s, bool wants);

/* Bytes that the guest sent and the socket has not got. */
static inline u32 vsd_conn_unread(const struct vsd_conn *s)
{
	return s->seqpacket ? s->queued + s->part.len : s->tail.len;
}

/* sibling.c */

/* The guest with this CID that @g may reach, or NULL. */
struct vsd_guest *vsd_sibling_find(struct vsd_guest *g, u32 cid);

/* Connect the guest's request to the guest that it asks for. */
void vsd_sibling_dial(struct vsd_conn *s);

/* The guest that was asked accepted. */
void vsd_sibling_opened(struct vsd_conn *s);

/* The guest's shutdown hints grew. */
void vsd_sibling_hinted(struct vsd_conn *s);

/* The connection is over for the guest. */
void vsd_sibling_over(struct vsd_conn *s);

/* The other end will get nothing more of it: tell it, and forget each other. @clean: nothing was lost. */
void vsd_sibling_part(struct vsd_conn *s, bool clean);

/* Copy the segments, @bytes in all, into the other guest. Returns how many are done with. */
u32 vsd_sibling_offer(struct vsd_conn *s, const struct iovec *iov, u32 niov, u32 bytes);

/* The same for one whole message of @len bytes. False: not now. */
bool vsd_sibling_offer_message(struct vsd_conn *s, const struct iovec *iov, u32 niov, u32 len, bool eor);

/* Fill the segments with what the other end has for this guest. Returns bytes; never more than one message. */
u32 vsd_sibling_take(struct vsd_conn *s, const struct iovec *iov, u32 niov);

/* The length of the next message, and whether it ends a record. False: there is none. */
bool vsd_sibling_peek(struct vsd_conn *s, u32 *len, bool *eor);

/* A packet of it arrived: what its guest sent and what it has read. */
void vsd_sibling_account(struct vsd_conn *s);

/* This guest had a turn to take something from the other end. */
void vsd_sibling_moved(struct vsd_conn *s);

/* record.c */

/* The first four bytes of a message in vsd_conn.tail: its length, and whether it ends a record. */
#define VSD_RECORD_EOR (1u << 31)
static_assert((u32)VSP_WINDOW_MAX < VSD_RECORD_EOR, "no message is longer than a window");

/* A packet of a message. */
void vsd_record_arrive(struct vsd_conn *s, const struct vsp_hdr *hdr, struct iovec *iov, u32 niov);

/* Send the messages that wait. True: none is left. */
bool vsd_record_flush(struct vsd_conn *s);

/* listen.c */

/* Bind everything for programs of the host, and poll it. 0, or -errno after a message, and nothing is left. */
int vsd_listeners_open(struct vsd_guest *g);
void vsd_listeners_close(struct vsd_guest *g);

/* Poll the listeners, or not for a while. */
void vsd_listeners_poll(struct vsd_guest *g, bool poll);

/* host.c */

/* Do they belong to a user who may? Of a client, or of the listener that @fd is connected to. */
bool vsd_host_trusts(struct vsd_guest *g, int fd);

/* Take in clients. */
void vsd_host_accept(struct vsd_guest *g, const struct vsd_listener *l);

/* Read what is there of the CONNECT line. */
void vsd_host_command(struct vsd_conn *s);

/* Read the socket that the client passes, and where it is to be connected. */
void vsd_host_passed(struct vsd_conn *s);

/* The guest accepted: say so to the client. */
void vsd_host_welcome(struct vsd_conn *s);

/* dial.c */

/* Connect to the host's listener for this connection, or try again. */
void vsd_host_dial(struct vsd_conn *s);

/* The listener in AF_VSOCK answered, or did not in time. */
void vsd_host_dialled(struct vsd_conn *s);

/* Ready its socket for what is to pass. */
void vsd_host_set_options(const struct vsd_conn *s);

/* print.c: counters, rings and rejects; connections. As lines of the control socket. */
void vsd_print_guest(const struct vsd_guest *g, FILE *out);
void vsd_print_conns(const struct vsd_guest *g, FILE *out);

/* from_guest.c: one batch. True: there may be more. */
bool vsd_from_guest(struct vsd_guest *g);

/* to_guest.c: one batch. True: there may be more. */
bool vsd_to_guest(struct vsd_guest *g);

#endif
