/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of pieces. The first block of own bytes is small, as most clients are
 * sent one small message at a time and ten thousand of them may be sent it in
 * the same moment; one that follows is larger.
 */
#include "edge/out_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "state/event.h"

enum {
	FIRST_BYTES = 512,
	NEXT_BYTES = 4096,
	/* Below, a copy costs less than a piece of its own. */
	SHARED_BYTES_MIN = 4096,
	VECTORS = 64,
};

struct out_piece {
	struct out_piece *next;
	const uint8_t *data; /* what is left of it */
	size_t len;
	size_t room;               /* free bytes behind it */
	struct event_batch *batch; /* that the data is of; NULL: it is our own */
	uint8_t bytes[];
};

void out_queue_init(struct out_queue *queue)
{
	*queue = (struct out_queue){0};
}

static void free_piece(struct out_piece *piece)
{
	if (piece->batch != NULL)
		event_batch_release(piece->batch);
	free(piece);
}

void out_queue_release(struct out_queue *queue)
{
	while (queue->first != NULL) {
		struct out_piece *piece = queue->first;

		queue->first = piece->next;
		free_piece(piece);
	}
	out_queue_init(queue);
}

/* A new last piece with room for so many own bytes; NULL without memory. */
static struct out_piece *add_piece(struct out_queue *queue, size_t room)
{
	struct out_piece *piece = malloc(sizeof *piece + room);

	if (piece == NULL) {
		queue->failed = true;
		return NULL;
	}
	*piece = (struct out_piece){.data = piece->bytes, .room = room};
	if (queue->last != NULL)
		queue->last->next = piece;
	else
		queue->first = piece;
	queue->last = piece;
	return piece;
}

static size_t next_size(const struct out_queue *queue, size_t len)
{
	size_t size = queue->first == NULL ? FIRST_BYTES : NEXT_BYTES;

	return len > size ? len : size;
}

void out_queue_append(struct out_queue *queue, const void *data, size_t len)
{
	struct out_piece *piece = queue->last;
	uint8_t *end;

	if (queue->failed || len == 0)
		return;
	if (piece == NULL || piece->room < len) {
		piece = add_piece(queue, next_size(queue, len));
		if (piece == NULL)
			return;
	}
	/* The data of a piece of our own ends where its room begins. */
	end = piece->bytes + (piece->data - piece->bytes) + piece->len;
	memcpy(end, data, len);
	piece->len += len;
	piece->room -= len;
	queue->len += len;
}

void out_queue_append_text(struct out_queue *queue, const char *text)
{
	out_queue_append(queue, text, strlen(text));
}

void out_queue_append_shared(struct out_queue *queue, struct event_batch *batch, const void *data,
                             size_t len)
{
	struct out_piece *piece;

	if (len < SHARED_BYTES_MIN) {
		out_queue_append(queue, data, len);
		return;
	}
	if (queue->failed)
		return;
	piece = add_piece(queue, 0);
	if (piece == NULL)
		return;
	piece->data = data;
	piece->len = len;
	piece->batch = event_batch_hold(batch);
	queue->len += len;
}

/* sendmsg does not write to what it is given to send. */
static void *writable(const uint8_t *data)
{
	union {
		const uint8_t *from;
		void *to;
	} cast = {.from = data};

	return cast.to;
}

static size_t fill_vectors(const struct out_queue *queue, struct iovec vectors[static VECTORS])
{
	size_t count = 0;

	for (const struct out_piece *piece = queue->first; piece != NULL && count < VECTORS;
	     piece = piece->next)
		vectors[count++] = (struct iovec){.iov_base = writable(piece->data), .iov_len = piece->len};
	return count;
}

static void drop_sent(struct out_queue *queue, size_t sent)
{
	queue->len -= sent;
	while (queue->first != NULL && queue->first->len <= sent) {
		struct out_piece *piece = queue->first;

		sent -= piece->len;
		queue->first = piece->next;
		free_piece(piece);
	}
	if (queue->first == NULL) {
		queue->last = NULL;
		return;
	}
	queue->first->data += sent;
	queue->first->len -= sent;
}

enum out_result out_queue_send(struct out_queue *queue, int fd)
{
	while (queue->first != NULL) {
		struct iovec vectors[VECTORS];
		struct msghdr message = {.msg_iov = vectors, .msg_iovlen = fill_vectors(queue, vectors)};
		ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent >= 0)
			drop_sent(queue, (size_t)sent);
		else if (errno == EAGAIN)
			return OUT_FULL;
		else if (errno != EINTR)
			return OUT_LOST;
	}
	return OUT_EMPTY;
}
