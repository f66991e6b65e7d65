// SPDX-License-Identifier: BSD-2-Clause
/*
 * parse.c - from the spellings people use to a struct vsock_addr
 *
 * Pure: no system call, no state. Each message quotes the part that is wrong and ends with what to write instead.
 * Nothing is guessed: trailing garbage is an error, where others read "10.0.0.1" as CID 10.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

#define CID_REMEDY "write a number (decimal or 0x), or any, hypervisor, local, host or self"
#define PORT_REMEDY "write a number from 0 to 4294967295, decimal or 0x, or any"

/* Where a message goes. */
struct why {
	char *buf;
	size_t size;
};

/* A part of the text, not 0-terminated. */
struct part {
	const char *at;
	size_t len;
};

__attribute__((format(printf, 3, 4))) static int complain(struct why why, int err, const char *fmt, ...)
{
	va_list args;

	if (why.size) {
		va_start(args, fmt);
		vsnprintf(why.buf, why.size, fmt, args);
		va_end(args);
	}
	return -err;
}

/* Enough of a part for a message. */
static int shown(struct part part)
{
	return part.len > 100 ? 100 : (int)part.len;
}

static struct part part_of(const char *text)
{
	return (struct part){ text, strlen(text) };
}

static bool part_is(struct part part, const char *word)
{
	return part.len == strlen(word) && memcmp(part.at, word, part.len) == 0;
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

/* 0, -EINVAL or -ERANGE. */
static int parse_number(struct part part, uint32_t *value)
{
	uint64_t sum = 0;
	bool too_big = false;
	int base = 10;
	size_t i = 0;

	if (part.len > 2 && part.at[0] == '0' && (part.at[1] == 'x' || part.at[1] == 'X')) {
		base = 16;
		i = 2;
	}
	if (i == part.len)
		return -EINVAL;
	for (; i < part.len; i++) {
		int digit = digit_of(part.at[i]);

		if (digit >= base)
			return -EINVAL;
		sum = sum * (uint64_t)base + (uint64_t)digit;
		if (sum > UINT32_MAX) {
			too_big = true;
			sum = 0;
		}
	}
	if (too_big)
		return -ERANGE;
	*value = (uint32_t)sum;
	return 0;
}

static bool looks_like_ip(struct part part)
{
	size_t dots = 0;

	for (size_t i = 0; i < part.len; i++) {
		if (part.at[i] == '.')
			dots++;
		else if (part.at[i] < '0' || part.at[i] > '9')
			return false;
	}
	return dots == 3;
}

static int parse_cid(struct part part, struct vsock_addr *addr, struct why why)
{
	static const struct {
		const char *name;
		uint32_t cid;
		uint32_t flags;
	} names[] = {
		{ "any", VSOCK_CID_ANY, 0 },
		{ "-1", VSOCK_CID_ANY, 0 },
		{ "hypervisor", VSOCK_CID_HYPERVISOR, 0 },
		{ "local", VSOCK_CID_LOCAL, 0 },
		{ "host", VSOCK_CID_HOST, 0 },
		{ "self", VSOCK_CID_ANY, VSOCK_ADDR_SELF },
	};
	uint32_t cid = 0;
	int err;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (part_is(part, names[i].name)) {
			addr->cid = names[i].cid;
			addr->flags = names[i].flags;
			return 0;
		}
	}
	err = parse_number(part, &cid);
	if (err == -ERANGE)
		return complain(why, ERANGE, "CID '%.*s' is too big: CIDs end at 4294967295", shown(part), part.at);
	if (err && looks_like_ip(part))
		return complain(why, EINVAL, "'%.*s' is an IP address, not a CID: " CID_REMEDY, shown(part), part.at);
	if (err)
		return complain(why, EINVAL, "'%.*s' is not a CID: " CID_REMEDY, shown(part), part.at);
	addr->cid = cid;
	addr->flags = 0;
	return 0;
}

static int parse_port(struct part part, uint32_t *port, struct why why)
{
	int err;

	if (!part.len)
		return complain(why, EINVAL, "the port is missing: " PORT_REMEDY);
	if (part_is(part, "any") || part_is(part, "-1")) {
		*port = VSOCK_PORT_ANY;
		return 0;
	}
	err = parse_number(part, port);
	if (err == -ERANGE)
		return complain(why, ERANGE, "port '%.*s' is too big: ports end at 4294967295", shown(part), part.at);
	if (err)
		return complain(why, EINVAL, "'%.*s' is not a port: " PORT_REMEDY, shown(part), part.at);
	return 0;
}

/* Splits @whole at its last colon; without one the right side has at == NULL. */
static void split_port(struct part whole, struct part *left, struct part *right)
{
	size_t i = whole.len;

	while (i && whole.at[i - 1] != ':')
		i--;
	*left = i ? (struct part){ whole.at, i - 1 } : whole;
	*right = i ? (struct part){ whole.at + i, whole.len - i } : (struct part){ NULL, 0 };
}

/* PATH:PORT, or PATH where the port is a word of its own. @prefix is "/" or "". */
static int parse_hybrid(struct part rest, const char *prefix, const char *port_word, struct vsock_addr *addr,
			struct why why)
{
	struct part path = rest, port = { NULL, 0 };
	size_t lead = strlen(prefix);

	if (port_word)
		port = part_of(port_word);
	else
		split_port(rest, &path, &port);
	if (!port.at)
		return complain(why, EINVAL, "'%.*s' has no port: write PATH:PORT, or the port as a second word",
				shown(rest), rest.at);
	if (!path.len)
		return complain(why, EINVAL, "the path of the hybrid socket is missing: write vsock-mux:PATH:PORT");
	if (lead + path.len >= sizeof(addr->path))
		return complain(why, ENAMETOOLONG, "the path '%.*s' has %zu bytes: a Unix socket's path ends at %zu",
				shown(path), path.at, lead + path.len, sizeof(addr->path) - 1);
	addr->kind = VSOCK_KIND_HYBRID;
	addr->cid = VSOCK_CID_ANY;
	memcpy(addr->path, prefix, lead);
	memcpy(addr->path + lead, path.at, path.len);
	return parse_port(port, &addr->port, why);
}

/* CID:PORT, or CID where the port is a word of its own, or (listening) PORT alone. */
static int parse_vsock(struct part rest, const char *port_word, unsigned int flags, bool prefixed,
		       struct vsock_addr *addr, struct why why)
{
	struct part cid, port;
	int err;

	split_port(rest, &cid, &port);
	if (port_word && port.at)
		return complain(why, EINVAL, "there are two ports, '%.*s' and '%.40s': leave one out", shown(port),
				port.at, port_word);
	if (port_word)
		port = part_of(port_word);
	if (!port.at && (flags & VSOCK_PARSE_LISTEN) && !prefixed) {
		addr->cid = VSOCK_CID_ANY;
		return parse_port(rest, &addr->port, why);
	}
	if (!port.at)
		return complain(why, EINVAL, "'%.*s' has no port: write CID:PORT, or the port as a second word",
				shown(rest), rest.at);
	if (!cid.len && (port_word && !prefixed))
		return complain(why, EINVAL, "the CID is missing: " CID_REMEDY);
	if (!cid.len) {
		addr->cid = VSOCK_CID_ANY;
	} else {
		err = parse_cid(cid, addr, why);
		if (err)
			return err;
	}
	return parse_port(port, &addr->port, why);
}

static int parse_any(const char *text, const char *port, unsigned int flags, struct vsock_addr *addr, struct why why)
{
	static const struct {
		const char *prefix;
		enum vsock_kind kind;
		int type;
	} forms[] = {
		{ "vsock://", VSOCK_KIND_VSOCK, 0 },
		{ "vsock:", VSOCK_KIND_VSOCK, 0 },
		{ "vsock/", VSOCK_KIND_VSOCK, 0 },
		{ "vsock%", VSOCK_KIND_VSOCK, 0 },
		{ "vsock-stream:", VSOCK_KIND_VSOCK, SOCK_STREAM },
		{ "vsock-seqpacket:", VSOCK_KIND_VSOCK, SOCK_SEQPACKET },
		{ "vsock-dgram:", VSOCK_KIND_VSOCK, SOCK_DGRAM },
		{ "vsock-mux/", VSOCK_KIND_HYBRID, 0 },
		{ "vsock-mux:", VSOCK_KIND_HYBRID, 0 },
		{ "hvsock://", VSOCK_KIND_HYBRID, 0 },
		{ "unix:", VSOCK_KIND_HYBRID, 0 },
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t len = strlen(forms[i].prefix);
		struct part rest;
		bool slash;

		if (strncmp(text, forms[i].prefix, len) != 0)
			continue;
		rest = part_of(text + len);
		addr->type = forms[i].type;
		if (forms[i].kind == VSOCK_KIND_VSOCK)
			return parse_vsock(rest, port, flags, true, addr, why);
		slash = strcmp(forms[i].prefix, "vsock-mux/") == 0 && rest.len && !strchr("/.@", rest.at[0]);
		return parse_hybrid(rest, slash ? "/" : "", port, addr, why);
	}
	if (!*text)
		return complain(why, EINVAL, "the address is empty: write CID:PORT or vsock-mux:PATH:PORT");
	if (strchr(text, '/'))
		return complain(why, EINVAL,
				"'%.100s' is not an address: hybrid sockets are vsock-mux:PATH:PORT, others CID:PORT",
				text);
	return parse_vsock(part_of(text), port, flags, false, addr, why);
}

VSOCK_API int vsock_parse(const char *text, const char *port, unsigned int flags, struct vsock_addr *addr, char *why,
			  size_t why_size)
{
	struct vsock_addr parsed = { .kind = VSOCK_KIND_VSOCK };
	int err = parse_any(text, port, flags, &parsed, (struct why){ why, why ? why_size : 0 });

	if (!err)
		*addr = parsed;
	return err;
}

VSOCK_API int vsock_parse_cid(const char *text, struct vsock_addr *addr, char *why, size_t why_size)
{
	return parse_cid(part_of(text), addr, (struct why){ why, why ? why_size : 0 });
}

VSOCK_API int vsock_parse_port(const char *text, uint32_t *port, char *why, size_t why_size)
{
	uint32_t parsed = 0;
	int err = parse_port(part_of(text), &parsed, (struct why){ why, why ? why_size : 0 });

	if (!err)
		*port = parsed;
	return err;
}
