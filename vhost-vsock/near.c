// SPDX-License-Identifier: GPL-2.0-only
/*
 * near.c - the owner's memory within reach of host programs that write
 *
 * Only the worker can use the owner's memory by its addresses. So that a writer need not wait for it, pages that the
 * guest posts as buffers again and again are kept pinned, and the ring is mapped; a writer then fills buffers and
 * publishes them by itself, as the worker would have. Whatever is not here is left to the worker, which fetches it for
 * the next time. Nothing of the ring's state depends on what is here.
 *
 * Memory that its owner unmaps, or exchanges for other memory, is forgotten before that is done: we hear of it. It
 * begins when somebody writes, and ends when nobody does any more, and with any change of the ring or of memory. What
 * may be pinned is accounted to the owner as locked memory from the beginning.
 */
#include <linux/hash.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "host.h"

static u32 sets_of(const struct vh_near *near)
{
	return 1 << near->bits;
}

/* Pages that may be pinned: of buffers, and all with the ring's. */
static u32 buffer_pages(u32 bits)
{
	return VH_NEAR_WAYS << bits;
}

static u32 locked_pages(u32 bits)
{
	return buffer_pages(bits) + NUM_VH_MAPS * VH_MAP_PAGES;
}

/* The slots in which a page may be. */
static struct vh_slot *set_of(struct vh_near *near, unsigned long addr)
{
	return near->slots[hash_long(addr / PAGE_SIZE, near->bits)];
}

/* The slot of a page, which may be gone by now; or NULL. */
static struct vh_slot *find(struct vh_near *near, unsigned long addr)
{
	struct vh_slot *set = set_of(near, addr);
	u32 i;

	for (i = 0; i < VH_NEAR_WAYS; i++) {
		if (set[i].page && set[i].addr == (addr & PAGE_MASK))
			return &set[i];
	}
	return NULL;
}

/* ---- what the owner does with its memory ---- */

#ifdef CONFIG_MMU_NOTIFIER
static void forget_set(struct vh_slot *set, unsigned long start, unsigned long end)
{
	u32 i;

	for (i = 0; i < VH_NEAR_WAYS; i++) {
		unsigned long addr = READ_ONCE(set[i].addr);

		/* A slot that gets another page just now is missed once, or is looked at by fetch(). */
		if (addr >= start && addr < end)
			WRITE_ONCE(set[i].gone, true);
	}
}

static bool overlaps(const struct vh_map *m, unsigned long start, unsigned long end)
{
	return READ_ONCE(m->start) < end && READ_ONCE(m->end) > start;
}

/*
 * Under locks of the memory's. Both before the pages go and after: one that was fetched in between was still there.
 */
static void forget_range(struct vh_near *near, unsigned long start, unsigned long end)
{
	u32 i;

	atomic_inc(&near->changes);
	/* Pairs with fetch(): it sees the change, or this its slot. */
	smp_mb__after_atomic();
	for (i = 0; i < NUM_VH_MAPS; i++) {
		if (overlaps(&near->maps[i], start, end))
			WRITE_ONCE(near->stale, true);
	}
	start &= PAGE_MASK;
	if ((end - start) / PAGE_SIZE <= sets_of(near)) {
		for (; start < end; start += PAGE_SIZE)
			forget_set(set_of(near, start), start, start + PAGE_SIZE);
		return;
	}
	for (i = 0; i < sets_of(near); i++)
		forget_set(near->slots[i], start, end);
}

static int range_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	forget_range(container_of(mn, struct vh_near, notifier), range->start, range->end);
	return 0;
}

static void range_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	forget_range(container_of(mn, struct vh_near, notifier), range->start, range->end);
}

static const struct mmu_notifier_ops notifier_ops = {
	.invalidate_range_start = range_start,
	.invalidate_range_end = range_end,
};

static int watch(struct vh_near *near, struct mm_struct *mm)
{
	near->notifier.ops = &notifier_ops;
	return mmu_notifier_register(&near->notifier, mm);
}

static void unwatch(struct vh_near *near, struct mm_struct *mm)
{
	mmu_notifier_unregister(&near->notifier, mm);
}
#else
static int watch(struct vh_near *near, struct mm_struct *mm)
{
	return -EOPNOTSUPP;
}

static void unwatch(struct vh_near *near, struct mm_struct *mm)
{
}
#endif

/* ---- pages ---- */

/* A file would have to be told of what is written to its pages. */
static bool is_memory(struct page *page)
{
	struct folio *folio = page_folio(page);

	return folio_test_anon(folio) || folio_test_swapbacked(folio) || folio_test_hugetlb(folio);
}

/* All of them or none. The owner's memory is in use. */
static bool pin(unsigned long addr, u32 n, struct page **pages)
{
	int got = pin_user_pages_fast(addr & PAGE_MASK, n, FOLL_WRITE | FOLL_LONGTERM, pages);
	bool good = got == n;
	int i;

	for (i = 0; i < got; i++)
		good = good && is_memory(pages[i]);
	if (!good && got > 0)
		unpin_user_pages(pages, got);
	return good;
}

static void empty(struct vh_slot *slot)
{
	if (slot->page)
		unpin_user_pages_dirty_lock(&slot->page, 1, true);
	slot->page = NULL;
}

/* A slot for a page that is not here as it is now. */
static struct vh_slot *make_room(struct vh_near *near, unsigned long addr)
{
	struct vh_slot *set = set_of(near, addr), *slot = find(near, addr);
	u32 i;

	for (i = 0; !slot && i < VH_NEAR_WAYS; i++) {
		if (!set[i].page || READ_ONCE(set[i].gone))
			slot = &set[i];
	}
	if (!slot)
		slot = &set[near->evict++ % VH_NEAR_WAYS];
	empty(slot);
	return slot;
}

/* Have a page of the owner's here. False: it cannot be. */
static bool fetch(struct vh_near *near, unsigned long addr)
{
	struct vh_slot *slot = find(near, addr);
	int changes;

	if (slot && !READ_ONCE(slot->gone))
		return true;
	slot = make_room(near, addr);
	WRITE_ONCE(slot->addr, addr & PAGE_MASK);
	changes = atomic_read(&near->changes);
	WRITE_ONCE(slot->gone, false);
	/* Pairs with forget_range(): it finds the slot, or this sees the change. */
	smp_mb();
	if (!pin(addr, 1, &slot->page)) {
		slot->page = NULL;
		return false;
	}
	near->fetched++;
	if (atomic_read(&near->changes) != changes)
		WRITE_ONCE(slot->gone, true);
	return true;
}

/* ---- the ring ---- */

static void unmap(struct vh_map *m)
{
	if (!m->at)
		return;
	WRITE_ONCE(m->end, 0);
	vunmap(m->base);
	unpin_user_pages_dirty_lock(m->pages, m->n, true);
	m->at = NULL;
}

static bool map(struct vh_map *m, unsigned long addr, u32 bytes)
{
	WRITE_ONCE(m->start, addr & PAGE_MASK);
	WRITE_ONCE(m->end, PAGE_ALIGN(addr + bytes));
	/* Pairs with forget_range(): it sees where, or we see what is there afterwards. */
	smp_mb();
	m->n = (m->end - m->start) / PAGE_SIZE;
	if (m->n <= VH_MAP_PAGES && pin(addr, m->n, m->pages)) {
		m->base = vmap(m->pages, m->n, VM_MAP, PAGE_KERNEL);
		if (m->base) {
			m->at = m->base + offset_in_page(addr);
			return true;
		}
		unpin_user_pages(m->pages, m->n);
	}
	WRITE_ONCE(m->end, 0);
	return false;
}

static void unmap_ring(struct vh_near *near)
{
	u32 i;

	WRITE_ONCE(near->mapped, false);
	for (i = 0; i < NUM_VH_MAPS; i++)
		unmap(&near->maps[i]);
}

/* The maps say where they are before their pages are pinned: a change since then makes them stale. */
static bool map_ring(struct vh_near *near, const struct vh_ring *r)
{
	bool done;

	if (near->mapped && !READ_ONCE(near->stale))
		return true;
	unmap_ring(near);
	WRITE_ONCE(near->stale, false);
	done = map(&near->maps[VH_MAP_DESC], r->desc, vsp_desc_bytes(r->size)) &&
	       map(&near->maps[VH_MAP_AVAIL], r->avail, vsp_avail_bytes(r->size)) &&
	       map(&near->maps[VH_MAP_USED], r->used, vsp_used_bytes(r->size));
	if (done)
		WRITE_ONCE(near->mapped, true);
	else
		unmap_ring(near);
	return done;
}

/* ---- for the ring ---- */

/* Is a piece of the owner's memory here, as a whole? */
bool vh_near_has(struct vh_near *near, const void __user *ptr, u32 len)
{
	unsigned long addr = (unsigned long)ptr & PAGE_MASK, end = (unsigned long)ptr + len;

	for (; addr < end; addr += PAGE_SIZE) {
		const struct vh_slot *slot = find(near, addr);

		if (!slot || READ_ONCE(slot->gone))
			return false;
	}
	return true;
}

/* Is it no longer worth while? Not if what is fetched is hardly ever used. */
static bool is_tired(const struct vh_near *near)
{
	return near->fetched > VH_NEAR_PATIENCE * buffer_pages(near->bits) + near->used;
}

/* Fetch it. The owner's memory is in use. */
bool vh_near_fetch(struct vh_near *near, const void __user *ptr, u32 len)
{
	unsigned long addr = (unsigned long)ptr & PAGE_MASK, end = (unsigned long)ptr + len;

	for (; addr < end; addr += PAGE_SIZE) {
		if (is_tired(near) || !fetch(near, addr))
			return false;
	}
	return true;
}

/* Copy to what was here when vh_near_has() was asked, with the lock held since. Its owner may have lost it by now. */
void vh_near_write(struct vh_near *near, void __user *ptr, const void *from, u32 len)
{
	unsigned long addr = (unsigned long)ptr;
	u32 n;

	for (; len; len -= n) {
		n = min_t(u32, len, PAGE_SIZE - offset_in_page(addr));
		memcpy_to_page(find(near, addr)->page, offset_in_page(addr), from, n);
		addr += n;
		from += n;
	}
}

/* The same of what a user wrote, as far as that is there. Does not sleep. Returns the bytes copied. */
u32 vh_near_copy(struct vh_near *near, void __user *ptr, struct iov_iter *from, u32 len)
{
	unsigned long addr = (unsigned long)ptr;
	u32 done = 0, n, got;

	pagefault_disable();
	do {
		u8 *to = kmap_local_page(find(near, addr)->page);

		n = min_t(u32, len - done, PAGE_SIZE - offset_in_page(addr));
		/* Not copy_from_iter(), which would look whether the page belongs to something smaller. */
		got = _copy_from_iter(to + offset_in_page(addr), n, from);
		kunmap_local(to);
		addr += got;
		done += got;
	} while (got == n && done < len);
	pagefault_enable();
	return done;
}

/* Nothing is here any more. The ring is locked. */
void vh_near_drop(struct vh_ring *r)
{
	struct vh_near *near = r->near;
	u32 set, way;

	lockdep_assert_held(&r->lock);
	if (!near)
		return;
	unmap_ring(near);
	near->missed.len = 0;
	for (set = 0; set < sets_of(near); set++) {
		for (way = 0; way < VH_NEAR_WAYS; way++)
			empty(&near->slots[set][way]);
	}
}

/* May the worker fetch for writers? */
bool vh_near_begin(struct vh_near *near, struct vh_ring *r)
{
	if (r->log_data || r->log_used || is_tired(near))
		return false;
	if (!map_ring(near, r)) {
		vh_near_drop(r);
		return false;
	}
	schedule_delayed_work(&near->idle, msecs_to_jiffies(VH_NEAR_IDLE_MS));
	return true;
}

/* Nobody wrote for a while. */
static void look_whether_idle(struct work_struct *work)
{
	struct vh_near *near = container_of(work, struct vh_near, idle.work);
	struct vh_ring *r = near->ring;
	bool again = true;

	/* Whoever has the lock may be stuck in a page fault. */
	if (mutex_trylock(&r->lock)) {
		if (!near->used)
			vh_near_drop(r);
		near->used = 0;
		near->fetched = 0;
		again = near->mapped;
		mutex_unlock(&r->lock);
	}
	if (again)
		schedule_delayed_work(&near->idle, msecs_to_jiffies(VH_NEAR_IDLE_MS));
}

/* ---- birth and death ---- */

/**
 * vh_near_new - memory of the calling process for writers to ring @r
 * @r: a ring
 * @mm: the process's
 *
 * Not having it is no error: if the process may not lock so much memory, say, writers wait for the worker.
 */
void vh_near_new(struct vh_ring *r, struct mm_struct *mm)
{
	u32 bits = VH_NEAR_BITS;
	struct vh_near *near;

	if (account_locked_vm(mm, locked_pages(bits), true)) {
		bits = VH_NEAR_BITS_FEW;
		if (account_locked_vm(mm, locked_pages(bits), true))
			return;
	}
	near = kvzalloc(struct_size(near, slots, 1 << bits), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (near)
		near->bits = bits;
	if (!near || watch(near, mm)) {
		kvfree(near);
		account_locked_vm(mm, locked_pages(bits), false);
		return;
	}
	near->ring = r;
	INIT_DELAYED_WORK(&near->idle, look_whether_idle);
	mutex_lock(&r->lock);
	r->near = near;
	mutex_unlock(&r->lock);
}

/* The ring was stopped for ever, and its worker has ended. */
void vh_near_free(struct vh_ring *r, struct mm_struct *mm)
{
	struct vh_near *near = r->near;

	if (!near)
		return;
	mutex_lock(&r->lock);
	vh_near_drop(r);
	r->near = NULL;
	mutex_unlock(&r->lock);
	cancel_delayed_work_sync(&near->idle);
	unwatch(near, mm);
	account_locked_vm(mm, locked_pages(near->bits), false);
	kvfree(near);
}
