/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appends go to an idempotent producer, under one lock, so that the order of the
 * calls is the order in the topic. While any are unconfirmed, later ones wait here,
 * and go together when all are: librdkafka, which would not send them before either,
 * lets its thread spin while it has some that must wait. When many append at a time the
 * next lot may gather for a moment besides: a request costs a broker, and everybody on the
 * way back, as much as some dozens of records do. There are two producers, but all that
 * are unconfirmed at a time are with one. A producer that died is replaced.
 */
#include "log/kafka_appender.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "log/kafka_internal.h"

#define LINGER_MS "20"

enum {
	FAILURE_INTERVAL_MS = 10000, /* between two lines about appends that failed */
	TICK_MS = 100,               /* of a poll, when nothing is delivered */
	GATHER_RECORDS = 16,         /* fewer at a time are not worth a delay */
	GATHER_US = 25,              /* that one of many may take to come */
	GATHER_MIN_US = 1000,
	GATHER_MAX_US = 5000,
	HOLD_MS = 300, /* by then librdkafka gets what waits: the confirmation may never come */
	WAITING_MAX_BYTES = 64 << 20,
	RESTART_INTERVAL_MS = 1000, /* a new producer that dies at once is not made in a loop */
	CLOSE_FLUSH_MS = 1000,
	AT_ONCE_MAX = 4, /* librdkafka sends another request while no more records are unconfirmed */
	/* What may be kept for the follower, and how far ahead of him: what is further does not wait for
	 * its confirmation, but for what comes before. */
	LANDED_MAX_BYTES = 4 << 20,
	LANDED_MAX_AHEAD = 1024,
};

struct producer {
	rd_kafka_t *rk; /* NULL: none */
	rd_kafka_topic_t *topic;
};

/* A producer that sends what it gets at once, and one that waits until it is flushed. Of a large
 * lot the first would send what has come when its thread wakes, and the rest when that is confirmed,
 * polling without a pause until then. */
enum way { AT_ONCE, FLUSHED, WAYS };

struct kafka_appender {
	struct kafka *kafka;
	struct log *log;
	struct kafka_client client;

	pthread_mutex_t lock; /* guards what follows, up to 'restarted_ms' */
	struct producer producers[WAYS];
	enum way current; /* who has the records that are under way */
	size_t under_way; /* records that it has and has not confirmed */
	struct kafka_entry *waiting;
	struct kafka_entry **last_waiting;
	size_t waiting_bytes;
	size_t waiting_count;
	size_t crowd;            /* records that are on their way at a time, lately */
	int64_t gather_until_us; /* none are under way, and those that wait are to be more; 0: not so */
	struct producer retired; /* to be drained */
	int64_t restarted_ms;

	/* The serving thread's. */
	rd_kafka_t *polled;          /* lately */
	size_t delivered;            /* by that poll */
	bool has_news;               /* for the follower, from it */
	int poll_ms;                 /* for the next */
	int64_t failures, failed_ms; /* appends that failed since it was said, and when that was */

	pthread_mutex_t landed_lock; /* guards what follows, up to 'landed_bytes' */
	struct kafka_entry *landed;  /* by offset */
	struct kafka_entry **last_landed;
	int64_t landed_end; /* behind the last of all that ever were */
	size_t landed_bytes;

	_Atomic int64_t read_up_to; /* Kafka's offset of the record that the follower gets next */
	atomic_bool overtaken;      /* see look_at_offset */
};

/* Very many fail at a time, and for the same reason. */
static void note_failure(struct kafka_appender *self, rd_kafka_resp_err_t err)
{
	int64_t now = clock_ms();

	self->failures++;
	if (self->failed_ms != 0 && now - self->failed_ms < FAILURE_INTERVAL_MS)
		return;
	logger_warn("kafka", "appends were not confirmed", LOG_STR("why", rd_kafka_err2str(err)),
	            LOG_I64("appends", self->failures), LOG_END);
	self->failed_ms = now;
	self->failures = 0;
}

/* Tells what became of a record. The serving thread only. */
static void tell(struct kafka_appender *self, const struct kafka_entry *entry, rd_kafka_resp_err_t err)
{
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		metric_observe(METRIC_LOG_APPEND_SECONDS, clock_us() - entry->since_us);
	else
		note_failure(self, err);
	kafka_note_refusal(self->kafka, err);
	log_tell(self->log, entry->tag, err == RD_KAFKA_RESP_ERR_NO_ERROR ? STATUS_OK : STATUS_TIMEOUT);
}

static void finish(struct kafka_appender *self, struct kafka_entry *entry, rd_kafka_resp_err_t err)
{
	tell(self, entry, err);
	free(entry);
}

/* A record that Kafka has confirmed is what will be read at its offset: the follower need not
 * wait until it is, which takes two more threads to wake. One that is too far ahead of what
 * was read is not kept. True when the entry was taken over. The serving thread only. */
static bool land(struct kafka_appender *self, struct kafka_entry *entry)
{
	int64_t ahead = entry->offset - atomic_load(&self->read_up_to);
	bool taken;

	pthread_mutex_lock(&self->landed_lock);
	taken = ahead >= 0 && ahead < LANDED_MAX_AHEAD && entry->offset >= self->landed_end &&
	        self->landed_bytes + entry->len <= LANDED_MAX_BYTES;
	if (taken) {
		entry->next = NULL;
		*self->last_landed = entry;
		self->last_landed = &entry->next;
		self->landed_bytes += entry->len;
		self->landed_end = entry->offset + 1;
	}
	pthread_mutex_unlock(&self->landed_lock);
	return taken;
}

struct kafka_entry *kafka_appender_pop(struct kafka_appender *self, int64_t next)
{
	struct kafka_entry *entry;

	pthread_mutex_lock(&self->landed_lock);
	entry = self->landed;
	if (entry != NULL && entry->offset > next)
		entry = NULL;
	if (entry != NULL) {
		self->landed = entry->next;
		self->landed_bytes -= entry->len;
		if (self->landed == NULL)
			self->last_landed = &self->landed;
	}
	pthread_mutex_unlock(&self->landed_lock);
	return entry;
}

/* Kafka's offset, or -1. librdkafka makes one up when the broker has only said that it has the record
 * already, but no time: that comes with the offset, from the broker alone (the topic's
 * message.timestamp.type). */
static int64_t offset_of(const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;

	if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR || message->offset < 0 ||
	    rd_kafka_message_timestamp(message, &type) < 0 || type != RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME)
		return -1;
	return message->offset;
}

/* A new record stands behind all that was read before it was appended, unless the
 * topic is not the one that was read: it was made anew, or has lost its end. */
static void look_at_offset(struct kafka_appender *self, const struct kafka_entry *entry)
{
	if (entry->offset < 0 || entry->offset >= entry->after || atomic_exchange(&self->overtaken, true))
		return;
	logger_error("kafka", "the log is not the one that was read: a new record stands before older ones",
	             LOG_I64("offset", entry->offset + 1), LOG_I64("read_up_to", entry->after));
	self->has_news = true;
}

static void take_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
	struct kafka_client *client = opaque;
	struct kafka_appender *self = client->owner;
	struct kafka_entry *entry = message->_private;

	(void)rk;
	self->delivered++;
	entry->offset = offset_of(message);
	look_at_offset(self, entry);
	if (atomic_load(&self->overtaken) || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
		finish(self, entry,
		       message->err != RD_KAFKA_RESP_ERR_NO_ERROR ? message->err
		                                                  : RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
		return;
	}
	/* It is the follower's when it has landed. */
	tell(self, entry, RD_KAFKA_RESP_ERR_NO_ERROR);
	if (land(self, entry))
		self->has_news = true;
	else
		free(entry);
}

static bool make_producer(struct kafka_appender *self, enum way way, struct producer *out)
{
	char errstr[512];
	rd_kafka_conf_t *conf = kafka_conf_new(self->kafka, KAFKA_APPENDER, errstr);

	if (conf == NULL) {
		logger_error("kafka", "no client", LOG_STR("why", errstr));
		return false;
	}
	rd_kafka_conf_set_dr_msg_cb(conf, take_delivery);
	/* Should it not be flushed for once, that is when it sends. */
	if (way == FLUSHED)
		rd_kafka_conf_set(conf, "linger.ms", LINGER_MS, errstr, sizeof errstr);
	out->rk = kafka_handle_new(&self->client, KAFKA_APPENDER, conf);
	if (out->rk == NULL)
		return false;
	/* This also makes it ask who leads the partition, before the first append. */
	out->topic = rd_kafka_topic_new(out->rk, self->kafka->topics[TOPIC_COMMITS], NULL);
	if (out->topic == NULL) {
		rd_kafka_destroy(out->rk);
		out->rk = NULL;
		return false;
	}
	return true;
}

/* Tells that whatever is left in a producer has timed out, and ends it. The serving thread only. */
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

/* Puts a new producer in the place of one that had a fatal error. The lock is held. */
static bool replace_producer(struct kafka_appender *self, enum way way)
{
	struct producer *producer = &self->producers[way];
	int64_t now = clock_ms();
	struct producer made;
	char errstr[512] = "";

	if (self->retired.rk != NULL || now - self->restarted_ms < RESTART_INTERVAL_MS)
		return false;
	self->restarted_ms = now;
	rd_kafka_fatal_error(producer->rk, errstr, sizeof errstr);
	if (!make_producer(self, way, &made))
		return false;
	/* None of them is to be sent after one that the new producer takes. */
	rd_kafka_purge(producer->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	self->retired = *producer;
	*producer = made;
	if (way == self->current)
		self->under_way = 0;
	metric_add(METRIC_KAFKA_PRODUCER_RESTARTS, 1);
	logger_warn("kafka", "producer restarted", LOG_STR("why", errstr));
	return true;
}

/* Gives a record to the producer, or to a new one if that has died. The lock is held. */
static rd_kafka_resp_err_t produce(struct kafka_appender *self, struct kafka_entry *entry)
{
	for (;;) {
		rd_kafka_resp_err_t err;

		if (rd_kafka_produce(self->producers[self->current].topic, 0, 0, entry->data, entry->len,
		                     NULL, 0, entry) == 0) {
			self->under_way++;
			return RD_KAFKA_RESP_ERR_NO_ERROR;
		}
		err = rd_kafka_last_error();
		if (err != RD_KAFKA_RESP_ERR__FATAL || !replace_producer(self, self->current))
			return err;
	}
}

static void hold(struct kafka_appender *self, struct kafka_entry *entry)
{
	entry->next = NULL;
	*self->last_waiting = entry;
	self->last_waiting = &entry->next;
	self->waiting_bytes += entry->len;
	self->waiting_count++;
}

/* Whether most of those wait that come at a time. (With half of them, twice as many requests
 * cost more than what their overlapping gains.) */
static bool is_gathered(const struct kafka_appender *self)
{
	return self->crowd < GATHER_RECORDS || 4 * self->waiting_count >= 3 * self->crowd;
}

/* Ends the wait of a poll. The lock is held. */
static void wake(struct kafka_appender *self)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_get_main(self->producers[AT_ONCE].rk);

	rd_kafka_queue_yield(queue);
	rd_kafka_queue_destroy(queue);
}

/* Gives the producer what waits. The lock is held. */
static void hand_over(struct kafka_appender *self)
{
	if (self->under_way == 0)
		self->current = self->waiting_count > AT_ONCE_MAX ? FLUSHED : AT_ONCE;
	while (self->waiting != NULL) {
		struct kafka_entry *entry = self->waiting, *next = entry->next;
		const size_t len = entry->len; /* once it is delivered, the thread frees it */

		/* What cannot be taken now, for want of room or of a producer, is tried again. */
		if (produce(self, entry) != RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		self->waiting = next;
		self->waiting_bytes -= len;
		self->waiting_count--;
	}
	if (self->current == FLUSHED && self->under_way > 0)
		wake(self); /* the serving thread is to flush it */
	self->gather_until_us = 0;
	if (self->waiting == NULL)
		self->last_waiting = &self->waiting;
}

enum status_code kafka_appender_append(struct kafka_appender *self, const uint8_t *data, size_t len,
                                       uint64_t tag)
{
	enum status_code code = STATUS_OK;
	struct kafka_entry *entry;

	if ((int64_t)len > self->kafka->max_message_bytes - KAFKA_OVERHEAD_BYTES / 2)
		return STATUS_REQUEST_TOO_LARGE;
	entry = malloc(sizeof *entry + len);
	if (entry == NULL)
		return STATUS_NO_MEMORY;
	entry->tag = tag;
	entry->since_us = clock_us();
	entry->after = atomic_load(&self->read_up_to);
	entry->len = len;
	memcpy(entry->data, data, len);

	pthread_mutex_lock(&self->lock);
	if (self->under_way > 0 || self->waiting != NULL || self->gather_until_us != 0) {
		if (self->waiting_bytes + len > WAITING_MAX_BYTES)
			code = STATUS_TOO_MANY_REQUESTS;
		else
			hold(self, entry);
		if (code == STATUS_OK && self->under_way == 0 && is_gathered(self))
			hand_over(self);
	} else {
		rd_kafka_resp_err_t err;

		self->current = AT_ONCE;
		err = produce(self, entry);
		if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			code = STATUS_TOO_MANY_REQUESTS;
		else if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			code = STATUS_NO_KAFKA;
		if (code == STATUS_NO_KAFKA)
			logger_warn("kafka", "append refused", LOG_STR("why", rd_kafka_err2str(err)));
	}
	pthread_mutex_unlock(&self->lock);
	if (code != STATUS_OK)
		free(entry);
	return code;
}

/* All are confirmed: the next lot goes, or gathers. The lock is held. */
static void begin_lot(struct kafka_appender *self)
{
	int64_t gather_us = (int64_t)self->crowd * GATHER_US;
	size_t crowd = self->delivered + self->waiting_count;

	if (gather_us < GATHER_MIN_US)
		gather_us = GATHER_MIN_US;
	if (gather_us > GATHER_MAX_US)
		gather_us = GATHER_MAX_US;
	self->crowd = crowd > self->crowd ? crowd : self->crowd - (self->crowd + 7) / 8;
	if (is_gathered(self))
		hand_over(self);
	else
		self->gather_until_us = clock_us() + gather_us;
}

/* Takes out what has waited longer than an append may take. The lock is held. */
static struct kafka_entry *take_expired(struct kafka_appender *self)
{
	int64_t limit = clock_us() - self->kafka->options.append_timeout_ms * 1000;
	struct kafka_entry *expired = self->waiting;
	struct kafka_entry **end = &self->waiting;

	while (*end != NULL && (*end)->since_us < limit) {
		self->waiting_bytes -= (*end)->len;
		self->waiting_count--;
		end = &(*end)->next;
	}
	if (end == &self->waiting)
		return NULL;
	self->waiting = *end;
	*end = NULL;
	if (self->waiting == NULL)
		self->last_waiting = &self->waiting;
	return expired;
}

static void finish_all(struct kafka_appender *self, struct kafka_entry *entry)
{
	while (entry != NULL) {
		struct kafka_entry *next = entry->next;

		finish(self, entry, RD_KAFKA_RESP_ERR__MSG_TIMED_OUT);
		entry = next;
	}
}

/* What was delivered makes room for what waits. */
static void go_on(struct kafka_appender *self)
{
	struct kafka_entry *expired = NULL;

	pthread_mutex_lock(&self->lock);
	if (self->producers[self->current].rk == self->polled)
		self->under_way -= self->delivered;
	for (enum way way = AT_ONCE; way < WAYS; way++)
		if (rd_kafka_fatal_error(self->producers[way].rk, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
			replace_producer(self, way);
	if (self->under_way == 0 && self->delivered > 0)
		begin_lot(self);
	else if ((self->gather_until_us != 0 && clock_us() >= self->gather_until_us) ||
	         (self->waiting != NULL && self->gather_until_us == 0 &&
	          (self->under_way == 0 || clock_us() - self->waiting->since_us >= HOLD_MS * 1000)))
		hand_over(self);
	if (self->waiting != NULL)
		expired = take_expired(self);
	self->poll_ms = self->gather_until_us != 0 ? 1 : TICK_MS;
	pthread_mutex_unlock(&self->lock);
	finish_all(self, expired);
}

static void drain_retired(struct kafka_appender *self)
{
	struct producer retired;

	pthread_mutex_lock(&self->lock);
	retired = self->retired;
	pthread_mutex_unlock(&self->lock);
	if (retired.rk == NULL)
		return;
	drain_producer(&retired);
	/* Only now may the next one retire. */
	pthread_mutex_lock(&self->lock);
	self->retired.rk = NULL;
	pthread_mutex_unlock(&self->lock);
}

bool kafka_appender_poll(struct kafka_appender *self)
{
	enum way way;
	rd_kafka_t *other;
	bool has_news;

	/* Only this thread ends a producer. */
	pthread_mutex_lock(&self->lock);
	way = self->current == FLUSHED && self->under_way > 0 ? FLUSHED : AT_ONCE;
	self->polled = self->producers[way].rk;
	other = self->producers[way == FLUSHED ? AT_ONCE : FLUSHED].rk;
	pthread_mutex_unlock(&self->lock);
	self->delivered = 0;
	rd_kafka_poll(other, 0); /* errors, statistics; and of a lot that it got since */
	if (self->delivered > 0)
		self->polled = other;
	else if (way == FLUSHED)
		rd_kafka_flush(self->polled, TICK_MS);
	else
		rd_kafka_poll(self->polled, self->poll_ms);
	has_news = self->has_news;
	self->has_news = false; /* what comes while a producer is drained is told of next time */
	return has_news;
}

void kafka_appender_go_on(struct kafka_appender *self)
{
	go_on(self);
	drain_retired(self);
}

void kafka_appender_wake(struct kafka_appender *self)
{
	pthread_mutex_lock(&self->lock);
	wake(self);
	pthread_mutex_unlock(&self->lock);
}

void kafka_appender_finish(struct kafka_appender *self)
{
	hand_over(self); /* nobody appends any more */
	rd_kafka_flush(self->producers[self->current].rk, CLOSE_FLUSH_MS);
	drain_producer(&self->producers[AT_ONCE]);
	drain_producer(&self->producers[FLUSHED]);
	drain_producer(&self->retired);
	finish_all(self, self->waiting);
	self->waiting = NULL;
}

void kafka_appender_note_read(struct kafka_appender *self, int64_t next)
{
	atomic_store(&self->read_up_to, next);
}

bool kafka_appender_is_overtaken(const struct kafka_appender *self)
{
	return atomic_load(&self->overtaken);
}

enum status_code kafka_appender_new(struct kafka *kafka, struct log *log, int64_t next,
                                    struct kafka_appender **out)
{
	struct kafka_appender *self = calloc(1, sizeof *self);

	if (self == NULL)
		return STATUS_NO_MEMORY;
	self->kafka = kafka;
	self->log = log;
	self->client = (struct kafka_client){.kafka = kafka, .owner = self};
	self->last_waiting = &self->waiting;
	self->last_landed = &self->landed;
	atomic_init(&self->read_up_to, next);
	pthread_mutex_init(&self->lock, NULL);
	pthread_mutex_init(&self->landed_lock, NULL);
	if (!make_producer(self, AT_ONCE, &self->producers[AT_ONCE]) ||
	    !make_producer(self, FLUSHED, &self->producers[FLUSHED])) {
		kafka_appender_free(self);
		return STATUS_NO_MEMORY;
	}
	*out = self;
	return STATUS_OK;
}

void kafka_appender_free(struct kafka_appender *self)
{
	if (self == NULL)
		return;
	drain_producer(&self->producers[AT_ONCE]);
	drain_producer(&self->producers[FLUSHED]);
	kafka_entries_free(self->landed);
	pthread_mutex_destroy(&self->lock);
	pthread_mutex_destroy(&self->landed_lock);
	free(self);
}

void kafka_entries_free(struct kafka_entry *entry)
{
	while (entry != NULL) {
		struct kafka_entry *next = entry->next;

		free(entry);
		entry = next;
	}
}
