// SPDX-License-Identifier: BSD-2-Clause
/*
 * Threads that look for more before they sleep: they find it, and they do sleep.
 *
 * Looking is given up where anybody else wants the processor, so this takes two of them: one for the test and one for
 * the threads, of which only one has work at a time.
 */
#include "host.h"

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MOST_US = 100000,
	QUIET_LOOKS = 50, /* so often in a row a thread is seen asleep */
};

static const char param[] = "/sys/module/vhost_vsock/parameters/poll_us";
static struct guest g;

static bool set_poll_us(u32 us)
{
	FILE *file = fopen(param, "w");

	CHECK(file);
	fprintf(file, "%u", us);
	return !fclose(file);
}

static void default_poll_us(void)
{
	set_poll_us(0);
}

static void to_host(struct flow *f)
{
	struct vsp_hdr hdr = guest_hdr(&g, f, VSP_OP_RW);
	u8 byte;

	hdr.len = 1;
	guest_send(&g, hdr);
	CHECK(host_wait(f->fd, POLLIN, WAIT_MS) && recv(f->fd, &byte, 1, 0) == 1);
}

static void to_guest(struct flow *f)
{
	const u8 byte = 1;
	struct vsp_hdr hdr;

	CHECK(send(f->fd, &byte, 1, MSG_NOSIGNAL) == 1);
	hdr = guest_expect(&g, f, VSP_OP_RW);
	f->got += hdr.len;
}

static void run_on(pid_t thread, int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	CHECK(!sched_setaffinity(thread, sizeof(set), &set));
}

/* Calls @found, if any, for each of the device's threads. Returns how many of them are not asleep. */
static u32 each_thread(void (*found)(pid_t thread))
{
	char wanted[32], line[256], path[300];
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	u32 awake = 0, threads = 0;
	FILE *file;

	CHECK(proc);
	snprintf(wanted, sizeof(wanted), "(vhost-%d) ", getpid());
	while ((entry = readdir(proc))) {
		const char *at = NULL;

		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(line, sizeof(line), file))
			at = strstr(line, wanted);
		fclose(file);
		if (!at)
			continue;
		threads++;
		awake += at[strlen(wanted)] != 'S';
		if (found)
			found(atoi(entry->d_name));
	}
	closedir(proc);
	CHECK(threads == 2);
	return awake;
}

static void move_away(pid_t thread)
{
	run_on(thread, 1);
}

/* Moves a byte until a thread that looked for one found it. */
static void until_won(struct flow *f, void (*move)(struct flow *f))
{
	u64 before = counter(CID, "polls_won"), until = now_ms() + WAIT_MS;

	while (counter(CID, "polls_won") == before) {
		CHECK(now_ms() < until);
		for (u32 i = 0; i < 10; i++)
			move(f);
	}
}

static void until_asleep(void)
{
	u64 until = now_ms() + WAIT_MS;

	for (u32 looks = 0; looks < QUIET_LOOKS; looks++) {
		CHECK(now_ms() < until);
		pause_a_little();
		if (each_thread(NULL))
			looks = 0;
	}
}

static void polling(void)
{
	struct flow f;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		exit(SKIPPED);
	atexit(default_poll_us);
	guest_begin(&g, CID, 128, 3776, FEATURES);
	run_on(0, 0);
	each_thread(move_away);
	f = open_by_host(&g, 50);
	for (u32 i = 0; i < 100; i++) {
		to_host(&f);
		to_guest(&f);
	}
	CHECK(counter(CID, "polls_won") == 0);
	CHECK(!set_poll_us(MOST_US + 1) && set_poll_us(MOST_US));
	until_won(&f, to_host);
	until_won(&f, to_guest);
	until_asleep();
	/* Who sleeps can be woken. */
	to_host(&f);
	to_guest(&f);
	flow_finish(&g, &f);
	guest_end(&g);
}

const struct test polling_tests[] = {
	{ "threads that poll find work, and sleep when there is none", polling },
	{ NULL, NULL },
};
