/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serve.h - vcat -l, and one session with a command on either side
 */
#ifndef VCAT_SERVE_H
#define VCAT_SERVE_H

#include "dump.h"
#include "options.h"

/* Listens and relays, or runs a command per client. Return: an exit status. */
int serve(const struct options *options, const struct dump *dump);

/* Starts the command and relays between it and @fd. Return: an exit status. */
int serve_command(const struct options *options, const struct dump *dump, int fd, const struct vsock_addr *peer,
		  const struct vsock_addr *local);

#endif
