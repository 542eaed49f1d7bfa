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
 * What it may cost is said by the view's terms. On a reader's view a long range
 * takes several snapshots (state/scan.h), so the view may stand on a newer one
 * afterwards. */
enum status_code range_run(struct view *view, const Pb__RangeRequest *request, int64_t newest,
                           struct arena *arena, Pb__RangeResponse **response);

#endif
