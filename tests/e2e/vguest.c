// SPDX-License-Identifier: BSD-2-Clause
/*
 * vguest, a guest without a virtual machine: in front of vsockd, with programs at both ends, and in front of a device
 * that breaks rules.
 */
#include "device.h"
#include "pair.h"
#include "tests.h"

#include "kernel/proto/dgram.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PORT = 1000,
	NOBODY = 1999,
	BYTES = 3 << 20,
	CROWD = 200,
	SMALL_BUFFER = 3732, /* payload of a receive buffer of a Linux guest */
	MANY_EVENTS = 300,   /* more than there are buffers for */
	RESEND_MS = 50,	     /* a datagram may be lost before both ends know that there are any */
};

/* The device, and the guest: each with its directory, and programs of its own at fix.uds. */
static struct fix host, guest;
static u8 stuff[VSP_DGRAM_MAX + 64], got[VSP_DGRAM_MAX + 64];

/* In the place of vguest, or NULL. */
static const char *program;

static void start_guest(const char *socket, const char *option, const char *value)
{
	pair_start_guest(&guest, program ? program : pair_vguest(), socket, option, value);
}

static void start_host(void)
{
	pair_start_host(&host, NULL, NULL);
}

/* A connection from @from to @port of the other, who listens there; its other end in *@other. */
static int join(struct fix *from, int listener, u32 port, int *other)
{
	const struct timeval patience = { .tv_sec = 30 };
	int fd = fix_dial(from, port);

	CHECK(fix_ok(fd));
	*other = accept(listener, NULL, NULL);
	CHECK(*other >= 0);
	setsockopt(*other, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* The two of them, and the guest has reached its device. */
static void begin(const char *option, const char *value)
{
	int listener, other, fd;

	for (u32 i = 0; i < sizeof(stuff); i++)
		stuff[i] = fix_byte(i, 1);
	fix_prepare(&host);
	fix_prepare(&guest);
	start_host();
	start_guest(host.socket, option, value);
	listener = fix_listener(&host, PORT - 1);
	fd = join(&guest, listener, PORT - 1, &other);
	close(fd);
	close(other);
	close(listener);
}

static void end(void)
{
	fix_end(&guest);
	fix_end(&host);
}

/* @bytes from @from to @to, and their end, while @to's owner says nothing. */
static void pour(int from, int to, u32 bytes, u32 seed)
{
	static u8 buf[50000];
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (!pid) {
		for (u32 at = 0; at < bytes;) {
			u32 n = bytes - at < sizeof(buf) ? bytes - at : (u32)sizeof(buf);

			for (u32 i = 0; i < n; i++)
				buf[i] = fix_byte(at + i, seed);
			fix_write(from, buf, n);
			at += n;
		}
		_exit(shutdown(from, SHUT_WR) != 0);
	}
	for (u32 at = 0; at < bytes;) {
		ssize_t n = read(to, buf, sizeof(buf));

		CHECK(n > 0);
		for (ssize_t i = 0; i < n; i++, at++)
			CHECK(buf[i] == fix_byte(at, seed));
	}
	CHECK(read(to, buf, 1) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Much both ways, each way closed by itself. */
static void carry(struct fix *from, struct fix *to)
{
	int listener = fix_listener(to, PORT), other;
	int fd = join(from, listener, PORT, &other);

	pour(fd, other, BYTES, 2);
	pour(other, fd, BYTES, 3);
	close(fd);
	close(other);
	close(listener);
}

static void test_streams(void)
{
	begin(NULL, NULL);
	carry(&guest, &host);
	carry(&host, &guest);
	end();
}

static void test_small_buffers(void)
{
	begin("--receive-buffer", "1000");
	carry(&guest, &host);
	carry(&host, &guest);
	end();
}

/* The command may name the host; of other machines none is there. */
static void test_addresses(void)
{
	static const char to_host[] = "CONNECT 2 1000\n", to_nobody[] = "CONNECT 99 1000\n";
	int listener, fd;

	begin(NULL, NULL);
	listener = fix_listener(&host, PORT);
	fd = fix_client(&guest);
	fix_write(fd, to_host, strlen(to_host));
	CHECK(fix_ok(fd));
	close(fd);
	fd = fix_client(&guest);
	fix_write(fd, to_nobody, strlen(to_nobody));
	CHECK(!fix_ok(fd));
	close(fd);
	close(listener);
	end();
}

static void test_refused(void)
{
	struct fix *const all[] = { &guest, &host };

	begin(NULL, NULL);
	for (u32 i = 0; i < 2; i++) {
		int fd = fix_dial(all[i], NOBODY);

		CHECK(!fix_ok(fd));
		close(fd);
	}
	end();
}

/* A program that goes without reading: the other end learns of it. */
static void reset(struct fix *from, struct fix *to)
{
	int listener = fix_listener(to, PORT), other;
	int fd = join(from, listener, PORT, &other);
	char byte;

	fix_write(other, stuff, 1000);
	CHECK(recv(fd, &byte, 1, MSG_PEEK) == 1);
	close(fd);
	CHECK(read(other, &byte, 1) <= 0);
	close(other);
	close(listener);
}

static void test_resets(void)
{
	begin(NULL, NULL);
	reset(&guest, &host);
	reset(&host, &guest);
	end();
}

static void crowd(struct fix *from, struct fix *to)
{
	int fd[CROWD], other[CROWD], listener = fix_listener(to, PORT);

	for (u32 i = 0; i < CROWD; i++)
		fd[i] = fix_dial(from, PORT);
	for (u32 i = 0; i < CROWD; i++) {
		CHECK(fix_ok(fd[i]));
		fix_write(fd[i], &i, sizeof(i));
		other[i] = accept(listener, NULL, NULL);
		CHECK(other[i] >= 0);
	}
	for (u32 i = 0; i < CROWD; i++) {
		u32 who;

		CHECK(fix_read(other[i], &who, sizeof(who)) == sizeof(who));
		who = ~who;
		fix_write(other[i], &who, sizeof(who));
	}
	for (u32 i = 0; i < CROWD; i++) {
		u32 who;

		CHECK(fix_read(fd[i], &who, sizeof(who)) == sizeof(who) && who == ~i);
		close(fd[i]);
	}
	for (u32 i = 0; i < CROWD; i++)
		close(other[i]);
	close(listener);
}

static void test_crowd(void)
{
	begin(NULL, NULL);
	crowd(&guest, &host);
	crowd(&host, &guest);
	end();
}

static int unix_socket(int type, const struct fix *f, const char *suffix, bool listens)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = 30 };
	const int bytes = 1 << 20;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_%s", f->uds, suffix);
	if (listens)
		CHECK(!bind(fd, (struct sockaddr *)&sa, sizeof(sa)));
	else
		CHECK(!connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	if (listens && type == SOCK_SEQPACKET)
		CHECK(!listen(fd, 16));
	return fd;
}

static void messages(int from, int to)
{
	static const u32 lens[] = { 1, 0, 3000, 60000, VSP_DGRAM_MAX, 1, 0, 7 };

	for (u32 i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		CHECK(send(from, stuff, lens[i], MSG_NOSIGNAL) == (ssize_t)lens[i]);
	for (u32 i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		CHECK(recv(to, got, sizeof(got), 0) == (ssize_t)lens[i]);
		CHECK(!memcmp(got, stuff, lens[i]));
	}
}

static void seqpacket(struct fix *from, struct fix *to)
{
	int listener = unix_socket(SOCK_SEQPACKET, to, "1000", true);
	int fd = unix_socket(SOCK_SEQPACKET, from, "seqpacket", false), other;
	static const char command[] = "CONNECT 1000\n";
	char line[32];

	CHECK(send(fd, command, strlen(command), 0) == (ssize_t)strlen(command));
	CHECK(recv(fd, line, sizeof(line), 0) > 3 && !memcmp(line, "OK ", 3));
	other = accept(listener, NULL, NULL);
	CHECK(other >= 0);
	messages(fd, other);
	messages(other, fd);
	CHECK(!shutdown(fd, SHUT_WR) && recv(other, got, sizeof(got), 0) == 0);
	messages(other, fd);
	close(fd);
	close(other);
	close(listener);
}

static void test_seqpacket(void)
{
	begin("--receive-buffer", "3732");
	seqpacket(&guest, &host);
	seqpacket(&host, &guest);
	end();
}

static bool arrives(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1;
}

/* One side sends to the other's port with SENDTO; the answer goes back to where it came from. */
static void exchange(struct fix *from, struct fix *to, u32 len)
{
	static u8 with[sizeof(stuff) + 64];
	const u32 line = (u32)snprintf((char *)with, sizeof(with), "SENDTO 1000\n");
	int there = unix_socket(SOCK_DGRAM, to, "dgram_1000", true);
	int here = unix_socket(SOCK_DGRAM, from, "dgram_2000", true);
	struct sockaddr_un sa = { .sun_family = AF_UNIX }, who;
	socklen_t who_len = sizeof(who);
	u64 until = fix_now_ms() + PEER_WAIT_MS;

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_dgram", from->uds);
	memcpy(with + line, stuff, len);
	do {
		CHECK(fix_now_ms() < until);
		CHECK(sendto(here, with, line + len, 0, (struct sockaddr *)&sa, sizeof(sa)) == (ssize_t)(line + len));
	} while (!arrives(there, RESEND_MS));
	memset(got, 0, sizeof(got));
	CHECK(recvfrom(there, got, sizeof(got), 0, (struct sockaddr *)&who, &who_len) == (ssize_t)len);
	CHECK(!memcmp(got, stuff, len));
	CHECK(sendto(there, stuff, len, 0, (struct sockaddr *)&who, who_len) == (ssize_t)len);
	memset(got, 0, sizeof(got));
	CHECK(recv(here, got, sizeof(got), 0) == (ssize_t)len && !memcmp(got, stuff, len));
	close(there);
	close(here);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_dgram_1000", to->uds);
	CHECK(!unlink(sa.sun_path));
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s_dgram_2000", from->uds);
	CHECK(!unlink(sa.sun_path));
}

static void test_datagrams(void)
{
	static const u32 lens[] = { 1, 0, 3000, 10000, VSP_DGRAM_MAX };

	/* What is larger than a buffer comes in fragments. */
	begin("--receive-buffer", "3732");
	for (u32 i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		exchange(&guest, &host, lens[i]);
		exchange(&host, &guest, lens[i]);
	}
	end();
}

/* A program of the guest that connects until somebody answers. */
static int dial_again(struct fix *from, int listener, u32 port, int *other)
{
	u64 until = fix_now_ms() + PEER_WAIT_MS;
	int fd;

	while (fd = fix_dial(from, port), !fix_ok(fd)) {
		close(fd);
		CHECK(fix_now_ms() < until);
		poll(NULL, 0, 1); /* poll interval */
	}
	*other = accept(listener, NULL, NULL);
	CHECK(*other >= 0);
	return fd;
}

static void kill_host(void)
{
	CHECK(!kill(host.pid, SIGKILL) && waitpid(host.pid, NULL, 0) == host.pid);
}

static void test_device_restarts(void)
{
	int listener, other, fd;
	char byte;

	begin(NULL, NULL);
	listener = fix_listener(&host, PORT);
	for (u32 i = 0; i < 3; i++) {
		fd = dial_again(&guest, listener, PORT, &other);
		fix_write(fd, "a", 1);
		CHECK(fix_read(other, &byte, 1) == 1 && byte == 'a');
		kill_host();
		CHECK(read(fd, &byte, 1) <= 0);
		close(fd);
		close(other);
		start_host();
	}
	close(listener);
	fix_reject(&guest, "sessions", 3);
	end();
}

/* A line for the control socket at @path, and what is answered. */
static const char *asked(const char *path, const char *line)
{
	static char said[65536];
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	CHECK(fd >= 0 && !connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	fix_write(fd, line, strlen(line));
	said[fix_read(fd, said, sizeof(said) - 1)] = '\0';
	close(fd);
	return said;
}

/* What vstat asks of a daemon is answered, as far as it makes sense, and seen from the guest. */
static void test_control(void)
{
	char path[64];
	int listener, other, fd;

	snprintf(path, sizeof(path), "/tmp/vsd-e2e-control.%d", getpid());
	begin("--control", path);
	CHECK(strstr(asked(path, "guests\n"), "guest cid=7 up=1 connections="));
	CHECK(strstr(asked(path, "guests\n"), "ring=tx size=128 live=1"));
	listener = fix_listener(&host, PORT);
	fd = join(&guest, listener, PORT, &other);
	CHECK(strstr(asked(path, "connections\n"), "guest_port=1000 state=established phase=open"));
	CHECK(strstr(asked(path, "drain 7\n"), "ok"));
	other = fix_dial(&guest, PORT);
	CHECK(!fix_ok(other));
	CHECK(strstr(asked(path, "reload\n"), "error say guests, connections, reset, drain, resume or capture"));
	CHECK(strstr(asked(path, "add socket=s\n"), "error say") && strstr(asked(path, "remove 7\n"), "error say"));
	close(fd);
	kill_host();
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; !strstr(asked(path, "guests\n"), "guest cid=7 up=0");)
		CHECK(fix_now_ms() < until);
	start_host();
	end();
	CHECK(access(path, F_OK));
}

/* A guest that has given up what it does not need makes memory for the next device nevertheless. */
static void in_sandbox(const char *kind)
{
	int listener, other, fd;

	begin("--sandbox", kind);
	CHECK(fix_threads(&guest, "Seccomp:") == 2 * fix_status(&guest, "Threads:"));
	carry(&host, &guest);
	kill_host();
	start_host();
	listener = fix_listener(&host, PORT);
	fd = dial_again(&guest, listener, PORT, &other);
	close(fd);
	close(other);
	close(listener);
	end();
}

static void test_sandbox(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	printf("# sanitizers need more of the kernel: not run\n");
	return;
#endif
	in_sandbox("on");
	if (fix_namespaces())
		in_sandbox("strict");
	else
		printf("# there are no user namespaces for us: no strict sandbox\n");
}

/* The other way round: the guest ends, and the host's programs learn of it. */
static void test_guest_restarts(void)
{
	int listener, other, fd;
	char byte;

	begin(NULL, NULL);
	listener = fix_listener(&host, PORT);
	fd = dial_again(&guest, listener, PORT, &other);
	CHECK(!kill(guest.pid, SIGKILL) && waitpid(guest.pid, NULL, 0) == guest.pid);
	CHECK(read(other, &byte, 1) <= 0);
	close(fd);
	close(other);
	/* What it left is taken over. */
	start_guest(host.socket, NULL, NULL);
	fd = dial_again(&guest, listener, PORT, &other);
	close(fd);
	close(other);
	close(listener);
	end();
}

static int run(const char *const *args)
{
	int status;

	guest.pid = 0;
	fix_prepare(&guest);
	fix_start(&guest, pair_vguest(), args);
	CHECK(waitpid(guest.pid, &status, 0) == guest.pid && WIFEXITED(status));
	fix_forget(&guest);
	return WEXITSTATUS(status);
}

static void test_options(void)
{
	const char *no_device[] = { "--uds-path", "/tmp/nowhere/g", NULL };
	const char *no_path[] = { "--device", "/tmp/nowhere/d", NULL };
	const char *no_buffer[] = { "--device", "/d", "--uds-path", "/g", "--receive-buffer", "0", NULL };
	const char *large_buffer[] = { "--device", "/d", "--uds-path", "/g", "--receive-buffer", "65537", NULL };
	const char *bad_cid[] = { "--device", "/d", "--uds-path", "/g", "--guest-cid", "2", NULL };
	const char *no_number[] = { "--device", "/d", "--uds-path", "/g", "--receive-buffer", "18446744073709551617",
				    NULL };
	const char *empty[] = { "--device", "", "--uds-path", "/g", NULL };
	const char *no_name[] = { "--device", "@", "--uds-path", "/g", NULL };
	const char *again[] = { "--device", "/d", "--device", "/e", "--uds-path", "/g", NULL };
	char path[] = { [0 ... 107] = 'x', 0 };
	const char *long_path[] = { "--device", path, "--uds-path", "/g", NULL };
	const char *no_control[] = { "--device", "/d", "--uds-path", "/g", "--control", "/nowhere/c", NULL };
	const char *no_directory[] = { "--device", "/d", "--uds-path", "/nowhere/g", NULL };

	CHECK(run(no_device) == 2 && run(no_path) == 2 && run(no_buffer) == 2 && run(large_buffer) == 2 &&
	      run(bad_cid) == 2 && run(no_number) == 2 && run(no_directory) == 1);
	CHECK(run(empty) == 2 && run(no_name) == 2 && run(again) == 2 && run(long_path) == 2 && run(no_control) == 1);
}

/* A device at a name that is no file. */
static void test_abstract(void)
{
	fix_prepare(&host);
	fix_prepare(&guest);
	snprintf(host.socket, sizeof(host.socket), "@vsd-e2e-device.%d", getpid());
	{
		const char *args[] = { "--guest-cid", "7", "--socket", host.socket, "--uds-path", host.uds, NULL };
		int listener, other, fd;

		fix_start(&host, fix_program(), args);
		start_guest(host.socket, NULL, NULL);
		listener = fix_listener(&host, PORT);
		fd = dial_again(&guest, listener, PORT, &other);
		close(fd);
		close(other);
	}
	end();
}

/* Nothing can be bound where nothing may be written, and the log goes to a full disk: it ends, or goes on. */
static void test_no_room(void)
{
	const char *forbidden[] = { "--device", "/d", "--uds-path", "/sys/g", NULL };
	char path[64];
	FILE *script;

	CHECK(run(forbidden) == 1);
	snprintf(path, sizeof(path), "/tmp/vsd-e2e-vguest.%d", getpid());
	script = fopen(path, "w");
	CHECK(script && fprintf(script, "#!/bin/sh\nexec %s \"$@\" 2>/dev/full\n", pair_vguest()) > 0);
	CHECK(!fclose(script) && !chmod(path, 0700));
	program = path;
	begin(NULL, NULL);
	unlink(path);
	for (u32 i = 0; i < 10; i++)
		CHECK(!kill(guest.pid, SIGUSR1));
	carry(&guest, &host);
	carry(&host, &guest);
	end();
}

/* ---- a device that breaks rules ---- */

static struct device device;

#define ALL_TYPES (VU_BIT(VSP_F_STREAM) | VU_BIT(VSP_F_SEQPACKET) | VU_BIT(VSP_F_NO_IMPLIED_STREAM))

static struct vsp_hdr from_host(u32 guest_port, enum vsp_type type, enum vsp_op op)
{
	return (struct vsp_hdr){
		.src = { .cid = VSP_CID_HOST, .port = 5000 },
		.dst = { .cid = CID, .port = guest_port },
		.type = (u16)type,
		.op = (u16)op,
		.buf_alloc = 256 << 10,
	};
}

/* The driver asks for datagrams. Before that it may speak of connections that its programs have given up. */
static void expect_probe(void)
{
	struct vsp_hdr hdr;

	do {
		hdr = device_recv(&device, NULL);
	} while (hdr.type != VSP_TYPE_DGRAM);
	CHECK(hdr.op == VSP_OP_CREDIT_REQUEST && hdr.src.cid == CID && hdr.dst.cid == VSP_CID_HOST);
	CHECK(hdr.src.port == VSP_PORT_ANY && hdr.dst.port == VSP_PORT_ANY);
	CHECK(hdr.buf_alloc == VSP_DGRAM_MAX && hdr.fwd_cnt == VSP_DGRAM_REVISION);
}

static void meet(void)
{
	device_accept(&device);
	expect_probe();
}

static void begin_hostile(u64 cid)
{
	fix_prepare(&host);
	fix_prepare(&guest);
	device_listen(&device, host.socket, cid, ALL_TYPES);
	start_guest(host.socket, NULL, NULL);
}

static void end_hostile(void)
{
	device_close(&device);
	fix_end(&guest);
	unlink(host.socket);
	fix_forget(&host);
}

/* A connection from the device to the guest's port, open; its program's end. */
static int open_from_device(int listener)
{
	int fd;

	device_send(&device, from_host(PORT, VSP_TYPE_STREAM, VSP_OP_REQUEST), NULL, 0);
	fd = accept(listener, NULL, NULL);
	CHECK(fd >= 0);
	device_expect(&device, VSP_TYPE_STREAM, VSP_OP_RESPONSE);
	return fd;
}

/* Packets that are no packets, or not for us, are counted; some of them are answered. */
static void test_bad_packets(void)
{
	struct vsp_hdr hdr;
	char byte;
	int fd, listener;

	begin_hostile(CID);
	meet();
	listener = fix_listener(&guest, PORT);
	hdr = from_host(PORT, VSP_TYPE_STREAM, VSP_OP_REQUEST);
	hdr.dst.cid = CID + 1;
	device_send(&device, hdr, NULL, 0);
	fix_reject(&guest, "dst_cid", 1);
	hdr = from_host(PORT, VSP_TYPE_STREAM, VSP_OP_RW);
	hdr.len = VSP_MAX_PAYLOAD + 1;
	device_send(&device, hdr, NULL, 0);
	hdr.len = 10;
	device_send(&device, hdr, stuff, 9);
	hdr = from_host(PORT, VSP_TYPE_STREAM, VSP_OP_RW);
	hdr.op = 77;
	device_send(&device, hdr, NULL, 0);
	fix_reject(&guest, "op", 1);
	device_send(&device, from_host(PORT, VSP_TYPE_STREAM, VSP_OP_CREDIT_UPDATE), NULL, 0);
	fix_reject(&guest, "no_flow", 1);
	device_drop(&device);
	/* More than the window that was promised: its connection ends, and only it. */
	meet();
	fd = open_from_device(listener);
	hdr = from_host(PORT, VSP_TYPE_STREAM, VSP_OP_RW);
	hdr.fwd_cnt = 12345;
	device_send(&device, hdr, NULL, 0);
	device_expect(&device, VSP_TYPE_STREAM, VSP_OP_RST);
	CHECK(read(fd, &byte, 1) <= 0);
	close(fd);
	fix_reject(&guest, "fwd_cnt", 1);
	fd = open_from_device(listener);
	close(fd);
	close(listener);
	end_hostile();
}

static void claim_used(struct vu_ring *r, u32 head, u32 len, u32 times)
{
	const __le32 wire = cpu_to_le32(head);

	for (u32 n = 0; n < times; n++) {
		vu_ring_use(r, (u16)head, len);
		/* All of it, where more than 16 bits matter. */
		memcpy(r->used + vsp_used_slot_offset(vsp_ring_slot((u16)(r->used_idx - 1), r->size)), &wire,
		       sizeof(wire));
	}
	r->calls_forced = true;
	vu_ring_publish(r);
}

/* The guest looks at what it has sent when it needs room: let it send more than @packets. */
static void exhaust(u32 packets)
{
	struct pollfd gone = { .fd = device.dev.chan.fd, .events = POLLIN };
	int *fd = calloc(packets + 1, sizeof(*fd));
	u32 n = 0;

	CHECK(fd);
	for (; n <= packets && !poll(&gone, 1, 0); n++)
		fd[n] = fix_dial(&guest, PORT);
	/* Those that wait for it are refused then. */
	CHECK(device_gone(&device));
	while (n)
		close(fd[--n]);
	free(fd);
}

/* Used entries of the device's own making end the session; the guest comes again. */
static void test_bad_rings(void)
{
	static const struct {
		u32 ring;
		u32 head;
		u32 len;
		u32 times;
	} bad[] = { { VU_RING_RX, 128, 44, 1 },	 { VU_RING_RX, 0xffffffff, 44, 1 }, { VU_RING_RX, 0, 0xffffffff, 1 },
		    { VU_RING_RX, 0, 65581, 1 }, { VU_RING_RX, 7, 44, 200 },	    { VU_RING_TX, 5000, 0, 1 },
		    { VU_RING_TX, 0, 0, 3 },	 { VU_RING_EVENT, 200, 4, 1 },	    { VU_RING_EVENT, 0, 0x10000, 1 } };

	begin_hostile(CID);
	for (u32 i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		meet();
		claim_used(&device.dev.rings[bad[i].ring], bad[i].head, bad[i].len, bad[i].times);
		if (bad[i].ring == VU_RING_TX)
			exhaust(device.dev.rings[VU_RING_TX].size);
		else
			CHECK(device_gone(&device));
		device_drop(&device);
	}
	meet();
	end_hostile();
}

/* Whoever has the guest's memory cannot take it away: the file is sealed. */
static void truncate_memory(void)
{
	char path[64], target[64];
	u32 found = 0;

	for (u32 n = 0; n < 64; n++) {
		ssize_t len;
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/fd/%u", guest.pid, n);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		if (!strstr(target, "memfd:guest"))
			continue;
		fd = open(path, O_RDWR | O_CLOEXEC);
		CHECK(fd >= 0 && ftruncate(fd, 4096) < 0 && errno == EPERM);
		close(fd);
		found++;
	}
	CHECK(found == 1);
}

/* What it may not do to memory, and may not say. */
static void test_bad_manners(void)
{
	begin_hostile(CID);
	meet();
	truncate_memory();
	CHECK(write(device.dev.chan.fd, "hello", 5) == 5);
	CHECK(device_gone(&device));
	device_drop(&device);
	meet();
	end_hostile();
}

/* A device that takes the connection and says nothing, as a stopped one does, cannot keep the guest from ending. */
static void test_silent_device(void)
{
	int session;
	u64 began;

	begin_hostile(CID);
	session = accept(device.listener, NULL, NULL);
	CHECK(session >= 0);
	began = fix_now_ms();
	end_hostile();
	CHECK(fix_now_ms() - began < VU_FRONT_REPLY_MS);
	close(session);
}

/* A device that calls its guest something else is come back to, and that is said when it is new. */
static void test_wrong_cid(void)
{
	enum { TIMES = 4 };

	begin_hostile(CID + 1);
	for (u32 i = 0; i < 2 * TIMES; i++) {
		if (i == TIMES)
			device_call(&device, CID + 2);
		device_accept(&device);
		CHECK(device_gone(&device));
		device_drop(&device);
	}
	/* What it has to say of the last one is said before it comes again. */
	device_call(&device, CID);
	meet();
	CHECK(fix_said(&guest, "calls its guest 8, and not 7; see --guest-cid") == 1);
	CHECK(fix_said(&guest, "calls its guest 9, and not 7; see --guest-cid") == 1);
	CHECK(fix_said(&guest, "warn") == 2);
	end_hostile();
}

/* All connections end, those that are asked for as well, and the guest asks for datagrams once more. */
static void test_transport_reset(void)
{
	int listener, fd, asking;
	char byte;

	begin_hostile(CID);
	meet();
	listener = fix_listener(&guest, PORT);
	fd = open_from_device(listener);
	asking = fix_dial(&guest, PORT);
	device_expect(&device, VSP_TYPE_STREAM, VSP_OP_REQUEST);
	for (u32 i = 0; i < MANY_EVENTS; i++)
		device_event(&device, 77, 4); /* unknown */
	device_event(&device, 0, 3);	      /* too short */
	device_event(&device, 0, 4);
	expect_probe();
	CHECK(read(fd, &byte, 1) <= 0 && !fix_ok(asking));
	fix_reject(&guest, "transport_resets", 1);
	close(fd);
	close(asking);
	fd = open_from_device(listener);
	close(fd);
	close(listener);
	end_hostile();
}

/* Without datagrams at the other end those of programs are dropped; with them, those that came meanwhile are sent. */
static void test_discovery(void)
{
	static const char datagram[] = "SENDTO 5\nhello";
	struct vsp_hdr hdr;
	int fd;

	begin_hostile(CID);
	meet();
	fd = unix_socket(SOCK_DGRAM, &guest, "dgram", false);
	hdr = from_host(VSP_PORT_ANY, VSP_TYPE_STREAM, VSP_OP_RST);
	hdr.src.port = VSP_PORT_ANY;
	device_send(&device, hdr, NULL, 0);
	CHECK(send(fd, datagram, strlen(datagram), 0) == (ssize_t)strlen(datagram));
	fix_reject(&guest, "dgrams_no_guest", 1);
	/* It was wrong: the last answer holds. */
	hdr = from_host(VSP_PORT_ANY, VSP_TYPE_DGRAM, VSP_OP_CREDIT_UPDATE);
	hdr.src.port = VSP_PORT_ANY;
	hdr.buf_alloc = VSP_DGRAM_MAX;
	hdr.fwd_cnt = VSP_DGRAM_REVISION;
	device_send(&device, hdr, NULL, 0);
	/* An answer to this shows that the other was read. */
	device_send(&device, from_host(NOBODY, VSP_TYPE_STREAM, VSP_OP_REQUEST), NULL, 0);
	device_expect(&device, VSP_TYPE_STREAM, VSP_OP_RST);
	CHECK(send(fd, datagram, strlen(datagram), 0) == (ssize_t)strlen(datagram));
	hdr = device_recv(&device, got);
	CHECK(hdr.type == VSP_TYPE_DGRAM && hdr.op == VSP_OP_RW && hdr.dst.port == 5 && hdr.dst.cid == VSP_CID_HOST);
	CHECK(hdr.src.cid == CID && hdr.len == 5 && !memcmp(got, "hello", 5));
	close(fd);
	end_hostile();
}

const struct test vguest_tests[] = {
	{ "vguest: streams both ways", test_streams },
	{ "vguest: small buffers", test_small_buffers },
	{ "vguest: addresses", test_addresses },
	{ "vguest: refused", test_refused },
	{ "vguest: resets", test_resets },
	{ "vguest: a crowd", test_crowd },
	{ "vguest: seqpacket", test_seqpacket },
	{ "vguest: datagrams", test_datagrams },
	{ "vguest: the device restarts", test_device_restarts },
	{ "vguest: a control socket", test_control },
	{ "vguest: sandboxes", test_sandbox },
	{ "vguest: the guest restarts", test_guest_restarts },
	{ "vguest: options", test_options },
	{ "vguest: a device with an abstract name", test_abstract },
	{ "vguest: a full disk, and none to write to", test_no_room },
	{ "vguest: packets that are none", test_bad_packets },
	{ "vguest: rings that are none", test_bad_rings },
	{ "vguest: a device without manners", test_bad_manners },
	{ "vguest: a device that says nothing", test_silent_device },
	{ "vguest: a device with another address", test_wrong_cid },
	{ "vguest: transport reset", test_transport_reset },
	{ "vguest: are there datagrams", test_discovery },
	{ NULL, NULL },
};
