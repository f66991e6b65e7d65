// SPDX-License-Identifier: BSD-2-Clause
/* Somebody is stuck in a page fault, as on a slow disk or network, or for as long as a debugger likes. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/userfaultfd.h>
#include <linux/vm_sockets.h>

enum {
	PORT = 5000,
	PAGE = 4096,
	WRITE = 64 << 10, /* what goes straight into the guest's buffers, and where its page is missing: */
	HOLE = 7 * PAGE,
	WRITES = 20, /* until they are within reach */
};

static struct guest g;
static const u8 zeros[PAGE] __attribute__((aligned(4096)));

/* From now on a fault at @at waits until uffd_resolve(). */
static int uffd_over(void *at, size_t len)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (u64)(uintptr_t)at, len }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = (int)syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	CHECK(fd >= 0 && !ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg));
	return fd;
}

static void uffd_resolve(int fd, const u8 *page)
{
	struct uffd_msg msg;
	struct uffdio_copy copy;

	CHECK(read(fd, &msg, sizeof(msg)) == sizeof(msg) && msg.event == UFFD_EVENT_PAGEFAULT);
	copy = (struct uffdio_copy){ .dst = msg.arg.pagefault.address & ~(u64)(PAGE - 1),
				     .src = (u64)(uintptr_t)page,
				     .len = PAGE };
	CHECK(!ioctl(fd, UFFDIO_COPY, &copy));
}

struct reader {
	int fd;
	u8 *to;
	ssize_t got; /* or -errno */
	atomic_bool over;
};

static void *read_into_fault(void *arg)
{
	struct reader *r = arg;

	r->got = recv(r->fd, r->to, 1000, 0);
	if (r->got < 0)
		r->got = -errno;
	r->over = true;
	return NULL;
}

/* A reader that is stuck has its socket's lock: everybody else goes on, and it gets all that came meanwhile. */
static void stuck_reader(void)
{
	int l = host_listen(PORT, 8), uffd;
	struct flow stuck, other;
	struct reader reader = { 0 };
	pthread_t thread;
	u8 rest[5000];

	guest_begin(&g, CID, 128, 3776, FEATURES);
	stuck = open_by_guest(&g, l, PORT, 50);
	other = open_by_guest(&g, l, PORT, 51);
	reader.fd = stuck.fd;
	reader.to = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(reader.to != MAP_FAILED);
	uffd = uffd_over(reader.to, PAGE);
	for (u32 round = 0; round < 3; round++) {
		struct vsp_hdr hdr = guest_hdr(&g, &stuck, VSP_OP_RW);

		hdr.len = 1000;
		for (u32 i = 0; i < hdr.len; i++)
			g.buf[i] = byte_at(stuck.sent + i, 1);
		guest_send(&g, hdr);
		stuck.sent += hdr.len;
		if (round == 0) {
			/* recv() does not wait for what the device has yet to take. */
			CHECK(host_wait(stuck.fd, POLLIN, WAIT_MS));
			CHECK(!pthread_create(&thread, NULL, read_into_fault, &reader));
			if (!host_wait(uffd, POLLIN, WAIT_MS)) {
				fprintf(stderr, "# no fault; recv() %s: %zd\n", reader.over ? "is over" : "waits",
					reader.got);
				CHECK(false);
			}
		}
		flow_to_host(&g, &other, 10000, 1000, PEER_TWO);
		flow_to_guest(&g, &other, 10000, 1000);
	}
	uffd_resolve(uffd, zeros);
	CHECK(!pthread_join(thread, NULL));
	CHECK(reader.got == 1000);
	CHECK(recv(stuck.fd, rest, sizeof(rest), 0) == 2000);
	for (u32 i = 0; i < 1000; i++)
		CHECK(reader.to[i] == byte_at(i, 1));
	for (u32 i = 0; i < 2000; i++)
		CHECK(rest[i] == byte_at(1000 + i, 1));
	stuck.read = stuck.sent;
	flow_finish(&g, &other);
	flow_finish(&g, &stuck);
	close(uffd);
	guest_end(&g);
}

struct writer {
	int fd;
	const u8 *from;
	ssize_t sent;
};

static void *write_from_fault(void *arg)
{
	struct writer *w = arg;

	w->sent = send(w->fd, w->from, WRITE, MSG_NOSIGNAL);
	return NULL;
}

/* Large writes, until they go straight into the guest's buffers. */
static void come_within_reach(struct flow *f)
{
	for (u32 i = 0; i < WRITES; i++)
		flow_to_guest(&g, f, WRITE, WRITE);
	CHECK(counter(CID, "tx_straight") > 0);
}

/* A writer that is stuck has its socket's lock, and not the ring: everybody else goes on, and then it does. */
static void stuck_writer(void)
{
	static u8 page[PAGE] __attribute__((aligned(4096)));
	int l = host_listen(PORT, 8), uffd;
	struct flow stuck, other;
	struct writer writer;
	pthread_t thread;
	u8 *from;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	stuck = open_by_guest(&g, l, PORT, 50);
	other = open_by_guest(&g, l, PORT, 51);
	come_within_reach(&stuck);
	from = mmap(NULL, WRITE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(from != MAP_FAILED);
	for (u32 i = 0; i < WRITE; i++)
		from[i] = byte_at(stuck.written + i, 2);
	memcpy(page, from + HOLE, PAGE);
	CHECK(!madvise(from + HOLE, PAGE, MADV_DONTNEED));
	uffd = uffd_over(from + HOLE, PAGE);
	writer = (struct writer){ .fd = stuck.fd, .from = from };
	CHECK(!pthread_create(&thread, NULL, write_from_fault, &writer));
	CHECK(host_wait(uffd, POLLIN, WAIT_MS));
	flow_to_host(&g, &other, 10000, 1000, PEER_TWO);
	flow_to_guest(&g, &other, 10000, 1000);
	flow_to_guest(&g, &other, 4 * WRITE, WRITE);
	uffd_resolve(uffd, page);
	CHECK(!pthread_join(thread, NULL) && writer.sent == WRITE);
	stuck.written += WRITE;
	flow_to_guest(&g, &stuck, 10000, 1000);
	flow_finish(&g, &other);
	flow_finish(&g, &stuck);
	close(uffd);
	guest_end(&g);
}

struct setter {
	int fd;
	void *from;
	int err;
};

static void *set_from_fault(void *arg)
{
	struct setter *s = arg;

	s->err = setsockopt(s->fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, s->from, sizeof(struct timeval));
	return NULL;
}

/* A listener whose lock somebody keeps: its requests wait, also one that is withdrawn; everybody else goes on. */
static void stuck_listener(void)
{
	struct flow other, asked[] = { { .host_port = PORT, .guest_port = 52 },
				       { .host_port = PORT, .guest_port = 53 },
				       { .host_port = PORT, .guest_port = 54 } };
	int l = host_listen(PORT, 8), beside = host_listen(PORT + 1, 8), uffd;
	struct setter setter = { .fd = l };
	struct flow later;
	pthread_t thread;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	other = open_by_guest(&g, l, PORT, 50);
	setter.from = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(setter.from != MAP_FAILED);
	uffd = uffd_over(setter.from, PAGE);
	CHECK(!pthread_create(&thread, NULL, set_from_fault, &setter));
	CHECK(host_wait(uffd, POLLIN, WAIT_MS));
	for (u32 i = 0; i < 3; i++)
		guest_send(&g, guest_hdr(&g, &asked[i], VSP_OP_REQUEST));
	guest_send(&g, guest_hdr(&g, &asked[1], VSP_OP_RST));
	later = open_by_guest(&g, beside, PORT + 1, 51);
	flow_to_host(&g, &other, 10000, 1000, PEER_TWO);
	flow_to_guest(&g, &other, 10000, 1000);
	guest_quiet(&g);
	uffd_resolve(uffd, zeros);
	CHECK(!pthread_join(thread, NULL) && !setter.err);
	for (u32 i = 0; i < 3; i += 2) {
		guest_expect(&g, &asked[i], VSP_OP_RESPONSE);
		CHECK(host_wait(l, POLLIN, WAIT_MS));
		asked[i].fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		CHECK(asked[i].fd >= 0);
	}
	CHECK(accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) < 0 && errno == EAGAIN);
	flow_finish(&g, &asked[0]);
	flow_finish(&g, &asked[2]);
	flow_finish(&g, &other);
	flow_finish(&g, &later);
	close(uffd);
	guest_end(&g);
}

/* Guest memory that is not there yet stops its own direction only, and does not keep the device from closing. */
static void stuck_worker(bool near)
{
	static u8 buf[WRITE];
	int l = host_listen(PORT, 8), uffd;
	size_t len = near ? WRITE : 1;
	struct vsp_hdr hdr;
	struct flow f;
	u64 began;
	u8 *buffers, byte[1000];

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_guest(&g, l, PORT, 50);
	if (near)
		come_within_reach(&f);
	/* The receive buffers begin on a page of their own. */
	buffers = g.peer.f.mem + vu_front_data(&g.peer.f);
	CHECK(!madvise(buffers, 128 * PEER_SLOT, MADV_REMOVE));
	uffd = uffd_over(buffers, 128 * PEER_SLOT);
	CHECK(send(f.fd, buf, len, 0) == (ssize_t)len);
	CHECK(host_wait(uffd, POLLIN, WAIT_MS));
	hdr = guest_hdr(&g, &f, VSP_OP_RW);
	hdr.len = 1000;
	guest_send(&g, hdr);
	CHECK(host_wait(f.fd, POLLIN, WAIT_MS) && recv(f.fd, byte, sizeof(byte), 0) == 1000);
	began = now_ms();
	guest_end(&g);
	/* The fault would last for ever. */
	CHECK(now_ms() - began < WAIT_MS);
	CHECK(host_error(f.fd) > 0);
	close(f.fd);
	close(uffd);
}

static void stuck_fill(void)
{
	stuck_worker(false);
}

static void stuck_pin(void)
{
	stuck_worker(true);
}

const struct test fault_tests[] = {
	{ "a reader that is stuck in a page fault delays nobody else", stuck_reader },
	{ "a listener that is stuck in a page fault: its requests wait, and delay nobody else", stuck_listener },
	{ "guest memory that is stuck in a page fault: the other direction goes on, and the device closes",
	  stuck_fill },
	{ "the same where its pages are fetched for writers", stuck_pin },
	{ "a writer that is stuck in a page fault delays nobody else", stuck_writer },
	{ NULL, NULL },
};
