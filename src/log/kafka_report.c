/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report: what works and what does not, for somebody who sets a node up. Rights
 * are found out by trying, each in a way that changes nothing:
 *
 *     Read        fetching at the end of each topic
 *     Write       a record without a key, which a compacted topic refuses; the log is
 *                 not compacted, so it is left out
 *     Delete      deleting the records of the log below its first
 *     group       committing an offset of the topic that holds nothing
 *     transaction taking a transactional id that nobody else uses
 */
#include "log/kafka.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "log/kafka_internal.h"

enum {
	EVENT_SLICE_MS = 100,
	ERRSTR_BYTES = 512,
	LIMIT_MS = 15000, /* a person waits for each answer */
};

struct report {
	struct kafka *kafka;
	struct buf *out;
	bool bad;
};

static int64_t limit_ms(const struct kafka *kafka)
{
	return kafka->options.timeout_ms < LIMIT_MS ? kafka->options.timeout_ms : LIMIT_MS;
}

static void say(struct report *report, bool good, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void say(struct report *report, bool good, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	buf_printf(report->out, "%s %s\n", good ? "ok   " : "WRONG", text);
	report->bad |= !good;
}

static int64_t new_deadline(const struct report *report)
{
	return clock_ms() + limit_ms(report->kafka);
}

/* A handle for a trial, with one setting more; NULL was said. */
static rd_kafka_t *try_handle(struct report *report, struct kafka_client *client, enum kafka_role role,
                              const char *name, const char *value,
                              void (*deliver)(rd_kafka_t *, const rd_kafka_message_t *, void *))
{
	char errstr[ERRSTR_BYTES] = "";
	rd_kafka_conf_t *conf = kafka_conf_new(report->kafka, role, errstr);
	rd_kafka_t *rk = NULL;

	if (conf != NULL && name != NULL &&
	    rd_kafka_conf_set(conf, name, value, errstr, sizeof errstr) != RD_KAFKA_CONF_OK) {
		rd_kafka_conf_destroy(conf);
		conf = NULL;
	}
	if (conf != NULL) {
		if (deliver != NULL)
			rd_kafka_conf_set_dr_msg_cb(conf, deliver);
		rk = kafka_handle_new(client, role, conf);
	}
	if (rk == NULL)
		say(report, false, "client: %s", errstr);
	return rk;
}

/* --- reading --- */

static int topic_of(const struct kafka *kafka, const rd_kafka_message_t *message)
{
	for (int i = 0; message->rkt != NULL && i < TOPIC_COUNT; i++) {
		if (strcmp(kafka->topics[i], rd_kafka_topic_name(message->rkt)) == 0)
			return i;
	}
	return -1;
}

/* The reader tells of each topic's end, or why it cannot be read. */
static void try_read(struct report *report)
{
	struct kafka *kafka = report->kafka;
	struct kafka_client client = {.kafka = kafka};
	rd_kafka_t *rk = try_handle(report, &client, KAFKA_READER, NULL, NULL, NULL);
	int64_t deadline = new_deadline(report);
	rd_kafka_topic_t *topics[TOPIC_COUNT];
	bool heard[TOPIC_COUNT] = {false};
	rd_kafka_queue_t *queue;
	bool good = true;
	int left = TOPIC_COUNT;

	if (rk == NULL)
		return;
	queue = rd_kafka_queue_new(rk);
	for (int i = 0; i < TOPIC_COUNT; i++) {
		topics[i] = rd_kafka_topic_new(rk, kafka->topics[i], NULL);
		rd_kafka_consume_start_queue(topics[i], 0, RD_KAFKA_OFFSET_END, queue);
	}
	while (left > 0 && clock_ms() < deadline) {
		rd_kafka_message_t *message = rd_kafka_consume_queue(queue, EVENT_SLICE_MS);
		int topic = message != NULL ? topic_of(kafka, message) : -1;

		if (topic >= 0 && !heard[topic]) {
			heard[topic] = true;
			left--;
			if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR &&
			    message->err != RD_KAFKA_RESP_ERR__PARTITION_EOF) {
				good = false;
				say(report, false, "Read on topic %s: %s", kafka->topics[topic],
				    rd_kafka_err2str(message->err));
			}
		}
		if (message != NULL)
			rd_kafka_message_destroy(message);
	}
	for (int i = 0; i < TOPIC_COUNT; i++) {
		if (!heard[i])
			say(report, false, "Read on topic %s: no answer", kafka->topics[i]);
		rd_kafka_consume_stop(topics[i], 0);
		rd_kafka_topic_destroy(topics[i]);
	}
	if (good && left == 0)
		say(report, true, "Read on all topics");
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

/* --- writing --- */

struct writing {
	struct report *report;
	int heard, good;
};

static void take_refusal(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	struct kafka_client *client = opaque;
	struct writing *writing = client->owner;

	writing->heard++;
	if (message->err == RD_KAFKA_RESP_ERR_INVALID_RECORD ||
	    message->err == RD_KAFKA_RESP_ERR_INVALID_MSG) {
		writing->good++;
	} else if (rd_kafka_fatal_error(rk, NULL, 0) == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED) {
		say(writing->report, false,
		    "IdempotentWrite on the cluster, which brokers before 2.8 ask for (see the last "
		    "command)");
	} else {
		say(writing->report, false, "Write on topic %s: %s", rd_kafka_topic_name(message->rkt),
		    rd_kafka_err2str(message->err));
	}
}

static void try_write(struct report *report)
{
	struct writing writing = {.report = report};
	struct kafka_client client = {.kafka = report->kafka, .owner = &writing};
	rd_kafka_t *rk = try_handle(report, &client, KAFKA_APPENDER, NULL, NULL, take_refusal);
	int64_t deadline = new_deadline(report);
	rd_kafka_topic_t *topics[TABLE_COUNT];

	if (rk == NULL)
		return;
	for (int i = 0; i < TABLE_COUNT; i++) {
		topics[i] = rd_kafka_topic_new(rk, report->kafka->topics[TOPIC_KV + i], NULL);
		rd_kafka_produce(topics[i], 0, 0, NULL, 0, NULL, 0, NULL);
	}
	while (writing.heard < TABLE_COUNT && clock_ms() < deadline)
		rd_kafka_poll(rk, EVENT_SLICE_MS);
	if (writing.good == TABLE_COUNT)
		say(report, true, "Write on the tables' topics (not tried on %s)",
		    report->kafka->topics[TOPIC_COMMITS]);
	else if (writing.heard < TABLE_COUNT)
		say(report, false, "Write: no answer");
	for (int i = 0; i < TABLE_COUNT; i++)
		rd_kafka_topic_destroy(topics[i]);
	client.owner = &writing;
	rd_kafka_purge(rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	rd_kafka_destroy(rk);
}

/* --- the rest --- */

static rd_kafka_event_t *wait_event(struct report *report, rd_kafka_queue_t *queue)
{
	int64_t deadline = new_deadline(report);
	rd_kafka_event_t *event = NULL;

	while (event == NULL && clock_ms() < deadline)
		event = rd_kafka_queue_poll(queue, EVENT_SLICE_MS);
	return event;
}

static void try_delete(struct report *report)
{
	const char *topic = report->kafka->topics[TOPIC_COMMITS];
	rd_kafka_t *rk = kafka_admin(report->kafka);
	rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(1);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	rd_kafka_DeleteRecords_t *request;
	rd_kafka_event_t *event;

	rd_kafka_topic_partition_list_add(parts, topic, 0)->offset = 0;
	request = rd_kafka_DeleteRecords_new(parts);
	rd_kafka_topic_partition_list_destroy(parts);
	rd_kafka_DeleteRecords(rk, &request, 1, NULL, queue);
	event = wait_event(report, queue);
	if (event != NULL) {
		const rd_kafka_DeleteRecords_result_t *result = rd_kafka_event_DeleteRecords_result(event);

		err = rd_kafka_event_error(event);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR && result != NULL)
			err = rd_kafka_DeleteRecords_result_offsets(result)->elems[0].err;
		rd_kafka_event_destroy(event);
	}
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		say(report, true, "Delete on topic %s", topic);
	else
		say(report, false, "Delete on topic %s: %s", topic, rd_kafka_err2str(err));
	rd_kafka_DeleteRecords_destroy(request);
	rd_kafka_queue_destroy(queue);
}

/* Who has no right to the group is told so where its coordinator is asked for, or at the commit. A
 * group with members refuses a stranger's offsets, but only after it has looked at the right. */
static void try_group(struct report *report)
{
	struct kafka *kafka = report->kafka;
	struct kafka_client client = {.kafka = kafka};
	rd_kafka_t *rk = try_handle(report, &client, KAFKA_VOTER, NULL, NULL, NULL);
	int64_t deadline = new_deadline(report);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	rd_kafka_topic_partition_list_t *parts;
	rd_kafka_queue_t *queue;
	rd_kafka_event_t *event = NULL;

	if (rk == NULL)
		return;
	rd_kafka_poll_set_consumer(rk);
	queue = rd_kafka_queue_new(rk);
	parts = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(parts, kafka->topics[TOPIC_ELECTION], 0)->offset = 0;
	rd_kafka_commit_queue(rk, parts, queue, NULL, NULL);
	while (event == NULL && err == RD_KAFKA_RESP_ERR__TIMED_OUT && clock_ms() < deadline) {
		rd_kafka_message_t *message;

		event = rd_kafka_queue_poll(queue, EVENT_SLICE_MS);
		message = rd_kafka_consumer_poll(rk, 0);
		if (message != NULL && message->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED)
			err = message->err;
		if (message != NULL)
			rd_kafka_message_destroy(message);
	}
	if (event != NULL) {
		err = rd_kafka_event_error(event);
		rd_kafka_event_destroy(event);
	}
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR || err == RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID ||
	    err == RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION || err == RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS)
		say(report, true, "Read on group %s", kafka->group);
	else
		say(report, false, "Read on group %s: %s", kafka->group, rd_kafka_err2str(err));
	rd_kafka_topic_partition_list_destroy(parts);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

static void try_transaction(struct report *report)
{
	struct kafka *kafka = report->kafka;
	struct kafka_client client = {.kafka = kafka};
	size_t size = strlen(kafka->options.prefix) + sizeof "report";
	char *id = malloc(size);
	rd_kafka_error_t *error;
	rd_kafka_t *rk;

	if (id == NULL)
		return;
	snprintf(id, size, "%sreport", kafka->options.prefix);
	rk = try_handle(report, &client, KAFKA_WRITER, "transactional.id", id, NULL);
	free(id);
	if (rk == NULL)
		return;
	error = rd_kafka_init_transactions(rk, (int)limit_ms(kafka));
	if (error == NULL) {
		say(report, true, "Write and Describe on transactional ids %s*", kafka->options.prefix);
	} else {
		say(report, false, "Write and Describe on transactional ids %s*: %s", kafka->options.prefix,
		    rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
	}
	rd_kafka_destroy(rk);
}

/* One command of kafka-acls. */
static void print_acl(struct report *report, const char *rest)
{
	const struct kafka *kafka = report->kafka;
	const char *protocol = kafka_property(kafka, "security.protocol");
	const char *user = kafka_property(kafka, "sasl.username");

	buf_printf(report->out, "kafka-acls.sh --bootstrap-server %s", kafka->options.servers);
	if (protocol != NULL && strcasecmp(protocol, "plaintext") != 0)
		buf_append_text(report->out, " --command-config admin.properties");
	buf_printf(report->out, " --add --allow-principal User:%s %s", user != NULL ? user : "NAME", rest);
}

static void print_acls(struct report *report)
{
	const char *prefix = report->kafka->options.prefix;

	buf_append_text(report->out, "\nThe least rights that a node needs:\n");
	print_acl(report,
	          "--operation Read --operation Write --operation Describe --operation DescribeConfigs "
	          "--operation Create");
	buf_printf(report->out, " --topic %s --resource-pattern-type prefixed\n", prefix);
	print_acl(report, "--operation Delete");
	buf_printf(report->out, " --topic %s\n", report->kafka->topics[TOPIC_COMMITS]);
	print_acl(report, "--operation Read");
	buf_printf(report->out, " --group %s\n", report->kafka->group);
	print_acl(report, "--operation Write --operation Describe");
	buf_printf(report->out, " --transactional-id %s --resource-pattern-type prefixed\n", prefix);
	buf_append_text(report->out, "and with brokers before 2.8 also:\n");
	print_acl(report, "--operation IdempotentWrite --cluster\n");
}

/* Repeats what the check of topics said, line by line. */
static void say_lines(struct report *report, struct buf *why)
{
	char *rest = NULL;

	buf_append_byte(why, '\0');
	if (why->failed)
		return;
	for (char *line = strtok_r((char *)why->data, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest))
		say(report, false, "%s", line);
}

static void report_login(struct report *report)
{
	const char *user = kafka_property(report->kafka, "sasl.username");
	const char *protocol = kafka_property(report->kafka, "security.protocol");

	say(report, true, "servers %s: cluster %s", report->kafka->options.servers,
	    kafka_cluster_id(report->kafka));
	say(report, true, "security.protocol %s, %s%s", protocol != NULL ? protocol : "plaintext",
	    user != NULL ? "logged in as " : "no user name", user != NULL ? user : "");
}

static void report_topics(struct report *report)
{
	const struct kafka_options *options = &report->kafka->options;
	int missing = 0;
	enum status_code code;
	struct buf why;

	buf_init(&why);
	code = kafka_check_topics(report->kafka, MISSING_COUNTS, new_deadline(report), NULL, &why,
	                          &missing);
	if (kafka_cluster_id(report->kafka)[0] != '\0')
		report_login(report);
	say_lines(report, &why);
	if (code == STATUS_OK && missing < TOPIC_COUNT)
		say(report, true, "topics %s*: %d of %d are there, and as they must be", options->prefix,
		    TOPIC_COUNT - missing, TOPIC_COUNT);
	buf_reset(&why);
	if (code == STATUS_OK && missing > 0) {
		if (kafka_try_make(report->kafka, new_deadline(report), &why) == STATUS_OK)
			say(report, true,
			    "topics %s*: %d are missing; a node that starts makes them, with %d replica%s",
			    options->prefix, missing, options->replication_factor,
			    options->replication_factor == 1 ? "" : "s");
		say_lines(report, &why);
	}
	buf_release(&why);
	if (code != STATUS_OK || missing > 0) {
		buf_append_text(report->out,
		                "      rights are tried when all topics are there and right\n");
		return;
	}
	try_read(report);
	try_write(report);
	try_delete(report);
	try_group(report);
	try_transaction(report);
}

enum status_code kafka_report(struct kafka *kafka, struct buf *out)
{
	struct report report = {.kafka = kafka, .out = out};

	if (kafka_admin(kafka) == NULL)
		return STATUS_NO_MEMORY;
	report_topics(&report);
	print_acls(&report);
	if (out->failed)
		return STATUS_NO_MEMORY;
	if (kafka_cluster_id(kafka)[0] == '\0')
		return STATUS_NO_KAFKA;
	return report.bad ? STATUS_BAD_KAFKA : STATUS_OK;
}
