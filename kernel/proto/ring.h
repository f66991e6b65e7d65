/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ring.h - the arithmetic of a split virtqueue, seen from the device
 *
 * virtio 1.4 2.7. Where the ring's memory lies and how it is read is the shell's affair (mapped, user or kernel
 * memory); whatever was read from it is judged here before it is used. Descriptors are copied once and judged from the
 * copy.
 */
#ifndef VSP_RING_H
#define VSP_RING_H

#include "wire.h"

enum {
	VSP_RING_SIZE_MAX = 32768, /* 2.7.1: a power of 2, at most this */
	/* 2.7.5 */
	VSP_DESC_NEXT = 1,
	VSP_DESC_WRITE = 2,
	VSP_DESC_INDIRECT = 4,
	/* 2.7.6, 2.7.8 */
	VSP_AVAIL_NO_INTERRUPT = 1,
	VSP_USED_NO_NOTIFY = 1,
};

/* A descriptor as it lies in the ring. */
struct vsp_wire_desc {
	__le64 addr;
	__le32 len;
	__le16 flags;
	__le16 next;
};
static_assert(sizeof(struct vsp_wire_desc) == 16, "virtio 1.4 2.7.5");

struct vsp_desc {
	u64 addr;
	u32 len;
	u16 flags;
	u16 next;
};

static inline struct vsp_desc vsp_desc_decode(const struct vsp_wire_desc *w)
{
	struct vsp_desc d = {
		.addr = le64_to_cpu(w->addr),
		.len = le32_to_cpu(w->len),
		.flags = le16_to_cpu(w->flags),
		.next = le16_to_cpu(w->next),
	};

	return d;
}

/* A size that a front-end may configure: a power of two from 1 to VSP_RING_SIZE_MAX. */
static inline bool vsp_ring_size_valid(u32 size)
{
	return size && size <= VSP_RING_SIZE_MAX && !(size & (size - 1));
}

/* The slot of a free-running index. @size is valid. */
static inline u16 vsp_ring_slot(u16 idx, u32 size)
{
	return idx & (u16)(size - 1);
}

/* Bytes of the three parts, event fields included; and offsets in them: virtio 1.4 2.7.6, 2.7.8. */
static inline u32 vsp_desc_bytes(u32 size)
{
	return size * 16;
}
static inline u32 vsp_avail_bytes(u32 size)
{
	return 6 + size * 2;
}
static inline u32 vsp_used_bytes(u32 size)
{
	return 6 + size * 8;
}
static inline u32 vsp_avail_slot_offset(u16 slot)
{
	return 4 + slot * 2u;
}
static inline u32 vsp_used_slot_offset(u16 slot)
{
	return 4 + slot * 8u;
}
static inline u32 vsp_used_event_offset(u32 size)
{
	return 4 + size * 2;
}
static inline u32 vsp_avail_event_offset(u32 size)
{
	return 4 + size * 8;
}

/**
 * vsp_ring_avail - how many chains the driver has made available
 * @avail_idx: as just read from the ring
 * @last_avail: the next one we would take
 * @size: entries of the ring
 *
 * Return: the number, or -1 where the driver claims more than the ring holds (VSP_REJECT_AVAIL; the ring is broken).
 */
static inline s32 vsp_ring_avail(u16 avail_idx, u16 last_avail, u32 size)
{
	u16 n = (u16)(avail_idx - last_avail);

	return n > size ? -1 : n;
}

/**
 * vsp_ring_notify_due - event-idx: did a move from @old_idx to @new_idx pass the index that the other end waits for?
 * @new_idx: our index now
 * @old_idx: our index when the other end was last notified
 * @event: used_event or avail_event as just read: virtio 1.4 2.7.7.2, 2.7.10
 */
static inline bool vsp_ring_notify_due(u16 event, u16 new_idx, u16 old_idx)
{
	return (u16)(new_idx - event - 1) < (u16)(new_idx - old_idx);
}

/**
 * struct vsp_chain - the walk along one chain
 * @table_size: entries of the table that is being walked (the ring's, or the indirect one's)
 * @left: descriptors that may still follow; a chain longer than its table is a loop
 * @readable: bytes the device may read so far
 * @writable: bytes the device may write so far
 * @indirect: the walk is inside an indirect table
 */
struct vsp_chain {
	u32 table_size;
	u32 left;
	u32 readable;
	u32 writable;
	bool indirect;
};

enum vsp_chain_what {
	VSP_CHAIN_BAD,	 /* @why says it; the chain cannot be used */
	VSP_CHAIN_MORE,	 /* use this descriptor, go on at @next */
	VSP_CHAIN_LAST,	 /* use this descriptor; it is the last */
	VSP_CHAIN_TABLE, /* this one is a table of @entries descriptors at its addr: go on there at 0 */
};

struct vsp_chain_verdict {
	u8 what;
	u8 why;
	u16 next;
	u32 entries;
};

/* Begin a walk at @head. Check the verdict: MORE means that descriptor @head (= next) is to be read. */
struct vsp_chain_verdict vsp_chain_begin(struct vsp_chain *c, u16 head, u32 ring_size);

/**
 * vsp_chain_step - judge one descriptor of a chain
 * @c: the walk
 * @d: a copy of the descriptor
 * @may_indirect: VIRTIO_F_INDIRECT_DESC was negotiated
 *
 * Readable descriptors come before writable ones (2.7.4.2); an indirect table is not nested, not followed by anything
 * and holds at least one entry; its write flag is ignored (2.7.5.3). Called only after VSP_CHAIN_MORE or
 * VSP_CHAIN_TABLE, each of which leaves at least one descriptor to come. Descriptors of no length are passed over by
 * the caller.
 */
struct vsp_chain_verdict vsp_chain_step(struct vsp_chain *c, const struct vsp_desc *d, bool may_indirect);

#endif
