/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * front.h - the front-end of a vhost-user session: plays QEMU for a guest that we are ourselves
 *
 * Memory is a memfd that the device maps as two regions, so that chains may cross from one to the other, or as one.
 * Rings lie at its beginning; everything from vu_front_data() on is the caller's.
 */
#ifndef VU_FRONT_H
#define VU_FRONT_H

#include "vu/chan.h"
#include "vu/drv.h"

enum {
	VU_FRONT_RINGS_MAX = 3,
	VU_FRONT_RING_BYTES = 1 << 20, /* of memory per ring: enough for the largest */
	VU_FRONT_REPLY_MS = 5000,      /* for the device to answer */
};

/**
 * struct vu_front_opts - the guest that is played
 * @rings: 2 or 3
 * @ring_size: entries of each
 * @memory: bytes, a multiple of the page size
 * @base: where the rings begin: of a driver that was at work before this session
 * @whole: memory is one region, as for a guest without a hole in its memory
 * @wary: the device is not trusted: it cannot take memory away, nor make us wait for ever by answering slowly
 * @hurry_fd: with @wary, once there is something to read from it no answer is waited for; or 0
 * @features: wanted, VU_BIT(); what the device does not offer is left out
 */
struct vu_front_opts {
	u32 rings;
	u32 ring_size;
	u64 memory;
	u64 features;
	u16 base;
	bool whole;
	bool wary;
	int hurry_fd;
};

/**
 * struct vu_front - a session
 * @chan: to the device
 * @device: the kernel's device instead; see vhost.h
 * @memfd, @mem, @opts: the memory
 * @drv: the rings
 * @features: in force
 * @guest_cid: as the device's configuration says
 */
struct vu_front {
	struct vu_chan chan;
	int device;
	int memfd;
	u8 *mem;
	struct vu_front_opts opts;
	struct vu_drv drv[VU_FRONT_RINGS_MAX];
	u64 features;
	u64 guest_cid;
};

/* Connect to @path, negotiate, start all rings. 0 or -errno. */
int vu_front_open(struct vu_front *f, const char *path, const struct vu_front_opts *opts);
void vu_front_close(struct vu_front *f);

/* The rings and the memory alone, of a guest whose device is reached otherwise (vhost.h). */
void vu_front_release(struct vu_front *f);

/* Guest address of offset @at of the memory. */
u64 vu_front_gpa(u64 at);

/* First offset that is the caller's. */
static inline u64 vu_front_data(const struct vu_front *f)
{
	return (u64)f->opts.rings * VU_FRONT_RING_BYTES;
}

/* Ask for the guest's context identifier anew. 0 or -errno. */
int vu_front_ask_cid(struct vu_front *f);

/* Have what the device writes noted in the dirty log @fd of @size bytes, which is mapped at @offset; or no longer. */
int vu_front_log(struct vu_front *f, int fd, u64 size, u64 offset);
int vu_front_unlog(struct vu_front *f);

/* Send a message; with a reply if @reply. 0 or -errno. For what vu_front_open() does not do. */
int vu_front_call(struct vu_front *f, struct vu_msg *msg, bool reply);

#endif
