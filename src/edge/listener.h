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

struct listener;

/* Takes a connected, non-blocking socket; its owner calls
 * listener_release_connection when it has closed it. On the acceptor's
 * thread, which must not be held up. */
typedef void listener_hand_over_fn(void *arg, int fd, const struct sockaddr *addr, socklen_t addr_len);

struct listener_options {
	const char *urls;         /* "http://host:port", several separated by commas */
	int64_t connection_limit; /* lowered to what the descriptor limit allows */
	listener_hand_over_fn *hand_over;
	void *arg;
};

/* Binds every URL; clients can connect from now on, and wait. STATUS_BAD_CONFIG
 * for a URL that cannot be read and STATUS_CANNOT_LISTEN for one that cannot be
 * bound, both logged, STATUS_NO_MEMORY, STATUS_INTERNAL. */
enum status_code listener_open(const struct listener_options *options, struct listener **out);

/* Starts the thread: hand_over may be called from now on. STATUS_INTERNAL. */
enum status_code listener_start(struct listener *listener);

size_t listener_count(const struct listener *listener);

/* The port that the i-th URL got; for one that asked for port 0. */
uint16_t listener_port(const struct listener *listener, size_t i);

/* The i-th URL, with that port; valid until listener_free. */
const char *listener_url(const struct listener *listener, size_t i);

/* Whether only this machine can connect to it. */
bool listener_is_loopback(const struct listener *listener, size_t i);

/* Closes the listening sockets and those not handed over; joins the thread.
 * hand_over is not called any more. */
void listener_stop(struct listener *listener);

/* After listener_stop, when every connection was released. NULL is fine. */
void listener_free(struct listener *listener);

/* A connection that was handed over is closed. Any thread. */
void listener_release_connection(struct listener *listener);

#endif
