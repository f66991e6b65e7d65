/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - one line per event on standard error: "level component: text", or a JSON object with a time
 *
 * Any thread may log; none waits for whoever reads that.
 */
#ifndef VSD_LOG_H
#define VSD_LOG_H

#include "kernel/proto/env.h"

enum vsd_level {
	VSD_REPORT, /* somebody asked for it */
	VSD_ERROR,
	VSD_WARN,
	VSD_INFO,
	VSD_DEBUG,
	VSD_TRACE,
	NUM_VSD_LEVELS,
};

enum vsd_log_format {
	VSD_LOG_TEXT,
	VSD_LOG_JSON,
	NUM_VSD_LOG_FORMATS,
};

enum {
	/* Lines that a peer can provoke: so many in a period, the others are counted. */
	VSD_RATE_LINES = 10,
	VSD_RATE_PERIOD_MS = 10000,
};

/* Zeroed memory is ready for use. */
struct vsd_rate {
	u64 since;
	u32 lines;
	u32 dropped;
};

/* The level by its name; NUM_VSD_LEVELS if there is none. */
enum vsd_level vsd_level_by_name(const char *name);

/* The format by its name; NUM_VSD_LOG_FORMATS if there is none. */
enum vsd_log_format vsd_log_format_by_name(const char *name);

void vsd_log_set_level(enum vsd_level level);
void vsd_log_set_format(enum vsd_log_format format);
bool vsd_log_enabled(enum vsd_level level);

void vsd_log(enum vsd_level level, const char *component, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* May a line be written at time @now (ns)? If some were held back before, *@dropped says how many. */
bool vsd_rate_ok(struct vsd_rate *rate, u64 now, u32 *dropped);

#endif
