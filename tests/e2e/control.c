// SPDX-License-Identifier: BSD-2-Clause
/* The control socket: what it tells is so, what it is asked happens, and nobody can keep it busy. */
#include "fixture.h"
#include "tests.h"

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
	asked("reload\n", "error the log says");
	asked("words\n", "error say guests");
	fix_fleet_end(f, 2);
	CHECK(access(path, F_OK));
}

/* Clients that say nothing, too much, or do not read. */
static void patience(void)
{
	static struct fix f[2];
	static char long_line[4096];
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

const struct test control_tests[] = {
	{ "control: what goes on", tells },
	{ "control: clients that dawdle", patience },
	{ 0 },
};
