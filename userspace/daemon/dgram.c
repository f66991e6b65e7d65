// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/path.h"
#include "daemon/session.h"

#include "kernel/proto/names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SOURCE_SNDBUF = 512
			<< 10, /* what a port of the guest may have in receivers' queues: as much as we may ask for */
};

/* ---- names ---- */

/* A Unix address and its length; of no length, where there is none. */
struct name {
	struct sockaddr_un sa;
	socklen_t len;
};

/* PATH_dgram with what @format adds. */
static struct name name_of(const struct vsd_guest *g, const char *format, u32 a, u32 b)
{
	struct name n = { .sa = { .sun_family = AF_UNIX } };
	int at = snprintf(n.sa.sun_path, sizeof(n.sa.sun_path), "%s_dgram", g->opts->uds_path);

	/* vsd_dgram_start() made sure that all of them fit. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(n.sa.sun_path + at, sizeof(n.sa.sun_path) - (size_t)at, format, a, b);
#pragma GCC diagnostic pop
	n.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(n.sa.sun_path) + 1);
	return n;
}

static struct name name_of_port(const struct vsd_guest *g, u32 port)
{
	return name_of(g, "_%u", port, 0);
}

static struct name name_of_source(const struct vsd_guest *g, struct vsp_addr from)
{
	return name_of(g, "@%u.%u", from.cid, from.port);
}

/* Is it PATH_dgram_PORT? */
static bool is_port_name(const struct vsd_guest *g, const struct name *n, u32 *port)
{
	const char *path = n->sa.sun_path, *digits;
	size_t base = strlen(g->opts->uds_path), prefix = base + sizeof("_dgram_") - 1;
	struct name again;
	char *end;

	if (n->len <= offsetof(struct sockaddr_un, sun_path) + prefix || strncmp(path, g->opts->uds_path, base) != 0 ||
	    strncmp(path + base, "_dgram_", prefix - base) != 0)
		return false;
	digits = path + prefix;
	*port = (u32)strtoul(digits, &end, 10);
	again = name_of_port(g, *port);
	return *port != VSP_PORT_ANY && !strncmp(again.sa.sun_path, path, sizeof(again.sa.sun_path));
}

/* ---- host programs that were given a port ---- */

static bool is_fresh(const struct vsd_guest *g, const struct vsd_dgram_client *c)
{
	return c->name_len && g->loop->now - c->used < VSD_DGRAM_CLIENT_MS * VSD_MS;
}

static struct vsd_dgram_client *client_at(struct vsd_guest *g, u32 port)
{
	struct vsd_dgram_client *all = port < VSOCK_PORT_FIRST ? NULL : g->dgrams.clients;

	for (u32 i = 0; all && i < VSD_DGRAM_CLIENTS; i++) {
		if (all[i].port == port && is_fresh(g, &all[i]))
			return &all[i];
	}
	return NULL;
}

static u32 new_client_port(struct vsd_guest *g)
{
	struct vsd_dgrams *d = &g->dgrams;

	do {
		d->last_port = (d->last_port + 1) % VSOCK_PORTS;
	} while (client_at(g, VSOCK_PORT_FIRST + d->last_port));
	return VSOCK_PORT_FIRST + d->last_port;
}

/* The port of the program with this name. One without a name has one too, but cannot be answered. */
static u32 client_port(struct vsd_guest *g, const struct name *n)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct vsd_dgram_client *oldest;
	u32 port;

	if (n->len <= offsetof(struct sockaddr_un, sun_path))
		return new_client_port(g);
	if (is_port_name(g, n, &port))
		return port;
	if (!d->clients)
		d->clients = calloc(VSD_DGRAM_CLIENTS, sizeof(*d->clients));
	if (!d->clients)
		return new_client_port(g);
	oldest = d->clients;
	for (u32 i = 0; i < VSD_DGRAM_CLIENTS; i++) {
		struct vsd_dgram_client *c = &d->clients[i];

		if (c->name_len == n->len && is_fresh(g, c) && !memcmp(&c->name, &n->sa, n->len)) {
			c->used = g->loop->now;
			return c->port;
		}
		if (c->used < oldest->used)
			oldest = c;
	}
	oldest->port = new_client_port(g);
	oldest->name = n->sa;
	oldest->name_len = n->len;
	oldest->used = g->loop->now;
	return oldest->port;
}

/* ---- queues ---- */

static struct vsd_dgram *push(struct vsd_dgram_queue *q, struct vsp_addr src, struct vsp_addr dst,
			      const struct iovec *iov, u32 niov, u32 len)
{
	struct vsd_dgram *e = malloc(sizeof(*e) + len);
	u32 at = 0;

	if (!e)
		return NULL;
	*e = (struct vsd_dgram){ .src = src, .dst = dst, .len = len };
	for (u32 i = 0; i < niov; at += (u32)iov[i].iov_len, i++)
		memcpy(e->bytes + at, iov[i].iov_base, iov[i].iov_len);
	if (!q->first)
		q->end = &q->first;
	*q->end = e;
	q->end = &e->next;
	q->bytes += len + VSD_DGRAM_COST;
	return e;
}

/* The first goes; it is the caller's to free. */
static struct vsd_dgram *pop(struct vsd_dgram_queue *q)
{
	struct vsd_dgram *e = q->first;

	if (e) {
		q->first = e->next;
		q->bytes -= e->len + VSD_DGRAM_COST;
	}
	return e;
}

static u32 clear(struct vsd_dgram_queue *q)
{
	struct vsd_dgram *e;
	u32 n = 0;

	for (; (e = pop(q)) != NULL; n++)
		free(e);
	return n;
}

static bool fits(const struct vsd_dgram_queue *q, u32 len)
{
	return q->bytes + len + VSD_DGRAM_COST <= VSD_DGRAM_QUEUE;
}

/* ---- sockets that datagrams for the guest come from ---- */

static int bound_socket(const struct name *n)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int bytes = SOURCE_SNDBUF;
	int err;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	err = fchmod(fd, 0777) ? -errno : vsd_path_bind(fd, &n->sa, n->len, SOCK_DGRAM);
	if (!err)
		return fd;
	close(fd);
	return err;
}

static int watch_sock(struct vsd_guest *g, struct vsd_dgram_sock *s)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.ptr = &s->watch };

	s->watch = (struct vsd_watch){ .source = VSD_SOURCE_DGRAM, .guest = g };
	s->flow.owner = VSOCK_OWNER_DRIVER;
	if (s->fd < 0)
		return 0;
	return epoll_ctl(g->loop->epfd, EPOLL_CTL_ADD, s->fd, &ev) ? -errno : 0;
}

/*
 * Be told, or no more, when the send buffer has room: only while somebody waits for it, for each datagram that a
 * receiver takes is an event.
 */
static void watch_room(struct vsd_guest *g, struct vsd_dgram_sock *s, bool on)
{
	struct epoll_event ev = { .events = EPOLLIN | (on ? EPOLLOUT : 0) | EPOLLET, .data.ptr = &s->watch };

	if (s->room_watched != on && !epoll_ctl(g->loop->epfd, EPOLL_CTL_MOD, s->fd, &ev))
		s->room_watched = on;
}

static struct vsd_dgram_sock *sock_of(struct vsp_flow *f)
{
	return (struct vsd_dgram_sock *)(void *)((u8 *)f - offsetof(struct vsd_dgram_sock, flow));
}

/* Close one that is out of the list. */
static void close_sock(struct vsd_guest *g, struct vsd_dgram_sock *s)
{
	struct name n = name_of_source(g, s->at);

	vsp_sched_remove(&g->mux.sched, &s->flow);
	if (s->fd >= 0) {
		close(s->fd);
		unlink(n.sa.sun_path);
	}
	g->dgrams.n.no_guest += clear(&s->queue);
	s->watch.guest = NULL;
	s->next = g->dgrams.dead_socks;
	g->dgrams.dead_socks = s;
	g->dgrams.n_sources--;
	g->due = true;
}

static void close_sources(struct vsd_guest *g)
{
	while (g->dgrams.sources) {
		struct vsd_dgram_sock *s = g->dgrams.sources;

		g->dgrams.sources = s->next;
		close_sock(g, s);
	}
}

/* The one that was not used for the longest time makes room, but not one that the guest has half a datagram of. */
static void evict(struct vsd_guest *g)
{
	struct vsd_dgram_sock **oldest = NULL, *s;

	for (struct vsd_dgram_sock **p = &g->dgrams.sources; *p; p = &(*p)->next) {
		if (g->dgrams.midway != &(*p)->flow && (!oldest || (*p)->used < (*oldest)->used))
			oldest = p;
	}
	if (!oldest)
		return;
	s = *oldest;
	*oldest = s->next;
	close_sock(g, s);
}

static struct vsd_dgram_sock *find_source(struct vsd_guest *g, enum vsd_dgram_kind kind, struct vsp_addr at)
{
	struct vsd_dgram_sock *s = g->dgrams.sources;

	while (s && (s->kind != kind || !vsp_addr_eq(s->at, at)))
		s = s->next;
	if (s)
		s->used = g->loop->now;
	return s;
}

/* The socket for a port of the guest, or for another guest, made where there is none. NULL: no memory or descriptor. */
static struct vsd_dgram_sock *source(struct vsd_guest *g, enum vsd_dgram_kind kind, struct vsp_addr at)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct vsd_dgram_sock *s = find_source(g, kind, at);
	struct name n;
	int err = 0;

	if (s)
		return s;
	n = name_of_source(g, at);
	if (d->n_sources == VSD_DGRAM_SOURCES)
		evict(g);
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->kind = (u8)kind;
	s->at = at;
	s->used = g->loop->now;
	s->fd = -1;
	if (kind == VSD_DGRAM_SOURCE)
		err = s->fd = bound_socket(&n);
	if (err >= 0)
		err = watch_sock(g, s);
	if (err < 0) {
		vsd_guest_warn(g, "no socket for datagrams of guest port %u at %s: %s", at.port,
			       n.sa.sun_path[0] ? n.sa.sun_path : n.sa.sun_path + 1, strerror(-err));
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return NULL;
	}
	s->next = d->sources;
	d->sources = s;
	d->n_sources++;
	return s;
}

/* ---- from the guest ---- */

/* Nobody is bound there: say so, but not to a flood. */
static void refuse(struct vsd_guest *g, struct vsp_addr src, struct vsp_addr dst)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct vsp_hdr hdr = { .src = src, .dst = dst, .type = VSP_TYPE_DGRAM, .op = VSP_OP_RW };

	d->n.unbound++;
	if (g->loop->now - d->refusals_since >= 1000 * VSD_MS) {
		d->refusals_since = g->loop->now;
		d->refusals = 0;
	}
	if (d->refusals >= VSD_DGRAM_REFUSALS || !vsp_budget_left(&g->mux.budget))
		return;
	d->refusals++;
	d->n.refused++;
	vsock_mux_owe(&g->mux, vsp_rst_for(&hdr));
}

enum sent { SENT, SENT_LATER, SENT_NOWHERE, SENT_NEVER };

/* Send to the program with host port @dst.port, once. */
static enum sent try_send(struct vsd_guest *g, struct vsp_addr src, struct vsp_addr dst, struct iovec *iov, u32 niov)
{
	struct vsd_dgram_client *client = client_at(g, dst.port);
	struct name n = name_of_port(g, dst.port);
	char prefix[VSD_DGRAM_PREFIX_MAX];
	struct iovec with[VU_CHAIN_IOV_MAX];
	struct msghdr mh = { .msg_name = &n.sa, .msg_namelen = n.len, .msg_iov = iov, .msg_iovlen = niov };
	struct vsd_dgram_sock *s = NULL;
	ssize_t r;

	if (client) {
		if (niov == VU_CHAIN_IOV_MAX)
			return SENT_NEVER;
		with[0].iov_base = prefix;
		with[0].iov_len = (size_t)snprintf(prefix, sizeof(prefix), "FROM %u %u\n", src.cid, src.port);
		memcpy(&with[1], iov, niov * sizeof(*iov));
		mh = (struct msghdr){ .msg_name = &client->name,
				      .msg_namelen = client->name_len,
				      .msg_iov = with,
				      .msg_iovlen = niov + 1 };
		client->used = g->loop->now;
	} else {
		s = find_source(g, VSD_DGRAM_SOURCE, src);
		/* Without a receiver no socket is made: the guest has many ports. */
		if (!s && access(n.sa.sun_path, F_OK))
			return SENT_NOWHERE;
		s = s ? s : source(g, VSD_DGRAM_SOURCE, src);
		if (!s) {
			g->dgrams.n.no_memory++;
			return SENT_NEVER;
		}
		s->last = dst.port;
	}
	r = sendmsg(s ? s->fd : g->dgrams.clients_sock.fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (r >= 0)
		return SENT;
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return SENT_LATER;
	case EFAULT:
		g->dev.mem.lost = 1;
		return SENT_NEVER;
	case EMSGSIZE:
		g->dgrams.n.too_big++;
		return SENT_NEVER;
	case ENOBUFS:
	case ENOMEM:
		g->dgrams.n.no_memory++;
		return SENT_NEVER;
	default:
		if (client)
			client->name_len = 0;
		return SENT_NOWHERE;
	}
}

static void unlink_dest(struct vsd_guest *g, struct vsd_dgram_dest *t)
{
	struct vsd_dgram_dest **p = &g->dgrams.dests;

	while (*p && *p != t)
		p = &(*p)->next;
	*p = t->next;
	g->dgrams.n_dests--;
	g->dgrams.queued -= t->queue.bytes;
	clear(&t->queue);
	if (t->fd >= 0)
		close(t->fd);
	t->watch.guest = NULL;
	t->next = g->dgrams.dead_dests;
	g->dgrams.dead_dests = t;
	g->due = true;
}

/*
 * Be told when the receiver takes more. An unconnected socket cannot say; so one that sends nothing is connected, anew
 * each time, because the receiver may have been replaced. False: nobody will tell.
 */
static bool watch_receiver(struct vsd_guest *g, struct vsd_dgram_dest *t)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLET, .data.ptr = &t->watch };
	struct vsd_dgram_client *client = client_at(g, t->port);
	struct name n = name_of_port(g, t->port);
	int op = t->fd < 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	if (client) {
		n.sa = client->name;
		n.len = client->name_len;
	}
	if (t->fd < 0)
		t->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (t->fd < 0)
		return false;
	if (!connect(t->fd, (struct sockaddr *)&n.sa, n.len) && !epoll_ctl(g->loop->epfd, op, t->fd, &ev))
		return true;
	close(t->fd);
	t->fd = -1;
	return false;
}

/* Who sends the first datagram that waits for a receiver. */
static struct vsd_dgram_sock *sender_to(struct vsd_guest *g, const struct vsd_dgram_dest *t)
{
	if (client_at(g, t->port))
		return &g->dgrams.clients_sock;
	return find_source(g, VSD_DGRAM_SOURCE, t->queue.first->src);
}

/*
 * A receiver that should have taken more did not: the send buffer is full of what others have not taken, or somebody
 * else was faster. An event tells when most of that buffer is free again; where less is free, nothing does.
 */
static void look_again(struct vsd_guest *g, struct vsd_dgram_dest *t)
{
	struct vsd_dgram_sock *s = sender_to(g, t);

	t->blind = true;
	if (s)
		watch_room(g, s, true);
	if (!g->dgrams.retry_at)
		g->dgrams.retry_at = g->loop->now + VSD_DGRAM_RETRY_MS * VSD_MS;
}

/* What waits for a receiver goes on waiting, though it @moved. */
static void await_room(struct vsd_guest *g, struct vsd_dgram_dest *t, bool moved)
{
	t->blind = false;
	if (!moved || !watch_receiver(g, t))
		look_again(g, t);
}

/* Send what waits for a receiver, as far as it takes it. */
static void flush_dest(struct vsd_guest *g, struct vsd_dgram_dest *t)
{
	struct vsd_dgram *e;
	bool moved = false;

	while ((e = t->queue.first) != NULL) {
		struct iovec iov = { .iov_base = e->bytes, .iov_len = e->len };
		enum sent what = try_send(g, e->src, e->dst, &iov, 1);

		if (what == SENT_LATER) {
			await_room(g, t, moved);
			return;
		}
		moved = true;
		if (what == SENT_NOWHERE)
			refuse(g, e->src, e->dst);
		g->dgrams.n.from_guest += what == SENT;
		g->dgrams.queued -= e->len + VSD_DGRAM_COST;
		free(pop(&t->queue));
	}
	t->blind = false;
	/* What lies on the ring may follow, and may have to wait again. */
	if (g->dgrams.held_until)
		g->from_due = true;
	else
		unlink_dest(g, t);
}

/* Those that nobody speaks for. True: some are left. */
static bool flush_blind(struct vsd_guest *g)
{
	bool left = false;

	for (struct vsd_dgram_dest *t = g->dgrams.dests, *next; t; t = next) {
		next = t->next;
		if (t->blind)
			flush_dest(g, t);
	}
	for (const struct vsd_dgram_dest *t = g->dgrams.dests; t; t = t->next)
		left |= t->blind;
	return left;
}

void vsd_dgram_retry(struct vsd_guest *g)
{
	g->dgrams.retry_at = 0;
	flush_blind(g);
}

static struct vsd_dgram_dest *dest_at(struct vsd_guest *g, u32 port)
{
	struct vsd_dgram_dest *t = g->dgrams.dests;

	while (t && t->port != port)
		t = t->next;
	return t;
}

static struct vsd_dgram_dest *new_dest(struct vsd_guest *g, u32 port)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct vsd_dgram_dest *t = d->n_dests < VSD_DGRAM_DESTS ? calloc(1, sizeof(*t)) : NULL;

	if (!t)
		return NULL;
	t->watch = (struct vsd_watch){ .source = VSD_SOURCE_DGRAM_DEST, .guest = g };
	t->fd = -1;
	t->port = port;
	t->next = d->dests;
	d->dests = t;
	d->n_dests++;
	return t;
}

/* The receiver is slow: keep a datagram for it, behind those that wait. */
static void keep(struct vsd_guest *g, struct vsd_dgram_dest *t, struct vsp_addr src, struct vsp_addr dst,
		 struct iovec *iov, u32 niov, u32 len)
{
	struct vsd_dgrams *d = &g->dgrams;
	bool first = !t || !t->queue.first;

	if (!t)
		t = new_dest(g, dst.port);
	if (!t || !fits(&t->queue, len) || d->queued + len + VSD_DGRAM_COST > VSD_DGRAM_QUEUES) {
		d->n.full++;
	} else if (push(&t->queue, src, dst, iov, niov, len)) {
		d->queued += len + VSD_DGRAM_COST;
		if (first)
			await_room(g, t, true);
		return;
	} else {
		d->n.no_memory++;
	}
	if (t && !t->queue.first)
		unlink_dest(g, t);
}

static void to_host(struct vsd_guest *g, struct vsp_addr src, struct vsp_addr dst, struct iovec *iov, u32 niov, u32 len)
{
	struct vsd_dgram_dest *t = dest_at(g, dst.port);

	switch (t && t->queue.first ? SENT_LATER : try_send(g, src, dst, iov, niov)) {
	case SENT:
		g->dgrams.n.from_guest++;
		break;
	case SENT_LATER:
		keep(g, t, src, dst, iov, niov, len);
		break;
	case SENT_NOWHERE:
		refuse(g, src, dst);
		break;
	case SENT_NEVER:
		break;
	}
}

bool vsd_dgram_must_wait(struct vsd_guest *g, const struct vsp_hdr *hdr)
{
	const struct vsd_dgram_dest *t = g->dgrams.dests && hdr->op == VSP_OP_RW ? dest_at(g, hdr->dst.port) : NULL;

	return t && t->queue.first && !hdr->buf_alloc && hdr->dst.cid == g->mux.params.host_cid;
}

void vsd_dgram_hold(struct vsd_guest *g, bool held)
{
	struct vsd_dgrams *d = &g->dgrams;

	if (held && !d->held_until)
		d->held_until = g->loop->now + VSD_DGRAM_HOLD_MS * VSD_MS;
	if (held)
		return;
	d->held_until = 0;
	for (struct vsd_dgram_dest *t = d->dests, *next; t; t = next) {
		next = t->next;
		if (!t->queue.first)
			unlink_dest(g, t);
	}
}

static void to_sibling(struct vsd_guest *g, struct vsp_addr src, struct vsp_addr dst, struct iovec *iov, u32 niov,
		       u32 len)
{
	struct vsd_guest *to = vsd_sibling_find(g, dst.cid);
	struct vsd_dgram_sock *s;

	if (!to || !to->dgrams.known || !vsd_policy_allows(&to->opts->to_guest, dst.port)) {
		refuse(g, src, dst);
		return;
	}
	s = source(to, VSD_DGRAM_SIBLING, (struct vsp_addr){ .cid = src.cid });
	if (s && !fits(&s->queue, len)) {
		g->dgrams.n.full++;
		return;
	}
	if (!s || !push(&s->queue, src, dst, iov, niov, len)) {
		g->dgrams.n.no_memory++;
		return;
	}
	g->dgrams.n.from_guest++;
	vsp_sched_wake(&to->mux.sched, &s->flow);
	vsd_guest_wake(to);
}

/* A whole datagram of the guest. */
static void deliver(struct vsd_guest *g, const struct vsp_hdr *hdr, struct iovec *iov, u32 niov, u32 len)
{
	if (!vsd_policy_allows(&g->opts->from_guest, hdr->dst.port)) {
		g->counters.denied++;
		refuse(g, hdr->src, hdr->dst);
	} else if (hdr->dst.cid == g->mux.params.host_cid) {
		to_host(g, hdr->src, hdr->dst, iov, niov, len);
	} else {
		to_sibling(g, hdr->src, hdr->dst, iov, niov, len);
	}
}

static void keep_fragment(struct vsd_guest *g, u32 offset, const struct iovec *iov, u32 niov)
{
	for (u32 i = 0; i < niov && g->dgrams.slot_bytes; offset += (u32)iov[i].iov_len, i++)
		memcpy(g->dgrams.slot_bytes + offset, iov[i].iov_base, iov[i].iov_len);
}

static void data(struct vsd_guest *g, const struct vsp_hdr *hdr, struct iovec *iov, u32 niov)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct vsp_dgram_verdict v = vsp_dgram_add(&d->slot, hdr);
	struct iovec whole;

	d->n.cut += v.lost;
	switch (v.what) {
	case VSP_DGRAM_BAD:
		g->mux.rejects[v.why]++;
		return;
	case VSP_DGRAM_WHOLE:
		deliver(g, hdr, iov, niov, hdr->len);
		return;
	case VSP_DGRAM_FIRST:
		if (!d->slot_bytes)
			d->slot_bytes = malloc(VSP_DGRAM_MAX);
		break;
	default:
		break;
	}
	keep_fragment(g, v.offset, iov, niov);
	if (v.what != VSP_DGRAM_LAST)
		return;
	whole = (struct iovec){ .iov_base = d->slot_bytes, .iov_len = v.total };
	if (d->slot_bytes)
		deliver(g, hdr, &whole, 1, v.total);
	else
		d->n.no_memory++;
}

void vsd_dgram_interrupt(struct vsd_guest *g)
{
	g->dgrams.n.cut += vsp_dgram_interrupt(&g->dgrams.slot);
}

/* The guest asks whether there are datagrams; so it has them, too. */
static void answer_probe(struct vsd_guest *g, const struct vsp_hdr *hdr)
{
	struct vsd_dgrams *d = &g->dgrams;

	d->known = true;
	d->fragments = hdr->fwd_cnt >= VSP_DGRAM_REVISION;
	d->max = hdr->buf_alloc < VSP_DGRAM_MAX ? hdr->buf_alloc : VSP_DGRAM_MAX;
	vsock_mux_owe(&g->mux, (struct vsp_hdr){
				       .src = hdr->dst,
				       .dst = hdr->src,
				       .type = VSP_TYPE_DGRAM,
				       .op = VSP_OP_CREDIT_UPDATE,
				       .buf_alloc = VSP_DGRAM_MAX,
				       .fwd_cnt = VSP_DGRAM_REVISION,
			       });
}

/* Datagrams for a guest that is not there, or has none, are dropped; their senders would wait for ever. */
static void drop_all(struct vsd_guest *g, struct vsd_dgram_sock *s)
{
	char byte;

	while (recv(s->fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0)
		g->dgrams.n.no_guest++;
}

/* Who sent something meanwhile is heard now, or never. */
static void answered(struct vsd_guest *g)
{
	struct vsd_dgrams *d = &g->dgrams;

	d->answer_until = 0;
	if (d->known) {
		vsp_sched_wake(&g->mux.sched, &d->clients_sock.flow);
		return;
	}
	drop_all(g, &d->clients_sock);
	/* Ports of the guest have sockets from here on only where there are datagrams. */
	close_sources(g);
}

static void accept_answer(struct vsd_guest *g, const struct vsp_hdr *hdr)
{
	struct vsd_dgrams *d = &g->dgrams;

	d->known = true;
	d->fragments = hdr->fwd_cnt >= VSP_DGRAM_REVISION;
	d->max = hdr->buf_alloc < VSP_DGRAM_MAX ? hdr->buf_alloc : VSP_DGRAM_MAX;
	answered(g);
}

static bool at_probe(const struct vsp_hdr *hdr)
{
	return hdr->src.port == VSP_PORT_ANY && hdr->dst.port == VSP_PORT_ANY;
}

bool vsd_dgram_denied(struct vsd_guest *g, const struct vsp_hdr *hdr)
{
	struct vsd_dgrams *d = &g->dgrams;

	if (!d->asked || hdr->op != VSP_OP_RST || !at_probe(hdr))
		return false;
	d->fragments = false;
	d->known = g->dev.features & VU_BIT(VSP_F_DGRAM);
	answered(g);
	return true;
}

void vsd_dgram_unanswered(struct vsd_guest *g)
{
	answered(g);
}

void vsd_dgram_ask(struct vsd_guest *g)
{
	struct vsd_dgrams *d = &g->dgrams;

	if (!d->on)
		return;
	d->asked = true;
	d->answer_until = g->loop->now + VSD_DGRAM_ANSWER_MS * VSD_MS;
	vsock_mux_owe(&g->mux, (struct vsp_hdr){
				       .src = { .cid = g->mux.params.host_cid, .port = VSP_PORT_ANY },
				       .dst = { .cid = VSP_CID_HOST, .port = VSP_PORT_ANY },
				       .type = VSP_TYPE_DGRAM,
				       .op = VSP_OP_CREDIT_REQUEST,
				       .buf_alloc = VSP_DGRAM_MAX,
				       .fwd_cnt = VSP_DGRAM_REVISION,
			       });
}

/* Nobody in the guest is bound there. To another guest it can be said; AF_UNIX has no way to say it. */
static void bounced(struct vsd_guest *g, const struct vsp_hdr *hdr)
{
	struct vsd_guest *to = hdr->dst.cid == g->mux.params.host_cid ? NULL : vsd_sibling_find(g, hdr->dst.cid);

	g->dgrams.n.bounced++;
	if (!to || !to->dgrams.known || !vsp_budget_left(&to->mux.budget))
		return;
	vsock_mux_owe(&to->mux, *hdr);
	vsd_guest_wake(to);
}

void vsd_dgram_arrive(struct vsd_guest *g, const struct vsp_hdr *hdr, struct iovec *iov, u32 niov)
{
	const struct vsd_dgrams *d = &g->dgrams;

	if (hdr->op == VSP_OP_RW) {
		data(g, hdr, iov, niov);
		return;
	}
	vsd_dgram_interrupt(g);
	if (vsd_dgram_denied(g, hdr))
		return;
	if (hdr->op == VSP_OP_RST)
		bounced(g, hdr);
	else if (hdr->op == VSP_OP_CREDIT_REQUEST && at_probe(hdr) && !d->asked)
		answer_probe(g, hdr);
	else if (hdr->op == VSP_OP_CREDIT_UPDATE && at_probe(hdr) && d->asked)
		accept_answer(g, hdr);
	else
		g->mux.rejects[VSP_REJECT_STATE]++;
}

/* ---- to the guest ---- */

/* Take the next datagram of a socket. Its length, or -1: none. The payload is at d->out_data. */
static ssize_t receive(struct vsd_guest *g, struct vsd_dgram_sock *s, struct name *from)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct iovec iov = { .iov_base = d->out, .iov_len = VSD_DGRAM_PREFIX_MAX + VSP_DGRAM_MAX };
	struct msghdr mh = { .msg_name = &from->sa, .msg_namelen = sizeof(from->sa), .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	memset(from, 0, sizeof(*from));
	do {
		n = recvmsg(s->fd, &mh, MSG_DONTWAIT | MSG_TRUNC);
	} while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	from->len = mh.msg_namelen;
	d->out_data = d->out;
	return n;
}

/* A client's datagram begins with a line that says where it goes. False: it is dropped. */
static bool from_client(struct vsd_guest *g, const struct name *from, ssize_t n)
{
	struct vsd_dgrams *d = &g->dgrams;
	u32 scan = n < VSD_DGRAM_PREFIX_MAX ? (u32)n : VSD_DGRAM_PREFIX_MAX;
	struct vsd_command cmd = vsd_sendto_parse((const char *)d->out, scan);

	if (cmd.what != VSD_COMMAND_CONNECT || (size_t)n - cmd.len > VSP_DGRAM_MAX) {
		d->n.bad++;
		return false;
	}
	d->out_dst = vsd_session_address(g, &cmd);
	if (cmd.two)
		d->out_dst = (struct vsp_addr){ .cid = cmd.port, .port = cmd.second };
	if (g->mux.params.guest_cid != VSP_CID_ANY && d->out_dst.cid != g->mux.params.guest_cid) {
		d->n.bad++;
		return false;
	}
	if (!vsd_policy_allows(&g->opts->to_guest, d->out_dst.port)) {
		g->counters.denied++;
		return false;
	}
	d->out_data = d->out + cmd.len;
	d->out_len = (u32)n - cmd.len;
	d->out_src.port = client_port(g, from);
	return true;
}

/* An answer to a port of the guest; one that others may not send to hears only those that it sent to. */
static bool from_receiver(struct vsd_guest *g, struct vsd_dgram_sock *s, const struct name *from, ssize_t n)
{
	struct vsd_dgrams *d = &g->dgrams;
	u32 port;

	if (n > VSP_DGRAM_MAX) {
		d->n.bad++;
		return false;
	}
	port = client_port(g, from);
	if (port != s->last && !vsd_policy_allows(&g->opts->to_guest, s->at.port)) {
		g->counters.denied++;
		return false;
	}
	s->used = g->loop->now;
	d->out_len = (u32)n;
	d->out_dst = s->at;
	d->out_src.port = port;
	return true;
}

static bool from_sibling(struct vsd_guest *g, struct vsd_dgram_sock *s)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct vsd_dgram *e = pop(&s->queue);

	if (!e)
		return false;
	memcpy(d->out, e->bytes, e->len);
	d->out_data = d->out;
	d->out_len = e->len;
	d->out_src = e->src;
	d->out_dst = e->dst;
	free(e);
	return true;
}

/* What became of a turn to read. */
enum fetched { FETCHED, FETCHED_BAD, FETCHED_NOTHING };

static enum fetched fetch(struct vsd_guest *g, struct vsd_dgram_sock *s)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct name from;
	ssize_t n;

	if (!d->out)
		d->out = malloc(VSD_DGRAM_PREFIX_MAX + VSP_DGRAM_MAX);
	if (!d->out)
		return FETCHED_NOTHING;
	d->out_done = 0;
	d->out_src.cid = g->mux.params.host_cid;
	if (s->kind == VSD_DGRAM_SIBLING)
		return from_sibling(g, s) ? FETCHED : FETCHED_NOTHING;
	n = receive(g, s, &from);
	if (n < 0)
		return FETCHED_NOTHING;
	if (s->kind == VSD_DGRAM_CLIENTS_SOCK ? !from_client(g, &from, n) : !from_receiver(g, s, &from, n))
		return FETCHED_BAD;
	return FETCHED;
}

const u8 *vsd_dgram_next(struct vsd_guest *g, struct vsp_flow *f, u32 room, struct vsp_hdr *hdr)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct vsp_dgram_piece piece;
	const u8 *bytes;

	if (!d->midway) {
		enum fetched what = fetch(g, sock_of(f));

		if (what == FETCHED && (d->out_len > d->max || (!d->fragments && d->out_len > room))) {
			d->n.too_big++;
			what = FETCHED_BAD;
		}
		if (what == FETCHED_NOTHING)
			vsp_sched_remove(&g->mux.sched, f);
		else if (what == FETCHED_BAD)
			vsp_sched_charge(&g->mux.sched, f, 0, true);
		if (what != FETCHED)
			return NULL;
	}
	piece = vsp_dgram_piece_at(d->out_len, d->out_done, room < VSP_MAX_PAYLOAD ? room : VSP_MAX_PAYLOAD);
	bytes = d->out_data + d->out_done;
	*hdr = (struct vsp_hdr){
		.src = d->out_src,
		.dst = d->out_dst,
		.len = piece.len,
		.type = VSP_TYPE_DGRAM,
		.op = VSP_OP_RW,
		.buf_alloc = piece.buf_alloc,
		.fwd_cnt = piece.fwd_cnt,
	};
	d->out_done += piece.len;
	d->midway = d->out_done < d->out_len ? f : NULL;
	d->n.to_guest += !d->midway;
	/* It stays in the scheduler until its socket is empty; nobody else has a turn before the last piece. */
	vsp_sched_charge(&g->mux.sched, f, piece.len, true);
	return bytes;
}

/* ---- events ---- */

/* Does one that no event speaks for wait for room in the same send buffer? */
static bool others_wait(struct vsd_guest *g, const struct vsd_dgram_dest *t)
{
	const struct vsd_dgram_sock *s = sender_to(g, t);

	for (const struct vsd_dgram_dest *o = g->dgrams.dests; o; o = o->next) {
		if (o != t && o->blind && sender_to(g, o) == s)
			return true;
	}
	return false;
}

/* A receiver takes more. What it took is only free in a moment, and is for those first that no event speaks for. */
static void dest_event(struct vsd_guest *g, struct vsd_dgram_dest *t)
{
	if (t->queue.first && others_wait(g, t))
		t->blind = true;
	else
		flush_dest(g, t);
}

void vsd_dgram_event(struct vsd_watch *w)
{
	struct vsd_guest *g = w->guest;
	struct vsd_dgram_sock *s = (struct vsd_dgram_sock *)w;
	bool blind = flush_blind(g);

	if (w->source == VSD_SOURCE_DGRAM_DEST) {
		if (w->guest)
			dest_event(g, (struct vsd_dgram_dest *)w);
		return;
	}
	if (!blind && s->room_watched)
		watch_room(g, s, false);
	if (g->dgrams.known)
		vsp_sched_wake(&g->mux.sched, &s->flow);
	else if (!g->dgrams.answer_until)
		drop_all(g, s);
}

void vsd_dgram_negotiated(struct vsd_guest *g)
{
	struct vsd_dgrams *d = &g->dgrams;

	if (!d->on)
		return;
	g->mux.filter.types |= VSP_TYPES(VSP_TYPE_DGRAM);
	if (d->known || !(g->dev.features & VU_BIT(VSP_F_DGRAM)))
		return;
	d->known = true;
	d->fragments = false;
	d->max = VSP_DGRAM_MAX;
}

void vsd_dgram_forget(struct vsd_guest *g)
{
	struct vsd_dgrams *d = &g->dgrams;

	if (!d->on)
		return;
	d->known = false;
	d->asked = false;
	d->answer_until = 0;
	vsd_dgram_hold(g, false);
	d->n.no_guest += d->midway != NULL;
	d->midway = NULL;
	vsd_dgram_interrupt(g);
	vsp_sched_remove(&g->mux.sched, &d->clients_sock.flow);
	drop_all(g, &d->clients_sock);
	close_sources(g);
}

int vsd_dgram_start(struct vsd_guest *g)
{
	struct vsd_dgrams *d = &g->dgrams;
	struct name n;

	d->on = vsd_guest_has_datagrams(g->opts);
	if (!d->on)
		return 0;
	if (strlen(g->opts->uds_path) + VSD_DGRAM_SUFFIX_MAX >= sizeof(n.sa.sun_path)) {
		d->on = false;
		vsd_log(VSD_WARN, g->name, "no datagrams: --uds-path %s is longer than %zu bytes", g->opts->uds_path,
			sizeof(n.sa.sun_path) - 1 - VSD_DGRAM_SUFFIX_MAX);
		return 0;
	}
	n = name_of(g, "", 0, 0);
	d->clients_sock.fd = vsd_path_listen(g->name, "uds-path", n.sa.sun_path, SOCK_DGRAM, &g->opts->uds_access);
	if (d->clients_sock.fd < 0)
		return d->clients_sock.fd;
	return watch_sock(g, &d->clients_sock);
}

void vsd_dgram_stop(struct vsd_guest *g)
{
	struct vsd_dgrams *d = &g->dgrams;
	close_sources(g);
	while (d->dests)
		unlink_dest(g, d->dests);
	if (d->clients_sock.fd >= 0) {
		vsp_sched_remove(&g->mux.sched, &d->clients_sock.flow);
		close(d->clients_sock.fd);
		unlink(name_of(g, "", 0, 0).sa.sun_path);
	}
	vsd_dgram_bury(g);
	free(d->clients);
	free(d->slot_bytes);
	free(d->out);
}

void vsd_dgram_bury(struct vsd_guest *g)
{
	struct vsd_dgrams *d = &g->dgrams;

	while (d->dead_socks) {
		struct vsd_dgram_sock *s = d->dead_socks;

		d->dead_socks = s->next;
		free(s);
	}
	while (d->dead_dests) {
		struct vsd_dgram_dest *t = d->dead_dests;

		d->dead_dests = t->next;
		free(t);
	}
}
