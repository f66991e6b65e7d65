/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sandbox.h - what the process may still ask of the kernel once it serves guests
 *
 * A guest that finds a hole in the daemon has the daemon's user's files and sockets, which the daemon needs, and no
 * more: no program is started, no code is mapped, no other process is touched or signalled, no network is reached but
 * Unix sockets and AF_VSOCK. What is not allowed fails with EPERM, so that a system call which some C library makes
 * and nobody thought of costs an operation and not the daemon. root.h takes away most of those files.
 */
#ifndef VSD_SANDBOX_H
#define VSD_SANDBOX_H

#include "kernel/proto/env.h"

/*
 * Of the calling thread, and of those that it begins from now on, for good. Whoever is a guest without a machine, and
 * @makes_memory to share, may do that. 0 or -errno.
 */
int vsd_sandbox(bool makes_memory);

#endif
