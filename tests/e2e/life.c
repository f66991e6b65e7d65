// SPDX-License-Identifier: BSD-2-Clause
/* How connections begin and end. */
#include "fixture.h"
#include "tests.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void begin(struct fix *f, int *listener)
{
	fix_daemon(f, NULL);
	fix_guest(f, 128, 3776);
	*listener = fix_listener(f, 1000);
}

static struct vsp_hdr shutdown_hdr(u32 port, u32 guest_port, u32 hints)
{
	struct vsp_hdr hdr = fix_hdr(port, guest_port, VSP_OP_SHUTDOWN);

	hdr.flags = hints;
	return hdr;
}

static void send_text(struct fix *f, u32 port, u32 guest_port, const char *text)
{
	struct vsp_hdr hdr = fix_hdr(port, guest_port, VSP_OP_RW);

	hdr.len = (u32)strlen(text);
	memcpy(f->buf, text, hdr.len);
	fix_send(f, hdr);
}

static void guest_half_closes(void)
{
	struct vsp_hdr r;
	struct fix f;
	char buf[8];
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	send_text(&f, 1000, 50, "ask");
	fix_send(&f, shutdown_hdr(1000, 50, VSP_SHUTDOWN_SEND));
	CHECK(fix_read(fd, buf, sizeof(buf)) == 3);
	fix_write(fd, "answer", 6);
	r = fix_expect(&f, VSP_OP_RW);
	CHECK(r.len == 6 && !memcmp(f.buf, "answer", 6));
	close(fd);
	CHECK(fix_expect(&f, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_BOTH);
	fix_send(&f, fix_hdr(1000, 50, VSP_OP_RST));
	fix_end(&f);
}

static void host_half_closes(void)
{
	struct vsp_hdr r;
	struct fix f;
	char buf[8];
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	fix_write(fd, "ask", 3);
	shutdown(fd, SHUT_WR);
	CHECK(fix_expect(&f, VSP_OP_RW).len == 3);
	r = fix_expect(&f, VSP_OP_SHUTDOWN);
	CHECK(r.flags == VSP_SHUTDOWN_SEND);
	send_text(&f, 1000, 50, "late");
	fix_send(&f, shutdown_hdr(1000, 50, VSP_SHUTDOWN_BOTH));
	CHECK(fix_read(fd, buf, sizeof(buf)) == 4);
	fix_expect(&f, VSP_OP_RST);
	fix_end(&f);
}

static void full_shutdown_is_confirmed(void)
{
	struct fix f;
	char c;
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	fix_send(&f, shutdown_hdr(1000, 50, VSP_SHUTDOWN_BOTH));
	fix_expect(&f, VSP_OP_RST);
	CHECK(read(fd, &c, 1) == 0);
	/* The address can be used again at once. */
	fix_open(&f, l, 1000, 50);
	fix_reject(&f, "opened", 2);
	CHECK(fix_counter(&f, "resets") == 0 && fix_counter(&f, "timed_out") == 0);
	fix_end(&f);
}

/* What the guest sent before it closed reaches a reader that comes late, even after the guest's reset. */
static void last_bytes_outlive_the_guest(void)
{
	struct fix f;
	size_t sent = 0, got = 0;
	struct vsp_hdr hdr;
	int l, fd;
	ssize_t n;

	begin(&f, &l);
	hdr = fix_hdr(1000, 50, VSP_OP_REQUEST);
	fix_send(&f, hdr);
	fd = accept(l, NULL, NULL);
	hdr = fix_expect(&f, VSP_OP_RESPONSE);
	while (sent + 32768 <= hdr.buf_alloc) {
		struct vsp_hdr rw = fix_hdr(1000, 50, VSP_OP_RW);

		rw.len = 32768;
		CHECK(peer_send(&f.peer, rw, f.buf, rw.len, PEER_ONE));
		sent += rw.len;
	}
	fix_send(&f, shutdown_hdr(1000, 50, VSP_SHUTDOWN_BOTH));
	fix_send(&f, fix_hdr(1000, 50, VSP_OP_RST));
	while ((n = read(fd, f.buf, sizeof(f.buf))) > 0)
		got += (size_t)n;
	CHECK(n == 0 && got == sent);
	fix_end(&f);
}

static void close_that_the_guest_ignores(void)
{
	static const char *const args[] = { "--close-timeout", "100", NULL };
	struct fix f;
	int l, fd;

	fix_daemon(&f, args);
	fix_guest(&f, 128, 3776);
	l = fix_listener(&f, 1000);
	fd = fix_open(&f, l, 1000, 50);
	close(fd);
	fix_expect(&f, VSP_OP_SHUTDOWN);
	close(fix_open(&f, l, 1000, 51));
	fix_expect(&f, VSP_OP_SHUTDOWN);
	fix_expect(&f, VSP_OP_RST);
	fix_expect(&f, VSP_OP_RST);
	fix_reject(&f, "timed_out", 2);
	fix_end(&f);
}

/* The host closed with bytes of the guest unread: a clean end would be a lie. */
static void unread_bytes_become_a_reset(void)
{
	struct fix f;
	char c;
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	send_text(&f, 1000, 50, "not read by anybody");
	CHECK(recv(fd, &c, 1, MSG_PEEK) == 1);
	close(fd);
	fix_expect(&f, VSP_OP_RST);
	fix_reject(&f, "resets", 1);
	fix_end(&f);
}

static void data_after_the_host_left(void)
{
	struct fix f;
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	shutdown(fd, SHUT_RD);
	send_text(&f, 1000, 50, "x");
	CHECK(fix_expect(&f, VSP_OP_SHUTDOWN).flags == VSP_SHUTDOWN_RCV);
	fix_write(fd, "still", 5);
	CHECK(fix_expect(&f, VSP_OP_RW).len == 5);
	close(fd);
	fix_expect(&f, VSP_OP_RST);
	fix_end(&f);
}

static void refusals(void)
{
	struct vsp_hdr hdr;
	struct fix f;
	int l;

	begin(&f, &l);
	fix_send(&f, fix_hdr(1001, 60, VSP_OP_REQUEST));
	hdr = fix_expect(&f, VSP_OP_RST);
	CHECK(hdr.src.port == 1001 && hdr.dst.port == 60);

	hdr = fix_hdr(1000, 61, VSP_OP_REQUEST);
	hdr.dst.cid = 99;
	fix_send(&f, hdr);
	hdr = fix_expect(&f, VSP_OP_RST);
	CHECK(hdr.src.cid == 99 && hdr.src.port == 1000 && hdr.dst.port == 61);

	hdr = fix_hdr(1000, 62, VSP_OP_REQUEST);
	hdr.type = VSP_TYPE_SEQPACKET;
	fix_send(&f, hdr);
	hdr = fix_expect(&f, VSP_OP_RST);
	CHECK(hdr.type == VSP_TYPE_SEQPACKET && hdr.dst.port == 62);

	for (u32 op = VSP_OP_RESPONSE; op < NUM_VSP_OPS; op++) {
		if (op == VSP_OP_RST)
			continue;
		fix_send(&f, fix_hdr(1000, 63 + op, (enum vsp_op)op));
		CHECK(fix_expect(&f, VSP_OP_RST).dst.port == 63 + op);
	}
	fix_end(&f);
}

static void reset_is_not_answered(void)
{
	struct vsp_hdr hdr;
	struct fix f;
	int l;

	begin(&f, &l);
	fix_send(&f, fix_hdr(1000, 60, VSP_OP_RST));
	hdr = fix_hdr(1000, 60, VSP_OP_RST);
	hdr.type = 77;
	fix_send(&f, hdr);
	/* The answer to what comes after them is the next thing to arrive. */
	fix_send(&f, fix_hdr(1000, 99, VSP_OP_RW));
	CHECK(fix_expect(&f, VSP_OP_RST).dst.port == 99);
	fix_end(&f);
}

static void request_for_an_open_connection(void)
{
	struct fix f;
	int l, old, fd;
	char c;

	begin(&f, &l);
	old = fix_open(&f, l, 1000, 50);
	send_text(&f, 1000, 50, "o");
	CHECK(read(old, &c, 1) == 1);
	fd = fix_open(&f, l, 1000, 50);
	CHECK(read(old, &c, 1) == 0);
	send_text(&f, 1000, 50, "n");
	CHECK(read(fd, &c, 1) == 1 && c == 'n');
	fix_end(&f);
}

/*
 * As Linux asks when connect() was interrupted: the first answer may be on its way, and will be taken for the second's.
 * The window is that of the second request.
 */
static void request_for_an_unused_connection(void)
{
	struct vsp_hdr hdr;
	char bytes[300] = { 0 };
	struct fix f;
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	hdr = fix_hdr(1000, 50, VSP_OP_REQUEST);
	hdr.buf_alloc = 100;
	fix_send(&f, hdr);
	CHECK(fix_expect(&f, VSP_OP_RESPONSE).dst.port == 50);
	CHECK(write(fd, bytes, sizeof(bytes)) == sizeof(bytes));
	CHECK(fix_expect(&f, VSP_OP_RW).len == 100);
	send_text(&f, 1000, 50, "n");
	CHECK(read(fd, bytes, 1) == 1 && bytes[0] == 'n');
	close(fd);
	fix_end(&f);
}

static void full_backlog_is_waited_for(void)
{
	struct fix f;
	int l, filler[8];

	begin(&f, &l);
	CHECK(!listen(l, 0));
	for (u32 i = 0; i < 3; i++)
		fix_send(&f, fix_hdr(1000, 70 + i, VSP_OP_REQUEST));
	CHECK(fix_expect(&f, VSP_OP_RESPONSE).dst.port == 70);
	/* Other connections go on meanwhile. */
	fix_open(&f, fix_listener(&f, 1002), 1002, 80);
	for (u32 i = 0; i < 3; i++) {
		filler[i] = accept(l, NULL, NULL);
		CHECK(filler[i] >= 0);
	}
	fix_end(&f);
}

static void front_end_comes_back(void)
{
	struct fix f;
	char c;
	int l, fd;

	begin(&f, &l);
	for (u32 i = 0; i < 5; i++) {
		fd = fix_open(&f, l, 1000, 50);
		send_text(&f, 1000, 50, "z");
		CHECK(read(fd, &c, 1) == 1);
		peer_close(&f.peer);
		CHECK(read(fd, &c, 1) == 0);
		close(fd);
		fix_guest(&f, 64u << i, 3776);
	}
	fix_end(&f);
}

static void ring_message(struct fix *f, enum vu_request request, u32 index, u32 num, int fd)
{
	struct vu_msg msg = { .request = request, .size = 8, .body.state = { .index = index, .num = num } };

	if (fd >= 0) {
		msg.nfds = 1;
		msg.fds[0] = fd;
	}
	CHECK(!vu_front_call(&f->peer.f, &msg, false));
}

static bool hung_up(int fd, int ms)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, ms) == 1 && (p.revents & POLLHUP);
}

static void renew_ring(struct vu_drv *d)
{
	u32 size = d->size;

	vu_drv_fini(d);
	memset(d->desc, 0, vu_drv_bytes(size));
	CHECK(!vu_drv_init(d, d->desc, size, 0, true));
}

/* Stop both rings and start them again where they were (a pause), or as new ones (a reboot). */
static void restart(struct fix *f, bool reboot)
{
	for (u32 i = 0; i < 2; i++) {
		struct vu_drv *d = &f->peer.f.drv[i];
		struct vu_msg msg = { .request = VU_GET_VRING_BASE, .size = 8, .body.state.index = i };

		CHECK(!vu_front_call(&f->peer.f, &msg, true));
		if (reboot)
			renew_ring(d);
		ring_message(f, VU_SET_VRING_BASE, i, reboot ? 0 : msg.body.state.num, -1);
		ring_message(f, VU_SET_VRING_CALL, i, 0, d->call_fd);
		ring_message(f, VU_SET_VRING_KICK, i, 0, d->kick_fd);
	}
}

static void pause_keeps_connections(void)
{
	struct fix f;
	char c;
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	restart(&f, false);
	send_text(&f, 1000, 50, "p");
	CHECK(read(fd, &c, 1) == 1 && c == 'p');
	fix_write(fd, "q", 1);
	CHECK(fix_expect(&f, VSP_OP_RW).len == 1);
	fix_end(&f);
}

/* Data, a half-close and a reset alike: the whole window, and the bytes that were read. */
static void every_packet_states_credit(void)
{
	enum { WINDOW = 1 << 18 }; /* of a vsockd that was told nothing else */
	struct vsp_hdr hdr = fix_hdr(1000, 50, VSP_OP_REQUEST);
	struct fix f;
	char buf[8];
	int l, fd;

	begin(&f, &l);
	fix_send(&f, hdr);
	hdr = fix_expect(&f, VSP_OP_RESPONSE);
	CHECK(hdr.buf_alloc == WINDOW && hdr.fwd_cnt == 0);
	fd = accept(l, NULL, NULL);
	send_text(&f, 1000, 50, "seven b");
	CHECK(fix_read(fd, buf, 7) == 7);
	fix_write(fd, "x", 1);
	hdr = fix_expect(&f, VSP_OP_RW);
	CHECK(hdr.buf_alloc == WINDOW && hdr.fwd_cnt == 7);
	send_text(&f, 1000, 50, "8");
	CHECK(fix_read(fd, buf, 1) == 1);
	shutdown(fd, SHUT_WR);
	hdr = fix_expect(&f, VSP_OP_SHUTDOWN);
	CHECK(hdr.flags == VSP_SHUTDOWN_SEND && hdr.buf_alloc == WINDOW && hdr.fwd_cnt == 8);
	hdr = shutdown_hdr(1000, 50, VSP_SHUTDOWN_BOTH);
	fix_send(&f, hdr);
	hdr = fix_expect(&f, VSP_OP_RST);
	CHECK(hdr.buf_alloc == WINDOW && hdr.fwd_cnt == 8);
	close(fd);
	close(l);
	fix_end(&f);
}

/* virtio 1.4 5.10.4: 0, 1, 2, the highest and what needs more than 32 bits belong to nobody. */
static void reserved_cids_are_refused(void)
{
	static const char *const reserved[] = { "0", "1", "2", "4294967295", "4294967296", "-1", "guest", "" };

	for (u32 i = 0; i < ARRAY_SIZE(reserved); i++) {
		const char *args[] = { "--guest-cid", reserved[i], NULL };

		fix_refused(args, "guest-cid");
	}
}

static void reboot_ends_connections(void)
{
	struct fix f;
	char c;
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	restart(&f, true);
	CHECK(read(fd, &c, 1) == 0);
	fix_end(&f);
}

/* As User-Mode-Linux has it when its driver is bound again: nothing stops the rings but that they are disabled. */
static void disabled_rings_begin_anew(void)
{
	struct vu_msg answered = { .request = VU_GET_FEATURES };
	struct fix f;
	char c;
	int l, fd;

	begin(&f, &l);
	fd = fix_open(&f, l, 1000, 50);
	for (u32 i = 0; i < 2; i++)
		ring_message(&f, VU_SET_VRING_ENABLE, i, 0, -1);
	CHECK(!vu_front_call(&f.peer.f, &answered, true));
	for (u32 i = 0; i < 2; i++) {
		struct vu_drv *d = &f.peer.f.drv[i];

		renew_ring(d);
		ring_message(&f, VU_SET_VRING_CALL, i, 0, d->call_fd);
		ring_message(&f, VU_SET_VRING_NUM, i, d->size, -1);
		ring_message(&f, VU_SET_VRING_BASE, i, 0, -1);
		ring_message(&f, VU_SET_VRING_KICK, i, 0, d->kick_fd);
		ring_message(&f, VU_SET_VRING_ENABLE, i, 1, -1);
	}
	CHECK(read(fd, &c, 1) == 0);
	close(fd);
	peer_post_all(&f.peer);
	fd = fix_open(&f, l, 1000, 51);
	send_text(&f, 1000, 51, "n");
	CHECK(read(fd, &c, 1) == 1 && c == 'n');
	close(fd);
	fix_end(&f);
}

/* Of a ring that runs neither the size nor the index is changed. */
static void running_rings_are_kept(void)
{
	static const enum vu_request requests[] = { VU_SET_VRING_NUM, VU_SET_VRING_BASE };

	for (u32 i = 0; i < ARRAY_SIZE(requests); i++) {
		struct fix f;
		char c;
		int l;

		begin(&f, &l);
		ring_message(&f, requests[i], 0, 64, -1);
		CHECK(recv(f.peer.f.chan.fd, &c, 1, 0) <= 0);
		fix_end(&f);
	}
}

/* Its other end tells whether the device still has it, for the device says nothing there. */
static void request_channel_is_kept(void)
{
	struct fix f;
	int l, first[2], second[2];

	begin(&f, &l);
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, first) && !socketpair(AF_UNIX, SOCK_STREAM, 0, second));
	ring_message(&f, VU_SET_BACKEND_REQ_FD, 0, 0, first[1]);
	close(first[1]);
	close(fix_open(&f, l, 1000, 50));
	CHECK(!hung_up(first[0], 0));
	ring_message(&f, VU_SET_BACKEND_REQ_FD, 0, 0, second[1]);
	close(second[1]);
	CHECK(hung_up(first[0], PEER_WAIT_MS) && !hung_up(second[0], 0));
	/* Without a descriptor it makes no sense, and the session ends. */
	ring_message(&f, VU_SET_BACKEND_REQ_FD, 0, 0, -1);
	CHECK(hung_up(second[0], PEER_WAIT_MS) && hung_up(f.peer.f.chan.fd, PEER_WAIT_MS));
	close(first[0]);
	close(second[0]);
	fix_end(&f);
}

const struct test life_tests[] = {
	{ "life: the guest half-closes", guest_half_closes },
	{ "life: the host half-closes", host_half_closes },
	{ "life: a full shutdown is confirmed", full_shutdown_is_confirmed },
	{ "life: the last bytes outlive the guest's connection", last_bytes_outlive_the_guest },
	{ "life: a close that the guest ignores", close_that_the_guest_ignores },
	{ "life: unread bytes become a reset", unread_bytes_become_a_reset },
	{ "life: data after the host stopped reading", data_after_the_host_left },
	{ "life: refusals", refusals },
	{ "life: a reset is not answered", reset_is_not_answered },
	{ "life: a request for an open connection", request_for_an_open_connection },
	{ "life: a request for an unused connection", request_for_an_unused_connection },
	{ "life: a full backlog is waited for", full_backlog_is_waited_for },
	{ "life: the front-end leaves and comes back", front_end_comes_back },
	{ "life: a pause keeps connections", pause_keeps_connections },
	{ "life: a reboot ends them", reboot_ends_connections },
	{ "life: disabled rings begin anew", disabled_rings_begin_anew },
	{ "life: running rings are kept", running_rings_are_kept },
	{ "life: the request channel is kept", request_channel_is_kept },
	{ "life: every packet states credit", every_packet_states_credit },
	{ "life: reserved CIDs are refused", reserved_cids_are_refused },
	{ 0 },
};
