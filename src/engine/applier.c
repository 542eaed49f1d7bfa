/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that follows the log. It takes all records that are ready as one
 * batch, applies them in one database transaction, and when that is durable
 * lets the waiting calls go. It is the only writer of the database; what
 * compaction drops and what the write-ahead log holds too much of is its work
 * as well, in small steps between two batches.
 *
 * Under a shared log writes are answered before the commit (engine/early.c), and a
 * batch that cannot be committed here is applied by the others: it is tried again
 * until it can. A record that cannot be read stops this node, since nothing after
 * it may be applied.
 */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "engine/attempt.h"
#include "engine/internal.h"
#include "engine/lessor.h"
#include "engine/places.h"
#include "log/record.h"
#include "state/apply.h"
#include "state/cluster.h"
#include "state/compact.h"
#include "state/data_dir.h"
#include "watch/hub.h"

enum {
	BATCH_RECORDS = 1024,
	RETRY_MS = 1000,    /* after a failure, and between two looks for something to do */
	COMPACT_ROWS = 200, /* a step of about a millisecond */
	/* The applier finishes the checkpoint itself from here on; before, the housekeeper does the work.
	 */
	WAL_MAX_PAGES = 4096,
	SCRATCH_BLOCK_BYTES = 256 * 1024,
	PAUSE_NS = 20 * 1000 * 1000, /* between two looks whether a batch is to be tried again */
};

struct item {
	struct call *call; /* of this node and still waiting, or NULL */
	struct applied applied;
	/* What the engine itself has to know of the record; it is gone when the batch is committed. */
	uint64_t own_sequence; /* of one of this node's, or 0 */
	uint64_t term;         /* that it took, as this one's owner */
	struct vote vote;      /* what it says about hashes */
	Pb__Record__RequestCase kind;
	bool undecided; /* of a verdict */
};

struct applier {
	struct engine *engine;
	struct arena scratch;       /* a decoded record, and its response if nobody waits for it */
	struct call_queue physical; /* compactions to be answered when the rows are gone */
	struct log_record records[BATCH_RECORDS];
	struct item items[BATCH_RECORDS];
	size_t count;
	size_t start;             /* records before this one are applied: what comes next could not be */
	size_t end;               /* of those that this turn tries to apply */
	int64_t compact_after_ms; /* on clock_ms's scale: a step failed, and is tried again then */
	struct places *places;    /* NULL unless the log is shared */
	bool again;               /* the batch could not be committed and is to be tried again, then: */
	int64_t retry_ms;
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

	if (engine->shared && state->cluster_id != 0 && atomic_load(&engine->member_id) == 0)
		atomic_store(&engine->member_id,
		             cluster_member_id(state->cluster_id, engine->cluster.node_name));
	else if (!engine->shared)
		atomic_store(&engine->member_id, state->member_id);
	atomic_store(&engine->cluster_id, state->cluster_id);
	atomic_store(&engine->owner, state->owner);
	atomic_store(&engine->owner_member, state->owner_member);
	atomic_store(&engine->covered_offset, state->covered_offset);
	atomic_store(&engine->level, (uint32_t)state->level);
	atomic_store(&engine->term, state->term);
	atomic_store(&engine->compact_revision, state->compact_revision);
	atomic_store(&engine->logical_bytes, state->logical_bytes);
	atomic_store(&engine->revision, state->revision);
	if (nospace)
		atomic_store(&engine->alarm_proposed, false);
	note_alarm("NOSPACE", atomic_exchange(&engine->alarm_nospace, nospace), nospace);
	note_alarm("CORRUPT", atomic_exchange(&engine->alarm_corrupt, corrupt), corrupt);
	pthread_mutex_lock(&engine->place_lock);
	engine->place_offset = state->applied_offset;
	engine->place_record = state->record_hash;
	engine->place_chain = state->chain;
	atomic_store(&engine->state_hash, state->hash);
	atomic_store(&engine->applied_offset, state->applied_offset);
	pthread_mutex_unlock(&engine->place_lock);
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
	status = record_unpack(raw->data, raw->len, engine->cluster.max_level, &applier->scratch, rec);
	if (status != STATUS_OK || (*rec)->incarnation != engine->incarnation)
		return status;
	if (item->call == NULL)
		item->call = propose_take(engine, (*rec)->sequence);
	item->own_sequence = (*rec)->sequence;
	return status;
}

static void note_passed(struct applier *applier, size_t at)
{
	struct store *st = applier->engine->store;
	const struct log_record *raw = &applier->records[at];

	store_note_record(st, raw->data, raw->len);
	places_add(applier->places, raw->offset, st->view.state.chain, st->view.state.hash);
}

/* One that the cluster's operator has decided to do without. */
static enum status_code skip(struct applier *applier, size_t at)
{
	enum status_code status = apply_skip(applier->engine->store, applier->records[at].offset);

	logger_warn("applier", "a log record is passed over, as log.skip.offset says",
	            LOG_I64("offset", applier->records[at].offset), LOG_END);
	applier->items[at].applied = (struct applied){.status = STATUS_TIMEOUT, .ignored = true};
	if (status == STATUS_OK)
		note_passed(applier, at);
	return status;
}

/* A record that cannot be read: it is passed over if the cluster's operator says
 * so. Otherwise this node stays where it is, since what comes after builds on it. */
static enum status_code take_unreadable(struct applier *applier, size_t at, enum status_code why)
{
	struct engine *engine = applier->engine;
	int64_t offset = applier->records[at].offset;

	if (engine->shared && offset == engine->config->log_skip_offset)
		return skip(applier, at);
	if (!engine->shared || why == STATUS_NO_MEMORY)
		return why;
	if (atomic_load(&engine->fault) != NULL)
		return STATUS_BAD_RECORD; /* it was said */
	if (why == STATUS_NEWER_RECORD)
		logger_error("applier", "a log record was written by a newer version of Keta",
		             LOG_I64("offset", offset),
		             LOG_STR("advice", "run that version on this node, too"), LOG_END);
	else
		logger_error("applier", "a log record cannot be applied; this node goes no further",
		             LOG_I64("offset", offset), LOG_STR("error", status_code_name(why)),
		             LOG_STR("advice",
		                     "if no node can apply it, set log.skip.offset to its offset on all"),
		             LOG_END);
	if (why == STATUS_NEWER_RECORD)
		engine_give_up(engine, why);
	return STATUS_BAD_RECORD;
}

/* Whether the record's proposer had applied the same records as this node. What it
 * had applied stands before the record, unless the log was made anew meanwhile. */
static bool is_of_this_log(const struct applier *applier, const Pb__Record *rec)
{
	const struct place *place = places_find(applier->places, rec->seen_offset);

	return rec->cluster_id == 0 || place == NULL || place->chain == rec->seen_chain;
}

static void refuse_log(struct engine *engine, int64_t offset, const Pb__Record *rec, const char *found)
{
	logger_error("applier", found, LOG_I64("offset", offset),
	             LOG_I64("member_id", (int64_t)rec->member_id),
	             LOG_I64("record_cluster_id", (int64_t)rec->cluster_id),
	             LOG_I64("cluster_id", (int64_t)atomic_load(&engine->cluster_id)),
	             LOG_STR("advice",
	                     "find out what became of the topic; when the log that is there now is the "
	                     "one to keep, delete this node's data directory and start it again; if it "
	                     "is just this record that is wrong, set log.skip.offset to it on all nodes"),
	             LOG_END);
	engine_give_up(engine, STATUS_BAD_LOG);
}

/* What the engine itself does about a record, once it is committed. */
static void note_kind(struct item *item, const Pb__Record *rec)
{
	item->kind = rec->request_case;
	switch (rec->request_case) {
	case PB__RECORD__REQUEST_JOIN:
		item->vote.member_id = rec->member_id;
		break;
	case PB__RECORD__REQUEST_HASH_ASK:
		item->vote = (struct vote){rec->member_id, rec->hash_ask->offset, rec->hash_ask->hash};
		break;
	case PB__RECORD__REQUEST_HASH_VOTE:
		item->vote = (struct vote){rec->member_id, rec->hash_vote->offset, rec->hash_vote->hash};
		break;
	case PB__RECORD__REQUEST_HASH_VERDICT:
		item->vote =
			(struct vote){rec->member_id, rec->hash_verdict->offset, rec->hash_verdict->hash};
		item->undecided = rec->hash_verdict->undecided;
		break;
	default:
		break;
	}
}

/* Whether the record says that most nodes have another state than this one has. */
static bool is_condemned(const struct applier *applier, const struct item *item)
{
	const struct place *place = places_find(applier->places, item->vote.offset);

	return item->kind == PB__RECORD__REQUEST_HASH_VERDICT && !item->undecided && place != NULL &&
	       place->hash != item->vote.hash;
}

static enum status_code apply_shared(struct applier *applier, size_t at, const Pb__Record *rec,
                                     bool undoable)
{
	struct engine *engine = applier->engine;
	struct store *st = engine->store;
	const struct log_record *raw = &applier->records[at];
	struct item *item = &applier->items[at];
	enum status_code status;

	if (!is_of_this_log(applier, rec) && raw->offset == engine->config->log_skip_offset)
		return skip(applier, at);
	if (!is_of_this_log(applier, rec)) {
		refuse_log(engine, raw->offset, rec,
		           "a node of the cluster has followed another log than this one");
		return STATUS_BAD_LOG;
	}
	/* No cap: what one node refuses for its size all would have to. */
	if (item->call != NULL)
		item->call->arena.cap_bytes = SIZE_MAX;
	status = apply(st, rec, raw->offset, undoable,
	               item->call != NULL ? &item->call->arena : &applier->scratch, &item->applied);
	if (status == STATUS_BAD_LOG)
		refuse_log(engine, raw->offset, rec, "the log holds a record of another cluster");
	if (status != STATUS_OK)
		return status;
	store_note_record(st, raw->data, raw->len);
	places_add(applier->places, raw->offset, st->view.state.chain, st->view.state.hash);
	if (!item->applied.ignored)
		note_kind(item, rec);
	/* Before the verdict is committed: it does not come again. */
	if (!is_condemned(applier, item) || engine->config->data_dir == NULL)
		return STATUS_OK;
	return data_dir_note_discard(engine->config->data_dir);
}

static enum status_code apply_record(struct applier *applier, size_t at, bool undoable)
{
	int64_t offset = applier->records[at].offset;
	struct item *item = &applier->items[at];
	int64_t started_us = clock_us();
	Pb__Record *rec;
	enum status_code status;

	if (applier->engine->shared)
		attempt_note(offset);
	status = offset == applier->engine->poison_offset ? STATUS_BAD_RECORD
	                                                  : read_record(applier, at, &rec);
	if (status != STATUS_OK && applier->engine->shared) {
		return take_unreadable(applier, at, status);
	}
	if (status != STATUS_OK) {
		logger_error("applier", "a log record could not be read", LOG_I64("offset", offset),
		             LOG_STR("error", status_code_name(status)), LOG_END);
		return status;
	}
	if (applier->engine->shared)
		status = apply_shared(applier, at, rec, undoable);
	else
		status = apply(applier->engine->store, rec, offset, undoable,
		               item->call != NULL ? &item->call->arena : &applier->scratch, &item->applied);
	metric_observe(METRIC_APPLY_SECONDS, clock_us() - started_us);
	return status;
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

/* Under a shared log rows leave when the tables do without them, which nobody can wait for. */
static bool waits_for_rows(const struct engine *engine, const struct call *call)
{
	return !engine->shared && call->request->descriptor == &pb__compaction_request__descriptor &&
	       ((const Pb__CompactionRequest *)call->request)->physical;
}

static void finish_item(struct applier *applier, struct item *item, enum status_code failure)
{
	struct call *call = item->call;

	if (call == NULL)
		return;
	if (call->refusal == STATUS_NO_SPACE && (failure != STATUS_OK || item->applied.status != STATUS_OK))
		atomic_store(&applier->engine->alarm_proposed, false); /* it was, in vain */
	if (failure != STATUS_OK) {
		call_fail(call, failure, NULL);
	} else if (item->applied.status != STATUS_OK) {
		call_fail(call, item->applied.status, NULL);
	} else if (call->refusal != STATUS_OK) {
		call_fail(call, call->refusal, NULL);
	} else {
		call->response = item->applied.response;
		count_request(call);
		if (waits_for_rows(applier->engine, call)) {
			call_queue_push(&applier->physical, call);
			return;
		}
	}
	if (propose_settle(applier->engine, call))
		call_finish(call, false);
}

/* Whether the client may hear of it before the commit: see engine/early.c. */
static bool may_be_early(const struct call *call)
{
	const ProtobufCMessageDescriptor *type;

	if (call->refusal != STATUS_OK)
		return false; /* its record is not its request's */
	type = call->request->descriptor;
	return type == &pb__put_request__descriptor || type == &pb__txn_request__descriptor ||
	       type == &pb__delete_range_request__descriptor;
}

/* All of the batch are applied. */
static void answer_early(struct applier *applier)
{
	/* What was not committed last time may not be this time. */
	if (atomic_load(&applier->engine->fault) != NULL)
		return;
	for (size_t i = applier->start; i < applier->end; i++) {
		struct item *item = &applier->items[i];

		if (item->call == NULL || !may_be_early(item->call))
			continue;
		early_begin(applier->engine);
		finish_item(applier, item, STATUS_OK);
		item->call = NULL;
	}
}

/* Applies the batch and commits. */
static enum status_code apply_batch(struct applier *applier, bool undoable)
{
	struct store *st = applier->engine->store;
	enum status_code status = store_begin(st);

	if (status != STATUS_OK)
		return status;
	for (size_t i = applier->start; status == STATUS_OK && i < applier->end; i++) {
		status = apply_record(applier, i, undoable);
		/* What was before a record that cannot be applied is. */
		if (status == STATUS_BAD_RECORD && i > applier->start && applier->engine->shared) {
			applier->end = i;
			status = STATUS_OK;
		}
	}
	if (applier->engine->shared)
		attempt_note(0);
	if (status != STATUS_OK) {
		store_rollback(st);
		return status;
	}
	if (applier->engine->shared)
		answer_early(applier);
	return store_commit(st);
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
	if (engine->shared && was_faulty)
		return; /* it is the same batch again */
	logger_error("applier",
	             engine->shared ? "a batch could not be committed; it is tried again"
	                            : "a batch could not be committed and its requests were refused",
	             LOG_STR("error", status_code_text(status)), LOG_END);
}

/* Calls wait for the records behind the one that failed, too. */
static void take_rest(struct applier *applier)
{
	Pb__Record *rec;

	for (size_t i = applier->start; i < applier->end; i++)
		if (applier->items[i].call == NULL)
			read_record(applier, i, &rec); /* one that cannot be read has no call to be found */
}

/* Watchers and the lessor hear of the batch before its clients do, but for those that were
 * answered early: who has been told of a write finds that what follows from it has begun. */
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

/* What records say to the engine rather than to the state. */
static void heed(struct applier *applier, const struct item *item)
{
	struct engine *engine = applier->engine;
	const struct place *place = places_find(applier->places, item->vote.offset);
	Pb__HashVote vote = PB__HASH_VOTE__INIT;

	switch (item->kind) {
	case PB__RECORD__REQUEST_JOIN:
		/* Once it has joined: what is read before that is of its predecessors. */
		if (item->vote.member_id == atomic_load(&engine->member_id) && item->own_sequence == 0 &&
		    item->applied.status == STATUS_OK && atomic_load(&engine->joined)) {
			engine_note_replaced(engine);
		}
		break;
	case PB__RECORD__REQUEST_HASH_ASK:
		if (item->own_sequence != 0 || place == NULL || !atomic_load(&engine->joined))
			break;
		vote.offset = item->vote.offset;
		vote.hash = place->hash;
		propose_internal(engine, &vote.base, NULL);
		break;
	case PB__RECORD__REQUEST_HASH_VOTE:
		votes_note(engine->votes, &item->vote);
		break;
	case PB__RECORD__REQUEST_HASH_VERDICT:
		if (!is_condemned(applier, item))
			break;
		logger_error("applier", "the state of this node differs from that of most; it is rebuilt",
		             LOG_I64("offset", item->vote.offset), LOG_END);
		engine_give_up(engine, STATUS_CORRUPT);
		break;
	default:
		break;
	}
}

/* After a commit under a shared log. */
static void heed_batch(struct applier *applier)
{
	struct engine *engine = applier->engine;
	uint64_t own = 0;

	atomic_store(&engine->applied_ms, clock_ms());
	for (size_t i = applier->start; i < applier->end; i++) {
		atomic_fetch_add_explicit(&engine->log_bytes, (int64_t)applier->records[i].len,
		                          memory_order_relaxed);
		if (applier->items[i].kind != PB__RECORD__REQUEST__NOT_SET)
			heed(applier, &applier->items[i]);
		/* A barrier that did not count stands in the log all the same. */
		if (applier->items[i].own_sequence > own)
			own = applier->items[i].own_sequence;
	}
	if (own != 0)
		read_applied(engine, own);
	if (engine->watermark != NULL)
		watermark_applied(engine, 0);
}

/* What the proposer is told of a batch that this node could not commit: the others
 * apply it, so it must not look as if it had not happened. */
static enum status_code shared_failure(enum status_code status)
{
	return status == STATUS_OK || status == STATUS_DISK_FULL || status == STATUS_IO_ERROR
	               ? status
	               : STATUS_TIMEOUT;
}

static void run_batch(struct applier *applier)
{
	struct engine *engine = applier->engine;
	struct store *st = engine->store;
	const struct store_state old = st->saved;
	int64_t started_us = clock_us();
	enum status_code status;

	if (!applier->again)
		applier->start = 0;
	applier->end = applier->count;
	for (size_t i = applier->start; i < applier->end; i++)
		applier->items[i] = (struct item){0};
	if (atomic_exchange(&engine->position_wanted, false))
		st->writes_next = true;
	st->keeps_news = hub_wants_events(engine->hub);
	st->keeps_prev = hub_wants_prev(engine->hub);
	status = apply_batch(applier, false);
	if (status == STATUS_HALF_APPLIED)
		status = apply_batch(applier, true);
	if (status == STATUS_OK)
		tell(engine, &old);
	else
		take_rest(applier);
	metric_observe(METRIC_BATCH_RECORDS, (int64_t)(applier->end - applier->start));
	metric_observe(METRIC_COMMIT_SECONDS, clock_us() - started_us);
	note_outcome(engine, status);
	publish(engine);
	early_end(engine);
	for (size_t i = applier->start; i < applier->end; i++)
		finish_item(applier, &applier->items[i], engine->shared ? shared_failure(status) : status);
	if (status == STATUS_OK && engine->shared)
		heed_batch(applier);
	/* A shared log goes on from its oldest record that is not applied here. */
	applier->again = engine->shared && (status != STATUS_OK || applier->end < applier->count);
	applier->retry_ms = status == STATUS_OK ? 0 : clock_ms() + RETRY_MS;
	if (status == STATUS_OK)
		applier->start = applier->end;
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

/* The next batch, or the last one again. False when the log is at its end for this node. */
static bool take_batch(struct applier *applier, int timeout_ms)
{
	struct engine *engine = applier->engine;
	enum status_code status;

	if (applier->again && clock_ms() >= applier->retry_ms)
		return true;
	if (applier->again) {
		nanosleep(&(struct timespec){.tv_nsec = timeout_ms > 0 ? PAUSE_NS : 0}, NULL);
		return true;
	}
	status = log_poll(engine->log, applier->records, BATCH_RECORDS, &applier->count, timeout_ms);
	if (status == STATUS_BAD_LOG)
		engine_give_up(engine, STATUS_NOT_READY);
	return status == STATUS_OK;
}

static bool turn(struct applier *applier, int timeout_ms)
{
	struct engine *engine = applier->engine;
	struct store *st = engine->store;

	if (is_compaction_due(applier))
		timeout_ms = 0;
	if (engine->shared)
		timeout_ms = read_tick(engine, timeout_ms);
	if (!take_batch(applier, timeout_ms))
		return false;
	atomic_store(&engine->applying_since_ms, clock_ms());
	if (applier->count > 0 && (!applier->again || clock_ms() >= applier->retry_ms))
		run_batch(applier);
	else if (atomic_load(&engine->fault) != NULL && !applier->again)
		probe(applier);
	if (is_compaction_due(applier))
		compact(applier);
	if (st->wal_pages > WAL_MAX_PAGES)
		store_restart_wal(st);
	atomic_store(&engine->applying_since_ms, 0);
	return atomic_load(&engine->verdict) == STATUS_OK;
}

bool applier_turn(struct engine *engine, int timeout_ms)
{
	return turn(engine->applying, timeout_ms);
}

static bool has_to_end(const struct applier *applier)
{
	const struct engine *engine = applier->engine;

	/* A shared log never ends; what is not applied now is read again at the next start. */
	return atomic_load(&engine->stopping) && (engine->shared || applier->count == 0);
}

static void *run(void *arg)
{
	struct applier *applier = arg;

	while (!has_to_end(applier) && turn(applier, RETRY_MS))
		;
	finish_physical(applier, STATUS_STOPPED);
	return NULL;
}

static void free_applier(struct applier *applier)
{
	if (applier == NULL)
		return;
	if (applier->scratch.first != NULL) {
		arena_release(&applier->scratch);
		free(applier->scratch.first);
	}
	free(applier->places);
	free(applier);
}

static enum status_code make_applier(struct engine *engine)
{
	struct applier *applier = calloc(1, sizeof *applier);
	const struct store_state *state = &engine->store->saved;
	void *block = aligned_alloc(16, SCRATCH_BLOCK_BYTES);

	if (applier != NULL && engine->shared)
		applier->places = calloc(1, sizeof *applier->places);
	if (applier == NULL || block == NULL || (engine->shared && applier->places == NULL)) {
		free_applier(applier);
		free(block);
		return STATUS_NO_MEMORY;
	}
	applier->engine = engine;
	arena_init(&applier->scratch, engine->shared ? SIZE_MAX : ENGINE_RESPONSE_CAP_BYTES, block,
	           SCRATCH_BLOCK_BYTES);
	call_queue_init(&applier->physical);
	if (engine->shared)
		places_reset(applier->places, state->applied_offset, state->chain, state->hash);
	engine->applying = applier;
	publish(engine);
	return STATUS_OK;
}

enum status_code applier_start(struct engine *engine)
{
	enum status_code status = make_applier(engine);

	if (status != STATUS_OK || engine->cluster.manual)
		return status;
	if (pthread_create(&engine->applier, NULL, run, engine->applying) != 0)
		return STATUS_NO_MEMORY;
	pthread_setname_np(engine->applier, "keta-applier");
	engine->applier_started = true;
	return STATUS_OK;
}

void applier_stop(struct engine *engine)
{
	if (engine->applier_started) {
		log_wake(engine->log);
		pthread_join(engine->applier, NULL);
		engine->applier_started = false;
	} else if (engine->applying != NULL) {
		finish_physical(engine->applying, STATUS_STOPPED);
	}
	free_applier(engine->applying);
	engine->applying = NULL;
}
