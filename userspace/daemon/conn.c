// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The receive window of one more connection; 0: there is no memory left for it. */
static u32 next_window(const struct vsd_guest *g)
{
	u64 all = (u64)g->opts->memory_kib << 10, left = all > g->charged ? all - g->charged : 0, window;

	if (!all)
		return g->opts->window;
	window = left / VSD_MEMORY_PARTS > VSD_WINDOW_MIN ? left / VSD_MEMORY_PARTS : VSD_WINDOW_MIN;
	window = window < g->opts->window ? window : g->opts->window;
	return left >= window + sizeof(struct vsd_conn) ? (u32)window : 0;
}

struct vsd_conn *vsd_conn_new(struct vsd_guest *g)
{
	u32 window = next_window(g);
	struct vsd_conn *s;

	if (g->conns >= g->opts->conns_max || !window)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->c.window = window;
	s->charged = window + (u32)sizeof(*s);
	g->charged += s->charged;
	s->watch = (struct vsd_watch){ .source = VSD_SOURCE_CONN, .guest = g };
	s->fd = -1;
	s->say_fd = -1;
	s->all_next = g->all;
	s->all_link = &g->all;
	if (g->all)
		g->all->all_link = &s->all_next;
	g->all = s;
	g->conns++;
	return s;
}

void vsd_conn_reap(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;

	if (!g || s->phase != VSD_PHASE_NONE || s->batched || !vsock_conn_idle(&s->c))
		return;
	*s->all_link = s->all_next;
	if (s->all_next)
		s->all_next->all_link = s->all_link;
	s->all_next = g->dead;
	g->dead = s;
	g->conns--;
	g->charged -= s->charged;
	g->from_siblings -= s->from_sibling;
	g->due = true;
	/* Whatever still comes for it in this turn finds no guest to act on. */
	s->watch.guest = NULL;
}

static u32 events_of(const struct vsd_conn *s)
{
	return EPOLLIN | EPOLLRDHUP | EPOLLET | (s->wants_out ? EPOLLOUT : 0);
}

int vsd_conn_attach(struct vsd_conn *s, int fd)
{
	struct epoll_event ev = { .events = events_of(s), .data.ptr = &s->watch };

	s->fd = fd;
	return epoll_ctl(s->watch.guest->loop->epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

void vsd_conn_want_out(struct vsd_conn *s, bool wants)
{
	struct epoll_event ev = { .data.ptr = &s->watch };

	if (s->wants_out == wants || s->fd < 0)
		return;
	s->wants_out = wants;
	ev.events = events_of(s);
	epoll_ctl(s->watch.guest->loop->epfd, EPOLL_CTL_MOD, s->fd, &ev);
}

void vsd_conn_drop(struct vsd_conn *s)
{
	vsock_tail_clear(&s->tail);
	vsock_tail_clear(&s->part);
	s->queued = 0;
}

/* One that was passed may be open elsewhere; and it may be one of TCP, whose close() waits if its owner wants that. */
static void let_go(struct vsd_conn *s)
{
	const struct linger none = { 0 };

	vsd_guest_unwatch(s->watch.guest, s->fd);
	setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	shutdown(s->fd, SHUT_RDWR);
}

static void close_sockets(struct vsd_conn *s)
{
	if (s->passed && s->fd >= 0)
		let_go(s);
	if (s->fd >= 0)
		close(s->fd);
	if (s->say_fd >= 0)
		close(s->say_fd);
	s->fd = -1;
	s->say_fd = -1;
	vsd_conn_release(s);
}

void vsd_conn_hang_up(struct vsd_conn *s)
{
	vsd_sibling_part(s, false);
	close_sockets(s);
	s->wants_out = false;
	s->phase = VSD_PHASE_NONE;
	vsd_conn_drop(s);
	vsock_tail_clear(&s->rest);
	vsock_timer_stop(&s->watch.guest->mux.timers, &s->c.timer);
}

/* Both directions are done with on the host's side. */
static void host_done(struct vsd_conn *s)
{
	struct vsock_mux *m = &s->watch.guest->mux;

	if (s->lost || s->tail.len || s->part.len) {
		vsock_mux_abort(m, &s->c);
		return;
	}
	if (s->c.state != VSP_ESTABLISHED)
		return;
	vsock_tail_clear(&s->rest);
	/* The engine's deadline runs on without the socket. */
	close_sockets(s);
	s->phase = VSD_PHASE_NONE;
	vsock_mux_close(m, &s->c);
}

void vsd_conn_eof(struct vsd_conn *s)
{
	struct vsock_mux *m = &s->watch.guest->mux;

	s->eof = true;
	vsock_mux_ready(m, &s->c, false);
	if (s->lost || s->hup || s->wrote_all)
		host_done(s);
	else
		vsock_mux_shut(m, &s->c, VSP_SHUTDOWN_SEND);
}

/* Nothing is left to write: what was waiting for that may happen. */
static void written(struct vsd_conn *s)
{
	struct vsock_mux *m = &s->watch.guest->mux;

	vsd_conn_want_out(s, false);
	vsd_conn_release(s);
	if (s->phase == VSD_PHASE_LINGER) {
		vsd_conn_hang_up(s);
		return;
	}
	if (!(s->c.hints & VSP_SHUTDOWN_SEND) || s->wrote_all)
		return;
	s->wrote_all = true;
	shutdown(s->fd, SHUT_WR);
	if ((s->c.hints & VSP_SHUTDOWN_BOTH) == VSP_SHUTDOWN_BOTH)
		vsock_mux_drained(m, &s->c);
	else if (s->eof)
		host_done(s);
}

/* The peer does not read any more. What it sent may still be read. */
void vsd_conn_deaf(struct vsd_conn *s)
{
	struct vsock_mux *m = &s->watch.guest->mux;

	s->deaf = true;
	s->lost = true;
	vsd_conn_release(s);
	vsock_mux_consumed(m, &s->c, vsd_conn_unread(s));
	vsd_conn_drop(s);
	vsd_conn_want_out(s, false);
	if (s->phase == VSD_PHASE_LINGER) {
		vsd_conn_hang_up(s);
		return;
	}
	if (s->eof)
		vsock_mux_abort(m, &s->c);
	else
		vsock_mux_shut(m, &s->c, VSP_SHUTDOWN_RCV);
}

/* What the socket took of the segments; -1 where it will never take any again. */
static ssize_t offer(struct vsd_conn *s, struct iovec *iov, u32 niov)
{
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = niov };
	ssize_t n = sendmsg(s->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n >= 0)
		return n;
	if (errno == EFAULT)
		s->watch.guest->dev.mem.lost = 1;
	return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? -1 : 0;
}

static bool keep(struct vsd_conn *s, const struct iovec *iov, u32 niov, size_t skip)
{
	for (u32 i = 0; i < niov; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		if (!vsock_tail_add(&s->tail, (u8 *)iov[i].iov_base + skip, (u32)(iov[i].iov_len - skip)))
			return false;
		skip = 0;
	}
	return true;
}

u32 vsd_conn_offer(struct vsd_conn *s, struct iovec *iov, u32 niov, u32 bytes)
{
	struct vsd_guest *g = s->watch.guest;
	ssize_t n;

	if (s->sibling && s->phase == VSD_PHASE_OPEN)
		return vsd_sibling_offer(s, iov, niov, bytes);
	if (s->phase != VSD_PHASE_OPEN || s->deaf) {
		s->lost |= bytes > 0;
		vsock_mux_consumed(&g->mux, &s->c, bytes);
		return bytes;
	}
	/* A full socket says when it has room. */
	if (s->wants_out)
		return 0;
	n = offer(s, iov, niov);
	if (n < 0) {
		vsock_mux_consumed(&g->mux, &s->c, bytes);
		vsd_conn_deaf(s);
		return bytes;
	}
	g->counters.bytes_from_guest += (u64)n;
	vsock_mux_consumed(&g->mux, &s->c, (u32)n);
	vsd_conn_want_out(s, (u32)n < bytes);
	return (u32)n;
}

void vsd_conn_keep(struct vsd_conn *s, const struct iovec *iov, u32 niov, u32 done)
{
	struct vsd_guest *g = s->watch.guest;

	if (keep(s, iov, niov, done))
		return;
	g->mux.rejects[VSP_REJECT_NO_MEMORY]++;
	s->lost = true;
	vsock_mux_abort(&g->mux, &s->c);
}

static void flush_tail(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;

	if (s->seqpacket && !vsd_record_flush(s))
		return;
	while (s->tail.len) {
		struct iovec iov = { .iov_base = s->tail.bytes + s->tail.first, .iov_len = s->tail.len };
		ssize_t n = offer(s, &iov, 1);

		if (n < 0) {
			vsd_conn_deaf(s);
			return;
		}
		if (n == 0)
			return;
		g->counters.bytes_from_guest += (u64)n;
		vsock_tail_drop(&s->tail, (u32)n);
		vsock_mux_consumed(&g->mux, &s->c, (u32)n);
	}
	written(s);
}

void vsd_conn_event(struct vsd_conn *s, u32 events)
{
	struct vsd_guest *g = s->watch.guest;

	if (!g || s->fd < 0)
		return;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		s->last = true;
	if (events & (EPOLLHUP | EPOLLERR))
		s->hup = true;
	switch (s->phase) {
	case VSD_PHASE_COMMAND:
		vsd_host_command(s);
		break;
	case VSD_PHASE_PASS:
		vsd_host_passed(s);
		break;
	case VSD_PHASE_CONNECT:
		if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
			vsd_host_dialled(s);
		break;
	case VSD_PHASE_WAIT:
		if (s->hup)
			vsock_mux_close(&g->mux, &s->c);
		break;
	case VSD_PHASE_OPEN:
		if (events & EPOLLOUT || (s->hup && s->tail.len))
			flush_tail(s);
		if (s->phase != VSD_PHASE_OPEN || s->c.state != VSP_ESTABLISHED)
			break;
		if (s->hup && (s->eof || (s->c.hints & VSP_SHUTDOWN_RCV)))
			host_done(s);
		else if (!s->eof)
			vsock_mux_ready(&g->mux, &s->c, true);
		break;
	case VSD_PHASE_LINGER:
		flush_tail(s);
		break;
	default:
		break;
	}
	vsd_conn_reap(s);
}

/* The connection is over for the guest. What it sent before an orderly end still goes to its reader. */
static void over(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;

	if (s->fd >= 0 && s->tail.len && s->c.err == VSP_ERR_NONE && !s->lost && s->phase == VSD_PHASE_OPEN) {
		s->phase = VSD_PHASE_LINGER;
		vsock_timer_start(&g->mux.timers, &s->c.timer, g->loop->now + g->opts->linger_ms * VSD_MS);
		return;
	}
	if (s->phase == VSD_PHASE_WAIT)
		g->counters.refused++;
	vsd_conn_hang_up(s);
}

static void hinted(struct vsd_conn *s)
{
	if (s->fd < 0)
		return;
	if (s->c.hints & VSP_SHUTDOWN_RCV) {
		shutdown(s->fd, SHUT_RD);
		vsock_mux_ready(&s->watch.guest->mux, &s->c, false);
	}
	/* The end in the middle of a message: it will never be whole. */
	if ((s->c.hints & VSP_SHUTDOWN_SEND) && s->part.len) {
		s->lost = true;
		vsock_mux_abort(&s->watch.guest->mux, &s->c);
		return;
	}
	if (!s->tail.len)
		written(s);
}

void vsd_conn_news(struct vsd_conn *s)
{
	u8 facts = s->c.facts;

	s->c.facts = 0;
	if (facts & VSOCK_OVER) {
		s->watch.guest->counters.resets += s->phase == VSD_PHASE_OPEN && (s->c.err != VSP_ERR_NONE || s->lost);
		if (s->phase != VSD_PHASE_LINGER)
			s->sibling ? vsd_sibling_over(s) : over(s);
	} else if (facts & VSOCK_OPENED) {
		s->watch.guest->counters.opened++;
		if (s->sibling)
			vsd_sibling_opened(s);
		else if (s->phase == VSD_PHASE_WAIT)
			vsd_host_welcome(s);
	}
	if ((facts & VSOCK_HINTED) && s->phase == VSD_PHASE_OPEN)
		s->sibling ? vsd_sibling_hinted(s) : hinted(s);
	vsd_conn_reap(s);
}

void vsd_conn_timeout(struct vsd_conn *s)
{
	switch (s->phase) {
	case VSD_PHASE_COMMAND:
	case VSD_PHASE_PASS:
	case VSD_PHASE_LINGER:
		s->watch.guest->counters.timed_out++;
		vsd_conn_hang_up(s);
		break;
	case VSD_PHASE_DIAL:
		vsd_host_dial(s);
		break;
	case VSD_PHASE_CONNECT:
		vsd_host_dialled(s);
		break;
	default:
		/* To an open connection it is a question that was not answered. */
		s->watch.guest->counters.timed_out += s->c.state != VSP_ESTABLISHED;
		vsock_mux_timeout(&s->watch.guest->mux, &s->c);
		break;
	}
	vsd_conn_reap(s);
}
