// SPDX-License-Identifier: BSD-2-Clause
/* The control socket: what it tells is so, what it is asked happens, and nobody can keep it busy. */
#include "fixture.h"
#include "tests.h"

#include <linux/vsockmon.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	ANSWER = 1 << 16,
};

static char path[64];
static char said[ANSWER];

static void begin(struct fix *f)
{
	static const char *const keys[] = { "groups=a", "groups=a" };
	const char *args[] = { "--control", path, NULL };

	snprintf(path, sizeof(path), "/tmp/vsd-e2e-control.%d", getpid());
	fix_fleet(f, 2, keys, args);
	for (u32 i = 0; i < 2; i++)
		fix_guest(&f[i], 16, 3776);
}

static int dial(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	CHECK(fd >= 0 && !connect(fd, (struct sockaddr *)&sa, sizeof(sa)));
	return fd;
}

/* Say a line; the answer is in @said. */
static void ask(const char *line)
{
	int fd = dial();

	fix_write(fd, line, strlen(line));
	said[fix_read(fd, said, sizeof(said) - 1)] = '\0';
	close(fd);
}

static void asked(const char *line, const char *part)
{
	ask(line);
	if (strstr(said, part))
		return;
	fprintf(stderr, "# \"%s\" does not say \"%s\"\n", said, part);
	exit(1);
}

static void tells(void)
{
	static struct fix f[2];
	struct vsp_hdr hdr = fix_hdr(1000, 50, VSP_OP_REQUEST);
	struct stat st;
	char c;
	int fd;

	begin(f);
	CHECK(!stat(path, &st) && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600);
	fd = fix_open(&f[0], fix_listener(&f[0], 1000), 1000, 50);
	asked("guests\n", "guest cid=7 up=1 connections=1 ");
	asked("guests\n", "ring cid=8 ring=tx size=16 live=1 broken=0 waiting=0\n");
	asked("connections\n",
	      "connection cid=7 type=stream host_cid=2 host_port=1000 guest_port=50 "
	      "state=established phase=open unread=0 credit=262144 window=262144 unread_packets=0\nok\n");
	/* One that is shown by both. */
	hdr.dst = (struct vsp_addr){ .cid = 8, .port = 9 };
	hdr.src.port = 51;
	fix_send(&f[0], hdr);
	CHECK(fix_expect(&f[1], VSP_OP_REQUEST).src.cid == 7);
	asked("connections\n", "cid=7 type=stream host_cid=8 host_port=9 guest_port=51 ");
	asked("connections\n", "cid=8 type=stream host_cid=7 host_port=51 guest_port=9 ");
	/* What was refused. */
	hdr.dst.cid = 99;
	fix_send(&f[0], hdr);
	fix_expect(&f[0], VSP_OP_RST);
	asked("guests\n", "reject cid=7 reason=dst_cid rejects=1\n");
	/* A connection that somebody ends. */
	asked("reset 7 2 1000 51\n", "error no such connection\n");
	asked("reset 7 2 1000\n", "error give CID");
	asked("reset 7 2 1000 50 1\n", "error give CID");
	/* 4294967346 is 50, if only 32 bits of it are looked at. */
	asked("reset 7 2 1000 4294967346\n", "error give CID");
	asked("reset 7 2 1000 50\n", "ok\n");
	CHECK(fix_expect(&f[0], VSP_OP_RST).src.port == 1000 && recv(fd, &c, 1, 0) <= 0);
	asked("reload\n", "error there is nothing to read again");
	asked("words\n", "error say guests");
	fix_fleet_end(f, 2);
	CHECK(access(path, F_OK));
}

/* Guests come and go while another one has its connection. */
static void add_and_remove(void)
{
	static struct fix f[2];
	char line[400], c;
	int fd, l;

	begin(f);
	l = fix_listener(&f[0], 1000);
	fd = fix_open(&f[0], l, 1000, 50);
	asked("remove 99\n", "error no such guest\n");
	asked("remove\n", "error say guests");
	asked("remove x\n", "error give CID\n");
	asked("remove 8 8\n", "error give CID\n");
	asked("remove 8\n", "ok\n");
	CHECK(recv(f[1].peer.f.chan.fd, &c, 1, 0) == 0 && access(f[1].socket, F_OK) && access(f[1].uds, F_OK));
	peer_close(&f[1].peer);
	asked("guests\n", "guest cid=7 ");
	CHECK(!strstr(said, "cid=8"));
	snprintf(line, sizeof(line), "add guest-cid=7,socket=%s,uds-path=%s\n", f[1].socket, f[1].uds);
	asked(line, "error --vm: guest-cid: 7 is another guest's already");
	snprintf(line, sizeof(line), "add guest-cid=8,socket=%s,uds-path=%s.none/x\n", f[1].socket, f[1].uds);
	asked(line, "error --vm: it cannot begin; the log says why\n");
	asked("add sokket=s\n", "error --vm: sokket: no such key");
	asked("guests\n", "guest cid=7 ");
	CHECK(!strstr(said, "cid=8"));
	/* Two times: the first time something could have been left behind. */
	for (u32 i = 0; i < 2; i++) {
		snprintf(line, sizeof(line), "add guest_cid=8,socket=%s,uds_path=%s\n", f[1].socket, f[1].uds);
		asked(line, "ok\n");
		fix_guest(&f[1], 16, 3776);
		asked("guests\n", "guest cid=8 up=1 ");
		if (i)
			break;
		peer_close(&f[1].peer);
		asked("remove 8\n", "ok\n");
	}
	fix_write(fd, "x", 1);
	CHECK(fix_expect(&f[0], VSP_OP_RW).len == 1);
	fix_fleet_end(f, 2);
}

/* A guest that drains: what is there goes on, nothing new begins, in any direction, until it may again. */
static void drains(void)
{
	static struct fix f[2];
	struct vsp_hdr hdr;
	int fd, l, client;
	char c;

	begin(f);
	l = fix_listener(&f[0], 1000);
	fd = fix_open(&f[0], l, 1000, 50);
	asked("drain 9\n", "error no such guest\n");
	asked("drain 7\n", "ok\n");
	asked("guests\n", " draining=1 ");
	fix_write(fd, "x", 1);
	CHECK(fix_expect(&f[0], VSP_OP_RW).len == 1);
	fix_send(&f[0], fix_hdr(1000, 51, VSP_OP_REQUEST));
	fix_expect(&f[0], VSP_OP_RST);
	client = fix_dial(&f[0], 9);
	CHECK(recv(client, &c, 1, 0) <= 0);
	hdr = (struct vsp_hdr){ .src = { .cid = 8, .port = 5 },
				.dst = { .cid = 7, .port = 6 },
				.type = VSP_TYPE_STREAM,
				.op = VSP_OP_REQUEST };
	fix_send(&f[1], hdr);
	fix_expect(&f[1], VSP_OP_RST);
	asked("guests\n", " denied=3 ");
	asked("resume 7\n", "ok\n");
	fix_open(&f[0], l, 1000, 52);
	fix_fleet_end(f, 2);
}

/* Clients that say nothing, too much, or do not read. */
static void patience(void)
{
	static struct fix f[2];
	static char long_line[8192];
	int fd[4];

	begin(f);
	for (u32 i = 0; i < 4; i++)
		fd[i] = dial();
	memset(long_line, 'x', sizeof(long_line));
	CHECK(send(fd[1], long_line, sizeof(long_line), MSG_NOSIGNAL) > 0);
	CHECK(send(fd[2], "guests", 6, MSG_NOSIGNAL) == 6);
	close(fd[3]);
	asked("guests\n", "guest cid=8 up=1 ");
	/* And the guests did not wait for any of it. */
	fix_open(&f[0], fix_listener(&f[0], 1000), 1000, 50);
	fix_fleet_end(f, 2);
}

/* Read bytes of a capture; a copy goes to the file that PCAP names, for other readers of the format. */
static void take(int fd, void *bytes, u32 n)
{
	const char *name = getenv("PCAP");
	FILE *copy = name ? fopen(name, "ab") : NULL;

	CHECK(fix_read(fd, bytes, n) == n);
	if (copy)
		CHECK(fwrite(bytes, 1, n, copy) == n && !fclose(copy));
}

/* The next packet of a capture: its vsockmon and virtio headers, and its payload. Returns bytes of payload kept. */
static u32 captured(int fd, struct vsp_wire *wire, u32 *whole, u8 *payload)
{
	enum { MONITOR = sizeof(struct af_vsockmon_hdr) };
	static const u16 ops[] = {
		[VSP_OP_REQUEST] = AF_VSOCK_OP_CONNECT,
		[VSP_OP_RESPONSE] = AF_VSOCK_OP_CONNECT,
		[VSP_OP_RST] = AF_VSOCK_OP_DISCONNECT,
		[VSP_OP_SHUTDOWN] = AF_VSOCK_OP_DISCONNECT,
		[VSP_OP_RW] = AF_VSOCK_OP_PAYLOAD,
		[VSP_OP_CREDIT_UPDATE] = AF_VSOCK_OP_CONTROL,
		[VSP_OP_CREDIT_REQUEST] = AF_VSOCK_OP_CONTROL,
	};
	struct af_vsockmon_hdr monitor;
	u32 head[4], kept;

	take(fd, head, sizeof(head));
	CHECK(head[1] < 1000000000 && head[2] >= MONITOR + VSP_HDR_LEN && head[3] >= head[2]);
	take(fd, &monitor, sizeof(monitor));
	take(fd, wire, VSP_HDR_LEN);
	/* The addresses are there twice. */
	CHECK(monitor.src_cid == wire->src_cid && monitor.dst_cid == wire->dst_cid);
	CHECK(monitor.src_port == wire->src_port && monitor.dst_port == wire->dst_port);
	CHECK(le16_to_cpu(monitor.transport) == AF_VSOCK_TRANSPORT_VIRTIO && le16_to_cpu(monitor.len) == VSP_HDR_LEN);
	CHECK(le16_to_cpu(monitor.op) == ops[le16_to_cpu(wire->op)]);
	kept = head[2] - MONITOR - VSP_HDR_LEN;
	*whole = head[3] - MONITOR - VSP_HDR_LEN;
	take(fd, payload, kept);
	return kept;
}

/* Everything that passes is there, in order, once, with as much of its payload as was asked for. */
static void captures(void)
{
	enum { BYTES = 5000, SHOWN = 1000 };
	static const u16 ops[] = { VSP_OP_REQUEST, VSP_OP_RESPONSE, VSP_OP_RW, VSP_OP_RW };
	static u8 payload[VSP_MAX_PAYLOAD];
	static struct fix f[2];
	struct vsp_wire wire;
	struct vsp_hdr hdr;
	u32 file[6], whole;
	int fd, c;

	begin(f);
	c = dial();
	fix_write(c, "capture 7 1000\n", 15);
	take(c, file, sizeof(file));
	CHECK(file[0] == 0xa1b23c4d && file[1] == (2 | 4 << 16) && file[5] == 271);
	asked("capture 7 1000\n", "error somebody captures already\n");
	asked("capture 99 1000\n", "error no such guest\n");
	asked("capture 7\n", "error give CID BYTES\n");
	fd = fix_open(&f[0], fix_listener(&f[0], 1000), 1000, 50);
	hdr = fix_hdr(1000, 50, VSP_OP_RW);
	hdr.len = BYTES;
	for (u32 i = 0; i < BYTES; i++)
		f[0].buf[i] = fix_byte(i, 1);
	CHECK(peer_send(&f[0].peer, hdr, f[0].buf, BYTES, PEER_FRAGS));
	CHECK(fix_read(fd, payload, BYTES) == BYTES);
	fix_write(fd, "back", 4);
	fix_expect(&f[0], VSP_OP_RW);
	for (u32 i = 0; i < ARRAY_SIZE(ops);) {
		u32 kept = captured(c, &wire, &whole, payload);

		/* When credit is told is not for this test to say. */
		if (le16_to_cpu(wire.op) == VSP_OP_CREDIT_UPDATE)
			continue;
		CHECK(le16_to_cpu(wire.op) == ops[i] && whole == le32_to_cpu(wire.len));
		CHECK(kept == (whole < SHOWN ? whole : SHOWN));
		for (u32 k = 0; k < kept && i == 2; k++)
			CHECK(payload[k] == fix_byte(k, 1));
		i++;
	}
	CHECK(!memcmp(payload, "back", 4));
	asked("guests\n", "capturing=1 packets_not_captured=0");
	/* The client leaves: so ends the capture. */
	close(c);
	for (u64 until = fix_now_ms() + PEER_WAIT_MS; strstr(said, "capturing=1");) {
		CHECK(fix_now_ms() < until);
		ask("guests\n");
	}
	fix_fleet_end(f, 2);
}

/* Who looks on and reads nothing delays nobody: what it misses is counted, what it gets is whole. */
static void capture_unread(void)
{
	enum { PACKETS = 200 };
	static u8 payload[VSP_MAX_PAYLOAD];
	static struct fix f[2];
	struct vsp_hdr hdr;
	int fd, c;

	begin(f);
	c = dial();
	fix_write(c, "capture 7 65536\n", 16);
	CHECK(fix_read(c, payload, 24) == 24);
	fd = fix_open(&f[0], fix_listener(&f[0], 1000), 1000, 50);
	for (u32 i = 0; i < PACKETS; i++) {
		hdr = fix_hdr(1000, 50, VSP_OP_RW);
		hdr.len = sizeof(payload);
		CHECK(peer_send(&f[0].peer, hdr, f[0].buf, hdr.len, PEER_ONE));
		CHECK(fix_read(fd, payload, sizeof(payload)) == sizeof(payload));
		while (peer_recv(&f[0].peer, &hdr, NULL, 0))
			;
	}
	ask("guests\n");
	CHECK(strstr(said, "capturing=1 packets_not_captured=") && !strstr(said, "capturing=1 packets_not_captured=0"));
	CHECK(fix_status(&f[0], "RssAnon") < (16 << 10) + 4 * FIX_SANITIZER_KIB);
	for (u32 i = 0, whole; i < PACKETS / 8; i++) {
		struct vsp_wire wire;

		captured(c, &wire, &whole, payload);
		CHECK(whole == le32_to_cpu(wire.len));
	}
	fix_fleet_end(f, 2);
}

const struct test control_tests[] = {
	{ "control: what goes on", tells },
	{ "control: guests come and go", add_and_remove },
	{ "control: a guest that drains", drains },
	{ "control: clients that dawdle", patience },
	{ "control: a capture", captures },
	{ "control: a capture that nobody reads", capture_unread },
	{ 0 },
};
