/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that follows the log. It takes all records that are ready as one
 * batch, applies them in one database transaction, and when that is durable
 * lets the waiting calls go. It is the only writer of the database; what
 * compaction drops and what the write-ahead log holds too much of is its work
 * as well, in small steps between two batches.
 */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "engine/internal.h"
#include "engine/lessor.h"
#include "log/record.h"
#include "state/apply.h"
#include "state/compact.h"
#include "watch/hub.h"

enum {
	BATCH_RECORDS = 1024,
	RETRY_MS = 1000, /* after a failure, and between two looks for something to do */
	COMPACT_ROWS = 200, /* a step of about a millisecond */
	/* The applier finishes the checkpoint itself from here on; before, the housekeeper does the work. */
	WAL_MAX_PAGES = 4096,
	SCRATCH_BLOCK_BYTES = 256 * 1024,
};

struct item {
	struct call *call; /* of this node and still waiting, or NULL */
	struct applied applied;
};

struct applier {
	struct engine *engine;
	struct arena scratch; /* a decoded record, and its response if nobody waits for it */
	struct call_queue physical; /* compactions to be answered when the rows are gone */
	struct log_record records[BATCH_RECORDS];
	struct item items[BATCH_RECORDS];
	size_t count;
	int64_t compact_after_ms; /* on clock_ms's scale: a step failed, and is tried again then */
};

static void note_alarm(const char *kind, bool before, bool now)
{
	if (now && !before)
		logger_warn("applier", "alarm raised: writes are refused until it is cleared",
		            LOG_STR("alarm", kind), LOG_END);
	else if (before && !now)
		logger_info("applier", "alarm cleared", LOG_STR("alarm", kind), LOG_END);
}

static void publish(struct engine *engine)
{
	const struct store *st = engine->store;
	const struct store_state *state = &st->saved;
	bool nospace = st->saved_nospace, corrupt = st->saved_corrupt;

	atomic_store(&engine->cluster_id, state->cluster_id);
	atomic_store(&engine->member_id, state->member_id);
	atomic_store(&engine->term, state->term);
	atomic_store(&engine->compact_revision, state->compact_revision);
	atomic_store(&engine->logical_bytes, state->logical_bytes);
	atomic_store(&engine->revision, state->revision);
	if (nospace)
		atomic_store(&engine->alarm_proposed, false);
	note_alarm("NOSPACE", atomic_exchange(&engine->alarm_nospace, nospace), nospace);
	note_alarm("CORRUPT", atomic_exchange(&engine->alarm_corrupt, corrupt), corrupt);
	atomic_store(&engine->applied_offset, state->applied_offset);
}

/* Decodes a record and finds the call that waits for it. */
static enum status_code read_record(struct applier *applier, size_t at, Pb__Record **rec)
{
	struct engine *engine = applier->engine;
	const struct log_record *raw = &applier->records[at];
	struct item *item = &applier->items[at];
	enum status_code status;

	/* Nothing of the last record is needed: what its call is told lives in the call. */
	arena_reset(&applier->scratch);
	status = record_unpack(raw->data, raw->len, &applier->scratch, rec);
	if (status == STATUS_OK && item->call == NULL && (*rec)->incarnation == engine->incarnation)
		item->call = propose_take(engine, (*rec)->sequence);
	return status;
}

static enum status_code apply_record(struct applier *applier, size_t at, bool undoable)
{
	int64_t offset = applier->records[at].offset;
	struct item *item = &applier->items[at];
	int64_t started_us = clock_us();
	Pb__Record *rec;
	enum status_code status = read_record(applier, at, &rec);

	if (status != STATUS_OK) {
		logger_error("applier", "a log record could not be read", LOG_I64("offset", offset),
		             LOG_STR("error", status_code_name(status)), LOG_END);
		return status;
	}
	status = apply(applier->engine->store, rec, offset, undoable,
	               item->call != NULL ? &item->call->arena : &applier->scratch, &item->applied);
	metric_observe(METRIC_APPLY_SECONDS, clock_us() - started_us);
	return status;
}

/* Applies the batch and commits. */
static enum status_code apply_batch(struct applier *applier, bool undoable)
{
	struct store *st = applier->engine->store;
	enum status_code status = store_begin(st);

	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; status == STATUS_OK && i < applier->count; i++)
		status = apply_record(applier, i, undoable);
	if (status != STATUS_OK) {
		store_rollback(st);
		return status;
	}
	return store_commit(st);
}

static void count_request(const struct call *call)
{
	const ProtobufCMessageDescriptor *type = call->request->descriptor;

	if (type == &pb__put_request__descriptor)
		metric_add(METRIC_PUTS, 1);
	else if (type == &pb__txn_request__descriptor)
		metric_add(METRIC_TXNS, 1);
	else if (type == &pb__delete_range_request__descriptor)
		metric_add(METRIC_DELETES, ((const Pb__DeleteRangeResponse *)call->response)->deleted);
}

static bool waits_for_rows(const struct call *call)
{
	return call->request->descriptor == &pb__compaction_request__descriptor &&
	       ((const Pb__CompactionRequest *)call->request)->physical;
}

static void finish_item(struct applier *applier, struct item *item, enum status_code failure)
{
	struct call *call = item->call;

	if (call == NULL)
		return;
	if (failure != STATUS_OK) {
		call_fail(call, failure, NULL);
	} else if (item->applied.status != STATUS_OK) {
		call_fail(call, item->applied.status, NULL);
	} else if (call->refusal != STATUS_OK) {
		call_fail(call, call->refusal, NULL);
	} else {
		call->response = item->applied.response;
		count_request(call);
		if (waits_for_rows(call)) {
			call_queue_push(&applier->physical, call);
			return;
		}
	}
	call_finish(call, false);
}

/* A batch that could not be committed is refused. If the process ends before
 * another commit has overwritten it, it may turn out to be on disk after all, as
 * any write with an error of this kind may. The next batch is tried again: a
 * disk that was full may have room by then. */
static void note_outcome(struct engine *engine, enum status_code status)
{
	bool was_faulty = atomic_load(&engine->fault) != NULL;

	if (status == STATUS_OK) {
		if (was_faulty)
			logger_info("applier", "the database can be written again", LOG_END);
		atomic_store(&engine->fault, NULL);
		return;
	}
	atomic_store(&engine->fault, status_code_text(status));
	atomic_store(&engine->alarm_proposed, false); /* it may have been in there */
	logger_error("applier", "a batch could not be committed and its requests were refused",
	             LOG_STR("error", status_code_text(status)), LOG_END);
}

/* Calls wait for the records behind the one that failed, too. */
static void take_rest(struct applier *applier)
{
	Pb__Record *rec;

	for (size_t i = 0; i < applier->count; i++)
		if (applier->items[i].call == NULL)
			read_record(applier, i, &rec); /* one that cannot be read has no call to be found */
}

/* Watchers and the lessor hear of the batch before its clients do: who has been
 * told of a write finds that what follows from it has begun. */
static void tell(struct engine *engine, const struct store_state *old)
{
	struct store *st = engine->store;
	struct event_batch *news = store_take_news(st);
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	if (news != NULL)
		hub_publish(engine->hub, news);
	else if (st->saved.revision != old->revision)
		hub_advance(engine->hub, st->saved.revision);
	if (st->saved.compact_revision != old->compact_revision)
		hub_compacted(engine->hub, st->saved.compact_revision);
	/* A lease that nobody times would never end. Without memory nothing goes on until there is some. */
	while (lessor_note(engine->lessor, st->lease_notes, st->lease_note_count, clock_ms()) != STATUS_OK)
		nanosleep(&pause, NULL);
}

static void run_batch(struct applier *applier)
{
	struct engine *engine = applier->engine;
	struct store *st = engine->store;
	const struct store_state old = st->saved;
	int64_t started_us = clock_us();
	enum status_code status;

	for (size_t i = 0; i < applier->count; i++)
		applier->items[i] = (struct item){0};
	st->keeps_news = hub_wants_events(engine->hub);
	st->keeps_prev = hub_wants_prev(engine->hub);
	status = apply_batch(applier, false);
	if (status == STATUS_HALF_APPLIED)
		status = apply_batch(applier, true);
	if (status == STATUS_OK)
		tell(engine, &old);
	else
		take_rest(applier);
	metric_observe(METRIC_BATCH_RECORDS, (int64_t)applier->count);
	metric_observe(METRIC_COMMIT_SECONDS, clock_us() - started_us);
	note_outcome(engine, status);
	publish(engine);
	for (size_t i = 0; i < applier->count; i++)
		finish_item(applier, &applier->items[i], status);
	if (status == STATUS_OK)
		read_applied(engine, applier->records[applier->count - 1].offset);
}

static void finish_physical(struct applier *applier, enum status_code status)
{
	struct call *call;

	while ((call = call_queue_pop(&applier->physical)) != NULL) {
		if (status != STATUS_OK)
			call_fail(call, status, NULL);
		call_finish(call, false);
	}
}

/* The rows go on being dropped; only those who wait for it are let go. */
static void expire_physical(struct applier *applier)
{
	int64_t now_ms = clock_ms();
	struct call_queue rest;
	struct call *call;

	if (applier->physical.head == NULL)
		return;
	if (atomic_load(&applier->engine->draining)) {
		finish_physical(applier, STATUS_STOPPED);
		return;
	}
	call_queue_move(&rest, &applier->physical);
	while ((call = call_queue_pop(&rest)) != NULL) {
		if (call_is_expired(call, now_ms))
			call_finish_expired(call, now_ms);
		else
			call_queue_push(&applier->physical, call);
	}
}

static void compact(struct applier *applier)
{
	struct store *st = applier->engine->store;
	size_t dropped = 0;
	bool done = false;
	enum status_code status = store_begin(st);

	if (status == STATUS_OK)
		status = compact_step(st, COMPACT_ROWS, &dropped, &done);
	if (status == STATUS_OK)
		status = store_commit(st);
	else
		store_rollback(st);
	publish(applier->engine);
	if (status != STATUS_OK) {
		applier->compact_after_ms = clock_ms() + RETRY_MS;
		finish_physical(applier, status);
	} else if (done) {
		finish_physical(applier, STATUS_OK);
		if (dropped > 0)
			logger_debug("applier", "compaction finished",
			             LOG_I64("revision", st->view.state.compact_revision), LOG_END);
	}
	expire_physical(applier);
}

static bool is_compaction_due(const struct applier *applier)
{
	return compact_is_due(applier->engine->store) && clock_ms() >= applier->compact_after_ms;
}

/* After a failed commit, and while no client tries: whether one succeeds again. */
static void probe(struct applier *applier)
{
	struct store *st = applier->engine->store;
	enum status_code status = store_begin(st);

	if (status == STATUS_OK)
		status = store_commit(st);
	if (status == STATUS_OK)
		note_outcome(applier->engine, status);
}

static void *run(void *arg)
{
	struct applier *applier = arg;
	struct engine *engine = applier->engine;
	struct store *st = engine->store;

	while (!atomic_load(&engine->stopping) || applier->count > 0) {
		bool busy = is_compaction_due(applier);

		if (log_poll(engine->log, applier->records, BATCH_RECORDS, &applier->count,
		             busy ? 0 : RETRY_MS) != STATUS_OK)
			break;
		atomic_store(&engine->applying_since_ms, clock_ms());
		if (applier->count > 0)
			run_batch(applier);
		else if (atomic_load(&engine->fault) != NULL)
			probe(applier);
		if (is_compaction_due(applier))
			compact(applier);
		if (st->wal_pages > WAL_MAX_PAGES)
			store_restart_wal(st);
		atomic_store(&engine->applying_since_ms, 0);
	}
	finish_physical(applier, STATUS_STOPPED);
	arena_release(&applier->scratch);
	free(applier->scratch.first);
	free(applier);
	return NULL;
}

enum status_code applier_start(struct engine *engine)
{
	struct applier *applier = calloc(1, sizeof *applier);
	void *block = aligned_alloc(16, SCRATCH_BLOCK_BYTES);

	if (applier == NULL || block == NULL)
		goto fail;
	applier->engine = engine;
	arena_init(&applier->scratch, ENGINE_RESPONSE_CAP_BYTES, block, SCRATCH_BLOCK_BYTES);
	call_queue_init(&applier->physical);
	publish(engine);
	if (pthread_create(&engine->applier, NULL, run, applier) != 0)
		goto fail;
	pthread_setname_np(engine->applier, "keta-applier");
	engine->applier_started = true;
	return STATUS_OK;
fail:
	free(applier);
	free(block);
	return STATUS_NO_MEMORY;
}

void applier_stop(struct engine *engine)
{
	if (!engine->applier_started)
		return;
	log_wake(engine->log);
	pthread_join(engine->applier, NULL);
	engine->applier_started = false;
}
