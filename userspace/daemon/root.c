// SPDX-License-Identifier: BSD-2-Clause
/*
 * root.c - see root.h. A user namespace makes the rest possible without privileges.
 *
 * Directories are taken before anything is mounted, because the new root is put together at a place that may hide them.
 * They keep their paths, so that nobody else has to know of any of this.
 */
#include "daemon/root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>

static const char workshop[] = "/tmp"; /* where the new root is put together */

/* Files that libraries and the loop look for. */
static const char *const needed_files[] = { "/dev/null", "/etc/group", "/etc/passwd" };

enum {
	ROOM_FLAGS = MS_NOSUID | MS_NODEV | MS_NOEXEC,
};

/**
 * struct room - a directory that stays in sight
 * @path: absolute
 * @fd: a mount of it that is nowhere yet
 * @read_only: it cannot be written to
 */
struct room {
	char *path;
	int fd;
	bool read_only;
};

/**
 * struct rooms - all of them
 * @room, @n: they; @max: there is memory for so many
 * @cwd: what relative paths start from
 * @failed: at what something failed
 */
struct rooms {
	struct room *room;
	u32 n;
	u32 max;
	char cwd[PATH_MAX];
	const char *failed;
};

static int grow(struct rooms *r)
{
	u32 max = r->max ? 2 * r->max : 16;
	struct room *room = realloc(r->room, max * sizeof(*room));

	if (!room)
		return -ENOMEM;
	r->room = room;
	r->max = max;
	return 0;
}

/* Of the file @path; that may be NULL, or an abstract name. */
static int add_directory_of(struct rooms *r, const char *path, bool read_only)
{
	char *dir, *end;

	if (!path || vsd_path_abstract(path))
		return 0;
	if (r->n == r->max && grow(r))
		return -ENOMEM;
	if (asprintf(&dir, "%s%s%s", path[0] == '/' ? "" : r->cwd, path[0] == '/' ? "" : "/", path) < 0)
		return -ENOMEM;
	end = strrchr(dir, '/');
	*end = '\0';
	r->room[r->n++] = (struct room){ .path = dir, .fd = -1, .read_only = read_only };
	r->failed = path;
	/* It would be everything. */
	return end == dir ? -EXDEV : 0;
}

static int add_map(struct rooms *r, const struct vsd_map *m)
{
	int err = 0;

	for (u32 i = 0; i < m->n && !err; i++)
		err = add_directory_of(r, m->entry[i].path, false);
	return err;
}

/* A directory comes before those that are in it, and read-only before what lies over it. */
static int compare(const void *a, const void *b)
{
	const struct room *left = a, *right = b;
	int order = strcmp(left->path, right->path);

	return order ? order : right->read_only - left->read_only;
}

/* Each directory once. */
static void sort(struct rooms *r)
{
	u32 kept = 0;

	if (r->n)
		qsort(r->room, r->n, sizeof(*r->room), compare);
	for (u32 i = 0; i < r->n; i++) {
		if (kept && !compare(&r->room[kept - 1], &r->room[i]))
			free(r->room[i].path);
		else
			r->room[kept++] = r->room[i];
	}
	r->n = kept;
}

static int list(struct rooms *r, const struct vsd_config *c)
{
	int err = getcwd(r->cwd, sizeof(r->cwd)) ? 0 : -errno;

	if (!err)
		err = add_directory_of(r, c->file, true);
	if (!err)
		err = add_directory_of(r, c->control, false);
	for (u32 i = 0; i < c->n && !err; i++) {
		const struct vsd_guest_opts *o = c->guests[i];

		err = add_directory_of(r, o->socket, false);
		if (!err)
			err = add_directory_of(r, o->uds_path, false);
		if (!err)
			err = add_map(r, &o->map_to_guest);
		if (!err)
			err = add_map(r, &o->map_from_guest);
	}
	sort(r);
	return err;
}

static int open_all(struct rooms *r)
{
	for (u32 i = 0; i < r->n; i++) {
		r->failed = r->room[i].path;
		r->room[i].fd = open_tree(AT_FDCWD, r->failed, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
		if (r->room[i].fd < 0)
			return -errno;
	}
	return 0;
}

static void forget(struct rooms *r)
{
	for (u32 i = 0; i < r->n; i++) {
		if (r->room[i].fd >= 0)
			close(r->room[i].fd);
		free(r->room[i].path);
	}
	free(r->room);
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;
	int err;

	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	err = n < 0 ? -errno : 0;
	close(fd);
	return err;
}

/* The one user and the one group are who they were. */
static int map_ids(uid_t uid, gid_t gid)
{
	char line[64];
	int err = write_file("/proc/self/setgroups", "deny");

	snprintf(line, sizeof(line), "%u %u 1\n", uid, uid);
	if (!err)
		err = write_file("/proc/self/uid_map", line);
	snprintf(line, sizeof(line), "%u %u 1\n", gid, gid);
	return err ? err : write_file("/proc/self/gid_map", line);
}

static int move_out(struct rooms *r, bool network)
{
	const uid_t uid = geteuid();
	const gid_t gid = getegid();

	r->failed = "namespaces";
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | (network ? 0 : CLONE_NEWNET)))
		return -errno;
	return map_ids(uid, gid);
}

/* The directories that lead to @path, relative to here, and itself. */
static int make_path(const char *path)
{
	char *copy = strdup(path);
	int err = copy ? 0 : -ENOMEM;

	for (char *at = copy; at && !err; at = *at ? at + 1 : NULL) {
		char end;

		at += strcspn(at, "/");
		end = *at;
		*at = '\0';
		err = mkdir(copy, 0755) && errno != EEXIST ? -errno : 0;
		*at = end;
	}
	free(copy);
	return err;
}

static int forbid_writing(const char *path)
{
	return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | ROOM_FLAGS, NULL) ? -errno : 0;
}

static int mount_room(struct rooms *r, const struct room *room)
{
	const char *here = room->path + 1;
	int err = make_path(here);

	r->failed = room->path;
	if (!err && move_mount(room->fd, "", AT_FDCWD, here, MOVE_MOUNT_F_EMPTY_PATH))
		err = -errno;
	return err || !room->read_only ? err : forbid_writing(here);
}

static int mount_file(struct rooms *r, const char *path)
{
	int fd = open(path + 1, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	struct stat st;

	r->failed = path;
	if (fd < 0)
		return -errno;
	close(fd);
	/* A machine may be without it. */
	if (stat(path, &st))
		return 0;
	if (mount(path, path + 1, NULL, MS_BIND, NULL))
		return -errno;
	return S_ISREG(st.st_mode) ? forbid_writing(path + 1) : 0;
}

/* The working directory becomes a new root, with everything in it. */
static int furnish(struct rooms *r)
{
	int err;

	r->failed = workshop;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("sandbox", workshop, "tmpfs", ROOM_FLAGS, "mode=0755") || chdir(workshop))
		return -errno;
	err = make_path("dev");
	if (!err)
		err = make_path("etc");
	for (u32 i = 0; i < ARRAY_SIZE(needed_files) && !err; i++)
		err = mount_file(r, needed_files[i]);
	for (u32 i = 0; i < r->n && !err; i++)
		err = mount_room(r, &r->room[i]);
	return err;
}

/* What is not under the working directory is gone. */
static int leave(struct rooms *r)
{
	r->failed = "/";
	if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH))
		return -errno;
	/* If nothing relative was named, the working directory may be gone as well. */
	if (chdir(r->cwd) && chdir("/"))
		return -errno;
	return forbid_writing("/");
}

/* A directory that somebody handed in leads out: openat(fd, "../.."). Before anything is mounted over /proc. */
static int close_directories(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	struct stat st;

	if (!d)
		return -errno;
	while ((e = readdir(d)) != NULL) {
		int fd = atoi(e->d_name);

		if (e->d_name[0] != '.' && fd != dirfd(d) && !fstat(fd, &st) && S_ISDIR(st.st_mode))
			close(fd);
	}
	closedir(d);
	return 0;
}

static int drop_capabilities(struct rooms *r)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	r->failed = "capabilities";
	return syscall(SYS_capset, &header, none) ? -errno : 0;
}

static bool needs_network(const struct vsd_config *c)
{
	bool needs = c->control && vsd_path_abstract(c->control);

	for (u32 i = 0; i < c->n; i++)
		needs |= vsd_guest_needs_network(c->guests[i]);
	return needs;
}

int vsd_root_enter(struct vsd_config *c)
{
	struct rooms r = { .failed = "the working directory" };
	bool network = needs_network(c);
	int err = list(&r, c);

	if (!err)
		err = close_directories();
	if (!err)
		err = move_out(&r, network);
	if (!err)
		err = open_all(&r);
	if (!err)
		err = furnish(&r);
	if (!err)
		err = leave(&r);
	if (!err)
		err = drop_capabilities(&r);
	if (!err)
		c->confined = VSD_CONFINED_FILES | (network ? 0 : VSD_CONFINED_NETWORK);
	else if (err == -EXDEV)
		vsd_log(VSD_ERROR, program_invocation_short_name,
			"--sandbox strict: %s: give it a directory of its own", r.failed);
	else
		vsd_log(VSD_ERROR, program_invocation_short_name,
			"--sandbox strict: %s: %s; it needs user namespaces, and directories that exist", r.failed,
			strerror(-err));
	forget(&r);
	return err;
}
