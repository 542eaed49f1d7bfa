/* SPDX-License-Identifier: Apache-2.0 */
/* What a request adds to what the quota counts, by etcd's estimate. The
 * proposer compares; apply, under a NOSPACE alarm, only asks whether it adds. */
#ifndef KETA_QUOTA_H
#define KETA_QUOTA_H

#include <stdint.h>

#include "rpc.pb-c.h"

enum {
	QUOTA_PUT_OVERHEAD_BYTES = 256,
	QUOTA_LEASE_BYTES = 64, /* for a grant; and what a lease is counted as while it is there */
};

int64_t quota_put_cost(const Pb__PutRequest *request);

/* The dearer of the two branches, nested ones included; 0 when none puts. */
int64_t quota_txn_cost(const Pb__TxnRequest *request);

#endif
