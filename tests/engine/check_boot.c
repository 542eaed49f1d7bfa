/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a node decides before it starts, over a log and tables that say what the
 * test wants: to follow, to build its database anew, to wait, or to refuse.
 */
#include "engine/boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/wire.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "state/restore.h"
#include "state/rows.h"

enum {
	SHORT_LOG_MS = 30 * 1000, /* how long a log may be too short */
	NOW_MS = 5000,
	ROWS_MAX = 16,
	TRIES = 200,
};

/* ---- A log and tables ---- */

struct fake_log {
	struct log base;
	int64_t first, end;
	enum status_code bounds_status, read_status;
	const char *record;  /* what stands at any offset */
	int64_t read_offset; /* the last one that was asked for */
};

static enum status_code fake_bounds(struct log *base, int64_t *first, int64_t *end)
{
	struct fake_log *log = (struct fake_log *)base;

	*first = log->first;
	*end = log->end;
	return log->bounds_status;
}

static enum status_code fake_read_at(struct log *base, int64_t offset, struct buf *out)
{
	struct fake_log *log = (struct fake_log *)base;

	log->read_offset = offset;
	if (log->read_status != STATUS_OK)
		return log->read_status;
	buf_reset(out);
	buf_append_text(out, log->record);
	return STATUS_OK;
}

static const struct log_ops LOG_OPS = {.shared = true, .bounds = fake_bounds, .read_at = fake_read_at};

struct fake_row {
	enum table table;
	uint8_t key[16];
	size_t key_len;
	struct buf value;
	bool gone;
};

struct fake_tables {
	struct tables base;
	struct fake_row rows[ROWS_MAX];
	size_t count;
	enum status_code status[TABLE_COUNT]; /* of the next reads of a table, so many: */
	int failures[TABLE_COUNT];
	int reads[TABLE_COUNT];
	/* Called before each read. */
	void (*before)(struct fake_tables *tables, enum table table);
	struct fake_log *log;
};

static enum status_code fake_read(struct tables *base, enum table table, table_row_fn *take, void *arg)
{
	struct fake_tables *tables = (struct fake_tables *)base;
	enum status_code status = STATUS_OK;

	tables->reads[table]++;
	if (tables->before != NULL)
		tables->before(tables, table);
	for (size_t i = 0; status == STATUS_OK && i < tables->count; i++) {
		const struct fake_row *row = &tables->rows[i];
		struct table_row told = {row->key,       row->key_len,   row->gone ? NULL : row->value.data,
		                         row->value.len, (int64_t)i + 1, (int64_t)tables->count};

		if (row->table != table)
			continue;
		status = take(arg, &told);
		/* As far as it was read, it was read. */
		if (tables->failures[table] > 0)
			break;
	}
	if (tables->failures[table] > 0) {
		tables->failures[table]--;
		return tables->status[table];
	}
	return status;
}

static const struct tables_ops TABLES_OPS = {.read = fake_read};

static struct buf *add_row(struct fake_tables *tables, enum table table, const void *key, size_t key_len)
{
	struct fake_row *row = &tables->rows[tables->count++];

	ck_assert_uint_le(tables->count, ROWS_MAX);
	*row = (struct fake_row){.table = table, .key_len = key_len};
	memcpy(row->key, key, key_len);
	buf_init(&row->value);
	return &row->value;
}

static void add_marker(struct fake_tables *tables, const Pb__Marker *marker)
{
	wire_pack(&marker->base, add_row(tables, TABLE_MARKERS, ROW_MARKER_KEY, strlen(ROW_MARKER_KEY)));
}

static void fail_reads(struct fake_tables *tables, enum table table, enum status_code status, int times)
{
	tables->status[table] = status;
	tables->failures[table] = times;
}

struct scene {
	struct fake_log log;
	struct fake_tables tables;
	struct store st;
	struct boot boot;
};

static void scene_open(struct scene *scene)
{
	memset(scene, 0, sizeof *scene);
	scene->log = (struct fake_log){.base = {.ops = &LOG_OPS}, .first = 1, .end = 1, .record = "record"};
	scene->tables.base.ops = &TABLES_OPS;
	scene->tables.log = &scene->log;
}

static void scene_close(struct scene *scene)
{
	for (size_t i = 0; i < scene->tables.count; i++)
		buf_release(&scene->tables.rows[i].value);
}

/* The database has applied the log up to this offset. */
static void set_position(struct scene *scene, int64_t offset)
{
	scene->st.saved.applied_offset = offset;
	scene->st.saved.cluster_id = FIXTURE_CLUSTER_ID;
	scene->st.saved.record_hash = XXH3_64bits("record", 6);
}

static void set_marker(struct scene *scene, int64_t offset, uint64_t cluster_id)
{
	Pb__Marker marker = PB__MARKER__INIT;

	marker.offset = offset;
	marker.cluster_id = cluster_id;
	add_marker(&scene->tables, &marker);
}

static enum status_code look_at(struct scene *scene, bool discard, int64_t now_ms)
{
	return boot_look(&scene->boot, &scene->st, &scene->log.base, &scene->tables.base, discard, now_ms);
}

/* ---- Looking ---- */

enum outcome { FOLLOW, FOUND, REBUILD, WAIT, REFUSE };

/* Where everything is: the position (0: an empty database), the newest marker (0: none),
 * the log from its first offset to the one before its end. */
static const struct {
	int64_t position, marker, first, end;
	bool discard;
	enum outcome outcome;
} LOOKS[] = {
	/* An empty database. */
	{0, 0, 1, 1, false, FOUND},
	{0, 0, 1, 2, false, FOLLOW},
	{0, 0, 2, 2, false, WAIT}, /* there was something */
	{0, 0, 3, 9, false, WAIT},
	{0, 4, 1, 9, false, REBUILD},
	{0, 4, 5, 9, false, REBUILD},
	{0, 4, 5, 5, false, REBUILD}, /* all of the log is in the tables */
	{0, 4, 6, 9, false, WAIT},
	{0, 4, 1, 4, false, WAIT},
	{0, 4, 1, 1, false, WAIT}, /* the tables are there without their log */
	{0, 4, 4, 4, false, WAIT},
	/* One that has applied something. */
	{7, 0, 1, 8, false, FOLLOW},
	{7, 0, 1, 20, false, FOLLOW},
	{7, 0, 7, 8, false, FOLLOW},
	{7, 0, 8, 8, false, FOLLOW},
	{7, 0, 8, 9, false, FOLLOW}, /* nothing to compare with */
	{7, 0, 9, 12, false, WAIT},
	{7, 0, 1, 7, false, WAIT},
	{7, 0, 1, 1, false, WAIT},
	{7, 3, 4, 9, false, FOLLOW},
	{7, 9, 4, 12, false, FOLLOW}, /* a newer marker is no reason */
	{7, 9, 8, 12, false, FOLLOW},
	{7, 9, 9, 12, false, REBUILD},
	{7, 9, 10, 10, false, REBUILD},
	{7, 9, 11, 12, false, WAIT},
	{7, 9, 9, 9, false, WAIT},
	{7, 3, 9, 12, false, WAIT},
	/* One that is not to be used. */
	{7, 3, 4, 9, true, REBUILD},
	{7, 9, 4, 12, true, REBUILD},
	{7, 9, 4, 9, true, WAIT},
	{7, 3, 5, 9, true, WAIT},
	{7, 0, 1, 9, true, REBUILD}, /* from nothing */
	{7, 0, 2, 9, true, WAIT},
};

START_TEST(what_there_is_decides)
{
	struct scene scene;
	enum outcome outcome = LOOKS[_i].outcome;
	enum status_code wanted = outcome == WAIT ? STATUS_BUSY : STATUS_OK;

	scene_open(&scene);
	if (LOOKS[_i].position > 0)
		set_position(&scene, LOOKS[_i].position);
	if (LOOKS[_i].marker > 0)
		set_marker(&scene, LOOKS[_i].marker, FIXTURE_CLUSTER_ID);
	scene.log.first = LOOKS[_i].first;
	scene.log.end = LOOKS[_i].end;
	for (int64_t at_ms = NOW_MS; at_ms < NOW_MS + SHORT_LOG_MS; at_ms += SHORT_LOG_MS / 2 - 1) {
		ck_assert_int_eq(look_at(&scene, LOOKS[_i].discard, at_ms), wanted);
		ck_assert_int_eq(scene.boot.rebuild, outcome == REBUILD);
		ck_assert_int_eq(scene.boot.found, outcome == FOUND);
		if (outcome == REBUILD)
			ck_assert_int_eq(scene.boot.marker_offset, LOOKS[_i].marker);
		if (outcome != WAIT)
			ck_assert_int_eq(scene.boot.caught_up_at, LOOKS[_i].end - 1);
	}
	/* What was waited for does not come. */
	if (outcome == WAIT)
		wanted = STATUS_BAD_LOG;
	ck_assert_int_eq(look_at(&scene, LOOKS[_i].discard, NOW_MS + SHORT_LOG_MS), wanted);
	scene_close(&scene);
}
END_TEST

START_TEST(a_log_that_comes_back_in_time_is_followed)
{
	struct scene scene;

	scene_open(&scene);
	set_position(&scene, 7);
	scene.log.end = 5;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_BUSY);
	ck_assert_int_eq(look_at(&scene, false, NOW_MS + SHORT_LOG_MS - 1), STATUS_BUSY);
	scene.log.end = 8;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS + SHORT_LOG_MS), STATUS_OK);
	ck_assert_int_eq(scene.log.read_offset, 7);
	scene_close(&scene);
}
END_TEST

START_TEST(another_record_at_the_position_is_refused_at_once)
{
	struct scene scene;

	scene_open(&scene);
	set_position(&scene, 7);
	set_marker(&scene, 5, FIXTURE_CLUSTER_ID);
	scene.log.end = 9;
	scene.log.record = "another";
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_BAD_LOG);
	ck_assert(!scene.boot.rebuild);
	/* When told to, the node begins anew. */
	ck_assert_int_eq(look_at(&scene, true, NOW_MS), STATUS_OK);
	ck_assert(scene.boot.rebuild);
	scene_close(&scene);
}
END_TEST

START_TEST(tables_of_another_cluster_are_refused)
{
	struct scene scene;

	scene_open(&scene);
	set_position(&scene, 7);
	set_marker(&scene, 5, FIXTURE_CLUSTER_ID + 1);
	scene.log.end = 9;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_BAD_LOG);
	ck_assert_int_eq(look_at(&scene, true, NOW_MS), STATUS_OK);
	ck_assert(scene.boot.rebuild);
	scene_close(&scene);
}
END_TEST

START_TEST(a_position_that_is_cut_off_meanwhile_is_looked_at_again)
{
	struct scene scene;

	scene_open(&scene);
	set_position(&scene, 7);
	scene.log.end = 9;
	scene.log.read_status = STATUS_BAD_LOG;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_BUSY);
	scene.log.read_status = STATUS_NO_KAFKA;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_NO_KAFKA);
	scene.log.read_status = STATUS_OK;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_OK);
	scene_close(&scene);
}
END_TEST

START_TEST(a_log_or_tables_that_do_not_answer_are_asked_again)
{
	struct scene scene;

	scene_open(&scene);
	scene.log.bounds_status = STATUS_NO_KAFKA;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_NO_KAFKA);
	scene.log.bounds_status = STATUS_OK;
	fail_reads(&scene.tables, TABLE_MARKERS, STATUS_BUSY, 1);
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_BUSY);
	fail_reads(&scene.tables, TABLE_MARKERS, STATUS_NO_KAFKA, 1);
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_NO_KAFKA);
	ck_assert(!scene.boot.found);
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_OK);
	ck_assert(scene.boot.found);
	scene_close(&scene);
}
END_TEST

/* A newer checkpoint is committed, and the log cut below the last but one, right after the first read. */
static void cut_log(struct fake_tables *tables, enum table table)
{
	if (table != TABLE_MARKERS)
		return;
	tables->log->first = 11;
	tables->log->end = 25;
}

/* The marker is asked for first: a log that is cut in between is cut behind that one. */
START_TEST(a_checkpoint_in_between_does_no_harm)
{
	struct scene scene;

	scene_open(&scene);
	set_marker(&scene, 10, FIXTURE_CLUSTER_ID);
	scene.log.end = 15;
	scene.tables.before = cut_log;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_OK);
	ck_assert(scene.boot.rebuild);
	ck_assert_int_eq(scene.boot.marker_offset, 10);
	ck_assert_int_eq(scene.boot.caught_up_at, 24);
	scene_close(&scene);
}
END_TEST

START_TEST(the_newest_marker_counts)
{
	struct scene scene;

	scene_open(&scene);
	set_marker(&scene, 10, FIXTURE_CLUSTER_ID);
	set_marker(&scene, 12, FIXTURE_CLUSTER_ID);
	buf_append_text(add_row(&scene.tables, TABLE_MARKERS, "another", 7), "\xff\xff");
	scene.log.end = 15;
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_OK);
	ck_assert_int_eq(scene.boot.marker_offset, 12);
	scene_close(&scene);
}
END_TEST

START_TEST(a_marker_that_cannot_be_read_is_told)
{
	struct scene scene;

	scene_open(&scene);
	buf_append_text(add_row(&scene.tables, TABLE_MARKERS, ROW_MARKER_KEY, strlen(ROW_MARKER_KEY)),
	                "\xff\xff");
	ck_assert_int_eq(look_at(&scene, false, NOW_MS), STATUS_BAD_RECORD);
	ck_assert(!scene.boot.found && !scene.boot.rebuild);
	scene_close(&scene);
}
END_TEST

/* ---- Building anew ---- */

struct site {
	struct scene scene;
	struct rebuild *rebuild;
	Pb__Marker marker;
	char dir[300];
};

static void add_kv(struct site *site, int64_t revision, const char *value)
{
	Pb__KvRow row = PB__KV_ROW__INIT;
	struct row_sum sum = {site->marker.kv_rows, site->marker.kv_sum};
	uint8_t key[ROW_KEY_BYTES];
	struct buf *buf;

	row.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "k"};
	row.value = (ProtobufCBinaryData){strlen(value), (uint8_t *)(uintptr_t)value};
	row.mod_revision = revision;
	row.create_revision = 2;
	row.version = revision - 1;
	row_key(revision << 20, key);
	buf = add_row(&site->scene.tables, TABLE_KV, key, sizeof key);
	wire_pack(&row.base, buf);
	row_sum_add(&sum, revision << 20, buf->data, buf->len);
	site->marker.kv_rows = sum.rows;
	site->marker.kv_sum = sum.sum;
	site->marker.last_id = revision << 20;
	site->marker.revision = revision;
}

static void add_lease(struct site *site, int64_t id)
{
	struct row_sum sum = {site->marker.lease_rows, site->marker.lease_sum};
	uint8_t key[ROW_KEY_BYTES];
	struct buf *buf;

	row_key(id, key);
	buf = add_row(&site->scene.tables, TABLE_LEASES, key, sizeof key);
	row_pack_lease(60, 60, 3, buf);
	row_sum_add(&sum, id, buf->data, buf->len);
	site->marker.lease_rows = sum.rows;
	site->marker.lease_sum = sum.sum;
}

/* Writes the marker of what is there. */
static void commit(struct site *site, int64_t offset, int64_t time_ms)
{
	site->marker.offset = offset;
	site->marker.time_ms = time_ms;
	add_marker(&site->scene.tables, &site->marker);
}

/* A directory with an old database, and tables with a checkpoint at 10. */
static void site_open(struct site *site)
{
	static unsigned number;
	char name[32];
	struct fixture fx;

	scene_open(&site->scene);
	snprintf(name, sizeof name, "boot-%u", ++number);
	snprintf(site->dir, sizeof site->dir, "%s", fixture_path(name));
	ck_assert_int_eq(fixture_open_at(&fx, site->dir, NULL), STATUS_OK);
	fixture_bear(&fx);
	fixture_put(&fx, "k", "old");
	fixture_close(&fx);
	pb__marker__init(&site->marker);
	site->marker.cluster_id = FIXTURE_CLUSTER_ID;
	site->marker.compact_revision = -1;
	site->marker.level = 1;
	add_kv(site, 2, "one");
	add_lease(site, 5);
	add_kv(site, 3, "two");
	commit(site, 10, 1);
	site->scene.log.end = 20;
	ck_assert_int_eq(rebuild_new(site->dir, NULL, "kafka-1", &site->scene.log.base,
	                             &site->scene.tables.base, &site->rebuild),
	                 STATUS_OK);
}

static void site_close(struct site *site)
{
	rebuild_free(site->rebuild);
	scene_close(&site->scene);
}

/* Turns until something else than "more to do" comes; how many in *turns. */
static enum status_code turn(struct site *site, int64_t now_ms, int *turns)
{
	enum status_code status;

	*turns = 0;
	do {
		status = rebuild_turn(site->rebuild, now_ms);
		ck_assert_int_lt(++*turns, 100);
	} while (status == STATUS_BUSY);
	return status;
}

static void check_old(struct site *site)
{
	char path[512];
	struct fixture fx;

	snprintf(path, sizeof path, "%s/keta.db.new", site->dir);
	ck_assert_int_ne(access(path, F_OK), 0);
	ck_assert_int_eq(fixture_open_at(&fx, site->dir, NULL), STATUS_OK);
	ck_assert_str_eq(fixture_get(&fx, "k", 0), "old");
	fixture_close(&fx);
}

static void check_new(struct site *site, int64_t offset, const char *value)
{
	struct store_options options = {.dir = site->dir, .log_kind = LOG_KAFKA, .kafka_id = "kafka-1"};
	struct fixture fx = {0};

	arena_init(&fx.arena, 1 << 20, NULL, 0);
	ck_assert_int_eq(store_open(&options, &fx.st), STATUS_OK);
	ck_assert_int_eq(fx.st->saved.applied_offset, offset);
	ck_assert_str_eq(fixture_get(&fx, "k", 0), value);
	ck_assert_str_eq(fixture_get(&fx, "k", 2), "one");
	fixture_close(&fx);
}

START_TEST(a_database_is_built_from_the_tables)
{
	struct site site;
	int turns;

	site_open(&site);
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_OK);
	ck_assert_int_eq(turns, 4);
	ck_assert_int_eq(site.scene.tables.reads[TABLE_MARKERS], 2);
	check_new(&site, 10, "two");
	site_close(&site);
	rebuild_free(NULL);
}
END_TEST

static const enum table TABLES[] = {TABLE_MARKERS, TABLE_KV, TABLE_LEASES};

START_TEST(tables_that_are_not_ready_are_read_again)
{
	struct site site;
	int turns;

	site_open(&site);
	fail_reads(&site.scene.tables, TABLES[_i], STATUS_BUSY, 3);
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_OK);
	ck_assert_int_eq(turns, 7);
	check_new(&site, 10, "two");
	site_close(&site);
}
END_TEST

START_TEST(an_outage_is_told_and_the_work_goes_on_after_it)
{
	struct site site;
	int turns;

	site_open(&site);
	fail_reads(&site.scene.tables, TABLES[_i], STATUS_NO_KAFKA, 2);
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_NO_KAFKA);
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_NO_KAFKA);
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_OK);
	check_new(&site, 10, "two");
	site_close(&site);
}
END_TEST

START_TEST(a_log_that_does_not_answer_at_the_end_is_asked_again)
{
	struct site site;
	int turns;

	site_open(&site);
	site.scene.log.bounds_status = STATUS_NO_KAFKA;
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_NO_KAFKA);
	site.scene.log.bounds_status = STATUS_OK;
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_OK);
	ck_assert_int_eq(turns, 1);
	check_new(&site, 10, "two");
	site_close(&site);
}
END_TEST

static struct site *changing;
static int64_t new_offset, new_time_ms;

/* Another checkpoint is committed before the leases are read. */
static void commit_another(struct fake_tables *tables, enum table table)
{
	if (table != TABLE_LEASES || tables->reads[TABLE_LEASES] > 1)
		return;
	if (new_offset > 10)
		add_kv(changing, 4, "three");
	commit(changing, new_offset, new_time_ms);
}

/* One with a later position, and one of the same position, written by another leader. */
START_TEST(another_marker_means_to_begin_again)
{
	struct site site;
	int turns;

	site_open(&site);
	changing = &site;
	new_offset = _i == 0 ? 12 : 10;
	new_time_ms = _i == 0 ? 1 : 2;
	site.scene.tables.before = commit_another;
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_NO_KAFKA);
	ck_assert_int_eq(turns, 4);
	check_old(&site);
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_OK);
	check_new(&site, new_offset, _i == 0 ? "three" : "two");
	site_close(&site);
}
END_TEST

START_TEST(a_log_that_is_cut_behind_the_marker_means_to_begin_again)
{
	struct site site;
	int turns;

	site_open(&site);
	site.scene.log.first = 12;
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_NO_KAFKA);
	site.scene.log.first = 11;
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_OK);
	check_new(&site, 10, "two");
	site_close(&site);
}
END_TEST

/* Rows that were removed may have left the tables unseen. */
START_TEST(what_took_half_an_hour_is_begun_again)
{
	enum { HALF_AN_HOUR_MS = 30 * 60 * 1000 };
	struct site site;
	int turns;

	site_open(&site);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(rebuild_turn(site.rebuild, NOW_MS), STATUS_BUSY);
	ck_assert_int_eq(rebuild_turn(site.rebuild, NOW_MS + HALF_AN_HOUR_MS + 1), STATUS_NO_KAFKA);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(rebuild_turn(site.rebuild, NOW_MS + HALF_AN_HOUR_MS + 1), STATUS_BUSY);
	ck_assert_int_eq(turn(&site, NOW_MS + 2 * HALF_AN_HOUR_MS + 1, &turns), STATUS_OK);
	check_new(&site, 10, "two");
	site_close(&site);
}
END_TEST

START_TEST(rows_that_never_agree_with_their_marker_are_refused)
{
	struct site site;
	int turns;

	site_open(&site);
	site.marker.kv_rows++;
	commit(&site, 11, 1);
	for (int i = 1; i < TRIES; i++)
		ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_NO_KAFKA);
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_BAD_LOG);
	check_old(&site);
	site_close(&site);
}
END_TEST

START_TEST(a_row_that_cannot_be_read_is_told)
{
	struct site site;
	int turns;

	site_open(&site);
	buf_append_text(add_row(&site.scene.tables, TABLE_KV, "short", 5), "x");
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_BAD_RECORD);
	rebuild_free(site.rebuild);
	site.rebuild = NULL;
	check_old(&site);
	site_close(&site);
}
END_TEST

START_TEST(without_a_checkpoint_the_log_alone_is_followed)
{
	struct site site;
	char path[512];
	int turns;

	site_open(&site);
	while (site.scene.tables.count > 0)
		buf_release(&site.scene.tables.rows[--site.scene.tables.count].value);
	ck_assert_int_eq(turn(&site, NOW_MS, &turns), STATUS_OK);
	snprintf(path, sizeof path, "%s/keta.db", site.dir);
	ck_assert_int_ne(access(path, F_OK), 0);
	site_close(&site);
}
END_TEST

START_TEST(a_rebuild_that_is_given_up_leaves_the_old_database)
{
	struct site site;

	site_open(&site);
	for (int i = 0; i < _i; i++)
		ck_assert_int_eq(rebuild_turn(site.rebuild, NOW_MS), STATUS_BUSY);
	rebuild_free(site.rebuild);
	site.rebuild = NULL;
	check_old(&site);
	site_close(&site);
}
END_TEST

static void add_looks(TCase *tcase)
{
	tcase_add_loop_test(tcase, what_there_is_decides, 0, sizeof LOOKS / sizeof *LOOKS);
	tcase_add_test(tcase, a_log_that_comes_back_in_time_is_followed);
	tcase_add_test(tcase, another_record_at_the_position_is_refused_at_once);
	tcase_add_test(tcase, tables_of_another_cluster_are_refused);
	tcase_add_test(tcase, a_position_that_is_cut_off_meanwhile_is_looked_at_again);
	tcase_add_test(tcase, a_log_or_tables_that_do_not_answer_are_asked_again);
	tcase_add_test(tcase, a_checkpoint_in_between_does_no_harm);
	tcase_add_test(tcase, the_newest_marker_counts);
	tcase_add_test(tcase, a_marker_that_cannot_be_read_is_told);
}

static void add_rebuilds(TCase *tcase)
{
	tcase_add_test(tcase, a_database_is_built_from_the_tables);
	tcase_add_loop_test(tcase, tables_that_are_not_ready_are_read_again, 0, 3);
	tcase_add_loop_test(tcase, an_outage_is_told_and_the_work_goes_on_after_it, 0, 3);
	tcase_add_test(tcase, a_log_that_does_not_answer_at_the_end_is_asked_again);
	tcase_add_loop_test(tcase, another_marker_means_to_begin_again, 0, 2);
	tcase_add_test(tcase, a_log_that_is_cut_behind_the_marker_means_to_begin_again);
	tcase_add_test(tcase, what_took_half_an_hour_is_begun_again);
	tcase_add_test(tcase, rows_that_never_agree_with_their_marker_are_refused);
	tcase_add_test(tcase, a_row_that_cannot_be_read_is_told);
	tcase_add_test(tcase, without_a_checkpoint_the_log_alone_is_followed);
	tcase_add_loop_test(tcase, a_rebuild_that_is_given_up_leaves_the_old_database, 0, 4);
}

static Suite *make_suite(void)
{
	Suite *suite = suite_create("boot");
	TCase *tcase = tcase_create("boot");

	tcase_set_timeout(tcase, 300);
	add_looks(tcase);
	add_rebuilds(tcase);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
