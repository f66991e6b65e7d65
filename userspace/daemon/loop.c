// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/loop.h"

#include "daemon/guest.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	EVENTS_MAX = 256, /* epoll events taken at a time */
};

static u64 monotonic(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* How long epoll may sleep, in its milliseconds, rounded up so that a deadline has passed when it returns. */
static int sleep_ms(const struct vsd_loop *l, bool more)
{
	u64 at = VSOCK_NEVER;

	for (const struct vsd_guest *g = l->guests; g && !more; g = g->next) {
		u64 deadline = vsd_guest_deadline(g);

		more = g->due;
		at = deadline < at ? deadline : at;
	}
	if (more)
		return 0;
	if (at == VSOCK_NEVER)
		return -1;
	return at <= l->now ? 0 : (int)((at - l->now + VSD_MS - 1) / VSD_MS);
}

/*
 * Whether to look again instead of sleeping: for a while after anything happened. The turn in which polling ends is
 * served once more, for it asks for doorbells.
 */
static bool poll_on(struct vsd_loop *l, bool busy)
{
	bool before = l->polling;

	if (busy)
		l->poll_until = l->now + l->poll_ns;
	l->polling = l->now < l->poll_until;
	return l->polling || before;
}

static void serve_call(struct vsd_loop *l)
{
	u64 count;
	ssize_t ignored = read(l->call_fd, &count, sizeof(count));

	(void)ignored;
	pthread_mutex_lock(&l->lock);
	if (l->fn)
		l->fn(l, l->arg);
	l->fn = NULL;
	pthread_cond_signal(&l->done);
	pthread_mutex_unlock(&l->lock);
}

static void deal_with(const struct epoll_event *ev)
{
	struct vsd_watch *w = ev->data.ptr;

	/* Of a connection that ended in this turn nothing matters any more. */
	if (!w->guest)
		return;
	vsd_guest_wake(w->guest);
	vsd_guest_event(w, ev->events);
}

/* Serve those for whom there is something to do. True: something moved. */
static bool serve_due(struct vsd_loop *l, bool everybody)
{
	bool busy = false;

	for (struct vsd_guest *g = l->guests; g; g = g->next) {
		u64 moved = vsd_guest_moved(g);

		if (!everybody && !g->due && vsd_guest_deadline(g) > l->now)
			continue;
		g->due = false;
		if (vsd_guest_serve(g))
			g->due = true;
		busy |= g->due || vsd_guest_moved(g) != moved;
	}
	return busy;
}

static void set_timer(struct vsd_loop *l, u64 ns)
{
	const struct timespec every = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };
	const struct itimerspec its = { .it_interval = every, .it_value = every };

	l->ticking = ns != 0;
	timer_settime(l->timer, 0, &its, NULL);
}

/* In the thread, wherever it is. That it came is enough for a system call that waits; one who sleeps needs no ticks. */
static void tick(int sig, siginfo_t *info, void *context)
{
	struct vsd_loop *l = info->si_value.sival_ptr;
	int err = errno;

	(void)sig;
	(void)context;
	if (info->si_code == SI_TIMER && !l->awake)
		set_timer(l, 0);
	errno = err;
}

/* Of the calling thread. */
static int make_timer(struct vsd_loop *l)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM, .sigev_value.sival_ptr = l };
	struct sigaction sa = { .sa_sigaction = tick, .sa_flags = SA_SIGINFO };

	ev._sigev_un._tid = gettid();
	sigaction(SIGALRM, &sa, NULL);
	return timer_create(CLOCK_MONOTONIC, &ev, &l->timer) ? -errno : 0;
}

static int sleep_until_due(struct vsd_loop *l, struct epoll_event *events, bool again)
{
	int n;

	l->awake = false;
	n = epoll_wait(l->epfd, events, EVENTS_MAX, sleep_ms(l, again));
	l->awake = true;
	if (!l->ticking)
		set_timer(l, VSD_STUCK_MS * VSD_MS);
	return n;
}

static void *run(void *arg)
{
	struct epoll_event events[EVENTS_MAX];
	struct vsd_loop *l = arg;
	bool again = false, moved = false, timed = !make_timer(l);

	if (!timed) {
		vsd_log(VSD_WARN, "vsockd", "no timer: %s; a front-end can make a thread wait; raise `ulimit -i`",
			strerror(errno));
		/* It needs not be started. */
		l->ticking = true;
	}
	while (!l->stop) {
		int n = sleep_until_due(l, events, again);
		bool called = false, busy;

		l->now = monotonic();
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &l->call_watch)
				called = true;
			else
				deal_with(&events[i]);
		}
		busy = serve_due(l, again) || n > 0;
		again = poll_on(l, busy);
		/* Whom it looks out for may need this processor to do anything; but who yields often comes last. */
		if (l->polling && !busy && moved)
			sched_yield();
		moved = busy;
		/* Last: it may take guests away. */
		if (called)
			serve_call(l);
	}
	if (timed)
		timer_delete(l->timer);
	return NULL;
}

static void close_all(struct vsd_loop *l)
{
	if (l->call_fd >= 0)
		close(l->call_fd);
	if (l->spare_fd >= 0)
		close(l->spare_fd);
	if (l->epfd >= 0)
		close(l->epfd);
}

int vsd_loop_start(struct vsd_loop *l, u64 poll_ns)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &l->call_watch };
	int err = 0;

	memset(l, 0, sizeof(*l));
	l->now = monotonic();
	l->poll_ns = poll_ns;
	l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	l->call_watch.source = VSD_SOURCE_CALL;
	if (l->epfd < 0 || l->call_fd < 0 || epoll_ctl(l->epfd, EPOLL_CTL_ADD, l->call_fd, &ev))
		err = -errno;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->done, NULL);
	if (!err)
		err = -pthread_create(&l->thread, NULL, run, l);
	if (err)
		close_all(l);
	return err;
}

void vsd_loop_call(struct vsd_loop *l, vsd_loop_fn fn, void *arg)
{
	const u64 one = 1;
	ssize_t ignored;

	pthread_mutex_lock(&l->lock);
	l->fn = fn;
	l->arg = arg;
	ignored = write(l->call_fd, &one, sizeof(one));
	(void)ignored;
	while (l->fn)
		pthread_cond_wait(&l->done, &l->lock);
	pthread_mutex_unlock(&l->lock);
}

static void stop(struct vsd_loop *l, void *arg)
{
	(void)arg;
	l->stop = true;
}

void vsd_loop_end(struct vsd_loop *l)
{
	vsd_loop_call(l, stop, NULL);
	pthread_join(l->thread, NULL);
	pthread_cond_destroy(&l->done);
	pthread_mutex_destroy(&l->lock);
	close_all(l);
}
