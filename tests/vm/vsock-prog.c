// SPDX-License-Identifier: BSD-2-Clause
/*
 * vsock-prog.c - a program in a guest whose AF_VSOCK sockets a test directs from outside
 *
 *   vsock-prog NAME                  begin: a process in the background that holds sockets in numbered slots
 *   vsock-prog NAME COMMAND ARGS...  have it do something; its answer is printed, one line
 *
 * Answers begin with "ok", or with the name of an errno, "timeout", "eof" or "bad" (wrong bytes). Nothing waits longer
 * than its MS. The commands are in the table at the end. Payload is the pattern that hostile-device sends: byte N of
 * each direction of a connection is known.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <linux/sockios.h>
#include <linux/vm_sockets.h>

enum {
	SLOTS = 1024,
	LINE_BYTES = 512,
	WORDS = 16,
	CHUNK = 65536,
};

struct slot {
	int fd;
	uint32_t sent; /* offset in the stream, modulo 2^32 */
	uint32_t received;
};

static struct slot slots[SLOTS];
static char answer[LINE_BYTES];
static uint8_t chunk[CHUNK];

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
	*s = (struct slot){ .fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
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
	struct timeval patience = { .tv_sec = 8 };

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

static bool right_bytes(struct slot *s, ssize_t n)
{
	for (ssize_t i = 0; i < n; i++) {
		if (chunk[i] != pattern(s->received + (uint32_t)i))
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

		if (got > 0 && !right_bytes(s, got)) {
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
	{ "connected", do_connected }, /* SLOT [MS]: how it ended */
	{ "listen", do_listen },       /* SLOT PORT [BACKLOG [CID]] */
	{ "accept", do_accept },       /* SLOT NEW-SLOT [MS]: the peer's port */
	{ "send", do_send },	       /* SLOT BYTES [MS]: bytes sent */
	{ "recv", do_recv },	       /* SLOT BYTES [MS]: bytes received */
	{ "ping", do_ping },	       /* SLOT BYTES COUNT [MS] */
	{ "poll", do_poll },	       /* SLOT: what is ready now */
	{ "error", do_error },	       /* SLOT [MS] */
	{ "shutdown", do_shutdown },   /* SLOT HOW */
	{ "window", do_window },       /* SLOT BYTES */
	{ "close", do_close },	       /* SLOT [LINGER-SECONDS] */
	{ "churn", do_churn },	       /* SLOT CID PORT [COUNT]; uses 16 slots from SLOT on */
	{ "block", do_block },	       /* SLOT: send until interrupted */
	{ "quit", do_quit },	       /* SLOT */
};

static void run(char *line)
{
	char *words[WORDS + 1] = { NULL };
	char *save = NULL;
	int n = 0;

	for (char *word = strtok_r(line, " \n", &save); word && n < WORDS; word = strtok_r(NULL, " \n", &save))
		words[n++] = word;
	snprintf(answer, sizeof(answer), "ok");
	for (size_t i = 0; n && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, words[0]) != 0)
			continue;
		commands[i].run(&slots[number(words, 1, 0) % (SLOTS - 16)], n > 1 ? words + 2 : words + 1);
		return;
	}
	snprintf(answer, sizeof(answer), "unknown command");
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
		ssize_t n = fd < 0 ? -1 : recv(fd, line, sizeof(line) - 1, 0);

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
		puts("died");
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
