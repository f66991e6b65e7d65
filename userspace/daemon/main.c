// SPDX-License-Identifier: BSD-2-Clause
/*
 * vsockd - virtio-vsock devices in userspace
 *
 * main.c: start-up, the loop and the end. What the loop does for a guest is in guest.c.
 */
#include "daemon/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum {
	EVENTS_MAX = 256, /* epoll events taken at a time */
	FDS_RESERVE = 64, /* descriptors that are not for connections */
	EXIT_USAGE = 2,
};

struct daemon {
	struct vsd_loop loop;
	struct vsd_guest guest;
	struct vsd_watch signal_watch;
	int signal_fd;
	u64 poll_ns;
	u64 poll_until;
	bool stop;
};

static u64 monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* A connection is a descriptor: raise the limit, and promise no more than it allows. */
static void fit_limits(struct vsd_guest_opts *o)
{
	struct rlimit lim;
	u64 most;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	most = lim.rlim_cur > 2 * FDS_RESERVE ? lim.rlim_cur - FDS_RESERVE : FDS_RESERVE;
	if (o->conns_max <= most)
		return;
	vsd_log(VSD_WARN, "vsockd",
		"--max-connections %u: only %llu files may be open, so %llu connections (see ulimit -n)", o->conns_max,
		(unsigned long long)lim.rlim_cur, (unsigned long long)most);
	o->conns_max = (u32)most;
}

static int watch_signals(struct daemon *d)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &d->signal_watch };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	d->signal_watch.source = VSD_SOURCE_SIGNAL;
	d->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (d->signal_fd < 0 || epoll_ctl(d->loop.epfd, EPOLL_CTL_ADD, d->signal_fd, &ev))
		return -errno;
	return 0;
}

static void on_signal(struct daemon *d)
{
	struct signalfd_siginfo info;

	while (read(d->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGUSR1)
			vsd_guest_report(&d->guest, VSD_REPORT);
		else
			d->stop = true;
	}
}

/* How long epoll may sleep, in its milliseconds, rounded up so that a deadline has passed when it returns. */
static int sleep_ms(const struct daemon *d, bool more)
{
	u64 at = vsd_guest_deadline(&d->guest);

	if (more)
		return 0;
	if (at == VSOCK_NEVER)
		return -1;
	return at <= d->loop.now ? 0 : (int)((at - d->loop.now + VSD_MS - 1) / VSD_MS);
}

/*
 * Whether to look again instead of sleeping: for a while after anything happened. The turn in which polling ends is
 * served once more, for it asks for doorbells.
 */
static bool poll_on(struct daemon *d, bool busy)
{
	bool before = d->loop.polling;

	if (busy)
		d->poll_until = d->loop.now + d->poll_ns;
	d->loop.polling = d->loop.now < d->poll_until;
	return d->loop.polling || before;
}

static void run(struct daemon *d)
{
	struct epoll_event events[EVENTS_MAX];
	bool more = false;

	while (!d->stop) {
		u64 moved = vsd_guest_moved(&d->guest);
		int n = epoll_wait(d->loop.epfd, events, EVENTS_MAX, sleep_ms(d, more));

		d->loop.now = monotonic();
		d->guest.mux.now = d->loop.now;
		for (int i = 0; i < n; i++) {
			struct vsd_watch *w = events[i].data.ptr;

			if (w->source == VSD_SOURCE_SIGNAL)
				on_signal(d);
			else if (w->guest)
				vsd_guest_event(w, events[i].events);
		}
		more = vsd_guest_serve(&d->guest);
		more |= poll_on(d, n > 0 || more || vsd_guest_moved(&d->guest) != moved);
	}
}

static int start(struct daemon *d, struct vsd_opts *opts)
{
	int err;

	d->loop.now = monotonic();
	d->loop.spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	d->loop.epfd = epoll_create1(EPOLL_CLOEXEC);
	err = d->loop.epfd < 0 ? -errno : watch_signals(d);
	if (!err)
		err = vu_mem_guard();
	if (err) {
		vsd_log(VSD_ERROR, "vsockd", "cannot start: %s", strerror(-err));
		return err;
	}
	d->poll_ns = opts->poll_us * 1000ull;
	fit_limits(&opts->guest);
	return vsd_guest_start(&d->guest, &d->loop, &opts->guest);
}

int main(int argc, char **argv)
{
	static struct daemon d;
	struct vsd_opts opts;

	switch (vsd_opts_parse(&opts, argc, argv)) {
	case VSD_OPTS_RUN:
		break;
	case VSD_OPTS_DONE:
		return EXIT_SUCCESS;
	default:
		return EXIT_USAGE;
	}
	vsd_log_set_level(opts.level);
	if (start(&d, &opts))
		return EXIT_FAILURE;
	run(&d);
	vsd_guest_report(&d.guest, VSD_INFO);
	vsd_guest_stop(&d.guest);
	close(d.signal_fd);
	close(d.loop.epfd);
	close(d.loop.spare_fd);
	return EXIT_SUCCESS;
}
