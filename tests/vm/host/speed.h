/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_HOST_SPEED_H
#define TESTS_HOST_SPEED_H

/*
 * Measure each of @names for @ms and print "NAME VALUE": MB/s, microseconds, a rate or a ratio, as
 * tests/bench/host-device knows. @crowd: idle connections. The exit status.
 */
int speed_list(u32 ms, u32 crowd, int names, char **name);

/* Of speed_flows.c and speed_crowd.c: measure @name, if it is known there. */
bool speed_of_flow(const char *name, u32 ms, double *value);
bool speed_of_crowd(const char *name, u32 ms, u32 crowd, double *value);

/* Print "NAME MEDIAN P99" lines: a guest's round trips in microseconds, beside other guests. The exit status. */
int neighbours_list(void);

#endif
