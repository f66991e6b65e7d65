// SPDX-License-Identifier: BSD-2-Clause
/* The log of a live migration: it names every page that the device wrote, and no others. */
#include "host.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vhost.h>

enum {
	PORT = 5000,
	RING = 128,
	PAGE = 4096,
};

static struct guest g;
static u8 *bitmap, *before;

static bool is_logged(u64 page)
{
	return bitmap[page / 8] & (1 << page % 8);
}

/* Where the device may write: its part of both rings, and receive buffers. */
static bool is_ours(u64 at)
{
	u32 used = vu_drv_used_offset(RING);
	u64 end;

	for (u32 i = 0; i < 2; i++) {
		u64 first = (u64)i * VU_FRONT_RING_BYTES + used;

		end = first + vsp_used_bytes(RING);
		if (at / PAGE >= first / PAGE && at / PAGE <= (end - 1) / PAGE)
			return true;
	}
	end = vu_front_data(&g.peer.f) + (u64)RING * PEER_SLOT;
	return at >= vu_front_data(&g.peer.f) / PAGE * PAGE && at < end;
}

static void check_log(u32 *logged, u32 *changed)
{
	u64 first = vu_front_gpa(0) / PAGE, pages = g.peer.f.opts.memory / PAGE;
	u64 buffers = vu_front_data(&g.peer.f), end = buffers + (u64)RING * PEER_SLOT;

	for (u64 page = 0; page < first; page++)
		CHECK(!is_logged(page));
	for (u64 i = 0; i < pages; i++) {
		bool differs = memcmp(g.peer.f.mem + i * PAGE, before + i * PAGE, PAGE) != 0;

		CHECK(!is_logged(first + i) || is_ours(i * PAGE));
		/* Nobody else writes to receive buffers. */
		if (i * PAGE >= buffers && i * PAGE < end) {
			CHECK(!differs || is_logged(first + i));
			*changed += differs;
		}
		*logged += is_logged(first + i);
	}
}

static void set_log(bool on)
{
	u64 features = g.peer.f.features | (on ? VU_BIT(VHOST_F_LOG_ALL) : 0), base = (u64)(uintptr_t)bitmap;

	CHECK(!ioctl(g.peer.f.device, VHOST_SET_LOG_BASE, &base));
	CHECK(!ioctl(g.peer.f.device, VHOST_SET_FEATURES, &features));
	for (u32 i = 0; i < 2; i++) {
		u64 at = (u64)i * VU_FRONT_RING_BYTES, uva = (u64)(uintptr_t)g.peer.f.mem + at;
		u32 used = vu_drv_used_offset(RING);
		struct vhost_vring_addr addr = { .index = i,
						 .flags = on << VHOST_VRING_F_LOG,
						 .desc_user_addr = uva,
						 .avail_user_addr = uva + vu_drv_avail_offset(RING),
						 .used_user_addr = uva + used,
						 .log_guest_addr = vu_front_gpa(at + used) };

		CHECK(!ioctl(g.peer.f.device, VHOST_SET_VRING_ADDR, &addr));
	}
}

static void migration_log(void)
{
	int l = host_listen(PORT, 8), log_fd = eventfd(0, EFD_NONBLOCK);
	size_t bytes = (vu_front_gpa(0) + (64 << 20)) / PAGE / 8;
	u32 logged = 0, changed = 0;
	struct flow f;

	guest_begin(&g, CID, RING, 3776, VU_BIT(VU_F_INDIRECT_DESC));
	before = malloc(g.peer.f.opts.memory);
	bitmap = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(before && bitmap != MAP_FAILED && g.peer.f.opts.memory < 64 << 20);
	f = open_by_guest(&g, l, PORT, 50);
	CHECK(!ioctl(g.peer.f.device, VHOST_SET_LOG_FD, &log_fd));
	/* While it runs, as in a migration. */
	set_log(true);
	memcpy(before, g.peer.f.mem, g.peer.f.opts.memory);
	flow_to_guest(&g, &f, 50000, 50000);
	flow_to_host(&g, &f, 50000, 20000, PEER_TWO);
	CHECK(!vu_vhost_run(&g.peer.f, false));
	check_log(&logged, &changed);
	fprintf(stderr, "# %u pages logged, %u buffer pages changed\n", logged, changed);
	CHECK(changed >= 50000 / 3776 && logged >= changed + 2);
	CHECK(host_wait(log_fd, 1, 0));
	/* And off again: nothing more is logged. */
	set_log(false);
	memset(bitmap, 0, bytes);
	CHECK(!vu_vhost_run(&g.peer.f, true));
	flow_to_guest(&g, &f, 50000, 50000);
	for (size_t i = 0; i < bytes; i++)
		CHECK(!bitmap[i]);
	/* A log that is not there ends the guest's connections, and nothing else. */
	set_log(true);
	CHECK(!munmap(bitmap, bytes));
	/* What the guest sent last, and the device had yet to take, may have ended them already. */
	if (send(f.fd, "x", 1, MSG_NOSIGNAL) == 1)
		CHECK(host_error(f.fd) == ECONNRESET);
	else
		CHECK(errno == ECONNRESET || errno == EPIPE);
	close(f.fd);
	guest_end(&g);
}

const struct test log_tests[] = {
	{ "the migration log names every page that was written", migration_log },
	{ NULL, NULL },
};
