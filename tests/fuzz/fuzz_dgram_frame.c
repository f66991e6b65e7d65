// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_dgram_frame.c - datagrams and seqpacket messages, cut and joined, with packets of an attacker in between
 *
 * The receiver is what a shell would be: a slot of VSP_DGRAM_MAX bytes in which each accepted byte is marked with the
 * packet it came from. A datagram that completes must consist of one run of packets without a hole.
 */
#include <string.h>

#include "dgram.h"
#include "frame.h"
#include "fuzz.h"

struct receiver {
	struct vsp_dgram slot;
	u8 bytes[VSP_DGRAM_MAX];
	u32 filled; /* bytes of the run that is being put together */
	u32 total;
	bool open;
};

static struct receiver rx;
static u8 message[VSP_DGRAM_MAX];

/* Take a packet of @hdr->len bytes from @payload (NULL: they do not matter). Returns what it was. */
static u8 receive(const struct vsp_hdr *hdr, const u8 *payload)
{
	bool was_open = rx.open;
	struct vsp_dgram_verdict v = vsp_dgram_add(&rx.slot, hdr);

	if (v.lost) {
		MUST(was_open);
		rx.open = false;
	}
	if (v.what == VSP_DGRAM_BAD) {
		MUST(v.why != VSP_OK && v.lost == was_open);
		MUST(rx.slot.total == 0 && rx.slot.have == 0);
		return v.what;
	}
	MUST(v.why == VSP_OK && v.total <= VSP_DGRAM_MAX);
	MUST(v.offset <= v.total && hdr->len <= v.total - v.offset);
	if (v.what == VSP_DGRAM_WHOLE || v.what == VSP_DGRAM_FIRST) {
		MUST(v.offset == 0 && v.lost == was_open);
		rx.filled = 0;
		rx.total = v.total;
	} else {
		MUST(was_open && !v.lost && v.offset == rx.filled && v.total == rx.total);
	}
	if (payload)
		memcpy(rx.bytes + v.offset, payload, hdr->len);
	rx.filled += hdr->len;
	rx.open = v.what == VSP_DGRAM_FIRST || v.what == VSP_DGRAM_MORE;
	MUST(rx.open == (rx.filled < rx.total));
	MUST(rx.open == (rx.slot.total != 0) && rx.slot.have == (rx.open ? rx.filled : 0));
	return v.what;
}

static struct vsp_hdr header(void)
{
	struct vsp_hdr h = { .src = { 3, 1 }, .dst = { 2, 2 }, .type = VSP_TYPE_DGRAM, .op = VSP_OP_RW };

	return h;
}

/* Send a datagram in pieces; with no one interfering it must arrive as it was. */
static void honest_dgram(struct input *in)
{
	u32 total = next_size(in) % (VSP_DGRAM_MAX + 1);
	u32 offset = 0, packets = 0;
	bool interrupted = false;
	u8 what;

	do {
		struct vsp_hdr h = header();
		/* At least 1/64 of it in each, so that the longest does not take for ever. */
		u32 room = 1 + total / 64 + next_size(in) % VSP_MAX_PAYLOAD;
		struct vsp_dgram_piece p = vsp_dgram_piece_at(total, offset, room);

		MUST(p.len <= room && p.len <= total - offset && (p.len || !total));
		h.len = p.len;
		h.buf_alloc = p.buf_alloc;
		h.fwd_cnt = p.fwd_cnt;
		what = receive(&h, message + offset);
		MUST(what != VSP_DGRAM_BAD || interrupted);
		offset += p.len;
		packets++;
		if (offset < total && next8(in) == 0xff) {
			MUST(vsp_dgram_interrupt(&rx.slot) == rx.open);
			rx.open = false;
			interrupted = true;
		}
	} while (offset < total);
	MUST(packets <= 66);
	if (interrupted)
		return;
	MUST(what == (packets == 1 ? VSP_DGRAM_WHOLE : VSP_DGRAM_LAST));
	MUST(rx.total == total && rx.filled == total && !memcmp(rx.bytes, message, total));
}

/* Mostly a packet with one thing wrong: one with everything wrong is refused for the first. */
static void hostile_packet(struct input *in)
{
	struct vsp_hdr h = header();
	u8 how = next8(in);

	h.buf_alloc = how & 1 ? next_size(in) % (2 * VSP_DGRAM_MAX) : rx.slot.total;
	switch (how >> 1 & 3) {
	case 0:
		h.fwd_cnt = rx.slot.have;
		break;
	case 1:
		h.fwd_cnt = 0;
		break;
	case 2:
		h.fwd_cnt = rx.slot.total ? next32(in) % rx.slot.total : 1;
		break;
	case 3:
		h.fwd_cnt = next_size(in);
		break;
	}
	h.len = next_size(in) % (VSP_MAX_PAYLOAD + 1);
	if (how & 8 && h.buf_alloc > h.fwd_cnt)
		h.len %= h.buf_alloc - h.fwd_cnt + 1;
	if ((how & 0x30) == 0x30)
		h.flags = next32(in);
	if ((how & 0xc0) == 0xc0)
		h.src.port = next8(in);
	receive(&h, NULL);
}

/* Cut a message, join it again: length, number and flags are those of the spec. */
static void honest_message(struct input *in, struct vsp_record *r)
{
	u32 total = next_size(in);
	struct vsp_frag f = { .left = total, .flags = next8(in) & VSP_SEQ_EOR };
	u32 eor = f.flags, sum = 0, whole = 0;
	u8 empty = next8(in) & 3;

	for (;;) {
		u32 room = 1 + total / 64 + next_size(in) % VSP_MAX_PAYLOAD;
		u32 before = f.left;
		struct vsp_piece p = vsp_frag_next(&f, room);
		enum vsp_record_verdict v;

		MUST(p.len <= room && p.len <= VSP_MAX_PAYLOAD && p.len <= before && f.left == before - p.len);
		MUST(p.flags == (p.last ? VSP_SEQ_EOM | eor : 0) && p.last == (f.left == 0));
		MUST(p.len || !total);
		sum += p.len;
		v = vsp_record_add(r, p.len, p.flags, &whole);
		MUST(r->empty <= VSP_EMPTY_RECORDS_MAX);
		if (!p.last) {
			MUST(v == VSP_RECORD_PART && r->len == sum);
			continue;
		}
		MUST(v == VSP_RECORD_END || (v == VSP_RECORD_FULL && !total));
		MUST(v == VSP_RECORD_FULL || whole == total);
		MUST(r->len == 0);
		break;
	}
	while (empty-- && r->empty)
		vsp_record_empty_read(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct vsp_record record = { 0 };

	rx.slot = (struct vsp_dgram){ 0 };
	rx.open = false;
	for (u32 i = 0; i < VSP_DGRAM_MAX && !message[255]; i++)
		message[i] = (u8)(i * 167 + i / 256);
	while (in.left) {
		switch (next8(&in) & 3) {
		case 0:
			honest_dgram(&in);
			break;
		case 1:
		case 2:
			hostile_packet(&in);
			break;
		case 3:
			honest_message(&in, &record);
			break;
		}
	}
	return 0;
}
