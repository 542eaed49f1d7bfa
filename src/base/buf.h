/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable bytes, with the appends that a JSON writer needs.
 *
 * A buffer that could not grow is marked failed, and every later append does
 * nothing: the writer checks once, at the end. A buffer is used by one thread
 * at a time.
 */
#ifndef KETA_BUF_H
#define KETA_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *data;
	size_t len;
	size_t size;
	bool failed; /* memory ran out; the content is not complete */
};

/* Empty, without memory. */
void buf_init(struct buf *buf);
void buf_release(struct buf *buf);

/* Empty, keeping its memory for the next use. */
void buf_reset(struct buf *buf);

/* Hands the bytes to the caller, who frees them; the buffer is empty again.
 * NULL when it failed or nothing was ever written. */
uint8_t *buf_detach(struct buf *buf);

/* Room for 'more' bytes at the end, or NULL. The caller writes there and adds
 * to len. */
uint8_t *buf_reserve(struct buf *buf, size_t more);

void buf_append(struct buf *buf, const void *data, size_t len);
void buf_append_byte(struct buf *buf, uint8_t byte);
void buf_append_text(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Decimal digits. */
void buf_append_i64(struct buf *buf, int64_t value);
void buf_append_u64(struct buf *buf, uint64_t value);

/* Standard base64 with padding (RFC 4648, section 4), without quotes. */
void buf_append_base64(struct buf *buf, const void *data, size_t len);

/* A JSON string with its quotes. The bytes are taken to be UTF-8; what is not
 * is replaced by U+FFFD. '<', '>' and '&' are kept as they are. */
void buf_append_json(struct buf *buf, const char *text, size_t len);

#endif
