/* SPDX-License-Identifier: Apache-2.0 */
#include "state/chain.h"

#include <endian.h>
#include <string.h>

#include "state/view.h"

/* Reads a stored list; what does not fit is not there. */
static int read_ids(sqlite3_stmt *stmt, int column, int64_t *ids)
{
	const uint8_t *blob = sqlite3_column_blob(stmt, column);
	int count = sqlite3_column_bytes(stmt, column) / (int)sizeof(uint64_t);

	if (count > CHAIN_POWERS_MAX)
		count = CHAIN_POWERS_MAX;
	for (int i = 0; i < count; i++) {
		uint64_t id;

		memcpy(&id, blob + (size_t)i * sizeof id, sizeof id);
		ids[i] = (int64_t)le64toh(id);
	}
	return count;
}

static void write_ids(const int64_t *ids, int count, struct chain_blob *blob)
{
	for (int i = 0; i < count; i++)
		blob->ids[i] = htole64((uint64_t)ids[i]);
	blob->bytes = count * (int)sizeof(uint64_t);
}

void chain_read(struct chain *chain, sqlite3_stmt *stmt, int id_column, int number_column, int heads_column)
{
	chain->id = sqlite3_column_int64(stmt, id_column);
	chain->number = sqlite3_column_int64(stmt, number_column);
	chain->powers = read_ids(stmt, heads_column, chain->heads);
}

void chain_add(struct chain *chain, int64_t id, struct chain_blob *skips)
{
	int powers = 0;

	chain->number++;
	while (powers < CHAIN_POWERS_MAX && chain->number % ((int64_t)1 << (CHAIN_POWER_BITS * (powers + 1))) == 0)
		powers++;
	write_ids(chain->heads, powers < chain->powers ? powers : chain->powers, skips);
	for (int i = 0; i < powers; i++)
		chain->heads[i] = id;
	if (powers > chain->powers)
		chain->powers = powers;
	chain->id = id;
}

void chain_heads(const struct chain *chain, struct chain_blob *heads)
{
	write_ids(chain->heads, chain->powers, heads);
}

/* What a version names: the one before it, and its skips. */
struct links {
	int64_t previous;
	int64_t version; /* its number since the key was created, from 1 */
	int64_t skips[CHAIN_POWERS_MAX];
	int powers;
};

static enum status_code read_links(struct view *view, int64_t id, struct links *links)
{
	sqlite3_stmt *stmt = view->stmts[SQL_LINKS];
	int code;

	*links = (struct links){0};
	sqlite3_bind_int64(stmt, 1, id);
	code = sqlite3_step(stmt);
	if (code == SQLITE_ROW) {
		links->previous = sqlite3_column_int64(stmt, 0);
		links->powers = read_ids(stmt, 1, links->skips);
		links->version = sqlite3_column_int64(stmt, 2);
	}
	sqlite3_reset(stmt);
	if (code == SQLITE_ROW)
		return STATUS_OK;
	return code == SQLITE_DONE ? view_misses(id) : view_failed(view, code);
}

/* The oldest of these that is above last_id, or 'otherwise'. */
static int64_t leap(const int64_t *ids, int count, int64_t last_id, int64_t otherwise)
{
	for (int i = count - 1; i >= 0; i--)
		if (ids[i] > last_id)
			return ids[i];
	return otherwise;
}

enum status_code chain_find(struct view *view, const struct chain *chain, int64_t last_id, int64_t *id)
{
	int64_t at = leap(chain->heads, chain->powers, last_id, chain->id);

	for (;;) {
		struct links links;
		enum status_code status = read_links(view, at, &links);

		if (status != STATUS_OK)
			return status;
		at = leap(links.skips, links.powers, last_id, links.previous);
		if (at <= last_id) {
			/* What comes before a creation is a deletion, if anything. */
			*id = links.version == 1 ? 0 : at;
			return STATUS_OK;
		}
	}
}
