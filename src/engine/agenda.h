/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Things to do at a time, the earliest first: a heap of items that are parts of
 * what they are about. Setting, moving and removing one allocate nothing and
 * take a logarithm's time.
 */
#ifndef KETA_AGENDA_H
#define KETA_AGENDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct agenda_item {
	int64_t when_ms; /* on whatever clock the owner goes by */
	size_t place;    /* in the heap, from 1; 0: it is not on the agenda */
};

/* All zero: nothing is on it. */
struct agenda {
	struct agenda_item **items; /* in the order of the heap, from 0 */
	size_t count, size;
};

/* Room for so many items; has to be there before they are set. STATUS_NO_MEMORY. */
enum status_code agenda_reserve(struct agenda *agenda, size_t size);
void agenda_release(struct agenda *agenda);

/* Puts an item on the agenda, or moves it there. */
void agenda_set(struct agenda *agenda, struct agenda_item *item, int64_t when_ms);

/* Takes it off; one that is not on it is left alone. */
void agenda_remove(struct agenda *agenda, struct agenda_item *item);

/* The earliest item if its time has come, or NULL. It stays on the agenda. */
struct agenda_item *agenda_due(const struct agenda *agenda, int64_t now_ms);

#endif
