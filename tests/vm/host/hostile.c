// SPDX-License-Identifier: BSD-2-Clause
/* Guests that break the rules, and what that costs: the liar its connections, the host a bounded amount of memory. */
#include "host.h"

#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vhost.h>

enum {
	PORT = 5000,
	/* A hostile guest may cost no more than this, in KiB; what the machine does meanwhile is noise in it. */
	GROWTH_MAX = 8 << 10,
	/* And no more than this where the host's programs have closed all that it asked for. */
	BOUND = 16 << 10,
	VAIN_KICKS = 64, /* VH_VAIN_KICKS */
	VAIN_US = 200,
	KICKING_MS = 1000,
};

static struct guest g;

/* The guest posts no buffers: what it is owed has to wait. */
static void begin_without_buffers(void)
{
	guest_begin(&g, CID, 256, 3776, FEATURES);
	guest_reboot_empty(&g);
}

/* A connection that a guest without buffers has asked for. */
static struct flow open_blindly(int listener, u32 guest_port)
{
	struct flow f = { .host_port = PORT, .guest_port = guest_port };

	guest_send(&g, guest_hdr(&g, &f, VSP_OP_REQUEST));
	CHECK(host_wait(listener, POLLIN, WAIT_MS));
	f.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(f.fd >= 0);
	return f;
}

/* 200,000 of these pinned 149 to 195 MB of the in-tree device's host. */
static void credit_requests(void)
{
	int l = host_listen(PORT, 8);
	u32 updates = 0, flood = flood_of(200000);
	struct vsp_hdr hdr;
	struct flow f;
	long before;

	begin_without_buffers();
	f = open_blindly(l, 50);
	before = memory_used_kib();
	for (u32 i = 0; i < flood; i++)
		guest_send(&g, guest_hdr(&g, &f, VSP_OP_CREDIT_REQUEST));
	counter_reaches(CID, "rx_packets", flood + 1);
	CHECK(live("pkts") == 0);
	fprintf(stderr, "# memory grew by %ld KiB\n", memory_used_kib() - before);
	CHECK(memory_used_kib() - before < GROWTH_MAX);
	peer_post_all(&g.peer);
	guest_expect(&g, &f, VSP_OP_RESPONSE);
	while (peer_recv(&g.peer, &hdr, g.buf, QUIET_MS))
		updates += hdr.op == VSP_OP_CREDIT_UPDATE;
	CHECK(updates == 1);
	flow_to_host(&g, &f, 1000, 100, PEER_TWO);
	flow_finish(&g, &f);
	guest_end(&g);
}

/* Packets without a connection: receiving stops when 256 answers wait, and goes on when they have left. */
static void unknown_flood(void)
{
	const u32 ring = 1024, replies = 256;
	struct vsp_hdr hdr;
	u32 answers = 0;

	guest_begin(&g, CID, ring, 3776, FEATURES);
	guest_reboot_empty(&g);
	for (u32 i = 0; i < ring; i++) {
		struct flow f = { .host_port = PORT, .guest_port = i };

		CHECK(peer_send(&g.peer, guest_hdr(&g, &f, VSP_OP_RW), NULL, 0, PEER_ONE));
	}
	counter_reaches(CID, "rejects/no_flow", replies);
	CHECK(counter(CID, "rx_packets") == replies);
	peer_post_all(&g.peer);
	while (answers < ring) {
		CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS) && hdr.op == VSP_OP_RST);
		CHECK(hdr.dst.port == answers);
		answers++;
	}
	CHECK(counter(CID, "rx_packets") == ring);
	guest_end(&g);
}

/* A window full of packets of one byte, all legal: memory is bounded and nobody is reset. */
static void tiny_packets(void)
{
	int l = host_listen(PORT, 8);
	u32 packets = flood_of(WINDOW);
	struct flow f;
	long before;
	u8 byte;

	guest_begin(&g, CID, 256, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	before = memory_used_kib();
	for (u32 i = 0; i < packets; i++) {
		struct vsp_hdr hdr = guest_hdr(&g, &f, VSP_OP_RW);

		hdr.len = 1;
		g.buf[0] = byte_at(i, 1);
		CHECK(peer_send(&g.peer, hdr, g.buf, 1, PEER_ONE));
	}
	counter_reaches(CID, "rx_bytes", packets);
	fprintf(stderr, "# memory grew by %ld KiB\n", memory_used_kib() - before);
	CHECK(memory_used_kib() - before < GROWTH_MAX);
	for (u32 i = 0; i < packets; i++)
		CHECK(recv(f.fd, &byte, 1, 0) == 1 && byte == byte_at(i, 1));
	f.sent = f.read = packets;
	flow_finish(&g, &f);
	guest_end(&g);
}

/* Bytes that were never delivered cannot be acknowledged, and more than the window cannot be sent. */
static void lies_about_credit(void)
{
	int l = host_listen(PORT, 8);
	struct vsp_hdr hdr;
	struct flow f;
	u8 buf[4096] = { 0 };

	begin_without_buffers();
	f = open_blindly(l, 50);
	while (send(f.fd, buf, sizeof(buf), MSG_NOSIGNAL) > 0)
		;
	hdr = guest_hdr(&g, &f, VSP_OP_CREDIT_UPDATE);
	hdr.fwd_cnt = 1;
	guest_send(&g, hdr);
	CHECK(host_error(f.fd) == EPROTO);
	CHECK(counter(CID, "rejects/fwd_cnt") == 1 && live("pkts") == 0);
	close(f.fd);
	guest_end(&g);

	guest_begin(&g, CID, 256, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	hdr = guest_hdr(&g, &f, VSP_OP_RW);
	hdr.len = VSP_MAX_PAYLOAD;
	for (u32 i = 0; i < WINDOW / VSP_MAX_PAYLOAD; i++)
		guest_send(&g, hdr);
	hdr.len = 1;
	guest_send(&g, hdr);
	CHECK(host_error(f.fd) == EPROTO);
	CHECK(counter(CID, "rejects/credit") == 1);
	guest_expect(&g, &f, VSP_OP_RST);
	close(f.fd);
	guest_end(&g);
}

static void bad_headers(void)
{
	struct flow nobody = { .host_port = 1, .guest_port = 2 };
	struct vsp_hdr hdr;
	struct vsp_wire wire;
	u64 at;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	hdr = guest_hdr(&g, &nobody, VSP_OP_RW);
	hdr.src.cid = CID + 1;
	guest_send(&g, hdr);
	hdr = guest_hdr(&g, &nobody, VSP_OP_RW);
	hdr.dst.cid = 77;
	guest_send(&g, hdr);
	hdr = guest_hdr(&g, &nobody, VSP_OP_RW);
	hdr.type = 9;
	guest_send(&g, hdr);
	guest_send(&g, guest_hdr(&g, &nobody, 55));
	hdr = guest_hdr(&g, &nobody, VSP_OP_RW);
	hdr.len = 100;
	CHECK(peer_send(&g.peer, hdr, g.buf, 50, PEER_TWO));
	hdr.len = VSP_MAX_PAYLOAD + 1;
	CHECK(peer_send(&g.peer, hdr, g.peer.f.mem, VSP_MAX_PAYLOAD + 1, PEER_TWO));
	hdr.len = 0xffffffff;
	CHECK(peer_send(&g.peer, hdr, g.buf, 50, PEER_TWO));
	at = peer_scratch(&g.peer);
	wire = vsp_encode(guest_hdr(&g, &nobody, VSP_OP_RW));
	wire.src_cid |= cpu_to_le64(1ull << 40);
	memcpy(g.peer.f.mem + at, &wire, sizeof(wire));
	vu_drv_add(&g.peer.f.drv[1], &(struct vu_seg){ .gpa = vu_front_gpa(at), .len = VSP_HDR_LEN }, 1);
	vu_drv_add(&g.peer.f.drv[1], &(struct vu_seg){ .gpa = vu_front_gpa(at), .len = VSP_HDR_LEN - 1 }, 1);
	vu_drv_add(&g.peer.f.drv[1], &(struct vu_seg){ .gpa = vu_front_gpa(at), .len = 0 }, 1);
	vu_drv_publish(&g.peer.f.drv[1]);
	counter_reaches(CID, "rejects/short", 2);
	CHECK(counter(CID, "rejects/src_cid") == 1 && counter(CID, "rejects/dst_cid") == 1);
	CHECK(counter(CID, "rejects/type") == 1 && counter(CID, "rejects/op") == 1);
	CHECK(counter(CID, "rejects/len") == 2 && counter(CID, "rejects/too_big") == 1);
	CHECK(counter(CID, "rejects/cid_high") == 1);
	guest_end(&g);
}

/* ---- rings ---- */

static void put(struct vu_drv *d, u32 i, u64 gpa, u32 len, u16 flags, u16 next)
{
	d->desc[i] =
		(struct vsp_wire_desc){ cpu_to_le64(gpa), cpu_to_le32(len), cpu_to_le16(flags), cpu_to_le16(next) };
}

static void offer(struct vu_drv *d, u16 head)
{
	__le16 wire = cpu_to_le16(head);

	memcpy(d->avail + vsp_avail_slot_offset(vsp_ring_slot(d->avail_idx++, d->size)), &wire, sizeof(wire));
}

static const char *const reasons[] = {
	[BAD_AVAIL] = "avail",
	[BAD_HEAD] = "head",
	[BAD_LOOP] = "chain",
	[BAD_NEXT] = "head",
	[BAD_WRITABLE] = "order",
	[BAD_NOWHERE] = "memory",
	[BAD_PAST_END] = "memory",
	[BAD_WRAP] = "memory",
	[BAD_NESTED] = "indirect",
	[BAD_TABLE_EMPTY] = "indirect",
	[BAD_TABLE_ODD] = "indirect",
	[BAD_TABLE_NOWHERE] = "memory",
	[BAD_TABLE_CHAINED] = "indirect",
	[BAD_MANY_PIECES] = "chain",
	[BAD_MANY_EMPTY] = "chain",
};

void guest_send_bad(struct guest *from, enum bad_chain bad)
{
	u64 at = peer_scratch(&from->peer), gpa = vu_front_gpa(at);
	struct vsp_wire_desc *table = (void *)(from->peer.f.mem + at);
	struct vu_drv *d = &from->peer.f.drv[1];
	u16 head = 0;

	put(d, 0, gpa, VSP_HDR_LEN, 0, 0);
	switch (bad) {
	case BAD_AVAIL:
		d->avail_idx = (u16)(d->avail_idx + d->size);
		break;
	case BAD_HEAD:
		head = (u16)d->size;
		break;
	case BAD_LOOP:
		put(d, 0, gpa, 16, VSP_DESC_NEXT, 0);
		break;
	case BAD_NEXT:
		put(d, 0, gpa, 16, VSP_DESC_NEXT, (u16)d->size);
		break;
	case BAD_WRITABLE:
		put(d, 0, gpa, VSP_HDR_LEN, VSP_DESC_WRITE, 0);
		break;
	case BAD_NOWHERE:
		put(d, 0, 0x10, VSP_HDR_LEN, 0, 0);
		break;
	case BAD_PAST_END:
		put(d, 0, vu_front_gpa(from->peer.f.opts.memory - 10), VSP_HDR_LEN, 0, 0);
		break;
	case BAD_WRAP:
		put(d, 0, ~0ull - 10, VSP_HDR_LEN, 0, 0);
		break;
	case BAD_NESTED:
		put(d, 0, gpa, 32, VSP_DESC_INDIRECT, 0);
		table[0] =
			(struct vsp_wire_desc){ cpu_to_le64(gpa), cpu_to_le32(16), cpu_to_le16(VSP_DESC_INDIRECT), 0 };
		break;
	case BAD_TABLE_EMPTY:
		put(d, 0, gpa, 0, VSP_DESC_INDIRECT, 0);
		break;
	case BAD_TABLE_ODD:
		put(d, 0, gpa, 17, VSP_DESC_INDIRECT, 0);
		break;
	case BAD_TABLE_NOWHERE:
		put(d, 0, 0x1000, 16, VSP_DESC_INDIRECT, 0);
		break;
	case BAD_TABLE_CHAINED:
		put(d, 0, gpa, 16, VSP_DESC_INDIRECT | VSP_DESC_NEXT, 1);
		break;
	default:
		for (u32 i = 0; i < 1025; i++)
			table[i] = (struct vsp_wire_desc){ cpu_to_le64(gpa), cpu_to_le32(bad == BAD_MANY_PIECES),
							   cpu_to_le16(i < 1024 ? VSP_DESC_NEXT : 0),
							   cpu_to_le16((u16)(i + 1)) };
		put(d, 0, gpa, 1025 * sizeof(*table), VSP_DESC_INDIRECT, 0);
		break;
	}
	offer(d, head);
	vu_drv_publish(d);
}

/* The ring breaks, connections end, the error is reported, and another start makes all good. */
static void broken_once(enum bad_chain bad, int listener)
{
	char name[32];
	struct flow f;
	u64 before;
	int err;

	snprintf(name, sizeof(name), "rejects/%s", reasons[bad]);
	f = open_by_guest(&g, listener, PORT, 50);
	err = guest_watch_errors(&g, 1);
	before = counter(CID, name);
	guest_send_bad(&g, bad);
	counter_reaches(CID, name, before + 1);
	CHECK(host_wait(err, POLLIN, WAIT_MS));
	CHECK(host_error(f.fd) == ECONNRESET);
	CHECK(host_connect(CID, 50) == -EHOSTUNREACH);
	close(f.fd);
	close(err);
	guest_reboot(&g);
	f = open_by_guest(&g, listener, PORT, 51);
	flow_to_host(&g, &f, 1000, 100, PEER_TWO);
	flow_finish(&g, &f);
}

static void bad_chains(void)
{
	int l = host_listen(PORT, 8);

	guest_begin(&g, CID, 128, 3776, FEATURES);
	for (u32 bad = 0; bad < NUM_BAD_CHAINS; bad++)
		broken_once(bad, l);
	guest_end(&g);
}

/* The same for the ring that we write to: buffers that cannot hold a packet, and are not the guest's. */
static void bad_buffers(void)
{
	static const struct {
		const char *reason;
		u64 gpa;
		u32 len;
		u16 flags;
	} bad[] = {
		{ "rejects/short", 0x140000000, VSP_HDR_LEN, VSP_DESC_WRITE },
		{ "rejects/short", 0x140000000, 0, VSP_DESC_WRITE },
		{ "rejects/memory", 0x1000, 4096, VSP_DESC_WRITE },
		{ "rejects/order", 0x140000000, 4096, 0 },
	};

	for (u32 i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vu_drv *d;
		int fd, err;

		begin_without_buffers();
		d = &g.peer.f.drv[0];
		err = guest_watch_errors(&g, 0);
		fd = host_connect(CID, 50);
		CHECK(fd >= 0);
		put(d, 0, bad[i].gpa, bad[i].len, bad[i].flags, 0);
		offer(d, 0);
		vu_drv_publish(d);
		counter_reaches(CID, bad[i].reason, 1);
		CHECK(host_connected(fd) == ECONNRESET);
		CHECK(host_wait(err, POLLIN, WAIT_MS));
		close(fd);
		close(err);
		guest_end(&g);
	}
}

/* Memory goes away while it is used: the owner unmapped it. */
static void unmapped(void)
{
	int l = host_listen(PORT, 8);

	for (u32 which = 0; which < 4; which++) {
		u32 size = 128;
		struct flow f;
		u8 *at;

		guest_begin(&g, CID, size, 3776, FEATURES);
		f = open_by_guest(&g, l, PORT, 50);
		/* Both rings, receive buffers, what was sent: each in turn. */
		at = g.peer.f.mem + (which < 2 ? which * VU_FRONT_RING_BYTES : vu_front_data(&g.peer.f));
		if (which == 3)
			at += (u64)size * PEER_SLOT;
		if (which == 0 || which == 2) {
			CHECK(!munmap(at, which == 0 ? VU_FRONT_RING_BYTES : (u64)size * PEER_SLOT));
			CHECK(send(f.fd, "x", 1, 0) == 1);
		} else {
			const u64 one = 1;
			struct vsp_hdr hdr = guest_hdr(&g, &f, VSP_OP_RW);

			hdr.len = 3000;
			CHECK(!vu_vhost_run(&g.peer.f, false));
			guest_send(&g, hdr);
			CHECK(!munmap(at, which == 1 ? VU_FRONT_RING_BYTES : (u64)size * PEER_SLOT));
			/* A ring that is not there cannot be started; buffers are found missing later. */
			CHECK(!vu_vhost_run(&g.peer.f, true) == (which == 3));
			CHECK(write(g.peer.f.drv[1].kick_fd, &one, sizeof(one)) == sizeof(one));
		}
		if (which != 1) {
			CHECK(host_error(f.fd) == ECONNRESET);
			CHECK(counter(CID, "rejects/memory") == 1);
		}
		close(f.fd);
		guest_end(&g);
	}
}

/* One guest speaks for another. */
static void forged(void)
{
	static struct guest other;
	int l = host_listen(PORT, 8);
	struct vsp_hdr hdr;
	struct flow f;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	guest_begin(&other, CID + 1, 128, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	for (u32 op = VSP_OP_REQUEST; op < NUM_VSP_OPS; op++) {
		hdr = guest_hdr(&g, &f, op);
		hdr.flags = op == VSP_OP_SHUTDOWN ? VSP_SHUTDOWN_BOTH : 0;
		guest_send(&other, hdr);
	}
	counter_reaches(CID + 1, "rejects/src_cid", NUM_VSP_OPS - VSP_OP_REQUEST);
	flow_to_host(&g, &f, 1000, 100, PEER_TWO);
	flow_to_guest(&g, &f, 1000, 100);
	flow_finish(&g, &f);
	guest_end(&other);
	guest_end(&g);
}

static void set_max(const char *what, u32 n)
{
	char path[96];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/vst_common/parameters/max_%s", what);
	file = fopen(path, "w");
	CHECK(file && fprintf(file, "%u", n) > 0 && !fclose(file));
}

static void default_orphans(void)
{
	set_max("orphans", 1024);
}

/* A guest that never agrees to a close: so many connections wait for that, others are reset; in the end all go. */
static void orphans(void)
{
	const u32 most = 64, extra = 40;
	int l = host_listen(PORT, 8);
	u32 shutdowns = 0, resets = 0;
	u64 until = now_ms() + WAIT_MS;
	struct vsp_hdr hdr = { .op = VSP_OP_INVALID };

	atexit(default_orphans);
	set_max("orphans", most);
	guest_begin(&g, CID, 128, 3776, FEATURES);
	for (u32 i = 0; i < most + extra; i++) {
		struct flow f = { .host_port = PORT, .guest_port = 1000 + i };
		int fd;

		guest_send(&g, guest_hdr(&g, &f, VSP_OP_REQUEST));
		CHECK(host_wait(l, POLLIN, WAIT_MS));
		fd = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		CHECK(fd >= 0);
		close(fd);
		/* One that was reset lives until its reset has left. */
		while (peer_recv(&g.peer, &hdr, g.buf, 0) || live("flows") > (long)most + 1) {
			CHECK(now_ms() < until);
			shutdowns += hdr.op == VSP_OP_SHUTDOWN;
			resets += hdr.op == VSP_OP_RST;
			hdr.op = VSP_OP_INVALID;
		}
	}
	CHECK(counter(CID, "orphans_reset") >= extra / 2);
	/* After a while each of the others is reset as well. */
	while (resets < most + extra) {
		CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
		shutdowns += hdr.op == VSP_OP_SHUTDOWN;
		resets += hdr.op == VSP_OP_RST;
	}
	CHECK(shutdowns + counter(CID, "orphans_reset") == most + extra);
	guest_end(&g);
}

static void default_resets(void)
{
	set_max("resets", 8192);
}

/* A guest that takes no packets: so many connections wait for their reset to leave; it hears of others when it asks. */
static void resets_that_wait(void)
{
	const u32 most = 32, extra = 20, no_answer = 4;
	int l = host_listen(PORT, 8);
	struct vsp_hdr hdr;
	u32 resets = 0;
	struct flow f;
	u64 until;

	atexit(default_orphans);
	atexit(default_resets);
	set_max("orphans", 0);
	set_max("resets", most);
	begin_without_buffers();
	for (u32 i = 0; i < most + extra; i++) {
		f = open_blindly(l, 1000 + i);
		close(f.fd);
	}
	counter_reaches(CID, "resets_unsent", extra);
	until = now_ms() + WAIT_MS;
	while (live("flows") > (long)most + 1) {
		CHECK(now_ms() < until);
		pause_a_little();
	}
	peer_post_all(&g.peer);
	while (resets < most) {
		CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
		resets += hdr.op == VSP_OP_RST;
		CHECK(hdr.op != VSP_OP_RST || hdr.dst.port < 1000 + most);
	}
	CHECK(!peer_recv(&g.peer, &hdr, g.buf, QUIET_MS));
	CHECK(counter(CID, "resets_unsent") == extra);
	for (u32 i = 0; i < no_answer; i++) {
		f.guest_port = 1000 + most + i;
		guest_send(&g, guest_hdr(&g, &f, VSP_OP_CREDIT_UPDATE));
		guest_expect(&g, &f, VSP_OP_RST);
	}
	guest_end(&g);
}

/*
 * All of that at once, where the limits are the default's: closed connections, resets that wait, answers to packets
 * without a connection. What the documentation promises is their sum. All of it are small objects: there is no payload.
 */
static void all_limits(void)
{
	const u32 most = 1024 + 8192, extra = 200, replies = 256;
	int l = host_listen(PORT, 64);
	long before, cost;

	begin_without_buffers();
	before = slabs_kib();
	guest_abandon(&g, l, PORT, most + extra);
	counter_reaches(CID, "resets_unsent", extra);
	for (u32 i = 0; i < replies; i++) {
		struct flow f = { .host_port = PORT + 1, .guest_port = i };

		guest_send(&g, guest_hdr(&g, &f, VSP_OP_RW));
	}
	counter_reaches(CID, "rejects/no_flow", replies);
	cost = slabs_kib() - before;
	fprintf(stderr, "# memory grew by %ld KiB, for %ld connections\n", cost, live("flows"));
	CHECK(live("flows") <= (long)most && live("pkts") == 0 && live("segs") == 0);
	CHECK(cost < BOUND);
	guest_end(&g);
}

/* How often the device's threads have gone to sleep. */
static u64 sleeps(void)
{
	char name[32], path[64];
	glob_t found;
	u64 sum = 0;

	snprintf(name, sizeof(name), "vhost-%d\n", getpid());
	CHECK(!glob("/proc/[0-9]*", 0, NULL, &found));
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char comm[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "%s/comm", found.gl_pathv[i]);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fgets(comm, sizeof(comm), file) && !strcmp(comm, name)) {
			snprintf(path, sizeof(path), "%s/status", found.gl_pathv[i]);
			sum += (u64)number_in(path, "voluntary_ctxt_switches:");
		}
		fclose(file);
	}
	globfree(&found);
	return sum;
}

/* Each turn for nothing may be followed by a rest, and by a sleep until the next kick: for both threads. */
static void kicks_in_vain(void)
{
	u64 before, after, began, kicks, one = 1;

	guest_begin(&g, CID, 256, 3776, FEATURES);
	before = sleeps();
	CHECK(before > 0);
	began = now_ms();
	for (kicks = 0; now_ms() < began + KICKING_MS; kicks++)
		CHECK(write(g.peer.f.drv[kicks % 2].kick_fd, &one, sizeof(one)) > 0 || errno == EAGAIN);
	after = sleeps();
	fprintf(stderr, "# %llu kicks, %llu sleeps\n", (unsigned long long)kicks, (unsigned long long)(after - before));
	CHECK(kicks > (u64)10 * VAIN_KICKS && after - before > VAIN_KICKS);
	CHECK(after - before <= 2 * 2 * (VAIN_KICKS + (now_ms() - began + 1) * 1000 / VAIN_US));
	guest_end(&g);
}

const struct test hostile_tests[] = {
	{ "200,000 credit requests without a buffer for the answer: one answer, no memory", credit_requests },
	{ "packets without a connection: 256 answers wait, the rest stays in the ring", unknown_flood },
	{ "a window of packets of one byte: bounded memory, no reset", tiny_packets },
	{ "acknowledging what never came, sending beyond the window: EPROTO", lies_about_credit },
	{ "headers that lie are refused for their reason", bad_headers },
	{ "chains that no driver makes: the ring breaks, its connections end, a restart helps", bad_chains },
	{ "receive buffers that are none", bad_buffers },
	{ "memory that is unmapped under the device", unmapped },
	{ "a guest cannot speak for another", forged },
	{ "closed connections that a guest does not agree to: some wait, the others are reset", orphans },
	{ "resets that a guest does not take: some wait, of the others it hears when it asks", resets_that_wait },
	{ "kicks without a packet: the device's threads rest", kicks_in_vain },
	{ "all that a guest can make the host hold, at once: 16 MiB at most", all_limits },
	{ NULL, NULL },
};
