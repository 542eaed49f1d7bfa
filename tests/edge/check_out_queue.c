/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/out_queue.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/prng.h"
#include "lib/test.h"
#include "state/event.h"

enum { LARGE_BYTES = 100000, ROUNDS = 3000, PERIOD = 251, LONGEST_BYTES = 20000, ROOM_BYTES = 65536 };

static int ends[2]; /* ends[0] is sent to */
static struct out_queue queue;

static void start(void)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	ck_assert_int_eq(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	out_queue_init(&queue);
}

static void stop(void)
{
	out_queue_release(&queue);
	close(ends[0]);
	close(ends[1]);
}

static size_t receive(char *to, size_t size)
{
	size_t len = 0;
	ssize_t got;

	while (len < size && (got = recv(ends[1], to + len, size - len, 0)) > 0)
		len += (size_t)got;
	return len;
}

START_TEST(what_is_added_is_sent_in_order)
{
	char got[64];

	out_queue_append_text(&queue, "one ");
	out_queue_append(&queue, "two", 3);
	out_queue_append(&queue, "", 0);
	ck_assert_uint_eq(queue.len, 7);
	ck_assert_int_eq(out_queue_send(&queue, ends[0]), OUT_EMPTY);
	ck_assert_uint_eq(queue.len, 0);
	ck_assert_ptr_null(queue.first);
	ck_assert_uint_eq(receive(got, sizeof got), 7);
	ck_assert_mem_eq(got, "one two", 7);
}
END_TEST

START_TEST(an_empty_queue_sends_nothing)
{
	close(ends[1]);
	ck_assert_int_eq(out_queue_send(&queue, ends[0]), OUT_EMPTY);
}
END_TEST

START_TEST(a_broken_connection_is_told)
{
	close(ends[1]);
	out_queue_append_text(&queue, "lost");
	ck_assert_int_eq(out_queue_send(&queue, ends[0]), OUT_LOST);
}
END_TEST

START_TEST(a_batch_is_held_until_its_bytes_are_sent)
{
	static uint8_t bytes[LARGE_BYTES];
	static char got[LARGE_BYTES];
	struct event_batch *batch = event_batch_new();
	size_t sent = 0;

	out_queue_append_shared(&queue, batch, bytes, 100);
	ck_assert_int_eq(atomic_load(&batch->refs), 1); /* it was copied */
	while (out_queue_send(&queue, ends[0]) == OUT_EMPTY)
		out_queue_append_shared(&queue, batch, bytes, sizeof bytes);
	ck_assert_int_eq(atomic_load(&batch->refs), 2);
	out_queue_append_shared(&queue, batch, bytes, sizeof bytes);
	ck_assert_int_eq(atomic_load(&batch->refs), 3);
	while (out_queue_send(&queue, ends[0]) == OUT_FULL)
		sent += receive(got, sizeof got);
	ck_assert_uint_gt(sent, 0);
	ck_assert_int_eq(atomic_load(&batch->refs), 1);
	event_batch_release(batch);
}
END_TEST

START_TEST(a_release_lets_batches_go)
{
	static uint8_t bytes[LARGE_BYTES];
	struct event_batch *batch = event_batch_new();

	out_queue_append_text(&queue, "head");
	out_queue_append_shared(&queue, batch, bytes, sizeof bytes);
	out_queue_release(&queue);
	ck_assert_int_eq(atomic_load(&batch->refs), 1);
	ck_assert_uint_eq(queue.len, 0);
	event_batch_release(batch);
}
END_TEST

/* Receives some bytes and checks that each is the one at its place; returns how many. */
static size_t receive_pattern(uint64_t place, size_t size)
{
	static char got[ROOM_BYTES];
	size_t len = receive(got, size);
	bool is_right = true;

	for (size_t i = 0; i < len; i++)
		is_right = is_right && (uint8_t)got[i] == (place + i) % PERIOD;
	ck_assert(is_right);
	return len;
}

/* Appends of all sizes, sends and receives by chance. */
START_TEST(nothing_is_lost_or_doubled)
{
	static uint8_t pattern[PERIOD + LONGEST_BYTES];
	struct event_batch *batch = event_batch_new();
	uint64_t in = 0, out = 0;
	struct prng prng;

	prng_init(&prng, prng_seed("out_queue"));
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (uint8_t)(i % PERIOD);
	for (int round = 0; round < ROUNDS || out < in; round++) {
		size_t len = prng_below(&prng, prng_chance(&prng, 50) ? 50 : LONGEST_BYTES);

		if (round >= ROUNDS)
			len = 0;
		if (prng_chance(&prng, 50))
			out_queue_append(&queue, pattern + in % PERIOD, len);
		else
			out_queue_append_shared(&queue, batch, pattern + in % PERIOD, len);
		in += len;
		if (prng_chance(&prng, 50))
			ck_assert_int_ne(out_queue_send(&queue, ends[0]), OUT_LOST);
		out += receive_pattern(out, prng_below(&prng, ROOM_BYTES));
		ck_assert_uint_le(out + queue.len, in);
	}
	ck_assert_uint_eq(out, in);
	ck_assert_int_eq(atomic_load(&batch->refs), 1);
	event_batch_release(batch);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("out_queue");
	TCase *tcase = tcase_create("out_queue");

	tcase_add_checked_fixture(tcase, start, stop);
	tcase_add_test(tcase, what_is_added_is_sent_in_order);
	tcase_add_test(tcase, an_empty_queue_sends_nothing);
	tcase_add_test(tcase, a_broken_connection_is_told);
	tcase_add_test(tcase, a_batch_is_held_until_its_bytes_are_sent);
	tcase_add_test(tcase, a_release_lets_batches_go);
	tcase_add_test(tcase, nothing_is_lost_or_doubled);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
