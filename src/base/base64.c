/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table serves both alphabets. Entries carry flags beside the six bits;
 * they are collected over the whole text and judged once, at the end, so that
 * the loop has no branch but its own.
 */
#include "base/base64.h"

enum {
	STD = 0x100, /* only in the standard alphabet */
	URL = 0x200, /* only in the URL-safe one */
	BAD = 0x400,
	/* Shifts the bit that no ASCII character has to where BAD is. */
	NOT_ASCII_TO_BAD = 3,
};

/* clang-format off */
static const uint16_t TABLE[128] = {
	BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
	BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
	BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
	BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
	BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
	BAD, BAD, BAD, STD | 62, BAD, URL | 62, BAD, STD | 63,
	52, 53, 54, 55, 56, 57, 58, 59,
	60, 61, BAD, BAD, BAD, BAD, BAD, BAD,
	BAD, 0, 1, 2, 3, 4, 5, 6,
	7, 8, 9, 10, 11, 12, 13, 14,
	15, 16, 17, 18, 19, 20, 21, 22,
	23, 24, 25, BAD, BAD, BAD, BAD, URL | 63,
	BAD, 26, 27, 28, 29, 30, 31, 32,
	33, 34, 35, 36, 37, 38, 39, 40,
	41, 42, 43, 44, 45, 46, 47, 48,
	49, 50, 51, BAD, BAD, BAD, BAD, BAD,
};
/* clang-format on */

static inline uint32_t look_up(char character)
{
	uint8_t byte = (uint8_t)character;

	return TABLE[byte & 0x7f] | (uint32_t)(byte & 0x80) << NOT_ASCII_TO_BAD;
}

/* The text without its padding; the length says how many '=' there must be. */
static size_t strip_padding(const char *text, size_t len)
{
	if (len == 0 || len % 4 != 0 || text[len - 1] != '=')
		return len;
	return text[len - 2] == '=' ? len - 2 : len - 1;
}

static const char *judge(uint32_t flags)
{
	if (flags & BAD)
		return "it holds a character that is in neither alphabet, or padding out of place";
	if ((flags & STD) && (flags & URL))
		return "it mixes the standard alphabet (+ and /) with the URL-safe one (- and _)";
	return NULL;
}

const char *base64_decode(const char *text, size_t len, uint8_t *to, size_t *count)
{
	const uint8_t *start = to;
	uint32_t flags = 0;
	uint32_t bits = 0;
	size_t at = 0;

	len = strip_padding(text, len);
	for (; at + 4 <= len; at += 4, to += 3) {
		uint32_t a = look_up(text[at]), b = look_up(text[at + 1]);
		uint32_t c = look_up(text[at + 2]), d = look_up(text[at + 3]);

		flags |= a | b | c | d;
		bits = (a & 63) << 18 | (b & 63) << 12 | (c & 63) << 6 | (d & 63);
		to[0] = (uint8_t)(bits >> 16);
		to[1] = (uint8_t)(bits >> 8);
		to[2] = (uint8_t)bits;
	}
	bits = 0;
	for (size_t i = at; i < len; i++) {
		flags |= look_up(text[i]);
		bits |= (look_up(text[i]) & 63) << (18 - 6 * (i - at));
	}
	if (len - at == 1)
		return "its last group of four characters holds only one";
	if (len - at >= 2)
		*to++ = (uint8_t)(bits >> 16);
	if (len - at == 3)
		*to++ = (uint8_t)(bits >> 8);
	*count = (size_t)(to - start);
	return judge(flags);
}
