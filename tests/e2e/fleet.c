// SPDX-License-Identifier: BSD-2-Clause
/* Many guests of one daemon: none notices what becomes of another. */
#include "fixture.h"
#include "tests.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A packet of guest @f, whose fix_hdr() would be another's. */
static struct vsp_hdr from(const struct fix *f, u32 port, u32 guest_port, enum vsp_op op)
{
	struct vsp_hdr hdr = fix_hdr(port, guest_port, op);

	hdr.src.cid = f->cid;
	return hdr;
}

static int open_one(struct fix *f, int listener, u32 port)
{
	int fd;

	fix_send(f, from(f, port, 50, VSP_OP_REQUEST));
	fd = accept(listener, NULL, NULL);
	CHECK(fd >= 0 && fix_expect(f, VSP_OP_RESPONSE).dst.cid == f->cid);
	return fd;
}

static void say(struct fix *f, int fd, char c)
{
	struct vsp_hdr hdr = from(f, 1000, 50, VSP_OP_RW);
	char got;

	hdr.len = 1;
	f->buf[0] = (u8)c;
	fix_send(f, hdr);
	CHECK(read(fd, &got, 1) == 1 && got == c);
}

/* The same ports in each guest, and different bytes. */
static void each_its_own(void)
{
	static struct fix f[FIX_FLEET_MAX];
	int fd[FIX_FLEET_MAX];
	char c;

	fix_fleet(f, FIX_FLEET_MAX, NULL, NULL);
	for (u32 i = 0; i < FIX_FLEET_MAX; i++) {
		fix_guest(&f[i], 16, 3776);
		fd[i] = open_one(&f[i], fix_listener(&f[i], 1000), 1000);
	}
	for (u32 i = 0; i < FIX_FLEET_MAX; i++)
		say(&f[i], fd[i], (char)('a' + i));
	for (u32 i = 0; i < FIX_FLEET_MAX; i++) {
		c = (char)('A' + i);
		fix_write(fd[i], &c, 1);
	}
	for (u32 i = 0; i < FIX_FLEET_MAX; i++)
		CHECK(fix_expect(&f[i], VSP_OP_RW).len == 1 && f[i].buf[0] == 'A' + i);
	/* One goes, the others stay; and it comes back. */
	peer_close(&f[0].peer);
	CHECK(read(fd[0], &c, 1) == 0);
	for (u32 i = 1; i < FIX_FLEET_MAX; i++)
		say(&f[i], fd[i], 'x');
	fix_guest(&f[0], 16, 3776);
	fix_send(&f[0], from(&f[0], 999, 50, VSP_OP_REQUEST));
	CHECK(fix_expect(&f[0], VSP_OP_RST).src.port == 999);
	fix_fleet_end(f, FIX_FLEET_MAX);
}

/* Guests that reach each other share a thread, and there are no more than was said. */
static void threads_are_bounded(void)
{
	static const char *const keys[] = { "groups=a", "groups=b", "groups=a+c", "groups=d" };
	static const char *const args[] = { "--threads", "2", NULL };
	static struct fix f[4];
	u64 two, one;

	fix_fleet(f, 4, keys, args);
	two = fix_status(&f[0], "Threads");
	fix_fleet_end(f, 4);
	fix_fleet(f, 4, NULL, args);
	one = fix_status(&f[0], "Threads");
	fix_fleet_end(f, 4);
	CHECK(two == one + 1);
}

/* A front-end that takes its memory away harms nobody else, on whatever thread. */
static void truncated_memory(void)
{
	static const char *const keys[] = { "groups=a", "groups=b", "groups=b" };
	static const char *const args[] = { "--threads", "2", NULL };
	static struct fix f[3];
	int fd[3];

	fix_fleet(f, 3, keys, args);
	for (u32 i = 0; i < 3; i++) {
		fix_guest(&f[i], 16, 3776);
		fd[i] = open_one(&f[i], fix_listener(&f[i], 1000), 1000);
	}
	for (u32 i = 0; i < 2; i++) {
		struct pollfd end = { .fd = f[i].peer.f.chan.fd, .events = POLLIN };
		const u64 one = 1;

		CHECK(!ftruncate(f[i].peer.f.memfd, 0));
		CHECK(write(f[i].peer.f.drv[1].kick_fd, &one, sizeof(one)) == sizeof(one));
		CHECK(poll(&end, 1, PEER_WAIT_MS) == 1 && (end.revents & POLLHUP));
	}
	say(&f[2], fd[2], 'x');
	fix_fleet_end(f, 3);
}

const struct test fleet_tests[] = {
	{ "fleet: each guest has its own connections", each_its_own },
	{ "fleet: threads are bounded", threads_are_bounded },
	{ "fleet: guests that take their memory away", truncated_memory },
	{ 0 },
};
