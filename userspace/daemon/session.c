// SPDX-License-Identifier: BSD-2-Clause
/*
 * session.c - the device's side: front-ends come, one at a time, and say where memory and rings are
 */
#include "daemon/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

const char vsd_session_other[] = "front-end";
const char *const vsd_session_ring[2] = { [VU_RING_RX] = "rx", [VU_RING_TX] = "tx" };

bool vsd_session_up(const struct vsd_guest *g)
{
	return g->dev.chan.fd >= 0;
}

struct vsp_addr vsd_session_address(const struct vsd_guest *g, const struct vsd_command *cmd)
{
	return (struct vsp_addr){ .cid = g->opts->guest_cid, .port = cmd->port };
}

/*
 * The socket that was handed in: a listener, or the front-end itself, with which a session begins. It outlives us: a
 * reload may let this guest begin anew.
 */
static int take_socket(struct vsd_guest *g)
{
	int fd = fcntl(g->opts->fd, F_DUPFD_CLOEXEC, 0), err = errno, listens = 0;
	socklen_t len = sizeof(listens);

	if (fd < 0) {
		vsd_log(VSD_ERROR, g->name, "--fd %d: %s", g->opts->fd, strerror(err));
		return -err;
	}
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	*(listens ? &g->vu_fd : &g->handed_fd) = fd;
	return 0;
}

/* The front-end's socket. One that was handed in is open elsewhere, and must hear of the end nevertheless. */
static void close_front_end(struct vsd_guest *g)
{
	if (g->handed_fd >= 0 && g->dev.chan.fd >= 0) {
		vsd_guest_unwatch(g, g->dev.chan.fd);
		shutdown(g->dev.chan.fd, SHUT_RDWR);
	}
	vu_dev_end(&g->dev);
}

static void poll_front_ends(struct vsd_guest *g, bool poll)
{
	struct epoll_event ev = { .events = poll ? EPOLLIN : 0, .data.ptr = &g->vu_watch };

	if (g->vu_fd >= 0)
		epoll_ctl(g->loop->epfd, EPOLL_CTL_MOD, g->vu_fd, &ev);
}

/* A front-end is there. The next one waits until it is gone. */
static void begin_session(struct vsd_guest *g, int fd)
{
	vu_dev_begin(&g->dev, fd);
	if (vsd_guest_watch(g, &g->front_watch, VSD_SOURCE_FRONT_END, fd, 0)) {
		close_front_end(g);
		return;
	}
	poll_front_ends(g, false);
	g->counters.sessions++;
	vsd_log(VSD_INFO, g->name, "front-end connected");
}

static void accept_front_end(struct vsd_guest *g)
{
	int fd = accept4(g->vu_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		begin_session(g, fd);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		vsd_guest_warn(g, "cannot accept a front-end: %s; raise the limit of open files", strerror(errno));
		poll_front_ends(g, false);
		g->session_at = g->loop->now + VSD_ACCEPT_RETRY_MS * VSD_MS;
	}
}

/*
 * Each ring of an eventfd is an edge, whatever its count, so it need not be read. A pipe would fill up. Neither has a
 * file type of its own: an eventfd is the one without any.
 */
static bool must_drain(int fd)
{
	struct stat st;

	return fstat(fd, &st) || (st.st_mode & S_IFMT);
}

/* Poll the doorbells that the front-end gave us, and no others. */
static void sync_kicks(struct vsd_guest *g)
{
	for (u32 i = 0; i < VU_RINGS_MAX; i++) {
		int fd = g->dev.rings[i].kick_fd;

		if (fd == g->polled_kick[i])
			continue;
		if (g->polled_kick[i] >= 0) {
			epoll_ctl(g->loop->epfd, EPOLL_CTL_DEL, g->polled_kick[i], NULL);
			close(g->polled_kick[i]);
		}
		g->polled_kick[i] = fd;
		g->drain_kick[i] = fd >= 0 && must_drain(fd);
		if (fd >= 0 && vsd_guest_watch(g, &g->kick_watch[i], VSD_SOURCE_KICK_RX + i, fd, EPOLLET))
			vsd_guest_warn(g, "ring %u has a doorbell that cannot be polled", i);
	}
}

static void end_session(struct vsd_guest *g, const char *why)
{
	if (why)
		vsd_guest_warn(g, "front-end dropped: %s", why);
	else
		vsd_log(VSD_INFO, g->name, "front-end disconnected");
	close_front_end(g);
	g->mux.filter.types = vsp_types_for(0);
	g->tap.again = 0;
	g->met = false;
	g->reset_due = false;
	sync_kicks(g);
	vsock_mux_gone(&g->mux);
	vsd_dgram_forget(g);
	vsd_guest_news(g);
	g->from_due = false;
	g->starved = false;
	poll_front_ends(g, true);
	if (g->vu_fd < 0 && g->opts->alone)
		kill(getpid(), SIGTERM); /* the convention: nobody can ever come again */
}

/* The messages that are there, up to a limit: what is left raises the next event. */
static void serve_front_end(struct vsd_guest *g)
{
	struct vu_dev_news news = { .facts = VU_DEV_SERVED };

	for (u32 i = 0; i < VSD_MESSAGES && (news.facts & VU_DEV_SERVED) && !(news.facts & VU_DEV_ENDED); i++) {
		news = vu_dev_serve(&g->dev);
		sync_kicks(g);
		if (news.facts & VU_DEV_RESTARTED) {
			vsd_log(VSD_DEBUG, g->name, "driver started anew");
			g->tap.again = 0;
			vsock_mux_gone(&g->mux);
			vsd_dgram_forget(g);
			vsd_guest_news(g);
			g->met = false;
		}
		g->mux.filter.types = vsp_types_for(g->dev.features & ~VU_BIT(VSP_F_DGRAM));
		vsd_dgram_negotiated(g);
		if (news.facts & VU_DEV_RINGS) {
			g->from_due = true;
			g->starved = false;
			vu_ring_hush(&g->dev.rings[VU_RING_RX]);
			vsd_event_rings(g);
		}
	}
	if (news.facts & VU_DEV_ENDED)
		end_session(g, news.why);
}

static void kicked(struct vsd_guest *g, u32 ring)
{
	u8 bytes[4096];
	int fd = g->polled_kick[ring];

	if (fd < 0)
		return;
	for (u32 i = 0; g->drain_kick[ring] && i < VSD_MESSAGES; i++) {
		ssize_t n = read(fd, bytes, sizeof(bytes));

		g->dev.rings[ring].stuck |= n < 0 && errno == EINTR;
		if (n <= 0)
			break;
	}
	if (ring == VU_RING_TX)
		g->from_due = true;
	if (ring == VU_RING_RX)
		g->starved = false;
}

void vsd_session_event(struct vsd_watch *w)
{
	struct vsd_guest *g = w->guest;

	switch (w->source) {
	case VSD_SOURCE_VU_LISTENER:
		if (g->dev.chan.fd < 0)
			accept_front_end(g);
		break;
	case VSD_SOURCE_FRONT_END:
		if (g->dev.chan.fd >= 0)
			serve_front_end(g);
		break;
	default:
		kicked(g, w->source - VSD_SOURCE_KICK_RX);
		break;
	}
}

void vsd_session_again(struct vsd_guest *g)
{
	g->session_at = 0;
	/* There was no descriptor for a front-end. */
	if (g->dev.chan.fd < 0)
		poll_front_ends(g, true);
}

/* Did it take O_NONBLOCK off a doorbell that it shares with us, and had us wait there? */
static bool is_stuck(const struct vsd_guest *g)
{
	bool stuck = false;

	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		stuck |= g->dev.rings[i].stuck;
	return stuck;
}

bool vsd_session_broken(struct vsd_guest *g)
{
	if (g->dev.mem.lost)
		end_session(g, "it took the guest's memory away");
	else if (is_stuck(g))
		end_session(g, "it made its doorbell block, and all guests of its thread wait");
	else
		return false;
	return true;
}

static void close_listener(struct vsd_guest *g)
{
	if (g->vu_fd < 0)
		return;
	vsd_guest_unwatch(g, g->vu_fd);
	close(g->vu_fd);
	if (g->opts->socket)
		vsd_path_remove(g->opts->socket);
}

int vsd_session_open(struct vsd_guest *g)
{
	const struct vsd_guest_opts *o = g->opts;
	int err = 0;

	g->vu_fd = -1;
	g->handed_fd = -1;
	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		g->polled_kick[i] = -1;
	if (!o->socket) {
		err = take_socket(g);
	} else {
		err = vsd_path_listen(g->name, "socket", o->socket, SOCK_STREAM, &o->socket_access);
		g->vu_fd = err < 0 ? -1 : err;
	}
	if (err < 0)
		return err;
	err = 0;
	if (g->vu_fd >= 0)
		err = vsd_guest_watch(g, &g->vu_watch, VSD_SOURCE_VU_LISTENER, g->vu_fd, 0);
	if (g->handed_fd >= 0)
		begin_session(g, g->handed_fd);
	if (g->vu_fd < 0 || !err)
		return 0;
	vsd_log(VSD_ERROR, g->name, "cannot poll its sockets: %s", strerror(-err));
	close_listener(g);
	return err;
}

void vsd_session_close(struct vsd_guest *g)
{
	close_front_end(g);
	sync_kicks(g);
	close_listener(g);
}
