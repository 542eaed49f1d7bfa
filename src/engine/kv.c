/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The KV service. Writes are checked here and proposed; reads run at once on
 * the caller's reader when they are short, on a reader thread when not.
 */
#include "engine/handlers.h"
#include "engine/internal.h"
#include "engine/validate.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "state/quota.h"
#include "state/range.h"
#include "state/txn.h"

enum {
	/* What an event loop may read for one call: rows stepped over, some 100 microseconds, and bytes
	 * of keys and values, which take about as long to copy and encode. */
	INLINE_ROWS = 100,
	INLINE_BYTES = 64 * 1024,
	/* Of a long read that compactions overtake. The last keeps one snapshot: it holds up the
	 * write-ahead log for as long as it takes, which is better than a wrong refusal. */
	READ_ATTEMPTS = 3,
};

typedef enum status_code read_run_fn(struct view *view, const ProtobufCMessage *request,
                                     struct arena *arena, ProtobufCMessage **response);

static enum status_code run_range(struct view *view, const ProtobufCMessage *request, struct arena *arena,
                                  ProtobufCMessage **response)
{
	int64_t started_us = clock_us();
	Pb__RangeResponse *range = NULL;
	enum status_code status =
		range_run(view, (const Pb__RangeRequest *)request, view->state.revision, arena, &range);

	/* One that gave up is run again. */
	if (status == STATUS_OVER_BUDGET)
		return status;
	metric_add(METRIC_RANGES, 1);
	metric_observe(METRIC_RANGE_SECONDS, clock_us() - started_us);
	if (status == STATUS_OK)
		*response = &range->base;
	return status;
}

static enum status_code run_txn(struct view *view, const ProtobufCMessage *request, struct arena *arena,
                                ProtobufCMessage **response)
{
	Pb__TxnResponse *txn = NULL;
	enum status_code status = txn_read(view, (const Pb__TxnRequest *)request, arena, &txn);

	if (status == STATUS_OK)
		*response = &txn->base;
	return status;
}

/* Runs a call's read on a fresh snapshot. One that fails leaves nothing in the arena. */
static enum status_code attempt(struct reader *reader, struct call *call, read_run_fn *run,
                                const struct read_terms *terms)
{
	struct arena_mark mark = arena_mark(&call->arena);
	struct view *view = &reader->view;
	enum status_code status = view_refresh(view);

	if (status != STATUS_OK)
		return status;
	view->terms = *terms;
	status = run(view, call->request, &call->arena, &call->response);
	view->terms = (struct read_terms){0};
	if (status != STATUS_OK)
		arena_rewind(&call->arena, &mark);
	return status;
}

static bool run_long(struct reader *reader, struct call *call, read_run_fn *run)
{
	enum status_code status = STATUS_COMPACTED;

	/* Where the request named no revision that is gone, a newer snapshot will do as well. */
	for (int left = READ_ATTEMPTS; status == STATUS_COMPACTED && left > 0; left--)
		status = attempt(reader, call, run, &(struct read_terms){.one_snapshot = left == 1});
	return status == STATUS_OK || call_fail(call, status, NULL);
}

static bool run_long_range(struct engine *engine, struct reader *reader, struct call *call)
{
	(void)engine;
	return run_long(reader, call, run_range);
}

static bool run_long_txn(struct engine *engine, struct reader *reader, struct call *call)
{
	(void)engine;
	return run_long(reader, call, run_txn);
}

/* Runs a read whose barrier has been passed, here if it is short. */
static bool run_here(struct engine *engine, struct reader *reader, struct call *call, read_run_fn *run)
{
	static const struct read_terms terms = {
		.bounded = true,
		.rows = INLINE_ROWS,
		.bytes = INLINE_BYTES,
	};
	enum status_code status = attempt(reader, call, run, &terms);

	if (status == STATUS_OVER_BUDGET)
		return read_later(engine, call);
	return status == STATUS_OK || call_fail(call, status, NULL);
}

static bool resume_range(struct engine *engine, struct reader *reader, struct call *call)
{
	return run_here(engine, reader, call, run_range);
}

static bool resume_txn(struct engine *engine, struct reader *reader, struct call *call)
{
	return run_here(engine, reader, call, run_txn);
}

bool kv_range(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__RangeRequest *request = (const Pb__RangeRequest *)call->request;
	enum status_code status = validate_range(request);

	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	call->resume = run_long_range;
	call->resume_home = resume_range;
	call->home = reader->shard != NULL ? reader : NULL;
	if (request->serializable)
		early_await(engine);
	else if (!read_barrier(engine, call))
		return false;
	if (call->status.code != STATUS_OK)
		return true;
	return run_here(engine, reader, call, run_range);
}

bool kv_put(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__PutRequest *request = (const Pb__PutRequest *)call->request;
	enum status_code status;

	(void)reader;
	/* The quota comes first, as in etcd: over it even a bad request is told so. */
	if (!propose_has_space(engine, quota_put_cost(request)))
		return propose_no_space(engine, call);
	status = validate_put(request);
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	return propose(engine, call);
}

bool kv_delete_range(struct engine *engine, struct reader *reader, struct call *call)
{
	enum status_code status = validate_delete_range((const Pb__DeleteRangeRequest *)call->request);

	(void)reader;
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	return propose(engine, call);
}

static bool start_read_txn(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__TxnRequest *request = (const Pb__TxnRequest *)call->request;

	call->resume = run_long_txn;
	call->resume_home = resume_txn;
	call->home = reader->shard != NULL ? reader : NULL;
	if (txn_is_serializable(request))
		early_await(engine);
	else if (!read_barrier(engine, call))
		return false;
	if (call->status.code != STATUS_OK)
		return true;
	return run_here(engine, reader, call, run_txn);
}

bool kv_txn(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__TxnRequest *request = (const Pb__TxnRequest *)call->request;
	enum status_code status;

	if (!propose_has_space(engine, quota_txn_cost(request)))
		return propose_no_space(engine, call);
	status = validate_txn(request, engine->config->max_txn_ops);
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	if (txn_is_read_only(request))
		return start_read_txn(engine, reader, call);
	return propose(engine, call);
}

bool kv_compact(struct engine *engine, struct reader *reader, struct call *call)
{
	(void)reader;
	return propose(engine, call);
}
