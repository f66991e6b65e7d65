// SPDX-License-Identifier: GPL-2.0-only
/*
 * record.c - where the messages of a seqpacket flow end
 *
 * Payload lies in the flow's segments without boundaries, as in a stream. The lengths lie here, as variable-length
 * numbers in half-bytes, of which each holds three bits of the number and says whether another follows. A message of
 * one to three bytes costs half a byte more, so that a flow's memory, with what allocator and segments need besides,
 * stays within twice its window whatever the size of its messages. Empty messages use no credit; vsp_record_add()
 * limits them.
 */
#include <linux/slab.h>

#include "vst.h"

enum {
	DIGIT_BITS = 3,	   /* of a number in a half-byte */
	DIGIT_MORE = 8,	   /* another half-byte follows */
	NUMBER_MAX = 11,   /* half-bytes of the longest number */
	CHUNK_BYTES = 488, /* with the rest of struct chunk, one object of 512 bytes */
	CHUNK_DIGITS = 2 * CHUNK_BYTES,
};

/* @first and @end count half-bytes; that with an even number is the lower one of its byte. */
struct vst_rec_chunk {
	struct list_head node;
	u16 first;
	u16 end;
	u8 bytes[CHUNK_BYTES];
};

static_assert(sizeof(struct vst_rec_chunk) <= 512);

/* The value that stands for a message. */
static u32 number_of(struct vst_record rec)
{
	return rec.len << 1 | rec.eor;
}

/**
 * vst_records_reserve - make sure that the next vst_records_push() has room
 * @r: the records; only their pusher calls this
 *
 * Return: false without memory. May sleep.
 */
bool vst_records_reserve(struct vst_records *r)
{
	if (!r->spare)
		r->spare = kmalloc(sizeof(*r->spare), GFP_NOIO | __GFP_NOWARN);
	return r->spare;
}

static void push_digit(struct vst_rec_chunk *c, u8 digit)
{
	u8 *byte = &c->bytes[c->end / 2];

	if (c->end % 2)
		*byte |= digit << 4;
	else
		*byte = digit;
	c->end++;
}

/* A message ended. The flow's lock is held and vst_records_reserve() succeeded since the last push. */
void vst_records_push(struct vst_records *r, struct vst_record rec)
{
	struct vst_rec_chunk *c = list_empty(&r->chunks) ? NULL :
							   list_last_entry(&r->chunks, struct vst_rec_chunk, node);
	u32 n = number_of(rec);

	if (!c || c->end > CHUNK_DIGITS - NUMBER_MAX) {
		c = r->spare;
		r->spare = NULL;
		c->first = 0;
		c->end = 0;
		list_add_tail(&c->node, &r->chunks);
	}
	while (n >= DIGIT_MORE) {
		push_digit(c, (n & (DIGIT_MORE - 1)) | DIGIT_MORE);
		n >>= DIGIT_BITS;
	}
	push_digit(c, n);
	r->count++;
}

static u32 read_number(const struct vst_rec_chunk *c, u16 *at)
{
	unsigned int shift = 0;
	u32 n = 0;
	u8 digit;

	do {
		digit = c->bytes[*at / 2] >> (*at % 2 ? 4 : 0);
		n |= (u32)(digit & (DIGIT_MORE - 1)) << shift;
		shift += DIGIT_BITS;
		(*at)++;
	} while (digit & DIGIT_MORE);
	return n;
}

/* The first message that waits. There is one, and the flow's lock is held. */
struct vst_record vst_records_first(const struct vst_records *r)
{
	const struct vst_rec_chunk *c = list_first_entry(&r->chunks, struct vst_rec_chunk, node);
	u16 at = c->first;
	u32 n = read_number(c, &at);
	struct vst_record rec = { .len = n >> 1, .eor = n & 1 };

	return rec;
}

/* The first message was read. There is one, and the flow's lock is held. */
void vst_records_pop(struct vst_records *r)
{
	struct vst_rec_chunk *c = list_first_entry(&r->chunks, struct vst_rec_chunk, node);

	read_number(c, &c->first);
	if (c->first == c->end) {
		list_del(&c->node);
		kfree(c);
	}
	r->count--;
}

void vst_records_init(struct vst_records *r)
{
	INIT_LIST_HEAD(&r->chunks);
	r->count = 0;
	r->spare = NULL;
}

/* Take all of @from away, to be freed without the flow's lock, which is held. */
void vst_records_move(struct vst_records *to, struct vst_records *from)
{
	vst_records_init(to);
	list_splice_init(&from->chunks, &to->chunks);
	to->count = from->count;
	from->count = 0;
}

/* Nobody pushes or pops any more. */
void vst_records_free(struct vst_records *r)
{
	struct vst_rec_chunk *c, *next;

	list_for_each_entry_safe(c, next, &r->chunks, node)
		kfree(c);
	kfree(r->spare);
	vst_records_init(r);
}
