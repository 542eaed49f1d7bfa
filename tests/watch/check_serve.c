/* SPDX-License-Identifier: Apache-2.0 */
/* Lagging watchers: from the hub's memory and from history until they are synced. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "lib/test.h"
#include "lib/watching.h"
#include "watch/internal.h"

static struct watching world;
static struct seer_group group;

static void open_world(void)
{
	watching_open(&world);
	seer_group_init(&group, &world);
}

static void close_world(void)
{
	ck_assert_uint_eq(shard_watchers(world.shard), 0);
	watching_close(&world);
}

static bool is_synced(void)
{
	int64_t revision;

	return watch_group_is_synced(&group.group, &revision);
}

/* Values that the hub's memory cannot hold all of. */
static void put_large(const char *key, int count)
{
	enum { LARGE = 1 << 20 };

	for (int i = 0; i < count; i++) {
		Pb__PutRequest *put = make_put(&world.fx.arena, key, "");

		put->value = (ProtobufCBinaryData){.len = LARGE,
		                                   .data = arena_calloc(&world.fx.arena, 1, LARGE)};
		watching_run(&world, &put->base);
	}
}

/* ---- What makes a watcher lag ---- */

START_TEST(one_that_starts_in_the_past_is_told_of_it_later_and_then_of_the_present)
{
	struct seer seer = {.hook = NULL};

	watching_fill(&world, "a", 3);
	ck_assert_int_eq(seer_watch(&seer, &group, "a", NULL, 3), 4);
	ck_assert_str_eq(seer.text, "");
	ck_assert_int_eq(world.wakes, 1);
	ck_assert(!is_synced());
	ck_assert_uint_eq(shard_lagging(world.shard), 1);
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "[3 a=1, 4 a=2]");
	ck_assert_int_eq(seer.revision, 4);
	ck_assert(is_synced());
	watching_put(&world, "a", "x");
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "[3 a=1, 4 a=2][5 a=x]");
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(the_past_is_filtered_as_the_present_is)
{
	struct seer puts = {.watcher = {.no_delete = true}}, prev = {.watcher = {.prev_kv = true}};
	struct seer range = {.hook = NULL};

	watching_put(&world, "a", "1");
	watching_put(&world, "b", "1");
	watching_delete(&world, "a", NULL);
	watching_put(&world, "b", "2");
	seer_watch(&puts, &group, "a", NULL, 1);
	seer_watch(&prev, &group, "b", NULL, 1);
	seer_watch(&range, &group, "b", "", 1);
	watching_settle(&world);
	ck_assert_str_eq(puts.text, "[2 a=1]");
	ck_assert_str_eq(prev.text, "[3 b=1, 5 b=2 was 1]");
	ck_assert_str_eq(range.text, "[3 b=1, 5 b=2]");
	watch_remove(&puts.watcher);
	watch_remove(&prev.watcher);
	watch_remove(&range.watcher);
}
END_TEST

START_TEST(one_without_room_gets_the_rest_when_there_is_some)
{
	struct seer slow = {.hook = NULL}, quick = {.hook = NULL};
	struct seer_group other;

	seer_group_init(&other, &world);
	group.room = 1;
	seer_watch(&slow, &group, "a", NULL, 0);
	seer_watch(&quick, &other, "a", NULL, 0);
	watching_put(&world, "a", "1");
	watching_put(&world, "a", "2");
	watching_put(&world, "a", "3");
	watching_settle(&world);
	ck_assert_str_eq(slow.text, "[2 a=1]");
	ck_assert_str_eq(quick.text, "[2 a=1][3 a=2][4 a=3]");
	ck_assert(!is_synced());
	watching_put(&world, "a", "4");
	watching_settle(&world);
	group.room = 1;
	watch_group_resume(&group.group);
	watching_settle(&world);
	ck_assert_str_eq(slow.text, "[2 a=1][3 a=2, 4 a=3, 5 a=4]");
	ck_assert(is_synced());
	/* It was all in the hub's memory. */
	ck_assert_int_eq(world.requests, 0);
	watch_remove(&slow.watcher);
	watch_remove(&quick.watcher);
}
END_TEST

START_TEST(an_untouched_watcher_of_a_full_group_does_not_lag)
{
	struct seer seer = {.hook = NULL};

	group.room = 0;
	seer_watch(&seer, &group, "a", NULL, 0);
	watching_put(&world, "b", "1");
	watching_settle(&world);
	ck_assert(is_synced());
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(what_the_hub_forgot_comes_from_history)
{
	struct seer seer = {.hook = NULL};

	group.room = 0;
	seer_watch(&seer, &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	put_large("b", 3);
	watching_put(&world, "a", "2");
	watching_settle(&world);
	ck_assert_int_gt(world.hub->ring_first, 2);
	ck_assert_uint_le(world.hub->ring_bytes, RING_BYTES);
	group.room = INT_MAX;
	watch_group_resume(&group.group);
	watching_settle(&world);
	ck_assert_int_gt(world.requests, 0);
	ck_assert_str_eq(seer.text, "[2 a=1, 6 a=2]");
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(what_was_not_kept_comes_from_history)
{
	struct seer seer = {.hook = NULL};

	seer_watch(&seer, &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	watching_settle(&world);
	world.fx.st->keeps_news = false;
	fixture_put(&world.fx, "a", "2");
	watching_publish(&world);
	watching_settle(&world);
	watching_put(&world, "a", "3");
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "[2 a=1][3 a=2][4 a=3]");
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(pairs_before_that_were_not_kept_come_from_history)
{
	struct seer seer = {.watcher = {.prev_kv = true}}, plain = {.hook = NULL};

	seer_watch(&seer, &group, "a", NULL, 0);
	seer_watch(&plain, &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	world.fx.st->keeps_prev = false;
	fixture_put(&world.fx, "a", "2");
	watching_publish(&world);
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "[2 a=1][3 a=2 was 1]");
	ck_assert_str_eq(plain.text, "[2 a=1][3 a=2]");
	watching_put(&world, "a", "3");
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "[2 a=1][3 a=2 was 1][4 a=3 was 2]");
	watch_remove(&seer.watcher);
	watch_remove(&plain.watcher);
}
END_TEST

START_TEST(a_shard_that_did_not_run_for_long_misses_nothing)
{
	enum { COUNT = INBOX_BATCHES + 300 };
	struct seer seer = {.hook = NULL};

	seer_watch(&seer, &group, "a", NULL, 0);
	for (int i = 0; i < COUNT; i++)
		watching_put(&world, "a", "1");
	ck_assert_int_eq(world.wakes, 1);
	ck_assert_uint_le(world.shard->inbox.count, INBOX_BATCHES);
	ck_assert_int_gt(world.shard->inbox.gap_last, 0);
	watching_settle(&world);
	ck_assert_int_eq(seer.events, COUNT);
	ck_assert(is_synced());
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(an_inbox_is_bounded_in_bytes)
{
	struct seer seer = {.hook = NULL};

	seer_watch(&seer, &group, "a", NULL, 0);
	put_large("a", 10);
	ck_assert_uint_le(world.shard->inbox.bytes, INBOX_BYTES);
	ck_assert_int_gt(world.shard->inbox.gap_last, 0);
	watching_settle(&world);
	ck_assert_int_eq(seer.events, 10);
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(a_revision_that_concerns_many_by_much_is_told_all_the_same)
{
	enum { KEYS = 500, COUNT = 2200 };
	static struct seer seers[COUNT];
	const ProtobufCMessage *requests[KEYS];
	struct applied results[KEYS];

	for (int i = 0; i < KEYS; i++)
		requests[i] =
			&make_put(&world.fx.arena, arena_printf(&world.fx.arena, "a%03d", i), "1")->base;
	ck_assert_int_eq(fixture_apply_batch(&world.fx, requests, KEYS, results), STATUS_OK);
	watching_publish(&world);
	for (int i = 0; i < COUNT; i++)
		seer_watch(&seers[i], &group, "a", "b", 0);
	watching_delete(&world, "a", "b");
	watching_settle(&world);
	for (int i = 0; i < COUNT; i++) {
		ck_assert_int_eq(seers[i].events, KEYS);
		ck_assert_int_eq(seers[i].messages, 1);
		watch_remove(&seers[i].watcher);
	}
	/* What that took is not kept. */
	ck_assert_uint_le(world.shard->hit_size, 1 << 14);
}
END_TEST

/* ---- Compaction and failure ---- */

START_TEST(a_compacted_start_is_told_so_whatever_the_hub_remembers)
{
	struct seer keeper = {.hook = NULL}, early = {.hook = NULL}, late = {.hook = NULL};

	seer_watch(&keeper, &group, "a", NULL, 0);
	watching_fill(&world, "a", 4);
	watching_settle(&world);
	fixture_compact(&world.fx, 4);
	seer_watch(&early, &group, "a", NULL, 3);
	seer_watch(&late, &group, "a", NULL, 4);
	ck_assert_str_eq(early.text, "");
	watching_settle(&world);
	ck_assert_str_eq(early.text, "<COMPACTED 4>");
	ck_assert_str_eq(late.text, "[4 a=2, 5 a=3]");
	ck_assert_uint_eq(shard_watchers(world.shard), 2);
	watch_remove(&early.watcher);
	watch_remove(&late.watcher);
	watch_remove(&keeper.watcher);
}
END_TEST

START_TEST(one_that_is_overtaken_by_a_compaction_is_told_so)
{
	struct seer seer = {.hook = NULL};

	group.room = 0;
	seer_watch(&seer, &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	watching_settle(&world);
	put_large("b", 3);
	fixture_compact(&world.fx, 4);
	group.room = INT_MAX;
	watch_group_resume(&group.group);
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "<COMPACTED 4>");
	ck_assert_uint_eq(group.group.lagging_count, 0);
}
END_TEST

static int interrupt(void *arg)
{
	(void)arg;
	return 1;
}

START_TEST(a_history_that_cannot_be_read_ends_the_watch)
{
	struct seer seer = {.hook = NULL}, other = {.hook = NULL};

	watching_fill(&world, "a", 3);
	seer_watch(&other, &group, "a", NULL, 0);
	seer_watch(&seer, &group, "a", NULL, 2);
	/* The thread does not read before it is asked, by the next run. */
	sqlite3_progress_handler(world.hub->catchup.view.db, 1, interrupt, NULL);
	watching_settle(&world);
	ck_assert_ptr_nonnull(strchr(seer.text, '<'));
	ck_assert_uint_eq(shard_watchers(world.shard), 1);
	watch_remove(&other.watcher);
}
END_TEST

/* ---- Sharing and taking turns ---- */

START_TEST(watchers_of_one_past_share_its_slices)
{
	enum { COUNT = 200, REVISIONS = 4000 };
	static struct seer seers[COUNT];

	watching_fill(&world, "a", REVISIONS);
	for (int i = 0; i < COUNT; i++)
		seer_watch(&seers[i], &group, "a", i % 2 == 0 ? NULL : "b", 2);
	watching_settle(&world);
	for (int i = 0; i < COUNT; i++) {
		ck_assert_int_eq(seers[i].events, REVISIONS);
		ck_assert_int_le(seers[i].messages, 10);
		watch_remove(&seers[i].watcher);
	}
	ck_assert_int_le(world.requests, 2 * REVISIONS / SLICE_ROWS);
}
END_TEST

static int order[100], order_count;

static void note_order(struct seer *seer)
{
	order[order_count++ % 100] = *(int *)seer->hook_arg;
}

START_TEST(history_is_read_for_all_in_turn)
{
	enum { REVISIONS = 9000 };
	int numbers[] = {0, 1, 2}, seen[3] = {0};
	struct seer seers[3];

	watching_fill(&world, "a", REVISIONS);
	order_count = 0;
	for (int i = 0; i < 3; i++) {
		seers[i] = (struct seer){.hook = note_order, .hook_arg = &numbers[i]};
		seer_watch(&seers[i], &group, "a", NULL, 2 + i * 1500);
	}
	watching_settle(&world);
	/* As long as all three lag, none is more than a slice ahead. */
	for (int i = 0; i < 12; i++) {
		seen[order[i]]++;
		for (int j = 0; j < 3; j++)
			ck_assert_int_le(seen[j], i / 3 + 1);
	}
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(seers[i].events, REVISIONS - i * 1500);
		watch_remove(&seers[i].watcher);
	}
}
END_TEST

START_TEST(more_spans_than_a_request_holds_are_served_all_the_same)
{
	enum { COUNT = 3 * REQUEST_SPANS, LONG = REQUEST_SPAN_BYTES + 1 };
	static struct seer seers[COUNT];
	static char keys[COUNT][LONG + 1];

	for (int i = 0; i < COUNT; i++) {
		snprintf(keys[i], sizeof keys[i], "%d", i);
		if (i == 0)
			memset(keys[i], 'k', LONG);
		watching_put(&world, keys[i], "1");
	}
	for (int i = 0; i < COUNT; i++)
		seer_watch(&seers[i], &group, keys[i], NULL, 2);
	watching_settle(&world);
	for (int i = 0; i < COUNT; i++) {
		ck_assert_int_eq(seers[i].events, 1);
		watch_remove(&seers[i].watcher);
	}
	ck_assert_int_eq(world.requests, 1);
}
END_TEST

/* ---- Coming and going meanwhile ---- */

static void remove_and_leave_none(struct seer *seer)
{
	watch_remove(&seer->watcher);
	memset(&seer->watcher, 0xee, sizeof seer->watcher);
}

START_TEST(a_lagging_watcher_may_go_in_its_own_callback)
{
	struct seer past = {.hook = remove_and_leave_none}, recent = {.hook = remove_and_leave_none};

	watching_fill(&world, "a", 3);
	seer_watch(&past, &group, "a", NULL, 2);
	watching_settle(&world);
	ck_assert_str_eq(past.text, "[2 a=0, 3 a=1, 4 a=2]");
	group.room = 0;
	seer_watch(&recent, &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	watching_put(&world, "a", "2");
	watching_settle(&world);
	group.room = INT_MAX;
	watch_group_resume(&group.group);
	watching_settle(&world);
	ck_assert_str_eq(recent.text, "[5 a=1, 6 a=2]");
}
END_TEST

static void start_again(struct seer *seer)
{
	seer->hook = NULL;
	watch_remove(&seer->watcher);
	seer_watch(seer, &group, "a", NULL, 2);
}

START_TEST(one_that_starts_again_in_its_callback_starts_again)
{
	struct seer seer = {.hook = NULL};

	group.room = 0;
	seer_watch(&seer, &group, "a", NULL, 0);
	watching_put(&world, "a", "1");
	watching_put(&world, "a", "2");
	watching_settle(&world);
	group.room = INT_MAX;
	seer.hook = start_again;
	watch_group_resume(&group.group);
	watching_settle(&world);
	ck_assert_str_eq(seer.text, "[2 a=1, 3 a=2][2 a=1, 3 a=2]");
	watch_remove(&seer.watcher);
}
END_TEST

START_TEST(a_watcher_may_go_in_any_state)
{
	struct seer seers[4] = {{.hook = NULL}};

	watching_fill(&world, "a", 3000);
	seer_watch(&seers[0], &group, "a", NULL, 2);
	ck_assert_int_eq(seers[0].watcher.state, WATCHER_WAITING);
	watch_remove(&seers[0].watcher);
	seer_watch(&seers[1], &group, "a", NULL, 2);
	shard_run(world.shard);
	ck_assert_int_eq(seers[1].watcher.state, WATCHER_ASKED);
	watch_remove(&seers[1].watcher);
	watching_settle(&world);
	group.room = 0;
	seer_watch(&seers[2], &group, "a", NULL, 2);
	watching_settle(&world);
	ck_assert_int_eq(seers[2].watcher.state, WATCHER_PARKED);
	watch_group_resume(&group.group);
	ck_assert_int_eq(seers[2].watcher.state, WATCHER_READY);
	watch_remove(&seers[2].watcher);
	watching_settle(&world);
	ck_assert_int_eq(group.messages, 0);
}
END_TEST

START_TEST(a_shard_may_go_while_history_is_read_for_it)
{
	struct seer seer = {.hook = NULL};

	watching_fill(&world, "a", 2000);
	for (int i = 0; i < 50; i++) {
		seer_watch(&seer, &group, "a", NULL, 2);
		for (int runs = 0; runs < i % 4; runs++)
			shard_run(world.shard);
		watch_remove(&seer.watcher);
		watching_replace_shard(&world);
		seer_group_init(&group, &world);
	}
}
END_TEST

START_TEST(windows_are_let_go_when_nobody_lags)
{
	struct seer seer = {.hook = NULL};

	watching_fill(&world, "a", 3000);
	seer_watch(&seer, &group, "a", NULL, 2);
	watching_settle(&world);
	ck_assert_int_eq(seer.events, 3000);
	ck_assert_uint_eq(world.shard->past.batch_count + world.shard->recent.batch_count, 0);
	ck_assert_ptr_null(world.shard->past.entries);
	watch_remove(&seer.watcher);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("serve");
	TCase *tcase = tcase_create("serve");

	tcase_set_timeout(tcase, 60);
	tcase_add_checked_fixture(tcase, open_world, close_world);
	tcase_add_test(tcase, one_that_starts_in_the_past_is_told_of_it_later_and_then_of_the_present);
	tcase_add_test(tcase, the_past_is_filtered_as_the_present_is);
	tcase_add_test(tcase, one_without_room_gets_the_rest_when_there_is_some);
	tcase_add_test(tcase, an_untouched_watcher_of_a_full_group_does_not_lag);
	tcase_add_test(tcase, what_the_hub_forgot_comes_from_history);
	tcase_add_test(tcase, what_was_not_kept_comes_from_history);
	tcase_add_test(tcase, pairs_before_that_were_not_kept_come_from_history);
	tcase_add_test(tcase, a_shard_that_did_not_run_for_long_misses_nothing);
	tcase_add_test(tcase, an_inbox_is_bounded_in_bytes);
	tcase_add_test(tcase, a_revision_that_concerns_many_by_much_is_told_all_the_same);
	tcase_add_test(tcase, a_compacted_start_is_told_so_whatever_the_hub_remembers);
	tcase_add_test(tcase, one_that_is_overtaken_by_a_compaction_is_told_so);
	tcase_add_test(tcase, a_history_that_cannot_be_read_ends_the_watch);
	tcase_add_test(tcase, watchers_of_one_past_share_its_slices);
	tcase_add_test(tcase, history_is_read_for_all_in_turn);
	tcase_add_test(tcase, more_spans_than_a_request_holds_are_served_all_the_same);
	tcase_add_test(tcase, a_lagging_watcher_may_go_in_its_own_callback);
	tcase_add_test(tcase, one_that_starts_again_in_its_callback_starts_again);
	tcase_add_test(tcase, a_watcher_may_go_in_any_state);
	tcase_add_test(tcase, a_shard_may_go_while_history_is_read_for_it);
	tcase_add_test(tcase, windows_are_let_go_when_nobody_lags);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
