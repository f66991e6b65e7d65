// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_addr.c - libFuzzer target for the address parser and the reader of the handshake's reply
 *
 * Properties: what was parsed is formatted, read back and formatted to the same text; a failure leaves the address
 * alone and gives a message; the reply's verdict does not depend on how its bytes arrive, and never takes a byte
 * behind the newline.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "reply.h"

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
	} else {
		port = (data[0] & 2) ? strchr(text, '\n') : NULL;
		if (port)
			*port++ = '\0';
		check_address(text, port, (data[0] & 4) ? VSOCK_PARSE_LISTEN : 0);
	}
	free(text);
	return 0;
}
