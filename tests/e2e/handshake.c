// SPDX-License-Identifier: BSD-2-Clause
/* The CONNECT line of host clients, in all the ways in which it arrives. */
#include "fixture.h"
#include "tests.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void accept_request(struct fix *f, u32 guest_port, struct vsp_hdr *request)
{
	*request = fix_expect(f, VSP_OP_REQUEST);
	CHECK(request->dst.port == guest_port && request->src.cid == VSP_CID_HOST && request->dst.cid == CID);
	fix_send(f, fix_hdr(request->src.port, guest_port, VSP_OP_RESPONSE));
}

static void ok_names_the_host_port(void)
{
	struct vsp_hdr r;
	struct fix f;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	for (u32 i = 0; i < 3; i++) {
		fd = fix_dial(&f, 1024);
		accept_request(&f, 1024, &r);
		CHECK(r.src.port == (1u << 30) + i);
		CHECK(fix_ok(fd) == r.src.port);
	}
	fix_end(&f);
}

/*
 * Each piece goes out alone; the daemon has seen it when the bytes before it are gone or peeked at: no way to
 * tell, so try.
 */
static void split_line(void)
{
	const char line[] = "CONNECT 77\n";
	struct vsp_hdr r;
	struct fix f;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fd = fix_client(&f);
	for (u32 i = 0; i < sizeof(line) - 1; i++) {
		u64 before = fix_threads(&f, "voluntary_ctxt_switches");
		u64 until = fix_now_ms() + 1000;

		fix_write(fd, line + i, 1);
		while (fix_threads(&f, "voluntary_ctxt_switches") == before && fix_now_ms() < until)
			;
	}
	accept_request(&f, 77, &r);
	CHECK(fix_ok(fd) == r.src.port);
	fix_end(&f);
}

static void spellings(void)
{
	static const char *const good[] = { "connect 5\n", "Connect 5\r\n", "CONNECT\t 5 \n", "CONNECT 5 more words\n",
					    "CONNECT 00005\n" };
	struct vsp_hdr r;
	struct fix f;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	for (u32 i = 0; i < ARRAY_SIZE(good); i++) {
		int fd = fix_client(&f);

		fix_write(fd, good[i], strlen(good[i]));
		accept_request(&f, 5, &r);
		CHECK(fix_ok(fd) == r.src.port);
	}
	fix_end(&f);
}

static void bad_lines_close_silently(void)
{
	static const char *const bad[] = { "\n",
					   "CONNECT\n",
					   "CONNECT \n",
					   "CONNECT x\n",
					   "CONNECT 5x\n",
					   "CONNECT -5\n",
					   "CONNECT 4294967296\n",
					   "CONNECT 99999999999999999\n",
					   "CONNECTED 5\n",
					   "HELLO 5\n",
					   "CONNECT5\n",
					   "CONNECT                         5\n",
					   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" };
	struct fix f;
	char c;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = fix_client(&f);

		fix_write(fd, bad[i], strlen(bad[i]));
		CHECK(recv(fd, &c, 1, 0) <= 0);
		close(fd);
	}
	fix_end(&f);
}

static void pipelined_payload_is_kept(void)
{
	struct vsp_hdr r;
	struct fix f;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fd = fix_client(&f);
	fix_write(fd, "CONNECT 9\nhello\nCONNECT 10\n", 27);
	accept_request(&f, 9, &r);
	CHECK(fix_ok(fd) == r.src.port);
	r = fix_expect(&f, VSP_OP_RW);
	CHECK(r.len == 17 && !memcmp(f.buf, "hello\nCONNECT 10\n", 17));
	fix_end(&f);
}

/* Say a message and pass @n descriptors along. */
static void pass(int to, const char *text, const int *fds, u32 n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		struct cmsghdr *c;

		mh.msg_control = control.bytes;
		mh.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	CHECK(sendmsg(to, &mh, MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* A client passes the socket that is to be connected, and hears the answer at its own. */
static void passed_socket(void)
{
	static const char *const texts[] = { "1024", "1024 keep", " 01024\tKEEP \n" };
	struct vsp_hdr r;
	struct fix f;
	char got[8];
	u32 fds;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fds = fix_fds(&f);
	for (u32 i = 0; i < ARRAY_SIZE(texts); i++) {
		int fd = fix_client(&f), pair[2];

		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
		fix_write(fd, i ? "passfd\n" : "PASSFD\r\n", i ? 7 : 8);
		fix_write(pair[0], "early", 5);
		pass(fd, texts[i], &pair[1], 1);
		close(pair[1]);
		accept_request(&f, 1024, &r);
		CHECK(fix_ok(fd) == r.src.port);
		CHECK(fix_expect(&f, VSP_OP_RW).len == 5 && !memcmp(f.buf, "early", 5));
		fix_write(pair[0], "later", 5);
		CHECK(fix_expect(&f, VSP_OP_RW).len == 5 && !memcmp(f.buf, "later", 5));
		/* Its own is closed at once, or stays as long as the connection. */
		CHECK(recv(fd, got, 1, i ? MSG_DONTWAIT : 0) == (i ? -1 : 0));
		fix_send(&f, fix_hdr(r.src.port, 1024, VSP_OP_RST));
		CHECK(recv(fd, got, 1, 0) <= 0 && recv(pair[0], got, 1, 0) <= 0);
		close(fd);
		close(pair[0]);
	}
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; fix_fds(&f) > fds;)
		CHECK(fix_now_ms() < until);
	fix_end(&f);
}

/*
 * The client keeps what it passed. When the connection is over it is over for whoever is at the other end, too, and
 * what happens to the socket then is not the daemon's business any more.
 */
static void passed_and_kept(void)
{
	enum { TRIES = 100 };
	static int kept[TRIES][2];
	struct vsp_hdr r;
	struct fix f;
	char c;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	for (u32 i = 0; i < TRIES; i++) {
		int fd = fix_client(&f);

		CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, kept[i]));
		fix_write(fd, "passfd\n", 7);
		pass(fd, "1024 keep", &kept[i][1], 1);
		accept_request(&f, 1024, &r);
		CHECK(fix_ok(fd) == r.src.port);
		fix_send(&f, fix_hdr(r.src.port, 1024, VSP_OP_RST));
		CHECK(recv(fd, &c, 1, 0) <= 0);
		close(fd);
	}
	/* Each of these would be an event. */
	for (u32 i = 0; i < TRIES; i++) {
		CHECK(recv(kept[i][0], &c, 1, MSG_DONTWAIT) == 0);
		close(kept[i][0]);
		close(kept[i][1]);
	}
	fix_dial(&f, 1024);
	fix_expect(&f, VSP_OP_REQUEST);
	fix_end(&f);
}

/* A socket of TCP whose owner wants close() to wait for a reader that does not read: nobody else waits. */
static void passed_that_lingers(void)
{
	const struct linger linger = { .l_onoff = 1, .l_linger = 60 };
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct vsp_hdr r, rw;
	struct fix f;
	int fd, other;
	u32 sent = 0;

	CHECK(!bind(listener, (struct sockaddr *)&sin, len) && !listen(listener, 1));
	CHECK(!getsockname(listener, (struct sockaddr *)&sin, &len) && !connect(tcp, (struct sockaddr *)&sin, len));
	CHECK(!setsockopt(tcp, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	other = fix_client(&f);
	fix_write(other, "passfd\n", 7);
	pass(other, "1024", &tcp, 1);
	close(tcp);
	accept_request(&f, 1024, &r);
	CHECK(fix_ok(other) == r.src.port);
	/* More than its queues and the peer's take; what the window does not let in would be a violation. */
	rw = fix_hdr(r.src.port, 1024, VSP_OP_RW);
	rw.len = sizeof(f.buf);
	for (u32 fwd = 0; sent - fwd + rw.len <= r.buf_alloc;) {
		struct vsp_hdr hdr;

		CHECK(peer_send(&f.peer, rw, f.buf, rw.len, PEER_TWO));
		sent += rw.len;
		while (peer_recv(&f.peer, &hdr, NULL, sent - fwd + rw.len > r.buf_alloc ? 300 : 0))
			fwd = hdr.fwd_cnt;
	}
	fix_send(&f, fix_hdr(r.src.port, 1024, VSP_OP_RST));
	fd = fix_dial(&f, 1025);
	accept_request(&f, 1025, &r);
	CHECK(fix_ok(fd) == r.src.port);
	fix_end(&f);
}

/* What cannot be connected is refused, and nothing of it is kept. */
static void passed_nonsense(void)
{
	static const char *const bad[] = { "",
					   "x",
					   "1024 kept",
					   "4294967295",
					   "1024 keep me",
					   "CONNECT 1024\n",
					   "                                1024" };
	struct fix f;
	int other[2];
	u32 fds;
	char c;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fds = fix_fds(&f);
	for (u32 i = 0; i < ARRAY_SIZE(bad) + 4; i++) {
		bool text = i < ARRAY_SIZE(bad);
		u32 kind = i - (u32)ARRAY_SIZE(bad);
		int fd = fix_client(&f), type = kind == 1 ? SOCK_DGRAM : SOCK_STREAM;

		CHECK(!socketpair(AF_UNIX, type, 0, other));
		if (kind == 2)
			CHECK(!pipe(other));
		fix_write(fd, "passfd\n", 7);
		/* A wrong text; no descriptor; of messages; no socket; too many. */
		pass(fd, text ? bad[i] : "1024", other, text || kind == 1 || kind == 2 ? 1 : kind == 3 ? 2 : 0);
		if (text && !bad[i][0])
			shutdown(fd, SHUT_WR);
		CHECK(recv(fd, &c, 1, 0) <= 0);
		close(fd);
	}
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; fix_fds(&f) > fds;)
		CHECK(fix_now_ms() < until);
	fix_end(&f);
}

static void guest_refuses(void)
{
	struct vsp_hdr r;
	struct fix f;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fd = fix_dial(&f, 6);
	r = fix_expect(&f, VSP_OP_REQUEST);
	fix_send(&f, fix_hdr(r.src.port, 6, VSP_OP_RST));
	CHECK(fix_ok(fd) == 0);
	fix_end(&f);
}

static void guest_does_not_answer(void)
{
	static const char *const args[] = { "--connect-timeout", "100", NULL };
	struct fix f;
	int fd;

	fix_daemon(&f, args);
	fix_guest(&f, 128, 3776);
	fd = fix_dial(&f, 6);
	fix_expect(&f, VSP_OP_REQUEST);
	CHECK(fix_ok(fd) == 0);
	fix_expect(&f, VSP_OP_RST);
	fix_reject(&f, "timed_out", 1);
	fix_end(&f);
}

static void no_guest_at_all(void)
{
	static const char *const args[] = { "--connect-timeout", "100", NULL };
	struct fix f;

	fix_daemon(&f, args);
	CHECK(fix_ok(fix_dial(&f, 6)) == 0);
	fix_end(&f);
}

static void silent_client_is_dropped(void)
{
	static const char *const args[] = { "--handshake-timeout", "100", NULL };
	struct fix f;
	char c;
	int fd;

	fix_daemon(&f, args);
	fd = fix_client(&f);
	fix_write(fd, "CONN", 4);
	CHECK(recv(fd, &c, 1, 0) <= 0);
	fix_reject(&f, "timed_out", 1);
	fix_end(&f);
}

static void client_leaves_while_waiting(void)
{
	struct vsp_hdr r;
	struct fix f;
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fd = fix_dial(&f, 6);
	r = fix_expect(&f, VSP_OP_REQUEST);
	close(fd);
	CHECK(fix_expect(&f, VSP_OP_RST).src.port == r.src.port);
	fix_end(&f);
}

/* What the guest says right behind its answer belongs to the connection. */
static void guest_speaks_at_once(void)
{
	struct vsp_hdr r, hdr;
	struct fix f;
	char text[16] = "";
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fd = fix_dial(&f, 6);
	r = fix_expect(&f, VSP_OP_REQUEST);
	fix_pause(&f);
	fix_send(&f, fix_hdr(r.src.port, 6, VSP_OP_RESPONSE));
	hdr = fix_hdr(r.src.port, 6, VSP_OP_RW);
	hdr.len = 5;
	memcpy(f.buf, "hello", 5);
	fix_send(&f, hdr);
	fix_resume(&f);
	CHECK(fix_ok(fd) == r.src.port);
	CHECK(fix_read(fd, text, 5) == 5 && !memcmp(text, "hello", 5));
	fix_end(&f);
}

static void limit_closes_the_one_too_many(void)
{
	static const char *const args[] = { "--max-connections", "2", NULL };
	struct vsp_hdr r;
	struct fix f;
	int fd[3];
	char c;

	fix_daemon(&f, args);
	fix_guest(&f, 128, 3776);
	for (u32 i = 0; i < 2; i++) {
		fd[i] = fix_dial(&f, 6);
		accept_request(&f, 6, &r);
		CHECK(fix_ok(fd[i]) == r.src.port);
	}
	fd[2] = fix_client(&f);
	CHECK(recv(fd[2], &c, 1, 0) <= 0);
	fix_reject(&f, "backlog", 1);
	fix_end(&f);
}

const struct test handshake_tests[] = {
	{ "handshake: OK names the host port", ok_names_the_host_port },
	{ "handshake: a line byte by byte", split_line },
	{ "handshake: spellings", spellings },
	{ "handshake: bad lines close silently", bad_lines_close_silently },
	{ "handshake: payload behind the line is kept", pipelined_payload_is_kept },
	{ "handshake: a socket that is passed", passed_socket },
	{ "handshake: a socket that is passed and kept", passed_and_kept },
	{ "handshake: a socket that is passed and lingers", passed_that_lingers },
	{ "handshake: nonsense that is passed", passed_nonsense },
	{ "handshake: the guest refuses", guest_refuses },
	{ "handshake: the guest speaks at once", guest_speaks_at_once },
	{ "handshake: the guest does not answer", guest_does_not_answer },
	{ "handshake: there is no guest", no_guest_at_all },
	{ "handshake: a silent client is dropped", silent_client_is_dropped },
	{ "handshake: the client leaves while it waits", client_leaves_while_waiting },
	{ "handshake: one connection too many", limit_closes_the_one_too_many },
	{ 0 },
};
