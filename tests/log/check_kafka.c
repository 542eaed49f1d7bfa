/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka's client against librdkafka's mock of a cluster, which knows produce, fetch,
 * offsets, groups and transactions but no administration: topics and rights are for
 * kafka_probe.c.
 */
#include "log/kafka.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "lib/test.h"

enum {
	LIMIT_MS = 20000,
	TEST_LIMIT_SEC = 60,
	BATCH = 64,
	APPEND_TIMEOUT_MS = 2000,
	MAX_RECORD_BYTES = 1 << 20,
	TAGS = 20000,
	CLUSTER_ID = 7,
};

/* Numbers of requests in Kafka's protocol. */
enum {
	API_PRODUCE = 0,
	API_FETCH = 1,
	API_LIST_OFFSETS = 2,
	API_SYNC_GROUP = 14,
	API_INIT_PRODUCER_ID = 22,
	API_END_TXN = 26,
};

static const char *const TOPICS[] = {"t_commits",    "t_kv",         "t_leases",     "t_auth",
                                     "t_auth_users", "t_auth_roles", "t_timestamps", "t_election"};

struct fixture {
	rd_kafka_t *handle;
	rd_kafka_mock_cluster_t *mock;
	struct kafka_options options;
	struct kafka *kafka;
	struct log *log;
	_Atomic int done[TAGS]; /* times that each tag was told */
	_Atomic enum status_code told[TAGS];
	atomic_int done_count;
};

static struct fixture fixture;

static void note_done(void *arg, uint64_t tag, enum status_code status)
{
	(void)arg;
	fixture.done[tag]++;
	fixture.told[tag] = status;
	fixture.done_count++;
}

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){0, (long)ms * 1000000}, NULL);
}

static struct kafka_options make_options(void)
{
	return (struct kafka_options){
		.servers = "127.0.0.1:1",
		.prefix = "t_",
		.group_id = "keta",
		.node_name = "node",
		.replication_factor = 1,
		.init_timeout_ms = 5000,
		.timeout_ms = 2000,
		.append_timeout_ms = APPEND_TIMEOUT_MS,
		.max_record_bytes = MAX_RECORD_BYTES,
	};
}

/* The mock may take up to a second to see a request of its own interface; a connection wakes it. */
static void *kick_mock(void *arg)
{
	const char *port = strrchr(rd_kafka_mock_cluster_bootstraps(fixture.mock), ':') + 1;
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	atomic_bool *stop = arg;

	while (!*stop) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			break;
		(void)connect(fd, (struct sockaddr *)&address, sizeof address);
		close(fd);
		pause_ms(2);
	}
	return NULL;
}

static void make_topics(void)
{
	atomic_bool stop = false;
	pthread_t kicker;

	ck_assert_int_eq(pthread_create(&kicker, NULL, kick_mock, &stop), 0);
	for (size_t i = 0; i < sizeof TOPICS / sizeof *TOPICS; i++)
		ck_assert_int_eq(rd_kafka_mock_topic_create(fixture.mock, TOPICS[i], 1, 1), 0);
	stop = true;
	pthread_join(kicker, NULL);
}

static void set_up(void)
{
	char errstr[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	logger_init(LOGGER_ERROR, LOGGER_TEXT);
	rd_kafka_conf_set(conf, "log_level", "0", errstr, sizeof errstr);
	fixture.handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, errstr, sizeof errstr);
	ck_assert_ptr_nonnull(fixture.handle);
	fixture.mock = rd_kafka_mock_cluster_new(fixture.handle, 1);
	ck_assert_ptr_nonnull(fixture.mock);
	make_topics();
	fixture.options = make_options();
	fixture.options.servers = rd_kafka_mock_cluster_bootstraps(fixture.mock);
	ck_assert_int_eq(kafka_open(&fixture.options, &fixture.kafka), STATUS_OK);
}

static void set_up_log(void)
{
	set_up();
	ck_assert_int_eq(kafka_log_open(fixture.kafka, 0, &fixture.log), STATUS_OK);
	log_listen(fixture.log, note_done, NULL);
}

/* The mock takes a second to end; the test's process does that at once. */
static void tear_down(void)
{
	log_close(fixture.log);
	kafka_close(fixture.kafka);
}

static void append(uint64_t tag)
{
	char text[32];

	snprintf(text, sizeof text, "record %d", (int)tag);
	ck_assert_int_eq(log_append(fixture.log, (const uint8_t *)text, strlen(text) + 1, tag), STATUS_OK);
}

static void wait_done(int count)
{
	int64_t deadline = clock_ms() + LIMIT_MS;

	while (fixture.done_count < count && clock_ms() < deadline)
		pause_ms(1);
	ck_assert_int_eq(fixture.done_count, count);
}

/* Reads 'count' records that must be those of the tags from 'tag' on, at the offsets from 'offset' on. */
static void expect_records(int count, int64_t offset, int tag)
{
	int64_t deadline = clock_ms() + LIMIT_MS;
	struct log_record records[BATCH];
	char text[32];
	size_t got;

	while (count > 0) {
		ck_assert_int_eq(log_poll(fixture.log, records, BATCH, &got, 100), STATUS_OK);
		ck_assert_msg(clock_ms() < deadline, "%d records did not come", count);
		for (size_t i = 0; i < got; i++) {
			snprintf(text, sizeof text, "record %d", tag++);
			ck_assert_int_eq(records[i].offset, offset++);
			ck_assert_str_eq((const char *)records[i].data, text);
			count--;
		}
	}
}

/* --- properties --- */

struct property_case {
	const char *name, *value;
	const char *says; /* NULL: it is taken */
};

static const struct property_case PROPERTIES[] = {
	{"security.protocol", "SASL_SSL", NULL},
	{"sasl.mechanism", "SCRAM-SHA-256", NULL},
	{"sasl.mechanisms", "PLAIN", NULL},
	{"ssl.ca.location", "probe", NULL},
	{"ssl.endpoint.identification.algorithm", "none", NULL},
	{"compression.type", "lz4", NULL},
	{"request.timeout.ms", "5000", NULL}, /* a topic's */
	{"client.rack", "a", NULL},
	{"linger.ms", "1", NULL},
	{"session.timeout.ms", "6000", NULL},
	{"acks", "1", "is reserved"},
	{"request.required.acks", "1", "is reserved"},
	{"enable.idempotence", "false", "is reserved"},
	{"max.in.flight", "1", "is reserved"},
	{"max.in.flight.requests.per.connection", "1", "is reserved"},
	{"auto.offset.reset", "earliest", "is reserved"},
	{"enable.auto.commit", "true", "is reserved"},
	{"isolation.level", "read_committed", "is reserved"},
	{"transactional.id", "x", "is reserved"},
	{"transaction.timeout.ms", "1000", "is reserved"},
	{"message.timeout.ms", "1000", "is reserved"},
	{"delivery.timeout.ms", "1000", "is reserved"},
	{"allow.auto.create.topics", "true", "is reserved"},
	{"partition.assignment.strategy", "range", "is reserved"},
	{"offset.store.method", "file", "is reserved"},
	{"test.mock.num.brokers", "3", "is reserved"},
	{"bootstrap.servers", "x:1", "kafkacache.bootstrap.servers"},
	{"group.id", "x", "cluster.group.id"},
	{"ssl.truststore.location", "/x.jks", "ssl.ca.location"},
	{"ssl.truststore.password", "x", "ssl.ca.location"},
	{"ssl.keystore.location", "/nowhere/client.jks", "keytool -importkeystore"},
	{"ssl.keystore.type", "JKS", "PKCS#12"},
	{"sasl.jaas.config", "x", "sasl.username"},
	{"security.providers", "x", "OpenSSL"},
	{"ssl.endpoint.identification.algorithm", "", "write none"},
	{"max.request.size", "1", "max.request.bytes"},
	{"no.such.property", "1", "is not a property of librdkafka"},
	{"linger.ms", "many", "Invalid value"},
	{"security.protocol", "TLS", "security.protocol"},
};

START_TEST(a_property_is_taken_or_refused_with_the_reason)
{
	const struct property_case *each = &PROPERTIES[_i];
	struct buf why;

	buf_init(&why);
	if (each->says == NULL) {
		ck_assert_int_eq(kafka_check_property(each->name, each->value, &why), STATUS_OK);
		ck_assert_uint_eq(why.len, 0);
	} else {
		ck_assert_int_eq(kafka_check_property(each->name, each->value, &why), STATUS_BAD_CONFIG);
		buf_append_byte(&why, '\0');
		ck_assert_msg(strstr((const char *)why.data, each->says) != NULL, "%s: %s", each->name,
		              (const char *)why.data);
	}
	buf_release(&why);
}
END_TEST

START_TEST(a_key_store_of_javas_is_known_by_its_content)
{
	char path[512];
	FILE *file;
	struct buf why;

	snprintf(path, sizeof path, "%s/store", test_directory());
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs("\xfe\xed\xfe\xed rest", file);
	fclose(file);
	buf_init(&why);
	ck_assert_int_eq(kafka_check_property("ssl.keystore.location", path, &why), STATUS_BAD_CONFIG);
	buf_release(&why);
}
END_TEST

START_TEST(settings_that_no_client_can_be_made_of_are_refused)
{
	static const struct kafka_property BAD[] = {
		{"acks", "1", "test"},
		{"no.such.property", "1", "test"},
	};
	static const struct kafka_property NO_FILE[] = {
		{"security.protocol", "ssl", "test"},
		{"ssl.ca.location", "/nowhere/ca.pem", "test"},
	};
	struct kafka_options options = make_options();
	struct kafka *kafka;

	logger_init(LOGGER_ERROR, LOGGER_TEXT);
	options.properties = BAD;
	options.property_count = 2;
	ck_assert_int_eq(kafka_open(&options, &kafka), STATUS_BAD_CONFIG);
	options.properties = NO_FILE;
	ck_assert_int_eq(kafka_open(&options, &kafka), STATUS_BAD_CONFIG);
	options.property_count = 1;
	ck_assert_int_eq(kafka_open(&options, &kafka), STATUS_OK);
	ck_assert_str_eq(kafka_cluster_id(kafka), "");
	kafka_close(kafka);
}
END_TEST

START_TEST(who_cannot_be_reached_is_named_after_the_time_out)
{
	struct kafka_options options = make_options();
	volatile bool canceled = false;
	struct kafka *kafka;
	struct buf out;
	int64_t begun;

	logger_init(LOGGER_ERROR, LOGGER_TEXT);
	logger_set_level(LOGGER_ERROR + 1);
	options.init_timeout_ms = 700;
	options.timeout_ms = 1000;
	ck_assert_int_eq(kafka_open(&options, &kafka), STATUS_OK);
	begun = clock_ms();
	ck_assert_int_eq(kafka_prepare(kafka, &canceled), STATUS_NO_KAFKA);
	ck_assert_int_ge(clock_ms() - begun, 700);
	canceled = true;
	begun = clock_ms();
	ck_assert_int_eq(kafka_prepare(kafka, &canceled), STATUS_NO_KAFKA);
	ck_assert_int_lt(clock_ms() - begun, 700);
	buf_init(&out);
	ck_assert_int_eq(kafka_report(kafka, &out), STATUS_NO_KAFKA);
	buf_append_byte(&out, '\0');
	ck_assert_ptr_nonnull(strstr((const char *)out.data, "127.0.0.1:1: no answer"));
	ck_assert_ptr_nonnull(
		strstr((const char *)out.data, "--topic t_ --resource-pattern-type prefixed"));
	buf_release(&out);
	kafka_close(kafka);
}
END_TEST

static void *keep_busy(void *arg)
{
	const atomic_bool *stop = arg;

	while (!*stop)
		;
	return NULL;
}

/* A client that is being made may have something to say, for which our lock is taken; with a broker
 * that it takes for an old one it has, if it is connected by then. */
START_TEST(a_client_can_be_made_while_it_warns)
{
	enum { TIMES = 60, BUSY = 8 };
	static struct kafka_property OLD[] = {{"api.version.request", "false", "test"},
	                                      {"broker.version.fallback", "0.10.0", "test"}};
	struct kafka_options options = fixture.options;
	pthread_t busy[BUSY];
	atomic_bool stop = false;

	options.timeout_ms = 20;
	options.properties = OLD;
	options.property_count = sizeof OLD / sizeof *OLD;
	for (int i = 0; i < BUSY; i++)
		pthread_create(&busy[i], NULL, keep_busy, &stop);
	for (int i = 0; i < TIMES; i++) {
		struct kafka *kafka;
		struct buf why;

		buf_init(&why);
		ck_assert_int_eq(kafka_open(&options, &kafka), STATUS_OK);
		kafka_check(kafka, &why); /* the mock does not know enough for it to succeed */
		kafka_close(kafka);
		buf_release(&why);
	}
	stop = true;
	for (int i = 0; i < BUSY; i++)
		pthread_join(busy[i], NULL);
}
END_TEST

/* --- the log --- */

START_TEST(records_are_read_in_the_order_of_their_appends)
{
	ck_assert(log_is_shared(fixture.log));
	for (uint64_t i = 0; i < 1000; i++)
		append(i);
	expect_records(1000, 1, 0);
	wait_done(1000);
	for (int i = 0; i < 1000; i++) {
		ck_assert_int_eq(fixture.done[i], 1);
		ck_assert_int_eq(fixture.told[i], STATUS_OK);
	}
	append(1000);
	expect_records(1, 1001, 1000);
}
END_TEST

static void *append_many(void *arg)
{
	uint64_t first = *(uint64_t *)arg;

	for (uint64_t i = 0; i < 2000; i++)
		append(first + i);
	return NULL;
}

START_TEST(many_threads_append_and_each_is_told_once)
{
	uint64_t firsts[] = {0, 2000, 4000, 6000};
	struct log_record records[BATCH];
	pthread_t threads[4];
	int64_t deadline = clock_ms() + LIMIT_MS;
	int next[4] = {0};
	int64_t read = 0;
	size_t got;

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, append_many, &firsts[i]);
	while (read < 8000 && clock_ms() < deadline) {
		ck_assert_int_eq(log_poll(fixture.log, records, BATCH, &got, 100), STATUS_OK);
		for (size_t i = 0; i < got; i++) {
			int tag = atoi((const char *)records[i].data + strlen("record "));

			ck_assert_int_eq(records[i].offset, ++read);
			ck_assert_int_eq(tag % 2000, next[tag / 2000]++);
		}
	}
	ck_assert_int_eq(read, 8000);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	wait_done(8000);
	for (int i = 0; i < 8000; i++)
		ck_assert_int_eq(fixture.done[i], 1);
}
END_TEST

/* What Kafka has confirmed need not be read back, but comes in its place. */
START_TEST(own_records_come_when_they_are_confirmed)
{
	static const rd_kafka_resp_err_t FAILS[] = {[0 ... 99] = RD_KAFKA_RESP_ERR_UNKNOWN};
	int64_t begun;

	append(0);
	expect_records(1, 1, 0);
	/* librdkafka asks again after half a second. */
	rd_kafka_mock_push_request_errors_array(fixture.mock, API_FETCH, sizeof FAILS / sizeof *FAILS,
	                                        FAILS);
	begun = clock_ms();
	for (uint64_t i = 1; i < 1000; i++) {
		append(i);
		if (i % 100 == 0)
			expect_records(100, (int64_t)i - 98, (int)i - 99);
	}
	expect_records(99, 902, 901);
	ck_assert_int_lt(clock_ms() - begun, LIMIT_MS / 2);
	rd_kafka_mock_clear_request_errors(fixture.mock, API_FETCH);
	for (uint64_t i = 1000; i < 1100; i++)
		append(i);
	expect_records(100, 1001, 1000);
}
END_TEST

enum { SHARED_RECORDS = 3000 };

/* A node's view of a log that two write. */
struct follower {
	struct log *log;
	char letter; /* its records begin with it */
	pthread_t thread;
	_Atomic int done;
	uint8_t seen[2 * SHARED_RECORDS]; /* letters in the log's order */
};

static void count_done(void *arg, uint64_t tag, enum status_code status)
{
	(void)tag;
	ck_assert_int_eq(status, STATUS_OK);
	((struct follower *)arg)->done++;
}

static void *append_mine(void *arg)
{
	struct follower *self = arg;
	char text[16];

	for (int i = 0; i < SHARED_RECORDS; i++) {
		snprintf(text, sizeof text, "%c%d", self->letter, i);
		ck_assert_int_eq(log_append(self->log, (const uint8_t *)text, strlen(text) + 1, 1),
		                 STATUS_OK);
		/* Now many at a time, now one. */
		while (i % 7 == 0 && self->done < i)
			pause_ms(0);
	}
	return NULL;
}

static void follow(struct follower *self)
{
	int64_t deadline = clock_ms() + LIMIT_MS;
	struct log_record records[BATCH];
	int next[2] = {0};
	int count = 0;
	size_t got;

	while (count < 2 * SHARED_RECORDS) {
		ck_assert_int_eq(log_poll(self->log, records, BATCH, &got, 100), STATUS_OK);
		ck_assert_msg(clock_ms() < deadline, "only %d records came", count);
		for (size_t i = 0; i < got; i++) {
			const char *text = (const char *)records[i].data;

			ck_assert_int_eq(records[i].offset, count + 1);
			ck_assert_int_eq(atoi(text + 1), next[text[0] - 'a']++);
			self->seen[count++] = (uint8_t)text[0];
		}
	}
}

static void *run_follow(void *arg)
{
	follow(arg);
	return NULL;
}

START_TEST(two_that_append_read_the_same)
{
	static struct follower a = {.letter = 'a'}, b = {.letter = 'b'};
	pthread_t reader;

	a.log = fixture.log;
	ck_assert_int_eq(kafka_log_open(fixture.kafka, 0, &b.log), STATUS_OK);
	log_listen(a.log, count_done, &a);
	log_listen(b.log, count_done, &b);
	pthread_create(&a.thread, NULL, append_mine, &a);
	pthread_create(&b.thread, NULL, append_mine, &b);
	pthread_create(&reader, NULL, run_follow, &a);
	follow(&b);
	pthread_join(reader, NULL);
	pthread_join(a.thread, NULL);
	pthread_join(b.thread, NULL);
	ck_assert_mem_eq(a.seen, b.seen, sizeof a.seen);
	log_close(b.log);
}
END_TEST

START_TEST(bounds_and_single_records_are_found)
{
	int64_t first, end;
	struct buf out;

	ck_assert_int_eq(log_bounds(fixture.log, &first, &end), STATUS_OK);
	ck_assert_int_eq(first, 1);
	ck_assert_int_eq(end, 1);
	for (uint64_t i = 0; i < 10; i++)
		append(i);
	wait_done(10);
	ck_assert_int_eq(log_bounds(fixture.log, &first, &end), STATUS_OK);
	ck_assert_int_eq(first, 1);
	ck_assert_int_eq(end, 11);
	buf_init(&out);
	for (int i = 10; i >= 1; i -= 3) {
		char text[32];

		snprintf(text, sizeof text, "record %d", i - 1);
		ck_assert_int_eq(log_read_at(fixture.log, i, &out), STATUS_OK);
		ck_assert_str_eq((const char *)out.data, text);
	}
	ck_assert_int_eq(log_read_at(fixture.log, 0, &out), STATUS_BAD_LOG);
	ck_assert_int_eq(log_read_at(fixture.log, 11, &out), STATUS_BAD_LOG);
	buf_release(&out);
	expect_records(10, 1, 0);
}
END_TEST

START_TEST(a_log_goes_on_after_the_offset_it_was_opened_at)
{
	struct log *other;
	struct log_record records[BATCH];
	size_t got = 0;

	for (uint64_t i = 0; i < 10; i++)
		append(i);
	wait_done(10);
	ck_assert_int_eq(kafka_log_open(fixture.kafka, 7, &other), STATUS_OK);
	for (int i = 0; i < 100 && got == 0; i++)
		ck_assert_int_eq(log_poll(other, records, 1, &got, 100), STATUS_OK);
	ck_assert_int_eq(records[0].offset, 8);
	log_close(other);
}
END_TEST

static void *wake_soon(void *arg)
{
	pause_ms(50);
	log_wake(arg);
	return NULL;
}

START_TEST(a_waiting_poll_is_woken)
{
	struct log_record records[1];
	int64_t begun = clock_ms();
	pthread_t thread;
	size_t got = 99;

	pthread_create(&thread, NULL, wake_soon, fixture.log);
	ck_assert_int_eq(log_poll(fixture.log, records, 1, &got, LIMIT_MS), STATUS_OK);
	ck_assert_uint_eq(got, 0);
	ck_assert_int_lt(clock_ms() - begun, LIMIT_MS / 2);
	pthread_join(thread, NULL);
	/* One that comes before the poll counts as well. */
	log_wake(fixture.log);
	ck_assert_int_eq(log_poll(fixture.log, records, 1, &got, LIMIT_MS), STATUS_OK);
	ck_assert_int_lt(clock_ms() - begun, LIMIT_MS / 2);
}
END_TEST

START_TEST(errors_that_pass_are_not_told)
{
	append(0);
	wait_done(1);
	rd_kafka_mock_push_request_errors(
		fixture.mock, API_PRODUCE, 3, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
		RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
	for (uint64_t i = 1; i < 100; i++)
		append(i);
	wait_done(100);
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(fixture.told[i], STATUS_OK);
	expect_records(100, 1, 0);
}
END_TEST

START_TEST(a_record_that_is_refused_is_told_as_timed_out)
{
	append(0);
	wait_done(1);
	rd_kafka_mock_push_request_errors(fixture.mock, API_PRODUCE, 1,
	                                  RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	append(1);
	wait_done(2);
	ck_assert_int_eq(fixture.told[1], STATUS_TIMEOUT);
	/* Until it has asked again, librdkafka takes none. */
	while (log_append(fixture.log, (const uint8_t *)"x", 1, 2) != STATUS_OK)
		pause_ms(1);
	wait_done(3);
	ck_assert_int_eq(fixture.told[2], STATUS_OK);
}
END_TEST

START_TEST(appends_time_out_while_no_broker_answers_and_go_on_after)
{
	int64_t begun;

	append(0);
	wait_done(1);
	rd_kafka_mock_broker_set_down(fixture.mock, 1);
	begun = clock_ms();
	for (uint64_t i = 1; i < 50; i++)
		append(i);
	wait_done(50);
	ck_assert_int_lt(clock_ms() - begun, APPEND_TIMEOUT_MS + 2000);
	for (int i = 1; i < 50; i++)
		ck_assert_int_eq(fixture.told[i], STATUS_TIMEOUT);
	rd_kafka_mock_broker_set_up(fixture.mock, 1);
	append(50);
	wait_done(51);
	ck_assert_int_eq(fixture.told[50], STATUS_OK);
	for (int i = 0; i <= 50; i++)
		ck_assert_int_eq(fixture.done[i], 1);
}
END_TEST

START_TEST(a_dead_producer_is_replaced)
{
	int64_t restarts = metric_value(METRIC_KAFKA_PRODUCER_RESTARTS);
	int64_t deadline = clock_ms() + LIMIT_MS;

	append(0);
	wait_done(1);
	rd_kafka_mock_push_request_errors(fixture.mock, API_PRODUCE, 1,
	                                  RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
	for (uint64_t i = 1; i < 20; i++)
		append(i);
	wait_done(20);
	while (metric_value(METRIC_KAFKA_PRODUCER_RESTARTS) == restarts && clock_ms() < deadline)
		pause_ms(1);
	ck_assert_int_eq(metric_value(METRIC_KAFKA_PRODUCER_RESTARTS), restarts + 1);
	append(20);
	wait_done(21);
	ck_assert_int_eq(fixture.told[20], STATUS_OK);
	for (int i = 0; i <= 20; i++)
		ck_assert_int_eq(fixture.done[i], 1);
}
END_TEST

START_TEST(a_full_queue_refuses)
{
	static uint8_t data[MAX_RECORD_BYTES];
	enum status_code code = STATUS_OK;
	uint64_t taken = 0;

	rd_kafka_mock_broker_set_down(fixture.mock, 1);
	while (code == STATUS_OK && taken < 1000) {
		code = log_append(fixture.log, data, sizeof data, taken);
		taken += code == STATUS_OK;
	}
	ck_assert_int_eq(code, STATUS_TOO_MANY_REQUESTS);
	ck_assert_uint_gt(taken, 50);
	wait_done((int)taken);
	ck_assert_int_eq(log_append(fixture.log, data, 1, taken), STATUS_OK);
	/* Larger than any that the topic takes. */
	ck_assert_int_eq(log_append(fixture.log, data, 2 * (size_t)MAX_RECORD_BYTES, 0),
	                 STATUS_REQUEST_TOO_LARGE);
}
END_TEST

START_TEST(what_is_under_way_at_the_end_is_told)
{
	rd_kafka_mock_broker_set_down(fixture.mock, 1);
	for (uint64_t i = 0; i < 20; i++)
		append(i);
	log_close(fixture.log);
	fixture.log = NULL;
	ck_assert_int_eq(fixture.done_count, 20);
}
END_TEST

START_TEST(fetching_goes_on_when_the_range_was_right_after_all)
{
	struct log *mine = fixture.log, *other;

	append(0);
	expect_records(1, 1, 0);
	rd_kafka_mock_push_request_errors(fixture.mock, API_FETCH, 2,
	                                  RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
	                                  RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE);
	ck_assert_int_eq(kafka_log_open(fixture.kafka, 0, &other), STATUS_OK);
	fixture.log = other; /* what it writes the first one has to read */
	for (uint64_t i = 1; i < 10; i++)
		append(i);
	fixture.log = mine;
	expect_records(9, 2, 1);
	log_close(other);
}
END_TEST

/* What a broker says to have already it gives no offset for. */
START_TEST(a_record_without_an_offset_is_not_taken_for_one_that_landed)
{
	static const rd_kafka_resp_err_t HAS[] = {[0 ... 19] = RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER};

	append(0);
	wait_done(1);
	expect_records(1, 1, 0);
	rd_kafka_mock_push_request_errors_array(fixture.mock, API_PRODUCE, sizeof HAS / sizeof *HAS, HAS);
	for (uint64_t i = 1; i < 20; i++)
		append(i);
	wait_done(20);
	rd_kafka_mock_clear_request_errors(fixture.mock, API_PRODUCE);
	append(20); /* the mock has none of the others */
	expect_records(1, 2, 20);
}
END_TEST

START_TEST(metrics_tell_of_the_log)
{
	struct log_record records[BATCH];
	int64_t deadline = clock_ms() + LIMIT_MS;
	size_t got;

	for (uint64_t i = 0; i < 5; i++)
		append(i);
	expect_records(5, 1, 0);
	wait_done(5);
	while ((metric_value(METRIC_LOG_END) != 5 || metric_value(METRIC_KAFKA_UP) != 1) &&
	       clock_ms() < deadline)
		log_poll(fixture.log, records, BATCH, &got, 10);
	ck_assert_int_eq(metric_value(METRIC_LOG_END), 5);
	ck_assert_int_eq(metric_value(METRIC_KAFKA_UP), 1);
	ck_assert_int_eq(metric_value(METRIC_LOG_APPEND_SECONDS), 5);
	rd_kafka_mock_broker_set_down(fixture.mock, 1);
	while (metric_value(METRIC_KAFKA_UP) != 0 && clock_ms() < deadline)
		pause_ms(5);
	ck_assert_int_eq(metric_value(METRIC_KAFKA_UP), 0);
	ck_assert_int_gt(metric_value(METRIC_KAFKA_ERRORS), 0);
}
END_TEST

/* --- tables --- */

static enum status_code add_row(void *arg, const struct table_row *row)
{
	struct buf *rows = arg;

	buf_append(rows, row->key, row->key_len);
	if (row->value == NULL)
		buf_append_text(rows, "-");
	buf_append_byte(rows, ' ');
	return row->at > 0 && row->at <= row->end ? STATUS_OK : STATUS_INTERNAL;
}

static void expect_rows(struct tables *tables, enum table table, const char *wanted)
{
	struct buf rows;

	buf_init(&rows);
	ck_assert_int_eq(tables_read(tables, table, add_row, &rows), STATUS_OK);
	buf_append_byte(&rows, '\0');
	ck_assert_str_eq((const char *)rows.data, wanted);
	buf_release(&rows);
}

static struct tables *open_tables(void)
{
	struct tables *tables;

	ck_assert_int_eq(kafka_tables_open(fixture.kafka, &tables), STATUS_OK);
	return tables;
}

START_TEST(rows_are_read_as_they_were_put)
{
	struct tables *tables = open_tables();

	expect_rows(tables, TABLE_KV, "");
	ck_assert_int_eq(tables_begin(tables), STATUS_NO_KAFKA); /* not taken yet */
	ck_assert_int_eq(tables_put(tables, TABLE_KV, "a", 1, "x", 1), STATUS_NO_KAFKA);
	ck_assert_int_eq(tables_take(tables, CLUSTER_ID), STATUS_OK);
	ck_assert_int_eq(tables_begin(tables), STATUS_OK);
	ck_assert_int_eq(tables_put(tables, TABLE_KV, "a", 1, "x", 1), STATUS_OK);
	ck_assert_int_eq(tables_put(tables, TABLE_KV, "b", 1, "y", 1), STATUS_OK);
	ck_assert_int_eq(tables_put(tables, TABLE_KV, "a", 1, NULL, 0), STATUS_OK);
	ck_assert_int_eq(tables_put(tables, TABLE_MARKERS, "m", 1, "", 0), STATUS_OK);
	ck_assert_int_eq(tables_commit(tables), STATUS_OK);
	expect_rows(tables, TABLE_KV, "a b a- ");
	expect_rows(tables, TABLE_MARKERS, "m ");
	tables_close(tables);
}
END_TEST

static enum status_code refuse_row(void *arg, const struct table_row *row)
{
	(void)row;
	return ++*(int *)arg == 2 ? STATUS_BAD_RECORD : STATUS_OK;
}

START_TEST(a_reader_that_refuses_a_row_ends_the_reading)
{
	struct tables *tables = open_tables();
	int rows = 0;

	ck_assert_int_eq(tables_take(tables, CLUSTER_ID), STATUS_OK);
	ck_assert_int_eq(tables_begin(tables), STATUS_OK);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(tables_put(tables, TABLE_KV, &i, sizeof i, "x", 1), STATUS_OK);
	ck_assert_int_eq(tables_commit(tables), STATUS_OK);
	ck_assert_int_eq(tables_read(tables, TABLE_KV, refuse_row, &rows), STATUS_BAD_RECORD);
	ck_assert_int_eq(rows, 2);
	tables_close(tables);
}
END_TEST

/* The mock itself fences nobody. */
START_TEST(a_writer_that_was_fenced_says_so_until_it_takes_again)
{
	struct tables *tables = open_tables();

	ck_assert_int_eq(tables_take(tables, CLUSTER_ID), STATUS_OK);
	ck_assert_int_eq(tables_begin(tables), STATUS_OK);
	ck_assert_int_eq(tables_put(tables, TABLE_KV, "a", 1, "x", 1), STATUS_OK);
	rd_kafka_mock_push_request_errors(fixture.mock, API_END_TXN, 1,
	                                  RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH);
	ck_assert_int_eq(tables_commit(tables), STATUS_FENCED);
	ck_assert_int_eq(tables_begin(tables), STATUS_FENCED);
	ck_assert_int_eq(tables_put(tables, TABLE_KV, "a", 1, "x", 1), STATUS_FENCED);
	ck_assert_int_eq(tables_commit(tables), STATUS_FENCED);
	ck_assert_int_eq(tables_take(tables, CLUSTER_ID), STATUS_OK);
	ck_assert_int_eq(tables_begin(tables), STATUS_OK);
	tables_abort(tables);
	ck_assert_int_eq(tables_begin(tables), STATUS_OK);
	tables_close(tables);
}
END_TEST

START_TEST(a_commit_that_fails_ends_being_the_writer)
{
	struct tables *tables = open_tables();

	ck_assert_int_eq(tables_take(tables, CLUSTER_ID), STATUS_OK);
	ck_assert_int_eq(tables_begin(tables), STATUS_OK);
	rd_kafka_mock_push_request_errors(fixture.mock, API_PRODUCE, 1,
	                                  RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	ck_assert_int_eq(tables_put(tables, TABLE_KV, "a", 1, "x", 1), STATUS_OK);
	ck_assert_int_ne(tables_commit(tables), STATUS_OK);
	ck_assert_int_eq(tables_begin(tables), STATUS_NO_KAFKA);
	ck_assert_int_eq(tables_take(tables, CLUSTER_ID), STATUS_OK);
	ck_assert_int_eq(tables_begin(tables), STATUS_OK);
	ck_assert_int_eq(tables_put(tables, TABLE_KV, "b", 1, "x", 1), STATUS_OK);
	ck_assert_int_eq(tables_commit(tables), STATUS_OK);
	tables_close(tables);
}
END_TEST

START_TEST(taking_without_the_right_says_so)
{
	struct tables *tables = open_tables();

	rd_kafka_mock_push_request_errors(fixture.mock, API_INIT_PRODUCER_ID, 1,
	                                  RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
	ck_assert_int_eq(tables_take(tables, CLUSTER_ID), STATUS_BAD_KAFKA);
	ck_assert_int_eq(tables_take(tables, CLUSTER_ID), STATUS_OK);
	tables_close(tables);
}
END_TEST

START_TEST(without_a_broker_nothing_is_taken_nor_read)
{
	struct tables *tables = open_tables();
	int rows = 0;

	rd_kafka_mock_broker_set_down(fixture.mock, 1);
	ck_assert_int_ne(tables_take(tables, CLUSTER_ID), STATUS_OK);
	ck_assert_int_eq(tables_read(tables, TABLE_KV, refuse_row, &rows), STATUS_NO_KAFKA);
	tables_close(tables);
}
END_TEST

/* --- the election --- */

static bool wait_held(struct election *election)
{
	int64_t deadline = clock_ms() + LIMIT_MS;

	while (!election_holds(election) && clock_ms() < deadline)
		pause_ms(5);
	return election_holds(election);
}

/* The mock makes whoever comes after one that left wait for the session's end: see kafka_probe.c. */
START_TEST(the_one_that_takes_part_is_to_lead_until_it_resigns)
{
	struct election *election;

	ck_assert_int_eq(kafka_election_open(fixture.kafka, &election), STATUS_OK);
	ck_assert(wait_held(election));
	election_resign(election);
	ck_assert(!election_holds(election));
	election_resign(election);
	election_close(election);
}
END_TEST

/* librdkafka 2.0.2 aborts when it is ended after a JoinGroup that was answered and before any SyncGroup
 * that was. */
START_TEST(a_close_waits_until_the_group_is_joined)
{
	const rd_kafka_resp_err_t again = RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
	struct election *election;

	rd_kafka_mock_push_request_errors(fixture.mock, API_SYNC_GROUP, 2, again, again);
	ck_assert_int_eq(kafka_election_open(fixture.kafka, &election), STATUS_OK);
	for (int i = 0; i < 30; i++, pause_ms(50))
		ck_assert(!election_holds(election));
	election_close(election);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("kafka");
	TCase *settings = tcase_create("settings"), *log = tcase_create("log"),
	      *rest = tcase_create("tables");

	tcase_add_loop_test(settings, a_property_is_taken_or_refused_with_the_reason, 0,
	                    sizeof PROPERTIES / sizeof *PROPERTIES);
	tcase_add_test(settings, a_key_store_of_javas_is_known_by_its_content);
	tcase_add_test(settings, settings_that_no_client_can_be_made_of_are_refused);
	tcase_add_test(settings, who_cannot_be_reached_is_named_after_the_time_out);
	suite_add_tcase(suite, settings);

	tcase_add_checked_fixture(log, set_up_log, tear_down);
	tcase_add_test(log, records_are_read_in_the_order_of_their_appends);
	tcase_add_test(log, many_threads_append_and_each_is_told_once);
	tcase_add_test(log, own_records_come_when_they_are_confirmed);
	tcase_add_test(log, two_that_append_read_the_same);
	tcase_add_test(log, bounds_and_single_records_are_found);
	tcase_add_test(log, a_log_goes_on_after_the_offset_it_was_opened_at);
	tcase_add_test(log, a_waiting_poll_is_woken);
	tcase_add_test(log, errors_that_pass_are_not_told);
	tcase_add_test(log, a_record_that_is_refused_is_told_as_timed_out);
	tcase_add_test(log, appends_time_out_while_no_broker_answers_and_go_on_after);
	tcase_add_test(log, a_dead_producer_is_replaced);
	tcase_add_test(log, a_full_queue_refuses);
	tcase_add_test(log, what_is_under_way_at_the_end_is_told);
	tcase_add_test(log, fetching_goes_on_when_the_range_was_right_after_all);
	tcase_add_test(log, a_record_without_an_offset_is_not_taken_for_one_that_landed);
	tcase_add_test(log, metrics_tell_of_the_log);
	suite_add_tcase(suite, log);

	tcase_add_checked_fixture(rest, set_up, tear_down);
	tcase_add_test(rest, a_client_can_be_made_while_it_warns);
	tcase_add_test(rest, rows_are_read_as_they_were_put);
	tcase_add_test(rest, a_reader_that_refuses_a_row_ends_the_reading);
	tcase_add_test(rest, a_writer_that_was_fenced_says_so_until_it_takes_again);
	tcase_add_test(rest, a_commit_that_fails_ends_being_the_writer);
	tcase_add_test(rest, taking_without_the_right_says_so);
	tcase_add_test(rest, without_a_broker_nothing_is_taken_nor_read);
	tcase_add_test(rest, the_one_that_takes_part_is_to_lead_until_it_resigns);
	tcase_add_test(rest, a_close_waits_until_the_group_is_joined);
	suite_add_tcase(suite, rest);
	tcase_set_timeout(settings, TEST_LIMIT_SEC);
	tcase_set_timeout(log, TEST_LIMIT_SEC);
	tcase_set_timeout(rest, TEST_LIMIT_SEC);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
