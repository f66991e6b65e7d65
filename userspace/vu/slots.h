/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slots.h - the driver's end of a virtqueue whose buffers are of one size
 *
 * It looks like the device's end (ring.h): buffers are taken in order, may be put back, and are used in the order in
 * which they were taken. On a ring for receiving, one is taken when the device has filled it, and used when it may be
 * filled again. On a ring for sending, an empty one is taken, filled, and used: with its length, for the device.
 *
 * Nothing that the device writes is believed: it can end what it has with us, and nothing else.
 */
#ifndef VU_SLOTS_H
#define VU_SLOTS_H

#include "vu/drv.h"

#include <sys/uio.h>

enum vu_pop_what {
	VU_POP_EMPTY,	/* the driver made nothing more available */
	VU_POP_CHAIN,	/* a chain was taken */
	VU_POP_NO_ROOM, /* a chain is there, but has more segments than the caller has room for */
	VU_POP_BROKEN,	/* @why says which rule; the ring is broken from now on */
};

/**
 * struct vu_pop - a chain that was taken
 * @what: see the enum
 * @why: enum vsp_reject, for VU_POP_BROKEN
 * @head: give it back to vu_ring_use()
 * @bytes: of all segments
 * @niov: segments; none is empty
 */
struct vu_pop {
	u8 what;
	u8 why;
	u16 head;
	u32 bytes;
	u32 niov;
};

/* A buffer that is not in flight, with the bytes that are in it or have room there. */
struct vu_slot {
	u16 slot;
	u32 len;
};

/**
 * struct vu_slots - the buffers of a ring, one for each of its entries
 * @drv: the ring
 * @mem, @gpa: where the first of them is; @bytes: of each
 * @receive: the device writes to them
 * @behind: the buffer of a chain in flight, by its head
 * @row: those that are not in flight, in order: from @published on they are used, from @used on taken, from @taken on
 *	 they can be taken, and @known is where they end
 * @spare, @nspare: those of a ring for sending that are in no row
 */
struct vu_slots {
	struct vu_drv *drv;
	u8 *mem;
	u64 gpa;
	u32 bytes;
	bool receive;
	u16 *behind;
	struct vu_slot *row;
	u32 published;
	u32 used;
	u32 taken;
	u32 known;
	u16 *spare;
	u32 nspare;
};

/* Bytes of memory for @bytes in each of @size buffers, which begin where no two share a cache line. */
u64 vu_slots_memory(u32 size, u32 bytes);

/* Those of @drv, with room for @bytes each, at @mem, which the device finds at @gpa. 0 or -ENOMEM. */
int vu_slots_init(struct vu_slots *s, struct vu_drv *drv, void *mem, u64 gpa, u32 bytes, bool receive);
void vu_slots_fini(struct vu_slots *s);

/* As the functions of ring.h with these names. */
struct vu_pop vu_slots_pop(struct vu_slots *s, struct iovec *iov, u32 room);
void vu_slots_unpop(struct vu_slots *s, u32 n);
void vu_slots_use(struct vu_slots *s, u16 head, u32 len);
void vu_slots_unuse(struct vu_slots *s, u32 n);
void vu_slots_publish(struct vu_slots *s);
bool vu_slots_await_past(struct vu_slots *s, u32 left);

#endif
