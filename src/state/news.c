/* SPDX-License-Identifier: Apache-2.0 */
#include "state/news.h"

#include "state/history.h"

void news_drop(struct store *st)
{
	event_batch_release(st->news);
	st->news = NULL;
}

enum status_code news_begin(struct store *st)
{
	/* Most transactions that change no key leave an empty batch, which serves again. */
	if (st->news != NULL && (!st->keeps_news || st->news->last > 0 || st->news->missing))
		news_drop(st);
	if (!st->keeps_news)
		return STATUS_OK;
	if (st->news == NULL)
		st->news = event_batch_new();
	if (st->news == NULL)
		return STATUS_NO_MEMORY;
	st->news->has_prev = st->keeps_prev;
	return STATUS_OK;
}

/* From here on the batch only says that there was something. */
static void give_up(struct event_batch *batch)
{
	event_batch_truncate(batch, 0);
	batch->missing = true;
}

/* etcd looks the pair up at the revision before, so of several changes of a key
 * in one revision each has the same. */
static enum status_code add_prev(struct store *st, const struct change *change)
{
	struct version_row row;
	Pb__KeyValue prev;
	bool found;
	enum status_code status =
		history_find_prev(&st->view, change->chain.id, st->view.state.revision + 1, &found, &row);

	if (status != STATUS_OK || !found)
		return status;
	view_lend_row(&row, &prev);
	if (event_batch_set_prev(st->news, &prev) != STATUS_OK)
		give_up(st->news);
	view_release(&row);
	return STATUS_OK;
}

enum status_code news_add(struct store *st, const struct change *change)
{
	int64_t revision = st->view.state.revision + 1;
	struct version_row row = {
		.key = change->key,
		.key_len = change->key_len,
		.mod = revision,
		.created = change->created,
		.version = change->version,
		.lease = change->lease,
	};
	Pb__KeyValue kv;

	if (st->news == NULL || st->news->missing)
		return STATUS_OK;
	view_lend_row(&row, &kv);
	kv.value = view_lend(change->value, change->value_len);
	if (event_batch_add(st->news, change->deleted, &kv) == NULL) {
		give_up(st->news);
		return STATUS_OK;
	}
	return st->keeps_prev && change->created != revision ? add_prev(st, change) : STATUS_OK;
}

size_t news_count(const struct store *st)
{
	return st->news != NULL ? st->news->count : 0;
}

void news_truncate(struct store *st, size_t count)
{
	if (st->news != NULL)
		event_batch_truncate(st->news, count);
}

void news_settle(struct store *st)
{
	if (st->news == NULL || st->view.state.revision == st->saved.revision)
		return;
	st->news->first = st->saved.revision + 1;
	st->news->last = st->view.state.revision;
}

struct event_batch *store_take_news(struct store *st)
{
	struct event_batch *batch = st->news;

	if (batch == NULL || batch->last == 0)
		return NULL;
	st->news = NULL;
	return batch;
}
