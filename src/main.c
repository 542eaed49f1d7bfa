/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wiring: reads the configuration, opens store and log, starts engine and
 * edge, waits for a signal, and stops everything in reverse order.
 *
 * Under Kafka a lobby answers at the listeners until the node is ready; and when
 * the node has fallen behind what the log still holds, or its state turned out to
 * differ from the others', everything is stopped and loaded anew.
 */
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/logger.h"
#include "base/process.h"
#include "base/progress.h"
#include "base/version.h"
#include "edge/http.h"
#include "edge/listen_set.h"
#include "edge/lobby.h"
#include "engine/engine.h"
#include "log/embedded_log.h"
#include "replica.h"
#include "state/store.h"

enum {
	MAX_QUEUED_BYTES = 256 << 20,
	LARGE_BLOCK_BYTES = 256 << 10,
	MIN_OPEN_FILES = 64, /* the database, two event loops, and a few clients */
	EXIT_USAGE = 2,
	CLOSING_LIMIT_SEC = 10,
	READY_POLL_MS = 5,
};

struct server {
	const struct config *config;
	struct listen_set *listeners; /* until the edge has them */
	struct lobby *lobby;
	struct replica *replica; /* under Kafka: owns store and log */
	struct store *store;
	struct log *log;
	struct engine *engine;
	struct http *http;
	bool had_started;
};

/* What signals ask for; the process has one server. */
static struct {
	sigset_t set;
	volatile bool stop;
	_Atomic bool checkpoint;
	sem_t event; /* something was asked for, or the engine has given up */
} asked;

/* librdkafka 2.0.2 does not always end when it is told to. Nothing depends on it any more then. */
static struct {
	_Atomic unsigned turn; /* odd: it is being closed */
	_Atomic int status;    /* of the process, if it does not end */
} closing;

static void *watch_closing(void *arg)
{
	unsigned turn = (unsigned)(uintptr_t)arg;

	sleep(CLOSING_LIMIT_SEC);
	if (atomic_load(&closing.turn) != turn)
		return NULL;
	logger_warn("main", "Kafka's client does not end; the process ends without it", LOG_END);
	_exit(atomic_load(&closing.status));
}

static void begin_closing(int status)
{
	pthread_t watcher;
	unsigned turn = atomic_fetch_add(&closing.turn, 1) + 1;

	atomic_store(&closing.status, status);
	if (pthread_create(&watcher, NULL, watch_closing, (void *)(uintptr_t)turn) == 0)
		pthread_detach(watcher);
}

static void end_closing(void)
{
	atomic_fetch_add(&closing.turn, 1);
}

/* What an operator can do about a start that failed, by how it failed. The
 * texts of status.h are for clients, whom such a failure never reaches. The exit
 * status tells a service manager whether to try again: not after EX_CONFIG and
 * EX_DATAERR, for nothing will have changed by itself. */
struct start_failure {
	enum status_code status;
	int exit;
	const char *error;
	const char *advice;
};

static const struct start_failure START_FAILURES[] = {
	{STATUS_BAD_CONFIG, EX_CONFIG, "the configuration is not valid",
         "change what the line before names"},
	{STATUS_BAD_DATABASE, EX_DATAERR, "the database is not one that this version can use",
         "run the version that wrote it, restore a copy, or change data.dir"},
	{STATUS_CANNOT_LISTEN, EXIT_FAILURE, "one of the listeners cannot be listened at",
         "free the port, wait for the address, or change listeners"},
	{STATUS_TOO_FEW_FILES, EXIT_FAILURE, "too few files may be open at once",
         "raise the limit, with ulimit -n or LimitNOFILE="},
	{STATUS_BUSY, EXIT_FAILURE, "the data directory is in use by another server",
         "stop that server, or give this one a data.dir of its own"},
	{STATUS_DISK_FULL, EXIT_FAILURE, "no space is left for the data directory",
         "free some, or change data.dir"},
	{STATUS_IO_ERROR, EXIT_FAILURE, "the data directory or the database in it cannot be used",
         "mend what the lines before name, restore a copy, or change data.dir"},
	{STATUS_NO_MEMORY, EXIT_FAILURE, "there is not enough memory", "give the server more"},
	{STATUS_NO_KAFKA, EXIT_FAILURE, "Kafka cannot be reached",
         "mend what the lines before name; ketad --check-config asks Kafka again"},
	{STATUS_BAD_KAFKA, EX_CONFIG, "Kafka is not set up as it must be",
         "run the commands that the lines before name; ketad --check-config looks again"},
	{STATUS_BAD_LOG, EX_DATAERR, "the log in Kafka is not the one that this node follows",
         "do what the line before says"},
	{STATUS_REPLACED, EX_CONFIG, "another node runs under this one's name",
         "give every node a kafkacache.group.id of its own"},
	{STATUS_NEWER_RECORD, EX_DATAERR, "the cluster uses a format that this version does not know",
         "run the version that the other nodes run"},
	/* The last stands for all others. */
	{STATUS_INTERNAL, EXIT_FAILURE, "the system refused something that the server needs",
         "look at the limits of threads and open files"},
};

static const struct start_failure *find_failure(enum status_code status)
{
	const struct start_failure *failure = START_FAILURES;

	while (failure->status != status && failure->status != STATUS_INTERNAL)
		failure++;
	return failure;
}

static int exit_status(enum status_code status)
{
	return asked.stop || status == STATUS_OK ? EXIT_SUCCESS : find_failure(status)->exit;
}

/* Logs it and returns the exit status. */
static int explain_failure(enum status_code status, bool had_started)
{
	const struct start_failure *failure = find_failure(status);

	logger_error("main", had_started ? "cannot go on" : "cannot start",
	             LOG_STR("error", failure->error), LOG_STR("advice", failure->advice), LOG_END);
	return failure->exit;
}

/* With less the server would come up and then accept nobody. */
static enum status_code check_open_files(void)
{
	int64_t limit = process_raise_fd_limit();

	if (limit >= MIN_OPEN_FILES)
		return STATUS_OK;
	logger_error("main", "too few files may be open at once", LOG_I64("limit", limit),
	             LOG_I64("needed", MIN_OPEN_FILES), LOG_END);
	return STATUS_TOO_FEW_FILES;
}

static enum status_code start_edge(struct server *server)
{
	struct listen_set *listeners = server->listeners;

	server->listeners = NULL;
	return http_start(server->config, listeners, server->engine, &server->http);
}

static enum status_code start_alone(struct server *server)
{
	struct store_options options = {.dir = server->config->data_dir};
	enum status_code status = store_open(&options, &server->store);

	if (status != STATUS_OK)
		return status;
	status = embedded_log_open(server->store->saved.applied_offset, MAX_QUEUED_BYTES, &server->log);
	if (status == STATUS_OK)
		status = engine_start(server->config, server->log, server->store, &server->engine);
	if (status == STATUS_OK)
		status = listen_set_open(server->config->listeners, &server->listeners);
	return status == STATUS_OK ? start_edge(server) : status;
}

static void on_give_up(void *arg)
{
	(void)arg;
	sem_post(&asked.event);
}

/* Until the node has caught up and joined. */
static enum status_code await_ready(struct server *server)
{
	const struct timespec pause = {.tv_nsec = (long)READY_POLL_MS * 1000000};
	struct engine_info info;
	int64_t from;

	progress_begin("catching up with the log", "records");
	engine_info(server->engine, &info);
	from = info.applied_offset;
	while (!info.ready && !asked.stop && engine_verdict(server->engine) == STATUS_OK) {
		progress_set(info.applied_offset - from, info.newest_offset - from);
		nanosleep(&pause, NULL);
		engine_info(server->engine, &info);
	}
	progress_end();
	return asked.stop ? STATUS_STOPPED : engine_verdict(server->engine);
}

/* Loads and joins; the edge follows when the node is ready. */
static enum status_code start_replica(struct server *server, bool discard)
{
	enum status_code status = listen_set_open(server->config->listeners, &server->listeners);

	if (status == STATUS_OK)
		status = lobby_start(server->listeners, &server->lobby);
	if (status == STATUS_OK && server->replica == NULL)
		status = replica_open(server->config, &asked.stop, &server->replica);
	if (status == STATUS_OK)
		status = replica_load(server->replica, discard);
	if (status == STATUS_OK)
		status = replica_join(server->replica, on_give_up, server, &server->engine);
	if (status == STATUS_OK)
		status = await_ready(server);
	lobby_stop(server->lobby);
	server->lobby = NULL;
	return status == STATUS_OK ? start_edge(server) : status;
}

/* In the reverse order of start, but for the engine's drain: it lets those go
 * who wait for a lock, and the edge waits for their answers. Parts that did not
 * start are NULL. */
static void stop(struct server *server, int exit_status)
{
	if (server->engine != NULL)
		engine_drain(server->engine);
	if (server->http != NULL)
		http_drain(server->http);
	http_stop(server->http);
	listen_set_free(server->listeners);
	if (server->engine != NULL)
		engine_stop(server->engine);
	if (server->replica != NULL) {
		begin_closing(exit_status);
		replica_unload(server->replica);
		end_closing();
	}
	log_close(server->log);
	store_close(server->store);
	server->http = NULL;
	server->listeners = NULL;
	server->engine = NULL;
	server->log = NULL;
	server->store = NULL;
}

static void announce(struct server *server)
{
	char *data_dir = realpath(server->config->data_dir, NULL);
	struct engine_info info;

	for (size_t i = 0; i < http_listener_count(server->http); i++) {
		logger_info("main", "listening", LOG_STR("url", http_url(server->http, i)), LOG_END);
		if (!http_is_loopback(server->http, i))
			logger_warn("main",
			            "others on the network can read and write: this version has no TLS "
			            "and no authentication",
			            LOG_STR("url", http_url(server->http, i)), LOG_END);
	}
	engine_info(server->engine, &info);
	logger_info("main", "ready", LOG_STR("version", PACKAGE_VERSION),
	            LOG_STR("data_dir", data_dir != NULL ? data_dir : server->config->data_dir),
	            LOG_I64("revision", info.revision), LOG_END);
	free(data_dir);
}

/* Blocked in every thread; one waits for them. */
static void block_signals(void)
{
	sigemptyset(&asked.set);
	sigaddset(&asked.set, SIGTERM);
	sigaddset(&asked.set, SIGINT);
	sigaddset(&asked.set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &asked.set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* a closed terminal is no reason to stop */
	sem_init(&asked.event, 0, 0);
}

/* A second signal ends a stop that takes too long. */
static void *watch_signals(void *arg)
{
	int number;

	(void)arg;
	for (;;) {
		sigwait(&asked.set, &number);
		if (number == SIGUSR1) {
			atomic_store(&asked.checkpoint, true);
		} else if (!asked.stop) {
			logger_info("main", "stopping", LOG_STR("signal", strsignal(number)), LOG_END);
			asked.stop = true;
		} else {
			logger_warn("main", "stopped at once: a second signal came",
			            LOG_STR("signal", strsignal(number)), LOG_END);
			_exit(EXIT_FAILURE);
		}
		sem_post(&asked.event);
	}
	return NULL;
}

/* glibc learns from the first large block that is freed to keep such blocks;
 * those of a long listing are to go back to the system. */
static void keep_memory_small(void)
{
	mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
	mallopt(M_TRIM_THRESHOLD, 4 * LARGE_BLOCK_BYTES);
}

/* Serves until a signal says to stop, which is STATUS_OK, or the engine has given up. */
static enum status_code serve(struct server *server)
{
	while (!asked.stop && engine_verdict(server->engine) == STATUS_OK) {
		sem_wait(&asked.event);
		if (atomic_exchange(&asked.checkpoint, false))
			engine_request_checkpoint(server->engine);
	}
	return asked.stop ? STATUS_OK : engine_verdict(server->engine);
}

static bool is_to_be_loaded_anew(enum status_code status)
{
	return status == STATUS_NOT_READY || status == STATUS_CORRUPT;
}

/* From start to stop, again where a node has to be loaded anew. */
static enum status_code run_server(struct server *server)
{
	bool under_kafka = server->config->kafka_servers[0] != '\0';
	enum status_code status = STATUS_OK;

	do {
		status =
			under_kafka ? start_replica(server, status == STATUS_CORRUPT) : start_alone(server);
		if (status == STATUS_OK) {
			server->had_started = true;
			announce(server);
			status = serve(server);
		}
		stop(server, exit_status(status));
	} while (is_to_be_loaded_anew(status) && !asked.stop);
	return status;
}

static int run(const struct config *config)
{
	struct server server = {.config = config};
	pthread_t watcher;
	enum status_code status;
	int code;

	logger_init(config->log_level, config->log_format);
	umask(S_IRWXG | S_IRWXO); /* what clients store is theirs */
	keep_memory_small();
	block_signals();
	if (pthread_create(&watcher, NULL, watch_signals, NULL) != 0)
		return explain_failure(STATUS_INTERNAL, false);
	pthread_detach(watcher);
	status = check_open_files();
	if (status == STATUS_OK)
		status = run_server(&server);
	code = exit_status(status);
	if (code != EXIT_SUCCESS)
		explain_failure(status, server.had_started);
	else
		logger_info("main", "stopped", LOG_END);
	begin_closing(code);
	replica_close(server.replica);
	end_closing();
	return code;
}

/* Whether the server would take the configuration, and Kafka the server. */
static enum status_code check_config(const struct config *config, struct buf *text)
{
	enum status_code status;

	if (config->kafka_servers[0] == '\0') {
		buf_append_text(text, "The configuration is valid.\n");
		return STATUS_OK;
	}
	logger_init(LOGGER_ERROR, config->log_format);
	status = replica_check_properties(config, text);
	if (status != STATUS_OK)
		return status;
	/* Kafka may take its time. */
	puts("The configuration is valid. Asking Kafka:");
	fflush(stdout);
	return replica_report(config, text);
}

static int config_exit(enum status_code status)
{
	switch (status) {
	case STATUS_BAD_REQUEST:
		return EXIT_USAGE;
	case STATUS_BAD_CONFIG:
	case STATUS_BAD_KAFKA:
		return EX_CONFIG;
	default:
		return EXIT_FAILURE;
	}
}

/* Prints what was asked for instead of running. */
static int print(const struct config *config)
{
	struct buf text;
	enum status_code status = STATUS_OK;

	buf_init(&text);
	switch (config->action) {
	case CONFIG_HELP:
		config_print_help(&text);
		break;
	case CONFIG_VERSION:
		buf_printf(&text, "ketad %s (etcd API %s)\n", PACKAGE_VERSION, ETCD_SERVER_VERSION);
		break;
	case CONFIG_CHECK:
		status = check_config(config, &text);
		break;
	case CONFIG_PRINT_SAMPLE:
		config_print_sample(&text);
		break;
	case CONFIG_PRINT_DOC:
		config_print_doc(&text);
		break;
	default:
		break;
	}
	fwrite(text.data, 1, text.len, stdout);
	buf_release(&text);
	if (fflush(stdout) != 0)
		return EXIT_FAILURE;
	return status == STATUS_OK ? EXIT_SUCCESS : config_exit(status);
}

int main(int argc, char **argv)
{
	struct config *config = NULL;
	struct buf message;
	enum status_code status;
	int code;

	buf_init(&message);
	status = config_load(argc, argv, environ, &config, &message);
	if (status == STATUS_OK && config->action == CONFIG_RUN && config->kafka_servers[0] != '\0')
		status = replica_check_properties(config, &message);
	if (message.len > 0)
		fprintf(stderr, "%.*s", (int)message.len, (const char *)message.data);
	buf_release(&message);
	if (status != STATUS_OK)
		return config_exit(status);
	code = config->action == CONFIG_RUN ? run(config) : print(config);
	config_free(config);
	return code;
}
