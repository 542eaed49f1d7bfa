/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store, a hub and one shard on the test's own thread, and somebody who
 * watches and writes down what is told:
 *
 *     watching_open(&world);
 *     seer_watch(&seer, &group, "a", NULL, 0);
 *     watching_put(&world, "a", "1");
 *     watching_settle(&world);
 *     ck_assert_str_eq(seer.text, "[2 a=1]");
 *
 * A message is a pair of brackets; an event in it "2 a=1", "3 a" when it is a
 * deletion, with the pair before "2 a=1 was 0"; events are parted by commas. A
 * watch that is lost is "<COMPACTED 5>".
 */
#ifndef KETA_WATCHING_H
#define KETA_WATCHING_H

#include <stdatomic.h>

#include "lib/fixture.h"
#include "watch/hub.h"
#include "watch/shard.h"

struct watching {
	struct fixture fx;
	struct hub *hub;
	struct shard *shard;
	_Atomic int wakes;
	int requests; /* to the catch-up thread, as far as watching_settle saw them */
};

struct seer_group {
	struct watch_group group;
	int room;     /* messages that it still takes */
	int messages; /* that it took */
};

struct seer {
	struct watcher watcher; /* its prev_kv and filters may be set before it watches */
	char text[1000];        /* as far as it fits */
	size_t len;             /* of it */
	int64_t revision;       /* of the last message's header */
	int events, messages;
	void (*hook)(struct seer *seer); /* called with each message; NULL: none */
	void *hook_arg;
};

void watching_open(struct watching *world);
void watching_close(struct watching *world);

/* Another shard in place of this one, which has no watchers. */
void watching_replace_shard(struct watching *world);

/* Applies and publishes as the applier does. */
void watching_run(struct watching *world, const ProtobufCMessage *request);
void watching_put(struct watching *world, const char *key, const char *value);
void watching_delete(struct watching *world, const char *key, const char *end);

/* 'count' puts of one key, each a revision, in few transactions. Values are
 * numbers from 0 on. */
void watching_fill(struct watching *world, const char *key, int count);

/* Publishes what the store has done since the last time. */
void watching_publish(struct watching *world);

/* Runs the shard until there is nothing to do, waiting for the catch-up thread. */
void watching_settle(struct watching *world);

/* Waits until the answer to the shard's request is in its inbox. */
void watching_await_answer(struct watching *world);

void seer_group_init(struct seer_group *group, struct watching *world);

/* Starts a watch; end NULL is a single key, "" goes on to the end of all keys.
 * The texts are borrowed. */
int64_t seer_watch(struct seer *seer, struct seer_group *group, const char *key, const char *end,
                   int64_t from);

#endif
