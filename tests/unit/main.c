// SPDX-License-Identifier: BSD-2-Clause
/*
 * main.c - the plain runner: every case of every suite, or of the suites named in the arguments
 *
 * Prints "ok - suite/case" or "not ok - suite/case". Exit status 1 if anything failed, 2 for a suite that does not
 * exist.
 */
#include <string.h>

#include "check.h"

unsigned int check_failures;

static const struct check_suite *const suites[] = { CHECK_ALL_SUITES };

static void report(const struct check_suite *suite, const struct check_case *c, bool passed)
{
	if (!c->waits)
		printf("%s - %s/%s\n", passed ? "ok" : "not ok", suite->name, c->name);
	else if (passed)
		printf("not ok - %s/%s # passes: it need not wait any more\n", suite->name, c->name);
	else
		printf("skip - %s/%s # waits: %s\n", suite->name, c->name, c->waits);
	fflush(stdout);
}

static void run_suite(const struct check_suite *suite)
{
	for (size_t i = 0; i < suite->ncases; i++) {
		const struct check_case *c = &suite->cases[i];
		unsigned int before = check_failures;

		c->run(c->arg);
		report(suite, c, check_failures == before);
		if (c->waits)
			check_failures = before + (check_failures == before);
	}
}

static const struct check_suite *find_suite(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++)
		if (!strcmp(suites[i]->name, name))
			return suites[i];
	return NULL;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const struct check_suite *suite = find_suite(argv[i]);

		if (!suite) {
			fprintf(stderr, "no such suite: %s\n", argv[i]);
			return 2;
		}
		run_suite(suite);
	}
	for (size_t i = 0; argc < 2 && i < ARRAY_SIZE(suites); i++)
		run_suite(suites[i]);
	return check_failures ? 1 : 0;
}
