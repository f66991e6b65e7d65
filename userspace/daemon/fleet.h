/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fleet.h - all guests of the daemon, and the threads among which they are spread
 *
 * Used by the main thread, which serves no guest. A guest belongs to the thread that serves it; whatever is asked of it
 * goes through vsd_loop_call().
 */
#ifndef VSD_FLEET_H
#define VSD_FLEET_H

#include "daemon/guest.h"

/**
 * struct vsd_fleet - the guests and the threads
 * @config: what they were configured with
 * @loops, @nloops: the threads
 * @guests, @n: the guests; there is room for VSD_GUESTS_MAX
 */
struct vsd_fleet {
	const struct vsd_config *config;
	struct vsd_loop *loops;
	u32 nloops;
	struct vsd_guest **guests;
	u32 n;
};

/* Start threads and guests. 0, or -errno after a message, and nothing was started. */
int vsd_fleet_start(struct vsd_fleet *f, const struct vsd_config *config);

/*
 * Go on with another configuration, which replaces the old: guests that are not in it end, those that changed in a way
 * that they cannot take begin anew, the others keep their connections. Returns how many could not begin.
 */
u32 vsd_fleet_reload(struct vsd_fleet *f, const struct vsd_config *config);

/* One more guest, described by the last of the configuration's. 0, or -errno after a message. */
int vsd_fleet_add(struct vsd_fleet *f, const struct vsd_guest_opts *opts);

/* The end of a guest. False: there is none. */
bool vsd_fleet_remove(struct vsd_fleet *f, u32 guest_cid);

/* No new connections of a guest, or again. False: there is none. */
bool vsd_fleet_drain(struct vsd_fleet *f, u32 guest_cid, bool drain);

/* Let each guest print, by its own thread. */
void vsd_fleet_print(struct vsd_fleet *f, void (*print)(const struct vsd_guest *g, FILE *out), FILE *out);

/* A connection that is to end with a reset. */
struct vsd_reset {
	u32 guest_cid;
	u32 host_cid;
	u32 host_port;
	u32 guest_port;
};

/* False: there is none. */
bool vsd_fleet_reset(struct vsd_fleet *f, const struct vsd_reset *what);

/* Show @fd, which is kept, the packets of a guest. 0, -ENOENT: no such guest; else as vsd_tap_begin(). */
int vsd_fleet_capture(struct vsd_fleet *f, u32 guest_cid, u32 payload, int fd);

/* Write all counters to the log. */
void vsd_fleet_report(struct vsd_fleet *f, enum vsd_level level);

/* End everything. */
void vsd_fleet_stop(struct vsd_fleet *f);

#endif
