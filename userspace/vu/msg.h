/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * msg.h - vhost-user messages as they lie on the socket
 *
 * Numbers and layouts of QEMU's docs/interop/vhost-user.rst; host byte order. Only what a vsock device or its front-end
 * says is here.
 */
#ifndef VU_MSG_H
#define VU_MSG_H

#include "kernel/proto/ring.h"

enum vu_request {
	VU_GET_FEATURES = 1,
	VU_SET_FEATURES = 2,
	VU_SET_OWNER = 3,
	VU_RESET_OWNER = 4,
	VU_SET_MEM_TABLE = 5,
	VU_SET_LOG_BASE = 6,
	VU_SET_LOG_FD = 7,
	VU_SET_VRING_NUM = 8,
	VU_SET_VRING_ADDR = 9,
	VU_SET_VRING_BASE = 10,
	VU_GET_VRING_BASE = 11,
	VU_SET_VRING_KICK = 12,
	VU_SET_VRING_CALL = 13,
	VU_SET_VRING_ERR = 14,
	VU_GET_PROTOCOL_FEATURES = 15,
	VU_SET_PROTOCOL_FEATURES = 16,
	VU_GET_QUEUE_NUM = 17,
	VU_SET_VRING_ENABLE = 18,
	VU_SET_BACKEND_REQ_FD = 21,
	VU_GET_CONFIG = 24,
	VU_SET_CONFIG = 25,
	VU_GET_MAX_MEM_SLOTS = 36,
	VU_ADD_MEM_REG = 37,
	VU_REM_MEM_REG = 38,
};

/* Device features that this stack knows; bits below 24 belong to the device type. */
enum {
	VU_F_NOTIFY_ON_EMPTY = 24,
	VU_F_LOG_ALL = 26,
	VU_F_INDIRECT_DESC = 28,
	VU_F_EVENT_IDX = 29,
	VU_F_PROTOCOL_FEATURES = 30,
	VU_F_VERSION_1 = 32,
	VU_F_IN_ORDER = 35,
};

/* Protocol features. */
enum {
	VU_PF_MQ = 0,
	VU_PF_LOG_SHMFD = 1,
	VU_PF_REPLY_ACK = 3,
	VU_PF_BACKEND_REQ = 5,
	VU_PF_CONFIG = 9,
	VU_PF_CONFIGURE_MEM_SLOTS = 15,
};

#define VU_BIT(n) (1ull << (n))

enum {
	/* struct vu_msg.flags */
	VU_FLAG_VERSION = 1,
	VU_FLAG_VERSION_MASK = 3,
	VU_FLAG_REPLY = 4,
	VU_FLAG_NEED_REPLY = 8,
	/* VU_SET_VRING_KICK, _CALL, _ERR */
	VU_VRING_INDEX_MASK = 0xff,
	VU_VRING_NO_FD = 0x100,
	/* struct vu_vring_addr.flags: what is written to the used ring goes to the dirty log */
	VU_VRING_LOG = 1,

	VU_HDR_LEN = 12,
	VU_TABLE_REGIONS_MAX = 8, /* regions in one VU_SET_MEM_TABLE, and so the most descriptors in a message */
	VU_FDS_MAX = 8,
	VU_CONFIG_MAX = 256,
	VU_LOG_PAGE = 4096,
};

struct vu_vring_state {
	u32 index;
	u32 num;
};

struct vu_vring_addr {
	u32 index;
	u32 flags;
	u64 desc;
	u64 used;
	u64 avail;
	u64 log;
};

struct vu_region_desc {
	u64 gpa;
	u64 size;
	u64 uva;
	u64 mmap_offset;
};

struct vu_mem_table {
	u32 nregions;
	u32 padding;
	struct vu_region_desc regions[VU_TABLE_REGIONS_MAX];
};

struct vu_mem_one {
	u64 padding;
	struct vu_region_desc region;
};

/* The dirty log: a bit for each page of guest memory, of VU_LOG_PAGE bytes. */
struct vu_log_desc {
	u64 size;
	u64 mmap_offset;
};

struct vu_config {
	u32 offset;
	u32 size;
	u32 flags;
	u8 bytes[VU_CONFIG_MAX];
};

/**
 * struct vu_msg - one message with the descriptors that came along
 * @request: enum vu_request, or any number a peer invents
 * @flags: VU_FLAG_*
 * @size: bytes of @body in use
 * @body: payload
 * @fds: descriptors; whoever takes one writes -1 in its place, the rest is closed with the message
 * @nfds: entries of @fds
 */
struct vu_msg {
	u32 request;
	u32 flags;
	u32 size;
	union {
		u64 u64;
		struct vu_vring_state state;
		struct vu_vring_addr addr;
		struct vu_mem_table table;
		struct vu_mem_one one;
		struct vu_log_desc log;
		struct vu_config config;
		u8 bytes[1];
	} body;
	int fds[VU_FDS_MAX];
	u32 nfds;
};
/* "packed" bodies of the standard have no holes in these layouts, so no attribute is needed. */
static_assert(offsetof(struct vu_mem_table, regions) == 8, "vhost-user: memory regions description");
static_assert(offsetof(struct vu_config, bytes) == 12, "vhost-user: device configuration space");
static_assert(sizeof(struct vu_vring_addr) == 40, "vhost-user: vring address description");

#endif
