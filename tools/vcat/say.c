// SPDX-License-Identifier: BSD-2-Clause
/*
 * say.c - see say.h
 */
#include <stdarg.h>
#include <stdio.h>

#include "say.h"

int say_level;

/* One write per line: several processes of a server share standard error. */
__attribute__((format(printf, 1, 0))) static void say_line(const char *fmt, va_list args)
{
	char line[1024];

	vsnprintf(line, sizeof(line), fmt, args);
	fprintf(stderr, "vcat: %s\n", line);
}

void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	say_line(fmt, args);
	va_end(args);
}

void say_if(int level, const char *fmt, ...)
{
	va_list args;

	if (say_level < level)
		return;
	va_start(args, fmt);
	say_line(fmt, args);
	va_end(args);
}
