/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What apply does under a shared log: whose records count, who joins, who leads,
 * what is dropped when; and which database belongs to which kind of log.
 */
#include "state/cluster.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fixture.h"
#include "lib/test.h"
#include "state/compact.h"
#include "state/maintenance.h"
#include "state/schema.h"

enum { ALICE = 11, BOB = 12, CAROL = 13 }; /* members */

/* ---- Stores under a shared log ---- */

static enum status_code try_open(struct fixture *fx, const char *dir, enum log_kind kind,
                                 const char *kafka_id)
{
	struct store_options options = {.dir = dir, .log_kind = kind, .kafka_id = kafka_id};
	enum status_code status;

	*fx = (struct fixture){0};
	snprintf(fx->dir, sizeof fx->dir, "%s", dir);
	arena_init(&fx->arena, 1 << 30, NULL, 0);
	status = store_open(&options, &fx->st);
	if (status == STATUS_OK)
		fx->offset = fx->st->saved.applied_offset;
	else
		arena_release(&fx->arena);
	return status;
}

static void open_at(struct fixture *fx, const char *dir)
{
	ck_assert_int_eq(try_open(fx, dir, LOG_KAFKA, "kafka-1"), STATUS_OK);
}

static const char *new_dir(void)
{
	static unsigned number;
	char name[32];

	snprintf(name, sizeof name, "cluster-%u", ++number);
	return fixture_path(name);
}

static void reopen(struct fixture *fx)
{
	char dir[300];

	snprintf(dir, sizeof dir, "%s", fx->dir);
	fixture_close(fx);
	open_at(fx, dir);
}

static Pb__Record *record_by(struct fixture *fx, uint64_t member, uint64_t incarnation, uint64_t sequence,
                             const ProtobufCMessage *request)
{
	Pb__Record *rec = make_record(&fx->arena, request);

	rec->member_id = member;
	rec->incarnation = incarnation;
	rec->sequence = sequence;
	return rec;
}

static enum status_code try_batch(struct fixture *fx, Pb__Record *const *records, size_t count,
                                  bool undoable, struct applied *applied)
{
	int64_t offset = fx->offset;
	enum status_code status = store_begin(fx->st);

	for (size_t i = 0; status == STATUS_OK && i < count; i++)
		status = fixture_apply_record(fx, records[i], undoable, &applied[i]);
	if (status == STATUS_OK)
		return store_commit(fx->st);
	store_rollback(fx->st);
	fx->offset = offset;
	return status;
}

static enum status_code try_record(struct fixture *fx, Pb__Record *rec, struct applied *applied)
{
	enum status_code status = try_batch(fx, &rec, 1, false, applied);

	return status == STATUS_HALF_APPLIED ? try_batch(fx, &rec, 1, true, applied) : status;
}

static struct applied take(struct fixture *fx, Pb__Record *rec)
{
	struct applied applied;

	ck_assert_int_eq(try_record(fx, rec, &applied), STATUS_OK);
	return applied;
}

static void check_counts(struct fixture *fx, Pb__Record *rec)
{
	struct applied applied = take(fx, rec);

	ck_assert(!applied.ignored);
	ck_assert_str_eq(status_code_name(applied.status), "OK");
}

/* It changes nothing but how far the log is applied, and its proposer is told "timed out". */
static void check_ignored(struct fixture *fx, Pb__Record *rec)
{
	struct store_state before = fx->st->saved;
	struct applied applied = take(fx, rec);

	ck_assert(applied.ignored);
	ck_assert_int_eq(applied.status, STATUS_TIMEOUT);
	ck_assert_ptr_null(applied.response);
	ck_assert_int_eq(applied.changes, 0);
	ck_assert_int_eq(applied.revision, before.revision);
	ck_assert_int_eq(fx->st->saved.applied_offset, before.applied_offset + 1);
	before.applied_offset++;
	ck_assert_mem_eq(&fx->st->saved, &before, sizeof before);
}

static Pb__Record *genesis_of(struct fixture *fx, uint64_t cluster_id)
{
	Pb__Genesis *genesis = arena_alloc(&fx->arena, sizeof *genesis);
	Pb__Record *rec;

	pb__genesis__init(genesis);
	genesis->cluster_id = cluster_id;
	genesis->member_name = arena_strdup(&fx->arena, "alice");
	rec = record_by(fx, 0, 500, 1, &genesis->base);
	rec->cluster_id = 0;
	return rec;
}

static Pb__Join *make_join(struct fixture *fx, uint64_t number, const char *name)
{
	Pb__Join *join = arena_alloc(&fx->arena, sizeof *join);
	char **urls = arena_calloc(&fx->arena, 2, sizeof *urls);

	pb__join__init(join);
	join->number = number;
	join->name = arena_strdup(&fx->arena, name);
	urls[0] = arena_strdup(&fx->arena, "http://a:1");
	urls[1] = arena_strdup(&fx->arena, "http://b:2");
	join->client_urls = urls;
	join->n_client_urls = 2;
	join->version = arena_strdup(&fx->arena, "0.1");
	join->level = 1;
	return join;
}

static Pb__Record *join_of(struct fixture *fx, uint64_t member, uint64_t incarnation, uint64_t sequence,
                           uint64_t number)
{
	return record_by(fx, member, incarnation, sequence, &make_join(fx, number, "n")->base);
}

static Pb__Record *put_of(struct fixture *fx, uint64_t member, uint64_t incarnation, uint64_t sequence)
{
	return record_by(fx, member, incarnation, sequence, &make_put(&fx->arena, "k", "v")->base);
}

static Pb__Record *office_of(struct fixture *fx, uint64_t member, uint64_t incarnation, uint64_t sequence,
                             uint64_t term)
{
	Pb__TakeOffice *request = arena_alloc(&fx->arena, sizeof *request);

	pb__take_office__init(request);
	request->term = term;
	return record_by(fx, member, incarnation, sequence, &request->base);
}

/* A cluster of two: alice's incarnation is 100, bob's 200; one record each. Alice leads term 2. */
static void open_cluster(struct fixture *fx)
{
	open_at(fx, new_dir());
	check_counts(fx, genesis_of(fx, FIXTURE_CLUSTER_ID));
	check_counts(fx, join_of(fx, ALICE, 100, 1, 1));
	check_counts(fx, join_of(fx, BOB, 200, 1, 1));
	check_counts(fx, office_of(fx, ALICE, 100, 2, 2));
}

/* ---- Ids ---- */

START_TEST(a_node_has_the_same_id_at_every_start)
{
	uint64_t id = cluster_member_id(FIXTURE_CLUSTER_ID, "alice");

	ck_assert_uint_eq(cluster_member_id(FIXTURE_CLUSTER_ID, "alice"), id);
	ck_assert_uint_ne(cluster_member_id(FIXTURE_CLUSTER_ID, "bob"), id);
	ck_assert_uint_ne(cluster_member_id(FIXTURE_CLUSTER_ID + 1, "alice"), id);
	for (uint64_t cluster = 1; cluster < 1000; cluster++) {
		id = cluster_member_id(cluster, "alice");
		ck_assert_uint_ne(id, 0);
		ck_assert_int_gt((int64_t)id, 0);
	}
}
END_TEST

/* ---- Whose records count ---- */

START_TEST(only_the_first_genesis_founds_the_cluster)
{
	struct fixture fx;

	open_cluster(&fx);
	ck_assert_uint_eq(fx.st->saved.cluster_id, FIXTURE_CLUSTER_ID);
	check_ignored(&fx, genesis_of(&fx, FIXTURE_CLUSTER_ID));
	check_ignored(&fx, genesis_of(&fx, 77));
	ck_assert_uint_eq(fx.st->saved.cluster_id, FIXTURE_CLUSTER_ID);
	fixture_close(&fx);
}
END_TEST

START_TEST(genesis_makes_no_member)
{
	struct fixture fx;

	open_at(&fx, new_dir());
	check_counts(&fx, genesis_of(&fx, FIXTURE_CLUSTER_ID));
	ck_assert_uint_eq(fx.st->member_count, 0);
	check_ignored(&fx, put_of(&fx, ALICE, 100, 1));
	reopen(&fx);
	ck_assert_uint_eq(fx.st->member_count, 0);
	fixture_close(&fx);
}
END_TEST

START_TEST(before_genesis_nothing_is_done)
{
	struct fixture fx;
	struct applied applied;
	Pb__Record *rec;

	open_at(&fx, new_dir());
	rec = join_of(&fx, ALICE, 100, 1, 1);
	rec->cluster_id = 0;
	applied = take(&fx, rec);
	ck_assert_int_ne(applied.status, STATUS_OK);
	ck_assert_uint_eq(fx.st->member_count, 0);
	ck_assert_int_eq(try_record(&fx, join_of(&fx, ALICE, 100, 1, 1), &applied), STATUS_BAD_LOG);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_record_of_another_cluster_stops_the_node)
{
	struct fixture fx;
	struct applied applied;
	struct store_state before;
	Pb__Record *rec;

	open_cluster(&fx);
	before = fx.st->saved;
	rec = put_of(&fx, ALICE, 100, 3);
	rec->cluster_id++;
	ck_assert_int_eq(try_record(&fx, rec, &applied), STATUS_BAD_LOG);
	ck_assert_mem_eq(&fx.st->saved, &before, sizeof before);
	/* So does a join of one. */
	rec = join_of(&fx, CAROL, 300, 1, 1);
	rec->cluster_id = 0;
	ck_assert_int_eq(try_record(&fx, rec, &applied), STATUS_BAD_LOG);
	check_counts(&fx, put_of(&fx, ALICE, 100, 3));
	fixture_close(&fx);
}
END_TEST

START_TEST(records_of_who_has_not_joined_do_not_count)
{
	struct fixture fx;

	open_cluster(&fx);
	check_ignored(&fx, put_of(&fx, CAROL, 300, 1));
	check_ignored(&fx, put_of(&fx, ALICE, 200, 9)); /* another's incarnation */
	check_ignored(&fx, office_of(&fx, CAROL, 300, 2, 9));
	check_counts(&fx, join_of(&fx, CAROL, 300, 3, 1));
	check_counts(&fx, put_of(&fx, CAROL, 300, 4));
	fixture_close(&fx);
}
END_TEST

START_TEST(records_of_a_replaced_incarnation_do_not_count)
{
	struct fixture fx;

	open_cluster(&fx);
	check_counts(&fx, join_of(&fx, ALICE, 101, 1, 2));
	check_ignored(&fx, put_of(&fx, ALICE, 100, 3));
	check_counts(&fx, put_of(&fx, ALICE, 101, 2));
	fixture_close(&fx);
}
END_TEST

START_TEST(a_repeated_record_does_not_count)
{
	struct fixture fx;

	open_cluster(&fx);
	check_counts(&fx, put_of(&fx, ALICE, 100, 7)); /* numbers may be left out */
	check_ignored(&fx, put_of(&fx, ALICE, 100, 7));
	check_ignored(&fx, put_of(&fx, ALICE, 100, 6));
	check_ignored(&fx, put_of(&fx, ALICE, 100, 0));
	check_counts(&fx, put_of(&fx, BOB, 200, 2)); /* each member has its own numbers */
	check_counts(&fx, put_of(&fx, ALICE, 100, 8));
	ck_assert_int_eq(fx.st->saved.revision, 4);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_refused_record_does_not_come_again)
{
	struct fixture fx;
	Pb__Record *rec;

	open_cluster(&fx);
	rec = record_by(&fx, ALICE, 100, 3, &make_revoke(&fx.arena, 1)->base);
	ck_assert_int_eq(take(&fx, rec).status, STATUS_LEASE_NOT_FOUND);
	check_counts(&fx, record_by(&fx, ALICE, 100, 4, &make_grant(&fx.arena, 1, 60)->base));
	check_ignored(&fx, rec);
	fixture_close(&fx);
}
END_TEST

/* A transaction that fails half-way is applied again with the means to undo it. */
START_TEST(a_record_that_fails_half_way_is_applied_once)
{
	struct fixture fx;
	Pb__TxnRequest *txn;
	Pb__PutRequest *late;

	open_cluster(&fx);
	txn = make_txn(&fx.arena);
	late = make_put(&fx.arena, "b", NULL);
	late->ignore_value = true; /* of a key that is not there */
	txn_add_success(&fx.arena, txn, &make_put(&fx.arena, "a", "1")->base);
	txn_add_success(&fx.arena, txn, &late->base);
	ck_assert_int_eq(take(&fx, record_by(&fx, ALICE, 100, 3, &txn->base)).status, STATUS_KEY_NOT_FOUND);
	ck_assert_ptr_null(fixture_get(&fx, "a", 0));
	check_ignored(&fx, put_of(&fx, ALICE, 100, 3));
	check_counts(&fx, put_of(&fx, ALICE, 100, 4));
	fixture_close(&fx);
}
END_TEST

/* Its proposer had applied what stood here before the log lost its end. */
START_TEST(a_record_that_saw_what_the_log_has_lost_does_not_count)
{
	struct fixture fx;
	Pb__Record *rec;

	open_cluster(&fx);
	rec = put_of(&fx, ALICE, 100, 3);
	rec->seen_offset = fx.offset + 1;
	check_ignored(&fx, rec);
	rec = put_of(&fx, ALICE, 100, 3); /* its number is not used up */
	rec->seen_offset = fx.offset;
	check_counts(&fx, rec);
	rec = join_of(&fx, CAROL, 300, 1, 1);
	rec->seen_offset = fx.offset + 5;
	check_ignored(&fx, rec);
	ck_assert_ptr_null(store_find_member(fx.st, CAROL));
	fixture_close(&fx);
}
END_TEST

/* ---- What only a leader may write ---- */

static const ProtobufCMessage *make_leaders(struct fixture *fx, int which)
{
	static const ProtobufCMessageDescriptor *const KINDS[] = {
		&pb__lease_expire__descriptor, &pb__lease_checkpointed__descriptor,
		&pb__covered__descriptor,      &pb__hash_ask__descriptor,
		&pb__hash_verdict__descriptor, &pb__raise_level__descriptor,
	};
	ProtobufCMessage *request = arena_calloc(&fx->arena, 1, KINDS[which]->sizeof_message);

	protobuf_c_message_init(KINDS[which], request);
	return request;
}
enum { LEADERS_KINDS = 6 };

START_TEST(a_leaders_record_counts_in_its_term_only)
{
	struct fixture fx;
	const ProtobufCMessage *request;
	Pb__Record *rec;

	open_cluster(&fx);
	request = make_leaders(&fx, _i);
	rec = record_by(&fx, BOB, 200, 2, request); /* not the leader, though it says the term */
	rec->term = 2;
	check_ignored(&fx, rec);
	rec = record_by(&fx, ALICE, 100, 3, request);
	rec->term = 1;
	check_ignored(&fx, rec);
	rec = record_by(&fx, ALICE, 100, 4, request);
	rec->term = 3;
	check_ignored(&fx, rec);
	rec = record_by(&fx, ALICE, 100, 5, request);
	rec->term = 2;
	check_counts(&fx, rec);
	check_counts(&fx, office_of(&fx, BOB, 200, 3, 3));
	rec = record_by(&fx, ALICE, 100, 6, request);
	rec->term = 2;
	check_ignored(&fx, rec);
	/* The same node in a new incarnation has to take office anew. */
	check_counts(&fx, join_of(&fx, BOB, 201, 1, 2));
	rec = record_by(&fx, BOB, 201, 2, request);
	rec->term = 3;
	check_ignored(&fx, rec);
	fixture_close(&fx);
}
END_TEST

START_TEST(an_ignored_leaders_record_uses_up_its_number)
{
	struct fixture fx;
	Pb__Record *rec;

	open_cluster(&fx);
	rec = record_by(&fx, BOB, 200, 5, make_leaders(&fx, 0));
	rec->term = 2;
	check_ignored(&fx, rec);
	check_ignored(&fx, put_of(&fx, BOB, 200, 4));
	check_counts(&fx, put_of(&fx, BOB, 200, 6));
	fixture_close(&fx);
}
END_TEST

START_TEST(a_term_is_taken_once)
{
	struct fixture fx;
	uint64_t hash;

	open_cluster(&fx);
	ck_assert_uint_eq(fx.st->saved.term, 2);
	ck_assert_uint_eq(fx.st->saved.owner, 100);
	ck_assert_uint_eq(fx.st->saved.owner_member, ALICE);
	hash = fx.st->saved.hash;
	ck_assert_int_eq(take(&fx, office_of(&fx, BOB, 200, 2, 2)).status, STATUS_FENCED);
	ck_assert_int_eq(take(&fx, office_of(&fx, BOB, 200, 3, 1)).status, STATUS_FENCED);
	ck_assert_uint_eq(fx.st->saved.hash, hash);
	ck_assert_uint_eq(fx.st->saved.owner, 100);
	check_counts(&fx, office_of(&fx, BOB, 200, 4, 9));
	reopen(&fx);
	ck_assert_uint_eq(fx.st->saved.term, 9);
	ck_assert_uint_eq(fx.st->saved.owner, 200);
	ck_assert_uint_eq(fx.st->saved.owner_member, BOB);
	ck_assert_uint_ne(fx.st->saved.hash, hash);
	fixture_close(&fx);
}
END_TEST

/* ---- Joining ---- */

START_TEST(a_join_needs_a_new_number)
{
	struct fixture fx;
	uint64_t hash;

	open_cluster(&fx);
	check_counts(&fx, join_of(&fx, ALICE, 101, 1, 5));
	hash = fx.st->saved.hash;
	ck_assert_int_eq(take(&fx, join_of(&fx, ALICE, 102, 1, 5)).status, STATUS_REPLACED);
	ck_assert_int_eq(take(&fx, join_of(&fx, ALICE, 102, 2, 4)).status, STATUS_REPLACED);
	ck_assert_uint_eq(fx.st->saved.hash, hash);
	check_counts(&fx, put_of(&fx, ALICE, 101, 2));
	ck_assert_uint_ne(fx.st->saved.hash, hash);
	check_counts(&fx, join_of(&fx, ALICE, 102, 3, 6));
	fixture_close(&fx);
}
END_TEST

START_TEST(a_join_that_is_in_the_log_twice_counts_once)
{
	struct fixture fx;
	Pb__Record *rec;

	open_cluster(&fx);
	rec = join_of(&fx, ALICE, 101, 1, 2);
	check_counts(&fx, rec);
	check_ignored(&fx, rec);
	/* The old incarnation's, late, is refused and changes nothing. */
	ck_assert_int_eq(take(&fx, join_of(&fx, ALICE, 100, 1, 1)).status, STATUS_REPLACED);
	check_counts(&fx, put_of(&fx, ALICE, 101, 2));
	fixture_close(&fx);
}
END_TEST

/* The row of a member as text. */
static const char *member_row(struct fixture *fx, uint64_t id)
{
	sqlite3_stmt *stmt = fx->st->view.stmts[SQL_MEMBERS];
	const char *text = NULL;

	while (sqlite3_step(stmt) == SQLITE_ROW)
		if ((uint64_t)sqlite3_column_int64(stmt, 0) == id)
			text = arena_printf(&fx->arena, "%s %s %d %d %d %s %d",
			                    sqlite3_column_text(stmt, 1), sqlite3_column_text(stmt, 2),
			                    sqlite3_column_int(stmt, 3), sqlite3_column_int(stmt, 4),
			                    sqlite3_column_int(stmt, 5), sqlite3_column_text(stmt, 6),
			                    sqlite3_column_int(stmt, 7));
	sqlite3_reset(stmt);
	return text;
}

START_TEST(a_member_is_what_it_said_when_it_joined)
{
	struct fixture fx;
	Pb__Member **members;
	size_t count;

	open_cluster(&fx);
	ck_assert_str_eq(member_row(&fx, BOB), "n http://a:1,http://b:2 1 200 1 0.1 1");
	ck_assert_int_eq(maintenance_read_members(&fx.st->view, &fx.arena, &count, &members), STATUS_OK);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(members[1]->id, BOB);
	ck_assert_str_eq(members[1]->name, "n");
	ck_assert_uint_eq(members[1]->n_clienturls, 2);
	ck_assert_str_eq(members[1]->clienturls[0], "http://a:1");
	ck_assert_str_eq(members[1]->clienturls[1], "http://b:2");
	/* And what it says when it joins again. */
	check_counts(&fx, record_by(&fx, BOB, 201, 1, &make_join(&fx, 2, "bobby")->base));
	ck_assert_str_eq(member_row(&fx, BOB), "bobby http://a:1,http://b:2 2 201 1 0.1 1");
	ck_assert_uint_eq(fx.st->member_count, 2);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_full_cluster_takes_no_new_member)
{
	struct fixture fx;

	open_cluster(&fx);
	for (uint64_t id = 1000; fx.st->member_count < STORE_MEMBERS_MAX; id++)
		check_counts(&fx, join_of(&fx, id, id, 1, 1));
	ck_assert_int_eq(take(&fx, join_of(&fx, CAROL, 300, 1, 1)).status, STATUS_TOO_MANY_REQUESTS);
	check_ignored(&fx, put_of(&fx, CAROL, 300, 2));
	check_counts(&fx, join_of(&fx, ALICE, 101, 1, 2)); /* one that is there may come back */
	reopen(&fx);
	ck_assert_uint_eq(fx.st->member_count, STORE_MEMBERS_MAX);
	check_counts(&fx, put_of(&fx, ALICE, 101, 2));
	check_counts(&fx, put_of(&fx, 1000, 1000, 2));
	ck_assert_int_eq(take(&fx, join_of(&fx, CAROL, 300, 3, 1)).status, STATUS_TOO_MANY_REQUESTS);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_join_that_is_rolled_back_has_not_been)
{
	struct fixture fx;
	struct applied applied;

	open_cluster(&fx);
	ck_assert_int_eq(store_begin(fx.st), STATUS_OK);
	ck_assert_int_eq(
		apply(fx.st, join_of(&fx, CAROL, 300, 1, 1), fx.offset + 1, true, &fx.arena, &applied),
		STATUS_OK);
	ck_assert_int_eq(
		apply(fx.st, join_of(&fx, BOB, 201, 1, 2), fx.offset + 2, true, &fx.arena, &applied),
		STATUS_OK);
	store_rollback(fx.st);
	ck_assert_ptr_null(store_find_member(fx.st, CAROL));
	check_ignored(&fx, put_of(&fx, CAROL, 300, 2));
	check_counts(&fx, put_of(&fx, BOB, 200, 2));
	check_counts(&fx, join_of(&fx, CAROL, 300, 1, 1));
	fixture_close(&fx);
}
END_TEST

/* ---- Restarts ---- */

START_TEST(a_restart_knows_which_records_were_applied)
{
	struct fixture fx;
	Pb__Barrier barrier = PB__BARRIER__INIT;

	open_cluster(&fx);
	check_counts(&fx, put_of(&fx, ALICE, 100, 8));
	check_counts(&fx, record_by(&fx, BOB, 200, 3, &barrier.base)); /* changes nothing */
	reopen(&fx);
	check_ignored(&fx, put_of(&fx, ALICE, 100, 8));
	check_ignored(&fx, put_of(&fx, BOB, 200, 3));
	check_counts(&fx, put_of(&fx, BOB, 200, 4));
	fixture_close(&fx);
}
END_TEST

static void copy_file(const char *from_dir, const char *to_dir, const char *name)
{
	static uint8_t block[1 << 16];
	char from[512], to[512];
	FILE *in, *out;
	size_t got;

	snprintf(from, sizeof from, "%s/%s", from_dir, name);
	snprintf(to, sizeof to, "%s/%s", to_dir, name);
	in = fopen(from, "r");
	out = fopen(to, "w");
	ck_assert_ptr_nonnull(in);
	ck_assert_ptr_nonnull(out);
	while ((got = fread(block, 1, sizeof block, in)) > 0)
		ck_assert_uint_eq(fwrite(block, 1, got, out), got);
	fclose(in);
	ck_assert_int_eq(fclose(out), 0);
}

/* As if the process had died. */
static void crash(struct fixture *fx)
{
	char old[300], dir[300];

	snprintf(old, sizeof old, "%s", fx->dir);
	snprintf(dir, sizeof dir, "%s", new_dir());
	mkdir(dir, 0700);
	copy_file(old, dir, "keta.db");
	copy_file(old, dir, "keta.db-wal");
	fixture_close(fx);
	open_at(fx, dir);
}

START_TEST(after_a_crash_records_whose_position_was_not_written_count_again)
{
	struct fixture fx;
	Pb__Barrier barrier = PB__BARRIER__INIT;
	int64_t offset, id = 1;
	uint64_t hash;

	open_cluster(&fx);
	check_counts(&fx, record_by(&fx, ALICE, 100, 3, &make_grant(&fx.arena, 1, 60)->base));
	offset = fx.offset;
	hash = fx.st->saved.hash;
	/* Nothing of these is worth a write. */
	for (int turn = 0; turn < 2; turn++) {
		check_counts(&fx, record_by(&fx, ALICE, 100, 4, &barrier.base));
		check_counts(&fx, record_by(&fx, ALICE, 100, 5, &make_renew(&fx.arena, &id, 1)->base));
		check_ignored(&fx, put_of(&fx, ALICE, 100, 5));
		crash(&fx);
		ck_assert_int_eq(fx.offset, offset);
		ck_assert_uint_eq(fx.st->saved.hash, hash);
		check_ignored(&fx, put_of(&fx, ALICE, 100, 3));
		fx.offset = fx.st->saved.applied_offset;
		crash(&fx);
	}
	fixture_close(&fx);
}
END_TEST

START_TEST(the_sequence_of_a_new_incarnation_is_written_with_its_join)
{
	struct fixture fx;
	struct applied applied[3];
	Pb__Record *records[3];

	open_cluster(&fx);
	check_counts(&fx, put_of(&fx, BOB, 200, 3));
	records[0] = join_of(&fx, BOB, 201, 1, 2);
	records[1] = put_of(&fx, BOB, 201, 2);
	records[2] = put_of(&fx, BOB, 201, 3); /* as far as the incarnation before */
	ck_assert_int_eq(try_batch(&fx, records, 3, false, applied), STATUS_OK);
	ck_assert_str_eq(member_row(&fx, BOB), "n http://a:1,http://b:2 2 201 3 0.1 1");
	reopen(&fx);
	check_ignored(&fx, put_of(&fx, BOB, 201, 2));
	check_ignored(&fx, put_of(&fx, BOB, 201, 3));
	fixture_close(&fx);
}
END_TEST

/* ---- What the tables hold may be dropped ---- */

static void cover(struct fixture *fx, uint64_t sequence, int64_t offset, int64_t compact_revision)
{
	Pb__Covered covered = PB__COVERED__INIT;
	Pb__Record *rec;

	covered.offset = offset;
	covered.compact_revision = compact_revision;
	rec = record_by(fx, ALICE, 100, sequence, &covered.base);
	rec->term = 2;
	check_counts(fx, rec);
}

static int count_rows(struct fixture *fx, const char *table)
{
	sqlite3_stmt *stmt;
	int count;

	ck_assert_int_eq(sqlite3_prepare_v2(fx->st->view.db,
	                                    arena_printf(&fx->arena, "SELECT count(*) FROM %s", table), -1,
	                                    &stmt, NULL),
	                 SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
	count = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return count;
}

START_TEST(compacted_rows_leave_only_when_the_tables_do_without_them)
{
	struct fixture fx;
	uint64_t hash;

	open_cluster(&fx);
	for (uint64_t i = 3; i < 8; i++)
		check_counts(&fx, put_of(&fx, ALICE, 100, i));
	check_counts(&fx, record_by(&fx, ALICE, 100, 8, &make_compaction(&fx.arena, 4)->base));
	ck_assert_int_eq(fx.st->saved.compact_revision, 4);
	ck_assert(!compact_is_due(fx.st));
	reopen(&fx);
	ck_assert(!compact_is_due(fx.st));
	hash = fx.st->saved.hash;
	cover(&fx, 9, fx.offset - 1, 3); /* a marker from before the last compaction */
	ck_assert_uint_eq(fx.st->saved.hash, hash);
	ck_assert_uint_eq(fixture_compact_rows(&fx, 10), 1);
	ck_assert_int_eq(fx.st->saved.compact_revision, 4);
	cover(&fx, 10, fx.offset, 4);
	reopen(&fx);
	ck_assert(compact_is_due(fx.st));
	ck_assert_uint_eq(fixture_compact_rows(&fx, 10), 1);
	ck_assert_int_eq(count_rows(&fx, "version"), 3);
	cover(&fx, 11, fx.offset, 3); /* said late: nothing comes of it */
	ck_assert(!compact_is_due(fx.st));
	ck_assert_int_eq(fx.st->saved.drop_revision, 4);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_marker_without_a_compaction_allows_nothing)
{
	struct fixture fx;

	open_cluster(&fx);
	check_counts(&fx, put_of(&fx, ALICE, 100, 3));
	cover(&fx, 4, fx.offset, fx.st->saved.compact_revision);
	ck_assert(!compact_is_due(fx.st));
	ck_assert_int_eq(fx.st->saved.drop_revision, -1);
	fixture_close(&fx);
}
END_TEST

START_TEST(names_of_ended_leases_are_kept_until_the_tables_know)
{
	struct fixture fx;
	int64_t first;

	open_cluster(&fx);
	for (int64_t id = 1; id <= 3; id++)
		check_counts(&fx, record_by(&fx, ALICE, 100, (uint64_t)(2 + id),
		                            &make_grant(&fx.arena, id, 60)->base));
	check_counts(&fx, record_by(&fx, ALICE, 100, 6, &make_revoke(&fx.arena, 1)->base));
	first = fx.offset;
	check_counts(&fx, record_by(&fx, ALICE, 100, 7, &make_revoke(&fx.arena, 2)->base));
	check_counts(&fx, record_by(&fx, ALICE, 100, 8, &make_grant(&fx.arena, 1, 60)->base));
	ck_assert_int_eq(count_rows(&fx, "gone_lease"), 2);
	reopen(&fx);
	cover(&fx, 9, first - 1, -1);
	ck_assert_int_eq(count_rows(&fx, "gone_lease"), 2);
	cover(&fx, 10, first, -1);
	ck_assert_int_eq(count_rows(&fx, "gone_lease WHERE id = 2"), 1);
	ck_assert_int_eq(count_rows(&fx, "gone_lease"), 1);
	ck_assert_int_eq(count_rows(&fx, "lease"), 2);
	fixture_close(&fx);
}
END_TEST

/* ---- Votes and levels ---- */

static void give_verdict(struct fixture *fx, uint64_t sequence, bool undecided)
{
	Pb__HashVerdict verdict = PB__HASH_VERDICT__INIT;
	Pb__Record *rec;

	verdict.undecided = undecided;
	rec = record_by(fx, ALICE, 100, sequence, &verdict.base);
	rec->term = 2;
	check_counts(fx, rec);
}

START_TEST(an_undecided_vote_raises_the_alarm)
{
	struct fixture fx;
	Pb__AlarmMember **alarms;
	uint64_t hash;
	size_t count;

	open_cluster(&fx);
	hash = fx.st->saved.hash;
	give_verdict(&fx, 3, false);
	ck_assert(!fx.st->alarm_corrupt);
	ck_assert_uint_eq(fx.st->saved.hash, hash);
	give_verdict(&fx, 4, true);
	ck_assert(fx.st->alarm_corrupt);
	ck_assert_uint_ne(fx.st->saved.hash, hash);
	hash = fx.st->saved.hash;
	give_verdict(&fx, 5, true);
	ck_assert_uint_eq(fx.st->saved.hash, hash);
	reopen(&fx);
	ck_assert(fx.st->alarm_corrupt);
	ck_assert_int_eq(
		maintenance_read_alarms(&fx.st->view, PB__ALARM_TYPE__NONE, &fx.arena, &count, &alarms),
		STATUS_OK);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(alarms[0]->memberid, ALICE);
	ck_assert_int_eq(take(&fx, put_of(&fx, BOB, 200, 2)).status, STATUS_CORRUPT);
	check_counts(&fx, join_of(&fx, CAROL, 300, 1, 1)); /* nodes come and go all the same */
	check_counts(&fx, office_of(&fx, CAROL, 300, 2, 3));
	fixture_close(&fx);
}
END_TEST

static void raise_level(struct fixture *fx, uint64_t sequence, uint32_t level)
{
	Pb__RaiseLevel request = PB__RAISE_LEVEL__INIT;
	Pb__Record *rec;

	request.level = level;
	rec = record_by(fx, ALICE, 100, sequence, &request.base);
	rec->term = 2;
	check_counts(fx, rec);
}

static Pb__Record *join_with_level(struct fixture *fx, uint64_t member, uint64_t incarnation,
                                   uint64_t number, uint32_t level)
{
	Pb__Join *join = make_join(fx, number, "n");

	join->level = level;
	return record_by(fx, member, incarnation, 1, &join->base);
}

START_TEST(a_level_is_in_force_once_all_members_know_it)
{
	struct fixture fx;
	uint64_t hash;

	open_cluster(&fx);
	check_counts(&fx, join_with_level(&fx, BOB, 201, 2, 3));
	hash = fx.st->saved.hash;
	raise_level(&fx, 3, 2); /* alice knows 1 */
	raise_level(&fx, 4, 1);
	raise_level(&fx, 5, 0);
	ck_assert_uint_eq(fx.st->saved.level, 1);
	ck_assert_uint_eq(fx.st->saved.hash, hash);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_level_goes_up_and_stays)
{
	struct fixture fx;
	Pb__RaiseLevel request = PB__RAISE_LEVEL__INIT;
	Pb__Record *rec;

	open_cluster(&fx);
	check_counts(&fx, join_with_level(&fx, BOB, 201, 2, 3));
	check_counts(&fx, join_with_level(&fx, ALICE, 101, 2, 2));
	rec = office_of(&fx, ALICE, 101, 2, 3);
	check_counts(&fx, rec);
	request.level = 2;
	rec = record_by(&fx, ALICE, 101, 3, &request.base);
	rec->term = 3;
	check_counts(&fx, rec);
	ck_assert_uint_eq(fx.st->saved.level, 2);
	check_counts(&fx, join_with_level(&fx, CAROL, 300, 1, 1)); /* too old, and comes too late */
	reopen(&fx);
	ck_assert_uint_eq(fx.st->saved.level, 2);
	ck_assert_uint_eq(store_find_member(fx.st, ALICE)->level, 2);
	ck_assert_uint_eq(store_find_member(fx.st, BOB)->level, 3);
	fixture_close(&fx);
}
END_TEST

START_TEST(nobody_waits_for_barriers_and_votes_to_change_anything)
{
	struct fixture fx;
	Pb__Barrier barrier = PB__BARRIER__INIT;
	Pb__HashVote vote = PB__HASH_VOTE__INIT;
	uint64_t hash;

	open_cluster(&fx);
	hash = fx.st->saved.hash;
	check_counts(&fx, record_by(&fx, BOB, 200, 2, &barrier.base));
	check_counts(&fx, record_by(&fx, BOB, 200, 3, &vote.base));
	ck_assert_uint_eq(fx.st->saved.hash, hash);
	fixture_close(&fx);
}
END_TEST

/* ---- The hash ---- */

static void skip(struct fixture *fx)
{
	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	ck_assert_int_eq(apply_skip(fx->st, ++fx->offset), STATUS_OK);
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
}

START_TEST(the_same_records_give_the_same_hash_and_a_skip_another)
{
	struct fixture a, b;

	open_cluster(&a);
	open_cluster(&b);
	ck_assert_uint_eq(a.st->saved.hash, b.st->saved.hash);
	check_counts(&a, put_of(&a, ALICE, 100, 3));
	check_counts(&b, put_of(&b, ALICE, 100, 3));
	ck_assert_uint_eq(a.st->saved.hash, b.st->saved.hash);
	skip(&a);
	check_ignored(&b, put_of(&b, CAROL, 1, 1));
	ck_assert_uint_ne(a.st->saved.hash, b.st->saved.hash);
	ck_assert_int_eq(a.st->saved.applied_offset, b.st->saved.applied_offset);
	reopen(&a);
	ck_assert_uint_ne(a.st->saved.hash, b.st->saved.hash);
	fixture_close(&a);
	fixture_close(&b);
}
END_TEST

START_TEST(all_who_skip_the_same_record_agree)
{
	struct fixture a, b;

	open_cluster(&a);
	open_cluster(&b);
	skip(&a);
	skip(&b);
	ck_assert_uint_eq(a.st->saved.hash, b.st->saved.hash);
	fixture_close(&a);
	fixture_close(&b);
}
END_TEST

START_TEST(the_log_is_told_by_all_its_records)
{
	struct fixture a, b;

	open_cluster(&a);
	open_cluster(&b);
	ck_assert_int_eq(store_begin(a.st), STATUS_OK);
	store_note_record(a.st, "one", 3);
	store_note_record(a.st, "two", 3);
	a.st->writes_next = true;
	ck_assert_int_eq(store_commit(a.st), STATUS_OK);
	ck_assert_int_eq(store_begin(b.st), STATUS_OK);
	store_note_record(b.st, "two", 3);
	ck_assert_int_eq(store_commit(b.st), STATUS_OK);
	ck_assert_uint_eq(a.st->saved.record_hash, b.st->saved.record_hash);
	ck_assert_uint_ne(a.st->saved.chain, b.st->saved.chain);
	reopen(&a);
	ck_assert_uint_eq(a.st->saved.record_hash, b.st->saved.record_hash);
	ck_assert_uint_ne(a.st->saved.chain, 0);
	fixture_close(&a);
	fixture_close(&b);
}
END_TEST

/* ---- Without a shared log ---- */

START_TEST(without_a_shared_log_nobody_has_to_join)
{
	struct fixture fx;

	fixture_open(&fx);
	ck_assert(!fx.st->shared);
	fixture_put(&fx, "a", "1"); /* incarnation and sequence 0 */
	fixture_put(&fx, "a", "2");
	ck_assert_int_eq(fx.st->saved.revision, 3);
	ck_assert_int_eq(fixture_apply(&fx, &make_revoke(&fx.arena, 1)->base).status,
	                 STATUS_LEASE_NOT_FOUND);
	fixture_run(&fx, &make_grant(&fx.arena, 1, 60)->base);
	fixture_run(&fx, &make_revoke(&fx.arena, 1)->base);
	ck_assert_int_eq(count_rows(&fx, "gone_lease"), 0);
	fixture_compact(&fx, 3);
	ck_assert(compact_is_due(fx.st));
	ck_assert_uint_eq(fixture_compact_rows(&fx, 10), 1);
	fixture_close(&fx);
}
END_TEST

/* ---- Which database belongs to which log ---- */

START_TEST(a_database_keeps_to_its_kind_of_log)
{
	struct fixture fx;
	char dir[300];

	fixture_open(&fx);
	snprintf(dir, sizeof dir, "%s", fx.dir);
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_KAFKA, "kafka-1"), STATUS_BAD_DATABASE);
	ck_assert_int_eq(try_open(&fx, dir, LOG_EMBEDDED, NULL), STATUS_OK);
	fixture_put(&fx, "a", "1");
	fixture_close(&fx);
	open_cluster(&fx);
	snprintf(dir, sizeof dir, "%s", fx.dir);
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_EMBEDDED, NULL), STATUS_BAD_DATABASE);
	open_at(&fx, dir);
	check_counts(&fx, put_of(&fx, ALICE, 100, 3));
	fixture_close(&fx);
}
END_TEST

START_TEST(a_database_keeps_to_its_kafka)
{
	struct fixture fx;
	char dir[300];

	open_cluster(&fx);
	snprintf(dir, sizeof dir, "%s", fx.dir);
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_KAFKA, "kafka-2"), STATUS_BAD_DATABASE);
	open_at(&fx, dir);
	fixture_close(&fx);
}
END_TEST

START_TEST(an_unknown_kafka_id_does_not_replace_the_known_one)
{
	struct fixture fx;
	char dir[300];

	open_cluster(&fx);
	snprintf(dir, sizeof dir, "%s", fx.dir);
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_KAFKA, NULL), STATUS_OK);
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_KAFKA, "kafka-2"), STATUS_BAD_DATABASE);
}
END_TEST

START_TEST(a_kafka_id_is_learnt_when_it_is_known)
{
	struct fixture fx;
	char dir[300];

	ck_assert_int_eq(try_open(&fx, new_dir(), LOG_KAFKA, NULL), STATUS_OK);
	check_counts(&fx, genesis_of(&fx, FIXTURE_CLUSTER_ID));
	snprintf(dir, sizeof dir, "%s", fx.dir);
	fixture_close(&fx);
	open_at(&fx, dir);
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_KAFKA, "kafka-2"), STATUS_BAD_DATABASE);
}
END_TEST

START_TEST(a_kind_counts_only_once_there_is_something)
{
	struct fixture fx;
	char dir[300];

	snprintf(dir, sizeof dir, "%s", new_dir());
	open_at(&fx, dir); /* Kafka was never reached */
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_KAFKA, "kafka-2"), STATUS_OK);
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_EMBEDDED, NULL), STATUS_OK);
	fixture_bear(&fx);
	fixture_put(&fx, "a", "1");
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_EMBEDDED, NULL), STATUS_OK);
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "1");
	fixture_close(&fx);
	ck_assert_int_eq(try_open(&fx, dir, LOG_KAFKA, "kafka-1"), STATUS_BAD_DATABASE);
}
END_TEST

/* ---- Databases of the version before ---- */

/* The tables as version 1 had them, with a key of two versions, a deleted one, a lease and an alarm; the
 * first two revisions are compacted. */
static const char VERSION_1[] =
	"CREATE TABLE version (id INTEGER PRIMARY KEY, key BLOB NOT NULL, mod INTEGER NOT NULL,"
	" created INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL, previous INTEGER NOT "
	"NULL,"
	" skips BLOB, deleted INTEGER NOT NULL, value BLOB NOT NULL);"
	"CREATE TABLE current (key BLOB PRIMARY KEY, id INTEGER NOT NULL, mod INTEGER NOT NULL,"
	" created INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL, number INTEGER NOT "
	"NULL,"
	" heads BLOB, value BLOB NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE tombstone (key BLOB PRIMARY KEY, id INTEGER NOT NULL, number INTEGER NOT NULL, heads "
	"BLOB)"
	" WITHOUT ROWID;"
	"CREATE INDEX attached ON current (lease) WHERE lease != 0;"
	"CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_sec INTEGER NOT NULL, renewal INTEGER NOT NULL,"
	" remaining_sec INTEGER NOT NULL);"
	"CREATE TABLE alarm (member_id INTEGER NOT NULL, kind INTEGER NOT NULL,"
	" PRIMARY KEY (member_id, kind)) WITHOUT ROWID;"
	"CREATE TABLE member (id INTEGER PRIMARY KEY, name TEXT NOT NULL, client_urls TEXT NOT NULL);"
	"CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), log_kind TEXT NOT NULL DEFAULT "
	"'embedded',"
	" applied_offset INTEGER NOT NULL, revision INTEGER NOT NULL, compact_revision INTEGER NOT NULL,"
	" compacted_id INTEGER NOT NULL, last_id INTEGER NOT NULL, term INTEGER NOT NULL,"
	" cluster_id INTEGER NOT NULL, member_id INTEGER NOT NULL, logical_bytes INTEGER NOT NULL,"
	" keys INTEGER NOT NULL, hash INTEGER NOT NULL);"
	"INSERT INTO version VALUES (2<<20, x'61', 2, 2, 1, 0, 0, NULL, 0, x'6f6e65'),"
	" (3<<20, x'61', 3, 2, 2, 7, 2<<20, NULL, 0, x'74776f'), (4<<20, x'62', 4, 4, 1, 0, 0, NULL, 0, "
	"x'78'),"
	" (5<<20, x'62', 5, 0, 0, 0, 4<<20, NULL, 1, x'');"
	"INSERT INTO current VALUES (x'61', 3<<20, 3, 2, 2, 7, 2, NULL, x'74776f');"
	"INSERT INTO tombstone VALUES (x'62', 5<<20, 2, NULL);"
	"INSERT INTO lease VALUES (7, 60, 2, 60);"
	"INSERT INTO alarm VALUES (22136, 1);"
	"INSERT INTO member VALUES (22136, 'default', 'http://127.0.0.1:2379');"
	"INSERT INTO state VALUES (1, 'embedded', 9, 5, 2, 2<<20, 5<<20, 1, 4660, 22136, 1000, 1, 99);"
	"PRAGMA application_id = 1264940129; PRAGMA user_version = 1;";

static void make_version_1(const char *dir)
{
	char path[512];
	sqlite3 *db;

	mkdir(dir, 0700);
	snprintf(path, sizeof path, "%s/keta.db", dir);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, VERSION_1, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void check_version_1(struct fixture *fx)
{
	ck_assert_int_eq(fx->st->saved.applied_offset, 9);
	ck_assert_uint_eq(fx->st->saved.cluster_id, FIXTURE_CLUSTER_ID);
	ck_assert_uint_eq(fx->st->saved.hash, 99);
	ck_assert_int_eq(fx->st->saved.drop_revision, 2);
	ck_assert_uint_eq(fx->st->saved.level, 1);
	ck_assert_uint_eq(fx->st->saved.owner, 0);
	ck_assert(fx->st->alarm_nospace);
	ck_assert_str_eq(fixture_get(fx, "a", 0), "two");
	ck_assert_str_eq(fixture_get(fx, "a", 2), "one");
	ck_assert_str_eq(fixture_get(fx, "b", 4), "x");
	ck_assert_ptr_null(fixture_get(fx, "b", 0));
	ck_assert_str_eq(member_row(fx, FIXTURE_MEMBER_ID), "default http://127.0.0.1:2379 0 0 0  0");
	ck_assert_int_eq(count_rows(fx, "lease"), 1);
	ck_assert_int_eq(count_rows(fx, "gone_lease"), 0);
	fixture_check_integrity(fx);
}

START_TEST(a_database_of_version_1_is_brought_up_to_date)
{
	struct fixture fx;
	char dir[300];

	snprintf(dir, sizeof dir, "%s", new_dir());
	make_version_1(dir);
	ck_assert_int_eq(try_open(&fx, dir, LOG_EMBEDDED, NULL), STATUS_OK);
	check_version_1(&fx);
	fixture_close(&fx);
	/* The second time there is nothing to do. */
	ck_assert_int_eq(try_open(&fx, dir, LOG_EMBEDDED, NULL), STATUS_OK);
	check_version_1(&fx);
	fixture_run(&fx, &make_alarm(&fx.arena, PB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE,
	                             PB__ALARM_TYPE__NOSPACE)
	                          ->base);
	fixture_compact_rows(&fx, 10);
	fixture_put(&fx, "a", "three");
	fixture_compact(&fx, 6);
	ck_assert_uint_eq(fixture_compact_rows(&fx, 10), 4); /* two of a, b and its deletion */
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "three");
	fixture_run(&fx, &make_revoke(&fx.arena, 7)->base);
	fixture_close(&fx);
}
END_TEST

START_TEST(a_database_of_version_1_is_of_no_shared_log)
{
	struct fixture fx;
	char dir[300];

	snprintf(dir, sizeof dir, "%s", new_dir());
	make_version_1(dir);
	ck_assert_int_eq(try_open(&fx, dir, LOG_KAFKA, "kafka-1"), STATUS_BAD_DATABASE);
	ck_assert_int_eq(try_open(&fx, dir, LOG_EMBEDDED, NULL), STATUS_OK);
	check_version_1(&fx);
	fixture_close(&fx);
}
END_TEST

static void add_admission(TCase *tcase)
{
	tcase_add_test(tcase, a_node_has_the_same_id_at_every_start);
	tcase_add_test(tcase, only_the_first_genesis_founds_the_cluster);
	tcase_add_test(tcase, genesis_makes_no_member);
	tcase_add_test(tcase, before_genesis_nothing_is_done);
	tcase_add_test(tcase, a_record_of_another_cluster_stops_the_node);
	tcase_add_test(tcase, records_of_who_has_not_joined_do_not_count);
	tcase_add_test(tcase, records_of_a_replaced_incarnation_do_not_count);
	tcase_add_test(tcase, a_repeated_record_does_not_count);
	tcase_add_test(tcase, a_refused_record_does_not_come_again);
	tcase_add_test(tcase, a_record_that_fails_half_way_is_applied_once);
	tcase_add_test(tcase, a_record_that_saw_what_the_log_has_lost_does_not_count);
	tcase_add_loop_test(tcase, a_leaders_record_counts_in_its_term_only, 0, LEADERS_KINDS);
	tcase_add_test(tcase, an_ignored_leaders_record_uses_up_its_number);
	tcase_add_test(tcase, a_term_is_taken_once);
}

static void add_joins(TCase *tcase)
{
	tcase_add_test(tcase, a_join_needs_a_new_number);
	tcase_add_test(tcase, a_join_that_is_in_the_log_twice_counts_once);
	tcase_add_test(tcase, a_member_is_what_it_said_when_it_joined);
	tcase_add_test(tcase, a_full_cluster_takes_no_new_member);
	tcase_add_test(tcase, a_join_that_is_rolled_back_has_not_been);
	tcase_add_test(tcase, a_restart_knows_which_records_were_applied);
	tcase_add_test(tcase, after_a_crash_records_whose_position_was_not_written_count_again);
	tcase_add_test(tcase, the_sequence_of_a_new_incarnation_is_written_with_its_join);
}

static void add_leading(TCase *tcase)
{
	tcase_add_test(tcase, compacted_rows_leave_only_when_the_tables_do_without_them);
	tcase_add_test(tcase, a_marker_without_a_compaction_allows_nothing);
	tcase_add_test(tcase, names_of_ended_leases_are_kept_until_the_tables_know);
	tcase_add_test(tcase, an_undecided_vote_raises_the_alarm);
	tcase_add_test(tcase, a_level_is_in_force_once_all_members_know_it);
	tcase_add_test(tcase, a_level_goes_up_and_stays);
	tcase_add_test(tcase, nobody_waits_for_barriers_and_votes_to_change_anything);
	tcase_add_test(tcase, the_same_records_give_the_same_hash_and_a_skip_another);
	tcase_add_test(tcase, all_who_skip_the_same_record_agree);
	tcase_add_test(tcase, the_log_is_told_by_all_its_records);
}

static void add_kinds(TCase *tcase)
{
	tcase_add_test(tcase, without_a_shared_log_nobody_has_to_join);
	tcase_add_test(tcase, a_database_keeps_to_its_kind_of_log);
	tcase_add_test(tcase, a_database_keeps_to_its_kafka);
	tcase_add_test(tcase, an_unknown_kafka_id_does_not_replace_the_known_one);
	tcase_add_test(tcase, a_kafka_id_is_learnt_when_it_is_known);
	tcase_add_test(tcase, a_kind_counts_only_once_there_is_something);
	tcase_add_test(tcase, a_database_of_version_1_is_brought_up_to_date);
	tcase_add_test(tcase, a_database_of_version_1_is_of_no_shared_log);
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("cluster");
	TCase *tcase = tcase_create("cluster");

	tcase_set_timeout(tcase, 60);
	add_admission(tcase);
	add_joins(tcase);
	add_leading(tcase);
	add_kinds(tcase);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
