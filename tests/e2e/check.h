/* SPDX-License-Identifier: BSD-2-Clause */
/* check.h - a check that names what failed and ends its test, which is a process of its own */
#ifndef E2E_CHECK_H
#define E2E_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                                  \
	do {                                                                         \
		if (!(cond)) {                                                       \
			fprintf(stderr, "# %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			exit(1);                                                     \
		}                                                                    \
	} while (0)

#endif
