/* SPDX-License-Identifier: Apache-2.0 */
/* One change of one key: the rows it makes, what it adds to the state's scalars
 * and to its hash. Declared in state/store.h. */
#include <xxhash.h>

#include "state/news.h"
#include "state/store.h"

int64_t version_cost(size_t key_len, size_t value_len)
{
	/* Key and value stand in 'version'; the key also in an index of what exists or existed. */
	return (int64_t)(2 * key_len + value_len) + VERSION_OVERHEAD_BYTES;
}

static int64_t next_id(const struct store *st)
{
	int64_t first = (st->view.state.revision + 1) << REVISION_SHIFT;

	return st->view.state.last_id >= first ? st->view.state.last_id + 1 : first;
}

/* A NULL pointer would bind NULL rather than an empty value. */
static void bind_value(sqlite3_stmt *stmt, int at, const struct change *change)
{
	sqlite3_bind_blob(stmt, at, change->value_len > 0 ? (const void *)change->value : "",
	                  (int)change->value_len, SQLITE_STATIC);
}

static void bind_ids(sqlite3_stmt *stmt, int at, const struct chain_blob *blob)
{
	if (blob->bytes > 0)
		sqlite3_bind_blob(stmt, at, blob->ids, blob->bytes, SQLITE_TRANSIENT);
	else
		sqlite3_bind_null(stmt, at);
}

static enum status_code add_version(struct store *st, const struct change *change, int64_t id,
                                    const struct chain_blob *skips)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_VERSION];

	sqlite3_bind_int64(stmt, 1, id);
	sqlite3_bind_blob(stmt, 2, change->key, (int)change->key_len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, st->view.state.revision + 1);
	sqlite3_bind_int64(stmt, 4, change->created);
	sqlite3_bind_int64(stmt, 5, change->version);
	sqlite3_bind_int64(stmt, 6, change->lease);
	sqlite3_bind_int64(stmt, 7, change->chain.id);
	bind_ids(stmt, 8, skips);
	sqlite3_bind_int(stmt, 9, change->deleted);
	bind_value(stmt, 10, change);
	return view_run(&st->view, SQL_ADD_VERSION);
}

static enum status_code set_current(struct store *st, const struct change *change,
                                    const struct chain *chain)
{
	enum sql which = change->existed ? SQL_SET_CURRENT : SQL_ADD_CURRENT;
	sqlite3_stmt *stmt = st->view.stmts[which];
	struct chain_blob heads;

	chain_heads(chain, &heads);
	sqlite3_bind_blob(stmt, 1, change->key, (int)change->key_len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, chain->id);
	sqlite3_bind_int64(stmt, 3, st->view.state.revision + 1);
	sqlite3_bind_int64(stmt, 4, change->created);
	sqlite3_bind_int64(stmt, 5, change->version);
	sqlite3_bind_int64(stmt, 6, change->lease);
	sqlite3_bind_int64(stmt, 7, chain->number);
	bind_ids(stmt, 8, &heads);
	bind_value(stmt, 9, change);
	return view_run(&st->view, which);
}

static enum status_code drop_current(struct store *st, const struct change *change)
{
	sqlite3_bind_blob(st->view.stmts[SQL_DROP_CURRENT], 1, change->key, (int)change->key_len,
	                  SQLITE_STATIC);
	return view_run(&st->view, SQL_DROP_CURRENT);
}

static enum status_code add_tombstone(struct store *st, const struct change *change,
                                      const struct chain *chain)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_TOMBSTONE];
	struct chain_blob heads;

	chain_heads(chain, &heads);
	sqlite3_bind_blob(stmt, 1, change->key, (int)change->key_len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, chain->id);
	sqlite3_bind_int64(stmt, 3, chain->number);
	bind_ids(stmt, 4, &heads);
	return view_run(&st->view, SQL_ADD_TOMBSTONE);
}

enum status_code store_drop_tombstone(struct store *st, const uint8_t *key, size_t len, int64_t id)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_DROP_TOMBSTONE];

	sqlite3_bind_blob(stmt, 1, key, (int)len, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, id);
	return view_run(&st->view, SQL_DROP_TOMBSTONE);
}

/* Moves the end of the chain to where it belongs. */
static enum status_code place(struct store *st, const struct change *change, const struct chain *chain)
{
	enum status_code status = STATUS_OK;

	if (change->deleted) {
		status = drop_current(st, change);
		return status == STATUS_OK ? add_tombstone(st, change, chain) : status;
	}
	if (!change->existed && change->chain.id != 0)
		status = store_drop_tombstone(st, change->key, change->key_len, change->chain.id);
	return status == STATUS_OK ? set_current(st, change, chain) : status;
}

/* Chains a change into the state's hash, every field of it. */
static uint64_t hash_change(const struct store *st, const struct change *change)
{
	int64_t fields[] = {
		st->view.state.revision + 1,
		change->created,
		change->version,
		change->lease,
		change->deleted,
		(int64_t)change->key_len,
	};
	uint64_t hash = XXH3_64bits_withSeed(fields, sizeof fields, st->view.state.hash);

	hash = XXH3_64bits_withSeed(change->key, change->key_len, hash);
	return XXH3_64bits_withSeed(change->value, change->value_len, hash);
}

void store_mix(struct store *st, const void *data, size_t len)
{
	st->view.state.hash = XXH3_64bits_withSeed(data, len, st->view.state.hash);
}

enum status_code store_change(struct store *st, const struct change *change)
{
	struct store_state *state = &st->view.state;
	struct chain chain = change->chain;
	struct chain_blob skips;
	int64_t id = next_id(st);
	enum status_code status;

	st->changes++;
	st->record_changes++;
	chain_add(&chain, id, &skips);
	status = add_version(st, change, id, &skips);
	if (status == STATUS_OK)
		status = place(st, change, &chain);
	if (status != STATUS_OK)
		return status;
	state->hash = hash_change(st, change);
	state->last_id = id;
	state->logical_bytes += version_cost(change->key_len, change->value_len);
	state->keys += !change->deleted - change->existed;
	return news_add(st, change);
}
