/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The topics. They are made by us, before anything else names them, so that no
 * broker makes them with settings of its own; then what they are is compared with
 * what they must be. Nothing is ever repaired: a setting that somebody changed is
 * told with the command that changes it back, and may have cost records already.
 */
#include "log/kafka.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/logger.h"
#include "log/kafka_internal.h"

enum {
	/* How long one request waits for its answer: at first little, so that canceling is quick. */
	SLICE_MS = 250,
	SLICE_MAX_MS = 4000,
	EVENT_SLICE_MS = 100,
	PAUSE_MS = 50,
	WAIT_LOG_MS = 5000,
	REFUSED_MS = 5000, /* a login that has just been made may take a moment to be known everywhere */
	CHECK_LIMIT_MS = 10000, /* it is asked again before long */
	BROKERS_MS = 10000,     /* brokers that start with us may take one to be counted */
	WANTED_MAX = 8,
	IDS_MAX = 32,
	DELETE_RETENTION_MADE_MS = 86400000,
	DELETE_RETENTION_LEAST_MS = 3600000, /* a node that builds itself anew must see each row go */
};

#define REPLICATION_KEY "kafkacache.topic.replication.factor"

/* A setting that a topic must have. */
struct wanted {
	const char *name;
	bool at_least; /* a number that may be larger */
	char value[24];
	char made[24]; /* as we make it */
};

/* A topic as Kafka has it. */
struct found {
	rd_kafka_resp_err_t err; /* of the topic or its partition; NO_ERROR: it is there and has a leader */
	bool exists;
	int partitions;
	int replicas; /* of partition 0 */
};

struct check {
	struct kafka *kafka;
	rd_kafka_t *rk;
	int64_t begun_ms, deadline_ms;
	int64_t told_ms;
	int slice_ms;
	const volatile bool *canceled;
	enum kafka_missing missing;
	int missing_count;
	struct buf *why;
	bool bad;
	struct found topics[TOPIC_COUNT];
	int broker_count;
	int32_t brokers[IDS_MAX];
};

static void want_text(struct wanted *list, size_t *count, const char *name, const char *value)
{
	struct wanted *wanted = &list[(*count)++];

	wanted->name = name;
	wanted->at_least = false;
	snprintf(wanted->value, sizeof wanted->value, "%s", value);
	memcpy(wanted->made, wanted->value, sizeof wanted->made);
}

static void want(struct wanted *list, size_t *count, const char *name, bool at_least, int64_t value)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRId64, value);
	want_text(list, count, name, text);
	list[*count - 1].at_least = at_least;
}

/* What a topic with so many replicas must have. */
static size_t list_wanted(const struct kafka *kafka, enum kafka_topic topic, int replicas,
                          struct wanted list[WANTED_MAX])
{
	size_t count = 0;

	if (topic == TOPIC_COMMITS) {
		want_text(list, &count, "cleanup.policy", "delete");
		want(list, &count, "retention.ms", false, -1);
		want(list, &count, "retention.bytes", false, -1);
		want_text(list, &count, "message.timestamp.type", "LogAppendTime");
	} else if (topic != TOPIC_ELECTION) {
		want_text(list, &count, "cleanup.policy", "compact");
		want(list, &count, "delete.retention.ms", true, DELETE_RETENTION_LEAST_MS);
		snprintf(list[count - 1].made, sizeof list[count - 1].made, "%d", DELETE_RETENTION_MADE_MS);
	}
	want(list, &count, "min.insync.replicas", true, replicas / 2 + 1);
	want_text(list, &count, "unclean.leader.election.enable", "false");
	want(list, &count, "max.message.bytes", true, kafka->max_message_bytes);
	return count;
}

/* --- what is said --- */

static void complain(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Begins a line; what is appended to 'why' goes on with it. */
static void complain(struct check *check, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (check->why->len > 0)
		buf_append_byte(check->why, '\n');
	buf_append_text(check->why, text);
	check->bad = true;
}

/* ": kafka-NAME.sh --bootstrap-server ..." */
static void append_command(struct check *check, const char *name)
{
	const char *protocol = kafka_property(check->kafka, "security.protocol");

	buf_printf(check->why, "kafka-%s.sh --bootstrap-server %s", name, check->kafka->options.servers);
	/* The tools need a login too, one that may change topics. */
	if (protocol != NULL && strcasecmp(protocol, "plaintext") != 0)
		buf_append_text(check->why, " --command-config admin.properties");
}

static void append_acl(struct check *check, const char *operation)
{
	buf_append_text(check->why, ": ");
	append_command(check, "acls");
	buf_printf(check->why,
	           " --add --allow-principal User:%s --operation %s --topic %s"
	           " --resource-pattern-type prefixed",
	           kafka_property(check->kafka, "sasl.username") != NULL
	                   ? kafka_property(check->kafka, "sasl.username")
	                   : "NAME",
	           operation, check->kafka->options.prefix);
}

static void complain_setting(struct check *check, const char *topic, const char *name, const char *found,
                             const char *relation, const char *wanted)
{
	complain(check, "topic %s: %s is %s, must be %s%s: ", topic, name, found, relation, wanted);
	append_command(check, "configs");
	buf_printf(check->why, " --alter --entity-type topics --entity-name %s --add-config %s=%s", topic,
	           name, wanted);
}

static void complain_replicas(struct check *check, const char *topic, int found)
{
	int factor = check->kafka->options.replication_factor;

	complain(check,
	         "topic %s: it has %d replica%s, must have at least %d (" REPLICATION_KEY "): ", topic,
	         found, found == 1 ? "" : "s", factor);
	if (check->broker_count < factor) {
		buf_printf(check->why, "Kafka has %d broker%s: start more, or lower the property",
		           check->broker_count, check->broker_count == 1 ? "" : "s");
		return;
	}
	buf_printf(check->why,
	           "echo '{\"version\":1,\"partitions\":[{\"topic\":\"%s\",\"partition\":0,\"replicas\":[",
	           topic);
	for (int i = 0; i < factor && i < IDS_MAX; i++)
		buf_printf(check->why, "%s%" PRId32, i == 0 ? "" : ",", check->brokers[i]);
	buf_append_text(check->why, "]}]}' >move.json && ");
	append_command(check, "reassign-partitions");
	buf_append_text(check->why, " --reassignment-json-file move.json --execute --additional");
}

/* --- asking --- */

static bool is_over(const struct check *check)
{
	return clock_ms() >= check->deadline_ms || (check->canceled != NULL && *check->canceled);
}

static int slice(const struct check *check, int most_ms)
{
	int64_t left = check->deadline_ms - clock_ms();

	return left < 1 ? 1 : left < most_ms ? (int)left : most_ms;
}

/* Lets a moment pass, serving what the handle has to say. */
static void pause_check(struct check *check)
{
	rd_kafka_poll(check->rk, slice(check, PAUSE_MS));
}

static rd_kafka_event_t *wait_event(struct check *check, rd_kafka_queue_t *queue)
{
	rd_kafka_event_t *event = NULL;

	while (event == NULL && !is_over(check))
		event = rd_kafka_queue_poll(queue, slice(check, EVENT_SLICE_MS));
	return event;
}

static void note_topic(struct found *found, const struct rd_kafka_metadata_topic *topic)
{
	*found = (struct found){.err = topic->err, .exists = topic->err == RD_KAFKA_RESP_ERR_NO_ERROR};
	if (!found->exists) {
		/* It is there, but nobody leads any of its partitions at this moment. */
		found->exists = topic->err == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
		return;
	}
	found->partitions = topic->partition_cnt;
	found->err = topic->partition_cnt > 0 ? RD_KAFKA_RESP_ERR_NO_ERROR
	                                      : RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
	for (int i = 0; i < topic->partition_cnt; i++) {
		const struct rd_kafka_metadata_partition *partition = &topic->partitions[i];

		if (partition->id != 0)
			continue;
		found->replicas = partition->replica_cnt;
		if (partition->leader < 0)
			found->err = RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE;
	}
}

static rd_kafka_resp_err_t ask_topic(struct check *check, enum kafka_topic topic)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t err = rd_kafka_metadata(check->rk, 0, check->kafka->admin_topics[topic],
	                                            &metadata, slice(check, check->slice_ms));

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return err;
	check->broker_count = metadata->broker_cnt;
	for (int i = 0; i < metadata->broker_cnt && i < IDS_MAX; i++)
		check->brokers[i] = metadata->brokers[i].id;
	if (metadata->topic_cnt == 1)
		note_topic(&check->topics[topic], &metadata->topics[0]);
	rd_kafka_metadata_destroy(metadata);
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void note_cluster_id(struct check *check)
{
	struct kafka *kafka = check->kafka;
	char *id;

	if (kafka->cluster_id != NULL)
		return;
	id = rd_kafka_clusterid(check->rk, slice(check, check->slice_ms));
	if (id == NULL)
		return;
	pthread_mutex_lock(&kafka->lock);
	if (kafka->cluster_id == NULL)
		kafka->cluster_id = strdup(id);
	pthread_mutex_unlock(&kafka->lock);
	rd_kafka_mem_free(check->rk, id);
}

/* No answer: says why, when it is time to give up. */
static enum status_code no_answer(struct check *check, rd_kafka_resp_err_t err, bool *again)
{
	char failure[KAFKA_FAILURE_BYTES];
	bool refused;
	int64_t now;

	pause_check(check);
	if (check->slice_ms < SLICE_MAX_MS)
		check->slice_ms *= 2;
	now = clock_ms();
	refused = kafka_last_failure(check->kafka, failure, sizeof failure);
	*again = !is_over(check) && !(refused && now - check->begun_ms >= REFUSED_MS);
	if (*again) {
		if (now - check->told_ms >= WAIT_LOG_MS) {
			check->told_ms = now;
			logger_warn("kafka", "waiting for Kafka",
			            LOG_STR("servers", check->kafka->options.servers),
			            LOG_STR("why", failure[0] != '\0' ? failure : rd_kafka_err2str(err)));
		}
		return STATUS_NO_KAFKA;
	}
	complain(check, "%s: %s: %s", check->kafka->options.servers,
	         refused ? "the login was refused" : "no answer",
	         failure[0] != '\0' ? failure : rd_kafka_err2str(err));
	return refused ? STATUS_BAD_KAFKA : STATUS_NO_KAFKA;
}

/* Learns what topics there are. */
static enum status_code ask_topics(struct check *check, bool *again)
{
	for (int i = 0; i < TOPIC_COUNT; i++) {
		rd_kafka_resp_err_t err = ask_topic(check, (enum kafka_topic)i);

		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			return no_answer(check, err, again);
	}
	note_cluster_id(check);
	return STATUS_OK;
}

/* --- making --- */

static rd_kafka_NewTopic_t *new_topic(const struct kafka *kafka, enum kafka_topic topic)
{
	struct wanted list[WANTED_MAX];
	int factor = kafka->options.replication_factor;
	size_t count = list_wanted(kafka, topic, factor, list);
	char errstr[512];
	rd_kafka_NewTopic_t *made =
		rd_kafka_NewTopic_new(kafka->topics[topic], 1, factor, errstr, sizeof errstr);

	for (size_t i = 0; made != NULL && i < count; i++)
		rd_kafka_NewTopic_set_config(made, list[i].name, list[i].made);
	return made;
}

static bool passes_by(rd_kafka_resp_err_t err)
{
	switch (err) {
	case RD_KAFKA_RESP_ERR__TIMED_OUT:
	case RD_KAFKA_RESP_ERR__TRANSPORT:
	case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
	case RD_KAFKA_RESP_ERR_NOT_CONTROLLER:
	case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
	case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
	case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS: /* another node was faster */
		return true;
	default:
		return false;
	}
}

static void take_made(struct check *check, const rd_kafka_topic_result_t *result, bool validate_only)
{
	const char *name = rd_kafka_topic_result_name(result);
	const char *text = rd_kafka_topic_result_error_string(result);
	rd_kafka_resp_err_t err = rd_kafka_topic_result_error(result);

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
		if (!validate_only)
			logger_info("kafka", "topic made", LOG_STR("topic", name));
		return;
	}
	if (passes_by(err))
		return;
	if (err == RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR) {
		/* The same is true of all that are missing. */
		if (check->bad ||
		    (clock_ms() - check->begun_ms < BROKERS_MS && !is_over(check) && !validate_only))
			return;
		complain(check,
		         "topic %s cannot be made: Kafka has %d broker%s, but " REPLICATION_KEY
		         " is %d: start more, or lower the property",
		         name, check->broker_count, check->broker_count == 1 ? "" : "s",
		         check->kafka->options.replication_factor);
		return;
	}
	complain(check, "topic %s cannot be made: %s", name, text != NULL ? text : rd_kafka_err2str(err));
	if (err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
	    err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
		append_acl(check, "Create");
}

/* Asks for the topics that are missing; whether that helped is seen by asking what there are. */
static void make_missing(struct check *check, bool validate_only)
{
	rd_kafka_NewTopic_t *missing[TOPIC_COUNT];
	rd_kafka_AdminOptions_t *options =
		rd_kafka_AdminOptions_new(check->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(check->rk);
	rd_kafka_event_t *event;
	char errstr[512];
	size_t count = 0, results;

	for (int i = 0; i < TOPIC_COUNT; i++) {
		rd_kafka_NewTopic_t *made =
			check->topics[i].exists ? NULL : new_topic(check->kafka, (enum kafka_topic)i);

		if (made != NULL)
			missing[count++] = made;
	}
	rd_kafka_AdminOptions_set_request_timeout(options, slice(check, 30000), errstr, sizeof errstr);
	if (validate_only)
		rd_kafka_AdminOptions_set_validate_only(options, 1, errstr, sizeof errstr);
	rd_kafka_CreateTopics(check->rk, missing, count, options, queue);
	event = wait_event(check, queue);
	if (event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR) {
		const rd_kafka_topic_result_t **list = rd_kafka_CreateTopics_result_topics(
			rd_kafka_event_CreateTopics_result(event), &results);

		for (size_t i = 0; i < results; i++)
			take_made(check, list[i], validate_only);
	} else if (event != NULL && !passes_by(rd_kafka_event_error(event))) {
		complain(check, "topics cannot be made: %s", rd_kafka_event_error_string(event));
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_NewTopic_destroy_array(missing, count);
}

/* --- checking --- */

static void check_shape(struct check *check, enum kafka_topic topic)
{
	const struct found *found = &check->topics[topic];
	const char *name = check->kafka->topics[topic];

	if (found->partitions != 1) {
		complain(check,
		         "topic %s: it has %d partitions, must have 1: that cannot be changed; if nothing "
		         "needs "
		         "what is in it, then ",
		         name, found->partitions);
		append_command(check, "topics");
		buf_printf(check->why, " --delete --topic %s", name);
	}
	if (found->replicas < check->kafka->options.replication_factor)
		complain_replicas(check, name, found->replicas);
}

static const char *find_value(const rd_kafka_ConfigEntry_t **entries, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0)
			return rd_kafka_ConfigEntry_value(entries[i]);
	}
	return NULL;
}

static bool is_at_least(const char *found, const char *wanted)
{
	char *end;
	long long number;

	errno = 0;
	number = strtoll(found, &end, 10);
	return errno == 0 && end != found && *end == '\0' && number >= strtoll(wanted, NULL, 10);
}

static void check_settings(struct check *check, enum kafka_topic topic,
                           const rd_kafka_ConfigResource_t *resource)
{
	const char *name = check->kafka->topics[topic];
	int replicas = check->topics[topic].replicas;
	struct wanted list[WANTED_MAX];
	size_t wanted_count = list_wanted(check->kafka, topic, replicas, list);
	size_t count;
	const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(resource, &count);

	for (size_t i = 0; i < wanted_count; i++) {
		const char *found = find_value(entries, count, list[i].name);

		if (found == NULL)
			found = "unknown";
		if (list[i].at_least ? !is_at_least(found, list[i].value)
		                     : strcmp(found, list[i].value) != 0)
			complain_setting(check, name, list[i].name, found,
			                 list[i].at_least ? "at least " : "", list[i].value);
		else if (strcmp(list[i].name, "min.insync.replicas") == 0 && atoi(found) > replicas)
			/* Nothing could be written. */
			complain_setting(check, name, list[i].name, found, "", list[i].value);
	}
}

static void take_resource(struct check *check, const rd_kafka_ConfigResource_t *resource, bool *again)
{
	const char *name = rd_kafka_ConfigResource_name(resource);
	rd_kafka_resp_err_t err = rd_kafka_ConfigResource_error(resource);
	const char *text = rd_kafka_ConfigResource_error_string(resource);
	int topic = 0;

	while (topic < TOPIC_COUNT && strcmp(check->kafka->topics[topic], name) != 0)
		topic++;
	if (topic == TOPIC_COUNT)
		return;
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
		check_settings(check, (enum kafka_topic)topic, resource);
		return;
	}
	/* A topic that was just made is not known to every broker at once. */
	if (passes_by(err) && !is_over(check)) {
		*again = true;
		return;
	}
	complain(check, "topic %s: its settings cannot be checked: %s", name,
	         text != NULL ? text : rd_kafka_err2str(err));
	if (err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
	    err == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
		append_acl(check, "DescribeConfigs");
}

/* Compares the settings of all topics; *again: there was no answer. */
static enum status_code compare(struct check *check, bool *again)
{
	rd_kafka_ConfigResource_t *resources[TOPIC_COUNT];
	rd_kafka_AdminOptions_t *options =
		rd_kafka_AdminOptions_new(check->rk, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(check->rk);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	enum status_code code = STATUS_OK;
	rd_kafka_event_t *event;
	char errstr[512];
	size_t wanted_count = 0, count = 0;

	for (int i = 0; i < TOPIC_COUNT; i++) {
		if (check->topics[i].exists)
			resources[wanted_count++] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC,
			                                                        check->kafka->topics[i]);
	}
	if (wanted_count == 0)
		goto done;
	rd_kafka_AdminOptions_set_request_timeout(options, slice(check, 30000), errstr, sizeof errstr);
	rd_kafka_DescribeConfigs(check->rk, resources, wanted_count, options, queue);
	event = wait_event(check, queue);
	if (event != NULL)
		err = rd_kafka_event_error(event);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
		const rd_kafka_ConfigResource_t **list = rd_kafka_DescribeConfigs_result_resources(
			rd_kafka_event_DescribeConfigs_result(event), &count);

		for (size_t i = 0; i < count; i++)
			take_resource(check, list[i], again);
		if (*again) {
			pause_check(check);
			code = STATUS_NO_KAFKA;
		}
	} else {
		code = no_answer(check, err, again);
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_ConfigResource_destroy_array(resources, wanted_count);
done:
	rd_kafka_queue_destroy(queue);
	rd_kafka_AdminOptions_destroy(options);
	return code;
}

/* What keeps the topics from being used although they may be there soon. */
static bool are_ready(struct check *check)
{
	bool ready = true;

	for (int i = 0; i < TOPIC_COUNT; i++) {
		struct found *found = &check->topics[i];
		const char *name = check->kafka->topics[i];

		if (found->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			continue;
		if (!found->exists && passes_by(found->err) && check->missing == MISSING_COUNTS) {
			check->missing_count++;
			continue;
		}
		ready = false;
		if (found->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) {
			complain(check, "topic %s: it cannot be seen: %s", name,
			         rd_kafka_err2str(found->err));
			append_acl(check, "Describe");
		} else if (!found->exists && check->missing == MISSING_IS_WRONG) {
			complain(check,
			         "topic %s is missing: it was deleted, and what was in it is gone; a node "
			         "that "
			         "starts makes it anew, empty",
			         name);
		} else if (!found->exists && !passes_by(found->err)) {
			complain(check, "topic %s: %s", name, rd_kafka_err2str(found->err));
		}
	}
	return ready;
}

static void complain_waiting(struct check *check)
{
	for (int i = 0; i < TOPIC_COUNT; i++) {
		if (check->topics[i].err != RD_KAFKA_RESP_ERR_NO_ERROR)
			complain(check, "topic %s: %s", check->kafka->topics[i],
			         check->topics[i].exists ? "its partition has no leader"
			                                 : "it could not be made in time");
	}
}

/* One round; *again: another may do better. */
static enum status_code go_round(struct check *check, bool *again)
{
	enum status_code code = ask_topics(check, again);

	if (code != STATUS_OK)
		return code;
	check->missing_count = 0;
	if (!are_ready(check)) {
		if (!check->bad && check->missing == MISSING_IS_MADE)
			make_missing(check, false);
		if (check->bad)
			return STATUS_BAD_KAFKA;
		if (is_over(check)) {
			complain_waiting(check);
			return STATUS_NO_KAFKA;
		}
		pause_check(check);
		*again = true;
		return STATUS_NO_KAFKA;
	}
	for (int i = 0; i < TOPIC_COUNT; i++) {
		if (check->topics[i].exists)
			check_shape(check, (enum kafka_topic)i);
	}
	code = compare(check, again);
	return code == STATUS_OK && check->bad ? STATUS_BAD_KAFKA : code;
}

enum status_code kafka_check_topics(struct kafka *kafka, enum kafka_missing missing, int64_t deadline_ms,
                                    const volatile bool *canceled, struct buf *why, int *missing_count)
{
	int64_t now = clock_ms();
	struct check check = {
		.kafka = kafka,
		.rk = kafka_admin(kafka),
		.begun_ms = now,
		.told_ms = now,
		.deadline_ms = deadline_ms,
		.slice_ms = SLICE_MS,
		.canceled = canceled,
		.missing = missing,
		.why = why,
	};
	enum status_code code;
	bool again;

	if (check.rk == NULL)
		return STATUS_NO_MEMORY;
	do {
		again = false;
		if (check.bad) /* a round that had no answer in the end is told anew */
			buf_reset(why);
		check.bad = false;
		code = go_round(&check, &again);
	} while (again);
	if (missing_count != NULL)
		*missing_count = check.missing_count;
	return why->failed ? STATUS_NO_MEMORY : code;
}

enum status_code kafka_try_make(struct kafka *kafka, int64_t deadline_ms, struct buf *why)
{
	struct check check = {
		.kafka = kafka,
		.rk = kafka_admin(kafka),
		.begun_ms = clock_ms(),
		.deadline_ms = deadline_ms,
		.slice_ms = SLICE_MS,
		.why = why,
	};
	enum status_code code;
	bool again = false;

	if (check.rk == NULL)
		return STATUS_NO_MEMORY;
	do {
		again = false;
		code = ask_topics(&check, &again);
	} while (again);
	if (code != STATUS_OK)
		return code;
	make_missing(&check, true);
	return check.bad ? STATUS_BAD_KAFKA : STATUS_OK;
}

enum status_code kafka_prepare(struct kafka *kafka, const volatile bool *canceled)
{
	struct buf why;
	enum status_code code;
	char *line, *rest = NULL;

	kafka->canceled = canceled;
	buf_init(&why);
	code = kafka_check_topics(kafka, MISSING_IS_MADE, clock_ms() + kafka->options.init_timeout_ms,
	                          canceled, &why, NULL);
	buf_append_byte(&why, '\0');
	if (code != STATUS_OK && !(canceled != NULL && *canceled) && !why.failed) {
		for (line = strtok_r((char *)why.data, "\n", &rest); line != NULL;
		     line = strtok_r(NULL, "\n", &rest))
			logger_error("kafka", "cannot be used", LOG_STR("why", line));
	}
	buf_release(&why);
	if (code == STATUS_OK)
		logger_info("kafka", "topics are as they must be", LOG_STR("prefix", kafka->options.prefix),
		            LOG_STR("cluster_id", kafka_cluster_id(kafka)));
	return code;
}

enum status_code kafka_check(struct kafka *kafka, struct buf *why)
{
	int64_t limit_ms =
		kafka->options.timeout_ms < CHECK_LIMIT_MS ? kafka->options.timeout_ms : CHECK_LIMIT_MS;

	return kafka_check_topics(kafka, MISSING_IS_WRONG, clock_ms() + limit_ms, kafka->canceled, why,
	                          NULL);
}
