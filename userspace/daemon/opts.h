/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * opts.h - the command line
 */
#ifndef VSD_OPTS_H
#define VSD_OPTS_H

#include "daemon/log.h"

enum {
	VSD_PATH_MAX = 108,	  /* bytes of sockaddr_un.sun_path */
	VSD_PORT_SUFFIX_MAX = 11, /* "_4294967295" */

	VSD_GUEST_CID_DEFAULT = 3,
	VSD_CONNS_DEFAULT = 4096,
	VSD_CONNS_MAX = 1 << 20,
	VSD_QUEUE_SIZE_DEFAULT = 1024,
	/*
	 * What an unread connection may cost us. 256 KiB is what a stock kernel promises; with 64 KiB a sender of 64
	 * KiB packets stops after each.
	 */
	VSD_WINDOW_DEFAULT = 256 << 10,
	VSD_HANDSHAKE_TIMEOUT_MS = 10000, /* for the CONNECT line: somebody may type it */
	/* for the answer of the guest, or of a host listener whose backlog is full */
	VSD_CONNECT_TIMEOUT_MS = 2000,
	VSD_CLOSE_TIMEOUT_MS = 2000,   /* for the guest's RST after SHUTDOWN */
	VSD_LINGER_TIMEOUT_MS = 30000, /* for a host reader to take the last bytes of a guest that is gone */
	VSD_TIMEOUT_MAX_MS = 3600000,
	VSD_POLL_MAX_US = 1000000,
};

/**
 * struct vsd_guest_opts - one guest
 * @guest_cid: its address
 * @socket: where its front-end connects
 * @uds_path: where host clients connect; @uds_path_PORT is where host listeners are
 * @window: receive window of a connection
 * @queue_size: largest ring
 * @conns_max: most connections
 * @handshake_ms, @connect_ms, @close_ms, @linger_ms: deadlines
 */
struct vsd_guest_opts {
	u32 guest_cid;
	const char *socket;
	const char *uds_path;
	u32 window;
	u32 queue_size;
	u32 conns_max;
	u32 handshake_ms;
	u32 connect_ms;
	u32 close_ms;
	u32 linger_ms;
};

enum vsd_opts_what {
	VSD_OPTS_RUN,
	VSD_OPTS_DONE, /* help or version was printed */
	VSD_OPTS_BAD,  /* what is wrong was printed */
};

/**
 * struct vsd_opts - the command line
 * @level: what is logged
 * @poll_us: how long to look for work before sleeping
 * @guest: the guest
 */
struct vsd_opts {
	enum vsd_level level;
	u32 poll_us;
	struct vsd_guest_opts guest;
};

enum vsd_opts_what vsd_opts_parse(struct vsd_opts *o, int argc, char **argv);

#endif
