/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - the only file that knows that kernels differ
 *
 * Force-included by Kbuild, whose VST_HAVE_* say what the target's headers have. The sources are written for the newest
 * kernel; what follows bends older ones to it.
 */
#ifndef VST_COMPAT_H
#define VST_COMPAT_H

#include <linux/version.h>
#include <linux/virtio_config.h>

/* 6.11: virtio_find_vqs() takes one array of structures. */
#ifndef VST_HAVE_VIRTQUEUE_INFO
struct virtqueue_info {
	const char *name;
	vq_callback_t *callback;
	bool ctx;
};

static inline int vst_find_vqs(struct virtio_device *vdev, unsigned int n, struct virtqueue *vqs[],
			       struct virtqueue_info info[])
{
	vq_callback_t *callbacks[8];
	const char *names[8];
	unsigned int i;

	for (i = 0; i < n && i < 8; i++) {
		callbacks[i] = info[i].callback;
		names[i] = info[i].name;
	}
	return virtio_find_vqs(vdev, n, vqs, callbacks, names, NULL);
}
#else
static inline int vst_find_vqs(struct virtio_device *vdev, unsigned int n, struct virtqueue *vqs[],
			       struct virtqueue_info info[])
{
	return virtio_find_vqs(vdev, n, vqs, info, NULL);
}
#endif

/* 6.6: the core sets sk_rcvlowat itself and then notifies; before, an op of another name replaces the core's action. */
#ifdef VST_HAVE_NOTIFY_SET_RCVLOWAT
#define VST_OP_SET_RCVLOWAT notify_set_rcvlowat
#define vst_core_sets_rcvlowat() true
#else
#define VST_OP_SET_RCVLOWAT set_rcvlowat
#define vst_core_sets_rcvlowat() false
#endif

/* 7.0: the *_allow operations are given the socket. */
#ifdef VST_HAVE_ALLOW_VSK
#define VST_ALLOW_ARGS struct vsock_sock *vsk, u32 cid, u32 port
#define VST_ALLOW_CID_ARGS struct vsock_sock *vsk, u32 cid
#else
#define VST_ALLOW_ARGS u32 cid, u32 port
#define VST_ALLOW_CID_ARGS u32 cid
#endif

/* 6.8: eventfd_signal() adds one, always. */
#ifdef VST_HAVE_EVENTFD_COUNT
#define vst_eventfd_signal(ctx) eventfd_signal(ctx, 1)
#else
#define vst_eventfd_signal(ctx) eventfd_signal(ctx)
#endif

/* 7.0: a namespace may keep to itself; devices are not in it. For functions with VST_ALLOW_ARGS. */
#if defined(VST_HAVE_ALLOW_VSK) && defined(VST_HAVE_NET_MODE)
#define vst_ns_global() vsock_net_mode_global(vsk)
#else
#define vst_ns_global() true
#endif

/* The same for namespaces by themselves. NULL is where devices are. */
#ifdef VST_HAVE_NET_MODE
#define vst_net_global(net) (vsock_net_mode(net) == VSOCK_NET_MODE_GLOBAL)
#define vst_nets_meet(a, b) vsock_net_check_mode(a, b)
#else
#define vst_net_global(net) ((void)(net), true)
#define vst_nets_meet(a, b) ((void)(a), (void)(b), true)
#endif

/* 7.1: a namespace may say that a CID which no guest has is nowhere, not at the host. */
#ifdef VST_HAVE_G2H_FALLBACK
#define vst_net_fallback(net) READ_ONCE((net)->vsock.g2h_fallback)
#else
#define vst_net_fallback(net) ((void)(net), true)
#endif

/* 6.18, and stable kernels before it: a workqueue says that it is per CPU; from 7.0 a warning if it does not. */
#ifndef VST_HAVE_WQ_PERCPU
#define WQ_PERCPU 0
#endif

/* 6.16: sends from device memory, which are not ours. */
#ifdef VST_HAVE_DEVMEM
#define vst_zerocopy_realloc(sk, size, uarg) msg_zerocopy_realloc(sk, size, uarg, false)
#else
#define vst_zerocopy_realloc(sk, size, uarg) msg_zerocopy_realloc(sk, size, uarg)
#endif

/* 7.x: vsock_enqueue_accept() counts the backlog itself. */
#ifdef VST_HAVE_CORE_ACCEPTQ
#define vst_acceptq_added(sk) \
	do {                  \
	} while (0)
#else
#define vst_acceptq_added(sk) sk_acceptq_added(sk)
#endif

#endif
