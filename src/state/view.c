/* SPDX-License-Identifier: Apache-2.0 */
#include "state/view.h"

#include <string.h>

#include "base/logger.h"

enum {
	/* Only a restart of the write-ahead log ever waits for others. */
	VIEW_BUSY_MS = 20,
};

/* By use: the page cache, and how much of the file is mapped. */
static const struct {
	int cache_kib;
	int64_t mmap_bytes;
} MEMORY[] = {
	[VIEW_WRITE] = {32 * 1024, INT64_C(1) << 40},
	[VIEW_SHORT_READ] = {8 * 1024, 0},
	[VIEW_LONG_READ] = {2 * 1024, INT64_C(1) << 40},
};

static const char SETTINGS[] = "PRAGMA synchronous = FULL;"
			       "PRAGMA secure_delete = OFF;"
			       "PRAGMA wal_autocheckpoint = 0;"
			       "PRAGMA journal_size_limit = 67108864;"
			       "PRAGMA temp_store = MEMORY;";

enum status_code view_failed(const struct view *view, int sqlite_code)
{
	logger_error("store", "database operation failed", LOG_STR("error", sqlite3_errmsg(view->db)),
	             LOG_I64("sqlite_code", sqlite3_extended_errcode(view->db)), LOG_END);
	return schema_translate(sqlite_code);
}

enum status_code view_misses(int64_t id)
{
	logger_error("store", "the database is damaged: a version is missing", LOG_I64("id", id), LOG_END);
	return schema_translate(SQLITE_CORRUPT);
}

static enum status_code prepare(struct view *view)
{
	int count = view->writes ? SQL_COUNT : SQL_READ_COUNT;

	for (int i = 0; i < count; i++) {
		int code = sqlite3_prepare_v3(view->db, schema_sql((enum sql)i), -1,
		                              SQLITE_PREPARE_PERSISTENT, &view->stmts[i], NULL);
		if (code != SQLITE_OK)
			return view_failed(view, code);
	}
	return STATUS_OK;
}

/* Not every file system has what a write-ahead log needs; SQLite then stays with
 * what it had and says so in its answer. */
static enum status_code set_journal(struct view *view)
{
	sqlite3_stmt *stmt = NULL;
	bool is_wal = false;
	int code = sqlite3_prepare_v2(view->db, "PRAGMA journal_mode = WAL", -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	if (code == SQLITE_ROW) {
		const char *mode = (const char *)sqlite3_column_text(stmt, 0);

		is_wal = mode != NULL && strcmp(mode, "wal") == 0;
		/* The row comes before the file is changed; this tells whether that went well. */
		code = sqlite3_step(stmt);
	}
	sqlite3_finalize(stmt);
	if (code == SQLITE_NOTADB)
		return STATUS_BAD_DATABASE;
	if (code != SQLITE_DONE)
		return view_failed(view, code);
	if (is_wal)
		return STATUS_OK;
	logger_error("store", "the database cannot have a write-ahead log where it is", LOG_END);
	return STATUS_IO_ERROR;
}

enum status_code view_open(struct view *view, const char *path, const char *vfs, enum view_use use,
                           const _Atomic uint64_t *commits)
{
	bool writes = use == VIEW_WRITE;
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (writes ? SQLITE_OPEN_CREATE : 0);
	enum status_code status;
	bool empty = false;
	char memory[96];
	int code;

	*view = (struct view){.writes = writes, .commits = commits};
	code = sqlite3_open_v2(path, &view->db, flags, vfs);
	if (code != SQLITE_OK) {
		status = view->db == NULL ? STATUS_NO_MEMORY : view_failed(view, code);
		goto fail;
	}
	sqlite3_extended_result_codes(view->db, 1);
	sqlite3_busy_timeout(view->db, VIEW_BUSY_MS);
	/* Before the settings, which would change a file that is not ours. */
	status = writes ? schema_check(view->db, &empty) : STATUS_OK;
	if (status != STATUS_OK)
		goto fail;
	sqlite3_snprintf(sizeof memory, memory, "PRAGMA cache_size = -%d; PRAGMA mmap_size = %lld;",
	                 MEMORY[use].cache_kib, (long long)MEMORY[use].mmap_bytes);
	status = set_journal(view);
	if (status != STATUS_OK)
		goto fail;
	code = sqlite3_exec(view->db, SETTINGS, NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(view->db, memory, NULL, NULL, NULL);
	if (code != SQLITE_OK) {
		status = view_failed(view, code);
		goto fail;
	}
	status = empty ? schema_create(view->db) : STATUS_OK;
	if (status == STATUS_OK && writes)
		status = schema_migrate(view->db);
	if (status == STATUS_OK)
		status = prepare(view);
	if (status == STATUS_OK)
		return STATUS_OK;
fail:
	view_close(view);
	return status;
}

enum status_code view_relax(struct view *view)
{
	int code = sqlite3_exec(view->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);

	return code == SQLITE_OK ? STATUS_OK : view_failed(view, code);
}

void view_close(struct view *view)
{
	for (int i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(view->stmts[i]);
	sqlite3_close(view->db);
	*view = (struct view){0};
}

enum status_code view_run(struct view *view, enum sql which)
{
	sqlite3_stmt *stmt = view->stmts[which];
	int code = sqlite3_step(stmt);
	enum status_code status = STATUS_OK;

	if (code != SQLITE_DONE && code != SQLITE_ROW)
		status = view_failed(view, code);
	sqlite3_reset(stmt);
	return status;
}

enum status_code view_read_state(struct view *view)
{
	sqlite3_stmt *stmt = view->stmts[SQL_STATE];
	int code = sqlite3_step(stmt);

	if (code != SQLITE_ROW) {
		sqlite3_reset(stmt);
		return view_failed(view, code);
	}
	view->state = (struct store_state){
		.applied_offset = sqlite3_column_int64(stmt, 0),
		.revision = sqlite3_column_int64(stmt, 1),
		.compact_revision = sqlite3_column_int64(stmt, 2),
		.compacted_id = sqlite3_column_int64(stmt, 3),
		.last_id = sqlite3_column_int64(stmt, 4),
		.term = (uint64_t)sqlite3_column_int64(stmt, 5),
		.cluster_id = (uint64_t)sqlite3_column_int64(stmt, 6),
		.member_id = (uint64_t)sqlite3_column_int64(stmt, 7),
		.logical_bytes = sqlite3_column_int64(stmt, 8),
		.keys = sqlite3_column_int64(stmt, 9),
		.hash = (uint64_t)sqlite3_column_int64(stmt, 10),
		.drop_revision = sqlite3_column_int64(stmt, 11),
		.owner = (uint64_t)sqlite3_column_int64(stmt, 12),
		.owner_member = (uint64_t)sqlite3_column_int64(stmt, 13),
		.level = (uint64_t)sqlite3_column_int64(stmt, 14),
		.record_hash = (uint64_t)sqlite3_column_int64(stmt, 15),
		.chain = (uint64_t)sqlite3_column_int64(stmt, 16),
		.covered_offset = sqlite3_column_int64(stmt, 17),
	};
	sqlite3_reset(stmt);
	return STATUS_OK;
}

/* After some errors, of the disk or of memory, SQLite ends a transaction by itself. */
static bool is_in_snapshot(const struct view *view)
{
	return view->holds && sqlite3_get_autocommit(view->db) == 0;
}

enum status_code view_refresh(struct view *view)
{
	/* Counted after the commit and before anyone is told of it: a snapshot as old as the count
	 * lacks nothing that was acknowledged. */
	uint64_t commits = atomic_load(view->commits);
	enum status_code status;

	if (view->seen_commits == commits && is_in_snapshot(view))
		return STATUS_OK;
	view_rest(view);
	view->seen_commits = commits;
	status = view_run(view, SQL_BEGIN);
	if (status != STATUS_OK)
		return status;
	view->holds = true;
	/* BEGIN alone takes no snapshot; the first read does. */
	status = view_read_state(view);
	if (status != STATUS_OK)
		view_rest(view);
	return status;
}

void view_rest(struct view *view)
{
	if (is_in_snapshot(view))
		view_run(view, SQL_COMMIT);
	view->holds = false;
}

enum status_code view_spend(struct view *view, int64_t rows, int64_t bytes)
{
	struct read_terms *terms = &view->terms;

	if (!terms->bounded)
		return STATUS_OK;
	if (rows > terms->rows || bytes > terms->bytes)
		return STATUS_OVER_BUDGET;
	terms->rows -= rows;
	terms->bytes -= bytes;
	return STATUS_OK;
}

/* The first version from 'id' on, whose id is given back; *later is whether it is of a revision
 * after this one, as it is when there is none. */
static enum status_code probe(struct view *view, int64_t revision, int64_t *id, bool *later)
{
	sqlite3_stmt *stmt = view->stmts[SQL_NEXT_ID];
	int code;

	sqlite3_bind_int64(stmt, 1, *id);
	code = sqlite3_step(stmt);
	*later = code != SQLITE_ROW || sqlite3_column_int64(stmt, 1) > revision;
	if (code == SQLITE_ROW)
		*id = sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : view_failed(view, code);
}

/* Revisions grow with ids. Those of a revision with very many changes reach into the next one's
 * usual place; where they end is found by halving what is left. */
enum status_code view_last_id(struct view *view, int64_t revision, int64_t *id)
{
	int64_t low = ((revision + 1) << REVISION_SHIFT) - 1; /* of this revision, or one before it */
	int64_t high = view->state.last_id + 1;               /* of a later one, or of none */
	int64_t at = low + 1;
	enum status_code status = STATUS_OK;
	bool later;

	while (at < high) {
		int64_t found = at;

		status = probe(view, revision, &found, &later);
		if (status != STATUS_OK)
			return status;
		if (later)
			high = at;
		else
			low = found;
		at = low + (high - low + 1) / 2;
	}
	*id = low;
	return STATUS_OK;
}

void view_read_row(sqlite3_stmt *stmt, struct version_row *row)
{
	*row = (struct version_row){
		.key = sqlite3_column_blob(stmt, 0),
		.key_len = (size_t)sqlite3_column_bytes(stmt, 0),
		.mod = sqlite3_column_int64(stmt, 1),
		.created = sqlite3_column_int64(stmt, 2),
		.version = sqlite3_column_int64(stmt, 3),
		.lease = sqlite3_column_int64(stmt, 4),
		.id = sqlite3_column_int64(stmt, 6),
		.stmt = stmt,
	};
}

/* Steps a statement that gives at most one row of the usual columns. */
static enum status_code step_row(struct view *view, enum sql which, bool *found, struct version_row *row)
{
	sqlite3_stmt *stmt = view->stmts[which];
	int code = sqlite3_step(stmt);

	*found = code == SQLITE_ROW;
	if (*found) {
		view_read_row(stmt, row);
		return STATUS_OK;
	}
	sqlite3_reset(stmt);
	return code == SQLITE_DONE ? STATUS_OK : view_failed(view, code);
}

enum status_code view_find_deleted(struct view *view, const uint8_t *key, size_t len, struct chain *chain)
{
	sqlite3_stmt *stmt = view->stmts[SQL_GET_DELETED];
	int code;

	*chain = (struct chain){0};
	sqlite3_bind_blob(stmt, 1, key, (int)len, SQLITE_STATIC);
	code = sqlite3_step(stmt);
	if (code == SQLITE_ROW)
		chain_read(chain, stmt, 0, 1, 2);
	sqlite3_reset(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : view_failed(view, code);
}

enum status_code view_read_version(struct view *view, int64_t id, bool bare, struct version_row *row)
{
	enum sql which = bare ? SQL_VERSION_BARE : SQL_VERSION;
	enum status_code status;
	bool found;

	sqlite3_bind_int64(view->stmts[which], 1, id);
	status = step_row(view, which, &found, row);
	return status == STATUS_OK && !found ? view_misses(id) : status;
}

/* Finds a key that has changed since, or that is gone. */
static enum status_code find_old(struct view *view, const struct chain *chain, int64_t revision, bool bare,
                                 bool *found, struct version_row *row)
{
	int64_t last_id, id;
	enum status_code status = view_last_id(view, revision, &last_id);

	*found = false;
	/* A deletion that the revision sees: there was no key. */
	if (status != STATUS_OK || chain->id <= last_id)
		return status;
	status = chain_find(view, chain, last_id, &id);
	if (status != STATUS_OK || id == 0)
		return status;
	status = view_read_version(view, id, bare, row);
	*found = status == STATUS_OK;
	return status;
}

static enum status_code find(struct view *view, const uint8_t *key, size_t len, int64_t revision, bool bare,
                             bool *found, struct version_row *row)
{
	enum sql which = bare ? SQL_GET_BARE : SQL_GET;
	struct chain chain;
	enum status_code status;

	sqlite3_bind_blob(view->stmts[which], 1, key, (int)len, SQLITE_STATIC);
	status = step_row(view, which, found, row);
	if (status != STATUS_OK || revision == 0 || (*found && row->mod <= revision))
		return status;
	if (*found) {
		/* The newest value was read for nothing, but it was read. */
		status = view_spend(view, 0, sqlite3_column_bytes(row->stmt, 5));
		chain_read(&chain, row->stmt, 6, 7, 8);
		view_release(row);
	} else {
		status = view_find_deleted(view, key, len, &chain);
	}
	return status == STATUS_OK ? find_old(view, &chain, revision, bare, found, row) : status;
}

enum status_code view_find(struct view *view, const uint8_t *key, size_t len, int64_t revision, bool *found,
                           struct version_row *row)
{
	return find(view, key, len, revision, false, found, row);
}

enum status_code view_find_bare(struct view *view, const uint8_t *key, size_t len, int64_t revision,
                                bool *found, struct version_row *row)
{
	return find(view, key, len, revision, true, found, row);
}

void view_release(struct version_row *row)
{
	sqlite3_reset(row->stmt);
	row->stmt = NULL;
}

Pb__ResponseHeader *view_header(int64_t revision, struct arena *arena)
{
	Pb__ResponseHeader *header = arena_alloc(arena, sizeof *header);

	if (header == NULL)
		return NULL;
	pb__response_header__init(header);
	header->revision = revision;
	return header;
}

Pb__KeyValue *view_message(const struct version_row *row, bool with_value, struct arena *arena)
{
	const void *value = with_value ? sqlite3_column_blob(row->stmt, 5) : NULL;
	size_t value_len = with_value ? (size_t)sqlite3_column_bytes(row->stmt, 5) : 0;
	Pb__KeyValue *kv = arena_alloc(arena, sizeof *kv + row->key_len + value_len);
	uint8_t *bytes;

	if (kv == NULL)
		return NULL;
	bytes = (uint8_t *)(kv + 1);
	pb__key_value__init(kv);
	kv->key = (ProtobufCBinaryData){.len = row->key_len, .data = bytes};
	memcpy(bytes, row->key, row->key_len);
	kv->create_revision = row->created;
	kv->mod_revision = row->mod;
	kv->version = row->version;
	kv->lease = row->lease;
	if (value_len > 0) {
		kv->value = (ProtobufCBinaryData){.len = value_len, .data = bytes + row->key_len};
		memcpy(kv->value.data, value, value_len);
	}
	return kv;
}

ProtobufCBinaryData view_lend(const void *data, size_t len)
{
	union {
		const void *in;
		uint8_t *out;
	} unconst = {.in = data};

	return (ProtobufCBinaryData){.len = len, .data = unconst.out};
}

void view_lend_row(const struct version_row *row, Pb__KeyValue *kv)
{
	pb__key_value__init(kv);
	kv->key = view_lend(row->key, row->key_len);
	kv->create_revision = row->created;
	kv->mod_revision = row->mod;
	kv->version = row->version;
	kv->lease = row->lease;
	if (row->stmt != NULL)
		kv->value = view_lend(sqlite3_column_blob(row->stmt, 5),
		                      (size_t)sqlite3_column_bytes(row->stmt, 5));
}
