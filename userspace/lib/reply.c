// SPDX-License-Identifier: BSD-2-Clause
/*
 * reply.c - see reply.h
 */
#include <stdbool.h>
#include <string.h>

#include "reply.h"

/* "OK", spaces, a number below 2^32, an optional carriage return; @len counts no newline. */
static bool parse_line(const char *line, size_t len, uint32_t *number)
{
	uint64_t value = 0;
	size_t i = 2, digits;

	if (len && line[len - 1] == '\r')
		len--;
	if (len < 4 || memcmp(line, "OK", 2) != 0)
		return false;
	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	if (i == 2)
		return false;
	for (digits = 0; i < len && line[i] >= '0' && line[i] <= '9'; i++, digits++) {
		value = value * 10 + (uint64_t)(line[i] - '0');
		if (value > UINT32_MAX)
			return false;
	}
	*number = (uint32_t)value;
	return digits && i == len;
}

size_t reply_feed(struct reply *reply, const char *bytes, size_t len)
{
	size_t room = REPLY_MAX - reply->len;
	size_t seen = len < room ? len : room;
	const char *newline = memchr(bytes, '\n', seen);
	size_t take = newline ? (size_t)(newline - bytes) + 1 : seen;

	memcpy(reply->line + reply->len, bytes, take);
	reply->len += take;
	if (newline)
		reply->state = parse_line(reply->line, reply->len - 1, &reply->number) ? REPLY_OK : REPLY_BAD;
	else if (reply->len == REPLY_MAX)
		reply->state = REPLY_BAD;
	return take;
}
