/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads that cannot run where they came from: linearizable ones whose barrier
 * is not applied yet, and long ones. Waiting costs no thread. Long ones end on one
 * of a few reader threads, each with a view of its own; a short one that came from
 * an event loop goes on there.
 *
 * A barrier is a record of this node's that was given to the log after the read
 * came: when it is applied, everything that was acknowledged anywhere before is
 * applied too. A record that was on its way already will not do, for it may
 * stand in the log in front of what another node has acknowledged meanwhile. Any
 * later one will; reads that come while nothing else is proposed get a record of
 * their own, one for all that wait at that moment.
 *
 *     read comes ── floor = next number ── barred ──► a record numbered >= floor is applied ──► reads
 *
 * Without a shared log there is nothing to wait for: what was acknowledged was
 * committed here before.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "engine/internal.h"

enum {
	/* A barrier that is not back by then may have been lost. */
	BARRIER_RETRY_MS = 500,
	/* Where so many reads come at a time, the next barrier waits a little for more to share it:
	   it costs a broker, and all on its way, as much as some dozens of reads do. */
	GATHER_READS = 16,
	GATHER_US = 1000,
};

/* Appends a barrier for those who wait. One is on its way at a time: those who
 * come meanwhile share the next. */
static enum status_code append_barrier(struct engine *engine)
{
	Pb__Barrier barrier = PB__BARRIER__INIT;
	uint64_t sequence;
	enum status_code status = propose_internal(engine, &barrier.base, &sequence);

	if (status != STATUS_OK)
		return status;
	metric_add(METRIC_BARRIERS, 1);
	/* It may have been applied, or have failed, by now: who waits is looked after by the
	 * housekeeper then. */
	pthread_mutex_lock(&engine->read_lock);
	engine->barrier_sequence = sequence;
	engine->barrier_asked_ms = clock_ms();
	pthread_mutex_unlock(&engine->read_lock);
	return STATUS_OK;
}

/* Whether most of those wait that come at a time, or few enough come not to
 * wait for others. Under the lock. */
static bool is_gathered(const struct engine *engine)
{
	return engine->read_crowd < GATHER_READS || 4 * engine->barred_count >= 3 * engine->read_crowd;
}

/* Asks for those who wait. Under the lock, which it gives up. */
static void ask(struct engine *engine)
{
	engine->barrier_on_way = true;
	engine->barrier_due_us = 0;
	pthread_mutex_unlock(&engine->read_lock);
	if (append_barrier(engine) != STATUS_OK)
		read_append_failed(engine, 0);
}

bool read_barrier(struct engine *engine, struct call *call)
{
	if (!engine->shared)
		return true;
	if (!atomic_load_explicit(&engine->joined, memory_order_relaxed))
		return call_fail(call, STATUS_NOT_READY, NULL);
	if (engine_log_fault(engine) != NULL)
		return call_fail(call, STATUS_TIMEOUT, engine_log_fault(engine));
	if (engine->watermark != NULL)
		return watermark_barrier(engine, call);
	call->barrier_sequence = propose_next(engine);
	pthread_mutex_lock(&engine->read_lock);
	call_queue_push(&engine->barred, call);
	engine->barred_count++;
	if (engine->barred.head == call || call->barrier_sequence > engine->barred_newest)
		engine->barred_newest = call->barrier_sequence;
	/* From here on the call may be finished by another thread. */
	if (!engine->barrier_on_way && (engine->barrier_due_us == 0 || is_gathered(engine)))
		ask(engine);
	else
		pthread_mutex_unlock(&engine->read_lock);
	return false;
}

/* Sees to it that something is on its way that they wait for, while anybody
 * waits. Under the lock, which it gives up. */
static void go_on(struct engine *engine)
{
	uint64_t next = propose_next(engine);

	engine->barrier_on_way = false;
	if (engine->barred.head != NULL && engine->barred_newest < next) {
		/* The newest record was proposed after all who wait had come: it serves as well. */
		engine->barrier_on_way = true;
		engine->barrier_sequence = next - 1;
		engine->barrier_asked_ms = clock_ms();
	} else if (!is_gathered(engine)) {
		engine->barrier_due_us = clock_us() + GATHER_US;
	} else if (engine->barred.head != NULL) {
		ask(engine);
		return;
	}
	pthread_mutex_unlock(&engine->read_lock);
}

int read_tick(struct engine *engine, int timeout_ms)
{
	bool gathering;

	pthread_mutex_lock(&engine->read_lock);
	gathering = engine->barrier_due_us != 0;
	if (gathering && clock_us() >= engine->barrier_due_us) {
		engine->barrier_due_us = 0;
		gathering = false;
		if (engine->barred.head != NULL && !engine->barrier_on_way) {
			ask(engine);
			return timeout_ms;
		}
	}
	pthread_mutex_unlock(&engine->read_lock);
	return gathering && timeout_ms > 1 ? 1 : timeout_ms;
}

void read_append_failed(struct engine *engine, uint64_t sequence)
{
	pthread_mutex_lock(&engine->read_lock);
	if (sequence == 0 || sequence == engine->barrier_sequence)
		engine->barrier_on_way = false; /* the housekeeper asks again */
	pthread_mutex_unlock(&engine->read_lock);
}

void read_retry_barrier(struct engine *engine)
{
	pthread_mutex_lock(&engine->read_lock);
	if (engine->barred.head == NULL ||
	    (engine->barrier_on_way && clock_ms() < engine->barrier_asked_ms + BARRIER_RETRY_MS)) {
		pthread_mutex_unlock(&engine->read_lock);
		return;
	}
	ask(engine); /* what was on its way did not come */
}

/* Lets a read go on on the thread that it came from. */
static void send_home(struct call *call)
{
	struct homecoming *home = &call->home->homecoming;
	struct shard *shard = call->home->shard;
	bool post;

	pthread_mutex_lock(&home->lock);
	call_queue_push(&home->calls, call);
	post = !home->posted;
	home->posted = true;
	pthread_mutex_unlock(&home->lock);
	if (post)
		shard_post(shard, &home->task);
}

static struct homecoming *of_task(struct shard_task *task)
{
	return (struct homecoming *)task; /* it is the first member */
}

void read_come_home(struct shard *shard, struct shard_task *task)
{
	struct homecoming *home = of_task(task);
	struct engine *engine = home->reader->engine;
	struct call_queue calls;
	struct call *call;

	(void)shard;
	pthread_mutex_lock(&home->lock);
	call_queue_move(&calls, &home->calls);
	home->posted = false;
	pthread_mutex_unlock(&home->lock);
	while ((call = call_queue_pop(&calls)) != NULL)
		if (call->resume_home(engine, home->reader, call))
			call_finish(call, false);
}

/* Parts those whose record is applied from those who wait on. Under the lock. */
static size_t pass(struct engine *engine, uint64_t sequence, struct call_queue *homeward)
{
	struct call_queue barred;
	struct call *call;
	size_t ready = 0;

	call_queue_move(&barred, &engine->barred);
	engine->barred_count = 0;
	while ((call = call_queue_pop(&barred)) != NULL) {
		if (call->barrier_sequence > sequence) {
			call_queue_push(&engine->barred, call);
			engine->barred_count++;
			continue;
		}
		ready++;
		engine->read_count += call->home == NULL;
		call_queue_push(call->home != NULL ? homeward : &engine->reads, call);
	}
	return ready;
}

static void note_crowd(struct engine *engine, size_t crowd)
{
	size_t faded = engine->read_crowd - (engine->read_crowd + 7) / 8;

	engine->read_crowd = crowd > faded ? crowd : faded;
}

void read_applied(struct engine *engine, uint64_t sequence)
{
	struct call_queue homeward;
	struct call *call;
	size_t ready = 0;
	bool any_here;

	call_queue_init(&homeward);
	pthread_mutex_lock(&engine->read_lock);
	if (engine->barred.head != NULL)
		ready = pass(engine, sequence, &homeward);
	any_here = engine->reads.head != NULL;
	if (engine->barrier_on_way && sequence >= engine->barrier_sequence &&
	    engine->barrier_sequence != 0) {
		note_crowd(engine, ready + engine->barred_count);
		go_on(engine);
	} else {
		pthread_mutex_unlock(&engine->read_lock);
	}
	if (ready > 0)
		metric_observe(METRIC_BARRIER_READS, (int64_t)ready);
	if (any_here)
		pthread_cond_broadcast(&engine->read_ready);
	while ((call = call_queue_pop(&homeward)) != NULL)
		send_home(call);
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
	engine->barred_count -= sift(&engine->barred, &over, now_ms);
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

static void run_read(struct engine *engine, struct reader *reader, struct call *call)
{
	bool over;

	reader->view.canceled = &call->canceled;
	over = call->resume(engine, reader, call);
	reader->view.canceled = NULL;
	engine_reader_rest(reader);
	if (over)
		call_finish(call, true);
}

void read_run_ready(struct engine *engine, struct reader *reader)
{
	struct call *call;

	do {
		pthread_mutex_lock(&engine->read_lock);
		call = call_queue_pop(&engine->reads);
		engine->read_count -= call != NULL;
		pthread_mutex_unlock(&engine->read_lock);
		if (call != NULL)
			run_read(engine, reader, call);
	} while (call != NULL);
}

static void *run_reads(void *arg)
{
	struct reader_thread *self = arg;
	struct call *call;

	while ((call = next_read(self->engine)) != NULL)
		run_read(self->engine, self->reader, call);
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
