/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limit.h - how many bytes a second may pass
 *
 * Each byte moves a date on by what it takes at that rate. As long as the date is not further ahead than a burst takes,
 * more may pass; who sends less saves up no more than that burst.
 */
#ifndef VSD_LIMIT_H
#define VSD_LIMIT_H

#include "kernel/proto/env.h"

enum {
	VSD_LIMIT_BURST_NS = 10000000,
	VSD_LIMIT_KIB_MAX = 1 << 26, /* 64 GiB a second: far more than anybody has, and no product below overflows */
};

/* Zeroed: nothing passed yet. */
struct vsd_limit {
	u64 date; /* ns: when what passed up to now has taken its time */
};

/* When more may pass at @kib a second; 0 is no limit. It may if that is not after @now. */
static inline u64 vsd_limit_until(const struct vsd_limit *l, u32 kib)
{
	return kib && l->date > VSD_LIMIT_BURST_NS ? l->date - VSD_LIMIT_BURST_NS : 0;
}

/* @bytes pass @now. */
static inline void vsd_limit_take(struct vsd_limit *l, u32 kib, u64 bytes, u64 now)
{
	if (!kib)
		return;
	if (l->date < now)
		l->date = now;
	l->date += bytes * 1000000000 / ((u64)kib << 10);
}

/* @bytes that passed just now did not after all. */
static inline void vsd_limit_give(struct vsd_limit *l, u32 kib, u64 bytes)
{
	if (kib)
		l->date -= bytes * 1000000000 / ((u64)kib << 10);
}

#endif
