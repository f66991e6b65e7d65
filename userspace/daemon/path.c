// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/path.h"

#include "daemon/log.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

const struct vsd_access vsd_access_umask = { .mode = 0777, .uid = UINT32_MAX, .gid = UINT32_MAX };
const struct vsd_access vsd_access_owner = { .mode = 0600, .uid = UINT32_MAX, .gid = UINT32_MAX };

struct vsd_name vsd_name_of(const char *path)
{
	struct vsd_name n = { .sa = { .sun_family = AF_UNIX } };

	strncpy(n.sa.sun_path, path, sizeof(n.sa.sun_path) - 1);
	n.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(n.sa.sun_path));
	if (vsd_path_abstract(path))
		n.sa.sun_path[0] = '\0';
	else
		n.len++;
	return n;
}

void vsd_path_remove(const char *path)
{
	if (!vsd_path_abstract(path))
		unlink(path);
}

/* Is it a socket in the file system at which nobody listens? */
static bool is_stale(const struct sockaddr_un *sa, socklen_t len, int type)
{
	struct stat st;
	bool stale;
	int fd;

	if (!sa->sun_path[0] || lstat(sa->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	stale = connect(fd, (const struct sockaddr *)sa, len) && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

int vsd_path_bind(int fd, const struct sockaddr_un *sa, socklen_t len, int type)
{
	if (!bind(fd, (const struct sockaddr *)sa, len))
		return 0;
	if (errno != EADDRINUSE)
		return -errno;
	if (!is_stale(sa, len, type))
		return -EADDRINUSE;
	unlink(sa->sun_path);
	return bind(fd, (const struct sockaddr *)sa, len) ? -errno : 0;
}

/* Nobody can connect yet: it does not listen. */
static int give_away(const char *path, const struct vsd_access *access)
{
	if (vsd_path_abstract(path))
		return 0;
	if ((access->uid != UINT32_MAX || access->gid != UINT32_MAX) && lchown(path, access->uid, access->gid))
		return -errno;
	return access->exact && chmod(path, access->mode) ? -errno : 0;
}

int vsd_path_listen(const char *component, const char *option, const char *path, int type,
		    const struct vsd_access *access)
{
	struct vsd_name n = vsd_name_of(path);
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* The mode is of what bind() will create. */
	int err = fd < 0 || fchmod(fd, access->mode) ? -errno : vsd_path_bind(fd, &n.sa, n.len, type);

	if (err == -EADDRINUSE) {
		vsd_log(VSD_ERROR, component, "--%s %s: somebody is using it; stop that program or choose another path",
			option, path);
		close(fd);
		return err;
	}
	if (err)
		goto fail;
	err = give_away(path, access);
	if (err) {
		vsd_log(VSD_ERROR, component, "--%s %s: cannot set its owner or mode: %s", option, path,
			strerror(-err));
		close(fd);
		vsd_path_remove(path);
		return err;
	}
	if (type == SOCK_DGRAM || !listen(fd, SOMAXCONN))
		return fd;
	err = -errno;
fail:
	vsd_log(VSD_ERROR, component, "--%s %s: %s; the directory must exist and be writable", option, path,
		strerror(-err));
	if (fd >= 0)
		close(fd);
	return err;
}
