/* SPDX-License-Identifier: Apache-2.0 */
#include "state/quota.h"

int64_t quota_put_cost(const Pb__PutRequest *request)
{
	return QUOTA_PUT_OVERHEAD_BYTES + (int64_t)(request->key.len + request->value.len);
}

static int64_t branch_cost(Pb__RequestOp *const *ops, size_t count)
{
	int64_t cost = 0;

	for (size_t i = 0; i < count; i++) {
		if (ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_PUT)
			cost += quota_put_cost(ops[i]->request_put);
		else if (ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_TXN)
			cost += quota_txn_cost(ops[i]->request_txn);
	}
	return cost;
}

int64_t quota_txn_cost(const Pb__TxnRequest *request)
{
	int64_t success = branch_cost(request->success, request->n_success);
	int64_t failure = branch_cost(request->failure, request->n_failure);

	return success > failure ? success : failure;
}
