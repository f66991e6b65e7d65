// SPDX-License-Identifier: BSD-2-Clause
/*
 * dgram.c - vsock_sendto() and vsock_recvfrom(): datagrams, each whole and with its source
 *
 * A descriptor has no state here. What a hybrid datagram needs besides its payload is in the address that it goes to,
 * in the name that it comes from, or in a line in front of it, which callers never see.
 */
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <linux/vm_sockets.h>

#include "internal.h"
#include "source.h"

/* An address of either family. */
union name {
	struct sockaddr sa;
	struct sockaddr_vm vm;
	struct sockaddr_un un;
};

static int send_parts(int fd, struct iovec *parts, size_t count, int flags, union name *to, socklen_t to_len)
{
	struct msghdr mh = {
		.msg_name = to_len ? to : NULL, .msg_namelen = to_len, .msg_iov = parts, .msg_iovlen = count
	};

	return sendmsg(fd, &mh, flags | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int send_vsock(int fd, struct iovec payload, int flags, const struct vsock_addr *to)
{
	struct vsock_addr where = *to;
	union name name = { .vm = { .svm_family = AF_VSOCK } };
	int err = vsock_resolve(&where);

	if (err)
		return err;
	name.vm.svm_cid = where.cid;
	name.vm.svm_port = where.port;
	return send_parts(fd, &payload, 1, flags, &name, sizeof(name.vm));
}

/* To who sent something to our port, by the name that it came from. */
static int send_answer(int fd, struct iovec payload, int flags, const struct vsock_addr *to)
{
	char suffix[40];
	union name name;
	socklen_t len;
	int err;

	snprintf(suffix, sizeof(suffix), "_dgram@%u.%u", to->cid, to->port);
	err = vsock_hybrid_name(&name.un, &len, to->path, suffix);
	return err ? err : send_parts(fd, &payload, 1, flags, &name, len);
}

/* Is it connected to @name? Then it is sent to without one: where that is gone, the kernel says so only then. */
static bool is_peer(int fd, const union name *name, socklen_t len)
{
	union name peer;
	socklen_t peer_len = sizeof(peer);

	return getpeername(fd, &peer.sa, &peer_len) == 0 && peer_len == len && memcmp(&peer, name, len) == 0;
}

/* Through PATH_dgram. */
static int send_line(int fd, struct iovec payload, int flags, const struct vsock_addr *to)
{
	char line[SOURCE_LINE_MAX];
	struct iovec parts[2] = { { .iov_base = line }, payload };
	union name name;
	socklen_t len;
	int err, chars;

	err = vsock_hybrid_name(&name.un, &len, to->path, "_dgram");
	if (err)
		return err;
	if (to->cid == VSOCK_CID_ANY)
		chars = snprintf(line, sizeof(line), "SENDTO %u\n", to->port);
	else
		chars = snprintf(line, sizeof(line), "SENDTO %u %u\n", to->cid, to->port);
	parts[0].iov_len = (size_t)chars;
	return send_parts(fd, parts, 2, flags, &name, is_peer(fd, &name, len) ? 0 : len);
}

/* Most who sent something have a name that can be answered; others, and those that lost it, are reached by a line. */
static int send_hybrid(int fd, struct iovec payload, int flags, const struct vsock_addr *to)
{
	int err = -ENOENT;

	if (to->cid != VSOCK_CID_ANY)
		err = send_answer(fd, payload, flags, to);
	if (err == -ENOENT || err == -ECONNREFUSED)
		err = send_line(fd, payload, flags, to);
	return err;
}

VSOCK_API int vsock_sendto(int fd, const void *bytes, size_t len, int flags, const struct vsock_addr *to)
{
	struct iovec payload = { .iov_base = (void *)bytes, .iov_len = len };

	if ((flags & ~MSG_DONTWAIT) || to->port == VSOCK_PORT_ANY)
		return -EINVAL;
	if (len > VSOCK_DGRAM_MAX)
		return -EMSGSIZE;
	return to->kind == VSOCK_KIND_HYBRID ? send_hybrid(fd, payload, flags, to) : send_vsock(fd, payload, flags, to);
}

/* What was received: @size bytes of it in @bytes, and what would not fit into @more. */
struct parts {
	char *bytes;
	size_t size;
	char more[SOURCE_LINE_MAX];
};

/* The beginning of @n bytes. Return: its length. */
static size_t copy_head(const struct parts *p, size_t n, char head[SOURCE_LINE_MAX])
{
	size_t len = n < SOURCE_LINE_MAX ? n : SOURCE_LINE_MAX;
	size_t first = len < p->size ? len : p->size;

	if (first)
		memcpy(head, p->bytes, first);
	memcpy(head + first, p->more, len - first);
	return len;
}

/* @n bytes were behind a line of @line bytes: move them to the beginning. */
static void drop_line(const struct parts *p, size_t line, size_t n)
{
	size_t want = n < p->size ? n : p->size;
	size_t near = p->size > line ? p->size - line : 0;

	if (near > want)
		near = want;
	if (near)
		memmove(p->bytes, p->bytes + line, near);
	if (want > near)
		memcpy(p->bytes + near, p->more + line + near - p->size, want - near);
}

VSOCK_API int vsock_recvfrom(int fd, void *bytes, size_t size, int flags, struct vsock_addr *from)
{
	struct parts p = { .bytes = bytes, .size = size };
	struct iovec iov[2] = { { bytes, size }, { p.more, sizeof(p.more) } };
	union name name = { .sa = { .sa_family = AF_UNSPEC } };
	struct msghdr mh = { .msg_name = &name, .msg_namelen = sizeof(name), .msg_iov = iov, .msg_iovlen = 2 };
	struct vsock_addr source = { .kind = VSOCK_KIND_VSOCK, .type = SOCK_DGRAM };
	char head[SOURCE_LINE_MAX];
	size_t line = 0;
	ssize_t n;

	if (flags & ~(MSG_DONTWAIT | MSG_PEEK))
		return -EINVAL;
	n = recvmsg(fd, &mh, flags | MSG_TRUNC);
	if (n < 0)
		return -errno;
	if (mh.msg_namelen && name.sa.sa_family == AF_VSOCK) {
		source.cid = name.vm.svm_cid;
		source.port = name.vm.svm_port;
	} else {
		line = source_read(&name.un, mh.msg_namelen, head, copy_head(&p, (size_t)n, head), &source);
		n -= (ssize_t)line;
	}
	if (line)
		drop_line(&p, line, (size_t)n);
	if (from)
		*from = source;
	return (int)n;
}
