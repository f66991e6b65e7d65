/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * command.h - the command of -e and -c, connected through two pipes
 */
#ifndef VCAT_COMMAND_H
#define VCAT_COMMAND_H

#include <sys/types.h>

#include "options.h"

struct command {
	pid_t pid;
	int in_fd;  /* what it writes; non-blocking */
	int out_fd; /* what it reads; non-blocking */
};

/* Whom it talks to: becomes VSOCK_* and NCAT_* in its environment. */
struct command_ends {
	struct vsock_addr peer;	 /* CID any: unknown */
	struct vsock_addr local; /* port any: unknown */
};

/* 0, or -1 after saying why. */
int command_start(struct command *command, const struct options *options, const struct command_ends *ends);

/* Waits for its end. Return: its exit status, 128 + the signal that killed it, or -1. */
int command_wait(const struct command *command);

#endif
