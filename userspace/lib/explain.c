// SPDX-License-Identifier: BSD-2-Clause
/*
 * explain.c - errors in words
 *
 * The kernel's errno for vsock misleads: a closed port is "Connection reset by peer", an unknown CID "No such device".
 * Each text names the thing and the remedy; what cannot be told apart is said as such.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

enum { PRIVILEGED_PORTS = 1024 };

/* Where the text goes. */
struct text {
	char *buf;
	size_t size;
};

/* The parts of every text. */
struct words {
	char cid[32];			/* "CID 2 (host)" */
	char port[24];			/* "port 77" */
	char path[VSOCK_PATH_MAX + 24]; /* the Unix socket that was used */
	char source[32];		/* "source port 5" */
	const char *error;		/* strerror() */
};

static const char *cid_name(const struct vsock_addr *addr)
{
	if (addr->flags & VSOCK_ADDR_SELF)
		return " (self)";
	switch (addr->cid) {
	case VSOCK_CID_HYPERVISOR:
		return " (hypervisor)";
	case VSOCK_CID_LOCAL:
		return " (local)";
	case VSOCK_CID_HOST:
		return " (host)";
	default:
		return "";
	}
}

static struct words words_for(enum vsock_op op, const struct vsock_addr *addr, const struct vsock_options *options,
			      int err)
{
	struct words w = { .error = strerror(err) };
	int type = vsock_type(addr);
	const char *suffix = type == SOCK_SEQPACKET ? "_seqpacket" : type == SOCK_DGRAM ? "_dgram" : "";

	if (addr->flags & VSOCK_ADDR_SELF)
		snprintf(w.cid, sizeof(w.cid), "this machine's CID");
	else if (addr->cid == VSOCK_CID_ANY)
		snprintf(w.cid, sizeof(w.cid), "CID any");
	else
		snprintf(w.cid, sizeof(w.cid), "CID %u%s", addr->cid, cid_name(addr));
	if (addr->port == VSOCK_PORT_ANY)
		snprintf(w.port, sizeof(w.port), "port any");
	else
		snprintf(w.port, sizeof(w.port), "port %u", addr->port);
	if (op == VSOCK_OP_LISTEN)
		snprintf(w.path, sizeof(w.path), "%s%s_%u", addr->path, type == SOCK_DGRAM ? suffix : "", addr->port);
	else
		snprintf(w.path, sizeof(w.path), "%s%s", addr->path, suffix);
	if (options && options->local_port != VSOCK_PORT_ANY)
		snprintf(w.source, sizeof(w.source), "source port %u", options->local_port);
	else if (options && options->local_cid != VSOCK_CID_ANY)
		snprintf(w.source, sizeof(w.source), "source CID %u", options->local_cid);
	return w;
}

__attribute__((format(printf, 2, 3))) static void say(struct text out, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(out.buf, out.size, fmt, args);
	va_end(args);
}

/* What goes wrong alike for dialling and listening on AF_VSOCK; false if @err is not one of those. */
static bool explain_device(const struct vsock_addr *addr, const struct words *w, int err, struct text out)
{
	switch (err) {
	case EAFNOSUPPORT:
		say(out, "this kernel has no vsock: load the module vsock, or allow AF_VSOCK in the container's "
			 "seccomp profile");
		return true;
	case EPERM:
		say(out, "vsock is forbidden here: does a seccomp profile or a security module deny AF_VSOCK?");
		return true;
	case ENOENT:
		say(out, "there is no /dev/vsock to ask for this machine's CID: is the module vsock loaded?");
		return true;
	case EMFILE:
	case ENFILE:
		say(out, "too many open files: raise the limit (ulimit -n)");
		return true;
	case ESOCKTNOSUPPORT:
	case EPROTONOSUPPORT:
		say(out, "the device on the way to %s has no %s sockets: use a stream, or a newer driver and device",
		    w->cid, vsock_type(addr) == SOCK_SEQPACKET ? "seqpacket" : "such");
		return true;
	default:
		return false;
	}
}

static void explain_dial(const struct vsock_addr *addr, const struct words *w, int err, struct text out)
{
	bool reserved = addr->cid <= VSOCK_CID_HOST || addr->cid == VSOCK_CID_ANY;

	switch (err) {
	case ECONNRESET:
	case ECONNREFUSED:
		say(out, "nobody listens on %s of %s", w->port, w->cid);
		return;
	case ENODEV:
		if (vsock_type(addr) == SOCK_DGRAM)
			say(out,
			    "no datagrams here: the other end, or the driver, has none; use a stream or seqpacket");
		else if (addr->cid == VSOCK_CID_LOCAL)
			say(out, "no way to %s: load the module vsock_loopback", w->cid);
		else if (reserved)
			say(out, "no vsock device here: is the virtio-vsock driver loaded? is the VM started with a "
				 "vsock device?");
		else
			say(out,
			    "%s: no such guest, or no vsock device here: is the guest running? is vhost_vsock "
			    "loaded?",
			    w->cid);
		return;
	case ENETUNREACH:
	case EHOSTUNREACH:
		say(out,
		    "%s cannot be reached from here: guests reach 2 (host) and 1 (local), hosts reach the CIDs of "
		    "their guests",
		    w->cid);
		return;
	case EINVAL:
		say(out, "%s and %s cannot be connected to: name one CID and one port", w->cid, w->port);
		return;
	case ETIMEDOUT:
		say(out,
		    "no answer from %s of %s in time: is the guest running, and not just booting? is its "
		    "listener's backlog full?",
		    w->port, w->cid);
		return;
	case EACCES:
		say(out, "%s is privileged: use one from %d on, or run with CAP_NET_BIND_SERVICE",
		    w->source[0] ? w->source : w->port, PRIVILEGED_PORTS);
		return;
	case EADDRINUSE:
		say(out, "%s is in use: choose another, or none", w->source[0] ? w->source : "the source port");
		return;
	case EADDRNOTAVAIL:
		say(out, "%s does not belong to this machine: leave the source CID out",
		    w->source[0] ? w->source : "the source CID");
		return;
	default:
		say(out, "%s of %s: %s", w->port, w->cid, w->error);
	}
}

static void explain_listen(const struct vsock_addr *addr, const struct words *w, int err, struct text out)
{
	switch (err) {
	case EACCES:
		say(out, "%s is privileged: use one from %d on, or run with CAP_NET_BIND_SERVICE", w->port,
		    PRIVILEGED_PORTS);
		return;
	case EADDRINUSE:
		say(out, "%s of %s is in use: choose another port, or stop who listens there (ss --vsock -l -p)",
		    w->port, w->cid);
		return;
	case EADDRNOTAVAIL:
		if (addr->cid == VSOCK_CID_LOCAL)
			say(out, "%s is not here: load the module vsock_loopback, or listen on any", w->cid);
		else
			say(out, "%s does not belong to this machine: listen on any", w->cid);
		return;
	case ENODEV:
		say(out,
		    vsock_type(addr) == SOCK_DGRAM ?
			    "no datagrams here: the other end, or the driver, has none; use a stream or seqpacket" :
			    "no vsock device here: is the virtio-vsock driver loaded? is the VM started with a vsock "
			    "device?");
		return;
	default:
		say(out, "cannot listen on %s of %s: %s", w->port, w->cid, w->error);
	}
}

/* What goes wrong with a datagram only; the rest is as for dialling. False if @err is not one of those. */
static bool explain_dgram(enum vsock_op op, const struct vsock_addr *addr, const struct words *w, int err,
			  struct text out)
{
	bool send = op == VSOCK_OP_SEND;

	switch (err) {
	case EMSGSIZE:
		say(out, "a datagram has at most %d bytes, and no more than the send buffer takes", VSOCK_DGRAM_MAX);
		return true;
	case EAGAIN:
		say(out, send ? "there is no room for another datagram now: wait, and send it again" :
				"no datagram is there: wait for one, with poll");
		return true;
	case EINVAL:
		say(out, send ? "a datagram needs one port to go to, which a sender without a vsock address has not" :
				"of the flags only MSG_DONTWAIT and MSG_PEEK go with datagrams");
		return true;
	case ECONNREFUSED:
		if (addr->kind == VSOCK_KIND_HYBRID)
			return false;
		say(out, "nobody takes datagrams at %s of %s", w->port, w->cid);
		return true;
	default:
		return false;
	}
}

static void explain_hybrid_dial(const struct words *w, int err, struct text out)
{
	switch (err) {
	case ENOENT:
		say(out, "there is no socket %s: is vsockd running?", w->path);
		return;
	case ECONNREFUSED:
		say(out, "nobody answers at %s: is vsockd running?", w->path);
		return;
	case ECONNRESET:
		say(out, "the guest behind %s refused %s, or is not running (a Unix socket cannot tell these apart)",
		    w->path, w->port);
		return;
	case ETIMEDOUT:
		say(out, "no answer from %s for %s in time: is the guest still booting?", w->path, w->port);
		return;
	case EPROTO:
		say(out, "%s did not answer CONNECT with OK: is it the hybrid socket of a vsock device?", w->path);
		return;
	case EPROTOTYPE:
		say(out, "%s is a socket of another type: try without (or with) seqpacket", w->path);
		return;
	case EACCES:
		say(out, "no permission for %s: ask for write access to that socket and search access to its directory",
		    w->path);
		return;
	case EOPNOTSUPP:
		say(out, "a source address cannot be chosen through %s: vsockd chooses it", w->path);
		return;
	case ENAMETOOLONG:
		say(out, "the path %s is too long for a Unix socket (107 bytes): use a shorter directory", w->path);
		return;
	default:
		say(out, "%s, %s: %s", w->path, w->port, w->error);
	}
}

static void explain_hybrid_listen(const struct vsock_addr *addr, const struct words *w, int err, struct text out)
{
	switch (err) {
	case EADDRINUSE:
		say(out, "%s is in use: somebody listens there, or it is no socket; choose another port or remove it",
		    w->path);
		return;
	case ENOENT:
	case ENOTDIR:
		say(out, "the directory of %s does not exist: create it first", w->path);
		return;
	case EACCES:
	case EPERM:
	case EROFS:
		say(out, "no permission to create %s: ask for write access to its directory", w->path);
		return;
	case EINVAL:
		say(out, "a hybrid listener needs one port: %s_any cannot be found by guests", addr->path);
		return;
	case ENAMETOOLONG:
		say(out, "the path %s is too long for a Unix socket (107 bytes): use a shorter directory", w->path);
		return;
	default:
		say(out, "cannot listen at %s: %s", w->path, w->error);
	}
}

VSOCK_API char *vsock_explain(enum vsock_op op, const struct vsock_addr *addr, const struct vsock_options *options,
			      int err, char *buf, size_t size)
{
	bool dgram = op == VSOCK_OP_SEND || op == VSOCK_OP_RECEIVE;
	int code = err < 0 ? -err : err;
	struct vsock_addr at = *addr;
	struct text out = { buf, size };
	struct words w;

	if (dgram)
		at.type = SOCK_DGRAM;
	w = words_for(op, &at, options, code);
	if (dgram && explain_dgram(op, &at, &w, code, out))
		return buf;
	if (at.kind == VSOCK_KIND_HYBRID && op != VSOCK_OP_LISTEN)
		explain_hybrid_dial(&w, code, out);
	else if (at.kind == VSOCK_KIND_HYBRID)
		explain_hybrid_listen(&at, &w, code, out);
	else if (explain_device(&at, &w, code, out))
		return buf;
	else if (op != VSOCK_OP_LISTEN)
		explain_dial(&at, &w, code, out);
	else
		explain_listen(&at, &w, code, out);
	return buf;
}
