// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_addr.c - libFuzzer target for the address parser, the handshake's reply, and who has sent a datagram
 *
 * Properties: what was parsed is formatted, read back and formatted to the same text; a failure leaves the address
 * alone and gives a message; the reply's verdict does not depend on how its bytes arrive, and never takes a byte
 * behind the newline; a sender that has an address has the name, or the line, that is written for it.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "reply.h"
#include "source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_address(const char *text, const char *port, unsigned int flags)
{
	char why[VSOCK_TEXT_MAX] = "", once[VSOCK_TEXT_MAX], twice[VSOCK_TEXT_MAX];
	struct vsock_addr addr, back, before;

	memset(&addr, 0x5a, sizeof(addr));
	before = addr;
	if (vsock_parse(text, port, flags, &addr, why, sizeof(why)) != 0) {
		must(why[0] && memcmp(&addr, &before, sizeof(addr)) == 0);
		return;
	}
	must(vsock_format(&addr, once, sizeof(once)) > 0);
	must(vsock_parse(once, NULL, 0, &back, NULL, 0) == 0);
	must(vsock_format(&back, twice, sizeof(twice)) > 0);
	must(strcmp(once, twice) == 0);
	must(vsock_explain(VSOCK_OP_DIAL, &addr, NULL, (int)(strlen(text) % 134), why, sizeof(why))[0] != '\0');
}

static void check_reply(const char *bytes, size_t size)
{
	struct reply whole = { .state = REPLY_MORE }, single = { .state = REPLY_MORE };
	size_t taken = 0, n = 0;
	const char *newline = memchr(bytes, '\n', size);

	while (whole.state == REPLY_MORE && taken < size)
		taken += reply_feed(&whole, bytes + taken, size - taken);
	while (single.state == REPLY_MORE && n < size)
		n += reply_feed(&single, bytes + n, 1);
	must(taken == n && whole.state == single.state && whole.number == single.number);
	must(taken <= REPLY_MAX && (!newline || taken <= (size_t)(newline - bytes) + 1));
	must(whole.state != REPLY_OK || bytes[taken - 1] == '\n');
}

/* A name, and behind the first 0 of the bytes the datagram. */
static void check_source(const char *bytes, size_t size)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	size_t len = strnlen(bytes, size < sizeof(name.sun_path) ? size : sizeof(name.sun_path));
	const char *head = bytes + len + (len < size);
	char line[SOURCE_LINE_MAX], again[VSOCK_TEXT_MAX];
	struct vsock_addr from;
	size_t n;

	memcpy(name.sun_path, bytes, len);
	n = source_read(&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len), head,
			size - (size_t)(head - bytes), &from);
	must(from.kind == VSOCK_KIND_HYBRID && from.type == SOCK_DGRAM);
	if (!from.path[0]) {
		must(n == 0 && from.cid == VSOCK_CID_ANY && from.port == VSOCK_PORT_ANY);
		return;
	}
	snprintf(line, sizeof(line), "FROM %u %u\n", from.cid, from.port);
	must(!n || (n == strlen(line) && !memcmp(head, line, n)));
	snprintf(again, sizeof(again), "%s_dgram@%u.%u", from.path, from.cid, from.port);
	*strrchr(again, '@') = n ? '\0' : '@';
	must(strlen(again) == len && !memcmp(again, bytes, len));
}

/* First byte: what to do. Then the text; a newline separates the port where it is a word of its own. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text, *port = NULL;

	if (!size)
		return 0;
	text = malloc(size);
	must(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] & 1) {
		check_reply(text, size - 1);
		check_source(text, size - 1);
	} else {
		port = (data[0] & 2) ? strchr(text, '\n') : NULL;
		if (port)
			*port++ = '\0';
		check_address(text, port, (data[0] & 4) ? VSOCK_PARSE_LISTEN : 0);
	}
	free(text);
	return 0;
}
