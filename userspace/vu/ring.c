// SPDX-License-Identifier: BSD-2-Clause
#include "vu/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* Fields of the ring that the driver writes meanwhile, or reads. */
static u16 load16(const u8 *p)
{
	return le16_to_cpu(__atomic_load_n((const u16 *)(const void *)p, __ATOMIC_RELAXED));
}

static void store16(void *p, u16 v)
{
	u16 *field = p;

	__atomic_store_n(field, (u16)cpu_to_le16(v), __ATOMIC_RELAXED);
}

void vu_ring_turn(struct vu_ring *r, struct vu_slots *slots)
{
	r->slots = slots;
	r->size = slots->drv->size;
	r->started = true;
	r->enabled = true;
}

void vu_ring_init(struct vu_ring *r)
{
	memset(r, 0, sizeof(*r));
	r->kick_fd = -1;
	r->call_fd = -1;
	r->err_fd = -1;
}

/* @len bytes of the used part were written. */
static void log_used(struct vu_ring *r, u32 offset, u32 len)
{
	if (r->logged)
		vu_mem_dirty(r->mem, r->log_gpa + offset, len);
}

/* Write a field of the used part. */
static void store_used(struct vu_ring *r, u32 offset, u16 v)
{
	store16(r->used + offset, v);
	log_used(r, offset, sizeof(v));
}

bool vu_ring_map(struct vu_ring *r, struct vu_mem *m)
{
	r->desc = NULL;
	r->mem = m;
	if (!r->size || !r->addressed || r->desc_uva % 16 || r->avail_uva % 2 || r->used_uva % 4)
		return false;
	r->avail = vu_mem_at_uva(m, r->avail_uva, vsp_avail_bytes(r->size));
	r->used = vu_mem_at_uva(m, r->used_uva, vsp_used_bytes(r->size));
	if (r->avail && r->used)
		r->desc = vu_mem_at_uva(m, r->desc_uva, vsp_desc_bytes(r->size));
	return r->desc != NULL;
}

u32 vu_ring_waiting(const struct vu_ring *r)
{
	if (r->slots)
		return r->slots->known - r->slots->taken;
	return vu_ring_live(r) ? (u16)(load16(r->avail + 2) - r->last_avail) : 0;
}

/* How many chains wait; -1 where the ring broke. */
static s32 waiting(struct vu_ring *r)
{
	if (r->seen_avail == r->last_avail) {
		r->seen_avail = load16(r->avail + 2);
		/* Pairs with the driver's barrier before it moves the index: the slots up to it are read after it. */
		atomic_thread_fence(memory_order_acquire);
	}
	return vsp_ring_avail(r->seen_avail, r->last_avail, r->size);
}

/**
 * struct walk - a chain on the way into an iovec
 * @r, @m: where
 * @table: guest address of the indirect table, if @chain.indirect
 * @iov, @room, @niov: the result
 */
struct walk {
	struct vu_ring *r;
	struct vu_mem *m;
	struct vsp_chain chain;
	u64 table;
	struct iovec *iov;
	u32 room;
	u32 niov;
};

/* Copy descriptor @i of the table being walked, once. */
static bool fetch(struct walk *w, u16 i, struct vsp_desc *d)
{
	struct vsp_wire_desc wire;

	if (w->chain.indirect) {
		struct vu_span s = vu_mem_at(w->m, w->table + i * sizeof(wire), sizeof(wire));

		if (s.len < sizeof(wire))
			return false;
		memcpy(&wire, s.ptr, sizeof(wire));
	} else {
		memcpy(&wire, &w->r->desc[i], sizeof(wire));
	}
	*d = vsp_desc_decode(&wire);
	return true;
}

enum add_what { ADDED, ADD_NO_ROOM, ADD_NO_MEMORY };

static enum add_what add_segment(struct walk *w, u64 gpa, u64 len)
{
	while (len) {
		struct vu_span s = vu_mem_at(w->m, gpa, len);

		if (!s.ptr)
			return ADD_NO_MEMORY;
		if (w->niov == w->room)
			return ADD_NO_ROOM;
		w->iov[w->niov++] = (struct iovec){ .iov_base = s.ptr, .iov_len = s.len };
		gpa += s.len;
		len -= s.len;
	}
	return ADDED;
}

/* Walk the chain at @head. VSP_OK with *@full set means that the caller's iovec is too short. */
static enum vsp_reject walk_chain(struct walk *w, u16 head, bool *full)
{
	struct vsp_chain_verdict v = vsp_chain_begin(&w->chain, head, w->r->size);

	while (v.what == VSP_CHAIN_MORE || v.what == VSP_CHAIN_TABLE) {
		struct vsp_desc d;
		enum add_what added;

		if (!fetch(w, v.next, &d))
			return VSP_REJECT_MEMORY;
		v = vsp_chain_step(&w->chain, &d, w->r->indirect);
		if (v.what == VSP_CHAIN_BAD)
			break;
		if (v.what == VSP_CHAIN_TABLE) {
			w->table = d.addr;
			continue;
		}
		added = add_segment(w, d.addr, d.len);
		if (added == ADD_NO_MEMORY)
			return VSP_REJECT_MEMORY;
		*full = added == ADD_NO_ROOM;
		if (*full)
			return VSP_OK;
	}
	return v.what == VSP_CHAIN_BAD ? v.why : VSP_OK;
}

static struct vu_pop broken(struct vu_ring *r, enum vsp_reject why)
{
	r->broken = true;
	if (r->err_fd >= 0) {
		const u64 one = 1;
		ssize_t ignored = write(r->err_fd, &one, sizeof(one));

		(void)ignored;
	}
	return (struct vu_pop){ .what = VU_POP_BROKEN, .why = (u8)why };
}

struct vu_pop vu_ring_pop(struct vu_ring *r, struct vu_mem *m, bool writable, struct iovec *iov, u32 room)
{
	struct walk w = { .r = r, .m = m, .iov = iov, .room = room < VU_CHAIN_IOV_MAX ? room : VU_CHAIN_IOV_MAX };
	struct vu_pop p = { .what = VU_POP_CHAIN };
	enum vsp_reject why;
	bool full = false;
	s32 n;

	if (!vu_ring_live(r))
		return (struct vu_pop){ .what = VU_POP_EMPTY };
	if (r->slots) {
		p = vu_slots_pop(r->slots, iov, room);
		r->broken = p.what == VU_POP_BROKEN;
		return p;
	}
	n = waiting(r);
	if (n < 0)
		return broken(r, VSP_REJECT_AVAIL);
	if (n == 0)
		return (struct vu_pop){ .what = VU_POP_EMPTY };
	p.head = load16(r->avail + vsp_avail_slot_offset(vsp_ring_slot(r->last_avail, r->size)));
	why = walk_chain(&w, p.head, &full);
	if (why == VSP_OK && full) {
		if (room >= VU_CHAIN_IOV_MAX)
			return broken(r, VSP_REJECT_CHAIN);
		return (struct vu_pop){ .what = VU_POP_NO_ROOM };
	}
	if (why == VSP_OK && (writable ? w.chain.readable : w.chain.writable))
		why = VSP_REJECT_ORDER;
	if (why != VSP_OK)
		return broken(r, why);
	r->last_avail++;
	p.bytes = w.chain.readable + w.chain.writable;
	p.niov = w.niov;
	return p;
}

void vu_ring_unpop(struct vu_ring *r, u16 n)
{
	if (r->slots) {
		vu_slots_unpop(r->slots, n);
		return;
	}
	r->last_avail = (u16)(r->last_avail - n);
}

void vu_ring_use(struct vu_ring *r, u16 head, u32 len)
{
	u32 offset = vsp_used_slot_offset(vsp_ring_slot(r->used_idx, r->size));
	__le32 elem[2] = { cpu_to_le32(head), cpu_to_le32(len) };

	if (r->slots) {
		vu_slots_use(r->slots, head, len);
		return;
	}
	memcpy(r->used + offset, elem, sizeof(elem));
	log_used(r, offset, sizeof(elem));
	r->used_idx++;
}

void vu_ring_unuse(struct vu_ring *r, u16 n)
{
	if (r->slots) {
		vu_slots_unuse(r->slots, n);
		return;
	}
	assert((u16)(r->used_idx - r->published) >= n);
	r->used_idx = (u16)(r->used_idx - n);
	vu_ring_unpop(r, n);
}

static bool call_due(struct vu_ring *r)
{
	u16 before = r->signalled;

	r->signalled = r->published;
	if (!r->event_idx)
		return !(load16(r->avail) & VSP_AVAIL_NO_INTERRUPT);
	if (r->calls_forced) {
		r->calls_forced = false;
		return true;
	}
	return vsp_ring_notify_due(load16(r->avail + vsp_used_event_offset(r->size)), r->published, before);
}

void vu_ring_publish(struct vu_ring *r)
{
	const u64 one = 1;

	if (r->slots)
		vu_slots_publish(r->slots);
	if (r->published == r->used_idx || !r->used)
		return;
	r->published = r->used_idx;
	/* Pairs with the driver's barrier after it read the index: the entries, and the bytes, come before it. */
	atomic_thread_fence(memory_order_release);
	store_used(r, 2, r->published);
	/* Pairs with the driver's barrier between setting its event index (or flag) and looking at ours once more. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!call_due(r) || r->call_fd < 0 || r->stuck)
		return;
	/* Full (EAGAIN) means that a call is pending already. It does not wait unless the front-end makes it. */
	if (write(r->call_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		r->stuck = true;
}

bool vu_ring_await_past(struct vu_ring *r, u16 left)
{
	u16 next = (u16)(r->last_avail + left);

	if (!vu_ring_live(r))
		return false;
	if (r->slots)
		return vu_slots_await_past(r->slots, left);
	if (r->event_idx)
		store_used(r, vsp_avail_event_offset(r->size), next);
	else
		store_used(r, 0, 0);
	/* Pairs with the driver's barrier between making a chain available and asking whether we want to know. */
	atomic_thread_fence(memory_order_seq_cst);
	if (load16(r->avail + 2) == next)
		return false;
	vu_ring_hush(r);
	return true;
}

void vu_ring_hush(struct vu_ring *r)
{
	/* With an event index a stale index behind us is silence enough: the driver passes it once in 65,536 chains. */
	if (vu_ring_live(r) && !r->slots && !r->event_idx)
		store_used(r, 0, VSP_USED_NO_NOTIFY);
}
