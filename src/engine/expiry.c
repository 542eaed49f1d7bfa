/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What time does to leases: records that end those that are due, and records of
 * how much is left of the others, for the next start.
 *
 * Leases end some at a time: the next record is proposed when the last one was
 * applied, so that when thousands are due at once the writes of clients get in
 * between. A lease of a record that failed is given again alone: one that
 * cannot end does not keep others. Both kinds of record name the renewals they
 * go by; one that comes too late does nothing.
 */
#include "base/logger.h"
#include "engine/internal.h"
#include "engine/lessor.h"

enum {
	EXPIRE_LEASES = 64,   /* in one record */
	REMAIN_LEASES = 5000, /* the same */
	REQUEST_CAP_BYTES = 1 << 20,
};

static int64_t *copy_ids(struct arena *arena, const int64_t *ids, size_t count)
{
	return arena_copy(arena, ids, count * sizeof *ids);
}

/* A call that ends these leases; NULL without memory. */
static struct call *make_expiry(const struct call_ops *ops, const int64_t *ids, const int64_t *renewals,
                                size_t count)
{
	struct call *call = call_new(ops, NULL, REQUEST_CAP_BYTES);
	Pb__LeaseExpire *request = call != NULL ? arena_alloc(&call->arena, sizeof *request) : NULL;

	if (request != NULL) {
		pb__lease_expire__init(request);
		request->ids = copy_ids(&call->arena, ids, count);
		request->renewals = copy_ids(&call->arena, renewals, count);
		request->n_ids = request->n_renewals = count;
	}
	if (request == NULL || request->ids == NULL || request->renewals == NULL) {
		call_free(call);
		return NULL;
	}
	call->request = &request->base;
	return call;
}

static void on_expired(struct call *call, bool slow);

static const struct call_ops EXPIRY_OPS = {.finish = on_expired};

/* False when there is nothing to do, or no memory to do it: the leases will be given again. */
static bool expire_some(struct engine *engine)
{
	int64_t ids[EXPIRE_LEASES], renewals[EXPIRE_LEASES];
	size_t count = lessor_take_due(engine->lessor, EXPIRE_LEASES, ids, renewals);
	struct call *call = count > 0 ? make_expiry(&EXPIRY_OPS, ids, renewals, count) : NULL;

	if (call == NULL)
		return false;
	engine->expired += (int64_t)count;
	propose_own(engine, call);
	return true;
}

static void rest(struct engine *engine)
{
	if (engine->expired > 0)
		logger_debug("lessor", "leases are over", LOG_I64("leases", engine->expired), LOG_END);
	engine->expired = 0;
	atomic_store(&engine->expiring, false);
}

/* Mostly on the applier's thread, between two batches. */
static void on_expired(struct call *call, bool slow)
{
	struct engine *engine = call->engine;
	bool go_on = call->status.code == STATUS_OK && !atomic_load(&engine->draining);

	(void)slow;
	call_free(call);
	if (!go_on || !expire_some(engine))
		rest(engine);
}

void expiry_run(struct engine *engine)
{
	if (atomic_load(&engine->draining) || atomic_load(&engine->fault) != NULL ||
	    atomic_load(&engine->alarm_corrupt))
		return;
	if (!atomic_exchange(&engine->expiring, true) && !expire_some(engine))
		rest(engine);
}

static void on_recorded(struct call *call, bool slow)
{
	(void)slow;
	call_free(call);
}

static const struct call_ops REMAIN_OPS = {.finish = on_recorded};

/* One record of what is left of up to 'max' leases. Returns of how many. */
static size_t record_some(struct engine *engine, bool all, size_t max)
{
	struct call *call = call_new(&REMAIN_OPS, NULL, REQUEST_CAP_BYTES);
	Pb__LeaseCheckpointed *request;
	int64_t *ids;
	size_t count = 0;

	if (call == NULL)
		return 0;
	request = arena_alloc(&call->arena, sizeof *request);
	ids = arena_calloc(&call->arena, (size_t)3 * REMAIN_LEASES, sizeof *ids);
	if (request != NULL && ids != NULL) {
		pb__lease_checkpointed__init(request);
		request->ids = ids;
		request->renewals = ids + REMAIN_LEASES;
		request->remaining = ids + (size_t)2 * REMAIN_LEASES;
		count = lessor_take_unrecorded(engine->lessor, all, max, request->ids, request->renewals,
		                               request->remaining);
		request->n_ids = request->n_renewals = request->n_remaining = count;
		call->request = &request->base;
	}
	if (count > 0)
		propose_own(engine, call);
	else
		call_free(call);
	return count;
}

void expiry_record(struct engine *engine, bool all)
{
	size_t total = lessor_count(engine->lessor), sum = 0, count, max;

	if (atomic_load(&engine->fault) != NULL || (engine->shared && !atomic_load(&engine->leading)))
		return;
	/* Time goes on, and soon less is left of the first ones again: each gets one turn. */
	do {
		max = total - sum < REMAIN_LEASES ? total - sum : REMAIN_LEASES;
		count = max > 0 ? record_some(engine, all, max) : 0;
		sum += count;
	} while (count > 0 && count == max);
	if (sum > 0)
		logger_debug("lessor", "recorded what is left of leases", LOG_I64("leases", (int64_t)sum),
		             LOG_END);
}
