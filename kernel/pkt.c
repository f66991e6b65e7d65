// SPDX-License-Identifier: GPL-2.0-only
/*
 * pkt.c - memory for payload, in both directions
 *
 * Large payload lies in compound pages, so that a copy to or from the user passes the checks of hardened usercopy;
 * small payload in one allocation with its bookkeeping.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "vst.h"

enum {
	SEG_SIZE_MIN = 2048, /* of the smallest segment: a stream of tiny packets fills it before the next begins */
};

/* Bytes that fit into a segment without a page that holds @len. The allocator's sizes are powers of two: all of it. */
static u32 small_seg_room(u32 len)
{
	return max_t(u32, roundup_pow_of_two(sizeof(struct vst_seg) + len), SEG_SIZE_MIN) - sizeof(struct vst_seg);
}

static struct page *payload_pages(u32 len, u32 *order, gfp_t gfp)
{
	*order = get_order(len);
	if (*order)
		gfp |= __GFP_COMP | __GFP_NOWARN | __GFP_NORETRY;
	return alloc_pages(gfp, *order);
}

/**
 * vst_pkt_new - room for a packet's payload
 * @gfp: for the packet and its pages
 * @flow: a reference is taken
 * @len: 0 .. VSP_MAX_PAYLOAD bytes
 * @cap: at least @len: how many must fit, if they follow the header
 *
 * Return: a packet whose @data, or @page, is to be filled; NULL without memory (a smaller @len may succeed).
 */
struct vst_pkt *vst_pkt_new(struct vst_flow *flow, u32 len, u32 cap, gfp_t gfp)
{
	bool small = len <= VST_SMALL_PKT;
	struct vst_pkt *pkt = kmalloc(struct_size(pkt, data, small ? cap : 0), gfp);

	if (!pkt)
		return NULL;
	pkt->zc = NULL;
	pkt->sk = NULL;
	pkt->cap = small ? cap : 0;
	pkt->page = NULL;
	if (!small) {
		pkt->page = payload_pages(len, &pkt->order, gfp);
		if (!pkt->page) {
			kfree(pkt);
			return NULL;
		}
	}
	vst_flow_get(flow);
	atomic_inc(&flow->n_pkts);
	pkt->flow = flow;
	pkt->len = len;
	pkt->flags = 0;
	atomic_inc(&vst_live_pkts);
	return pkt;
}

/**
 * vst_pkt_new_zc - a packet for payload that stays where it is
 * @flow: a reference is taken
 * @uarg: a reference is taken
 *
 * Return: a packet without pieces yet, or NULL. May sleep.
 */
struct vst_pkt *vst_pkt_new_zc(struct vst_flow *flow, struct ubuf_info *uarg)
{
	struct vst_zc *zc = kmalloc(sizeof(*zc), GFP_KERNEL_ACCOUNT);
	struct vst_pkt *pkt = zc ? vst_pkt_new(flow, 0, 0, GFP_KERNEL_ACCOUNT) : NULL;

	if (!pkt) {
		kfree(zc);
		return NULL;
	}
	net_zcopy_get(uarg);
	zc->uarg = uarg;
	zc->n = 0;
	pkt->zc = zc;
	return pkt;
}

/* The user may have the pages back, and hears of it. This may end the user's socket. */
static void free_zc(struct vst_zc *zc)
{
	u32 i;

	for (i = 0; i < zc->n; i++)
		put_page(zc->frags[i].bv_page);
	net_zcopy_put(zc->uarg);
	kfree(zc);
}

/* A packet less. A writer that waits for it is woken when half of them are gone. */
static void unstuff(struct vst_flow *flow)
{
	struct sock *sk = NULL;

	atomic_dec(&flow->n_pkts);
	/* Pairs with vst_tx_stuffed(), which sets the flag before it counts. */
	smp_mb__after_atomic();
	if (!READ_ONCE(flow->stuffed) || atomic_read(&flow->n_pkts) > vst_tx_pkts_max(flow) / 2)
		return;
	WRITE_ONCE(flow->stuffed, false);
	sk = vst_flow_sock(flow);
	if (!sk)
		return;
	sk->sk_write_space(sk);
	sock_put(sk);
}

void vst_pkt_free(struct vst_pkt *pkt)
{
	if (pkt->zc)
		free_zc(pkt->zc);
	if (pkt->page)
		__free_pages(pkt->page, pkt->order);
	if (pkt->sk)
		vst_dgram_uncharge(pkt->sk, pkt->len);
	unstuff(pkt->flow);
	vst_flow_put(pkt->flow);
	atomic_dec(&vst_live_pkts);
	kfree(pkt);
}

/**
 * vst_seg_new - an empty segment
 * @gfp: for the segment and its pages
 * @len: bytes that must fit, 1 .. VSP_MAX_PAYLOAD
 *
 * Return: a segment with @cap of at least @len, or NULL.
 */
struct vst_seg *vst_seg_new(u32 len, gfp_t gfp)
{
	u32 room = len <= VST_COPY_MAX ? small_seg_room(len) : 0;
	struct vst_seg *seg = kmalloc(struct_size(seg, room, room), gfp);

	if (!seg)
		return NULL;
	seg->off = 0;
	seg->len = 0;
	seg->cap = room;
	seg->page = NULL;
	seg->data = seg->room;
	if (!room) {
		seg->page = payload_pages(len, &seg->order, gfp);
		if (!seg->page) {
			kfree(seg);
			return NULL;
		}
		seg->data = page_address(seg->page);
		seg->cap = PAGE_SIZE << seg->order;
	}
	atomic_inc(&vst_live_segs);
	return seg;
}

/* A full segment around a receive buffer's page, which it owns from now on. NULL without memory: not taken. */
struct vst_seg *vst_seg_from_page(struct page *page, u32 order, u32 len, gfp_t gfp)
{
	struct vst_seg *seg = kmalloc(sizeof(*seg), gfp);

	if (!seg)
		return NULL;
	seg->page = page;
	seg->order = order;
	seg->off = 0;
	seg->len = len;
	seg->cap = len;
	seg->data = page_address(page);
	atomic_inc(&vst_live_segs);
	return seg;
}

void vst_seg_free(struct vst_seg *seg)
{
	if (seg->page)
		__free_pages(seg->page, seg->order);
	atomic_dec(&vst_live_segs);
	kfree(seg);
}
