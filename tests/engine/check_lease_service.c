/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Lease service on a real engine. Time is hurried by ticking the engine's
 * lessor, so that nothing here waits for a lease to be due.
 */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "engine/internal.h"
#include "engine/lessor.h"
#include "lib/fault_vfs.h"
#include "lib/fixture.h"
#include "lib/station.h"
#include "lib/test.h"
#include "state/lease.h"

enum {
	MANY = 10000,
	BODY_MESSAGES = 10000, /* keep-alives that one HTTP body may hold */
	PATH_BYTES = 700,
};

/* ---- Calls in few words ---- */

static struct call *grant(struct station *station, int64_t id, int64_t ttl_sec)
{
	Pb__LeaseGrantRequest *request = arena_alloc(&station->arena, sizeof *request);

	pb__lease_grant_request__init(request);
	request->id = id;
	request->ttl = ttl_sec;
	return station_call(station, "Lease", "LeaseGrant", &request->base);
}

static enum status_code try_grant(struct station *station, int64_t id, int64_t ttl_sec)
{
	struct call *call = grant(station, id, ttl_sec);
	enum status_code status = call->status.code;

	call_free(call);
	return status;
}

static enum status_code revoke(struct station *station, int64_t id)
{
	Pb__LeaseRevokeRequest request = PB__LEASE_REVOKE_REQUEST__INIT;
	struct call *call;
	enum status_code status;

	request.id = id;
	call = station_call(station, "Lease", "LeaseRevoke", &request.base);
	status = call->status.code;
	call_free(call);
	return status;
}

static struct call *look(struct station *station, int64_t id, bool keys)
{
	Pb__LeaseTimeToLiveRequest *request = arena_alloc(&station->arena, sizeof *request);
	struct call *call;

	pb__lease_time_to_live_request__init(request);
	request->id = id;
	request->keys = keys;
	call = station_call(station, "Lease", "LeaseTimeToLive", &request->base);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	return call;
}

static int64_t time_to_live(struct station *station, int64_t id)
{
	struct call *call = look(station, id, false);
	int64_t ttl_sec = ((const Pb__LeaseTimeToLiveResponse *)call->response)->ttl;

	call_free(call);
	return ttl_sec;
}

static struct call *list(struct station *station)
{
	static const Pb__LeaseLeasesRequest request = PB__LEASE_LEASES_REQUEST__INIT;
	struct call *call = station_call(station, "Lease", "LeaseLeases", &request.base);

	ck_assert_int_eq(call->status.code, STATUS_OK);
	return call;
}

static int64_t count_keys(struct station *station)
{
	Pb__RangeRequest *request = make_range(&station->arena, NULL, NULL);
	struct call *call;
	int64_t count;

	request->key = request->range_end = make_open_end(&station->arena);
	request->count_only = true;
	call = station_call(station, "KV", "Range", &request->base);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	count = ((const Pb__RangeResponse *)call->response)->count;
	call_free(call);
	return count;
}

static void keep_alive(struct tape *tape, int64_t id)
{
	Pb__LeaseKeepAliveRequest request = PB__LEASE_KEEP_ALIVE_REQUEST__INIT;

	request.id = id;
	tape_send(tape, &request.base);
}

/* Renews on a stream of its own. */
static void renew(struct station *station, int64_t id)
{
	struct tape tape;

	tape_open(&tape, station, "Lease", "LeaseKeepAlive");
	keep_alive(&tape, id);
	tape_next(&tape);
	tape_close(&tape);
}

static void await_end(struct tape *tape)
{
	while (!tape->ended)
		station_turn(tape->station);
}

/* Moves the lessor's clock on: no step counts for more than a second. */
static void hurry(struct engine *engine, int64_t seconds)
{
	for (int64_t i = 0; i < 2 * seconds; i++) {
		lessor_tick(engine->lessor, clock_ms(), false);
		lessor_tick(engine->lessor, clock_ms() + 500, false);
	}
}

static void await_leases(struct station *station, size_t count)
{
	while (lessor_count(station->engine->lessor) != count)
		station_turn(station);
}

/* ---- Grant, revoke, time to live, list ---- */

START_TEST(a_grant_has_the_id_it_asks_for_or_one_that_is_drawn)
{
	struct station station;
	struct call *call;
	int64_t drawn;

	station_open(&station, NULL);
	call = grant(&station, -5, 100);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	ck_assert_int_eq(((Pb__LeaseGrantResponse *)call->response)->id, -5);
	ck_assert_int_eq(((Pb__LeaseGrantResponse *)call->response)->ttl, 100);
	call_free(call);
	call = grant(&station, 0, 1);
	ck_assert_int_eq(call->status.code, STATUS_OK);
	drawn = ((Pb__LeaseGrantResponse *)call->response)->id;
	ck_assert_int_gt(drawn, 0);
	ck_assert_int_eq(((Pb__LeaseGrantResponse *)call->response)->ttl, 2);
	call_free(call);
	ck_assert_int_eq(try_grant(&station, drawn, 100), STATUS_LEASE_EXISTS);
	ck_assert_int_eq(try_grant(&station, 7, INT64_C(9000000000)), STATUS_OK);
	ck_assert_int_eq(try_grant(&station, 8, INT64_C(9000000001)), STATUS_LEASE_TTL_TOO_LARGE);
	ck_assert_int_eq(try_grant(&station, 7, INT64_MAX), STATUS_LEASE_TTL_TOO_LARGE);
	station_close(&station);
}
END_TEST

START_TEST(a_grant_over_the_quota_is_refused)
{
	struct station station;

	station_open(&station, NULL);
	station.config.quota_backend_bytes = 1;
	ck_assert_int_eq(try_grant(&station, 7, 100), STATUS_NO_SPACE);
	/* Before all else, as a put. */
	ck_assert_int_eq(try_grant(&station, 7, INT64_MAX), STATUS_NO_SPACE);
	station.config.quota_backend_bytes = -1;
	ck_assert_int_eq(try_grant(&station, 7, 100), STATUS_NO_SPACE); /* the alarm is in force */
	station_close(&station);
}
END_TEST

START_TEST(a_revoked_lease_takes_its_keys_with_it)
{
	struct station station;

	station_open(&station, NULL);
	station_grant(&station, 7, 100);
	station_put_leased(&station, "a", "1", 7);
	station_put_leased(&station, "b", "1", 7);
	station_put(&station, "c", "1");
	ck_assert_int_eq(revoke(&station, 7), STATUS_OK);
	ck_assert_int_eq(count_keys(&station), 1);
	ck_assert_int_eq(revoke(&station, 7), STATUS_LEASE_NOT_FOUND);
	ck_assert_int_eq(time_to_live(&station, 7), -1);
	station_close(&station);
}
END_TEST

START_TEST(time_to_live_tells_whole_seconds_and_the_keys_when_asked)
{
	const Pb__LeaseTimeToLiveResponse *response;
	struct station station;
	struct call *call;
	char key[16];

	station_open(&station, NULL);
	station_grant(&station, 7, 100);
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof key, "key%03d", i);
		station_put_leased(&station, key, "1", 7);
	}
	hurry(station.engine, 10);
	call = look(&station, 7, true);
	response = (const Pb__LeaseTimeToLiveResponse *)call->response;
	ck_assert_int_eq(response->id, 7);
	ck_assert_int_eq(response->grantedttl, 100);
	ck_assert_int_le(response->ttl, 90);
	ck_assert_int_ge(response->ttl, 80);
	ck_assert_int_eq(response->header->revision, 201);
	ck_assert_uint_eq(response->n_keys, 200);
	ck_assert_mem_eq(response->keys[199].data, "key199", 6);
	call_free(call);
	call = look(&station, 7, false);
	ck_assert_uint_eq(((const Pb__LeaseTimeToLiveResponse *)call->response)->n_keys, 0);
	call_free(call);
	station_close(&station);
}
END_TEST

START_TEST(of_an_unknown_lease_the_time_to_live_is_minus_one)
{
	const Pb__LeaseTimeToLiveResponse *response;
	struct station station;
	struct call *call;

	station_open(&station, NULL);
	call = look(&station, 99, true);
	response = (const Pb__LeaseTimeToLiveResponse *)call->response;
	ck_assert_int_eq(response->id, 99);
	ck_assert_int_eq(response->ttl, -1);
	ck_assert_int_eq(response->grantedttl, 0);
	ck_assert_uint_eq(response->n_keys, 0);
	call_free(call);
	station_close(&station);
}
END_TEST

START_TEST(leases_are_listed_by_expiry_few_or_many)
{
	const Pb__LeaseLeasesResponse *response;
	struct station station;
	struct call *call;

	station_open(&station, NULL);
	call = list(&station);
	ck_assert_uint_eq(((const Pb__LeaseLeasesResponse *)call->response)->n_leases, 0);
	call_free(call);
	for (int64_t i = 0; i < 150; i++) {
		station_grant(&station, 1000 + i, 1000 - i);
		if (i != 2 && i != 149)
			continue;
		call = list(&station);
		response = (const Pb__LeaseLeasesResponse *)call->response;
		ck_assert_uint_eq(response->n_leases, (size_t)i + 1);
		for (int64_t at = 0; at <= i; at++)
			ck_assert_int_eq(response->leases[at]->id, 1000 + i - at);
		call_free(call);
	}
	station_close(&station);
}
END_TEST

/* ---- Keep-alive ---- */

START_TEST(each_keep_alive_is_answered_in_its_turn)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	station_grant(&station, 2, 30);
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	keep_alive(&tape, 1);
	keep_alive(&tape, 77);
	keep_alive(&tape, 2);
	keep_alive(&tape, 0);
	keep_alive(&tape, 1);
	ck_assert_str_eq(tape_next(&tape),
	                 "{\"header\":{\"revision\":\"1\"},\"ID\":\"1\",\"TTL\":\"600\"}");
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"1\"},\"ID\":\"77\"}");
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"1\"},\"ID\":\"2\",\"TTL\":\"30\"}");
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"1\"}}");
	ck_assert_str_eq(tape_next(&tape),
	                 "{\"header\":{\"revision\":\"1\"},\"ID\":\"1\",\"TTL\":\"600\"}");
	ck_assert(!tape.ended);
	stream_end_requests(&tape.stream);
	ck_assert(tape.ended);
	ck_assert_int_eq(tape.status.code, STATUS_OK);
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_stream_that_has_ended_its_requests_ends_after_the_last_answer)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	keep_alive(&tape, 1);
	keep_alive(&tape, 1);
	stream_end_requests(&tape.stream);
	await_end(&tape);
	ck_assert_uint_eq(tape.count, 2);
	ck_assert_int_eq(tape.status.code, STATUS_OK);
	tape_close(&tape);
	station_close(&station);
}
END_TEST

/* The first goes at once, and the rest in few records. */
START_TEST(keep_alives_that_come_together_share_a_record)
{
	struct station station;
	struct tape tapes[3];
	int64_t offset, records = metric_value(METRIC_RENEWAL_IDS),
			renewed = metric_value(METRIC_LEASES_RENEWED);

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	station_grant(&station, 2, 300);
	for (size_t i = 0; i < 3; i++)
		tape_open(&tapes[i], &station, "Lease", "LeaseKeepAlive");
	offset = atomic_load(&station.engine->applied_offset);
	for (int i = 0; i < 3000; i++)
		keep_alive(&tapes[i % 3], 1 + i % 2);
	for (int i = 0; i < 3000; i++)
		ck_assert_str_eq(
			tape_next(&tapes[i % 3]),
			i % 2 == 0 ? "{\"header\":{\"revision\":\"1\"},\"ID\":\"1\",\"TTL\":\"600\"}"
				   : "{\"header\":{\"revision\":\"1\"},\"ID\":\"2\",\"TTL\":\"300\"}");
	ck_assert_int_le(atomic_load(&station.engine->applied_offset) - offset, 3);
	ck_assert_int_le(metric_value(METRIC_RENEWAL_IDS) - records, 3);
	ck_assert_int_eq(metric_value(METRIC_LEASES_RENEWED) - renewed, 3000);
	for (size_t i = 0; i < 3; i++)
		tape_close(&tapes[i]);
	station_close(&station);
}
END_TEST

START_TEST(answers_wait_until_the_client_keeps_up)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	tape.full = true;
	keep_alive(&tape, 1);
	keep_alive(&tape, 1);
	renew(&station, 1); /* which is behind them */
	ck_assert(tape_is_silent(&tape));
	tape.full = false;
	stream_resume(&tape.stream);
	ck_assert_uint_eq(tape.count, 2);
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_client_that_reads_no_answers_is_refused_in_the_end)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	tape.full = true;
	for (int i = 0; i < BODY_MESSAGES; i++)
		keep_alive(&tape, 1);
	ck_assert(!tape.ended);
	for (int i = 0; i < BODY_MESSAGES && !tape.ended; i++)
		keep_alive(&tape, 1);
	ck_assert(tape.ended);
	ck_assert_int_eq(tape.status.code, STATUS_TOO_MANY_REQUESTS);
	tape_close(&tape);
	station_close(&station);
}
END_TEST

START_TEST(a_stream_may_close_with_keep_alives_under_way)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	for (int i = 0; i < 100; i++)
		keep_alive(&tape, 1);
	tape_close(&tape);
	renew(&station, 1);
	station_close(&station);
}
END_TEST

START_TEST(a_reader_may_go_with_keep_alives_under_way)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	for (int i = 0; i < 100; i++)
		keep_alive(&tape, 1);
	tape_close(&tape);
	engine_reader_free(station.reader);
	engine_drain(station.engine);
	engine_stop(station.engine);
	log_close(&station.log->base);
	store_close(station.store);
	arena_release(&station.arena);
}
END_TEST

START_TEST(a_keep_alive_after_the_drain_ends_its_stream)
{
	struct station station;
	struct tape tape;

	station_open(&station, NULL);
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	engine_drain(station.engine);
	keep_alive(&tape, 1);
	ck_assert(tape.ended);
	ck_assert_int_eq(tape.status.code, STATUS_STOPPED);
	tape_close(&tape);
	station_close(&station);
}
END_TEST

/* ---- Expiry ---- */

START_TEST(a_lease_that_is_over_takes_its_keys_with_it)
{
	struct station station;
	int64_t granted_ms;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	granted_ms = clock_ms();
	station_grant(&station, 2, 2);
	station_put_leased(&station, "a", "1", 1);
	station_put_leased(&station, "b", "1", 2);
	station_put_leased(&station, "c", "1", 2);
	await_leases(&station, 1); /* in its own time: that is 2 seconds, and not much more */
	ck_assert_int_ge(clock_ms() - granted_ms, 2000);
	ck_assert_int_lt(clock_ms() - granted_ms, 4000);
	ck_assert_int_eq(count_keys(&station), 1);
	ck_assert_int_eq(atomic_load(&station.engine->revision), 5);
	ck_assert_int_eq(time_to_live(&station, 2), -1);
	station_close(&station);
}
END_TEST

START_TEST(a_renewed_lease_lives_on)
{
	struct station station;

	station_open(&station, NULL);
	station_grant(&station, 1, 60);
	station_grant(&station, 2, 60);
	hurry(station.engine, 40);
	renew(&station, 1);
	ck_assert_int_ge(time_to_live(&station, 1), 50);
	ck_assert_int_le(time_to_live(&station, 2), 20);
	hurry(station.engine, 30);
	await_leases(&station, 1);
	ck_assert_int_ge(time_to_live(&station, 1), 15);
	station_close(&station);
}
END_TEST

/* The renewal that a lease was last seen with. */
static int64_t renewal_of(struct station *station)
{
	int64_t id, renewal, remaining;

	hurry(station->engine, 2);
	ck_assert_uint_eq(
		lessor_take_unrecorded(station->engine->lessor, true, 1, &id, &renewal, &remaining), 1);
	return renewal;
}

START_TEST(an_expiry_that_a_renewal_came_before_does_nothing)
{
	Pb__LeaseExpire request = PB__LEASE_EXPIRE__INIT;
	struct station station;
	int64_t id = 1, renewal;

	station_open(&station, NULL);
	station_grant(&station, 1, 600);
	renewal = renewal_of(&station);
	renew(&station, 1);
	request.ids = &id;
	request.renewals = &renewal;
	request.n_ids = request.n_renewals = 1;
	ck_assert_int_eq(propose_internal(station.engine, &request.base, NULL), STATUS_OK);
	station_put(&station, "a", "1"); /* which is behind it */
	ck_assert_int_ge(time_to_live(&station, 1), 590);
	/* The one that names it does. */
	renewal = renewal_of(&station);
	ck_assert_int_eq(propose_internal(station.engine, &request.base, NULL), STATUS_OK);
	station_put(&station, "a", "2");
	ck_assert_int_eq(time_to_live(&station, 1), -1);
	station_close(&station);
}
END_TEST

START_TEST(thousands_that_are_due_at_once_go_soon_and_let_puts_through)
{
	struct station station;
	struct errand *errands = calloc(MANY, sizeof *errands);
	int64_t due_ms, longest_ms = 0;

	ck_assert_ptr_nonnull(errands);
	station_open(&station, NULL);
	for (int64_t i = 0; i < MANY; i++) {
		Pb__LeaseGrantRequest *request = arena_alloc(&station.arena, sizeof *request);

		pb__lease_grant_request__init(request);
		request->id = i + 1;
		request->ttl = 60;
		errand_start(&errands[i], &station, "Lease", "LeaseGrant", &request->base, 0);
	}
	for (size_t i = 0; i < MANY; i++)
		call_free(errand_await(&errands[i]));
	ck_assert_uint_eq(lessor_count(station.engine->lessor), MANY);
	due_ms = clock_ms();
	hurry(station.engine, 70);
	while (lessor_count(station.engine->lessor) > 0) {
		int64_t put_ms = clock_ms();

		station_put(&station, "a", "1");
		if (clock_ms() - put_ms > longest_ms)
			longest_ms = clock_ms() - put_ms;
	}
	printf("%d leases went in %d ms; the longest put took %d ms\n", MANY, (int)(clock_ms() - due_ms),
	       (int)longest_ms);
	ck_assert_int_lt(clock_ms() - due_ms, 20000); /* a slow machine under a checker */
	ck_assert_int_lt(longest_ms, 2000);
	free(errands);
	station_close(&station);
}
END_TEST

START_TEST(a_lease_with_very_many_keys_ends_and_so_does_its_neighbour)
{
	static struct errand errands[MANY];
	struct station station;
	char key[16];

	station_open(&station, NULL);
	station_grant(&station, 1, 60);
	station_grant(&station, 2, 60);
	station_grant(&station, 3, 600);
	for (int i = 0; i < MANY; i++) {
		Pb__PutRequest *request;

		snprintf(key, sizeof key, "key%05d", i);
		request = make_put(&station.arena, key, "1");
		request->lease = 1;
		errand_start(&errands[i], &station, "KV", "Put", &request->base, 0);
	}
	for (int i = 0; i < MANY; i++)
		call_free(errand_await(&errands[i]));
	station_put_leased(&station, "a", "1", 2);
	station_put_leased(&station, "b", "1", 3);
	ck_assert_int_eq(count_keys(&station), MANY + 2);
	hurry(station.engine, 70);
	await_leases(&station, 1);
	ck_assert_int_eq(count_keys(&station), 1);
	station_close(&station);
}
END_TEST

static int64_t remaining_ms(struct station *station, int64_t id)
{
	int64_t ttl_sec, remaining = -1;

	lessor_find(station->engine->lessor, id, &ttl_sec, &remaining);
	return remaining;
}

/* Goes on for so many of the housekeeper's ticks. */
static void idle(struct station *station, int64_t ms)
{
	int64_t until_ms = clock_ms() + ms;

	while (clock_ms() < until_ms)
		station_turn(station);
}

START_TEST(time_stands_still_while_nothing_can_be_written)
{
	struct fault full = {.calls = FAULT_WRITE, .at = 1, .from_then_on = true, .code = SQLITE_FULL};
	struct station station;
	struct tape tape;
	int64_t left_ms;

	fault_vfs_start(fixture_path("station"));
	station_open_on(&station, fixture_path("station"), FAULT_VFS);
	station_grant(&station, 1, 600);
	hurry(station.engine, 10);
	fault_vfs_plan(&full);
	ck_assert_int_eq(try_grant(&station, 2, 600), STATUS_DISK_FULL);
	idle(&station, 200); /* the ticks know of it */
	left_ms = remaining_ms(&station, 1);
	idle(&station, 500);
	ck_assert_int_eq(remaining_ms(&station, 1), left_ms);
	/* A renewal cannot be kept, and its client hears of that. */
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	keep_alive(&tape, 1);
	await_end(&tape);
	ck_assert_int_eq(tape.status.code, STATUS_DISK_FULL);
	ck_assert_uint_eq(tape.count, 0);
	tape_close(&tape);
	ck_assert_int_eq(remaining_ms(&station, 1), left_ms);
	fault_vfs_plan(NULL);
	ck_assert_int_eq(try_grant(&station, 2, 600), STATUS_OK);
	while (remaining_ms(&station, 1) == left_ms)
		station_turn(&station);
	renew(&station, 1);
	ck_assert_int_gt(remaining_ms(&station, 1), left_ms);
	station_close(&station);
}
END_TEST

/* Behind a stalled put are two records of renewals, so that the third renewal has
 * to wait; its lease is due long before they are through. */
START_TEST(a_renewal_that_waits_for_a_slow_disk_is_in_time)
{
	struct station station;
	struct errand put;
	struct tape tape;

	fault_vfs_start(fixture_path("station"));
	station_open_on(&station, fixture_path("station"), FAULT_VFS);
	station_grant(&station, 1, 600);
	tape_open(&tape, &station, "Lease", "LeaseKeepAlive");
	station_grant(&station, 2, 2);
	fault_vfs_stall(FAULT_SYNC);
	errand_start(&put, &station, "KV", "Put", &make_put(&station.arena, "a", "1")->base, 0);
	keep_alive(&tape, 1);
	keep_alive(&tape, 1);
	keep_alive(&tape, 2);
	idle(&station, 2500);
	fault_vfs_stall(0);
	call_free(errand_await(&put));
	tape_next(&tape);
	tape_next(&tape);
	ck_assert_str_eq(tape_next(&tape), "{\"header\":{\"revision\":\"1\"},\"ID\":\"2\",\"TTL\":\"2\"}");
	await_leases(&station, 1); /* time goes on again */
	tape_close(&tape);
	station_close(&station);
}
END_TEST

/* ---- Restart ---- */

START_TEST(a_restart_keeps_what_was_left)
{
	struct station station;
	char dir[sizeof station.dir];

	station_open(&station, NULL);
	memcpy(dir, station.dir, sizeof dir);
	station_grant(&station, 1, 600);
	station_grant(&station, 2, 50);
	hurry(station.engine, 40);
	renew(&station, 1);
	station_close(&station);
	station_open(&station, dir);
	ck_assert_int_ge(time_to_live(&station, 1), 590);
	ck_assert_int_le(time_to_live(&station, 2), 10);
	ck_assert_int_ge(time_to_live(&station, 2), 1);
	hurry(station.engine, 20);
	await_leases(&station, 1);
	station_close(&station);
}
END_TEST

/* What is on disk now, as a crash would leave it. */
static void copy_files(const char *from, const char *to)
{
	DIR *dir = opendir(from);
	struct dirent *entry;

	ck_assert_ptr_nonnull(dir);
	ck_assert_int_eq(mkdir(to, 0700), 0);
	while ((entry = readdir(dir)) != NULL) {
		char path[PATH_BYTES], copy[PATH_BYTES], block[4096];
		FILE *in, *out;
		size_t len;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "%s/%s", from, entry->d_name);
		snprintf(copy, sizeof copy, "%s/%s", to, entry->d_name);
		in = fopen(path, "rb");
		out = fopen(copy, "wb");
		ck_assert(in != NULL && out != NULL);
		while ((len = fread(block, 1, sizeof block, in)) > 0)
			ck_assert_uint_eq(fwrite(block, 1, len, out), len);
		fclose(in);
		ck_assert_int_eq(fclose(out), 0);
	}
	closedir(dir);
}

START_TEST(after_a_crash_a_lease_has_its_full_time_or_what_was_recorded)
{
	struct station station;
	char copy[sizeof station.dir];

	station_open(&station, NULL);
	snprintf(copy, sizeof copy, "%s", fixture_path("crashed"));
	station_grant(&station, 1, 50);
	station_grant(&station, 2, 600);
	hurry(station.engine, 40);
	ck_assert_int_le(time_to_live(&station, 1), 10);
	station_put(&station, "a", "1");
	copy_files(station.dir, copy);
	station_close(&station);
	station_open(&station, copy);
	ck_assert_int_ge(time_to_live(&station, 1), 40);
	ck_assert_int_ge(time_to_live(&station, 2), 590);
	hurry(station.engine, 300);
	await_leases(&station, 1);
	expiry_record(station.engine, false);
	station_put(&station, "a", "2");
	snprintf(copy, sizeof copy, "%s", fixture_path("crashed again"));
	copy_files(station.dir, copy);
	station_close(&station);
	station_open(&station, copy);
	ck_assert_int_eq(time_to_live(&station, 1), -1);
	ck_assert_int_le(time_to_live(&station, 2), 300);
	ck_assert_int_ge(time_to_live(&station, 2), 280);
	station_close(&station);
}
END_TEST

struct hurrying {
	struct engine *engine;
	_Atomic bool begun, over;
};

static void *hurry_on(void *arg)
{
	struct hurrying *hurrying = arg;

	while (!atomic_load(&hurrying->over)) {
		hurry(hurrying->engine, 1);
		atomic_store(&hurrying->begun, true);
	}
	return NULL;
}

/* More than fit in a record, and less is left of each at every look. */
START_TEST(the_last_record_ends_though_time_goes_on)
{
	struct hurrying hurrying = {.begun = false};
	struct lease_note *notes = calloc(MANY, sizeof *notes);
	struct station station;
	pthread_t thread;
	int64_t offset;

	ck_assert_ptr_nonnull(notes);
	station_open(&station, NULL);
	for (int64_t i = 0; i < MANY; i++)
		notes[i] = (struct lease_note){
			.deed = LEASE_GRANTED, .id = i + 1, .ttl_sec = LEASE_MAX_TTL_SEC};
	ck_assert_int_eq(lessor_note(station.engine->lessor, notes, MANY, clock_ms()), STATUS_OK);
	hurrying.engine = station.engine;
	ck_assert_int_eq(pthread_create(&thread, NULL, hurry_on, &hurrying), 0);
	while (!atomic_load(&hurrying.begun))
		station_turn(&station);
	offset = atomic_load(&station.engine->applied_offset);
	expiry_record(station.engine, true);
	atomic_store(&hurrying.over, true);
	pthread_join(thread, NULL);
	station_put(&station, "a", "1"); /* which is behind them: two of 5,000 leases each */
	ck_assert_int_eq(atomic_load(&station.engine->applied_offset) - offset, 2 + 1);
	free(notes);
	station_close(&station);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("lease_service");
	TCase *calls = tcase_create("calls"), *alive = tcase_create("keep-alive");
	TCase *expiry = tcase_create("expiry"), *restart = tcase_create("restart");

	tcase_add_test(calls, a_grant_has_the_id_it_asks_for_or_one_that_is_drawn);
	tcase_add_test(calls, a_grant_over_the_quota_is_refused);
	tcase_add_test(calls, a_revoked_lease_takes_its_keys_with_it);
	tcase_add_test(calls, time_to_live_tells_whole_seconds_and_the_keys_when_asked);
	tcase_add_test(calls, of_an_unknown_lease_the_time_to_live_is_minus_one);
	tcase_add_test(calls, leases_are_listed_by_expiry_few_or_many);
	tcase_add_test(alive, each_keep_alive_is_answered_in_its_turn);
	tcase_add_test(alive, a_stream_that_has_ended_its_requests_ends_after_the_last_answer);
	tcase_add_test(alive, keep_alives_that_come_together_share_a_record);
	tcase_add_test(alive, answers_wait_until_the_client_keeps_up);
	tcase_add_test(alive, a_client_that_reads_no_answers_is_refused_in_the_end);
	tcase_add_test(alive, a_stream_may_close_with_keep_alives_under_way);
	tcase_add_test(alive, a_reader_may_go_with_keep_alives_under_way);
	tcase_add_test(alive, a_keep_alive_after_the_drain_ends_its_stream);
	tcase_add_test(expiry, a_lease_that_is_over_takes_its_keys_with_it);
	tcase_add_test(expiry, a_renewed_lease_lives_on);
	tcase_add_test(expiry, an_expiry_that_a_renewal_came_before_does_nothing);
	tcase_add_test(expiry, thousands_that_are_due_at_once_go_soon_and_let_puts_through);
	tcase_add_test(expiry, a_lease_with_very_many_keys_ends_and_so_does_its_neighbour);
	tcase_add_test(expiry, time_stands_still_while_nothing_can_be_written);
	tcase_add_test(expiry, a_renewal_that_waits_for_a_slow_disk_is_in_time);
	tcase_set_timeout(expiry, 60);
	tcase_add_test(restart, a_restart_keeps_what_was_left);
	tcase_add_test(restart, after_a_crash_a_lease_has_its_full_time_or_what_was_recorded);
	tcase_add_test(restart, the_last_record_ends_though_time_goes_on);
	suite_add_tcase(suite, calls);
	suite_add_tcase(suite, alive);
	suite_add_tcase(suite, expiry);
	suite_add_tcase(suite, restart);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
