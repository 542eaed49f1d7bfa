/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event loop: a thread, its libmicrohttpd daemon, its read connection, and
 * the connections given to it. Everything about these connections happens on
 * this thread; other threads only post mail.
 *
 *   acceptor ──── mail: a socket ─────┐           ┌─ MHD_add_connection
 *                                     ├─► loop ───┼─ MHD_run ─► access handler (exchange.c)
 *   engine ────── mail: an answer ────┘   │       └─ an exchange goes on
 *                                         └─ streams, on sockets of their own (stream_set.h)
 *
 * The daemon runs without threads of its own. Therefore a request may begin to
 * wait after its call was started: however soon the call finishes, the
 * mail that says so is read by this very thread, later.
 */
#ifndef KETA_LOOP_H
#define KETA_LOOP_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include "base/status.h"
#include "edge/connection.h"
#include "edge/stream_set.h"

struct edge;
struct listener;
struct loop;
struct reader;

/* Something for a loop's thread to do; embedded in what it is about. */
struct mail {
	struct mail *next;
	void (*deliver)(struct loop *loop, struct mail *mail);
};

struct loop {
	struct edge *edge;
	struct listener *listener; /* to be told of closed connections */
	struct reader *reader;
	struct MHD_Daemon *daemon;
	pthread_t thread;
	bool started;
	int epoll_fd; /* the daemon's epoll, wake_fd, every connection's hang-up, and the streams */
	int wake_fd;

	_Atomic(struct mail *) inbox; /* newest first */
	atomic_bool sleeping;         /* about to wait: post must wake it */
	atomic_int posting;           /* threads inside loop_post: the loop must not go */
	atomic_bool reader_due;       /* the engine asked for engine_reader_run */

	/* The thread's own. */
	int64_t now_ms;
	int64_t next_check_ms;
	int64_t engine_due_ms; /* when engine_reader_run is due at the latest */
	struct connections connections;
	struct stream_set streams;
	bool resumed;      /* a request went on after a wait, and the daemon has not run since */
	bool came_in;      /* something for the daemon, since it ran last */
	bool heard;        /* in its last run it told of a new request, or of a connection's begin or end */
	bool unexplained;  /* something came in of which it did not tell: a part of a long head, say */
	int runs_due;      /* of the daemon, until answers are sent and what is behind them is read */
	bool may_linger;   /* requests that wait, in the daemon */
	bool adding_seen;  /* the daemon told of the connection being added */
	int64_t exchanges; /* requests that exist */
	int64_t moving;    /* of these, those that are being read or answered */
	int64_t lingering; /* those that wait in the daemon */
	int64_t suspended; /* those that wait out of its sight */
	int64_t in_engine; /* of these, those whose call has not finished */
	sem_t *drained;    /* posted once nothing is under way; then NULL */
	int64_t drain_until_ms;
	bool stopping;
};

/* Makes the daemon, the read connection and the thread. */
enum status_code loop_start(struct loop *loop, struct edge *edge, struct listener *listener);

/* Whether a request that waits may go on lingering in the daemon (exchange.c). */
bool loop_lets_linger(const struct loop *loop, int64_t since_ms);

/* Asks for mail to be delivered, in the order of posting. Any thread. */
void loop_post(struct loop *loop, struct mail *mail);

/* Gives the loop a connected socket. Closes it when there is no memory. Any thread. */
void loop_add_socket(struct loop *loop, int fd, const struct sockaddr *addr, socklen_t addr_len);

/* From now on answers close their connections, idle ones are closed, and
 * streams are ended. The semaphore is posted when no request and no stream is
 * under way, or when no call is and some time has passed. Any thread. */
void loop_drain(struct loop *loop, sem_t *drained);

/* Cuts all connections, waits until the engine has finished every call of this
 * loop, and joins the thread. Does nothing to a loop that did not start. */
void loop_stop(struct loop *loop);

#endif
