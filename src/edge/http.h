/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP/1.1 edge: the JSON gateway and the plain endpoints, on the event
 * loops of loop.h behind the acceptor of listener.h.
 *
 *   http_start ── serving ── http_drain ── http_stop
 *
 * The engine is borrowed: it is started before the edge and stopped after it.
 */
#ifndef KETA_HTTP_H
#define KETA_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct config;
struct engine;
struct http;
struct listen_set;

/* Serves those who connect at the set, which is the edge's from now on, also when this
 * fails. 'config' and 'engine' are borrowed until http_stop. STATUS_NO_MEMORY,
 * STATUS_INTERNAL. */
enum status_code http_start(const struct config *config, struct listen_set *set, struct engine *engine,
                            struct http **out);

size_t http_listener_count(const struct http *http);

/* The port of the i-th listener, for one that asked for port 0. */
uint16_t http_port(const struct http *http, size_t i);

/* The URL of the i-th listener with that port, and whether only this machine
 * can connect to it. */
const char *http_url(const struct http *http, size_t i);
bool http_is_loopback(const struct http *http, size_t i);

/* Accepts no more, closes connections after their answers, and returns when no
 * request is under way (a client that is slow to take its answer is given a
 * few seconds). The engine must be finishing its calls. */
void http_drain(struct http *http);

/* Closes all connections and frees the edge. Waits for calls that the engine
 * has not finished: drain the engine first. NULL is fine. */
void http_stop(struct http *http);

#endif
