/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP request and its answer, from the request line to the last byte
 * sent. Everything happens on the loop's thread but exchange_finish.
 *
 *   exchange_begin ── HEAD ── refused ────────────────────────────┐
 *                      │                                          │
 *                     BODY ── complete ── answered at once ───────┤
 *                      │          │                               │
 *                      │        WAITING ──────────── finished ────┤
 *                      │          └── client gone: ABANDONED ─────┤
 *                      └── connection lost ───────────────────────┴── exchange_end
 *
 * The engine may hold the call longer than the connection lives. The exchange
 * then stays, without a connection, until the call has finished.
 */
#ifndef KETA_EXCHANGE_H
#define KETA_EXCHANGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <microhttpd.h>

#include "base/buf.h"
#include "edge/head.h"
#include "edge/loop.h"
#include "edge/origin.h"
#include "edge/plain.h"
#include "edge/target.h"

struct call;
struct config;
struct engine;
struct paired;

/* What all requests share; read-only while loops run, but for 'draining'. */
struct edge {
	const struct config *config;
	struct engine *engine;
	struct origin_set cors_origins;
	struct origin_set hosts;
	size_t message_limit; /* the largest request, in its protobuf form */
	atomic_bool draining; /* every answer closes its connection */
};

/* Most bodies fit, and need no memory of their own. */
enum { EXCHANGE_INLINE_BYTES = 768 };

enum stage {
	STAGE_HEAD,      /* the request line is there */
	STAGE_BODY,      /* the head was accepted */
	STAGE_WAITING,   /* until the call, or the stream, is over */
	STAGE_FINISHED,  /* it is */
	STAGE_ABANDONED, /* nobody waits for the answer */
	STAGE_ANSWERED,
};

struct exchange {
	struct mail mail; /* announces the finish */
	struct loop *loop;
	struct connection *connection;
	struct MHD_Connection *mhd; /* NULL once the connection is gone */
	enum stage stage;
	bool in_engine; /* the engine holds the call */
	bool suspended; /* while it waits; else it lingers */
	int64_t waiting_since_ms;

	struct target target;
	struct head head;
	const char *cors_origin;
	size_t received; /* bytes of the body, kept or not */
	size_t inline_len;
	struct buf body; /* when it outgrows the inline bytes */

	struct call *call;
	struct plain plain;    /* if it has a route */
	struct paired *paired; /* a stream that is answered in one piece, or NULL */
	struct buf answer;
	unsigned answer_status; /* 0 until the answer is encoded */

	char inline_body[EXCHANGE_INLINE_BYTES]; /* last: it is not zeroed */
};

/* libmicrohttpd's callbacks; 'arg' is the loop. */
void *exchange_begin(void *arg, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result exchange_handle(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
                                const char *version, const char *data, size_t *data_len, void **context);
void exchange_end(void *arg, struct MHD_Connection *mhd, void **context,
                  enum MHD_RequestTerminationCode code);

/* The client went away, or the loop stops: a waiting request gives up its
 * connection. Does nothing to one that does not wait. */
void exchange_abandon(struct exchange *exchange);

/* For answer.c: lets the request wait until the call that was started
 * finishes, and is what the access handler returns. */
enum MHD_Result exchange_await_call(struct exchange *exchange);

/* For paired.c: the same for its stream, and the end of it, on the loop's
 * thread. The latter does nothing to an exchange that does not wait. */
enum MHD_Result exchange_wait(struct exchange *exchange);
void exchange_wake(struct exchange *exchange);

/* The body that was kept. */
const char *exchange_body(const struct exchange *exchange, size_t *len);

/* The call_ops of an exchange's call, whose 'edge' is the exchange. */
extern const struct call_ops EXCHANGE_CALL_OPS;

#endif
