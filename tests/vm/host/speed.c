// SPDX-License-Identifier: BSD-2-Clause
/*
 * How fast a host device moves bytes: a thread for the host's socket, and one that is the guest. Uses nothing that the
 * stock module has not got, so that both can be measured in one boot. Payload is not looked at.
 */
#include "host.h"
#include "speed.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	PORT = 5000,
	MEASURE_MS = 1500,
};

static struct guest g;
static bool stop;

struct job {
	int fd;
	u32 size;
	u64 bytes;
	bool sends;
};

static bool stopping(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

/* The host's thread: writes, or reads, for as long as it is let. */
static void *host_thread(void *arg)
{
	static u8 buf[1 << 20];
	struct job *job = arg;

	while (!stopping()) {
		ssize_t n = job->sends ? send(job->fd, buf, job->size, MSG_NOSIGNAL) :
					 recv(job->fd, buf, sizeof(buf), 0);

		if (n > 0)
			__atomic_add_fetch(&job->bytes, (u64)n, __ATOMIC_RELAXED);
		else if (errno == EAGAIN)
			host_wait(job->fd, job->sends ? POLLOUT : POLLIN, 10);
		else
			break;
	}
	return NULL;
}

static void drain(struct flow *f, int ms)
{
	u32 acked = f->got;
	struct vsp_hdr hdr;

	while (peer_recv(&g.peer, &hdr, g.buf, ms)) {
		f->edge = hdr.fwd_cnt + hdr.buf_alloc;
		f->got += hdr.len;
		if (f->got - acked >= WINDOW / 4) {
			guest_send(&g, guest_hdr(&g, f, VSP_OP_CREDIT_UPDATE));
			acked = f->got;
		}
		ms = 0;
	}
	if (f->got != acked)
		guest_send(&g, guest_hdr(&g, f, VSP_OP_CREDIT_UPDATE));
}

static void offer(struct flow *f, u32 size)
{
	struct vsp_hdr hdr = guest_hdr(&g, f, VSP_OP_RW);

	hdr.len = size;
	if (f->edge - f->sent < size) {
		drain(f, 1);
		return;
	}
	CHECK(peer_send(&g.peer, hdr, g.buf, size, PEER_TWO));
	f->sent += size;
	drain(f, 0);
}

static void throughput(const char *name, bool to_guest, u32 size, u32 buffer)
{
	struct job job = { .size = size, .sends = to_guest };
	pthread_t thread;
	struct flow f;
	u64 began, ms;

	guest_begin(&g, CID, 128, buffer, FEATURES);
	f = open_by_host(&g, 50);
	job.fd = f.fd;
	stop = false;
	CHECK(!pthread_create(&thread, NULL, host_thread, &job));
	began = now_ms();
	while ((ms = now_ms() - began) < MEASURE_MS) {
		if (to_guest)
			drain(&f, 10);
		else
			offer(&f, size);
	}
	printf("%s %.2f\n", name,
	       (double)(to_guest ? (u64)f.got : __atomic_load_n(&job.bytes, __ATOMIC_RELAXED)) / (double)ms / 1000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	CHECK(!pthread_join(thread, NULL));
	close(f.fd);
	guest_end(&g);
}

static void *echo_thread(void *arg)
{
	int fd = ((struct job *)arg)->fd;
	u8 byte;

	while (host_wait(fd, POLLIN, WAIT_MS) && recv(fd, &byte, 1, 0) == 1 && send(fd, &byte, 1, MSG_NOSIGNAL) == 1)
		;
	return NULL;
}

static void round_trips(void)
{
	struct job job = { 0 };
	pthread_t thread;
	struct flow f;
	u64 began, n = 0;

	guest_begin(&g, CID, 128, 3776, FEATURES);
	f = open_by_host(&g, 50);
	job.fd = f.fd;
	CHECK(!pthread_create(&thread, NULL, echo_thread, &job));
	began = now_ms();
	while (now_ms() - began < MEASURE_MS) {
		struct vsp_hdr hdr = guest_hdr(&g, &f, VSP_OP_RW);
		u32 got = f.got;

		hdr.len = 1;
		guest_send(&g, hdr);
		while (f.got == got) {
			CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
			f.got += hdr.len;
		}
		n++;
	}
	printf("round_trips %.2f\n", (double)n * 1000 / (double)(now_ms() - began));
	shutdown(f.fd, SHUT_RDWR);
	CHECK(!pthread_join(thread, NULL));
	close(f.fd);
	guest_end(&g);
}

int speed_list(const char *only)
{
	static const struct {
		const char *name;
		bool to_guest;
		u32 size;
		u32 buffer;
	} all[] = {
		{ "to_guest_64k", true, 65536, 3776 },
		{ "to_guest_64k_large_buffers", true, 65536, VSP_HDR_LEN + VSP_MAX_PAYLOAD },
		{ "to_guest_64", true, 64, 3776 },
		{ "to_host_64k", false, 65536, 3776 },
		{ "to_host_4k", false, 4096, 3776 },
		{ "to_host_64", false, 64, 3776 },
	};

	for (u32 i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (strstr(all[i].name, only))
			throughput(all[i].name, all[i].to_guest, all[i].size, all[i].buffer);
	}
	if (strstr("round_trips", only))
		round_trips();
	return 0;
}
