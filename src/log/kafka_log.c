/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log as a topic of one partition.
 *
 * Appends go to an idempotent producer, under one lock, so that the order of the
 * calls is the order in the topic. While any are unconfirmed, later ones wait here,
 * and go together when all are: librdkafka, which would not send them before either,
 * lets its thread spin while it has some that must wait. When many append at a time the
 * next lot may gather for a moment besides: a request costs a broker, and everybody on the
 * way back, as much as some dozens of records do. A thread of the log's own
 * tells what became of appends, and does what else has to be done now and then: it
 * replaces a producer that died, answers librdkafka's callbacks and keeps the gauges.
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

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "log/kafka_internal.h"

enum {
	FAILURE_INTERVAL_MS = 10000, /* between two lines about appends that failed */
	POLL_MAX = 1024,
	TICK_MS = 100,       /* of the log's thread, when nothing is delivered */
	GATHER_RECORDS = 16, /* fewer at a time are not worth a delay */
	GATHER_US = 25,      /* that one of many may take to come */
	GATHER_MIN_US = 1000,
	GATHER_MAX_US = 5000,
	HOLD_MS = 300, /* by then librdkafka gets what waits: the confirmation may never come */
	WAITING_MAX_BYTES = 64 << 20,
	LANDED_MAX_BYTES = 4 << 20,
	GAUGE_INTERVAL_MS = 100,
	RESTART_INTERVAL_MS = 1000, /* a new producer that dies at once is not made in a loop */
	RANGE_INTERVAL_MS = 1000,
	BEYOND_END_MS = 30000, /* a follower that became leader has caught up by then */
	CLOSE_FLUSH_MS = 1000,
	READ_SLICE_MS = 100,
	BOUNDS_LIMIT_MS = 5000,
	ANSWER_MAX_IDLE_US = 5000000, /* a fetch is answered each half second */
};

/* A record on its way; librdkafka borrows it until it is delivered. */
struct entry {
	struct entry *next; /* in whatever list it is */
	uint64_t tag;
	int64_t since_us;
	int64_t after;  /* Kafka's offset of the record that was to be read next then */
	int64_t offset; /* Kafka's, once it is confirmed */
	size_t len;
	uint8_t data[];
};

struct producer {
	rd_kafka_t *rk; /* NULL: none */
	rd_kafka_topic_t *topic;
};

struct kafka_log {
	struct log base;
	struct kafka *kafka;

	struct kafka_client append_client;
	pthread_mutex_t append_lock; /* guards what follows, up to 'restarted_ms' */
	struct producer producer;
	size_t under_way; /* records that it has and has not confirmed */
	struct entry *waiting;
	struct entry **last_waiting;
	size_t waiting_bytes;
	size_t waiting_count;
	size_t crowd;            /* records that are on their way at a time, lately */
	int64_t gather_until_us; /* none are under way, and those that wait are to be more; 0: not so */
	struct producer retired; /* to be drained by the thread */
	int64_t restarted_ms;

	size_t delivered; /* by the last poll; the thread's */
	bool has_landed;  /* any of these; the thread's */
	int poll_ms;      /* for the next; the thread's */
	int64_t failures,
		failed_ms; /* appends that failed since it was said, and when that was; the thread's */
	bool was_up;       /* as the statistics told; the thread's */

	/* Records of this node's that Kafka has, on their way to the poller: see take_landed. */
	pthread_mutex_t landed_lock;
	struct entry *landed; /* by offset */
	struct entry **last_landed;
	int64_t landed_end; /* behind the last of all that ever were */
	size_t landed_bytes;

	pthread_t thread;
	atomic_bool stopping;
	rd_kafka_queue_t *trimmed; /* results of DeleteRecords */
	int64_t gauged_ms;         /* the thread's */

	struct kafka_client follow_client;
	rd_kafka_t *consumer;
	rd_kafka_topic_t *topic;
	rd_kafka_queue_t *queue;

	/* The poller's. */
	int64_t next;           /* Kafka's offset of the record that comes next */
	bool broken;            /* there is no going on */
	_Atomic int64_t polled; /* 'next' as of the last poll */
	atomic_bool overtaken;  /* see look_at_offset */
	bool out_of_range;
	int64_t range_check_ms;
	int64_t beyond_since_ms; /* 0: not */
	/* Given out by the last poll. */
	size_t held_count;
	rd_kafka_message_t *held[POLL_MAX];
	struct entry *lent;

	pthread_mutex_t read_lock; /* one reader of single records at a time */
};

/* Very many fail at a time, and for the same reason. */
static void note_failure(struct kafka_log *log, rd_kafka_resp_err_t err)
{
	int64_t now = clock_ms();

	log->failures++;
	if (log->failed_ms != 0 && now - log->failed_ms < FAILURE_INTERVAL_MS)
		return;
	logger_warn("kafka", "appends were not confirmed", LOG_STR("why", rd_kafka_err2str(err)),
	            LOG_I64("appends", log->failures), LOG_END);
	log->failed_ms = now;
	log->failures = 0;
}

/* Tells what became of a record. The thread only. */
static void tell(struct kafka_log *log, const struct entry *entry, rd_kafka_resp_err_t err)
{
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		metric_observe(METRIC_LOG_APPEND_SECONDS, clock_us() - entry->since_us);
	else
		note_failure(log, err);
	kafka_note_refusal(log->kafka, err);
	log_tell(&log->base, entry->tag, err == RD_KAFKA_RESP_ERR_NO_ERROR ? STATUS_OK : STATUS_TIMEOUT);
}

static void finish(struct kafka_log *log, struct entry *entry, rd_kafka_resp_err_t err)
{
	tell(log, entry, err);
	free(entry);
}

/* A record that Kafka has confirmed is what will be read at its offset: the poller need not
 * wait until it is, which takes two more threads to wake. Where it is too far ahead of
 * what was read, it is. True when the entry was taken over. The thread only. */
static bool land(struct kafka_log *log, struct entry *entry)
{
	int64_t ahead = entry->offset - atomic_load(&log->polled);
	bool taken;

	pthread_mutex_lock(&log->landed_lock);
	taken = ahead >= 0 && ahead < POLL_MAX && entry->offset >= log->landed_end &&
	        log->landed_bytes + entry->len <= LANDED_MAX_BYTES;
	if (taken) {
		entry->next = NULL;
		*log->last_landed = entry;
		log->last_landed = &entry->next;
		log->landed_bytes += entry->len;
		log->landed_end = entry->offset + 1;
	}
	pthread_mutex_unlock(&log->landed_lock);
	return taken;
}

/* The next that landed if it has this offset, or is before it. */
static struct entry *pop_landed(struct kafka_log *log, int64_t next)
{
	struct entry *entry;

	pthread_mutex_lock(&log->landed_lock);
	entry = log->landed;
	if (entry != NULL && entry->offset > next)
		entry = NULL;
	if (entry != NULL) {
		log->landed = entry->next;
		log->landed_bytes -= entry->len;
		if (log->landed == NULL)
			log->last_landed = &log->landed;
	}
	pthread_mutex_unlock(&log->landed_lock);
	return entry;
}

/* A new record stands behind all that was read before it was appended, unless the
 * topic is not the one that was read: it was made anew, or has lost its end. */
static void look_at_offset(struct kafka_log *log, const rd_kafka_message_t *message)
{
	const struct entry *entry = message->_private;

	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR || message->offset < 0 ||
	    message->offset >= entry->after || atomic_exchange(&log->overtaken, true))
		return;
	logger_error("kafka", "the log is not the one that was read: a new record stands before older ones",
	             LOG_I64("offset", message->offset + 1), LOG_I64("read_up_to", entry->after));
	rd_kafka_queue_yield(log->queue);
}

static void take_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	struct kafka_client *client = opaque;
	struct kafka_log *log = client->owner;
	struct entry *entry = message->_private;

	(void)rk;
	log->delivered++;
	look_at_offset(log, message);
	if (atomic_load(&log->overtaken) || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
		finish(log, entry, message->err != RD_KAFKA_RESP_ERR_NO_ERROR
		                           ? message->err
		                           : RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
		return;
	}
	/* It is the poller's when it has landed. */
	entry->offset = message->offset;
	tell(log, entry, RD_KAFKA_RESP_ERR_NO_ERROR);
	if (land(log, entry))
		log->has_landed = true;
	else
		free(entry);
}

static bool make_producer(struct kafka_log *log, struct producer *out)
{
	char errstr[512];
	rd_kafka_conf_t *conf = kafka_conf_new(log->kafka, KAFKA_APPENDER, errstr);

	if (conf == NULL) {
		logger_error("kafka", "no client", LOG_STR("why", errstr));
		return false;
	}
	rd_kafka_conf_set_dr_msg_cb(conf, take_delivery);
	out->rk = kafka_handle_new(&log->append_client, KAFKA_APPENDER, conf);
	if (out->rk == NULL)
		return false;
	/* This also makes it ask who leads the partition, before the first append. */
	out->topic = rd_kafka_topic_new(out->rk, log->kafka->topics[TOPIC_COMMITS], NULL);
	if (out->topic == NULL) {
		rd_kafka_destroy(out->rk);
		out->rk = NULL;
		return false;
	}
	return true;
}

/* Tells that whatever is left in a producer has timed out, and ends it. The thread only. */
static void drain_producer(struct producer *producer)
{
	if (producer->rk == NULL)
		return;
	rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	while (rd_kafka_outq_len(producer->rk) > 0)
		rd_kafka_poll(producer->rk, TICK_MS);
	rd_kafka_topic_destroy(producer->topic);
	rd_kafka_destroy(producer->rk);
	producer->rk = NULL;
}

/* Puts a new producer in the place of one that had a fatal error. append_lock is held. */
static bool replace_producer(struct kafka_log *log)
{
	int64_t now = clock_ms();
	struct producer made;
	char errstr[512] = "";

	if (log->retired.rk != NULL || now - log->restarted_ms < RESTART_INTERVAL_MS)
		return false;
	log->restarted_ms = now;
	rd_kafka_fatal_error(log->producer.rk, errstr, sizeof errstr);
	if (!make_producer(log, &made))
		return false;
	/* None of them is to be sent after one that the new producer takes. */
	rd_kafka_purge(log->producer.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	log->retired = log->producer;
	log->producer = made;
	log->under_way = 0;
	metric_add(METRIC_KAFKA_PRODUCER_RESTARTS, 1);
	logger_warn("kafka", "producer restarted", LOG_STR("why", errstr));
	return true;
}

/* Gives a record to the producer, or to a new one if that has died. append_lock is held. */
static rd_kafka_resp_err_t produce(struct kafka_log *log, struct entry *entry)
{
	for (;;) {
		rd_kafka_resp_err_t err;

		if (rd_kafka_produce(log->producer.topic, 0, 0, entry->data, entry->len, NULL, 0, entry) ==
		    0) {
			log->under_way++;
			return RD_KAFKA_RESP_ERR_NO_ERROR;
		}
		err = rd_kafka_last_error();
		if (err != RD_KAFKA_RESP_ERR__FATAL || !replace_producer(log))
			return err;
	}
}

static void hold(struct kafka_log *log, struct entry *entry)
{
	entry->next = NULL;
	*log->last_waiting = entry;
	log->last_waiting = &entry->next;
	log->waiting_bytes += entry->len;
	log->waiting_count++;
}

/* Whether most of those wait that come at a time. (With half of them, twice as many requests
 * cost more than what their overlapping gains.) */
static bool is_gathered(const struct kafka_log *log)
{
	return log->crowd < GATHER_RECORDS || 4 * log->waiting_count >= 3 * log->crowd;
}

/* Gives the producer what waits. append_lock is held. */
static void hand_over(struct kafka_log *log)
{
	while (log->waiting != NULL) {
		struct entry *entry = log->waiting, *next = entry->next;
		const size_t len = entry->len; /* once it is delivered, the thread frees it */

		/* What cannot be taken now, for want of room or of a producer, is tried again. */
		if (produce(log, entry) != RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		log->waiting = next;
		log->waiting_bytes -= len;
		log->waiting_count--;
	}
	log->gather_until_us = 0;
	if (log->waiting == NULL)
		log->last_waiting = &log->waiting;
}

static enum status_code append(struct log *base, const uint8_t *data, size_t len, uint64_t tag)
{
	struct kafka_log *log = (struct kafka_log *)base;
	enum status_code code = STATUS_OK;
	struct entry *entry;

	if ((int64_t)len > log->kafka->max_message_bytes - KAFKA_OVERHEAD_BYTES / 2)
		return STATUS_REQUEST_TOO_LARGE;
	entry = malloc(sizeof *entry + len);
	if (entry == NULL)
		return STATUS_NO_MEMORY;
	entry->tag = tag;
	entry->since_us = clock_us();
	entry->after = atomic_load(&log->polled);
	entry->len = len;
	memcpy(entry->data, data, len);

	pthread_mutex_lock(&log->append_lock);
	if (log->under_way > 0 || log->waiting != NULL || log->gather_until_us != 0) {
		if (log->waiting_bytes + len > WAITING_MAX_BYTES)
			code = STATUS_TOO_MANY_REQUESTS;
		else
			hold(log, entry);
		if (code == STATUS_OK && log->under_way == 0 && is_gathered(log))
			hand_over(log);
	} else {
		rd_kafka_resp_err_t err = produce(log, entry);

		if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			code = STATUS_TOO_MANY_REQUESTS;
		else if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			code = STATUS_NO_KAFKA;
		if (code == STATUS_NO_KAFKA)
			logger_warn("kafka", "append refused", LOG_STR("why", rd_kafka_err2str(err)));
	}
	pthread_mutex_unlock(&log->append_lock);
	if (code != STATUS_OK)
		free(entry);
	return code;
}

/* All are confirmed: the next lot goes, or gathers. append_lock is held. */
static void begin_lot(struct kafka_log *log)
{
	int64_t gather_us = (int64_t)log->crowd * GATHER_US;
	size_t crowd = log->delivered + log->waiting_count;

	if (gather_us < GATHER_MIN_US)
		gather_us = GATHER_MIN_US;
	if (gather_us > GATHER_MAX_US)
		gather_us = GATHER_MAX_US;
	log->crowd = crowd > log->crowd ? crowd : log->crowd - (log->crowd + 7) / 8;
	if (is_gathered(log))
		hand_over(log);
	else
		log->gather_until_us = clock_us() + gather_us;
}

/* Takes out what has waited longer than an append may take. append_lock is held. */
static struct entry *take_expired(struct kafka_log *log)
{
	int64_t limit = clock_us() - log->kafka->options.append_timeout_ms * 1000;
	struct entry *expired = log->waiting;
	struct entry **end = &log->waiting;

	while (*end != NULL && (*end)->since_us < limit) {
		log->waiting_bytes -= (*end)->len;
		log->waiting_count--;
		end = &(*end)->next;
	}
	if (end == &log->waiting)
		return NULL;
	log->waiting = *end;
	*end = NULL;
	if (log->waiting == NULL)
		log->last_waiting = &log->waiting;
	return expired;
}

static void finish_all(struct kafka_log *log, struct entry *entry)
{
	while (entry != NULL) {
		struct entry *next = entry->next;

		finish(log, entry, RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
		entry = next;
	}
}

/* After a poll of a producer: what was delivered makes room for what waits. */
static void go_on(struct kafka_log *log, const rd_kafka_t *polled)
{
	struct entry *expired = NULL;

	pthread_mutex_lock(&log->append_lock);
	if (log->producer.rk == polled)
		log->under_way -= log->delivered;
	if (rd_kafka_fatal_error(log->producer.rk, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
		replace_producer(log);
	if (log->under_way == 0 && log->delivered > 0)
		begin_lot(log);
	else if ((log->gather_until_us != 0 && clock_us() >= log->gather_until_us) ||
	         (log->waiting != NULL && log->gather_until_us == 0 &&
	          (log->under_way == 0 || clock_us() - log->waiting->since_us >= HOLD_MS * 1000)))
		hand_over(log);
	if (log->waiting != NULL)
		expired = take_expired(log);
	log->poll_ms = log->gather_until_us != 0 ? 1 : TICK_MS;
	pthread_mutex_unlock(&log->append_lock);
	finish_all(log, expired);
}

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

static void drain_retired(struct kafka_log *log)
{
	struct producer retired;

	pthread_mutex_lock(&log->append_lock);
	retired = log->retired;
	pthread_mutex_unlock(&log->append_lock);
	if (retired.rk == NULL)
		return;
	drain_producer(&retired);
	/* Only now may the next one retire. */
	pthread_mutex_lock(&log->append_lock);
	log->retired.rk = NULL;
	pthread_mutex_unlock(&log->append_lock);
}

static void *run(void *arg)
{
	struct kafka_log *log = arg;

	while (!atomic_load(&log->stopping)) {
		rd_kafka_t *rk;

		pthread_mutex_lock(&log->append_lock);
		rk = log->producer.rk;
		pthread_mutex_unlock(&log->append_lock);
		log->delivered = 0;
		rd_kafka_poll(rk, log->poll_ms); /* only this thread ends a producer */
		if (log->has_landed)
			rd_kafka_queue_yield(log->queue);
		log->has_landed = false;
		go_on(log, rk);
		drain_retired(log);
		rd_kafka_poll(log->consumer, 0);
		kafka_serve_admin(log->kafka);
		take_trimmed(log);
		note_end(log);
	}
	hand_over(log); /* nobody appends any more */
	rd_kafka_flush(log->producer.rk, CLOSE_FLUSH_MS);
	drain_producer(&log->producer);
	drain_producer(&log->retired);
	finish_all(log, log->waiting);
	return NULL;
}

static void free_entries(struct entry *entry)
{
	while (entry != NULL) {
		struct entry *next = entry->next;

		free(entry);
		entry = next;
	}
}

static void release_held(struct kafka_log *log)
{
	for (size_t i = 0; i < log->held_count; i++)
		rd_kafka_message_destroy(log->held[i]);
	log->held_count = 0;
	free_entries(log->lent);
	log->lent = NULL;
}

static bool start_fetching(struct kafka_log *log)
{
	if (rd_kafka_consume_start_queue(log->topic, 0, log->next, log->queue) == 0)
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

/* Takes a message over. */
static void take_message(struct kafka_log *log, rd_kafka_message_t *message, struct log_record *records,
                         size_t *count)
{
	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
		take_error(log, message);
	} else if (!log->broken && message->offset == log->next) {
		records[(*count)++] = (struct log_record){++log->next, message->payload, message->len};
		log->held[log->held_count++] = message;
		log->beyond_since_ms = 0;
		return;
	} else if (!log->broken && message->offset > log->next) {
		logger_error("kafka", "the log has a hole: records are missing from the topic",
		             LOG_STR("topic", log->kafka->topics[TOPIC_COMMITS]),
		             LOG_I64("wanted_offset", log->next + 1),
		             LOG_I64("found_offset", message->offset + 1));
		log->broken = true;
	}
	rd_kafka_message_destroy(message);
}

/* Those of this node's that come next and that Kafka has confirmed. When they are read they
 * are dropped, as all that was given out before. */
static void take_landed(struct kafka_log *log, struct log_record *records, size_t max, size_t *count)
{
	struct entry *entry;

	while (!log->broken && *count < max && (entry = pop_landed(log, log->next)) != NULL) {
		if (entry->offset < log->next) { /* it was read in the meantime */
			free(entry);
			continue;
		}
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
	if (log->broken || atomic_load(&log->overtaken))
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
	atomic_store(&log->polled, log->next);
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

/* Everything but the thread and the producers; parts may be missing. */
static void free_log(struct kafka_log *log)
{
	release_held(log);
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
	free_entries(log->landed);
	pthread_mutex_destroy(&log->append_lock);
	pthread_mutex_destroy(&log->landed_lock);
	pthread_mutex_destroy(&log->read_lock);
	log_release(&log->base);
	free(log);
}

static void close_log(struct log *base)
{
	struct kafka_log *log = (struct kafka_log *)base;
	rd_kafka_queue_t *main_queue;

	atomic_store(&log->stopping, true);
	pthread_mutex_lock(&log->append_lock);
	main_queue = rd_kafka_queue_get_main(log->producer.rk);
	pthread_mutex_unlock(&log->append_lock);
	rd_kafka_queue_yield(main_queue);
	rd_kafka_queue_destroy(main_queue);
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
	log->append_client = (struct kafka_client){.kafka = kafka, .owner = log};
	log->follow_client = (struct kafka_client){.kafka = kafka, .owner = log, .stats = note_brokers};
	log->next = after;
	atomic_init(&log->polled, after);
	log->last_waiting = &log->waiting;
	log->last_landed = &log->landed;
	atomic_init(&log->stopping, false);
	pthread_mutex_init(&log->append_lock, NULL);
	pthread_mutex_init(&log->landed_lock, NULL);
	pthread_mutex_init(&log->read_lock, NULL);
	if (admin == NULL)
		goto failed;
	log->trimmed = rd_kafka_queue_new(admin);
	if (!make_consumer(log) || !make_producer(log, &log->producer))
		goto failed;
	if (pthread_create(&log->thread, NULL, run, log) != 0) {
		drain_producer(&log->producer);
		goto failed;
	}
	*out = &log->base;
	return STATUS_OK;

failed:
	free_log(log);
	return STATUS_NO_MEMORY;
}
