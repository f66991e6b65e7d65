// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/fleet.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static u32 processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) ? 1 : (u32)CPU_COUNT(&set);
}

static u32 root_of(const u32 *parent, u32 i)
{
	while (parent[i] != i)
		i = parent[i];
	return i;
}

/*
 * Number the sets of guests that reach each other, perhaps through others: @set of each guest. Returns how many sets
 * there are, or 0 where memory is short.
 */
static u32 number_sets(const struct vsd_config *c, u32 *set)
{
	u32 *parent = calloc(c->n, sizeof(u32));
	u32 sets = 0;

	if (!parent)
		return 0;
	for (u32 i = 0; i < c->n; i++) {
		parent[i] = i;
		for (u32 j = 0; j < i; j++) {
			if (vsd_names_meet(&c->guests[i]->groups, &c->guests[j]->groups))
				parent[root_of(parent, j)] = i;
		}
	}
	for (u32 i = 0; i < c->n; i++) {
		if (parent[i] == i)
			set[i] = sets++;
	}
	for (u32 i = 0; i < c->n; i++)
		set[i] = set[root_of(parent, i)];
	free(parent);
	return sets;
}

static int start_loops(struct vsd_fleet *f, u32 sets)
{
	u32 most = f->config->threads ? f->config->threads : processors();
	u32 n = sets < most ? sets : most;

	f->loops = calloc(n, sizeof(*f->loops));
	if (!f->loops)
		return -ENOMEM;
	for (; f->nloops < n; f->nloops++) {
		int err = vsd_loop_start(&f->loops[f->nloops], f->config->poll_us * 1000ull);

		if (err)
			return err;
	}
	return 0;
}

/* A guest that its thread is asked to start. */
struct newcomer {
	struct vsd_guest *guest;
	const struct vsd_guest_opts *opts;
	int err;
};

static void start_guest(struct vsd_loop *l, void *arg)
{
	struct newcomer *n = arg;

	n->err = vsd_guest_start(n->guest, l, n->opts);
}

static int add_guest(struct vsd_fleet *f, struct vsd_loop *l, const struct vsd_guest_opts *opts)
{
	struct newcomer n = { .guest = malloc(sizeof(*n.guest)), .opts = opts, .err = -ENOMEM };

	if (n.guest)
		vsd_loop_call(l, start_guest, &n);
	else
		vsd_log(VSD_ERROR, program_invocation_short_name, "guest %u: out of memory", opts->guest_cid);
	if (n.err)
		free(n.guest);
	else
		f->guests[f->n++] = n.guest;
	return n.err;
}

int vsd_fleet_start(struct vsd_fleet *f, const struct vsd_config *config)
{
	u32 *set = calloc(config->n, sizeof(u32));
	u32 sets = set ? number_sets(config, set) : 0;
	int err;

	*f = (struct vsd_fleet){ .config = config, .guests = calloc(VSD_GUESTS_MAX, sizeof(struct vsd_guest *)) };
	err = sets && f->guests ? start_loops(f, sets) : -ENOMEM;
	if (err)
		vsd_log(VSD_ERROR, program_invocation_short_name, "cannot start: %s", strerror(-err));
	for (u32 i = 0; i < config->n && !err; i++)
		err = add_guest(f, &f->loops[set[i] % f->nloops], config->guests[i]);
	free(set);
	if (err)
		vsd_fleet_stop(f);
	return err;
}

static void stop_guest(struct vsd_loop *l, void *arg)
{
	(void)l;
	vsd_guest_stop(arg);
}

static void remove_guest(struct vsd_fleet *f, u32 i)
{
	struct vsd_guest *g = f->guests[i];

	vsd_loop_call(g->loop, stop_guest, g);
	free(g);
	f->guests[i] = f->guests[--f->n];
}

static void reconfigure(struct vsd_loop *l, void *arg)
{
	struct newcomer *n = arg;

	(void)l;
	vsd_guest_reconfigure(n->guest, n->opts);
}

static const struct vsd_guest_opts *configured(const struct vsd_config *c, u32 cid)
{
	for (u32 i = 0; i < c->n; i++) {
		if (c->guests[i]->guest_cid == cid)
			return c->guests[i];
	}
	return NULL;
}

/* The thread for one more guest: that of one which it may reach, or any. */
static struct vsd_loop *place(const struct vsd_fleet *f, const struct vsd_guest_opts *o)
{
	for (u32 i = 0; i < f->n; i++) {
		if (vsd_names_meet(&f->guests[i]->opts->groups, &o->groups))
			return f->guests[i]->loop;
	}
	return &f->loops[o->guest_cid % f->nloops];
}

/* Guests do not move from thread to thread, so some that a new configuration lets meet cannot. */
static void warn_of_strangers(const struct vsd_fleet *f)
{
	for (u32 i = 0; i < f->n; i++) {
		for (u32 j = 0; j < i; j++) {
			const struct vsd_guest *a = f->guests[i], *b = f->guests[j];

			if (a->loop == b->loop || !vsd_names_meet(&a->opts->groups, &b->opts->groups))
				continue;
			vsd_log(VSD_WARN, a->name,
				"it reaches guest %u only after a restart of this daemon, or with --threads 1",
				b->opts->guest_cid);
		}
	}
}

u32 vsd_fleet_reload(struct vsd_fleet *f, const struct vsd_config *config)
{
	u32 failed = 0;

	for (u32 i = f->n; i-- > 0;) {
		const struct vsd_guest_opts *o = configured(config, f->guests[i]->opts->guest_cid);
		struct newcomer n = { .guest = f->guests[i], .opts = o };

		if (o && vsd_guest_same(n.guest->opts, o))
			vsd_loop_call(n.guest->loop, reconfigure, &n);
		else
			remove_guest(f, i);
	}
	f->config = config;
	for (u32 i = 0; i < config->n; i++) {
		u32 k = 0;

		while (k < f->n && f->guests[k]->opts != config->guests[i])
			k++;
		if (k == f->n)
			failed += add_guest(f, place(f, config->guests[i]), config->guests[i]) != 0;
	}
	warn_of_strangers(f);
	return failed;
}

int vsd_fleet_add(struct vsd_fleet *f, const struct vsd_guest_opts *opts)
{
	int err = add_guest(f, place(f, opts), opts);

	if (!err)
		warn_of_strangers(f);
	return err;
}

/* The number of the guest; @f->n where there is none. */
static u32 find(const struct vsd_fleet *f, u32 guest_cid)
{
	u32 i = 0;

	while (i < f->n && f->guests[i]->opts->guest_cid != guest_cid)
		i++;
	return i;
}

bool vsd_fleet_remove(struct vsd_fleet *f, u32 guest_cid)
{
	u32 i = find(f, guest_cid);

	if (i == f->n)
		return false;
	remove_guest(f, i);
	return true;
}

static void drain(struct vsd_loop *l, void *arg)
{
	struct vsd_guest *g = arg;

	(void)l;
	g->draining = true;
	vsd_log(VSD_INFO, g->name, "drains: no new connections");
}

static void resume(struct vsd_loop *l, void *arg)
{
	struct vsd_guest *g = arg;

	(void)l;
	g->draining = false;
	vsd_log(VSD_INFO, g->name, "new connections are welcome again");
}

bool vsd_fleet_drain(struct vsd_fleet *f, u32 guest_cid, bool drains)
{
	u32 i = find(f, guest_cid);

	if (i == f->n)
		return false;
	vsd_loop_call(f->guests[i]->loop, drains ? drain : resume, f->guests[i]);
	return true;
}

/* A guest that its thread is asked to print. */
struct printed {
	struct vsd_guest *guest;
	void (*print)(const struct vsd_guest *g, FILE *out);
	FILE *out;
};

static void print_guest(struct vsd_loop *l, void *arg)
{
	struct printed *p = arg;

	(void)l;
	p->print(p->guest, p->out);
}

void vsd_fleet_print(struct vsd_fleet *f, void (*print)(const struct vsd_guest *g, FILE *out), FILE *out)
{
	for (u32 i = 0; i < f->n; i++) {
		struct printed p = { .guest = f->guests[i], .print = print, .out = out };

		vsd_loop_call(p.guest->loop, print_guest, &p);
	}
}

/* A guest whose thread is asked to end a connection. */
struct resetting {
	struct vsd_guest *guest;
	const struct vsd_reset *what;
	bool found;
};

static void reset_conn(struct vsd_loop *l, void *arg)
{
	struct resetting *r = arg;

	(void)l;
	r->found = vsd_guest_reset(r->guest, r->what->host_cid, r->what->host_port, r->what->guest_port);
}

bool vsd_fleet_reset(struct vsd_fleet *f, const struct vsd_reset *what)
{
	struct resetting r = { .what = what };

	for (u32 i = 0; i < f->n && !r.found; i++) {
		r.guest = f->guests[i];
		if (r.guest->opts->guest_cid == what->guest_cid)
			vsd_loop_call(r.guest->loop, reset_conn, &r);
	}
	return r.found;
}

/* A guest of which somebody wants to see the packets. */
struct capture {
	struct vsd_guest *guest;
	u32 payload;
	int fd;
	int err;
};

static void capture(struct vsd_loop *l, void *arg)
{
	struct capture *c = arg;

	(void)l;
	c->err = vsd_tap_begin(c->guest, c->fd, c->payload);
}

int vsd_fleet_capture(struct vsd_fleet *f, u32 guest_cid, u32 payload, int fd)
{
	struct capture c = { .payload = payload, .fd = fd, .err = -ENOENT };

	for (u32 i = 0; i < f->n; i++) {
		c.guest = f->guests[i];
		if (c.guest->opts->guest_cid == guest_cid)
			vsd_loop_call(c.guest->loop, capture, &c);
	}
	return c.err;
}

/* A guest that its thread is asked to report about. */
struct report {
	struct vsd_guest *guest;
	enum vsd_level level;
};

static void report(struct vsd_loop *l, void *arg)
{
	struct report *r = arg;

	(void)l;
	vsd_guest_report(r->guest, r->level);
}

void vsd_fleet_report(struct vsd_fleet *f, enum vsd_level level)
{
	for (u32 i = 0; i < f->n; i++) {
		struct report r = { .guest = f->guests[i], .level = level };

		vsd_loop_call(r.guest->loop, report, &r);
	}
}

void vsd_fleet_stop(struct vsd_fleet *f)
{
	while (f->n)
		remove_guest(f, f->n - 1);
	while (f->nloops)
		vsd_loop_end(&f->loops[--f->nloops]);
	free(f->loops);
	free(f->guests);
	*f = (struct vsd_fleet){ .n = 0 };
}
