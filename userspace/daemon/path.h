/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * path.h - names of Unix sockets: in the file system or, with an @ in front, abstract
 *
 * An abstract name needs no directory and leaves nothing behind, and has neither mode nor owner: whoever is in the same
 * network namespace may connect.
 */
#ifndef VSD_PATH_H
#define VSD_PATH_H

#include "kernel/proto/env.h"

#include <sys/socket.h>
#include <sys/un.h>

/* A Unix address and its length. */
struct vsd_name {
	struct sockaddr_un sa;
	socklen_t len;
};

/**
 * struct vsd_access - who may connect to a socket in the file system
 * @mode: of its file
 * @exact: @mode is what was asked for; otherwise the umask takes away from it
 * @uid, @gid: its owner; -1: as it comes
 */
struct vsd_access {
	u32 mode;
	bool exact;
	u32 uid;
	u32 gid;
};

/* Everybody whom the umask lets; and the owner alone. */
extern const struct vsd_access vsd_access_umask;
extern const struct vsd_access vsd_access_owner;

struct vsd_name vsd_name_of(const char *path);

static inline bool vsd_path_abstract(const char *path)
{
	return path[0] == '@';
}

/* Bind a socket of @type; a path where nobody answers is taken over. 0 or -errno: -EADDRINUSE where somebody does. */
int vsd_path_bind(int fd, const struct sockaddr_un *sa, socklen_t len, int type);

/*
 * A socket of @type listening (or, of datagrams, bound) at @path, which --@option named; a path where nobody answers is
 * taken over. -errno after a message.
 */
int vsd_path_listen(const char *component, const char *option, const char *path, int type,
		    const struct vsd_access *access);

/* Remove the name of a socket that was closed. */
void vsd_path_remove(const char *path);

#endif
