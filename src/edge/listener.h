/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The acceptor: one thread with all listening sockets. It accepts, waits for
 * a connection's first bytes, and hands the socket to whoever speaks its
 * protocol. A connection that sends nothing never costs more than a socket.
 *
 *   accept ─ silent for 10 s ───────────────► close
 *        └── first bytes: HTTP/2 preface ───► close (no module speaks it)
 *                         anything else ────► hand_over
 *
 * It also counts: at the connection limit it stops accepting, and the kernel's
 * backlog waits.
 */
#ifndef KETA_LISTENER_H
#define KETA_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/status.h"

struct listen_set;
struct listener;

/* Takes a connected, non-blocking socket; its owner calls
 * listener_release_connection when it has closed it. On the acceptor's
 * thread, which must not be held up. */
typedef void listener_hand_over_fn(void *arg, int fd, const struct sockaddr *addr, socklen_t addr_len);

struct listener_options {
	struct listen_set *set;   /* where to accept; borrowed until listener_free */
	int64_t connection_limit; /* lowered to what the descriptor limit allows */
	listener_hand_over_fn *hand_over;
	void *arg;
};

/* Clients that connect still wait. STATUS_NO_MEMORY, STATUS_INTERNAL; the set is
 * closed then. */
enum status_code listener_open(const struct listener_options *options, struct listener **out);

/* Starts the thread: hand_over may be called from now on. STATUS_INTERNAL. */
enum status_code listener_start(struct listener *listener);

/* Closes the set and the sockets that were not handed over; joins the thread.
 * hand_over is not called any more. */
void listener_stop(struct listener *listener);

/* After listener_stop, when every connection was released. NULL is fine. */
void listener_free(struct listener *listener);

/* A connection that was handed over is closed. Any thread. */
void listener_release_connection(struct listener *listener);

#endif
