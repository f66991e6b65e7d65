/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vsock.h - libvsock: addresses, dialling, listening and datagrams for AF_VSOCK and for hybrid Unix sockets
 *
 * A vsock address is a context identifier (CID: which machine) and a port, both 32-bit numbers. On a host whose device
 * is a process (vsockd, Firecracker, cloud-hypervisor) there is no AF_VSOCK: guests are reached through a Unix socket
 * at PATH with one line, "CONNECT <port>\n" answered by "OK <port>\n", and guests reach port P of the host at PATH_P.
 * That is called hybrid; struct vsock_addr holds either kind. A guest that is a process (vguest) has a PATH of the same
 * kind for its own programs: there the other end is the host.
 *
 * Rules for every function: a failure is returned as -errno and errno itself is not promised to hold anything; no
 * function keeps a pointer of the caller's, allocates memory that the caller must free, or touches signals; all are
 * thread-safe. Descriptors that are returned are blocking, close-on-exec and belong to the caller.
 */
#ifndef VSOCK_VSOCK_H
#define VSOCK_VSOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VSOCK_CID_ANY 0xffffffffu
#define VSOCK_CID_HYPERVISOR 0u
#define VSOCK_CID_LOCAL 1u
#define VSOCK_CID_HOST 2u
#define VSOCK_PORT_ANY 0xffffffffu

/* Bytes that a canonical address, and any message of this library, fit into, the final 0 included. */
#define VSOCK_TEXT_MAX 320
/* Bytes of a Unix socket's path, the final 0 included (the kernel's limit). */
#define VSOCK_PATH_MAX 108
/* Bytes of the longest datagram. */
#define VSOCK_DGRAM_MAX 65536

enum vsock_kind {
	VSOCK_KIND_VSOCK,  /* AF_VSOCK: cid and port */
	VSOCK_KIND_HYBRID, /* a Unix socket: path and port; cid is VSOCK_CID_ANY, but for datagrams */
};

/* Bits of vsock_addr.flags. */
#define VSOCK_ADDR_SELF 1u /* the name "self": vsock_resolve() puts this machine's CID into cid */

/**
 * struct vsock_addr - where to dial or to listen
 * @kind: which of the other fields count
 * @type: SOCK_STREAM, SOCK_SEQPACKET or SOCK_DGRAM, or 0 where the spelling left it open (then: SOCK_STREAM)
 * @cid: 0 .. 0xffffffff; VSOCK_CID_ANY as the destination of a hybrid datagram: the guest (vsockd), the host (vguest)
 * @port: 0 .. 0xffffffff; VSOCK_PORT_ANY lets the kernel choose when listening on AF_VSOCK, and vsockd for datagrams
 * @flags: VSOCK_ADDR_*
 * @path: the hybrid socket's path, 0-terminated; a leading '@' is an abstract name
 */
struct vsock_addr {
	enum vsock_kind kind;
	int type;
	uint32_t cid;
	uint32_t port;
	uint32_t flags;
	char path[VSOCK_PATH_MAX];
};

/* Flags of vsock_parse(). */
#define VSOCK_PARSE_LISTEN 1u /* a lone number is a port of any CID, not a CID */

/**
 * vsock_parse - read an address in any spelling in use
 * @text: "vsock:CID:PORT", "vsock::PORT" (any CID), "vsock://CID:PORT", "vsock-stream:", "vsock-seqpacket:" or
 *	"vsock-dgram:" and the same, "CID:PORT", "CID", "vsock/CID", "vsock%CID", and the hybrid "vsock-mux/PATH",
 *	"vsock-mux:PATH:PORT", "unix:PATH:PORT", "hvsock://PATH:PORT". CIDs are decimal, 0x hexadecimal, or one of
 *	any (also -1), hypervisor (0), local (1), host (2), self. Ports are decimal, 0x hexadecimal, or any (also -1).
 *	The path after "vsock-mux/" is absolute unless it starts with a dot, as in systemd-ssh-proxy(1).
 * @port: the port, where it is a word of its own; NULL where it is part of @text
 * @flags: VSOCK_PARSE_*
 * @addr: filled on success, untouched otherwise
 * @why: receives what is wrong and what to write instead, at most @why_size bytes with the final 0; may be NULL
 *
 * No system call is made. Return: 0; -EINVAL for a wrong spelling, -ERANGE for a number beyond 32 bits, -ENAMETOOLONG
 * for a path that a Unix socket cannot have.
 */
int vsock_parse(const char *text, const char *port, unsigned int flags, struct vsock_addr *addr, char *why,
		size_t why_size);

/**
 * vsock_parse_cid - read a CID alone, as vsock_parse() does
 * @text: the CID
 * @addr: cid and flags are filled on success
 * @why: as for vsock_parse()
 *
 * Return: 0, -EINVAL or -ERANGE.
 */
int vsock_parse_cid(const char *text, struct vsock_addr *addr, char *why, size_t why_size);

/**
 * vsock_parse_port - read a port alone, as vsock_parse() does
 *
 * Return: 0, -EINVAL or -ERANGE.
 */
int vsock_parse_port(const char *text, uint32_t *port, char *why, size_t why_size);

/**
 * vsock_format - write an address in its one canonical spelling, which vsock_parse() reads back
 * @buf: receives "vsock:CID:PORT", "vsock-seqpacket:...", "vsock-dgram:..." or "vsock-mux:PATH:PORT", which is
 *	without a type and a CID
 * @size: bytes of @buf; VSOCK_TEXT_MAX always suffices
 *
 * Return: the length without the final 0, or -ENOSPC (then @buf holds "" if @size is not 0).
 */
int vsock_format(const struct vsock_addr *addr, char *buf, size_t size);

/**
 * vsock_local_cid - ask /dev/vsock for the CID of this machine
 *
 * VSOCK_CID_HOST on a host, VSOCK_CID_ANY where no device gave one. Return: 0, or -errno (-ENOENT: no vsock module).
 */
int vsock_local_cid(uint32_t *cid);

/**
 * vsock_resolve - replace the name "self" by this machine's CID
 *
 * vsock_dial(), vsock_listen() and vsock_sendto() do this themselves, on a copy. Return: 0, or what vsock_local_cid()
 * returns.
 */
int vsock_resolve(struct vsock_addr *addr);

/**
 * struct vsock_options - how to dial or to listen; start from VSOCK_OPTIONS_INIT
 * @timeout_ms: dial: give up after so many milliseconds; 0: the kernel's default (2 s) for AF_VSOCK, none for hybrid
 * @local_cid, @local_port: dial: bind the source first, AF_VSOCK only; VSOCK_CID_ANY and VSOCK_PORT_ANY do not
 * @buffer_size: bytes that this end lets its peer send ahead; 0: the default. SO_VM_SOCKETS_BUFFER_* on AF_VSOCK,
 *	SO_RCVBUF and SO_SNDBUF on a Unix socket
 * @backlog: listen: connections that may wait for accept; 0: 128
 * @reserved: 0
 */
struct vsock_options {
	uint32_t timeout_ms;
	uint32_t local_cid;
	uint32_t local_port;
	uint32_t backlog;
	uint64_t buffer_size;
	uint64_t reserved[4];
};
#define VSOCK_OPTIONS_INIT { 0, VSOCK_CID_ANY, VSOCK_PORT_ANY, 0, 0, { 0, 0, 0, 0 } }

/**
 * vsock_dial - connect
 * @addr: where to
 * @options: NULL for the defaults
 *
 * Hybrid: returns once "OK <port>" was read, and not one byte more than that line; a SOCK_SEQPACKET flow dials
 * PATH_seqpacket and sends the same line as a record.
 *
 * SOCK_DGRAM: a socket that hears this address alone, for vsock_sendto() and vsock_recvfrom(). Hybrid: it hears all
 * that comes through PATH_dgram, and nobody else of this machine; that somebody is bound at the port is not known. It
 * has an abstract name, which a vsockd in a strict sandbox cannot answer: to such a one, vsock_listen() at a port.
 *
 * Return: a descriptor, or -errno. Besides those of connect(2): -ECONNRESET nobody listens there, -ENODEV no device or
 * no such CID, -ETIMEDOUT, -EPROTO the hybrid socket answered something else, -EOPNOTSUPP a source address through a
 * hybrid socket, -ENAMETOOLONG. vsock_explain() has the words.
 */
int vsock_dial(const struct vsock_addr *addr, const struct vsock_options *options);

/**
 * vsock_listen - bind and listen; SOCK_DGRAM: bind
 * @addr: where; hybrid: a Unix socket is created at PATH_PORT, or at PATH_dgram_PORT, and the path must be spelt as
 *	vsockd or vguest has it
 * @options: NULL for the defaults
 *
 * Hybrid: a stale socket in the way is removed, after an attempt to connect showed that nobody answers there. Two
 * processes that replace the same stale socket in the same instant are not kept apart. The socket's name is not removed
 * when the descriptor is closed; see vsock_listen_path().
 *
 * SOCK_DGRAM: a socket for vsock_sendto(), to many, and vsock_recvfrom(), from all. Hybrid with VSOCK_PORT_ANY: none
 * is created, and what is sent comes from a port that vsockd or vguest chooses, and takes back after 60 seconds of
 * silence.
 *
 * Return: a descriptor, or -errno as bind(2), -EINVAL for a hybrid port "any" of another type.
 */
int vsock_listen(const struct vsock_addr *addr, const struct vsock_options *options);

/**
 * vsock_listen_path - the name that vsock_listen() creates for a hybrid address, for unlink(2)
 *
 * Return: its length, -ENAMETOOLONG, or -EINVAL where there is none (AF_VSOCK, an abstract name).
 */
int vsock_listen_path(const struct vsock_addr *addr, char *buf, size_t size);

/**
 * vsock_accept - accept a connection
 * @fd: from vsock_listen()
 * @peer: receives who connected, may be NULL; hybrid: cid and port are VSOCK_CID_ANY, a Unix socket does not tell
 *
 * Return: a descriptor, or -errno as accept(2).
 */
int vsock_accept(int fd, struct vsock_addr *peer);

/**
 * vsock_local - the address that a descriptor is bound to
 *
 * For an AF_VSOCK descriptor only. Return: 0, -EAFNOSUPPORT for another family, or -errno as getsockname(2).
 */
int vsock_local(int fd, struct vsock_addr *addr);

/**
 * vsock_sendto - send a datagram
 * @fd: of type SOCK_DGRAM, from vsock_dial() or vsock_listen()
 * @bytes, @len: the datagram; it may be empty
 * @flags: 0, or MSG_DONTWAIT of send(2)
 * @to: where to, of the same kind as what @fd was made from; its type does not matter. What vsock_recvfrom() gave is
 *	an answer. Its path may be another than that of @fd, but what was dialled hears nothing from there.
 *
 * Best effort: that it was sent does not say that it arrived. Blocks while there is no room for it, like send(2); a
 * hybrid socket that was not dialled is always writable for poll(2).
 *
 * Return: 0, or -errno. Besides those of send(2): -EMSGSIZE more than VSOCK_DGRAM_MAX bytes, -EINVAL a port "any",
 * -ECONNREFUSED nobody was bound for an earlier one (AF_VSOCK, dialled), or vsockd has ended (hybrid); the next call
 * may succeed.
 */
int vsock_sendto(int fd, const void *bytes, size_t len, int flags, const struct vsock_addr *to);

/**
 * vsock_recvfrom - receive a datagram
 * @fd: of type SOCK_DGRAM, from vsock_dial() or vsock_listen()
 * @bytes, @size: where to; behind a datagram that is shorter, their content is lost
 * @flags: 0, or MSG_DONTWAIT and MSG_PEEK of recv(2)
 * @from: receives who sent it, may be NULL. Hybrid: cid is that of the sender, path that of its device as vsockd or
 *	vguest spells it. A program of this machine that sent to the Unix socket itself has cid and port "any" and an
 *	empty path, and cannot be answered; but one may claim to be anybody if it can make such a name.
 *
 * Return: the datagram's length, 0 for an empty one; more than @size: it was cut, and @size bytes of it are there. Or
 * -errno as recv(2).
 */
int vsock_recvfrom(int fd, void *bytes, size_t size, int flags, struct vsock_addr *from);

enum vsock_op {
	VSOCK_OP_DIAL,
	VSOCK_OP_LISTEN,
	VSOCK_OP_SEND,
	VSOCK_OP_RECEIVE,
};

/**
 * vsock_explain - say in words what an error means and what to do about it
 * @op: what failed
 * @addr, @options: what vsock_dial() or vsock_listen() was called with; @options may be NULL. Send: where to. Receive:
 *	what the socket was made from
 * @err: what it returned (the sign does not matter)
 * @buf: receives one line without a newline, cut to @size
 *
 * Return: @buf.
 */
char *vsock_explain(enum vsock_op op, const struct vsock_addr *addr, const struct vsock_options *options, int err,
		    char *buf, size_t size);

/* The library's version, for example "0.1". */
const char *vsock_version(void);

#ifdef __cplusplus
}
#endif
#endif
