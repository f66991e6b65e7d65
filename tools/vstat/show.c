// SPDX-License-Identifier: BSD-2-Clause
#include "show.h"

#include <string.h>

/* Keys that say of what a figure is, not how much. */
static const char *const labels[] = {
	"cid",	 "ring",  "reason", "type",	 "host_cid",   "host_port",  "guest_port",
	"state", "phase", "id",	    "local_cid", "local_port", "remote_cid", "remote_port"
};
/**
 * struct figure - what a key says, of whatever kind of line
 * @key: of a pair
 * @gauge: it also goes down, or is a state
 * @help: in words, as Prometheus wants them: no backslash, no end of line
 */
struct figure {
	const char *key;
	bool gauge;
	const char *help;
};

static const struct figure figures[] = {
	{ "up", true, "Whether the guest's monitor is connected" },
	{ "connections", true, "Connections at the moment" },
	{ "from_siblings", true, "Of these, opened by other guests" },
	{ "bytes_charged", true, "Bytes that connections may make the daemon hold" },
	{ "sessions", false, "Times that a monitor connected" },
	{ "opened", false, "Connections that were accepted" },
	{ "refused", false, "Connections and datagrams that were refused" },
	{ "denied", false, "Connections that the lists of ports or of users, or draining, forbade" },
	{ "resets", false, "Open connections that ended by a reset" },
	{ "timed_out", false, "Connections and clients that a deadline ended" },
	{ "packets_from_guest", false, "Packets that the guest sent" },
	{ "bytes_from_guest", false, "Bytes of the guest that programs of the host, or other guests, have taken" },
	{ "packets_to_guest", false, "Packets that were sent to the guest" },
	{ "bytes_to_guest", false, "Bytes that were sent to the guest" },
	{ "messages_too_big", false, "Messages that their receiver will never take" },
	{ "replies_owed", true, "Resets that wait for room on the ring" },
	{ "no_buffers", true, "Whether the guest has no receive buffers left" },
	{ "held", true, "Whether packets wait on the ring because a socket is full" },
	{ "transport_resets", false, "Times that the guest was told that its connections are gone" },
	{ "draining", true, "Whether new connections are refused" },
	{ "capturing", true, "Whether packets are captured" },
	{ "packets_not_captured", false, "Packets that the reader of the capture was too slow for" },
	{ "known", true, "Whether both ends have datagrams" },
	{ "fragments", true, "Whether the guest takes datagrams in fragments" },
	{ "max", true, "Bytes of the largest datagram that the guest takes" },
	{ "from_guest", false, "Datagrams of the guest that were delivered" },
	{ "to_guest", false, "Datagrams that were sent to the guest" },
	{ "unbound", false, "Datagrams for ports that nobody is bound to" },
	{ "full", false, "Datagrams for which there was no room" },
	{ "cut", false, "Datagrams of which fragments were missing" },
	{ "no_guest", false, "Datagrams for a guest that has none, or is not there" },
	{ "too_big", false, "Datagrams that their receiver will never take" },
	{ "bad", false, "Datagrams that break the protocol" },
	{ "no_memory", false, "Datagrams for which there was no memory" },
	{ "bounced", false, "Datagrams that the guest said nobody is bound for" },
	{ "sources", true, "Addresses of the guest that have a socket here" },
	{ "receivers_waited_for", true, "Receivers that have no room at the moment" },
	{ "bytes_queued", true, "Bytes of datagrams that are kept for them" },
	{ "size", true, "Entries of the ring" },
	{ "live", true, "Whether the ring runs" },
	{ "broken", true, "Whether the guest broke a rule of the ring" },
	{ "waiting", true, "Chains that the guest has put on the ring and that were not taken" },
	{ "rejects", false, "Packets, chains or connections that were refused, by reason" },
	{ "unread", true, "Bytes that came and that nobody has read" },
	{ "credit", true, "Bytes that may be sent to the guest at the moment" },
	{ "window", true, "Bytes that may be on their way to the guest" },
	{ "unread_packets", true, "Packets that the guest holds unread" },
	{ "unsent", true, "Bytes that were written and have not left" },
	{ "unacked", true, "Bytes that were written and that the peer has not read" },
	{ "rx_window", true, "Bytes that may be unread here" },
	{ "tx_window", true, "Bytes that may be unread at the peer" },
	{ "rx_packets", false, "Packets that came" },
	{ "rx_bytes", false, "Bytes of payload that came" },
	{ "tx_packets", false, "Packets that were sent" },
	{ "tx_bytes", false, "Bytes of payload that were sent" },
	{ "tx_held", false, "Times that payload waited for a peer that held too many packets unread" },
};

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

/* NULL: nobody here knows. It is taken for a counter. */
static const struct figure *figure_of(const char *key)
{
	for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
		if (!strcmp(key, figures[i].key))
			return &figures[i];
	}
	return NULL;
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

/* All values of a metric stand together, under what it is. */
static void prometheus(const struct show_line *lines, size_t n, const char *whose, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t c = 0; c < lines[i].n && first_of_kind(lines, i); c++) {
			const char *key = lines[i].pair[c].key;
			const struct figure *f = figure_of(key);
			bool gauge = f && f->gauge;
			char name[128];

			if (is_label(key) || !is_number(lines[i].pair[c].value))
				continue;
			snprintf(name, sizeof(name), "%s_%s_%s%s", whose, lines[i].kind, key, gauge ? "" : "_total");
			if (f)
				fprintf(out, "# HELP %s %s\n", name, f->help);
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
