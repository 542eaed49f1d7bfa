/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A view: one database connection with its prepared statements and the scalars
 * of the snapshot it reads. The store's own view is the only one that writes;
 * every reader thread has another.
 *
 *     view_open ─ [ [ view_refresh ─ reads ]* ─ view_rest ]* ─ view_close
 *
 * A reader's snapshot is kept from one read to the next for as long as nothing
 * is committed, which saves half the cost of a short read. Its thread gives it
 * back with view_rest before it sleeps, so that it never holds up the
 * write-ahead log.
 *
 * A view is used by one thread at a time (the connection has no mutex).
 */
#ifndef KETA_VIEW_H
#define KETA_VIEW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "kv.pb-c.h"
#include "rpc.pb-c.h"
#include "state/chain.h"
#include "state/schema.h"

/* The scalars of the state, as of one snapshot. The database row 'state'. */
struct store_state {
	int64_t applied_offset;   /* of the last log record whose effects are in here */
	int64_t revision;         /* the newest; 1 in a store without writes */
	int64_t compact_revision; /* the oldest that can be read; -1 before the first compaction */
	int64_t compacted_id;     /* versions up to here have been gone through by compaction */
	int64_t last_id;          /* of the newest row of 'version' */
	uint64_t term;
	uint64_t cluster_id;
	uint64_t member_id;
	int64_t logical_bytes; /* what the quota counts: see version_cost */
	int64_t keys;          /* that exist at the newest revision */
	uint64_t hash;         /* chained over all changes; equal states have equal hashes */
	int64_t drop_revision; /* what a compaction to here makes obsolete may leave the file */

	/* Under a shared log only, but for the level. */
	uint64_t owner; /* the incarnation that holds the term; 0: none has taken it */
	uint64_t owner_member;
	uint64_t level;         /* the newest format that records may have */
	uint64_t record_hash;   /* of the record at applied_offset */
	uint64_t chain;         /* chained over all records up to it */
	int64_t covered_offset; /* of the newest checkpoint that the log tells of */
};

/* How one read goes about its work. All zero: for as long as it takes, in
 * several snapshots (state/scan.h). One that is bounded ends with
 * STATUS_OVER_BUDGET when it needs more; by then it has read one row too many,
 * at most. */
struct read_terms {
	bool bounded;
	bool one_snapshot; /* it keeps its snapshot: no compaction can overtake it */
	int64_t rows;      /* that it may still look at, part of its answer or not */
	int64_t bytes;     /* of keys and values that it may still read */
};

/* A row of the past counts for more: it is looked for in a chain of versions. */
enum { VIEW_OLD_ROW_COST = 5 };

struct view {
	sqlite3 *db;
	sqlite3_stmt *stmts[SQL_COUNT];
	struct store_state state;        /* of the snapshot; read by view_refresh */
	bool writes;                     /* it is the store's own: sees its uncommitted changes */
	bool holds;                      /* a snapshot is open */
	const _Atomic uint64_t *commits; /* of the store, to know when a kept snapshot is old */
	uint64_t seen_commits;           /* before the snapshot was taken */
	struct read_terms terms;         /* of the read that runs, set by whoever runs it */
	const _Atomic bool *canceled;    /* tells a long walk to give up, or NULL */
};

/* One version of a key, as a statement's row shows it. Borrowed until the
 * statement moves. */
struct version_row {
	const uint8_t *key;
	size_t key_len;
	int64_t mod, created, version, lease;
	int64_t id;
	sqlite3_stmt *stmt; /* value is read from it on demand; NULL: there is none to read */
};

/* What a connection is for, which settles how it reads the file. When another
 * one has committed, SQLite drops what it has cached and, where the file is
 * mapped, the mapping: a map pays for long reads and for the writer, whose own
 * commits leave it alone, and costs short reads three times what it saves. */
enum view_use {
	VIEW_WRITE,      /* the store's own */
	VIEW_SHORT_READ, /* a few rows at a time */
	VIEW_LONG_READ,  /* listings and counts */
};

/* Opens a connection and prepares its statements. 'commits' counts the store's
 * commits; the store's own view does not need it. */
enum status_code view_open(struct view *view, const char *path, const char *vfs, enum view_use use,
                           const _Atomic uint64_t *commits);

/* What a power cut takes from the file comes back from elsewhere: commits need not wait for the disk. */
enum status_code view_relax(struct view *view);
void view_close(struct view *view);

/* Sees to it that the view reads everything committed until now, and knows its
 * scalars. */
enum status_code view_refresh(struct view *view);

/* Gives up the snapshot. */
void view_rest(struct view *view);

/* Takes a part of what the read may cost: STATUS_OVER_BUDGET. */
enum status_code view_spend(struct view *view, int64_t rows, int64_t bytes);

/* Runs a statement that returns no rows, and resets it. */
enum status_code view_run(struct view *view, enum sql which);

/* Logs the connection's error and translates the code. */
enum status_code view_failed(const struct view *view, int sqlite_code);

/* Logs that a version to which the history leads is not there, and gives the code for it. */
enum status_code view_misses(int64_t id);

/* Reads the scalars of the current snapshot. */
enum status_code view_read_state(struct view *view);

/* The highest version id that a read at this revision may see. */
enum status_code view_last_id(struct view *view, int64_t revision, int64_t *id);

/* The row on which a statement of the usual columns stands. */
void view_read_row(sqlite3_stmt *stmt, struct version_row *row);

/* Finds a key as of a revision (0: the newest): *found, and if so its row,
 * which is valid until *row is passed to view_release. */
enum status_code view_find(struct view *view, const uint8_t *key, size_t len, int64_t revision, bool *found,
                           struct version_row *row);
void view_release(struct version_row *row);

/* The same without the value, which is not read then; the row has NULL for it. */
enum status_code view_find_bare(struct view *view, const uint8_t *key, size_t len, int64_t revision,
                                bool *found, struct version_row *row);

/* The row of one version, which is not a deletion, in the same way. It must be
 * there: compaction drops nothing that a chain leads to (state/chain.h). */
enum status_code view_read_version(struct view *view, int64_t id, bool bare, struct version_row *row);

/* The end of the key's chain of versions, of a key that does not exist: all
 * zero when it never did, or not since the last compaction. */
enum status_code view_find_deleted(struct view *view, const uint8_t *key, size_t len, struct chain *chain);

/* A row as a message in the arena. The key is always there; the value only if
 * wanted. NULL without memory. */
Pb__KeyValue *view_message(const struct version_row *row, bool with_value, struct arena *arena);

/* Bytes as a field of a message that nobody writes to or frees. */
ProtobufCBinaryData view_lend(const void *data, size_t len);

/* A row as such a message, valid as long as the row: with the value, if its
 * statement shows it. */
void view_lend_row(const struct version_row *row, Pb__KeyValue *kv);

/* A response header that holds a revision. NULL without memory. */
Pb__ResponseHeader *view_header(int64_t revision, struct arena *arena);

#endif
