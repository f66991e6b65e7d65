// SPDX-License-Identifier: BSD-2-Clause
/*
 * What the ioctls of /dev/vhost-vsock answer to good, bad and untimely calls. The list is printed, not judged: a test
 * runs it with our module and with the stock one and compares.
 */
#include "host.h"
#include "abi.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/vhost.h>

enum {
	MEMORY = 4 << 20,
	GPA = 1 << 30,
	RING = 64 << 10, /* bytes of memory per ring */
	REGIONS = 512,
};

static u8 *memory;
static int device;

static void say(const char *what, int result)
{
	printf("%s: %s\n", what, result < 0 ? strerrorname_np(errno) : "ok");
}

static void call(const char *what, unsigned long request, void *arg)
{
	say(what, ioctl(device, request, arg));
}

static void call_u64(const char *what, unsigned long request, u64 value)
{
	call(what, request, &value);
}

static void call_int(const char *what, unsigned long request, int value)
{
	call(what, request, &value);
}

static void state(const char *what, unsigned long request, u32 index, u32 num)
{
	struct vhost_vring_state s = { .index = index, .num = num };

	call(what, request, &s);
}

static void file(const char *what, unsigned long request, u32 index, int fd)
{
	struct vhost_vring_file f = { .index = index, .fd = fd };

	call(what, request, &f);
}

static struct vhost_vring_addr addr_of(u32 index)
{
	u64 at = (u64)(uintptr_t)memory + index * RING;

	return (struct vhost_vring_addr){ .index = index,
					  .desc_user_addr = at,
					  .avail_user_addr = at + vu_drv_avail_offset(128),
					  .used_user_addr = at + vu_drv_used_offset(128),
					  .log_guest_addr = GPA + index * RING };
}

static void table(const char *what, u32 n, u32 padding, const struct vhost_memory_region *regions)
{
	struct vhost_memory *t = calloc(1, sizeof(*t) + n * sizeof(*regions));

	CHECK(t);
	t->nregions = n;
	t->padding = padding;
	memcpy(t->regions, regions, n * sizeof(*regions));
	call(what, VHOST_SET_MEM_TABLE, t);
	free(t);
}

/* @n regions of a page each. */
static void many(const char *what, u32 n)
{
	static struct vhost_memory_region r[REGIONS];

	for (u32 i = 0; i < n; i++)
		r[i] = (struct vhost_memory_region){ .guest_phys_addr = GPA + i * 8192ull,
						     .memory_size = 4096,
						     .userspace_addr = (u64)(uintptr_t)memory + i * 4096ull };
	table(what, n, 0, r);
}

static void before_owner(void)
{
	struct vhost_vring_addr a = addr_of(0);

	call("no owner: set_mem_table", VHOST_SET_MEM_TABLE, &a);
	state("no owner: set_vring_num", VHOST_SET_VRING_NUM, 0, 128);
	call("no owner: set_vring_addr", VHOST_SET_VRING_ADDR, &a);
	call_int("no owner: set_running 1", VHOST_VSOCK_SET_RUNNING, 1);
	call_int("no owner: set_running 0", VHOST_VSOCK_SET_RUNNING, 0);
	call_u64("no owner: set_log_base", VHOST_SET_LOG_BASE, 0);
	call_u64("no owner: set_features none", VHOST_SET_FEATURES, 0);
	call_u64("set_features: EVENT_IDX, INDIRECT, VERSION_1", VHOST_SET_FEATURES,
		 VU_BIT(VU_F_VERSION_1) | VU_BIT(VU_F_INDIRECT_DESC) | VU_BIT(VU_F_EVENT_IDX));
	call_u64("set_features: bit 40", VHOST_SET_FEATURES, 1ull << 40);
	call_u64("set_features: bit 63", VHOST_SET_FEATURES, 1ull << 63);
	call_u64("set_features: LOG_ALL without memory", VHOST_SET_FEATURES, VU_BIT(VHOST_F_LOG_ALL));
	call("set_features: bad pointer", VHOST_SET_FEATURES, (void *)8);
	call("get_features: bad pointer", VHOST_GET_FEATURES, (void *)8);
	call_u64("set_backend_features: none", VHOST_SET_BACKEND_FEATURES, 0);
	call_u64("set_backend_features: bit 30", VHOST_SET_BACKEND_FEATURES, 1ull << 30);
}

static void cids(void)
{
	int other = open(DEVICE, O_RDWR);

	for (u64 cid = 0; cid < 3; cid++)
		call_u64("cid: reserved", VHOST_VSOCK_SET_GUEST_CID, cid);
	call_u64("cid: 0xffffffff", VHOST_VSOCK_SET_GUEST_CID, 0xffffffff);
	call_u64("cid: 33 bits", VHOST_VSOCK_SET_GUEST_CID, 1ull << 32 | 5);
	call_u64("cid: 64 bits", VHOST_VSOCK_SET_GUEST_CID, ~0ull);
	call("cid: bad pointer", VHOST_VSOCK_SET_GUEST_CID, (void *)8);
	call_u64("cid: 77", VHOST_VSOCK_SET_GUEST_CID, 77);
	call_u64("cid: 77 again", VHOST_VSOCK_SET_GUEST_CID, 77);
	say("cid: 77 of another", ioctl(other, VHOST_VSOCK_SET_GUEST_CID, &(u64){ 77 }));
	say("cid: 78 of another", ioctl(other, VHOST_VSOCK_SET_GUEST_CID, &(u64){ 78 }));
	call_u64("cid: 78", VHOST_VSOCK_SET_GUEST_CID, 78);
	call_u64("cid: 79", VHOST_VSOCK_SET_GUEST_CID, 79);
	say("cid: 77, given up, of another", ioctl(other, VHOST_VSOCK_SET_GUEST_CID, &(u64){ 77 }));
	close(other);
	call_u64("cid: 77, closed", VHOST_VSOCK_SET_GUEST_CID, 77);
}

static void another_process(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		state("another process: set_vring_num", VHOST_SET_VRING_NUM, 0, 128);
		call("another process: set_owner", VHOST_SET_OWNER, NULL);
		call_int("another process: set_running", VHOST_VSOCK_SET_RUNNING, 1);
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void memory_tables(void)
{
	const u64 uva = (u64)(uintptr_t)memory;
	struct vhost_memory_region r[2] = { { GPA, MEMORY, uva, 0 }, { 0, 4096, uva, 0 } };

	table("memory: none", 0, 0, r);
	table("memory: padding", 1, 1, r);
	table("memory: good", 1, 0, r);
	r[0].memory_size = 0;
	table("memory: empty region", 1, 0, r);
	r[0].memory_size = ~0ull - 4095;
	table("memory: wraps", 1, 0, r);
	r[0].guest_phys_addr = ~0ull - 4095;
	r[0].memory_size = 8192;
	table("memory: wraps at the end", 1, 0, r);
	r[0] = (struct vhost_memory_region){ GPA, 4096, ~0ull - 4095, 0 };
	table("memory: the kernel's", 1, 0, r);
	r[0].userspace_addr = 0xffff888000000000ull;
	table("memory: the kernel's direct map", 1, 0, r);
	many("memory: 64 regions", 64);
	call("memory: bad pointer", VHOST_SET_MEM_TABLE, (void *)8);
	r[0] = (struct vhost_memory_region){ GPA, MEMORY, uva, 0 };
	table("memory: good again", 1, 0, r);
}

static void rings(void)
{
	static const u32 sizes[] = { 0, 3, 129, 0x8000, 0x10000, 0x80000000, 1, 128 };
	struct vhost_vring_addr a;
	char what[64];

	for (u32 i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(what, sizeof(what), "num: %u", sizes[i]);
		state(what, VHOST_SET_VRING_NUM, 0, sizes[i]);
	}
	state("num: ring 2", VHOST_SET_VRING_NUM, 2, 128);
	state("num: ring 0xffffffff", VHOST_SET_VRING_NUM, 0xffffffff, 128);
	call("num: bad pointer", VHOST_SET_VRING_NUM, (void *)8);
	state("base: 65535", VHOST_SET_VRING_BASE, 0, 65535);
	state("base: 65536", VHOST_SET_VRING_BASE, 0, 65536);
	state("base: get", VHOST_GET_VRING_BASE, 0, 0);
	state("base: get of ring 2", VHOST_GET_VRING_BASE, 2, 0);
	state("base: 0", VHOST_SET_VRING_BASE, 0, 0);
	a = addr_of(0);
	a.flags = 2;
	call("addr: unknown flag", VHOST_SET_VRING_ADDR, &a);
	a = addr_of(0);
	a.avail_user_addr++;
	call("addr: odd available ring", VHOST_SET_VRING_ADDR, &a);
	a = addr_of(0);
	a.used_user_addr += 2;
	call("addr: odd used ring", VHOST_SET_VRING_ADDR, &a);
	a = addr_of(0);
	a.log_guest_addr += 2;
	call("addr: odd log", VHOST_SET_VRING_ADDR, &a);
	a = addr_of(0);
	a.desc_user_addr++;
	call("addr: odd table", VHOST_SET_VRING_ADDR, &a);
	a = addr_of(2);
	call("addr: ring 2", VHOST_SET_VRING_ADDR, &a);
	file("kick: no file", VHOST_SET_VRING_KICK, 0, 999);
	file("kick: no eventfd", VHOST_SET_VRING_KICK, 0, device);
	file("call: no file", VHOST_SET_VRING_CALL, 0, 999);
	file("call: no eventfd", VHOST_SET_VRING_CALL, 0, device);
	file("err: no eventfd", VHOST_SET_VRING_ERR, 0, device);
	file("err: none", VHOST_SET_VRING_ERR, 0, -1);
	file("kick: ring 2", VHOST_SET_VRING_KICK, 2, -1);
	call_int("log fd: no file", VHOST_SET_LOG_FD, 999);
	call_int("log fd: none", VHOST_SET_LOG_FD, -1);
	state("busyloop: set", VHOST_SET_VRING_BUSYLOOP_TIMEOUT, 0, 50);
	state("busyloop: get", VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 0, 0);
	state("endian: set", VHOST_SET_VRING_ENDIAN, 0, VHOST_VRING_LITTLE_ENDIAN);
	state("endian: get", VHOST_GET_VRING_ENDIAN, 0, 0);
}

static void running(void)
{
	struct vhost_vring_addr a = addr_of(0);

	call_int("running: nothing set", VHOST_VSOCK_SET_RUNNING, 1);
	for (u32 i = 0; i < 2; i++) {
		a = addr_of(i);
		state("running: num", VHOST_SET_VRING_NUM, i, 128);
		call("running: addr", VHOST_SET_VRING_ADDR, &a);
	}
	a = addr_of(1);
	a.used_user_addr = 0x1000;
	call("running: an address that is not mapped", VHOST_SET_VRING_ADDR, &a);
	call_int("running: with it", VHOST_VSOCK_SET_RUNNING, 1);
	a.used_user_addr = 0xffff888000000000ull;
	call("running: the kernel's address", VHOST_SET_VRING_ADDR, &a);
	call_int("running: with that", VHOST_VSOCK_SET_RUNNING, 1);
	a = addr_of(1);
	call("running: a good address", VHOST_SET_VRING_ADDR, &a);
	call_int("running: 1", VHOST_VSOCK_SET_RUNNING, 1);
	call_int("running: 1 again", VHOST_VSOCK_SET_RUNNING, 1);
	state("running: num while it runs", VHOST_SET_VRING_NUM, 0, 64);
	state("running: base while it runs", VHOST_SET_VRING_BASE, 0, 0);
	call("running: addr while it runs", VHOST_SET_VRING_ADDR, &a);
	a.used_user_addr = 0xffff888000000000ull;
	call("running: the kernel's address while it runs", VHOST_SET_VRING_ADDR, &a);
	file("running: kick", VHOST_SET_VRING_KICK, 0, eventfd(1, 0));
	file("running: call", VHOST_SET_VRING_CALL, 0, eventfd(0, 0));
	file("running: no kick", VHOST_SET_VRING_KICK, 0, -1);
	call_int("running: 7", VHOST_VSOCK_SET_RUNNING, 7);
	call_int("running: 0", VHOST_VSOCK_SET_RUNNING, 0);
	call_int("running: 0 again", VHOST_VSOCK_SET_RUNNING, 0);
	state("running: num when it has stopped", VHOST_SET_VRING_NUM, 0, 64);
	call("running: bad pointer", VHOST_VSOCK_SET_RUNNING, (void *)8);
}

static void others(void)
{
	call("unknown ioctl", _IOW(VHOST_VIRTIO, 0xee, struct vhost_vring_state), &(struct vhost_vring_state){ 0 });
	call("another driver's ioctl", _IO('x', 1), &(u64){ 0 });
	call("reset_owner", VHOST_RESET_OWNER, &(u64){ 0 });
	say("lseek", (int)lseek(device, 10, SEEK_SET));
	say("open a second time", open(DEVICE, O_RDWR));
}

int abi_list(void)
{
	struct stat st;

	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	device = open(DEVICE, O_RDWR);
	if (device < 0 || memory == MAP_FAILED || stat(DEVICE, &st))
		return 1;
	printf("node: %u:%u %o\n", major(st.st_rdev), minor(st.st_rdev), st.st_mode);
	before_owner();
	call("set_owner", VHOST_SET_OWNER, NULL);
	call("set_owner again", VHOST_SET_OWNER, NULL);
	another_process();
	call_int("running: without memory", VHOST_VSOCK_SET_RUNNING, 1);
	cids();
	memory_tables();
	rings();
	running();
	others();
	close(device);
	return 0;
}
