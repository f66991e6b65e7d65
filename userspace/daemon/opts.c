// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/opts.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"Usage: vsockd --socket PATH --uds-path PATH [OPTION]...\n"
	"       vsockd --socket PATH --forward-cid CID [--forward-listen PORTS] [OPTION]...\n"
	"       vsockd --vm KEY=VALUE,... [--vm KEY=VALUE,...]... [OPTION]...\n"
	"       vsockd --config FILE [OPTION]...\n"
	"Serve AF_VSOCK to virtual machines over vhost-user.\n"
	"\n"
	"A guest; in --vm the same words are keys, without the dashes in front:\n"
	"  --guest-cid N             context identifier of the guest (3)\n"
	"  --socket PATH             socket for the virtual machine monitor\n"
	"  --fd N                    instead: a socket handed in, listening or connected\n"
	"  --uds-path PATH           host programs connect to PATH and say \"CONNECT <port>\";\n"
	"                            the guest reaches host programs that listen at PATH_<port>;\n"
	"                            seqpacket: PATH_seqpacket, and PATH_<port> of that type\n"
	"                            (@ in front of any of these paths: an abstract name)\n"
	"  --uds-fd N                instead of listening at PATH: a listener handed in\n"
	"  --connect-only on|off     listen nowhere for host programs (off)\n"
	"  --map-to-guest PORT:PATH+PORT:PATH\n"
	"                            host programs reach these ports of the guest at these paths, without CONNECT\n"
	"  --map-from-guest PORT:PATH+PORT:PATH\n"
	"                            the guest reaches host programs for these ports at these paths\n"
	"  --socket-mode, --uds-mode OCTAL\n"
	"  --socket-owner, --uds-owner USER:GROUP\n"
	"                            of the sockets for the monitor, and of those for host programs\n"
	"  --uds-users USER+USER     host programs of these users only\n"
	"  --peer-names on|off       host programs see the guest's end as PATH@<cid>.<port> (off)\n"
	"  --forward-cid CID         instead of --uds-path: the guest reaches this CID of the host's AF_VSOCK\n"
	"  --forward-listen PORTS    and is reached through these ports of it\n"
	"  --groups NAME+NAME        guests that have a group in common reach each other (default)\n"
	"  --allow-to-guest PORTS    host programs and other guests reach these ports only, 22+1000-1999\n"
	"  --deny-to-guest PORTS     nor any of these\n"
	"  --allow-from-guest PORTS  the guest reaches these ports of the host and other guests only\n"
	"  --deny-from-guest PORTS   nor any of these\n"
	"  --datagrams on|off        datagrams: host programs send to PATH_dgram, the guest to PATH_dgram_<port> (on)\n"
	"  --tx-buffer-size BYTES    receive window of each connection (262144)\n"
	"  --queue-size N            largest virtqueue accepted, a power of two (1024)\n"
	"  --max-connections N       most connections at a time (4096)\n"
	"  --max-memory KIB          most KiB that its connections may make the daemon hold (0: no limit)\n"
	"  --max-rate KIB            most KiB a second, in each direction (0: no limit)\n"
	"  --handshake-timeout MS    for the CONNECT line (10000)\n"
	"  --connect-timeout MS      for an answer to a connection request (2000)\n"
	"  --close-timeout MS        for the guest to confirm a close (2000)\n"
	"  --linger-timeout MS       for a reader to take what a closed connection left (30000)\n"
	"\n"
	"All guests:\n"
	"  --threads N               serve them with up to N threads; guests that reach each other\n"
	"                            share one (as many as there are processors)\n"
	"  --poll-us N               look for work for N microseconds before sleeping: less latency,\n"
	"                            more processor time; only while there is traffic (0)\n"
	"  --control PATH            socket for vstat\n"
	"  --sandbox on|off|strict   give up system calls that serving guests does not need; strict: and the sight\n"
	"                            of files, users and networks that the options do not name (off)\n"
	"  --log-level LEVEL         error, warn, info, debug or trace (info)\n"
	"  --log-format text|json    a line of text or a JSON object for each event (text)\n"
	"  --config FILE             read guests, and the options above, from a YAML file\n"
	"  --check-config            say whether all of this makes sense, and end\n"
	"  --print-capabilities      say what this is, in JSON, as vhost-user's conventions ask\n"
	"  -h, --help                this text\n"
	"  -V, --version             version\n"
	"\n"
	"SIGUSR1 prints counters to the log, SIGHUP reads the file again.\n";

enum {
	OPT_ALL = 256, /* a key that concerns all guests */
	OPT_VM,
	OPT_CONFIG,
	OPT_CHECK,
	OPT_CAPABILITIES,
	OPT_GUEST, /* + number of the guest's key; the last */
	OPTIONS_MAX = 64,
};

static const struct option fixed_options[] = {
	{ "vm", required_argument, NULL, OPT_VM },
	{ "config", required_argument, NULL, OPT_CONFIG },
	{ "check-config", no_argument, NULL, OPT_CHECK },
	{ "print-capabilities", no_argument, NULL, OPT_CAPABILITIES },
	{ "threads", required_argument, NULL, OPT_ALL },
	{ "poll-us", required_argument, NULL, OPT_ALL },
	{ "control", required_argument, NULL, OPT_ALL },
	{ "sandbox", required_argument, NULL, OPT_ALL },
	{ "log-level", required_argument, NULL, OPT_ALL },
	{ "log-format", required_argument, NULL, OPT_ALL },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
};

/**
 * struct parse - the command line being read
 * @c: into
 * @single: the guest described by options of its own, or NULL
 * @vms: --vm was there; @check: --check-config was
 * @file: of --config, or NULL
 * @blame: what is wrong
 */
struct parse {
	struct vsd_config *c;
	struct vsd_guest_opts *single;
	bool vms;
	bool check;
	const char *file;
	struct vsd_blame blame;
};

static void list_options(struct option options[OPTIONS_MAX])
{
	u32 n = ARRAY_SIZE(fixed_options);

	memset(options, 0, OPTIONS_MAX * sizeof(*options));
	memcpy(options, fixed_options, sizeof(fixed_options));
	for (u32 i = 0; vsd_guest_key(i); i++, n++) {
		assert(n < OPTIONS_MAX - 1);
		options[n] = (struct option){ vsd_guest_key(i), required_argument, NULL, OPT_GUEST + (int)i };
	}
}

static bool vm(struct parse *p, const char *spec)
{
	struct vsd_guest_opts *o;

	p->vms = true;
	p->blame.vm = true;
	o = vsd_config_add(p->c, &p->blame);
	if (!o || !vsd_guest_set_all(o, spec, &p->blame))
		return false;
	p->blame.vm = false;
	return true;
}

static bool one(struct parse *p, const char *key, const char *value)
{
	if (!p->single)
		p->single = vsd_config_add(p->c, &p->blame);
	return p->single && vsd_guest_set(p->single, key, value, &p->blame);
}

static bool option(struct parse *p, int opt, const char *name, const char *value)
{
	if (opt == OPT_CONFIG && p->file)
		return vsd_complain(&p->blame, name, NULL, "one file is enough");
	if (opt == OPT_CONFIG)
		p->file = value;
	if (opt == OPT_CHECK)
		p->check = true;
	if (opt == OPT_CONFIG || opt == OPT_CHECK)
		return true;
	if (opt == OPT_ALL)
		return vsd_config_set(p->c, name, value, &p->blame);
	return opt == OPT_VM ? vm(p, value) : one(p, vsd_guest_key((u32)(opt - OPT_GUEST)), value);
}

static enum vsd_opts_what bad(const struct parse *p)
{
	fprintf(stderr, "vsockd: %s\n", p->blame.text);
	return VSD_OPTS_BAD;
}

/* Does it fit together? A file is read here, when all options are known. */
static bool check(struct parse *p)
{
	if (p->single && p->vms)
		return vsd_complain(&p->blame, "vm", NULL,
				    "the guest that has options of its own needs a --vm as well: --vm KEY=VALUE,...");
	if (p->file && (p->single || p->vms))
		return vsd_complain(&p->blame, "config", p->file,
				    "conflicts with guests on the command line; write them into the file");
	p->blame.file = p->file;
	p->c->file = p->file;
	if (p->file)
		return vsd_config_read(p->c, &p->blame) && vsd_config_check(p->c, &p->blame);
	p->blame.vm = p->vms;
	if (!p->c->n)
		return vsd_complain(&p->blame, "socket", NULL, "PATH is required, or --vm, or --config (see --help)");
	if (p->single)
		p->single->alone = true;
	return vsd_config_check(p->c, &p->blame);
}

static enum vsd_opts_what checked(const struct parse *p)
{
	printf("%s: fine, %u guest%s\n", p->file ? p->file : "command line", p->c->n, p->c->n > 1 ? "s" : "");
	return VSD_OPTS_DONE;
}

/* An option that is an answer in itself. */
static bool answered(int opt)
{
	switch (opt) {
	case 'h':
		fputs(usage, stdout);
		return true;
	case 'V':
		fputs("vsockd " VSD_VERSION "\n", stdout);
		return true;
	case OPT_CAPABILITIES:
		fputs("{\n  \"type\": \"vsock\"\n}\n", stdout);
		return true;
	default:
		return false;
	}
}

enum vsd_opts_what vsd_opts_parse(struct vsd_config *c, int argc, char **argv)
{
	struct option options[OPTIONS_MAX];
	struct parse p = { .c = c };
	int opt, index = 0;

	list_options(options);
	while ((opt = getopt_long(argc, argv, "hV", options, &index)) != -1) {
		if (answered(opt))
			return VSD_OPTS_DONE;
		if (opt == '?') {
			fputs("vsockd: see --help\n", stderr);
			return VSD_OPTS_BAD;
		}
		if (!option(&p, opt, options[index].name, optarg))
			return bad(&p);
	}
	if (optind < argc)
		vsd_complain(&p.blame, NULL, argv[optind], "not an option; see --help");
	else if (check(&p))
		return p.check ? checked(&p) : VSD_OPTS_RUN;
	return bad(&p);
}
