/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts long strings out of JSON text before it is parsed.
 *
 * jansson spends ten nanoseconds on each character of a string, which for a
 * value of 4 KiB is more than all the rest of a put. Nearly all such strings
 * are base64: plain ASCII without an escape. Each is replaced by a short
 * string that says where it was:
 *
 *     {"key":"YQ==","value":"VGhlIHF1aWNr..."}
 *     {"key":"YQ==","value":"\u0000f:1a4"}        from byte 0x17, 0x1a4 long
 *
 * No client can forge one: text that itself has an escaped U+0000 is left as
 * it is. And since only the inside of well-formed strings changes, the short
 * text is valid JSON exactly if the long one is.
 */
#ifndef KETA_JSON_SHORTEN_H
#define KETA_JSON_SHORTEN_H

#include <stddef.h>

enum {
	/* From here on a cut is cheaper than jansson. */
	JSON_CUT_BYTES_MIN = 64,
};

/* Writes the shortened text, at most len bytes, and returns its length; 0 when
 * there was nothing to cut or the text may not be. */
size_t json_shorten(const char *text, size_t len, char *to);

/* The place of the quote that closes the string whose inside starts at 'at',
 * or len when none does. */
size_t json_string_end(const char *text, size_t at, size_t len);

/* Finds the original of a string of the shortened text, decoded: *string and
 * *len are set to it if it was cut, and left alone otherwise. */
void json_restore(const char *text, const char **string, size_t *len);

#endif
