/* SPDX-License-Identifier: Apache-2.0 */
#include "state/txn.h"

#include <string.h>

#include "base/bytes.h"
#include "state/range.h"
#include "state/scan.h"
#include "state/write.h"

/* One run of a transaction: on the store when it writes, else on a view. */
struct run {
	struct store *st; /* NULL on a reader's view */
	struct view *view;
	int64_t newest; /* the revision that the snapshot was taken at */
	struct arena *arena;
	const bool *path; /* which branch each transaction takes, outermost first, in order */
};

/* The branches chosen so far, in the order in which the transactions stand. */
struct path {
	bool *taken;
	size_t count;
	size_t size;
};

bool txn_is_read_only(const Pb__TxnRequest *request)
{
	/* A nested transaction counts as a write, as in etcd. */
	for (size_t i = 0; i < request->n_success; i++)
		if (request->success[i]->request_case != PB__REQUEST_OP__REQUEST_REQUEST_RANGE)
			return false;
	for (size_t i = 0; i < request->n_failure; i++)
		if (request->failure[i]->request_case != PB__REQUEST_OP__REQUEST_REQUEST_RANGE)
			return false;
	return true;
}

bool txn_is_serializable(const Pb__TxnRequest *request)
{
	for (size_t i = 0; i < request->n_success; i++)
		if (!request->success[i]->request_range->serializable)
			return false;
	for (size_t i = 0; i < request->n_failure; i++)
		if (!request->failure[i]->request_range->serializable)
			return false;
	return true;
}

static int sign(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

static int compare_value(const Pb__Compare *compare, const uint8_t *value, size_t len)
{
	ProtobufCBinaryData wanted = {0};

	if (compare->target_union_case == PB__COMPARE__TARGET_UNION_VALUE)
		wanted = compare->value;
	return bytes_compare(value, len, wanted.data, wanted.len);
}

/* The number that the compare names for its own target; 0 when it names another. */
static int64_t wanted_number(const Pb__Compare *compare)
{
	switch (compare->target_union_case) {
	case PB__COMPARE__TARGET_UNION_VERSION:
		return compare->target == PB__COMPARE__COMPARE_TARGET__VERSION ? compare->version : 0;
	case PB__COMPARE__TARGET_UNION_CREATE_REVISION:
		return compare->target == PB__COMPARE__COMPARE_TARGET__CREATE ? compare->create_revision
		                                                              : 0;
	case PB__COMPARE__TARGET_UNION_MOD_REVISION:
		return compare->target == PB__COMPARE__COMPARE_TARGET__MOD ? compare->mod_revision : 0;
	case PB__COMPARE__TARGET_UNION_LEASE:
		return compare->target == PB__COMPARE__COMPARE_TARGET__LEASE ? compare->lease : 0;
	default:
		return 0;
	}
}

/* A row of zeros stands for a key that does not exist. */
static bool holds(const Pb__Compare *compare, const struct version_row *row)
{
	int order;

	switch ((int)compare->target) {
	case PB__COMPARE__COMPARE_TARGET__VERSION:
		order = sign(row->version, wanted_number(compare));
		break;
	case PB__COMPARE__COMPARE_TARGET__CREATE:
		order = sign(row->created, wanted_number(compare));
		break;
	case PB__COMPARE__COMPARE_TARGET__MOD:
		order = sign(row->mod, wanted_number(compare));
		break;
	case PB__COMPARE__COMPARE_TARGET__LEASE:
		order = sign(row->lease, wanted_number(compare));
		break;
	case PB__COMPARE__COMPARE_TARGET__VALUE:
		order = compare_value(compare, sqlite3_column_blob(row->stmt, 5),
		                      (size_t)sqlite3_column_bytes(row->stmt, 5));
		break;
	default:
		order = 0; /* etcd takes an unknown target as equal */
		break;
	}
	switch ((int)compare->result) {
	case PB__COMPARE__COMPARE_RESULT__EQUAL:
		return order == 0;
	case PB__COMPARE__COMPARE_RESULT__GREATER:
		return order > 0;
	case PB__COMPARE__COMPARE_RESULT__LESS:
		return order < 0;
	case PB__COMPARE__COMPARE_RESULT__NOT_EQUAL:
		return order != 0;
	default:
		return true; /* and an unknown result as fulfilled */
	}
}

/* All keys of the compare's span must fulfil it. */
static enum status_code check_compare(struct run *run, const Pb__Compare *compare, bool *fulfilled)
{
	struct span span = span_make(compare->key, compare->range_end);
	struct version_row *row;
	struct scan scan;
	int64_t revision = run->st != NULL ? 0 : run->newest;
	enum status_code status;
	bool any = false;

	if (compare->target == PB__COMPARE__COMPARE_TARGET__VALUE)
		status = scan_begin(&scan, run->view, &span, revision);
	else
		status = scan_begin_bare(&scan, run->view, &span, revision);
	*fulfilled = true;
	while (status == STATUS_OK && *fulfilled) {
		status = scan_next(&scan, &row);
		if (status != STATUS_OK || row == NULL)
			break;
		any = true;
		*fulfilled = holds(compare, row);
	}
	scan_end(&scan);
	if (status == STATUS_OK && !any) {
		struct version_row none = {0};

		*fulfilled = compare->target != PB__COMPARE__COMPARE_TARGET__VALUE && holds(compare, &none);
	}
	return status;
}

static enum status_code add_branch(struct path *path, bool taken, struct arena *arena)
{
	if (path->count == path->size) {
		size_t size = path->size == 0 ? 16 : path->size * 2;
		bool *grown = arena_alloc(arena, size);

		if (grown == NULL)
			return STATUS_NO_MEMORY;
		if (path->count > 0)
			memcpy(grown, path->taken, path->count);
		path->taken = grown;
		path->size = size;
	}
	path->taken[path->count++] = taken;
	return STATUS_OK;
}

struct branch {
	Pb__RequestOp *const *ops;
	size_t count;
};

static struct branch choose_branch(const Pb__TxnRequest *request, bool success)
{
	if (success)
		return (struct branch){request->success, request->n_success};
	return (struct branch){request->failure, request->n_failure};
}

/* Settles which branch this transaction and those nested in it take. */
static enum status_code settle(struct run *run, const Pb__TxnRequest *request, struct path *path)
{
	enum status_code status = STATUS_OK;
	struct branch branch;
	bool success = true;

	for (size_t i = 0; status == STATUS_OK && success && i < request->n_compare; i++)
		status = check_compare(run, request->compare[i], &success);
	if (status == STATUS_OK)
		status = add_branch(path, success, run->arena);
	branch = choose_branch(request, success);
	for (size_t i = 0; status == STATUS_OK && i < branch.count; i++)
		if (branch.ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_TXN)
			status = settle(run, branch.ops[i]->request_txn, path);
	return status;
}

/* A negative revision is compared here, as in etcd; a range on its own takes it for none. */
static enum status_code check_range(const struct run *run, const Pb__RangeRequest *request)
{
	const struct store_state *state = &run->view->state;

	if (request->revision < 0 && request->revision < state->compact_revision)
		return STATUS_COMPACTED;
	return range_check_revision(state, run->newest, request->revision);
}

/* Checks the operations that will run, on the state before any of them. */
static enum status_code check(struct run *run, const Pb__TxnRequest *request)
{
	struct branch branch = choose_branch(request, *run->path++);
	enum status_code status = STATUS_OK;

	for (size_t i = 0; status == STATUS_OK && i < branch.count; i++) {
		const Pb__RequestOp *op = branch.ops[i];

		switch (op->request_case) {
		case PB__REQUEST_OP__REQUEST_REQUEST_RANGE:
			status = check_range(run, op->request_range);
			break;
		case PB__REQUEST_OP__REQUEST_REQUEST_PUT:
			status = write_check_put(run->st, op->request_put);
			break;
		case PB__REQUEST_OP__REQUEST_REQUEST_TXN:
			status = check(run, op->request_txn);
			break;
		default:
			break;
		}
	}
	return status;
}

static enum status_code run_txn(struct run *run, const Pb__TxnRequest *request, Pb__TxnResponse *response);

static enum status_code run_nested(struct run *run, const Pb__TxnRequest *request, Pb__TxnResponse **out)
{
	Pb__TxnResponse *response = arena_alloc(run->arena, sizeof *response);

	if (response == NULL)
		return STATUS_NO_MEMORY;
	pb__txn_response__init(response);
	/* Its header stays empty: only the outermost one's is filled. */
	response->header = view_header(0, run->arena);
	if (response->header == NULL)
		return STATUS_NO_MEMORY;
	*out = response;
	return run_txn(run, request, response);
}

static enum status_code run_op(struct run *run, const Pb__RequestOp *op, Pb__ResponseOp *answer)
{
	int64_t newest = run->st != NULL ? store_revision(run->st) : run->newest;

	switch (op->request_case) {
	case PB__REQUEST_OP__REQUEST_REQUEST_RANGE:
		answer->response_case = PB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
		return range_run(run->view, op->request_range, newest, run->arena, &answer->response_range);
	case PB__REQUEST_OP__REQUEST_REQUEST_PUT:
		answer->response_case = PB__RESPONSE_OP__RESPONSE_RESPONSE_PUT;
		return write_put(run->st, op->request_put, run->arena, &answer->response_put);
	case PB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
		answer->response_case = PB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE;
		return write_delete_range(run->st, op->request_delete_range, run->arena,
		                          &answer->response_delete_range);
	case PB__REQUEST_OP__REQUEST_REQUEST_TXN:
		answer->response_case = PB__RESPONSE_OP__RESPONSE_RESPONSE_TXN;
		return run_nested(run, op->request_txn, &answer->response_txn);
	default:
		return STATUS_OK;
	}
}

static enum status_code run_txn(struct run *run, const Pb__TxnRequest *request, Pb__TxnResponse *response)
{
	struct branch branch;
	enum status_code status = STATUS_OK;

	response->succeeded = *run->path++;
	branch = choose_branch(request, response->succeeded);
	response->responses = arena_calloc(run->arena, branch.count, sizeof *response->responses);
	if (response->responses == NULL)
		return STATUS_NO_MEMORY;
	for (size_t i = 0; status == STATUS_OK && i < branch.count; i++) {
		Pb__ResponseOp *answer = arena_alloc(run->arena, sizeof *answer);

		if (answer == NULL)
			return STATUS_NO_MEMORY;
		pb__response_op__init(answer);
		response->responses[response->n_responses++] = answer;
		status = run_op(run, branch.ops[i], answer);
	}
	return status;
}

static enum status_code run_whole(struct run *run, const Pb__TxnRequest *request, Pb__TxnResponse **out)
{
	Pb__TxnResponse *response = arena_alloc(run->arena, sizeof *response);
	struct path path = {0};
	enum status_code status;

	if (response == NULL)
		return STATUS_NO_MEMORY;
	pb__txn_response__init(response);
	status = settle(run, request, &path);
	run->path = path.taken;
	if (status == STATUS_OK)
		status = check(run, request);
	run->path = path.taken;
	if (status == STATUS_OK)
		status = run_txn(run, request, response);
	if (status != STATUS_OK)
		return status;
	response->header =
		view_header(run->st != NULL ? store_revision(run->st) : run->newest, run->arena);
	if (response->header == NULL)
		return STATUS_NO_MEMORY;
	*out = response;
	return STATUS_OK;
}

enum status_code txn_apply(struct store *st, const Pb__TxnRequest *request, struct arena *arena,
                           Pb__TxnResponse **response)
{
	struct run run = {
		.st = st,
		.view = &st->view,
		.newest = st->view.state.revision,
		.arena = arena,
	};

	return run_whole(&run, request, response);
}

enum status_code txn_read(struct view *view, const Pb__TxnRequest *request, struct arena *arena,
                          Pb__TxnResponse **response)
{
	struct run run = {.view = view, .newest = view->state.revision, .arena = arena};

	return run_whole(&run, request, response);
}
