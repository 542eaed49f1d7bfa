/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The election: a consumer group whose members all want the one partition of a
 * topic that holds nothing. Who is given it is to lead. The assignment is
 * cooperative and sticky, so a node that comes or goes does not take it away from
 * the one that has it.
 *
 * A thread polls, for librdkafka calls us nowhere else, and leaves the group when it is told to.
 *
 * librdkafka 2.0.2 must not be ended between the answers to its first JoinGroup and its first
 * SyncGroup: its assignor would free a state that it does not have yet, and abort. A close waits
 * for that, however long, unless the group's coordinator was never found.
 */
#include "log/kafka.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/logger.h"
#include "log/kafka_internal.h"

enum {
	POLL_MS = 500,
	STATISTICS_MS = 200,  /* by which the thread learns that the group is joined */
	FIND_LIMIT_MS = 5000, /* that a close waits for a group that is not found */
};

struct kafka_election {
	struct election base;
	struct kafka_client client;
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue; /* the consumer's, to end a waiting poll */
	pthread_t thread;
	atomic_bool holds;
	atomic_bool unwilling; /* see election_stand */
	atomic_bool resigned;
	atomic_bool found;  /* the group's coordinator, at least once */
	atomic_bool joined; /* at least once */
};

static void set_holds(struct kafka_election *election, bool holds)
{
	if (atomic_exchange(&election->holds, holds) != holds)
		logger_info("kafka", holds ? "chosen to lead" : "no longer chosen to lead", LOG_END);
}

/* Nothing is ever read: the partition is only held. An offset spares asking for one. */
static void assign_idle(rd_kafka_t *rk, rd_kafka_topic_partition_list_t *partitions)
{
	rd_kafka_error_t *error;

	for (int i = 0; i < partitions->cnt; i++)
		partitions->elems[i].offset = 0;
	error = rd_kafka_incremental_assign(rk, partitions);
	if (error != NULL) {
		logger_warn("kafka", "election", LOG_STR("why", rd_kafka_error_string(error)));
		rd_kafka_error_destroy(error);
	}
	rd_kafka_pause_partitions(rk, partitions);
}

static void rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *partitions,
                      void *opaque)
{
	struct kafka_client *client = opaque;
	struct kafka_election *election = client->owner;
	rd_kafka_error_t *error;

	if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
		atomic_store(&election->joined, true);
		assign_idle(rk, partitions);
		if (partitions->cnt > 0 && !atomic_load(&election->resigned) &&
		    !atomic_load(&election->unwilling))
			set_holds(election, true);
		return;
	}
	/* Given back, or lost because the group went on without us. */
	if (partitions->cnt > 0)
		set_holds(election, false);
	error = rd_kafka_incremental_unassign(rk, partitions);
	if (error != NULL) {
		logger_debug("kafka", "election", LOG_STR("why", rd_kafka_error_string(error)));
		rd_kafka_error_destroy(error);
	}
}

static void note_statistics(void *owner, const char *json)
{
	struct kafka_election *election = owner;
	const char *group = strstr(json, "\"cgrp\":");

	if (group != NULL && strstr(group, "\"state\": \"up\"") != NULL)
		atomic_store(&election->found, true);
	if (group != NULL && strstr(group, "\"join_state\": \"steady\"") != NULL)
		atomic_store(&election->joined, true);
}

static void subscribe(struct kafka_election *election)
{
	rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t err;

	rd_kafka_topic_partition_list_add(topics, election->client.kafka->topics[TOPIC_ELECTION],
	                                  RD_KAFKA_PARTITION_UA);
	err = rd_kafka_subscribe(election->rk, topics);
	rd_kafka_topic_partition_list_destroy(topics);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		logger_error("kafka", "election", LOG_STR("why", rd_kafka_err2str(err)));
}

/* Whether it may be ended, as librdkafka is. */
static bool may_end(const struct kafka_election *election, int64_t resigned_ms)
{
	return atomic_load(&election->joined) ||
	       (!atomic_load(&election->found) && clock_ms() >= resigned_ms + FIND_LIMIT_MS);
}

static void *run(void *arg)
{
	struct kafka_election *election = arg;
	bool stands = false, stood = false;
	int64_t resigned_ms = 0;

	for (;;) {
		bool resigned = atomic_load(&election->resigned);
		rd_kafka_message_t *message;

		if (resigned && resigned_ms == 0)
			resigned_ms = clock_ms();
		if (resigned && (!stood || may_end(election, resigned_ms)))
			break;
		if (stands == atomic_load(&election->unwilling)) {
			stands = !stands;
			stood = true;
			if (stands)
				subscribe(election);
			else
				rd_kafka_unsubscribe(election->rk);
		}
		message = rd_kafka_consumer_poll(election->rk, resigned ? STATISTICS_MS : POLL_MS);
		if (message == NULL)
			continue;
		if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
			logger_warn("kafka", "election", LOG_STR("why", rd_kafka_message_errstr(message)));
		kafka_note_refusal(election->client.kafka, message->err);
		rd_kafka_message_destroy(message);
	}
	/* Leaves the group, so that nobody waits for our session's end. A close alone does
	 * not tell Kafka so when we hold nothing (seen with 2.0.2); to unsubscribe does. */
	rd_kafka_unsubscribe(election->rk);
	rd_kafka_consumer_close(election->rk);
	set_holds(election, false);
	return NULL;
}

static bool holds(struct election *base)
{
	return atomic_load(&((struct kafka_election *)base)->holds);
}

static void stand(struct election *base, bool stands)
{
	struct kafka_election *election = (struct kafka_election *)base;

	if (atomic_exchange(&election->unwilling, !stands) == !stands)
		return;
	if (!stands)
		set_holds(election, false);
	rd_kafka_queue_yield(election->queue);
}

static void resign(struct election *base)
{
	struct kafka_election *election = (struct kafka_election *)base;

	if (atomic_exchange(&election->resigned, true))
		return;
	set_holds(election, false);
	rd_kafka_queue_yield(election->queue);
}

static void close_election(struct election *base)
{
	struct kafka_election *election = (struct kafka_election *)base;

	resign(base);
	pthread_join(election->thread, NULL);
	rd_kafka_queue_destroy(election->queue);
	rd_kafka_destroy(election->rk);
	free(election);
}

static const struct election_ops election_kafka = {
	.holds = holds,
	.stand = stand,
	.resign = resign,
	.close = close_election,
};

static rd_kafka_t *make_voter(struct kafka *kafka, struct kafka_client *client)
{
	char errstr[512];
	char interval[16];
	rd_kafka_conf_t *conf = kafka_conf_new(kafka, KAFKA_VOTER, errstr);

	if (conf == NULL) {
		logger_error("kafka", "no client", LOG_STR("why", errstr));
		return NULL;
	}
	rd_kafka_conf_set_rebalance_cb(conf, rebalance);
	snprintf(interval, sizeof interval, "%d", STATISTICS_MS);
	rd_kafka_conf_set(conf, "statistics.interval.ms", interval, NULL, 0);
	return kafka_handle_new(client, KAFKA_VOTER, conf);
}

enum status_code kafka_election_open(struct kafka *kafka, struct election **out)
{
	struct kafka_election *election = calloc(1, sizeof *election);

	if (election == NULL)
		return STATUS_NO_MEMORY;
	election->base.ops = &election_kafka;
	election->client =
		(struct kafka_client){.kafka = kafka, .owner = election, .stats = note_statistics};
	election->rk = make_voter(kafka, &election->client);
	if (election->rk == NULL)
		goto no_handle;
	rd_kafka_poll_set_consumer(election->rk);
	election->queue = rd_kafka_queue_get_consumer(election->rk);
	if (pthread_create(&election->thread, NULL, run, election) != 0)
		goto failed;
	*out = &election->base;
	return STATUS_OK;

failed:
	rd_kafka_queue_destroy(election->queue);
	rd_kafka_destroy(election->rk);
no_handle:
	free(election);
	return STATUS_NO_MEMORY;
}
