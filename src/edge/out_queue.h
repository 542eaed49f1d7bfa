/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes that a client still has to take, in order.
 *
 *   own bytes ─ own bytes ─ reference ─ own bytes ──► sendmsg
 *                              └─ in an event batch, which is held meanwhile
 *
 * Most messages are small and are copied; what is large and shared by many
 * clients is referred to, so that a value of a megabyte with ten thousand
 * watchers is in memory once. An empty queue has no memory. A queue that could
 * not grow is marked failed: its content is not complete, and its connection
 * is to be cut.
 *
 * For one thread at a time.
 */
#ifndef KETA_OUT_QUEUE_H
#define KETA_OUT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_batch;
struct out_piece;

struct out_queue {
	struct out_piece *first, *last;
	size_t len;  /* bytes left to be sent */
	bool failed; /* memory ran out */
};

void out_queue_init(struct out_queue *queue);

/* Drops what was not sent. */
void out_queue_release(struct out_queue *queue);

/* Adds a copy. */
void out_queue_append(struct out_queue *queue, const void *data, size_t len);
void out_queue_append_text(struct out_queue *queue, const char *text);

/* Adds bytes that live as long as the batch, which is held until they are
 * sent. Short ones are copied instead: that is cheaper. */
void out_queue_append_shared(struct out_queue *queue, struct event_batch *batch, const void *data,
                             size_t len);

enum out_result {
	OUT_EMPTY, /* all is sent */
	OUT_FULL,  /* the socket takes no more for now */
	OUT_LOST,  /* the connection is broken */
};

/* Sends as much as a non-blocking socket takes. */
enum out_result out_queue_send(struct out_queue *queue, int fd);

#endif
