/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "lib/model.h"

struct found {
	Pb__Event *event;
	int64_t order;
};

/* Whether compaction drops a version of the revision compacted to. */
static bool is_dropped(const struct model *model, const struct model_key *key, size_t at)
{
	const struct model_version *version = &key->versions[at];

	return version->mod == model->compact_revision && !version->deleted && at + 1 < key->count &&
	       key->versions[at + 1].mod == version->mod;
}

static const struct model_version *find_prev(const struct model_key *key,
                                             const struct model_version *version)
{
	if (!version->deleted && version->created == version->mod)
		return NULL;
	return model_visible(key, version->mod - 1);
}

static Pb__Event *make_event(const struct model_key *key, const struct model_version *version,
                             bool with_prev, struct arena *arena)
{
	const struct model_version *prev = with_prev ? find_prev(key, version) : NULL;
	Pb__Event *event = arena_alloc(arena, sizeof *event);

	pb__event__init(event);
	event->type = version->deleted ? PB__EVENT__EVENT_TYPE__DELETE : PB__EVENT__EVENT_TYPE__PUT;
	event->kv = model_kv(key, version, arena);
	if (prev != NULL)
		event->prev_kv = model_kv(key, prev, arena);
	return event;
}

static int compare_orders(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return (x->order > y->order) - (x->order < y->order);
}

static size_t count_versions(const struct model *model)
{
	size_t count = 0;

	for (size_t i = 0; i < model->key_count; i++)
		count += model->keys[i].count;
	return count;
}

void model_history(const struct model *model, int64_t first, int64_t last, bool with_prev, bool past,
                   struct arena *arena, struct model_events *events)
{
	size_t size = count_versions(model);
	struct found *found = arena_calloc(arena, size, sizeof *found);

	*events = (struct model_events){.items = arena_calloc(arena, size, sizeof *events->items)};
	for (size_t i = 0; i < model->key_count; i++) {
		const struct model_key *key = &model->keys[i];

		for (size_t j = 0; j < key->count; j++) {
			const struct model_version *version = &key->versions[j];
			bool keeps_prev = with_prev && (!past || version->mod > model->compact_revision);

			if (version->mod < first || version->mod > last)
				continue;
			if (past && is_dropped(model, key, j))
				continue;
			found[events->count++] =
				(struct found){make_event(key, version, keeps_prev, arena), version->order};
		}
	}
	qsort(found, events->count, sizeof *found, compare_orders);
	for (size_t i = 0; i < events->count; i++)
		events->items[i] = found[i].event;
}
