// SPDX-License-Identifier: BSD-2-Clause
/*
 * criterion_main.c - the tables of main.c as parameterised Criterion tests, one process per case
 *
 * Not for sanitizers: Criterion 2.4.1 passes over what they find in the child.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "check.h"

unsigned int check_failures;

/* Parameters are copied to another process, where addresses differ: indices say where the case is. */
struct where {
	size_t suite;
	size_t index;
};

static const struct check_suite *const suites[] = { CHECK_ALL_SUITES };

ParameterizedTestParameters(rules, vectors)
{
	static struct where params[1024];
	size_t n = 0;

	for (size_t s = 0; s < ARRAY_SIZE(suites); s++)
		for (size_t i = 0; i < suites[s]->ncases && n < ARRAY_SIZE(params); i++)
			params[n++] = (struct where){ s, i };
	return cr_make_param_array(struct where, params, n);
}

ParameterizedTest(struct where *p, rules, vectors)
{
	const struct check_suite *suite = suites[p->suite];
	const struct check_case *c = &suite->cases[p->index];

	c->run(c->arg);
	if (c->waits)
		cr_skip_test("%s/%s waits: %s", suite->name, c->name, c->waits);
	cr_assert(check_failures == 0, "%s/%s", suite->name, c->name);
}
