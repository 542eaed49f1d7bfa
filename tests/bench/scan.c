/* SPDX-License-Identifier: Apache-2.0 */
#include "scan.h"

#include <assert.h>
#include <string.h>

void scan_init(struct scan *scan, const char *marker, size_t apart)
{
	*scan = (struct scan){.marker = marker, .marker_len = strlen(marker), .apart = apart};
	assert(scan->marker_len > 0 && scan->marker_len < MARKER_BYTES);
}

static void advance(const char **data, size_t *len, size_t count)
{
	*data += count;
	*len -= count;
}

/* Keeps the end of what was seen: as much as can be a marker's beginning. */
static void keep_tail(struct scan *scan, const char *text, size_t len)
{
	size_t kept = len < scan->marker_len - 1 ? len : scan->marker_len - 1;

	memmove(scan->tail, text + len - kept, kept);
	scan->tail_len = kept;
}

/* Looks where the last piece and this one meet. */
static bool find_at_seam(struct scan *scan, const char **data, size_t *len)
{
	char seam[2 * MARKER_BYTES];
	size_t tail_len = scan->tail_len;
	size_t more = *len < scan->marker_len - 1 ? *len : scan->marker_len - 1;
	const char *found;

	memcpy(seam, scan->tail, tail_len);
	memcpy(seam + tail_len, *data, more);
	found = memmem(seam, tail_len + more, scan->marker, scan->marker_len);
	scan->tail_len = 0;
	if (found != NULL) {
		advance(data, len, (size_t)(found - seam) + scan->marker_len - tail_len);
	} else if (more == *len) {
		keep_tail(scan, seam, tail_len + more);
		advance(data, len, more);
	}
	return found != NULL;
}

bool scan_next(struct scan *scan, const char **data, size_t *len)
{
	size_t skipped = *len < scan->skip ? *len : scan->skip;
	const char *found;

	advance(data, len, skipped);
	scan->skip -= skipped;
	if (*len == 0)
		return false;
	if (scan->tail_len > 0 && find_at_seam(scan, data, len)) {
		scan->skip = scan->apart;
		return true;
	}
	if (*len == 0)
		return false;
	found = memmem(*data, *len, scan->marker, scan->marker_len);
	if (found == NULL) {
		keep_tail(scan, *data, *len);
		advance(data, len, *len);
		return false;
	}
	advance(data, len, (size_t)(found - *data) + scan->marker_len);
	scan->skip = scan->apart;
	return true;
}
