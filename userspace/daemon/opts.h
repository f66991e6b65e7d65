/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * opts.h - the command line
 */
#ifndef VSD_OPTS_H
#define VSD_OPTS_H

#include "daemon/config.h"

enum vsd_opts_what {
	VSD_OPTS_RUN,
	VSD_OPTS_DONE, /* what was asked for was printed */
	VSD_OPTS_BAD,  /* what is wrong was printed */
};

/* Read the command line into @c, which is initialised. */
enum vsd_opts_what vsd_opts_parse(struct vsd_config *c, int argc, char **argv);

#endif
