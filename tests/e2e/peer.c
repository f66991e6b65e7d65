// SPDX-License-Identifier: BSD-2-Clause
#include "peer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

/* Memory behind the rings: receive slots, send slots, tables for sending, tables for receiving, scratch. */
u64 peer_scratch(const struct peer *p)
{
	return p->f.opts.memory - (1 << 20);
}

static u64 rx_slot(const struct peer *p, u32 head)
{
	return vu_front_data(&p->f) + (u64)head * PEER_SLOT;
}

static u64 tx_slot(const struct peer *p, u32 head)
{
	return vu_front_data(&p->f) + (u64)(p->f.opts.ring_size + head) * PEER_SLOT;
}

static u64 rx_table(const struct peer *p, u32 head)
{
	return peer_scratch(p) - (u64)(head + 1) * PEER_TABLE;
}

static u64 tx_table(const struct peer *p, u32 head)
{
	return vu_front_data(&p->f) + 2ull * p->f.opts.ring_size * PEER_SLOT + head * (u64)PEER_TABLE;
}

/* As viosock has them: the header, and pages, in a table. */
static bool post_table(struct peer *p)
{
	struct vu_drv *d = &p->f.drv[0];
	u64 gpa = vu_front_gpa(rx_slot(p, d->free)), table = rx_table(p, d->free);
	struct vu_seg segs[PEER_TABLE / 16] = { { gpa, VSP_HDR_LEN, true } };
	u32 n = 1;

	for (u32 at = VSP_HDR_LEN; at < p->buffer && n < ARRAY_SIZE(segs); n++, at += 4096)
		segs[n] = (struct vu_seg){ gpa + at, p->buffer - at < 4096 ? p->buffer - at : 4096, true };
	return vu_drv_add_indirect(d, segs, n, (void *)(p->f.mem + table), vu_front_gpa(table)) >= 0;
}

static bool post_one(struct peer *p)
{
	struct vu_drv *d = &p->f.drv[0];
	u64 gpa = vu_front_gpa(rx_slot(p, d->free));
	struct vu_seg segs[2] = { { gpa, VSP_HDR_LEN, true }, { gpa + VSP_HDR_LEN, p->buffer - VSP_HDR_LEN, true } };

	if (p->tables)
		return d->nfree && post_table(p);
	if (p->two)
		return vu_drv_add(d, segs, 2) >= 0;
	segs[0].len = p->buffer;
	return vu_drv_add(d, segs, 1) >= 0;
}

void peer_post_all(struct peer *p)
{
	while (post_one(p))
		;
	vu_drv_publish(&p->f.drv[0]);
}

/* What the guest is like, noted in @p as well. */
static struct vu_front_opts describe(struct peer *p, u32 ring, u32 buffer, bool two, u64 features)
{
	struct vu_front_opts o = { .rings = 3, .ring_size = ring, .features = features, .whole = p->whole };

	o.memory = (u64)o.rings * VU_FRONT_RING_BYTES + ring * 2ull * (PEER_SLOT + PEER_TABLE) + (1 << 20);
	o.memory = (o.memory + 4095) & ~4095ull;
	p->buffer = buffer;
	p->two = two;
	return o;
}

int peer_open(struct peer *p, const char *socket, u32 ring, u32 buffer, bool two, u64 features)
{
	struct vu_front_opts o = describe(p, ring, buffer, two, features);
	int err = vu_front_open(&p->f, socket, &o);

	if (!err)
		peer_post_all(p);
	return err;
}

int peer_open_vhost(struct peer *p, const char *path, u64 cid, u32 ring, u32 buffer, bool two, u64 features)
{
	struct vu_front_opts o = describe(p, ring, buffer, two, features);
	int err = vu_vhost_open(&p->f, path, cid, &o);

	if (!err)
		peer_post_all(p);
	return err;
}

void peer_close(struct peer *p)
{
	vu_front_close(&p->f);
}

void peer_close_vhost(struct peer *p)
{
	vu_vhost_close(&p->f);
}

static u32 build(struct vu_seg *s, u64 gpa, u32 len, enum peer_shape shape)
{
	u32 n = 0;

	switch (shape) {
	case PEER_ONE:
		s[n++] = (struct vu_seg){ .gpa = gpa, .len = VSP_HDR_LEN + len };
		return n;
	case PEER_SPLIT:
		s[n++] = (struct vu_seg){ .gpa = gpa, .len = 5 };
		s[n++] = (struct vu_seg){ .gpa = gpa + 5, .len = 20 };
		s[n++] = (struct vu_seg){ .gpa = gpa + 25, .len = 19 + len };
		return n;
	case PEER_EMPTY:
		s[n++] = (struct vu_seg){ .gpa = 1, .len = 0 };
		s[n++] = (struct vu_seg){ .gpa = gpa, .len = VSP_HDR_LEN };
		s[n++] = (struct vu_seg){ .gpa = 0, .len = 0 };
		s[n++] = (struct vu_seg){ .gpa = gpa + VSP_HDR_LEN, .len = len };
		return n;
	case PEER_FRAGS:
	case PEER_INDIRECT:
		s[n++] = (struct vu_seg){ .gpa = gpa, .len = VSP_HDR_LEN };
		for (u32 at = 0; at < len; at += 4096)
			s[n++] = (struct vu_seg){ .gpa = gpa + VSP_HDR_LEN + at,
						  .len = len - at < 4096 ? len - at : 4096 };
		return n;
	default:
		s[n++] = (struct vu_seg){ .gpa = gpa, .len = VSP_HDR_LEN };
		if (len)
			s[n++] = (struct vu_seg){ .gpa = gpa + VSP_HDR_LEN, .len = len };
		return n;
	}
}

static bool wait_call(struct vu_drv *d, int ms)
{
	struct pollfd pfd = { .fd = d->call_fd, .events = POLLIN };

	return !vu_drv_await(d) || poll(&pfd, 1, ms) > 0;
}

bool peer_send(struct peer *p, struct vsp_hdr hdr, const void *payload, u32 len, enum peer_shape shape)
{
	struct vu_drv *d = &p->f.drv[1];
	struct vsp_wire wire = vsp_encode(hdr);
	struct vu_seg segs[20];
	u32 n = build(segs, 0, len, shape), unused;
	u64 at;

	while (vu_drv_used(d, &unused) >= 0)
		;
	while (d->nfree < (shape == PEER_INDIRECT ? 1 : n)) {
		if (!wait_call(d, PEER_WAIT_MS))
			return false;
		while (vu_drv_used(d, &unused) >= 0)
			;
	}
	at = tx_slot(p, d->free);
	memcpy(p->f.mem + at, &wire, sizeof(wire));
	if (len)
		memcpy(p->f.mem + at + VSP_HDR_LEN, payload, len);
	build(segs, vu_front_gpa(at), len, shape);
	if (shape == PEER_INDIRECT) {
		u64 table = tx_table(p, d->free);

		vu_drv_add_indirect(d, segs, n, (void *)(p->f.mem + table), vu_front_gpa(table));
	} else {
		vu_drv_add(d, segs, n);
	}
	vu_drv_publish(d);
	return true;
}

static int now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int)(ts.tv_sec % 1000000 * 1000 + ts.tv_nsec / 1000000);
}

bool peer_recv(struct peer *p, struct vsp_hdr *hdr, void *buf, int ms)
{
	struct vu_drv *d = &p->f.drv[0];
	const struct vsp_filter any = { .my_cid = VSP_CID_ANY, .peer_cid = VSP_CID_ANY, .types = ~0u };
	int until = now_ms() + ms, head, left;
	struct vsp_decoded dec;
	struct vsp_wire wire;
	u32 len;

	while ((head = vu_drv_used(d, &len)) < 0) {
		left = until - now_ms();
		if (left < 0 || !wait_call(d, left))
			return false;
	}
	memcpy(&wire, p->f.mem + rx_slot(p, (u32)head), sizeof(wire));
	dec = vsp_decode(&wire, len, any);
	*hdr = dec.hdr;
	if (dec.why == VSP_OK && buf)
		memcpy(buf, p->f.mem + rx_slot(p, (u32)head) + VSP_HDR_LEN, hdr->len);
	post_one(p);
	vu_drv_publish(d);
	return dec.why == VSP_OK;
}

const struct vsp_wire *peer_look(struct peer *p, u32 *len)
{
	int head = vu_drv_used(&p->f.drv[0], len);

	return head < 0 ? NULL : (const void *)(p->f.mem + rx_slot(p, (u32)head));
}

bool peer_push(struct peer *p, struct vsp_hdr hdr)
{
	struct vu_drv *d = &p->f.drv[1];
	struct vsp_wire wire = vsp_encode(hdr);
	struct vu_seg segs[2];
	u32 n, unused;
	u64 at;

	while (vu_drv_used(d, &unused) >= 0)
		;
	if (d->nfree < 2)
		return false;
	at = tx_slot(p, d->free);
	memcpy(p->f.mem + at, &wire, sizeof(wire));
	n = build(segs, vu_front_gpa(at), hdr.len, PEER_TWO);
	vu_drv_add(d, segs, n);
	vu_drv_publish(d);
	return true;
}
