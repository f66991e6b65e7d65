/* SPDX-License-Identifier: BSD-2-Clause */
/* tests.h - what there is to run; each file of tests ends its list with an entry without a name */
#ifndef E2E_TESTS_H
#define E2E_TESTS_H

enum {
	TEST_SKIPPED = 77, /* exit status of a test that has printed why it cannot be run here */
};

struct test {
	const char *name;
	void (*run)(void);
};

extern const struct test handshake_tests[];
extern const struct test life_tests[];
extern const struct test transfer_tests[];
extern const struct test seqpacket_tests[];
extern const struct test hostile_tests[];
extern const struct test resource_tests[];
extern const struct test fleet_tests[];
extern const struct test options_tests[];
extern const struct test siblings_tests[];
extern const struct test control_tests[];
extern const struct test defects_tests[];
extern const struct test faults_tests[];
extern const struct test dgram_tests[];
extern const struct test sockets_tests[];
extern const struct test forward_tests[];
extern const struct test migrate_tests[];
extern const struct test sandbox_tests[];
extern const struct test vguest_tests[];
extern const struct test library_tests[];

#endif
