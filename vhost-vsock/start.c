// SPDX-License-Identifier: GPL-2.0-only
/*
 * start.c - what makes a guest reachable, and what ends that
 *
 * A device that stops and goes on where it was has been paused: its connections wait, and what was queued for them is
 * kept. One whose rings begin elsewhere belongs to a guest that has booted anew: nothing of before may reach it. A
 * guest that breaks its rings loses all its connections.
 */
#include "host.h"

/* Every connection ends; nothing that waits will be sent. */
static void reset_link(struct vh_dev *dev)
{
	vst_link_down(&dev->link);
	vst_link_reset(&dev->link);
}

/**
 * vh_break - the guest broke a rule on a ring, or its memory is gone
 * @dev: the device
 * @r: the ring, locked
 * @why: the rule
 */
void vh_break(struct vh_dev *dev, struct vh_ring *r, enum vsp_reject why)
{
	lockdep_assert_held(&r->lock);
	r->broken = true;
	vh_near_drop(r);
	WRITE_ONCE(dev->reachable, false);
	vst_link_reject(&dev->link, why);
	if (r->err)
		vst_eventfd_signal(r->err);
	reset_link(dev);
}

static bool can_start(const struct vh_ring *r)
{
	return r->mem && r->size && vh_ring_accessible(r->size, r->desc, r->avail, r->used) &&
	       (!r->log_data || vh_log_fits(r->mem, r->log_base));
}

static int check_rings(struct vh_dev *dev)
{
	int i, err = 0;

	for (i = 0; i < NUM_VH_RINGS && !err; i++) {
		struct vh_ring *r = &dev->rings[i];

		mutex_lock(&r->lock);
		err = can_start(r) ? 0 : -EFAULT;
		mutex_unlock(&r->lock);
	}
	return err;
}

/* Was the guest away for longer than a pause? */
static bool is_fresh(struct vh_dev *dev)
{
	bool fresh = !READ_ONCE(dev->link.up);
	int i;

	for (i = 0; i < NUM_VH_RINGS; i++) {
		struct vh_ring *r = &dev->rings[i];

		mutex_lock(&r->lock);
		fresh |= r->last_avail != r->stopped_at;
		mutex_unlock(&r->lock);
	}
	return fresh;
}

static void forget_guest(struct vh_dev *dev)
{
	struct vh_ring *to_guest = &dev->rings[VH_TO_GUEST], *from_guest = &dev->rings[VH_FROM_GUEST];

	reset_link(dev);
	mutex_lock(&to_guest->lock);
	vh_forget_current(dev);
	mutex_unlock(&to_guest->lock);
	mutex_lock(&from_guest->lock);
	vst_dgram_link_stop(&dev->link);
	mutex_unlock(&from_guest->lock);
	vst_dgram_forget(&dev->link, dev->features & BIT_ULL(VSP_F_DGRAM));
}

static void stop_rings(struct vh_dev *dev)
{
	int i;

	for (i = 0; i < NUM_VH_RINGS; i++) {
		struct vh_ring *r = &dev->rings[i];

		mutex_lock(&r->lock);
		vh_ring_stop(r);
		mutex_unlock(&r->lock);
	}
}

static int start_rings(struct vh_dev *dev)
{
	bool ok = true;
	int i;

	for (i = 0; i < NUM_VH_RINGS && ok; i++) {
		struct vh_ring *r = &dev->rings[i];

		mutex_lock(&r->lock);
		ok = vh_ring_start(r);
		mutex_unlock(&r->lock);
	}
	if (!ok)
		stop_rings(dev);
	return ok ? 0 : -EFAULT;
}

/* VHOST_VSOCK_SET_RUNNING 1. The device's lock is held, by its owner. */
int vh_start(struct vh_dev *dev)
{
	int i, err;

	lockdep_assert_held(&dev->lock);
	if (dev->running)
		return 0;
	err = check_rings(dev);
	if (err)
		return err;
	if (is_fresh(dev)) {
		forget_guest(dev);
		/* Before the rings: what comes first must not find the link down. */
		vst_link_up(&dev->link);
	}
	err = start_rings(dev);
	if (err)
		return err;
	dev->running = true;
	WRITE_ONCE(dev->reachable, true);
	for (i = 0; i < NUM_VH_RINGS; i++)
		vh_worker_wake(&dev->rings[i].worker);
	return 0;
}

/* VHOST_VSOCK_SET_RUNNING 0: no worker touches a ring when this returns. */
void vh_stop(struct vh_dev *dev)
{
	lockdep_assert_held(&dev->lock);
	WRITE_ONCE(dev->reachable, false);
	dev->running = false;
	stop_rings(dev);
}

/* The device closes: every connection ends, and nothing uses the owner's memory any more. */
void vh_end(struct vh_dev *dev)
{
	int i;

	WRITE_ONCE(dev->reachable, false);
	/* First the workers: one may hold its ring's lock in a page fault that only this ends. */
	for (i = 0; i < NUM_VH_RINGS; i++)
		vh_worker_stop(&dev->rings[i].worker);
	mutex_lock(&dev->lock);
	vh_stop(dev);
	mutex_unlock(&dev->lock);
	forget_guest(dev);
}
