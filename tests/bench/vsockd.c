// SPDX-License-Identifier: BSD-2-Clause
/*
 * How fast vsockd is beside another daemon, in one run, alternating, with a guest made of packets as the load (no
 * virtual machine). Each row states its windows: guest's / daemon's.
 *
 * Processor time is the daemon's, and in rows of bytes per second the host program's and the guest's behind it.
 *
 * These rows have a measurement without a daemon, too: a plain program in its place, that only moves bytes between the
 * host's socket and the guest's buffers (load.h). Its ratio to the other daemon is what a daemon would reach that costs
 * nothing itself, unless it let the host's program wait, who then has to wake it less often.
 *
 * Usage: VSOCKD=PATH [RIVAL=PATH] bench-vsockd [-t MILLISECONDS] [-n PAIRS] [-b] [TEXT]...
 * Only rows whose name has one of the TEXTs. -b: fail where a bar is missed. Without RIVAL vsockd stands alone.
 */
#include "load.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
	PAIRS_MAX = 64,
	PAIRS_DEFAULT = 5,
	MS_DEFAULT = 300,
	CROWD = 10000,
	IDLE = 2000, /* vhost-device-vsock 0.3 stops answering somewhere below 10,000 */
	KIB64 = 65536 + VSP_HDR_LEN,
	MEDIUM = 256 << 10,
	LARGE = 1 << 20,
	RESERVE = 256, /* descriptors for other things than the crowd */
};

/* What is compared with the bar. */
enum judge {
	AT_LEAST, /* ours over theirs */
	AT_MOST,
	OURS_AT_MOST,  /* ours; theirs is for information */
	ALONE_AT_MOST, /* ours, alone */
};

struct row {
	const char *name;
	const char *windows;
	const char *unit;
	struct load_result (*run)(const struct load_side *side, const struct load *l);
	struct load load;
	double bar;
	enum judge judge;
	const char *poll_us; /* vsockd's --poll-us */
};

/*
 * Into large buffers vhost-device-vsock is several times as fast as into small ones, and a plain program in its place
 * not 8 or 3 times as fast as it: see what the row says of that.
 */
#define FASTER 1
#define POLL "50"
#define DEFAULTS "256K/default"
#define ROW(what, sizes, of, how, least, by, ...)                                                              \
	{ .name = what, .windows = sizes, .unit = of, .run = how, .bar = least, .judge = by, __VA_ARGS__ }
#define LOAD(...) .load = { __VA_ARGS__ }

static struct row rows[] = {
	ROW("to guest, 64 KiB writes, 3776 B buffers", DEFAULTS, "GB/s", load_to_guest, 8, AT_LEAST,
	    LOAD(.piece = 65536)),
	ROW("to guest, 64 KiB writes, 64 KiB buffers", DEFAULTS, "GB/s", load_to_guest, FASTER, AT_LEAST,
	    LOAD(.piece = 65536, .buffer = KIB64)),
	ROW("to guest, 1 KiB writes, 3776 B buffers", DEFAULTS, "GB/s", load_to_guest, 3, AT_LEAST,
	    LOAD(.piece = 1024)),
	ROW("to guest, 1 KiB writes, 64 KiB buffers", DEFAULTS, "GB/s", load_to_guest, FASTER, AT_LEAST,
	    LOAD(.piece = 1024, .buffer = KIB64)),
	ROW("from guest, 64 KiB packets", DEFAULTS, "GB/s", load_from_guest, 2.5, AT_LEAST, LOAD(.piece = 65536)),
	ROW("from guest, 64 KiB packets", "256K/256K", "GB/s", load_from_guest, 1.2, AT_LEAST,
	    LOAD(.piece = 65536, .window = MEDIUM)),
	ROW("from guest, 64 KiB packets", "1M/1M", "GB/s", load_from_guest, 1.4, AT_LEAST,
	    LOAD(.piece = 65536, .window = LARGE)),
	ROW("from guest, 1 KiB packets", DEFAULTS, "GB/s", load_from_guest, 6, AT_LEAST, LOAD(.piece = 1024)),
	ROW("from guest, 64 B packets", DEFAULTS, "GB/s", load_from_guest, 5, AT_LEAST, LOAD(.piece = 64)),
	ROW("from guest, 64 B packets, polling", DEFAULTS, "GB/s", load_from_guest, 8, AT_LEAST, LOAD(.piece = 64),
	    .poll_us = POLL),
	ROW("round trip, 1 B", DEFAULTS, "us", load_round_trip, 1.0, AT_MOST, LOAD(.piece = 1)),
	ROW("round trip, 1 B, polling", DEFAULTS, "us", load_round_trip, 0.6, AT_MOST, LOAD(.piece = 1),
	    .poll_us = POLL),
	ROW("RssAnon per idle connection", DEFAULTS, "B", load_memory, 2048, OURS_AT_MOST, LOAD(.conns = IDLE)),
	ROW("round trip beside a crowd, over alone", DEFAULTS, "x", load_crowd, 1.1, ALONE_AT_MOST,
	    LOAD(.conns = CROWD)),
};

/* Measurements of one row. */
struct sample {
	double at[PAIRS_MAX];
	u32 n;
};

static void add(struct sample *s, double value)
{
	s->at[s->n++] = value;
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Sorted: [0] is the least, [n - 1] the greatest. */
static double median(struct sample *s)
{
	qsort(s->at, s->n, sizeof(s->at[0]), compare);
	return (s->at[(s->n - 1) / 2] + s->at[s->n / 2]) / 2;
}

static bool good(const struct row *r, double value)
{
	return r->judge == AT_LEAST ? value >= r->bar : value <= r->bar;
}

static void print_sample(struct sample *s)
{
	double mid = median(s);

	printf(" %9.3f (%.3f-%.3f)", mid, s->at[0], s->at[s->n - 1]);
}

/* One daemon's measurements of a row. */
struct side {
	struct load_side who;
	struct sample values;
	struct sample cpu;
	struct sample host;
	struct sample guest;
};

static void measure(struct side *s, const struct row *r)
{
	struct load_result got = r->run(&s->who, &r->load);

	add(&s->values, got.value);
	add(&s->cpu, got.cpu_us);
	add(&s->host, got.host_us);
	add(&s->guest, got.guest_us);
}

/* Processor time: of the daemon, and of the host's program and the guest where bytes are counted. */
static void print_cpu(struct side *s)
{
	printf(" %.0f", median(&s->cpu));
	if (median(&s->host) > 0)
		printf("+%.0f+%.0f", median(&s->host), median(&s->guest));
}

/* What explains a row. @theirs may be NULL, and the others empty. */
static void print_more(struct side *ours, struct side *theirs, struct sample *plain, struct sample *reach)
{
	if (!(median(&ours->cpu) > 0))
		return;
	printf("%40s cpu us", "");
	print_cpu(ours);
	if (theirs)
		print_cpu(theirs);
	if (plain->n) {
		printf("  without a daemon");
		print_sample(plain);
		printf("  ratio");
		print_sample(reach);
	}
	printf("\n");
}

/* What a plain program does in the daemon's place. */
static double without(const struct row *r)
{
	return r->run == load_to_guest ? load_plain_to_guest(&r->load) : load_plain_from_guest(&r->load);
}

/* Measure and print a row. False: the bar is missed. */
static bool run_row(const struct row *r, u32 pairs, const char *rival)
{
	struct side ours = { .who = { fix_program(), r->poll_us } }, theirs = { .who.program = rival };
	const bool compares = rival && r->judge != ALONE_AT_MOST, absolute = r->judge >= OURS_AT_MOST;
	const bool bytes = r->run == load_to_guest || r->run == load_from_guest;
	struct sample ratio = { 0 }, plain = { 0 }, reach = { 0 };
	double judged;
	bool passed;

	for (u32 i = 0; i < pairs; i++) {
		measure(&ours, r);
		if (!compares)
			continue;
		measure(&theirs, r);
		add(&ratio, ours.values.at[i] / theirs.values.at[i]);
		if (!bytes)
			continue;
		add(&plain, without(r));
		add(&reach, plain.at[i] / theirs.values.at[i]);
	}
	printf("%-40s %-12s %-4s", r->name, r->windows, r->unit);
	print_sample(&ours.values);
	judged = median(&ours.values);
	if (compares) {
		print_sample(&theirs.values);
		printf("  ratio");
		print_sample(&ratio);
		judged = absolute ? judged : median(&ratio);
	}
	passed = good(r, judged) || (!compares && !absolute);
	printf("  bar %s %g%s\n", r->judge == AT_LEAST ? ">=" : "<=", r->bar, passed ? "" : "  MISSED");
	print_more(&ours, compares ? &theirs : NULL, &plain, &reach);
	fflush(stdout);
	return passed;
}

static bool wanted(const struct row *r, int n, char **texts)
{
	for (int i = 0; i < n; i++) {
		if (strstr(r->name, texts[i]))
			return true;
	}
	return n == 0;
}

/* Both ends of a connection of the crowd are descriptors, one here. */
static u32 fit_crowd(void)
{
	struct rlimit lim;

	CHECK(!getrlimit(RLIMIT_NOFILE, &lim));
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	return lim.rlim_max - RESERVE < CROWD ? (u32)lim.rlim_max - RESERVE : CROWD;
}

int main(int argc, char **argv)
{
	static const u32 pieces[] = { 65536, 1024, 64 };
	const char *rival = getenv("RIVAL");
	u32 pairs = PAIRS_DEFAULT, ms = MS_DEFAULT, missed = 0, crowd;
	bool bars = false;
	int opt;

	if (!getenv("VSOCKD"))
		return 77;
	while ((opt = getopt(argc, argv, "t:n:b")) != -1) {
		if (opt == 't')
			ms = (u32)strtoul(optarg, NULL, 10);
		else if (opt == 'n')
			pairs = (u32)strtoul(optarg, NULL, 10);
		else if (opt == 'b')
			bars = true;
		else
			return 2;
	}
	CHECK(ms > 0 && pairs > 0 && pairs <= PAIRS_MAX);
	signal(SIGPIPE, SIG_IGN);
	crowd = fit_crowd();
	printf("copy in memory %.2f GB/s; relay between Unix sockets", load_copy(ms * 250000ull));
	for (u32 i = 0; i < ARRAY_SIZE(pieces); i++)
		printf(" %u B: %.3f", pieces[i], load_relay(ms * 1000000ull, pieces[i]));
	printf(" GB/s\n%u runs of %u ms each; medians (min-max) of vsockd%s\n", pairs, ms,
	       rival ? ", of the other, of their ratios; processor time of both per MB or round trip,\n"
		       "of daemon+host+guest; without a daemon, and its ratio to the other" :
		       "");
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		rows[i].load.ns = ms * 1000000ull;
		if (rows[i].load.conns > crowd)
			rows[i].load.conns = crowd;
		if (wanted(&rows[i], argc - optind, argv + optind))
			missed += !run_row(&rows[i], pairs, rival && *rival ? rival : NULL);
	}
	printf("%u bars missed\n", missed);
	return bars && missed ? 1 : 0;
}
