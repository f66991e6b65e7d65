// SPDX-License-Identifier: BSD-2-Clause
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/membarrier.h>
#include <linux/vhost.h>
#include <linux/vm_sockets.h>

u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

void pause_a_little(void)
{
	const struct timespec ts = { .tv_nsec = 1000000 };

	nanosleep(&ts, NULL); /* poll interval */
}

/* ---- the guest ---- */

void guest_begin(struct guest *g, u32 cid, u32 ring, u32 buffer, u64 features)
{
	int err;

	memset(&g->peer, 0, sizeof(g->peer));
	g->cid = cid;
	err = peer_open_vhost(&g->peer, DEVICE, cid, ring, buffer, false, features);
	if (err)
		fprintf(stderr, "# %s: %s\n", DEVICE, strerror(-err));
	CHECK(!err);
}

void guest_end(struct guest *g)
{
	peer_close_vhost(&g->peer);
}

void guest_reboot_empty(struct guest *g)
{
	CHECK(!vu_vhost_run(&g->peer.f, false));
	for (u32 i = 0; i < g->peer.f.opts.rings; i++)
		CHECK(!vu_vhost_ring(&g->peer.f, i));
	CHECK(!vu_vhost_run(&g->peer.f, true));
}

void guest_reboot(struct guest *g)
{
	guest_reboot_empty(g);
	peer_post_all(&g->peer);
}

int guest_share_pieces(struct guest *g, u32 n, u32 hole, u32 holes, u64 overlap)
{
	struct vhost_memory *t = calloc(1, sizeof(*t) + n * sizeof(t->regions[0]));
	u64 size = g->peer.f.opts.memory / n & ~4095ull;
	int err;

	CHECK(t);
	for (u32 i = n; i-- > 0;) {
		u64 at = i * size;

		if (i >= hole && i - hole < holes)
			continue;
		t->regions[t->nregions++] = (struct vhost_memory_region){
			.guest_phys_addr = vu_front_gpa(at),
			.memory_size = i + 1 < n ? size + overlap : g->peer.f.opts.memory - at,
			.userspace_addr = (u64)(uintptr_t)(g->peer.f.mem + at),
		};
	}
	err = ioctl(g->peer.f.device, VHOST_SET_MEM_TABLE, t) ? -errno : 0;
	free(t);
	return err;
}

int guest_watch_errors(struct guest *g, u32 ring)
{
	struct vhost_vring_file file = { .index = ring, .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };

	CHECK(file.fd >= 0 && !ioctl(g->peer.f.device, VHOST_SET_VRING_ERR, &file));
	return file.fd;
}

struct vsp_hdr guest_hdr(const struct guest *g, const struct flow *f, enum vsp_op op)
{
	return (struct vsp_hdr){
		.src = { .cid = g->cid, .port = f->guest_port },
		.dst = { .cid = VSP_CID_HOST, .port = f->host_port },
		.type = f->messages ? VSP_TYPE_SEQPACKET : VSP_TYPE_STREAM,
		.op = (u16)op,
		.buf_alloc = WINDOW,
		.fwd_cnt = f->got,
	};
}

void guest_send(struct guest *g, struct vsp_hdr hdr)
{
	CHECK(peer_send(&g->peer, hdr, g->buf, hdr.len, g->peer.f.opts.ring_size < 2 ? PEER_ONE : PEER_TWO));
}

static void note(struct flow *f, const struct vsp_hdr *hdr)
{
	f->edge = hdr->fwd_cnt + hdr->buf_alloc;
}

static bool about_credit(const struct vsp_hdr *hdr)
{
	return hdr->op == VSP_OP_CREDIT_UPDATE || hdr->op == VSP_OP_CREDIT_REQUEST;
}

struct vsp_hdr guest_expect(struct guest *g, struct flow *f, enum vsp_op op)
{
	struct vsp_hdr hdr;

	do {
		CHECK(peer_recv(&g->peer, &hdr, g->buf, WAIT_MS));
		if (hdr.op == op || !about_credit(&hdr))
			break;
	} while (1);
	if (hdr.op != op)
		fprintf(stderr, "# got op %u, wanted %u\n", hdr.op, op);
	CHECK(hdr.op == op);
	CHECK(hdr.src.cid == VSP_CID_HOST && hdr.dst.cid == g->cid);
	note(f, &hdr);
	return hdr;
}

void guest_quiet(struct guest *g)
{
	struct vsp_hdr hdr;

	while (peer_recv(&g->peer, &hdr, g->buf, QUIET_MS))
		CHECK(about_credit(&hdr));
}

/* ---- the host ---- */

static struct sockaddr_vm address(u32 cid, u32 port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
}

static int host_socket(bool messages)
{
	return socket(AF_VSOCK, (messages ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

int host_listen_for(bool messages, u32 port, int backlog)
{
	struct sockaddr_vm sa = address(VMADDR_CID_ANY, port);
	int fd = host_socket(messages);

	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof(sa)) && !listen(fd, backlog));
	return fd;
}

int host_listen(u32 port, int backlog)
{
	return host_listen_for(false, port, backlog);
}

static int connect_within(int seconds, bool messages, u32 cid, u32 port)
{
	struct sockaddr_vm sa = address(cid, port);
	int fd = host_socket(messages);
	struct timeval patience = { .tv_sec = seconds };
	int err;

	CHECK(fd >= 0);
	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || errno == EINPROGRESS)
		return fd;
	err = errno;
	close(fd);
	return -err;
}

int host_connect_for(bool messages, u32 cid, u32 port)
{
	/* The core keeps a socket that connects without waiting for so long, even if it was closed. */
	return connect_within(2, messages, cid, port);
}

int host_connect(u32 cid, u32 port)
{
	return host_connect_for(false, cid, port);
}

int host_connect_patiently(bool messages, u32 cid, u32 port)
{
	return connect_within(WAIT_MS / 1000, messages, cid, port);
}

bool host_wait(int fd, short events, int ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, ms) > 0;
}

int host_error(int fd)
{
	u64 until = now_ms() + WAIT_MS;
	socklen_t len = sizeof(int);
	int err = 0;

	while (!err) {
		CHECK(now_ms() < until);
		CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
		pause_a_little();
	}
	return err;
}

int host_connected(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	CHECK(host_wait(fd, POLLOUT, WAIT_MS));
	CHECK(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	return err;
}

u32 host_port(int fd)
{
	struct sockaddr_vm sa = { 0 };
	socklen_t len = sizeof(sa);

	CHECK(!getsockname(fd, (struct sockaddr *)&sa, &len));
	return sa.svm_port;
}

/* ---- connections ---- */

void flow_ask_host(struct guest *g, int listener, struct flow *f)
{
	struct vsp_hdr hdr;

	guest_send(g, guest_hdr(g, f, VSP_OP_REQUEST));
	hdr = guest_expect(g, f, VSP_OP_RESPONSE);
	CHECK(hdr.buf_alloc == WINDOW && hdr.fwd_cnt == 0);
	CHECK(host_wait(listener, POLLIN, WAIT_MS));
	f->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(f->fd >= 0);
}

void flow_ask_guest(struct guest *g, struct flow *f)
{
	struct vsp_hdr hdr;

	f->fd = host_connect_patiently(f->messages, g->cid, f->guest_port);
	CHECK(f->fd >= 0);
	hdr = guest_expect(g, f, VSP_OP_REQUEST);
	f->host_port = hdr.src.port;
	CHECK(hdr.dst.port == f->guest_port && f->host_port == host_port(f->fd));
	guest_send(g, guest_hdr(g, f, VSP_OP_RESPONSE));
	CHECK(!host_connected(f->fd));
}

struct flow open_by_guest(struct guest *g, int listener, u32 port, u32 guest_port)
{
	struct flow f = { .host_port = port, .guest_port = guest_port };

	flow_ask_host(g, listener, &f);
	return f;
}

struct flow open_by_host(struct guest *g, u32 guest_port)
{
	struct flow f = { .guest_port = guest_port };

	flow_ask_guest(g, &f);
	return f;
}

void guest_abandon(struct guest *g, int listener, u32 port, u32 n)
{
	const u32 at_once = 32, first = 1000;

	for (u32 asked = 0, closed = 0; closed < n; closed++) {
		int fd;

		for (; asked < n && asked < closed + at_once; asked++) {
			struct flow f = { .host_port = port, .guest_port = first + asked };

			guest_send(g, guest_hdr(g, &f, VSP_OP_REQUEST));
		}
		CHECK(host_wait(listener, POLLIN, WAIT_MS));
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		CHECK(fd >= 0 && !close(fd));
	}
}

/* What came for the guest meanwhile: payload is checked and acknowledged. */
static void guest_takes(struct guest *g, struct flow *f, int ms)
{
	struct vsp_hdr hdr;
	u32 acked = f->got;

	while (peer_recv(&g->peer, &hdr, g->buf, ms)) {
		CHECK(hdr.op == VSP_OP_RW || about_credit(&hdr));
		CHECK(hdr.src.port == f->host_port && hdr.dst.port == f->guest_port);
		note(f, &hdr);
		for (u32 i = 0; i < hdr.len; i++)
			CHECK(g->buf[i] == byte_at(f->got + i, 2));
		f->got += hdr.len;
		if (f->got - acked >= WINDOW / 2) {
			guest_send(g, guest_hdr(g, f, VSP_OP_CREDIT_UPDATE));
			acked = f->got;
		}
		ms = 0;
	}
	if (f->got != acked)
		guest_send(g, guest_hdr(g, f, VSP_OP_CREDIT_UPDATE));
}

static void host_takes(struct flow *f)
{
	static u8 buf[VSP_MAX_PAYLOAD];
	ssize_t n;

	while ((n = recv(f->fd, buf, sizeof(buf), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			CHECK(buf[i] == byte_at(f->read + (u32)i, 1));
		f->read += (u32)n;
	}
	CHECK(n == 0 || errno == EAGAIN);
}

void flow_to_host(struct guest *g, struct flow *f, u32 bytes, u32 packet, enum peer_shape shape)
{
	u64 until = now_ms() + WAIT_MS;
	u32 end = f->sent + bytes;

	while (f->read != end) {
		u32 room = f->edge - f->sent, n = end - f->sent;

		CHECK(now_ms() < until);
		n = n < packet ? n : packet;
		if (n && n <= room) {
			struct vsp_hdr hdr = guest_hdr(g, f, VSP_OP_RW);

			hdr.len = n;
			for (u32 i = 0; i < n; i++)
				g->buf[i] = byte_at(f->sent + i, 1);
			CHECK(peer_send(&g->peer, hdr, g->buf, n, shape));
			f->sent += n;
			until = now_ms() + WAIT_MS;
			continue;
		}
		host_takes(f);
		guest_takes(g, f, f->read == end ? 0 : 1);
	}
}

void flow_to_guest(struct guest *g, struct flow *f, u32 bytes, u32 write_size)
{
	static u8 buf[1 << 20];
	u64 until = now_ms() + WAIT_MS;
	u32 end = f->written + bytes;

	while (f->got != end) {
		u32 want = end - f->written < write_size ? end - f->written : write_size;
		ssize_t n = 0;

		CHECK(now_ms() < until);
		for (u32 i = 0; i < want; i++)
			buf[i] = byte_at(f->written + i, 2);
		if (want) {
			n = send(f->fd, buf, want, MSG_NOSIGNAL);
			CHECK(n > 0 || errno == EAGAIN);
		}
		if (n > 0) {
			f->written += (u32)n;
			until = now_ms() + WAIT_MS;
		}
		guest_takes(g, f, n > 0 ? 0 : 1);
	}
}

void flow_finish(struct guest *g, struct flow *f)
{
	struct vsp_hdr hdr;

	close(f->fd);
	hdr = guest_expect(g, f, VSP_OP_SHUTDOWN);
	CHECK(hdr.flags == VSP_SHUTDOWN_BOTH);
	guest_send(g, guest_hdr(g, f, VSP_OP_RST));
}

/* ---- what the kernel says ---- */

bool counter_of(u32 cid, const char *name, u64 *value)
{
	FILE *file = fopen("/sys/kernel/debug/vhost_vsock/guests", "r");
	char line[128], wanted[96];
	size_t len = (size_t)snprintf(wanted, sizeof(wanted), "%u %s ", cid, name);
	bool good = false;

	CHECK(file);
	while (!good && fgets(line, sizeof(line), file))
		good = !strncmp(line, wanted, len);
	fclose(file);
	if (good)
		*value = strtoull(line + len, NULL, 10);
	return good;
}

u64 counter(u32 cid, const char *name)
{
	u64 value;

	if (counter_of(cid, name, &value))
		return value;
	fprintf(stderr, "# no counter %s of guest %u\n", name, cid);
	exit(1);
}

void counter_reaches(u32 cid, const char *name, u64 least)
{
	u64 until = now_ms() + WAIT_MS;

	while (counter(cid, name) < least) {
		if (now_ms() > until)
			fprintf(stderr, "# %s is %llu\n", name, (unsigned long long)counter(cid, name));
		CHECK(now_ms() < until);
		pause_a_little();
	}
}

long number_in(const char *path, const char *key)
{
	FILE *file = fopen(path, "r");
	char line[128];
	long value = -1;

	CHECK(file);
	while (value < 0 && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, key, strlen(key)))
			value = strtol(line + strlen(key), NULL, 10);
	}
	fclose(file);
	CHECK(value >= 0);
	return value;
}

long live(const char *what)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/module/vst_common/parameters/live_%s", what);
	return number_in(path, "");
}

bool kernel_checks(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK);
}

u32 flood_of(u32 packets)
{
	return kernel_checks() ? packets / CHECKED_FLOODS : packets;
}

/* Free pages that each processor keeps for itself: newer kernels let them be megabytes, and do not call them free. */
static long pages_at_hand_kib(void)
{
	FILE *file = fopen("/proc/zoneinfo", "r");
	long sum = 0, pages;
	char line[128];

	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " count: %ld", &pages) == 1)
			sum += pages;
	}
	fclose(file);
	return sum * (sysconf(_SC_PAGESIZE) >> 10);
}

/* What the kernel holds, caches of files left out. One with KASAN holds much that was freed: that says nothing. */
long memory_used_kib(void)
{
	if (kernel_checks())
		return 0;
	return number_in("/proc/meminfo", "MemTotal:") - number_in("/proc/meminfo", "MemAvailable:") -
	       pages_at_hand_kib();
}

long slabs_kib(void)
{
	glob_t caches;

	if (kernel_checks())
		return 0;
	/* What waits for a grace period is free then. */
	CHECK(!syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
	CHECK(!glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches));
	for (size_t i = 0; i < caches.gl_pathc; i++) {
		int fd = open(caches.gl_pathv[i], O_WRONLY | O_CLOEXEC);

		CHECK(fd >= 0 && write(fd, "1", 1) == 1 && !close(fd));
	}
	globfree(&caches);
	return number_in("/proc/meminfo", "SUnreclaim:");
}
