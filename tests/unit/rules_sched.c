// SPDX-License-Identifier: BSD-2-Clause
/*
 * rules_sched.c - the two lists of the scheduler, move by move
 */
#include "check.h"
#include "sched.h"

enum {
	FULL = VSP_MAX_PAYLOAD,
	COST = VSP_SCHED_PACKET_COST,
	QUANTUM = VSP_SCHED_QUANTUM,
};

static void empty_scheduler(const void *arg)
{
	struct vsp_flow f = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	CHECK(!vsp_sched_next(&s));
	CHECK(!vsp_flow_queued(&f));
	vsp_sched_remove(&s, &f);
	CHECK(!vsp_sched_next(&s));
	CHECK_EQ(s.round, 1);
	CHECK(!s.round_end);
}

static void one_flow(const void *arg)
{
	struct vsp_flow f = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	vsp_sched_wake(&s, &f);
	CHECK(vsp_flow_queued(&f));
	CHECK(vsp_sched_next(&s) == &f);
	CHECK_EQ(f.deficit, QUANTUM);
	/* A second wake is harmless. */
	vsp_sched_charge(&s, &f, 100, true);
	vsp_sched_wake(&s, &f);
	CHECK_EQ(f.deficit, QUANTUM - 100 - COST);
	CHECK(f.next == &f && f.prev == &f);
	vsp_sched_charge(&s, &f, 0, false);
	CHECK(!vsp_flow_queued(&f));
	CHECK(!vsp_sched_next(&s));
	CHECK(!f.next && !f.prev);
	CHECK_EQ(f.round, 1);
}

/* A positive deficit stays in front; at zero it is refilled and goes to the back. */
static void turn_ends_at_zero(const void *arg)
{
	struct vsp_flow a = { 0 }, b = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	vsp_sched_wake(&s, &a);
	vsp_sched_wake(&s, &b);
	CHECK_EQ(b.deficit, QUANTUM);
	CHECK_EQ(b.list, VSP_LIST_FRESH);
	a.deficit = 10 + COST + 1;
	vsp_sched_charge(&s, &a, 10, true);
	CHECK_EQ(a.deficit, 1);
	CHECK(vsp_sched_next(&s) == &a);
	a.deficit = 10 + COST;
	vsp_sched_charge(&s, &a, 10, true);
	CHECK_EQ(a.deficit, QUANTUM);
	CHECK_EQ(a.list, VSP_LIST_BUSY);
	CHECK(vsp_sched_next(&s) == &b);
	/* The dearest packet at the smallest deficit: one refill is enough. */
	b.deficit = 1;
	vsp_sched_charge(&s, &b, FULL, true);
	CHECK(b.deficit > 0);
	CHECK_EQ(b.deficit, 1 - FULL - COST + QUANTUM);
	CHECK(vsp_sched_next(&s) == &a);
}

static void fresh_before_busy(const void *arg)
{
	struct vsp_flow bulk[3] = { 0 }, sparse = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	for (size_t i = 0; i < 3; i++)
		vsp_sched_wake(&s, &bulk[i]);
	for (size_t i = 0; i < 6; i++)
		vsp_sched_charge(&s, vsp_sched_next(&s), FULL, true);
	vsp_sched_wake(&s, &sparse);
	CHECK_EQ(sparse.list, VSP_LIST_FRESH);
	CHECK_EQ(sparse.deficit, QUANTUM);
	CHECK(vsp_sched_next(&s) == &sparse);
	/* Having spent its quantum it is one of many. */
	vsp_sched_charge(&s, &sparse, FULL, true);
	CHECK(vsp_sched_next(&s) == &sparse);
	vsp_sched_charge(&s, &sparse, FULL, true);
	CHECK_EQ(sparse.list, VSP_LIST_BUSY);
	CHECK(vsp_sched_next(&s) != &sparse);
}

/* One that leaves and comes straight back brings its old deficit along: nothing is to be won by it. */
static void coming_back(const void *arg)
{
	struct vsp_flow a = { 0 }, b = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	vsp_sched_wake(&s, &b);
	vsp_sched_wake(&s, &a);
	a.deficit = 5000;
	vsp_sched_charge(&s, &a, 1000, false);
	vsp_sched_wake(&s, &a);
	CHECK_EQ(a.deficit, 5000 - 1000 - COST);
	CHECK_EQ(a.list, VSP_LIST_FRESH);
	vsp_sched_charge(&s, &a, FULL, false);
	CHECK(a.deficit < 0);
	vsp_sched_wake(&s, &a);
	CHECK_EQ(a.list, VSP_LIST_BUSY);
	CHECK_EQ(a.deficit, 5000 - 1000 - FULL - 2 * COST + QUANTUM);
	/* Exactly at zero is spent, too. */
	vsp_sched_remove(&s, &a);
	a.deficit = 0;
	vsp_sched_wake(&s, &a);
	CHECK_EQ(a.list, VSP_LIST_BUSY);
	CHECK_EQ(a.deficit, QUANTUM);
	/* With nobody waiting there is nobody to be fair to. */
	vsp_sched_remove(&s, &a);
	vsp_sched_remove(&s, &b);
	a.deficit = -10;
	vsp_sched_wake(&s, &a);
	CHECK_EQ(a.deficit, QUANTUM);
	CHECK_EQ(a.list, VSP_LIST_FRESH);
}

/* A round is over when all that were busy at its beginning have spent their quantum, or left. */
static void rounds(const void *arg)
{
	struct vsp_flow f[3] = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	for (size_t i = 0; i < 3; i++) {
		vsp_sched_wake(&s, &f[i]);
		f[i].deficit = 1;
	}
	/* Three fresh ones become busy; the first of them ends the first round. */
	for (size_t i = 0; i < 3; i++)
		vsp_sched_charge(&s, &f[i], 0, true);
	CHECK(s.round_end == &f[0]);
	CHECK_EQ(s.round, 1);
	f[0].deficit = 1;
	vsp_sched_charge(&s, &f[0], 0, true);
	CHECK_EQ(s.round, 2);
	CHECK(s.round_end == &f[0]);
	/* One that does not end the round may leave, or spend its quantum. */
	vsp_sched_charge(&s, &f[1], 0, false);
	CHECK_EQ(s.round, 2);
	f[2].deficit = 1;
	vsp_sched_charge(&s, &f[2], 0, true);
	CHECK_EQ(s.round, 2);
	/* The one that does leaves: the round ends with it, and the next one with the last that is left. */
	vsp_sched_remove(&s, &f[0]);
	CHECK_EQ(s.round, 3);
	CHECK(s.round_end == &f[2]);
	vsp_sched_remove(&s, &f[2]);
	CHECK_EQ(s.round, 4);
	CHECK(!s.round_end);
}

/* A new quantum when a round was missed; until then, what was left of the old one. Rounds wrap around. */
static void away_for_a_round(const void *arg)
{
	static const u32 bases[] = { 5, 0x7fffffffu, 0xffffffffu, 0 };

	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_flow a = { 0 }, b = { 0 };
		struct vsp_sched s;

		vsp_sched_init(&s);
		s.round = bases[i];
		b.round = bases[i];
		vsp_sched_wake(&s, &b);
		a.deficit = -7;
		a.round = bases[i];
		vsp_sched_wake(&s, &a);
		CHECK_EQ(a.list, VSP_LIST_BUSY);
		CHECK_EQ(a.deficit, QUANTUM - 7);
		CHECK_EQ(a.round, bases[i] + 1);
		vsp_sched_remove(&s, &a);
		a.deficit = -7;
		a.round = s.round - 1;
		vsp_sched_wake(&s, &a);
		CHECK_EQ(a.list, VSP_LIST_FRESH);
		CHECK_EQ(a.deficit, QUANTUM);
		CHECK_EQ(a.round, s.round);
	}
}

/* Whoever comes later waits for it, whatever it has spent; those that are fresh already do not. */
static void hurrying(const void *arg)
{
	struct vsp_flow a = { 0 }, b = { 0 }, c = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	vsp_sched_wake(&s, &a);
	vsp_sched_wake(&s, &b);
	/* Both have spent their quantum; the first of them ends the round. */
	a.deficit = 1;
	vsp_sched_charge(&s, &a, 0, true);
	b.deficit = 1;
	vsp_sched_charge(&s, &b, 0, true);
	CHECK(s.round_end == &a);
	vsp_sched_hurry(&s, &a);
	CHECK_EQ(a.list, VSP_LIST_FRESH);
	CHECK_EQ(a.deficit, QUANTUM);
	CHECK_EQ(s.round, 2);
	CHECK_EQ(a.round, 2);
	CHECK(s.round_end == &b);
	vsp_sched_wake(&s, &c);
	CHECK_EQ(c.list, VSP_LIST_FRESH);
	CHECK(vsp_sched_next(&s) == &a);
	/* In its place and with what it has left. */
	a.deficit = 5;
	vsp_sched_hurry(&s, &a);
	CHECK_EQ(a.deficit, 5);
	CHECK(vsp_sched_next(&s) == &a);
	vsp_sched_charge(&s, &a, 0, false);
	CHECK(vsp_sched_next(&s) == &c);
	/* One that is not queued, and owes more than it had. */
	a.deficit = -9;
	vsp_sched_hurry(&s, &a);
	CHECK_EQ(a.list, VSP_LIST_FRESH);
	CHECK_EQ(a.deficit, QUANTUM);
	vsp_sched_charge(&s, &c, 0, false);
	CHECK(vsp_sched_next(&s) == &a);
}

/* Take every position out of lists of every small length. */
static void unlink_anywhere(const void *arg)
{
	(void)arg;
	for (size_t n = 1; n <= 4; n++) {
		for (size_t gone = 0; gone < n; gone++) {
			struct vsp_flow f[4] = { 0 };
			struct vsp_sched s;
			size_t first = gone == 0 ? 1 : 0;

			vsp_sched_init(&s);
			for (size_t i = 0; i < n; i++) {
				f[i].deficit = 1;
				f[i].round = s.round;
				vsp_sched_wake(&s, &f[i]);
			}
			/* Both lists: the first to come is fresh, so are the others with their deficit. */
			vsp_sched_remove(&s, &f[gone]);
			CHECK(!vsp_flow_queued(&f[gone]));
			CHECK(vsp_sched_next(&s) == (n == 1 ? NULL : &f[first]));
			for (size_t i = 0, at = first; i + 1 < n; i++, at++) {
				if (at == gone)
					at++;
				CHECK(vsp_sched_next(&s) == &f[at]);
				vsp_sched_charge(&s, &f[at], 0, false);
			}
			CHECK(!vsp_sched_next(&s));
		}
	}
}

static const struct check_case cases[] = {
	CASE(empty_scheduler),	 CASE(one_flow),    CASE(turn_ends_at_zero),
	CASE(fresh_before_busy), CASE(coming_back), CASE(rounds),
	CASE(away_for_a_round),	 CASE(hurrying),    CASE(unlink_anywhere),
};

CHECK_SUITE(sched, cases);
