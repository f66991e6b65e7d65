// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/session.h"

#include "kernel/proto/names.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

static void trace_step(const struct vsock_conn *c, enum vsp_state from, enum vsp_event event,
		       const struct vsp_verdict *v)
{
	char acts[256] = "";
	size_t len = 0;

	for (u32 bit = 0; bit < NUM_VSP_ACTS; bit++) {
		if (v->acts & 1u << bit)
			len += (size_t)snprintf(acts + len, sizeof(acts) - len, " %s", vsp_act_name(bit));
	}
	vsd_log(VSD_TRACE, "conn", "%u:%u %s + %s -> %s%s", c->host_port, c->guest_port, vsp_state_name(from),
		vsp_event_name(event), vsp_state_name(v->next), acts);
}

void vsd_guest_warn(struct vsd_guest *g, const char *format, ...)
{
	char text[256];
	u32 dropped;
	va_list ap;

	if (!vsd_rate_ok(&g->rate, g->loop->now, &dropped))
		return;
	if (dropped)
		vsd_log(VSD_WARN, g->name, "%u more warnings were held back", dropped);
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	vsd_log(VSD_WARN, g->name, "%s", text);
}

int vsd_guest_watch(struct vsd_guest *g, struct vsd_watch *w, enum vsd_source source, int fd, u32 events)
{
	struct epoll_event ev = { .events = EPOLLIN | events, .data.ptr = w };

	*w = (struct vsd_watch){ .source = source, .guest = g };
	return epoll_ctl(g->loop->epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

void vsd_guest_unwatch(struct vsd_guest *g, int fd)
{
	epoll_ctl(g->loop->epfd, EPOLL_CTL_DEL, fd, NULL);
}

static int init_mux(struct vsd_guest *g)
{
	const struct vsd_guest_opts *o = g->opts;
	struct vsock_params params = {
		.guest_cid = o->guest_cid,
		.host_cid = VSP_CID_HOST,
		.window = o->window,
		.conns_max = o->conns_max,
		.connect_timeout = o->connect_ms * VSD_MS,
		.close_timeout = o->close_ms * VSD_MS,
	};

	if (getrandom(&params.seed, sizeof(params.seed), 0) != sizeof(params.seed))
		return -errno;
	return vsock_mux_init(&g->mux, &params);
}

/* Where programs of the host are to connect, for the log. */
static const char *clients_of(const struct vsd_guest_opts *o)
{
	if (o->uds_fd >= 0)
		return "a socket handed in";
	if (o->uds_path && !o->connect_only)
		return o->uds_path;
	if (o->map_to_guest.n)
		return "sockets of its ports";
	return o->forward_listen.n ? "ports of AF_VSOCK" : "no place";
}

/* What the device can do: datagrams for programs of the host need sockets of theirs, those for other guests not. */
static u64 features(const struct vsd_guest_opts *o)
{
	return VU_BIT(VSP_F_STREAM) | VU_BIT(VSP_F_SEQPACKET) | VU_BIT(VSP_F_NO_IMPLIED_STREAM) |
	       (vsd_guest_has_datagrams(o) ? VU_BIT(VSP_F_DGRAM) : 0);
}

int vsd_guest_start(struct vsd_guest *g, struct vsd_loop *loop, const struct vsd_guest_opts *opts)
{
	int err;

	memset(g, 0, sizeof(*g));
	g->dgrams.clients_sock.fd = -1;
	g->opts = opts;
	g->loop = loop;
	g->tap.fd = -1;
	snprintf(g->name, sizeof(g->name), "guest %u", opts->guest_cid);
	err = init_mux(g);
	if (err) {
		vsd_log(VSD_ERROR, g->name, "cannot begin: %s", strerror(-err));
		return err;
	}
	if (vsd_log_enabled(VSD_TRACE))
		g->mux.trace = trace_step;
	vu_dev_init(&g->dev, features(opts), opts->guest_cid, opts->queue_size);
	g->next = loop->guests;
	err = vsd_dgram_start(g);
	if (!err)
		err = vsd_listeners_open(g);
	if (err)
		goto no_sockets;
	/* Last: whoever comes finds the others. */
	err = vsd_session_open(g);
	if (!err) {
		loop->guests = g;
		vsd_log(VSD_INFO, g->name, "%s at %s, host clients at %s", vsd_session_other,
			opts->socket ? opts->socket : "a socket handed in", clients_of(opts));
		return 0;
	}
	vsd_listeners_close(g);
no_sockets:
	vsd_dgram_stop(g);
	vu_dev_fini(&g->dev);
	vsock_mux_fini(&g->mux);
	return err;
}

bool vsd_guest_reset(struct vsd_guest *g, u32 host_cid, u32 host_port, u32 guest_port)
{
	bool found = false;

	for (struct vsd_conn *s = g->all; s; s = s->all_next) {
		if (s->c.host_cid != host_cid || s->c.host_port != host_port || s->c.guest_port != guest_port ||
		    !s->c.hashed)
			continue;
		found = true;
		s->lost = true;
		vsd_guest_wake(g);
		vsock_mux_abort(&g->mux, &s->c);
	}
	return found;
}

void vsd_guest_reconfigure(struct vsd_guest *g, const struct vsd_guest_opts *opts)
{
	g->opts = opts;
	g->mux.params.connect_timeout = opts->connect_ms * VSD_MS;
	g->mux.params.close_timeout = opts->close_ms * VSD_MS;
}

void vsd_guest_news(struct vsd_guest *g)
{
	struct vsock_conn *c;

	while ((c = vsock_mux_news(&g->mux)) != NULL)
		vsd_conn_news(vsd_conn_of(c));
}

void vsd_guest_event(struct vsd_watch *w, u32 events)
{
	struct vsd_guest *g = w->guest;

	switch (w->source) {
	case VSD_SOURCE_VU_LISTENER:
	case VSD_SOURCE_FRONT_END:
	case VSD_SOURCE_KICK_RX:
	case VSD_SOURCE_KICK_TX:
	case VSD_SOURCE_KICK_EVENT:
		vsd_session_event(w);
		break;
	case VSD_SOURCE_HOST_LISTENER:
		vsd_host_accept(g, (struct vsd_listener *)(void *)w);
		break;
	case VSD_SOURCE_TAP:
		if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
			vsd_tap_end(g);
		vsd_tap_flush(g);
		break;
	case VSD_SOURCE_CONN:
		vsd_conn_event((struct vsd_conn *)w, events);
		break;
	case VSD_SOURCE_DGRAM:
	case VSD_SOURCE_DGRAM_DEST:
		vsd_dgram_event(w);
		break;
	default:
		break;
	}
}

/* When what was left on the tx ring is to be taken. Of a ring that is not served, never: it is when that changes. */
static u64 left_until(const struct vsd_guest *g)
{
	u64 bytes = g->held ? g->held_until : VSOCK_NEVER;
	u64 dgrams = g->dgrams.held_until ? g->dgrams.held_until : VSOCK_NEVER;

	if (!vu_ring_live(&g->dev.rings[VU_RING_TX]))
		return VSOCK_NEVER;
	return bytes < dgrams ? bytes : dgrams;
}

static void expire(struct vsd_guest *g)
{
	struct vsock_timer *t;

	while ((t = vsock_timers_expire(&g->mux.timers, g->loop->now)) != NULL)
		vsd_conn_timeout((struct vsd_conn *)(void *)((u8 *)t - offsetof(struct vsd_conn, c.timer)));
	if (g->host_paused && g->loop->now >= g->host_again)
		vsd_listeners_poll(g, true);
	if (g->loop->now >= left_until(g))
		g->from_due = true;
	if (g->dgrams.retry_at && g->loop->now >= g->dgrams.retry_at)
		vsd_dgram_retry(g);
	if (g->dgrams.answer_until && g->loop->now >= g->dgrams.answer_until)
		vsd_dgram_unanswered(g);
	if (g->session_at && g->loop->now >= g->session_at)
		vsd_session_again(g);
}

static void bury(struct vsd_guest *g)
{
	while (g->dead) {
		struct vsd_conn *s = g->dead;

		g->dead = s->all_next;
		free(s);
	}
	vsd_dgram_bury(g);
}

bool vsd_guest_serve(struct vsd_guest *g)
{
	bool more = true;

	g->mux.now = g->loop->now;
	expire(g);
	vsd_guest_news(g);
	if (g->reset_due)
		vsd_event_serve(g);
	for (u32 i = 0; i < VSD_ROUNDS && more; i++) {
		bool from = vsd_from_guest(g);
		bool to;

		vsd_guest_news(g);
		to = vsd_to_guest(g);
		vsd_guest_news(g);
		/* Answers that left make room for packets that had to wait for it. */
		more = from || to ||
		       (g->from_due && !g->loop->polling && vsp_budget_left(&g->mux.budget) &&
			vu_ring_live(&g->dev.rings[VU_RING_TX]) && vsd_from_allowed(g)) ||
		       (!g->starved && vsock_mux_next(&g->mux).any && vu_ring_live(&g->dev.rings[VU_RING_RX]) &&
			vsd_to_allowed(g));
	}
	if (vsd_session_broken(g))
		more = false;
	bury(g);
	vsd_tap_flush(g);
	return more;
}

/* When its rate lets something move. */
static u64 allowed_at(const struct vsd_guest *g)
{
	u64 from = g->from_waits ? vsd_limit_until(&g->from_limit, g->opts->rate_kib) : VSOCK_NEVER;
	u64 to = g->to_waits ? vsd_limit_until(&g->to_limit, g->opts->rate_kib) : VSOCK_NEVER;

	return from < to ? from : to;
}

u64 vsd_guest_deadline(const struct vsd_guest *g)
{
	u64 at = vsock_timers_next(&g->mux.timers), allowed = allowed_at(g);

	at = allowed < at ? allowed : at;

	if (g->host_paused && g->host_again < at)
		at = g->host_again;
	if (g->dgrams.retry_at && g->dgrams.retry_at < at)
		at = g->dgrams.retry_at;
	if (g->dgrams.answer_until && g->dgrams.answer_until < at)
		at = g->dgrams.answer_until;
	if (g->session_at && g->session_at < at)
		at = g->session_at;
	return left_until(g) < at ? left_until(g) : at;
}

void vsd_guest_report(const struct vsd_guest *g, enum vsd_level level)
{
	const struct vsd_counters *n = &g->counters;
	const struct vsd_dgram_counters *d = &g->dgrams.n;

	vsd_log(level, g->name,
		"connections=%u sessions=%llu opened=%llu refused=%llu denied=%llu resets=%llu timed_out=%llu "
		"packets_from_guest=%llu bytes_from_guest=%llu packets_to_guest=%llu bytes_to_guest=%llu "
		"messages_too_big=%llu transport_resets=%llu",
		g->conns, (unsigned long long)n->sessions, (unsigned long long)n->opened,
		(unsigned long long)n->refused, (unsigned long long)n->denied, (unsigned long long)n->resets,
		(unsigned long long)n->timed_out, (unsigned long long)n->packets_from_guest,
		(unsigned long long)n->bytes_from_guest, (unsigned long long)n->packets_to_guest,
		(unsigned long long)n->bytes_to_guest, (unsigned long long)n->messages_too_big,
		(unsigned long long)n->transport_resets);
	vsd_log(level, g->name,
		"dgrams_from_guest=%llu dgrams_to_guest=%llu dgrams_unbound=%llu dgrams_full=%llu dgrams_cut=%llu "
		"dgrams_no_guest=%llu dgrams_too_big=%llu dgrams_bad=%llu dgrams_no_memory=%llu dgrams_refused=%llu "
		"dgrams_bounced=%llu",
		(unsigned long long)d->from_guest, (unsigned long long)d->to_guest, (unsigned long long)d->unbound,
		(unsigned long long)d->full, (unsigned long long)d->cut, (unsigned long long)d->no_guest,
		(unsigned long long)d->too_big, (unsigned long long)d->bad, (unsigned long long)d->no_memory,
		(unsigned long long)d->refused, (unsigned long long)d->bounced);
	for (u32 i = VSP_OK + 1; i < NUM_VSP_REJECTS; i++) {
		if (g->mux.rejects[i])
			vsd_log(level, g->name, "reject %s=%llu", vsp_reject_name(i),
				(unsigned long long)g->mux.rejects[i]);
	}
}

void vsd_guest_stop(struct vsd_guest *g)
{
	struct vsd_guest **link = &g->loop->guests;

	while (*link != g)
		link = &(*link)->next;
	*link = g->next;
	vsd_tap_end(g);
	vsd_session_close(g);
	vsock_mux_gone(&g->mux);
	vsd_guest_news(g);
	while (g->all) {
		struct vsd_conn *s = g->all;

		vsd_conn_hang_up(s);
		vsd_conn_reap(s);
	}
	bury(g);
	vsd_dgram_stop(g);
	vsd_listeners_close(g);
	vu_dev_fini(&g->dev);
	vsock_mux_fini(&g->mux);
}
