// SPDX-License-Identifier: BSD-2-Clause
/*
 * stress.c - be rude to AF_VSOCK, in a guest
 *
 *     stress SECONDS SEED THREADS [calm] [fail] [SCENARIO]...
 *
 * Threads pick scenarios at random and run them against the services that tests/debug/stress offers on the host (see
 * there) until the time is up. Signals rain on all of them. With `fail`, allocations of these threads may fail (the
 * kernel's fault injection, filtered by task). Connections may break at any time and for any reason, but what arrives
 * must be what was sent, and nothing may take longer than its timeout. With `calm` connections may not break either;
 * datagrams may always be lost, but then not all of them.
 *
 * Prints counters; exit status 1 if anything was wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/errqueue.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	PORT_ECHO = 1001,
	PORT_SINK,
	PORT_SOURCE,
	PORT_ABRUPT,
	PORT_MESSAGES,
	PORT_DATAGRAMS,
	PORT_NOBODY = 1999,
	PORT_LISTEN = 2000, /* the first of ... */
	NUM_LISTEN = 8,
	MAX_THREADS = 64,
	MAX_SIZE = 150000,
	MAX_DATAGRAM = 65536,
	BURST = 100, /* small writes without a look at what comes back */
	STALL_SECONDS = 180,
};

struct worker {
	pthread_t thread;
	uint64_t random;
	uint8_t *out;
	uint8_t *in;
	_Atomic(const char *) doing;
	atomic_long since;
	bool sockmap; /* it reads behind one */
};

static struct worker workers[MAX_THREADS];
static int n_workers;
static atomic_bool over;
static bool calm, fail;
static atomic_int wrong;
static atomic_ulong bytes, connected, broken, refused, faulted, accepted, tossed, caught;

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("wrong: ");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	va_end(args);
	atomic_fetch_add(&wrong, 1);
}

static uint32_t rnd(struct worker *w, uint32_t below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return below ? (uint32_t)(w->random >> 20) % below : 0;
}

/* Mostly small, sometimes around a page, sometimes large. */
static size_t some_size(struct worker *w)
{
	switch (rnd(w, 8)) {
	case 0:
		return 1 + rnd(w, MAX_SIZE - 1);
	case 1:
		return 4080 + rnd(w, 40);
	case 2:
		return 65520 + rnd(w, 40);
	default:
		return 1 + rnd(w, 3000);
	}
}

/* The byte at each offset of a stream; not periodic in a power of two. */
static uint8_t pattern(uint64_t offset)
{
	return (uint8_t)(offset % 251 + offset / 251 % 13);
}

static void fill(uint8_t *data, uint64_t offset, size_t n)
{
	for (size_t i = 0; i < n; i++)
		data[i] = pattern(offset + i);
}

static bool check(const uint8_t *data, uint64_t offset, size_t n, const char *what)
{
	for (size_t i = 0; i < n; i++) {
		if (data[i] != pattern(offset + i)) {
			complain("%s: byte %llu is %u, not %u; then %u %u %u", what, (unsigned long long)(offset + i),
				 data[i], pattern(offset + i), data[i + 1], data[i + 2], data[i + 3]);
			return false;
		}
	}
	return true;
}

/* An operation failed. Returns true if it may be repeated. */
static bool excuse(int error, const char *what)
{
	if (error == EINTR || (error == ENOMEM && fail))
		return !atomic_load(&over) || error == EINTR;
	if (error == EFAULT && fail)
		return false;
	if (error == EAGAIN || error == EWOULDBLOCK)
		complain("%s: nothing within %d s", what, STALL_SECONDS);
	else if (calm)
		complain("%s: %s", what, strerror(error));
	atomic_fetch_add(&broken, 1);
	return false;
}

/*
 * Behind a sockmap the core does not wait on, but says EAGAIN, when its reader is woken by anything but data or the end
 * of the connection: a signal, or data that the reader does not get. @since: when the last bytes came.
 */
static bool gave_up(const struct worker *w, int error, time_t since)
{
	return w->sockmap && error == EAGAIN && now() - since < STALL_SECONDS;
}

/*
 * Whether this thread's allocations may fail. Not while it makes a thread, a process or a BPF program: the kernel
 * prints a trace where it has no memory for these.
 */
static void fail_allocations(bool on)
{
	int fd;

	if (!fail)
		return;
	do {
		fd = open("/proc/thread-self/make-it-fail", O_WRONLY | O_CLOEXEC);
	} while (fd < 0 && errno == ENOMEM);
	if (fd < 0 || write(fd, on ? "1" : "0", 1) != 1)
		complain("cannot make allocations fail: %s", strerror(errno));
	close(fd);
}

static struct sockaddr_vm address(unsigned cid, unsigned port)
{
	return (struct sockaddr_vm){ .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
}

/* @type: SOCK_STREAM or SOCK_SEQPACKET, with flags */
static int new_socket(int type)
{
	struct timeval timeout = { .tv_sec = STALL_SECONDS };
	int fd = socket(AF_VSOCK, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	return fd;
}

/*
 * A socket whose connect() was interrupted is not used again: the peer's answer to the first request is taken for one
 * to the second, because the protocol has nothing to tell them apart.
 */
static int dial_once(struct worker *w, unsigned port)
{
	struct sockaddr_vm to = address(VMADDR_CID_HOST, port);
	struct timeval patience = { .tv_sec = 20 };
	bool messages = port == PORT_MESSAGES;
	uint64_t size = 1 << (8 + rnd(w, 12));
	int fd = new_socket(messages ? SOCK_SEQPACKET : SOCK_STREAM), error;

	if (fd < 0)
		return -1;
	/* Messages must fit into the window. */
	if (!rnd(w, 3) && !messages)
		setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof(size));
	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	if (!connect(fd, (struct sockaddr *)&to, sizeof(to)))
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int dial(struct worker *w, unsigned port)
{
	for (int tries = 0; tries < 20; tries++) {
		int fd = dial_once(w, port);

		if (fd >= 0) {
			atomic_fetch_add(&connected, 1);
			return fd;
		}
		if (errno != EINTR && !(errno == ENOMEM && fail))
			break;
	}
	if (calm && errno != EINTR && port != PORT_NOBODY)
		complain("connect to %u: %s", port, strerror(errno));
	atomic_fetch_add(&refused, 1);
	/* Without a device this would otherwise keep the processor busy. */
	if (errno == ENODEV || errno == ENETUNREACH)
		usleep(1000); /* poll interval */
	return -1;
}

static void meddle(struct worker *w, int fd)
{
	uint64_t size = 1 << (8 + rnd(w, 12));
	int value = 1 + (int)rnd(w, 200);
	struct sockaddr_vm name;
	socklen_t length = sizeof(name);

	switch (rnd(w, 5)) {
	case 0:
		setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof(size));
		break;
	case 1:
		setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value));
		value = 1;
		setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof(value));
		break;
	case 2:
		ioctl(fd, SIOCOUTQ, &value);
		break;
	case 3:
		getpeername(fd, (struct sockaddr *)&name, &length);
		break;
	default:
		poll(&(struct pollfd){ .fd = fd, .events = POLLIN | POLLOUT }, 1, 0);
		break;
	}
}

/* Receive @want bytes that begin at @offset of the stream. */
static bool take(struct worker *w, int fd, uint64_t offset, size_t want, const char *what)
{
	time_t since = now();
	size_t done = 0;

	while (done < want) {
		size_t ask = 1 + rnd(w, (uint32_t)(want - done));
		int flags = rnd(w, 4) ? 0 : MSG_PEEK;
		ssize_t n = recv(fd, w->in, ask, flags);

		if (n < 0 && (gave_up(w, errno, since) || excuse(errno, what)))
			continue;
		if (n == 0 && calm)
			complain("%s: end after %zu of %zu", what, done, want);
		if (n <= 0)
			return false;
		if (!check(w->in, offset + done, (size_t)n, what))
			return false;
		since = now();
		if (!(flags & MSG_PEEK))
			done += (size_t)n;
	}
	return true;
}

static bool give(struct worker *w, int fd, uint64_t offset, size_t n, const char *what)
{
	fill(w->out, offset, n);
	for (size_t done = 0; done < n;) {
		ssize_t sent = send(fd, w->out + done, n - done, MSG_NOSIGNAL);

		if (sent < 0 && excuse(errno, what))
			continue;
		if (sent <= 0)
			return false;
		done += (size_t)sent;
	}
	atomic_fetch_add(&bytes, n);
	return true;
}

/* Read to the end; nothing more may come. */
static void expect_end(struct worker *w, int fd, const char *what)
{
	ssize_t n;

	do {
		n = recv(fd, w->in, 100, 0);
	} while (n < 0 && excuse(errno, what));
	if (n > 0)
		complain("%s: %zd bytes too many", what, n);
}

static void echo(struct worker *w)
{
	int fd = dial(w, PORT_ECHO), rounds = 1 + (int)rnd(w, 20);
	uint64_t offset = 0;

	if (fd < 0)
		return;
	while (rounds-- && !atomic_load(&over)) {
		/* No more than what the smallest window and the echo's own buffers hold. */
		size_t n = some_size(w) % 60000 + 1;

		if (!give(w, fd, offset, n, "echo, send") || !take(w, fd, offset, n, "echo, recv"))
			goto out;
		offset += n;
		meddle(w, fd);
	}
	if (shutdown(fd, SHUT_WR) == 0)
		expect_end(w, fd, "echo, end");
out:
	close(fd);
}

/* One message: it arrives as it is, or not at all. */
static bool swap_message(struct worker *w, int fd, uint64_t offset, size_t n)
{
	bool peek = !rnd(w, 4);
	ssize_t got;

	fill(w->out, offset, n);
	do {
		got = send(fd, w->out, n, MSG_NOSIGNAL | (rnd(w, 4) ? 0 : MSG_EOR));
	} while (got < 0 && excuse(errno, "message, send"));
	if (got < 0)
		return false;
	if ((size_t)got != n)
		complain("message, send: %zd bytes of %zu", got, n);
	for (;;) {
		got = recv(fd, w->in, peek ? n / 2 : n + 1, (peek ? MSG_PEEK : 0) | MSG_TRUNC);
		if (got > 0 && (size_t)got != n)
			complain("message, recv: %zd bytes of %zu", got, n);
		if (got < 0 ? !excuse(errno, "message, recv") : !got || !peek)
			break;
		peek = peek && got < 0;
	}
	if (!got && calm)
		complain("message, recv: end");
	return (size_t)got == n && check(w->in, offset, n, "message");
}

static void messages(struct worker *w)
{
	int fd = dial(w, PORT_MESSAGES), rounds = 1 + (int)rnd(w, 20);
	uint64_t offset = 0;

	if (fd < 0)
		return;
	while (rounds-- && !atomic_load(&over)) {
		size_t n = some_size(w) % 100000 + 1;

		if (!swap_message(w, fd, offset, n))
			break;
		offset += n;
		atomic_fetch_add(&bytes, n);
		if (!rnd(w, 4))
			ioctl(fd, SIOCOUTQ, &(int){ 0 });
	}
	if (rnd(w, 2))
		send(fd, w->out, some_size(w), MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

/* Wait until the kernel has given the pages of @sends sends back. False: the connection broke. */
static bool pages_back(int fd, uint32_t sends)
{
	time_t until = now() + STALL_SECONDS;
	uint32_t done = 0;

	while (done < sends) {
		char control[256];
		struct msghdr mh = { .msg_control = control, .msg_controllen = sizeof(control) };
		struct cmsghdr *c;

		poll(&(struct pollfd){ .fd = fd }, 1, 100);
		for (; recvmsg(fd, &mh, MSG_ERRQUEUE) >= 0; mh.msg_controllen = sizeof(control)) {
			for (c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
				const struct sock_extended_err *e = (const void *)CMSG_DATA(c);

				done += e->ee_data - e->ee_info + 1;
			}
		}
		if (done < sends && now() > until) {
			complain("zerocopy: the pages of %u sends of %u are not given back", sends - done, sends);
			return false;
		}
	}
	return true;
}

/* The user's pages lie on the ring; sometimes the socket is closed while they do. */
static void zerocopy(struct worker *w)
{
	int fd = dial(w, PORT_ECHO), one = 1;
	uint32_t sends = 0;
	uint64_t offset = 0;

	if (fd < 0)
		return;
	if (setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)))
		goto out;
	for (int rounds = 1 + (int)rnd(w, 10); rounds-- && !atomic_load(&over);) {
		size_t n = some_size(w) % 60000 + 1, skew = rnd(w, 4096), done = 0;

		fill(w->out + skew, offset, n);
		while (done < n) {
			ssize_t sent = send(fd, w->out + skew + done, n - done, MSG_NOSIGNAL | MSG_ZEROCOPY);

			if (sent < 0 && (errno == ENOBUFS || excuse(errno, "zerocopy, send")))
				continue;
			if (sent <= 0)
				goto out;
			done += (size_t)sent;
			sends++;
		}
		if (!rnd(w, 10) || !take(w, fd, offset, n, "zerocopy, recv") || !pages_back(fd, sends))
			goto out;
		sends = 0;
		offset += n;
		atomic_fetch_add(&bytes, n);
	}
out:
	close(fd);
}

/* Wait until the device has taken all; somebody has to let go what is kept back. */
static void drained(int fd)
{
	time_t until = now() + STALL_SECONDS;
	int left;

	while (!ioctl(fd, SIOCOUTQ, &left) && left) {
		usleep(1000); /* poll interval */
		if (now() > until) {
			complain("%d bytes do not leave", left);
			break;
		}
	}
}

/* Many small writes, which wait for the device: by themselves, in the user's pages, or behind a socket that goes. */
static void chatter(struct worker *w)
{
	int fd = dial(w, PORT_ECHO), one = 1, flags = MSG_NOSIGNAL;
	uint64_t offset = 0;

	if (fd < 0)
		return;
	if (!rnd(w, 3) && !setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)))
		flags |= MSG_ZEROCOPY;
	for (int rounds = 1 + (int)rnd(w, 10); rounds-- && !atomic_load(&over);) {
		uint32_t sends = 0;
		size_t n = 0;

		fill(w->out, offset, BURST * 300);
		for (uint32_t burst = 1 + rnd(w, BURST); sends < burst;) {
			ssize_t sent = send(fd, w->out + n, 1 + rnd(w, 299), flags);

			if (sent < 0 && (errno == ENOBUFS || excuse(errno, "chatter, send")))
				continue;
			if (sent <= 0)
				goto out;
			n += (size_t)sent;
			sends++;
		}
		if (!rnd(w, 10))
			goto out;
		if (calm && !rnd(w, 3))
			drained(fd);
		if (!take(w, fd, offset, n, "chatter, recv") || ((flags & MSG_ZEROCOPY) && !pages_back(fd, sends)))
			goto out;
		offset += n;
		atomic_fetch_add(&bytes, n);
	}
out:
	close(fd);
}

/* The same with messages. */
static void small_messages(struct worker *w)
{
	int fd = dial(w, PORT_MESSAGES);
	size_t lengths[BURST];

	if (fd < 0)
		return;
	for (int rounds = 1 + (int)rnd(w, 10); rounds-- && !atomic_load(&over);) {
		uint32_t n = 0, burst = 1 + rnd(w, BURST);

		while (n < burst) {
			lengths[n] = 1 + rnd(w, 300);
			fill(w->out, n, lengths[n]);
			if (send(fd, w->out, lengths[n], MSG_NOSIGNAL) > 0)
				n++;
			else if (!excuse(errno, "small messages, send"))
				goto out;
		}
		if (!rnd(w, 10))
			goto out;
		for (uint32_t i = 0; i < n;) {
			ssize_t got = recv(fd, w->in, MAX_SIZE, 0);

			if (got < 0 && excuse(errno, "small messages, recv"))
				continue;
			if (got > 0 && (size_t)got != lengths[i])
				complain("small messages: %zd bytes, not %zu", got, lengths[i]);
			if (got <= 0 || !check(w->in, i, (size_t)got, "small messages"))
				goto out;
			i++;
		}
	}
out:
	close(fd);
}

/* A datagram's length says what its bytes are. */
static bool toss(struct worker *w, int fd, struct sockaddr_vm to)
{
	size_t n = rnd(w, 8) ? rnd(w, 200) : rnd(w, 2) ? rnd(w, MAX_DATAGRAM + 1) : MAX_DATAGRAM;
	int flags = rnd(w, 4) ? 0 : MSG_DONTWAIT;

	fill(w->out, n, n);
	while (sendto(fd, w->out, n, flags, (struct sockaddr *)&to, sizeof(to)) < 0) {
		/* There may be no sockets of this machine's own. */
		if ((errno == EAGAIN && flags) || (errno == ENODEV && to.svm_cid == VMADDR_CID_LOCAL))
			return true;
		if (errno == EPIPE || !excuse(errno, "datagram, send"))
			return false;
	}
	atomic_fetch_add(&tossed, 1);
	return true;
}

/* One that came is whole; but it may be lost. Returns its length, or -1; *@from: who sent it. */
static ssize_t fetch(struct worker *w, int fd, struct sockaddr_vm *from)
{
	socklen_t length = sizeof(*from);
	ssize_t n;

	if (!rnd(w, 4))
		recv(fd, w->in, rnd(w, 100), MSG_PEEK | (rnd(w, 2) ? MSG_DONTWAIT : 0));
	n = recvfrom(fd, w->in, MAX_SIZE, 0, (struct sockaddr *)from, &length);
	if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNREFUSED)
		excuse(errno, "datagram, recv");
	if (n < 0)
		return -1;
	check(w->in, (size_t)n, (size_t)n, "datagram");
	atomic_fetch_add(&caught, n > 0);
	return n;
}

/* With a timeout in which an answer comes, as a rule; -1 where there are no datagrams just now. */
static int new_datagram_socket(struct worker *w)
{
	struct timeval wait = { .tv_usec = 200000 }, timeout = { .tv_sec = STALL_SECONDS };
	int fd = socket(AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 1 + (int)rnd(w, 100000);

	if (fd < 0) {
		if (errno != EINTR && calm)
			complain("datagram socket: %s", strerror(errno));
		usleep(1000); /* poll interval */
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (!rnd(w, 3))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (!rnd(w, 6))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	return fd;
}

/* To the echo and, with other sockets here, to themselves; the socket goes while some are on their way. */
static void datagrams(struct worker *w)
{
	struct sockaddr_vm echo = address(VMADDR_CID_HOST, PORT_DATAGRAMS), from;
	struct sockaddr_vm here = address(VMADDR_CID_LOCAL, PORT_LISTEN + rnd(w, NUM_LISTEN));
	int fd = new_datagram_socket(w), value;

	if (fd < 0)
		return;
	if (!rnd(w, 3))
		connect(fd, (struct sockaddr *)&echo, sizeof(echo));
	for (int rounds = 1 + (int)rnd(w, 8); rounds-- && !atomic_load(&over);) {
		for (uint32_t burst = 1 + rnd(w, BURST); burst--;) {
			if (!toss(w, fd, rnd(w, 20) ? echo : here))
				goto out;
		}
		while (rnd(w, 30) && fetch(w, fd, &from) >= 0)
			;
		if (!rnd(w, 4))
			ioctl(fd, SIOCOUTQ, &value);
		if (!rnd(w, 10))
			shutdown(fd, (int)rnd(w, 3));
	}
out:
	close(fd);
}

/* Send back what comes from the host, or from here. */
static void answer_datagrams(struct worker *w)
{
	struct sockaddr_vm at = address(VMADDR_CID_ANY, PORT_LISTEN + rnd(w, NUM_LISTEN)), from;
	int fd = new_datagram_socket(w);
	ssize_t n;

	if (fd < 0)
		return;
	if (!bind(fd, (struct sockaddr *)&at, sizeof(at))) {
		for (int rounds = (int)rnd(w, 100); rounds-- && !atomic_load(&over);) {
			n = fetch(w, fd, &from);
			if (n >= 0)
				sendto(fd, w->in, (size_t)n, MSG_DONTWAIT, (struct sockaddr *)&from, sizeof(from));
		}
	}
	close(fd);
}

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* A map with @fd in it, and with a program that lets everything pass. -1: not here, or no memory. */
static int put_into_sockmap(int fd)
{
	static const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = SK_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_SK_SKB,
				.expected_attach_type = BPF_SK_SKB_VERDICT,
				.insns = (uintptr_t)pass,
				.insn_cnt = sizeof(pass) / sizeof(pass[0]),
				.license = (uintptr_t) "Dual BSD/GPL" };
	union bpf_attr map = { .map_type = BPF_MAP_TYPE_SOCKMAP, .key_size = 4, .value_size = 4, .max_entries = 1 };
	union bpf_attr attach = { .attach_type = BPF_SK_SKB_VERDICT }, update = { 0 };
	int prog_fd, map_fd, key = 0;

	fail_allocations(false);
	prog_fd = bpf(BPF_PROG_LOAD, &load);
	fail_allocations(true);
	map_fd = bpf(BPF_MAP_CREATE, &map);

	attach.target_fd = (uint32_t)map_fd;
	attach.attach_bpf_fd = (uint32_t)prog_fd;
	update.map_fd = (uint32_t)map_fd;
	update.key = (uintptr_t)&key;
	update.value = (uintptr_t)&fd;
	if (map_fd >= 0 && (prog_fd < 0 || bpf(BPF_PROG_ATTACH, &attach) || bpf(BPF_MAP_UPDATE_ELEM, &update))) {
		close(map_fd);
		map_fd = -1;
	}
	if (prog_fd >= 0)
		close(prog_fd);
	return map_fd;
}

/* What arrives goes through a BPF program; the socket leaves the map in the middle, or with its end. */
static void sockmap(struct worker *w)
{
	int fd = dial(w, PORT_ECHO), rounds = 1 + (int)rnd(w, 20), map_fd = -1;
	uint64_t offset = 0;

	if (fd < 0)
		return;
	map_fd = put_into_sockmap(fd);
	w->sockmap = true;
	while (map_fd >= 0 && rounds-- && !atomic_load(&over)) {
		size_t n = some_size(w) % 60000 + 1;

		if (!give(w, fd, offset, n, "sockmap, send"))
			break;
		if (!take(w, fd, offset, n, "sockmap, recv"))
			break;
		offset += n;
	}
	w->sockmap = false;
	if (map_fd >= 0 && rnd(w, 2)) {
		close(map_fd);
		map_fd = -1;
	}
	close(fd);
	if (map_fd >= 0)
		close(map_fd);
}

/* Look on for a moment. */
static void tap(struct worker *w)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex("mon0") };

	if (fd < 0)
		return;
	if (at.sll_ifindex && !bind(fd, (struct sockaddr *)&at, sizeof(at))) {
		for (uint32_t n = rnd(w, 50); n--;)
			recv(fd, w->in, MAX_SIZE, 0);
	}
	close(fd);
	if (at.sll_ifindex && !rnd(w, 4)) {
		struct ifreq ifr = { .ifr_name = "mon0" };
		int control = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		ifr.ifr_flags = rnd(w, 2) ? IFF_UP : 0;
		ioctl(control, SIOCSIFFLAGS, &ifr);
		close(control);
	}
}

/* Close with data unread, or on its way, or with a reader's and a writer's timer running. */
static void close_unread(struct worker *w)
{
	struct linger linger = { .l_onoff = 1, .l_linger = (int)rnd(w, 2) };
	int fd = dial(w, rnd(w, 2) ? PORT_SOURCE : PORT_SINK);

	if (fd < 0)
		return;
	if (rnd(w, 2))
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	fill(w->out, 0, MAX_SIZE);
	send(fd, w->out, some_size(w), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (rnd(w, 2))
		recv(fd, w->in, some_size(w), MSG_DONTWAIT);
	if (!rnd(w, 4))
		shutdown(fd, (int)rnd(w, 3));
	close(fd);
}

static void drink_source(struct worker *w)
{
	int fd = dial(w, PORT_SOURCE), rounds = 1 + (int)rnd(w, 30);
	uint64_t offset = 0;

	if (fd < 0)
		return;
	while (rounds-- && !atomic_load(&over)) {
		size_t n = some_size(w);

		if (!take(w, fd, offset, n, "source"))
			break;
		offset += n;
		atomic_fetch_add(&bytes, n);
		if (!rnd(w, 4))
			meddle(w, fd);
	}
	close(fd);
}

static void flood_sink(struct worker *w)
{
	int fd = dial(w, rnd(w, 3) ? PORT_SINK : PORT_ABRUPT), rounds = 1 + (int)rnd(w, 30);
	uint64_t offset = 0;

	if (fd < 0)
		return;
	while (rounds-- && !atomic_load(&over)) {
		size_t n = some_size(w);
		ssize_t sent;

		fill(w->out, offset, n);
		sent = send(fd, w->out, n, MSG_NOSIGNAL | (rnd(w, 2) ? MSG_DONTWAIT : 0));
		if (sent < 0 && errno != EINTR && errno != EAGAIN && errno != ENOMEM)
			break;
		offset += sent > 0 ? (uint64_t)sent : 0;
		if (!rnd(w, 4))
			meddle(w, fd);
	}
	atomic_fetch_add(&bytes, offset);
	close(fd);
}

static void knock(struct worker *w)
{
	int fd = dial(w, PORT_NOBODY);

	if (fd >= 0) {
		complain("a connection to nobody");
		close(fd);
	}
}

/* Connect without waiting; then close at once, wait a moment, connect again, or go elsewhere with the same socket. */
static void hasty(struct worker *w)
{
	static const unsigned cids[] = { VMADDR_CID_HOST, VMADDR_CID_LOCAL, VMADDR_CID_HOST, 77 };
	struct timeval patience = { .tv_usec = 1 + (int)rnd(w, 20000) };
	int rounds = 1 + (int)rnd(w, 4), fd = new_socket(SOCK_STREAM | (rnd(w, 2) ? SOCK_NONBLOCK : 0));
	bool sent = false;

	if (fd < 0)
		return;
	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	fill(w->out, 0, 100);
	while (rounds--) {
		struct sockaddr_vm to = address(cids[rnd(w, 4)], PORT_ECHO + rnd(w, 5));

		connect(fd, (struct sockaddr *)&to, sizeof(to));
		if (rnd(w, 2))
			poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, (int)rnd(w, 30));
		if (!rnd(w, 3) && !sent)
			sent = send(fd, w->out, 100, MSG_NOSIGNAL | MSG_DONTWAIT) > 0;
		if (!rnd(w, 4))
			shutdown(fd, (int)rnd(w, 3));
	}
	close(fd);
}

/* Buffers that end in the middle of what is copied. */
static void fault(struct worker *w)
{
	int fd = dial(w, PORT_ECHO);
	size_t page = 4096, pages = 1 + rnd(w, 20), room, n;
	uint8_t *area;
	ssize_t got;

	if (fd < 0)
		return;
	/* The last page stays without access: a hole could be filled by another thread, and takes memory to make. */
	area = mmap(NULL, (pages + 1) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		goto out;
	if (mprotect(area, pages * page, PROT_READ | PROT_WRITE))
		goto unmap;
	room = pages * page - rnd(w, 4000);
	fill(area + pages * page - room, 0, room);
	got = send(fd, area + pages * page - room, room + 1 + rnd(w, 5000), MSG_NOSIGNAL);
	atomic_fetch_add(&faulted, 1);
	if (got <= 0)
		goto unmap;
	if ((size_t)got > room)
		complain("send took %zd bytes of %zu", got, room);
	room = 1 + rnd(w, 3000);
	for (n = 0; n < (size_t)got && n < room;) {
		ssize_t r = recv(fd, area + pages * page - room + n, room - n + 5000, 0);

		if (r < 0 && errno == EFAULT)
			break;
		if (r <= 0) {
			if (r < 0 && excuse(errno, "fault, recv"))
				continue;
			goto unmap;
		}
		n += (size_t)r;
	}
	if (check(area + pages * page - room, 0, n < room ? n : room, "fault, first part"))
		take(w, fd, n, (size_t)got - n, "fault, rest");
unmap:
	munmap(area, (pages + 1) * page);
out:
	close(fd);
}

struct closer {
	int fd;
	int nothing;
	unsigned delay;
	bool shut;
};

static void *close_soon(void *arg)
{
	struct closer *c = arg;

	usleep(c->delay);
	if (c->shut)
		shutdown(c->fd, SHUT_RDWR);
	else
		/* close(), but the number cannot become another thread's socket. */
		dup2(c->nothing, c->fd);
	return NULL;
}

/* Another thread shuts or closes the socket in which this one sleeps. */
static void pull_rug(struct worker *w)
{
	struct timeval timeout = { .tv_usec = 50000 };
	struct closer closer = { .fd = dial(w, PORT_ECHO),
				 .nothing = open("/dev/null", O_RDWR | O_CLOEXEC),
				 .delay = rnd(w, 20000),
				 .shut = rnd(w, 2) };
	bool reading = rnd(w, 2);
	pthread_t thread;
	int rounds = 20, error;

	if (closer.fd < 0 || closer.nothing < 0)
		goto out;
	setsockopt(closer.fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(closer.fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	fail_allocations(false);
	error = pthread_create(&thread, NULL, close_soon, &closer);
	fail_allocations(true);
	if (error)
		goto out;
	while (rounds--) {
		if (reading)
			recv(closer.fd, w->in, 1000, 0);
		else
			send(closer.fd, w->out, 30000, MSG_NOSIGNAL);
	}
	pthread_join(thread, NULL);
out:
	if (closer.fd >= 0)
		close(closer.fd);
	if (closer.nothing >= 0)
		close(closer.nothing);
}

/* Serve a connection from the host: send back what comes. */
static void serve(struct worker *w, int fd)
{
	struct timeval timeout = { .tv_sec = 5 };
	int rounds = (int)rnd(w, 30);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	while (rounds--) {
		ssize_t n = recv(fd, w->in, some_size(w), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		for (ssize_t done = 0; done < n;) {
			ssize_t sent = send(fd, w->in + done, (size_t)(n - done), MSG_NOSIGNAL);

			if (sent < 0 && errno == EINTR)
				continue;
			if (sent <= 0)
				goto out;
			done += sent;
		}
		atomic_fetch_add(&bytes, (size_t)n);
	}
out:
	close(fd);
}

/* Listen for a while; accept some, and close with the rest in the queue. */
static void hear(struct worker *w)
{
	struct sockaddr_vm at = address(VMADDR_CID_ANY, PORT_LISTEN + rnd(w, NUM_LISTEN));
	int fd = new_socket(SOCK_STREAM | SOCK_NONBLOCK), rounds = (int)rnd(w, 8), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };

	if (fd < 0 || epoll < 0)
		goto out;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, (int)rnd(w, 16)))
		goto out;
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
	while (rounds--) {
		struct sockaddr_vm from;
		socklen_t length = sizeof(from);
		int child;

		epoll_wait(epoll, &event, 1, 100);
		child = accept(fd, (struct sockaddr *)&from, &length);
		if (child < 0)
			continue;
		atomic_fetch_add(&accepted, 1);
		if (rnd(w, 4))
			serve(w, child);
		else
			close(child);
	}
	if (rnd(w, 2))
		usleep(rnd(w, 20000));
out:
	if (fd >= 0)
		close(fd);
	if (epoll >= 0)
		close(epoll);
}

/* A process that dies in the middle. */
static void kill_child(struct worker *w)
{
	pid_t pid;

	fail_allocations(false);
	pid = fork();
	fail_allocations(true);
	if (pid == 0) {
		signal(SIGUSR1, SIG_IGN);
		alarm(STALL_SECONDS * 2);
		for (;;) {
			switch (rnd(w, 3)) {
			case 0:
				close_unread(w);
				break;
			case 1:
				drink_source(w);
				break;
			default:
				hasty(w);
			}
		}
	}
	if (pid < 0)
		return;
	usleep(rnd(w, 200000));
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static const struct scenario {
	const char *name;
	void (*run)(struct worker *w);
	int weight;
} scenarios[] = {
	{ "echo", echo, 5 },
	{ "close_unread", close_unread, 6 },
	{ "drink_source", drink_source, 3 },
	{ "flood_sink", flood_sink, 3 },
	{ "knock", knock, 2 },
	{ "hasty", hasty, 6 },
	{ "fault", fault, 3 },
	{ "pull_rug", pull_rug, 4 },
	{ "hear", hear, 6 },
	{ "kill_child", kill_child, 1 },
	{ "messages", messages, 5 },
	{ "zerocopy", zerocopy, 4 },
	{ "chatter", chatter, 5 },
	{ "small_messages", small_messages, 4 },
	{ "datagrams", datagrams, 5 },
	{ "answer_datagrams", answer_datagrams, 3 },
	{ "sockmap", sockmap, 2 },
	{ "tap", tap, 2 },
};

enum { NUM_SCENARIOS = sizeof(scenarios) / sizeof(scenarios[0]) };

static bool chosen[NUM_SCENARIOS];

/* Named ones only; all, if none is named. */
static void choose(int argc, char **argv)
{
	bool any = false;

	for (int a = 4; a < argc; a++) {
		for (int i = 0; i < NUM_SCENARIOS; i++) {
			if (!strcmp(argv[a], scenarios[i].name))
				chosen[i] = any = true;
		}
	}
	for (int i = 0; i < NUM_SCENARIOS; i++)
		chosen[i] |= !any;
}

static const struct scenario *some_scenario(struct worker *w)
{
	int all = 0, pick;

	for (int i = 0; i < NUM_SCENARIOS; i++)
		all += chosen[i] ? scenarios[i].weight : 0;
	pick = (int)rnd(w, (uint32_t)all);
	for (int i = 0;; i++) {
		pick -= chosen[i] ? scenarios[i].weight : 0;
		if (pick < 0)
			return &scenarios[i];
	}
}

static void *work(void *arg)
{
	struct worker *w = arg;

	fail_allocations(true);
	while (!atomic_load(&over)) {
		const struct scenario *s = some_scenario(w);

		atomic_store(&w->doing, s->name);
		atomic_store(&w->since, now());
		s->run(w);
	}
	atomic_store(&w->doing, NULL);
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
}

/* Signals for everybody until the time is up; then wait for those that are still at it, but not forever. */
static void conduct(time_t until)
{
	bool all = false;

	for (uint32_t i = 0; now() < until; i++) {
		usleep(3000); /* poll interval */
		pthread_kill(workers[i % (uint32_t)n_workers].thread, SIGUSR1);
	}
	atomic_store(&over, true);
	while (!all && now() < until + 2 * STALL_SECONDS) {
		all = true;
		usleep(50000); /* poll interval */
		for (int i = 0; i < n_workers; i++)
			all &= !atomic_load(&workers[i].doing);
	}
	for (int i = 0; i < n_workers; i++) {
		const char *doing = atomic_load(&workers[i].doing);

		if (doing)
			complain("%s has been at it for %ld s", doing, now() - atomic_load(&workers[i].since));
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	uint64_t seed;

	if (argc < 4) {
		fprintf(stderr, "usage: stress SECONDS SEED THREADS [calm] [fail] [SCENARIO]...\n");
		return 2;
	}
	for (int i = 4; i < argc; i++) {
		calm |= !strcmp(argv[i], "calm");
		fail |= !strcmp(argv[i], "fail");
	}
	choose(argc, argv);
	seed = strtoull(argv[2], NULL, 0);
	n_workers = atoi(argv[3]) < MAX_THREADS ? atoi(argv[3]) : MAX_THREADS;
	sigaction(SIGUSR1, &action, NULL);
	for (int i = 0; i < n_workers; i++) {
		struct worker *w = &workers[i];

		w->random = (seed + 1) * 0x9e3779b97f4a7c15ULL + (uint64_t)i * 0xbf58476d1ce4e5b9ULL;
		w->out = calloc(1, MAX_SIZE + 8192);
		w->in = calloc(1, MAX_SIZE + 8192);
		atomic_store(&w->doing, "begin");
		atomic_store(&w->since, now());
		if (!w->out || !w->in || pthread_create(&w->thread, NULL, work, w)) {
			perror("stress");
			return 2;
		}
	}
	conduct(now() + atoi(argv[1]));
	if (calm && tossed && !caught)
		complain("no datagram came back");
	printf("connected %lu, accepted %lu, refused %lu, broken %lu, faulted %lu, bytes %lu, datagrams %lu, %lu came, "
	       "wrong %d\n",
	       connected, accepted, refused, broken, faulted, bytes, tossed, caught, wrong);
	fflush(stdout);
	_exit(wrong ? 1 : 0);
}
