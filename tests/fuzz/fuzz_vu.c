// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_vu.c - libFuzzer target for a hostile front-end: its messages, its memory, and the rings that it lays out there
 *
 * Properties: whatever comes, a session ends or goes on; a chain that was taken lies in the guest's memory and is as
 * long as its segments; a broken ring gives nothing more; no descriptor is left when the session is over.
 */
#include "fuzz.h"

#include "vu/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	MEMORY = 1 << 14, /* of the guest; what the input says lies there, again and again */
	GPA = 1 << 20,
	UVA = 1 << 24,
	RING_MAX = 256,
	RING = 64,
	CHAINED = 8, /* descriptors that are nearly right */
	RING_BYTES = MEMORY / 2,
	AVAIL_AT = RING * 16,
	USED_AT = AVAIL_AT + 1024,
	POPS = 8, /* chains taken from a ring after each message */
	SEGMENTS = 64,
};

struct session {
	struct input in;
	struct vu_dev dev;
	int front;
	int memory;
	int kicks[VU_RINGS_MAX];
};

/* Numbers that make sense as often as others. */
static u64 number(struct session *s)
{
	switch (next8(&s->in) % 8) {
	case 0:
		return next32(&s->in) | (u64)next32(&s->in) << 32;
	case 1:
		return next_size(&s->in);
	case 2:
		return GPA + (next16(&s->in) % MEMORY & ~15u);
	case 3:
	case 4:
		return UVA + (next16(&s->in) % MEMORY & ~15u);
	case 5:
		return 1ull << (next8(&s->in) % 17);
	default:
		return next8(&s->in) % 4;
	}
}

static struct vu_region_desc region(struct session *s)
{
	if (next8(&s->in) % 4 == 0)
		return (struct vu_region_desc){ number(s), number(s), number(s), number(s) };
	return (struct vu_region_desc){ .gpa = GPA, .size = MEMORY, .uva = UVA };
}

static void fill(struct session *s, struct vu_msg *m)
{
	switch (m->request) {
	case VU_SET_MEM_TABLE:
		m->body.table.nregions = next8(&s->in) % 4 ? 1 : next8(&s->in);
		for (u32 i = 0; i < VU_TABLE_REGIONS_MAX; i++)
			m->body.table.regions[i] = region(s);
		m->size = 8 + m->body.table.nregions % 9 * (u32)sizeof(struct vu_region_desc);
		break;
	case VU_SET_LOG_BASE:
		m->body.log = (struct vu_log_desc){ .size = number(s), .mmap_offset = number(s) % 4 };
		m->size = sizeof(m->body.log);
		break;
	case VU_ADD_MEM_REG:
	case VU_REM_MEM_REG:
		m->body.one.region = region(s);
		m->size = sizeof(m->body.one);
		break;
	case VU_SET_VRING_ADDR:
		m->body.addr = (struct vu_vring_addr){
			.index = next8(&s->in) % 4, .desc = number(s), .used = number(s), .avail = number(s)
		};
		m->size = sizeof(m->body.addr);
		break;
	case VU_GET_CONFIG:
	case VU_SET_CONFIG:
		m->body.config.offset = (u32)number(s);
		m->body.config.size = (u32)number(s);
		m->size = 12 + m->body.config.size % VU_CONFIG_MAX;
		break;
	case VU_SET_VRING_NUM:
	case VU_SET_VRING_BASE:
	case VU_GET_VRING_BASE:
	case VU_SET_VRING_ENABLE:
		m->body.state = (struct vu_vring_state){ .index = next8(&s->in) % 4, .num = (u32)number(s) };
		m->size = sizeof(m->body.state);
		break;
	default:
		m->body.u64 = number(s);
		m->size = sizeof(m->body.u64);
		break;
	}
	if (next8(&s->in) % 16 == 0)
		m->size = next8(&s->in);
}

static void send_message(struct session *s)
{
	struct vu_msg m = { .request = next8(&s->in) % 40,
			    .flags = VU_FLAG_VERSION | (next8(&s->in) & VU_FLAG_NEED_REPLY) };
	bool needs_fd = m.request == VU_SET_MEM_TABLE || m.request == VU_ADD_MEM_REG ||
			(m.request >= VU_SET_VRING_KICK && m.request <= VU_SET_VRING_ERR);
	struct vu_chan front = { .fd = s->front };

	fill(s, &m);
	m.nfds = next8(&s->in) % 8 ? needs_fd : next8(&s->in) % (VU_FDS_MAX + 1);
	for (u32 i = 0; i < m.nfds; i++)
		m.fds[i] = next8(&s->in) % 8 && m.request < VU_SET_VRING_KICK ? dup(s->memory) :
										eventfd(0, EFD_NONBLOCK);
	(void)vu_chan_send(&front, &m);
	for (u32 i = 0; i < m.nfds; i++)
		close(m.fds[i]);
}

static void say(struct session *s, u32 request, const void *body, u32 size, int fd)
{
	struct vu_msg m = { .request = request, .flags = VU_FLAG_VERSION, .size = size };
	struct vu_chan front = { .fd = s->front };

	m.nfds = fd >= 0;
	m.fds[0] = fd;
	memcpy(&m.body, body, size);
	MUST(!vu_chan_send(&front, &m));
}

/* Chains in ring @i that are nearly right, and an available ring that names them. */
static void lay_chains(struct session *s, u32 i)
{
	struct vsp_wire_desc desc[CHAINED];
	struct {
		u16 flags;
		u16 idx;
		u16 heads[RING];
	} avail = { .flags = next8(&s->in) & 1, .idx = next8(&s->in) % (RING + 2) };

	for (u32 k = 0; k < CHAINED; k++) {
		desc[k] = (struct vsp_wire_desc){ .addr = cpu_to_le64(number(s)),
						  .len = cpu_to_le32(next_size(&s->in)),
						  .flags = cpu_to_le16((i == VU_RING_RX ? VSP_DESC_WRITE : 0) ^
								       (next8(&s->in) & 7 & next8(&s->in))),
						  .next = cpu_to_le16(next8(&s->in) % (CHAINED + 1)) };
		avail.heads[k] = next8(&s->in) % CHAINED;
	}
	MUST(pwrite(s->memory, desc, sizeof(desc), i * RING_BYTES) == sizeof(desc));
	MUST(pwrite(s->memory, &avail, sizeof(avail), i * RING_BYTES + AVAIL_AT) == sizeof(avail));
}

/* Two rings that are fine but for what lies in them: chance alone would hardly ever start one. */
static void set_up(struct session *s)
{
	struct vu_mem_table table = { .nregions = 1, .regions = { { .gpa = GPA, .size = MEMORY, .uva = UVA } } };
	u64 features = VU_BIT(VU_F_VERSION_1) | (next8(&s->in) & 1 ? VU_BIT(VU_F_EVENT_IDX) : 0) |
		       (next8(&s->in) & 1 ? VU_BIT(VU_F_INDIRECT_DESC) : 0);

	say(s, VU_SET_FEATURES, &features, sizeof(features), -1);
	say(s, VU_SET_MEM_TABLE, &table, 8 + sizeof(table.regions[0]), s->memory);
	for (u32 i = 0; i < 2; i++) {
		u64 at = UVA + i * RING_BYTES, index = i;
		struct vu_vring_addr addr = { .index = i, .desc = at, .avail = at + AVAIL_AT, .used = at + USED_AT };
		struct vu_vring_state size = { .index = i, .num = RING }, base = { .index = i };
		int fd = eventfd(0, EFD_NONBLOCK);

		lay_chains(s, i);
		say(s, VU_SET_VRING_NUM, &size, sizeof(size), -1);
		say(s, VU_SET_VRING_BASE, &base, sizeof(base), -1);
		say(s, VU_SET_VRING_ADDR, &addr, sizeof(addr), -1);
		say(s, VU_SET_VRING_KICK, &index, sizeof(index), fd);
		close(fd);
	}
}

/* What the daemon does with doorbells (vu/dev.h). */
static void sync_kicks(struct session *s)
{
	for (u32 i = 0; i < VU_RINGS_MAX; i++) {
		if (s->kicks[i] == s->dev.rings[i].kick_fd)
			continue;
		if (s->kicks[i] >= 0)
			close(s->kicks[i]);
		s->kicks[i] = s->dev.rings[i].kick_fd;
	}
}

static bool in_memory(const struct session *s, const struct iovec *iov)
{
	const u8 *at = iov->iov_base;

	for (u32 i = 0; i < s->dev.mem.n; i++) {
		const struct vu_region *r = &s->dev.mem.regions[i];

		if (at >= r->base && (u64)(at - r->base) <= r->size && iov->iov_len <= r->size - (u64)(at - r->base))
			return true;
	}
	return false;
}

static void take_chains(struct session *s, u32 index)
{
	struct vu_ring *r = &s->dev.rings[index];
	struct iovec iov[SEGMENTS];

	for (u32 i = 0; i < POPS && vu_ring_live(r); i++) {
		struct vu_pop p = vu_ring_pop(r, &s->dev.mem, index == VU_RING_RX, iov, SEGMENTS);
		u64 sum = 0;

		MUST(p.what != VU_POP_BROKEN || (r->broken && p.why));
		if (p.what != VU_POP_CHAIN)
			break;
		MUST(p.niov <= SEGMENTS && p.head < r->size);
		for (u32 k = 0; k < p.niov; k++) {
			sum += iov[k].iov_len;
			MUST(iov[k].iov_len && in_memory(s, &iov[k]));
			/* A segment may be larger than the test has time for; its ends are what matters. */
			if (index == VU_RING_RX) {
				((u8 *)iov[k].iov_base)[0] = 1;
				((u8 *)iov[k].iov_base)[iov[k].iov_len - 1] = 1;
			} else {
				MUST(((volatile u8 *)iov[k].iov_base)[iov[k].iov_len - 1] <= 255);
			}
		}
		MUST(sum == p.bytes);
		if (next8(&s->in) % 4)
			vu_ring_use(r, p.head, index == VU_RING_RX ? p.bytes : 0);
		else
			vu_ring_unpop(r, 1);
	}
	if (vu_ring_live(r)) {
		vu_ring_publish(r);
		vu_ring_await(r);
		vu_ring_hush(r);
	}
}

/* Serve what was said. False: the session is over. */
static bool serve(struct session *s)
{
	struct vu_dev_news news;
	u8 replies[1024];

	do {
		news = vu_dev_serve(&s->dev);
		sync_kicks(s);
		if (news.facts & VU_DEV_ENDED)
			return false;
	} while (news.facts & VU_DEV_SERVED);
	while (recv(s->front, replies, sizeof(replies), MSG_DONTWAIT) > 0)
		;
	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		take_chains(s, i);
	return !s->dev.mem.lost;
}

static void session(struct session *s)
{
	if (next8(&s->in) & 1)
		set_up(s);
	while (serve(s) && s->in.left)
		send_message(s);
}

/* The memory of all sessions, of which each has its own pattern. */
static int share(const uint8_t *data, size_t size)
{
	static u8 bytes[MEMORY];
	static int fd = -1;

	if (fd < 0) {
		MUST(!vu_mem_guard());
		fd = memfd_create("guest", MFD_CLOEXEC);
		MUST(fd >= 0 && !ftruncate(fd, MEMORY));
	}
	for (size_t i = 0; size && i < MEMORY; i++)
		bytes[i] = data[i % size];
	MUST(pwrite(fd, bytes, MEMORY, 0) == MEMORY);
	return fd;
}

/* Open descriptors among the first ones; no session has more. */
static u32 descriptors(void)
{
	enum { FIRST = 256 };
	u32 n = 0;

	for (int fd = 0; fd < FIRST; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct session s;
	int ends[2];
	u32 before;

	s.memory = share(data, size);
	before = descriptors();
	s.in = (struct input){ data, size };
	MUST(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends));
	s.front = ends[0];
	for (u32 i = 0; i < VU_RINGS_MAX; i++)
		s.kicks[i] = -1;
	vu_dev_init(&s.dev, 0, 3, RING_MAX);
	vu_dev_begin(&s.dev, ends[1]);
	session(&s);
	vu_dev_end(&s.dev);
	sync_kicks(&s);
	vu_dev_fini(&s.dev);
	close(ends[0]);
	MUST(descriptors() == before);
	return 0;
}
