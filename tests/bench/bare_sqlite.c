/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What SQLite alone takes for the server's work: its connections, its schema
 * and its statements (state/store.h, state/schema.h), and nothing above them.
 *
 *   bare_sqlite --dir DIR --work WORK [options]   prints one line of JSON
 *
 * WORK is one of
 *   put       transactions of --batch puts, as the applier makes them: look the
 *             key up, add a version, make it the current one; once per
 *             transaction, the state
 *   snapshot  point reads as a request makes them: begin, state, get, end
 *   begin     the same without the state
 *   get       a point read alone, in a transaction of its own
 *   open      point reads in a snapshot that stays open
 *
 * With reads, keys are filled in first.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "state/chain.h"
#include "state/store.h"

enum {
	VALUE_BYTES = 256,
	KEY_BYTES = 12,
	FILL_BATCH = 1000,
	/* A checkpoint is part of what a put costs; the server begins one at this size. */
	WAL_MAX_PAGES = 2000,
};

enum work { WORK_PUT, WORK_SNAPSHOT, WORK_BEGIN, WORK_GET, WORK_OPEN, WORK_COUNT };

static const char *const WORK_NAMES[WORK_COUNT] = {"put", "snapshot", "begin", "get", "open"};

struct bench {
	struct store *store;
	struct view reader;
	struct view *view; /* the store's own, or the reader */
	enum work work;
	const char *dir;
	unsigned batch;
	unsigned keys;
	double seconds;
	bool durable;

	int64_t revision;
	uint64_t random;
	bool recycled; /* the write-ahead log is written over from its start */
	uint8_t value[VALUE_BYTES];
};

static _Noreturn void fail(const struct bench *bench, const char *what)
{
	const char *detail = bench->view != NULL ? sqlite3_errmsg(bench->view->db) : "";

	fprintf(stderr, "bare_sqlite: %s %s\n", what, detail);
	exit(1);
}

static void run(struct bench *bench, enum sql which)
{
	if (view_run(bench->view, which) != STATUS_OK)
		fail(bench, schema_sql(which));
}

static void make_key(char key[KEY_BYTES], unsigned number)
{
	memcpy(key, "key", 3);
	for (int i = KEY_BYTES - 1; i >= 3; i--, number /= 10)
		key[i] = (char)('0' + number % 10);
}

static unsigned choose_key(struct bench *bench)
{
	bench->random ^= bench->random << 13;
	bench->random ^= bench->random >> 7;
	bench->random ^= bench->random << 17;
	return (unsigned)(bench->random % bench->keys);
}

/* ---- Puts ---- */

/* The newest version of a key, without its value, which is always the same. */
struct row {
	int64_t mod, created, version;
	struct chain chain;
};

static struct row find_row(struct bench *bench, const char *key)
{
	sqlite3_stmt *stmt = bench->view->stmts[SQL_GET];
	struct row row = {0};

	sqlite3_bind_blob(stmt, 1, key, KEY_BYTES, SQLITE_STATIC);
	if (sqlite3_step(stmt) == SQLITE_ROW) {
		row.created = sqlite3_column_int64(stmt, 2);
		row.version = sqlite3_column_int64(stmt, 3);
		chain_read(&row.chain, stmt, 6, 7, 8);
	}
	sqlite3_reset(stmt);
	return row;
}

static void bind_ids(sqlite3_stmt *stmt, int at, const struct chain_blob *blob)
{
	if (blob->bytes > 0)
		sqlite3_bind_blob(stmt, at, blob->ids, blob->bytes, SQLITE_STATIC);
	else
		sqlite3_bind_null(stmt, at);
}

static void add_version(struct bench *bench, const char *key, const struct row *row, int64_t previous,
                        const struct chain_blob *skips)
{
	sqlite3_stmt *stmt = bench->view->stmts[SQL_ADD_VERSION];

	sqlite3_bind_int64(stmt, 1, row->chain.id);
	sqlite3_bind_blob(stmt, 2, key, KEY_BYTES, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, row->mod);
	sqlite3_bind_int64(stmt, 4, row->created);
	sqlite3_bind_int64(stmt, 5, row->version);
	sqlite3_bind_int64(stmt, 6, 0);
	sqlite3_bind_int64(stmt, 7, previous);
	bind_ids(stmt, 8, skips);
	sqlite3_bind_int64(stmt, 9, 0);
	sqlite3_bind_blob(stmt, 10, bench->value, VALUE_BYTES, SQLITE_STATIC);
	run(bench, SQL_ADD_VERSION);
}

static void set_current(struct bench *bench, const char *key, const struct row *row)
{
	enum sql which = row->version == 1 ? SQL_ADD_CURRENT : SQL_SET_CURRENT;
	sqlite3_stmt *stmt = bench->view->stmts[which];
	struct chain_blob heads;

	chain_heads(&row->chain, &heads);
	sqlite3_bind_blob(stmt, 1, key, KEY_BYTES, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, row->chain.id);
	sqlite3_bind_int64(stmt, 3, row->mod);
	sqlite3_bind_int64(stmt, 4, row->created);
	sqlite3_bind_int64(stmt, 5, row->version);
	sqlite3_bind_int64(stmt, 6, 0);
	sqlite3_bind_int64(stmt, 7, row->chain.number);
	bind_ids(stmt, 8, &heads);
	sqlite3_bind_blob(stmt, 9, bench->value, VALUE_BYTES, SQLITE_STATIC);
	run(bench, which);
}

static void put(struct bench *bench, unsigned number)
{
	struct chain_blob skips;
	char key[KEY_BYTES];
	struct row row;
	int64_t previous;

	make_key(key, number);
	row = find_row(bench, key);
	previous = row.chain.id;
	row.mod = ++bench->revision;
	row.created = row.version > 0 ? row.created : row.mod;
	row.version++;
	chain_add(&row.chain, row.mod << REVISION_SHIFT, &skips);
	add_version(bench, key, &row, previous, &skips);
	set_current(bench, key, &row);
}

static void commit(struct bench *bench)
{
	sqlite3_stmt *stmt = bench->view->stmts[SQL_SET_STATE];

	for (int i = 1; i <= sqlite3_bind_parameter_count(stmt); i++)
		sqlite3_bind_int64(stmt, i, bench->revision);
	run(bench, SQL_SET_STATE);
	run(bench, SQL_COMMIT);
	if (bench->store->wal_pages < WAL_MAX_PAGES)
		return;
	if (sqlite3_wal_checkpoint_v2(bench->view->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL) !=
	    SQLITE_OK)
		fail(bench, "checkpoint");
	bench->store->wal_pages = 0;
	bench->recycled = true;
}

static unsigned put_batch(struct bench *bench)
{
	run(bench, SQL_BEGIN_WRITE);
	for (unsigned i = 0; i < bench->batch; i++)
		put(bench, choose_key(bench));
	commit(bench);
	return bench->batch;
}

/* Until the write-ahead log is as long as it gets: to flush a file that grows costs more than one that
 * is written over, which is what a server does that has run for a while. */
static void warm_up(struct bench *bench)
{
	unsigned batch = bench->batch;

	bench->batch = FILL_BATCH;
	while (!bench->recycled)
		put_batch(bench);
	bench->batch = batch;
}

static void fill(struct bench *bench)
{
	for (unsigned i = 0; i < bench->keys; i++) {
		if (i % FILL_BATCH == 0)
			run(bench, SQL_BEGIN_WRITE);
		put(bench, i);
		if (i % FILL_BATCH == FILL_BATCH - 1 || i + 1 == bench->keys)
			commit(bench);
	}
}

/* ---- Reads ---- */

static void get(struct bench *bench)
{
	sqlite3_stmt *stmt = bench->view->stmts[SQL_GET];
	char key[KEY_BYTES];

	make_key(key, choose_key(bench));
	sqlite3_bind_blob(stmt, 1, key, KEY_BYTES, SQLITE_STATIC);
	if (sqlite3_step(stmt) != SQLITE_ROW || sqlite3_column_bytes(stmt, 5) != VALUE_BYTES)
		fail(bench, "get");
	sqlite3_reset(stmt);
}

static unsigned read_once(struct bench *bench)
{
	bool begins = bench->work == WORK_SNAPSHOT || bench->work == WORK_BEGIN;

	if (begins)
		run(bench, SQL_BEGIN);
	if (bench->work == WORK_SNAPSHOT && view_read_state(bench->view) != STATUS_OK)
		fail(bench, "state");
	get(bench);
	if (begins)
		run(bench, SQL_COMMIT);
	return 1;
}

/* ---- The run ---- */

static double clock_seconds(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void measure(struct bench *bench)
{
	double started = clock_seconds(CLOCK_MONOTONIC), cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
	double seconds = 0;
	uint64_t operations = 0;

	while (seconds < bench->seconds) {
		/* The clock is looked at once in a while: it is a part of a point read's cost. */
		for (int i = 0; i < (bench->work == WORK_PUT ? 1 : 100); i++)
			operations += bench->work == WORK_PUT ? put_batch(bench) : read_once(bench);
		seconds = clock_seconds(CLOCK_MONOTONIC) - started;
	}
	cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	printf("{\"work\": \"%s\", \"operations\": %" PRIu64 ", \"seconds\": %.3f, \"rate\": %.1f,"
	       " \"cpu_us\": %.3f}\n",
	       WORK_NAMES[bench->work], operations, seconds, (double)operations / seconds,
	       cpu * 1e6 / (double)operations);
}

static void open_store(struct bench *bench)
{
	struct store_options options = {.dir = bench->dir};

	if (store_open(&options, &bench->store) != STATUS_OK)
		fail(bench, bench->dir);
	bench->view = &bench->store->view;
	if (!bench->durable)
		sqlite3_exec(bench->view->db, "PRAGMA synchronous = OFF", NULL, NULL, NULL);
}

/* Moves what was filled in into the file, where a server's reads mostly are, and goes on as a reader. */
static void become_reader(struct bench *bench)
{
	store_close(bench->store);
	open_store(bench);
	if (store_view(bench->store, VIEW_SHORT_READ, &bench->reader) != STATUS_OK)
		fail(bench, bench->dir);
	bench->view = &bench->reader;
}

static _Noreturn void usage(void)
{
	fputs("usage: bare_sqlite --dir DIR --work put|snapshot|begin|get|open [--batch 64] [--keys 1]\n"
	      "                   [--seconds 1] [--off]     --off: synchronous=OFF\n",
	      stderr);
	exit(2);
}

static enum work work_of(const char *name)
{
	for (int i = 0; i < WORK_COUNT; i++) {
		if (strcmp(name, WORK_NAMES[i]) == 0)
			return (enum work)i;
	}
	usage();
}

static void read_options(struct bench *bench, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"dir", required_argument, NULL, 'd'},
		{"work", required_argument, NULL, 'w'},
		{"batch", required_argument, NULL, 'b'},
		{"keys", required_argument, NULL, 'k'},
		{"seconds", required_argument, NULL, 's'},
		{"off", no_argument, NULL, 'o'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		switch (option) {
		case 'd':
			bench->dir = optarg;
			break;
		case 'w':
			bench->work = work_of(optarg);
			break;
		case 'b':
			bench->batch = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'k':
			bench->keys = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 's':
			bench->seconds = strtod(optarg, NULL);
			break;
		case 'o':
			bench->durable = false;
			break;
		default:
			usage();
		}
	}
	if (bench->dir == NULL || bench->batch == 0 || bench->keys == 0)
		usage();
}

int main(int argc, char **argv)
{
	static struct bench bench = {.batch = 64, .keys = 1, .seconds = 1, .durable = true, .revision = 1};

	read_options(&bench, argc, argv);
	bench.random = 0x9e3779b97f4a7c15U;
	for (size_t i = 0; i < sizeof bench.value; i++)
		bench.value[i] = (uint8_t)(i * 7);
	open_store(&bench);
	if (bench.work == WORK_PUT) {
		warm_up(&bench);
	} else {
		fill(&bench);
		become_reader(&bench);
	}
	if (bench.work == WORK_OPEN)
		run(&bench, SQL_BEGIN);
	measure(&bench);
	if (bench.work != WORK_PUT)
		view_close(&bench.reader);
	store_close(bench.store);
	return 0;
}
