/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store in a temporary directory, and requests in few words.
 *
 *     struct fixture fx;
 *     fixture_open(&fx);
 *     fixture_put(&fx, "a", "1");
 *     kvs = fixture_range(&fx, make_range(&fx.arena, "a", "z"));
 *     fixture_close(&fx);
 *
 * Each request goes the way of the server: as a record in a transaction of its
 * own, applied again with the means to undo it when it failed half-way. What
 * the fixture makes lives in its arena until fixture_close or fixture_forget.
 * A failure that a test did not ask for ends the test.
 */
#ifndef KETA_FIXTURE_H
#define KETA_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "record.pb-c.h"
#include "state/apply.h"
#include "state/store.h"

enum {
	FIXTURE_CLUSTER_ID = 0x1234,
	FIXTURE_MEMBER_ID = 0x5678,
};

struct fixture {
	struct store *st;
	struct view reader; /* opened at first use */
	struct arena arena;
	int64_t offset; /* of the last record applied */
	char dir[300];
	const char *vfs; /* the store's; NULL for its own choice */
};

/* A path in the test's directory, in a buffer of the library's that the next
 * call reuses. */
const char *fixture_path(const char *name);

/* A new store, born: genesis is applied. */
void fixture_open(struct fixture *fx);
void fixture_close(struct fixture *fx);

/* One that lives, or will live, in this directory. The arena is initialised,
 * genesis is not applied. */
enum status_code fixture_open_at(struct fixture *fx, const char *dir, const char *vfs);

/* Closes the store and opens it again, as a restart does. */
void fixture_reopen(struct fixture *fx);

/* Takes from the store what it has not written yet, as a crash would; the log
 * goes on from fx->offset. */
void fixture_lose_unwritten(struct fixture *fx);

/* Closes store and reader, keeping the arena and the directory. */
void fixture_shut(struct fixture *fx);

/* Empties the arena: requests and responses made so far are gone. */
void fixture_forget(struct fixture *fx);

/* Applies genesis. */
void fixture_bear(struct fixture *fx);
enum status_code fixture_try_bear(struct fixture *fx);

/* SQLite's own check of the file: ends the test when it finds anything. */
void fixture_check_integrity(struct fixture *fx);

/* The request as a record of the fixture's cluster. */
Pb__Record *make_record(struct arena *arena, const ProtobufCMessage *request);

/* Applies one record inside a transaction that the caller has begun. */
enum status_code fixture_apply_record(struct fixture *fx, const Pb__Record *rec, bool undoable,
                                      struct applied *out);

/* Applies a batch of requests in one transaction, the way the applier does,
 * with a result for each. The node's failure is returned and the batch is
 * rolled back then. */
enum status_code fixture_apply_batch(struct fixture *fx, const ProtobufCMessage *const *requests,
                                     size_t count, struct applied *results);

/* Applies one. */
struct applied fixture_apply(struct fixture *fx, const ProtobufCMessage *request);

/* Applies one that must succeed; the response, of the type that fits. */
const void *fixture_run(struct fixture *fx, const ProtobufCMessage *request);

/* Short forms; end NULL is a single key. */
const Pb__PutResponse *fixture_put(struct fixture *fx, const char *key, const char *value);
const Pb__DeleteRangeResponse *fixture_delete(struct fixture *fx, const char *key, const char *end);
void fixture_compact(struct fixture *fx, int64_t revision);

/* Runs compaction's steps to the end; the number of rows that they dropped. */
size_t fixture_compact_rows(struct fixture *fx, size_t rows_per_step);

/* Reads on a reader's view. */
enum status_code fixture_try_range(struct fixture *fx, const Pb__RangeRequest *request,
                                   Pb__RangeResponse **response);
const Pb__RangeResponse *fixture_range(struct fixture *fx, const Pb__RangeRequest *request);

/* The value of a key at a revision (0: the newest) as text, or NULL. */
const char *fixture_get(struct fixture *fx, const char *key, int64_t revision);

/* "a=1 b=2": keys and values of a response. */
const char *fixture_show(struct fixture *fx, const Pb__RangeResponse *response);

/* Everything that can be read, all retained revisions, as one number. */
uint64_t fixture_content_hash(struct fixture *fx);

/* All leases with their renewals, those that are not written yet too. */
uint64_t fixture_lease_hash(struct fixture *fx);

struct view *fixture_reader(struct fixture *fx);

/* Ends the test unless both messages are the same, byte for byte. */
void assert_same_message(const ProtobufCMessage *found, const ProtobufCMessage *wanted);

/* Builders. Texts are copied; NULL gives empty bytes. */
ProtobufCBinaryData make_bytes(struct arena *arena, const char *text);
ProtobufCBinaryData copy_bytes(struct arena *arena, const void *data, size_t len);
Pb__PutRequest *make_put(struct arena *arena, const char *key, const char *value);
Pb__DeleteRangeRequest *make_delete(struct arena *arena, const char *key, const char *end);
Pb__RangeRequest *make_range(struct arena *arena, const char *key, const char *end);
Pb__CompactionRequest *make_compaction(struct arena *arena, int64_t revision);
Pb__AlarmRequest *make_alarm(struct arena *arena, Pb__AlarmRequest__AlarmAction action, Pb__AlarmType kind);
Pb__TxnRequest *make_txn(struct arena *arena);
Pb__LeaseGrantRequest *make_grant(struct arena *arena, int64_t id, int64_t ttl_sec);
Pb__LeaseRevokeRequest *make_revoke(struct arena *arena, int64_t id);

/* Of 'count' leases; the arrays are borrowed. */
Pb__LeaseRenew *make_renew(struct arena *arena, int64_t *ids, size_t count);
Pb__LeaseExpire *make_expire(struct arena *arena, int64_t *ids, int64_t *renewals, size_t count);
Pb__LeaseCheckpointed *make_checkpoint(struct arena *arena, int64_t *ids, int64_t *renewals,
                                       int64_t *remaining, size_t count);

/* The end of the key space, as etcd writes it: one zero byte. */
ProtobufCBinaryData make_open_end(struct arena *arena);

/* One operation of a transaction, by the request's type; NULL is the empty one. */
Pb__RequestOp *make_op(struct arena *arena, ProtobufCMessage *request);

/* A compare without its wanted value: set the oneof that fits. */
Pb__Compare *make_compare(struct arena *arena, const char *key, Pb__Compare__CompareTarget target,
                          Pb__Compare__CompareResult result);

void txn_add_compare(struct arena *arena, Pb__TxnRequest *txn, Pb__Compare *compare);
void txn_add_success(struct arena *arena, Pb__TxnRequest *txn, ProtobufCMessage *request);
void txn_add_failure(struct arena *arena, Pb__TxnRequest *txn, ProtobufCMessage *request);

#endif
