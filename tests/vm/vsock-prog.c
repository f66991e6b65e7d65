// SPDX-License-Identifier: BSD-2-Clause
/*
 * vsock-prog.c - a program in a guest whose AF_VSOCK sockets a test directs from outside
 *
 *   vsock-prog NAME                  begin: a process in the background that holds sockets in numbered slots
 *   vsock-prog NAME COMMAND ARGS...  have it do something; its answer is printed, one line
 *   vsock-prog NAME times N COMMAND ARGS...
 *                                    again until the answer changes, N times at most: how often, and the last
 *
 * Answers begin with "ok", or with the name of an errno, "timeout", "eof" or "bad" (wrong bytes). Nothing waits longer
 * than its MS. The commands are in the table at the end. Payload is the pattern that hostile-device sends: byte N of
 * each direction of a connection is known.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <linux/bpf.h>
#include <linux/errqueue.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <linux/vm_sockets.h>

enum {
	SLOTS = 1024,
	LINE_BYTES = 512,
	ANSWER_BYTES = 480,
	WORDS = 16,
	CHUNK = 65536,
	MESSAGE_MAX = 4 << 20,
	PATIENCE_MS = 8000,
	PAGE = 4096,
	STUCK_MAX = 512,
	STACK_BYTES = 64 << 10,
};

/* linux/vsockmon.h is not for programs: it includes a header of the kernel's. */
struct monitored {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint16_t op, transport, header_len;
	uint8_t reserved[2];
	uint8_t bytes[];
};

/* virtio 1.4 5.10.6: what lies behind it, without the credit. */
struct virtio_part {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags;
} __attribute__((packed));

struct slot {
	int fd;
	uint32_t sent; /* offset in the stream, modulo 2^32 */
	uint32_t received;
};

static struct slot slots[SLOTS];
static char answer[ANSWER_BYTES];
static uint8_t chunk[CHUNK];
static uint8_t message[MESSAGE_MAX] __attribute__((aligned(PAGE)));
static int new_type = SOCK_STREAM;
static long patience_ms = PATIENCE_MS;

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint8_t pattern(uint32_t at)
{
	return (uint8_t)(at ^ (at >> 8) * 31u);
}

static const char *error_name(int err)
{
	const char *name = strerrorname_np(err);

	return name ? name : "E?";
}

static void say_error(void)
{
	snprintf(answer, sizeof(answer), "%s", error_name(errno));
}

static struct sockaddr_vm address(uint32_t cid, uint32_t port)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };

	return sa;
}

static long number(char **words, int i, long otherwise)
{
	return words[i] ? strtol(words[i], NULL, 0) : otherwise;
}

static int new_socket(struct slot *s)
{
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct slot){ .fd = socket(AF_VSOCK, new_type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
	return s->fd;
}

/* Wait for @events; false when the time is over. */
static bool wait_for(const struct slot *s, short events, int64_t until)
{
	struct pollfd p = { .fd = s->fd, .events = events };
	int64_t left = until - now_ms();

	return poll(&p, 1, left > 0 ? (int)left : 0) > 0;
}

static int socket_error(const struct slot *s)
{
	int err = 0;
	socklen_t len = sizeof(err);

	getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err;
}

static void say_port(const struct slot *s)
{
	struct sockaddr_vm sa = { 0 };
	socklen_t len = sizeof(sa);

	getsockname(s->fd, (struct sockaddr *)&sa, &len);
	snprintf(answer, sizeof(answer), "ok %u", sa.svm_port);
}

static void do_connect(struct slot *s, char **w)
{
	struct sockaddr_vm to = address((uint32_t)number(w, 0, VMADDR_CID_HOST), (uint32_t)number(w, 1, 0));
	struct sockaddr_vm from = address(VMADDR_CID_ANY, w[2] ? (uint32_t)number(w, 2, 0) : VMADDR_PORT_ANY);
	unsigned long long window = (unsigned long long)number(w, 3, 0);
	/* The core keeps a socket that connects without waiting for as long as it may take, even if it was closed. */
	struct timeval patience = { .tv_sec = patience_ms / 1000, .tv_usec = patience_ms % 1000 * 1000 };

	if (new_socket(s) < 0 || bind(s->fd, (struct sockaddr *)&from, sizeof(from))) {
		say_error();
		return;
	}
	setsockopt(s->fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	if (window)
		setsockopt(s->fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &window, sizeof(window));
	if (connect(s->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
		say_error();
	else
		say_port(s);
}

/* A further attempt with the same socket; @patience_ms is for it, too. */
static void do_again(struct slot *s, char **w)
{
	struct sockaddr_vm to = address((uint32_t)number(w, 0, VMADDR_CID_HOST), (uint32_t)number(w, 1, 0));
	struct timeval patience = { .tv_sec = patience_ms / 1000, .tv_usec = patience_ms % 1000 * 1000 };

	setsockopt(s->fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	if (connect(s->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
		say_error();
	else
		say_port(s);
}

static void do_connected(struct slot *s, char **w)
{
	int err;

	if (!wait_for(s, POLLOUT, now_ms() + number(w, 0, 5000))) {
		snprintf(answer, sizeof(answer), "timeout");
		return;
	}
	err = socket_error(s);
	snprintf(answer, sizeof(answer), "%s", err ? error_name(err) : "ok");
}

static void do_listen(struct slot *s, char **w)
{
	struct sockaddr_vm at = address((uint32_t)number(w, 2, VMADDR_CID_ANY), (uint32_t)number(w, 0, 0));

	if (new_socket(s) < 0 || bind(s->fd, (struct sockaddr *)&at, sizeof(at)) || listen(s->fd, (int)number(w, 1, 8)))
		say_error();
}

static void do_accept(struct slot *s, char **w)
{
	struct slot *child = &slots[number(w, 0, 0) % SLOTS];
	struct sockaddr_vm sa = { 0 };
	socklen_t len = sizeof(sa);
	int fd;

	if (!wait_for(s, POLLIN, now_ms() + number(w, 1, 5000))) {
		snprintf(answer, sizeof(answer), "timeout");
		return;
	}
	fd = accept4(s->fd, (struct sockaddr *)&sa, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		say_error();
		return;
	}
	if (child->fd >= 0)
		close(child->fd);
	*child = (struct slot){ .fd = fd };
	snprintf(answer, sizeof(answer), "ok %u", sa.svm_port);
}

/* What was done of @want, and why no more was. */
static void say_done(const char *what, long done)
{
	snprintf(answer, sizeof(answer), "%s %ld", what, done);
}

static void do_send(struct slot *s, char **w)
{
	long want = number(w, 0, 0), done = 0;
	int64_t until = now_ms() + number(w, 1, 5000);

	while (done < want) {
		long n = want - done < CHUNK ? want - done : CHUNK;
		ssize_t sent;

		for (long i = 0; i < n; i++)
			chunk[i] = pattern(s->sent + (uint32_t)i);
		sent = send(s->fd, chunk, (size_t)n, MSG_NOSIGNAL);
		if (sent >= 0) {
			s->sent += (uint32_t)sent;
			done += sent;
		} else if (errno != EAGAIN) {
			say_done(error_name(errno), done);
			return;
		} else if (!wait_for(s, POLLOUT, until)) {
			say_done("timeout", done);
			return;
		}
	}
	say_done("ok", done);
}

static bool right_bytes(struct slot *s, const uint8_t *bytes, ssize_t n)
{
	for (ssize_t i = 0; i < n; i++) {
		if (bytes[i] != pattern(s->received + (uint32_t)i))
			return false;
	}
	s->received += (uint32_t)n;
	return true;
}

static void do_recv(struct slot *s, char **w)
{
	long want = number(w, 0, 0), done = 0;
	int64_t until = now_ms() + number(w, 1, 5000);

	while (done < want) {
		long n = want - done < CHUNK ? want - done : CHUNK;
		ssize_t got = recv(s->fd, chunk, (size_t)n, 0);

		if (got > 0 && !right_bytes(s, chunk, got)) {
			say_done("bad", done);
			return;
		}
		if (got > 0) {
			done += got;
		} else if (got == 0) {
			say_done("eof", done);
			return;
		} else if (errno != EAGAIN) {
			say_done(error_name(errno), done);
			return;
		} else if (!wait_for(s, POLLIN, until)) {
			say_done("timeout", done);
			return;
		}
	}
	say_done("ok", done);
}

/* All of it by one call that blocks, for a minute at most. */
static void do_whole(struct slot *s, char **w)
{
	struct timeval minute = { .tv_sec = 60 };
	ssize_t got;

	setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof(minute));
	fcntl(s->fd, F_SETFL, 0);
	got = recv(s->fd, chunk, (size_t)number(w, 0, 0), MSG_WAITALL);
	if (got < 0)
		say_done(error_name(errno), 0);
	else
		say_done(right_bytes(s, chunk, got) ? "ok" : "bad", got);
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
}

static bool has_word(char **w, const char *word)
{
	for (; *w; w++) {
		if (strcmp(*w, word) == 0)
			return true;
	}
	return false;
}

/* The number behind "@key=" among the words. */
static long option(char **w, const char *key, long otherwise)
{
	size_t n = strlen(key);

	for (; *w; w++) {
		if (strncmp(*w, key, n) == 0 && (*w)[n] == '=')
			return strtol(*w + n + 1, NULL, 0);
	}
	return otherwise;
}

/* One message of the bytes that continue the stream. A failure sends none of them, so the next message has them too. */
static void do_put(struct slot *s, char **w)
{
	size_t len = (size_t)number(w, 0, 0), bad = (size_t)option(w, "bad", (long)len);
	long wait = option(w, "wait", -1);
	struct timeval tv = { .tv_sec = wait / 1000, .tv_usec = wait % 1000 * 1000 };
	struct iovec iov[2] = { { message, bad }, { NULL, len - bad } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = bad < len ? 2 : 1 };
	int flags = has_word(w, "eor") ? MSG_EOR : 0;
	ssize_t n;

	for (size_t i = 0; i < bad; i++)
		message[i] = pattern(s->sent + (uint32_t)i);
	if (wait >= 0) {
		setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		fcntl(s->fd, F_SETFL, 0);
	}
	n = sendmsg(s->fd, &mh, flags | MSG_NOSIGNAL);
	if (n < 0)
		say_error();
	else
		say_done("ok", n);
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
	s->sent += n > 0 ? (uint32_t)n : 0;
}

/* One message, into a buffer of so many bytes. */
static void do_get(struct slot *s, char **w)
{
	size_t room = (size_t)number(w, 0, MESSAGE_MAX), bad = (size_t)option(w, "bad", (long)room);
	struct iovec iov[2] = { { message, bad }, { NULL, room - bad } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = bad < room ? 2 : 1 };
	long lost = option(w, "lost", 0);
	uint32_t began = s->received;
	bool right;
	ssize_t n, in_buffer;

	if (!wait_for(s, POLLIN, now_ms() + option(w, "ms", 5000))) {
		snprintf(answer, sizeof(answer), "timeout");
		return;
	}
	n = recvmsg(s->fd, &mh, (has_word(w, "peek") ? MSG_PEEK : 0) | (has_word(w, "trunc") ? MSG_TRUNC : 0));
	if (n < 0) {
		say_error();
		s->received += (uint32_t)lost;
		return;
	}
	in_buffer = n < (ssize_t)room ? n : (ssize_t)room;
	right = right_bytes(s, message, in_buffer);
	s->received = has_word(w, "peek") ? began : began + (uint32_t)(lost ?: n);
	snprintf(answer, sizeof(answer), "%s %ld%s%s", right ? "ok" : "bad", (long)n,
		 mh.msg_flags & MSG_EOR ? " eor" : "", mh.msg_flags & MSG_TRUNC ? " trunc" : "");
}

/* Messages of sizes that the other end can tell beforehand, until so many went or came. */
static size_t nth_size(long n, long largest)
{
	return (size_t)((unsigned long)n * 2654435761u % (unsigned long)largest) + 1;
}

static void do_puts(struct slot *s, char **w)
{
	long count = number(w, 0, 0), largest = number(w, 1, 1), i;
	int64_t until = now_ms() + number(w, 2, 60000);

	for (i = 0; i < count; i++) {
		size_t len = nth_size(i, largest);
		ssize_t n;

		for (size_t k = 0; k < len; k++)
			message[k] = pattern(s->sent + (uint32_t)k);
		do {
			n = send(s->fd, message, len, MSG_NOSIGNAL);
		} while (n < 0 && errno == EAGAIN && wait_for(s, POLLOUT, until));
		if (n != (ssize_t)len) {
			say_done(n < 0 ? error_name(errno) : "partial", i);
			return;
		}
		s->sent += (uint32_t)len;
	}
	say_done("ok", count);
}

/* The same message each millisecond, without waiting for room, until it cannot be sent. */
static void do_tick(struct slot *s, char **w)
{
	long len = number(w, 0, 1), done = 0;
	int64_t until = now_ms() + number(w, 1, 60000);

	while (send(s->fd, message, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) == len) {
		done++;
		if (now_ms() >= until) {
			say_done("ok", done);
			return;
		}
		poll(NULL, 0, 1);
	}
	say_done(error_name(errno), done);
}

static void do_gets(struct slot *s, char **w)
{
	long count = number(w, 0, 0), largest = number(w, 1, 1), i;
	int64_t until = now_ms() + number(w, 2, 60000);

	for (i = 0; i < count; i++) {
		ssize_t n;

		do {
			n = recv(s->fd, message, sizeof(message), 0);
		} while (n < 0 && errno == EAGAIN && wait_for(s, POLLIN, until));
		if (n < 0 || n != (ssize_t)nth_size(i, largest) || !right_bytes(s, message, n)) {
			say_done(n < 0 ? error_name(errno) : "bad", i);
			return;
		}
	}
	say_done("ok", count);
}

static void do_outq(struct slot *s, char **w)
{
	int bytes = 0;

	(void)w;
	if (ioctl(s->fd, SIOCOUTQ, &bytes))
		say_error();
	else
		say_done("ok", bytes);
}

static void do_lowat(struct slot *s, char **w)
{
	int bytes = (int)number(w, 0, 1);

	if (setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes)))
		say_error();
}

static void do_inq(struct slot *s, char **w)
{
	int bytes = 0;

	(void)w;
	if (ioctl(s->fd, SIOCINQ, &bytes))
		say_error();
	else
		say_done("ok", bytes);
}

/* Set a size if there is a number, and read it back. */
static void do_size(struct slot *s, char **w)
{
	int name = SO_VM_SOCKETS_BUFFER_SIZE;
	unsigned long long bytes;
	socklen_t len = sizeof(bytes);

	if (w[0] && !strcmp(w[0], "min"))
		name = SO_VM_SOCKETS_BUFFER_MIN_SIZE;
	else if (w[0] && !strcmp(w[0], "max"))
		name = SO_VM_SOCKETS_BUFFER_MAX_SIZE;
	bytes = w[0] && w[1] ? strtoull(w[1], NULL, 0) : 0;
	if ((w[0] && w[1] && setsockopt(s->fd, AF_VSOCK, name, &bytes, sizeof(bytes))) ||
	    getsockopt(s->fd, AF_VSOCK, name, &bytes, &len))
		say_error();
	else
		snprintf(answer, sizeof(answer), "ok %llu", bytes);
}

static void do_patience(struct slot *s, char **w)
{
	(void)s;
	patience_ms = number(w, 0, PATIENCE_MS);
}

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* A program for what arrives at a socket in a sockmap: its own reader may have it, or the socket at key 1. */
static int load_verdict(int map_fd, bool redirect)
{
	static const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = SK_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	const int pseudo = BPF_PSEUDO_MAP_FD;
	const uint8_t load_dw = BPF_DW; /* BPF_LD and BPF_IMM are 0 */
	const struct bpf_insn hand_over[] = {
		{ .code = load_dw, .dst_reg = BPF_REG_2, .src_reg = pseudo, .imm = map_fd },
		{ .code = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = 1 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_4, .imm = BPF_F_INGRESS },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_sk_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SK_SKB,
		.expected_attach_type = BPF_SK_SKB_VERDICT,
		.insns = (uintptr_t)(redirect ? hand_over : pass),
		.insn_cnt = redirect ? sizeof(hand_over) / sizeof(hand_over[0]) : sizeof(pass) / sizeof(pass[0]),
		.license = (uintptr_t) "Dual BSD/GPL",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

static int map_socket(int map_fd, int key, int fd)
{
	union bpf_attr update = { 0 };

	update.map_fd = (uint32_t)map_fd;
	update.key = (uintptr_t)&key;
	update.value = (uintptr_t)&fd;
	return bpf(BPF_MAP_UPDATE_ELEM, &update);
}

/* From now on what arrives goes through a BPF program, and by it to another slot. The map lives as this process. */
static void do_sockmap(struct slot *s, char **w)
{
	union bpf_attr map = { .map_type = BPF_MAP_TYPE_SOCKMAP, .key_size = 4, .value_size = 4, .max_entries = 2 };
	union bpf_attr attach = { .attach_type = BPF_SK_SKB_VERDICT };
	struct slot *to = w[0] ? &slots[number(w, 0, 0) % SLOTS] : NULL;
	int map_fd = bpf(BPF_MAP_CREATE, &map), prog_fd = load_verdict(map_fd, to), pair[2] = { -1, -1 };
	bool good = map_fd >= 0 && prog_fd >= 0;

	attach.target_fd = (uint32_t)map_fd;
	attach.attach_bpf_fd = (uint32_t)prog_fd;
	good = good && !bpf(BPF_PROG_ATTACH, &attach);
	if (good && to)
		good = !socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) && !map_socket(map_fd, 1, pair[0]);
	good = good && !map_socket(map_fd, 0, s->fd);
	if (!good)
		say_error();
	else if (to)
		*to = (struct slot){ .fd = pair[0] };
	if (prog_fd >= 0)
		close(prog_fd);
}

static void do_zput(struct slot *s, char **w)
{
	size_t len = (size_t)number(w, 0, 0), off = (size_t)option(w, "off", 0);
	size_t bad = (size_t)option(w, "bad", (long)len);
	struct iovec iov[2] = { { message + off, bad }, { NULL, len - bad } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = bad < len ? 2 : 1 };
	int one = 1;
	ssize_t n;

	for (size_t i = 0; i < bad; i++)
		message[off + i] = pattern(s->sent + (uint32_t)i);
	if (setsockopt(s->fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one))) {
		say_error();
		return;
	}
	n = sendmsg(s->fd, &mh, MSG_ZEROCOPY | MSG_NOSIGNAL);
	if (n < 0)
		say_error();
	else
		say_done("ok", n);
	s->sent += n > 0 ? (uint32_t)n : 0;
}

/* The kernel needs the bytes of these sends no more. */
static void do_zdone(struct slot *s, char **w)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct sock_extended_err)) + 64];
	} control;
	struct msghdr mh = { .msg_control = &control, .msg_controllen = sizeof(control) };
	struct sock_extended_err e;
	struct cmsghdr *cmsg;

	if (!wait_for(s, 0, now_ms() + number(w, 0, 5000))) {
		snprintf(answer, sizeof(answer), "timeout");
		return;
	}
	if (recvmsg(s->fd, &mh, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
		say_error();
		return;
	}
	cmsg = CMSG_FIRSTHDR(&mh);
	if (!cmsg || cmsg->cmsg_len < CMSG_LEN(sizeof(e))) {
		snprintf(answer, sizeof(answer), "no notification");
		return;
	}
	memcpy(&e, CMSG_DATA(cmsg), sizeof(e));
	snprintf(answer, sizeof(answer), "%s %u %u%s",
		 e.ee_origin == SO_EE_ORIGIN_ZEROCOPY && !e.ee_errno ? "ok" : "bad", e.ee_info, e.ee_data,
		 e.ee_code & SO_EE_CODE_ZEROCOPY_COPIED ? " copied" : "");
}

/* Pages at which a fault waits until it is resolved. */
struct trap {
	int uffd;
	uint8_t *at;
	size_t len;
};

static bool set_trap(struct trap *t)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)t->at, t->len }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	t->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return t->uffd >= 0 && !ioctl(t->uffd, UFFDIO_API, &api) && !ioctl(t->uffd, UFFDIO_REGISTER, &reg);
}

/* Wait until so many have fallen into it. */
static bool trapped(const struct trap *t, long faults)
{
	const struct slot s = { .fd = t->uffd };
	int64_t until = now_ms() + PATIENCE_MS;
	struct uffd_msg msg;

	while (faults && wait_for(&s, POLLIN, until))
		faults -= read(t->uffd, &msg, sizeof(msg)) == sizeof(msg);
	return !faults;
}

static bool begin_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	errno = pthread_create(thread, &attr, run, arg);
	pthread_attr_destroy(&attr);
	return !errno;
}

/* Somebody who has a socket's lock, and waits for a page with it. */
struct holder {
	pthread_t thread;
	int fd, err;
	const uint8_t *page;
};

static struct holder holders[STUCK_MAX];
static long n_holders;
static struct trap holders_trap;

static void *set_from_fault(void *arg)
{
	struct holder *h = arg;

	/* A time of 0 means the usual one. */
	if (setsockopt(h->fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, h->page, sizeof(struct timeval)))
		h->err = errno;
	return NULL;
}

static void do_stick(struct slot *s, char **w)
{
	long count = number(w, 0, 1);
	size_t len = (size_t)count * PAGE;
	uint8_t *pages = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	holders_trap = (struct trap){ .at = pages, .len = len };
	if (n_holders || count > STUCK_MAX || pages == MAP_FAILED || !set_trap(&holders_trap)) {
		say_error();
		return;
	}
	for (; n_holders < count; n_holders++) {
		struct holder *h = &holders[n_holders];

		*h = (struct holder){ .fd = s[n_holders].fd, .page = pages + n_holders * PAGE };
		if (!begin_thread(&h->thread, set_from_fault, h)) {
			say_error();
			return;
		}
	}
	if (!trapped(&holders_trap, count))
		snprintf(answer, sizeof(answer), "timeout");
}

static void do_unstick(struct slot *s, char **w)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)holders_trap.at, holders_trap.len } };

	(void)s;
	(void)w;
	if (ioctl(holders_trap.uffd, UFFDIO_ZEROPAGE, &zero)) {
		say_error();
		return;
	}
	while (n_holders) {
		const struct holder *h = &holders[--n_holders];

		pthread_join(h->thread, NULL);
		if (h->err)
			snprintf(answer, sizeof(answer), "%s", error_name(h->err));
	}
	close(holders_trap.uffd);
	munmap(holders_trap.at, holders_trap.len);
}

/* A send by MSG_ZEROCOPY that waits for one of its pages. */
static struct {
	struct trap trap;
	pthread_t thread;
	int fd, err;
	size_t len;
	ssize_t n;
} pinner;

static void *send_from_fault(void *arg)
{
	(void)arg;
	pinner.n = send(pinner.fd, message, pinner.len, MSG_ZEROCOPY | MSG_NOSIGNAL);
	pinner.err = errno;
	return NULL;
}

static void do_zstick(struct slot *s, char **w)
{
	size_t at = (size_t)number(w, 1, 0) / PAGE * PAGE;
	int one = 1;

	pinner.fd = s->fd;
	pinner.len = (size_t)number(w, 0, 0);
	pinner.trap = (struct trap){ .at = message + at, .len = PAGE };
	for (size_t i = 0; i < pinner.len; i++)
		message[i] = pattern(s->sent + (uint32_t)i);
	memcpy(chunk, message + at, PAGE);
	fcntl(s->fd, F_SETFL, 0);
	if (setsockopt(s->fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) ||
	    madvise(message + at, PAGE, MADV_DONTNEED) || !set_trap(&pinner.trap) ||
	    !begin_thread(&pinner.thread, send_from_fault, NULL))
		say_error();
	else if (!trapped(&pinner.trap, 1))
		snprintf(answer, sizeof(answer), "timeout");
}

/* The page cannot be had, until the sender waits for something else, without its socket's lock. */
static void do_zfail(struct slot *s, char **w)
{
	uint64_t at = (uintptr_t)pinner.trap.at;
	struct uffdio_copy copy = { .dst = at, .src = (uintptr_t)chunk, .len = PAGE };
	struct uffdio_range range = { at, PAGE };
	struct timeval usual = { 0 };

	(void)w;
	copy.mode = UFFDIO_COPY_MODE_DONTWAKE;
	if (ioctl(pinner.trap.uffd, UFFDIO_COPY, &copy) || mprotect(pinner.trap.at, PAGE, PROT_NONE) ||
	    ioctl(pinner.trap.uffd, UFFDIO_WAKE, &range) ||
	    setsockopt(s->fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &usual, sizeof(usual)) ||
	    mprotect(pinner.trap.at, PAGE, PROT_READ | PROT_WRITE))
		say_error();
}

static void do_zsent(struct slot *s, char **w)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += number(w, 0, 5000) / 1000;
	if (pthread_timedjoin_np(pinner.thread, NULL, &until)) {
		snprintf(answer, sizeof(answer), "timeout");
		return;
	}
	close(pinner.trap.uffd);
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
	s->sent += pinner.n > 0 ? (uint32_t)pinner.n : 0;
	errno = pinner.err;
	if (pinner.n < 0)
		say_error();
	else
		say_done("ok", pinner.n);
}

/* Begin to wait for room to write, which there is not. Who waits is told once, and polls no more by itself. */
static int watcher = -1;

static void do_watch(struct slot *s, char **w)
{
	struct epoll_event event = { .events = EPOLLOUT | EPOLLET };

	(void)w;
	if (watcher >= 0)
		close(watcher);
	watcher = epoll_create1(EPOLL_CLOEXEC);
	if (watcher < 0 || epoll_ctl(watcher, EPOLL_CTL_ADD, s->fd, &event))
		say_error();
	else if (epoll_wait(watcher, &event, 1, 0))
		snprintf(answer, sizeof(answer), "there is room");
}

static void do_watched(struct slot *s, char **w)
{
	struct epoll_event event;

	(void)s;
	if (epoll_wait(watcher, &event, 1, (int)number(w, 0, 5000)) != 1)
		snprintf(answer, sizeof(answer), "timeout");
	close(watcher);
	watcher = -1;
}

/* Listen to an interface of type vsockmon. */
static void do_tap(struct slot *s, char **w)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int bytes = MESSAGE_MAX;

	sa.sll_ifindex = (int)if_nametoindex(w[0] ?: "");
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct slot){ .fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)) };
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&sa, sizeof(sa)) ||
	    setsockopt(s->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)))
		say_error();
}

static bool consistent(const struct monitored *m, const struct virtio_part *v)
{
	return m->src_cid == v->src_cid && m->dst_cid == v->dst_cid && m->src_port == v->src_port &&
	       m->dst_port == v->dst_port && le16toh(m->transport) == 2 && le16toh(m->header_len) == 44;
}

static void do_tapped(struct slot *s, char **w)
{
	struct slot stream = { .received = (uint32_t)option(w, "at", 0) };
	const struct monitored *m = (const struct monitored *)(const void *)message;
	struct virtio_part v;
	ssize_t n, payload;

	if (!wait_for(s, POLLIN, now_ms() + option(w, "ms", 5000))) {
		snprintf(answer, sizeof(answer), "timeout");
		return;
	}
	n = recv(s->fd, message, sizeof(message), 0);
	payload = n - (ssize_t)sizeof(*m) - 44;
	if (payload < 0) {
		say_done("short", n);
		return;
	}
	memcpy(&v, m->bytes, sizeof(v));
	snprintf(answer, sizeof(answer), "%s op=%u vop=%u type=%u flags=%u src=%u dst=%u len=%u payload=%ld",
		 consistent(m, &v) && right_bytes(&stream, m->bytes + 44, payload) ? "ok" : "bad", le16toh(m->op),
		 le16toh(v.op), le16toh(v.type), le32toh(v.flags), le32toh(v.src_port), le32toh(v.dst_port),
		 le32toh(v.len), (long)payload);
}

static void do_type(struct slot *s, char **w)
{
	(void)s;
	new_type = has_word(w, "seqpacket") ? SOCK_SEQPACKET : has_word(w, "dgram") ? SOCK_DGRAM : SOCK_STREAM;
}

/* Send, and read the same back; COUNT times. */
static void do_ping(struct slot *s, char **w)
{
	long count = number(w, 1, 1);
	char *send_args[] = { w[0], w[2], NULL };

	for (long i = 0; i < count; i++) {
		do_send(s, send_args);
		if (strncmp(answer, "ok", 2) != 0)
			return;
		do_recv(s, send_args);
		if (strncmp(answer, "ok", 2) != 0)
			return;
	}
}

static void do_poll(struct slot *s, char **w)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN | POLLOUT | POLLRDHUP };

	(void)w;
	poll(&p, 1, 0);
	snprintf(answer, sizeof(answer), "ok%s%s%s%s%s", p.revents & POLLIN ? " in" : "",
		 p.revents & POLLOUT ? " out" : "", p.revents & POLLRDHUP ? " rdhup" : "",
		 p.revents & POLLHUP ? " hup" : "", p.revents & POLLERR ? " err" : "");
}

/* The socket's error as soon as there is one. */
static void do_error(struct slot *s, char **w)
{
	struct pollfd p = { .fd = s->fd, .events = 0 };
	int err;

	if (poll(&p, 1, (int)number(w, 0, 5000)) <= 0) {
		snprintf(answer, sizeof(answer), "timeout");
		return;
	}
	err = socket_error(s);
	snprintf(answer, sizeof(answer), "%s", err ? error_name(err) : "ok");
}

static void do_cid(struct slot *s, char **w)
{
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	unsigned int cid;

	(void)s;
	(void)w;
	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid))
		say_error();
	else
		snprintf(answer, sizeof(answer), "ok %u", cid);
	if (fd >= 0)
		close(fd);
}

static void do_shutdown(struct slot *s, char **w)
{
	if (shutdown(s->fd, (int)number(w, 0, SHUT_RDWR)))
		say_error();
}

static void do_window(struct slot *s, char **w)
{
	unsigned long long window = (unsigned long long)number(w, 0, 0);

	if (setsockopt(s->fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &window, sizeof(window)))
		say_error();
}

static void do_close(struct slot *s, char **w)
{
	struct linger linger = { .l_onoff = 1, .l_linger = (int)number(w, 0, 0) };

	if (w[0])
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	if (close(s->fd))
		say_error();
	*s = (struct slot){ .fd = -1 };
}

/* Connections one after the other, each closed while the peer answers. */
static void do_churn(struct slot *s, char **w)
{
	char *to[] = { w[0], w[1], NULL, NULL, NULL };
	char *none[] = { NULL };
	long count = number(w, 2, 100), i;

	for (i = 0; i < count; i++) {
		struct slot *one = s + i % 16;

		do_connect(one, to);
		if (strncmp(answer, "ok", 2) != 0)
			return;
		if (i % 3)
			wait_for(one, POLLOUT, now_ms() + 1000);
		if (i % 3 == 2)
			send(one->fd, chunk, 100, MSG_NOSIGNAL);
		if (i >= 15)
			do_close(s + (i + 1) % 16, none);
	}
	for (i = 0; i < 16; i++) {
		if (s[i].fd >= 0)
			do_close(s + i, none);
	}
	say_done("ok", count);
}

/* Block in the kernel until somebody interrupts or kills the process. */
static void do_block(struct slot *s, char **w)
{
	long done = 0;

	(void)w;
	fcntl(s->fd, F_SETFL, 0);
	for (;;) {
		ssize_t n = send(s->fd, chunk, CHUNK, MSG_NOSIGNAL);

		if (n < 0) {
			say_done(error_name(errno), done);
			break;
		}
		done += n;
		if (n < CHUNK) {
			say_done("partial", done);
			break;
		}
	}
	fcntl(s->fd, F_SETFL, O_NONBLOCK);
}

static void do_quit(struct slot *s, char **w)
{
	(void)s;
	(void)w;
}

static const struct {
	const char *name;
	void (*run)(struct slot *s, char **args);
} commands[] = {
	{ "connect", do_connect },     /* SLOT CID PORT [LOCAL-PORT [WINDOW]]: begin; the local port */
	{ "again", do_again },	       /* SLOT CID PORT: connect() once more; the local port */
	{ "connected", do_connected }, /* SLOT [MS]: how it ended */
	{ "listen", do_listen },       /* SLOT PORT [BACKLOG [CID]] */
	{ "accept", do_accept },       /* SLOT NEW-SLOT [MS]: the peer's port */
	{ "send", do_send },	       /* SLOT BYTES [MS]: bytes sent */
	{ "recv", do_recv },	       /* SLOT BYTES [MS]: bytes received */
	{ "whole", do_whole },	       /* SLOT BYTES: the same in one call; at most 64 KiB */
	{ "ping", do_ping },	       /* SLOT BYTES COUNT [MS] */
	{ "type", do_type },	       /* SLOT stream|seqpacket|dgram: of every socket that is made from now on */
	{ "put", do_put },	       /* SLOT BYTES [eor] [bad=BYTES] [wait=MS]: a message; wait=0: without end */
	{ "get", do_get },	       /* SLOT [ROOM [peek] [trunc] [lost=BYTES] [bad=BYTES] [ms=MS]] */
	{ "outq", do_outq },	       /* SLOT: bytes on their way */
	{ "inq", do_inq },	       /* SLOT: bytes that can be read */
	{ "size", do_size },	       /* SLOT [buffer|min|max [BYTES]]: SO_VM_SOCKETS_BUFFER_*; what it is then */
	{ "patience",
	  do_patience },	   /* SLOT MS: SO_VM_SOCKETS_CONNECT_TIMEOUT of every socket that is made from now on */
	{ "sockmap", do_sockmap }, /* SLOT [TO-SLOT]: what arrives passes through a BPF program */
	{ "lowat", do_lowat },	   /* SLOT BYTES: SO_RCVLOWAT */
	{ "zput", do_zput },	   /* SLOT BYTES [off=BYTES] [bad=BYTES]: once, by MSG_ZEROCOPY */
	{ "zdone", do_zdone },	   /* SLOT [MS]: the next notification: first, last, copied */
	{ "zstick", do_zstick },   /* SLOT BYTES AT: begin one that waits for the page at an offset */
	{ "zfail", do_zfail },	   /* SLOT: that page cannot be had, until the sender waits for credit */
	{ "zsent", do_zsent },	   /* SLOT [MS]: how it ended */
	{ "stick", do_stick },	   /* SLOT [COUNT]: the sockets from SLOT on are locked by somebody else... */
	{ "unstick", do_unstick }, /* SLOT: ... until now */
	{ "watch", do_watch },	   /* SLOT: begin to wait for room to write... */
	{ "watched", do_watched }, /* SLOT [MS]: ... and be told of it */
	{ "tap", do_tap },	   /* SLOT INTERFACE: a packet socket */
	{ "tapped", do_tapped },   /* SLOT [at=OFFSET] [ms=MS]: the next packet; its offset in the stream */
	{ "puts", do_puts },	   /* SLOT COUNT LARGEST [MS]: messages of many sizes */
	{ "gets", do_gets },	   /* SLOT COUNT LARGEST [MS] */
	{ "tick", do_tick },	   /* SLOT BYTES [MS]: a message each ms until one cannot be sent */
	{ "poll", do_poll },	   /* SLOT: what is ready now */
	{ "error", do_error },	   /* SLOT [MS] */
	{ "cid", do_cid },	   /* SLOT: the CID of this machine */
	{ "shutdown", do_shutdown }, /* SLOT HOW */
	{ "window", do_window },     /* SLOT BYTES */
	{ "close", do_close },	     /* SLOT [LINGER-SECONDS] */
	{ "churn", do_churn },	     /* SLOT CID PORT [COUNT]; uses 16 slots from SLOT on */
	{ "block", do_block },	     /* SLOT: send until interrupted */
	{ "quit", do_quit },	     /* SLOT */
};

static void run_once(char **words, int n)
{
	snprintf(answer, sizeof(answer), "ok");
	for (size_t i = 0; n && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, words[0]) != 0)
			continue;
		commands[i].run(&slots[number(words, 1, 0) % (SLOTS - 16)], n > 1 ? words + 2 : words + 1);
		return;
	}
	snprintf(answer, sizeof(answer), "unknown command");
}

static void run(char *line)
{
	char *words[WORDS + 1] = { NULL };
	char first[ANSWER_BYTES] = "", *save = NULL;
	long times, done = 0;
	int n = 0;

	for (char *word = strtok_r(line, " \n", &save); word && n < WORDS; word = strtok_r(NULL, " \n", &save))
		words[n++] = word;
	if (n < 3 || strcmp(words[0], "times") != 0) {
		run_once(words, n);
		return;
	}
	times = number(words, 1, 1);
	for (bool same = true; same && done < times; done++) {
		snprintf(first, sizeof(first), "%s", answer);
		run_once(words + 2, n - 2);
		same = !done || strcmp(first, answer) == 0;
	}
	snprintf(first, sizeof(first), "%s", answer);
	snprintf(answer, sizeof(answer), "%ld %s", done, first);
}

static struct sockaddr_un control_address(const char *name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "/run/vsock-prog.%s", name);
	return sa;
}

static void on_signal(int sig)
{
	(void)sig;
}

/* The background process: one command at a time. */
static void serve(int listener)
{
	struct sigaction interrupt = { .sa_handler = on_signal };
	char line[LINE_BYTES];

	sigaction(SIGUSR1, &interrupt, NULL);
	for (bool go_on = true; go_on;) {
		int fd = accept(listener, NULL, NULL);
		ssize_t n = -1;

		/* A signal may come late, when what it was to interrupt is over. */
		while (fd >= 0 && (n = recv(fd, line, sizeof(line) - 1, 0)) < 0 && errno == EINTR)
			;
		if (n > 0) {
			line[n] = 0;
			go_on = strncmp(line, "quit", 4) != 0;
			run(line);
			strncat(answer, "\n", sizeof(answer) - strlen(answer) - 1);
			send(fd, answer, strlen(answer), MSG_NOSIGNAL);
		}
		if (fd >= 0)
			close(fd);
	}
}

static int begin(const char *name)
{
	struct sockaddr_un sa = control_address(name);
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	pid_t pid;

	unlink(sa.sun_path);
	if (listener < 0 || bind(listener, (struct sockaddr *)&sa, sizeof(sa)) || listen(listener, 8)) {
		perror("vsock-prog");
		return 1;
	}
	for (int i = 0; i < SLOTS; i++)
		slots[i].fd = -1;
	pid = fork();
	if (pid) {
		printf("%d\n", pid);
		return pid < 0;
	}
	setsid();
	for (int fd = 0; fd < 3; fd++) {
		close(fd);
		open("/dev/null", O_RDWR);
	}
	serve(listener);
	return 0;
}

static int ask(const char *name, char **words)
{
	struct sockaddr_un sa = control_address(name);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char line[LINE_BYTES] = "";
	ssize_t n;

	for (; *words; words++) {
		strncat(line, *words, sizeof(line) - strlen(line) - 1);
		strncat(line, " ", sizeof(line) - strlen(line) - 1);
	}
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || send(fd, line, strlen(line), 0) < 0) {
		perror("vsock-prog");
		return 1;
	}
	n = recv(fd, line, sizeof(line), 0);
	if (n <= 0) {
		printf("died: %s\n", n ? strerror(errno) : "no answer");
		return 1;
	}
	fwrite(line, 1, (size_t)n, stdout);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: vsock-prog NAME [COMMAND SLOT ARGUMENT...]\n");
		return 2;
	}
	return argc == 2 ? begin(argv[1]) : ask(argv[1], argv + 2);
}
