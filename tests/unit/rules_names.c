// SPDX-License-Identifier: BSD-2-Clause
/*
 * rules_names.c - every value has a name, no two share one, and what is outside has "?"
 *
 * The names are promises to those who read traces and counters; some are pinned here, all are checked for their form.
 */
#include <string.h>

#include "check.h"
#include "names.h"

static void check_form(const char *name)
{
	CHECK(name[0] >= 'a' && name[0] <= 'z');
	CHECK_EQ(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
}

/* @first .. @end - 1 are named, all differently; what lies around them is not. */
static void check_names(const char *(*name_of)(u32), u32 first, u32 end)
{
	for (u32 i = 0; i < first; i++)
		CHECK_EQ(strcmp(name_of(i), "?"), 0);
	for (u32 i = first; i < end; i++) {
		check_form(name_of(i));
		for (u32 j = first; j < i; j++)
			CHECK(strcmp(name_of(i), name_of(j)));
	}
	CHECK_EQ(strcmp(name_of(end), "?"), 0);
	CHECK_EQ(strcmp(name_of(0x80000000u), "?"), 0);
	CHECK_EQ(strcmp(name_of(0xffffffffu), "?"), 0);
}

static void names_are_complete(const void *arg)
{
	(void)arg;
	check_names(vsp_type_name, VSP_TYPE_STREAM, NUM_VSP_TYPES);
	check_names(vsp_op_name, 0, NUM_VSP_OPS);
	check_names(vsp_state_name, 0, NUM_VSP_STATES);
	check_names(vsp_event_name, 0, NUM_VSP_EVENTS);
	check_names(vsp_reject_name, 0, NUM_VSP_REJECTS);
	check_names(vsp_err_name, 0, NUM_VSP_ERRS);
	check_names(vsp_act_name, 0, NUM_VSP_ACTS);
}

/* The bit number of an act, for the one table that is not written with designators. */
static u32 bit_of(u32 act)
{
	u32 bit = 0;

	while (act >> (bit + 1))
		bit++;
	return bit;
}

#define PIN(fn, value, name) CHECK_EQ(strcmp(fn(value), name), 0)

static void acts_have_their_names(const void *arg)
{
	(void)arg;
	PIN(vsp_act_name, bit_of(VSP_ACT_STOP_TIMER), "stop_timer");
	PIN(vsp_act_name, bit_of(VSP_ACT_START_TIMER), "start_timer");
	PIN(vsp_act_name, bit_of(VSP_ACT_SPAWN), "spawn");
	PIN(vsp_act_name, bit_of(VSP_ACT_OPEN), "open");
	PIN(vsp_act_name, bit_of(VSP_ACT_HINT), "hint");
	PIN(vsp_act_name, bit_of(VSP_ACT_DELIVER), "deliver");
	PIN(vsp_act_name, bit_of(VSP_ACT_DISCARD), "discard");
	PIN(vsp_act_name, bit_of(VSP_ACT_CREDIT), "credit");
	PIN(vsp_act_name, bit_of(VSP_ACT_SEND_REQUEST), "send_request");
	PIN(vsp_act_name, bit_of(VSP_ACT_SEND_RESPONSE), "send_response");
	PIN(vsp_act_name, bit_of(VSP_ACT_SEND_CREDIT), "send_credit");
	PIN(vsp_act_name, bit_of(VSP_ACT_SEND_SHUTDOWN), "send_shutdown");
	PIN(vsp_act_name, bit_of(VSP_ACT_SEND_RST), "send_rst");
	PIN(vsp_act_name, bit_of(VSP_ACT_HANGUP), "hangup");
	PIN(vsp_act_name, bit_of(VSP_ACT_FORGET), "forget");
	PIN(vsp_act_name, bit_of(VSP_ACT_AGAIN), "again");
	PIN(vsp_act_name, bit_of(VSP_ACT_UNEXPECTED), "unexpected");
}

static void some_names_are_pinned(const void *arg)
{
	(void)arg;
	PIN(vsp_type_name, VSP_TYPE_SEQPACKET, "seqpacket");
	PIN(vsp_op_name, VSP_OP_CREDIT_UPDATE, "credit_update");
	PIN(vsp_op_name, VSP_OP_RW, "rw");
	PIN(vsp_state_name, VSP_CLOSED, "closed");
	PIN(vsp_state_name, VSP_CLOSING, "closing");
	PIN(vsp_event_name, VSP_EV_RST_AFTER_END, "rst_after_end");
	PIN(vsp_reject_name, VSP_OK, "ok");
	PIN(vsp_reject_name, VSP_REJECT_FWD_CNT, "fwd_cnt");
	PIN(vsp_reject_name, VSP_REJECT_MEMORY, "memory");
	PIN(vsp_err_name, VSP_ERR_TIMEOUT, "timeout");
}

static const struct check_case cases[] = {
	CASE(names_are_complete),
	CASE(acts_have_their_names),
	CASE(some_names_are_pinned),
};

CHECK_SUITE(names, cases);
