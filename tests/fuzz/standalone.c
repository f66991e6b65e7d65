// SPDX-License-Identifier: BSD-2-Clause
/*
 * standalone.c - a fuzz target without libFuzzer: replay the files in the arguments, or some inputs from a fixed seed
 *
 * For compilers and architectures that have no libFuzzer, and to look at a crash with a debugger.
 */
#include "fuzz.h"

#ifndef FUZZ_INPUTS
#define FUZZ_INPUTS 20000
#endif

enum { INPUTS = FUZZ_INPUTS, INPUT_MAX = 512 };

static int replay(const char *path)
{
	static u8 buf[1 << 20];
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f) {
		perror(path);
		return 1;
	}
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	LLVMFuzzerTestOneInput(buf, n);
	printf("ok - %s\n", path);
	return 0;
}

static u8 random_byte(u64 *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return (u8)(*state >> 56);
}

int main(int argc, char **argv)
{
	u64 state = 1;
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= replay(argv[i]);
	for (u32 i = 0; argc < 2 && i < INPUTS; i++) {
		u8 buf[INPUT_MAX];
		size_t n = (size_t)random_byte(&state) * 2;

		for (size_t j = 0; j < n; j++)
			buf[j] = random_byte(&state);
		LLVMFuzzerTestOneInput(buf, n);
	}
	return failed;
}
