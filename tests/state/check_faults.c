/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every call that the store makes to its files fails once, or from some moment
 * on, and memory runs out at every allocation of SQLite's. Each time the store
 * says so with a clear code, goes on as soon as it can, and after a restart
 * holds all that it acknowledged and nothing half done.
 *
 * KETA_ALL=1 fails each single call; otherwise the later ones are sampled.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/fault_vfs.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "lib/workload.h"
#include "state/compact.h"
#include "state/range.h"

enum {
	BATCHES = 4,
	BATCH_SIZE = 6,
	WARM_UP_REQUESTS = 150,
	SPARSER = 10, /* the more calls have passed, the more are left out */
};

/* A batch as it was tried. */
struct attempt {
	const ProtobufCMessage *requests[BATCH_SIZE];
	struct applied found[BATCH_SIZE];
	int64_t before; /* the offset */
	bool tried, acknowledged;
};

struct run {
	struct fixture fx, calm;
	struct workload work;
	struct arena arena; /* of the requests */
	struct attempt attempts[BATCHES];
	int count;
	bool lasting; /* the fault stays until it is lifted */
	bool (*happened)(void);
	bool over; /* it had happened before this step */
};

static void copy_file(const char *from, const char *to)
{
	static uint8_t block[1 << 16];
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	ssize_t got;

	unlink(to);
	if (in < 0)
		return;
	out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(out, 0);
	while ((got = read(in, block, sizeof block)) > 0)
		ck_assert_int_eq(write(out, block, (size_t)got), got);
	close(in);
	close(out);
}

/* As if the process had died: the write-ahead log is still to be recovered. */
static void copy_store(const char *from, const char *to)
{
	static const char *const NAMES[] = {"keta.db", "keta.db-wal", "keta.db-journal"};

	mkdir(to, 0700);
	for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
		char source[512], target[512];

		snprintf(source, sizeof source, "%s/%s", from, NAMES[i]);
		snprintf(target, sizeof target, "%s/%s", to, NAMES[i]);
		copy_file(source, target);
	}
}

/* A store with some history, part of it compacted, part in the log. */
static void prepare(struct run *run)
{
	struct fixture fx;

	*run = (struct run){.happened = fault_vfs_happened};
	prng_init(&run->work.prng, (uint64_t)prng_setting("KETA_SEED", 7));
	arena_init(&run->arena, 1 << 30, NULL, 0);
	fault_vfs_start(fixture_path("victim"));
	ck_assert_int_eq(fixture_open_at(&fx, fixture_path("origin"), FAULT_VFS), STATUS_OK);
	fixture_bear(&fx);
	for (int i = 0; i < WARM_UP_REQUESTS; i++) {
		workload_learn(&run->work, fx.st);
		fixture_apply(&fx, workload_write(&run->work, &fx.arena));
		if (i == WARM_UP_REQUESTS / 2)
			ck_assert_int_eq(store_restart_wal(fx.st), STATUS_OK);
	}
	workload_learn(&run->work, fx.st);
	for (int i = 0; i < BATCHES; i++)
		for (int j = 0; j < BATCH_SIZE; j++)
			run->attempts[i].requests[j] = workload_write(&run->work, &run->arena);
	/* Something to drop for sure, and a record that fails half-way. */
	run->attempts[0].requests[0] = &make_compaction(&run->arena, fx.st->saved.revision)->base;
	copy_store(fx.dir, fixture_path("template"));
	fixture_close(&fx);
}

static bool is_clear(enum status_code status)
{
	return status == STATUS_OK || status == STATUS_IO_ERROR || status == STATUS_DISK_FULL ||
	       status == STATUS_NO_MEMORY;
}

/* Whether a step ended as it may: well, unless a fault came in between. */
static void check_step(struct run *run, enum status_code status)
{
	ck_assert_msg(is_clear(status), "unclear status %s", status_code_name(status));
	if (!run->happened() || (run->over && !run->lasting))
		ck_assert_str_eq(status_code_name(status), "OK");
	run->over = run->happened();
}

/* What watchers are told: of what was committed, and of nothing else. */
static void check_news(struct run *run, int64_t before, struct event_batch *batch)
{
	int64_t revision = run->fx.st->saved.revision;

	ck_assert_int_eq(batch != NULL, revision > before);
	if (batch == NULL)
		return;
	ck_assert_int_eq(batch->first, before + 1);
	ck_assert_int_eq(batch->last, revision);
	ck_assert(!batch->missing);
	for (int64_t at = before + 1, i = 0; at <= revision; at++) {
		ck_assert_int_eq(event_revision(batch->events[i]), at);
		while (i < (int64_t)batch->count && event_revision(batch->events[i]) == at)
			i++;
	}
	event_batch_release(batch);
}

static void apply_batch(struct run *run)
{
	struct attempt *attempt = &run->attempts[run->count++];
	int64_t revision;
	enum status_code status;

	attempt->tried = true;
	attempt->before = run->fx.offset;
	revision = run->fx.st->saved.revision;
	status = fixture_apply_batch(&run->fx, attempt->requests, BATCH_SIZE, attempt->found);
	attempt->acknowledged = status == STATUS_OK;
	check_step(run, status);
	check_news(run, revision, store_take_news(run->fx.st));
}

static void compact_all(struct run *run)
{
	enum status_code status = STATUS_OK;
	bool done = !compact_is_due(run->fx.st);
	size_t dropped;

	while (status == STATUS_OK && !done) {
		status = store_begin(run->fx.st);
		if (status == STATUS_OK)
			status = compact_step(run->fx.st, 40, &dropped, &done);
		if (status == STATUS_OK)
			status = store_commit(run->fx.st);
		else
			store_rollback(run->fx.st);
	}
	check_step(run, status);
}

static void checkpoint(struct run *run, bool complete)
{
	struct view reader;
	enum status_code status = STATUS_OK;

	if (complete) {
		status = store_restart_wal(run->fx.st);
	} else {
		status = store_view(run->fx.st, VIEW_SHORT_READ, &reader);
		if (status == STATUS_OK) {
			status = store_checkpoint(&reader);
			view_close(&reader);
		}
	}
	check_step(run, status);
}

static void read_all(struct run *run)
{
	Pb__RangeRequest *request = make_range(&run->fx.arena, NULL, NULL);
	Pb__RangeResponse *response;
	struct view reader;
	enum status_code status = store_view(run->fx.st, VIEW_SHORT_READ, &reader);

	request->key = request->range_end = make_open_end(&run->fx.arena);
	if (status == STATUS_OK) {
		status = view_refresh(&reader);
		if (status == STATUS_OK)
			status = range_run(&reader, request, reader.state.revision, &run->fx.arena,
			                   &response);
		view_close(&reader);
	}
	check_step(run, status);
}

static void use_store(struct run *run)
{
	apply_batch(run);
	compact_all(run);
	checkpoint(run, false);
	apply_batch(run);
	checkpoint(run, true);
	read_all(run);
	apply_batch(run);
}

/* What the calm store must do to be where the other one should be. */
static void follow(struct run *run)
{
	int64_t applied = run->fx.st->saved.applied_offset;

	for (int i = 0; i < run->count; i++) {
		const struct attempt *attempt = &run->attempts[i];

		/* A failed commit may turn out to be on the disk after all, if no other came after it. */
		if (!attempt->acknowledged && applied != attempt->before + BATCH_SIZE)
			continue;
		run->calm.offset = attempt->before;
		for (int j = 0; j < BATCH_SIZE; j++) {
			/* A refusal for want of memory has changed nothing. */
			if (attempt->acknowledged && attempt->found[j].status == STATUS_NO_MEMORY)
				run->calm.offset++;
			else
				fixture_apply(&run->calm, attempt->requests[j]);
		}
	}
}

static void compare(struct run *run)
{
	const struct store_state *found = &run->fx.st->saved, *wanted = &run->calm.st->saved;

	follow(run);
	ck_assert_int_eq(found->revision, wanted->revision);
	ck_assert_int_eq(found->compact_revision, wanted->compact_revision);
	ck_assert_int_eq(found->keys, wanted->keys);
	ck_assert_uint_eq(found->hash, wanted->hash);
	ck_assert_int_eq(run->fx.st->alarm_nospace, run->calm.st->alarm_nospace);
	ck_assert_int_eq(run->fx.st->alarm_corrupt, run->calm.st->alarm_corrupt);
	fixture_check_integrity(&run->fx);
	ck_assert_uint_eq(fixture_content_hash(&run->fx), fixture_content_hash(&run->calm));
	fixture_compact_rows(&run->fx, 1000);
	fixture_compact_rows(&run->calm, 1000);
	ck_assert_int_eq(run->fx.st->saved.logical_bytes, run->calm.st->saved.logical_bytes);
}

/* Opens the two copies; the first with the fault in wait. */
static enum status_code open_copies(struct run *run)
{
	enum status_code status;
	char path[512];

	snprintf(path, sizeof path, "%s", fixture_path("template"));
	copy_store(path, fixture_path("victim"));
	copy_store(path, fixture_path("calm"));
	ck_assert_int_eq(fixture_open_at(&run->calm, fixture_path("calm"), FAULT_VFS), STATUS_OK);
	run->count = 0;
	run->over = false;
	status = fixture_open_at(&run->fx, fixture_path("victim"), FAULT_VFS);
	if (status == STATUS_OK)
		run->fx.st->keeps_news = run->fx.st->keeps_prev = true;
	return status;
}

static void close_copies(struct run *run)
{
	fixture_close(&run->fx);
	fixture_close(&run->calm);
}

/* A store that could not be opened leaves nothing behind and opens later. */
static void fail_call(struct run *run, struct fault fault)
{
	enum status_code status;

	fault_vfs_start(fixture_path("victim"));
	fault_vfs_plan(&fault);
	status = open_copies(run);
	check_step(run, status);
	if (status == STATUS_OK) {
		use_store(run);
		fixture_shut(&run->fx);
	}
	run->over = fault_vfs_happened();
	fault_vfs_plan(NULL);
	fixture_reopen(&run->fx);
	compare(run);
	/* And it can be written. */
	run->lasting = false;
	fixture_put(&run->fx, "after", "all");
	close_copies(run);
}

static const struct fault FAULTS[] = {
	{.calls = FAULT_WRITE},
	{.calls = FAULT_WRITE, .torn = true},
	{.calls = FAULT_WRITE, .code = SQLITE_FULL},
	{.calls = FAULT_WRITE, .code = SQLITE_FULL, .torn = true},
	{.calls = FAULT_SYNC},
	{.calls = FAULT_TRUNCATE},
	{.calls = FAULT_READ},
	{.calls = FAULT_OPEN},
	{.calls = FAULT_DELETE},
	{.calls = FAULT_OPEN | FAULT_READ | FAULT_WRITE | FAULT_TRUNCATE | FAULT_SYNC | FAULT_DELETE},
};
enum { FAULT_COUNT = sizeof FAULTS / sizeof *FAULTS };

static int64_t next_call(int64_t at)
{
	return prng_setting("KETA_ALL", 0) != 0 ? at + 1 : at + 1 + at / SPARSER;
}

START_TEST(a_failing_call_is_told_and_survived)
{
	struct run run;
	struct fault fault = FAULTS[_i % FAULT_COUNT];

	prepare(&run);
	fault.from_then_on = _i >= FAULT_COUNT;
	for (fault.at = 1;; fault.at = next_call(fault.at)) {
		run.lasting = fault.from_then_on;
		fail_call(&run, fault);
		if (!run.over)
			break;
	}
	arena_release(&run.arena);
}
END_TEST

/* SQLite's own allocator with a failure in it. */
static sqlite3_mem_methods memory;
static int64_t allocations_left; /* until the failure; 0: none is planned */
static bool memory_failed;

static bool refuse_memory(void)
{
	if (allocations_left == 0 || --allocations_left > 0)
		return false;
	memory_failed = true;
	return true;
}

static void *allocate(int size)
{
	return refuse_memory() ? NULL : memory.xMalloc(size);
}

static void *reallocate(void *old, int size)
{
	return refuse_memory() ? NULL : memory.xRealloc(old, size);
}

static bool memory_has_failed(void)
{
	return memory_failed;
}

static void break_memory(void)
{
	sqlite3_mem_methods broken;

	ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory), SQLITE_OK);
	broken = memory;
	broken.xMalloc = allocate;
	broken.xRealloc = reallocate;
	ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &broken), SQLITE_OK);
}

static void fail_allocation(struct run *run, int64_t at)
{
	enum status_code status;

	memory_failed = false;
	fault_vfs_start(fixture_path("victim"));
	status = open_copies(run);
	ck_assert_int_eq(status, STATUS_OK);
	allocations_left = at;
	use_store(run);
	allocations_left = 0;
	fixture_shut(&run->fx);
	fixture_reopen(&run->fx);
	compare(run);
	close_copies(run);
}

/* Setting the journal's mode answers before it has changed the file. */
START_TEST(a_new_database_that_was_not_synced_is_not_used)
{
	struct fault fault = {.calls = FAULT_SYNC, .at = 1, .loses = true};
	const char *dir = fixture_path("unsynced");
	struct store_options options = {.dir = dir, .vfs = FAULT_VFS};
	struct store *st = NULL;

	fault_vfs_start(dir);
	fault_vfs_plan(&fault);
	ck_assert_int_ne(store_open(&options, &st), STATUS_OK);
	ck_assert(fault_vfs_happened());
	fault_vfs_plan(NULL);
}
END_TEST

START_TEST(a_failing_allocation_is_told_and_survived)
{
	struct run run;

	break_memory();
	prepare(&run);
	run.happened = memory_has_failed;
	for (int64_t at = 1;; at = next_call(at)) {
		fail_allocation(&run, at);
		if (!memory_failed)
			break;
	}
	arena_release(&run.arena);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("faults");
	TCase *tcase = tcase_create("faults");

	tcase_set_timeout(tcase, 3600);
	tcase_add_loop_test(tcase, a_failing_call_is_told_and_survived, 0, 2 * FAULT_COUNT);
	tcase_add_test(tcase, a_new_database_that_was_not_synced_is_not_used);
	tcase_add_test(tcase, a_failing_allocation_is_told_and_survived);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
