/* SPDX-License-Identifier: BSD-2-Clause */
/* pair.h - a vguest in front of a vsockd; each has a directory, and programs of its own at fix.uds */
#ifndef E2E_PAIR_H
#define E2E_PAIR_H

#include "fixture.h"

/* The vguest to test. */
const char *pair_vguest(void);

/* Start vsockd, or the vguest @program in front of the device at @socket, with another option, or NULL. */
void pair_start_host(struct fix *host, const char *option, const char *value);
void pair_start_guest(struct fix *guest, const char *program, const char *socket, const char *option,
		      const char *value);

#endif
