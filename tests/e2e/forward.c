// SPDX-License-Identifier: BSD-2-Clause
/* Hosts behind AF_VSOCK, which on-unix.c makes of Unix sockets. */
#include "fixture.h"
#include "tests.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	FORWARD_CID = 1,
	PORT = 1000,
	GUEST_PORT = 50,
	SILENT_PORT = 4999, /* on-unix.c */
	LISTEN_PORT = 9001,
};

static struct fix f;

static void begin(const char *const *args)
{
	static char program[400];
	ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 32);
	char *slash;

	CHECK(len > 0);
	slash = strrchr(program, '/');
	snprintf(slash, sizeof(program) - (size_t)(slash - program), "/vsockd-on-unix");
	fix_prepare(&f);
	CHECK(!setenv("VSOCK_DIR", f.dir, 1));
	fix_start(&f, program, args);
	fix_await(&f);
	CHECK(!peer_open(&f.peer, f.socket, 64, 3776, false, FEATURES | VU_BIT(VSP_F_SEQPACKET)));
}

static struct sockaddr_un vsock_name(u32 cid, u32 port)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/vsock.%u.%u", f.dir, cid, port);
	return sa;
}

static int listener(u32 cid, u32 port)
{
	struct sockaddr_un sa = vsock_name(cid, port);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof(sa)) && !listen(fd, 8));
	return fd;
}

/* A client of the port that the daemon listens at, which has @own as its port; 0: any. */
static int client(u32 port, u32 own)
{
	struct sockaddr_un sa = vsock_name(UINT32_MAX, port), me = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(me.sun_path, sizeof(me.sun_path), "%s/me.%u", f.dir, own);
	CHECK(fd >= 0 && (!own || !bind(fd, (struct sockaddr *)&me, sizeof(me))));
	CHECK(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

static const char *const *forward(const char *more, const char *value)
{
	static const char *args[10];
	const char *const all[] = { "--guest-cid", "7", "--socket", f.socket, "--forward-cid", "1", more, value, NULL };

	memcpy(args, all, sizeof(all));
	return args;
}

/* To whatever CID the guest connects, it is the host; an answer comes from there. */
static void from_the_guest(void)
{
	static const u32 cids[] = { VSP_CID_HOST, 3, 1 };
	struct vsp_hdr hdr, back;
	char got[5];
	int l, fd;

	begin(forward(NULL, NULL));
	l = listener(FORWARD_CID, PORT);
	for (u32 i = 0; i < ARRAY_SIZE(cids); i++) {
		hdr = fix_hdr(PORT, GUEST_PORT + i, VSP_OP_REQUEST);
		hdr.dst.cid = cids[i];
		fix_send(&f, hdr);
		fd = accept(l, NULL, NULL);
		CHECK(fd >= 0);
		back = fix_expect(&f, VSP_OP_RESPONSE);
		CHECK(back.src.cid == cids[i] && back.src.port == PORT && back.dst.port == GUEST_PORT + i);
		hdr.op = VSP_OP_RW;
		hdr.len = sizeof(got);
		memcpy(f.buf, "hello", sizeof(got));
		fix_send(&f, hdr);
		CHECK(fix_read(fd, got, sizeof(got)) == sizeof(got) && !memcmp(got, "hello", sizeof(got)));
		fix_write(fd, "back", 4);
		CHECK(fix_expect(&f, VSP_OP_RW).len == 4 && !memcmp(f.buf, "back", 4));
		/* Half-closes, both ways. */
		shutdown(fd, SHUT_WR);
		CHECK(fix_expect(&f, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_SEND);
		hdr.op = VSP_OP_SHUTDOWN;
		hdr.len = 0;
		hdr.flags = VSP_SHUTDOWN_SEND;
		fix_send(&f, hdr);
		CHECK(read(fd, got, 1) == 0);
		close(fd);
		CHECK(fix_expect(&f, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_BOTH);
		hdr.op = VSP_OP_RST;
		fix_send(&f, hdr);
	}
	fix_end(&f);
}

/* Nobody there, nobody who answers, no such type, and what is not for this guest: each is said. */
static void refusals(void)
{
	static const char *const args[] = { "--connect-timeout", "150" };
	struct vsp_hdr hdr;
	u64 began;
	u32 fds;

	begin(forward(args[0], args[1]));
	fds = fix_fds(&f);
	fix_send(&f, fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST));
	CHECK(fix_expect(&f, VSP_OP_RST).dst.port == GUEST_PORT);
	began = fix_now_ms();
	fix_send(&f, fix_hdr(SILENT_PORT, GUEST_PORT, VSP_OP_REQUEST));
	CHECK(fix_expect(&f, VSP_OP_RST).dst.port == GUEST_PORT && fix_now_ms() - began >= 150);
	hdr = fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST);
	hdr.type = VSP_TYPE_SEQPACKET;
	fix_send(&f, hdr);
	fix_expect(&f, VSP_OP_RST);
	/* The guest gives up while it waits. The end that stands for the silent host stays open: one for each. */
	fix_send(&f, fix_hdr(SILENT_PORT, GUEST_PORT, VSP_OP_REQUEST));
	fix_send(&f, fix_hdr(SILENT_PORT, GUEST_PORT, VSP_OP_RST));
	fix_reject(&f, "refused", 3);
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; fix_fds(&f) > fds + 2;)
		CHECK(fix_now_ms() < until);
	fix_end(&f);
}

/* Clients in AF_VSOCK reach the guest under the port that they have, say nothing first and hear nothing first. */
static void to_the_guest(void)
{
	struct vsp_hdr hdr;
	int fd, other;
	char c;

	begin(forward("--forward-listen", "9001+9003-9004"));
	fd = client(LISTEN_PORT, 5555);
	hdr = fix_expect(&f, VSP_OP_REQUEST);
	CHECK(hdr.src.cid == VSP_CID_HOST && hdr.src.port == 5555 && hdr.dst.port == LISTEN_PORT);
	fix_send(&f, fix_hdr(5555, LISTEN_PORT, VSP_OP_RESPONSE));
	fix_write(fd, "first", 5);
	CHECK(fix_expect(&f, VSP_OP_RW).len == 5 && !memcmp(f.buf, "first", 5));
	hdr = fix_hdr(5555, LISTEN_PORT, VSP_OP_RW);
	hdr.len = 1;
	f.buf[0] = 'x';
	fix_send(&f, hdr);
	CHECK(read(fd, &c, 1) == 1 && c == 'x');
	/* One whose port is not known has one of ours. */
	other = client(LISTEN_PORT + 3, 0);
	hdr = fix_expect(&f, VSP_OP_REQUEST);
	CHECK(hdr.src.port >= 1u << 30 && hdr.dst.port == LISTEN_PORT + 3);
	fix_send(&f, fix_hdr(hdr.src.port, LISTEN_PORT + 3, VSP_OP_RST));
	CHECK(read(other, &c, 1) == 0);
	CHECK(!access(vsock_name(UINT32_MAX, 9003).sun_path, F_OK));
	CHECK(access(vsock_name(UINT32_MAX, 9002).sun_path, F_OK));
	fix_end(&f);
}

const struct test forward_tests[] = {
	{ "forward: from the guest", from_the_guest },
	{ "forward: refusals", refusals },
	{ "forward: to the guest", to_the_guest },
	{ 0 },
};
