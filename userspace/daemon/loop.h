/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.h - a thread that serves guests
 *
 * Guests that may reach each other are served by one thread, so that no memory is copied to while another thread maps
 * it anew, and nothing of a guest needs a lock. Everything else asks the thread to do it: vsd_loop_call().
 */
#ifndef VSD_LOOP_H
#define VSD_LOOP_H

#include "vu/ring.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

enum {
	VSD_BATCH_PACKETS = 256, /* packets from the guest between two publications of the used ring */
	VSD_BATCH_IOV = 2048,	 /* their memory segments; more than VU_CHAIN_IOV_MAX, so that any chain fits */
};
#define VSD_MS 1000000ull /* ns */

/*
 * What keeps a thread longer in one system call is interrupted: none of them should wait, but some descriptors are
 * shared with those who may want them to.
 */
#define VSD_STUCK_MS 500

struct vsd_guest;

/* What an epoll event is about. The first member of, or embedded in, what it concerns. */
enum vsd_source {
	VSD_SOURCE_CALL,
	VSD_SOURCE_VU_LISTENER,
	VSD_SOURCE_FRONT_END,
	VSD_SOURCE_KICK_RX,
	VSD_SOURCE_KICK_TX,
	VSD_SOURCE_KICK_EVENT,
	VSD_SOURCE_HOST_LISTENER,
	VSD_SOURCE_CONN,
	VSD_SOURCE_TAP,
	VSD_SOURCE_DGRAM,
	VSD_SOURCE_DGRAM_DEST,
	NUM_VSD_SOURCES,
};

struct vsd_watch {
	enum vsd_source source;
	struct vsd_guest *guest;
};

/* A packet of a batch: where its payload lies. */
struct vsd_packet {
	u16 first; /* segment */
	u16 niov;
	u32 len;
	u16 next; /* packet of the same connection, or VSD_NO_PACKET */
};
#define VSD_NO_PACKET 0xffff

struct vsd_loop;
typedef void (*vsd_loop_fn)(struct vsd_loop *l, void *arg);

/* Segments of a batch, and of the system call that moves their bytes. */
struct vsd_segments {
	struct iovec iov[VSD_BATCH_IOV];
	struct iovec out[VU_CHAIN_IOV_MAX];
};

/**
 * struct vsd_loop - a thread and what its guests share
 * @epfd: epoll
 * @spare_fd: given up for a moment to refuse a client when there are no descriptors left
 * @now: CLOCK_MONOTONIC in ns, read once per turn of the loop
 * @polling: the next turn comes without anybody having to ring a doorbell
 * @poll_ns: how long after anything happened; @poll_until: so until then
 * @guests: those it serves
 * @from: of the batch from a guest being worked on; @to: of what goes to one meanwhile
 * @packets: of the batch from a guest
 * @thread: the thread
 * @call_fd: somebody calls; @call_watch: for epoll
 * @lock: of @fn and @arg, what is called; @fn is NULL again when it was done, and @done is signalled
 * @stop: the thread ends
 * @timer: interrupts a turn every VSD_STUCK_MS; @ticking: it runs; @awake: a turn is under way
 */
struct vsd_loop {
	int epfd;
	int spare_fd;
	u64 now;
	bool polling;
	u64 poll_ns;
	u64 poll_until;
	struct vsd_guest *guests;
	struct vsd_segments from;
	struct vsd_segments to;
	struct vsd_packet packets[VSD_BATCH_PACKETS];
	pthread_t thread;
	int call_fd;
	struct vsd_watch call_watch;
	pthread_mutex_t lock;
	pthread_cond_t done;
	vsd_loop_fn fn;
	void *arg;
	bool stop;
	timer_t timer;
	volatile sig_atomic_t ticking;
	volatile sig_atomic_t awake;
};

/* Start a thread without guests. 0 or -errno. */
int vsd_loop_start(struct vsd_loop *l, u64 poll_ns);

/* Let the thread run @fn, and wait until it has. Of one thread only. */
void vsd_loop_call(struct vsd_loop *l, vsd_loop_fn fn, void *arg);

/* End the thread. Its guests are stopped by then. */
void vsd_loop_end(struct vsd_loop *l);

#endif
