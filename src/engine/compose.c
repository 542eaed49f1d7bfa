/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/compose.h"

#include <string.h>

ProtobufCBinaryData bytes_join(ProtobufCBinaryData start, const char *text, struct arena *arena)
{
	size_t len = strlen(text);
	uint8_t *bytes = arena_alloc(arena, start.len + len);

	if (bytes == NULL)
		return (ProtobufCBinaryData){0};
	if (start.len > 0)
		memcpy(bytes, start.data, start.len);
	memcpy(bytes + start.len, text, len);
	return (ProtobufCBinaryData){.data = bytes, .len = start.len + len};
}

enum status_code prefix_make(struct prefix *prefix, ProtobufCBinaryData name, struct arena *arena)
{
	static const char AFTER_SLASH[] = {'/' + 1, '\0'};

	prefix->start = bytes_join(name, "/", arena);
	prefix->end = bytes_join(name, AFTER_SLASH, arena);
	return prefix->start.data != NULL && prefix->end.data != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

Pb__KeyValue *kv_copy(const Pb__KeyValue *kv, struct arena *arena)
{
	Pb__KeyValue *copy = arena_copy(arena, kv, sizeof *kv);

	if (copy == NULL)
		return NULL;
	copy->key.data = arena_copy(arena, kv->key.data, kv->key.len);
	copy->value.data = arena_copy(arena, kv->value.data, kv->value.len);
	return copy->key.data != NULL && copy->value.data != NULL ? copy : NULL;
}

Pb__RangeRequest *key_range(ProtobufCBinaryData key, struct arena *arena)
{
	Pb__RangeRequest *range = arena_alloc(arena, sizeof *range);

	if (range == NULL)
		return NULL;
	pb__range_request__init(range);
	range->key = key;
	return range;
}

Pb__RangeRequest *prefix_oldest(const struct prefix *prefix, struct arena *arena)
{
	Pb__RangeRequest *range = key_range(prefix->start, arena);

	if (range == NULL)
		return NULL;
	range->range_end = prefix->end;
	range->limit = 1;
	range->sort_target = PB__RANGE_REQUEST__SORT_TARGET__CREATE;
	range->sort_order = PB__RANGE_REQUEST__SORT_ORDER__ASCEND;
	return range;
}

Pb__RangeRequest *prefix_newest(const struct prefix *prefix, int64_t max_create, struct arena *arena)
{
	Pb__RangeRequest *range = prefix_oldest(prefix, arena);

	if (range == NULL)
		return NULL;
	range->sort_order = PB__RANGE_REQUEST__SORT_ORDER__DESCEND;
	range->max_create_revision = max_create;
	return range;
}

struct own_txn *own_txn_make(ProtobufCBinaryData key, int64_t created, struct arena *arena)
{
	struct own_txn *own = arena_alloc(arena, sizeof *own);

	if (own == NULL)
		return NULL;
	pb__txn_request__init(&own->txn);
	pb__compare__init(&own->compare);
	own->compare.result = PB__COMPARE__COMPARE_RESULT__EQUAL;
	own->compare.target = PB__COMPARE__COMPARE_TARGET__CREATE;
	own->compare.key = key;
	own->compare.target_union_case = PB__COMPARE__TARGET_UNION_CREATE_REVISION;
	own->compare.create_revision = created;
	own->compares[0] = &own->compare;
	own->txn.compare = own->compares;
	own->txn.n_compare = 1;
	own->txn.success = own->successes;
	own->txn.failure = own->failures;
	for (int i = 0; i < OWN_TXN_OPS; i++) {
		pb__request_op__init(&own->success[i]);
		pb__request_op__init(&own->failure[i]);
		own->successes[i] = &own->success[i];
		own->failures[i] = &own->failure[i];
	}
	return own;
}

void own_txn_if_leased(struct own_txn *own, int64_t lease)
{
	if (own == NULL)
		return;
	own->compare.target = PB__COMPARE__COMPARE_TARGET__LEASE;
	own->compare.target_union_case = PB__COMPARE__TARGET_UNION_LEASE;
	own->compare.lease = lease;
}

bool own_txn_then_put(struct own_txn *own, ProtobufCBinaryData key, ProtobufCBinaryData value, int64_t lease,
                      struct arena *arena)
{
	Pb__PutRequest *put = arena_alloc(arena, sizeof *put);
	Pb__RequestOp *op;

	if (own == NULL || put == NULL)
		return false;
	pb__put_request__init(put);
	put->key = key;
	put->value = value;
	put->lease = lease;
	op = own->successes[own->txn.n_success++];
	op->request_case = PB__REQUEST_OP__REQUEST_REQUEST_PUT;
	op->request_put = put;
	return true;
}

bool own_txn_then_delete(struct own_txn *own, ProtobufCBinaryData key, struct arena *arena)
{
	Pb__DeleteRangeRequest *delete_range = arena_alloc(arena, sizeof *delete_range);
	Pb__RequestOp *op;

	if (own == NULL || delete_range == NULL)
		return false;
	pb__delete_range_request__init(delete_range);
	delete_range->key = key;
	op = own->successes[own->txn.n_success++];
	op->request_case = PB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
	op->request_delete_range = delete_range;
	return true;
}

static bool add_range(Pb__RequestOp *op, size_t *count, Pb__RangeRequest *range)
{
	if (range == NULL)
		return false;
	op->request_case = PB__REQUEST_OP__REQUEST_REQUEST_RANGE;
	op->request_range = range;
	++*count;
	return true;
}

bool own_txn_then_range(struct own_txn *own, Pb__RangeRequest *range)
{
	return own != NULL && add_range(own->successes[own->txn.n_success], &own->txn.n_success, range);
}

bool own_txn_else_range(struct own_txn *own, Pb__RangeRequest *range)
{
	return own != NULL && add_range(own->failures[own->txn.n_failure], &own->txn.n_failure, range);
}
