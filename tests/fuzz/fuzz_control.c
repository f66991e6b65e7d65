// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_control.c - libFuzzer target for the line that a client of the control socket says
 *
 * The daemon behind it is played here. Properties: a line is answered, in whole lines of which the last is the verdict;
 * what the daemon is asked to do is what the line says, number by number; nothing else happens.
 */
#include "fuzz.h"

#include "daemon/control.c" /* the parser is its own affair */

static u32 told[4], ntold;

const struct vsd_access vsd_access_owner;

int vsd_path_listen(const char *component, const char *option, const char *path, int type,
		    const struct vsd_access *access)
{
	(void)component, (void)option, (void)path, (void)type, (void)access;
	return -ENOSYS;
}

void vsd_print_guest(const struct vsd_guest *g, FILE *out)
{
	(void)g, (void)out;
}

void vsd_print_conns(const struct vsd_guest *g, FILE *out)
{
	(void)g, (void)out;
}

void vsd_fleet_print(struct vsd_fleet *f, void (*print)(const struct vsd_guest *g, FILE *out), FILE *out)
{
	(void)f;
	MUST(print == vsd_print_guest || print == vsd_print_conns);
	fputs("kind key=value\n", out);
}

bool vsd_fleet_reset(struct vsd_fleet *f, const struct vsd_reset *what)
{
	(void)f;
	told[0] = what->guest_cid;
	told[1] = what->host_cid;
	told[2] = what->host_port;
	told[3] = what->guest_port;
	ntold = 4;
	return what->guest_cid & 1;
}

int vsd_fleet_capture(struct vsd_fleet *f, u32 guest_cid, u32 payload, int fd)
{
	(void)f;
	MUST(fd == 1);
	told[0] = guest_cid;
	told[1] = payload;
	ntold = 2;
	return guest_cid & 1 ? 0 : -ENOENT;
}

static bool read_again(void *arg, struct vsd_blame *b)
{
	(void)arg;
	snprintf(b->text, sizeof(b->text), "why not");
	return false;
}

static bool add_guest(void *arg, const char *spec, struct vsd_blame *b)
{
	(void)arg;
	snprintf(b->text, sizeof(b->text), "why not");
	return spec[0] & 1;
}

static bool remove_guest(void *arg, u32 guest_cid)
{
	(void)arg;
	told[0] = guest_cid;
	ntold = 1;
	return guest_cid & 1;
}

bool vsd_fleet_drain(struct vsd_fleet *f, u32 guest_cid, bool drain)
{
	(void)f, (void)drain;
	return remove_guest(NULL, guest_cid);
}

/* What was asked for, spelled again, is what was said but for zeros in front. */
static void check_told(const char *line)
{
	char *at = strchr(line, ' ');

	for (u32 i = 0; i < ntold; i++) {
		MUST(at && *at == ' ' && strtoul(at + 1, &at, 10) == told[i]);
	}
	MUST(!ntold || !*at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const words[] = { "reset ", "capture ", "guests", "connections", "reload",
					     "add ",   "remove ",  "drain ", "resume ",	    "" };
	const struct vsd_control_ops ops = { .reload = read_again, .add = add_guest, .remove = remove_guest };
	char line[VSD_CONTROL_LINE_MAX] = "", *answer = NULL;
	size_t len = 0, n;
	bool kept = false;
	FILE *out;

	if (!size)
		return 0;
	n = (size_t)snprintf(line, sizeof(line), "%s", words[data[0] % ARRAY_SIZE(words)]);
	for (size_t i = 1; i < size && n < sizeof(line) - 1 && data[i] && data[i] != '\n'; i++)
		line[n++] = (char)data[i];
	line[n] = '\0';
	ntold = 0;
	out = open_memstream(&answer, &len);
	MUST(out);
	if (!strncmp(line, "capture ", 8))
		kept = capture(NULL, line + 8, 1, out);
	else
		obey(line, NULL, &ops, out);
	MUST(!fclose(out));
	check_told(line);
	/* A capture has no answer but itself. */
	MUST(kept ? !len : len && answer[len - 1] == '\n');
	free(answer);
	return 0;
}
