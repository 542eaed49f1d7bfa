/* SPDX-License-Identifier: Apache-2.0 */
#include "state/compact.h"

#include <stdlib.h>
#include <string.h>

/* A version that has been reached by compaction, read before anything is dropped. */
struct passed {
	int64_t id, mod, previous;
	uint8_t *key;
	size_t key_len;
	size_t value_len;
	bool deleted;
};

enum status_code compact_apply(struct store *st, int64_t revision)
{
	struct store_state *state = &st->view.state;
	enum status_code status = STATUS_OK;

	if (revision <= state->compact_revision)
		return STATUS_COMPACTED;
	if (revision > state->revision)
		return STATUS_FUTURE_REVISION;
	/* Under a shared log the tables must say so first. */
	if (!st->shared)
		status = compact_allow_drop(st, revision);
	if (status != STATUS_OK)
		return status;
	state->compact_revision = revision;
	store_mix(st, &revision, sizeof revision);
	return STATUS_OK;
}

enum status_code compact_allow_drop(struct store *st, int64_t revision)
{
	struct store_state *state = &st->view.state;
	int64_t last_id;
	enum status_code status;

	if (revision <= state->drop_revision)
		return STATUS_OK;
	/* Deletions made by the revision compacted to last stay readable until the next: they are due now.
	 */
	if (state->drop_revision > 0) {
		status = view_last_id(&st->view, state->drop_revision - 1, &last_id);
		if (status != STATUS_OK)
			return status;
		if (last_id < state->compacted_id)
			state->compacted_id = last_id;
	}
	state->drop_revision = revision;
	st->compacting = true;
	return STATUS_OK;
}

bool compact_is_due(const struct store *st)
{
	return st->compacting;
}

static enum status_code read_passed(struct store *st, struct passed *passed, size_t max, size_t *count)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_COMPACTABLE];
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	*count = 0;
	sqlite3_bind_int64(stmt, 1, st->view.state.compacted_id);
	sqlite3_bind_int64(stmt, 2, (int64_t)max);
	while (*count < max && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct passed *it = &passed[*count];

		if (sqlite3_column_int64(stmt, 2) > st->view.state.drop_revision)
			break;
		*it = (struct passed){
			.id = sqlite3_column_int64(stmt, 0),
			.key_len = (size_t)sqlite3_column_bytes(stmt, 1),
			.mod = sqlite3_column_int64(stmt, 2),
			.previous = sqlite3_column_int64(stmt, 3),
			.deleted = sqlite3_column_int(stmt, 4) != 0,
			.value_len = (size_t)sqlite3_column_int64(stmt, 5),
		};
		it->key = malloc(it->key_len + 1);
		if (it->key == NULL) {
			status = STATUS_NO_MEMORY;
			break;
		}
		memcpy(it->key, sqlite3_column_blob(stmt, 1), it->key_len);
		++*count;
	}
	sqlite3_reset(stmt);
	if (code != SQLITE_ROW && code != SQLITE_DONE)
		status = view_failed(&st->view, code);
	return status;
}

/* The length of a version's value; *found is false when an earlier pass dropped it, and for a deletion. */
static enum status_code find_length(struct store *st, int64_t id, bool *found, size_t *len)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_VALUE_LENGTH];
	int code;

	sqlite3_bind_int64(stmt, 1, id);
	code = sqlite3_step(stmt);
	*found = code == SQLITE_ROW;
	if (*found)
		*len = (size_t)sqlite3_column_int64(stmt, 0);
	sqlite3_reset(stmt);
	return code == SQLITE_ROW || code == SQLITE_DONE ? STATUS_OK : view_failed(&st->view, code);
}

static enum status_code drop_version(struct store *st, const struct passed *it, int64_t id,
                                     size_t value_len)
{
	sqlite3_bind_int64(st->view.stmts[SQL_DROP_VERSION], 1, id);
	st->view.state.logical_bytes -= version_cost(it->key_len, value_len);
	return view_run(&st->view, SQL_DROP_VERSION);
}

static enum status_code pass(struct store *st, const struct passed *it, size_t *dropped)
{
	enum status_code status = STATUS_OK;
	size_t value_len = 0;
	bool found = false;

	/* A deletion goes when it is passed itself: one of the revision compacted to stays, even where
	 * the same transaction put the key again. */
	if (it->previous != 0)
		status = find_length(st, it->previous, &found, &value_len);
	if (status == STATUS_OK && found) {
		status = drop_version(st, it, it->previous, value_len);
		++*dropped;
	}
	if (status == STATUS_OK && it->deleted && it->mod < st->view.state.drop_revision) {
		status = store_drop_tombstone(st, it->key, it->key_len, it->id);
		if (status == STATUS_OK)
			status = drop_version(st, it, it->id, it->value_len);
		++*dropped;
	}
	return status;
}

enum status_code compact_step(struct store *st, size_t max_rows, size_t *dropped, bool *done)
{
	struct passed *passed = calloc(max_rows, sizeof *passed);
	enum status_code status = STATUS_NO_MEMORY;
	size_t count = 0;

	*dropped = 0;
	*done = false;
	if (passed != NULL)
		status = read_passed(st, passed, max_rows, &count);
	for (size_t i = 0; status == STATUS_OK && i < count; i++) {
		status = pass(st, &passed[i], dropped);
		st->view.state.compacted_id = passed[i].id;
	}
	for (size_t i = 0; i < count; i++)
		free(passed[i].key);
	free(passed);
	if (status == STATUS_OK && count < max_rows) {
		st->compacting = false;
		*done = true;
	}
	return status;
}
