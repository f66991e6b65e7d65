// SPDX-License-Identifier: BSD-2-Clause
/*
 * How fast a host device moves the bytes of one connection: a thread for the host's socket, and one that is the guest.
 * Uses nothing that the stock module has not got, but for datagrams, so that both can be measured in one boot.
 */
#include "lean.h"
#include "speed.h"

#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#include "kernel/proto/dgram.h"

enum {
	SMALL = 3776, /* bytes of a receive buffer: of Linux */
	LARGE = VSP_HDR_LEN + VSP_MAX_PAYLOAD,
	READ_BYTES = 256 << 10,
	UNREAD_MAX = 256, /* messages that the guest sends before the host has read any */
};

static struct lean guest;

/* What the host's thread writes in pieces of @size, or reads; @bytes is what it has read. */
struct job {
	int fd;
	u32 size;
	bool sends;
	u64 bytes;
};

static void *host_thread(void *arg)
{
	static u8 buf[READ_BYTES];
	struct job *job = arg;
	ssize_t n = 1;

	while (!lean_over(&guest) && n > 0) {
		n = job->sends ? send(job->fd, buf, job->size, MSG_NOSIGNAL) : recv(job->fd, buf, sizeof(buf), 0);
		if (n > 0)
			__atomic_add_fetch(&job->bytes, (u64)n, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* The host learns that the guest has datagrams by being asked; its socket is connected to the guest's port. */
static void open_dgrams(struct lane *lane)
{
	struct sockaddr_vm here = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = LANE_HOST_PORT };
	struct sockaddr_vm there = { .svm_family = AF_VSOCK, .svm_cid = CID, .svm_port = guest.port };
	struct flow probe = { .host_port = VSP_PORT_ANY, .guest_port = VSP_PORT_ANY };
	struct vsp_hdr hdr = guest_hdr(&guest.g, &probe, VSP_OP_CREDIT_REQUEST);
	int fd = socket(AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&here, sizeof(here)));
	hdr.type = lane->type = VSP_TYPE_DGRAM;
	hdr.buf_alloc = VSP_DGRAM_MAX;
	hdr.fwd_cnt = VSP_DGRAM_REVISION;
	guest_send(&guest.g, hdr);
	CHECK(peer_recv(&guest.g.peer, &hdr, guest.g.buf, WAIT_MS) && hdr.type == VSP_TYPE_DGRAM);
	CHECK(!connect(fd, (struct sockaddr *)&there, sizeof(there)));
	lane->flow.fd = fd;
}

/* The kernel's own module resets a connection of which some hundred small messages are unread. */
static bool may_send(struct lane *lane, u32 size)
{
	u32 unread = lane->flow.sent - lane->flow.read;

	if (lane->type == VSP_TYPE_DGRAM)
		return true;
	if (lane->type == VSP_TYPE_SEQPACKET && unread >= UNREAD_MAX / 2 * size && !lane->asked) {
		lean_send(&guest, lane, VSP_OP_CREDIT_REQUEST, 0);
		lane->asked = true;
	}
	return lane->flow.edge - lane->flow.sent >= size &&
	       (lane->type != VSP_TYPE_SEQPACKET || unread < UNREAD_MAX * size);
}

static void be_guest(struct lane *lane, bool to_guest, u32 size)
{
	bool credited = true;

	while (!lean_over(&guest)) {
		u32 n = 0;

		while (!to_guest && !lean_over(&guest)) {
			credited = may_send(lane, size);
			if (!credited || !lean_try_send(&guest, lane, VSP_OP_RW, size))
				break;
			n++;
		}
		if (!lean_take(&guest) && !n)
			lean_wait(&guest, !to_guest && credited);
	}
}

static double throughput(u16 type, bool to_guest, u32 size, u32 buffer, u32 ms)
{
	struct job job = { .size = size, .sends = to_guest };
	pthread_t host;
	struct lane *lane;
	double result;
	u64 began;

	lean_begin(&guest, 1, buffer);
	lane = &guest.lanes[0];
	if (type == VSP_TYPE_DGRAM)
		open_dgrams(lane);
	else
		lean_open_by_host(&guest, 0, type);
	job.fd = lane->flow.fd;
	began = now_ns();
	lean_end_after(&guest, ms);
	CHECK(!pthread_create(&host, NULL, host_thread, &job));
	be_guest(lane, to_guest, size);
	result = to_guest ? (double)lane->flow.got : (double)__atomic_load_n(&job.bytes, __ATOMIC_RELAXED);
	result = result * 1000 / (double)(now_ns() - began);
	shutdown(lane->flow.fd, SHUT_RDWR);
	CHECK(!pthread_join(host, NULL));
	lean_end(&guest);
	return result;
}

bool speed_of_flow(const char *name, u32 ms, double *value)
{
	static const struct {
		const char *name;
		u16 type;
		bool to_guest;
		u32 size;
		u32 buffer;
	} all[] = {
		{ "to_guest_64k", VSP_TYPE_STREAM, true, 65536, SMALL },
		{ "to_guest_64k_large_buffers", VSP_TYPE_STREAM, true, 65536, LARGE },
		{ "to_guest_4k", VSP_TYPE_STREAM, true, 4096, SMALL },
		{ "to_guest_64", VSP_TYPE_STREAM, true, 64, SMALL },
		{ "to_host_64k", VSP_TYPE_STREAM, false, 65536, SMALL },
		{ "to_host_4k", VSP_TYPE_STREAM, false, 4096, SMALL },
		{ "to_host_64", VSP_TYPE_STREAM, false, 64, SMALL },
		{ "messages_to_guest_64", VSP_TYPE_SEQPACKET, true, 64, SMALL },
		{ "messages_to_guest_1k", VSP_TYPE_SEQPACKET, true, 1024, SMALL },
		{ "messages_to_guest_16k", VSP_TYPE_SEQPACKET, true, 16384, SMALL },
		{ "messages_to_host_64", VSP_TYPE_SEQPACKET, false, 64, SMALL },
		{ "messages_to_host_1k", VSP_TYPE_SEQPACKET, false, 1024, SMALL },
		{ "messages_to_host_16k", VSP_TYPE_SEQPACKET, false, 16384, SMALL },
		{ "datagrams_to_guest_64", VSP_TYPE_DGRAM, true, 64, SMALL },
		{ "datagrams_to_guest_1k", VSP_TYPE_DGRAM, true, 1024, SMALL },
		{ "datagrams_to_guest_16k", VSP_TYPE_DGRAM, true, 16384, SMALL },
		{ "datagrams_to_host_64", VSP_TYPE_DGRAM, false, 64, SMALL },
		{ "datagrams_to_host_1k", VSP_TYPE_DGRAM, false, 1024, SMALL },
		{ "datagrams_to_host_16k", VSP_TYPE_DGRAM, false, 16384, SMALL },
	};

	for (u32 i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (strcmp(all[i].name, name) != 0)
			continue;
		*value = throughput(all[i].type, all[i].to_guest, all[i].size, all[i].buffer, ms);
		return true;
	}
	return false;
}

int speed_list(u32 ms, u32 crowd, int names, char **name)
{
	double value;

	for (int i = 0; i < names; i++) {
		if (!speed_of_flow(name[i], ms, &value) && !speed_of_crowd(name[i], ms, crowd, &value)) {
			fprintf(stderr, "vhost-guest: nobody knows how to measure %s\n", name[i]);
			return 2;
		}
		printf("%s %.3f\n", name[i], value);
		fflush(stdout);
	}
	return 0;
}
