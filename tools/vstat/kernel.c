// SPDX-License-Identifier: BSD-2-Clause
/*
 * kernel.c - asks the kernel modules for their connections, by generic netlink (kernel/proto/report.h)
 *
 * The answer is written as lines, as a daemon would.
 */
#include "kernel.h"

#include "kernel/proto/report.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
	PATIENCE_S = 10,
	MESSAGES_MAX = 64 << 10, /* bytes of one answer; the kernel sends 32 KiB at most */
	HEAD = NLMSG_HDRLEN + GENL_HDRLEN,
};

/* What of a message's attributes a line says, in this order. */
static const struct {
	const char *key;
	enum { U32, U64, STRING } as;
} columns[NUM_VST_REPORT_ATTRS] = {
	[VST_REPORT_ID] = { "id", U64 },
	[VST_REPORT_LOCAL_CID] = { "local_cid", U32 },
	[VST_REPORT_LOCAL_PORT] = { "local_port", U32 },
	[VST_REPORT_REMOTE_CID] = { "remote_cid", U32 },
	[VST_REPORT_REMOTE_PORT] = { "remote_port", U32 },
	[VST_REPORT_TYPE] = { "type", STRING },
	[VST_REPORT_STATE] = { "state", STRING },
	[VST_REPORT_RX_PACKETS] = { "rx_packets", U64 },
	[VST_REPORT_RX_BYTES] = { "rx_bytes", U64 },
	[VST_REPORT_TX_PACKETS] = { "tx_packets", U64 },
	[VST_REPORT_TX_BYTES] = { "tx_bytes", U64 },
	[VST_REPORT_UNREAD] = { "unread", U32 },
	[VST_REPORT_RX_WINDOW] = { "rx_window", U32 },
	[VST_REPORT_UNSENT] = { "unsent", U32 },
	[VST_REPORT_UNACKED] = { "unacked", U32 },
	[VST_REPORT_TX_WINDOW] = { "tx_window", U32 },
	[VST_REPORT_TX_HELD] = { "tx_held", U32 },
};

/* A request with at most one attribute, a string. */
struct request {
	struct nlmsghdr head;
	struct genlmsghdr genl;
	struct nlattr attr;
	char text[GENL_NAMSIZ];
};

/* The attributes of a message by number; those with a number beyond @n are ignored. */
static void read_attrs(const struct nlmsghdr *head, const struct nlattr **attrs, size_t n)
{
	const char *at = (const char *)head + HEAD, *end = (const char *)head + head->nlmsg_len;

	for (size_t i = 0; i < n; i++)
		attrs[i] = NULL;
	while (end - at >= NLA_HDRLEN) {
		const struct nlattr *attr = (const void *)at;
		uint16_t number = attr->nla_type & NLA_TYPE_MASK;

		if (attr->nla_len < NLA_HDRLEN || attr->nla_len > end - at)
			return;
		if (number < n)
			attrs[number] = attr;
		at += NLA_ALIGN(attr->nla_len);
	}
}

static bool has_number(const struct nlattr *attr, void *number, size_t size)
{
	if (!attr || attr->nla_len < NLA_HDRLEN + size)
		return false;
	memcpy(number, (const char *)attr + NLA_HDRLEN, size);
	return true;
}

static void write_attr(const struct nlattr *attr, enum vst_report_attr i, FILE *out)
{
	uint32_t small;
	uint64_t large;

	if (!attr || !columns[i].key)
		return;
	if (columns[i].as == STRING)
		fprintf(out, " %s=%.*s", columns[i].key, attr->nla_len - NLA_HDRLEN, (const char *)attr + NLA_HDRLEN);
	else if (columns[i].as == U32 && has_number(attr, &small, sizeof(small)))
		fprintf(out, " %s=%" PRIu32, columns[i].key, small);
	else if (columns[i].as == U64 && has_number(attr, &large, sizeof(large)))
		fprintf(out, " %s=%" PRIu64, columns[i].key, large);
}

static void write_flow(const struct nlmsghdr *head, FILE *out)
{
	const struct nlattr *attrs[NUM_VST_REPORT_ATTRS];

	read_attrs(head, attrs, NUM_VST_REPORT_ATTRS);
	fputs("connection", out);
	for (int i = 0; i < NUM_VST_REPORT_ATTRS; i++)
		write_attr(attrs[i], i, out);
	fputc('\n', out);
}

static bool ask(int fd, uint16_t family, uint8_t command, uint16_t flags, const char *name)
{
	struct request r = {
		.head = { .nlmsg_len = HEAD, .nlmsg_type = family, .nlmsg_flags = NLM_F_REQUEST | flags },
		.genl = { .cmd = command, .version = 1 },
	};

	if (name) {
		strncpy(r.text, name, sizeof(r.text) - 1);
		r.attr.nla_type = CTRL_ATTR_FAMILY_NAME;
		r.attr.nla_len = (uint16_t)(NLA_HDRLEN + strlen(name) + 1);
		r.head.nlmsg_len += NLA_ALIGN(r.attr.nla_len);
	}
	return send(fd, &r, r.head.nlmsg_len, 0) == (ssize_t)r.head.nlmsg_len;
}

/* The number that the family has today. 0: errno, which is ENOENT where there is none. */
static uint16_t find_family(int fd)
{
	_Alignas(struct nlmsghdr) char buf[4096];
	const struct nlmsghdr *head = (const void *)buf;
	const struct nlattr *attrs[CTRL_ATTR_FAMILY_ID + 1];
	uint16_t number;
	ssize_t n;

	if (!ask(fd, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 0, VST_REPORT_NAME))
		return 0;
	n = recv(fd, buf, sizeof(buf), 0);
	if (n < 0)
		return 0;
	errno = EPROTO;
	if (!NLMSG_OK(head, (size_t)n) || head->nlmsg_len < HEAD)
		return 0;
	if (head->nlmsg_type == NLMSG_ERROR) {
		errno = -((const struct nlmsgerr *)NLMSG_DATA(head))->error;
		return 0;
	}
	read_attrs(head, attrs, CTRL_ATTR_FAMILY_ID + 1);
	return has_number(attrs[CTRL_ATTR_FAMILY_ID], &number, sizeof(number)) ? number : 0;
}

/* Write the messages of one answer. 1: more will come, 0: that was all, -1: errno. */
static int write_answer(const char *buf, size_t n, FILE *out)
{
	const struct nlmsghdr *head = (const void *)buf;

	for (; NLMSG_OK(head, n); head = NLMSG_NEXT(head, n)) {
		if (head->nlmsg_type == NLMSG_DONE)
			return 0;
		if (head->nlmsg_type == NLMSG_ERROR) {
			errno = -((const struct nlmsgerr *)NLMSG_DATA(head))->error;
			return -1;
		}
		if (head->nlmsg_len >= HEAD)
			write_flow(head, out);
	}
	return 1;
}

static bool dump(int fd, uint16_t family, FILE *out)
{
	_Alignas(struct nlmsghdr) static char buf[MESSAGES_MAX];
	int more = 1;
	ssize_t n;

	if (!ask(fd, family, VST_REPORT_FLOWS, NLM_F_DUMP, NULL))
		return false;
	while (more > 0) {
		n = recv(fd, buf, sizeof(buf), 0);
		more = n < 0 ? -1 : write_answer(buf, (size_t)n, out);
	}
	return !more;
}

bool kernel_connections(FILE *out)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	struct sockaddr_nl me = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC), error;
	uint16_t family = 0;
	bool good = false;

	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (!bind(fd, (struct sockaddr *)&me, sizeof(me)))
		family = find_family(fd);
	if (family)
		good = dump(fd, family, out);
	error = errno;
	close(fd);
	errno = error;
	return good;
}
