/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reply.h - the answer of a hybrid socket to "CONNECT <port>\n": one line, "OK <number>\n"
 *
 * Pure: bytes in, a verdict out. Payload may follow the line at once, so the reader says how many of the bytes it was
 * shown belong to the line, and the caller takes exactly those out of the socket.
 */
#ifndef VSOCK_REPLY_H
#define VSOCK_REPLY_H

#include <stddef.h>
#include <stdint.h>

enum {
	REPLY_MAX = 32, /* bytes of a line with its newline; the longest legal one has 14 */
};

enum reply_state {
	REPLY_MORE, /* the line has not ended */
	REPLY_OK,   /* "OK <number>" */
	REPLY_BAD,  /* anything else, or longer than REPLY_MAX */
};

struct reply {
	char line[REPLY_MAX];
	size_t len;
	uint32_t number; /* of "OK <number>": the host's port, from some devices the guest's */
	enum reply_state state;
};

/**
 * reply_feed - look at bytes that wait in the socket
 * @reply: zeroed before the first call; state must be REPLY_MORE
 * @bytes, @len: what a peek showed
 *
 * Return: how many of them belong to the line; never past its newline.
 */
size_t reply_feed(struct reply *reply, const char *bytes, size_t len);

#endif
