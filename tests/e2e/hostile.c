// SPDX-License-Identifier: BSD-2-Clause
/* Guests and front-ends that break the rules: each reason is counted, and nobody else notices. */
#include "fixture.h"
#include "tests.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void begin(struct fix *f)
{
	fix_daemon(f, NULL);
	fix_guest(f, 128, 3776);
}

static void bad_headers(void)
{
	struct vsp_hdr hdr;
	struct vsp_wire wire;
	struct fix f;
	u64 at;

	begin(&f);
	hdr = fix_hdr(1000, 50, VSP_OP_RW);
	hdr.src.cid = 8;
	fix_send(&f, hdr);
	fix_reject(&f, "src_cid", 1);
	hdr = fix_hdr(1000, 50, VSP_OP_RW);
	hdr.dst.cid = VSP_CID_ANY;
	fix_send(&f, hdr);
	fix_reject(&f, "dst_cid", 1);
	hdr = fix_hdr(1000, 50, VSP_OP_RW);
	hdr.type = 9;
	fix_send(&f, hdr);
	fix_reject(&f, "type", 1);
	hdr = fix_hdr(1000, 50, 55);
	fix_send(&f, hdr);
	fix_reject(&f, "op", 1);
	hdr = fix_hdr(1000, 50, VSP_OP_RW);
	hdr.len = 100;
	CHECK(peer_send(&f.peer, hdr, f.buf, 50, PEER_TWO));
	fix_reject(&f, "len", 1);
	hdr.len = VSP_MAX_PAYLOAD + 1;
	CHECK(peer_send(&f.peer, hdr, f.peer.f.mem, VSP_MAX_PAYLOAD + 1, PEER_TWO));
	fix_reject(&f, "too_big", 1);
	/* By hand: the upper half of a CID, and a chain that ends within the header. */
	at = peer_scratch(&f.peer);
	wire = vsp_encode(fix_hdr(1000, 50, VSP_OP_RW));
	wire.src_cid |= cpu_to_le64(1ull << 40);
	memcpy(f.peer.f.mem + at, &wire, sizeof(wire));
	vu_drv_add(&f.peer.f.drv[1], &(struct vu_seg){ .gpa = vu_front_gpa(at), .len = VSP_HDR_LEN }, 1);
	vu_drv_add(&f.peer.f.drv[1], &(struct vu_seg){ .gpa = vu_front_gpa(at), .len = VSP_HDR_LEN - 1 }, 1);
	vu_drv_publish(&f.peer.f.drv[1]);
	fix_reject(&f, "cid_high", 1);
	fix_reject(&f, "short", 1);
	fix_end(&f);
}

static void bad_flows(void)
{
	struct vsp_hdr hdr;
	struct fix f;
	int l;

	begin(&f);
	l = fix_listener(&f, 1000);
	fix_send(&f, fix_hdr(1000, 49, VSP_OP_RW));
	fix_reject(&f, "no_flow", 1);
	fix_expect(&f, VSP_OP_RST);

	fix_open(&f, l, 1000, 50);
	fix_send(&f, fix_hdr(1000, 50, VSP_OP_RESPONSE));
	fix_reject(&f, "state", 1);

	hdr = fix_hdr(1000, 50, VSP_OP_CREDIT_UPDATE);
	hdr.fwd_cnt = 1;
	fix_send(&f, hdr);
	fix_reject(&f, "fwd_cnt", 1);
	fix_expect(&f, VSP_OP_RST);

	/* What cannot be understood ends the connection that it was for, behind what came before it. */
	for (u32 i = 0; i < 2; i++) {
		int other = fix_open(&f, l, 1000, 60 + 2 * i), host = fix_open(&f, l, 1000, 61 + 2 * i);

		hdr = fix_hdr(1000, 61 + 2 * i, VSP_OP_RW);
		hdr.len = 50;
		memset(f.buf, 'x', 150);
		CHECK(peer_send(&f.peer, hdr, f.buf, 50, PEER_TWO));
		if (i)
			hdr.len = 100;
		else
			hdr.op = 55;
		CHECK(peer_send(&f.peer, hdr, f.buf, 50, PEER_TWO));
		CHECK(fix_expect(&f, VSP_OP_RST).dst.port == 61 + 2 * i);
		CHECK(fix_read(host, f.buf, 100) == 50);
		close(host);
		hdr = fix_hdr(1000, 60 + 2 * i, VSP_OP_RW);
		hdr.len = 50;
		CHECK(peer_send(&f.peer, hdr, f.buf, 50, PEER_TWO));
		CHECK(fix_read(other, f.buf, 50) == 50);
		close(other);
		fix_expect(&f, VSP_OP_SHUTDOWN);
		fix_send(&f, fix_hdr(1000, 60 + 2 * i, VSP_OP_RST));
	}

	fix_open(&f, l, 1000, 51);
	hdr = fix_hdr(1000, 51, VSP_OP_SHUTDOWN);
	hdr.flags = VSP_SHUTDOWN_SEND;
	fix_send(&f, hdr);
	hdr = fix_hdr(1000, 51, VSP_OP_RW);
	hdr.len = 1;
	fix_send(&f, hdr);
	fix_reject(&f, "after_end", 1);
	fix_end(&f);
}

/*
 * A second answer changes nothing; behind payload it says that this was of an attempt that was given up, and that is
 * the end. Either may come last: the host asked, or the guest did.
 */
static void answered_twice(void)
{
	struct vsp_hdr hdr, payload;
	struct fix f;
	int l;

	begin(&f);
	l = fix_listener(&f, 1000);
	for (u32 i = 0; i < 2; i++) {
		int fd = i ? fix_open(&f, l, 1000, 50) : fix_dial(&f, 50);

		hdr = fix_hdr(i ? 1000 : fix_expect(&f, VSP_OP_REQUEST).src.port, 50, VSP_OP_RESPONSE);
		if (!i) {
			fix_send(&f, hdr);
			CHECK(fix_ok(fd) == hdr.dst.port);
		}
		fix_send(&f, hdr);
		fix_reject(&f, "state", 2 * i + 1);
		payload = hdr;
		payload.op = VSP_OP_RW;
		payload.len = 10;
		CHECK(peer_send(&f.peer, payload, f.buf, 10, PEER_TWO));
		CHECK(fix_read(fd, f.buf, 10) == 10);
		fix_send(&f, hdr);
		CHECK(fix_expect(&f, VSP_OP_RST).src.port == hdr.dst.port);
		fix_reject(&f, "state", 2 * i + 2);
		CHECK(recv(fd, f.buf, 1, 0) == 0);
		close(fd);
	}
	fix_end(&f);
}

static void beyond_the_window(void)
{
	static const char *const args[] = { "--tx-buffer-size", "65536", NULL };
	struct vsp_hdr hdr = fix_hdr(1000, 50, VSP_OP_RW);
	struct fix f;

	fix_daemon(&f, args);
	fix_guest(&f, 128, 3776);
	fix_open(&f, fix_listener(&f, 1000), 1000, 50);
	/* Nobody reads: the socket holds some, the window the rest. */
	hdr.len = 65536;
	for (u32 i = 0; i < 64; i++)
		CHECK(peer_send(&f.peer, hdr, f.buf, hdr.len, PEER_TWO));
	fix_reject(&f, "credit", 1);
	fix_end(&f);
}

/* A guest that asks for resets and does not take them: its ring waits, our memory does not grow. */
static void flood_of_replies(void)
{
	struct vsp_hdr hdr;
	struct fix f;
	u32 answers = 0;

	fix_daemon(&f, NULL);
	fix_guest(&f, 1024, 3776);
	/* Take the receive buffers away. */
	f.peer.f.drv[0].avail_idx = 0;
	for (u32 i = 0; i < 1000; i++)
		CHECK(peer_send(&f.peer, fix_hdr(1000, i, VSP_OP_RW), NULL, 0, PEER_ONE));
	while (peer_recv(&f.peer, &hdr, NULL, 300))
		answers += hdr.op == VSP_OP_RST;
	CHECK(answers == 1000);
	fix_end(&f);
}

/* Chains that no driver would make; a fresh guest for each, since the ring is broken afterwards. */
struct bad_chain {
	const char *reason;
	void (*make)(struct fix *f, struct vu_drv *d, u64 gpa);
};

static void put(struct vu_drv *d, u32 i, u64 gpa, u32 len, u16 flags, u16 next)
{
	d->desc[i] =
		(struct vsp_wire_desc){ cpu_to_le64(gpa), cpu_to_le32(len), cpu_to_le16(flags), cpu_to_le16(next) };
}

static void make_avail(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)f;
	put(d, 0, gpa, VSP_HDR_LEN, 0, 0);
	d->avail_idx = (u16)(d->avail_idx + d->size + 1);
}

static void make_head(struct fix *f, struct vu_drv *d, u64 gpa)
{
	__le16 head = cpu_to_le16(500);

	(void)f;
	(void)gpa;
	memcpy(d->avail + vsp_avail_slot_offset(vsp_ring_slot(d->avail_idx++, d->size)), &head, sizeof(head));
}

static void offer(struct vu_drv *d)
{
	d->avail_idx++;
}

static void make_loop(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)f;
	put(d, 0, gpa, 16, VSP_DESC_NEXT, 0);
	offer(d);
}

static void make_next(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)f;
	put(d, 0, gpa, 16, VSP_DESC_NEXT, 200);
	offer(d);
}

static void make_writable(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)f;
	put(d, 0, gpa, VSP_HDR_LEN, VSP_DESC_WRITE, 0);
	offer(d);
}

static void make_nowhere(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)f;
	(void)gpa;
	put(d, 0, 0x10, VSP_HDR_LEN, 0, 0);
	offer(d);
}

static void make_past_end(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)gpa;
	put(d, 0, vu_front_gpa(f->peer.f.opts.memory - 10), VSP_HDR_LEN, 0, 0);
	offer(d);
}

static void make_wrap(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)f;
	(void)gpa;
	put(d, 0, UINT64_MAX - 3, VSP_HDR_LEN, 0, 0);
	offer(d);
}

static void make_odd_table(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)f;
	put(d, 0, gpa, 17, VSP_DESC_INDIRECT, 0);
	offer(d);
}

static void make_nested_table(struct fix *f, struct vu_drv *d, u64 gpa)
{
	struct vsp_wire_desc *table = (void *)(f->peer.f.mem + peer_scratch(&f->peer));

	table[0] = (struct vsp_wire_desc){ cpu_to_le64(gpa), cpu_to_le32(16), cpu_to_le16(VSP_DESC_INDIRECT), 0 };
	put(d, 0, gpa, 16, VSP_DESC_INDIRECT, 0);
	offer(d);
}

static void make_table_nowhere(struct fix *f, struct vu_drv *d, u64 gpa)
{
	(void)f;
	(void)gpa;
	put(d, 0, 0x1000, 64, VSP_DESC_INDIRECT, 0);
	offer(d);
}

static void broken_rings(void)
{
	static const struct bad_chain bad[] = {
		{ "avail", make_avail },	  { "head", make_head },
		{ "chain", make_loop },		  { "head", make_next },
		{ "order", make_writable },	  { "memory", make_nowhere },
		{ "memory", make_past_end },	  { "memory", make_wrap },
		{ "indirect", make_odd_table },	  { "indirect", make_nested_table },
		{ "memory", make_table_nowhere },
	};
	struct fix f;
	char c;

	for (u32 i = 0; i < ARRAY_SIZE(bad); i++) {
		int l, fd;

		begin(&f);
		l = fix_listener(&f, 1000);
		fd = fix_open(&f, l, 1000, 50);
		vu_drv_publish(&f.peer.f.drv[1]);
		/* Head 0 and slot whichever: nothing else is in flight. */
		memset(f.peer.f.drv[1].avail + 4, 0, f.peer.f.drv[1].size * 2);
		bad[i].make(&f, &f.peer.f.drv[1], vu_front_gpa(peer_scratch(&f.peer)));
		vu_drv_publish(&f.peer.f.drv[1]);
		fix_reject(&f, bad[i].reason, 1);
		/* The other direction goes on. */
		fix_write(fd, "x", 1);
		CHECK(fix_expect(&f, VSP_OP_RW).len == 1);
		/* And a new session finds everything as new. */
		peer_close(&f.peer);
		CHECK(read(fd, &c, 1) <= 0);
		fix_guest(&f, 128, 3776);
		fix_open(&f, l, 1000, 51);
		fix_end(&f);
	}
}

static void readable_receive_buffer(void)
{
	struct fix f;

	fix_daemon(&f, NULL);
	CHECK(!peer_open(&f.peer, f.socket, 4, 3776, false, FEATURES));
	for (u32 i = 0; i < 4; i++)
		f.peer.f.drv[0].desc[i].flags = 0;
	fix_dial(&f, 5);
	fix_reject(&f, "order", 1);
	fix_end(&f);
}

static int raw(struct fix *f)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(sa.sun_path, f->socket, sizeof(sa.sun_path) - 1);
	CHECK(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

static void bad_messages(void)
{
	static const u32 heads[][3] = {
		{ 1, 2, 0 },
		{ 1, 1, 100000 },
		{ 999, 1, 0 },
		{ 5, 1, 4 },
		{ VU_SET_VRING_NUM, 1, 4 },
		{ 0xffffffff, 1, 8 },
		{ VU_SET_FEATURES, 1, 0 },
		{ VU_GET_CONFIG, 1, 4 },
		{ VU_SET_VRING_KICK, 1, 8 },
		{ VU_ADD_MEM_REG, 1, 40 },
	};
	struct fix f;
	u32 fds;
	char c;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	peer_close(&f.peer);
	fds = fix_fds(&f);
	for (u32 i = 0; i < ARRAY_SIZE(heads); i++) {
		char body[64] = { 0 };
		int fd = raw(&f);

		fix_write(fd, heads[i], sizeof(heads[i]));
		fix_write(fd, body, heads[i][2] < sizeof(body) ? heads[i][2] : 0);
		CHECK(recv(fd, &c, 1, 0) <= 0);
		close(fd);
	}
	fix_guest(&f, 128, 3776);
	peer_close(&f.peer);
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; fix_fds(&f) > fds;)
		CHECK(fix_now_ms() < until);
	fix_end(&f);
}

static void too_many_descriptors(void)
{
	char control[CMSG_SPACE(20 * sizeof(int))] = { 0 };
	u32 head[3] = { VU_SET_OWNER, 1, 0 };
	struct iovec iov = { head, sizeof(head) };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	struct fix f;
	u32 fds;

	fix_daemon(&f, NULL);
	fix_guest(&f, 128, 3776);
	peer_close(&f.peer);
	fds = fix_fds(&f);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(20 * sizeof(int));
	for (u32 i = 0; i < 5; i++) {
		int fd = raw(&f);
		char ch;

		for (u32 k = 0; k < 20; k++)
			memcpy(CMSG_DATA(c) + k * sizeof(int), &fd, sizeof(int));
		CHECK(sendmsg(fd, &mh, 0) == sizeof(head));
		CHECK(recv(fd, &ch, 1, 0) <= 0);
		close(fd);
	}
	fix_guest(&f, 128, 3776);
	peer_close(&f.peer);
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; fix_fds(&f) > fds;)
		CHECK(fix_now_ms() < until);
	fix_end(&f);
}

/* Memory that vanishes under the device ends this guest's session, not the daemon. */
static void truncated_memory(void)
{
	struct fix f;
	int l, fd;
	char c;

	begin(&f);
	l = fix_listener(&f, 1000);
	fd = fix_open(&f, l, 1000, 50);
	CHECK(!ftruncate(f.peer.f.memfd, 0));
	fix_write(fd, "boom", 4);
	while (read(fd, &c, 1) > 0)
		;
	/* Our own mapping is gone as well: close without touching it. */
	peer_close(&f.peer);
	fix_guest(&f, 128, 3776);
	fix_open(&f, l, 1000, 50);
	fix_end(&f);
}

const struct test hostile_tests[] = {
	{ "hostile: headers", bad_headers },
	{ "hostile: flows", bad_flows },
	{ "hostile: a connection answered twice", answered_twice },
	{ "hostile: beyond the window", beyond_the_window },
	{ "hostile: a flood of replies", flood_of_replies },
	{ "hostile: broken rings", broken_rings },
	{ "hostile: a receive buffer that is readable", readable_receive_buffer },
	{ "hostile: vhost-user messages", bad_messages },
	{ "hostile: too many descriptors", too_many_descriptors },
	{ "hostile: memory that is taken away", truncated_memory },
	{ 0 },
};
