// SPDX-License-Identifier: BSD-2-Clause
/*
 * vguest - a guest without a virtual machine: programs reach what a vhost-user vsock device leads to
 *
 * main.c: options, signals and the end. The guest is served by a thread (daemon/loop.h); what is its own is session.c.
 */
#include "daemon/control.h"
#include "daemon/files.h"
#include "daemon/root.h"
#include "daemon/sandbox.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	EXIT_USAGE = 2,
	QUEUE_SIZE_DEFAULT = 128, /* what QEMU gives */
};

static const char usage[] =
	"Usage: vguest --device SOCKET --uds-path PATH [OPTION]...\n"
	"Be a guest without a virtual machine: of the vhost-user vsock device at SOCKET.\n"
	"\n"
	"  --device SOCKET           where the device listens for virtual machine monitors\n"
	"  --guest-cid N             context identifier that the device gives its guest (3)\n"
	"  --uds-path PATH           programs connect to PATH and say \"CONNECT <port>\", to go to the host, or\n"
	"                            \"CONNECT <cid> <port>\"; who connects to the guest reaches programs that\n"
	"                            listen at PATH_<port>; seqpacket: PATH_seqpacket, and PATH_<port> of that type\n"
	"                            (@ in front of either: an abstract name)\n"
	"  --uds-mode OCTAL, --uds-owner USER:GROUP\n"
	"                            of PATH and the others\n"
	"  --uds-users USER+USER     programs of these users only\n"
	"  --peer-names on|off       programs see the other end as PATH@<cid>.<port> (off)\n"
	"  --datagrams on|off        programs send to PATH_dgram, others to PATH_dgram_<port> (on)\n"
	"  --receive-buffer BYTES    payload of a receive buffer of the guest (65536)\n"
	"  --queue-size N            of each virtqueue, a power of two (128)\n"
	"  --tx-buffer-size BYTES    receive window of each connection (262144)\n"
	"  --max-connections N       most connections at a time (4096)\n"
	"  --max-memory KIB          most KiB that its connections may make vguest hold (0: no limit)\n"
	"  --handshake-timeout MS    for the CONNECT line (10000)\n"
	"  --connect-timeout MS      for an answer to a connection request (2000)\n"
	"  --close-timeout MS        for the other end to confirm a close (2000)\n"
	"  --linger-timeout MS       for a reader to take what a closed connection left (30000)\n"
	"  --poll-us N               look for work for N microseconds before sleeping (0)\n"
	"  --control PATH            socket for vstat\n"
	"  --sandbox on|off|strict   give up system calls that a guest does not need; strict: and the sight of files,\n"
	"                            users and networks that the options do not name (off)\n"
	"  --log-level LEVEL         error, warn, info, debug or trace (info)\n"
	"  --log-format text|json    a line of text or a JSON object for each event (text)\n"
	"  -h, --help                this text\n"
	"  -V, --version             version\n"
	"\n"
	"SIGUSR1 prints counters to the log.\n";

/* Where an option is kept: with the guest, or with what concerns the program. */
enum { OPT_GUEST = 256, OPT_ALL, OPT_DEVICE, OPT_RECEIVE_BUFFER };

static const struct option options[] = {
	{ "device", required_argument, NULL, OPT_DEVICE },
	{ "receive-buffer", required_argument, NULL, OPT_RECEIVE_BUFFER },
	{ "guest-cid", required_argument, NULL, OPT_GUEST },
	{ "uds-path", required_argument, NULL, OPT_GUEST },
	{ "uds-mode", required_argument, NULL, OPT_GUEST },
	{ "uds-owner", required_argument, NULL, OPT_GUEST },
	{ "uds-users", required_argument, NULL, OPT_GUEST },
	{ "peer-names", required_argument, NULL, OPT_GUEST },
	{ "datagrams", required_argument, NULL, OPT_GUEST },
	{ "queue-size", required_argument, NULL, OPT_GUEST },
	{ "tx-buffer-size", required_argument, NULL, OPT_GUEST },
	{ "max-connections", required_argument, NULL, OPT_GUEST },
	{ "max-memory", required_argument, NULL, OPT_GUEST },
	{ "handshake-timeout", required_argument, NULL, OPT_GUEST },
	{ "connect-timeout", required_argument, NULL, OPT_GUEST },
	{ "close-timeout", required_argument, NULL, OPT_GUEST },
	{ "linger-timeout", required_argument, NULL, OPT_GUEST },
	{ "poll-us", required_argument, NULL, OPT_ALL },
	{ "control", required_argument, NULL, OPT_ALL },
	{ "sandbox", required_argument, NULL, OPT_ALL },
	{ "log-level", required_argument, NULL, OPT_ALL },
	{ "log-format", required_argument, NULL, OPT_ALL },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ 0 },
};

static bool set(struct vsd_config *c, int opt, const char *name, const char *value, struct vsd_blame *b)
{
	struct vsd_guest_opts *o = c->guests[0];

	switch (opt) {
	case OPT_DEVICE:
		if (o->socket)
			return vsd_complain(b, name, value, "one device is enough");
		return vsd_set_path(&o->socket, name, value, b);
	case OPT_RECEIVE_BUFFER:
		return vsd_set_number(&o->receive_buffer, name, value, 1, VSP_MAX_PAYLOAD, b);
	case OPT_ALL:
		return vsd_config_set(c, name, value, b);
	default:
		return vsd_guest_set(o, name, value, b);
	}
}

static bool check(const struct vsd_config *c, struct vsd_blame *b)
{
	if (!c->guests[0]->socket)
		return vsd_complain(b, "device", NULL, "SOCKET is required (see --help)");
	if (!c->guests[0]->uds_path)
		return vsd_complain(b, "uds-path", NULL, "PATH is required (see --help)");
	return vsd_config_check(c, b);
}

/* -1: run; else exit with this. */
static int parse(struct vsd_config *c, int argc, char **argv)
{
	struct vsd_blame b = { 0 };
	int opt, index = 0;
	bool good = vsd_config_add(c, &b);

	if (good) {
		c->guests[0]->queue_size = QUEUE_SIZE_DEFAULT;
		c->guests[0]->receive_buffer = VSP_MAX_PAYLOAD;
	}
	while (good && (opt = getopt_long(argc, argv, "hV", options, &index)) != -1) {
		if (opt == 'h' || opt == 'V') {
			fputs(opt == 'h' ? usage : "vguest " VSG_VERSION "\n", stdout);
			return EXIT_SUCCESS;
		}
		if (opt == '?') {
			fputs("vguest: see --help\n", stderr);
			return EXIT_USAGE;
		}
		good = set(c, opt, options[index].name, optarg, &b);
	}
	if (good && optind < argc)
		good = vsd_complain(&b, NULL, argv[optind], "not an option; see --help");
	if (good && check(c, &b))
		return -1;
	fprintf(stderr, "vguest: %s\n", b.text);
	return EXIT_USAGE;
}

/* Threads inherit them as blocked. */
static int watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* Give up what is not needed. 0, or -1 after a message. */
static int confine(struct vsd_config *c)
{
	int err = 0;

	if (c->sandbox == VSD_SANDBOX_STRICT && vsd_root_enter(c))
		return -1;
	if (c->sandbox != VSD_SANDBOX_OFF)
		err = vsd_sandbox(true);
	if (err)
		vsd_log(VSD_ERROR, "vguest", "--sandbox: %s", strerror(-err));
	return err ? -1 : 0;
}

/* Until a signal that is the end. */
static void run(struct vsd_fleet *fleet, int signal_fd, int control_fd)
{
	const struct vsd_control_ops nothing = { 0 };
	struct signalfd_siginfo info = { 0 };

	do {
		vsd_control_serve(control_fd, signal_fd, fleet, &nothing);
		while (read(signal_fd, &info, sizeof(info)) == sizeof(info) && info.ssi_signo == SIGUSR1)
			vsd_fleet_report(fleet, VSD_REPORT);
	} while (info.ssi_signo == SIGUSR1);
}

static int serve(struct vsd_config *c)
{
	struct vsd_fleet fleet;
	int signal_fd = watch_signals(), control_fd = -1, err;

	if (signal_fd < 0 || confine(c))
		return EXIT_FAILURE;
	vsd_files_share(c);
	if (c->control)
		control_fd = vsd_control_listen(c->control);
	if (c->control && control_fd < 0)
		return EXIT_FAILURE;
	err = vsd_fleet_start(&fleet, c);
	if (!err) {
		run(&fleet, signal_fd, control_fd);
		vsd_fleet_report(&fleet, VSD_INFO);
		vsd_fleet_stop(&fleet);
	}
	if (control_fd >= 0) {
		close(control_fd);
		vsd_path_remove(c->control);
	}
	close(signal_fd);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct vsd_config config;
	int status;

	vsd_config_init(&config);
	status = parse(&config, argc, argv);
	if (status < 0) {
		vsd_log_set_level(config.level);
		vsd_log_set_format(config.format);
		status = serve(&config);
	}
	vsd_config_free(&config);
	return status;
}
