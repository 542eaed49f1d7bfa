/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/workload.h"

#include <string.h>

#include "engine/validate.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "state/lease.h"
#include "state/renewals.h"

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

static enum status_code learn_lease(void *arg, const struct lease_row *row)
{
	struct workload *work = arg;

	work->renewals[row->id - 1] = row->renewal;
	return STATUS_OK;
}

static int64_t draw_revision(struct workload *work)
{
	int64_t first = work->compact_revision - 1;

	if (prng_chance(&work->prng, 5))
		return -1 - (int64_t)prng_below(&work->prng, 3);
	return first + prng_below(&work->prng, (unsigned)(work->revision + 3 - first));
}

void workload_learn(struct workload *work, struct store *st)
{
	work->revision = st->saved.revision;
	work->compact_revision = st->saved.compact_revision;
	memset(work->renewals, 0, sizeof work->renewals);
	ck_assert_int_eq(lease_read_all(&st->view, learn_lease, work), STATUS_OK);
	for (int64_t id = 1; id <= WORKLOAD_LEASES; id++)
		renewals_find(st->renewals, id, &work->renewals[id - 1]);
}

/* Mostly one that exists. */
static int64_t draw_lease(struct workload *work)
{
	int64_t id = 1 + prng_below(&work->prng, WORKLOAD_LEASES);

	if (work->renewals[id - 1] == 0 && prng_chance(&work->prng, 90))
		return prng_chance(&work->prng, 50) ? 0 : 1;
	return id;
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
	if (!put->ignore_lease && prng_chance(&work->prng, 30))
		put->lease = draw_lease(work);
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
		compare->lease = prng_below(&work->prng, WORKLOAD_LEASES);
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

/* Changes a key more than once, or fails half-way: only a deletion up to the end
 * of the key space may meet a put of the same transaction. */
static Pb__TxnRequest *draw_odd_txn(struct workload *work, struct arena *arena)
{
	Pb__TxnRequest *txn = make_txn(arena);
	Pb__DeleteRangeRequest *deletion = draw_delete(work, arena);
	Pb__PutRequest *before = draw_put(work, arena), *after = draw_put(work, arena);

	deletion->range_end = make_open_end(arena);
	if (prng_chance(&work->prng, 70))
		before->key = deletion->key;
	if (prng_chance(&work->prng, 70))
		after->key = deletion->key;
	if (prng_chance(&work->prng, 20)) {
		after->ignore_value = true;
		after->value = (ProtobufCBinaryData){0};
	}
	txn_add_success(arena, txn, &before->base);
	txn_add_success(arena, txn, &deletion->base);
	if (prng_chance(&work->prng, 70))
		txn_add_success(arena, txn, &after->base);
	return txn;
}

static Pb__TxnRequest *draw_valid_txn(struct workload *work, struct arena *arena)
{
	Pb__TxnRequest *txn;

	do {
		txn = prng_chance(&work->prng, 15) ? draw_odd_txn(work, arena) : draw_txn(work, 3, arena);
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

static Pb__LeaseGrantRequest *draw_grant(struct workload *work, struct arena *arena)
{
	static const int64_t TTLS[] = {INT64_MIN, -1, 0, 1, 2, 3, 60, 9000000000, 9000000001, INT64_MAX};

	return make_grant(arena, 1 + prng_below(&work->prng, WORKLOAD_LEASES),
	                  TTLS[prng_below(&work->prng, sizeof TTLS / sizeof TTLS[0])]);
}

/* Some ids, the same one twice at times, one unknown at times. */
static int64_t *draw_ids(struct workload *work, size_t count, struct arena *arena)
{
	int64_t *ids = arena_calloc(arena, count, sizeof *ids);

	for (size_t i = 0; i < count; i++)
		ids[i] = 1 + prng_below(&work->prng, WORKLOAD_LEASES + 1);
	return ids;
}

/* Mostly those in force. */
static int64_t *draw_renewals(struct workload *work, const int64_t *ids, size_t count, struct arena *arena)
{
	int64_t *renewals = arena_calloc(arena, count, sizeof *renewals);

	for (size_t i = 0; i < count; i++) {
		renewals[i] = ids[i] <= WORKLOAD_LEASES ? work->renewals[ids[i] - 1] : 1;
		if (prng_chance(&work->prng, 25))
			renewals[i] -= 1;
	}
	return renewals;
}

static ProtobufCMessage *draw_renew(struct workload *work, struct arena *arena)
{
	size_t count = prng_below(&work->prng, 5);

	return &make_renew(arena, draw_ids(work, count, arena), count)->base;
}

static ProtobufCMessage *draw_expire(struct workload *work, struct arena *arena)
{
	size_t count = prng_below(&work->prng, 6);
	int64_t *ids = draw_ids(work, count, arena);

	return &make_expire(arena, ids, draw_renewals(work, ids, count, arena), count)->base;
}

static ProtobufCMessage *draw_checkpoint(struct workload *work, struct arena *arena)
{
	size_t count = prng_below(&work->prng, 3);
	int64_t *ids = draw_ids(work, count, arena);
	int64_t *renewals = draw_renewals(work, ids, count, arena);
	int64_t *remaining = arena_calloc(arena, count, sizeof *remaining);

	for (size_t i = 0; i < count; i++)
		remaining[i] = prng_below(&work->prng, 4);
	return &make_checkpoint(arena, ids, renewals, remaining, count)->base;
}

static ProtobufCMessage *draw_lease_request(struct workload *work, struct arena *arena)
{
	unsigned kind = prng_below(&work->prng, 12);

	if (kind < 5)
		return &draw_grant(work, arena)->base;
	if (kind < 8)
		return draw_renew(work, arena);
	if (kind < 9)
		return draw_checkpoint(work, arena);
	if (kind < 11)
		return draw_expire(work, arena);
	return &make_revoke(arena, 1 + prng_below(&work->prng, WORKLOAD_LEASES + 1))->base;
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
		return &make_compaction(arena,
		                        prng_chance(&work->prng, 30) ? work->revision : draw_revision(work))
		                ->base;
	if (kind < 84)
		return draw_lease_request(work, arena);
	return &draw_valid_txn(work, arena)->base;
}
