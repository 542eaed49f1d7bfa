/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log as a topic of one partition.
 *
 * Appends are the appender's business (log/kafka_appender.h). A thread of the log's own
 * serves it, and does what else has to be done now and then: it answers
 * librdkafka's callbacks and keeps the gauges.
 *
 * Records come through librdkafka's plain consumer, without a group, into a queue
 * of our own that log_wake can interrupt. They must be dense. When Kafka says that
 * the next one is out of its range, the topic's bounds are asked for, for a new
 * leader of the partition may say so for a moment and be wrong.
 */
#include "log/kafka.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "log/kafka_appender.h"
#include "log/kafka_internal.h"

enum {
	POLL_MAX = 1024,
	GAUGE_INTERVAL_MS = 100,
	RANGE_INTERVAL_MS = 1000,
	BEYOND_END_MS = 30000, /* a follower that became leader has caught up by then */
	READ_SLICE_MS = 100,
	BOUNDS_LIMIT_MS = 5000,
	ANSWER_MAX_IDLE_US = 5000000, /* a fetch is answered each half second */
};

struct kafka_log {
	struct log base;
	struct kafka *kafka;
	struct kafka_appender *appender;

	pthread_t thread;
	atomic_bool stopping;
	rd_kafka_queue_t *trimmed; /* results of DeleteRecords */
	/* The thread's. */
	int64_t gauged_ms;
	bool was_up; /* as the statistics told */

	struct kafka_client follow_client;
	rd_kafka_t *consumer;
	rd_kafka_topic_t *topic;
	rd_kafka_queue_t *queue;

	/* The poller's. */
	int64_t next;                     /* Kafka's offset of the record that comes next */
	int64_t fetched;                  /* and of the one that is to be read next; not behind 'next' */
	uint64_t landed_hashes[POLL_MAX]; /* of those in between, by offset */
	bool broken;                      /* there is no going on */
	bool out_of_range;
	int64_t range_check_ms;
	int64_t beyond_since_ms; /* 0: not */
	/* Given out by the last poll. */
	size_t held_count;
	rd_kafka_message_t *held[POLL_MAX];
	struct kafka_entry *lent;

	pthread_mutex_t read_lock; /* one reader of single records at a time */
};

/* Whether a broker has answered lately, by librdkafka's statistics. The thread's. */
static void note_brokers(void *owner, const char *json)
{
	struct kafka_log *log = owner;
	const char *broker = json;
	bool up = false;

	while (!up && (broker = strstr(broker, "\"state\":\"UP\"")) != NULL) {
		const char *idle = strstr(broker, "\"rxidle\":");
		long long us = idle != NULL ? strtoll(idle + strlen("\"rxidle\":"), NULL, 10) : -1;

		up = us >= 0 && us < ANSWER_MAX_IDLE_US;
		broker++;
	}
	metric_set(METRIC_KAFKA_UP, up);
	if (up == log->was_up)
		return;
	log->was_up = up;
	if (up)
		logger_info("kafka", "Kafka answers", LOG_END);
	else
		logger_warn("kafka", "Kafka does not answer: nothing can be written until it does",
		            LOG_END);
}

static void note_end(struct kafka_log *log)
{
	int64_t now = clock_ms();
	int64_t low, high;

	if (now - log->gauged_ms < GAUGE_INTERVAL_MS)
		return;
	log->gauged_ms = now;
	if (rd_kafka_get_watermark_offsets(log->consumer, log->kafka->topics[TOPIC_COMMITS], 0, &low,
	                                   &high) == RD_KAFKA_RESP_ERR_NO_ERROR &&
	    high >= 0)
		metric_set(METRIC_LOG_END, high); /* that of Kafka's next is that of our newest */
}

static void note_trimmed(rd_kafka_event_t *event)
{
	const rd_kafka_DeleteRecords_result_t *result = rd_kafka_event_DeleteRecords_result(event);
	const rd_kafka_topic_partition_list_t *parts;

	if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
		logger_warn("kafka", "log not truncated",
		            LOG_STR("why", rd_kafka_event_error_string(event)));
		return;
	}
	parts = result != NULL ? rd_kafka_DeleteRecords_result_offsets(result) : NULL;
	for (int i = 0; parts != NULL && i < parts->cnt; i++) {
		if (parts->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			logger_warn("kafka", "log not truncated",
			            LOG_STR("why", rd_kafka_err2str(parts->elems[i].err)));
		else
			logger_debug("kafka", "log truncated",
			             LOG_I64("first", parts->elems[i].offset + 1));
	}
}

static void take_trimmed(struct kafka_log *log)
{
	rd_kafka_event_t *event;

	while ((event = rd_kafka_queue_poll(log->trimmed, 0)) != NULL) {
		note_trimmed(event);
		rd_kafka_event_destroy(event);
	}
}

static void *run(void *arg)
{
	struct kafka_log *log = arg;

	while (!atomic_load(&log->stopping)) {
		if (kafka_appender_poll(log->appender))
			rd_kafka_queue_yield(log->queue);
		kafka_appender_go_on(log->appender);
		rd_kafka_poll(log->consumer, 0);
		kafka_serve_admin(log->kafka);
		take_trimmed(log);
		note_end(log);
	}
	kafka_appender_finish(log->appender);
	return NULL;
}

static enum status_code append(struct log *base, const uint8_t *data, size_t len, uint64_t tag)
{
	return kafka_appender_append(((struct kafka_log *)base)->appender, data, len, tag);
}

static void release_held(struct kafka_log *log)
{
	for (size_t i = 0; i < log->held_count; i++)
		rd_kafka_message_destroy(log->held[i]);
	log->held_count = 0;
	kafka_entries_free(log->lent);
	log->lent = NULL;
}

static bool start_fetching(struct kafka_log *log)
{
	if (rd_kafka_consume_start_queue(log->topic, 0, log->fetched, log->queue) == 0)
		return true;
	logger_error("kafka", "log cannot be read",
	             LOG_STR("why", rd_kafka_err2str(rd_kafka_last_error())));
	return false;
}

/* An error that came in the place of a record. Most pass by themselves. */
static void take_error(struct kafka_log *log, const rd_kafka_message_t *message)
{
	switch (message->err) {
	case RD_KAFKA_RESP_ERR__PARTITION_EOF:
		return;
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
	case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
		log->out_of_range = true;
		log->range_check_ms = clock_ms();
		break;
	default:
		break;
	}
	metric_add(METRIC_KAFKA_ERRORS, 1);
	logger_warn("kafka", "log cannot be read now", LOG_STR("why", rd_kafka_message_errstr(message)),
	            LOG_I64("next_offset", log->next + 1));
	kafka_note_refusal(log->kafka, message->err);
}

static void check_hole(struct kafka_log *log, int64_t found)
{
	if (found == log->fetched)
		return;
	logger_error("kafka", "the log has a hole: records are missing from the topic",
	             LOG_STR("topic", log->kafka->topics[TOPIC_COMMITS]),
	             LOG_I64("wanted_offset", log->fetched + 1), LOG_I64("found_offset", found + 1));
	log->broken = true;
}

/* One that was given out when it had landed is to be the same as it is read. */
static void check_landed(struct kafka_log *log, const rd_kafka_message_t *message)
{
	if (XXH3_64bits(message->payload, message->len) == log->landed_hashes[message->offset % POLL_MAX])
		return;
	logger_error("kafka",
	             "the log is not the one that was written: another record stands where one of this "
	             "node's was confirmed",
	             LOG_STR("topic", log->kafka->topics[TOPIC_COMMITS]),
	             LOG_I64("offset", message->offset + 1));
	log->broken = true;
}

/* Takes a message over. */
static void take_message(struct kafka_log *log, rd_kafka_message_t *message, struct log_record *records,
                         size_t *count)
{
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
		take_error(log, message);
	} else if (!log->broken && message->offset >= log->fetched) {
		check_hole(log, message->offset);
		if (!log->broken && message->offset == log->next) {
			records[(*count)++] =
				(struct log_record){++log->next, message->payload, message->len};
			log->held[log->held_count++] = message;
			log->fetched = log->next;
			return;
		}
		if (!log->broken) {
			check_landed(log, message);
			log->fetched++;
		}
	}
	rd_kafka_message_destroy(message);
}

/* Those of this node's that come next and that Kafka has confirmed, as long as not too many are
 * to be read yet. */
static void take_landed(struct kafka_log *log, struct log_record *records, size_t max, size_t *count)
{
	struct kafka_entry *entry;

	while (!log->broken && *count < max && log->next < log->fetched + POLL_MAX &&
	       (entry = kafka_appender_pop(log->appender, log->next)) != NULL) {
		if (entry->offset < log->next) { /* it was read in the meantime */
			free(entry);
			continue;
		}
		log->landed_hashes[log->next % POLL_MAX] = XXH3_64bits(entry->data, entry->len);
		records[(*count)++] = (struct log_record){++log->next, entry->data, entry->len};
		entry->next = log->lent;
		log->lent = entry;
	}
}

static enum status_code range_is_wrong(struct kafka_log *log, const char *what, int64_t low, int64_t high)
{
	logger_error("kafka", what, LOG_STR("topic", log->kafka->topics[TOPIC_COMMITS]),
	             LOG_I64("next_offset", log->next + 1), LOG_I64("first_offset", low + 1),
	             LOG_I64("end_offset", high + 1));
	log->broken = true;
	return STATUS_BAD_LOG;
}

/* Finds out whether the next record is really out of the topic's range. */
static enum status_code check_range(struct kafka_log *log, int timeout_ms)
{
	int64_t now = clock_ms();
	int64_t low, high;

	if (now < log->range_check_ms) {
		int64_t left = log->range_check_ms - now;
		rd_kafka_message_t *message =
			rd_kafka_consume_queue(log->queue, left < timeout_ms ? (int)left : timeout_ms);

		/* Fetching is stopped: nothing that counts can come. */
		if (message != NULL)
			rd_kafka_message_destroy(message);
		return STATUS_OK;
	}
	log->range_check_ms = now + RANGE_INTERVAL_MS;
	if (kafka_watermarks(log->kafka, TOPIC_COMMITS, &low, &high,
	                     timeout_ms < RANGE_INTERVAL_MS ? timeout_ms : RANGE_INTERVAL_MS) != STATUS_OK)
		return STATUS_OK;
	if (log->next < low)
		return range_is_wrong(log, "the next record was deleted from the log", low, high);
	if (log->next > high) {
		if (log->beyond_since_ms == 0)
			log->beyond_since_ms = now;
		else if (now - log->beyond_since_ms >= BEYOND_END_MS)
			return range_is_wrong(log, "the log ends before the next record", low, high);
		return STATUS_OK;
	}
	log->beyond_since_ms = 0;
	if (log->fetched < low) /* those that landed were cut off before they were read */
		log->fetched = low;
	rd_kafka_consume_stop(log->topic, 0);
	log->out_of_range = !start_fetching(log);
	return STATUS_OK;
}

static enum status_code poll_records(struct log *base, struct log_record *records, size_t max,
                                     size_t *count, int timeout_ms)
{
	struct kafka_log *log = (struct kafka_log *)base;
	rd_kafka_message_t *messages[POLL_MAX];
	rd_kafka_message_t *first;
	ssize_t more;

	release_held(log);
	*count = 0;
	if (log->broken || kafka_appender_is_overtaken(log->appender))
		return STATUS_BAD_LOG;
	if (log->out_of_range)
		return timeout_ms > 0 ? check_range(log, timeout_ms) : STATUS_OK;

	if (max > POLL_MAX)
		max = POLL_MAX;
	take_landed(log, records, max, count);
	/* A batch is only waited for until it is full or the time is over, so the first comes alone. */
	first = *count < max ? rd_kafka_consume_queue(log->queue, *count > 0 ? 0 : timeout_ms) : NULL;
	if (first != NULL)
		take_message(log, first, records, count);
	more = first != NULL && *count < max
	               ? rd_kafka_consume_batch_queue(log->queue, 0, messages, max - *count)
	               : 0;
	for (ssize_t i = 0; i < more; i++)
		take_message(log, messages[i], records, count);
	/* Who woke this poll, perhaps. */
	take_landed(log, records, max, count);
	kafka_appender_note_read(log->appender, log->next);
	/* What came before a hole is still good. */
	return log->broken && *count == 0 ? STATUS_BAD_LOG : STATUS_OK;
}

static enum status_code bounds(struct log *base, int64_t *first, int64_t *end)
{
	struct kafka_log *log = (struct kafka_log *)base;
	int64_t low, high;
	enum status_code code = kafka_watermarks(log->kafka, TOPIC_COMMITS, &low, &high, BOUNDS_LIMIT_MS);

	if (code != STATUS_OK)
		return code;
	*first = low + 1;
	*end = high + 1;
	return STATUS_OK;
}

/* Waits for the record at an offset that is there; consuming has been started. */
static enum status_code wait_record(struct kafka_log *log, rd_kafka_topic_t *topic, int64_t offset,
                                    struct buf *out)
{
	int64_t deadline = clock_ms() + log->kafka->options.timeout_ms;
	enum status_code code = STATUS_NO_KAFKA;

	while (code == STATUS_NO_KAFKA && clock_ms() < deadline) {
		rd_kafka_message_t *message = rd_kafka_consume(topic, 0, READ_SLICE_MS);

		if (message == NULL)
			continue;
		if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET) {
			code = STATUS_BAD_LOG;
		} else if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset > offset) {
			code = STATUS_BAD_LOG;
		} else if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset == offset) {
			buf_append(out, message->payload, message->len);
			code = out->failed ? STATUS_NO_MEMORY : STATUS_OK;
		}
		rd_kafka_message_destroy(message);
	}
	return code;
}

static enum status_code read_at(struct log *base, int64_t offset, struct buf *out)
{
	struct kafka_log *log = (struct kafka_log *)base;
	int64_t first, end;
	enum status_code code = bounds(base, &first, &end);
	rd_kafka_topic_t *topic;

	buf_reset(out);
	if (code != STATUS_OK)
		return code;
	if (offset < first || offset >= end)
		return STATUS_BAD_LOG;
	topic = log->kafka->admin_topics[TOPIC_COMMITS];
	pthread_mutex_lock(&log->read_lock);
	if (rd_kafka_consume_start(topic, 0, offset - 1) == 0) {
		code = wait_record(log, topic, offset - 1, out);
		rd_kafka_consume_stop(topic, 0);
	} else {
		code = STATUS_NO_KAFKA;
	}
	pthread_mutex_unlock(&log->read_lock);
	return code;
}

static enum status_code trim(struct log *base, int64_t before)
{
	struct kafka_log *log = (struct kafka_log *)base;
	rd_kafka_topic_partition_list_t *parts;
	rd_kafka_DeleteRecords_t *request;
	rd_kafka_t *rk = kafka_admin(log->kafka);

	if (before <= 1)
		return STATUS_OK;
	if (rk == NULL)
		return STATUS_NO_KAFKA;
	parts = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(parts, log->kafka->topics[TOPIC_COMMITS], 0)->offset = before - 1;
	request = rd_kafka_DeleteRecords_new(parts);
	rd_kafka_topic_partition_list_destroy(parts);
	rd_kafka_DeleteRecords(rk, &request, 1, NULL, log->trimmed);
	rd_kafka_DeleteRecords_destroy(request);
	return STATUS_OK;
}

static void wake(struct log *base)
{
	struct kafka_log *log = (struct kafka_log *)base;

	/* It is remembered if nobody waits just now. */
	rd_kafka_queue_yield(log->queue);
}

/* Everything but the thread; parts may be missing. */
static void free_log(struct kafka_log *log)
{
	release_held(log);
	kafka_appender_free(log->appender);
	if (log->topic != NULL) {
		rd_kafka_consume_stop(log->topic, 0);
		rd_kafka_topic_destroy(log->topic);
	}
	if (log->queue != NULL)
		rd_kafka_queue_destroy(log->queue);
	if (log->consumer != NULL)
		rd_kafka_destroy_flags(log->consumer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	if (log->trimmed != NULL)
		rd_kafka_queue_destroy(log->trimmed);
	pthread_mutex_destroy(&log->read_lock);
	log_release(&log->base);
	free(log);
}

static void close_log(struct log *base)
{
	struct kafka_log *log = (struct kafka_log *)base;

	atomic_store(&log->stopping, true);
	kafka_appender_wake(log->appender);
	pthread_join(log->thread, NULL);
	free_log(log);
}

static const struct log_ops log_kafka = {
	.name = "kafka",
	.shared = true,
	.append = append,
	.poll = poll_records,
	.bounds = bounds,
	.read_at = read_at,
	.trim = trim,
	.wake = wake,
	.close = close_log,
};

static bool make_consumer(struct kafka_log *log)
{
	char errstr[512];
	rd_kafka_conf_t *conf = kafka_conf_new(log->kafka, KAFKA_FOLLOWER, errstr);

	if (conf == NULL) {
		logger_error("kafka", "no client", LOG_STR("why", errstr));
		return false;
	}
	log->consumer = kafka_handle_new(&log->follow_client, KAFKA_FOLLOWER, conf);
	if (log->consumer == NULL)
		return false;
	log->queue = rd_kafka_queue_new(log->consumer);
	log->topic = rd_kafka_topic_new(log->consumer, log->kafka->topics[TOPIC_COMMITS], NULL);
	return log->topic != NULL && start_fetching(log);
}

enum status_code kafka_log_open(struct kafka *kafka, int64_t after, struct log **out)
{
	struct kafka_log *log = calloc(1, sizeof *log);
	rd_kafka_t *admin = kafka_admin(kafka);

	if (log == NULL)
		return STATUS_NO_MEMORY;
	log_init(&log->base, &log_kafka);
	log->was_up = true; /* that it answers need not be said at the start */
	log->kafka = kafka;
	log->follow_client = (struct kafka_client){.kafka = kafka, .owner = log, .stats = note_brokers};
	log->next = log->fetched = after;
	atomic_init(&log->stopping, false);
	pthread_mutex_init(&log->read_lock, NULL);
	if (admin == NULL)
		goto failed;
	log->trimmed = rd_kafka_queue_new(admin);
	if (!make_consumer(log) ||
	    kafka_appender_new(kafka, &log->base, after, &log->appender) != STATUS_OK ||
	    pthread_create(&log->thread, NULL, run, log) != 0)
		goto failed;
	*out = &log->base;
	return STATUS_OK;

failed:
	free_log(log);
	return STATUS_NO_MEMORY;
}
