// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - vhost_vsock.ko: the transport from the host to its guests, and the table of guests
 */
#include <linux/debugfs.h>
#include <linux/hash.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "host.h"

static DEFINE_MUTEX(guests_lock);
static struct hlist_head guests[1 << VH_HASH_BITS];
static struct dentry *debug_dir;

struct vst_side vh_side;

static struct hlist_head *bucket(u32 cid)
{
	return &guests[hash_32(cid, VH_HASH_BITS)];
}

/* Under RCU or guests_lock. */
static struct vh_dev *find_guest(u32 cid)
{
	struct vh_dev *dev;

	hlist_for_each_entry_rcu(dev, bucket(cid), hash, lockdep_is_held(&guests_lock)) {
		if (READ_ONCE(dev->cid) == cid)
			return dev;
	}
	return NULL;
}

/**
 * vh_guest_enter - a guest gets a CID
 * @dev: the guest
 * @cid: a CID that is not reserved
 *
 * Connections of another CID that it had before end. Return: 0, or -EADDRINUSE.
 */
int vh_guest_enter(struct vh_dev *dev, u32 cid)
{
	struct vh_dev *other;

	/* A CID of this machine, if it is a guest itself, is reached by the loopback. */
	if (vsock_find_cid(cid))
		return -EADDRINUSE;
	mutex_lock(&guests_lock);
	other = find_guest(cid);
	if (other) {
		mutex_unlock(&guests_lock);
		return other == dev ? 0 : -EADDRINUSE;
	}
	if (dev->cid) {
		hlist_del_rcu(&dev->hash);
		/* A reader that still walks the old chain must not be led into the new one. */
		synchronize_rcu();
	}
	WRITE_ONCE(dev->cid, cid);
	WRITE_ONCE(dev->link.peer_cid, cid);
	vst_link_reset(&dev->link);
	/* It hears of its new CID by an event, and asks again. */
	vst_dgram_forget(&dev->link, dev->link.dgrams.offered);
	hlist_add_head_rcu(&dev->hash, bucket(cid));
	mutex_unlock(&guests_lock);
	return 0;
}

/* No new connection finds it. */
void vh_guest_leave(struct vh_dev *dev)
{
	mutex_lock(&guests_lock);
	if (dev->cid)
		hlist_del_rcu(&dev->hash);
	mutex_unlock(&guests_lock);
}

/* ---- the transport ---- */

static struct vst_link *route(u32 remote_cid)
{
	struct vst_link *link = ERR_PTR(-ENODEV);
	struct vh_dev *dev;

	rcu_read_lock();
	dev = find_guest(remote_cid);
	if (dev && !READ_ONCE(dev->reachable))
		link = ERR_PTR(-EHOSTUNREACH);
	else if (dev && vst_link_tryget(&dev->link))
		link = &dev->link;
	rcu_read_unlock();
	return link;
}

static u32 get_local_cid(void)
{
	return VSP_CID_HOST;
}

static int host_init(struct vsock_sock *vsk, struct vsock_sock *psk)
{
	return vst_sock_init(&vh_side, vsk, psk);
}

static bool may_carry(u32 cid, enum vsp_type type)
{
	bool may = true;
	struct vh_dev *dev;

	rcu_read_lock();
	dev = find_guest(cid);
	if (dev)
		may = READ_ONCE(dev->link.types) & VSP_TYPES(type);
	rcu_read_unlock();
	return may;
}

static bool host_stream_allow(VST_ALLOW_ARGS)
{
	return vst_ns_global() && may_carry(cid, VSP_TYPE_STREAM);
}

static bool host_seqpacket_allow(VST_ALLOW_CID_ARGS)
{
	return vst_ns_global() && may_carry(cid, VSP_TYPE_SEQPACKET);
}

#ifdef VST_HAVE_REMOTE_CID
/* A CID that no guest of ours has may be a sibling's, where this host is itself a guest. */
static bool host_has_remote_cid(struct vsock_sock *vsk, u32 cid)
{
	bool has;

	rcu_read_lock();
	has = find_guest(cid);
	rcu_read_unlock();
	return has;
}
#endif

/* ---- counters: debugfs vhost_vsock/guests, a line "CID NAME VALUE" for each ---- */

static void show_guest(struct seq_file *m, struct vh_dev *dev)
{
	const struct vh_worker *w = &dev->rings[VH_FROM_GUEST].worker;
	u32 i;

	for (i = 0; i < NUM_VST_STATS; i++)
		seq_printf(m, "%u %s %lld\n", dev->cid, vst_stat_name(i), atomic64_read(&dev->link.stats[i]));
	for (i = VSP_OK + 1; i < NUM_VSP_REJECTS; i++)
		seq_printf(m, "%u rejects/%s %lld\n", dev->cid, vsp_reject_name(i),
			   atomic64_read(&dev->link.rejects[i]));
	seq_printf(m, "%u polls_won %llu\n", dev->cid, READ_ONCE(w->polls_won));
	seq_printf(m, "%u polls_lost %llu\n", dev->cid, READ_ONCE(w->polls_lost));
}

static int guests_show(struct seq_file *m, void *unused)
{
	struct vh_dev *dev;
	u32 i;

	mutex_lock(&guests_lock);
	for (i = 0; i < ARRAY_SIZE(guests); i++) {
		hlist_for_each_entry(dev, &guests[i], hash)
			show_guest(m, dev);
	}
	mutex_unlock(&guests_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(guests);

/* ---- the module ---- */

static struct miscdevice misc = {
	.minor = VHOST_VSOCK_MINOR,
	.name = "vhost-vsock",
	.fops = &vh_dev_fops,
};

static int __init vh_init(void)
{
	int err;

	vh_side.way = VST_DGRAM_TO_GUEST;
	vh_side.route = route;
	vh_side.ops = vst_sock_ops;
	vh_side.ops.module = THIS_MODULE;
	vh_side.ops.init = host_init;
	vh_side.ops.get_local_cid = get_local_cid;
	vh_side.ops.stream_allow = host_stream_allow;
	vh_side.ops.seqpacket_allow = host_seqpacket_allow;
#ifdef VST_HAVE_REMOTE_CID
	vh_side.ops.has_remote_cid = host_has_remote_cid;
#endif
	err = vst_side_register(&vh_side);
	if (err)
		return err;
	err = misc_register(&misc);
	if (err)
		goto unregister_side;
	debug_dir = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("guests", 0400, debug_dir, NULL, &guests_fops);
	return 0;

unregister_side:
	vst_side_unregister(&vh_side);
	return err;
}

static void __exit vh_exit(void)
{
	debugfs_remove_recursive(debug_dir);
	misc_deregister(&misc);
	vst_side_unregister(&vh_side);
}

module_init(vh_init);
module_exit(vh_exit);

MODULE_ALIAS_MISCDEV(VHOST_VSOCK_MINOR);
MODULE_ALIAS("devname:vhost-vsock");
MODULE_DESCRIPTION("Sluice: vhost-vsock host device");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1");
