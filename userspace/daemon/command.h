/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * command.h - the line with which a program says where it wants to go: "CONNECT <port>\n"
 *
 * As Firecracker's clients send it: any case, any white space between words, words after the port are ignored, a
 * carriage return before the newline is white space. Or, as Dragonball's do, "passfd\n". Pure: bytes in, verdict out.
 *
 * A program of a guest (vguest) has more than one machine to go to: of two numbers the first says which. For a datagram
 * they may be two in any case.
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
	VSD_COMMAND_PASSFD, /* a second message has the socket that is to be connected */
	VSD_COMMAND_BAD,
};

/**
 * struct vsd_command - what the bytes say
 * @what: see the enum
 * @port: for VSD_COMMAND_CONNECT
 * @two: another number follows, @second
 * @keep: the client's own socket is to stay open as long as the one that it passes
 * @len: bytes of the command, newline included; what follows is payload
 */
struct vsd_command {
	u8 what;
	u32 port;
	bool two;
	u32 second;
	bool keep;
	u32 len;
};

struct vsd_command vsd_command_parse(const char *bytes, u32 len);

/*
 * The second message of a client that passes a socket: "PORT" or "PORT keep", with or without a newline; its bytes are
 * one message. VSD_COMMAND_PASSFD, or VSD_COMMAND_BAD.
 */
struct vsd_command vsd_passed_parse(const char *bytes, u32 len);

/* The same for the first line of a datagram, "SENDTO [<cid>] <port>\n": VSD_COMMAND_CONNECT, or anything else. */
struct vsd_command vsd_sendto_parse(const char *bytes, u32 len);

#endif
