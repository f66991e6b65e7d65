/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tail.h - bytes that a slow reader has not taken yet
 *
 * Memory is there only while bytes are. Credit bounds the bytes; this file only keeps them.
 */
#ifndef VSOCK_TAIL_H
#define VSOCK_TAIL_H

#include "kernel/proto/env.h"

/* Zeroed memory is an empty tail. */
struct vsock_tail {
	u8 *bytes;
	u32 first; /* offset of the oldest byte */
	u32 len;
	u32 room;
};

/* Add @len bytes. False: out of memory, nothing was added. */
bool vsock_tail_add(struct vsock_tail *t, const void *bytes, u32 len);

/* Add @len bytes that the caller writes, at the address returned. NULL: out of memory. */
void *vsock_tail_reserve(struct vsock_tail *t, u32 len);

/* The oldest @len bytes went away. */
void vsock_tail_drop(struct vsock_tail *t, u32 len);

/* All of them went away. */
void vsock_tail_clear(struct vsock_tail *t);

#endif
