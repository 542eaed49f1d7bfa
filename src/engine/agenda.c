/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/agenda.h"

#include <stdlib.h>

enum status_code agenda_reserve(struct agenda *agenda, size_t size)
{
	struct agenda_item **items;

	if (size <= agenda->size)
		return STATUS_OK;
	items = realloc(agenda->items, size * sizeof(struct agenda_item *));
	if (items == NULL)
		return STATUS_NO_MEMORY;
	agenda->items = items;
	agenda->size = size;
	return STATUS_OK;
}

void agenda_release(struct agenda *agenda)
{
	free(agenda->items);
	*agenda = (struct agenda){0};
}

static void put_at(struct agenda *agenda, size_t at, struct agenda_item *item)
{
	agenda->items[at] = item;
	item->place = at + 1;
}

static void bubble_up(struct agenda *agenda, struct agenda_item *item)
{
	size_t at = item->place - 1;

	while (at > 0) {
		struct agenda_item *parent = agenda->items[(at - 1) / 2];

		if (item->when_ms >= parent->when_ms)
			break;
		put_at(agenda, at, parent);
		at = (at - 1) / 2;
	}
	put_at(agenda, at, item);
}

static void sink_down(struct agenda *agenda, struct agenda_item *item)
{
	struct agenda_item **items = agenda->items;
	size_t at = item->place - 1, child;

	while ((child = 2 * at + 1) < agenda->count) {
		if (child + 1 < agenda->count && items[child + 1]->when_ms < items[child]->when_ms)
			child++;
		if (items[child]->when_ms >= item->when_ms)
			break;
		put_at(agenda, at, items[child]);
		at = child;
	}
	put_at(agenda, at, item);
}

void agenda_set(struct agenda *agenda, struct agenda_item *item, int64_t when_ms)
{
	item->when_ms = when_ms;
	if (item->place == 0)
		put_at(agenda, agenda->count++, item);
	bubble_up(agenda, item);
	sink_down(agenda, item);
}

void agenda_remove(struct agenda *agenda, struct agenda_item *item)
{
	size_t place = item->place;
	struct agenda_item *last;

	if (place == 0)
		return;
	item->place = 0;
	last = agenda->items[--agenda->count];
	if (last == item)
		return;
	put_at(agenda, place - 1, last);
	bubble_up(agenda, last);
	sink_down(agenda, last);
}

struct agenda_item *agenda_due(const struct agenda *agenda, int64_t now_ms)
{
	return agenda->count > 0 && agenda->items[0]->when_ms <= now_ms ? agenda->items[0] : NULL;
}
