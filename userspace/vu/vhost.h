/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vhost.h - the front-end of a kernel device, /dev/vhost-vsock: a guest without a VM for the host's kernel
 *
 * The same struct vu_front as for a vhost-user session, so what drives one drives the other; but the memory is ours and
 * the device reads it where it is, and there is no ring for events: those are QEMU's affair, not the kernel's.
 */
#ifndef VU_VHOST_H
#define VU_VHOST_H

#include "vu/front.h"

/* Open the device at @path, configure it for the guest @cid and start it. 0 or -errno. */
int vu_vhost_open(struct vu_front *f, const char *path, u64 cid, const struct vu_front_opts *opts);
void vu_vhost_close(struct vu_front *f);

/* Start or stop the rings. */
int vu_vhost_run(struct vu_front *f, bool run);

/* Tell the device of the memory, all of it or with @features in force, anew. */
int vu_vhost_share(struct vu_front *f);

/* Ring @i begins anew, empty, as after a reboot; the device is stopped. */
int vu_vhost_ring(struct vu_front *f, u32 i);

#endif
