// SPDX-License-Identifier: BSD-2-Clause
/*
 * addr.c - every spelling of an address, every message at its edge, the handshake's line, whose datagram it is, errors
 * in words
 *
 * A plain runner without a framework, so that it runs under sanitizers and on other architectures. No socket is opened.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "reply.h"
#include "source.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define L VSOCK_PARSE_LISTEN
#define P100 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static int failures;

static void report(int ok, const char *group, const char *name, const char *detail)
{
	printf("%s - %s: %s\n", ok ? "ok" : "not ok", group, name);
	if (!ok) {
		printf("# got: %s\n", detail);
		failures++;
	}
}

/* Spellings that are right, and what they are written as. */
static const struct {
	const char *text;
	const char *port;
	unsigned int flags;
	const char *canonical;
} good[] = {
	{ "vsock:2:77", NULL, 0, "vsock:2:77" },
	{ "vsock::77", NULL, 0, "vsock::77" },
	{ "vsock://3:1024", NULL, 0, "vsock:3:1024" },
	{ "vsock-stream:3:9", NULL, 0, "vsock:3:9" },
	{ "vsock-seqpacket:3:9", NULL, 0, "vsock-seqpacket:3:9" },
	{ "vsock-dgram:3:9", NULL, 0, "vsock-dgram:3:9" },
	{ "vsock-dgram::9", NULL, 0, "vsock-dgram::9" },
	{ "3:9", NULL, 0, "vsock:3:9" },
	{ ":9", NULL, 0, "vsock::9" },
	{ "3", "9", 0, "vsock:3:9" },
	{ "vsock/3", "9", 0, "vsock:3:9" },
	{ "vsock/3:9", NULL, 0, "vsock:3:9" },
	{ "vsock%3", "9", 0, "vsock:3:9" },
	{ "vsock:3", "9", 0, "vsock:3:9" },
	{ "vsock://3", "9", 0, "vsock:3:9" },
	{ "any", "9", 0, "vsock::9" },
	{ "-1", "9", 0, "vsock::9" },
	{ "4294967295", "9", 0, "vsock::9" },
	{ "4294967294", "9", 0, "vsock:4294967294:9" },
	{ "0xffffffff:0X10", NULL, 0, "vsock::16" },
	{ "hypervisor:9", NULL, 0, "vsock:0:9" },
	{ "local:9", NULL, 0, "vsock:1:9" },
	{ "host:9", NULL, 0, "vsock:2:9" },
	{ "self:9", NULL, 0, "vsock:self:9" },
	{ "vsock:host:0x1F", NULL, 0, "vsock:2:31" },
	{ "0:0", NULL, 0, "vsock:0:0" },
	{ "010:007", NULL, 0, "vsock:10:7" },
	{ "2:any", NULL, 0, "vsock:2:any" },
	{ "2:-1", NULL, 0, "vsock:2:any" },
	{ "2:4294967295", NULL, 0, "vsock:2:any" },
	{ "2:4294967294", NULL, 0, "vsock:2:4294967294" },
	{ "77", NULL, L, "vsock::77" },
	{ "any", NULL, L, "vsock::any" },
	{ "1:77", NULL, L, "vsock:1:77" },
	{ "1", "77", L, "vsock:1:77" },
	{ "vsock::77", NULL, L, "vsock::77" },
	{ "vsock-mux/run/vm.sock", "77", 0, "vsock-mux:/run/vm.sock:77" },
	{ "vsock-mux//run/vm.sock", "77", 0, "vsock-mux:/run/vm.sock:77" },
	{ "vsock-mux/./vm.sock", "77", 0, "vsock-mux:./vm.sock:77" },
	{ "vsock-mux/../vm.sock", "77", 0, "vsock-mux:../vm.sock:77" },
	{ "vsock-mux/@vm", "77", 0, "vsock-mux:@vm:77" },
	{ "vsock-mux/run/vm.sock:77", NULL, 0, "vsock-mux:/run/vm.sock:77" },
	{ "vsock-mux:/run/vm.sock:77", NULL, 0, "vsock-mux:/run/vm.sock:77" },
	{ "vsock-mux:vm.sock:77", NULL, 0, "vsock-mux:vm.sock:77" },
	{ "vsock-mux:/run/a:b:77", NULL, 0, "vsock-mux:/run/a:b:77" },
	{ "vsock-mux:/run/a:b", "77", 0, "vsock-mux:/run/a:b:77" },
	{ "unix:/run/vm.sock:77", NULL, 0, "vsock-mux:/run/vm.sock:77" },
	{ "unix:/run/vm.sock", "77", 0, "vsock-mux:/run/vm.sock:77" },
	{ "hvsock:///run/vm.sock:77", NULL, 0, "vsock-mux:/run/vm.sock:77" },
	{ "vsock-mux:/aaaaaa" P100, "1", 0, "vsock-mux:/aaaaaa" P100 ":1" },
	{ "vsock-mux/aaaaaa" P100, "1", 0, "vsock-mux:/aaaaaa" P100 ":1" },
};

/* Spellings that are wrong, the error, and a part of the message that names what is wrong. */
static const struct {
	const char *text;
	const char *port;
	unsigned int flags;
	int err;
	const char *why;
} bad[] = {
	{ "", NULL, 0, -EINVAL, "address is empty" },
	{ "", "77", 0, -EINVAL, "address is empty" },
	{ "2", NULL, 0, -EINVAL, "'2' has no port" },
	{ "2:", NULL, 0, -EINVAL, "port is missing" },
	{ "2", "", 0, -EINVAL, "port is missing" },
	{ "vsock:", NULL, 0, -EINVAL, "has no port" },
	{ "vsock:", "", 0, -EINVAL, "port is missing" },
	{ "vsock:77", NULL, L, -EINVAL, "'77' has no port" },
	{ "2:77x", NULL, 0, -EINVAL, "'77x' is not a port" },
	{ "2:7 7", NULL, 0, -EINVAL, "'7 7' is not a port" },
	{ "2: 77", NULL, 0, -EINVAL, "' 77' is not a port" },
	{ "2:77 ", NULL, 0, -EINVAL, "'77 ' is not a port" },
	{ "2:+77", NULL, 0, -EINVAL, "'+77' is not a port" },
	{ "2:-2", NULL, 0, -EINVAL, "'-2' is not a port" },
	{ "2:0x", NULL, 0, -EINVAL, "'0x' is not a port" },
	{ "2:0xg", NULL, 0, -EINVAL, "'0xg' is not a port" },
	{ "2:4294967296", NULL, 0, -ERANGE, "port '4294967296' is too big" },
	{ "2:0x100000000", NULL, 0, -ERANGE, "port '0x100000000' is too big" },
	{ "2:99999999999999999999999999", NULL, 0, -ERANGE, "is too big" },
	{ "2:99999999999999999999999999x", NULL, 0, -EINVAL, "is not a port" },
	{ "2abc:77", NULL, 0, -EINVAL, "'2abc' is not a CID" },
	{ "2abc", "77", 0, -EINVAL, "'2abc' is not a CID" },
	{ "10.0.0.1:77", NULL, 0, -EINVAL, "'10.0.0.1' is an IP address" },
	{ "10.0.0.1", "77", 0, -EINVAL, "'10.0.0.1' is an IP address" },
	{ "4294967296:77", NULL, 0, -ERANGE, "CID '4294967296' is too big" },
	{ "-2:77", NULL, 0, -EINVAL, "'-2' is not a CID" },
	{ "HOST:77", NULL, 0, -EINVAL, "'HOST' is not a CID" },
	{ "guest:77", NULL, 0, -EINVAL, "hypervisor, local, host or self" },
	{ "1:2:3", NULL, 0, -EINVAL, "'1:2' is not a CID" },
	{ "vsock:1:2:3", NULL, 0, -EINVAL, "'1:2' is not a CID" },
	{ "2:77", "78", 0, -EINVAL, "two ports, '77' and '78'" },
	{ "vsock:2:77", "78", 0, -EINVAL, "two ports" },
	{ "vsock-mux:", "77", 0, -EINVAL, "path of the hybrid socket is missing" },
	{ "vsock-mux::77", NULL, 0, -EINVAL, "path of the hybrid socket is missing" },
	{ "vsock-mux:/run/vm.sock", NULL, 0, -EINVAL, "'/run/vm.sock' has no port" },
	{ "vsock-mux:/run/vm.sock:", NULL, 0, -EINVAL, "port is missing" },
	{ "vsock-mux:/run/vm.sock:x", NULL, 0, -EINVAL, "'x' is not a port" },
	{ "vsock-mux:/aaaaaaa" P100, "1", 0, -ENAMETOOLONG, "has 108 bytes" },
	{ "vsock-mux/aaaaaaa" P100, "1", 0, -ENAMETOOLONG, "has 108 bytes" },
	{ "/run/vm.sock", "77", 0, -EINVAL, "vsock-mux:PATH:PORT" },
	{ "tcp://3:77", NULL, 0, -EINVAL, "is not an address" },
	{ "foo:3:77", NULL, 0, -EINVAL, "'foo:3' is not a CID" },
	{ "78x", NULL, L, -EINVAL, "'78x' is not a port" },
};

static void test_good(void)
{
	for (size_t i = 0; i < COUNT(good); i++) {
		char why[VSOCK_TEXT_MAX] = "", text[VSOCK_TEXT_MAX] = "", again[VSOCK_TEXT_MAX] = "", name[400];
		struct vsock_addr addr, back;
		int err = vsock_parse(good[i].text, good[i].port, good[i].flags, &addr, why, sizeof(why));
		int ok = !err && vsock_format(&addr, text, sizeof(text)) == (int)strlen(good[i].canonical) &&
			 strcmp(text, good[i].canonical) == 0 && !vsock_parse(text, NULL, 0, &back, NULL, 0) &&
			 vsock_format(&back, again, sizeof(again)) > 0 && strcmp(text, again) == 0;

		snprintf(name, sizeof(name), "'%s'%s%s", good[i].text, good[i].port ? " " : "",
			 good[i].port ? good[i].port : "");
		report(ok, "reads", name, err ? why : text);
	}
}

static void test_bad(void)
{
	for (size_t i = 0; i < COUNT(bad); i++) {
		char why[VSOCK_TEXT_MAX] = "", tiny[8], name[400];
		struct vsock_addr addr, before;
		int err, ok;

		memset(&addr, 0x5a, sizeof(addr));
		before = addr;
		err = vsock_parse(bad[i].text, bad[i].port, bad[i].flags, &addr, why, sizeof(why));
		ok = err == bad[i].err && strstr(why, bad[i].why) && memcmp(&addr, &before, sizeof(addr)) == 0 &&
		     vsock_parse(bad[i].text, bad[i].port, bad[i].flags, &addr, tiny, sizeof(tiny)) == err &&
		     strlen(tiny) == sizeof(tiny) - 1 &&
		     vsock_parse(bad[i].text, bad[i].port, bad[i].flags, &addr, NULL, 0) == err;
		snprintf(name, sizeof(name), "'%s'%s%s", bad[i].text, bad[i].port ? " " : "",
			 bad[i].port ? bad[i].port : "");
		report(ok, "refuses", name, why);
	}
}

/* The line in one piece and byte by byte gives the same verdict, and nothing behind the newline is taken. */
static void test_reply(void)
{
	static const struct {
		const char *bytes;
		enum reply_state state;
		size_t taken;
		uint32_t number;
	} lines[] = {
		{ "OK 1073741824\n", REPLY_OK, 14, 1073741824 },
		{ "OK 5\nOK 6\n", REPLY_OK, 5, 5 },
		{ "OK 5\r\npayload", REPLY_OK, 6, 5 },
		{ "OK \t 4294967295\n", REPLY_OK, 16, 4294967295u },
		{ "OK 4294967296\n", REPLY_BAD, 14, 0 },
		{ "OK\n", REPLY_BAD, 3, 0 },
		{ "OK \n", REPLY_BAD, 4, 0 },
		{ "OK5\n", REPLY_BAD, 4, 0 },
		{ "OK x\n", REPLY_BAD, 5, 0 },
		{ "OK 5 x\n", REPLY_BAD, 7, 0 },
		{ "ok 5\n", REPLY_BAD, 5, 0 },
		{ "\n", REPLY_BAD, 1, 0 },
		{ "\r\n", REPLY_BAD, 2, 0 },
		{ "OK 5", REPLY_MORE, 4, 0 },
		{ "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n", REPLY_BAD, REPLY_MAX, 0 },
		{ "OK 0000000000000000000000000005\n", REPLY_OK, 32, 5 },
		{ "OK 00000000000000000000000000005\n", REPLY_BAD, 32, 0 },
	};

	for (size_t i = 0; i < COUNT(lines); i++) {
		struct reply whole = { .state = REPLY_MORE }, bytes = { .state = REPLY_MORE };
		size_t taken = reply_feed(&whole, lines[i].bytes, strlen(lines[i].bytes)), n = 0;
		int ok;

		while (bytes.state == REPLY_MORE && lines[i].bytes[n])
			n += reply_feed(&bytes, lines[i].bytes + n, 1);
		ok = taken == lines[i].taken && whole.state == lines[i].state && n == taken &&
		     bytes.state == whole.state && (whole.state != REPLY_OK || whole.number == lines[i].number);
		report(ok, "reply", "line", lines[i].bytes);
	}
}

#define LINE "FROM 7 5000\n"
#define U32 "4294967295"

/* The name of a sender ('@' for the 0 of an abstract one), what is sent, who that is, and how much of it is a line. */
static const struct {
	const char *name;
	const char *bytes;
	const char *path;
	uint32_t cid;
	uint32_t port;
	size_t line;
} sources[] = {
	{ "/run/vm_dgram@7.5000", "payload", "/run/vm", 7, 5000, 0 },
	{ "/run/vm_dgram@7.5000", LINE, "/run/vm", 7, 5000, 0 },
	{ "/run/vm_dgram@0.0", "", "/run/vm", 0, 0, 0 },
	{ "/run/vm_dgram@" U32 "." U32, "", "/run/vm", 4294967295u, 4294967295u, 0 },
	{ "/run/_dgram@1.2/a_dgram@3.4", "", "/run/_dgram@1.2/a", 3, 4, 0 },
	{ "@vm_dgram@7.5000", "", "@vm", 7, 5000, 0 },
	{ "/run/vm_dgram", LINE "payload", "/run/vm", 7, 5000, 12 },
	{ "/run/vm_dgram", LINE, "/run/vm", 7, 5000, 12 },
	{ "/run/vm_dgram", LINE LINE, "/run/vm", 7, 5000, 12 },
	{ "/run/vm_dgram", "FROM 0 0\n", "/run/vm", 0, 0, 9 },
	{ "/run/vm_dgram", "FROM " U32 " " U32 "\nx", "/run/vm", 4294967295u, 4294967295u, 27 },
	{ "@vm_dgram", LINE, "@vm", 7, 5000, 12 },
	{ "/" P100 "a_dgram", LINE, "/" P100 "a", 7, 5000, 12 },
	/* What has no address. */
	{ "", LINE, NULL, 0, 0, 0 },
	{ "@", LINE, NULL, 0, 0, 0 },
	{ "@0000a", LINE, NULL, 0, 0, 0 },
	{ "/run/vm", LINE, NULL, 0, 0, 0 },
	{ "_dgram", LINE, NULL, 0, 0, 0 },
	{ "_dgram@7.5000", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram_7", LINE, NULL, 0, 0, 0 },
	{ "/run/vm@7.5000", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@7", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@7.", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@7.5000x", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@7.5000.1", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@07.5000", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@7.+5", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@-1.5", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@4294967296.5", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram@7 5", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "payload", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "FROM 7 5000", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "FROM 7\n", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "FROM 7  5\n", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "FROM 7 5 \n", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "FROM 7.5\n", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "from 7 5\n", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "FROM 4294967296 5\n", NULL, 0, 0, 0 },
	{ "/run/vm_dgram", "FROM " U32 "0 " U32 "0\n", NULL, 0, 0, 0 },
};

static int is_source(const struct sockaddr_un *name, size_t name_len, const char *bytes, size_t len, size_t i)
{
	const char *path = sources[i].path;
	struct vsock_addr from;
	size_t line;

	memset(&from, 0x5a, sizeof(from));
	line = source_read(name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name_len), bytes, len, &from);
	return line == sources[i].line && from.kind == VSOCK_KIND_HYBRID && from.type == SOCK_DGRAM && !from.flags &&
	       from.cid == (path ? sources[i].cid : VSOCK_CID_ANY) &&
	       from.port == (path ? sources[i].port : VSOCK_PORT_ANY) && !strcmp(from.path, path ? path : "");
}

/* A name with the 0 behind it, as the kernel gives it, and as long as a name can be; bytes that end where they end. */
static void test_source(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	size_t len;
	int ok;

	for (size_t i = 0; i < COUNT(sources); i++) {
		char *bytes = malloc(strlen(sources[i].bytes));

		memset(name.sun_path, 'x', sizeof(name.sun_path));
		len = strlen(sources[i].name);
		memcpy(name.sun_path, sources[i].name, len);
		if (name.sun_path[0] == '@')
			name.sun_path[0] = '\0';
		else if (len && len < sizeof(name.sun_path))
			name.sun_path[len++] = '\0';
		memcpy(bytes, sources[i].bytes, strlen(sources[i].bytes));
		ok = is_source(&name, len, bytes, strlen(sources[i].bytes), i);
		free(bytes);
		report(ok, "source", sources[i].name, sources[i].bytes);
	}
	memcpy(name.sun_path, "\0vm_dgram\0_dgram", 16);
	ok = source_read(&name, offsetof(struct sockaddr_un, sun_path) + 16, LINE, strlen(LINE),
			 &(struct vsock_addr){ 0 }) == 0;
	report(ok, "source", "an abstract name with a 0 in it", "a line");
}

static void test_explain(void)
{
	static const char *const ops[] = { "dial", "listen", "send", "receive" };
	static const struct {
		enum vsock_op op;
		const char *addr;
		uint32_t source;
		int err;
		const char *words;
	} cases[] = {
		{ VSOCK_OP_DIAL, "2:77", VSOCK_PORT_ANY, ECONNRESET, "nobody listens on port 77 of CID 2 (host)" },
		{ VSOCK_OP_DIAL, "2:77", VSOCK_PORT_ANY, ENODEV, "virtio-vsock driver loaded?" },
		{ VSOCK_OP_DIAL, "1:77", VSOCK_PORT_ANY, ENODEV, "vsock_loopback" },
		{ VSOCK_OP_DIAL, "77:5", VSOCK_PORT_ANY, ENODEV, "CID 77: no such guest" },
		{ VSOCK_OP_DIAL, "77:5", VSOCK_PORT_ANY, -ETIMEDOUT, "no answer from port 5 of CID 77" },
		{ VSOCK_OP_DIAL, "0:5", VSOCK_PORT_ANY, ENETUNREACH, "CID 0 (hypervisor) cannot be reached" },
		{ VSOCK_OP_DIAL, "2:77", 5, EACCES, "source port 5 is privileged" },
		{ VSOCK_OP_DIAL, "2:77", 2000, EADDRINUSE, "source port 2000 is in use" },
		{ VSOCK_OP_DIAL, "2:77", VSOCK_PORT_ANY, EAFNOSUPPORT, "load the module vsock" },
		{ VSOCK_OP_DIAL, "self:77", VSOCK_PORT_ANY, ENOENT, "/dev/vsock" },
		{ VSOCK_OP_DIAL, "vsock-seqpacket:2:7", VSOCK_PORT_ANY, ESOCKTNOSUPPORT, "no seqpacket sockets" },
		{ VSOCK_OP_LISTEN, "vsock::22", VSOCK_PORT_ANY, EACCES, "port 22 is privileged" },
		{ VSOCK_OP_LISTEN, "vsock::77", VSOCK_PORT_ANY, EADDRINUSE, "port 77 of CID any is in use" },
		{ VSOCK_OP_LISTEN, "9:77", VSOCK_PORT_ANY, EADDRNOTAVAIL, "CID 9 does not belong" },
		{ VSOCK_OP_LISTEN, "1:77", VSOCK_PORT_ANY, EADDRNOTAVAIL, "vsock_loopback" },
		{ VSOCK_OP_DIAL, "unix:/a:5", VSOCK_PORT_ANY, ENOENT, "no socket /a: is vsockd running?" },
		{ VSOCK_OP_DIAL, "unix:/a:5", VSOCK_PORT_ANY, ECONNREFUSED, "nobody answers at /a" },
		{ VSOCK_OP_DIAL, "unix:/a:5", VSOCK_PORT_ANY, ECONNRESET, "refused port 5, or is not running" },
		{ VSOCK_OP_DIAL, "unix:/a:5", VSOCK_PORT_ANY, EPROTO, "did not answer CONNECT with OK" },
		{ VSOCK_OP_DIAL, "unix:/a:5", 7, EOPNOTSUPP, "source address" },
		{ VSOCK_OP_LISTEN, "unix:/a:5", VSOCK_PORT_ANY, EADDRINUSE, "/a_5 is in use" },
		{ VSOCK_OP_LISTEN, "unix:/a:5", VSOCK_PORT_ANY, ENOENT, "directory of /a_5" },
		{ VSOCK_OP_LISTEN, "unix:/a:any", VSOCK_PORT_ANY, EINVAL, "one port" },
		{ VSOCK_OP_LISTEN, "unix:/a:5", VSOCK_PORT_ANY, EACCES, "no permission to create /a_5" },
		{ VSOCK_OP_SEND, "2:77", VSOCK_PORT_ANY, ECONNREFUSED, "nobody takes datagrams at port 77 of CID 2" },
		{ VSOCK_OP_SEND, "2:77", VSOCK_PORT_ANY, ENODEV, "no datagrams here" },
		{ VSOCK_OP_SEND, "2:77", VSOCK_PORT_ANY, EMSGSIZE, "at most 65536 bytes" },
		{ VSOCK_OP_SEND, "unix:/a:5", VSOCK_PORT_ANY, EMSGSIZE, "at most 65536 bytes" },
		{ VSOCK_OP_SEND, "unix:/a:5", VSOCK_PORT_ANY, ECONNREFUSED, "nobody answers at /a_dgram" },
		{ VSOCK_OP_SEND, "unix:/a:5", VSOCK_PORT_ANY, ENOENT, "no socket /a_dgram: is vsockd running?" },
		{ VSOCK_OP_SEND, "unix:/a:5", VSOCK_PORT_ANY, EAGAIN, "no room for another datagram" },
		{ VSOCK_OP_SEND, "unix:/a:any", VSOCK_PORT_ANY, EINVAL, "needs one port" },
		{ VSOCK_OP_RECEIVE, "2:77", VSOCK_PORT_ANY, ECONNREFUSED, "nobody takes datagrams at port 77" },
		{ VSOCK_OP_RECEIVE, "unix:/a:5", VSOCK_PORT_ANY, EAGAIN, "no datagram is there" },
		{ VSOCK_OP_RECEIVE, "2:77", VSOCK_PORT_ANY, EINVAL, "MSG_PEEK" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct vsock_options options = VSOCK_OPTIONS_INIT;
		char buf[VSOCK_TEXT_MAX], tiny[8], name[128];
		struct vsock_addr addr;
		int ok;

		options.local_port = cases[i].source;
		ok = vsock_parse(cases[i].addr, NULL, 0, &addr, NULL, 0) == 0 &&
		     strstr(vsock_explain(cases[i].op, &addr, &options, cases[i].err, buf, sizeof(buf)),
			    cases[i].words) != NULL;
		vsock_explain(cases[i].op, &addr, NULL, cases[i].err, tiny, sizeof(tiny));
		snprintf(name, sizeof(name), "%s %s: %s", ops[cases[i].op], cases[i].addr, strerror(abs(cases[i].err)));
		report(ok && strlen(tiny) < sizeof(tiny), "explains", name, buf);
	}
}

/* Every error number, known or not, gives one line of text. */
static void test_explain_all(void)
{
	static const char *const spellings[] = { "2:77", "77:1", "unix:/a:5" };
	int ok = 1;

	for (size_t i = 0; i < COUNT(spellings); i++) {
		struct vsock_addr addr;
		char buf[VSOCK_TEXT_MAX];

		ok &= vsock_parse(spellings[i], NULL, 0, &addr, NULL, 0) == 0;
		for (int err = 0; err < 200; err++) {
			for (enum vsock_op op = VSOCK_OP_DIAL; op <= VSOCK_OP_RECEIVE; op++)
				ok &= vsock_explain(op, &addr, NULL, err, buf, sizeof(buf))[0] != '\0';
		}
	}
	report(ok, "explains", "every error number", "an empty text");
}

static void test_format_edges(void)
{
	struct vsock_addr addr;
	char buf[16], path[VSOCK_PATH_MAX], why[VSOCK_TEXT_MAX];
	int ok;

	ok = vsock_parse("2:77", NULL, 0, &addr, NULL, 0) == 0 && vsock_format(&addr, buf, 10) == -ENOSPC &&
	     buf[0] == '\0' && vsock_format(&addr, buf, 11) == 10 && vsock_format(&addr, NULL, 0) == -ENOSPC;
	report(ok, "format", "a buffer one byte too small", buf);
	ok = vsock_listen_path(&addr, path, sizeof(path)) == -EINVAL;
	report(ok, "listen path", "AF_VSOCK has none", "one");
	ok = vsock_parse("unix:/a:5", NULL, 0, &addr, NULL, 0) == 0 &&
	     vsock_listen_path(&addr, path, sizeof(path)) == 4 && strcmp(path, "/a_5") == 0 &&
	     vsock_listen_path(&addr, path, 4) == -ENAMETOOLONG;
	report(ok, "listen path", "hybrid", path);
	addr.type = SOCK_DGRAM;
	ok = vsock_listen_path(&addr, path, sizeof(path)) == 10 && strcmp(path, "/a_dgram_5") == 0 &&
	     strstr(vsock_explain(VSOCK_OP_LISTEN, &addr, NULL, EADDRINUSE, why, sizeof(why)), "/a_dgram_5 is in use");
	report(ok, "listen path", "hybrid datagrams", path);
	ok = vsock_parse("unix:/aaaaa" P100, "5", 0, &addr, NULL, 0) == 0 &&
	     vsock_listen_path(&addr, path, sizeof(path)) == -ENAMETOOLONG;
	report(ok, "listen path", "a path that is too long with its port", path);
}

int main(void)
{
	test_good();
	test_bad();
	test_reply();
	test_source();
	test_explain();
	test_explain_all();
	test_format_edges();
	return failures ? 1 : 0;
}
