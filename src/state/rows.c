/* SPDX-License-Identifier: Apache-2.0 */
#include "state/rows.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#include "base/wire.h"
#include "state/view.h"

void row_key(int64_t id, uint8_t key[ROW_KEY_BYTES])
{
	uint64_t wire = htobe64((uint64_t)id);

	memcpy(key, &wire, ROW_KEY_BYTES);
}

bool row_id(const uint8_t *key, size_t len, int64_t *id)
{
	uint64_t wire;

	if (len != ROW_KEY_BYTES)
		return false;
	memcpy(&wire, key, ROW_KEY_BYTES);
	*id = (int64_t)be64toh(wire);
	return true;
}

static uint64_t hash_row(int64_t id, const void *value, size_t len)
{
	return XXH3_64bits_withSeed(value, len, (uint64_t)id);
}

void row_sum_add(struct row_sum *sum, int64_t id, const void *value, size_t len)
{
	sum->rows++;
	sum->sum += hash_row(id, value, len);
}

void row_sum_remove(struct row_sum *sum, int64_t id, const void *value, size_t len)
{
	sum->rows--;
	sum->sum -= hash_row(id, value, len);
}

void row_pack_kv(sqlite3_stmt *stmt, struct buf *out)
{
	Pb__KvRow row = PB__KV_ROW__INIT;

	row.key = view_lend(sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0));
	row.mod_revision = sqlite3_column_int64(stmt, 1);
	row.create_revision = sqlite3_column_int64(stmt, 2);
	row.version = sqlite3_column_int64(stmt, 3);
	row.lease = sqlite3_column_int64(stmt, 4);
	row.value = view_lend(sqlite3_column_blob(stmt, 5), (size_t)sqlite3_column_bytes(stmt, 5));
	row.deleted = sqlite3_column_int(stmt, 7) != 0;
	buf_reset(out);
	wire_pack(&row.base, out);
}

void row_pack_lease(int64_t ttl_sec, int64_t remaining_sec, int64_t renewal, struct buf *out)
{
	Pb__LeaseRow row = PB__LEASE_ROW__INIT;

	row.ttl_sec = ttl_sec;
	row.remaining_sec = remaining_sec;
	row.renewal = renewal;
	buf_reset(out);
	wire_pack(&row.base, out);
}
