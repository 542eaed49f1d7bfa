/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Java's .properties files, read as java.util.Properties.load reads them.
 *
 *     # a comment, as is a line that starts with '!'
 *     key = value             '=', ':' or blanks part key and value
 *     long.value = first, \
 *                  second     a '\' at the end goes on in the next line
 *     text = tab\tb\u00e4r    \t \n \r \f \uXXXX; '\' before any other
 *                             character stands for that character
 *
 * The text is UTF-8; a byte order mark before it is let pass. White space after
 * a value is part of it. A key may come twice: each is reported, and the last
 * one counts for Java.
 */
#ifndef KETA_PROPERTIES_H
#define KETA_PROPERTIES_H

#include <stddef.h>

#include "base/status.h"

/* Valid during the call of the function that gets it. Both texts are followed
 * by a NUL and may hold others (\u0000). */
struct property {
	const char *key;
	size_t key_len;
	const char *value;
	size_t value_len;
	size_t line; /* where it starts, counted from 1 */
};

/* Anything but STATUS_OK ends the reading. */
typedef enum status_code property_fn(void *arg, const struct property *property);

struct properties_error {
	size_t line;
	const char *text; /* static; never quotes the file, which may hold passwords */
};

/* Calls 'fn' for each entry, in the order of the file. STATUS_OK; STATUS_BAD_CONFIG
 * with *error filled: an escape is malformed, one surrogate stands alone, or
 * the text is not UTF-8 (found before the first entry is reported);
 * STATUS_NO_MEMORY; or what 'fn' returned, with *error as it was. */
enum status_code properties_parse(const char *text, size_t len, property_fn *fn, void *arg,
                                  struct properties_error *error);

#endif
