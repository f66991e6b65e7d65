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
		vsd_log(VSD_ERROR, "vsockd", "guest %u: out of memory", opts->guest_cid);
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

	*f = (struct vsd_fleet){ .config = config, .guests = calloc(config->n, sizeof(struct vsd_guest *)) };
	err = sets && f->guests ? start_loops(f, sets) : -ENOMEM;
	if (err)
		vsd_log(VSD_ERROR, "vsockd", "cannot start: %s", strerror(-err));
	for (u32 i = 0; i < config->n && !err; i++)
		err = add_guest(f, &f->loops[set[i] % f->nloops], config->guests[i]);
	free(set);
	if (err)
		vsd_fleet_stop(f);
	return err;
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

static void stop_guest(struct vsd_loop *l, void *arg)
{
	(void)l;
	vsd_guest_stop(arg);
}

void vsd_fleet_stop(struct vsd_fleet *f)
{
	for (u32 i = 0; i < f->n; i++) {
		vsd_loop_call(f->guests[i]->loop, stop_guest, f->guests[i]);
		free(f->guests[i]);
	}
	while (f->nloops)
		vsd_loop_end(&f->loops[--f->nloops]);
	free(f->loops);
	free(f->guests);
	*f = (struct vsd_fleet){ .n = 0 };
}
