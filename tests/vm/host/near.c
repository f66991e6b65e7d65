// SPDX-License-Identifier: BSD-2-Clause
/*
 * What host programs put into the guest's buffers themselves, while the guest's owner does what it likes with that
 * memory: a page that was exchanged for another one must not be written to.
 */
#include "host.h"

#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	PORT = 5000,
	RING = 128,
	WRITE = 64 << 10,
	ROUNDS = 100,
	PAGE_KIB = 4,
	LOCKED_PAGES = 4096 + 3 * 5, /* of buffers, and of the three parts of a ring */
	FEW_PAGES = 1024 + 3 * 5,    /* for those who may not lock so much */
};

static struct guest g;

static u64 straight(void)
{
	return counter(CID, "tx_straight");
}

/* A large write, and a word and its answer. */
static void talk(struct flow *f)
{
	flow_to_guest(&g, f, WRITE, WRITE);
	flow_to_host(&g, f, 1, 1, PEER_ONE);
	flow_to_guest(&g, f, 1, 1);
}

static long pinned(void)
{
	FILE *file = fopen("/proc/sys/vm/stat_refresh", "w");

	/* Each processor counts by itself until it is told to say so. */
	CHECK(file && fputs("1", file) >= 0);
	fclose(file);
	return number_in("/proc/vmstat", "nr_foll_pin_acquired ") - number_in("/proc/vmstat", "nr_foll_pin_released ");
}

/* All of the guest's receive buffers are at rest: the pages go, and others come; or the same come back. */
static void exchanged_memory(void)
{
	static const int advice[] = { MADV_REMOVE, MADV_DONTNEED, MADV_REMOVE };
	int l = host_listen(PORT, 8);
	struct flow f;
	u8 *buffers;
	size_t len = (size_t)RING * PEER_SLOT;

	guest_begin(&g, CID, RING, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	buffers = g.peer.f.mem + vu_front_data(&g.peer.f);
	for (u32 i = 0; i < ROUNDS; i++) {
		for (u32 j = 0; j < 4; j++)
			talk(&f);
		CHECK(!madvise(buffers, len, advice[i % 3]));
		if (i % 4 == 0)
			CHECK(!mprotect(buffers, len, PROT_READ) && !mprotect(buffers, len, PROT_READ | PROT_WRITE));
	}
	/* Not many: those after each time find nothing, and memory that changes so often is not worth while. */
	CHECK(straight() > 0);
	flow_finish(&g, &f);
	guest_end(&g);
}

static atomic_bool done;

static void *take_pages(void *arg)
{
	/* The pages are those of a file in memory: they come back as they were. */
	while (!done)
		CHECK(!madvise(arg, (size_t)RING * PEER_SLOT, MADV_DONTNEED));
	return NULL;
}

static void memory_at_any_moment(void)
{
	int l = host_listen(PORT, 8);
	pthread_t thread;
	struct flow f;

	guest_begin(&g, CID, RING, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	done = false;
	CHECK(!pthread_create(&thread, NULL, take_pages, g.peer.f.mem + vu_front_data(&g.peer.f)));
	for (u32 i = 0; i < 4 * ROUNDS; i++)
		talk(&f);
	done = true;
	CHECK(!pthread_join(thread, NULL));
	flow_finish(&g, &f);
	guest_end(&g);
}

/* What is kept is accounted, is as much as was said, and is not kept for those who do not write. */
static void kept_and_let_go(void)
{
	int l = host_listen(PORT, 8);
	long before = pinned();
	struct flow f;
	u64 until;

	guest_begin(&g, CID, RING, 3776, FEATURES);
	CHECK(number_in("/proc/self/status", "VmLck:") == LOCKED_PAGES * PAGE_KIB);
	f = open_by_guest(&g, l, PORT, 50);
	CHECK(pinned() == before);
	for (u32 i = 0; i < ROUNDS; i++)
		talk(&f);
	CHECK(straight() > ROUNDS / 2);
	CHECK(pinned() > before && pinned() <= before + LOCKED_PAGES);
	for (until = now_ms() + WAIT_MS; pinned() > before;) {
		CHECK(now_ms() < until);
		pause_a_little();
	}
	/* And again. */
	for (u32 i = 0; i < ROUNDS; i++)
		talk(&f);
	CHECK(pinned() > before);
	/* A pause, and any change of the rings, begins from nothing. */
	CHECK(!vu_vhost_run(&g.peer.f, false) && pinned() == before);
	CHECK(!vu_vhost_run(&g.peer.f, true));
	talk(&f);
	flow_finish(&g, &f);
	guest_end(&g);
	CHECK(pinned() == before && number_in("/proc/self/status", "VmLck:") == 0);
}

/* Few large buffers are as many pages as many small ones, and all of them are kept. */
static void large_buffers(void)
{
	int l = host_listen(PORT, 8);
	struct flow f;
	u64 before;

	guest_begin(&g, CID, RING, WRITE + VSP_HDR_LEN, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	for (u32 i = 0; i < RING; i++)
		talk(&f);
	before = straight();
	for (u32 i = 0; i < RING; i++)
		talk(&f);
	CHECK(straight() - before > RING / 2);
	flow_finish(&g, &f);
	guest_end(&g);
}

/* The owner may lock only so much: as much of it is used. */
static void with_limit(u32 pages, u32 locked)
{
	const struct rlimit lim = { .rlim_cur = pages * PAGE_KIB << 10, .rlim_max = pages * PAGE_KIB << 10 };
	int l = host_listen(PORT, 8);
	struct flow f;

	CHECK(!setrlimit(RLIMIT_MEMLOCK, &lim));
	guest_begin(&g, CID, RING, 3776, FEATURES);
	CHECK(number_in("/proc/self/status", "VmLck:") == locked * PAGE_KIB);
	f = open_by_guest(&g, l, PORT, 50);
	for (u32 i = 0; i < 10; i++)
		talk(&f);
	CHECK(!straight() == !locked);
	flow_finish(&g, &f);
	guest_end(&g);
	close(l);
}

/* With none of it a device is like any other, but for speed. */
static void no_right_to_lock(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	CHECK(!syscall(SYS_capget, &head, data));
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	CHECK(!syscall(SYS_capset, &head, data));
	with_limit(LOCKED_PAGES, LOCKED_PAGES);
	with_limit(LOCKED_PAGES - 1, FEW_PAGES);
	with_limit(FEW_PAGES, FEW_PAGES);
	with_limit(FEW_PAGES - 1, 0);
}

const struct test near_tests[] = {
	{ "memory that its owner exchanges for other is not written to by those who knew the old", exchanged_memory },
	{ "pages that go and come at any moment, while programs write to them", memory_at_any_moment },
	{ "large buffers are kept for writers as well", large_buffers },
	{ "what is pinned for writers is accounted, bounded, and let go of when nobody writes", kept_and_let_go },
	{ "an owner that may not lock memory: its programs' writes wait for the thread", no_right_to_lock },
	{ NULL, NULL },
};
