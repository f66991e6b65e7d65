// SPDX-License-Identifier: BSD-2-Clause
/* Datagrams between a guest and its host: docs/PROTOCOL.md. */
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vhost.h>
#include <linux/vm_sockets.h>

#include "kernel/proto/dgram.h"
#include "tests/e2e/storm.h"

enum {
	PORT = 5000,	 /* the host's */
	GUEST_PORT = 50, /* the guest's */
	STREAM_PORT = 5001,
	BUFFER = 3776,
	ROOM = BUFFER - VSP_HDR_LEN, /* payload of a receive buffer */
	LARGE = VSP_HDR_LEN + VSP_MAX_PAYLOAD,
	LONG_ROOM = 16384, /* enough to go straight: VST_STRAIGHT_MIN */
	ROUNDS = 50,
	REFUSALS = 100,	      /* a second: VST_DGRAM_REFUSALS */
	REPLIES = 256,	      /* that may wait: VSP_REPLIES_DEFAULT */
	GROWTH_MAX = 8 << 10, /* KiB that a flood may cost */
};

static const u32 lengths[] = { 0, 1, ROOM - 1, ROOM, ROOM + 1, 4096, 20000, 65535, VSP_DGRAM_MAX };
enum { NUM_LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

static struct guest g;
static u8 data[VSP_DGRAM_MAX + 1];

/* ---- the guest's end ---- */

static struct vsp_hdr dgram_hdr(u32 src_port, u32 dst_port, enum vsp_op op)
{
	return (struct vsp_hdr){
		.src = { .cid = g.cid, .port = src_port },
		.dst = { .cid = VSP_CID_HOST, .port = dst_port },
		.type = VSP_TYPE_DGRAM,
		.op = (u16)op,
	};
}

static struct vsp_hdr probe_hdr(void)
{
	struct vsp_hdr hdr = dgram_hdr(VSP_PORT_ANY, VSP_PORT_ANY, VSP_OP_CREDIT_REQUEST);

	hdr.buf_alloc = VSP_DGRAM_MAX;
	hdr.fwd_cnt = VSP_DGRAM_REVISION;
	return hdr;
}

static void expect_answer(void)
{
	struct vsp_hdr hdr;

	CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
	CHECK(hdr.type == VSP_TYPE_DGRAM && hdr.op == VSP_OP_CREDIT_UPDATE && hdr.len == 0 && hdr.flags == 0);
	CHECK(hdr.src.cid == VSP_CID_HOST && hdr.src.port == VSP_PORT_ANY);
	CHECK(hdr.dst.cid == g.cid && hdr.dst.port == VSP_PORT_ANY);
	CHECK(hdr.buf_alloc == VSP_DGRAM_MAX && hdr.fwd_cnt == VSP_DGRAM_REVISION);
}

static void probe(void)
{
	guest_send(&g, probe_hdr());
	expect_answer();
}

/* A guest that knows of the host's datagrams. */
static void begin(u32 ring, u32 buffer)
{
	guest_begin(&g, CID, ring, buffer, FEATURES);
	probe();
}

static void without_buffers(u32 ring)
{
	guest_begin(&g, CID, ring, BUFFER, FEATURES);
	CHECK(!vu_vhost_run(&g.peer.f, false));
	for (u32 i = 0; i < 2; i++)
		CHECK(!vu_vhost_ring(&g.peer.f, i));
	CHECK(!vu_vhost_run(&g.peer.f, true));
}

/* A fragment: @len bytes at @offset of @total; @total 0: a datagram in one. */
static struct vsp_hdr fragment(u32 len, u32 total, u32 offset)
{
	struct vsp_hdr hdr = dgram_hdr(GUEST_PORT, PORT, VSP_OP_RW);

	hdr.len = len;
	hdr.buf_alloc = total;
	hdr.fwd_cnt = offset;
	return hdr;
}

/* Send the datagram with this seed in packets of at most @packet bytes. */
static void guest_writes(u32 len, u32 packet, u32 seed)
{
	u32 at = 0;

	do {
		u32 n = len - at < packet ? len - at : packet;

		for (u32 i = 0; i < n; i++)
			g.buf[i] = byte_at(at + i, seed);
		guest_send(&g, n == len ? fragment(n, 0, 0) : fragment(n, len, at));
		at += n;
	} while (at < len);
}

/* The next datagram from @src_port, in as few packets as the buffers, of @room bytes, allow. */
static void guest_reads(u32 src_port, u32 len, u32 room, u32 seed)
{
	struct vsp_hdr hdr;
	u32 got = 0;

	do {
		u32 left = len - got;

		CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
		CHECK(hdr.type == VSP_TYPE_DGRAM && hdr.op == VSP_OP_RW && hdr.flags == 0);
		CHECK(hdr.src.cid == VSP_CID_HOST && hdr.src.port == src_port);
		CHECK(hdr.dst.cid == g.cid && hdr.dst.port == GUEST_PORT);
		CHECK(hdr.len == (left < room ? left : room));
		CHECK(hdr.buf_alloc == (len > room ? len : 0) && hdr.fwd_cnt == got);
		for (u32 i = 0; i < hdr.len; i++)
			CHECK(g.buf[i] == byte_at(got + i, seed));
		got += hdr.len;
	} while (got < len);
}

/* ---- the host's ---- */

static struct sockaddr_vm address(u32 cid, u32 port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
}

static int host_socket(void)
{
	struct sockaddr_vm sa = address(VMADDR_CID_ANY, PORT);
	int fd = socket(AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

/* 0, or the errno. */
static int host_tries(int fd, u32 cid, u32 len)
{
	struct sockaddr_vm sa = address(cid, GUEST_PORT);
	ssize_t n = sendto(fd, data, len, MSG_NOSIGNAL, (struct sockaddr *)&sa, sizeof(sa));

	CHECK(n < 0 || n == (ssize_t)len);
	return n < 0 ? errno : 0;
}

static void fill(u32 len, u32 seed)
{
	for (u32 i = 0; i < len; i++)
		data[i] = byte_at(i, seed);
}

/* Send the datagram with this seed, when the send buffer has room. */
static void host_writes(int fd, u32 len, u32 seed)
{
	u64 until = now_ms() + WAIT_MS;
	int err;

	fill(len, seed);
	/* poll() says that a datagram socket can always be written. */
	while ((err = host_tries(fd, CID, len)) == EAGAIN) {
		CHECK(now_ms() < until);
		pause_a_little();
	}
	CHECK(!err);
}

static void host_reads(int fd, u32 len, u32 seed)
{
	struct sockaddr_vm from = { 0 };
	socklen_t size = sizeof(from);

	CHECK(host_wait(fd, POLLIN, WAIT_MS));
	CHECK(recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &size) == (ssize_t)len);
	CHECK(from.svm_cid == g.cid && from.svm_port == GUEST_PORT);
	for (u32 i = 0; i < len; i++)
		CHECK(data[i] == byte_at(i, seed));
}

static bool host_has_nothing(int fd)
{
	return recv(fd, data, sizeof(data), 0) < 0 && errno == EAGAIN;
}

/* ---- tests ---- */

static void lengths_with(u32 ring, u32 buffer, u32 packet)
{
	int fd = host_socket();

	begin(ring, buffer);
	for (u32 i = 0; i < NUM_LENGTHS; i++) {
		guest_writes(lengths[i], packet, i);
		host_reads(fd, lengths[i], i);
		host_writes(fd, lengths[i], i + 100);
		guest_reads(PORT, lengths[i], buffer - VSP_HDR_LEN, i + 100);
	}
	counter_reaches(CID, "dgram_rx", NUM_LENGTHS);
	CHECK(counter(CID, "dgram_rx") == NUM_LENGTHS && counter(CID, "dgram_tx") == NUM_LENGTHS);
	CHECK(counter(CID, "dgram_rx_cut") == 0);
	guest_end(&g);
	close(fd);
}

/* In one packet, in fragments, into buffers of every size, through rings down to one entry. */
static void both_ways(void)
{
	lengths_with(128, BUFFER, VSP_MAX_PAYLOAD);
	lengths_with(128, LARGE, 30000);
	lengths_with(256, VSP_HDR_LEN + 100, 100);
	lengths_with(2, BUFFER, 65535);
	CHECK(live("pkts") == 0);
}

/* More than the largest is refused, by the host and for the guest; a guest that takes less than that is believed. */
static void too_long(void)
{
	struct vsp_hdr hdr;
	int fd = host_socket();

	begin(128, BUFFER);
	CHECK(host_tries(fd, CID, VSP_DGRAM_MAX + 1) == EMSGSIZE);
	hdr = probe_hdr();
	hdr.buf_alloc = 1000;
	guest_send(&g, hdr);
	expect_answer();
	CHECK(host_tries(fd, CID, 1001) == EMSGSIZE);
	host_writes(fd, 1000, 3);
	guest_reads(PORT, 1000, ROOM, 3);
	guest_end(&g);
	close(fd);
}

/* Between the fragments of a datagram nothing is sent, however much waits. */
static void beside_a_stream(void)
{
	int l = host_listen(STREAM_PORT, 8), fd = host_socket();
	u32 left = 20, got = 0;
	struct vsp_hdr hdr;
	struct flow f;

	begin(16, BUFFER);
	f = open_by_guest(&g, l, STREAM_PORT, 60);
	while (left || got) {
		/* Whatever there is room for. */
		while (send(f.fd, data, 4096, MSG_NOSIGNAL) > 0)
			;
		if (left && !host_tries(fd, CID, 50000))
			left--;
		CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
		CHECK(!got || hdr.type == VSP_TYPE_DGRAM);
		if (hdr.type != VSP_TYPE_DGRAM) {
			f.got += hdr.len;
			guest_send(&g, guest_hdr(&g, &f, VSP_OP_CREDIT_UPDATE));
			continue;
		}
		CHECK(hdr.op == VSP_OP_RW && hdr.buf_alloc == 50000 && hdr.fwd_cnt == got);
		got = got + hdr.len == 50000 ? 0 : got + hdr.len;
	}
	CHECK(f.got > 0);
	close(f.fd);
	close(fd);
	guest_end(&g);
}

/* A guest that never asked has none and is sent nothing of the kind; nor has one that says so, of any type. */
static void without_a_probe(void)
{
	int l = host_listen(STREAM_PORT, 8), fd = host_socket();
	struct vsp_hdr rst = probe_hdr();
	struct flow f;

	guest_begin(&g, CID, 128, BUFFER, FEATURES);
	f = open_by_guest(&g, l, STREAM_PORT, 60);
	CHECK(host_tries(fd, CID, 10) == ENODEV);
	guest_send(&g, dgram_hdr(GUEST_PORT, PORT + 1, VSP_OP_RW));
	counter_reaches(CID, "dgram_rx_unbound", 1);
	rst.op = VSP_OP_RST;
	for (u32 type = VSP_TYPE_STREAM; type <= VSP_TYPE_DGRAM; type++) {
		rst.type = (u16)type;
		guest_send(&g, rst);
		flow_to_host(&g, &f, 1000, 100, PEER_TWO);
		CHECK(host_tries(fd, CID, 10) == ENODEV);
	}
	guest_quiet(&g);
	CHECK(counter(CID, "dgram_refused") == 0);
	probe();
	host_writes(fd, 10, 1);
	guest_reads(PORT, 10, ROOM, 1);
	flow_to_host(&g, &f, 1000, 100, PEER_TWO);
	flow_to_guest(&g, &f, 1000, 100);
	flow_finish(&g, &f);
	guest_end(&g);
	close(fd);
}

/* A pause forgets nothing; a reboot, another CID and the end do. */
static void forgotten(void)
{
	struct vhost_vring_state base[2] = { { .index = 0 }, { .index = 1 } };
	int fd = host_socket();
	u64 cid = CID + 1;

	begin(128, BUFFER);
	CHECK(!vu_vhost_run(&g.peer.f, false));
	CHECK(host_tries(fd, CID, 10) == EHOSTUNREACH);
	for (u32 i = 0; i < 2; i++) {
		CHECK(!ioctl(g.peer.f.device, VHOST_GET_VRING_BASE, &base[i]));
		CHECK(!ioctl(g.peer.f.device, VHOST_SET_VRING_BASE, &base[i]));
	}
	CHECK(!vu_vhost_share(&g.peer.f));
	CHECK(!vu_vhost_run(&g.peer.f, true));
	host_writes(fd, 10, 1);
	guest_reads(PORT, 10, ROOM, 1);
	/* What a reboot interrupts is not continued after it. */
	guest_send(&g, fragment(10, 30, 0));
	counter_reaches(CID, "rx_packets", 2);
	guest_reboot(&g);
	CHECK(host_tries(fd, CID, 10) == ENODEV);
	probe();
	guest_send(&g, fragment(20, 30, 10));
	counter_reaches(CID, "rejects/dgram_order", 1);
	CHECK(host_has_nothing(fd));
	CHECK(!ioctl(g.peer.f.device, VHOST_VSOCK_SET_GUEST_CID, &cid));
	CHECK(host_tries(fd, CID, 10) == ENODEV && host_tries(fd, CID + 1, 10) == ENODEV);
	g.cid = CID + 1;
	probe();
	CHECK(!host_tries(fd, CID + 1, 10));
	guest_end(&g);
	CHECK(host_tries(fd, CID + 1, 10) == ENODEV);
	close(fd);
}

/* Where the feature was negotiated nobody need ask; without an answer there are no fragments. */
static void by_feature(void)
{
	int fd = host_socket();

	guest_begin(&g, CID, 128, BUFFER, FEATURES | VU_BIT(VSP_F_DGRAM));
	host_writes(fd, ROOM, 1);
	host_writes(fd, ROOM + 1, 2);
	host_writes(fd, 0, 3);
	guest_reads(PORT, ROOM, ROOM, 1);
	guest_reads(PORT, 0, ROOM, 3);
	CHECK(counter(CID, "dgram_tx_dropped") == 1);
	probe();
	host_writes(fd, ROOM + 1, 4);
	guest_reads(PORT, ROOM + 1, ROOM, 4);
	guest_end(&g);
	close(fd);
}

/* Large ones, from the program into the guest's buffers: whole as others, and in fragments only where they may be. */
static void straight(void)
{
	int fd = host_socket();

	begin(128, BUFFER);
	for (u32 i = 0; i < ROUNDS; i++) {
		host_writes(fd, LONG_ROOM + i, i);
		guest_reads(PORT, LONG_ROOM + i, ROOM, i);
	}
	CHECK(counter(CID, "tx_straight") > ROUNDS / 2 && counter(CID, "dgram_tx") == ROUNDS);
	guest_end(&g);

	guest_begin(&g, CID, 128, VSP_HDR_LEN + LONG_ROOM, FEATURES | VU_BIT(VSP_F_DGRAM));
	for (u32 i = 0; i < ROUNDS; i++) {
		host_writes(fd, LONG_ROOM + 1, i);
		counter_reaches(CID, "dgram_tx_dropped", i + 1);
		for (u32 j = 0; j < 4; j++) {
			host_writes(fd, LONG_ROOM, j);
			guest_reads(PORT, LONG_ROOM, LONG_ROOM, j);
		}
	}
	CHECK(counter(CID, "tx_straight") > ROUNDS && counter(CID, "dgram_tx_dropped") == ROUNDS);
	guest_end(&g);
	close(fd);
}

/* Nobody bound: the guest is told, a hundred times a second at most; and so is a connected socket of the host. */
static void refused(void)
{
	struct sockaddr_vm sa = address(CID, GUEST_PORT);
	struct vsp_hdr hdr;
	u32 answers = 0, flood = flood_of(40000);
	u64 began, seconds;
	int fd;

	begin(256, BUFFER);
	began = now_ms();
	for (u32 i = 0; i < flood; i++) {
		hdr = dgram_hdr(GUEST_PORT, PORT, VSP_OP_RW);
		guest_send(&g, hdr);
		while (peer_recv(&g.peer, &hdr, NULL, 0)) {
			CHECK(hdr.type == VSP_TYPE_DGRAM && hdr.op == VSP_OP_RST && hdr.len == 0);
			CHECK(hdr.src.port == PORT && hdr.dst.port == GUEST_PORT);
			answers++;
		}
	}
	counter_reaches(CID, "dgram_rx_unbound", flood);
	seconds = (now_ms() - began) / 1000 + 2;
	while (answers < counter(CID, "dgram_refused") && peer_recv(&g.peer, &hdr, NULL, WAIT_MS))
		answers++;
	CHECK(answers == counter(CID, "dgram_refused"));
	fprintf(stderr, "# %u resets in %llu s\n", answers, (unsigned long long)seconds);
	CHECK(answers >= REFUSALS && answers <= seconds * REFUSALS);

	fd = host_socket();
	CHECK(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	CHECK(send(fd, data, 10, 0) == 10);
	CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS) && hdr.op == VSP_OP_RW);
	guest_send(&g, dgram_hdr(GUEST_PORT, PORT, VSP_OP_RST));
	CHECK(host_wait(fd, POLLERR, WAIT_MS));
	CHECK(recv(fd, data, sizeof(data), 0) < 0 && errno == ECONNREFUSED);
	/* What others send to a connected socket is for nobody. */
	hdr = dgram_hdr(GUEST_PORT + 1, PORT, VSP_OP_RW);
	guest_send(&g, hdr);
	counter_reaches(CID, "dgram_rx_unbound", flood + 1);
	CHECK(host_has_nothing(fd));
	close(fd);
	guest_end(&g);
}

/* Fragments that make no datagram: each is counted for its reason, none is delivered, and the next datagram is. */
static void malformed(void)
{
	static const struct {
		const char *reason;
		u32 first; /* bytes of a first fragment of 100, or 0 */
		u32 len;
		u32 total;
		u32 offset;
		u32 flags;
	} bad[] = {
		{ "rejects/dgram_order", 0, 10, 100, 10, 0 },	     /* nothing to continue */
		{ "rejects/dgram_order", 10, 10, 100, 20, 0 },	     /* a hole */
		{ "rejects/dgram_order", 10, 10, 100, 5, 0 },	     /* an overlap */
		{ "rejects/dgram_order", 10, 10, 101, 10, 0 },	     /* another total */
		{ "rejects/dgram_order", 10, 10, 0, 10, 0 },	     /* an offset in a whole datagram */
		{ "rejects/dgram_size", 10, 91, 100, 10, 0 },	     /* beyond the end */
		{ "rejects/dgram_size", 10, 0, 100, 10, 0 },	     /* nothing */
		{ "rejects/dgram_size", 0, 10, 100, 100, 0 },	     /* at the end */
		{ "rejects/dgram_size", 0, 10, 0xffffffff, 0, 0 },   /* longer than any */
		{ "rejects/dgram_size", 0, 10, 65537, 0, 0 },	     /* by one */
		{ "rejects/dgram_flags", 10, 90, 100, 10, 1 << 31 }, /* flags */
	};
	int l = host_listen(STREAM_PORT, 8), fd = host_socket();
	u32 cut = 0, good = 0;
	struct flow f;

	begin(128, BUFFER);
	f = open_by_guest(&g, l, STREAM_PORT, 60);
	for (u32 i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		u64 before = counter(CID, bad[i].reason);
		struct vsp_hdr hdr = fragment(bad[i].len, bad[i].total, bad[i].offset);

		hdr.flags = bad[i].flags;
		if (bad[i].first)
			guest_send(&g, fragment(bad[i].first, 100, 0));
		guest_send(&g, hdr);
		cut += !!bad[i].first;
		guest_writes(100, 60, i);
		host_reads(fd, 100, i);
		counter_reaches(CID, "dgram_rx", ++good);
		CHECK(counter(CID, bad[i].reason) == before + 1);
		CHECK(counter(CID, "dgram_rx_cut") == cut && counter(CID, "dgram_rx") == good);
	}
	/* Another packet of any kind ends it, too, and is dealt with. */
	guest_send(&g, fragment(10, 100, 0));
	flow_to_host(&g, &f, 10, 10, PEER_TWO);
	guest_send(&g, fragment(90, 100, 10));
	counter_reaches(CID, "dgram_rx_cut", cut + 1);
	guest_send(&g, fragment(10, 100, 0));
	guest_writes(100, 100, 77);
	host_reads(fd, 100, 77);
	CHECK(counter(CID, "dgram_rx_cut") == cut + 2);
	CHECK(host_has_nothing(fd));
	flow_to_host(&g, &f, 1000, 100, PEER_TWO);
	flow_finish(&g, &f);
	guest_end(&g);
	close(fd);
}

/* Fragments at random: each packet is delivered, part of what is delivered, or counted. */
static void storm_of_fragments(void)
{
	static const char *const reasons[] = { "rejects/dgram_order", "rejects/dgram_size", "rejects/dgram_flags" };
	u32 state = 815, packets = 10000;
	struct storm s = { 0 };
	int fd = host_socket();
	u64 bad = 0, all;

	begin(128, BUFFER);
	for (u32 i = 0; i < packets; i++) {
		struct vsp_hdr h;

		state = state * 1664525 + 1013904223;
		h = storm_next(&s, dgram_hdr(GUEST_PORT, PORT, VSP_OP_RW), state);
		storm_add(&s, &h);
		guest_send(&g, h);
		/* What is for the port that nobody has is answered. */
		while (peer_recv(&g.peer, &h, NULL, 0))
			CHECK(h.op == VSP_OP_RST);
		recv(fd, data, sizeof(data), 0);
	}
	counter_reaches(CID, "rx_packets", packets + 1);
	for (u32 i = 0; i < 3; i++)
		bad += counter(CID, reasons[i]);
	all = counter(CID, "dgram_rx") + counter(CID, "dgram_rx_full") + counter(CID, "dgram_rx_unbound");
	CHECK(s.whole > 500 && s.cut > 500 && s.bad > 500);
	CHECK(all == s.whole && counter(CID, "dgram_rx_cut") == s.cut && bad == s.bad);
	CHECK(counter(CID, "dgram_rx") > 0 && counter(CID, "dgram_rx_unbound") > 0);
	guest_end(&g);
	close(fd);
}

/* A guest cannot say that it is somebody else, nor speak for others; and it is not the way to them. */
static void spoofed(void)
{
	static const u32 cids[] = { VSP_CID_HOST, CID + 1, 1, 0, UINT32_MAX };
	enum { NUM_CIDS = sizeof(cids) / sizeof(cids[0]) };
	struct vsp_hdr hdr;
	int fd = host_socket();

	begin(128, BUFFER);
	for (u32 i = 0; i < NUM_CIDS; i++) {
		hdr = fragment(10, 0, 0);
		hdr.src.cid = cids[i];
		guest_send(&g, hdr);
		hdr = probe_hdr();
		hdr.src.cid = cids[i];
		guest_send(&g, hdr);
		hdr = fragment(10, 0, 0);
		hdr.dst.cid = cids[i] == VSP_CID_HOST ? CID : cids[i];
		guest_send(&g, hdr);
	}
	guest_writes(10, 10, 5);
	host_reads(fd, 10, 5);
	CHECK(counter(CID, "rejects/src_cid") == 2 * NUM_CIDS && counter(CID, "rejects/dst_cid") == NUM_CIDS);
	CHECK(counter(CID, "dgram_rx") == 1 && counter(CID, "dgram_rx_unbound") == 0);
	CHECK(host_has_nothing(fd) && host_tries(fd, CID + 1, 10) == ENODEV);
	guest_end(&g);
	close(fd);
}

/* All of the guest's own memory is there from now on, so that it does not count as growth. */
static void touch_memory(void)
{
	volatile u8 *mem = g.peer.f.mem;

	guest_quiet(&g);
	for (u64 at = 0; at < g.peer.f.opts.memory; at += 4096)
		mem[at] = mem[at];
}

/* Nobody reads, or nobody can be answered: memory is bounded, connections work on. */
static void floods(void)
{
	static const u32 sizes[] = { 0, 1, 1024, 60000 };
	int l = host_listen(STREAM_PORT, 8), fd = host_socket();
	long before;
	struct flow f;
	u32 flood = flood_of(40000);
	u64 seen, sent = 0;

	begin(256, BUFFER);
	f = open_by_guest(&g, l, STREAM_PORT, 60);
	touch_memory();
	before = memory_used_kib();
	seen = counter(CID, "rx_packets");
	for (u32 i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		u32 n = sizes[i] > 4096 ? flood / 50 : flood / 4;

		for (u32 k = 0; k < n; k++)
			guest_send(&g, fragment(sizes[i], 0, 0));
		seen += n;
		sent += n;
		counter_reaches(CID, "rx_packets", seen);
	}
	/* The largest that can be, and never an end. */
	for (u32 k = 0; k < flood / 10; k++)
		guest_send(&g, fragment(10, VSP_DGRAM_MAX, 0));
	counter_reaches(CID, "dgram_rx_cut", flood / 10 - 1);
	fprintf(stderr, "# memory grew by %ld KiB\n", memory_used_kib() - before);
	CHECK(memory_used_kib() - before < GROWTH_MAX);
	CHECK(counter(CID, "dgram_rx") + counter(CID, "dgram_rx_full") == sent);
	CHECK(counter(CID, "dgram_rx_full") > 0);
	flow_to_host(&g, &f, 100000, 65536, PEER_TWO);
	flow_to_guest(&g, &f, 100000, 65536);
	flow_finish(&g, &f);
	guest_end(&g);
	close(fd);
}

/* Probes that cannot be answered stay in the ring, but for so many. */
static void probe_flood(void)
{
	const u32 ring = 1024;

	without_buffers(ring);
	for (u32 i = 0; i < ring; i++)
		CHECK(peer_send(&g.peer, probe_hdr(), NULL, 0, PEER_ONE));
	counter_reaches(CID, "rx_packets", REPLIES);
	CHECK(counter(CID, "rx_packets") == REPLIES);
	peer_post_all(&g.peer);
	for (u32 i = 0; i < ring; i++)
		expect_answer();
	guest_end(&g);
}

/* A guest that takes nothing: a sender has its send buffer and no more; then all arrives, in order. */
static void slow_guest(void)
{
	int fd = host_socket(), space = 50000, err;
	u64 until = now_ms() + WAIT_MS;
	u32 sent = 1;

	without_buffers(128);
	guest_send(&g, probe_hdr());
	CHECK(!setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &space, sizeof(space)));
	fill(1000, 0);
	while ((err = host_tries(fd, CID, 1000)) == ENODEV) {
		CHECK(now_ms() < until);
		pause_a_little();
	}
	while (!err) {
		fill(1000, sent);
		err = host_tries(fd, CID, 1000);
		sent += !err;
	}
	CHECK(err == EAGAIN && sent > 50 && sent <= 101);
	peer_post_all(&g.peer);
	expect_answer();
	for (u32 i = 0; i < sent; i++)
		guest_reads(PORT, 1000, ROOM, i);
	host_writes(fd, 1000, 5);
	guest_reads(PORT, 1000, ROOM, 5);
	/* And what waits when the device closes goes with it. */
	CHECK(!vu_vhost_run(&g.peer.f, false));
	guest_end(&g);
	CHECK(host_tries(fd, CID, 10) == ENODEV);
	close(fd);
}

/* To ourselves there is no guest on the way. */
static void to_this_host(void)
{
	struct sockaddr_vm to = address(VMADDR_CID_HOST, PORT), from = { 0 };
	socklen_t size = sizeof(from);
	int fd = host_socket(), other = socket(AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(other >= 0);
	fill(1000, 9);
	CHECK(sendto(other, data, 1000, 0, (struct sockaddr *)&to, sizeof(to)) == 1000);
	memset(data, 0, sizeof(data));
	CHECK(host_wait(fd, POLLIN, WAIT_MS));
	CHECK(recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &size) == 1000);
	for (u32 i = 0; i < 1000; i++)
		CHECK(data[i] == byte_at(i, 9));
	CHECK(from.svm_cid == VMADDR_CID_HOST && from.svm_port == host_port(other));
	close(other);
	close(fd);
}

int dgram_echo(u32 cid)
{
	struct vsp_hdr hdr;
	struct vsp_addr to;

	guest_begin(&g, cid, 128, LARGE, FEATURES);
	probe();
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (!peer_recv(&g.peer, &hdr, g.buf, WAIT_MS) || hdr.type != VSP_TYPE_DGRAM || hdr.op != VSP_OP_RW)
			continue;
		to = hdr.src;
		hdr.src = hdr.dst;
		hdr.dst = to;
		guest_send(&g, hdr);
	}
}

const struct test dgram_tests[] = {
	{ "datagrams of every length both ways, whole and in fragments", both_ways },
	{ "datagrams that are too long: EMSGSIZE", too_long },
	{ "datagrams: between fragments comes nothing of a busy stream", beside_a_stream },
	{ "datagrams: a guest that did not ask, or refused, gets none: ENODEV", without_a_probe },
	{ "datagrams: a pause forgets nothing, a reboot and another CID do", forgotten },
	{ "datagrams by feature bit: no fragments before a probe", by_feature },
	{ "datagrams that their writers put into the guest's buffers themselves", straight },
	{ "datagrams for nobody: resets, but no flood of them; ECONNREFUSED", refused },
	{ "datagrams: fragments that make none are counted and dropped", malformed },
	{ "datagrams in fragments at random", storm_of_fragments },
	{ "datagrams with wrong context identifiers", spoofed },
	{ "datagrams that nobody reads: bounded memory", floods },
	{ "datagrams: probes without a buffer for the answer: 256 wait", probe_flood },
	{ "datagrams for a guest that takes none: the send buffer bounds them", slow_guest },
	{ "datagrams to this host itself", to_this_host },
	{ NULL, NULL },
};
