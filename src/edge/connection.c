/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection moves through one list per phase. All in a list have the same
 * time limit, so the oldest is always the first, and a move costs the same
 * however many there are.
 */
#include "edge/connection.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/metrics.h"

enum {
	HEAD_MS = 30000,
	BODY_MS = 30000,
	IDLE_MS = 300000,
	LEFT_MS = 1000, /* libmicrohttpd does not see an end that came together with a request */
	FDS_FIRST = 1024,
};

/* How long a connection may stay in a phase; 0: without limit. */
static const int64_t PHASE_LIMIT_MS[PHASE_COUNT] = {
	[PHASE_HEAD] = HEAD_MS, /* */
	[PHASE_BODY] = BODY_MS, /* */
	[PHASE_BUSY] = 0,       /* */
	[PHASE_IDLE] = IDLE_MS, /* */
	[PHASE_LEFT] = LEFT_MS,
};

void connections_init(struct connections *connections, int epoll_fd)
{
	*connections = (struct connections){.epoll_fd = epoll_fd};
}

void connections_release(struct connections *connections)
{
	free(connections->by_fd);
}

static void unlink_connection(struct connections *connections, struct connection *connection)
{
	struct connection_list *list = &connections->lists[connection->phase];

	if (connection->prev != NULL)
		connection->prev->next = connection->next;
	else
		list->oldest = connection->next;
	if (connection->next != NULL)
		connection->next->prev = connection->prev;
	else
		list->newest = connection->prev;
}

static void link_connection(struct connections *connections, struct connection *connection,
                            enum phase phase, int64_t now_ms)
{
	struct connection_list *list = &connections->lists[phase];

	connection->phase = phase;
	connection->since_ms = now_ms;
	connection->prev = list->newest;
	connection->next = NULL;
	if (list->newest != NULL)
		list->newest->next = connection;
	else
		list->oldest = connection;
	list->newest = connection;
}

void connections_set_phase(struct connections *connections, struct connection *connection, enum phase phase,
                           int64_t now_ms)
{
	unlink_connection(connections, connection);
	link_connection(connections, connection, phase, now_ms);
}

/* Makes room for a descriptor in the table; false without memory. */
static bool cover_fd(struct connections *connections, int fd)
{
	size_t size = connections->by_fd_size > 0 ? connections->by_fd_size : FDS_FIRST;
	struct connection **by_fd;

	while (size <= (size_t)fd)
		size *= 2;
	if (size == connections->by_fd_size)
		return true;
	by_fd = realloc(connections->by_fd, size * sizeof *by_fd);
	if (by_fd == NULL)
		return false;
	memset(by_fd + connections->by_fd_size, 0, (size - connections->by_fd_size) * sizeof *by_fd);
	connections->by_fd = by_fd;
	connections->by_fd_size = size;
	return true;
}

static bool watch_hang_up(struct connections *connections, const struct connection *connection)
{
	struct epoll_event event = {
		.events = EPOLLRDHUP | EPOLLET,
		.data.u64 = (uint64_t)connection->generation << 32 | (uint32_t)connection->fd,
	};

	return epoll_ctl(connections->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) == 0;
}

struct connection *connections_add(struct connections *connections, int fd, int64_t now_ms)
{
	struct connection *connection;

	if (!cover_fd(connections, fd))
		return NULL;
	connection = malloc(sizeof *connection);
	if (connection == NULL)
		return NULL;
	if (++connections->generation == 0)
		connections->generation = 1;
	*connection = (struct connection){.fd = fd, .generation = connections->generation};
	if (!watch_hang_up(connections, connection)) {
		free(connection);
		return NULL;
	}
	connections->by_fd[fd] = connection;
	link_connection(connections, connection, PHASE_HEAD, now_ms);
	return connection;
}

void connections_remove(struct connections *connections, struct connection *connection)
{
	unlink_connection(connections, connection);
	connections->by_fd[connection->fd] = NULL;
	free(connection);
}

void connections_give_away(struct connections *connections, struct connection *connection)
{
	/* Closing the descriptor would not take it out while another one is open. */
	epoll_ctl(connections->epoll_fd, EPOLL_CTL_DEL, connection->fd, NULL);
	connection->given_away = true;
}

struct connection *connections_find(const struct connections *connections, uint64_t id)
{
	uint32_t fd = (uint32_t)id;
	struct connection *connection = fd < connections->by_fd_size ? connections->by_fd[fd] : NULL;

	return connection != NULL && connection->generation == id >> 32 ? connection : NULL;
}

/* Ends a connection: libmicrohttpd sees the hang-up and cleans up. */
static void cut(struct connection *connection)
{
	if (!connection->given_away)
		shutdown(connection->fd, SHUT_RDWR);
}

static void cut_expired(struct connections *connections, enum phase phase, int64_t now_ms)
{
	const int64_t limit_ms = PHASE_LIMIT_MS[phase];
	struct connection *connection = connections->lists[phase].oldest;

	while (limit_ms > 0 && connection != NULL && now_ms - connection->since_ms >= limit_ms) {
		struct connection *next = connection->next;

		metric_add(METRIC_CONNECTIONS_EXPIRED, 1);
		cut(connection);
		/* Behind all that may still live: it is not to be found again at once. */
		connections_set_phase(connections, connection, phase, now_ms);
		connection = next;
	}
}

void connections_cut_expired(struct connections *connections, int64_t now_ms)
{
	for (int phase = 0; phase < PHASE_COUNT; phase++)
		cut_expired(connections, (enum phase)phase, now_ms);
}

void connections_cut_idle(struct connections *connections)
{
	for (struct connection *connection = connections->lists[PHASE_IDLE].oldest; connection != NULL;
	     connection = connection->next)
		cut(connection);
}
