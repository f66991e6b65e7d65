// SPDX-License-Identifier: BSD-2-Clause
/*
 * Datagrams between a guest and host programs: whole and once, or counted. What AF_UNIX can express of the table in
 * docs/PROTOCOL.md is tested here.
 */
#include "fixture.h"
#include "storm.h"
#include "tests.h"

#include "kernel/proto/dgram.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	HOST_PORT = 7000,
	GUEST_PORT = 5000,
	NOBODY = 7999,
	UNIX_QUEUE = 11,   /* datagrams that wait in a Unix socket by default */
	QUEUE = 256 << 10, /* bytes that vsockd keeps for a receiver, each datagram counting COST more */
	COST = 256,
	QUEUES = 1 << 20, /* for all of them */
	REFUSALS = 100,	  /* resets a second */
	SPIN_MS = 300,	  /* for so long it is seen whether the daemon sleeps */
	IN_FLIGHT = 3,	  /* datagrams of any size that a sender may have in Unix queues without waiting */
};

static struct fix f[2];
static u8 stuff[VSP_DGRAM_MAX + 100], got[VSP_DGRAM_MAX + 100];

static void fill(u32 seed)
{
	for (u32 i = 0; i < sizeof(stuff); i++)
		stuff[i] = fix_byte(i, seed);
}

static struct vsp_hdr hdr_to(u32 cid, u32 host_port, u32 guest_port, enum vsp_op op, u32 len)
{
	struct vsp_hdr hdr = {
		.src = { .cid = CID, .port = guest_port },
		.dst = { .cid = cid, .port = host_port },
		.len = len,
		.type = VSP_TYPE_DGRAM,
		.op = (u16)op,
	};

	return hdr;
}

static void send_hdr(struct vsp_hdr hdr, u32 offset)
{
	CHECK(peer_send(&f->peer, hdr, stuff + offset, hdr.len, PEER_TWO));
}

/* Send @len bytes of stuff as one packet. */
static void guest_send(u32 host_port, u32 guest_port, u32 len)
{
	send_hdr(hdr_to(VSP_CID_HOST, host_port, guest_port, VSP_OP_RW, len), 0);
}

static void fragment(u32 total, u32 offset, u32 len)
{
	struct vsp_hdr hdr = hdr_to(VSP_CID_HOST, HOST_PORT, GUEST_PORT, VSP_OP_RW, len);

	hdr.buf_alloc = total;
	hdr.fwd_cnt = offset;
	send_hdr(hdr, offset);
}

static struct vsp_hdr expect(struct fix *who, enum vsp_op op)
{
	struct vsp_hdr hdr;

	CHECK(peer_recv(&who->peer, &hdr, got, PEER_WAIT_MS));
	CHECK(hdr.type == VSP_TYPE_DGRAM && hdr.op == op && hdr.flags == 0 && hdr.dst.cid == who->cid);
	return hdr;
}

/* The probe, and its answer. */
static void probe(struct fix *who, u32 revision)
{
	struct vsp_hdr hdr = {
		.src = { .cid = who->cid, .port = VSP_PORT_ANY },
		.dst = { .cid = VSP_CID_HOST, .port = VSP_PORT_ANY },
		.type = VSP_TYPE_DGRAM,
		.op = VSP_OP_CREDIT_REQUEST,
		.buf_alloc = VSP_DGRAM_MAX,
		.fwd_cnt = revision,
	};

	CHECK(peer_send(&who->peer, hdr, NULL, 0, PEER_ONE));
	hdr = expect(who, VSP_OP_CREDIT_UPDATE);
	CHECK(hdr.src.port == VSP_PORT_ANY && hdr.dst.port == VSP_PORT_ANY && hdr.len == 0);
	CHECK(hdr.buf_alloc == VSP_DGRAM_MAX && hdr.fwd_cnt == VSP_DGRAM_REVISION);
}

static void begin(u32 ring, u32 buffer, const char *const *args)
{
	fill(1);
	fix_daemon(f, args);
	fix_guest(f, ring, buffer);
	probe(f, VSP_DGRAM_REVISION);
}

/* A host program's socket named uds_SUFFIX; without a name for NULL. */
static int host_socket(const char *suffix)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = PEER_WAIT_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (suffix) {
		snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_%s", f->uds, suffix);
		CHECK(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	}
	return fd;
}

static int host_port(u32 port)
{
	char suffix[32];

	snprintf(suffix, sizeof(suffix), "dgram_%u", port);
	return host_socket(suffix);
}

/* Send @len bytes of stuff to @port of the guest as a client does. */
static ssize_t client_send(int fd, u32 port, u32 len)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char line[32];
	struct iovec iov[2] = { { line, (size_t)snprintf(line, sizeof(line), "SENDTO %u\n", port) }, { stuff, len } };
	struct msghdr mh = { .msg_name = &sa, .msg_namelen = sizeof(sa), .msg_iov = iov, .msg_iovlen = 2 };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_dgram", f->uds);
	return sendmsg(fd, &mh, MSG_NOSIGNAL);
}

/* A datagram of @len bytes of stuff arrives at the host; @from is its sender's name. */
static void host_expect(int fd, u32 len, struct sockaddr_un *from)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t sa_len = sizeof(sa);

	CHECK(recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&sa, &sa_len) == (ssize_t)len);
	CHECK(!memcmp(got, stuff, len));
	if (from)
		*from = sa;
}

/* A datagram of @len bytes of stuff arrives at the guest, in as many pieces as it takes; returns its first header. */
static struct vsp_hdr guest_expect(struct fix *who, u32 len)
{
	struct vsp_hdr hdr = expect(who, VSP_OP_RW), first = hdr;
	u32 have = 0;

	CHECK(hdr.buf_alloc == (hdr.len < len ? len : 0));
	for (;;) {
		CHECK(hdr.fwd_cnt == have && hdr.len <= len - have && !memcmp(got, stuff + have, hdr.len));
		CHECK(vsp_addr_eq(hdr.src, first.src) && vsp_addr_eq(hdr.dst, first.dst));
		have += hdr.len;
		if (have == len)
			return first;
		hdr = expect(who, VSP_OP_RW);
		CHECK(hdr.buf_alloc == len && hdr.len);
	}
}

static const u32 sizes[] = { 0, 1, 43, 44, 3732, 3733, 4096, 4097, 32767, 65535, 65536 };

/* The guest's datagrams arrive bare, and plain answers go back to where they came from. */
static void arrives_and_is_answered(void)
{
	struct sockaddr_un from;
	struct vsp_hdr hdr;
	char name[120];
	int fd;

	begin(128, 3776, NULL);
	fd = host_port(HOST_PORT);
	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		guest_send(HOST_PORT, GUEST_PORT, sizes[i]);
		host_expect(fd, sizes[i], &from);
		snprintf(name, sizeof(name), "%s_dgram@%u.%u", f->uds, CID, GUEST_PORT);
		CHECK(!strcmp(from.sun_path, name));
		CHECK(sendto(fd, stuff, sizes[i], 0, (struct sockaddr *)&from, sizeof(from)) == (ssize_t)sizes[i]);
		hdr = guest_expect(f, sizes[i]);
		CHECK(hdr.src.cid == VSP_CID_HOST && hdr.src.port == HOST_PORT && hdr.dst.port == GUEST_PORT);
	}
	fix_reject(f, "dgrams_from_guest", ARRAY_SIZE(sizes));
	fix_reject(f, "dgrams_to_guest", ARRAY_SIZE(sizes));
	close(fd);
	fix_end(f);
	CHECK(access(name, F_OK) && errno == ENOENT);
}

/* The name that answers go to is somebody else's: it stays that one's until nobody answers there. */
static void name_is_taken(void)
{
	char suffix[32], path[120];
	struct stat before, after;
	int fd, taken;

	begin(128, 3776, NULL);
	snprintf(suffix, sizeof(suffix), "dgram@%u.%u", CID, GUEST_PORT);
	snprintf(path, sizeof(path), "%s_%s", f->uds, suffix);
	taken = host_socket(suffix);
	fd = host_port(HOST_PORT);
	CHECK(!stat(path, &before));
	guest_send(HOST_PORT, GUEST_PORT, 10);
	fix_await_said(f, path, 1);
	CHECK(!stat(path, &after) && before.st_ino == after.st_ino);
	close(taken);
	guest_send(HOST_PORT, GUEST_PORT, 11);
	host_expect(fd, 11, NULL);
	fix_end(f);
}

/* One port of the guest talks to two of the host, and each answer says which one it comes from. */
static void ports_are_kept_apart(void)
{
	int fd[2];
	struct sockaddr_un from;

	begin(128, 3776, NULL);
	for (u32 i = 0; i < 2; i++)
		fd[i] = host_port(HOST_PORT + i);
	for (u32 i = 0; i < 2; i++) {
		guest_send(HOST_PORT + i, GUEST_PORT, 100 + i);
		host_expect(fd[i], 100 + i, &from);
		CHECK(sendto(fd[i], stuff, 200 + i, 0, (struct sockaddr *)&from, sizeof(from)) == 200 + (ssize_t)i);
		CHECK(guest_expect(f, 200 + i).src.port == HOST_PORT + i);
	}
	fix_end(f);
}

/* A host client's datagrams carry a line, and so do the answers that it gets. */
static void clients(void)
{
	struct vsp_hdr hdr;
	char line[32];
	size_t len;
	int fd, other;

	begin(128, 3776, NULL);
	fd = host_socket("client");
	other = host_socket("other");
	len = (size_t)snprintf(line, sizeof(line), "FROM %u %u\n", CID, GUEST_PORT);
	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		u32 port;

		CHECK(client_send(fd, GUEST_PORT, sizes[i]) > 0);
		hdr = guest_expect(f, sizes[i]);
		CHECK(hdr.src.port >= 1u << 30 && hdr.dst.port == GUEST_PORT);
		port = hdr.src.port;
		CHECK(client_send(other, GUEST_PORT, 1) > 0);
		CHECK(guest_expect(f, 1).src.port != port);
		CHECK(client_send(fd, GUEST_PORT, 2) > 0);
		CHECK(guest_expect(f, 2).src.port == port);
		guest_send(port, GUEST_PORT, sizes[i]);
		CHECK(recv(fd, got, sizeof(got), 0) == (ssize_t)(len + sizes[i]));
		CHECK(!memcmp(got, line, len) && !memcmp(got + len, stuff, sizes[i]));
	}
	fix_end(f);
}

/* A client whose name is that of a port has that port; one without a name has one that nobody can answer. */
static void names_of_clients(void)
{
	struct vsp_hdr hdr;
	int fd;

	begin(128, 3776, NULL);
	fd = host_port(HOST_PORT);
	CHECK(client_send(fd, GUEST_PORT, 10) > 0);
	CHECK(guest_expect(f, 10).src.port == HOST_PORT);
	guest_send(HOST_PORT, GUEST_PORT, 11);
	host_expect(fd, 11, NULL);
	CHECK(client_send(host_socket(NULL), GUEST_PORT, 12) > 0);
	hdr = guest_expect(f, 12);
	guest_send(hdr.src.port, GUEST_PORT, 13);
	hdr = expect(f, VSP_OP_RST);
	CHECK(hdr.len == 0 && hdr.dst.port == GUEST_PORT);
	fix_end(f);
}

/* What a line FROM has may stand in a line SENDTO: the guest, and its port. */
static void answers_to_a_line(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct vsp_hdr hdr;
	char line[32];
	int fd, len;

	begin(128, 3776, NULL);
	fd = host_socket("client");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_dgram", f->uds);
	for (u32 cid = CID - 1; cid <= CID + 1; cid++) {
		len = snprintf(line, sizeof(line), "SENDTO %u %u\nhello", cid, GUEST_PORT);
		CHECK(sendto(fd, line, (size_t)len, 0, (struct sockaddr *)&sa, sizeof(sa)) == len);
	}
	hdr = expect(f, VSP_OP_RW);
	CHECK(hdr.dst.port == GUEST_PORT && hdr.len == 5 && !memcmp(got, "hello", 5));
	fix_reject(f, "dgrams_bad", 2);
	fix_reject(f, "dgrams_to_guest", 1);
	fix_end(f);
}

/* What is no SENDTO is dropped and counted. */
static void bad_clients(void)
{
	static const char *const lines[] = { "",
					     "SENDTO\n",
					     "SENDTO 5000",
					     "SENDTO -1\n",
					     "SENDTO 4294967295\n",
					     "CONNECT 5000\n",
					     "SENDTO 5000 6000000000000000000000000000\n" };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	begin(128, 3776, NULL);
	fd = host_socket("client");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_dgram", f->uds);
	for (u32 i = 0; i < ARRAY_SIZE(lines); i++)
		CHECK(sendto(fd, lines[i], strlen(lines[i]), 0, (struct sockaddr *)&sa, sizeof(sa)) >= 0);
	fix_reject(f, "dgrams_bad", ARRAY_SIZE(lines));
	CHECK(client_send(fd, GUEST_PORT, VSP_DGRAM_MAX + 1) > 0);
	fix_reject(f, "dgrams_bad", ARRAY_SIZE(lines) + 1);
	CHECK(client_send(fd, GUEST_PORT, 100) > 0);
	guest_expect(f, 100);
	fix_end(f);
}

/* Nobody is bound: a reset, but not one for each datagram of a flood, and none for a reset. */
static void nobody_bound(void)
{
	u64 began = fix_now_ms(), seconds;
	struct vsp_hdr hdr;
	u32 resets = 0;

	begin(128, 3776, NULL);
	guest_send(NOBODY, GUEST_PORT, 10);
	hdr = expect(f, VSP_OP_RST);
	CHECK(hdr.src.cid == VSP_CID_HOST && hdr.src.port == NOBODY && hdr.dst.port == GUEST_PORT && hdr.len == 0);
	send_hdr(hdr_to(VSP_CID_HOST, NOBODY, GUEST_PORT, VSP_OP_RST, 0), 0);
	for (u32 i = 0; i < 5000; i++) {
		guest_send(NOBODY, GUEST_PORT + i, 10);
		resets += peer_recv(&f->peer, &hdr, got, 0);
	}
	fix_reject(f, "dgrams_unbound", 5001);
	seconds = (fix_now_ms() - began) / 1000 + 1;
	while (peer_recv(&f->peer, &hdr, got, 50)) {
		CHECK(hdr.op == VSP_OP_RST);
		resets++;
	}
	CHECK(resets >= REFUSALS / 2 && resets <= REFUSALS * (seconds + 1));
	fix_reject(f, "dgrams_bounced", 1);
	fix_end(f);
}

/* Fragments, as a guest without much memory sends them; and every way in which they can be wrong. */
static void fragments(void)
{
	int fd;

	begin(128, 3776, NULL);
	fd = host_port(HOST_PORT);
	fragment(65536, 0, 1);
	fragment(65536, 1, 65534);
	fragment(65536, 65535, 1);
	host_expect(fd, 65536, NULL);
	/* an overlap; the rest continues nothing */
	fragment(3000, 0, 1000);
	fragment(3000, 999, 1000);
	fragment(3000, 2000, 1000);
	/* a total that changes */
	fragment(3000, 0, 1000);
	fragment(4000, 1000, 2000);
	/* a hole */
	fragment(3000, 0, 1000);
	fragment(3000, 1001, 1999);
	/* a new one before the end */
	fragment(3000, 0, 1000);
	fragment(2000, 0, 1000);
	/* another packet between; more than there is; no progress; too much */
	send_hdr(hdr_to(VSP_CID_HOST, NOBODY, GUEST_PORT, VSP_OP_RST, 0), 0);
	fragment(3000, 1000, 2001);
	fragment(3000, 0, 0);
	fragment(VSP_DGRAM_MAX + 1, 0, 1000);
	fragment(0, 1, 1000);
	/* and one that is right */
	fragment(2000, 0, 1000);
	fragment(2000, 1000, 1000);
	host_expect(fd, 2000, NULL);
	fix_reject(f, "dgrams_cut", 5);
	fix_reject(f, "dgram_order", 5);
	fix_reject(f, "dgram_size", 3);
	CHECK(recv(fd, got, sizeof(got), MSG_DONTWAIT) < 0 && errno == EAGAIN);
	fix_end(f);
}

/* A stream's packet between two fragments ends the datagram, and neither harms the other. */
static void fragments_and_streams(void)
{
	int fd, listener, conn;
	struct vsp_hdr hdr;

	begin(128, 3776, NULL);
	fd = host_port(HOST_PORT);
	listener = fix_listener(f, 1000);
	conn = fix_open(f, listener, 1000, 50);
	fragment(2000, 0, 1000);
	hdr = fix_hdr(1000, 50, VSP_OP_RW);
	hdr.len = 100;
	CHECK(peer_send(&f->peer, hdr, stuff, 100, PEER_TWO));
	fragment(2000, 1000, 1000);
	CHECK(fix_read(conn, got, 100) == 100 && !memcmp(got, stuff, 100));
	guest_send(HOST_PORT, GUEST_PORT, 70);
	host_expect(fd, 70, NULL);
	fix_reject(f, "dgrams_cut", 1);
	fix_end(f);
}

/* The largest datagram to the host, in pieces of @piece bytes. */
static void send_in_pieces(u32 piece)
{
	for (u32 at = 0, n; at < VSP_DGRAM_MAX; at += n) {
		n = piece < VSP_DGRAM_MAX - at ? piece : VSP_DGRAM_MAX - at;
		fragment(n < VSP_DGRAM_MAX ? VSP_DGRAM_MAX : 0, at, n);
	}
}

/* Fragments at random: each packet is delivered, part of what is delivered, or counted; memory is for one datagram. */
static void storm_of_fragments(void)
{
	static const char *const bad[] = { "dgram_order", "dgram_size", "dgram_flags" };
	struct storm s = { 0 };
	const u32 packets = 20000;
	u32 state = 815, came = 0;
	u64 before, counted = 0;
	int fd[2];

	begin(128, 3776, NULL);
	for (u32 i = 0; i < 2; i++)
		fd[i] = host_port(HOST_PORT + i);
	before = fix_status(f, "RssAnon:");
	for (u32 i = 0; i < packets; i++) {
		struct vsp_hdr h;

		state = state * 1664525 + 1013904223;
		h = storm_next(&s, hdr_to(VSP_CID_HOST, HOST_PORT, GUEST_PORT, VSP_OP_RW, 0), state);
		storm_add(&s, &h);
		send_hdr(h, 0);
		for (u32 k = 0; k < 2; k++)
			came += recv(fd[k], got, sizeof(got), MSG_DONTWAIT) >= 0;
	}
	CHECK(s.whole > 1000 && s.cut > 1000 && s.bad > 1000);
	fix_reject(f, "packets_from_guest", packets + 1);
	for (s.whole -= (u32)fix_counter(f, "dgrams_full"); came < s.whole;) {
		struct pollfd either[2] = { { .fd = fd[0], .events = POLLIN }, { .fd = fd[1], .events = POLLIN } };

		CHECK(poll(either, 2, PEER_WAIT_MS) > 0);
		for (u32 k = 0; k < 2; k++)
			came += recv(fd[k], got, sizeof(got), MSG_DONTWAIT) >= 0;
	}
	for (u32 i = 0; i < ARRAY_SIZE(bad); i++)
		counted += fix_counter(f, bad[i]);
	CHECK(came == s.whole && fix_counter(f, "dgrams_cut") == s.cut && counted == s.bad);
	CHECK(fix_status(f, "RssAnon:") - before < (QUEUES >> 10) + 256 + FIX_SANITIZER_KIB);
	fix_end(f);
}

/* Datagrams of the largest size both ways through rings and buffers of each size: their pieces follow each other. */
static void rings_and_buffers(void)
{
	static const u32 buffers[] = { 1000, 4096, 65536, 65536 + VSP_HDR_LEN };

	for (u32 i = 0; i < ARRAY_SIZE(buffers); i++) {
		for (u32 ring = 2; ring <= 1024; ring *= 2) {
			int fd, sink;

			begin(ring, buffers[i], NULL);
			fd = host_socket("client");
			sink = host_port(HOST_PORT);
			for (u32 k = 0; k < 3; k++) {
				CHECK(client_send(fd, GUEST_PORT, VSP_DGRAM_MAX) > 0);
				CHECK(client_send(fd, GUEST_PORT, k) > 0);
				guest_expect(f, VSP_DGRAM_MAX);
				guest_expect(f, k);
				send_in_pieces(buffers[i] - VSP_HDR_LEN);
				host_expect(sink, VSP_DGRAM_MAX, NULL);
			}
			close(fd);
			close(sink);
			fix_end(f);
		}
	}
}

/* A guest that only took the feature bit has no fragments: what does not fit one buffer is dropped. */
static void bit_without_probe(void)
{
	int fd;

	fill(1);
	fix_daemon(f, NULL);
	CHECK(!peer_open(&f->peer, f->socket, 128, 3776, false, FEATURES | VU_BIT(VSP_F_DGRAM)));
	fd = host_port(HOST_PORT);
	guest_send(HOST_PORT, GUEST_PORT, 100);
	host_expect(fd, 100, NULL);
	CHECK(client_send(fd, GUEST_PORT, 3776 - VSP_HDR_LEN + 1) > 0);
	CHECK(client_send(fd, GUEST_PORT, 3776 - VSP_HDR_LEN) > 0);
	guest_expect(f, 3776 - VSP_HDR_LEN);
	fix_reject(f, "dgrams_too_big", 1);
	fix_end(f);
}

/* Nobody who sends to a guest without datagrams, or to none, waits for it. */
static void guest_without(void)
{
	int fd;

	fill(1);
	fix_daemon(f, NULL);
	fd = host_socket("client");
	for (u32 i = 0; i < 3 * UNIX_QUEUE; i++)
		CHECK(client_send(fd, GUEST_PORT, 100) > 0);
	fix_reject(f, "dgrams_no_guest", 3 * UNIX_QUEUE);
	fix_guest(f, 128, 3776);
	for (u32 i = 0; i < 3 * UNIX_QUEUE; i++)
		CHECK(client_send(fd, GUEST_PORT, 100) > 0);
	fix_reject(f, "dgrams_no_guest", 6 * UNIX_QUEUE);
	probe(f, VSP_DGRAM_REVISION);
	CHECK(client_send(fd, GUEST_PORT, 100) > 0);
	guest_expect(f, 100);
	peer_close(&f->peer);
	fix_reject(f, "sessions", 2);
	for (u32 i = 0; i < 3 * UNIX_QUEUE; i++)
		CHECK(client_send(fd, GUEST_PORT, 100) > 0);
	f->peer.f.chan.fd = -1;
	fix_end(f);
}

/* Turned off, a probe gets what it gets from any device without datagrams. */
static void off(void)
{
	const char *args[] = { "--datagrams", "off", NULL };
	struct vsp_hdr hdr = hdr_to(VSP_CID_HOST, VSP_PORT_ANY, VSP_PORT_ANY, VSP_OP_CREDIT_REQUEST, 0);
	char path[128];

	fix_daemon(f, args);
	CHECK(!peer_open(&f->peer, f->socket, 128, 3776, false, FEATURES | VU_BIT(VSP_F_DGRAM)));
	send_hdr(hdr, 0);
	hdr = expect(f, VSP_OP_RST);
	CHECK(hdr.src.port == VSP_PORT_ANY && hdr.dst.port == VSP_PORT_ANY);
	snprintf(path, sizeof(path), "%s_dgram", f->uds);
	CHECK(access(path, F_OK) && errno == ENOENT);
	fix_end(f);
}

/*
 * A receiver that does not read: what it may have is kept for it, the rest is dropped and counted, others are served,
 * and when it reads nothing of what was kept is missing.
 */
static void slow_receiver(void)
{
	const u32 sent = 2000, len = 1000, kept = QUEUE / (len + COST);
	u32 n = 0, seq, last = 0;
	int slow, fast;

	begin(128, 3776, NULL);
	slow = host_port(HOST_PORT);
	fast = host_port(HOST_PORT + 1);
	for (u32 i = 1; i <= sent; i++) {
		memcpy(stuff, &i, sizeof(i));
		guest_send(HOST_PORT, GUEST_PORT, len);
	}
	guest_send(HOST_PORT + 1, GUEST_PORT, 50);
	CHECK(recv(fast, got, sizeof(got), 0) == 50);
	fix_reject(f, "dgrams_full", sent - kept - UNIX_QUEUE);
	while (n < kept + UNIX_QUEUE) {
		CHECK(recv(slow, got, sizeof(got), 0) == (ssize_t)len);
		memcpy(&seq, got, sizeof(seq));
		CHECK(seq > last && !memcmp(got + 4, stuff + 4, len - 4));
		last = seq;
		n++;
	}
	CHECK(recv(slow, got, sizeof(got), MSG_DONTWAIT) < 0 && errno == EAGAIN);
	fix_reject(f, "dgrams_from_guest", n + 1);
	fix_end(f);
}

/*
 * What is faster than its receiver waits on the ring, for a while: of a burst that is far more than receiver and daemon
 * keep together nothing is lost, if it is read at once. A machine that is too busy for that has another try.
 */
static void as_fast_as_it_is_read(void)
{
	enum { BURST = 64, LEN = 60000 };
	u64 until = fix_now_ms() + PEER_WAIT_MS;
	struct pollfd pfd = { .events = POLLIN };
	u32 came = 0, round, of;

	begin(256, 3776, NULL);
	pfd.fd = host_port(HOST_PORT);
	for (round = 1; came < BURST && fix_now_ms() < until; round++) {
		fix_pause(f);
		memcpy(stuff, &round, sizeof(round));
		for (u32 i = 0; i < BURST; i++)
			guest_send(HOST_PORT, GUEST_PORT, LEN);
		fix_resume(f);
		came = 0;
		while (came < BURST && poll(&pfd, 1, SPIN_MS) > 0) {
			CHECK(recv(pfd.fd, got, sizeof(got), 0) == LEN);
			memcpy(&of, got, sizeof(of));
			came += of == round;
		}
	}
	CHECK(came == BURST);
	fix_end(f);
}

/* Nanoseconds of a processor that the daemon had. */
static u64 daemon_cpu(void)
{
	struct timespec ts;
	clockid_t clock;

	CHECK(!clock_getcpuclockid(f->pid, &clock) && !clock_gettime(clock, &ts));
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

/*
 * One port of the guest sends to some who do not read, until the socket in between has no room for anything: another
 * receiver waits for that. Meanwhile the daemon sleeps; and when they read, all comes without a word of the guest.
 */
static void beside_those_who_do_not_read(void)
{
	enum { SLOW = 4, LARGE = 60000, SMALL = 100, EACH = 2 * UNIX_QUEUE };
	struct pollfd fds[SLOW + 1];
	u64 cpu, left;

	begin(128, 3776, NULL);
	for (u32 i = 0; i <= SLOW; i++)
		fds[i] = (struct pollfd){ .fd = host_port(HOST_PORT + i), .events = POLLIN };
	for (u32 i = 0; i < SLOW; i++) {
		for (u32 k = 0; k < EACH; k++)
			guest_send(HOST_PORT + i, GUEST_PORT, LARGE);
	}
	guest_send(HOST_PORT + SLOW, GUEST_PORT, SMALL);
	fix_reject(f, "packets_from_guest", SLOW * EACH + 2);
	cpu = daemon_cpu();
	CHECK(poll(&fds[SLOW], 1, SPIN_MS) == 0);
	CHECK(daemon_cpu() - cpu < SPIN_MS * 1000000ull / 2);
	for (left = SLOW * EACH + 1 - fix_counter(f, "dgrams_full"); left;) {
		CHECK(poll(fds, SLOW + 1, PEER_WAIT_MS) > 0);
		for (u32 i = 0; i <= SLOW; i++) {
			if (!fds[i].revents)
				continue;
			host_expect(fds[i].fd, i < SLOW ? LARGE : SMALL, NULL);
			left--;
		}
	}
	CHECK(poll(fds, SLOW + 1, 0) == 0);
	fix_end(f);
}

/* Many receivers that do not read cost no more than all queues together. */
static void slow_receivers(void)
{
	u64 before;

	begin(1024, 3776, NULL);
	before = fix_status(f, "RssAnon:");
	for (u32 i = 0; i < 100; i++)
		host_port(HOST_PORT + i);
	for (u32 k = 0; k < 40; k++) {
		for (u32 i = 0; i < 100; i++)
			guest_send(HOST_PORT + i, GUEST_PORT + i, 30000);
	}
	fix_reject(f, "dgrams_full", 100);
	fix_reject(f, "dgrams_from_guest", 100);
	CHECK(fix_status(f, "RssAnon:") - before < (QUEUES >> 10) + 1024 + FIX_SANITIZER_KIB);
	fix_end(f);
}

/* A receiver that is replaced while datagrams wait for it is not waited for for ever. */
static void receiver_replaced(void)
{
	char path[128];
	int fd;

	begin(128, 3776, NULL);
	fd = host_port(HOST_PORT);
	for (u32 i = 0; i < 2 * UNIX_QUEUE; i++)
		guest_send(HOST_PORT, GUEST_PORT, 1000);
	fix_reject(f, "packets_from_guest", 2 * UNIX_QUEUE);
	snprintf(path, sizeof(path), "%s_dgram_%u", f->uds, HOST_PORT);
	unlink(path);
	close(fd);
	fix_reject(f, "dgrams_unbound", 1);
	fd = host_port(HOST_PORT);
	guest_send(HOST_PORT, GUEST_PORT, 1001);
	for (ssize_t n = 0; n != 1001;) {
		n = recv(fd, got, sizeof(got), 0);
		CHECK(n == 1000 || n == 1001);
	}
	fix_end(f);
}

/* More ports of the guest than there are sockets for: descriptors are bounded, and each still arrives. */
static void many_guest_ports(void)
{
	const u32 sources = 256;
	u32 fds;
	int fd;

	begin(128, 3776, NULL);
	fd = host_port(HOST_PORT);
	fds = fix_fds(f);
	for (u32 i = 0; i < 3 * sources; i++) {
		guest_send(HOST_PORT, GUEST_PORT + i, 100);
		host_expect(fd, 100, NULL);
	}
	CHECK(fix_fds(f) <= fds + sources + 1);
	fix_end(f);
}

/* The lists of ports hold for datagrams, too; an answer is no new contact. */
static void policy(void)
{
	const char *args[] = { "--deny-from-guest", "7001", "--allow-to-guest", "5001", NULL };
	struct sockaddr_un from;
	int fd, other;

	begin(128, 3776, args);
	fd = host_port(HOST_PORT);
	other = host_port(HOST_PORT + 1);
	guest_send(HOST_PORT + 1, GUEST_PORT, 10);
	expect(f, VSP_OP_RST);
	CHECK(client_send(fd, GUEST_PORT, 10) > 0);
	fix_reject(f, "denied", 2);
	guest_send(HOST_PORT, GUEST_PORT, 10);
	host_expect(fd, 10, &from);
	CHECK(sendto(other, stuff, 20, 0, (struct sockaddr *)&from, sizeof(from)) == 20);
	fix_reject(f, "denied", 3);
	CHECK(sendto(fd, stuff, 30, 0, (struct sockaddr *)&from, sizeof(from)) == 30);
	CHECK(guest_expect(f, 30).src.port == HOST_PORT);
	CHECK(client_send(fd, GUEST_PORT + 1, 40) > 0);
	guest_expect(f, 40);
	fix_end(f);
}

/* Context identifiers that are not the guest's, or not there. */
static void spoofed(void)
{
	struct vsp_hdr hdr = hdr_to(VSP_CID_HOST, HOST_PORT, GUEST_PORT, VSP_OP_RW, 10);
	int fd;

	begin(128, 3776, NULL);
	fd = host_port(HOST_PORT);
	hdr.src.cid = CID + 1;
	send_hdr(hdr, 0);
	hdr.src.cid = VSP_CID_HOST;
	send_hdr(hdr, 0);
	fix_reject(f, "src_cid", 2);
	send_hdr(hdr_to(CID + 90, HOST_PORT, GUEST_PORT, VSP_OP_RW, 10), 0);
	expect(f, VSP_OP_RST);
	hdr = hdr_to(VSP_CID_HOST, HOST_PORT, GUEST_PORT, VSP_OP_RW, 10);
	hdr.flags = 1;
	send_hdr(hdr, 0);
	fix_reject(f, "dgram_flags", 1);
	guest_send(HOST_PORT, GUEST_PORT, 11);
	host_expect(fd, 11, NULL);
	fix_end(f);
}

/* A guest that takes nothing stops those who send to it, and nobody else, and gets all when it looks. */
static void slow_guest(void)
{
	struct vsp_hdr hdr;
	int fd, other;
	u32 n = 0;

	begin(2, 4096, NULL);
	fd = host_socket("client");
	other = host_port(HOST_PORT);
	while (n < 100) {
		struct timeval brief = { .tv_usec = 200000 };

		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &brief, sizeof(brief));
		if (client_send(fd, GUEST_PORT, 500) < 0)
			break;
		n++;
	}
	CHECK(n >= UNIX_QUEUE && n < 100);
	guest_send(HOST_PORT, GUEST_PORT, 60);
	host_expect(other, 60, NULL);
	for (u32 i = 0; i < n; i++)
		guest_expect(f, 500);
	CHECK(!peer_recv(&f->peer, &hdr, got, 50));
	fix_end(f);
}

/* Guests of a group reach each other, and a reset finds its way back. */
static void siblings(void)
{
	struct vsp_hdr hdr;

	fill(1);
	fix_fleet(f, 2, NULL, NULL);
	for (u32 i = 0; i < 2; i++) {
		fix_guest(&f[i], 128, 3776);
		probe(&f[i], VSP_DGRAM_REVISION);
	}
	for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
		send_hdr(hdr_to(CID + 1, HOST_PORT, GUEST_PORT, VSP_OP_RW, sizes[i]), 0);
		hdr = guest_expect(&f[1], sizes[i]);
		CHECK(hdr.src.cid == CID && hdr.src.port == GUEST_PORT && hdr.dst.port == HOST_PORT);
	}
	hdr = vsp_rst_for(&hdr);
	CHECK(peer_send(&f[1].peer, hdr, NULL, 0, PEER_ONE));
	hdr = expect(&f[0], VSP_OP_RST);
	CHECK(hdr.src.cid == CID + 1 && hdr.src.port == HOST_PORT && hdr.dst.port == GUEST_PORT);
	/* One that takes nothing is sent no more than its queue. */
	for (u32 i = 0; i < 2000; i++)
		send_hdr(hdr_to(CID + 1, HOST_PORT, GUEST_PORT, VSP_OP_RW, 2000), 0);
	fix_reject(f, "dgrams_full", 1000);
	fix_fleet_end(f, 2);
}

/* What test 'random' knows of one direction. */
struct way {
	u32 sent;
	u32 came;
	u32 last;
};

/* Datagram number @seq, of @len bytes of stuff behind the number. */
static u32 number(u32 seq, u32 len)
{
	memcpy(stuff, &seq, sizeof(seq));
	return len < sizeof(seq) ? sizeof(seq) : len;
}

static void count(struct way *w, const void *bytes, size_t len)
{
	u32 seq;

	memcpy(&seq, bytes, sizeof(seq));
	CHECK(seq > w->last && seq <= w->sent && !memcmp((const u8 *)bytes + 4, stuff + 4, len - 4));
	w->last = seq;
	w->came++;
}

/* One more for the host, whole or in pieces. */
static void random_from_guest(struct way *w, u32 random)
{
	u32 len = number(++w->sent, random >> 8 & 0xffff), at = 0, piece = 1 + (random & 0xff) * 200;

	if (random & 1) {
		guest_send(HOST_PORT, GUEST_PORT, len);
		return;
	}
	for (; at < len; at += piece) {
		piece = piece < len - at ? piece : len - at;
		fragment(piece < len ? len : 0, at, piece);
	}
}

/* Take what the guest has got, up to the end of a datagram; @at is how much of one is there. */
static void take_at_guest(struct way *w, u8 *whole, u32 *at, int ms)
{
	struct vsp_hdr hdr;

	while (peer_recv(&f->peer, &hdr, got, ms)) {
		CHECK(hdr.type == VSP_TYPE_DGRAM && hdr.op == VSP_OP_RW && hdr.fwd_cnt == *at);
		memcpy(whole + *at, got, hdr.len);
		*at += hdr.len;
		if (hdr.buf_alloc && *at < hdr.buf_alloc)
			continue;
		count(w, whole, *at);
		*at = 0;
	}
}

/* Random sizes both ways at once: each that comes is intact and comes once, each that does not is counted. */
static void random_both_ways(void)
{
	static u8 whole[VSP_DGRAM_MAX];
	struct way to_host = { 0 }, to_guest = { 0 };
	u32 state = 4711, at = 0;
	int fd, client;
	ssize_t n;

	begin(64, 3776, NULL);
	fd = host_port(HOST_PORT);
	client = host_socket("client");
	for (u32 i = 0; i < 3000; i++) {
		state = state * 1664525 + 1013904223;
		if (state >> 30 > 1)
			random_from_guest(&to_host, state);
		else if (to_guest.sent - to_guest.came < IN_FLIGHT)
			CHECK(client_send(client, GUEST_PORT, number(++to_guest.sent, state >> 8 & 0xffff)) > 0);
		take_at_guest(&to_guest, whole, &at, to_guest.sent - to_guest.came == IN_FLIGHT);
		while (state >> 28 & 1 && (n = recv(fd, got, sizeof(got), MSG_DONTWAIT)) >= 0)
			count(&to_host, got, (size_t)n);
	}
	while (to_guest.came < to_guest.sent)
		take_at_guest(&to_guest, whole, &at, 1);
	fix_reject(f, "dgrams_to_guest", to_guest.sent);
	/* The last one is for another port: it is there when all before it are, or are counted. */
	guest_send(HOST_PORT, GUEST_PORT, 4);
	while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 300) > 0) {
		n = recv(fd, got, sizeof(got), 0);
		if (n == 4 && !memcmp(got, stuff, 4) && to_host.last == to_host.sent)
			break;
		count(&to_host, got, (size_t)n);
	}
	fix_reject(f, "dgrams_from_guest", to_host.came);
	if (to_host.came < to_host.sent)
		fix_reject(f, "dgrams_full", to_host.sent - to_host.came);
	CHECK(to_host.came > 100 && to_guest.came > 500);
	fix_end(f);
}

/* A guest that starts anew is probed for nothing: it probes. */
static void forgotten_at_reset(void)
{
	int fd;

	begin(128, 3776, NULL);
	fd = host_socket("client");
	CHECK(client_send(fd, GUEST_PORT, 10) > 0);
	guest_expect(f, 10);
	fragment(2000, 0, 1000);
	fix_reject(f, "packets_from_guest", 2);
	peer_close(&f->peer);
	fix_guest(f, 128, 3776);
	CHECK(client_send(fd, GUEST_PORT, 10) > 0);
	fix_reject(f, "dgrams_no_guest", 1);
	fix_reject(f, "dgrams_cut", 1);
	probe(f, VSP_DGRAM_REVISION);
	CHECK(client_send(fd, GUEST_PORT, 20) > 0);
	guest_expect(f, 20);
	fix_end(f);
}

const struct test dgram_tests[] = {
	{ "datagrams of the guest arrive and are answered", arrives_and_is_answered },
	{ "datagrams: the name for answers is taken", name_is_taken },
	{ "datagrams of one guest port to several host ports", ports_are_kept_apart },
	{ "datagrams of host clients", clients },
	{ "datagrams: names of host clients", names_of_clients },
	{ "datagrams: answers to a line FROM", answers_to_a_line },
	{ "datagrams of clients that say nonsense", bad_clients },
	{ "datagrams that nobody is bound for", nobody_bound },
	{ "datagrams in fragments, right and wrong", fragments },
	{ "datagrams in fragments beside a stream", fragments_and_streams },
	{ "datagrams in fragments at random", storm_of_fragments },
	{ "datagrams through rings and buffers of each size", rings_and_buffers },
	{ "datagrams by feature bit alone have no fragments", bit_without_probe },
	{ "datagrams for a guest without them", guest_without },
	{ "datagrams turned off", off },
	{ "datagrams for a receiver that does not read", slow_receiver },
	{ "datagrams as fast as they are read", as_fast_as_it_is_read },
	{ "datagrams for one who reads beside some who do not", beside_those_who_do_not_read },
	{ "datagrams for many who do not", slow_receivers },
	{ "datagrams for a receiver that is replaced", receiver_replaced },
	{ "datagrams of many guest ports", many_guest_ports },
	{ "datagrams and the lists of ports", policy },
	{ "datagrams with wrong context identifiers", spoofed },
	{ "datagrams for a guest that does not read", slow_guest },
	{ "datagrams between guests", siblings },
	{ "datagrams of random sizes both ways", random_both_ways },
	{ "datagrams after the guest started anew", forgotten_at_reset },
	{ NULL, NULL },
};
