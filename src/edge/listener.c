/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One epoll instance watches the listening sockets (level-triggered), the
 * sockets that have not said what they speak (edge-triggered: a partial HTTP/2
 * preface stays readable while we wait for the rest), and an eventfd to stop.
 *
 * Two things take the listening sockets out of the set for a moment instead
 * of spinning on them: the connection limit, and running out of descriptors.
 */
#include "edge/listener.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "base/process.h"
#include "edge/greeting.h"
#include "edge/listen_set.h"

enum {
	FIRST_BYTE_MS = 10000,
	TICK_MS = 1000,
	PAUSE_MS = 20,         /* how soon a connection closed at the limit is noticed */
	ACCEPTS_PER_TURN = 64, /* so that first bytes are looked at while many connect */
	EVENTS = 128,
	PREFACE_LOG_MS = 60000,
	RESERVED_FDS = 256, /* the database, logs, epoll sets and what operators attach */
};

enum source_kind { SOURCE_WAKE, SOURCE_PORT, SOURCE_SILENT };

/* What an epoll event points at: the first member of the structs below. */
struct source {
	enum source_kind kind;
	int fd;
};

/* A connection whose first bytes have not come. */
struct silent {
	struct source source;
	struct silent *prev, *next; /* by age */
	int64_t since_ms;
	struct sockaddr_storage addr;
	socklen_t addr_len;
};

struct listener {
	struct listener_options options;
	struct source *ports; /* the listening sockets, in the order of options.set */
	struct source wake;
	int epoll_fd;
	pthread_t thread;
	bool running; /* the thread was started and not joined */
	atomic_bool stop;
	atomic_int_least64_t connections; /* accepted and not closed */

	/* The thread's own. */
	struct silent *oldest, *newest;
	bool paused;
	int64_t paused_until_ms;
	int64_t preface_logged_ms; /* 0: never */
	int64_t now_ms;
};

/* ---- Silent connections ---- */

static void remove_silent(struct listener *listener, struct silent *silent)
{
	if (silent->prev != NULL)
		silent->prev->next = silent->next;
	else
		listener->oldest = silent->next;
	if (silent->next != NULL)
		silent->next->prev = silent->prev;
	else
		listener->newest = silent->prev;
	free(silent);
}

static void append_silent(struct listener *listener, struct silent *silent)
{
	silent->prev = listener->newest;
	if (listener->newest != NULL)
		listener->newest->next = silent;
	else
		listener->oldest = silent;
	listener->newest = silent;
}

static void refuse(struct listener *listener, int fd)
{
	close(fd);
	metric_add(METRIC_CONNECTIONS_REFUSED, 1);
	listener_release_connection(listener);
}

/* Clients of gRPC try again and again, so that one line a minute says it. */
static void log_preface(struct listener *listener, const struct sockaddr *addr, socklen_t addr_len)
{
	char host[NI_MAXHOST] = "";

	if (listener->preface_logged_ms != 0 &&
	    listener->now_ms - listener->preface_logged_ms < PREFACE_LOG_MS)
		return;
	listener->preface_logged_ms = listener->now_ms;
	getnameinfo(addr, addr_len, host, sizeof host, NULL, 0, NI_NUMERICHOST);
	logger_warn("listener",
	            "refused a client that speaks gRPC (HTTP/2): this version has the JSON gateway only",
	            LOG_STR("client", host), LOG_END);
}

/* Acts on what was peeked; false while there is nothing to act on. */
static bool route(struct listener *listener, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	switch (greeting_peek(fd)) {
	case GREETING_UNKNOWN:
		return false;
	case GREETING_HTTP1:
		listener->options.hand_over(listener->options.arg, fd, addr, addr_len);
		return true;
	case GREETING_HTTP2:
		log_preface(listener, addr, addr_len);
		break;
	case GREETING_CLOSED:
		break;
	}
	refuse(listener, fd);
	return true;
}

static void on_silent_event(struct listener *listener, struct silent *silent, uint32_t events)
{
	const int fd = silent->source.fd;
	const bool has_ended = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;

	/* The socket leaves the set before it is handed over, for then it is not
	 * ours any more, and not before its bytes are enough: an edge would be lost. */
	if (greeting_peek(fd) == GREETING_UNKNOWN && !has_ended)
		return;
	epoll_ctl(listener->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	if (!route(listener, fd, (struct sockaddr *)&silent->addr, silent->addr_len))
		refuse(listener, fd); /* it ended within the preface */
	remove_silent(listener, silent);
}

static void expire_silent(struct listener *listener)
{
	while (listener->oldest != NULL && listener->now_ms - listener->oldest->since_ms >= FIRST_BYTE_MS) {
		int fd = listener->oldest->source.fd;

		remove_silent(listener, listener->oldest);
		refuse(listener, fd);
	}
}

/* ---- Accepting ---- */

static void watch_ports(struct listener *listener, bool on)
{
	for (size_t i = 0; i < listen_set_count(listener->options.set); i++) {
		struct source *source = &listener->ports[i];
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};

		epoll_ctl(listener->epoll_fd, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, source->fd, &event);
	}
}

static void pause_accepting(struct listener *listener)
{
	if (listener->paused)
		return;
	listener->paused = true;
	listener->paused_until_ms = listener->now_ms + PAUSE_MS;
	metric_add(METRIC_ACCEPT_PAUSES, 1);
	watch_ports(listener, false);
}

static bool is_full(const struct listener *listener)
{
	return atomic_load_explicit(&listener->connections, memory_order_relaxed) >=
	       listener->options.connection_limit;
}

static void resume_accepting(struct listener *listener)
{
	if (!listener->paused || listener->now_ms < listener->paused_until_ms || is_full(listener))
		return;
	listener->paused = false;
	watch_ports(listener, true);
}

/* Keeps a socket until its first bytes come. */
static void wait_for_bytes(struct listener *listener, int fd, const struct sockaddr_storage *addr,
                           socklen_t addr_len)
{
	struct silent *silent = malloc(sizeof *silent);
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = silent};

	if (silent == NULL) {
		refuse(listener, fd);
		return;
	}
	*silent = (struct silent){
		.source = {.kind = SOURCE_SILENT, .fd = fd},
		.since_ms = listener->now_ms,
		.addr = *addr,
		.addr_len = addr_len,
	};
	append_silent(listener, silent);
	if (epoll_ctl(listener->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		remove_silent(listener, silent);
		refuse(listener, fd);
	}
}

/* False when there is nothing more to accept for now. */
static bool accept_one(struct listener *listener, const struct source *port)
{
	struct sockaddr_storage addr;
	socklen_t addr_len = sizeof addr;
	int fd;

	if (is_full(listener)) {
		pause_accepting(listener);
		return false;
	}
	fd = accept4(port->fd, (struct sockaddr *)&addr, &addr_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			logger_warn("listener", "cannot accept", LOG_STR("error", strerror(errno)),
			            LOG_END);
			pause_accepting(listener);
		}
		/* Errors of the connection itself, such as ECONNABORTED, are its own. */
		return errno != EAGAIN && !listener->paused;
	}
	atomic_fetch_add_explicit(&listener->connections, 1, memory_order_relaxed);
	metric_add(METRIC_CONNECTIONS, 1);
	if (!route(listener, fd, (struct sockaddr *)&addr, addr_len))
		wait_for_bytes(listener, fd, &addr, addr_len);
	return true;
}

static void on_event(struct listener *listener, struct source *source, uint32_t events)
{
	switch (source->kind) {
	case SOURCE_WAKE:
		break;
	case SOURCE_PORT:
		for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
			if (!accept_one(listener, source))
				break;
		}
		break;
	case SOURCE_SILENT:
		on_silent_event(listener, (struct silent *)source, events);
		break;
	}
}

static int wait_ms(const struct listener *listener)
{
	if (listener->paused)
		return PAUSE_MS;
	return listener->oldest != NULL ? TICK_MS : -1;
}

static void *run(void *arg)
{
	struct listener *listener = arg;
	struct epoll_event events[EVENTS];

	pthread_setname_np(pthread_self(), "keta-accept");
	watch_ports(listener, true);
	while (!atomic_load(&listener->stop)) {
		int count = epoll_wait(listener->epoll_fd, events, EVENTS, wait_ms(listener));

		listener->now_ms = clock_ms();
		for (int i = 0; i < count; i++)
			on_event(listener, events[i].data.ptr, events[i].events);
		expire_silent(listener);
		resume_accepting(listener);
	}
	return NULL;
}

/* ---- Life ---- */

static enum status_code open_wake(struct listener *listener)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener->wake};

	listener->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	listener->wake = (struct source){.kind = SOURCE_WAKE, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (listener->epoll_fd < 0 || listener->wake.fd < 0 ||
	    epoll_ctl(listener->epoll_fd, EPOLL_CTL_ADD, listener->wake.fd, &event) != 0)
		return STATUS_INTERNAL;
	return STATUS_OK;
}

static int64_t fit_limit(int64_t wanted)
{
	int64_t limit = process_raise_fd_limit();
	int64_t reserved = limit / 2 < RESERVED_FDS ? limit / 2 : RESERVED_FDS;
	int64_t fds = limit > reserved ? limit - reserved : 1;

	if (wanted <= 0)
		return fds;
	if (wanted <= fds)
		return wanted;
	/* The default is high: a system that allows a little less is nothing to warn of. */
	logger_at(fds * 2 < wanted ? LOGGER_WARN : LOGGER_INFO, "listener",
	          "fewer connections than connection.limit, for too few files may be open at once",
	          LOG_I64("connections", fds), LOG_I64("connection_limit", wanted),
	          LOG_I64("open_files_limit", limit), LOG_END);
	return fds;
}

static enum status_code take_ports(struct listener *listener)
{
	const size_t count = listen_set_count(listener->options.set);

	listener->ports = calloc(count, sizeof *listener->ports);
	if (listener->ports == NULL)
		return STATUS_NO_MEMORY;
	for (size_t i = 0; i < count; i++)
		listener->ports[i] =
			(struct source){.kind = SOURCE_PORT, .fd = listen_set_fd(listener->options.set, i)};
	return STATUS_OK;
}

enum status_code listener_open(const struct listener_options *options, struct listener **out)
{
	struct listener *listener = calloc(1, sizeof *listener);
	enum status_code status;

	if (listener == NULL)
		return STATUS_NO_MEMORY;
	listener->options = *options;
	listener->options.connection_limit = fit_limit(options->connection_limit);
	listener->now_ms = clock_ms();
	status = open_wake(listener);
	if (status == STATUS_OK)
		status = take_ports(listener);
	if (status != STATUS_OK) {
		listener_free(listener);
		return status;
	}
	*out = listener;
	return STATUS_OK;
}

enum status_code listener_start(struct listener *listener)
{
	if (pthread_create(&listener->thread, NULL, run, listener) != 0)
		return STATUS_INTERNAL;
	listener->running = true;
	return STATUS_OK;
}

void listener_stop(struct listener *listener)
{
	if (listener->running) {
		atomic_store(&listener->stop, true);
		eventfd_write(listener->wake.fd, 1);
		pthread_join(listener->thread, NULL);
		listener->running = false;
	}
	listen_set_close(listener->options.set);
	while (listener->oldest != NULL) {
		int fd = listener->oldest->source.fd;

		remove_silent(listener, listener->oldest);
		refuse(listener, fd);
	}
}

void listener_free(struct listener *listener)
{
	if (listener == NULL)
		return;
	listener_stop(listener);
	if (listener->wake.fd >= 0)
		close(listener->wake.fd);
	if (listener->epoll_fd >= 0)
		close(listener->epoll_fd);
	free(listener->ports);
	free(listener);
}

void listener_release_connection(struct listener *listener)
{
	atomic_fetch_sub_explicit(&listener->connections, 1, memory_order_relaxed);
	metric_add(METRIC_CONNECTIONS, -1);
}
