/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.h - who is at the other end of the rings, and how they came to be there
 *
 * Two files implement it, and each program has one of them. In vsockd (daemon/session.c) we are the device, and virtual
 * machine monitors come to us. In vguest (guest/session.c) we are the guest, and go to the device. Everything else of
 * a guest's is the same for both: Unix sockets here, packets there.
 */
#ifndef VSD_SESSION_H
#define VSD_SESSION_H

#include "daemon/command.h"
#include "daemon/guest.h"

/* Who the other is, for the log. */
extern const char vsd_session_other[];

/* What the rings of vu_dev are called here, by VU_RING_RX and VU_RING_TX. */
extern const char *const vsd_session_ring[2];

/* Be ready for the other, or go there. 0, or -errno after a message. */
int vsd_session_open(struct vsd_guest *g);

/* The end, without a word to connections. */
void vsd_session_close(struct vsd_guest *g);

/* An event of its socket or of a doorbell. */
void vsd_session_event(struct vsd_watch *w);

/* It is time: vsd_guest.session_at. */
void vsd_session_again(struct vsd_guest *g);

/* After a turn: did the other break what makes a session? Then it was ended. */
bool vsd_session_broken(struct vsd_guest *g);

/* Is the other there? */
bool vsd_session_up(const struct vsd_guest *g);

/* Where a program wants to go. */
struct vsp_addr vsd_session_address(const struct vsd_guest *g, const struct vsd_command *cmd);

#endif
