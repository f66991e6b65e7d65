// SPDX-License-Identifier: BSD-2-Clause
#include "show.h"

#include <string.h>

/* Keys that say of what a figure is, not how much. */
static const char *const labels[] = {
	"cid",	 "ring",  "reason", "type",	 "host_cid",   "host_port",  "guest_port",
	"state", "phase", "id",	    "local_cid", "local_port", "remote_cid", "remote_port"
};
/* Figures that also go down, or are states. */
static const char *const gauges[] = { "up",	      "capturing",     "connections",	 "from_siblings",
				      "replies_owed", "no_buffers",    "size",		 "held",
				      "waiting",      "live",	       "broken",	 "unread",
				      "credit",	      "window",	       "unread_packets", "unsent",
				      "unacked",      "rx_window",     "tx_window",	 "known",
				      "fragments",    "max",	       "sources",	 "receivers_waited_for",
				      "bytes_queued", "bytes_charged", "draining" };

static bool among(const char *word, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(word, list[i]))
			return true;
	}
	return false;
}

static bool is_label(const char *key)
{
	return among(key, labels, sizeof(labels) / sizeof(labels[0]));
}

static bool is_gauge(const char *key)
{
	return among(key, gauges, sizeof(gauges) / sizeof(gauges[0]));
}

bool show_parse(struct show_line *l, char *text)
{
	char *rest = text, *word;

	*l = (struct show_line){ .kind = strsep(&rest, " ") };
	while (rest && (word = strsep(&rest, " ")) != NULL) {
		char *value = strchr(word, '=');

		if (!value || value == word || l->n == SHOW_PAIRS_MAX)
			return false;
		*value++ = '\0';
		l->pair[l->n++] = (struct show_pair){ .key = word, .value = value };
	}
	return *l->kind && l->n;
}

/* The first line of its kind? */
static bool first_of_kind(const struct show_line *lines, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (!strcmp(lines[j].kind, lines[i].kind))
			return false;
	}
	return true;
}

static bool same_kind(const struct show_line *a, const struct show_line *b)
{
	return !strcmp(a->kind, b->kind);
}

/* The width of column @c in all lines of this kind, heading included. */
static int width(const struct show_line *lines, size_t n, const struct show_line *of, size_t c)
{
	size_t most = strlen(of->pair[c].key);

	for (size_t i = 0; i < n; i++) {
		size_t len = same_kind(&lines[i], of) && c < lines[i].n ? strlen(lines[i].pair[c].value) : 0;

		most = len > most ? len : most;
	}
	return (int)most;
}

static void tables(const struct show_line *lines, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		if (!first_of_kind(lines, i))
			continue;
		fprintf(out, "%s%s\n", i ? "\n" : "", lines[i].kind);
		for (size_t c = 0; c < lines[i].n; c++)
			fprintf(out, "  %*s", width(lines, n, &lines[i], c), lines[i].pair[c].key);
		fputc('\n', out);
		for (size_t j = i; j < n; j++) {
			if (!same_kind(&lines[j], &lines[i]))
				continue;
			for (size_t c = 0; c < lines[j].n && c < lines[i].n; c++)
				fprintf(out, "  %*s", width(lines, n, &lines[i], c), lines[j].pair[c].value);
			fputc('\n', out);
		}
	}
}

/* The daemon's words are plain; whatever else came is escaped. */
static void quoted(const char *text, FILE *out)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fputc('\\', out);
		if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static bool is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text) && (*text != '0' || !text[1]);
}

static void json_line(const struct show_line *l, FILE *out)
{
	fputc('{', out);
	for (size_t c = 0; c < l->n; c++) {
		fputs(c ? ", " : "", out);
		quoted(l->pair[c].key, out);
		fputs(": ", out);
		if (is_number(l->pair[c].value))
			fputs(l->pair[c].value, out);
		else
			quoted(l->pair[c].value, out);
	}
	fputc('}', out);
}

/* {"KIND": [{...}, ...], ...} */
static void json(const struct show_line *lines, size_t n, FILE *out)
{
	bool any = false;

	fputs("{", out);
	for (size_t i = 0; i < n; i++) {
		const char *before = "";

		if (!first_of_kind(lines, i))
			continue;
		fprintf(out, "%s\n  ", any ? "," : "");
		quoted(lines[i].kind, out);
		fputs(": [", out);
		for (size_t j = i; j < n; j++) {
			if (!same_kind(&lines[j], &lines[i]))
				continue;
			fprintf(out, "%s\n    ", before);
			json_line(&lines[j], out);
			before = ",";
		}
		fputs("\n  ]", out);
		any = true;
	}
	fprintf(out, "%s}\n", any ? "\n" : "");
}

static void prometheus_value(const struct show_line *l, size_t c, const char *name, FILE *out)
{
	const char *before = "";

	fprintf(out, "%s{", name);
	for (size_t i = 0; i < l->n; i++) {
		if (!is_label(l->pair[i].key))
			continue;
		fprintf(out, "%s%s=", before, l->pair[i].key);
		quoted(l->pair[i].value, out);
		before = ",";
	}
	fprintf(out, "} %s\n", l->pair[c].value);
}

/* All values of a metric stand together, under its type. */
static void prometheus(const struct show_line *lines, size_t n, const char *whose, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t c = 0; c < lines[i].n && first_of_kind(lines, i); c++) {
			const char *key = lines[i].pair[c].key;
			bool gauge = is_gauge(key);
			char name[128];

			if (is_label(key) || !is_number(lines[i].pair[c].value))
				continue;
			snprintf(name, sizeof(name), "%s_%s_%s%s", whose, lines[i].kind, key, gauge ? "" : "_total");
			fprintf(out, "# TYPE %s %s\n", name, gauge ? "gauge" : "counter");
			for (size_t j = i; j < n; j++) {
				if (same_kind(&lines[j], &lines[i]) && c < lines[j].n)
					prometheus_value(&lines[j], c, name, out);
			}
		}
	}
}

void show(const struct show_line *lines, size_t n, enum show_as as, const char *whose, FILE *out)
{
	if (as == SHOW_JSON)
		json(lines, n, out);
	else if (as == SHOW_PROMETHEUS)
		prometheus(lines, n, whose, out);
	else
		tables(lines, n, out);
}
