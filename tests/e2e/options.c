// SPDX-License-Identifier: BSD-2-Clause
/* What is said about a command line or a configuration file that makes no sense. */
#include "fixture.h"
#include "tests.h"

#include <string.h>
#include <unistd.h>

enum {
	ARGS = 12,
	SAID = 4096,
};

struct refusal {
	const char *args[ARGS];
	const char *said; /* part of it */
};

/* Refused, in one line of words that help. */
static void refused(const struct refusal *r, u32 n)
{
	char said[SAID];

	for (u32 i = 0; i < n; i++) {
		CHECK(fix_run(r[i].args, said, sizeof(said)) == 2);
		if (!strstr(said, r[i].said) || strncmp(said, "vsockd: ", 8) != 0) {
			fprintf(stderr, "# case %u: \"%s\" instead of \"%s\"\n", i, said, r[i].said);
			exit(1);
		}
	}
}

static void command_line(void)
{
	static const struct refusal bad[] = {
		{ { NULL }, "--socket: PATH is required" },
		{ { "--socket", "s" }, "--uds-path: PATH is required" },
		{ { "--socket", "s", "--uds-path", "s" }, "--uds-path s: choose another path" },
		{ { "--guest-cid", "2" }, "--guest-cid 2: give a number from 3 to 4294967294" },
		{ { "--guest-cid", "-1" }, "give a number" },
		{ { "--queue-size", "3" }, "--queue-size 3: give a power of two" },
		{ { "--groups", "a++b" }, "--groups a++b: give up to 64 names, NAME+NAME" },
		{ { "--groups", "" }, "give up to 64 names" },
		{ { "--socket", "" }, "--socket: give a path" },
		{ { "--allow-to-guest", "1+" }, "--allow-to-guest 1+: give up to 64 ports or ranges" },
		{ { "--allow-to-guest", "9-8" }, "give up to 64 ports" },
		{ { "--deny-to-guest", "" }, "give up to 64 ports" },
		{ { "--deny-from-guest", "4294967295" }, "give up to 64 ports" },
		{ { "--allow-from-guest", "1,2" }, "give up to 64 ports" },
		{ { "--log-level", "loud" }, "--log-level loud: give error, warn" },
		{ { "--log-format", "xml" }, "--log-format xml: give text or json" },
		{ { "--sandbox", "perhaps" }, "--sandbox perhaps: give on, off or strict" },
		{ { "--threads", "0" }, "--threads 0: give a number from 1 to 64" },
		{ { "--socket", "s", "word" }, "word: not an option" },
		{ { "--socket", "@" }, "--socket: give a path" },
		{ { "--socket-mode", "888" }, "--socket-mode 888: give an octal number up to 777" },
		{ { "--uds-mode", "1777" }, "--uds-mode 1777: give an octal number" },
		{ { "--uds-mode", "-1" }, "give an octal number" },
		{ { "--uds-owner", "no-such-user" }, "--uds-owner no-such-user: give a user, USER:GROUP or :GROUP" },
		{ { "--uds-owner", "0:" }, "give a user" },
		{ { "--uds-owner", "" }, "give a user" },
		{ { "--uds-users", "0+no-such-user" }, "there is no user no-such-user" },
		{ { "--uds-users", "4294967295" }, "there is no user 4294967295" },
		{ { "--map-to-guest", "22" }, "--map-to-guest 22: give up to 64 ports, each once" },
		{ { "--map-to-guest", "22:" }, "give up to 64 ports" },
		{ { "--map-to-guest", "22:a+22:b" }, "give up to 64 ports" },
		{ { "--map-from-guest", "22:a+" }, "give up to 64 ports" },
		{ { "--map-from-guest", ":a" }, "give up to 64 ports" },
		{ { "--forward-listen", "x" }, "--forward-listen x: give up to 64 ports" },
		{ { "--socket", "s", "--forward-listen", "9" }, "--forward-listen: needs forward-cid" },
		{ { "--socket", "s", "--forward-cid", "1", "--uds-path", "p" }, "--forward-cid: conflicts with" },
		{ { "--socket", "s", "--forward-cid", "1", "--forward-listen", "1-65" }, "more than 64 ports" },
		{ { "--socket", "s", "--forward-cid", "4294967295" }, "give a number from 0 to 4294967294" },
		{ { "--socket", "s", "--connect-only", "on" }, "--uds-path: PATH is required" },
		{ { "--socket", "s", "--connect-only", "on", "--map-to-guest", "1:a" }, "conflicts with uds-fd" },
		{ { "--socket", "s", "--map-to-guest", "1:a", "--peer-names", "on" }, "needs uds-path" },
		{ { "--socket", "s", "--uds-path", "p", "--max-memory", "7" }, "--max-memory: 7 is too little" },
		{ { "--socket", "p_3", "--uds-path", "p" },
		  "--socket p_3: guest 3 would reach it as a port of the host; choose another path" },
		{ { "--socket", "@p_0", "--uds-path", "@p" }, "--socket @p_0: guest 3 would reach it" },
		{ { "--socket", "s", "--uds-path", "p", "--control", "p_4294967295" }, "control p_4294967295: guest" },
		{ { "--uds-fd", "77" }, "--uds-fd 77: not a stream socket" },
		{ { "--socket", "s", "--vm", "socket=s,uds-path=p" }, "needs a --vm as well" },
	};

	refused(bad, ARRAY_SIZE(bad));
}

static void vm_option(void)
{
	static const struct refusal bad[] = {
		{ { "--vm", "socket=s" }, "--vm: uds-path: PATH is required" },
		{ { "--vm", "uds_path=s" }, "--vm: socket: PATH is required" },
		{ { "--vm", "" }, "--vm: : give KEY=VALUE,KEY=VALUE" },
		{ { "--vm", "socket" }, "--vm: socket: give KEY=VALUE" },
		{ { "--vm", "sock=s" }, "--vm: sock: no such key" },
		{ { "--vm", "group=a" }, "--vm: group: no such key" },
		{ { "--vm", "guest_cid=1,socket=s" }, "--vm: guest-cid=1: give a number" },
		{ { "--vm", "socket=s,uds-path=p", "--vm", "socket=t,uds-path=q" }, "guest-cid: 3 is another guest's" },
		{ { "--vm", "socket=s,uds-path=p", "--vm", "guest-cid=4,socket=s,uds-path=q" },
		  "socket=s: another guest's already" },
		{ { "--vm", "socket=s,uds-path=p", "--vm", "guest-cid=4,socket=t,uds-path=p" },
		  "uds-path=p: another guest's already" },
		{ { "--vm", "socket=s,uds-path=p", "--vm", "guest-cid=4,socket=t,uds-path=p_10" },
		  "--vm: uds-path=p_10: guest 3 would reach it as a port of the host" },
		{ { "--vm", "socket=s,uds-path=p_4", "--vm", "guest-cid=4,socket=p_4_22,uds-path=q" },
		  "--vm: socket=p_4_22: guest 3 would reach it" },
		{ { "--vm", "socket=s,uds-path=p", "--control", "p_1" }, "--control p_1: guest 3 would reach it" },
	};

	refused(bad, ARRAY_SIZE(bad));
}

/* Write @text to a file of its own and say --config of it. */
static int with_file(const char *text, const char *more, char *said, char path[64])
{
	const char *args[] = { "--config", path, "--check-config", more, NULL };
	FILE *f;
	int fd;

	snprintf(path, 64, "/tmp/vsd-e2e-config.XXXXXX");
	fd = mkstemp(path);
	CHECK(fd >= 0);
	f = fdopen(fd, "w");
	CHECK(f && fputs(text, f) >= 0 && !fclose(f));
	fd = fix_run(args, said, SAID);
	unlink(path);
	return fd;
}

static void file_accepted(void)
{
	static const struct {
		const char *text, *said;
	} good[] = {
		{ "vms:\n - guest_cid: 4\n   socket: s\n   uds_path: p\n", "fine, 1 guest\n" },
		{ "vms:\n - guest-cid: 4\n   socket: s\n   uds-path: p\n   tx-buffer-size: 65536\n", "1 guest\n" },
		{ "# words\nthreads: 2\nlog_level: warn\nvms:\n"
		  "  - {socket: s, uds_path: p, groups: a+b, queue_size: 256}\n"
		  "  - {guest_cid: '4', socket: \"t\", uds_path: q, tx_buffer_size: 1}\n",
		  "fine, 2 guests\n" },
		{ "vms:\n - {socket: s, forward-cid: 1, forward-listen: 9001+9002}\n"
		  " - {guest_cid: 4, socket: t, forward_cid: 1, forward_listen: 9003}\n",
		  "fine, 2 guests\n" },
		{ "vms:\n - {socket: p_a, uds_path: p}\n - {guest_cid: 4, socket: p_04, uds_path: p_}\n"
		  " - {guest_cid: 5, socket: p_4a, uds_path: p_seqpacket_4}\n",
		  "fine, 3 guests\n" },
		{ "{\"vms\": [{\"guest_cid\": 3, \"socket\": \"s\", \"uds_path\": \"p\"}]}", "1 guest\n" },
	};
	char said[SAID], path[64];

	for (u32 i = 0; i < ARRAY_SIZE(good); i++) {
		int status = with_file(good[i].text, NULL, said, path);

		if (status || !strstr(said, good[i].said)) {
			fprintf(stderr, "# case %u: status %d, \"%s\"\n", i, status, said);
			exit(1);
		}
	}
}

/* Whatever is wrong with a file: its name, the line, and what to do. */
static void file_refused(void)
{
	static const struct {
		const char *text, *said;
	} bad[] = {
		{ "", "the file is empty; it needs the key vms" },
		{ "words", ":1: the file is a mapping with the key vms" },
		{ "vms:\n", ":1: vms is a list" },
		{ "vms: []\n", "no guest to serve; vms needs an entry" },
		{ "vms:\n - words\n", ":2: each of vms is a mapping" },
		{ "threads: 2\n", "no guest to serve" },
		{ "vmss:\n - a\n", ":2: give a single value" },
		{ "vmss: 3\n", ":1: vmss: no such key" },
		{ "vms:\n - guest_cid: 4\n   sokket: s\n", ":3: sokket: no such key" },
		{ "vms:\n - guest_cid: 2\n", ":2: guest-cid: 2: give a number from 3" },
		{ "threads: 2\nthreads: 2\n", ":2: threads: given twice" },
		{ "log-level: info\nvms:\n - {socket: s, uds_path: p}\nlog_level: info\n", ":4: log_level: given" },
		{ "vms:\n - {socket: s, uds_path: p}\nvms:\n - {guest_cid: 4, socket: t, uds_path: q}\n",
		  ":3: vms: given twice" },
		{ "vms:\n - {socket: s, uds_path: p}\n - {guest_cid: 4, socket: p_9, uds_path: q}\n",
		  ":3: socket: p_9: guest 3 would reach it" },
		{ "vms:\n - guest_cid: 4\n   guest_cid: 5\n", ":3: guest_cid: given twice" },
		{ "vms:\n - guest_cid: 4\n   guest-cid: 5\n", ":3: guest-cid: given twice" },
		{ "vms:\n - guest_cid:\n", ":2: guest-cid: : give a number" },
		{ "vms:\n - guest_cid: [4]\n", ":2: give a single value" },
		{ "vms:\n - socket: s\n", ":2: uds-path: PATH is required" },
		{ "vms:\n - {socket: s, uds_path: p}\n\n - {socket: t, uds_path: q}\n",
		  ":4: guest-cid: 3 is another guest's already" },
		{ "vms:\n - {socket: s, uds_path: p\n", ":3: did not find expected" },
		{ "vms:\n\t- socket: s\n", ":2: " },
		{ "vms: &a\n - *a\n", ":2: each of vms is a mapping" },
		{ "log_level: loud\n", ":1: log-level: loud: give error, warn" },
		{ "vms:\n - {socket: s, uds_path: p}\n---\nvms: []\n", ":3: one document is enough" },
		{ "vms:\n - socket: \"a\\0b\"\n", ":2: a value must be a text" },
	};
	char said[SAID], path[64], start[80];

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		int status = with_file(bad[i].text, NULL, said, path);

		snprintf(start, sizeof(start), "vsockd: %s:", path);
		if (status != 2 || !strstr(said, bad[i].said) || strncmp(said, start, strlen(start)) != 0) {
			fprintf(stderr, "# case %u: status %d, \"%s\" instead of \"%s\"\n", i, status, said,
				bad[i].said);
			exit(1);
		}
	}
}

static void file_and_options(void)
{
	static const struct refusal bad[] = {
		{ { "--config", "/nonexistent" }, "vsockd: /nonexistent: No such file or directory" },
		{ { "--config", "f", "--config", "g" }, "--config: one file is enough" },
		{ { "--config", "f", "--vm", "socket=s,uds-path=p" }, "--config f: conflicts with guests" },
		{ { "--config", "f", "--guest-cid", "4" }, "--config f: conflicts with guests" },
		{ { "--config", "/dev/zero" }, "/dev/zero: File too large" },
		{ { "--fd", "77", "--uds-path", "p" }, "--fd 77: not a stream socket" },
	};
	/* The command line has the last word, but does not hide mistakes. */
	static const char file[] = "threads: many\nvms:\n - {socket: s, uds_path: p}\n";
	char said[SAID], path[64];

	refused(bad, ARRAY_SIZE(bad));
	CHECK(with_file(file, "--threads=2", said, path) == 2 && strstr(said, ":1: threads: many: give a number"));
}

/* A program that a monitor starts says what it is. */
static void capabilities(void)
{
	static const char *const args[] = { "--print-capabilities", NULL };
	char said[SAID];

	CHECK(fix_run(args, said, sizeof(said)) == 0 && !strcmp(said, "{\n  \"type\": \"vsock\"\n}\n"));
}

const struct test options_tests[] = {
	{ "options: the command line", command_line },
	{ "options: --vm", vm_option },
	{ "options: files that make sense", file_accepted },
	{ "options: files that make none", file_refused },
	{ "options: a file and the command line", file_and_options },
	{ "options: capabilities", capabilities },
	{ 0 },
};
