/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts the edge together: what all requests share, one loop per core, and the
 * acceptor that deals connections to them in turn.
 */
#include "edge/http.h"

#include <microhttpd.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/config.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "edge/exchange.h"
#include "edge/listen_set.h"
#include "edge/listener.h"
#include "edge/loop.h"

/* What etcd allows a request above max-request-bytes, for its other fields. */
enum { MESSAGE_OVERHEAD_BYTES = 512 * 1024 };

enum { LOOPS_MAX = 64 };

struct http {
	struct edge edge;
	struct listen_set *set; /* owned */
	struct listener *listener;
	struct loop *loops;
	size_t loop_count;
	size_t turn; /* the loop that gets the next connection; the acceptor's */
};

static void deal(void *arg, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	struct http *http = arg;

	loop_add_socket(&http->loops[http->turn], fd, addr, addr_len);
	http->turn = (http->turn + 1) % http->loop_count;
}

/* libmicrohttpd calls this when its own state is broken. */
static void panic(void *arg, const char *file, unsigned line, const char *reason)
{
	(void)arg;
	logger_error("http", "libmicrohttpd gave up", LOG_STR("file", file), LOG_I64("line", line),
	             LOG_STR("reason", reason), LOG_END);
	abort();
}

static size_t count_loops(const struct config *config)
{
	long wanted = config->http_threads > 0 ? (long)config->http_threads : sysconf(_SC_NPROCESSORS_ONLN);

	if (wanted < 1)
		return 1;
	return wanted > LOOPS_MAX ? LOOPS_MAX : (size_t)wanted;
}

static enum status_code init_edge(struct edge *edge, const struct config *config, struct engine *engine)
{
	enum status_code status;

	edge->config = config;
	edge->engine = engine;
	edge->message_limit = (size_t)config->max_request_bytes + MESSAGE_OVERHEAD_BYTES;
	status = origin_set_init(&edge->cors_origins, config->cors_origins);
	if (status == STATUS_OK)
		status = origin_set_init(&edge->hosts, config->host_whitelist);
	return status;
}

static enum status_code start_loops(struct http *http)
{
	size_t count = count_loops(http->edge.config);

	http->loops = calloc(count, sizeof *http->loops);
	if (http->loops == NULL)
		return STATUS_NO_MEMORY;
	for (; http->loop_count < count; http->loop_count++) {
		enum status_code status =
			loop_start(&http->loops[http->loop_count], &http->edge, http->listener);

		if (status != STATUS_OK)
			return status;
	}
	return STATUS_OK;
}

enum status_code http_start(const struct config *config, struct listen_set *set, struct engine *engine,
                            struct http **out)
{
	struct http *http = calloc(1, sizeof *http);
	struct listener_options options = {
		.set = set,
		.connection_limit = config->connection_limit,
		.hand_over = deal,
		.arg = http,
	};
	enum status_code status;

	if (http == NULL) {
		listen_set_free(set);
		return STATUS_NO_MEMORY;
	}
	http->set = set;
	MHD_set_panic_func(panic, NULL);
	/* A quota that is off is negative. */
	metric_set(METRIC_QUOTA_BYTES, config->quota_backend_bytes > 0 ? config->quota_backend_bytes : 0);
	status = init_edge(&http->edge, config, engine);
	if (status == STATUS_OK)
		status = listener_open(&options, &http->listener);
	if (status == STATUS_OK)
		status = start_loops(http);
	if (status == STATUS_OK)
		status = listener_start(http->listener);
	if (status != STATUS_OK) {
		http_stop(http);
		return status;
	}
	*out = http;
	return STATUS_OK;
}

size_t http_listener_count(const struct http *http)
{
	return listen_set_count(http->set);
}

uint16_t http_port(const struct http *http, size_t i)
{
	return listen_set_port(http->set, i);
}

const char *http_url(const struct http *http, size_t i)
{
	return listen_set_url(http->set, i);
}

bool http_is_loopback(const struct http *http, size_t i)
{
	return listen_set_is_loopback(http->set, i);
}

void http_drain(struct http *http)
{
	sem_t drained;

	listener_stop(http->listener);
	atomic_store(&http->edge.draining, true);
	sem_init(&drained, 0, 0);
	for (size_t i = 0; i < http->loop_count; i++)
		loop_drain(&http->loops[i], &drained);
	for (size_t i = 0; i < http->loop_count; i++) {
		while (sem_wait(&drained) != 0)
			; /* interrupted by a signal */
	}
	sem_destroy(&drained);
}

void http_stop(struct http *http)
{
	if (http == NULL)
		return;
	if (http->listener != NULL)
		listener_stop(http->listener);
	for (size_t i = 0; i < http->loop_count; i++)
		loop_stop(&http->loops[i]);
	listener_free(http->listener);
	listen_set_free(http->set);
	free(http->loops);
	origin_set_release(&http->edge.cors_origins);
	origin_set_release(&http->edge.hosts);
	free(http);
}
