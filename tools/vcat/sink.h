/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sink.h - writing to standard output, or to a command's input, without ever blocking on it
 *
 * O_NONBLOCK belongs to the open file, which we share with the shell and with other processes: setting it on our
 * standard output would break theirs. So a pipe is opened again, through /proc, and only our own copy is non-blocking;
 * where that is impossible we write no more than a pipe takes once poll() says that it is writable.
 */
#ifndef VCAT_SINK_H
#define VCAT_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct sink {
	int fd;		/* -1 once closed */
	bool is_socket; /* send() with MSG_DONTWAIT */
	size_t most;	/* bytes of one write */
};

/* Takes over @fd, which keeps its number. */
struct sink sink_open(int fd);

/* Bytes written, 0 where there is no room now, or -errno. */
ssize_t sink_write(const struct sink *sink, const char *bytes, size_t len);

/* 0, or -errno: some errors of earlier writes show only here. */
int sink_close(struct sink *sink);

#endif
