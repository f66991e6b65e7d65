/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_HOST_SPEED_H
#define TESTS_HOST_SPEED_H

/* Print "NAME VALUE" lines: MB/s, or round trips per second, of those with @only in their name. The exit status. */
int speed_list(const char *only);

/* Print "NAME MEDIAN P99" lines: a guest's round trips in microseconds, beside other guests. The exit status. */
int neighbours_list(void);

#endif
