// SPDX-License-Identifier: BSD-2-Clause
/*
 * record.c - messages of seqpacket connections on their way to a Unix socket, whole or not at all
 *
 * A message that ends in the packet in which it began goes from guest memory straight to the socket. One of several
 * packets is put together in vsd_conn.part first; what a full socket did not take waits in vsd_conn.tail, each message
 * behind its length. Credit returns when the socket has the whole message, so credit bounds both.
 *
 * The beginning of a message is never read for itself, so nothing would announce room for its end: as long as one waits
 * the guest always hears of room for another packet.
 *
 * AF_UNIX knows no MSG_EOR, so that only another guest is told of it, and takes no message larger than its send buffer:
 * such a one ends the connection with a reset, and is counted.
 */
#include "daemon/guest.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* The connection ends as it would for a broken rule: bytes are missing. */
static void give_up(struct vsd_conn *s)
{
	s->lost = true;
	vsock_mux_abort(&s->watch.guest->mux, &s->c);
}

static void out_of_memory(struct vsd_conn *s)
{
	s->watch.guest->mux.rejects[VSP_REJECT_NO_MEMORY]++;
	give_up(s);
}

static bool add(struct vsock_tail *t, const struct iovec *iov, u32 niov)
{
	for (u32 i = 0; i < niov; i++) {
		if (!vsock_tail_add(t, iov[i].iov_base, (u32)iov[i].iov_len))
			return false;
	}
	return true;
}

enum sent { SENT, SENT_LATER, SENT_NEVER, SENT_TO_NOBODY };

/* Hand a message to the socket. SENT_NEVER: the connection is dealt with. SENT_TO_NOBODY: nobody reads any more. */
static enum sent offer(struct vsd_conn *s, struct iovec *iov, u32 niov, u32 len)
{
	struct vsd_guest *g = s->watch.guest;
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = niov };

	if (sendmsg(s->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
		g->counters.bytes_from_guest += len;
		if (!len)
			vsp_record_empty_read(&s->record);
		vsock_mux_consumed(&g->mux, &s->c, len);
		return SENT;
	}
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return SENT_LATER;
	case EMSGSIZE:
		g->counters.messages_too_big++;
		vsd_guest_warn(g, "a message of %u bytes of guest port %u is more than a Unix socket takes; reset", len,
			       s->c.guest_port);
		give_up(s);
		return SENT_NEVER;
	case EFAULT:
		g->dev.mem.lost = 1;
		return SENT_NEVER;
	case EPIPE:
	case ECONNRESET:
	case ENOTCONN:
		return SENT_TO_NOBODY;
	default:
		out_of_memory(s);
		return SENT_NEVER;
	}
}

/* @len bytes of which nothing is in vsd_conn_unread(), or all: @kept; the end of a record, or not: @eor. */
static void send_whole(struct vsd_conn *s, struct iovec *iov, u32 niov, u32 len, bool kept, bool eor)
{
	u32 head = len | (eor ? VSD_RECORD_EOR : 0);
	enum sent sent = SENT_LATER;

	if (s->sibling)
		sent = vsd_sibling_offer_message(s, iov, niov, len, eor) ? SENT : SENT_LATER;
	else if (!s->wants_out)
		sent = offer(s, iov, niov, len);
	if (sent == SENT_TO_NOBODY) {
		if (!kept)
			vsock_mux_consumed(&s->watch.guest->mux, &s->c, len);
		vsd_conn_deaf(s);
	}
	if (sent != SENT_LATER)
		return;
	if (!vsock_tail_add(&s->tail, &head, sizeof(head)) || !add(&s->tail, iov, niov)) {
		out_of_memory(s);
		return;
	}
	s->queued += len;
	if (!s->sibling)
		vsd_conn_want_out(s, true);
}

void vsd_record_arrive(struct vsd_conn *s, const struct vsp_hdr *hdr, struct iovec *iov, u32 niov)
{
	struct vsd_guest *g = s->watch.guest;
	bool eor = hdr->flags & VSP_SEQ_EOR;
	u32 whole = 0;

	if (s->phase != VSD_PHASE_OPEN || s->deaf) {
		s->lost |= !s->sibling;
		vsock_mux_consumed(&g->mux, &s->c, hdr->len);
		return;
	}
	switch (vsp_record_add(&s->record, hdr->len, hdr->flags, &whole)) {
	case VSP_RECORD_FULL:
		g->mux.rejects[VSP_REJECT_RECORDS]++;
		give_up(s);
		return;
	case VSP_RECORD_PART:
		if (!add(&s->part, iov, niov))
			out_of_memory(s);
		else
			vsock_mux_lowat(&g->mux, &s->c, vsd_conn_unread(s) + VSP_MAX_PAYLOAD);
		return;
	case VSP_RECORD_END:
		s->c.lowat = 1;
		break;
	}
	if (!s->part.len) {
		send_whole(s, iov, niov, whole, false, eor);
	} else if (add(&s->part, iov, niov)) {
		struct iovec one = { .iov_base = s->part.bytes + s->part.first, .iov_len = whole };

		send_whole(s, &one, 1, whole, true, eor);
		vsock_tail_clear(&s->part);
	} else {
		out_of_memory(s);
	}
}

bool vsd_record_flush(struct vsd_conn *s)
{
	while (s->tail.len) {
		struct iovec iov;
		enum sent sent;
		u32 len;

		memcpy(&len, s->tail.bytes + s->tail.first, sizeof(len));
		len &= ~VSD_RECORD_EOR;
		iov = (struct iovec){ .iov_base = s->tail.bytes + s->tail.first + sizeof(len), .iov_len = len };
		sent = offer(s, &iov, 1, len);
		if (sent == SENT_TO_NOBODY)
			vsd_conn_deaf(s);
		if (sent != SENT)
			return false;
		s->queued -= len;
		vsock_tail_drop(&s->tail, (u32)sizeof(len) + len);
	}
	return true;
}
