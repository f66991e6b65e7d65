// SPDX-License-Identifier: BSD-2-Clause
#include "sim.h"

#include "kernel/proto/names.h"

#include <stdlib.h>
#include <string.h>

enum {
	TROUBLE_MS = 3000, /* after this, at most, nothing goes wrong any more */
	CONNECT_MS = 2000,
	CLOSE_MS = 8000,
	STOP_MS = 500,	 /* an end that does not look at its ring, at most */
	STEP_NS = 10000, /* a step takes, at most */
};

u32 sim_random(struct sim_rng *r)
{
	u64 z = r->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (u32)((z ^ (z >> 31)) >> 32);
}

u32 sim_below(struct sim_rng *r, u32 below)
{
	return (u32)(((u64)sim_random(r) * below) >> 32);
}

bool sim_once_in(struct sim_rng *r, u32 n)
{
	return n && sim_below(r, n) == 0;
}

u32 sim_some(struct sim_rng *r, u32 max)
{
	u32 bits = 0;
	u64 mask;

	while (bits < 32 && max >> bits)
		bits++;
	mask = (1ull << sim_below(r, bits + 1)) - 1;
	return (u32)((mask & sim_random(r)) % ((u64)max + 1));
}

/* Each kind of fault is in some worlds only, and often or seldom in these. */
static u32 how_often(struct sim_rng *r, u32 in_worlds, u32 seldom)
{
	return sim_once_in(r, in_worlds) ? 2 + sim_some(r, seldom) : 0;
}

static struct sim_faults choose_faults(struct sim_rng *r)
{
	return (struct sim_faults){
		.late = how_often(r, 2, 20),
		.lost = how_often(r, 8, 200),
		.back = how_often(r, 4, 30),
		.resize = how_often(r, 4, 100),
		.stop = how_often(r, 4, 500),
		.reset = how_often(r, 8, 500),
		.forget = how_often(r, 6, 300),
		.lie = how_often(r, 4, 50),
		.abort = how_often(r, 3, 10),
		.early = how_often(r, 3, 10),
		.refuse = how_often(r, 3, 10),
	};
}

/* Every step of every connection passes here. */
static void step_taken(const struct vsock_conn *c, enum vsp_state from, enum vsp_event event,
		       const struct vsp_verdict *v)
{
	const struct sim_app *a = (const struct sim_app *)(const void *)((const u8 *)c - offsetof(struct sim_app, c));

	SIM_CHECK(a->end->world, v->possible);
	SIM_CHECK(a->end->world, c->state == from);
	sim_trace(a->end->world, "%s: flow %d %s + %s -> %s", a->end->side ? "guest" : "host", a->flow,
		  vsp_state_name(from), vsp_event_name(event), vsp_state_name(v->next));
}

static void begin(struct sim_world *w)
{
	static const u32 windows[] = { 1, 100, 2000, 65536, 262144, 1 << 20 };

	w->begin_at = 0;
	w->to_begin = 1 + sim_below(&w->rng, SIM_FLOWS_MAX - 1);
	w->faults = choose_faults(&w->rng);
	w->liar = w->faults.lie ? sim_below(&w->rng, SIM_ENDS) : SIM_ENDS;
	for (u32 i = 0; i < SIM_ENDS; i++)
		sim_ring_init(w, &w->rings[i]);
	for (u32 i = 0; i < SIM_ENDS; i++) {
		struct sim_end *e = &w->ends[i];
		struct vsock_params params = {
			.guest_cid = i == SIM_HOST ? SIM_GUEST_CID : VSP_CID_HOST,
			.host_cid = i == SIM_HOST ? VSP_CID_HOST : SIM_GUEST_CID,
			.window = windows[sim_below(&w->rng, ARRAY_SIZE(windows))],
			.conns_max = SIM_CONNS_MAX,
			.connect_timeout = CONNECT_MS * SIM_MS,
			.close_timeout = CLOSE_MS * SIM_MS,
			.seed = sim_random(&w->rng),
		};

		e->world = w;
		e->side = i;
		e->out = &w->rings[i];
		e->in = &w->rings[!i];
		if (vsock_mux_init(&e->mux, &params))
			sim_fail(w, "out of memory");
		e->mux.filter.types = VSP_TYPES(VSP_TYPE_STREAM) | VSP_TYPES(VSP_TYPE_SEQPACKET);
		e->mux.filter.my_cid = i == SIM_HOST ? VSP_CID_HOST : SIM_GUEST_CID;
		e->mux.piece = e->out->piece;
		e->mux.trace = step_taken;
	}
}

/* An end forgets everything; what lies on the rings is gone, too. */
static void forget(struct sim_world *w, u32 side)
{
	sim_trace(w, "%s forgets everything", side ? "guest" : "host");
	for (u32 i = 0; i < w->nflows; i++)
		w->flows[i].excuses |= SIM_RESET;
	sim_ring_clear(&w->rings[SIM_HOST]);
	sim_ring_clear(&w->rings[SIM_GUEST]);
	vsock_mux_gone(&w->ends[side].mux);
	sim_end_news(&w->ends[side]);
	SIM_CHECK(w, !w->ends[side].mux.hashed && !vsp_sched_next(&w->ends[side].mux.sched));
	/* Whoever is left with an end of a flow that is not there any more gives it up some time. */
	for (struct sim_app *a = w->ends[!side].apps; a; a = a->next)
		a->wake = w->now + sim_below(&w->rng, 100) * SIM_MS;
}

static void resize(struct sim_world *w, struct sim_end *e)
{
	for (struct sim_app *a = e->apps; a; a = a->next) {
		if (sim_once_in(&w->rng, 2))
			a->c.rxc.buf_alloc = 1 + sim_some(&w->rng, 1 << 20);
		vsock_mux_lowat(&e->mux, &a->c, a->c.lowat);
	}
}

/* From now on everybody is honest and in time, and every flow must come to its end. */
static void calm_down(struct sim_world *w)
{
	w->calm = true;
	for (u32 i = 0; i < SIM_ENDS; i++) {
		struct sim_end *e = &w->ends[i];

		for (struct sim_app *a = e->apps; a; a = a->next) {
			a->c.rxc.buf_alloc = e->mux.params.window;
			vsock_mux_lowat(&e->mux, &a->c, a->c.lowat);
			if (sim_flow_of(a)->excuses & SIM_LIED)
				a->wake = w->now;
		}
	}
}

static void make_trouble(struct sim_world *w)
{
	struct sim_faults *f = &w->faults;

	if (sim_once_in(&w->rng, f->reset)) {
		forget(w, SIM_HOST);
		forget(w, SIM_GUEST);
	}
	if (sim_once_in(&w->rng, f->forget))
		forget(w, sim_below(&w->rng, SIM_ENDS));
	if (sim_once_in(&w->rng, f->resize))
		resize(w, &w->ends[sim_below(&w->rng, SIM_ENDS)]);
	if (sim_once_in(&w->rng, f->stop)) {
		w->late = true;
		w->rings[sim_below(&w->rng, SIM_ENDS)].stopped_until = w->now + sim_below(&w->rng, STOP_MS) * SIM_MS;
	}
	if (sim_once_in(&w->rng, f->lie))
		sim_lie(w);
	if (w->now > TROUBLE_MS * SIM_MS)
		calm_down(w);
}

/* What must hold at all times, whatever the peer does. */
static void check_end(const struct sim_end *e)
{
	const struct vsock_mux *m = &e->mux;
	const struct sim_world *w = e->world;
	u32 hashed = 0;

	for (const struct sim_app *a = e->apps; a; a = a->next) {
		hashed += a->c.hashed;
		sim_app_check(a);
	}
	SIM_CHECK(w, m->hashed == hashed);
	SIM_CHECK(w, m->budget.used <= VSP_REPLIES_DEFAULT);
	SIM_CHECK(w, m->timers.n <= SIM_CONNS_MAX);
	SIM_CHECK(w, !m->budget.used == !vsp_flow_queued(&m->replies_flow));
	if (w->faults.lie || w->faults.forget)
		return;
	/* Among honest ends that know of each other a packet can only be too late for its flow. */
	for (u32 i = VSP_OK + 1; i < NUM_VSP_REJECTS; i++) {
		if (i != VSP_REJECT_NO_FLOW && m->rejects[i])
			sim_fail(w, "the %s refused honest packets: %s", e->side ? "guest" : "host",
				 vsp_reject_name(i));
	}
}

static void check_gone(const struct sim_end *e)
{
	const struct sim_world *w = e->world;

	SIM_CHECK(w, !e->apps);
	SIM_CHECK(w, !e->mux.hashed);
	SIM_CHECK(w, !e->mux.timers.n);
	SIM_CHECK(w, !e->mux.budget.used);
	SIM_CHECK(w, !vsp_sched_next(&e->mux.sched));
	SIM_CHECK(w, !e->mux.news);
}

/* The things that can be done now, in a list from which the seed chooses. */
struct choice {
	struct sim_end *end;
	struct sim_app *app;
	enum { TAKE, PUT, ACT, BEGIN } what;
};

static u32 choices(struct sim_world *w, struct choice *list)
{
	u32 n = 0;

	if (w->to_begin && w->begin_at <= w->now)
		list[n++] = (struct choice){ .what = BEGIN };
	for (u32 i = 0; i < SIM_ENDS; i++) {
		struct sim_end *e = &w->ends[i];

		if (sim_ring_readable(e->in, w->now) && vsp_budget_left(&e->mux.budget))
			list[n++] = (struct choice){ .what = TAKE, .end = e };
		if (!e->out->writer_sleeps && vsock_mux_next(&e->mux).any)
			list[n++] = (struct choice){ .what = PUT, .end = e };
		for (struct sim_app *a = e->apps; a; a = a->next) {
			if (a->wake <= w->now)
				list[n++] = (struct choice){ .what = ACT, .app = a, .end = e };
		}
	}
	return n;
}

static void perform(struct sim_world *w, const struct choice *c)
{
	switch (c->what) {
	case TAKE:
		sim_end_from_peer(c->end);
		break;
	case PUT:
		sim_end_to_peer(c->end);
		break;
	case ACT:
		sim_app_act(c->app);
		sim_end_news(c->end);
		break;
	case BEGIN:
		sim_app_begin(&w->ends[sim_below(&w->rng, SIM_ENDS)]);
		w->to_begin--;
		w->begin_at = w->now + sim_some(&w->rng, 200) * SIM_MS;
		break;
	}
}

static u64 next_deadline(const struct sim_world *w)
{
	u64 at = w->to_begin ? w->begin_at : SIM_NEVER;

	for (u32 i = 0; i < SIM_ENDS; i++) {
		const struct sim_end *e = &w->ends[i];
		u64 ring = sim_ring_deadline(e->in, w->now), timer = vsock_timers_next(&e->mux.timers);

		at = ring < at ? ring : at;
		at = timer < at ? timer : at;
		for (const struct sim_app *a = e->apps; a; a = a->next)
			at = a->wake < at ? a->wake : at;
	}
	return at;
}

static void set_time(struct sim_world *w, u64 now)
{
	w->now = now;
	for (u32 i = 0; i < SIM_ENDS; i++) {
		w->ends[i].mux.now = now;
		sim_ring_time(&w->rings[i], now);
	}
	for (u32 i = 0; i < SIM_ENDS; i++)
		sim_end_expire(&w->ends[i]);
}

/* One thing happens. False: nothing ever will. */
static bool step(struct sim_world *w)
{
	struct choice list[2 * SIM_ENDS + 2 * SIM_CONNS_MAX + 1];
	u64 at;
	u32 n;

	if (!w->calm)
		make_trouble(w);
	n = choices(w, list);
	if (n) {
		perform(w, &list[sim_below(&w->rng, n)]);
		set_time(w, w->now + sim_below(&w->rng, STEP_NS));
		return true;
	}
	at = next_deadline(w);
	if (at == SIM_NEVER && w->calm)
		return false;
	if (at == SIM_NEVER) {
		calm_down(w);
		return true;
	}
	set_time(w, at > w->now ? at : w->now);
	return true;
}

void sim_run(u64 seed, bool trace)
{
	struct sim_world *w = calloc(1, sizeof(*w));

	if (!w)
		abort();
	w->seed = seed;
	w->trace = trace;
	w->rng.state = seed;
	begin(w);
	while (step(w)) {
		for (u32 i = 0; i < SIM_ENDS; i++) {
			sim_apps_reap(&w->ends[i]);
			check_end(&w->ends[i]);
		}
		if (++w->steps > SIM_STEPS_MAX)
			sim_fail(w, "it does not end");
	}
	for (u32 i = 0; i < SIM_ENDS; i++) {
		for (struct sim_app *a = w->ends[i].apps; a; a = a->next)
			sim_fail(w, "stall: flow %d waits at the %s in state %s for something that never comes",
				 a->flow, i ? "guest" : "host", vsp_state_name(a->c.state));
		check_gone(&w->ends[i]);
	}
	for (u32 i = 0; i < SIM_ENDS; i++)
		vsock_mux_fini(&w->ends[i].mux);
	free(w);
}
