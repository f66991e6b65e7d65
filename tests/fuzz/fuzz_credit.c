// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_credit.c - two ledgers and a liar, with an oracle that counts in u64
 *
 * The input is a schedule. An honest receiver's ledger faces a sender's ledger over two queues; besides, the sender's
 * ledger is told lies, which it must not believe: a lie may never let it have more under way than its cap, nor
 * acknowledge what was not put on the ring.
 */
#include <string.h>

#include "credit.h"
#include "fuzz.h"

enum { LINE = 32 };

struct sim {
	struct vsp_txc t;
	struct vsp_rxc r;
	u32 data[LINE], ndata;
	struct vsp_stamp acks[LINE];
	u32 nacks;
	u64 base, granted, sent, arrived, read, promised, acked;
	bool lied;
};

/* Take the first of @n elements of @each bytes out of a queue. */
static void shift(void *queue, u32 *n, size_t each)
{
	(*n)--;
	memmove(queue, (u8 *)queue + each, *n * each);
}

static void must_agree(const struct sim *m)
{
	MUST(vsp_txc_unacked(&m->t) == (u32)(m->granted - m->acked));
	MUST(vsp_txc_unsent(&m->t) == m->granted - m->sent);
	MUST(m->acked <= m->sent && m->sent <= m->granted);
	MUST(vsp_rxc_unread(&m->r) == m->arrived - m->read);
	MUST(vsp_txc_space(&m->t) <= vsp_txc_window(&m->t) && vsp_txc_window(&m->t) <= m->t.cap);
}

static void take(struct sim *m, struct input *in)
{
	u32 want = next_size(in);
	u32 space = vsp_txc_space(&m->t);
	u32 got = vsp_txc_take(&m->t, want);

	MUST(got == (want < space ? want : space));
	m->granted += got;
	MUST(m->granted - m->acked <= VSP_WINDOW_MAX);
	MUST(m->lied || m->granted <= m->promised);
	if (got && next8(in) & 1) {
		u32 back = next_size(in) % got;

		vsp_txc_untake(&m->t, back);
		m->granted -= back;
	}
}

static void put(struct sim *m, struct input *in)
{
	u64 unsent = m->granted - m->sent;
	u32 len = next_size(in);

	if (m->ndata == LINE)
		return;
	len = len < unsent ? len : (u32)unsent;
	vsp_txc_sent(&m->t, len);
	m->sent += len;
	m->data[m->ndata++] = len;
}

static void deliver(struct sim *m)
{
	bool fits;

	if (!m->ndata)
		return;
	fits = vsp_rxc_admit(&m->r, m->data[0]);
	MUST(fits == (m->data[0] <= m->promised - m->arrived));
	/* A sender whom somebody lied to may be refused; one who was told the truth never is. */
	MUST(fits || m->lied);
	if (!fits) {
		m->ndata = 0;
		return;
	}
	m->arrived += m->data[0];
	shift(m->data, &m->ndata, sizeof(m->data[0]));
}

static void stamp(struct sim *m)
{
	struct vsp_stamp s;

	if (m->nacks == LINE)
		return;
	s = vsp_rxc_stamp(&m->r);
	MUST(s.fwd_cnt == (u32)(m->base + m->read) && s.buf_alloc == m->r.buf_alloc);
	MUST(!vsp_rxc_update_due(&m->r, 1, VSP_WINDOW_MAX));
	if (m->read + s.buf_alloc > m->promised)
		m->promised = m->read + s.buf_alloc;
	MUST((u32)(m->r.edge - m->r.rx_cnt) == m->promised - m->arrived);
	m->acks[m->nacks++] = s;
}

/* What the peer says, true or not. The oracle: true is what lies between the last truth and what was sent. */
static void hear(struct sim *m, struct vsp_stamp s)
{
	struct vsp_txc before = m->t;
	u32 space = vsp_txc_space(&m->t);
	u32 ahead = s.fwd_cnt - (u32)(m->base + m->acked);
	enum vsp_credit c = vsp_txc_update(&m->t, s);

	if (ahead <= m->sent - m->acked) {
		m->acked += ahead;
		MUST(m->t.peer_buf_alloc == s.buf_alloc && m->t.peer_fwd_cnt == s.fwd_cnt);
		MUST(c != VSP_CREDIT_LIE);
		MUST((c == VSP_CREDIT_GREW) == (vsp_txc_space(&m->t) > space));
		MUST((c == VSP_CREDIT_SHRANK) == (vsp_txc_space(&m->t) < space));
		return;
	}
	MUST(c == VSP_CREDIT_LIE || c == VSP_CREDIT_SAME);
	MUST(c == VSP_CREDIT_LIE || ahead > VSP_WINDOW_MAX);
	MUST(m->t.peer_fwd_cnt == before.peer_fwd_cnt && m->t.peer_buf_alloc == before.peer_buf_alloc);
	MUST(vsp_txc_space(&m->t) == space);
}

static void hear_truth(struct sim *m)
{
	if (!m->nacks)
		return;
	hear(m, m->acks[0]);
	shift(m->acks, &m->nacks, sizeof(m->acks[0]));
}

static void hear_anything(struct sim *m, struct input *in)
{
	struct vsp_stamp s = { .buf_alloc = next_size(in) };

	s.fwd_cnt = next8(in) & 1 ? next32(in) : m->t.peer_fwd_cnt + next_size(in);
	m->lied = true;
	hear(m, s);
}

static void consume(struct sim *m, struct input *in)
{
	u64 unread = m->arrived - m->read;
	u32 bytes = next_size(in);

	bytes = bytes < unread ? bytes : (u32)unread;
	vsp_rxc_consume(&m->r, bytes);
	m->read += bytes;
	if (vsp_rxc_update_due(&m->r, next_size(in), VSP_WINDOW_MAX))
		stamp(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	u32 base = next8(&in) & 1 ? next32(&in) : 0u - next_size(&in);
	struct sim m = { .base = base };

	m.t = vsp_txc_init(vsp_window_clamp(next_size(&in)));
	m.r = vsp_rxc_init(vsp_window_clamp(next_size(&in)));
	m.t.tx_cnt = m.t.sent_cnt = m.t.peer_fwd_cnt = base;
	m.r.rx_cnt = m.r.fwd_cnt = m.r.told.fwd_cnt = m.r.edge = base;
	while (in.left) {
		u8 what = next8(&in);

		switch (what & 7) {
		case 0:
			take(&m, &in);
			break;
		case 1:
			put(&m, &in);
			break;
		case 2:
			deliver(&m);
			break;
		case 3:
			stamp(&m);
			break;
		case 4:
		case 5:
			hear_truth(&m);
			break;
		case 6:
			consume(&m, &in);
			break;
		case 7:
			if (what & 0xc0)
				m.r.buf_alloc = vsp_window_clamp(next_size(&in));
			else
				hear_anything(&m, &in);
			break;
		}
		must_agree(&m);
	}
	return 0;
}
