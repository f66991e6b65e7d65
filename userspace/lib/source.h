/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source.h - who sent a datagram that came through a hybrid socket: a name or a line says so
 *
 * Pure. What is bound at a port gets datagrams from sockets named PATH_dgram@CID.PORT; others get theirs from
 * PATH_dgram, behind a line "FROM CID PORT\n" (docs/PROTOCOL.md, "hybrid"). What comes from elsewhere has no vsock
 * address.
 */
#ifndef VSOCK_SOURCE_H
#define VSOCK_SOURCE_H

#include "internal.h"

enum {
	SOURCE_LINE_MAX = 32, /* bytes of a line with its newline; the longest legal ones have 29 */
};

/**
 * source_read - read it
 * @name, @name_len: the sending socket's, as the kernel gave it
 * @head, @head_len: the first bytes of the datagram; more than SOURCE_LINE_MAX do no harm
 * @from: filled in any case; without a vsock address cid and port are any and the path is empty
 *
 * Return: how many of the bytes are the line, and not the datagram's.
 */
size_t source_read(const struct sockaddr_un *name, socklen_t name_len, const char *head, size_t head_len,
		   struct vsock_addr *from);

#endif
