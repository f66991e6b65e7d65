// SPDX-License-Identifier: BSD-2-Clause
/*
 * dgram-load.c - datagrams that are all known beforehand, at either end, as fast as they go
 *
 *   dgram-load send WHERE COUNT SEED                send them, in the order of their numbers
 *   dgram-load receive WHERE COUNT SEED [SO_RCVBUF] say "ready"; after SIGTERM, once none waits any more, say
 *                                                   "came N wrong N dropped N", the last as the socket counts
 *
 * WHERE is vsock:CID:PORT (the CID may be "any"), or PATH:PORT: vsockd's hybrid sockets at PATH, where a receiver is
 * the host's port, and a sender sends to the guest's.
 *
 * Number and seed make a datagram's size, and all three its bytes, of which the first four are the number. One of fewer
 * bytes is taken for the first of the next that it may be: if it was another, that one was lost, so nothing is found
 * wrong that is right. Datagrams of one socket keep their order, so one of these that came twice, or that nobody sent,
 * uses up a later one, and what comes next is out of order. The first few of what is wrong are told of, and then the
 * exit status is 1.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/sock_diag.h>
#include <linux/vm_sockets.h>

enum {
	LARGEST = 65536,
	NUMBER_BYTES = 4,
	LINE_BYTES = 32, /* "SENDTO 4294967295\n" */
	TOLD = 10,
	RARE = 16,   /* one of so many is of any size; */
	COMMON = 10, /* the others are shorter than 2 to this */
};

static uint32_t count;
static uint64_t seed;
static volatile sig_atomic_t over;

/* What was received. */
static uint8_t *seen; /* a bit for each number */
static uint32_t next; /* behind the last that came */
static uint32_t came, wrong;

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "dgram-load: %s: %s\n", what, strerror(errno));
	exit(2);
}

/* ---- the datagrams ---- */

/* The finalizer of splitmix64: each bit of @x changes half of the result's. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

/* Each count of binary digits is as frequent as the others: 0 bytes, 1, 2-3, 4-7 and so on; and the largest. */
static uint32_t size_of(uint32_t number)
{
	uint64_t random = mix(seed + ((uint64_t)number << 1));
	uint32_t kinds = random % RARE ? COMMON : 17;
	uint32_t digits = (uint32_t)(random >> 8) % (kinds + 1), half = 1u << digits >> 1;

	return digits == 17 ? LARGEST : half + (half ? (uint32_t)(random >> 40) % half : 0);
}

/* @to has room for a word more than @size. */
static void write_bytes(uint8_t *to, uint32_t number, uint32_t size)
{
	uint64_t word = mix(mix(seed + ((uint64_t)number << 1 | 1)) + size);

	memcpy(to, &number, NUMBER_BYTES);
	for (uint32_t at = NUMBER_BYTES; at < size; at += sizeof(word)) {
		memcpy(to + at, &word, sizeof(word));
		word += 0x9e3779b97f4a7c15;
	}
}

/* ---- sockets ---- */

static uint32_t number_in(const char *word)
{
	return (uint32_t)strtoul(word, NULL, 0);
}

/* WHERE's socket address; what comes before the port is cut off there, and @port set to it. */
static socklen_t parse(char *where, struct sockaddr_storage *sa, uint32_t *port)
{
	char *colon = strrchr(where, ':');
	struct sockaddr_vm *vm = (struct sockaddr_vm *)sa;
	struct sockaddr_un *un = (struct sockaddr_un *)sa;

	if (!colon) {
		errno = EINVAL;
		fail(where);
	}
	*colon = 0;
	*port = number_in(colon + 1);
	memset(sa, 0, sizeof(*sa));
	if (strncmp(where, "vsock:", 6) == 0) {
		vm->svm_family = AF_VSOCK;
		vm->svm_cid = strcmp(where + 6, "any") == 0 ? VMADDR_CID_ANY : number_in(where + 6);
		vm->svm_port = *port;
		return sizeof(*vm);
	}
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof(un->sun_path), "%s_dgram", where);
	return sizeof(*un);
}

/* The host's port, where @un is vsockd's socket. */
static void add_port(struct sockaddr_un *un, uint32_t port)
{
	size_t at = strlen(un->sun_path);

	snprintf(un->sun_path + at, sizeof(un->sun_path) - at, "_%u", port);
}

static int new_socket(int family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	return fd;
}

static uint32_t drops(int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(info);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len))
		fail("SO_MEMINFO");
	return info[SK_MEMINFO_DROPS];
}

/* ---- send ---- */

static int send_all(char *where)
{
	static uint8_t bytes[LINE_BYTES + LARGEST + sizeof(uint64_t)];
	struct sockaddr_storage to;
	uint32_t port;
	socklen_t len = parse(where, &to, &port);
	int fd = new_socket(to.ss_family);
	size_t line = 0;

	if (to.ss_family == AF_UNIX)
		line = (size_t)snprintf((char *)bytes, LINE_BYTES, "SENDTO %u\n", port);
	for (uint32_t number = 0; number < count; number++) {
		uint32_t size = size_of(number);

		write_bytes(bytes + line, number, size);
		if (sendto(fd, bytes, line + size, 0, (const struct sockaddr *)&to, len) != (ssize_t)(line + size))
			fail("sendto");
	}
	printf("sent %u\n", count);
	return 0;
}

/* ---- receive ---- */

static void __attribute__((format(printf, 1, 2))) tell(const char *format, ...)
{
	va_list args;

	if (wrong++ >= TOLD)
		return;
	fputs("dgram-load: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* The number of one that is too short to have it all; @count, if there is none that it may be. */
static uint32_t find(const uint8_t *bytes, size_t size)
{
	uint32_t number = next;

	while (number < count && (size_of(number) != size || memcmp(&number, bytes, size) != 0))
		number++;
	return number;
}

static void take(const uint8_t *bytes, size_t size)
{
	static uint8_t right[LARGEST + sizeof(uint64_t)];
	uint32_t number;

	if (size < NUMBER_BYTES)
		number = find(bytes, size);
	else
		memcpy(&number, bytes, sizeof(number));
	if (number >= count) {
		tell("nobody sent one of %zu bytes that says it is %u", size, number);
		return;
	}
	if (size_of(number) != size) {
		tell("%u has %zu bytes, not %u", number, size, size_of(number));
		return;
	}
	write_bytes(right, number, (uint32_t)size);
	if (memcmp(right, bytes, size) != 0)
		tell("%u, of %zu bytes, has wrong ones", number, size);
	else if (seen[number / 8] & 1 << number % 8)
		tell("%u, of %zu bytes, came twice", number, size);
	else if (number < next)
		tell("%u, of %zu bytes, came behind %u", number, size, next - 1);
	seen[number / 8] |= (uint8_t)(1 << number % 8);
	next = number < next ? next : number + 1;
	came++;
}

static void on_signal(int sig)
{
	(void)sig;
	over = true;
}

/* Wait for a datagram, or SIGTERM, which comes nowhere else. */
static void await(int fd, const sigset_t *unblocked)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (ppoll(&p, 1, NULL, unblocked) < 0 && errno != EINTR)
		fail("ppoll");
}

static int receive_all(char *where, int room)
{
	static uint8_t bytes[LARGEST + 1];
	struct sigaction end = { .sa_handler = on_signal };
	sigset_t term, unblocked;
	struct sockaddr_storage at;
	uint32_t port;
	socklen_t len = parse(where, &at, &port);
	int fd = new_socket(at.ss_family);

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &unblocked);
	sigaction(SIGTERM, &end, NULL);
	seen = calloc(count / 8 + 1, 1);
	if (!seen)
		fail("memory");
	if (at.ss_family == AF_UNIX)
		add_port((struct sockaddr_un *)&at, port);
	if (room && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
		fail("SO_RCVBUF");
	if (bind(fd, (const struct sockaddr *)&at, len))
		fail("bind");
	puts("ready");
	fflush(stdout);
	for (;;) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC);

		if (n > LARGEST)
			tell("one has %zd bytes", n);
		else if (n >= 0)
			take(bytes, (size_t)n);
		else if (errno != EAGAIN)
			fail("recv");
		else if (over)
			break;
		else
			await(fd, &unblocked);
	}
	printf("came %u wrong %u dropped %u\n", came, wrong, drops(fd));
	return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
	bool sends = argc > 1 && strcmp(argv[1], "send") == 0;

	if (argc < 5 || argc > 6 - sends || (!sends && strcmp(argv[1], "receive") != 0)) {
		fputs("usage: dgram-load send WHERE COUNT SEED\n"
		      "       dgram-load receive WHERE COUNT SEED [SO_RCVBUF]\n",
		      stderr);
		return 2;
	}
	count = number_in(argv[3]);
	seed = strtoull(argv[4], NULL, 0);
	return sends ? send_all(argv[2]) : receive_all(argv[2], argc > 5 ? (int)number_in(argv[5]) : 0);
}
