// SPDX-License-Identifier: BSD-2-Clause
/*
 * A vsockd process, real sockets, and a guest made of packets. Every test has a process and a daemon of its own.
 *
 * Usage: VSOCKD=PATH e2e [NAME]...
 */
#include "fixture.h"
#include "tests.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TEST_SECONDS = 60,
};

static bool wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strstr(name, argv[i]))
			return true;
	}
	return argc == 1;
}

/* Its exit status, or 1. */
static int outcome(const struct test *t)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		signal(SIGPIPE, SIG_IGN);
		alarm(TEST_SECONDS);
		t->run();
		exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	static const struct test *const all[] = { handshake_tests, life_tests,	   transfer_tests, seqpacket_tests,
						  hostile_tests,   resource_tests, fleet_tests,	   options_tests,
						  siblings_tests,  control_tests,  defects_tests,  faults_tests,
						  dgram_tests,	   sockets_tests,  forward_tests,  migrate_tests,
						  sandbox_tests,   vguest_tests,   library_tests };
	const char *options = getenv("VSOCKD_OPTIONS");
	bool good = true;

	if (!getenv("VSOCKD")) {
		fprintf(stderr, "e2e: VSOCKD is not set to a vsockd\n");
		return TEST_SKIPPED;
	}
	if (options && strstr(options, "strict") && !fix_namespaces()) {
		puts("there are no user namespaces for us");
		return TEST_SKIPPED;
	}
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (const struct test *t = all[i]; t->name; t++) {
			int status;

			if (!wanted(t->name, argc, argv))
				continue;
			status = outcome(t);
			if (status == TEST_SKIPPED) {
				printf("skip - %s # see the line before\n", t->name);
				continue;
			}
			printf("%sok - %s\n", status ? "not " : "", t->name);
			good = good && !status;
		}
	}
	return good ? 0 : 1;
}
