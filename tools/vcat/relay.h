/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * relay.h - bytes between one input, one output and one or more connections
 *
 * One connection: input to it, it to the output. Several (-l -k): the input goes to all of them, at the pace of the
 * slowest, and what they send goes to the output in turns. Each direction ends on its own: the end of the input
 * half-closes the connections, the end of the only connection's data closes the output.
 */
#ifndef VCAT_RELAY_H
#define VCAT_RELAY_H

#include "door.h"
#include "dump.h"
#include "options.h"

struct relay_setup {
	const struct options *options;
	const struct dump *dump;
	struct door *door;	/* clients come in here; NULL: there is only @client_fd */
	int client_fd;		/* an established connection, or -1 */
	struct vsock_addr peer; /* of client_fd */
	int in_fd;
	int out_fd;
	bool command; /* in_fd and out_fd are a command's, whose going away is no error */
};

/* Takes over all three descriptors and closes them. Return: EXIT_OK, or EXIT_NETWORK after saying why. */
int relay_run(const struct relay_setup *setup);

#endif
