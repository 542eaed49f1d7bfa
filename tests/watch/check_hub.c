/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer, and shards on threads of their own as in the server. Watchers come
 * and go, start anywhere in the past or the future, and stall; batches are not
 * kept, revisions are compacted. Whatever happens, each is told of exactly what
 * the writer did: in order, each once, a revision in one piece.
 *
 * KETA_STEPS says how many batches the writer makes.
 */
#include "watch/hub.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "lib/fixture.h"
#include "lib/prng.h"
#include "lib/test.h"
#include "watch/shard.h"

enum {
	DEFAULT_BATCHES = 300,
	BATCH_MAX = 8,
	KEYS = 30,
	KEY_SIZE = 16,
	FACTS_MAX = 1000000,
	SHARDS = 3,
	GROUPS = 4,    /* of each shard */
	WATCHERS = 12, /* of each group */
	NOTHING = -1,
};

/* ---- What the writer did ---- */

struct fact {
	int64_t revision;
	int key, value, prev; /* value NOTHING: deleted; prev NOTHING: there was none */
};

static struct fact facts[FACTS_MAX];
static _Atomic size_t fact_count;
static _Atomic int64_t compacted;
static _Atomic bool over;
static char names[KEYS][KEY_SIZE];

static struct fixture fx;
static struct hub *hub;

struct writer {
	struct prng prng;
	int values[KEYS];
	int next_value;
	int64_t revision; /* of the last change that was made up */
	size_t count;     /* of facts, those of this batch included */
};

static void change(struct writer *self, int key, int value)
{
	ck_assert_uint_lt(self->count, FACTS_MAX);
	facts[self->count++] = (struct fact){
		.revision = self->revision,
		.key = key,
		.value = value,
		.prev = self->values[key],
	};
	self->values[key] = value;
}

static ProtobufCMessage *make_up_put(struct writer *self, int key)
{
	char value[12];

	snprintf(value, sizeof value, "%d", ++self->next_value);
	change(self, key, self->next_value);
	return &make_put(&fx.arena, names[key], value)->base;
}

/* Deleting nothing makes no revision. */
static ProtobufCMessage *make_up_delete(struct writer *self, int first, int end)
{
	size_t before = self->count;

	for (int key = first; key < end; key++)
		if (self->values[key] != NOTHING)
			change(self, key, NOTHING);
	if (self->count == before)
		self->revision--;
	return &make_delete(&fx.arena, names[first], names[end])->base;
}

static ProtobufCMessage *make_up_txn(struct writer *self)
{
	Pb__TxnRequest *txn = make_txn(&fx.arena);
	int key = (int)prng_below(&self->prng, KEYS / 2);

	for (int i = 0; i < 4; i++, key += 1 + (int)prng_below(&self->prng, 3))
		txn_add_success(&fx.arena, txn, make_up_put(self, key));
	return &txn->base;
}

static ProtobufCMessage *make_up_request(struct writer *self)
{
	int key = (int)prng_below(&self->prng, KEYS - 1);

	self->revision++;
	switch (prng_below(&self->prng, 10)) {
	case 0:
		return make_up_txn(self);
	case 1:
		return make_up_delete(self, key, key + 1);
	case 2:
		return make_up_delete(self, key,
		                      key + 1 + (int)prng_below(&self->prng, (unsigned)(KEYS - key - 1)));
	default:
		return make_up_put(self, key);
	}
}

static void write_batch(struct writer *self)
{
	const ProtobufCMessage *requests[BATCH_MAX];
	struct applied results[BATCH_MAX];
	size_t count = 1 + prng_below(&self->prng, BATCH_MAX);
	struct event_batch *news;

	for (size_t i = 0; i < count; i++)
		requests[i] = make_up_request(self);
	/* What the applier found when the transaction began; it may lack memory. */
	fx.st->keeps_news = hub_wants_events(hub) && !prng_chance(&self->prng, 3);
	fx.st->keeps_prev = hub_wants_prev(hub) && !prng_chance(&self->prng, 5);
	ck_assert_int_eq(fixture_apply_batch(&fx, requests, count, results), STATUS_OK);
	ck_assert_int_eq(fx.st->saved.revision, self->revision);
	atomic_store(&fact_count, self->count);
	news = store_take_news(fx.st);
	if (news != NULL)
		hub_publish(hub, news);
	else if (self->revision > hub_revision(hub))
		hub_advance(hub, self->revision);
	fixture_forget(&fx);
}

static void write_all(struct writer *self, int batches)
{
	for (int key = 0; key < KEYS; key++)
		self->values[key] = NOTHING;
	self->revision = fx.st->saved.revision;
	for (int i = 0; i < batches; i++) {
		write_batch(self);
		if (i % 50 == 49) {
			atomic_store(&compacted, self->revision - 100);
			fixture_compact(&fx, self->revision - 100);
		}
	}
}

/* ---- Who watches ---- */

struct seer {
	struct watcher watcher;
	bool is_watching;
	int first, end; /* keys */
	size_t next_fact;
	int64_t from;
};

struct seer_group {
	struct watch_group group;
	int room; /* messages */
	struct seer seers[WATCHERS];
};

struct loop {
	struct shard *shard;
	sem_t woken;
	pthread_t thread;
	struct prng prng;
	struct seer_group groups[GROUPS];
};

static void wake(void *arg)
{
	sem_post(arg);
}

static bool concerns(const struct seer *seer, const struct fact *fact)
{
	return fact->revision >= seer->from && fact->key >= seer->first && fact->key < seer->end &&
	       !(fact->value == NOTHING ? seer->watcher.no_delete : seer->watcher.no_put);
}

/* The next fact that the seer is to be told of; NULL: there is none yet. */
static const struct fact *next_fact(struct seer *seer)
{
	size_t count = atomic_load(&fact_count);

	while (seer->next_fact < count && !concerns(seer, &facts[seer->next_fact]))
		seer->next_fact++;
	return seer->next_fact < count ? &facts[seer->next_fact] : NULL;
}

static bool is_number(ProtobufCBinaryData value, int number)
{
	char text[12];
	int len = snprintf(text, sizeof text, "%d", number);

	return value.len == (size_t)len && memcmp(value.data, text, value.len) == 0;
}

static bool tells(const struct event *event, const struct fact *fact)
{
	if (event_revision(event) != fact->revision || event->kv.key.len != strlen(names[fact->key]) ||
	    memcmp(event->kv.key.data, names[fact->key], event->kv.key.len) != 0)
		return false;
	if (fact->value == NOTHING)
		return event->pb.type == PB__EVENT__EVENT_TYPE__DELETE;
	return event->pb.type == PB__EVENT__EVENT_TYPE__PUT && is_number(event->kv.value, fact->value);
}

/* Compaction may have taken the pair before. */
static bool tells_prev(const struct event *event, const struct fact *fact)
{
	if (event->pb.prev_kv == NULL)
		return fact->prev == NOTHING || fact->revision <= atomic_load(&compacted);
	return fact->prev != NOTHING && is_number(event->prev.value, fact->prev);
}

static void on_events(struct watcher *w, int64_t revision, struct event *const *events, size_t count)
{
	struct seer *seer = (struct seer *)w;
	struct seer_group *group = (struct seer_group *)w->group;
	const struct fact *fact = NULL;

	ck_assert(seer->is_watching && group->room > 0 && count > 0);
	group->room--;
	for (size_t i = 0; i < count; i++) {
		fact = next_fact(seer);
		ck_assert_msg(fact != NULL && tells(events[i], fact), "told of %lld, due is %lld",
		              (long long)event_revision(events[i]),
		              fact != NULL ? (long long)fact->revision : -1);
		ck_assert(!w->prev_kv || tells_prev(events[i], fact));
		seer->next_fact++;
	}
	ck_assert_int_ge(revision, fact->revision);
	fact = next_fact(seer);
	ck_assert(fact == NULL || fact->revision > event_revision(events[count - 1]));
}

static void on_lost(struct watcher *w, enum status_code why, int64_t compact_revision)
{
	struct seer *seer = (struct seer *)w;

	ck_assert_int_eq(why, STATUS_COMPACTED);
	ck_assert_int_le(compact_revision, atomic_load(&compacted));
	ck_assert_int_lt(w->from, compact_revision);
	seer->is_watching = false;
}

static bool has_room(struct watch_group *group)
{
	return ((struct seer_group *)group)->room > 0;
}

static const struct watch_ops SEER_OPS = {
	.events = on_events,
	.lost = on_lost,
	.has_room = has_room,
};

static int64_t draw_start(struct prng *prng)
{
	int64_t newest = hub_revision(hub);

	switch (prng_below(prng, 6)) {
	case 0:
		return newest + prng_below(prng, 30);
	case 1:
		return 1 + prng_below(prng, (unsigned)newest);
	case 2:
	case 3:
		return newest > 50 ? newest - prng_below(prng, 50) : 1;
	default:
		return 0;
	}
}

static void draw_span(struct prng *prng, struct seer *seer)
{
	struct span *span = &seer->watcher.span;

	seer->first = (int)prng_below(prng, KEYS - 1);
	*span = (struct span){.key = (const uint8_t *)names[seer->first],
	                      .key_len = strlen(names[seer->first])};
	switch (prng_below(prng, 3)) {
	case 0:
		seer->end = seer->first + 1;
		break;
	case 1:
		seer->end = seer->first + 1 + (int)prng_below(prng, (unsigned)(KEYS - seer->first - 1));
		span->end = (const uint8_t *)names[seer->end];
		span->end_len = strlen(names[seer->end]);
		break;
	default:
		seer->end = KEYS;
		span->end = (const uint8_t *)"";
		span->end_len = 1;
	}
}

static void come(struct loop *self, struct seer_group *group, struct seer *seer)
{
	int64_t newest;

	*seer = (struct seer){.is_watching = true};
	draw_span(&self->prng, seer);
	seer->watcher.group = &group->group;
	seer->watcher.prev_kv = prng_chance(&self->prng, 30);
	seer->watcher.no_put = prng_chance(&self->prng, 10);
	seer->watcher.no_delete = prng_chance(&self->prng, 10);
	seer->from = draw_start(&self->prng);
	newest = watch_add(&seer->watcher, seer->from);
	if (seer->from == 0)
		seer->from = newest + 1;
}

static void go(struct seer *seer)
{
	watch_remove(&seer->watcher);
	memset(seer, 0xee, sizeof *seer);
	seer->is_watching = false;
}

static void make_room(struct seer_group *group, int room)
{
	group->room = room;
	if (room > 0)
		watch_group_resume(&group->group);
}

static void act(struct loop *self)
{
	struct seer_group *group = &self->groups[prng_below(&self->prng, GROUPS)];
	struct seer *seer = &group->seers[prng_below(&self->prng, WATCHERS)];

	if (prng_chance(&self->prng, 20))
		make_room(group, (int)prng_below(&self->prng, 30));
	if (!seer->is_watching)
		come(self, group, seer);
	else if (prng_chance(&self->prng, 20))
		go(seer);
}

/* All that lag get what they lack. */
static void catch_up(struct loop *self)
{
	int64_t final = hub_revision(hub), revision = 0;

	for (int i = 0; i < GROUPS; i++)
		make_room(&self->groups[i], 1 << 30);
	for (bool synced = false; !synced;) {
		if (!shard_run(self->shard) && shard_lagging(self->shard) > 0)
			sem_wait(&self->woken);
		synced = true;
		for (int i = 0; i < GROUPS; i++)
			synced = watch_group_is_synced(&self->groups[i].group, &revision) &&
			         revision == final && synced;
	}
}

static void check_nothing_is_missing(struct loop *self)
{
	for (int i = 0; i < GROUPS; i++)
		for (int j = 0; j < WATCHERS; j++)
			if (self->groups[i].seers[j].is_watching)
				ck_assert_ptr_null(next_fact(&self->groups[i].seers[j]));
}

static void *run_loop(void *arg)
{
	struct loop *self = arg;

	while (!atomic_load(&over)) {
		/* Somebody watches, so the writer's next batch wakes. */
		while (shard_watchers(self->shard) == 0 || prng_chance(&self->prng, 50))
			act(self);
		if (!shard_run(self->shard))
			sem_wait(&self->woken);
	}
	catch_up(self);
	check_nothing_is_missing(self);
	for (int i = 0; i < GROUPS; i++)
		for (int j = 0; j < WATCHERS; j++)
			if (self->groups[i].seers[j].is_watching)
				go(&self->groups[i].seers[j]);
	return NULL;
}

static void start_loop(struct loop *self, struct prng *seeds)
{
	sem_init(&self->woken, 0, 0);
	prng_init(&self->prng, prng_next(seeds));
	self->shard = shard_new(hub, wake, &self->woken);
	ck_assert_ptr_nonnull(self->shard);
	for (int i = 0; i < GROUPS; i++) {
		watch_group_init(&self->groups[i].group, self->shard, &SEER_OPS);
		self->groups[i].room = 10;
	}
	ck_assert_int_eq(pthread_create(&self->thread, NULL, run_loop, self), 0);
}

static void end_loop(struct loop *self)
{
	sem_post(&self->woken);
	pthread_join(self->thread, NULL);
	shard_free(self->shard);
	sem_destroy(&self->woken);
}

START_TEST(every_watcher_is_told_of_what_happened_and_of_nothing_else)
{
	static struct loop loops[SHARDS];
	static struct writer writer;

	prng_init(&writer.prng, prng_seed("check_hub"));
	for (int key = 0; key < KEYS; key++)
		snprintf(names[key], KEY_SIZE, "k%02d", key);
	fixture_open(&fx);
	ck_assert_int_eq(hub_open(fx.st, &hub), STATUS_OK);
	for (int i = 0; i < SHARDS; i++)
		start_loop(&loops[i], &writer.prng);
	write_all(&writer, (int)prng_setting("KETA_STEPS", DEFAULT_BATCHES));
	atomic_store(&over, true);
	for (int i = 0; i < SHARDS; i++)
		end_loop(&loops[i]);
	ck_assert(!hub_wants_events(hub));
	hub_close(hub);
	fixture_close(&fx);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("hub");
	TCase *tcase = tcase_create("hub");

	tcase_set_timeout(tcase, 600);
	tcase_add_test(tcase, every_watcher_is_told_of_what_happened_and_of_nothing_else);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
