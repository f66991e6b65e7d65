// SPDX-License-Identifier: BSD-2-Clause
#include "vu/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DEV_FEATURES                                                                                            \
	(VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_INDIRECT_DESC) | VU_BIT(VU_F_EVENT_IDX) | VU_BIT(VU_F_IN_ORDER) | \
	 VU_BIT(VU_F_LOG_ALL) | VU_BIT(VU_F_PROTOCOL_FEATURES))
/*
 * This device has nothing to ask for. But virtio_uml requests an interrupt for the channel that BACKEND_REQ gives, and
 * those of its rings share that; without it the rings would ask for number 0, the timer's, and the driver not bind.
 */
#define DEV_PROTOCOL                                                                                        \
	(VU_BIT(VU_PF_MQ) | VU_BIT(VU_PF_LOG_SHMFD) | VU_BIT(VU_PF_REPLY_ACK) | VU_BIT(VU_PF_BACKEND_REQ) | \
	 VU_BIT(VU_PF_CONFIG) | VU_BIT(VU_PF_CONFIGURE_MEM_SLOTS))

/* What became of a message: facts as in vu_dev_news, or a reason to end the session. */
struct outcome {
	u32 facts;
	const char *why;
	bool reply;  /* the message has become its own reply */
	bool failed; /* refused, but only the message: visible with VU_FLAG_NEED_REPLY */
};

static const struct outcome fine;

static struct outcome ended(const char *why)
{
	return (struct outcome){ .facts = VU_DEV_ENDED, .why = why };
}

static struct outcome did(u32 facts)
{
	return (struct outcome){ .facts = facts };
}

void vu_dev_init(struct vu_dev *d, u64 features, u64 guest_cid, u32 ring_size_max)
{
	memset(d, 0, sizeof(*d));
	d->chan.fd = -1;
	d->req_fd = -1;
	vu_mem_init(&d->mem);
	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		vu_ring_init(&d->rings[i]);
	d->offered = features | DEV_FEATURES;
	d->ring_size_max = ring_size_max;
	d->config = cpu_to_le64(guest_cid);
}

void vu_dev_begin(struct vu_dev *d, int fd)
{
	vu_chan_open(&d->chan, fd);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void ring_halt(struct vu_ring *r)
{
	if (r->started)
		r->stopped_at = r->last_avail;
	r->started = false;
	r->kick_fd = -1;
}

static void ring_stop(struct vu_ring *r)
{
	ring_halt(r);
	close_fd(&r->call_fd);
	close_fd(&r->err_fd);
	r->stuck = false;
}

void vu_dev_end(struct vu_dev *d)
{
	vu_chan_close(&d->chan);
	close_fd(&d->req_fd);
	for (u32 i = 0; i < VU_RINGS_MAX; i++) {
		ring_stop(&d->rings[i]);
		vu_ring_init(&d->rings[i]);
	}
	vu_mem_clear(&d->mem);
	vu_mem_drop_log(&d->mem);
	d->features = 0;
	d->protocol = 0;
}

void vu_dev_fini(struct vu_dev *d)
{
	vu_dev_end(d);
	vu_mem_fini(&d->mem);
}

static struct outcome reply_u64(struct vu_msg *msg, u64 value)
{
	msg->size = sizeof(value);
	msg->body.u64 = value;
	return (struct outcome){ .reply = true };
}

static void remap_rings(struct vu_dev *d)
{
	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		vu_ring_map(&d->rings[i], &d->mem);
}

static struct outcome set_features(struct vu_dev *d, u64 features)
{
	if (features & ~d->offered)
		return ended("features that were not offered");
	d->features = features;
	d->mem.log.all = features & VU_BIT(VU_F_LOG_ALL);
	for (u32 i = 0; i < VU_RINGS_MAX; i++) {
		d->rings[i].event_idx = features & VU_BIT(VU_F_EVENT_IDX);
		d->rings[i].indirect = features & VU_BIT(VU_F_INDIRECT_DESC);
		/* Without protocol features there is no VU_SET_VRING_ENABLE. */
		if (!(features & VU_BIT(VU_F_PROTOCOL_FEATURES)))
			d->rings[i].enabled = true;
	}
	return did(VU_DEV_RINGS);
}

static struct outcome set_mem_table(struct vu_dev *d, struct vu_msg *msg)
{
	const struct vu_mem_table *t = &msg->body.table;
	u32 n = t->nregions;

	if (n > VU_TABLE_REGIONS_MAX ||
	    msg->size < offsetof(struct vu_mem_table, regions) + n * sizeof(t->regions[0]) || msg->nfds != n)
		return ended("memory table of a wrong size");
	vu_mem_clear(&d->mem);
	for (u32 i = 0; i < n; i++) {
		const char *why = vu_mem_add(&d->mem, &t->regions[i], msg->fds[i]);

		if (why)
			return ended(why);
	}
	remap_rings(d);
	return did(VU_DEV_RINGS);
}

static struct outcome change_mem(struct vu_dev *d, struct vu_msg *msg)
{
	const char *why;

	if (msg->size < sizeof(msg->body.one))
		return ended("memory region of a wrong size");
	if (msg->request == VU_ADD_MEM_REG)
		why = vu_mem_add(&d->mem, &msg->body.one.region, msg->nfds ? msg->fds[0] : -1);
	else
		why = vu_mem_remove(&d->mem, &msg->body.one.region);
	if (why)
		return ended(why);
	remap_rings(d);
	return did(VU_DEV_RINGS);
}

static struct outcome set_addr(struct vu_dev *d, struct vu_ring *r, const struct vu_msg *msg)
{
	if (msg->size < sizeof(msg->body.addr))
		return ended("ring addresses of a wrong size");
	r->desc_uva = msg->body.addr.desc;
	r->avail_uva = msg->body.addr.avail;
	r->used_uva = msg->body.addr.used;
	r->addressed = true;
	r->logged = msg->body.addr.flags & VU_VRING_LOG;
	r->log_gpa = msg->body.addr.log;
	vu_ring_map(r, &d->mem);
	return did(VU_DEV_RINGS);
}

/* The answer says that the new log is in use: the front-end may take the old one away. */
static struct outcome set_log(struct vu_dev *d, struct vu_msg *msg)
{
	const char *why;

	if (!(d->protocol & VU_BIT(VU_PF_LOG_SHMFD)) || msg->size < sizeof(msg->body.log))
		return ended("dirty log of a wrong size");
	why = vu_mem_set_log(&d->mem, &msg->body.log, msg->nfds ? msg->fds[0] : -1);
	return why ? ended(why) : reply_u64(msg, 0);
}

static void ring_start(struct vu_dev *d, struct vu_ring *r)
{
	u16 used = r->last_avail;

	r->started = true;
	r->broken = false;
	r->seen_avail = r->last_avail;
	/* Chains are used in order, so what was taken and not used before a stop is taken again. */
	if (vu_ring_map(r, &d->mem)) {
		__le16 idx;

		memcpy(&idx, r->used + 2, sizeof(idx));
		used = le16_to_cpu(idx);
	}
	r->used_idx = used;
	r->published = used;
	r->signalled = used;
	r->calls_forced = true;
}

/* VU_SET_VRING_KICK starts the ring; CALL and ERR only replace a descriptor. */
static struct outcome set_ring_fd(struct vu_dev *d, struct vu_ring *r, struct vu_msg *msg)
{
	int fd = msg->body.u64 & VU_VRING_NO_FD ? -1 : vu_msg_take_fd(msg, 0);
	u32 facts = VU_DEV_RINGS;

	if (fd < 0 && !(msg->body.u64 & VU_VRING_NO_FD))
		return ended("ring message without its descriptor");
	/* A pipe or a full eventfd must never hold the device up. */
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (msg->request == VU_SET_VRING_CALL) {
		close_fd(&r->call_fd);
		r->call_fd = fd;
		r->calls_forced = true;
		return did(facts);
	}
	if (msg->request == VU_SET_VRING_ERR) {
		close_fd(&r->err_fd);
		r->err_fd = fd;
		return did(facts);
	}
	r->kick_fd = fd;
	if (!r->started) {
		if (r->last_avail != r->stopped_at)
			facts |= VU_DEV_RESTARTED;
		ring_start(d, r);
	}
	return did(facts);
}

static void stop_rings(struct vu_dev *d)
{
	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		ring_stop(&d->rings[i]);
}

/*
 * A device begins. On a connection that served one before (it was unplugged, and plugged in again), that one's memory
 * is still here: nobody takes regions away when a device goes, and the new one adds the same again.
 */
static struct outcome new_owner(struct vu_dev *d)
{
	stop_rings(d);
	vu_mem_clear(&d->mem);
	vu_mem_drop_log(&d->mem);
	remap_rings(d);
	return did(VU_DEV_RINGS | VU_DEV_RESTARTED);
}

/*
 * May it be set up? Not while it runs. One that is disabled and set up anew has stopped, though nobody said so: the
 * front-end of User-Mode-Linux never asks for its index. It has sent a new call descriptor before.
 */
static bool ring_may_begin(struct vu_ring *r)
{
	if (r->started && r->enabled)
		return false;
	ring_halt(r);
	return true;
}

static struct outcome ring_message(struct vu_dev *d, struct vu_msg *msg)
{
	u32 index = msg->body.state.index;
	struct vu_ring *r;

	if (msg->size < sizeof(u64))
		return ended("ring message of a wrong size");
	if (msg->request >= VU_SET_VRING_KICK && msg->request <= VU_SET_VRING_ERR)
		index = (u32)msg->body.u64 & VU_VRING_INDEX_MASK;
	if (index >= VU_RINGS_MAX)
		return ended("ring that does not exist");
	r = &d->rings[index];
	switch (msg->request) {
	case VU_SET_VRING_NUM:
		if (!vsp_ring_size_valid(msg->body.state.num) || msg->body.state.num > d->ring_size_max ||
		    !ring_may_begin(r))
			return ended("ring size that is not supported (see --queue-size)");
		r->size = msg->body.state.num;
		r->desc = NULL;
		return fine;
	case VU_SET_VRING_ADDR:
		return set_addr(d, r, msg);
	case VU_SET_VRING_BASE:
		if (!ring_may_begin(r))
			return ended("ring index of a running ring");
		r->last_avail = (u16)msg->body.state.num;
		return fine;
	case VU_GET_VRING_BASE:
		msg->body.state.num = r->last_avail;
		msg->size = sizeof(msg->body.state);
		ring_stop(r);
		return (struct outcome){ .facts = VU_DEV_RINGS, .reply = true };
	case VU_SET_VRING_ENABLE:
		r->enabled = msg->body.state.num != 0;
		return did(VU_DEV_RINGS);
	default:
		return set_ring_fd(d, r, msg);
	}
}

/* Any offset and size that the message can carry are answered; what lies behind the real fields is 0. */
static struct outcome get_config(struct vu_dev *d, struct vu_msg *msg)
{
	struct vu_config *c = &msg->body.config;
	const u8 *config = (const u8 *)&d->config;

	if (msg->size < offsetof(struct vu_config, bytes) || c->size > VU_CONFIG_MAX)
		return ended("configuration request of a wrong size");
	for (u32 i = 0; i < c->size; i++)
		c->bytes[i] = c->offset < sizeof(d->config) - i && i < sizeof(d->config) ? config[c->offset + i] : 0;
	msg->size = (u32)offsetof(struct vu_config, bytes) + c->size;
	return (struct outcome){ .reply = true };
}

static struct outcome keep_req_fd(struct vu_dev *d, struct vu_msg *msg)
{
	int fd = vu_msg_take_fd(msg, 0);

	if (fd < 0)
		return ended("request channel without its descriptor");
	close_fd(&d->req_fd);
	d->req_fd = fd;
	return fine;
}

static struct outcome serve(struct vu_dev *d, struct vu_msg *msg)
{
	switch (msg->request) {
	case VU_GET_FEATURES:
		return reply_u64(msg, d->offered);
	case VU_SET_FEATURES:
		return msg->size < sizeof(u64) ? ended("features of a wrong size") : set_features(d, msg->body.u64);
	case VU_GET_PROTOCOL_FEATURES:
		return reply_u64(msg, DEV_PROTOCOL);
	case VU_SET_PROTOCOL_FEATURES:
		if (msg->size < sizeof(u64) || (msg->body.u64 & ~DEV_PROTOCOL))
			return ended("protocol features that were not offered");
		d->protocol = msg->body.u64;
		return fine;
	case VU_SET_OWNER:
		return new_owner(d);
	case VU_RESET_OWNER:
		stop_rings(d);
		return did(VU_DEV_RINGS);
	case VU_GET_QUEUE_NUM:
		return reply_u64(msg, VU_RINGS_MAX);
	case VU_SET_MEM_TABLE:
		return set_mem_table(d, msg);
	case VU_SET_LOG_BASE:
		return set_log(d, msg);
	case VU_SET_LOG_FD:
		/* Where to say that something was logged; nobody waits for that, who reads the log looks by itself. */
		return fine;
	case VU_SET_BACKEND_REQ_FD:
		return keep_req_fd(d, msg);
	case VU_GET_MAX_MEM_SLOTS:
		return reply_u64(msg, VU_MEM_REGIONS_MAX);
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG:
		return change_mem(d, msg);
	case VU_SET_VRING_NUM:
	case VU_SET_VRING_ADDR:
	case VU_SET_VRING_BASE:
	case VU_GET_VRING_BASE:
	case VU_SET_VRING_KICK:
	case VU_SET_VRING_CALL:
	case VU_SET_VRING_ERR:
	case VU_SET_VRING_ENABLE:
		return ring_message(d, msg);
	case VU_GET_CONFIG:
		return get_config(d, msg);
	case VU_SET_CONFIG:
		/* virtio 1.4 5.10.4: guest_cid is read-only for the driver. */
		return (struct outcome){ .failed = true };
	default:
		return ended("unknown request");
	}
}

struct vu_dev_news vu_dev_serve(struct vu_dev *d)
{
	struct vu_dev_news news = { 0 };
	struct vu_msg *msg = &d->chan.in;
	struct outcome o;
	bool ack;

	switch (vu_chan_recv(&d->chan, &news.why)) {
	case VU_CHAN_MORE:
		return news;
	case VU_CHAN_MSG:
		break;
	case VU_CHAN_EOF:
		return (struct vu_dev_news){ .facts = VU_DEV_ENDED };
	default:
		news.facts = VU_DEV_ENDED;
		return news;
	}
	/* REM_MEM_REG and a few others may carry descriptors that nobody needs; they are closed with the message. */
	o = serve(d, msg);
	ack = (msg->flags & VU_FLAG_NEED_REPLY) && (d->protocol & VU_BIT(VU_PF_REPLY_ACK)) && !o.reply;
	vu_chan_done(&d->chan);
	if (ack && !(o.facts & VU_DEV_ENDED)) {
		reply_u64(msg, o.failed);
		o.reply = true;
	}
	if (o.reply) {
		msg->flags = VU_FLAG_VERSION | VU_FLAG_REPLY;
		if (vu_chan_send(&d->chan, msg))
			o = ended("a front-end that does not read replies");
	}
	return (struct vu_dev_news){ .facts = o.facts | VU_DEV_SERVED, .why = o.why };
}
