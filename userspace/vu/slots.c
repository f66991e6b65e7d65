// SPDX-License-Identifier: BSD-2-Clause
#include "vu/slots.h"

#include "kernel/proto/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	CACHE_LINE = 64,
};

static u32 stride(u32 bytes)
{
	return (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

u64 vu_slots_memory(u32 size, u32 bytes)
{
	return (u64)size * stride(bytes);
}

/* Ring sizes are powers of two. */
static struct vu_slot *at(struct vu_slots *s, u32 place)
{
	return &s->row[place & (s->drv->size - 1)];
}

int vu_slots_init(struct vu_slots *s, struct vu_drv *drv, void *mem, u64 gpa, u32 bytes, bool receive)
{
	*s = (struct vu_slots){ .drv = drv, .mem = mem, .gpa = gpa, .bytes = bytes, .receive = receive };
	s->behind = calloc(drv->size, sizeof(*s->behind));
	s->row = calloc(drv->size, sizeof(*s->row));
	s->spare = calloc(drv->size, sizeof(*s->spare));
	if (!s->behind || !s->row || !s->spare) {
		vu_slots_fini(s);
		return -ENOMEM;
	}
	for (u32 i = 0; i < drv->size; i++) {
		s->row[i] = (struct vu_slot){ .slot = (u16)i };
		s->spare[i] = (u16)i;
	}
	if (!receive) {
		s->nspare = drv->size;
		return 0;
	}
	/* All of them are for the device. */
	s->known = s->taken = s->used = drv->size;
	vu_slots_publish(s);
	return 0;
}

void vu_slots_fini(struct vu_slots *s)
{
	free(s->behind);
	free(s->row);
	free(s->spare);
	memset(s, 0, sizeof(*s));
}

/* Buffers that the device has sent are empty again. */
static void reclaim(struct vu_slots *s)
{
	u32 unused;
	int head;

	while ((head = vu_drv_used(s->drv, &unused)) >= 0)
		s->spare[s->nspare++] = s->behind[head];
}

/* One more that can be taken. False: there is none, or the device broke a rule. */
static bool fetch(struct vu_slots *s)
{
	u32 len = s->bytes;
	int head;

	if (!s->receive) {
		if (!s->nspare)
			reclaim(s);
		if (!s->nspare)
			return false;
		*at(s, s->known++) = (struct vu_slot){ .slot = s->spare[--s->nspare], .len = len };
		return true;
	}
	head = vu_drv_used(s->drv, &len);
	if (head < 0)
		return false;
	s->drv->broken = len > s->bytes;
	if (s->drv->broken)
		return false;
	*at(s, s->known++) = (struct vu_slot){ .slot = s->behind[head], .len = len };
	return true;
}

static u64 offset(const struct vu_slots *s, u16 slot)
{
	return (u64)slot * stride(s->bytes);
}

struct vu_pop vu_slots_pop(struct vu_slots *s, struct iovec *iov, u32 room)
{
	const struct vu_slot *b;

	if (!room)
		return (struct vu_pop){ .what = VU_POP_NO_ROOM };
	if (s->taken == s->known && !fetch(s)) {
		if (s->drv->broken)
			return (struct vu_pop){ .what = VU_POP_BROKEN, .why = VSP_REJECT_HEAD };
		return (struct vu_pop){ .what = VU_POP_EMPTY };
	}
	b = at(s, s->taken++);
	iov[0] = (struct iovec){ .iov_base = s->mem + offset(s, b->slot), .iov_len = b->len };
	return (struct vu_pop){ .what = VU_POP_CHAIN, .head = b->slot, .bytes = b->len, .niov = b->len > 0 };
}

void vu_slots_unpop(struct vu_slots *s, u32 n)
{
	assert(s->taken - s->used >= n);
	s->taken -= n;
}

void vu_slots_use(struct vu_slots *s, u16 head, u32 len)
{
	struct vu_slot *b = at(s, s->used++);

	assert(b->slot == head && s->taken - s->used < s->drv->size);
	/* What was received stays what it is: it may be taken once more. */
	if (!s->receive)
		b->len = len;
}

void vu_slots_unuse(struct vu_slots *s, u32 n)
{
	assert(s->used - s->published >= n && s->taken == s->used);
	s->used -= n;
	s->taken -= n;
}

void vu_slots_publish(struct vu_slots *s)
{
	for (; s->published != s->used; s->published++) {
		const struct vu_slot *b = at(s, s->published);
		struct vu_seg seg = { .gpa = s->gpa + offset(s, b->slot),
				      .len = s->receive ? s->bytes : b->len,
				      .write = s->receive };
		int head = vu_drv_add(s->drv, &seg, 1);

		/* There are as many descriptors as buffers. */
		assert(head >= 0);
		s->behind[head] = b->slot;
	}
	vu_drv_publish(s->drv);
}

bool vu_slots_await_past(struct vu_slots *s, u32 left)
{
	if (s->known - s->taken > left)
		return true;
	if (s->receive)
		return !vu_drv_await(s->drv);
	do {
		reclaim(s);
		if (s->nspare)
			return true;
	} while (!s->drv->broken && !vu_drv_await(s->drv));
	return false;
}
