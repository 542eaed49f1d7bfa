/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewals of leases that are not in the database yet, by lease: the log offset
 * of the newest. They follow the store's transactions, and the records within
 * them, in being taken back.
 *
 * There is room for a thousand. One that finds none is written to its row,
 * which makes its commit one that writes, and that empties the set. So nothing
 * in here needs memory, and nothing can fail.
 */
#ifndef KETA_RENEWALS_H
#define KETA_RENEWALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RENEWALS_MAX = 1000 };

struct renewal {
	int64_t id;
	int64_t offset;
};

/* In the order of ids. */
struct renewal_set {
	size_t count;
	struct renewal items[RENEWALS_MAX];
};

struct lease_renewals {
	struct renewal_set now;
	/* What it was before the transaction and before the record, copied at the
	 * first change in it. */
	struct renewal_set begun, record;
	bool is_changed, is_record_changed;
};

/* All zero: there are none. */
struct lease_renewals *renewals_new(void);
void renewals_free(struct lease_renewals *renewals);

/* The start of a transaction; taking back all since then; what to do once all
 * of them are in the database. */
void renewals_begin(struct lease_renewals *renewals);
void renewals_rollback(struct lease_renewals *renewals);
void renewals_clear(struct lease_renewals *renewals);

/* The start of a record, and taking back all since then. */
void renewals_begin_record(struct lease_renewals *renewals);
void renewals_undo_record(struct lease_renewals *renewals);

/* Whether there is a renewal of the lease, and which. */
bool renewals_find(const struct lease_renewals *renewals, int64_t id, int64_t *offset);

/* Notes the newest renewal of a lease; false when there is no room. */
bool renewals_set(struct lease_renewals *renewals, int64_t id, int64_t offset);

/* The lease is gone, or its row holds its renewal. */
void renewals_drop(struct lease_renewals *renewals, int64_t id);

#endif
