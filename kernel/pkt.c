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
 * @len: 1 .. VSP_MAX_PAYLOAD bytes
 *
 * Return: a packet whose @data, or @page, is to be filled; NULL without memory (a smaller @len may succeed).
 */
struct vst_pkt *vst_pkt_new(struct vst_flow *flow, u32 len, gfp_t gfp)
{
	bool small = len <= VST_SMALL_PKT;
	struct vst_pkt *pkt = kmalloc(struct_size(pkt, data, small ? len : 0), gfp);

	if (!pkt)
		return NULL;
	pkt->page = NULL;
	if (!small) {
		pkt->page = payload_pages(len, &pkt->order, gfp);
		if (!pkt->page) {
			kfree(pkt);
			return NULL;
		}
	}
	vst_flow_get(flow);
	pkt->flow = flow;
	pkt->len = len;
	pkt->flags = 0;
	atomic_inc(&vst_live_pkts);
	return pkt;
}

void vst_pkt_free(struct vst_pkt *pkt)
{
	if (pkt->page)
		__free_pages(pkt->page, pkt->order);
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
	u32 room = len <= VST_COPY_MAX ? max_t(u32, len, VST_SEG_MIN) : 0;
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
