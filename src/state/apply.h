/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Apply: record in, response out. The same record on the same state gives the
 * same state and the same response, on every node and at every time: nothing
 * below this header reads a clock, draws a random number, looks at a
 * configuration or waits for anybody. A test looks at the includes.
 */
#ifndef KETA_APPLY_H
#define KETA_APPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "record.pb-c.h"
#include "state/store.h"

struct applied {
	enum status_code status;    /* what the proposer is told */
	ProtobufCMessage *response; /* in the arena; NULL unless status is OK */
	int64_t changes;            /* versions that it made */
	int64_t revision;           /* of the last of those, or the newest */
	bool ignored; /* the record did not count, see state/cluster.h; its proposer is told "timed out" */
};

/* Applies one record in the open transaction. A refusal is a result too: it is
 * in out->status, and the record has changed nothing.
 *
 * Returns STATUS_OK, or why this node cannot go on: an I/O error, a full disk,
 * STATUS_BAD_LOG for a record of another cluster.
 * STATUS_HALF_APPLIED: the record failed after it had changed something and
 * 'undoable' was false. Roll back and apply the batch again with it true,
 * which costs more and can take the one record back. */
enum status_code apply(struct store *st, const Pb__Record *rec, int64_t offset, bool undoable,
                       struct arena *arena, struct applied *out);

/* Passes over a record that no node can apply, as its operator has decided for
 * the whole cluster: the state's hash tells who did from who did not. */
enum status_code apply_skip(struct store *st, int64_t offset);

#endif
