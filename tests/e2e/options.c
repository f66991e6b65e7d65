// SPDX-License-Identifier: BSD-2-Clause
/* What is said about a command line or a configuration file that makes no sense. */
#include "fixture.h"
#include "tests.h"

#include <string.h>

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
		{ { "--log-level", "loud" }, "--log-level loud: give error, warn" },
		{ { "--threads", "0" }, "--threads 0: give a number from 1 to 64" },
		{ { "--socket", "s", "word" }, "word: not an option" },
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
	};

	refused(bad, ARRAY_SIZE(bad));
}

const struct test options_tests[] = {
	{ "options: the command line", command_line },
	{ "options: --vm", vm_option },
	{ 0 },
};
