// SPDX-License-Identifier: BSD-2-Clause
/*
 * Hosts behind AF_VSOCK, which on-unix.c makes of Unix sockets; with SLUICE_VSOCK in the environment it is the
 * kernel's, as tests/vm/forward has it in a machine of its own.
 */
#include "fixture.h"
#include "tests.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum {
	FORWARD_CID = 1,
	PORT = 1000,
	GUEST_PORT = 50,
	SILENT_PORT = 4999, /* on-unix.c */
	LISTEN_PORT = 9001,
};

static struct fix f;

static bool is_real(void)
{
	return getenv("SLUICE_VSOCK");
}

static const char *on_unix(void)
{
	static char program[400];
	ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 32);
	char *slash;

	CHECK(len > 0);
	slash = strrchr(program, '/');
	snprintf(slash, sizeof(program) - (size_t)(slash - program), "/vsockd-on-unix");
	return program;
}

static void begin(const char *const *args)
{
	fix_prepare(&f);
	CHECK(!setenv("VSOCK_DIR", f.dir, 1));
	fix_start(&f, is_real() ? fix_program() : on_unix(), args);
	fix_await(&f);
	CHECK(!peer_open(&f.peer, f.socket, 64, 3776, false, FEATURES | VU_BIT(VSP_F_SEQPACKET)));
}

/* An address of the kernel's AF_VSOCK, or of what stands for it. */
struct name {
	union {
		struct sockaddr sa;
		struct sockaddr_vm vm;
		struct sockaddr_un un;
	} at;
	socklen_t len;
};

static struct name vsock_name(u32 cid, u32 port)
{
	struct name n = { .len = is_real() ? sizeof(n.at.vm) : sizeof(n.at.un) };

	if (is_real()) {
		n.at.vm = (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
	} else {
		n.at.un.sun_family = AF_UNIX;
		snprintf(n.at.un.sun_path, sizeof(n.at.un.sun_path), "%s/vsock.%u.%u", f.dir, cid, port);
	}
	return n;
}

static int vsock_socket(void)
{
	int fd = socket(is_real() ? AF_VSOCK : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	return fd;
}

static int listener(u32 cid, u32 port)
{
	struct name n = vsock_name(cid, port);
	int fd = vsock_socket();

	CHECK(!bind(fd, &n.at.sa, n.len) && !listen(fd, 8));
	return fd;
}

/* Does the daemon listen at the port? */
static bool listens(u32 port)
{
	struct name n = vsock_name(VMADDR_CID_ANY, port);
	int fd = vsock_socket();
	bool taken = bind(fd, &n.at.sa, n.len) != 0;

	CHECK(!taken || errno == EADDRINUSE);
	close(fd);
	return taken;
}

/* A client of the port that the daemon listens at, which has @own as its port; 0: any. */
static int client(u32 port, u32 own)
{
	struct name to = vsock_name(is_real() ? FORWARD_CID : VMADDR_CID_ANY, port);
	struct name me = vsock_name(VMADDR_CID_ANY, own);
	int fd = vsock_socket();

	CHECK(!own || !bind(fd, &me.at.sa, me.len));
	CHECK(!connect(fd, &to.at.sa, to.len));
	return fd;
}

static u32 own_port(int fd)
{
	struct sockaddr_vm vm = { 0 };
	socklen_t len = sizeof(vm);

	CHECK(!getsockname(fd, (struct sockaddr *)&vm, &len));
	return vm.svm_port;
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

/* Nobody there, and no such type: each is said. */
static void refusals(void)
{
	struct vsp_hdr hdr = fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST);

	begin(forward(NULL, NULL));
	fix_send(&f, hdr);
	CHECK(fix_expect(&f, VSP_OP_RST).dst.port == GUEST_PORT);
	hdr.type = VSP_TYPE_SEQPACKET;
	fix_send(&f, hdr);
	fix_expect(&f, VSP_OP_RST);
	fix_reject(&f, "refused", 2);
	fix_end(&f);
}

static void silence(void)
{
	u64 began;
	u32 fds;

	begin(forward("--connect-timeout", "150"));
	fds = fix_fds(&f);
	began = fix_now_ms();
	fix_send(&f, fix_hdr(SILENT_PORT, GUEST_PORT, VSP_OP_REQUEST));
	CHECK(fix_expect(&f, VSP_OP_RST).dst.port == GUEST_PORT && fix_now_ms() - began >= 150);
	/* The guest gives up while it waits. The end that stands for the silent host stays open: one for each. */
	fix_send(&f, fix_hdr(SILENT_PORT, GUEST_PORT, VSP_OP_REQUEST));
	fix_send(&f, fix_hdr(SILENT_PORT, GUEST_PORT, VSP_OP_RST));
	fix_send(&f, fix_hdr(PORT, GUEST_PORT + 1, VSP_OP_REQUEST));
	CHECK(fix_expect(&f, VSP_OP_RST).dst.port == GUEST_PORT + 1);
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
	/* The kernel gives each a port; one whose port is not known has one of ours. */
	other = client(LISTEN_PORT + 3, 0);
	hdr = fix_expect(&f, VSP_OP_REQUEST);
	CHECK(is_real() ? hdr.src.port == own_port(other) : hdr.src.port >= 1u << 30);
	CHECK(hdr.dst.port == LISTEN_PORT + 3);
	fix_send(&f, fix_hdr(hdr.src.port, LISTEN_PORT + 3, VSP_OP_RST));
	CHECK(read(other, &c, 1) == 0);
	CHECK(listens(9003) && !listens(9002));
	fix_end(&f);
}

const struct test forward_tests[] = {
	{ "forward: from the guest", from_the_guest },
	{ "forward: refusals", refusals },
	{ "forward: a host that says nothing", silence },
	{ "forward: to the guest", to_the_guest },
	{ 0 },
};
