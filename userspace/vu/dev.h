/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dev.h - the back-end of a vhost-user session: what the front-end configures
 *
 * One message at a time; what changed comes back as facts. Whatever a front-end sends that makes no sense ends its
 * session with a reason in words, and nothing else.
 *
 * Doorbells: the caller polls vu_ring.kick_fd and closes it. An eventfd lives on in the front-end when it is closed
 * here, and so would its registration with epoll; so this file only ever replaces the number, and the caller, who
 * remembers what it polls, compares after each message (one message replaces one doorbell at most) and after
 * vu_dev_end().
 */
#ifndef VU_DEV_H
#define VU_DEV_H

#include "vu/chan.h"
#include "vu/ring.h"

enum {
	VU_RINGS_MAX = 3, /* rx, tx and, where the front-end does not keep it to itself, the event queue */
	VU_RING_RX = 0,	  /* to the guest */
	VU_RING_TX = 1,	  /* from the guest */
	VU_RING_EVENT = 2,
	VU_RING_SIZE_DEFAULT = 1024,
};

/**
 * struct vu_dev - the device as its front-end configured it
 * @chan: the front-end; @chan.fd is -1 while there is none
 * @mem: the guest's memory
 * @rings: named by VU_RING_*
 * @offered: features that we offer
 * @features: features in force
 * @protocol: protocol features in force
 * @ring_size_max: largest ring we take
 * @config: struct virtio_vsock_config: guest_cid
 * @req_fd: where a device could ask the front-end for things, -1 while there is none; kept open, never used
 */
struct vu_dev {
	struct vu_chan chan;
	struct vu_mem mem;
	struct vu_ring rings[VU_RINGS_MAX];
	u64 offered;
	u64 features;
	u64 protocol;
	u32 ring_size_max;
	__le64 config;
	int req_fd;
};

/* What one message did, as bits. */
enum vu_dev_fact {
	VU_DEV_SERVED = 1 << 0,	   /* there was a complete message; there may be another */
	VU_DEV_RINGS = 1 << 1,	   /* a ring was started, stopped, enabled or moved, or its doorbell changed */
	VU_DEV_RESTARTED = 1 << 2, /* a ring begins elsewhere than it stopped: the guest forgot everything */
	VU_DEV_ENDED = 1 << 3,	   /* the session is over: @why, or NULL where the front-end just closed */
};

struct vu_dev_news {
	u32 facts;
	const char *why;
};

/* A device that offers @features (VU_BIT()) in addition to those of this layer. */
void vu_dev_init(struct vu_dev *d, u64 features, u64 guest_cid, u32 ring_size_max);
void vu_dev_fini(struct vu_dev *d);

/* A front-end connected; the device owns @fd, which is non-blocking. */
void vu_dev_begin(struct vu_dev *d, int fd);

/* Deal with one message, if a complete one is there. */
struct vu_dev_news vu_dev_serve(struct vu_dev *d);

/* Forget the front-end, its memory and its rings. Doorbells: see above. */
void vu_dev_end(struct vu_dev *d);

#endif
