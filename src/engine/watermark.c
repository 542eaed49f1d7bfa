/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other way to know how far a linearizable read has to wait
 * (read.barrier=watermark): the log is asked where it ends, once for all reads
 * that wait at that moment. It writes no record; but what answers may be a broker
 * that does not know yet that it leads the partition no more, and then the read
 * may miss what was acknowledged meanwhile.
 */
#include <stdlib.h>

#include "base/metrics.h"
#include "engine/internal.h"

struct watermark {
	struct engine *engine;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t asked;
	struct call_queue asking; /* who came since the last question */
	struct call_queue barred; /* until call->barrier_offset is applied */
	bool stopping;
	pthread_t thread;
	bool started;
};

static void let_go(struct engine *engine, struct call_queue *ready)
{
	struct call *call;

	while ((call = call_queue_pop(ready)) != NULL) {
		if (call->status.code != STATUS_OK || read_later(engine, call))
			call_finish(call, false);
	}
}

/* Parts those whose offset is applied, or that ended, from those that wait on. Under the lock. */
static void sift(struct watermark *watermark, int64_t applied, int64_t now_ms, struct call_queue *ready)
{
	struct call_queue all;
	struct call *call;

	call_queue_move(&all, &watermark->barred);
	while ((call = call_queue_pop(&all)) != NULL) {
		bool is_applied = call->barrier_offset <= applied;

		if (!is_applied && now_ms != 0 &&
		    (call_is_expired(call, now_ms) || atomic_load(&call->canceled)))
			call_fail(call, call_is_expired(call, now_ms) ? STATUS_TIMEOUT : STATUS_CANCELED,
			          NULL);
		call_queue_push(is_applied || call->status.code != STATUS_OK ? ready : &watermark->barred,
		                call);
	}
}

void watermark_applied(struct engine *engine, int64_t now_ms)
{
	struct watermark *watermark = engine->watermark;
	struct call_queue ready;

	call_queue_init(&ready);
	pthread_mutex_lock(&watermark->lock);
	if (watermark->barred.head != NULL)
		sift(watermark, atomic_load(&engine->applied_offset), now_ms, &ready);
	pthread_mutex_unlock(&watermark->lock);
	let_go(engine, &ready);
}

/* Takes the question of all who wait to the log. */
static void ask(struct watermark *watermark, struct call_queue *asking)
{
	struct engine *engine = watermark->engine;
	int64_t first, end, count = 0;
	enum status_code status = log_bounds(engine->log, &first, &end);
	struct call *call;

	metric_add(METRIC_BARRIERS, 1);
	pthread_mutex_lock(&watermark->lock);
	while ((call = call_queue_pop(asking)) != NULL) {
		call->barrier_offset = status == STATUS_OK ? end - 1 : INT64_MAX;
		call_queue_push(&watermark->barred, call); /* without an answer, until its time is up */
		count++;
	}
	pthread_mutex_unlock(&watermark->lock);
	metric_observe(METRIC_BARRIER_READS, count);
	watermark_applied(engine, 0);
}

static void *run(void *arg)
{
	struct watermark *watermark = arg;
	struct call_queue asking;
	bool stopping = false;

	while (!stopping) {
		pthread_mutex_lock(&watermark->lock);
		while (watermark->asking.head == NULL && !watermark->stopping)
			pthread_cond_wait(&watermark->asked, &watermark->lock);
		call_queue_move(&asking, &watermark->asking);
		stopping = watermark->stopping;
		pthread_mutex_unlock(&watermark->lock);
		if (asking.head != NULL)
			ask(watermark, &asking);
	}
	return NULL;
}

bool watermark_barrier(struct engine *engine, struct call *call)
{
	struct watermark *watermark = engine->watermark;

	pthread_mutex_lock(&watermark->lock);
	call_queue_push(&watermark->asking, call);
	pthread_mutex_unlock(&watermark->lock);
	pthread_cond_signal(&watermark->asked);
	return false;
}

enum status_code watermark_start(struct engine *engine)
{
	struct watermark *watermark = calloc(1, sizeof *watermark);

	if (watermark == NULL)
		return STATUS_NO_MEMORY;
	watermark->engine = engine;
	call_queue_init(&watermark->asking);
	call_queue_init(&watermark->barred);
	pthread_mutex_init(&watermark->lock, NULL);
	pthread_cond_init(&watermark->asked, NULL);
	engine->watermark = watermark;
	if (pthread_create(&watermark->thread, NULL, run, watermark) != 0)
		return STATUS_NO_MEMORY;
	pthread_setname_np(watermark->thread, "keta-watermark");
	watermark->started = true;
	return STATUS_OK;
}

void watermark_stop(struct engine *engine)
{
	struct watermark *watermark = engine->watermark;

	if (watermark == NULL)
		return;
	pthread_mutex_lock(&watermark->lock);
	watermark->stopping = true;
	pthread_mutex_unlock(&watermark->lock);
	pthread_cond_signal(&watermark->asked);
	if (watermark->started)
		pthread_join(watermark->thread, NULL);
	pthread_cond_destroy(&watermark->asked);
	pthread_mutex_destroy(&watermark->lock);
	free(watermark);
	engine->watermark = NULL;
}
