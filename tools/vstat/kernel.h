/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.h - the connections of the kernel modules of this machine
 */
#ifndef VSTAT_KERNEL_H
#define VSTAT_KERNEL_H

#include <stdbool.h>
#include <stdio.h>

/* Write lines "connection KEY=VALUE ..." for show_parse(). False: errno, ENOENT where the modules are not loaded. */
bool kernel_connections(FILE *out);

#endif
