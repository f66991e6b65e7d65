// SPDX-License-Identifier: BSD-2-Clause
/*
 * The load of tests/bench/guest-driver: what a guest's programs do with AF_VSOCK, and the host's end of it
 *
 *	bench-guest host PREFIX			serve PREFIX_1000 (stream) and PREFIX_1001 (seqpacket) until killed;
 *						PREFIX is the hybrid socket that leads into the guest
 *	bench-guest ping TYPE SIZE MS		round trips of SIZE bytes
 *	bench-guest put|get TYPE SIZE MS	bytes per second in writes of SIZE; put counts what the host has read
 *	bench-guest connect TYPE MS		connections opened and closed per second
 *	bench-guest fair TYPE N SIZE MS		Jain's index of N senders on one processor, and of their shares of it
 *	bench-guest beside TYPE N SIZE MS	ping of 64 bytes alone, then beside N senders
 *	bench-guest apart TYPE N SIZE MS	the same; the senders have the first processor, the ping the last
 *	bench-guest crowd TYPE N MS		ping over a connection to a port of the guest, alone, then with N more
 *	bench-guest fault TYPE MS		ping alone, then while recv() elsewhere is stuck in a page fault
 *
 * TYPE is stream or seqpacket; for put, get, beside and apart it may be dgram, AF_VSOCK's, or udp, to the host in
 * QEMU's user network. These are counted where they arrive; the connections that say so, and the ping, are streams. A
 * result is one line of JSON; times are microseconds. All calls block.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <linux/userfaultfd.h>
#include <linux/vm_sockets.h>

enum {
	HOST_PORT = 1000,  /* of streams; that of seqpackets is the next */
	CROWD_PORT = 2000, /* of the guest, likewise */
	DGRAM_PORT = 3000, /* the first of the host's for datagrams; each measurement has its own */
	QEMU_HOST = 0x0a000202,
	PIECE_MAX = 256 << 10,
	PINGS_MAX = 1 << 18,
	PING_BYTES = 64,
	SENDERS_MAX = 64,
	BACKLOG = 1024,
	THREAD_STACK = 512 << 10,
	TRICKLE_MS = 1,
	OUTLIER = 10,	 /* a lap of more than so many times p99 is counted apart */
	PATIENCE_S = 30, /* a call that takes longer has failed */
	STUCK_S = 2,	 /* a ping without an answer for so long ends the measurement: it is stuck */
	LINE_MAX_BYTES = 64,
	ASK_EVERY = 64, /* datagrams, whether they are still wanted */
	HELLO_MS = 200, /* the guest's first datagram is sent again, if nothing came */
	LAST_MS = 100,	/* for its last to come behind the word that there are no more */
	WRITES = 64, /* of the host in one system call, if they are small: the guest is to be measured */
	SMALL_WRITE = 1024,
};

/* What the guest asks of the host at the beginning of a connection; both are of one byte order. */
enum op { OP_SINK, OP_SOURCE, OP_ECHO, OP_TRICKLE, OP_DIAL, OP_CROWD, OP_DGRAM_SINK, OP_DGRAM_SOURCE };

struct request {
	uint32_t op;
	uint32_t size;	/* bytes of a write */
	uint32_t count; /* OP_CROWD: connections to make */
	uint32_t port;	/* OP_DIAL, OP_CROWD: where to; OP_DGRAM_*: the guest's family, and the answer is the port */
};

static const char *prefix;     /* the host's */
static int kind = SOCK_STREAM; /* the guest's */
static int dgram_family;       /* the guest's, where TYPE is of datagrams, else 0 */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/*
 * Is it later than @until? By some milliseconds, perhaps: where a guest's clock is a device of its machine, as emulated
 * ones' is, to read it takes as long as some small writes do, whoever's driver it is. The tick's costs nothing.
 */
static bool is_past(uint64_t until)
{
	return clock_ns(CLOCK_MONOTONIC_COARSE) >= until;
}

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "bench-guest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *allocate(size_t size)
{
	void *p = calloc(1, size);

	if (!p)
		fail("memory");
	return p;
}

/* False: the peer is gone, or the call timed out. A message is sent whole, so this is one for either type. */
static bool put_all(int fd, const void *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = send(fd, (const char *)data + done, len - done, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static bool get_all(int fd, void *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = recv(fd, (char *)data + done, len - done, 0);
		if (!n)
			errno = ECONNRESET;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

/* Read until the end, or until @until; the bytes. */
static uint64_t drain(int fd, uint64_t until)
{
	char *buf = allocate(PIECE_MAX);
	uint64_t sum = 0;
	ssize_t n;

	while (!is_past(until) && (n = recv(fd, buf, PIECE_MAX, 0)) > 0)
		sum += (uint64_t)n;
	free(buf);
	return sum;
}

/* Write until @until, or until the peer is gone. Datagrams are written whole. */
static void pour(int fd, uint32_t size, uint64_t until)
{
	char *buf = allocate(size);

	do {
		if (!put_all(fd, buf, size))
			break;
	} while (!is_past(until));
	free(buf);
}

static void be_patient(int fd, time_t seconds)
{
	struct timeval tv = { .tv_sec = seconds };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)))
		fail("setsockopt");
}

/* The same, many small writes at a time. */
static void pour_many(int fd, uint32_t size)
{
	struct iovec iov = { .iov_base = allocate(size), .iov_len = size };
	struct mmsghdr messages[WRITES];
	int n;

	for (int i = 0; i < WRITES; i++)
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	do {
		n = sendmmsg(fd, messages, WRITES, MSG_NOSIGNAL);
	} while (n > 0);
	free(iov.iov_base);
}

static void start(void *(*run)(void *arg), void *arg, pthread_t *thread)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	errno = pthread_create(thread, &attr, run, arg);
	if (errno)
		fail("thread");
	pthread_attr_destroy(&attr);
}

/* ---- the host ---- */

static int unix_socket(int type, const char *path, struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(sa->sun_path, sizeof(sa->sun_path), "%s", path);
	return fd;
}

/* A connection to a port of the guest, as programs of the host make it. Streams only. */
static int dial_guest(uint32_t port)
{
	char line[LINE_MAX_BYTES];
	struct sockaddr_un sa;
	int fd = unix_socket(SOCK_STREAM, prefix, &sa);
	int n = snprintf(line, sizeof(line), "CONNECT %u\n", port);

	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || !put_all(fd, line, (size_t)n))
		fail("the guest");
	do {
		if (!get_all(fd, line, 1))
			fail("the guest refuses a connection");
	} while (*line != '\n');
	return fd;
}

static void echo(int fd, uint32_t size)
{
	char *buf = allocate(size);
	ssize_t n;

	while ((n = recv(fd, buf, size, 0)) > 0 && put_all(fd, buf, (size_t)n))
		;
	free(buf);
}

/* A byte now and then, until the peer is gone. */
static void trickle(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLRDHUP };
	char byte = 0;

	while (put_all(fd, &byte, 1) && !poll(&pfd, 1, TRICKLE_MS))
		;
}

/* Make connections, say so, and keep them until @fd ends. */
static void crowd(int fd, const struct request *r)
{
	int *fds = allocate(r->count * sizeof(*fds));

	for (uint32_t i = 0; i < r->count; i++)
		fds[i] = dial_guest(r->port);
	put_all(fd, &r->count, sizeof(r->count));
	drain(fd, UINT64_MAX);
	for (uint32_t i = 0; i < r->count; i++)
		close(fds[i]);
	free(fds);
}

/* A socket for the guest's datagrams, its port, and its name, where it has one. */
static int dgram_receiver(int family, uint32_t *port, struct sockaddr_un *name)
{
	static atomic_uint measurements;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char path[sizeof(name->sun_path)];
	socklen_t len = sizeof(in);
	int fd;

	*name = (struct sockaddr_un){ 0 };
	if (family == AF_INET) {
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd < 0 || bind(fd, (struct sockaddr *)&in, len) || getsockname(fd, (struct sockaddr *)&in, &len))
			fail("datagrams");
		*port = ntohs(in.sin_port);
		return fd;
	}
	*port = DGRAM_PORT + atomic_fetch_add(&measurements, 1);
	snprintf(path, sizeof(path), "%s_dgram_%u", prefix, *port);
	fd = unix_socket(SOCK_DGRAM, path, name);
	if (bind(fd, (struct sockaddr *)name, sizeof(*name)))
		fail(path);
	return fd;
}

/* A socket for datagrams, and the connection that says when there are no more. */
struct dgram_sink {
	int fd;
	int control;
};

/* Where the guest's last datagram was lost, its reader waits no longer. */
static void *give_up_late(void *arg)
{
	const struct dgram_sink *s = arg;
	struct pollfd pfd = { .fd = s->control, .events = POLLIN };

	poll(&pfd, 1, -1);
	poll(NULL, 0, LAST_MS);
	shutdown(s->fd, SHUT_RD);
	return NULL;
}

/* Bytes of datagrams up to the empty one, which is the guest's last. */
static uint64_t drain_dgrams(int fd, int control)
{
	struct dgram_sink sink = { .fd = fd, .control = control };
	pthread_t thread;
	uint64_t sum;

	start(give_up_late, &sink, &thread);
	sum = drain(fd, UINT64_MAX);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	return sum;
}

/* Answer the guest's first datagram with as many as go, until it has enough. */
static void pour_dgrams(int fd, int control, uint32_t size)
{
	char *buf = allocate(size), byte;
	struct sockaddr_storage to;
	socklen_t len = sizeof(to);

	if (recvfrom(fd, &byte, 1, 0, (struct sockaddr *)&to, &len) == 1) {
		do {
			for (uint32_t i = 0; i < ASK_EVERY; i++)
				sendto(fd, buf, size, MSG_NOSIGNAL, (struct sockaddr *)&to, len);
		} while (recv(control, &byte, 1, MSG_DONTWAIT) < 0);
	}
	free(buf);
}

static void serve_dgrams(int control, const struct request *r)
{
	struct sockaddr_un name;
	uint32_t port;
	int fd = dgram_receiver((int)r->port, &port, &name);
	uint64_t sum;

	put_all(control, &port, sizeof(port));
	be_patient(fd, PATIENCE_S);
	if (r->op == OP_DGRAM_SINK) {
		sum = drain_dgrams(fd, control);
		put_all(control, &sum, sizeof(sum));
	} else {
		pour_dgrams(fd, control, r->size);
	}
	close(fd);
	if (*name.sun_path)
		unlink(name.sun_path);
}

static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg, dialled;
	struct request r;
	uint64_t sum;

	if (get_all(fd, &r, sizeof(r)) && r.size && r.size <= PIECE_MAX) {
		switch (r.op) {
		case OP_SINK:
			sum = drain(fd, UINT64_MAX);
			put_all(fd, &sum, sizeof(sum));
			break;
		case OP_SOURCE:
			if (r.size <= SMALL_WRITE)
				pour_many(fd, r.size);
			else
				pour(fd, r.size, UINT64_MAX);
			break;
		case OP_ECHO:
			echo(fd, r.size);
			break;
		case OP_TRICKLE:
			trickle(fd);
			break;
		case OP_DIAL:
			dialled = dial_guest(r.port);
			echo(dialled, r.size);
			close(dialled);
			break;
		case OP_CROWD:
			crowd(fd, &r);
			break;
		case OP_DGRAM_SINK:
		case OP_DGRAM_SOURCE:
			serve_dgrams(fd, &r);
			break;
		}
	}
	close(fd);
	return NULL;
}

static void *accept_all(void *arg)
{
	int listener = (int)(intptr_t)arg;
	pthread_t thread;

	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			fail("accept");
		start(serve_one, (void *)(intptr_t)fd, &thread);
		pthread_detach(thread);
	}
	return NULL;
}

static int host_listener(int type, uint32_t port)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct sockaddr_un sa;
	int fd;

	snprintf(path, sizeof(path), "%s_%u", prefix, port);
	fd = unix_socket(type, path, &sa);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, BACKLOG))
		fail(path);
	return fd;
}

static int host(char **argv)
{
	int stream, seqpacket;
	pthread_t thread;

	prefix = argv[0];
	stream = host_listener(SOCK_STREAM, HOST_PORT);
	seqpacket = host_listener(SOCK_SEQPACKET, HOST_PORT + 1);
	puts("listening");
	fflush(stdout);
	start(accept_all, (void *)(intptr_t)seqpacket, &thread);
	accept_all((void *)(intptr_t)stream);
	return 0;
}

/* ---- the guest ---- */

static int new_socket(void)
{
	int fd = socket(AF_VSOCK, kind | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	be_patient(fd, PATIENCE_S);
	return fd;
}

static int dial(void)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK,
				  .svm_cid = VMADDR_CID_HOST,
				  .svm_port = HOST_PORT + (kind == SOCK_SEQPACKET) };
	int fd = new_socket();

	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		fail("connect");
	return fd;
}

static int ask(struct request r)
{
	int fd = dial();

	if (!put_all(fd, &r, sizeof(r)))
		fail("request");
	return fd;
}

/* A socket whose datagrams go to a port of the host, which is asked for by @op. */
static int ask_dgrams(enum op op, uint32_t size, int *control)
{
	struct sockaddr_vm vm = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(QEMU_HOST) };
	uint32_t port;
	int fd = socket(dgram_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	*control = ask((struct request){ .op = op, .size = size, .port = (uint32_t)dgram_family });
	if (fd < 0 || !get_all(*control, &port, sizeof(port)))
		fail("datagrams");
	vm.svm_port = port;
	in.sin_port = htons((uint16_t)port);
	if (dgram_family == AF_VSOCK ? connect(fd, (struct sockaddr *)&vm, sizeof(vm)) :
				       connect(fd, (struct sockaddr *)&in, sizeof(in)))
		fail("connect");
	be_patient(fd, PATIENCE_S);
	return fd;
}

static uint32_t number(const char *text)
{
	return (uint32_t)strtoul(text, NULL, 0);
}

static uint64_t ms(const char *text)
{
	return strtoull(text, NULL, 0) * 1000000;
}

/* Round trips, in nanoseconds. */
struct pings {
	uint32_t n;
	bool stuck;
	uint32_t p50;
	uint32_t p99;
	uint32_t p999;
	uint32_t max;
	uint32_t outliers;
};

static uint32_t laps[PINGS_MAX];

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static struct pings summary(uint32_t n)
{
	struct pings p = { .n = n };

	if (!n)
		return p;
	qsort(laps, n, sizeof(laps[0]), by_value);
	p.p50 = laps[n / 2];
	p.p99 = laps[(uint64_t)n * 99 / 100];
	p.p999 = laps[(uint64_t)n * 999 / 1000];
	p.max = laps[n - 1];
	while (p.outliers < n && laps[n - 1 - p.outliers] / OUTLIER > p.p99)
		p.outliers++;
	return p;
}

static struct pings ping(int fd, uint32_t size, uint64_t ns)
{
	char *buf = allocate(size);
	uint64_t until = now_ns() + ns, began;
	uint32_t n = 0;
	bool stuck = false;
	struct pings p;

	do {
		began = now_ns();
		stuck = !put_all(fd, buf, size) || !get_all(fd, buf, size);
		if (stuck && errno != EAGAIN)
			fail("ping");
		if (!stuck)
			laps[n++] = (uint32_t)(now_ns() - began);
	} while (!stuck && n < PINGS_MAX && !is_past(until));
	free(buf);
	p = summary(n);
	p.stuck = stuck;
	return p;
}

static void print_pings(const char *name, struct pings p)
{
	printf("\"%s\": {\"n\": %u, \"stuck\": %s, \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f, "
	       "\"outliers\": %u}",
	       name, p.n, p.stuck ? "true" : "false", p.p50 / 1e3, p.p99 / 1e3, p.p999 / 1e3, p.max / 1e3, p.outliers);
}

static void print_two(struct pings alone, struct pings loaded)
{
	printf("{");
	print_pings("alone", alone);
	printf(", ");
	print_pings("loaded", loaded);
	printf("}\n");
}

static int run_ping(char **argv)
{
	uint32_t size = number(argv[0]);
	int fd = ask((struct request){ .op = OP_ECHO, .size = size });

	ping(fd, size, ms(argv[1]) / 4);
	printf("{");
	print_pings("alone", ping(fd, size, ms(argv[1])));
	printf("}\n");
	return 0;
}

/* What the host is asked for. */
static int begin_get(uint32_t size)
{
	struct pollfd pfd = { .events = POLLIN };
	int control;

	if (!dgram_family)
		return ask((struct request){ .op = OP_SOURCE, .size = size });
	pfd.fd = ask_dgrams(OP_DGRAM_SOURCE, size, &control);
	do {
		if (send(pfd.fd, "", 1, MSG_NOSIGNAL) != 1)
			fail("datagram");
	} while (!poll(&pfd, 1, HELLO_MS));
	return pfd.fd;
}

static int run_get(char **argv)
{
	int fd = begin_get(number(argv[0]));
	uint64_t began, took, sum;

	/* What waits at the beginning is from before. */
	drain(fd, now_ns() + ms(argv[1]) / 4);
	began = now_ns();
	sum = drain(fd, began + ms(argv[1]));
	took = now_ns() - began;
	printf("{\"rate\": %.0f, \"s\": %.3f}\n", (double)sum * 1e9 / (double)took, (double)took / 1e9);
	return 0;
}

static void pin_to(int processor)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(processor, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		fail("sched_setaffinity");
}

static int last_processor(void)
{
	cpu_set_t all;
	int last = -1;

	if (sched_getaffinity(0, sizeof(all), &all))
		fail("sched_getaffinity");
	for (int i = 0; i < CPU_SETSIZE; i++)
		last = CPU_ISSET(i, &all) ? i : last;
	return last;
}

/* One sender. */
struct sender {
	pthread_t thread;
	pthread_barrier_t *barrier;
	uint32_t size;
	uint64_t ns;
	int processor; /* that it keeps to, or -1 */
	uint64_t bytes; /* that the host has read */
	uint64_t took;
	uint64_t cpu; /* time of a processor that it had */
};

static void *send_for(void *arg)
{
	struct sender *s = arg;
	uint64_t began, cpu;
	int fd, control;

	if (dgram_family)
		fd = ask_dgrams(OP_DGRAM_SINK, s->size, &control);
	else
		control = fd = ask((struct request){ .op = OP_SINK, .size = s->size });
	if (s->processor >= 0)
		pin_to(s->processor);
	if (s->barrier)
		pthread_barrier_wait(s->barrier);
	began = now_ns();
	cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	pour(fd, s->size, began + s->ns);
	if (dgram_family && (now_ns() < began + s->ns || send(fd, "", 0, MSG_NOSIGNAL)))
		fail("datagram");
	if (shutdown(control, SHUT_WR) || !get_all(control, &s->bytes, sizeof(s->bytes)))
		fail("the host's answer");
	s->took = now_ns() - began;
	s->cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	if (dgram_family)
		close(control);
	close(fd);
	return NULL;
}

static int run_put(char **argv)
{
	struct sender s = { .size = number(argv[0]), .ns = ms(argv[1]) };

	send_for(&s);
	printf("{\"rate\": %.0f, \"s\": %.3f}\n", (double)s.bytes * 1e9 / (double)s.took, (double)s.took / 1e9);
	return 0;
}

static int run_connect(char **argv)
{
	uint64_t began = now_ns(), took;
	uint32_t n = 0;

	do {
		close(dial());
		n++;
		took = now_ns() - began;
	} while (took < ms(argv[0]));
	printf("{\"rate\": %.1f, \"s\": %.3f}\n", n * 1e9 / (double)took, (double)took / 1e9);
	return 0;
}

/* Start senders; they wait for the barrier, which the caller has to reach as well. */
static uint32_t start_senders(struct sender *s, pthread_barrier_t *barrier, char **argv, uint64_t ns, int processor)
{
	uint32_t n = number(argv[0]);

	if (!n || n > SENDERS_MAX) {
		errno = EINVAL;
		fail("senders");
	}
	pthread_barrier_init(barrier, NULL, n + 1);
	for (uint32_t i = 0; i < n; i++) {
		s[i] = (struct sender){ .barrier = barrier, .size = number(argv[1]), .ns = ns, .processor = processor };
		start(send_for, &s[i], &s[i].thread);
	}
	return n;
}

static void join(struct sender *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		pthread_join(s[i].thread, NULL);
}

/*
 * On the last processor. How the kernel spreads processes over several says nothing of a driver, and is not even for a
 * second or two.
 */
static int run_fair(char **argv)
{
	struct sender s[SENDERS_MAX];
	pthread_barrier_t barrier;
	double sum = 0, squares = 0, cpu = 0, cpu_squares = 0;
	uint32_t n = start_senders(s, &barrier, argv, ms(argv[2]), last_processor());

	pthread_barrier_wait(&barrier);
	join(s, n);
	for (uint32_t i = 0; i < n; i++) {
		sum += (double)s[i].bytes;
		squares += (double)s[i].bytes * (double)s[i].bytes;
		cpu += (double)s[i].cpu;
		cpu_squares += (double)s[i].cpu * (double)s[i].cpu;
	}
	printf("{\"jain\": %.4f, \"cpu_jain\": %.4f, \"bytes\": %.0f, \"senders\": [", sum * sum / (n * squares),
	       cpu * cpu / (n * cpu_squares), sum);
	for (uint32_t i = 0; i < n; i++)
		printf("%s[%llu, %.1f]", i ? ", " : "", (unsigned long long)s[i].bytes, (double)s[i].cpu / 1e6);
	printf("]}\n");
	return 0;
}

static int ping_beside(char **argv, int processor)
{
	int fd = ask((struct request){ .op = OP_ECHO, .size = PING_BYTES });
	struct sender s[SENDERS_MAX];
	struct pings alone, loaded;
	pthread_barrier_t barrier;
	uint64_t ns = ms(argv[2]);
	uint32_t n;

	ping(fd, PING_BYTES, ns / 4);
	alone = ping(fd, PING_BYTES, ns);
	/* The first quarter fills the queues. */
	n = start_senders(s, &barrier, argv, ns + ns / 4, processor);
	pthread_barrier_wait(&barrier);
	ping(fd, PING_BYTES, ns / 4);
	loaded = ping(fd, PING_BYTES, ns);
	join(s, n);
	print_two(alone, loaded);
	return 0;
}

static int run_beside(char **argv)
{
	return ping_beside(argv, -1);
}

static int run_apart(char **argv)
{
	pin_to(last_processor());
	return ping_beside(argv, 0);
}

static int run_crowd(char **argv)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = CROWD_PORT };
	uint32_t n = number(argv[0]), made;
	uint64_t ns = ms(argv[1]);
	int listener = new_socket(), fd, crowd_fd;
	struct pings alone;

	if (bind(listener, (struct sockaddr *)&sa, sizeof(sa)) || listen(listener, BACKLOG))
		fail("listen");
	ask((struct request){ .op = OP_DIAL, .size = PING_BYTES, .port = CROWD_PORT });
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		fail("accept");
	be_patient(fd, PATIENCE_S);
	ping(fd, PING_BYTES, ns / 4);
	alone = ping(fd, PING_BYTES, ns);
	crowd_fd = ask((struct request){ .op = OP_CROWD, .size = 1, .count = n, .port = CROWD_PORT });
	for (uint32_t i = 0; i < n; i++) {
		if (accept4(listener, NULL, NULL, SOCK_CLOEXEC) < 0)
			fail("accept");
	}
	if (!get_all(crowd_fd, &made, sizeof(made)))
		fail("the host's crowd");
	ping(fd, PING_BYTES, ns / 4);
	print_two(alone, ping(fd, PING_BYTES, ns));
	return 0;
}

/* A page whose first use waits until fill_page(). */
struct slow_page {
	int uffd;
	size_t size;
	void *page;
};

static struct slow_page new_slow_page(void)
{
	struct slow_page p = { .size = (size_t)sysconf(_SC_PAGESIZE) };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	p.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	p.page = mmap(NULL, p.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p.uffd < 0 || p.page == MAP_FAILED || ioctl(p.uffd, UFFDIO_API, &api))
		fail("userfaultfd");
	reg.range = (struct uffdio_range){ .start = (uintptr_t)p.page, .len = p.size };
	if (ioctl(p.uffd, UFFDIO_REGISTER, &reg))
		fail("userfaultfd");
	return p;
}

static void await_fault(const struct slow_page *p)
{
	struct pollfd pfd = { .fd = p->uffd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&pfd, 1, PATIENCE_S * 1000) != 1 || read(p->uffd, &msg, sizeof(msg)) != sizeof(msg) ||
	    msg.event != UFFD_EVENT_PAGEFAULT)
		fail("no page fault");
}

static void fill_page(const struct slow_page *p)
{
	struct uffdio_zeropage zero = { .range = { .start = (uintptr_t)p->page, .len = p->size } };

	if (ioctl(p->uffd, UFFDIO_ZEROPAGE, &zero))
		fail("userfaultfd");
}

struct stuck_reader {
	int fd;
	void *page;
	ssize_t got;
};

static void *read_one(void *arg)
{
	struct stuck_reader *r = arg;

	r->got = recv(r->fd, r->page, 1, 0);
	return NULL;
}

static int run_fault(char **argv)
{
	struct slow_page page = new_slow_page();
	struct stuck_reader reader = { .page = page.page };
	int fd = ask((struct request){ .op = OP_ECHO, .size = PING_BYTES });
	uint64_t ns = ms(argv[0]);
	struct pings alone, loaded;
	pthread_t thread;
	char byte;

	ping(fd, PING_BYTES, ns / 4);
	alone = ping(fd, PING_BYTES, ns);
	/* Bytes go on coming for the socket whose reader is stuck. */
	reader.fd = ask((struct request){ .op = OP_TRICKLE, .size = 1 });
	if (!get_all(reader.fd, &byte, 1))
		fail("the first byte");
	start(read_one, &reader, &thread);
	await_fault(&page);
	be_patient(fd, STUCK_S);
	loaded = ping(fd, PING_BYTES, ns);
	fill_page(&page);
	pthread_join(thread, NULL);
	if (reader.got != 1)
		fail("the reader that was stuck");
	print_two(alone, loaded);
	return 0;
}

static const struct command {
	const char *name;
	int args; /* besides the name, and TYPE if there is one */
	bool typed;
	int (*run)(char **argv);
	bool dgrams; /* TYPE may be of datagrams */
} commands[] = {
	{ "host", 1, false, host, false },	    { "ping", 2, true, run_ping, false },
	{ "put", 2, true, run_put, true },	    { "get", 2, true, run_get, true },
	{ "connect", 1, true, run_connect, false }, { "fair", 3, true, run_fair, false },
	{ "beside", 3, true, run_beside, true },    { "crowd", 2, true, run_crowd, false },
	{ "fault", 1, true, run_fault, false },	    { "apart", 3, true, run_apart, true },
};

/* False: this command has no such TYPE. */
static bool choose_type(const struct command *c, const char *type)
{
	kind = strcmp(type, "seqpacket") == 0 ? SOCK_SEQPACKET : SOCK_STREAM;
	if (strcmp(type, "dgram") == 0)
		dgram_family = AF_VSOCK;
	else if (strcmp(type, "udp") == 0)
		dgram_family = AF_INET;
	return c->dgrams || !dgram_family;
}

/* One descriptor for each connection of a crowd. */
static void want_files(void)
{
	struct rlimit lim;

	if (!getrlimit(RLIMIT_NOFILE, &lim)) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	want_files();
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];

		if (strcmp(argv[1], c->name) != 0 || argc != 2 + c->typed + c->args)
			continue;
		if (c->typed && !choose_type(c, argv[2]))
			break;
		return c->run(argv + 2 + c->typed);
	}
	fputs("usage: see the head of tests/bench/guest.c\n", stderr);
	return 2;
}
