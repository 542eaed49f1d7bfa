/* SPDX-License-Identifier: Apache-2.0 */
/* What a thread has of the engine: a view to read with, and if it listens, the shard and the timers of its
 * streams. */
#include <stdlib.h>

#include "engine/internal.h"
#include "engine/waiter.h"
#include "watch/shard.h"

enum status_code reader_new(struct engine *engine, enum view_use use, struct reader **out)
{
	struct reader *reader = calloc(1, sizeof *reader);
	enum status_code status;

	if (reader == NULL)
		return STATUS_NO_MEMORY;
	reader->engine = engine;
	reader->next_due_ms = INT64_MAX;
	reader->homecoming.task.run = read_come_home;
	reader->homecoming.reader = reader;
	pthread_mutex_init(&reader->homecoming.lock, NULL);
	call_queue_init(&reader->homecoming.calls);
	status = store_view(engine->store, use, &reader->view);
	if (status != STATUS_OK) {
		free(reader);
		return status;
	}
	*out = reader;
	return STATUS_OK;
}

enum status_code engine_reader_new(struct engine *engine, struct reader **out)
{
	return reader_new(engine, VIEW_SHORT_READ, out);
}

enum status_code engine_reader_listen(struct reader *reader, engine_wake_fn *wake, void *arg)
{
	reader->shard = shard_new(reader->engine->hub, wake, arg);
	return reader->shard != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

void engine_reader_rest(struct reader *reader)
{
	view_rest(&reader->view);
}

void engine_reader_free(struct reader *reader)
{
	if (reader == NULL)
		return;
	keep_alive_leave(reader);
	shard_free(reader->shard);
	pthread_mutex_destroy(&reader->homecoming.lock);
	view_close(&reader->view);
	free(reader);
}

bool engine_reader_is_idle(const struct reader *reader)
{
	return reader->tasks == 0;
}

static void link_timer(struct reader_timer **list, struct reader_timer *timer)
{
	timer->list = list;
	timer->prev = NULL;
	timer->next = *list;
	if (timer->next != NULL)
		timer->next->prev = timer;
	*list = timer;
}

void reader_set_timer(struct reader *reader, struct reader_timer *timer, int64_t due_ms)
{
	timer->due_ms = due_ms;
	link_timer(&reader->timers, timer);
	if (due_ms < reader->next_due_ms)
		reader->next_due_ms = due_ms;
}

void reader_clear_timer(struct reader_timer *timer)
{
	if (timer->list == NULL)
		return;
	if (timer->prev != NULL)
		timer->prev->next = timer->next;
	else
		*timer->list = timer->next;
	if (timer->next != NULL)
		timer->next->prev = timer->prev;
	timer->list = NULL;
}

/* Those that are due get a list of their own first: one that is run may set
 * itself again, or clear another. */
static void run_timers(struct reader *reader, int64_t now_ms)
{
	struct reader_timer *next;

	if (now_ms < reader->next_due_ms)
		return;
	reader->next_due_ms = INT64_MAX;
	for (struct reader_timer *timer = reader->timers; timer != NULL; timer = next) {
		next = timer->next;
		if (timer->due_ms <= now_ms) {
			reader_clear_timer(timer);
			link_timer(&reader->due, timer);
		} else if (timer->due_ms < reader->next_due_ms) {
			reader->next_due_ms = timer->due_ms;
		}
	}
	while (reader->due != NULL) {
		struct reader_timer *timer = reader->due;

		reader_clear_timer(timer);
		timer->run(timer, now_ms);
	}
}

int64_t engine_reader_run(struct reader *reader, int64_t now_ms)
{
	bool more = shard_run(reader->shard);

	if (atomic_load_explicit(&reader->engine->draining, memory_order_relaxed))
		waiters_drain(reader);
	run_timers(reader, now_ms);
	return more ? 0 : reader->next_due_ms;
}
