// SPDX-License-Identifier: BSD-2-Clause
#include "vu/mem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/*
 * What the SIGBUS handler searches: the memories of the thread that touched one. The signal is synchronous, so it never
 * sees a list in change.
 */
static _Thread_local struct vu_mem *guarded;

static bool replace(struct vu_mem *m, u8 *map, u64 map_len)
{
	if (mmap(map, map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
		 0) == MAP_FAILED)
		return false;
	m->lost = 1;
	return true;
}

static bool replace_region(struct vu_mem *m, const u8 *at)
{
	if (m->log.bits && at >= m->log.map && at < m->log.map + m->log.map_len)
		return replace(m, m->log.map, m->log.map_len);
	for (u32 i = 0; i < m->n; i++) {
		struct vu_region *r = &m->regions[i];

		if (at >= r->map && at < r->map + r->map_len)
			return replace(m, r->map, r->map_len);
	}
	return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	(void)context;
	for (struct vu_mem *m = guarded; m; m = m->next) {
		if (replace_region(m, info->si_addr))
			return;
	}
	/* Not a guest's: the instruction faults again and the default action ends the process. */
	signal(sig, SIG_DFL);
}

int vu_mem_guard(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, NULL) ? -errno : 0;
}

void vu_mem_init(struct vu_mem *m)
{
	memset(m, 0, sizeof(*m));
	m->next = guarded;
	guarded = m;
}

void vu_mem_clear(struct vu_mem *m)
{
	while (m->n) {
		struct vu_region *r = &m->regions[--m->n];

		munmap(r->map, r->map_len);
	}
	m->last = 0;
	m->lost = 0;
}

void vu_mem_fini(struct vu_mem *m)
{
	struct vu_mem **p = &guarded;

	vu_mem_clear(m);
	vu_mem_drop_log(m);
	while (*p && *p != m)
		p = &(*p)->next;
	if (*p)
		*p = m->next;
}

static bool overlaps(u64 a, u64 b, u64 a_size, u64 b_size)
{
	return a < b ? b - a < a_size : a - b < b_size;
}

/* Is there a bit for each page? */
static bool log_covers(const struct vu_log *l, u64 gpa, u64 size)
{
	return !l->bits || (gpa + size - 1) / VU_LOG_PAGE / 8 < l->size;
}

static const char *judge_region(const struct vu_mem *m, const struct vu_region_desc *d)
{
	if (m->n == VU_MEM_REGIONS_MAX)
		return "too many memory regions";
	if (!d->size || d->size > UINT64_MAX - d->gpa || d->size > UINT64_MAX - d->uva ||
	    d->size > (u64)INT64_MAX - d->mmap_offset || d->mmap_offset > INT64_MAX)
		return "memory region that wraps around";
	if (!log_covers(&m->log, d->gpa, d->size))
		return "memory region for which the dirty log is too short";
	for (u32 i = 0; i < m->n; i++) {
		if (overlaps(d->gpa, m->regions[i].gpa, d->size, m->regions[i].size))
			return "memory regions that overlap";
	}
	return NULL;
}

const char *vu_mem_add(struct vu_mem *m, const struct vu_region_desc *d, int fd)
{
	const char *why = judge_region(m, d);
	struct vu_region r = { .gpa = d->gpa, .uva = d->uva, .size = d->size };
	struct stat st;

	if (why)
		return why;
	if (fd < 0 || fstat(fd, &st))
		return "memory region without a file";
	if (S_ISREG(st.st_mode) && (u64)st.st_size < d->mmap_offset + d->size)
		return "memory region beyond the end of its file";
	/* The offset need not be aligned, so everything before it is mapped too; huge pages want a rounded length. */
	r.map_len = d->mmap_offset + d->size;
	if (st.st_blksize > 0 && !(st.st_blksize & (st.st_blksize - 1)))
		r.map_len = (r.map_len + (u64)st.st_blksize - 1) & ~((u64)st.st_blksize - 1);
	r.map = mmap(NULL, r.map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (r.map == MAP_FAILED)
		return "memory region that cannot be mapped";
	r.base = r.map + d->mmap_offset;
	m->regions[m->n++] = r;
	return NULL;
}

const char *vu_mem_remove(struct vu_mem *m, const struct vu_region_desc *d)
{
	for (u32 i = 0; i < m->n; i++) {
		struct vu_region *r = &m->regions[i];

		if (r->gpa != d->gpa || r->uva != d->uva || r->size != d->size)
			continue;
		munmap(r->map, r->map_len);
		*r = m->regions[--m->n];
		m->last = 0;
		return NULL;
	}
	return "memory region that was never added";
}

void vu_mem_drop_log(struct vu_mem *m)
{
	if (m->log.bits)
		munmap(m->log.map, m->log.map_len);
	m->log = (struct vu_log){ .bits = NULL };
}

const char *vu_mem_set_log(struct vu_mem *m, const struct vu_log_desc *d, int fd)
{
	struct vu_log l = { .size = d->size, .all = m->log.all };
	struct stat st;

	if (!d->size || d->mmap_offset > INT64_MAX || d->size > (u64)INT64_MAX - d->mmap_offset)
		return "dirty log that wraps around";
	if (fd < 0 || fstat(fd, &st))
		return "dirty log without a file";
	if (S_ISREG(st.st_mode) && (u64)st.st_size < d->mmap_offset + d->size)
		return "dirty log beyond the end of its file";
	l.map_len = d->mmap_offset + d->size;
	l.map = mmap(NULL, l.map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (l.map == MAP_FAILED)
		return "dirty log that cannot be mapped";
	l.bits = l.map + d->mmap_offset;
	vu_mem_drop_log(m);
	m->log = l;
	for (u32 i = 0; i < m->n; i++) {
		if (!log_covers(&m->log, m->regions[i].gpa, m->regions[i].size))
			return "dirty log that is too short for the memory";
	}
	return NULL;
}

void vu_mem_dirty(struct vu_mem *m, u64 gpa, u64 len)
{
	if (!m->log.bits || !len || len > UINT64_MAX - gpa || !log_covers(&m->log, gpa, len))
		return;
	for (u64 page = gpa / VU_LOG_PAGE; page <= (gpa + len - 1) / VU_LOG_PAGE; page++) {
		/* Pairs with the front-end's exchange: whoever takes the bit away sees what was written before. */
		__atomic_fetch_or(&m->log.bits[page / 8], (u8)(1u << page % 8), __ATOMIC_RELEASE);
	}
}

/* Where in guest memory a byte of ours is that vu_mem_at() gave out. False: nowhere. */
static bool gpa_of(const struct vu_mem *m, const u8 *ptr, u64 *gpa)
{
	for (u32 i = 0; i < m->n; i++) {
		const struct vu_region *r = &m->regions[i];

		if (ptr < r->base || ptr >= r->base + r->size)
			continue;
		*gpa = r->gpa + (u64)(ptr - r->base);
		return true;
	}
	return false;
}

void vu_mem_dirty_iov(struct vu_mem *m, const struct iovec *iov, u32 niov, u64 len)
{
	for (u32 i = 0; i < niov && len && m->log.all; i++) {
		u64 n = iov[i].iov_len < len ? iov[i].iov_len : len, gpa;

		if (gpa_of(m, iov[i].iov_base, &gpa))
			vu_mem_dirty(m, gpa, n);
		len -= n;
	}
}

struct vu_span vu_mem_at(struct vu_mem *m, u64 gpa, u64 len)
{
	struct vu_span none = { .ptr = NULL };

	for (u32 tried = 0, i = m->last; tried < m->n; tried++, i = i + 1 < m->n ? i + 1 : 0) {
		const struct vu_region *r = &m->regions[i];
		u64 offset = gpa - r->gpa;

		if (gpa < r->gpa || offset >= r->size)
			continue;
		m->last = i;
		return (struct vu_span){ .ptr = r->base + offset,
					 .len = len < r->size - offset ? len : r->size - offset };
	}
	return none;
}

void *vu_mem_at_uva(struct vu_mem *m, u64 uva, u64 len)
{
	for (u32 i = 0; i < m->n; i++) {
		const struct vu_region *r = &m->regions[i];

		if (uva >= r->uva && uva - r->uva < r->size && len <= r->size - (uva - r->uva))
			return r->base + (uva - r->uva);
	}
	return NULL;
}
