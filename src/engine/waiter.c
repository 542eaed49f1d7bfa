/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/waiter.h"

#include "base/clock.h"
#include "engine/compose.h"

enum { SESSION_TTL_SEC = 60 }; /* of a lease that the server makes */

struct waiter *waiter_of(struct inner *inner)
{
	return (struct waiter *)inner;
}

/* ---- The end ---- */

void waiter_unwatch(struct waiter *self)
{
	if (self->watching)
		watch_remove(&self->watcher);
	self->watching = false;
}

static void waiter_finish(struct waiter *self)
{
	struct reader *reader = self->inner.reader;

	waiter_unwatch(self);
	reader_clear_timer(&self->deadline);
	if (self->prev != NULL)
		self->prev->next = self->next;
	else
		reader->waiters = self->next;
	if (self->next != NULL)
		self->next->prev = self->prev;
	claim_leave(&reader->engine->claims, &self->ticket);
	self->call->cancel = NULL;
	call_finish(self->call, false); /* and with the call, the waiter is gone */
}

void waiter_fail(struct waiter *self, const struct status *status)
{
	enum status_code code = status->code;
	const char *text = arena_strdup(&self->call->arena, status_text(status));

	if (code != STATUS_CANCELED && code != STATUS_DEADLINE_EXCEEDED && code != STATUS_STOPPED &&
	    status_grpc(code) != GRPC_UNKNOWN)
		code = STATUS_UNKNOWN;
	call_fail(self->call, code, text);
	waiter_finish(self);
}

void waiter_fail_code(struct waiter *self, enum status_code code)
{
	waiter_fail(self, &(struct status){.code = code});
}

Pb__ResponseHeader *waiter_header(struct waiter *self, int64_t revision)
{
	return view_header(revision, &self->call->arena);
}

void waiter_answer(struct waiter *self, ProtobufCMessage *response, const Pb__ResponseHeader *header)
{
	if (header == NULL) {
		waiter_fail_code(self, STATUS_NO_MEMORY);
		return;
	}
	self->call->response = response;
	waiter_finish(self);
}

/* ---- Leaving ---- */

static void on_left(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);

	(void)call; /* what could not be deleted falls with its lease */
	waiter_fail_code(self, self->gone);
}

/* A transaction that deletes the waiter's key, if it is still the one it put. */
static struct call *make_leave(struct waiter *self)
{
	struct call *call = inner_new(&self->inner, "KV", "Txn", self->call->token, 0);
	struct own_txn *own;

	if (call == NULL)
		return NULL;
	own = own_txn_make(self->key, self->revision, &call->arena);
	if (self->revision == 0)
		own_txn_if_leased(own, self->lease);
	if (own_txn_then_delete(own, self->key, &call->arena))
		call->request = &own->txn.base;
	return call;
}

static void drop_inner(struct waiter *self)
{
	call_free(self->inner.call);
	self->inner.call = NULL;
	waiter_fail_code(self, self->gone);
}

static void leave(struct waiter *self)
{
	struct claims *claims = &self->inner.reader->engine->claims;
	bool mine, over;

	waiter_unwatch(self);
	if (!self->has_key || make_leave(self) == NULL) {
		waiter_fail_code(self, self->gone);
		return;
	}
	claims_lock(claims);
	mine = claim_is_newest(&self->ticket);
	over = mine && inner_launch(&self->inner, on_left);
	claims_unlock(claims);
	if (over)
		inner_conclude(&self->inner);
	else if (!mine)
		drop_inner(self);
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

void waiters_drain(struct reader *reader)
{
	struct waiter *next;

	for (struct waiter *self = reader->waiters; self != NULL; self = next) {
		next = self->next;
		if (self->watching)
			waiter_fail_code(self, STATUS_STOPPED);
	}
}

bool waiter_is_over(struct waiter *self, const struct call *call)
{
	if (self->gone != STATUS_OK) {
		leave(self);
		return true;
	}
	if (call->status.code == STATUS_OK)
		return false;
	if (self->has_key)
		give_up(self, call->status.code);
	else
		waiter_fail(self, &call->status);
	return true;
}

/* ---- Steps ---- */

struct call *waiter_inner(struct waiter *self, const char *service, const char *name)
{
	struct call *call =
		inner_new(&self->inner, service, name, self->call->token, self->call->deadline_ms);

	if (call == NULL)
		waiter_fail_code(self, STATUS_NO_MEMORY);
	return call;
}

void waiter_proclaim(struct waiter *self, inner_done_fn *done)
{
	struct call *call = waiter_inner(self, "KV", "Txn");
	struct own_txn *own;

	if (call == NULL)
		return;
	own = own_txn_make(self->key, self->revision, &call->arena);
	if (own_txn_then_put(own, self->key, self->value, self->lease, &call->arena))
		call->request = &own->txn.base;
	inner_start(&self->inner, done);
}

/* ---- Beginning ---- */

static void on_granted(struct inner *inner, const struct call *call)
{
	struct waiter *self = waiter_of(inner);

	if (waiter_is_over(self, call))
		return;
	self->lease = ((const Pb__LeaseGrantResponse *)call->response)->id;
	self->first(self);
}

static void grant(struct waiter *self)
{
	struct call *call = waiter_inner(self, "Lease", "LeaseGrant");
	Pb__LeaseGrantRequest *request;

	if (call == NULL)
		return;
	request = arena_alloc(&call->arena, sizeof *request);
	if (request != NULL) {
		pb__lease_grant_request__init(request);
		request->ttl = SESSION_TTL_SEC;
		call->request = &request->base;
	}
	inner_start(&self->inner, on_granted);
}

struct waiter *waiter_new(struct reader *reader, struct call *call)
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
	call->waiter = self;
	call->cancel = on_cancel;
	self->deadline.run = on_deadline;
	if (call->deadline_ms != 0)
		reader_set_timer(reader, &self->deadline, call->deadline_ms);
	return self;
}

bool waiter_begin(struct waiter *self, int64_t lease, void (*first)(struct waiter *self))
{
	self->first = first;
	self->lease = lease;
	if (lease == 0)
		grant(self);
	else
		first(self);
	return false;
}
