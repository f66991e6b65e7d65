// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

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
	vsd_listeners_poll(g, false);
	g->host_again = l->now + VSD_ACCEPT_RETRY_MS * VSD_MS;
	return false;
}

/* A connection of a client to @port, unless that is not for others. */
static bool may_connect(struct vsd_guest *g, u32 port)
{
	if (!g->draining && vsd_policy_allows(&g->opts->to_guest, port))
		return true;
	g->counters.denied++;
	if (!g->draining)
		vsd_guest_warn(g, "client refused: port %u of the guest is not for others", port);
	return false;
}

/* The command is done with, well or not: a client that is refused hears nothing but the end. */
static void drop_client(struct vsd_conn *s)
{
	s->watch.guest->counters.refused++;
	vsd_conn_hang_up(s);
}

/* A client of a listener that is for one port: nothing need be said. In AF_VSOCK it has a port of its own. */
static void connect_port(struct vsd_conn *s, const struct vsd_listener *l)
{
	struct vsd_guest *g = s->watch.guest;
	struct vsp_addr to = { .cid = g->mux.params.guest_cid, .port = l->port };
	struct sockaddr_vm from = { .svm_port = VSP_PORT_ANY };
	socklen_t len = sizeof(from);
	bool asked = false;

	s->silent = true;
	s->phase = VSD_PHASE_WAIT;
	if (!may_connect(g, l->port)) {
		drop_client(s);
		return;
	}
	if (l->kind == VSD_HOST_VSOCK && !getpeername(s->fd, (struct sockaddr *)&from, &len) &&
	    from.svm_port != VSP_PORT_ANY) {
		struct vsp_addr host = { .cid = VSP_CID_HOST, .port = from.svm_port };

		asked = vsock_mux_connect_from(&g->mux, &s->c, VSP_TYPE_STREAM, host, to);
	}
	if (!asked && !vsock_mux_connect(&g->mux, &s->c, VSP_TYPE_STREAM, to))
		drop_client(s);
}

bool vsd_host_trusts(struct vsd_guest *g, int fd)
{
	struct ucred who = { .uid = UINT32_MAX };
	socklen_t len = sizeof(who);

	if (!g->opts->uds_users.n)
		return true;
	if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) && vsd_users_have(&g->opts->uds_users, who.uid))
		return true;
	g->counters.denied++;
	vsd_guest_warn(g, "a program of user %u refused: see --uds-users", who.uid);
	return false;
}

static void refuse_connection(struct vsd_guest *g)
{
	g->mux.rejects[VSP_REJECT_BACKLOG]++;
	vsd_guest_warn(g, "host client refused: %u connections are open; see --max-connections, --max-memory",
		       g->conns);
}

static void take_client(struct vsd_guest *g, const struct vsd_listener *l, int fd)
{
	bool trusted = vsd_host_trusts(g, fd);
	struct vsd_conn *s = trusted ? vsd_conn_new(g) : NULL;

	if (!s) {
		if (trusted)
			refuse_connection(g);
		close(fd);
		return;
	}
	s->seqpacket = l->kind == VSD_HOST_SEQPACKET;
	if (l->kind == VSD_HOST_STREAM || l->kind == VSD_HOST_SEQPACKET) {
		s->phase = VSD_PHASE_COMMAND;
		vsock_timer_start(&g->mux.timers, &s->c.timer, g->loop->now + g->opts->handshake_ms * VSD_MS);
	}
	/* What the client said already comes as the first edge. */
	if (vsd_conn_attach(s, fd)) {
		vsd_conn_hang_up(s);
		vsd_conn_reap(s);
	} else if (s->phase != VSD_PHASE_COMMAND) {
		connect_port(s, l);
		vsd_conn_reap(s);
	}
}

void vsd_host_accept(struct vsd_guest *g, const struct vsd_listener *l)
{
	for (u32 i = 0; i < VSD_ACCEPT_BATCH; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			take_client(g, l, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN || !refuse_one(g, l->fd, errno))
			return;
	}
}

/* Connect the client to a port of the guest. */
static void request(struct vsd_conn *s, struct vsp_addr to)
{
	struct vsd_guest *g = s->watch.guest;

	vsock_timer_stop(&g->mux.timers, &s->c.timer);
	if (s->seqpacket && !(g->mux.filter.types & VSP_TYPES(VSP_TYPE_SEQPACKET))) {
		g->mux.rejects[VSP_REJECT_TYPE]++;
		vsd_guest_warn(g, "seqpacket client refused: there is no guest that can do that");
		drop_client(s);
		return;
	}
	s->phase = VSD_PHASE_WAIT;
	if (!may_connect(g, to.port) ||
	    !vsock_mux_connect(&g->mux, &s->c, s->seqpacket ? VSP_TYPE_SEQPACKET : VSP_TYPE_STREAM, to))
		drop_client(s);
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
	if (cmd.what == VSD_COMMAND_BAD || cmd.what == VSD_COMMAND_PART || s->hup ||
	    (s->seqpacket && (cmd.len != (u32)n || cmd.what == VSD_COMMAND_PASSFD)) ||
	    recv(s->fd, bytes, cmd.len, MSG_DONTWAIT) != (ssize_t)cmd.len) {
		drop_client(s);
		return;
	}
	if (cmd.what == VSD_COMMAND_PASSFD) {
		s->phase = VSD_PHASE_PASS;
		vsd_host_passed(s);
		return;
	}
	request(s, vsd_session_address(g, &cmd));
}

/* The socket that came with a message, if it is one that can be connected to a guest; others are closed. -1: none. */
static int passed_socket(struct msghdr *mh)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(mh);
	int fd = -1, type = 0;
	socklen_t len = sizeof(type);

	/* There is room for one; the kernel closes more. */
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	if (!(mh->msg_flags & MSG_CTRUNC) && !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM)
		return fd;
	close(fd);
	return -1;
}

void vsd_host_passed(struct vsd_conn *s)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char bytes[VSD_COMMAND_MAX + 1];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	/* Room for one, and not for what alignment would let in. */
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = CMSG_LEN(sizeof(int))
	};
	ssize_t n = recvmsg(s->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct vsd_command cmd;
	int fd;

	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !s->hup)
		return;
	fd = n > 0 ? passed_socket(&mh) : -1;
	cmd = vsd_passed_parse(bytes, n > 0 ? (u32)n : 0);
	if (fd < 0 || cmd.what != VSD_COMMAND_PASSFD) {
		if (fd >= 0)
			close(fd);
		drop_client(s);
		return;
	}
	/* From now on the client's own socket is only there to be told. */
	vsd_guest_unwatch(s->watch.guest, s->fd);
	s->say_fd = s->fd;
	s->say_keep = cmd.keep;
	s->passed = true;
	s->last = false;
	s->phase = VSD_PHASE_WAIT;
	if (vsd_conn_attach(s, fd))
		drop_client(s);
	else
		request(s, vsd_session_address(s->watch.guest, &cmd));
}

/* The first bytes ever written to this socket: they fit, or the client is gone. */
static bool say_ok(struct vsd_conn *s)
{
	int to = s->say_fd >= 0 ? s->say_fd : s->fd;
	char line[32];
	int len = snprintf(line, sizeof(line), "OK %u\n", s->c.host_port);
	bool said = send(to, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) == len;

	if (s->say_fd >= 0 && !s->say_keep) {
		close(s->say_fd);
		s->say_fd = -1;
	}
	return said;
}

void vsd_host_welcome(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;

	vsd_host_set_options(s);
	s->phase = VSD_PHASE_OPEN;
	if (s->silent || say_ok(s))
		vsock_mux_ready(&g->mux, &s->c, true);
	else
		vsock_mux_abort(&g->mux, &s->c);
}
