/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * wire.h - the packet header: from bytes that a peer wrote to a value that can be trusted, and back
 *
 * Two layers. struct vsp_wire is what lies in the ring: little-endian, any nonsense possible. struct vsp_hdr is host
 * order and has passed vsp_decode(). Nothing else reads a vsp_wire; a header in shared memory is copied once and
 * decoded from the copy.
 *
 * Not here: whether a connection exists (conn.h) or has credit (credit.h).
 */
#ifndef VSP_WIRE_H
#define VSP_WIRE_H

#include "env.h"

/* Reserved context identifiers: virtio 1.4 5.10.4, "The following CIDs are reserved". */
enum {
	VSP_CID_HYPERVISOR = 0,
	VSP_CID_LOCAL = 1,
	VSP_CID_HOST = 2,
};
#define VSP_CID_ANY 0xffffffffu
#define VSP_PORT_ANY 0xffffffffu

/* Socket types: virtio 1.4 5.10.6 has 1 and 2; 3 is ours and libkrun's (docs/PROTOCOL.md). */
enum vsp_type {
	VSP_TYPE_STREAM = 1,
	VSP_TYPE_SEQPACKET = 2,
	VSP_TYPE_DGRAM = 3,
	NUM_VSP_TYPES,
};

/* Bits of vsp_filter.types. */
#define VSP_TYPES(t) (1u << (t))

/* Operations: virtio 1.4 5.10.6. */
enum vsp_op {
	VSP_OP_INVALID = 0,
	VSP_OP_REQUEST = 1,
	VSP_OP_RESPONSE = 2,
	VSP_OP_RST = 3,
	VSP_OP_SHUTDOWN = 4,
	VSP_OP_RW = 5,
	VSP_OP_CREDIT_UPDATE = 6,
	VSP_OP_CREDIT_REQUEST = 7,
	NUM_VSP_OPS,
};

/* Hints of OP_SHUTDOWN: virtio 1.4 5.10.6.1.1 (the sender will not receive; will not send). */
enum {
	VSP_SHUTDOWN_RCV = 1,
	VSP_SHUTDOWN_SEND = 2,
	VSP_SHUTDOWN_BOTH = 3,
};

/* Flags of OP_RW in a seqpacket flow: virtio 1.4 5.10.6.2.1. */
enum {
	VSP_SEQ_EOM = 1,
	VSP_SEQ_EOR = 2,
};

/* Feature bits: virtio 1.4 5.10.3; bit 3 is ours and libkrun's. */
enum {
	VSP_F_STREAM = 0,
	VSP_F_SEQPACKET = 1,
	VSP_F_NO_IMPLIED_STREAM = 2,
	VSP_F_DGRAM = 3,
};

enum {
	VSP_HDR_LEN = 44,	 /* bytes of a header on the ring */
	VSP_MAX_PAYLOAD = 65536, /* bytes of payload in one packet; stock Linux drops more without a word */
};

/*
 * Why a packet, a descriptor chain or a connection's step was refused. Every reason is counted by the shell that saw
 * it and has a name (names.h). VSP_OK is 0.
 */
enum vsp_reject {
	VSP_OK,
	/* the header itself: vsp_decode() */
	VSP_REJECT_SHORT,    /* fewer than VSP_HDR_LEN bytes arrived */
	VSP_REJECT_CID_HIGH, /* the upper half of a CID is not zero (5.10.6: reserved) */
	VSP_REJECT_SRC_CID,  /* a source that cannot be at the other end of this ring */
	VSP_REJECT_DST_CID,  /* a destination that is not here */
	VSP_REJECT_TYPE,     /* a socket type that was not negotiated */
	VSP_REJECT_OP,	     /* an operation that does not exist (for this type) */
	VSP_REJECT_LEN,	     /* more payload announced than arrived */
	VSP_REJECT_TOO_BIG,  /* more payload announced than VSP_MAX_PAYLOAD */
	/* the flow */
	VSP_REJECT_NO_FLOW,   /* no connection and no listener at that address */
	VSP_REJECT_BACKLOG,   /* a listener's backlog or a limit is full */
	VSP_REJECT_STATE,     /* an operation that this state does not expect */
	VSP_REJECT_CREDIT,    /* payload beyond the window that was promised */
	VSP_REJECT_FWD_CNT,   /* an acknowledgement of bytes that were never sent */
	VSP_REJECT_AFTER_END, /* payload after "will not send" */
	VSP_REJECT_NO_MEMORY, /* nothing left to keep the payload in */
	VSP_REJECT_RECORDS,   /* more empty seqpacket messages than may be queued */
	/* the reply */
	VSP_REJECT_REPLIES, /* the budget of replies was spent; the sender must drain its ring */
	/* datagrams */
	VSP_REJECT_DGRAM_SIZE,	/* longer than VSP_DGRAM_MAX, or a fragment that leaves its datagram */
	VSP_REJECT_DGRAM_ORDER, /* a fragment that does not continue the one before it */
	VSP_REJECT_DGRAM_FLAGS, /* flags other than 0 */
	/* the ring */
	VSP_REJECT_AVAIL,    /* the available index ran ahead by more than the ring holds */
	VSP_REJECT_HEAD,     /* a head, or a next, outside the table */
	VSP_REJECT_CHAIN,    /* longer than the table: a loop */
	VSP_REJECT_ORDER,    /* a writable descriptor before a readable one, or the wrong kind for this ring */
	VSP_REJECT_INDIRECT, /* an indirect table that is nested, chained, empty or not a multiple of 16 bytes */
	VSP_REJECT_MEMORY,   /* an address outside the guest's memory */
	NUM_VSP_REJECTS,
};

/* A header as it lies in memory shared with the peer. */
struct vsp_wire {
	__le64 src_cid;
	__le64 dst_cid;
	__le32 src_port;
	__le32 dst_port;
	__le32 len;
	__le16 type;
	__le16 op;
	__le32 flags;
	__le32 buf_alloc;
	__le32 fwd_cnt;
} __attribute__((packed));
static_assert(sizeof(struct vsp_wire) == VSP_HDR_LEN, "virtio 1.4 5.10.6: the header has 44 bytes");

struct vsp_addr {
	u32 cid;
	u32 port;
};

/* A header in host order that vsp_decode() accepted, or one that we are about to send. */
struct vsp_hdr {
	struct vsp_addr src;
	struct vsp_addr dst;
	u32 len;
	u16 type;
	u16 op;
	u32 flags;
	u32 buf_alloc;
	u32 fwd_cnt;
};

/**
 * struct vsp_filter - what may arrive at one end of a ring
 * @my_cid: the only destination that is here, or VSP_CID_ANY to leave routing to the caller
 * @peer_cid: the only source that can be at the other end, or VSP_CID_ANY where the peer forwards for others
 * @types: VSP_TYPES() of the socket types that were negotiated
 */
struct vsp_filter {
	u32 my_cid;
	u32 peer_cid;
	u32 types;
};

/**
 * struct vsp_decoded - what vsp_decode() found
 * @hdr: the header; addresses, type and op hold for every reason from VSP_REJECT_SRC_CID on, all of it for VSP_OK
 * @why: VSP_OK or the first rule that was broken, in the order of the enum
 */
struct vsp_decoded {
	struct vsp_hdr hdr;
	enum vsp_reject why;
};

/**
 * vsp_decode - judge a header
 * @wire: a private copy of the header; its bytes beyond @have are not looked at
 * @have: bytes that arrived, header and payload together
 * @filter: what may arrive here
 *
 * A packet longer than its len is legal (5.10.6: "the buffer might be longer"); only the first len bytes count.
 */
struct vsp_decoded vsp_decode(const struct vsp_wire *wire, u32 have, struct vsp_filter filter);

/* The bytes of @hdr. */
struct vsp_wire vsp_encode(struct vsp_hdr hdr);

/**
 * vsp_wants_rst - must this packet, refused for @why, be answered with a reset?
 * @why: the reason; VSP_OK wants none
 * @hdr: the packet
 *
 * virtio 1.4 5.10.6: an RST is sent for an unknown type. We also reset where payload would otherwise vanish from a flow
 * that believes in it. An RST is never answered: two ends that did so would never stop.
 */
bool vsp_wants_rst(enum vsp_reject why, const struct vsp_hdr *hdr);

/**
 * vsp_ends_flow - does a packet, refused for @why, end the connection that its addresses name?
 * @why: the reason; for others the addresses are not what they seem, or there is no packet
 *
 * What it carried is missing from now on, so neither end can go on (VSP_EV_VIOLATION). But an RST is one however
 * malformed the rest of it is: as a violation, it would be answered.
 */
bool vsp_ends_flow(enum vsp_reject why);

/* The reset that answers @hdr: addresses reversed, type echoed, no credit (there is no flow to have any). */
struct vsp_hdr vsp_rst_for(const struct vsp_hdr *hdr);

static inline bool vsp_addr_eq(struct vsp_addr a, struct vsp_addr b)
{
	return a.cid == b.cid && a.port == b.port;
}

/* virtio 1.4 5.10.4, device: guest_cid must not be a reserved CID. */
static inline bool vsp_guest_cid_valid(u64 cid)
{
	return cid > VSP_CID_HOST && cid < VSP_CID_ANY;
}

/*
 * The socket types in force after negotiation of @features (bits VSP_F_*): virtio 1.4 5.10.3.1. No bit at all means
 * streams; SEQPACKET alone implies them unless NO_IMPLIED_STREAM was negotiated too.
 */
u32 vsp_types_for(u64 features);

#endif
