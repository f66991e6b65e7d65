/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check.h - cases in plain C, for every compiler, sanitizer and architecture
 *
 * A file of vectors exports one struct check_suite. Who runs it is decided elsewhere: main.c prints TAP-like lines,
 * criterion_main.c hands the same tables to Criterion. A failed check is printed and counted, and the case goes on: one
 * run shows all that is wrong.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

#include "env.h"

/*
 * A case with @waits shows a fault that is known and not yet mended: @waits says what it waits for. It must fail;
 * once it passes, the runner fails until the word is removed.
 */
struct check_case {
	const char *name;
	void (*run)(const void *arg);
	const void *arg;
	const char *waits;
};

struct check_suite {
	const char *name;
	const struct check_case *cases;
	size_t ncases;
};

#define CHECK_SUITE(id, table) \
	const struct check_suite suite_##id = { .name = #id, .cases = (table), .ncases = ARRAY_SIZE(table) }

/* A case without an argument, named like its function. */
#define CASE(fn) { .name = #fn, .run = (fn) }
#define CASE_WAITS(fn, reason) { .name = #fn, .run = (fn), .waits = (reason) }

extern const struct check_suite suite_wire, suite_conn, suite_conn_cells, suite_credit, suite_frame, suite_dgram;
extern const struct check_suite suite_ring, suite_sched, suite_names, suite_credit_prop, suite_sched_prop, suite_meter;

#define CHECK_ALL_SUITES                                                                                     \
	&suite_wire, &suite_conn, &suite_conn_cells, &suite_credit, &suite_frame, &suite_dgram, &suite_ring, \
		&suite_sched, &suite_names, &suite_credit_prop, &suite_sched_prop, &suite_meter

/* Checks that failed so far in this process. Its home is the file with main(). */
extern unsigned int check_failures;

static inline void check_eq(const char *file, int line, const char *what, long long got, long long expected)
{
	if (got == expected)
		return;
	check_failures++;
	printf("# %s:%d: %s: expected %lld (0x%llx), got %lld (0x%llx)\n", file, line, what, expected,
	       (unsigned long long)expected, got, (unsigned long long)got);
}

#define CHECK_EQ(got, expected) check_eq(__FILE__, __LINE__, #got, (long long)(got), (long long)(expected))
#define CHECK(cond) check_eq(__FILE__, __LINE__, #cond, !!(cond), 1)

/* A small generator with a fixed seed: the same schedule everywhere, for ever (xorshift64*). */
struct check_rng {
	u64 state;
};

static inline u32 check_random(struct check_rng *rng)
{
	rng->state ^= rng->state >> 12;
	rng->state ^= rng->state << 25;
	rng->state ^= rng->state >> 27;
	return (u32)((rng->state * 0x2545f4914f6cdd1dull) >> 32);
}

/* A number in 0 .. @below - 1. */
static inline u32 check_below(struct check_rng *rng, u32 below)
{
	return (u32)(((u64)check_random(rng) * below) >> 32);
}

#endif
