// SPDX-License-Identifier: BSD-2-Clause
#include "daemon/files.h"

#include <errno.h>
#include <sys/resource.h>

enum {
	FDS_RESERVE = 64, /* descriptors that are not for connections */
	/* Nor these: a front-end and its listener, three for each ring, what was handed in, datagrams. */
	FDS_PER_GUEST = 16,
};

void vsd_files_share(struct vsd_config *c)
{
	u64 reserve = FDS_RESERVE + (u64)FDS_PER_GUEST * c->n, share;
	struct rlimit lim;

	for (u32 i = 0; i < c->n; i++)
		reserve += vsd_guest_listeners(c->guests[i]);
	if (!c->n || getrlimit(RLIMIT_NOFILE, &lim))
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	if (getrlimit(RLIMIT_NOFILE, &lim))
		return;
	share = (lim.rlim_cur > 2 * reserve ? lim.rlim_cur - reserve : lim.rlim_cur / 2) / c->n;
	share = share ? share : 1;
	for (u32 i = 0; i < c->n; i++) {
		struct vsd_guest_opts *o = c->guests[i];

		if (o->conns_max <= share)
			continue;
		vsd_log(VSD_WARN, program_invocation_short_name,
			"guest %u: --max-connections %u: only %llu files may be open, so %llu connections (see "
			"ulimit -n)",
			o->guest_cid, o->conns_max, (unsigned long long)lim.rlim_cur, (unsigned long long)share);
		o->conns_max = (u32)share;
	}
}

bool vsd_files_fit(const struct vsd_config *c, struct vsd_blame *b)
{
	struct vsd_guest_opts *o = c->guests[c->n - 1];
	u64 taken = FDS_RESERVE + (u64)FDS_PER_GUEST * c->n;
	struct rlimit lim;

	for (u32 i = 0; i < c->n; i++)
		taken += vsd_guest_listeners(c->guests[i]) + (c->guests[i] == o ? 0 : c->guests[i]->conns_max);
	if (getrlimit(RLIMIT_NOFILE, &lim) || lim.rlim_cur <= taken)
		return vsd_complain(b, NULL, NULL,
				    "no files are left that it could open: the other guests may use all of them (see "
				    "ulimit -n, or lower their max-connections)");
	if (o->conns_max > lim.rlim_cur - taken)
		o->conns_max = (u32)(lim.rlim_cur - taken);
	return true;
}
