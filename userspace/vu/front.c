// SPDX-License-Identifier: BSD-2-Clause
#include "vu/front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Addresses that no program would have by accident: a device that mixes them up is noticed. */
#define FRONT_GPA 0x0000000140000000ull
#define FRONT_UVA 0x00007abc00000000ull

u64 vu_front_gpa(u64 at)
{
	return FRONT_GPA + at;
}

static s64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (s64)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A complete message, in time: 0, -EPROTO, or -EINTR if something else is in a hurry. */
static int recv_reply(struct vu_front *f)
{
	struct pollfd pfd[] = { { .fd = f->chan.fd, .events = POLLIN }, { .fd = f->opts.hurry_fd, .events = POLLIN } };
	s64 until = now_ms() + VU_FRONT_REPLY_MS, left;
	const char *why;
	enum vu_chan_got got;
	int n;

	/* The socket of a device that is trusted is one that waits. */
	while ((got = vu_chan_recv(&f->chan, &why)) == VU_CHAN_MORE && f->opts.wary) {
		left = until - now_ms();
		n = left > 0 ? poll(pfd, f->opts.hurry_fd ? 2 : 1, (int)left) : 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (pfd[1].revents)
			return -EINTR;
	}
	return got == VU_CHAN_MSG ? 0 : -EPROTO;
}

int vu_front_call(struct vu_front *f, struct vu_msg *msg, bool reply)
{
	u32 request = msg->request;
	int err;

	msg->flags |= VU_FLAG_VERSION;
	err = vu_chan_send(&f->chan, msg);
	if (err || !reply)
		return err;
	err = recv_reply(f);
	if (err)
		return err;
	*msg = f->chan.in;
	vu_chan_done(&f->chan);
	return msg->request == request && (msg->flags & VU_FLAG_REPLY) ? 0 : -EPROTO;
}

static int call_u64(struct vu_front *f, enum vu_request request, u64 value)
{
	struct vu_msg msg = { .request = request, .size = sizeof(u64), .body.u64 = value };

	return vu_front_call(f, &msg, false);
}

static int ask_u64(struct vu_front *f, enum vu_request request, u64 *value)
{
	struct vu_msg msg = { .request = request };
	int err = vu_front_call(f, &msg, true);

	*value = msg.body.u64;
	return !err && msg.size != sizeof(u64) ? -EPROTO : err;
}

int vu_front_ask_cid(struct vu_front *f)
{
	const u32 size = offsetof(struct vu_config, bytes) + sizeof(u64);
	struct vu_msg config = { .request = VU_GET_CONFIG, .size = size, .body.config.size = sizeof(u64) };
	int err = vu_front_call(f, &config, true);

	if (!err && config.size < size)
		err = -EPROTO;
	if (err)
		return err;
	memcpy(&f->guest_cid, config.body.config.bytes, sizeof(f->guest_cid));
	f->guest_cid = le64_to_cpu(f->guest_cid);
	return 0;
}

static int negotiate(struct vu_front *f)
{
	struct vu_msg owner = { .request = VU_SET_OWNER };
	const u64 protocol = VU_BIT(VU_PF_MQ) | VU_BIT(VU_PF_LOG_SHMFD) | VU_BIT(VU_PF_CONFIG) |
			     VU_BIT(VU_PF_REPLY_ACK);
	u64 offered = 0, offered_protocol = 0;
	int err = ask_u64(f, VU_GET_FEATURES, &offered);

	if (!err && (offered & VU_BIT(VU_F_PROTOCOL_FEATURES)))
		err = ask_u64(f, VU_GET_PROTOCOL_FEATURES, &offered_protocol);
	if (!err && (offered & VU_BIT(VU_F_PROTOCOL_FEATURES)))
		err = call_u64(f, VU_SET_PROTOCOL_FEATURES, offered_protocol & protocol);
	if (!err)
		err = vu_front_call(f, &owner, false);
	if (!err)
		err = vu_front_ask_cid(f);
	if (err)
		return err;
	f->features = offered & (f->opts.features | VU_BIT(VU_F_PROTOCOL_FEATURES) | VU_BIT(VU_F_VERSION_1));
	return call_u64(f, VU_SET_FEATURES, f->features);
}

static int share_memory(struct vu_front *f)
{
	u64 half = f->opts.whole ? 0 : f->opts.memory / 2 & ~4095ull;
	struct vu_msg msg = { .request = VU_SET_MEM_TABLE, .fds = { f->memfd, f->memfd } };
	struct vu_mem_table *t = &msg.body.table;

	if (half)
		t->regions[t->nregions++] = (struct vu_region_desc){ .gpa = FRONT_GPA, .uva = FRONT_UVA, .size = half };
	t->regions[t->nregions++] = (struct vu_region_desc){
		.gpa = FRONT_GPA + half, .uva = FRONT_UVA + half, .size = f->opts.memory - half, .mmap_offset = half
	};
	msg.nfds = t->nregions;
	msg.size = (u32)(offsetof(struct vu_mem_table, regions) + t->nregions * sizeof(t->regions[0]));
	return vu_front_call(f, &msg, false);
}

static int ring_fd(struct vu_front *f, enum vu_request request, u32 index, int fd)
{
	struct vu_msg msg = { .request = request, .size = sizeof(u64), .body.u64 = index, .nfds = 1, .fds = { fd } };

	return vu_front_call(f, &msg, false);
}

static int ring_state(struct vu_front *f, enum vu_request request, u32 index, u32 num)
{
	struct vu_msg msg = { .request = request,
			      .size = sizeof(struct vu_vring_state),
			      .body.state = { .index = index, .num = num } };

	return vu_front_call(f, &msg, false);
}

static int ring_address(struct vu_front *f, u32 i, u32 flags)
{
	u64 at = (u64)i * VU_FRONT_RING_BYTES;
	u32 size = f->opts.ring_size;
	struct vu_msg addr = { .request = VU_SET_VRING_ADDR,
			       .size = sizeof(struct vu_vring_addr),
			       .body.addr = { .index = i,
					      .flags = flags,
					      .desc = FRONT_UVA + at,
					      .avail = FRONT_UVA + at + vu_drv_avail_offset(size),
					      .used = FRONT_UVA + at + vu_drv_used_offset(size),
					      .log = FRONT_GPA + at + vu_drv_used_offset(size) } };

	return vu_front_call(f, &addr, false);
}

static int start_ring(struct vu_front *f, u32 i)
{
	u64 at = (u64)i * VU_FRONT_RING_BYTES;
	u32 size = f->opts.ring_size;
	int err = vu_drv_init(&f->drv[i], f->mem + at, size, f->opts.base, f->features & VU_BIT(VU_F_EVENT_IDX));

	if (!err)
		err = ring_state(f, VU_SET_VRING_NUM, i, size);
	if (!err)
		err = ring_state(f, VU_SET_VRING_BASE, i, f->opts.base);
	if (!err)
		err = ring_address(f, i, 0);
	if (!err)
		err = ring_fd(f, VU_SET_VRING_CALL, i, f->drv[i].call_fd);
	if (!err)
		err = ring_fd(f, VU_SET_VRING_KICK, i, f->drv[i].kick_fd);
	return err ? err : ring_state(f, VU_SET_VRING_ENABLE, i, 1);
}

/* As QEMU does it: the features of a device that runs, and the addresses of its rings once more. */
static int set_logging(struct vu_front *f, bool on)
{
	u64 features = f->features | (on ? VU_BIT(VU_F_LOG_ALL) : 0), offered;
	int err = call_u64(f, VU_SET_FEATURES, features);

	for (u32 i = 0; i < f->opts.rings && !err; i++)
		err = ring_address(f, i, on ? VU_VRING_LOG : 0);
	return err ? err : ask_u64(f, VU_GET_FEATURES, &offered);
}

int vu_front_log(struct vu_front *f, int fd, u64 size, u64 offset)
{
	struct vu_msg msg = { .request = VU_SET_LOG_BASE,
			      .size = sizeof(struct vu_log_desc),
			      .body.log = { .size = size, .mmap_offset = offset },
			      .nfds = 1,
			      .fds = { fd } };
	int err = vu_front_call(f, &msg, true);

	return err ? err : set_logging(f, true);
}

int vu_front_unlog(struct vu_front *f)
{
	return set_logging(f, false);
}

/* Connect to @path, which is an abstract name if it begins with '@'. */
static int dial(int fd, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len = strlen(path);

	if (len >= sizeof(sa.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(sa.sun_path, path, len);
	if (path[0] == '@')
		sa.sun_path[0] = '\0';
	else
		len++;
	return connect(fd, (struct sockaddr *)&sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

int vu_front_open(struct vu_front *f, const char *path, const struct vu_front_opts *opts)
{
	struct timeval patience = { .tv_sec = VU_FRONT_REPLY_MS / 1000 };
	u64 offered;
	int err = 0;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(f, 0, sizeof(*f));
	f->opts = *opts;
	vu_chan_open(&f->chan, fd);
	for (u32 i = 0; i < VU_FRONT_RINGS_MAX; i++)
		f->drv[i].kick_fd = f->drv[i].call_fd = -1;
	f->memfd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	f->mem = MAP_FAILED;
	if (fd < 0 || f->memfd < 0 || ftruncate(f->memfd, (off_t)opts->memory))
		goto fail;
	if (opts->wary && fcntl(f->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		goto fail;
	f->mem = mmap(NULL, opts->memory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, f->memfd, 0);
	if (f->mem == MAP_FAILED)
		goto fail;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (dial(fd, path))
		goto fail;
	if (opts->wary)
		fcntl(fd, F_SETFL, O_NONBLOCK);
	err = negotiate(f);
	if (!err)
		err = share_memory(f);
	for (u32 i = 0; i < opts->rings && !err; i++)
		err = start_ring(f, i);
	/* Messages are dealt with in order: an answer says that the rings are served. */
	if (!err)
		err = ask_u64(f, VU_GET_FEATURES, &offered);
	if (!err)
		return 0;
	errno = -err;
fail:
	err = -errno;
	vu_front_close(f);
	return err;
}

void vu_front_close(struct vu_front *f)
{
	vu_chan_close(&f->chan);
	vu_front_release(f);
}

void vu_front_release(struct vu_front *f)
{
	for (u32 i = 0; i < f->opts.rings; i++) {
		if (f->drv[i].next)
			vu_drv_fini(&f->drv[i]);
		f->drv[i].next = NULL;
	}
	if (f->mem != MAP_FAILED)
		munmap(f->mem, f->opts.memory);
	if (f->memfd >= 0)
		close(f->memfd);
	f->mem = MAP_FAILED;
	f->memfd = -1;
}
