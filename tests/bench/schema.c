/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which tables should hold the keys? Runs the same work over several schemas,
 * with plain SQLite and the server's settings (state/view.c), and prints one
 * table. It is the reason for state/schema.h, and the place to try another.
 *
 *   bench_schema DIR [options]      DIR on a real disk; needs 3 GB at 1M keys
 *
 * --page-size, --checkpoint-mib and --no-mmap change the settings instead.
 *
 * A schema is a row of SCHEMAS: its tables and its statements, which all have
 * the same parameters. A line of the result is a row of WORKS. The order of
 * the works matters: puts come when each key has a history already, for a
 * table that is still empty flatters the schema that has it.
 *
 * Every figure is per put, per read, or per key or version listed: microseconds
 * of CPU, which others on the machine disturb little, then of wall time; of
 * puts, also pages written to the write-ahead log. Checkpoints are part of a
 * put. A figure is the median of the work's parts.
 */
#include <getopt.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	KEY_BYTES = 27,
	VALUE_BYTES = 256,
	REVISION_SHIFT = 20,
	STEPS = 3,
	PARTS_MAX = 5,
	WRITE_CACHE_KIB = 48 * 1024,
	NAME_WIDTH = 50,
};

/* Parameters, in puts: ?1 key, ?2 id, ?3 mod, ?4 created, ?5 version, ?6 id of
 * the version before, ?7 value. In LIST and SCAN ?1 is where to start and ?2
 * how many. FIND gives id, created, version; the other reads COLUMNS. */
enum sql {
	FIND,
	GET,
	LIST,
	COUNT,
	SCAN,
	CREATE, /* of a new key: up to STEPS statements */
	OVERWRITE = CREATE + STEPS,
	BEGIN = OVERWRITE + STEPS,
	SET_STATE,
	COMMIT,
	SQL_COUNT,
};

struct schema {
	const char *name, *story, *tables;
	const char *sql[SQL_COUNT];
};

#define COLUMNS "key, mod, created, version, lease, value"
#define JOINED "c.key, v.mod, v.created, v.version, v.lease, v.value FROM current c CROSS JOIN version v"
#define VERSION_TABLE                                                                                      \
	"CREATE TABLE version (id INTEGER PRIMARY KEY, key BLOB NOT NULL, mod INTEGER NOT NULL,"           \
	" created INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL,"                     \
	" previous INTEGER NOT NULL, deleted INTEGER NOT NULL, value BLOB NOT NULL);"
#define CURRENT_TABLE                                                                                      \
	"CREATE TABLE current (key BLOB PRIMARY KEY, id INTEGER NOT NULL, mod INTEGER NOT NULL,"           \
	" created INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL, value BLOB NOT NULL" \
	") WITHOUT ROWID;"
#define SUPERSEDED_TABLE                                                                                   \
	"CREATE TABLE superseded (key BLOB NOT NULL, id INTEGER NOT NULL, deleted INTEGER NOT NULL,"       \
	" PRIMARY KEY (key, id)) WITHOUT ROWID;"
#define STATE_TABLE                                                                                        \
	"CREATE TABLE state (one INTEGER PRIMARY KEY, revision INTEGER NOT NULL);"                         \
	"INSERT INTO state VALUES (1, 1);"

#define ADD_VERSION "INSERT INTO version VALUES (?2, ?1, ?3, ?4, ?5, 0, ?6, 0, ?7)"
#define ADD_SUPERSEDED "INSERT INTO superseded VALUES (?1, ?6, 0)"
#define ADD_CURRENT "INSERT INTO current VALUES (?1, ?2, ?3, ?4, ?5, 0, ?7)"
#define SET_CURRENT                                                                                        \
	"UPDATE current SET id = ?2, mod = ?3, created = ?4, version = ?5, lease = 0, value = ?7"          \
	" WHERE key = ?1"

#define CURRENT_READS                                                                                      \
	[FIND] = "SELECT id, created, version FROM current WHERE key = ?1",                                \
	[GET] = "SELECT " COLUMNS " FROM current WHERE key = ?1",                                          \
	[LIST] = "SELECT " COLUMNS " FROM current WHERE key >= ?1 ORDER BY key LIMIT ?2"
#define VERSION_SCAN [SCAN] = "SELECT " COLUMNS " FROM version WHERE id >= ?1 ORDER BY id LIMIT ?2"
#define SAME_FOR_ALL                                                                                       \
	[COUNT] = "SELECT count(*) FROM current WHERE key >= ?1", [BEGIN] = "BEGIN",                       \
	[SET_STATE] = "UPDATE state SET revision = ?3", [COMMIT] = "COMMIT"

static const struct schema SCHEMAS[] = {
	{
		.name = "E",
		.story = "the value in 'version' alone; 'current' points there",
		.tables = VERSION_TABLE SUPERSEDED_TABLE STATE_TABLE
		"CREATE TABLE current (key BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;",
		.sql =
			{
				SAME_FOR_ALL,
				VERSION_SCAN,
				[FIND] = "SELECT c.id, v.created, v.version FROM current c CROSS JOIN "
					 "version v"
					 " WHERE c.key = ?1 AND v.id = c.id",
				[GET] = "SELECT " JOINED " WHERE c.key = ?1 AND v.id = c.id",
				[LIST] = "SELECT " JOINED " WHERE c.key >= ?1 AND v.id = c.id"
					 " ORDER BY c.key LIMIT ?2",
				[CREATE] = ADD_VERSION,
				"INSERT INTO current VALUES (?1, ?2)",
				[OVERWRITE] = ADD_VERSION,
				ADD_SUPERSEDED,
				"UPDATE current SET id = ?2 WHERE key = ?1",
			},
	},
	{
		.name = "F",
		.story = "the newest value in 'current' too",
		.tables = VERSION_TABLE CURRENT_TABLE SUPERSEDED_TABLE STATE_TABLE,
		.sql =
			{
				SAME_FOR_ALL,
				VERSION_SCAN,
				CURRENT_READS,
				[CREATE] = ADD_VERSION,
				ADD_CURRENT,
				[OVERWRITE] = ADD_VERSION,
				ADD_SUPERSEDED,
				SET_CURRENT,
			},
	},
	{
		.name = "G",
		.story = "F; old revisions are found by walking back 'previous'",
		.tables = VERSION_TABLE CURRENT_TABLE STATE_TABLE
		"CREATE TABLE tombstone (key BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;",
		.sql =
			{
				SAME_FOR_ALL,
				VERSION_SCAN,
				CURRENT_READS,
				[CREATE] = "DELETE FROM tombstone WHERE key = ?1",
				ADD_VERSION,
				ADD_CURRENT,
				[OVERWRITE] = ADD_VERSION,
				SET_CURRENT,
			},
	},
	{
		.name = "D",
		.story = "an overwritten row moves to 'history'; events hold no value",
		.tables = CURRENT_TABLE STATE_TABLE
		"CREATE TABLE history (key BLOB NOT NULL, mod INTEGER NOT NULL, created INTEGER NOT NULL,"
		" version INTEGER NOT NULL, lease INTEGER NOT NULL, value BLOB NOT NULL,"
		" PRIMARY KEY (key, mod)) WITHOUT ROWID;"
		"CREATE TABLE event (id INTEGER PRIMARY KEY, key BLOB NOT NULL, mod INTEGER NOT NULL,"
		" previous INTEGER NOT NULL);",
		.sql =
			{
				SAME_FOR_ALL,
				CURRENT_READS,
				[SCAN] = "SELECT e.key, e.mod, ifnull(c.created, h.created), "
					 "ifnull(c.version, h.version),"
					 " ifnull(c.lease, h.lease), ifnull(c.value, h.value) FROM event e"
					 " LEFT JOIN current c ON c.key = e.key AND c.mod = e.mod"
					 " LEFT JOIN history h ON h.key = e.key AND h.mod = e.mod"
					 " WHERE e.id >= ?1 ORDER BY e.id LIMIT ?2",
				[CREATE] = ADD_CURRENT,
				"INSERT INTO event VALUES (?2, ?1, ?3, ?6)",
				[OVERWRITE] = "INSERT INTO history SELECT " COLUMNS
					      " FROM current WHERE key = ?1",
				SET_CURRENT,
				"INSERT INTO event VALUES (?2, ?1, ?3, ?6)",
			},
	},
};

enum { SCHEMA_COUNT = sizeof SCHEMAS / sizeof SCHEMAS[0] };

struct connection {
	sqlite3 *db;
	sqlite3_stmt *stmts[SQL_COUNT];
};

/* What a work cost: a sum while it runs, a figure per operation afterwards. */
struct cost {
	double cpu_us, wall_us, pages;
};

/* Where a reading connection gets its pages from. A mapping costs nothing while
 * the snapshot stays, but SQLite gives it up with every new snapshot, and each
 * page is then faulted in again. */
struct reader {
	int cache_kib;
	bool mmap;
};

static const struct reader MAPPED = {8 * 1024, true};
static const struct reader COPIED = {8 * 1024, false};
static const struct reader CACHED = {64 * 1024, false}; /* holds all that the log may */

enum pick {
	PICK_RANDOM,
	PICK_HOT,      /* always the same key */
	PICK_SHUFFLED, /* all keys, each once */
	PICK_SORTED,
	PICK_RECENT, /* put since the last checkpoint: its pages are in the write-ahead log */
};

struct bench {
	const char *dir, *schemas;
	unsigned keys;
	int page_size;
	bool mmap;
	int wal_limit; /* pages; the writer checkpoints above it */

	const struct schema *schema;
	struct connection writer, reader;
	uint32_t *shuffled, *recent;
	unsigned recent_count;
	unsigned next; /* for the orders that pick each key once */
	int64_t revision;
	uint64_t random;
	int wal_pages;
	struct cost cost, started;
	uint8_t value[VALUE_BYTES];
};

struct work {
	const char *name;
	/* One part of the work; gives the number of operations. */
	unsigned (*run)(struct bench *bench, const struct work *work);
	int parts;
	unsigned batch; /* operations in a transaction */
	unsigned count; /* batches in a part; 0: as many as there are keys for */
	enum pick pick;
	enum sql sql;                /* of what reads many rows */
	const struct reader *reader; /* NULL: it writes */
	bool unsynced;               /* prepares the works after it; the disk need not keep up */
	bool moves;                  /* between its batches somebody commits a put */
};

static _Noreturn void fail(const struct bench *bench, sqlite3 *db, const char *what)
{
	fprintf(stderr, "bench_schema: schema %s: %s: %s\n", bench->schema->name, what, sqlite3_errmsg(db));
	exit(1);
}

/* ---- Connections ---- */

static int on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct bench *bench = arg;

	(void)db;
	(void)name;
	/* After a restart the log is written from its beginning again. */
	bench->cost.pages += pages >= bench->wal_pages ? pages - bench->wal_pages : pages;
	bench->wal_pages = pages;
	return SQLITE_OK;
}

static void execute(struct bench *bench, sqlite3 *db, const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail(bench, db, sql);
}

static void path_of(const struct bench *bench, const char *suffix, char path[4096])
{
	snprintf(path, 4096, "%s/bench_schema.db%s", bench->dir, suffix);
}

static void open_connection(struct bench *bench, struct connection *to, int cache_kib, bool mmap)
{
	char path[4096], settings[512];

	path_of(bench, "", path);
	if (sqlite3_open_v2(path, &to->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
	                    "unix-excl") != SQLITE_OK)
		fail(bench, to->db, path);
	snprintf(settings, sizeof settings,
	         "PRAGMA page_size = %d; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
	         "PRAGMA secure_delete = OFF; PRAGMA wal_autocheckpoint = 0;"
	         "PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;"
	         "PRAGMA cache_size = -%d; PRAGMA mmap_size = %s;",
	         bench->page_size, cache_kib, mmap ? "1099511627776" : "0");
	execute(bench, to->db, settings);
	if (to == &bench->writer)
		execute(bench, to->db, bench->schema->tables);
	for (int i = 0; i < SQL_COUNT; i++) {
		const char *sql = bench->schema->sql[i];

		if (sql != NULL && sqlite3_prepare_v3(to->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
		                                      &to->stmts[i], NULL) != SQLITE_OK)
			fail(bench, to->db, sql);
	}
}

static void close_connection(struct connection *connection)
{
	for (int i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(connection->stmts[i]);
	sqlite3_close(connection->db);
	*connection = (struct connection){0};
}

static void step_all(struct bench *bench, struct connection *on, enum sql which)
{
	if (sqlite3_step(on->stmts[which]) != SQLITE_DONE)
		fail(bench, on->db, bench->schema->sql[which]);
	sqlite3_reset(on->stmts[which]);
}

/* ---- Keys and clocks ---- */

static void make_key(char key[KEY_BYTES], unsigned number)
{
	memcpy(key, "/registry/pods/", 15);
	for (int i = KEY_BYTES - 1; i >= 15; i--, number /= 10)
		key[i] = (char)('0' + number % 10);
}

static unsigned draw(struct bench *bench, unsigned below)
{
	bench->random ^= bench->random << 13;
	bench->random ^= bench->random >> 7;
	bench->random ^= bench->random << 17;
	return (unsigned)(bench->random % below);
}

static unsigned pick_key(struct bench *bench, enum pick pick)
{
	switch (pick) {
	case PICK_HOT:
		return 0;
	case PICK_SHUFFLED:
		return bench->shuffled[bench->next++ % bench->keys];
	case PICK_SORTED:
		return bench->next++ % bench->keys;
	case PICK_RECENT:
		return bench->recent[draw(bench, bench->recent_count)];
	case PICK_RANDOM:
		break;
	}
	return draw(bench, bench->keys);
}

static double now_us(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void clock_go(struct bench *bench)
{
	bench->started.wall_us = now_us(CLOCK_MONOTONIC);
	bench->started.cpu_us = now_us(CLOCK_PROCESS_CPUTIME_ID);
}

static void clock_stop(struct bench *bench)
{
	bench->cost.cpu_us += now_us(CLOCK_PROCESS_CPUTIME_ID) - bench->started.cpu_us;
	bench->cost.wall_us += now_us(CLOCK_MONOTONIC) - bench->started.wall_us;
}

/* ---- Puts ---- */

static void bind_put(sqlite3_stmt *stmt, const char *key, const int64_t numbers[5], const uint8_t *value)
{
	int count = sqlite3_bind_parameter_count(stmt);

	sqlite3_bind_blob(stmt, 1, key, KEY_BYTES, SQLITE_STATIC);
	for (int i = 2; i <= count && i <= 6; i++)
		sqlite3_bind_int64(stmt, i, numbers[i - 2]);
	if (count == 7)
		sqlite3_bind_blob(stmt, 7, value, VALUE_BYTES, SQLITE_STATIC);
}

static void put(struct bench *bench, unsigned number)
{
	struct connection *on = &bench->writer;
	sqlite3_stmt *find = on->stmts[FIND];
	int64_t mod = ++bench->revision, created = mod, version = 0, previous = 0;
	char key[KEY_BYTES];
	int first = CREATE;

	make_key(key, number);
	sqlite3_bind_blob(find, 1, key, KEY_BYTES, SQLITE_STATIC);
	if (sqlite3_step(find) == SQLITE_ROW) {
		previous = sqlite3_column_int64(find, 0);
		created = sqlite3_column_int64(find, 1);
		version = sqlite3_column_int64(find, 2);
		first = OVERWRITE;
	}
	sqlite3_reset(find);
	for (int i = first; i < first + STEPS && on->stmts[i] != NULL; i++) {
		bind_put(on->stmts[i], key,
		         (int64_t[]){mod << REVISION_SHIFT, mod, created, version + 1, previous},
		         bench->value);
		step_all(bench, on, (enum sql)i);
	}
}

static void checkpoint(struct bench *bench)
{
	if (sqlite3_wal_checkpoint_v2(bench->writer.db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL) !=
	    SQLITE_OK)
		fail(bench, bench->writer.db, "checkpoint");
	bench->wal_pages = 0;
	bench->recent_count = 0;
}

/* A transaction of puts. */
static void put_batch(struct bench *bench, unsigned count, enum pick pick)
{
	step_all(bench, &bench->writer, BEGIN);
	for (unsigned i = 0; i < count; i++) {
		unsigned number = pick_key(bench, pick);

		put(bench, number);
		if (bench->recent_count < bench->keys)
			bench->recent[bench->recent_count++] = number;
	}
	sqlite3_bind_int64(bench->writer.stmts[SET_STATE], 3, bench->revision);
	step_all(bench, &bench->writer, SET_STATE);
	step_all(bench, &bench->writer, COMMIT);
}

static unsigned put_batches(struct bench *bench, const struct work *work)
{
	unsigned count = work->count > 0 ? work->count : (bench->keys + work->batch - 1) / work->batch;

	execute(bench, bench->writer.db,
	        work->unsynced ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL");
	clock_go(bench);
	for (unsigned i = 0; i < count; i++) {
		put_batch(bench, work->batch, work->pick);
		if (bench->wal_pages > bench->wal_limit)
			checkpoint(bench);
	}
	clock_stop(bench);
	return count * work->batch;
}

/* ---- Reads ---- */

/* Takes what a response needs of each row. */
static unsigned read_rows(struct bench *bench, sqlite3_stmt *stmt)
{
	unsigned rows = 0;

	while (sqlite3_step(stmt) == SQLITE_ROW) {
		int64_t sum = 0;

		for (int i = 1; i <= 4; i++)
			sum += sqlite3_column_int64(stmt, i);
		if (sum <= 0 || sqlite3_column_blob(stmt, 0) == NULL ||
		    sqlite3_column_blob(stmt, 5) == NULL || sqlite3_column_bytes(stmt, 5) != VALUE_BYTES)
			fail(bench, bench->reader.db, "an incomplete row");
		rows++;
	}
	sqlite3_reset(stmt);
	return rows;
}

static void get(struct bench *bench, unsigned number)
{
	sqlite3_stmt *stmt = bench->reader.stmts[GET];
	char key[KEY_BYTES];

	make_key(key, number);
	sqlite3_bind_blob(stmt, 1, key, KEY_BYTES, SQLITE_STATIC);
	if (read_rows(bench, stmt) != 1)
		fail(bench, bench->reader.db, "get");
}

static unsigned read_points(struct bench *bench, const struct work *work)
{
	for (unsigned i = 0; i < work->count; i++) {
		if (work->moves) {
			step_all(bench, &bench->reader, COMMIT);
			put_batch(bench, 1, PICK_RANDOM);
		}
		clock_go(bench);
		if (work->moves)
			step_all(bench, &bench->reader, BEGIN);
		for (unsigned j = 0; j < work->batch; j++)
			get(bench, pick_key(bench, work->pick));
		clock_stop(bench);
	}
	return work->count * work->batch;
}

/* LIST from a random key, or SCAN of the newest versions. */
static unsigned read_many(struct bench *bench, const struct work *work)
{
	unsigned length = work->batch < bench->keys ? work->batch : bench->keys, rows = 0;
	sqlite3_stmt *stmt = bench->reader.stmts[work->sql];
	char key[KEY_BYTES];

	clock_go(bench);
	for (unsigned i = 0; i < work->count; i++) {
		make_key(key, draw(bench, bench->keys - length + 1));
		if (work->sql == LIST)
			sqlite3_bind_blob(stmt, 1, key, KEY_BYTES, SQLITE_STATIC);
		else
			sqlite3_bind_int64(stmt, 1, (bench->revision - length + 1) << REVISION_SHIFT);
		sqlite3_bind_int64(stmt, 2, length);
		rows += read_rows(bench, stmt);
	}
	clock_stop(bench);
	return rows;
}

static unsigned count_keys(struct bench *bench, const struct work *work)
{
	sqlite3_stmt *stmt = bench->reader.stmts[COUNT];

	(void)work;
	clock_go(bench);
	sqlite3_bind_blob(stmt, 1, "/", 1, SQLITE_STATIC);
	if (sqlite3_step(stmt) != SQLITE_ROW || sqlite3_column_int64(stmt, 0) != bench->keys)
		fail(bench, bench->reader.db, "count");
	sqlite3_reset(stmt);
	clock_stop(bench);
	return bench->keys;
}

/* ---- The run ---- */

static const struct work WORKS[] = {
	{"load, random order, 1000 per transaction", put_batches, 1, 1000, 0, .pick = PICK_SHUFFLED,
         .unsynced = true},
	{"list of 100, per key", read_many, 5, 100, 500, .sql = LIST, .reader = &MAPPED},
	{"list of 100,000, per key", read_many, 5, 100000, 1, .sql = LIST, .reader = &MAPPED},
	{"count of all, per key", count_keys, 3, .reader = &MAPPED},
	{"get, random key, mapped", read_points, 5, 50000, 1, .reader = &MAPPED},

	/* From here on each key has five versions. */
	{"put, in key order, 1000 per transaction", put_batches, 4, 1000, 0, .pick = PICK_SORTED,
         .unsynced = true},
	{"put, random key, 1 per transaction", put_batches, 5, 1, .count = 400},
	{"put, random key, 64 per transaction", put_batches, 5, 64, .count = 150},
	{"put, random key, 512 per transaction", put_batches, 5, 512, .count = 40},
	{"scan of the newest 100,000 versions, per version", read_many, 5, 100000, 1, .sql = SCAN,
         .reader = &MAPPED},
	{"put, hot key, 64 per transaction", put_batches, 5, 64, 150, .pick = PICK_HOT},
	{"count of all, per key", count_keys, 3, .reader = &MAPPED},
	{"get, hot key, mapped", read_points, 5, 50000, 1, .pick = PICK_HOT, .reader = &MAPPED},
	{"get, random key, mapped", read_points, 5, 50000, 1, .reader = &MAPPED},
	{"get, random key, copied", read_points, 5, 50000, 1, .reader = &COPIED},
	{"get, random key, cached", read_points, 5, 50000, 1, .reader = &CACHED},
	{"get, in the log, mapped", read_points, 5, 20000, 1, .pick = PICK_RECENT, .reader = &MAPPED},
	{"get, in the log, copied", read_points, 5, 20000, 1, .pick = PICK_RECENT, .reader = &COPIED},
	{"get, in the log, cached", read_points, 5, 20000, 1, .pick = PICK_RECENT, .reader = &CACHED},
	{"get, 16 in each new snapshot, mapped", read_points, 3, 16, 200, .moves = true, .reader = &MAPPED},
	{"get, 16 in each new snapshot, copied", read_points, 3, 16, 200, .moves = true, .reader = &COPIED},
	{"get, in the log, 16 in each, mapped", read_points, 3, 16, 200, PICK_RECENT, .moves = true,
         .reader = &MAPPED},
	{"get, in the log, 16 in each, copied", read_points, 3, 16, 200, PICK_RECENT, .moves = true,
         .reader = &COPIED},
};

enum { WORK_COUNT = sizeof WORKS / sizeof WORKS[0] };

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const struct cost *parts, size_t field, int count)
{
	double values[PARTS_MAX];

	for (int i = 0; i < count; i++)
		memcpy(&values[i], (const char *)&parts[i] + field, sizeof values[i]);
	qsort(values, (size_t)count, sizeof values[0], by_value);
	return values[count / 2];
}

/* Leaves the write-ahead log empty or, for a work that reads from it, full. */
static void prepare_reader(struct bench *bench, const struct work *work)
{
	checkpoint(bench);
	while (work->pick == PICK_RECENT && bench->wal_pages < bench->wal_limit)
		put_batch(bench, 64, PICK_RANDOM);
	open_connection(bench, &bench->reader, work->reader->cache_kib, bench->mmap && work->reader->mmap);
	step_all(bench, &bench->reader, BEGIN);
	work->run(bench, work); /* brings into memory what can be there */
}

static struct cost measure(struct bench *bench, const struct work *work)
{
	struct cost parts[PARTS_MAX];

	if (work->reader != NULL)
		prepare_reader(bench, work);
	for (int i = 0; i < work->parts; i++) {
		double operations;

		bench->cost = (struct cost){0};
		operations = (double)work->run(bench, work);
		parts[i] = (struct cost){bench->cost.cpu_us / operations, bench->cost.wall_us / operations,
		                         work->reader != NULL ? 0 : bench->cost.pages / operations};
	}
	if (work->reader != NULL)
		close_connection(&bench->reader);
	return (struct cost){
		.cpu_us = median(parts, offsetof(struct cost, cpu_us), work->parts),
		.wall_us = median(parts, offsetof(struct cost, wall_us), work->parts),
		.pages = median(parts, offsetof(struct cost, pages), work->parts),
	};
}

static void remove_files(const struct bench *bench)
{
	static const char *const SUFFIXES[] = {"", "-wal", "-shm"};
	char path[4096];

	for (int i = 0; i < 3; i++) {
		path_of(bench, SUFFIXES[i], path);
		unlink(path);
	}
}

/* Gives the size of the file in MiB. */
static double run_schema(struct bench *bench, struct cost costs[WORK_COUNT])
{
	struct stat file = {0};
	char path[4096];

	remove_files(bench);
	bench->revision = 1;
	bench->wal_pages = 0;
	bench->next = 0;
	bench->random = 0x9e3779b97f4a7c15U;
	open_connection(bench, &bench->writer, WRITE_CACHE_KIB, bench->mmap);
	sqlite3_wal_hook(bench->writer.db, on_commit, bench);
	for (int i = 0; i < WORK_COUNT; i++) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "\r%s: %-50s\r", bench->schema->name, WORKS[i].name);
		costs[i] = measure(bench, &WORKS[i]);
	}
	checkpoint(bench);
	path_of(bench, "", path);
	stat(path, &file);
	close_connection(&bench->writer);
	remove_files(bench);
	return (double)file.st_size / (1 << 20);
}

static void print_cost(const struct cost *cost)
{
	printf("%8.2f%9.2f", cost->cpu_us, cost->wall_us);
	if (cost->pages > 0)
		printf("%7.2f ", cost->pages);
	else
		printf("%8s", "");
}

/* A column for each schema that was run. */
static void print_table(const struct bench *bench, struct cost costs[][WORK_COUNT], const double *sizes)
{
	printf("%u keys, values of %d bytes, pages of %d, checkpoints of %d pages, %s\n", bench->keys,
	       VALUE_BYTES, bench->page_size, bench->wal_limit, bench->mmap ? "mmap" : "no mmap");
	for (int s = 0; s < SCHEMA_COUNT; s++)
		printf("  %s: %s\n", SCHEMAS[s].name, SCHEMAS[s].story);
	printf("%-*s", NAME_WIDTH, "us CPU, us wall (puts: pages logged)");
	for (int s = 0; s < SCHEMA_COUNT; s++) {
		if (sizes[s] > 0)
			printf("%8s%17s", SCHEMAS[s].name, "");
	}
	for (int i = 0; i < WORK_COUNT; i++) {
		printf("\n%-*s", NAME_WIDTH, WORKS[i].name);
		for (int s = 0; s < SCHEMA_COUNT; s++) {
			if (sizes[s] > 0)
				print_cost(&costs[s][i]);
		}
	}
	printf("\n%-*s", NAME_WIDTH, "size of the file, MiB");
	for (int s = 0; s < SCHEMA_COUNT; s++) {
		if (sizes[s] > 0)
			printf("%8.0f%17s", sizes[s], "");
	}
	printf("\n");
}

static _Noreturn void usage(void)
{
	fputs("usage: bench_schema DIR [--keys 200000] [--schemas EFGD] [--page-size 4096] [--no-mmap]\n"
	      "                    [--checkpoint-mib 16]\n",
	      stderr);
	exit(2);
}

static void read_options(struct bench *bench, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"keys", required_argument, NULL, 'k'},           {"schemas", required_argument, NULL, 's'},
		{"page-size", required_argument, NULL, 'p'},      {"no-mmap", no_argument, NULL, 'm'},
		{"checkpoint-mib", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0},
	};
	int option, checkpoint_mib = 16;

	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		if (option == 'k')
			bench->keys = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 's')
			bench->schemas = optarg;
		else if (option == 'p')
			bench->page_size = atoi(optarg);
		else if (option == 'm')
			bench->mmap = false;
		else if (option == 'c')
			checkpoint_mib = atoi(optarg);
		else
			usage();
	}
	if (optind + 1 != argc || bench->keys == 0 || bench->page_size <= 0 || checkpoint_mib <= 0)
		usage();
	bench->dir = argv[optind];
	bench->wal_limit = (int)(((int64_t)checkpoint_mib << 20) / bench->page_size);
}

/* The order of the load: as keys come when nobody sorts them. */
static void shuffle_keys(struct bench *bench)
{
	for (unsigned i = 0; i < bench->keys; i++) {
		unsigned other = draw(bench, i + 1);

		bench->shuffled[i] = bench->shuffled[other];
		bench->shuffled[other] = i;
	}
}

int main(int argc, char **argv)
{
	static struct bench bench = {
		.keys = 200000, .schemas = "EFGD", .page_size = 4096, .mmap = true, .random = 1};
	static struct cost costs[SCHEMA_COUNT][WORK_COUNT];
	double sizes[SCHEMA_COUNT] = {0};

	read_options(&bench, argc, argv);
	memset(bench.value, 'v', sizeof bench.value);
	bench.shuffled = malloc(bench.keys * sizeof *bench.shuffled);
	bench.recent = malloc(bench.keys * sizeof *bench.recent);
	if (bench.shuffled == NULL || bench.recent == NULL)
		return 1;
	shuffle_keys(&bench);
	for (int s = 0; s < SCHEMA_COUNT; s++) {
		bench.schema = &SCHEMAS[s];
		if (strchr(bench.schemas, bench.schema->name[0]) != NULL)
			sizes[s] = run_schema(&bench, costs[s]);
	}
	print_table(&bench, costs, sizes);
	free(bench.shuffled);
	free(bench.recent);
	return 0;
}
