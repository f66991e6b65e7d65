// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 1024,
};

static const char *const level_names[] = { "report", "error", "warn", "info", "debug", "trace" };
static_assert(ARRAY_SIZE(level_names) == NUM_VSD_LEVELS, "every level has a name");

static const char *const format_names[] = { "text", "json" };
static_assert(ARRAY_SIZE(format_names) == NUM_VSD_LOG_FORMATS, "every format has a name");

static enum vsd_level log_level = VSD_INFO;
static enum vsd_log_format log_format = VSD_LOG_TEXT;

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

enum vsd_log_format vsd_log_format_by_name(const char *name)
{
	u32 i = 0;

	while (i < NUM_VSD_LOG_FORMATS && strcmp(name, format_names[i]) != 0)
		i++;
	return i;
}

void vsd_log_set_format(enum vsd_log_format format)
{
	__atomic_store_n(&log_format, format, __ATOMIC_RELAXED);
}

/* @text as the inside of a JSON string, in @to, as far as @room goes. What is no ASCII may be no UTF-8: a '?'. */
static void escape(char *to, size_t room, const char *text)
{
	size_t len = 0;

	for (; *text && len + sizeof("\\u0000") <= room; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			len += (size_t)snprintf(to + len, room - len, "\\%c", c);
		else if (c < ' ')
			len += (size_t)snprintf(to + len, room - len, "\\u%04x", c);
		else
			to[len++] = c < 0x7f ? (char)c : '?';
	}
	to[len] = '\0';
}

/* Time as RFC 3339 has it, in UTC. */
static size_t as_json(char *line, size_t room, const char *level, const char *component, const char *text)
{
	char escaped[LINE_MAX_BYTES], date[32];
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	escape(escaped, sizeof(escaped), text);
	return (size_t)snprintf(line, room,
				"{\"time\":\"%s.%06ldZ\",\"level\":\"%s\",\"component\":\"%s\",\"message\":\"%s\"}\n",
				date, now.tv_nsec / 1000, level, component, escaped);
}

void vsd_log(enum vsd_level level, const char *component, const char *format, ...)
{
	char text[LINE_MAX_BYTES], line[2 * LINE_MAX_BYTES];
	size_t len;
	ssize_t ignored;
	va_list ap;

	if (!vsd_log_enabled(level))
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (__atomic_load_n(&log_format, __ATOMIC_RELAXED) == VSD_LOG_JSON)
		len = as_json(line, sizeof(line), level_names[level], component, text);
	else
		len = (size_t)snprintf(line, sizeof(line), "%s %s: %s\n", level_names[level], component, text);
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
