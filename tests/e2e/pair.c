// SPDX-License-Identifier: BSD-2-Clause
#include "pair.h"

#include <string.h>

#define PATIENCE "60000"

const char *pair_vguest(void)
{
	const char *path = getenv("VGUEST");

	return path ? path : VGUEST;
}

void pair_start_host(struct fix *host, const char *option, const char *value)
{
	const char *args[] = { "--guest-cid",	    "7",      "--socket", host->socket, "--uds-path", host->uds,
			       "--connect-timeout", PATIENCE, option,	  value,	NULL };

	fix_start(host, fix_program(), args);
	fix_await(host);
}

void pair_start_guest(struct fix *guest, const char *program, const char *socket, const char *option, const char *value)
{
	static struct fix ready;
	char cid[16];
	const char *args[] = { "--device",	    socket,   "--guest-cid", cid,   "--uds-path", guest->uds,
			       "--connect-timeout", PATIENCE, option,	     value, NULL };

	snprintf(cid, sizeof(cid), "%u", guest->cid);
	fix_start(guest, program, args);
	/* It listens; a client that says nothing does no harm. */
	ready = *guest;
	memcpy(ready.socket, guest->uds, sizeof(guest->uds));
	fix_await(&ready);
}
