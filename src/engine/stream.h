/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call that goes on: messages from the client, messages to it, until one
 * side ends it. What a METHOD_STREAM row of the method table runs.
 *
 *   edge: stream_open ── stream_receive* ── stream_end_requests ──► handler
 *   handler: ops->message, ops->events ──────────── ops->end ──► edge
 *   edge: stream_close
 *
 * A stream lives on one thread, that of the reader it was opened with: the
 * edge calls these functions there, and the engine calls the ops there, from
 * inside them or from engine_reader_run. The edge owns the struct (usually as a
 * part of its own) and may let it go once stream_close has returned; after that
 * nothing is called.
 */
#ifndef KETA_STREAM_H
#define KETA_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/status.h"

struct engine;
struct event;
struct method;
struct reader;
struct stream;

/* Events of a watch, as one message: a Pb__WatchResponse but for the events,
 * which every edge writes in a form that is shared by all who get them
 * (event_form). */
struct watch_message {
	const ProtobufCMessage *head; /* the response with everything but its events */
	struct event *const *events;  /* hold the batch of each to send from it */
	size_t count;
	bool prev_kv; /* write the pairs before */
};

struct stream_ops {
	/* One message to the client. It is written before this returns: nothing of
	 * it is needed afterwards. */
	void (*message)(struct stream *stream, const ProtobufCMessage *response);
	void (*events)(struct stream *stream, const struct watch_message *message);

	/* The engine's side is over: with STATUS_OK after the last message, or with
	 * an error. The status is copied. The edge calls stream_close in its own
	 * time, not from in here. */
	void (*end)(struct stream *stream, const struct status *status);

	/* Whether the client keeps up. When false, the engine holds back what it
	 * can, until stream_resume. */
	bool (*has_room)(const struct stream *stream);
};

struct stream {
	/* The edge's, set before stream_open. */
	const struct stream_ops *ops;
	const struct method *method;
	const char *token; /* the client's credentials, or NULL; must live as long as the stream */

	/* The engine's. */
	struct engine *engine;
	struct reader *reader;
	const struct stream_handler *handler;
	void *state;
	bool ended; /* ops->end was called */
};

/* Begins. False when it is over already: ops->end has been called with the
 * reason. stream_close is due in any case. */
bool stream_open(struct engine *engine, struct reader *reader, struct stream *stream);

/* A message from the client, of the method's input type. It is not needed after
 * this returns. Does nothing once the stream has ended. */
void stream_receive(struct stream *stream, const ProtobufCMessage *request);

/* The client sends no more; it still listens. */
void stream_end_requests(struct stream *stream);

/* The client keeps up again. */
void stream_resume(struct stream *stream);

/* The client is gone, or all is said: the engine lets go of the stream. */
void stream_close(struct stream *stream);

#endif
