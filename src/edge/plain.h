/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endpoints outside the API: /health, /livez and /readyz with their
 * checks, /version, /metrics.
 *
 * A health check may need a read, which may have to wait. So an answer is made
 * in steps: plain_step either gives the reply or asks for a read, and is
 * called again with the outcome.
 */
#ifndef KETA_PLAIN_H
#define KETA_PLAIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "edge/reply.h"

struct engine;
struct plain_route;
struct reader;

/* The endpoint at a path, or NULL. */
const struct plain_route *plain_find(const char *path, size_t len);

/* An answer being made. */
struct plain {
	const struct plain_route *route;
	struct engine *engine; /* NULL before there is one */
	struct reader *reader; /* the calling thread's */
	unsigned checks;       /* left to do, a set of bits */
	unsigned check;        /* the one that waits for its read */
	bool verbose;
	bool failed;
	struct buf text; /* what the checks said */
};

enum plain_next { PLAIN_REPLY, PLAIN_READ, PLAIN_READ_SERIALIZABLE };

/* Starts an answer to a request with this method and (raw) query. */
void plain_init(struct plain *plain, const struct plain_route *route, struct engine *engine,
                struct reader *reader, const char *query, size_t query_len);
void plain_release(struct plain *plain);

/* The next step. 'read' is the outcome of the read asked for, NULL the first
 * time. With PLAIN_REPLY the reply's status, type and body are set; an owned
 * body is the caller's. */
enum plain_next plain_step(struct plain *plain, const char *method, const struct status *read,
                           struct reply *reply);

/* The whole answer of a node that does not serve yet and has no engine: alive, and not ready,
 * with how far the start has come (base/progress.h). */
void plain_answer_starting(struct plain *plain, const char *method, struct reply *reply);

#endif
