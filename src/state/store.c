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

/* Keeps the file to this process and the write-ahead log's index in its memory,
 * so that reads make no system call to lock (sqlite.org/vfs.html). */
static const char DEFAULT_VFS[] = "unix-excl";

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

static enum status_code open_database(struct store *st)
{
	enum status_code status = data_dir_check_file(st->path);

	if (status != STATUS_OK)
		return status;
	status = view_open(&st->view, st->path, st->vfs, VIEW_WRITE, NULL);
	if (status == STATUS_OK)
		status = view_read_state(&st->view);
	if (status == STATUS_OK)
		status = load_alarms(st);
	if (status != STATUS_OK)
		logger_error("store", "the database cannot be opened", LOG_STR("file", st->path), LOG_END);
	return status;
}

static void save(struct store *st)
{
	st->saved = st->view.state;
	st->saved_nospace = st->alarm_nospace;
	st->saved_corrupt = st->alarm_corrupt;
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
	if (st->vfs == NULL || asprintf(&st->path, "%s/keta.db", options->dir) < 0) {
		st->path = NULL;
		status = STATUS_NO_MEMORY;
		goto fail;
	}
	status = data_dir_make(options->dir);
	if (status == STATUS_OK)
		status = data_dir_lock(options->dir, &st->lock_fd);
	if (status == STATUS_OK)
		status = open_database(st);
	if (status != STATUS_OK)
		goto fail;
	sqlite3_wal_hook(st->view.db, on_wal, st);
	save(st);
	/* A crash may have cut a compaction short; the first step finds out. */
	st->compacting = st->saved.compact_revision > 0;
	*out = st;
	return STATUS_OK;
fail:
	store_close(st);
	return status;
}

void store_close(struct store *st)
{
	if (st == NULL)
		return;
	if (st->view.db != NULL)
		view_close(&st->view);
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
	return view_run(&st->view, SQL_SET_STATE);
}

enum status_code store_commit(struct store *st)
{
	enum status_code status = save_state(st);

	if (status == STATUS_OK)
		status = view_run(&st->view, SQL_COMMIT);
	if (status != STATUS_OK) {
		store_rollback(st);
		return status;
	}
	save(st);
	atomic_fetch_add(&st->commits, 1);
	return STATUS_OK;
}

void store_rollback(struct store *st)
{
	/* SQLite has rolled back by itself after some errors. */
	if (!sqlite3_get_autocommit(st->view.db))
		view_run(&st->view, SQL_ROLLBACK);
	st->view.state = st->saved;
	st->changes = 0;
	st->compacting = st->saved.compact_revision > 0;
	st->alarm_nospace = st->saved_nospace;
	st->alarm_corrupt = st->saved_corrupt;
}

enum status_code store_record_begin(struct store *st, bool undoable)
{
	st->changes = 0;
	st->record_start = st->view.state;
	return undoable ? view_run(&st->view, SQL_SAVEPOINT) : STATUS_OK;
}

enum status_code store_record_end(struct store *st, bool undoable, bool undo)
{
	enum status_code status = STATUS_OK;

	if (undo && undoable) {
		st->view.state = st->record_start;
		st->changes = 0;
		status = view_run(&st->view, SQL_ROLLBACK_TO);
	}
	if (status == STATUS_OK && undoable)
		status = view_run(&st->view, SQL_RELEASE);
	if (st->changes > 0)
		st->view.state.revision++;
	st->changes = 0;
	return status;
}

int64_t store_revision(const struct store *st)
{
	return st->view.state.revision + (st->changes > 0);
}

int64_t version_cost(size_t key_len, size_t value_len)
{
	/* Key and value stand in 'version'; the key also in an index of what exists or existed. */
	return (int64_t)(2 * key_len + value_len) + VERSION_OVERHEAD_BYTES;
}

static int64_t next_id(const struct store *st)
{
	int64_t first = (st->view.state.revision + 1) << REVISION_SHIFT;

	return st->view.state.last_id >= first ? st->view.state.last_id + 1 : first;
}

/* A NULL pointer would bind NULL rather than an empty value. */
static void bind_value(sqlite3_stmt *stmt, int at, const struct change *change)
{
	sqlite3_bind_blob(stmt, at, change->value_len > 0 ? (const void *)change->value : "",
	                  (int)change->value_len, SQLITE_STATIC);
}

static void bind_ids(sqlite3_stmt *stmt, int at, const struct chain_blob *blob)
{
	if (blob->bytes > 0)
		sqlite3_bind_blob(stmt, at, blob->ids, blob->bytes, SQLITE_TRANSIENT);
	else
		sqlite3_bind_null(stmt, at);
}

static enum status_code add_version(struct store *st, const struct change *change, int64_t id,
                                    const struct chain_blob *skips)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_VERSION];

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_blob(stmt, 2, change->key, (int)change->key_len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, st->view.state.revision + 1);
	sqlite3_bind_int64(stmt, 4, change->created);
	sqlite3_bind_int64(stmt, 5, change->version);
	sqlite3_bind_int64(stmt, 6, change->lease);
	sqlite3_bind_int64(stmt, 7, change->chain.id);
	bind_ids(stmt, 8, skips);
	sqlite3_bind_int(stmt, 9, change->deleted);
	bind_value(stmt, 10, change);
	return view_run(&st->view, SQL_ADD_VERSION);
}

static enum status_code set_current(struct store *st, const struct change *change, const struct chain *chain)
{
	enum sql which = change->existed ? SQL_SET_CURRENT : SQL_ADD_CURRENT;
	sqlite3_stmt *stmt = st->view.stmts[which];
	struct chain_blob heads;

	chain_heads(chain, &heads);
	sqlite3_bind_blob(stmt, 1, change->key, (int)change->key_len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, chain->id);
	sqlite3_bind_int64(stmt, 3, st->view.state.revision + 1);
	sqlite3_bind_int64(stmt, 4, change->created);
	sqlite3_bind_int64(stmt, 5, change->version);
	sqlite3_bind_int64(stmt, 6, change->lease);
	sqlite3_bind_int64(stmt, 7, chain->number);
	bind_ids(stmt, 8, &heads);
	bind_value(stmt, 9, change);
	return view_run(&st->view, which);
}

static enum status_code drop_current(struct store *st, const struct change *change)
{
	sqlite3_bind_blob(st->view.stmts[SQL_DROP_CURRENT], 1, change->key, (int)change->key_len, SQLITE_STATIC);
	return view_run(&st->view, SQL_DROP_CURRENT);
}

static enum status_code add_tombstone(struct store *st, const struct change *change, const struct chain *chain)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_TOMBSTONE];
	struct chain_blob heads;

	chain_heads(chain, &heads);
	sqlite3_bind_blob(stmt, 1, change->key, (int)change->key_len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, chain->id);
	sqlite3_bind_int64(stmt, 3, chain->number);
	bind_ids(stmt, 4, &heads);
	return view_run(&st->view, SQL_ADD_TOMBSTONE);
}

enum status_code store_drop_tombstone(struct store *st, const uint8_t *key, size_t len, int64_t id)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_DROP_TOMBSTONE];

	sqlite3_bind_blob(stmt, 1, key, (int)len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, id);
	return view_run(&st->view, SQL_DROP_TOMBSTONE);
}

/* Moves the end of the chain to where it belongs. */
static enum status_code place(struct store *st, const struct change *change, const struct chain *chain)
{
	enum status_code status = STATUS_OK;

	if (change->deleted) {
		status = drop_current(st, change);
		return status == STATUS_OK ? add_tombstone(st, change, chain) : status;
	}
	if (!change->existed && change->chain.id != 0)
		status = store_drop_tombstone(st, change->key, change->key_len, change->chain.id);
	return status == STATUS_OK ? set_current(st, change, chain) : status;
}

/* Chains a change into the state's hash, every field of it. */
static uint64_t hash_change(const struct store *st, const struct change *change)
{
	int64_t fields[] = {
		st->view.state.revision + 1, change->created,           change->version,
		change->lease,               change->deleted,           (int64_t)change->key_len,
	};
	uint64_t hash = XXH3_64bits_withSeed(fields, sizeof fields, st->view.state.hash);

	hash = XXH3_64bits_withSeed(change->key, change->key_len, hash);
	return XXH3_64bits_withSeed(change->value, change->value_len, hash);
}

void store_mix(struct store *st, const void *data, size_t len)
{
	st->view.state.hash = XXH3_64bits_withSeed(data, len, st->view.state.hash);
}

enum status_code store_change(struct store *st, const struct change *change)
{
	struct store_state *state = &st->view.state;
	struct chain chain = change->chain;
	struct chain_blob skips;
	int64_t id = next_id(st);
	enum status_code status;

	/* Counted first: a failure half-way leaves something to undo. */
	st->changes++;
	chain_add(&chain, id, &skips);
	status = add_version(st, change, id, &skips);
	if (status == STATUS_OK)
		status = place(st, change, &chain);
	if (status != STATUS_OK)
		return status;
	state->hash = hash_change(st, change);
	state->last_id = id;
	state->logical_bytes += version_cost(change->key_len, change->value_len);
	state->keys += !change->deleted - change->existed;
	return STATUS_OK;
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
