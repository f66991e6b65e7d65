// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/config.h"

#include "kernel/proto/credit.h"
#include "kernel/proto/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a value looks like. */
enum kind { NUMBER, RING_SIZE, PATH, NAMES, LEVEL, FORMAT, SOCKET, PORTS, SWITCH, SANDBOX, MAP, USERS, MODE, OWNER };

struct key {
	const char *name;
	enum kind kind;
	size_t at; /* in the structure */
	u32 min;
	u32 max; /* of a path: bytes that are added to it */
};

#define GUEST(member) offsetof(struct vsd_guest_opts, member)
static const struct key guest_keys[] = {
	{ "guest-cid", NUMBER, GUEST(guest_cid), VSP_CID_HOST + 1, VSP_CID_ANY - 1 },
	{ "socket", PATH, GUEST(socket), 0, 0 },
	{ "socket-path", PATH, GUEST(socket), 0, 0 }, /* what vhost-user's conventions call it */
	{ "fd", SOCKET, GUEST(fd), 3, INT32_MAX },
	{ "socket-mode", MODE, GUEST(socket_access), 0, 0777 },
	{ "socket-owner", OWNER, GUEST(socket_access), 0, 0 },
	{ "uds-path", PATH, GUEST(uds_path), 0, VSD_PORT_SUFFIX_MAX },
	{ "uds-fd", SOCKET, GUEST(uds_fd), 3, INT32_MAX },
	{ "uds-mode", MODE, GUEST(uds_access), 0, 0777 },
	{ "uds-owner", OWNER, GUEST(uds_access), 0, 0 },
	{ "uds-users", USERS, GUEST(uds_users), 0, 0 },
	{ "connect-only", SWITCH, GUEST(connect_only), 0, 0 },
	{ "peer-names", SWITCH, GUEST(peer_names), 0, 0 },
	{ "map-to-guest", MAP, GUEST(map_to_guest), 0, 0 },
	{ "map-from-guest", MAP, GUEST(map_from_guest), 0, 0 },
	{ "forward-cid", NUMBER, GUEST(forward_cid), 0, VSP_CID_ANY - 1 },
	{ "forward-listen", PORTS, GUEST(forward_listen), 0, 0 },
	{ "groups", NAMES, GUEST(groups), 0, 0 },
	{ "allow-to-guest", PORTS, GUEST(to_guest.allow), 0, 0 },
	{ "deny-to-guest", PORTS, GUEST(to_guest.deny), 0, 0 },
	{ "allow-from-guest", PORTS, GUEST(from_guest.allow), 0, 0 },
	{ "deny-from-guest", PORTS, GUEST(from_guest.deny), 0, 0 },
	{ "datagrams", SWITCH, GUEST(datagrams), 0, 0 },
	{ "tx-buffer-size", NUMBER, GUEST(window), 1, VSP_WINDOW_MAX },
	{ "queue-size", RING_SIZE, GUEST(queue_size), 1, VSP_RING_SIZE_MAX },
	{ "max-connections", NUMBER, GUEST(conns_max), 1, VSD_CONNS_MAX },
	{ "max-memory", NUMBER, GUEST(memory_kib), 0, UINT32_MAX },
	{ "max-rate", NUMBER, GUEST(rate_kib), 0, VSD_LIMIT_KIB_MAX },
	{ "handshake-timeout", NUMBER, GUEST(handshake_ms), 1, VSD_TIMEOUT_MAX_MS },
	{ "connect-timeout", NUMBER, GUEST(connect_ms), 1, VSD_TIMEOUT_MAX_MS },
	{ "close-timeout", NUMBER, GUEST(close_ms), 1, VSD_TIMEOUT_MAX_MS },
	{ "linger-timeout", NUMBER, GUEST(linger_ms), 1, VSD_TIMEOUT_MAX_MS },
};

#define ALL(member) offsetof(struct vsd_config, member)
/* All but paths are of four bytes. */
static const struct key all_keys[] = {
	{ "log-level", LEVEL, ALL(level), 0, 0 },
	{ "log-format", FORMAT, ALL(format), 0, 0 },
	{ "poll-us", NUMBER, ALL(poll_us), 0, VSD_POLL_MAX_US },
	{ "threads", NUMBER, ALL(threads), 1, VSD_THREADS_MAX },
	{ "control", PATH, ALL(control), 0, 0 },
	{ "sandbox", SANDBOX, ALL(sandbox), 0, 0 },
};

bool vsd_complain(struct vsd_blame *b, const char *key, const char *value, const char *format, ...)
{
	const char *between = !key || !value ? "" : b->vm ? "=" : b->file ? ": " : " ";
	char where[160] = "";
	size_t len;
	va_list ap;

	if (b->file && b->line)
		snprintf(where, sizeof(where), "%s:%u: ", b->file, b->line);
	else if (b->file)
		snprintf(where, sizeof(where), "%s: ", b->file);
	else if (b->vm)
		snprintf(where, sizeof(where), "--vm: ");
	else if (key)
		snprintf(where, sizeof(where), "--");
	snprintf(b->text, sizeof(b->text), "%s%s%s%s%s", where, key ? key : "", between, value ? value : "",
		 key || value ? ": " : "");
	len = strlen(b->text);
	va_start(ap, format);
	vsnprintf(b->text + len, sizeof(b->text) - len, format, ap);
	va_end(ap);
	return false;
}

bool vsd_same_key(const char *a, const char *b)
{
	while (*a && (*a == *b || (*a == '_' && *b == '-') || (*a == '-' && *b == '_'))) {
		a++;
		b++;
	}
	return *a == *b;
}

const char *vsd_guest_key(u32 i)
{
	return i < ARRAY_SIZE(guest_keys) ? guest_keys[i].name : NULL;
}

bool vsd_set_number(u32 *to, const char *key, const char *value, u32 min, u32 max, struct vsd_blame *b)
{
	char *end;
	u64 n;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (errno || end == value || *end || value[0] < '0' || value[0] > '9' || n < min || n > max)
		return vsd_complain(b, key, value, "give a number from %u to %u", min, max);
	*to = (u32)n;
	return true;
}

static bool set_number(u32 *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	u32 n = 0;

	if (!vsd_set_number(&n, k->name, value, k->min, k->max, b))
		return false;
	if (k->kind == RING_SIZE && !vsp_ring_size_valid(n))
		return vsd_complain(b, k->name, value, "give a power of two");
	*to = n;
	return true;
}

static bool no_memory(const struct key *k, struct vsd_blame *b)
{
	return vsd_complain(b, k->name, NULL, "out of memory");
}

static bool set_path(char **to, const struct key *k, const char *value, struct vsd_blame *b)
{
	char *copy;

	if (!*value || !strcmp(value, "@"))
		return vsd_complain(b, k->name, NULL, "give a path");
	if (strlen(value) + k->max >= VSD_PATH_MAX)
		return vsd_complain(b, k->name, value, "too long for a Unix socket; use at most %u bytes",
				    VSD_PATH_MAX - 1 - k->max);
	copy = strdup(value);
	if (!copy)
		return no_memory(k, b);
	free(*to);
	*to = copy;
	return true;
}

bool vsd_set_path(char **to, const char *key, const char *value, struct vsd_blame *b)
{
	return set_path(to, &(struct key){ .name = key, .kind = PATH }, value, b);
}

static void free_names(struct vsd_names *l)
{
	for (u32 i = 0; i < l->n; i++)
		free(l->name[i]);
	free(l->name);
	*l = (struct vsd_names){ .name = NULL };
}

static bool set_names(struct vsd_names *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	struct vsd_names l = { .name = calloc(VSD_LIST_MAX, sizeof(char *)) };
	const char *at = value;

	while (l.name) {
		size_t len = strcspn(at, "+");

		if (!len || l.n == VSD_LIST_MAX) {
			free_names(&l);
			return vsd_complain(b, k->name, value, "give up to %d names, NAME+NAME", VSD_LIST_MAX);
		}
		l.name[l.n] = strndup(at, len);
		if (!l.name[l.n++])
			break;
		at += len;
		if (!*at++) {
			free_names(to);
			*to = l;
			return true;
		}
	}
	free_names(&l);
	return no_memory(k, b);
}

bool vsd_names_meet(const struct vsd_names *a, const struct vsd_names *b)
{
	for (u32 i = 0; i < a->n; i++) {
		for (u32 j = 0; j < b->n; j++) {
			if (!strcmp(a->name[i], b->name[j]))
				return true;
		}
	}
	return false;
}

/* A port at *@at, which moves behind it. */
static bool read_port(const char **at, u32 *port)
{
	char *end;
	u64 n;

	if (**at < '0' || **at > '9')
		return false;
	n = strtoull(*at, &end, 10);
	*at = end;
	*port = (u32)n;
	return n < VSP_PORT_ANY;
}

/* Is this the next byte? Then it is behind us. */
static bool skip(const char **at, char byte)
{
	if (**at != byte)
		return false;
	++*at;
	return true;
}

static bool set_ports(struct vsd_ports *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	struct vsd_ports l = { .n = 0 };
	const char *at = value;

	do {
		u32 first, last;

		if (l.n == VSD_LIST_MAX || !read_port(&at, &first))
			goto bad;
		last = first;
		if (skip(&at, '-') && (!read_port(&at, &last) || last < first))
			goto bad;
		l.range[l.n].first = first;
		l.range[l.n++].last = last;
	} while (skip(&at, '+'));
	if (*at)
		goto bad;
	*to = l;
	return true;
bad:
	return vsd_complain(b, k->name, value, "give up to %d ports or ranges of them, PORT+FIRST-LAST", VSD_LIST_MAX);
}

static bool has_port(const struct vsd_ports *l, u32 port)
{
	for (u32 i = 0; i < l->n; i++) {
		if (port >= l->range[i].first && port <= l->range[i].last)
			return true;
	}
	return false;
}

bool vsd_policy_allows(const struct vsd_policy *p, u32 port)
{
	return (!p->allow.n || has_port(&p->allow, port)) && !has_port(&p->deny, port);
}

static void free_map(struct vsd_map *m)
{
	for (u32 i = 0; i < m->n; i++)
		free(m->entry[i].path);
	m->n = 0;
}

const char *vsd_map_find(const struct vsd_map *m, u32 port)
{
	for (u32 i = 0; i < m->n; i++) {
		if (m->entry[i].port == port)
			return m->entry[i].path;
	}
	return NULL;
}

/* "PORT:PATH+PORT:PATH", each port once. */
static bool set_map(struct vsd_map *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	struct vsd_map m = { .n = 0 };
	const char *at = value;

	do {
		size_t len;
		u32 port;

		if (m.n == VSD_LIST_MAX || !read_port(&at, &port) || !skip(&at, ':') || vsd_map_find(&m, port))
			goto bad;
		len = strcspn(at, "+");
		if (!len || len >= VSD_PATH_MAX || (len == 1 && *at == '@'))
			goto bad;
		m.entry[m.n].port = port;
		m.entry[m.n].path = strndup(at, len);
		if (!m.entry[m.n++].path) {
			free_map(&m);
			return no_memory(k, b);
		}
		at += len;
	} while (skip(&at, '+'));
	free_map(to);
	*to = m;
	return true;
bad:
	free_map(&m);
	return vsd_complain(b, k->name, value, "give up to %d ports, each once, with their paths: PORT:PATH+PORT:PATH",
			    VSD_LIST_MAX);
}

/* A number, or a name that @find knows. */
static bool read_id(const char *text, bool (*find)(const char *name, u32 *id), u32 *id)
{
	char *end;
	u64 n;

	if (*text < '0' || *text > '9')
		return find(text, id);
	n = strtoull(text, &end, 10);
	*id = (u32)n;
	return !*end && n < UINT32_MAX;
}

static bool find_user(const char *name, u32 *id)
{
	const struct passwd *p = getpwnam(name);

	if (p)
		*id = p->pw_uid;
	return p;
}

static bool find_group(const char *name, u32 *id)
{
	const struct group *p = getgrnam(name);

	if (p)
		*id = p->gr_gid;
	return p;
}

static bool set_users(struct vsd_users *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	struct vsd_names names = { .n = 0 };
	struct vsd_users l = { .n = 0 };
	bool good = set_names(&names, k, value, b);

	while (good && l.n < names.n) {
		good = read_id(names.name[l.n], find_user, &l.uid[l.n]);
		if (!good)
			vsd_complain(b, k->name, value, "there is no user %s", names.name[l.n]);
		l.n += good;
	}
	free_names(&names);
	if (good)
		*to = l;
	return good;
}

bool vsd_users_have(const struct vsd_users *l, u32 uid)
{
	for (u32 i = 0; i < l->n; i++) {
		if (l->uid[i] == uid)
			return true;
	}
	return !l->n;
}

static bool set_mode(struct vsd_access *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	unsigned long mode;
	char *end;

	mode = strtoul(value, &end, 8);
	if (end == value || *end || value[0] < '0' || value[0] > '7' || mode > k->max)
		return vsd_complain(b, k->name, value, "give an octal number up to %03o", k->max);
	to->mode = (u32)mode;
	to->exact = true;
	return true;
}

/* "USER", "USER:GROUP" or ":GROUP". */
static bool set_owner(struct vsd_access *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	size_t len = strcspn(value, ":");
	char *user = strndup(value, len);
	const char *group = value[len] ? value + len + 1 : NULL;
	bool good = *value;

	if (!user)
		return no_memory(k, b);
	if (len)
		good = good && read_id(user, find_user, &to->uid);
	if (group)
		good = good && *group && read_id(group, find_group, &to->gid);
	free(user);
	return good || vsd_complain(b, k->name, value, "give a user, USER:GROUP or :GROUP that exist");
}

static bool set_socket(int *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	int type;
	socklen_t len = sizeof(type);
	u32 fd = 0;

	if (!set_number(&fd, k, value, b))
		return false;
	/* Our own descriptors are closed on exec; one that was handed in has not been. */
	if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_STREAM ||
	    (fcntl((int)fd, F_GETFD) & FD_CLOEXEC))
		return vsd_complain(b, k->name, value, "not a stream socket; it must be open when this program starts");
	*to = (int)fd;
	return true;
}

static bool set_switch(bool *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	*to = !strcmp(value, "on") || !strcmp(value, "yes") || !strcmp(value, "true");
	if (*to || !strcmp(value, "off") || !strcmp(value, "no") || !strcmp(value, "false"))
		return true;
	return vsd_complain(b, k->name, value, "give on or off");
}

/* A switch that can do more. */
static bool set_sandbox(enum vsd_sandbox *to, const struct key *k, const char *value, struct vsd_blame *b)
{
	bool on = false;

	if (!strcmp(value, "strict")) {
		*to = VSD_SANDBOX_STRICT;
		return true;
	}
	if (!set_switch(&on, k, value, b))
		return vsd_complain(b, k->name, value, "give on, off or strict");
	*to = on ? VSD_SANDBOX_ON : VSD_SANDBOX_OFF;
	return true;
}

static bool set(void *structure, const struct key *k, const char *value, struct vsd_blame *b)
{
	void *to = (u8 *)structure + k->at;

	switch (k->kind) {
	case NUMBER:
	case RING_SIZE:
		return set_number(to, k, value, b);
	case PATH:
		return set_path(to, k, value, b);
	case NAMES:
		return set_names(to, k, value, b);
	case SOCKET:
		return set_socket(to, k, value, b);
	case PORTS:
		return set_ports(to, k, value, b);
	case SWITCH:
		return set_switch(to, k, value, b);
	case SANDBOX:
		return set_sandbox(to, k, value, b);
	case MAP:
		return set_map(to, k, value, b);
	case USERS:
		return set_users(to, k, value, b);
	case MODE:
		return set_mode(to, k, value, b);
	case OWNER:
		return set_owner(to, k, value, b);
	case LEVEL:
		*(enum vsd_level *)to = vsd_level_by_name(value);
		return *(enum vsd_level *)to < NUM_VSD_LEVELS ||
		       vsd_complain(b, k->name, value, "give error, warn, info, debug or trace");
	case FORMAT:
		break;
	}
	*(enum vsd_log_format *)to = vsd_log_format_by_name(value);
	return *(enum vsd_log_format *)to < NUM_VSD_LOG_FORMATS || vsd_complain(b, k->name, value, "give text or json");
}

/* The key's place in the table, or @n after a complaint. */
static size_t find(const struct key *keys, size_t n, const char *key, struct vsd_blame *b)
{
	size_t i = 0;

	while (i < n && !vsd_same_key(keys[i].name, key))
		i++;
	if (i == n)
		vsd_complain(b, key, NULL, "no such key; see vsockd(1)");
	return i;
}

bool vsd_guest_set(struct vsd_guest_opts *o, const char *key, const char *value, struct vsd_blame *b)
{
	size_t i = find(guest_keys, ARRAY_SIZE(guest_keys), key, b);

	if (i == ARRAY_SIZE(guest_keys))
		return false;
	if (o->given & 1ull << i)
		return vsd_complain(b, key, NULL, "given twice for one guest");
	o->given |= 1ull << i;
	return set(o, &guest_keys[i], value, b);
}

bool vsd_config_set(struct vsd_config *c, const char *key, const char *value, struct vsd_blame *b)
{
	size_t i = find(all_keys, ARRAY_SIZE(all_keys), key, b);
	struct vsd_config ignored;
	bool good;

	if (i == ARRAY_SIZE(all_keys))
		return false;
	if (b->file && (c->in_file & 1ull << i))
		return vsd_complain(b, key, NULL, "given twice");
	if (b->file)
		c->in_file |= 1ull << i;
	if (b->file && (c->given & 1ull << i)) {
		vsd_config_init(&ignored);
		good = set(&ignored, &all_keys[i], value, b);
		vsd_config_free(&ignored);
		return good;
	}
	if (!b->file)
		c->given |= 1ull << i;
	return set(c, &all_keys[i], value, b);
}

bool vsd_guest_set_all(struct vsd_guest_opts *o, const char *spec, struct vsd_blame *b)
{
	char *copy = strdup(spec), *rest = copy, *pair;
	bool good = copy != NULL;

	if (!good)
		vsd_complain(b, NULL, NULL, "out of memory");
	while (good && (pair = strsep(&rest, ",")) != NULL) {
		char *value = strchr(pair, '=');

		if (value)
			*value++ = '\0';
		good = value ? vsd_guest_set(o, pair, value, b) :
			       vsd_complain(b, NULL, pair, "give KEY=VALUE,KEY=VALUE");
	}
	free(copy);
	return good;
}

void vsd_config_init(struct vsd_config *c)
{
	*c = (struct vsd_config){ .level = VSD_INFO };
}

struct vsd_config vsd_config_again(const struct vsd_config *old)
{
	struct vsd_config c;

	vsd_config_init(&c);
	c.given = old->given;
	c.file = old->file;
	c.confined = old->confined;
	for (size_t i = 0; i < ARRAY_SIZE(all_keys); i++) {
		if ((c.given & 1ull << i) && all_keys[i].kind != PATH)
			memcpy((u8 *)&c + all_keys[i].at, (const u8 *)old + all_keys[i].at, sizeof(u32));
	}
	return c;
}

static void free_guest(struct vsd_guest_opts *o)
{
	free(o->socket);
	free(o->uds_path);
	free_names(&o->groups);
	free_map(&o->map_to_guest);
	free_map(&o->map_from_guest);
	free(o);
}

void vsd_config_free(struct vsd_config *c)
{
	for (u32 i = 0; i < c->n; i++)
		free_guest(c->guests[i]);
	free(c->guests);
	free(c->control);
	c->control = NULL;
	c->guests = NULL;
	c->n = 0;
}

void vsd_config_drop(struct vsd_config *c)
{
	free_guest(c->guests[--c->n]);
}

static bool same_fd(const struct vsd_guest_opts *o, int fd)
{
	return fd >= 0 && (o->fd == fd || o->uds_fd == fd);
}

static void close_handed(int fd, const struct vsd_config *kept)
{
	bool keep = fd < 0;

	for (u32 i = 0; kept && i < kept->n; i++)
		keep |= same_fd(kept->guests[i], fd);
	if (!keep)
		close(fd);
}

void vsd_config_close(const struct vsd_config *old, const struct vsd_config *fresh)
{
	for (u32 i = 0; i < old->n; i++) {
		close_handed(old->guests[i]->fd, fresh);
		close_handed(old->guests[i]->uds_fd, fresh);
	}
}

void vsd_config_remove(struct vsd_config *c, u32 guest_cid)
{
	u32 i = 0;

	while (i < c->n && c->guests[i]->guest_cid != guest_cid)
		i++;
	if (i == c->n)
		return;
	close_handed(c->guests[i]->fd, NULL);
	close_handed(c->guests[i]->uds_fd, NULL);
	free_guest(c->guests[i]);
	/* Who was there first stays so. */
	memmove(&c->guests[i], &c->guests[i + 1], (c->n - i - 1) * sizeof(struct vsd_guest_opts *));
	c->n--;
}

static const struct key default_group = { "groups", NAMES, GUEST(groups), 0, 0 };

struct vsd_guest_opts *vsd_config_add(struct vsd_config *c, struct vsd_blame *b)
{
	struct vsd_guest_opts **more = NULL, *o = calloc(1, sizeof(*o));

	if (c->n < VSD_GUESTS_MAX)
		more = realloc(c->guests, (c->n + 1) * sizeof(struct vsd_guest_opts *));
	if (more)
		c->guests = more;
	if (!more || !o || !set_names(&o->groups, &default_group, "default", b)) {
		vsd_complain(b, NULL, NULL, "too many guests: %d are served, as far as there is memory",
			     VSD_GUESTS_MAX);
		free(o);
		return NULL;
	}
	o->guest_cid = VSD_GUEST_CID_DEFAULT;
	o->fd = -1;
	o->socket_access = vsd_access_umask;
	o->uds_fd = -1;
	o->uds_access = vsd_access_umask;
	o->forward_cid = VSP_CID_ANY;
	o->datagrams = true;
	o->window = VSD_WINDOW_DEFAULT;
	o->queue_size = VSD_QUEUE_SIZE_DEFAULT;
	o->conns_max = VSD_CONNS_DEFAULT;
	o->handshake_ms = VSD_HANDSHAKE_TIMEOUT_MS;
	o->connect_ms = VSD_CONNECT_TIMEOUT_MS;
	o->close_ms = VSD_CLOSE_TIMEOUT_MS;
	o->linger_ms = VSD_LINGER_TIMEOUT_MS;
	o->line = b->line;
	c->guests[c->n++] = o;
	return o;
}

static bool same_path(const char *a, const char *b)
{
	return a && b && !strcmp(a, b);
}

/* Both NULL, or the same. */
static bool equal_path(const char *a, const char *b)
{
	return a == b || same_path(a, b);
}

static bool same_map(const struct vsd_map *a, const struct vsd_map *b)
{
	for (u32 i = 0; i < a->n; i++) {
		if (i == b->n || a->entry[i].port != b->entry[i].port ||
		    strcmp(a->entry[i].path, b->entry[i].path) != 0)
			return false;
	}
	return a->n == b->n;
}

static bool same_access(const struct vsd_access *a, const struct vsd_access *b)
{
	return a->mode == b->mode && a->exact == b->exact && a->uid == b->uid && a->gid == b->gid;
}

static bool same_ports(const struct vsd_ports *a, const struct vsd_ports *b)
{
	return a->n == b->n && !memcmp(a->range, b->range, a->n * sizeof(a->range[0]));
}

/* Everything that is bound when a guest begins. */
static bool same_sockets(const struct vsd_guest_opts *a, const struct vsd_guest_opts *b)
{
	return a->fd == b->fd && a->uds_fd == b->uds_fd && a->connect_only == b->connect_only &&
	       vsd_guest_has_datagrams(a) == vsd_guest_has_datagrams(b) && equal_path(a->socket, b->socket) &&
	       equal_path(a->uds_path, b->uds_path) && same_access(&a->socket_access, &b->socket_access) &&
	       same_access(&a->uds_access, &b->uds_access) && same_map(&a->map_to_guest, &b->map_to_guest) &&
	       a->forward_cid == b->forward_cid && same_ports(&a->forward_listen, &b->forward_listen);
}

bool vsd_guest_same(const struct vsd_guest_opts *a, const struct vsd_guest_opts *b)
{
	return a->guest_cid == b->guest_cid && a->window == b->window && a->queue_size == b->queue_size &&
	       a->conns_asked == b->conns_asked && same_sockets(a, b);
}

bool vsd_guest_has_datagrams(const struct vsd_guest_opts *o)
{
	return o->datagrams && o->uds_path && !vsd_path_abstract(o->uds_path) && !o->connect_only && !o->uds_users.n;
}

/* How many ports there are; no more than would be too many in any case. */
static u32 count_ports(const struct vsd_ports *l)
{
	u64 n = 0;

	for (u32 i = 0; i < l->n; i++)
		n += (u64)l->range[i].last - l->range[i].first + 1;
	return n < UINT32_MAX ? (u32)n : UINT32_MAX;
}

u32 vsd_guest_listeners(const struct vsd_guest_opts *o)
{
	bool by_path = o->uds_path && !o->connect_only;

	/* PATH or the one that was handed in, and PATH_seqpacket. */
	return (by_path || o->uds_fd >= 0) + by_path + o->map_to_guest.n + count_ports(&o->forward_listen);
}

/* Where programs of the host are: by AF_VSOCK, or by Unix sockets. */
static bool check_host(const struct vsd_guest_opts *o, struct vsd_blame *b)
{
	bool by_path = o->uds_path || o->uds_fd >= 0 || o->map_to_guest.n || o->map_from_guest.n;

	if (o->forward_cid != VSP_CID_ANY && (by_path || o->uds_users.n || o->connect_only || o->peer_names))
		return vsd_complain(b, "forward-cid", NULL,
				    "conflicts with Unix sockets for programs of the host (uds-..., map-...)");
	if (o->forward_cid == VSP_CID_ANY && o->forward_listen.n)
		return vsd_complain(b, "forward-listen", NULL, "needs forward-cid as well");
	if (count_ports(&o->forward_listen) > VSD_LIST_MAX)
		return vsd_complain(b, "forward-listen", NULL, "more than %d ports", VSD_LIST_MAX);
	if (o->forward_cid == VSP_CID_ANY && !by_path)
		return vsd_complain(b, "uds-path", NULL, "PATH is required, for programs of the host (or forward-cid)");
	if (o->connect_only && (o->uds_fd >= 0 || o->map_to_guest.n))
		return vsd_complain(b, "connect-only", NULL, "conflicts with uds-fd and map-to-guest");
	if (o->peer_names && !o->uds_path)
		return vsd_complain(b, "peer-names", NULL, "needs uds-path, from which the names are made");
	/* PATH@CID.PORT */
	if (o->peer_names && strlen(o->uds_path) + VSD_PEER_SUFFIX_MAX >= VSD_PATH_MAX)
		return vsd_complain(b, "peer-names", NULL, "needs an uds-path of at most %d bytes",
				    VSD_PATH_MAX - 1 - VSD_PEER_SUFFIX_MAX);
	return true;
}

/* Is there everything that this guest needs? */
static bool check_alone(const struct vsd_guest_opts *o, struct vsd_blame *b)
{
	if (!o->socket && o->fd < 0)
		return vsd_complain(b, "socket", NULL, "PATH is required, for the virtual machine monitor");
	if (o->socket && o->fd >= 0)
		return vsd_complain(b, "fd", NULL, "socket says where to listen already; give one of them");
	if (o->fd >= 0 && o->fd == o->uds_fd)
		return vsd_complain(b, "uds-fd", NULL, "%d is the monitor's already", o->fd);
	if (same_path(o->socket, o->uds_path))
		return vsd_complain(b, "uds-path", o->uds_path, "choose another path than that of socket");
	if (o->memory_kib && o->memory_kib < VSD_MEMORY_MIN_KIB)
		return vsd_complain(b, "max-memory", NULL, "%u is too little for a connection; give at least %d, or 0",
				    o->memory_kib, VSD_MEMORY_MIN_KIB);
	return check_host(o, b);
}

bool vsd_guest_needs_network(const struct vsd_guest_opts *o)
{
	bool needs = o->forward_cid != VSP_CID_ANY || (o->socket && vsd_path_abstract(o->socket)) ||
		     (o->uds_path && vsd_path_abstract(o->uds_path));

	for (u32 i = 0; i < o->map_to_guest.n; i++)
		needs |= vsd_path_abstract(o->map_to_guest.entry[i].path);
	for (u32 i = 0; i < o->map_from_guest.n; i++)
		needs |= vsd_path_abstract(o->map_from_guest.entry[i].path);
	return needs;
}

static bool is_ours(const struct vsd_access *a)
{
	return (a->uid == UINT32_MAX || a->uid == geteuid()) && (a->gid == UINT32_MAX || a->gid == getegid());
}

/* Is it possible in a strict sandbox? There the kernel calls all users but ours by one number. */
static bool check_strict(const struct vsd_config *c, const struct vsd_guest_opts *o, struct vsd_blame *b)
{
	if (!is_ours(&o->socket_access) || !is_ours(&o->uds_access))
		return vsd_complain(b, "sandbox", "strict", "sockets belong to the user of this program then");
	for (u32 i = 0; i < o->uds_users.n; i++) {
		if (o->uds_users.uid[i] != geteuid())
			return vsd_complain(b, "sandbox", "strict", "uds-users can be the user of this program then");
	}
	if ((c->confined & VSD_CONFINED_NETWORK) && vsd_guest_needs_network(o))
		return vsd_complain(b, "sandbox", "strict",
				    "abstract names and forward-cid are not to be had, for no guest had any at start");
	return true;
}

/* And nothing that an earlier one has? */
static bool check_guest(const struct vsd_config *c, u32 i, struct vsd_blame *b)
{
	const struct vsd_guest_opts *o = c->guests[i];

	b->line = o->line;
	if (!check_alone(o, b))
		return false;
	if ((c->confined || c->sandbox == VSD_SANDBOX_STRICT) && !check_strict(c, o, b))
		return false;
	for (u32 j = 0; j < i; j++) {
		const struct vsd_guest_opts *p = c->guests[j];

		if (p->guest_cid == o->guest_cid)
			return vsd_complain(b, "guest-cid", NULL, "%u is another guest's already; choose another",
					    o->guest_cid);
		if (same_fd(p, o->fd))
			return vsd_complain(b, "fd", NULL, "%d is another guest's already", o->fd);
		if (same_fd(p, o->uds_fd))
			return vsd_complain(b, "uds-fd", NULL, "%d is another guest's already", o->uds_fd);
		if (same_path(p->socket, o->socket) || same_path(p->uds_path, o->socket))
			return vsd_complain(b, "socket", o->socket, "another guest's already; choose another path");
		if (same_path(p->uds_path, o->uds_path) || same_path(p->socket, o->uds_path))
			return vsd_complain(b, "uds-path", o->uds_path, "another guest's already; choose another path");
	}
	return true;
}

/* Would a guest of @uds come to @path when it connects to a port of the host? */
static bool is_host_port(const char *uds, const char *path)
{
	size_t len = uds && path ? strlen(uds) : 0;
	const char *digits;

	if (!len || strncmp(path, uds, len) != 0 || path[len] != '_')
		return false;
	digits = path + len + 1;
	return *digits && digits[strspn(digits, "0123456789")] == '\0' && (*digits != '0' || !digits[1]);
}

/* What is ours is no program of the host: a guest that came there would be a monitor, or have the control socket. */
static bool check_ports(const struct vsd_config *c, u32 i, struct vsd_blame *b)
{
	const struct vsd_guest_opts *o = c->guests[i];

	const struct {
		const char *key;
		const char *path;
	} ours[] = { { "control", c->control }, { "socket", o->socket }, { "uds-path", o->uds_path } };

	b->line = o->line;
	for (u32 j = 0; j < c->n; j++) {
		for (u32 k = 0; k < ARRAY_SIZE(ours); k++) {
			if (!is_host_port(c->guests[j]->uds_path, ours[k].path))
				continue;
			/* The control socket is no guest's. */
			b->line = k ? b->line : 0;
			b->vm &= k > 0;
			return vsd_complain(b, ours[k].key, ours[k].path,
					    "guest %u would reach it as a port of the host; choose another path",
					    c->guests[j]->guest_cid);
		}
	}
	return true;
}

bool vsd_config_check(const struct vsd_config *c, struct vsd_blame *b)
{
	if (!c->n)
		return vsd_complain(b, NULL, NULL, "no guest to serve; vms needs an entry for each");
	for (u32 i = 0; i < c->n; i++) {
		if (!c->guests[i]->conns_asked)
			c->guests[i]->conns_asked = c->guests[i]->conns_max;
		if (!check_guest(c, i, b))
			return false;
	}
	for (u32 i = 0; i < c->n; i++) {
		if (!check_ports(c, i, b))
			return false;
	}
	return true;
}
