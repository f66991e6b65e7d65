/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.h - vcat's command line, checked
 */
#ifndef VCAT_OPTIONS_H
#define VCAT_OPTIONS_H

#include <stdbool.h>

#include "vsock/vsock.h"

enum { MAX_CID_LIST = 64 };

/* CIDs of --allow or --deny. */
struct cid_list {
	unsigned int count;
	uint32_t cids[MAX_CID_LIST];
};

struct options {
	struct vsock_addr addr;	  /* where to dial or listen; type is never 0 */
	uint32_t last_port;	  /* -z: the last port of a range */
	struct vsock_options how; /* timeouts, source address, buffer */
	bool listen;
	bool keep_open;
	bool probe;
	bool send_only;
	bool recv_only;
	bool no_shutdown;
	bool shell; /* command goes to sh -c */
	bool append;
	const char *command;	/* -e or -c */
	const char *output;	/* -o */
	const char *hex_output; /* -x */
	uint32_t idle_ms;	/* 0: never */
	unsigned int max_clients;
	struct cid_list allow;
	struct cid_list deny;
};

/* Exits by itself for --help, --version and whatever is wrong (EXIT_USAGE). */
struct options options_parse(int argc, char **argv);

#endif
