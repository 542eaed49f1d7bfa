/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/validate.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum status_code validate_range(const Pb__RangeRequest *request)
{
	if (request->key.len == 0)
		return STATUS_EMPTY_KEY;
	if ((unsigned)request->sort_order > PB__RANGE_REQUEST__SORT_ORDER__DESCEND)
		return STATUS_INVALID_SORT;
	if ((unsigned)request->sort_target > PB__RANGE_REQUEST__SORT_TARGET__VALUE)
		return STATUS_INVALID_SORT;
	return STATUS_OK;
}

enum status_code validate_put(const Pb__PutRequest *request)
{
	if (request->key.len == 0)
		return STATUS_EMPTY_KEY;
	if (request->ignore_value && request->value.len != 0)
		return STATUS_VALUE_PROVIDED;
	if (request->ignore_lease && request->lease != 0)
		return STATUS_LEASE_PROVIDED;
	return STATUS_OK;
}

enum status_code validate_delete_range(const Pb__DeleteRangeRequest *request)
{
	return request->key.len == 0 ? STATUS_EMPTY_KEY : STATUS_OK;
}

static enum status_code check_txn(const Pb__TxnRequest *request, int64_t max_ops);

static enum status_code check_op(const Pb__RequestOp *op, int64_t max_ops)
{
	switch (op->request_case) {
	case PB__REQUEST_OP__REQUEST_REQUEST_RANGE:
		return validate_range(op->request_range);
	case PB__REQUEST_OP__REQUEST_REQUEST_PUT:
		return validate_put(op->request_put);
	case PB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
		return validate_delete_range(op->request_delete_range);
	case PB__REQUEST_OP__REQUEST_REQUEST_TXN:
		return check_txn(op->request_txn, max_ops);
	default:
		return STATUS_KEY_NOT_FOUND; /* etcd's answer to an empty operation */
	}
}

static enum status_code check_txn(const Pb__TxnRequest *request, int64_t max_ops)
{
	size_t ops = request->n_compare;
	enum status_code status = STATUS_OK;

	if (request->n_success > ops)
		ops = request->n_success;
	if (request->n_failure > ops)
		ops = request->n_failure;
	if ((int64_t)ops > max_ops)
		return STATUS_TOO_MANY_OPS;
	for (size_t i = 0; i < request->n_compare; i++)
		if (request->compare[i]->key.len == 0)
			return STATUS_EMPTY_KEY;
	for (size_t i = 0; status == STATUS_OK && i < request->n_success; i++)
		status = check_op(request->success[i], max_ops - (int64_t)ops);
	for (size_t i = 0; status == STATUS_OK && i < request->n_failure; i++)
		status = check_op(request->failure[i], max_ops - (int64_t)ops);
	return status;
}

/*
 * What a branch touches: the keys that it puts and the ranges that it deletes,
 * both sorted. Branches are joined by merging, so that a transaction of very
 * many nested operations takes little more than linear time.
 */
struct put {
	const uint8_t *key;
	size_t len;
};

struct deletion {
	const uint8_t *begin, *end;
	size_t begin_len, end_len;
	bool inclusive;  /* a single key: begin and end are the same, and it is in */
	size_t farthest; /* of this one and all before, the one that ends last */
};

struct footprint {
	struct put *puts;
	size_t put_count;
	struct deletion *deletions;
	size_t deletion_count;
};

static void footprint_release(struct footprint *print)
{
	free(print->puts);
	free(print->deletions);
	*print = (struct footprint){0};
}

static int compare_puts(const void *left, const void *right)
{
	const struct put *a = left, *b = right;

	return bytes_compare(a->key, a->len, b->key, b->len);
}

static int compare_begins(const void *left, const void *right)
{
	const struct deletion *a = left, *b = right;

	return bytes_compare(a->begin, a->begin_len, b->begin, b->begin_len);
}

static bool ends_later(const struct deletion *a, const struct deletion *b)
{
	int order = bytes_compare(a->end, a->end_len, b->end, b->end_len);

	return order > 0 || (order == 0 && a->inclusive && !b->inclusive);
}

/* Whether one of the deletions has the key: of those that begin no later, the
 * one that ends last tells. */
static bool is_deleted(const struct footprint *print, const struct put *put)
{
	size_t low = 0, high = print->deletion_count;
	const struct deletion *last;
	int order;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct deletion *deletion = &print->deletions[middle];

		if (bytes_compare(deletion->begin, deletion->begin_len, put->key, put->len) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return false;
	last = &print->deletions[print->deletions[low - 1].farthest];
	order = bytes_compare(put->key, put->len, last->end, last->end_len);
	return order < 0 || (order == 0 && last->inclusive);
}

static bool has_put(const struct footprint *print, const struct put *put)
{
	if (print->put_count == 0)
		return false;
	return bsearch(put, print->puts, print->put_count, sizeof *put, compare_puts) != NULL;
}

/* Merges two sorted arrays into a new one; the first is freed. */
static bool merge(void *into, size_t *count, const void *more, size_t more_count, size_t size,
                  int (*compare)(const void *, const void *))
{
	void **items = into;
	const char *a, *b, *a_end, *b_end;
	char *merged, *to;

	if (more_count == 0)
		return true;
	a = *count > 0 ? *items : more; /* an empty array has no address to count from */
	b = more;
	a_end = a + *count * size;
	b_end = b + more_count * size;
	merged = to = malloc((*count + more_count) * size);
	if (merged == NULL)
		return false;
	while (a < a_end || b < b_end) {
		bool from_a = b == b_end || (a < a_end && compare(a, b) <= 0);

		memcpy(to, from_a ? a : b, size);
		*(from_a ? &a : &b) += size;
		to += size;
	}
	free(*items);
	*items = merged;
	*count += more_count;
	return true;
}

static enum status_code add_puts(struct footprint *print, const struct put *puts, size_t count)
{
	void *items = print->puts;
	bool merged = merge(&items, &print->put_count, puts, count, sizeof *puts, compare_puts);

	print->puts = items;
	return merged ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status_code add_deletions(struct footprint *print, const struct deletion *deletions, size_t count)
{
	void *items = print->deletions;
	bool merged = merge(&items, &print->deletion_count, deletions, count, sizeof *deletions, compare_begins);

	print->deletions = items;
	if (!merged)
		return STATUS_NO_MEMORY;
	for (size_t i = 0; i < print->deletion_count; i++) {
		size_t before = i > 0 ? print->deletions[i - 1].farthest : 0;

		print->deletions[i].farthest =
			ends_later(&print->deletions[i], &print->deletions[before]) ? i : before;
	}
	return STATUS_OK;
}

/* Adds the puts of a nested branch. Those that its sibling branch has too are
 * no duplicates: only one of the two will run. */
static enum status_code add_nested_puts(struct footprint *print, const struct footprint *inner,
                                        const struct footprint *sibling)
{
	for (size_t i = 0; i < inner->put_count; i++) {
		const struct put *put = &inner->puts[i];

		if (has_put(print, put) && (sibling == NULL || !has_put(sibling, put)))
			return STATUS_DUPLICATE_KEY;
		if (is_deleted(print, put))
			return STATUS_DUPLICATE_KEY;
	}
	return add_puts(print, inner->puts, inner->put_count);
}

static enum status_code collect(Pb__RequestOp *const *ops, size_t count, struct footprint *print);

static enum status_code collect_nested(const Pb__TxnRequest *request, struct footprint *print)
{
	struct footprint success = {0}, failure = {0};
	enum status_code status = collect(request->success, request->n_success, &success);

	if (status == STATUS_OK)
		status = collect(request->failure, request->n_failure, &failure);
	if (status == STATUS_OK)
		status = add_nested_puts(print, &success, NULL);
	if (status == STATUS_OK)
		status = add_nested_puts(print, &failure, &success);
	if (status == STATUS_OK)
		status = add_deletions(print, success.deletions, success.deletion_count);
	if (status == STATUS_OK)
		status = add_deletions(print, failure.deletions, failure.deletion_count);
	footprint_release(&success);
	footprint_release(&failure);
	return status;
}

/* A range that ends before it begins has no keys. One up to the end of the key
 * space ("\0") counts as such here: etcd's check takes its end for an ordinary
 * key, below all others. */
static bool make_deletion(const Pb__DeleteRangeRequest *request, struct deletion *deletion)
{
	bool point = request->range_end.len == 0;

	*deletion = (struct deletion){
		.begin = request->key.data,
		.begin_len = request->key.len,
		.end = point ? request->key.data : request->range_end.data,
		.end_len = point ? request->key.len : request->range_end.len,
		.inclusive = point,
	};
	return point || bytes_compare(deletion->begin, deletion->begin_len, deletion->end, deletion->end_len) < 0;
}

static enum status_code collect_deletions(Pb__RequestOp *const *ops, size_t count, struct footprint *print)
{
	struct deletion *deletions = malloc((count + 1) * sizeof *deletions);
	size_t found = 0;
	enum status_code status;

	if (deletions == NULL)
		return STATUS_NO_MEMORY;
	for (size_t i = 0; i < count; i++)
		if (ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE &&
		    make_deletion(ops[i]->request_delete_range, &deletions[found]))
			found++;
	qsort(deletions, found, sizeof *deletions, compare_begins);
	status = add_deletions(print, deletions, found);
	free(deletions);
	return status;
}

static enum status_code collect_puts(Pb__RequestOp *const *ops, size_t count, struct footprint *print)
{
	struct put *puts = malloc((count + 1) * sizeof *puts);
	size_t found = 0;
	enum status_code status = STATUS_OK;

	if (puts == NULL)
		return STATUS_NO_MEMORY;
	for (size_t i = 0; i < count; i++)
		if (ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_PUT)
			puts[found++] = (struct put){ops[i]->request_put->key.data, ops[i]->request_put->key.len};
	qsort(puts, found, sizeof *puts, compare_puts);
	for (size_t i = 0; i < found; i++) {
		if ((i > 0 && compare_puts(&puts[i - 1], &puts[i]) == 0) || has_put(print, &puts[i]) ||
		    is_deleted(print, &puts[i]))
			status = STATUS_DUPLICATE_KEY;
	}
	if (status == STATUS_OK)
		status = add_puts(print, puts, found);
	free(puts);
	return status;
}

/* etcd's order: this level's deletions, then what is nested, then this level's puts. */
static enum status_code collect(Pb__RequestOp *const *ops, size_t count, struct footprint *print)
{
	enum status_code status = collect_deletions(ops, count, print);

	for (size_t i = 0; status == STATUS_OK && i < count; i++)
		if (ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_TXN)
			status = collect_nested(ops[i]->request_txn, print);
	return status == STATUS_OK ? collect_puts(ops, count, print) : status;
}

static enum status_code check_overlaps(Pb__RequestOp *const *ops, size_t count)
{
	struct footprint print = {0};
	enum status_code status = collect(ops, count, &print);

	footprint_release(&print);
	return status;
}

enum status_code validate_txn(const Pb__TxnRequest *request, int64_t max_ops)
{
	enum status_code status = check_txn(request, max_ops);

	if (status == STATUS_OK)
		status = check_overlaps(request->success, request->n_success);
	if (status == STATUS_OK)
		status = check_overlaps(request->failure, request->n_failure);
	return status;
}
