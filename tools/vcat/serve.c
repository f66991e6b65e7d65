// SPDX-License-Identifier: BSD-2-Clause
/*
 * serve.c - see serve.h
 *
 * With a command, each client of -k has a process of its own, which relays between it and the command: a stuck client
 * or command stops nobody else. Their ends arrive through a signalfd, so that none is lost between poll() and SIGCHLD.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "door.h"
#include "relay.h"
#include "say.h"
#include "serve.h"

enum { NOT_FOUND = 127 };

int serve_command(const struct options *options, const struct dump *dump, int fd, const struct vsock_addr *peer,
		  const struct vsock_addr *local)
{
	struct command_ends ends = { .peer = *peer, .local = *local };
	struct relay_setup setup = {
		.options = options,
		.dump = dump,
		.client_fd = fd,
		.peer = *peer,
		.command = true,
	};
	struct command command;
	int status, ended;

	if (command_start(&command, options, &ends) < 0) {
		close(fd);
		return EXIT_NETWORK;
	}
	setup.in_fd = command.in_fd;
	setup.out_fd = command.out_fd;
	status = relay_run(&setup);
	ended = command_wait(&command);
	say_if(2, "the command ended with status %d", ended);
	return ended == NOT_FOUND ? EXIT_NETWORK : status;
}

/* Where the listener of a client is, as far as it is known: the socket knows it better than the listener's "any". */
static struct vsock_addr local_end(int fd, const struct door *door)
{
	struct vsock_addr local = door->addr;

	vsock_local(fd, &local);
	return local;
}

/* A child for one client. Return: 0, or -1 after saying why. */
static int fork_client(struct door *door, const struct dump *dump, int fd, const struct vsock_addr *peer)
{
	struct vsock_addr local = local_end(fd, door);
	pid_t pid = fork();
	sigset_t none;

	if (pid < 0)
		say("cannot start a process for a client: %s", strerror(errno));
	if (pid != 0) {
		close(fd);
		return pid < 0 ? -1 : 0;
	}
	door_forget(door);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	_exit(serve_command(door->options, dump, fd, peer, &local));
}

static unsigned int reap(int signal_fd)
{
	struct signalfd_siginfo info;
	unsigned int ended = 0;

	/* Several ends may share one signal. */
	while (read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		continue;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		ended++;
	return ended;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int serve_many(struct door *door, const struct dump *dump)
{
	struct pollfd pollfds[2] = { { .fd = open_signals(), .events = POLLIN }, { .events = POLLIN } };
	unsigned int children = 0;
	bool wait = false;
	struct vsock_addr peer;

	for (;;) {
		int fd;

		pollfds[1].fd = wait ? -1 : door->fd;
		if (poll(pollfds, 2, -1) < 0 && errno != EINTR)
			break;
		if (pollfds[0].revents) {
			children -= reap(pollfds[0].fd);
			wait = false;
		}
		if (!pollfds[1].revents)
			continue;
		fd = door_accept(door, children, &peer);
		if (fd >= 0 && fork_client(door, dump, fd, &peer) == 0)
			children++;
		else if (fd == -EMFILE && children)
			wait = true;
		else if (fd < 0 && fd != -EAGAIN)
			break;
	}
	return EXIT_NETWORK;
}

static int serve_one(struct door *door, const struct dump *dump)
{
	struct pollfd pollfd = { .fd = door->fd, .events = POLLIN };
	struct vsock_addr peer, local;
	int fd;

	do {
		if (poll(&pollfd, 1, -1) < 0 && errno != EINTR)
			return EXIT_NETWORK;
		fd = door_accept(door, 0, &peer);
	} while (fd == -EAGAIN);
	if (fd < 0)
		return EXIT_NETWORK;
	local = local_end(fd, door);
	door_close(door);
	return serve_command(door->options, dump, fd, &peer, &local);
}

int serve(const struct options *options, const struct dump *dump)
{
	struct door door;
	int status;

	if (door_open(&door, options) < 0)
		return EXIT_NETWORK;
	if (!options->command) {
		struct relay_setup setup = {
			.options = options,
			.dump = dump,
			.door = &door,
			.client_fd = -1,
			.in_fd = STDIN_FILENO,
			.out_fd = STDOUT_FILENO,
		};

		status = relay_run(&setup);
	} else if (options->keep_open) {
		status = serve_many(&door, dump);
	} else {
		status = serve_one(&door, dump);
	}
	door_close(&door);
	return status;
}
