/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/buf.h"
#include "base/wire.h"
#include "lib/test.h"
#include "log/record.h"
#include "state/compact.h"
#include "state/lease.h"
#include "state/range.h"
#include "state/renewals.h"

enum { ARENA_CAP_BYTES = 1 << 30 };

const char *fixture_path(const char *name)
{
	static char path[512];

	snprintf(path, sizeof path, "%s/%s", test_directory(), name);
	return path;
}

enum status_code fixture_open_at(struct fixture *fx, const char *dir, const char *vfs)
{
	struct store_options options = {.dir = dir, .vfs = vfs};
	enum status_code status;

	*fx = (struct fixture){.vfs = vfs};
	snprintf(fx->dir, sizeof fx->dir, "%s", dir);
	arena_init(&fx->arena, ARENA_CAP_BYTES, NULL, 0);
	status = store_open(&options, &fx->st);
	if (status == STATUS_OK)
		fx->offset = fx->st->saved.applied_offset;
	return status;
}

enum status_code fixture_try_bear(struct fixture *fx)
{
	Pb__Record rec;
	Pb__Genesis genesis;
	char *url = arena_strdup(&fx->arena, "http://127.0.0.1:2379");
	struct applied applied;
	enum status_code status = store_begin(fx->st);

	pb__record__init(&rec);
	pb__genesis__init(&genesis);
	genesis.cluster_id = FIXTURE_CLUSTER_ID;
	genesis.member_id = FIXTURE_MEMBER_ID;
	genesis.member_name = arena_strdup(&fx->arena, "default");
	genesis.client_urls = &url;
	genesis.n_client_urls = 1;
	ck_assert_int_eq(record_set_request(&rec, &genesis.base), STATUS_OK);
	if (status != STATUS_OK)
		return status;
	status = fixture_apply_record(fx, &rec, false, &applied);
	if (status != STATUS_OK) {
		store_rollback(fx->st);
		return status;
	}
	ck_assert_int_eq(applied.status, STATUS_OK);
	return store_commit(fx->st);
}

void fixture_bear(struct fixture *fx)
{
	ck_assert_int_eq(fixture_try_bear(fx), STATUS_OK);
}

void fixture_check_integrity(struct fixture *fx)
{
	sqlite3_stmt *stmt;

	ck_assert_int_eq(sqlite3_prepare_v2(fx->st->view.db, "PRAGMA integrity_check", -1, &stmt, NULL),
	                 SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
	ck_assert_str_eq((const char *)sqlite3_column_text(stmt, 0), "ok");
	sqlite3_finalize(stmt);
}

void fixture_open(struct fixture *fx)
{
	static unsigned number;
	char name[32];

	snprintf(name, sizeof name, "store-%u", ++number);
	ck_assert_int_eq(fixture_open_at(fx, fixture_path(name), NULL), STATUS_OK);
	fixture_bear(fx);
}

void fixture_shut(struct fixture *fx)
{
	if (fx->reader.db != NULL)
		view_close(&fx->reader);
	store_close(fx->st);
	fx->st = NULL;
}

void fixture_close(struct fixture *fx)
{
	fixture_shut(fx);
	arena_release(&fx->arena);
}

void fixture_reopen(struct fixture *fx)
{
	struct store_options options = {.dir = fx->dir, .vfs = fx->vfs};

	fixture_shut(fx);
	ck_assert_int_eq(store_open(&options, &fx->st), STATUS_OK);
	fx->offset = fx->st->saved.applied_offset;
}

void fixture_lose_unwritten(struct fixture *fx)
{
	struct store *st = fx->st;

	st->saved.applied_offset = st->view.state.applied_offset = st->written_offset;
	renewals_clear(st->renewals);
	fx->offset = st->written_offset;
}

void fixture_forget(struct fixture *fx)
{
	arena_reset(&fx->arena);
}

struct view *fixture_reader(struct fixture *fx)
{
	if (fx->reader.db == NULL)
		ck_assert_int_eq(store_view(fx->st, VIEW_SHORT_READ, &fx->reader), STATUS_OK);
	return &fx->reader;
}

Pb__Record *make_record(struct arena *arena, const ProtobufCMessage *request)
{
	Pb__Record *rec = arena_alloc(arena, sizeof *rec);

	pb__record__init(rec);
	rec->cluster_id = FIXTURE_CLUSTER_ID;
	rec->member_id = FIXTURE_MEMBER_ID;
	ck_assert_int_eq(record_set_request(rec, request), STATUS_OK);
	return rec;
}

enum status_code fixture_apply_record(struct fixture *fx, const Pb__Record *rec, bool undoable,
                                      struct applied *out)
{
	return apply(fx->st, rec, ++fx->offset, undoable, &fx->arena, out);
}

static enum status_code try_batch(struct fixture *fx, const ProtobufCMessage *const *requests, size_t count,
                                  bool undoable, struct applied *results)
{
	enum status_code status = store_begin(fx->st);

	if (status != STATUS_OK)
		return status;
	for (size_t i = 0; status == STATUS_OK && i < count; i++)
		status = fixture_apply_record(fx, make_record(&fx->arena, requests[i]), undoable,
		                              &results[i]);
	if (status == STATUS_OK)
		return store_commit(fx->st);
	store_rollback(fx->st);
	return status;
}

enum status_code fixture_apply_batch(struct fixture *fx, const ProtobufCMessage *const *requests,
                                     size_t count, struct applied *results)
{
	int64_t offset = fx->offset;
	enum status_code status = try_batch(fx, requests, count, false, results);

	if (status == STATUS_HALF_APPLIED) {
		fx->offset = offset;
		status = try_batch(fx, requests, count, true, results);
	}
	return status;
}

struct applied fixture_apply(struct fixture *fx, const ProtobufCMessage *request)
{
	struct applied applied;

	ck_assert_int_eq(fixture_apply_batch(fx, &request, 1, &applied), STATUS_OK);
	return applied;
}

const void *fixture_run(struct fixture *fx, const ProtobufCMessage *request)
{
	struct applied applied = fixture_apply(fx, request);

	ck_assert_str_eq(status_code_name(applied.status), "OK");
	ck_assert_ptr_nonnull(applied.response);
	return applied.response;
}

const Pb__PutResponse *fixture_put(struct fixture *fx, const char *key, const char *value)
{
	return fixture_run(fx, &make_put(&fx->arena, key, value)->base);
}

const Pb__DeleteRangeResponse *fixture_delete(struct fixture *fx, const char *key, const char *end)
{
	return fixture_run(fx, &make_delete(&fx->arena, key, end)->base);
}

void fixture_compact(struct fixture *fx, int64_t revision)
{
	fixture_run(fx, &make_compaction(&fx->arena, revision)->base);
}

size_t fixture_compact_rows(struct fixture *fx, size_t rows_per_step)
{
	size_t total = 0, dropped;
	bool done = false;

	while (!done) {
		ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
		ck_assert_int_eq(compact_step(fx->st, rows_per_step, &dropped, &done), STATUS_OK);
		ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
		total += dropped;
	}
	ck_assert(!compact_is_due(fx->st));
	return total;
}

enum status_code fixture_try_range(struct fixture *fx, const Pb__RangeRequest *request,
                                   Pb__RangeResponse **response)
{
	struct view *view = fixture_reader(fx);
	enum status_code status = view_refresh(view);

	if (status == STATUS_OK)
		status = range_run(view, request, view->state.revision, &fx->arena, response);
	view_rest(view);
	return status;
}

const Pb__RangeResponse *fixture_range(struct fixture *fx, const Pb__RangeRequest *request)
{
	Pb__RangeResponse *response = NULL;
	enum status_code status = fixture_try_range(fx, request, &response);

	ck_assert_str_eq(status_code_name(status), "OK");
	return response;
}

const char *fixture_get(struct fixture *fx, const char *key, int64_t revision)
{
	Pb__RangeRequest *request = make_range(&fx->arena, key, NULL);
	const Pb__RangeResponse *response;

	request->revision = revision;
	response = fixture_range(fx, request);
	if (response->n_kvs == 0)
		return NULL;
	return arena_printf(&fx->arena, "%.*s", (int)response->kvs[0]->value.len,
	                    (const char *)response->kvs[0]->value.data);
}

const char *fixture_show(struct fixture *fx, const Pb__RangeResponse *response)
{
	struct buf buf;
	const char *text;

	buf_init(&buf);
	for (size_t i = 0; i < response->n_kvs; i++) {
		const Pb__KeyValue *kv = response->kvs[i];

		if (i > 0)
			buf_append_byte(&buf, ' ');
		buf_append(&buf, kv->key.data, kv->key.len);
		buf_append_byte(&buf, '=');
		buf_append(&buf, kv->value.data, kv->value.len);
	}
	buf_append_byte(&buf, '\0');
	text = arena_strdup(&fx->arena, (const char *)buf.data);
	buf_release(&buf);
	return text;
}

uint64_t fixture_content_hash(struct fixture *fx)
{
	const struct store_state *state = &fx->st->saved;
	int64_t first = state->compact_revision > 0 ? state->compact_revision : 1;
	Pb__RangeRequest *request = make_range(&fx->arena, NULL, NULL);
	uint64_t hash = (uint64_t)first;

	request->key = request->range_end = make_open_end(&fx->arena);
	for (request->revision = first; request->revision <= state->revision; request->revision++) {
		struct buf packed;

		buf_init(&packed);
		wire_pack(&fixture_range(fx, request)->base, &packed);
		ck_assert(!packed.failed);
		hash = XXH3_64bits_withSeed(packed.data, packed.len, hash);
		buf_release(&packed);
	}
	return hash;
}

struct lease_hash {
	const struct store *st;
	uint64_t hash;
};

static enum status_code hash_lease(void *arg, const struct lease_row *row)
{
	struct lease_hash *hash = arg;
	struct lease_row now = *row;

	renewals_find(hash->st->renewals, row->id, &now.renewal);
	hash->hash = XXH3_64bits_withSeed(&now, sizeof now, hash->hash);
	return STATUS_OK;
}

uint64_t fixture_lease_hash(struct fixture *fx)
{
	struct lease_hash hash = {.st = fx->st};

	ck_assert_int_eq(lease_read_all(&fx->st->view, hash_lease, &hash), STATUS_OK);
	return hash.hash;
}

static void print_message(const char *title, const ProtobufCMessage *message, const struct buf *packed)
{
	fprintf(stderr, "%s %s:", title, message->descriptor->name);
	for (size_t i = 0; i < packed->len; i++)
		fprintf(stderr, " %02x", packed->data[i]);
	fprintf(stderr, "\n");
}

void assert_same_message(const ProtobufCMessage *found, const ProtobufCMessage *wanted)
{
	struct buf a, b;
	bool same;

	buf_init(&a);
	buf_init(&b);
	ck_assert_ptr_nonnull(found);
	ck_assert_ptr_nonnull(wanted);
	wire_pack(found, &a);
	wire_pack(wanted, &b);
	same = found->descriptor == wanted->descriptor && a.len == b.len &&
	       (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
	if (!same) {
		print_message("found", found, &a);
		print_message("wanted", wanted, &b);
	}
	buf_release(&a);
	buf_release(&b);
	ck_assert_msg(same, "two messages differ");
}

ProtobufCBinaryData copy_bytes(struct arena *arena, const void *data, size_t len)
{
	return (ProtobufCBinaryData){.len = len, .data = len > 0 ? arena_copy(arena, data, len) : NULL};
}

ProtobufCBinaryData make_bytes(struct arena *arena, const char *text)
{
	return copy_bytes(arena, text, text != NULL ? strlen(text) : 0);
}

ProtobufCBinaryData make_open_end(struct arena *arena)
{
	return copy_bytes(arena, "", 1);
}

Pb__PutRequest *make_put(struct arena *arena, const char *key, const char *value)
{
	Pb__PutRequest *request = arena_alloc(arena, sizeof *request);

	pb__put_request__init(request);
	request->key = make_bytes(arena, key);
	request->value = make_bytes(arena, value);
	return request;
}

Pb__DeleteRangeRequest *make_delete(struct arena *arena, const char *key, const char *end)
{
	Pb__DeleteRangeRequest *request = arena_alloc(arena, sizeof *request);

	pb__delete_range_request__init(request);
	request->key = make_bytes(arena, key);
	request->range_end = make_bytes(arena, end);
	return request;
}

Pb__RangeRequest *make_range(struct arena *arena, const char *key, const char *end)
{
	Pb__RangeRequest *request = arena_alloc(arena, sizeof *request);

	pb__range_request__init(request);
	request->key = make_bytes(arena, key);
	request->range_end = make_bytes(arena, end);
	return request;
}

Pb__CompactionRequest *make_compaction(struct arena *arena, int64_t revision)
{
	Pb__CompactionRequest *request = arena_alloc(arena, sizeof *request);

	pb__compaction_request__init(request);
	request->revision = revision;
	return request;
}

Pb__AlarmRequest *make_alarm(struct arena *arena, Pb__AlarmRequest__AlarmAction action, Pb__AlarmType kind)
{
	Pb__AlarmRequest *request = arena_alloc(arena, sizeof *request);

	pb__alarm_request__init(request);
	request->action = action;
	request->alarm = kind;
	request->memberid = FIXTURE_MEMBER_ID;
	return request;
}

Pb__TxnRequest *make_txn(struct arena *arena)
{
	Pb__TxnRequest *request = arena_alloc(arena, sizeof *request);

	pb__txn_request__init(request);
	return request;
}

Pb__LeaseGrantRequest *make_grant(struct arena *arena, int64_t id, int64_t ttl_sec)
{
	Pb__LeaseGrantRequest *request = arena_alloc(arena, sizeof *request);

	pb__lease_grant_request__init(request);
	request->id = id;
	request->ttl = ttl_sec;
	return request;
}

Pb__LeaseRevokeRequest *make_revoke(struct arena *arena, int64_t id)
{
	Pb__LeaseRevokeRequest *request = arena_alloc(arena, sizeof *request);

	pb__lease_revoke_request__init(request);
	request->id = id;
	return request;
}

Pb__LeaseRenew *make_renew(struct arena *arena, int64_t *ids, size_t count)
{
	Pb__LeaseRenew *request = arena_alloc(arena, sizeof *request);

	pb__lease_renew__init(request);
	request->ids = ids;
	request->n_ids = count;
	return request;
}

Pb__LeaseExpire *make_expire(struct arena *arena, int64_t *ids, int64_t *renewals, size_t count)
{
	Pb__LeaseExpire *request = arena_alloc(arena, sizeof *request);

	pb__lease_expire__init(request);
	request->ids = ids;
	request->renewals = renewals;
	request->n_ids = request->n_renewals = count;
	return request;
}

Pb__LeaseCheckpointed *make_checkpoint(struct arena *arena, int64_t *ids, int64_t *renewals,
                                       int64_t *remaining, size_t count)
{
	Pb__LeaseCheckpointed *request = arena_alloc(arena, sizeof *request);

	pb__lease_checkpointed__init(request);
	request->ids = ids;
	request->renewals = renewals;
	request->remaining = remaining;
	request->n_ids = request->n_renewals = request->n_remaining = count;
	return request;
}

Pb__RequestOp *make_op(struct arena *arena, ProtobufCMessage *request)
{
	Pb__RequestOp *op = arena_alloc(arena, sizeof *op);

	pb__request_op__init(op);
	if (request == NULL)
		return op;
	if (request->descriptor == &pb__range_request__descriptor) {
		op->request_case = PB__REQUEST_OP__REQUEST_REQUEST_RANGE;
		op->request_range = (Pb__RangeRequest *)request;
	} else if (request->descriptor == &pb__put_request__descriptor) {
		op->request_case = PB__REQUEST_OP__REQUEST_REQUEST_PUT;
		op->request_put = (Pb__PutRequest *)request;
	} else if (request->descriptor == &pb__delete_range_request__descriptor) {
		op->request_case = PB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
		op->request_delete_range = (Pb__DeleteRangeRequest *)request;
	} else {
		ck_assert_ptr_eq(request->descriptor, &pb__txn_request__descriptor);
		op->request_case = PB__REQUEST_OP__REQUEST_REQUEST_TXN;
		op->request_txn = (Pb__TxnRequest *)request;
	}
	return op;
}

Pb__Compare *make_compare(struct arena *arena, const char *key, Pb__Compare__CompareTarget target,
                          Pb__Compare__CompareResult result)
{
	Pb__Compare *compare = arena_alloc(arena, sizeof *compare);

	pb__compare__init(compare);
	compare->key = make_bytes(arena, key);
	compare->target = target;
	compare->result = result;
	return compare;
}

/* A longer copy of an array of pointers. */
static void *extended(struct arena *arena, const void *items, size_t count, void *item)
{
	void **longer = arena_alloc(arena, (count + 1) * sizeof *longer);

	if (count > 0)
		memcpy(longer, items, count * sizeof *longer);
	longer[count] = item;
	return longer;
}

void txn_add_compare(struct arena *arena, Pb__TxnRequest *txn, Pb__Compare *compare)
{
	txn->compare = extended(arena, txn->compare, txn->n_compare++, compare);
}

void txn_add_success(struct arena *arena, Pb__TxnRequest *txn, ProtobufCMessage *request)
{
	txn->success = extended(arena, txn->success, txn->n_success++, make_op(arena, request));
}

void txn_add_failure(struct arena *arena, Pb__TxnRequest *txn, ProtobufCMessage *request)
{
	txn->failure = extended(arena, txn->failure, txn->n_failure++, make_op(arena, request));
}
