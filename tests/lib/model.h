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

struct model_version {
	int64_t mod, created, version, lease;
	int64_t order; /* among all changes */
	uint8_t *value;
	size_t value_len;
	bool deleted;
};

struct model_key {
	uint8_t *key;
	size_t key_len;
	struct model_version *versions; /* oldest first */
	size_t count, size;
};

enum { MODEL_LEASES_MAX = 16 };

struct model_lease {
	int64_t id, ttl_sec, remaining_sec;
	int64_t renewal;
};

struct model {
	int64_t revision;
	int64_t compact_revision;
	int64_t offset;         /* of the last record */
	bool nospace, corrupt;  /* alarms */
	struct model_key *keys; /* in order */
	size_t key_count, key_size;
	struct model_lease leases[MODEL_LEASES_MAX];
	size_t lease_count;
	size_t changes; /* of the revision being made */
	int64_t order;  /* of the last change */
};

void model_init(struct model *model);
void model_release(struct model *model);

/* What a record with this request gives: a status, and a response in the arena
 * when that is OK. */
enum status_code model_apply(struct model *model, const ProtobufCMessage *request, struct arena *arena,
                             ProtobufCMessage **response);

enum status_code model_range(const struct model *model, const Pb__RangeRequest *request,
                             struct arena *arena, Pb__RangeResponse **response);

/* The version of a key that a read at the revision sees, or NULL. */
const struct model_version *model_visible(const struct model_key *key, int64_t revision);
bool model_in_span(const struct model_key *key, ProtobufCBinaryData begin, ProtobufCBinaryData end);
Pb__KeyValue *model_kv(const struct model_key *key, const struct model_version *version,
                       struct arena *arena);

/* What happened in the revisions from first to last, as it was told at the
 * time, or as it can be read now ('past'): compaction takes the oldest pairs
 * before, and what its own revision superseded. */
struct model_events {
	Pb__Event **items;
	size_t count;
};
void model_history(const struct model *model, int64_t first, int64_t last, bool with_prev, bool past,
                   struct arena *arena, struct model_events *events);

/* Keys that exist, and what is counted for the versions that are left once
 * compaction has dropped all it may. */
int64_t model_live_keys(const struct model *model);
int64_t model_retained_bytes(const struct model *model);

#endif
