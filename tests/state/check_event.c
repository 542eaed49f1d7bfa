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

static void check_indexes(const struct event_batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		ck_assert_uint_eq(batch->events[i]->index, i);
}

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
	check_indexes(batch);
	event_batch_remove(batch, 2);
	ck_assert_str_eq(show(batch), "ac");
	event_batch_truncate(batch, 5);
	ck_assert_str_eq(show(batch), "ac");
	event_batch_truncate(batch, 1);
	add(batch, "e", "");
	ck_assert_str_eq(show(batch), "ae");
	check_indexes(batch);
	event_batch_release(batch);
}
END_TEST

/* a, b, c ..., each with a pair before. */
static struct event_batch *make_letters(size_t count)
{
	struct event_batch *batch = event_batch_new();

	for (size_t i = 0; i < count; i++) {
		char key[] = {(char)('a' + i % 26), '\0'};
		uint8_t old = '1';
		Pb__KeyValue prev;

		add(batch, key, "");
		pb__key_value__init(&prev);
		prev.value = (ProtobufCBinaryData){.len = 1, .data = &old};
		ck_assert_int_eq(event_batch_set_prev(batch, &prev), STATUS_OK);
	}
	return batch;
}

static const struct event_bytes *run_of(const struct event_batch *batch, size_t first, size_t count)
{
	return event_run_form(batch->events + first, count, EVENT_JSON, encode);
}

static const char *run(const struct event_batch *batch, size_t first, size_t count, enum event_form which)
{
	static char text[64];
	const struct event_bytes *bytes = event_run_form(batch->events + first, count, which, encode);

	ck_assert_ptr_nonnull(bytes);
	snprintf(text, sizeof text, "%.*s", (int)bytes->len, (const char *)bytes->data);
	return text;
}

START_TEST(a_run_joins_the_forms_and_is_made_once)
{
	struct event_batch *batch = make_letters(4);

	ck_assert_str_eq(run(batch, 0, 4, EVENT_JSON), "a,b,c,d");
	ck_assert_str_eq(run(batch, 0, 4, EVENT_JSON_PREV), "a1,b1,c1,d1");
	ck_assert_str_eq(run(batch, 1, 2, EVENT_JSON), "b,c");
	ck_assert_str_eq(run(batch, 1, 2, EVENT_WIRE), "bc");
	ck_assert_str_eq(run(batch, 3, 1, EVENT_WIRE_PREV), "d1");
	ck_assert_ptr_eq(event_run_form(batch->events, 4, EVENT_JSON, NULL), run_of(batch, 0, 4));
	ck_assert_ptr_eq(event_run_form(batch->events + 1, 2, EVENT_WIRE, NULL),
	                 event_run_form(batch->events + 1, 2, EVENT_WIRE, NULL));
	for (size_t i = 0; i < batch->count; i++)
		ck_assert_ptr_null(atomic_load(&batch->events[i]->forms[EVENT_JSON]));
	event_batch_release(batch);
}
END_TEST

START_TEST(events_that_do_not_follow_each_other_are_no_run)
{
	struct event_batch *batch = make_letters(4);
	struct event_batch *other = make_letters(4);
	struct event *gap[] = {batch->events[0], batch->events[2], batch->events[3]};
	struct event *two[] = {batch->events[3], other->events[0]};
	struct event *alike[] = {batch->events[0], other->events[1]};

	ck_assert_ptr_null(event_run_form(gap, 3, EVENT_JSON, encode));
	ck_assert_ptr_null(event_run_form(two, 2, EVENT_JSON, encode));
	ck_assert_ptr_null(event_run_form(alike, 2, EVENT_JSON, encode));
	ck_assert_ptr_null(event_run_form(gap, 0, EVENT_JSON, encode));
	event_batch_remove(batch, 1);
	ck_assert_str_eq(run(batch, 0, 3, EVENT_JSON), "a,c,d");
	event_batch_release(batch);
	event_batch_release(other);
}
END_TEST

/* Many watches of other parts of it do not take more and more. */
START_TEST(a_batch_keeps_a_few_runs)
{
	enum { EVENTS = 1000 };
	struct event_batch *batch = make_letters(EVENTS);
	size_t runs = 0, events = 0;

	while (runs < EVENTS && run_of(batch, runs, EVENTS - runs) != NULL)
		events += EVENTS - runs++;
	ck_assert_uint_ge(runs, 3);
	ck_assert_uint_le(events, 4 * EVENTS);
	ck_assert_ptr_nonnull(run_of(batch, 0, EVENTS)); /* those it has it gives */
	event_batch_release(batch);

	batch = make_letters(EVENTS);
	for (runs = 0; runs < EVENTS && run_of(batch, runs, 1) != NULL; runs++)
		;
	ck_assert_uint_ge(runs, 10);
	ck_assert_uint_lt(runs, EVENTS);
	event_batch_release(batch);
}
END_TEST

START_TEST(an_account_holds_what_a_batch_takes_with_its_forms)
{
	struct event_batch *batch = event_batch_new();
	_Atomic int64_t account = 7;

	add(batch, "key", "value");
	event_batch_charge(batch, &account);
	ck_assert_int_eq(atomic_load(&account), 7 + 3 * 8);
	event_batch_release(batch);
	ck_assert_int_eq(atomic_load(&account), 7);
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

enum { SHARERS = 4, SHARED_EVENTS = 500, SHARED_RUNS = 32, RUN_EVENTS = 60 };

struct sharer {
	pthread_t thread;
	struct event_batch *batch;
	const struct event_bytes *forms[SHARED_EVENTS];
	const struct event_bytes *runs[SHARED_RUNS];
};

static void *share(void *arg)
{
	struct sharer *sharer = arg;

	for (size_t i = 0; i < SHARED_EVENTS; i++)
		sharer->forms[i] = event_form(sharer->batch->events[i], EVENT_JSON, encode);
	for (size_t i = 0; i < SHARED_RUNS; i++)
		sharer->runs[i] = run_of(sharer->batch, i, RUN_EVENTS);
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
	for (size_t i = 1; i < SHARERS; i++) {
		ck_assert_mem_eq(sharers[i].forms, sharers[0].forms, sizeof sharers[0].forms);
		ck_assert_mem_eq(sharers[i].runs, sharers[0].runs, sizeof sharers[0].runs);
	}
	ck_assert_uint_eq(sharers[0].runs[SHARED_RUNS - 1]->len, 2 * RUN_EVENTS - 1);
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
	tcase_add_test(tcase, a_run_joins_the_forms_and_is_made_once);
	tcase_add_test(tcase, events_that_do_not_follow_each_other_are_no_run);
	tcase_add_test(tcase, a_batch_keeps_a_few_runs);
	tcase_add_test(tcase, an_account_holds_what_a_batch_takes_with_its_forms);
	tcase_add_test(tcase, a_batch_lives_as_long_as_anyone_holds_it);
	tcase_add_test(tcase, all_threads_get_the_same_form);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
