// SPDX-License-Identifier: BSD-2-Clause
/*
 * A thread that looks for more before it sleeps: it finds it, it does sleep, and where there is nothing it looks less.
 * And what it does meanwhile without the other.
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
	DEFAULT_US = 200, /* VH_POLL_US */
	MOST_US = 100000,
	PAUSE_MS = MOST_US / 1000 * 3 / 2,
	PAUSES = 24,
	SOON = 3,	/* packets before each pause, which come in time */
	LOST_MOST = 4,	/* of so many pauses: 0, 1, 3, 7 packets in time come first */
	QUIET_LOOKS = 50, /* so often in a row a thread is seen asleep */
	COMERS = 200,	/* connections that come and go */
	PORT = 60,
};

static const char param[] = "/sys/module/vhost_vsock/parameters/poll_us";
static struct guest g;
static pid_t to_the_guest; /* the thread that was begun first */

static bool set_poll_us(u32 us)
{
	FILE *file = fopen(param, "w");

	CHECK(file);
	fprintf(file, "%u", us);
	return !fclose(file);
}

static void default_poll_us(void)
{
	set_poll_us(DEFAULT_US);
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

static void note_first(pid_t thread)
{
	if (!to_the_guest || thread < to_the_guest)
		to_the_guest = thread;
}

static u64 sleeps_of(pid_t thread)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", thread);
	return (u64)number_in(path, "voluntary_ctxt_switches:");
}

/* Moves bytes until the thread that looked for them found one. */
static void until_won(struct flow *f)
{
	u64 before = counter(CID, "polls_won"), until = now_ms() + WAIT_MS;

	while (counter(CID, "polls_won") == before) {
		CHECK(now_ms() < until);
		for (u32 i = 0; i < 10; i++)
			to_host(f);
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

/* The threads have the other processor for themselves. */
static void begin(void)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		exit(SKIPPED);
	atexit(default_poll_us);
	guest_begin(&g, CID, 128, 3776, FEATURES);
	run_on(0, 0);
	each_thread(move_away);
}

static void polling(void)
{
	struct flow f;

	begin();
	CHECK(set_poll_us(0));
	f = open_by_host(&g, 50);
	for (u32 i = 0; i < 100; i++) {
		to_host(&f);
		to_guest(&f);
	}
	CHECK(counter(CID, "polls_won") == 0 && counter(CID, "polls_lost") == 0);
	CHECK(!set_poll_us(MOST_US + 1) && set_poll_us(MOST_US));
	until_won(&f);
	until_asleep();
	/* Who sleeps can be woken. */
	to_host(&f);
	to_guest(&f);
	flow_finish(&g, &f);
	guest_end(&g);
}

/* A guest that pauses when it is waited for. */
static void send_and_pause(struct flow *f)
{
	for (u32 i = 0; i < SOON; i++)
		to_host(f);
	for (u64 until = now_ms() + PAUSE_MS; now_ms() < until;)
		pause_a_little();
}

static void in_vain(void)
{
	u64 lost, until;
	struct flow f;

	begin();
	CHECK(set_poll_us(MOST_US));
	f = open_by_host(&g, 50);
	until = now_ms() + WAIT_MS;
	while (counter(CID, "polls_lost") == 0) {
		CHECK(now_ms() < until);
		send_and_pause(&f);
	}
	for (u32 i = 0; i < PAUSES; i++)
		send_and_pause(&f);
	lost = counter(CID, "polls_lost");
	if (lost > LOST_MOST) {
		fprintf(stderr, "%llu times in vain\n", (unsigned long long)lost);
		exit(1);
	}
	flow_finish(&g, &f);
	guest_end(&g);
}

/* The thread to the guest is woken for payload; for headers only where somebody else has the ring's lock just then. */
static void headers_alone(void)
{
	int listener = host_listen(PORT, 8);
	u64 before, headers, bytes;
	struct flow f;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	each_thread(note_first);
	before = sleeps_of(to_the_guest);
	for (u32 i = 0; i < COMERS; i++) {
		f = open_by_guest(&g, listener, PORT, 1000 + i);
		flow_finish(&g, &f);
	}
	headers = sleeps_of(to_the_guest) - before;
	f = open_by_guest(&g, listener, PORT, 999);
	before = sleeps_of(to_the_guest);
	for (u32 i = 0; i < COMERS; i++)
		to_guest(&f);
	bytes = sleeps_of(to_the_guest) - before;
	fprintf(stderr, "# sleeps for %u connections: %llu, for as many bytes: %llu\n", COMERS,
		(unsigned long long)headers, (unsigned long long)bytes);
	CHECK(headers < COMERS / 4 && bytes > COMERS / 2);
	flow_finish(&g, &f);
	close(listener);
	guest_end(&g);
}

const struct test polling_tests[] = {
	{ "a thread that polls finds work, and sleeps when there is none", polling },
	{ "a thread that polls in vain does so less and less", in_vain },
	{ "connections come and go by the thread that takes packets", headers_alone },
	{ NULL, NULL },
};
