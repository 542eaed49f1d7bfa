/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine with all its threads under a shared log of the test's, at the moments
 * at which they meet: a stop with records on their way, a confirmation before or
 * after its record, an answer before its commit, a barrier that fails, a read that
 * goes home. Much of what is proven here is that a sanitizer finds nothing.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "engine/internal.h"
#include "lib/fault_vfs.h"
#include "lib/fixture.h"
#include "lib/test.h"
#include "log/election.h"
#include "log/record.h"
#include "log/tables.h"

enum {
	RECORDS_MAX = 50000,
	ARENA_CAP_BYTES = 1 << 30,
	CALL_CAP_BYTES = 1 << 20,
	WAIT_MS = 10000,  /* for what has to come */
	STOP_MS = 2000,   /* a stop that has to wait for nobody */
	DEADLINE_MS = 80, /* of a call that is to run into it */
	LATE_MS = 1200,   /* of one that is not; it passes all the same */
	PAUSE_NS = 500 * 1000,
	OTHER = 9, /* another member; its incarnation is 900 */
	CROWD = 50,
	READS = 4,
};

/* What becomes of the records that the engine appends. */
enum fate {
	FATE_ARRIVE,
	FATE_REFUSED,
	FATE_LOST,        /* taken, and then the log says that it was not written */
	FATE_LOST_UNTOLD, /* the same without a word */
};

struct node {
	struct log log;
	pthread_mutex_t lock; /* guards what follows, up to 'sequence' */
	struct buf *records;
	uint64_t *tags; /* of this node's; 0 in another's */
	size_t count, polled, told;
	bool silent;  /* polls bring nothing */
	bool mute;    /* nothing is confirmed unless the test does it */
	bool crowded; /* other nodes' records keep coming */
	bool woken;
	enum fate fate;
	size_t failed;     /* appends that had another fate than to arrive */
	uint64_t lost_tag; /* to be told of */
	uint64_t sequence; /* of the other member's */
	pthread_t teller;
	_Atomic bool over; /* the teller is to end */

	struct tables tables;
	_Atomic int interrupts_ended; /* the leader's thread is gone */
	struct election election;
	_Atomic bool holds;

	_Atomic int wakes; /* of the reader */

	struct arena arena;
	struct config config;
	struct store *store;
	struct engine *engine;
	struct reader *reader;
};

#define NODE_OF(member_, pointer)                                                                          \
	((struct node *)(void *)((char *)(pointer)-offsetof(struct node, member_)))

static void pause_briefly(void)
{
	nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
}

/* ---- Waiting for what has to come ---- */

typedef bool condition_fn(struct node *node);

static void await(struct node *node, condition_fn *condition, const char *what)
{
	int64_t give_up_ms = clock_ms() + WAIT_MS;

	while (!condition(node)) {
		ck_assert_msg(clock_ms() < give_up_ms, "still not: %s", what);
		pause_briefly();
	}
}

#define AWAIT(node_, condition_) await(node_, condition_, #condition_)

/* ---- The log ---- */

/* Under the lock. */
static void add_record(struct node *node, const void *data, size_t len, uint64_t tag)
{
	ck_assert_uint_lt(node->count, RECORDS_MAX);
	buf_append(&node->records[node->count], data, len);
	node->tags[node->count++] = tag;
}

/* A record of another member. Under the lock. */
static void add_other(struct node *node)
{
	Pb__Record rec = PB__RECORD__INIT;
	Pb__Barrier barrier = PB__BARRIER__INIT;
	struct buf packed;

	ck_assert_int_eq(record_set_request(&rec, &barrier.base), STATUS_OK);
	rec.cluster_id = atomic_load(&node->engine->cluster_id);
	rec.member_id = OTHER;
	rec.incarnation = OTHER * 100;
	rec.sequence = ++node->sequence;
	buf_init(&packed);
	ck_assert_int_eq(record_pack(&rec, RECORD_LEVEL, &packed), STATUS_OK);
	add_record(node, packed.data, packed.len, 0);
	buf_release(&packed);
}

static enum status_code append(struct log *log, const uint8_t *data, size_t len, uint64_t tag)
{
	struct node *node = NODE_OF(log, log);
	enum fate fate;

	pthread_mutex_lock(&node->lock);
	fate = node->fate;
	if (fate == FATE_ARRIVE)
		add_record(node, data, len, tag);
	else
		node->failed++;
	if (fate == FATE_LOST)
		node->lost_tag = tag;
	pthread_mutex_unlock(&node->lock);
	return fate == FATE_REFUSED ? STATUS_TIMEOUT : STATUS_OK;
}

static size_t take_records(struct node *node, struct log_record *records, size_t max)
{
	size_t count = 0;

	for (; !node->silent && count < max && node->polled < node->count; node->polled++, count++)
		records[count] =
			(struct log_record){(int64_t)node->polled + 1, node->records[node->polled].data,
		                            node->records[node->polled].len};
	return count;
}

/* As librdkafka's batch poll, one that brings records takes a wake with it. */
static enum status_code poll_records(struct log *log, struct log_record *records, size_t max, size_t *count,
                                     int timeout_ms)
{
	struct node *node = NODE_OF(log, log);
	int64_t until_ms = clock_ms() + timeout_ms;
	bool over, late;

	do {
		late = clock_ms() >= until_ms;
		pthread_mutex_lock(&node->lock);
		if (node->crowded)
			add_other(node);
		*count = take_records(node, records, max);
		over = *count > 0 || node->woken || late;
		if (over)
			node->woken = false;
		pthread_mutex_unlock(&node->lock);
		if (!late) /* the others need their time as well */
			pause_briefly();
	} while (!over);
	return STATUS_OK;
}

static enum status_code bounds(struct log *log, int64_t *first, int64_t *end)
{
	struct node *node = NODE_OF(log, log);

	*first = 1;
	pthread_mutex_lock(&node->lock);
	*end = (int64_t)node->count + 1;
	pthread_mutex_unlock(&node->lock);
	return STATUS_OK;
}

static enum status_code read_at(struct log *log, int64_t offset, struct buf *out)
{
	struct node *node = NODE_OF(log, log);

	pthread_mutex_lock(&node->lock);
	buf_reset(out);
	buf_append(out, node->records[offset - 1].data, node->records[offset - 1].len);
	pthread_mutex_unlock(&node->lock);
	return STATUS_OK;
}

static enum status_code trim(struct log *log, int64_t before)
{
	(void)log;
	(void)before;
	return STATUS_OK;
}

static void wake(struct log *log)
{
	struct node *node = NODE_OF(log, log);

	pthread_mutex_lock(&node->lock);
	node->woken = true;
	pthread_mutex_unlock(&node->lock);
}

static const struct log_ops LOG_OPS = {
	.name = "test",
	.shared = true,
	.append = append,
	.poll = poll_records,
	.bounds = bounds,
	.read_at = read_at,
	.trim = trim,
	.wake = wake,
};

/* Says of all records that nobody was told of yet what became of them; on the
 * log's thread, as long as it may. */
static void tell(struct node *node, bool by_the_log, enum status_code status)
{
	uint64_t tag, lost_tag;
	bool any;

	do {
		tag = 0;
		pthread_mutex_lock(&node->lock);
		lost_tag = node->lost_tag;
		node->lost_tag = 0;
		any = node->told < node->count && !(by_the_log && node->mute);
		if (any)
			tag = node->tags[node->told++];
		pthread_mutex_unlock(&node->lock);
		if (tag != 0)
			log_tell(&node->log, tag, status);
		if (lost_tag != 0)
			log_tell(&node->log, lost_tag, STATUS_TIMEOUT);
	} while (any);
}

static void *run_teller(void *arg)
{
	struct node *node = arg;

	while (!atomic_load(&node->over)) {
		tell(node, true, STATUS_OK);
		pause_briefly();
	}
	return NULL;
}

static void set(struct node *node, bool *what, bool value)
{
	pthread_mutex_lock(&node->lock);
	*what = value;
	pthread_mutex_unlock(&node->lock);
}

static void set_fate(struct node *node, enum fate fate)
{
	pthread_mutex_lock(&node->lock);
	node->fate = fate;
	node->failed = 0;
	pthread_mutex_unlock(&node->lock);
}

static size_t count_records(struct node *node)
{
	size_t count;

	pthread_mutex_lock(&node->lock);
	count = node->count;
	pthread_mutex_unlock(&node->lock);
	return count;
}

/* ---- The tables, which take everything, and the election, which this node has won ---- */

static enum status_code take(struct tables *tables, uint64_t cluster_id)
{
	(void)tables;
	(void)cluster_id;
	return STATUS_OK;
}

static enum status_code begin_or_commit(struct tables *tables)
{
	(void)tables;
	return STATUS_OK;
}

static enum status_code put_row(struct tables *tables, enum table table, const void *key, size_t key_len,
                                const void *value, size_t value_len)
{
	(void)tables;
	(void)table;
	(void)key;
	(void)key_len;
	(void)value;
	(void)value_len;
	return STATUS_OK;
}

static void abort_rows(struct tables *tables)
{
	(void)tables;
}

static enum status_code read_rows(struct tables *tables, enum table table, table_row_fn *row, void *arg)
{
	(void)tables;
	(void)table;
	(void)row;
	(void)arg;
	return STATUS_OK;
}

static void interrupt(struct tables *tables, bool on)
{
	if (!on)
		atomic_fetch_add(&NODE_OF(tables, tables)->interrupts_ended, 1);
}

static const struct tables_ops TABLES_OPS = {
	.take = take,
	.begin = begin_or_commit,
	.put = put_row,
	.commit = begin_or_commit,
	.abort = abort_rows,
	.read = read_rows,
	.interrupt = interrupt,
};

static bool holds(struct election *election)
{
	return atomic_load(&NODE_OF(election, election)->holds);
}

static void stand(struct election *election, bool stands)
{
	(void)election;
	(void)stands;
}

static void resign(struct election *election)
{
	(void)election;
}

static const struct election_ops ELECTION_OPS = {.holds = holds, .stand = stand, .resign = resign};

/* ---- The node ---- */

static bool is_joined(struct node *node)
{
	struct engine_info info;

	engine_info(node->engine, &info);
	return info.ready;
}

static bool leads(struct node *node)
{
	struct engine_info info;

	engine_info(node->engine, &info);
	return info.leads;
}

/* Joined. */
static struct node *node_start(enum config_barrier barrier)
{
	struct store_options options = {
		.dir = fixture_path("stop"), .log_kind = LOG_KAFKA, .vfs = FAULT_VFS};
	struct engine_cluster cluster = {.node_name = "test", .found = true};
	struct node *node = calloc(1, sizeof *node);

	ck_assert_ptr_nonnull(node);
	fault_vfs_start(options.dir);
	node->records = calloc(RECORDS_MAX, sizeof *node->records);
	node->tags = calloc(RECORDS_MAX, sizeof *node->tags);
	ck_assert(node->records != NULL && node->tags != NULL);
	log_init(&node->log, &LOG_OPS);
	node->tables.ops = &TABLES_OPS;
	node->election.ops = &ELECTION_OPS;
	pthread_mutex_init(&node->lock, NULL);
	arena_init(&node->arena, ARENA_CAP_BYTES, NULL, 0);
	node->config = (struct config){
		.name = "test",
		.listeners = "http://127.0.0.1:1",
		.max_request_bytes = 1 << 20,
		.max_txn_ops = 128,
		.quota_backend_bytes = -1,
		.slow_request_ms = 100000,
		.checkpoint_interval_ms = 600000,
		.checkpoint_log_bytes = 1 << 30,
		.read_barrier = barrier,
	};
	cluster.tables = &node->tables;
	cluster.election = &node->election;
	ck_assert_int_eq(store_open(&options, &node->store), STATUS_OK);
	ck_assert_int_eq(engine_join(&node->config, &node->log, node->store, &cluster, &node->engine),
	                 STATUS_OK);
	ck_assert_int_eq(pthread_create(&node->teller, NULL, run_teller, node), 0);
	AWAIT(node, is_joined);
	ck_assert_int_eq(engine_reader_new(node->engine, &node->reader), STATUS_OK);
	return node;
}

/* Stops the engine; how long it took. */
static int64_t stop(struct node *node)
{
	int64_t since_ms = clock_ms();

	engine_reader_free(node->reader); /* as an edge does, which ends before the engine */
	engine_stop(node->engine);
	return clock_ms() - since_ms;
}

/* Once the engine is stopped. */
static void node_free(struct node *node)
{
	atomic_store(&node->over, true);
	pthread_join(node->teller, NULL);
	store_close(node->store);
	for (size_t i = 0; i < node->count; i++)
		buf_release(&node->records[i]);
	free(node->records);
	free(node->tags);
	pthread_mutex_destroy(&node->lock);
	log_release(&node->log);
	arena_release(&node->arena);
	free(node);
}

struct stopping {
	struct node *node;
	pthread_t thread;
	int64_t took_ms;
};

static void *run_stop(void *arg)
{
	struct stopping *stopping = arg;

	stopping->took_ms = stop(stopping->node);
	return NULL;
}

static void stop_begin(struct stopping *stopping, struct node *node)
{
	*stopping = (struct stopping){.node = node};
	ck_assert_int_eq(pthread_create(&stopping->thread, NULL, run_stop, stopping), 0);
}

static int64_t stop_await(struct stopping *stopping)
{
	pthread_join(stopping->thread, NULL);
	return stopping->took_ms;
}

/* ---- Calls ---- */

struct errand {
	struct call *call;
	pthread_t thread; /* that finished it */
	_Atomic int finished;
};

static void on_finish(struct call *call, bool slow)
{
	struct errand *errand = call->edge;

	(void)slow;
	errand->thread = pthread_self();
	atomic_fetch_add(&errand->finished, 1);
}

static void errand_start(struct errand *errand, struct node *node, const char *service, const char *name,
                         const ProtobufCMessage *request, int64_t deadline_ms)
{
	static const struct call_ops OPS = {.finish = on_finish};

	*errand = (struct errand){.call = call_new(&OPS, errand, CALL_CAP_BYTES)};
	ck_assert_ptr_nonnull(errand->call);
	errand->call->method = method_by_name(service, name);
	errand->call->request = request;
	errand->call->deadline_ms = deadline_ms;
	ck_assert(!call_start(node->engine, node->reader, errand->call));
}

static void start_put(struct errand *errand, struct node *node, int64_t deadline_ms)
{
	errand_start(errand, node, "KV", "Put", &make_put(&node->arena, "k", "v")->base, deadline_ms);
}

static void start_read(struct errand *errand, struct node *node)
{
	errand_start(errand, node, "KV", "Range", &make_range(&node->arena, "k", NULL)->base, 0);
}

static void await_finish(struct errand *errand)
{
	int64_t give_up_ms = clock_ms() + WAIT_MS;

	while (atomic_load(&errand->finished) == 0) {
		ck_assert_msg(clock_ms() < give_up_ms, "the call is not finished");
		pause_briefly();
	}
}

/* Of a call that is over, once. */
static void errand_end(struct errand *errand, enum status_code wanted)
{
	ck_assert_int_eq(atomic_load(&errand->finished), 1);
	ck_assert_int_eq(errand->call->status.code, wanted);
	call_free(errand->call);
}

static void must_put(struct node *node)
{
	struct errand errand;

	start_put(&errand, node, 0);
	await_finish(&errand);
	errand_end(&errand, STATUS_OK);
}

static void end_read(struct errand *errand)
{
	await_finish(errand);
	ck_assert_int_eq(errand->call->status.code, STATUS_OK);
	ck_assert_int_eq(((const Pb__RangeResponse *)errand->call->response)->count, 1);
	errand_end(errand, STATUS_OK);
}

/* ---- What a stop leaves behind ---- */

static struct node *node_lead(void)
{
	struct node *node = node_start(CONFIG_BARRIER_RECORD);

	atomic_store(&node->holds, true);
	AWAIT(node, leads);
	return node;
}

static void grant_lease(struct node *node)
{
	struct errand errand;

	errand_start(&errand, node, "Lease", "LeaseGrant", &make_grant(&node->arena, 7, 3600)->base, 0);
	await_finish(&errand);
	errand_end(&errand, STATUS_OK);
}

static void begin_outage(struct node *node)
{
	pthread_mutex_lock(&node->lock);
	node->silent = node->mute = true;
	pthread_mutex_unlock(&node->lock);
}

static bool is_record_on_its_way(struct node *node)
{
	bool is;

	pthread_mutex_lock(&node->lock);
	is = node->polled < node->count;
	pthread_mutex_unlock(&node->lock);
	return is;
}

static bool has_leader_left(struct node *node)
{
	return atomic_load(&node->interrupts_ended) > 0;
}

/* Its heartbeat, which comes by itself while there are leases, is applied or
 * refused when its thread has ended. */
START_TEST(a_stop_in_an_outage_leaves_no_record_of_the_leaders_behind)
{
	struct node *node = node_lead();
	struct stopping stopping;

	grant_lease(node);
	begin_outage(node);
	AWAIT(node, is_record_on_its_way);
	stop_begin(&stopping, node);
	AWAIT(node, has_leader_left);
	ck_assert_int_gt(engine_pending(node->engine), 0);
	if (_i == 1)
		tell(node, false, STATUS_TIMEOUT);
	set(node, &node->silent, false);
	set(node, &node->mute, false);
	ck_assert_int_lt(stop_await(&stopping), STOP_MS);
	node_free(node);
}
END_TEST

/* One that comes while the engine stops finds it, or nobody. */
START_TEST(a_confirmation_that_comes_after_the_stop_finds_nobody)
{
	struct node *node = node_start(CONFIG_BARRIER_RECORD);
	Pb__Barrier barrier = PB__BARRIER__INIT;
	struct errand errand;
	struct stopping stopping;

	set(node, &node->mute, true);
	start_put(&errand, node, clock_ms() + DEADLINE_MS);
	await_finish(&errand);
	errand_end(&errand, STATUS_DEADLINE_EXCEEDED);
	for (int i = 0; i < CROWD; i++)
		ck_assert_int_eq(propose_internal(node->engine, &barrier.base, NULL), STATUS_OK);
	stop_begin(&stopping, node);
	if (_i == 1)
		tell(node, false, STATUS_OK);
	ck_assert_int_lt(stop_await(&stopping), STOP_MS);
	tell(node, false, STATUS_OK);
	node_free(node);
}
END_TEST

static bool is_crowded(struct node *node)
{
	return count_records(node) > CROWD;
}

START_TEST(a_stop_does_not_wait_for_other_nodes_to_stop_writing)
{
	struct node *node = node_start(CONFIG_BARRIER_RECORD);
	struct errand errand;

	set(node, &node->crowded, true);
	AWAIT(node, is_crowded);
	start_put(&errand, node, 0);
	ck_assert_int_lt(stop(node), STOP_MS);
	errand_end(&errand, STATUS_OK); /* what was under way was finished first */
	node_free(node);
}
END_TEST

START_TEST(a_stop_under_traffic_is_clean_with_either_barrier)
{
	struct node *node = node_start(_i == 0 ? CONFIG_BARRIER_WATERMARK : CONFIG_BARRIER_RECORD);
	struct errand reads[READS];

	must_put(node);
	set(node, &node->crowded, true);
	AWAIT(node, is_crowded);
	for (int i = 0; i < READS; i++)
		start_read(&reads[i], node);
	ck_assert_int_lt(stop(node), STOP_MS);
	for (int i = 0; i < READS; i++)
		end_read(&reads[i]);
	node_free(node);
}
END_TEST

/* ---- What ends a call ---- */

/* a: its record is applied; c: the log confirms it; f: the log says that it was not
 * written, or perhaps; d: its deadline passes. */
static const struct {
	const char *steps;
	size_t ends_at;
	enum status_code wanted;
} ORDERS[] = {
	{"ac", 1, STATUS_OK},
	{"ca", 1, STATUS_OK},
	{"af", 1, STATUS_TIMEOUT},
	{"fa", 1, STATUS_TIMEOUT},
	{"adc", 1, STATUS_DEADLINE_EXCEEDED},
	{"adf", 1, STATUS_DEADLINE_EXCEEDED},
	{"cda", 1, STATUS_DEADLINE_EXCEEDED},
	{"fda", 1, STATUS_DEADLINE_EXCEEDED},
	{"dac", 0, STATUS_DEADLINE_EXCEEDED},
	{"dca", 0, STATUS_DEADLINE_EXCEEDED},
	{"dfa", 0, STATUS_DEADLINE_EXCEEDED},
};

/* The applier counts a batch when it has done with the calls in it. */
static bool is_all_applied(struct node *node)
{
	int64_t bytes = 0;

	pthread_mutex_lock(&node->lock);
	for (size_t i = 0; i < node->count; i++)
		bytes += (int64_t)node->records[i].len;
	pthread_mutex_unlock(&node->lock);
	return atomic_load(&node->engine->log_bytes) == bytes;
}

static void do_step(struct node *node, char step, struct errand *errand)
{
	switch (step) {
	case 'a':
		set(node, &node->silent, false);
		AWAIT(node, is_all_applied);
		set(node, &node->silent, true);
		break;
	case 'd':
		await_finish(errand);
		break;
	default:
		tell(node, false, step == 'c' ? STATUS_OK : STATUS_TIMEOUT);
	}
}

static void run_order(struct node *node, size_t order, struct errand *errand)
{
	const char *steps = ORDERS[order].steps;
	bool expires = strchr(steps, 'd') != NULL;

	begin_outage(node);
	start_put(errand, node, clock_ms() + (expires ? DEADLINE_MS : LATE_MS));
	for (size_t i = 0; steps[i] != '\0'; i++) {
		do_step(node, steps[i], errand);
		if (i == ORDERS[order].ends_at)
			await_finish(errand);
		else if (!expires)
			ck_assert_msg(atomic_load(&errand->finished) == 0, "%s is over at %zu", steps, i);
	}
}

START_TEST(a_call_is_finished_once_in_whichever_order_its_ends_come)
{
	enum { COUNT = sizeof ORDERS / sizeof *ORDERS };
	struct node *node = node_start(CONFIG_BARRIER_RECORD);
	struct errand errands[COUNT], last;
	int64_t late_ms;

	AWAIT(node, is_all_applied);
	for (size_t i = 0; i < COUNT; i++)
		run_order(node, i, &errands[i]);
	/* Those that were over before their deadlines see them pass. */
	late_ms = clock_ms() + DEADLINE_MS;
	if (late_ms < errands[3].call->deadline_ms)
		late_ms = errands[3].call->deadline_ms;
	start_put(&last, node, late_ms);
	await_finish(&last);
	errand_end(&last, STATUS_DEADLINE_EXCEEDED);
	set(node, &node->silent, false);
	set(node, &node->mute, false);
	must_put(node);
	ck_assert_int_eq(engine_pending(node->engine), 0);
	for (size_t i = 0; i < COUNT; i++)
		errand_end(&errands[i], ORDERS[i].wanted);
	ck_assert_int_lt(stop(node), STOP_MS);
	node_free(node);
}
END_TEST

/* ---- Answers before the commit ---- */

/* Asks without a barrier, on a thread of its own: it may have to wait. */
struct asking {
	struct stream stream; /* first; of a watch */
	struct node *node;
	const char *service, *method;
	const ProtobufCMessage *request;
	int64_t revision; /* at which it was answered, once the thread is joined */
	_Atomic bool begun;
	pthread_t thread;
};

static void on_unwanted_finish(struct call *call, bool slow)
{
	(void)call;
	(void)slow;
	ck_abort_msg("a read without a barrier ends where it came from");
}

static void ask_once(struct asking *asking, struct reader *reader)
{
	static const struct call_ops OPS = {.finish = on_unwanted_finish};
	struct call *call = call_new(&OPS, NULL, CALL_CAP_BYTES);

	ck_assert_ptr_nonnull(call);
	call->method = method_by_name(asking->service, asking->method);
	call->request = asking->request;
	ck_assert(call_start(asking->node->engine, reader, call));
	ck_assert_int_eq(call->status.code, STATUS_OK);
	/* The header is the first field of each of these responses. */
	asking->revision = ((const Pb__RangeResponse *)call->response)->header->revision;
	call_free(call);
}

static void on_message(struct stream *stream, const ProtobufCMessage *response)
{
	((struct asking *)stream)->revision = ((const Pb__WatchResponse *)response)->header->revision;
}

static void on_own_wake(void *arg)
{
	(void)arg;
}

static void watch_from_now(struct asking *asking, struct reader *reader)
{
	static const struct stream_ops OPS = {.message = on_message};

	ck_assert_int_eq(engine_reader_listen(reader, on_own_wake, NULL), STATUS_OK);
	asking->stream.ops = &OPS;
	asking->stream.method = method_by_name(asking->service, asking->method);
	ck_assert(stream_open(asking->node->engine, reader, &asking->stream));
	stream_receive(&asking->stream, asking->request);
	stream_close(&asking->stream);
}

static void *run_asking(void *arg)
{
	struct asking *asking = arg;
	struct reader *reader;

	ck_assert_int_eq(engine_reader_new(asking->node->engine, &reader), STATUS_OK);
	atomic_store(&asking->begun, true);
	if (strcmp(asking->service, "Watch") == 0)
		watch_from_now(asking, reader);
	else
		ask_once(asking, reader);
	engine_reader_free(reader);
	return NULL;
}

static void ask_begin(struct asking *asking, struct node *node, const char *service, const char *method,
                      const ProtobufCMessage *request)
{
	*asking = (struct asking){.node = node, .service = service, .method = method, .request = request};
	ck_assert_int_eq(pthread_create(&asking->thread, NULL, run_asking, asking), 0);
	while (!atomic_load(&asking->begun))
		pause_briefly();
}

static int64_t ask_end(struct asking *asking)
{
	pthread_join(asking->thread, NULL);
	return asking->revision;
}

static Pb__TxnRequest *make_read_txn(struct node *node)
{
	Pb__TxnRequest *txn = make_txn(&node->arena);
	Pb__RangeRequest *range = make_range(&node->arena, "k", NULL);

	range->serializable = true;
	txn_add_success(&node->arena, txn, &range->base);
	return txn;
}

START_TEST(a_write_is_answered_before_its_commit_and_found_by_whoever_asks_then)
{
	enum { KINDS = 4 };
	struct node *node = node_start(CONFIG_BARRIER_RECORD);
	Pb__StatusRequest status = PB__STATUS_REQUEST__INIT;
	Pb__WatchCreateRequest create = PB__WATCH_CREATE_REQUEST__INIT;
	Pb__WatchRequest watch = PB__WATCH_REQUEST__INIT;
	Pb__RangeRequest *range = make_range(&node->arena, "k", NULL);
	struct asking asking[KINDS];
	struct errand put;
	int64_t revision;

	range->serializable = true;
	create.key = make_bytes(&node->arena, "k");
	watch.request_union_case = PB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
	watch.create_request = &create;
	must_put(node);
	AWAIT(node, is_all_applied);
	fault_vfs_stall(FAULT_WRITE);
	start_put(&put, node, 0);
	await_finish(&put);
	revision = ((const Pb__PutResponse *)put.call->response)->header->revision;
	ck_assert_int_lt(atomic_load(&node->engine->revision), revision);
	ask_begin(&asking[0], node, "KV", "Range", &range->base);
	ask_begin(&asking[1], node, "KV", "Txn", &make_read_txn(node)->base);
	ask_begin(&asking[2], node, "Maintenance", "Status", &status.base);
	ask_begin(&asking[3], node, "Watch", "Watch", &watch.base);
	for (int i = 0; i < CROWD; i++)
		pause_briefly(); /* for those that would not wait */
	fault_vfs_stall(0);
	for (int i = 0; i < KINDS; i++)
		ck_assert_int_eq(ask_end(&asking[i]), revision);
	errand_end(&put, STATUS_OK);
	ck_assert_int_lt(stop(node), STOP_MS);
	node_free(node);
}
END_TEST

/* An event loop has others to serve. */
START_TEST(a_read_waits_for_a_commit_that_stalls_only_a_moment)
{
	struct node *node = node_start(CONFIG_BARRIER_RECORD);
	Pb__RangeRequest *range = make_range(&node->arena, "k", NULL);
	int64_t since_ms;
	struct asking asking;
	struct errand put;

	range->serializable = true;
	must_put(node);
	AWAIT(node, is_all_applied);
	fault_vfs_stall(FAULT_WRITE);
	start_put(&put, node, 0);
	await_finish(&put);
	since_ms = clock_ms();
	for (int i = 0; i < CROWD; i++) {
		ask_begin(&asking, node, "KV", "Range", &range->base);
		ask_end(&asking);
	}
	ck_assert_int_lt(clock_ms() - since_ms, STOP_MS);
	fault_vfs_stall(0);
	errand_end(&put, STATUS_OK);
	must_put(node);
	ck_assert_int_lt(stop(node), STOP_MS);
	node_free(node);
}
END_TEST

static bool is_faulty(struct node *node)
{
	return atomic_load(&node->engine->fault) != NULL;
}

static bool is_well(struct node *node)
{
	return !is_faulty(node);
}

/* The write is in the log, and is applied again. Nobody waits for it meanwhile. */
START_TEST(a_commit_that_fails_behind_an_answer_is_made_up_for)
{
	struct fault fault = {.calls = FAULT_WRITE, .at = 1, .from_then_on = true, .code = SQLITE_FULL};
	struct node *node = node_start(CONFIG_BARRIER_RECORD);
	Pb__RangeRequest *range = make_range(&node->arena, "k", NULL);
	struct asking asking;
	struct errand put;
	int64_t revision;

	range->serializable = true;
	must_put(node);
	AWAIT(node, is_all_applied);
	fault_vfs_plan(&fault);
	start_put(&put, node, 0);
	await_finish(&put);
	revision = ((const Pb__PutResponse *)put.call->response)->header->revision;
	AWAIT(node, is_faulty);
	ask_begin(&asking, node, "KV", "Range", &range->base);
	ck_assert_int_eq(ask_end(&asking), revision - 1);
	fault_vfs_plan(NULL);
	AWAIT(node, is_well);
	ask_begin(&asking, node, "KV", "Range", &range->base);
	ck_assert_int_eq(ask_end(&asking), revision);
	errand_end(&put, STATUS_OK);
	must_put(node);
	ck_assert_int_lt(stop(node), STOP_MS);
	node_free(node);
}
END_TEST

/* ---- What reads wait for ---- */

static bool has_failed(struct node *node)
{
	bool failed;

	pthread_mutex_lock(&node->lock);
	failed = node->failed > 0;
	pthread_mutex_unlock(&node->lock);
	return failed;
}

START_TEST(reads_whose_barrier_failed_are_answered_by_the_next)
{
	struct node *node = node_start(CONFIG_BARRIER_RECORD);
	struct errand reads[READS];

	must_put(node);
	set_fate(node, (enum fate)_i);
	for (int i = 0; i < READS; i++)
		start_read(&reads[i], node);
	AWAIT(node, has_failed);
	for (int i = 0; i < READS; i++)
		ck_assert_int_eq(atomic_load(&reads[i].finished), 0);
	set_fate(node, FATE_ARRIVE);
	for (int i = 0; i < READS; i++)
		end_read(&reads[i]);
	ck_assert_int_lt(stop(node), STOP_MS);
	node_free(node);
}
END_TEST

static void on_wake(void *arg)
{
	struct node *node = arg;

	atomic_fetch_add(&node->wakes, 1);
}

static bool is_woken(struct node *node)
{
	return atomic_load(&node->wakes) > 0;
}

static bool is_drained(struct node *node)
{
	engine_reader_run(node->reader, clock_ms());
	engine_reader_rest(node->reader);
	return engine_pending(node->engine) == 0 && engine_reader_is_idle(node->reader);
}

/* Though its barrier is applied by another, and after a stop has begun. */
START_TEST(a_short_read_of_a_listening_reader_ends_on_its_own_thread)
{
	struct node *node = node_start(CONFIG_BARRIER_RECORD);
	struct errand reads[READS];

	ck_assert_int_eq(engine_reader_listen(node->reader, on_wake, node), STATUS_OK);
	must_put(node);
	while (engine_reader_run(node->reader, clock_ms()) == 0)
		;
	atomic_store(&node->wakes, 0);
	for (int i = 0; i < READS; i++)
		start_read(&reads[i], node);
	AWAIT(node, is_woken);
	for (int i = 0; i < READS; i++)
		ck_assert_int_eq(atomic_load(&reads[i].finished), 0);
	engine_drain(node->engine);
	AWAIT(node, is_drained);
	for (int i = 0; i < READS; i++) {
		ck_assert(pthread_equal(reads[i].thread, pthread_self()));
		end_read(&reads[i]);
	}
	ck_assert_int_lt(stop(node), STOP_MS);
	node_free(node);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("stop");
	TCase *tcase = tcase_create("stop");

	tcase_set_timeout(tcase, 20);
	tcase_add_loop_test(tcase, a_stop_in_an_outage_leaves_no_record_of_the_leaders_behind, 0, 2);
	tcase_add_loop_test(tcase, a_confirmation_that_comes_after_the_stop_finds_nobody, 0, 2);
	tcase_add_test(tcase, a_stop_does_not_wait_for_other_nodes_to_stop_writing);
	tcase_add_loop_test(tcase, a_stop_under_traffic_is_clean_with_either_barrier, 0, 2);
	tcase_add_test(tcase, a_call_is_finished_once_in_whichever_order_its_ends_come);
	tcase_add_test(tcase, a_write_is_answered_before_its_commit_and_found_by_whoever_asks_then);
	tcase_add_test(tcase, a_read_waits_for_a_commit_that_stalls_only_a_moment);
	tcase_add_test(tcase, a_commit_that_fails_behind_an_answer_is_made_up_for);
	tcase_add_loop_test(tcase, reads_whose_barrier_failed_are_answered_by_the_next, FATE_REFUSED,
	                    FATE_LOST_UNTOLD + 1);
	tcase_add_test(tcase, a_short_read_of_a_listening_reader_ends_on_its_own_thread);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
