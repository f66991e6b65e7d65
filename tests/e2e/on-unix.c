// SPDX-License-Identifier: BSD-2-Clause
/*
 * on-unix.c - AF_VSOCK for a vsockd under test, made of Unix sockets
 *
 * The machine that tests run on may be a guest of somebody's hypervisor, so its own AF_VSOCK is not touched. The linker
 * puts these in the place of the C library's functions. Port P of CID C is a Unix socket $VSOCK_DIR/vsock.C.P, C being
 * what the daemon named, VMADDR_CID_ANY included; a client that is bound to a name ending in .P has port P.
 *
 * connect() behaves as that of AF_VSOCK: it is always underway when it returns, and the outcome is in SO_ERROR.
 */
#include "kernel/proto/env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum {
	FDS = 1024,
	SILENT_PORT = 4999, /* never answers */
};

/* Of a descriptor: it stands for one of AF_VSOCK; its connect() failed, or not. */
static bool is_vsock[FDS], has_failed[FDS];

int real_socket(int domain, int type, int protocol) __asm__("__real_socket");
int real_bind(int fd, const struct sockaddr *sa, socklen_t len) __asm__("__real_bind");
int real_connect(int fd, const struct sockaddr *sa, socklen_t len) __asm__("__real_connect");
int real_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags) __asm__("__real_accept4");
int real_getpeername(int fd, struct sockaddr *sa, socklen_t *len) __asm__("__real_getpeername");
int real_getsockopt(int fd, int level, int name, void *value, socklen_t *len) __asm__("__real_getsockopt");

int wrapped_socket(int domain, int type, int protocol) __asm__("__wrap_socket");
int wrapped_bind(int fd, const struct sockaddr *sa, socklen_t len) __asm__("__wrap_bind");
int wrapped_connect(int fd, const struct sockaddr *sa, socklen_t len) __asm__("__wrap_connect");
int wrapped_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags) __asm__("__wrap_accept4");
int wrapped_getpeername(int fd, struct sockaddr *sa, socklen_t *len) __asm__("__wrap_getpeername");
int wrapped_getsockopt(int fd, int level, int name, void *value, socklen_t *len) __asm__("__wrap_getsockopt");

static int mark(int fd, bool vsock)
{
	if (fd >= 0 && fd < FDS) {
		is_vsock[fd] = vsock;
		has_failed[fd] = false;
	}
	return fd;
}

static struct sockaddr_un name_of(const struct sockaddr *sa)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_vm vm;

	memcpy(&vm, sa, sizeof(vm));
	snprintf(un.sun_path, sizeof(un.sun_path), "%s/vsock.%u.%u", getenv("VSOCK_DIR"), vm.svm_cid, vm.svm_port);
	return un;
}

int wrapped_socket(int domain, int type, int protocol)
{
	return mark(real_socket(domain == AF_VSOCK ? AF_UNIX : domain, type, protocol), domain == AF_VSOCK);
}

int wrapped_bind(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_un un;

	if (sa->sa_family != AF_VSOCK)
		return real_bind(fd, sa, len);
	un = name_of(sa);
	return real_bind(fd, (struct sockaddr *)&un, sizeof(un));
}

/* In the place of @fd a socket that has nothing to say: neither an answer nor room. */
static void fall_silent(int fd)
{
	static const char bytes[4096];
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		abort();
	while (send(pair[0], bytes, sizeof(bytes), MSG_NOSIGNAL) > 0)
		;
	dup2(pair[0], fd);
	close(pair[0]);
}

int wrapped_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_un un;
	struct sockaddr_vm vm;

	if (sa->sa_family != AF_VSOCK)
		return real_connect(fd, sa, len);
	memcpy(&vm, sa, sizeof(vm));
	un = name_of(sa);
	if (vm.svm_port == SILENT_PORT)
		fall_silent(fd);
	else
		has_failed[fd] = real_connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0;
	errno = EINPROGRESS;
	return -1;
}

int wrapped_accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	return mark(real_accept4(fd, sa, len, flags), fd < FDS && is_vsock[fd]);
}

int wrapped_getpeername(int fd, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = VMADDR_PORT_ANY };
	struct sockaddr_un un = { 0 };
	socklen_t un_len = sizeof(un) - 1;
	const char *dot;

	if (fd >= FDS || !is_vsock[fd])
		return real_getpeername(fd, sa, len);
	if (real_getpeername(fd, (struct sockaddr *)&un, &un_len))
		return -1;
	dot = strrchr(un.sun_path, '.');
	if (dot)
		vm.svm_port = (u32)strtoul(dot + 1, NULL, 10);
	memcpy(sa, &vm, *len < sizeof(vm) ? *len : sizeof(vm));
	return 0;
}

int wrapped_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	const int refused = ECONNREFUSED;

	if (level != SOL_SOCKET || name != SO_ERROR || fd >= FDS || !has_failed[fd])
		return real_getsockopt(fd, level, name, value, len);
	memcpy(value, &refused, sizeof(refused));
	return 0;
}
