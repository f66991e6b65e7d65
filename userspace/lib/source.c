// SPDX-License-Identifier: BSD-2-Clause
/*
 * source.c - see source.h
 *
 * Numbers have one spelling: what was read is written again and compared.
 */
#include "source.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char suffix[] = "_dgram";

enum {
	SUFFIX_LEN = sizeof(suffix) - 1,
	PAIR_MAX = 24, /* "4294967295.4294967295" and its final 0 */
};

/* Two numbers with one character between them. Return: their length; 0: there is something else. */
static size_t read_pair(const char *text, char between, struct vsock_addr *pair)
{
	char again[PAIR_MAX], *end;
	int len;

	pair->cid = (uint32_t)strtoul(text, &end, 10);
	pair->port = *end ? (uint32_t)strtoul(end + 1, NULL, 10) : 0;
	len = snprintf(again, sizeof(again), "%u%c%u", pair->cid, between, pair->port);
	return strncmp(text, again, (size_t)len) == 0 ? (size_t)len : 0;
}

/* The name as text, '@' in front of an abstract one; empty where it has bytes that no address can have. */
static void write_name(const struct sockaddr_un *name, socklen_t name_len, char text[VSOCK_PATH_MAX + 1])
{
	const size_t head = offsetof(struct sockaddr_un, sun_path);
	size_t len = name_len > head ? name_len - head : 0;

	if (len > sizeof(name->sun_path))
		len = sizeof(name->sun_path);
	memcpy(text, name->sun_path, len);
	text[len] = '\0';
	if (!len || text[0])
		return;
	text[0] = '@';
	if (strlen(text) != len)
		text[0] = '\0';
}

static bool ends_with_suffix(const char *text, size_t len)
{
	return len > SUFFIX_LEN && memcmp(text + len - SUFFIX_LEN, suffix, SUFFIX_LEN) == 0;
}

/* "FROM CID PORT\n". Return: its length; 0: there is none. */
static size_t read_line(const char *head, size_t head_len, struct vsock_addr *pair)
{
	static const char word[] = "FROM ";
	const size_t word_len = sizeof(word) - 1;
	char text[SOURCE_LINE_MAX + 1];
	size_t len = head_len < SOURCE_LINE_MAX ? head_len : SOURCE_LINE_MAX, end;

	memcpy(text, head, len);
	text[len] = '\0';
	if (strncmp(text, word, word_len) != 0)
		return 0;
	end = read_pair(text + word_len, ' ', pair);
	return end && text[word_len + end] == '\n' ? word_len + end + 1 : 0;
}

/* PATH_dgram@CID.PORT. Return: the length of PATH_dgram; 0: there is something else. */
static size_t read_name(const char *text, struct vsock_addr *pair)
{
	const char *at = strrchr(text, '@');
	size_t len = at ? (size_t)(at - text) : 0, end;

	if (!ends_with_suffix(text, len))
		return 0;
	end = read_pair(at + 1, '.', pair);
	return end && !at[1 + end] ? len : 0;
}

size_t source_read(const struct sockaddr_un *name, socklen_t name_len, const char *head, size_t head_len,
		   struct vsock_addr *from)
{
	struct vsock_addr pair = {
		.kind = VSOCK_KIND_HYBRID, .type = SOCK_DGRAM, .cid = VSOCK_CID_ANY, .port = VSOCK_PORT_ANY
	};
	char text[VSOCK_PATH_MAX + 1];
	size_t len, line = 0;

	*from = pair;
	write_name(name, name_len, text);
	len = strlen(text);
	if (ends_with_suffix(text, len)) {
		line = read_line(head, head_len, &pair);
		len = line ? len : 0;
	} else {
		len = read_name(text, &pair);
	}
	if (!len)
		return 0;
	*from = pair;
	memcpy(from->path, text, len - SUFFIX_LEN);
	return line;
}
