// SPDX-License-Identifier: BSD-2-Clause
/*
 * /dev/vhost-vsock driven by a guest made of packets: tests for our module, and a list of what its ioctls answer, to be
 * compared with the stock module's, as is how fast it is.
 *
 * Usage: vhost-guest [NAME | @FILE]... | vhost-guest --abi | vhost-guest --speed MS CROWD NAME... |
 *	  vhost-guest --neighbours | vhost-guest --echo CID
 */
#include "host.h"
#include "abi.h"
#include "speed.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	TEST_SECONDS = 1200,
};

/* A file of tests, which "@" and its name call for. */
struct group {
	const char *name;
	const struct test *tests;
};

static bool wanted(const struct group *g, const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (*argv[i] == '@' ? !strcmp(g->name, argv[i] + 1) : !!strstr(name, argv[i]))
			return true;
	}
	return argc == 1;
}

/* Nothing of a test may be left when its process has ended. */
static bool all_gone(void)
{
	static const char *const what[] = { "flows", "pkts", "segs", "links" };
	u64 until = now_ms() + WAIT_MS;

	for (u32 i = 0; i < 4;) {
		if (live(what[i]) == 0) {
			i++;
		} else if (now_ms() > until) {
			fprintf(stderr, "# %ld %s are left\n", live(what[i]), what[i]);
			return false;
		} else {
			pause_a_little();
		}
	}
	return true;
}

/* 0, SKIPPED, or anything else. */
static int outcome(const struct test *t)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(TEST_SECONDS);
		t->run();
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	if (WIFSIGNALED(status))
		fprintf(stderr, "# ended by signal %d\n", WTERMSIG(status));
	if (!WIFEXITED(status))
		return 1;
	return WEXITSTATUS(status) || all_gone() ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	static const struct group all[] = { { "flows", flow_tests },	  { "messages", message_tests },
					    { "dgrams", dgram_tests },	  { "life", life_tests },
					    { "polling", polling_tests }, { "hostile", hostile_tests },
					    { "faults", fault_tests },	  { "shortage", shortage_tests },
					    { "log", log_tests },	  { "near", near_tests },
					    { "random", random_tests },	  { "fleet", fleet_tests } };
	bool good = true;

	signal(SIGPIPE, SIG_IGN);
	if (argc == 2 && !strcmp(argv[1], "--abi"))
		return abi_list();
	if (argc > 3 && !strcmp(argv[1], "--speed"))
		return speed_list((u32)atoi(argv[2]), (u32)atoi(argv[3]), argc - 4, argv + 4);
	if (argc == 2 && !strcmp(argv[1], "--neighbours"))
		return neighbours_list();
	if (argc == 3 && !strcmp(argv[1], "--echo"))
		return dgram_echo((u32)atoi(argv[2]));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (const struct test *t = all[i].tests; t->name; t++) {
			u64 began = now_ms();
			int result;

			if (!wanted(&all[i], t->name, argc, argv))
				continue;
			result = outcome(t);
			fprintf(stderr, "# %llu ms\n", (unsigned long long)(now_ms() - began));
			if (result == SKIPPED)
				printf("skip - %s # this kernel cannot do it\n", t->name);
			else
				printf("%sok - %s\n", result ? "not " : "", t->name);
			good = good && (!result || result == SKIPPED);
		}
	}
	return good ? 0 : 1;
}
