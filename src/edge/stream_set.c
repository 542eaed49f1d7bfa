/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream is found by its descriptor: it is closed only when the streams are
 * settled, so no event that was fetched before can mean another one.
 */
#include "edge/stream_set.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/metrics.h"
#include "edge/listener.h"

enum {
	FDS_FIRST = 1024,
	/* Deadlines are looked at no more often than this. */
	DEADLINE_STEP_MS = 50,
	CLOSING_MS = 2000, /* for the client's side of a close handshake */
	PING_MS = 30000,   /* from one ping to the next */
	PONG_MS = 10000,
	/* What a client has sent and nobody will read, at most; see drop_input. */
	DROP_BYTES = 1 << 20,
	STALLED_MS = 300000,
};

static const int64_t PHASE_LIMIT_MS[CLIENT_PHASES] = {
	[CLIENT_OPEN] = INT64_MAX,
	[CLIENT_QUIET] = PING_MS - PONG_MS,
	[CLIENT_PINGED] = PONG_MS,
	[CLIENT_CLOSING] = CLOSING_MS,
};

void stream_set_init(struct stream_set *set, int epoll_fd, struct listener *listener, size_t message_limit)
{
	*set = (struct stream_set){
		.epoll_fd = epoll_fd,
		.listener = listener,
		.message_limit = message_limit,
		.next_deadline_ms = INT64_MAX,
	};
	buf_init(&set->text);
}

void stream_set_release(struct stream_set *set)
{
	buf_release(&set->text);
	free(set->by_fd);
}

/* ---- Lists ---- */

static void unlink_client(struct stream_set *set, struct client_stream *client)
{
	struct client_list *list = &set->lists[client->phase];

	if (client->prev != NULL)
		client->prev->next = client->next;
	else
		list->oldest = client->next;
	if (client->next != NULL)
		client->next->prev = client->prev;
	else
		list->newest = client->prev;
}

static void link_client(struct stream_set *set, struct client_stream *client, enum client_phase phase)
{
	struct client_list *list = &set->lists[phase];

	client->phase = phase;
	client->since_ms = set->now_ms;
	client->prev = list->newest;
	client->next = NULL;
	if (list->newest != NULL)
		list->newest->next = client;
	else
		list->oldest = client;
	list->newest = client;
}

void stream_set_phase(struct stream_set *set, struct client_stream *client, enum client_phase phase)
{
	unlink_client(set, client);
	link_client(set, client, phase);
}

void stream_set_mark(struct stream_set *set, struct client_stream *client)
{
	if (client->dirty)
		return;
	client->dirty = true;
	client->next_dirty = NULL;
	if (set->dirty != NULL)
		set->last_dirty->next_dirty = client;
	else
		set->dirty = client;
	set->last_dirty = client;
}

/* ---- Adding ---- */

static bool cover_fd(struct stream_set *set, int fd)
{
	size_t size = set->by_fd_size > 0 ? set->by_fd_size : FDS_FIRST;
	struct client_stream **by_fd;

	while (size <= (size_t)fd)
		size *= 2;
	if (size == set->by_fd_size)
		return true;
	by_fd = realloc(set->by_fd, size * sizeof *by_fd);
	if (by_fd == NULL)
		return false;
	memset(by_fd + set->by_fd_size, 0, (size - set->by_fd_size) * sizeof *by_fd);
	set->by_fd = by_fd;
	set->by_fd_size = size;
	return true;
}

static void set_option(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof value);
}

/* Messages are small and not to be held back. An idle stream learns within a
 * minute that its peer is gone; one that has something to send gives up a peer
 * that takes none of it for as long as any other answer would. On a socket that
 * is not TCP this does nothing. */
static void set_up_socket(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 30);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 10);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
	set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, STALLED_MS);
}

static struct epoll_event make_event(const struct client_stream *client)
{
	return (struct epoll_event){
		.events = client->interest,
		.data.u64 = STREAM_ID_MIN | (unsigned)client->fd,
	};
}

static uint32_t wanted_events(const struct client_stream *client)
{
	return EPOLLRDHUP | (client->kind->wants_input(client) ? (uint32_t)EPOLLIN : 0) |
	       (client->full ? (uint32_t)EPOLLOUT : 0);
}

bool stream_set_add(struct stream_set *set, struct client_stream *client, enum client_phase phase)
{
	struct epoll_event event;

	if (!cover_fd(set, client->fd))
		return false;
	client->interest = wanted_events(client);
	event = make_event(client);
	if (epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, client->fd, &event) != 0)
		return false;
	set_up_socket(client->fd);
	set->by_fd[client->fd] = client;
	link_client(set, client, phase);
	set->count++;
	if (client->deadline_ms != 0 && client->deadline_ms < set->next_deadline_ms)
		set->next_deadline_ms = client->deadline_ms;
	return true;
}

/* ---- Removing ---- */

/* Closing a socket that has unread bytes resets the connection, and the client
 * may lose what it was sent last. */
static void drop_input(int fd)
{
	recv(fd, NULL, DROP_BYTES, MSG_DONTWAIT | MSG_TRUNC);
}

static void remove_client(struct stream_set *set, struct client_stream *client)
{
	client_stream_close(client);
	if (!client->lost)
		drop_input(client->fd);
	/* While libmicrohttpd's descriptor is open too, closing is not leaving. */
	epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, client->fd, NULL);
	close(client->fd);
	listener_release_connection(set->listener);
	set->by_fd[client->fd] = NULL;
	unlink_client(set, client);
	set->count--;
	client->kind->free(client);
}

/* ---- A turn ---- */

void stream_set_event(struct stream_set *set, uint64_t id, uint32_t events)
{
	size_t fd = (size_t)(id - STREAM_ID_MIN);
	struct client_stream *client = fd < set->by_fd_size ? set->by_fd[fd] : NULL;

	if (client == NULL)
		return;
	if (events & EPOLLIN)
		client_stream_read(client); /* and finds out by itself that the peer is gone */
	else if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		client_stream_lose(client);
	else
		stream_set_mark(set, client);
}

static void update_interest(struct stream_set *set, struct client_stream *client)
{
	uint32_t wanted = wanted_events(client);
	struct epoll_event event;

	if (wanted == client->interest)
		return;
	client->interest = wanted;
	event = make_event(client);
	epoll_ctl(set->epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

bool stream_set_settle(struct stream_set *set)
{
	struct client_stream *client = set->dirty;

	set->dirty = NULL;
	set->resumed = false;
	while (client != NULL) {
		struct client_stream *next = client->next_dirty;

		client->dirty = false;
		if (client_stream_settle(client))
			update_interest(set, client);
		else
			remove_client(set, client);
		client = next;
	}
	return set->resumed;
}

/* ---- Time ---- */

static void check_deadline(struct stream_set *set, struct client_stream *client)
{
	static const struct status exceeded = {.code = STATUS_DEADLINE_EXCEEDED};

	if (client->deadline_ms == 0 || client->over)
		return;
	if (client->deadline_ms > set->now_ms) {
		if (client->deadline_ms < set->next_deadline_ms)
			set->next_deadline_ms = client->deadline_ms;
		return;
	}
	metric_add(metric_refused(status_grpc(exceeded.code)), 1);
	client_stream_end(client, &exceeded);
}

/* Few clients set a deadline, so those that do are not kept apart. */
int64_t stream_set_check_deadlines(struct stream_set *set)
{
	if (set->now_ms < set->next_deadline_ms)
		return set->next_deadline_ms;
	set->next_deadline_ms = INT64_MAX;
	for (int phase = 0; phase < CLIENT_PHASES; phase++) {
		for (struct client_stream *client = set->lists[phase].oldest; client != NULL;
		     client = client->next)
			check_deadline(set, client);
	}
	if (set->next_deadline_ms < set->now_ms + DEADLINE_STEP_MS)
		set->next_deadline_ms = set->now_ms + DEADLINE_STEP_MS;
	return set->next_deadline_ms;
}

/* Each that expires goes to the end of a list, by its kind or by us, and so is
 * not met again. */
static void check_phase(struct stream_set *set, enum client_phase phase)
{
	struct client_stream *client = set->lists[phase].oldest;

	while (client != NULL && set->now_ms - client->since_ms >= PHASE_LIMIT_MS[phase]) {
		stream_set_phase(set, client, phase);
		client->kind->expire(client, set->now_ms);
		client = set->lists[phase].oldest;
	}
}

void stream_set_check_phases(struct stream_set *set)
{
	for (int phase = 0; phase < CLIENT_PHASES; phase++)
		check_phase(set, (enum client_phase)phase);
}

/* ---- The end ---- */

void stream_set_stop(struct stream_set *set)
{
	for (int phase = 0; phase < CLIENT_PHASES; phase++) {
		struct client_stream *client = set->lists[phase].oldest;

		while (client != NULL) {
			struct client_stream *next = client->next;

			client_stream_stop(client);
			client = next;
		}
	}
}

void stream_set_cut(struct stream_set *set)
{
	set->dirty = NULL;
	for (int phase = 0; phase < CLIENT_PHASES; phase++) {
		while (set->lists[phase].oldest != NULL)
			remove_client(set, set->lists[phase].oldest);
	}
}
