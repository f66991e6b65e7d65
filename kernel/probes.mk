# SPDX-License-Identifier: GPL-2.0-only
#
# What the target's headers have, as macros for compat.h; included by the Kbuild of every module of ours.

# $(call vst_has,HEADER,REGULAR EXPRESSION,MACRO): define the macro if the header has the text. No parentheses and no
# commas in it.
vst_has = $(if $(shell grep -sq '$(2)' $(srctree)/include/$(1) && echo y),-D$(3))

ccflags-y += $(call vst_has,net/af_vsock.h,[*]notify_set_rcvlowat.,VST_HAVE_NOTIFY_SET_RCVLOWAT)
ccflags-y += $(call vst_has,net/af_vsock.h,[*]read_skb.,VST_HAVE_READ_SKB)
ccflags-y += $(call vst_has,net/af_vsock.h,[*]unsent_bytes.,VST_HAVE_UNSENT_BYTES)
ccflags-y += $(call vst_has,net/af_vsock.h,[*]stream_allow..struct vsock_sock,VST_HAVE_ALLOW_VSK)
ccflags-y += $(call vst_has,net/af_vsock.h,vsock_pending_to_accept,VST_HAVE_CORE_ACCEPTQ)
ccflags-y += $(call vst_has,net/af_vsock.h,[*]msgzerocopy_allow.,VST_HAVE_ZEROCOPY)
ccflags-y += $(call vst_has,linux/skbuff.h,struct ubuf_info [*]uarg. bool devmem,VST_HAVE_DEVMEM)
ccflags-y += $(call vst_has,net/af_vsock.h,vsock_net_mode_global,VST_HAVE_NET_MODE)
ccflags-y += $(call vst_has,net/af_vsock.h,[*]has_remote_cid.,VST_HAVE_REMOTE_CID)
ccflags-y += $(call vst_has,net/netns/vsock.h,g2h_fallback,VST_HAVE_G2H_FALLBACK)
ccflags-y += $(call vst_has,linux/workqueue.h,WQ_PERCPU,VST_HAVE_WQ_PERCPU)
ccflags-y += $(call vst_has,linux/virtio_config.h,struct virtqueue_info {,VST_HAVE_VIRTQUEUE_INFO)
ccflags-y += $(call vst_has,linux/eventfd.h,eventfd_signal.struct eventfd_ctx .ctx. __u64 n,VST_HAVE_EVENTFD_COUNT)
