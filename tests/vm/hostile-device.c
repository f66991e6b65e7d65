// SPDX-License-Identifier: BSD-2-Clause
/*
 * hostile-device.c - a vhost-user vsock device that does what it is told, however wrong
 *
 * It serves one front-end at the socket named on its command line. Commands come from standard input, one per line;
 * each is answered by one line, "ok ...", "pkt ..." or "err ...". What the guest sends is kept until somebody asks.
 * Nothing is answered by itself, but for ports that were told to echo: these behave, as the bystanders of an attack.
 *
 *   echo PORT                serve connections to this port well: accept, send back what comes, close
 *   pour PORT SIZE           the same, but who says anything is sent packets of SIZE bytes, as fast as credit allows
 *   send FIELD=VALUE...      a packet to the guest; see parse_send()
 *   pending, cancel          packets that wait for receive buffers; forget these
 *   expect FIELD=VALUE...    the next packet from the guest that matches; waits up to ms=
 *   count FIELD=VALUE...     how many such packets are there; clear: forget all
 *   hold on|late|off         keep the transmit buffers; off gives all of them back, and so does late, but it leaves to
 *                            off to look whether the guest wants an interrupt for them
 *   head ring=R head=H len=N skip=S   a used entry of one's own making, in the ring 0 (rx) or 1 (tx)
 *   event id=N len=N         an event, into the event ring that is searched for in the guest's memory: the front-end
 *                            keeps this ring to itself and only its interrupt is shared
 *   storm                    events without end, until the guest stops its device; after a first event
 *   offer FEATURES           the features of the device type, a mask, for the next driver that asks; none before
 *   stat                     what is going on
 */
#include "vu/dev.h"

#include "kernel/proto/credit.h"
#include "kernel/proto/meter.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	INBOX_MAX = 1 << 16,
	HELD_MAX = 1 << 10,
	ECHO_PORTS = 8,
	ECHO_FLOWS = 64,
	ECHO_QUEUE = 256,
	ECHO_WINDOW = 256 << 10,
	POUR_BURST = 64, /* packets that the guest is told of together, at most */
	LINE_MAX_BYTES = 1024,
	GUEST_PAGE = 4096,
	EVENT_BUFFERS = 8, /* what the driver posts */
	EVENT_LEN = 4,
	STORM_EVENT = 77,
	STORM_BURST = 1 << 20,
	SEND_MS = 20000, /* until a guest that takes nothing is stuck, unless the command says; times SLUICE_PATIENCE */
	EXPECT_MS = 10000,
};

/* Feature bits that belong to the device type, of the first word. */
static const u64 TYPE_FEATURES = (1 << 24) - 1;

struct range {
	struct vsp_wire wire;
	u64 left;  /* copies to go */
	u32 step;  /* added to the source port from one to the next */
	u32 bytes; /* payload that is really there */
	u32 at;	   /* offset of the payload in its stream */
	u32 used;  /* what is claimed to have been written */
};

/* What the guest sent. */
struct kept {
	struct vsp_wire wire;
	u32 crc; /* of the payload */
};

/* A port of ours that behaves: one connection. What it pours is metered, as vsockd does it. */
struct echo_flow {
	bool live;
	struct vsp_addr guest;
	u32 port;
	u32 fwd_cnt;
	bool pours;
	bool asked;
	struct vsp_txc txc;
	struct vsp_meter meter;
};

struct match {
	const char *keys[16];
	u64 values[16];
	u32 n;
};

/* The event ring, where it was found; size 0 before. */
struct event_ring {
	u8 *desc;
	u8 *avail;
	u8 *used;
	u32 size;
};

static struct {
	struct vu_dev dev;
	int listen_fd;
	int kicks[VU_RINGS_MAX];
	u64 guest_cid;

	struct range script; /* being sent */
	bool script_busy;    /* somebody waits for its end */
	s64 script_until;
	struct range own[ECHO_QUEUE]; /* of the echo ports */
	u32 own_first, own_n;
	u8 *own_data[ECHO_QUEUE];

	bool hold;
	u16 held[HELD_MAX];
	u32 n_held;

	struct kept *inbox;
	u32 first, n;
	u64 lost;

	struct match expect;
	bool expecting;
	s64 expect_until;

	u32 echo_ports[ECHO_PORTS];
	u32 n_echo_ports;
	u32 pour_port, pour_size;
	struct echo_flow flows[ECHO_FLOWS];
	u64 from_guest, to_guest;

	struct event_ring events;
	bool storm;
} g;

static s64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (s64)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Byte @at of every stream of payload; the program in the guest knows it too. */
static u8 pattern(u32 at)
{
	return (u8)(at ^ (at >> 8) * 31u);
}

/* ---- to the guest ---- */

static void fill_payload(const struct range *r, u8 *to, u32 from, u32 len, const u8 *data)
{
	for (u32 i = 0; i < len; i++)
		to[i] = data ? data[from + i] : pattern(r->at + from + i);
}

/* Write one packet into a chain of the guest's; as much as fits. */
static void write_chain(const struct range *r, const struct iovec *iov, u32 niov, const u8 *data)
{
	const u8 *hdr = (const u8 *)&r->wire;
	u32 at = 0, total = VSP_HDR_LEN + r->bytes;

	for (u32 i = 0; i < niov; i++) {
		u8 *to = iov[i].iov_base;
		u32 room = (u32)iov[i].iov_len;
		u32 n;

		if (at < VSP_HDR_LEN) {
			n = room < VSP_HDR_LEN - at ? room : VSP_HDR_LEN - at;
			memcpy(to, hdr + at, n);
			at += n;
			to += n;
			room -= n;
		}
		n = room < total - at ? room : total - at;
		fill_payload(r, to, at - VSP_HDR_LEN, n, data);
		at += n;
	}
}

/* Returns false without a buffer. */
static bool put_packet(const struct range *r, const u8 *data)
{
	static struct iovec iov[VU_CHAIN_IOV_MAX];
	struct vu_ring *ring = &g.dev.rings[VU_RING_RX];
	struct vu_pop p = vu_ring_pop(ring, &g.dev.mem, true, iov, VU_CHAIN_IOV_MAX);

	if (p.what != VU_POP_CHAIN)
		return false;
	write_chain(r, iov, p.niov, data);
	vu_ring_use(ring, p.head, r->used);
	g.to_guest++;
	return true;
}

static void echo_send(const struct echo_flow *f, u16 op, const u8 *data, u32 len);

static bool may_pour(const struct echo_flow *f)
{
	return f->live && f->pours && vsp_txc_space(&f->txc) >= g.pour_size &&
	       vsp_meter_fits(&f->meter, 1, f->txc.peer_buf_alloc);
}

static bool any_may_pour(void)
{
	for (u32 i = 0; i < ECHO_FLOWS; i++) {
		if (may_pour(&g.flows[i]))
			return true;
	}
	return false;
}

static bool pour(struct echo_flow *f)
{
	struct vsp_hdr hdr = {
		.src = { VSP_CID_HOST, f->port },
		.dst = f->guest,
		.len = g.pour_size,
		.type = VSP_TYPE_STREAM,
		.op = VSP_OP_RW,
		.buf_alloc = ECHO_WINDOW,
		.fwd_cnt = f->fwd_cnt,
	};
	struct range r = { .wire = vsp_encode(hdr), .bytes = g.pour_size, .used = VSP_HDR_LEN + g.pour_size };
	bool any = false;

	for (u32 i = 0; i < POUR_BURST && may_pour(f) && put_packet(&r, NULL); i++) {
		vsp_txc_sent(&f->txc, vsp_txc_take(&f->txc, g.pour_size));
		vsp_meter_sent(&f->meter, f->txc.sent_cnt, f->txc.peer_buf_alloc);
		any = true;
	}
	if (f->pours && !f->asked && vsp_meter_ask(&f->meter, f->txc.peer_buf_alloc)) {
		f->asked = true;
		echo_send(f, VSP_OP_CREDIT_REQUEST, NULL, 0);
	}
	return any;
}

/* Echo ports first. Returns true if something was sent. */
static bool send_some(void)
{
	bool any = false;

	for (u32 i = 0; i < ECHO_FLOWS; i++)
		any |= g.flows[i].live && pour(&g.flows[i]);

	while (g.own_n && put_packet(&g.own[g.own_first], g.own_data[g.own_first])) {
		free(g.own_data[g.own_first]);
		g.own_data[g.own_first] = NULL;
		g.own_first = (g.own_first + 1) % ECHO_QUEUE;
		g.own_n--;
		any = true;
	}
	while (g.script.left && put_packet(&g.script, NULL)) {
		g.script.left--;
		g.script.wire.src_port = cpu_to_le32(le32_to_cpu(g.script.wire.src_port) + g.script.step);
		any = true;
	}
	vu_ring_publish(&g.dev.rings[VU_RING_RX]);
	if (g.script_busy && !g.script.left) {
		g.script_busy = false;
		puts("ok");
	}
	return any;
}

/* ---- ports that behave ---- */

static void echo_send(const struct echo_flow *f, u16 op, const u8 *data, u32 len)
{
	struct range *r = &g.own[(g.own_first + g.own_n) % ECHO_QUEUE];
	struct vsp_hdr hdr = {
		.src = { VSP_CID_HOST, f->port },
		.dst = f->guest,
		.len = len,
		.type = VSP_TYPE_STREAM,
		.op = op,
		.buf_alloc = ECHO_WINDOW,
		.fwd_cnt = f->fwd_cnt,
	};

	if (g.own_n == ECHO_QUEUE)
		return;
	*r = (struct range){ .wire = vsp_encode(hdr), .left = 1, .bytes = len, .used = VSP_HDR_LEN + len };
	if (len) {
		u8 *copy = malloc(len);

		memcpy(copy, data, len);
		g.own_data[(g.own_first + g.own_n) % ECHO_QUEUE] = copy;
	}
	g.own_n++;
}

static bool is_echo_port(u32 port)
{
	if (g.pour_size && port == g.pour_port)
		return true;
	for (u32 i = 0; i < g.n_echo_ports; i++) {
		if (g.echo_ports[i] == port)
			return true;
	}
	return false;
}

static struct echo_flow *echo_flow(const struct vsp_hdr *h, bool create)
{
	struct echo_flow *free_one = NULL;

	for (u32 i = 0; i < ECHO_FLOWS; i++) {
		struct echo_flow *f = &g.flows[i];

		if (f->live && vsp_addr_eq(f->guest, h->src) && f->port == h->dst.port)
			return f;
		if (!f->live)
			free_one = f;
	}
	if (create && free_one)
		*free_one = (struct echo_flow){
			.live = true, .guest = h->src, .port = h->dst.port, .txc = vsp_txc_init(VSP_WINDOW_MAX)
		};
	return create ? free_one : NULL;
}

static void echo_packet(const struct vsp_hdr *h, const u8 *data)
{
	struct echo_flow *f = echo_flow(h, h->op == VSP_OP_REQUEST);

	if (!f)
		return;
	vsp_txc_update(&f->txc, (struct vsp_stamp){ h->buf_alloc, h->fwd_cnt });
	vsp_meter_acked(&f->meter, f->txc.peer_fwd_cnt);
	/* Any answer counts: as long as packets are unread the guest is asked again. */
	if (h->op == VSP_OP_CREDIT_UPDATE)
		f->asked = false;
	switch (h->op) {
	case VSP_OP_REQUEST:
		f->fwd_cnt = 0;
		echo_send(f, VSP_OP_RESPONSE, NULL, 0);
		break;
	case VSP_OP_RW:
		f->fwd_cnt += h->len;
		f->pours = g.pour_size && f->port == g.pour_port;
		if (!f->pours)
			echo_send(f, VSP_OP_RW, data, h->len);
		break;
	case VSP_OP_CREDIT_REQUEST:
		echo_send(f, VSP_OP_CREDIT_UPDATE, NULL, 0);
		break;
	case VSP_OP_SHUTDOWN:
		if ((h->flags & VSP_SHUTDOWN_BOTH) == VSP_SHUTDOWN_BOTH) {
			echo_send(f, VSP_OP_RST, NULL, 0);
			f->live = false;
		}
		break;
	case VSP_OP_RST:
		f->live = false;
		break;
	default:
		break;
	}
}

/* ---- from the guest ---- */

static bool field(const struct vsp_wire *w, const char *key, u64 *value)
{
	const struct {
		const char *name;
		u64 value;
	} all[] = {
		{ "src_cid", le64_to_cpu(w->src_cid) },
		{ "dst_cid", le64_to_cpu(w->dst_cid) },
		{ "src", le32_to_cpu(w->src_port) },
		{ "dst", le32_to_cpu(w->dst_port) },
		{ "len", le32_to_cpu(w->len) },
		{ "type", le16_to_cpu(w->type) },
		{ "op", le16_to_cpu(w->op) },
		{ "flags", le32_to_cpu(w->flags) },
		{ "buf_alloc", le32_to_cpu(w->buf_alloc) },
		{ "fwd_cnt", le32_to_cpu(w->fwd_cnt) },
	};

	for (u32 i = 0; i < ARRAY_SIZE(all); i++) {
		if (!strcmp(all[i].name, key)) {
			*value = all[i].value;
			return true;
		}
	}
	return false;
}

static bool matches(const struct vsp_wire *w, const struct match *m)
{
	for (u32 i = 0; i < m->n; i++) {
		u64 value;

		if (field(w, m->keys[i], &value) && value != m->values[i])
			return false;
	}
	return true;
}

static void print_packet(const struct kept *kept)
{
	const struct vsp_wire *w = &kept->wire;

	printf("pkt src_cid=%" PRIu64 " dst_cid=%" PRIu64 " src=%u dst=%u len=%u type=%u op=%u flags=%u buf_alloc=%u "
	       "fwd_cnt=%u crc=%u\n",
	       (u64)le64_to_cpu(w->src_cid), (u64)le64_to_cpu(w->dst_cid), le32_to_cpu(w->src_port),
	       le32_to_cpu(w->dst_port), le32_to_cpu(w->len), le16_to_cpu(w->type), le16_to_cpu(w->op),
	       le32_to_cpu(w->flags), le32_to_cpu(w->buf_alloc), le32_to_cpu(w->fwd_cnt), kept->crc);
}

static void forget_at(u32 i)
{
	for (; i + 1 < g.n; i++)
		g.inbox[(g.first + i) % INBOX_MAX] = g.inbox[(g.first + i + 1) % INBOX_MAX];
	g.n--;
}

/* Answer a waiting "expect", if its packet is there or its time is over. */
static void try_expect(void)
{
	if (!g.expecting)
		return;
	for (u32 i = 0; i < g.n; i++) {
		const struct kept *kept = &g.inbox[(g.first + i) % INBOX_MAX];

		if (!matches(&kept->wire, &g.expect))
			continue;
		print_packet(kept);
		forget_at(i);
		g.expecting = false;
		return;
	}
	if (now_ms() >= g.expect_until) {
		g.expecting = false;
		puts("err timeout");
	}
}

static u32 crc32(const u8 *bytes, u32 len)
{
	u32 crc = ~0u;

	for (u32 i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (u32 bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static void keep_packet(const struct vsp_wire *w, const u8 *data, u32 len)
{
	if (g.n == INBOX_MAX) {
		g.first = (g.first + 1) % INBOX_MAX;
		g.n--;
		g.lost++;
	}
	g.inbox[(g.first + g.n) % INBOX_MAX] = (struct kept){ *w, crc32(data, len) };
	g.n++;
}

static void take_packet(const struct iovec *iov, u32 niov)
{
	static u8 bytes[VSP_HDR_LEN + VSP_MAX_PAYLOAD];
	struct vsp_filter all = { .my_cid = VSP_CID_ANY, .peer_cid = VSP_CID_ANY, .types = ~0u };
	struct vsp_decoded d;
	struct vsp_wire w;
	u32 have = 0;

	for (u32 i = 0; i < niov; i++) {
		u32 n = (u32)iov[i].iov_len;

		if (n > sizeof(bytes) - have)
			n = (u32)sizeof(bytes) - have;
		memcpy(bytes + have, iov[i].iov_base, n);
		have += n;
	}
	memcpy(&w, bytes, sizeof(w));
	d = vsp_decode(&w, have, all);
	g.from_guest++;
	if (d.why == VSP_OK && d.hdr.dst.cid == VSP_CID_HOST && is_echo_port(d.hdr.dst.port))
		echo_packet(&d.hdr, bytes + VSP_HDR_LEN);
	else
		keep_packet(&w, bytes + VSP_HDR_LEN, have > VSP_HDR_LEN ? have - VSP_HDR_LEN : 0);
}

static bool receive_some(void)
{
	static struct iovec iov[VU_CHAIN_IOV_MAX];
	struct vu_ring *ring = &g.dev.rings[VU_RING_TX];
	bool any = false;

	for (;;) {
		struct vu_pop p = vu_ring_pop(ring, &g.dev.mem, false, iov, VU_CHAIN_IOV_MAX);

		if (p.what != VU_POP_CHAIN)
			break;
		any = true;
		take_packet(iov, p.niov);
		if (g.hold && g.n_held < HELD_MAX)
			g.held[g.n_held++] = p.head;
		else
			vu_ring_use(ring, p.head, 0);
	}
	vu_ring_publish(ring);
	return any;
}

static void give_held(bool late)
{
	struct vu_ring *ring = &g.dev.rings[VU_RING_TX];
	u16 signalled = ring->signalled;
	int call_fd = ring->call_fd;

	for (u32 i = 0; i < g.n_held; i++)
		vu_ring_use(ring, g.held[i], 0);
	g.n_held = 0;
	if (!vu_ring_live(ring))
		return;
	if (late)
		ring->call_fd = -1;
	/* Once more, if they were published late. */
	ring->published = ring->signalled;
	vu_ring_publish(ring);
	if (!late)
		return;
	ring->call_fd = call_fd;
	ring->signalled = signalled;
}

/* ---- the event ring, which nobody gave us ---- */

static u16 get16(const u8 *p)
{
	__le16 v;

	memcpy(&v, p, sizeof(v));
	return le16_to_cpu(v);
}

/* Does the table of a ring lie here whose first buffers are consecutive, of four bytes, for the device to write? */
static bool looks_like_events(const u8 *page)
{
	struct vsp_wire_desc d[EVENT_BUFFERS];

	memcpy(d, page, sizeof(d));
	for (u32 i = 0; i < EVENT_BUFFERS; i++) {
		if (le32_to_cpu(d[i].len) != EVENT_LEN || !(le16_to_cpu(d[i].flags) & VSP_DESC_WRITE) ||
		    le64_to_cpu(d[i].addr) != le64_to_cpu(d[0].addr) + i * EVENT_LEN)
			return false;
	}
	return le64_to_cpu(d[0].addr) != 0;
}

static bool place_event_ring(struct event_ring *e, u8 *page, const u8 *end)
{
	for (u32 size = EVENT_BUFFERS; size <= 1024; size *= 2) {
		u32 avail = (u32)vsp_desc_bytes(size);
		u32 used = (avail + (u32)vsp_avail_bytes(size) + 63) & ~63u;

		if (page + used + vsp_used_bytes(size) > end)
			return false;
		if (get16(page + avail + 2) - get16(page + used + 2) != EVENT_BUFFERS || get16(page + avail + 6) != 1 ||
		    get16(page + avail + 18) != EVENT_BUFFERS - 1)
			continue;
		*e = (struct event_ring){ .desc = page, .avail = page + avail, .used = page + used, .size = size };
		return true;
	}
	return false;
}

static bool find_event_ring(struct event_ring *e)
{
	for (u32 i = 0; i < g.dev.mem.n; i++) {
		const struct vu_region *r = &g.dev.mem.regions[i];

		for (u64 at = 0; at + GUEST_PAGE <= r->size; at += GUEST_PAGE) {
			if (looks_like_events(r->base + at) && place_event_ring(e, r->base + at, r->base + r->size))
				return true;
		}
	}
	return false;
}

/* Use the next buffer of the ring. False without one. */
static bool use_event(const struct event_ring *e, u32 id, u32 len)
{
	u16 used = get16(e->used + 2);
	u16 head = get16(e->avail + 4 + 2 * (used % e->size));
	__le32 elem[2] = { cpu_to_le32(head), cpu_to_le32(len) }, value = cpu_to_le32(id);
	__le16 idx = cpu_to_le16((u16)(used + 1));
	struct vsp_wire_desc d;
	struct vu_span span;

	if (get16(e->avail + 2) == used)
		return false;
	/* Pairs with the driver's barrier before it moves its index. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	memcpy(&d, e->desc + sizeof(d) * head, sizeof(d));
	span = vu_mem_at(&g.dev.mem, le64_to_cpu(d.addr), EVENT_LEN);
	if (!span.ptr || span.len < EVENT_LEN)
		return false;
	memcpy(span.ptr, &value, EVENT_LEN);
	memcpy(e->used + 4 + sizeof(elem) * (used % e->size), elem, sizeof(elem));
	/* The entry comes before the index that shows it. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	memcpy(e->used + 2, &idx, sizeof(idx));
	return true;
}

static bool interrupt(void)
{
	const u64 one = 1;

	return write(g.dev.rings[VU_RING_RX].call_fd, &one, sizeof(one)) == sizeof(one);
}

static bool send_event(u32 id, u32 len)
{
	/* Found once: the search needs a ring that was never used, and memory that no ring was freed into. */
	if (!g.events.size && !find_event_ring(&g.events))
		return false;
	return use_event(&g.events, id, len) && interrupt();
}

/* Nonsense into every buffer as soon as the driver posts it. */
static void storm_some(void)
{
	for (u32 i = 0; i < STORM_BURST; i++)
		use_event(&g.events, STORM_EVENT, EVENT_LEN);
	interrupt();
}

/* ---- commands ---- */

static bool get(const struct match *m, const char *key, u64 *value)
{
	for (u32 i = 0; i < m->n; i++) {
		if (!strcmp(m->keys[i], key)) {
			*value = m->values[i];
			return true;
		}
	}
	return false;
}

static u64 get_or(const struct match *m, const char *key, u64 otherwise)
{
	u64 value;

	return get(m, key, &value) ? value : otherwise;
}

/* When the command @m has taken too long. */
static s64 deadline(const struct match *m, u64 usual_ms)
{
	const char *patience = getenv("SLUICE_PATIENCE");

	return now_ms() + (s64)(get_or(m, "ms", usual_ms) * (patience ? strtoull(patience, NULL, 10) : 1));
}

static bool parse_fields(char *text, struct match *m)
{
	char *save = NULL;

	m->n = 0;
	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		char *equals = strchr(word, '=');

		if (!equals || m->n == ARRAY_SIZE(m->keys))
			return false;
		*equals = 0;
		m->keys[m->n] = word;
		m->values[m->n++] = strtoull(equals + 1, NULL, 0);
	}
	return true;
}

/*
 * The header's fields by the names of print_packet(), ports as src= and dst=; bytes= of payload, len= if the header is
 * to say another number, used= if the ring is; at= the payload's offset in its stream; times= copies, step= added to
 * the source port from one to the next; ms= to wait for buffers; async=1 not to wait.
 */
static void parse_send(const struct match *m)
{
	struct range *r = &g.script;
	u64 bytes = get_or(m, "bytes", 0);

	if (g.script.left) {
		puts("err busy");
		return;
	}
	*r = (struct range){ .left = get_or(m, "times", 1),
			     .step = (u32)get_or(m, "step", 0),
			     .bytes = (u32)bytes,
			     .at = (u32)get_or(m, "at", 0) };
	r->used = (u32)get_or(m, "used", VSP_HDR_LEN + bytes);
	r->wire.src_cid = cpu_to_le64(get_or(m, "src_cid", VSP_CID_HOST));
	r->wire.dst_cid = cpu_to_le64(get_or(m, "dst_cid", g.guest_cid));
	r->wire.src_port = cpu_to_le32((u32)get_or(m, "src", 0));
	r->wire.dst_port = cpu_to_le32((u32)get_or(m, "dst", 0));
	r->wire.len = cpu_to_le32((u32)get_or(m, "len", bytes));
	r->wire.type = cpu_to_le16((u16)get_or(m, "type", VSP_TYPE_STREAM));
	r->wire.op = cpu_to_le16((u16)get_or(m, "op", VSP_OP_RW));
	r->wire.flags = cpu_to_le32((u32)get_or(m, "flags", 0));
	r->wire.buf_alloc = cpu_to_le32((u32)get_or(m, "buf_alloc", ECHO_WINDOW));
	r->wire.fwd_cnt = cpu_to_le32((u32)get_or(m, "fwd_cnt", 0));
	if (get_or(m, "async", 0)) {
		puts("ok");
		return;
	}
	g.script_busy = true;
	g.script_until = deadline(m, SEND_MS);
}

static void forge_used(const struct match *m)
{
	struct vu_ring *r = &g.dev.rings[get_or(m, "ring", 0) ? VU_RING_TX : VU_RING_RX];
	const u64 one = 1;

	if (!r->used) {
		puts("err no ring");
		return;
	}
	vu_ring_use(r, (u16)get_or(m, "head", 0), (u32)get_or(m, "len", 0));
	r->used_idx = (u16)(r->used_idx + get_or(m, "skip", 0));
	vu_ring_publish(r);
	puts(r->call_fd < 0 || write(r->call_fd, &one, sizeof(one)) == sizeof(one) ? "ok" : "err call");
}

static void count_matches(const struct match *m)
{
	u32 n = 0;

	for (u32 i = 0; i < g.n; i++)
		n += matches(&g.inbox[(g.first + i) % INBOX_MAX].wire, m);
	printf("ok %u\n", n);
}

static void stat_line(void)
{
	printf("ok connected=%d live=%d held=%u inbox=%u lost=%" PRIu64 " from_guest=%" PRIu64 " to_guest=%" PRIu64
	       " pending=%" PRIu64 "\n",
	       g.dev.chan.fd >= 0, vu_ring_live(&g.dev.rings[VU_RING_TX]), g.n_held, g.n, g.lost, g.from_guest,
	       g.to_guest, g.script.left);
}

/* Commands whose arguments are fields. */
static void run_fields(const char *name, struct match *m)
{
	if (!strcmp(name, "send")) {
		parse_send(m);
	} else if (!strcmp(name, "expect")) {
		g.expect = *m;
		g.expecting = true;
		g.expect_until = deadline(m, EXPECT_MS);
	} else if (!strcmp(name, "count")) {
		count_matches(m);
	} else if (!strcmp(name, "head")) {
		forge_used(m);
	} else if (!strcmp(name, "event")) {
		puts(send_event((u32)get_or(m, "id", 0), (u32)get_or(m, "len", EVENT_LEN)) ? "ok" : "err not found");
	} else {
		puts("err unknown command");
	}
}

static void run(char *line)
{
	static char kept[LINE_MAX_BYTES]; /* "expect" looks at its keys later */
	char *args;
	struct match m;

	snprintf(kept, sizeof(kept), "%s", line);
	args = strchr(kept, ' ');
	if (args)
		*args++ = 0;
	else
		args = kept + strlen(kept);
	if (!strcmp(kept, "echo") && g.n_echo_ports < ECHO_PORTS) {
		g.echo_ports[g.n_echo_ports++] = (u32)strtoul(args, NULL, 0);
		puts("ok");
	} else if (!strcmp(kept, "pour")) {
		g.pour_port = (u32)strtoul(args, &args, 0);
		g.pour_size = (u32)strtoul(args, NULL, 0);
		puts("ok");
	} else if (!strcmp(kept, "hold")) {
		g.hold = !strcmp(args, "on");
		if (!g.hold)
			give_held(!strcmp(args, "late"));
		puts("ok");
	} else if (!strcmp(kept, "storm")) {
		g.storm = g.events.size != 0;
		puts(g.storm ? "ok" : "err no event ring");
	} else if (!strcmp(kept, "pending")) {
		printf("ok %" PRIu64 "\n", g.script.left);
	} else if (!strcmp(kept, "cancel")) {
		printf("ok %" PRIu64 "\n", g.script.left);
		g.script.left = 0;
	} else if (!strcmp(kept, "clear")) {
		g.n = 0;
		puts("ok");
	} else if (!strcmp(kept, "offer")) {
		g.dev.offered = (g.dev.offered & ~TYPE_FEATURES) | (strtoull(args, NULL, 0) & TYPE_FEATURES);
		puts("ok");
	} else if (!strcmp(kept, "stat")) {
		stat_line();
	} else if (parse_fields(args, &m)) {
		run_fields(kept, &m);
	} else {
		puts("err bad arguments");
	}
}

/* Whole lines of standard input. Returns false at its end. */
static bool read_commands(void)
{
	static char buffer[LINE_MAX_BYTES];
	static size_t have;
	ssize_t n = read(STDIN_FILENO, buffer + have, sizeof(buffer) - 1 - have);
	char *end;

	if (n <= 0)
		return false;
	have += (size_t)n;
	buffer[have] = 0;
	while ((end = strchr(buffer, '\n')) != NULL) {
		*end = 0;
		run(buffer);
		have -= (size_t)(end + 1 - buffer);
		memmove(buffer, end + 1, have + 1);
	}
	return have < sizeof(buffer) - 1;
}

/* ---- the front-end ---- */

static void drop_kicks(bool all)
{
	for (u32 i = 0; i < VU_RINGS_MAX; i++) {
		if (g.kicks[i] >= 0 && (all || g.kicks[i] != g.dev.rings[i].kick_fd))
			close(g.kicks[i]);
		g.kicks[i] = all ? -1 : g.dev.rings[i].kick_fd;
	}
}

/* The driver begins anew, or went: nothing of what was under way counts any more. */
static void forget_guest(void)
{
	g.n_held = 0;
	g.storm = false;
	while (g.own_n) {
		free(g.own_data[g.own_first]);
		g.own_data[g.own_first] = NULL;
		g.own_first = (g.own_first + 1) % ECHO_QUEUE;
		g.own_n--;
	}
	memset(g.flows, 0, sizeof(g.flows));
}

static void serve_front_end(void)
{
	struct vu_dev_news news = { .facts = VU_DEV_SERVED };

	while (g.dev.chan.fd >= 0 && news.facts & VU_DEV_SERVED && !(news.facts & VU_DEV_ENDED)) {
		bool was_live = vu_ring_live(&g.dev.rings[VU_RING_TX]);

		news = vu_dev_serve(&g.dev);
		drop_kicks(false);
		if (was_live && !vu_ring_live(&g.dev.rings[VU_RING_TX]))
			forget_guest();
	}
	if (news.facts & VU_DEV_ENDED) {
		if (news.why)
			fprintf(stderr, "hostile-device: front-end dropped: %s\n", news.why);
		drop_kicks(true);
		vu_dev_end(&g.dev);
		forget_guest();
	}
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 1)) {
		fprintf(stderr, "hostile-device: cannot listen at %s: %s\n", path, strerror(errno));
		exit(1);
	}
	return fd;
}

static void drain_kick(int fd)
{
	u64 ignored[8];
	ssize_t n = read(fd, ignored, sizeof(ignored));

	(void)n;
}

/* Wait for something to happen. Returns false at the end of standard input. */
static bool wait_and_serve(bool busy)
{
	struct pollfd p[3 + VU_RINGS_MAX] = {
		{ .fd = STDIN_FILENO, .events = POLLIN },
		{ .fd = g.dev.chan.fd < 0 ? g.listen_fd : -1, .events = POLLIN },
		{ .fd = g.dev.chan.fd, .events = POLLIN },
	};
	int timeout = g.expecting || g.script_busy ? 20 : 1000;

	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		p[3 + i] = (struct pollfd){ .fd = g.kicks[i], .events = POLLIN };
	if (poll(p, ARRAY_SIZE(p), busy ? 0 : timeout) < 0)
		return errno == EINTR;
	for (u32 i = 0; i < VU_RINGS_MAX; i++) {
		if (p[3 + i].revents)
			drain_kick(g.kicks[i]);
	}
	if (p[1].revents) {
		int fd = accept4(g.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			vu_dev_begin(&g.dev, fd);
	}
	if (p[2].revents)
		serve_front_end();
	return !p[0].revents || read_commands();
}

/* Ask for kicks; true if there is work already. */
static bool await_rings(void)
{
	bool tx = vu_ring_await(&g.dev.rings[VU_RING_TX]);
	bool rx = vu_ring_await(&g.dev.rings[VU_RING_RX]);

	return tx || (rx && (g.own_n || g.script.left || any_may_pour()));
}

int main(int argc, char **argv)
{
	bool busy = false;

	if (argc != 3) {
		fprintf(stderr, "usage: hostile-device SOCKET GUEST-CID\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	g.inbox = calloc(INBOX_MAX, sizeof(*g.inbox));
	if (!g.inbox || vu_mem_guard())
		return 1;
	g.guest_cid = strtoull(argv[2], NULL, 0);
	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		g.kicks[i] = -1;
	vu_dev_init(&g.dev, 0, g.guest_cid, 1024);
	g.listen_fd = listen_at(argv[1]);
	while (wait_and_serve(busy)) {
		busy = receive_some();
		busy |= send_some();
		if (g.storm) {
			storm_some();
			busy = true;
		}
		try_expect();
		if (g.script_busy && now_ms() >= g.script_until) {
			g.script_busy = false;
			printf("err stuck with %" PRIu64 " left\n", g.script.left);
			g.script.left = 0;
		}
		if (!busy)
			busy = await_rings();
	}
	unlink(argv[1]);
	return 0;
}
