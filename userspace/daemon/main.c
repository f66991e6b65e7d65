// SPDX-License-Identifier: BSD-2-Clause
/*
 * vsockd - virtio-vsock devices in userspace
 *
 * main.c: start-up, signals and the end. The guests are served by threads of their own (fleet.h, loop.h).
 */
#include "daemon/control.h"
#include "daemon/files.h"
#include "daemon/opts.h"
#include "daemon/root.h"
#include "daemon/sandbox.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
	EXIT_USAGE = 2,
};

/**
 * struct daemon - what the main thread holds
 * @config: in force
 * @fleet: the guests
 * @signal_fd: signals, which threads inherit as blocked
 * @control_fd: the control socket, or -1; @control: its path
 */
struct daemon {
	struct vsd_config *config;
	struct vsd_fleet fleet;
	int signal_fd;
	int control_fd;
	char *control;
};

static int watch_signals(struct daemon *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	d->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return d->signal_fd < 0 ? -errno : 0;
}

/* Read the file again. If it makes no sense, all stays as it is. */
static bool reload(void *arg, struct vsd_blame *b)
{
	struct daemon *d = arg;
	struct vsd_config fresh = vsd_config_again(d->config);
	u32 failed;

	b->file = d->config->file;
	if (!b->file) {
		vsd_complain(b, NULL, NULL, "there is nothing to read again, for there is no --config");
		vsd_log(VSD_WARN, "vsockd", "%s", b->text);
		return false;
	}
	if (!vsd_config_read(&fresh, b) || !vsd_config_check(&fresh, b)) {
		vsd_log(VSD_ERROR, "vsockd", "%s; all stays as it is", b->text);
		vsd_config_free(&fresh);
		return false;
	}
	vsd_log_set_level(fresh.level);
	vsd_log_set_format(fresh.format);
	vsd_files_share(&fresh);
	failed = vsd_fleet_reload(&d->fleet, &fresh);
	vsd_config_close(d->config, &fresh);
	vsd_config_free(d->config);
	*d->config = fresh;
	d->fleet.config = d->config;
	vsd_log(VSD_INFO, "vsockd", "%s was read again: %u guests", b->file, fresh.n);
	if (!failed)
		return true;
	b->line = 0;
	vsd_complain(b, NULL, NULL, "it was read, but %u of its guests cannot begin; the log says why", failed);
	vsd_log(VSD_ERROR, "vsockd", "%u of its guests could not begin", failed);
	return false;
}

static bool add(void *arg, const char *spec, struct vsd_blame *b)
{
	struct daemon *d = arg;
	struct vsd_guest_opts *o = vsd_config_add(d->config, b);

	if (!o)
		return false;
	if (vsd_guest_set_all(o, spec, b) && vsd_config_check(d->config, b) && vsd_files_fit(d->config, b) &&
	    (!vsd_fleet_add(&d->fleet, o) || vsd_complain(b, NULL, NULL, "it cannot begin; the log says why")))
		return true;
	vsd_config_drop(d->config);
	return false;
}

static bool remove_guest(void *arg, u32 guest_cid)
{
	struct daemon *d = arg;
	bool found = vsd_fleet_remove(&d->fleet, guest_cid);

	if (found)
		vsd_config_remove(d->config, guest_cid);
	return found;
}

/* False: the end. */
static bool on_signals(struct daemon *d)
{
	struct signalfd_siginfo info;
	bool go_on = true;
	struct vsd_blame b = { 0 };

	while (read(d->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGUSR1)
			vsd_fleet_report(&d->fleet, VSD_REPORT);
		else if (info.ssi_signo == SIGHUP)
			reload(d, &b);
		else
			go_on = false;
	}
	return go_on;
}

static void run(struct daemon *d)
{
	const struct vsd_control_ops ops = { .reload = reload, .add = add, .remove = remove_guest, .arg = d };

	do
		vsd_control_serve(d->control_fd, d->signal_fd, &d->fleet, &ops);
	while (on_signals(d));
}

static int open_control(struct daemon *d)
{
	d->control_fd = -1;
	if (!d->config->control)
		return 0;
	d->control = strdup(d->config->control);
	if (d->control)
		d->control_fd = vsd_control_listen(d->control);
	return d->control_fd < 0 ? -1 : 0;
}

static void close_all(struct daemon *d)
{
	if (d->control_fd >= 0) {
		close(d->control_fd);
		vsd_path_remove(d->control);
	}
	free(d->control);
	close(d->signal_fd);
}

static int serve(struct vsd_config *c)
{
	struct daemon d = { .config = c };
	int err = watch_signals(&d);

	if (!err)
		err = vu_mem_guard();
	if (!err && c->sandbox == VSD_SANDBOX_STRICT && vsd_root_enter(c))
		return EXIT_FAILURE;
	if (!err && c->sandbox != VSD_SANDBOX_OFF)
		err = vsd_sandbox(false);
	if (err) {
		vsd_log(VSD_ERROR, "vsockd", "cannot start: %s", strerror(-err));
		return EXIT_FAILURE;
	}
	vsd_files_share(c);
	err = open_control(&d);
	if (!err)
		err = vsd_fleet_start(&d.fleet, c);
	if (!err) {
		run(&d);
		vsd_fleet_report(&d.fleet, VSD_INFO);
		vsd_fleet_stop(&d.fleet);
	}
	close_all(&d);
	return err ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct vsd_config config;
	int status = EXIT_SUCCESS;

	vsd_config_init(&config);
	switch (vsd_opts_parse(&config, argc, argv)) {
	case VSD_OPTS_RUN:
		vsd_log_set_level(config.level);
		vsd_log_set_format(config.format);
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
