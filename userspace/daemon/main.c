// SPDX-License-Identifier: BSD-2-Clause
/*
 * vsockd - virtio-vsock devices in userspace
 *
 * main.c: start-up, signals and the end. The guests are served by threads of their own (fleet.h, loop.h).
 */
#include "daemon/fleet.h"
#include "daemon/opts.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
	FDS_RESERVE = 64,  /* descriptors that are not for connections */
	FDS_PER_GUEST = 8, /* nor these: listeners, front-end, doorbells */
	EXIT_USAGE = 2,
};

/*
 * A connection is a descriptor: raise the limit, and promise no more than it allows. Guests share evenly, so that none
 * can use up what another was promised.
 */
static void fit_limits(struct vsd_config *c)
{
	u64 reserve = FDS_RESERVE + (u64)FDS_PER_GUEST * c->n, share;
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	share = (lim.rlim_cur > 2 * reserve ? lim.rlim_cur - reserve : reserve) / c->n;
	for (u32 i = 0; i < c->n; i++) {
		struct vsd_guest_opts *o = c->guests[i];

		if (o->conns_max <= share)
			continue;
		vsd_log(VSD_WARN, "vsockd",
			"guest %u: --max-connections %u: only %llu files may be open, so %llu connections (see "
			"ulimit -n)",
			o->guest_cid, o->conns_max, (unsigned long long)lim.rlim_cur, (unsigned long long)share);
		o->conns_max = (u32)share;
	}
}

/* Signals are taken by sigwaitinfo(), in one place; threads inherit that they are blocked. */
static sigset_t block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return set;
}

/* Read the file again. If it makes no sense, all stays as it is. */
static void reload(struct vsd_fleet *f, struct vsd_config *c)
{
	struct vsd_blame b = { .file = c->file };
	struct vsd_config fresh = vsd_config_again(c);

	if (!c->file) {
		vsd_log(VSD_WARN, "vsockd", "nothing to read again: there is no --config");
		return;
	}
	if (!vsd_config_read(&fresh, &b) || !vsd_config_check(&fresh, &b)) {
		vsd_log(VSD_ERROR, "vsockd", "%s; all stays as it is", b.text);
		vsd_config_free(&fresh);
		return;
	}
	vsd_log_set_level(fresh.level);
	fit_limits(&fresh);
	vsd_fleet_reload(f, &fresh);
	vsd_config_free(c);
	*c = fresh;
	f->config = c;
	vsd_log(VSD_INFO, "vsockd", "%s was read again: %u guests", c->file, c->n);
}

static void run(struct vsd_fleet *f, struct vsd_config *c, const sigset_t *signals)
{
	int sig;

	do {
		sig = sigwaitinfo(signals, NULL);
		if (sig == SIGUSR1)
			vsd_fleet_report(f, VSD_REPORT);
		if (sig == SIGHUP)
			reload(f, c);
	} while (sig != SIGTERM && sig != SIGINT);
}

static int serve(struct vsd_config *c)
{
	sigset_t signals = block_signals();
	struct vsd_fleet fleet;
	int err = vu_mem_guard();

	if (err) {
		vsd_log(VSD_ERROR, "vsockd", "cannot start: %s", strerror(-err));
		return EXIT_FAILURE;
	}
	fit_limits(c);
	if (vsd_fleet_start(&fleet, c))
		return EXIT_FAILURE;
	run(&fleet, c, &signals);
	vsd_fleet_report(&fleet, VSD_INFO);
	vsd_fleet_stop(&fleet);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct vsd_config config;
	int status = EXIT_SUCCESS;

	vsd_config_init(&config);
	switch (vsd_opts_parse(&config, argc, argv)) {
	case VSD_OPTS_RUN:
		vsd_log_set_level(config.level);
		status = serve(&config);
		break;
	case VSD_OPTS_DONE:
		break;
	default:
		status = EXIT_USAGE;
		break;
	}
	vsd_config_free(&config);
	return status;
}
