/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One typed call, whatever its edge: what the JSON gateway and the gRPC
 * module make of a request, and what they send back.
 *
 *   edge: call_new, decode into call->request
 *     └ call_start ── finished at once ─────────────────────┐
 *            └ pending: append, wait for apply ── finish ────┤
 *                                                           └ edge: encode, send, call_free
 *
 * The edge owns the call from call_new to call_free, except between a
 * call_start that returned false and the 'finish' that follows it, when the
 * engine holds it: the edge must not touch or free it then. A client that
 * goes away meanwhile is the edge's to remember until finish comes; it always
 * comes, exactly once.
 */
#ifndef KETA_CALL_H
#define KETA_CALL_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/status.h"

struct call;
struct engine;
struct method;
struct reader;

struct call_ops {
	/* The call is over: its status and response are set. On the thread that
	 * finished it (the applier, a reader thread, the housekeeper), which must
	 * not be held up: hand the call to the edge's own thread.
	 * 'slow' says that the thread is one of those for long work, where
	 * encoding a large response at once keeps it off the event loop. */
	void (*finish)(struct call *call, bool slow);
};

enum { CALL_FIRST_BLOCK_BYTES = 1536 }; /* holds a small request with its response */

struct call {
	/* Set by the edge before call_start, read-only from then on. */
	const struct method *method;
	const ProtobufCMessage *request;
	const char *token;   /* the client's credentials in the arena, or NULL */
	int64_t deadline_ms; /* on clock_ms's scale; 0: none but the server's own */
	const struct call_ops *ops;
	void *edge; /* the edge's own */

	/* Set by the engine when the call is over. */
	ProtobufCMessage *response; /* of the method's output type; NULL unless status is OK */
	struct status status;

	/* Everything above that is not static lives here. */
	struct arena arena;

	/* Set by call_cancel, from the edge's thread. */
	_Atomic bool canceled;

	/* The engine's. */
	struct engine *engine;
	struct call *next; /* in whatever queue it waits */
	bool (*resume)(struct engine *engine, struct reader *reader, struct call *call); /* a read, later */
	/* A read that is short goes on where it came from, if 'home' is not NULL. */
	bool (*resume_home)(struct engine *engine, struct reader *reader, struct call *call);
	struct reader *home;
	struct waiter *waiter;             /* of a call that waits for a lock or an office */
	void (*cancel)(struct call *call); /* on the thread that started it; NULL: there is nothing to do */
	int64_t started_us;                /* on clock_us's scale */
	int64_t barrier_offset;            /* see engine/watermark.c */
	uint64_t barrier_sequence; /* a read waits until a record of this number, or a later one, is applied
	                            */
	uint64_t sequence;         /* of its log record; finds it again at apply */
	enum status_code refusal;  /* what it ends with once the record is applied, unless OK */

	alignas(16) uint8_t first_block[CALL_FIRST_BLOCK_BYTES];
};

/* A call with an empty arena of at most arena_cap bytes; NULL without memory. */
struct call *call_new(const struct call_ops *ops, void *edge, size_t arena_cap);
void call_free(struct call *call);

/* Runs the call. True when it is over already: status and response are set
 * and finish is not called. False when finish will follow, possibly before
 * this returns. 'reader' is the calling thread's own (engine_reader_new). */
bool call_start(struct engine *engine, struct reader *reader, struct call *call);

/* Says that nobody waits for the answer any more: a read that has not run need
 * not, and one who waits for a lock gives up his place. While the engine has
 * the call, on the thread that started it; finish comes all the same, possibly
 * before this returns. */
void call_cancel(struct call *call);

/* Ends a call with a code, and with a message of its own if not NULL (which
 * must live in the arena or be static). For edges that refuse a request before
 * it starts, and for the engine. Returns true, "the call is over", to end a
 * handler with. */
bool call_fail(struct call *call, enum status_code code, const char *message);

#endif
