/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * command.h - the line with which a host client says where it wants to go: "CONNECT <port>\n"
 *
 * As Firecracker's clients send it: any case, any white space between words, words after the port are ignored, a
 * carriage return before the newline is white space. Pure: bytes in, verdict out.
 */
#ifndef VSD_COMMAND_H
#define VSD_COMMAND_H

#include "kernel/proto/env.h"

enum {
	VSD_COMMAND_MAX = 32, /* bytes of a command, newline included */
};

enum vsd_command_what {
	VSD_COMMAND_PART, /* no newline yet */
	VSD_COMMAND_CONNECT,
	VSD_COMMAND_BAD,
};

/**
 * struct vsd_command - what the bytes say
 * @what: see the enum
 * @port: for VSD_COMMAND_CONNECT
 * @len: bytes of the command, newline included; what follows is payload
 */
struct vsd_command {
	u8 what;
	u32 port;
	u32 len;
};

struct vsd_command vsd_command_parse(const char *bytes, u32 len);

/* The same for the first line of a datagram, "SENDTO <port>\n": VSD_COMMAND_CONNECT, or anything else. */
struct vsd_command vsd_sendto_parse(const char *bytes, u32 len);

#endif
