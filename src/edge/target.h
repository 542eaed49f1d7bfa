/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The target of a request line, as etcd's HTTP server reads it:
 *
 *     /v3/kv//r%61nge?x=1   as sent
 *     /v3/kv/r%61nge        cleaned of //, /./ and /../; this differs from what
 *                           was sent, so the client is told to go there
 *     /v3/kv/range          decoded; what is matched against the known paths
 *
 * The order matters: an escaped dot is no dot to the cleaning. An escaped
 * slash is a slash below /v3/ only; in other paths it stays escaped and so
 * matches nothing. /v3beta/ is /v3/ by an older name, and /v3 alone is
 * redirected to /v3/. The path is bytes and a length: %00 is a byte like any
 * other.
 */
#ifndef KETA_TARGET_H
#define KETA_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

enum { TARGET_INLINE_BYTES = 96 }; /* a target of the API with room to spare */

struct target {
	enum status_code status; /* STATUS_OK, STATUS_BAD_REQUEST or STATUS_NO_MEMORY */
	const char *path;        /* cleaned and decoded */
	size_t path_len;
	const char *query; /* what follows the '?', as sent; never NULL */
	size_t query_len;
	const char *location; /* where to redirect to; NULL when the path was clean */

	/* Own memory. */
	char *text;
	char *redirect;
	char inline_text[TARGET_INLINE_BYTES];
};

/* Reads a target, in the form of a path or of an absolute URL, and keeps a
 * copy. The struct must not be moved afterwards. Nothing but status is to be
 * read when that is not STATUS_OK: the target has neither form, a control
 * character, a space, or a broken escape in its path. */
void target_init(struct target *target, const char *raw);
void target_release(struct target *target);

/* Appends the page that says where to go, for clients that show one. */
void target_redirect_body(const struct target *target, struct buf *buf);

enum { TARGET_PAIR_BYTES = 256 };

/* A walk over the parameters of a query. */
struct target_query {
	const char *next;
	size_t left;
	char text[2 * TARGET_PAIR_BYTES];
};

/* One parameter, decoded; valid until the next. A name without '=' has an
 * empty value. */
struct target_pair {
	const char *name;
	size_t name_len;
	const char *value;
	size_t value_len;
};

void target_query_init(struct target_query *query, const char *text, size_t len);

/* The next parameter; false at the end. Those that are malformed are skipped,
 * as are those with a name or value above TARGET_PAIR_BYTES: none of ours is. */
bool target_query_next(struct target_query *query, struct target_pair *pair);

#endif
