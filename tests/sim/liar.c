// SPDX-License-Identifier: BSD-2-Clause
/*
 * liar.c - packets that no honest engine sends, from one side, about flows that are marked as its targets
 *
 * A lie may end the flow that it is about. Whoever is not a target must not notice.
 */
#include "sim.h"

enum {
	NOBODYS_PORT = 77777, /* no flow has it */
	DEAF_ONE_IN = 100,
	DEAF_MS = 300,
};

static struct sim_app *choose_target(struct sim_world *w)
{
	u32 n = 0, chosen;

	for (u32 i = 0; i < w->nflows; i++)
		n += w->flows[i].target && w->flows[i].app[!w->liar];
	if (!n)
		return NULL;
	chosen = sim_below(&w->rng, n);
	for (u32 i = 0; i < w->nflows; i++) {
		if (w->flows[i].target && w->flows[i].app[!w->liar] && chosen-- == 0)
			return w->flows[i].app[!w->liar];
	}
	return NULL;
}

/* A header to begin with: one that could be true. */
static struct vsp_hdr likely(struct sim_world *w, const struct sim_app *a)
{
	const struct vsock_conn *c = &a->c;

	return (struct vsp_hdr){
		.src = { .cid = w->liar == SIM_GUEST ? SIM_GUEST_CID : VSP_CID_HOST, .port = c->guest_port },
		.dst = { .cid = c->host_cid, .port = c->host_port },
		.len = sim_some(&w->rng, VSP_MAX_PAYLOAD),
		.type = c->type,
		.op = (u16)sim_below(&w->rng, NUM_VSP_OPS + 1),
		.flags = sim_below(&w->rng, 4),
		.buf_alloc = sim_some(&w->rng, UINT32_MAX),
		.fwd_cnt = c->txc.sent_cnt + sim_some(&w->rng, 1000) - 500,
	};
}

void sim_lie(struct sim_world *w)
{
	struct sim_ring *r = &w->rings[w->liar];
	struct sim_app *a = choose_target(w);
	struct sim_packet p = { .forged = true };
	struct vsp_hdr hdr;

	/* Now and then it does not look at answers either, and they pile up. */
	if (sim_once_in(&w->rng, DEAF_ONE_IN)) {
		w->late = true;
		w->rings[!w->liar].stopped_until = w->now + DEAF_MS * SIM_MS;
	}
	if (!a || sim_ring_full(r))
		return;
	p.flow = a->flow;
	hdr = likely(w, a);
	switch (sim_below(&w->rng, 8)) {
	case 0:
		hdr.src.port = NOBODYS_PORT;
		break;
	case 1:
		hdr.src.cid = sim_random(&w->rng);
		break;
	case 2:
		hdr.type = (u16)sim_random(&w->rng);
		break;
	case 3:
		hdr.fwd_cnt = sim_random(&w->rng);
		break;
	default:
		break;
	}
	if (hdr.op != VSP_OP_RW && sim_once_in(&w->rng, 2))
		hdr.len = 0;
	p.wire = vsp_encode(hdr);
	p.have = sim_once_in(&w->rng, 8) ? sim_below(&w->rng, VSP_HDR_LEN + hdr.len) : VSP_HDR_LEN + hdr.len;
	sim_ring_put(w, r, &p);
}
