// SPDX-License-Identifier: BSD-2-Clause
/*
 * prop_credit.c - two ledgers with a line between them, against an oracle in u64
 *
 * A sender and a receiver are joined by a queue in each direction; what they do next is drawn from a generator with a
 * fixed seed: write, move a packet to the line, deliver, read, change the window, send the credit. The oracle counts
 * the same bytes in u64, which do not wrap in the life of a test. It knows nothing of the ledgers' fields but what it
 * says about them.
 */
#include "check.h"
#include "credit.h"

enum { LINE = 64, SEEDS = 200, STEPS = 3000 };

struct line {
	u32 len[LINE];
	struct vsp_stamp stamp[LINE];
	u32 first;
	u32 count;
};

struct sim {
	struct check_rng rng;
	struct vsp_txc t;
	struct vsp_rxc r;
	struct line data; /* payload under way */
	struct line acks; /* stamps under way */
	u64 granted, sent, arrived, read;
	u64 promised; /* the largest read + buf_alloc ever stamped: the oracle's edge */
	u32 window_max;
};

static bool push(struct line *l, u32 len, struct vsp_stamp stamp)
{
	u32 at = (l->first + l->count) % LINE;

	if (l->count == LINE)
		return false;
	l->len[at] = len;
	l->stamp[at] = stamp;
	l->count++;
	return true;
}

static u32 pull(struct line *l)
{
	u32 at = l->first;

	l->first = (at + 1) % LINE;
	l->count--;
	return at;
}

static void send_stamp(struct sim *m)
{
	struct vsp_stamp stamp;

	if (m->acks.count == LINE)
		return;
	stamp = vsp_rxc_stamp(&m->r);
	if (m->read + stamp.buf_alloc > m->promised)
		m->promised = m->read + stamp.buf_alloc;
	if (stamp.buf_alloc > m->window_max)
		m->window_max = stamp.buf_alloc;
	push(&m->acks, 0, stamp);
}

/* What may happen in a run besides sending, reading and growing windows. */
enum {
	SHRINK = 1, /* the receiver makes its window smaller */
	CAP = 2,    /* the sender keeps less in flight than the window allows */
	ASK = 4,    /* a sender without space sends a credit request, which is answered */
};

static struct sim sim_at(u64 seed, u32 base, u32 what)
{
	struct sim m = { .rng = { seed * 0x9e3779b97f4a7c15ull + 1 } };
	u32 window = 1 + check_below(&m.rng, 5000);

	m.t = vsp_txc_init(what & CAP ? 1 + check_below(&m.rng, 3000) : VSP_WINDOW_MAX);
	m.t.tx_cnt = m.t.sent_cnt = m.t.peer_fwd_cnt = base;
	m.r = vsp_rxc_init(window);
	m.r.rx_cnt = m.r.fwd_cnt = m.r.told.fwd_cnt = m.r.edge = base;
	send_stamp(&m);
	return m;
}

static void write_some(struct sim *m)
{
	u32 got = vsp_txc_take(&m->t, check_below(&m->rng, 3000));

	m->granted += got;
	if (got && !check_below(&m->rng, 8)) {
		u32 back = check_below(&m->rng, got + 1);

		vsp_txc_untake(&m->t, back);
		m->granted -= back;
	}
	/* However much was granted, the receiver has said that it may come. */
	CHECK(m->granted <= m->promised);
	CHECK(m->granted - m->read <= m->window_max);
}

static void put_on_line(struct sim *m)
{
	u64 unsent = m->granted - m->sent;
	u32 len = check_below(&m->rng, 700);

	CHECK_EQ(vsp_txc_unsent(&m->t), unsent);
	if (len > unsent)
		len = (u32)unsent;
	if (!push(&m->data, len, (struct vsp_stamp){ 0 }))
		return;
	vsp_txc_sent(&m->t, len);
	m->sent += len;
}

static void deliver_data(struct sim *m)
{
	u32 len;

	if (!m->data.count)
		return;
	len = m->data.len[pull(&m->data)];
	CHECK(vsp_rxc_admit(&m->r, len));
	m->arrived += len;
	CHECK(m->arrived - m->read <= m->window_max);
	CHECK_EQ(vsp_rxc_unread(&m->r), m->arrived - m->read);
	/* One byte beyond the promise is refused, the promise itself is not. */
	CHECK_EQ((u64)(u32)(m->r.edge - m->r.rx_cnt), m->promised - m->arrived);
}

static void deliver_ack(struct sim *m)
{
	enum vsp_credit c;
	u32 before, after;

	if (!m->acks.count)
		return;
	before = vsp_txc_space(&m->t);
	c = vsp_txc_update(&m->t, m->acks.stamp[pull(&m->acks)]);
	after = vsp_txc_space(&m->t);
	CHECK_EQ(c, after > before ? VSP_CREDIT_GREW : after < before ? VSP_CREDIT_SHRANK : VSP_CREDIT_SAME);
}

static void read_some(struct sim *m, u32 want)
{
	u64 unread = m->arrived - m->read;

	if (want > unread)
		want = (u32)unread;
	vsp_rxc_consume(&m->r, want);
	m->read += want;
	if (vsp_rxc_update_due(&m->r, 1, m->t.cap))
		send_stamp(m);
}

static void resize(struct sim *m, u32 what)
{
	u32 window = 1 + check_below(&m->rng, 5000);

	if (!(what & SHRINK) && window < m->r.buf_alloc)
		return;
	m->r.buf_alloc = window;
	if (check_below(&m->rng, 2) || vsp_rxc_update_due(&m->r, 1, m->t.cap))
		send_stamp(m);
}

static void one_step(struct sim *m, u32 what)
{
	switch (check_below(&m->rng, 16)) {
	case 0 ... 3:
		write_some(m);
		break;
	case 4 ... 6:
		put_on_line(m);
		break;
	case 7 ... 9:
		deliver_data(m);
		break;
	case 10 ... 12:
		read_some(m, check_below(&m->rng, 1000));
		break;
	case 13 ... 14:
		deliver_ack(m);
		break;
	default:
		if (!check_below(&m->rng, 4))
			resize(m, what);
	}
}

/* Let everything arrive and be read, and every due update be sent and seen. */
static void settle(struct sim *m)
{
	while (m->granted > m->sent || m->data.count || m->arrived > m->read || m->acks.count) {
		if (m->granted > m->sent)
			put_on_line(m);
		deliver_data(m);
		deliver_ack(m);
		read_some(m, 0xffffffffu);
	}
}

static void run(u32 what)
{
	static const u32 bases[] = { 0, 0xffffffffu - 4000, 0x80000000u - 4000, 0xffffffffu };

	for (u32 seed = 0; seed < SEEDS; seed++) {
		struct sim m = sim_at(seed, bases[seed % ARRAY_SIZE(bases)], what);
		unsigned int before = check_failures;

		for (u32 i = 0; i < STEPS && check_failures == before; i++)
			one_step(&m, what);
		settle(&m);
		if ((what & ASK) && !vsp_txc_space(&m.t)) {
			send_stamp(&m);
			settle(&m);
		}
		CHECK(vsp_txc_space(&m.t) > 0);
		CHECK_EQ(m.read, m.granted);
		if (check_failures != before) {
			printf("# seed %u\n", seed);
			return;
		}
	}
}

/*
 * The sender never exceeds what the receiver admits, memory is bounded by the largest window, and nobody waits for
 * ever.
 */
static void ledgers_agree(const void *arg)
{
	(void)arg;
	run(0);
}

/* With all that can happen; a sender that has no space asks. */
static void ledgers_agree_with_requests(const void *arg)
{
	(void)arg;
	run(SHRINK | ASK);
	run(CAP | ASK);
	run(SHRINK | CAP | ASK);
}

/*
 * A sender that does not ask (no stock kernel does) after the window shrank: the receiver takes the old promise for
 * what the sender knows and sees no news in what was read, while the sender has filled the small window and waits.
 */
static void shrunk_window_reopens_unasked(const void *arg)
{
	struct vsp_rxc r = vsp_rxc_init(100);
	struct vsp_txc t = vsp_txc_init(VSP_WINDOW_MAX);

	(void)arg;
	vsp_txc_update(&t, vsp_rxc_stamp(&r));
	r.buf_alloc = 50;
	vsp_txc_update(&t, vsp_rxc_stamp(&r));
	CHECK_EQ(vsp_txc_take(&t, 100), 50);
	vsp_txc_sent(&t, 50);
	CHECK(vsp_rxc_admit(&r, 50));
	vsp_rxc_consume(&r, 50);
	CHECK(vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
	run(SHRINK);
}

/*
 * A sender that keeps less in flight than half of our window (stock kernels: no more than their own buffer) and does
 * not ask: everything was read, half of the window is not news, the sender waits.
 */
static void capped_sender_goes_on_unasked(const void *arg)
{
	(void)arg;
	run(CAP);
}

static const struct check_case cases[] = {
	CASE(ledgers_agree),
	CASE(ledgers_agree_with_requests),
	CASE(shrunk_window_reopens_unasked),
	CASE(capped_sender_goes_on_unasked),
};

CHECK_SUITE(credit_prop, cases);
