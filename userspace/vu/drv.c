// SPDX-License-Identifier: BSD-2-Clause
#include "vu/drv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static u16 load16(const u8 *p)
{
	return le16_to_cpu(__atomic_load_n((const u16 *)(const void *)p, __ATOMIC_ACQUIRE));
}

static void store16(void *p, u16 v)
{
	u16 *field = p;

	__atomic_store_n(field, (u16)cpu_to_le16(v), __ATOMIC_RELEASE);
}

u32 vu_drv_avail_offset(u32 size)
{
	return vsp_desc_bytes(size);
}

u32 vu_drv_used_offset(u32 size)
{
	return (vu_drv_avail_offset(size) + vsp_avail_bytes(size) + 63) & ~63u;
}

u32 vu_drv_bytes(u32 size)
{
	return vu_drv_used_offset(size) + vsp_used_bytes(size);
}

int vu_drv_init(struct vu_drv *d, void *mem, u32 size, u16 base, bool event_idx)
{
	memset(d, 0, sizeof(*d));
	d->size = size;
	d->desc = mem;
	d->avail = (u8 *)mem + vu_drv_avail_offset(size);
	d->used = (u8 *)mem + vu_drv_used_offset(size);
	d->event_idx = event_idx;
	d->avail_idx = d->kicked = d->last_used = base;
	store16(d->avail + 2, base);
	store16(d->used + 2, base);
	d->next = calloc(size, sizeof(u16));
	d->count = calloc(size, sizeof(u16));
	d->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!d->next || !d->count || d->kick_fd < 0 || d->call_fd < 0)
		return -ENOMEM;
	for (u32 i = 0; i < size; i++)
		d->next[i] = (u16)(i + 1);
	d->nfree = size;
	return 0;
}

void vu_drv_fini(struct vu_drv *d)
{
	close(d->kick_fd);
	close(d->call_fd);
	free(d->next);
	free(d->count);
}

static void put_desc(struct vsp_wire_desc *w, const struct vu_seg *s, bool more, u16 next)
{
	u16 flags = (u16)((s->write ? VSP_DESC_WRITE : 0) | (more ? VSP_DESC_NEXT : 0));

	w->addr = cpu_to_le64(s->gpa);
	w->len = cpu_to_le32(s->len);
	w->flags = cpu_to_le16(flags);
	w->next = cpu_to_le16(more ? next : 0);
}

static void make_available(struct vu_drv *d, u32 head)
{
	u16 wire = (u16)cpu_to_le16((u16)head);

	memcpy(d->avail + vsp_avail_slot_offset(vsp_ring_slot(d->avail_idx, d->size)), &wire, sizeof(wire));
	d->avail_idx++;
}

int vu_drv_add(struct vu_drv *d, const struct vu_seg *segs, u32 n)
{
	u32 head = d->free;
	u32 at = head;

	if (n == 0 || n > d->nfree)
		return -1;
	for (u32 i = 0; i < n; i++) {
		put_desc(&d->desc[at], &segs[i], i + 1 < n, d->next[at]);
		at = d->next[at];
	}
	d->free = at;
	d->nfree -= n;
	d->count[head] = (u16)n;
	make_available(d, head);
	return (int)head;
}

int vu_drv_add_indirect(struct vu_drv *d, const struct vu_seg *segs, u32 n, struct vsp_wire_desc *table, u64 gpa)
{
	u32 head = d->free;

	if (!d->nfree)
		return -1;
	for (u32 i = 0; i < n; i++)
		put_desc(&table[i], &segs[i], i + 1 < n, (u16)(i + 1));
	d->desc[head].addr = cpu_to_le64(gpa);
	d->desc[head].len = cpu_to_le32(n * (u32)sizeof(*table));
	d->desc[head].flags = cpu_to_le16(VSP_DESC_INDIRECT);
	d->desc[head].next = 0;
	d->free = d->next[head];
	d->nfree--;
	d->count[head] = 1;
	make_available(d, head);
	return (int)head;
}

void vu_drv_publish(struct vu_drv *d)
{
	const u64 one = 1;
	bool due;

	if (d->kicked == d->avail_idx)
		return;
	store16(d->avail + 2, d->avail_idx);
	/* Pairs with the device's barrier between asking for a kick and looking once more. */
	atomic_thread_fence(memory_order_seq_cst);
	if (d->event_idx)
		due = vsp_ring_notify_due(load16(d->used + vsp_avail_event_offset(d->size)), d->avail_idx, d->kicked);
	else
		due = !(load16(d->used) & VSP_USED_NO_NOTIFY);
	d->kicked = d->avail_idx;
	if (due) {
		ssize_t ignored = write(d->kick_fd, &one, sizeof(one));

		(void)ignored;
	}
}

int vu_drv_used(struct vu_drv *d, u32 *len)
{
	__le32 elem[2];
	u32 head, last;

	if (d->broken || load16(d->used + 2) == d->last_used)
		return -1;
	memcpy(elem, d->used + vsp_used_slot_offset(vsp_ring_slot(d->last_used, d->size)), sizeof(elem));
	head = le32_to_cpu(elem[0]);
	*len = le32_to_cpu(elem[1]);
	d->broken = head >= d->size || !d->count[head];
	if (d->broken)
		return -1;
	d->last_used++;
	/* The table is the device's to read, and it could write there as well. */
	for (last = head; d->count[head] > 1; d->count[head]--, d->nfree++)
		last = d->next[last];
	d->count[head] = 0;
	d->nfree++;
	d->next[last] = (u16)d->free;
	d->free = head;
	return (int)head;
}

bool vu_drv_await(struct vu_drv *d)
{
	u64 count;
	ssize_t ignored = read(d->call_fd, &count, sizeof(count));

	(void)ignored;
	if (d->event_idx)
		store16(d->avail + vsp_used_event_offset(d->size), d->last_used);
	else
		store16(d->avail, 0);
	/* Pairs with the device's barrier between publishing and reading the event index. */
	atomic_thread_fence(memory_order_seq_cst);
	return load16(d->used + 2) == d->last_used;
}
