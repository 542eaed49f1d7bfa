/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka's client against a real Kafka, for what the mock cannot do; run by
 * tests/e2e/kafka_client.py.
 *
 *     kafka_probe SERVERS PREFIX COMMAND [name=value]...
 *
 * prepare, check and report print what came of the function of that name; log,
 * tables and election are tests of their own, on topics that prepare made. endure
 * appends until a line comes in, whatever happens to the brokers meanwhile; vote takes
 * part in the election until it is killed. Options
 * named as fields of struct kafka_options set these, all others are properties.
 */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logger.h"
#include "log/kafka.h"

enum {
	LIMIT_MS = 30000,
	PROPERTIES_MAX = 32,
	RECORDS_MAX = 1024,
	CLUSTER_ID = 0x1234,
	ROW_BYTES = 350,
};

static int passed, failed;

static bool expect_at(bool good, const char *what)
{
	if (good)
		passed++;
	else
		failed++;
	printf("%s %s\n", good ? "ok" : "FAILED", what);
	fflush(stdout);
	return good;
}

#define expect(condition) expect_at((condition), #condition)

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){ms / 1000, (long)(ms % 1000) * 1000000}, NULL);
}

static int64_t cpu_ms(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

/* --- the log --- */

static atomic_int confirmed, unconfirmed;

static void note_done(void *arg, uint64_t tag, enum status_code status)
{
	(void)arg;
	(void)tag;
	atomic_fetch_add(status == STATUS_OK ? &confirmed : &unconfirmed, 1);
}

static enum status_code append_number(struct log *log, uint64_t number)
{
	uint8_t data[300] = {0};

	memcpy(data, &number, sizeof number);
	return log_append(log, data, sizeof data, number);
}

static uint64_t number_of(const uint8_t *data)
{
	uint64_t number;

	memcpy(&number, data, sizeof number);
	return number;
}

/* Appends with so many on their way at once, reading them back; the order must be kept. */
static void append_and_read(struct log *log, int count, int in_flight)
{
	struct log_record records[RECORDS_MAX];
	int64_t begun = clock_us(), cpu = cpu_ms(), deadline = clock_ms() + LIMIT_MS;
	int sent = 0, read = 0;
	bool in_order = true;
	size_t got;
	char text[128];

	while (read < count && clock_ms() < deadline) {
		while (sent < count && sent - read < in_flight &&
		       append_number(log, (uint64_t)sent) == STATUS_OK)
			sent++;
		if (log_poll(log, records, RECORDS_MAX, &got, 100) != STATUS_OK)
			break;
		for (size_t i = 0; i < got; i++)
			in_order &= number_of(records[i].data) == (uint64_t)read++;
	}
	begun = clock_us() - begun;
	snprintf(text, sizeof text, "%d records, %d in flight, in order: %d/s, %d us each, cpu %d us each",
	         count, in_flight, (int)((int64_t)count * 1000000 / begun), (int)(begun / count),
	         (int)((cpu_ms() - cpu) * 1000 / count));
	expect_at(read == count && in_order, text);
}

static void *wake_later(void *arg)
{
	pause_ms(100);
	log_wake(arg);
	return NULL;
}

/* Until a condition of bounds holds. */
static bool wait_first(struct log *log, int64_t wanted)
{
	int64_t deadline = clock_ms() + LIMIT_MS;
	int64_t first, end;

	while (clock_ms() < deadline) {
		if (log_bounds(log, &first, &end) == STATUS_OK && first == wanted)
			return true;
		pause_ms(20);
	}
	return false;
}

static void test_wake(struct log *log)
{
	struct log_record records[1];
	int64_t begun = clock_ms();
	pthread_t thread;
	size_t got;

	pthread_create(&thread, NULL, wake_later, log);
	expect(log_poll(log, records, 1, &got, 10000) == STATUS_OK && got == 0);
	expect(clock_ms() - begun < 300);
	pthread_join(thread, NULL);
}

/* A log that is opened where its record no longer is. */
static void test_lost_start(struct kafka *kafka)
{
	struct log_record records[1];
	enum status_code code = STATUS_OK;
	int64_t deadline = clock_ms() + LIMIT_MS;
	struct log *log;
	size_t got;

	expect(kafka_log_open(kafka, 0, &log) == STATUS_OK);
	while (code == STATUS_OK && clock_ms() < deadline)
		code = log_poll(log, records, 1, &got, 100);
	expect(code == STATUS_BAD_LOG);
	log_close(log);
}

static void test_beyond_end(struct kafka *kafka, int64_t end)
{
	struct log_record records[1];
	enum status_code code = STATUS_OK;
	int64_t begun = clock_ms();
	struct log *log;
	size_t got;

	expect(kafka_log_open(kafka, end + 5, &log) == STATUS_OK);
	while (code == STATUS_OK && clock_ms() - begun < 2 * LIMIT_MS)
		code = log_poll(log, records, 1, &got, 100);
	expect(code == STATUS_BAD_LOG);
	expect(clock_ms() - begun >= 29000);
	log_close(log);
}

/* One that was beyond the end for a moment goes on. */
static void test_regained_end(struct kafka *kafka, struct log *other, int64_t end)
{
	struct log_record records[4];
	int64_t deadline = clock_ms() + LIMIT_MS;
	struct log *log;
	size_t got = 0;

	expect(kafka_log_open(kafka, end + 1, &log) == STATUS_OK);
	for (int i = 0; i < 15; i++)
		log_poll(log, records, 4, &got, 100);
	expect(got == 0);
	for (uint64_t i = 0; i < 4; i++)
		append_number(other, i);
	while (got == 0 && clock_ms() < deadline)
		log_poll(log, records, 4, &got, 100);
	expect(got > 0 && records[0].offset == end + 2);
	log_close(log);
}

static void test_log(struct kafka *kafka)
{
	struct buf out;
	struct log *log;
	int64_t first, end, cpu;
	size_t got;
	struct log_record records[1];

	expect(kafka_log_open(kafka, 0, &log) == STATUS_OK);
	log_listen(log, note_done, NULL);
	expect(log_bounds(log, &first, &end) == STATUS_OK && first == 1 && end == 1);
	append_and_read(log, 1000, 1);
	append_and_read(log, 1000, 1);
	append_and_read(log, 30000, 64);
	append_and_read(log, 100000, 512);
	expect(log_bounds(log, &first, &end) == STATUS_OK && first == 1 && end == 132001);
	buf_init(&out);
	expect(log_read_at(log, 1001, &out) == STATUS_OK && out.len == 300 && number_of(out.data) == 0);
	expect(log_read_at(log, 1000, &out) == STATUS_OK && number_of(out.data) == 999);
	expect(log_read_at(log, 132000, &out) == STATUS_OK && number_of(out.data) == 99999);
	expect(log_read_at(log, 132001, &out) == STATUS_BAD_LOG);
	buf_release(&out);
	test_wake(log);
	cpu = cpu_ms();
	expect(log_poll(log, records, 1, &got, 3000) == STATUS_OK && got == 0);
	cpu = cpu_ms() - cpu;
	printf("idle for 3 s: cpu %" PRId64 " ms\n", cpu);
	expect(cpu < 150);
	expect(log_trim(log, 1001) == STATUS_OK);
	expect(wait_first(log, 1001));
	expect(log_trim(log, 500) == STATUS_OK);
	buf_init(&out);
	expect(log_read_at(log, 1000, &out) == STATUS_BAD_LOG);
	buf_release(&out);
	test_lost_start(kafka);
	test_regained_end(kafka, log, 132000);
	log_bounds(log, &first, &end);
	log_close(log);
	expect(atomic_load(&confirmed) == 132004);
	expect(atomic_load(&unconfirmed) == 0);
	test_beyond_end(kafka, end);
}

/* --- while brokers come and go --- */

enum { TAGS_MAX = 4000000, ENDURE_IN_FLIGHT = 64 };

struct fate {
	atomic_uchar told; /* times */
	atomic_uchar code; /* enum status_code */
	unsigned char read;
};

static struct fate fates[TAGS_MAX];
static atomic_uint told_count;

static void note_fate(void *arg, uint64_t tag, enum status_code status)
{
	(void)arg;
	atomic_fetch_add(&fates[tag].told, 1);
	atomic_store(&fates[tag].code, (unsigned char)status);
	atomic_fetch_add(&told_count, 1);
}

static bool line_is_in(void)
{
	struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

/* What was confirmed must have been read, all in order, and every append be told of once. */
static void judge(uint64_t sent)
{
	uint64_t lost = 0, twice = 0, untold = 0, failures = 0;

	for (uint64_t i = 0; i < sent; i++) {
		lost += fates[i].code == STATUS_OK && fates[i].read == 0;
		twice += fates[i].read > 1;
		untold += fates[i].told != 1;
		failures += fates[i].code != STATUS_OK;
	}
	printf("%d appends, %d timed out, %d read twice\n", (int)sent, (int)failures, (int)twice);
	expect(sent > 1000);
	expect(lost == 0);
	expect(untold == 0);
	expect(twice == 0);
}

static void endure(struct kafka *kafka)
{
	struct log_record records[RECORDS_MAX];
	int64_t last_ms, gap_ms = 0, deadline = INT64_MAX;
	int64_t first, after = 0;
	enum status_code code = STATUS_OK;
	uint64_t sent = 0, newest = 0;
	bool in_order = true;
	struct log *log;
	size_t got;

	expect(kafka_log_open(kafka, 0, &log) == STATUS_OK);
	expect(log_bounds(log, &first, &after) == STATUS_OK && after == 1);
	log_listen(log, note_fate, NULL);
	printf("begun\n");
	fflush(stdout);
	last_ms = clock_ms();
	while (code == STATUS_OK && clock_ms() < deadline) {
		if (deadline == INT64_MAX && (line_is_in() || sent == TAGS_MAX))
			deadline = clock_ms() + LIMIT_MS; /* for what is on its way */
		if (deadline != INT64_MAX && atomic_load(&told_count) == sent && newest + 1 == sent)
			break;
		while (deadline == INT64_MAX && sent < TAGS_MAX &&
		       sent - atomic_load(&told_count) < ENDURE_IN_FLIGHT &&
		       append_number(log, sent) == STATUS_OK)
			sent++;
		code = log_poll(log, records, RECORDS_MAX, &got, 5);
		for (size_t i = 0; i < got; i++) {
			uint64_t tag = number_of(records[i].data);

			in_order &= fates[tag].read > 0 || tag >= newest;
			newest = tag > newest ? tag : newest;
			fates[tag].read++;
		}
		if (got > 0) {
			gap_ms = clock_ms() - last_ms > gap_ms ? clock_ms() - last_ms : gap_ms;
			last_ms = clock_ms();
		}
		pause_ms(1);
	}
	expect(code == STATUS_OK);
	printf("longest time without a record: %" PRId64 " ms\n", gap_ms);
	expect(in_order);
	judge(sent);
	log_close(log);
}

/* --- tables --- */

struct rows {
	int64_t count;
	int64_t sum; /* of the keys */
	int64_t at, end;
};

static enum status_code count_row(void *arg, const struct table_row *row)
{
	struct rows *rows = arg;
	uint32_t key;

	memcpy(&key, row->key, sizeof key);
	rows->count++;
	rows->sum += key;
	rows->at = row->at;
	rows->end = row->end;
	return STATUS_OK;
}

static struct rows read_rows(struct tables *tables, enum table table)
{
	struct rows rows = {0};
	enum status_code code = tables_read(tables, table, count_row, &rows);

	if (code != STATUS_OK) {
		printf("read: %s\n", status_code_name(code));
		rows.count = -1;
	}
	return rows;
}

static enum status_code put_number(struct tables *tables, enum table table, uint32_t key)
{
	static const uint8_t VALUE[ROW_BYTES];

	return tables_put(tables, table, &key, sizeof key, VALUE, sizeof VALUE);
}

static void test_throughput(struct tables *tables)
{
	enum { ROWS = 1000000 };
	int64_t begun = clock_ms(), cpu = cpu_ms();
	enum status_code code = tables_begin(tables);
	struct rows rows;

	for (uint32_t i = 0; code == STATUS_OK && i < ROWS; i++)
		code = put_number(tables, TABLE_KV, i);
	expect(code == STATUS_OK);
	expect(tables_commit(tables) == STATUS_OK);
	printf("wrote %d rows of %d bytes in %" PRId64 " ms, cpu %" PRId64 " ms\n", ROWS, ROW_BYTES,
	       clock_ms() - begun, cpu_ms() - cpu);
	begun = clock_ms();
	cpu = cpu_ms();
	rows = read_rows(tables, TABLE_KV);
	printf("read %" PRId64 " rows in %" PRId64 " ms, cpu %" PRId64 " ms\n", rows.count,
	       clock_ms() - begun, cpu_ms() - cpu);
	expect(rows.count == ROWS && rows.sum == (int64_t)ROWS * (ROWS - 1) / 2);
}

static void test_tables(struct kafka *kafka)
{
	struct tables *one, *two;
	struct rows rows;

	expect(kafka_tables_open(kafka, &one) == STATUS_OK);
	expect(kafka_tables_open(kafka, &two) == STATUS_OK);
	expect(tables_begin(one) == STATUS_NO_KAFKA);
	expect(read_rows(one, TABLE_LEASES).count == 0);
	expect(tables_take(one, CLUSTER_ID) == STATUS_OK);

	/* What was committed is read, what was aborted is not. */
	expect(tables_begin(one) == STATUS_OK);
	expect(put_number(one, TABLE_LEASES, 1) == STATUS_OK);
	expect(put_number(one, TABLE_MARKERS, 1) == STATUS_OK);
	expect(tables_commit(one) == STATUS_OK);
	expect(tables_begin(one) == STATUS_OK);
	expect(put_number(one, TABLE_LEASES, 2) == STATUS_OK);
	tables_abort(one);
	rows = read_rows(two, TABLE_LEASES);
	expect(rows.count == 1 && rows.sum == 1);
	expect(read_rows(two, TABLE_MARKERS).count == 1);
	expect(tables_begin(one) == STATUS_OK);
	expect(put_number(one, TABLE_LEASES, 3) == STATUS_OK);
	expect(tables_commit(one) == STATUS_OK);
	rows = read_rows(two, TABLE_LEASES);
	expect(rows.count == 2 && rows.sum == 4);
	expect(rows.at <= rows.end);

	/* A new writer ends the old one, and undoes what that had begun. */
	expect(tables_begin(one) == STATUS_OK);
	expect(put_number(one, TABLE_LEASES, 10) == STATUS_OK);
	expect(tables_take(two, CLUSTER_ID) == STATUS_OK);
	expect(tables_commit(one) == STATUS_FENCED);
	expect(tables_begin(one) == STATUS_FENCED);
	expect(tables_begin(two) == STATUS_OK);
	expect(put_number(two, TABLE_LEASES, 4) == STATUS_OK);
	expect(tables_commit(two) == STATUS_OK);
	rows = read_rows(one, TABLE_LEASES);
	expect(rows.count == 3 && rows.sum == 8);
	expect(tables_take(one, CLUSTER_ID) == STATUS_OK);
	expect(tables_begin(one) == STATUS_OK);
	expect(put_number(one, TABLE_LEASES, 5) == STATUS_OK);
	expect(tables_commit(one) == STATUS_OK);
	expect(tables_begin(two) == STATUS_OK || true);
	expect(put_number(two, TABLE_LEASES, 11) != STATUS_OK || tables_commit(two) == STATUS_FENCED);

	/* The time-out of readers is how long an open transaction is waited for. */
	expect(tables_begin(one) == STATUS_OK);
	expect(put_number(one, TABLE_AUTH, 1) == STATUS_OK);
	pause_ms(500);
	expect(tables_read(two, TABLE_AUTH, count_row, &rows) == STATUS_BUSY);
	expect(tables_commit(one) == STATUS_OK);
	expect(read_rows(two, TABLE_AUTH).count == 1);
	test_throughput(one);
	tables_close(one);
	tables_close(two);
}

/* --- the election --- */

static bool wait_held(struct election *election, const char *who)
{
	int64_t begun = clock_ms();

	while (!election_holds(election) && clock_ms() - begun < LIMIT_MS)
		pause_ms(5);
	printf("%s: after %" PRId64 " ms\n", who, clock_ms() - begun);
	return election_holds(election);
}

static void test_election(struct kafka *kafka)
{
	struct election *one, *two, *three;
	int64_t begun;

	expect(kafka_election_open(kafka, &one) == STATUS_OK);
	expect(wait_held(one, "first"));
	expect(kafka_election_open(kafka, &two) == STATUS_OK);
	pause_ms(3000);
	expect(election_holds(one) && !election_holds(two));
	election_resign(one);
	expect(!election_holds(one));
	expect(wait_held(two, "second, after a resignation"));
	expect(kafka_election_open(kafka, &three) == STATUS_OK);
	pause_ms(1000);
	election_close(two);
	begun = clock_ms();
	expect(wait_held(three, "third, after a close"));
	expect(clock_ms() - begun < 9000); /* not the session's time-out */
	election_close(one);
	election_close(three);
}

/* Takes part until the program is killed, saying when it holds. */
static void take_part(struct kafka *kafka)
{
	struct election *election;
	bool held = false;

	if (kafka_election_open(kafka, &election) != STATUS_OK)
		exit(1);
	for (;;) {
		if (election_holds(election) != held) {
			held = !held;
			printf("%s\n", held ? "holds" : "holds not");
			fflush(stdout);
		}
		pause_ms(10);
	}
}

/* --- the rest --- */

static int say(enum status_code code, struct buf *text)
{
	if (text != NULL && text->len > 0)
		printf("%.*s\n", (int)text->len, (const char *)text->data);
	printf("%s\n", status_code_name(code));
	return code == STATUS_OK ? 0 : 1;
}

static int run(struct kafka *kafka, const char *command)
{
	struct buf text;
	int status = 0;

	buf_init(&text);
	if (strcmp(command, "prepare") == 0)
		status = say(kafka_prepare(kafka, NULL), NULL);
	else if (strcmp(command, "check") == 0)
		status = say(kafka_check(kafka, &text), &text);
	else if (strcmp(command, "report") == 0)
		status = say(kafka_report(kafka, &text), &text);
	else if (strcmp(command, "log") == 0)
		test_log(kafka);
	else if (strcmp(command, "tables") == 0)
		test_tables(kafka);
	else if (strcmp(command, "election") == 0)
		test_election(kafka);
	else if (strcmp(command, "endure") == 0)
		endure(kafka);
	else if (strcmp(command, "vote") == 0)
		take_part(kafka);
	else
		status = 2;
	buf_release(&text);
	if (passed + failed > 0)
		printf("%d passed, %d failed\n", passed, failed);
	return status != 0 || failed > 0;
}

int main(int argc, char **argv)
{
	struct kafka_property properties[PROPERTIES_MAX];
	struct kafka_options options = {
		.group_id = "keta",
		.node_name = "probe",
		.replication_factor = 1,
		.init_timeout_ms = LIMIT_MS,
		.timeout_ms = 3000,
		.append_timeout_ms = 5000,
		.max_record_bytes = 1572864,
		.properties = properties,
	};
	struct kafka *kafka;
	enum status_code code;
	int status;

	if (argc < 4) {
		fprintf(stderr, "usage: kafka_probe SERVERS PREFIX COMMAND [name=value]...\n");
		return 2;
	}
	options.servers = argv[1];
	options.prefix = argv[2];
	for (int i = 4; i < argc && options.property_count < PROPERTIES_MAX; i++) {
		char *value = strchr(argv[i], '=');

		if (value == NULL)
			return 2;
		*value++ = '\0';
		if (strcmp(argv[i], "replication_factor") == 0)
			options.replication_factor = atoi(value);
		else if (strcmp(argv[i], "init_timeout_ms") == 0)
			options.init_timeout_ms = atoi(value);
		else if (strcmp(argv[i], "max_record_bytes") == 0)
			options.max_record_bytes = atoi(value);
		else
			properties[options.property_count++] =
				(struct kafka_property){argv[i], value, "the command line"};
	}
	logger_init(getenv("PROBE_DEBUG") != NULL ? LOGGER_DEBUG : LOGGER_INFO, LOGGER_TEXT);
	code = kafka_open(&options, &kafka);
	if (code != STATUS_OK)
		return say(code, NULL);
	status = run(kafka, argv[3]);
	kafka_close(kafka);
	return status;
}
