// SPDX-License-Identifier: BSD-2-Clause
/*
 * app.c - the applications of a flow, and what must hold for it
 *
 * Both ends write what was planned, read what comes, and say that they are done; unless they give up before. An
 * application does nothing without a reason: it acts when it has something to write or to read, or when it was told
 * something.
 */
#include "sim.h"

#include "kernel/proto/names.h"

#include <stdlib.h>

enum {
	PIECES_MAX = 200,    /* a direction has no more packets than about this many, however small they must be */
	ANSWER_MS = 100,     /* a request waits this long, at most */
	PACE_MS = 50,	     /* between two acts of an application, at most */
	CHUNK = 30000,	     /* written or read at a time, at most */
	WRAP_NEAR = 1 << 20, /* counters start as near as this to their wrap */
	EMPTY_ONE_IN = 10,   /* messages */
	FIRST_PORT = 1000,
};

/* Short and long ones, and such as nearly fill the window. */
static void plan_messages(struct sim_world *w, struct sim_flow *f, u32 side, u32 longest)
{
	u32 n = sim_some(&w->rng, SIM_MESSAGES_MAX);

	for (u32 i = 0; i < n && f->dir[side].total < SIM_BYTES_MAX; i++) {
		u32 len = sim_once_in(&w->rng, 2) ? longest - sim_below(&w->rng, longest / 2 + 1) :
						    sim_some(&w->rng, longest);

		f->messages[side][i] = sim_once_in(&w->rng, EMPTY_ONE_IN) ? 0 : len;
		f->dir[side].total += f->messages[side][i];
		f->nmessages[side]++;
	}
}

static void plan_bytes(struct sim_world *w, struct sim_flow *f, u32 side)
{
	const struct sim_end *e = &w->ends[side];
	u32 window = w->ends[!side].mux.params.window;
	u32 piece = e->out->piece < window ? e->out->piece : window;
	u32 most = piece < SIM_BYTES_MAX / PIECES_MAX ? piece * PIECES_MAX : SIM_BYTES_MAX;

	if (f->type == VSP_TYPE_STREAM) {
		f->dir[side].total = sim_some(&w->rng, most);
		return;
	}
	plan_messages(w, f, side, most < window ? most : window);
}

static struct sim_flow *plan(struct sim_world *w, u32 side)
{
	struct sim_flow *f = &w->flows[w->nflows++];

	f->type = sim_once_in(&w->rng, 3) ? VSP_TYPE_SEQPACKET : VSP_TYPE_STREAM;
	f->began = (u8)side;
	f->target = w->liar != SIM_ENDS && sim_once_in(&w->rng, 2);
	f->eager = sim_once_in(&w->rng, 2);
	for (u32 i = 0; i < SIM_ENDS; i++) {
		f->base[i] = sim_once_in(&w->rng, 2) ? 0u - sim_below(&w->rng, WRAP_NEAR) : sim_random(&w->rng);
		plan_bytes(w, f, i);
	}
	return f;
}

static struct sim_app *app_new(struct sim_end *e, int flow)
{
	struct sim_world *w = e->world;
	struct sim_app *a = calloc(1, sizeof(*a));

	if (!a)
		abort();
	a->end = e;
	a->flow = flow;
	a->wake = SIM_NEVER;
	a->pace = sim_some(&w->rng, PACE_MS) * SIM_MS;
	a->abort_at = sim_once_in(&w->rng, w->faults.abort) ? sim_some(&w->rng, SIM_BYTES_MAX) : SIM_NEVER;
	a->close_at = sim_once_in(&w->rng, w->faults.early) ? sim_some(&w->rng, SIM_BYTES_MAX) : SIM_NEVER;
	a->next = e->apps;
	e->apps = a;
	return a;
}

/* The counters do not begin at 0, so that they wrap; both ends agree about it. */
static void rebase(struct sim_app *a)
{
	struct sim_flow *f = sim_flow_of(a);
	u32 out = f->base[a->end->side], in = f->base[!a->end->side];

	a->c.txc.tx_cnt = out;
	a->c.txc.sent_cnt = out;
	a->c.txc.peer_fwd_cnt = out;
	a->c.rxc.rx_cnt = in;
	a->c.rxc.fwd_cnt = in;
	a->c.rxc.edge = in;
	a->c.rxc.told.fwd_cnt = in;
}

/* A system gives no port to a program as long as it has something to say for the one before, if only a reset. */
static bool taken(const struct sim_end *e, u32 port)
{
	for (const struct sim_app *a = e->apps; a; a = a->next) {
		if (a->c.host_port == port)
			return true;
	}
	return false;
}

void sim_app_begin(struct sim_end *e)
{
	struct sim_world *w = e->world;
	u32 port = FIRST_PORT + sim_below(&w->rng, SIM_PORTS);
	struct vsp_addr to = { .cid = e->mux.params.guest_cid, .port = FIRST_PORT };
	struct sim_flow *f;
	struct sim_app *a;
	int flow;

	/* What is left of a flow before is no fault in worlds in which an end may forget it. */
	if (e->side == SIM_GUEST && (taken(e, port) || (w->used[port - FIRST_PORT] && !w->faults.forget)))
		return;
	flow = (int)w->nflows;
	f = plan(w, e->side);
	a = app_new(e, flow);
	f->app[e->side] = a;
	sim_trace(w, "flow %d begins at the %s, type %u, %llu and %llu bytes", flow, e->side ? "guest" : "host",
		  f->type, (unsigned long long)f->dir[SIM_HOST].total, (unsigned long long)f->dir[SIM_GUEST].total);
	if (e->side == SIM_HOST) {
		to.port = port;
		SIM_CHECK(w, vsock_mux_connect(&e->mux, &a->c, f->type, to));
	} else {
		struct vsp_addr from = { .cid = SIM_GUEST_CID, .port = port };

		if (w->used[port - FIRST_PORT])
			f->excuses |= SIM_REUSED;
		SIM_CHECK(w, vsock_mux_connect_from(&e->mux, &a->c, f->type, from, to));
	}
	rebase(a);
}

void sim_app_spawn(struct sim_end *e, const struct vsp_hdr *hdr, const struct sim_packet *p)
{
	struct sim_world *w = e->world;
	struct sim_flow *f = p->forged ? NULL : &w->flows[p->flow];
	struct sim_app *a;

	if (!f) {
		vsock_mux_refuse(&e->mux, hdr, VSP_REJECT_NO_FLOW);
		return;
	}
	SIM_CHECK(w, !f->app[e->side]);
	a = app_new(e, p->flow);
	f->app[e->side] = a;
	f->dir[e->side].window = hdr->buf_alloc;
	f->dir[e->side].promised = hdr->buf_alloc;
	a->refuses = sim_once_in(&w->rng, w->faults.refuse);
	if (a->refuses)
		f->excuses |= SIM_REFUSED;
	a->answer_at = w->now + sim_some(&w->rng, ANSWER_MS) * SIM_MS;
	a->wake = a->answer_at;
	vsock_mux_spawn(&e->mux, &a->c, hdr);
	rebase(a);
}

/* May a flow end like this? An honest one ends in order, and whole. */
static void check_over(const struct sim_app *a)
{
	static const u32 allowed[NUM_VSP_ERRS] = {
		[VSP_ERR_REFUSED] = SIM_REFUSED | SIM_RESET | SIM_LIED | SIM_ABORTED | SIM_TOO_BIG | SIM_REUSED,
		[VSP_ERR_RESET] = SIM_RESET | SIM_LIED | SIM_ABORTED | SIM_EARLY | SIM_TOO_BIG | SIM_REUSED,
		[VSP_ERR_PROTO] = SIM_RESET | SIM_LIED | SIM_ABORTED | SIM_TOO_BIG | SIM_REUSED,
		[VSP_ERR_TIMEOUT] = SIM_RESET | SIM_LIED,
	};
	const struct sim_flow *f = sim_flow_of(a);
	const struct sim_direction *in = &f->dir[!a->end->side];
	struct sim_world *w = a->end->world;

	sim_trace(w, "%s: flow %d is over (%s), excuses %x, %llu of %llu bytes came", a->end->side ? "guest" : "host",
		  a->flow, vsp_err_name(a->c.err), f->excuses, (unsigned long long)in->received,
		  (unsigned long long)in->total);
	if (a->c.err != VSP_ERR_NONE) {
		/* Where a deadline passed, the other end hears of it as a reset. */
		if (!(f->excuses & allowed[a->c.err]) && !(w->late && a->c.err != VSP_ERR_PROTO))
			sim_fail(w, "flow %d ended at the %s without a reason: %s", a->flow,
				 a->end->side ? "guest" : "host", vsp_err_name(a->c.err));
		return;
	}
	if (f->excuses)
		return;
	SIM_CHECK(w, in->received == in->total);
	SIM_CHECK(w, in->sent == in->total);
	SIM_CHECK(w, in->messages_received == f->nmessages[!a->end->side]);
}

void sim_app_news(struct sim_app *a)
{
	u8 facts = a->c.facts;

	a->c.facts = 0;
	if (facts & VSOCK_OVER) {
		SIM_CHECK(a->end->world, !a->over);
		a->over = true;
		check_over(a);
	}
	if (facts & VSOCK_OPENED)
		a->opened = true;
	if (a->c.hints & VSP_SHUTDOWN_RCV) {
		a->mute = true;
		vsock_mux_ready(&a->end->mux, &a->c, false);
	}
	if (a->wake > a->end->world->now)
		a->wake = a->c.state == VSP_ACCEPTING ? a->answer_at : a->end->world->now;
}

/* Whole messages arrive in order, each once, and as long as they were. */
static void deliver_message(struct sim_app *a, const struct vsp_hdr *hdr)
{
	struct sim_flow *f = sim_flow_of(a);
	struct sim_direction *in = &f->dir[!a->end->side];
	struct sim_world *w = a->end->world;
	u32 whole = 0;

	switch (vsp_record_add(&a->record, hdr->len, hdr->flags, &whole)) {
	case VSP_RECORD_FULL:
		SIM_CHECK(w, f->excuses & SIM_LIED);
		vsock_mux_abort(&a->end->mux, &a->c);
		return;
	case VSP_RECORD_PART:
		vsock_mux_lowat(&a->end->mux, &a->c, (u32)(in->received - in->read) + VSP_MAX_PAYLOAD);
		return;
	case VSP_RECORD_END:
		a->c.lowat = 1;
		break;
	}
	if (!(f->excuses & SIM_LIED)) {
		SIM_CHECK(w, in->messages_received < f->nmessages[!a->end->side]);
		SIM_CHECK(w, whole == f->messages[!a->end->side][in->messages_received]);
	}
	if (!whole)
		vsp_record_empty_read(&a->record);
	in->messages_received++;
	a->readable += whole;
}

void sim_app_deliver(struct sim_app *a, const struct vsp_hdr *hdr, const struct sim_packet *p)
{
	struct sim_flow *f = sim_flow_of(a);
	struct sim_direction *in = &f->dir[!a->end->side];
	struct sim_world *w = a->end->world;

	SIM_CHECK(w, a->c.state == VSP_ESTABLISHED);
	/*
	 * Its ports had a flow that this end forgot alone, and that the other end had not answered: that one's answer
	 * and payload may come first, and nothing in the protocol tells them from this one's.
	 */
	if ((f->excuses & SIM_REUSED) && p->flow >= 0 && p->flow < a->flow && (w->flows[p->flow].excuses & SIM_RESET))
		f->excuses |= SIM_LIED;
	if (!(f->excuses & SIM_LIED)) {
		SIM_CHECK(w, p->flow == a->flow);
		SIM_CHECK(w, p->offset == in->received);
	}
	in->received += hdr->len;
	/* Whatever a liar says: no more than was promised. */
	SIM_CHECK(w, in->received <= in->offered);
	SIM_CHECK(w, in->received - in->read <= in->window_max);
	if (f->type == VSP_TYPE_STREAM)
		a->readable += hdr->len;
	else
		deliver_message(a, hdr);
	if (a->wake > w->now)
		a->wake = w->now + sim_below(&w->rng, 1 + (u32)a->pace);
}

/* No state without a reason for it, and nothing that nobody will ever look at. */
void sim_app_check(const struct sim_app *a)
{
	const struct vsock_conn *c = &a->c;
	const struct sim_world *w = a->end->world;

	switch (c->state) {
	case VSP_CONNECTING:
	case VSP_CLOSING:
		SIM_CHECK(w, c->timer.place && c->hashed);
		break;
	case VSP_ACCEPTING:
		SIM_CHECK(w, a->wake != SIM_NEVER && c->hashed);
		break;
	case VSP_ESTABLISHED:
		SIM_CHECK(w, c->hashed && a->opened);
		break;
	default:
		SIM_CHECK(w, c->state == VSP_CLOSED && !c->hashed && !c->timer.place && a->over);
		break;
	}
	SIM_CHECK(w, !a->over || c->state == VSP_CLOSED);
	SIM_CHECK(w, !c->in_news);
	SIM_CHECK(w, !c->timer.place || c->timer.at > w->now);
	/* Whoever owes something has a turn, and nobody has one who is done. */
	SIM_CHECK(w, !c->sends || vsp_flow_queued(&c->flow));
	SIM_CHECK(w, c->sends || c->state == VSP_ESTABLISHED || !vsp_flow_queued(&c->flow));
	/* A window that the peer has used up is announced anew, or there is something left to read. */
	SIM_CHECK(w, vsp_rxc_unread(&c->rxc) <= c->rxc.edge - c->rxc.fwd_cnt);
}

bool sim_app_next_message(struct sim_app *a, u32 *len)
{
	struct sim_flow *f = sim_flow_of(a);
	u32 sent = f->dir[a->end->side].messages_sent;

	if (sent == a->written) {
		vsock_mux_ready(&a->end->mux, &a->c, false);
		return false;
	}
	*len = f->messages[a->end->side][sent];
	return true;
}

void sim_app_sent(struct sim_app *a, bool last)
{
	struct sim_direction *d = &sim_flow_of(a)->dir[a->end->side];

	d->messages_sent += last;
	if (a->written == (a->c.type == VSP_TYPE_STREAM ? d->sent : d->messages_sent))
		vsock_mux_ready(&a->end->mux, &a->c, false);
	if (a->wake > a->end->world->now)
		a->wake = a->end->world->now;
}

static bool write_some(struct sim_app *a)
{
	struct sim_flow *f = sim_flow_of(a);
	struct sim_direction *d = &f->dir[a->end->side];
	struct sim_world *w = a->end->world;
	bool stream = f->type == VSP_TYPE_STREAM;
	u64 total = stream ? d->total : f->nmessages[a->end->side];
	u64 room = stream ? SIM_SOCKET_BYTES - (a->written - d->sent) : 1;
	u64 n = 1 + sim_some(&w->rng, CHUNK);

	if (a->mute || a->shut || a->written == total || !room)
		return false;
	n = n < room ? n : room;
	n = n < total - a->written ? n : total - a->written;
	a->written += n;
	vsock_mux_ready(&a->end->mux, &a->c, true);
	return a->written < total &&
	       (stream ? a->written - d->sent < SIM_SOCKET_BYTES : a->written - d->messages_sent < 2);
}

static bool read_some(struct sim_app *a)
{
	struct sim_direction *in = &sim_flow_of(a)->dir[!a->end->side];
	u32 n = 1 + sim_some(&a->end->world->rng, CHUNK);

	if (!a->readable)
		return false;
	n = n < a->readable ? n : a->readable;
	a->readable -= n;
	in->read += n;
	vsock_mux_consumed(&a->end->mux, &a->c, n);
	return a->readable > 0;
}

/* Say that this was all, when it was; end the flow when both said so. */
static void end_some(struct sim_app *a)
{
	struct sim_flow *f = sim_flow_of(a);
	struct sim_direction *out = &f->dir[a->end->side], *in = &f->dir[!a->end->side];
	struct vsock_mux *m = &a->end->mux;
	bool sent = f->type == VSP_TYPE_STREAM ? out->sent == out->total :
						 out->messages_sent == f->nmessages[a->end->side];

	if (a->mute && a->c.midway) {
		f->excuses |= SIM_ABORTED;
		vsock_mux_abort(m, &a->c);
		return;
	}
	if (!a->shut && (sent || a->mute)) {
		a->shut = true;
		vsock_mux_ready(m, &a->c, false);
		vsock_mux_shut(m, &a->c, VSP_SHUTDOWN_SEND);
	}
	if ((a->c.hints & VSP_SHUTDOWN_SEND) && in->received == in->read)
		a->heard_end = true;
	if (!a->heard_end || a->c.state != VSP_ESTABLISHED)
		return;
	if ((a->c.hints & VSP_SHUTDOWN_BOTH) == VSP_SHUTDOWN_BOTH)
		vsock_mux_drained(m, &a->c);
	else if (a->shut)
		vsock_mux_close(m, &a->c);
}

/* Give up before the end, as planned or because there is nobody any more. True: so it is. */
static bool give_up(struct sim_app *a)
{
	struct sim_flow *f = sim_flow_of(a);
	struct sim_world *w = a->end->world;
	u64 moved = f->dir[a->end->side].sent + f->dir[!a->end->side].received;

	if ((f->excuses & SIM_LIED) && w->calm) {
		vsock_mux_abort(&a->end->mux, &a->c);
	} else if (moved >= a->abort_at && !w->calm) {
		f->excuses |= SIM_ABORTED;
		vsock_mux_abort(&a->end->mux, &a->c);
	} else if ((moved >= a->close_at && !w->calm) || (f->excuses & SIM_RESET)) {
		f->excuses |= SIM_EARLY;
		a->shut = true;
		vsock_mux_close(&a->end->mux, &a->c);
	} else {
		return false;
	}
	return true;
}

void sim_app_act(struct sim_app *a)
{
	struct sim_world *w = a->end->world;
	bool more;

	a->wake = SIM_NEVER;
	if (a->c.state == VSP_ACCEPTING) {
		if (a->refuses)
			vsock_mux_deny(&a->end->mux, &a->c);
		else
			vsock_mux_accept(&a->end->mux, &a->c);
		return;
	}
	if (a->over) {
		/* What was delivered can still be read. */
		while (read_some(a))
			;
		return;
	}
	if (a->c.state == VSP_CLOSING)
		return;
	if ((a->opened || (sim_flow_of(a)->excuses & SIM_RESET)) && give_up(a))
		return;
	if (!a->opened)
		return;
	more = write_some(a);
	more |= read_some(a);
	end_some(a);
	if (more)
		a->wake = w->now + sim_below(&w->rng, 1 + (u32)a->pace);
}

static void forget_app(struct sim_app *a)
{
	struct sim_flow *f = sim_flow_of(a);
	struct sim_world *w = a->end->world;

	if (a->end->side == SIM_GUEST && f->began == SIM_GUEST && (f->excuses || w->late))
		w->used[a->c.host_port - FIRST_PORT] = true;
	f->app[a->end->side] = NULL;
	free(a);
}

void sim_apps_reap(struct sim_end *e)
{
	struct sim_app **link = &e->apps;

	while (*link) {
		struct sim_app *a = *link;

		if (!a->over || a->readable || !vsock_conn_idle(&a->c)) {
			link = &a->next;
			continue;
		}
		*link = a->next;
		forget_app(a);
	}
}
