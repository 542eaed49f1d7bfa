/* SPDX-License-Identifier: Apache-2.0 */
#include "state/store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/logger.h"
#include "rpc.pb-c.h"
#include "state/data_dir.h"
#include "state/news.h"
#include "state/renewals.h"

/* Keeps the file to this process and the write-ahead log's index in its memory,
 * so that reads make no system call to lock (sqlite.org/vfs.html). */
static const char DEFAULT_VFS[] = "unix-excl";

/* A position this far behind is written by itself: after a crash no more is applied again. */
enum { UNWRITTEN_RECORDS_MAX = 4096 };

static int on_wal(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct store *st = arg;

	(void)db;
	(void)name;
	st->wal_pages = pages;
	return SQLITE_OK;
}

static enum status_code load_alarms(struct store *st)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ALARMS];
	int code;

	st->alarm_nospace = st->alarm_corrupt = false;
	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		int kind = sqlite3_column_int(stmt, 1);

		st->alarm_nospace |= kind == PB__ALARM_TYPE__NOSPACE;
		st->alarm_corrupt |= kind == PB__ALARM_TYPE__CORRUPT;
	}
	sqlite3_reset(stmt);
	return code == SQLITE_DONE ? STATUS_OK : view_failed(&st->view, code);
}

static enum status_code load_members(struct store *st)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_MEMBERS];
	int code = SQLITE_DONE;

	while (st->member_count < STORE_MEMBERS_MAX && (code = sqlite3_step(stmt)) == SQLITE_ROW)
		st->members[st->member_count++] = (struct store_member){
			.id = (uint64_t)sqlite3_column_int64(stmt, 0),
			.number = (uint64_t)sqlite3_column_int64(stmt, 3),
			.incarnation = (uint64_t)sqlite3_column_int64(stmt, 4),
			.sequence = (uint64_t)sqlite3_column_int64(stmt, 5),
			.level = (uint64_t)sqlite3_column_int64(stmt, 7),
		};
	sqlite3_reset(stmt);
	return code == SQLITE_DONE || code == SQLITE_ROW ? STATUS_OK : view_failed(&st->view, code);
}

struct store_member *store_find_member(struct store *st, uint64_t id)
{
	for (size_t i = 0; i < st->member_count; i++)
		if (st->members[i].id == id)
			return &st->members[i];
	return NULL;
}

/* What the database says of the log that it belongs to. */
struct log_mark {
	bool kafka;
	char kafka_id[64];
};

static enum status_code read_mark(struct store *st, struct log_mark *mark)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(st->view.db, "SELECT log_kind, kafka_id FROM state", -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	if (code == SQLITE_ROW) {
		mark->kafka = strcmp((const char *)sqlite3_column_text(stmt, 0), "kafka") == 0;
		snprintf(mark->kafka_id, sizeof mark->kafka_id, "%s", sqlite3_column_text(stmt, 1));
	}
	sqlite3_finalize(stmt);
	return code == SQLITE_ROW ? STATUS_OK : view_failed(&st->view, code);
}

static enum status_code refuse_kind(const struct store *st, const char *error, const char *advice)
{
	logger_error("store", error, LOG_STR("file", st->path), LOG_STR("advice", advice), LOG_END);
	return STATUS_BAD_DATABASE;
}

/* A lost variable must not make a replica write alone, nor a lone writer's data
 * be taken for a copy of what is in Kafka. */
static enum status_code check_kind(struct store *st, const struct store_options *options)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_SET_LOG_KIND];
	const char *kafka_id = options->kafka_id != NULL ? options->kafka_id : "";
	bool is_new = st->view.state.cluster_id == 0 && st->view.state.applied_offset == 0;
	struct log_mark mark = {0};
	enum status_code status = read_mark(st, &mark);

	if (status != STATUS_OK)
		return status;
	st->shared = options->log_kind == LOG_KAFKA;
	if (!is_new && mark.kafka && !st->shared)
		return refuse_kind(
			st, "the database belongs to a node of a cluster under Kafka",
			"set kafkacache.bootstrap.servers as it was, or give a server of its own "
			"another data directory");
	if (!is_new && !mark.kafka && st->shared)
		return refuse_kind(st, "the database belongs to a server without Kafka",
		                   "give this node another data directory, or remove "
		                   "kafkacache.bootstrap.servers to go on without Kafka");
	if (!is_new && mark.kafka_id[0] != '\0' && kafka_id[0] != '\0' &&
	    strcmp(mark.kafka_id, kafka_id) != 0)
		return refuse_kind(
			st, "the database belongs to a cluster in another Kafka",
			"set kafkacache.bootstrap.servers to the Kafka that this node followed, or "
			"delete the data directory to begin anew from this one");
	/* A kind counts only once there is something; an id that is not known this time does not replace
	 * one. */
	if ((is_new && mark.kafka != st->shared) ||
	    (st->shared && kafka_id[0] != '\0' && strcmp(mark.kafka_id, kafka_id) != 0)) {
		sqlite3_bind_text(stmt, 1, st->shared ? "kafka" : "embedded", -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 2, st->shared ? kafka_id : "", -1, SQLITE_STATIC);
		status = view_run(&st->view, SQL_SET_LOG_KIND);
	}
	return status == STATUS_OK && st->shared ? view_relax(&st->view) : status;
}

static enum status_code open_database(struct store *st, const struct store_options *options)
{
	enum status_code status = data_dir_check_file(st->path);

	if (status != STATUS_OK)
		return status;
	status = view_open(&st->view, st->path, st->vfs, VIEW_WRITE, NULL);
	if (status == STATUS_OK)
		status = view_read_state(&st->view);
	if (status == STATUS_OK)
		status = load_alarms(st);
	if (status == STATUS_OK)
		status = load_members(st);
	if (status == STATUS_OK)
		status = check_kind(st, options);
	if (status != STATUS_OK)
		logger_error("store", "the database cannot be opened", LOG_STR("file", st->path), LOG_END);
	return status;
}

static void save(struct store *st)
{
	st->saved = st->view.state;
	st->saved_nospace = st->alarm_nospace;
	st->saved_corrupt = st->alarm_corrupt;
	st->saved_member_count = st->member_count;
	memcpy(st->saved_members, st->members, st->member_count * sizeof st->members[0]);
}

static void note_sequences(struct store *st)
{
	for (size_t i = 0; i < st->member_count; i++)
		st->written_sequences[i] = st->members[i].sequence;
}

/* Nobody reads SQLite's counts of its memory, and each costs a lock. It may
 * only be said before the library is used at all. */
static void configure_sqlite(void)
{
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

enum status_code store_open(const struct store_options *options, struct store **out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct store *st = calloc(1, sizeof *st);
	enum status_code status;

	if (st == NULL)
		return STATUS_NO_MEMORY;
	pthread_once(&once, configure_sqlite);
	st->lock_fd = -1;
	st->vfs = strdup(options->vfs != NULL ? options->vfs : DEFAULT_VFS);
	st->renewals = renewals_new();
	if (st->vfs == NULL || st->renewals == NULL ||
	    asprintf(&st->path, "%s/keta.db", options->dir) < 0) {
		st->path = NULL;
		status = STATUS_NO_MEMORY;
		goto fail;
	}
	status = data_dir_make(options->dir);
	if (status == STATUS_OK)
		status = data_dir_lock(options->dir, &st->lock_fd);
	if (status == STATUS_OK)
		status = open_database(st, options);
	if (status != STATUS_OK)
		goto fail;
	sqlite3_wal_hook(st->view.db, on_wal, st);
	save(st);
	note_sequences(st);
	st->written_offset = st->saved.applied_offset;
	/* A crash may have cut a compaction short; the first step finds out. */
	st->compacting = st->saved.drop_revision > 0;
	*out = st;
	return STATUS_OK;
fail:
	store_close(st);
	return status;
}

/* What commits left for later. Should it fail, it is as after a crash: leases
 * then have the renewals that were written. */
static void write_rest(struct store *st)
{
	if (!sqlite3_get_autocommit(st->view.db))
		store_rollback(st);
	if (st->written_offset == st->saved.applied_offset)
		return;
	st->writes_next = true;
	if (store_begin(st) == STATUS_OK)
		store_commit(st);
}

void store_close(struct store *st)
{
	if (st == NULL)
		return;
	if (st->view.db != NULL) {
		write_rest(st);
		view_close(&st->view);
	}
	news_drop(st);
	renewals_free(st->renewals);
	free(st->lease_notes);
	if (st->lock_fd >= 0)
		close(st->lock_fd);
	free(st->path);
	free(st->vfs);
	free(st);
}

enum status_code store_view(struct store *st, enum view_use use, struct view *view)
{
	return view_open(view, st->path, st->vfs, use, &st->commits);
}

enum status_code store_begin(struct store *st)
{
	enum status_code status = news_begin(st);

	if (status != STATUS_OK)
		return status;
	st->lease_note_count = 0;
	renewals_begin(st->renewals);
	st->begin_rows = sqlite3_total_changes(st->view.db);
	return view_run(&st->view, SQL_BEGIN_WRITE);
}

static enum status_code save_state(struct store *st)
{
	const struct store_state *state = &st->view.state;
	sqlite3_stmt *stmt = st->view.stmts[SQL_SET_STATE];

	sqlite3_bind_int64(stmt, 1, state->applied_offset);
	sqlite3_bind_int64(stmt, 2, state->revision);
	sqlite3_bind_int64(stmt, 3, state->compact_revision);
	sqlite3_bind_int64(stmt, 4, state->compacted_id);
	sqlite3_bind_int64(stmt, 5, state->last_id);
	sqlite3_bind_int64(stmt, 6, (int64_t)state->term);
	sqlite3_bind_int64(stmt, 7, (int64_t)state->cluster_id);
	sqlite3_bind_int64(stmt, 8, (int64_t)state->member_id);
	sqlite3_bind_int64(stmt, 9, state->logical_bytes);
	sqlite3_bind_int64(stmt, 10, state->keys);
	sqlite3_bind_int64(stmt, 11, (int64_t)state->hash);
	sqlite3_bind_int64(stmt, 12, state->drop_revision);
	sqlite3_bind_int64(stmt, 13, (int64_t)state->owner);
	sqlite3_bind_int64(stmt, 14, (int64_t)state->owner_member);
	sqlite3_bind_int64(stmt, 15, (int64_t)state->level);
	sqlite3_bind_int64(stmt, 16, (int64_t)state->record_hash);
	sqlite3_bind_int64(stmt, 17, (int64_t)state->chain);
	sqlite3_bind_int64(stmt, 18, state->covered_offset);
	return view_run(&st->view, SQL_SET_STATE);
}

/* How far each node's records were applied is part of the position in the log. */
static enum status_code save_sequences(struct store *st)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_SET_SEQUENCE];
	enum status_code status = STATUS_OK;

	for (size_t i = 0; status == STATUS_OK && i < st->member_count; i++) {
		if (st->members[i].sequence == st->written_sequences[i])
			continue;
		sqlite3_bind_int64(stmt, 1, (int64_t)st->members[i].id);
		sqlite3_bind_int64(stmt, 2, (int64_t)st->members[i].sequence);
		status = view_run(&st->view, SQL_SET_SEQUENCE);
	}
	return status;
}

/* Renewals are many; those of a lease between two writes make one row. */
static enum status_code save_renewals(struct store *st)
{
	const struct renewal_set *set = &st->renewals->now;
	sqlite3_stmt *stmt = st->view.stmts[SQL_RENEW_LEASE];
	enum status_code status = STATUS_OK;

	for (size_t i = 0; status == STATUS_OK && i < set->count; i++) {
		sqlite3_bind_int64(stmt, 1, set->items[i].id);
		sqlite3_bind_int64(stmt, 2, set->items[i].offset);
		status = view_run(&st->view, SQL_RENEW_LEASE);
	}
	return status;
}

/* Whether two states differ in more than how far the log was applied. Their
 * fields leave no gaps. */
static bool is_other_state(const struct store_state *a, const struct store_state *b)
{
	struct store_state moved = *a;

	moved.applied_offset = b->applied_offset;
	moved.record_hash = b->record_hash;
	moved.chain = b->chain;
	return memcmp(&moved, b, sizeof moved) != 0;
}

static bool has_to_write(const struct store *st)
{
	return st->writes_next || sqlite3_total_changes(st->view.db) != st->begin_rows ||
	       is_other_state(&st->view.state, &st->saved) ||
	       st->view.state.applied_offset - st->written_offset >= UNWRITTEN_RECORDS_MAX;
}

enum status_code store_commit(struct store *st)
{
	bool writes = has_to_write(st);
	enum status_code status = STATUS_OK;

	if (writes)
		status = save_renewals(st);
	if (writes && status == STATUS_OK)
		status = save_sequences(st);
	if (writes && status == STATUS_OK)
		status = save_state(st);
	if (status == STATUS_OK)
		status = view_run(&st->view, SQL_COMMIT);
	if (status != STATUS_OK) {
		store_rollback(st);
		return status;
	}
	news_settle(st);
	save(st);
	if (!writes)
		return STATUS_OK;
	renewals_clear(st->renewals);
	note_sequences(st);
	st->written_offset = st->saved.applied_offset;
	st->writes_next = false;
	atomic_fetch_add(&st->commits, 1);
	return STATUS_OK;
}

void store_rollback(struct store *st)
{
	/* SQLite has rolled back by itself after some errors. */
	if (!sqlite3_get_autocommit(st->view.db))
		view_run(&st->view, SQL_ROLLBACK);
	st->view.state = st->saved;
	st->member_count = st->saved_member_count;
	memcpy(st->members, st->saved_members, st->member_count * sizeof st->members[0]);
	st->changes = st->record_changes = 0;
	st->compacting = st->saved.drop_revision > 0;
	st->alarm_nospace = st->saved_nospace;
	st->alarm_corrupt = st->saved_corrupt;
	st->lease_note_count = 0;
	st->writes_next = true;
	renewals_rollback(st->renewals);
	news_drop(st);
}

enum status_code store_record_begin(struct store *st, bool undoable)
{
	st->changes = st->record_changes = 0;
	st->record_start = (struct store_mark){
		.state = st->view.state,
		.alarm_nospace = st->alarm_nospace,
		.alarm_corrupt = st->alarm_corrupt,
		.rows = sqlite3_total_changes(st->view.db),
		.events = news_count(st),
		.lease_notes = st->lease_note_count,
	};
	renewals_begin_record(st->renewals);
	return undoable ? view_run(&st->view, SQL_SAVEPOINT) : STATUS_OK;
}

bool store_record_changed(const struct store *st)
{
	return sqlite3_total_changes(st->view.db) != st->record_start.rows ||
	       is_other_state(&st->view.state, &st->record_start.state) ||
	       st->renewals->is_record_changed || st->lease_note_count != st->record_start.lease_notes;
}

/* Takes back what the record did outside of the database. */
static void undo_record(struct store *st)
{
	st->view.state = st->record_start.state;
	st->alarm_nospace = st->record_start.alarm_nospace;
	st->alarm_corrupt = st->record_start.alarm_corrupt;
	st->lease_note_count = st->record_start.lease_notes;
	st->changes = st->record_changes = 0;
	renewals_undo_record(st->renewals);
	news_truncate(st, st->record_start.events);
}

enum status_code store_record_end(struct store *st, bool undoable, bool undo)
{
	enum status_code status = STATUS_OK;

	if (undo && undoable) {
		undo_record(st);
		status = view_run(&st->view, SQL_ROLLBACK_TO);
	}
	if (status == STATUS_OK && undoable)
		status = view_run(&st->view, SQL_RELEASE);
	store_next_revision(st);
	return status;
}

void store_next_revision(struct store *st)
{
	if (st->changes > 0)
		st->view.state.revision++;
	st->changes = 0;
}

int64_t store_revision(const struct store *st)
{
	return st->view.state.revision + (st->changes > 0);
}

void store_note_record(struct store *st, const void *data, size_t len)
{
	struct store_state *state = &st->view.state;

	state->record_hash = XXH3_64bits(data, len);
	state->chain = XXH3_64bits_withSeed(&state->record_hash, sizeof state->record_hash, state->chain);
}

static enum status_code checkpoint(struct view *view, int mode)
{
	int code = sqlite3_wal_checkpoint_v2(view->db, NULL, mode, NULL, NULL);

	/* Busy: a reader needs what is left; the next round gets it. */
	if (code == SQLITE_OK || (code & 0xff) == SQLITE_BUSY)
		return STATUS_OK;
	return view_failed(view, code);
}

enum status_code store_checkpoint(struct view *view)
{
	return checkpoint(view, SQLITE_CHECKPOINT_PASSIVE);
}

enum status_code store_restart_wal(struct store *st)
{
	enum status_code status = checkpoint(&st->view, SQLITE_CHECKPOINT_PASSIVE);

	/* Readers that keep a snapshot take it for old now; the next one they take needs no log. */
	atomic_fetch_add(&st->commits, 1);
	if (status == STATUS_OK)
		status = checkpoint(&st->view, SQLITE_CHECKPOINT_RESTART);
	st->wal_pages = 0;
	return status;
}

static enum status_code read_pragma(struct view *view, const char *sql, int64_t *value)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(view->db, sql, -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	if (code == SQLITE_ROW)
		*value = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return code == SQLITE_ROW ? STATUS_OK : view_failed(view, code);
}

enum status_code store_sizes(struct store *st, struct view *view, int64_t *file_bytes, int64_t *used_bytes,
                             int64_t *wal_bytes)
{
	int64_t page_size = 0, pages = 0, unused = 0;
	enum status_code status = read_pragma(view, "PRAGMA page_size", &page_size);
	struct stat info;
	char wal[4096];

	if (status == STATUS_OK)
		status = read_pragma(view, "PRAGMA page_count", &pages);
	if (status == STATUS_OK)
		status = read_pragma(view, "PRAGMA freelist_count", &unused);
	if (status != STATUS_OK)
		return status;
	*file_bytes = pages * page_size;
	*used_bytes = (pages - unused) * page_size;
	snprintf(wal, sizeof wal, "%s-wal", st->path);
	*wal_bytes = stat(wal, &info) == 0 ? info.st_size : 0;
	return STATUS_OK;
}
