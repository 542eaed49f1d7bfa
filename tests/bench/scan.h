/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds a marker in text that comes in pieces, and which may be divided
 * between them anywhere. That is all the parsing that events get.
 */
#ifndef BENCH_SCAN_H
#define BENCH_SCAN_H

#include <stdbool.h>
#include <stddef.h>

enum { MARKER_BYTES = 32 /* a marker is shorter */ };

struct scan {
	const char *marker;
	size_t marker_len;
	size_t apart; /* so many bytes, at least, are between two markers: they are not looked at */
	size_t skip;  /* bytes left of these */
	size_t tail_len;
	char tail[MARKER_BYTES]; /* of the text before, if a marker may begin there */
};

void scan_init(struct scan *scan, const char *marker, size_t apart);

/* The next marker in a piece of text. *data and *len are moved behind it, or,
 * when there is none, to the piece's end. */
bool scan_next(struct scan *scan, const char **data, size_t *len);

#endif
