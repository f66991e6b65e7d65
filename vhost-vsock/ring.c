// SPDX-License-Identifier: GPL-2.0-only
/*
 * ring.c - the device's end of a split virtqueue in user memory
 *
 * Whatever is read from the guest is copied once and judged by proto/ring.h. Chains are used in the order in which they
 * were taken; used entries are collected and shown together, with at most one interrupt for all of them.
 *
 * A guest that breaks a rule, and memory that is not there, are the same to the caller: the ring is broken.
 */
#include <linux/uaccess.h>

#include "host.h"

static void *mapped(const struct vh_ring *r, int map, u32 offset)
{
	return r->near->maps[map].at + offset;
}

/* An index or an event of the part that the guest writes. */
static bool load16(const struct vh_ring *r, u32 offset, u16 *v)
{
	__le16 raw;

	if (unlikely(r->by_map)) {
		*v = le16_to_cpu(READ_ONCE(*(__le16 *)mapped(r, VH_MAP_AVAIL, offset)));
		return true;
	}

	if (get_user(raw, (__le16 __user *)(unsigned long)(r->avail + offset)))
		return false;
	*v = le16_to_cpu(raw);
	return true;
}

/* Mark bytes of the used ring as written, if that is wanted. The log must not say so before they are. */
static bool log_used(struct vh_ring *r, u32 offset, u32 len)
{
	if (!r->log_used)
		return true;
	smp_wmb();
	if (!vh_log_write(r->log_base, r->log_addr + offset, len))
		return false;
	if (r->log_ctx)
		vst_eventfd_signal(r->log_ctx);
	return true;
}

static bool store16(struct vh_ring *r, u32 used_offset, u16 v)
{
	__le16 raw = cpu_to_le16(v);

	if (unlikely(r->by_map)) {
		WRITE_ONCE(*(__le16 *)mapped(r, VH_MAP_USED, used_offset), raw);
		return true;
	}
	return !put_user(raw, (__le16 __user *)(unsigned long)(r->used + used_offset)) &&
	       log_used(r, used_offset, sizeof(raw));
}

static bool range_ok(u64 addr, u32 bytes)
{
	return addr <= ULONG_MAX && access_ok((void __user *)(unsigned long)addr, bytes);
}

/* May the owner's memory hold a ring of @size there? */
bool vh_ring_accessible(u32 size, u64 desc, u64 avail, u64 used)
{
	return range_ok(desc, vsp_desc_bytes(size)) && range_ok(avail, vsp_avail_bytes(size)) &&
	       range_ok(used, vsp_used_bytes(size));
}

/* Take up the ring where its indices say. False: its memory is not there. */
bool vh_ring_start(struct vh_ring *r)
{
	__le16 used;

	lockdep_assert_held(&r->lock);
	if (!store16(r, 0, 0) || get_user(used, (__le16 __user *)(unsigned long)(r->used + 2)))
		return false;
	r->published = le16_to_cpu(used);
	r->seen_avail = r->last_avail;
	r->signalled_valid = false;
	r->hushed = false;
	r->broken = false;
	r->n_used = 0;
	r->running = true;
	return true;
}

void vh_ring_stop(struct vh_ring *r)
{
	lockdep_assert_held(&r->lock);
	vh_near_drop(r);
	if (r->running)
		r->stopped_at = r->last_avail;
	r->running = false;
}

/* A walk along a chain. */
struct walk {
	struct vh_ring *r;
	struct vh_chain *c;
	struct vsp_chain chain;
	u64 table; /* guest address of the indirect table, if @chain.indirect */
};

/* A few loads, where a function that copies would be called. */
static bool read_desc(const struct vh_ring *r, u16 i, struct vsp_wire_desc *to)
{
	const struct vsp_wire_desc __user *from = (void __user *)(unsigned long)(r->desc + i * sizeof(*to));

	if (unlikely(r->by_map)) {
		memcpy(to, mapped(r, VH_MAP_DESC, i * sizeof(*to)), sizeof(*to));
		/* What is looked at from here on is ours. */
		barrier();
		return true;
	}
	if (!user_read_access_begin(from, sizeof(*from)))
		return false;
	unsafe_get_user(to->addr, &from->addr, fault);
	unsafe_get_user(to->len, &from->len, fault);
	unsafe_get_user(to->flags, &from->flags, fault);
	unsafe_get_user(to->next, &from->next, fault);
	user_read_access_end();
	return true;
fault:
	user_read_access_end();
	return false;
}

static bool read_guest(struct vh_ring *r, u64 gpa, void *to, u32 len)
{
	while (len) {
		struct vh_span s = vh_mem_at(r->mem, gpa, len, &r->region);

		if (!s.len || copy_from_user(to, s.ptr, s.len))
			return false;
		to += s.len;
		gpa += s.len;
		len -= s.len;
	}
	return true;
}

static bool fetch(struct walk *w, u16 i, struct vsp_desc *d)
{
	struct vsp_wire_desc wire;

	if (w->chain.indirect) {
		if (!read_guest(w->r, w->table + i * sizeof(wire), &wire, sizeof(wire)))
			return false;
	} else if (!read_desc(w->r, i, &wire)) {
		return false;
	}
	*d = vsp_desc_decode(&wire);
	return true;
}

static enum vsp_reject add_pieces(struct walk *w, u64 gpa, u32 len)
{
	while (len) {
		struct vh_span s = vh_mem_at(w->r->mem, gpa, len, &w->r->region);
		struct vh_seg *seg = &w->r->segs[w->c->nsegs];

		if (!s.len)
			return VSP_REJECT_MEMORY;
		if (w->c->nsegs == VH_SEGS_MAX)
			return VSP_REJECT_CHAIN;
		seg->ptr = s.ptr;
		seg->gpa = gpa;
		seg->len = s.len;
		w->c->nsegs++;
		gpa += s.len;
		len -= s.len;
	}
	return VSP_OK;
}

static enum vsp_reject walk_chain(struct walk *w)
{
	struct vsp_chain_verdict v = vsp_chain_begin(&w->chain, w->c->head, w->r->size);
	enum vsp_reject why;
	struct vsp_desc d;

	while (v.what == VSP_CHAIN_MORE || v.what == VSP_CHAIN_TABLE) {
		if (!fetch(w, v.next, &d))
			return VSP_REJECT_MEMORY;
		v = vsp_chain_step(&w->chain, &d, w->r->indirect);
		if (v.what == VSP_CHAIN_TABLE) {
			w->table = d.addr;
			continue;
		}
		why = v.what == VSP_CHAIN_BAD ? v.why : add_pieces(w, d.addr, d.len);
		if (why != VSP_OK)
			return why;
		/* Empty ones take time as well, and a table has room for 32,768. */
		if (++w->c->descs > VH_SEGS_MAX)
			return VSP_REJECT_CHAIN;
	}
	return v.what == VSP_CHAIN_BAD ? v.why : VSP_OK;
}

/* Any chain, by the rules. noinline: what it needs of the stack and of registers is nothing to those that are plain. */
static noinline enum vsp_reject walk(struct vh_ring *r, bool writable, struct vh_chain *c)
{
	struct walk w = { .r = r, .c = c };
	enum vsp_reject why;

	c->descs = 0;
	c->nsegs = 0;
	c->seg = 0;
	c->off = 0;
	why = walk_chain(&w);
	if (why == VSP_OK && (writable ? w.chain.readable : w.chain.writable))
		why = VSP_REJECT_ORDER;
	c->bytes = w.chain.readable + w.chain.writable;
	return why;
}

/*
 * Nearly all chains: one descriptor of the right kind, in one piece, where the last one's memory was. Then @c is it. If
 * not, whatever it is, it is walked.
 */
static bool is_plain(struct vh_ring *r, bool writable, struct vh_chain *c)
{
	struct vsp_wire_desc wire;
	struct vsp_desc d;
	struct vh_span s;

	if (c->head >= r->size || !read_desc(r, c->head, &wire))
		return false;
	d = vsp_desc_decode(&wire);
	if (d.flags != (writable ? VSP_DESC_WRITE : 0) || !d.len)
		return false;
	s = vh_mem_at(r->mem, d.addr, d.len, &r->region);
	if (s.len < d.len)
		return false;
	r->segs[0] = (struct vh_seg){ .ptr = s.ptr, .gpa = d.addr, .len = d.len };
	c->bytes = d.len;
	c->descs = 1;
	c->nsegs = 1;
	c->seg = 0;
	c->off = 0;
	return true;
}

/* How many chains wait; false if the index cannot be read. */
static bool waiting(struct vh_ring *r, s32 *n)
{
	if (r->seen_avail == r->last_avail) {
		if (!load16(r, 2, &r->seen_avail))
			return false;
		/* Pairs with the driver's barrier before it moves the index: what it points to is read after it. */
		smp_rmb();
	}
	*n = vsp_ring_avail(r->seen_avail, r->last_avail, r->size);
	return true;
}

/* Does a chain wait? *@empty: none does. */
enum vsp_reject vh_ring_look(struct vh_ring *r, bool *empty)
{
	s32 n;

	lockdep_assert_held(&r->lock);
	if (!waiting(r, &n))
		return VSP_REJECT_MEMORY;
	*empty = !n;
	return n < 0 ? VSP_REJECT_AVAIL : VSP_OK;
}

/**
 * vh_ring_pop - take the next chain
 * @r: a live ring
 * @writable: this ring carries buffers for us to write
 * @c: the chain
 * @empty: set if there is none
 */
enum vsp_reject vh_ring_pop(struct vh_ring *r, bool writable, struct vh_chain *c, bool *empty)
{
	enum vsp_reject why = vh_ring_look(r, empty);
	u32 slot;

	if (why != VSP_OK || *empty)
		return why;
	slot = vsp_avail_slot_offset(vsp_ring_slot(r->last_avail, r->size));
	if (!load16(r, slot, &c->head))
		return VSP_REJECT_MEMORY;
	c->near = NULL;
	why = is_plain(r, writable, c) ? VSP_OK : walk(r, writable, c);
	if (why == VSP_OK)
		r->last_avail++;
	return why;
}

/* The chain taken last is not needed now. */
void vh_ring_unpop(struct vh_ring *r)
{
	lockdep_assert_held(&r->lock);
	r->last_avail--;
}

/* The chain at @idx, if it is plain. */
static bool peek(struct vh_ring *r, u16 idx, struct vh_chain *c)
{
	return load16(r, vsp_avail_slot_offset(vsp_ring_slot(idx, r->size)), &c->head) && is_plain(r, true, c);
}

/* Take the next chain for a writer. False: there is none, or it is for the worker to take. */
bool vh_ring_pop_near(struct vh_ring *r, struct vh_chain *c)
{
	s32 n;

	lockdep_assert_held(&r->lock);
	if (!waiting(r, &n) || n <= 0 || !peek(r, r->last_avail, c) || c->bytes <= VSP_HDR_LEN)
		return false;
	if (!vh_near_has(r->near, r->segs[0].ptr, c->bytes)) {
		r->near->missed = (struct vh_span){ .ptr = r->segs[0].ptr, .len = c->bytes };
		WRITE_ONCE(r->near->wanted, true);
		return false;
	}
	c->near = r->segs[0].ptr;
	r->last_avail++;
	r->near->used++;
	return true;
}

/*
 * Have the next buffers ready for writers, if they missed any. It is their worker that asks. The one that was missed it
 * has used, and that will come again.
 */
enum vsp_reject vh_ring_fetch(struct vh_ring *r)
{
	struct vh_near *near = r->near;
	struct vh_span missed;
	struct vh_chain c;
	u32 i;
	s32 n;

	lockdep_assert_held(&r->lock);
	if (!near || !READ_ONCE(near->wanted))
		return VSP_OK;
	WRITE_ONCE(near->wanted, false);
	missed = near->missed;
	near->missed.len = 0;
	if (!vh_near_begin(near, r))
		return VSP_OK;
	vh_near_fetch(near, missed.ptr, missed.len);
	if (!waiting(r, &n))
		return VSP_REJECT_MEMORY;
	for (i = 0; (s32)i < n && i < VH_NEAR_AHEAD; i++) {
		if (!peek(r, r->last_avail + i, &c) || !vh_near_fetch(near, r->segs[0].ptr, c.bytes))
			break;
	}
	return VSP_OK;
}

/* Copy @n entries of the batch, beginning with @first, to where they follow each other in the ring. */
static bool write_used(struct vh_ring *r, u32 first, u32 n)
{
	u32 offset = vsp_used_slot_offset(vsp_ring_slot(r->published + first, r->size)), i;
	struct vring_used_elem __user *to = (void __user *)(unsigned long)(r->used + offset);
	const struct vring_used_elem *from = &r->used_batch[first];
	u32 bytes = n * sizeof(*from);

	if (unlikely(r->by_map)) {
		memcpy(mapped(r, VH_MAP_USED, offset), from, bytes);
		return true;
	}
	if (!user_write_access_begin(to, bytes))
		return false;
	for (i = 0; i < n; i++) {
		unsafe_put_user(from[i].id, &to[i].id, fault);
		unsafe_put_user(from[i].len, &to[i].len, fault);
	}
	user_write_access_end();
	return log_used(r, offset, bytes);
fault:
	user_write_access_end();
	return false;
}

/* Does the guest want an interrupt for what was published? Where it cannot be asked, yes. */
static bool call_due(struct vh_ring *r)
{
	u16 before = r->signalled, field;
	bool valid = r->signalled_valid;

	r->signalled = r->published;
	r->signalled_valid = true;
	if (r->on_empty && r->seen_avail == r->last_avail)
		return true;
	if (!r->event_idx)
		return !load16(r, 0, &field) || !(field & VSP_AVAIL_NO_INTERRUPT);
	return !valid || !load16(r, vsp_used_event_offset(r->size), &field) ||
	       vsp_ring_notify_due(field, r->published, before);
}

/* Show the guest every chain that was used, and interrupt it if it wants that. */
enum vsp_reject vh_ring_publish(struct vh_ring *r)
{
	u32 n = r->n_used, fits;

	lockdep_assert_held(&r->lock);
	if (!n)
		return VSP_OK;
	r->n_used = 0;
	fits = min(n, r->size - vsp_ring_slot(r->published, r->size));
	if (!write_used(r, 0, fits) || (fits < n && !write_used(r, fits, n - fits)))
		return VSP_REJECT_MEMORY;
	/* Pairs with the driver's barrier after it reads the index: entries and payload come before it. */
	smp_wmb();
	r->published += n;
	if (!store16(r, 2, r->published))
		return VSP_REJECT_MEMORY;
	/* Pairs with the driver's barrier between asking for an interrupt and looking at the index once more. */
	smp_mb();
	if (call_due(r) && r->call)
		vst_eventfd_signal(r->call);
	return VSP_OK;
}

/* The chain taken last was used, with @len bytes written to it. */
enum vsp_reject vh_ring_use(struct vh_ring *r, const struct vh_chain *c, u32 len)
{
	struct vring_used_elem *e = &r->used_batch[r->n_used++];

	e->id = cpu_to_le32(c->head);
	e->len = cpu_to_le32(len);
	return r->n_used < min_t(u32, VH_USED_BATCH, r->size) ? VSP_OK : vh_ring_publish(r);
}

/* Is there another chain? Memory that is not there counts: vh_ring_pop() will say so. */
bool vh_ring_came(const struct vh_ring *r)
{
	u16 idx;

	return !load16(r, 2, &idx) || idx != r->last_avail;
}

/* Ask for a kick at the next chain. *@more: one came meanwhile, take it; no kick will come. */
enum vsp_reject vh_ring_await(struct vh_ring *r, bool *more)
{
	u16 idx;
	bool ok;

	lockdep_assert_held(&r->lock);
	if (r->event_idx)
		ok = store16(r, vsp_avail_event_offset(r->size), r->last_avail);
	else
		ok = store16(r, 0, 0);
	r->hushed = false;
	/* Pairs with the driver's barrier between making a chain available and asking whether we want to know. */
	smp_mb();
	if (!ok || !load16(r, 2, &idx))
		return VSP_REJECT_MEMORY;
	*more = idx != r->last_avail;
	return *more ? vh_ring_hush(r) : VSP_OK;
}

/* No kicks, please: we look by ourselves. With an event index, the index that the guest has passed is silence. */
enum vsp_reject vh_ring_hush(struct vh_ring *r)
{
	lockdep_assert_held(&r->lock);
	if (r->hushed)
		return VSP_OK;
	r->hushed = true;
	return r->event_idx || store16(r, 0, VSP_USED_NO_NOTIFY) ? VSP_OK : VSP_REJECT_MEMORY;
}

/* How many bytes the next copy can move in one go. */
static u32 next_piece(const struct vh_ring *r, struct vh_chain *c, u32 len)
{
	while (c->off == r->segs[c->seg].len) {
		c->seg++;
		c->off = 0;
	}
	return min(len, r->segs[c->seg].len - c->off);
}

/* Copy the chain's next bytes, of which there are @len. False: memory is not there. */
bool vh_ring_read(struct vh_ring *r, struct vh_chain *c, void *to, u32 len)
{
	while (len) {
		u32 n = next_piece(r, c, len);

		if (copy_from_user(to, r->segs[c->seg].ptr + c->off, n))
			return false;
		c->off += n;
		to += n;
		len -= n;
	}
	return true;
}

/* The same with a header, which hardly ever is in pieces. */
bool vh_ring_read_hdr(struct vh_ring *r, struct vh_chain *c, struct vsp_wire *wire)
{
	if (next_piece(r, c, sizeof(*wire)) < sizeof(*wire))
		return vh_ring_read(r, c, wire, sizeof(*wire));
	if (copy_from_user(wire, r->segs[c->seg].ptr + c->off, sizeof(*wire)))
		return false;
	c->off += sizeof(*wire);
	return true;
}

/* copy_to_user() without its look at what @from is part of: that was looked at as a whole. */
static bool copy_part(void __user *to, const void *from, u32 n)
{
	might_fault();
	if (should_fail_usercopy() || !access_ok(to, n))
		return false;
	instrument_copy_to_user(to, from, n);
	return !raw_copy_to_user(to, from, n);
}

/**
 * vh_ring_write - copy to the chain's next bytes
 * @r: the ring
 * @c: the chain, with room for @len bytes
 * @from: what users may see, as far as that; nobody asks here, see vh_ring_may_write()
 * @len: bytes
 *
 * Return: false where memory is not there.
 */
bool vh_ring_write(struct vh_ring *r, struct vh_chain *c, const void *from, u32 len)
{
	if (unlikely(c->near)) {
		vh_near_write(r->near, c->near + c->off, from, len);
		c->off += len;
		return true;
	}
	while (len) {
		u32 n = next_piece(r, c, len);
		const struct vh_seg *seg = &r->segs[c->seg];

		if (!copy_part(seg->ptr + c->off, from, n))
			return false;
		if (r->log_data && !vh_log_write(r->log_base, seg->gpa + c->off, n))
			return false;
		c->off += n;
		from += n;
		len -= n;
	}
	return true;
}

static bool store_hdr(void __user *to, const void *wire)
{
	if (!user_write_access_begin(to, VSP_HDR_LEN))
		return false;
	unsafe_copy_to_user(to, wire, VSP_HDR_LEN, fault);
	user_write_access_end();
	return true;
fault:
	user_write_access_end();
	return false;
}

/* The same with a header, which hardly ever is in pieces. */
bool vh_ring_write_hdr(struct vh_ring *r, struct vh_chain *c, const struct vsp_wire *wire)
{
	const struct vh_seg *seg;

	if (c->near || r->log_data || next_piece(r, c, sizeof(*wire)) < sizeof(*wire))
		return vh_ring_write(r, c, wire, sizeof(*wire));
	seg = &r->segs[c->seg];
	if (!store_hdr(seg->ptr + c->off, wire))
		return false;
	c->off += sizeof(*wire);
	return true;
}
