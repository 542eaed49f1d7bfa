/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a transaction changes, kept for watchers while it is made, so that they
 * need not read it back from the database. Inside the store's transactions; a
 * part of store.c but for its size.
 */
#ifndef KETA_NEWS_H
#define KETA_NEWS_H

#include "base/status.h"
#include "state/store.h"

/* Drops what nobody took, and makes ready for a transaction: STATUS_NO_MEMORY. */
enum status_code news_begin(struct store *st);

/* Adds a change that has just been made. An event for which there is no memory
 * is no failure, but marks the news as missing. */
enum status_code news_add(struct store *st, const struct change *change);

/* How many events there are, and going back to when there were so many. */
size_t news_count(const struct store *st);
void news_truncate(struct store *st, size_t count);

/* The transaction is about to be durable, or was rolled back. */
void news_settle(struct store *st);
void news_drop(struct store *st);

#endif
