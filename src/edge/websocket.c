/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wslay's frame layer checks what a frame may be: lengths in their shortest
 * form, control frames short and whole. What frames may follow each other,
 * what a message may hold, and the closing are here. A server's own frames are
 * not masked, so sending one is writing a head of two to ten bytes.
 */
#include "edge/websocket.h"

#include <string.h>

#include <wslay/wslay.h>

#include "base/utf8.h"
#include "edge/out_queue.h"

enum {
	FIN = 0x80,
	LENGTH_16 = 126, /* the length is in the next two bytes */
	LENGTH_64 = 127, /* in the next eight */
	HEAD_BYTES_MAX = 10,
	MASK_BYTES = 4,
	CODE_BYTES = 2, /* of a close frame, before its reason */
};

void websocket_init(struct websocket *websocket, const struct websocket_ops *ops, struct out_queue *out,
                    size_t message_limit)
{
	*websocket = (struct websocket){.ops = ops, .out = out, .message_limit = message_limit};
	buf_init(&websocket->message);
}

void websocket_release(struct websocket *websocket)
{
	if (websocket->frames != NULL)
		wslay_frame_context_free(websocket->frames);
	websocket->frames = NULL;
	buf_release(&websocket->message);
}

bool websocket_is_partial(const struct websocket *websocket)
{
	return websocket->in_message || websocket->frames != NULL;
}

/* ---- Sending ---- */

static void send_head(struct websocket *websocket, uint8_t opcode, size_t len)
{
	uint8_t head[HEAD_BYTES_MAX] = {(uint8_t)(FIN | opcode)};
	size_t bytes = len < LENGTH_16 ? 0 : len <= UINT16_MAX ? 2 : 8;

	head[1] = bytes == 0 ? (uint8_t)len : bytes == 2 ? LENGTH_16 : LENGTH_64;
	for (size_t i = 0; i < bytes; i++)
		head[2 + i] = (uint8_t)((uint64_t)len >> 8 * (bytes - 1 - i));
	out_queue_append(websocket->out, head, 2 + bytes);
}

static void send_control(struct websocket *websocket, uint8_t opcode, const void *payload, size_t len)
{
	if (websocket->close_sent)
		return;
	send_head(websocket, opcode, len);
	out_queue_append(websocket->out, payload, len);
}

void websocket_begin_text(struct websocket *websocket, size_t len)
{
	send_head(websocket, WSLAY_TEXT_FRAME, len);
}

void websocket_ping(struct websocket *websocket)
{
	send_control(websocket, WSLAY_PING, "", 0);
	websocket->awaiting_pong = true;
}

/* The longest beginning of a text that fits and does not end within a character. */
static size_t cut_text(const char *text, size_t limit)
{
	size_t len = strlen(text);

	if (len <= limit)
		return len;
	len = limit;
	while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
		len--;
	return len;
}

void websocket_close(struct websocket *websocket, enum websocket_code code, const char *reason)
{
	uint8_t payload[WEBSOCKET_CONTROL_BYTES] = {(uint8_t)(code >> 8), (uint8_t)code};
	size_t len = cut_text(reason, sizeof payload - CODE_BYTES);

	memcpy(payload + CODE_BYTES, reason, len);
	send_control(websocket, WSLAY_CONNECTION_CLOSE, payload, CODE_BYTES + len);
	websocket->close_sent = true;
}

/* Says why, and stops: what follows a violation has no meaning. */
static void give_up(struct websocket *websocket, enum websocket_code code, const char *reason)
{
	websocket_close(websocket, code, reason);
	websocket->over = true;
}

/* ---- Control frames ---- */

/* Codes that may stand in a close frame (RFC 6455, section 7.4, and IANA's). */
static bool is_valid_code(unsigned code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}

static bool is_valid_close(const uint8_t *payload, size_t len)
{
	if (len == 0)
		return true;
	return len >= CODE_BYTES && is_valid_code((unsigned)payload[0] << 8 | payload[1]) &&
	       utf8_is_valid(payload + CODE_BYTES, len - CODE_BYTES);
}

/* It is answered with its own code. */
static void take_close(struct websocket *websocket)
{
	size_t len = websocket->control_len;

	if (!is_valid_close(websocket->control, len)) {
		give_up(websocket, WEBSOCKET_PROTOCOL_ERROR, "a malformed close");
		return;
	}
	send_control(websocket, WSLAY_CONNECTION_CLOSE, websocket->control, len > 0 ? CODE_BYTES : 0);
	websocket->close_sent = true;
	websocket->over = true;
}

static void take_control(struct websocket *websocket)
{
	if (websocket->opcode == WSLAY_CONNECTION_CLOSE)
		take_close(websocket);
	else if (websocket->opcode == WSLAY_PING)
		send_control(websocket, WSLAY_PONG, websocket->control, websocket->control_len);
}

/* ---- Messages ---- */

static void tell(struct websocket *websocket, const uint8_t *text, size_t len)
{
	websocket->in_message = false;
	if (websocket->close_sent)
		return;
	/* What comes as binary is taken as text, as by etcd; JSON is UTF-8 anyway. */
	if (websocket->is_text && !utf8_is_valid(text, len))
		give_up(websocket, WEBSOCKET_BAD_DATA, "not valid UTF-8");
	else
		websocket->ops->text(websocket, (const char *)text, len);
}

static void take_data(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
	bool is_last = websocket->fin && websocket->payload_left == 0;

	if (is_last && websocket->message.len == 0) {
		tell(websocket, frame->data, frame->data_length); /* the usual one, in one piece */
		return;
	}
	buf_append(&websocket->message, frame->data, frame->data_length);
	if (websocket->message.failed) {
		give_up(websocket, WEBSOCKET_TRY_LATER, "no memory for this message");
	} else if (is_last) {
		tell(websocket, websocket->message.data, websocket->message.len);
		buf_release(&websocket->message);
	}
}

/* ---- Frames ---- */

static bool refuse_head(struct websocket *websocket, enum websocket_code code, const char *reason)
{
	give_up(websocket, code, reason);
	return false;
}

static bool begin_data(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
	bool continues = frame->opcode == WSLAY_CONTINUATION_FRAME;

	if (continues != websocket->in_message)
		return refuse_head(websocket, WEBSOCKET_PROTOCOL_ERROR,
		                   continues ? "nothing to continue" : "a message inside another");
	if (frame->payload_length > websocket->message_limit - websocket->message.len)
		return refuse_head(websocket, WEBSOCKET_TOO_BIG, "the message is too big");
	if (!continues)
		websocket->is_text = frame->opcode == WSLAY_TEXT_FRAME;
	websocket->in_message = true;
	return true;
}

/* The head of a frame has been read. */
static bool begin_frame(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
	size_t length_bytes = frame->payload_length < LENGTH_16     ? 0
	                      : frame->payload_length <= UINT16_MAX ? 2
	                                                            : 8;

	websocket->buffered -= 2 + length_bytes + (frame->mask ? MASK_BYTES : 0);
	websocket->payload_left = frame->payload_length;
	websocket->opcode = frame->opcode;
	websocket->fin = frame->fin;
	websocket->control_len = 0;
	if (!frame->mask)
		return refuse_head(websocket, WEBSOCKET_PROTOCOL_ERROR, "a client's frame must be masked");
	if (frame->rsv != 0)
		return refuse_head(websocket, WEBSOCKET_PROTOCOL_ERROR, "a reserved bit is set");
	switch (frame->opcode) {
	case WSLAY_CONTINUATION_FRAME:
	case WSLAY_TEXT_FRAME:
	case WSLAY_BINARY_FRAME:
		return begin_data(websocket, frame);
	case WSLAY_CONNECTION_CLOSE:
	case WSLAY_PING:
	case WSLAY_PONG:
		return true;
	default:
		return refuse_head(websocket, WEBSOCKET_PROTOCOL_ERROR, "an unknown opcode");
	}
}

/* A piece of a frame; the first one comes with its head. */
static void take_piece(struct websocket *websocket, const struct wslay_frame_iocb *frame)
{
	if (websocket->payload_left == 0 && !begin_frame(websocket, frame))
		return;
	websocket->payload_left -= frame->data_length;
	websocket->buffered -= frame->data_length;
	if (!wslay_is_ctrl_frame(frame->opcode)) {
		take_data(websocket, frame);
		return;
	}
	memcpy(websocket->control + websocket->control_len, frame->data, frame->data_length);
	websocket->control_len = (uint8_t)(websocket->control_len + frame->data_length);
	if (websocket->payload_left == 0)
		take_control(websocket);
}

/* ---- Receiving ---- */

static ssize_t feed(uint8_t *to, size_t size, int flags, void *arg)
{
	struct websocket *websocket = arg;
	size_t len = websocket->input_len < size ? websocket->input_len : size;

	(void)flags;
	if (len == 0)
		return -1;
	memcpy(to, websocket->input, len);
	websocket->input += len;
	websocket->input_len -= len;
	websocket->buffered += len;
	return (ssize_t)len;
}

/* Without the callbacks for sending: they are never called. */
static bool open_frames(struct websocket *websocket)
{
	static const struct wslay_frame_callbacks callbacks = {.recv_callback = feed};

	return websocket->frames != NULL ||
	       wslay_frame_context_init(&websocket->frames, &callbacks, websocket) == 0;
}

static void close_frames(struct websocket *websocket)
{
	wslay_frame_context_free(websocket->frames);
	websocket->frames = NULL;
	websocket->buffered = 0;
}

void websocket_receive(struct websocket *websocket, const void *data, size_t len)
{
	struct wslay_frame_iocb frame;
	ssize_t got = 0;

	websocket->awaiting_pong = false;
	websocket->input = data;
	websocket->input_len = len;
	if (!open_frames(websocket)) {
		give_up(websocket, WEBSOCKET_TRY_LATER, "no memory");
		return;
	}
	while (!websocket->over && (got = wslay_frame_recv(websocket->frames, &frame)) >= 0)
		take_piece(websocket, &frame);
	if (!websocket->over && got != WSLAY_ERR_WANT_READ)
		give_up(websocket, WEBSOCKET_PROTOCOL_ERROR, "a malformed frame");
	if (websocket->over || (websocket->buffered == 0 && websocket->payload_left == 0))
		close_frames(websocket);
}
