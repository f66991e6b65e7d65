/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * files.h - the limit of open files
 */
#ifndef VSD_FILES_H
#define VSD_FILES_H

#include "daemon/config.h"

/*
 * A connection is a descriptor: raise the limit, and promise no more than it allows. Guests share evenly, so that none
 * can use up what another was promised.
 */
void vsd_files_share(struct vsd_config *c);

/*
 * One more guest, the last of them: what the others were promised is theirs. False: nothing is left.
 */
bool vsd_files_fit(const struct vsd_config *c, struct vsd_blame *b);

#endif
