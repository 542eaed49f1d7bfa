/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the answers that come on a keep-alive connection, one after the other,
 * no further than their status and their length, so that a load program costs
 * less than what it measures.
 *
 *   while (at < len) {
 *           at += answer_take(&answer, data + at, len - at);
 *           ...
 *   }
 */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

enum { HEAD_BYTES = 2048 /* of an answer; etcd's are under 400 */ };

enum answer_state { ANSWER_HEAD, ANSWER_BODY, ANSWER_CHUNK_LINE, ANSWER_CHUNK, ANSWER_TRAILER };

/* All zeros is one whose first byte is still to come. */
struct answer {
	enum answer_state state;
	int status;
	size_t left; /* of the body or the chunk, its line end included */
	size_t head_len;
	char head[HEAD_BYTES]; /* also a chunk's line and the trailer */

	/* About the bytes that were taken last. */
	size_t body_len; /* so many of them, at their start, are the body's */
	bool complete;   /* with them the answer has ended; the next may begin */
};

/* Takes one step. Returns how many bytes were taken, never 0. */
size_t answer_take(struct answer *answer, const char *data, size_t len);

#endif
