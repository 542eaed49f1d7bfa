/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Base64 to bytes, in the forms that etcd's gateway takes: the standard or the
 * URL-safe alphabet (RFC 4648, sections 4 and 5) but not both in one text,
 * padded in full or not at all, without white space. Bits beyond the last byte
 * are not looked at. The other direction is buf_append_base64.
 */
#ifndef KETA_BASE64_H
#define KETA_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that a text of this length can hold at most. */
#define BASE64_DECODED_MAX(len) ((len) / 4 * 3 + 2)

/* Writes at most BASE64_DECODED_MAX(len) bytes and their number. NULL when the
 * text is well formed, or else what is wrong with it, static, to follow
 * "not valid base64: ". */
const char *base64_decode(const char *text, size_t len, uint8_t *to, size_t *count);

#endif
