/* SPDX-License-Identifier: Apache-2.0 */
#include "state/schema.h"

#include <stdio.h>

#include "base/logger.h"

static const char *const TEXTS[SQL_COUNT] = {
#define X(name, text) [SQL_##name] = text,
	SQL_READ_TABLE(X) SQL_WRITE_TABLE(X)
#undef X
};

static const char DEFINITION[] =
	"CREATE TABLE version ("
	" id INTEGER PRIMARY KEY,"
	" key BLOB NOT NULL,"
	" mod INTEGER NOT NULL,"     /* the revision that made it */
	" created INTEGER NOT NULL," /* the key's create revision; 0 in a deletion */
	" version INTEGER NOT NULL," /* counts from 1 at each creation; 0 in a deletion */
	" lease INTEGER NOT NULL,"
	" previous INTEGER NOT NULL," /* the version that this one supersedes, or 0 */
	" skips BLOB,"                /* see state/chain.h; NULL in most */
	" deleted INTEGER NOT NULL,"
	" value BLOB NOT NULL);" /* last, so that reading the rest touches no overflow page */
	"CREATE TABLE current ("
	" key BLOB PRIMARY KEY,"
	" id INTEGER NOT NULL," /* of the same version in 'version' */
	" mod INTEGER NOT NULL, created INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL,"
	" number INTEGER NOT NULL, heads BLOB," /* the end of its chain */
	" value BLOB NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE tombstone ("
	" key BLOB PRIMARY KEY, id INTEGER NOT NULL, number INTEGER NOT NULL, heads BLOB) WITHOUT ROWID;"
	/* What falls with a lease. Most keys have none and cost nothing here. */
	"CREATE INDEX attached ON current (lease) WHERE lease != 0;"
	"CREATE TABLE lease ("
	" id INTEGER PRIMARY KEY, ttl_sec INTEGER NOT NULL,"
	" renewal INTEGER NOT NULL,"        /* the log offset of the grant or the last renewal written */
	" remaining_sec INTEGER NOT NULL);" /* as last recorded; ttl_sec if not since the renewal */
	"CREATE TABLE alarm (member_id INTEGER NOT NULL, kind INTEGER NOT NULL,"
	" PRIMARY KEY (member_id, kind)) WITHOUT ROWID;"
	"CREATE TABLE member (id INTEGER PRIMARY KEY, name TEXT NOT NULL, client_urls TEXT NOT NULL,"
	" number INTEGER NOT NULL DEFAULT 0, incarnation INTEGER NOT NULL DEFAULT 0,"
	" sequence INTEGER NOT NULL DEFAULT 0," /* of its newest record applied */
	" version TEXT NOT NULL DEFAULT '', level INTEGER NOT NULL DEFAULT 0);"
	"CREATE TABLE gone_lease (id INTEGER PRIMARY KEY, log_offset INTEGER NOT NULL);"
	/* The one row of scalars; see struct store_state. */
	"CREATE TABLE state ("
	" one INTEGER PRIMARY KEY CHECK (one = 1),"
	" log_kind TEXT NOT NULL DEFAULT 'embedded',"
	" applied_offset INTEGER NOT NULL, revision INTEGER NOT NULL, compact_revision INTEGER NOT NULL,"
	" compacted_id INTEGER NOT NULL, last_id INTEGER NOT NULL, term INTEGER NOT NULL,"
	" cluster_id INTEGER NOT NULL, member_id INTEGER NOT NULL, logical_bytes INTEGER NOT NULL,"
	" keys INTEGER NOT NULL, hash INTEGER NOT NULL,"
	" drop_revision INTEGER NOT NULL DEFAULT -1,"
	" owner INTEGER NOT NULL DEFAULT 0, owner_member INTEGER NOT NULL DEFAULT 0,"
	" level INTEGER NOT NULL DEFAULT 1, record_hash INTEGER NOT NULL DEFAULT 0,"
	" chain INTEGER NOT NULL DEFAULT 0, covered_offset INTEGER NOT NULL DEFAULT 0,"
	" kafka_id TEXT NOT NULL DEFAULT '');" /* of Kafka's cluster that the log is in */
	"INSERT INTO state (one, applied_offset, revision, compact_revision, compacted_id, last_id, term,"
	" cluster_id, member_id, logical_bytes, keys, hash) VALUES (1, 0, 1, -1, 0, 0, 1, 0, 0, 0, 0, 0);";

/* From version 1, which knew of no shared log. */
static const char MIGRATION[] =
	"ALTER TABLE member ADD COLUMN number INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE member ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE member ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE member ADD COLUMN version TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE member ADD COLUMN level INTEGER NOT NULL DEFAULT 0;"
	"CREATE TABLE gone_lease (id INTEGER PRIMARY KEY, log_offset INTEGER NOT NULL);"
	"ALTER TABLE state ADD COLUMN drop_revision INTEGER NOT NULL DEFAULT -1;"
	"ALTER TABLE state ADD COLUMN owner INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE state ADD COLUMN owner_member INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE state ADD COLUMN level INTEGER NOT NULL DEFAULT 1;"
	"ALTER TABLE state ADD COLUMN record_hash INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE state ADD COLUMN chain INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE state ADD COLUMN covered_offset INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE state ADD COLUMN kafka_id TEXT NOT NULL DEFAULT '';"
	"UPDATE state SET drop_revision = compact_revision;";

const char *schema_sql(enum sql which)
{
	return TEXTS[which];
}

enum status_code schema_translate(int sqlite_code)
{
	switch (sqlite_code & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return STATUS_OK;
	case SQLITE_FULL:
		return STATUS_DISK_FULL;
	case SQLITE_NOMEM:
		return STATUS_NO_MEMORY;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return STATUS_BUSY;
	default:
		return STATUS_IO_ERROR;
	}
}

static const char *file_name(sqlite3 *db)
{
	const char *name = sqlite3_db_filename(db, "main");

	return name != NULL ? name : "";
}

static enum status_code read_pragma(sqlite3 *db, const char *sql, int *value)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(stmt);
	if (code == SQLITE_ROW)
		*value = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	if (code == SQLITE_ROW)
		return STATUS_OK;
	logger_error("store", "the database cannot be read", LOG_STR("file", file_name(db)),
	             LOG_STR("error", sqlite3_errmsg(db)), LOG_END);
	return code == SQLITE_NOTADB ? STATUS_BAD_DATABASE : schema_translate(code);
}

enum status_code schema_check(sqlite3 *db, bool *empty)
{
	int application = 0, version = 0, tables = 0;
	enum status_code status = read_pragma(db, "PRAGMA application_id", &application);

	if (status == STATUS_OK)
		status = read_pragma(db, "PRAGMA user_version", &version);
	if (status == STATUS_OK)
		status = read_pragma(db, "SELECT count(*) FROM sqlite_schema", &tables);
	if (status != STATUS_OK)
		return status;
	*empty = application == 0 && version == 0 && tables == 0;
	if (*empty)
		return STATUS_OK;
	if (application != SCHEMA_APPLICATION_ID) {
		logger_error("store", "the database was not made by Keta", LOG_STR("file", file_name(db)),
		             LOG_END);
		return STATUS_BAD_DATABASE;
	}
	if (version > SCHEMA_VERSION) {
		logger_error("store", "the database was written by a newer version of Keta; run that one",
		             LOG_STR("file", file_name(db)), LOG_I64("schema_version", version),
		             LOG_I64("known_version", SCHEMA_VERSION), LOG_END);
		return STATUS_BAD_DATABASE;
	}
	return STATUS_OK;
}

/* One transaction: a crash leaves what was there before or all of it. */
static enum status_code define(sqlite3 *db, const char *definition)
{
	char marks[128];
	int code;

	snprintf(marks, sizeof marks, "PRAGMA application_id = %d; PRAGMA user_version = %d;",
	         SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
	code = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(db, definition, NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(db, marks, NULL, NULL, NULL);
	if (code == SQLITE_OK)
		code = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	return schema_translate(code);
}

enum status_code schema_create(sqlite3 *db)
{
	return define(db, DEFINITION);
}

enum status_code schema_migrate(sqlite3 *db)
{
	int version = 0;
	enum status_code status = read_pragma(db, "PRAGMA user_version", &version);

	if (status != STATUS_OK || version == SCHEMA_VERSION)
		return status;
	return define(db, MIGRATION);
}
