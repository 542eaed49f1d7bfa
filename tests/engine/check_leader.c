/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leader's work, turn by turn, on an engine without threads. The log, the
 * tables and the election are the test's; what is asked of them, in which order,
 * is a transcript:
 *
 *     take_office take barrier read      a term is claimed and the office taken
 *     barrier                            before a checkpoint: the position is to be written
 *     begin hash_ask put                 a checkpoint: now the votes are waited for
 *     put commit covered                 the marker: it is in the tables
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/wire.h"
#include "engine/checkpoint.h"
#include "engine/internal.h"
#include "lib/fault_vfs.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "log/election.h"
#include "log/record.h"
#include "log/tables.h"

enum {
	RECORDS_MAX = 200,
	RETRY_MS = 1000,
	VOTES_MS = 3000,
	UNFIT_MS = 3000,
	INTERVAL_MS = 60000,
	PAGE_BYTES = 4096, /* of SQLite's */
	OTHER = 9,         /* another member; its incarnation is 900 */
	THIRD = 10,
};

struct node {
	/* The log. */
	struct log log;
	struct buf records[RECORDS_MAX];
	uint64_t tags[RECORDS_MAX]; /* of this node's; 0 in another's */
	size_t count, polled;
	bool loses;                   /* what is appended never arrives */
	enum status_code read_status; /* of reading a record again; and it is another one: */
	bool reads_another;
	int64_t trimmed;

	/* The tables: the marker, and what the open transaction makes of it. */
	struct tables tables;
	struct buf marker, new_marker;
	const char *failing; /* the operation that fails, with: */
	enum status_code failure;
	bool commits_all_the_same;

	struct election election;
	bool holds, stands;
	int resigned;

	struct buf transcript;
	struct arena arena;
	struct config config;
	struct store *store;
	struct engine *engine;
	uint64_t sequences[THIRD + 1];
	int64_t now_ms;
};

static void note(struct node *node, const char *what)
{
	if (node->transcript.len > 0)
		buf_append_byte(&node->transcript, ' ');
	buf_append_text(&node->transcript, what);
}

/* What happened since the last look; rows that are put one after the other are one word. */
static void check_transcript(struct node *node, const char *wanted)
{
	buf_append_byte(&node->transcript, '\0');
	ck_assert_str_eq((const char *)node->transcript.data, wanted);
	buf_reset(&node->transcript);
}

/* ---- The log ---- */

#define NODE_OF(member_, pointer)                                                                          \
	((struct node *)(void *)((char *)(pointer)-offsetof(struct node, member_)))

static Pb__Record *read_record(struct node *node, size_t at)
{
	Pb__Record *rec;

	ck_assert_int_eq(record_unpack(node->records[at].data, node->records[at].len, RECORD_LEVEL,
	                               &node->arena, &rec),
	                 STATUS_OK);
	return rec;
}

static void add_record(struct node *node, const void *data, size_t len, uint64_t tag)
{
	ck_assert_uint_lt(node->count, RECORDS_MAX);
	buf_append(&node->records[node->count], data, len);
	node->tags[node->count++] = tag;
}

static enum status_code append(struct log *log, const uint8_t *data, size_t len, uint64_t tag)
{
	struct node *node = NODE_OF(log, log);
	unsigned kind;

	add_record(node, data, len, tag);
	kind = (unsigned)read_record(node, node->count - 1)->request_case;
	note(node, protobuf_c_message_descriptor_get_field(&pb__record__descriptor, kind)->name);
	if (node->loses)
		buf_release(&node->records[--node->count]);
	return STATUS_OK;
}

static enum status_code poll_records(struct log *log, struct log_record *records, size_t max, size_t *count,
                                     int timeout_ms)
{
	struct node *node = NODE_OF(log, log);

	(void)timeout_ms;
	for (*count = 0; *count < max && node->polled < node->count; node->polled++, ++*count) {
		records[*count] =
			(struct log_record){(int64_t)node->polled + 1, node->records[node->polled].data,
		                            node->records[node->polled].len};
		if (node->tags[node->polled] != 0)
			log->done(log->done_arg, node->tags[node->polled], STATUS_OK);
	}
	return STATUS_OK;
}

static enum status_code bounds(struct log *log, int64_t *first, int64_t *end)
{
	*first = 1;
	*end = (int64_t)NODE_OF(log, log)->count + 1;
	return STATUS_OK;
}

static enum status_code read_at(struct log *log, int64_t offset, struct buf *out)
{
	struct node *node = NODE_OF(log, log);
	const struct buf *record = &node->records[offset - 1];

	ck_assert_int_ge(offset, 1);
	ck_assert_int_le(offset, (int64_t)node->count);
	if (node->read_status != STATUS_OK)
		return node->read_status;
	buf_reset(out);
	buf_append(out, record->data, record->len);
	if (node->reads_another)
		buf_append_byte(out, 'x');
	return STATUS_OK;
}

static enum status_code trim(struct log *log, int64_t before)
{
	struct node *node = NODE_OF(log, log);

	node->trimmed = before;
	note(node, "trim");
	return STATUS_OK;
}

static void wake(struct log *log)
{
	(void)log;
}

static const struct log_ops LOG_OPS = {
	.shared = true,
	.append = append,
	.poll = poll_records,
	.bounds = bounds,
	.read_at = read_at,
	.trim = trim,
	.wake = wake,
};

/* ---- The tables ---- */

static enum status_code do_table(struct node *node, const char *what)
{
	size_t len = strlen(what);

	/* A row after another is not told. */
	if (node->transcript.len < len ||
	    memcmp(node->transcript.data + node->transcript.len - len, what, len) != 0 ||
	    strcmp(what, "put") != 0)
		note(node, what);
	return node->failing != NULL && strcmp(node->failing, what) == 0 ? node->failure : STATUS_OK;
}

static enum status_code take(struct tables *tables, uint64_t cluster_id)
{
	struct node *node = NODE_OF(tables, tables);

	ck_assert_uint_eq(cluster_id, atomic_load(&node->engine->cluster_id));
	return do_table(node, "take");
}

static enum status_code begin(struct tables *tables)
{
	struct node *node = NODE_OF(tables, tables);

	buf_reset(&node->new_marker);
	return do_table(node, "begin");
}

static enum status_code put(struct tables *tables, enum table table, const void *key, size_t key_len,
                            const void *value, size_t value_len)
{
	struct node *node = NODE_OF(tables, tables);

	(void)key;
	(void)key_len;
	if (table == TABLE_MARKERS)
		buf_append(&node->new_marker, value, value_len);
	return do_table(node, "put");
}

static enum status_code commit(struct tables *tables)
{
	struct node *node = NODE_OF(tables, tables);
	enum status_code status = do_table(node, "commit");

	if (status == STATUS_OK || node->commits_all_the_same) {
		buf_reset(&node->marker);
		buf_append(&node->marker, node->new_marker.data, node->new_marker.len);
	}
	return status;
}

static void abort_rows(struct tables *tables)
{
	do_table(NODE_OF(tables, tables), "abort");
}

static enum status_code read_rows(struct tables *tables, enum table table, table_row_fn *row, void *arg)
{
	struct node *node = NODE_OF(tables, tables);
	struct table_row marker = {(const uint8_t *)ROW_MARKER_KEY,
	                           strlen(ROW_MARKER_KEY),
	                           node->marker.data,
	                           node->marker.len,
	                           1,
	                           1};
	enum status_code status = do_table(node, "read");

	ck_assert_int_eq(table, TABLE_MARKERS);
	return status == STATUS_OK && node->marker.len > 0 ? row(arg, &marker) : status;
}

static const struct tables_ops TABLES_OPS = {
	.take = take,
	.begin = begin,
	.put = put,
	.commit = commit,
	.abort = abort_rows,
	.read = read_rows,
};

static void fail_table(struct node *node, const char *what, enum status_code status)
{
	node->failing = what;
	node->failure = status;
}

/* ---- The election ---- */

static bool holds(struct election *election)
{
	return NODE_OF(election, election)->holds;
}

static void stand(struct election *election, bool stands)
{
	NODE_OF(election, election)->stands = stands;
}

static void resign(struct election *election)
{
	NODE_OF(election, election)->resigned++;
}

static const struct election_ops ELECTION_OPS = {.holds = holds, .stand = stand, .resign = resign};

/* ---- The node ---- */

/* Applies what there is. */
static void follow(struct node *node)
{
	do
		ck_assert(applier_turn(node->engine, 0));
	while (node->polled < node->count);
}

static bool turn(struct node *node)
{
	return leader_turn(node->engine->leader, node->now_ms);
}

static bool leads(struct node *node)
{
	struct engine_info info;

	engine_info(node->engine, &info);
	return info.leads;
}

static void node_open(struct node *node)
{
	struct engine_cluster cluster = {
		.node_name = "test", .found = true, .manual = true, .incarnation = 77};
	struct store_options options = {
		.dir = fixture_path("leader"), .log_kind = LOG_KAFKA, .vfs = FAULT_VFS};

	fault_vfs_start(options.dir);
	*node = (struct node){.stands = true, .now_ms = clock_ms()};
	node->log.ops = &LOG_OPS;
	node->tables.ops = &TABLES_OPS;
	node->election.ops = &ELECTION_OPS;
	arena_init(&node->arena, 1 << 30, NULL, 0);
	node->config = (struct config){
		.name = "test",
		.listeners = "http://127.0.0.1:1",
		.max_request_bytes = 1 << 20,
		.max_txn_ops = 128,
		.quota_backend_bytes = -1,
		.slow_request_ms = 100000,
		.checkpoint_interval_ms = INTERVAL_MS,
		.checkpoint_log_bytes = 1 << 30,
	};
	cluster.tables = &node->tables;
	cluster.election = &node->election;
	ck_assert_int_eq(store_open(&options, &node->store), STATUS_OK);
	ck_assert_int_eq(engine_join(&node->config, &node->log, node->store, &cluster, &node->engine),
	                 STATUS_OK);
}

/* Joined, and nothing else. */
static void node_start(struct node *node)
{
	node_open(node);
	while (!atomic_load(&node->engine->joined)) {
		housekeeper_turn(node->engine, node->now_ms);
		follow(node);
	}
	check_transcript(node, "genesis join");
}

static void node_stop(struct node *node)
{
	/* Nobody else ends the calls whose records are on their way. */
	if (engine_verdict(node->engine) == STATUS_OK)
		follow(node);
	engine_stop(node->engine);
	store_close(node->store);
	for (size_t i = 0; i < node->count; i++)
		buf_release(&node->records[i]);
	buf_release(&node->marker);
	buf_release(&node->new_marker);
	buf_release(&node->transcript);
	arena_release(&node->arena);
}

/* Turns, with all that is appended applied, until there is no more to do. */
static void settle(struct node *node)
{
	size_t before;

	do {
		before = node->count;
		while (turn(node))
			;
		follow(node);
	} while (turn(node) || node->count != before);
}

/* Leads, over tables without a marker, or with that of the test. */
static void node_lead(struct node *node)
{
	node_start(node);
	node->holds = true;
	settle(node);
	check_transcript(node, "take_office take barrier read");
	ck_assert(leads(node));
}

/* A record of another member. */
static void propose_other(struct node *node, uint64_t member, const ProtobufCMessage *request)
{
	Pb__Record *rec = make_record(&node->arena, request);
	struct buf packed;

	rec->cluster_id = atomic_load(&node->engine->cluster_id);
	rec->member_id = member;
	rec->incarnation = member * 100;
	rec->sequence = ++node->sequences[member];
	rec->term = atomic_load(&node->engine->term);
	buf_init(&packed);
	ck_assert_int_eq(record_pack(rec, RECORD_LEVEL, &packed), STATUS_OK);
	add_record(node, packed.data, packed.len, 0);
	buf_release(&packed);
}

static void join_other(struct node *node, uint64_t member)
{
	Pb__Join join = PB__JOIN__INIT;
	char name[8];

	snprintf(name, sizeof name, "n%d", (int)member);
	join.number = 1;
	join.name = name;
	join.version = name;
	join.level = 1;
	propose_other(node, member, &join.base);
	follow(node);
}

static void take_office_other(struct node *node, uint64_t term)
{
	Pb__TakeOffice request = PB__TAKE_OFFICE__INIT;

	request.term = term;
	propose_other(node, OTHER, &request.base);
}

static void put_other(struct node *node, const char *key)
{
	propose_other(node, OTHER, &make_put(&node->arena, key, "v")->base);
	follow(node);
}

static void ask_for_checkpoint(struct node *node)
{
	engine_request_checkpoint(node->engine);
	atomic_store(&node->engine->check_requested, false); /* the guard's part of it */
}

/* The newest record of a kind. */
static Pb__Record *newest(struct node *node, Pb__Record__RequestCase kind)
{
	for (size_t i = node->count; i-- > 0;)
		if (read_record(node, i)->request_case == kind)
			return read_record(node, i);
	ck_abort_msg("there is no such record");
	return NULL;
}

static int64_t marker_offset(struct node *node)
{
	ProtobufCMessage *marker;

	ck_assert_int_eq(wire_unpack(&pb__marker__descriptor, node->marker.data, node->marker.len,
	                             &node->arena, &marker),
	                 STATUS_OK);
	return ((Pb__Marker *)marker)->offset;
}

static void vote(struct node *node, uint64_t member, bool agrees)
{
	const Pb__HashAsk *ask = newest(node, PB__RECORD__REQUEST_HASH_ASK)->hash_ask;
	Pb__HashVote request = PB__HASH_VOTE__INIT;

	request.offset = ask->offset;
	request.hash = agrees ? ask->hash : 12345;
	propose_other(node, member, &request.base);
	follow(node);
}

/* A checkpoint that is asked for is begun, and no more. */
static void begin_checkpoint(struct node *node)
{
	ask_for_checkpoint(node);
	turn(node);
	follow(node);
	turn(node);
}

/* A checkpoint that is asked for, and on which another node votes as it should. */
static void ask_and_vote(struct node *node)
{
	ask_for_checkpoint(node);
	settle(node);
	if (leads(node))
		vote(node, OTHER, true);
	settle(node);
}

/* ---- Taking office ---- */

START_TEST(office_is_taken_in_its_order)
{
	struct node node;
	const Pb__Record *rec;

	node_start(&node);
	turn(&node);
	check_transcript(&node, "");
	node.holds = true;
	turn(&node);
	check_transcript(&node, "take_office");
	rec = newest(&node, PB__RECORD__REQUEST_TAKE_OFFICE);
	ck_assert_uint_eq(rec->take_office->term, 2);
	ck_assert_uint_eq(rec->incarnation, 77);
	turn(&node); /* it is not applied yet */
	check_transcript(&node, "");
	follow(&node);
	ck_assert(turn(&node));
	turn(&node);
	check_transcript(&node, "take barrier");
	turn(&node);
	check_transcript(&node, "");
	ck_assert(!leads(&node));
	follow(&node);
	turn(&node);
	check_transcript(&node, "read");
	ck_assert(leads(&node));
	ck_assert_uint_eq(atomic_load(&node.engine->term), 2);
	node_stop(&node);
}
END_TEST

START_TEST(who_has_not_joined_claims_nothing)
{
	struct node node;

	node_open(&node);
	node.holds = true;
	turn(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

START_TEST(a_term_that_another_took_first_is_left_to_it)
{
	struct node node;

	node_start(&node);
	join_other(&node, OTHER);
	take_office_other(&node, 2); /* in the log, and not applied here yet */
	node.holds = true;
	turn(&node);
	follow(&node);
	turn(&node);
	check_transcript(&node, "take_office");
	ck_assert(!leads(&node));
	ck_assert_uint_eq(atomic_load(&node.engine->owner_member), OTHER);
	node.now_ms += RETRY_MS - 1;
	turn(&node);
	check_transcript(&node, "");
	node.now_ms++;
	turn(&node);
	check_transcript(&node, "take_office");
	ck_assert_uint_eq(newest(&node, PB__RECORD__REQUEST_TAKE_OFFICE)->take_office->term, 3);
	settle(&node);
	check_transcript(&node, "take barrier read");
	ck_assert(leads(&node));
	node_stop(&node);
}
END_TEST

START_TEST(a_claim_that_gets_lost_is_made_again)
{
	struct node node;

	node_start(&node);
	node.holds = node.loses = true;
	turn(&node);
	node.now_ms += 2 * ENGINE_TIMEOUT_MS; /* calls are timed by the real clock */
	turn(&node);
	ck_assert(!leads(&node));
	housekeeper_turn(node.engine, node.now_ms);
	turn(&node);
	check_transcript(&node, "take_office");
	node.loses = false;
	node.now_ms += RETRY_MS;
	settle(&node);
	check_transcript(&node, "take_office take barrier read");
	ck_assert(leads(&node));
	node_stop(&node);
}
END_TEST

START_TEST(tables_that_cannot_be_taken_are_tried_again_in_the_same_term)
{
	struct node node;

	node_start(&node);
	node.holds = true;
	fail_table(&node, "take", STATUS_NO_KAFKA);
	settle(&node);
	check_transcript(&node, "take_office take");
	ck_assert(!leads(&node));
	fail_table(&node, NULL, STATUS_OK);
	node.now_ms += RETRY_MS;
	settle(&node);
	check_transcript(&node, "take barrier read");
	ck_assert(leads(&node));
	node_stop(&node);
}
END_TEST

START_TEST(another_who_took_office_before_the_barrier_is_seen)
{
	struct node node;

	node_start(&node);
	join_other(&node, OTHER);
	node.holds = true;
	turn(&node);
	follow(&node);
	take_office_other(&node, 3);
	turn(&node); /* claimed */
	turn(&node); /* the tables are taken, the barrier is behind the other's record */
	follow(&node);
	turn(&node);
	check_transcript(&node, "take_office take barrier");
	ck_assert(!leads(&node));
	node_stop(&node);
}
END_TEST

START_TEST(a_barrier_that_gets_lost_gives_no_office)
{
	struct node node;

	node_start(&node);
	node.holds = true;
	turn(&node);
	follow(&node);
	turn(&node);
	node.loses = true;
	turn(&node);
	node.now_ms += 2 * ENGINE_TIMEOUT_MS; /* calls are timed by the real clock */
	housekeeper_turn(node.engine, node.now_ms);
	turn(&node);
	check_transcript(&node, "take_office take barrier");
	ck_assert(!leads(&node));
	node_stop(&node);
}
END_TEST

START_TEST(a_marker_that_is_not_ready_is_waited_for)
{
	struct node node;

	node_start(&node);
	node.holds = true;
	fail_table(&node, "read", STATUS_BUSY);
	settle(&node);
	ck_assert(!leads(&node));
	buf_reset(&node.transcript); /* it was asked for at each turn */
	turn(&node);
	check_transcript(&node, "read");
	fail_table(&node, NULL, STATUS_OK);
	turn(&node);
	check_transcript(&node, "read");
	ck_assert(leads(&node));
	node_stop(&node);
}
END_TEST

START_TEST(a_marker_that_cannot_be_read_gives_no_office)
{
	struct node node;

	node_start(&node);
	node.holds = true;
	if (_i == 0)
		fail_table(&node, "read", STATUS_NO_KAFKA);
	else
		buf_append_text(&node.marker, "\xff\xff");
	settle(&node);
	check_transcript(&node, "take_office take barrier read");
	ck_assert(!leads(&node));
	node_stop(&node);
}
END_TEST

/* ---- Checkpoints ---- */

START_TEST(a_checkpoint_is_written_and_told_of)
{
	struct node node;
	const Pb__Covered *covered;
	const Pb__HashAsk *ask;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	ask_for_checkpoint(&node);
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put");
	ck_assert_uint_eq(node.marker.len, 0);
	vote(&node, OTHER, true);
	settle(&node);
	check_transcript(&node, "put commit covered");
	covered = newest(&node, PB__RECORD__REQUEST_COVERED)->covered;
	ck_assert_int_eq(covered->offset, marker_offset(&node));
	ck_assert_int_eq(covered->compact_revision, -1);
	ck_assert_uint_eq(newest(&node, PB__RECORD__REQUEST_COVERED)->term, 2);
	ask = newest(&node, PB__RECORD__REQUEST_HASH_ASK)->hash_ask;
	ck_assert_int_eq(ask->offset, marker_offset(&node));
	ck_assert(leads(&node));
	turn(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

START_TEST(checkpoints_are_due_by_time_if_anything_was_applied)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	node.now_ms += INTERVAL_MS - 1;
	settle(&node);
	check_transcript(&node, "");
	node.now_ms++;
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put");
	vote(&node, OTHER, true);
	settle(&node);
	check_transcript(&node, "put commit covered");
	put_other(&node, "b");
	node.now_ms += INTERVAL_MS;
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put");
	vote(&node, OTHER, true);
	settle(&node);
	check_transcript(&node, "put commit covered trim");
	node_stop(&node);
}
END_TEST

START_TEST(checkpoints_are_due_by_bytes)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	node.config.checkpoint_log_bytes = 1000;
	for (int i = 0; i < 10; i++)
		put_other(&node, "0123456789012345678901234567890123456789012345678901234567890123456789");
	settle(&node);
	vote(&node, OTHER, true);
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	put_other(&node, "a");
	settle(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

/* Keep-alives and barriers alone are not worth a write, and differ in batches from node to node. */
START_TEST(a_checkpoint_holds_all_that_was_applied_before_it)
{
	struct node node;
	int64_t id = 1, applied;

	node_lead(&node);
	join_other(&node, OTHER);
	propose_other(&node, OTHER, &make_grant(&node.arena, 1, 60)->base);
	follow(&node);
	for (int i = 0; i < 3; i++) {
		propose_other(&node, OTHER, &make_renew(&node.arena, &id, 1)->base);
		follow(&node);
	}
	applied = atomic_load(&node.engine->applied_offset);
	ck_assert_int_lt(node.store->written_offset, applied);
	ask_and_vote(&node);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	ck_assert_int_gt(marker_offset(&node), applied);
	node_stop(&node);
}
END_TEST

/* The barrier got lost, and the newest marker is of what is not written here. */
START_TEST(a_marker_that_would_be_older_than_the_newest_is_not_written)
{
	Pb__Marker marker = PB__MARKER__INIT;
	struct node node;

	node_start(&node);
	marker.offset = 1000;
	wire_pack(&marker.base, &node.marker);
	node.holds = true;
	settle(&node);
	check_transcript(&node, "take_office take barrier read covered");
	ask_for_checkpoint(&node);
	settle(&node);
	check_transcript(&node, "barrier begin abort");
	ck_assert(!leads(&node));
	ck_assert_int_eq(marker_offset(&node), 1000);
	node_stop(&node);
}
END_TEST

/* A checkpoint that fails in one of its steps: nothing is told, and the whole order is taken again. */
static const struct {
	const char *step;
	enum status_code status;
	const char *transcript;
} FAILURES[] = {
	{"begin", STATUS_FENCED, "barrier begin"},
	{"put", STATUS_FENCED, "barrier begin hash_ask put abort"},
	{"put", STATUS_NO_KAFKA, "barrier begin hash_ask put abort"},
	{"commit", STATUS_FENCED, "barrier begin hash_ask put commit abort"},
	{"commit", STATUS_TIMEOUT, "barrier begin hash_ask put commit abort"},
};

START_TEST(a_checkpoint_that_fails_is_not_told_of)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	fail_table(&node, FAILURES[_i].step, FAILURES[_i].status);
	ask_and_vote(&node);
	check_transcript(&node, FAILURES[_i].transcript);
	ck_assert(!leads(&node));
	ck_assert_uint_eq(node.marker.len, 0);
	fail_table(&node, NULL, STATUS_OK);
	node.now_ms += RETRY_MS;
	settle(&node);
	check_transcript(&node, "take barrier read"); /* it owns the term still */
	ck_assert(leads(&node));
	ask_and_vote(&node);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	node_stop(&node);
}
END_TEST

/* What became of it is known when the tables are taken again: the marker says so. */
START_TEST(a_commit_that_took_effect_unknown_is_told_of_later)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	node.commits_all_the_same = true;
	fail_table(&node, "commit", STATUS_TIMEOUT);
	ask_and_vote(&node);
	check_transcript(&node, "barrier begin hash_ask put commit abort");
	fail_table(&node, NULL, STATUS_OK);
	node.now_ms += RETRY_MS;
	settle(&node);
	check_transcript(&node, "take barrier read covered");
	ck_assert_int_eq(newest(&node, PB__RECORD__REQUEST_COVERED)->covered->offset, marker_offset(&node));
	turn(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

/* The leader before had committed, and had no time to say so. */
START_TEST(the_next_leader_tells_of_the_newest_checkpoint)
{
	Pb__Marker marker = PB__MARKER__INIT;
	struct node node;
	const Pb__Covered *covered;

	node_start(&node);
	marker.offset = 2;
	marker.compact_revision = 1;
	wire_pack(&marker.base, &node.marker);
	node.holds = true;
	settle(&node);
	check_transcript(&node, "take_office take barrier read covered");
	covered = newest(&node, PB__RECORD__REQUEST_COVERED)->covered;
	ck_assert_int_eq(covered->offset, 2);
	ck_assert_int_eq(covered->compact_revision, 1);
	settle(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

/* The log tells of a checkpoint that the tables do not show: to begin from an older one would lose rows. */
START_TEST(an_older_marker_than_the_log_tells_of_gives_no_office)
{
	Pb__Marker marker = PB__MARKER__INIT;
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	ask_and_vote(&node);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	node.holds = false;
	turn(&node);
	ck_assert(!leads(&node));
	buf_reset(&node.new_marker);
	buf_append(&node.new_marker, node.marker.data, node.marker.len);
	marker.offset = marker_offset(&node) - 1;
	buf_reset(&node.marker);
	if (_i == 1) /* or none at all */
		wire_pack(&marker.base, &node.marker);
	node.holds = true;
	node.now_ms += RETRY_MS;
	settle(&node);
	check_transcript(&node, "take barrier read");
	ck_assert(!leads(&node));
	buf_reset(&node.marker);
	buf_append(&node.marker, node.new_marker.data, node.new_marker.len);
	node.now_ms += RETRY_MS;
	settle(&node);
	check_transcript(&node, "take barrier read covered");
	ck_assert(leads(&node));
	node_stop(&node);
}
END_TEST

/* ---- Losing the office ---- */

START_TEST(another_term_ends_the_office)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	take_office_other(&node, 3);
	follow(&node);
	turn(&node);
	ck_assert(!leads(&node));
	check_transcript(&node, "");
	node.now_ms += RETRY_MS;
	settle(&node);
	check_transcript(&node, "take_office take barrier read");
	ck_assert_uint_eq(atomic_load(&node.engine->term), 4);
	ck_assert(leads(&node));
	node_stop(&node);
}
END_TEST

START_TEST(another_term_ends_a_checkpoint)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	begin_checkpoint(&node);
	take_office_other(&node, 3);
	follow(&node);
	turn(&node);
	check_transcript(&node, "barrier begin hash_ask abort");
	ck_assert(!leads(&node));
	ck_assert_uint_eq(node.marker.len, 0);
	node_stop(&node);
}
END_TEST

START_TEST(without_the_hint_there_is_no_office)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	if (_i == 1)
		begin_checkpoint(&node);
	node.holds = false;
	turn(&node);
	ck_assert(!leads(&node));
	check_transcript(&node, _i == 1 ? "barrier begin hash_ask abort" : "");
	node.now_ms += INTERVAL_MS;
	settle(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

START_TEST(who_cannot_write_lets_another_lead)
{
	struct node node;

	node_lead(&node);
	atomic_store(&node.engine->log_fault, "the log cannot be written");
	turn(&node);
	node.now_ms += UNFIT_MS - 1;
	turn(&node);
	ck_assert(node.stands);
	ck_assert(leads(&node));
	node.now_ms++;
	turn(&node);
	ck_assert(!node.stands);
	ck_assert(!leads(&node));
	atomic_store(&node.engine->log_fault, NULL);
	node.now_ms += RETRY_MS;
	settle(&node);
	ck_assert(node.stands);
	check_transcript(&node, "take barrier read");
	node_stop(&node);
}
END_TEST

START_TEST(who_has_given_up_does_nothing)
{
	struct node node;

	node_lead(&node);
	ask_for_checkpoint(&node);
	engine_give_up(node.engine, STATUS_CORRUPT);
	ck_assert(!turn(&node));
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

START_TEST(a_stop_hands_the_office_over)
{
	struct node node;

	node_lead(&node);
	ck_assert_int_eq(node.resigned, 0);
	engine_drain(node.engine);
	ck_assert_int_eq(node.resigned, 1);
	node_stop(&node);
}
END_TEST

START_TEST(a_stop_in_a_checkpoint_leaves_nothing)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	begin_checkpoint(&node);
	check_transcript(&node, "barrier begin hash_ask");
	node_stop(&node);
}
END_TEST

/* ---- Votes, and what is cut ---- */

/* One more checkpoint, voted on or not. */
static void write_checkpoint(struct node *node, bool voted)
{
	put_other(node, "a");
	ask_for_checkpoint(node);
	settle(node);
	if (voted)
		vote(node, OTHER, true);
	else
		node->now_ms += VOTES_MS;
	settle(node);
}

START_TEST(the_log_is_cut_below_the_last_but_one_that_another_confirmed)
{
	struct node node;
	int64_t first, second;

	node_lead(&node);
	join_other(&node, OTHER);
	write_checkpoint(&node, true);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	first = marker_offset(&node);
	write_checkpoint(&node, true);
	check_transcript(&node, "barrier begin hash_ask put commit covered trim");
	ck_assert_int_eq(node.trimmed, first + 1);
	second = marker_offset(&node);
	write_checkpoint(&node, false);
	check_transcript(&node, "barrier begin hash_ask put commit covered trim");
	ck_assert_int_eq(node.trimmed, second + 1);
	/* Nobody has voted on the third. */
	write_checkpoint(&node, true);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	ck_assert_int_eq(node.trimmed, second + 1);
	node_stop(&node);
}
END_TEST

START_TEST(votes_that_come_while_the_rows_are_written_count)
{
	struct node node;
	int64_t first;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	begin_checkpoint(&node);
	follow(&node);
	vote(&node, OTHER, true);
	node.now_ms += 2 * VOTES_MS; /* it takes its time */
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	first = marker_offset(&node);
	write_checkpoint(&node, true);
	check_transcript(&node, "barrier begin hash_ask put commit covered trim");
	ck_assert_int_eq(node.trimmed, first + 1);
	node_stop(&node);
}
END_TEST

START_TEST(an_answer_is_waited_for_no_longer_than_a_while)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	ask_for_checkpoint(&node);
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put");
	node.now_ms += VOTES_MS - 1;
	settle(&node);
	check_transcript(&node, "");
	node.now_ms++;
	settle(&node);
	check_transcript(&node, "put commit covered");
	node_stop(&node);
}
END_TEST

START_TEST(a_new_leader_cuts_nothing_before_its_second_checkpoint)
{
	Pb__Marker marker = PB__MARKER__INIT;
	struct node node;

	node_start(&node);
	join_other(&node, OTHER);
	marker.offset = 3;
	wire_pack(&marker.base, &node.marker);
	node.holds = true;
	settle(&node);
	check_transcript(&node, "take_office take barrier read covered");
	write_checkpoint(&node, true);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	ck_assert_int_eq(node.trimmed, 0);
	node_stop(&node);
}
END_TEST

/* Whichever of its reads fails, it does not take itself for the only one. */
START_TEST(members_that_cannot_be_read_are_waited_for)
{
	static char url[PAGE_BYTES];
	char *urls[] = {url};
	Pb__Join join = PB__JOIN__INIT;
	bool failed = true;
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	/* One whose row takes more than a page of the database, and can fail behind another. */
	memset(url, 'x', sizeof url - 1);
	join.number = 1;
	join.name = join.version = (char[]){"n10"};
	join.client_urls = urls;
	join.n_client_urls = 1;
	join.level = 1;
	propose_other(&node, THIRD, &join.base);
	follow(&node);
	put_other(&node, "a");
	ask_for_checkpoint(&node);
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put");
	for (int at = 1; failed; at++) {
		put_other(&node, "a"); /* what was read is to be read again */
		fault_vfs_plan(&(struct fault){.calls = FAULT_READ, .at = at});
		turn(&node);
		failed = fault_vfs_happened();
		fault_vfs_plan(NULL);
		check_transcript(&node, "");
	}
	vote(&node, OTHER, true);
	settle(&node);
	check_transcript(&node, "put commit covered");
	node_stop(&node);
}
END_TEST

START_TEST(a_single_node_needs_no_confirmation)
{
	struct node node;
	int64_t first;

	node_lead(&node);
	ask_for_checkpoint(&node);
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	first = marker_offset(&node);
	ask_for_checkpoint(&node);
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put commit covered trim");
	ck_assert_int_eq(node.trimmed, first + 1);
	node_stop(&node);
}
END_TEST

/* How the others vote: the first dissents; and the verdict, with what becomes of the checkpoint. */
static const struct {
	bool third_votes, third_agrees;
	bool undecided, as_here;
	const char *transcript;
} DISSENTS[] = {
	{false, false, true, false, "hash_verdict abort"},
	{true, true, false, true, "hash_verdict put commit covered"},
	{true, false, false, false, "hash_verdict abort"},
};

START_TEST(a_dissenting_vote_leads_to_a_verdict)
{
	struct node node;
	const Pb__HashVerdict *verdict;
	const Pb__HashAsk *ask;
	bool is_wrong = !DISSENTS[_i].undecided && !DISSENTS[_i].as_here;

	node_lead(&node);
	join_other(&node, OTHER);
	join_other(&node, THIRD);
	put_other(&node, "a");
	ask_for_checkpoint(&node);
	settle(&node);
	check_transcript(&node, "barrier begin hash_ask put");
	ask = newest(&node, PB__RECORD__REQUEST_HASH_ASK)->hash_ask;
	vote(&node, OTHER, false);
	if (DISSENTS[_i].third_votes)
		vote(&node, THIRD, DISSENTS[_i].third_agrees);
	node.now_ms += VOTES_MS - 1;
	turn(&node);
	check_transcript(&node, "");
	node.now_ms++;
	turn(&node);
	check_transcript(&node, DISSENTS[_i].transcript);
	ck_assert_int_eq(node.marker.len > 0, DISSENTS[_i].as_here);
	verdict = newest(&node, PB__RECORD__REQUEST_HASH_VERDICT)->hash_verdict;
	ck_assert_int_eq(verdict->offset, ask->offset);
	ck_assert_int_eq(verdict->undecided, DISSENTS[_i].undecided);
	if (!DISSENTS[_i].undecided)
		ck_assert_uint_eq(verdict->hash, DISSENTS[_i].as_here ? ask->hash : 12345);
	/* What follows from it for this node. */
	ck_assert_int_eq(applier_turn(node.engine, 0), !is_wrong);
	ck_assert_int_eq(engine_verdict(node.engine), is_wrong ? STATUS_CORRUPT : STATUS_OK);
	ck_assert_int_eq(atomic_load(&node.engine->alarm_corrupt), DISSENTS[_i].undecided);
	node_stop(&node);
}
END_TEST

/* One that was away dissents when the checkpoint is written already. */
START_TEST(a_late_dissent_leads_to_a_verdict)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	join_other(&node, THIRD);
	write_checkpoint(&node, true);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	vote(&node, THIRD, false);
	turn(&node);
	check_transcript(&node, "");
	node.now_ms += VOTES_MS;
	turn(&node);
	check_transcript(&node, "hash_verdict");
	ck_assert(!newest(&node, PB__RECORD__REQUEST_HASH_VERDICT)->hash_verdict->undecided);
	turn(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

START_TEST(votes_that_agree_need_no_verdict)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	join_other(&node, THIRD);
	write_checkpoint(&node, true);
	check_transcript(&node, "barrier begin hash_ask put commit covered");
	vote(&node, THIRD, true);
	node.now_ms += VOTES_MS;
	turn(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

/* A broker has lost the end of the log, and with it what the state was made of. */
START_TEST(a_checkpoint_of_what_the_log_has_lost_is_not_committed)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	put_other(&node, "a");
	if (_i == 0)
		node.read_status = STATUS_BAD_LOG;
	else
		node.reads_another = true;
	ask_and_vote(&node);
	check_transcript(&node, "barrier begin hash_ask put abort");
	ck_assert_uint_eq(node.marker.len, 0);
	ck_assert(!leads(&node));
	ck_assert(atomic_load(&node.engine->check_requested));
	node_stop(&node);
}
END_TEST

/* ---- Keeping lease time going ---- */

START_TEST(a_heartbeat_goes_while_there_are_leases)
{
	struct node node;

	node_lead(&node);
	join_other(&node, OTHER);
	node.now_ms = clock_ms() + 1000;
	turn(&node);
	check_transcript(&node, "");
	propose_other(&node, OTHER, &make_grant(&node.arena, 1, 60)->base);
	follow(&node);
	turn(&node);
	check_transcript(&node, "barrier");
	turn(&node); /* one at a time */
	check_transcript(&node, "");
	follow(&node);
	turn(&node); /* the clock of confirmations is the real one */
	check_transcript(&node, "barrier");
	follow(&node);
	node.now_ms = atomic_load(&node.engine->confirmed_ms);
	turn(&node);
	check_transcript(&node, "");
	propose_other(&node, OTHER, &make_revoke(&node.arena, 1)->base);
	follow(&node);
	node.now_ms = clock_ms() + 1000;
	turn(&node);
	check_transcript(&node, "");
	node_stop(&node);
}
END_TEST

static void on_told(struct call *call, bool slow)
{
	(void)slow;
	*(enum status_code *)call->edge = call->status.code;
	call_free(call);
}

/* No leader's affair, but this log can do it. */
START_TEST(an_alarm_that_was_overtaken_can_be_proposed_again)
{
	static const struct call_ops OPS = {.finish = on_told};
	const Pb__Barrier barrier = PB__BARRIER__INIT;
	enum status_code told = STATUS_OK;
	struct node node;
	struct call *call = call_new(&OPS, &told, 1 << 20);
	struct buf alarm;
	uint64_t tag;

	node_start(&node);
	call->engine = node.engine;
	atomic_fetch_add(&node.engine->in_flight, 1);
	ck_assert(!propose_no_space(node.engine, call));
	ck_assert_int_eq(propose_internal(node.engine, &barrier.base, NULL), STATUS_OK);
	alarm = node.records[node.count - 2];
	tag = node.tags[node.count - 2];
	node.records[node.count - 2] = node.records[node.count - 1];
	node.tags[node.count - 2] = node.tags[node.count - 1];
	node.records[node.count - 1] = alarm;
	node.tags[node.count - 1] = tag;
	follow(&node);
	ck_assert_int_eq(told, STATUS_TIMEOUT);
	ck_assert(!atomic_load(&node.engine->alarm_proposed));
	ck_assert(!atomic_load(&node.engine->alarm_nospace));
	node_stop(&node);
}
END_TEST

static void add_office(TCase *tcase)
{
	tcase_add_test(tcase, office_is_taken_in_its_order);
	tcase_add_test(tcase, who_has_not_joined_claims_nothing);
	tcase_add_test(tcase, a_term_that_another_took_first_is_left_to_it);
	tcase_add_test(tcase, a_claim_that_gets_lost_is_made_again);
	tcase_add_test(tcase, tables_that_cannot_be_taken_are_tried_again_in_the_same_term);
	tcase_add_test(tcase, another_who_took_office_before_the_barrier_is_seen);
	tcase_add_test(tcase, a_barrier_that_gets_lost_gives_no_office);
	tcase_add_test(tcase, a_marker_that_is_not_ready_is_waited_for);
	tcase_add_loop_test(tcase, a_marker_that_cannot_be_read_gives_no_office, 0, 2);
	tcase_add_test(tcase, another_term_ends_the_office);
	tcase_add_test(tcase, another_term_ends_a_checkpoint);
	tcase_add_loop_test(tcase, without_the_hint_there_is_no_office, 0, 2);
	tcase_add_test(tcase, who_cannot_write_lets_another_lead);
	tcase_add_test(tcase, who_has_given_up_does_nothing);
	tcase_add_test(tcase, a_stop_hands_the_office_over);
	tcase_add_test(tcase, a_stop_in_a_checkpoint_leaves_nothing);
}

static void add_duties(TCase *tcase)
{
	tcase_add_test(tcase, an_alarm_that_was_overtaken_can_be_proposed_again);
	tcase_add_test(tcase, a_checkpoint_is_written_and_told_of);
	tcase_add_test(tcase, checkpoints_are_due_by_time_if_anything_was_applied);
	tcase_add_test(tcase, checkpoints_are_due_by_bytes);
	tcase_add_test(tcase, a_checkpoint_holds_all_that_was_applied_before_it);
	tcase_add_test(tcase, a_marker_that_would_be_older_than_the_newest_is_not_written);
	tcase_add_loop_test(tcase, a_checkpoint_that_fails_is_not_told_of, 0,
	                    sizeof FAILURES / sizeof *FAILURES);
	tcase_add_test(tcase, a_commit_that_took_effect_unknown_is_told_of_later);
	tcase_add_test(tcase, the_next_leader_tells_of_the_newest_checkpoint);
	tcase_add_loop_test(tcase, an_older_marker_than_the_log_tells_of_gives_no_office, 0, 2);
	tcase_add_test(tcase, the_log_is_cut_below_the_last_but_one_that_another_confirmed);
	tcase_add_test(tcase, votes_that_come_while_the_rows_are_written_count);
	tcase_add_test(tcase, an_answer_is_waited_for_no_longer_than_a_while);
	tcase_add_test(tcase, a_new_leader_cuts_nothing_before_its_second_checkpoint);
	tcase_add_test(tcase, members_that_cannot_be_read_are_waited_for);
	tcase_add_test(tcase, a_single_node_needs_no_confirmation);
	tcase_add_loop_test(tcase, a_dissenting_vote_leads_to_a_verdict, 0,
	                    sizeof DISSENTS / sizeof *DISSENTS);
	tcase_add_test(tcase, a_late_dissent_leads_to_a_verdict);
	tcase_add_loop_test(tcase, a_checkpoint_of_what_the_log_has_lost_is_not_committed, 0, 2);
	tcase_add_test(tcase, votes_that_agree_need_no_verdict);
	tcase_add_test(tcase, a_heartbeat_goes_while_there_are_leases);
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("leader");
	TCase *tcase = tcase_create("leader");

	tcase_set_timeout(tcase, 60);
	add_office(tcase);
	add_duties(tcase);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
