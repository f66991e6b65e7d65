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
	if (!parse_port(bytes, i, end, &cmd.port))
		return cmd;
	cmd.what = VSD_COMMAND_CONNECT;
	while (i < end && isdigit((unsigned char)bytes[i]))
		i++;
	cmd.two = parse_port(bytes, skip_space(bytes, i, end), end, &cmd.second);
	return cmd;
}

/* Is the line of @len bytes this word and nothing else? */
static bool is_word(const char *word, const char *bytes, u32 len)
{
	const u32 word_len = (u32)strlen(word);
	u32 i = skip_space(bytes, 0, len);

	return len - i >= word_len && !strncasecmp(bytes + i, word, word_len) &&
	       skip_space(bytes, i + word_len, len) == len;
}

struct vsd_command vsd_command_parse(const char *bytes, u32 len)
{
	struct vsd_command cmd = parse("connect", bytes, len);

	if (cmd.what == VSD_COMMAND_BAD && cmd.len && is_word("passfd", bytes, cmd.len))
		cmd.what = VSD_COMMAND_PASSFD;
	return cmd;
}

struct vsd_command vsd_passed_parse(const char *bytes, u32 len)
{
	struct vsd_command cmd = { .what = VSD_COMMAND_BAD, .len = len };
	u32 i = skip_space(bytes, 0, len), digits = i;

	if (len > VSD_COMMAND_MAX || !parse_port(bytes, i, len, &cmd.port))
		return cmd;
	while (digits < len && isdigit((unsigned char)bytes[digits]))
		digits++;
	cmd.keep = is_word("keep", bytes + digits, len - digits);
	if (cmd.keep || skip_space(bytes, digits, len) == len)
		cmd.what = VSD_COMMAND_PASSFD;
	return cmd;
}

struct vsd_command vsd_sendto_parse(const char *bytes, u32 len)
{
	return parse("sendto", bytes, len);
}
