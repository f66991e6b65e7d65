// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/tap.h"

#include "daemon/guest.h"

#include <errno.h>
#include <linux/vsockmon.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The head of a file in pcap's format, and of each packet in it; in the byte order of the machine. */
struct pcap_file {
	u32 magic;
	u16 major;
	u16 minor;
	u32 zone;
	u32 accuracy;
	u32 longest;
	u32 link;
};

struct pcap_packet {
	u32 seconds;
	u32 nanoseconds;
	u32 kept;
	u32 whole;
};

enum {
	PCAP_MAGIC_NS = 0xa1b23c4d,
	PCAP_LINK_VSOCK = 271, /* tcpdump's LINKTYPE_VSOCK */
	HEADERS = sizeof(struct af_vsockmon_hdr) + VSP_HDR_LEN,
};
static_assert(sizeof(struct pcap_file) == 24 && sizeof(struct pcap_packet) == 16, "pcap's format has no padding");

int vsd_tap_begin(struct vsd_guest *g, int fd, u32 payload)
{
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = &g->tap.watch };
	struct pcap_file head = { .magic = PCAP_MAGIC_NS, .major = 2, .minor = 4, .link = PCAP_LINK_VSOCK };
	struct vsd_tap *t = &g->tap;

	if (t->fd >= 0)
		return -EBUSY;
	payload = payload < VSP_MAX_PAYLOAD ? payload : VSP_MAX_PAYLOAD;
	head.longest = HEADERS + payload;
	t->watch = (struct vsd_watch){ .source = VSD_SOURCE_TAP, .guest = g };
	if (!vsock_tail_add(&t->waiting, &head, sizeof(head)))
		return -ENOMEM;
	if (epoll_ctl(g->loop->epfd, EPOLL_CTL_ADD, fd, &ev)) {
		vsock_tail_clear(&t->waiting);
		return -errno;
	}
	t->fd = fd;
	t->payload = payload;
	/* What is on the ring now and was looked at was not shown. */
	t->again = 0;
	vsd_log(VSD_INFO, g->name, "capture begins");
	vsd_tap_flush(g);
	return 0;
}

void vsd_tap_end(struct vsd_guest *g)
{
	struct vsd_tap *t = &g->tap;

	if (t->fd < 0)
		return;
	close(t->fd);
	t->fd = -1;
	vsock_tail_clear(&t->waiting);
	vsd_log(VSD_INFO, g->name, "capture ends");
}

static u16 op_of(u16 op)
{
	switch (op) {
	case VSP_OP_REQUEST:
	case VSP_OP_RESPONSE:
		return AF_VSOCK_OP_CONNECT;
	case VSP_OP_RST:
	case VSP_OP_SHUTDOWN:
		return AF_VSOCK_OP_DISCONNECT;
	case VSP_OP_RW:
		return AF_VSOCK_OP_PAYLOAD;
	case VSP_OP_CREDIT_UPDATE:
	case VSP_OP_CREDIT_REQUEST:
		return AF_VSOCK_OP_CONTROL;
	default:
		return AF_VSOCK_OP_UNKNOWN;
	}
}

static u8 *put(u8 *to, const void *from, size_t len)
{
	memcpy(to, from, len);
	return to + len;
}

static void put_payload(u8 *to, const struct iovec *iov, u32 niov, u32 skip, u32 len)
{
	for (u32 i = 0; i < niov && len; i++) {
		u32 n = (u32)iov[i].iov_len;

		if (skip >= n) {
			skip -= n;
			continue;
		}
		n -= skip;
		n = n < len ? n : len;
		to = put(to, (const u8 *)iov[i].iov_base + skip, n);
		len -= n;
		skip = 0;
	}
	memset(to, 0, len);
}

void vsd_tap_packet(struct vsd_guest *g, const struct vsp_wire *wire, const struct iovec *iov, u32 niov, u32 skip,
		    u32 len)
{
	struct vsd_tap *t = &g->tap;
	u32 shown = len < t->payload ? len : t->payload;
	struct pcap_packet head = { .kept = HEADERS + shown, .whole = HEADERS + len };
	struct af_vsockmon_hdr mon = {
		.src_cid = wire->src_cid,
		.dst_cid = wire->dst_cid,
		.src_port = wire->src_port,
		.dst_port = wire->dst_port,
		.op = cpu_to_le16(op_of(le16_to_cpu(wire->op))),
		.transport = cpu_to_le16(AF_VSOCK_TRANSPORT_VIRTIO),
		.len = cpu_to_le16(VSP_HDR_LEN),
	};
	struct timespec now;
	u8 *to = NULL;

	if (t->fd < 0)
		return;
	if (t->waiting.len + sizeof(head) + head.kept <= VSD_TAP_ROOM)
		to = vsock_tail_reserve(&t->waiting, (u32)sizeof(head) + head.kept);
	if (!to) {
		t->left_out++;
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	head.seconds = (u32)now.tv_sec;
	head.nanoseconds = (u32)now.tv_nsec;
	to = put(to, &head, sizeof(head));
	to = put(to, &mon, sizeof(mon));
	to = put(to, wire, VSP_HDR_LEN);
	put_payload(to, iov, niov, skip, shown);
}

void vsd_tap_flush(struct vsd_guest *g)
{
	struct vsd_tap *t = &g->tap;

	while (t->fd >= 0 && t->waiting.len) {
		ssize_t n =
			send(t->fd, t->waiting.bytes + t->waiting.first, t->waiting.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			vsd_tap_end(g);
		else
			vsock_tail_drop(&t->waiting, (u32)n);
	}
}
