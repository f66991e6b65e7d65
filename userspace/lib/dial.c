// SPDX-License-Identifier: BSD-2-Clause
/*
 * dial.c - vsock_dial(), and the small helpers that dialling and listening share
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#include "internal.h"

int64_t vsock_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The maximum is raised before the size: the kernel silently clamps the size to it. */
static int set_vsock_buffer(int fd, uint64_t bytes)
{
	static const int names[] = { SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (setsockopt(fd, AF_VSOCK, names[i], &bytes, sizeof(bytes)) < 0)
			return -errno;
	}
	return 0;
}

int vsock_set_buffer(int fd, enum vsock_kind kind, uint64_t bytes)
{
	int size = bytes > INT32_MAX ? INT32_MAX : (int)bytes;

	if (!bytes)
		return 0;
	if (kind == VSOCK_KIND_VSOCK)
		return set_vsock_buffer(fd, bytes);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0)
		return -errno;
	return 0;
}

VSOCK_API int vsock_local_cid(uint32_t *cid)
{
	unsigned int value = 0;
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &value) < 0)
		err = -errno;
	else
		*cid = value;
	close(fd);
	return err;
}

VSOCK_API int vsock_resolve(struct vsock_addr *addr)
{
	int err;

	if (!(addr->flags & VSOCK_ADDR_SELF))
		return 0;
	err = vsock_local_cid(&addr->cid);
	if (err)
		return err;
	addr->flags &= ~VSOCK_ADDR_SELF;
	return 0;
}

static int bind_source(int fd, const struct vsock_options *options)
{
	struct sockaddr_vm source = {
		.svm_family = AF_VSOCK,
		.svm_cid = options->local_cid,
		.svm_port = options->local_port,
	};

	if (options->local_cid == VSOCK_CID_ANY && options->local_port == VSOCK_PORT_ANY)
		return 0;
	return bind(fd, (struct sockaddr *)&source, sizeof(source)) < 0 ? -errno : 0;
}

static int set_connect_timeout(int fd, uint32_t timeout_ms)
{
	struct timeval time = { .tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000 };

	if (!timeout_ms)
		return 0;
	return setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &time, sizeof(time)) < 0 ? -errno : 0;
}

static int dial_vsock(const struct vsock_addr *addr, const struct vsock_options *options)
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = addr->cid, .svm_port = addr->port };
	int fd = socket(AF_VSOCK, vsock_type(addr) | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = vsock_set_buffer(fd, VSOCK_KIND_VSOCK, options->buffer_size);
	if (!err && vsock_type(addr) != SOCK_DGRAM)
		err = set_connect_timeout(fd, options->timeout_ms);
	if (!err)
		err = bind_source(fd, options);
	if (!err && connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		err = -errno;
	if (!err)
		return fd;
	close(fd);
	return err;
}

VSOCK_API int vsock_dial(const struct vsock_addr *addr, const struct vsock_options *options)
{
	static const struct vsock_options defaults = VSOCK_OPTIONS_INIT;
	struct vsock_addr to = *addr;
	int err;

	if (!options)
		options = &defaults;
	if (to.kind == VSOCK_KIND_HYBRID)
		return vsock_hybrid_dial(&to, options);
	err = vsock_resolve(&to);
	return err ? err : dial_vsock(&to, options);
}
