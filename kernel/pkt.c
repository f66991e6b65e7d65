// SPDX-License-Identifier: GPL-2.0-only
/*
 * pkt.c - memory for payload, in both directions
 *
 * Large payload lies in compound pages, so that a copy to or from the user passes the checks of hardened usercopy;
 * small payload in one allocation with its bookkeeping.
 *
 * Kernels may be told to clear all memory before they give it away (init_on_alloc), which for payload costs as much as
 * copying it. Every byte that is looked at here was written before, so what is used most is not cleared.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "vst.h"

enum {
	/* A stream of tiny packets fills one before the next begins. The allocator keeps a pointer behind it. */
	OBJECT_SIZE = 2048 - sizeof(void *),
	SEG_ROOM = OBJECT_SIZE - sizeof(struct vst_seg),
	SPARE_BYTES = 64 << 10, /* of a spare block */
};
static_assert(sizeof(struct vst_pkt) + VST_TAIL_ROOM <= OBJECT_SIZE);
static_assert((size_t)VST_SEG_MIN <= SEG_ROOM);

/* Packets with room for VST_TAIL_ROOM bytes, and segments with SEG_ROOM. */
static struct kmem_cache *objects;

/* Objects of a cache that has a constructor are not cleared: it might have set them up. */
static void construct(void *object)
{
}

int vst_pkt_init(void)
{
	objects = kmem_cache_create_usercopy("vst_payload", OBJECT_SIZE, ARCH_KMALLOC_MINALIGN, 0, 0, OBJECT_SIZE,
					     construct);
	return objects ? 0 : -ENOMEM;
}

void vst_pkt_exit(void)
{
	kmem_cache_destroy(objects);
}

/* Bytes that fit into a segment without a page that holds @len. The allocator's sizes are powers of two: all of it. */
static u32 small_seg_room(u32 len)
{
	return len <= SEG_ROOM ? SEG_ROOM : roundup_pow_of_two(sizeof(struct vst_seg) + len) - sizeof(struct vst_seg);
}

static void free_payload(struct vst_spares *spares, struct page *page, u32 order)
{
	u32 i;

	for (i = 0; i < VST_SPARES && order == get_order(SPARE_BYTES); i++) {
		if (!READ_ONCE(spares->block[i]) && !cmpxchg(&spares->block[i], NULL, page))
			return;
	}
	__free_pages(page, order);
}

static struct page *take_spare(struct vst_spares *spares)
{
	struct page *page = NULL;
	u32 i;

	for (i = 0; i < VST_SPARES && !page; i++) {
		if (READ_ONCE(spares->block[i]))
			page = xchg(&spares->block[i], NULL);
	}
	return page;
}

void vst_spares_free(struct vst_spares *spares)
{
	struct page *page;

	while ((page = take_spare(spares)))
		__free_pages(page, get_order(SPARE_BYTES));
}

/* Pages for payload, or NULL. What is in them is not ours to show to anybody. */
struct page *vst_payload_pages(struct vst_spares *spares, u32 order, gfp_t gfp)
{
	struct page *page = order == get_order(SPARE_BYTES) ? take_spare(spares) : NULL;

	if (page)
		return page;
	if (order)
		gfp |= __GFP_COMP | __GFP_NOWARN | __GFP_NORETRY;
	return alloc_pages(gfp, order);
}

/* What it counts in vst_flow.n_pkts. */
static int weight_of(const struct vst_pkt *pkt)
{
	return pkt->cap == VST_TAIL_ROOM ? OBJECT_SIZE / VST_PKT_COST : 1;
}

static struct vst_pkt *alloc_pkt(u32 cap, gfp_t gfp)
{
	struct vst_pkt *pkt = cap == VST_TAIL_ROOM ? kmem_cache_alloc(objects, gfp) :
						     kmalloc(struct_size(pkt, data, cap), gfp);

	if (pkt)
		pkt->cap = cap;
	return pkt;
}

static void free_pkt(struct vst_pkt *pkt)
{
	if (pkt->cap == VST_TAIL_ROOM)
		kmem_cache_free(objects, pkt);
	else
		kfree(pkt);
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
	struct vst_pkt *pkt = alloc_pkt(small ? cap : 0, gfp);

	if (!pkt)
		return NULL;
	pkt->zc = NULL;
	pkt->sk = NULL;
	pkt->page = NULL;
	if (!small) {
		pkt->order = get_order(len);
		pkt->page = vst_payload_pages(&flow->link->spares, pkt->order, gfp);
		if (!pkt->page) {
			free_pkt(pkt);
			return NULL;
		}
	}
	vst_flow_get(flow);
	atomic_add(weight_of(pkt), &flow->n_pkts);
	pkt->flow = flow;
	pkt->len = len;
	pkt->flags = 0;
	pkt->more = 0;
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
static void unstuff(struct vst_flow *flow, int weight)
{
	struct sock *sk = NULL;

	atomic_sub(weight, &flow->n_pkts);
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
		free_payload(&pkt->flow->link->spares, pkt->page, pkt->order);
	if (pkt->sk)
		vst_dgram_uncharge(pkt->sk, pkt->len);
	unstuff(pkt->flow, weight_of(pkt));
	vst_flow_put(pkt->flow);
	atomic_dec(&vst_live_pkts);
	free_pkt(pkt);
}

/**
 * vst_seg_new - an empty segment
 * @spares: blocks that it may have
 * @gfp: for the segment and its pages
 * @len: bytes that must fit, 1 .. VSP_MAX_PAYLOAD
 *
 * Return: a segment with @cap of at least @len, or NULL.
 */
struct vst_seg *vst_seg_new(struct vst_spares *spares, u32 len, gfp_t gfp)
{
	u32 room = len <= VST_COPY_MAX ? small_seg_room(len) : 0;
	struct vst_seg *seg = room == SEG_ROOM ? kmem_cache_alloc(objects, gfp) :
						 kmalloc(struct_size(seg, room, room), gfp);

	if (!seg)
		return NULL;
	seg->off = 0;
	seg->len = 0;
	seg->cap = room;
	seg->page = NULL;
	seg->data = seg->room;
	if (!room) {
		seg->order = get_order(len);
		seg->page = vst_payload_pages(spares, seg->order, gfp);
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

/* @link: it came over; its driver may have the pages again. */
void vst_seg_free(struct vst_link *link, struct vst_seg *seg)
{
	if (seg->page)
		free_payload(&link->spares, seg->page, seg->order);
	atomic_dec(&vst_live_segs);
	if (!seg->page && seg->cap == SEG_ROOM)
		kmem_cache_free(objects, seg);
	else
		kfree(seg);
}
