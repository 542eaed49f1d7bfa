/* SPDX-License-Identifier: Apache-2.0 */
#include "state/renewals.h"

#include <stdlib.h>
#include <string.h>

struct lease_renewals *renewals_new(void)
{
	return calloc(1, sizeof(struct lease_renewals));
}

void renewals_free(struct lease_renewals *renewals)
{
	free(renewals);
}

static void copy(struct renewal_set *to, const struct renewal_set *from)
{
	to->count = from->count;
	memcpy(to->items, from->items, from->count * sizeof from->items[0]);
}

void renewals_begin(struct lease_renewals *renewals)
{
	renewals->is_changed = renewals->is_record_changed = false;
}

void renewals_rollback(struct lease_renewals *renewals)
{
	if (renewals->is_changed)
		copy(&renewals->now, &renewals->begun);
	renewals_begin(renewals);
}

void renewals_clear(struct lease_renewals *renewals)
{
	renewals->now.count = 0;
	renewals_begin(renewals);
}

void renewals_begin_record(struct lease_renewals *renewals)
{
	renewals->is_record_changed = false;
}

void renewals_undo_record(struct lease_renewals *renewals)
{
	if (renewals->is_record_changed)
		copy(&renewals->now, &renewals->record);
	renewals->is_record_changed = false;
}

/* Before each change. */
static void keep_old(struct lease_renewals *renewals)
{
	if (!renewals->is_changed)
		copy(&renewals->begun, &renewals->now);
	if (!renewals->is_record_changed)
		copy(&renewals->record, &renewals->now);
	renewals->is_changed = renewals->is_record_changed = true;
}

/* Where the lease is, or where it belongs. */
static size_t find_place(const struct renewal_set *set, int64_t id)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (set->items[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_at(const struct renewal_set *set, size_t place, int64_t id)
{
	return place < set->count && set->items[place].id == id;
}

bool renewals_find(const struct lease_renewals *renewals, int64_t id, int64_t *offset)
{
	const struct renewal_set *set = &renewals->now;
	size_t place = find_place(set, id);

	if (!is_at(set, place, id))
		return false;
	*offset = set->items[place].offset;
	return true;
}

bool renewals_set(struct lease_renewals *renewals, int64_t id, int64_t offset)
{
	struct renewal_set *set = &renewals->now;
	size_t place = find_place(set, id);
	struct renewal *item = &set->items[place];

	if (!is_at(set, place, id)) {
		if (set->count == RENEWALS_MAX)
			return false;
		keep_old(renewals);
		memmove(item + 1, item, (set->count - place) * sizeof *item);
		set->count++;
	} else {
		keep_old(renewals);
	}
	*item = (struct renewal){.id = id, .offset = offset};
	return true;
}

void renewals_drop(struct lease_renewals *renewals, int64_t id)
{
	struct renewal_set *set = &renewals->now;
	size_t place = find_place(set, id);
	struct renewal *item = &set->items[place];

	if (!is_at(set, place, id))
		return;
	keep_old(renewals);
	set->count--;
	memmove(item, item + 1, (set->count - place) * sizeof *item);
}
