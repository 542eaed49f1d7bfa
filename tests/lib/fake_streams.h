/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streams of the fake engine, and its readers. Any thread.
 *
 * A watch answers each create_request with a "created" message and its number
 * as the watch id, but by its key
 *
 *   "quiet..."        nothing
 *   "error..."        the end, with the status set by fake_engine_fail_with
 *   "flood..."        that, and then FAKE_FLOOD_MESSAGES messages, when there is room
 *   "silent flood..." these messages only
 *
 * A cancel_request ends it well; whatever fake_streams_publish says goes to all
 * watches that had a create_request. With the token "refused" no stream opens.
 *
 * A keep-alive is answered with its id, for ids from FAKE_LATER_ID on by
 * another turn, and ends after its requests. Observe tells the name it was
 * asked for.
 */
#ifndef KETA_FAKE_STREAMS_H
#define KETA_FAKE_STREAMS_H

#include <stdbool.h>
#include <stddef.h>

enum {
	FAKE_FLOOD_MESSAGES = 20000,
	FAKE_FLOOD_BYTES = 1024, /* of the text in each */
	FAKE_LATER_ID = 1000,
};

/* Streams that are open. */
int fake_streams_count(void);

/* Streams opened so far, and requests that came over them. */
int fake_streams_opened(void);
int fake_streams_requests(void);

/* Messages that floods have sent so far. */
int fake_streams_flooded(void);

/* Tells all watches of a put. */
void fake_streams_publish(const char *key, const void *value, size_t len);

/* Event batches that somebody holds. */
int fake_streams_batches(void);

#endif
