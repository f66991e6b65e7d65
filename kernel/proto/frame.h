/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * frame.h - seqpacket messages cut into packets, and put together again
 *
 * virtio 1.4 5.10.6.2: a message is one or more RW packets, the last of which carries SEQ_EOM; SEQ_EOR on the last
 * packet of a record becomes MSG_EOR. Only payload counts as credit, so an empty message costs none: how many of them
 * may wait is a limit of ours.
 */
#ifndef VSP_FRAME_H
#define VSP_FRAME_H

#include "wire.h"

enum {
	/* Empty messages that may wait in one flow. They use no credit; beyond this the flow is reset. */
	VSP_EMPTY_RECORDS_MAX = 1024,
};

/* A message being sent: what is left of it. */
struct vsp_frag {
	u32 left;
	u32 flags; /* VSP_SEQ_EOR or 0, for its last packet */
};

/* The next packet of a message. */
struct vsp_piece {
	u32 len;
	u32 flags;
	bool last;
};

/**
 * vsp_frag_next - cut the next packet off a message
 * @f: what is left; reduced by the piece
 * @room: largest payload for this packet, at least 1 unless the message is empty
 */
struct vsp_piece vsp_frag_next(struct vsp_frag *f, u32 room);

/* The message being received in a flow. */
struct vsp_record {
	u32 len;   /* bytes of the unfinished message */
	u32 empty; /* empty messages that wait to be read */
};

enum vsp_record_verdict {
	VSP_RECORD_PART, /* the message goes on */
	VSP_RECORD_END,	 /* the message is complete */
	VSP_RECORD_FULL, /* one empty message too many: VSP_REJECT_RECORDS */
};

/* Account for an arriving RW packet of @len bytes with @flags. On VSP_RECORD_END, *@whole is the message's length. */
enum vsp_record_verdict vsp_record_add(struct vsp_record *r, u32 len, u32 flags, u32 *whole);

/* The reader took an empty message. */
void vsp_record_empty_read(struct vsp_record *r);

#endif
