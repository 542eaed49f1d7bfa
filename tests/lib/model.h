/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store must do, written down a second time and as plainly as can be:
 * each key has a list of all its versions, and every answer is found by looking
 * through them. Nothing is ever dropped; compaction only moves a number.
 *
 * Requests are valid ones: engine/validate.h has passed them.
 */
#ifndef KETA_MODEL_H
#define KETA_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "rpc.pb-c.h"

struct model {
	int64_t revision;
	int64_t compact_revision;
	bool nospace, corrupt;  /* alarms */
	struct model_key *keys; /* in order */
	size_t key_count, key_size;
	size_t changes; /* of the request being applied */
};

void model_init(struct model *model);
void model_release(struct model *model);

/* What a record with this request gives: a status, and a response in the arena
 * when that is OK. */
enum status_code model_apply(struct model *model, const ProtobufCMessage *request, struct arena *arena,
                             ProtobufCMessage **response);

enum status_code model_range(const struct model *model, const Pb__RangeRequest *request,
                             struct arena *arena, Pb__RangeResponse **response);

/* Keys that exist, and what is counted for the versions that are left once
 * compaction has dropped all it may. */
int64_t model_live_keys(const struct model *model);
int64_t model_retained_bytes(const struct model *model);

#endif
