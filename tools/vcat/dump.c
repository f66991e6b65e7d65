// SPDX-License-Identifier: BSD-2-Clause
/*
 * dump.c - see dump.h
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "dump.h"
#include "options.h"
#include "say.h"

enum { HEX_COLUMNS = 16 };

static int open_file(const char *name, bool append)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC | O_APPEND | (append ? 0 : O_TRUNC), 0666);

	if (fd < 0)
		say("%s: %s", name, strerror(errno));
	return fd;
}

int dump_open(struct dump *dump, const struct options *options)
{
	dump->raw_fd = -1;
	dump->hex_fd = -1;
	if (options->output) {
		dump->raw_fd = open_file(options->output, options->append);
		if (dump->raw_fd < 0)
			return -1;
	}
	if (options->hex_output) {
		dump->hex_fd = open_file(options->hex_output, options->append);
		if (dump->hex_fd < 0)
			return -1;
	}
	return 0;
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno != EINTR) {
			say("the dump cannot be written: %s", strerror(errno));
			return -1;
		}
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* "> [0010] 68 65 6C 6C 6F ... hello": one line. */
static int write_hex_line(int fd, const char *bytes, size_t offset, size_t count, bool sent)
{
	char line[128];
	int len = snprintf(line, sizeof(line), "%c [%04zx]  ", sent ? '>' : '<', offset);

	for (size_t i = 0; i < HEX_COLUMNS; i++) {
		if (i < count)
			len += snprintf(line + len, sizeof(line) - (size_t)len, "%02X ", (unsigned char)bytes[i]);
		else
			len += snprintf(line + len, sizeof(line) - (size_t)len, "   ");
	}
	line[len++] = ' ';
	for (size_t i = 0; i < count; i++)
		line[len++] = bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '.';
	line[len++] = '\n';
	return write_all(fd, line, (size_t)len);
}

int dump_bytes(const struct dump *dump, const char *bytes, size_t len, bool sent)
{
	if (dump->raw_fd >= 0 && write_all(dump->raw_fd, bytes, len) < 0)
		return -1;
	for (size_t at = 0; dump->hex_fd >= 0 && at < len; at += HEX_COLUMNS) {
		size_t count = len - at < HEX_COLUMNS ? len - at : HEX_COLUMNS;

		if (write_hex_line(dump->hex_fd, bytes + at, at, count, sent) < 0)
			return -1;
	}
	return 0;
}
