// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/command.h"
#include "daemon/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	/* Room for two batches of the guest in a socket, so that what it sends need not be copied here. */
	HOST_SNDBUF = 512 << 10,
};

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	return sa;
}

/* Is @path a socket at which nobody listens? */
static bool is_stale(const char *path, int type)
{
	struct sockaddr_un sa = address(path);
	struct stat st;
	bool stale;
	int fd;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

int vsd_host_listen(const char *component, const char *option, const char *path, int type, mode_t mode)
{
	struct sockaddr_un sa = address(path);
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	/* The mode of what bind() will create. */
	if (fd < 0 || fchmod(fd, mode))
		goto fail;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		if (errno != EADDRINUSE)
			goto fail;
		if (!is_stale(path, type)) {
			vsd_log(VSD_ERROR, component,
				"--%s %s: somebody is using it; stop that program or choose another path", option,
				path);
			close(fd);
			return -EADDRINUSE;
		}
		unlink(path);
		if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)))
			goto fail;
	}
	if (type == SOCK_DGRAM || !listen(fd, SOMAXCONN))
		return fd;
fail:
	err = errno;
	vsd_log(VSD_ERROR, component, "--%s %s: %s; the directory must exist and be writable", option, path,
		strerror(err));
	if (fd >= 0)
		close(fd);
	return -err;
}

static void poll_listeners(struct vsd_guest *g, bool poll)
{
	for (u32 i = 0; i < NUM_VSD_HOST_KINDS; i++) {
		struct epoll_event ev = { .events = poll ? EPOLLIN : 0, .data.ptr = &g->host_watch[i] };

		epoll_ctl(g->loop->epfd, EPOLL_CTL_MOD, g->host_fd[i], &ev);
	}
	g->host_paused = !poll;
}

void vsd_host_resume(struct vsd_guest *g)
{
	poll_listeners(g, true);
}

/* There is no descriptor for another client: refuse it with the spare one, or leave it waiting for a while. */
static bool refuse_one(struct vsd_guest *g, int listener, int err)
{
	struct vsd_loop *l = g->loop;
	int fd = -1;

	vsd_guest_warn(g, "cannot accept host clients: %s; raise the limit of open files", strerror(err));
	if (l->spare_fd >= 0) {
		close(l->spare_fd);
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			close(fd);
		l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	if (fd >= 0)
		return true;
	poll_listeners(g, false);
	g->host_again = l->now + VSD_ACCEPT_RETRY_MS * VSD_MS;
	return false;
}

static void take_client(struct vsd_guest *g, enum vsd_host_kind kind, int fd)
{
	struct vsd_conn *s = vsd_conn_new(g);

	if (!s) {
		g->mux.rejects[VSP_REJECT_BACKLOG]++;
		vsd_guest_warn(g, "host client refused: %u connections are open; see --max-connections", g->conns);
		close(fd);
		return;
	}
	s->phase = VSD_PHASE_COMMAND;
	s->seqpacket = kind == VSD_HOST_SEQPACKET;
	vsock_timer_start(&g->mux.timers, &s->c.timer, g->loop->now + g->opts->handshake_ms * VSD_MS);
	/* What the client said already comes as the first edge. */
	if (vsd_conn_attach(s, fd)) {
		vsd_conn_hang_up(s);
		vsd_conn_reap(s);
	}
}

void vsd_host_accept(struct vsd_guest *g, enum vsd_host_kind kind)
{
	for (u32 i = 0; i < VSD_ACCEPT_BATCH; i++) {
		int fd = accept4(g->host_fd[kind], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			take_client(g, kind, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN || !refuse_one(g, g->host_fd[kind], errno))
			return;
	}
}

/* The command is done with, well or not: a client that is refused hears nothing but the end. */
static void drop_client(struct vsd_conn *s)
{
	s->watch.guest->counters.refused++;
	vsd_conn_hang_up(s);
}

void vsd_host_command(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;
	char bytes[VSD_COMMAND_MAX];
	struct vsd_command cmd;
	/* MSG_TRUNC: of a record the whole length, which is that of the command or wrong. */
	ssize_t n = recv(s->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT | (s->seqpacket ? MSG_TRUNC : 0));

	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !s->hup)
		return;
	if (n <= 0) {
		drop_client(s);
		return;
	}
	cmd = vsd_command_parse(bytes, (u32)n < sizeof(bytes) ? (u32)n : (u32)sizeof(bytes));
	if (cmd.what == VSD_COMMAND_PART && !s->hup && !s->seqpacket)
		return;
	/*
	 * Only the command is taken; what follows is for the guest. A client that left already wants nothing
	 * any more.
	 */
	if (cmd.what != VSD_COMMAND_CONNECT || s->hup || (s->seqpacket && cmd.len != (u32)n) ||
	    recv(s->fd, bytes, cmd.len, MSG_DONTWAIT) != (ssize_t)cmd.len) {
		drop_client(s);
		return;
	}
	vsock_timer_stop(&g->mux.timers, &s->c.timer);
	if (s->seqpacket && !(g->mux.filter.types & VSP_TYPES(VSP_TYPE_SEQPACKET))) {
		g->mux.rejects[VSP_REJECT_TYPE]++;
		vsd_guest_warn(g, "seqpacket client refused: there is no guest that can do that");
		drop_client(s);
		return;
	}
	if (!vsd_policy_allows(&g->opts->to_guest, cmd.port)) {
		g->counters.denied++;
		vsd_guest_warn(g, "client refused: port %u of the guest is not for others", cmd.port);
		drop_client(s);
		return;
	}
	s->phase = VSD_PHASE_WAIT;
	if (!vsock_mux_connect(&g->mux, &s->c, s->seqpacket ? VSP_TYPE_SEQPACKET : VSP_TYPE_STREAM, cmd.port))
		drop_client(s);
}

/* Credentials come with each record, so an empty one can be told from the end (to_guest.c). */
static void set_options(const struct vsd_conn *s)
{
	const int bytes = HOST_SNDBUF, yes = 1;

	setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (s->seqpacket)
		setsockopt(s->fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes));
}

void vsd_host_welcome(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;
	char line[32];
	int len = snprintf(line, sizeof(line), "OK %u\n", s->c.host_port);

	set_options(s);
	s->phase = VSD_PHASE_OPEN;
	/* The first bytes ever written to this socket: they fit, or the client is gone. */
	if (send(s->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len) {
		vsock_mux_abort(&g->mux, &s->c);
		return;
	}
	vsock_mux_ready(&g->mux, &s->c, true);
}

/* A socket connected to the host's listener for @port, or -errno. */
static int connect_port(struct vsd_guest *g, u32 port, int type)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_%u", g->opts->uds_path, port);
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return fd;
	err = errno;
	close(fd);
	return -err;
}

void vsd_host_dial(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;
	int fd = connect_port(g, s->c.host_port, s->seqpacket ? SOCK_SEQPACKET : SOCK_STREAM);

	if (fd == -EAGAIN && g->loop->now < s->dial_until) {
		s->phase = VSD_PHASE_DIAL;
		vsock_timer_start(&g->mux.timers, &s->c.timer, g->loop->now + VSD_DIAL_RETRY_MS * VSD_MS);
		return;
	}
	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM)
		vsd_guest_warn(g, "connection to host port %u refused: %s", s->c.host_port, strerror(-fd));
	s->phase = VSD_PHASE_NONE;
	if (fd < 0 || vsd_conn_attach(s, fd)) {
		g->counters.refused++;
		vsock_mux_deny(&g->mux, &s->c);
		return;
	}
	set_options(s);
	s->phase = VSD_PHASE_OPEN;
	vsock_mux_accept(&g->mux, &s->c);
}
