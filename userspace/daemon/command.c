// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/command.h"

#include "kernel/proto/wire.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static u32 skip_space(const char *s, u32 i, u32 end)
{
	while (i < end && isspace((unsigned char)s[i]))
		i++;
	return i;
}

/* A decimal number of at most 32 bits that ends at white space or @end. */
static bool parse_port(const char *s, u32 i, u32 end, u32 *port)
{
	u64 value = 0;
	u32 first = i;

	for (; i < end && isdigit((unsigned char)s[i]); i++) {
		value = value * 10 + (u64)(s[i] - '0');
		if (value >= VSP_PORT_ANY)
			return false;
	}
	*port = (u32)value;
	return i > first && (i == end || isspace((unsigned char)s[i]));
}

static struct vsd_command parse(const char *word, const char *bytes, u32 len)
{
	const u32 word_len = (u32)strlen(word);
	struct vsd_command cmd = { .what = VSD_COMMAND_BAD };
	u32 scan = len < VSD_COMMAND_MAX ? len : VSD_COMMAND_MAX;
	const char *newline = memchr(bytes, '\n', scan);
	u32 end, i;

	if (!newline) {
		cmd.what = len < VSD_COMMAND_MAX ? VSD_COMMAND_PART : VSD_COMMAND_BAD;
		return cmd;
	}
	end = (u32)(newline - bytes);
	cmd.len = end + 1;
	i = skip_space(bytes, 0, end);
	if (end - i <= word_len || strncasecmp(bytes + i, word, word_len) != 0 ||
	    !isspace((unsigned char)bytes[i + word_len]))
		return cmd;
	i = skip_space(bytes, i + word_len, end);
	if (parse_port(bytes, i, end, &cmd.port))
		cmd.what = VSD_COMMAND_CONNECT;
	return cmd;
}

struct vsd_command vsd_command_parse(const char *bytes, u32 len)
{
	return parse("connect", bytes, len);
}

struct vsd_command vsd_sendto_parse(const char *bytes, u32 len)
{
	return parse("sendto", bytes, len);
}
