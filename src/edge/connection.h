/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client connections of one event loop: what each is doing and since when,
 * and who hung up. For the loop's thread only.
 *
 *   accepted ──► HEAD ──► BODY ──► BUSY ──► IDLE ──► HEAD ...
 *                 └────────────────►          └──► LEFT
 */
#ifndef KETA_CONNECTION_H
#define KETA_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange;

/* What a connection is doing; each phase has its own time limit. */
enum phase {
	PHASE_HEAD, /* the head is on its way */
	PHASE_BODY, /* the body is */
	PHASE_BUSY, /* the request is complete, its answer is not sent */
	PHASE_IDLE, /* between two requests */
	PHASE_LEFT, /* the same, and the client has hung up */
	PHASE_COUNT
};

/* A client's connection, from MHD_add_connection until it is closed. */
struct connection {
	struct connection *prev, *next; /* in its phase's list, by age */
	enum phase phase;
	int64_t since_ms;
	int fd;
	bool hung_up;              /* the client ended its side, perhaps both */
	bool given_away;           /* the socket lives on without it */
	uint32_t generation;       /* tells it from an earlier one with the same descriptor */
	struct exchange *exchange; /* the request under way, or NULL */
};

struct connection_list {
	struct connection *oldest, *newest;
};

struct connections {
	int epoll_fd;
	struct connection_list lists[PHASE_COUNT];
	struct connection **by_fd;
	size_t by_fd_size;
	uint32_t generation;
};

/* 'epoll_fd' is the loop's: it tells when a client hangs up, once, with the
 * connection's id, which is never below 2^32. */
void connections_init(struct connections *connections, int epoll_fd);

/* When all are removed. */
void connections_release(struct connections *connections);

/* A new one, in PHASE_HEAD; NULL without memory. */
struct connection *connections_add(struct connections *connections, int fd, int64_t now_ms);

/* Frees it. Its descriptor is closed by its owner, after this. */
void connections_remove(struct connections *connections, struct connection *connection);

void connections_set_phase(struct connections *connections, struct connection *connection, enum phase phase,
                           int64_t now_ms);

/* Stops watching the connection: its socket, by another descriptor, has become
 * somebody else's. It is still to be removed. */
void connections_give_away(struct connections *connections, struct connection *connection);

/* By the id of an epoll event; NULL when it is gone, though its descriptor may
 * be in use again. */
struct connection *connections_find(const struct connections *connections, uint64_t id);

/* Shuts down, for both directions, those that took too long, or that are idle.
 * Their owner sees a hang-up and closes them. */
void connections_cut_expired(struct connections *connections, int64_t now_ms);
void connections_cut_idle(struct connections *connections);

#endif
