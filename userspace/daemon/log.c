// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 1024,
};

static const char *const level_names[] = { "report", "error", "warn", "info", "debug", "trace" };
static_assert(ARRAY_SIZE(level_names) == NUM_VSD_LEVELS, "every level has a name");

static enum vsd_level log_level = VSD_INFO;

enum vsd_level vsd_level_by_name(const char *name)
{
	u32 i = VSD_ERROR;

	while (i < NUM_VSD_LEVELS && strcmp(name, level_names[i]) != 0)
		i++;
	return i;
}

void vsd_log_set_level(enum vsd_level level)
{
	__atomic_store_n(&log_level, level, __ATOMIC_RELAXED);
}

bool vsd_log_enabled(enum vsd_level level)
{
	return level <= __atomic_load_n(&log_level, __ATOMIC_RELAXED);
}

void vsd_log(enum vsd_level level, const char *component, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	size_t len;
	ssize_t ignored;
	va_list ap;

	if (!vsd_log_enabled(level))
		return;
	len = (size_t)snprintf(line, sizeof(line) / 2, "%s %s: ", level_names[level], component);
	va_start(ap, format);
	vsnprintf(line + len, sizeof(line) - len - 1, format, ap);
	va_end(ap);
	len = strlen(line);
	line[len++] = '\n';
	/* One write, so that lines of several processes in one file stay whole. */
	ignored = write(STDERR_FILENO, line, len);
	(void)ignored;
}

bool vsd_rate_ok(struct vsd_rate *rate, u64 now, u32 *dropped)
{
	*dropped = 0;
	if (!rate->since || now - rate->since > VSD_RATE_PERIOD_MS * 1000000ull) {
		*dropped = rate->dropped;
		*rate = (struct vsd_rate){ .since = now };
	}
	if (rate->lines >= VSD_RATE_LINES) {
		rate->dropped++;
		return false;
	}
	rate->lines++;
	return true;
}
