/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/waiting.h"

#include "base/clock.h"
#include "engine/method.h"

enum { ARENA_CAP_BYTES = 1 << 20 };

static void end(struct waiting *waiting)
{
	pthread_mutex_lock(&waiting->lock);
	waiting->over = true;
	pthread_cond_signal(&waiting->done);
	pthread_mutex_unlock(&waiting->lock);
}

static void on_finish(struct call *call, bool slow)
{
	(void)slow;
	end(call->edge);
}

static const struct call_ops OPS = {.finish = on_finish};

void waiting_start(struct waiting *waiting, struct engine *engine, struct reader *reader, const char *service,
                   const char *name, const ProtobufCMessage *request, int64_t deadline_ms)
{
	*waiting = (struct waiting){
		.call = call_new(&OPS, waiting, ARENA_CAP_BYTES),
		.started_ms = clock_ms(),
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.done = PTHREAD_COND_INITIALIZER,
	};
	waiting->call->method = method_by_name(service, name);
	waiting->call->request = request;
	waiting->call->deadline_ms = deadline_ms;
	if (call_start(engine, reader, waiting->call))
		end(waiting);
}

struct call *waiting_await(struct waiting *waiting)
{
	pthread_mutex_lock(&waiting->lock);
	while (!waiting->over)
		pthread_cond_wait(&waiting->done, &waiting->lock);
	pthread_mutex_unlock(&waiting->lock);
	return waiting->call;
}

bool waiting_is_over(struct waiting *waiting)
{
	bool over;

	pthread_mutex_lock(&waiting->lock);
	over = waiting->over;
	pthread_mutex_unlock(&waiting->lock);
	return over;
}
