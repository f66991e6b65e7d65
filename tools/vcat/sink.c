// SPDX-License-Identifier: BSD-2-Clause
/*
 * sink.c - see sink.h
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sink.h"

enum { ALL = 1 << 20 };

/* Replaces the pipe behind @fd by a non-blocking opening of our own. */
static bool reopen_pipe(int fd)
{
	char name[32];
	int own;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	own = open(name, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (own < 0)
		return false;
	if (dup2(own, fd) < 0) {
		close(own);
		return false;
	}
	close(own);
	return true;
}

struct sink sink_open(int fd)
{
	struct sink sink = { .fd = fd, .most = PIPE_BUF };
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fstat(fd, &st) < 0)
		return sink;
	sink.is_socket = S_ISSOCK(st.st_mode);
	if (sink.is_socket || S_ISREG(st.st_mode) || (flags & O_NONBLOCK) || (S_ISFIFO(st.st_mode) && reopen_pipe(fd)))
		sink.most = ALL;
	return sink;
}

ssize_t sink_write(const struct sink *sink, const char *bytes, size_t len)
{
	size_t some = len < sink->most ? len : sink->most;
	ssize_t n;

	if (sink->is_socket)
		n = send(sink->fd, bytes, some, MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		n = write(sink->fd, bytes, some);
	if (n >= 0)
		return n;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

int sink_close(struct sink *sink)
{
	int fd = sink->fd;

	sink->fd = -1;
	return fd < 0 || close(fd) == 0 ? 0 : -errno;
}
