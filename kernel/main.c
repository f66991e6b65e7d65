// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - vst_common.ko: what it exports, and what it counts
 *
 * The module does nothing by itself; the guest driver and the host device use it.
 */
#include <linux/module.h>

#include "vst.h"
#include "proto/ring.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

atomic_t vst_live_flows = ATOMIC_INIT(0);
atomic_t vst_live_pkts = ATOMIC_INIT(0);
atomic_t vst_live_segs = ATOMIC_INIT(0);
atomic_t vst_live_links = ATOMIC_INIT(0);

static int get_live(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n", atomic_read(kp->arg));
}

static const struct kernel_param_ops live_ops = {
	.get = get_live,
};

module_param_cb(live_flows, &live_ops, &vst_live_flows, 0444);
MODULE_PARM_DESC(live_flows, "connections that exist now (read only)");
module_param_cb(live_pkts, &live_ops, &vst_live_pkts, 0444);
MODULE_PARM_DESC(live_pkts, "packets on their way to a peer now (read only)");
module_param_cb(live_segs, &live_ops, &vst_live_segs, 0444);
MODULE_PARM_DESC(live_segs, "received pieces waiting for a reader now (read only)");
module_param_cb(live_links, &live_ops, &vst_live_links, 0444);
MODULE_PARM_DESC(live_links, "devices and guests that exist now (read only)");

int vst_max_orphans = VST_ORPHANS_DEFAULT;
module_param_named(max_orphans, vst_max_orphans, int, 0644);
MODULE_PARM_DESC(max_orphans, "closed connections of a device or guest that may wait for its consent (default 1024)");

unsigned int vst_max_resets = VST_RESETS_DEFAULT;
module_param_named(max_resets, vst_max_resets, uint, 0644);
MODULE_PARM_DESC(max_resets, "ended connections of a device or guest whose reset may wait to be taken (default 8192)");

EXPORT_SYMBOL_GPL(vst_sock_ops);
EXPORT_SYMBOL_GPL(vst_sock_init);
EXPORT_SYMBOL_GPL(vst_side_register);
EXPORT_SYMBOL_GPL(vst_side_unregister);
EXPORT_SYMBOL_GPL(vst_link_init);
EXPORT_SYMBOL_GPL(vst_link_tryget);
EXPORT_SYMBOL_GPL(vst_link_put);
EXPORT_SYMBOL_GPL(vst_link_up);
EXPORT_SYMBOL_GPL(vst_link_down);
EXPORT_SYMBOL_GPL(vst_link_reset);
EXPORT_SYMBOL_GPL(vst_link_set_cid);
EXPORT_SYMBOL_GPL(vst_link_reject);
EXPORT_SYMBOL_GPL(vst_link_next);
EXPORT_SYMBOL_GPL(vst_link_gathers);
EXPORT_SYMBOL_GPL(vst_link_ready);
EXPORT_SYMBOL_GPL(vst_link_waiting);
EXPORT_SYMBOL_GPL(vst_pkt_done);
EXPORT_SYMBOL_GPL(vst_pkts_free);
EXPORT_SYMBOL_GPL(vst_may_write);
EXPORT_SYMBOL_GPL(vst_written);
EXPORT_SYMBOL_GPL(vst_payload_pages);
EXPORT_SYMBOL_GPL(vst_rx_ready);
EXPORT_SYMBOL_GPL(vst_rx_settle);
EXPORT_SYMBOL_GPL(vst_rx);
EXPORT_SYMBOL_GPL(vst_stat_name);
EXPORT_SYMBOL_GPL(vst_dgram_types);
EXPORT_SYMBOL_GPL(vst_dgram_forget);
EXPORT_SYMBOL_GPL(vst_dgram_discover);
EXPORT_SYMBOL_GPL(vst_dgram_link_stop);
EXPORT_SYMBOL_GPL(vst_dgram_refuses);
EXPORT_SYMBOL_GPL(vsp_reject_name);
EXPORT_SYMBOL_GPL(vsp_types_for);
EXPORT_SYMBOL_GPL(vsp_chain_begin);
EXPORT_SYMBOL_GPL(vsp_chain_step);
EXPORT_SYMBOL_GPL(vsp_dgram_piece_at);

static int __init vst_common_init(void)
{
	int err = vst_pkt_init();

	if (err)
		return err;
	err = vst_report_init();
	if (err)
		vst_pkt_exit();
	else
		vst_dgram_register();
	return err;
}

/* Flows and links are freed after a grace period, by code of this module. */
static void __exit vst_common_exit(void)
{
	vst_dgram_unregister();
	vst_report_exit();
	rcu_barrier();
	vst_pkt_exit();
}

module_init(vst_common_init);
module_exit(vst_common_exit);

MODULE_DESCRIPTION("Sluice: common part of the virtio-vsock guest driver and the vhost-vsock device");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1");
