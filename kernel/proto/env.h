/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * env.h - the words that the rules are written in
 *
 * The rules speak the kernel's language: u32, s64, __le32, le32_to_cpu(), static_assert(). This is the only file in
 * kernel/proto/ that knows where it is being compiled; in userspace, userspace/env_user.h supplies the same words.
 *
 * The rules never allocate, lock, sleep, log, read a clock or call back; `nm -u` of their static library is empty.
 */
#ifndef VSP_ENV_H
#define VSP_ENV_H

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/kernel.h>
#include <linux/types.h>
#include <asm/byteorder.h>
#else
#include "env_user.h"
#endif

#endif
