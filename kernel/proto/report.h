/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * report.h - what the kernel modules tell of their connections: a family of generic netlink
 *
 * A promise to programs that do not come with the modules: numbers are never given to something else, attributes are
 * added at the end, and a reader ignores those that it does not know. It depends on nothing but this file.
 *
 * The family VST_REPORT_NAME knows one request, which everybody may make: a dump (NLM_F_DUMP) with the command
 * VST_REPORT_FLOWS and no attributes. The answer has a message for each connection of the caller's network namespace.
 */
#ifndef VSP_REPORT_H
#define VSP_REPORT_H

#define VST_REPORT_NAME "vst"
#define VST_REPORT_VERSION 1

enum {
	VST_REPORT_FLOWS = 1,
};

enum vst_report_attr {
	VST_REPORT_PAD = 1,
	VST_REPORT_ID,		/* u64: as in the trace events; unique while the module is loaded */
	VST_REPORT_LOCAL_CID,	/* u32 */
	VST_REPORT_LOCAL_PORT,	/* u32 */
	VST_REPORT_REMOTE_CID,	/* u32 */
	VST_REPORT_REMOTE_PORT, /* u32 */
	VST_REPORT_TYPE,	/* string: vsp_type_name() */
	VST_REPORT_STATE,	/* string: vsp_state_name() */
	VST_REPORT_RX_PACKETS,	/* u64: packets of payload that arrived */
	VST_REPORT_RX_BYTES,	/* u64: their payload */
	VST_REPORT_TX_PACKETS,	/* u64: packets of payload that went to the ring */
	VST_REPORT_TX_BYTES,	/* u64: their payload */
	VST_REPORT_UNREAD,	/* u32: bytes that wait for the reader */
	VST_REPORT_RX_WINDOW,	/* u32: bytes that may */
	VST_REPORT_UNSENT,	/* u32: bytes that were written and are not on the ring yet */
	VST_REPORT_UNACKED,	/* u32: bytes that were written and that the peer has not read, these included */
	VST_REPORT_TX_WINDOW,	/* u32: the most that may be */
	VST_REPORT_TX_HELD,	/* u32: times that payload waited for a peer with too many packets unread */
	NUM_VST_REPORT_ATTRS,
};

#endif
