/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.h - a guest made of packets in front of /dev/vhost-vsock, and the host's sockets beside it
 *
 * Both ends are in one process, inside a VM whose kernel is the host. Nothing waits longer than WAIT_MS.
 */
#ifndef TESTS_HOST_H
#define TESTS_HOST_H

#include "tests/e2e/check.h"
#include "tests/e2e/peer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define DEVICE "/dev/vhost-vsock"
#define FEATURES (VU_BIT(VU_F_EVENT_IDX) | VU_BIT(VU_F_INDIRECT_DESC))

enum {
	WAIT_MS = 60000,
	SKIPPED = 77,	/* exit status: this kernel cannot do it */
	QUIET_MS = 300, /* nothing came for so long: nothing will */
	CID = 42,
	WINDOW = 256 << 10,
	CHECKED_FLOODS = 20, /* a kernel with checks takes so many times longer for each packet */
};

/* A test: runs in a process of its own, and exits to fail. */
struct test {
	const char *name;
	void (*run)(void);
};

extern const struct test flow_tests[], message_tests[], dgram_tests[], life_tests[], hostile_tests[], fault_tests[],
	log_tests[], near_tests[], random_tests[], polling_tests[], shortage_tests[], fleet_tests[];

/* @peer drives the rings; @buf is a payload. */
struct guest {
	struct peer peer;
	u32 cid;
	u8 buf[VSP_MAX_PAYLOAD];
};

/**
 * struct flow - one connection, as its guest sees it
 * @host_port, @guest_port: its address
 * @messages: of seqpacket sockets
 * @fd: the host's socket
 * @sent: bytes that the guest sent; @got: bytes that it received
 * @edge: the count up to which it may send
 * @read: bytes that the host's socket gave; @written: bytes that it took
 */
struct flow {
	u32 host_port;
	u32 guest_port;
	bool messages;
	int fd;
	u32 sent;
	u32 got;
	u32 edge;
	u32 read;
	u32 written;
};

/* A running guest with rings of @ring entries and receive buffers of @buffer bytes. */
void guest_begin(struct guest *g, u32 cid, u32 ring, u32 buffer, u64 features);
void guest_end(struct guest *g);

/* Stop and begin anew, as a reboot does; and without receive buffers, so that what it is owed waits. */
void guest_reboot(struct guest *g);
void guest_reboot_empty(struct guest *g);

/*
 * The guest's memory as @n regions, the last first, each @overlap bytes longer than it should be, without @holes of
 * them from number @hole on. An errno, negative.
 */
int guest_share_pieces(struct guest *g, u32 n, u32 hole, u32 holes, u64 overlap);

/* An eventfd that is signalled when the ring breaks. */
int guest_watch_errors(struct guest *g, u32 ring);

/* Chains that no driver makes. */
enum bad_chain {
	BAD_AVAIL,
	BAD_HEAD,
	BAD_LOOP,
	BAD_NEXT,
	BAD_WRITABLE,
	BAD_NOWHERE,
	BAD_PAST_END,
	BAD_WRAP,
	BAD_NESTED,
	BAD_TABLE_EMPTY,
	BAD_TABLE_ODD,
	BAD_TABLE_NOWHERE,
	BAD_TABLE_CHAINED,
	BAD_MANY_PIECES,
	BAD_MANY_EMPTY,
	NUM_BAD_CHAINS,
};
void guest_send_bad(struct guest *from, enum bad_chain bad);

struct vsp_hdr guest_hdr(const struct guest *g, const struct flow *f, enum vsp_op op);
void guest_send(struct guest *g, struct vsp_hdr hdr);

/* The next packet of the flow with this op; its credit is noted. Others fail, but for those about credit. */
struct vsp_hdr guest_expect(struct guest *g, struct flow *f, enum vsp_op op);

/* Nothing comes but credit updates. */
void guest_quiet(struct guest *g);

int host_listen(u32 port, int backlog);
int host_listen_for(bool messages, u32 port, int backlog);

/*
 * A connection to @port of @cid that is being made; the errno of one that cannot be, negative. The patient one does not
 * time out while a slow machine does something else.
 */
int host_connect(u32 cid, u32 port);
int host_connect_for(bool messages, u32 cid, u32 port);
int host_connect_patiently(bool messages, u32 cid, u32 port);

/* 0 when it is made, or the errno that it failed with. */
int host_connected(int fd);

/* The errno that the socket reports, waiting for one. */
int host_error(int fd);
u32 host_port(int fd);
bool host_wait(int fd, short events, int ms);

/* A connection opened by the guest, accepted by @listener at @port; and one opened by the host. */
struct flow open_by_guest(struct guest *g, int listener, u32 port, u32 guest_port);
struct flow open_by_host(struct guest *g, u32 guest_port);

/* The same for @f, which has the ports of its end that asks, and its type. */
void flow_ask_host(struct guest *g, int listener, struct flow *f);
void flow_ask_guest(struct guest *g, struct flow *f);

/* So many connections that the guest asks for, and the host accepts and closes. The guest takes nothing. */
void guest_abandon(struct guest *g, int listener, u32 port, u32 n);

/* Move bytes with all the credit that there is, and check each of them. */
void flow_to_host(struct guest *g, struct flow *f, u32 bytes, u32 packet, enum peer_shape shape);
void flow_to_guest(struct guest *g, struct flow *f, u32 bytes, u32 write_size);

/* The host closes, the guest agrees. */
void flow_finish(struct guest *g, struct flow *f);

/* The number behind @key, which begins a line of the file. */
long number_in(const char *path, const char *key);

/*
 * A counter of the guest's link; one of the objects that are alive; memory that the kernel holds, caches of files left
 * out; and what of it are small objects. The last is exact: the allocator gives back what it kept for later.
 */
u64 counter(u32 cid, const char *name);
bool counter_of(u32 cid, const char *name, u64 *value);
void counter_reaches(u32 cid, const char *name, u64 least);
long live(const char *what);
long memory_used_kib(void);
long slabs_kib(void);

/* Is this a debug kernel? And so many packets of a flood, or fewer for such a kernel. */
bool kernel_checks(void);
u32 flood_of(u32 packets);

/* A guest that sends each datagram back to where it came from, until it is killed; says "ready". */
int dgram_echo(u32 cid);

u64 now_ms(void);
void pause_a_little(void);

static inline u8 byte_at(u32 at, u32 seed)
{
	return (u8)(((at + seed) * 0x9e3779b1u) >> 13);
}

#endif
