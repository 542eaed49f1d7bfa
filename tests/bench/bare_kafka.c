/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Kafka alone takes for the log's work: records are appended to a topic
 * of one partition and read back, so many at a time, and nothing else is done
 * with them. A record is through when it has been read back and its delivery
 * has been confirmed; its slot then takes the next one.
 *
 *   bare_kafka --servers HOST:PORT [options]   prints one line of JSON per --in-flight
 *
 * The topic is made for the run, and deleted when all went well. The settings
 * are those that gave the shortest way (SETTINGS); --set tries another one.
 *
 * librdkafka's idempotent producer polls without pause while it waits for the
 * confirmation of five records or more and has another one. So a record waits
 * here, not there, while any is unconfirmed; --hold sets how many may be.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tool.h"

enum {
	MAX_RECORD_BYTES = 1 << 16,
	MAX_IN_FLIGHT = 1 << 16,
	MAX_RUNS = 16,
	MAX_SETTINGS = 64,
	BATCH = 512,      /* messages taken from a queue at once */
	ADMIN_MS = 30000, /* for what is done once */
	TEXT_BYTES = 512, /* of librdkafka's error texts */
	WARM_UP_MS = 300, /* before what counts: connections, idempotence, compiled code in the broker */
};

/* Which handle a setting is for. */
enum side { SIDE_PRODUCER, SIDE_CONSUMER, SIDE_BOTH };

struct setting {
	enum side side;
	const char *name, *value;
};

static const struct setting SETTINGS[] = {
	{SIDE_PRODUCER, "enable.idempotence", "true"},
	{SIDE_PRODUCER, "acks", "all"},
	{SIDE_PRODUCER, "linger.ms", "0"},
	{SIDE_CONSUMER, "group.id", "bare"}, /* only because assigning wants one: nothing joins it */
	{SIDE_CONSUMER, "enable.auto.commit", "false"},
	{SIDE_CONSUMER, "enable.auto.offset.store", "false"},
	{SIDE_CONSUMER, "auto.offset.reset", "error"},
	{SIDE_CONSUMER, "fetch.min.bytes", "1"},
	{SIDE_BOTH, "socket.nagle.disable", "true"},
	{SIDE_BOTH, "log_level", "3"}, /* errors: a new broker lets the first producer wait, and says so */
};

struct slot {
	int64_t sent_ns;
	bool confirmed, read;
	char *record; /* begins with the slot's number */
};

struct bench {
	const char *servers;
	struct setting settings[MAX_SETTINGS];
	size_t setting_count;
	size_t record_bytes;
	double seconds;
	uint64_t hold;
	uint64_t runs[MAX_RUNS];
	size_t run_count;

	char topic[64];
	rd_kafka_t *producer, *consumer;
	rd_kafka_topic_t *out;
	rd_kafka_queue_t *in, *deliveries;
	int fd; /* readable when one of the two queues has something */
	rd_kafka_message_t *messages[BATCH];

	struct slot *slots;
	uint64_t in_flight;
	struct slot **waiting; /* for others to be confirmed */
	size_t waiting_count;
	uint64_t unconfirmed;
	uint64_t open; /* slots with a record under way */
	int64_t counts_ns, until_ns;
	struct histogram latencies;
};

static _Noreturn void fail_with(const char *what, const char *detail)
{
	errno = 0;
	fprintf(stderr, "bare_kafka: %s: ", what);
	fail(detail);
}

static void check(rd_kafka_resp_err_t err, const char *what)
{
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		fail_with(what, rd_kafka_err2str(err));
}

/* ---- A record's way ---- */

static void slot_send(struct bench *bench, struct slot *slot)
{
	slot->sent_ns = now_ns();
	slot->confirmed = slot->read = false;
	bench->waiting[bench->waiting_count++] = slot;
}

/* All that waits, if it may go. A record stays where it is until it is through: no copy. */
static void hand_over(struct bench *bench)
{
	if (bench->unconfirmed >= bench->hold)
		return;
	for (size_t i = 0; i < bench->waiting_count; i++) {
		struct slot *slot = bench->waiting[i];

		if (rd_kafka_produce(bench->out, 0, 0, slot->record, bench->record_bytes, NULL, 0, slot) !=
		    0)
			check(rd_kafka_last_error(), "produce");
	}
	bench->unconfirmed += bench->waiting_count;
	bench->waiting_count = 0;
}

/* One of the two things happened to it. */
static void slot_advance(struct bench *bench, struct slot *slot)
{
	int64_t now;

	if (!slot->confirmed || !slot->read)
		return;
	now = now_ns();
	if (now >= bench->counts_ns)
		histogram_add(&bench->latencies, now - slot->sent_ns);
	if (now < bench->until_ns)
		slot_send(bench, slot);
	else
		bench->open--;
}

static void take_message(struct bench *bench, rd_kafka_message_t *message)
{
	uint32_t number;

	check(message->err, "fetch");
	if (message->len != bench->record_bytes)
		fail_with("fetch", "a record of another length");
	memcpy(&number, message->payload, sizeof number);
	if (number >= bench->in_flight || bench->slots[number].read)
		fail_with("fetch", "a record that was not expected");
	bench->slots[number].read = true;
	slot_advance(bench, &bench->slots[number]);
	rd_kafka_message_destroy(message);
}

static void take_messages(struct bench *bench)
{
	ssize_t count;

	/* With a time-out it would wait until it had as many. */
	do {
		count = rd_kafka_consume_batch_queue(bench->in, 0, bench->messages, BATCH);
		for (ssize_t i = 0; i < count; i++)
			take_message(bench, bench->messages[i]);
	} while (count == BATCH);
}

static void take_deliveries(struct bench *bench)
{
	rd_kafka_event_t *event;
	const rd_kafka_message_t *message;

	while ((event = rd_kafka_queue_poll(bench->deliveries, 0)) != NULL) {
		if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR)
			check(rd_kafka_event_error(event), "producer");
		while ((message = rd_kafka_event_message_next(event)) != NULL) {
			struct slot *slot = message->_private;

			check(message->err, "delivery");
			bench->unconfirmed--;
			slot->confirmed = true;
			slot_advance(bench, slot);
		}
		rd_kafka_event_destroy(event);
	}
}

/* Until every slot is through and no new record is due. */
static void work(struct bench *bench)
{
	struct pollfd waiting = {.fd = bench->fd, .events = POLLIN};
	uint64_t ticks;

	while (bench->open > 0) {
		hand_over(bench);
		if (poll(&waiting, 1, SILENCE_MS) == 0)
			fail_with("run", "records are missing");
		(void)!read(bench->fd, &ticks, sizeof ticks);
		take_deliveries(bench);
		hand_over(bench);
		take_messages(bench);
	}
}

/* ---- The handles ---- */

static rd_kafka_t *handle_new(const struct bench *bench, rd_kafka_type_t type)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	enum side side = type == RD_KAFKA_PRODUCER ? SIDE_PRODUCER : SIDE_CONSUMER;
	char text[TEXT_BYTES];
	rd_kafka_t *handle;

	if (rd_kafka_conf_set(conf, "bootstrap.servers", bench->servers, text, sizeof text) !=
	    RD_KAFKA_CONF_OK)
		fail_with("setting", text);
	for (size_t i = 0; i < bench->setting_count; i++) {
		const struct setting *setting = &bench->settings[i];

		if (setting->side != SIDE_BOTH && setting->side != side)
			continue;
		if (rd_kafka_conf_set(conf, setting->name, setting->value, text, sizeof text) !=
		    RD_KAFKA_CONF_OK)
			fail_with("setting", text);
	}
	if (type == RD_KAFKA_PRODUCER)
		rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
	handle = rd_kafka_new(type, conf, text, sizeof text);
	if (handle == NULL)
		fail_with("handle", text);
	return handle;
}

/* Waits for the answer to an admin request, which is about one topic. */
static void await_topic_result(rd_kafka_queue_t *queue, const char *what)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ADMIN_MS);
	const rd_kafka_topic_result_t **results = NULL;
	size_t count = 0;

	if (event == NULL)
		fail_with(what, "no answer");
	check(rd_kafka_event_error(event), what);
	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_CREATETOPICS_RESULT)
		results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event),
		                                              &count);
	else
		results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event),
		                                              &count);
	for (size_t i = 0; i < count; i++)
		check(rd_kafka_topic_result_error(results[i]), what);
	rd_kafka_event_destroy(event);
}

static void create_topic(struct bench *bench)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(bench->producer);
	char text[TEXT_BYTES];
	rd_kafka_NewTopic_t *topic;

	snprintf(bench->topic, sizeof bench->topic, "bare-%ld-%" PRId64, (long)getpid(), now_ns());
	topic = rd_kafka_NewTopic_new(bench->topic, 1, 1, text, sizeof text);
	if (topic == NULL)
		fail_with("topic", text);
	rd_kafka_CreateTopics(bench->producer, &topic, 1, NULL, queue);
	await_topic_result(queue, "create topic");
	rd_kafka_NewTopic_destroy(topic);
	rd_kafka_queue_destroy(queue);
}

static void delete_topic(struct bench *bench)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(bench->producer);
	rd_kafka_DeleteTopic_t *topic = rd_kafka_DeleteTopic_new(bench->topic);

	rd_kafka_DeleteTopics(bench->producer, &topic, 1, NULL, queue);
	await_topic_result(queue, "delete topic");
	rd_kafka_DeleteTopic_destroy(topic);
	rd_kafka_queue_destroy(queue);
}

/* From the topic's end, as of now: a new topic's leader may still have to be found. */
static void assign(struct bench *bench)
{
	rd_kafka_topic_partition_list_t *partitions = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t err;
	int64_t low, high, until_ns = now_ns() + (int64_t)ADMIN_MS * 1000000;

	do {
		err = rd_kafka_query_watermark_offsets(bench->consumer, bench->topic, 0, &low, &high,
		                                       ADMIN_MS);
	} while (err != RD_KAFKA_RESP_ERR_NO_ERROR && now_ns() < until_ns);
	check(err, "the topic's end");
	rd_kafka_topic_partition_list_add(partitions, bench->topic, 0)->offset = high;
	check(rd_kafka_assign(bench->consumer, partitions), "assign");
	rd_kafka_topic_partition_list_destroy(partitions);
}

static void open_handles(struct bench *bench)
{
	static const uint64_t TICK = 1;

	bench->producer = handle_new(bench, RD_KAFKA_PRODUCER);
	bench->consumer = handle_new(bench, RD_KAFKA_CONSUMER);
	create_topic(bench);
	bench->out = rd_kafka_topic_new(bench->producer, bench->topic, NULL);
	if (bench->out == NULL)
		fail_with("topic", rd_kafka_err2str(rd_kafka_last_error()));
	rd_kafka_poll_set_consumer(bench->consumer);
	bench->in = rd_kafka_queue_get_consumer(bench->consumer);
	bench->deliveries = rd_kafka_queue_get_main(bench->producer);
	bench->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (bench->fd < 0)
		fail("eventfd");
	rd_kafka_queue_io_event_enable(bench->in, bench->fd, &TICK, sizeof TICK);
	rd_kafka_queue_io_event_enable(bench->deliveries, bench->fd, &TICK, sizeof TICK);
	assign(bench);
}

static void close_handles(struct bench *bench)
{
	rd_kafka_queue_destroy(bench->in);
	rd_kafka_queue_destroy(bench->deliveries);
	rd_kafka_topic_destroy(bench->out);
	rd_kafka_consumer_close(bench->consumer);
	rd_kafka_destroy(bench->consumer);
	delete_topic(bench);
	rd_kafka_destroy(bench->producer);
	close(bench->fd);
}

/* ---- The runs ---- */

static void make_slots(struct bench *bench, uint64_t count)
{
	bench->slots = calloc(count, sizeof *bench->slots);
	if (bench->slots == NULL)
		fail("no memory");
	bench->waiting = allocate(count * sizeof(struct slot *));
	for (uint32_t i = 0; i < count; i++) {
		bench->slots[i].record = allocate(bench->record_bytes);
		memset(bench->slots[i].record, (int)('a' + i % 26), bench->record_bytes);
		memcpy(bench->slots[i].record, &i, sizeof i);
	}
}

static void free_slots(struct bench *bench, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		free(bench->slots[i].record);
	free(bench->slots);
	free(bench->waiting);
}

static void report(const struct bench *bench, double cpu)
{
	const struct histogram *latencies = &bench->latencies;
	double seconds = (double)(now_ns() - bench->counts_ns) / 1e9;

	printf("{\"in_flight\": %" PRIu64 ", \"records\": %" PRIu64 ", \"rate\": %.1f, \"median_us\": %.1f,"
	       " \"p99_us\": %.1f, \"max_us\": %.1f, \"cpu_seconds\": %.3f}\n",
	       bench->in_flight, latencies->count, (double)latencies->count / seconds,
	       histogram_percentile(latencies, 0.5), histogram_percentile(latencies, 0.99),
	       histogram_percentile(latencies, 1), cpu);
	fflush(stdout);
}

/* Warms up, or measures. */
static void run_for(struct bench *bench, int64_t ns)
{
	bench->latencies = (struct histogram){0};
	bench->counts_ns = now_ns();
	bench->until_ns = bench->counts_ns + ns;
	bench->open = bench->in_flight;
	for (uint64_t i = 0; i < bench->in_flight; i++)
		slot_send(bench, &bench->slots[i]);
	work(bench);
}

static void run(struct bench *bench, uint64_t in_flight)
{
	double cpu;

	bench->in_flight = in_flight;
	make_slots(bench, in_flight);
	run_for(bench, (int64_t)WARM_UP_MS * 1000000);
	cpu = cpu_seconds();
	run_for(bench, (int64_t)(bench->seconds * 1e9));
	report(bench, cpu_seconds() - cpu);
	free_slots(bench, in_flight);
}

/* ---- Options ---- */

static _Noreturn void usage(void)
{
	fputs("usage: bare_kafka --servers HOST:PORT [options]\n"
	      "  --in-flight N      records under way; may be repeated (1, 64, 512)\n"
	      "  --seconds S        of one run (1)\n"
	      "  --record-bytes N   (300)\n"
	      "  --hold N           hand over no record while N are unconfirmed (1)\n"
	      "  --set NAME=VALUE, --set-producer ..., --set-consumer ...   librdkafka's settings\n",
	      stderr);
	exit(2);
}

static void add_setting(struct bench *bench, enum side side, char *text)
{
	char *equals = strchr(text, '=');

	if (equals == NULL || bench->setting_count == MAX_SETTINGS)
		usage();
	*equals = '\0';
	bench->settings[bench->setting_count++] = (struct setting){side, text, equals + 1};
}

static void set_option(struct bench *bench, int option, char *text)
{
	switch (option) {
	case 's':
		bench->servers = text;
		break;
	case 'n':
		if (bench->run_count == MAX_RUNS)
			usage();
		bench->runs[bench->run_count++] = number(text, 1, MAX_IN_FLIGHT);
		break;
	case 't':
		bench->seconds = strtod(text, NULL);
		break;
	case 'b':
		bench->record_bytes = number(text, sizeof(uint32_t), MAX_RECORD_BYTES);
		break;
	case 'h':
		bench->hold = number(text, 1, UINT64_MAX);
		break;
	case 'x':
		add_setting(bench, SIDE_BOTH, text);
		break;
	case 'p':
		add_setting(bench, SIDE_PRODUCER, text);
		break;
	case 'c':
		add_setting(bench, SIDE_CONSUMER, text);
		break;
	default:
		usage();
	}
}

static void read_options(struct bench *bench, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"servers", required_argument, NULL, 's'},
		{"in-flight", required_argument, NULL, 'n'},
		{"seconds", required_argument, NULL, 't'},
		{"record-bytes", required_argument, NULL, 'b'},
		{"hold", required_argument, NULL, 'h'},
		{"set", required_argument, NULL, 'x'},
		{"set-producer", required_argument, NULL, 'p'},
		{"set-consumer", required_argument, NULL, 'c'},
		{0},
	};
	static const uint64_t RUNS[] = {1, 64, 512};
	int option;

	for (; bench->setting_count < sizeof SETTINGS / sizeof *SETTINGS; bench->setting_count++)
		bench->settings[bench->setting_count] = SETTINGS[bench->setting_count];
	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1)
		set_option(bench, option, optarg);
	if (bench->servers == NULL || optind != argc || bench->seconds <= 0)
		usage();
	if (bench->run_count == 0) {
		memcpy(bench->runs, RUNS, sizeof RUNS);
		bench->run_count = sizeof RUNS / sizeof *RUNS;
	}
}

int main(int argc, char **argv)
{
	static struct bench bench = {.seconds = 1, .hold = 1, .record_bytes = 300};

	tool_init("bare_kafka");
	read_options(&bench, argc, argv);
	open_handles(&bench);
	for (size_t i = 0; i < bench.run_count; i++)
		run(&bench, bench.runs[i]);
	close_handles(&bench);
	return 0;
}
