/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum {
	BUF_MIN = 256,
	BUF_DIGITS = 20, /* of 2^64-1, and of -2^63 with its sign */
};

static const char BASE64[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void buf_init(struct buf *buf)
{
	*buf = (struct buf){0};
}

void buf_release(struct buf *buf)
{
	free(buf->data);
	buf_init(buf);
}

void buf_reset(struct buf *buf)
{
	buf->len = 0;
	buf->failed = false;
}

uint8_t *buf_detach(struct buf *buf)
{
	uint8_t *data = buf->data;

	if (buf->failed) {
		free(data);
		data = NULL;
	}
	buf_init(buf);
	return data;
}

uint8_t *buf_reserve(struct buf *buf, size_t more)
{
	size_t size;
	uint8_t *data;

	if (buf->failed)
		return NULL;
	if (buf->data != NULL && more <= buf->size - buf->len)
		return buf->data + buf->len;
	size = buf->size < BUF_MIN ? BUF_MIN : buf->size * 2;
	if (size < buf->len + more)
		size = buf->len + more;
	data = realloc(buf->data, size);
	if (data == NULL) {
		buf->failed = true;
		return NULL;
	}
	buf->data = data;
	buf->size = size;
	return data + buf->len;
}

void buf_append(struct buf *buf, const void *data, size_t len)
{
	uint8_t *to = buf_reserve(buf, len);

	if (to == NULL || len == 0)
		return;
	memcpy(to, data, len);
	buf->len += len;
}

void buf_append_byte(struct buf *buf, uint8_t byte)
{
	uint8_t *to = buf_reserve(buf, 1);

	if (to == NULL)
		return;
	*to = byte;
	buf->len++;
}

void buf_append_text(struct buf *buf, const char *text)
{
	buf_append(buf, text, strlen(text));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args;
	int len;
	uint8_t *to;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0)
		return;
	to = buf_reserve(buf, (size_t)len + 1);
	if (to == NULL)
		return;
	va_start(args, format);
	vsnprintf((char *)to, (size_t)len + 1, format, args);
	va_end(args);
	buf->len += (size_t)len;
}

void buf_append_u64(struct buf *buf, uint64_t value)
{
	char digits[BUF_DIGITS];
	size_t at = sizeof digits;

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	buf_append(buf, digits + at, sizeof digits - at);
}

void buf_append_i64(struct buf *buf, int64_t value)
{
	uint64_t magnitude = (uint64_t)value;

	if (value < 0) {
		buf_append_byte(buf, '-');
		magnitude = 0 - magnitude;
	}
	buf_append_u64(buf, magnitude);
}

/* Two characters for each 12 bits, so that a step takes three bytes and two
 * look-ups: listings are mostly base64. */
static uint16_t base64_pairs[4096];
static pthread_once_t base64_once = PTHREAD_ONCE_INIT;

static void make_base64_pairs(void)
{
	for (unsigned i = 0; i < 4096; i++) {
		char pair[2] = {BASE64[i >> 6], BASE64[i & 63]};

		memcpy(&base64_pairs[i], pair, sizeof pair);
	}
}

void buf_append_base64(struct buf *buf, const void *data, size_t len)
{
	const uint8_t *from = data;
	size_t whole = len / 3;
	size_t rest = len % 3;
	uint8_t *to = buf_reserve(buf, (whole + 1) * 4);

	if (to == NULL)
		return;
	pthread_once(&base64_once, make_base64_pairs);
	for (size_t i = 0; i < whole; i++, from += 3, to += 4) {
		uint32_t bits = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];

		memcpy(to, &base64_pairs[bits >> 12], 2);
		memcpy(to + 2, &base64_pairs[bits & 4095], 2);
	}
	if (rest > 0) {
		uint32_t bits = (uint32_t)from[0] << 16 | (rest == 2 ? (uint32_t)from[1] << 8 : 0);

		memcpy(to, &base64_pairs[bits >> 12], 2);
		to[2] = rest == 2 ? (uint8_t)BASE64[bits >> 6 & 63] : '=';
		to[3] = '=';
		whole++;
	}
	buf->len += whole * 4;
}

static bool is_plain(uint8_t byte)
{
	return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

static void append_escaped(struct buf *buf, uint8_t byte)
{
	switch (byte) {
	case '"':
		buf_append_text(buf, "\\\"");
		break;
	case '\\':
		buf_append_text(buf, "\\\\");
		break;
	case '\n':
		buf_append_text(buf, "\\n");
		break;
	case '\r':
		buf_append_text(buf, "\\r");
		break;
	case '\t':
		buf_append_text(buf, "\\t");
		break;
	default:
		buf_printf(buf, "\\u%04x", byte);
		break;
	}
}

void buf_append_json(struct buf *buf, const char *text, size_t len)
{
	const uint8_t *bytes = (const uint8_t *)text;
	size_t at = 0;

	buf_append_byte(buf, '"');
	while (at < len) {
		size_t start = at;
		size_t sequence;

		while (at < len && is_plain(bytes[at]))
			at++;
		buf_append(buf, bytes + start, at - start);
		if (at == len)
			break;
		if (bytes[at] < 0x80) {
			append_escaped(buf, bytes[at++]);
			continue;
		}
		sequence = utf8_sequence(bytes + at, len - at);
		if (sequence == 0) {
			buf_append_text(buf, "\xef\xbf\xbd");
			at++;
		} else {
			buf_append(buf, bytes + at, sequence);
			at += sequence;
		}
	}
	buf_append_byte(buf, '"');
}
