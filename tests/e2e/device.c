// SPDX-License-Identifier: BSD-2-Clause
#include "device.h"

#include "check.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	WAIT_MS = 20000,
	SEGMENTS = 64,
};

void device_listen(struct device *d, const char *path, u64 cid, u64 features)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(d->listener >= 0 && !bind(d->listener, (struct sockaddr *)&sa, sizeof(sa)) && !listen(d->listener, 4));
	vu_dev_init(&d->dev, features, cid, VU_RING_SIZE_DEFAULT);
}

void device_call(struct device *d, u64 cid)
{
	d->dev.config = cpu_to_le64(cid);
}

static bool readable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, WAIT_MS) == 1;
}

static bool live(const struct device *d)
{
	bool all = true;

	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		all &= vu_ring_live(&d->dev.rings[i]);
	return all;
}

void device_accept(struct device *d)
{
	int fd;

	CHECK(readable(d->listener));
	fd = accept4(d->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(fd >= 0);
	vu_dev_begin(&d->dev, fd);
	while (!live(d)) {
		CHECK(readable(fd));
		CHECK(!(vu_dev_serve(&d->dev).facts & VU_DEV_ENDED));
	}
}

void device_drop(struct device *d)
{
	for (u32 i = 0; i < VU_RINGS_MAX; i++) {
		if (d->dev.rings[i].kick_fd >= 0)
			close(d->dev.rings[i].kick_fd);
	}
	vu_dev_end(&d->dev);
}

void device_close(struct device *d)
{
	device_drop(d);
	vu_dev_fini(&d->dev);
	close(d->listener);
}

/* What the driver still says about itself, and whether it left. */
static bool serve(struct device *d)
{
	struct vu_dev_news news;

	do {
		news = vu_dev_serve(&d->dev);
	} while ((news.facts & VU_DEV_SERVED) && !(news.facts & VU_DEV_ENDED));
	return !(news.facts & VU_DEV_ENDED);
}

/* Take a chain; one must come. */
static struct vu_pop take(struct device *d, u32 ring, struct iovec *iov)
{
	struct vu_ring *r = &d->dev.rings[ring];
	struct vu_pop p;

	while ((p = vu_ring_pop(r, &d->dev.mem, ring != VU_RING_TX, iov, SEGMENTS)).what == VU_POP_EMPTY) {
		struct pollfd pfd[] = { { .fd = r->kick_fd, .events = POLLIN },
					{ .fd = d->dev.chan.fd, .events = POLLIN } };
		u64 count;

		if (vu_ring_await(r))
			continue;
		CHECK(poll(pfd, 2, WAIT_MS) > 0);
		if (pfd[0].revents)
			CHECK(read(r->kick_fd, &count, sizeof(count)) == sizeof(count));
		if (pfd[1].revents)
			CHECK(serve(d));
	}
	CHECK(p.what == VU_POP_CHAIN);
	return p;
}

/* Copy @len bytes between memory of ours and the segments, from byte @at of them on. */
static void copy(const struct iovec *iov, u32 niov, size_t at, void *mine, size_t len, bool to_driver)
{
	u8 *bytes = mine;

	for (u32 i = 0; i < niov && len; i++) {
		size_t n;

		if (at >= iov[i].iov_len) {
			at -= iov[i].iov_len;
			continue;
		}
		n = iov[i].iov_len - at < len ? iov[i].iov_len - at : len;
		if (to_driver)
			memcpy((u8 *)iov[i].iov_base + at, bytes, n);
		else
			memcpy(bytes, (u8 *)iov[i].iov_base + at, n);
		bytes += n;
		len -= n;
		at = 0;
	}
	CHECK(!len);
}

void device_send(struct device *d, struct vsp_hdr hdr, const void *payload, u32 have)
{
	struct vu_ring *r = &d->dev.rings[VU_RING_RX];
	struct vsp_wire wire = vsp_encode(hdr);
	struct iovec iov[SEGMENTS];
	struct vu_pop p = take(d, VU_RING_RX, iov);

	copy(iov, p.niov, 0, &wire, sizeof(wire), true);
	if (have)
		copy(iov, p.niov, sizeof(wire), (void *)(uintptr_t)payload, have, true);
	vu_ring_use(r, p.head, (u32)sizeof(wire) + have);
	vu_ring_publish(r);
}

struct vsp_hdr device_recv(struct device *d, void *buf)
{
	const struct vsp_filter any = { .my_cid = VSP_CID_ANY, .peer_cid = VSP_CID_ANY, .types = ~0u };
	struct vu_ring *r = &d->dev.rings[VU_RING_TX];
	struct iovec iov[SEGMENTS];
	struct vu_pop p = take(d, VU_RING_TX, iov);
	struct vsp_decoded dec;
	struct vsp_wire wire;

	copy(iov, p.niov, 0, &wire, sizeof(wire), false);
	dec = vsp_decode(&wire, p.bytes, any);
	CHECK(dec.why == VSP_OK);
	if (buf)
		copy(iov, p.niov, sizeof(wire), buf, dec.hdr.len, false);
	vu_ring_use(r, p.head, 0);
	vu_ring_publish(r);
	return dec.hdr;
}

struct vsp_hdr device_expect(struct device *d, enum vsp_type type, enum vsp_op op)
{
	struct vsp_hdr hdr;

	do {
		hdr = device_recv(d, NULL);
	} while (hdr.op != op && (hdr.op == VSP_OP_CREDIT_UPDATE || hdr.op == VSP_OP_CREDIT_REQUEST) &&
		 hdr.type != VSP_TYPE_DGRAM);
	if (hdr.op != op || hdr.type != type)
		fprintf(stderr, "# type %u op %u instead of %d %d\n", hdr.type, hdr.op, type, op);
	CHECK(hdr.op == op && hdr.type == type);
	return hdr;
}

void device_event(struct device *d, u32 id, u32 len)
{
	struct vu_ring *r = &d->dev.rings[VU_RING_EVENT];
	__le32 wire[2] = { cpu_to_le32(id), 0 };
	struct iovec iov[SEGMENTS];
	struct vu_pop p = take(d, VU_RING_EVENT, iov);

	copy(iov, p.niov, 0, wire, len, true);
	vu_ring_use(r, p.head, len);
	vu_ring_publish(r);
}

bool device_gone(struct device *d)
{
	while (readable(d->dev.chan.fd)) {
		if (!serve(d))
			return true;
	}
	return false;
}
