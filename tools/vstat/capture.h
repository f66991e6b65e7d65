/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * capture.h - packets of a guest, from the daemon to the standard output
 */
#ifndef VSTAT_CAPTURE_H
#define VSTAT_CAPTURE_H

#include <stdbool.h>

/* Copy what comes from the daemon until it ends, or nobody reads it any more. NULL, or what went wrong. */
const char *capture(int fd);

#endif
