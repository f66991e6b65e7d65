// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_slots.c - a hostile device: what it writes to the rings of a driver that plays by the rules is the input
 *
 * A buffer is with the device, or with us, or in no row; never twice anywhere. What was taken lies within the memory,
 * and has no more bytes than fit. After a rule was broken nothing more comes.
 */
#include "fuzz.h"

#include "vu/slots.h"

#include <stdlib.h>
#include <string.h>

enum {
	SIZE = 8,
	BYTES = 100,
	GPA = 0x10000,
	TURNS = 200,
};

/* What is known of the buffers, by what was seen. */
struct model {
	struct vu_slots s;
	struct vu_drv d;
	u8 *ring;
	u8 *mem;
	u16 taken[SIZE]; /* and not used, in order */
	u32 n;
	bool out[SIZE];
	u32 unpublished; /* used */
	u16 idx;	 /* the device's index */
};

static void check_taken(struct model *m, const struct vu_pop *p, const struct iovec *iov)
{
	const u8 *at = iov->iov_base;

	MUST(p->head < SIZE && !m->out[p->head] && m->n < SIZE);
	MUST(p->bytes <= BYTES && p->niov == (p->bytes > 0));
	if (!p->niov)
		return;
	MUST(iov->iov_len == p->bytes && at >= m->mem && at + p->bytes <= m->mem + vu_slots_memory(SIZE, BYTES));
	memset(iov->iov_base, 1, iov->iov_len);
}

static void pop(struct model *m)
{
	bool broken = m->d.broken;
	struct iovec iov = { 0 };
	struct vu_pop p = vu_slots_pop(&m->s, &iov, 1);

	MUST(p.what == VU_POP_CHAIN || p.what == VU_POP_EMPTY || (p.what == VU_POP_BROKEN && m->d.broken));
	MUST(!broken || m->d.broken);
	if (p.what != VU_POP_CHAIN)
		return;
	check_taken(m, &p, &iov);
	m->out[p.head] = true;
	m->taken[m->n++] = p.head;
}

static void unpop(struct model *m, u32 n)
{
	n = n < m->n ? n : m->n;
	vu_slots_unpop(&m->s, n);
	for (; n; n--)
		m->out[m->taken[--m->n]] = false;
}

static void use(struct model *m, u32 len)
{
	if (!m->n)
		return;
	vu_slots_use(&m->s, m->taken[0], len % (BYTES + 1) + !(len % (BYTES + 1)));
	m->out[m->taken[0]] = false;
	memmove(m->taken, m->taken + 1, --m->n * sizeof(m->taken[0]));
	m->unpublished++;
}

static void unuse(struct model *m, u32 n)
{
	if (m->n)
		return;
	n = n < m->unpublished ? n : m->unpublished;
	vu_slots_unuse(&m->s, n);
	m->unpublished -= n;
}

/* Half of what the device uses is what it was given. */
static void device(struct model *m, struct input *in)
{
	u8 how = next8(in);
	u32 head = how & 1 ? next8(in) % SIZE : next32(in), len = how & 2 ? next8(in) : next32(in);
	__le32 elem[2] = { cpu_to_le32(head), cpu_to_le32(how & 4 ? len % BYTES : len) };
	__le16 idx;

	memcpy(m->d.used + vsp_used_slot_offset(vsp_ring_slot(m->idx, SIZE)), elem, sizeof(elem));
	m->idx = (u16)(m->idx + (how & 0xf0 ? 1 : next16(in)));
	idx = cpu_to_le16(m->idx);
	memcpy(m->d.used + 2, &idx, sizeof(idx));
	/* The table is within its reach. */
	if (how & 8)
		m->ring[next16(in) % vu_drv_bytes(SIZE)] = next8(in);
}

static void turn(struct model *m, struct input *in)
{
	switch (next8(in) & 7) {
	case 0:
	case 1:
		pop(m);
		break;
	case 2:
		unpop(m, next8(in) % SIZE);
		break;
	case 3:
		use(m, next8(in));
		break;
	case 4:
		unuse(m, next8(in) % SIZE);
		break;
	case 5:
		vu_slots_publish(&m->s);
		m->unpublished = 0;
		break;
	case 6:
		vu_slots_await_past(&m->s, next8(in) % SIZE);
		break;
	default:
		device(m, in);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { .data = data, .left = size };
	bool receive = next8(&in) & 1;
	struct model m = { .ring = calloc(1, 4096), .mem = malloc(vu_slots_memory(SIZE, BYTES)) };

	MUST(m.ring && m.mem);
	MUST(!vu_drv_init(&m.d, m.ring, SIZE, next16(&in), next8(&in) & 1));
	m.idx = m.d.last_used;
	MUST(!vu_slots_init(&m.s, &m.d, m.mem, GPA, BYTES, receive));
	for (u32 i = 0; i < TURNS && in.left; i++)
		turn(&m, &in);
	vu_slots_fini(&m.s);
	vu_drv_fini(&m.d);
	free(m.ring);
	free(m.mem);
	return 0;
}
