// SPDX-License-Identifier: BSD-2-Clause
#include "capture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool write_all(const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, bytes, len);

		if (n < 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

/* Instead of a capture the daemon may say what is wrong, in one line, and leave. */
static const char *complaint(char *bytes, size_t len)
{
	static const char word[] = "error ";

	if (len < sizeof(word) || strncmp(bytes, word, sizeof(word) - 1) != 0)
		return NULL;
	bytes[len - 1] = '\0';
	return bytes + sizeof(word) - 1;
}

const char *capture(int fd)
{
	static char bytes[1 << 16];
	const char *wrong;
	bool first = true;

	for (;;) {
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

		/* Nothing may happen for a long time. */
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return strerror(errno);
		if (!n)
			return first ? "the daemon said nothing" : NULL;
		wrong = first ? complaint(bytes, (size_t)n) : NULL;
		if (wrong)
			return wrong;
		first = false;
		if (!write_all(bytes, (size_t)n))
			return errno == EPIPE ? NULL : strerror(errno);
	}
}
