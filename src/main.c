/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wiring: reads the configuration, opens store and log, starts engine and
 * edge, waits for a signal, and stops everything in reverse order.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/logger.h"
#include "base/process.h"
#include "base/version.h"
#include "edge/http.h"
#include "engine/engine.h"
#include "log/embedded_log.h"
#include "state/store.h"

enum {
	MAX_QUEUED_BYTES = 256 << 20,
	LARGE_BLOCK_BYTES = 256 << 10,
	MIN_OPEN_FILES = 64, /* the database, two event loops, and a few clients */
	EXIT_USAGE = 2,
};

struct server {
	const struct config *config;
	struct store *store;
	struct log *log;
	struct engine *engine;
	struct http *http;
};

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
	/* The last stands for all others. */
	{STATUS_INTERNAL, EXIT_FAILURE, "the system refused something that the server needs",
         "look at the limits of threads and open files"},
};

/* Logs it and returns the exit status. */
static int explain_failure(enum status_code status)
{
	const struct start_failure *failure = START_FAILURES;

	while (failure->status != status && failure->status != STATUS_INTERNAL)
		failure++;
	logger_error("main", "cannot start", LOG_STR("error", failure->error),
	             LOG_STR("advice", failure->advice), LOG_END);
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

static enum status_code start(struct server *server)
{
	struct store_options options = {.dir = server->config->data_dir};
	enum status_code status = check_open_files();

	if (status == STATUS_OK)
		status = store_open(&options, &server->store);
	if (status != STATUS_OK)
		return status;
	status = embedded_log_open(server->store->saved.applied_offset, MAX_QUEUED_BYTES, &server->log);
	if (status == STATUS_OK)
		status = engine_start(server->config, server->log, server->store, &server->engine);
	if (status == STATUS_OK)
		status = http_start(server->config, server->engine, &server->http);
	return status;
}

/* In the reverse order of start, but for the engine's drain: it lets those go
 * who wait for a lock, and the edge waits for their answers. Parts that did not
 * start are NULL. */
static void stop(struct server *server)
{
	if (server->engine != NULL)
		engine_drain(server->engine);
	if (server->http != NULL)
		http_drain(server->http);
	http_stop(server->http);
	if (server->engine != NULL)
		engine_stop(server->engine);
	if (server->log != NULL)
		log_close(server->log);
	store_close(server->store);
}

static void announce(const struct server *server)
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

/* The signals that end the process, blocked in every thread and waited for here. */
static void block_signals(sigset_t *signals)
{
	sigemptyset(signals);
	sigaddset(signals, SIGTERM);
	sigaddset(signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* a closed terminal is no reason to stop */
}

/* A second signal ends a stop that takes too long. */
static void *watch_signals(void *arg)
{
	int number;

	sigwait(arg, &number);
	logger_warn("main", "stopped at once: a second signal came", LOG_STR("signal", strsignal(number)),
	            LOG_END);
	_exit(EXIT_FAILURE);
}

/* glibc learns from the first large block that is freed to keep such blocks;
 * those of a long listing are to go back to the system. */
static void keep_memory_small(void)
{
	mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES);
	mallopt(M_TRIM_THRESHOLD, 4 * LARGE_BLOCK_BYTES);
}

static int run(const struct config *config)
{
	struct server server = {.config = config};
	sigset_t signals;
	pthread_t watcher;
	int number;
	enum status_code status;

	logger_init(config->log_level, config->log_format);
	umask(S_IRWXG | S_IRWXO); /* what clients store is theirs */
	keep_memory_small();
	block_signals(&signals);
	status = start(&server);
	if (status != STATUS_OK) {
		stop(&server);
		return explain_failure(status);
	}
	announce(&server);
	sigwait(&signals, &number);
	logger_info("main", "stopping", LOG_STR("signal", strsignal(number)), LOG_END);
	if (pthread_create(&watcher, NULL, watch_signals, &signals) == 0)
		pthread_detach(watcher);
	stop(&server);
	logger_info("main", "stopped", LOG_END);
	return EXIT_SUCCESS;
}

/* Prints what was asked for instead of running. */
static int print(const struct config *config)
{
	struct buf text;

	buf_init(&text);
	switch (config->action) {
	case CONFIG_HELP:
		config_print_help(&text);
		break;
	case CONFIG_VERSION:
		buf_printf(&text, "ketad %s (etcd API %s)\n", PACKAGE_VERSION, ETCD_SERVER_VERSION);
		break;
	case CONFIG_CHECK:
		buf_append_text(&text, "The configuration is valid.\n");
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
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int config_exit(enum status_code status)
{
	switch (status) {
	case STATUS_BAD_REQUEST:
		return EXIT_USAGE;
	case STATUS_BAD_CONFIG:
		return EX_CONFIG;
	default:
		return EXIT_FAILURE;
	}
}

int main(int argc, char **argv)
{
	struct config *config = NULL;
	struct buf message;
	enum status_code status;
	int code;

	buf_init(&message);
	status = config_load(argc, argv, environ, &config, &message);
	if (message.len > 0)
		fprintf(stderr, "%.*s", (int)message.len, (const char *)message.data);
	buf_release(&message);
	if (status != STATUS_OK)
		return config_exit(status);
	code = config->action == CONFIG_RUN ? run(config) : print(config);
	config_free(config);
	return code;
}
