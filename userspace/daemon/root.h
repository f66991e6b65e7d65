/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * root.h - a root directory of the daemon's own
 *
 * What sandbox.h does judges system calls; it cannot judge paths and names. So the process may move, for good, to where
 * there are few: the directories that its configuration names and no others, and a network without anything in it,
 * abstract names included, unless a guest needs the machine's. It has no capabilities any more, and knows one user.
 */
#ifndef VSD_ROOT_H
#define VSD_ROOT_H

#include "daemon/config.h"

/* While there is one thread. What cannot be reached any more is in @c->confined. 0, or -errno after a message. */
int vsd_root_enter(struct vsd_config *c);

#endif
