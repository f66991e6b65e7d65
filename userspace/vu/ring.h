/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ring.h - the device's end of a split virtqueue in mapped guest memory
 *
 * Chains are taken in the order in which the driver made them available and used in the same order, always: after a
 * crash, "the next chain to take" is then the used index. Used entries are written at once and published together.
 *
 * Whoever moves packets need not know which end he is at: a guest that has no VM, vguest, does it with the same code.
 * For its rings (slots.h) "chain" is a buffer of its own: one that the device filled, or one to fill for the device.
 *
 * A ring on which the driver broke a rule is broken: nothing more is taken from it until it is started anew.
 */
#ifndef VU_RING_H
#define VU_RING_H

#include "vu/mem.h"
#include "vu/slots.h"

#include <sys/uio.h>

enum {
	VU_CHAIN_IOV_MAX = 1024, /* memory segments in one chain; the largest iovec of a system call */
};

/**
 * struct vu_ring - one virtqueue
 * @slots: this is the driver's end, and of the rest only @size and the states matter; or NULL
 * @size: entries, 0 until configured
 * @desc_uva: address of the descriptor table as the front-end said it; @avail_uva and @used_uva likewise
 * @desc: the table here, NULL while the addresses are not mapped; @avail and @used likewise
 * @mem: where they are; @log_gpa: the guest's address of the used part, for the dirty log, if @logged
 * @last_avail: the next chain to take
 * @seen_avail: the driver's index as last read
 * @used_idx: the next used entry to write
 * @published: the used index as the driver sees it
 * @signalled: @published when the driver was last asked whether it wants a call
 * @stopped_at: @last_avail when the ring was stopped, to tell a pause from a reboot
 * @kick_fd: the driver's doorbell; @call_fd: ours; @err_fd: to report a broken ring
 * @addressed: the addresses were set
 * @started: it has a doorbell and was not stopped
 * @enabled: VU_SET_VRING_ENABLE
 * @broken: the driver broke a rule
 * @event_idx: VU_F_EVENT_IDX was negotiated; @indirect: VU_F_INDIRECT_DESC
 * @calls_forced: a call is due whatever the driver's event index says: the first after a start
 * @stuck: the front-end made one of its doorbells wait, and a signal had to end that
 */
struct vu_ring {
	struct vu_slots *slots;
	u32 size;
	u64 desc_uva;
	u64 avail_uva;
	u64 used_uva;
	struct vsp_wire_desc *desc;
	u8 *avail;
	u8 *used;
	struct vu_mem *mem;
	u64 log_gpa;
	u16 last_avail;
	u16 seen_avail;
	u16 used_idx;
	u16 published;
	u16 signalled;
	u16 stopped_at;
	int kick_fd;
	int call_fd;
	int err_fd;
	bool addressed;
	bool started;
	bool enabled;
	bool broken;
	bool event_idx;
	bool indirect;
	bool calls_forced;
	bool logged;
	bool stuck;
};

void vu_ring_init(struct vu_ring *r);

/* It is the driver's end, with these buffers; it runs. */
void vu_ring_turn(struct vu_ring *r, struct vu_slots *slots);

/* Find the ring's parts in @m; called when it is started and when the memory changed. False: they are not there. */
bool vu_ring_map(struct vu_ring *r, struct vu_mem *m);

/* How many chains the driver made available that were not taken; for whoever wants to know, not to act on. */
u32 vu_ring_waiting(const struct vu_ring *r);

/* May chains be taken? */
static inline bool vu_ring_live(const struct vu_ring *r)
{
	return r->started && r->enabled && (r->desc || r->slots) && !r->broken;
}

/**
 * vu_ring_pop - take the next chain
 * @m: the guest's memory
 * @writable: this ring carries buffers for the device to write
 * @iov: where to put its segments
 * @room: entries of @iov
 */
struct vu_pop vu_ring_pop(struct vu_ring *r, struct vu_mem *m, bool writable, struct iovec *iov, u32 room);

/* The last @n chains taken, none of them used, go back: they will be taken again. */
void vu_ring_unpop(struct vu_ring *r, u16 n);

/* The oldest chain taken and not used is used, with @len bytes written to it. The driver does not see it yet. */
void vu_ring_use(struct vu_ring *r, u16 head, u32 len);

/* The last @n chains used were not used after all, and go back: they will be taken again. None may be published. */
void vu_ring_unuse(struct vu_ring *r, u16 n);

/* Show the driver everything used up to now, and call it if it wants that. */
void vu_ring_publish(struct vu_ring *r);

/*
 * Ask for a kick when another chain comes than the @left that were seen and left there. True: one came meanwhile, take
 * it; the kicks are off again.
 */
bool vu_ring_await_past(struct vu_ring *r, u16 left);

/* The same where none were left. */
static inline bool vu_ring_await(struct vu_ring *r)
{
	return vu_ring_await_past(r, 0);
}

/* No kicks, please: we look by ourselves or have no need of chains. */
void vu_ring_hush(struct vu_ring *r);

#endif
