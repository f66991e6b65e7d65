// SPDX-License-Identifier: BSD-2-Clause
/* Bytes arrive as they were sent, in every shape of chain and size of ring. */
#include "fixture.h"
#include "tests.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MEGABYTES = 8,
	TOTAL = MEGABYTES << 20,
};

/* The host's end, in a thread: reads or writes TOTAL bytes of the pattern. */
struct host {
	int fd;
	u32 seed;
	bool writes;
	bool good;
	u64 done;
};

static void *host_thread(void *arg)
{
	struct host *h = arg;
	static __thread u8 buf[100000];

	h->good = true;
	while (h->done < TOTAL) {
		size_t want = TOTAL - h->done < sizeof(buf) ? TOTAL - h->done : sizeof(buf);
		ssize_t n;

		if (h->writes) {
			for (size_t i = 0; i < want; i++)
				buf[i] = fix_byte(h->done + i, h->seed);
			n = send(h->fd, buf, want, MSG_NOSIGNAL);
		} else {
			n = read(h->fd, buf, want);
			for (ssize_t i = 0; i < n; i++)
				h->good = h->good && buf[i] == fix_byte(h->done + (u64)i, h->seed);
		}
		if (n <= 0)
			break;
		h->done += (u64)n;
	}
	if (h->writes)
		shutdown(h->fd, SHUT_WR);
	return NULL;
}

/* The guest's credit: what it may send. */
struct window {
	u32 sent;
	u32 peer_fwd;
	u32 peer_alloc;
};

static void learn(struct window *w, struct vsp_hdr hdr)
{
	w->peer_fwd = hdr.fwd_cnt;
	w->peer_alloc = hdr.buf_alloc;
}

static void guest_sends(struct fix *f, u32 ring, u32 packet, enum peer_shape shape)
{
	struct window w = { 0 };
	struct host h = { .seed = ring + packet };
	struct vsp_hdr hdr;
	pthread_t t;
	int l;

	fix_daemon(f, NULL);
	fix_guest(f, ring, 3776);
	l = fix_listener(f, 1000);
	fix_send(f, fix_hdr(1000, 50, VSP_OP_REQUEST));
	h.fd = accept(l, NULL, NULL);
	learn(&w, fix_expect(f, VSP_OP_RESPONSE));
	CHECK(!pthread_create(&t, NULL, host_thread, &h));
	for (u64 at = 0; at < TOTAL;) {
		u32 len = TOTAL - at < packet ? (u32)(TOTAL - at) : packet;
		struct vsp_hdr rw = fix_hdr(1000, 50, VSP_OP_RW);

		/* One that needs more than half of the window in one piece has to ask: how much was read is chance. */
		if (w.peer_alloc - (w.sent - w.peer_fwd) < len)
			fix_send(f, fix_hdr(1000, 50, VSP_OP_CREDIT_REQUEST));
		while (w.peer_alloc - (w.sent - w.peer_fwd) < len) {
			CHECK(peer_recv(&f->peer, &hdr, NULL, PEER_WAIT_MS));
			CHECK(hdr.op == VSP_OP_CREDIT_UPDATE);
			learn(&w, hdr);
		}
		for (u32 i = 0; i < len; i++)
			f->buf[i] = fix_byte(at + i, h.seed);
		rw.len = len;
		CHECK(peer_send(&f->peer, rw, f->buf, len, shape));
		w.sent += len;
		at += len;
		while (peer_recv(&f->peer, &hdr, NULL, 0))
			learn(&w, hdr);
	}
	pthread_join(t, NULL);
	CHECK(h.done == TOTAL && h.good);
	fix_end(f);
}

/* What receive buffers look like. */
enum buffers { BUFFERS_ONE, BUFFERS_TWO, BUFFERS_TABLES };

static void host_sends(struct fix *f, u32 ring, u32 buffer, enum buffers shape)
{
	struct host h = { .seed = ring + buffer, .writes = true };
	struct vsp_hdr hdr;
	u64 got = 0;
	u32 told = 0;
	pthread_t t;

	fix_daemon(f, NULL);
	f->peer.tables = shape == BUFFERS_TABLES;
	CHECK(!peer_open(&f->peer, f->socket, ring, buffer, shape == BUFFERS_TWO, FEATURES));
	h.fd = fix_dial(f, 1024);
	hdr = fix_expect(f, VSP_OP_REQUEST);
	fix_send(f, fix_hdr(hdr.src.port, 1024, VSP_OP_RESPONSE));
	CHECK(fix_ok(h.fd));
	CHECK(!pthread_create(&t, NULL, host_thread, &h));
	do {
		CHECK(peer_recv(&f->peer, &hdr, f->buf, PEER_WAIT_MS));
		if (hdr.op == VSP_OP_RW) {
			for (u32 i = 0; i < hdr.len; i++)
				CHECK(f->buf[i] == fix_byte(got + i, h.seed));
			got += hdr.len;
		}
		if (got - told >= 64 << 10 || hdr.op == VSP_OP_CREDIT_REQUEST) {
			struct vsp_hdr up = fix_hdr(hdr.src.port, 1024, VSP_OP_CREDIT_UPDATE);

			up.fwd_cnt = told = (u32)got;
			fix_send(f, up);
		}
	} while (hdr.op != VSP_OP_SHUTDOWN);
	CHECK(hdr.flags == VSP_SHUTDOWN_SEND && got == TOTAL);
	pthread_join(t, NULL);
	fix_end(f);
}

static void guest_shapes(void)
{
	static const u32 packets[] = { 65536, 40000, 4096, 1000, 37 };
	static struct fix f;

	for (enum peer_shape shape = PEER_ONE; shape < NUM_PEER_SHAPES; shape++)
		guest_sends(&f, 128, packets[shape % ARRAY_SIZE(packets)], shape);
	guest_sends(&f, 128, 65536, PEER_FRAGS);
	guest_sends(&f, 128, 65536, PEER_INDIRECT);
}

static void guest_rings(void)
{
	static const u32 rings[] = { 2, 4, 128, 256, 1024 };
	static struct fix f;

	for (u32 i = 0; i < ARRAY_SIZE(rings); i++) {
		guest_sends(&f, rings[i], 8192, PEER_TWO);
		guest_sends(&f, rings[i], 60000, PEER_INDIRECT);
	}
}

static void host_rings(void)
{
	static const u32 rings[] = { 2, 4, 128, 256, 1024 };
	static struct fix f;

	for (u32 i = 0; i < ARRAY_SIZE(rings); i++) {
		host_sends(&f, rings[i], 3776, BUFFERS_ONE);
		host_sends(&f, rings[i], 65536 + VSP_HDR_LEN, rings[i] > 2 ? BUFFERS_TWO : BUFFERS_ONE);
		/* Windows, and our driver. */
		host_sends(&f, rings[i], 4096 + VSP_HDR_LEN, BUFFERS_TABLES);
		host_sends(&f, rings[i], 65536 + VSP_HDR_LEN, BUFFERS_TABLES);
	}
}

static void tiny_buffers(void)
{
	static struct fix f;

	host_sends(&f, 128, VSP_HDR_LEN + 200, BUFFERS_TWO);
}

/* The payload that a header does not announce is not payload. */
static void longer_than_len(void)
{
	struct vsp_hdr hdr = fix_hdr(1000, 50, VSP_OP_RW);
	struct fix f;
	char buf[8] = "";
	int fd;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	fd = fix_open(&f, fix_listener(&f, 1000), 1000, 50);
	hdr.len = 3;
	CHECK(peer_send(&f.peer, hdr, "abcdef", 6, PEER_TWO));
	CHECK(peer_send(&f.peer, hdr, "ghijkl", 6, PEER_ONE));
	CHECK(fix_read(fd, buf, 6) == 6 && !memcmp(buf, "abcghi", 6));
	fix_end(&f);
}

/* One host program that does not read stops its own connection and no other. */
static void slow_reader(void)
{
	struct vsp_hdr hdr;
	struct fix f;
	char c;
	int l, slow, quick;
	u32 window;

	fix_daemon(&f, NULL);
	fix_guest(&f, 8, 3776);
	l = fix_listener(&f, 1000);
	fix_send(&f, fix_hdr(1000, 50, VSP_OP_REQUEST));
	slow = accept(l, NULL, NULL);
	hdr = fix_expect(&f, VSP_OP_RESPONSE);
	window = hdr.buf_alloc;
	quick = fix_open(&f, l, 1000, 51);
	for (u32 sent = 0; window - (sent - hdr.fwd_cnt) >= 32768; sent += 32768) {
		struct vsp_hdr rw = fix_hdr(1000, 50, VSP_OP_RW), got;

		rw.len = 32768;
		CHECK(peer_send(&f.peer, rw, f.buf, rw.len, PEER_ONE));
		/* The other one, in between. */
		rw = fix_hdr(1000, 51, VSP_OP_RW);
		rw.len = 1;
		CHECK(peer_send(&f.peer, rw, f.buf, 1, PEER_TWO));
		CHECK(read(quick, &c, 1) == 1);
		while (peer_recv(&f.peer, &got, NULL, 0)) {
			if (got.dst.port == 50)
				hdr = got;
		}
	}
	close(slow);
	fix_end(&f);
}

/*
 * More than a socket takes: what stays on the ring for a while is neither lost nor in anybody's way, and an end behind
 * it comes last.
 */
static void more_than_the_socket_takes(void)
{
	enum { PACKETS = 16, PACKET = 65536 };
	static const char *const args[] = { "--tx-buffer-size", "1048576", NULL };
	static u8 got[PACKETS * PACKET];
	struct vsp_hdr hdr;
	static struct fix f;
	int l, slow, quick;
	u32 unused;
	char c;

	fix_daemon(&f, args);
	fix_guest(&f, 128, 3776);
	l = fix_listener(&f, 1000);
	slow = fix_open(&f, l, 1000, 50);
	quick = fix_open(&f, l, 1000, 51);
	for (u32 i = 0; i < PACKETS; i++) {
		for (u32 k = 0; k < PACKET; k++)
			f.buf[k] = fix_byte((u64)i * PACKET + k, 9);
		hdr = fix_hdr(1000, 50, VSP_OP_RW);
		hdr.len = PACKET;
		CHECK(peer_send(&f.peer, hdr, f.buf, PACKET, i % 2 ? PEER_FRAGS : PEER_ONE));
	}
	/* Nobody reads, but the guest gets its descriptors back. */
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; f.peer.f.drv[1].nfree < 128;) {
		CHECK(fix_now_ms() < until);
		vu_drv_used(&f.peer.f.drv[1], &unused);
	}
	hdr = fix_hdr(1000, 51, VSP_OP_RW);
	hdr.len = 1;
	fix_send(&f, hdr);
	CHECK(read(quick, &c, 1) == 1);
	hdr = fix_hdr(1000, 50, VSP_OP_SHUTDOWN);
	hdr.flags = VSP_SHUTDOWN_SEND;
	fix_send(&f, hdr);
	CHECK(fix_read(slow, got, sizeof(got)) == sizeof(got) && read(slow, &c, 1) == 0);
	for (u32 i = 0; i < sizeof(got); i++)
		CHECK(got[i] == fix_byte(i, 9));
	fix_end(&f);
}

static void two_hundred_at_once(void)
{
	enum { MANY = 200 };
	static struct fix f;
	static int fds[MANY];
	char c;
	int l;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	l = fix_listener(&f, 1000);
	for (u32 i = 0; i < MANY; i++)
		fds[i] = fix_open(&f, l, 1000, 5000 + i);
	for (u32 round = 0; round < 10; round++) {
		for (u32 i = 0; i < MANY; i++) {
			struct vsp_hdr rw = fix_hdr(1000, 5000 + i, VSP_OP_RW);

			rw.len = 1;
			rw.fwd_cnt = round;
			f.buf[0] = (u8)(i + round);
			fix_send(&f, rw);
		}
		for (u32 i = 0; i < MANY; i++) {
			CHECK(read(fds[i], &c, 1) == 1 && (u8)c == (u8)(i + round));
			fix_write(fds[i], &c, 1);
		}
		for (u32 i = 0; i < MANY; i++)
			CHECK(fix_expect(&f, VSP_OP_RW).len == 1);
	}
	fix_end(&f);
}

const struct test transfer_tests[] = {
	{ "transfer: from the guest, every chain shape", guest_shapes },
	{ "transfer: from the guest, ring sizes", guest_rings },
	{ "transfer: to the guest, rings and buffers of each size and shape", host_rings },
	{ "transfer: to the guest, tiny buffers", tiny_buffers },
	{ "transfer: a packet longer than its len", longer_than_len },
	{ "transfer: a slow reader stops only itself", slow_reader },
	{ "transfer: more than the socket takes", more_than_the_socket_takes },
	{ "transfer: two hundred connections", two_hundred_at_once },
	{ 0 },
};
