/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * internal.h - what the files of libvsock share; for userspace/lib/ and its tests only
 */
#ifndef VSOCK_INTERNAL_H
#define VSOCK_INTERNAL_H

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "vsock/vsock.h"

#define VSOCK_API __attribute__((visibility("default")))

/* The socket type in force: 0 means a stream. */
static inline int vsock_type(const struct vsock_addr *addr)
{
	return addr->type ? addr->type : SOCK_STREAM;
}

/* One clock for deadlines: milliseconds, monotonic. */
int64_t vsock_now_ms(void);

/* SO_RCVBUF and SO_SNDBUF, or SO_VM_SOCKETS_BUFFER_*: 0 or -errno. */
int vsock_set_buffer(int fd, enum vsock_kind kind, uint64_t bytes);

/* The name of a Unix socket. @suffix is "" or begins with '_'. 0, or -ENAMETOOLONG. */
int vsock_hybrid_name(struct sockaddr_un *name, socklen_t *len, const char *path, const char *suffix);

int vsock_hybrid_dial(const struct vsock_addr *addr, const struct vsock_options *options);
int vsock_hybrid_listen(const struct vsock_addr *addr, const struct vsock_options *options);

#endif
