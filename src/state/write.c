/* SPDX-License-Identifier: Apache-2.0 */
#include "state/write.h"

#include <string.h>

#include "state/scan.h"

static enum status_code check_lease(struct store *st, int64_t lease)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_LEASE];
	int code;

	if (lease == 0)
		return STATUS_OK;
	sqlite3_bind_int64(stmt, 1, lease);
	code = sqlite3_step(stmt);
	sqlite3_reset(stmt);
	if (code == SQLITE_ROW)
		return STATUS_OK;
	return code == SQLITE_DONE ? STATUS_LEASE_NOT_FOUND : view_failed(&st->view, code);
}

enum status_code write_check_put(struct store *st, const Pb__PutRequest *request)
{
	enum status_code status = check_lease(st, request->lease);
	struct version_row row;
	bool found;

	if (status != STATUS_OK || (!request->ignore_value && !request->ignore_lease))
		return status;
	status = view_find_bare(&st->view, request->key.data, request->key.len, 0, &found, &row);
	if (status != STATUS_OK)
		return status;
	if (!found)
		return STATUS_KEY_NOT_FOUND;
	view_release(&row);
	return STATUS_OK;
}

/* The key's newest version, in the arena where its value is needed. */
struct previous {
	bool found;
	int64_t created, version, lease;
	struct chain chain;
	Pb__KeyValue *kv; /* NULL when not wanted */
};

static enum status_code find_previous(struct store *st, ProtobufCBinaryData key, bool want_kv,
                                      struct arena *arena, struct previous *previous)
{
	struct version_row row;
	enum status_code status;

	if (want_kv)
		status = view_find(&st->view, key.data, key.len, 0, &previous->found, &row);
	else
		status = view_find_bare(&st->view, key.data, key.len, 0, &previous->found, &row);
	if (status != STATUS_OK)
		return status;
	if (!previous->found)
		return view_find_deleted(&st->view, key.data, key.len, &previous->chain);
	previous->created = row.created;
	previous->version = row.version;
	previous->lease = row.lease;
	chain_read(&previous->chain, row.stmt, 6, 7, 8);
	if (want_kv) {
		previous->kv = view_message(&row, true, arena);
		status = previous->kv != NULL ? STATUS_OK : STATUS_NO_MEMORY;
	}
	view_release(&row);
	return status;
}

enum status_code write_put(struct store *st, const Pb__PutRequest *request, struct arena *arena,
                           Pb__PutResponse **out)
{
	struct previous previous = {0};
	bool want_kv = request->ignore_value || request->prev_kv;
	enum status_code status = find_previous(st, request->key, want_kv, arena, &previous);
	Pb__PutResponse *response = arena_alloc(arena, sizeof *response);
	struct change change;

	if (status != STATUS_OK)
		return status;
	if (response == NULL)
		return STATUS_NO_MEMORY;
	if (!previous.found && (request->ignore_value || request->ignore_lease))
		return STATUS_KEY_NOT_FOUND;
	pb__put_response__init(response);
	response->header = view_header(st->view.state.revision + 1, arena);
	if (response->header == NULL)
		return STATUS_NO_MEMORY;
	change = (struct change){
		.key = request->key.data,
		.key_len = request->key.len,
		.value = request->ignore_value ? previous.kv->value.data : request->value.data,
		.value_len = request->ignore_value ? previous.kv->value.len : request->value.len,
		.created = previous.found ? previous.created : st->view.state.revision + 1,
		.version = previous.version + 1,
		.lease = request->ignore_lease ? previous.lease : request->lease,
		.chain = previous.chain,
		.existed = previous.found,
	};
	status = store_change(st, &change);
	if (status != STATUS_OK)
		return status;
	if (request->prev_kv)
		response->prev_kv = previous.kv;
	*out = response;
	return STATUS_OK;
}

/* A key to delete; the walk is over before the first one goes. */
struct victim {
	struct victim *next;
	struct chain chain;
	const Pb__KeyValue *kv;
};

static enum status_code add_victim(const struct version_row *row, bool with_value, struct arena *arena,
                                   struct victim ***last)
{
	struct victim *victim = arena_alloc(arena, sizeof *victim);

	if (victim == NULL)
		return STATUS_NO_MEMORY;
	*victim = (struct victim){.kv = view_message(row, with_value, arena)};
	if (victim->kv == NULL)
		return STATUS_NO_MEMORY;
	chain_read(&victim->chain, row->stmt, 6, 7, 8);
	**last = victim;
	*last = &victim->next;
	return STATUS_OK;
}

static enum status_code collect_victims(struct store *st, const struct span *span, bool with_value,
                                        struct arena *arena, struct victim **first, size_t *count)
{
	struct victim **last = first;
	struct version_row *row;
	struct scan scan;
	enum status_code status = scan_begin(&scan, &st->view, span, 0);

	*first = NULL;
	*count = 0;
	while (status == STATUS_OK) {
		status = scan_next(&scan, &row);
		if (status != STATUS_OK || row == NULL)
			break;
		status = add_victim(row, with_value, arena, &last);
		++*count;
	}
	scan_end(&scan);
	return status;
}

static enum status_code delete_victims(struct store *st, const struct victim *victim)
{
	enum status_code status = STATUS_OK;

	for (; status == STATUS_OK && victim != NULL; victim = victim->next) {
		struct change change = {
			.key = victim->kv->key.data,
			.key_len = victim->kv->key.len,
			.chain = victim->chain,
			.existed = true,
			.deleted = true,
		};
		status = store_change(st, &change);
	}
	return status;
}

/* The deleted pairs, for the client that asked. */
static enum status_code fill_previous(const struct victim *victim, size_t count, struct arena *arena,
                                      Pb__DeleteRangeResponse *response)
{
	response->prev_kvs = arena_calloc(arena, count, sizeof *response->prev_kvs);
	if (response->prev_kvs == NULL)
		return STATUS_NO_MEMORY;
	for (; victim != NULL; victim = victim->next) {
		union {
			const Pb__KeyValue *in;
			Pb__KeyValue *out;
		} unconst = {.in = victim->kv};

		response->prev_kvs[response->n_prev_kvs++] = unconst.out;
	}
	return STATUS_OK;
}

enum status_code write_delete_range(struct store *st, const Pb__DeleteRangeRequest *request, struct arena *arena,
                                    Pb__DeleteRangeResponse **out)
{
	struct span span = span_make(request->key, request->range_end);
	Pb__DeleteRangeResponse *response = arena_alloc(arena, sizeof *response);
	struct victim *victims;
	size_t count;
	enum status_code status;

	if (response == NULL)
		return STATUS_NO_MEMORY;
	pb__delete_range_response__init(response);
	status = collect_victims(st, &span, request->prev_kv, arena, &victims, &count);
	if (status == STATUS_OK)
		status = delete_victims(st, victims);
	if (status == STATUS_OK && request->prev_kv)
		status = fill_previous(victims, count, arena, response);
	if (status != STATUS_OK)
		return status;
	response->deleted = (int64_t)count;
	response->header = view_header(store_revision(st), arena);
	if (response->header == NULL)
		return STATUS_NO_MEMORY;
	*out = response;
	return STATUS_OK;
}

enum status_code write_delete_attached(struct store *st, int64_t lease, struct arena *arena)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_SCAN_ATTACHED];
	struct victim *first = NULL, **last = &first;
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	sqlite3_bind_int64(stmt, 1, lease);
	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct version_row row;

		view_read_row(stmt, &row);
		status = add_victim(&row, false, arena, &last);
	}
	sqlite3_reset(stmt);
	if (status == STATUS_OK && code != SQLITE_DONE)
		status = view_failed(&st->view, code);
	return status == STATUS_OK ? delete_victims(st, first) : status;
}
