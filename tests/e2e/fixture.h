/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fixture.h - a vsockd of our own, a guest in front of it, and checks that name what failed
 */
#ifndef E2E_FIXTURE_H
#define E2E_FIXTURE_H

#include "check.h"
#include "peer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define CID 7

/*
 * KiB that a sanitizer adds to a daemon's memory: blocks that were freed, shadows, and ThreadSanitizer's history, which
 * may be 40 MiB in one run and 10 in the next. The native run is strict.
 */
#if defined(__SANITIZE_ADDRESS__)
#define FIX_SANITIZER_KIB 8192
#elif defined(__SANITIZE_THREAD__)
#define FIX_SANITIZER_KIB (256 << 10)
#else
#define FIX_SANITIZER_KIB 0
#endif

#define FEATURES (VU_BIT(VU_F_EVENT_IDX) | VU_BIT(VU_F_INDIRECT_DESC))

enum {
	FIX_FLEET_MAX = 64,
};

/**
 * struct fix - one daemon and its guest
 * @cid: the guest's
 * @dir: its directory; @socket, @uds, @log: in it
 * @pid: the daemon
 * @peer: the guest
 * @buf: a payload
 */
struct fix {
	u32 cid;
	char dir[64];
	char socket[96];
	char uds[96];
	char log[96];
	int pid;
	struct peer peer;
	u8 buf[65536];
};

/* The vsockd to test. */
const char *fix_program(void);

/* A directory with its names, and no daemon yet; then one with @args and no other options; and until it is ready. */
void fix_prepare(struct fix *f);
void fix_start(struct fix *f, const char *program, const char *const *args);
void fix_await(struct fix *f);

/* Start @program with the options of a vsockd and @args; wait for nothing. */
void fix_spawn(struct fix *f, const char *program, const char *const *args);

/* The same with fix_program(), but @args say where the front-end is. */
void fix_spawn_at(struct fix *f, const char *const *args);

/* The end of what fix_spawn() began where the daemon has ended already. */
void fix_forget(struct fix *f);

/* Start a daemon with @args (NULL-terminated) besides the necessary ones. */
void fix_daemon(struct fix *f, const char *const *args);

/*
 * A daemon with @n guests, whose context identifiers follow each other; for each of them @keys (or NULL) may have more
 * keys for its --vm. @f[0] is the daemon; fix_fleet_end() is its end and that of all guests.
 */
void fix_fleet(struct fix *f, u32 n, const char *const *keys, const char *const *args);
void fix_fleet_end(struct fix *f, u32 n);

/* The same, described in a file; and that file anew, with those guests whose keys are not NULL. */
void fix_fleet_file(struct fix *f, u32 n, const char *const *keys);
void fix_write_file(struct fix *f, u32 n, const char *const *keys);

/* May a process have namespaces of its own here, as a strict sandbox needs them? */
bool fix_namespaces(void);

/* Let the daemon run to its end with @args (NULL-terminated); what it @said, and its exit status. */
int fix_run(const char *const *args, char *said, size_t room);

/* A guest with rings of @ring entries and receive buffers of @buffer bytes. */
void fix_guest(struct fix *f, u32 ring, u32 buffer);

/* Guest and daemon end; the daemon must do so cleanly. */
void fix_end(struct fix *f);

/* The end of what fix_spawn() began, whatever becomes of the daemon. */
void fix_abandon(struct fix *f);

/* A daemon with these options does not start, and says why with the word @names. */
void fix_refused(const char *const *args, const char *names);

/* A connected host client; and one that listens for the guest. */
int fix_client(struct fix *f);
int fix_listener(struct fix *f, u32 port);

/* A client that said CONNECT for @port. */
int fix_dial(struct fix *f, u32 port);

/* The line that the client gets: "OK n" gives n, the end gives 0. */
u32 fix_ok(int fd);

/* Wait for a packet of the guest with this op; other ops fail, but for credit updates and requests. */
struct vsp_hdr fix_expect(struct fix *f, enum vsp_op op);

/* Send a packet of a connection whose host end is @host: ports, credit. */
struct vsp_hdr fix_hdr(u32 host_port, u32 guest_port, enum vsp_op op);
void fix_send(struct fix *f, struct vsp_hdr hdr);

/* A connection opened by the guest to @port, where @listener listens; returns the host's end. */
int fix_open(struct fix *f, int listener, u32 port, u32 guest_port);

/* The daemon's counter of a reject reason, or another that it reports, becomes at least @least. */
void fix_reject(struct fix *f, const char *name, u64 least);

/* What it was when the daemon reported last; 0: not mentioned. */
u64 fix_counter(const struct fix *f, const char *name);

/* How many lines of its log say this. */
u32 fix_said(const struct fix *f, const char *part);

/* Wait until so many do. */
void fix_await_said(const struct fix *f, const char *part, u32 lines);

/* Let the daemon see nothing of what follows, and then all of it at once. */
void fix_pause(struct fix *f);
void fix_resume(struct fix *f);

/* A field of /proc/PID/status, the sum of it over all threads, and open descriptors of the daemon. */
u64 fix_status(struct fix *f, const char *field);
u64 fix_threads(struct fix *f, const char *field);
u32 fix_fds(struct fix *f);

/* @len bytes from a socket, or what came before its end. */
size_t fix_read(int fd, void *buf, size_t len);
void fix_write(int fd, const void *buf, size_t len);

u64 fix_now_ms(void);

/* Byte @at of a stream with this seed. */
static inline u8 fix_byte(u64 at, u32 seed)
{
	return (u8)(((at + seed) * 0x9e3779b1u) >> 13);
}

#endif
