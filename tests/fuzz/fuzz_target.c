/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any text as a request target. Redirects must come to an end: one cleans the
 * path, one more may be needed where that brought an older name to light.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "edge/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_redirect(const struct target *target, int left)
{
	struct target next;
	struct buf page;

	if (left == 0)
		abort();
	buf_init(&page);
	target_redirect_body(target, &page);
	buf_release(&page);
	target_init(&next, target->location);
	if (next.status != STATUS_OK)
		abort();
	if (next.location != NULL)
		check_redirect(&next, left - 1);
	target_release(&next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct target target;
	struct target_query query;
	struct target_pair pair;
	char *raw = malloc(size + 1);

	if (raw == NULL)
		return 0;
	memcpy(raw, data, size);
	raw[size] = '\0';
	target_init(&target, raw);
	free(raw);
	if (target.status == STATUS_OK) {
		if (target.path_len == 0 || target.path[0] != '/')
			abort();
		if (target.location != NULL)
			check_redirect(&target, 2);
		target_query_init(&query, target.query, target.query_len);
		while (target_query_next(&query, &pair)) {
		}
	}
	target_release(&target);
	return 0;
}
