// SPDX-License-Identifier: BSD-2-Clause
/*
 * What connections of one guest do to each other, how long one takes to come and go, and how long an answer takes. The
 * main thread is the guest, which answers pings and takes all else; threads are the host's programs.
 */
#include "lean.h"
#include "speed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	BUFFER = 3776, /* bytes of a receive buffer: of Linux */
	LAPS_MAX = 1 << 18,
	WARM_UP = 50, /* laps that do not count */
	BESIDE = 4,   /* senders of SMALL bytes beside a ping */
	SMALL = 64,
	EQUALS = 16, /* senders that should have equal shares */
	EQUAL_BYTES = 4096,
	LONG = 5, /* times the length of a measurement: what processes share evenly in the long run */
	COMERS = 1 << 16, /* connections that come and go, at most; and so many at the same time: */
	AT_ONCE = 8,
	BACKLOG = 128,
	FILES = 1024, /* open beside a crowd */
	GIVE_UP_MS = 200, /* that accept() waits before it looks whether it is over */
};

static struct lean guest;
static u64 laps[LAPS_MAX];

static u64 after_ms(u64 ms)
{
	return now_ns() + ms * 1000000;
}

static void *send_thread(void *arg)
{
	static const u8 buf[EQUAL_BYTES];
	const struct lane *lane = arg;
	const u32 size = guest.n > EQUALS ? EQUAL_BYTES : SMALL;

	while (send(lane->flow.fd, buf, size, MSG_NOSIGNAL) > 0)
		;
	return NULL;
}

static void begin_senders(pthread_t *threads, u32 first)
{
	for (u32 i = first; i < guest.n; i++)
		CHECK(!pthread_create(&threads[i], NULL, send_thread, &guest.lanes[i]));
}

static void end_senders(pthread_t *threads, u32 first)
{
	for (u32 i = first; i < guest.n; i++) {
		shutdown(guest.lanes[i].flow.fd, SHUT_RDWR);
		CHECK(!pthread_join(threads[i], NULL));
	}
}

static void be_guest(void)
{
	while (!lean_over(&guest)) {
		if (!lean_take(&guest))
			lean_wait(&guest, false);
	}
}

/* ---- pings ---- */

struct times {
	double p50;
	double p99;
};

static int by_value(const void *a, const void *b)
{
	u64 one = *(const u64 *)a, other = *(const u64 *)b;

	return one < other ? -1 : one > other;
}

static void ping(u32 bytes)
{
	int fd = guest.lanes[0].flow.fd;
	u8 buf[SMALL] = { 0 };

	CHECK(send(fd, buf, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
	CHECK(recv(fd, buf, bytes, MSG_WAITALL) == (ssize_t)bytes);
}

/* Laps over the first lane for @ms, in microseconds. At least one, however long it takes. */
static struct times pings(u32 bytes, u32 warm_up, u32 ms)
{
	u64 began, now, until, middle, late;
	u32 n = 0;

	for (u32 i = 0; i < warm_up; i++)
		ping(bytes);
	until = after_ms(ms);
	now = now_ns();
	while (!n || (now < until && n < LAPS_MAX)) {
		began = now;
		ping(bytes);
		now = now_ns();
		laps[n++] = now - began;
	}
	qsort(laps, n, sizeof(laps[0]), by_value);
	middle = laps[n / 2];
	late = laps[n * 99ull / 100];
	return (struct times){ .p50 = (double)middle / 1000, .p99 = (double)late / 1000 };
}

/* What a thread finds out while the main one is the guest. */
struct quest {
	u32 ms;
	double value;
};

static double ask(void *(*run)(void *), u32 ms)
{
	struct quest quest = { .ms = ms };
	pthread_t thread;

	CHECK(!pthread_create(&thread, NULL, run, &quest));
	be_guest();
	CHECK(!pthread_join(thread, NULL));
	return quest.value;
}

static void *find_round_trip(void *arg)
{
	struct quest *quest = arg;

	quest->value = pings(1, WARM_UP, quest->ms).p50;
	lean_end_soon(&guest);
	return NULL;
}

static double round_trip(u32 ms)
{
	double value;

	lean_begin(&guest, 1, BUFFER);
	lean_open_by_host(&guest, 0, VSP_TYPE_STREAM);
	guest.lanes[0].echoes = true;
	value = ask(find_round_trip, ms);
	lean_end(&guest);
	return value;
}

static void *find_p99_beside(void *arg)
{
	pthread_t threads[1 + BESIDE] = { 0 };
	struct quest *quest = arg;
	double idle = pings(SMALL, WARM_UP, quest->ms).p99;

	begin_senders(threads, 1);
	quest->value = pings(SMALL, 1, 2 * quest->ms).p99 / idle;
	end_senders(threads, 1);
	lean_end_soon(&guest);
	return NULL;
}

/* 99 % of the pings beside senders of small writes, over those alone. */
static double p99_beside(u32 ms)
{
	double value;

	lean_begin(&guest, 1 + BESIDE, BUFFER);
	for (u32 i = 0; i < guest.n; i++)
		lean_open_by_host(&guest, i, VSP_TYPE_STREAM);
	guest.lanes[0].echoes = true;
	value = ask(find_p99_beside, ms);
	lean_end(&guest);
	return value;
}

/* ---- shares ---- */

static void *find_jain(void *arg)
{
	struct quest *quest = arg;
	pthread_t threads[1 + EQUALS] = { 0 };
	double sum = 0, squares = 0;
	u32 before[1 + EQUALS] = { 0 };

	begin_senders(threads, 1);
	for (u32 i = 1; i < guest.n; i++)
		before[i] = __atomic_load_n(&guest.lanes[i].flow.got, __ATOMIC_RELAXED);
	CHECK(!host_wait(guest.over_fd, POLLIN, (int)quest->ms * LONG));
	for (u32 i = 1; i < guest.n; i++) {
		u32 bytes = __atomic_load_n(&guest.lanes[i].flow.got, __ATOMIC_RELAXED) - before[i];

		sum += bytes;
		squares += (double)bytes * bytes;
	}
	quest->value = sum * sum / squares / EQUALS;
	end_senders(threads, 1);
	lean_end_soon(&guest);
	return NULL;
}

static double jain(u32 ms)
{
	double value;

	lean_begin(&guest, 1 + EQUALS, BUFFER);
	for (u32 i = 1; i < guest.n; i++)
		lean_open_by_host(&guest, i, VSP_TYPE_STREAM);
	value = ask(find_jain, ms);
	lean_end(&guest);
	return value;
}

/* ---- coming and going ---- */

static int listener(void)
{
	struct timeval patience = { .tv_usec = GIVE_UP_MS * 1000 };
	int fd = host_listen(LANE_HOST_PORT, BACKLOG);

	CHECK(!fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK));
	CHECK(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)));
	return fd;
}

/* The median beside idle connections to the same port, over that of the first alone. */
static double idle_connections(u32 ms, u32 crowd)
{
	const struct rlimit files = { .rlim_cur = crowd + FILES, .rlim_max = crowd + FILES };
	int l = listener();
	double alone, beside;

	CHECK(!setrlimit(RLIMIT_NOFILE, &files));
	lean_begin(&guest, 1, BUFFER);
	guest.lanes[0].echoes = true;
	lean_open_by_guest(&guest, l, 0);
	alone = ask(find_round_trip, ms);
	lean_go_on(&guest, 1 + crowd);
	lean_open_by_guest(&guest, l, 1);
	beside = ask(find_round_trip, ms);
	close(l);
	lean_end(&guest);
	return beside / alone;
}

static void *accept_thread(void *arg)
{
	const int l = *(int *)arg;
	int fd;

	while (!lean_over(&guest)) {
		fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		CHECK(fd >= 0 || errno == EAGAIN);
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

/* Opened by the guest, accepted and closed by the host, ended by the guest's reset. */
static double connections(u32 ms)
{
	int l = listener();
	pthread_t host;
	u32 begun = 0;
	double value;
	u64 began;

	lean_begin(&guest, COMERS, BUFFER);
	CHECK(!pthread_create(&host, NULL, accept_thread, &l));
	began = now_ns();
	lean_end_after(&guest, ms);
	while (!lean_over(&guest)) {
		for (; begun < COMERS && begun - guest.ended < AT_ONCE; begun++) {
			guest.lanes[begun].type = VSP_TYPE_STREAM;
			lean_send(&guest, &guest.lanes[begun], VSP_OP_REQUEST, 0);
		}
		if (!lean_take(&guest))
			lean_wait(&guest, false);
	}
	value = (double)guest.ended * 1e9 / (double)(now_ns() - began);
	CHECK(!pthread_join(host, NULL));
	close(l);
	lean_end(&guest);
	return value;
}

bool speed_of_crowd(const char *name, u32 ms, u32 crowd, double *value)
{
	static const struct {
		const char *name;
		double (*measure)(u32 ms);
	} all[] = {
		{ "round_trip", round_trip },
		{ "ping_beside_senders", p99_beside },
		{ "jain", jain },
		{ "connections", connections },
	};

	for (u32 i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (strcmp(all[i].name, name) != 0)
			continue;
		*value = all[i].measure(ms);
		return true;
	}
	if (strcmp(name, "ping_beside_idle") != 0)
		return false;
	*value = idle_connections(ms, crowd);
	return true;
}
