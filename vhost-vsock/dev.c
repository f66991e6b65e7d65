// SPDX-License-Identifier: GPL-2.0-only
/*
 * dev.c - /dev/vhost-vsock: the ioctls of the stock device, with its errors
 *
 * Not here: VIRTIO_F_ACCESS_PLATFORM, so no IOTLB messages, no read() and no write(); and byte orders other than the
 * little one.
 */
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "host.h"

/* Features that say what types of sockets there are. */
enum { TYPE_FEATURES = BIT(VSP_F_STREAM) | BIT(VSP_F_SEQPACKET) | BIT(VSP_F_NO_IMPLIED_STREAM) };

static u64 offered(void)
{
	return TYPE_FEATURES | BIT_ULL(VH_F_NOTIFY_ON_EMPTY) | BIT_ULL(VHOST_F_LOG_ALL) | BIT_ULL(VH_F_ANY_LAYOUT) |
	       BIT_ULL(VH_F_INDIRECT) | BIT_ULL(VH_F_EVENT_IDX) | BIT_ULL(VH_F_VERSION_1) |
	       (vst_dgram_types() ? BIT_ULL(VSP_F_DGRAM) : 0);
}

/* ---- birth and death ---- */

/* The last reference to the link went; perhaps with a lock held. */
static void free_link(struct vst_link *link)
{
	struct vh_dev *dev = vh_dev_of(link);
	int i;

	for (i = 0; i < NUM_VH_RINGS; i++)
		vh_worker_free(&dev->rings[i].worker);
	/* Somebody may be looking it up. */
	kfree_rcu(dev, rcu);
}

static bool is_taker(const struct vh_dev *dev)
{
	return READ_ONCE(dev->taker) == current && in_task();
}

/* Answers to packets that came together leave together. */
static void pump(struct vst_link *link)
{
	struct vh_dev *dev = vh_dev_of(link);

	if (is_taker(dev))
		dev->answers = true;
	else
		vh_worker_wake(&dev->rings[VH_TO_GUEST].worker);
}

/* For a header it is not worth waking a thread that sleeps while another is at work. */
static void tell(struct vst_link *link)
{
	struct vh_dev *dev = vh_dev_of(link);

	WRITE_ONCE(dev->told, true);
	if (!is_taker(dev))
		vh_worker_wake(&dev->rings[VH_FROM_GUEST].worker);
}

static void drive(struct vst_link *link)
{
	vh_drive(vh_dev_of(link));
}

static void resume_rx(struct vst_link *link)
{
	vh_worker_wake(&vh_dev_of(link)->rings[VH_FROM_GUEST].worker);
}

static const struct vst_link_ops link_ops = {
	.pump = pump,
	.tell = tell,
	.drive = drive,
	.write = vh_write,
	.looks_again = true,
	.splits = true,
	.resume_rx = resume_rx,
	.free = free_link,
};

/* The parts that only a device that is open needs. */
static bool get_parts(struct vh_dev *dev)
{
	/* Who opens the device hears of it. */
	gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
	int i;

	dev->spare = kvmalloc(VSP_MAX_PAYLOAD, gfp);
	for (i = 0; i < NUM_VH_RINGS; i++)
		dev->rings[i].segs = kvmalloc_array(VH_SEGS_MAX, sizeof(struct vh_seg), gfp);
	return dev->spare && dev->rings[VH_TO_GUEST].segs && dev->rings[VH_FROM_GUEST].segs;
}

static void put_parts(struct vh_dev *dev)
{
	int i;

	for (i = 0; i < NUM_VH_RINGS; i++) {
		struct vh_ring *r = &dev->rings[i];

		if (r->call)
			eventfd_ctx_put(r->call);
		if (r->err)
			eventfd_ctx_put(r->err);
		kvfree(r->segs);
	}
	if (dev->log_ctx)
		eventfd_ctx_put(dev->log_ctx);
	kvfree(dev->mem);
	vh_free_scratch(dev);
}

static int vh_open(struct inode *inode, struct file *file)
{
	struct vh_dev *dev = kzalloc(sizeof(*dev), GFP_KERNEL_ACCOUNT);
	int i;

	if (!dev)
		return -ENOMEM;
	vst_link_init(&dev->link, &vh_side, &link_ops, VSP_CID_HOST);
	dev->link.types |= vst_dgram_types();
	/* Payload is copied from wherever it lies. */
	dev->link.zerocopy = true;
	mutex_init(&dev->lock);
	INIT_LIST_HEAD(&dev->gathered);
	for (i = 0; i < NUM_VH_RINGS; i++) {
		mutex_init(&dev->rings[i].lock);
		dev->rings[i].stopped_at = -1;
	}
	if (!get_parts(dev)) {
		put_parts(dev);
		vst_link_put(&dev->link);
		return -ENOMEM;
	}
	file->private_data = dev;
	return 0;
}

static int vh_release(struct inode *inode, struct file *file)
{
	struct vh_dev *dev = file->private_data;
	struct file *kick;
	int i;

	vh_guest_leave(dev);
	for (i = 0; i < NUM_VH_RINGS; i++) {
		kick = vh_kick_end(&dev->rings[i].kick);
		if (kick)
			fput(kick);
	}
	vh_end(dev);
	vh_near_free(&dev->rings[VH_TO_GUEST], dev->mm);
	put_parts(dev);
	if (dev->mm)
		mmput(dev->mm);
	vst_link_put(&dev->link);
	return 0;
}

/* ---- the device as a whole ---- */

static int set_owner(struct vh_dev *dev)
{
	int err;

	if (dev->mm)
		return -EBUSY;
	dev->mm = get_task_mm(current);
	if (!dev->mm)
		return -ESRCH;
	/* Programs on the host wake it, who go on writing: what they write meanwhile goes together. */
	err = vh_worker_start(&dev->rings[VH_TO_GUEST].worker, dev, vh_to_guest, SCHED_BATCH);
	if (err)
		goto put_mm;
	err = vh_worker_start(&dev->rings[VH_FROM_GUEST].worker, dev, vh_from_guest, SCHED_NORMAL);
	if (!err) {
		vh_near_new(&dev->rings[VH_TO_GUEST], dev->mm);
		return 0;
	}
	vh_worker_stop(&dev->rings[VH_TO_GUEST].worker);
	vh_worker_free(&dev->rings[VH_TO_GUEST].worker);
put_mm:
	mmput(dev->mm);
	dev->mm = NULL;
	return err;
}

static int check_owner(const struct vh_dev *dev)
{
	return dev->mm && dev->mm == current->mm ? 0 : -EPERM;
}

static int set_features(struct vh_dev *dev, u64 features)
{
	int i;

	if (features & ~offered())
		return -EOPNOTSUPP;
	/* One that does not run is checked when it is started. */
	if (dev->running && (features & BIT_ULL(VHOST_F_LOG_ALL)) && !vh_log_fits(dev->mem, dev->rings[0].log_base))
		return -EFAULT;
	dev->features = features;
	/* Datagrams need no feature: a guest may ask for them in band. */
	WRITE_ONCE(dev->link.types, vsp_types_for(features & TYPE_FEATURES) | vst_dgram_types());
	for (i = 0; i < NUM_VH_RINGS; i++) {
		struct vh_ring *r = &dev->rings[i];

		mutex_lock(&r->lock);
		vh_near_drop(r);
		r->indirect = features & BIT_ULL(VH_F_INDIRECT);
		r->event_idx = features & BIT_ULL(VH_F_EVENT_IDX);
		r->on_empty = features & BIT_ULL(VH_F_NOTIFY_ON_EMPTY);
		r->log_data = features & BIT_ULL(VHOST_F_LOG_ALL);
		mutex_unlock(&r->lock);
	}
	return 0;
}

static int set_mem_table(struct vh_dev *dev, const struct vhost_memory __user *argp)
{
	struct vh_mem *mem = vh_mem_read(argp), *old = dev->mem;
	int i;

	if (IS_ERR(mem))
		return PTR_ERR(mem);
	if (dev->running && (dev->features & BIT_ULL(VHOST_F_LOG_ALL)) && !vh_log_fits(mem, dev->rings[0].log_base)) {
		kvfree(mem);
		return -EFAULT;
	}
	dev->mem = mem;
	for (i = 0; i < NUM_VH_RINGS; i++) {
		mutex_lock(&dev->rings[i].lock);
		vh_near_drop(&dev->rings[i]);
		dev->rings[i].mem = mem;
		mutex_unlock(&dev->rings[i].lock);
	}
	kvfree(old);
	return 0;
}

static int set_log_base(struct vh_dev *dev, u64 base)
{
	int i;

	if (base > ULONG_MAX)
		return -EFAULT;
	if (dev->running && (dev->features & BIT_ULL(VHOST_F_LOG_ALL)) && !vh_log_fits(dev->mem, base))
		return -EFAULT;
	for (i = 0; i < NUM_VH_RINGS; i++) {
		mutex_lock(&dev->rings[i].lock);
		dev->rings[i].log_base = base;
		mutex_unlock(&dev->rings[i].lock);
	}
	return 0;
}

/* An eventfd, or NULL to unbind. */
static struct eventfd_ctx *event_of(int fd)
{
	return fd == VHOST_FILE_UNBIND ? NULL : eventfd_ctx_fdget(fd);
}

static int set_log_fd(struct vh_dev *dev, int fd)
{
	struct eventfd_ctx *ctx = event_of(fd), *old = dev->log_ctx;
	int i;

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	dev->log_ctx = ctx;
	for (i = 0; i < NUM_VH_RINGS; i++) {
		mutex_lock(&dev->rings[i].lock);
		dev->rings[i].log_ctx = ctx;
		mutex_unlock(&dev->rings[i].lock);
	}
	if (old)
		eventfd_ctx_put(old);
	return 0;
}

/* ---- a ring ---- */

static int set_num(struct vh_ring *r, u32 num)
{
	if (r->running)
		return -EBUSY;
	if (!vsp_ring_size_valid(num))
		return -EINVAL;
	r->size = num;
	return 0;
}

static int set_addr(struct vh_ring *r, const struct vhost_vring_addr *a)
{
	if (a->flags & ~BIT(VHOST_VRING_F_LOG))
		return -EOPNOTSUPP;
	if (a->desc_user_addr > ULONG_MAX || a->avail_user_addr > ULONG_MAX || a->used_user_addr > ULONG_MAX)
		return -EFAULT;
	if (a->avail_user_addr % VRING_AVAIL_ALIGN_SIZE || a->used_user_addr % VRING_USED_ALIGN_SIZE ||
	    a->log_guest_addr % VRING_USED_ALIGN_SIZE)
		return -EINVAL;
	if (r->running && !vh_ring_accessible(r->size, a->desc_user_addr, a->avail_user_addr, a->used_user_addr))
		return -EINVAL;
	r->desc = a->desc_user_addr;
	r->avail = a->avail_user_addr;
	r->used = a->used_user_addr;
	r->log_addr = a->log_guest_addr;
	r->log_used = a->flags & BIT(VHOST_VRING_F_LOG);
	return 0;
}

static int set_base(struct vh_ring *r, u32 num)
{
	if (r->running)
		return -EBUSY;
	if (num > U16_MAX)
		return -EINVAL;
	r->last_avail = num;
	return 0;
}

/* An eventfd takes the place of another; the old one is left in *@ctx, to be put without the lock. */
static int set_event(struct vh_ring *r, struct eventfd_ctx **slot, int fd)
{
	struct eventfd_ctx *ctx = event_of(fd);

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	swap(*slot, ctx);
	if (ctx)
		eventfd_ctx_put(ctx);
	return 0;
}

static int set_kick(struct vh_ring *r, int fd)
{
	struct file *file = NULL, *old;
	int err = 0;

	if (fd != VHOST_FILE_UNBIND) {
		file = eventfd_fget(fd);
		if (IS_ERR(file))
			return PTR_ERR(file);
	}
	old = vh_kick_end(&r->kick);
	if (old)
		fput(old);
	if (file)
		err = vh_kick_begin(&r->kick, file, &r->worker);
	return err;
}

/* What the ioctls of a ring take and, some, give. They all begin with the ring's index. */
union vring_arg {
	struct vhost_vring_state state;
	struct vhost_vring_file file;
	struct vhost_vring_addr addr;
};

static int vring_set(struct vh_ring *r, unsigned int cmd, const union vring_arg *arg)
{
	switch (cmd) {
	case VHOST_SET_VRING_NUM:
		return set_num(r, arg->state.num);
	case VHOST_SET_VRING_BASE:
		return set_base(r, arg->state.num);
	case VHOST_SET_VRING_ADDR:
		return set_addr(r, &arg->addr);
	case VHOST_SET_VRING_KICK:
		return set_kick(r, arg->file.fd);
	case VHOST_SET_VRING_CALL:
		return set_event(r, &r->call, arg->file.fd);
	case VHOST_SET_VRING_ERR:
		return set_event(r, &r->err, arg->file.fd);
	case VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
		r->busyloop = arg->state.num;
		return 0;
	default:
		return -ENOIOCTLCMD;
	}
}

static size_t vring_arg_size(unsigned int cmd)
{
	switch (cmd) {
	case VHOST_SET_VRING_ADDR:
		return sizeof(struct vhost_vring_addr);
	case VHOST_SET_VRING_KICK:
	case VHOST_SET_VRING_CALL:
	case VHOST_SET_VRING_ERR:
		return sizeof(struct vhost_vring_file);
	default:
		return sizeof(struct vhost_vring_state);
	}
}

static int vring_get(struct vh_ring *r, unsigned int cmd, u32 index, void __user *argp)
{
	struct vhost_vring_state state = { .index = index };

	state.num = cmd == VHOST_GET_VRING_BASE ? r->last_avail : r->busyloop;
	return copy_to_user(argp, &state, sizeof(state)) ? -EFAULT : 0;
}

static int vring_ioctl(struct vh_dev *dev, unsigned int cmd, void __user *argp)
{
	bool get = cmd == VHOST_GET_VRING_BASE || cmd == VHOST_GET_VRING_BUSYLOOP_TIMEOUT;
	union vring_arg arg;
	struct vh_ring *r;
	u32 index;
	int err;

	if (get_user(index, (u32 __user *)argp))
		return -EFAULT;
	if (index >= NUM_VH_RINGS)
		return -ENOBUFS;
	if (!get && copy_from_user(&arg, argp, vring_arg_size(cmd)))
		return -EFAULT;
	r = &dev->rings[array_index_nospec(index, NUM_VH_RINGS)];
	mutex_lock(&r->lock);
	vh_near_drop(r);
	err = get ? vring_get(r, cmd, index, argp) : vring_set(r, cmd, &arg);
	mutex_unlock(&r->lock);
	return err;
}

/* ---- the ioctls ---- */

static int owner_ioctl(struct vh_dev *dev, unsigned int cmd, void __user *argp)
{
	u64 base;
	int err, fd;

	if (cmd == VHOST_SET_OWNER)
		return set_owner(dev);
	err = check_owner(dev);
	if (err)
		return err;
	switch (cmd) {
	case VHOST_SET_MEM_TABLE:
		return set_mem_table(dev, argp);
	case VHOST_SET_LOG_BASE:
		return copy_from_user(&base, argp, sizeof(base)) ? -EFAULT : set_log_base(dev, base);
	case VHOST_SET_LOG_FD:
		return get_user(fd, (int __user *)argp) ? -EFAULT : set_log_fd(dev, fd);
	default:
		return vring_ioctl(dev, cmd, argp);
	}
}

static int set_running(struct vh_dev *dev, int start)
{
	int err = check_owner(dev);

	if (!err && start)
		return vh_start(dev);
	if (!err)
		vh_stop(dev);
	return err;
}

static int set_guest_cid(struct vh_dev *dev, u64 cid)
{
	return vsp_guest_cid_valid(cid) ? vh_guest_enter(dev, cid) : -EINVAL;
}

/* With the device's lock held. */
static int locked_ioctl(struct vh_dev *dev, unsigned int cmd, void __user *argp)
{
	u64 value = 0;
	int start;

	switch (cmd) {
	case VHOST_VSOCK_SET_GUEST_CID:
		return copy_from_user(&value, argp, sizeof(value)) ? -EFAULT : set_guest_cid(dev, value);
	case VHOST_VSOCK_SET_RUNNING:
		return copy_from_user(&start, argp, sizeof(start)) ? -EFAULT : set_running(dev, start);
	case VHOST_GET_FEATURES:
		value = offered();
		return copy_to_user(argp, &value, sizeof(value)) ? -EFAULT : 0;
	case VHOST_SET_FEATURES:
		return copy_from_user(&value, argp, sizeof(value)) ? -EFAULT : set_features(dev, value);
	case VHOST_GET_BACKEND_FEATURES:
		return copy_to_user(argp, &value, sizeof(value)) ? -EFAULT : 0;
	case VHOST_SET_BACKEND_FEATURES:
		if (copy_from_user(&value, argp, sizeof(value)))
			return -EFAULT;
		return value ? -EOPNOTSUPP : 0;
	default:
		return owner_ioctl(dev, cmd, argp);
	}
}

static long vh_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vh_dev *dev = file->private_data;
	int err;

	mutex_lock(&dev->lock);
	err = locked_ioctl(dev, cmd, (void __user *)arg);
	mutex_unlock(&dev->lock);
	return err;
}

const struct file_operations vh_dev_fops = {
	.owner = THIS_MODULE,
	.open = vh_open,
	.release = vh_release,
	.llseek = noop_llseek,
	.unlocked_ioctl = vh_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
