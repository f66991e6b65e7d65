// SPDX-License-Identifier: BSD-2-Clause
/*
 * command.c - see command.h
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "say.h"

enum { MAX_WORDS = 256 };

/* Sets both names, or removes both where the value is unknown: an inherited one would be somebody else's. */
static void set_number(const char *name, const char *ncat_name, uint32_t value, bool known)
{
	char text[16];

	if (!known) {
		unsetenv(name);
		unsetenv(ncat_name);
		return;
	}
	snprintf(text, sizeof(text), "%u", value);
	setenv(name, text, 1);
	setenv(ncat_name, text, 1);
}

static void set_environment(const struct options *o, const struct command_ends *ends)
{
	const struct vsock_addr *peer = &ends->peer, *local = &ends->local;

	set_number("VSOCK_REMOTE_CID", "NCAT_REMOTE_ADDR", peer->cid, peer->cid != VSOCK_CID_ANY);
	set_number("VSOCK_REMOTE_PORT", "NCAT_REMOTE_PORT", peer->port, peer->port != VSOCK_PORT_ANY);
	set_number("VSOCK_LOCAL_CID", "NCAT_LOCAL_ADDR", local->cid, local->cid != VSOCK_CID_ANY);
	set_number("VSOCK_LOCAL_PORT", "NCAT_LOCAL_PORT", local->port, local->port != VSOCK_PORT_ANY);
	setenv("VSOCK_TYPE", o->addr.type == SOCK_SEQPACKET ? "seqpacket" : "stream", 1);
	setenv("NCAT_PROTO", "VSOCK", 1);
}

/* One word in place: quotes are removed, a backslash protects the next character. Return: what follows it. */
static char *cut_word(char *text)
{
	char *to = text, quote = 0;

	for (; *text && (quote || !strchr(" \t\n", *text)); text++) {
		if (quote ? *text == quote : *text == '"' || *text == '\'') {
			quote = quote ? 0 : *text;
			continue;
		}
		if (*text == '\\' && text[1] && quote != '\'')
			text++;
		*to++ = *text;
	}
	if (*text)
		text++;
	*to = '\0';
	return text;
}

__attribute__((noreturn)) static void become(const struct options *o)
{
	char *words[MAX_WORDS + 1] = { NULL }, *text = strdup(o->command);
	size_t count = 0;

	if (o->shell) {
		execl("/bin/sh", "sh", "-c", o->command, (char *)NULL);
		say("/bin/sh: %s", strerror(errno));
		_exit(127);
	}
	while (text && count < MAX_WORDS) {
		text += strspn(text, " \t\n");
		if (!*text)
			break;
		words[count++] = text;
		text = cut_word(text);
	}
	if (!count) {
		say("-e: the command is empty");
		_exit(127);
	}
	execvp(words[0], words);
	say("%s: %s", words[0], strerror(errno));
	_exit(127);
}

__attribute__((noreturn)) static void run_child(const int *to, const int *from, const struct options *o,
						const struct command_ends *ends)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	set_environment(o, ends);
	if (dup2(to[0], STDIN_FILENO) < 0 || dup2(from[1], STDOUT_FILENO) < 0) {
		say("cannot connect the command: %s", strerror(errno));
		_exit(127);
	}
	become(o);
}

int command_start(struct command *command, const struct options *options, const struct command_ends *ends)
{
	int to[2] = { -1, -1 }, from[2] = { -1, -1 };

	if (pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0)
		goto failed;
	command->pid = fork();
	if (command->pid < 0)
		goto failed;
	if (!command->pid)
		run_child(to, from, options, ends);
	close(to[0]);
	close(from[1]);
	command->out_fd = to[1];
	command->in_fd = from[0];
	fcntl(command->out_fd, F_SETFL, O_NONBLOCK);
	fcntl(command->in_fd, F_SETFL, O_NONBLOCK);
	return 0;

failed:
	say("cannot start the command: %s", strerror(errno));
	for (int i = 0; i < 2; i++) {
		if (to[i] >= 0)
			close(to[i]);
		if (from[i] >= 0)
			close(from[i]);
	}
	return -1;
}

int command_wait(const struct command *command)
{
	int status;

	while (waitpid(command->pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
