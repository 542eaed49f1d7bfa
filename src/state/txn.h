/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transactions: compares, then one of two lists of operations, nested.
 *
 * As in etcd all compares, those of nested transactions too, are settled on
 * the state before the first write, then all operations of the chosen branches
 * are checked, and only then the first is run. So a transaction that fails has
 * changed nothing.
 */
#ifndef KETA_TXN_H
#define KETA_TXN_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/status.h"
#include "rpc.pb-c.h"
#include "state/store.h"

/* Whether a branch of the transaction, however deep, could write. */
bool txn_is_read_only(const Pb__TxnRequest *request);

/* Whether it may read a state that is not the newest: etcd's rule. */
bool txn_is_serializable(const Pb__TxnRequest *request);

/* Runs a transaction inside apply. STATUS_KEY_NOT_FOUND half-way, when a put
 * takes over the value or lease of a key that an earlier operation deleted: the
 * caller undoes the record. */
enum status_code txn_apply(struct store *st, const Pb__TxnRequest *request, struct arena *arena,
                           Pb__TxnResponse **response);

/* Runs one that is read-only on a fresh view, whose terms say what it may cost. */
enum status_code txn_read(struct view *view, const Pb__TxnRequest *request, struct arena *arena,
                          Pb__TxnResponse **response);

#endif
