/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/ws_client.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ws_ask(int fd, const char *path, const char *headers, struct http_answer *answer)
{
	char head[HTTP_HEAD_BYTES];

	snprintf(head, sizeof head,
	         "GET %s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
	         path, headers);
	http_send(fd, head);
	http_read_head(fd, answer);
}

void ws_send_frame(int fd, unsigned first, const void *data, size_t len)
{
	static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
	size_t bytes = len < 126 ? 0 : len < 65536 ? 2 : 8;
	uint8_t *frame = malloc(2 + bytes + sizeof mask + len);
	uint8_t *to = frame;

	ck_assert_ptr_nonnull(frame);
	*to++ = (uint8_t)first;
	*to++ = (uint8_t)(0x80 | (bytes == 0 ? len : bytes == 2 ? 126 : 127));
	for (size_t i = 0; i < bytes; i++)
		*to++ = (uint8_t)(len >> 8 * (bytes - 1 - i));
	memcpy(to, mask, sizeof mask);
	to += sizeof mask;
	for (size_t i = 0; i < len; i++)
		*to++ = ((const uint8_t *)data)[i] ^ mask[i % 4];
	http_send_bytes(fd, frame, (size_t)(to - frame));
	free(frame);
}

void ws_send_text(int fd, const char *text)
{
	ws_send_frame(fd, 0x80 | WS_TEXT, text, strlen(text));
}

void ws_send_close(int fd, unsigned code, const char *reason)
{
	char payload[125] = {(char)(code >> 8), (char)code};

	memcpy(payload + 2, reason, strlen(reason));
	ws_send_frame(fd, 0x80 | WS_CLOSE, payload, 2 + strlen(reason));
}

static size_t read_length(int fd, unsigned first)
{
	uint8_t bytes[8];
	size_t count = first == 126 ? 2 : first == 127 ? 8 : 0;
	size_t len = count == 0 ? first : 0;

	ck_assert(http_receive(fd, bytes, count));
	for (size_t i = 0; i < count; i++)
		len = len << 8 | bytes[i];
	return len;
}

void ws_read(int fd, struct ws_frame *frame)
{
	uint8_t head[2];

	*frame = (struct ws_frame){.opcode = -1};
	if (!http_receive(fd, head, sizeof head))
		return;
	ck_assert_uint_eq(head[0] & 0xf0, 0x80);
	ck_assert_uint_eq(head[1] & 0x80, 0);
	frame->opcode = head[0] & 0x0f;
	frame->len = read_length(fd, head[1]);
	ck_assert_uint_lt(frame->len, sizeof frame->data);
	ck_assert(http_receive(fd, frame->data, frame->len));
	if (frame->opcode != WS_CLOSE || frame->len < 2)
		return;
	frame->code = (unsigned)(uint8_t)frame->data[0] << 8 | (uint8_t)frame->data[1];
	frame->len -= 2;
	memmove(frame->data, frame->data + 2, frame->len);
	frame->data[frame->len] = '\0';
}
