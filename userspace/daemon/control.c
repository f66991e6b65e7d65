// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int vsd_control_listen(const char *path)
{
	return vsd_path_listen(program_invocation_short_name, "control", path, SOCK_STREAM, &vsd_access_owner);
}

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

/* The client's line, without its end. False: it said none in time. */
static bool read_line(int fd, char line[VSD_CONTROL_LINE_MAX])
{
	u64 until = now_ms() + VSD_CONTROL_PATIENCE_MS;
	size_t have = 0;

	while (have < VSD_CONTROL_LINE_MAX - 1 && now_ms() < until) {
		ssize_t n = recv(fd, line + have, VSD_CONTROL_LINE_MAX - 1 - have, 0);
		char *end;

		if (n <= 0)
			return false;
		have += (size_t)n;
		line[have] = '\0';
		end = strchr(line, '\n');
		if (end) {
			*end = '\0';
			return true;
		}
	}
	return false;
}

static void answer(int fd, const char *text, size_t len)
{
	u64 until = now_ms() + VSD_CONTROL_PATIENCE_MS;
	ssize_t n = 1;

	for (size_t done = 0; done < len && n > 0 && now_ms() < until; done += (size_t)n)
		n = send(fd, text + done, len - done, MSG_NOSIGNAL);
}

/* @n numbers of 32 bits and nothing else. */
static bool read_numbers(const char *text, u32 *const to[], u32 n)
{
	for (u32 i = 0; i < n; i++) {
		unsigned long value;
		char *end;

		if (*text < '0' || *text > '9')
			return false;
		errno = 0;
		value = strtoul(text, &end, 10);
		if (errno || value > UINT32_MAX || *end != (i + 1 < n ? ' ' : '\0'))
			return false;
		*to[i] = (u32)value;
		text = end + 1;
	}
	return true;
}

static void reset(struct vsd_fleet *f, const char *args, FILE *out)
{
	struct vsd_reset r = { 0 };
	u32 *const all[] = { &r.guest_cid, &r.host_cid, &r.host_port, &r.guest_port };

	if (!read_numbers(args, all, ARRAY_SIZE(all)))
		fputs("error give CID HOST_CID HOST_PORT GUEST_PORT\n", out);
	else if (vsd_fleet_reset(f, &r))
		fprintf(out, "ok\n");
	else
		fputs("error no such connection\n", out);
}

static bool begins(const char *line, const char *with)
{
	return !strncmp(line, with, strlen(with));
}

/* What is said with the CID of a guest and nothing else. */
static void of_guest(const char *line, struct vsd_fleet *f, const struct vsd_control_ops *ops, FILE *out)
{
	const char *args = strchr(line, ' ') + 1;
	u32 cid;
	u32 *const all[] = { &cid };
	bool found;

	if (!read_numbers(args, all, ARRAY_SIZE(all))) {
		fputs("error give CID\n", out);
		return;
	}
	if (ops->remove && begins(line, "remove "))
		found = ops->remove(ops->arg, cid);
	else
		found = vsd_fleet_drain(f, cid, line[0] == 'd');
	fputs(found ? "ok\n" : "error no such guest\n", out);
}

static void tell(bool done, const struct vsd_blame *b, FILE *out)
{
	if (done)
		fputs("ok\n", out);
	else
		fprintf(out, "error %s\n", b->text);
}

static void add(const char *spec, const struct vsd_control_ops *ops, FILE *out)
{
	struct vsd_blame b = { .vm = true };

	tell(ops->add(ops->arg, spec, &b), &b, out);
}

static void reload(const struct vsd_control_ops *ops, FILE *out)
{
	struct vsd_blame b = { 0 };

	tell(ops->reload(ops->arg, &b), &b, out);
}

/* True: the client's socket belongs to the capture now. */
static bool capture(struct vsd_fleet *f, const char *args, int fd, FILE *out)
{
	u32 cid, payload;
	u32 *const all[] = { &cid, &payload };
	int err;

	if (!read_numbers(args, all, ARRAY_SIZE(all))) {
		fputs("error give CID BYTES\n", out);
		return false;
	}
	err = vsd_fleet_capture(f, cid, payload, fd);
	if (err == -ENOENT)
		fputs("error no such guest\n", out);
	else if (err == -EBUSY)
		fputs("error somebody captures already\n", out);
	else if (err)
		fprintf(out, "error %s\n", strerror(-err));
	return !err;
}

static void obey(const char *line, struct vsd_fleet *f, const struct vsd_control_ops *ops, FILE *out)
{
	if (!strcmp(line, "guests") || !strcmp(line, "connections")) {
		vsd_fleet_print(f, line[0] == 'g' ? vsd_print_guest : vsd_print_conns, out);
		fputs("ok\n", out);
	} else if (begins(line, "reset ")) {
		reset(f, line + 6, out);
	} else if (ops->reload && !strcmp(line, "reload")) {
		reload(ops, out);
	} else if (ops->add && begins(line, "add ")) {
		add(line + 4, ops, out);
	} else if ((ops->remove && begins(line, "remove ")) || begins(line, "drain ") || begins(line, "resume ")) {
		of_guest(line, f, ops, out);
	} else {
		fprintf(out, "error say guests, connections, reset, %sdrain, resume or capture\n",
			ops->reload ? "reload, add, remove, " : "");
	}
}

/* The client that waits, if one does. False: there is no descriptor for it now. */
static bool serve_one(int listener, struct vsd_fleet *f, const struct vsd_control_ops *ops)
{
	const struct timeval patience = { .tv_sec = VSD_CONTROL_PATIENCE_MS / 1000 };
	char line[VSD_CONTROL_LINE_MAX], *text = NULL;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	bool kept = false;
	size_t len = 0;
	FILE *out;

	if (fd < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	out = read_line(fd, line) ? open_memstream(&text, &len) : NULL;
	if (out) {
		if (begins(line, "capture "))
			kept = capture(f, line + 8, fd, out);
		else
			obey(line, f, ops, out);
		if (!fclose(out) && !kept)
			answer(fd, text, len);
	}
	free(text);
	if (!kept)
		close(fd);
	return true;
}

void vsd_control_serve(int listener, int fd, struct vsd_fleet *f, const struct vsd_control_ops *ops)
{
	struct pollfd watched[] = { { .fd = fd, .events = POLLIN }, { .fd = listener, .events = POLLIN } };

	while (!watched[0].revents) {
		/* A client for whom there is no descriptor waits until there is. */
		bool waits = listener >= 0 && watched[1].fd < 0;

		poll(watched, 2, waits ? VSD_ACCEPT_RETRY_MS : -1);
		waits = (waits || watched[1].revents) && !serve_one(listener, f, ops);
		watched[1].fd = waits ? -1 : listener;
	}
}
