/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One WebSocket after its handshake (RFC 6455), as far as it concerns bytes:
 * what the client sent becomes text messages, and what is sent to it becomes
 * frames in a queue. It knows no socket and no clock; who owns it does.
 *
 *   OPEN ── websocket_close ──► close_sent ── the client's close ──► over
 *     ├──── the client's close, which is answered ─────────────────► over
 *     └──── a violation, which is told ────────────────────────────► over
 *
 * Frames are parsed by wslay. Its parser takes 4 KiB and exists only while a
 * frame is incomplete: an idle connection does without.
 */
#ifndef KETA_WEBSOCKET_H
#define KETA_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct out_queue;
struct websocket;
struct wslay_frame_context;

/* The codes that this server closes with (RFC 6455, section 7.4.1). */
enum websocket_code {
	WEBSOCKET_NORMAL = 1000,
	WEBSOCKET_GOING_AWAY = 1001,
	WEBSOCKET_PROTOCOL_ERROR = 1002,
	WEBSOCKET_BAD_DATA = 1007,
	WEBSOCKET_REFUSED = 1008,
	WEBSOCKET_TOO_BIG = 1009,
	WEBSOCKET_INTERNAL = 1011,
	WEBSOCKET_TRY_LATER = 1013,
};

enum { WEBSOCKET_CONTROL_BYTES = 125 }; /* a control frame's payload at most */

struct websocket_ops {
	/* A whole message. It may be answered, and the socket closed, from in
	 * here; no message is told of after that. */
	void (*text)(struct websocket *websocket, const char *text, size_t len);
};

struct websocket {
	const struct websocket_ops *ops;
	struct out_queue *out;
	size_t message_limit; /* a longer one closes with WEBSOCKET_TOO_BIG */

	bool close_sent;    /* nothing is sent any more */
	bool over;          /* nothing is read any more: send what is queued, and disconnect */
	bool awaiting_pong; /* nothing has come since the last websocket_ping */

	/* The frame that is being read. */
	struct wslay_frame_context *frames; /* NULL: none is */
	const uint8_t *input;               /* what websocket_receive was given and wslay has not taken */
	size_t input_len;
	uint64_t buffered;     /* bytes that wslay has taken and not given back */
	uint64_t payload_left; /* of the frame whose head was read */
	uint8_t opcode;
	bool fin;
	uint8_t control_len;
	uint8_t control[WEBSOCKET_CONTROL_BYTES];

	/* The message that its frames make up. */
	bool in_message;
	bool is_text;
	struct buf message;
};

/* Both pointers are borrowed. */
void websocket_init(struct websocket *websocket, const struct websocket_ops *ops, struct out_queue *out,
                    size_t message_limit);
void websocket_release(struct websocket *websocket);

/* Bytes from the client. */
void websocket_receive(struct websocket *websocket, const void *data, size_t len);

/* Whether a frame or a message has begun and not ended. */
bool websocket_is_partial(const struct websocket *websocket);

/* Queues the head of a text message, which 'len' bytes are to follow. */
void websocket_begin_text(struct websocket *websocket, size_t len);

void websocket_ping(struct websocket *websocket);

/* Queues the close. The reason is cut to what fits. Again does nothing. */
void websocket_close(struct websocket *websocket, enum websocket_code code, const char *reason);

#endif
