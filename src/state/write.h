/* SPDX-License-Identifier: Apache-2.0 */
/* Put and delete: the only makers of changes. Inside apply. */
#ifndef KETA_WRITE_H
#define KETA_WRITE_H

#include "base/arena.h"
#include "base/status.h"
#include "rpc.pb-c.h"
#include "state/store.h"

/* Whether the put can be done on the state as it is: its lease exists, and the
 * key where the request takes over its value or lease. */
enum status_code write_check_put(struct store *st, const Pb__PutRequest *request);

/* Does it, checking nothing of a lease. STATUS_KEY_NOT_FOUND when the key that
 * the request builds on is gone. */
enum status_code write_put(struct store *st, const Pb__PutRequest *request, struct arena *arena,
                           Pb__PutResponse **response);

enum status_code write_delete_range(struct store *st, const Pb__DeleteRangeRequest *request, struct arena *arena,
                                    Pb__DeleteRangeResponse **response);

/* Deletes the keys attached to a lease, in byte order. */
enum status_code write_delete_attached(struct store *st, int64_t lease, struct arena *arena);

#endif
