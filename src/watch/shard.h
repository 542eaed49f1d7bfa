/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watchers of one thread.
 *
 *   struct watcher  one watch: a key or range, from a revision on
 *   struct watch_group  the watchers whose messages go the same way, to one
 *                   stream; what it cannot take now stays in the database
 *   struct shard    all groups of a thread
 *
 * A watcher is synced, and is told of each batch as it comes, or it lags:
 * because it began in the past, because its group had no room, or because a
 * batch came without what it needs. It then gets what it missed from the hub's
 * memory or from history, in order and each once, until it is synced again.
 *
 * Everything here is for the shard's own thread, but shard_post. The callbacks
 * run inside shard_run alone; from them watchers may be added and removed, any of
 * them.
 */
#ifndef KETA_SHARD_H
#define KETA_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "state/event.h"
#include "state/scan.h"
#include "watch/hub.h"

struct shard;
struct watch_group;
struct watcher;

struct watch_ops {
	/* What concerns the watcher, of one or several whole revisions, in order;
	 * count > 0. 'revision' is what the message's header should say: that of
	 * the events, or for a lagging watcher the newest one. The batch of each
	 * event can be held. */
	void (*events)(struct watcher *watcher, int64_t revision, struct event *const *events, size_t count);

	/* The watcher cannot go on, and has been removed: the history it needs has
	 * been compacted (STATUS_COMPACTED, and up to which revision) or cannot be
	 * read. */
	void (*lost)(struct watcher *watcher, enum status_code why, int64_t compact_revision);

	/* Whether the group can take another message. When it could not, and can
	 * again, its owner says so with watch_group_resume. */
	bool (*has_room)(struct watch_group *group);
};

/* Where a watcher stands; from WATCHER_READY on it lags. See watch/internal.h
 * for the moves. */
enum watcher_state {
	WATCHER_GONE,    /* not one of the shard's: zero, so that a cleared struct can be removed */
	WATCHER_SYNCED,  /* told of each batch as it comes */
	WATCHER_READY,   /* to be looked at: the hub may remember what it needs */
	WATCHER_WAITING, /* it needs the database */
	WATCHER_ASKED,   /* the database has been asked, for it among others */
	WATCHER_PARKED,  /* its group has no room */
};

struct watcher_list {
	struct watcher *head, *tail;
};

struct watch_group {
	const struct watch_ops *ops;
	struct shard *shard;
	struct watcher_list parked;         /* the shard's */
	size_t synced_count, lagging_count; /* of its watchers */
};

/* Set by its owner before watch_add, all else zero, and left alone until it is
 * removed. The span's bytes are borrowed. */
struct watcher {
	struct watch_group *group;
	struct span span;
	bool prev_kv;
	bool no_put, no_delete;

	/* The shard's. */
	enum watcher_state state;
	int64_t from; /* the first revision that it has not been told of; synced: at least this one */
	struct watcher *next, *prev; /* in the list of its state */
	union {
		struct {
			struct watcher *next, **link; /* those in one slot of the table */
			uint32_t hash;
		} single;
		struct {
			struct watcher *left, *right;
			struct watcher
				*furthest; /* of it and those below it, the one whose range ends last */
			uint32_t priority;
		} range;
	} index;                                     /* while it is synced: see watch/interval.h */
	struct watcher *next_touched, *prev_touched; /* by the revision that is being told */
	uint32_t first_hit, last_hit;                /* its events of that revision; 0: it is not touched */
};

/* 'wake' asks, from any thread, for shard_run soon on the shard's own. It comes
 * once for all that arrives between two runs, and must not call back here.
 * NULL without memory. */
typedef void shard_wake_fn(void *arg);
struct shard *shard_new(struct hub *hub, shard_wake_fn *wake, void *arg);

/* When it has no watchers. Tasks that were posted and not run are dropped: who
 * posts sees to it that there are none. NULL is fine. */
void shard_free(struct shard *shard);

/* Delivers what has arrived: batches, slices of history, tasks. Returns whether
 * there is more to do, after the caller has looked at its other work: it does a
 * bounded amount (about a millisecond). */
bool shard_run(struct shard *shard);

/* Something to be run on the shard's thread, by shard_run; embedded in what it
 * is about. Any thread. */
struct shard_task {
	struct shard_task *next;
	void (*run)(struct shard *shard, struct shard_task *task);
};
void shard_post(struct shard *shard, struct shard_task *task);

void watch_group_init(struct watch_group *group, struct shard *shard, const struct watch_ops *ops);

/* Starts a watch of everything from 'from' on; 0 means from now: what is
 * published after this call. Returns the newest revision published. Tells of
 * nothing before it returns. */
int64_t watch_add(struct watcher *watcher, int64_t from);

/* Ends it; nothing is told any more. Again does no harm. */
void watch_remove(struct watcher *watcher);

/* Whether all of the group's watchers have been told of everything up to
 * *revision, the newest one that this shard has delivered. */
bool watch_group_is_synced(const struct watch_group *group, int64_t *revision);

/* The group has room again. */
void watch_group_resume(struct watch_group *group);

/* How many watchers the shard has, and how many of them lag. */
size_t shard_watchers(const struct shard *shard);
size_t shard_lagging(const struct shard *shard);

#endif
