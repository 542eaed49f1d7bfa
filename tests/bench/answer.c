/* SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tool.h"

/* What the head says of the body's length; -1 when it comes in chunks. */
static int64_t body_length(const char *head)
{
	static const char LENGTH[] = "Content-Length:", CHUNKED[] = "Transfer-Encoding:";

	for (const char *line = strchr(head, '\n'); line != NULL; line = strchr(line, '\n')) {
		line++;
		if ((*line | 0x20) == 'c' && strncasecmp(line, LENGTH, sizeof LENGTH - 1) == 0)
			return strtoll(line + sizeof LENGTH - 1, NULL, 10);
		if ((*line | 0x20) == 't' && strncasecmp(line, CHUNKED, sizeof CHUNKED - 1) == 0)
			return -1;
	}
	return 0;
}

static void end_answer(struct answer *answer)
{
	answer->complete = true;
	answer->state = ANSWER_HEAD;
	answer->head_len = 0;
}

static void begin_body(struct answer *answer)
{
	int64_t length = body_length(answer->head);

	answer->status = atoi(answer->head + strlen("HTTP/1.1 "));
	answer->head_len = 0;
	answer->left = length > 0 ? (size_t)length : 0;
	answer->state = length < 0 ? ANSWER_CHUNK_LINE : ANSWER_BODY;
	if (length == 0)
		end_answer(answer);
}

static void begin_chunk(struct answer *answer)
{
	size_t length = strtoul(answer->head, NULL, 16);

	answer->head_len = 0;
	answer->left = length + 2;
	answer->state = length > 0 ? ANSWER_CHUNK : ANSWER_TRAILER;
}

/* Takes text up to and including 'end' into answer->head. Returns how much was taken. */
static size_t take_until(struct answer *answer, const char *data, size_t len, const char *end, bool *found)
{
	size_t end_len = strlen(end), old_len = answer->head_len;
	size_t room = sizeof answer->head - 1 - old_len;
	size_t taken = len < room ? len : room;
	const char *place = NULL;

	if (taken == 0)
		fail("an answer's head is too long");
	/* Nearly always the text is there as a whole, and short: no need to copy more. */
	if (old_len == 0) {
		place = memmem(data, taken, end, end_len);
		taken = place != NULL ? (size_t)(place - data) + end_len : taken;
	}
	memcpy(answer->head + old_len, data, taken);
	if (old_len > 0) {
		size_t seen = old_len < end_len ? 0 : old_len - end_len + 1;

		place = memmem(answer->head + seen, old_len + taken - seen, end, end_len);
		taken = place != NULL ? (size_t)(place - answer->head) + end_len - old_len : taken;
	}
	*found = place != NULL;
	answer->head_len = old_len + taken;
	answer->head[answer->head_len] = '\0';
	return taken;
}

/* Of the body or a chunk, after whose own bytes come 'extra' that are not the body's. */
static size_t take_left(struct answer *answer, size_t len, size_t extra)
{
	size_t taken = len < answer->left ? len : answer->left;
	size_t own = answer->left > extra ? answer->left - extra : 0;

	answer->body_len = taken < own ? taken : own;
	answer->left -= taken;
	return taken;
}

size_t answer_take(struct answer *answer, const char *data, size_t len)
{
	bool found = false;
	size_t taken = 0;

	answer->body_len = 0;
	answer->complete = false;
	switch (answer->state) {
	case ANSWER_HEAD:
		taken = take_until(answer, data, len, "\r\n\r\n", &found);
		if (found)
			begin_body(answer);
		break;
	case ANSWER_BODY:
		taken = take_left(answer, len, 0);
		if (answer->left == 0)
			end_answer(answer);
		break;
	case ANSWER_CHUNK_LINE:
		taken = take_until(answer, data, len, "\r\n", &found);
		if (found)
			begin_chunk(answer);
		break;
	case ANSWER_CHUNK:
		taken = take_left(answer, len, strlen("\r\n"));
		if (answer->left == 0)
			answer->state = ANSWER_CHUNK_LINE;
		break;
	case ANSWER_TRAILER:
		/* Nobody sends a trailer here: the empty line that ends it is all. */
		taken = take_until(answer, data, len, "\r\n", &found);
		if (found)
			end_answer(answer);
		break;
	}
	return taken;
}
