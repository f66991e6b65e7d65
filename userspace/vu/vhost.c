// SPDX-License-Identifier: BSD-2-Clause
#include "vu/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <linux/vhost.h>

static int call(const struct vu_front *f, unsigned long request, void *arg)
{
	return ioctl(f->device, request, arg) < 0 ? -errno : 0;
}

int vu_vhost_run(struct vu_front *f, bool run)
{
	int on = run;

	return call(f, VHOST_VSOCK_SET_RUNNING, &on);
}

/* Two regions, unless one is wanted: chains may cross from one to the other. */
int vu_vhost_share(struct vu_front *f)
{
	u64 half = f->opts.whole ? 0 : f->opts.memory / 2 & ~4095ull;
	struct vhost_memory *table = calloc(1, sizeof(*table) + 2 * sizeof(table->regions[0]));
	u64 base = (u64)(uintptr_t)f->mem;
	int err;

	if (!table)
		return -ENOMEM;
	if (half)
		table->regions[table->nregions++] = (struct vhost_memory_region){ .guest_phys_addr = vu_front_gpa(0),
										  .memory_size = half,
										  .userspace_addr = base };
	table->regions[table->nregions++] = (struct vhost_memory_region){ .guest_phys_addr = vu_front_gpa(half),
									  .memory_size = f->opts.memory - half,
									  .userspace_addr = base + half };
	err = call(f, VHOST_SET_MEM_TABLE, table);
	free(table);
	return err;
}

int vu_vhost_ring(struct vu_front *f, u32 i)
{
	u64 at = (u64)i * VU_FRONT_RING_BYTES;
	u32 size = f->opts.ring_size;
	u64 uva = (u64)(uintptr_t)(f->mem + at);
	struct vhost_vring_state num = { .index = i, .num = size }, base = { .index = i, .num = f->opts.base };
	struct vhost_vring_addr addr = { .index = i,
					 .desc_user_addr = uva,
					 .avail_user_addr = uva + vu_drv_avail_offset(size),
					 .used_user_addr = uva + vu_drv_used_offset(size),
					 .log_guest_addr = vu_front_gpa(at + vu_drv_used_offset(size)) };
	struct vhost_vring_file file = { .index = i };
	int err;

	if (f->drv[i].next)
		vu_drv_fini(&f->drv[i]);
	memset(f->mem + at, 0, vu_drv_bytes(size));
	err = vu_drv_init(&f->drv[i], f->mem + at, size, f->opts.base, f->features & VU_BIT(VU_F_EVENT_IDX));
	if (!err)
		err = call(f, VHOST_SET_VRING_NUM, &num);
	if (!err)
		err = call(f, VHOST_SET_VRING_BASE, &base);
	if (!err)
		err = call(f, VHOST_SET_VRING_ADDR, &addr);
	file.fd = f->drv[i].call_fd;
	if (!err)
		err = call(f, VHOST_SET_VRING_CALL, &file);
	file.fd = f->drv[i].kick_fd;
	return err ? err : call(f, VHOST_SET_VRING_KICK, &file);
}

static int configure(struct vu_front *f, u64 cid)
{
	u64 offered = 0;
	int err = call(f, VHOST_GET_FEATURES, &offered);

	f->guest_cid = cid;
	f->features = offered & (f->opts.features | VU_BIT(VU_F_VERSION_1));
	if (!err)
		err = call(f, VHOST_SET_OWNER, NULL);
	if (!err)
		err = call(f, VHOST_VSOCK_SET_GUEST_CID, &cid);
	if (!err)
		err = call(f, VHOST_SET_FEATURES, &f->features);
	if (!err)
		err = vu_vhost_share(f);
	for (u32 i = 0; i < f->opts.rings && !err; i++)
		err = vu_vhost_ring(f, i);
	return err ? err : vu_vhost_run(f, true);
}

int vu_vhost_open(struct vu_front *f, const char *path, u64 cid, const struct vu_front_opts *opts)
{
	int err;

	memset(f, 0, sizeof(*f));
	f->opts = *opts;
	f->opts.rings = 2;
	f->device = open(path, O_RDWR | O_CLOEXEC);
	f->memfd = memfd_create("guest", MFD_CLOEXEC);
	f->mem = MAP_FAILED;
	err = -errno;
	if (f->device >= 0 && f->memfd >= 0 && !ftruncate(f->memfd, (off_t)opts->memory)) {
		f->mem = mmap(NULL, opts->memory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, f->memfd, 0);
		err = f->mem == MAP_FAILED ? -errno : configure(f, cid);
	}
	if (err)
		vu_vhost_close(f);
	return err;
}

void vu_vhost_close(struct vu_front *f)
{
	if (f->device >= 0)
		close(f->device);
	f->device = -1;
	vu_front_release(f);
}
