/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace.h - tracepoints, in /sys/kernel/tracing/events/vst/
 *
 * vst_step is the record that tests replay through vsp_conn_step(): every change of a connection's state is in it.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vst

#if !defined(VST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VST_TRACE_H

#include <linux/tracepoint.h>

#include "vst.h"

/* The fields of an event read as a table. */
/* clang-format off */

#define VST_TRACE_ADDR_FIELDS			\
	__field(u32, local_cid)			\
	__field(u32, local_port)		\
	__field(u32, remote_cid)		\
	__field(u32, remote_port)		\
	__field(u32, type)

#define VST_TRACE_ADDR_ASSIGN(key)			\
	__entry->local_cid = (key)->local.cid;		\
	__entry->local_port = (key)->local.port;	\
	__entry->remote_cid = (key)->remote.cid;	\
	__entry->remote_port = (key)->remote.port;	\
	__entry->type = (key)->type

TRACE_EVENT(vst_step,
	TP_PROTO(const struct vst_flow *flow, u32 state, u32 event, struct vsp_verdict v),
	TP_ARGS(flow, state, event, v),
	TP_STRUCT__entry(
		VST_TRACE_ADDR_FIELDS
		__field(u32, state)
		__field(u32, event)
		__field(u32, next)
		__field(u32, acts)
		__field(u32, err)
	),
	TP_fast_assign(
		VST_TRACE_ADDR_ASSIGN(&flow->key);
		__entry->state = state;
		__entry->event = event;
		__entry->next = v.next;
		__entry->acts = v.acts;
		__entry->err = v.err;
	),
	TP_printk("%u:%u %u:%u type=%u state=%s(%u) event=%s(%u) next=%s(%u) acts=0x%x err=%u",
		  __entry->local_cid, __entry->local_port, __entry->remote_cid, __entry->remote_port, __entry->type,
		  vsp_state_name(__entry->state), __entry->state, vsp_event_name(__entry->event), __entry->event,
		  vsp_state_name(__entry->next), __entry->next, __entry->acts, __entry->err)
);

TRACE_EVENT(vst_reject,
	TP_PROTO(const struct vst_link *link, u32 why),
	TP_ARGS(link, why),
	TP_STRUCT__entry(
		__field(u32, local_cid)
		__field(u32, why)
	),
	TP_fast_assign(
		__entry->local_cid = link->local_cid;
		__entry->why = why;
	),
	TP_printk("cid=%u why=%s(%u)", __entry->local_cid, vsp_reject_name(__entry->why), __entry->why)
);

TRACE_EVENT(vst_dgram_drop,
	TP_PROTO(const struct vst_link *link, const struct vsp_hdr *hdr, u32 len, u32 why),
	TP_ARGS(link, hdr, len, why),
	TP_STRUCT__entry(
		__field(u32, src_cid)
		__field(u32, src_port)
		__field(u32, dst_cid)
		__field(u32, dst_port)
		__field(u32, len)
		__field(u32, why)
	),
	TP_fast_assign(
		__entry->src_cid = hdr->src.cid;
		__entry->src_port = hdr->src.port;
		__entry->dst_cid = hdr->dst.cid;
		__entry->dst_port = hdr->dst.port;
		__entry->len = len;
		__entry->why = why;
	),
	TP_printk("%u:%u %u:%u len=%u why=%s(%u)", __entry->src_cid, __entry->src_port, __entry->dst_cid,
		  __entry->dst_port, __entry->len, vst_stat_name(__entry->why), __entry->why)
);

/* clang-format on */

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
