/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timers.h - deadlines in order: a binary heap of timers that live in their owners
 *
 * Times are nanoseconds of any clock; the caller passes them in. Arming never fails: room is made beforehand.
 */
#ifndef VSOCK_TIMERS_H
#define VSOCK_TIMERS_H

#include "kernel/proto/env.h"

#define VSOCK_NEVER UINT64_MAX

/* A timer. Zeroed memory is one that is not armed. */
struct vsock_timer {
	u64 at;
	u32 place; /* in the heap, counted from 1 */
};

/**
 * struct vsock_timers - all armed timers of one owner
 * @heap: @heap[1] is the earliest
 * @n: armed timers
 * @room: timers for which there is room
 */
struct vsock_timers {
	struct vsock_timer **heap;
	u32 n;
	u32 room;
};

/* Room for @room timers. 0 or -ENOMEM. */
int vsock_timers_init(struct vsock_timers *t, u32 room);
void vsock_timers_fini(struct vsock_timers *t);

/* Arm, or arm anew, for time @at. */
void vsock_timer_start(struct vsock_timers *t, struct vsock_timer *timer, u64 at);

/* Harmless if it is not armed. */
void vsock_timer_stop(struct vsock_timers *t, struct vsock_timer *timer);

/* When the earliest timer runs out, or VSOCK_NEVER. */
u64 vsock_timers_next(const struct vsock_timers *t);

/* A timer that ran out by @now, disarmed; NULL if there is none. */
struct vsock_timer *vsock_timers_expire(struct vsock_timers *t, u64 now);

#endif
