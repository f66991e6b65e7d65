// SPDX-License-Identifier: BSD-2-Clause
/*
 * main.c - vcat: standard input and output over vsock, as ncat does over the network
 *
 * AF_VSOCK inside guests and on hosts whose kernel has the device; hybrid Unix sockets on hosts where the device is a
 * process. The library knows both; nothing here does, except for who may be told apart.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dgram.h"
#include "dump.h"
#include "options.h"
#include "relay.h"
#include "say.h"
#include "serve.h"

/* A descriptor that the caller closed must not become a socket: reads give the end, writes EBADF. */
static void fill_standard_descriptors(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
	}
}

/* Tries each port of a range. One that answers is enough for success, as the exit status of a scan. */
static int probe(const struct options *o)
{
	bool is_range = o->last_port != o->addr.port, found = false;
	char why[VSOCK_TEXT_MAX], name[VSOCK_TEXT_MAX];
	struct vsock_addr addr = o->addr;
	int fd;

	for (uint64_t port = o->addr.port; port <= o->last_port; port++) {
		addr.port = (uint32_t)port;
		fd = vsock_dial(&addr, &o->how);
		if (fd < 0) {
			vsock_explain(VSOCK_OP_DIAL, &addr, &o->how, fd, why, sizeof(why));
			if (is_range)
				say_if(1, "%s", why);
			else
				say("%s", why);
			continue;
		}
		close(fd);
		found = true;
		vsock_format(&addr, name, sizeof(name));
		if (is_range)
			printf("%s open\n", name);
		else
			say_if(1, "%s is open", name);
	}
	return found && fflush(stdout) == 0 ? EXIT_OK : EXIT_NETWORK;
}

static int dial(const struct options *o, const struct dump *dump)
{
	struct vsock_addr local = { .cid = VSOCK_CID_ANY, .port = VSOCK_PORT_ANY };
	char text[VSOCK_TEXT_MAX];
	int fd = vsock_dial(&o->addr, &o->how);
	struct relay_setup setup = {
		.options = o,
		.dump = dump,
		.client_fd = fd,
		.peer = o->addr,
		.in_fd = STDIN_FILENO,
		.out_fd = STDOUT_FILENO,
	};

	if (fd < 0) {
		say("%s", vsock_explain(VSOCK_OP_DIAL, &o->addr, &o->how, fd, text, sizeof(text)));
		return EXIT_NETWORK;
	}
	if (vsock_format(&o->addr, text, sizeof(text)) > 0)
		say_if(1, "connected to %s", text);
	if (!o->command)
		return relay_run(&setup);
	vsock_local(fd, &local);
	return serve_command(o, dump, fd, &o->addr, &local);
}

int main(int argc, char **argv)
{
	struct options options;
	struct dump dump;

	fill_standard_descriptors();
	signal(SIGPIPE, SIG_IGN);
	options = options_parse(argc, argv);
	if (options.addr.type == SOCK_DGRAM)
		return dgram_run(&options);
	if (dump_open(&dump, &options) < 0)
		return EXIT_USAGE;
	if (options.probe)
		return probe(&options);
	return options.listen ? serve(&options, &dump) : dial(&options, &dump);
}
