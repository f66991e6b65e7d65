// SPDX-License-Identifier: BSD-2-Clause
/*
 * main.c - many seeds, in a process of their own, so that whatever ends it can be said with its seed
 */
#include "sim.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	SEEDS_DEFAULT = 2000,  /* in CI; 100,000 take a minute or two */
	FAILURES_DEFAULT = 10, /* after these there is no need to go on */
};

static const char *program;

void sim_fail(const struct sim_world *w, const char *format, ...)
{
	va_list ap;

	printf("# seed %llu, step %llu, %.3f ms: ", (unsigned long long)w->seed, (unsigned long long)w->steps,
	       (double)w->now / 1e6);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

void sim_trace(const struct sim_world *w, const char *format, ...)
{
	va_list ap;

	if (!w->trace)
		return;
	printf("# %6llu %12.3f ms  ", (unsigned long long)w->steps, (double)w->now / 1e6);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
}

/* Run seeds from @from on in a child, which says in @at where it is. Its exit status. */
static int run_child(u64 from, u64 to, volatile u64 *at, bool trace)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0) {
		for (*at = from; *at < to; (*at)++)
			sim_run(*at, trace);
		/* Not _exit(): a sanitizer looks for leaks then. */
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int run_all(u64 first, u64 seeds, u32 failures_max, bool trace)
{
	volatile u64 *at = mmap(NULL, sizeof(*at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	u64 from = first, to = first + seeds;
	u32 failures = 0;

	if (at == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	while (from < to && failures < failures_max) {
		int status = run_child(from, to, at, trace);

		if (!status)
			break;
		if (WIFSIGNALED(status))
			printf("# seed %llu: killed by signal %d\n", (unsigned long long)*at, WTERMSIG(status));
		printf("not ok - seed %llu # replay: %s --seed %llu\n", (unsigned long long)*at, program,
		       (unsigned long long)*at);
		failures++;
		from = *at + 1;
	}
	if (!failures)
		printf("ok - seeds %llu to %llu\n", (unsigned long long)first, (unsigned long long)to - 1);
	return failures > 0;
}

static const struct option options[] = {
	{ "seeds", required_argument, NULL, 'n' }, { "first", required_argument, NULL, 'f' },
	{ "seed", required_argument, NULL, 's' },  { "until", required_argument, NULL, 'u' },
	{ "help", no_argument, NULL, 'h' },	   { 0 },
};

static int usage(FILE *out, int status)
{
	fprintf(out,
		"usage: %s [--seeds N] [--first SEED] [--until N]\n"
		"                                N worlds (%d), from SEED (1) on, until N (%d) failed\n"
		"       %s --seed SEED          this one, with everything that happens in it\n",
		program, SEEDS_DEFAULT, FAILURES_DEFAULT, program);
	return status;
}

int main(int argc, char **argv)
{
	u64 first = 1, seeds = SEEDS_DEFAULT;
	u32 failures = FAILURES_DEFAULT;
	bool trace = false;
	int c;

	program = argv[0];
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			seeds = strtoull(optarg, NULL, 0);
			break;
		case 'f':
			first = strtoull(optarg, NULL, 0);
			break;
		case 's':
			first = strtoull(optarg, NULL, 0);
			seeds = 1;
			trace = true;
			break;
		case 'u':
			failures = (u32)strtoul(optarg, NULL, 0);
			break;
		case 'h':
			return usage(stdout, 0);
		default:
			return usage(stderr, 2);
		}
	}
	return run_all(first, seeds, failures, trace);
}
