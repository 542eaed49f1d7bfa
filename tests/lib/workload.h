/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random requests, valid ones, on few keys, so that they meet: keys that are
 * prefixes of others, with zero bytes and 0xff, values empty or longer than a
 * database page, old and impossible revisions, nested transactions.
 */
#ifndef KETA_WORKLOAD_H
#define KETA_WORKLOAD_H

#include "base/arena.h"
#include "lib/prng.h"
#include "rpc.pb-c.h"
#include "state/store.h"

enum { WORKLOAD_LEASES = 5 };

struct workload {
	struct prng prng;
	int64_t revision;         /* of the store, as far as known: revisions are drawn around it */
	int64_t compact_revision; /* the same */
	int64_t renewals[WORKLOAD_LEASES]; /* of leases 1, 2, ..., as far as known; 0: there is none */
	bool alarms;                       /* draw alarms too */
};

/* Tells it how the store is. */
void workload_learn(struct workload *work, struct store *st);

/* A request that a record can carry: put, delete, transaction, compaction,
 * alarm, and what is done to leases. */
ProtobufCMessage *workload_write(struct workload *work, struct arena *arena);

Pb__RangeRequest *workload_range(struct workload *work, struct arena *arena);

/* One that only reads. */
Pb__TxnRequest *workload_read_txn(struct workload *work, struct arena *arena);

#endif
