/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a call; engine/dispatch.c runs it. */
#include "engine/call.h"

#include <stdlib.h>
#include <string.h>

struct call *call_new(const struct call_ops *ops, void *edge, size_t arena_cap)
{
	struct call *call = malloc(sizeof *call);

	if (call == NULL)
		return NULL;
	/* The first block is not cleared: it is half of the call. */
	memset(call, 0, offsetof(struct call, first_block));
	call->ops = ops;
	call->edge = edge;
	arena_init(&call->arena, arena_cap, call->first_block, sizeof call->first_block);
	return call;
}

void call_free(struct call *call)
{
	if (call == NULL)
		return;
	arena_release(&call->arena);
	free(call);
}

void call_cancel(struct call *call)
{
	atomic_store(&call->canceled, true);
	if (call->cancel != NULL)
		call->cancel(call);
}

bool call_fail(struct call *call, enum status_code code, const char *message)
{
	call->status = (struct status){.code = code, .message = message};
	call->response = NULL;
	return true;
}
