// SPDX-License-Identifier: BSD-2-Clause
/* Many guests of one daemon: none notices what becomes of another. */
#include "fixture.h"
#include "tests.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* A packet of guest @f, whose fix_hdr() would be another's. */
static struct vsp_hdr from(const struct fix *f, u32 port, u32 guest_port, enum vsp_op op)
{
	struct vsp_hdr hdr = fix_hdr(port, guest_port, op);

	hdr.src.cid = f->cid;
	return hdr;
}

static int open_one(struct fix *f, int listener, u32 port)
{
	int fd;

	fix_send(f, from(f, port, 50, VSP_OP_REQUEST));
	fd = accept(listener, NULL, NULL);
	CHECK(fd >= 0 && fix_expect(f, VSP_OP_RESPONSE).dst.cid == f->cid);
	return fd;
}

static void say(struct fix *f, int fd, char c)
{
	struct vsp_hdr hdr = from(f, 1000, 50, VSP_OP_RW);
	char got;

	hdr.len = 1;
	f->buf[0] = (u8)c;
	fix_send(f, hdr);
	CHECK(read(fd, &got, 1) == 1 && got == c);
}

/* The same ports in each guest, and different bytes. */
static void each_its_own(void)
{
	static struct fix f[FIX_FLEET_MAX];
	int fd[FIX_FLEET_MAX];
	char c;

	fix_fleet(f, FIX_FLEET_MAX, NULL, NULL);
	for (u32 i = 0; i < FIX_FLEET_MAX; i++) {
		fix_guest(&f[i], 16, 3776);
		fd[i] = open_one(&f[i], fix_listener(&f[i], 1000), 1000);
	}
	for (u32 i = 0; i < FIX_FLEET_MAX; i++)
		say(&f[i], fd[i], (char)('a' + i));
	for (u32 i = 0; i < FIX_FLEET_MAX; i++) {
		c = (char)('A' + i);
		fix_write(fd[i], &c, 1);
	}
	for (u32 i = 0; i < FIX_FLEET_MAX; i++)
		CHECK(fix_expect(&f[i], VSP_OP_RW).len == 1 && f[i].buf[0] == 'A' + i);
	/* One goes, the others stay; and it comes back. */
	peer_close(&f[0].peer);
	CHECK(read(fd[0], &c, 1) == 0);
	for (u32 i = 1; i < FIX_FLEET_MAX; i++)
		say(&f[i], fd[i], 'x');
	fix_guest(&f[0], 16, 3776);
	fix_send(&f[0], from(&f[0], 999, 50, VSP_OP_REQUEST));
	CHECK(fix_expect(&f[0], VSP_OP_RST).src.port == 999);
	fix_fleet_end(f, FIX_FLEET_MAX);
}

/* Guests that reach each other share a thread, and there are no more than was said. */
static void threads_are_bounded(void)
{
	static const char *const keys[] = { "groups=a", "groups=b", "groups=a+c", "groups=d" };
	static const char *const args[] = { "--threads", "2", NULL };
	static struct fix f[4];
	u64 two, one;

	fix_fleet(f, 4, keys, args);
	two = fix_status(&f[0], "Threads");
	fix_fleet_end(f, 4);
	fix_fleet(f, 4, NULL, args);
	one = fix_status(&f[0], "Threads");
	fix_fleet_end(f, 4);
	CHECK(two == one + 1);
}

/* A front-end that takes its memory away harms nobody else, on whatever thread. */
static void truncated_memory(void)
{
	static const char *const keys[] = { "groups=a", "groups=b", "groups=b" };
	static const char *const args[] = { "--threads", "2", NULL };
	static struct fix f[3];
	int fd[3];

	fix_fleet(f, 3, keys, args);
	for (u32 i = 0; i < 3; i++) {
		fix_guest(&f[i], 16, 3776);
		fd[i] = open_one(&f[i], fix_listener(&f[i], 1000), 1000);
	}
	for (u32 i = 0; i < 2; i++) {
		struct pollfd end = { .fd = f[i].peer.f.chan.fd, .events = POLLIN };
		const u64 one = 1;

		CHECK(!ftruncate(f[i].peer.f.memfd, 0));
		CHECK(write(f[i].peer.f.drv[1].kick_fd, &one, sizeof(one)) == sizeof(one));
		CHECK(poll(&end, 1, PEER_WAIT_MS) == 1 && (end.revents & POLLHUP));
	}
	say(&f[2], fd[2], 'x');
	fix_fleet_end(f, 3);
}

/*
 * A front-end makes the eventfd by which it is called wait, and fills it. It loses its own guest; the one that the same
 * thread serves goes on.
 */
static void blocking_doorbell(void)
{
	static struct fix f[2];
	const u64 full = UINT64_MAX - 1, one = 1;
	struct pollfd end = { .events = POLLIN };
	int fd[2], call;

	fix_fleet(f, 2, NULL, NULL);
	for (u32 i = 0; i < 2; i++) {
		fix_guest(&f[i], 16, 3776);
		fd[i] = open_one(&f[i], fix_listener(&f[i], 1000), 1000);
	}
	call = f[0].peer.f.drv[0].call_fd;
	CHECK(vu_drv_await(&f[0].peer.f.drv[0]));
	CHECK(!fcntl(call, F_SETFL, fcntl(call, F_GETFL) & ~O_NONBLOCK));
	CHECK(write(call, &full, sizeof(full)) == sizeof(full));
	fix_write(fd[0], &one, 1);
	say(&f[1], fd[1], 'x');
	end.fd = f[0].peer.f.chan.fd;
	CHECK(poll(&end, 1, PEER_WAIT_MS) == 1 && (end.revents & POLLHUP));
	fix_await_said(&f[0], "its doorbell block", 1);
	say(&f[1], fd[1], 'y');
	fix_fleet_end(f, 2);
}

static void read_again(void)
{
	static const char *const keys[][3] = {
		{ "groups: a", "groups: a", NULL },
		{ "groups: a, deny_from_guest: 1001", NULL, "groups: a" },
		{ "groups: a", NULL, "groups: a, tx_buffer_size: 65536" },
		{ "groups: a", NULL, "groups: a, tx_buffer_size: none" },
	};
	static struct fix f[3];
	char c;
	int fd, l;

	fix_fleet_file(f, 3, keys[0]);
	fix_guest(&f[0], 16, 3776);
	fix_guest(&f[1], 16, 3776);
	fd = open_one(&f[0], fix_listener(&f[0], 1000), 1000);
	l = fix_listener(&f[0], 1001);
	fix_write_file(f, 3, keys[1]);
	CHECK(!kill(f->pid, SIGHUP));
	fix_await_said(f, "was read again: 2 guests", 1);
	/* One goes on, under new rules; one went; one came. */
	say(&f[0], fd, 'x');
	fix_send(&f[0], from(&f[0], 1001, 51, VSP_OP_REQUEST));
	CHECK(fix_expect(&f[0], VSP_OP_RST).dst.port == 51);
	CHECK(recv(f[1].peer.f.chan.fd, &c, 1, 0) == 0 && access(f[1].socket, F_OK));
	fix_guest(&f[2], 16, 3776);
	/* One begins anew. */
	fix_write_file(f, 3, keys[2]);
	CHECK(!kill(f->pid, SIGHUP));
	CHECK(recv(f[2].peer.f.chan.fd, &c, 1, 0) == 0);
	peer_close(&f[2].peer);
	fix_await_said(f, "was read again: 2 guests", 2);
	say(&f[0], fd, 'y');
	fix_send(&f[0], from(&f[0], 1001, 52, VSP_OP_REQUEST));
	close(accept(l, NULL, NULL));
	fix_expect(&f[0], VSP_OP_RESPONSE);
	/* A file that makes no sense changes nothing. */
	fix_write_file(f, 3, keys[3]);
	CHECK(!kill(f->pid, SIGHUP));
	fix_await_said(f, "/config:3: tx-buffer-size: none: give a number", 1);
	say(&f[0], fd, 'z');
	close(fd);
	fix_fleet_end(f, 3);
}

/* Start a daemon whose front-end socket is @fd, which it inherits under that number. */
static void with_socket(struct fix *f, int fd)
{
	char number[16];
	const char *args[] = { "--fd", number, NULL };

	CHECK(!fcntl(fd, F_SETFD, 0));
	snprintf(number, sizeof(number), "%d", fd);
	fix_spawn_at(f, args);
	close(fd);
}

/* A listener that somebody else bound. */
static void handed_listener(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	static struct fix f;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), conn;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "/tmp/vsd-e2e-handed.%d", getpid());
	CHECK(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)) && !listen(fd, 8));
	with_socket(&f, fd);
	snprintf(f.socket, sizeof(f.socket), "%s", sa.sun_path);
	for (u32 i = 0; i < 2; i++) {
		fix_guest(&f, 16, 3776);
		conn = open_one(&f, fix_listener(&f, 1000 + i), 1000 + i);
		peer_close(&f.peer);
		close(conn);
	}
	/* It is not the daemon's to remove. */
	CHECK(!access(f.socket, F_OK) && !unlink(f.socket));
	fix_end(&f);
}

/* The front-end itself: when it goes there is nothing to wait for. */
static void handed_connection(void)
{
	struct vu_msg msg = { .request = VU_GET_FEATURES, .flags = VU_FLAG_VERSION };
	static struct fix f;
	struct vu_chan chan;
	int pair[2], status;
	const char *why;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	with_socket(&f, pair[1]);
	vu_chan_open(&chan, pair[0]);
	CHECK(!vu_chan_send(&chan, &msg));
	CHECK(vu_chan_recv(&chan, &why) == VU_CHAN_MSG && chan.in.request == VU_GET_FEATURES);
	vu_chan_close(&chan);
	CHECK(waitpid(f.pid, &status, 0) == f.pid && WIFEXITED(status) && !WEXITSTATUS(status));
	CHECK(access(f.uds, F_OK));
	fix_forget(&f);
}

/* A file with three guests. One has two listeners that were handed in, and is there if @window is; one a connection. */
static void write_handed(const struct fix *f, const int *handed, u32 window)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/config", f->dir);
	file = fopen(path, "w");
	CHECK(file && fprintf(file, "vms:\n - {guest_cid: 8, socket: %s8, uds_path: %s8}\n", f->socket, f->uds) > 0);
	if (window)
		CHECK(fprintf(file, " - {fd: %d, uds_fd: %d, guest_cid: 7, tx_buffer_size: %u}\n", handed[0], handed[1],
			      window) > 0);
	CHECK(fprintf(file, " - {fd: %d, guest_cid: 9, uds_path: %s9}\n", handed[2], f->uds) > 0);
	CHECK(!fclose(file));
}

static int listen_at(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&sa, sizeof(sa)) && !listen(fd, 8));
	return fd;
}

/*
 * What was handed in is there for a guest that begins anew, as often as a file is read again; it goes with its guest.
 * A connection that has ended is no reason to refuse the file.
 */
static void handed_and_read_again(void)
{
	static const u32 windows[] = { 65536, 131072, 65536, 65536, 0 };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *args[] = { "--config", NULL, NULL };
	static struct fix f;
	char config[128], c;
	int handed[3], pair[2], fd;

	fix_prepare(&f);
	snprintf(config, sizeof(config), "%s/config", f.dir);
	args[1] = config;
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair) && !fcntl(pair[0], F_SETFD, FD_CLOEXEC));
	handed[0] = listen_at(f.socket);
	handed[1] = listen_at(f.uds);
	handed[2] = pair[1];
	write_handed(&f, handed, windows[0]);
	fix_start(&f, fix_program(), args);
	for (u32 i = 0; i < 3; i++)
		close(handed[i]);
	fix_await_said(&f, "guest 9: front-end connected", 1);
	for (u32 i = 0; windows[i]; i++) {
		fix_guest(&f, 16, 3776);
		fd = fix_dial(&f, 1000);
		CHECK(fix_expect(&f, VSP_OP_REQUEST).buf_alloc == windows[i]);
		if (i == 1) {
			CHECK(!shutdown(pair[0], SHUT_RDWR));
			fix_await_said(&f, "guest 9: front-end disconnected", 1);
		}
		write_handed(&f, handed, windows[i + 1]);
		CHECK(!kill(f.pid, SIGHUP));
		fix_await_said(&f, windows[i + 1] ? "was read again: 3 guests" : "was read again: 2 guests",
			       windows[i + 1] ? i + 1 : 1);
		/* The third time nothing changed. */
		CHECK(windows[i] == windows[i + 1] ? recv(f.peer.f.chan.fd, &c, 1, MSG_DONTWAIT) < 0 :
						     recv(f.peer.f.chan.fd, &c, 1, 0) == 0);
		peer_close(&f.peer);
		close(fd);
	}
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", f.socket);
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) && errno == ECONNREFUSED);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", f.uds);
	CHECK(connect(fd, (struct sockaddr *)&sa, sizeof(sa)) && errno == ECONNREFUSED);
	/* They are not the daemon's to remove. */
	CHECK(!unlink(f.socket) && !unlink(f.uds));
	fix_end(&f);
}

const struct test fleet_tests[] = {
	{ "fleet: each guest has its own connections", each_its_own },
	{ "fleet: threads are bounded", threads_are_bounded },
	{ "fleet: guests that take their memory away", truncated_memory },
	{ "fleet: a front-end whose doorbell blocks", blocking_doorbell },
	{ "fleet: a file read again", read_again },
	{ "fleet: a listener handed in", handed_listener },
	{ "fleet: a connection handed in", handed_connection },
	{ "fleet: sockets handed in and a file read again", handed_and_read_again },
	{ 0 },
};
