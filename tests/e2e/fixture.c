// SPDX-License-Identifier: BSD-2-Clause
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	ARGS_MAX = 40 + 2 * FIX_FLEET_MAX,
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

/* Become the daemon: with the guests' options, each in one string, and @args. */
static void in_daemon(const struct fix *f, const char *program, const char *const *guest, const char *const *args)
{
	const char *argv[ARGS_MAX] = { program };
	int log = open(f->log, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
	u32 n = 1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (*guest && n < ARGS_MAX - 1)
		argv[n++] = *guest++;
	while (args && *args && n < ARGS_MAX - 1)
		argv[n++] = *args++;
	/* One more, for every daemon of a run. */
	if (getenv("VSOCKD_OPTIONS") && n < ARGS_MAX - 1)
		argv[n++] = getenv("VSOCKD_OPTIONS");
	dup2(log, STDERR_FILENO);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

bool fix_namespaces(void)
{
	int status;
	pid_t pid;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return false; /* they want files that are out of sight then */
#endif
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) || mount("e2e", "/tmp", "tmpfs", 0, NULL));
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
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

static void name_files(struct fix *f, const char *dir, u32 cid)
{
	memset(f, 0, sizeof(*f));
	f->peer.f.chan.fd = -1;
	f->cid = cid;
	snprintf(f->dir, sizeof(f->dir), "%s", dir);
	snprintf(f->socket, sizeof(f->socket), "%s/vu%u", f->dir, cid);
	snprintf(f->uds, sizeof(f->uds), "%s/host%u", f->dir, cid);
	snprintf(f->log, sizeof(f->log), "%s/log", f->dir);
}

static void make_dir(char dir[64])
{
	snprintf(dir, 64, "/tmp/vsd-e2e.XXXXXX");
	CHECK(mkdtemp(dir));
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

void fix_prepare(struct fix *f)
{
	char dir[64];

	make_dir(dir);
	name_files(f, dir, CID);
}

static void start(struct fix *f, const char *program, const char *const *guest, const char *const *args)
{
	f->pid = fork();
	CHECK(f->pid >= 0);
	if (!f->pid)
		in_daemon(f, program, guest, args);
}

void fix_start(struct fix *f, const char *program, const char *const *args)
{
	const char *const nothing[] = { NULL };

	start(f, program, nothing, args);
}

void fix_spawn(struct fix *f, const char *program, const char *const *args)
{
	const char *guest[] = { "--guest-cid", "7", "--socket", f->socket, "--uds-path", f->uds, NULL };

	fix_prepare(f);
	start(f, program, guest, args);
}

void fix_spawn_at(struct fix *f, const char *const *args)
{
	const char *guest[] = { "--guest-cid", "7", "--uds-path", f->uds, NULL };

	fix_prepare(f);
	start(f, fix_program(), guest, args);
}

void fix_forget(struct fix *f)
{
	remove_dir(f->dir);
}

/* The front-end's socket is bound last. Looking does no harm: an empty session. */
void fix_await(struct fix *f)
{
	u64 until = fix_now_ms() + PEER_WAIT_MS;
	int fd;

	while ((fd = unix_connect(f->socket)) < 0) {
		CHECK(fix_now_ms() < until);
		pause_a_little();
	}
	close(fd);
}

void fix_daemon(struct fix *f, const char *const *args)
{
	fix_spawn(f, fix_program(), args);
	fix_await(f);
}

void fix_fleet(struct fix *f, u32 n, const char *const *keys, const char *const *args)
{
	const char *guest[2 * FIX_FLEET_MAX + 1] = { NULL };
	char vm[FIX_FLEET_MAX][400], dir[64];

	CHECK(n <= FIX_FLEET_MAX);
	make_dir(dir);
	for (u32 i = 0; i < n; i++) {
		const char *more = keys && keys[i] ? keys[i] : "";

		name_files(&f[i], dir, CID + i);
		snprintf(vm[i], sizeof(vm[i]), "guest-cid=%u,socket=%s,uds_path=%s%s%s", f[i].cid, f[i].socket,
			 f[i].uds, *more ? "," : "", more);
		guest[2 * i] = "--vm";
		guest[2 * i + 1] = vm[i];
	}
	f->pid = fork();
	CHECK(f->pid >= 0);
	if (!f->pid)
		in_daemon(f, fix_program(), guest, args);
	for (u32 i = 0; i < n; i++) {
		f[i].pid = f->pid;
		fix_await(&f[i]);
	}
}

void fix_write_file(struct fix *f, u32 n, const char *const *keys)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/config", f->dir);
	file = fopen(path, "w");
	CHECK(file && fputs("vms:\n", file) >= 0);
	for (u32 i = 0; i < n; i++) {
		if (keys[i])
			fprintf(file, "  - {guest_cid: %u, socket: %s, uds_path: %s, %s}\n", f[i].cid, f[i].socket,
				f[i].uds, keys[i]);
	}
	CHECK(!fclose(file));
}

void fix_fleet_file(struct fix *f, u32 n, const char *const *keys)
{
	char dir[64], path[128];
	const char *guest[] = { "--config", path, NULL };

	make_dir(dir);
	snprintf(path, sizeof(path), "%s/config", dir);
	for (u32 i = 0; i < n; i++)
		name_files(&f[i], dir, CID + i);
	fix_write_file(f, n, keys);
	f->pid = fork();
	CHECK(f->pid >= 0);
	if (!f->pid)
		in_daemon(f, fix_program(), guest, NULL);
	for (u32 i = 0; i < n; i++) {
		f[i].pid = f->pid;
		if (keys[i])
			fix_await(&f[i]);
	}
}

void fix_fleet_end(struct fix *f, u32 n)
{
	for (u32 i = 1; i < n; i++) {
		if (f[i].peer.f.chan.fd >= 0)
			peer_close(&f[i].peer);
	}
	fix_end(f);
}

int fix_run(const char *const *args, char *said, size_t room)
{
	int status, out[2];
	size_t have = 0;
	ssize_t n;
	pid_t pid;

	CHECK(!pipe(out));
	pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		const char *argv[ARGS_MAX] = { fix_program() };

		for (u32 i = 1; *args && i < ARGS_MAX - 1; i++)
			argv[i] = *args++;
		dup2(out[1], STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	close(out[1]);
	while (have < room - 1 && (n = read(out[0], said + have, room - 1 - have)) > 0)
		have += (size_t)n;
	said[have] = '\0';
	close(out[0]);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

void fix_guest(struct fix *f, u32 ring, u32 buffer)
{
	CHECK(!peer_open(&f->peer, f->socket, ring, buffer, false, FEATURES));
	CHECK(f->peer.f.guest_cid == f->cid);
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

	while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1) {
		if (line[n++] == '\n')
			break;
	}
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

/* The newest value in the log. */
u64 fix_counter(const struct fix *f, const char *name)
{
	char line[1024], key[64], who[32], *at;
	u64 value = 0;
	FILE *log = fopen(f->log, "r");

	snprintf(key, sizeof(key), " %s=", name);
	snprintf(who, sizeof(who), " guest %u: ", f->cid);
	while (log && fgets(line, sizeof(line), log)) {
		at = strstr(line, who) ? strstr(line, key) : NULL;
		if (at)
			value = strtoull(at + strlen(key), NULL, 10);
	}
	if (log)
		fclose(log);
	return value;
}

u32 fix_said(const struct fix *f, const char *part)
{
	FILE *log = fopen(f->log, "r");
	char line[1024];
	u32 n = 0;

	while (log && fgets(line, sizeof(line), log))
		n += strstr(line, part) != NULL;
	if (log)
		fclose(log);
	return n;
}

void fix_await_said(const struct fix *f, const char *part, u32 lines)
{
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; fix_said(f, part) < lines;)
		CHECK(fix_now_ms() < until);
}

void fix_reject(struct fix *f, const char *name, u64 least)
{
	u64 until = fix_now_ms() + PEER_WAIT_MS;

	while (fix_counter(f, name) < least) {
		if (fix_now_ms() > until) {
			fprintf(stderr, "# reject %s never reached %llu; log %s\n", name, (unsigned long long)least,
				f->log);
			exit(1);
		}
		kill(f->pid, SIGUSR1);
		pause_a_little();
	}
}

void fix_pause(struct fix *f)
{
	int status;

	CHECK(!kill(f->pid, SIGSTOP) && waitpid(f->pid, &status, WUNTRACED) == f->pid && WIFSTOPPED(status));
}

void fix_resume(struct fix *f)
{
	CHECK(!kill(f->pid, SIGCONT));
}

static u64 field_of(const char *path, const char *field)
{
	char line[256];
	u64 value = 0;
	FILE *s = fopen(path, "r");

	while (s && fgets(line, sizeof(line), s)) {
		if (!strncmp(line, field, strlen(field)))
			value = strtoull(line + strlen(field) + 1, NULL, 10);
	}
	if (s)
		fclose(s);
	return value;
}

u64 fix_status(struct fix *f, const char *field)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", f->pid);
	return field_of(path, field);
}

u64 fix_threads(struct fix *f, const char *field)
{
	char path[400];
	struct dirent *e;
	u64 sum = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", f->pid);
	d = opendir(path);
	while (d && (e = readdir(d)) != NULL) {
		/* "..", too, has a status. */
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", f->pid, e->d_name);
		sum += field_of(path, field);
	}
	if (d)
		closedir(d);
	return sum;
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
