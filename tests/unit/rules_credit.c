// SPDX-License-Identifier: BSD-2-Clause
/*
 * rules_credit.c - the two ledgers at their boundaries
 *
 * Every case that depends on a counter is run at 0 and just below the wrap-around of u32, and must not see the
 * difference.
 *
 * With -DCREDIT_SPEC_FORMULA, vsp_txc_space() is replaced by the formula that virtio 1.4 5.10.6.3 prints, all u32. The
 * suite must fail then: the mutants test sees to that.
 */
#include "check.h"
#include "credit.h"

#ifdef CREDIT_SPEC_FORMULA
static u32 spec_space(const struct vsp_txc *t)
{
	return t->peer_buf_alloc - (t->tx_cnt - t->peer_fwd_cnt);
}
#define vsp_txc_space spec_space
#endif

/* Where counters begin: far from the wrap-around, just before it, and on it. */
static const u32 bases[] = { 0, 0xffffffffu - 50, 0xffffffffu, 0x80000000u - 50 };

static struct vsp_txc txc_at(u32 base, u32 window)
{
	struct vsp_txc t = vsp_txc_init(VSP_WINDOW_MAX);

	t.tx_cnt = base;
	t.sent_cnt = base;
	t.peer_fwd_cnt = base;
	t.peer_buf_alloc = window;
	return t;
}

static struct vsp_rxc rxc_at(u32 base, u32 window)
{
	struct vsp_rxc r = vsp_rxc_init(window);

	r.rx_cnt = base;
	r.fwd_cnt = base;
	r.told.fwd_cnt = base;
	r.edge = base;
	vsp_rxc_stamp(&r);
	return r;
}

static enum vsp_credit hear(struct vsp_txc *t, u32 buf_alloc, u32 fwd_cnt)
{
	struct vsp_stamp stamp = { .buf_alloc = buf_alloc, .fwd_cnt = fwd_cnt };

	return vsp_txc_update(t, stamp);
}

static void starts_at_zero(const void *arg)
{
	struct vsp_txc t = vsp_txc_init(77);
	struct vsp_rxc r = vsp_rxc_init(99);

	(void)arg;
	CHECK_EQ(t.cap, 77);
	CHECK_EQ(t.tx_cnt | t.sent_cnt | t.peer_fwd_cnt | t.peer_buf_alloc, 0);
	CHECK_EQ(vsp_txc_space(&t), 0);
	CHECK_EQ(vsp_txc_take(&t, 1), 0);
	CHECK_EQ(r.buf_alloc, 99);
	CHECK_EQ(r.rx_cnt | r.fwd_cnt | r.told.fwd_cnt | r.edge, 0);
	CHECK_EQ(vsp_rxc_unread(&r), 0);
}

static void window_is_clamped(const void *arg)
{
	(void)arg;
	CHECK_EQ(vsp_window_clamp(0), 1);
	CHECK_EQ(vsp_window_clamp(1), 1);
	CHECK_EQ(vsp_window_clamp(2), 2);
	CHECK_EQ(vsp_window_clamp(VSP_WINDOW_MAX - 1), VSP_WINDOW_MAX - 1);
	CHECK_EQ(vsp_window_clamp(VSP_WINDOW_MAX), VSP_WINDOW_MAX);
	CHECK_EQ(vsp_window_clamp(VSP_WINDOW_MAX + 1ull), VSP_WINDOW_MAX);
	CHECK_EQ(vsp_window_clamp(1ull << 32), VSP_WINDOW_MAX);
	CHECK_EQ(vsp_window_clamp(~0ull), VSP_WINDOW_MAX);
}

static void cap_limits_peer(const void *arg)
{
	struct vsp_txc t = txc_at(0, 0xffffffffu);

	(void)arg;
	t.cap = 1000;
	CHECK_EQ(vsp_txc_window(&t), 1000);
	CHECK_EQ(vsp_txc_space(&t), 1000);
	CHECK_EQ(vsp_txc_take(&t, 0xffffffffu), 1000);
	CHECK_EQ(vsp_txc_space(&t), 0);
	t.peer_buf_alloc = 999;
	CHECK_EQ(vsp_txc_window(&t), 999);
	t.peer_buf_alloc = 1000;
	CHECK_EQ(vsp_txc_window(&t), 1000);
	t.peer_buf_alloc = 1001;
	CHECK_EQ(vsp_txc_window(&t), 1000);
}

static void take_to_the_last_byte(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_txc t = txc_at(bases[i], 100);

		CHECK_EQ(vsp_txc_space(&t), 100);
		CHECK_EQ(vsp_txc_take(&t, 99), 99);
		CHECK_EQ(vsp_txc_space(&t), 1);
		CHECK_EQ(vsp_txc_unacked(&t), 99);
		CHECK_EQ(vsp_txc_unsent(&t), 99);
		CHECK_EQ(vsp_txc_take(&t, 2), 1);
		CHECK_EQ(vsp_txc_take(&t, 1), 0);
		CHECK_EQ(vsp_txc_take(&t, 0), 0);
		CHECK_EQ(t.tx_cnt, (u32)(bases[i] + 100));
		vsp_txc_untake(&t, 100);
		CHECK_EQ(t.tx_cnt, bases[i]);
		CHECK_EQ(vsp_txc_take(&t, 100), 100);
		vsp_txc_sent(&t, 60);
		CHECK_EQ(vsp_txc_unsent(&t), 40);
		CHECK_EQ(vsp_txc_unacked(&t), 100);
	}
}

/* A window that shrinks under bytes in flight leaves no space. The formula of 5.10.6.3 makes 4 GiB of it. */
static void shrink_under_flight(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_txc t = txc_at(bases[i], 100);

		vsp_txc_sent(&t, vsp_txc_take(&t, 80));
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 80, .fwd_cnt = bases[i] }),
			 VSP_CREDIT_SHRANK);
		CHECK_EQ(vsp_txc_space(&t), 0);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 79, .fwd_cnt = bases[i] }),
			 VSP_CREDIT_SAME);
		CHECK_EQ(vsp_txc_space(&t), 0);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 0, .fwd_cnt = bases[i] }),
			 VSP_CREDIT_SAME);
		CHECK_EQ(vsp_txc_space(&t), 0);
		CHECK_EQ(vsp_txc_take(&t, 1), 0);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 1, .fwd_cnt = bases[i] + 79 }),
			 VSP_CREDIT_SAME);
		CHECK_EQ(vsp_txc_space(&t), 0);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 1, .fwd_cnt = bases[i] + 80 }),
			 VSP_CREDIT_GREW);
		CHECK_EQ(vsp_txc_space(&t), 1);
	}
}

/* What was granted but is not on the ring cannot have been consumed. */
static void lie_is_seen(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		u32 b = bases[i];
		struct vsp_txc t = txc_at(b, 100);
		struct vsp_txc before;

		CHECK_EQ(vsp_txc_take(&t, 70), 70);
		vsp_txc_sent(&t, 50);
		before = t;
		CHECK_EQ(hear(&t, 500, b + 51), VSP_CREDIT_LIE);
		CHECK_EQ(hear(&t, 500, b + 70), VSP_CREDIT_LIE);
		CHECK_EQ(hear(&t, 500, b + VSP_WINDOW_MAX), VSP_CREDIT_LIE);
		CHECK_EQ(t.peer_fwd_cnt, before.peer_fwd_cnt);
		CHECK_EQ(t.peer_buf_alloc, before.peer_buf_alloc);
		CHECK_EQ(vsp_txc_space(&t), 30);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 100, .fwd_cnt = b + 50 }),
			 VSP_CREDIT_GREW);
		CHECK_EQ(vsp_txc_space(&t), 80);
		CHECK_EQ(t.peer_fwd_cnt, (u32)(b + 50));
	}
}

/* An acknowledgement from before the last one changes nothing, whatever window it came with. */
static void stale_is_ignored(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		u32 b = bases[i];
		struct vsp_txc t = txc_at(b, 100);

		vsp_txc_sent(&t, vsp_txc_take(&t, 100));
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 100, .fwd_cnt = b + 40 }),
			 VSP_CREDIT_GREW);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 999, .fwd_cnt = b + 39 }),
			 VSP_CREDIT_SAME);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 0, .fwd_cnt = b }), VSP_CREDIT_SAME);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ 7, b + 40 + VSP_WINDOW_MAX + 1 }), VSP_CREDIT_SAME);
		CHECK_EQ(t.peer_buf_alloc, 100);
		CHECK_EQ(t.peer_fwd_cnt, (u32)(b + 40));
		/* The same acknowledgement again, with a new window, is news. */
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 101, .fwd_cnt = b + 40 }),
			 VSP_CREDIT_GREW);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 101, .fwd_cnt = b + 40 }),
			 VSP_CREDIT_SAME);
		CHECK_EQ(vsp_txc_update(&t, (struct vsp_stamp){ .buf_alloc = 100, .fwd_cnt = b + 40 }),
			 VSP_CREDIT_SHRANK);
	}
}

static void admit_to_the_edge(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_rxc r = rxc_at(bases[i], 100);

		CHECK_EQ(r.edge, (u32)(bases[i] + 100));
		CHECK(!vsp_rxc_admit(&r, 101));
		CHECK_EQ(r.rx_cnt, bases[i]);
		CHECK(!vsp_rxc_admit(&r, 0xffffffffu));
		CHECK(vsp_rxc_admit(&r, 99));
		CHECK(!vsp_rxc_admit(&r, 2));
		CHECK(vsp_rxc_admit(&r, 1));
		CHECK(vsp_rxc_admit(&r, 0));
		CHECK(!vsp_rxc_admit(&r, 1));
		CHECK_EQ(vsp_rxc_unread(&r), 100);
		/* What was consumed may come again only when the peer was told. */
		vsp_rxc_consume(&r, 30);
		CHECK_EQ(vsp_rxc_unread(&r), 70);
		CHECK(!vsp_rxc_admit(&r, 1));
		vsp_rxc_stamp(&r);
		CHECK(!vsp_rxc_admit(&r, 31));
		CHECK(vsp_rxc_admit(&r, 30));
	}
}

static void nothing_before_a_stamp(const void *arg)
{
	struct vsp_rxc r = vsp_rxc_init(100);

	(void)arg;
	CHECK(!vsp_rxc_admit(&r, 1));
	CHECK(vsp_rxc_admit(&r, 0));
}

static void stamp_says(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_rxc r = rxc_at(bases[i], 100);
		struct vsp_stamp s;

		CHECK(vsp_rxc_admit(&r, 60));
		vsp_rxc_consume(&r, 25);
		s = vsp_rxc_stamp(&r);
		CHECK_EQ(s.buf_alloc, 100);
		CHECK_EQ(s.fwd_cnt, (u32)(bases[i] + 25));
		CHECK_EQ(r.told.fwd_cnt, (u32)(bases[i] + 25));
		CHECK_EQ(r.edge, (u32)(bases[i] + 125));
	}
}

/* What was given back arrives again, and not more than that. */
static void unadmitted_comes_again(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_rxc r = rxc_at(bases[i], 100);

		CHECK(vsp_rxc_admit(&r, 60));
		CHECK(vsp_rxc_admit(&r, 40));
		vsp_rxc_unadmit(&r, 40);
		CHECK_EQ(vsp_rxc_unread(&r), 60);
		CHECK(!vsp_rxc_admit(&r, 41));
		CHECK(vsp_rxc_admit(&r, 40));
	}
}

/* A smaller window is a wish for the future: what the peer was promised may still come. */
static void edge_never_moves_back(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_rxc r = rxc_at(bases[i], 100);

		CHECK(vsp_rxc_admit(&r, 10));
		r.buf_alloc = 20;
		vsp_rxc_stamp(&r);
		CHECK_EQ(r.edge, (u32)(bases[i] + 100));
		r.buf_alloc = 1;
		vsp_rxc_stamp(&r);
		CHECK(vsp_rxc_admit(&r, 90));
		CHECK(!vsp_rxc_admit(&r, 1));
		vsp_rxc_stamp(&r);
		CHECK_EQ(r.edge, (u32)(bases[i] + 100));
		vsp_rxc_consume(&r, 99);
		vsp_rxc_stamp(&r);
		CHECK_EQ(r.edge, (u32)(bases[i] + 100));
		vsp_rxc_consume(&r, 1);
		vsp_rxc_stamp(&r);
		CHECK_EQ(r.edge, (u32)(bases[i] + 101));
	}
}

static void update_at_half(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_rxc r = rxc_at(bases[i], 100);

		CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
		CHECK(!vsp_rxc_update_due(&r, 1000, VSP_WINDOW_MAX));
		CHECK(vsp_rxc_admit(&r, 100));
		CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
		vsp_rxc_consume(&r, 49);
		CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
		vsp_rxc_consume(&r, 1);
		CHECK(vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
		vsp_rxc_stamp(&r);
		CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
	}
}

static void update_for_lowat(const void *arg)
{
	struct vsp_rxc r = rxc_at(0, 100);

	(void)arg;
	CHECK(vsp_rxc_admit(&r, 100));
	vsp_rxc_consume(&r, 10);
	/* 90 unread, nothing may come: one who waits for 90 has them, one who waits for 91 would wait for ever. */
	CHECK(!vsp_rxc_update_due(&r, 90, VSP_WINDOW_MAX));
	CHECK(vsp_rxc_update_due(&r, 91, VSP_WINDOW_MAX));
	vsp_rxc_stamp(&r);
	/* No news: saying it again would not help. */
	CHECK(!vsp_rxc_update_due(&r, 200, VSP_WINDOW_MAX));
}

static void update_for_a_grown_window(const void *arg)
{
	struct vsp_rxc r = rxc_at(0, 100);

	(void)arg;
	r.buf_alloc = 199;
	CHECK(vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
	r = rxc_at(0, 100);
	r.buf_alloc = 150;
	CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
	r.buf_alloc = 50;
	CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
	CHECK(!vsp_rxc_update_due(&r, 101, VSP_WINDOW_MAX));
}

static void smallest_and_largest_window(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(bases); i++) {
		struct vsp_rxc r = rxc_at(bases[i], 1);
		struct vsp_txc t = txc_at(bases[i], VSP_WINDOW_MAX);

		CHECK(vsp_rxc_admit(&r, 1));
		CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
		vsp_rxc_consume(&r, 1);
		CHECK(vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
		r = rxc_at(bases[i], VSP_WINDOW_MAX);
		CHECK(vsp_rxc_admit(&r, VSP_WINDOW_MAX));
		CHECK(!vsp_rxc_admit(&r, 1));
		CHECK_EQ(vsp_txc_take(&t, 0xffffffffu), VSP_WINDOW_MAX);
		vsp_txc_sent(&t, VSP_WINDOW_MAX);
		CHECK_EQ(hear(&t, VSP_WINDOW_MAX, bases[i] + VSP_WINDOW_MAX), VSP_CREDIT_GREW);
		CHECK_EQ(vsp_txc_space(&t), VSP_WINDOW_MAX);
	}
}

/* A peer that asked is told of any room, until it has been told that everything was read. */
static void update_for_who_asked(const void *arg)
{
	struct vsp_rxc r = vsp_rxc_init(100);

	(void)arg;
	vsp_rxc_stamp(&r);
	CHECK(vsp_rxc_admit(&r, 50));
	vsp_rxc_ask(&r);
	CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
	vsp_rxc_consume(&r, 1);
	CHECK(vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
	vsp_rxc_stamp(&r);
	CHECK(r.asked);
	vsp_rxc_consume(&r, 49);
	CHECK(vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
	vsp_rxc_stamp(&r);
	CHECK(!r.asked);
	CHECK(vsp_rxc_admit(&r, 1));
	vsp_rxc_consume(&r, 1);
	CHECK(!vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX));
}

/* What is due for the question alone may wait while more is unread than there is to tell; nothing else may. */
static void update_that_may_wait(const void *arg)
{
	struct vsp_rxc r = vsp_rxc_init(100);

	(void)arg;
	vsp_rxc_stamp(&r);
	CHECK(vsp_rxc_admit(&r, 40));
	vsp_rxc_ask(&r);
	vsp_rxc_consume(&r, 19);
	CHECK(vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX) && vsp_rxc_update_may_wait(&r, 1, VSP_WINDOW_MAX));
	/* The reader waits for more than the peer believes it may send; or that is all that the peer ever sends. */
	CHECK(vsp_rxc_update_due(&r, 82, VSP_WINDOW_MAX) && !vsp_rxc_update_may_wait(&r, 82, VSP_WINDOW_MAX));
	CHECK(vsp_rxc_update_due(&r, 1, 38) && !vsp_rxc_update_may_wait(&r, 1, 38));
	/* As much was read as is unread. */
	vsp_rxc_consume(&r, 1);
	CHECK(vsp_rxc_update_due(&r, 1, VSP_WINDOW_MAX) && !vsp_rxc_update_may_wait(&r, 1, VSP_WINDOW_MAX));
}

static const struct check_case cases[] = {
	CASE(starts_at_zero),
	CASE(window_is_clamped),
	CASE(cap_limits_peer),
	CASE(take_to_the_last_byte),
	CASE(shrink_under_flight),
	CASE(lie_is_seen),
	CASE(stale_is_ignored),
	CASE(admit_to_the_edge),
	CASE(nothing_before_a_stamp),
	CASE(stamp_says),
	CASE(unadmitted_comes_again),
	CASE(edge_never_moves_back),
	CASE(update_at_half),
	CASE(update_for_lowat),
	CASE(update_for_a_grown_window),
	CASE(smallest_and_largest_window),
	CASE(update_for_who_asked),
	CASE(update_that_may_wait),
};

CHECK_SUITE(credit, cases);
