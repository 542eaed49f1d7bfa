/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables and back: what checkpoints write to the tables must give, in a new
 * database, the state that their marker tells of, whatever happened in between.
 *
 * Two stores follow one log; either may be the leader that writes the next
 * checkpoint, while records go on being applied and rows being dropped. A third
 * one, the witness, stands at the newest marker and is compared with what a
 * restored database holds; the restored one then takes the place of one of the
 * two. Some checkpoints are given up before their commit, and of some the log
 * never says that they are there.
 *
 * KETA_SEED repeats a run, KETA_STEPS makes it longer.
 */
#include "state/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/wire.h"
#include "lib/array_log.h"
#include "lib/fault_vfs.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "lib/workload.h"
#include "log/record.h"
#include "state/compact.h"
#include "state/maintenance.h"
#include "state/restore.h"

enum {
	DEFAULT_ROUNDS = 25,
	ROUND_RECORDS = 50,
	BATCH_MAX = 30,
	STEP_ROWS = 7, /* few, so that a checkpoint takes many steps */
	MEMBERS = 2,
	LIVE = 2, /* stores that may lead */
	LAWS = 4, /* runs of the law */
};

/* ---- The tables ---- */

struct write {
	bool is_lease;
	int64_t id;
	uint8_t *value; /* NULL: the row is gone */
	size_t len;
};

/* All that was written, in order: what a topic holds before it is compacted. */
struct tables {
	struct write *writes;
	size_t count, size;
	size_t committed; /* of these */
	struct arena arena;
	Pb__Marker *marker; /* the newest; NULL: there is none */
};

static enum status_code put_row(void *arg, bool is_lease, const uint8_t key[ROW_KEY_BYTES],
                                const void *value, size_t len)
{
	struct tables *tables = arg;
	struct write *write;

	if (tables->count == tables->size) {
		tables->size = tables->size == 0 ? 256 : tables->size * 2;
		tables->writes = realloc(tables->writes, tables->size * sizeof *tables->writes);
		ck_assert_ptr_nonnull(tables->writes);
	}
	write = &tables->writes[tables->count++];
	*write = (struct write){.is_lease = is_lease, .len = len};
	ck_assert(row_id(key, ROW_KEY_BYTES, &write->id));
	if (value == NULL)
		return STATUS_OK;
	write->value = malloc(len + 1);
	ck_assert_ptr_nonnull(write->value);
	memcpy(write->value, value, len);
	return STATUS_OK;
}

static void tables_init(struct tables *tables)
{
	*tables = (struct tables){0};
	arena_init(&tables->arena, 1 << 30, NULL, 0);
}

static void tables_undo(struct tables *tables)
{
	while (tables->count > tables->committed)
		free(tables->writes[--tables->count].value);
}

static void tables_commit(struct tables *tables, const Pb__Marker *marker)
{
	struct buf packed;
	ProtobufCMessage *copy;

	tables->committed = tables->count;
	buf_init(&packed);
	wire_pack(&marker->base, &packed);
	arena_reset(&tables->arena);
	ck_assert_int_eq(
		wire_unpack(&pb__marker__descriptor, packed.data, packed.len, &tables->arena, &copy),
		STATUS_OK);
	tables->marker = (Pb__Marker *)copy;
	buf_release(&packed);
}

static void tables_release(struct tables *tables)
{
	tables->committed = 0;
	tables_undo(tables);
	free(tables->writes);
	arena_release(&tables->arena);
}

/* Whether a later write has replaced this one. */
static bool is_replaced(const struct tables *tables, size_t at)
{
	const struct write *write = &tables->writes[at];

	for (size_t i = at + 1; i < tables->committed; i++)
		if (tables->writes[i].is_lease == write->is_lease && tables->writes[i].id == write->id)
			return true;
	return false;
}

/* What the tables come to: the rows that are left, in any order. */
static struct row_sum tables_sum(const struct tables *tables, bool is_lease)
{
	struct row_sum sum = {0};

	for (size_t i = 0; i < tables->committed; i++) {
		const struct write *write = &tables->writes[i];

		if (write->is_lease == is_lease && write->value != NULL && !is_replaced(tables, i))
			row_sum_add(&sum, write->id, write->value, write->len);
	}
	return sum;
}

/* ---- Stores that follow a log ---- */

struct world {
	struct prng prng;
	struct workload work;
	struct log *log;
	struct arena arena; /* of the requests */
	uint64_t sequences[MEMBERS];
	uint64_t term;
	size_t owner; /* the member that leads; its store may be any */
	struct fixture live[LIVE];
	struct fixture witness;
	struct tables tables;
	size_t writer; /* whose checkpoint is the newest */
	int stores;
};

static void open_at(struct fixture *fx, const char *dir, const char *vfs)
{
	struct store_options options = {
		.dir = dir, .vfs = vfs, .log_kind = LOG_KAFKA, .kafka_id = "kafka-1"};

	*fx = (struct fixture){.vfs = vfs};
	snprintf(fx->dir, sizeof fx->dir, "%s", dir);
	arena_init(&fx->arena, 1 << 30, NULL, 0);
	ck_assert_int_eq(store_open(&options, &fx->st), STATUS_OK);
	fx->offset = fx->st->saved.applied_offset;
}

static const char *new_dir(struct world *world)
{
	char name[32];

	snprintf(name, sizeof name, "snapshot-%d", ++world->stores);
	return fixture_path(name);
}

static void append(struct world *world, const Pb__Record *rec)
{
	struct buf packed;

	buf_init(&packed);
	ck_assert_int_eq(record_pack(rec, RECORD_LEVEL, &packed), STATUS_OK);
	ck_assert_int_eq(log_append(world->log, packed.data, packed.len, 0), STATUS_OK);
	buf_release(&packed);
}

/* A record of one of the members; what only leaders may write, of the leader. */
static void propose_by(struct world *world, size_t member, const ProtobufCMessage *request)
{
	Pb__Record *rec = make_record(&world->arena, request);

	rec->member_id = member + 1;
	rec->incarnation = 100 + member;
	rec->sequence = ++world->sequences[member];
	rec->term = world->term;
	append(world, rec);
}

static void propose(struct world *world, const ProtobufCMessage *request)
{
	propose_by(world, world->owner, request);
}

static enum status_code take_record(struct fixture *fx, const struct log_record *raw, bool undoable)
{
	struct applied applied;
	Pb__Record *rec;
	enum status_code status;

	ck_assert_int_eq(record_unpack(raw->data, raw->len, RECORD_LEVEL, &fx->arena, &rec), STATUS_OK);
	status = apply(fx->st, rec, raw->offset, undoable, &fx->arena, &applied);
	if (status == STATUS_OK)
		store_note_record(fx->st, raw->data, raw->len);
	return status;
}

static enum status_code take_batch(struct fixture *fx, const struct log_record *records, size_t count,
                                   bool undoable)
{
	enum status_code status = store_begin(fx->st);

	for (size_t i = 0; status == STATUS_OK && i < count; i++)
		status = take_record(fx, &records[i], undoable);
	if (status == STATUS_OK)
		return store_commit(fx->st);
	store_rollback(fx->st);
	return status;
}

/* Applies what comes next, up to 'max' records and to this offset. */
static void take_some(struct world *world, struct fixture *fx, size_t max, int64_t to)
{
	struct log_record records[BATCH_MAX];
	size_t count;
	enum status_code status;
	int64_t left = to - fx->st->saved.applied_offset;

	if (left < (int64_t)max)
		max = (size_t)left;
	array_log_seek(world->log, fx->st->saved.applied_offset);
	ck_assert_int_eq(log_poll(world->log, records, max, &count, 0), STATUS_OK);
	status = take_batch(fx, records, count, false);
	if (status == STATUS_HALF_APPLIED)
		status = take_batch(fx, records, count, true);
	ck_assert_int_eq(status, STATUS_OK);
	fixture_forget(fx);
}

static void follow_to(struct world *world, struct fixture *fx, int64_t to)
{
	while (fx->st->saved.applied_offset < to)
		take_some(world, fx, 1 + prng_below(&world->prng, BATCH_MAX), to);
}

static void follow(struct world *world, struct fixture *fx)
{
	follow_to(world, fx, array_log_end(world->log));
}

static void drop_some_rows(struct world *world, struct fixture *fx)
{
	size_t dropped;
	bool done;

	if (!compact_is_due(fx->st))
		return;
	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	ck_assert_int_eq(compact_step(fx->st, 1 + prng_below(&world->prng, 20), &dropped, &done),
	                 STATUS_OK);
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
}

/* A batch that writes in any case: the position in the database is the one in memory after it. */
static void settle(struct fixture *fx)
{
	fx->st->writes_next = true;
	ck_assert_int_eq(store_begin(fx->st), STATUS_OK);
	ck_assert_int_eq(store_commit(fx->st), STATUS_OK);
}

static void join(struct world *world, size_t member)
{
	Pb__Join join = PB__JOIN__INIT;
	char name[8], *url = arena_strdup(&world->arena, "http://127.0.0.1:2379");

	snprintf(name, sizeof name, "n%zu", member);
	join.number = 1;
	join.name = name;
	join.client_urls = &url;
	join.n_client_urls = 1;
	join.version = arena_strdup(&world->arena, "1");
	join.level = 1;
	propose_by(world, member, &join.base);
}

static void take_office(struct world *world, size_t member)
{
	Pb__TakeOffice request = PB__TAKE_OFFICE__INIT;

	request.term = ++world->term;
	world->owner = member;
	propose_by(world, member, &request.base);
}

static void world_open(struct world *world, uint64_t seed)
{
	Pb__Genesis genesis = PB__GENESIS__INIT;
	Pb__Record *rec;

	*world = (struct world){.term = 1, .work = {.alarms = true}};
	prng_init(&world->prng, seed);
	prng_init(&world->work.prng, seed + 1);
	arena_init(&world->arena, 1 << 30, NULL, 0);
	tables_init(&world->tables);
	world->log = array_log_new();
	for (size_t i = 0; i < LIVE; i++)
		open_at(&world->live[i], new_dir(world), NULL);
	open_at(&world->witness, new_dir(world), NULL);
	genesis.cluster_id = FIXTURE_CLUSTER_ID;
	rec = make_record(&world->arena, &genesis.base);
	rec->cluster_id = 0;
	append(world, rec);
	for (size_t i = 0; i < MEMBERS; i++)
		join(world, i);
	take_office(world, 0);
	for (size_t i = 0; i < LIVE; i++)
		follow(world, &world->live[i]);
}

static void world_close(struct world *world)
{
	for (size_t i = 0; i < LIVE; i++)
		fixture_close(&world->live[i]);
	fixture_close(&world->witness);
	tables_release(&world->tables);
	log_close(world->log);
	arena_release(&world->arena);
}

/* ---- Checkpoints ---- */

/* Writes what differs since 'since'; *between, if any, is called between steps. */
static void write_rows(struct fixture *fx, struct tables *tables, const Pb__Marker *since, bool commits,
                       void (*between)(struct world *world, struct fixture *fx), struct world *world)
{
	struct snapshot snapshot;
	struct view view;
	bool done = false;

	ck_assert_int_eq(store_view(fx->st, VIEW_LONG_READ, &view), STATUS_OK);
	ck_assert_int_eq(snapshot_begin(&snapshot, &view, since), STATUS_OK);
	while (!done) {
		ck_assert_int_eq(snapshot_step(&snapshot, STEP_ROWS, put_row, tables, &done), STATUS_OK);
		if (between != NULL)
			between(world, fx);
	}
	if (commits)
		tables_commit(tables, snapshot.marker);
	else
		tables_undo(tables);
	snapshot_release(&snapshot);
	view_close(&view);
}

static void say_covered(struct world *world)
{
	Pb__Covered covered = PB__COVERED__INIT;

	covered.offset = world->tables.marker->offset;
	covered.compact_revision = world->tables.marker->compact_revision;
	propose(world, &covered.base);
}

static void check_alarms(struct fixture *found, struct fixture *wanted)
{
	struct fixture *both[] = {found, wanted};
	Pb__AlarmMember **alarms[2];
	size_t counts[2];

	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(maintenance_read_alarms(&both[i]->st->view, PB__ALARM_TYPE__NONE,
		                                         &both[i]->arena, &counts[i], &alarms[i]),
		                 STATUS_OK);
	ck_assert_uint_eq(counts[0], counts[1]);
	for (size_t i = 0; i < counts[0]; i++)
		assert_same_message(&alarms[0][i]->base, &alarms[1][i]->base);
	ck_assert_int_eq(found->st->alarm_nospace, wanted->st->alarm_nospace);
	ck_assert_int_eq(found->st->alarm_corrupt, wanted->st->alarm_corrupt);
}

static void check_members(struct fixture *found, struct fixture *wanted)
{
	Pb__Member **members[2];
	size_t counts[2];

	ck_assert_uint_eq(found->st->member_count, wanted->st->member_count);
	for (size_t i = 0; i < wanted->st->member_count; i++) {
		const struct store_member *member = &wanted->st->members[i];
		const struct store_member *same = store_find_member(found->st, member->id);

		ck_assert_ptr_nonnull(same);
		ck_assert_mem_eq(same, member, sizeof *same);
	}
	ck_assert_int_eq(maintenance_read_members(&found->st->view, &found->arena, &counts[0], &members[0]),
	                 STATUS_OK);
	ck_assert_int_eq(
		maintenance_read_members(&wanted->st->view, &wanted->arena, &counts[1], &members[1]),
		STATUS_OK);
	ck_assert_uint_eq(counts[0], counts[1]);
	for (size_t i = 0; i < counts[0]; i++)
		assert_same_message(&members[0][i]->base, &members[1][i]->base);
}

/* Two stores at the same offset. */
static void check_same(struct fixture *found, struct fixture *wanted)
{
	const struct store_state *a = &found->st->saved, *b = &wanted->st->saved;

	ck_assert_int_eq(a->applied_offset, b->applied_offset);
	ck_assert_uint_eq(a->hash, b->hash);
	ck_assert_uint_eq(a->chain, b->chain);
	ck_assert_uint_eq(a->record_hash, b->record_hash);
	ck_assert_uint_eq(a->cluster_id, b->cluster_id);
	ck_assert_int_eq(a->revision, b->revision);
	ck_assert_int_eq(a->compact_revision, b->compact_revision);
	ck_assert_int_eq(a->last_id, b->last_id);
	ck_assert_int_eq(a->keys, b->keys);
	ck_assert_uint_eq(a->term, b->term);
	ck_assert_uint_eq(a->owner, b->owner);
	ck_assert_uint_eq(a->owner_member, b->owner_member);
	ck_assert_uint_eq(a->level, b->level);
	check_alarms(found, wanted);
	check_members(found, wanted);
	ck_assert_uint_eq(fixture_lease_hash(found), fixture_lease_hash(wanted));
	ck_assert_uint_eq(fixture_content_hash(found), fixture_content_hash(wanted));
	fixture_check_integrity(found);
	fixture_forget(found);
	fixture_forget(wanted);
}

/* Tells a new database of the rows as a topic may hold them: up to some point it
 * has been cleaned of what was replaced and of rows that are gone. */
static enum status_code feed(struct world *world, struct restore *restore, bool is_lease)
{
	const struct tables *tables = &world->tables;
	size_t clean = prng_below(&world->prng, (unsigned)tables->committed + 1);
	enum status_code status = STATUS_OK;

	for (size_t i = 0; status == STATUS_OK && i < tables->committed; i++) {
		const struct write *write = &tables->writes[i];
		uint8_t key[ROW_KEY_BYTES];

		if (write->is_lease != is_lease ||
		    (i < clean && (write->value == NULL || is_replaced(tables, i))))
			continue;
		row_key(write->id, key);
		status = restore_row(restore, is_lease, key, sizeof key, write->value, write->len);
	}
	return status;
}

static enum status_code try_restore(struct world *world, const char *dir, const char *vfs)
{
	struct restore *restore;
	enum status_code status;
	bool twice = prng_chance(&world->prng, 30);

	mkdir(dir, 0700);
	status = restore_begin(dir, vfs, &restore);
	if (status != STATUS_OK)
		return status;
	if (twice)
		status = feed(world, restore, false);
	if (status == STATUS_OK)
		status = feed(world, restore, false);
	if (status == STATUS_OK)
		status = feed(world, restore, true);
	if (status == STATUS_OK)
		return restore_finish(restore, world->tables.marker, "kafka-1");
	restore_abort(restore);
	return status;
}

/* The tables are those of their marker, and what they would be if they had been written at once. */
static void check_tables(struct world *world)
{
	const Pb__Marker *marker = world->tables.marker;
	struct row_sum kv = tables_sum(&world->tables, false), leases = tables_sum(&world->tables, true);
	struct tables whole;

	ck_assert_int_eq(marker->kv_rows, kv.rows);
	ck_assert_uint_eq(marker->kv_sum, kv.sum);
	ck_assert_int_eq(marker->lease_rows, leases.rows);
	ck_assert_uint_eq(marker->lease_sum, leases.sum);
	tables_init(&whole);
	settle(&world->witness);
	write_rows(&world->witness, &whole, NULL, true, NULL, NULL);
	assert_same_message(&whole.marker->base, &marker->base);
	tables_release(&whole);
}

/* Restores what the tables hold and compares; the new store is the caller's. */
static void restore_and_check(struct world *world, struct fixture *fx)
{
	char dir[300];

	snprintf(dir, sizeof dir, "%s", new_dir(world));
	follow_to(world, &world->witness, world->tables.marker->offset);
	check_tables(world);
	ck_assert_int_eq(try_restore(world, dir, NULL), STATUS_OK);
	open_at(fx, dir, NULL);
	check_same(fx, &world->witness);
}

/* ---- The law ---- */

static void propose_some(struct world *world, struct fixture *fx, size_t count)
{
	while (count-- > 0) {
		const ProtobufCMessage *request;

		follow(world, fx);
		workload_learn(&world->work, fx->st);
		request = workload_write(&world->work, &world->arena);
		if (request->descriptor == &pb__lease_expire__descriptor ||
		    request->descriptor == &pb__lease_checkpointed__descriptor)
			propose(world, request);
		else
			propose_by(world, prng_below(&world->prng, MEMBERS), request);
	}
}

/* What goes on while a checkpoint is being written. */
static void disturb(struct world *world, struct fixture *fx)
{
	if (prng_chance(&world->prng, 10))
		propose_some(world, fx, prng_below(&world->prng, 4));
	if (prng_chance(&world->prng, 30))
		take_some(world, fx, BATCH_MAX, array_log_end(world->log));
	if (prng_chance(&world->prng, 30))
		drop_some_rows(world, fx);
}

static void reopen(struct fixture *fx)
{
	char dir[300];

	snprintf(dir, sizeof dir, "%s", fx->dir);
	fixture_close(fx);
	open_at(fx, dir, NULL);
}

/* What goes on between checkpoints, at one of the nodes. */
static void live_on(struct world *world, struct fixture *fx)
{
	if (prng_chance(&world->prng, 50))
		follow(world, fx);
	for (unsigned n = prng_below(&world->prng, 4); n > 0; n--)
		drop_some_rows(world, fx);
	if (prng_chance(&world->prng, 20))
		reopen(fx);
}

/* Another node, or the same one, takes office and writes a checkpoint. */
static void checkpoint(struct world *world)
{
	size_t at = prng_below(&world->prng, LIVE);
	struct fixture *leader = &world->live[at];
	bool commits = prng_chance(&world->prng, 85);

	/* Whoever was not the last has taken office, which has written its position in the log. */
	if (at != world->writer || prng_chance(&world->prng, 30))
		take_office(world, prng_below(&world->prng, MEMBERS));
	world->writer = at;
	follow(world, leader);
	write_rows(leader, &world->tables, world->tables.marker, commits, disturb, world);
	if (commits && prng_chance(&world->prng, 70))
		say_covered(world);
}

static void run_round(struct world *world)
{
	struct fixture fx;
	size_t at = prng_below(&world->prng, LIVE);

	propose_some(world, &world->live[prng_below(&world->prng, LIVE)], ROUND_RECORDS);
	for (size_t i = 0; i < LIVE; i++)
		live_on(world, &world->live[i]);
	checkpoint(world);
	if (world->tables.marker == NULL)
		return;
	if (prng_chance(&world->prng, 50))
		drop_some_rows(world, &world->witness);
	restore_and_check(world, &fx);
	if (prng_chance(&world->prng, 50)) {
		fixture_close(&fx);
		fixture_close(&world->live[at]);
		open_at(&world->live[at], fx.dir, NULL);
		world->writer = LIVE; /* neither of the two */
		return;
	}
	follow(world, &fx);
	follow(world, &world->live[at]);
	check_same(&fx, &world->live[at]);
	fixture_close(&fx);
}

/* All that the versions' rows hold but for chains, which are each database's own. */
static uint64_t hash_rows(struct fixture *fx)
{
	sqlite3_stmt *stmt = fx->st->view.stmts[SQL_KV_ROWS];
	uint64_t hash = 0;
	struct buf row;

	buf_init(&row);
	sqlite3_bind_int64(stmt, 1, 0);
	sqlite3_bind_int64(stmt, 2, INT64_MAX);
	sqlite3_bind_int64(stmt, 3, -1);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		row_pack_kv(stmt, &row);
		hash = XXH3_64bits_withSeed(row.data, row.len,
		                            hash + (uint64_t)sqlite3_column_int64(stmt, 6));
	}
	sqlite3_reset(stmt);
	buf_release(&row);
	return hash;
}

/* Once everything may be dropped, and is, the same rows are left everywhere. */
static void check_end(struct world *world)
{
	struct fixture *all[] = {&world->live[0], &world->live[1], &world->witness};

	follow(world, all[0]);
	settle(all[0]);
	write_rows(all[0], &world->tables, world->tables.marker, true, NULL, world);
	follow_to(world, &world->witness, world->tables.marker->offset);
	check_tables(world);
	say_covered(world);
	for (size_t i = 0; i < 3; i++) {
		follow(world, all[i]);
		fixture_compact_rows(all[i], 50);
		if (i == 0)
			continue;
		check_same(all[i], all[0]);
		ck_assert_int_eq(all[i]->st->saved.logical_bytes, all[0]->st->saved.logical_bytes);
		ck_assert_uint_eq(hash_rows(all[i]), hash_rows(all[0]));
	}
}

START_TEST(tables_give_back_the_state_that_they_were_made_of)
{
	int64_t rounds = prng_setting("KETA_STEPS", DEFAULT_ROUNDS);
	struct world world;

	world_open(&world, prng_seed("check_snapshot") + (uint64_t)_i * 1000);
	for (int64_t i = 0; i < rounds; i++)
		run_round(&world);
	check_end(&world);
	world_close(&world);
}
END_TEST

/* ---- Corners of compaction ---- */

static void put(struct world *world, const char *key, const char *value)
{
	propose(world, &make_put(&world->arena, key, value)->base);
}

static void delete (struct world *world, const char *key)
{
	propose(world, &make_delete(&world->arena, key, NULL)->base);
}

static void compact(struct world *world, int64_t revision)
{
	propose(world, &make_compaction(&world->arena, revision)->base);
}

/* Puts, deletes and puts one key in one revision. */
static void put_and_delete(struct world *world, const char *key, bool puts_again)
{
	Pb__TxnRequest *txn = make_txn(&world->arena);
	Pb__DeleteRangeRequest *deletion = make_delete(&world->arena, key, NULL);

	deletion->range_end = make_open_end(&world->arena);
	txn_add_success(&world->arena, txn, &make_put(&world->arena, key, "before")->base);
	txn_add_success(&world->arena, txn, &deletion->base);
	if (puts_again)
		txn_add_success(&world->arena, txn, &make_put(&world->arena, key, "after")->base);
	propose(world, &txn->base);
}

/* The revision that the next change makes. */
static int64_t next_revision(struct world *world)
{
	follow(world, &world->live[0]);
	return world->live[0].st->saved.revision + 1;
}

/* A checkpoint by one of the two; the rows that it makes obsolete leave both stores if it is told. */
static void checkpoint_by(struct world *world, size_t at, bool told)
{
	struct fixture fx;

	follow(world, &world->live[at]);
	settle(&world->live[at]);
	write_rows(&world->live[at], &world->tables, world->tables.marker, true, NULL, world);
	restore_and_check(world, &fx);
	fixture_close(&fx);
	if (!told)
		return;
	say_covered(world);
	for (size_t i = 0; i < LIVE; i++) {
		follow(world, &world->live[i]);
		fixture_compact_rows(&world->live[i], 3);
	}
}

/* Three checkpoints by turns, each told of or not, in all ways that there are. */
enum { WAYS = 16 };

static void checkpoint_ways(struct world *world, int ways, int step)
{
	checkpoint_by(world, (size_t)((ways >> 3) + step) & 1, (ways >> step) & 1);
}

START_TEST(a_deletion_at_the_revision_compacted_to_stays_until_the_next)
{
	struct world world;
	int64_t revision;

	world_open(&world, 1);
	put(&world, "a", "1");
	put(&world, "b", "1");
	revision = next_revision(&world);
	delete (&world, "a");
	compact(&world, revision);
	checkpoint_ways(&world, _i, 0);
	ck_assert_int_eq(world.tables.marker->kv_rows, 2);
	checkpoint_ways(&world, _i, 1);
	ck_assert_int_eq(world.tables.marker->kv_rows, 2);
	put(&world, "b", "2");
	compact(&world, revision + 1);
	checkpoint_ways(&world, _i, 2);
	ck_assert_int_eq(world.tables.marker->kv_rows, 1);
	check_end(&world);
	world_close(&world);
}
END_TEST

START_TEST(a_key_that_came_and_went_and_came_in_the_compacted_revision_is_whole)
{
	struct world world;
	int64_t revision;

	world_open(&world, 2);
	put(&world, "z", "0");
	checkpoint_ways(&world, _i, 0);
	revision = next_revision(&world);
	put_and_delete(&world, "z", true);
	compact(&world, revision);
	checkpoint_ways(&world, _i, 1);
	/* The deletion and what came after it. */
	ck_assert_int_eq(world.tables.marker->kv_rows, 2);
	put_and_delete(&world, "z", false);
	compact(&world, revision + 1);
	checkpoint_ways(&world, _i, 2);
	ck_assert_int_eq(world.tables.marker->kv_rows, 1); /* the last deletion */
	put(&world, "z", "3");
	compact(&world, revision + 2);
	check_end(&world);
	ck_assert_int_eq(world.tables.marker->kv_rows, 1);
	world_close(&world);
}
END_TEST

START_TEST(several_compactions_between_two_checkpoints_are_as_one)
{
	struct world world;
	int64_t revision;

	world_open(&world, 3);
	for (int i = 0; i < 3; i++) {
		revision = next_revision(&world);
		put(&world, "a", "1");
		delete (&world, "a");
		compact(&world, revision + 1);
		put_and_delete(&world, "b", true);
		delete (&world, "b");
		compact(&world, revision + 2);
		compact(&world, revision + 3);
		put(&world, "a", "2");
		checkpoint_ways(&world, _i, i);
		ck_assert_int_eq(world.tables.marker->kv_rows, 2); /* the deletion of b, and a */
	}
	check_end(&world);
	world_close(&world);
}
END_TEST

START_TEST(a_key_that_is_put_again_after_its_deletion_was_compacted_begins_anew)
{
	struct world world;
	struct fixture fx;
	int64_t revision;

	world_open(&world, 4);
	put(&world, "a", "1");
	delete (&world, "a");
	put(&world, "b", "1");
	revision = next_revision(&world);
	put(&world, "a", "2");
	compact(&world, revision - 1);
	checkpoint_ways(&world, _i, 0);
	compact(&world, revision);
	checkpoint_ways(&world, _i, 1);
	put(&world, "a", "3");
	checkpoint_ways(&world, _i, 2);
	restore_and_check(&world, &fx);
	ck_assert_str_eq(fixture_get(&fx, "a", revision), "2");
	ck_assert_str_eq(fixture_get(&fx, "a", 0), "3");
	fixture_close(&fx);
	check_end(&world);
	world_close(&world);
}
END_TEST

START_TEST(a_checkpoint_that_was_given_up_has_changed_nothing)
{
	struct world world;
	struct fixture fx;

	world_open(&world, 5);
	put(&world, "a", "1");
	checkpoint_by(&world, 0, true);
	put(&world, "a", "2");
	compact(&world, next_revision(&world) - 1);
	write_rows(&world.live[0], &world.tables, world.tables.marker, false, NULL, &world);
	restore_and_check(&world, &fx);
	fixture_close(&fx);
	checkpoint_by(&world, 1, true);
	ck_assert_int_eq(world.tables.marker->kv_rows, 1);
	check_end(&world);
	world_close(&world);
}
END_TEST

START_TEST(a_key_with_many_versions_is_read_at_each_of_them)
{
	enum { VERSIONS = 600 }; /* more than 16 * 16, so there are skips of two powers */
	struct world world;
	struct fixture fx;
	char value[16];

	world_open(&world, 6);
	for (int i = 2; i <= VERSIONS; i++) {
		snprintf(value, sizeof value, "%d", i);
		put(&world, "a", value);
	}
	compact(&world, 40);
	checkpoint_by(&world, 0, _i);
	restore_and_check(&world, &fx);
	for (int i = VERSIONS + 1; i <= VERSIONS + 40; i++) {
		snprintf(value, sizeof value, "%d", i);
		put(&world, "a", value);
	}
	follow(&world, &fx);
	for (int i = 40; i <= VERSIONS + 40; i++) {
		snprintf(value, sizeof value, "%d", i);
		ck_assert_str_eq(fixture_get(&fx, "a", i), value);
	}
	fixture_close(&fx);
	world_close(&world);
}
END_TEST

/* ---- Leases ---- */

static void checkpoint_lease(struct world *world, int64_t id, int64_t renewal, int64_t remaining)
{
	propose(world, &make_checkpoint(&world->arena, &id, &renewal, &remaining, 1)->base);
	follow(world, &world->live[0]);
	follow(world, &world->live[1]);
}

START_TEST(leases_that_came_changed_and_went_are_told_of)
{
	struct world world;
	int64_t id = 2, granted;

	world_open(&world, 7);
	for (int64_t i = 1; i <= 4; i++)
		propose(&world, &make_grant(&world.arena, i, 60)->base);
	granted = array_log_end(world.log) - 2;
	checkpoint_ways(&world, _i, 0);
	ck_assert_int_eq(world.tables.marker->lease_rows, 4);
	checkpoint_lease(&world, 2, granted, 7);
	propose(&world, &make_revoke(&world.arena, 1)->base);
	propose(&world, &make_revoke(&world.arena, 3)->base);
	propose(&world, &make_grant(&world.arena, 3, 30)->base); /* the id again */
	propose(&world, &make_grant(&world.arena, 5, 30)->base);
	propose(&world, &make_revoke(&world.arena, 5)->base); /* the tables never had it */
	checkpoint_ways(&world, _i, 1);
	ck_assert_int_eq(world.tables.marker->lease_rows, 3);
	propose(&world, &make_renew(&world.arena, &id, 1)->base);
	propose(&world, &make_revoke(&world.arena, 3)->base);
	checkpoint_ways(&world, _i, 2);
	ck_assert_int_eq(world.tables.marker->lease_rows, 2);
	check_end(&world);
	world_close(&world);
}
END_TEST

START_TEST(a_rest_that_is_the_whole_time_again_is_told_of)
{
	struct world world;
	int64_t granted;

	world_open(&world, 8);
	propose(&world, &make_grant(&world.arena, 1, 60)->base);
	granted = array_log_end(world.log);
	checkpoint_lease(&world, 1, granted, 7);
	checkpoint_by(&world, 0, true);
	checkpoint_lease(&world, 1, granted, 60);
	checkpoint_by(&world, 0, true);
	world_close(&world);
}
END_TEST

/* ---- What a restore refuses, and what it leaves ---- */

/* A world whose tables hold something, and a directory with the state before that. */
static void prepare(struct world *world, char *dir, size_t size)
{
	struct fixture fx;

	world_open(world, 9);
	for (int i = 0; i < 60; i++)
		put(world, arena_printf(&world->arena, "k%d", i), "value");
	propose(world, &make_grant(&world->arena, 1, 60)->base);
	checkpoint_by(world, 0, true);
	snprintf(dir, size, "%s", fixture_path("victim"));
	open_at(&fx, dir, NULL);
	follow_to(world, &fx, 10);
	fixture_close(&fx);
}

/* The old database is in its place, whole, and nothing is beside it. */
static void check_old(const char *dir)
{
	char path[512];
	struct fixture fx;

	snprintf(path, sizeof path, "%s/keta.db.new", dir);
	ck_assert_int_ne(access(path, F_OK), 0);
	open_at(&fx, dir, NULL);
	ck_assert_int_eq(fx.st->saved.applied_offset, 10);
	fixture_check_integrity(&fx);
	ck_assert_str_eq(fixture_get(&fx, "k0", 0), "value");
	fixture_close(&fx);
}

static void check_new(struct world *world, const char *dir)
{
	struct fixture fx;

	open_at(&fx, dir, NULL);
	check_same(&fx, &world->witness);
	follow(world, &fx);
	fixture_close(&fx);
}

START_TEST(rows_that_are_not_the_markers_are_refused)
{
	struct world world;
	Pb__Marker *marker;
	char dir[300];

	prepare(&world, dir, sizeof dir);
	marker = world.tables.marker;
	marker->kv_rows += _i == 0;
	marker->kv_sum += _i == 1;
	marker->lease_rows += _i == 2;
	marker->lease_sum += _i == 3;
	ck_assert_int_eq(try_restore(&world, dir, NULL), STATUS_BUSY);
	check_old(dir);
	world_close(&world);
}
END_TEST

START_TEST(a_row_that_cannot_be_read_is_refused)
{
	static const struct {
		const char *key, *value;
		size_t key_len, value_len;
	} ROWS[] = {
		{"1234567", "", 7, 0},
		{"123456789", "", 9, 0},
		{"", "", 0, 0},
		{"12345678", "\xff\xff\xff", 8, 3},
		{"12345678", "\x0a\x7f", 8, 2}, /* a field that is longer than the row */
	};
	struct restore *restore;
	struct world world;
	char dir[300];

	prepare(&world, dir, sizeof dir);
	for (int is_lease = 0; is_lease < 2; is_lease++) {
		ck_assert_int_eq(restore_begin(dir, NULL, &restore), STATUS_OK);
		ck_assert_int_eq(restore_row(restore, is_lease, (const uint8_t *)ROWS[_i].key,
		                             ROWS[_i].key_len, (const uint8_t *)ROWS[_i].value,
		                             ROWS[_i].value_len),
		                 STATUS_BAD_RECORD);
		restore_abort(restore);
		check_old(dir);
	}
	restore_abort(NULL);
	world_close(&world);
}
END_TEST

START_TEST(no_rows_at_all_give_an_empty_state)
{
	struct world world;
	struct fixture fx;

	world_open(&world, 10);
	checkpoint_by(&world, 0, false);
	ck_assert_int_eq(world.tables.marker->kv_rows, 0);
	restore_and_check(&world, &fx);
	put(&world, "a", "1");
	follow(&world, &fx);
	follow(&world, &world.live[0]);
	check_same(&fx, &world.live[0]);
	fixture_close(&fx);
	world_close(&world);
}
END_TEST

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *file;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

static void copy_file(const char *from, const char *to)
{
	static uint8_t block[1 << 16];
	FILE *in = fopen(from, "r"), *out = fopen(to, "w");
	size_t got;

	ck_assert_ptr_nonnull(in);
	ck_assert_ptr_nonnull(out);
	while ((got = fread(block, 1, sizeof block, in)) > 0)
		ck_assert_uint_eq(fwrite(block, 1, got, out), got);
	fclose(in);
	ck_assert_int_eq(fclose(out), 0);
}

/* A write-ahead log as a process that died leaves it, of the store in its oldest days. */
static void leave_wal(struct world *world, const char *dir)
{
	char from[512], to[512];
	struct fixture fx;

	open_at(&fx, new_dir(world), NULL);
	follow_to(world, &fx, 20);
	snprintf(from, sizeof from, "%s/keta.db-wal", fx.dir);
	snprintf(to, sizeof to, "%s/keta.db-wal", dir);
	copy_file(from, to);
	fixture_close(&fx);
}

START_TEST(what_a_crash_left_does_no_harm)
{
	struct world world;
	char dir[300];

	prepare(&world, dir, sizeof dir);
	write_file(dir, "keta.db.new", "half of a database");
	write_file(dir, "keta.db.new-journal", "its journal");
	write_file(dir, "keta.db-journal", "of long ago");
	leave_wal(&world, dir);
	ck_assert_int_eq(try_restore(&world, dir, NULL), STATUS_OK);
	check_new(&world, dir);
	world_close(&world);
}
END_TEST

/* The old file is removed first, then what it had beside it. */
START_TEST(a_crash_before_the_new_file_is_in_place_leaves_an_empty_node)
{
	struct world world;
	struct fixture fx;
	char dir[300], path[512];

	prepare(&world, dir, sizeof dir);
	snprintf(path, sizeof path, "%s/keta.db", dir);
	ck_assert_int_eq(unlink(path), 0);
	leave_wal(&world, dir);
	write_file(dir, "keta.db.new", "all of a database, or not");
	open_at(&fx, dir, NULL);
	ck_assert_int_eq(fx.st->saved.applied_offset, 0);
	ck_assert_uint_eq(fx.st->saved.cluster_id, 0);
	fixture_close(&fx);
	ck_assert_int_eq(try_restore(&world, dir, NULL), STATUS_OK);
	check_new(&world, dir);
	world_close(&world);
}
END_TEST

static const struct fault FAULTS[] = {
	{.calls = FAULT_WRITE},
	{.calls = FAULT_WRITE, .torn = true},
	{.calls = FAULT_WRITE, .code = SQLITE_FULL},
	{.calls = FAULT_READ},
	{.calls = FAULT_OPEN},
	{.calls = FAULT_OPEN | FAULT_READ | FAULT_WRITE | FAULT_TRUNCATE | FAULT_SYNC | FAULT_DELETE},
};
enum { FAULT_COUNT = sizeof FAULTS / sizeof *FAULTS };

START_TEST(a_failing_call_leaves_the_old_database)
{
	struct fault fault = FAULTS[_i % FAULT_COUNT];
	enum status_code status, wanted = fault.code == SQLITE_FULL ? STATUS_DISK_FULL : STATUS_IO_ERROR;
	struct world world;
	char dir[300];

	prepare(&world, dir, sizeof dir);
	fault_vfs_start(dir);
	fault.from_then_on = _i >= FAULT_COUNT;
	for (fault.at = 1;; fault.at++) {
		fault_vfs_plan(&fault);
		status = try_restore(&world, dir, FAULT_VFS);
		if (!fault_vfs_happened())
			break;
		fault_vfs_plan(NULL);
		/* SQLite does without some calls. */
		if (status == STATUS_OK)
			break;
		ck_assert_int_eq(status, wanted);
		check_old(dir);
	}
	fault_vfs_plan(NULL);
	ck_assert_int_eq(status, STATUS_OK);
	check_new(&world, dir);
	world_close(&world);
}
END_TEST

START_TEST(a_directory_that_is_not_there_is_told)
{
	struct restore *restore;

	ck_assert_int_eq(restore_begin(fixture_path("none/at/all"), NULL, &restore), STATUS_IO_ERROR);
}
END_TEST

static void add_corners(TCase *tcase)
{
	tcase_add_loop_test(tcase, a_deletion_at_the_revision_compacted_to_stays_until_the_next, 0, WAYS);
	tcase_add_loop_test(tcase, a_key_that_came_and_went_and_came_in_the_compacted_revision_is_whole, 0,
	                    WAYS);
	tcase_add_loop_test(tcase, several_compactions_between_two_checkpoints_are_as_one, 0, WAYS);
	tcase_add_loop_test(tcase, a_key_that_is_put_again_after_its_deletion_was_compacted_begins_anew, 0,
	                    WAYS);
	tcase_add_test(tcase, a_checkpoint_that_was_given_up_has_changed_nothing);
	tcase_add_loop_test(tcase, a_key_with_many_versions_is_read_at_each_of_them, 0, 2);
	tcase_add_loop_test(tcase, leases_that_came_changed_and_went_are_told_of, 0, WAYS);
	tcase_add_test(tcase, a_rest_that_is_the_whole_time_again_is_told_of);
}

static void add_restores(TCase *tcase)
{
	tcase_add_loop_test(tcase, rows_that_are_not_the_markers_are_refused, 0, 4);
	tcase_add_loop_test(tcase, a_row_that_cannot_be_read_is_refused, 0, 5);
	tcase_add_test(tcase, no_rows_at_all_give_an_empty_state);
	tcase_add_test(tcase, what_a_crash_left_does_no_harm);
	tcase_add_test(tcase, a_crash_before_the_new_file_is_in_place_leaves_an_empty_node);
	tcase_add_loop_test(tcase, a_failing_call_leaves_the_old_database, 0, 2 * FAULT_COUNT);
	tcase_add_test(tcase, a_directory_that_is_not_there_is_told);
}

static TCase *make_case(const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 3600);
	return tcase;
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("snapshot");
	TCase *law = make_case("law"), *tcase = make_case("snapshot");

	tcase_add_loop_test(law, tables_give_back_the_state_that_they_were_made_of, 0, LAWS);
	add_corners(tcase);
	add_restores(tcase);
	suite_add_tcase(suite, law);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
