/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hub: takes what happened from the applier and gives it to the shards,
 * one per event loop, where the watchers are.
 *
 *   applier ── hub_publish ──► hub ──► shard's inbox ── wake ──► shard_run ──► watchers
 *                               │                                  ▲
 *                               └── catch-up thread: history ──────┘
 *
 * The applier does the same work however many watchers there are: it hands one
 * counted reference to each shard that has any. Whether a watcher is concerned,
 * and what is sent, is found out on the shard's own thread, without a lock.
 *
 * The newest batches are kept, up to a few megabytes, so that one that fell
 * behind a little, or that resumes where its last connection broke, need not
 * read the database. Those further behind are served by one thread that reads
 * history in slices of a few milliseconds, in turn for all who ask: it holds up
 * neither the writer nor another watcher.
 */
#ifndef KETA_HUB_H
#define KETA_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "state/event.h"
#include "state/store.h"

struct hub;

/* Starts the catch-up thread. 'store' is borrowed and outlives the hub; its
 * revision is where the hub begins. STATUS_NO_MEMORY, or an I/O error. */
enum status_code hub_open(struct store *store, struct hub **out);

/* When all shards are gone. NULL is fine. */
void hub_close(struct hub *hub);

/* Whether anybody watches, and whether somebody wants to know the pairs before:
 * what the applier is to keep of the next batch. Any thread. */
bool hub_wants_events(const struct hub *hub);
bool hub_wants_prev(const struct hub *hub);

/* The revisions from batch->first to batch->last are committed. They follow on
 * the last ones published. Takes over the reference. The applier's thread,
 * before the writers of these revisions are told. */
void hub_publish(struct hub *hub, struct event_batch *batch);

/* The same without their events, which were not kept. */
void hub_advance(struct hub *hub, int64_t revision);

/* Everything below the revision is compacted: the pairs before the changes up to
 * it are not told any more, as in etcd. The applier's thread. */
void hub_compacted(struct hub *hub, int64_t revision);

/* The newest revision that was published. Any thread. */
int64_t hub_revision(const struct hub *hub);

#endif
