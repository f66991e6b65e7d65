// SPDX-License-Identifier: BSD-2-Clause
/*
 * Memory runs out, and copies to and from users and guests fail, anywhere in our modules: the kernel's fault
 * injection, where it has that. Connections may end for it, datagrams may be lost; but what arrives is what was sent,
 * what does not arrive is an error at the sender's or the receiver's end, a lost datagram is counted, nothing hangs.
 *
 * VHOST_SEED repeats a run, VHOST_ROUNDS makes it shorter or longer.
 */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vhost.h>
#include <linux/vm_sockets.h>

#include "kernel/proto/dgram.h"

#define DEBUGFS "/sys/kernel/debug/"

enum {
	ROUNDS = 12,
	DEVICES = 100,
	STEPS = 150, /* in a round */
	LANES = 6,
	PORT = 5000,	   /* of the host's listener for streams; then those for messages and datagrams */
	GUEST_PORT = 50,   /* of the first lane; each connection has another */
	DGRAM_PORT = 4000, /* the guest's */
	LONGEST = 60000,   /* message, write or packet */
	ALLOC_PERCENT = 3,
	/* Of copies fewer, for one that fails in a ring breaks it, which ends the round. */
	COPY_PERCENT = 10,
	COPY_INTERVAL = 50,
};

/*
 * A connection. Streams are one sequence of bytes in each direction; a message's number says what is in it. Of messages
 * struct flow counts these numbers, but for credit: @taken and @acked are bytes that the guest received.
 */
struct lane {
	struct flow f;
	bool by_host;
	bool asked; /* it was begun */
	bool open;  /* the guest agreed, or heard that the host did */
	bool up;    /* the host's program has it */
	bool reset; /* the guest heard that it is over */
	int error;  /* the host's socket said so */
	u32 sent_bytes;
	u32 taken;
	u32 acked;
	u32 part; /* bytes of a message that the guest has */
};

static struct guest g;
static struct lane lanes[LANES];
static int listeners[2], dgram, err_event;
static u32 dgrams_sent, next_port, calls_failed;
static u8 data[WINDOW];
static unsigned int seed;
static bool broken;

static u32 pick(u32 n)
{
	return (u32)rand_r(&seed) % n;
}

/* ---- fault injection ---- */

static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
enum { COPIES = 2, NUM_KINDS };

static void set(const char *kind, const char *knob, unsigned long long value, bool hex)
{
	char path[96], text[32];
	int fd, n;

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", kind, knob);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return; /* not all kinds have all knobs */
	n = snprintf(text, sizeof(text), hex ? "0x%llx" : "%llu", value);
	CHECK(fd >= 0 && write(fd, text, (size_t)n) == n);
	close(fd);
}

/* From the first to the last byte of our modules, and of whatever lies between them. */
static void our_range(unsigned long long *start, unsigned long long *end)
{
	FILE *file = fopen("/proc/modules", "r");
	unsigned long long size, at;
	char line[512], name[64];

	CHECK(file);
	*start = ~0ull;
	*end = 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %llu %*s %*s %*s %llx", name, &size, &at) != 3)
			continue;
		if (strcmp(name, "vst_common") != 0 && strcmp(name, "vhost_vsock") != 0)
			continue;
		*start = at < *start ? at : *start;
		*end = at + size > *end ? at + size : *end;
	}
	fclose(file);
	CHECK(*start < *end);
}

static void prepare_faults(void)
{
	unsigned long long start, end;

	our_range(&start, &end);
	for (u32 i = 0; i < NUM_KINDS; i++) {
		set(kinds[i], "probability", 0, false);
		set(kinds[i], "verbose", 0, false);
		set(kinds[i], "interval", i == COPIES ? COPY_INTERVAL : 1, false);
		set(kinds[i], "min-order", 0, false);
		set(kinds[i], "stacktrace-depth", 32, false);
		set(kinds[i], "require-start", start, true);
		set(kinds[i], "require-end", end, true);
	}
	for (u32 i = 0; i < COPIES; i++) {
		char path[96];
		int fd;

		for (u32 k = 0; k < 2; k++) {
			snprintf(path, sizeof(path), DEBUGFS "%s/%s", kinds[i],
				 k ? "ignore-gfp-highmem" : "ignore-gfp-wait");
			fd = open(path, O_WRONLY | O_CLOEXEC);
			CHECK(fd >= 0 ? write(fd, "N", 1) == 1 : errno == ENOENT);
			close(fd);
		}
	}
}

static void inject(bool allocs, bool copies)
{
	for (u32 i = 0; i < NUM_KINDS; i++) {
		/* -1: without end */
		set(kinds[i], "times", 0xffffffffu, false);
		set(kinds[i], "probability", i == COPIES ? (copies ? COPY_PERCENT : 0) : (allocs ? ALLOC_PERCENT : 0),
		    false);
	}
}

static void stop_injecting(void)
{
	inject(false, false);
}

/* ---- what is sent ---- */

/* The length of the message with this number. */
static u32 length_of(u32 number)
{
	u32 n = number * 2654435761u >> 8;

	return n % 4 ? 1 + n % 3000 : 1 + n % LONGEST;
}

static void fill(u8 *to, u32 n, u32 at, u32 salt)
{
	for (u32 i = 0; i < n; i++)
		to[i] = byte_at(at + i, salt);
}

static void same(const u8 *got, u32 n, u32 at, u32 salt)
{
	for (u32 i = 0; i < n; i++)
		CHECK(got[i] == byte_at(at + i, salt));
}

static bool ended(const struct lane *l)
{
	return l->reset || l->error || broken;
}

/* ---- the guest's end ---- */

/* A guest whose ring is broken has nobody to send to, and hears it by an event of the ring. */
static bool is_broken(void)
{
	broken = broken || host_wait(err_event, POLLIN, 0);
	return broken;
}

/* Whether it went: the ring is not full, and not broken. */
static bool to_host(struct vsp_hdr hdr)
{
	struct vu_drv *d = &g.peer.f.drv[1];
	u64 until = now_ms() + WAIT_MS;
	u32 unused;

	while (d->nfree < 2 && vu_drv_used(d, &unused) < 0) {
		if (is_broken())
			return false;
		CHECK(now_ms() < until);
		pause_a_little();
	}
	if (is_broken())
		return false;
	guest_send(&g, hdr);
	return true;
}

static struct vsp_hdr lane_hdr(const struct lane *l, enum vsp_op op)
{
	struct vsp_hdr hdr = guest_hdr(&g, &l->f, op);

	hdr.fwd_cnt = l->taken;
	return hdr;
}

static struct lane *lane_of(const struct vsp_hdr *hdr)
{
	for (u32 i = 0; i < LANES; i++) {
		struct lane *l = &lanes[i];

		if (l->asked && l->f.guest_port == hdr->dst.port &&
		    hdr->type == (l->f.messages ? VSP_TYPE_SEQPACKET : VSP_TYPE_STREAM))
			return l;
	}
	return NULL;
}

static void take_payload(struct lane *l, const struct vsp_hdr *hdr)
{
	if (!l->f.messages) {
		same(g.buf, hdr->len, l->f.got, 2);
		l->f.got += hdr->len;
	} else {
		same(g.buf, hdr->len, l->part, l->f.got);
		l->part += hdr->len;
		CHECK(l->part <= length_of(l->f.got) || !hdr->len);
		CHECK(!(hdr->flags & VSP_SEQ_EOM) == (l->part < length_of(l->f.got)));
		if (hdr->flags & VSP_SEQ_EOM) {
			l->f.got++;
			l->part = 0;
		}
	}
	l->taken += hdr->len;
	if (l->taken - l->acked >= WINDOW / 4 && to_host(lane_hdr(l, VSP_OP_CREDIT_UPDATE)))
		l->acked = l->taken;
}

static void take_dgram(const struct vsp_hdr *hdr)
{
	u32 total = hdr->buf_alloc ?: hdr->len, at = hdr->buf_alloc ? hdr->fwd_cnt : 0;

	if (hdr->op == VSP_OP_RW)
		same(g.buf, hdr->len, at, total);
}

static void take_packet(const struct vsp_hdr *hdr)
{
	struct lane *l = lane_of(hdr);

	if (hdr->type == VSP_TYPE_DGRAM) {
		take_dgram(hdr);
		return;
	}
	if (!l)
		return;
	l->f.edge = hdr->op == VSP_OP_RST ? l->f.edge : hdr->fwd_cnt + hdr->buf_alloc;
	switch (hdr->op) {
	case VSP_OP_REQUEST:
		l->f.host_port = hdr->src.port;
		l->open = to_host(lane_hdr(l, VSP_OP_RESPONSE));
		break;
	case VSP_OP_RESPONSE:
		l->open = true;
		break;
	case VSP_OP_RST:
		l->reset = true;
		break;
	case VSP_OP_SHUTDOWN:
		l->reset = true;
		to_host(lane_hdr(l, VSP_OP_RST));
		break;
	case VSP_OP_CREDIT_REQUEST:
		to_host(lane_hdr(l, VSP_OP_CREDIT_UPDATE));
		break;
	case VSP_OP_RW:
		take_payload(l, hdr);
		break;
	default:
		break;
	}
}

static void guest_looks(int ms)
{
	struct vsp_hdr hdr;

	for (; !is_broken() && peer_recv(&g.peer, &hdr, g.buf, ms); ms = 0)
		take_packet(&hdr);
}

/* As much as there is credit for, at most a packet, or a message of a few. */
static void guest_writes(struct lane *l)
{
	u32 room = l->f.edge - l->sent_bytes;
	u32 len = l->f.messages ? length_of(l->f.sent) : 1 + pick(LONGEST), at = 0;

	if (!l->open || ended(l) || len > room)
		return;
	do {
		struct vsp_hdr hdr = lane_hdr(l, VSP_OP_RW);

		hdr.len = len - at < 20000 ? len - at : 20000;
		fill(g.buf, hdr.len, l->f.messages ? at : l->f.sent + at, l->f.messages ? l->f.sent : 1);
		at += hdr.len;
		hdr.flags = l->f.messages && at == len ? VSP_SEQ_EOM : 0;
		if (!to_host(hdr))
			return;
	} while (at < len);
	l->sent_bytes += len;
	l->f.sent += l->f.messages ? 1 : len;
}

/* ---- the host's end ---- */

/* An error that a socket has shown; one of a call alone, which may succeed the next time, is none. */
static void note_error(struct lane *l, int error)
{
	if (error == ENOMEM || error == ENOBUFS || error == EFAULT)
		calls_failed++;
	else if (error != EAGAIN)
		l->error = error;
}

static void host_writes(struct lane *l)
{
	u32 len = l->f.messages ? length_of(l->f.written) : 1 + pick(LONGEST);
	ssize_t n;

	if (!l->up || l->error)
		return;
	fill(data, len, l->f.messages ? 0 : l->f.written, l->f.messages ? l->f.written : 2);
	n = send(l->f.fd, data, len, MSG_NOSIGNAL);
	if (n < 0) {
		note_error(l, errno);
		return;
	}
	CHECK(n > 0 && (!l->f.messages || n == (ssize_t)len));
	l->f.written += l->f.messages ? 1 : (u32)n;
}

/* Read what there is. A message whose copy fails is lost to a reader who is told so. */
static void host_reads(struct lane *l)
{
	ssize_t n;

	if (!l->up || l->error)
		return;
	while ((n = recv(l->f.fd, data, l->f.messages ? sizeof(data) : 1 + pick(LONGEST), 0)) > 0) {
		same(data, (u32)n, l->f.messages ? 0 : l->f.read, l->f.messages ? l->f.read : 1);
		CHECK(!l->f.messages || n == (ssize_t)length_of(l->f.read));
		l->f.read += l->f.messages ? 1 : (u32)n;
	}
	/* Not the end, for which nobody has asked. */
	CHECK(n < 0);
	if (l->f.messages && (errno == EFAULT || errno == ENOMEM))
		l->f.read++;
	note_error(l, errno);
}

/* Connections that the host began and that are made, or failed. */
static void host_connects(void)
{
	for (u32 i = 0; i < LANES; i++) {
		struct lane *l = &lanes[i];

		if (!l->asked || !l->by_host || l->up || l->error || !host_wait(l->f.fd, POLLOUT | POLLHUP, 0))
			continue;
		l->error = host_connected(l->f.fd);
		l->up = !l->error;
	}
}

static void host_accepts(void)
{
	for (u32 i = 0; i < 2; i++) {
		struct sockaddr_vm from = { 0 };
		socklen_t len = sizeof(from);
		int fd = accept4(listeners[i], (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct lane *l = NULL;

		for (u32 k = 0; k < LANES && fd >= 0; k++) {
			if (lanes[k].asked && lanes[k].f.guest_port == from.svm_port)
				l = &lanes[k];
		}
		if (l) {
			l->f.fd = fd;
			l->up = true;
		} else if (fd >= 0) {
			close(fd);
		}
	}
	host_connects();
}

/* ---- connections ---- */

static void begin(struct lane *l)
{
	bool messages = pick(2);

	memset(l, 0, sizeof(*l));
	l->f = (struct flow){ .guest_port = next_port++, .host_port = PORT + messages, .messages = messages, .fd = -1 };
	l->by_host = pick(2);
	if (l->by_host) {
		l->f.fd = host_connect_for(messages, g.cid, l->f.guest_port);
		l->asked = l->f.fd >= 0;
	} else {
		l->asked = to_host(lane_hdr(l, VSP_OP_REQUEST));
	}
}

/* Nothing more is sent: did everything arrive, or was somebody told? */
static bool is_settled(const struct lane *l)
{
	if (!l->up || !l->open)
		return l->by_host ? l->error : ended(l);
	return (l->f.read == l->f.sent || l->reset || broken) && (l->f.got == l->f.written || l->error);
}

static void finish(struct lane *l)
{
	u64 until = now_ms() + WAIT_MS;

	while (l->asked && !is_settled(l)) {
		if (now_ms() > until)
			fprintf(stderr,
				"# %s by the %s: open %d up %d reset %d error %d broken %d, to the host %u of %u, "
				"to the guest %u of %u\n",
				l->f.messages ? "messages" : "a stream", l->by_host ? "host" : "guest", l->open, l->up,
				l->reset, l->error, broken, l->f.read, l->f.sent, l->f.got, l->f.written);
		CHECK(now_ms() < until);
		guest_looks(1);
		host_accepts();
		host_reads(l);
	}
	if (l->asked && l->f.fd >= 0)
		close(l->f.fd);
	if (l->asked && l->open && !l->reset)
		to_host(lane_hdr(l, VSP_OP_RST));
	l->asked = false;
}

/* ---- datagrams ---- */

static void guest_sends_dgram(void)
{
	struct vsp_hdr hdr = { .src = { g.cid, DGRAM_PORT },
			       .dst = { VSP_CID_HOST, PORT + 2 },
			       .type = VSP_TYPE_DGRAM,
			       .op = VSP_OP_RW,
			       .len = pick(2) ? pick(2000) : pick(LONGEST) };

	fill(g.buf, hdr.len, 0, hdr.len);
	dgrams_sent += to_host(hdr);
}

static void host_takes_dgrams(void)
{
	ssize_t n;

	while ((n = recv(dgram, data, sizeof(data), 0)) >= 0)
		same(data, (u32)n, 0, (u32)n);
}

static void host_sends_dgram(void)
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = g.cid, .svm_port = DGRAM_PORT };
	u32 len = pick(2) ? pick(2000) : pick(LONGEST);

	fill(data, len, 0, len);
	if (sendto(dgram, data, len, MSG_NOSIGNAL, (struct sockaddr *)&to, sizeof(to)) < 0)
		CHECK(errno == EAGAIN || errno == ENOMEM || errno == ENOBUFS || errno == EFAULT || errno == ENODEV ||
		      errno == EHOSTUNREACH);
}

/* Every datagram that the host took from the ring arrived, or a counter says why not. */
static void dgrams_add_up(void)
{
	static const char *const names[] = { "dgram_rx", "dgram_rx_full", "dgram_rx_unbound", "dgram_rx_cut",
					     "dgram_rx_no_memory" };
	u64 until = now_ms() + WAIT_MS, sum = 0;

	while (!is_broken()) {
		sum = 0;
		for (u32 i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			sum += counter(CID, names[i]);
		if (sum == dgrams_sent)
			break;
		CHECK(sum < dgrams_sent && now_ms() < until);
		pause_a_little();
	}
}

/* ---- all of it ---- */

static void step(void)
{
	struct lane *l = &lanes[pick(LANES)];

	if (!l->asked)
		begin(l);
	switch (pick(6)) {
	case 0:
	case 1:
		guest_writes(l);
		break;
	case 2:
	case 3:
		host_writes(l);
		break;
	case 4:
		guest_sends_dgram();
		break;
	default:
		host_sends_dgram();
		break;
	}
	guest_looks(0);
	host_accepts();
	host_reads(l);
	host_takes_dgrams();
	if (ended(l) && !pick(4))
		finish(l);
}

static void hear_of_broken_rings(void)
{
	err_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	CHECK(err_event >= 0);
	for (u32 i = 0; i < 2; i++) {
		struct vhost_vring_file file = { .index = i, .fd = err_event };

		CHECK(!ioctl(g.peer.f.device, VHOST_SET_VRING_ERR, &file));
	}
	broken = false;
}

static int host_dgram(u32 port)
{
	struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int fd = socket(AF_VSOCK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&at, sizeof(at)));
	return fd;
}

static void probe(void)
{
	const struct vsp_hdr hdr = { .src = { g.cid, VSP_PORT_ANY },
				     .dst = { VSP_CID_HOST, VSP_PORT_ANY },
				     .type = VSP_TYPE_DGRAM,
				     .op = VSP_OP_CREDIT_REQUEST,
				     .buf_alloc = VSP_DGRAM_MAX,
				     .fwd_cnt = VSP_DGRAM_REVISION };

	CHECK(to_host(hdr));
}

static void one_round(u32 number)
{
	guest_begin(&g, CID, 128, 3776, FEATURES | VU_BIT(VSP_F_SEQPACKET));
	/* A fault while the host looks for its own memory would be the host's. */
	memset(g.peer.f.mem + vu_front_data(&g.peer.f), 0, g.peer.f.opts.memory - vu_front_data(&g.peer.f));
	hear_of_broken_rings();
	dgrams_sent = 0;
	next_port = GUEST_PORT;
	probe();
	inject(number % 3 != 1, number % 3 != 0);
	for (u32 i = 0; i < STEPS && !is_broken(); i++)
		step();
	stop_injecting();
	for (u32 i = 0; i < LANES; i++)
		finish(&lanes[i]);
	dgrams_add_up();
	guest_end(&g);
	close(err_event);
}

static u32 number_from(const char *name, u32 otherwise)
{
	const char *given = getenv(name);

	return given ? (u32)strtoul(given, NULL, 0) : otherwise;
}

static void shortage(void)
{
	u32 first = number_from("VHOST_SEED", (u32)now_ms()), rounds = number_from("VHOST_ROUNDS", ROUNDS);
	u32 n_broken = 0;

	if (access(DEBUGFS "failslab/require-start", W_OK) || access(DEBUGFS "fail_usercopy/require-start", W_OK))
		exit(SKIPPED);
	fprintf(stderr, "# VHOST_SEED=%u\n", first);
	listeners[0] = host_listen_for(false, PORT, 8);
	listeners[1] = host_listen_for(true, PORT + 1, 8);
	dgram = host_dgram(PORT + 2);
	atexit(stop_injecting);
	prepare_faults();
	for (u32 round = 0; round < rounds; round++) {
		seed = first + round;
		one_round(round);
		n_broken += broken;
	}
	fprintf(stderr, "# %u calls failed, the ring broke in %u of %u rounds\n", calls_failed, n_broken, rounds);
	CHECK(calls_failed);
}

/* The same while a device is configured: it works then, or the ioctl says why not, and all is given back. */
static void opening(void)
{
	u32 opened = 0;

	if (access(DEBUGFS "failslab/require-start", W_OK))
		exit(SKIPPED);
	atexit(stop_injecting);
	prepare_faults();
	for (u32 round = 0; round < DEVICES; round++) {
		int err;

		memset(&g.peer, 0, sizeof(g.peer));
		inject(true, round % 2);
		err = peer_open_vhost(&g.peer, DEVICE, CID, 128, 3776, false, FEATURES);
		stop_injecting();
		CHECK(!err || err == -ENOMEM || err == -EFAULT);
		opened += !err;
		if (!err)
			guest_end(&g);
	}
	fprintf(stderr, "# %u of %u were opened\n", opened, DEVICES);
	CHECK(opened && opened < DEVICES);
}

const struct test shortage_tests[] = {
	{ "no memory, faults: what does not arrive is an error, or counted", shortage },
	{ "no memory, faults: a device opens or says why not", opening },
	{ NULL, NULL },
};
