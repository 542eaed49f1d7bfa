/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config_flags.h"

#include <string.h>

#include "base/config.h"
#include "base/config_table.h"
#include "base/config_value.h"

#define NO_CONSENSUS "belongs to etcd's own consensus, which this server does not have"
#define NO_DISCOVERY "is about how etcd's members find each other; here nodes know of no peers"
#define NO_PEERS "is about connections between etcd's members; here there are none"
#define NO_BBOLT "tunes etcd's database engine; this one needs no such setting"
#define NO_GRPC "is about gRPC connections, which this version does not serve"
#define NO_TRACING "asks for traces, which this version does not make"
#define NO_CHECKS "is about comparing the stores of etcd's members; here there are none"

const struct config_flag config_flags[] = {
	{"config", FLAG_CONFIG, .key = "FILE", .why = "read properties from FILE first"},
	{"set", FLAG_SET, .key = "KEY=VALUE",
         .why = "set a key; may be given many times, the last one counts"},
	{"check-config", FLAG_ACTION, true, CONFIG_CHECK,
         .why = "say whether the configuration is valid, and end"},
	{"print-sample", FLAG_ACTION, true, CONFIG_PRINT_SAMPLE,
         .why = "print a file with every key, and end"},
	{"print-doc", FLAG_ACTION, true, CONFIG_PRINT_DOC,
         .why = "print the tables of keys and flags, and end"},
	{"version", FLAG_ACTION, true, CONFIG_VERSION, .why = "print the version, and end"},
	{"help", FLAG_ACTION, true, CONFIG_HELP, .why = "print this text, and end"},
	{"h", FLAG_ACTION, true, CONFIG_HELP, .why = "the same"},

	{"name", FLAG_KEY, .key = "node.name"},
	{"data-dir", FLAG_KEY, .key = "data.dir"},
	{"listen-client-urls", FLAG_KEY, .key = "listeners"},
	{"advertise-client-urls", FLAG_KEY, .key = "advertised.listeners"},
	{"cors", FLAG_KEY, .key = "cors.origins"},
	{"host-whitelist", FLAG_KEY, .key = "host.whitelist"},
	{"max-request-bytes", FLAG_KEY, .key = "max.request.bytes"},
	{"max-txn-ops", FLAG_KEY, .key = "max.txn.ops"},
	{"quota-backend-bytes", FLAG_KEY, .key = "quota.backend.bytes"},
	{"auto-compaction-mode", FLAG_KEY, .key = "auto.compaction.mode"},
	{"auto-compaction-retention", FLAG_KEY, .key = "auto.compaction.retention"},
	{"watch-progress-notify-interval", FLAG_DURATION, .key = "watch.progress.notify.interval.ms"},
	{"auth-token", FLAG_KEY, .key = "token.type"},
	{"auth-token-ttl", FLAG_KEY, .key = "token.ttl.secs"},
	{"bcrypt-cost", FLAG_KEY, .key = "auth.bcrypt.cost"},
	{"log-level", FLAG_KEY, .key = "log.level"},
	{"log-format", FLAG_KEY, .key = "log.format"},
	{"warning-apply-duration", FLAG_DURATION, .key = "slow.request.ms"},

	{"cert-file", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},
	{"key-file", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},
	{"client-cert-file", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},
	{"client-key-file", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},
	{"client-cert-auth", FLAG_ONLY, true, .allowed = "false", .why = CONFIG_NO_TLS},
	{"client-crl-file", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},
	{"client-cert-allowed-hostname", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},
	{"trusted-ca-file", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},
	{"auto-tls", FLAG_ONLY, true, .allowed = "false", .why = CONFIG_NO_TLS},
	{"self-signed-cert-validity", FLAG_ONLY, .allowed = "1", .why = CONFIG_NO_TLS},
	{"cipher-suites", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},
	{"tls-min-version", FLAG_ONLY, .allowed = "TLS1.2", .why = CONFIG_NO_TLS},
	{"tls-max-version", FLAG_ONLY, .allowed = "", .why = CONFIG_NO_TLS},

	{"logger", FLAG_ONLY, .allowed = "zap",
         .why = "names etcd's logging library, of which there is only zap"},
	{"log-outputs", FLAG_ONLY, .allowed = "default|stderr",
         .why = "says where log lines go; here it is standard error only"},
	{"enable-log-rotation", FLAG_ONLY, true, .allowed = "false",
         .why = "is about log files; log lines go to standard error only"},
	{"log-rotation-config-json", FLAG_IGNORED,
         .why = "is about log files; log lines go to standard error only"},
	{"enable-pprof", FLAG_ONLY, true, .allowed = "false",
         .why = "asks for Go's profiler; there is none here"},
	{"metrics", FLAG_IGNORED, .why = "chooses among etcd's metrics; here all are always served"},
	{"enable-grpc-gateway", FLAG_ONLY, true, .allowed = "true",
         .why = "would leave no way in: JSON over HTTP is what this version serves"},
	{"enable-v2", FLAG_ONLY, true, .allowed = "false",
         .why = "asks for etcd's v2 API; only v3 is served"},
	{"v2-deprecation", FLAG_IGNORED, .why = "is about etcd's v2 store"},
	{"listen-client-http-urls", FLAG_ONLY, .allowed = "",
         .why = "is not known here: all clients connect at --listen-client-urls"},
	{"listen-metrics-urls", FLAG_ONLY, .allowed = "",
         .why = "is not known here: metrics and health are served at --listen-client-urls"},
	{"config-file", FLAG_REFUSED,
         .why = "names a YAML file of etcd; give a properties file with --config"},
	{"feature-gates", FLAG_ONLY, .allowed = "", .why = "turns on features of etcd that are not here"},

	{"max-concurrent-streams", FLAG_IGNORED, .why = NO_GRPC},
	{"grpc-keepalive-min-time", FLAG_IGNORED, .why = NO_GRPC},
	{"grpc-keepalive-interval", FLAG_IGNORED, .why = NO_GRPC},
	{"grpc-keepalive-timeout", FLAG_IGNORED, .why = NO_GRPC},
	{"socket-reuse-port", FLAG_ONLY, true, .allowed = "false",
         .why = "would let two servers share a port; this one never does"},
	{"socket-reuse-address", FLAG_IGNORED, true, .why = "is always on here"},
	{"backend-bbolt-freelist-type", FLAG_IGNORED, .why = NO_BBOLT},
	{"backend-batch-interval", FLAG_IGNORED, .why = NO_BBOLT},
	{"backend-batch-limit", FLAG_IGNORED, .why = NO_BBOLT},
	{"bootstrap-defrag-threshold-megabytes", FLAG_IGNORED, .why = NO_BBOLT},
	{"compaction-batch-limit", FLAG_IGNORED, .why = "tunes etcd's compaction; this one paces itself"},
	{"compaction-sleep-interval", FLAG_IGNORED,
         .why = "tunes etcd's compaction; this one paces itself"},
	{"warning-unary-request-duration", FLAG_IGNORED,
         .why = "has one limit with --warning-apply-duration here, which sets it"},
	{"memory-mlock", FLAG_ONLY, true, .allowed = "false",
         .why = "asks to lock memory, which this server does not"},
	{"unsafe-no-fsync", FLAG_IGNORED, true,
         .why = "would lose data: changes are always synced to disk"},
	{"enable-distributed-tracing", FLAG_ONLY, true, .allowed = "false", .why = NO_TRACING},
	{"distributed-tracing-*", FLAG_IGNORED, .why = NO_TRACING},

	{"corrupt-check-time", FLAG_ONLY, .allowed = "0|0s", .why = NO_CHECKS},
	{"compact-hash-check-time", FLAG_IGNORED, .why = NO_CHECKS},
	{"downgrade-check-time", FLAG_IGNORED, .why = NO_CHECKS},
	{"max-learners", FLAG_IGNORED, .why = "is about etcd's members; here there is one"},
	{"listen-peer-urls", FLAG_REFUSED, .why = NO_PEERS},
	{"initial-advertise-peer-urls", FLAG_REFUSED, .why = NO_PEERS},
	{"peer-*", FLAG_REFUSED, .why = NO_PEERS},
	{"raft-*", FLAG_REFUSED, .why = NO_PEERS},
	{"initial-*", FLAG_REFUSED, .why = NO_CONSENSUS},
	{"force-new-cluster", FLAG_ONLY, true, .allowed = "false", .why = NO_CONSENSUS},
	{"heartbeat-interval", FLAG_REFUSED, .why = NO_CONSENSUS},
	{"election-timeout", FLAG_REFUSED, .why = NO_CONSENSUS},
	{"pre-vote", FLAG_REFUSED, true, .why = NO_CONSENSUS},
	{"strict-reconfig-check", FLAG_REFUSED, true, .why = NO_CONSENSUS},
	{"snapshot-count", FLAG_REFUSED, .why = NO_CONSENSUS},
	{"snapshot-catchup-entries", FLAG_REFUSED, .why = NO_CONSENSUS},
	{"max-snapshots", FLAG_REFUSED, .why = NO_CONSENSUS},
	{"max-wals", FLAG_REFUSED, .why = NO_CONSENSUS},
	{"wal-dir", FLAG_REFUSED, .why = NO_CONSENSUS},
	{"discovery*", FLAG_REFUSED, .why = NO_DISCOVERY},
	{"proxy*", FLAG_REFUSED, .why = "asks for etcd's proxy; there is none here"},
	{"gateway*", FLAG_REFUSED, .why = "asks for etcd's proxy; there is none here"},
	{"experimental-*", FLAG_REFUSED, .why = "is experimental in etcd and not known here"},
};

const size_t config_flag_count = sizeof config_flags / sizeof *config_flags;

static bool matches(const struct config_flag *flag, const char *name, size_t len)
{
	size_t own = strlen(flag->name);

	if (flag->name[own - 1] == '*')
		return len >= own - 1 && memcmp(flag->name, name, own - 1) == 0;
	return len == own && memcmp(flag->name, name, len) == 0;
}

const struct config_flag *config_flag_find(const char *name, size_t len)
{
	for (size_t i = 0; i < config_flag_count; i++)
		if (matches(&config_flags[i], name, len))
			return &config_flags[i];
	return NULL;
}

/* Keys are no flags, but a person may well try one. */
static void append_nearest(const char *name, struct buf *message)
{
	const char *nearest = NULL;
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < config_flag_count; i++) {
		size_t distance = config_distance(name, config_flags[i].name);

		if (distance < best && config_flags[i].kind != FLAG_REFUSED) {
			best = distance;
			nearest = config_flags[i].name;
		}
	}
	if (config_key_find(name) != NULL)
		buf_printf(message, "; the key is set with --set %s=VALUE", name);
	else if (nearest != NULL && config_is_near(best, nearest))
		buf_printf(message, "; did you mean --%s?", nearest);
}

static enum status_code refuse_unknown(const char *name, size_t len, struct buf *message)
{
	char text[128];

	buf_printf(message, "--%.*s: there is no such flag", (int)len, name);
	if (len < sizeof text) {
		memcpy(text, name, len);
		text[len] = '\0';
		append_nearest(text, message);
	}
	buf_append_text(message, "; --help lists them\n");
	return STATUS_BAD_REQUEST;
}

/* The name in "--name=value", or NULL. */
static const char *skip_dashes(const char *word)
{
	if (*word != '-')
		return NULL;
	word += word[1] == '-' ? 2 : 1;
	return *word == '\0' || *word == '-' || *word == '=' ? NULL : word;
}

/* Behind a word with '=' it may be the rest of a password that a blank has cut
 * in two, so it is not shown there. */
static enum status_code refuse_word(char **argv, int position, struct buf *message)
{
	bool is_on;

	buf_printf(message, "argument %d", position);
	if (position == 1 || strchr(argv[position - 1], '=') == NULL)
		buf_printf(message, ", %s,", argv[position]);
	buf_append_text(message, " is not a flag; flags begin with --");
	if (config_parse_flag(argv[position], &is_on))
		buf_append_text(message, ", and those that are true or false take their value after =");
	buf_append_text(message, "\n");
	return STATUS_BAD_REQUEST;
}

enum status_code config_option_next(int argc, char **argv, int *at, struct config_option *out,
                                    struct buf *message)
{
	int position = (*at)++;
	const char *name = skip_dashes(argv[position]);
	size_t len;

	if (name == NULL)
		return refuse_word(argv, position, message);
	len = strcspn(name, "=");
	*out = (struct config_option){.flag = config_flag_find(name, len), .name = name, .name_len = len};
	if (out->flag == NULL)
		return refuse_unknown(name, len, message);
	if (name[len] == '=')
		out->value = name + len + 1;
	else if (out->flag->is_boolean)
		out->value = "true";
	else if (out->flag->kind == FLAG_REFUSED && (*at == argc || *argv[*at] == '-'))
		out->value = ""; /* a boolean among those that the row stands for, or no matter */
	else if (*at < argc)
		out->value = argv[(*at)++];
	if (out->value != NULL)
		return STATUS_OK;
	buf_printf(message, "--%.*s: a value must follow\n", (int)len, name);
	return STATUS_BAD_REQUEST;
}

bool config_flag_allows(const struct config_flag *flag, const char *value)
{
	const char *allowed = flag->allowed;

	for (;;) {
		size_t len = strcspn(allowed, "|");

		if (strlen(value) == len && memcmp(allowed, value, len) == 0)
			return true;
		if (allowed[len] == '\0')
			return false;
		allowed += len + 1;
	}
}
