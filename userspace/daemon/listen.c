// SPDX-License-Identifier: BSD-2-Clause
/*
 * listen.c - the sockets at which programs of the host connect to a guest
 */
#include "daemon/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

void vsd_listeners_close(struct vsd_guest *g)
{
	for (u32 i = 0; i < g->n_listeners; i++) {
		struct vsd_listener *l = &g->listeners[i];

		vsd_guest_unwatch(g, l->fd);
		close(l->fd);
		if (l->path[0])
			vsd_path_remove(l->path);
	}
	free(g->listeners);
	g->listeners = NULL;
	g->n_listeners = 0;
}

void vsd_listeners_poll(struct vsd_guest *g, bool poll)
{
	for (u32 i = 0; i < g->n_listeners; i++) {
		struct vsd_listener *l = &g->listeners[i];
		struct epoll_event ev = { .events = poll ? EPOLLIN : 0, .data.ptr = &l->watch };

		epoll_ctl(g->loop->epfd, EPOLL_CTL_MOD, l->fd, &ev);
	}
	g->host_paused = !poll;
}

/* @fd, which may be an error, is one of them from now on. */
static int add(struct vsd_guest *g, enum vsd_host_kind kind, u32 port, const char *path, int fd)
{
	struct vsd_listener *l = &g->listeners[g->n_listeners];
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &l->watch };

	if (fd < 0)
		return fd;
	*l = (struct vsd_listener){
		.watch = { .source = VSD_SOURCE_HOST_LISTENER, .guest = g }, .fd = fd, .kind = (u8)kind, .port = port
	};
	if (path)
		strncpy(l->path, path, sizeof(l->path) - 1);
	g->n_listeners++;
	if (!epoll_ctl(g->loop->epfd, EPOLL_CTL_ADD, fd, &ev))
		return 0;
	vsd_log(VSD_ERROR, g->name, "cannot poll a listener: %s", strerror(errno));
	return -errno;
}

static int at_path(struct vsd_guest *g, enum vsd_host_kind kind, u32 port, const char *option, const char *path)
{
	int type = kind == VSD_HOST_SEQPACKET ? SOCK_SEQPACKET : SOCK_STREAM;

	return add(g, kind, port, path, vsd_path_listen(g->name, option, path, type, &g->opts->uds_access));
}

/* One that somebody else bound. It outlives us: a reload may let this guest begin anew. */
static int handed(struct vsd_guest *g, int fd)
{
	int ours = fcntl(fd, F_DUPFD_CLOEXEC, 0), err = errno;

	if (ours < 0) {
		vsd_log(VSD_ERROR, g->name, "--uds-fd %d: %s", fd, strerror(err));
		return -err;
	}
	fcntl(ours, F_SETFL, O_NONBLOCK);
	return add(g, VSD_HOST_STREAM, 0, NULL, ours);
}

/* For whoever connects to this port of the host in AF_VSOCK. */
static int at_vsock(struct vsd_guest *g, u32 port)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int err;

	if (fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof(sa)) && !listen(fd, SOMAXCONN))
		return add(g, VSD_HOST_VSOCK, port, NULL, fd);
	err = errno;
	vsd_log(VSD_ERROR, g->name, "--forward-listen %u: %s; it takes a kernel with AF_VSOCK, and a port that is free",
		port, strerror(err));
	if (fd >= 0)
		close(fd);
	return -err;
}

static int by_command(struct vsd_guest *g)
{
	const struct vsd_guest_opts *o = g->opts;
	char seq[VSD_PATH_MAX];
	int err = 0;

	if (o->uds_fd >= 0)
		err = handed(g, o->uds_fd);
	else if (o->uds_path && !o->connect_only)
		err = at_path(g, VSD_HOST_STREAM, 0, "uds-path", o->uds_path);
	if (err || !o->uds_path || o->connect_only)
		return err;
	snprintf(seq, sizeof(seq), "%s_seqpacket", o->uds_path);
	return at_path(g, VSD_HOST_SEQPACKET, 0, "uds-path", seq);
}

int vsd_listeners_open(struct vsd_guest *g)
{
	const struct vsd_guest_opts *o = g->opts;
	int err;

	g->listeners = calloc(vsd_guest_listeners(o) + 1, sizeof(*g->listeners));
	if (!g->listeners)
		return -ENOMEM;
	err = by_command(g);
	for (u32 i = 0; i < o->map_to_guest.n && !err; i++)
		err = at_path(g, VSD_HOST_PORT, o->map_to_guest.entry[i].port, "map-to-guest",
			      o->map_to_guest.entry[i].path);
	for (u32 i = 0; i < o->forward_listen.n; i++) {
		for (u32 port = o->forward_listen.range[i].first; port <= o->forward_listen.range[i].last && !err;
		     port++)
			err = at_vsock(g, port);
	}
	if (err)
		vsd_listeners_close(g);
	return err;
}
