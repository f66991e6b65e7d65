/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * show.h - lines "KIND KEY=VALUE ..." as tables, JSON or Prometheus' text
 */
#ifndef VSTAT_SHOW_H
#define VSTAT_SHOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum {
	SHOW_PAIRS_MAX = 32, /* of a line */
};

enum show_as { SHOW_TABLE, SHOW_JSON, SHOW_PROMETHEUS };

struct show_pair {
	const char *key;
	const char *value;
};

struct show_line {
	const char *kind;
	struct show_pair pair[SHOW_PAIRS_MAX];
	size_t n;
};

/* Take a line apart, in place. False: it is none of that form. */
bool show_parse(struct show_line *l, char *text);

/* Write lines; those of one kind need not follow each other. Names of metrics begin with @whose. */
void show(const struct show_line *lines, size_t n, enum show_as as, const char *whose, FILE *out);

#endif
