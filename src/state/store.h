/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: the database of one node, opened once per process.
 *
 *     store_open ─ [ store_begin ─ apply* ─ store_commit ]* ─ store_close
 *
 * The applier's thread alone writes, in transactions that cover a batch of log
 * records; the log position is written with them, so a crash loses nothing
 * that was acknowledged and applies nothing twice. Reader threads open views
 * of their own with store_view.
 *
 * What an apply makes is deterministic (state/apply.h); how the rows get into
 * the file, and when old ones leave it, is this node's own business.
 */
#ifndef KETA_STORE_H
#define KETA_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "state/event.h"
#include "state/view.h"

enum {
	/* What a version is counted as beside its key and value, about its share
	 * of the tables and their indexes. */
	VERSION_OVERHEAD_BYTES = 64,
};

/* The log whose records make the state; a database belongs to one kind for good. */
enum log_kind { LOG_EMBEDDED, LOG_KAFKA };

struct store_options {
	const char *dir; /* created with its parents' consent: the last component only */
	const char *vfs; /* NULL: the one that keeps the file to this process */
	enum log_kind log_kind;
	const char *kafka_id; /* of Kafka's cluster, if known: a database of another one is refused */
};

/* A node that has joined, and how far its records were applied. */
struct store_member {
	uint64_t id;
	uint64_t number; /* of its incarnation: only a higher one may follow */
	uint64_t incarnation;
	uint64_t sequence;
	uint64_t level; /* the newest format of records that it knows */
};
enum { STORE_MEMBERS_MAX = 256 };

/* What a transaction did to a lease. */
enum lease_deed { LEASE_GRANTED, LEASE_RENEWED, LEASE_GONE };
struct lease_note {
	enum lease_deed deed;
	int64_t id;
	int64_t ttl_sec; /* unless it is gone */
	int64_t renewal; /* the log offset of the grant or renewal */
};

/* Where a record began: what undoing it goes back to. */
struct store_mark {
	struct store_state state;
	bool alarm_nospace, alarm_corrupt;
	int rows; /* SQLite's count of rows written */
	size_t events, lease_notes;
};

struct store {
	struct view view;         /* the writing one; view.state is the state being made */
	struct store_state saved; /* as of the last commit, and what a roll-back returns to */
	struct store_mark record_start;
	int64_t changes;                   /* of the revision being made */
	int64_t record_changes;            /* of all revisions of the record being applied */
	bool alarm_nospace, alarm_corrupt; /* any member's; kept with the table 'alarm' */
	bool saved_nospace, saved_corrupt; /* as of the last commit */
	bool shared;                       /* the log is Kafka's: records are of many nodes */
	struct store_member members[STORE_MEMBERS_MAX];
	struct store_member saved_members[STORE_MEMBERS_MAX]; /* as of the last commit */
	size_t member_count, saved_member_count;
	uint64_t written_sequences[STORE_MEMBERS_MAX]; /* as they stand in the database */

	/* For watchers. The applier says, between transactions, whether changes are
	 * to be kept, and with the pairs before; store_take_news fetches them. */
	bool keeps_news, keeps_prev;
	struct event_batch *news; /* of the open transaction, or the last; NULL unless they are kept */

	/* For who times leases: what the last transaction did, in order. Valid from
	 * its commit until the next one begins. */
	struct lease_note *lease_notes;
	size_t lease_note_count, lease_note_size;
	struct lease_renewals *renewals; /* those not written yet */

	int begin_rows;         /* SQLite's count when the transaction began */
	int64_t written_offset; /* of the log, as it stands in the database */
	bool writes_next;       /* the next commit writes in any case: the last one may have failed */

	bool compacting; /* there may be rows left that compaction has to drop */
	int lock_fd;
	_Atomic int wal_pages; /* in the write-ahead log after the last commit */
	char *path;
	char *vfs;

	_Atomic uint64_t commits; /* since the store was opened */
};

/* Opens or creates the database. STATUS_BUSY when another process has it;
 * STATUS_BAD_DATABASE when it is not one of ours or from a newer version;
 * STATUS_IO_ERROR or STATUS_DISK_FULL when directory or file cannot be used.
 * What is wrong was logged, with its path. */
enum status_code store_open(const struct store_options *options, struct store **out);

/* Writes the log back into the file and closes it. */
void store_close(struct store *st);

/* A view for a reader thread. */
enum status_code store_view(struct store *st, enum view_use use, struct view *view);

/* One transaction. After a failed commit, as after store_rollback, the state
 * is that of the last commit. The applier's thread.
 *
 * A transaction that changed nothing but the log position and renewals of
 * leases is not written: both come with the next one that is, after some
 * thousand records, or when the store is closed. The first commit after a roll-back is written in any case,
 * so it tells whether the database can be. */
enum status_code store_begin(struct store *st);
enum status_code store_commit(struct store *st);
void store_rollback(struct store *st);

/* The changes of the last commit, for the caller to release; NULL when it made
 * none. What could not be kept for lack of memory is marked as missing. */
struct event_batch *store_take_news(struct store *st);

/* Ends a revision inside a record that makes several. */
void store_next_revision(struct store *st);

/* Whether the record being applied has changed anything so far. */
bool store_record_changed(const struct store *st);

/* Around a record: what it changed can be taken back while others in the same
 * transaction stay. 'undoable' asks for the means to take it back. */
enum status_code store_record_begin(struct store *st, bool undoable);
enum status_code store_record_end(struct store *st, bool undoable, bool undo);

/* The revision that the record being applied reads at: its own, once it has
 * changed something. */
int64_t store_revision(const struct store *st);

/* Adds a change to the revision being made: a new version of a key, with
 * everything that goes with it. 'chain' is the end of the key's chain before,
 * 'existed' whether that is a version with a value. A deletion has created and
 * version 0 and no value. */
struct change {
	const uint8_t *key;
	size_t key_len;
	const uint8_t *value;
	size_t value_len;
	int64_t created, version, lease;
	struct chain chain;
	bool existed;
	bool deleted;
};
enum status_code store_change(struct store *st, const struct change *change);

/* Under a shared log: the record that was just applied is the one of these bytes. */
void store_note_record(struct store *st, const void *data, size_t len);

/* The member of this id, or NULL. */
struct store_member *store_find_member(struct store *st, uint64_t id);

/* Chains a change that is not of a key into the state's hash. */
void store_mix(struct store *st, const void *data, size_t len);

/* Forgets the deletion 'id' of a key, if the key is still gone by it. */
enum status_code store_drop_tombstone(struct store *st, const uint8_t *key, size_t len, int64_t id);

/* What the quota counts for one version. */
int64_t version_cost(size_t key_len, size_t value_len);

/* Moves pages from the write-ahead log into the database file, as far as no
 * reader needs them where they are, on a view of the caller's own thread. */
enum status_code store_checkpoint(struct view *view);

/* Moves all of them, so that the next transaction starts the log afresh. The
 * applier's thread, between two transactions; waits a few milliseconds for
 * readers and gives up then: to be tried again after the next commit. */
enum status_code store_restart_wal(struct store *st);

/* Bytes of the file, of its pages in use, and of the write-ahead log. The view
 * is fresh. */
enum status_code store_sizes(struct store *st, struct view *view, int64_t *file_bytes, int64_t *used_bytes,
                             int64_t *wal_bytes);

#endif
