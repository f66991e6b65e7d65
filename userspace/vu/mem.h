/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem.h - the memory of a guest as its front-end shared it
 *
 * Two kinds of address: gpa in descriptors, uva (the front-end's own) in VU_SET_VRING_ADDR. A translation never returns
 * a byte outside a region.
 *
 * A front-end can truncate a file that is mapped here; touching it then raises SIGBUS. vu_mem_guard() puts zeroed
 * memory of our own in the place of such a region and marks the guest as lost, so that no load or store of ours needs
 * to know: the loop looks at vu_mem.lost after each batch and ends that guest's session. System calls on it fail with
 * EFAULT.
 *
 * While a guest is migrated its front-end wants to know which pages were written to: a dirty log, a bit for each page,
 * lies in a file of the front-end's as well. Whoever writes to guest memory, or has it written to, says so when it is
 * done.
 *
 * A struct vu_mem belongs to the thread that began it, and is touched by no other.
 */
#ifndef VU_MEM_H
#define VU_MEM_H

#include "vu/msg.h"

#include <signal.h>
#include <sys/uio.h>

enum {
	VU_MEM_REGIONS_MAX = 32, /* regions of a guest, memory hotplug included */
};

/**
 * struct vu_region - one region
 * @gpa: first guest physical address
 * @uva: first address in the front-end
 * @size: bytes
 * @base: where it begins here
 * @map: the mapping that holds it
 * @map_len: bytes of @map
 */
struct vu_region {
	u64 gpa;
	u64 uva;
	u64 size;
	u8 *base;
	u8 *map;
	u64 map_len;
};

/**
 * struct vu_log - the dirty log
 * @bits: bit N % 8 of byte N / 8 is page N; NULL: there is none
 * @size: bytes
 * @map, @map_len: the mapping that holds it
 * @all: everything written to the guest's buffers goes there; rings have a flag of their own
 */
struct vu_log {
	u8 *bits;
	u64 size;
	u8 *map;
	u64 map_len;
	bool all;
};

/**
 * struct vu_mem - all regions of a guest
 * @regions: in the order in which they came
 * @n: how many
 * @last: index of the region that answered last
 * @log: the dirty log
 * @lost: the front-end took memory away; set by vu_mem_guard()'s handler or by whoever saw EFAULT
 * @next: chain of memories that the handler knows
 */
struct vu_mem {
	struct vu_region regions[VU_MEM_REGIONS_MAX];
	u32 n;
	u32 last;
	struct vu_log log;
	volatile sig_atomic_t lost;
	struct vu_mem *next;
};

/* A piece of contiguous memory; @ptr is NULL where there is none. */
struct vu_span {
	u8 *ptr;
	u64 len;
};

/*
 * Catch SIGBUS in guest memory, from now on and for every struct vu_mem. A SIGBUS elsewhere still kills. 0 or
 * -errno.
 */
int vu_mem_guard(void);

/* Begin without regions. Make it known to the guard; it must stay where it is until vu_mem_fini(). */
void vu_mem_init(struct vu_mem *m);

/* Unmap all regions; ready for others. The dirty log stays. */
void vu_mem_clear(struct vu_mem *m);

/* The end; the guard forgets it. */
void vu_mem_fini(struct vu_mem *m);

/* Map a region of @fd (not consumed). NULL, or in words what is wrong with it. */
const char *vu_mem_add(struct vu_mem *m, const struct vu_region_desc *d, int fd);

/* Unmap the region that @d describes. */
const char *vu_mem_remove(struct vu_mem *m, const struct vu_region_desc *d);

/* Map a dirty log in @fd (not consumed), in place of another. NULL, or in words what is wrong with it. */
const char *vu_mem_set_log(struct vu_mem *m, const struct vu_log_desc *d, int fd);
void vu_mem_drop_log(struct vu_mem *m);

/* Guest memory was written to: @len bytes at @gpa; or the first @len bytes of segments that a chain had. */
void vu_mem_dirty(struct vu_mem *m, u64 gpa, u64 len);
void vu_mem_dirty_iov(struct vu_mem *m, const struct iovec *iov, u32 niov, u64 len);

/* Where guest physical @gpa is; at most @len bytes, fewer where the region ends. */
struct vu_span vu_mem_at(struct vu_mem *m, u64 gpa, u64 len);

/* Where all @len bytes at the front-end's address @uva are, or NULL. */
void *vu_mem_at_uva(struct vu_mem *m, u64 uva, u64 len);

#endif
