/* SPDX-License-Identifier: Apache-2.0 */
/* A call that was over at once needs no way back; any other comes by the shard. */
#include "engine/inner.h"

enum { INNER_ARENA_BYTES = 64 << 20 };

static void arrive(struct shard *shard, struct shard_task *task)
{
	struct inner *inner = (struct inner *)task;

	(void)shard;
	inner->reader->tasks--;
	inner_conclude(inner);
}

/* On the thread that finished the call. */
static void finish(struct call *call, bool slow)
{
	struct inner *inner = call->edge;

	(void)slow;
	inner->task.run = arrive;
	shard_post(inner->reader->shard, &inner->task);
}

static const struct call_ops INNER_OPS = {.finish = finish};

struct call *inner_new(struct inner *inner, const char *service, const char *name, const char *token,
                       int64_t deadline_ms)
{
	struct call *call = call_new(&INNER_OPS, inner, INNER_ARENA_BYTES);

	if (call == NULL)
		return NULL;
	call->method = method_by_name(service, name);
	call->token = token;
	call->deadline_ms = deadline_ms;
	inner->call = call;
	return call;
}

bool inner_launch(struct inner *inner, inner_done_fn *done)
{
	struct call *call = inner->call;

	inner->done = done;
	inner->reader->tasks++;
	if (call->request == NULL)
		call_fail(call, STATUS_NO_MEMORY, NULL);
	else if (!call_start(inner->reader->engine, inner->reader, call))
		return false;
	inner->reader->tasks--;
	return true;
}

void inner_conclude(struct inner *inner)
{
	struct call *call = inner->call;

	inner->call = NULL;
	inner->done(inner, call);
	call_free(call);
}

void inner_start(struct inner *inner, inner_done_fn *done)
{
	if (inner_launch(inner, done))
		inner_conclude(inner);
}
