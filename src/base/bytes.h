/* SPDX-License-Identifier: Apache-2.0 */
/* The order of keys and values: byte by byte, the shorter first where one begins
 * the other. NULL is fine for no bytes. */
#ifndef KETA_BYTES_H
#define KETA_BYTES_H

#include <stddef.h>
#include <string.h>

/* Below, at or above 0 as a is before, equal to or after b. */
static inline int bytes_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t len = a_len < b_len ? a_len : b_len;
	int order = len > 0 ? memcmp(a, b, len) : 0;

	return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

#endif
