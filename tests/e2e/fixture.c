// SPDX-License-Identifier: BSD-2-Clause
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	ARGS_MAX = 24,
};

u64 fix_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000 + (u64)ts.tv_nsec / 1000000;
}

static void pause_a_little(void)
{
	const struct timespec ts = { .tv_nsec = 1000000 };

	nanosleep(&ts, NULL); /* poll interval */
}

const char *fix_program(void)
{
	const char *path = getenv("VSOCKD");

	CHECK(path);
	return path;
}

static void in_daemon(struct fix *f, const char *program, const char *const *args)
{
	const char *argv[ARGS_MAX] = { program, "--guest-cid", "7", "--socket", f->socket, "--uds-path", f->uds };
	int log = open(f->log, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
	u32 n = 7;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (args && *args && n < ARGS_MAX - 1)
		argv[n++] = *args++;
	dup2(log, STDERR_FILENO);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

static int unix_connect(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = { .tv_sec = 15 };

	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return fd;
	close(fd);
	return -1;
}

void fix_spawn(struct fix *f, const char *program, const char *const *args)
{
	memset(f, 0, sizeof(*f));
	f->peer.f.chan.fd = -1;
	strcpy(f->dir, "/tmp/vsd-e2e.XXXXXX");
	CHECK(mkdtemp(f->dir));
	snprintf(f->socket, sizeof(f->socket), "%s/vu", f->dir);
	snprintf(f->uds, sizeof(f->uds), "%s/host", f->dir);
	snprintf(f->log, sizeof(f->log), "%s/log", f->dir);
	f->pid = fork();
	CHECK(f->pid >= 0);
	if (!f->pid)
		in_daemon(f, program, args);
}

void fix_daemon(struct fix *f, const char *const *args)
{
	u64 until = fix_now_ms() + PEER_WAIT_MS;
	int fd;

	fix_spawn(f, fix_program(), args);
	/* The front-end's socket is bound last. Looking does no harm: an empty session. */
	while ((fd = unix_connect(f->socket)) < 0) {
		CHECK(fix_now_ms() < until);
		pause_a_little();
	}
	close(fd);
}

void fix_guest(struct fix *f, u32 ring, u32 buffer)
{
	CHECK(!peer_open(&f->peer, f->socket, ring, buffer, false, FEATURES));
	CHECK(f->peer.f.guest_cid == CID);
}

static void remove_dir(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	char path[400];

	while (d && (e = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		unlink(path);
	}
	if (d)
		closedir(d);
	rmdir(dir);
}

void fix_end(struct fix *f)
{
	int status;

	if (f->peer.f.chan.fd >= 0)
		peer_close(&f->peer);
	kill(f->pid, SIGTERM);
	CHECK(waitpid(f->pid, &status, 0) == f->pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "# vsockd ended with status %#x; log %s\n", status, f->log);
		exit(1);
	}
	CHECK(access(f->socket, F_OK) && access(f->uds, F_OK));
	remove_dir(f->dir);
}

void fix_abandon(struct fix *f)
{
	if (f->peer.f.chan.fd >= 0)
		peer_close(&f->peer);
	kill(f->pid, SIGKILL);
	CHECK(waitpid(f->pid, NULL, 0) == f->pid);
	remove_dir(f->dir);
}

void fix_refused(const char *const *args, const char *names)
{
	char text[512] = "";
	struct fix f;
	int status;
	FILE *log;

	fix_spawn(&f, fix_program(), args);
	CHECK(waitpid(f.pid, &status, 0) == f.pid && WIFEXITED(status) && WEXITSTATUS(status) != 0);
	log = fopen(f.log, "r");
	CHECK(log && fread(text, 1, sizeof(text) - 1, log) > 0 && strstr(text, names));
	fclose(log);
	remove_dir(f.dir);
}

int fix_client(struct fix *f)
{
	int fd = unix_connect(f->uds);

	CHECK(fd >= 0);
	return fd;
}

int fix_listener(struct fix *f, u32 port)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_%u", f->uds, port);
	CHECK(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	CHECK(!listen(fd, 4096));
	return fd;
}

int fix_dial(struct fix *f, u32 port)
{
	char line[32];
	int fd = fix_client(f);

	snprintf(line, sizeof(line), "CONNECT %u\n", port);
	fix_write(fd, line, strlen(line));
	return fd;
}

u32 fix_ok(int fd)
{
	char line[32] = "";
	u32 n = 0;

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 && line[n++] != '\n')
		;
	return strncmp(line, "OK ", 3) == 0 ? (u32)strtoul(line + 3, NULL, 10) : 0;
}

struct vsp_hdr fix_expect(struct fix *f, enum vsp_op op)
{
	struct vsp_hdr hdr;

	do {
		if (!peer_recv(&f->peer, &hdr, f->buf, PEER_WAIT_MS)) {
			fprintf(stderr, "# waited for op %d\n", op);
			exit(1);
		}
	} while (hdr.op != op && (hdr.op == VSP_OP_CREDIT_UPDATE || hdr.op == VSP_OP_CREDIT_REQUEST));
	if (hdr.op != op) {
		fprintf(stderr, "# op %u instead of %d\n", hdr.op, op);
		exit(1);
	}
	return hdr;
}

struct vsp_hdr fix_hdr(u32 host_port, u32 guest_port, enum vsp_op op)
{
	return (struct vsp_hdr){
		.src = { .cid = CID, .port = guest_port },
		.dst = { .cid = VSP_CID_HOST, .port = host_port },
		.type = VSP_TYPE_STREAM,
		.op = (u16)op,
		.buf_alloc = 256 << 10,
	};
}

void fix_send(struct fix *f, struct vsp_hdr hdr)
{
	CHECK(peer_send(&f->peer, hdr, f->buf, hdr.len, PEER_ONE));
}

int fix_open(struct fix *f, int listener, u32 port, u32 guest_port)
{
	int fd;

	fix_send(f, fix_hdr(port, guest_port, VSP_OP_REQUEST));
	fd = accept(listener, NULL, NULL);
	CHECK(fd >= 0);
	CHECK(fix_expect(f, VSP_OP_RESPONSE).dst.port == guest_port);
	return fd;
}

/* The newest value of a counter in the log, or 0. */
static u64 counter(struct fix *f, const char *name)
{
	char line[1024], key[64], *at;
	u64 value = 0;
	FILE *log = fopen(f->log, "r");

	snprintf(key, sizeof(key), " %s=", name);
	while (log && fgets(line, sizeof(line), log)) {
		at = strstr(line, key);
		if (at)
			value = strtoull(at + strlen(key), NULL, 10);
	}
	if (log)
		fclose(log);
	return value;
}

void fix_reject(struct fix *f, const char *name, u64 least)
{
	u64 until = fix_now_ms() + PEER_WAIT_MS;

	while (counter(f, name) < least) {
		if (fix_now_ms() > until) {
			fprintf(stderr, "# reject %s never reached %llu; log %s\n", name, (unsigned long long)least,
				f->log);
			exit(1);
		}
		kill(f->pid, SIGUSR1);
		pause_a_little();
	}
}

u64 fix_status(struct fix *f, const char *field)
{
	char path[64], line[256];
	u64 value = 0;
	FILE *s;

	snprintf(path, sizeof(path), "/proc/%d/status", f->pid);
	s = fopen(path, "r");
	while (s && fgets(line, sizeof(line), s)) {
		if (!strncmp(line, field, strlen(field)))
			value = strtoull(line + strlen(field) + 1, NULL, 10);
	}
	if (s)
		fclose(s);
	return value;
}

u32 fix_fds(struct fix *f)
{
	char path[64];
	u32 n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", f->pid);
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

size_t fix_read(int fd, void *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = read(fd, (u8 *)buf + have, len - have);

		if (n <= 0)
			break;
		have += (size_t)n;
	}
	return have;
}

void fix_write(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = send(fd, (const u8 *)buf + done, len - done, MSG_NOSIGNAL);

		CHECK(n > 0);
		done += (size_t)n;
	}
}
