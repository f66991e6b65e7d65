/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dgram.h - vcat -u: what is read at once from standard input is a datagram, and so is what is written at once
 */
#ifndef VCAT_DGRAM_H
#define VCAT_DGRAM_H

#include "options.h"

/* Return: an exit status. */
int dgram_run(const struct options *options);

#endif
