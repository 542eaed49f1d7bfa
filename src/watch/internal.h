/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the watch layer.
 *
 *   hub.c       publishing, the newest batches, the list of shards
 *   catchup.c   the thread that reads history for the shards
 *   inbox.c     what other threads have for a shard
 *   shard.c     watchers and groups, coming and going; one run
 *   tell.c      synced watchers: from batch to callback
 *   serve.c     lagging watchers: from the past to synced
 *   interval.c  which synced watchers cover a key
 *   window.c    which events of the past concern a watcher
 *
 * A watcher's moves:
 *
 *   from        to       when
 *   (added)     SYNCED   it starts with what comes
 *   (added)     WAITING  it starts in the past
 *   SYNCED      READY    its group has no room, or what came lacks what it needs
 *   READY       SYNCED   it has been told of all that its shard has taken
 *   READY       READY    it was served from the hub's memory, and goes behind the others
 *   READY       WAITING  the hub has forgotten what it needs
 *   READY       PARKED   its group has no room
 *   PARKED      READY    its group has some again
 *   WAITING     ASKED    a request is made, when the last one is done with
 *   ASKED       WAITING  the answer had nothing for it
 *   ASKED       READY    the answer was served to it, or the hub's memory will do
 *   ASKED       (gone)   what it needs has been compacted, or cannot be read
 *
 * One that starts in the past goes by the database once, whatever the hub
 * remembers: that is where it is known what has been compacted.
 *
 * A lagging watcher is told of nothing newer than what its shard has taken from
 * its inbox. So it becomes synced when it has got that far, without a lock: what
 * follows is in the inbox or has yet to be published.
 */
#ifndef KETA_WATCH_INTERNAL_H
#define KETA_WATCH_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state/store.h"
#include "state/view.h"
#include "watch/hub.h"
#include "watch/inbox.h"
#include "watch/interval.h"
#include "watch/shard.h"
#include "watch/window.h"

enum {
	RING_BATCHES = 4096,
	RING_BYTES = 4 << 20,
	/* A slice of history: a few milliseconds. One of large values is one message all the same, as
	 * in etcd, as long as slow readers do not keep too much already. */
	SLICE_ROWS = WINDOW_EVENTS,
	SLICE_BYTES = 16 << 20,
	SLICE_BYTES_WHEN_SHORT = 256 << 10,
	SLICES_BYTES = 64 << 20,
	/* While others write, slices are smaller, and there is a pause after each: the processors are
	 * theirs first. That still is some 40,000 changes a second. */
	SLICE_ROWS_BESIDE = 100,
	SLICE_PAUSE_US = 2000,
	/* A request for more spans, or longer ones, is one for all keys. */
	REQUEST_SPANS = 16,
	REQUEST_SPAN_BYTES = 2048,
};

/* ---- Catching up ---- */

/* A shard's request to the catch-up thread, and the answer: one at a time. */
struct catchup_request {
	struct shard_task answered; /* its first member: brings the answer */
	struct catchup_request *next;
	struct shard *shard;
	enum { CATCHUP_IDLE, CATCHUP_QUEUED, CATCHUP_READING } place; /* guarded by the thread's lock */

	bool wants_slice; /* else only what has been compacted is asked */
	int64_t from;
	bool with_prev;
	bool all_keys;
	struct span spans[REQUEST_SPANS];
	size_t span_count;
	uint8_t bytes[REQUEST_SPAN_BYTES]; /* the spans' */
	size_t bytes_used;

	enum status_code status;
	struct event_batch *slice; /* NULL unless one was wanted and status is OK */
	int64_t compact_revision;
};

struct catchup {
	struct view view;
	pthread_t thread;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	struct catchup_request *head, **tail; /* those that wait: first come, first served */
	bool stopping;
	_Atomic int64_t slice_bytes; /* taken by slices that somebody still holds, and by their forms */

	/* The thread's own. */
	const _Atomic int64_t *revision; /* the newest that was published */
	int64_t seen_revision;           /* at the last slice */
	int64_t not_before_us;           /* on clock_us's scale: the next slice */
};

enum status_code catchup_start(struct catchup *catchup, struct store *store, const _Atomic int64_t *revision);
void catchup_stop(struct catchup *catchup);

/* Hands a request over; the answer comes as a task of its shard. */
void catchup_submit(struct catchup *catchup, struct catchup_request *request);

/* Takes it back: the thread does not touch it any more, though it may have
 * posted the answer. Waits for a slice that is being read. */
void catchup_cancel(struct catchup *catchup, struct catchup_request *request);

/* ---- The hub ---- */

struct hub {
	_Atomic size_t watchers, prev_watchers; /* of all shards */
	_Atomic int64_t revision;

	pthread_mutex_t lock; /* guards what follows; held for moments only */
	struct shard *shards; /* those that have watchers */
	struct event_batch *ring[RING_BATCHES];
	size_t ring_head, ring_count;
	size_t ring_bytes;
	int64_t ring_first;      /* the oldest revision in the ring, or the next one to come */
	int64_t ring_first_prev; /* from here on all batches have the pairs before, and these may be told */

	struct catchup catchup;
};

/* A shard gets its first watcher, or loses its last. The revision from which on
 * all batches come to it. */
int64_t hub_enlist(struct hub *hub, struct shard *shard);
void hub_delist(struct hub *hub, struct shard *shard);

/* The oldest revisions that a watcher without and one with prev_kv need not
 * read from the database. */
void hub_remembered(struct hub *hub, int64_t *first, int64_t *first_prev);

/* Fills a clear window from the hub's memory, from this revision on and not
 * beyond 'last'. False when it is not there, or without memory. */
bool hub_recall(struct hub *hub, int64_t from, int64_t last, bool with_prev, struct window *out);

/* ---- A shard ---- */

/* An event for a watcher, while a revision is matched. */
struct hit {
	struct event *event;
	uint32_t next; /* of the same watcher; 0: none */
};

struct shard {
	struct hub *hub;
	struct shard *next, *prev; /* the hub's, guarded by its lock */
	struct inbox inbox;

	size_t watcher_count, lagging_count;
	struct watcher_list synced, ready, waiting, asked;
	struct interval_index index; /* of the synced ones */
	bool is_running;

	/* Telling synced watchers: tell.c. */
	struct event_batch *batch; /* NULL: the next one is due */
	size_t next_event;         /* of it, to be matched */
	int64_t revision;          /* the newest that was taken from the inbox, if only in part */
	int64_t finished;          /* the newest that all synced watchers have been told of */
	struct watcher_list touched;
	struct hit *hits; /* the first is not used */
	uint32_t hit_count, hit_size;

	/* Serving lagging ones: serve.c. */
	struct window recent; /* from the hub's memory */
	struct window past;   /* the answer to the request */
	struct catchup_request request;
	bool has_asked;                      /* the answer has not come yet */
	int64_t remembered, remembered_prev; /* when it was made: see hub_remembered */
	struct selection selection;
};

/* Moves a watcher to another state; READY is where those that begin to lag go. */
void watcher_move(struct watcher *w, enum watcher_state state);

bool shard_has_room(const struct watcher *w);

/* Tells synced watchers what has come, up to about 'work' events looked at or
 * told. Returns whether there is more. */
bool tell_run(struct shard *shard, size_t work);

/* A watcher is removed: it is not to be told what was about to be. */
void tell_forget(struct shard *shard, struct watcher *w);

/* The shard has its first watcher: everything up to here is over for it. */
void tell_skip(struct shard *shard, int64_t revision);
void tell_release(struct shard *shard);

/* The same for lagging ones. */
bool serve_run(struct shard *shard, size_t work);
void serve_init(struct shard *shard);
void serve_release(struct shard *shard);

/* When none lags: lets go of what was kept for them. */
void serve_rest(struct shard *shard);

#endif
