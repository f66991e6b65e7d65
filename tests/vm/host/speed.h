/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_HOST_SPEED_H
#define TESTS_HOST_SPEED_H

/* Print "NAME VALUE" lines: MB/s, or round trips per second. The exit status. */
int speed_list(void);

/* Print "NAME MEDIAN P99" lines: a guest's round trips in microseconds, beside other guests. The exit status. */
int neighbours_list(void);

#endif
