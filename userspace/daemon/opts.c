// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/opts.h"

#include "kernel/proto/credit.h"
#include "kernel/proto/ring.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"Usage: vsockd --socket PATH --uds-path PATH [OPTION]...\n"
	"Serve AF_VSOCK to a virtual machine over vhost-user.\n"
	"\n"
	"  --guest-cid N             context identifier of the guest (3)\n"
	"  --socket PATH             socket for the virtual machine monitor\n"
	"  --uds-path PATH           host programs connect to PATH and say \"CONNECT <port>\";\n"
	"                            the guest reaches host programs that listen at PATH_<port>;\n"
	"                            seqpacket: PATH_seqpacket, and PATH_<port> of that type\n"
	"  --tx-buffer-size BYTES    receive window of each connection (262144)\n"
	"  --queue-size N            largest virtqueue accepted, a power of two (1024)\n"
	"  --max-connections N       most connections at a time (4096)\n"
	"  --handshake-timeout MS    for the CONNECT line (10000)\n"
	"  --connect-timeout MS      for an answer to a connection request (2000)\n"
	"  --close-timeout MS        for the guest to confirm a close (2000)\n"
	"  --linger-timeout MS       for a host program to read what a closed connection left (30000)\n"
	"  --poll-us N               look for work for N microseconds before sleeping: less latency,\n"
	"                            more processor time; only while there is traffic (0)\n"
	"  --log-level LEVEL         error, warn, info, debug or trace (info)\n"
	"  -h, --help                this text\n"
	"  -V, --version             version\n"
	"\n"
	"SIGUSR1 prints counters to the log.\n";

enum {
	OPT_GUEST_CID = 256,
	OPT_SOCKET,
	OPT_UDS_PATH,
	OPT_WINDOW,
	OPT_QUEUE_SIZE,
	OPT_CONNS,
	OPT_HANDSHAKE,
	OPT_CONNECT,
	OPT_CLOSE,
	OPT_LINGER,
	OPT_POLL,
	OPT_LOG_LEVEL,
};

static const struct option long_options[] = {
	{ "guest-cid", required_argument, NULL, OPT_GUEST_CID },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "uds-path", required_argument, NULL, OPT_UDS_PATH },
	{ "tx-buffer-size", required_argument, NULL, OPT_WINDOW },
	{ "queue-size", required_argument, NULL, OPT_QUEUE_SIZE },
	{ "max-connections", required_argument, NULL, OPT_CONNS },
	{ "handshake-timeout", required_argument, NULL, OPT_HANDSHAKE },
	{ "connect-timeout", required_argument, NULL, OPT_CONNECT },
	{ "close-timeout", required_argument, NULL, OPT_CLOSE },
	{ "linger-timeout", required_argument, NULL, OPT_LINGER },
	{ "poll-us", required_argument, NULL, OPT_POLL },
	{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

/* A decimal number from @min to @max, or a message and false. */
static bool number(const char *name, const char *text, u64 min, u64 max, u32 *value)
{
	char *end;
	u64 n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || n < min || n > max) {
		fprintf(stderr, "vsockd: --%s %s: give a number from %llu to %llu\n", name, text,
			(unsigned long long)min, (unsigned long long)max);
		return false;
	}
	*value = (u32)n;
	return true;
}

static bool option(struct vsd_opts *o, int opt, const char *arg)
{
	struct vsd_guest_opts *g = &o->guest;

	switch (opt) {
	case OPT_GUEST_CID:
		return number("guest-cid", arg, VSP_CID_HOST + 1, VSP_CID_ANY - 1, &g->guest_cid);
	case OPT_SOCKET:
		g->socket = arg;
		return true;
	case OPT_UDS_PATH:
		g->uds_path = arg;
		return true;
	case OPT_WINDOW:
		return number("tx-buffer-size", arg, 1, VSP_WINDOW_MAX, &g->window);
	case OPT_QUEUE_SIZE:
		if (!number("queue-size", arg, 1, VSP_RING_SIZE_MAX, &g->queue_size))
			return false;
		if (vsp_ring_size_valid(g->queue_size))
			return true;
		fprintf(stderr, "vsockd: --queue-size %s: give a power of two\n", arg);
		return false;
	case OPT_CONNS:
		return number("max-connections", arg, 1, VSD_CONNS_MAX, &g->conns_max);
	case OPT_HANDSHAKE:
		return number("handshake-timeout", arg, 1, VSD_TIMEOUT_MAX_MS, &g->handshake_ms);
	case OPT_CONNECT:
		return number("connect-timeout", arg, 1, VSD_TIMEOUT_MAX_MS, &g->connect_ms);
	case OPT_CLOSE:
		return number("close-timeout", arg, 1, VSD_TIMEOUT_MAX_MS, &g->close_ms);
	case OPT_LINGER:
		return number("linger-timeout", arg, 1, VSD_TIMEOUT_MAX_MS, &g->linger_ms);
	case OPT_POLL:
		return number("poll-us", arg, 0, VSD_POLL_MAX_US, &o->poll_us);
	default:
		o->level = vsd_level_by_name(arg);
		if (o->level < NUM_VSD_LEVELS)
			return true;
		fprintf(stderr, "vsockd: --log-level %s: give error, warn, info, debug or trace\n", arg);
		return false;
	}
}

static bool path_ok(const char *name, const char *path, size_t suffix)
{
	if (!path || !*path) {
		fprintf(stderr, "vsockd: --%s PATH is required (see --help)\n", name);
		return false;
	}
	if (strlen(path) + suffix < VSD_PATH_MAX)
		return true;
	fprintf(stderr, "vsockd: --%s %s: too long for a Unix socket; use at most %zu bytes\n", name, path,
		VSD_PATH_MAX - 1 - suffix);
	return false;
}

enum vsd_opts_what vsd_opts_parse(struct vsd_opts *o, int argc, char **argv)
{
	int opt;

	*o = (struct vsd_opts){
		.level = VSD_INFO,
		.guest = {
			.guest_cid = VSD_GUEST_CID_DEFAULT, .window = VSD_WINDOW_DEFAULT,
			.queue_size = VSD_QUEUE_SIZE_DEFAULT, .conns_max = VSD_CONNS_DEFAULT,
			.handshake_ms = VSD_HANDSHAKE_TIMEOUT_MS, .connect_ms = VSD_CONNECT_TIMEOUT_MS,
			.close_ms = VSD_CLOSE_TIMEOUT_MS, .linger_ms = VSD_LINGER_TIMEOUT_MS,
		},
	};
	while ((opt = getopt_long(argc, argv, "hV", long_options, NULL)) != -1) {
		if (opt == 'h' || opt == 'V') {
			fputs(opt == 'h' ? usage : "vsockd " VSD_VERSION "\n", stdout);
			return VSD_OPTS_DONE;
		}
		if (opt == '?') {
			fputs("vsockd: see --help\n", stderr);
			return VSD_OPTS_BAD;
		}
		if (!option(o, opt, optarg))
			return VSD_OPTS_BAD;
	}
	if (optind < argc) {
		fprintf(stderr, "vsockd: %s: not an option; see --help\n", argv[optind]);
		return VSD_OPTS_BAD;
	}
	if (!path_ok("socket", o->guest.socket, 0) || !path_ok("uds-path", o->guest.uds_path, VSD_PORT_SUFFIX_MAX))
		return VSD_OPTS_BAD;
	return VSD_OPTS_RUN;
}
