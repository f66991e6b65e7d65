// SPDX-License-Identifier: BSD-2-Clause
/* What a daemon in a sandbox may not do, and that it serves all the same. Others run in it as well: meson.build. */
#include "fixture.h"
#include "tests.h"

#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
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
	EXPECT(page != MAP_FAILED && !vsd_sandbox());
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

const struct test sandbox_tests[] = {
	{ "sandbox: what it denies", denials },
	{ "sandbox: what it serves", serves },
	{ 0 },
};
