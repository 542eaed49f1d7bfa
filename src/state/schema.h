/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database: its tables, its version, and every SQL statement of the
 * server, each named once.
 *
 *   current     the newest version of each key that exists, with its value
 *   version     every change of a key, in revision order, with its value
 *   tombstone   the deletion of each key that does not exist and has a history
 *   lease       the leases; their keys are found by an index on 'current'
 *   gone_lease  under a shared log, those that ended and that the tables may still have
 *   member      the nodes that have joined, and how far their records were applied
 *
 * A read of the newest version looks in one place, which history does not make
 * larger; a watch that catches up reads 'version' from one point to the end; a
 * read at an old revision walks back from the newest version (state/chain.h). A
 * put writes one place by key and one at the end, which is what it costs when
 * keys are many. tests/bench/schema.c compares this with the alternatives.
 *
 * version.id orders all changes. It is at least revision << REVISION_SHIFT and
 * grows by one within a revision, so the first change of a revision is found
 * without an index, and a revision may still have any number of changes.
 */
#ifndef KETA_SCHEMA_H
#define KETA_SCHEMA_H

#include <sqlite3.h>
#include <stdbool.h>

#include "base/status.h"

enum {
	SCHEMA_VERSION = 2,
	SCHEMA_APPLICATION_ID = 0x4b657461, /* "Keta" */
	REVISION_SHIFT = 20,
};

/* In 'read' statements ?1 is a key, ?2 the end of the range (exclusive), ?3 a
 * number of keys; the _FROM forms have no end. The _BARE forms give NULL for the
 * value: SQLite reads whatever a row shows, all of a large value too. HISTORY
 * gives NULL for those longer than ?2. */
#define SQL_READ_TABLE(X)                                                                                  \
	X(BEGIN, "BEGIN")                                                                                  \
	X(COMMIT, "COMMIT")                                                                                \
	X(STATE, "SELECT applied_offset, revision, compact_revision, compacted_id, last_id, term,"         \
	         " cluster_id, member_id, logical_bytes, keys, hash, drop_revision, owner,"                \
	         " owner_member, level, record_hash, chain, covered_offset FROM state")                    \
	X(GET, "SELECT key, mod, created, version, lease, value, id, number, heads FROM current"           \
	       " WHERE key = ?1")                                                                          \
	X(GET_BARE, "SELECT key, mod, created, version, lease, NULL, id, number, heads FROM current"       \
	            " WHERE key = ?1")                                                                     \
	X(GET_DELETED, "SELECT id, number, heads FROM tombstone WHERE key = ?1")                           \
	X(VERSION, "SELECT key, mod, created, version, lease, value, id FROM version WHERE id = ?1")       \
	X(VERSION_BARE, "SELECT key, mod, created, version, lease, NULL, id FROM version WHERE id = ?1")   \
	X(LINKS, "SELECT previous, skips, version FROM version WHERE id = ?1")                             \
	X(SCAN, "SELECT key, mod, created, version, lease, value, id, number, heads FROM current"          \
	        " WHERE key >= ?1 AND key < ?2 ORDER BY key")                                              \
	X(SCAN_FROM, "SELECT key, mod, created, version, lease, value, id, number, heads FROM current"     \
	             " WHERE key >= ?1 ORDER BY key")                                                      \
	X(SCAN_BARE, "SELECT key, mod, created, version, lease, NULL, id, number, heads FROM current"      \
	             " WHERE key >= ?1 AND key < ?2 ORDER BY key")                                         \
	X(SCAN_BARE_FROM, "SELECT key, mod, created, version, lease, NULL, id, number, heads"              \
	                  " FROM current WHERE key >= ?1 ORDER BY key")                                    \
	X(SCAN_ALL, "SELECT key, id, number, heads, 0 AS deleted FROM current"                             \
	            " WHERE key >= ?1 AND key < ?2 UNION ALL"                                              \
	            " SELECT key, id, number, heads, 1 FROM tombstone"                                     \
	            " WHERE key >= ?1 AND key < ?2 ORDER BY key")                                          \
	X(SCAN_ALL_FROM, "SELECT key, id, number, heads, 0 AS deleted FROM current"                        \
	                 " WHERE key >= ?1 UNION ALL"                                                      \
	                 " SELECT key, id, number, heads, 1 FROM tombstone"                                \
	                 " WHERE key >= ?1 ORDER BY key")                                                  \
	X(SKIP, "SELECT key FROM current WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT 1 OFFSET ?3")     \
	X(SKIP_FROM, "SELECT key FROM current WHERE key >= ?1 ORDER BY key LIMIT 1 OFFSET ?3")             \
	X(COUNT_TO, "SELECT count(*) FROM current WHERE key >= ?1 AND key < ?2")                           \
	X(COUNT_FROM, "SELECT count(*) FROM current WHERE key >= ?1")                                      \
	X(NEXT_ID, "SELECT id, mod FROM version WHERE id >= ?1 ORDER BY id LIMIT 1")                       \
	X(HISTORY, "SELECT key, mod, created, version, lease,"                                             \
	           " CASE WHEN length(value) <= ?2 THEN value END, id, previous, deleted"                  \
	           " FROM version WHERE id > ?1 ORDER BY id")                                              \
	X(HISTORY_AT, "SELECT key, mod, created, version, lease, value, id, previous, deleted"             \
	              " FROM version WHERE id = ?1")                                                       \
	X(LEASE, "SELECT id, ttl_sec, remaining_sec, renewal FROM lease WHERE id = ?1")                    \
	X(LEASES, "SELECT id, ttl_sec, remaining_sec, renewal FROM lease ORDER BY id")                     \
	X(ATTACHED, "SELECT key FROM current WHERE lease = ?1 AND lease != 0 ORDER BY key")                \
	X(ALARMS, "SELECT member_id, kind FROM alarm ORDER BY kind, member_id")                            \
	X(MEMBERS, "SELECT id, name, client_urls, number, incarnation, sequence, version, level"           \
	           " FROM member ORDER BY id")                                                             \
	X(PASSED, "SELECT id, mod, previous, deleted FROM version WHERE id > ?1 ORDER BY id LIMIT ?2")     \
	X(KV_ROWS, "SELECT key, mod, created, version, lease, value, id, deleted FROM version"             \
	           " WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3")                                     \
	X(CHANGED_LEASES, "SELECT id, ttl_sec, remaining_sec, renewal FROM lease"                          \
	                  " WHERE renewal > ?1 OR remaining_sec != ttl_sec ORDER BY id")                   \
	X(GONE_LEASES, "SELECT id FROM gone_lease WHERE log_offset > ?1"                                   \
	               " AND id NOT IN (SELECT id FROM lease) ORDER BY id")

#define SQL_WRITE_TABLE(X)                                                                                 \
	X(BEGIN_WRITE, "BEGIN IMMEDIATE")                                                                  \
	X(ROLLBACK, "ROLLBACK")                                                                            \
	X(SAVEPOINT, "SAVEPOINT record")                                                                   \
	X(RELEASE, "RELEASE record")                                                                       \
	X(ROLLBACK_TO, "ROLLBACK TO record")                                                               \
	X(SET_STATE, "UPDATE state SET applied_offset = ?1, revision = ?2, compact_revision = ?3,"         \
	             " compacted_id = ?4, last_id = ?5, term = ?6, cluster_id = ?7, member_id = ?8,"       \
	             " logical_bytes = ?9, keys = ?10, hash = ?11, drop_revision = ?12, owner = ?13,"      \
	             " owner_member = ?14, level = ?15, record_hash = ?16, chain = ?17,"                   \
	             " covered_offset = ?18")                                                              \
	X(ADD_VERSION, "INSERT INTO version (id, key, mod, created, version, lease, previous, skips,"      \
	               " deleted, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")                \
	X(ADD_CURRENT, "INSERT INTO current (key, id, mod, created, version, lease, number, heads,"        \
	               " value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")                              \
	X(SET_CURRENT, "UPDATE current SET id = ?2, mod = ?3, created = ?4, version = ?5, lease = ?6,"     \
	               " number = ?7, heads = ?8, value = ?9 WHERE key = ?1")                              \
	X(DROP_CURRENT, "DELETE FROM current WHERE key = ?1")                                              \
	X(ADD_TOMBSTONE, "INSERT INTO tombstone (key, id, number, heads) VALUES (?1, ?2, ?3, ?4)")         \
	X(DROP_TOMBSTONE, "DELETE FROM tombstone WHERE key = ?1 AND id = ?2")                              \
	X(SCAN_ATTACHED, "SELECT key, mod, created, version, lease, NULL, id, number, heads"               \
	                 " FROM current WHERE lease = ?1 AND lease != 0 ORDER BY key")                     \
	X(ADD_LEASE, "INSERT INTO lease (id, ttl_sec, renewal, remaining_sec) VALUES (?1, ?2, ?3, ?2)")    \
	X(RENEW_LEASE, "UPDATE lease SET renewal = ?2, remaining_sec = ttl_sec WHERE id = ?1")             \
	X(SET_REMAINING, "UPDATE lease SET renewal = ?2, remaining_sec = ?3 WHERE id = ?1")                \
	X(DROP_LEASE, "DELETE FROM lease WHERE id = ?1")                                                   \
	X(DROP_VERSION, "DELETE FROM version WHERE id = ?1")                                               \
	X(COMPACTABLE, "SELECT id, key, mod, previous, deleted, length(value) FROM version"                \
	               " WHERE id > ?1 ORDER BY id LIMIT ?2")                                              \
	X(VALUE_LENGTH, "SELECT length(value) FROM version WHERE id = ?1 AND NOT deleted")                 \
	X(ADD_ALARM, "INSERT OR IGNORE INTO alarm (member_id, kind) VALUES (?1, ?2)")                      \
	X(DROP_ALARM, "DELETE FROM alarm WHERE member_id = ?1 AND kind = ?2")                              \
	X(ADD_MEMBER, "INSERT OR REPLACE INTO member (id, name, client_urls, number, incarnation,"         \
	              " sequence, version, level) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                \
	X(SET_SEQUENCE, "UPDATE member SET sequence = ?2 WHERE id = ?1")                                   \
	X(ADD_GONE_LEASE, "INSERT OR REPLACE INTO gone_lease (id, log_offset) VALUES (?1, ?2)")            \
	X(FORGET_GONE_LEASES, "DELETE FROM gone_lease WHERE log_offset <= ?1")                             \
	X(SET_LOG_KIND, "UPDATE state SET log_kind = ?1, kafka_id = ?2")

enum sql {
#define X(name, text) SQL_##name,
	SQL_READ_TABLE(X) SQL_WRITE_TABLE(X)
#undef X
		SQL_COUNT,
	SQL_READ_COUNT = SQL_BEGIN_WRITE,
};

/* The statement's text. */
const char *schema_sql(enum sql which);

/* Looks whether the database of a just opened connection is empty or Keta's,
 * changing nothing. STATUS_BAD_DATABASE when it is another's or newer than this
 * binary; STATUS_IO_ERROR, STATUS_DISK_FULL. */
enum status_code schema_check(sqlite3 *db, bool *empty);

/* Makes the tables in an empty one. */
enum status_code schema_create(sqlite3 *db);

/* Brings the tables of an older version up to this one's. */
enum status_code schema_migrate(sqlite3 *db);

/* What an SQLite result means to the rest of the server. */
enum status_code schema_translate(int sqlite_code);

#endif
