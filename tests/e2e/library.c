// SPDX-License-Identifier: BSD-2-Clause
/*
 * libvsock's datagrams through a vguest and a vsockd: this program is a guest's at the one, and a host's at the other.
 */
#include "pair.h"
#include "tests.h"

#include "vsock/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PORT = 1000,
	OTHER = 1001,
	GUEST_PORT = 2000,
	NOBODY = 1999,
	FIRST = 999,	     /* for what may be lost before both ends know that there are datagrams */
	RESEND_MS = 50,	     /* after so long it is */
	SOME = 100,	     /* bytes of a datagram of no particular length */
	MANY = 1000,	     /* datagrams, more than there is room for anywhere */
	GIVEN_OUT = 1 << 30, /* the first port that is given to who has none */
};

static struct fix host, guest;
static unsigned char stuff[VSOCK_DGRAM_MAX + 1];

static struct vsock_addr at(const struct fix *f, uint32_t port)
{
	struct vsock_addr addr = { .kind = VSOCK_KIND_HYBRID, .type = SOCK_DGRAM, .cid = VSOCK_CID_ANY, .port = port };

	memcpy(addr.path, f->uds, sizeof(f->uds));
	return addr;
}

/* A name of the hybrid convention: @f's path with a suffix. */
static struct sockaddr_un name_of(const struct fix *f, const char *suffix)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	CHECK(snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_dgram%s", f->uds, suffix) < (int)sizeof(sa.sun_path));
	return sa;
}

static int dial(const struct fix *f, uint32_t port)
{
	struct vsock_addr addr = at(f, port);
	int fd = vsock_dial(&addr, NULL);

	CHECK(fd >= 0);
	return fd;
}

static int listen_at(const struct fix *f, uint32_t port)
{
	struct vsock_addr addr = at(f, port);
	int fd = vsock_listen(&addr, NULL);

	CHECK(fd >= 0);
	return fd;
}

static void close_listener(int fd, const struct fix *f, uint32_t port)
{
	struct vsock_addr addr = at(f, port);
	char path[VSOCK_PATH_MAX];

	CHECK(vsock_listen_path(&addr, path, sizeof(path)) > 0 && !unlink(path));
	close(fd);
}

static bool is_ready(int fd, short events, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, ms) == 1 && (pfd.revents & events);
}

static void send_to(int fd, size_t len, struct vsock_addr to)
{
	CHECK(vsock_sendto(fd, stuff, len, 0, &to) == 0);
}

/* A datagram of @len bytes arrives, of which @size are asked for. Their memory ends there. */
static struct vsock_addr expect_part(int fd, size_t len, size_t size, int flags)
{
	char *bytes = size ? malloc(size) : NULL;
	struct vsock_addr from;

	CHECK((bytes || !size) && is_ready(fd, POLLIN, PEER_WAIT_MS));
	CHECK(vsock_recvfrom(fd, bytes, size, MSG_DONTWAIT | flags, &from) == (int)len);
	CHECK(!size || !memcmp(bytes, stuff, len < size ? len : size));
	free(bytes);
	return from;
}

static struct vsock_addr expect(int fd, size_t len)
{
	return expect_part(fd, len, VSOCK_DGRAM_MAX, 0);
}

static void expect_nothing(int fd)
{
	CHECK(vsock_recvfrom(fd, NULL, 0, MSG_DONTWAIT, NULL) == -EAGAIN);
}

static bool is_from(struct vsock_addr from, const struct fix *f, uint32_t cid, uint32_t port)
{
	return from.kind == VSOCK_KIND_HYBRID && from.type == SOCK_DGRAM && from.cid == cid && from.port == port &&
	       !from.flags && !strcmp(from.path, f->uds);
}

/* Who has sent to a socket at @f: the host has CID 2, the guest its own. */
static uint32_t other_cid(const struct fix *f)
{
	return f == &host ? CID : VSOCK_CID_HOST;
}

/* Send until something arrives. */
static void send_until(int from, struct vsock_addr to, int there)
{
	u64 until = fix_now_ms() + PEER_WAIT_MS;

	do {
		CHECK(fix_now_ms() < until);
		vsock_sendto(from, stuff, SOME, 0, &to);
	} while (!is_ready(there, POLLIN, RESEND_MS));
}

static void meet(const struct fix *from, const struct fix *to)
{
	int there = listen_at(to, FIRST), here = dial(from, FIRST);

	send_until(here, at(from, FIRST), there);
	close(here);
	close_listener(there, to, FIRST);
}

static void begin(const char *option, const char *value)
{
	for (u32 i = 0; i < sizeof(stuff); i++)
		stuff[i] = fix_byte(i, 1);
	fix_prepare(&host);
	fix_prepare(&guest);
	pair_start_host(&host, option, value);
	/* What is larger than a buffer comes in fragments. */
	pair_start_guest(&guest, pair_vguest(), host.socket, "--receive-buffer", "3732");
	meet(&guest, &host);
	meet(&host, &guest);
}

static void end(void)
{
	fix_end(&guest);
	fix_end(&host);
}

/* Each size to a port of the other side, back to where it came from, and there once more. */
static void sizes_to(const struct fix *from, const struct fix *to)
{
	static const size_t sizes[] = { 0, 1, 31, 32, 33, 3732, 3733, 32768, 65535, 65536, 0 };
	int there = listen_at(to, PORT), here = dial(from, PORT);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vsock_addr asks, answers, again;

		send_to(here, sizes[i], at(from, PORT));
		asks = expect(there, sizes[i]);
		CHECK(asks.port >= GIVEN_OUT && is_from(asks, to, other_cid(to), asks.port));
		send_to(there, sizes[i], asks);
		answers = expect(here, sizes[i]);
		CHECK(is_from(answers, from, other_cid(from), PORT));
		send_to(here, sizes[i], answers);
		again = expect(there, sizes[i]);
		CHECK(is_from(again, to, asks.cid, asks.port));
		CHECK(vsock_sendto(here, stuff, VSOCK_DGRAM_MAX + 1, 0, &answers) == -EMSGSIZE);
		CHECK(vsock_sendto(there, stuff, VSOCK_DGRAM_MAX + 1, 0, &asks) == -EMSGSIZE);
	}
	expect_nothing(here);
	expect_nothing(there);
	close(here);
	close_listener(there, to, PORT);
}

static void test_sizes(void)
{
	begin(NULL, NULL);
	sizes_to(&guest, &host);
	sizes_to(&host, &guest);
	end();
}

/* A buffer that is too small has the beginning, behind a line or not, and the length is true. */
static void test_cut(void)
{
	static const size_t sizes[] = { 0, 1, 11, 12, 13, 31, 32, 33, SOME - 1, SOME, SOME + 1, SOME + 100 };
	int there, here;

	begin(NULL, NULL);
	there = listen_at(&host, PORT);
	here = dial(&guest, PORT);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vsock_addr from;

		send_to(here, SOME, at(&guest, PORT));
		from = expect_part(there, SOME, sizes[i], MSG_PEEK);
		CHECK(is_from(expect_part(there, SOME, sizes[i], 0), &host, CID, from.port));
		for (size_t len = 0; len <= SOME; len += SOME / 4) {
			send_to(there, len, from);
			CHECK(is_from(expect_part(here, len, sizes[i], MSG_PEEK), &guest, VSOCK_CID_HOST, PORT));
			CHECK(is_from(expect_part(here, len, sizes[i], 0), &guest, VSOCK_CID_HOST, PORT));
		}
		expect_nothing(here);
		expect_nothing(there);
	}
	end();
}

/* Nothing to receive, and no room: said at once, and poll() says when that is over. */
static void test_no_waiting(void)
{
	struct vsock_addr to, any;
	int there, here;
	u32 sent = 0;

	begin(NULL, NULL);
	there = listen_at(&host, PORT);
	here = dial(&guest, PORT);
	to = at(&guest, PORT);
	CHECK(!is_ready(there, POLLIN, 0) && is_ready(here, POLLOUT, 0));
	expect_nothing(there);
	CHECK(!fcntl(there, F_SETFL, O_NONBLOCK) && vsock_recvfrom(there, NULL, 0, 0, NULL) == -EAGAIN);
	fix_pause(&guest);
	while (sent < MANY && !vsock_sendto(here, stuff, sent, MSG_DONTWAIT, &to))
		sent++;
	CHECK(sent && sent < MANY && vsock_sendto(here, stuff, 0, MSG_DONTWAIT, &to) == -EAGAIN);
	CHECK(!is_ready(here, POLLOUT, 0));
	fix_resume(&guest);
	for (u32 i = 0; i < sent; i++)
		expect(there, i);
	CHECK(is_ready(here, POLLOUT, PEER_WAIT_MS));
	expect_nothing(there);
	/* What it is not for. */
	any = at(&guest, VSOCK_PORT_ANY);
	CHECK(vsock_sendto(here, stuff, 1, 0, &any) == -EINVAL);
	CHECK(vsock_sendto(here, stuff, 1, MSG_OOB, &to) == -EINVAL);
	CHECK(vsock_recvfrom(here, stuff, 1, MSG_WAITALL, NULL) == -EINVAL);
	end();
}

/* What nobody takes is lost, as docs/PROTOCOL.md says; that there is no device is an error, until there is one. */
static void test_nobody(void)
{
	struct vsock_addr to, nowhere;
	int there, here;

	begin(NULL, NULL);
	nowhere = at(&guest, PORT);
	nowhere.path[strlen(nowhere.path)] = '0';
	CHECK(vsock_dial(&nowhere, NULL) == -ENOENT);
	here = dial(&guest, NOBODY);
	CHECK(vsock_sendto(here, stuff, SOME, 0, &nowhere) == -ENOENT);
	send_to(here, SOME, at(&guest, NOBODY));
	fix_reject(&host, "dgrams_unbound", 1);
	fix_reject(&guest, "dgrams_bounced", 1);
	there = listen_at(&host, PORT);
	to = at(&guest, PORT);
	CHECK(!kill(guest.pid, SIGKILL) && waitpid(guest.pid, NULL, 0) == guest.pid);
	CHECK(vsock_sendto(here, stuff, SOME, 0, &to) == -ECONNREFUSED);
	CHECK(vsock_sendto(here, stuff, SOME, 0, &to) == -ECONNREFUSED);
	pair_start_guest(&guest, pair_vguest(), host.socket, NULL, NULL);
	send_until(here, to, there);
	send_to(there, SOME, expect(there, SOME));
	CHECK(is_from(expect(here, SOME), &guest, VSOCK_CID_HOST, PORT));
	end();
}

/* A socket with a port of its own, and one with any, speak to many and hear everybody. */
static void test_own_port(void)
{
	struct vsock_addr any, from;
	char path[VSOCK_PATH_MAX];
	int here[2], there[2];

	begin(NULL, NULL);
	any = at(&guest, VSOCK_PORT_ANY);
	CHECK(vsock_listen_path(&any, path, sizeof(path)) == -EINVAL);
	here[0] = listen_at(&guest, GUEST_PORT);
	here[1] = listen_at(&guest, VSOCK_PORT_ANY);
	there[0] = listen_at(&host, PORT);
	there[1] = listen_at(&host, OTHER);
	for (u32 i = 0; i < 4; i++) {
		send_to(here[i / 2], SOME + i, at(&guest, PORT + i % 2));
		from = expect(there[i % 2], SOME + i);
		CHECK(from.cid == CID && (i < 2 ? from.port == GUEST_PORT : from.port >= GIVEN_OUT));
		send_to(there[i % 2], i, from);
		CHECK(is_from(expect(here[i / 2], i), &guest, VSOCK_CID_HOST, PORT + i % 2));
	}
	any.type = SOCK_STREAM;
	CHECK(vsock_listen(&any, NULL) == -EINVAL);
	end();
}

/* From one guest to another: the path is that of the sender's vguest, the CID that of the other. */
static void test_siblings(void)
{
	static const char *const keys[] = { "groups=x", "groups=x" };
	static struct fix fleet[2], guests[2];
	struct vsock_addr to, from;
	int there, here;

	fix_fleet(fleet, 2, keys, NULL);
	for (u32 i = 0; i < 2; i++) {
		fix_prepare(&guests[i]);
		guests[i].cid = fleet[i].cid;
		pair_start_guest(&guests[i], pair_vguest(), fleet[i].socket, NULL, NULL);
	}
	to = at(&guests[1], PORT);
	to.cid = fleet[0].cid;
	there = listen_at(&guests[0], PORT);
	here = vsock_dial(&to, NULL);
	CHECK(here >= 0);
	send_until(here, to, there);
	do {
		from = expect(there, SOME);
	} while (is_ready(there, POLLIN, 0));
	CHECK(from.port >= GIVEN_OUT && is_from(from, &guests[0], fleet[1].cid, from.port));
	send_to(there, 3, from);
	CHECK(is_from(expect(here, 3), &guests[1], fleet[0].cid, PORT));
	fix_end(&guests[0]);
	fix_end(&guests[1]);
	fix_fleet_end(fleet, 2);
}

/* An answer goes to the name that the question came from, so that it may go where nobody else may send. */
static void test_closed_port(void)
{
	struct vsock_addr from;
	int here, there;

	begin("--deny-to-guest", "2000");
	here = listen_at(&guest, GUEST_PORT);
	there = listen_at(&host, PORT);
	send_to(there, 1, at(&host, GUEST_PORT));
	fix_reject(&host, "denied", 1);
	send_to(here, 2, at(&guest, PORT));
	from = expect(there, 2);
	send_to(there, 3, from);
	CHECK(is_from(expect(here, 3), &guest, VSOCK_CID_HOST, PORT));
	expect_nothing(here);
	end();
}

/* The name is gone, or nobody is behind it any more: the port is still there. */
static void test_lost_name(void)
{
	struct vsock_addr from;
	struct sockaddr_un name;
	int here, there, fd;

	begin(NULL, NULL);
	here = listen_at(&guest, GUEST_PORT);
	there = listen_at(&host, PORT);
	send_to(here, 1, at(&guest, PORT));
	from = expect(there, 1);
	name = name_of(&host, "@7.2000");
	CHECK(!unlink(name.sun_path));
	send_to(there, 2, from);
	CHECK(is_from(expect(here, 2), &guest, VSOCK_CID_HOST, PORT));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&name, sizeof(name)) && !close(fd));
	send_to(there, 3, from);
	CHECK(is_from(expect(here, 3), &guest, VSOCK_CID_HOST, PORT));
	end();
}

/* Programs of this machine that send to a socket as it is: heard as nobody by the one, not at all by the other. */
static void test_strangers(void)
{
	static const char said[] = "FROM 7 5\nhello";
	struct sockaddr_un server, stranger, client;
	socklen_t client_len = sizeof(client);
	int there, here, fd;

	begin(NULL, NULL);
	there = listen_at(&host, PORT);
	here = dial(&guest, PORT);
	server = name_of(&host, "_1000");
	stranger = name_of(&host, "_at_all");
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(fd >= 0);
	for (u32 i = 0; i < 2; i++) {
		char got[SOME] = "";
		struct vsock_addr from;

		CHECK(sendto(fd, said, sizeof(said), 0, (struct sockaddr *)&server, sizeof(server)) == sizeof(said));
		CHECK(vsock_recvfrom(there, got, sizeof(got), 0, &from) == sizeof(said) && !strcmp(got, said));
		CHECK(from.kind == VSOCK_KIND_HYBRID && from.cid == VSOCK_CID_ANY && from.port == VSOCK_PORT_ANY);
		CHECK(!from.path[0] && vsock_sendto(there, got, 1, 0, &from) == -EINVAL);
		CHECK(i || !bind(fd, (struct sockaddr *)&stranger, sizeof(stranger)));
	}
	CHECK(!getsockname(here, (struct sockaddr *)&client, &client_len));
	CHECK(sendto(fd, said, sizeof(said), 0, (struct sockaddr *)&client, client_len) < 0 && errno == EPERM);
	end();
}

const struct test library_tests[] = {
	{ "library: datagrams, every size", test_sizes },
	{ "library: datagrams, cut", test_cut },
	{ "library: datagrams, nobody waits", test_no_waiting },
	{ "library: datagrams, nobody there", test_nobody },
	{ "library: datagrams, a port of one's own", test_own_port },
	{ "library: datagrams, guest to guest", test_siblings },
	{ "library: datagrams, a closed port", test_closed_port },
	{ "library: datagrams, a name that is gone", test_lost_name },
	{ "library: datagrams, strangers", test_strangers },
	{ NULL, NULL },
};
