/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.h - the control socket: what the daemon tells about itself, and does when asked
 *
 * A client sends one line and gets lines "KIND KEY=VALUE ..." back, the last of which is "ok" or "error TEXT":
 *
 *   guests                               guests, their rings and what was refused
 *   connections                          of all guests
 *   reset CID HOST_CID HOST_PORT GUEST_PORT    end a connection (all of them, where it is one of several types)
 *   reload                               what SIGHUP does
 *   add KEY=VALUE,KEY=VALUE              one more guest, as --vm describes it
 *   remove CID                           the end of a guest
 *   drain CID                            no new connections of a guest; those that there are go on
 *   resume CID                           new ones again
 *   capture CID BYTES                    the guest's packets, with so much of their payload, until the client leaves:
 *                                        no lines, but a file in pcap's format (tap.h)
 *
 * tools/vstat makes tables, JSON and Prometheus' text of it.
 */
#ifndef VSD_CONTROL_H
#define VSD_CONTROL_H

#include "daemon/fleet.h"

enum {
	VSD_CONTROL_LINE_MAX = 4096,	/* a guest with all its paths */
	VSD_CONTROL_PATIENCE_MS = 1000, /* for a client to say its line, and to take each piece of the answer */
};

/* What is asked of the main program; where it has one guest and no file, nothing. */
struct vsd_control_ops {
	bool (*reload)(void *arg, struct vsd_blame *b); /* false: @b says why */
	bool (*add)(void *arg, const char *spec, struct vsd_blame *b);
	bool (*remove)(void *arg, u32 guest_cid); /* false: there is none */
	void *arg;
};

/* A listener at @path, for the owner only. -errno after a message. */
int vsd_control_listen(const char *path);

/* Serve clients of @listener, or of none if that is -1, until there is something to read from @fd. */
void vsd_control_serve(int listener, int fd, struct vsd_fleet *f, const struct vsd_control_ops *ops);

#endif
