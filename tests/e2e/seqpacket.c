// SPDX-License-Identifier: BSD-2-Clause
/* Messages arrive whole, one by one, or the connection ends. */
#include "fixture.h"
#include "tests.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	LARGEST = 200000,
	GUEST_PORT = 1024,
	HOST_PORT = 1000,
};

static void begin(struct fix *f, const char *const *args, u64 features)
{
	fix_daemon(f, args);
	CHECK(!peer_open(&f->peer, f->socket, 128, 3776, false, features));
}

#define SEQ_FEATURES (FEATURES | VU_BIT(VSP_F_SEQPACKET))

static struct vsp_hdr seq_hdr(u32 host_port, u32 guest_port, enum vsp_op op)
{
	struct vsp_hdr hdr = fix_hdr(host_port, guest_port, op);

	hdr.type = VSP_TYPE_SEQPACKET;
	return hdr;
}

static struct sockaddr_un address(const char *uds, const char *suffix)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_%s", uds, suffix);
	return sa;
}

static int seq_dial(struct fix *f, const char *command)
{
	struct sockaddr_un sa = address(f->uds, "seqpacket");
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && !connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	fix_write(fd, command, strlen(command));
	return fd;
}

static int seq_listener(struct fix *f, const char *port)
{
	struct sockaddr_un sa = address(f->uds, port);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof(sa)) && !listen(fd, 16));
	return fd;
}

/* A connection from a host client; the host's end, and its port. */
static int seq_client(struct fix *f, u32 buf_alloc, u32 *port)
{
	int fd = seq_dial(f, "CONNECT 1024\n");
	struct vsp_hdr hdr = fix_expect(f, VSP_OP_REQUEST);
	char line[64] = "", want[64];

	CHECK(hdr.type == VSP_TYPE_SEQPACKET && hdr.dst.port == GUEST_PORT);
	*port = hdr.src.port;
	hdr = seq_hdr(*port, GUEST_PORT, VSP_OP_RESPONSE);
	hdr.buf_alloc = buf_alloc;
	fix_send(f, hdr);
	snprintf(want, sizeof(want), "OK %u\n", *port);
	CHECK(recv(fd, line, sizeof(line), 0) == (ssize_t)strlen(want) && !strcmp(line, want));
	return fd;
}

/* A connection from the guest to a listener of the host. */
static int seq_open(struct fix *f, int listener)
{
	int fd;

	fix_send(f, seq_hdr(HOST_PORT, GUEST_PORT, VSP_OP_REQUEST));
	fd = accept(listener, NULL, NULL);
	CHECK(fd >= 0 && fix_expect(f, VSP_OP_RESPONSE).type == VSP_TYPE_SEQPACKET);
	return fd;
}

static void fill(u8 *buf, u32 len, u32 seed)
{
	for (u32 i = 0; i < len; i++)
		buf[i] = fix_byte(i, seed);
}

/* The guest takes a message of @len bytes, and says so. */
static void guest_takes(struct fix *f, u32 port, u32 len, u32 seed, u32 *taken)
{
	struct vsp_hdr hdr;
	u32 got = 0;

	do {
		hdr = fix_expect(f, VSP_OP_RW);
		for (u32 i = 0; i < hdr.len; i++)
			CHECK(f->buf[i] == fix_byte(got + i, seed));
		got += hdr.len;
		CHECK(got <= len && hdr.flags == (got == len ? VSP_SEQ_EOM : 0));
	} while (!hdr.flags);
	*taken += len;
	hdr = seq_hdr(port, GUEST_PORT, VSP_OP_CREDIT_UPDATE);
	hdr.fwd_cnt = *taken;
	fix_send(f, hdr);
}

/* What the guest may send: as its peer said last. */
struct window {
	u32 sent;
	u32 fwd_cnt;
	u32 buf_alloc;
};

/*
 * The guest sends a message in packets of at most @cut bytes, and of what it has credit for: a message may begin with
 * less than it needs.
 */
static void guest_sends_within(struct fix *f, struct window *w, const u8 *buf, u32 len, u32 cut)
{
	u32 at = 0;

	do {
		struct vsp_hdr hdr = seq_hdr(HOST_PORT, GUEST_PORT, VSP_OP_RW), news;
		u32 room = w->buf_alloc - (w->sent - w->fwd_cnt);

		if (len && !room) {
			CHECK(peer_recv(&f->peer, &news, NULL, PEER_WAIT_MS) && news.op == VSP_OP_CREDIT_UPDATE);
			w->fwd_cnt = news.fwd_cnt;
			continue;
		}
		hdr.len = len - at < cut ? len - at : cut;
		hdr.len = hdr.len < room ? hdr.len : room;
		hdr.flags = at + hdr.len == len ? VSP_SEQ_EOM : 0;
		CHECK(peer_send(&f->peer, hdr, buf + at, hdr.len, PEER_TWO));
		at += hdr.len;
		w->sent += hdr.len;
	} while (at < len);
}

/* The same whatever the window. */
static void guest_sends(struct fix *f, u32 port, const u8 *buf, u32 len, u32 cut)
{
	u32 at = 0;

	do {
		struct vsp_hdr hdr = seq_hdr(port, GUEST_PORT, VSP_OP_RW);

		hdr.len = len - at < cut ? len - at : cut;
		hdr.flags = at + hdr.len == len ? VSP_SEQ_EOM : 0;
		CHECK(peer_send(&f->peer, hdr, buf + at, hdr.len, PEER_TWO));
		at += hdr.len;
	} while (at < len);
}

static const u32 sizes[] = { 1, 0, 3732, 3733, 0, 0, 65536, 65537, 100000, LARGEST, 7, 0, 5 };

static void boundaries_to_guest(void)
{
	static u8 buf[LARGEST];
	static struct fix f;
	u32 port, taken = 0;
	int fd;

	begin(&f, NULL, SEQ_FEATURES);
	fd = seq_client(&f, 256 << 10, &port);
	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(buf, sizes[i], i);
		CHECK(send(fd, buf, sizes[i], 0) == (ssize_t)sizes[i]);
		/* Two at a time, where they fit. */
		if (sizes[i] < 100 && i % 2 == 0)
			continue;
		for (u32 k = i && sizes[i - 1] < 100 && (i - 1) % 2 == 0 ? i - 1 : i; k <= i; k++)
			guest_takes(&f, port, sizes[k], k, &taken);
	}
	guest_takes(&f, port, 5, ARRAY_SIZE(sizes) - 1, &taken);
	/* Empty ones before the end are not the end. */
	CHECK(send(fd, buf, 0, 0) == 0 && send(fd, buf, 0, 0) == 0);
	shutdown(fd, SHUT_WR);
	guest_takes(&f, port, 0, 0, &taken);
	guest_takes(&f, port, 0, 0, &taken);
	CHECK(fix_expect(&f, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_SEND);
	fix_end(&f);
}

static void boundaries_from_guest(void)
{
	static u8 buf[LARGEST], got[LARGEST + 1];
	static struct fix f;
	struct window w = { .buf_alloc = 256 << 10 };
	int fd;

	begin(&f, NULL, SEQ_FEATURES);
	fd = seq_open(&f, seq_listener(&f, "1000"));
	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		fill(buf, sizes[i], i);
		guest_sends_within(&f, &w, buf, sizes[i], i % 2 ? 4096 : 65536);
		CHECK(recv(fd, got, sizeof(got), 0) == (ssize_t)sizes[i] && !memcmp(got, buf, sizes[i]));
	}
	fix_end(&f);
}

/* What a full socket did not take keeps its boundaries. */
static void slow_reader(void)
{
	enum { MESSAGES = 1500 };
	static u8 buf[1000], got[1001];
	static struct fix f;
	int fd;

	begin(&f, NULL, SEQ_FEATURES);
	fd = seq_open(&f, seq_listener(&f, "1000"));
	for (u32 i = 0; i < MESSAGES; i++) {
		fill(buf, i % 300, i);
		guest_sends(&f, HOST_PORT, buf, i % 300, 100);
	}
	for (u32 i = 0; i < MESSAGES; i++) {
		fill(buf, i % 300, i);
		CHECK(recv(fd, got, sizeof(got), 0) == (ssize_t)(i % 300) && !memcmp(got, buf, i % 300));
	}
	fix_end(&f);
}

/* A message does not begin before the guest has credit for all of it. */
static void all_or_nothing(void)
{
	static u8 buf[8000];
	static struct fix f;
	struct vsp_hdr hdr;
	u32 port, taken = 0;
	int fd;

	begin(&f, NULL, SEQ_FEATURES);
	fd = seq_client(&f, 8000, &port);
	fill(buf, 5000, 1);
	CHECK(send(fd, buf, 5000, 0) == 5000 && send(fd, buf, 5000, 0) == 5000);
	do {
		CHECK(peer_recv(&f.peer, &hdr, f.buf, PEER_WAIT_MS) && hdr.op == VSP_OP_RW);
		taken += hdr.len;
	} while (!hdr.flags);
	CHECK(taken == 5000);
	do {
		CHECK(peer_recv(&f.peer, &hdr, f.buf, PEER_WAIT_MS) && hdr.op != VSP_OP_RW);
	} while (hdr.op != VSP_OP_CREDIT_REQUEST);
	/* It is asked again and again, but gets nothing. */
	for (u32 asked = 0; asked < 3; asked++)
		CHECK(peer_recv(&f.peer, &hdr, f.buf, PEER_WAIT_MS) && hdr.op == VSP_OP_CREDIT_REQUEST);
	hdr = seq_hdr(port, GUEST_PORT, VSP_OP_CREDIT_UPDATE);
	hdr.fwd_cnt = 5000;
	hdr.buf_alloc = 8000;
	fix_send(&f, hdr);
	guest_takes(&f, port, 5000, 1, &taken);
	fix_end(&f);
}

static void too_big_for_the_socket(void)
{
	static const char *const args[] = { "--tx-buffer-size", "4194304", NULL };
	static u8 buf[3 << 20];
	static struct fix f;
	int fd;
	char c;

	begin(&f, args, SEQ_FEATURES);
	fd = seq_open(&f, seq_listener(&f, "1000"));
	guest_sends(&f, HOST_PORT, buf, sizeof(buf), 65536);
	fix_expect(&f, VSP_OP_RST);
	CHECK(recv(fd, &c, 1, 0) <= 0);
	fix_reject(&f, "messages_too_big", 1);
	fix_end(&f);
}

static void too_big_for_the_guest(void)
{
	static u8 buf[5000];
	static struct fix f;
	u32 port;
	int fd;

	begin(&f, NULL, SEQ_FEATURES);
	fd = seq_client(&f, 4096, &port);
	CHECK(send(fd, buf, sizeof(buf), 0) == sizeof(buf));
	fix_expect(&f, VSP_OP_RST);
	fix_reject(&f, "messages_too_big", 1);
	fix_end(&f);
}

/* Empty messages use no credit; how many may wait is limited all the same. */
static void flood_of_empty_messages(void)
{
	static struct fix f;
	struct vsp_hdr hdr = { .op = VSP_OP_RESPONSE };
	u64 before;

	begin(&f, NULL, SEQ_FEATURES);
	seq_open(&f, seq_listener(&f, "1000"));
	before = fix_status(&f, "RssAnon");
	for (u32 i = 0; i < 20000 && hdr.op != VSP_OP_RST; i++) {
		guest_sends(&f, HOST_PORT, NULL, 0, 1);
		peer_recv(&f.peer, &hdr, NULL, 0);
	}
	CHECK(hdr.op == VSP_OP_RST);
	fix_reject(&f, "records", 1);
	CHECK(fix_status(&f, "RssAnon") - before < 1024 + FIX_SANITIZER_KIB);
	fix_end(&f);
}

static void end_in_the_middle(void)
{
	static struct fix f;
	struct vsp_hdr hdr;

	begin(&f, NULL, SEQ_FEATURES);
	seq_open(&f, seq_listener(&f, "1000"));
	hdr = seq_hdr(HOST_PORT, GUEST_PORT, VSP_OP_RW);
	hdr.len = 10;
	fix_send(&f, hdr);
	hdr = seq_hdr(HOST_PORT, GUEST_PORT, VSP_OP_SHUTDOWN);
	hdr.flags = VSP_SHUTDOWN_SEND;
	fix_send(&f, hdr);
	fix_expect(&f, VSP_OP_RST);
	fix_end(&f);
}

static void types_do_not_mix(void)
{
	static struct fix f;
	char c;

	begin(&f, NULL, SEQ_FEATURES);
	fix_listener(&f, HOST_PORT);
	fix_send(&f, seq_hdr(HOST_PORT, GUEST_PORT, VSP_OP_REQUEST));
	CHECK(fix_expect(&f, VSP_OP_RST).type == VSP_TYPE_SEQPACKET);
	seq_listener(&f, "1001");
	fix_send(&f, fix_hdr(1001, GUEST_PORT, VSP_OP_REQUEST));
	CHECK(fix_expect(&f, VSP_OP_RST).type == VSP_TYPE_STREAM);
	CHECK(recv(seq_dial(&f, "CONNECT 1024\nmore"), &c, 1, 0) <= 0);
	CHECK(recv(seq_dial(&f, "CONNECT"), &c, 1, 0) <= 0);
	fix_end(&f);
}

static void not_negotiated(void)
{
	static struct fix f;
	char c;

	begin(&f, NULL, FEATURES);
	CHECK(recv(seq_dial(&f, "CONNECT 1024\n"), &c, 1, 0) <= 0);
	fix_send(&f, seq_hdr(HOST_PORT, GUEST_PORT, VSP_OP_REQUEST));
	fix_expect(&f, VSP_OP_RST);
	fix_reject(&f, "type", 1);
	fix_end(&f);
}

/* virtio 1.4 5.10.3: what each set of features means for streams and for messages. */
static void features_decide_the_types(void)
{
	enum { STREAM = VU_BIT(VSP_F_STREAM), SEQ = VU_BIT(VSP_F_SEQPACKET), NO = VU_BIT(VSP_F_NO_IMPLIED_STREAM) };
	static const struct {
		u64 features;
		bool stream, seq;
	} cases[] = {
		{ 0, true, false },
		{ STREAM, true, false },
		{ SEQ, true, true },
		{ STREAM | SEQ, true, true },
		{ SEQ | NO, false, true },
		{ STREAM | NO, true, false },
		{ STREAM | SEQ | NO, true, true },
	};

	for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
		static struct fix f;

		begin(&f, NULL, FEATURES | cases[i].features);
		/* All that was asked for is offered. */
		CHECK((f.peer.f.features & (STREAM | SEQ | NO)) == cases[i].features);
		fix_listener(&f, 1001);
		seq_listener(&f, "1002");
		fix_send(&f, fix_hdr(1001, GUEST_PORT, VSP_OP_REQUEST));
		fix_expect(&f, cases[i].stream ? VSP_OP_RESPONSE : VSP_OP_RST);
		fix_send(&f, seq_hdr(1002, GUEST_PORT, VSP_OP_REQUEST));
		fix_expect(&f, cases[i].seq ? VSP_OP_RESPONSE : VSP_OP_RST);
		fix_end(&f);
	}
}

const struct test seqpacket_tests[] = {
	{ "seqpacket: features decide the types", features_decide_the_types },
	{ "seqpacket: boundaries to the guest", boundaries_to_guest },
	{ "seqpacket: boundaries from the guest", boundaries_from_guest },
	{ "seqpacket: a slow reader", slow_reader },
	{ "seqpacket: all or nothing", all_or_nothing },
	{ "seqpacket: too big for a Unix socket", too_big_for_the_socket },
	{ "seqpacket: too big for the guest", too_big_for_the_guest },
	{ "seqpacket: a flood of empty messages", flood_of_empty_messages },
	{ "seqpacket: an end in the middle of a message", end_in_the_middle },
	{ "seqpacket: types do not mix", types_do_not_mix },
	{ "seqpacket: not negotiated", not_negotiated },
	{ 0 },
};
