// SPDX-License-Identifier: BSD-2-Clause
/*
 * session.c - the guest's side: we are the virtual machine monitor and the driver, and go to a device
 *
 * See daemon/session.h. The code around it is that of the daemon, and says "guest" for whoever is at the other end of
 * the rings: here that is the device, with the host and all guests behind it.
 *
 * A device that is not there, or goes away, is looked for again, for ever. Its end is the end of all connections.
 */
#include "daemon/session.h"

#include "vu/front.h"
#include "vu/slots.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

enum {
	VSG_RETRY_MS = 100,  /* until the device is looked for again */
	VSG_EVENTS = 64,     /* dealt with before others have their turn */
	VSG_EVENT_BYTES = 8, /* of a buffer for an event: struct virtio_vsock_event, and to spare */
	VSG_TOLD_MAX = 256,  /* bytes of what is said of a device that cannot be had */

	/* The driver's names of its rings, virtio 1.4 5.10.2. */
	DRIVER_RX = 0,
	DRIVER_TX = 1,
	DRIVER_EVENT = 2,
	DRIVER_RINGS = 3,

	EVENT_TRANSPORT_RESET = 0, /* virtio 1.4 5.10.6.7 */
};

/**
 * struct vsg_device - the device, as we know it
 * @front: the session, if @up
 * @slots: buffers of its rings
 * @up: there is one
 * @told: why there is none, as it was said last
 */
struct vsg_device {
	struct vu_front front;
	struct vu_slots slots[DRIVER_RINGS];
	bool up;
	char told[VSG_TOLD_MAX];
};

const char vsd_session_other[] = "device";
const char *const vsd_session_ring[2] = { [VU_RING_RX] = "tx", [VU_RING_TX] = "rx" };

bool vsd_session_up(const struct vsd_guest *g)
{
	return g->device->up;
}

struct vsp_addr vsd_session_address(const struct vsd_guest *g, const struct vsd_command *cmd)
{
	(void)g;
	if (cmd->two)
		return (struct vsp_addr){ .cid = cmd->port, .port = cmd->second };
	return (struct vsp_addr){ .cid = VSP_CID_HOST, .port = cmd->port };
}

/* Bytes of a buffer of each ring, header included. */
static u32 slot_bytes(const struct vsd_guest *g, u32 ring)
{
	switch (ring) {
	case DRIVER_RX:
		return VSP_HDR_LEN + g->opts->receive_buffer;
	case DRIVER_TX:
		return VSP_HDR_LEN + VSP_MAX_PAYLOAD;
	default:
		return VSG_EVENT_BYTES;
	}
}

static u64 memory_of(const struct vsd_guest *g)
{
	const u64 page = 4096;
	u64 bytes = (u64)DRIVER_RINGS * VU_FRONT_RING_BYTES;

	for (u32 i = 0; i < DRIVER_RINGS; i++)
		bytes += vu_slots_memory(g->opts->queue_size, slot_bytes(g, i));
	return (bytes + page - 1) & ~(page - 1);
}

/* Which of the daemon's rings, seen from the other end, the driver's ring is. */
static struct vu_ring *ring_of(struct vsd_guest *g, u32 ring)
{
	static const u32 seen_as[] = {
		[DRIVER_RX] = VU_RING_TX, [DRIVER_TX] = VU_RING_RX, [DRIVER_EVENT] = VU_RING_EVENT
	};

	return &g->dev.rings[seen_as[ring]];
}

static int fill_rings(struct vsd_guest *g)
{
	struct vsg_device *d = g->device;
	u64 at = vu_front_data(&d->front);
	int err = 0;

	for (u32 i = 0; i < DRIVER_RINGS && !err; i++) {
		u32 bytes = slot_bytes(g, i);

		err = vu_slots_init(&d->slots[i], &d->front.drv[i], d->front.mem + at, vu_front_gpa(at), bytes,
				    i != DRIVER_TX);
		at += vu_slots_memory(g->opts->queue_size, bytes);
		if (!err)
			vu_ring_turn(ring_of(g, i), &d->slots[i]);
	}
	return err;
}

/* What epoll is to look at: the device's socket, and its doorbells as the other end would have them. */
static int watch_all(struct vsd_guest *g)
{
	static const enum vsd_source source[] = {
		[DRIVER_RX] = VSD_SOURCE_KICK_TX,
		[DRIVER_TX] = VSD_SOURCE_KICK_RX,
		[DRIVER_EVENT] = VSD_SOURCE_KICK_EVENT,
	};
	struct vsg_device *d = g->device;
	int err = vsd_guest_watch(g, &g->front_watch, VSD_SOURCE_FRONT_END, d->front.chan.fd, 0);

	for (u32 i = 0; i < DRIVER_RINGS && !err; i++)
		err = vsd_guest_watch(g, &g->kick_watch[i], source[i], d->front.drv[i].call_fd, EPOLLET);
	return err;
}

/* The device holds the same doorbells: closing ours would not take them out of epoll. */
static void unwatch_all(struct vsd_guest *g)
{
	struct vsg_device *d = g->device;

	epoll_ctl(g->loop->epfd, EPOLL_CTL_DEL, d->front.chan.fd, NULL);
	for (u32 i = 0; i < DRIVER_RINGS; i++)
		epoll_ctl(g->loop->epfd, EPOLL_CTL_DEL, d->front.drv[i].call_fd, NULL);
}

static void let_go(struct vsd_guest *g)
{
	struct vsg_device *d = g->device;

	unwatch_all(g);
	for (u32 i = 0; i < DRIVER_RINGS; i++)
		vu_slots_fini(&d->slots[i]);
	vu_dev_end(&g->dev);
	vu_front_close(&d->front);
	d->up = false;
}

/* All that was there is not there any more. */
static void forget_all(struct vsd_guest *g)
{
	vsock_mux_gone(&g->mux);
	vsd_dgram_forget(g);
	vsd_guest_news(g);
}

static void end_session(struct vsd_guest *g)
{
	let_go(g);
	g->mux.filter.types = vsp_types_for(0);
	forget_all(g);
	g->from_due = false;
	g->starved = false;
	g->session_at = g->loop->now + VSG_RETRY_MS * VSD_MS;
}

/* End a session that had begun. */
static void drop(struct vsd_guest *g, const char *why)
{
	vsd_guest_warn(g, "device dropped: %s", why);
	end_session(g);
}

/* Say why there is no device, once: it is looked for again and again. */
__attribute__((format(printf, 3, 4))) static void tell(struct vsd_guest *g, enum vsd_level level, const char *format,
						       ...)
{
	struct vsg_device *d = g->device;
	char text[VSG_TOLD_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (!strcmp(text, d->told))
		return;
	memcpy(d->told, text, sizeof(text));
	vsd_log(level, g->name, "%s", text);
}

/* Do we want this device? */
static bool judge(struct vsd_guest *g)
{
	const struct vsg_device *d = g->device;

	if (d->front.guest_cid != g->opts->guest_cid)
		tell(g, VSD_WARN, "the device at %s calls its guest %llu, and not %u; see --guest-cid", g->opts->socket,
		     (unsigned long long)d->front.guest_cid, g->opts->guest_cid);
	else if (!(d->front.features & VU_BIT(VU_F_VERSION_1)))
		tell(g, VSD_WARN, "the device at %s is from before virtio 1.0", g->opts->socket);
	else
		return true;
	return false;
}

/* Everything that a session needs of us? */
static bool equip(struct vsd_guest *g)
{
	if (!fill_rings(g) && !watch_all(g))
		return true;
	tell(g, VSD_WARN, "out of memory or descriptors for the device at %s", g->opts->socket);
	return false;
}

/* The device is there, and knows our memory. */
static void begin_session(struct vsd_guest *g)
{
	struct vsg_device *d = g->device;

	d->up = true;
	if (!judge(g) || !equip(g)) {
		end_session(g);
		return;
	}
	d->told[0] = '\0';
	g->counters.sessions++;
	g->dev.features = d->front.features;
	g->mux.filter.types = vsp_types_for(g->dev.features & ~VU_BIT(VSP_F_DGRAM));
	vsd_dgram_negotiated(g);
	vsd_dgram_ask(g);
	g->from_due = true;
	vu_ring_await(ring_of(g, DRIVER_EVENT));
	vsd_log(VSD_INFO, g->name, "device connected");
}

void vsd_session_again(struct vsd_guest *g)
{
	struct vsg_device *d = g->device;
	const struct vu_front_opts opts = {
		.rings = DRIVER_RINGS,
		.ring_size = g->opts->queue_size,
		.memory = memory_of(g),
		.features = VU_BIT(VU_F_EVENT_IDX) | VU_BIT(VSP_F_STREAM) | VU_BIT(VSP_F_SEQPACKET) |
			    VU_BIT(VSP_F_NO_IMPLIED_STREAM) | (g->dgrams.on ? VU_BIT(VSP_F_DGRAM) : 0),
		.whole = true,
		.wary = true,
		/* Whoever calls this thread, to end it perhaps, does not wait for the device. */
		.hurry_fd = g->loop->call_fd,
	};
	int err;

	g->session_at = 0;
	if (d->up)
		return;
	err = vu_front_open(&d->front, g->opts->socket, &opts);
	if (!err) {
		begin_session(g);
		return;
	}
	if (err != -EINTR)
		tell(g, VSD_INFO, "no device at %s: %s; looked for until it comes", g->opts->socket, strerror(-err));
	g->session_at = g->loop->now + VSG_RETRY_MS * VSD_MS;
}

/* Everything begins anew, but the rings and what is on them go on. */
static void reset(struct vsd_guest *g)
{
	g->counters.transport_resets++;
	if (vu_front_ask_cid(&g->device->front) || !judge(g)) {
		drop(g, "after a reset its guest has another context identifier, or it does not say");
		return;
	}
	vsd_log(VSD_INFO, g->name, "the device has reset all connections");
	forget_all(g);
	vsd_dgram_negotiated(g);
	vsd_dgram_ask(g);
}

/* Take an event, if there is one. Unknown ones are ignored, as 5.10.6.7 asks. */
static bool take_event(struct vsd_guest *g, bool *reset_due)
{
	struct vu_ring *r = ring_of(g, DRIVER_EVENT);
	struct iovec iov;
	struct vu_pop p = vu_ring_pop(r, &g->dev.mem, false, &iov, 1);
	__le32 id;

	if (p.what != VU_POP_CHAIN)
		return false;
	if (p.bytes >= sizeof(id)) {
		memcpy(&id, iov.iov_base, sizeof(id));
		*reset_due |= le32_to_cpu(id) == EVENT_TRANSPORT_RESET;
	}
	vu_ring_use(r, p.head, 0);
	return true;
}

/* Many resets are one. A device that has events without end has its turn like everybody. */
static void serve_events(struct vsd_guest *g)
{
	struct vu_ring *r = ring_of(g, DRIVER_EVENT);
	bool more = true, reset_due = false;

	for (u32 i = 0; i < VSG_EVENTS && more; i++)
		more = take_event(g, &reset_due) || vu_ring_await(r);
	vu_ring_publish(r);
	if (more)
		eventfd_write(g->device->front.drv[DRIVER_EVENT].call_fd, 1);
	if (reset_due)
		reset(g);
}

/* A device says nothing on this socket that it was not asked for. */
static void serve_device(struct vsd_guest *g)
{
	char byte;
	ssize_t n = recv(g->device->front.chan.fd, &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		drop(g, "it said something that it was not asked for");
		return;
	}
	vsd_log(VSD_INFO, g->name, "device disconnected");
	end_session(g);
}

void vsd_session_event(struct vsd_watch *w)
{
	struct vsd_guest *g = w->guest;

	/* Of a session that ended in this turn. */
	if (!g->device->up)
		return;
	switch (w->source) {
	case VSD_SOURCE_FRONT_END:
		serve_device(g);
		break;
	case VSD_SOURCE_KICK_TX:
		g->from_due = true;
		break;
	case VSD_SOURCE_KICK_RX:
		g->starved = false;
		break;
	case VSD_SOURCE_KICK_EVENT:
		serve_events(g);
		break;
	default:
		break;
	}
}

bool vsd_session_broken(struct vsd_guest *g)
{
	bool broken = g->dev.mem.lost;

	if (!g->device->up)
		return false;
	for (u32 i = 0; i < DRIVER_RINGS; i++)
		broken |= g->device->front.drv[i].broken;
	if (broken)
		drop(g, "it broke a rule of the rings");
	return broken;
}

int vsd_session_open(struct vsd_guest *g)
{
	g->device = calloc(1, sizeof(*g->device));
	if (!g->device) {
		vsd_log(VSD_ERROR, g->name, "cannot begin: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	g->vu_fd = -1;
	g->mux.params.guest_cid = VSP_CID_ANY;
	g->mux.params.host_cid = g->opts->guest_cid;
	g->mux.filter.my_cid = g->opts->guest_cid;
	g->mux.filter.peer_cid = VSP_CID_ANY;
	g->session_at = g->loop->now;
	return 0;
}

void vsd_session_close(struct vsd_guest *g)
{
	if (g->device->up)
		let_go(g);
	free(g->device);
	g->device = NULL;
}
