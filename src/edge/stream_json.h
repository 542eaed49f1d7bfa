/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message of a stream as the JSON gateway sends it, {"result":...} or
 * {"error":...}, in two steps: first its length, which chunks and frames carry
 * before it, then its bytes.
 *
 * Of a watch's message only the head is made for the client; the events are
 * made once for all who get them, one by one or, when there are many, as one
 * text (state/event.h).
 */
#ifndef KETA_STREAM_JSON_H
#define KETA_STREAM_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "base/buf.h"
#include "base/status.h"

struct event_bytes;
struct out_queue;
struct watch_message;

/* A message that has been measured. The buffer holds its beginning: it is
 * reset before, can be used again after stream_json_append, and is the
 * caller's. */
struct stream_json {
	struct buf *buf;
	const struct watch_message *watch; /* whose events follow; NULL: none do */
	const struct event_bytes *run;     /* all of them, joined; NULL: one by one */
	size_t len;
};

/* Each returns false without memory. */
bool stream_json_message(struct stream_json *json, struct buf *buf, const ProtobufCMessage *message);
bool stream_json_events(struct stream_json *json, struct buf *buf, const struct watch_message *message);
bool stream_json_error(struct stream_json *json, struct buf *buf, const struct status *status);

void stream_json_append(const struct stream_json *json, struct out_queue *queue);

#endif
