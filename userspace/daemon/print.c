// SPDX-License-Identifier: BSD-2-Clause
/*
 * print.c - what is to be known of a guest, as lines "KIND KEY=VALUE ..."
 *
 * Called by the guest's thread, into memory.
 */
#include "daemon/session.h"

#include "kernel/proto/names.h"

#include <inttypes.h>

static void print_ring(const struct vsd_guest *g, u32 index, FILE *out)
{
	const struct vu_ring *r = &g->dev.rings[index];

	fprintf(out, "ring cid=%u ring=%s size=%u live=%d broken=%d waiting=%u\n", g->opts->guest_cid,
		vsd_session_ring[index], r->size, vu_ring_live(r), r->broken, vu_ring_waiting(r));
}

static void print_dgrams(const struct vsd_guest *g, FILE *out)
{
	const struct vsd_dgrams *d = &g->dgrams;

	fprintf(out,
		"datagrams cid=%u known=%d fragments=%d max=%u from_guest=%" PRIu64 " to_guest=%" PRIu64
		" unbound=%" PRIu64 " full=%" PRIu64 " cut=%" PRIu64 " no_guest=%" PRIu64 " too_big=%" PRIu64
		" bad=%" PRIu64 " no_memory=%" PRIu64 " refused=%" PRIu64 " bounced=%" PRIu64
		" sources=%u receivers_waited_for=%u bytes_queued=%u\n",
		g->opts->guest_cid, d->known, d->fragments, d->max, d->n.from_guest, d->n.to_guest, d->n.unbound,
		d->n.full, d->n.cut, d->n.no_guest, d->n.too_big, d->n.bad, d->n.no_memory, d->n.refused, d->n.bounced,
		d->n_sources, d->n_dests, d->queued);
}

void vsd_print_guest(const struct vsd_guest *g, FILE *out)
{
	const struct vsd_counters *n = &g->counters;
	u32 cid = g->opts->guest_cid;

	fprintf(out,
		"guest cid=%u up=%d connections=%u from_siblings=%u bytes_charged=%" PRIu64 " sessions=%" PRIu64
		" opened=%" PRIu64 " refused=%" PRIu64 " denied=%" PRIu64 " resets=%" PRIu64 " timed_out=%" PRIu64
		" packets_from_guest=%" PRIu64 " bytes_from_guest=%" PRIu64 " packets_to_guest=%" PRIu64
		" bytes_to_guest=%" PRIu64 " messages_too_big=%" PRIu64
		" replies_owed=%u no_buffers=%d held=%d transport_resets=%" PRIu64
		" draining=%d capturing=%d packets_not_captured=%" PRIu64 "\n",
		cid, vsd_session_up(g), g->conns, g->from_siblings, g->charged, n->sessions, n->opened, n->refused,
		n->denied, n->resets, n->timed_out, n->packets_from_guest, n->bytes_from_guest, n->packets_to_guest,
		n->bytes_to_guest, n->messages_too_big, g->mux.budget.used, g->starved, g->held != NULL,
		n->transport_resets, g->draining, g->tap.fd >= 0, g->tap.left_out);
	if (g->dgrams.on)
		print_dgrams(g, out);
	print_ring(g, VU_RING_RX, out);
	print_ring(g, VU_RING_TX, out);
	for (u32 i = VSP_OK + 1; i < NUM_VSP_REJECTS; i++) {
		if (g->mux.rejects[i])
			fprintf(out, "reject cid=%u reason=%s rejects=%" PRIu64 "\n", cid, vsp_reject_name(i),
				g->mux.rejects[i]);
	}
}

void vsd_print_conns(const struct vsd_guest *g, FILE *out)
{
	static const char *const phases[] = {
		[VSD_PHASE_NONE] = "none", [VSD_PHASE_COMMAND] = "command", [VSD_PHASE_DIAL] = "dial",
		[VSD_PHASE_PASS] = "pass", [VSD_PHASE_CONNECT] = "connect", [VSD_PHASE_WAIT] = "wait",
		[VSD_PHASE_OPEN] = "open", [VSD_PHASE_LINGER] = "linger",
	};

	for (const struct vsd_conn *s = g->all; s; s = s->all_next) {
		const struct vsock_conn *c = &s->c;

		fprintf(out,
			"connection cid=%u type=%s host_cid=%u host_port=%u guest_port=%u state=%s phase=%s unread=%u "
			"credit=%u window=%u unread_packets=%u\n",
			g->opts->guest_cid, s->seqpacket ? "seqpacket" : "stream", c->host_cid, c->host_port,
			c->guest_port, vsp_state_name(c->state), phases[s->phase], vsd_conn_unread(s),
			vsock_conn_credit(c), vsp_txc_window(&c->txc), c->meter.out);
	}
}
