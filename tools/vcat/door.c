// SPDX-License-Identifier: BSD-2-Clause
/*
 * door.c - see door.h
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "door.h"
#include "say.h"

static const int end_signals[] = { SIGHUP, SIGINT, SIGTERM };

/* The name to remove, for the signal handler; empty for none. */
static char path_to_remove[VSOCK_PATH_MAX];

static void remove_and_die(int sig)
{
	unlink(path_to_remove);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void handle_end(void (*handler)(int))
{
	for (size_t i = 0; i < sizeof(end_signals) / sizeof(end_signals[0]); i++) {
		struct sigaction old, new = { .sa_handler = handler };

		if (sigaction(end_signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(end_signals[i], &new, NULL);
	}
}

void door_name(const struct vsock_addr *peer, char *buf, size_t size)
{
	if (peer->kind == VSOCK_KIND_HYBRID)
		snprintf(buf, size, "a client of the hybrid socket");
	else if (vsock_format(peer, buf, size) < 0)
		snprintf(buf, size, "?");
}

int door_open(struct door *door, const struct options *options)
{
	char why[VSOCK_TEXT_MAX], name[VSOCK_TEXT_MAX];
	int fd = vsock_listen(&options->addr, &options->how);

	if (fd < 0) {
		say("%s", vsock_explain(VSOCK_OP_LISTEN, &options->addr, &options->how, fd, why, sizeof(why)));
		return -1;
	}
	door->fd = fd;
	door->options = options;
	door->addr = options->addr;
	if (vsock_listen_path(&options->addr, path_to_remove, sizeof(path_to_remove)) > 0)
		handle_end(remove_and_die);
	else
		vsock_local(fd, &door->addr);
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		say("cannot make the listening socket non-blocking: %s", strerror(errno));
		door_close(door);
		return -1;
	}
	if (vsock_format(&door->addr, name, sizeof(name)) > 0)
		say_if(1, "listening on %s", name);
	return 0;
}

static bool is_listed(const struct cid_list *list, uint32_t cid)
{
	for (unsigned int i = 0; i < list->count; i++) {
		if (list->cids[i] == cid)
			return true;
	}
	return false;
}

static bool may_enter(const struct options *o, const struct vsock_addr *peer)
{
	return (!o->allow.count || is_listed(&o->allow, peer->cid)) && !is_listed(&o->deny, peer->cid);
}

int door_accept(const struct door *door, unsigned int clients, struct vsock_addr *peer)
{
	char name[VSOCK_TEXT_MAX];
	int fd = vsock_accept(door->fd, peer);

	switch (fd) {
	case -EAGAIN:
	case -EINTR:
	case -ECONNABORTED:
	case -ECONNRESET:
		return -EAGAIN;
	case -EMFILE:
	case -ENFILE:
	case -ENOBUFS:
	case -ENOMEM:
		say("cannot accept a connection: %s", strerror(-fd));
		return -EMFILE;
	}
	if (fd < 0) {
		say("cannot accept connections: %s", strerror(-fd));
		return fd;
	}
	door_name(peer, name, sizeof(name));
	if (!may_enter(door->options, peer)) {
		say_if(1, "refused %s: its CID is not allowed", name);
	} else if (clients >= door->options->max_clients) {
		say_if(1, "refused %s: %u connections are the limit (-m)", name, clients);
	} else {
		say_if(1, "connection from %s", name);
		return fd;
	}
	close(fd);
	return -EAGAIN;
}

void door_close(struct door *door)
{
	if (door->fd < 0)
		return;
	close(door->fd);
	door->fd = -1;
	if (path_to_remove[0])
		unlink(path_to_remove);
	handle_end(SIG_DFL);
	path_to_remove[0] = '\0';
}

void door_forget(struct door *door)
{
	handle_end(SIG_DFL);
	path_to_remove[0] = '\0';
	close(door->fd);
	door->fd = -1;
}
