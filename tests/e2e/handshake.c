// SPDX-License-Identifier: BSD-2-Clause
/* The CONNECT line of host clients, in all the ways in which it arrives. */
#include "fixture.h"
#include "tests.h"

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
	{ "handshake: the guest refuses", guest_refuses },
	{ "handshake: the guest speaks at once", guest_speaks_at_once },
	{ "handshake: the guest does not answer", guest_does_not_answer },
	{ "handshake: there is no guest", no_guest_at_all },
	{ "handshake: a silent client is dropped", silent_client_is_dropped },
	{ "handshake: the client leaves while it waits", client_leaves_while_waiting },
	{ "handshake: one connection too many", limit_closes_the_one_too_many },
	{ 0 },
};
