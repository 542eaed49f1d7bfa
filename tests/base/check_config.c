/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_flags.h"
#include "base/config_table.h"
#include "base/duration.h"
#include "lib/test.h"

enum { MAX_WORDS = 24 };

static struct config *config;
static struct buf message;

static void setup(void)
{
	buf_init(&message);
}

static void teardown(void)
{
	config_free(config);
	config = NULL;
	buf_release(&message);
}

/* Loads with words and variables parted by blanks. A tab stands for a blank. */
static enum status_code load(const char *command, const char *environment)
{
	static char words[2][2048];
	static char *lists[2][MAX_WORDS + 1];
	const char *texts[2] = {command, environment};
	int counts[2];
	enum status_code status;

	for (int i = 0; i < 2; i++) {
		snprintf(words[i], sizeof words[i], i == 0 ? "ketad %s" : "%s", texts[i]);
		counts[i] = 0;
		for (char *word = strtok(words[i], " "); word != NULL; word = strtok(NULL, " ")) {
			for (char *tab = word; (tab = strchr(tab, '\t')) != NULL;)
				*tab = ' ';
			ck_assert_int_lt(counts[i], MAX_WORDS);
			lists[i][counts[i]++] = word;
		}
		lists[i][counts[i]] = NULL;
	}
	config_free(config);
	buf_reset(&message);
	status = config_load(counts[0], lists[0], lists[1], &config, &message);
	buf_append_byte(&message, '\0');
	ck_assert_int_eq(status == STATUS_OK, config != NULL);
	return status;
}

static const char *said(void)
{
	return (const char *)message.data;
}

static void expect_run(const char *command)
{
	ck_assert_msg(load(command, "") == STATUS_OK, "%s: %s", command, said());
}

static void expect_refusal(enum status_code status, const char *text)
{
	ck_assert_ptr_null(config);
	ck_assert_msg(strstr(said(), text) != NULL, "not said: %s\nbut: %s", text, said());
	ck_assert_int_eq(said()[strlen(said()) - 1], '\n');
	ck_assert_int_ne(status, STATUS_OK);
}

/* Writes a file of properties and loads it. */
static enum status_code load_file(const char *text, const char *command, const char *environment)
{
	static char path[512];
	char words[1024];
	FILE *file;

	snprintf(path, sizeof path, "%s/keta.properties", test_directory());
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(text, file), 0);
	ck_assert_int_eq(fclose(file), 0);
	snprintf(words, sizeof words, "--config %s %s", path, command);
	return load(words, environment);
}

START_TEST(without_anything_the_defaults_hold)
{
	expect_run("");
	ck_assert_str_eq(said(), "");
	ck_assert_int_eq(config->action, CONFIG_RUN);
	ck_assert_str_eq(config->name, "default");
	ck_assert_str_eq(config->data_dir, "keta-data");
	ck_assert_str_eq(config->listeners, "http://0.0.0.0:2379");
	ck_assert_str_eq(config->advertised_listeners, "");
	ck_assert_str_eq(config->cors_origins, "*");
	ck_assert_str_eq(config->host_whitelist, "*");
	ck_assert_str_eq(config->cluster_group_id, "keta");
	ck_assert_str_eq(config->host_name, "");
	ck_assert(config->leader_eligibility);
	ck_assert_int_eq(config->max_request_bytes, 1572864);
	ck_assert_int_eq(config->max_txn_ops, 128);
	ck_assert_int_eq(config->quota_backend_bytes, INT64_C(2147483648));
	ck_assert_int_eq(config->compaction_mode, COMPACTION_OFF);
	ck_assert_int_eq(config->compaction_retention, 0);
	ck_assert_int_eq(config->auth_token_ttl_sec, 300);
	ck_assert_int_eq(config->bcrypt_cost, 10);
	ck_assert_int_eq(config->slow_request_ms, 100);
	ck_assert_int_eq(config->progress_notify_ms, 600000);
	ck_assert_int_eq(config->http_threads, 0);
	ck_assert_int_eq(config->connection_limit, 20000);
	ck_assert_int_eq(config->log_level, LOGGER_INFO);
	ck_assert_int_eq(config->log_format, LOGGER_AUTO);
	ck_assert(!config->debug);
}
END_TEST

START_TEST(a_later_source_wins)
{
	const char *file = "node.name=file\nmax.txn.ops=1\nlog.level=debug\n";

	ck_assert_int_eq(load_file(file, "", ""), STATUS_OK);
	ck_assert_str_eq(config->name, "file");
	ck_assert_int_eq(load_file(file, "", "KETA_NODE_NAME=variable KETA_MAX_TXN_OPS=2"), STATUS_OK);
	ck_assert_str_eq(config->name, "variable");
	ck_assert_int_eq(config->max_txn_ops, 2);
	ck_assert_int_eq(config->log_level, LOGGER_DEBUG);
	ck_assert_int_eq(load_file(file, "--name=one --set node.name=two", "KETA_NODE_NAME=variable"),
	                 STATUS_OK);
	ck_assert_str_eq(config->name, "two");
	ck_assert_int_eq(load_file(file, "--set node.name=two --name one", ""), STATUS_OK);
	ck_assert_str_eq(config->name, "one");
}
END_TEST

START_TEST(blanks_around_values_and_list_elements_do_not_count)
{
	ck_assert_int_eq(load_file("listeners = HTTP://a:1 , http://[::1]:0/  \nnode.name= x  \n", "", ""),
	                 STATUS_OK);
	ck_assert_str_eq(config->listeners, "HTTP://a:1,http://[::1]:0/");
	ck_assert_str_eq(config->name, "x");
}
END_TEST

START_TEST(of_a_key_that_comes_twice_the_last_counts_and_the_operator_is_told)
{
	ck_assert_int_eq(load_file("node.name=a\n\nnode.name=b\n", "", ""), STATUS_OK);
	ck_assert_str_eq(config->name, "b");
	ck_assert_ptr_nonnull(strstr(
		said(), "keta.properties:3: node.name: this is the value in force, line 1 is not\n"));
}
END_TEST

/* Values that are taken, by the text of the flag and what comes of it. */
START_TEST(etcds_flags_set_our_keys)
{
	expect_run("-name n --data-dir=d -listen-client-urls=http://127.0.0.1:1 --advertise-client-urls "
	           "https://x:2 "
	           "--cors http://good.example:8080,http://also.example:9090 --host-whitelist "
	           "127.0.0.1,good.example "
	           "--max-request-bytes 200000 --max-txn-ops 2 --auth-token simple --auth-token-ttl 2 "
	           "--bcrypt-cost 4");
	ck_assert_str_eq(said(), "");
	ck_assert_str_eq(config->name, "n");
	ck_assert_str_eq(config->data_dir, "d");
	ck_assert_str_eq(config->listeners, "http://127.0.0.1:1");
	ck_assert_str_eq(config->advertised_listeners, "https://x:2");
	ck_assert_str_eq(config->cors_origins, "http://good.example:8080,http://also.example:9090");
	ck_assert_str_eq(config->host_whitelist, "127.0.0.1,good.example");
	ck_assert_int_eq(config->max_request_bytes, 200000);
	ck_assert_int_eq(config->max_txn_ops, 2);
	ck_assert_int_eq(config->auth_token_ttl_sec, 2);
	ck_assert_int_eq(config->bcrypt_cost, 4);
	expect_run("--watch-progress-notify-interval 1s --warning-apply-duration 1m1.5s --log-level fatal "
	           "--log-format console");
	ck_assert_int_eq(config->progress_notify_ms, 1000);
	ck_assert_int_eq(config->slow_request_ms, 61500);
	ck_assert_int_eq(config->log_level, LOGGER_ERROR);
	ck_assert_int_eq(config->log_format, LOGGER_TEXT);
	expect_run("--watch-progress-notify-interval 0s");
	ck_assert_int_eq(config->progress_notify_ms, 600000);
}
END_TEST

static const struct {
	const char *text;
	int64_t bytes;
} QUOTAS[] = {
	{"0", INT64_C(2) << 30}, {"-1", -1},          {"5", 5},
	{"3KiB", 3072},          {"8\tMiB", 8 << 20}, {"16GiB", INT64_C(16) << 30},
};

START_TEST(a_quota_is_bytes_with_a_suffix_zero_or_negative)
{
	char words[64];

	snprintf(words, sizeof words, "--quota-backend-bytes %s", QUOTAS[_i].text);
	expect_run(words);
	ck_assert_int_eq(config->quota_backend_bytes, QUOTAS[_i].bytes);
}
END_TEST

static const struct {
	const char *command;
	enum config_compaction mode;
	int64_t retention;
} COMPACTIONS[] = {
	{"--auto-compaction-retention 0", COMPACTION_OFF, 0},
	{"--auto-compaction-retention 0s", COMPACTION_OFF, 0},
	{"--auto-compaction-retention 1", COMPACTION_PERIODIC, 3600000},
	{"--auto-compaction-retention=5m", COMPACTION_PERIODIC, 300000},
	{"--auto-compaction-retention 1h30m --auto-compaction-mode periodic", COMPACTION_PERIODIC, 5400000},
	{"--auto-compaction-retention 1000 --auto-compaction-mode revision", COMPACTION_REVISION, 1000},
	{"--auto-compaction-mode=revision --auto-compaction-retention 9000000000000000000",
         COMPACTION_REVISION, INT64_C(9000000000000000000)},
	{"--auto-compaction-mode=revision", COMPACTION_OFF, 0},
};

START_TEST(the_mode_says_what_retention_means)
{
	expect_run(COMPACTIONS[_i].command);
	ck_assert_int_eq(config->compaction_mode, COMPACTIONS[_i].mode);
	ck_assert_int_eq(config->compaction_retention, COMPACTIONS[_i].retention);
}
END_TEST

static const struct {
	const char *text;
	int64_t ms; /* -1: refused */
} DURATIONS[] = {
	{"0", 0},
	{"+0", 0},
	{"1s", 1000},
	{"1h2m3s4ms", 3723004},
	{"1.5h", 5400000},
	{".5s", 500},
	{"1.s", 1000},
	{"1ns", 1},
	{"1500us", 2},
	{"2\302\265s", 1},
	{"1000\316\274s", 1},
	{"+5m", 300000},
	{"0.0000000000000001h", 0},
	{"2562047h47m16.854775807s", INT64_C(9223372036855)},
	{"", -1},
	{"+", -1},
	{"1", -1},
	{"1.5", -1},
	{"s", -1},
	{".s", -1},
	{"-1s", -1},
	{"1d", -1},
	{"1s ", -1},
	{"1h1", -1},
	{"9223372036854775808ns", -1},
	{"2562048h", -1},
	{"1e3s", -1},
	{"99999999999999999999h", -1},
};

START_TEST(durations_are_gos)
{
	int64_t ms;

	ck_assert_int_eq(duration_parse(DURATIONS[_i].text, &ms), DURATIONS[_i].ms >= 0);
	if (DURATIONS[_i].ms >= 0)
		ck_assert_int_eq(ms, DURATIONS[_i].ms);
}
END_TEST

#define KAFKA "--set kafkacache.bootstrap.servers=k:9092 "

/* Each is refused, with this in the message. */
static const struct {
	const char *command;
	enum status_code status;
	const char *text;
} REFUSED[] = {
	/* usage */
	{"--bogus", STATUS_BAD_REQUEST, "--bogus: there is no such flag"},
	{"--data-dri=/x", STATUS_BAD_REQUEST, "did you mean --data-dir?"},
	{"--log.level=debug", STATUS_BAD_REQUEST, "--set log.level=VALUE"},
	{"--name", STATUS_BAD_REQUEST, "--name: a value must follow"},
	{"stray", STATUS_BAD_REQUEST, "argument 1, stray, is not a flag; flags begin with --\n"},
	{"--enable-pprof false", STATUS_BAD_REQUEST,
         "argument 2, false, is not a flag; flags begin with --, and those that are true or false take "
         "their value after =\n"},
	{"-- x", STATUS_BAD_REQUEST, "argument 1, --, is not a flag"},
	{"---name=x", STATUS_BAD_REQUEST, "argument 1, ---name=x, is not a flag"},
	{"--=x", STATUS_BAD_REQUEST, "argument 1, --=x, is not a flag"},
	{"--set ssl.key.password=a secret", STATUS_BAD_REQUEST, "argument 3 is not a flag"},
	{"--set node.name", STATUS_BAD_REQUEST, "--set: must be followed by KEY=VALUE"},
	{"--version=maybe", STATUS_BAD_REQUEST, "--version: must be true or false"},
	{"--config a --config b", STATUS_BAD_REQUEST, "--config: may be given once"},
	/* values */
	{"--set node.nam=x", STATUS_BAD_CONFIG,
         "--set node.nam: there is no such key; did you mean node.name?"},
	{"--set zzzzzz=x", STATUS_BAD_CONFIG, "--set zzzzzz: there is no such key; --help"},
	{"--name=", STATUS_BAD_CONFIG, "--name: \"\" must not be empty"},
	{"--max-txn-ops 0", STATUS_BAD_CONFIG, "--max-txn-ops: \"0\" must be from 1 to 1000000"},
	{"--max-txn-ops 1x", STATUS_BAD_CONFIG, "must be a whole number"},
	{"--max-txn-ops 99999999999999999999", STATUS_BAD_CONFIG, "must be a whole number"},
	{"--max-request-bytes 1MB", STATUS_BAD_CONFIG, "KiB, MiB or GiB"},
	{"--max-request-bytes 9999999999GiB", STATUS_BAD_CONFIG, "KiB, MiB or GiB"},
	{"--log-level loud", STATUS_BAD_CONFIG, "must be one of debug, info, warn, error"},
	{"--set debug=yes", STATUS_BAD_CONFIG, "must be true or false"},
	{"--warning-apply-duration 100", STATUS_BAD_CONFIG, "must be a duration"},
	{"--warning-apply-duration -1s", STATUS_BAD_CONFIG, "must be a duration"},
	{"--auto-compaction-retention -5", STATUS_BAD_CONFIG, "must be a number, or a duration"},
	{"--auto-compaction-retention 5m --auto-compaction-mode revision", STATUS_BAD_CONFIG,
         "must be a number of revisions when auto.compaction.mode is revision"},
	{"--auto-compaction-mode never", STATUS_BAD_CONFIG, "must be one of periodic, revision"},
	{"--name \377", STATUS_BAD_CONFIG, "--name: must be UTF-8"},
	{"--name a\nb", STATUS_BAD_CONFIG, "--name: must be UTF-8 without control characters"},
	{"--listen-client-urls=", STATUS_BAD_CONFIG, "must not be empty"},
	{"--listen-client-urls http://a", STATUS_BAD_CONFIG,
         "http://HOST:PORT, parted by commas; the port is missing"},
	{"--listen-client-urls http://[::1]/", STATUS_BAD_CONFIG, "the port is missing"},
	{"--listen-client-urls http://a:65536", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--listen-client-urls http://a:+1", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--listen-client-urls http://a:1/x", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--listen-client-urls http://::1:1", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--listen-client-urls http://[::1:1", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--listen-client-urls a:1", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--listen-client-urls http://[zz]:1", STATUS_BAD_CONFIG, "no IP address"},
	{"--listen-client-urls http://[1.2.3.4]:1", STATUS_BAD_CONFIG, "no IP address"},
	{"--listen-client-urls http://[::1%]:1", STATUS_BAD_CONFIG, "no IP address"},
	{"--listen-client-urls http://300.1.1.1:1", STATUS_BAD_CONFIG, "no IP address"},
	{"--listen-client-urls http://127.1:1", STATUS_BAD_CONFIG, "no IP address"},
	{"--advertise-client-urls http://[::g]:1", STATUS_BAD_CONFIG, "no IP address"},
	{"--cors http://good.example/", STATUS_BAD_CONFIG, "must be * or origins"},
	{"--cors http://good.example,also.example", STATUS_BAD_CONFIG, "must be * or origins"},
	{"--cors http://", STATUS_BAD_CONFIG, "must be * or origins"},
	{"--cors ://good.example", STATUS_BAD_CONFIG, "must be * or origins"},
	{"--listen-client-urls unix:///x", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--listen-client-urls http://a:1,", STATUS_BAD_CONFIG, "must not end with a comma"},
	{"--listen-client-urls http://a:1,,http://b:1", STATUS_BAD_CONFIG, "without empty elements"},
	{"--advertise-client-urls http://:1", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--advertise-client-urls ftp://a:1", STATUS_BAD_CONFIG, "http://HOST:PORT"},
	{"--config /nonexistent/file", STATUS_BAD_CONFIG, "/nonexistent/file: No such file"},
	{"--config /", STATUS_BAD_CONFIG, "/: Is a directory"},
	/* what is not built */
	{"--listen-client-urls http://a:1,https://b:1", STATUS_BAD_CONFIG,
         "asks for TLS, which is not built"},
	{"--cert-file x", STATUS_BAD_CONFIG, "--cert-file: asks for TLS, which is not built"},
	{"--key-file=x", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--trusted-ca-file=x", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--client-cert-auth", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--client-cert-auth=T", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--client-crl-file=x", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--auto-tls", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--tls-min-version TLS1.3", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--set ssl.keystore.location=x", STATUS_BAD_CONFIG,
         "--set ssl.keystore.location: \"x\" asks for TLS"},
	{"--set ssl.truststore.location=x", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--set ssl.client.authentication=REQUIRED", STATUS_BAD_CONFIG, "asks for TLS"},
	{"--auth-token jwt,pub-key=a,priv-key=b,sign-method=RS256,ttl=10m", STATUS_BAD_CONFIG,
         "asks for signed tokens, which are not built"},
	{"--auth-token=", STATUS_BAD_CONFIG, "token.type must be simple"},
	{"--set token.type=jwt", STATUS_BAD_CONFIG, "asks for signed tokens"},
	{"--set token.public.key.path=x", STATUS_BAD_CONFIG, "asks for signed tokens"},
	{"--set kafkacache.topic.read.only=true", STATUS_BAD_CONFIG, "asks for a node that only reads"},
	{"--set kafkacache.topic=a", STATUS_BAD_CONFIG, "kafkacache.bootstrap.servers is not set"},
	{"--set kafkacache.topic=a --set kafkacache.bootstrap.servers=\t", STATUS_BAD_CONFIG,
         "kafkacache.bootstrap.servers is not set"},
	{"--set kafkacache.bootstrap.servers=", STATUS_BAD_CONFIG,
         "kafkacache.bootstrap.servers is not set"},
	{"--set kafkacache.sasl.username=x", STATUS_BAD_CONFIG,
         "--set kafkacache.sasl.username: is for the Kafka log, but"},
	{"--set topic.prefix=x", STATUS_BAD_CONFIG, "--set topic.prefix: is for the Kafka log, but"},
	{"--set log.skip.offset=-1", STATUS_BAD_CONFIG, "is for the Kafka log, but"},
	/* values of Kafka's keys */
	{KAFKA "--set kafkacache.bootstrap.servers=a:1,,b:1", STATUS_BAD_CONFIG, "without empty elements"},
	{KAFKA "--set kafkacache.bootstrap.servers=a:1\tb:1", STATUS_BAD_CONFIG, "parted by commas"},
	{KAFKA "--set kafkacache.topic.replication.factor=0", STATUS_BAD_CONFIG, "must be from 1 to 32767"},
	{KAFKA "--set topic.prefix=", STATUS_BAD_CONFIG, "characters that a topic's name may have"},
	{KAFKA "--set topic.prefix=a/b", STATUS_BAD_CONFIG, "characters that a topic's name may have"},
	{KAFKA "--set read.barrier=none", STATUS_BAD_CONFIG, "must be one of record, watermark"},
	{KAFKA "--set checkpoint.interval.ms=999", STATUS_BAD_CONFIG, "must be from 1000 to"},
	{KAFKA "--set checkpoint.log.bytes=63KiB", STATUS_BAD_CONFIG, "must be from 65536 to"},
	{KAFKA "--set log.skip.offset=-2", STATUS_BAD_CONFIG, "must be from -1 to"},
	{KAFKA "--set kafkacache.=1", STATUS_BAD_CONFIG, "there is no such property of Kafka's client"},
	{KAFKA "--set kafkacache.Sasl=1", STATUS_BAD_CONFIG, "there is no such property of Kafka's client"},
	/* what has no place here */
	{"--initial-cluster a=http://a:1 --initial-cluster-state new", STATUS_BAD_CONFIG,
         "--initial-cluster-state: "},
	{"--listen-peer-urls http://a:1", STATUS_BAD_CONFIG,
         "--listen-peer-urls: is about connections between"},
	{"--initial-advertise-peer-urls http://a:1", STATUS_BAD_CONFIG, "connections between"},
	{"--peer-auto-tls", STATUS_BAD_CONFIG, "--peer-auto-tls: is about connections between"},
	{"--heartbeat-interval 1 --election-timeout=1", STATUS_BAD_CONFIG,
         "--election-timeout: belongs to"},
	{"--discovery-srv x", STATUS_BAD_CONFIG, "--discovery-srv: "},
	{"--force-new-cluster", STATUS_BAD_CONFIG, "own consensus"},
	{"--pre-vote=false", STATUS_BAD_CONFIG, "own consensus"},
	{"--experimental-foo=1", STATUS_BAD_CONFIG, "experimental in etcd"},
	{"--config-file x", STATUS_BAD_CONFIG, "YAML"},
	{"--logger capnslog", STATUS_BAD_CONFIG, "only zap"},
	{"--log-outputs /var/log/x", STATUS_BAD_CONFIG, "standard error only"},
	{"--enable-pprof", STATUS_BAD_CONFIG, "profiler"},
	{"--enable-pprof=perhaps", STATUS_BAD_CONFIG, "must be true or false"},
	{"--enable-grpc-gateway=false", STATUS_BAD_CONFIG, "no way in"},
	{"--listen-metrics-urls http://a:1", STATUS_BAD_CONFIG, "--listen-client-urls"},
};

START_TEST(what_is_wrong_is_refused_and_named)
{
	enum status_code status = load(REFUSED[_i].command, "");

	ck_assert_int_eq(status, REFUSED[_i].status);
	expect_refusal(status, REFUSED[_i].text);
}
END_TEST

static const char *const TAKEN[] = {
	"--listen-client-urls http://127.0.0.1:0,http://[::1]:0",
	"--listen-client-urls http://[::ffff:10.0.0.1]:1,http://[fe80::1%eth0]:1",
	"--listen-client-urls HTTP://localhost:2379/,http://:2380",
	"--listen-client-urls http://10.example:1,http://a_b.c-d:65535",
	"--advertise-client-urls https://keta.example:443,http://[2001:db8::1]:2379/",
	"--advertise-client-urls=",
	"--cors=",
	"--cors http://good.example,https://also.example:9090,http://[::1]:8080",
	"--cors chrome-extension://abcdefghijklmnop",
	"--cors *",
};

START_TEST(addresses_names_and_origins_are_taken)
{
	expect_run(TAKEN[_i]);
	ck_assert_str_eq(said(), "");
}
END_TEST

START_TEST(what_changes_nothing_is_taken)
{
	expect_run(
		"--logger zap --log-outputs stderr --enable-pprof=false --enable-grpc-gateway --auto-tls=F "
		"--client-cert-auth=0 --cert-file= --trusted-ca-file= --force-new-cluster=false "
		"--corrupt-check-time 0s");
	ck_assert_str_eq(said(), "");
	ck_assert_int_eq(
		load_file("token.type=simple\nssl.keystore.location=\nssl.client.authentication=NONE\n"
	                  "ssl.keystore.type=JKS\nleader.eligibility=true\ncluster.group.id=keta\n"
	                  "host.name=h\ndebug=true\n",
	                  "", ""),
		STATUS_OK);
	ck_assert_str_eq(said(), "");
	ck_assert(config->debug);
}
END_TEST

START_TEST(a_flag_without_effect_is_noted)
{
	expect_run("--metrics extensive --unsafe-no-fsync --backend-batch-limit=5 --name x");
	ck_assert_ptr_nonnull(strstr(said(), "--metrics: has no effect: "));
	ck_assert_ptr_nonnull(strstr(said(), "--unsafe-no-fsync: has no effect: "));
	ck_assert_ptr_nonnull(strstr(said(), "--backend-batch-limit: has no effect: "));
	ck_assert_str_eq(config->name, "x");
}
END_TEST

START_TEST(all_that_is_wrong_is_said_at_once_with_its_place)
{
	enum status_code status =
		load_file("# x\nmax.txn.opps=3\nlog.level=loud\nbad=\\u12\n",
	                  "--set http.threads=-1 --auto-tls", "KETA_DATA_DRI=x KETA_LOG_FORMAT=xml");

	ck_assert_int_eq(status, STATUS_BAD_CONFIG);
	expect_refusal(
		status,
		"keta.properties:2: max.txn.opps: there is no such key; did you mean max.txn.ops?\n");
	expect_refusal(status, "keta.properties:3: log.level: \"loud\" must be one of ");
	expect_refusal(status, "keta.properties:4: \\u must be followed by four hexadecimal digits\n");
	expect_refusal(status, "KETA_DATA_DRI: there is no such variable; did you mean KETA_DATA_DIR?\n");
	expect_refusal(status, "KETA_LOG_FORMAT: \"xml\" must be one of ");
	expect_refusal(status, "--set http.threads: \"-1\" must be from 0 to 1024\n");
	expect_refusal(status, "--auto-tls: asks for TLS");
}
END_TEST

START_TEST(a_wrong_file_does_not_flood_the_log)
{
	static char text[100000];

	for (size_t i = 0; i + 2 < sizeof text; i += 2)
		memcpy(text + i, "a\n", 3);
	ck_assert_int_eq(load_file(text, "", ""), STATUS_BAD_CONFIG);
	ck_assert_uint_lt(message.len, 8192);
	expect_refusal(STATUS_BAD_CONFIG, "... and there is more\n");
}
END_TEST

START_TEST(a_bad_value_is_refused_even_when_a_later_one_is_good)
{
	ck_assert_int_eq(load_file("log.level=loud\n", "--log-level info", ""), STATUS_BAD_CONFIG);
}
END_TEST

START_TEST(variables_of_others_are_let_be)
{
	ck_assert_int_eq(
		load("",
	             "KETAX=1 PATH=/bin KETA_SERVICE_HOST=1 KETA_SERVICE_PORT=2 KETA_SERVICE_PORT_HTTP=3 "
	             "KETA_PORT=tcp://1 KETA_PORT_2379_TCP_ADDR=1 KETA_WORD"),
		STATUS_OK);
	ck_assert_str_eq(said(), "");
	ck_assert_int_eq(load("", "KETA_PORTS=1"), STATUS_BAD_CONFIG);
	ck_assert_int_eq(load("", "KETA_=1"), STATUS_BAD_CONFIG);
	ck_assert_int_eq(load("", "KETA_KAFKACACHE_TOPIC=1"), STATUS_BAD_CONFIG);
	expect_refusal(STATUS_BAD_CONFIG, "KETA_KAFKACACHE_TOPIC: is for the Kafka log");
}
END_TEST

START_TEST(variables_of_etcd_are_not_read_and_that_is_said)
{
	ck_assert_int_eq(load("", "ETCD_CERT_FILE=/x ETCD_NAME=y ETCD_PORT=1 ETCD_ ETCDCTL_API=3"),
	                 STATUS_OK);
	ck_assert_str_eq(said(), "ETCD_CERT_FILE: is not read; use the flag --cert-file\n"
	                         "ETCD_NAME: is not read; use the flag --name\n");
	ck_assert_str_eq(config->name, "default");
}
END_TEST

START_TEST(with_kafka_the_defaults_hold)
{
	expect_run(KAFKA);
	ck_assert_str_eq(said(), "");
	ck_assert_str_eq(config->kafka_servers, "k:9092");
	ck_assert_str_eq(config->kafka_group_id, "");
	ck_assert_str_eq(config->kafka_data_dir, "");
	ck_assert_str_eq(config->data_dir, "keta-data");
	ck_assert_int_eq(config->kafka_replication_factor, 3);
	ck_assert_int_eq(config->kafka_init_timeout_ms, 300000);
	ck_assert_int_eq(config->kafka_timeout_ms, 60000);
	ck_assert_uint_eq(config->kafka_property_count, 0);
	ck_assert_str_eq(config->topic_prefix, "_keta_");
	ck_assert_int_eq(config->read_barrier, CONFIG_BARRIER_RECORD);
	ck_assert_int_eq(config->checkpoint_interval_ms, 300000);
	ck_assert_int_eq(config->checkpoint_log_bytes, 64 << 20);
	ck_assert_int_eq(config->log_skip_offset, -1);
	expect_run("");
	ck_assert_str_eq(config->kafka_servers, "");
}
END_TEST

START_TEST(servers_that_cannot_be_read_are_refused_once)
{
	ck_assert_int_eq(load("--set kafkacache.bootstrap.servers=,,", ""), STATUS_BAD_CONFIG);
	ck_assert_str_eq(
		said(),
		"--set kafkacache.bootstrap.servers: \",,\" must be a list without empty elements\n");
}
END_TEST

START_TEST(a_file_of_the_original_is_taken)
{
	ck_assert_int_eq(
		load_file("listeners=http://0.0.0.0:2379\ncluster.group.id=keta\n"
	                  "kafkacache.bootstrap.servers=one:9092 , two:9092\nkafkacache.group.id=keta-1\n"
	                  "kafkacache.backing.cache=rocksdb\nkafkacache.data.dir=/tmp/keta\n"
	                  "kafkacache.checkpoint.dir=/tmp/keta\ndebug=false\n",
	                  "", ""),
		STATUS_OK);
	ck_assert_str_eq(config->kafka_servers, "one:9092,two:9092");
	ck_assert_str_eq(config->kafka_group_id, "keta-1");
	ck_assert_str_eq(config->kafka_data_dir, "/tmp/keta");
	ck_assert_str_eq(config->data_dir, "/tmp/keta");
	ck_assert_uint_eq(config->kafka_property_count, 0);
	ck_assert_ptr_nonnull(strstr(said(), ":5: kafkacache.backing.cache: has no effect: it "));
	ck_assert_ptr_nonnull(strstr(said(), "mapped to SQLite\n"));
	ck_assert_ptr_nonnull(strstr(said(), ":7: kafkacache.checkpoint.dir: has no effect: it "));
	expect_run(KAFKA "--set kafkacache.backing.cache=sqlite");
	ck_assert_str_eq(said(), "");
	expect_run(KAFKA "--set kafkacache.rocksdb.max.open.files=5");
	ck_assert_ptr_nonnull(strstr(said(), "kafkacache.rocksdb.max.open.files: has no effect"));
	ck_assert_uint_eq(config->kafka_property_count, 0);
}
END_TEST

START_TEST(of_two_data_directories_kafkas_wins)
{
	expect_run(KAFKA "--data-dir one --set kafkacache.data.dir=two");
	ck_assert_str_eq(config->data_dir, "two");
	ck_assert_str_eq(said(), "--data-dir: has no effect: kafkacache.data.dir is set\n");
	expect_run(KAFKA "--data-dir one");
	ck_assert_str_eq(config->data_dir, "one");
	ck_assert_str_eq(said(), "");
	ck_assert_int_eq(load(KAFKA, "KETA_KAFKACACHE_DATA_DIR=three"), STATUS_OK);
	ck_assert_str_eq(config->data_dir, "three");
	ck_assert_str_eq(said(), "");
}
END_TEST

START_TEST(a_host_name_stands_in_for_the_listeners_host)
{
	expect_run("--set host.name=keta.example --listen-client-urls http://0.0.0.0:1,http://[::]:2");
	ck_assert_str_eq(config->advertised_listeners, "http://keta.example:1,http://keta.example:2");
	expect_run("--set host.name=2001:db8::1 --listen-client-urls http://:1/");
	ck_assert_str_eq(config->advertised_listeners, "http://[2001:db8::1]:1/");
	expect_run("--set host.name=a --advertise-client-urls http://b:1");
	ck_assert_str_eq(config->advertised_listeners, "http://b:1");
	ck_assert_int_eq(load("--set host.name=a/b", ""), STATUS_BAD_CONFIG);
	expect_refusal(STATUS_BAD_CONFIG, "--set host.name: must be a host name or an IP address\n");
}
END_TEST

static void expect_property(const char *name, const char *value, const char *origin)
{
	for (size_t i = 0; i < config->kafka_property_count; i++) {
		const struct config_property *property = &config->kafka_properties[i];

		if (strcmp(property->name, name) != 0)
			continue;
		ck_assert_str_eq(property->value, value);
		ck_assert_ptr_nonnull(strstr(property->origin, origin));
		return;
	}
	ck_abort_msg("there is no property %s", name);
}

START_TEST(what_is_not_ours_is_for_kafkas_client_and_the_last_counts)
{
	ck_assert_int_eq(load_file("kafkacache.sasl.username=file\nkafkacache.sasl.password=a\n"
	                           "kafkacache.ssl.ca.pem=-----\\nline\\n-----\n"
	                           "kafkacache.sasl.password= hunter2 \n",
	                           KAFKA "--set kafkacache.socket.timeout.ms=3 --set "
	                                 "kafkacache.security.protocol=ssl",
	                           "KETA_KAFKACACHE_SASL_USERNAME=variable KETA_KAFKACACHE_LOG_LEVEL=7 "
	                           "KETA_KAFKACACHE_SECURITY_PROTOCOL=plaintext"),
	                 STATUS_OK);
	ck_assert_uint_eq(config->kafka_property_count, 6);
	expect_property("sasl.username", "variable", "KETA_KAFKACACHE_SASL_USERNAME");
	expect_property("sasl.password", "hunter2", "keta.properties:4: kafkacache.sasl.password");
	expect_property("ssl.ca.pem", "-----\nline\n-----", "keta.properties:3: ");
	expect_property("log_level", "7", "KETA_KAFKACACHE_LOG_LEVEL");
	expect_property("security.protocol", "ssl", "--set kafkacache.security.protocol");
	expect_property("socket.timeout.ms", "3", "--set kafkacache.socket.timeout.ms");
	ck_assert_ptr_nonnull(strstr(said(), ":4: kafkacache.sasl.password: this is the value in force"));
	ck_assert_ptr_null(strstr(said(), "hunter2"));
}
END_TEST

START_TEST(a_property_that_may_be_a_password_is_known_by_its_name)
{
	ck_assert(config_property_is_secret("sasl.password"));
	ck_assert(config_property_is_secret("sasl.oauthbearer.client.secret"));
	ck_assert(config_property_is_secret("ssl.key.pem"));
	ck_assert(config_property_is_secret("sasl.jaas.config"));
	ck_assert(config_property_is_secret("x.token"));
	ck_assert(!config_property_is_secret("sasl.username"));
}
END_TEST

START_TEST(properties_without_end_are_refused)
{
	static char text[100000];
	size_t len = 0;

	for (int i = 0; i < 1000; i++)
		len += (size_t)snprintf(text + len, sizeof text - len, "kafkacache.x%d=1\n", i);
	ck_assert_int_eq(load_file(text, KAFKA, ""), STATUS_BAD_CONFIG);
	expect_refusal(STATUS_BAD_CONFIG, "there are more properties than Kafka's client has\n");
}
END_TEST

static const char *const SECRETS[] = {
	"--set ssl.key.password=hunter2",
	"--set ssl.keystore.pasword=hunter2",
	"--set ssl.truststore.password= hunter2",
	"--set hunter2",
	"--passwd=hunter2",
	"--set kafkacache.sasl.jaas.config=hunter2",
	KAFKA "--set kafkacache.sasl.Password=hunter2",
	KAFKA "--set kafkacache.rdbms.password=hunter2 --set nonsense=1",
	"--listen-client-urls http://me:hunter2@host:1",
	"--cert-file hunter2",
};

START_TEST(no_message_shows_a_password)
{
	ck_assert_int_ne(load(SECRETS[_i], ""), STATUS_OK);
	ck_assert_ptr_null(strstr(said(), "hunter2"));
	ck_assert_int_ne(load("", "KETA_SSL_KEY_PASSWORD=hunter2 KETA_SSL_KEY_PASWORD=hunter2"), STATUS_OK);
	ck_assert_ptr_null(strstr(said(), "hunter2"));
	ck_assert_int_ne(
		load_file("ssl.key.password=hunter2\nssl.key.pass=hunter2\nx.password=hunter2\\u1\n", "",
	                  ""),
		STATUS_OK);
	ck_assert_ptr_null(strstr(said(), "hunter2"));
}
END_TEST

static const struct {
	const char *command;
	enum config_action action;
} ACTIONS[] = {
	{"--help", CONFIG_HELP},
	{"-h", CONFIG_HELP},
	{"-version", CONFIG_VERSION},
	{"--version=true", CONFIG_VERSION},
	{"--version=false", CONFIG_RUN},
	{"--check-config", CONFIG_CHECK},
	{"--print-sample", CONFIG_PRINT_SAMPLE},
	{"--print-doc", CONFIG_PRINT_DOC},
	{"--check-config --name x --help", CONFIG_HELP},
	{"--help --bogus", CONFIG_HELP}, /* help is for those who err */
	{"--set log.level=loud --config /nonexistent --version", CONFIG_VERSION},
};

START_TEST(an_action_is_not_stopped_by_what_it_does_not_need)
{
	ck_assert_int_eq(load(ACTIONS[_i].command, ""), STATUS_OK);
	ck_assert_int_eq(config->action, ACTIONS[_i].action);
}
END_TEST

START_TEST(a_check_checks)
{
	ck_assert_int_eq(load("--check-config --log-level loud", ""), STATUS_BAD_CONFIG);
	ck_assert_int_eq(load_file("nod.name=x\n", "--check-config", ""), STATUS_BAD_CONFIG);
}
END_TEST

START_TEST(every_row_is_whole)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];

		ck_assert_ptr_nonnull(key->name);
		ck_assert_ptr_eq(config_key_find(key->name), key); /* no name twice */
		ck_assert_msg(key->section >= SECTION_UNUSED || key->help != NULL, "%s", key->name);
		ck_assert_msg((key->section == SECTION_UNUSED) == (key->type == &config_type_unused), "%s",
		              key->name);
		ck_assert_msg(key->type != &config_type_unused || key->why != NULL, "%s", key->name);
		ck_assert_msg(key->type != &config_type_choice || key->choices != NULL, "%s", key->name);
		ck_assert_msg(key->type != &config_type_fixed || (key->choices != NULL && key->why != NULL),
		              "%s", key->name);
		ck_assert_msg(strstr(key->name, "password") == NULL || key->secret, "%s", key->name);
	}
	for (size_t i = 0; i < config_flag_count; i++) {
		const struct config_flag *flag = &config_flags[i];
		bool is_alias = flag->kind == FLAG_KEY || flag->kind == FLAG_DURATION;

		ck_assert_msg(is_alias ? config_key_find(flag->key) != NULL : flag->why != NULL, "%s",
		              flag->name);
		ck_assert_msg((flag->kind == FLAG_ONLY) == (flag->allowed != NULL), "%s", flag->name);
	}
}
END_TEST

/* The content of a file of the source tree, ended by NUL. */
static char *read_source(const char *name)
{
	static char text[1 << 17];
	char path[1024];
	FILE *file;
	size_t len;

	snprintf(path, sizeof path, "%s/%s", TOP_SRCDIR, name);
	file = fopen(path, "r");
	ck_assert_msg(file != NULL, "%s", path);
	len = fread(text, 1, sizeof text - 1, file);
	text[len] = '\0';
	fclose(file);
	return text;
}

START_TEST(the_sample_file_is_what_is_printed_and_loads)
{
	struct buf out;

	buf_init(&out);
	config_print_sample(&out);
	buf_append_byte(&out, '\0');
	ck_assert_str_eq(read_source("etc/keta.properties"), (char *)out.data);
	buf_release(&out);
	expect_run("--config " TOP_SRCDIR "/etc/keta.properties");
	ck_assert_str_eq(said(), "");
	ck_assert_str_eq(config->listeners, "http://127.0.0.1:2379");
}
END_TEST

/* Every line of the sample that only its '#' keeps from counting. */
START_TEST(the_sample_file_loads_with_every_key_uncommented)
{
	char *text = read_source("etc/keta.properties");

	for (char *c = text; (c = strstr(c, "\n#")) != NULL; c += 2)
		if (c[2] >= 'a' && c[2] <= 'z')
			c[1] = ' ';
	ck_assert_msg(load_file(text, KAFKA, "") == STATUS_OK, "%s", said());
	ck_assert_str_eq(config->name, "default");
}
END_TEST

START_TEST(the_tables_of_the_manual_are_what_is_printed)
{
	struct buf out;

	buf_init(&out);
	config_print_doc(&out);
	buf_append_byte(&out, '\0');
	ck_assert_ptr_nonnull(strstr(read_source("doc/configuration.md"), (char *)out.data));
	buf_release(&out);
}
END_TEST

START_TEST(help_names_every_key_and_own_flag)
{
	struct buf out;

	buf_init(&out);
	config_print_help(&out);
	buf_append_byte(&out, '\0');
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
		if (config_keys[i].section < SECTION_UNUSED)
			ck_assert_ptr_nonnull(strstr((char *)out.data, config_keys[i].name));
	ck_assert_ptr_nonnull(strstr((char *)out.data, "--config FILE"));
	ck_assert_ptr_nonnull(strstr((char *)out.data, "--set KEY=VALUE"));
	buf_release(&out);
}
END_TEST

#define ADD_TABLE(test, table) tcase_add_loop_test(tcase, test, 0, sizeof(table) / sizeof *(table))

static Suite *make_suite(void)
{
	Suite *suite = suite_create("config");
	TCase *tcase = tcase_create("config");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, without_anything_the_defaults_hold);
	tcase_add_test(tcase, a_later_source_wins);
	tcase_add_test(tcase, blanks_around_values_and_list_elements_do_not_count);
	tcase_add_test(tcase, of_a_key_that_comes_twice_the_last_counts_and_the_operator_is_told);
	tcase_add_test(tcase, etcds_flags_set_our_keys);
	ADD_TABLE(a_quota_is_bytes_with_a_suffix_zero_or_negative, QUOTAS);
	ADD_TABLE(the_mode_says_what_retention_means, COMPACTIONS);
	ADD_TABLE(durations_are_gos, DURATIONS);
	ADD_TABLE(what_is_wrong_is_refused_and_named, REFUSED);
	tcase_add_loop_test(tcase, addresses_names_and_origins_are_taken, 0,
	                    (int)(sizeof TAKEN / sizeof *TAKEN));
	tcase_add_test(tcase, what_changes_nothing_is_taken);
	tcase_add_test(tcase, a_flag_without_effect_is_noted);
	tcase_add_test(tcase, all_that_is_wrong_is_said_at_once_with_its_place);
	tcase_add_test(tcase, a_wrong_file_does_not_flood_the_log);
	tcase_add_test(tcase, a_bad_value_is_refused_even_when_a_later_one_is_good);
	tcase_add_test(tcase, variables_of_others_are_let_be);
	tcase_add_test(tcase, variables_of_etcd_are_not_read_and_that_is_said);
	tcase_add_test(tcase, with_kafka_the_defaults_hold);
	tcase_add_test(tcase, servers_that_cannot_be_read_are_refused_once);
	tcase_add_test(tcase, a_file_of_the_original_is_taken);
	tcase_add_test(tcase, a_host_name_stands_in_for_the_listeners_host);
	tcase_add_test(tcase, of_two_data_directories_kafkas_wins);
	tcase_add_test(tcase, what_is_not_ours_is_for_kafkas_client_and_the_last_counts);
	tcase_add_test(tcase, a_property_that_may_be_a_password_is_known_by_its_name);
	tcase_add_test(tcase, properties_without_end_are_refused);
	ADD_TABLE(no_message_shows_a_password, SECRETS);
	ADD_TABLE(an_action_is_not_stopped_by_what_it_does_not_need, ACTIONS);
	tcase_add_test(tcase, a_check_checks);
	tcase_add_test(tcase, every_row_is_whole);
	tcase_add_test(tcase, the_sample_file_is_what_is_printed_and_loads);
	tcase_add_test(tcase, the_sample_file_loads_with_every_key_uncommented);
	tcase_add_test(tcase, the_tables_of_the_manual_are_what_is_printed);
	tcase_add_test(tcase, help_names_every_key_and_own_flag);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
