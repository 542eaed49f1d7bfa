/* SPDX-License-Identifier: Apache-2.0 */
#include "state/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/logger.h"
#include "base/wire.h"
#include "state/chain.h"
#include "state/quota.h"
#include "state/rows.h"
#include "state/schema.h"
#include "state/store.h"

enum { ROW_CAP_BYTES = 1 << 30 };

#define STATEMENTS(X)                                                                                      \
	X(PUT_KV,                                                                                          \
	  "INSERT OR REPLACE INTO version (id, key, mod, created, version, lease, previous, skips,"        \
	  " deleted, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, NULL, ?7, ?8)")                             \
	X(DROP_KV, "DELETE FROM version WHERE id = ?1")                                                    \
	X(PUT_LEASE,                                                                                       \
	  "INSERT OR REPLACE INTO lease (id, ttl_sec, renewal, remaining_sec) VALUES (?1, ?2, ?3, ?4)")    \
	X(DROP_LEASE, "DELETE FROM lease WHERE id = ?1")                                                   \
	X(IN_KEY_ORDER, "SELECT id, key FROM version ORDER BY key, id")                                    \
	X(READ_KV,                                                                                         \
	  "SELECT key, mod, created, version, lease, value, id, deleted FROM version WHERE id = ?1")       \
	X(LINK, "UPDATE version SET previous = ?2, skips = ?3 WHERE id = ?1")                              \
	X(ADD_CURRENT,                                                                                     \
	  "INSERT INTO current (key, id, mod, created, version, lease, number, heads, value)"              \
	  " SELECT key, id, mod, created, version, lease, ?2, ?3, value FROM version WHERE id = ?1")       \
	X(ADD_TOMBSTONE, "INSERT INTO tombstone (key, id, number, heads)"                                  \
	                 " SELECT key, id, ?2, ?3 FROM version WHERE id = ?1")                             \
	X(LEASES, "SELECT id, ttl_sec, remaining_sec, renewal FROM lease")                                 \
	X(PASSED_ID, "SELECT id FROM version WHERE mod <= ?1 ORDER BY id DESC LIMIT 1")                    \
	X(ADD_MEMBER, "INSERT INTO member (id, name, client_urls, number, incarnation, sequence, version," \
	              " level) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                                   \
	X(ADD_ALARM, "INSERT INTO alarm (member_id, kind) VALUES (?1, ?2)")                                \
	X(SET_STATE, "UPDATE state SET applied_offset = ?1, revision = ?2, compact_revision = ?3,"         \
	             " compacted_id = ?4, last_id = ?5, term = ?6, cluster_id = ?7, logical_bytes = ?8,"   \
	             " keys = ?9, hash = ?10, drop_revision = ?3, owner = ?11, owner_member = ?12,"        \
	             " level = ?13, record_hash = ?14, chain = ?15, log_kind = 'kafka', kafka_id = ?16,"   \
	             " covered_offset = ?1")

enum statement {
#define X(name, text) S_##name,
	STATEMENTS(X)
#undef X
		S_COUNT
};

static const char *const TEXTS[S_COUNT] = {
#define X(name, text) [S_##name] = text,
	STATEMENTS(X)
#undef X
};

/* Everything is on disk before the rename; until then a cut costs nothing but the work. */
static const char SETTINGS[] =
	"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;"
	"PRAGMA temp_store = MEMORY; PRAGMA locking_mode = EXCLUSIVE;";

struct restore {
	sqlite3 *db;
	sqlite3_stmt *stmts[S_COUNT];
	char *path, *final_path, *dir;
	struct arena arena; /* of one row */
	/* What is counted while it is built. */
	struct row_sum kv, leases;
	int64_t keys, logical_bytes;
	struct buf row;
};

static enum status_code failed(const struct restore *restore, int code)
{
	logger_error("store", "the new database cannot be built", LOG_STR("file", restore->path),
	             LOG_STR("error", sqlite3_errmsg(restore->db)), LOG_END);
	return schema_translate(code);
}

static enum status_code run(struct restore *restore, enum statement which)
{
	int code = sqlite3_step(restore->stmts[which]);

	sqlite3_reset(restore->stmts[which]);
	return code == SQLITE_DONE ? STATUS_OK : failed(restore, code);
}

static enum status_code execute(struct restore *restore, const char *sql)
{
	int code = sqlite3_exec(restore->db, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? STATUS_OK : failed(restore, code);
}

static enum status_code open_new(struct restore *restore, const char *vfs)
{
	int code;
	enum status_code status;

	unlink(restore->path);
	code = sqlite3_open_v2(restore->path, &restore->db,
	                       SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, vfs);
	if (restore->db == NULL)
		return STATUS_NO_MEMORY;
	if (code != SQLITE_OK)
		return failed(restore, code);
	status = execute(restore, SETTINGS);
	if (status == STATUS_OK)
		status = schema_create(restore->db);
	if (status == STATUS_OK)
		status = execute(restore, "BEGIN IMMEDIATE");
	for (int i = 0; status == STATUS_OK && i < S_COUNT; i++) {
		code = sqlite3_prepare_v3(restore->db, TEXTS[i], -1, SQLITE_PREPARE_PERSISTENT,
		                          &restore->stmts[i], NULL);
		if (code != SQLITE_OK)
			status = failed(restore, code);
	}
	return status;
}

enum status_code restore_begin(const char *dir, const char *vfs, struct restore **out)
{
	struct restore *restore = calloc(1, sizeof *restore);
	enum status_code status = STATUS_NO_MEMORY;

	if (restore == NULL)
		return STATUS_NO_MEMORY;
	arena_init(&restore->arena, ROW_CAP_BYTES, NULL, 0);
	buf_init(&restore->row);
	restore->dir = strdup(dir);
	if (asprintf(&restore->path, "%s/keta.db.new", dir) < 0)
		restore->path = NULL;
	if (asprintf(&restore->final_path, "%s/keta.db", dir) < 0)
		restore->final_path = NULL;
	if (restore->dir != NULL && restore->path != NULL && restore->final_path != NULL)
		status = open_new(restore, vfs);
	if (status != STATUS_OK) {
		restore_abort(restore);
		return status;
	}
	*out = restore;
	return STATUS_OK;
}

static void close_database(struct restore *restore)
{
	for (int i = 0; i < S_COUNT; i++) {
		sqlite3_finalize(restore->stmts[i]);
		restore->stmts[i] = NULL;
	}
	sqlite3_close(restore->db);
	restore->db = NULL;
}

static void free_restore(struct restore *restore)
{
	arena_release(&restore->arena);
	buf_release(&restore->row);
	free(restore->path);
	free(restore->final_path);
	free(restore->dir);
	free(restore);
}

void restore_abort(struct restore *restore)
{
	if (restore == NULL)
		return;
	close_database(restore);
	if (restore->path != NULL)
		unlink(restore->path);
	free_restore(restore);
}

static enum status_code put_kv(struct restore *restore, int64_t id, const Pb__KvRow *row)
{
	sqlite3_stmt *stmt = restore->stmts[S_PUT_KV];

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_blob64(stmt, 2, row->key.data, row->key.len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, row->mod_revision);
	sqlite3_bind_int64(stmt, 4, row->create_revision);
	sqlite3_bind_int64(stmt, 5, row->version);
	sqlite3_bind_int64(stmt, 6, row->lease);
	sqlite3_bind_int(stmt, 7, row->deleted);
	sqlite3_bind_blob64(stmt, 8, row->value.len > 0 ? (const void *)row->value.data : "",
	                    row->value.len, SQLITE_STATIC);
	return run(restore, S_PUT_KV);
}

static enum status_code put_lease(struct restore *restore, int64_t id, const Pb__LeaseRow *row)
{
	sqlite3_stmt *stmt = restore->stmts[S_PUT_LEASE];

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, row->ttl_sec);
	sqlite3_bind_int64(stmt, 3, row->renewal);
	sqlite3_bind_int64(stmt, 4, row->remaining_sec);
	return run(restore, S_PUT_LEASE);
}

enum status_code restore_row(struct restore *restore, bool is_lease, const uint8_t *key, size_t key_len,
                             const uint8_t *value, size_t value_len)
{
	enum statement drop = is_lease ? S_DROP_LEASE : S_DROP_KV;
	ProtobufCMessage *message;
	enum status_code status;
	int64_t id;

	if (!row_id(key, key_len, &id))
		return STATUS_BAD_RECORD;
	if (value == NULL) {
		sqlite3_bind_int64(restore->stmts[drop], 1, id);
		return run(restore, drop);
	}
	arena_reset(&restore->arena);
	status = wire_unpack(is_lease ? &pb__lease_row__descriptor : &pb__kv_row__descriptor, value,
	                     value_len, &restore->arena, &message);
	if (status != STATUS_OK)
		return status == STATUS_BAD_REQUEST ? STATUS_BAD_RECORD : status;
	return is_lease ? put_lease(restore, id, (const Pb__LeaseRow *)message)
	                : put_kv(restore, id, (const Pb__KvRow *)message);
}

static void bind_ids(sqlite3_stmt *stmt, int at, const struct chain_blob *blob)
{
	if (blob->bytes > 0)
		sqlite3_bind_blob(stmt, at, blob->ids, blob->bytes, SQLITE_TRANSIENT);
	else
		sqlite3_bind_null(stmt, at);
}

/* Counts a version in, and tells whether it is a deletion. */
static enum status_code count_version(struct restore *restore, int64_t id, bool *deleted)
{
	sqlite3_stmt *stmt = restore->stmts[S_READ_KV];
	int code;

	sqlite3_bind_int64(stmt, 1, id);
	code = sqlite3_step(stmt);
	if (code == SQLITE_ROW) {
		row_pack_kv(stmt, &restore->row);
		row_sum_add(&restore->kv, id, restore->row.data, restore->row.len);
		restore->logical_bytes += version_cost((size_t)sqlite3_column_bytes(stmt, 0),
		                                       (size_t)sqlite3_column_bytes(stmt, 5));
		*deleted = sqlite3_column_int(stmt, 7) != 0;
	}
	sqlite3_reset(stmt);
	if (code != SQLITE_ROW)
		return failed(restore, code);
	return restore->row.failed ? STATUS_NO_MEMORY : STATUS_OK;
}

/* A key's newest version goes where the ends of chains are. */
static enum status_code add_end(struct restore *restore, const struct chain *chain, bool deleted)
{
	enum statement which = deleted ? S_ADD_TOMBSTONE : S_ADD_CURRENT;
	struct chain_blob heads;

	chain_heads(chain, &heads);
	restore->keys += !deleted;
	sqlite3_bind_int64(restore->stmts[which], 1, chain->id);
	sqlite3_bind_int64(restore->stmts[which], 2, chain->number);
	bind_ids(restore->stmts[which], 3, &heads);
	return run(restore, which);
}

static enum status_code add_link(struct restore *restore, struct chain *chain, int64_t id)
{
	sqlite3_stmt *stmt = restore->stmts[S_LINK];
	int64_t previous = chain->id;
	struct chain_blob skips;

	chain_add(chain, id, &skips);
	if (previous == 0)
		return STATUS_OK;
	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_int64(stmt, 2, previous);
	bind_ids(stmt, 3, &skips);
	return run(restore, S_LINK);
}

/* Goes through all versions, key by key and the oldest first. */
static enum status_code link_versions(struct restore *restore)
{
	sqlite3_stmt *stmt = restore->stmts[S_IN_KEY_ORDER];
	struct buf key;
	struct chain chain = {0};
	bool deleted = false;
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	buf_init(&key);
	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		int64_t id = sqlite3_column_int64(stmt, 0);
		const void *next = sqlite3_column_blob(stmt, 1);
		size_t len = (size_t)sqlite3_column_bytes(stmt, 1);

		if (chain.id != 0 && (len != key.len || memcmp(next, key.data, len) != 0)) {
			status = add_end(restore, &chain, deleted);
			chain = (struct chain){0};
		}
		buf_reset(&key);
		buf_append(&key, next, len);
		if (status == STATUS_OK)
			status = add_link(restore, &chain, id);
		if (status == STATUS_OK)
			status = count_version(restore, id, &deleted);
		if (key.failed)
			status = STATUS_NO_MEMORY;
	}
	sqlite3_reset(stmt);
	if (status == STATUS_OK && code != SQLITE_DONE)
		status = failed(restore, code);
	if (status == STATUS_OK && chain.id != 0)
		status = add_end(restore, &chain, deleted);
	buf_release(&key);
	return status;
}

static enum status_code count_leases(struct restore *restore)
{
	sqlite3_stmt *stmt = restore->stmts[S_LEASES];
	int code;

	while ((code = sqlite3_step(stmt)) == SQLITE_ROW) {
		row_pack_lease(sqlite3_column_int64(stmt, 1), sqlite3_column_int64(stmt, 2),
		               sqlite3_column_int64(stmt, 3), &restore->row);
		row_sum_add(&restore->leases, sqlite3_column_int64(stmt, 0), restore->row.data,
		            restore->row.len);
		restore->logical_bytes += QUOTA_LEASE_BYTES;
	}
	sqlite3_reset(stmt);
	if (restore->row.failed)
		return STATUS_NO_MEMORY;
	return code == SQLITE_DONE ? STATUS_OK : failed(restore, code);
}

static enum status_code add_members(struct restore *restore, const Pb__Marker *marker)
{
	sqlite3_stmt *stmt = restore->stmts[S_ADD_MEMBER];
	enum status_code status = STATUS_OK;

	for (size_t i = 0; status == STATUS_OK && i < marker->n_members; i++) {
		const Pb__MemberRow *member = marker->members[i];

		sqlite3_bind_int64(stmt, 1, (int64_t)member->id);
		sqlite3_bind_text(stmt, 2, member->name, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 3, member->client_urls, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 4, (int64_t)member->number);
		sqlite3_bind_int64(stmt, 5, (int64_t)member->incarnation);
		sqlite3_bind_int64(stmt, 6, (int64_t)member->sequence);
		sqlite3_bind_text(stmt, 7, member->version, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 8, member->level);
		status = run(restore, S_ADD_MEMBER);
	}
	for (size_t i = 0; status == STATUS_OK && i < marker->n_alarms; i++) {
		sqlite3_bind_int64(restore->stmts[S_ADD_ALARM], 1, (int64_t)marker->alarms[i]->memberid);
		sqlite3_bind_int(restore->stmts[S_ADD_ALARM], 2, (int)marker->alarms[i]->alarm);
		status = run(restore, S_ADD_ALARM);
	}
	return status;
}

static enum status_code find_passed(struct restore *restore, int64_t compact_revision, int64_t *id)
{
	sqlite3_stmt *stmt = restore->stmts[S_PASSED_ID];
	int code;

	*id = 0;
	if (compact_revision <= 0)
		return STATUS_OK;
	sqlite3_bind_int64(stmt, 1, compact_revision);
	code = sqlite3_step(stmt);
	if (code == SQLITE_ROW)
		*id = sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : failed(restore, code);
}

static enum status_code set_state(struct restore *restore, const Pb__Marker *marker, const char *kafka_id)
{
	sqlite3_stmt *stmt = restore->stmts[S_SET_STATE];
	int64_t passed_id;
	enum status_code status = find_passed(restore, marker->compact_revision, &passed_id);

	if (status != STATUS_OK)
		return status;
	sqlite3_bind_int64(stmt, 1, marker->offset);
	sqlite3_bind_int64(stmt, 2, marker->revision);
	sqlite3_bind_int64(stmt, 3, marker->compact_revision);
	sqlite3_bind_int64(stmt, 4, passed_id);
	sqlite3_bind_int64(stmt, 5, marker->last_id);
	sqlite3_bind_int64(stmt, 6, (int64_t)marker->term);
	sqlite3_bind_int64(stmt, 7, (int64_t)marker->cluster_id);
	sqlite3_bind_int64(stmt, 8, restore->logical_bytes);
	sqlite3_bind_int64(stmt, 9, restore->keys);
	sqlite3_bind_int64(stmt, 10, (int64_t)marker->hash);
	sqlite3_bind_int64(stmt, 11, (int64_t)marker->owner);
	sqlite3_bind_int64(stmt, 12, (int64_t)marker->owner_member);
	sqlite3_bind_int64(stmt, 13, marker->level);
	sqlite3_bind_int64(stmt, 14, (int64_t)marker->record_hash);
	sqlite3_bind_int64(stmt, 15, (int64_t)marker->chain);
	sqlite3_bind_text(stmt, 16, kafka_id, -1, SQLITE_STATIC);
	return run(restore, S_SET_STATE);
}

static bool is_complete(const struct restore *restore, const Pb__Marker *marker)
{
	return restore->kv.rows == marker->kv_rows && restore->kv.sum == marker->kv_sum &&
	       restore->leases.rows == marker->lease_rows && restore->leases.sum == marker->lease_sum;
}

static enum status_code build(struct restore *restore, const Pb__Marker *marker, const char *kafka_id)
{
	enum status_code status = link_versions(restore);

	if (status == STATUS_OK)
		status = count_leases(restore);
	if (status == STATUS_OK && !is_complete(restore, marker)) {
		logger_warn("store", "the rows of the tables are not those of their marker",
		            LOG_I64("rows", restore->kv.rows), LOG_I64("wanted_rows", marker->kv_rows),
		            LOG_I64("leases", restore->leases.rows),
		            LOG_I64("wanted_leases", marker->lease_rows), LOG_END);
		return STATUS_BUSY;
	}
	if (status == STATUS_OK)
		status = add_members(restore, marker);
	if (status == STATUS_OK)
		status = set_state(restore, marker, kafka_id);
	return status == STATUS_OK ? execute(restore, "COMMIT") : status;
}

static bool sync_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);
	bool synced = fd >= 0 && fsync(fd) == 0;

	if (fd >= 0)
		close(fd);
	return synced;
}

/* The file first: what lies beside it without it is nobody's. */
static bool remove_database(const char *path, const char *dir)
{
	static const char *const SUFFIXES[] = {"", "-wal", "-shm", "-journal"};
	char name[4096];

	for (size_t i = 0; i < sizeof SUFFIXES / sizeof *SUFFIXES; i++) {
		snprintf(name, sizeof name, "%s%s", path, SUFFIXES[i]);
		if (unlink(name) != 0 && errno != ENOENT)
			return false;
	}
	return sync_file(dir, O_RDONLY | O_DIRECTORY);
}

enum status_code restore_nothing(const char *dir)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/keta.db", dir);
	return remove_database(path, dir) ? STATUS_OK : STATUS_IO_ERROR;
}

/* What the old database had beside it must not be taken for the new one's. */
static bool move_in_place(const struct restore *restore)
{
	return sync_file(restore->path, O_RDWR) && remove_database(restore->final_path, restore->dir) &&
	       rename(restore->path, restore->final_path) == 0 &&
	       sync_file(restore->dir, O_RDONLY | O_DIRECTORY);
}

enum status_code restore_finish(struct restore *restore, const Pb__Marker *marker, const char *kafka_id)
{
	enum status_code status = build(restore, marker, kafka_id != NULL ? kafka_id : "");

	close_database(restore);
	if (status == STATUS_OK && !move_in_place(restore)) {
		logger_error("store", "the new database cannot be put in its place",
		             LOG_STR("file", restore->path), LOG_END);
		status = STATUS_IO_ERROR;
	}
	if (status != STATUS_OK)
		unlink(restore->path);
	free_restore(restore);
	return status;
}
