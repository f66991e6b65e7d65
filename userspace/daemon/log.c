// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 1024,
	NOTICE_MAX_BYTES = 256, /* that lines were left out */
};

static const char *const level_names[] = { "report", "error", "warn", "info", "debug", "trace" };
static_assert(ARRAY_SIZE(level_names) == NUM_VSD_LEVELS, "every level has a name");

static const char *const format_names[] = { "text", "json" };
static_assert(ARRAY_SIZE(format_names) == NUM_VSD_LOG_FORMATS, "every format has a name");

static enum vsd_level log_level = VSD_INFO;
static enum vsd_log_format log_format = VSD_LOG_TEXT;

/* Serializes what is written, and protects left_out. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static u32 left_out; /* lines that nobody had room for */

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

static size_t as_line(char *line, size_t room, const char *level, const char *component, const char *text)
{
	if (__atomic_load_n(&log_format, __ATOMIC_RELAXED) == VSD_LOG_JSON)
		return as_json(line, room, level, component, text);
	return (size_t)snprintf(line, room, "%s %s: %s\n", level, component, text);
}

/*
 * Without waiting for whoever reads it. A pipe with any room has room for PIPE_BUF bytes, which is more than is written
 * at a time. False: there is none. Where nobody reads any more, or a disk is full, nobody misses anything.
 */
static bool put(const char *bytes, size_t len)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
	ssize_t n = send(STDERR_FILENO, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK) {
		if (!poll(&p, 1, 0))
			return false;
		n = write(STDERR_FILENO, bytes, len);
	}
	return n >= 0 || errno != EAGAIN;
}

void vsd_log(enum vsd_level level, const char *component, const char *format, ...)
{
	char text[LINE_MAX_BYTES], line[NOTICE_MAX_BYTES + 2 * LINE_MAX_BYTES];
	size_t len = 0;
	va_list ap;

	static_assert(sizeof(line) <= 4096, "POSIX's PIPE_BUF is less, Linux's this");
	if (!vsd_log_enabled(level))
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	pthread_mutex_lock(&log_lock);
	if (left_out) {
		char notice[NOTICE_MAX_BYTES / 2];

		snprintf(notice, sizeof(notice), "%u lines were left out: they were not read in time", left_out);
		len = as_line(line, NOTICE_MAX_BYTES, level_names[VSD_WARN], "log", notice);
	}
	len += as_line(line + len, sizeof(line) - len, level_names[level], component, text);
	/* One write, so that lines of several processes in one file stay whole. */
	left_out = put(line, len) ? 0 : left_out + 1;
	pthread_mutex_unlock(&log_lock);
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
