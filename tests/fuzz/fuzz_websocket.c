/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes from a client after its handshake. The first byte says in what
 * pieces they come, which must make no difference; nothing is told after the
 * end, and no message is longer than allowed.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "edge/out_queue.h"
#include "edge/websocket.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_LIMIT = 4096, CLOSING_BYTE = '!' };

struct session {
	struct websocket websocket; /* first */
	struct out_queue out;
	uint64_t hash; /* of what was told */
};

static void take(struct websocket *websocket, const char *text, size_t len)
{
	struct session *session = (struct session *)websocket;

	if (websocket->over || websocket->close_sent || len > MESSAGE_LIMIT)
		abort();
	for (size_t i = 0; i < len; i++)
		session->hash = session->hash * 31 + (uint8_t)text[i] + 1;
	session->hash = session->hash * 31;
	if (len > 0 && text[0] == CLOSING_BYTE)
		websocket_close(websocket, WEBSOCKET_NORMAL, "");
}

static const struct websocket_ops OPS = {.text = take};

static void run(struct session *session, const uint8_t *data, size_t size, size_t piece)
{
	*session = (struct session){.hash = 0};
	out_queue_init(&session->out);
	websocket_init(&session->websocket, &OPS, &session->out, MESSAGE_LIMIT);
	for (size_t at = 0; at < size && !session->websocket.over; at += piece)
		websocket_receive(&session->websocket, data + at, size - at < piece ? size - at : piece);
	if (session->websocket.over && websocket_is_partial(&session->websocket) &&
	    session->websocket.frames != NULL)
		abort();
}

static void end(struct session *session)
{
	websocket_release(&session->websocket);
	out_queue_release(&session->out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct session whole, pieces;

	if (size == 0)
		return 0;
	run(&whole, data + 1, size - 1, size);
	run(&pieces, data + 1, size - 1, (size_t)data[0] % 16 + 1);
	if (whole.hash != pieces.hash || whole.out.len != pieces.out.len ||
	    whole.websocket.over != pieces.websocket.over)
		abort();
	end(&whole);
	end(&pieces);
	return 0;
}
