/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The listening sockets of all listeners. They are bound once, when the server
 * starts, and stay while those who accept at them change: the lobby first, the
 * acceptor of the edge then. So a port, one that was asked for as 0 too, is the
 * same all the time, and a client that comes in between waits instead of being
 * refused.
 *
 *     listen_set_open ── lobby_start ─ lobby_stop ── http_start ─ http_stop
 */
#ifndef KETA_LISTEN_SET_H
#define KETA_LISTEN_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct listen_set;

/* Binds every URL of "http://host:port", separated by commas; clients can connect from now
 * on, and wait. STATUS_BAD_CONFIG for a URL that cannot be read and
 * STATUS_CANNOT_LISTEN for one that cannot be bound, both logged, STATUS_NO_MEMORY. */
enum status_code listen_set_open(const char *urls, struct listen_set **out);

size_t listen_set_count(const struct listen_set *set);

/* Of the i-th URL: the socket, which does not block, or -1 once closed; the port that it
 * got; the URL with that port, valid until listen_set_free; and whether only this
 * machine can connect to it. */
int listen_set_fd(const struct listen_set *set, size_t i);
uint16_t listen_set_port(const struct listen_set *set, size_t i);
const char *listen_set_url(const struct listen_set *set, size_t i);
bool listen_set_is_loopback(const struct listen_set *set, size_t i);

/* Closes the sockets: clients are refused from now on. The rest stays known. */
void listen_set_close(struct listen_set *set);

/* Closes and frees. NULL is fine. */
void listen_set_free(struct listen_set *set);

#endif
