// SPDX-License-Identifier: BSD-2-Clause
/*
 * prop_sched.c - fairness, measured
 *
 * The flows here always have something to send unless they say so; time is the number of packets sent.
 */
#include "check.h"
#include "sched.h"

enum { BULK = 16 };

/* Jain's index in millionths: 1000000 where all have the same. */
static u32 jain(const u64 *x, u32 n)
{
	double sum = 0, squares = 0;

	for (u32 i = 0; i < n; i++) {
		sum += (double)x[i];
		squares += (double)x[i] * (double)x[i];
	}
	return (u32)(1e6 * sum * sum / (n * squares));
}

/* Packets of every size from 64 bytes to 64 KiB, each flow with its own mixture; cost is what is shared out. */
static void jain_of_mixed_sizes(const void *arg)
{
	struct check_rng rng = { 42 };
	struct vsp_flow f[BULK] = { 0 };
	u64 bytes[BULK] = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	for (u32 i = 0; i < BULK; i++)
		vsp_sched_wake(&s, &f[i]);
	for (u32 n = 0; n < 200000; n++) {
		struct vsp_flow *who = vsp_sched_next(&s);
		u32 size = 64u << check_below(&rng, 11);

		bytes[who - f] += size;
		vsp_sched_charge(&s, who, size, true);
		CHECK(who->deficit > 0);
	}
	CHECK(jain(bytes, BULK) >= 980000);
}

/* Each flow keeps to one size: those of tiny packets pay for the packets, so the cost is what must be equal. */
static void jain_of_cost(const void *arg)
{
	struct vsp_flow f[BULK] = { 0 };
	u64 cost[BULK] = { 0 };
	struct vsp_sched s;

	(void)arg;
	vsp_sched_init(&s);
	for (u32 i = 0; i < BULK; i++)
		vsp_sched_wake(&s, &f[i]);
	for (u32 n = 0; n < 400000; n++) {
		struct vsp_flow *who = vsp_sched_next(&s);
		u32 size = 64u << ((who - f) % 11);

		cost[who - f] += size + VSP_SCHED_PACKET_COST;
		vsp_sched_charge(&s, who, size, true);
	}
	CHECK(jain(cost, BULK) >= 980000);
}

/* A flow that speaks now and then waits for a packet, not for the quanta of sixteen senders of small messages. */
static void sparse_flow_waits_little(const void *arg)
{
	struct check_rng rng = { 7 };
	struct vsp_flow f[BULK] = { 0 }, sparse = { 0 };
	struct vsp_sched s;
	u32 pause = 0, waited = 0, worst = 0, spoken = 0;

	(void)arg;
	vsp_sched_init(&s);
	for (u32 i = 0; i < BULK; i++)
		vsp_sched_wake(&s, &f[i]);
	for (u32 n = 0; n < 100000; n++) {
		struct vsp_flow *who;

		if (!vsp_flow_queued(&sparse) && pause-- == 0)
			vsp_sched_wake(&s, &sparse);
		who = vsp_sched_next(&s);
		if (who == &sparse) {
			vsp_sched_charge(&s, who, 64, false);
			/* The first time all the others are as new as this one. */
			if (spoken > 0)
				worst = waited > worst ? waited : worst;
			waited = 0;
			pause = 100 + check_below(&rng, 100);
			spoken++;
			continue;
		}
		waited += vsp_flow_queued(&sparse);
		vsp_sched_charge(&s, who, 64, true);
	}
	CHECK(spoken > 500);
	CHECK_EQ(worst, 0);
}

/*
 * @n flows send one packet of @size and come back when @pause others were sent (they wait for credit, or for an
 * answer), beside one that always has something. Returns the share of the latter in the cost, in millionths.
 */
static u32 share_beside_comers(u32 n, u32 pause, u32 size)
{
	struct vsp_flow comer[8] = { 0 }, bulk = { 0 };
	u32 back_at[8] = { 0 };
	struct vsp_sched s;
	u64 served = 0, total = 0;

	vsp_sched_init(&s);
	vsp_sched_wake(&s, &bulk);
	for (u32 now = 0; now < 10000; now++) {
		struct vsp_flow *who;

		for (u32 i = 0; i < n; i++)
			if (now >= back_at[i])
				vsp_sched_wake(&s, &comer[i]);
		who = vsp_sched_next(&s);
		vsp_sched_charge(&s, who, size, who == &bulk);
		total += size + VSP_SCHED_PACKET_COST;
		if (who == &bulk)
			served += size + VSP_SCHED_PACKET_COST;
		else
			back_at[who - comer] = now + 1 + pause;
	}
	return (u32)(served * 1000000 / total);
}

/* Whoever always has something to send gets its share beside flows that come and go: at least half of an equal one. */
static void comers_do_not_starve_bulk(const void *arg)
{
	static const u32 sizes[] = { 64, 4096, 32768, 65536 };

	(void)arg;
	for (u32 n = 1; n <= 8; n++)
		for (u32 pause = 0; pause < 8; pause++)
			for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
				CHECK(share_beside_comers(n, pause, sizes[i]) >= 500000 / (n + 1));
}

/* A flow that leaves after every packet gets no more than one that stays: at most twice its share among many. */
static void leaving_does_not_pay(const void *arg)
{
	struct vsp_flow f[BULK] = { 0 }, comer = { 0 };
	struct vsp_sched s;
	u64 served = 0, total = 0;
	u32 back_at = 0;

	(void)arg;
	vsp_sched_init(&s);
	for (u32 i = 0; i < BULK; i++)
		vsp_sched_wake(&s, &f[i]);
	for (u32 now = 0; now < 20000; now++) {
		struct vsp_flow *who;

		if (now >= back_at)
			vsp_sched_wake(&s, &comer);
		who = vsp_sched_next(&s);
		vsp_sched_charge(&s, who, VSP_MAX_PAYLOAD, who != &comer);
		total += VSP_MAX_PAYLOAD + VSP_SCHED_PACKET_COST;
		if (who == &comer) {
			served += VSP_MAX_PAYLOAD + VSP_SCHED_PACKET_COST;
			back_at = now + 3;
		}
	}
	CHECK(served * 1000000 / total <= 2000000 / (BULK + 1));
}

static const struct check_case cases[] = {
	CASE(jain_of_mixed_sizes),	 CASE(jain_of_cost),	     CASE(sparse_flow_waits_little),
	CASE(comers_do_not_starve_bulk), CASE(leaving_does_not_pay),
};

CHECK_SUITE(sched_prop, cases);
