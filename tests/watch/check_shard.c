/* SPDX-License-Identifier: Apache-2.0 */
/* Synced watchers, and how watchers come and go. */
#include "watch/shard.h"

#include <string.h>

#include "lib/test.h"
#include "lib/watching.h"

static struct watching world;
static struct seer_group group;

static void open_world(void)
{
	watching_open(&world);
	seer_group_init(&group, &world);
}

static void close_world(void)
{
	watching_close(&world);
}

static void put_two(const char *a, const char *b, const char *value)
{
	Pb__TxnRequest *txn = make_txn(&world.fx.arena);

	txn_add_success(&world.fx.arena, txn, &make_put(&world.fx.arena, a, value)->base);
	txn_add_success(&world.fx.arena, txn, &make_put(&world.fx.arena, b, value)->base);
	watching_run(&world, &txn->base);
}

START_TEST(a_revision_is_one_message)
{
	struct seer seer = {.hook = NULL};

	ck_assert_int_eq(seer_watch(&seer, &group, "a", "c", 0), 1);
	put_two("a", "b", "1");
	watching_put(&world, "a", "2");
	ck_assert_str_eq(seer.text, "");
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "[2 a=1, 2 b=1][3 a=2]");
	ck_assert_int_eq(seer.revision, 3);
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(only_what_the_span_holds_is_told)
{
	struct seer one = {.hook = NULL}, range = {.hook = NULL}, rest = {.hook = NULL};

	seer_watch(&one, &group, "b", NULL, 0);
	seer_watch(&range, &group, "b", "d", 0);
	seer_watch(&rest, &group, "c", "", 0);
	for (const char *const *key = (const char *const[]){"a", "b", "c", "d", NULL}; *key != NULL; key++)
		watching_put(&world, *key, "1");
	watching_settle(&world);
	ck_assert_str_eq(one.text, "[3 b=1]");
	ck_assert_str_eq(range.text, "[3 b=1][4 c=1]");
	ck_assert_str_eq(rest.text, "[4 c=1][5 d=1]");
	watch_remove(&one.watcher);
	watch_remove(&range.watcher);
	watch_remove(&rest.watcher);
}
END_TEST

START_TEST(what_is_filtered_is_not_told)
{
	struct seer puts = {.watcher = {.no_delete = true}}, deletes = {.watcher = {.no_put = true}};
	struct seer none = {.watcher = {.no_put = true, .no_delete = true}};

	seer_watch(&puts, &group, "a", "c", 0);
	seer_watch(&deletes, &group, "a", "c", 0);
	seer_watch(&none, &group, "a", "c", 0);
	put_two("a", "b", "1");
	watching_delete(&world, "a", "c");
	watching_settle(&world);
	ck_assert_str_eq(puts.text, "[2 a=1, 2 b=1]");
	ck_assert_str_eq(deletes.text, "[3 a, 3 b]");
	ck_assert_str_eq(none.text, "");
	ck_assert_int_eq(group.messages, 2);
	watch_remove(&puts.watcher);
	watch_remove(&deletes.watcher);
	watch_remove(&none.watcher);
}
END_TEST

START_TEST(pairs_before_are_told_to_those_who_want_them)
{
	struct seer plain = {.hook = NULL}, prev = {.watcher = {.prev_kv = true}};

	ck_assert(!hub_wants_events(world.hub));
	seer_watch(&plain, &group, "a", NULL, 0);
	ck_assert(hub_wants_events(world.hub));
	ck_assert(!hub_wants_prev(world.hub));
	seer_watch(&prev, &group, "a", NULL, 0);
	ck_assert(hub_wants_prev(world.hub));
	watching_put(&world, "a", "1");
	watching_put(&world, "a", "2");
	watching_delete(&world, "a", NULL);
	watching_settle(&world);
	ck_assert_str_eq(plain.text, "[2 a=1][3 a=2][4 a]");
	ck_assert_str_eq(prev.text, "[2 a=1][3 a=2 was 1][4 a was 2]");
	watch_remove(&plain.watcher);
	watch_remove(&prev.watcher);
	ck_assert(!hub_wants_prev(world.hub));
	ck_assert(!hub_wants_events(world.hub));
}
END_TEST

START_TEST(a_watch_that_starts_later_is_told_of_nothing_before)
{
	struct seer seer = {.hook = NULL};
	int64_t revision;

	seer_watch(&seer, &group, "a", NULL, 4);
	ck_assert(watch_group_is_synced(&group.group, &revision));
	watching_fill(&world, "a", 4);
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "[4 a=2][5 a=3]");
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(what_was_published_before_the_watch_is_not_told)
{
	struct seer first = {.hook = NULL}, second = {.hook = NULL};

	seer_watch(&first, &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	/* The batch is in the inbox. */
	ck_assert_int_eq(seer_watch(&second, &group, "a", NULL, 0), 2);
	watching_put(&world, "a", "2");
	watching_settle(&world);
	ck_assert_str_eq(first.text, "[2 a=1][3 a=2]");
	ck_assert_str_eq(second.text, "[3 a=2]");
	watch_remove(&first.watcher);
	watch_remove(&second.watcher);
}
END_TEST

START_TEST(a_removed_watcher_is_told_nothing_and_may_be_removed_again)
{
	struct seer seer = {.hook = NULL};

	watch_remove(&seer.watcher);
	seer_watch(&seer, &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	watch_remove(&seer.watcher);
	watch_remove(&seer.watcher);
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "");
	ck_assert_uint_eq(shard_watchers(world.shard), 0);
}
END_TEST

START_TEST(a_shard_without_watchers_is_not_woken)
{
	struct seer seer = {.hook = NULL};

	watching_put(&world, "a", "1");
	ck_assert_int_eq(world.wakes, 0);
	seer_watch(&seer, &group, "a", NULL, 0);
	ck_assert_int_eq(world.wakes, 0);
	watch_remove(&seer.watcher);
	watching_put(&world, "a", "2");
	ck_assert_int_eq(world.wakes, 0);
	ck_assert_int_eq(hub_revision(world.hub), 3);
}
END_TEST

START_TEST(many_batches_wake_once)
{
	struct seer seer = {.hook = NULL};

	seer_watch(&seer, &group, "a", NULL, 0);
	for (int i = 0; i < 20; i++)
		watching_put(&world, "a", "1");
	ck_assert_int_eq(world.wakes, 1);
	watching_settle(&world);
	ck_assert_int_eq(seer.messages, 20);
	watching_put(&world, "a", "1");
	ck_assert_int_eq(world.wakes, 2);
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(progress_is_what_has_been_told)
{
	struct seer seer = {.hook = NULL};
	int64_t revision;

	ck_assert(watch_group_is_synced(&group.group, &revision));
	ck_assert_int_eq(revision, 1);
	seer_watch(&seer, &group, "a", NULL, 0);
	watching_put(&world, "b", "1");
	ck_assert(watch_group_is_synced(&group.group, &revision));
	ck_assert_int_eq(revision, 1);
	watching_settle(&world);
	ck_assert(watch_group_is_synced(&group.group, &revision));
	ck_assert_int_eq(revision, 2);
	watch_remove(&seer.watcher);
}
END_TEST

/* ---- Changes from inside callbacks ---- */

static void remove_itself(struct seer *seer)
{
	watch_remove(&seer->watcher);
	memset(&seer->watcher, 0xee, sizeof seer->watcher);
}

static void remove_other(struct seer *seer)
{
	struct seer *other = seer->hook_arg;

	watch_remove(&other->watcher);
}

static void add_other(struct seer *seer)
{
	seer->hook = NULL;
	seer_watch(seer->hook_arg, &group, "a", NULL, 0);
}

static void replace_itself(struct seer *seer)
{
	watch_remove(&seer->watcher);
	add_other(seer);
}

START_TEST(a_watcher_may_go_in_its_own_callback)
{
	struct seer seers[3] = {{.hook = remove_itself}, {.hook = NULL}, {.hook = remove_itself}};

	for (int i = 0; i < 3; i++)
		seer_watch(&seers[i], &group, "a", NULL, 0);
	watching_fill(&world, "a", 2);
	watching_settle(&world);
	ck_assert_str_eq(seers[0].text, "[2 a=0]");
	ck_assert_str_eq(seers[1].text, "[2 a=0][3 a=1]");
	ck_assert_str_eq(seers[2].text, "[2 a=0]");
	watch_remove(&seers[1].watcher);
}
END_TEST

START_TEST(one_that_is_removed_by_another_is_not_told)
{
	struct seer a = {.hook = remove_other}, b = {.hook = remove_other};

	a.hook_arg = &b;
	b.hook_arg = &a;
	seer_watch(&a, &group, "a", NULL, 0);
	seer_watch(&b, &group, "a", "b", 0);
	watching_fill(&world, "a", 2);
	watching_settle(&world);
	ck_assert_int_eq(a.messages + b.messages, 2);
	ck_assert_uint_eq(shard_watchers(world.shard), 1);
	watch_remove(&a.watcher);
	watch_remove(&b.watcher);
}
END_TEST

START_TEST(one_that_comes_in_a_callback_sees_what_is_published_later)
{
	struct seer a = {.hook = add_other}, b = {.hook = NULL};

	a.hook_arg = &b;
	seer_watch(&a, &group, "a", NULL, 0);
	watching_fill(&world, "a", 3);
	watching_settle(&world);
	ck_assert_int_eq(a.messages, 3);
	ck_assert_str_eq(b.text, "");
	watching_put(&world, "a", "x");
	watching_settle(&world);
	ck_assert_str_eq(b.text, "[5 a=x]");
	watch_remove(&a.watcher);
	watch_remove(&b.watcher);
}
END_TEST

START_TEST(the_last_one_may_be_replaced_in_its_callback)
{
	struct seer a = {.hook = replace_itself}, b = {.hook = NULL};

	a.hook_arg = &b;
	seer_watch(&a, &group, "a", NULL, 0);
	watching_fill(&world, "a", 3);
	watching_put(&world, "a", "x");
	watching_settle(&world);
	ck_assert_str_eq(a.text, "[2 a=0]");
	ck_assert_str_eq(b.text, "");
	watching_put(&world, "a", "y");
	watching_settle(&world);
	ck_assert_str_eq(b.text, "[6 a=y]");
	watch_remove(&b.watcher);
}
END_TEST

START_TEST(a_run_is_bounded_and_watchers_may_go_between_two)
{
	enum { COUNT = 2000 };
	static struct seer seers[COUNT];
	int told = 0;

	for (int i = 0; i < COUNT; i++)
		seer_watch(&seers[i], &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	ck_assert(shard_run(world.shard));
	ck_assert_int_gt(group.messages, 0);
	ck_assert_int_lt(group.messages, COUNT / 2);
	for (int i = 0; i < COUNT; i += 2)
		watch_remove(&seers[i].watcher);
	watching_settle(&world);
	for (int i = 0; i < COUNT; i++) {
		told += seers[i].messages;
		ck_assert_int_le(seers[i].messages, 1);
		ck_assert(i % 2 == 0 || seers[i].messages == 1);
		watch_remove(&seers[i].watcher);
	}
	ck_assert_int_eq(told, group.messages);
}
END_TEST

START_TEST(an_idle_watcher_is_small)
{
	ck_assert_uint_le(sizeof(struct watcher), 160);
}
END_TEST

/* ---- Tasks ---- */

struct counter {
	struct shard_task task;
	int runs;
};

static void count(struct shard *shard, struct shard_task *task)
{
	struct counter *self = (struct counter *)task;

	if (self->runs++ == 0)
		shard_post(shard, task);
}

START_TEST(a_task_is_run_once_for_each_post)
{
	struct counter counter = {.task = {.run = count}};

	shard_post(world.shard, &counter.task);
	ck_assert_int_eq(world.wakes, 1);
	ck_assert(shard_run(world.shard));
	ck_assert_int_eq(counter.runs, 1);
	ck_assert(!shard_run(world.shard));
	ck_assert_int_eq(counter.runs, 2);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("shard");
	TCase *tcase = tcase_create("shard");

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, open_world, close_world);
	tcase_add_test(tcase, a_revision_is_one_message);
	tcase_add_test(tcase, only_what_the_span_holds_is_told);
	tcase_add_test(tcase, what_is_filtered_is_not_told);
	tcase_add_test(tcase, pairs_before_are_told_to_those_who_want_them);
	tcase_add_test(tcase, a_watch_that_starts_later_is_told_of_nothing_before);
	tcase_add_test(tcase, what_was_published_before_the_watch_is_not_told);
	tcase_add_test(tcase, a_removed_watcher_is_told_nothing_and_may_be_removed_again);
	tcase_add_test(tcase, a_shard_without_watchers_is_not_woken);
	tcase_add_test(tcase, many_batches_wake_once);
	tcase_add_test(tcase, progress_is_what_has_been_told);
	tcase_add_test(tcase, a_watcher_may_go_in_its_own_callback);
	tcase_add_test(tcase, one_that_is_removed_by_another_is_not_told);
	tcase_add_test(tcase, one_that_comes_in_a_callback_sees_what_is_published_later);
	tcase_add_test(tcase, the_last_one_may_be_replaced_in_its_callback);
	tcase_add_test(tcase, a_run_is_bounded_and_watchers_may_go_between_two);
	tcase_add_test(tcase, an_idle_watcher_is_small);
	tcase_add_test(tcase, a_task_is_run_once_for_each_post);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
