// SPDX-License-Identifier: BSD-2-Clause
/*
 * rules_meter.c - packets that a peer may hold unread
 *
 * Every case that depends on a counter is run at 0 and just below the wrap-around of u32.
 */
#include "check.h"
#include "meter.h"

enum {
	WINDOW = 256 << 10,
	BUDGET = WINDOW / VSP_METER_PACKET - VSP_METER_SPARE,
};

static const u32 bases[] = { 0, 0xffffffffu - 50, 0x80000000u - 50 };

static void budget(const void *arg)
{
	(void)arg;
	CHECK_EQ(vsp_meter_budget(WINDOW), 453);
	CHECK_EQ(vsp_meter_budget(0), 1);
	CHECK_EQ(vsp_meter_budget(VSP_METER_PACKET * 3 - 1), 1);
	CHECK_EQ(vsp_meter_budget(VSP_METER_PACKET * 3), 1);
	CHECK_EQ(vsp_meter_budget(VSP_METER_PACKET * 4), 2);
	CHECK_EQ(vsp_meter_budget(0xffffffffu), 0xffffffffu / VSP_METER_PACKET - VSP_METER_SPARE);
}

static void fits(const void *arg)
{
	struct vsp_meter m = { .out = 0 };

	(void)arg;
	CHECK(vsp_meter_fits(&m, 1000000, WINDOW));
	m.out = 1;
	CHECK(vsp_meter_fits(&m, BUDGET - 1, WINDOW));
	CHECK(!vsp_meter_fits(&m, BUDGET, WINDOW));
	CHECK(!vsp_meter_fits(&m, 0xffffffffu, WINDOW));
	m.out = BUDGET - 1;
	CHECK(vsp_meter_fits(&m, 1, WINDOW));
	m.out = BUDGET;
	CHECK(!vsp_meter_fits(&m, 1, WINDOW));
	/* The window shrank. */
	CHECK(!vsp_meter_fits(&m, 1, VSP_METER_PACKET));
}

static void asks_in_time(const void *arg)
{
	struct vsp_meter m = { .out = BUDGET / 2 };

	(void)arg;
	CHECK(!vsp_meter_ask(&m, WINDOW));
	m.out++;
	CHECK(vsp_meter_ask(&m, WINDOW));
}

static void ping_pong_retires_at_once(const void *arg)
{
	u32 at = *(const u32 *)arg;
	struct vsp_meter m = { .out = 0 };

	for (u32 i = 0; i < 3000; i++) {
		vsp_meter_sent(&m, ++at, WINDOW);
		CHECK_EQ(m.out, 1);
		CHECK(!vsp_meter_acked(&m, at - 1));
		CHECK(vsp_meter_acked(&m, at));
		CHECK_EQ(m.out, 0);
		CHECK(!vsp_meter_acked(&m, at));
	}
}

/* However the acknowledgements fall, what the peer holds is never more than what is outstanding. */
static void never_early(const void *arg)
{
	struct check_rng rng = { .state = 77 };
	u32 base = *(const u32 *)arg, sent = 0, read = 0;
	struct vsp_meter m = { .out = 0 };

	for (u32 i = 0; i < 100000; i++) {
		if (vsp_meter_fits(&m, 1, WINDOW) && check_random(&rng) % 3) {
			sent++;
			vsp_meter_sent(&m, base + sent * 10, WINDOW);
		} else {
			read += check_random(&rng) % (sent - read + 1);
			vsp_meter_acked(&m, base + read * 10);
		}
		CHECK(m.out >= sent - read);
		CHECK(m.out <= BUDGET);
		CHECK(m.n <= VSP_METER_MARKS);
	}
	vsp_meter_acked(&m, base + sent * 10);
	CHECK_EQ(m.out, 0);
	CHECK_EQ(m.n, 0);
}

/* All marks in use: the newest takes more than its share. */
static void more_than_the_marks(const void *arg)
{
	u32 at = *(const u32 *)arg;
	struct vsp_meter m = { .out = 0 };

	for (u32 i = 0; i < 2 * BUDGET; i++)
		vsp_meter_sent(&m, ++at, WINDOW);
	CHECK_EQ(m.n, VSP_METER_MARKS);
	CHECK_EQ(m.out, 2 * BUDGET);
	CHECK(vsp_meter_acked(&m, at - 1));
	CHECK_EQ(m.n, 1);
	CHECK(vsp_meter_acked(&m, at));
	CHECK_EQ(m.out, 0);
}

#define AT(fn, i)                                                  \
	{                                                          \
		.name = #fn "/" #i, .run = (fn), .arg = &bases[i], \
	}

static const struct check_case meter_cases[] = {
	CASE(budget),
	CASE(fits),
	CASE(asks_in_time),
	AT(ping_pong_retires_at_once, 0),
	AT(ping_pong_retires_at_once, 1),
	AT(ping_pong_retires_at_once, 2),
	AT(never_early, 0),
	AT(never_early, 1),
	AT(never_early, 2),
	AT(more_than_the_marks, 0),
	AT(more_than_the_marks, 1),
	AT(more_than_the_marks, 2),
};

CHECK_SUITE(meter, meter_cases);
