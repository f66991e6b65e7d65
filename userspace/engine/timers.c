// SPDX-License-Identifier: BSD-2-Clause
#include "engine/timers.h"

#include <errno.h>
#include <stdlib.h>

int vsock_timers_init(struct vsock_timers *t, u32 room)
{
	t->heap = calloc((size_t)room + 1, sizeof(struct vsock_timer *));
	t->n = 0;
	t->room = room;
	return t->heap ? 0 : -ENOMEM;
}

void vsock_timers_fini(struct vsock_timers *t)
{
	free(t->heap);
	t->heap = NULL;
	t->n = 0;
}

static void put(struct vsock_timers *t, struct vsock_timer *timer, u32 place)
{
	t->heap[place] = timer;
	timer->place = place;
}

static void sift_up(struct vsock_timers *t, struct vsock_timer *timer, u32 place)
{
	while (place > 1 && t->heap[place / 2]->at > timer->at) {
		put(t, t->heap[place / 2], place);
		place /= 2;
	}
	put(t, timer, place);
}

static void sift_down(struct vsock_timers *t, struct vsock_timer *timer, u32 place)
{
	while (place * 2 <= t->n) {
		u32 child = place * 2;

		if (child < t->n && t->heap[child + 1]->at < t->heap[child]->at)
			child++;
		if (t->heap[child]->at >= timer->at)
			break;
		put(t, t->heap[child], place);
		place = child;
	}
	put(t, timer, place);
}

void vsock_timer_stop(struct vsock_timers *t, struct vsock_timer *timer)
{
	u32 place = timer->place;
	struct vsock_timer *last;

	if (!place)
		return;
	timer->place = 0;
	last = t->heap[t->n--];
	if (last == timer)
		return;
	if (place > 1 && t->heap[place / 2]->at > last->at)
		sift_up(t, last, place);
	else
		sift_down(t, last, place);
}

void vsock_timer_start(struct vsock_timers *t, struct vsock_timer *timer, u64 at)
{
	vsock_timer_stop(t, timer);
	assert(t->n < t->room);
	timer->at = at;
	t->n++;
	sift_up(t, timer, t->n);
}

u64 vsock_timers_next(const struct vsock_timers *t)
{
	return t->n ? t->heap[1]->at : VSOCK_NEVER;
}

struct vsock_timer *vsock_timers_expire(struct vsock_timers *t, u64 now)
{
	struct vsock_timer *first = t->n ? t->heap[1] : NULL;

	if (!first || first->at > now)
		return NULL;
	vsock_timer_stop(t, first);
	return first;
}
