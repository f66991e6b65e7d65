/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * names.h - one name for every value of every enum, for traces, logs and counters
 *
 * The names are part of what users see (trace events, JSON keys, Prometheus labels): lower case, words joined by '_'.
 * A value out of range is "?".
 */
#ifndef VSP_NAMES_H
#define VSP_NAMES_H

#include "conn.h"

const char *vsp_type_name(u32 type);
const char *vsp_op_name(u32 op);
const char *vsp_state_name(u32 state);
const char *vsp_event_name(u32 event);
const char *vsp_reject_name(u32 reject);
const char *vsp_err_name(u32 err);

/* The name of one act, by its bit number (0 .. NUM_VSP_ACTS - 1). */
const char *vsp_act_name(u32 bit);

#endif
