// SPDX-License-Identifier: BSD-2-Clause
#include "dgram.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "say.h"

enum {
	DGRAM_MAX = 65536,
	LINE_MAX_BYTES = 64, /* of SENDTO and FROM, which a hybrid client writes and reads */
};

/* An address of either family. */
union name {
	struct sockaddr sa;
	struct sockaddr_vm vm;
	struct sockaddr_un un;
};

/**
 * struct talk - a datagram socket and standard input and output
 * @lines: a hybrid client: each datagram has a line in front
 * @reads: standard input is not at its end
 * @peer: who is answered, once @peer_len is not 0; not for a socket that is connected
 */
struct talk {
	const struct options *o;
	int fd;
	bool lines;
	bool reads;
	union name peer;
	socklen_t peer_len;
	char buf[LINE_MAX_BYTES + DGRAM_MAX];
};

static char listen_path[sizeof(((struct sockaddr_un *)0)->sun_path)];

static void remove_path(int sig)
{
	unlink(listen_path);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* The name of a hybrid socket goes when we go. */
static void remember_path(const struct options *o)
{
	if (o->addr.kind != VSOCK_KIND_HYBRID || vsock_listen_path(&o->addr, listen_path, sizeof(listen_path)) < 0)
		return;
	signal(SIGINT, remove_path);
	signal(SIGTERM, remove_path);
	signal(SIGHUP, remove_path);
}

static bool listed(const struct cid_list *list, uint32_t cid)
{
	for (unsigned int i = 0; i < list->count; i++) {
		if (list->cids[i] == cid)
			return true;
	}
	return false;
}

static bool is_same(const union name *a, socklen_t a_len, const union name *b, socklen_t b_len)
{
	if (a->sa.sa_family == AF_VSOCK && b->sa.sa_family == AF_VSOCK)
		return a->vm.svm_cid == b->vm.svm_cid && a->vm.svm_port == b->vm.svm_port;
	return a_len == b_len && !memcmp(a, b, a_len);
}

/* A datagram came to a listener: is it heard? The first sender is the only one; with -k the last one is answered. */
static bool hears(struct talk *t, const union name *from, socklen_t len)
{
	const struct options *o = t->o;

	if (from->sa.sa_family == AF_VSOCK &&
	    ((o->allow.count && !listed(&o->allow, from->vm.svm_cid)) || listed(&o->deny, from->vm.svm_cid))) {
		say_if(1, "a datagram of CID %u was not let in", from->vm.svm_cid);
		return false;
	}
	if (t->peer_len && !o->keep_open)
		return is_same(from, len, &t->peer, t->peer_len);
	t->peer = *from;
	t->peer_len = len;
	return true;
}

static bool write_all(const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			say("standard output: %s", strerror(errno));
			return false;
		}
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static bool failed(const struct talk *t, const char *what, int err)
{
	if (err == ECONNREFUSED)
		say("nobody takes datagrams at port %u", t->o->addr.port);
	else
		say("%s a datagram: %s", what, strerror(err));
	return false;
}

/* From the socket to standard output. False: an error, said. */
static bool receive(struct talk *t)
{
	union name from = { .sa = { .sa_family = AF_UNSPEC } };
	socklen_t len = sizeof(from);
	ssize_t n = recvfrom(t->fd, t->buf, sizeof(t->buf), MSG_DONTWAIT, &from.sa, &len);
	char *bytes = t->buf;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n < 0)
		return failed(t, "receiving", errno);
	if (t->o->listen && !hears(t, &from, len))
		return true;
	if (t->lines) {
		char *end = memchr(bytes, '\n', n < LINE_MAX_BYTES ? (size_t)n : LINE_MAX_BYTES);

		if (!end)
			return true;
		n -= end + 1 - bytes;
		bytes = end + 1;
	}
	say_if(2, "received %zd bytes", n);
	return write_all(bytes, (size_t)n);
}

/* From standard input to the socket. False: an error, said. */
static bool transmit(struct talk *t)
{
	char line[LINE_MAX_BYTES];
	struct iovec iov[2] = { { .iov_base = line }, { .iov_base = t->buf } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n = read(STDIN_FILENO, t->buf, DGRAM_MAX);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0) {
		t->reads = false;
		return true;
	}
	if (t->lines)
		iov[0].iov_len = (size_t)snprintf(line, sizeof(line), "SENDTO %u\n", t->o->addr.port);
	iov[1].iov_len = (size_t)n;
	if (t->o->listen) {
		mh.msg_name = &t->peer;
		mh.msg_namelen = t->peer_len;
	}
	say_if(2, "sending %zd bytes", n);
	return sendmsg(t->fd, &mh, MSG_NOSIGNAL) >= 0 || failed(t, "sending", errno);
}

static bool is_known(const struct talk *t)
{
	return !t->o->listen || t->peer_len;
}

static int run(struct talk *t)
{
	int wait = t->o->idle_ms ? (int)t->o->idle_ms : -1;

	while (t->reads || !t->o->send_only) {
		struct pollfd p[2] = { { .fd = t->o->send_only ? -1 : t->fd, .events = POLLIN },
				       { .fd = t->reads && is_known(t) ? STDIN_FILENO : -1, .events = POLLIN } };
		int n = poll(p, 2, wait);

		if (n == 0) {
			say_if(1, "nothing for so long as --idle-timeout says");
			return EXIT_OK;
		}
		if (n < 0 && errno != EINTR)
			return EXIT_NETWORK;
		if (n > 0 && p[0].revents && !receive(t))
			return EXIT_NETWORK;
		if (n > 0 && p[1].revents && !transmit(t))
			return EXIT_NETWORK;
	}
	return EXIT_OK;
}

int dgram_run(const struct options *o)
{
	static struct talk t;
	char why[VSOCK_TEXT_MAX];
	int status;

	t.o = o;
	t.reads = !o->recv_only;
	t.lines = o->addr.kind == VSOCK_KIND_HYBRID && !o->listen;
	t.fd = o->listen ? vsock_listen(&o->addr, &o->how) : vsock_dial(&o->addr, &o->how);
	if (t.fd < 0) {
		say("%s", vsock_explain(o->listen ? VSOCK_OP_LISTEN : VSOCK_OP_DIAL, &o->addr, &o->how, t.fd, why,
					sizeof(why)));
		return EXIT_NETWORK;
	}
	if (o->listen)
		remember_path(o);
	status = run(&t);
	if (listen_path[0])
		unlink(listen_path);
	close(t.fd);
	return status;
}
