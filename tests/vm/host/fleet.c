// SPDX-License-Identifier: BSD-2-Clause
/*
 * Sixteen guests at once. Fifteen are honest and busy with streams and messages, both ways, and every byte is checked.
 * The sixteenth tries in turn what a hostile one may; at last it leaves the host many connections, which is measured.
 *
 * Each guest is a process, with its host's programs in it. They go from phase to phase together.
 */
#include "host.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	HONEST = 15,
	FIRST_CID = 100,
	HOSTILE_CID = 99,
	FIRST_PORT = 6000,
	MESSAGES = 1000, /* added to the port of a listener for them */
	HOSTILE_PORT = 6099,
	NOBODY = 6098,
	LANES = 4,	   /* connections of an honest guest: streams and messages, opened by either end */
	ROUNDS = 2,	   /* at least, while all are busy */
	ROUND_BYTES = 60000, /* each way, on each connection, in a round */
	PACKET = 5000,
	MESSAGE_MAX = 20000,
	HOSTILE_RING = 256,
	FLOOD = 2000,
	HELD = 2000,   /* connections that end in the host only; more than may wait for the guest's consent */
	BACKLOG = 64,
	/* What one guest may cost beyond the windows of its sockets, in KiB. */
	BOUND = 16 << 10,
	/* What all may leave behind in the kernel's caches. */
	LEFT_MAX = 4 << 10,
};

enum phase { CONNECTING, BUSY, MEASURED };

/* What the processes know of each other. */
struct fleet {
	atomic_uint phase;
	atomic_uint ready;   /* guests that have their connections */
	atomic_uint tried;   /* the hostile one has tried everything */
	atomic_uint settled; /* guests that have no traffic now */
};

/* A connection of an honest guest. A message is counted when its first byte is sent, or its last one received. */
struct lane {
	struct flow f;
	u32 end;      /* bytes that each end has sent when the round is over; whole messages */
	u32 acked;    /* bytes that the host knows to have arrived */
	u32 out_left; /* of the message that the guest is sending */
	u32 in_part;  /* what the guest has of the message that it receives */
	u32 out_sent, out_received, in_sent, in_received; /* messages */
};

static struct fleet *fleet;
static struct guest g;
static struct lane lanes[LANES];
static u8 buf[VSP_MAX_PAYLOAD];

/* Messages have lengths that both ends know. */
static u32 message_length(u32 n)
{
	return 1 + n * 7919 % MESSAGE_MAX;
}

static u32 least(u32 a, u32 b)
{
	return a < b ? a : b;
}

static void reach(atomic_uint *what, unsigned int value)
{
	u64 until = now_ms() + 10ull * WAIT_MS;

	while (atomic_load(what) < value) {
		CHECK(now_ms() < until);
		pause_a_little();
	}
}

/* ---- an honest guest ---- */

/* The next packet of a lane, if there is something to send and credit for it. */
static bool guest_sends(struct lane *l)
{
	u32 left = l->f.sent < l->end ? l->end - l->f.sent : 0, n;
	struct vsp_hdr hdr = guest_hdr(&g, &l->f, VSP_OP_RW);

	if (l->f.messages && !l->out_left && left)
		l->out_left = message_length(l->out_sent++);
	if (l->f.messages)
		left = l->out_left;
	n = least(least(left, PACKET), l->f.edge - l->f.sent);
	if (!n)
		return false;
	for (u32 i = 0; i < n; i++)
		buf[i] = byte_at(l->f.sent + i, 1);
	hdr.len = n;
	if (l->f.messages) {
		l->out_left -= n;
		hdr.flags = l->out_left ? 0 : VSP_SEQ_EOM;
	}
	/* It waits for ten seconds; beside so many a guest may have to wait longer. */
	for (u32 tries = 0; !peer_send(&g.peer, hdr, buf, n, n % 2 ? PEER_TWO : PEER_INDIRECT); tries++)
		CHECK(tries < WAIT_MS / PEER_WAIT_MS);
	l->f.sent += n;
	l->acked = l->f.got;
	return true;
}

static bool host_takes(struct lane *l)
{
	ssize_t n = recv(l->f.fd, buf, sizeof(buf), 0);

	if (n < 0)
		CHECK(errno == EAGAIN);
	if (n <= 0)
		return false;
	if (l->f.messages)
		CHECK((u32)n == message_length(l->out_received++));
	for (ssize_t i = 0; i < n; i++)
		CHECK(buf[i] == byte_at(l->f.read + (u32)i, 1));
	l->f.read += (u32)n;
	return true;
}

static bool host_sends(struct lane *l)
{
	u32 left = l->f.written < l->end ? l->end - l->f.written : 0;
	u32 len = l->f.messages ? message_length(l->in_sent) : left;
	ssize_t n;

	if (!left)
		return false;
	len = least(len, sizeof(buf));
	for (u32 i = 0; i < len; i++)
		buf[i] = byte_at(l->f.written + i, 2);
	n = send(l->f.fd, buf, len, MSG_NOSIGNAL);
	if (n < 0)
		CHECK(errno == EAGAIN);
	if (n <= 0)
		return false;
	CHECK(!l->f.messages || n == (ssize_t)len);
	l->in_sent += l->f.messages;
	l->f.written += (u32)n;
	return true;
}

static struct lane *lane_of(const struct vsp_hdr *hdr)
{
	for (u32 i = 0; i < LANES; i++) {
		if (lanes[i].f.host_port == hdr->src.port && lanes[i].f.guest_port == hdr->dst.port)
			return &lanes[i];
	}
	CHECK(0);
	return NULL;
}

static void guest_acks(struct lane *l)
{
	guest_send(&g, guest_hdr(&g, &l->f, VSP_OP_CREDIT_UPDATE));
	l->acked = l->f.got;
}

static void guest_takes(const struct vsp_hdr *hdr)
{
	struct lane *l = lane_of(hdr);

	CHECK(hdr->src.cid == VSP_CID_HOST && hdr->dst.cid == g.cid);
	CHECK(hdr->type == (l->f.messages ? VSP_TYPE_SEQPACKET : VSP_TYPE_STREAM));
	l->f.edge = hdr->fwd_cnt + hdr->buf_alloc;
	if (hdr->op == VSP_OP_CREDIT_REQUEST)
		guest_acks(l);
	if (hdr->op != VSP_OP_RW) {
		CHECK(hdr->op == VSP_OP_CREDIT_UPDATE || hdr->op == VSP_OP_CREDIT_REQUEST);
		return;
	}
	for (u32 i = 0; i < hdr->len; i++)
		CHECK(g.buf[i] == byte_at(l->f.got + i, 2));
	l->f.got += hdr->len;
	l->in_part += hdr->len;
	if (l->f.messages) {
		bool whole = l->in_part == message_length(l->in_received);

		CHECK(hdr->flags == (whole ? VSP_SEQ_EOM : 0));
		l->in_received += whole;
		l->in_part = whole ? 0 : l->in_part;
	}
	if (l->f.got - l->acked >= WINDOW / 4)
		guest_acks(l);
}

static bool is_done(const struct lane *l)
{
	return l->f.sent >= l->end && !l->out_left && l->f.read == l->f.sent && l->f.written >= l->end &&
	       l->f.got == l->f.written;
}

/* All lanes at once, until each end of each has what the other sent. */
static void do_round(void)
{
	u64 until = now_ms() + 2ull * WAIT_MS;
	u32 done = 0;

	for (u32 i = 0; i < LANES; i++)
		lanes[i].end += ROUND_BYTES;
	while (done < LANES) {
		bool moved = false;
		struct vsp_hdr hdr;

		done = 0;
		for (u32 i = 0; i < LANES; i++) {
			moved |= guest_sends(&lanes[i]);
			moved |= host_takes(&lanes[i]);
			moved |= host_sends(&lanes[i]);
			done += is_done(&lanes[i]);
		}
		for (int ms = moved || done == LANES ? 0 : 1; peer_recv(&g.peer, &hdr, g.buf, ms); ms = 0) {
			guest_takes(&hdr);
			moved = true;
		}
		until = moved ? now_ms() + 2ull * WAIT_MS : until;
		CHECK(now_ms() < until);
	}
}

static void open_lanes(u32 port)
{
	int streams = host_listen(port, 8), messages = host_listen_for(true, MESSAGES + port, 8);

	for (u32 i = 0; i < LANES; i++) {
		struct flow *f = &lanes[i].f;

		*f = (struct flow){ .host_port = port, .guest_port = 50 + i, .messages = i / 2 };
		f->host_port += f->messages ? MESSAGES : 0;
		if (i % 2)
			flow_ask_guest(&g, f);
		else
			flow_ask_host(&g, f->messages ? messages : streams, f);
	}
	close(streams);
	close(messages);
}

/* The host closes, and the guest agrees. Credit of other lanes may come between. */
static void close_lanes(void)
{
	struct vsp_hdr hdr;

	for (u32 i = 0; i < LANES; i++) {
		close(lanes[i].f.fd);
		do {
			CHECK(peer_recv(&g.peer, &hdr, g.buf, WAIT_MS));
		} while (hdr.op == VSP_OP_CREDIT_UPDATE || hdr.op == VSP_OP_CREDIT_REQUEST);
		CHECK(hdr.op == VSP_OP_SHUTDOWN && lane_of(&hdr) == &lanes[i]);
		guest_send(&g, guest_hdr(&g, &lanes[i].f, VSP_OP_RST));
	}
}

static void begin(u32 cid, u32 ring)
{
	guest_begin(&g, cid, ring, 3776, FEATURES | VU_BIT(VSP_F_SEQPACKET));
}

static void be_honest(u32 i)
{
	begin(FIRST_CID + i, 16u << i % 4);
	open_lanes(FIRST_PORT + i);
	do_round();
	atomic_fetch_add(&fleet->ready, 1);
	reach(&fleet->phase, BUSY);
	for (u32 rounds = 0; rounds < ROUNDS || !atomic_load(&fleet->tried); rounds++)
		do_round();
	atomic_fetch_add(&fleet->settled, 1);
	reach(&fleet->phase, MEASURED);
	do_round();
	close_lanes();
	guest_end(&g);
}

/* ---- the hostile one ---- */

static int listener;
static unsigned int seed = 1;

static struct flow some_flow(u32 guest_port)
{
	return (struct flow){ .host_port = HOSTILE_PORT, .guest_port = guest_port };
}

static void take_all(void)
{
	struct vsp_hdr hdr;

	while (peer_recv(&g.peer, &hdr, NULL, 0))
		;
}

/* A connection that it asks for and never looks at again. */
static struct flow open_blindly(u32 guest_port)
{
	struct flow f = some_flow(guest_port);

	guest_send(&g, guest_hdr(&g, &f, VSP_OP_REQUEST));
	CHECK(host_wait(listener, 1, WAIT_MS));
	f.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CHECK(f.fd >= 0);
	return f;
}

/* Requests for credit, and no buffers for the answers. */
static void ask_for_credit(void)
{
	struct flow f;

	guest_reboot_empty(&g);
	f = open_blindly(50);
	for (u32 i = 0; i < FLOOD; i++)
		guest_send(&g, guest_hdr(&g, &f, VSP_OP_CREDIT_REQUEST));
	guest_reboot(&g);
	CHECK(host_error(f.fd) == ECONNRESET);
	close(f.fd);
}

/* Connections for which there is no room, and to where nobody is. */
static void ask_for_connections(void)
{
	for (u32 i = 0; i < FLOOD; i++) {
		struct flow f = some_flow(1000 + i);

		f.host_port = i % 2 ? HOSTILE_PORT : NOBODY;
		guest_send(&g, guest_hdr(&g, &f, VSP_OP_REQUEST));
		if (i % 16 == 0)
			take_all();
	}
	guest_reboot(&g);
	for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0;)
		close(fd);
}

/* Acknowledge what never came, and send what there is no room for. */
static void lie_about_credit(void)
{
	struct flow f = open_blindly(50);
	struct vsp_hdr hdr = guest_hdr(&g, &f, VSP_OP_CREDIT_UPDATE);

	hdr.fwd_cnt = 1;
	guest_send(&g, hdr);
	CHECK(host_error(f.fd) == EPROTO);
	close(f.fd);
	f = open_blindly(51);
	hdr = guest_hdr(&g, &f, VSP_OP_RW);
	hdr.len = VSP_MAX_PAYLOAD;
	for (u32 i = 0; i <= WINDOW / VSP_MAX_PAYLOAD; i++)
		guest_send(&g, hdr);
	CHECK(host_error(f.fd) == EPROTO);
	close(f.fd);
	take_all();
}

static void break_rings(void)
{
	for (u32 bad = 0; bad < NUM_BAD_CHAINS; bad++) {
		struct flow f = open_blindly(50);
		int err = guest_watch_errors(&g, 1);

		guest_send_bad(&g, bad);
		CHECK(host_wait(err, 1, WAIT_MS));
		CHECK(host_error(f.fd) == ECONNRESET);
		close(f.fd);
		close(err);
		guest_reboot(&g);
	}
}

/* Its receive buffers go, and come back, while the host fills them; then its descriptors become nonsense. */
static void change_memory(void)
{
	struct vsp_wire_desc *desc = g.peer.f.drv[0].desc;
	struct flow f;

	for (u32 i = 0; i < 8; i += 2) {
		f = open_blindly(50 + i);
		while (send(f.fd, buf, sizeof(buf), MSG_NOSIGNAL) > 0)
			;
		CHECK(!guest_share_pieces(&g, 8, i, 3, 0));
		CHECK(!vu_vhost_share(&g.peer.f));
		for (u32 k = 0; k < HOSTILE_RING; k++)
			desc[k].addr = cpu_to_le64((u64)rand_r(&seed) << (rand_r(&seed) & 31));
		take_all();
		guest_reboot(&g);
		CHECK(host_error(f.fd) == ECONNRESET);
		close(f.fd);
	}
}

static void reboot_often(void)
{
	for (u32 i = 0; i < 8; i++) {
		struct flow f = open_blindly(50);
		int asked = host_connect(HOSTILE_CID, 50);

		CHECK(asked >= 0);
		guest_reboot(&g);
		CHECK(host_error(f.fd) == ECONNRESET && host_connected(asked) == ECONNRESET);
		close(f.fd);
		close(asked);
	}
}

static void talk_nonsense(void)
{
	for (u32 i = 0; i < FLOOD; i++) {
		struct flow f = { .host_port = (u32)rand_r(&seed), .guest_port = (u32)rand_r(&seed) };
		struct vsp_hdr hdr = guest_hdr(&g, &f, (enum vsp_op)(rand_r(&seed) % 9));

		hdr.type = (u16)(rand_r(&seed) % 4);
		hdr.src.cid = rand_r(&seed) % 4 ? HOSTILE_CID : FIRST_CID;
		guest_send(&g, hdr);
		if (i % 16 == 0)
			take_all();
	}
}

static void be_hostile(void)
{
	static void (*const tricks[])(void) = {
		ask_for_credit, ask_for_connections, lie_about_credit, break_rings,
		change_memory,	reboot_often,	     talk_nonsense,
	};
	enum { TRICKS = sizeof(tricks) / sizeof(tricks[0]) };

	listener = host_listen(HOSTILE_PORT, BACKLOG);
	begin(HOSTILE_CID, HOSTILE_RING);
	atomic_fetch_add(&fleet->ready, 1);
	reach(&fleet->phase, BUSY);
	for (u32 i = 0; i < TRICKS || atomic_load(&fleet->settled) < HONEST; i++) {
		tricks[i % TRICKS]();
		atomic_store(&fleet->tried, i + 1 >= TRICKS);
	}
	/* The host closes these, and hears nothing that would let it forget them. */
	guest_reboot_empty(&g);
	guest_abandon(&g, listener, HOSTILE_PORT, HELD);
	atomic_fetch_add(&fleet->settled, 1);
	reach(&fleet->phase, MEASURED);
	/* Its host's device closes when everybody else has finished, or before. */
	guest_end(&g);
}

/* ---- all together ---- */

static pid_t begin_process(u32 i)
{
	pid_t parent = getpid(), pid = fork();

	CHECK(pid >= 0);
	if (pid)
		return pid;
	CHECK(!prctl(PR_SET_PDEATHSIG, SIGKILL) && getppid() == parent);
	if (i < HONEST)
		be_honest(i);
	else
		be_hostile();
	exit(0);
}

/* Wait until all guests are there; none may have ended before. */
static void gather(atomic_uint *what)
{
	u64 until = now_ms() + 10ull * WAIT_MS;
	int status;

	while (atomic_load(what) < HONEST + 1) {
		CHECK(waitpid(-1, &status, WNOHANG) == 0);
		CHECK(now_ms() < until);
		pause_a_little();
	}
}

static void sixteen_guests(void)
{
	long first = slabs_kib(), before, cost, left, flows;
	int status;

	fleet = mmap(NULL, sizeof(*fleet), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(fleet != MAP_FAILED);
	for (u32 i = 0; i <= HONEST; i++)
		begin_process(i);
	gather(&fleet->ready);
	before = slabs_kib();
	flows = live("flows");
	CHECK(flows == HONEST * LANES);
	atomic_store(&fleet->phase, BUSY);
	gather(&fleet->settled);
	/* Small objects are all: nothing is under way, and nothing waits to be read. */
	for (u64 until = now_ms() + WAIT_MS; live("pkts") || live("segs"); pause_a_little())
		CHECK(now_ms() < until);
	cost = slabs_kib() - before;
	fprintf(stderr, "# the hostile guest costs %ld KiB\n", cost);
	CHECK(live("flows") == flows + HELD);
	CHECK(cost < BOUND);
	atomic_store(&fleet->phase, MEASURED);
	for (u32 i = 0; i <= HONEST; i++)
		CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	left = slabs_kib() - first;
	fprintf(stderr, "# %ld KiB are left\n", left);
	CHECK(left < LEFT_MAX);
}

const struct test fleet_tests[] = {
	{ "16 guests at once, all busy, one hostile: every byte right, and 16 MiB at most", sixteen_guests },
	{ NULL, NULL },
};
