// SPDX-License-Identifier: GPL-2.0-only
/*
 * mem.c - the guest's memory: where its addresses lie in the owner's, and the log of what we wrote
 *
 * Every address that a guest gives is looked up here; none reaches memory outside the regions that its owner named, and
 * those were checked to be the owner's to give.
 */
#include <linux/bsearch.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sort.h>
#include <linux/uaccess.h>

#include "host.h"

static int by_gpa(const void *a, const void *b)
{
	const struct vh_region *one = a, *other = b;

	if (one->gpa == other->gpa)
		return 0;
	return one->gpa < other->gpa ? -1 : 1;
}

static bool region_valid(const struct vh_region *r)
{
	return r->size && r->gpa + (r->size - 1) >= r->gpa && r->size <= ULONG_MAX && r->uva <= ULONG_MAX &&
	       access_ok((void __user *)(unsigned long)r->uva, (unsigned long)r->size);
}

static int read_regions(struct vh_mem *mem, const struct vhost_memory __user *from)
{
	struct vhost_memory_region raw;
	u32 i;

	for (i = 0; i < mem->n; i++) {
		struct vh_region *r = &mem->regions[i];

		if (copy_from_user(&raw, &from->regions[i], sizeof(raw)))
			return -EFAULT;
		r->gpa = raw.guest_phys_addr;
		r->size = raw.memory_size;
		r->uva = raw.userspace_addr;
		if (!region_valid(r))
			return -EFAULT;
	}
	sort(mem->regions, mem->n, sizeof(mem->regions[0]), by_gpa, NULL);
	for (i = 1; i < mem->n; i++) {
		if (mem->regions[i].gpa - mem->regions[i - 1].gpa < mem->regions[i - 1].size)
			return -EFAULT;
	}
	return 0;
}

/**
 * vh_mem_read - a table of regions, checked
 * @from: VHOST_SET_MEM_TABLE's argument
 *
 * Return: the table, the caller's to kvfree(); or an error: -EFAULT for what is not the caller's memory, wraps around,
 * is empty or overlaps, -E2BIG, -EOPNOTSUPP, -ENOMEM.
 */
struct vh_mem *vh_mem_read(const struct vhost_memory __user *from)
{
	struct vhost_memory head;
	struct vh_mem *mem;
	int err;

	if (copy_from_user(&head, from, sizeof(head)))
		return ERR_PTR(-EFAULT);
	if (head.padding)
		return ERR_PTR(-EOPNOTSUPP);
	if (head.nregions > VH_REGIONS_MAX)
		return ERR_PTR(-E2BIG);
	mem = kvzalloc(struct_size(mem, regions, head.nregions), GFP_KERNEL_ACCOUNT);
	if (!mem)
		return ERR_PTR(-ENOMEM);
	mem->n = head.nregions;
	err = read_regions(mem, from);
	if (!err)
		return mem;
	kvfree(mem);
	return ERR_PTR(err);
}

static int find_gpa(const void *key, const void *element)
{
	const struct vh_region *r = element;
	u64 gpa = *(const u64 *)key;

	if (vh_region_holds(r, gpa))
		return 0;
	return gpa < r->gpa ? -1 : 1;
}

/* The region that @gpa is in, or NULL. */
const struct vh_region *vh_mem_find(const struct vh_mem *mem, u64 gpa)
{
	return bsearch(&gpa, mem->regions, mem->n, sizeof(mem->regions[0]), find_gpa);
}

/* Does a log at @log_base have room for every page of @mem? */
bool vh_log_fits(const struct vh_mem *mem, u64 log_base)
{
	const struct vh_region *last;
	u64 bytes;

	if (!mem)
		return false;
	if (!mem->n)
		return true;
	last = &mem->regions[mem->n - 1];
	bytes = (last->gpa + (last->size - 1)) / VHOST_PAGE_SIZE / 8 + 1;
	return bytes <= ULONG_MAX && log_base <= ULONG_MAX &&
	       access_ok((void __user *)(unsigned long)log_base, (unsigned long)bytes);
}

/* The owner clears bits at the same time: they are set in its page atomically. */
static bool set_log_bit(u64 log_base, u64 page_nr)
{
	unsigned long at = log_base + page_nr / 8;
	struct page *page;
	void *base;

	if (pin_user_pages_fast(at, 1, FOLL_WRITE, &page) != 1)
		return false;
	base = kmap_local_page(page);
	set_bit_le(offset_in_page(at) * 8 + page_nr % 8, base);
	kunmap_local(base);
	unpin_user_pages_dirty_lock(&page, 1, true);
	return true;
}

/* Mark @len bytes at @gpa as written. False: the log is not there. The owner's memory is in use; may sleep. */
bool vh_log_write(u64 log_base, u64 gpa, u64 len)
{
	u64 page_nr, last = (gpa + len - 1) / VHOST_PAGE_SIZE;

	for (page_nr = gpa / VHOST_PAGE_SIZE; len && page_nr <= last; page_nr++) {
		if (!set_log_bit(log_base, page_nr))
			return false;
	}
	return true;
}
