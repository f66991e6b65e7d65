// SPDX-License-Identifier: BSD-2-Clause
/* What a front-end that migrates its guest must learn: which pages the device wrote to. */
#include "fixture.h"
#include "tests.h"

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	RING = 64,
	PORT = 1000,
	GUEST_PORT = 50,
	BYTES = 100000, /* each way: many buffers, some of them again and again */
	OFFSET = 4096,	/* of the log in its file */
};

static struct fix f;
static u8 *bits;
static u64 log_bytes;
static int log_fd;

static void begin(void)
{
	fix_daemon(&f, NULL);
	fix_guest(&f, RING, 3776);
	log_bytes = vu_front_gpa(f.peer.f.opts.memory) / VU_LOG_PAGE / 8 + 1;
	log_fd = memfd_create("log", MFD_CLOEXEC);
	CHECK(log_fd >= 0 && !ftruncate(log_fd, (off_t)(OFFSET + log_bytes)));
	bits = mmap(NULL, OFFSET + log_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, log_fd, 0);
	CHECK(bits != MAP_FAILED);
	bits += OFFSET;
}

/* Is the page at this offset of the memory noted? */
static bool noted(u64 at)
{
	u64 page = vu_front_gpa(at) / VU_LOG_PAGE;

	return bits[page / 8] & 1u << page % 8;
}

/* Bytes both ways, and control packets. */
static void traffic(u32 guest_port, u32 seed)
{
	static u8 bytes[BYTES];
	struct vsp_hdr hdr;
	int l = fix_listener(&f, PORT + guest_port), fd = fix_open(&f, l, PORT + guest_port, guest_port);

	for (u32 i = 0; i < BYTES; i++)
		bytes[i] = fix_byte(i, seed);
	hdr = fix_hdr(PORT + guest_port, guest_port, VSP_OP_RW);
	hdr.len = 60000;
	CHECK(peer_send(&f.peer, hdr, bytes, hdr.len, PEER_FRAGS));
	CHECK(fix_read(fd, f.buf, hdr.len) == hdr.len);
	fix_write(fd, bytes, BYTES);
	for (u32 got = 0; got < BYTES; got += hdr.len) {
		hdr = fix_expect(&f, VSP_OP_RW);
		for (u32 i = 0; i < hdr.len; i++)
			CHECK(f.buf[i] == fix_byte(got + i, seed));
	}
	close(fd);
	fix_expect(&f, VSP_OP_SHUTDOWN);
	fix_send(&f, fix_hdr(PORT + guest_port, guest_port, VSP_OP_RST));
	close(l);
}

/* The device has done all there is to do when it has answered. */
static void settle(void)
{
	struct vu_msg msg = { .request = VU_GET_FEATURES };

	CHECK(!vu_front_call(&f.peer.f, &msg, true));
}

/* A buffer for an event, of bytes that no event has. */
static void post_event(u32 bytes)
{
	u64 at = f.peer.f.opts.memory - 4096;

	memset(f.peer.f.mem + at, 0xff, 64);
	CHECK(vu_drv_add(&f.peer.f.drv[2], &(struct vu_seg){ vu_front_gpa(at), bytes, true }, 1) >= 0);
	vu_drv_publish(&f.peer.f.drv[2]);
}

/* Every page that the device wrote to is noted while it is asked to, and only these. */
static void dirty_pages(void)
{
	u64 rings = 3ull * VU_FRONT_RING_BYTES, rx_end = rings + (u64)RING * PEER_SLOT, memory;
	u32 changed = 0, wrong = 0;
	u8 *before;

	begin();
	memory = f.peer.f.opts.memory;
	CHECK(f.peer.f.features & VU_BIT(VU_F_EVENT_IDX));
	traffic(GUEST_PORT, 1);
	settle();
	before = malloc(memory);
	CHECK(before);
	memcpy(before, f.peer.f.mem, memory);
	CHECK(!vu_front_log(&f.peer.f, log_fd, log_bytes, OFFSET));
	traffic(GUEST_PORT + 1, 2);
	settle();
	CHECK(!vu_front_unlog(&f.peer.f));
	/* What the guest itself writes: the transmit buffers behind the receive buffers. */
	for (u64 at = 0; at < memory; at += VU_LOG_PAGE) {
		bool differs = memcmp(before + at, f.peer.f.mem + at, VU_LOG_PAGE) != 0;

		changed += differs && at < rx_end;
		wrong += at < rx_end ? differs && !noted(at) : noted(at);
	}
	CHECK(changed >= BYTES / 3776 && !wrong);
	/* Used rings: the page of each one that carries packets, and not that of the event queue's. */
	for (u32 i = 0; i < 3; i++)
		CHECK(noted((u64)i * VU_FRONT_RING_BYTES + vu_drv_used_offset(RING)) == (i < 2));
	/* No longer. */
	memset(bits, 0, log_bytes);
	traffic(GUEST_PORT + 2, 3);
	settle();
	for (u64 i = 0; i < log_bytes; i++)
		CHECK(!bits[i]);
	free(before);
	fix_end(&f);
}

/* A guest whose rings begin at @base, with a buffer of @bytes for events; 0: none yet. */
static void open_at(u16 base, u32 bytes)
{
	struct vu_front_opts o = {
		.rings = 3, .ring_size = RING, .memory = 16 << 20, .features = FEATURES, .base = base
	};

	CHECK(!vu_front_open(&f.peer.f, f.socket, &o));
	if (bytes)
		post_event(bytes);
}

/* The next buffer that is used: how much of it, and its bytes. */
static u32 event(u8 bytes[64])
{
	struct vu_drv *d = &f.peer.f.drv[2];
	u64 until = fix_now_ms() + PEER_WAIT_MS;
	u32 len;

	while (fix_now_ms() < until) {
		if (vu_drv_used(d, &len) >= 0) {
			memcpy(bytes, f.peer.f.mem + f.peer.f.opts.memory - 4096, 64);
			return len;
		}
		poll(NULL, 0, 1); /* poll interval */
	}
	CHECK(fix_now_ms() < until);
	return 0;
}

/* A driver that was at work before is told that its connections are gone, once; one that begins is not. */
static void driver_from_before(void)
{
	u8 bytes[64];
	u32 len;

	fix_daemon(&f, NULL);
	open_at(0, 8);
	settle();
	CHECK(f.peer.f.drv[2].nfree == RING - 1 && vu_drv_used(&f.peer.f.drv[2], &len) < 0);
	vu_front_close(&f.peer.f);
	open_at(300, 8);
	CHECK(event(bytes) == 4 && !bytes[0] && !bytes[1] && !bytes[2] && !bytes[3] && bytes[4] == 0xff);
	vu_front_close(&f.peer.f);
	/* Buffers that come late, the first of which is too small. */
	open_at(65535, 0);
	settle();
	post_event(3);
	CHECK(event(bytes) == 0 && bytes[0] == 0xff);
	post_event(4);
	CHECK(event(bytes) == 4 && !bytes[0] && !bytes[3] && bytes[4] == 0xff);
	post_event(8);
	settle();
	CHECK(vu_drv_used(&f.peer.f.drv[2], &len) < 0);
	fix_reject(&f, "transport_resets", 2);
	vu_front_close(&f.peer.f);
	fix_end(&f);
}

static bool ended(void)
{
	char c;

	/* Replies that nobody took may come first. */
	while (recv(f.peer.f.chan.fd, &c, 1, 0) > 0)
		;
	return true;
}

/* A log that is too short, without a file, or taken away: the end of this front-end, and of nothing else. */
static void bad_logs(void)
{
	struct vsp_hdr hdr = fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST);
	struct vu_msg bare;

	begin();
	CHECK(vu_front_log(&f.peer.f, log_fd, 100, OFFSET) && ended());
	peer_close(&f.peer);
	fix_guest(&f, RING, 3776);
	CHECK(vu_front_log(&f.peer.f, log_fd, log_bytes + 1, OFFSET) && ended());
	peer_close(&f.peer);
	fix_guest(&f, RING, 3776);
	bare = (struct vu_msg){ .request = VU_SET_LOG_BASE,
				.size = sizeof(struct vu_log_desc),
				.body.log = { .size = log_bytes } };
	CHECK(vu_front_call(&f.peer.f, &bare, true) && ended());
	peer_close(&f.peer);
	fix_guest(&f, RING, 3776);
	CHECK(!vu_front_log(&f.peer.f, log_fd, log_bytes, OFFSET));
	CHECK(!ftruncate(log_fd, 0));
	fix_send(&f, hdr);
	CHECK(ended());
	peer_close(&f.peer);
	fix_guest(&f, RING, 3776);
	fix_open(&f, fix_listener(&f, PORT), PORT, GUEST_PORT);
	fix_end(&f);
}

/* VIRTIO_F_IN_ORDER: chains come back in the order in which they went, whatever became of them. */
static void in_order(void)
{
	enum { CHAINS = 40 };
	int heads[CHAINS], l;
	u32 next = 0, len;
	u64 until = fix_now_ms() + PEER_WAIT_MS;
	struct vu_drv *d;

	fix_daemon(&f, NULL);
	CHECK(!peer_open(&f.peer, f.socket, RING, 3776, false, FEATURES | VU_BIT(VU_F_IN_ORDER)));
	CHECK(f.peer.f.features & VU_BIT(VU_F_IN_ORDER));
	l = fix_listener(&f, PORT);
	for (u32 i = 0; i < 3; i++)
		fix_open(&f, l, PORT, GUEST_PORT + i);
	d = &f.peer.f.drv[1];
	while (vu_drv_used(d, &len) >= 0 || d->nfree < RING)
		CHECK(fix_now_ms() < until);
	for (u32 i = 0; i < CHAINS; i++) {
		/* Payload of three connections, credit, and a packet of none. */
		struct vsp_hdr hdr = fix_hdr(PORT, GUEST_PORT + i % 4, i % 5 ? VSP_OP_RW : VSP_OP_CREDIT_UPDATE);
		u64 at = peer_scratch(&f.peer) + i * 4096ull;
		struct vsp_wire wire;

		hdr.len = i % 5 ? 1000 : 0;
		wire = vsp_encode(hdr);
		memcpy(f.peer.f.mem + at, &wire, sizeof(wire));
		heads[i] = vu_drv_add(d, &(struct vu_seg){ .gpa = vu_front_gpa(at), .len = VSP_HDR_LEN + hdr.len }, 1);
		CHECK(heads[i] >= 0);
	}
	vu_drv_publish(d);
	while (next < CHAINS) {
		int head = vu_drv_used(d, &len);

		CHECK(fix_now_ms() < until && (head < 0 || head == heads[next]));
		next += head >= 0;
	}
	fix_end(&f);
}

const struct test migrate_tests[] = {
	{ "migrate: pages that were written to", dirty_pages },
	{ "migrate: logs that cannot be", bad_logs },
	{ "migrate: a driver that was at work before", driver_from_before },
	{ "rings: in order", in_order },
	{ 0 },
};
