/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * host.h - the host device: what the files of vhost_vsock.ko share
 *
 *   vh_dev     one open /dev/vhost-vsock: a guest, and the link that leads to it
 *   vh_ring    one of its two rings, in the memory of the process that owns the device
 *   vh_worker  the thread that serves a ring
 *   vh_mem     the guest's memory, as a table of regions
 *
 * A vhost core of our own: the kernel's has no public header. Ring arithmetic is proto/ring.h's, connections are
 * vst_common's; here is memory, threads and the ioctls of the stock device. Directions are places: to_guest is the
 * ring that the guest receives on.
 */
#ifndef VH_HOST_H
#define VH_HOST_H

#include <linux/eventfd.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/types.h>
#include <linux/uio.h>
#include <linux/vhost.h>
#include <linux/wait.h>

#include "vst.h"
#include "proto/ring.h"

enum {
	VH_REGIONS_MAX = 509,  /* regions of guest memory: what KVM allows by default */
	VH_SEGS_MAX = 1024,    /* pieces of memory in one chain: as in-tree; and descriptors, empty ones included */
	VH_USED_BATCH = 64,    /* used entries that the guest is shown at once */
	VH_TURN_PACKETS = 256, /* packets, and bytes, after which a worker lets go of its ring for a moment */
	VH_TURN_BYTES = 512 << 10,
	VH_ANSWER_PACKETS = 32, /* that are taken before what they led to is sent */
	VH_DESC_COST = 256,    /* what following a descriptor counts as, in bytes of a turn */
	VH_SCRATCH_ORDERS = 5, /* payload buffers of 4 KiB to 64 KiB */
	VH_HASH_BITS = 8,
	VH_NEAR_BITS = 9, /* pages of buffers that are kept for writers: sets by address, and pages of each set */
	VH_NEAR_WAYS = 8,
	VH_NEAR_BITS_FEW = 7, /* where the owner may not lock so much memory */
	VH_MAP_PAGES = 5,				   /* of each part of a ring that is mapped for them */
	VH_NEAR_AHEAD = 64,				   /* posted buffers that are fetched at once */
	VH_NEAR_PATIENCE = 2,	 /* times all pages fetched, beyond one for each buffer used, that are too many */
	VH_NEAR_IDLE_MS = 1000,	 /* without a writer, after which nothing is kept */
	VH_VAIN_KICKS = 64,   /* in a row that a thread was woken by for nothing, after which it rests for so long: */
	VH_VAIN_US = 200,
	VH_DRIVE_PACKETS = 64, /* packets, and bytes, that others than the worker move, of anybody's, before it does */
	VH_DRIVE_BYTES = 128 << 10,
	VH_WRITE_CHAINS = 32,	 /* buffers that one write fills */
	VH_GATHER_US = 50,	 /* for which the worker lets writers get ahead that are faster than it is */
	VH_POLL_US = 200,	 /* for which a worker looks for more packets before it sleeps, unless poll_us says */
	VH_POLL_MAX_US = 100000, /* something else, up to this */
	VH_POLL_AFTER_MAX = 63, /* times that more has to come in time until the next look, if this was in vain */
};
static_assert(PAGE_SIZE << (VH_SCRATCH_ORDERS - 1) >= VSP_MAX_PAYLOAD);

/* Of virtio 1.4 6; the stock device offers these as well. */
enum {
	VH_F_NOTIFY_ON_EMPTY = 24,
	VH_F_ANY_LAYOUT = 27,
	VH_F_INDIRECT = 28,
	VH_F_EVENT_IDX = 29,
	VH_F_VERSION_1 = 32,
};

/* The order of the rings in the protocol: virtio 1.4 5.10.2. */
enum { VH_TO_GUEST, VH_FROM_GUEST, NUM_VH_RINGS };

struct vh_dev;

struct vh_region {
	u64 gpa;
	u64 size;
	u64 uva;
};

/* Regions by address; none overlaps another. Immutable. */
struct vh_mem {
	u32 n;
	struct vh_region regions[];
};

/* A piece of guest memory; @len 0: there is none. */
struct vh_span {
	void __user *ptr;
	u64 len;
};

/* A piece of a chain. */
struct vh_seg {
	void __user *ptr;
	u64 gpa;
	u32 len;
};

/**
 * struct vh_chain - a chain that was taken from a ring
 * @head: give it back to vh_ring_use()
 * @bytes: of all pieces
 * @descs: descriptors that it has
 * @nsegs: pieces in vh_ring.segs
 * @seg: the piece that the next copy begins in
 * @off: and where in it
 * @near: of a chain from vh_ring_pop_near(), which has one piece: where it lies; then @nsegs and @seg mean nothing
 */
struct vh_chain {
	u16 head;
	u32 bytes;
	u32 descs;
	u32 nsegs;
	u32 seg;
	u32 off;
	void __user *near;
};

/**
 * struct vh_slot - a page that is kept for writers
 * @page: it, or NULL
 * @addr: where its owner had it
 * @gone: it may have another page there by now; written without the lock
 */
struct vh_slot {
	struct page *page;
	unsigned long addr;
	bool gone;
};

/* A part of a ring, mapped; @at is where. Its owner has it from @start to @end. */
struct vh_map {
	unsigned long start;
	unsigned long end;
	struct page *pages[VH_MAP_PAGES];
	u32 n;
	void *base;
	void *at;
};

enum { VH_MAP_DESC, VH_MAP_AVAIL, VH_MAP_USED, NUM_VH_MAPS };

/**
 * struct vh_near - memory of the owner's that writers can use; see near.c
 * @ring: whose buffers it is for
 * @notifier: hears of what the owner does with its memory
 * @changes: how often it did, atomic
 * @stale: the maps are of memory that it exchanged; written without the lock
 * @idle: looks whether anybody writes
 * @wanted: a writer missed something; read and written without the lock
 *
 * Under the ring's lock:
 * @mapped: the maps are there; read without it, too
 * @missed: the buffer that @wanted is about, or of no length
 * @used: buffers that writers filled, since @idle looked
 * @fetched: pages that were fetched, likewise
 * @maps: the ring
 * @evict: the way of a set that is emptied next
 * @bits: there are so many sets; fixed
 * @slots: the pages, in sets
 */
struct vh_near {
	struct vh_ring *ring;
	struct mmu_notifier notifier;
	atomic_t changes;
	bool stale;
	struct delayed_work idle;
	bool wanted;
	bool mapped;
	struct vh_span missed;
	u32 used;
	u32 fetched;
	struct vh_map maps[NUM_VH_MAPS];
	u32 evict;
	u32 bits;
	struct vh_slot slots[][VH_NEAR_WAYS];
};

/**
 * struct vh_worker - the thread that serves a ring
 * @dev: the device
 * @task: the thread
 * @pending: bit 0: there may be something to do
 * @turn: does it
 * @kicked: the guest said so; without a lock
 *
 * The thread's own:
 * @vain_kicks: how often it did since the last time that there was a buffer to be used
 * @idle_since: when it last had nothing to do, in nanoseconds, if it polls
 * @poll_pays: more is looked for before it sleeps
 * @poll_after: times that more has to come in time for that, before it begins
 * @soon: times that it did
 * @polls_won: how often polling found work, and @polls_lost: did not in its time; read without a lock
 */
struct vh_worker {
	struct vh_dev *dev;
	struct task_struct *task;
	unsigned long pending;
	bool (*turn)(struct vh_dev *dev);
	bool kicked;

	u32 vain_kicks;
	u64 idle_since;
	bool poll_pays;
	u32 poll_after;
	u32 soon;
	u64 polls_won;
	u64 polls_lost;
};

/* The eventfd by which the guest kicks. */
struct vh_kick {
	struct file *file;
	wait_queue_head_t *queue;
	wait_queue_entry_t entry;
	poll_table table;
	struct vh_worker *worker;
};

/**
 * struct vh_ring - one virtqueue, its memory being the owner's
 * @lock: guards all but @worker; held by the worker for a turn and by ioctls
 *
 * As configured:
 * @size: entries, 0 until configured
 * @desc: address of the table; @avail and @used likewise
 * @log_addr: where the used ring lies for the log
 * @log_used: writes to the used ring are logged
 * @log_data: writes to buffers are logged
 * @log_base: the log
 * @log_ctx: is signalled when something was logged; the device's
 * @mem: the guest's memory; the device's
 * @call: is signalled for an interrupt
 * @err: is signalled when the ring breaks
 * @busyloop: of VHOST_SET_VRING_BUSYLOOP_TIMEOUT; remembered, but it is the module's poll_us that counts
 * @indirect: VH_F_INDIRECT was negotiated; @event_idx and @on_empty likewise
 *
 * While it runs:
 * @running: chains may be taken
 * @broken: the guest broke a rule; nothing is taken until the ring is started again
 * @hushed: the guest was told that it need not kick
 * @last_avail: the next chain to take
 * @seen_avail: the guest's index as last read
 * @published: the used index that the guest sees
 * @signalled: @published when the guest was last asked whether it wants an interrupt
 * @signalled_valid: there was such a time since the start
 * @stopped_at: @last_avail when the ring was stopped, -1 before: tells a pause from a reboot
 * @n_used: entries of @used_batch that the guest was not shown
 * @used_batch: chains that were used
 * @region: index of the region that was found last
 * @segs: the pieces of the chain that was taken last
 * @near: what writers can use of the owner's memory, or NULL; from SET_OWNER to the end
 * @by_map: the ring is used by a writer, through @near
 *
 * @kick: where kicks come from
 * @worker: serves the ring
 */
struct vh_ring {
	struct mutex lock;

	u32 size;
	u64 desc;
	u64 avail;
	u64 used;
	u64 log_addr;
	bool log_used;
	bool log_data;
	u64 log_base;
	struct eventfd_ctx *log_ctx;
	const struct vh_mem *mem;
	struct eventfd_ctx *call;
	struct eventfd_ctx *err;
	u32 busyloop;
	bool indirect;
	bool event_idx;
	bool on_empty;

	bool running;
	bool broken;
	bool hushed;
	u16 last_avail;
	u16 seen_avail;
	u16 published;
	u16 signalled;
	bool signalled_valid;
	s32 stopped_at;
	u32 n_used;
	struct vring_used_elem used_batch[VH_USED_BATCH];
	u32 region;
	struct vh_seg *segs;
	struct vh_near *near;
	bool by_map;

	struct vh_kick kick;
	struct vh_worker worker;
};

/**
 * struct vh_dev - an open device
 * @rcu: frees it
 * @link: what the common part sees
 * @hash: in the table of guests, under guests_lock
 * @cid: the guest's; 0 until it is set
 *
 * @lock: guards
 * @mm: the owner's memory, a reference; NULL without an owner
 * @mem: the guest's memory
 * @log_ctx: as told to the rings
 * @features: as negotiated
 * @running: VHOST_VSOCK_SET_RUNNING
 *
 * @reachable: the guest can be connected to: it runs and has broken no rule
 *
 * Under the ring's lock, and from @taker on the worker's alone:
 * @current_pkt: the packet that is being copied to the guest
 * @current_off: how much of it the guest has
 * @current_msg: the message in it that is next, see vst_pkt.more
 * @gathered: packets that the guest has, behind which writers are getting ahead of the worker
 * @taker: the thread that takes packets now, or NULL; read without a lock
 * @answers: the other thread has to be woken for what it did
 * @told: headers wait for the thread that takes packets; set and read without a lock
 * @written: the buffers that a write has filled and not published
 * @scratch: payload buffers by order, handed over to readers and replaced
 * @spare: for payload when there is no memory for another scratch buffer
 *
 * @rings: the rings
 */
struct vh_dev {
	struct rcu_head rcu;
	struct vst_link link;
	struct hlist_node hash;
	u32 cid;

	struct mutex lock;
	struct mm_struct *mm;
	struct vh_mem *mem;
	struct eventfd_ctx *log_ctx;
	u64 features;
	bool running;

	bool reachable;

	struct vst_pkt *current_pkt;
	u32 current_off;
	u32 current_msg;
	struct list_head gathered;
	struct task_struct *taker;
	bool answers;
	bool told;
	struct vh_chain written[VH_WRITE_CHAINS];
	struct page *scratch[VH_SCRATCH_ORDERS];
	u8 *spare;

	struct vh_ring rings[NUM_VH_RINGS];
};

static inline struct vh_dev *vh_dev_of(struct vst_link *link)
{
	return container_of(link, struct vh_dev, link);
}

/* mem.c */
struct vh_mem *vh_mem_read(const struct vhost_memory __user *from);
const struct vh_region *vh_mem_find(const struct vh_mem *mem, u64 gpa);
bool vh_log_fits(const struct vh_mem *mem, u64 log_base);
bool vh_log_write(u64 log_base, u64 gpa, u64 len);

static inline bool vh_region_holds(const struct vh_region *r, u64 gpa)
{
	return gpa >= r->gpa && gpa - r->gpa < r->size;
}

/**
 * vh_mem_at - where guest address @gpa lies
 * @mem: the table, or NULL
 * @gpa: an address that the guest gave
 * @len: bytes wanted
 * @region: where the last look-up ended, kept by the caller
 *
 * Return: at most @len bytes; fewer where the region ends, none where there is no memory.
 */
static inline struct vh_span vh_mem_at(const struct vh_mem *mem, u64 gpa, u64 len, u32 *region)
{
	struct vh_span span = { 0 };
	const struct vh_region *r;

	if (!mem)
		return span;
	if (likely(*region < mem->n && vh_region_holds(&mem->regions[*region], gpa))) {
		r = &mem->regions[*region];
	} else {
		r = vh_mem_find(mem, gpa);
		if (!r)
			return span;
		*region = r - mem->regions;
	}
	span.ptr = (void __user *)(unsigned long)(r->uva + (gpa - r->gpa));
	span.len = min(len, r->size - (gpa - r->gpa));
	return span;
}

/* ring.c: with the ring's lock held and the owner's memory in use. What fails is why the ring has to be broken. */
bool vh_ring_accessible(u32 size, u64 desc, u64 avail, u64 used);
bool vh_ring_start(struct vh_ring *r);
void vh_ring_stop(struct vh_ring *r);
enum vsp_reject vh_ring_look(struct vh_ring *r, bool *empty);
enum vsp_reject vh_ring_pop(struct vh_ring *r, bool writable, struct vh_chain *c, bool *empty);
void vh_ring_unpop(struct vh_ring *r);
bool vh_ring_pop_near(struct vh_ring *r, struct vh_chain *c);
enum vsp_reject vh_ring_fetch(struct vh_ring *r);
enum vsp_reject vh_ring_use(struct vh_ring *r, const struct vh_chain *c, u32 len);
enum vsp_reject vh_ring_publish(struct vh_ring *r);
bool vh_ring_came(const struct vh_ring *r);
enum vsp_reject vh_ring_await(struct vh_ring *r, bool *more);
enum vsp_reject vh_ring_hush(struct vh_ring *r);
bool vh_ring_read(struct vh_ring *r, struct vh_chain *c, void *to, u32 len);
bool vh_ring_read_hdr(struct vh_ring *r, struct vh_chain *c, struct vsp_wire *wire);
bool vh_ring_write(struct vh_ring *r, struct vh_chain *c, const void *from, u32 len);
bool vh_ring_write_hdr(struct vh_ring *r, struct vh_chain *c, const struct vsp_wire *wire);

/* Before vh_ring_write(): is @from something that users may see? With hardened usercopy, what is not ends here. */
static inline void vh_ring_may_write(const void *from, u32 len)
{
	check_object_size(from, len, true);
}

static inline bool vh_ring_live(const struct vh_ring *r)
{
	lockdep_assert_held(&r->lock);
	return r->running && !r->broken;
}

/* near.c: with the ring's lock held */
void vh_near_new(struct vh_ring *r, struct mm_struct *mm);
void vh_near_free(struct vh_ring *r, struct mm_struct *mm);
bool vh_near_begin(struct vh_near *near, struct vh_ring *r);
void vh_near_drop(struct vh_ring *r);
bool vh_near_has(struct vh_near *near, const void __user *ptr, u32 len);
bool vh_near_fetch(struct vh_near *near, const void __user *ptr, u32 len);
void vh_near_write(struct vh_near *near, void __user *ptr, const void *from, u32 len);
u32 vh_near_copy(struct vh_near *near, void __user *ptr, struct iov_iter *from, u32 len);

/* worker.c */
int vh_worker_start(struct vh_worker *w, struct vh_dev *dev, bool (*turn)(struct vh_dev *dev), u32 policy);
void vh_worker_stop(struct vh_worker *w);
void vh_worker_free(struct vh_worker *w);
void vh_worker_wake(struct vh_worker *w);
void vh_worker_nap(struct vh_worker *w, u32 us);
bool vh_worker_poll(struct vh_ring *r);
int vh_kick_begin(struct vh_kick *k, struct file *file, struct vh_worker *worker);
struct file *vh_kick_end(struct vh_kick *k);

/* to_guest.c, from_guest.c: a worker's turn. True: there is more to do. */
bool vh_to_guest(struct vh_dev *dev);
bool vh_from_guest(struct vh_dev *dev);
void vh_answer(struct vh_dev *dev);
void vh_drive(struct vh_dev *dev);
bool vh_write(struct vst_flow *flow, const struct vst_write *w);
void vh_forget_current(struct vh_dev *dev);
void vh_free_scratch(struct vh_dev *dev);

/* start.c: what makes a guest reachable, and what ends that */
int vh_start(struct vh_dev *dev);
void vh_stop(struct vh_dev *dev);
void vh_break(struct vh_dev *dev, struct vh_ring *r, enum vsp_reject why);
void vh_end(struct vh_dev *dev);

/* main.c: the table of guests */
extern struct vst_side vh_side;
int vh_guest_enter(struct vh_dev *dev, u32 cid);
void vh_guest_leave(struct vh_dev *dev);

/* dev.c */
extern const struct file_operations vh_dev_fops;

#endif
