/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of an election by others than candidates: one step each. */
#include "election.pb-c.h"
#include "engine/compose.h"
#include "engine/handlers.h"
#include "engine/waiter.h"

static void on_proclaimed(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__TxnResponse *txn = (const Pb__TxnResponse *)call->response;
	Pb__ProclaimResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (waiter_is_over(self, call))
		return;
	if (!txn->succeeded || response == NULL) {
		waiter_fail_code(self, response == NULL ? STATUS_NO_MEMORY : STATUS_NOT_LEADER);
		return;
	}
	pb__proclaim_response__init(response);
	response->header = waiter_header(self, txn->header->revision);
	waiter_answer(self, &response->base, response->header);
}

static void start_proclaim(struct waiter *self)
{
	waiter_proclaim(self, on_proclaimed);
}

static void on_resigned(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	Pb__ResignResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (waiter_is_over(self, call))
		return;
	if (response == NULL) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	pb__resign_response__init(response);
	response->header = waiter_header(self, ((const Pb__TxnResponse *)call->response)->header->revision);
	waiter_answer(self, &response->base, response->header);
}

static void start_resign(struct waiter *self)
{
	struct call *call = waiter_inner(self, "KV", "Txn");
	struct own_txn *own;

	if (call == NULL)
		return;
	own = own_txn_make(self->key, self->revision, &call->arena);
	if (own_txn_then_delete(own, self->key, &call->arena))
		call->request = &own->txn.base;
	inner_start(&self->inner, on_resigned);
}

static void on_found(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__RangeResponse *range = (const Pb__RangeResponse *)call->response;
	Pb__LeaderResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (waiter_is_over(self, call))
		return;
	if (range->n_kvs == 0 || response == NULL) {
		waiter_fail_code(self, response == NULL ? STATUS_NO_MEMORY : STATUS_NO_LEADER);
		return;
	}
	pb__leader_response__init(response);
	response->kv = kv_copy(range->kvs[0], &self->call->arena);
	if (response->kv == NULL) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	response->header = waiter_header(self, range->header->revision);
	waiter_answer(self, &response->base, response->header);
}

bool election_leader(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__LeaderRequest *request = (const Pb__LeaderRequest *)call->request;
	struct waiter *self = waiter_new(reader, call);
	Pb__RangeRequest *range;
	struct call *inner;

	(void)engine;
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	if (prefix_make(&self->prefix, request->name, &call->arena) != STATUS_OK) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return false;
	}
	inner = waiter_inner(self, "KV", "Range");
	if (inner == NULL)
		return false;
	range = prefix_oldest(&self->prefix, &inner->arena);
	inner->request = range != NULL ? &range->base : NULL;
	inner_start(&self->inner, on_found);
	return false;
}

/* On behalf of one who says that he leads. */
static bool begin_as_leader(struct reader *reader, struct call *call, const Pb__LeaderKey *leader,
                            ProtobufCBinaryData value, void (*step)(struct waiter *self))
{
	struct waiter *self;

	if (leader == NULL)
		return call_fail(call, STATUS_LEADER_KEY_MISSING, NULL);
	self = waiter_new(reader, call);
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	self->key = leader->key;
	self->revision = leader->rev;
	self->value = value;
	return waiter_begin(self, leader->lease, step);
}

bool election_proclaim(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__ProclaimRequest *request = (const Pb__ProclaimRequest *)call->request;

	(void)engine;
	return begin_as_leader(reader, call, request->leader, request->value, start_proclaim);
}

bool election_resign(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__ResignRequest *request = (const Pb__ResignRequest *)call->request;

	(void)engine;
	return begin_as_leader(reader, call, request->leader, (ProtobufCBinaryData){0}, start_resign);
}
