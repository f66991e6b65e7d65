/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drv.h - the driver's end of a split virtqueue in memory that we share with a device
 *
 * For front-ends that are their own guest: tests, benchmarks, guests without a VM. The caller decides where buffers lie
 * and what shape a chain has; what the driver does is not judged, so a hostile guest uses it as well. What the device
 * does is: nothing that it can write to leads us astray.
 */
#ifndef VU_DRV_H
#define VU_DRV_H

#include "vu/msg.h"

/* A segment of a chain. */
struct vu_seg {
	u64 gpa;
	u32 len;
	bool write; /* for the device to write */
};

/**
 * struct vu_drv - one virtqueue
 * @size: entries
 * @desc, @avail, @used: its parts
 * @next: chain of free descriptors, and of those of a chain in flight
 * @count: descriptors of the chain in flight that begins there, or 0
 * @free, @nfree: the first free descriptor, how many there are
 * @avail_idx: next slot to fill; @kicked: when the device was last asked whether it wants a kick
 * @last_used: next used entry to look at
 * @kick_fd, @call_fd: doorbells
 * @event_idx: VU_F_EVENT_IDX was negotiated
 * @broken: the device used a chain that was not in flight; nothing more is taken
 */
struct vu_drv {
	u32 size;
	struct vsp_wire_desc *desc;
	u8 *avail;
	u8 *used;
	u16 *next;
	u16 *count;
	u32 free;
	u32 nfree;
	u16 avail_idx;
	u16 kicked;
	u16 last_used;
	int kick_fd;
	int call_fd;
	bool event_idx;
	bool broken;
};

/*
 * Lay a ring of @size out in @mem, which is zeroed and has vu_drv_bytes(); its indices are at @base. 0 or -errno.
 */
int vu_drv_init(struct vu_drv *d, void *mem, u32 size, u16 base, bool event_idx);
void vu_drv_fini(struct vu_drv *d);

/* Offsets of the available and used parts behind the table, and of the end. */
u32 vu_drv_avail_offset(u32 size);
u32 vu_drv_used_offset(u32 size);
u32 vu_drv_bytes(u32 size);

/* Make a chain available. Its head, or -1 where descriptors are short. */
int vu_drv_add(struct vu_drv *d, const struct vu_seg *segs, u32 n);

/* The same through an indirect table, which is written to @table at guest address @gpa. */
int vu_drv_add_indirect(struct vu_drv *d, const struct vu_seg *segs, u32 n, struct vsp_wire_desc *table, u64 gpa);

/* Show the device what was added, and kick it if it wants that. */
void vu_drv_publish(struct vu_drv *d);

/* A chain that the device used: its head, its descriptors being free again; -1 if there is none. */
int vu_drv_used(struct vu_drv *d, u32 *len);

/* Ask for a call at the next used chain. False: there is one already. */
bool vu_drv_await(struct vu_drv *d);

#endif
