// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio.c - the guest driver: virtqueues, receive buffers, events
 *
 * It moves packets between the device's rings and the common part and knows nothing of connections. The receive ring is
 * served by one work item, the transmit ring by whoever has something to send. A receive buffer is a header and one
 * block of pages; the block is handed to the reader when it is mostly full, and used again when its payload was copied.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <uapi/linux/virtio_vsock.h>

#include "vst.h"

/* What vsp_types_for() is to know of. */
#define FEATURES (BIT(VSP_F_STREAM) | BIT(VSP_F_SEQPACKET) | BIT(VSP_F_NO_IMPLIED_STREAM))

enum { VQ_RX, VQ_TX, VQ_EVENT, NUM_VQS };

enum {
	EVENT_BUFFERS = 8,
	RX_KICK_SHARE = 2,  /* a half of the receive buffers is given back before the device is told */
	EVENT_TURN = 64,    /* events taken before the ring's lock is free for a moment */
	RX_TURN = 256,	    /* packets taken before other work on this CPU has its turn */
	TX_TURN = 64,	    /* packets added before other work on this CPU has its turn */
	RX_RETRY_MS = 50,   /* until buffers that could not be had are asked for again */
	TX_RETRY_MS = 10,   /* until a packet that the ring had no memory for is tried again */
	TX_PIECES_MAX = 1 + VST_ZC_FRAGS,
	TX_UNASKED = 16 << 10, /* of tx_ring that may lie used and not taken back while nobody waits for it */
	RX_BUFFER_MIN = 4096,
	RX_BUFFER_MAX = VSP_MAX_PAYLOAD,
};

static unsigned int rx_buffer = RX_BUFFER_MAX;
module_param(rx_buffer, uint, 0444);
MODULE_PARM_DESC(rx_buffer, "bytes of payload in a receive buffer, a power of two from 4096 to 65536 (default 65536)");

static unsigned int rx_memory = 4 << 20;
module_param(rx_memory, uint, 0444);
MODULE_PARM_DESC(rx_memory, "most bytes that lie in the receive ring (default 4 MiB; never fewer than two buffers)");

static unsigned int tx_ring = 512 << 10;
module_param(tx_ring, uint, 0444);
MODULE_PARM_DESC(tx_ring, "bytes that may lie in the transmit ring, each packet counting 1 KiB more (default 512 KiB)");

/* A receive buffer. Its page is NULL while it is not in the ring. */
struct rx_buf {
	struct vsp_wire wire;
	struct page *page;
	u32 order;
} __aligned(64);

/* A header that is sent alone. One per slot of the transmit ring, so that sending one never needs memory. */
struct tx_hdr {
	struct vsp_wire wire;
	struct tx_hdr *next;
} __aligned(64);

/* Arrays of both may be virtually contiguous only; see sg_set_wire(). */
static_assert(PAGE_SIZE % sizeof(struct rx_buf) == 0 && PAGE_SIZE % sizeof(struct tx_hdr) == 0);

/**
 * struct vst_dev - the virtio device
 * @link: what the common part sees
 * @vdev: the device; gone once @link is down
 * @vqs: its rings, likewise
 * @tx_work: makes room in the transmit ring after an interrupt
 * @tx_retry: the same, when the ring had no memory for a packet
 * @event_work: serves the event ring
 * @rx_work: serves the receive ring
 * @rx_retry: the same, when buffers could not be had
 *
 * @rx_lock: guards the receive ring and
 * @rx_run: the receive ring may be used
 * @n_rx_bufs: how many buffers there are
 * @rx_bufs: all of them, in the ring or without a page
 * @rx_short: some are without a page
 *
 * @event_lock: guards the event ring and
 * @event_run: the event ring may be used
 * @events: its buffers
 *
 * Under link.tx_lock:
 * @tx_hdrs: headers that are sent alone
 * @n_tx_hdrs: how many
 * @tx_free: those that are not in the ring
 * @tx_cost: of what lies in the ring
 * @tx_refused: the ring had no memory for @tx_next
 * @tx_next: goes to it before all others
 * @tx_asked: an interrupt of the transmit ring was asked for; read without the lock
 *
 * @events_unknown: events that mean nothing to us; atomic
 */
struct vst_dev {
	struct vst_link link;
	struct virtio_device *vdev;
	struct virtqueue *vqs[NUM_VQS];
	struct work_struct tx_work;
	struct delayed_work tx_retry;
	struct work_struct event_work;
	struct work_struct rx_work;
	struct delayed_work rx_retry;

	struct mutex rx_lock;
	bool rx_run;
	u32 n_rx_bufs;
	struct rx_buf *rx_bufs;
	bool rx_short;

	struct mutex event_lock;
	bool event_run;
	struct virtio_vsock_event events[EVENT_BUFFERS];

	struct tx_hdr *tx_hdrs;
	u32 n_tx_hdrs;
	struct tx_hdr *tx_free;
	u32 tx_cost;
	bool tx_refused;
	struct vst_out tx_next;
	bool tx_asked;

	atomic64_t events_unknown;
};

static struct vst_side guest_side;
static struct vst_dev __rcu *the_dev;
static DEFINE_MUTEX(the_dev_mutex);
static struct workqueue_struct *dev_wq;

static struct vst_dev *dev_of(struct vst_link *link)
{
	return container_of(link, struct vst_dev, link);
}

/* A header in an array from kvcalloc(). None crosses a page, so where the array lies does not matter. */
static void sg_set_wire(struct scatterlist *sg, struct vsp_wire *wire)
{
	struct page *page = is_vmalloc_addr(wire) ? vmalloc_to_page(wire) : virt_to_page(wire);

	sg_set_page(sg, page, sizeof(*wire), offset_in_page(wire));
}

/* ---- transmit ---- */

static bool is_tx_hdr(const struct vst_dev *dev, const void *token)
{
	return token >= (void *)dev->tx_hdrs && token < (void *)(dev->tx_hdrs + dev->n_tx_hdrs);
}

static u32 cost_of(const struct vst_pkt *pkt)
{
	return pkt->len + VSP_SCHED_PACKET_COST;
}

static void put_tx_hdr(struct vst_dev *dev, struct tx_hdr *hdr)
{
	hdr->next = dev->tx_free;
	dev->tx_free = hdr;
}

/* Take back what the device has used. */
static void reap_tx(struct vst_dev *dev, struct list_head *done)
{
	unsigned int len;
	void *token;

	while ((token = virtqueue_get_buf(dev->vqs[VQ_TX], &len))) {
		if (is_tx_hdr(dev, token)) {
			dev->tx_cost -= VSP_SCHED_PACKET_COST;
			put_tx_hdr(dev, token);
		} else {
			dev->tx_cost -= cost_of(token);
			vst_pkt_done(token, done);
		}
	}
}

/*
 * Room for one more packet: descriptors, a header, and bytes, so that the ring does not become the queue. Descriptors
 * for all of its pieces even where one and an indirect table do: there may be no memory for the table.
 */
static bool tx_has_room(const struct vst_dev *dev)
{
	u32 pieces = dev->link.zc_seen ? TX_PIECES_MAX : 2;

	return dev->vqs[VQ_TX]->num_free >= pieces && dev->tx_free && (!dev->tx_cost || dev->tx_cost < tx_ring);
}

static int add_hdr(struct vst_dev *dev, const struct vsp_wire *wire)
{
	struct tx_hdr *hdr = dev->tx_free;
	struct scatterlist sg;
	int err;

	hdr->wire = *wire;
	sg_init_table(&sg, 1);
	sg_set_wire(&sg, &hdr->wire);
	err = virtqueue_add_outbuf(dev->vqs[VQ_TX], &sg, 1, hdr, GFP_ATOMIC);
	if (err)
		return err;
	dev->tx_free = hdr->next;
	dev->tx_cost += VSP_SCHED_PACKET_COST;
	return 0;
}

static int add_pkt(struct vst_dev *dev, struct vst_pkt *pkt)
{
	struct scatterlist sg[TX_PIECES_MAX];
	unsigned int i, n = 1;
	int err;

	if (pkt->zc) {
		n = 1 + pkt->zc->n;
		sg_init_table(sg, n);
		sg_set_buf(&sg[0], &pkt->wire, sizeof(pkt->wire));
		for (i = 1; i < n; i++)
			sg_set_page(&sg[i], pkt->zc->frags[i - 1].bv_page, pkt->zc->frags[i - 1].bv_len,
				    pkt->zc->frags[i - 1].bv_offset);
	} else if (pkt->page) {
		n = 2;
		sg_init_table(sg, 2);
		sg_set_buf(&sg[0], &pkt->wire, sizeof(pkt->wire));
		sg_set_page(&sg[1], pkt->page, pkt->len, 0);
	} else {
		sg_init_one(sg, &pkt->wire, sizeof(pkt->wire) + pkt->len);
	}
	err = virtqueue_add_outbuf(dev->vqs[VQ_TX], sg, n, pkt, GFP_ATOMIC);
	if (!err)
		dev->tx_cost += cost_of(pkt);
	return err;
}

static int add_out(struct vst_dev *dev, const struct vst_out *out)
{
	return out->pkt ? add_pkt(dev, out->pkt) : add_hdr(dev, &out->wire);
}

static bool next_out(struct vst_dev *dev, struct vst_out *out)
{
	if (!dev->tx_refused)
		return vst_link_next(&dev->link, out);
	dev->tx_refused = false;
	*out = dev->tx_next;
	return true;
}

/*
 * Fill the ring. What it refuses in spite of its room is tried again: where memory has to be mapped for the device,
 * that may fail for a while. Only with a broken ring it is dropped, as all else is. Returns how many were added.
 */
static u32 fill_tx(struct vst_dev *dev, struct list_head *done)
{
	struct vst_out out;
	u32 added = 0;

	while (tx_has_room(dev) && next_out(dev, &out)) {
		if (!add_out(dev, &out)) {
			added++;
		} else if (!virtqueue_is_broken(dev->vqs[VQ_TX])) {
			dev->tx_next = out;
			dev->tx_refused = true;
			queue_delayed_work(dev_wq, &dev->tx_retry, msecs_to_jiffies(TX_RETRY_MS));
			break;
		} else if (out.pkt) {
			vst_pkt_done(out.pkt, done);
		}
	}
	return added;
}

/*
 * Ask for an interrupt: at once if something waits for room; when most of what is in the ring was used, to free it, if
 * that is much or somebody waits for it; else not at all: who sends next takes it back. Returns false if the device has
 * used more in the meantime.
 */
static bool want_tx_interrupt(struct vst_dev *dev)
{
	bool waiting = vst_link_waiting(&dev->link);

	/* A ring that the core found broken is never reaped again, however far the device moves its index. */
	if (!dev->tx_cost || virtqueue_is_broken(dev->vqs[VQ_TX]))
		return true;
	if (!waiting && !dev->link.n_awaited && dev->tx_cost < TX_UNASKED)
		return true;
	/* Before it can come. */
	WRITE_ONCE(dev->tx_asked, true);
	if (waiting)
		return virtqueue_enable_cb(dev->vqs[VQ_TX]);
	return virtqueue_enable_cb_delayed(dev->vqs[VQ_TX]);
}

/* Take back, and fill. False: the device has used more in the meantime. */
static bool pump_once(struct vst_dev *dev, struct list_head *done, u32 *added)
{
	virtqueue_disable_cb(dev->vqs[VQ_TX]);
	WRITE_ONCE(dev->tx_asked, false);
	reap_tx(dev, done);
	*added += fill_tx(dev, done);
	return want_tx_interrupt(dev);
}

/*
 * A device that is as fast as a sender keeps us here until all is sent. Others get the lock in between, and soon the
 * processor.
 */
static void dev_pump(struct vst_link *link)
{
	struct vst_dev *dev = dev_of(link);
	bool kick = false, again;
	u32 added = 0;
	LIST_HEAD(done);

	/* dev_stop() waits for RCU before the ring goes: the notification is sent without the lock. */
	rcu_read_lock();
	do {
		spin_lock(&link->tx_lock);
		again = link->up && !pump_once(dev, &done, &added);
		if (again && added >= TX_TURN) {
			queue_work(dev_wq, &dev->tx_work);
			again = false;
		}
		if (link->up && !again)
			kick = added && virtqueue_kick_prepare(dev->vqs[VQ_TX]);
		spin_unlock(&link->tx_lock);
	} while (again);
	if (kick)
		virtqueue_notify(dev->vqs[VQ_TX]);
	rcu_read_unlock();
	vst_pkts_free(&done);
}

static void tx_work(struct work_struct *work)
{
	dev_pump(&container_of(work, struct vst_dev, tx_work)->link);
}

static void tx_retry(struct work_struct *work)
{
	dev_pump(&container_of(work, struct vst_dev, tx_retry.work)->link);
}

/* Where the rings share an interrupt, each of the receive ring's comes here, too. */
static void tx_callback(struct virtqueue *vq)
{
	struct vst_dev *dev = vq->vdev->priv;

	if (READ_ONCE(dev->tx_asked))
		queue_work(dev_wq, &dev->tx_work);
}

/* ---- receive ---- */

/* A page block for a buffer: the wanted size, or as much as there is. */
static bool alloc_rx_page(struct vst_dev *dev, struct rx_buf *buf)
{
	u32 order = get_order(rx_buffer);
	gfp_t gfp = GFP_NOIO | __GFP_NOWARN;

	for (;;) {
		buf->page = vst_payload_pages(&dev->link.spares, order, gfp);
		if (buf->page || !order)
			break;
		vst_count(&dev->link, VST_STAT_RX_NO_BUFFER, 1);
		order--;
	}
	buf->order = order;
	return buf->page;
}

static bool post_rx_buf(struct vst_dev *dev, struct rx_buf *buf)
{
	struct scatterlist sg[2];

	if (!buf->page && !alloc_rx_page(dev, buf)) {
		vst_count(&dev->link, VST_STAT_RX_NO_BUFFER, 1);
		return false;
	}
	sg_init_table(sg, 2);
	sg_set_wire(&sg[0], &buf->wire);
	sg_set_page(&sg[1], buf->page, PAGE_SIZE << buf->order, 0);
	if (!virtqueue_add_inbuf(dev->vqs[VQ_RX], sg, 2, buf, GFP_NOIO))
		return true;
	__free_pages(buf->page, buf->order);
	buf->page = NULL;
	return false;
}

/* Post every buffer that has no page. Returns false if some could not be had. */
static bool refill_rx(struct vst_dev *dev)
{
	u32 i;

	if (!dev->rx_short)
		return true;
	dev->rx_short = false;
	for (i = 0; i < dev->n_rx_bufs; i++) {
		if (!dev->rx_bufs[i].page)
			dev->rx_short |= !post_rx_buf(dev, &dev->rx_bufs[i]);
	}
	return !dev->rx_short;
}

static void receive_one(struct vst_dev *dev, struct rx_buf *buf, u32 len)
{
	struct vst_payload payload = { .data = page_address(buf->page), .page = buf->page, .order = buf->order };
	struct vsp_wire wire = buf->wire;
	u32 room = VSP_HDR_LEN + (PAGE_SIZE << buf->order);

	/* The device says how much it wrote; it cannot have written more than there was room for. */
	vst_rx(&dev->link, &wire, min(len, room), &payload);
	if (payload.taken)
		buf->page = NULL;
	/* If it cannot be posted again, refill_rx() tries later. */
	dev->rx_short |= !post_rx_buf(dev, buf);
}

/*
 * Take packets until there are none, the turn is over (true: come back), or nothing may be taken now (resume_rx() will
 * come back).
 */
static bool receive(struct vst_dev *dev)
{
	unsigned int len, n = 0, batch = max(dev->n_rx_bufs / RX_KICK_SHARE, 1u);
	struct virtqueue *vq = dev->vqs[VQ_RX];
	struct rx_buf *buf;

	do {
		virtqueue_disable_cb(vq);
		for (;;) {
			if (!vst_rx_ready(&dev->link))
				return false;
			if (n == RX_TURN)
				return true;
			buf = virtqueue_get_buf(vq, &len);
			if (!buf)
				break;
			receive_one(dev, buf, len);
			if (++n % batch == 0)
				virtqueue_kick(vq);
		}
	} while (!virtqueue_enable_cb(vq));
	return false;
}

static void serve_rx(struct vst_dev *dev)
{
	mutex_lock(&dev->rx_lock);
	if (dev->rx_run) {
		if (receive(dev))
			queue_work(dev_wq, &dev->rx_work);
		vst_rx_settle(&dev->link);
		if (!refill_rx(dev))
			queue_delayed_work(dev_wq, &dev->rx_retry, msecs_to_jiffies(RX_RETRY_MS));
		virtqueue_kick(dev->vqs[VQ_RX]);
	}
	mutex_unlock(&dev->rx_lock);
}

static void rx_work(struct work_struct *work)
{
	serve_rx(container_of(work, struct vst_dev, rx_work));
}

static void rx_retry(struct work_struct *work)
{
	serve_rx(container_of(work, struct vst_dev, rx_retry.work));
}

static void rx_callback(struct virtqueue *vq)
{
	struct vst_dev *dev = vq->vdev->priv;

	queue_work(dev_wq, &dev->rx_work);
}

static void dev_resume_rx(struct vst_link *link)
{
	queue_work(dev_wq, &dev_of(link)->rx_work);
}

/* ---- events ---- */

static bool read_cid(struct vst_dev *dev, u32 *cid)
{
	__le64 raw;
	u64 value;

	dev->vdev->config->get(dev->vdev, offsetof(struct virtio_vsock_config, guest_cid), &raw, sizeof(raw));
	value = le64_to_cpu(raw);
	if (!vsp_guest_cid_valid(value)) {
		dev_err(&dev->vdev->dev,
			"the device says that our CID is %llu, which is reserved; give the guest another\n", value);
		return false;
	}
	*cid = value;
	return true;
}

static void post_event(struct vst_dev *dev, struct virtio_vsock_event *event)
{
	struct scatterlist sg;

	sg_init_one(&sg, event, sizeof(*event));
	virtqueue_add_inbuf(dev->vqs[VQ_EVENT], &sg, 1, event, GFP_KERNEL);
}

/* Not virtio_has_feature(), which wants the feature to be in the driver's table; without datagrams it is not. */
static bool offers_datagrams(const struct vst_dev *dev)
{
	return dev->vdev->features & BIT_ULL(VSP_F_DGRAM);
}

/* virtio 1.4 5.10.6.7, driver: fetch the CID, shut existing connections down, keep listening. */
static void take_event(struct vst_dev *dev, const struct virtio_vsock_event *event, u32 len)
{
	u32 cid;

	if (len < sizeof(*event) || le32_to_cpu(event->id) != VIRTIO_VSOCK_EVENT_TRANSPORT_RESET) {
		atomic64_inc(&dev->events_unknown);
		return;
	}
	if (read_cid(dev, &cid))
		vst_link_set_cid(&dev->link, cid);
	vst_link_reset(&dev->link);
	vst_dgram_discover(&dev->link, offers_datagrams(dev));
}

/* Returns true if the turn is over before the ring is empty. */
static bool take_events(struct vst_dev *dev)
{
	struct virtqueue *vq = dev->vqs[VQ_EVENT];
	struct virtio_vsock_event *event, copy;
	unsigned int len, n = 0;

	do {
		virtqueue_disable_cb(vq);
		while ((event = virtqueue_get_buf(vq, &len))) {
			copy = *event;
			/* 5.10.6.7, driver: replenish quickly so that no event is missed. */
			post_event(dev, event);
			virtqueue_kick(vq);
			take_event(dev, &copy, len);
			if (++n == EVENT_TURN)
				return true;
		}
	} while (!virtqueue_enable_cb(vq));
	return false;
}

static void event_work(struct work_struct *work)
{
	struct vst_dev *dev = container_of(work, struct vst_dev, event_work);

	mutex_lock(&dev->event_lock);
	if (dev->event_run && take_events(dev))
		queue_work(dev_wq, &dev->event_work);
	mutex_unlock(&dev->event_lock);
}

static void event_callback(struct virtqueue *vq)
{
	struct vst_dev *dev = vq->vdev->priv;

	queue_work(dev_wq, &dev->event_work);
}

/* ---- the device's life ---- */

static void dev_free(struct vst_link *link)
{
	struct vst_dev *dev = dev_of(link);

	kvfree(dev->tx_hdrs);
	kvfree(dev->rx_bufs);
	kfree(dev);
}

static const struct vst_link_ops dev_link_ops = {
	.pump = dev_pump,
	.tell = dev_pump,
	.drive = dev_pump,
	.resume_rx = dev_resume_rx,
	.free = dev_free,
};

/* One header per slot, all free. */
static int init_tx(struct vst_dev *dev)
{
	u32 i, n = virtqueue_get_vring_size(dev->vqs[VQ_TX]);

	if (n != dev->n_tx_hdrs) {
		kvfree(dev->tx_hdrs);
		dev->tx_hdrs = kvcalloc(n, sizeof(*dev->tx_hdrs), GFP_KERNEL);
		dev->n_tx_hdrs = dev->tx_hdrs ? n : 0;
	}
	if (!dev->tx_hdrs)
		return -ENOMEM;
	/* With fewer slots packets of many pieces would have the ring to themselves. */
	dev->link.zerocopy = n >= 2 * TX_PIECES_MAX;
	dev->tx_free = NULL;
	dev->tx_cost = 0;
	for (i = 0; i < n; i++)
		put_tx_hdr(dev, &dev->tx_hdrs[i]);
	return 0;
}

/* As many buffers as the ring and rx_memory allow; a buffer is two descriptors, or one with an indirect table. */
static int init_rx(struct vst_dev *dev)
{
	u32 per_buf = virtio_has_feature(dev->vdev, VIRTIO_RING_F_INDIRECT_DESC) ? 1 : 2;
	u32 n = virtqueue_get_vring_size(dev->vqs[VQ_RX]) / per_buf;

	n = clamp_t(u32, rx_memory / rx_buffer, min(n, 2u), n);
	if (!n)
		return -EINVAL;
	kvfree(dev->rx_bufs);
	dev->rx_bufs = kvcalloc(n, sizeof(*dev->rx_bufs), GFP_KERNEL);
	dev->n_rx_bufs = dev->rx_bufs ? n : 0;
	dev->rx_short = true;
	return dev->rx_bufs ? 0 : -ENOMEM;
}

/* virtio 1.4 5.10.5: read the CID, then fill the event and receive rings. */
static int dev_start(struct vst_dev *dev)
{
	struct virtqueue_info info[NUM_VQS] = {
		[VQ_RX] = { .name = "rx", .callback = rx_callback },
		[VQ_TX] = { .name = "tx", .callback = tx_callback },
		[VQ_EVENT] = { .name = "event", .callback = event_callback },
	};
	u32 cid;
	int err, i;

	err = vst_find_vqs(dev->vdev, NUM_VQS, dev->vqs, info);
	if (err) {
		virtio_reset_device(dev->vdev);
		return err;
	}
	err = read_cid(dev, &cid) ? init_tx(dev) : -EINVAL;
	if (!err)
		err = init_rx(dev);
	if (err) {
		/* The device knows the queues: without a reset they could never be set up again. */
		virtio_reset_device(dev->vdev);
		dev->vdev->config->del_vqs(dev->vdev);
		return err;
	}
	vst_link_set_cid(&dev->link, cid);
	dev->link.types = vst_dgram_types() | vsp_types_for(dev->vdev->features & FEATURES);
	virtio_device_ready(dev->vdev);

	mutex_lock(&dev->event_lock);
	for (i = 0; i < EVENT_BUFFERS && dev->vqs[VQ_EVENT]->num_free; i++)
		post_event(dev, &dev->events[i]);
	dev->event_run = true;
	virtqueue_kick(dev->vqs[VQ_EVENT]);
	mutex_unlock(&dev->event_lock);
	vst_link_up(&dev->link);
	vst_dgram_discover(&dev->link, offers_datagrams(dev));
	return 0;
}

/* Once the link is up: what arrives may be owed an answer, and a link that is down drops answers. */
static void start_rx(struct vst_dev *dev)
{
	mutex_lock(&dev->rx_lock);
	dev->rx_run = true;
	mutex_unlock(&dev->rx_lock);
	queue_work(dev_wq, &dev->rx_work);
}

static void detach_rx(struct vst_dev *dev)
{
	u32 i;

	while (virtqueue_detach_unused_buf(dev->vqs[VQ_RX]))
		;
	for (i = 0; i < dev->n_rx_bufs; i++) {
		if (dev->rx_bufs[i].page)
			__free_pages(dev->rx_bufs[i].page, dev->rx_bufs[i].order);
		dev->rx_bufs[i].page = NULL;
	}
}

static void detach_tx(struct vst_dev *dev)
{
	LIST_HEAD(done);
	void *token;

	spin_lock(&dev->link.tx_lock);
	reap_tx(dev, &done);
	while ((token = virtqueue_detach_unused_buf(dev->vqs[VQ_TX]))) {
		if (!is_tx_hdr(dev, token))
			vst_pkt_done(token, &done);
	}
	if (dev->tx_refused && dev->tx_next.pkt)
		vst_pkt_done(dev->tx_next.pkt, &done);
	dev->tx_refused = false;
	spin_unlock(&dev->link.tx_lock);
	vst_pkts_free(&done);
}

/* The reverse of dev_start(). Every connection ends; nobody uses the rings afterwards. */
static void dev_stop(struct vst_dev *dev)
{
	vst_link_down(&dev->link);
	/* Whoever saw the link up has sent its notification after this. */
	synchronize_rcu();
	mutex_lock(&dev->rx_lock);
	dev->rx_run = false;
	vst_dgram_link_stop(&dev->link);
	mutex_unlock(&dev->rx_lock);
	mutex_lock(&dev->event_lock);
	dev->event_run = false;
	mutex_unlock(&dev->event_lock);
	vst_link_reset(&dev->link);
	virtio_reset_device(dev->vdev);
	detach_rx(dev);
	detach_tx(dev);
	dev->vdev->config->del_vqs(dev->vdev);
	cancel_work_sync(&dev->tx_work);
	cancel_delayed_work_sync(&dev->tx_retry);
	cancel_work_sync(&dev->event_work);
	cancel_work_sync(&dev->rx_work);
	cancel_delayed_work_sync(&dev->rx_retry);
}

static struct vst_dev *dev_new(struct virtio_device *vdev)
{
	struct vst_dev *dev = kzalloc(sizeof(*dev), GFP_KERNEL);

	if (!dev)
		return NULL;
	vst_link_init(&dev->link, &guest_side, &dev_link_ops, VSP_CID_ANY);
	dev->vdev = vdev;
	mutex_init(&dev->rx_lock);
	mutex_init(&dev->event_lock);
	INIT_WORK(&dev->tx_work, tx_work);
	INIT_DELAYED_WORK(&dev->tx_retry, tx_retry);
	INIT_WORK(&dev->event_work, event_work);
	INIT_WORK(&dev->rx_work, rx_work);
	INIT_DELAYED_WORK(&dev->rx_retry, rx_retry);
	return dev;
}

static int publish(struct vst_dev *dev)
{
	int err;

	err = dev_start(dev);
	if (err)
		return err;
	rcu_assign_pointer(the_dev, dev);
	start_rx(dev);
	return 0;
}

static int vst_probe(struct virtio_device *vdev)
{
	struct vst_dev *dev;
	int err = -EBUSY;

	mutex_lock(&the_dev_mutex);
	if (rcu_access_pointer(the_dev)) {
		dev_err(&vdev->dev, "a guest has one vsock device; remove the other one first\n");
		goto out;
	}
	err = -ENOMEM;
	dev = dev_new(vdev);
	if (!dev)
		goto out;
	vdev->priv = dev;
	err = publish(dev);
	if (err) {
		vdev->priv = NULL;
		vst_link_put(&dev->link);
	}
out:
	mutex_unlock(&the_dev_mutex);
	return err;
}

static void unpublish(struct vst_dev *dev)
{
	/* After a restore that failed there are no queues, and nothing to stop. */
	if (rcu_access_pointer(the_dev) != dev)
		return;
	rcu_assign_pointer(the_dev, NULL);
	synchronize_rcu();
	dev_stop(dev);
}

static void vst_remove(struct virtio_device *vdev)
{
	struct vst_dev *dev = vdev->priv;

	mutex_lock(&the_dev_mutex);
	unpublish(dev);
	mutex_unlock(&the_dev_mutex);
	vdev->priv = NULL;
	vst_link_put(&dev->link);
}

#ifdef CONFIG_PM_SLEEP
static int vst_freeze(struct virtio_device *vdev)
{
	mutex_lock(&the_dev_mutex);
	unpublish(vdev->priv);
	mutex_unlock(&the_dev_mutex);
	return 0;
}

static int vst_restore(struct virtio_device *vdev)
{
	int err;

	mutex_lock(&the_dev_mutex);
	err = publish(vdev->priv);
	mutex_unlock(&the_dev_mutex);
	return err;
}
#endif

/* ---- the transport ---- */

static struct vst_link *route(u32 remote_cid)
{
	struct vst_link *link = ERR_PTR(-ENODEV);
	struct vst_dev *dev;

	rcu_read_lock();
	dev = rcu_dereference(the_dev);
	/* What is ourselves is not behind the device, which would not even say so. */
	if (dev && remote_cid != READ_ONCE(dev->link.local_cid) && vst_link_tryget(&dev->link))
		link = &dev->link;
	rcu_read_unlock();
	return link;
}

static u32 get_local_cid(void)
{
	u32 cid = VMADDR_CID_ANY;
	struct vst_dev *dev;

	rcu_read_lock();
	dev = rcu_dereference(the_dev);
	if (dev)
		cid = READ_ONCE(dev->link.local_cid);
	rcu_read_unlock();
	return cid;
}

static int guest_init(struct vsock_sock *vsk, struct vsock_sock *psk)
{
	return vst_sock_init(&guest_side, vsk, psk);
}

/* Was this type negotiated? Without a device, streams pass, and connect() says that there is none. */
static bool type_allowed(enum vsp_type type)
{
	bool allow = type == VSP_TYPE_STREAM;
	struct vst_dev *dev;

	rcu_read_lock();
	dev = rcu_dereference(the_dev);
	if (dev)
		allow = dev->link.types & VSP_TYPES(type);
	rcu_read_unlock();
	return allow;
}

static bool guest_seqpacket_allow(VST_ALLOW_CID_ARGS)
{
	return vst_ns_global() && type_allowed(VSP_TYPE_SEQPACKET);
}

/* A device that has negotiated sockets, but not streams, is possible: virtio 1.4 5.10.3.1. */
static bool guest_stream_allow(VST_ALLOW_ARGS)
{
	return vst_ns_global() && type_allowed(VSP_TYPE_STREAM);
}

#ifdef VST_HAVE_REMOTE_CID
/* What no guest of ours has may be a sibling's, or whatever the host knows: its answer, or connect(), tells. */
static bool guest_has_remote_cid(struct vsock_sock *vsk, u32 cid)
{
	return true;
}
#endif

/* ---- counters: /sys/bus/virtio/devices/virtioN/{vsock,vsock_rejects}/ ---- */

static struct vst_dev *dev_of_device(struct device *device)
{
	return dev_to_virtio(device)->priv;
}

static ssize_t show_counter(struct device *device, struct device_attribute *attr, char *buf)
{
	struct vst_link *link = &dev_of_device(device)->link;
	unsigned long i = (unsigned long)container_of(attr, struct dev_ext_attribute, attr)->var;
	bool is_reject = i >= NUM_VST_STATS;

	return sysfs_emit(buf, "%lld\n",
			  atomic64_read(is_reject ? &link->rejects[i - NUM_VST_STATS] : &link->stats[i]));
}

static ssize_t events_unknown_show(struct device *device, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%lld\n", atomic64_read(&dev_of_device(device)->events_unknown));
}
static DEVICE_ATTR_RO(events_unknown);

static ssize_t guest_cid_show(struct device *device, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", dev_of_device(device)->link.local_cid);
}
static DEVICE_ATTR_RO(guest_cid);

static ssize_t rx_buffer_bytes_show(struct device *device, struct device_attribute *attr, char *buf)
{
	struct vst_dev *dev = dev_of_device(device);
	unsigned long bytes = 0;
	u32 i;

	mutex_lock(&dev->rx_lock);
	for (i = 0; i < dev->n_rx_bufs; i++)
		bytes += dev->rx_bufs[i].page ? PAGE_SIZE << dev->rx_bufs[i].order : 0;
	mutex_unlock(&dev->rx_lock);
	return sysfs_emit(buf, "%lu\n", bytes);
}
static DEVICE_ATTR_RO(rx_buffer_bytes);

enum { OTHER_ATTRS = 3 };

static struct dev_ext_attribute counter_attrs[NUM_VST_STATS + NUM_VSP_REJECTS];
static struct attribute *stat_list[NUM_VST_STATS + OTHER_ATTRS + 1];
static struct attribute *reject_list[NUM_VSP_REJECTS]; /* VSP_OK is none; the last is NULL */

static const struct attribute_group stat_group = { .name = "vsock", .attrs = stat_list };
static const struct attribute_group reject_group = { .name = "vsock_rejects", .attrs = reject_list };
static const struct attribute_group *dev_groups[] = { &stat_group, &reject_group, NULL };

static struct attribute *name_counter(unsigned long i, const char *name)
{
	struct dev_ext_attribute *a = &counter_attrs[i];

	sysfs_attr_init(&a->attr.attr);
	a->attr.attr.name = name;
	a->attr.attr.mode = 0444;
	a->attr.show = show_counter;
	a->var = (void *)i;
	return &a->attr.attr;
}

static void name_counters(void)
{
	unsigned long i;

	for (i = 0; i < NUM_VST_STATS; i++)
		stat_list[i] = name_counter(i, vst_stat_name(i));
	stat_list[i++] = &dev_attr_events_unknown.attr;
	stat_list[i++] = &dev_attr_guest_cid.attr;
	stat_list[i++] = &dev_attr_rx_buffer_bytes.attr;
	for (i = VSP_OK + 1; i < NUM_VSP_REJECTS; i++)
		reject_list[i - 1] = name_counter(NUM_VST_STATS + i, vsp_reject_name(i));
}

/* ---- the module ---- */

static const struct virtio_device_id id_table[] = {
	{ VIRTIO_ID_VSOCK, VIRTIO_DEV_ANY_ID },
	{ 0 },
};

/* virtio 1.4 5.10.3, driver: NO_IMPLIED_STREAM should be accepted. */
static const unsigned int features[] = { VSP_F_STREAM, VSP_F_SEQPACKET, VSP_F_NO_IMPLIED_STREAM, VSP_F_DGRAM };

static struct virtio_driver vst_driver = {
	.feature_table = features,
	.feature_table_size = ARRAY_SIZE(features),
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.driver.dev_groups = dev_groups,
	.id_table = id_table,
	.probe = vst_probe,
	.remove = vst_remove,
#ifdef CONFIG_PM_SLEEP
	.freeze = vst_freeze,
	.restore = vst_restore,
#endif
};

static int check_params(void)
{
	if (!is_power_of_2(rx_buffer) || rx_buffer < RX_BUFFER_MIN || rx_buffer > RX_BUFFER_MAX) {
		pr_err(KBUILD_MODNAME ": rx_buffer=%u: give a power of two from %u to %u\n", rx_buffer, RX_BUFFER_MIN,
		       RX_BUFFER_MAX);
		return -EINVAL;
	}
	return 0;
}

static int __init vst_virtio_init(void)
{
	int err = check_params();

	if (err)
		return err;
	name_counters();
	/* The last of them, where datagrams are off. */
	if (!vst_dgram_types())
		vst_driver.feature_table_size--;
	dev_wq = alloc_workqueue("virtio_vsock", WQ_HIGHPRI | WQ_PERCPU, 0);
	if (!dev_wq)
		return -ENOMEM;
	guest_side.way = VST_DGRAM_TO_HOST;
	guest_side.route = route;
	guest_side.ops = vst_sock_ops;
	guest_side.ops.module = THIS_MODULE;
	guest_side.ops.init = guest_init;
	guest_side.ops.get_local_cid = get_local_cid;
	guest_side.ops.stream_allow = guest_stream_allow;
	guest_side.ops.seqpacket_allow = guest_seqpacket_allow;
#ifdef VST_HAVE_REMOTE_CID
	guest_side.ops.has_remote_cid = guest_has_remote_cid;
#endif
	err = vst_side_register(&guest_side);
	if (err)
		goto destroy_wq;
	err = register_virtio_driver(&vst_driver);
	if (err)
		goto unregister_side;
	return 0;

unregister_side:
	vst_side_unregister(&guest_side);
destroy_wq:
	destroy_workqueue(dev_wq);
	return err;
}

static void __exit vst_virtio_exit(void)
{
	unregister_virtio_driver(&vst_driver);
	vst_side_unregister(&guest_side);
	destroy_workqueue(dev_wq);
}

module_init(vst_virtio_init);
module_exit(vst_virtio_exit);

MODULE_DEVICE_TABLE(virtio, id_table);
MODULE_DESCRIPTION("Sluice: virtio-vsock guest driver");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1");
MODULE_SOFTDEP("post: vsock_loopback");
