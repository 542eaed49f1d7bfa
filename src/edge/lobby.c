/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread that polls the listening sockets, libmicrohttpd's epoll, and an
 * eventfd that ends it. The daemon has no thread of its own, as in loop.c, and
 * for the same reason: what happens to a connection happens here.
 */
#include "edge/lobby.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "edge/json.h"
#include "edge/listen_set.h"
#include "edge/plain.h"
#include "edge/reply.h"
#include "edge/target.h"

enum {
	CONNECTIONS = 256, /* probes, and clients on their way out */
	STALLED_SECONDS = 10,
	CONNECTION_MEMORY_BYTES = 8192, /* as loop.c's */
	TICK_MS = 1000,
	PAUSE_MS = 100, /* without descriptors or at the limit */
	DRAIN_MS = 500,
};

/* What is polled before the listening sockets. */
enum { POLL_WAKE, POLL_DAEMON, POLL_FIRST };

struct lobby {
	struct MHD_Daemon *daemon;
	struct pollfd *polled;
	size_t port_count;
	int wake_fd;
	pthread_t thread;
	atomic_bool stop;

	/* The thread's own. */
	int64_t connections;
	int64_t paused_until_ms;
};

/* ---- Requests ---- */

struct request {
	struct target target;
	bool seen; /* the head was */
};

static void *begin_request(void *arg, const char *uri, struct MHD_Connection *mhd)
{
	struct request *request = malloc(sizeof *request);

	(void)arg;
	(void)mhd;
	if (request == NULL)
		return NULL;
	request->seen = false;
	target_init(&request->target, uri);
	return request;
}

static void end_request(void *arg, struct MHD_Connection *mhd, void **context,
                        enum MHD_RequestTerminationCode code)
{
	struct request *request = *context;

	(void)arg;
	(void)mhd;
	(void)code;
	if (request != NULL)
		target_release(&request->target);
	free(request);
	*context = NULL;
}

/* As the gateway would say it. */
static enum MHD_Result refuse(struct MHD_Connection *mhd)
{
	struct reply reply = {.content_type = REPLY_JSON, .close = true, .owned = true};
	struct buf body;

	metric_add(metric_refused(status_grpc(STATUS_NOT_READY)), 1);
	buf_init(&body);
	json_encode_error(&body, (int)status_grpc(STATUS_NOT_READY), status_code_text(STATUS_NOT_READY));
	reply.status = (unsigned)status_http(STATUS_NOT_READY);
	reply.len = body.len;
	reply.body = (const char *)buf_detach(&body);
	return reply.body != NULL ? reply_queue(mhd, &reply) : MHD_NO;
}

static enum MHD_Result answer(struct MHD_Connection *mhd, const char *method, const struct target *target)
{
	const struct plain_route *route =
		target->status == STATUS_OK ? plain_find(target->path, target->path_len) : NULL;
	struct reply reply = {.close = true};
	struct plain plain;

	metric_add(METRIC_HTTP_REQUESTS, 1);
	if (route == NULL)
		return refuse(mhd);
	plain_init(&plain, route, NULL, NULL, target->query, target->query_len);
	plain_answer_starting(&plain, method, &reply);
	plain_release(&plain);
	return reply_queue(mhd, &reply);
}

/* Called with the head, with each part of the body, and at its end. A body is
 * read, for a client that is still sending would not see the answer. */
static enum MHD_Result handle(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
                              const char *version, const char *data, size_t *data_len, void **context)
{
	struct request *request = *context;

	(void)arg;
	(void)url;
	(void)version;
	(void)data;
	if (request == NULL)
		return MHD_NO;
	if (!request->seen || *data_len > 0) {
		request->seen = true;
		*data_len = 0;
		return MHD_YES;
	}
	return answer(mhd, method, &request->target);
}

/* ---- Connections ---- */

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
	struct lobby *lobby = arg;
	const int64_t change = code == MHD_CONNECTION_NOTIFY_STARTED ? 1 : -1;

	(void)mhd;
	(void)context;
	lobby->connections += change;
	metric_add(METRIC_CONNECTIONS, change);
}

static bool is_accepting(const struct lobby *lobby)
{
	return !atomic_load(&lobby->stop) && lobby->connections < CONNECTIONS &&
	       clock_ms() >= lobby->paused_until_ms;
}

/* The daemon closes a socket that it does not take. */
static void accept_all(struct lobby *lobby, int port)
{
	while (is_accepting(lobby)) {
		struct sockaddr_storage addr;
		socklen_t addr_len = sizeof addr;
		int fd = accept4(port, (struct sockaddr *)&addr, &addr_len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			break;
		if (MHD_add_connection(lobby->daemon, fd, (struct sockaddr *)&addr, addr_len) != MHD_YES)
			metric_add(METRIC_CONNECTIONS_REFUSED, 1);
	}
}

/* ---- The thread ---- */

static int wait_ms(const struct lobby *lobby, bool accepting)
{
	MHD_UNSIGNED_LONG_LONG daemon_ms;

	if (MHD_get_timeout(lobby->daemon, &daemon_ms) == MHD_YES && daemon_ms == 0)
		return 0;
	return accepting ? TICK_MS : PAUSE_MS;
}

static void run_once(struct lobby *lobby)
{
	const bool accepting = is_accepting(lobby);
	const nfds_t count = POLL_FIRST + (accepting ? lobby->port_count : 0);
	const bool stopping = atomic_load(&lobby->stop);

	/* What ended the waiting once would end it at once for ever. */
	lobby->polled[POLL_WAKE].fd = stopping ? -1 : lobby->wake_fd;
	if (poll(lobby->polled, count, wait_ms(lobby, accepting)) > 0) {
		for (nfds_t i = POLL_FIRST; i < count; i++)
			if (lobby->polled[i].revents != 0)
				accept_all(lobby, lobby->polled[i].fd);
	}
	MHD_run(lobby->daemon);
}

static void *run(void *arg)
{
	struct lobby *lobby = arg;
	int64_t until_ms;

	pthread_setname_np(pthread_self(), "keta-lobby");
	while (!atomic_load(&lobby->stop))
		run_once(lobby);
	until_ms = clock_ms() + DRAIN_MS;
	while (lobby->connections > 0 && clock_ms() < until_ms)
		run_once(lobby);
	MHD_stop_daemon(lobby->daemon);
	return NULL;
}

/* ---- Life ---- */

static struct MHD_Daemon *start_daemon(struct lobby *lobby)
{
	return MHD_start_daemon(
		MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, handle, lobby, /* */
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)STALLED_SECONDS, MHD_OPTION_CONNECTION_LIMIT,
		1U << 30, /* we count, as in loop.c */
		MHD_OPTION_URI_LOG_CALLBACK, begin_request, lobby, MHD_OPTION_NOTIFY_COMPLETED, end_request,
		lobby, MHD_OPTION_NOTIFY_CONNECTION, on_connection, lobby, MHD_OPTION_END);
}

static bool fill_polled(struct lobby *lobby, const struct listen_set *set)
{
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(lobby->daemon, MHD_DAEMON_INFO_EPOLL_FD);

	lobby->port_count = listen_set_count(set);
	lobby->polled = calloc(POLL_FIRST + lobby->port_count, sizeof *lobby->polled);
	if (lobby->polled == NULL || info == NULL || lobby->wake_fd < 0)
		return false;
	lobby->polled[POLL_WAKE] = (struct pollfd){.fd = lobby->wake_fd, .events = POLLIN};
	lobby->polled[POLL_DAEMON] = (struct pollfd){.fd = info->epoll_fd, .events = POLLIN};
	for (size_t i = 0; i < lobby->port_count; i++)
		lobby->polled[POLL_FIRST + i] =
			(struct pollfd){.fd = listen_set_fd(set, i), .events = POLLIN};
	return true;
}

static void free_lobby(struct lobby *lobby)
{
	if (lobby->wake_fd >= 0)
		close(lobby->wake_fd);
	free(lobby->polled);
	free(lobby);
}

enum status_code lobby_start(const struct listen_set *set, struct lobby **out)
{
	struct lobby *lobby = calloc(1, sizeof *lobby);

	if (lobby == NULL)
		return STATUS_NO_MEMORY;
	lobby->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lobby->daemon = start_daemon(lobby);
	if (lobby->daemon == NULL)
		goto no_daemon;
	if (!fill_polled(lobby, set) || pthread_create(&lobby->thread, NULL, run, lobby) != 0)
		goto no_thread;
	*out = lobby;
	return STATUS_OK;

no_thread:
	MHD_stop_daemon(lobby->daemon);
no_daemon:
	free_lobby(lobby);
	return STATUS_INTERNAL;
}

void lobby_stop(struct lobby *lobby)
{
	if (lobby == NULL)
		return;
	atomic_store(&lobby->stop, true);
	eventfd_write(lobby->wake_fd, 1);
	pthread_join(lobby->thread, NULL);
	free_lobby(lobby);
}
