/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables: what a node can be rebuilt from without the whole log. Each is a
 * set of rows by key, kept beside the log; one writer at a time, the leader,
 * changes rows of several tables in one transaction.
 *
 *     tables_take ─ [ tables_begin ─ tables_put* ─ tables_commit | tables_abort ]*
 *
 * A transaction takes effect as a whole, but in each table in its own time: a
 * reader may see it in one and not yet in another.
 */
#ifndef KETA_TABLES_H
#define KETA_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum table {
	TABLE_KV,
	TABLE_LEASES,
	TABLE_AUTH,
	TABLE_AUTH_USERS,
	TABLE_AUTH_ROLES,
	TABLE_MARKERS,
	TABLE_COUNT
};

struct tables;

struct table_row {
	const uint8_t *key;
	size_t key_len;
	const uint8_t *value; /* NULL: the row is gone */
	size_t value_len;
	int64_t at, end; /* how far the reading is, for who shows progress: from 0 */
};

/* Anything but OK ends the reading, which returns it. */
typedef enum status_code table_row_fn(void *arg, const struct table_row *row);

struct tables_ops {
	enum status_code (*take)(struct tables *tables, uint64_t cluster_id);
	enum status_code (*begin)(struct tables *tables);
	enum status_code (*put)(struct tables *tables, enum table table, const void *key, size_t key_len,
	                        const void *value, size_t value_len);
	enum status_code (*commit)(struct tables *tables);
	void (*abort)(struct tables *tables);
	enum status_code (*read)(struct tables *tables, enum table table, table_row_fn *row, void *arg);
	void (*interrupt)(struct tables *tables, bool on);
	void (*close)(struct tables *tables);
};

/* An implementation's struct starts with this. */
struct tables {
	const struct tables_ops *ops;
};

/* Becomes the writer of this cluster's tables: one that was before can commit nothing any more, and what
 * it had begun is undone or done when this returns. Blocks, up to the time-out
 * of operations. STATUS_NO_KAFKA, STATUS_BAD_KAFKA (no right to). */
static inline enum status_code tables_take(struct tables *tables, uint64_t cluster_id)
{
	return tables->ops->take(tables, cluster_id);
}

static inline enum status_code tables_begin(struct tables *tables)
{
	return tables->ops->begin(tables);
}

/* Key and value are copied; value NULL removes the row. May block while much is on its way. */
static inline enum status_code tables_put(struct tables *tables, enum table table, const void *key,
                                          size_t key_len, const void *value, size_t value_len)
{
	return tables->ops->put(tables, table, key, key_len, value, value_len);
}

/* Anything but OK from begin, put or commit ends being the writer, and what
 * becomes of the transaction is known when the next one has taken over:
 * STATUS_FENCED when that has happened; else tables_take has to be called again. */
static inline enum status_code tables_commit(struct tables *tables)
{
	return tables->ops->commit(tables);
}

static inline void tables_abort(struct tables *tables)
{
	tables->ops->abort(tables);
}

/* Tells of the committed rows of a table, in the order in which they were
 * written: the newest of a key counts. Everything that was committed in this
 * table before the call is in it; an open transaction in front of that is waited for.
 * STATUS_BUSY: not yet, ask again; STATUS_NO_KAFKA; what 'row' returned. Beside
 * the writer's calls, any one thread. */
static inline enum status_code tables_read(struct tables *tables, enum table table, table_row_fn *row,
                                           void *arg)
{
	return tables->ops->read(tables, table, row, arg);
}

/* While it is on, calls that wait for others end within about a second, with
 * STATUS_NO_KAFKA or STATUS_TIMEOUT: for a stop. Any thread; NULL is fine. */
static inline void tables_interrupt(struct tables *tables, bool on)
{
	if (tables != NULL && tables->ops->interrupt != NULL)
		tables->ops->interrupt(tables, on);
}

/* NULL is fine. */
static inline void tables_close(struct tables *tables)
{
	if (tables != NULL)
		tables->ops->close(tables);
}

#endif
