// SPDX-License-Identifier: BSD-2-Clause
/*
 * Measure one stream between two machines: bytes per second either way, and round trips.
 *
 *	bench-flow serve ADDRESS			answer until killed
 *	bench-flow put|get|ping ADDRESS SIZE MS		one figure, from the dialling end's clock
 *
 * ADDRESS is any spelling that libvsock knows: vsock:CID:PORT, or vsock-mux:PATH:PORT for a hybrid Unix socket. "put"
 * counts what the server says it has read, so that nothing counts that is still in a buffer. SIZE is that of each
 * write() of the sender; readers read up to 256 KiB at a time. All calls are plain and block.
 */
#include <vsock/vsock.h>

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	SIZE_MAX_BYTES = 1 << 20,
	READ_BYTES = 256 << 10,
	PINGS_MAX = 1 << 20,
};

/* What the dialling end asks for; both ends are of one byte order. */
struct request {
	uint32_t op; /* 'p'ut, 'g'et or 'G' for ping */
	uint32_t size;
	uint64_t run_ns;
};

static char buf[SIZE_MAX_BYTES];
static uint32_t laps[PINGS_MAX];

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "bench-flow: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_all(int fd, const void *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = write(fd, (const char *)data + done, len - done);
		if (n < 0)
			fail("write");
		done += (size_t)n;
	}
}

static void read_all(int fd, void *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = read(fd, (char *)data + done, len - done);
		if (n < 0)
			fail("read");
		if (!n) {
			errno = ECONNRESET;
			fail("read");
		}
		done += (size_t)n;
	}
}

static uint64_t drain(int fd)
{
	uint64_t sum = 0;
	ssize_t n;

	while ((n = read(fd, buf, READ_BYTES)) > 0)
		sum += (uint64_t)n;
	if (n < 0)
		fail("read");
	return sum;
}

static void pour(int fd, uint32_t size, uint64_t run_ns)
{
	uint64_t until = now_ns() + run_ns;

	do {
		write_all(fd, buf, size);
	} while (now_ns() < until);
	if (shutdown(fd, SHUT_WR))
		fail("shutdown");
}

static void echo(int fd, uint32_t size)
{
	ssize_t n;

	while ((n = read(fd, buf, size)) > 0)
		write_all(fd, buf, (size_t)n);
}

static void serve_one(int fd)
{
	struct request request;
	uint64_t sum;

	read_all(fd, &request, sizeof(request));
	if (!request.size || request.size > sizeof(buf)) {
		errno = EINVAL;
		fail("request");
	}
	if (request.op == 'g') {
		pour(fd, request.size, request.run_ns);
		drain(fd);
	} else if (request.op == 'p') {
		sum = drain(fd);
		write_all(fd, &sum, sizeof(sum));
	} else {
		echo(fd, request.size);
	}
}

__attribute__((noreturn)) static void serve(int listener)
{
	signal(SIGCHLD, SIG_IGN);
	puts("listening");
	fflush(stdout);
	for (;;) {
		int fd = vsock_accept(listener, NULL);

		if (fd < 0) {
			errno = -fd;
			fail("accept");
		}
		if (fork() == 0) {
			close(listener);
			serve_one(fd);
			_exit(0);
		}
		close(fd);
	}
}

/* Bytes per second. */
static double rate(int fd, const struct request *request)
{
	uint64_t begin = now_ns(), sum;

	if (request->op == 'g') {
		sum = drain(fd);
	} else {
		pour(fd, request->size, request->run_ns);
		read_all(fd, &sum, sizeof(sum));
	}
	return (double)sum * 1e9 / (double)(now_ns() - begin);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void ping(int fd, const struct request *request)
{
	uint64_t until = now_ns() + request->run_ns, begin;
	uint32_t p50, p99;
	size_t n = 0;

	do {
		begin = now_ns();
		write_all(fd, buf, request->size);
		read_all(fd, buf, request->size);
		laps[n++] = (uint32_t)(now_ns() - begin);
	} while (n < PINGS_MAX && now_ns() < until);
	qsort(laps, n, sizeof(laps[0]), by_value);
	p50 = laps[n / 2];
	p99 = laps[n * 99 / 100];
	printf("{\"count\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", n, p50 / 1e3, p99 / 1e3);
}

static int open_address(const char *text, int listening)
{
	struct vsock_addr addr;
	char why[VSOCK_TEXT_MAX];
	int fd;

	if (vsock_parse(text, NULL, listening ? VSOCK_PARSE_LISTEN : 0, &addr, why, sizeof(why))) {
		fprintf(stderr, "bench-flow: %s: %s\n", text, why);
		exit(2);
	}
	fd = listening ? vsock_listen(&addr, NULL) : vsock_dial(&addr, NULL);
	if (fd < 0) {
		vsock_explain(listening ? VSOCK_OP_LISTEN : VSOCK_OP_DIAL, &addr, NULL, fd, why, sizeof(why));
		fprintf(stderr, "bench-flow: %s: %s\n", text, why);
		exit(1);
	}
	return fd;
}

int main(int argc, char **argv)
{
	struct request request;
	int fd;

	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(open_address(argv[2], 1));
	if (argc != 5 || (strcmp(argv[1], "put") != 0 && strcmp(argv[1], "get") != 0 && strcmp(argv[1], "ping") != 0)) {
		fputs("usage: bench-flow serve ADDRESS | put|get|ping ADDRESS SIZE MS\n", stderr);
		return 2;
	}
	request.op = strcmp(argv[1], "ping") == 0 ? 'G' : (uint32_t)argv[1][0];
	request.size = (uint32_t)strtoul(argv[3], NULL, 10);
	request.run_ns = strtoull(argv[4], NULL, 10) * 1000000;
	if (!request.size || request.size > sizeof(buf)) {
		fprintf(stderr, "bench-flow: SIZE is from 1 to %zu\n", sizeof(buf));
		return 2;
	}
	fd = open_address(argv[2], 0);
	write_all(fd, &request, sizeof(request));
	if (request.op == 'G')
		ping(fd, &request);
	else
		printf("{\"bytes_per_second\": %.0f}\n", rate(fd, &request));
	return 0;
}
