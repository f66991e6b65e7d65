/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config.h - what the daemon is told: guests, and what concerns all of them
 *
 * The command line, --vm and the file of --config name the same keys; this is where they are known, judged and
 * explained. A name may be spelled with dashes or with underscores.
 */
#ifndef VSD_CONFIG_H
#define VSD_CONFIG_H

#include "daemon/limit.h"
#include "daemon/log.h"
#include "daemon/path.h"

enum {
	VSD_PATH_MAX = 108,	  /* bytes of sockaddr_un.sun_path */
	VSD_PORT_SUFFIX_MAX = 11, /* "_4294967295" */
	VSD_PEER_SUFFIX_MAX = 22, /* "@4294967295.4294967295" */

	VSD_GUEST_CID_DEFAULT = 3,
	VSD_GUESTS_MAX = 4096, /* of one daemon */
	VSD_LIST_MAX = 64,     /* entries of a list: groups, ports, users, paths */
	VSD_CONNS_DEFAULT = 4096,
	VSD_CONNS_MAX = 1 << 20,
	VSD_QUEUE_SIZE_DEFAULT = 1024,
	/*
	 * What an unread connection may cost us. 256 KiB is what a stock kernel promises; with 64 KiB a sender of 64
	 * KiB packets stops after each.
	 */
	VSD_WINDOW_DEFAULT = 256 << 10,
	/*
	 * Of a guest's memory that is left a new connection gets one of so many parts, but at least so much: the last
	 * ones are slow, and not refused.
	 */
	VSD_MEMORY_PARTS = 64,
	VSD_WINDOW_MIN = 4096,
	VSD_MEMORY_MIN_KIB = 8,		  /* for one connection */
	VSD_HANDSHAKE_TIMEOUT_MS = 10000, /* for the CONNECT line: somebody may type it */
	/* for the answer of the guest, or of a host listener whose backlog is full */
	VSD_CONNECT_TIMEOUT_MS = 2000,
	VSD_CLOSE_TIMEOUT_MS = 2000,   /* for the guest's RST after SHUTDOWN */
	VSD_LINGER_TIMEOUT_MS = 30000, /* for a reader to take the last bytes of a guest that is gone */
	VSD_TIMEOUT_MAX_MS = 3600000,
	VSD_POLL_MAX_US = 1000000,
	VSD_THREADS_MAX = 64,
	VSD_FILE_MAX = 1 << 20, /* bytes of a configuration file */
};

/* How much of the machine the process gives up. */
enum vsd_sandbox {
	VSD_SANDBOX_OFF,
	VSD_SANDBOX_ON,	    /* sandbox.h */
	VSD_SANDBOX_STRICT, /* and root.h */
	NUM_VSD_SANDBOXES,
};

/* What is out of its reach already. */
enum vsd_confined {
	VSD_CONFINED_FILES = 1 << 0, /* other users are, too */
	VSD_CONFINED_NETWORK = 1 << 1,
};

/* Names, "a+b". */
struct vsd_names {
	char **name;
	u32 n;
};

/* Ports, "22+1000-1999". */
struct vsd_ports {
	struct {
		u32 first;
		u32 last;
	} range[VSD_LIST_MAX];
	u32 n;
};

/* Users. */
struct vsd_users {
	u32 uid[VSD_LIST_MAX];
	u32 n;
};

/* Ports, each with a path of its own. */
struct vsd_map {
	struct {
		u32 port;
		char *path;
	} entry[VSD_LIST_MAX];
	u32 n;
};

/* Which ports may be connected to in one direction. */
struct vsd_policy {
	struct vsd_ports allow; /* empty: all */
	struct vsd_ports deny;	/* has the last word */
};

/**
 * struct vsd_guest_opts - one guest
 * @guest_cid: its address
 * @socket: where its front-end connects; NULL: at @fd
 * @fd: a socket handed in, that listens for front-ends or is connected to one; -1: none. It stays open as long as it
 *      is configured, for a guest that begins anew
 * @alone: the only guest, by options of its own: when a connection handed in ends, so does the daemon
 * @socket_access: who may connect to @socket
 * @uds_path: where host clients connect; @uds_path_PORT is where host listeners are; or NULL
 * @uds_fd: instead of the listener at @uds_path: one that was handed in; -1: none
 * @uds_access: who may connect to @uds_path, and to what else is bound for programs of the host
 * @uds_users: whose programs these may be; none: everybody's
 * @connect_only: nothing is bound for programs of the host
 * @peer_names: a connection of the guest has a name, @uds_path@CID.PORT
 * @map_to_guest: ports of the guest with a socket of their own
 * @map_from_guest: ports of the host whose listeners are not at @uds_path_PORT
 * @forward_cid: instead of Unix sockets: the AF_VSOCK address that has the host's listeners; VSP_CID_ANY: none
 * @forward_listen: ports that are listened at in AF_VSOCK for the guest
 * @groups: guests that have one in common reach each other
 * @to_guest: ports of the guest that others may connect to
 * @from_guest: ports of the host, and of other guests, that it may connect to
 * @datagrams: are offered
 * @window: receive window of a connection
 * @queue_size: largest ring
 * @receive_buffer: of vguest, which has no key for it in files: payload of a buffer of its own
 * @conns_max: most connections; @conns_asked: before the limit of open files was considered
 * @memory_kib: most KiB of all connections, their windows included; 0: as many as there are
 * @rate_kib: KiB a second on its rings, in each direction; 0: as many as there are
 * @handshake_ms, @connect_ms, @close_ms, @linger_ms: deadlines
 * @line: of the configuration file, or 0
 * @given: keys that were set, as bits
 */
struct vsd_guest_opts {
	u32 guest_cid;
	char *socket;
	int fd;
	bool alone;
	struct vsd_access socket_access;
	char *uds_path;
	int uds_fd;
	struct vsd_access uds_access;
	struct vsd_users uds_users;
	bool connect_only;
	bool peer_names;
	struct vsd_map map_to_guest;
	struct vsd_map map_from_guest;
	u32 forward_cid;
	struct vsd_ports forward_listen;
	struct vsd_names groups;
	struct vsd_policy to_guest;
	struct vsd_policy from_guest;
	bool datagrams;
	u32 window;
	u32 queue_size;
	u32 receive_buffer;
	u32 conns_max;
	u32 conns_asked;
	u32 memory_kib;
	u32 rate_kib;
	u32 handshake_ms;
	u32 connect_ms;
	u32 close_ms;
	u32 linger_ms;
	u32 line;
	u64 given;
};

/**
 * struct vsd_config - everything
 * @level: what is logged; @format: and how
 * @poll_us: how long to look for work before sleeping
 * @threads: most threads that serve guests; 0: one for each processor
 * @control: where the control socket is, or NULL
 * @sandbox: the process gives up what it does not need
 * @confined: and has given it up, bits of enum vsd_confined
 * @file: where it was read, or NULL
 * @guests, @n: the guests
 * @given: keys that were set, as bits: what the command line says, a file does not overrule; @in_file: those of a file
 */
struct vsd_config {
	enum vsd_level level;
	enum vsd_log_format format;
	u32 poll_us;
	u32 threads;
	char *control;
	enum vsd_sandbox sandbox;
	u32 confined;
	const char *file;
	struct vsd_guest_opts **guests;
	u32 n;
	u64 given;
	u64 in_file;
};

/**
 * struct vsd_blame - where a setting stands, and what is wrong with it
 * @file, @line: in a file; NULL: on the command line
 * @vm: in a --vm
 * @text: the complaint, in one line
 */
struct vsd_blame {
	const char *file;
	u32 line;
	bool vm;
	char text[512];
};

/* Complain about @key = @value (either may be NULL). Returns false. */
bool vsd_complain(struct vsd_blame *b, const char *key, const char *value, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The names of the keys of a guest, with dashes; NULL behind the last. */
const char *vsd_guest_key(u32 i);

/* Same name, however it is spelled? */
bool vsd_same_key(const char *a, const char *b);

/* A guest with defaults, the newest of @c. NULL: out of memory, or too many. */
struct vsd_guest_opts *vsd_config_add(struct vsd_config *c, struct vsd_blame *b);

/* The newest guest goes, which nobody knows yet. */
void vsd_config_drop(struct vsd_config *c);

/* The guest with this context identifier goes, and what was handed in for it. */
void vsd_config_remove(struct vsd_config *c, u32 guest_cid);

/* @value as the path of a Unix socket, which is allocated, or a complaint about @key. */
bool vsd_set_path(char **to, const char *key, const char *value, struct vsd_blame *b);

/* @value as a number from @min to @max, or a complaint about @key. */
bool vsd_set_number(u32 *to, const char *key, const char *value, u32 min, u32 max, struct vsd_blame *b);

/* Set a key of a guest. */
bool vsd_guest_set(struct vsd_guest_opts *o, const char *key, const char *value, struct vsd_blame *b);

/* Set a key of a guest from "KEY=VALUE,KEY=VALUE". */
bool vsd_guest_set_all(struct vsd_guest_opts *o, const char *spec, struct vsd_blame *b);

/* Set a key that concerns all guests. */
bool vsd_config_set(struct vsd_config *c, const char *key, const char *value, struct vsd_blame *b);

/* Is everything there, and does it fit together? */
bool vsd_config_check(const struct vsd_config *c, struct vsd_blame *b);

/* A configuration to read the file of @old into once more: what the command line said, and no guests. */
struct vsd_config vsd_config_again(const struct vsd_config *old);

/* Close what was handed in for guests of @old and is nobody's in @fresh. */
void vsd_config_close(const struct vsd_config *old, const struct vsd_config *fresh);

/* Can a guest that was started with @a go on with @b? */
bool vsd_guest_same(const struct vsd_guest_opts *a, const struct vsd_guest_opts *b);

/* Defaults, no guests; and the end of what was allocated. */
void vsd_config_init(struct vsd_config *c);
void vsd_config_free(struct vsd_config *c);

/* Are there sockets for datagrams? They need a directory in which others may send to them. */
bool vsd_guest_has_datagrams(const struct vsd_guest_opts *o);

/* Does it take the machine's network: AF_VSOCK, or abstract names? */
bool vsd_guest_needs_network(const struct vsd_guest_opts *o);

/* How many listeners it has. */
u32 vsd_guest_listeners(const struct vsd_guest_opts *o);

/* The path of @port in @m, or NULL. */
const char *vsd_map_find(const struct vsd_map *m, u32 port);

/* May the user @uid connect? */
bool vsd_users_have(const struct vsd_users *l, u32 uid);

/* May @port be connected to? */
bool vsd_policy_allows(const struct vsd_policy *p, u32 port);

/* Have they a name in common? */
bool vsd_names_meet(const struct vsd_names *a, const struct vsd_names *b);

/* yaml.c: read the file @b->file into @c, or @len bytes of one. What is wrong is in @b. */
bool vsd_config_read(struct vsd_config *c, struct vsd_blame *b);
bool vsd_config_parse(struct vsd_config *c, const void *bytes, size_t len, struct vsd_blame *b);

#endif
