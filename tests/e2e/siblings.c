// SPDX-License-Identifier: BSD-2-Clause
/*
 * Guests that talk to each other: bytes arrive as they were sent, ends are told, and whatever one does to itself or to
 * its connections, the other's remaining ones go on.
 */
#include "fixture.h"
#include "tests.h"

#include "kernel/proto/credit.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	SERVER_PORT = 1000,
	CLIENT_PORT = 50,
	WINDOW = 256 << 10, /* what both guests promise, if nothing else is said, and what the daemon does */
	FEW = 32,	    /* receive buffers of 3776 bytes: less than half of a window */
};
#define ALL_FEATURES (FEATURES | VU_BIT(VSP_F_SEQPACKET))

static struct fix f[3];
static u8 stuff[1 << 20], got[1 << 20];

/* One end of a connection as its guest knows it. */
struct end {
	struct fix *me;
	u32 my_port;
	u32 cid; /* of the other */
	u32 port;
	u16 type;
	u32 window;
	u32 sent;
	u32 read;
	u32 peer_fwd;
	u32 peer_alloc;
};

static struct end end_of(struct fix *me, u32 my_port, struct fix *other, u32 port, u16 type)
{
	return (struct end){
		.me = me, .my_port = my_port, .cid = other->cid, .port = port, .type = type, .window = WINDOW
	};
}

static void begin(u32 ring, u32 buffer, const char *const *keys, const char *const *args)
{
	fix_fleet(f, 3, keys, args);
	for (u32 i = 0; i < 3; i++) {
		CHECK(!peer_open(&f[i].peer, f[i].socket, ring, buffer, false, ALL_FEATURES));
		CHECK(f[i].peer.f.guest_cid == f[i].cid);
	}
}

static void send_one(struct end *e, enum vsp_op op, u32 flags, const void *payload, u32 len)
{
	struct vsp_hdr hdr = {
		.src = { .cid = e->me->cid, .port = e->my_port },
		.dst = { .cid = e->cid, .port = e->port },
		.len = len,
		.type = e->type,
		.op = (u16)op,
		.flags = flags,
		.buf_alloc = e->window,
		.fwd_cnt = e->read,
	};

	CHECK(peer_send(&e->me->peer, hdr, payload, len, PEER_FRAGS));
	e->sent += len;
}

static u32 credit(const struct end *e)
{
	return e->peer_alloc - (e->sent - e->peer_fwd);
}

/* Is the packet one of this connection? */
static bool mine(const struct end *e, const struct vsp_hdr *hdr)
{
	return hdr->src.cid == e->cid && hdr->src.port == e->port && hdr->dst.cid == e->me->cid &&
	       hdr->dst.port == e->my_port && hdr->type == e->type;
}

/* The next packet for this end within @ms, others dropped. False: none came. */
static bool next_within(struct end *e, struct vsp_hdr *hdr, int ms)
{
	do {
		if (!peer_recv(&e->me->peer, hdr, e->me->buf, ms))
			return false;
	} while (!mine(e, hdr));
	e->peer_fwd = hdr->fwd_cnt;
	e->peer_alloc = hdr->buf_alloc;
	return true;
}

/* The next packet that is about more than credit. */
static struct vsp_hdr next(struct end *e)
{
	struct vsp_hdr hdr;

	do {
		CHECK(next_within(e, &hdr, PEER_WAIT_MS));
	} while (hdr.op == VSP_OP_CREDIT_UPDATE || hdr.op == VSP_OP_CREDIT_REQUEST);
	return hdr;
}

static struct vsp_hdr expect(struct end *e, enum vsp_op op)
{
	struct vsp_hdr hdr = next(e);

	if (hdr.op != op) {
		fprintf(stderr, "# guest %u: op %u instead of %d\n", e->me->cid, hdr.op, op);
		exit(1);
	}
	return hdr;
}

static void connect_ends(struct end *a, struct end *b)
{
	/* Nothing is on a ring yet, so the daemon's own window bounds what it promises. */
	send_one(a, VSP_OP_REQUEST, 0, NULL, 0);
	CHECK(expect(b, VSP_OP_REQUEST).buf_alloc == (a->window < WINDOW ? a->window : WINDOW));
	send_one(b, VSP_OP_RESPONSE, 0, NULL, 0);
	expect(a, VSP_OP_RESPONSE);
}

static void open_ends_at(struct end *a, struct end *b, u16 type, u32 port)
{
	*a = end_of(&f[0], port, &f[1], SERVER_PORT, type);
	*b = end_of(&f[1], SERVER_PORT, &f[0], port, type);
	connect_ends(a, b);
}

static void open_ends(struct end *a, struct end *b, u16 type)
{
	open_ends_at(a, b, type, CLIENT_PORT);
}

/* Take what is there within @ms; data is checked against the pattern. */
static bool take(struct end *e, u32 seed, int ms)
{
	struct vsp_hdr hdr;

	if (!next_within(e, &hdr, ms))
		return false;
	if (hdr.op == VSP_OP_RW) {
		for (u32 i = 0; i < hdr.len; i++)
			CHECK(e->me->buf[i] == fix_byte(e->read + i, seed));
		e->read += hdr.len;
	}
	if (hdr.op == VSP_OP_CREDIT_REQUEST || (hdr.op == VSP_OP_RW && e->read % WINDOW < hdr.len))
		send_one(e, VSP_OP_CREDIT_UPDATE, 0, NULL, 0);
	return true;
}

/* @total bytes of the pattern from one end to the other, in packets of @packet bytes. */
static void pump(struct end *from, struct end *to, u32 total, u32 packet, u32 seed)
{
	u32 first = from->sent, asked_at = from->sent - 1;

	while (from->sent - first < total) {
		u32 len = total - (from->sent - first);
		struct vsp_hdr hdr;

		len = len < packet ? len : packet;
		if (credit(from) < len) {
			/* A reader need not say what it has read before all of it. */
			if (asked_at != from->sent)
				send_one(from, VSP_OP_CREDIT_REQUEST, 0, NULL, 0);
			asked_at = from->sent;
			if (!take(to, seed, 0))
				next_within(from, &hdr, 1);
			continue;
		}
		for (u32 i = 0; i < len; i++)
			stuff[i] = fix_byte(from->sent + i, seed);
		send_one(from, VSP_OP_RW, 0, stuff, len);
		while (take(to, seed, 0))
			;
	}
	while (to->read != from->sent)
		CHECK(take(to, seed, PEER_WAIT_MS));
}

static void bytes_both_ways(void)
{
	static const struct {
		u32 ring, buffer, packet;
	} shape[] = {
		{ 128, 3776, 65536 }, { 128, 65580, 65536 }, { 128, 3776, 1000 }, { 2, 3776, 4000 }, { 1024, 244, 8192 }
	};
	struct end a, b;

	for (u32 i = 0; i < ARRAY_SIZE(shape); i++) {
		/* PEER_FRAGS needs a descriptor for the header and one for each page. */
		u32 ring = shape[i].ring;

		begin(ring, shape[i].buffer, NULL, NULL);
		open_ends(&a, &b, VSP_TYPE_STREAM);
		pump(&a, &b, 4 << 20, shape[i].packet, i);
		pump(&b, &a, 2 << 20, shape[i].packet, i + 100);
		send_one(&a, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_BOTH, NULL, 0);
		CHECK(expect(&b, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_BOTH);
		send_one(&b, VSP_OP_RST, 0, NULL, 0);
		expect(&a, VSP_OP_RST);
		fix_fleet_end(f, 3);
	}
}

/* A refusal is told at once, whatever the reason. */
static void refusals(void)
{
	static const char *const keys[] = { "groups=x+y", "groups=y+z", "groups=z" };
	struct end a, b;

	begin(128, 3776, keys, NULL);
	/* Nobody has this CID; nobody may reach that one; nobody reaches himself. */
	for (u32 i = 0; i < 3; i++) {
		a = end_of(&f[0], CLIENT_PORT, &f[1], SERVER_PORT, VSP_TYPE_STREAM);
		a.cid = i == 0 ? 99 : i == 1 ? f[2].cid : f[0].cid;
		send_one(&a, VSP_OP_REQUEST, 0, NULL, 0);
		expect(&a, VSP_OP_RST);
	}
	fix_reject(&f[0], "dst_cid", 3);
	/* Nobody listens. */
	a = end_of(&f[0], CLIENT_PORT, &f[1], SERVER_PORT, VSP_TYPE_STREAM);
	b = end_of(&f[1], SERVER_PORT, &f[0], CLIENT_PORT, VSP_TYPE_STREAM);
	send_one(&a, VSP_OP_REQUEST, 0, NULL, 0);
	expect(&b, VSP_OP_REQUEST);
	send_one(&b, VSP_OP_RST, 0, NULL, 0);
	expect(&a, VSP_OP_RST);
	/* A packet of no connection. */
	send_one(&a, VSP_OP_RW, 0, "x", 1);
	expect(&a, VSP_OP_RST);
	/* The one in the middle reaches both. */
	a = end_of(&f[2], 77, &f[1], SERVER_PORT, VSP_TYPE_STREAM);
	b = end_of(&f[1], SERVER_PORT, &f[2], 77, VSP_TYPE_STREAM);
	connect_ends(&a, &b);
	/* There is no guest. */
	peer_close(&f[1].peer);
	expect(&a, VSP_OP_RST);
	send_one(&a, VSP_OP_REQUEST, 0, NULL, 0);
	expect(&a, VSP_OP_RST);
	fix_fleet_end(f, 3);
}

/* What a server says right behind its answer belongs to the connection, and so does an end. */
static void server_speaks_at_once(void)
{
	struct end a, b;

	begin(128, 3776, NULL, NULL);
	for (u32 type = VSP_TYPE_STREAM; type <= VSP_TYPE_SEQPACKET; type++) {
		a = end_of(&f[0], CLIENT_PORT, &f[1], SERVER_PORT, (u16)type);
		b = end_of(&f[1], SERVER_PORT, &f[0], CLIENT_PORT, (u16)type);
		send_one(&a, VSP_OP_REQUEST, 0, NULL, 0);
		expect(&b, VSP_OP_REQUEST);
		fix_pause(&f[0]);
		send_one(&b, VSP_OP_RESPONSE, 0, NULL, 0);
		send_one(&b, VSP_OP_RW, VSP_SEQ_EOM, "hello", 5);
		send_one(&b, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_BOTH, NULL, 0);
		fix_resume(&f[0]);
		expect(&a, VSP_OP_RESPONSE);
		CHECK(expect(&a, VSP_OP_RW).len == 5 && !memcmp(f[0].buf, "hello", 5));
		CHECK(expect(&a, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_BOTH);
		send_one(&a, VSP_OP_RST, 0, NULL, 0);
		expect(&b, VSP_OP_RST);
	}
	fix_fleet_end(f, 3);
}

/* A guest that does not answer in time, and one that does not wait. */
static void no_answer(void)
{
	static const char *const keys[] = { NULL, "connect-timeout=50", NULL };
	struct end a, b;

	begin(128, 3776, keys, NULL);
	a = end_of(&f[0], CLIENT_PORT, &f[1], SERVER_PORT, VSP_TYPE_STREAM);
	b = end_of(&f[1], SERVER_PORT, &f[0], CLIENT_PORT, VSP_TYPE_STREAM);
	send_one(&a, VSP_OP_REQUEST, 0, NULL, 0);
	expect(&b, VSP_OP_REQUEST);
	expect(&a, VSP_OP_RST);
	expect(&b, VSP_OP_RST);
	send_one(&a, VSP_OP_REQUEST, 0, NULL, 0);
	expect(&b, VSP_OP_REQUEST);
	send_one(&a, VSP_OP_RST, 0, NULL, 0);
	expect(&b, VSP_OP_RST);
	fix_fleet_end(f, 3);
}

static void half_closes(void)
{
	struct end a, b;

	begin(128, 3776, NULL, NULL);
	open_ends(&a, &b, VSP_TYPE_STREAM);
	pump(&a, &b, 100000, 5000, 1);
	send_one(&a, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_SEND, NULL, 0);
	CHECK(expect(&b, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_SEND);
	pump(&b, &a, 100000, 5000, 2);
	send_one(&b, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_SEND, NULL, 0);
	CHECK(expect(&a, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_SEND);
	send_one(&b, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_BOTH, NULL, 0);
	expect(&b, VSP_OP_RST);
	CHECK(expect(&a, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_BOTH);
	send_one(&a, VSP_OP_RST, 0, NULL, 0);
	/* One that only reads no more. */
	open_ends(&a, &b, VSP_TYPE_STREAM);
	send_one(&b, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_RCV, NULL, 0);
	CHECK(expect(&a, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_RCV);
	pump(&b, &a, 100000, 5000, 3);
	fix_fleet_end(f, 3);
}

static void abrupt_ends(void)
{
	struct end a, b;

	begin(128, 3776, NULL, NULL);
	open_ends(&a, &b, VSP_TYPE_STREAM);
	send_one(&b, VSP_OP_RST, 0, NULL, 0);
	expect(&a, VSP_OP_RST);
	open_ends(&a, &b, VSP_TYPE_STREAM);
	send_one(&a, VSP_OP_RST, 0, NULL, 0);
	expect(&b, VSP_OP_RST);
	/* A guest that goes away, and one that comes back. */
	open_ends(&a, &b, VSP_TYPE_STREAM);
	peer_close(&f[0].peer);
	expect(&b, VSP_OP_RST);
	CHECK(!peer_open(&f[0].peer, f[0].socket, 128, 3776, false, ALL_FEATURES));
	open_ends(&a, &b, VSP_TYPE_STREAM);
	pump(&a, &b, 100000, 5000, 1);
	fix_fleet_end(f, 3);
}

/* Send @total bytes, more than the other guest has buffers for, which it does not look at. */
static void stuff_full(struct end *from, u32 total)
{
	struct vsp_hdr hdr;

	while (from->sent < total) {
		if (credit(from) >= 4096) {
			for (u32 i = 0; i < 4096; i++)
				stuff[i] = fix_byte(from->sent + i, 9);
			send_one(from, VSP_OP_RW, 0, stuff, 4096);
		} else {
			CHECK(next_within(from, &hdr, PEER_WAIT_MS));
		}
	}
}

/* What was accepted before an orderly end arrives, and then the end. */
static void last_bytes(void)
{
	struct vsp_hdr hdr;
	struct end a, b;

	begin(FEW, 3776, NULL, NULL);
	for (u32 close = 0; close < 2; close++) {
		open_ends(&a, &b, VSP_TYPE_STREAM);
		stuff_full(&a, WINDOW);
		send_one(&a, VSP_OP_SHUTDOWN, close ? VSP_SHUTDOWN_BOTH : VSP_SHUTDOWN_SEND, NULL, 0);
		while (b.read < WINDOW)
			CHECK(take(&b, 9, PEER_WAIT_MS));
		CHECK(b.read == WINDOW);
		hdr = expect(&b, VSP_OP_SHUTDOWN);
		CHECK(hdr.flags == (close ? VSP_SHUTDOWN_BOTH : VSP_SHUTDOWN_SEND));
		send_one(&b, close ? VSP_OP_RST : VSP_OP_SHUTDOWN, VSP_SHUTDOWN_BOTH, NULL, 0);
		hdr = next(&a);
		CHECK(hdr.op == (close ? VSP_OP_RST : VSP_OP_SHUTDOWN));
		if (close)
			continue;
		send_one(&a, VSP_OP_RST, 0, NULL, 0);
		expect(&b, VSP_OP_RST);
	}
	fix_fleet_end(f, 3);
}

/* A closed connection whose other end never reads the rest does not wait for ever. */
static void linger_ends(void)
{
	static const char *const keys[] = { "linger-timeout=50", NULL, NULL };
	struct end a, b;

	begin(FEW, 3776, keys, NULL);
	open_ends(&a, &b, VSP_TYPE_STREAM);
	stuff_full(&a, WINDOW);
	send_one(&a, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_BOTH, NULL, 0);
	/* It does not wait for an answer either. */
	send_one(&a, VSP_OP_RST, 0, NULL, 0);
	while (next(&b).op != VSP_OP_RST)
		;
	fix_fleet_end(f, 3);
}

/* A connection between @x and @y, and one of @x with the host, work. */
static void works(struct fix *x, struct fix *y, u32 port)
{
	struct end a = end_of(x, port, y, SERVER_PORT, VSP_TYPE_STREAM);
	struct end b = end_of(y, SERVER_PORT, x, port, VSP_TYPE_STREAM);
	struct vsp_hdr hdr = fix_hdr(2000 + port, port, VSP_OP_REQUEST);
	int l = fix_listener(x, 2000 + port), fd;

	connect_ends(&a, &b);
	pump(&a, &b, 300000, 10000, port);
	pump(&b, &a, 300000, 10000, port + 1);
	hdr.src.cid = x->cid;
	fix_send(x, hdr);
	fd = accept(l, NULL, NULL);
	CHECK(fd >= 0 && fix_expect(x, VSP_OP_RESPONSE).src.cid == VSP_CID_HOST);
	close(fd);
	close(l);
	CHECK(fix_expect(x, VSP_OP_SHUTDOWN).dst.port == port);
	hdr.op = VSP_OP_RST;
	fix_send(x, hdr);
}

/* A guest that never takes anything, whatever it promises: it costs a window, and nothing of anybody else. */
static void deaf_guest(void)
{
	u64 before;
	struct end a, b;

	begin(FEW, 3776, NULL, NULL);
	a = end_of(&f[0], CLIENT_PORT, &f[1], SERVER_PORT, VSP_TYPE_STREAM);
	b = end_of(&f[1], SERVER_PORT, &f[0], CLIENT_PORT, VSP_TYPE_STREAM);
	b.window = VSP_WINDOW_MAX;
	connect_ends(&a, &b);
	before = fix_status(&f[0], "RssAnon");
	stuff_full(&a, WINDOW + FEW * 1024);
	CHECK(credit(&a) <= FEW * 3776);
	/* Not one buffer, nor any credit; but whatever the sender has beside it goes on. */
	works(&f[0], &f[2], 60);
	works(&f[2], &f[0], 61);
	CHECK(fix_status(&f[0], "RssAnon") - before < 4 * WINDOW / 1024 + FIX_SANITIZER_KIB);
	fix_fleet_end(f, 3);
}

/* What the daemon tells @e when it is asked: bytes that the other end has read. */
static u32 told_read(struct end *e)
{
	struct vsp_hdr hdr;

	send_one(e, VSP_OP_CREDIT_REQUEST, 0, NULL, 0);
	do {
		CHECK(next_within(e, &hdr, PEER_WAIT_MS));
	} while (hdr.op != VSP_OP_CREDIT_UPDATE);
	return hdr.fwd_cnt;
}

/* Bytes count as read when the other guest has read them, and not before. */
static void credit_of_the_reader(void)
{
	struct vsp_hdr hdr;
	struct end a, b;

	begin(128, 3776, NULL, NULL);
	a = end_of(&f[0], CLIENT_PORT, &f[1], SERVER_PORT, VSP_TYPE_STREAM);
	b = end_of(&f[1], SERVER_PORT, &f[0], CLIENT_PORT, VSP_TYPE_STREAM);
	b.window = 100000;
	connect_ends(&a, &b);
	CHECK(a.peer_alloc == 100000);
	stuff_full(&a, 98304);
	CHECK(told_read(&a) == 0 && a.peer_alloc == 100000);
	while (b.read < 98304)
		CHECK(take(&b, 9, PEER_WAIT_MS));
	b.window = 50000;
	send_one(&b, VSP_OP_CREDIT_UPDATE, 0, NULL, 0);
	do {
		CHECK(next_within(&a, &hdr, PEER_WAIT_MS));
	} while (hdr.fwd_cnt != 98304);
	CHECK(hdr.buf_alloc == 50000 && told_read(&a) == 98304);
	fix_fleet_end(f, 3);
}

/*
 * A reader with a larger window than the sender's need not say anything when it has read all that the sender keeps
 * underway: it is asked until it has.
 */
static void reader_is_asked(void)
{
	enum { OWN = 65536, ASKED = 4 };
	struct vsp_hdr hdr;
	struct end a, b;
	u32 bytes = 0;

	begin(128, 3776, NULL, NULL);
	a = end_of(&f[0], CLIENT_PORT, &f[1], SERVER_PORT, VSP_TYPE_STREAM);
	b = end_of(&f[1], SERVER_PORT, &f[0], CLIENT_PORT, VSP_TYPE_STREAM);
	a.window = OWN;
	b.window = 1 << 20;
	connect_ends(&a, &b);
	stuff_full(&a, OWN);
	for (u32 asked = 0; asked < ASKED;) {
		CHECK(next_within(&b, &hdr, PEER_WAIT_MS));
		bytes += hdr.len;
		if (hdr.op != VSP_OP_CREDIT_REQUEST)
			continue;
		asked++;
		send_one(&b, VSP_OP_CREDIT_UPDATE, 0, NULL, 0);
	}
	CHECK(bytes == OWN);
	b.read = OWN;
	send_one(&b, VSP_OP_CREDIT_UPDATE, 0, NULL, 0);
	do {
		CHECK(next_within(&a, &hdr, PEER_WAIT_MS));
	} while (hdr.fwd_cnt != OWN);
	fix_fleet_end(f, 3);
}

/* A guest that has given its last receive buffer away. */
static void no_buffers(void)
{
	struct end a, b;
	u32 sent = 0;

	begin(128, 65580, NULL, NULL);
	open_ends(&a, &b, VSP_TYPE_STREAM);
	/* 128 packets in 128 buffers, which do not come back as long as nobody looks. */
	while (sent++ < 400) {
		struct vsp_hdr hdr;

		if (credit(&a) < 100) {
			CHECK(next_within(&a, &hdr, PEER_WAIT_MS));
			continue;
		}
		for (u32 i = 0; i < 100; i++)
			stuff[i] = fix_byte(a.sent + i, 5);
		send_one(&a, VSP_OP_RW, 0, stuff, 100);
	}
	works(&f[0], &f[2], 60);
	while (b.read < a.sent)
		CHECK(take(&b, 5, PEER_WAIT_MS));
	fix_fleet_end(f, 3);
}

/* Whoever lies about credit loses that connection, and the other end is told. */
static void liars(void)
{
	struct vsp_hdr hdr;
	struct end a, b;

	begin(128, 3776, NULL, NULL);
	/* Acknowledges what it never got. */
	open_ends(&a, &b, VSP_TYPE_STREAM);
	b.read = 1000000;
	send_one(&b, VSP_OP_CREDIT_UPDATE, 0, NULL, 0);
	expect(&b, VSP_OP_RST);
	expect(&a, VSP_OP_RST);
	fix_reject(&f[1], "fwd_cnt", 1);
	/* Sends what it may not. Nobody reads, so that more cannot be promised meanwhile. */
	open_ends_at(&a, &b, VSP_TYPE_STREAM, CLIENT_PORT + 1);
	memset(stuff, 0, 65536);
	do {
		send_one(&a, VSP_OP_RW, 0, stuff, 65536);
	} while (!next_within(&a, &hdr, 0) || hdr.op != VSP_OP_RST);
	do {
		hdr = next(&b);
	} while (hdr.op == VSP_OP_RW);
	CHECK(hdr.op == VSP_OP_RST);
	fix_reject(&f[0], "credit", 1);
	works(&f[0], &f[2], 60);
	works(&f[1], &f[2], 61);
	fix_fleet_end(f, 3);
}

/* Other guests leave a guest half of its connections. */
static void half_for_siblings(void)
{
	static const char *const keys[] = { "max-connections=64", "max-connections=8", NULL };
	struct end a[5], b;
	int fd;

	begin(128, 3776, keys, NULL);
	for (u32 i = 0; i < 5; i++) {
		a[i] = end_of(&f[0], 100 + i, &f[1], SERVER_PORT, VSP_TYPE_STREAM);
		b = end_of(&f[1], SERVER_PORT, &f[0], 100 + i, VSP_TYPE_STREAM);
		if (i < 4)
			connect_ends(&a[i], &b);
	}
	send_one(&a[4], VSP_OP_REQUEST, 0, NULL, 0);
	expect(&a[4], VSP_OP_RST);
	fix_reject(&f[1], "backlog", 1);
	fd = fix_dial(&f[1], 9);
	CHECK(fix_expect(&f[1], VSP_OP_REQUEST).dst.port == 9);
	close(fd);
	/* They come back when they are free. */
	fix_expect(&f[1], VSP_OP_RST);
	send_one(&a[0], VSP_OP_RST, 0, NULL, 0);
	b = end_of(&f[1], SERVER_PORT, &f[0], 100, VSP_TYPE_STREAM);
	expect(&b, VSP_OP_RST);
	b = end_of(&f[1], SERVER_PORT, &f[0], 104, VSP_TYPE_STREAM);
	connect_ends(&a[4], &b);
	fix_fleet_end(f, 3);
}

/* Is a connection of @x to this port of @y refused by the lists? One that is not, nobody answers. */
static void denied(struct fix *x, struct fix *y, u32 port, bool is)
{
	struct end a = end_of(x, CLIENT_PORT, y, port, VSP_TYPE_STREAM);
	struct end b = end_of(y, port, x, CLIENT_PORT, VSP_TYPE_STREAM);

	send_one(&a, VSP_OP_REQUEST, 0, NULL, 0);
	if (!is) {
		expect(&b, VSP_OP_REQUEST);
		send_one(&b, VSP_OP_RST, 0, NULL, 0);
	}
	expect(&a, VSP_OP_RST);
}

static void lists_of_ports(void)
{
	static const char *const keys[] = { "allow-from-guest=1000-1010,deny-from-guest=1005",
					    "allow_to_guest=1005+1008+7,deny-to-guest=1008", NULL };
	struct vsp_hdr hdr;
	char c;
	int l;

	begin(128, 3776, keys, NULL);
	denied(&f[0], &f[2], 1000, false);
	denied(&f[0], &f[2], 1010, false);
	denied(&f[0], &f[2], 1005, true);
	denied(&f[0], &f[2], 999, true);
	denied(&f[2], &f[1], 1005, false);
	denied(&f[2], &f[1], 1008, true);
	denied(&f[2], &f[1], 1006, true);
	/* The host's ports, and clients. */
	l = fix_listener(&f[0], 1005);
	hdr = fix_hdr(1005, 50, VSP_OP_REQUEST);
	fix_send(&f[0], hdr);
	fix_expect(&f[0], VSP_OP_RST);
	close(l);
	CHECK(recv(fix_dial(&f[1], 8), &c, 1, 0) == 0);
	CHECK(fix_dial(&f[1], 7) >= 0);
	CHECK(fix_expect(&f[1], VSP_OP_REQUEST).dst.port == 7);
	fix_reject(&f[0], "denied", 3);
	fix_fleet_end(f, 3);
}

/* A front-end that takes its memory away in the middle of a transfer, as the one that sends or the one that reads. */
static void memory_taken_away(void)
{
	struct vsp_hdr hdr;
	struct end a, b;

	for (u32 who = 0; who < 2; who++) {
		begin(128, 3776, NULL, NULL);
		open_ends(&a, &b, VSP_TYPE_STREAM);
		pump(&a, &b, 100000, 10000, 1);
		CHECK(!ftruncate(f[who].peer.f.memfd, VU_FRONT_RING_BYTES * 3));
		if (who) {
			send_one(&a, VSP_OP_RW, 0, stuff, 10000);
			hdr = next(&a);
		} else {
			const u64 one = 1;

			vu_drv_add(&f[0].peer.f.drv[1], &(struct vu_seg){ .gpa = vu_front_gpa(5 << 20), .len = 4096 },
				   1);
			vu_drv_publish(&f[0].peer.f.drv[1]);
			CHECK(write(f[0].peer.f.drv[1].kick_fd, &one, sizeof(one)) == sizeof(one));
			hdr = next(&b);
		}
		CHECK(hdr.op == VSP_OP_RST);
		works(&f[2], &f[!who], 60);
		fix_fleet_end(f, 3);
	}
}

/* Bytes sent one by one arrive all, whether the other end says anything or not. */
static void bytes_one_by_one(void)
{
	enum { ROUNDS = 300, BYTES = 127 };
	struct end a, b;

	begin(128, 3776, NULL, NULL);
	for (u32 round = 0; round < ROUNDS; round++) {
		open_ends_at(&a, &b, VSP_TYPE_STREAM, CLIENT_PORT + round);
		for (u32 i = 0; i < BYTES; i++) {
			stuff[0] = fix_byte(a.sent, round);
			send_one(&a, VSP_OP_RW, 0, stuff, 1);
		}
		while (b.read < BYTES) {
			if (!take(&b, round, PEER_WAIT_MS)) {
				fprintf(stderr, "# round %u: %u bytes of %d\n", round, b.read, BYTES);
				exit(1);
			}
		}
		send_one(&a, VSP_OP_RST, 0, NULL, 0);
		expect(&b, VSP_OP_RST);
	}
	fix_fleet_end(f, 3);
}

/* A message from one end, its fragments of at most @packet bytes. */
static void send_message(struct end *e, const u8 *bytes, u32 len, u32 packet, bool eor)
{
	u32 done = 0;

	do {
		u32 n = len - done < packet ? len - done : packet;
		u32 last = done + n == len ? VSP_SEQ_EOM | (eor ? VSP_SEQ_EOR : 0) : 0;
		struct vsp_hdr hdr;

		while (credit(e) < n)
			CHECK(next_within(e, &hdr, PEER_WAIT_MS));
		send_one(e, VSP_OP_RW, last, bytes + done, n);
		done += n;
	} while (done < len);
}

/* The next message at the other end, into @got. Returns its length. */
static u32 recv_message(struct end *e, bool *eor)
{
	struct vsp_hdr hdr;
	u32 len = 0;

	do {
		CHECK(next_within(e, &hdr, PEER_WAIT_MS));
		if (hdr.op == VSP_OP_CREDIT_REQUEST)
			send_one(e, VSP_OP_CREDIT_UPDATE, 0, NULL, 0);
		if (hdr.op != VSP_OP_RW)
			continue;
		memcpy(got + len, e->me->buf, hdr.len);
		len += hdr.len;
		e->read += hdr.len;
	} while (hdr.op != VSP_OP_RW || !(hdr.flags & VSP_SEQ_EOM));
	*eor = hdr.flags & VSP_SEQ_EOR;
	send_one(e, VSP_OP_CREDIT_UPDATE, 0, NULL, 0);
	return len;
}

static void messages(void)
{
	static const u32 sizes[] = { 1, 0, 3732, 3733, 65536, 200000, 0, 5, 131072 };
	struct end a, b;
	bool eor;

	begin(128, 3776, NULL, NULL);
	open_ends(&a, &b, VSP_TYPE_SEQPACKET);
	for (u32 i = 0; i < 4 * ARRAY_SIZE(sizes); i++) {
		u32 len = sizes[i % ARRAY_SIZE(sizes)];

		for (u32 k = 0; k < len; k++)
			stuff[k] = fix_byte(k, i);
		send_message(&a, stuff, len, i % 2 ? 65536 : 5000, i % 3 == 0);
		CHECK(recv_message(&b, &eor) == len && eor == (i % 3 == 0));
		CHECK(!memcmp(got, stuff, len));
	}
	/* Many at a time, of which some have to wait. */
	for (u32 i = 0; i < 200; i++) {
		memset(stuff, (int)i, 1000);
		send_message(&a, stuff, i * 5, 300, i % 2);
	}
	for (u32 i = 0; i < 200; i++) {
		CHECK(recv_message(&b, &eor) == i * 5 && eor == i % 2);
		for (u32 k = 0; k < i * 5; k++)
			CHECK(got[k] == (u8)i);
	}
	send_one(&a, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_BOTH, NULL, 0);
	CHECK(expect(&b, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_BOTH);
	fix_fleet_end(f, 3);
}

/* A message that the other guest's window can never hold, or of which the end never comes. */
static void messages_that_cannot_be(void)
{
	static const char *const keys[] = { "tx-buffer-size=1048576", NULL, NULL };
	struct end a, b;

	begin(128, 3776, keys, NULL);
	open_ends(&a, &b, VSP_TYPE_SEQPACKET);
	send_message(&a, stuff, WINDOW + 1, 65536, false);
	expect(&a, VSP_OP_RST);
	expect(&b, VSP_OP_RST);
	fix_reject(&f[1], "messages_too_big", 1);
	open_ends(&a, &b, VSP_TYPE_SEQPACKET);
	send_one(&a, VSP_OP_RW, 0, stuff, 100);
	send_one(&a, VSP_OP_SHUTDOWN, VSP_SHUTDOWN_BOTH, NULL, 0);
	expect(&a, VSP_OP_RST);
	expect(&b, VSP_OP_RST);
	fix_fleet_end(f, 3);
}

const struct test siblings_tests[] = {
	{ "siblings: bytes both ways", bytes_both_ways },
	{ "siblings: bytes one by one", bytes_one_by_one },
	{ "siblings: refusals", refusals },
	{ "siblings: a server that speaks at once", server_speaks_at_once },
	{ "siblings: no answer", no_answer },
	{ "siblings: half-closes", half_closes },
	{ "siblings: abrupt ends", abrupt_ends },
	{ "siblings: the last bytes before an end", last_bytes },
	{ "siblings: an end that nobody waits for", linger_ends },
	{ "siblings: a guest that takes nothing", deaf_guest },
	{ "siblings: a guest without buffers", no_buffers },
	{ "siblings: credit is the reader's", credit_of_the_reader },
	{ "siblings: a reader that says nothing is asked", reader_is_asked },
	{ "siblings: guests that lie about credit", liars },
	{ "siblings: half of the connections", half_for_siblings },
	{ "siblings: lists of ports", lists_of_ports },
	{ "siblings: guests that take their memory away", memory_taken_away },
	{ "siblings: messages keep their boundaries", messages },
	{ "siblings: messages that cannot be", messages_that_cannot_be },
	{ 0 },
};
