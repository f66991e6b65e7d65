// SPDX-License-Identifier: BSD-2-Clause
/*
 * replay-trace.c - is what the kernel recorded what the rules say?
 *
 *     replay-trace FILE
 *
 * FILE holds the kernel's lines of the events vst_step and vst_end in the order in which they happened (vst-trace in
 * tools/sluicevm.py collects them), and between them
 *
 *     # begin     the module was loaded: its flows are numbered anew
 *     # lost N    so many records found no room
 *
 * Every step is repeated with vsp_conn_step() and must come to the same end. Each flow's steps must join: a flow is
 * born closed, or accepting if a listener was asked for it, every step begins in the state in which the one before it
 * ended, and the flow is freed in the last one's, which is VSP_CLOSED. So no state changes without a record.
 *
 * Prints what is wrong, then what was replayed; exit status 1 if anything is wrong, 2 if it could not be read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/proto/names.h"

enum {
	IDS_MAX = 1 << 24, /* flows of one life of the module */
	PRINT_MAX = 20,	   /* complaints that are printed */
	NAME_LEN = 32,
};

struct key {
	u32 local_cid, local_port, remote_cid, remote_port, type;
};

struct flow {
	struct key key;
	u32 state;
	bool born, ended;
};

struct value {
	char name[NAME_LEN];
	u32 number;
};

struct record {
	uint64_t id;
	struct key key;
	struct value state, event, next;
	u32 acts, err;
};

static struct flow *flows;
static size_t n_flows;
static unsigned long line_number, n_begun, n_steps, n_born, n_ended, n_wrong;

static void __attribute__((format(printf, 1, 2))) wrong(const char *format, ...)
{
	va_list args;

	if (++n_wrong > PRINT_MAX)
		return;
	printf("line %lu: ", line_number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

/* The flow with this number, or NULL where no trace can have it. */
static struct flow *flow_of(uint64_t id)
{
	if (!id || id >= IDS_MAX)
		return NULL;
	if (id >= n_flows) {
		size_t n = (size_t)id * 2;
		struct flow *more = reallocarray(flows, n, sizeof(*flows));

		if (!more) {
			perror("replay-trace");
			exit(2);
		}
		flows = more;
		memset(flows + n_flows, 0, (n - n_flows) * sizeof(*flows));
		n_flows = n;
	}
	return &flows[id];
}

static bool same_key(struct key a, struct key b)
{
	return a.local_cid == b.local_cid && a.local_port == b.local_port && a.remote_cid == b.remote_cid &&
	       a.remote_port == b.remote_port && a.type == b.type;
}

/* A flow gets its address once; until then all of it is 0. */
static void check_key(struct flow *flow, const struct record *r)
{
	if (flow->key.type && !same_key(flow->key, r->key))
		wrong("flow %" PRIu64 " has changed its address", r->id);
	flow->key = r->key;
}

static void check_verdict(const struct record *r)
{
	struct vsp_verdict v;

	if (r->state.number >= NUM_VSP_STATES || r->event.number >= NUM_VSP_EVENTS ||
	    r->next.number >= NUM_VSP_STATES) {
		wrong("flow %" PRIu64 ": no such state or event", r->id);
		return;
	}
	if (strcmp(r->state.name, vsp_state_name(r->state.number)) != 0 ||
	    strcmp(r->event.name, vsp_event_name(r->event.number)) != 0 ||
	    strcmp(r->next.name, vsp_state_name(r->next.number)) != 0)
		wrong("flow %" PRIu64 ": a name that is not its number's", r->id);
	v = vsp_conn_step(r->state.number, r->event.number);
	if (!v.possible)
		wrong("flow %" PRIu64 ": %s in %s cannot happen", r->id, r->event.name, r->state.name);
	else if (v.next != r->next.number || v.acts != r->acts || v.err != r->err)
		wrong("flow %" PRIu64 ": %s in %s led to %s acts=0x%x err=%u, but should to %s acts=0x%x err=%u", r->id,
		      r->event.name, r->state.name, r->next.name, r->acts, r->err, vsp_state_name(v.next), v.acts,
		      v.err);
}

static void take_step(const struct record *r)
{
	struct flow *flow = flow_of(r->id);
	bool spawned = r->acts & VSP_ACT_SPAWN;

	n_steps++;
	check_verdict(r);
	if (!flow) {
		wrong("no flow has the number %" PRIu64, r->id);
		return;
	}
	if (flow->ended)
		wrong("flow %" PRIu64 " was freed before", r->id);
	if (spawned && flow->born)
		wrong("flow %" PRIu64 " is born twice", r->id);
	if (!flow->born && !spawned && r->state.number != VSP_CLOSED)
		wrong("flow %" PRIu64 " is born in %s", r->id, r->state.name);
	if (flow->born && r->state.number != flow->state)
		wrong("flow %" PRIu64 " was left in %s and is found in %s", r->id, vsp_state_name(flow->state),
		      r->state.name);
	check_key(flow, r);
	n_born += !flow->born;
	flow->born = true;
	flow->state = spawned ? VSP_ACCEPTING : r->next.number;
}

static void take_end(const struct record *r)
{
	struct flow *flow = flow_of(r->id);

	if (!flow) {
		wrong("no flow has the number %" PRIu64, r->id);
		return;
	}
	if (flow->ended)
		wrong("flow %" PRIu64 " is freed twice", r->id);
	if (flow->born && r->state.number != flow->state)
		wrong("flow %" PRIu64 " was left in %s and is freed in %s", r->id, vsp_state_name(flow->state),
		      r->state.name);
	if (r->state.number != VSP_CLOSED)
		wrong("flow %" PRIu64 " is freed in %s", r->id, r->state.name);
	if (flow->born)
		check_key(flow, r);
	n_born += !flow->born;
	flow->born = true;
	flow->ended = true;
	n_ended++;
}

/* What both events begin with. Returns the rest of the line, or NULL. */
static const char *read_flow(const char *text, struct record *r)
{
	struct key *k = &r->key;
	int end = 0;

	if (sscanf(text, " flow=%" SCNu64 " %u:%u %u:%u type=%u state=%31[^(](%u)%n", &r->id, &k->local_cid,
		   &k->local_port, &k->remote_cid, &k->remote_port, &k->type, r->state.name, &r->state.number,
		   &end) != 8)
		return NULL;
	return text + end;
}

static void take_line(const char *line)
{
	const char *step = strstr(line, " vst_step:"), *end = strstr(line, " vst_end:"), *rest;
	struct record r = { 0 };
	unsigned long lost;

	if (step) {
		rest = read_flow(step + strlen(" vst_step:"), &r);
		if (rest && sscanf(rest, " event=%31[^(](%u) next=%31[^(](%u) acts=%x err=%u", r.event.name,
				   &r.event.number, r.next.name, &r.next.number, &r.acts, &r.err) == 6)
			take_step(&r);
		else
			wrong("no record of a step: %s", line);
	} else if (end) {
		if (read_flow(end + strlen(" vst_end:"), &r))
			take_end(&r);
		else
			wrong("no record of an end: %s", line);
	} else if (!strncmp(line, "# begin", 7)) {
		n_begun++;
		if (flows)
			memset(flows, 0, n_flows * sizeof(*flows));
	} else if (sscanf(line, "# lost %lu", &lost) == 1) {
		if (lost)
			wrong("%lu records are lost", lost);
	} else if (*line != '\n') {
		wrong("neither a record nor a remark: %s", line);
	}
}

int main(int argc, char **argv)
{
	FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
	char *line = NULL;
	size_t size = 0;

	if (!file) {
		fprintf(stderr, argc == 2 ? "replay-trace: %s: %s\n" : "usage: replay-trace FILE\n", argv[argc - 1],
			strerror(errno));
		return 2;
	}
	while (getline(&line, &size, file) > 0) {
		line_number++;
		take_line(line);
	}
	if (!n_begun)
		wrong("nothing was recorded");
	if (n_wrong > PRINT_MAX)
		printf("and %lu more\n", n_wrong - PRINT_MAX);
	printf("%lu steps of %lu flows, %lu of them freed\n", n_steps, n_born, n_ended);
	fclose(file);
	free(line);
	free(flows);
	return n_wrong ? 1 : 0;
}
