/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * trace.h - tracepoints, in /sys/kernel/tracing/events/vst/
 *
 *   vst_step    an event happened to a connection: every change of its state is here
 *   vst_end     the connection's memory is freed
 *   vst_credit  a ledger changed: the peer said what it has read, or hears what we have
 *   vst_reject  a packet was refused; why is enum vsp_reject
 *   vst_drop    payload is thrown away
 *
 * Tests replay vst_step and vst_end through vsp_conn_step(), and they parse what is printed.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vst

#if !defined(VST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VST_TRACE_H

#include <linux/tracepoint.h>

#include "vst.h"

/* The fields of an event read as a table. */
/* clang-format off */

#define VST_TRACE_FLOW_FIELDS			\
	__field(u64, id)			\
	__field(u32, local_cid)			\
	__field(u32, local_port)		\
	__field(u32, remote_cid)		\
	__field(u32, remote_port)		\
	__field(u32, type)

#define VST_TRACE_FLOW_ASSIGN(flow)				\
	__entry->id = (flow)->id;				\
	__entry->local_cid = (flow)->key.local.cid;		\
	__entry->local_port = (flow)->key.local.port;		\
	__entry->remote_cid = (flow)->key.remote.cid;		\
	__entry->remote_port = (flow)->key.remote.port;		\
	__entry->type = (flow)->key.type

#define VST_TRACE_FLOW_FORMAT "flow=%llu %u:%u %u:%u type=%u"

#define VST_TRACE_FLOW_ARGS							\
	__entry->id, __entry->local_cid, __entry->local_port,			\
	__entry->remote_cid, __entry->remote_port, __entry->type

TRACE_EVENT(vst_step,
	TP_PROTO(const struct vst_flow *flow, u32 state, u32 event, struct vsp_verdict v),
	TP_ARGS(flow, state, event, v),
	TP_STRUCT__entry(
		VST_TRACE_FLOW_FIELDS
		__field(u32, state)
		__field(u32, event)
		__field(u32, next)
		__field(u32, acts)
		__field(u32, err)
	),
	TP_fast_assign(
		VST_TRACE_FLOW_ASSIGN(flow);
		__entry->state = state;
		__entry->event = event;
		__entry->next = v.next;
		__entry->acts = v.acts;
		__entry->err = v.err;
	),
	TP_printk(VST_TRACE_FLOW_FORMAT " state=%s(%u) event=%s(%u) next=%s(%u) acts=0x%x err=%u",
		  VST_TRACE_FLOW_ARGS,
		  vsp_state_name(__entry->state), __entry->state, vsp_event_name(__entry->event), __entry->event,
		  vsp_state_name(__entry->next), __entry->next, __entry->acts, __entry->err)
);

TRACE_EVENT(vst_end,
	TP_PROTO(const struct vst_flow *flow),
	TP_ARGS(flow),
	TP_STRUCT__entry(
		VST_TRACE_FLOW_FIELDS
		__field(u32, state)
	),
	TP_fast_assign(
		VST_TRACE_FLOW_ASSIGN(flow);
		__entry->state = flow->state;
	),
	TP_printk(VST_TRACE_FLOW_FORMAT " state=%s(%u)",
		  VST_TRACE_FLOW_ARGS, vsp_state_name(__entry->state), __entry->state)
);

/* Numbers of credit.h: those of a ledger count bytes from the connection's beginning, modulo 2^32. */
TRACE_EVENT(vst_credit,
	TP_PROTO(const struct vst_flow *flow, u32 op, bool sent),
	TP_ARGS(flow, op, sent),
	TP_STRUCT__entry(
		VST_TRACE_FLOW_FIELDS
		__field(u32, op)
		__field(bool, sent)
		__field(u32, peer_buf_alloc)
		__field(u32, peer_fwd_cnt)
		__field(u32, tx_cnt)
		__field(u32, buf_alloc)
		__field(u32, fwd_cnt)
		__field(u32, unread)
	),
	TP_fast_assign(
		VST_TRACE_FLOW_ASSIGN(flow);
		__entry->op = op;
		__entry->sent = sent;
		__entry->peer_buf_alloc = flow->txc.peer_buf_alloc;
		__entry->peer_fwd_cnt = flow->txc.peer_fwd_cnt;
		__entry->tx_cnt = flow->txc.tx_cnt;
		__entry->buf_alloc = flow->rxc.buf_alloc;
		__entry->fwd_cnt = flow->rxc.fwd_cnt;
		__entry->unread = vsp_rxc_unread(&flow->rxc);
	),
	TP_printk(VST_TRACE_FLOW_FORMAT
		  " %s=%s peer_buf_alloc=%u peer_fwd_cnt=%u tx_cnt=%u buf_alloc=%u fwd_cnt=%u unread=%u",
		  VST_TRACE_FLOW_ARGS, __entry->sent ? "sent" : "came", vsp_op_name(__entry->op),
		  __entry->peer_buf_alloc, __entry->peer_fwd_cnt, __entry->tx_cnt, __entry->buf_alloc,
		  __entry->fwd_cnt, __entry->unread)
);

TRACE_EVENT(vst_drop,
	TP_PROTO(const struct vst_flow *flow, u32 why, u32 bytes),
	TP_ARGS(flow, why, bytes),
	TP_STRUCT__entry(
		VST_TRACE_FLOW_FIELDS
		__field(u32, why)
		__field(u32, bytes)
	),
	TP_fast_assign(
		VST_TRACE_FLOW_ASSIGN(flow);
		__entry->why = why;
		__entry->bytes = bytes;
	),
	TP_printk(VST_TRACE_FLOW_FORMAT " why=%s(%u) bytes=%u",
		  VST_TRACE_FLOW_ARGS,
		  __print_symbolic(__entry->why, { VST_DROP_UNREAD, "unread" }, { VST_DROP_LATE, "late" },
				   { VST_DROP_UNSENT, "unsent" }), __entry->why, __entry->bytes)
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
