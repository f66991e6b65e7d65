// SPDX-License-Identifier: BSD-2-Clause
#include "sim.h"

enum {
	LATE_MS = 30,	 /* a late doorbell, at most */
	LOST_MS = 12000, /* a lost one: until somebody looks for another reason; longer than any deadline */
};

void sim_ring_init(struct sim_world *w, struct sim_ring *r)
{
	static const u32 pieces[] = { 1, 7, 64, 1000, 3728, 4052, 65492, 65536 };

	r->size = 1 + sim_some(&w->rng, SIM_RING_MAX - 1);
	r->piece = pieces[sim_below(&w->rng, ARRAY_SIZE(pieces))];
	r->reader_sleeps = true;
	sim_ring_clear(r);
}

void sim_ring_clear(struct sim_ring *r)
{
	r->n = 0;
	r->writer_sleeps = false;
	r->reader_rings = SIM_NEVER;
	r->writer_rings = SIM_NEVER;
	r->stopped_until = 0;
}

bool sim_ring_full(const struct sim_ring *r)
{
	return r->n == r->size;
}

/* When a doorbell that is rung now will be heard. */
static u64 heard(struct sim_world *w)
{
	if (!w->calm && sim_once_in(&w->rng, w->faults.lost)) {
		w->late = true;
		return w->now + LOST_MS * SIM_MS;
	}
	if (!w->calm && sim_once_in(&w->rng, w->faults.late)) {
		w->late = true;
		return w->now + sim_below(&w->rng, LATE_MS) * SIM_MS;
	}
	return w->now;
}

/* Ring, unless it rings already. */
static void ring(struct sim_world *w, u64 *at)
{
	if (*at == SIM_NEVER)
		*at = heard(w);
}

void sim_ring_put(struct sim_world *w, struct sim_ring *r, const struct sim_packet *p)
{
	SIM_CHECK(w, r->n < r->size);
	r->packets[(r->first + r->n++) % SIM_RING_MAX] = *p;
	if (r->reader_sleeps)
		ring(w, &r->reader_rings);
}

struct sim_packet sim_ring_take(struct sim_world *w, struct sim_ring *r)
{
	struct sim_packet p = r->packets[r->first];

	SIM_CHECK(w, r->n > 0);
	r->first = (r->first + 1) % SIM_RING_MAX;
	r->n--;
	if (r->writer_sleeps)
		ring(w, &r->writer_rings);
	return p;
}

/* The packet that was just taken. */
void sim_ring_put_back(struct sim_ring *r)
{
	r->first = (r->first + SIM_RING_MAX - 1) % SIM_RING_MAX;
	r->n++;
}

void sim_ring_wait_packet(struct sim_ring *r)
{
	r->reader_sleeps = r->n == 0;
}

void sim_ring_wait_room(struct sim_ring *r)
{
	r->writer_sleeps = r->n == r->size;
}

void sim_ring_time(struct sim_ring *r, u64 now)
{
	if (r->reader_rings <= now) {
		r->reader_sleeps = false;
		r->reader_rings = SIM_NEVER;
	}
	if (r->writer_rings <= now) {
		r->writer_sleeps = false;
		r->writer_rings = SIM_NEVER;
	}
}

u64 sim_ring_deadline(const struct sim_ring *r, u64 now)
{
	u64 at = r->reader_rings < r->writer_rings ? r->reader_rings : r->writer_rings;

	/* Who is awake but stopped has something to do later. */
	if (!r->reader_sleeps && r->stopped_until > now && r->stopped_until < at)
		at = r->stopped_until;
	return at;
}

bool sim_ring_readable(const struct sim_ring *r, u64 now)
{
	return !r->reader_sleeps && now >= r->stopped_until;
}
