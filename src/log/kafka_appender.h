/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writing half of the log in Kafka: what is appended, what becomes of it, and
 * which records are in the log though they have not been read. The reading half,
 * and owner, is log/kafka_log.c: one thread of its serves the appender, and
 * another, the follower, reads the log.
 */
#ifndef KETA_KAFKA_APPENDER_H
#define KETA_KAFKA_APPENDER_H

#include "log/kafka.h"

struct kafka_appender;

/* A record on its way; librdkafka borrows it until it is delivered. */
struct kafka_entry {
	struct kafka_entry *next; /* in whatever list it is */
	uint64_t tag;
	int64_t since_us;
	int64_t after;  /* Kafka's offset of the record that was to be read next then */
	int64_t offset; /* Kafka's, once it is confirmed */
	size_t len;
	uint8_t data[];
};

/* Says what became of each append by log_tell on 'log'. 'next' is Kafka's offset of the record that
 * will be read next. STATUS_NO_MEMORY: logged. */
enum status_code kafka_appender_new(struct kafka *kafka, struct log *log, int64_t next,
                                    struct kafka_appender **out);
void kafka_appender_free(struct kafka_appender *self);

/* As log_append. Any thread. */
enum status_code kafka_appender_append(struct kafka_appender *self, const uint8_t *data, size_t len,
                                       uint64_t tag);

/* Waits a moment for confirmations, and tells of them. Whether there is news for the follower:
 * records that it can have, or that it was overtaken. The serving thread. */
bool kafka_appender_poll(struct kafka_appender *self);

/* To be called after each poll: what waited for confirmations goes on. The serving thread. */
void kafka_appender_go_on(struct kafka_appender *self);

/* Ends the wait of a poll. Any thread. */
void kafka_appender_wake(struct kafka_appender *self);

/* In the place of the next poll, when nobody appends any more: what is under way has a second to be
 * confirmed, and is told to have timed out else. */
void kafka_appender_finish(struct kafka_appender *self);

/* The oldest record that is known to stand in the log at 'next', or before, without having been
 * read; the caller frees it. Or NULL. The follower. */
struct kafka_entry *kafka_appender_pop(struct kafka_appender *self, int64_t next);

/* All before 'next' were read, or popped. The follower. */
void kafka_appender_note_read(struct kafka_appender *self, int64_t next);

/* A new record was put in front of what had been read when it was appended: the topic is not the one that
 * was read. Any thread. */
bool kafka_appender_is_overtaken(const struct kafka_appender *self);

/* A list of them. */
void kafka_entries_free(struct kafka_entry *entry);

#endif
