// SPDX-License-Identifier: BSD-2-Clause
/*
 * defects.c - what vhost-device-vsock 0.3.0 gets wrong, each by itself
 *
 * Most of it is tested elsewhere, too, and closer. Here each defect stands alone and nothing else is asked of the
 * daemon, not even that it ends cleanly: so the same test fails there for no other reason. tests/e2e/rival runs them
 * beside each other.
 */
#include "fixture.h"
#include "tests.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PORT = 1000,
	GUEST_PORT = 50,
	RING = 128,
	BUFFER = 3776,	    /* of the guest: stock Linux */
	PATIENCE_MS = 3000, /* for what never comes there */
};

static struct fix f;

/* A guest in one piece of memory: not everybody takes more. Others may not be there yet, or again. */
static void open_guest(struct fix *g)
{
	u64 until = fix_now_ms() + PEER_WAIT_MS;

	g->peer.whole = true;
	while (peer_open(&g->peer, g->socket, RING, BUFFER, false, VU_BIT(VU_F_EVENT_IDX))) {
		CHECK(fix_now_ms() < until);
		poll(NULL, 0, 1); /* poll interval */
	}
}

static void begin(void)
{
	fix_spawn(&f, fix_program(), NULL);
	open_guest(&f);
}

static void end(void)
{
	fix_abandon(&f);
}

static void send_bytes(u32 host_port, u32 guest_port, u32 len, u32 seed, enum peer_shape shape)
{
	struct vsp_hdr hdr = fix_hdr(host_port, guest_port, VSP_OP_RW);

	for (u32 i = 0; i < len; i++)
		f.buf[i] = fix_byte(i, seed);
	hdr.len = len;
	CHECK(peer_send(&f.peer, hdr, f.buf, len, shape));
}

/* A packet with this op within a while, whatever else comes. */
static bool comes(enum vsp_op op, struct vsp_hdr *hdr)
{
	u64 until = fix_now_ms() + PATIENCE_MS;

	while (fix_now_ms() < until) {
		if (peer_recv(&f.peer, hdr, f.buf, 10) && hdr->op == op)
			return true;
	}
	return false;
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, PATIENCE_MS) == 1;
}

/* A connection of a host client to the guest. */
static int dial(u32 port, struct vsp_hdr *request)
{
	int fd = fix_dial(&f, port);

	CHECK(comes(VSP_OP_REQUEST, request));
	fix_send(&f, fix_hdr(request->src.port, port, VSP_OP_RESPONSE));
	return fd;
}

/* Without this nothing below means anything. */
static void works_at_all(void)
{
	struct vsp_hdr hdr;
	u8 got[100];
	int fd;

	begin();
	fd = fix_open(&f, fix_listener(&f, PORT), PORT, GUEST_PORT);
	send_bytes(PORT, GUEST_PORT, sizeof(got), 1, PEER_TWO);
	CHECK(readable(fd) && fix_read(fd, got, sizeof(got)) == sizeof(got) && got[99] == fix_byte(99, 1));
	fix_write(fd, "back", 4);
	CHECK(comes(VSP_OP_RW, &hdr) && hdr.len == 4);
	fd = dial(9, &hdr);
	CHECK(readable(fd) && fix_ok(fd));
	end();
}

static void large_packets_in_many_pieces(void)
{
	static u8 got[65000];
	int fd;

	begin();
	fd = fix_open(&f, fix_listener(&f, PORT), PORT, GUEST_PORT);
	send_bytes(PORT, GUEST_PORT, sizeof(got), 1, PEER_FRAGS);
	CHECK(readable(fd) && fix_read(fd, got, sizeof(got)) == sizeof(got));
	for (u32 i = 0; i < sizeof(got); i++)
		CHECK(got[i] == fix_byte(i, 1));
	end();
}

static void payload_behind_connect(void)
{
	struct vsp_hdr hdr;
	int fd;

	begin();
	fd = fix_client(&f);
	fix_write(fd, "CONNECT 9\nhello", 15);
	CHECK(comes(VSP_OP_REQUEST, &hdr));
	fix_send(&f, fix_hdr(hdr.src.port, 9, VSP_OP_RESPONSE));
	CHECK(comes(VSP_OP_RW, &hdr) && hdr.len == 5 && !memcmp(f.buf, "hello", 5));
	end();
}

static void connect_in_two_parts(void)
{
	struct vsp_hdr hdr;
	int fd;

	begin();
	fd = fix_client(&f);
	fix_write(fd, "CONN", 4);
	/* It has taken the first part when it answers another client. */
	close(dial(8, &hdr));
	fix_write(fd, "ECT 9\n", 6);
	CHECK(comes(VSP_OP_REQUEST, &hdr) && hdr.dst.port == 9);
	end();
}

static void half_closed_by_the_guest(void)
{
	struct vsp_hdr hdr;
	char c;
	int fd;

	begin();
	fd = fix_open(&f, fix_listener(&f, PORT), PORT, GUEST_PORT);
	hdr = fix_hdr(PORT, GUEST_PORT, VSP_OP_SHUTDOWN);
	hdr.flags = VSP_SHUTDOWN_SEND;
	fix_send(&f, hdr);
	CHECK(readable(fd) && read(fd, &c, 1) == 0);
	fix_write(fd, "late", 4);
	CHECK(comes(VSP_OP_RW, &hdr) && hdr.len == 4);
	end();
}

static void half_closed_by_the_host(void)
{
	struct vsp_hdr hdr;
	u8 got[4];
	int fd;

	begin();
	fd = fix_open(&f, fix_listener(&f, PORT), PORT, GUEST_PORT);
	shutdown(fd, SHUT_WR);
	CHECK(comes(VSP_OP_SHUTDOWN, &hdr) && hdr.flags == VSP_SHUTDOWN_SEND);
	send_bytes(PORT, GUEST_PORT, sizeof(got), 1, PEER_TWO);
	CHECK(readable(fd) && fix_read(fd, got, sizeof(got)) == sizeof(got));
	end();
}

static void refusal_is_said(void)
{
	struct vsp_hdr hdr;

	begin();
	fix_send(&f, fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST));
	CHECK(comes(VSP_OP_RST, &hdr));
	end();
}

static u64 cpu_ticks(void)
{
	char path[64], text[512], *at;
	unsigned long long user = 0, kernel = 0;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", f.pid);
	stat = fopen(path, "r");
	CHECK(stat && fgets(text, sizeof(text), stat));
	fclose(stat);
	at = strrchr(text, ')');
	CHECK(at && sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &kernel) == 2);
	return user + kernel;
}

/* Clients that say CONNECT and leave: their descriptors come back, and the processor is free again. */
static void clients_that_leave(void)
{
	enum { CLIENTS = 50, WATCH_MS = 500 };
	u64 until, ticks;
	u32 fds;

	begin();
	fds = fix_fds(&f);
	for (u32 i = 0; i < CLIENTS; i++)
		close(fix_dial(&f, 9));
	for (until = fix_now_ms() + PATIENCE_MS; fix_fds(&f) > fds + 2;)
		CHECK(fix_now_ms() < until);
	ticks = cpu_ticks();
	for (until = fix_now_ms() + WATCH_MS; fix_now_ms() < until;)
		poll(NULL, 0, 10); /* the span that is watched */
	CHECK(cpu_ticks() - ticks < (u64)sysconf(_SC_CLK_TCK) * WATCH_MS / 1000 / 4);
	end();
}

/* What a guest that echoes has been told, and has got. */
struct echo {
	u32 received;
	u32 sent;
	u32 fwd;
	u32 alloc;
};

/* Take what came and send it back as credit allows, a packet at a time. True: something moved. */
static bool echo_some(struct echo *e)
{
	enum { PACKET = 4000 };
	struct vsp_hdr hdr;
	u32 room, left;
	bool moved = false;

	while (peer_recv(&f.peer, &hdr, f.buf, 1)) {
		moved |= hdr.op == VSP_OP_RW;
		e->received += hdr.op == VSP_OP_RW ? hdr.len : 0;
		CHECK(hdr.op != VSP_OP_RST);
		e->fwd = hdr.fwd_cnt;
		e->alloc = hdr.buf_alloc;
	}
	room = e->alloc - (e->sent - e->fwd);
	left = e->received - e->sent;
	left = left < PACKET ? left : PACKET;
	if (!left || room < left)
		return moved;
	for (u32 i = 0; i < left; i++)
		f.buf[i] = fix_byte(e->sent + i, 1);
	e->sent += left;
	hdr = fix_hdr(PORT, GUEST_PORT, VSP_OP_RW);
	hdr.len = left;
	hdr.fwd_cnt = e->sent;
	CHECK(peer_send(&f.peer, hdr, f.buf, hdr.len, PEER_TWO));
	return true;
}

/* A host program that writes all it can and reads only when nothing else goes on, with a guest that echoes. */
static void slow_reader(void)
{
	enum { TOTAL = 830528, STEP = 4096, IDLE_TURNS = 20 };
	static u8 out[TOTAL], in[TOTAL];
	u64 until = fix_now_ms() + 5 * PATIENCE_MS;
	u32 written = 0, got = 0, idle = 0;
	struct echo e = { 0 };
	struct vsp_hdr hdr;
	int fd;

	for (u32 i = 0; i < TOTAL; i++)
		out[i] = fix_byte(i, 1);
	begin();
	fd = fix_listener(&f, PORT);
	fix_send(&f, fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST));
	fd = accept(fd, NULL, NULL);
	CHECK(fd >= 0 && comes(VSP_OP_RESPONSE, &hdr));
	e.alloc = hdr.buf_alloc;
	while (got < TOTAL) {
		ssize_t n = send(fd, out + written, TOTAL - written, MSG_DONTWAIT | MSG_NOSIGNAL);

		CHECK(fix_now_ms() < until);
		written += n > 0 ? (u32)n : 0;
		idle = n > 0 || echo_some(&e) ? 0 : idle + 1;
		n = idle > IDLE_TURNS ? recv(fd, in + got, STEP, MSG_DONTWAIT) : 0;
		got += n > 0 ? (u32)n : 0;
	}
	CHECK(!memcmp(in, out, TOTAL));
	end();
}

static void ok_names_the_host_port(void)
{
	struct vsp_hdr hdr;
	int fd;

	begin();
	fd = dial(9, &hdr);
	CHECK(readable(fd) && fix_ok(fd) == hdr.src.port);
	end();
}

/* Nonsense on the command line is an error, and not a crash: a panic of Rust ends with 101. */
static void nonsense_is_an_error(void)
{
	static const char *const args[] = { "--guest-cid",	"7", "--socket", "/tmp/none", "--forward-cid", "1",
					    "--forward-listen", "x", NULL };
	static char said[4096];
	int status = fix_run(args, said, sizeof(said));

	CHECK(status != 0 && status != 101 && !strstr(said, "panicked"));
}

/* Clients that are gone by the time the guest accepts: whoever writes OK must survive that. */
static void client_gone_before_ok(void)
{
	enum { TIMES = 20 };
	struct vsp_hdr hdr;
	int fd;

	begin();
	for (u32 i = 0; i < TIMES; i++) {
		fd = fix_dial(&f, 9);
		CHECK(comes(VSP_OP_REQUEST, &hdr));
		/* The daemon finds both at once: the client that left, and the answer. */
		fix_pause(&f);
		close(fd);
		fix_send(&f, fix_hdr(hdr.src.port, 9, VSP_OP_RESPONSE));
		fix_resume(&f);
	}
	fd = dial(10, &hdr);
	CHECK(readable(fd) && fix_ok(fd));
	end();
}

/* A guest that sends to another one without asking for credit: what it costs us has a bound. */
static void flood_between_guests(void)
{
	enum { PACKETS = 2000, MOST_KIB = 16 << 10 };
	static struct fix two[2];
	static const char *const keys[] = { "groups=a", "groups=a" };
	struct vsp_hdr hdr;
	u64 before;

	fix_fleet(two, 2, keys, NULL);
	for (u32 i = 0; i < 2; i++)
		open_guest(&two[i]);
	hdr = fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST);
	hdr.dst.cid = CID + 1;
	fix_send(&two[0], hdr);
	CHECK(peer_recv(&two[1].peer, &hdr, two[1].buf, PATIENCE_MS) && hdr.op == VSP_OP_REQUEST);
	hdr = (struct vsp_hdr){
		.src = hdr.dst, .dst = hdr.src, .type = VSP_TYPE_STREAM, .op = VSP_OP_RESPONSE, .buf_alloc = 1u << 30
	};
	fix_send(&two[1], hdr);
	CHECK(peer_recv(&two[0].peer, &hdr, two[0].buf, PATIENCE_MS));
	before = fix_status(&two[0], "RssAnon");
	hdr = fix_hdr(PORT, GUEST_PORT, VSP_OP_RW);
	hdr.dst.cid = CID + 1;
	hdr.len = sizeof(two[0].buf);
	for (u32 i = 0; i < PACKETS; i++) {
		struct vsp_hdr answer;

		CHECK(peer_send(&two[0].peer, hdr, two[0].buf, hdr.len, PEER_ONE));
		while (peer_recv(&two[0].peer, &answer, NULL, 0))
			;
	}
	CHECK(fix_status(&two[0], "RssAnon") - before < MOST_KIB);
	peer_close(&two[1].peer);
	fix_abandon(&two[0]);
}

const struct test defects_tests[] = {
	{ "defects: none of them: it works", works_at_all },
	{ "defects: large packets in many pieces are lost", large_packets_in_many_pieces },
	{ "defects: payload behind CONNECT is lost", payload_behind_connect },
	{ "defects: CONNECT in two parts is refused", connect_in_two_parts },
	{ "defects: no half-close by the guest", half_closed_by_the_guest },
	{ "defects: no half-close by the host", half_closed_by_the_host },
	{ "defects: a refusal is not said", refusal_is_said },
	{ "defects: clients that leave cost descriptors and time", clients_that_leave },
	{ "defects: a slow reader stalls for ever", slow_reader },
	{ "defects: OK names the guest's port", ok_names_the_host_port },
	{ "defects: a crash instead of an error", nonsense_is_an_error },
	{ "defects: a client gone before OK", client_gone_before_ok },
	{ "defects: a flood between guests has no bound", flood_between_guests },
	{ 0 },
};
