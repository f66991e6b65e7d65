/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dump.h - copies of what goes through, for -o and -x
 */
#ifndef VCAT_DUMP_H
#define VCAT_DUMP_H

#include <stdbool.h>
#include <stddef.h>

struct options;

/* Two optional files; -1 where there is none. */
struct dump {
	int raw_fd;
	int hex_fd;
};

/* 0, or -1 after saying why. */
int dump_open(struct dump *dump, const struct options *options);

/* 0, or -1 after saying why. @sent: from us to the peer. */
int dump_bytes(const struct dump *dump, const char *bytes, size_t len, bool sent);

#endif
