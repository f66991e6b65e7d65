// SPDX-License-Identifier: BSD-2-Clause
/*
 * dial.c - connections of a guest to listeners of the host: Unix sockets, or AF_VSOCK
 *
 * Nothing here waits. A Unix listener whose backlog is full is tried again until connect-timeout; one in AF_VSOCK
 * answers with an event.
 */
#include "daemon/guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum {
	/* Room for two batches of the guest in a socket, so that what it sends need not be copied here. */
	HOST_SNDBUF = 512 << 10,
};

/* Credentials come with each record, so an empty one can be told from the end (to_guest.c). */
void vsd_host_set_options(const struct vsd_conn *s)
{
	const int bytes = HOST_SNDBUF, yes = 1;

	setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (s->seqpacket)
		setsockopt(s->fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes));
}

/*
 * Give our end the guest's name, which the listener sees as its peer's address. The file need not stay for that. Where
 * the name cannot be had, by a file that somebody put there, the connection has none.
 */
static void name_peer(struct vsd_guest *g, int fd, struct vsp_addr from)
{
	char path[VSD_PATH_MAX];
	struct vsd_name n;

	snprintf(path, sizeof(path), "%s@%u.%u", g->opts->uds_path, from.cid, from.port);
	n = vsd_name_of(path);
	if (!bind(fd, (struct sockaddr *)&n.sa, n.len))
		vsd_path_remove(path);
	else
		vsd_guest_warn(g, "a connection without its name %s: %s", path, strerror(errno));
}

/* Who listens for the guest at @port. False: nobody. */
static bool listener_of(const struct vsd_guest_opts *o, u32 port, struct vsd_name *n)
{
	const char *mapped = vsd_map_find(&o->map_from_guest, port);
	char path[VSD_PATH_MAX];

	if (!mapped && !o->uds_path)
		return false;
	snprintf(path, sizeof(path), "%s_%u", o->uds_path ? o->uds_path : "", port);
	*n = vsd_name_of(mapped ? mapped : path);
	return true;
}

/* A socket connected to a Unix listener, or -errno. */
static int dial_unix(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;
	struct vsd_name n;
	int type = s->seqpacket ? SOCK_SEQPACKET : SOCK_STREAM, fd, err;

	if (!listener_of(g->opts, s->c.host_port, &n))
		return -ECONNREFUSED;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (g->opts->peer_names)
		name_peer(g, fd, (struct vsp_addr){ .cid = s->c.guest_cid, .port = s->c.guest_port });
	err = connect(fd, (struct sockaddr *)&n.sa, n.len) ? -errno : 0;
	if (!err && !vsd_host_trusts(g, fd))
		err = -EACCES;
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* A socket connecting to a listener in AF_VSOCK, or -errno. */
static int dial_vsock(const struct vsd_conn *s)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK,
				  .svm_cid = s->watch.guest->opts->forward_cid,
				  .svm_port = s->c.host_port };
	int fd = s->seqpacket ? -1 : socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	/* Nothing there would keep an empty message apart from the end. */
	if (s->seqpacket)
		return -ECONNREFUSED;
	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || errno == EINPROGRESS)
		return fd;
	err = errno;
	close(fd);
	return -err;
}

static void deny(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;

	g->counters.refused++;
	vsock_mux_deny(&g->mux, &s->c);
}

void vsd_host_dial(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;
	bool vsock = g->opts->forward_cid != VSP_CID_ANY;
	int fd = vsock ? dial_vsock(s) : dial_unix(s);

	if (fd == -EAGAIN && g->loop->now < s->dial_until) {
		s->phase = VSD_PHASE_DIAL;
		vsock_timer_start(&g->mux.timers, &s->c.timer, g->loop->now + VSD_DIAL_RETRY_MS * VSD_MS);
		return;
	}
	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM)
		vsd_guest_warn(g, "connection to host port %u refused: %s", s->c.host_port, strerror(-fd));
	s->phase = VSD_PHASE_NONE;
	/* The answer comes as room to write. */
	s->wants_out = vsock;
	if (fd < 0 || vsd_conn_attach(s, fd)) {
		deny(s);
		return;
	}
	if (vsock) {
		s->phase = VSD_PHASE_CONNECT;
		vsock_timer_start(&g->mux.timers, &s->c.timer, s->dial_until);
		return;
	}
	vsd_host_set_options(s);
	s->phase = VSD_PHASE_OPEN;
	vsock_mux_accept(&g->mux, &s->c);
}

void vsd_host_dialled(struct vsd_conn *s)
{
	struct vsd_guest *g = s->watch.guest;
	int err = 0;
	socklen_t len = sizeof(err);

	vsock_timer_stop(&g->mux.timers, &s->c.timer);
	if (g->loop->now >= s->dial_until || getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len) || err) {
		deny(s);
		vsd_conn_hang_up(s);
		return;
	}
	vsd_conn_want_out(s, false);
	s->phase = VSD_PHASE_OPEN;
	vsock_mux_accept(&g->mux, &s->c);
}
