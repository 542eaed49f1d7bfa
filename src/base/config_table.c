/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows are in the order in which they are printed. What a row can say, no
 * code says: adding a key is adding a row, and a field of struct config.
 */
#include "base/config_table.h"

#include <ctype.h>
#include <string.h>

#include "base/config.h"

enum { DISTANCE_BYTES = 64 };

/* A node opens this many connections only with as many descriptors. */
#define MAX_CONNECTIONS 1000000
/* SQLite's largest row is a thousand million bytes; a request must fit one with room to spare. */
#define MAX_REQUEST ((int64_t)512 << 20)
#define DAY_MS ((int64_t)24 * 3600 * 1000)

#define NO_TOPIC                                                                                           \
	"is about the topics of the original's cache; here each has one partition, read from its start"
#define NO_CACHE "tunes the original's cache; this server has none"
#define NO_CHECKPOINT "is about the original's files of offsets; here the database itself holds its offset"
#define NO_STORE "tunes one of the original's stores; here all is in SQLite"

static const struct config_choice COMPACTION_MODES[] = {
	{"periodic", COMPACTION_PERIODIC}, {"revision", COMPACTION_REVISION}, {NULL, 0}};

/* etcd's levels above error, which name how the process ends, are errors here. */
static const struct config_choice LOG_LEVELS[] = {
	{"debug", LOGGER_DEBUG},  {"info", LOGGER_INFO},   {"warn", LOGGER_WARN},   {"error", LOGGER_ERROR},
	{"dpanic", LOGGER_ERROR}, {"panic", LOGGER_ERROR}, {"fatal", LOGGER_ERROR}, {NULL, 0}};

static const struct config_choice LOG_FORMATS[] = {{"auto", LOGGER_AUTO},
                                                   {"text", LOGGER_TEXT},
                                                   {"console", LOGGER_TEXT},
                                                   {"json", LOGGER_JSON},
                                                   {NULL, 0}};

static const struct config_choice READ_BARRIERS[] = {
	{"record", CONFIG_BARRIER_RECORD}, {"watermark", CONFIG_BARRIER_WATERMARK}, {NULL, 0}};

_Static_assert(sizeof(enum config_compaction) == sizeof(int) && sizeof(enum logger_level) == sizeof(int) &&
                       sizeof(enum logger_format) == sizeof(int) &&
                       sizeof(enum config_barrier) == sizeof(int),
               "a choice is stored as an int");

static const struct config_choice ONLY_EMPTY[] = {{"", 0}, {NULL, 0}};
static const struct config_choice ONLY_SQLITE[] = {{"sqlite", 0}, {NULL, 0}};
static const struct config_choice ONLY_SIMPLE[] = {{"simple", 0}, {NULL, 0}};
static const struct config_choice ONLY_FALSE[] = {{"false", 0}, {"", 0}, {NULL, 0}};
static const struct config_choice ONLY_NONE[] = {{"NONE", 0}, {"", 0}, {NULL, 0}};
static const struct config_choice ONLY_JKS[] = {{"JKS", 0}, {"", 0}, {NULL, 0}};
static const struct config_choice ONLY_TLS[] = {{"TLS", 0}, {"", 0}, {NULL, 0}};
static const struct config_choice ONLY_RS256[] = {{"RS256", 0}, {"", 0}, {NULL, 0}};

#define FIELD(name) .offset = offsetof(struct config, name)

const struct config_key config_keys[CONFIG_KEY_COUNT] = {
	{SECTION_NODE, "node.name", &config_type_text, "default", FIELD(name),
         .help = "The member's name, as clients see it in the member list."},
	{SECTION_NODE, "data.dir", &config_type_text, "keta-data", FIELD(data_dir),
         .help = "The directory of the database, made when it does not exist; relative to the working "
                 "directory."},

	{SECTION_CLIENTS, "listeners", &config_type_listeners, "http://0.0.0.0:2379", FIELD(listeners),
         .help = "Where clients connect: URLs parted by commas. Port 0 takes a free one.",
         .sample = "http://127.0.0.1:2379"},
	{SECTION_CLIENTS, "advertised.listeners", &config_type_urls, "", FIELD(advertised_listeners),
         .help = "The URLs that clients are told in the member list. Empty: those of listeners."},
	{SECTION_CLIENTS, "cors.origins", &config_type_origins, "*", FIELD(cors_origins),
         .help = "Origins whose pages may read answers, parted by commas. * or empty: all. A page of "
                 "another origin may open a WebSocket only if that is named here."},
	{SECTION_CLIENTS, "host.whitelist", &config_type_list, "*", FIELD(host_whitelist),
         .help = "Names that a request may have in its Host header, parted by commas. * or empty: all."},
	{SECTION_CLIENTS, "http.threads", &config_type_number, "0", FIELD(http_threads),
         .help = "Event loops that serve connections. 0: one per core.", .max = 1024},
	{SECTION_CLIENTS, "connection.limit", &config_type_number, "20000", FIELD(connection_limit),
         .help = "Client connections open at once; more of them wait to be accepted.", .min = 1,
         .max = MAX_CONNECTIONS},

	{SECTION_LIMITS, "max.request.bytes", &config_type_size, "1572864", FIELD(max_request_bytes),
         .help = "The largest request, as it stands in the log.", .min = 1, .max = MAX_REQUEST},
	{SECTION_LIMITS, "max.txn.ops", &config_type_number, "128", FIELD(max_txn_ops),
         .help = "Operations that one transaction may hold.", .min = 1, .max = 1000000},
	{SECTION_LIMITS, "quota.backend.bytes", &config_type_size, "2147483648", FIELD(quota_backend_bytes),
         .help = "What may be stored before writes are refused. 0: 2 GiB; negative: no limit.",
         .min = INT64_MIN, .max = INT64_MAX},

	{SECTION_HISTORY, "auto.compaction.mode", &config_type_choice, "periodic", FIELD(compaction_mode),
         .help = "How the next key is meant: as a time, or as a number of revisions.",
         .choices = COMPACTION_MODES},
	{SECTION_HISTORY, "auto.compaction.retention", &config_type_retention, "0",
         FIELD(compaction_retention),
         .help = "History to keep: a duration such as 5m or 1h30m or a number of hours, or a number of "
                 "revisions. 0: all."},
	{SECTION_HISTORY, "watch.progress.notify.interval.ms", &config_type_number, "600000",
         FIELD(progress_notify_ms),
         .help = "How often an idle watch that asked for it is told the revision. 0: the default.",
         .max = 365 * DAY_MS},

	{SECTION_AUTH, "token.type", &config_type_fixed, "simple",
         .help = "How a login is remembered: simple tokens are kept by the server.", .choices = ONLY_SIMPLE,
         .why = CONFIG_NO_JWT},
	{SECTION_AUTH, "token.ttl.secs", &config_type_number, "300", FIELD(auth_token_ttl_sec),
         .help = "Seconds that a simple token lives after its last use.", .min = 1, .max = INT32_MAX},
	{SECTION_AUTH, "auth.bcrypt.cost", &config_type_number, "10", FIELD(bcrypt_cost),
         .help = "The cost of hashing a password; each step doubles the time.", .min = 4, .max = 31},

	{SECTION_LOG, "log.level", &config_type_choice, "info", FIELD(log_level),
         .help = "The least level that is logged. dpanic, panic and fatal are error.",
         .choices = LOG_LEVELS},
	{SECTION_LOG, "log.format", &config_type_choice, "auto", FIELD(log_format),
         .help = "How lines look on standard error. auto: text at a terminal, else json.",
         .choices = LOG_FORMATS},
	{SECTION_LOG, "slow.request.ms", &config_type_number, "100", FIELD(slow_request_ms),
         .help = "A request that takes longer is logged.", .max = DAY_MS},
	{SECTION_LOG, "debug", &config_type_flag, "false", FIELD(debug),
         .help = "For developers. Changes nothing in this version."},

	{SECTION_CLUSTER, "cluster.group.id", &config_type_text, "keta", FIELD(cluster_group_id),
         .help = "The cluster's name: the group in Kafka that chooses its leader. A node without Kafka has "
                 "no use for it."},
	{SECTION_CLUSTER, "leader.eligibility", &config_type_flag, "true", FIELD(leader_eligibility),
         .help = "Whether the node may become the leader, which expires leases and writes checkpoints. A "
                 "node without Kafka always leads."},
	{SECTION_CLUSTER, "host.name", &config_type_any, "", FIELD(host_name),
         .help = "The host in the URLs that clients are told when advertised.listeners is empty. Empty: as "
                 "in listeners."},

	{SECTION_KAFKA, CONFIG_KAFKA_SERVERS, &config_type_list, "", FIELD(kafka_servers),
         .help = "Kafka's addresses, HOST:PORT parted by commas. Set, the node is one of a replicated "
                 "store; empty, it is alone."},
	{SECTION_KAFKA, "kafkacache.group.id", &config_type_any, "", FIELD(kafka_group_id),
         .help = "The node's name in the cluster, which no other may have. Empty: made from host name and "
                 "port."},
	{SECTION_KAFKA, "kafkacache.data.dir", &config_type_any, "", FIELD(kafka_data_dir),
         .help = "The directory of the database, in place of data.dir. Empty: data.dir."},
	{SECTION_KAFKA, "kafkacache.topic.replication.factor", &config_type_number, "3",
         FIELD(kafka_replication_factor), .help = "Copies that Kafka keeps of each topic, at least.",
         .min = 1, .max = INT16_MAX},
	{SECTION_KAFKA, "kafkacache.init.timeout.ms", &config_type_number, "300000",
         FIELD(kafka_init_timeout_ms),
         .help = "How long Kafka is tried for at the start, the making of topics included.", .min = 100,
         .max = INT32_MAX},
	{SECTION_KAFKA, "kafkacache.timeout.ms", &config_type_number, "60000", FIELD(kafka_timeout_ms),
         .help = "How long any other operation of Kafka may take; requests of clients end sooner.",
         .min = 100, .max = INT32_MAX},
	{SECTION_KAFKA, "topic.prefix", &config_type_topic, "_keta_", FIELD(topic_prefix),
         .help = "What the names of the topics begin with. Clusters that share a Kafka need one each."},
	{SECTION_KAFKA, "read.barrier", &config_type_choice, "record", FIELD(read_barrier),
         .help = "How a linearizable read learns how far to wait: by a record in the log, or by asking the "
                 "broker for the log's end, which is cheaper, but a broker that was deposed and does not "
                 "know it yet can answer with an old one.",
         .choices = READ_BARRIERS},
	{SECTION_KAFKA, "checkpoint.interval.ms", &config_type_number, "300000",
         FIELD(checkpoint_interval_ms),
         .help = "How often the leader writes to the tables in Kafka what changed.", .min = 1000,
         .max = 365 * DAY_MS},
	{SECTION_KAFKA, "checkpoint.log.bytes", &config_type_size, "67108864", FIELD(checkpoint_log_bytes),
         .help = "It does so sooner when the log has grown by this.", .min = 65536, .max = INT64_MAX},
	{SECTION_KAFKA, "log.skip.offset", &config_type_number, "-1", FIELD(log_skip_offset),
         .help = "A record that cannot be applied and is passed over. The same on every node. -1: none.",
         .min = -1, .max = INT64_MAX},

	{SECTION_UNUSED, "kafkacache.backing.cache", &config_type_unused, "", .choices = ONLY_SQLITE,
         .why = "chooses among the original's stores, and is mapped to SQLite"},
	{SECTION_UNUSED, "kafkacache.client.id", &config_type_unused, "", .why = "is set by the server"},
	{SECTION_UNUSED, "kafkacache.topic", &config_type_unused, "",
         .why = "names a topic of the original's cache; topic.prefix says how topics are named here"},
	{SECTION_UNUSED, "kafkacache.topic.num.partitions", &config_type_unused, "", .why = NO_TOPIC},
	{SECTION_UNUSED, "kafkacache.topic.partitions", &config_type_unused, "", .why = NO_TOPIC},
	{SECTION_UNUSED, "kafkacache.topic.partitions.offset", &config_type_unused, "", .why = NO_TOPIC},
	{SECTION_UNUSED, "kafkacache.topic.skip.validation", &config_type_unused, "",
         .why = "is about topics, which are always checked here"},
	{SECTION_UNUSED, "kafkacache.topic.require.compact", &config_type_unused, "",
         .why = "is about topics, which are always checked here"},
	{SECTION_UNUSED, "kafkacache.topic.config.*", &config_type_unused, "",
         .why = "is about topics, which get what the guarantees need here"},
	{SECTION_UNUSED, "kafkacache.poll.timeout.ms", &config_type_unused, "", .why = NO_CACHE},
	{SECTION_UNUSED, "kafkacache.bounded.cache.size", &config_type_unused, "", .why = NO_CACHE},
	{SECTION_UNUSED, "kafkacache.bounded.cache.expiry.secs", &config_type_unused, "", .why = NO_CACHE},
	{SECTION_UNUSED, "kafkacache.checkpoint.dir", &config_type_unused, "", .why = NO_CHECKPOINT},
	{SECTION_UNUSED, "kafkacache.checkpoint.version", &config_type_unused, "", .why = NO_CHECKPOINT},
	{SECTION_UNUSED, "kafkacache.checkpoint.before.init", &config_type_unused, "",
         .why = NO_CHECKPOINT},
	{SECTION_UNUSED, "kafkacache.checkpoint.handler", &config_type_unused, "", .why = NO_CHECKPOINT},
	{SECTION_UNUSED, "kafkacache.enable.offset.commit", &config_type_unused, "", .why = NO_CHECKPOINT},
	{SECTION_UNUSED, "kafkacache.bdbje.*", &config_type_unused, "", .why = NO_STORE},
	{SECTION_UNUSED, "kafkacache.caffeine.*", &config_type_unused, "", .why = NO_STORE},
	{SECTION_UNUSED, "kafkacache.lmdb.*", &config_type_unused, "", .why = NO_STORE},
	{SECTION_UNUSED, "kafkacache.mapdb.*", &config_type_unused, "", .why = NO_STORE},
	{SECTION_UNUSED, "kafkacache.rdbms.*", &config_type_unused, "", .why = NO_STORE, .secret = true},
	{SECTION_UNUSED, "kafkacache.rocksdb.*", &config_type_unused, "", .why = NO_STORE},

	{SECTION_LATER, "token.public.key.path", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_JWT},
	{SECTION_LATER, "token.private.key.path", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_JWT},
	{SECTION_LATER, "token.signature.algorithm", &config_type_fixed, "RS256", .choices = ONLY_RS256,
         .why = CONFIG_NO_JWT},
	{SECTION_LATER, "kafkacache.topic.read.only", &config_type_fixed, "false", .choices = ONLY_FALSE,
         .why = "asks for a node that only reads, which is not built into this version yet"},
	{SECTION_LATER, "ssl.keystore.location", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.keystore.password", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS, .secret = true},
	{SECTION_LATER, "ssl.keystore.type", &config_type_fixed, "JKS", .choices = ONLY_JKS,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.key.password", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS, .secret = true},
	{SECTION_LATER, "ssl.keymanager.algorithm", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.truststore.location", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.truststore.password", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS, .secret = true},
	{SECTION_LATER, "ssl.truststore.type", &config_type_fixed, "JKS", .choices = ONLY_JKS,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.trustmanager.algorithm", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.protocol", &config_type_fixed, "TLS", .choices = ONLY_TLS,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.provider", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.client.authentication", &config_type_fixed, "NONE", .choices = ONLY_NONE,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.enabled.protocols", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.cipher.suites", &config_type_fixed, "", .choices = ONLY_EMPTY,
         .why = CONFIG_NO_TLS},
	{SECTION_LATER, "ssl.endpoint.identification.algorithm", &config_type_fixed, "",
         .choices = ONLY_EMPTY, .why = CONFIG_NO_TLS},
};

const char *config_section_title(enum config_section section)
{
	static const char *const TITLES[SECTION_COUNT] = {
		[SECTION_NODE] = "The node",         [SECTION_CLIENTS] = "Clients",
		[SECTION_LIMITS] = "Limits",         [SECTION_HISTORY] = "History and watches",
		[SECTION_AUTH] = "Logins",           [SECTION_LOG] = "What is logged",
		[SECTION_CLUSTER] = "Clusters",      [SECTION_KAFKA] = "Kafka",
		[SECTION_UNUSED] = "Without effect", [SECTION_LATER] = "Not in this version",
	};

	return TITLES[section];
}

/* 'name' may end with a '*' that stands for anything. */
static bool is_named(const char *name, const char *text)
{
	while (*name != '\0' && *name == *text) {
		name++;
		text++;
	}
	return *name == '*' || (*name == '\0' && *text == '\0');
}

const struct config_key *config_key_find(const char *name)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		if (is_named(config_keys[i].name, name))
			return &config_keys[i];
	return NULL;
}

/* The character of a variable's name that stands for one of a key's. */
static char variable_char(char c)
{
	return c == '.' ? '_' : (char)toupper((unsigned char)c);
}

static bool is_variable_of(const char *variable, const char *name)
{
	while (*name != '\0' && *variable == variable_char(*name)) {
		variable++;
		name++;
	}
	return *name == '*' || (*name == '\0' && *variable == '\0');
}

const struct config_key *config_key_find_variable(const char *variable)
{
	if (strncmp(variable, CONFIG_VARIABLE_PREFIX, strlen(CONFIG_VARIABLE_PREFIX)) != 0)
		return NULL;
	variable += strlen(CONFIG_VARIABLE_PREFIX);
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		if (is_variable_of(variable, config_keys[i].name))
			return &config_keys[i];
	return NULL;
}

void config_key_variable(const struct config_key *key, struct buf *out)
{
	buf_append_text(out, CONFIG_VARIABLE_PREFIX);
	for (const char *c = key->name; *c != '\0'; c++)
		buf_append_byte(out, (uint8_t)variable_char(*c));
}

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

size_t config_distance(const char *a, const char *b)
{
	size_t a_len = strlen(a);
	size_t b_len = strlen(b);
	size_t row[DISTANCE_BYTES + 1]; /* from a's first i bytes to each beginning of b */

	if (a_len > DISTANCE_BYTES || b_len > DISTANCE_BYTES)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t replaced = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = least(replaced, least(row[j], row[j - 1]) + 1);
		}
	}
	return row[b_len];
}

bool config_is_near(size_t distance, const char *name)
{
	return distance <= 1 + strlen(name) / 4;
}

const struct config_key *config_key_nearest(const char *name)
{
	const struct config_key *nearest = NULL;
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		size_t distance = config_distance(name, config_keys[i].name);

		if (config_keys[i].section != SECTION_UNUSED && distance < best) {
			best = distance;
			nearest = &config_keys[i];
		}
	}
	return nearest != NULL && config_is_near(best, nearest->name) ? nearest : NULL;
}

/* Written as a key, a variable is compared like one. */
const struct config_key *config_key_nearest_variable(const char *variable)
{
	char name[DISTANCE_BYTES + 1];
	size_t len = 0;

	for (variable += strlen(CONFIG_VARIABLE_PREFIX); *variable != '\0'; variable++) {
		if (len == DISTANCE_BYTES)
			return NULL;
		name[len++] = *variable == '_' ? '.' : (char)tolower((unsigned char)*variable);
	}
	name[len] = '\0';
	return config_key_nearest(name);
}
