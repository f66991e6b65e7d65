// SPDX-License-Identifier: BSD-2-Clause
/*
 * fuzz_command.c - libFuzzer target for the line by which a host client says where it wants to go
 *
 * Properties: what was understood ends with the first newline, and nothing behind it changes the verdict; before that
 * newline, a line that is still short enough is a part and not yet right or wrong.
 */
#include "fuzz.h"

#include "daemon/command.h"
#include "kernel/proto/wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char bytes[2 * VSD_COMMAND_MAX] = "";
	u32 len = size < sizeof(bytes) ? (u32)size : (u32)sizeof(bytes);
	struct vsd_command whole;
	const char *newline;

	if (len)
		memcpy(bytes, data, len);
	whole = vsd_command_parse(bytes, len);
	newline = memchr(bytes, '\n', len < VSD_COMMAND_MAX ? len : VSD_COMMAND_MAX);
	for (u32 n = 0; n < len && n < VSD_COMMAND_MAX && (!newline || n <= (u32)(newline - bytes)); n++)
		MUST(vsd_command_parse(bytes, n).what == VSD_COMMAND_PART);
	if (!newline) {
		MUST(whole.what == (len < VSD_COMMAND_MAX ? VSD_COMMAND_PART : VSD_COMMAND_BAD));
		return 0;
	}
	MUST(whole.what != VSD_COMMAND_PART && whole.len == (u32)(newline - bytes) + 1);
	MUST(whole.what == VSD_COMMAND_BAD || whole.port < VSP_PORT_ANY);
	MUST(!whole.two || (whole.what == VSD_COMMAND_CONNECT && whole.second < VSP_PORT_ANY));
	memset(bytes + whole.len, 'x', sizeof(bytes) - whole.len);
	MUST(vsd_command_parse(bytes, sizeof(bytes)).what == whole.what);
	MUST(vsd_command_parse(bytes, sizeof(bytes)).port == whole.port);
	whole = vsd_passed_parse(bytes, len);
	MUST(whole.what == VSD_COMMAND_BAD || (whole.what == VSD_COMMAND_PASSFD && whole.port < VSP_PORT_ANY));
	return 0;
}
