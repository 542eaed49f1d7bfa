/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals that need no state: what is wrong with a request by itself. */
#ifndef KETA_VALIDATE_H
#define KETA_VALIDATE_H

#include <stdint.h>

#include "base/status.h"
#include "rpc.pb-c.h"

enum status_code validate_range(const Pb__RangeRequest *request);
enum status_code validate_put(const Pb__PutRequest *request);
enum status_code validate_delete_range(const Pb__DeleteRangeRequest *request);

/* Keys, the number of operations (nested ones count against the limit of those
 * around them), and that no key is put twice or put and deleted in one branch.
 * STATUS_NO_MEMORY besides the refusals. */
enum status_code validate_txn(const Pb__TxnRequest *request, int64_t max_ops);

#endif
