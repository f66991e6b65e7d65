// SPDX-License-Identifier: GPL-2.0-only
/*
 * worker.c - the thread that serves a ring, and the eventfd that wakes it
 *
 * A kernel thread with the owner's memory and in the owner's control groups. When the device closes it is interrupted
 * even in a page fault of that memory: the one who could serve the fault may be the process that is closing.
 */
#include <linux/cgroup.h>
#include <linux/delay.h>
#include <linux/file.h>
#include <linux/kthread.h>
#include <linux/moduleparam.h>
#include <linux/sched/clock.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/sched/task.h>
#include <uapi/linux/sched/types.h>

#include "host.h"

static unsigned int poll_us = VH_POLL_US;

static int set_poll_us(const char *value, const struct kernel_param *param)
{
	return param_set_uint_minmax(value, param, 0, VH_POLL_MAX_US);
}

static const struct kernel_param_ops poll_us_ops = { .set = set_poll_us, .get = param_get_uint };
module_param_cb(poll_us, &poll_us_ops, &poll_us, 0644);
MODULE_PARM_DESC(poll_us, "microseconds that a thread looks for packets before it sleeps, up to 100000 (default 200)");

static u64 poll_ns(void)
{
	return (u64)READ_ONCE(poll_us) * NSEC_PER_USEC;
}

static void poll_won(struct vh_worker *w)
{
	WRITE_ONCE(w->polls_won, w->polls_won + 1);
	w->poll_after /= 2;
}

static void poll_lost(struct vh_worker *w)
{
	WRITE_ONCE(w->polls_lost, w->polls_lost + 1);
	w->poll_after = min(2 * w->poll_after + 1, VH_POLL_AFTER_MAX);
	w->soon = 0;
}

/**
 * vh_worker_poll - look for more for a moment before it is asked for
 * @r: the ring; called by its thread, whose turn found nothing
 *
 * To be woken, and to have the guest wake us, costs more than a moment. But that is worth something only where more is
 * to be expected: if it came as soon the last time. Whoever else wants the processor has it; what came while another
 * had it is found when we are back. Where processors are themselves threads that share fewer, one that looks takes the
 * time of who is to send: whoever looks in vain does so less and less.
 */
bool vh_worker_poll(struct vh_ring *r)
{
	struct vh_worker *w = &r->worker;
	u64 ns = poll_ns(), until;

	/* The clock is not free. */
	if (!ns)
		return false;
	w->idle_since = local_clock();
	until = w->idle_since + ns;
	while (w->poll_pays) {
		if (vh_ring_came(r) || READ_ONCE(w->dev->told)) {
			poll_won(w);
			return true;
		}
		w->poll_pays = single_task_running() && !need_resched() && !signal_pending(current);
		if (local_clock() >= until) {
			poll_lost(w);
			w->poll_pays = false;
		}
		cpu_relax();
	}
	return false;
}

/**
 * vh_worker_nap - let more come, for a moment
 * @w: the worker; called by its thread, without locks
 * @us: how long, in microseconds, unless it is woken before
 */
void vh_worker_nap(struct vh_worker *w, u32 us)
{
	ktime_t until = ns_to_ktime(us * NSEC_PER_USEC);

	/* Pairs with vh_worker_wake(), as in run(). */
	set_current_state(TASK_INTERRUPTIBLE);
	if (!test_bit(0, &w->pending))
		schedule_hrtimeout_range(&until, us * NSEC_PER_USEC, HRTIMER_MODE_REL);
	__set_current_state(TASK_RUNNING);
}

/* Did work come so soon that polling would have found it? If it does so often, it is looked for the next time. */
static void note_pause(struct vh_worker *w)
{
	u64 ns = poll_ns();

	if (!w->idle_since)
		return;
	if (local_clock() - w->idle_since >= ns)
		w->soon = 0;
	else if (w->soon++ >= w->poll_after)
		w->poll_pays = true;
}

/*
 * A guest that does nothing but kick would have a processor for each thread all the time, which others could use. Kicks
 * that come meanwhile are one. Writers may use buffers without the thread.
 */
static void rest(struct vh_worker *w, bool was_kicked, bool used)
{
	if (used)
		w->vain_kicks = 0;
	else if (was_kicked && w->vain_kicks < VH_VAIN_KICKS)
		w->vain_kicks++;
	else if (was_kicked)
		usleep_range(VH_VAIN_US, 2 * VH_VAIN_US);
}

static int run(void *data)
{
	struct vh_worker *w = data;
	const struct vh_ring *r = container_of(w, struct vh_ring, worker);
	bool was_kicked;
	u16 before;

	allow_kernel_signal(SIGKILL);
	kthread_use_mm(w->dev->mm);
	for (;;) {
		/* Pairs with vh_worker_wake(): the bit is looked at after the state is set. */
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		if (!test_and_clear_bit(0, &w->pending)) {
			schedule();
			continue;
		}
		__set_current_state(TASK_RUNNING);
		note_pause(w);
		was_kicked = xchg(&w->kicked, false);
		before = READ_ONCE(r->last_avail);
		if (w->turn(w->dev))
			set_bit(0, &w->pending);
		rest(w, was_kicked, READ_ONCE(r->last_avail) != before);
		cond_resched();
	}
	__set_current_state(TASK_RUNNING);
	kthread_unuse_mm(w->dev->mm);
	return 0;
}

/**
 * vh_worker_start - a thread for @dev, whose mm the caller owns
 * @w: zeroed memory
 * @dev: the device
 * @turn: what it does when it is woken
 * @policy: SCHED_NORMAL, or SCHED_BATCH: it does not take the processor from those who wake it
 *
 * Return: 0 or an error. Waking it before is harmless.
 */
int vh_worker_start(struct vh_worker *w, struct vh_dev *dev, bool (*turn)(struct vh_dev *dev), u32 policy)
{
	const struct sched_attr attr = { .size = sizeof(attr), .sched_policy = policy };
	struct task_struct *task;
	int err;

	w->dev = dev;
	w->turn = turn;
	task = kthread_create(run, w, "vhost-%d", current->pid);
	if (IS_ERR(task))
		return PTR_ERR(task);
	err = sched_setattr_nocheck(task, &attr) ?: cgroup_attach_task_all(current, task);
	if (err) {
		kthread_stop(task);
		return err;
	}
	get_task_struct(task);
	smp_store_release(&w->task, task);
	/* It looks for work at once: whoever came before it has set the bit. */
	wake_up_process(task);
	return 0;
}

/* The thread ends. Waking it stays harmless until vh_worker_free(). */
void vh_worker_stop(struct vh_worker *w)
{
	if (!w->task)
		return;
	send_sig(SIGKILL, w->task, 1);
	kthread_stop(w->task);
}

/* Nobody wakes it any more. */
void vh_worker_free(struct vh_worker *w)
{
	if (w->task)
		put_task_struct(w->task);
	w->task = NULL;
}

/* There may be something to do. From any context. */
void vh_worker_wake(struct vh_worker *w)
{
	struct task_struct *task;

	if (test_and_set_bit(0, &w->pending))
		return;
	/* Pairs with vh_worker_start(). */
	task = smp_load_acquire(&w->task);
	if (task)
		wake_up_process(task);
}

/* ---- kicks ---- */

static int kicked(wait_queue_entry_t *entry, unsigned int mode, int sync, void *key)
{
	struct vh_kick *k = container_of(entry, struct vh_kick, entry);

	if (key_to_poll(key) & EPOLLIN) {
		WRITE_ONCE(k->worker->kicked, true);
		vh_worker_wake(k->worker);
	}
	return 0;
}

static void enqueue(struct file *file, wait_queue_head_t *queue, poll_table *table)
{
	struct vh_kick *k = container_of(table, struct vh_kick, table);

	k->queue = queue;
	add_wait_queue(queue, &k->entry);
}

/* Kicks come from @file, whose reference is taken over, from now on. @k is zeroed or was ended. */
int vh_kick_begin(struct vh_kick *k, struct file *file, struct vh_worker *worker)
{
	__poll_t mask;

	k->worker = worker;
	k->file = file;
	k->queue = NULL;
	init_waitqueue_func_entry(&k->entry, kicked);
	init_poll_funcptr(&k->table, enqueue);
	mask = vfs_poll(file, &k->table);
	if (mask & EPOLLERR)
		return -EINVAL;
	if (mask & EPOLLIN)
		vh_worker_wake(worker);
	return 0;
}

/* No more kicks. Returns the file to be put, or NULL. */
struct file *vh_kick_end(struct vh_kick *k)
{
	struct file *file = k->file;

	if (k->queue)
		remove_wait_queue(k->queue, &k->entry);
	k->queue = NULL;
	k->file = NULL;
	return file;
}
