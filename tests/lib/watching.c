/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/watching.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/test.h"
#include "watch/internal.h"

enum {
	/* Requests that share a transaction. */
	FILL_BATCH = 500,
};

static void wake(void *arg)
{
	struct watching *world = arg;

	world->wakes++;
}

void watching_open(struct watching *world)
{
	*world = (struct watching){.requests = 0};
	fixture_open(&world->fx);
	ck_assert_int_eq(hub_open(world->fx.st, &world->hub), STATUS_OK);
	world->shard = shard_new(world->hub, wake, world);
	ck_assert_ptr_nonnull(world->shard);
}

void watching_replace_shard(struct watching *world)
{
	shard_free(world->shard);
	world->shard = shard_new(world->hub, wake, world);
	ck_assert_ptr_nonnull(world->shard);
}

void watching_close(struct watching *world)
{
	shard_free(world->shard);
	hub_close(world->hub);
	fixture_close(&world->fx);
}

static void prepare(struct watching *world)
{
	world->fx.st->keeps_news = hub_wants_events(world->hub);
	world->fx.st->keeps_prev = hub_wants_prev(world->hub);
}

void watching_publish(struct watching *world)
{
	struct store *st = world->fx.st;
	struct event_batch *news = store_take_news(st);

	if (news != NULL)
		hub_publish(world->hub, news);
	else if (st->saved.revision > hub_revision(world->hub))
		hub_advance(world->hub, st->saved.revision);
}

void watching_run(struct watching *world, const ProtobufCMessage *request)
{
	prepare(world);
	fixture_run(&world->fx, request);
	watching_publish(world);
}

void watching_put(struct watching *world, const char *key, const char *value)
{
	watching_run(world, &make_put(&world->fx.arena, key, value)->base);
}

void watching_delete(struct watching *world, const char *key, const char *end)
{
	watching_run(world, &make_delete(&world->fx.arena, key, end)->base);
}

void watching_fill(struct watching *world, const char *key, int count)
{
	const ProtobufCMessage *requests[FILL_BATCH];
	struct applied results[FILL_BATCH];

	for (int i = 0; i < count;) {
		size_t n;

		for (n = 0; n < FILL_BATCH && i < count; n++, i++)
			requests[n] =
				&make_put(&world->fx.arena, key, arena_printf(&world->fx.arena, "%d", i))
					 ->base;
		prepare(world);
		ck_assert_int_eq(fixture_apply_batch(&world->fx, requests, n, results), STATUS_OK);
		watching_publish(world);
	}
}

void watching_await_answer(struct watching *world)
{
	struct catchup *catchup = &world->hub->catchup;

	if (!world->shard->has_asked)
		return;
	pthread_mutex_lock(&catchup->lock);
	while (world->shard->request.place != CATCHUP_IDLE)
		pthread_cond_wait(&catchup->changed, &catchup->lock);
	pthread_mutex_unlock(&catchup->lock);
}

void watching_settle(struct watching *world)
{
	bool had_asked = world->shard->has_asked;

	while (shard_run(world->shard) || world->shard->has_asked) {
		world->requests += world->shard->has_asked && !had_asked;
		watching_await_answer(world);
		had_asked = false;
	}
}

__attribute__((format(printf, 2, 3))) static void write_down(struct seer *seer, const char *format, ...)
{
	size_t room = sizeof seer->text - seer->len;
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(seer->text + seer->len, room, format, args);
	va_end(args);
	seer->len += (size_t)len < room ? (size_t)len : room - 1;
}

static void write_event(struct seer *seer, const struct event *event)
{
	const Pb__KeyValue *kv = event->pb.kv, *prev = event->pb.prev_kv;

	write_down(seer, "%lld %.*s", (long long)event_revision(event), (int)kv->key.len,
	           (const char *)kv->key.data);
	if (event->pb.type == PB__EVENT__EVENT_TYPE__PUT)
		write_down(seer, "=%.*s", (int)kv->value.len, (const char *)kv->value.data);
	if (prev != NULL && seer->watcher.prev_kv)
		write_down(seer, " was %.*s", (int)prev->value.len, (const char *)prev->value.data);
}

static void on_events(struct watcher *w, int64_t revision, struct event *const *events, size_t count)
{
	struct seer *seer = (struct seer *)w;
	struct seer_group *group = (struct seer_group *)w->group;

	ck_assert_uint_gt(count, 0);
	ck_assert_int_gt(group->room, 0);
	group->room--;
	group->messages++;
	seer->messages++;
	seer->events += (int)count;
	seer->revision = revision;
	for (size_t i = 0; i < count; i++) {
		write_down(seer, i == 0 ? "[" : ", ");
		write_event(seer, events[i]);
	}
	write_down(seer, "]");
	if (seer->hook != NULL)
		seer->hook(seer);
}

static void on_lost(struct watcher *w, enum status_code why, int64_t compact_revision)
{
	struct seer *seer = (struct seer *)w;

	ck_assert_int_eq(w->state, WATCHER_GONE);
	write_down(seer, "<%s %lld>", status_code_name(why), (long long)compact_revision);
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

void seer_group_init(struct seer_group *group, struct watching *world)
{
	*group = (struct seer_group){.room = INT_MAX};
	watch_group_init(&group->group, world->shard, &SEER_OPS);
}

int64_t seer_watch(struct seer *seer, struct seer_group *group, const char *key, const char *end,
                   int64_t from)
{
	seer->watcher.group = &group->group;
	seer->watcher.span = (struct span){.key = (const uint8_t *)key, .key_len = strlen(key)};
	if (end != NULL) {
		seer->watcher.span.end = (const uint8_t *)end;
		seer->watcher.span.end_len = end[0] == '\0' ? 1 : strlen(end);
	}
	return watch_add(&seer->watcher, from);
}
