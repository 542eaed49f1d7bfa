/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

static bool is_continuation(uint8_t byte)
{
	return (byte & 0xc0) == 0x80;
}

size_t utf8_sequence(const uint8_t *text, size_t len)
{
	if (len == 0)
		return 0;
	if (text[0] < 0x80)
		return 1;
	if (text[0] < 0xc2 || text[0] > 0xf4)
		return 0;
	if (text[0] < 0xe0)
		return len >= 2 && is_continuation(text[1]) ? 2 : 0;
	if (text[0] < 0xf0) {
		if (len < 3 || !is_continuation(text[1]) || !is_continuation(text[2]))
			return 0;
		if (text[0] == 0xe0 && text[1] < 0xa0)
			return 0; /* overlong */
		if (text[0] == 0xed && text[1] > 0x9f)
			return 0; /* surrogate */
		return 3;
	}
	if (len < 4 || !is_continuation(text[1]) || !is_continuation(text[2]) || !is_continuation(text[3]))
		return 0;
	if (text[0] == 0xf0 && text[1] < 0x90)
		return 0; /* overlong */
	if (text[0] == 0xf4 && text[1] > 0x8f)
		return 0; /* above U+10FFFF */
	return 4;
}

bool utf8_is_valid(const uint8_t *text, size_t len)
{
	size_t at = 0;

	while (at < len) {
		size_t sequence = utf8_sequence(text + at, len - at);

		if (sequence == 0)
			return false;
		at += sequence;
	}
	return true;
}
