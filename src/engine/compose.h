/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests that locks and elections are composed of, in an arena. The
 * bytes of keys and values are borrowed.
 */
#ifndef KETA_COMPOSE_H
#define KETA_COMPOSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "rpc.pb-c.h"

/* The keys of a lock or an election: its name, a slash, and what follows. */
struct prefix {
	ProtobufCBinaryData start, end;
};
enum status_code prefix_make(struct prefix *prefix, ProtobufCBinaryData name, struct arena *arena);

/* The two joined; data is NULL without memory. */
ProtobufCBinaryData bytes_join(ProtobufCBinaryData start, const char *text, struct arena *arena);

/* A copy with its bytes; NULL without memory. */
Pb__KeyValue *kv_copy(const Pb__KeyValue *kv, struct arena *arena);

/* Asks for one key; for the oldest key of a prefix; for the newest that is not
 * younger than max_create. NULL without memory. */
Pb__RangeRequest *key_range(ProtobufCBinaryData key, struct arena *arena);
Pb__RangeRequest *prefix_oldest(const struct prefix *prefix, struct arena *arena);
Pb__RangeRequest *prefix_newest(const struct prefix *prefix, int64_t max_create, struct arena *arena);

enum { OWN_TXN_OPS = 2 };

/* A transaction that depends on the create revision of one key. */
struct own_txn {
	Pb__TxnRequest txn;
	Pb__Compare compare, *compares[1];
	Pb__RequestOp success[OWN_TXN_OPS], *successes[OWN_TXN_OPS];
	Pb__RequestOp failure[OWN_TXN_OPS], *failures[OWN_TXN_OPS];
};

/* 'created' is 0 for "the key does not exist". NULL without memory; then the
 * functions that follow return false. */
struct own_txn *own_txn_make(ProtobufCBinaryData key, int64_t created, struct arena *arena);

/* Lets it depend on the key's lease instead. */
void own_txn_if_leased(struct own_txn *own, int64_t lease);

/* Add an operation to a branch; false without memory. */
bool own_txn_then_put(struct own_txn *own, ProtobufCBinaryData key, ProtobufCBinaryData value, int64_t lease,
                      struct arena *arena);
bool own_txn_then_delete(struct own_txn *own, ProtobufCBinaryData key, struct arena *arena);
bool own_txn_then_range(struct own_txn *own, Pb__RangeRequest *range);
bool own_txn_else_range(struct own_txn *own, Pb__RangeRequest *range);

#endif
