// SPDX-License-Identifier: BSD-2-Clause
/*
 * relay.c - see relay.h
 *
 * One buffer per direction. The input's is filled when every client has taken all of it; the output's when it is empty,
 * by one client at a time, starting after the one that was served last. So a byte that was read is held until it was
 * written or its loss has been said.
 *
 * A descriptor from which nothing is wanted is left out of poll(): a hang-up is reported whether one asked for it or
 * not, and would make the loop spin.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "relay.h"
#include "say.h"
#include "sink.h"

enum {
	BUFFER = 256 * 1024,
	RECORD = 64 * 1024,   /* the largest record that we make from the input */
	EMPTY_RECORDS = 64,   /* so many in a row from a peer that closed are its end: both read as 0 bytes */
	HALF_CLOSED_MS = 500, /* how often to look whether a peer that sends no more still receives */
	FIXED_POLLFDS = 3,    /* input, output, door */
};

struct client {
	int fd;
	struct vsock_addr peer;
	size_t sent;	    /* bytes of the input buffer that it has */
	unsigned int empty; /* records of 0 bytes in a row */
	bool rx_done;	    /* it sends no more, or nobody wants it */
	bool tx_done;	    /* we send it no more */
	bool over;	    /* to be removed */
};

struct relay {
	struct relay_setup set;
	bool records;
	struct sink out;
	struct client *clients;
	struct pollfd *pollfds; /* FIXED_POLLFDS, then one per client */
	unsigned int count;
	unsigned int room;
	unsigned int next; /* whose turn the output is */
	char *in_buf;
	char *out_buf;
	size_t in_len;
	size_t out_len;
	size_t out_at;
	bool in_done;	 /* the input has ended */
	bool door_waits; /* no descriptors: until a client leaves */
	bool failed;
	bool stop;	 /* nothing can be saved any more */
	int64_t last_ms; /* of the last byte */
	uint64_t sent;
	uint64_t received;
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Several clients share the input and the output. */
static bool is_broadcast(const struct relay *r)
{
	return r->set.door && r->set.options->keep_open;
}

static void fail(struct relay *r, const char *what, int err)
{
	say("%s: %s", what, strerror(err));
	r->failed = true;
}

static bool add_client(struct relay *r, int fd, const struct vsock_addr *peer)
{
	if (r->count == r->room) {
		unsigned int room = r->room ? r->room * 2 : 1;
		struct client *clients = realloc(r->clients, room * sizeof(*clients));
		struct pollfd *pollfds = realloc(r->pollfds, (room + FIXED_POLLFDS) * sizeof(*pollfds));

		r->clients = clients ? clients : r->clients;
		r->pollfds = pollfds ? pollfds : r->pollfds;
		if (!clients || !pollfds)
			return false;
		r->room = room;
	}
	/* What is left in the input buffer is older than this client. */
	r->clients[r->count++] = (struct client){ .fd = fd, .peer = *peer, .sent = r->in_len };
	r->last_ms = now_ms();
	return true;
}

/* The input has ended and this client has all of it. */
static void end_sending(const struct relay *r, struct client *c)
{
	if (c->tx_done || !r->in_done || c->sent < r->in_len || r->set.options->recv_only)
		return;
	c->tx_done = true;
	if (!r->set.options->no_shutdown)
		shutdown(c->fd, SHUT_WR);
}

/* Does a peer that sends no more still receive? A record cannot be probed with: an empty one is a message. */
static bool peer_is_gone(const struct relay *r, const struct client *c, short revents)
{
	if (revents & (POLLHUP | POLLERR | POLLNVAL))
		return true;
	return !r->records && send(c->fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN;
}

/* It takes nothing any more. Data that it did not get is an error, unless a command produced it. */
static void lose_sending(struct relay *r, struct client *c, int err)
{
	bool reset = err == ECONNRESET;

	c->tx_done = true;
	if (r->set.command) {
		say_if(1, "the peer takes no more data: %s", strerror(err));
	} else if (err == EMSGSIZE) {
		say("a record of %zu bytes is larger than the peer's buffer: send shorter ones", r->in_len);
		r->failed = true;
	} else {
		say("%s: the peer did not take all of the input", reset ? "connection reset by peer" : strerror(err));
		r->failed = true;
	}
	c->sent = r->in_len;
}

static void push(struct relay *r, struct client *c)
{
	/* A non-blocking record may be cut in two by the kernel where credit is short; poll() saw some. */
	int flags = MSG_NOSIGNAL | (r->records && c->peer.kind == VSOCK_KIND_VSOCK ? 0 : MSG_DONTWAIT);

	while (!c->tx_done && c->sent < r->in_len) {
		ssize_t n = send(c->fd, r->in_buf + c->sent, r->in_len - c->sent, flags);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			lose_sending(r, c, errno);
			return;
		}
		c->sent += (size_t)n;
		r->sent += (uint64_t)n;
		r->last_ms = now_ms();
	}
	end_sending(r, c);
}

static bool input_is_drained(const struct relay *r)
{
	for (unsigned int i = 0; i < r->count; i++) {
		if (!r->clients[i].tx_done && r->clients[i].sent < r->in_len)
			return false;
	}
	return true;
}

static bool wants_input(const struct relay *r)
{
	if (r->in_done || r->set.options->recv_only || !input_is_drained(r))
		return false;
	for (unsigned int i = 0; i < r->count; i++) {
		if (!r->clients[i].tx_done)
			return true;
	}
	return false;
}

static void fill_input(struct relay *r)
{
	ssize_t n = read(r->set.in_fd, r->in_buf, r->records ? RECORD : BUFFER);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		fail(r, "standard input", errno);
	r->in_len = n > 0 ? (size_t)n : 0;
	r->in_done = n <= 0;
	if (n > 0 && dump_bytes(r->set.dump, r->in_buf, r->in_len, true) < 0)
		r->failed = r->stop = true;
	r->last_ms = now_ms();
	for (unsigned int i = 0; i < r->count; i++) {
		r->clients[i].sent = 0;
		push(r, &r->clients[i]);
	}
}

/* Nobody takes the output any more. A command may do that; anybody else loses data. */
static void lose_output(struct relay *r, int err)
{
	r->out_at = r->out_len = 0;
	sink_close(&r->out);
	if (!r->set.command) {
		fail(r, "standard output", err);
		r->stop = true;
	}
	for (unsigned int i = 0; i < r->count; i++)
		r->clients[i].rx_done = true;
}

static void flush_output(struct relay *r)
{
	while (r->out_at < r->out_len) {
		ssize_t n = sink_write(&r->out, r->out_buf + r->out_at, r->out_len - r->out_at);

		if (n < 0) {
			lose_output(r, (int)-n);
			return;
		}
		if (n == 0)
			return;
		r->out_at += (size_t)n;
	}
	r->out_at = r->out_len = 0;
}

static void end_receiving(struct client *c)
{
	c->rx_done = true;
	say_if(2, "the peer sends no more");
}

/* recv() failed: only a reset says that what was read may not be all. */
static void lose_receiving(struct relay *r, struct client *c, int err)
{
	c->over = true;
	r->failed = true;
	if (err == ECONNRESET || err == ENOTCONN)
		say("connection reset by peer: data may be missing");
	else
		say("receiving failed: %s: data may be missing", strerror(err));
}

static void pull(struct relay *r, struct client *c, short revents)
{
	ssize_t n = recv(c->fd, r->out_buf, BUFFER, MSG_DONTWAIT | (r->records ? MSG_TRUNC : 0));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		lose_receiving(r, c, errno);
		return;
	}
	r->last_ms = now_ms();
	if (n == 0) {
		if (!r->records || ((revents & (POLLRDHUP | POLLHUP)) && ++c->empty == EMPTY_RECORDS))
			end_receiving(c);
		return;
	}
	c->empty = 0;
	if (n > BUFFER) {
		say("a record of %zd bytes was cut to %d", n, BUFFER);
		r->failed = true;
		n = BUFFER;
	}
	r->received += (uint64_t)n;
	r->out_len = (size_t)n;
	if (dump_bytes(r->set.dump, r->out_buf, r->out_len, false) < 0)
		r->failed = r->stop = true;
	flush_output(r);
}

/* Has everything that this client can do been done? */
static bool is_over(const struct relay *r, const struct client *c, short revents)
{
	const struct options *o = r->set.options;

	if (c->over)
		return true;
	if (o->send_only && c->tx_done)
		return true;
	if (!c->rx_done)
		return false;
	return c->tx_done || o->recv_only || peer_is_gone(r, c, revents);
}

/* The peer is gone, nothing is on its way: is there input that it will never get? */
static bool input_remains(const struct relay *r)
{
	struct pollfd pollfd = { .fd = r->set.in_fd, .events = POLLIN };

	if (r->in_done || r->set.command || r->set.options->recv_only || is_broadcast(r))
		return false;
	return poll(&pollfd, 1, 0) > 0 && (pollfd.revents & POLLIN) && read(r->set.in_fd, r->in_buf, 1) > 0;
}

static void serve_client(struct relay *r, struct client *c, short revents)
{
	if (revents & (POLLOUT | POLLERR | POLLHUP))
		push(r, c);
	if (!c->rx_done && !r->set.options->send_only && !r->out_len &&
	    (revents & (POLLIN | POLLRDHUP | POLLHUP | POLLERR)))
		pull(r, c, revents);
	end_sending(r, c);
	if (is_over(r, c, revents)) {
		if (!c->over && !c->tx_done && (c->sent < r->in_len || input_remains(r)))
			lose_sending(r, c, EPIPE);
		c->over = true;
	}
}

static void serve_clients(struct relay *r)
{
	unsigned int first = r->next, kept = 0;

	for (unsigned int i = 0; i < r->count; i++) {
		unsigned int turn = (first + i) % r->count;
		bool was_empty = r->out_len == 0;

		serve_client(r, &r->clients[turn], r->pollfds[FIXED_POLLFDS + turn].revents);
		if (was_empty && r->out_len)
			r->next = turn + 1;
	}
	for (unsigned int i = 0; i < r->count; i++) {
		if (r->clients[i].over) {
			close(r->clients[i].fd);
			r->door_waits = false;
		} else {
			r->clients[kept++] = r->clients[i];
		}
	}
	r->count = kept;
}

/* Hands the end of the only connection's data on to who reads our output. */
static void end_output(struct relay *r)
{
	int err;

	if (is_broadcast(r))
		return;
	if (r->out.fd < 0 || r->out_len || r->count != 1 || !r->clients[0].rx_done)
		return;
	err = sink_close(&r->out);
	if (err && !r->set.command)
		fail(r, "standard output", -err);
}

static void serve_door(struct relay *r)
{
	struct vsock_addr peer;
	int fd = door_accept(r->set.door, r->count, &peer);

	if (fd == -EAGAIN)
		return;
	if (fd == -EMFILE && r->count) {
		r->door_waits = true;
		return;
	}
	if (fd < 0 || !add_client(r, fd, &peer)) {
		if (fd >= 0)
			close(fd);
		r->failed = r->stop = true;
		return;
	}
	if (!r->set.options->keep_open)
		door_close(r->set.door);
	end_sending(r, &r->clients[r->count - 1]);
}

static struct pollfd pollfd_for(int fd, bool wanted, short events)
{
	return (struct pollfd){ .fd = wanted ? fd : -1, .events = events };
}

static bool door_is_open(const struct relay *r)
{
	return r->set.door && r->set.door->fd >= 0;
}

/* Says what to wait for. Return: whether somebody must be looked at again after HALF_CLOSED_MS. */
static bool arrange_poll(struct relay *r)
{
	bool want_out = !r->out_len, half_closed = false;

	r->pollfds[0] = pollfd_for(r->set.in_fd, wants_input(r), POLLIN);
	r->pollfds[1] = pollfd_for(r->out.fd, r->out_len || r->set.command, r->out_len ? POLLOUT : 0);
	r->pollfds[2] = pollfd_for(door_is_open(r) ? r->set.door->fd : -1, !r->door_waits, POLLIN);
	for (unsigned int i = 0; i < r->count; i++) {
		const struct client *c = &r->clients[i];
		short events = 0;

		if (!c->rx_done && want_out && !r->set.options->send_only)
			events |= POLLIN | POLLRDHUP;
		if (!c->tx_done && c->sent < r->in_len)
			events |= POLLOUT;
		r->pollfds[FIXED_POLLFDS + i] = pollfd_for(c->fd, events || c->rx_done, events);
		half_closed |= c->rx_done && !c->tx_done;
	}
	return half_closed;
}

/* Milliseconds to wait at most, -1 for ever. */
static int patience(const struct relay *r, bool half_closed)
{
	int64_t left = -1;

	if (r->set.options->idle_ms && r->count) {
		left = r->last_ms + r->set.options->idle_ms - now_ms();
		left = left < 0 ? 0 : left;
	}
	if (half_closed && (left < 0 || left > HALF_CLOSED_MS))
		left = HALF_CLOSED_MS;
	return (int)left;
}

static void check_idle(struct relay *r)
{
	uint32_t limit = r->set.options->idle_ms;

	if (!limit || !r->count || now_ms() - r->last_ms < limit)
		return;
	say("idle timeout expired (%u ms without data)", limit);
	r->failed = r->stop = true;
}

static void step(struct relay *r)
{
	bool half_closed = arrange_poll(r);

	if (poll(r->pollfds, r->count + FIXED_POLLFDS, patience(r, half_closed)) < 0) {
		if (errno != EINTR) {
			fail(r, "poll", errno);
			r->stop = true;
		}
		return;
	}
	if (r->pollfds[1].revents && r->out_len)
		flush_output(r);
	else if (r->pollfds[1].revents & (POLLERR | POLLNVAL))
		lose_output(r, EPIPE);
	if (r->pollfds[0].revents)
		fill_input(r);
	serve_clients(r);
	end_output(r);
	/* Last: a new client has no revents yet. */
	if (r->pollfds[2].revents)
		serve_door(r);
	check_idle(r);
}

static bool is_finished(const struct relay *r)
{
	return r->stop || (!r->count && !r->out_len && !door_is_open(r));
}

static void tear_down(struct relay *r)
{
	int err = sink_close(&r->out);

	if (err && !r->set.command)
		fail(r, "standard output", -err);
	for (unsigned int i = 0; i < r->count; i++)
		close(r->clients[i].fd);
	close(r->set.in_fd);
	free(r->clients);
	free(r->pollfds);
	free(r->in_buf);
	free(r->out_buf);
}

int relay_run(const struct relay_setup *setup)
{
	struct relay r = { .set = *setup, .records = setup->options->addr.type == SOCK_SEQPACKET };
	int64_t began = now_ms();

	r.in_buf = malloc(BUFFER);
	r.out_buf = malloc(BUFFER);
	r.pollfds = malloc(FIXED_POLLFDS * sizeof(*r.pollfds));
	r.out = sink_open(setup->out_fd);
	if (!r.in_buf || !r.out_buf || !r.pollfds ||
	    (setup->client_fd >= 0 && !add_client(&r, setup->client_fd, &setup->peer))) {
		say("out of memory");
		r.failed = r.stop = true;
	}
	while (!is_finished(&r))
		step(&r);
	say_if(1, "%llu bytes sent, %llu bytes received in %.2f seconds", (unsigned long long)r.sent,
	       (unsigned long long)r.received, (double)(now_ms() - began) / 1000);
	tear_down(&r);
	return r.failed ? EXIT_NETWORK : EXIT_OK;
}
