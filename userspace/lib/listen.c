// SPDX-License-Identifier: BSD-2-Clause
/*
 * listen.c - vsock_listen(), vsock_accept() and who is at which end
 */
#include <string.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#include "internal.h"

enum { DEFAULT_BACKLOG = 128 };

static int listen_vsock(const struct vsock_addr *addr, const struct vsock_options *options)
{
	struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = addr->cid, .svm_port = addr->port };
	int fd = socket(AF_VSOCK, vsock_type(addr) | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	err = vsock_set_buffer(fd, VSOCK_KIND_VSOCK, options->buffer_size);
	if (!err && bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
		err = -errno;
	if (!err && vsock_type(addr) != SOCK_DGRAM && listen(fd, (int)options->backlog) < 0)
		err = -errno;
	if (!err)
		return fd;
	close(fd);
	return err;
}

VSOCK_API int vsock_listen(const struct vsock_addr *addr, const struct vsock_options *options)
{
	struct vsock_options how = VSOCK_OPTIONS_INIT;
	struct vsock_addr at = *addr;
	int err;

	if (options)
		how = *options;
	if (!how.backlog)
		how.backlog = DEFAULT_BACKLOG;
	if (at.kind == VSOCK_KIND_HYBRID)
		return vsock_hybrid_listen(&at, &how);
	err = vsock_resolve(&at);
	return err ? err : listen_vsock(&at, &how);
}

/* What the kernel said about one end of @fd. */
static struct vsock_addr addr_from(int fd, const struct sockaddr_storage *name)
{
	struct vsock_addr addr = { .kind = VSOCK_KIND_HYBRID, .cid = VSOCK_CID_ANY, .port = VSOCK_PORT_ANY };
	socklen_t len = sizeof(addr.type);
	struct sockaddr_vm vm;

	if (name->ss_family == AF_VSOCK) {
		memcpy(&vm, name, sizeof(vm));
		addr.kind = VSOCK_KIND_VSOCK;
		addr.cid = vm.svm_cid;
		addr.port = vm.svm_port;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &addr.type, &len) < 0)
		addr.type = 0;
	return addr;
}

VSOCK_API int vsock_accept(int fd, struct vsock_addr *peer)
{
	struct sockaddr_storage name = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(name);
	int client = accept4(fd, (struct sockaddr *)&name, &len, SOCK_CLOEXEC);

	if (client < 0)
		return -errno;
	if (peer)
		*peer = addr_from(client, &name);
	return client;
}

VSOCK_API int vsock_local(int fd, struct vsock_addr *addr)
{
	struct sockaddr_storage name = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(name);

	if (getsockname(fd, (struct sockaddr *)&name, &len) < 0)
		return -errno;
	if (name.ss_family != AF_VSOCK)
		return -EAFNOSUPPORT;
	*addr = addr_from(fd, &name);
	return 0;
}
