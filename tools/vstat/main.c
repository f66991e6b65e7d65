// SPDX-License-Identifier: BSD-2-Clause
/*
 * vstat - look into a vsockd, or into our kernel modules: guests, connections, what was refused and why
 *
 * main.c: the command line and the control socket. The kernel is asked in kernel.c; what came is made readable in
 * show.c; packets are in capture.c.
 */
#include "capture.h"
#include "kernel.h"
#include "show.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PATIENCE_S = 10,
	ANSWER_MAX = 256 << 20, /* bytes; far more than a daemon with all its connections says */
	LINE_MAX_BYTES = 4096,	/* of a command, as the daemon takes it */
	EXIT_USAGE = 2,
};

static const char usage[] =
	"Usage: vstat --control PATH [--json | --prometheus] [guests | connections]\n"
	"       vstat --control PATH reset CID HOST_CID HOST_PORT GUEST_PORT\n"
	"       vstat --control PATH reload\n"
	"       vstat --control PATH add KEY=VALUE,KEY=VALUE\n"
	"       vstat --control PATH remove | drain | resume CID\n"
	"       vstat --control PATH capture CID [BYTES] >FILE\n"
	"       vstat --kernel [--json | --prometheus] [connections]\n"
	"Look into a vsockd that was started with the same --control, or into Sluice's modules of this kernel.\n"
	"\n"
	"  -c, --control PATH   the daemon's control socket (or VSOCKD_CONTROL in the environment)\n"
	"  -k, --kernel         ask the kernel\n"
	"  -j, --json           write JSON\n"
	"  -p, --prometheus     write Prometheus' text format\n"
	"  -h, --help           this text\n"
	"\n"
	"Without a word: guests; of the kernel, connections. A capture has so many bytes of each\n"
	"payload (all), until the end; wireshark -k -i - reads it.\n";

static int complain(const char *what, const char *why)
{
	fprintf(stderr, "vstat: %s: %s\n", what, why);
	return EXIT_FAILURE;
}

static int dial(const char *path)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(sa.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) ? -1 : fd;
}

/* Everything until the end, for free(). NULL: errno. */
static char *read_all(int fd)
{
	size_t room = 1 << 16, have = 0;
	char *text = malloc(room), *more;
	ssize_t n = -1;

	while (text && (n = recv(fd, text + have, room - have - 1, 0)) > 0) {
		have += (size_t)n;
		if (room - have > 1)
			continue;
		room *= 2;
		more = room <= ANSWER_MAX ? realloc(text, room) : NULL;
		if (!more)
			break;
		text = more;
	}
	if (!text || n != 0) {
		free(text);
		return NULL;
	}
	text[have] = '\0';
	return text;
}

/* Show the answer. The exit status. */
static int tell(char *text, enum show_as as, const char *whose)
{
	size_t room = 1, n = 0;
	struct show_line *lines;
	const char *verdict = NULL;
	char *rest = text, *line;

	for (const char *at = text; *at; at++)
		room += *at == '\n';
	lines = calloc(room, sizeof(*lines));
	if (!lines)
		return complain("memory", strerror(errno));
	while (!verdict && (line = strsep(&rest, "\n")) != NULL) {
		if (!strcmp(line, "ok") || !strncmp(line, "error ", 6))
			verdict = line;
		else if (show_parse(&lines[n], line))
			n++;
	}
	if (n || as == SHOW_JSON)
		show(lines, n, as, whose, stdout);
	free(lines);
	if (!verdict)
		return complain("the daemon", "its answer has no end");
	return *verdict == 'o' ? EXIT_SUCCESS : complain("the daemon", verdict + 6);
}

/* The words of the command, as one line. False: too long. */
static bool join(char *line, size_t room, char **words, int n)
{
	size_t len = 0;

	for (int i = 0; i < n && len < room; i++)
		len += (size_t)snprintf(line + len, room - len, "%s%s", i ? " " : "", words[i]);
	if (len < room)
		len += (size_t)snprintf(line + len, room - len, n ? "\n" : "guests\n");
	return len < room;
}

static int ask(const char *path, const char *line, enum show_as as)
{
	int fd = dial(path), status;
	char *text = NULL;

	if (fd < 0)
		return complain(path, errno == ECONNREFUSED ? "nobody answers; is vsockd running?" : strerror(errno));
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line))
		text = read_all(fd);
	status = text ? tell(text, as, "vsockd") : complain(path, strerror(errno));
	free(text);
	close(fd);
	return status;
}

/* Packets to the standard output, until the daemon ends or somebody ends us. */
static int look_on(const char *path, char **words, int n)
{
	char line[64];
	const char *wrong;
	int fd;

	if (n < 1 || n > 2 || isatty(STDOUT_FILENO)) {
		fputs(n < 1 || n > 2 ? "vstat: capture needs a CID, and at most a number of bytes\n" :
				       "vstat: capture writes no text; send it to a file or to wireshark -k -i -\n",
		      stderr);
		return EXIT_USAGE;
	}
	if (snprintf(line, sizeof(line), "capture %s %s\n", words[0], n == 2 ? words[1] : "65536") >= (int)sizeof(line))
		return complain(words[0], "too long");
	fd = dial(path);
	if (fd < 0 || send(fd, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line))
		return complain(path, strerror(errno));
	wrong = capture(fd);
	close(fd);
	return wrong ? complain("capture", wrong) : EXIT_SUCCESS;
}

static int ask_kernel(enum show_as as)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	bool good = out && kernel_connections(out);
	int error = errno, status;

	if (good)
		fputs("ok\n", out);
	if (out && fclose(out))
		good = false;
	if (good)
		status = tell(text, as, "vst");
	else
		status = complain("the kernel", error == ENOENT ? "vst_common is not loaded" : strerror(error));
	free(text);
	return status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "control", required_argument, NULL, 'c' }, { "kernel", no_argument, NULL, 'k' },
		{ "json", no_argument, NULL, 'j' },	     { "prometheus", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },	     { NULL, 0, NULL, 0 },
	};
	const char *path = getenv("VSOCKD_CONTROL");
	enum show_as as = SHOW_TABLE;
	bool kernel = false;
	char line[LINE_MAX_BYTES];
	int opt;

	while ((opt = getopt_long(argc, argv, "c:kjph", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			path = optarg;
			break;
		case 'k':
			kernel = true;
			break;
		case 'j':
			as = SHOW_JSON;
			break;
		case 'p':
			as = SHOW_PROMETHEUS;
			break;
		case 'h':
			fputs(usage, stdout);
			return EXIT_SUCCESS;
		default:
			return EXIT_USAGE;
		}
	}
	if (kernel) {
		if (argc - optind > 1 || (argc - optind == 1 && strcmp(argv[optind], "connections") != 0)) {
			fputs("vstat: the kernel knows connections only\n", stderr);
			return EXIT_USAGE;
		}
		return ask_kernel(as);
	}
	if (!path || !*path || !join(line, sizeof(line), argv + optind, argc - optind)) {
		fputs(path && *path ? "vstat: too many words\n" : "vstat: --control PATH is required, or --kernel\n",
		      stderr);
		return EXIT_USAGE;
	}
	if (optind < argc && !strcmp(argv[optind], "capture"))
		return look_on(path, argv + optind + 1, argc - optind - 1);
	return ask(path, line, as);
}
