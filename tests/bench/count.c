// SPDX-License-Identifier: BSD-2-Clause
/*
 * A plugin of QEMU's emulator: how many instructions the guest's processors have executed
 *
 *	qemu-system-x86_64 -accel tcg -plugin count-1.so,out=FILE
 *
 * FILE is an array of PROCESSORS numbers of 64 bits in this machine's byte order, one for each, which grow meanwhile:
 * who reads it before and after has counted what lay between. Processors that have nothing to do execute nothing.
 *
 * QEMU's header for plugins is in no package of Debian 12; what is declared here is the same in PLUGIN_VERSION 1, which
 * QEMU before 9.0 wants, and in 2, which later ones still take.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_info;

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*run)(unsigned int cpu, void *arg),
					  int flags, void *arg);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv);

EXPORT int qemu_plugin_version = PLUGIN_VERSION;

enum {
	PROCESSORS = 64,
	NO_REGISTERS = 0, /* of the guest's are looked at */
};

static uint64_t *counts;

/* A block of @arg instructions begins. One that faults in the middle counts as whole. */
static void run(unsigned int cpu, void *arg)
{
	counts[cpu % PROCESSORS] += (uintptr_t)arg;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, run, NO_REGISTERS, (void *)qemu_plugin_tb_n_insns(tb));
}

int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
	size_t size = PROCESSORS * sizeof(*counts);
	int fd;

	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
		fprintf(stderr, "count: say out=FILE\n");
		return -1;
	}
	fd = open(argv[0] + 4, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size)) {
		perror(argv[0] + 4);
		return -1;
	}
	counts = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (counts == MAP_FAILED) {
		perror("mmap");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
