// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "names.h"

static const char unknown_name[] = "?";

#define NAME_OF(names, i) ((i) < ARRAY_SIZE(names) ? (names)[i] : unknown_name)

static const char *const type_names[] = {
	[0] = unknown_name, /* no such type: they begin at 1 */
	[VSP_TYPE_STREAM] = "stream",
	[VSP_TYPE_SEQPACKET] = "seqpacket",
	[VSP_TYPE_DGRAM] = "dgram",
};
static_assert(ARRAY_SIZE(type_names) == NUM_VSP_TYPES, "every value has a name");

static const char *const op_names[] = {
	[VSP_OP_INVALID] = "invalid",
	[VSP_OP_REQUEST] = "request",
	[VSP_OP_RESPONSE] = "response",
	[VSP_OP_RST] = "rst",
	[VSP_OP_SHUTDOWN] = "shutdown",
	[VSP_OP_RW] = "rw",
	[VSP_OP_CREDIT_UPDATE] = "credit_update",
	[VSP_OP_CREDIT_REQUEST] = "credit_request",
};
static_assert(ARRAY_SIZE(op_names) == NUM_VSP_OPS, "every value has a name");

static const char *const state_names[] = {
	[VSP_CLOSED] = "closed",	 [VSP_LISTEN] = "listen",	    [VSP_ACCEPTING] = "accepting",
	[VSP_CONNECTING] = "connecting", [VSP_ESTABLISHED] = "established", [VSP_CLOSING] = "closing",
};
static_assert(ARRAY_SIZE(state_names) == NUM_VSP_STATES, "every value has a name");

static const char *const event_names[] = {
	[VSP_EV_REQUEST] = "request",
	[VSP_EV_REQUEST_AGAIN] = "request_again",
	[VSP_EV_RESPONSE] = "response",
	[VSP_EV_RST] = "rst",
	[VSP_EV_RST_AFTER_END] = "rst_after_end",
	[VSP_EV_SHUTDOWN_PART] = "shutdown_part",
	[VSP_EV_SHUTDOWN_UNREAD] = "shutdown_unread",
	[VSP_EV_SHUTDOWN] = "shutdown",
	[VSP_EV_DATA] = "data",
	[VSP_EV_CREDIT_UPDATE] = "credit_update",
	[VSP_EV_CREDIT_REQUEST] = "credit_request",
	[VSP_EV_VIOLATION] = "violation",
	[VSP_EV_LISTEN] = "listen",
	[VSP_EV_CONNECT] = "connect",
	[VSP_EV_ACCEPT] = "accept",
	[VSP_EV_REFUSE] = "refuse",
	[VSP_EV_SHUT] = "shut",
	[VSP_EV_DRAINED] = "drained",
	[VSP_EV_CLOSE] = "close",
	[VSP_EV_CLOSE_LAST] = "close_last",
	[VSP_EV_TIMEOUT] = "timeout",
	[VSP_EV_GONE] = "gone",
};
static_assert(ARRAY_SIZE(event_names) == NUM_VSP_EVENTS, "every value has a name");

static const char *const reject_names[] = {
	[VSP_OK] = "ok",
	[VSP_REJECT_SHORT] = "short",
	[VSP_REJECT_CID_HIGH] = "cid_high",
	[VSP_REJECT_SRC_CID] = "src_cid",
	[VSP_REJECT_DST_CID] = "dst_cid",
	[VSP_REJECT_TYPE] = "type",
	[VSP_REJECT_OP] = "op",
	[VSP_REJECT_LEN] = "len",
	[VSP_REJECT_TOO_BIG] = "too_big",
	[VSP_REJECT_NO_FLOW] = "no_flow",
	[VSP_REJECT_BACKLOG] = "backlog",
	[VSP_REJECT_STATE] = "state",
	[VSP_REJECT_CREDIT] = "credit",
	[VSP_REJECT_FWD_CNT] = "fwd_cnt",
	[VSP_REJECT_AFTER_END] = "after_end",
	[VSP_REJECT_NO_MEMORY] = "no_memory",
	[VSP_REJECT_RECORDS] = "records",
	[VSP_REJECT_REPLIES] = "replies",
	[VSP_REJECT_DGRAM_SIZE] = "dgram_size",
	[VSP_REJECT_DGRAM_ORDER] = "dgram_order",
	[VSP_REJECT_DGRAM_FLAGS] = "dgram_flags",
	[VSP_REJECT_AVAIL] = "avail",
	[VSP_REJECT_HEAD] = "head",
	[VSP_REJECT_CHAIN] = "chain",
	[VSP_REJECT_ORDER] = "order",
	[VSP_REJECT_INDIRECT] = "indirect",
	[VSP_REJECT_MEMORY] = "memory",
};
static_assert(ARRAY_SIZE(reject_names) == NUM_VSP_REJECTS, "every value has a name");

static const char *const err_names[] = {
	[VSP_ERR_NONE] = "none",   [VSP_ERR_REFUSED] = "refused", [VSP_ERR_RESET] = "reset",
	[VSP_ERR_PROTO] = "proto", [VSP_ERR_TIMEOUT] = "timeout",
};
static_assert(ARRAY_SIZE(err_names) == NUM_VSP_ERRS, "every value has a name");

static const char *const act_names[] = {
	"stop_timer", "start_timer", "spawn",	     "open",	      "hint",	     "deliver",
	"discard",    "credit",	     "send_request", "send_response", "send_credit", "send_shutdown",
	"send_rst",   "hangup",	     "forget",	     "again",	      "unexpected",
};
static_assert(ARRAY_SIZE(act_names) == NUM_VSP_ACTS, "every act has a name");

const char *vsp_type_name(u32 type)
{
	return NAME_OF(type_names, type);
}

const char *vsp_op_name(u32 op)
{
	return NAME_OF(op_names, op);
}

const char *vsp_state_name(u32 state)
{
	return NAME_OF(state_names, state);
}

const char *vsp_event_name(u32 event)
{
	return NAME_OF(event_names, event);
}

const char *vsp_reject_name(u32 reject)
{
	return NAME_OF(reject_names, reject);
}

const char *vsp_err_name(u32 err)
{
	return NAME_OF(err_names, err);
}

const char *vsp_act_name(u32 bit)
{
	return NAME_OF(act_names, bit);
}
