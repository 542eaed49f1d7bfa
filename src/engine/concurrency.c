/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each call walks through steps, all on the thread of its reader; a step ends
 * with a call of the engine's own (engine/inner.h) or with a watch, and its
 * outcome leads to the next.
 *
 *   begin ─ [grant] ─ enter ─┬────────────── held already ──────────────┬─ finish
 *                            ├─ [proclaim] ─ ask ─ watch ─ ask ... ─ [check] ┘
 *                            └─ canceled: leave ────────────────────────┘
 *
 * A caller that goes away, or whose time is up, takes its key with it. While a
 * step is under way that only sets a flag, which the step's end looks at.
 */
#include "engine/concurrency.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "election.pb-c.h"
#include "engine/compose.h"
#include "engine/handlers.h"
#include "engine/inner.h"
#include "lock.pb-c.h"
#include "watch/shard.h"

enum { SESSION_TTL_SEC = 60 }; /* of a lease that the server makes */

struct waiter {
	struct inner inner;         /* first: its callbacks find the waiter by it */
	struct watch_group group;
	struct watcher watcher;
	struct reader_timer deadline;
	struct waiter *next, *prev; /* of the reader's */
	struct call *call;          /* the client's */
	void (*first)(struct waiter *self); /* the step after it has a lease */
	bool is_election;
	bool has_entered;           /* its key may be there */
	bool watching;
	enum status_code gone;      /* why it is to give up, or STATUS_OK */

	struct prefix prefix;
	ProtobufCBinaryData key;    /* the waiter's own */
	ProtobufCBinaryData value;
	int64_t lease;
	int64_t revision;           /* the key's create revision */
	int64_t header_revision;    /* of the answer */
};

/* ---- The end ---- */

static struct waiter *waiter_of(struct inner *inner)
{
	return (struct waiter *)inner;
}

static void unwatch(struct waiter *self)
{
	if (self->watching)
		watch_remove(&self->watcher);
	self->watching = false;
}

static void finish(struct waiter *self)
{
	struct reader *reader = self->inner.reader;

	unwatch(self);
	reader_clear_timer(reader, &self->deadline);
	if (self->prev != NULL)
		self->prev->next = self->next;
	else
		reader->waiters = self->next;
	if (self->next != NULL)
		self->next->prev = self->prev;
	self->call->cancel = NULL;
	call_finish(self->call, false); /* and with the call, the waiter is gone */
}

/* etcd gives every error of these services the same code; what the server or the
 * client's patience did keeps its own. */
static void fail(struct waiter *self, const struct status *status)
{
	enum status_code code = status->code;
	const char *text = arena_strdup(&self->call->arena, status_text(status));

	if (code != STATUS_CANCELED && code != STATUS_DEADLINE_EXCEEDED && code != STATUS_STOPPED &&
	    status_grpc(code) != GRPC_UNKNOWN)
		code = STATUS_UNKNOWN;
	call_fail(self->call, code, text);
	finish(self);
}

static void fail_code(struct waiter *self, enum status_code code)
{
	fail(self, &(struct status){.code = code});
}

static Pb__ResponseHeader *answer_header(struct waiter *self)
{
	return view_header(self->header_revision, &self->call->arena);
}

static void answer_lock(struct waiter *self)
{
	Pb__LockResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (response == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	pb__lock_response__init(response);
	response->header = answer_header(self);
	response->key = self->key;
	self->call->response = &response->base;
	finish(self);
}

static void answer_campaign(struct waiter *self)
{
	Pb__CampaignResponse *response = arena_alloc(&self->call->arena, sizeof *response);
	Pb__LeaderKey *leader = arena_alloc(&self->call->arena, sizeof *leader);

	if (response == NULL || leader == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	pb__campaign_response__init(response);
	pb__leader_key__init(leader);
	leader->name = ((const Pb__CampaignRequest *)self->call->request)->name;
	leader->key = self->key;
	leader->rev = self->revision;
	leader->lease = self->lease;
	response->header = answer_header(self);
	response->leader = leader;
	self->call->response = &response->base;
	finish(self);
}

static void answer(struct waiter *self)
{
	if (self->is_election)
		answer_campaign(self);
	else
		answer_lock(self);
}

/* ---- Leaving ---- */

static void on_left(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);

	(void)call; /* what could not be deleted falls with its lease */
	fail_code(self, self->gone);
}

/* Deletes the waiter's key, if it is still the one it put. */
static void leave(struct waiter *self)
{
	struct call *call;
	struct own_txn *own;

	unwatch(self);
	call = self->has_entered ? inner_new(&self->inner, "KV", "Txn", self->call->token, 0) : NULL;
	if (call == NULL) {
		fail_code(self, self->gone);
		return;
	}
	own = own_txn_make(self->key, self->revision, &call->arena);
	if (own_txn_then_delete(own, self->key, &call->arena))
		call->request = &own->txn.base;
	inner_start(&self->inner, on_left);
}

static void give_up(struct waiter *self, enum status_code why)
{
	if (self->gone != STATUS_OK)
		return;
	self->gone = why;
	if (self->inner.call == NULL)
		leave(self);
}

static void on_cancel(struct call *call)
{
	give_up(call->waiter, STATUS_CANCELED);
}

static void on_deadline(struct reader_timer *timer, int64_t now_ms)
{
	struct waiter *self = (struct waiter *)((char *)timer - offsetof(struct waiter, deadline));

	(void)now_ms;
	give_up(self, STATUS_DEADLINE_EXCEEDED);
}

void concurrency_drain(struct reader *reader)
{
	struct waiter *next;

	for (struct waiter *self = reader->waiters; self != NULL; self = next) {
		next = self->next;
		if (self->watching)
			fail_code(self, STATUS_STOPPED);
	}
}

/* Whether the step that has ended is the last: it failed, or nobody waits any
 * more. Then the rest is taken care of. */
static bool is_over(struct waiter *self, const struct call *call)
{
	if (self->gone != STATUS_OK) {
		leave(self);
		return true;
	}
	if (call->status.code == STATUS_OK)
		return false;
	if (self->has_entered)
		give_up(self, call->status.code);
	else
		fail(self, &call->status);
	return true;
}

/* ---- Waiting ---- */

static void ask(struct waiter *self);

static void on_events(struct watcher *watcher, int64_t revision, struct event *const *events,
                      size_t count)
{
	struct waiter *self = (struct waiter *)((char *)watcher - offsetof(struct waiter, watcher));

	(void)revision;
	(void)events; /* nothing but deletions */
	(void)count;
	unwatch(self);
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
		fail_code(self, why);
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

	if (is_over(self, call))
		return;
	if (range->n_kvs == 0) {
		fail_code(self, STATUS_SESSION_EXPIRED);
		return;
	}
	self->header_revision = range->header->revision;
	answer(self);
}

/* The lease may have ended, and the key with it, while others were waited for. */
static void check(struct waiter *self)
{
	struct call *call = inner_new(&self->inner, "KV", "Range", self->call->token, self->call->deadline_ms);
	Pb__RangeRequest *range = call != NULL ? key_range(self->key, &call->arena) : NULL;

	if (call == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	call->request = range != NULL ? &range->base : NULL;
	inner_start(&self->inner, on_checked);
}

static void watch_key(struct waiter *self, const Pb__KeyValue *kv, int64_t revision)
{
	uint8_t *key = arena_copy(&self->call->arena, kv->key.data, kv->key.len);

	if (key == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
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

	if (is_over(self, call))
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
	struct call *call = inner_new(&self->inner, "KV", "Range", self->call->token, self->call->deadline_ms);
	Pb__RangeRequest *range;

	if (call == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	range = prefix_newest(&self->prefix, self->revision - 1, &call->arena);
	call->request = range != NULL ? &range->base : NULL;
	inner_start(&self->inner, on_asked);
}

/* ---- Entering ---- */

static void on_reproclaimed(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__TxnResponse *txn = (const Pb__TxnResponse *)call->response;

	if (is_over(self, call))
		return;
	if (txn->succeeded)
		ask(self);
	else
		fail_code(self, STATUS_NOT_LEADER);
}

/* Gives the waiter's key its value, if it is still the one it put. */
static void proclaim(struct waiter *self, inner_done_fn *done)
{
	struct call *call = inner_new(&self->inner, "KV", "Txn", self->call->token, self->call->deadline_ms);
	struct own_txn *own = call != NULL ? own_txn_make(self->key, self->revision, &call->arena) : NULL;

	if (call == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	if (own_txn_then_put(own, self->key, self->value, self->lease, &call->arena))
		call->request = &own->txn.base;
	inner_start(&self->inner, done);
}

static bool is_same(ProtobufCBinaryData a, ProtobufCBinaryData b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static void on_entered(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__TxnResponse *txn = (const Pb__TxnResponse *)call->response;
	const Pb__KeyValue *mine = NULL, *oldest;

	if (call->status.code == STATUS_OK) {
		self->has_entered = true;
		self->header_revision = self->revision = txn->header->revision;
	}
	if (call->status.code == STATUS_OK && !txn->succeeded) {
		mine = txn->responses[0]->response_range->kvs[0];
		self->revision = mine->create_revision;
	}
	if (is_over(self, call))
		return;
	oldest = txn->responses[1]->response_range->kvs[0];
	if (self->is_election && mine != NULL && !is_same(mine->value, self->value))
		proclaim(self, on_reproclaimed);
	else if (oldest->create_revision == self->revision)
		answer(self);
	else
		ask(self);
}

/* The key's name ends with the lease in hexadecimal digits. */
static enum status_code name_key(struct waiter *self)
{
	uint64_t digits = self->lease < 0 ? -(uint64_t)self->lease : (uint64_t)self->lease;
	const char *text = arena_printf(&self->call->arena, "%s%" PRIx64, self->lease < 0 ? "-" : "", digits);

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
	enum status_code status = name_key(self);

	call = status == STATUS_OK
		       ? inner_new(&self->inner, "KV", "Txn", self->call->token, self->call->deadline_ms)
		       : NULL;
	if (call == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	call->request = make_entry(self, &call->arena);
	inner_start(&self->inner, on_entered);
}

/* ---- Beginning ---- */

static void on_granted(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);

	if (is_over(self, call))
		return;
	self->lease = ((const Pb__LeaseGrantResponse *)call->response)->id;
	self->first(self);
}

static void grant(struct waiter *self)
{
	struct call *call =
		inner_new(&self->inner, "Lease", "LeaseGrant", self->call->token, self->call->deadline_ms);
	Pb__LeaseGrantRequest *request = call != NULL ? arena_alloc(&call->arena, sizeof *request) : NULL;

	if (call == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	if (request != NULL) {
		pb__lease_grant_request__init(request);
		request->ttl = SESSION_TTL_SEC;
		call->request = &request->base;
	}
	inner_start(&self->inner, on_granted);
}

static struct waiter *new_waiter(struct reader *reader, struct call *call)
{
	struct waiter *self = arena_calloc(&call->arena, 1, sizeof *self);

	if (self == NULL)
		return NULL;
	self->inner.reader = reader;
	self->call = call;
	self->next = reader->waiters;
	if (self->next != NULL)
		self->next->prev = self;
	reader->waiters = self;
	watch_group_init(&self->group, reader->shard, &WAIT_OPS);
	call->waiter = self;
	call->cancel = on_cancel;
	self->deadline.run = on_deadline;
	if (call->deadline_ms != 0)
		reader_set_timer(reader, &self->deadline, call->deadline_ms);
	return self;
}

/* With the client's lease, or one of the server's if it named none. */
static bool begin(struct waiter *self, int64_t lease, void (*first)(struct waiter *self))
{
	self->first = first;
	self->lease = lease;
	if (lease == 0)
		grant(self);
	else
		first(self);
	return false;
}

bool lock_lock(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__LockRequest *request = (const Pb__LockRequest *)call->request;
	struct waiter *self = new_waiter(reader, call);

	(void)engine;
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	if (prefix_make(&self->prefix, request->name, &call->arena) != STATUS_OK) {
		fail_code(self, STATUS_NO_MEMORY);
		return false;
	}
	return begin(self, request->lease, enter);
}

bool election_campaign(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__CampaignRequest *request = (const Pb__CampaignRequest *)call->request;
	struct waiter *self = new_waiter(reader, call);

	(void)engine;
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	self->is_election = true;
	self->value = request->value;
	if (prefix_make(&self->prefix, request->name, &call->arena) != STATUS_OK) {
		fail_code(self, STATUS_NO_MEMORY);
		return false;
	}
	return begin(self, request->lease, enter);
}

/* ---- One step ---- */

static void on_unlocked(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	Pb__UnlockResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (is_over(self, call))
		return;
	if (response == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	pb__unlock_response__init(response);
	self->header_revision = ((const Pb__DeleteRangeResponse *)call->response)->header->revision;
	response->header = answer_header(self);
	self->call->response = &response->base;
	finish(self);
}

bool lock_unlock(struct engine *engine, struct reader *reader, struct call *call)
{
	struct waiter *self = new_waiter(reader, call);
	struct call *inner = self != NULL ? inner_new(&self->inner, "KV", "DeleteRange", call->token, call->deadline_ms) : NULL;
	Pb__DeleteRangeRequest *request = inner != NULL ? arena_alloc(&inner->arena, sizeof *request) : NULL;

	(void)engine;
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	if (inner == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return false;
	}
	if (request != NULL) {
		pb__delete_range_request__init(request);
		request->key = ((const Pb__UnlockRequest *)call->request)->key;
		inner->request = &request->base;
	}
	inner_start(&self->inner, on_unlocked);
	return false;
}

static void on_proclaimed(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__TxnResponse *txn = (const Pb__TxnResponse *)call->response;
	Pb__ProclaimResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (is_over(self, call))
		return;
	if (!txn->succeeded || response == NULL) {
		fail_code(self, response == NULL ? STATUS_NO_MEMORY : STATUS_NOT_LEADER);
		return;
	}
	pb__proclaim_response__init(response);
	self->header_revision = txn->header->revision;
	response->header = answer_header(self);
	self->call->response = &response->base;
	finish(self);
}

static void start_proclaim(struct waiter *self)
{
	proclaim(self, on_proclaimed);
}

static void on_resigned(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	Pb__ResignResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (is_over(self, call))
		return;
	if (response == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	pb__resign_response__init(response);
	self->header_revision = ((const Pb__TxnResponse *)call->response)->header->revision;
	response->header = answer_header(self);
	self->call->response = &response->base;
	finish(self);
}

static void start_resign(struct waiter *self)
{
	struct call *call = inner_new(&self->inner, "KV", "Txn", self->call->token, self->call->deadline_ms);
	struct own_txn *own = call != NULL ? own_txn_make(self->key, self->revision, &call->arena) : NULL;

	if (call == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	if (own_txn_then_delete(own, self->key, &call->arena))
		call->request = &own->txn.base;
	inner_start(&self->inner, on_resigned);
}

static void on_found(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);
	const Pb__RangeResponse *range = (const Pb__RangeResponse *)call->response;
	Pb__LeaderResponse *response = arena_alloc(&self->call->arena, sizeof *response);

	if (is_over(self, call))
		return;
	if (range->n_kvs == 0 || response == NULL) {
		fail_code(self, response == NULL ? STATUS_NO_MEMORY : STATUS_NO_LEADER);
		return;
	}
	pb__leader_response__init(response);
	self->header_revision = range->header->revision;
	response->header = answer_header(self);
	response->kv = kv_copy(range->kvs[0], &self->call->arena);
	if (response->kv == NULL) {
		fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	self->call->response = &response->base;
	finish(self);
}

bool election_leader(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__LeaderRequest *request = (const Pb__LeaderRequest *)call->request;
	struct waiter *self = new_waiter(reader, call);
	Pb__RangeRequest *range = NULL;
	struct call *inner;

	(void)engine;
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	inner = inner_new(&self->inner, "KV", "Range", call->token, call->deadline_ms);
	if (inner == NULL || prefix_make(&self->prefix, request->name, &call->arena) != STATUS_OK) {
		fail_code(self, STATUS_NO_MEMORY);
		return false;
	}
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
	self = new_waiter(reader, call);
	if (self == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	self->key = leader->key;
	self->revision = leader->rev;
	self->value = value;
	return begin(self, leader->lease, step);
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
