/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef TESTS_HOST_ABI_H
#define TESTS_HOST_ABI_H

/* Print what each ioctl answers, one line each, in an order of no surprises. The exit status. */
int abi_list(void);

#endif
