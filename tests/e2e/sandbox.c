// SPDX-License-Identifier: BSD-2-Clause
/* What a daemon in a sandbox may not do, and that it serves all the same. Others run in it as well: meson.build. */
#include "fixture.h"
#include "tests.h"

#include "daemon/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

static void *nothing(void *arg)
{
	return arg;
}

static bool denied(long result)
{
	return result < 0 && errno == EPERM;
}

/* In a process of its own. Exits with the number of the first line that is wrong, or 0. */
static void try_everything(void)
{
	const int protection = PROT_READ | PROT_WRITE;
	char name[] = "true", *const argv[] = { name, NULL };
	void *page = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;

#define EXPECT(condition)                       \
	do {                                    \
		if (!(condition))               \
			_exit(__LINE__ & 0xff); \
	} while (0)
	EXPECT(page != MAP_FAILED && !vsd_sandbox(false));
	EXPECT(denied(execv("/bin/true", argv)));
	EXPECT(denied(fork()));
	EXPECT(denied(socket(AF_INET, SOCK_STREAM, 0)) && denied(socket(AF_NETLINK, SOCK_RAW, 0)));
	EXPECT(denied(kill(getppid(), 0)) && denied(ptrace(PTRACE_TRACEME, 0, NULL, NULL)));
	EXPECT(denied(mprotect(page, 4096, PROT_READ | PROT_EXEC)));
	EXPECT(mmap(NULL, 4096, protection | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	EXPECT(errno == EPERM && denied(chdir("/")) && denied(setuid(getuid())) && denied(pipe((int[2]){ 0 })));
	/* What it lives on. */
	EXPECT(socket(AF_UNIX, SOCK_STREAM, 0) >= 0 && open("/dev/null", O_RDONLY) >= 0 && !kill(getpid(), 0));
	EXPECT(!pthread_create(&thread, NULL, nothing, NULL) && !pthread_join(thread, NULL));
	EXPECT(mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
#undef EXPECT
	_exit(0);
}

static void denials(void)
{
	int status;
	pid_t pid;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	printf("# sanitizers need more of the kernel: not run\n");
	return;
#endif
	pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		try_everything();
	CHECK(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "# status %#x, line %d\n", status, WEXITSTATUS(status));
		exit(1);
	}
}

/* Every thread is in it, and guests are served, also where memory is taken away and descriptors run out. */
static void serves(void)
{
	static const char *const args[] = { "--sandbox", "on", NULL };
	static struct fix f;
	int l, fd;
	char c;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return;
#endif
	fix_daemon(&f, args);
	fix_guest(&f, 64, 3776);
	CHECK(fix_threads(&f, "Seccomp:") == 2 * fix_status(&f, "Threads:"));
	CHECK(fix_threads(&f, "NoNewPrivs:") == fix_status(&f, "Threads:"));
	l = fix_listener(&f, 1000);
	fd = fix_open(&f, l, 1000, 50);
	fix_write(fd, "x", 1);
	CHECK(fix_expect(&f, VSP_OP_RW).len == 1);
	CHECK(!ftruncate(f.peer.f.memfd, 0));
	fix_write(fd, "x", 1);
	CHECK(recv(f.peer.f.chan.fd, &c, 1, 0) == 0);
	peer_close(&f.peer);
	fix_guest(&f, 64, 3776);
	fix_open(&f, l, 1000, 51);
	fix_end(&f);
}

static void need_namespaces(void)
{
	if (fix_namespaces())
		return;
	printf("# there are no user namespaces for us\n");
	exit(TEST_SKIPPED);
}

/* The names in the directory @path of the daemon, sorted, each behind a blank. */
static const char *seen(const struct fix *f, const char *path)
{
	static char text[1024];
	struct dirent **names;
	char at[400];
	size_t len = 0;
	int n;

	snprintf(at, sizeof(at), "/proc/%d/root%s", f->pid, path);
	n = scandir(at, &names, NULL, alphasort);
	CHECK(n >= 0);
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.' && len < sizeof(text))
			len += (size_t)snprintf(text + len, sizeof(text) - len, " %s", names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return text;
}

/* Is the daemon in a namespace of this kind other than ours? */
static bool elsewhere(const struct fix *f, const char *kind)
{
	char path[64], ours[64] = "", theirs[64] = "";

	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	CHECK(readlink(path, ours, sizeof(ours) - 1) > 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", f->pid, kind);
	CHECK(readlink(path, theirs, sizeof(theirs) - 1) > 0);
	return strcmp(ours, theirs) != 0;
}

/* Descriptors of the daemon that are directories. */
static u32 open_directories(const struct fix *f)
{
	char path[64];
	struct stat st;
	u32 n = 0;

	for (u32 fd = 0; fd < 256; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", f->pid, fd);
		n += !stat(path, &st) && S_ISDIR(st.st_mode);
	}
	return n;
}

static bool writable(const struct fix *f, const char *path)
{
	struct statvfs vfs;
	char at[400];

	snprintf(at, sizeof(at), "/proc/%d/root%s", f->pid, path);
	CHECK(!statvfs(at, &vfs));
	return !(vfs.f_flag & ST_RDONLY);
}

/* There is the guest's directory and next to nothing else, and that is enough. */
static void strict(void)
{
	static const char *const args[] = { "--sandbox", "strict", NULL };
	static struct fix f;
	char inside[sizeof(f.dir) + 1];
	int l, fd, outside = open("/", O_RDONLY | O_DIRECTORY);

	need_namespaces();
	CHECK(outside >= 0);
	fix_daemon(&f, args);
	snprintf(inside, sizeof(inside), " %.*s", (int)sizeof(f.dir) - 1, strrchr(f.dir, '/') + 1);
	CHECK(!strcmp(seen(&f, "/"), " dev etc tmp") && !strcmp(seen(&f, "/tmp"), inside));
	CHECK(!strcmp(seen(&f, "/dev"), " null") && !strcmp(seen(&f, "/etc"), " group passwd"));
	CHECK(writable(&f, f.dir) && !writable(&f, "/") && !writable(&f, "/etc/passwd"));
	CHECK(elsewhere(&f, "user") && elsewhere(&f, "mnt") && elsewhere(&f, "net"));
	CHECK(fix_threads(&f, "CapEff:") == 0 && fix_threads(&f, "CapPrm:") == 0);
	CHECK(fix_threads(&f, "Seccomp:") == 2 * fix_status(&f, "Threads:"));
	/* The directory that was handed in is not there any more. */
	CHECK(open_directories(&f) == 0);
	fix_guest(&f, 64, 3776);
	l = fix_listener(&f, 1000);
	fd = fix_open(&f, l, 1000, 50);
	fix_write(fd, "x", 1);
	CHECK(fix_expect(&f, VSP_OP_RW).len == 1);
	fd = fix_dial(&f, 9);
	fix_send(&f, fix_hdr(fix_expect(&f, VSP_OP_REQUEST).src.port, 9, VSP_OP_RESPONSE));
	CHECK(fix_ok(fd));
	close(outside);
	fix_end(&f);
}

/* What would not be as it says is refused, at start and later. */
static void strict_refusals(void)
{
	static const char *const users[] = { "--sandbox", "strict", "--uds-users", "4711", NULL };
	static const char *const owner[] = { "--sandbox", "strict", "--uds-owner", "4711", NULL };
	static const char *const nowhere[] = { "--sandbox", "strict", "--control", "/nowhere/c", NULL };
	static const char *const everything[] = { "--sandbox", "strict", "--control", "/c", NULL };
	static const char *const abstract[] = { "--sandbox", "strict", "--map-to-guest", "9:@vsd-e2e-strict", NULL };
	static const char *const keys[] = { "groups: a", "groups: b" };
	static const char *const more[] = { "groups: a", "groups: b, map_to_guest: 9:@vsd-e2e-strict" };
	static struct fix f[2];

	need_namespaces();
	fix_refused(users, "--sandbox strict: uds-users can be");
	fix_refused(owner, "--sandbox strict: sockets belong");
	fix_refused(nowhere, "--sandbox strict: /nowhere: No such file");
	fix_refused(everything, "--sandbox strict: /c: give it a directory of its own");
	/* A name in the machine's network is one, as before. */
	fix_daemon(&f[0], abstract);
	CHECK(!elsewhere(&f[0], "net") && elsewhere(&f[0], "mnt"));
	fix_end(&f[0]);
	/* A file is read again; it cannot ask for what is out of reach. */
	setenv("VSOCKD_OPTIONS", "--sandbox=strict", 1);
	fix_fleet_file(f, 2, keys);
	fix_write_file(f, 2, more);
	CHECK(!kill(f[0].pid, SIGHUP));
	fix_await_said(&f[0], ":3: sandbox: strict: abstract names and forward-cid are not to be had", 1);
	fix_write_file(f, 1, keys);
	CHECK(!kill(f[0].pid, SIGHUP));
	fix_await_said(&f[0], "was read again: 1 guest", 1);
	CHECK(access(f[1].socket, F_OK));
	fix_fleet_end(f, 1);
}

const struct test sandbox_tests[] = {
	{ "sandbox: what it denies", denials },
	{ "sandbox: what it serves", serves },
	{ "sandbox: a strict one", strict },
	{ "sandbox: what a strict one cannot have", strict_refusals },
	{ 0 },
};
