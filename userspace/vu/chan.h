/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chan.h - vhost-user messages over a Unix socket, for both ends
 *
 * A message may arrive in any number of pieces. Descriptors never leak: they belong to the message under construction
 * and are closed with it unless somebody took them.
 */
#ifndef VU_CHAN_H
#define VU_CHAN_H

#include "vu/msg.h"

/**
 * struct vu_chan - one end of the socket
 * @fd: the socket, or -1
 * @have: bytes of the current message that arrived, header included
 * @in: the message under construction, or complete after VU_CHAN_MSG
 */
struct vu_chan {
	int fd;
	u32 have;
	struct vu_msg in;
};

enum vu_chan_got {
	VU_CHAN_MORE, /* nothing complete yet; wait until the socket is readable */
	VU_CHAN_MSG,  /* @in is complete; call vu_chan_done() when it was dealt with */
	VU_CHAN_EOF,  /* the other end closed */
	VU_CHAN_BAD,  /* the other end sent something that is no message: *why */
};

/* Begin with a connected socket, which the channel owns from now on. */
void vu_chan_open(struct vu_chan *ch, int fd);

/* Close the socket and whatever descriptors are left. Harmless if closed already. */
void vu_chan_close(struct vu_chan *ch);

/* Read on. Sleeps only where the socket is a blocking one. On VU_CHAN_BAD *@why says in words what was wrong. */
enum vu_chan_got vu_chan_recv(struct vu_chan *ch, const char **why);

/* Done with @in: close the descriptors that nobody took. */
void vu_chan_done(struct vu_chan *ch);

/* Send a message with its descriptors, whole or not at all. 0 or -errno (-EAGAIN: the peer does not read). */
int vu_chan_send(struct vu_chan *ch, const struct vu_msg *msg);

/* Take descriptor @i out of a message; the caller owns it. -1 if there is none. */
static inline int vu_msg_take_fd(struct vu_msg *msg, u32 i)
{
	int fd = -1;

	if (i < msg->nfds) {
		fd = msg->fds[i];
		msg->fds[i] = -1;
	}
	return fd;
}

#endif
