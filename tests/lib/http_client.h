/* SPDX-License-Identifier: Apache-2.0 */
/* A client that says exactly what a test tells it to, on a socket. */
#ifndef KETA_HTTP_CLIENT_H
#define KETA_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { HTTP_HEAD_BYTES = 4096, HTTP_BODY_BYTES = 64 * 1024 };

struct config;
struct engine;
struct http;

struct http_answer {
	int status; /* 0: the connection was closed without an answer */
	char head[HTTP_HEAD_BYTES];
	char body[HTTP_BODY_BYTES]; /* ended by NUL; cut when longer */
	size_t body_len;            /* as announced */
};

/* Binds config->listeners and starts the edge there. */
enum status_code http_serve(const struct config *config, struct engine *engine, struct http **out);

/* Connects to the loopback; ends the test when that fails. A read that takes
 * longer than a minute ends the test too. */
int http_connect(uint16_t port);

void http_send(int fd, const char *text);
void http_send_bytes(int fd, const void *data, size_t len);

/* Sends a POST with this body, keeping the connection. 'headers' is empty or
 * lines that each end in CRLF. */
void http_post(int fd, const char *path, const char *headers, const char *body);
void http_get(int fd, const char *path);

/* Reads one answer. 'head' says that it has no body (an answer to HEAD). */
void http_read(int fd, struct http_answer *answer, bool head);

/* Reads the head of an answer whose body is to be read by what follows. */
void http_read_head(int fd, struct http_answer *answer);

/* Reads one chunk of a chunked body into answer->body, ended by NUL, and
 * returns its length: 0 for the last one. Ends the test when there is none. */
size_t http_read_chunk(int fd, struct http_answer *answer);

/* Reads exactly so many bytes; false when the connection ended first. */
bool http_receive(int fd, void *data, size_t len);

/* The value of a header, or NULL. Valid until the next call. */
const char *http_header(const struct http_answer *answer, const char *name);

/* Whether the server has closed its side and nothing is left to read; waits. */
bool http_is_closed(int fd);

#endif
