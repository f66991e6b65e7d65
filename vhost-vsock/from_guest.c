// SPDX-License-Identifier: GPL-2.0-only
/*
 * from_guest.c - packets out of the buffers that the guest has sent
 *
 * Header and payload are copied once, into memory of ours, and the buffer goes back; what the packet means is the
 * common part's affair. Payload lands in pages just large enough, which a reader can have as they are.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "host.h"

static struct page *scratch_page(struct vh_dev *dev, u32 order)
{
	if (!dev->scratch[order])
		dev->scratch[order] = vst_payload_pages(&dev->link.spares, order, GFP_KERNEL | __GFP_NOWARN);
	return dev->scratch[order];
}

void vh_free_scratch(struct vh_dev *dev)
{
	u32 i;

	for (i = 0; i < VH_SCRATCH_ORDERS; i++) {
		if (dev->scratch[i])
			__free_pages(dev->scratch[i], i);
		dev->scratch[i] = NULL;
	}
	kvfree(dev->spare);
	dev->spare = NULL;
}

/*
 * Bytes of payload to copy. A header that lies about them is refused by the common part, payload or not; and so is a
 * datagram that nobody takes: of large ones that is asked first.
 */
static u32 payload_len(const struct vsp_wire *wire, u32 have)
{
	u32 len = le32_to_cpu(wire->len);

	if (le16_to_cpu(wire->op) != VSP_OP_RW || len > VSP_MAX_PAYLOAD || len > have - VSP_HDR_LEN)
		return 0;
	return len > VST_COPY_MAX && vst_dgram_refuses(wire) ? 0 : len;
}

static bool copy_payload(struct vh_dev *dev, struct vh_ring *r, struct vh_chain *c, u32 len,
			 struct vst_payload *payload)
{
	u8 *to = dev->spare;

	payload->order = get_order(len);
	payload->page = scratch_page(dev, payload->order);
	if (payload->page)
		to = page_address(payload->page);
	payload->data = to;
	return vh_ring_read(r, c, to, len);
}

/* Whatever there is of it: what is too short is for the common part to refuse. */
static bool read_hdr(struct vh_ring *r, struct vh_chain *c, struct vsp_wire *wire)
{
	return c->bytes < VSP_HDR_LEN ? vh_ring_read(r, c, wire, c->bytes) : vh_ring_read_hdr(r, c, wire);
}

static enum vsp_reject take(struct vh_dev *dev, struct vh_ring *r, struct vh_chain *c, u32 *bytes)
{
	struct vst_payload payload = { 0 };
	struct vsp_wire wire = { 0 };
	u32 len;

	if (!read_hdr(r, c, &wire))
		return VSP_REJECT_MEMORY;
	len = c->bytes > VSP_HDR_LEN ? payload_len(&wire, c->bytes) : 0;
	if (len && !copy_payload(dev, r, c, len, &payload))
		return VSP_REJECT_MEMORY;
	vst_rx(&dev->link, &wire, c->bytes, &payload);
	if (payload.taken)
		dev->scratch[payload.order] = NULL;
	*bytes += len;
	return vh_ring_use(r, c, 0);
}

/* What packets led to leaves for the guest: payload by the other thread, and with it all, or else headers by us. */
static void send_answers(struct vh_dev *dev)
{
	/* Whoever tells us does so after he has queued something: it is seen behind this. */
	bool told = READ_ONCE(dev->told) && xchg(&dev->told, false);

	if (dev->answers)
		vh_worker_wake(&dev->rings[VH_TO_GUEST].worker);
	else if (told)
		vh_answer(dev);
	dev->answers = false;
}

static void settle(struct vh_dev *dev)
{
	vst_rx_settle(&dev->link);
	send_answers(dev);
}

/* Take packets until there are none, the turn is over (*@more), or none may be taken now: resume_rx() will come. */
static enum vsp_reject take_packets(struct vh_dev *dev, struct vh_ring *r, bool *more)
{
	enum vsp_reject why = vh_ring_hush(r);
	u32 packets = 0, bytes = 0;
	struct vh_chain c;
	bool empty, came;

	while (why == VSP_OK && vst_rx_ready(&dev->link)) {
		*more = packets == VH_TURN_PACKETS || bytes >= VH_TURN_BYTES;
		if (*more)
			break;
		why = vh_ring_pop(r, false, &c, &empty);
		if (why != VSP_OK)
			break;
		if (!empty) {
			if (packets++ % VH_ANSWER_PACKETS == VH_ANSWER_PACKETS - 1)
				send_answers(dev);
			bytes += c.descs * VH_DESC_COST;
			why = take(dev, r, &c, &bytes);
			continue;
		}
		settle(dev);
		why = vh_ring_publish(r);
		if (why == VSP_OK && vh_worker_poll(r))
			continue;
		if (why == VSP_OK)
			why = vh_ring_await(r, &came);
		if (why == VSP_OK && !came)
			break;
	}
	return why == VSP_OK ? vh_ring_publish(r) : why;
}

bool vh_from_guest(struct vh_dev *dev)
{
	struct vh_ring *r = &dev->rings[VH_FROM_GUEST];
	enum vsp_reject why = VSP_OK;
	bool more = false;

	mutex_lock(&r->lock);
	WRITE_ONCE(dev->taker, current);
	if (vh_ring_live(r))
		why = take_packets(dev, r, &more);
	WRITE_ONCE(dev->taker, NULL);
	settle(dev);
	if (why != VSP_OK)
		vh_break(dev, r, why);
	mutex_unlock(&r->lock);
	return more && why == VSP_OK;
}
