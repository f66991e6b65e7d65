/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz.h - what the fuzz targets of the rules share: an invariant that stops the run, and a reader of input bytes
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "env.h"

#define MUST(cond)                                                                          \
	do {                                                                                \
		if (!(cond)) {                                                              \
			fprintf(stderr, "%s:%d: must be: %s\n", __FILE__, __LINE__, #cond); \
			abort();                                                            \
		}                                                                           \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

/* The next byte; 0 when there are no more. */
static inline u8 next8(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->data++;
}

static inline u16 next16(struct input *in)
{
	u16 low = next8(in);

	return (u16)(low | next8(in) << 8);
}

static inline u32 next32(struct input *in)
{
	u32 low = next16(in);

	return low | (u32)next16(in) << 16;
}

/* Sizes of every magnitude: small ones and those at the edges matter as much as the rest. */
static inline u32 next_size(struct input *in)
{
	u8 shift = next8(in) & 31;

	return next32(in) >> shift;
}

#endif
