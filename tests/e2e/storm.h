/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * storm.h - packets of datagrams at random, and what they have to come to: the receiver's rules, said once more
 */
#ifndef TESTS_STORM_H
#define TESTS_STORM_H

#include "kernel/proto/dgram.h"

/**
 * struct storm - zeroed: nothing has come yet
 * @total, @have, @dst: of the datagram that is under way; @total 0: none
 * @whole: datagrams that are complete
 * @cut: datagrams that were begun in vain
 * @bad: packets that belong to none
 */
struct storm {
	u32 total;
	u32 have;
	struct vsp_addr dst;
	u32 whole;
	u32 cut;
	u32 bad;
};

/* The next packet: @h, to its port or the one above, made longer or worse. Half of them continue what is under way. */
struct vsp_hdr storm_next(const struct storm *s, struct vsp_hdr h, u32 random);

/* It was sent. */
void storm_add(struct storm *s, const struct vsp_hdr *h);

#endif
