// SPDX-License-Identifier: BSD-2-Clause
/*
 * yaml.c - the configuration file: a mapping of scalars, and under "vms" a list of such mappings
 *
 * Events of libyaml are taken one after the other; nothing of the document is kept but what config.c makes of it.
 */
#include "daemon/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

enum {
	VALUE_MAX = 1024, /* bytes of a key or a value */
};

/* The document on its way through. */
struct reader {
	yaml_parser_t parser;
	yaml_event_t event;
	struct vsd_config *c;
	struct vsd_blame *b;
};

static bool bad(struct reader *r, const char *what)
{
	return vsd_complain(r->b, NULL, NULL, "%s", what);
}

/* The next event, in place of the last. */
static bool next(struct reader *r)
{
	yaml_event_delete(&r->event);
	if (!yaml_parser_parse(&r->parser, &r->event)) {
		size_t line = r->parser.problem_mark.line + 1;

		r->b->line = (u32)line;
		return bad(r, r->parser.problem ? r->parser.problem : "this is not YAML");
	}
	r->b->line = (u32)r->event.start_mark.line + 1;
	return true;
}

/* Past @n events. */
static bool skip(struct reader *r, u32 n)
{
	while (n && next(r))
		n--;
	return !n;
}

/* The current event's text. False: it is no scalar, or not one that means anything here. */
static bool text(struct reader *r, char copy[VALUE_MAX])
{
	const char *value = (const char *)r->event.data.scalar.value;
	size_t len = r->event.data.scalar.length;

	if (r->event.type != YAML_SCALAR_EVENT)
		return bad(r, "give a single value, KEY: VALUE");
	if (len >= VALUE_MAX || strlen(value) != len)
		return bad(r, "a value must be a text of less than 1024 bytes");
	memcpy(copy, value, len + 1);
	return true;
}

/* A pair of a mapping, the current event being its key. */
static bool pair(struct reader *r, char key[VALUE_MAX], char value[VALUE_MAX])
{
	return text(r, key) && next(r) && text(r, value);
}

static bool read_guest(struct reader *r)
{
	char key[VALUE_MAX], value[VALUE_MAX];
	struct vsd_guest_opts *o;

	if (r->event.type != YAML_MAPPING_START_EVENT)
		return bad(r, "each of vms is a mapping of its own: - guest_cid: 3");
	o = vsd_config_add(r->c, r->b);
	if (!o)
		return false;
	while (next(r)) {
		if (r->event.type == YAML_MAPPING_END_EVENT)
			return true;
		if (!pair(r, key, value) || !vsd_guest_set(o, key, value, r->b))
			return false;
	}
	return false;
}

static bool read_guests(struct reader *r)
{
	if (!next(r))
		return false;
	if (r->event.type != YAML_SEQUENCE_START_EVENT)
		return bad(r, "vms is a list: - guest_cid: 3");
	while (next(r)) {
		if (r->event.type == YAML_SEQUENCE_END_EVENT)
			return true;
		if (!read_guest(r))
			return false;
	}
	return false;
}

static bool read_top(struct reader *r)
{
	char key[VALUE_MAX], value[VALUE_MAX];
	bool guests = false;

	if (r->event.type != YAML_MAPPING_START_EVENT)
		return bad(r, "the file is a mapping with the key vms");
	while (next(r)) {
		bool good;

		if (r->event.type == YAML_MAPPING_END_EVENT)
			return true;
		if (!text(r, key))
			return false;
		if (!vsd_same_key("vms", key))
			good = next(r) && text(r, value) && vsd_config_set(r->c, key, value, r->b);
		else if (guests)
			return vsd_complain(r->b, key, NULL, "given twice");
		else
			good = guests = read_guests(r);
		if (!good)
			return false;
	}
	return false;
}

static bool read_document(struct reader *r)
{
	if (!skip(r, 2))
		return false;
	if (r->event.type != YAML_DOCUMENT_START_EVENT)
		return bad(r, "the file is empty; it needs the key vms");
	return next(r) && read_top(r) && skip(r, 2) &&
	       (r->event.type == YAML_STREAM_END_EVENT || bad(r, "one document is enough"));
}

bool vsd_config_parse(struct vsd_config *c, const void *bytes, size_t len, struct vsd_blame *b)
{
	struct reader r = { .c = c, .b = b };
	bool good;

	if (!yaml_parser_initialize(&r.parser))
		return bad(&r, "out of memory");
	yaml_parser_set_input_string(&r.parser, bytes, len);
	good = read_document(&r);
	yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	b->line = good ? 0 : b->line;
	return good;
}

/* The whole file in memory, @len bytes, for free(). NULL: errno. */
static void *slurp(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	u8 *bytes = malloc(VSD_FILE_MAX + 1);
	ssize_t n = -1;

	*len = 0;
	while (fd >= 0 && bytes && *len <= VSD_FILE_MAX && (n = read(fd, bytes + *len, VSD_FILE_MAX + 1 - *len)) > 0)
		*len += (size_t)n;
	if (n > 0)
		errno = EFBIG;
	if (fd >= 0)
		close(fd);
	if (n == 0)
		return bytes;
	free(bytes);
	return NULL;
}

bool vsd_config_read(struct vsd_config *c, struct vsd_blame *b)
{
	size_t len;
	void *bytes = slurp(b->file, &len);
	bool good;

	if (!bytes)
		return vsd_complain(b, NULL, NULL, "%s", strerror(errno));
	good = vsd_config_parse(c, bytes, len, b);
	free(bytes);
	return good;
}
