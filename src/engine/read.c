/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads that cannot run where they came from: linearizable ones whose barrier
 * is not applied yet, and long ones. Waiting costs no thread; both end on one
 * of a few reader threads, each with a view of its own.
 *
 * The barrier's answer may come before log_barrier returns, or on another
 * thread at any time. Whoever comes second, starter or answer, moves the call
 * on: barrier_step is exchanged by both.
 */
#include <stdlib.h>

#include "engine/internal.h"

enum barrier_step { BARRIER_ASKED, BARRIER_LEFT, BARRIER_ANSWERED };

/* Puts a call where it belongs: its barrier is known. */
static void dispatch(struct engine *engine, struct call *call)
{
	bool ready;

	if (call->status.code != STATUS_OK) {
		call_finish(call, false);
		return;
	}
	pthread_mutex_lock(&engine->read_lock);
	ready = call->barrier_offset <= atomic_load(&engine->applied_offset);
	engine->read_count += ready;
	call_queue_push(ready ? &engine->reads : &engine->barred, call);
	pthread_mutex_unlock(&engine->read_lock);
	if (ready)
		pthread_cond_signal(&engine->read_ready);
}

static void on_barrier(void *arg, enum status_code status, int64_t offset)
{
	struct call *call = arg;

	call->barrier_offset = offset;
	if (status != STATUS_OK)
		call_fail(call, status, NULL);
	if (__atomic_exchange_n(&call->barrier_step, BARRIER_ANSWERED, __ATOMIC_ACQ_REL) == BARRIER_LEFT)
		dispatch(call->engine, call);
}

bool read_barrier(struct engine *engine, struct call *call)
{
	enum status_code status;

	call->barrier_step = BARRIER_ASKED;
	status = log_barrier(engine->log, on_barrier, call);
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	if (__atomic_exchange_n(&call->barrier_step, BARRIER_LEFT, __ATOMIC_ACQ_REL) != BARRIER_ANSWERED)
		return false;
	if (call->status.code != STATUS_OK || call->barrier_offset <= atomic_load(&engine->applied_offset))
		return true;
	dispatch(engine, call);
	return false;
}

bool read_later(struct engine *engine, struct call *call)
{
	bool full;

	pthread_mutex_lock(&engine->read_lock);
	full = engine->read_count >= ENGINE_READS_MAX;
	if (!full) {
		engine->read_count++;
		call_queue_push(&engine->reads, call);
	}
	pthread_mutex_unlock(&engine->read_lock);
	if (full)
		return call_fail(call, STATUS_TOO_MANY_REQUESTS, NULL);
	pthread_cond_signal(&engine->read_ready);
	return false;
}

void read_applied(struct engine *engine, int64_t offset)
{
	struct call_queue barred;
	struct call *call;
	bool any = false;

	pthread_mutex_lock(&engine->read_lock);
	if (engine->barred.head != NULL) {
		call_queue_move(&barred, &engine->barred);
		while ((call = call_queue_pop(&barred)) != NULL) {
			bool ready = call->barrier_offset <= offset;

			any |= ready;
			engine->read_count += ready;
			call_queue_push(ready ? &engine->reads : &engine->barred, call);
		}
	}
	pthread_mutex_unlock(&engine->read_lock);
	if (any)
		pthread_cond_broadcast(&engine->read_ready);
}

/* Moves the calls that nobody waits for any more from one queue to another. */
static size_t sift(struct call_queue *queue, struct call_queue *over, int64_t now_ms)
{
	struct call_queue rest;
	struct call *call;
	size_t moved = 0;

	if (queue->head == NULL)
		return 0;
	call_queue_move(&rest, queue);
	while ((call = call_queue_pop(&rest)) != NULL) {
		bool gone = call_is_expired(call, now_ms) || atomic_load(&call->canceled);

		moved += gone;
		call_queue_push(gone ? over : queue, call);
	}
	return moved;
}

void read_expire(struct engine *engine, int64_t now_ms)
{
	struct call_queue over;
	struct call *call;

	call_queue_init(&over);
	pthread_mutex_lock(&engine->read_lock);
	sift(&engine->barred, &over, now_ms);
	engine->read_count -= sift(&engine->reads, &over, now_ms);
	pthread_mutex_unlock(&engine->read_lock);
	while ((call = call_queue_pop(&over)) != NULL)
		call_finish_expired(call, now_ms);
}

/* The next call, or NULL when the threads are to end. */
static struct call *next_read(struct engine *engine)
{
	struct call *call;

	pthread_mutex_lock(&engine->read_lock);
	while (engine->reads.head == NULL && !atomic_load(&engine->stopping))
		pthread_cond_wait(&engine->read_ready, &engine->read_lock);
	call = call_queue_pop(&engine->reads);
	engine->read_count -= call != NULL;
	pthread_mutex_unlock(&engine->read_lock);
	return call;
}

struct reader_thread {
	struct engine *engine;
	struct reader *reader;
};

static void *run_reads(void *arg)
{
	struct reader_thread *self = arg;
	struct call *call;

	while ((call = next_read(self->engine)) != NULL) {
		bool over;

		self->reader->view.canceled = &call->canceled;
		over = call->resume(self->engine, self->reader, call);
		self->reader->view.canceled = NULL;
		engine_reader_rest(self->reader);
		if (over)
			call_finish(call, true);
	}
	engine_reader_free(self->reader);
	free(self);
	return NULL;
}

static enum status_code start_thread(struct engine *engine)
{
	struct reader_thread *self = calloc(1, sizeof *self);
	enum status_code status;

	if (self == NULL)
		return STATUS_NO_MEMORY;
	self->engine = engine;
	status = reader_new(engine, VIEW_LONG_READ, &self->reader);
	if (status == STATUS_OK &&
	    pthread_create(&engine->readers[engine->reader_count], NULL, run_reads, self) != 0) {
		engine_reader_free(self->reader);
		status = STATUS_NO_MEMORY;
	}
	if (status != STATUS_OK) {
		free(self);
		return status;
	}
	pthread_setname_np(engine->readers[engine->reader_count], "keta-reader");
	engine->reader_count++;
	return STATUS_OK;
}

enum status_code read_start_threads(struct engine *engine)
{
	enum status_code status = STATUS_OK;

	for (int i = 0; status == STATUS_OK && i < ENGINE_READER_THREADS; i++)
		status = start_thread(engine);
	return status;
}

void read_stop_threads(struct engine *engine)
{
	pthread_mutex_lock(&engine->read_lock);
	pthread_cond_broadcast(&engine->read_ready);
	pthread_mutex_unlock(&engine->read_lock);
	while (engine->reader_count > 0)
		pthread_join(engine->readers[--engine->reader_count], NULL);
}
