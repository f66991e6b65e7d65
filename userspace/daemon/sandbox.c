// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/sandbox.h"

#include "kernel/proto/env.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define ARCH AUDIT_ARCH_S390X
#endif

#ifdef ARCH

/* Allowed, whatever the arguments. */
static const int free_calls[] = {
	/* bytes, and waiting for them */
	__NR_read,
	__NR_write,
	__NR_readv,
	__NR_writev,
	__NR_recvmsg,
	__NR_recvfrom,
	__NR_sendmsg,
	__NR_sendto,
	__NR_epoll_ctl,
	__NR_epoll_pwait,
	__NR_ppoll,
	__NR_futex,
	__NR_clock_gettime,
	__NR_clock_nanosleep,
	__NR_timer_create,
	__NR_timer_settime,
	__NR_timer_delete,
	__NR_getrandom,
	__NR_restart_syscall,
#ifdef __NR_epoll_wait
	__NR_epoll_wait,
	__NR_poll,
#endif
	/* descriptors */
	__NR_close,
	__NR_fstat,
	__NR_newfstatat,
	__NR_statx,
	__NR_lseek,
	__NR_fcntl,
	__NR_ioctl,
	__NR_eventfd2,
	__NR_epoll_create1,
	__NR_signalfd4,
	/* sockets, but for making them */
	__NR_bind,
	__NR_connect,
	__NR_listen,
	__NR_accept4,
	__NR_getsockopt,
	__NR_setsockopt,
	__NR_getsockname,
	__NR_getpeername,
	__NR_shutdown,
	/* files: the configuration, names of sockets, users */
	__NR_openat,
	__NR_faccessat,
	__NR_unlinkat,
	__NR_fchmod,
	__NR_fchmodat,
	__NR_fchownat,
#ifdef __NR_open
	__NR_open,
	__NR_access,
	__NR_unlink,
	__NR_chmod,
	__NR_lchown,
	__NR_stat,
	__NR_lstat,
#endif
#ifdef __NR_faccessat2
	__NR_faccessat2,
#endif
#ifdef __NR_fchmodat2
	__NR_fchmodat2,
#endif
	/* memory, but for code */
	__NR_munmap,
	__NR_mremap,
	__NR_brk,
	__NR_madvise,
	/* signals, threads and the end */
	__NR_rt_sigaction,
	__NR_rt_sigprocmask,
	__NR_rt_sigreturn,
	__NR_sigaltstack,
	__NR_set_robust_list,
	__NR_sched_getaffinity,
	__NR_sched_yield,
	__NR_exit,
	__NR_exit_group,
	__NR_getpid,
	__NR_gettid,
	__NR_prlimit64,
#ifdef __NR_rseq
	__NR_rseq,
#endif
#ifdef __NR_getrlimit
	__NR_getrlimit,
	__NR_setrlimit,
#endif
};

/* Memory that can be shared. */
static const int memory_calls[] = {
	__NR_memfd_create,
	__NR_ftruncate,
};

/* Allowed if the lower half of an argument, of the bits in @mask, is one of two values. */
struct judged {
	int call;
	u32 arg;
	u32 mask;
	u32 value[2];
};

enum {
	JUDGED_MAX = 8,
	PROGRAM_MAX = 4 + 2 * (ARRAY_SIZE(free_calls) + ARRAY_SIZE(memory_calls)) + 8 * JUDGED_MAX + 3,
	CLONE_ARG = /* where the flags are */
#ifdef __s390x__
	1,
#else
	0,
#endif
	LOW_HALF = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 4,
};

struct program {
	struct sock_filter code[PROGRAM_MAX];
	u16 len;
};

static void put(struct program *p, u16 op, u32 k, u8 if_true, u8 if_false)
{
	assert(p->len < PROGRAM_MAX);
	p->code[p->len++] = (struct sock_filter){ .code = op, .k = k, .jt = if_true, .jf = if_false };
}

static void load(struct program *p, size_t offset)
{
	put(p, BPF_LD | BPF_W | BPF_ABS, (u32)offset, 0, 0);
}

static void answer(struct program *p, u32 what)
{
	put(p, BPF_RET | BPF_K, what, 0, 0);
}

/* If it is @call, go on; otherwise jump over @skip instructions. */
static void if_equal(struct program *p, u32 value, u8 skip)
{
	put(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip);
}

static void judge(struct program *p, const struct judged *j)
{
	if_equal(p, (u32)j->call, 6);
	load(p, offsetof(struct seccomp_data, args) + j->arg * sizeof(u64) + LOW_HALF);
	put(p, BPF_ALU | BPF_AND | BPF_K, j->mask, 0, 0);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, j->value[0], 1, 0);
	put(p, BPF_JMP | BPF_JEQ | BPF_K, j->value[1], 0, 1);
	answer(p, SECCOMP_RET_ALLOW);
	answer(p, SECCOMP_RET_ERRNO | EPERM);
}

static void allow(struct program *p, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if_equal(p, (u32)calls[i], 1);
		answer(p, SECCOMP_RET_ALLOW);
	}
}

static void write_program(struct program *p, bool makes_memory)
{
	const u32 me = (u32)getpid();
	const struct judged judged[] = {
		{ __NR_socket, 0, UINT32_MAX, { AF_UNIX, AF_VSOCK } },
		{ __NR_mmap, 2, PROT_EXEC, { 0, 0 } },
		{ __NR_mprotect, 2, PROT_EXEC, { 0, 0 } },
		{ __NR_clone, CLONE_ARG, CLONE_THREAD, { CLONE_THREAD, CLONE_THREAD } },
		{ __NR_kill, 0, UINT32_MAX, { me, me } },
		{ __NR_tgkill, 0, UINT32_MAX, { me, me } },
	};

	static_assert(ARRAY_SIZE(judged) <= JUDGED_MAX, "the program has room for them");
	load(p, offsetof(struct seccomp_data, arch));
	put(p, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	answer(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
	allow(p, free_calls, ARRAY_SIZE(free_calls));
	if (makes_memory)
		allow(p, memory_calls, ARRAY_SIZE(memory_calls));
	for (u32 i = 0; i < ARRAY_SIZE(judged); i++)
		judge(p, &judged[i]);
#ifdef __NR_clone3
	/* Its flags lie in memory, where a filter cannot look; the C library takes clone() then. */
	if_equal(p, __NR_clone3, 1);
	answer(p, SECCOMP_RET_ERRNO | ENOSYS);
#endif
	answer(p, SECCOMP_RET_ERRNO | EPERM);
}

int vsd_sandbox(bool makes_memory)
{
	static struct program p;
	struct sock_fprog filter = { .filter = p.code };

	p.len = 0;
	write_program(&p, makes_memory);
	filter.len = p.len;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		return -errno;
	return 0;
}

#else

int vsd_sandbox(bool makes_memory)
{
	(void)makes_memory;
	return -ENOSYS;
}

#endif
