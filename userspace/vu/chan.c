// SPDX-License-Identifier: BSD-2-Clause
#include "vu/chan.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void vu_chan_open(struct vu_chan *ch, int fd)
{
	memset(ch, 0, sizeof(*ch));
	ch->fd = fd;
}

void vu_chan_done(struct vu_chan *ch)
{
	for (u32 i = 0; i < ch->in.nfds; i++) {
		if (ch->in.fds[i] >= 0)
			close(ch->in.fds[i]);
	}
	ch->in.nfds = 0;
	ch->have = 0;
}

void vu_chan_close(struct vu_chan *ch)
{
	if (ch->fd < 0)
		return;
	vu_chan_done(ch);
	close(ch->fd);
	ch->fd = -1;
}

/* Move descriptors from ancillary data into the message. False: more than a message can carry. */
static bool keep_fds(struct vu_msg *msg, struct msghdr *mh)
{
	bool fits = !(mh->msg_flags & MSG_CTRUNC);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		int fds[VU_FDS_MAX];
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), n * sizeof(int));
		for (size_t i = 0; i < n; i++) {
			if (msg->nfds < VU_FDS_MAX) {
				msg->fds[msg->nfds++] = fds[i];
			} else {
				close(fds[i]);
				fits = false;
			}
		}
	}
	return fits;
}

/* How many bytes the current message still needs, as far as is known. */
static u32 missing(const struct vu_chan *ch)
{
	if (ch->have < VU_HDR_LEN)
		return VU_HDR_LEN - ch->have;
	return VU_HDR_LEN + ch->in.size - ch->have;
}

static const char *judge_header(const struct vu_msg *msg)
{
	if ((msg->flags & VU_FLAG_VERSION_MASK) != VU_FLAG_VERSION)
		return "unknown protocol version";
	if (msg->size > sizeof(msg->body))
		return "message too long";
	return NULL;
}

enum vu_chan_got vu_chan_recv(struct vu_chan *ch, const char **why)
{
	while (missing(ch)) {
		union {
			struct cmsghdr align;
			char bytes[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
		} control;
		u8 *base = ch->have < VU_HDR_LEN ? (u8 *)&ch->in + ch->have :
						   ch->in.body.bytes + (ch->have - VU_HDR_LEN);
		struct iovec iov = { .iov_base = base, .iov_len = missing(ch) };
		struct msghdr mh = { .msg_iov = &iov,
				     .msg_iovlen = 1,
				     .msg_control = control.bytes,
				     .msg_controllen = sizeof(control.bytes) };
		ssize_t n = recvmsg(ch->fd, &mh, MSG_CMSG_CLOEXEC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return VU_CHAN_MORE;
		if (n < 0) {
			*why = strerror(errno);
			return VU_CHAN_BAD;
		}
		if (!keep_fds(&ch->in, &mh)) {
			*why = "too many descriptors";
			return VU_CHAN_BAD;
		}
		if (n == 0) {
			*why = "closed in the middle of a message";
			return ch->have ? VU_CHAN_BAD : VU_CHAN_EOF;
		}
		ch->have += (u32)n;
		if (ch->have == VU_HDR_LEN) {
			*why = judge_header(&ch->in);
			if (*why)
				return VU_CHAN_BAD;
		}
	}
	return VU_CHAN_MSG;
}

int vu_chan_send(struct vu_chan *ch, const struct vu_msg *msg)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov[2] = {
		{ .iov_base = (void *)(uintptr_t)msg, .iov_len = VU_HDR_LEN },
		{ .iov_base = (void *)(uintptr_t)&msg->body, .iov_len = msg->size },
	};
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (msg->nfds) {
		struct cmsghdr *c;

		mh.msg_control = control.bytes;
		mh.msg_controllen = CMSG_SPACE(msg->nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(msg->nfds * sizeof(int));
		memcpy(CMSG_DATA(c), msg->fds, msg->nfds * sizeof(int));
	}
	do {
		n = sendmsg(ch->fd, &mh, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == (size_t)VU_HDR_LEN + msg->size ? 0 : -EAGAIN;
}
