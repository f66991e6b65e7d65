// SPDX-License-Identifier: GPL-2.0-only
/*
 * to_guest.c - packets into the buffers that the guest has posted
 *
 * What is sent next is the common part's choice, one packet at a time and only when a buffer is there for it. A packet
 * that is longer than a buffer goes on in the next one, with a header of its own. Nothing comes between the pieces of a
 * packet, nor, by the common part, between the packets of a datagram; that is what makes fragments of them.
 */
#include <linux/highmem.h>
#include <linux/mm.h>

#include "host.h"

/* What a turn may do, and has done so far. */
struct turn {
	u32 most_packets;
	u32 most_bytes;
	u32 packets;
	u32 bytes; /* copied, each descriptor counting VH_DESC_COST */
	struct list_head copied; /* packets that the guest has */
	bool gathers;		 /* writers are getting ahead of us */
};

static void begin_turn(struct turn *turn, u32 most_packets, u32 most_bytes)
{
	*turn = (struct turn){ .most_packets = most_packets, .most_bytes = most_bytes };
	INIT_LIST_HEAD(&turn->copied);
}

static bool is_over(const struct turn *turn)
{
	return turn->packets == turn->most_packets || turn->bytes >= turn->most_bytes;
}

/* Packets that the guest has. True: something that was kept back may go now, and nobody was told. */
static bool account_copied(struct vh_dev *dev, struct list_head *copied)
{
	struct vst_pkt *pkt, *next;
	LIST_HEAD(done);
	u32 corked;
	bool more;

	lockdep_assert_held(&dev->rings[VH_TO_GUEST].lock);
	if (list_empty(copied))
		return false;
	spin_lock(&dev->link.tx_lock);
	corked = dev->link.n_corked;
	list_for_each_entry_safe(pkt, next, copied, node) {
		list_del(&pkt->node);
		vst_pkt_done(pkt, &done);
	}
	more = dev->link.n_corked < corked;
	spin_unlock(&dev->link.tx_lock);
	vst_pkts_free(&done);
	return more;
}

/* The rest of the packet that was begun will not be sent, and nobody waits for more behind another. */
void vh_forget_current(struct vh_dev *dev)
{
	if (dev->current_pkt)
		list_add_tail(&dev->current_pkt->node, &dev->gathered);
	dev->current_pkt = NULL;
	account_copied(dev, &dev->gathered);
}

/* Copy @len bytes at @off of payload that lies in the sender's pages. */
static bool write_frags(struct vh_ring *r, struct vh_chain *c, const struct vst_zc *zc, u32 off, u32 len)
{
	const struct bio_vec *frag = zc->frags;

	for (; off >= frag->bv_len; frag++)
		off -= frag->bv_len;
	while (len) {
		u32 n = min(len, frag->bv_len - off);
		const u8 *from = kmap_local_page(frag->bv_page);
		bool ok;

		vh_ring_may_write(from + frag->bv_offset + off, n);
		ok = vh_ring_write(r, c, from + frag->bv_offset + off, n);
		kunmap_local(from);
		if (!ok)
			return false;
		len -= n;
		off = 0;
		frag++;
	}
	return true;
}

/* Copy @len bytes at @off of the packet's payload: memory of ours, whose size hardened usercopy need not find out. */
static bool write_payload(struct vh_ring *r, struct vh_chain *c, const struct vst_pkt *pkt, u32 off, u32 len)
{
	const u8 *data = pkt->page ? page_address(pkt->page) : pkt->data;
	size_t room = pkt->page ? PAGE_SIZE << pkt->order : pkt->cap;

	if (pkt->zc)
		return write_frags(r, c, pkt->zc, off, len);
	if (WARN_ON_ONCE(off + len > room))
		return false;
	return vh_ring_write(r, c, data + off, len);
}

/* The header of @n bytes at @off, of a packet of @len. */
static struct vsp_wire piece_hdr(struct vsp_wire wire, u32 len, u32 off, u32 n)
{
	u32 total = le32_to_cpu(wire.buf_alloc) ?: len;
	struct vsp_dgram_piece piece;

	wire.len = cpu_to_le32(n);
	if (le16_to_cpu(wire.type) == VSP_TYPE_DGRAM) {
		piece = vsp_dgram_piece_at(total, le32_to_cpu(wire.fwd_cnt) + off, n);
		wire.buf_alloc = cpu_to_le32(piece.buf_alloc);
		wire.fwd_cnt = cpu_to_le32(piece.fwd_cnt);
	} else if (off + n < len) {
		/* A message ends with its last piece. */
		wire.flags &= ~cpu_to_le32(VSP_SEQ_EOM | VSP_SEQ_EOR);
	}
	return wire;
}

/* Copy a piece of the current packet. Returns the bytes that the guest's buffer holds then, or 0. */
static u32 copy_piece(struct vh_dev *dev, struct vh_ring *r, struct vh_chain *c, struct turn *turn)
{
	struct vst_pkt *pkt = dev->current_pkt;
	u32 end = vst_pkt_end(pkt, dev->current_msg);
	u32 n = min(end - dev->current_off, c->bytes - VSP_HDR_LEN);
	struct vsp_wire wire = piece_hdr(pkt->wire, end, dev->current_off, n);

	if (!vh_ring_write_hdr(r, c, &wire) || !write_payload(r, c, pkt, dev->current_off, n))
		return 0;
	dev->current_off += n;
	turn->bytes += n;
	dev->current_msg += dev->current_off == end;
	if (dev->current_msg > pkt->more) {
		list_add_tail(&pkt->node, &turn->copied);
		dev->current_pkt = NULL;
	}
	return VSP_HDR_LEN + n;
}

/* Must the current packet be dropped? A datagram is, if it fits no buffer and the guest puts no fragments together. */
static bool is_too_long(const struct vh_dev *dev, const struct vh_chain *c)
{
	const struct vst_pkt *pkt = dev->current_pkt;

	return le16_to_cpu(pkt->wire.type) == VSP_TYPE_DGRAM && !pkt->wire.buf_alloc && !dev->current_off &&
	       pkt->len > c->bytes - VSP_HDR_LEN && !READ_ONCE(dev->link.dgrams.fragments);
}

/* What is sent next: the packet that was begun, or else @out. False: nothing waits. */
static bool choose(struct vh_dev *dev, struct vst_out *out)
{
	bool have;

	if (dev->current_pkt)
		return true;
	spin_lock(&dev->link.tx_lock);
	have = dev->link.up && vst_link_next(&dev->link, out);
	spin_unlock(&dev->link.tx_lock);
	if (have)
		dev->current_pkt = out->pkt;
	dev->current_off = 0;
	dev->current_msg = 0;
	return have;
}

/* Fill a buffer that was taken with what was chosen. */
static __always_inline enum vsp_reject put(struct vh_dev *dev, struct vh_ring *r, struct turn *turn, struct vh_chain *c,
					   const struct vst_out *out)
{
	u32 len = VSP_HDR_LEN;

	turn->packets++;
	turn->bytes += c->descs * VH_DESC_COST;
	if (dev->current_pkt && is_too_long(dev, c)) {
		vst_count(&dev->link, VST_STAT_DGRAM_TX_DROPPED, 1);
		vh_forget_current(dev);
		vh_ring_unpop(r);
		return VSP_OK;
	}
	if (dev->current_pkt)
		len = copy_piece(dev, r, c, turn);
	else if (!vh_ring_write_hdr(r, c, &out->wire))
		len = 0;
	return len ? vh_ring_use(r, c, len) : VSP_REJECT_MEMORY;
}

/* Fill a buffer, of which there is one. *@idle: there was nothing to fill it with. */
static enum vsp_reject fill(struct vh_dev *dev, struct vh_ring *r, struct turn *turn, bool *idle)
{
	enum vsp_reject why;
	struct vh_chain c;
	struct vst_out out;
	bool empty;

	if (!choose(dev, &out)) {
		/* What is kept back behind packets that the guest has now is next; and soon it is more. */
		*idle = list_empty(&turn->copied);
		turn->gathers = !*idle && vst_link_gathers(&dev->link);
		if (!turn->gathers)
			account_copied(dev, &turn->copied);
		return VSP_OK;
	}
	why = vh_ring_pop(r, true, &c, &empty);
	/* The guest has taken back what was there a moment ago. */
	if (why == VSP_OK && empty)
		why = VSP_REJECT_AVAIL;
	/* Also where only a header waits: a buffer that can never hold payload is of no use. */
	if (why == VSP_OK && c.bytes <= VSP_HDR_LEN)
		why = VSP_REJECT_SHORT;
	/* It is broken: nothing that was chosen will be missed. */
	return why == VSP_OK ? put(dev, r, turn, &c, &out) : why;
}

/* Is there anything for which @what is so? */
static bool work_waits(struct vh_dev *dev, bool (*what)(const struct vst_link *link))
{
	bool waits = dev->current_pkt;

	if (waits)
		return true;
	spin_lock(&dev->link.tx_lock);
	waits = dev->link.up && what(&dev->link);
	spin_unlock(&dev->link.tx_lock);
	return waits;
}

/* Fill buffers until nothing waits, there are none, writers are ahead of us, or the turn is over (*@more). */
static enum vsp_reject fill_buffers(struct vh_dev *dev, struct vh_ring *r, struct turn *turn, bool *more)
{
	enum vsp_reject why = vh_ring_hush(r);
	bool empty, idle = false, came;

	while (why == VSP_OK && !idle && !turn->gathers) {
		*more = is_over(turn);
		if (*more)
			break;
		why = vh_ring_look(r, &empty);
		if (why != VSP_OK)
			break;
		if (!empty) {
			why = fill(dev, r, turn, &idle);
			continue;
		}
		/* The guest is to kick when it has posted more, if that is what is missing. */
		if (!work_waits(dev, vst_link_waiting))
			break;
		why = vh_ring_publish(r);
		if (why == VSP_OK)
			why = vh_ring_await(r, &came);
		if (why == VSP_OK && !came)
			break;
	}
	return why == VSP_OK ? vh_ring_publish(r) : why;
}

/* ---- writers, who do the worker's work where they can ---- */

/* A writer has the ring, as it is mapped. It sleeps for nobody. */
static struct vh_ring *begin_near(struct vh_dev *dev)
{
	struct vh_ring *r = &dev->rings[VH_TO_GUEST];
	struct vh_near *near;

	if (!mutex_trylock(&r->lock))
		return NULL;
	near = r->near;
	if (vh_ring_live(r) && near && near->mapped && !READ_ONCE(near->stale)) {
		r->by_map = true;
		return r;
	}
	if (near)
		WRITE_ONCE(near->wanted, true);
	mutex_unlock(&r->lock);
	return NULL;
}

/* @done: there is nothing left to do. Whatever is, and what was missed, is for the worker. */
static void end_near(struct vh_ring *r, bool done)
{
	done = done && !READ_ONCE(r->near->wanted);
	r->by_map = false;
	mutex_unlock(&r->lock);
	if (!done)
		vh_worker_wake(&r->worker);
}

/* Send what waits as far as buffers are within reach. True: nothing is left but what gathers, which is the worker's. */
static bool fill_near(struct vh_dev *dev, struct vh_ring *r)
{
	struct vst_out out;
	struct vh_chain c;
	struct turn turn;

	begin_turn(&turn, VH_DRIVE_PACKETS, VH_DRIVE_BYTES);
	while (work_waits(dev, vst_link_ready) && vh_ring_pop_near(r, &c)) {
		if (!choose(dev, &out)) {
			vh_ring_unpop(r);
			break;
		}
		if (WARN_ON_ONCE(put(dev, r, &turn, &c, &out) != VSP_OK))
			break;
		if (is_over(&turn))
			break;
	}
	account_copied(dev, &turn.copied);
	vh_ring_publish(r);
	return !work_waits(dev, vst_link_ready);
}

/* See vst_link_ops.drive. */
void vh_drive(struct vh_dev *dev)
{
	struct vh_ring *r = begin_near(dev);

	if (r)
		end_near(r, fill_near(dev, r));
	else
		vh_worker_wake(&dev->rings[VH_TO_GUEST].worker);
}

/* Fragments, of a datagram, are for a guest that puts them together. */
static u32 most_pieces(const struct vh_dev *dev, const struct vst_write *w)
{
	return !w->dgram || READ_ONCE(dev->link.dgrams.fragments) ? VH_WRITE_CHAINS : 1;
}

/* Take buffers for all of it and fill them, but for headers. */
static bool copy_near(struct vh_dev *dev, struct vh_ring *r, const struct vst_write *w)
{
	u32 most = most_pieces(dev, w), n = 0, done = 0, got = 0, want = 0;

	while (done < w->len && got == want && n < most && vh_ring_pop_near(r, &dev->written[n])) {
		struct vh_chain *c = &dev->written[n++];

		want = min(w->len - done, c->bytes - VSP_HDR_LEN);
		got = vh_near_copy(r->near, c->near + VSP_HDR_LEN, w->from, want);
		done += got;
	}
	if (done == w->len)
		return true;
	/* Too few buffers, or a page of the user's that is not there. */
	iov_iter_revert(w->from, done);
	r->last_avail -= n;
	return false;
}

/* What was filled is the guest's. */
static void use_near(struct vh_dev *dev, struct vh_ring *r, struct vsp_wire wire, u32 len)
{
	u32 i, n, off;

	for (i = 0, off = 0; off < len; i++, off += n) {
		struct vh_chain *c = &dev->written[i];
		struct vsp_wire hdr;

		n = min(len - off, c->bytes - VSP_HDR_LEN);
		hdr = piece_hdr(wire, len, off, n);
		vh_ring_write(r, c, &hdr, sizeof(hdr));
		vh_ring_use(r, c, VSP_HDR_LEN + n);
	}
	vh_ring_publish(r);
}

/* See vst_link_ops.write. */
bool vh_write(struct vst_flow *flow, const struct vst_write *w)
{
	struct vh_dev *dev = vh_dev_of(flow->link);
	struct vh_ring *r = begin_near(dev);
	bool done;

	if (!r)
		return false;
	done = !dev->current_pkt && vst_may_write(flow) && copy_near(dev, r, w);
	if (done)
		use_near(dev, r, vst_written(flow, w), w->len);
	/* If not, it will be queued, and the worker hears of that. */
	end_near(r, true);
	return done;
}

/* One turn, with the ring locked. True: there is more to do. */
static bool take_turn(struct vh_dev *dev, struct vh_ring *r, struct turn *turn)
{
	enum vsp_reject why = VSP_OK;
	bool more = false;

	account_copied(dev, &dev->gathered);
	if (vh_ring_live(r))
		why = fill_buffers(dev, r, turn, &more);
	/* While we sleep, the guest may boot anew: whoever forgets what it was sent finds it there. */
	if (turn->gathers)
		list_splice(&turn->copied, &dev->gathered);
	else
		more |= account_copied(dev, &turn->copied);
	if (why == VSP_OK && vh_ring_live(r))
		why = vh_ring_fetch(r);
	if (why != VSP_OK) {
		vh_break(dev, r, why);
		/* Its sender may wait for its pages. */
		vh_forget_current(dev);
	}
	return (more || turn->gathers) && why == VSP_OK;
}

bool vh_to_guest(struct vh_dev *dev)
{
	struct vh_ring *r = &dev->rings[VH_TO_GUEST];
	struct turn turn;
	bool more;

	begin_turn(&turn, VH_TURN_PACKETS, VH_TURN_BYTES);
	mutex_lock(&r->lock);
	more = take_turn(dev, r, &turn);
	mutex_unlock(&r->lock);
	if (turn.gathers)
		vh_worker_nap(&r->worker, VH_GATHER_US);
	return more;
}

/* The thread that takes packets has headers to send: a turn of its own, if nobody else is at the ring. */
void vh_answer(struct vh_dev *dev)
{
	struct vh_ring *r = &dev->rings[VH_TO_GUEST];
	bool more = true;
	struct turn turn;

	begin_turn(&turn, VH_DRIVE_PACKETS, VH_DRIVE_BYTES);
	if (mutex_trylock(&r->lock)) {
		more = take_turn(dev, r, &turn);
		mutex_unlock(&r->lock);
	}
	if (more)
		vh_worker_wake(&r->worker);
}
