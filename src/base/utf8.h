/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing
 * above U+10FFFF. */
#ifndef KETA_UTF8_H
#define KETA_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length in bytes of the character at the start of the text, or 0 when
 * there is no valid one. */
size_t utf8_sequence(const uint8_t *text, size_t len);

/* Whether the whole text is valid. */
bool utf8_is_valid(const uint8_t *text, size_t len);

#endif
