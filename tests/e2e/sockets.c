// SPDX-License-Identifier: BSD-2-Clause
/* Where programs of the host meet a guest, who may, and what they learn of it. */
#include "fixture.h"
#include "tests.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PORT = 1000,
	GUEST_PORT = 50,
	PATIENCE_S = 15,
};

static struct fix f;

/* A daemon whose guest has nothing but these settings, and the guest. */
static void begin(const char *keys)
{
	char vm[700];
	const char *args[] = { "--vm", vm, NULL };

	snprintf(vm, sizeof(vm), "guest-cid=7,socket=%s,%s", f.socket, keys);
	fix_start(&f, fix_program(), args);
	fix_await(&f);
	fix_guest(&f, 64, 3776);
}

/* A Unix address; with @ in front, abstract. */
static struct sockaddr_un address(const char *path, socklen_t *len)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + (path[0] != '@'));
	if (path[0] == '@')
		sa.sun_path[0] = '\0';
	return sa;
}

static int dial(const char *path)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	socklen_t len;
	struct sockaddr_un sa = address(path, &len);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!connect(fd, (struct sockaddr *)&sa, len))
		return fd;
	close(fd);
	return -1;
}

static int listen_at(const char *path)
{
	socklen_t len;
	struct sockaddr_un sa = address(path, &len);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && !bind(fd, (struct sockaddr *)&sa, len) && !listen(fd, 8));
	return fd;
}

/* A byte each way between the guest and @fd. */
static void passes(int fd, u32 host_port, u32 guest_port)
{
	struct vsp_hdr hdr = fix_hdr(host_port, guest_port, VSP_OP_RW);
	char c = 0;

	hdr.len = 1;
	f.buf[0] = 'x';
	fix_send(&f, hdr);
	CHECK(read(fd, &c, 1) == 1 && c == 'x');
	fix_write(fd, "y", 1);
	CHECK(fix_expect(&f, VSP_OP_RW).len == 1 && f.buf[0] == 'y');
}

/* A client asks for port 9, and the guest agrees; the client's port. */
static u32 connects(int fd)
{
	struct vsp_hdr hdr;

	fix_write(fd, "CONNECT 9\n", 10);
	hdr = fix_expect(&f, VSP_OP_REQUEST);
	fix_send(&f, fix_hdr(hdr.src.port, 9, VSP_OP_RESPONSE));
	CHECK(fix_ok(fd) == hdr.src.port);
	return hdr.src.port;
}

/* Ports with sockets of their own, anywhere; nothing else is bound, and nothing else can be reached. */
static void ports_with_paths(void)
{
	char keys[500], to[100], from[100];
	struct vsp_hdr hdr;
	int fd, l;

	fix_prepare(&f);
	snprintf(to, sizeof(to), "%s/to", f.dir);
	snprintf(from, sizeof(from), "%s/from", f.dir);
	snprintf(keys, sizeof(keys), "map-to-guest=22:%s+23:%s2,map-from-guest=%d:%s,deny-to-guest=23", to, to, PORT,
		 from);
	l = listen_at(from);
	begin(keys);
	CHECK(access(f.uds, F_OK));
	fd = dial(to);
	CHECK(fd >= 0);
	fix_write(fd, "y", 1);
	hdr = fix_expect(&f, VSP_OP_REQUEST);
	CHECK(hdr.dst.port == 22 && hdr.src.cid == VSP_CID_HOST);
	fix_send(&f, fix_hdr(hdr.src.port, 22, VSP_OP_RESPONSE));
	CHECK(fix_expect(&f, VSP_OP_RW).len == 1 && f.buf[0] == 'y');
	passes(fd, hdr.src.port, 22);
	/* One that is not for others. */
	snprintf(to, sizeof(to), "%s/to2", f.dir);
	fd = dial(to);
	CHECK(fd >= 0 && read(fd, keys, 1) == 0);
	/* From the guest: by the map, or not at all. */
	fix_send(&f, fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST));
	fd = accept(l, NULL, NULL);
	fix_expect(&f, VSP_OP_RESPONSE);
	passes(fd, PORT, GUEST_PORT);
	fix_send(&f, fix_hdr(PORT + 1, GUEST_PORT, VSP_OP_REQUEST));
	fix_expect(&f, VSP_OP_RST);
	fix_end(&f);
	CHECK(access(to, F_OK));
}

/* Nothing is bound for programs of the host: their listeners are reached, and the directory need not be writable. */
static void connect_only(void)
{
	char keys[200];

	fix_prepare(&f);
	snprintf(keys, sizeof(keys), "uds-path=%s,connect-only=on", f.uds);
	begin(keys);
	snprintf(keys, sizeof(keys), "%s_seqpacket", f.uds);
	CHECK(access(f.uds, F_OK) && access(keys, F_OK));
	snprintf(keys, sizeof(keys), "%s_dgram", f.uds);
	CHECK(access(keys, F_OK) && !(f.peer.f.features & VU_BIT(VSP_F_DGRAM)));
	passes(fix_open(&f, fix_listener(&f, PORT), PORT, GUEST_PORT), PORT, GUEST_PORT);
	fix_end(&f);
}

/* Names outside of the file system, both ways. */
static void abstract_names(void)
{
	char keys[300], path[120], name[120];
	struct sockaddr_un peer = { 0 };
	socklen_t len = sizeof(peer);
	int fd, l;

	fix_prepare(&f);
	snprintf(path, sizeof(path), "@%s", f.uds);
	snprintf(keys, sizeof(keys), "uds-path=%s,peer-names=on", path);
	begin(keys);
	CHECK(access(f.uds, F_OK));
	fd = dial(path);
	CHECK(fd >= 0);
	passes(fd, connects(fd), 9);
	snprintf(path, sizeof(path), "@%s_%d", f.uds, PORT);
	l = listen_at(path);
	fix_send(&f, fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST));
	fd = accept(l, (struct sockaddr *)&peer, &len);
	fix_expect(&f, VSP_OP_RESPONSE);
	passes(fd, PORT, GUEST_PORT);
	snprintf(name, sizeof(name), "%s@%d.%d", f.uds, CID, GUEST_PORT);
	CHECK(!peer.sun_path[0] && len == offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name) &&
	      !memcmp(peer.sun_path + 1, name, strlen(name)));
	/* A second daemon does not take the name over. */
	snprintf(keys, sizeof(keys), "socket=%s2,uds-path=@%s", f.socket, f.uds);
	CHECK(fix_run((const char *const[]){ "--vm", keys, NULL }, name, sizeof(name)) == 1);
	fix_end(&f);
}

/* A service learns which guest, and which port of it, it talks to; no file is left behind. */
static void peer_names(void)
{
	struct sockaddr_un peer = { 0 };
	socklen_t len = sizeof(peer);
	char keys[200], name[120];
	int fd, l;

	fix_prepare(&f);
	snprintf(keys, sizeof(keys), "uds-path=%s,peer-names=yes", f.uds);
	begin(keys);
	l = fix_listener(&f, PORT);
	for (u32 i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s@%d.%d", f.uds, CID, GUEST_PORT + i);
		/* A name that somebody has taken: the connection does without. */
		if (i)
			CHECK(listen_at(name) >= 0);
		fix_send(&f, fix_hdr(PORT, GUEST_PORT + i, VSP_OP_REQUEST));
		len = sizeof(peer);
		fd = accept(l, (struct sockaddr *)&peer, &len);
		fix_expect(&f, VSP_OP_RESPONSE);
		passes(fd, PORT, GUEST_PORT + i);
		CHECK(i ? len == sizeof(sa_family_t) : !strcmp(peer.sun_path, name));
		CHECK(!access(name, F_OK) == (i == 1));
	}
	fix_end(&f);
}

static void check_mode(const char *path, const char *suffix, mode_t mode)
{
	char whole[120];
	struct stat st;

	snprintf(whole, sizeof(whole), "%s%s", path, suffix);
	CHECK(!stat(whole, &st) && S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == mode);
	CHECK(st.st_uid == getuid() && st.st_gid == getgid());
}

static void modes_and_owners(void)
{
	char keys[300];

	fix_prepare(&f);
	umask(022);
	snprintf(keys, sizeof(keys), "uds-path=%s,socket-mode=0600,socket-owner=%u,uds-mode=666,uds-owner=%u:%u", f.uds,
		 getuid(), getuid(), getgid());
	begin(keys);
	check_mode(f.socket, "", 0600);
	check_mode(f.uds, "", 0666);
	check_mode(f.uds, "_seqpacket", 0666);
	check_mode(f.uds, "_dgram", 0666);
	fix_end(&f);
	/* As they come: everybody whom the umask lets. */
	fix_daemon(&f, NULL);
	check_mode(f.socket, "", 0755);
	check_mode(f.uds, "", 0755);
	fix_end(&f);
}

/* Programs of some users only: ours are among them, or not. */
static void users(void)
{
	char keys[300], c;

	for (u32 other = 0; other < 2; other++) {
		int l, fd;

		fix_prepare(&f);
		snprintf(keys, sizeof(keys), "uds-path=%s,uds-users=4000000000+%u", f.uds, getuid() + other);
		begin(keys);
		CHECK(!(f.peer.f.features & VU_BIT(VSP_F_DGRAM)));
		l = fix_listener(&f, PORT);
		fd = fix_client(&f);
		if (other) {
			CHECK(recv(fd, &c, 1, 0) <= 0);
			fix_send(&f, fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST));
			fix_expect(&f, VSP_OP_RST);
			fix_reject(&f, "denied", 2);
		} else {
			connects(fd);
			passes(fix_open(&f, l, PORT, GUEST_PORT), PORT, GUEST_PORT);
		}
		fix_end(&f);
		umask(022);
	}
}

/* Which ports may be connected to, one direction at a time: both sides of each edge. */
static void lists_of_ports(void)
{
	static const struct {
		u32 port;
		bool to, from;
	} ports[] = { { 0, false, true },
		      { 22, true, true },
		      { 23, false, true },
		      { 999, false, true },
		      { 1000, true, false },
		      { 1499, true, false },
		      { 1500, false, true },
		      { 1501, true, true },
		      { 1999, true, true },
		      { 2000, false, true },
		      { UINT32_MAX - 1, true, false } };
	char keys[300];
	struct vsp_hdr hdr;
	u32 denied = 0;
	int fd;

	fix_prepare(&f);
	snprintf(keys, sizeof(keys),
		 "uds-path=%s,allow-to-guest=22+1000-1999+4294967294,deny-to-guest=1500,"
		 "deny-from-guest=1000-1499+4294967294",
		 f.uds);
	begin(keys);
	for (u32 i = 0; i < ARRAY_SIZE(ports); i++) {
		fd = fix_dial(&f, ports[i].port);
		if (ports[i].to) {
			hdr = fix_expect(&f, VSP_OP_REQUEST);
			CHECK(hdr.dst.port == ports[i].port);
			fix_send(&f, fix_hdr(hdr.src.port, ports[i].port, VSP_OP_RST));
		}
		CHECK(fix_ok(fd) == 0);
		close(fd);
		fd = fix_listener(&f, ports[i].port);
		if (ports[i].from) {
			close(fix_open(&f, fd, ports[i].port, GUEST_PORT + i));
			fix_expect(&f, VSP_OP_SHUTDOWN);
			fix_send(&f, fix_hdr(ports[i].port, GUEST_PORT + i, VSP_OP_RST));
		} else {
			fix_send(&f, fix_hdr(ports[i].port, GUEST_PORT + i, VSP_OP_REQUEST));
			fix_expect(&f, VSP_OP_RST);
		}
		close(fd);
		denied += !ports[i].to + !ports[i].from;
	}
	fix_reject(&f, "denied", denied);
	fix_end(&f);
}

/* A listener for host clients that somebody else bound. */
static void handed_listener(void)
{
	char keys[200], path[100];
	int fd;

	fix_prepare(&f);
	snprintf(path, sizeof(path), "%s/handed", f.dir);
	fd = listen_at(path);
	CHECK(!fcntl(fd, F_SETFD, 0));
	snprintf(keys, sizeof(keys), "uds-fd=%d", fd);
	begin(keys);
	close(fd);
	CHECK(access(f.uds, F_OK));
	fd = dial(path);
	CHECK(fd >= 0);
	passes(fd, connects(fd), 9);
	/* Without a path the guest reaches nobody. */
	fix_send(&f, fix_hdr(PORT, GUEST_PORT, VSP_OP_REQUEST));
	fix_expect(&f, VSP_OP_RST);
	/* It is not the daemon's to remove. */
	CHECK(!access(path, F_OK));
	fix_end(&f);
}

const struct test sockets_tests[] = {
	{ "sockets: ports with paths of their own", ports_with_paths },
	{ "sockets: nothing to connect to", connect_only },
	{ "sockets: abstract names", abstract_names },
	{ "sockets: connections have the guest's name", peer_names },
	{ "sockets: modes and owners", modes_and_owners },
	{ "sockets: programs of some users", users },
	{ "sockets: lists of ports", lists_of_ports },
	{ "sockets: a listener for clients handed in", handed_listener },
	{ 0 },
};
