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

enum { RANGE_ATTEMPTS = 10 };

static bool end_read(struct call *call, enum status_code status, ProtobufCMessage *response)
{
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	call->response = response;
	return true;
}

/* One range from a fresh snapshot. */
static enum status_code read_range(struct reader *reader, struct call *call, size_t max_rows, bool *partial,
                                   Pb__RangeResponse **response)
{
	const Pb__RangeRequest *request = (const Pb__RangeRequest *)call->request;
	struct view *view = &reader->view;
	int64_t started_us = clock_us();
	enum status_code status = view_refresh(view);

	if (status != STATUS_OK)
		return status;
	status = range_run(view, request, view->state.revision, max_rows, &call->arena, partial, response);
	metric_add(METRIC_RANGES, 1);
	metric_observe(METRIC_RANGE_SECONDS, clock_us() - started_us);
	return status;
}

static bool run_long_range(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__RangeRequest *request = (const Pb__RangeRequest *)call->request;
	Pb__RangeResponse *response = NULL;
	enum status_code status = STATUS_COMPACTED;

	(void)engine;
	/* A compaction may overtake a long read of the newest revision; a newer one will do as well. */
	for (int i = 0; status == STATUS_COMPACTED && i < RANGE_ATTEMPTS; i++) {
		status = read_range(reader, call, 0, NULL, &response);
		if (request->revision > 0)
			break;
	}
	return end_read(call, status, response == NULL ? NULL : &response->base);
}

bool kv_range(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__RangeRequest *request = (const Pb__RangeRequest *)call->request;
	enum status_code status = validate_range(request);
	Pb__RangeResponse *response = NULL;
	bool partial = false;

	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	call->resume = run_long_range;
	if (!request->serializable && !read_barrier(engine, call))
		return false;
	if (call->status.code != STATUS_OK)
		return true;
	status = read_range(reader, call, ENGINE_INLINE_ROWS, &partial, &response);
	if (partial) {
		return read_later(engine, call);
	}
	return end_read(call, status, response == NULL ? NULL : &response->base);
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

static bool run_read_txn(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__TxnRequest *request = (const Pb__TxnRequest *)call->request;
	Pb__TxnResponse *response = NULL;
	enum status_code status = view_refresh(&reader->view);

	(void)engine;
	if (status == STATUS_OK)
		status = txn_read(&reader->view, request, &call->arena, &response);
	return end_read(call, status, response == NULL ? NULL : &response->base);
}

static bool start_read_txn(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__TxnRequest *request = (const Pb__TxnRequest *)call->request;

	call->resume = run_read_txn;
	if (!txn_is_serializable(request) && !read_barrier(engine, call))
		return false;
	if (call->status.code != STATUS_OK)
		return true;
	if (txn_is_short(request))
		return run_read_txn(engine, reader, call);
	return read_later(engine, call);
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
