/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device.h - a vhost-user device made of packets, the counterpart of peer.h
 *
 * Follows no rule of the protocol by itself, so that tests can keep them or break them.
 */
#ifndef E2E_DEVICE_H
#define E2E_DEVICE_H

#include "vu/dev.h"

#include "kernel/proto/wire.h"

struct device {
	int listener;
	struct vu_dev dev;
};

/* Listen at @path, as the device of the guest @cid with @features. */
void device_listen(struct device *d, const char *path, u64 cid, u64 features);

/* From now on it calls its guest so. */
void device_call(struct device *d, u64 cid);

/* The next driver that comes, and all of its rings run. */
void device_accept(struct device *d);

/* The session ends. */
void device_drop(struct device *d);
void device_close(struct device *d);

/* Send a packet, of whose payload @have bytes are there. */
void device_send(struct device *d, struct vsp_hdr hdr, const void *payload, u32 have);

/* The next packet; its payload is copied to @buf (64 KiB). */
struct vsp_hdr device_recv(struct device *d, void *buf);

/* The same, but for credit updates and requests; it has this op and type. */
struct vsp_hdr device_expect(struct device *d, enum vsp_type type, enum vsp_op op);

/* The event @id, of @len bytes. */
void device_event(struct device *d, u32 id, u32 len);

/* Has the driver gone? Waits for it. */
bool device_gone(struct device *d);

#endif
