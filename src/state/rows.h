/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of the tables (log/tables.h): how a version and a lease look in them, and
 * the sums by which a set of rows is recognised. A row's hash does not depend on
 * the order of rows, so a sum can follow rows that come and go.
 */
#ifndef KETA_ROWS_H
#define KETA_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "base/buf.h"
#include "rows.pb-c.h"

enum { ROW_KEY_BYTES = 8 };
#define ROW_MARKER_KEY "marker"

/* Which rows there are, without their content. */
struct row_sum {
	int64_t rows;
	uint64_t sum;
};

/* An id as a key: in the order of ids. */
void row_key(int64_t id, uint8_t key[ROW_KEY_BYTES]);
bool row_id(const uint8_t *key, size_t len, int64_t *id);

/* A sum does not depend on the order in which rows are added and removed. */
void row_sum_add(struct row_sum *sum, int64_t id, const void *value, size_t len);
void row_sum_remove(struct row_sum *sum, int64_t id, const void *value, size_t len);

/* Replaces what is in the buffer by the row on which the statement KV_ROWS
 * stands. Memory running out marks it as failed. */
void row_pack_kv(sqlite3_stmt *stmt, struct buf *out);

/* The same for a lease. 'renewal' is the offset of its newest renewal. */
void row_pack_lease(int64_t ttl_sec, int64_t remaining_sec, int64_t renewal, struct buf *out);

#endif
