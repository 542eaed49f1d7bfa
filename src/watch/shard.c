/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/shard.h"

#include <assert.h>
#include <stdlib.h>

#include "base/metrics.h"
#include "watch/internal.h"

enum {
	/* What a run looks at or tells, of each kind of work: half a millisecond, about. */
	RUN_EVENTS = 500,
};

/* ---- Life ---- */

struct shard *shard_new(struct hub *hub, shard_wake_fn *wake, void *arg)
{
	struct shard *shard = calloc(1, sizeof *shard);

	if (shard == NULL)
		return NULL;
	shard->hub = hub;
	inbox_init(&shard->inbox, wake, arg);
	interval_init(&shard->index);
	serve_init(shard);
	return shard;
}

void shard_free(struct shard *shard)
{
	if (shard == NULL)
		return;
	assert(shard->watcher_count == 0);
	serve_release(shard);
	tell_release(shard);
	interval_release(&shard->index);
	inbox_release(&shard->inbox);
	free(shard);
}

void watch_group_init(struct watch_group *group, struct shard *shard, const struct watch_ops *ops)
{
	*group = (struct watch_group){.ops = ops, .shard = shard};
}

/* ---- Where watchers stand ---- */

static struct watcher_list *list_of(const struct watcher *w)
{
	struct shard *shard = w->group->shard;

	switch (w->state) {
	case WATCHER_SYNCED:
		return &shard->synced;
	case WATCHER_READY:
		return &shard->ready;
	case WATCHER_WAITING:
		return &shard->waiting;
	case WATCHER_ASKED:
		return &shard->asked;
	case WATCHER_PARKED:
		return &w->group->parked;
	default:
		return NULL;
	}
}

static void append(struct watcher_list *list, struct watcher *w)
{
	w->next = NULL;
	w->prev = list->tail;
	if (list->tail != NULL)
		list->tail->next = w;
	else
		list->head = w;
	list->tail = w;
}

static void detach(struct watcher_list *list, struct watcher *w)
{
	if (w->prev != NULL)
		w->prev->next = w->next;
	else
		list->head = w->next;
	if (w->next != NULL)
		w->next->prev = w->prev;
	else
		list->tail = w->prev;
}

static void leave(struct watcher *w)
{
	struct shard *shard = w->group->shard;

	if (w->state == WATCHER_GONE)
		return;
	detach(list_of(w), w);
	if (w->state == WATCHER_SYNCED) {
		tell_forget(shard, w);
		interval_remove(&shard->index, w);
		w->group->synced_count--;
	} else {
		w->group->lagging_count--;
		shard->lagging_count--;
		metric_add(METRIC_SLOW_WATCHERS, -1);
	}
}

void watcher_move(struct watcher *w, enum watcher_state state)
{
	struct shard *shard = w->group->shard;

	leave(w);
	w->state = state;
	if (state == WATCHER_GONE)
		return;
	append(list_of(w), w);
	if (state == WATCHER_SYNCED) {
		interval_add(&shard->index, w);
		w->group->synced_count++;
	} else {
		w->group->lagging_count++;
		shard->lagging_count++;
		metric_add(METRIC_SLOW_WATCHERS, 1);
	}
}

bool shard_has_room(const struct watcher *w)
{
	return w->group->ops->has_room(w->group);
}

/* ---- Coming and going ---- */

int64_t watch_add(struct watcher *w, int64_t from)
{
	struct shard *shard = w->group->shard;
	struct hub *hub = shard->hub;
	int64_t newest;

	assert(w->state == WATCHER_GONE);
	w->first_hit = w->last_hit = 0;
	if (shard->watcher_count++ == 0)
		tell_skip(shard, hub_enlist(hub, shard));
	atomic_fetch_add(&hub->watchers, 1);
	if (w->prev_kv)
		atomic_fetch_add(&hub->prev_watchers, 1);
	/* A batch that is published from here on is in the inbox, whether its
	 * revisions are counted in 'newest' or not. */
	newest = hub_revision(hub);
	w->from = from == 0 ? newest + 1 : from;
	watcher_move(w, w->from > newest ? WATCHER_SYNCED : WATCHER_WAITING);
	if (w->state == WATCHER_WAITING)
		inbox_wake(&shard->inbox);
	return newest;
}

void watch_remove(struct watcher *w)
{
	struct shard *shard;

	if (w->state == WATCHER_GONE)
		return;
	shard = w->group->shard;
	watcher_move(w, WATCHER_GONE);
	atomic_fetch_sub(&shard->hub->watchers, 1);
	if (w->prev_kv)
		atomic_fetch_sub(&shard->hub->prev_watchers, 1);
	if (--shard->watcher_count == 0)
		hub_delist(shard->hub, shard);
	/* In a run, somebody may be reading what would be let go. */
	if (shard->lagging_count == 0 && !shard->is_running)
		serve_rest(shard);
}

bool watch_group_is_synced(const struct watch_group *group, int64_t *revision)
{
	const struct shard *shard = group->shard;

	*revision = shard->watcher_count > 0 ? shard->finished : hub_revision(shard->hub);
	return group->lagging_count == 0;
}

void watch_group_resume(struct watch_group *group)
{
	if (group->parked.head == NULL)
		return;
	while (group->parked.head != NULL)
		watcher_move(group->parked.head, WATCHER_READY);
	inbox_wake(&group->shard->inbox);
}

size_t shard_watchers(const struct shard *shard)
{
	return shard->watcher_count;
}

size_t shard_lagging(const struct shard *shard)
{
	return shard->lagging_count;
}

/* ---- Running ---- */

void shard_post(struct shard *shard, struct shard_task *task)
{
	inbox_post_task(&shard->inbox, task);
}

static void run_tasks(struct shard *shard)
{
	struct shard_task *task = inbox_open(&shard->inbox);

	while (task != NULL) {
		struct shard_task *next = task->next; /* the task may be gone after its run */

		task->run(shard, task);
		task = next;
	}
}

bool shard_run(struct shard *shard)
{
	bool more;

	shard->is_running = true;
	run_tasks(shard);
	more = tell_run(shard, RUN_EVENTS);
	more = serve_run(shard, RUN_EVENTS) || more;
	shard->is_running = false;
	if (shard->lagging_count == 0)
		serve_rest(shard);
	return more || !inbox_is_empty(&shard->inbox);
}
