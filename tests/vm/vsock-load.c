// SPDX-License-Identifier: BSD-2-Clause
/*
 * vsock-load.c - a guest's programs that are busy with AF_VSOCK, or wait in it, when something happens to it
 *
 *   vsock-load run OUT FIRST    one thread for each worker in the table below, with host ports from FIRST on
 *   vsock-load serve OUT PORT   accept for ever; a connection's first byte says whether to read ('r') or to write
 *
 * OUT gets a line "ready" when every worker is where it should be, a line "NAME ERRNO MS" for each when it ends ("eof"
 * if nothing was wrong; the time is the uptime), and then "done". SIGUSR1 interrupts every call. Sockets stay open
 * until the process ends, or until SIGUSR2, which closes them; OUT tells how long that took: "closed MS".
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

enum {
	CHUNK = 65536,
	PATIENCE_S = 60,
	TICK_NS = 10000000,
};

/* The services of the host, by distance from the first port. */
enum { SINK, SOURCE, MUTE, FULL, ECHO };

struct worker {
	const char *name;
	unsigned int service;
	int (*work)(struct worker *w);
	int fd;
	int err;
	int64_t ended;
	atomic_bool ready;
	atomic_bool over;
	pthread_t thread;
};

static unsigned int first_port;
static FILE *out;
static pthread_mutex_t out_mutex = PTHREAD_MUTEX_INITIALIZER;

static int64_t uptime_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void report(const char *name, int err, int64_t at)
{
	const char *text = err ? strerrorname_np(err) : "eof";

	pthread_mutex_lock(&out_mutex);
	fprintf(out, "%s %s %lld\n", name, text ? text : "E?", (long long)at);
	fflush(out);
	pthread_mutex_unlock(&out_mutex);
}

/* ---- workers; each returns the errno that ended it, or 0 ---- */

static int dial(struct worker *w)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK,
				  .svm_cid = VMADDR_CID_HOST,
				  .svm_port = first_port + w->service };
	struct timeval patience = { .tv_sec = PATIENCE_S };

	w->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (w->fd < 0)
		return errno;
	setsockopt(w->fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	return connect(w->fd, (struct sockaddr *)&sa, sizeof(sa)) ? errno : 0;
}

static int send_for_ever(int fd, atomic_bool *ready)
{
	static const char chunk[CHUNK];

	while (send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL) > 0) {
		if (ready)
			*ready = true;
	}
	return errno;
}

static int recv_for_ever(int fd, atomic_bool *ready)
{
	char *chunk = malloc(CHUNK);
	ssize_t n;

	while ((n = recv(fd, chunk, CHUNK, 0)) > 0) {
		if (ready)
			*ready = true;
	}
	free(chunk);
	return n ? errno : 0;
}

static int do_write(struct worker *w)
{
	int err = dial(w);

	return err ? err : send_for_ever(w->fd, &w->ready);
}

static int do_read(struct worker *w)
{
	int err = dial(w);

	return err ? err : recv_for_ever(w->fd, &w->ready);
}

static int do_blocked_write(struct worker *w)
{
	static const char chunk[CHUNK];
	int err = dial(w);

	if (err)
		return err;
	while (send(w->fd, chunk, sizeof(chunk), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		;
	w->ready = true;
	return send_for_ever(w->fd, NULL);
}

static int do_blocked_read(struct worker *w)
{
	int err = dial(w);

	if (err)
		return err;
	w->ready = true;
	return recv_for_ever(w->fd, NULL);
}

/* Waits in poll(), and asks the socket what it was. */
static int do_poll(struct worker *w)
{
	int err = dial(w);
	struct pollfd p = { .fd = w->fd, .events = POLLIN };
	socklen_t len = sizeof(err);

	if (err)
		return err;
	w->ready = true;
	if (poll(&p, 1, -1) < 0)
		return errno;
	getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err;
}

static int do_connect(struct worker *w)
{
	w->ready = true;
	return dial(w);
}

/* Connections one after the other, each used for one byte. */
static int do_churn(struct worker *w)
{
	char byte = 'x';
	int err;

	for (;;) {
		err = dial(w);
		if (err)
			return err;
		if (send(w->fd, &byte, 1, MSG_NOSIGNAL) < 0)
			return errno;
		switch (recv(w->fd, &byte, 1, 0)) {
		case -1:
			return errno;
		case 0:
			return 0;
		default:
			close(w->fd);
			w->ready = true;
		}
	}
}

static struct worker workers[] = {
	{ .name = "write", .service = SINK, .work = do_write },
	{ .name = "write", .service = SINK, .work = do_write },
	{ .name = "read", .service = SOURCE, .work = do_read },
	{ .name = "read", .service = SOURCE, .work = do_read },
	{ .name = "blocked-write", .service = MUTE, .work = do_blocked_write },
	{ .name = "blocked-write", .service = MUTE, .work = do_blocked_write },
	{ .name = "blocked-read", .service = MUTE, .work = do_blocked_read },
	{ .name = "blocked-read", .service = MUTE, .work = do_blocked_read },
	{ .name = "poll", .service = MUTE, .work = do_poll },
	{ .name = "connect", .service = FULL, .work = do_connect },
	{ .name = "connect", .service = FULL, .work = do_connect },
	{ .name = "churn", .service = ECHO, .work = do_churn },
};
enum { WORKERS = sizeof(workers) / sizeof(workers[0]) };

static void *work(void *arg)
{
	struct worker *w = arg;

	w->err = w->work(w);
	w->ended = uptime_ms();
	report(w->name, w->err, w->ended);
	w->over = true;
	return NULL;
}

static bool all(bool ready)
{
	for (int i = 0; i < WORKERS; i++) {
		if (!workers[i].over && !(ready && workers[i].ready))
			return false;
	}
	return true;
}

static void say_once(bool *said, const char *what)
{
	if (*said)
		return;
	*said = true;
	pthread_mutex_lock(&out_mutex);
	fprintf(out, "%s\n", what);
	fflush(out);
	pthread_mutex_unlock(&out_mutex);
}

static void close_all(void)
{
	int64_t began = uptime_ms();

	for (int i = 0; i < WORKERS; i++)
		close(workers[i].fd);
	fprintf(out, "closed %lld\n", (long long)(uptime_ms() - began));
	fflush(out);
}

static _Noreturn void run(void)
{
	struct timespec tick = { .tv_nsec = TICK_NS };
	bool said_ready = false, said_done = false, interrupting = false;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < WORKERS; i++)
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	for (;;) {
		int sig = sigtimedwait(&set, NULL, &tick);

		/* Again and again: an interrupted send() that has sent something is a success. */
		interrupting |= sig == SIGUSR1;
		for (int i = 0; interrupting && i < WORKERS; i++) {
			if (!workers[i].over)
				pthread_kill(workers[i].thread, SIGINT);
		}
		if (sig == SIGUSR2)
			close_all();
		if (all(true))
			say_once(&said_ready, "ready");
		if (all(false)) {
			say_once(&said_done, "done");
			tick.tv_sec = PATIENCE_S;
		}
	}
}

static void *child(void *arg)
{
	int fd = (int)(intptr_t)arg;
	int err = 0;
	char what;

	switch (recv(fd, &what, 1, 0)) {
	case -1:
		err = errno;
		break;
	case 0:
		break;
	default:
		err = what == 'r' ? recv_for_ever(fd, NULL) : send_for_ever(fd, NULL);
	}
	report("accepted", err, uptime_ms());
	close(fd);
	return NULL;
}

static int serve(void)
{
	struct sockaddr_vm sa = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = first_port };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t thread;

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, WORKERS)) {
		report("listen", errno, uptime_ms());
		return 1;
	}
	for (;;) {
		int conn = accept(fd, NULL, NULL);

		if (conn < 0) {
			report("accept", errno, uptime_ms());
			return 1;
		}
		pthread_create(&thread, NULL, child, (void *)(intptr_t)conn);
		pthread_detach(thread);
	}
}

static void on_signal(int sig)
{
	(void)sig;
}

int main(int argc, char **argv)
{
	struct sigaction interrupt = { .sa_handler = on_signal };

	if (argc != 4) {
		fprintf(stderr, "usage: vsock-load run|serve OUT PORT\n");
		return 2;
	}
	out = fopen(argv[2], "we");
	if (!out) {
		perror(argv[2]);
		return 1;
	}
	first_port = (unsigned int)strtoul(argv[3], NULL, 0);
	sigaction(SIGINT, &interrupt, NULL);
	if (strcmp(argv[1], "serve") == 0)
		return serve();
	run();
}
