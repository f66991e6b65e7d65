// SPDX-License-Identifier: BSD-2-Clause
/* Seqpacket sockets between a guest and its host, and payload that the host sends from where it lies. */
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/errqueue.h>
#include <linux/vm_sockets.h>

#ifndef SOL_VSOCK
#define SOL_VSOCK 287
#endif
#ifndef VSOCK_RECVERR
#define VSOCK_RECVERR 1
#endif

enum { PORT = 5000 };

static const u64 with_messages = FEATURES | VU_BIT(VSP_F_SEQPACKET);
static const u32 lengths[] = { 1, 64, 3732, 3733, 10000, 65536, 65537, 200000 };
enum { NUM_LENGTHS = sizeof(lengths) / sizeof(lengths[0]), SMALL_ONES = 700 };

static struct guest g;
static u8 message[WINDOW];

static void fill(u32 len, u32 seed)
{
	for (u32 i = 0; i < len; i++)
		message[i] = byte_at(i, seed);
}

static bool filled(u32 len, u32 seed)
{
	for (u32 i = 0; i < len; i++) {
		if (message[i] != byte_at(i, seed))
			return false;
	}
	return true;
}

static struct flow open_messages(u64 features)
{
	struct flow f = { .host_port = PORT, .guest_port = 50, .messages = true };
	int l = host_listen_for(true, PORT, 8);

	guest_begin(&g, CID, 128, 3776, features);
	flow_ask_host(&g, l, &f);
	close(l);
	return f;
}

/* The guest takes a message of @len bytes in as many packets as it comes in; only the last may say that it ends. */
static void guest_reads(struct flow *f, u32 len, u32 flags, u32 seed)
{
	struct vsp_hdr hdr;
	u32 got = 0;

	do {
		hdr = guest_expect(&g, f, VSP_OP_RW);
		CHECK(hdr.type == (f->messages ? VSP_TYPE_SEQPACKET : VSP_TYPE_STREAM) && hdr.len <= len - got);
		memcpy(message + got, g.buf, hdr.len);
		got += hdr.len;
		CHECK(hdr.flags == (got == len ? flags : 0));
	} while (got < len);
	CHECK(filled(len, seed));
	f->got += len;
	guest_send(&g, guest_hdr(&g, f, VSP_OP_CREDIT_UPDATE));
}

/* The guest sends a message of @len bytes in packets of at most @packet. */
static void guest_writes(struct flow *f, u32 len, u32 packet, u32 flags, u32 seed)
{
	u32 at = 0;

	do {
		struct vsp_hdr hdr = guest_hdr(&g, f, VSP_OP_RW);

		hdr.len = len - at < packet ? len - at : packet;
		hdr.flags = at + hdr.len == len ? flags : 0;
		for (u32 i = 0; i < hdr.len; i++)
			g.buf[i] = byte_at(at + i, seed);
		at += hdr.len;
		guest_send(&g, hdr);
	} while (at < len);
	f->sent += len;
}

static void host_reads(const struct flow *f, u32 len, int flags, u32 seed)
{
	struct iovec iov = { .iov_base = message, .iov_len = sizeof(message) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	CHECK(host_wait(f->fd, POLLIN, WAIT_MS));
	CHECK(recvmsg(f->fd, &msg, 0) == (ssize_t)len);
	CHECK(msg.msg_flags == flags && filled(len, seed));
}

/* Message after message, each in one piece however many packets and buffers it takes. */
static void both_ways(void)
{
	struct flow f = open_messages(with_messages);

	for (u32 i = 0; i < NUM_LENGTHS; i++) {
		bool record = i & 1;

		fill(lengths[i], i);
		CHECK(host_wait(f.fd, POLLOUT, WAIT_MS));
		CHECK(send(f.fd, message, lengths[i], MSG_NOSIGNAL | (record ? MSG_EOR : 0)) == (ssize_t)lengths[i]);
		guest_reads(&f, lengths[i], VSP_SEQ_EOM | (record ? VSP_SEQ_EOR : 0), i);
		guest_writes(&f, lengths[i], 30000, VSP_SEQ_EOM | (record ? VSP_SEQ_EOR : 0), i + 100);
		host_reads(&f, lengths[i], record ? MSG_EOR : 0, i + 100);
	}
	/* An empty message is a read of nothing, and no end. */
	guest_writes(&f, 0, 1, VSP_SEQ_EOM, 0);
	guest_writes(&f, 5, 5, VSP_SEQ_EOM, 0);
	host_reads(&f, 0, 0, 0);
	host_reads(&f, 5, 0, 0);
	flow_finish(&g, &f);
	guest_end(&g);
}

/*
 * Small messages that wait for the guest are few packets of ours; the guest has one or more for each, as if it had come
 * alone, in buffers that hold less than some.
 */
static void small_ones_that_wait(void)
{
	struct flow f = { .host_port = PORT, .guest_port = 50, .messages = true };
	int l = host_listen_for(true, PORT, 8);

	guest_begin(&g, CID, 4, VSP_HDR_LEN + 100, with_messages);
	flow_ask_host(&g, l, &f);
	for (u32 i = 0; i < SMALL_ONES; i++) {
		int record = i / 40 & 1 ? MSG_EOR : 0;
		u32 len = 1 + i * 37 % 290;

		fill(len, i);
		CHECK(send(f.fd, message, len, MSG_NOSIGNAL | MSG_DONTWAIT | record) == (ssize_t)len);
	}
	CHECK(live("pkts") < SMALL_ONES / 2);
	for (u32 i = 0; i < SMALL_ONES; i++)
		guest_reads(&f, 1 + i * 37 % 290, VSP_SEQ_EOM | (i / 40 & 1 ? VSP_SEQ_EOR : 0), i);
	CHECK(counter(CID, "tx_packets") >= SMALL_ONES);
	flow_finish(&g, &f);
	guest_end(&g);
	close(l);
}

static void opened_by_host(void)
{
	struct flow f = { .guest_port = 50, .messages = true };

	guest_begin(&g, CID, 128, 3776, with_messages);
	flow_ask_guest(&g, &f);
	fill(100, 7);
	CHECK(send(f.fd, message, 100, MSG_NOSIGNAL) == 100);
	guest_reads(&f, 100, VSP_SEQ_EOM, 7);
	flow_finish(&g, &f);
	guest_end(&g);
}

/* A guest that did not negotiate them has none, and a listener of one type does not answer for the other. */
static void not_negotiated(void)
{
	struct flow f = { .host_port = PORT, .guest_port = 50, .messages = true };
	int stream = host_listen(PORT, 8), messages = host_listen_for(true, PORT + 1, 8);

	guest_begin(&g, CID, 128, 3776, FEATURES);
	CHECK(host_connect_for(true, CID, 50) == -ESOCKTNOSUPPORT);
	f.host_port = PORT + 1;
	guest_send(&g, guest_hdr(&g, &f, VSP_OP_REQUEST));
	CHECK(guest_expect(&g, &f, VSP_OP_RST).type == VSP_TYPE_SEQPACKET);
	CHECK(counter(CID, "rejects/type") == 1);
	guest_end(&g);

	guest_begin(&g, CID, 128, 3776, with_messages);
	f.host_port = PORT;
	guest_send(&g, guest_hdr(&g, &f, VSP_OP_REQUEST));
	CHECK(guest_expect(&g, &f, VSP_OP_RST).type == VSP_TYPE_SEQPACKET);
	guest_end(&g);
	close(stream);
	close(messages);
}

/* The notification of a send with MSG_ZEROCOPY: was the payload copied all the same? */
static bool was_copied(int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct sock_extended_err))];
	} control;
	struct msghdr msg = { .msg_control = &control, .msg_controllen = sizeof(control) };
	u64 until = now_ms() + WAIT_MS;
	struct sock_extended_err err;
	struct cmsghdr *c;

	/* POLLERR would not tell a notification from an error of the connection. */
	while (recvmsg(fd, &msg, MSG_ERRQUEUE) < 0) {
		CHECK(errno == EAGAIN && now_ms() < until);
		pause_a_little();
	}
	c = CMSG_FIRSTHDR(&msg);
	CHECK(c && c->cmsg_level == SOL_VSOCK && c->cmsg_type == VSOCK_RECVERR);
	memcpy(&err, CMSG_DATA(c), sizeof(err));
	CHECK(err.ee_origin == SO_EE_ORIGIN_ZEROCOPY && err.ee_errno == 0);
	return err.ee_code & SO_EE_CODE_ZEROCOPY_COPIED;
}

/* Or skip the test: before 6.7 there is no such thing. */
static void want_zerocopy(const struct flow *f)
{
	const int on = 1;

	if (!setsockopt(f->fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)))
		return;
	CHECK(errno == EOPNOTSUPP || errno == ENOTSUP);
	close(f->fd);
	guest_end(&g);
	exit(SKIPPED);
}

/* Payload goes from the sender's pages, wherever they begin, into buffers that hold less than a page. */
static void from_the_senders_pages(void)
{
	struct flow f = { .guest_port = 50 };

	guest_begin(&g, CID, 128, 3776, with_messages);
	flow_ask_guest(&g, &f);
	want_zerocopy(&f);
	for (u32 i = 0; i < NUM_LENGTHS; i++) {
		u32 at = 1 + 700 * i, len = lengths[i] < 190000 ? lengths[i] : 190000;

		for (u32 n = 0; n < len; n++)
			message[at + n] = byte_at(n, i);
		CHECK(host_wait(f.fd, POLLOUT, WAIT_MS));
		CHECK(send(f.fd, message + at, len, MSG_NOSIGNAL | MSG_ZEROCOPY) == (ssize_t)len);
		/* guest_reads() writes where the pages are: not before all of them were sent. */
		CHECK(!was_copied(f.fd));
		guest_reads(&f, len, 0, i);
		/* Behind the credit, so that the next send has all of it and need not wait, which would copy. */
		guest_writes(&f, 1, 1, 0, i);
		host_reads(&f, 1, 0, i);
	}
	flow_finish(&g, &f);
	guest_end(&g);
}

/* The guest breaks its ring while it has half of such a packet: the sender has its pages back at once. */
static void pages_of_a_broken_guest(void)
{
	const struct vu_seg nowhere = { .gpa = 4096, .len = 4096, .write = true };
	struct flow f = { .guest_port = 50 };
	struct vu_drv *d = &g.peer.f.drv[0];
	u64 until = now_ms() + WAIT_MS;
	u32 len;

	guest_begin(&g, CID, 2, 3776, FEATURES);
	flow_ask_guest(&g, &f);
	want_zerocopy(&f);
	CHECK(send(f.fd, message, 60000, MSG_NOSIGNAL | MSG_ZEROCOPY) == 60000);
	while (vu_drv_used(d, &len) < 0) {
		CHECK(now_ms() < until);
		pause_a_little();
	}
	CHECK(vu_drv_add(d, &nowhere, 1) >= 0);
	vu_drv_publish(d);
	was_copied(f.fd);
	CHECK(host_error(f.fd) == ECONNRESET);
	close(f.fd);
	guest_end(&g);
}

const struct test message_tests[] = {
	{ "messages of every size both ways, with and without MSG_EOR", both_ways },
	{ "small messages that wait go together, and arrive one by one", small_ones_that_wait },
	{ "a seqpacket connection that the host opens", opened_by_host },
	{ "seqpackets that were not negotiated, and listeners of the other type", not_negotiated },
	{ "MSG_ZEROCOPY: the host sends from the caller's pages", from_the_senders_pages },
	{ "MSG_ZEROCOPY: a guest that breaks its ring keeps no pages", pages_of_a_broken_guest },
	{ NULL, NULL },
};
