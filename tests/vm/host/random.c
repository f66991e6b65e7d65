// SPDX-License-Identifier: BSD-2-Clause
/*
 * Devices opened, configured and closed in random order with random arguments, over memory that holds rings or
 * nonsense, while the host connects to them. Nothing is expected but that the kernel survives and forgets it all.
 *
 * VHOST_SEED repeats a run, VHOST_ROUNDS makes it shorter or longer.
 */
#include "host.h"

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vhost.h>

enum {
	ROUNDS = 40,
	STEPS = 40, /* in a round */
	DEVICES = 3,
	SOCKETS = 4,
	MEMORY = 4 << 20,
	GPA = 1 << 30,
	RING = 1 << 20,
	SIZE = 128,
};

static u8 *memory;
static int devices[DEVICES], sockets[SOCKETS], events[4];
static unsigned int seed;

static u32 pick(u32 n)
{
	return (u32)rand_r(&seed) % n;
}

static u64 number(void)
{
	static const u64 some[] = { 0, 1, 2, 3, 16, 128, 0x7fff, 0x8000, 0xffff, 0x10000, 0xffffffff, ~0ull };

	return pick(2) ? some[pick(sizeof(some) / sizeof(some[0]))] : (u64)rand_r(&seed) << pick(33);
}

static int fd(void)
{
	return pick(4) ? events[pick(4)] : (int)pick(20) - 1;
}

static void set_state(int dev, unsigned long request)
{
	struct vhost_vring_state s = { .index = pick(3), .num = pick(3) ? SIZE : (u32)number() };

	ioctl(dev, request, &s);
}

static void set_file(int dev, unsigned long request)
{
	struct vhost_vring_file f = { .index = pick(3), .fd = fd() };

	ioctl(dev, request, &f);
}

static void set_addr(int dev)
{
	u32 index = pick(2);
	u64 at = (u64)(uintptr_t)memory + index * RING;
	struct vhost_vring_addr a = { .index = index,
				      .flags = pick(8) ? 0 : pick(4),
				      .desc_user_addr = pick(8) ? at : number(),
				      .avail_user_addr = pick(8) ? at + vu_drv_avail_offset(SIZE) : number(),
				      .used_user_addr = pick(8) ? at + vu_drv_used_offset(SIZE) : number(),
				      .log_guest_addr = pick(8) ? GPA : number() };

	ioctl(dev, VHOST_SET_VRING_ADDR, &a);
}

static void set_table(int dev)
{
	struct vhost_memory *t = calloc(1, sizeof(*t) + 4 * sizeof(t->regions[0]));
	u64 uva = (u64)(uintptr_t)memory;

	CHECK(t);
	t->nregions = pick(8) ? 1 + pick(3) : (u32)number();
	for (u32 i = 0; i < 4; i++)
		t->regions[i] = (struct vhost_memory_region){ pick(8) ? GPA + (u64)i * MEMORY : number(),
							      pick(8) ? MEMORY : number(), pick(8) ? uva : number(),
							      0 };
	ioctl(dev, VHOST_SET_MEM_TABLE, t);
	free(t);
}

static void set_u64(int dev, unsigned long request, u64 value)
{
	ioctl(dev, request, &value);
}

static void set_int(int dev, unsigned long request, int value)
{
	ioctl(dev, request, &value);
}

/* What no other step asks of this device, what others have, or nobody; the argument is nonsense, or is not there. */
static void any_request(int dev)
{
	static const unsigned long some[] = {
		VHOST_GET_FEATURES,
		VHOST_GET_BACKEND_FEATURES,
		VHOST_SET_BACKEND_FEATURES,
		VHOST_RESET_OWNER,
		VHOST_SET_VRING_ENDIAN,
		VHOST_GET_VRING_ENDIAN,
		VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
		VHOST_GET_VRING_BUSYLOOP_TIMEOUT,
		VHOST_NET_SET_BACKEND,
		VHOST_VDPA_SUSPEND,
	};
	unsigned long request = some[pick(sizeof(some) / sizeof(some[0]))];
	u64 arg[64];

	for (u32 i = 0; i < sizeof(arg) / sizeof(arg[0]); i++)
		arg[i] = number();
	if (!pick(8))
		request = _IOC(pick(4), VHOST_VIRTIO, pick(256), pick(sizeof(arg)));
	ioctl(dev, request, pick(8) ? (u64)(uintptr_t)arg : number());
}

/* Rings that are in order, with a packet or a buffer in each; or nonsense. */
static void fill_memory(void)
{
	for (u32 i = 0; i < 2; i++) {
		struct vsp_wire_desc *desc = (void *)(memory + i * RING);
		u8 *avail = memory + i * RING + vu_drv_avail_offset(SIZE);
		u16 idx = (u16)pick(SIZE);

		for (u32 k = 0; k < SIZE; k++)
			desc[k] =
				(struct vsp_wire_desc){ cpu_to_le64(pick(16) ? GPA + 2 * RING + pick(RING) : number()),
							cpu_to_le32(pick(16) ? pick(70000) : (u32)number()),
							cpu_to_le16((u16)(pick(16) ? (i ? 0 : 2) : pick(8))),
							cpu_to_le16((u16)pick(SIZE)) };
		for (u32 k = 0; k < SIZE; k++)
			avail[4 + 2 * k] = (u8)pick(SIZE);
		memcpy(avail + 2, &idx, sizeof(idx));
	}
	for (u32 at = 2 * RING; at + 64 < MEMORY; at += 64) {
		struct vsp_hdr hdr = { .src = { CID + pick(DEVICES), pick(100) },
				       .dst = { VSP_CID_HOST, pick(100) },
				       .len = pick(4) ? pick(70000) : (u32)number(),
				       .type = (u16)(1 + pick(2)),
				       .op = (u16)pick(9),
				       .flags = pick(4),
				       .buf_alloc = (u32)number(),
				       .fwd_cnt = pick(4) ? 0 : (u32)number() };
		struct vsp_wire wire = vsp_encode(hdr);

		memcpy(memory + at, &wire, sizeof(wire));
	}
}

static void use_socket(void)
{
	u32 i = pick(SOCKETS);
	char buf[1000] = { 0 };

	switch (pick(4)) {
	case 0:
		if (sockets[i] >= 0)
			close(sockets[i]);
		sockets[i] = host_connect(CID + pick(DEVICES), pick(100));
		break;
	case 1:
		send(sockets[i], buf, sizeof(buf), MSG_NOSIGNAL | MSG_DONTWAIT);
		break;
	case 2:
		recv(sockets[i], buf, sizeof(buf), MSG_DONTWAIT);
		break;
	default:
		if (sockets[i] >= 0)
			close(sockets[i]);
		sockets[i] = -1;
		break;
	}
}

static void step(void)
{
	static const unsigned long states[] = { VHOST_SET_VRING_NUM, VHOST_SET_VRING_BASE, VHOST_GET_VRING_BASE };
	static const unsigned long files[] = { VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR };
	const u64 one = 1;
	u32 i = pick(DEVICES);
	int dev = devices[i];

	switch (pick(17)) {
	case 0:
		close(dev);
		devices[i] = open(DEVICE, O_RDWR | O_CLOEXEC);
		break;
	case 1:
		ioctl(dev, VHOST_SET_OWNER);
		break;
	case 2:
		set_u64(dev, VHOST_VSOCK_SET_GUEST_CID, pick(8) ? CID + pick(DEVICES) : number());
		break;
	case 3:
		set_u64(dev, VHOST_SET_FEATURES,
			pick(4) ? VU_BIT(VU_F_VERSION_1) | FEATURES : number() | VU_BIT(VHOST_F_LOG_ALL));
		break;
	case 4:
		set_u64(dev, VHOST_SET_LOG_BASE, pick(2) ? (u64)(uintptr_t)memory : number());
		break;
	case 5:
		set_int(dev, VHOST_SET_LOG_FD, fd());
		break;
	case 6:
	case 7:
		set_state(dev, states[pick(3)]);
		break;
	case 8:
		set_file(dev, files[pick(3)]);
		break;
	case 9:
		set_addr(dev);
		break;
	case 10:
		set_table(dev);
		break;
	case 11:
	case 12:
		set_int(dev, VHOST_VSOCK_SET_RUNNING, (int)pick(4) > 0);
		break;
	case 13:
		fill_memory();
		break;
	case 14:
		use_socket();
		break;
	case 15:
		any_request(dev);
		break;
	default:
		if (write(events[pick(4)], &one, sizeof(one)) < 0)
			CHECK(0);
		break;
	}
}

/* One device is made ready at the beginning, so that the steps meet one that runs. */
static void make_ready(int dev)
{
	struct vhost_vring_state num = { .num = SIZE };
	struct vhost_memory *t = calloc(1, sizeof(*t) + sizeof(t->regions[0]));

	CHECK(t);
	t->nregions = 1;
	t->regions[0] = (struct vhost_memory_region){ GPA, MEMORY, (u64)(uintptr_t)memory, 0 };
	ioctl(dev, VHOST_SET_OWNER);
	set_u64(dev, VHOST_VSOCK_SET_GUEST_CID, CID);
	ioctl(dev, VHOST_SET_MEM_TABLE, t);
	free(t);
	for (num.index = 0; num.index < 2; num.index++) {
		u64 at = (u64)(uintptr_t)memory + num.index * RING;
		struct vhost_vring_addr a = { .index = num.index,
					      .desc_user_addr = at,
					      .avail_user_addr = at + vu_drv_avail_offset(SIZE),
					      .used_user_addr = at + vu_drv_used_offset(SIZE) };
		struct vhost_vring_file f = { .index = num.index, .fd = events[num.index] };

		ioctl(dev, VHOST_SET_VRING_NUM, &num);
		ioctl(dev, VHOST_SET_VRING_ADDR, &a);
		ioctl(dev, VHOST_SET_VRING_KICK, &f);
	}
	set_int(dev, VHOST_VSOCK_SET_RUNNING, 1);
}

static void random_order(void)
{
	const char *given = getenv("VHOST_SEED"), *wanted = getenv("VHOST_ROUNDS");
	unsigned int first = given ? (unsigned int)strtoul(given, NULL, 0) : (unsigned int)now_ms();
	u32 rounds = wanted ? (u32)strtoul(wanted, NULL, 0) : ROUNDS;
	int listener = host_listen(50, 100);

	fprintf(stderr, "# VHOST_SEED=%u\n", first);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	for (u32 i = 0; i < 4; i++)
		events[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (u32 i = 0; i < SOCKETS; i++)
		sockets[i] = -1;
	for (u32 round = 0; round < rounds; round++) {
		int fd;

		seed = first + round;
		for (u32 i = 0; i < DEVICES; i++)
			devices[i] = open(DEVICE, O_RDWR | O_CLOEXEC);
		make_ready(devices[0]);
		for (u32 i = 0; i < STEPS; i++)
			step();
		for (u32 i = 0; i < DEVICES; i++)
			close(devices[i]);
		while ((fd = accept(listener, NULL, NULL)) >= 0)
			close(fd);
	}
	for (u32 i = 0; i < SOCKETS; i++) {
		if (sockets[i] >= 0)
			close(sockets[i]);
	}
}

const struct test random_tests[] = {
	{ "random ioctls in random order over random memory", random_order },
	{ NULL, NULL },
};
