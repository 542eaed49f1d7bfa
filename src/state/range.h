/* SPDX-License-Identifier: Apache-2.0 */
/* Range requests: the keys of a span as of a revision, filtered, sorted,
 * limited and counted as etcd does. */
#ifndef KETA_RANGE_H
#define KETA_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "rpc.pb-c.h"
#include "state/view.h"

/* Checks the revision that a request names against a snapshot in which
 * 'newest' is the newest one: STATUS_FUTURE_REVISION, STATUS_COMPACTED. */
enum status_code range_check_revision(const struct store_state *state, int64_t newest, int64_t revision);

/* Answers a range request from a fresh view. The response's header
 * holds 'newest', the revision of the snapshot (in a transaction that has
 * written: its own).
 *
 * max_rows bounds the work: a request that needs more rows ends with *partial
 * true and no response, for the caller to run it where it may take its time.
 * 0 is no bound; partial may then be NULL. On a reader's view a long range
 * takes several snapshots (state/scan.h), so the view may stand on a newer one
 * afterwards. */
enum status_code range_run(struct view *view, const Pb__RangeRequest *request, int64_t newest, size_t max_rows,
                           struct arena *arena, bool *partial, Pb__RangeResponse **response);

#endif
