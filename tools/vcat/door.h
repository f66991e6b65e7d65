/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * door.h - a listening socket and who may come in
 */
#ifndef VCAT_DOOR_H
#define VCAT_DOOR_H

#include "options.h"

struct door {
	int fd; /* non-blocking; -1 once closed */
	const struct options *options;
	struct vsock_addr addr; /* with the port that the kernel chose */
};

/* 0, or -1 after saying why. A hybrid socket's name is removed on door_close(), SIGINT, SIGTERM and SIGHUP. */
int door_open(struct door *door, const struct options *options);

/**
 * door_accept - let one client in
 * @clients: how many are connected
 * @peer: receives who it is
 *
 * Return: a descriptor; -EAGAIN: nobody came in, wait; -EMFILE: wait until a client has left; else -errno, said.
 */
int door_accept(const struct door *door, unsigned int clients, struct vsock_addr *peer);

void door_close(struct door *door);

/* In a child process: the name, and the signals that remove it, are the parent's business. */
void door_forget(struct door *door);

/* "vsock:3:1025", or words for a peer that a Unix socket does not name. */
void door_name(const struct vsock_addr *peer, char *buf, size_t size);

#endif
