// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_config.c - libFuzzer target for the configuration file and for --vm
 *
 * Properties: what is refused is explained in one line; what is accepted has every guest complete, within its limits
 * and unlike all others. Leaks are the sanitizer's to find.
 */
#include "fuzz.h"

#include "daemon/config.h"
#include "kernel/proto/credit.h"
#include "kernel/proto/ring.h"

#include <string.h>

static void check_guest(const struct vsd_config *c, u32 i)
{
	const struct vsd_guest_opts *o = c->guests[i];

	MUST((o->socket != NULL) != (o->fd >= 0));
	MUST((o->forward_cid != VSP_CID_ANY) !=
	     (o->uds_path || o->uds_fd >= 0 || o->map_to_guest.n || o->map_from_guest.n));
	MUST(vsd_guest_listeners(o) <= 2 * VSD_LIST_MAX + 2);
	MUST(o->guest_cid > VSP_CID_HOST && o->guest_cid < VSP_CID_ANY);
	MUST(!o->uds_path || (strlen(o->uds_path) + VSD_PORT_SUFFIX_MAX < VSD_PATH_MAX && *o->uds_path));
	MUST(!o->socket || (strlen(o->socket) < VSD_PATH_MAX && *o->socket));
	MUST(o->window >= 1 && o->window <= VSP_WINDOW_MAX);
	MUST(vsp_ring_size_valid(o->queue_size));
	MUST(o->conns_max >= 1 && o->conns_max <= VSD_CONNS_MAX);
	MUST(o->groups.n >= 1 && o->groups.n <= VSD_LIST_MAX && vsd_names_meet(&o->groups, &o->groups));
	for (u32 j = 0; j < i; j++)
		MUST(c->guests[j]->guest_cid != o->guest_cid &&
		     (!o->uds_path || !c->guests[j]->uds_path || strcmp(c->guests[j]->uds_path, o->uds_path) != 0));
}

/* First byte: a file, or the argument of a --vm. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vsd_blame b = { .file = "f" };
	struct vsd_config c;
	bool good;

	if (!size)
		return 0;
	vsd_config_init(&c);
	if (data[0] & 1) {
		char *spec = malloc(size);
		struct vsd_guest_opts *o;

		MUST(spec);
		memcpy(spec, data + 1, size - 1);
		spec[size - 1] = '\0';
		b = (struct vsd_blame){ .vm = true };
		o = vsd_config_add(&c, &b);
		good = o && vsd_guest_set_all(o, spec, &b);
		free(spec);
	} else {
		good = vsd_config_parse(&c, data + 1, size - 1, &b);
	}
	good = good && vsd_config_check(&c, &b);
	MUST(good == !b.text[0]);
	for (u32 i = 0; good && i < c.n; i++)
		check_guest(&c, i);
	vsd_config_free(&c);
	return 0;
}
