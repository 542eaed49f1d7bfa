/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/workload.h"

#include "engine/validate.h"
#include "lib/fixture.h"

enum {
	KEY_MAX_BYTES = 3,
	LONG_VALUE_BYTES = 9000,
	TXN_MAX_OPS = 128,
};

static ProtobufCBinaryData draw_key(struct workload *work, struct arena *arena)
{
	static const uint8_t ALPHABET[] = {'a', 'b', 'a', 'c', 0x00, 0xff};
	uint8_t key[KEY_MAX_BYTES];
	size_t len = 1 + prng_below(&work->prng, KEY_MAX_BYTES);

	/* One key has a long history. */
	if (prng_chance(&work->prng, 15))
		return copy_bytes(arena, "hot", 3);
	for (size_t i = 0; i < len; i++)
		key[i] = ALPHABET[prng_below(&work->prng, sizeof ALPHABET)];
	return copy_bytes(arena, key, len);
}

static ProtobufCBinaryData draw_end(struct workload *work, ProtobufCBinaryData key, struct arena *arena)
{
	unsigned kind = prng_below(&work->prng, 10);
	ProtobufCBinaryData end;

	if (kind < 3)
		return (ProtobufCBinaryData){0};
	if (kind < 5)
		return make_open_end(arena);
	if (kind < 8)
		return draw_key(work, arena);
	/* All keys with this prefix, when the last byte can be counted up. */
	end = copy_bytes(arena, key.data, key.len);
	end.data[end.len - 1]++;
	return end;
}

static ProtobufCBinaryData draw_value(struct workload *work, struct arena *arena)
{
	size_t len = prng_below(&work->prng, 12);
	ProtobufCBinaryData value;

	if (prng_chance(&work->prng, 10))
		len = 0;
	if (prng_chance(&work->prng, 2))
		len = prng_below(&work->prng, LONG_VALUE_BYTES);
	value = (ProtobufCBinaryData){.len = len, .data = arena_alloc(arena, len)};
	/* Few different ones, so that values are equal at times. */
	for (size_t i = 0; i < len; i++)
		value.data[i] = (uint8_t)(i < 2 ? prng_below(&work->prng, 3) : i);
	return value;
}

static int64_t draw_revision(struct workload *work)
{
	int64_t first = work->compact_revision - 1;

	if (prng_chance(&work->prng, 5))
		return -1 - (int64_t)prng_below(&work->prng, 3);
	return first + prng_below(&work->prng, (unsigned)(work->revision + 3 - first));
}

static Pb__PutRequest *draw_put(struct workload *work, struct arena *arena)
{
	Pb__PutRequest *put = make_put(arena, NULL, NULL);

	put->key = draw_key(work, arena);
	put->prev_kv = prng_chance(&work->prng, 30);
	put->ignore_value = prng_chance(&work->prng, 10);
	put->ignore_lease = prng_chance(&work->prng, 5);
	if (!put->ignore_value)
		put->value = draw_value(work, arena);
	if (!put->ignore_lease && prng_chance(&work->prng, 1))
		put->lease = 1 + prng_below(&work->prng, 3);
	return put;
}

static Pb__DeleteRangeRequest *draw_delete(struct workload *work, struct arena *arena)
{
	Pb__DeleteRangeRequest *request = make_delete(arena, NULL, NULL);

	request->key = draw_key(work, arena);
	request->range_end = draw_end(work, request->key, arena);
	request->prev_kv = prng_chance(&work->prng, 40);
	return request;
}

Pb__RangeRequest *workload_range(struct workload *work, struct arena *arena)
{
	Pb__RangeRequest *range = make_range(arena, NULL, NULL);
	struct prng *prng = &work->prng;

	range->key = draw_key(work, arena);
	range->range_end = draw_end(work, range->key, arena);
	if (prng_chance(prng, 20)) {
		range->key = range->range_end = make_open_end(arena);
	}
	if (prng_chance(prng, 40))
		range->revision = draw_revision(work);
	if (prng_chance(prng, 40))
		range->limit = (int64_t)prng_below(prng, 12) - 2;
	if (prng_chance(prng, 2))
		range->limit = INT64_MAX;
	if (prng_chance(prng, 40)) {
		range->sort_order = (Pb__RangeRequest__SortOrder)prng_below(prng, 3);
		range->sort_target = (Pb__RangeRequest__SortTarget)prng_below(prng, 5);
	}
	range->keys_only = prng_chance(prng, 20);
	range->count_only = prng_chance(prng, 20);
	range->serializable = prng_chance(prng, 50);
	if (prng_chance(prng, 10))
		range->min_mod_revision = draw_revision(work);
	if (prng_chance(prng, 10))
		range->max_mod_revision = draw_revision(work);
	if (prng_chance(prng, 10))
		range->min_create_revision = draw_revision(work);
	if (prng_chance(prng, 10))
		range->max_create_revision = draw_revision(work);
	return range;
}

static Pb__Compare *draw_compare(struct workload *work, struct arena *arena)
{
	Pb__Compare *compare =
		make_compare(arena, NULL, (Pb__Compare__CompareTarget)prng_below(&work->prng, 5),
	                     (Pb__Compare__CompareResult)prng_below(&work->prng, 4));

	compare->key = draw_key(work, arena);
	if (prng_chance(&work->prng, 30))
		compare->range_end = draw_end(work, compare->key, arena);
	/* Mostly the member that belongs to the target. */
	compare->target_union_case = PB__COMPARE__TARGET_UNION_VERSION + compare->target;
	if (prng_chance(&work->prng, 5))
		compare->target_union_case = PB__COMPARE__TARGET_UNION_VERSION + prng_below(&work->prng, 5);
	switch (compare->target_union_case) {
	case PB__COMPARE__TARGET_UNION_VALUE:
		compare->value = draw_value(work, arena);
		break;
	case PB__COMPARE__TARGET_UNION_CREATE_REVISION:
		compare->create_revision = prng_chance(&work->prng, 50) ? 0 : draw_revision(work);
		break;
	case PB__COMPARE__TARGET_UNION_MOD_REVISION:
		compare->mod_revision = prng_chance(&work->prng, 30) ? 0 : draw_revision(work);
		break;
	case PB__COMPARE__TARGET_UNION_LEASE:
		compare->lease = prng_below(&work->prng, 2);
		break;
	default:
		compare->version = prng_below(&work->prng, 4);
		break;
	}
	return compare;
}

static Pb__TxnRequest *draw_txn(struct workload *work, unsigned depth, struct arena *arena);

static ProtobufCMessage *draw_op(struct workload *work, unsigned depth, struct arena *arena)
{
	unsigned kind = prng_below(&work->prng, 20);

	if (kind < 8)
		return &draw_put(work, arena)->base;
	if (kind < 12)
		return &draw_delete(work, arena)->base;
	if (kind < 17 || depth == 0)
		return &workload_range(work, arena)->base;
	return &draw_txn(work, depth - 1, arena)->base;
}

static Pb__TxnRequest *draw_txn(struct workload *work, unsigned depth, struct arena *arena)
{
	Pb__TxnRequest *txn = make_txn(arena);

	for (unsigned n = prng_below(&work->prng, 3); n > 0; n--)
		txn_add_compare(arena, txn, draw_compare(work, arena));
	for (unsigned n = prng_below(&work->prng, 4); n > 0; n--)
		txn_add_success(arena, txn, draw_op(work, depth, arena));
	for (unsigned n = prng_below(&work->prng, 4); n > 0; n--)
		txn_add_failure(arena, txn, draw_op(work, depth, arena));
	return txn;
}

static Pb__TxnRequest *draw_valid_txn(struct workload *work, struct arena *arena)
{
	Pb__TxnRequest *txn;

	do {
		txn = draw_txn(work, 3, arena);
	} while (validate_txn(txn, TXN_MAX_OPS) != STATUS_OK);
	return txn;
}

Pb__TxnRequest *workload_read_txn(struct workload *work, struct arena *arena)
{
	Pb__TxnRequest *txn = make_txn(arena);

	for (unsigned n = prng_below(&work->prng, 3); n > 0; n--)
		txn_add_compare(arena, txn, draw_compare(work, arena));
	for (unsigned n = prng_below(&work->prng, 4); n > 0; n--)
		txn_add_success(arena, txn, &workload_range(work, arena)->base);
	for (unsigned n = prng_below(&work->prng, 4); n > 0; n--)
		txn_add_failure(arena, txn, &workload_range(work, arena)->base);
	return txn;
}

static Pb__AlarmRequest *draw_alarm(struct workload *work, struct arena *arena)
{
	/* Mostly cleared, so that most requests find none. */
	return make_alarm(arena,
	                  prng_chance(&work->prng, 20) ? PB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE
	                                               : PB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE,
	                  prng_chance(&work->prng, 50) ? PB__ALARM_TYPE__NOSPACE : PB__ALARM_TYPE__CORRUPT);
}

ProtobufCMessage *workload_write(struct workload *work, struct arena *arena)
{
	unsigned kind = prng_below(&work->prng, 100);

	if (work->alarms && kind >= 96)
		return &draw_alarm(work, arena)->base;
	if (kind < 50)
		return &draw_put(work, arena)->base;
	if (kind < 65)
		return &draw_delete(work, arena)->base;
	if (kind < 68)
		return &make_compaction(arena, draw_revision(work))->base;
	return &draw_valid_txn(work, arena)->base;
}
