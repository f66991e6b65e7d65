// SPDX-License-Identifier: BSD-2-Clause
/*
 * format.c - a struct vsock_addr in its canonical spelling
 */
#include <stdio.h>

#include "internal.h"

#ifndef VSOCK_VERSION
#define VSOCK_VERSION "unknown"
#endif

static const char *prefix_of(const struct vsock_addr *addr)
{
	switch (addr->type) {
	case SOCK_SEQPACKET:
		return "vsock-seqpacket";
	case SOCK_DGRAM:
		return "vsock-dgram";
	default:
		return "vsock";
	}
}

VSOCK_API int vsock_format(const struct vsock_addr *addr, char *buf, size_t size)
{
	char port[16] = "any", cid[16] = "";
	int len;

	if (addr->port != VSOCK_PORT_ANY)
		snprintf(port, sizeof(port), "%u", addr->port);
	if (addr->flags & VSOCK_ADDR_SELF)
		snprintf(cid, sizeof(cid), "self");
	else if (addr->cid != VSOCK_CID_ANY)
		snprintf(cid, sizeof(cid), "%u", addr->cid);
	if (addr->kind == VSOCK_KIND_HYBRID)
		len = snprintf(buf, size, "vsock-mux:%s:%s", addr->path, port);
	else
		len = snprintf(buf, size, "%s:%s:%s", prefix_of(addr), cid, port);
	if ((size_t)len < size)
		return len;
	if (size)
		buf[0] = '\0';
	return -ENOSPC;
}

VSOCK_API const char *vsock_version(void)
{
	return VSOCK_VERSION;
}
