/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings. A handle's settings are set in three layers: what is good by
 * default, what the user gave, and what the guarantees rest on, which the user
 * cannot give because it is reserved.
 */
#include "log/kafka.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "log/kafka_internal.h"

enum {
	ERRSTR_BYTES = 512,
	WARN_INTERVAL_MS = 2000, /* an outage makes every connection complain for as long as it lasts */
	ADVICE_INTERVAL_MS = 30000,
	WATERMARK_SLICE_MS = 1000,
};

/* Levels of syslog, which librdkafka uses. */
enum { LEVEL_CRITICAL = 2, LEVEL_WARNING = 4, LEVEL_INFO = 6 };

#define FOR(role) (1u << KAFKA_##role)
#define FOR_ALL (~0u)
#define FOR_CONSUMERS (FOR(ADMIN) | FOR(FOLLOWER) | FOR(READER) | FOR(VOTER))
#define FOR_PRODUCERS (FOR(APPENDER) | FOR(WRITER))

struct setting {
	unsigned roles;
	const char *name;
	const char *value;
};

/* Every one of these may be given by the user instead. */
static const struct setting DEFAULTS[] = {
	{FOR_ALL, "socket.nagle.disable", "true"}, /* 40 ms per request otherwise */
	{FOR_ALL, "socket.keepalive.enable", "true"},
	{FOR_ALL & ~FOR(ADMIN), "log.connection.close",
         "false"}, /* brokers close idle ones: not an event */
	{FOR_ALL, "reconnect.backoff.ms", "20"},
	{FOR_ALL, "reconnect.backoff.max.ms", "500"},
	{FOR_ALL, "retry.backoff.ms", "20"},
	{FOR_ALL, "topic.metadata.refresh.fast.interval.ms", "100"},
	{FOR(APPENDER), "linger.ms", "0"},
	{FOR(APPENDER), "queue.buffering.max.messages", "200000"},
	{FOR(APPENDER), "queue.buffering.max.kbytes", "262144"},
	{FOR(WRITER), "linger.ms", "5"},
	{FOR(WRITER), "queue.buffering.max.messages", "100000"},
	{FOR(WRITER), "queue.buffering.max.kbytes", "65536"},
	{FOR_CONSUMERS, "fetch.min.bytes", "1"},
	{FOR_CONSUMERS, "fetch.error.backoff.ms", "50"},
	{FOR(FOLLOWER), "fetch.wait.max.ms", "500"}, /* no latency when there is data */
	/* Once a limit is reached, the next fetch is a second away: only the bytes are to limit. */
	{FOR(FOLLOWER) | FOR(READER), "queued.min.messages", "10000000"},
	{FOR(FOLLOWER), "queued.max.messages.kbytes", "131072"},
	{FOR(ADMIN), "fetch.wait.max.ms", "100"},
	{FOR(ADMIN), "queued.min.messages", "1"}, /* it reads one record at a time */
	{FOR(ADMIN), "fetch.message.max.bytes", "65536"},
	{FOR(READER), "fetch.wait.max.ms", "50"},
	{FOR(READER), "queued.max.messages.kbytes", "262144"},
	{FOR(READER), "fetch.message.max.bytes", "8388608"},
	{FOR(VOTER), "session.timeout.ms", "10000"},
	{FOR(VOTER), "heartbeat.interval.ms", "1000"},
};

/* None of these can be given by the user. */
static const struct setting FIXED[] = {
	{FOR_ALL, "allow.auto.create.topics", "false"},
	{FOR_PRODUCERS, "enable.idempotence", "true"},
	{FOR_PRODUCERS, "acks", "all"},
	{FOR_PRODUCERS, "max.in.flight", "5"},
	{FOR_CONSUMERS, "auto.offset.reset", "error"},
	{FOR_CONSUMERS, "enable.auto.commit", "false"},
	{FOR_CONSUMERS, "enable.auto.offset.store", "false"},
	{FOR(ADMIN) | FOR(FOLLOWER), "isolation.level", "read_uncommitted"},
	{FOR(READER), "isolation.level", "read_committed"},
	{FOR(READER), "enable.partition.eof", "true"},
	{FOR(FOLLOWER), "statistics.interval.ms", "2000"},
	{FOR(VOTER), "partition.assignment.strategy", "cooperative-sticky"},
};

struct advice {
	const char *name; /* one that ends in '*' is a prefix */
	const char *text;
};

#define ORDER "the order and the durability of the log rest on it"
#define POSITION "the log's position is kept in the database"
#define OWN_KEY "has a key of its own: "

static const struct advice RESERVED[] = {
	{"acks", ORDER},
	{"request.required.acks", ORDER},
	{"enable.idempotence", ORDER},
	{"enable.gapless.guarantee", ORDER},
	{"max.in.flight", ORDER},
	{"max.in.flight.requests.per.connection", ORDER},
	{"message.send.max.retries", ORDER},
	{"retries", ORDER},
	{"queuing.strategy", ORDER},
	{"delivery.report.only.error", ORDER},
	{"auto.offset.reset", "a lost record must be noticed"},
	{"enable.auto.commit", POSITION},
	{"auto.commit.enable", POSITION},
	{"auto.commit.interval.ms", POSITION},
	{"enable.auto.offset.store", POSITION},
	{"offset.store.*", POSITION},
	{"enable.partition.eof", POSITION},
	{"isolation.level", "which records are seen rests on it"},
	{"transactional.id", "it is made of the topics' prefix and the cluster's id"},
	{"transaction.timeout.ms", "it follows from the server's own time-outs"},
	{"message.timeout.ms", "it follows from the server's own time-outs"},
	{"delivery.timeout.ms", "it follows from the server's own time-outs"},
	{"message.max.bytes", "it follows from max.request.bytes"},
	{"allow.auto.create.topics", "topics are made with their settings, or not at all"},
	{"partition.assignment.strategy", "the election rests on it"},
	{"group.instance.id", "a leader that resigns must leave its group"},
	{"group.protocol", "the election rests on it"},
	{"log.queue", "the server logs for itself"},
	{"statistics.interval.ms", "the server's metrics rest on it"},
	{"test.mock.num.brokers", "a mock keeps nothing"},
	{"bootstrap.servers", OWN_KEY "kafkacache.bootstrap.servers"},
	{"metadata.broker.list", OWN_KEY "kafkacache.bootstrap.servers"},
	{"group.id", OWN_KEY "cluster.group.id"},
	{"client.id", OWN_KEY "node.name"},
};

/* What the configuration of the Java client has and this one has not. */
static const struct advice JAVA[] = {
	{"ssl.truststore.*",
         "is Java's: give the authorities as PEM in ssl.ca.location (keytool -exportcert -rfc, or "
         "openssl pkcs12 -nokeys -in FILE.p12)"},
	{"ssl.keystore.type",
         "is Java's: ssl.keystore.location takes PKCS#12, and ssl.certificate.location with "
         "ssl.key.location take PEM"},
	{"ssl.keystore.certificate.chain", "is Java's: use ssl.certificate.pem"},
	{"ssl.keystore.key", "is Java's: use ssl.key.pem"},
	{"sasl.jaas.config",
         "is Java's: use sasl.username and sasl.password, or sasl.kerberos.principal and "
         "sasl.kerberos.keytab"},
	{"sasl.login.*", "is Java's: use sasl.username and sasl.password, or sasl.oauthbearer.config"},
	{"sasl.client.callback.handler.class", "is Java's: use sasl.username and sasl.password, or "
                                               "sasl.oauthbearer.config"},
	{"security.providers",
         "is Java's: OpenSSL does the cryptography here; ssl.providers names OpenSSL's"},
	{"ssl.provider", "is Java's: OpenSSL does the cryptography here; ssl.providers names OpenSSL's"},
	{"ssl.protocol", "is Java's: OpenSSL takes the newest version that both sides have"},
	{"ssl.enabled.protocols", "is Java's: OpenSSL takes the newest version that both sides have"},
	{"ssl.trustmanager.algorithm", "is Java's: leave it out"},
	{"ssl.keymanager.algorithm", "is Java's: leave it out"},
	{"ssl.secure.random.implementation", "is Java's: leave it out"},
	{"ssl.engine.factory.class", "is Java's: leave it out"},
	{"key.serializer", "is Java's: leave it out"},
	{"value.serializer", "is Java's: leave it out"},
	{"key.deserializer", "is Java's: leave it out"},
	{"value.deserializer", "is Java's: leave it out"},
	{"interceptor.classes", "is Java's: leave it out"},
	{"metric.reporters", "is Java's: /metrics has the figures; leave it out"},
	{"metrics.*", "is Java's: /metrics has the figures; leave it out"},
	{"auto.include.jmx.reporter", "is Java's: /metrics has the figures; leave it out"},
	{"default.api.timeout.ms", "is Java's: use kafkacache.timeout.ms"},
	{"send.buffer.bytes", "is Java's: use socket.send.buffer.bytes"},
	{"receive.buffer.bytes", "is Java's: use socket.receive.buffer.bytes"},
	{"buffer.memory", "is Java's: use queue.buffering.max.kbytes"},
	{"max.block.ms", "is Java's: appends never block here; leave it out"},
	{"max.request.size", "is Java's: it follows from max.request.bytes; leave it out"},
	{"fetch.max.wait.ms", "is Java's: use fetch.wait.max.ms"},
	{"max.poll.records", "is Java's: leave it out"},
	{"exclude.internal.topics", "is Java's: leave it out"},
};

static const char *find_advice(const struct advice *list, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(list[i].name);

		if (strcmp(list[i].name, name) == 0)
			return list[i].text;
		if (list[i].name[len - 1] == '*' && strncmp(list[i].name, name, len - 1) == 0)
			return list[i].text;
	}
	return NULL;
}

#define FIND_ADVICE(list, name) find_advice((list), sizeof(list) / sizeof *(list), (name))

/* Java's own key store format, by its magic or, of a file that cannot be read now, its name. */
static bool is_jks(const char *path)
{
	static const unsigned char MAGIC[] = {0xfe, 0xed, 0xfe, 0xed};
	unsigned char found[sizeof MAGIC];
	const char *dot = strrchr(path, '.');
	FILE *file = fopen(path, "re");
	bool is;

	if (file == NULL)
		return dot != NULL && strcasecmp(dot, ".jks") == 0;
	is = fread(found, 1, sizeof found, file) == sizeof found && memcmp(found, MAGIC, sizeof MAGIC) == 0;
	fclose(file);
	return is;
}

enum status_code kafka_check_property(const char *name, const char *value, struct buf *why)
{
	char errstr[ERRSTR_BYTES];
	const char *text;
	rd_kafka_conf_t *conf;
	rd_kafka_conf_res_t res;

	text = FIND_ADVICE(RESERVED, name);
	if (text != NULL) {
		if (strncmp(text, OWN_KEY, strlen(OWN_KEY)) == 0)
			buf_append_text(why, text);
		else
			buf_printf(why, "is reserved: %s", text);
		return STATUS_BAD_CONFIG;
	}
	text = FIND_ADVICE(JAVA, name);
	if (text != NULL) {
		buf_append_text(why, text);
		return STATUS_BAD_CONFIG;
	}
	if (strcmp(name, "ssl.keystore.location") == 0 && is_jks(value)) {
		buf_printf(
			why,
			"%s is a JKS file; make a PKCS#12 of it: keytool -importkeystore -srckeystore %s "
			"-destkeystore %s.p12 -deststoretype PKCS12",
			value, value, value);
		return STATUS_BAD_CONFIG;
	}
	/* In Java's client this means none; here the default would silently stay. */
	if (strcmp(name, "ssl.endpoint.identification.algorithm") == 0 && *value == '\0') {
		buf_append_text(why, "is empty, which means none in Java's client: write none");
		return STATUS_BAD_CONFIG;
	}
	conf = rd_kafka_conf_new();
	res = rd_kafka_conf_set(conf, name, value, errstr, sizeof errstr);
	rd_kafka_conf_destroy(conf);
	if (res == RD_KAFKA_CONF_OK)
		return STATUS_OK;
	if (res == RD_KAFKA_CONF_UNKNOWN)
		buf_printf(why, "is not a property of librdkafka %s", rd_kafka_version_str());
	else
		buf_append_text(why, errstr);
	return STATUS_BAD_CONFIG;
}

/* True when a warning may be written; *left_out is how many could not. */
static bool may_warn(struct kafka *kafka, int64_t *left_out)
{
	int64_t now = clock_ms();
	bool may;

	pthread_mutex_lock(&kafka->lock);
	may = kafka->warned_ms == 0 || now - kafka->warned_ms >= WARN_INTERVAL_MS;
	*left_out = kafka->left_out;
	kafka->left_out = may ? 0 : kafka->left_out + 1;
	if (may)
		kafka->warned_ms = now;
	pthread_mutex_unlock(&kafka->lock);
	return may;
}

/* What a person has to know of a failure is kept for messages that come later. */
static void note_failure(struct kafka *kafka, const char *text, bool refused)
{
	pthread_mutex_lock(&kafka->lock);
	snprintf(kafka->failure, sizeof kafka->failure, "%s", text);
	kafka->refused = refused;
	pthread_mutex_unlock(&kafka->lock);
}

static bool says_refused(const char *text)
{
	return strstr(text, "uthentication") != NULL || strstr(text, "SASL ") != NULL;
}

bool kafka_last_failure(struct kafka *kafka, char *text, size_t size)
{
	bool refused;

	pthread_mutex_lock(&kafka->lock);
	snprintf(text, size, "%s", kafka->failure);
	refused = kafka->refused;
	pthread_mutex_unlock(&kafka->lock);
	return refused;
}

void kafka_note_refusal(struct kafka *kafka, rd_kafka_resp_err_t err)
{
	int64_t now = clock_ms();
	bool say;

	if (err != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED &&
	    err != RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED &&
	    err != RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED &&
	    err != RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED)
		return;
	pthread_mutex_lock(&kafka->lock);
	say = kafka->advised_ms == 0 || now - kafka->advised_ms >= ADVICE_INTERVAL_MS;
	if (say)
		kafka->advised_ms = now;
	pthread_mutex_unlock(&kafka->lock);
	if (say)
		logger_error(
			"kafka", "a right is missing", LOG_STR("why", rd_kafka_err2str(err)),
			LOG_STR("advice",
		                "ketad --check-config tells which one, and the command that gives it"));
}

static void log_line(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	struct kafka_client *client = rk != NULL ? rd_kafka_opaque(rk) : NULL;
	int64_t left_out;

	/* Of a Kafka that has just started; it is tried again. */
	if (strcmp(facility, "GETPID") == 0)
		level = LEVEL_INFO + 1;
	/* The settings of one role that another has no use for. */
	if (strcmp(facility, "CONFWARN") == 0)
		return;
	if (client != NULL && strcmp(facility, "FAIL") == 0) {
		const char *thread_end = strncmp(text, "[thrd:", 6) == 0 ? strstr(text, "]: ") : NULL;

		if (thread_end != NULL)
			text = thread_end + 3;
		/* The same comes to report_error, which says it once. */
		note_failure(client->kafka, text, says_refused(text));
		logger_debug("kafka", "connection failed", LOG_STR("why", text));
		return;
	}
	if (level <= LEVEL_CRITICAL)
		logger_error("kafka", "client", LOG_STR("facility", facility), LOG_STR("text", text));
	else if (level > LEVEL_INFO)
		logger_debug("kafka", "client", LOG_STR("facility", facility), LOG_STR("text", text));
	else if (level > LEVEL_WARNING)
		logger_info("kafka", "client", LOG_STR("facility", facility), LOG_STR("text", text));
	else if (client == NULL || may_warn(client->kafka, &left_out))
		logger_warn("kafka", "client", LOG_STR("facility", facility), LOG_STR("text", text),
		            LOG_I64("left_out", client == NULL ? 0 : left_out));
}

static void report_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
	struct kafka_client *client = opaque;
	int64_t left_out;

	(void)rk;
	metric_add(METRIC_KAFKA_ERRORS, 1);
	if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION)
		note_failure(client->kafka, reason, true);
	if (!may_warn(client->kafka, &left_out))
		return;
	if (code == RD_KAFKA_RESP_ERR__AUTHENTICATION)
		logger_error("kafka", "login refused", LOG_STR("why", reason),
		             LOG_I64("left_out", left_out));
	else
		logger_warn("kafka", "error", LOG_STR("code", rd_kafka_err2name((rd_kafka_resp_err_t)code)),
		            LOG_STR("why", reason), LOG_I64("left_out", left_out));
}

static int report_stats(rd_kafka_t *rk, char *json, size_t len, void *opaque)
{
	struct kafka_client *client = opaque;

	(void)rk;
	(void)len;
	if (client->stats != NULL)
		client->stats(client->owner, json);
	return 0; /* librdkafka frees it */
}

static bool set_text(rd_kafka_conf_t *conf, const char *name, const char *value, char *errstr)
{
	return rd_kafka_conf_set(conf, name, value, errstr, ERRSTR_BYTES) == RD_KAFKA_CONF_OK;
}

static bool set_number(rd_kafka_conf_t *conf, const char *name, int64_t value, char *errstr)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRId64, value);
	return set_text(conf, name, text, errstr);
}

static bool set_list(rd_kafka_conf_t *conf, const struct setting *list, size_t count, enum kafka_role role,
                     char *errstr)
{
	for (size_t i = 0; i < count; i++) {
		if ((list[i].roles & 1u << role) != 0 &&
		    !set_text(conf, list[i].name, list[i].value, errstr))
			return false;
	}
	return true;
}

static int64_t within(int64_t value, int64_t least, int64_t most)
{
	return value < least ? least : value > most ? most : value;
}

static bool set_all(const struct kafka *kafka, rd_kafka_conf_t *conf, enum kafka_role role, char *errstr)
{
	const struct kafka_options *options = &kafka->options;
	/* The limits are librdkafka's. */
	bool ok = set_list(conf, DEFAULTS, sizeof DEFAULTS / sizeof *DEFAULTS, role, errstr) &&
	          set_number(conf, "socket.timeout.ms", within(options->timeout_ms, 1000, 300000), errstr);

	for (size_t i = 0; ok && i < options->property_count; i++)
		ok = set_text(conf, options->properties[i].name, options->properties[i].value, errstr);
	ok = ok && set_list(conf, FIXED, sizeof FIXED / sizeof *FIXED, role, errstr) &&
	     set_text(conf, "bootstrap.servers", options->servers, errstr) &&
	     set_text(conf, "client.id", options->node_name, errstr) &&
	     set_number(conf, "message.max.bytes", within(kafka->max_message_bytes, 1000, 1000000000),
	                errstr);
	if (ok && role == KAFKA_APPENDER)
		ok = set_number(conf, "message.timeout.ms",
		                within(options->append_timeout_ms - KAFKA_HOLD_MAX_MS,
		                       options->append_timeout_ms / 2, INT32_MAX),
		                errstr);
	if (ok && role == KAFKA_VOTER)
		ok = set_text(conf, "group.id", kafka->group, errstr);
	return ok;
}

rd_kafka_conf_t *kafka_conf_new(const struct kafka *kafka, enum kafka_role role, char *errstr)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	if (!set_all(kafka, conf, role, errstr)) {
		rd_kafka_conf_destroy(conf);
		return NULL;
	}
	rd_kafka_conf_set_log_cb(conf, log_line);
	rd_kafka_conf_set_error_cb(conf, report_error);
	rd_kafka_conf_set_stats_cb(conf, report_stats);
	return conf;
}

static bool is_producer(enum kafka_role role)
{
	return role == KAFKA_APPENDER || role == KAFKA_WRITER;
}

rd_kafka_t *kafka_handle_new(struct kafka_client *client, enum kafka_role role, rd_kafka_conf_t *conf)
{
	char errstr[ERRSTR_BYTES];
	rd_kafka_t *rk;

	rd_kafka_conf_set_opaque(conf, client);
	rk = rd_kafka_new(is_producer(role) ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, errstr,
	                  sizeof errstr);
	if (rk == NULL) {
		rd_kafka_conf_destroy(conf);
		logger_error("kafka", "no client", LOG_STR("why", errstr));
	}
	return rk;
}

/* Some settings are only read, and some files only opened, when a handle is made: this makes one
 * that has no servers to connect to. */
static bool try_settings(struct kafka *kafka, enum kafka_role role, char *errstr)
{
	struct kafka_client client = {.kafka = kafka};
	rd_kafka_conf_t *conf = kafka_conf_new(kafka, role, errstr);
	rd_kafka_t *rk;

	if (conf == NULL)
		return false;
	if (!set_text(conf, "bootstrap.servers", "", errstr)) {
		rd_kafka_conf_destroy(conf);
		return false;
	}
	rd_kafka_conf_set_opaque(conf, &client);
	rd_kafka_conf_set_log_cb(conf, NULL);
	rk = rd_kafka_new(is_producer(role) ? RD_KAFKA_PRODUCER : RD_KAFKA_CONSUMER, conf, errstr,
	                  ERRSTR_BYTES);
	if (rk == NULL) {
		rd_kafka_conf_destroy(conf);
		return false;
	}
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	return true;
}

/* librdkafka's own message does not name the file. "probe" is no file. */
static bool is_file(const char *name, const char *value)
{
	size_t len = strlen(name), end = strlen(".location");

	return strncmp(name, "ssl.", 4) == 0 && len > end && strcmp(name + len - end, ".location") == 0 &&
	       *value != '\0' && strcmp(value, "probe") != 0;
}

static enum status_code check_property(const struct kafka_property *property, struct buf *why)
{
	enum status_code status = kafka_check_property(property->name, property->value, why);

	if (status == STATUS_OK && is_file(property->name, property->value) &&
	    access(property->value, R_OK) != 0) {
		buf_printf(why, "cannot read %s: %s", property->value, strerror(errno));
		return STATUS_BAD_CONFIG;
	}
	return status;
}

static bool check_settings(struct kafka *kafka)
{
	const struct kafka_options *options = &kafka->options;
	char errstr[ERRSTR_BYTES] = "";
	bool ok = true;

	for (size_t i = 0; i < options->property_count; i++) {
		const struct kafka_property *property = &options->properties[i];
		struct buf why;

		buf_init(&why);
		if (check_property(property, &why) != STATUS_OK) {
			buf_append_byte(&why, '\0');
			logger_error("kafka", "bad property", LOG_STR("name", property->name),
			             LOG_STR("origin", property->origin),
			             LOG_STR("why", why.failed ? "" : (const char *)why.data));
			ok = false;
		}
		buf_release(&why);
	}
	if (!ok)
		return false;
	if (!try_settings(kafka, KAFKA_APPENDER, errstr) || !try_settings(kafka, KAFKA_VOTER, errstr)) {
		logger_error("kafka", "bad settings", LOG_STR("why", errstr));
		return false;
	}
	return true;
}

static char *join(const char *prefix, const char *name)
{
	size_t size = strlen(prefix) + strlen(name) + 1;
	char *text = malloc(size);

	if (text != NULL)
		snprintf(text, size, "%s%s", prefix, name);
	return text;
}

enum status_code kafka_open(const struct kafka_options *options, struct kafka **out)
{
	static const char *const NAMES[TOPIC_COUNT] = {
		[TOPIC_COMMITS] = "commits",       [TOPIC_KV] = "kv",
		[TOPIC_LEASES] = "leases",         [TOPIC_AUTH] = "auth",
		[TOPIC_AUTH_USERS] = "auth_users", [TOPIC_AUTH_ROLES] = "auth_roles",
		[TOPIC_TIMESTAMPS] = "timestamps", [TOPIC_ELECTION] = "election",
	};
	struct kafka *kafka = calloc(1, sizeof *kafka);
	enum status_code code = STATUS_NO_MEMORY;

	if (kafka == NULL)
		return STATUS_NO_MEMORY;
	kafka->options = *options;
	kafka->max_message_bytes = options->max_record_bytes + KAFKA_OVERHEAD_BYTES;
	pthread_mutex_init(&kafka->lock, NULL);
	for (int i = 0; i < TOPIC_COUNT; i++) {
		kafka->topics[i] = join(options->prefix, NAMES[i]);
		if (kafka->topics[i] == NULL)
			goto failed;
	}
	kafka->group = join(options->prefix, options->group_id);
	if (kafka->group == NULL)
		goto failed;
	code = STATUS_BAD_CONFIG;
	if (!check_settings(kafka))
		goto failed;
	*out = kafka;
	return STATUS_OK;

failed:
	kafka_close(kafka);
	return code;
}

static void free_admin(rd_kafka_t *rk, rd_kafka_topic_t *const topics[static TOPIC_COUNT])
{
	struct kafka_client *client = rd_kafka_opaque(rk);

	for (int i = 0; i < TOPIC_COUNT; i++) {
		if (topics[i] != NULL)
			rd_kafka_topic_destroy(topics[i]);
	}
	rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	free(client);
}

void kafka_close(struct kafka *kafka)
{
	if (kafka == NULL)
		return;
	if (kafka->admin != NULL)
		free_admin(kafka->admin, kafka->admin_topics);
	for (int i = 0; i < TOPIC_COUNT; i++)
		free(kafka->topics[i]);
	free(kafka->group);
	free(kafka->cluster_id);
	pthread_mutex_destroy(&kafka->lock);
	free(kafka);
}

static rd_kafka_t *make_admin(struct kafka *kafka)
{
	struct kafka_client *client = calloc(1, sizeof *client);
	char errstr[ERRSTR_BYTES];
	rd_kafka_conf_t *conf;
	rd_kafka_t *rk;

	if (client == NULL)
		return NULL;
	client->kafka = kafka;
	conf = kafka_conf_new(kafka, KAFKA_ADMIN, errstr);
	rk = conf != NULL ? kafka_handle_new(client, KAFKA_ADMIN, conf) : NULL;
	if (rk == NULL)
		free(client);
	return rk;
}

rd_kafka_t *kafka_admin(struct kafka *kafka)
{
	rd_kafka_topic_t *topics[TOPIC_COUNT];
	rd_kafka_t *made, *rk;

	pthread_mutex_lock(&kafka->lock);
	rk = kafka->admin;
	pthread_mutex_unlock(&kafka->lock);
	if (rk != NULL)
		return rk;
	/* Not under the lock: making a handle, or a topic of one, may log, which takes it. */
	made = make_admin(kafka);
	if (made == NULL)
		return NULL;
	for (int i = 0; i < TOPIC_COUNT; i++)
		topics[i] = rd_kafka_topic_new(made, kafka->topics[i], NULL);
	pthread_mutex_lock(&kafka->lock);
	rk = kafka->admin;
	if (rk == NULL) {
		rk = kafka->admin = made;
		memcpy(kafka->admin_topics, topics, sizeof topics);
	}
	pthread_mutex_unlock(&kafka->lock);
	if (rk != made) /* another thread was faster */
		free_admin(made, topics);
	return rk;
}

void kafka_serve_admin(struct kafka *kafka)
{
	rd_kafka_t *rk;

	pthread_mutex_lock(&kafka->lock);
	rk = kafka->admin;
	pthread_mutex_unlock(&kafka->lock);
	if (rk != NULL)
		rd_kafka_poll(rk, 0);
}

enum status_code kafka_watermarks(struct kafka *kafka, enum kafka_topic topic, int64_t *low, int64_t *high,
                                  int64_t timeout_ms)
{
	int64_t deadline = clock_ms() + timeout_ms;
	rd_kafka_t *rk = kafka_admin(kafka);
	rd_kafka_resp_err_t err;

	if (rk == NULL)
		return STATUS_NO_MEMORY;
	for (;;) {
		int64_t left = deadline - clock_ms();

		err = rd_kafka_query_watermark_offsets(rk, kafka->topics[topic], 0, low, high,
		                                       (int)within(left, 1, WATERMARK_SLICE_MS));
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			return STATUS_OK;
		if (left <= WATERMARK_SLICE_MS)
			break;
	}
	logger_debug("kafka", "no watermarks", LOG_STR("topic", kafka->topics[topic]),
	             LOG_STR("why", rd_kafka_err2str(err)));
	return STATUS_NO_KAFKA;
}

const char *kafka_property(const struct kafka *kafka, const char *name)
{
	for (size_t i = kafka->options.property_count; i > 0; i--) {
		if (strcmp(kafka->options.properties[i - 1].name, name) == 0)
			return kafka->options.properties[i - 1].value;
	}
	return NULL;
}

const char *kafka_cluster_id(const struct kafka *kafka)
{
	return kafka->cluster_id != NULL ? kafka->cluster_id : "";
}
