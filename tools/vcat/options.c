// SPDX-License-Identifier: BSD-2-Clause
/*
 * options.c - from argv to struct options
 *
 * Where ncat has an option, the spelling and the meaning are ncat's.
 */
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "options.h"
#include "say.h"

enum {
	OPT_ALLOW = 256,
	OPT_APPEND,
	OPT_BUFFER,
	OPT_DENY,
	OPT_NO_SHUTDOWN,
	OPT_RECV_ONLY,
	OPT_SEND_ONLY,
	OPT_UDS,
	OPT_VERSION,
	OPT_VSOCK,
};

enum { DEFAULT_MAX_CLIENTS = 100 };

static const struct option long_options[] = {
	{ "allow", required_argument, NULL, OPT_ALLOW },
	{ "append-output", no_argument, NULL, OPT_APPEND },
	{ "buffer-size", required_argument, NULL, OPT_BUFFER },
	{ "deny", required_argument, NULL, OPT_DENY },
	{ "exec", required_argument, NULL, 'e' },
	{ "help", no_argument, NULL, 'h' },
	{ "hex-dump", required_argument, NULL, 'x' },
	{ "idle-timeout", required_argument, NULL, 'i' },
	{ "keep-open", no_argument, NULL, 'k' },
	{ "listen", no_argument, NULL, 'l' },
	{ "max-conns", required_argument, NULL, 'm' },
	{ "no-shutdown", no_argument, NULL, OPT_NO_SHUTDOWN },
	{ "nodns", no_argument, NULL, 'n' },
	{ "output", required_argument, NULL, 'o' },
	{ "recv-only", no_argument, NULL, OPT_RECV_ONLY },
	{ "send-only", no_argument, NULL, OPT_SEND_ONLY },
	{ "seqpacket", no_argument, NULL, 'Q' },
	{ "sh-exec", required_argument, NULL, 'c' },
	{ "source", required_argument, NULL, 's' },
	{ "source-port", required_argument, NULL, 'p' },
	{ "udp", no_argument, NULL, 'u' },
	{ "uds", required_argument, NULL, OPT_UDS },
	{ "verbose", no_argument, NULL, 'v' },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "vsock", no_argument, NULL, OPT_VSOCK },
	{ "wait", required_argument, NULL, 'w' },
	{ "zero", no_argument, NULL, 'z' },
	{ NULL, 0, NULL, 0 },
};

static const char help[] =
	"Usage: vcat [OPTION]... ADDRESS | CID PORT          connect\n"
	"       vcat -l [OPTION]... [ADDRESS | [CID] PORT]   listen\n"
	"       vcat [-l] --uds PATH [OPTION]... PORT        the same through a hybrid Unix socket\n"
	"\n"
	"Relays between standard input and output and a vsock connection.\n"
	"\n"
	"ADDRESS is vsock:CID:PORT, CID:PORT, vsock/CID PORT, vsock-mux:PATH:PORT, and more (vcat(1));\n"
	"CID is a number or any, hypervisor (0), local (1), host (2), self.\n"
	"\n"
	"  -l, --listen              listen instead of connecting\n"
	"  -k, --keep-open           accept more than one connection\n"
	"  -m, --max-conns N         at most N connections at once (100)\n"
	"  -e, --exec COMMAND        run COMMAND for each connection\n"
	"  -c, --sh-exec COMMAND     run COMMAND through /bin/sh -c\n"
	"  -p, --source-port PORT    connect from PORT; with -l: listen on PORT\n"
	"  -s, --source CID          connect from CID; with -l: listen on CID\n"
	"  -w, --wait TIME           give up connecting after TIME (2, 500ms, 1m)\n"
	"  -i, --idle-timeout TIME   give up after TIME without data\n"
	"  -z, --zero                only report whether PORT, or each of PORT-PORT, answers\n"
	"  -Q, --seqpacket           records (SOCK_SEQPACKET) instead of a stream\n"
	"  -u, --udp                 datagrams (SOCK_DGRAM): one for each read of the input\n"
	"      --uds PATH            use the hybrid socket at PATH (vsockd, Firecracker)\n"
	"      --send-only           do not read from the connection; end with the input\n"
	"      --recv-only           do not read the input\n"
	"      --no-shutdown         do not half-close the connection when the input ends\n"
	"      --allow CID[,CID]...  with -l: accept only these\n"
	"      --deny CID[,CID]...   with -l: refuse these\n"
	"      --buffer-size SIZE    let the peer send SIZE bytes ahead (64K, 1M)\n"
	"  -o, --output FILE         write what goes through to FILE\n"
	"  -x, --hex-dump FILE       the same as a hex dump\n"
	"      --append-output       do not truncate these files\n"
	"  -v, --verbose             say what happens; twice for more\n"
	"      --help, --version     show this, or the version, and exit\n"
	"\n"
	"Exit status: 0 all is well, 1 network error or data missing, 2 wrong usage.\n";

__attribute__((noreturn, format(printf, 1, 2))) static void usage_error(const char *fmt, ...)
{
	char text[VSOCK_TEXT_MAX * 2];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	say("%s", text);
	fputs("Try 'vcat --help'.\n", stderr);
	exit(EXIT_USAGE);
}

/* "2", "0.5", "500ms", "3s", "1m", "1h": ncat's grammar, in milliseconds. */
static uint32_t parse_time(const char *option, const char *text)
{
	static const struct {
		const char *suffix;
		double ms;
	} units[] = { { "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };
	char *end;
	double value = strtod(text, &end);

	for (size_t i = 0; end != text && i < sizeof(units) / sizeof(units[0]); i++) {
		double ms = value * units[i].ms;

		if (strcmp(end, units[i].suffix) == 0 && isfinite(ms) && ms >= 1 && ms <= INT32_MAX)
			return (uint32_t)ms;
	}
	usage_error("%s: '%.80s' is not a time: write seconds, or a number with ms, s, m or h", option, text);
}

static uint64_t parse_count(const char *option, const char *text, bool suffixes)
{
	static const char letters[] = "KMG";
	char *end;
	unsigned long long value = strtoull(text, &end, 10);
	const char *letter;

	if (text[0] < '0' || text[0] > '9')
		end = (char *)text;
	if (suffixes && end != text && *end && !end[1]) {
		letter = strchr(letters, *end);
		if (letter && value < UINT32_MAX) {
			value <<= 10 * (letter - letters + 1);
			end++;
		}
	}
	if (end == text || *end || !value || value > INT64_MAX)
		usage_error("%s: '%.80s' is not a number from 1 on%s", option, text,
			    suffixes ? ", with K, M or G after it if you like" : "");
	return value;
}

static void parse_cids(const char *option, const char *text, struct cid_list *list)
{
	char copy[1024], why[VSOCK_TEXT_MAX], *rest = copy, *word;
	struct vsock_addr addr;

	if ((size_t)snprintf(copy, sizeof(copy), "%s", text) >= sizeof(copy))
		usage_error("%s: the list is too long", option);
	while ((word = strsep(&rest, ",")) != NULL) {
		if (vsock_parse_cid(word, &addr, why, sizeof(why)) != 0)
			usage_error("%s: %s", option, why);
		if (addr.flags & VSOCK_ADDR_SELF || addr.cid == VSOCK_CID_ANY)
			usage_error("%s: '%s' is not one CID: write its number", option, word);
		if (list->count == MAX_CID_LIST)
			usage_error("%s: more than %d CIDs", option, MAX_CID_LIST);
		list->cids[list->count++] = addr.cid;
	}
}

static uint32_t parse_source(const char *text)
{
	char why[VSOCK_TEXT_MAX];
	struct vsock_addr addr;

	if (vsock_parse_cid(text, &addr, why, sizeof(why)) != 0)
		usage_error("-s: %s", why);
	if (vsock_resolve(&addr) != 0)
		usage_error("-s: this machine's CID is unknown: is the module vsock loaded?");
	return addr.cid;
}

static uint32_t parse_source_port(const char *text)
{
	char why[VSOCK_TEXT_MAX];
	uint32_t port = 0;

	if (vsock_parse_port(text, &port, why, sizeof(why)) != 0)
		usage_error("-p: %s", why);
	return port;
}

/* What has no home in struct options because it is combined with the words that follow. */
struct loose {
	const char *uds;
	bool seqpacket;
	bool dgram;
};

static void apply_value(struct options *o, struct loose *loose, int option)
{
	switch (option) {
	case 'c':
	case 'e':
		if (o->command)
			usage_error("-e and -c: give one command");
		o->command = optarg;
		o->shell = option == 'c';
		return;
	case 'i':
		o->idle_ms = parse_time("-i", optarg);
		return;
	case 'm':
		o->max_clients = (unsigned int)parse_count("-m", optarg, false);
		return;
	case 'o':
		o->output = optarg;
		return;
	case 'p':
		o->how.local_port = parse_source_port(optarg);
		return;
	case 's':
		o->how.local_cid = parse_source(optarg);
		return;
	case 'w':
		o->how.timeout_ms = parse_time("-w", optarg);
		return;
	case 'x':
		o->hex_output = optarg;
		return;
	case OPT_ALLOW:
		parse_cids("--allow", optarg, &o->allow);
		return;
	case OPT_BUFFER:
		o->how.buffer_size = parse_count("--buffer-size", optarg, true);
		return;
	case OPT_DENY:
		parse_cids("--deny", optarg, &o->deny);
		return;
	case OPT_UDS:
		loose->uds = optarg;
		return;
	}
}

static void apply_flag(struct options *o, struct loose *loose, int option)
{
	switch (option) {
	case 'h':
		fputs(help, stdout);
		exit(fflush(stdout) ? EXIT_NETWORK : EXIT_OK);
	case 'k':
		o->keep_open = true;
		return;
	case 'l':
		o->listen = true;
		return;
	case 'Q':
		loose->seqpacket = true;
		return;
	case 'u':
		loose->dgram = true;
		return;
	case 'v':
		say_level++;
		return;
	case 'z':
		o->probe = true;
		return;
	case OPT_APPEND:
		o->append = true;
		return;
	case OPT_NO_SHUTDOWN:
		o->no_shutdown = true;
		return;
	case OPT_RECV_ONLY:
		o->recv_only = true;
		return;
	case OPT_SEND_ONLY:
		o->send_only = true;
		return;
	case OPT_VERSION:
		printf("vcat %s\n", vsock_version());
		exit(fflush(stdout) ? EXIT_NETWORK : EXIT_OK);
	case '?':
		fputs("Try 'vcat --help'.\n", stderr);
		exit(EXIT_USAGE);
	default: /* -n and --vsock: what they ask for is always so */
		return;
	}
}

/* Cuts "-LAST" off the port of a range and returns LAST, or NULL where there is no range. */
static char *cut_range(char *word)
{
	char *port = strrchr(word, ':'), *dash;

	port = port ? port + 1 : word;
	dash = strchr(port, '-');
	if (!dash || dash == port || strspn(port, "0123456789abcdefABCDEFxX-") != strlen(port))
		return NULL;
	*dash = '\0';
	return dash + 1;
}

static void parse_address(struct options *o, const struct loose *loose, int words, char **word)
{
	unsigned int flags = o->listen ? VSOCK_PARSE_LISTEN : 0;
	char why[VSOCK_TEXT_MAX], path[VSOCK_PATH_MAX + 16], *last = NULL;
	const char *text = words ? word[0] : "any", *port = words > 1 ? word[1] : NULL;

	if (o->probe && words)
		last = cut_range(word[words - 1]);
	if (loose->uds) {
		if (words > 1)
			usage_error("--uds: '%.80s' is one word too many: write PORT alone", word[1]);
		port = text;
		text = path;
		if ((size_t)snprintf(path, sizeof(path), "vsock-mux:%s", loose->uds) >= sizeof(path))
			usage_error("--uds: the path '%.80s...' is too long for a Unix socket", loose->uds);
	}
	if (vsock_parse(text, port, flags, &o->addr, why, sizeof(why)) != 0)
		usage_error("%s", why);
	o->last_port = o->addr.port;
	if (last && vsock_parse_port(last, &o->last_port, why, sizeof(why)) != 0)
		usage_error("%s", why);
	if (o->last_port < o->addr.port)
		usage_error("the range %u-%u is empty: write the smaller port first", o->addr.port, o->last_port);
}

/* ncat: "-l -p PORT" and "-l -s ADDRESS" name where to listen. */
static void listen_on_source(struct options *o, int words)
{
	if (words && o->how.local_port != VSOCK_PORT_ANY)
		usage_error("-l: there are two ports, -p and an address: leave one out");
	if (o->how.local_port != VSOCK_PORT_ANY)
		o->addr.port = o->how.local_port;
	if (o->how.local_cid != VSOCK_CID_ANY)
		o->addr.cid = o->how.local_cid;
	o->how.local_port = VSOCK_PORT_ANY;
	o->how.local_cid = VSOCK_CID_ANY;
}

static void settle_type(struct options *o, bool seqpacket, bool dgram)
{
	int wanted = dgram ? SOCK_DGRAM : SOCK_SEQPACKET;

	if (seqpacket && dgram)
		usage_error("-Q says records, -u says datagrams: leave one out");
	if ((seqpacket || dgram) && o->addr.type && o->addr.type != wanted)
		usage_error("the address names another type than -%c: leave one out", dgram ? 'u' : 'Q');
	if (seqpacket || dgram)
		o->addr.type = wanted;
	if (!o->addr.type)
		o->addr.type = SOCK_STREAM;
}

/* A datagram socket has no connection that a command could have, or that could be tried. */
static void check_dgram(const struct options *o)
{
	if (o->command || o->probe || o->output || o->hex_output)
		usage_error("datagrams do not go with -e, -c, -z, -o and -x: use a stream, or records (-Q)");
	if (o->how.buffer_size)
		usage_error("--buffer-size is for connections: datagrams have no window");
	if (o->listen && o->send_only)
		usage_error("--send-only: a listener for datagrams knows nobody before it has heard somebody");
}

static void check_combination(const struct options *o)
{
	bool hybrid = o->addr.kind == VSOCK_KIND_HYBRID;

	if (!o->listen && (o->keep_open || o->allow.count || o->deny.count))
		usage_error("-k, --allow and --deny belong to -l");
	if (o->listen && o->probe)
		usage_error("-z probes by connecting: it does not go with -l");
	if (o->probe && o->command)
		usage_error("-z only probes: it does not go with -e or -c");
	if (o->send_only && o->recv_only)
		usage_error("--send-only and --recv-only leave nothing to do: give one of them");
	if (hybrid && o->addr.type != SOCK_DGRAM && (o->allow.count || o->deny.count))
		usage_error("--allow and --deny need AF_VSOCK: a hybrid socket does not tell the peer's CID");
	if (hybrid && o->addr.port == VSOCK_PORT_ANY)
		usage_error("a hybrid socket needs one port, not any");
	if (!o->listen && o->addr.kind == VSOCK_KIND_VSOCK && o->addr.cid == VSOCK_CID_ANY &&
	    !(o->addr.flags & VSOCK_ADDR_SELF))
		usage_error("CID any cannot be connected to: name one, such as 2 (host) or 1 (local)");
	if (!o->listen && o->addr.port == VSOCK_PORT_ANY)
		usage_error("port any cannot be connected to: name one");
	if (o->listen && o->last_port == VSOCK_PORT_ANY && o->addr.port == VSOCK_PORT_ANY && !hybrid)
		say_if(1, "no port was named: the kernel chooses one");
}

struct options options_parse(int argc, char **argv)
{
	struct options o = { .max_clients = DEFAULT_MAX_CLIENTS, .how = VSOCK_OPTIONS_INIT };
	struct loose loose = { .uds = NULL };
	int option, words;

	while ((option = getopt_long(argc, argv, "c:e:hi:klm:no:p:Qs:uvw:x:z", long_options, NULL)) != -1) {
		if (optarg)
			apply_value(&o, &loose, option);
		else
			apply_flag(&o, &loose, option);
	}
	words = argc - optind;
	if (words > 2)
		usage_error("'%.80s' is one word too many", argv[optind + 2]);
	if (!words && !(o.listen && o.how.local_port != VSOCK_PORT_ANY))
		usage_error("%s", o.listen ? "-l: where to listen is missing: write PORT, or CID:PORT" :
					     "the address is missing: write CID:PORT, or vsock-mux:PATH:PORT");
	parse_address(&o, &loose, words, argv + optind);
	if (o.listen)
		listen_on_source(&o, words);
	settle_type(&o, loose.seqpacket, loose.dgram);
	check_combination(&o);
	if (o.addr.type == SOCK_DGRAM)
		check_dgram(&o);
	return o;
}
