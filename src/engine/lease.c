/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Lease service but for its keep-alives (engine/keep_alive.c). Grant and
 * revoke are proposed; what is left of a lease, and which there are, the lessor
 * knows; the keys of one are read from the database.
 */
#include "engine/handlers.h"
#include "engine/internal.h"
#include "engine/lessor.h"
#include "state/lease.h"
#include "state/quota.h"

enum {
	INLINE_LEASES = 100, /* listed on an event loop; more are sorted elsewhere */
	MS_PER_SEC = 1000,
};

/* Apply draws nothing: a lease that is to have any id gets it here. The request
 * is the edge's and stays as it is. */
static enum status_code choose_id(struct call *call)
{
	Pb__LeaseGrantRequest *request = arena_copy(&call->arena, call->request, sizeof *request);
	uint64_t id;
	enum status_code status = engine_draw_id(&id);

	if (request == NULL)
		return STATUS_NO_MEMORY;
	if (status != STATUS_OK)
		return status;
	request->id = (int64_t)id;
	call->request = &request->base;
	return STATUS_OK;
}

bool lease_grant(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__LeaseGrantRequest *request = (const Pb__LeaseGrantRequest *)call->request;
	enum status_code status = STATUS_OK;

	(void)reader;
	/* The quota comes first, as for a put. */
	if (!propose_has_space(engine, QUOTA_LEASE_BYTES))
		return propose_no_space(engine, call);
	if (request->ttl > LEASE_MAX_TTL_SEC)
		return call_fail(call, STATUS_LEASE_TTL_TOO_LARGE, NULL);
	if (request->id == 0)
		status = choose_id(call);
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	return propose(engine, call);
}

bool lease_revoke(struct engine *engine, struct reader *reader, struct call *call)
{
	(void)reader;
	return propose(engine, call);
}

/* Ends a read with its response; with NO_MEMORY when there is no header to it. */
static bool answer(struct call *call, ProtobufCMessage *response, const Pb__ResponseHeader *header)
{
	if (header == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	call->response = response;
	return true;
}

static enum status_code read_keys(struct reader *reader, struct call *call,
                                  Pb__LeaseTimeToLiveResponse *response)
{
	enum status_code status = view_refresh(&reader->view);

	if (status != STATUS_OK)
		return status;
	return lease_read_keys(&reader->view, response->id, &call->arena, &response->n_keys,
	                       &response->keys);
}

/* That a lease is unknown is an answer, not an error. */
static bool run_time_to_live(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__LeaseTimeToLiveRequest *request = (const Pb__LeaseTimeToLiveRequest *)call->request;
	Pb__LeaseTimeToLiveResponse *response = arena_alloc(&call->arena, sizeof *response);
	int64_t remaining_ms;
	enum status_code status = STATUS_OK;

	if (response == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	pb__lease_time_to_live_response__init(response);
	response->header = view_header(0, &call->arena);
	response->id = request->id;
	response->ttl = -1;
	if (lessor_find(engine->lessor, request->id, &response->grantedttl, &remaining_ms)) {
		response->ttl = remaining_ms / MS_PER_SEC;
		if (request->keys)
			status = read_keys(reader, call, response);
	}
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	return answer(call, &response->base, response->header);
}

bool lease_time_to_live(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__LeaseTimeToLiveRequest *request = (const Pb__LeaseTimeToLiveRequest *)call->request;

	call->resume = run_time_to_live;
	if (!read_barrier(engine, call))
		return false;
	if (call->status.code != STATUS_OK)
		return true;
	/* A lease may have any number of keys. */
	return request->keys ? read_later(engine, call) : run_time_to_live(engine, reader, call);
}

static enum status_code list_leases(struct lessor *lessor, struct arena *arena,
                                    Pb__LeaseLeasesResponse *response)
{
	Pb__LeaseStatus *leases;
	int64_t *ids;
	size_t count;
	enum status_code status = lessor_list(lessor, arena, &count, &ids);

	if (status != STATUS_OK)
		return status;
	leases = arena_calloc(arena, count, sizeof *leases);
	response->leases = arena_calloc(arena, count, sizeof *response->leases);
	if (leases == NULL || response->leases == NULL)
		return STATUS_NO_MEMORY;
	for (size_t i = 0; i < count; i++) {
		pb__lease_status__init(&leases[i]);
		leases[i].id = ids[i];
		response->leases[i] = &leases[i];
	}
	response->n_leases = count;
	return STATUS_OK;
}

static bool run_leases(struct engine *engine, struct reader *reader, struct call *call)
{
	Pb__LeaseLeasesResponse *response = arena_alloc(&call->arena, sizeof *response);
	enum status_code status;

	(void)reader;
	if (response == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	pb__lease_leases_response__init(response);
	response->header = view_header(0, &call->arena);
	status = list_leases(engine->lessor, &call->arena, response);
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	return answer(call, &response->base, response->header);
}

bool lease_leases(struct engine *engine, struct reader *reader, struct call *call)
{
	call->resume = run_leases;
	if (!read_barrier(engine, call))
		return false;
	if (call->status.code != STATUS_OK)
		return true;
	if (lessor_count(engine->lessor) > INLINE_LEASES)
		return read_later(engine, call);
	return run_leases(engine, reader, call);
}
