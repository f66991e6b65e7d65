// SPDX-License-Identifier: BSD-2-Clause
#include "dgram.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "say.h"

/**
 * struct talk - a datagram socket and standard input and output
 * @reads: standard input is not at its end
 * @peer: who is sent to, once that @is_known
 */
struct talk {
	const struct options *o;
	int fd;
	bool reads;
	bool is_known;
	struct vsock_addr peer;
	char buf[VSOCK_DGRAM_MAX];
};

static char listen_path[VSOCK_PATH_MAX];

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

static bool is_same(const struct vsock_addr *a, const struct vsock_addr *b)
{
	return a->cid == b->cid && a->port == b->port && !strcmp(a->path, b->path);
}

/*
 * A datagram came to a listener: is it heard? The first sender that can be answered is the only one; with -k the last
 * one is answered.
 */
static bool hears(struct talk *t, const struct vsock_addr *from)
{
	const struct options *o = t->o;

	if ((o->allow.count && !listed(&o->allow, from->cid)) || listed(&o->deny, from->cid)) {
		say_if(1, "a datagram of CID %u was not let in", from->cid);
		return false;
	}
	if (t->is_known && !o->keep_open)
		return is_same(from, &t->peer);
	if (from->port != VSOCK_PORT_ANY) {
		t->peer = *from;
		t->is_known = true;
	}
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

static bool failed(const struct talk *t, enum vsock_op op, const struct vsock_addr *addr, int err)
{
	char why[VSOCK_TEXT_MAX];

	say("%s", vsock_explain(op, addr, &t->o->how, err, why, sizeof(why)));
	return false;
}

/* From the socket to standard output. False: an error, said. */
static bool receive(struct talk *t)
{
	struct vsock_addr from;
	int n = vsock_recvfrom(t->fd, t->buf, sizeof(t->buf), MSG_DONTWAIT, &from);

	if (n == -EAGAIN || n == -EINTR)
		return true;
	if (n < 0)
		return failed(t, VSOCK_OP_RECEIVE, &t->o->addr, n);
	if (t->o->listen && !hears(t, &from))
		return true;
	if ((size_t)n > sizeof(t->buf)) {
		say("a datagram of %d bytes was cut", n);
		n = sizeof(t->buf);
	}
	say_if(2, "received %d bytes", n);
	return write_all(t->buf, (size_t)n);
}

/* From standard input to the socket. False: an error, said. */
static bool transmit(struct talk *t)
{
	ssize_t n = read(STDIN_FILENO, t->buf, sizeof(t->buf));
	int err;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0) {
		t->reads = false;
		return true;
	}
	say_if(2, "sending %zd bytes", n);
	err = vsock_sendto(t->fd, t->buf, (size_t)n, 0, &t->peer);
	return !err || failed(t, VSOCK_OP_SEND, &t->peer, err);
}

static int run(struct talk *t)
{
	int wait = t->o->idle_ms ? (int)t->o->idle_ms : -1;

	while (t->reads || !t->o->send_only) {
		struct pollfd p[2] = { { .fd = t->o->send_only ? -1 : t->fd, .events = POLLIN },
				       { .fd = t->reads && t->is_known ? STDIN_FILENO : -1, .events = POLLIN } };
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
	int status;

	t.o = o;
	t.reads = !o->recv_only;
	t.is_known = !o->listen;
	t.peer = o->addr;
	t.fd = o->listen ? vsock_listen(&o->addr, &o->how) : vsock_dial(&o->addr, &o->how);
	if (t.fd < 0) {
		failed(&t, o->listen ? VSOCK_OP_LISTEN : VSOCK_OP_DIAL, &o->addr, t.fd);
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
