// SPDX-License-Identifier: BSD-2-Clause
#include "engine/tail.h"

#include <stdlib.h>
#include <string.h>

enum {
	TAIL_ROOM_MIN = 4096,
};

static bool make_room(struct vsock_tail *t, u32 len)
{
	u64 need = (u64)t->len + len;
	u64 room = t->room ? t->room : TAIL_ROOM_MIN;
	u8 *bytes;

	if (need > UINT32_MAX / 2)
		return false;
	while (room < need)
		room *= 2;
	if (t->first + need <= t->room)
		return true;
	if (t->first && room == t->room) {
		memmove(t->bytes, t->bytes + t->first, t->len);
		t->first = 0;
		return true;
	}
	bytes = malloc(room);
	if (!bytes)
		return false;
	if (t->len)
		memcpy(bytes, t->bytes + t->first, t->len);
	free(t->bytes);
	t->bytes = bytes;
	t->first = 0;
	t->room = (u32)room;
	return true;
}

void *vsock_tail_reserve(struct vsock_tail *t, u32 len)
{
	if (!make_room(t, len))
		return NULL;
	t->len += len;
	return t->bytes + t->first + t->len - len;
}

bool vsock_tail_add(struct vsock_tail *t, const void *bytes, u32 len)
{
	void *to = vsock_tail_reserve(t, len);

	if (to)
		memcpy(to, bytes, len);
	return to;
}

void vsock_tail_drop(struct vsock_tail *t, u32 len)
{
	t->first += len;
	t->len -= len;
	if (!t->len)
		vsock_tail_clear(t);
}

void vsock_tail_clear(struct vsock_tail *t)
{
	free(t->bytes);
	*t = (struct vsock_tail){ .bytes = NULL };
}
