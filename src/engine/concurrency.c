/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lock and campaign: one who wants what a prefix stands for puts a key of his
 * own there and waits until no older one is left.
 *
 *   [grant] ─ enter ─┬─────────────── held already ────────────────┬─ answer
 *                    └─ [proclaim] ─ ask ─ watch ─ ask ... ─ [check] ┘
 */
#include <inttypes.h>
#include <string.h>

#include "election.pb-c.h"
#include "engine/compose.h"
#include "engine/handlers.h"
#include "engine/waiter.h"
#include "lock.pb-c.h"

/* ---- Answers ---- */

static void answer_lock(struct waiter *self)
{
	Pb__LockResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (response == NULL) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	pb__lock_response__init(response);
	response->header = waiter_header(self, self->header_revision);
	response->key = self->key;
	waiter_answer(self, &response->base, response->header);
}

static void answer_campaign(struct waiter *self)
{
	Pb__CampaignResponse *response = arena_alloc(&self->call->arena, sizeof *response);
	Pb__LeaderKey *leader = arena_alloc(&self->call->arena, sizeof *leader);

	if (response == NULL || leader == NULL) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	pb__campaign_response__init(response);
	pb__leader_key__init(leader);
	leader->name = ((const Pb__CampaignRequest *)self->call->request)->name;
	leader->key = self->key;
	leader->rev = self->revision;
	leader->lease = self->lease;
	response->header = waiter_header(self, self->header_revision);
	response->leader = leader;
	waiter_answer(self, &response->base, response->header);
}

static void answer(struct waiter *self)
{
	if (self->is_election)
		answer_campaign(self);
	else
		answer_lock(self);
}

/* ---- Waiting ---- */

static void ask(struct waiter *self);

static void on_events(struct watcher *watcher, int64_t revision, struct event *const *events, size_t count)
{
	struct waiter *self = (struct waiter *)((char *)watcher - offsetof(struct waiter, watcher));

	(void)revision;
	(void)events; /* nothing but deletions */
	(void)count;
	waiter_unwatch(self);
	ask(self);
}

/* What was missed is seen in the state, too. */
static void on_lost(struct watcher *watcher, enum status_code why, int64_t compact_revision)
{
	struct waiter *self = (struct waiter *)((char *)watcher - offsetof(struct waiter, watcher));

	(void)compact_revision;
	self->watching = false;
	if (why == STATUS_COMPACTED)
		ask(self);
	else
		waiter_fail_code(self, why);
}

static bool has_room(struct watch_group *group)
{
	(void)group;
	return true;
}

static const struct watch_ops WAIT_OPS = {
	.events = on_events,
	.lost = on_lost,
	.has_room = has_room,
};

static void on_checked(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__RangeResponse *range = (const Pb__RangeResponse *)call->response;

	if (waiter_is_over(self, call))
		return;
	if (range->n_kvs == 0) {
		waiter_fail_code(self, STATUS_SESSION_EXPIRED);
		return;
	}
	self->header_revision = range->header->revision;
	answer(self);
}

/* The lease may have ended, and the key with it, while others were waited for. */
static void check(struct waiter *self)
{
	struct call *call = waiter_inner(self, "KV", "Range");
	Pb__RangeRequest *range;

	if (call == NULL)
		return;
	range = key_range(self->key, &call->arena);
	call->request = range != NULL ? &range->base : NULL;
	inner_start(&self->inner, on_checked);
}

static void watch_key(struct waiter *self, const Pb__KeyValue *kv, int64_t revision)
{
	uint8_t *key = arena_copy(&self->call->arena, kv->key.data, kv->key.len);

	if (key == NULL) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	self->watcher = (struct watcher){
		.group = &self->group,
		.span = {.key = key, .key_len = kv->key.len},
		.no_put = true,
	};
	self->watching = true;
	watch_add(&self->watcher, revision + 1);
}

static void on_asked(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__RangeResponse *range = (const Pb__RangeResponse *)call->response;

	if (waiter_is_over(self, call))
		return;
	if (range->n_kvs > 0)
		watch_key(self, range->kvs[0], range->header->revision);
	else if (self->is_election)
		answer(self);
	else
		check(self);
}

/* Who is next before this one? */
static void ask(struct waiter *self)
{
	struct call *call = waiter_inner(self, "KV", "Range");
	Pb__RangeRequest *range;

	if (call == NULL)
		return;
	range = prefix_newest(&self->prefix, self->revision - 1, &call->arena);
	call->request = range != NULL ? &range->base : NULL;
	inner_start(&self->inner, on_asked);
}

/* ---- Entering ---- */

static void on_reproclaimed(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__TxnResponse *txn = (const Pb__TxnResponse *)call->response;

	if (waiter_is_over(self, call))
		return;
	if (txn->succeeded)
		ask(self);
	else
		waiter_fail_code(self, STATUS_NOT_LEADER);
}

static bool is_same(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* It may still be applied, and is in the log before whatever follows. */
static bool is_outcome_open(enum status_code code)
{
	return code == STATUS_TIMEOUT || code == STATUS_DEADLINE_EXCEEDED;
}

/* A key that was there already, and is the oldest, is what the lease has from an
 * earlier call: it is not this one's to give back. */
static void note_entry(struct waiter *self, const Pb__TxnResponse *txn)
{
	const Pb__KeyValue *oldest = txn->responses[1]->response_range->kvs[0];

	self->header_revision = self->revision = txn->header->revision;
	if (!txn->succeeded)
		self->revision = txn->responses[0]->response_range->kvs[0]->create_revision;
	self->has_key = txn->succeeded || oldest->create_revision != self->revision;
}

static void on_entered(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__TxnResponse *txn = (const Pb__TxnResponse *)call->response;
	const Pb__KeyValue *mine = NULL, *oldest;

	if (call->status.code == STATUS_OK)
		note_entry(self, txn);
	else
		self->has_key = is_outcome_open(call->status.code);
	if (waiter_is_over(self, call))
		return;
	oldest = txn->responses[1]->response_range->kvs[0];
	if (!txn->succeeded)
		mine = txn->responses[0]->response_range->kvs[0];
	if (self->is_election && mine != NULL && !is_same(mine->value, self->value))
		waiter_proclaim(self, on_reproclaimed);
	else if (oldest->create_revision == self->revision)
		answer(self);
	else
		ask(self);
}

/* The key's name ends with the lease in hexadecimal digits. */
static enum status_code name_key(struct waiter *self)
{
	uint64_t digits = self->lease < 0 ? -(uint64_t)self->lease : (uint64_t)self->lease;
	const char *text =
		arena_printf(&self->call->arena, "%s%" PRIx64, self->lease < 0 ? "-" : "", digits);

	if (text == NULL)
		return STATUS_NO_MEMORY;
	self->key = bytes_join(self->prefix.start, text, &self->call->arena);
	return self->key.data != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

/* Puts the key if it is not there, and looks who is the oldest. */
static const ProtobufCMessage *make_entry(const struct waiter *self, struct arena *arena)
{
	struct own_txn *own = own_txn_make(self->key, 0, arena);

	if (!own_txn_then_put(own, self->key, self->value, self->lease, arena) ||
	    !own_txn_then_range(own, prefix_oldest(&self->prefix, arena)) ||
	    !own_txn_else_range(own, key_range(self->key, arena)) ||
	    !own_txn_else_range(own, prefix_oldest(&self->prefix, arena)))
		return NULL;
	return &own->txn.base;
}

static void enter(struct waiter *self)
{
	struct call *call;

	if (name_key(self) != STATUS_OK ||
	    !claim_join(&self->inner.reader->engine->claims, self->key, &self->ticket)) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	call = waiter_inner(self, "KV", "Txn");
	if (call == NULL)
		return;
	call->request = make_entry(self, &call->arena);
	inner_start(&self->inner, on_entered);
}

/* ---- The services ---- */

bool lock_lock(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__LockRequest *request = (const Pb__LockRequest *)call->request;
	struct waiter *self = waiter_new(reader, call);

	(void)engine;
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	watch_group_init(&self->group, reader->shard, &WAIT_OPS);
	if (prefix_make(&self->prefix, request->name, &call->arena) != STATUS_OK) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return false;
	}
	return waiter_begin(self, request->lease, enter);
}

bool election_campaign(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__CampaignRequest *request = (const Pb__CampaignRequest *)call->request;
	struct waiter *self = waiter_new(reader, call);

	(void)engine;
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	watch_group_init(&self->group, reader->shard, &WAIT_OPS);
	self->is_election = true;
	self->value = request->value;
	if (prefix_make(&self->prefix, request->name, &call->arena) != STATUS_OK) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return false;
	}
	return waiter_begin(self, request->lease, enter);
}

static void on_unlocked(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	Pb__UnlockResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (waiter_is_over(self, call))
		return;
	if (response == NULL) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	pb__unlock_response__init(response);
	response->header =
		waiter_header(self, ((const Pb__DeleteRangeResponse *)call->response)->header->revision);
	waiter_answer(self, &response->base, response->header);
}

bool lock_unlock(struct engine *engine, struct reader *reader, struct call *call)
{
	struct waiter *self = waiter_new(reader, call);
	Pb__DeleteRangeRequest *request;
	struct call *inner;

	(void)engine;
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	inner = waiter_inner(self, "KV", "DeleteRange");
	if (inner == NULL)
		return false;
	request = arena_alloc(&inner->arena, sizeof *request);
	if (request != NULL) {
		pb__delete_range_request__init(request);
		request->key = ((const Pb__UnlockRequest *)call->request)->key;
		inner->request = &request->base;
	}
	inner_start(&self->inner, on_unlocked);
	return false;
}
