/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/json_shorten.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for the note: the escape, two numbers in hex, a colon, sprintf's NUL. */
enum { NOTE_BYTES = 6 + 16 + 1 + 16 + 1 };

_Static_assert((int)NOTE_BYTES <= (int)JSON_CUT_BYTES_MIN,
               "a note must not be longer than what it replaces");

static const char ESCAPED_NUL[] = "\\u0000";

/* Text being shortened. */
struct cutter {
	const char *text;
	size_t len;
	size_t at;
	char *to;
	size_t written;
	bool cut;
};

/* Whether no byte is a control character, beyond ASCII, or a backslash. Eight
 * at a time: a byte below 0x20 borrows, 0x7f carries, and both show in the
 * highest bit of their byte, as those beyond ASCII do by themselves. */
static bool is_plain(const char *text, size_t len)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t word;
	uint64_t odd = 0;
	size_t at = 0;

	for (; at + sizeof word <= len; at += sizeof word) {
		memcpy(&word, text + at, sizeof word);
		odd |= (word - 0x20 * ones) | word | (word + ones);
	}
	for (; at < len; at++)
		odd |= (uint64_t)(text[at] < 0x20 || text[at] == 0x7f) << 7;
	return (odd & 0x80 * ones) == 0 && memchr(text, '\\', len) == NULL;
}

static void copy_until(struct cutter *cutter, size_t end)
{
	memcpy(cutter->to + cutter->written, cutter->text + cutter->at, end - cutter->at);
	cutter->written += end - cutter->at;
	cutter->at = end;
}

static void cut_until(struct cutter *cutter, size_t end)
{
	cutter->written += (size_t)snprintf(cutter->to + cutter->written, NOTE_BYTES, "\\u0000%zx:%zx",
	                                    cutter->at, end - cutter->at);
	cutter->at = end;
	cutter->cut = true;
}

size_t json_string_end(const char *text, size_t at, size_t len)
{
	size_t start = at;

	for (;;) {
		const char *quote = at < len ? memchr(text + at, '"', len - at) : NULL;
		size_t slashes = 0;

		if (quote == NULL)
			return len;
		at = (size_t)(quote - text);
		while (at - slashes > start && text[at - slashes - 1] == '\\')
			slashes++;
		if (slashes % 2 == 0)
			return at;
		at++;
	}
}

/* From behind a string's opening quote to its closing one. False when it may
 * hold what a note starts with. */
static bool take_string(struct cutter *cutter)
{
	size_t end = json_string_end(cutter->text, cutter->at, cutter->len);
	const char *string = cutter->text + cutter->at;
	size_t len = end - cutter->at;

	if (end < cutter->len && len >= JSON_CUT_BYTES_MIN && is_plain(string, len)) {
		cut_until(cutter, end);
		return true;
	}
	if (memmem(string, len, ESCAPED_NUL, sizeof ESCAPED_NUL - 1) != NULL)
		return false;
	copy_until(cutter, end);
	return true;
}

size_t json_shorten(const char *text, size_t len, char *to)
{
	struct cutter cutter = {.text = text, .len = len, .to = to};

	while (cutter.at < len) {
		const char *quote = memchr(text + cutter.at, '"', len - cutter.at);

		if (quote == NULL) {
			copy_until(&cutter, len);
			break;
		}
		copy_until(&cutter, (size_t)(quote - text) + 1);
		if (!take_string(&cutter))
			return 0;
		if (cutter.at < len)
			copy_until(&cutter, cutter.at + 1);
	}
	return cutter.cut ? cutter.written : 0;
}

void json_restore(const char *text, const char **string, size_t *len)
{
	size_t offset;
	char *colon;

	if (*len == 0 || (*string)[0] != '\0')
		return;
	offset = strtoul(*string + 1, &colon, 16);
	*len = strtoul(colon + 1, NULL, 16);
	*string = text + offset;
}
