// SPDX-License-Identifier: BSD-2-Clause
/*
 * hybrid.c - vsock through a Unix socket: the CONNECT handshake, and listening at PATH_PORT
 *
 * Protocol: docs/PROTOCOL.md, "hybrid". The first payload of the peer may lie right behind the OK line, so the line is
 * peeked at and only its own bytes are taken.
 */
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "internal.h"
#include "reply.h"

int vsock_hybrid_name(struct sockaddr_un *name, socklen_t *len, const char *path, const char *suffix)
{
	int chars;

	memset(name, 0, sizeof(*name));
	name->sun_family = AF_UNIX;
	chars = snprintf(name->sun_path, sizeof(name->sun_path), "%s%s", path, suffix);
	if ((size_t)chars >= sizeof(name->sun_path))
		return -ENAMETOOLONG;
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)chars + 1);
	if (path[0] == '@') {
		name->sun_path[0] = '\0';
		(*len)--;
	}
	return 0;
}

/* Milliseconds for poll(): -1 without a deadline. */
static int left_ms(int64_t deadline)
{
	int64_t left;

	if (!deadline)
		return -1;
	left = deadline - vsock_now_ms();
	if (left < 0)
		return 0;
	return left > INT32_MAX ? INT32_MAX : (int)left;
}

/* A blocking connect() bounded by SO_SNDTIMEO: a full backlog waits, which a non-blocking one cannot wait for. */
static int connect_in_time(int fd, const struct sockaddr_un *name, socklen_t len, uint32_t timeout_ms)
{
	struct timeval time = { .tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000 };
	struct timeval never = { 0, 0 };
	int err = 0;

	if (timeout_ms && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time)) < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)name, len) < 0)
		err = errno == EAGAIN ? -ETIMEDOUT : -errno;
	if (timeout_ms && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &never, sizeof(never)) < 0 && !err)
		err = -errno;
	return err;
}

/* The line fits an empty socket buffer, so that a short write or EAGAIN cannot happen. */
static int send_connect(int fd, uint32_t port)
{
	char line[24];
	int len = snprintf(line, sizeof(line), "CONNECT %u\n", port);
	ssize_t sent = send(fd, line, (size_t)len, MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	return sent == len ? 0 : -EPROTO;
}

static int wait_readable(int fd, int64_t deadline)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	for (;;) {
		int n = poll(&pfd, 1, left_ms(deadline));

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* Reads the line and not one byte of the payload behind it. */
static int read_reply(int fd, int64_t deadline)
{
	struct reply reply = { .state = REPLY_MORE };
	char seen[REPLY_MAX];
	ssize_t n;
	size_t take;
	int err;

	while (reply.state == REPLY_MORE) {
		err = wait_readable(fd, deadline);
		if (err)
			return err;
		n = recv(fd, seen, sizeof(seen), MSG_PEEK | MSG_DONTWAIT);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return -errno;
		take = reply_feed(&reply, seen, (size_t)n);
		if (recv(fd, seen, take, 0) != (ssize_t)take)
			return -EPROTO;
	}
	return reply.state == REPLY_OK ? 0 : -EPROTO;
}

/* For bind(): the kernel makes a name up. A datagram socket without one has no answers. */
static const struct sockaddr_un any_name = { .sun_family = AF_UNIX };
enum { ANY_NAME_LEN = sizeof(any_name.sun_family) };

static int connect_dgram(int fd, const struct sockaddr_un *name, socklen_t len)
{
	if (bind(fd, (const struct sockaddr *)&any_name, ANY_NAME_LEN) < 0 ||
	    connect(fd, (const struct sockaddr *)name, len) < 0)
		return -errno;
	return 0;
}

static const char *suffix_of(const struct vsock_addr *addr)
{
	switch (vsock_type(addr)) {
	case SOCK_SEQPACKET:
		return "_seqpacket";
	case SOCK_DGRAM:
		return "_dgram";
	default:
		return "";
	}
}

static int handshake(int fd, const struct vsock_addr *addr, const struct vsock_options *options)
{
	const char *suffix = suffix_of(addr);
	int64_t deadline = options->timeout_ms ? vsock_now_ms() + options->timeout_ms : 0;
	struct sockaddr_un name;
	socklen_t len;
	int err;

	err = vsock_hybrid_name(&name, &len, addr->path, suffix);
	if (!err)
		err = vsock_set_buffer(fd, VSOCK_KIND_HYBRID, options->buffer_size);
	if (!err && vsock_type(addr) == SOCK_DGRAM)
		return connect_dgram(fd, &name, len);
	if (!err)
		err = connect_in_time(fd, &name, len, options->timeout_ms);
	if (!err)
		err = send_connect(fd, addr->port);
	return err ? err : read_reply(fd, deadline);
}

int vsock_hybrid_dial(const struct vsock_addr *addr, const struct vsock_options *options)
{
	int fd, err;

	if (options->local_port != VSOCK_PORT_ANY || options->local_cid != VSOCK_CID_ANY)
		return -EOPNOTSUPP;
	fd = socket(AF_UNIX, vsock_type(addr) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = handshake(fd, addr, options);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* Is @name a socket behind which nobody listens? Any doubt means no. */
static bool is_stale(const struct sockaddr_un *name, socklen_t len, int type)
{
	struct stat st;
	bool refused;
	int fd;

	if (!name->sun_path[0] || lstat(name->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)name, len) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int bind_name(int fd, const struct sockaddr_un *name, socklen_t len, int type)
{
	if (bind(fd, (const struct sockaddr *)name, len) == 0)
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (!is_stale(name, len, type))
		return -EADDRINUSE;
	if (unlink(name->sun_path) < 0 && errno != ENOENT)
		return -errno;
	return bind(fd, (const struct sockaddr *)name, len) < 0 ? -errno : 0;
}

static int listen_name(const struct vsock_addr *addr, struct sockaddr_un *name, socklen_t *len)
{
	bool dgram = vsock_type(addr) == SOCK_DGRAM;
	char suffix[24];

	*name = any_name;
	*len = ANY_NAME_LEN;
	if (addr->port == VSOCK_PORT_ANY)
		return dgram ? 0 : -EINVAL;
	snprintf(suffix, sizeof(suffix), "%s_%u", dgram ? "_dgram" : "", addr->port);
	return vsock_hybrid_name(name, len, addr->path, suffix);
}

int vsock_hybrid_listen(const struct vsock_addr *addr, const struct vsock_options *options)
{
	struct sockaddr_un name;
	socklen_t len;
	int fd, err;

	err = listen_name(addr, &name, &len);
	if (err)
		return err;
	fd = socket(AF_UNIX, vsock_type(addr) | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = vsock_set_buffer(fd, VSOCK_KIND_HYBRID, options->buffer_size);
	if (!err)
		err = bind_name(fd, &name, len, vsock_type(addr));
	if (!err && vsock_type(addr) != SOCK_DGRAM && listen(fd, (int)options->backlog) < 0) {
		err = -errno;
		if (name.sun_path[0])
			unlink(name.sun_path);
	}
	if (!err)
		return fd;
	close(fd);
	return err;
}

VSOCK_API int vsock_listen_path(const struct vsock_addr *addr, char *buf, size_t size)
{
	struct sockaddr_un name;
	socklen_t len;
	int err, chars;

	if (addr->kind != VSOCK_KIND_HYBRID)
		return -EINVAL;
	err = listen_name(addr, &name, &len);
	if (err)
		return err;
	if (!name.sun_path[0])
		return -EINVAL;
	chars = snprintf(buf, size, "%s", name.sun_path);
	return (size_t)chars < size ? chars : -ENAMETOOLONG;
}
