/* SPDX-License-Identifier: Apache-2.0 */
#include "state/event.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/fixture.h"
#include "lib/test.h"

static Pb__KeyValue make_kv(struct arena *arena, const char *key, const char *value)
{
	Pb__KeyValue kv;

	pb__key_value__init(&kv);
	kv.key = make_bytes(arena, key);
	kv.value = make_bytes(arena, value);
	kv.create_revision = 2;
	kv.mod_revision = 3;
	kv.version = 2;
	kv.lease = 9;
	return kv;
}

static struct event *add(struct event_batch *batch, const char *key, const char *value)
{
	struct event *event;
	struct arena arena;
	Pb__KeyValue kv;

	arena_init(&arena, 1 << 20, NULL, 0);
	kv = make_kv(&arena, key, value);
	event = event_batch_add(batch, false, &kv);
	/* What was lent is gone before anyone looks at the copy. */
	arena_release(&arena);
	ck_assert_ptr_nonnull(event);
	return event;
}

static const char *show(const struct event_batch *batch)
{
	static char text[256];
	int len = 0;

	text[0] = '\0';
	for (size_t i = 0; i < batch->count; i++)
		len += snprintf(text + len, sizeof text - (size_t)len, "%.*s",
		                (int)batch->events[i]->kv.key.len,
		                (const char *)batch->events[i]->kv.key.data);
	return text;
}

/* The key, and the value before if the event shows it. */
static void encode(const Pb__Event *event, struct buf *buf)
{
	buf_append(buf, event->kv->key.data, event->kv->key.len);
	if (event->prev_kv != NULL)
		buf_append(buf, event->prev_kv->value.data, event->prev_kv->value.len);
}

static const char *form(struct event *event, enum event_form which)
{
	static char text[64];
	const struct event_bytes *bytes = event_form(event, which, encode);

	ck_assert_ptr_nonnull(bytes);
	snprintf(text, sizeof text, "%.*s", (int)bytes->len, (const char *)bytes->data);
	return text;
}

START_TEST(an_event_holds_a_copy_of_its_pair)
{
	struct event_batch *batch = event_batch_new();
	struct event *event = add(batch, "key", "value");

	ck_assert_int_eq(event->pb.type, PB__EVENT__EVENT_TYPE__PUT);
	ck_assert_ptr_eq(event->pb.kv, &event->kv);
	ck_assert_mem_eq(event->kv.key.data, "key", 3);
	ck_assert_mem_eq(event->kv.value.data, "value", 5);
	ck_assert_int_eq(event->kv.lease, 9);
	ck_assert_int_eq(event_revision(event), 3);
	ck_assert_ptr_null(event->pb.prev_kv);
	ck_assert_uint_eq(batch->bytes, 8);
	event_batch_release(batch);
}
END_TEST

START_TEST(a_deletion_may_have_neither_value_nor_creation)
{
	struct event_batch *batch = event_batch_new();
	Pb__KeyValue kv;
	struct event *event;
	uint8_t key[] = {0};

	pb__key_value__init(&kv);
	kv.key = (ProtobufCBinaryData){.len = 1, .data = key};
	kv.mod_revision = 7;
	event = event_batch_add(batch, true, &kv);
	ck_assert_int_eq(event->pb.type, PB__EVENT__EVENT_TYPE__DELETE);
	ck_assert_uint_eq(event->kv.value.len, 0);
	ck_assert_int_eq(event_revision(event), 7);
	event_batch_release(batch);
}
END_TEST

START_TEST(many_events_stay_in_order_and_in_place)
{
	struct event_batch *batch = event_batch_new();
	struct event *first = add(batch, "first", "");
	char key[16];

	for (int i = 1; i < 1000; i++) {
		snprintf(key, sizeof key, "key-%d", i);
		add(batch, key, "x");
	}
	ck_assert_uint_eq(batch->count, 1000);
	ck_assert_ptr_eq(batch->events[0], first);
	ck_assert_mem_eq(batch->events[999]->kv.key.data, "key-999", 7);
	event_batch_release(batch);
}
END_TEST

START_TEST(a_form_is_made_once_and_shows_the_pair_before_where_wanted)
{
	struct event_batch *batch = event_batch_new();
	struct event *event = add(batch, "k", "v");
	uint8_t old[] = {'o', 'l', 'd'};
	Pb__KeyValue prev;

	pb__key_value__init(&prev);
	prev.value = (ProtobufCBinaryData){.len = 3, .data = old};
	ck_assert_int_eq(event_batch_set_prev(batch, &prev), STATUS_OK);
	ck_assert_str_eq(form(event, EVENT_JSON), "k");
	ck_assert_str_eq(form(event, EVENT_JSON_PREV), "kold");
	ck_assert_str_eq(form(event, EVENT_WIRE), "k");
	ck_assert_str_eq(form(event, EVENT_WIRE_PREV), "kold");
	ck_assert_ptr_eq(event_form(event, EVENT_JSON, NULL), event_form(event, EVENT_JSON, NULL));
	event_batch_release(batch);
}
END_TEST

START_TEST(events_can_be_taken_back_before_anyone_sees_them)
{
	struct event_batch *batch = event_batch_new();

	add(batch, "a", "");
	add(batch, "b", "");
	form(batch->events[1], EVENT_JSON);
	add(batch, "c", "");
	add(batch, "d", "");
	event_batch_remove(batch, 1);
	ck_assert_str_eq(show(batch), "acd");
	event_batch_remove(batch, 2);
	ck_assert_str_eq(show(batch), "ac");
	event_batch_truncate(batch, 5);
	ck_assert_str_eq(show(batch), "ac");
	event_batch_truncate(batch, 1);
	add(batch, "e", "");
	ck_assert_str_eq(show(batch), "ae");
	event_batch_release(batch);
}
END_TEST

START_TEST(a_batch_lives_as_long_as_anyone_holds_it)
{
	struct event_batch *batch = event_batch_new();

	add(batch, "a", "");
	ck_assert_ptr_eq(event_batch_hold(batch), batch);
	event_batch_release(batch);
	ck_assert_str_eq(show(batch), "a");
	event_batch_release(batch);
	event_batch_release(NULL);
}
END_TEST

enum { SHARERS = 4, SHARED_EVENTS = 500 };

struct sharer {
	pthread_t thread;
	struct event_batch *batch;
	const struct event_bytes *forms[SHARED_EVENTS];
};

static void *share(void *arg)
{
	struct sharer *sharer = arg;

	for (size_t i = 0; i < SHARED_EVENTS; i++)
		sharer->forms[i] = event_form(sharer->batch->events[i], EVENT_JSON, encode);
	event_batch_release(sharer->batch);
	return NULL;
}

START_TEST(all_threads_get_the_same_form)
{
	static struct sharer sharers[SHARERS];
	struct event_batch *batch = event_batch_new();

	for (size_t i = 0; i < SHARED_EVENTS; i++)
		add(batch, "k", "v");
	for (size_t i = 0; i < SHARERS; i++) {
		sharers[i].batch = event_batch_hold(batch);
		ck_assert_int_eq(pthread_create(&sharers[i].thread, NULL, share, &sharers[i]), 0);
	}
	for (size_t i = 0; i < SHARERS; i++)
		pthread_join(sharers[i].thread, NULL);
	for (size_t i = 1; i < SHARERS; i++)
		ck_assert_mem_eq(sharers[i].forms, sharers[0].forms, sizeof sharers[0].forms);
	ck_assert_mem_eq(sharers[0].forms[0]->data, "k", 1);
	event_batch_release(batch);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("event");
	TCase *tcase = tcase_create("event");

	tcase_add_test(tcase, an_event_holds_a_copy_of_its_pair);
	tcase_add_test(tcase, a_deletion_may_have_neither_value_nor_creation);
	tcase_add_test(tcase, many_events_stay_in_order_and_in_place);
	tcase_add_test(tcase, a_form_is_made_once_and_shows_the_pair_before_where_wanted);
	tcase_add_test(tcase, events_can_be_taken_back_before_anyone_sees_them);
	tcase_add_test(tcase, a_batch_lives_as_long_as_anyone_holds_it);
	tcase_add_test(tcase, all_threads_get_the_same_form);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
