/* SPDX-License-Identifier: Apache-2.0 */
/* The index of watchers by what they cover, beside a list that is gone through. */
#include <string.h>

#include "lib/prng.h"
#include "lib/test.h"
#include "watch/interval.h"

enum {
	WATCHERS = 400,
	KEY_MAX = 3,
	STEPS = 10000,
};

struct item {
	struct watcher watcher;
	uint8_t key[KEY_MAX], end[KEY_MAX];
	bool is_in;
	int visits;
};

struct found {
	struct item *items[WATCHERS];
	size_t count;
};

static void note(struct watcher *w, void *arg)
{
	struct item *item = (struct item *)w;
	struct found *found = arg;

	item->visits++;
	found->items[found->count++] = item;
}

static void find(const struct interval_index *index, const char *key, struct found *out)
{
	out->count = 0;
	interval_find(index, (const uint8_t *)key, strlen(key), note, out);
}

static void set_span(struct item *item, const char *key, const char *end, size_t end_len)
{
	item->watcher.span = (struct span){
		.key = (const uint8_t *)key,
		.key_len = strlen(key),
		.end = (const uint8_t *)end,
		.end_len = end_len,
	};
	item->is_in = true;
}

START_TEST(a_key_is_found_by_itself_alone)
{
	struct interval_index index;
	struct item item = {.visits = 0};
	struct found found;

	interval_init(&index);
	set_span(&item, "ab", "", 0);
	interval_add(&index, &item.watcher);
	find(&index, "ab", &found);
	ck_assert_uint_eq(found.count, 1);
	find(&index, "a", &found);
	ck_assert_uint_eq(found.count, 0);
	find(&index, "abc", &found);
	ck_assert_uint_eq(found.count, 0);
	interval_remove(&index, &item.watcher);
	item.is_in = false;
	find(&index, "ab", &found);
	ck_assert_uint_eq(found.count, 0);
	interval_release(&index);
}
END_TEST

START_TEST(a_range_holds_its_start_and_not_its_end)
{
	struct interval_index index;
	struct item item = {.visits = 0};
	struct found found;

	interval_init(&index);
	set_span(&item, "b", "d", 1);
	interval_add(&index, &item.watcher);
	find(&index, "b", &found);
	ck_assert_uint_eq(found.count, 1);
	find(&index, "czz", &found);
	ck_assert_uint_eq(found.count, 1);
	find(&index, "d", &found);
	ck_assert_uint_eq(found.count, 0);
	find(&index, "a", &found);
	ck_assert_uint_eq(found.count, 0);
	interval_release(&index);
}
END_TEST

START_TEST(an_open_range_has_no_end)
{
	struct interval_index index;
	struct item item = {.visits = 0};
	struct found found;

	interval_init(&index);
	set_span(&item, "b", "", 1);
	interval_add(&index, &item.watcher);
	find(&index, "\xff\xff\xff", &found);
	ck_assert_uint_eq(found.count, 1);
	find(&index, "a", &found);
	ck_assert_uint_eq(found.count, 0);
	interval_release(&index);
}
END_TEST

START_TEST(watchers_of_one_span_are_all_found_in_any_order_of_leaving)
{
	static struct item singles[100], ranges[100];
	struct interval_index index;
	struct found found;

	interval_init(&index);
	for (size_t i = 0; i < 100; i++) {
		set_span(&singles[i], "k", "", 0);
		set_span(&ranges[i], "a", "z", 1);
		interval_add(&index, &singles[i].watcher);
		interval_add(&index, &ranges[i].watcher);
	}
	for (size_t i = 0; i < 100; i++) {
		size_t leaving = i * 37 % 100;

		find(&index, "k", &found);
		ck_assert_uint_eq(found.count, 2 * (100 - i));
		interval_remove(&index, &singles[leaving].watcher);
		interval_remove(&index, &ranges[leaving].watcher);
		singles[leaving].is_in = ranges[leaving].is_in = false;
	}
	find(&index, "k", &found);
	ck_assert_uint_eq(found.count, 0);
	interval_release(&index);
}
END_TEST

static size_t draw_bytes(struct prng *prng, uint8_t *bytes)
{
	size_t len = 1 + prng_below(prng, KEY_MAX);

	for (size_t i = 0; i < len; i++)
		bytes[i] = prng_chance(prng, 10) ? (prng_chance(prng, 50) ? 0 : 0xff)
		                                 : (uint8_t)('a' + prng_below(prng, 4));
	return len;
}

/* Ranges may be empty too: they hold nothing. */
static void draw_span(struct prng *prng, struct item *item)
{
	struct span *span = &item->watcher.span;

	*span = (struct span){.key = item->key, .end = item->end};
	span->key_len = draw_bytes(prng, item->key);
	switch (prng_below(prng, 5)) {
	case 0:
	case 1:
		break;
	case 2:
		item->end[0] = 0;
		span->end_len = 1;
		break;
	default:
		span->end_len = draw_bytes(prng, item->end);
	}
}

static void check_key(const struct interval_index *index, struct item *items, const uint8_t *key,
                      size_t len)
{
	struct found found = {.count = 0};
	bool same = true;

	interval_find(index, key, len, note, &found);
	for (size_t i = 0; i < WATCHERS; i++) {
		bool is_wanted = items[i].is_in && span_contains(&items[i].watcher.span, key, len);

		same = same && items[i].visits == is_wanted;
		items[i].visits = 0;
	}
	ck_assert(same);
}

START_TEST(random_spans_are_found_as_in_a_list)
{
	static struct item items[WATCHERS];
	struct interval_index index;
	struct prng prng;

	prng_init(&prng, prng_seed("check_interval"));
	interval_init(&index);
	for (int step = 0; step < STEPS; step++) {
		struct item *item = &items[prng_below(&prng, WATCHERS)];
		uint8_t key[KEY_MAX];
		size_t len = draw_bytes(&prng, key);

		if (item->is_in) {
			interval_remove(&index, &item->watcher);
		} else {
			draw_span(&prng, item);
			interval_add(&index, &item->watcher);
		}
		item->is_in = !item->is_in;
		check_key(&index, items, key, len);
	}
	interval_release(&index);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("interval");
	TCase *tc = tcase_create("interval");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_key_is_found_by_itself_alone);
	tcase_add_test(tc, a_range_holds_its_start_and_not_its_end);
	tcase_add_test(tc, an_open_range_has_no_end);
	tcase_add_test(tc, watchers_of_one_span_are_all_found_in_any_order_of_leaving);
	tcase_add_test(tc, random_spans_are_found_as_in_a_list);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
