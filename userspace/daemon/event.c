// SPDX-License-Identifier: BSD-2-Clause
/*
 * event.c - the event queue, where the front-end leaves it to us
 *
 * There is one event: TRANSPORT_RESET, for a driver whose connections are gone though it did not end them. That is so
 * where its rings begin in the middle: it was at work before this session, and is a guest that was restored or
 * migrated, or its front-end is here again after this daemon was away.
 */
#include "daemon/guest.h"

#include "kernel/proto/names.h"

#include <string.h>

/* virtio 1.3 5.10.6.7, struct virtio_vsock_event */
struct event {
	__le32 id;
};

enum {
	EVENT_TRANSPORT_RESET = 0,
};

void vsd_event_rings(struct vsd_guest *g)
{
	const struct vu_ring *rx = &g->dev.rings[VU_RING_RX];

	if (g->met || !vu_ring_live(rx))
		return;
	g->met = true;
	g->reset_due = rx->last_avail != 0;
}

static void put(const struct event *event, const struct iovec *iov, u32 niov)
{
	const u8 *from = (const u8 *)event;
	size_t left = sizeof(*event);

	for (u32 i = 0; i < niov && left; i++) {
		size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;

		memcpy(iov[i].iov_base, from, n);
		from += n;
		left -= n;
	}
}

/* Into the next buffer. False: there is none, or it is too small, and was used all the same. */
static bool tell_reset(struct vsd_guest *g, const struct vu_pop *p, const struct iovec *iov)
{
	const struct event reset = { .id = cpu_to_le32(EVENT_TRANSPORT_RESET) };
	bool fits = p->bytes >= sizeof(reset);

	if (fits) {
		put(&reset, iov, p->niov);
		vu_mem_dirty_iov(&g->dev.mem, iov, p->niov, sizeof(reset));
	}
	vu_ring_use(&g->dev.rings[VU_RING_EVENT], p->head, fits ? sizeof(reset) : 0);
	return fits;
}

void vsd_event_serve(struct vsd_guest *g)
{
	struct vu_ring *r = &g->dev.rings[VU_RING_EVENT];
	struct iovec *iov = g->loop->to.iov;

	for (u32 i = 0; i < r->size && g->reset_due; i++) {
		struct vu_pop p = vu_ring_pop(r, &g->dev.mem, true, iov, VSD_BATCH_IOV);

		if (p.what == VU_POP_BROKEN) {
			g->mux.rejects[p.why]++;
			vsd_guest_warn(g, "event ring is broken (%s)", vsp_reject_name(p.why));
		}
		/* Buffers that come later ring the bell. */
		if (p.what != VU_POP_CHAIN && !vu_ring_await(r))
			break;
		if (p.what != VU_POP_CHAIN || !tell_reset(g, &p, iov))
			continue;
		g->reset_due = false;
		g->counters.transport_resets++;
	}
	vu_ring_publish(r);
}
