/* SPDX-License-Identifier: Apache-2.0 */
#include "state/range.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "state/scan.h"

enum { FIRST_ROWS = 16 };

struct rows {
	Pb__KeyValue **items;
	size_t count;
	size_t size;
};

enum status_code range_check_revision(const struct store_state *state, int64_t newest, int64_t revision)
{
	if (revision > newest)
		return STATUS_FUTURE_REVISION;
	if (revision > 0 && revision < state->compact_revision)
		return STATUS_COMPACTED;
	return STATUS_OK;
}

static bool has_filters(const Pb__RangeRequest *request)
{
	return request->min_mod_revision != 0 || request->max_mod_revision != 0 ||
	       request->min_create_revision != 0 || request->max_create_revision != 0;
}

static bool passes(const Pb__RangeRequest *request, const struct version_row *row)
{
	if (request->max_mod_revision != 0 && row->mod > request->max_mod_revision)
		return false;
	if (request->min_mod_revision != 0 && row->mod < request->min_mod_revision)
		return false;
	if (request->max_create_revision != 0 && row->created > request->max_create_revision)
		return false;
	return request->min_create_revision == 0 || row->created >= request->min_create_revision;
}

/* A target without an order sorts ascending, except by key, which is the order they come in. */
static bool is_sorted(const Pb__RangeRequest *request)
{
	if (request->sort_target == PB__RANGE_REQUEST__SORT_TARGET__KEY)
		return request->sort_order == PB__RANGE_REQUEST__SORT_ORDER__DESCEND;
	return true;
}

/* etcd's own rule, which takes any target without an order as unsorted when it applies the limit. */
static bool limits_early(const Pb__RangeRequest *request)
{
	if (has_filters(request))
		return false;
	return request->sort_order == PB__RANGE_REQUEST__SORT_ORDER__NONE || !is_sorted(request);
}

static int compare_bytes(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
	return bytes_compare(a->data, a->len, b->data, b->len);
}

static int compare_numbers(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

static int compare_target(const Pb__KeyValue *a, const Pb__KeyValue *b, int target)
{
	switch (target) {
	case PB__RANGE_REQUEST__SORT_TARGET__VERSION:
		return compare_numbers(a->version, b->version);
	case PB__RANGE_REQUEST__SORT_TARGET__CREATE:
		return compare_numbers(a->create_revision, b->create_revision);
	case PB__RANGE_REQUEST__SORT_TARGET__MOD:
		return compare_numbers(a->mod_revision, b->mod_revision);
	case PB__RANGE_REQUEST__SORT_TARGET__VALUE:
		return compare_bytes(&a->value, &b->value);
	default:
		return compare_bytes(&a->key, &b->key);
	}
}

static int compare_rows(const void *left, const void *right, void *arg)
{
	const Pb__KeyValue *a = *(Pb__KeyValue *const *)left, *b = *(Pb__KeyValue *const *)right;
	const Pb__RangeRequest *request = arg;
	int order = compare_target(a, b, (int)request->sort_target);

	if (request->sort_order == PB__RANGE_REQUEST__SORT_ORDER__DESCEND)
		order = -order;
	/* Equal ones stay in the order of their keys. */
	return order != 0 ? order : compare_bytes(&a->key, &b->key);
}

static enum status_code add_row(struct rows *rows, const struct version_row *row, bool with_value,
                                struct arena *arena)
{
	if (rows->count == rows->size) {
		size_t size = rows->size == 0 ? FIRST_ROWS : rows->size * 2;
		Pb__KeyValue **items = arena_alloc(arena, size * sizeof *items);

		if (items == NULL)
			return STATUS_NO_MEMORY;
		if (rows->count > 0)
			memcpy(items, rows->items, rows->count * sizeof *items);
		rows->items = items;
		rows->size = size;
	}
	rows->items[rows->count] = view_message(row, with_value, arena);
	return rows->items[rows->count++] != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

struct collect {
	struct view *view;
	const Pb__RangeRequest *request;
	struct span span;
	int64_t revision;
	struct arena *arena;
	struct rows rows;
	int64_t count;
};

/* Adds the number of keys in the span. */
static enum status_code count_span(struct collect *collect, const struct span *span)
{
	int64_t count = 0;
	enum status_code status = scan_count(collect->view, span, collect->revision, &count);

	collect->count += count;
	return status;
}

/* Counts what lies behind the last row, without fetching it. */
static enum status_code count_rest(struct collect *collect, const Pb__KeyValue *last)
{
	struct span rest = collect->span;
	uint8_t *after = arena_alloc(collect->arena, last->key.len + 1);

	if (after == NULL)
		return STATUS_NO_MEMORY;
	memcpy(after, last->key.data, last->key.len);
	after[last->key.len] = 0;
	rest.key = after;
	rest.key_len = last->key.len + 1;
	return count_span(collect, &rest);
}

static enum status_code collect_rows(struct collect *collect)
{
	const Pb__RangeRequest *request = collect->request;
	bool with_value =
		!request->keys_only || request->sort_target == PB__RANGE_REQUEST__SORT_TARGET__VALUE;
	size_t limit = limits_early(request) && request->limit > 0 ? (size_t)request->limit : SIZE_MAX;
	struct version_row *row = NULL;
	struct scan scan;
	enum status_code status;

	if (with_value)
		status = scan_begin(&scan, collect->view, &collect->span, collect->revision);
	else
		status = scan_begin_bare(&scan, collect->view, &collect->span, collect->revision);
	while (status == STATUS_OK && (size_t)collect->count <= limit) {
		status = scan_next(&scan, &row);
		if (status != STATUS_OK || row == NULL)
			break;
		collect->count++;
		if (passes(request, row))
			status = add_row(&collect->rows, row, with_value, collect->arena);
	}
	scan_end(&scan);
	if (status != STATUS_OK || (size_t)collect->count <= limit)
		return status;
	return count_rest(collect, collect->rows.items[collect->rows.count - 1]);
}

static void finish_rows(const Pb__RangeRequest *request, struct rows *rows, Pb__RangeResponse *response)
{
	union {
		const Pb__RangeRequest *in;
		void *out;
	} unconst = {.in = request};

	if (is_sorted(request) && rows->count > 1)
		qsort_r(rows->items, rows->count, sizeof *rows->items, compare_rows, unconst.out);
	if (request->limit > 0 && rows->count > (size_t)request->limit) {
		rows->count = (size_t)request->limit;
		response->more = true;
	}
	for (size_t i = 0; request->keys_only && i < rows->count; i++) {
		rows->items[i]->value = (ProtobufCBinaryData){0};
		/* etcd answers these from its index, which knows no leases; by value it cannot. */
		if (request->sort_target != PB__RANGE_REQUEST__SORT_TARGET__VALUE)
			rows->items[i]->lease = 0;
	}
	response->n_kvs = rows->count;
	response->kvs = rows->items;
}

enum status_code range_run(struct view *view, const Pb__RangeRequest *request, int64_t newest,
                           struct arena *arena, Pb__RangeResponse **out)
{
	struct collect collect = {
		.view = view,
		.request = request,
		.span = span_make(request->key, request->range_end),
		.revision = request->revision > 0 ? request->revision : 0,
		.arena = arena,
	};
	enum status_code status = range_check_revision(&view->state, newest, collect.revision);
	Pb__RangeResponse *response;

	if (status != STATUS_OK)
		return status;
	if (collect.revision == newest)
		collect.revision = 0;
	if (collect.revision == 0 && !view->writes)
		collect.revision = newest; /* stays, though the view moves on */
	response = arena_alloc(arena, sizeof *response);
	if (response == NULL)
		return STATUS_NO_MEMORY;
	pb__range_response__init(response);
	response->header = view_header(newest, arena);
	if (response->header == NULL)
		return STATUS_NO_MEMORY;
	status = request->count_only ? count_span(&collect, &collect.span) : collect_rows(&collect);
	if (status != STATUS_OK)
		return status;
	finish_rows(request, &collect.rows, response);
	response->count = collect.count;
	*out = response;
	return STATUS_OK;
}
