/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases as state: which there are, their time to live, and the keys that fall
 * with them. When one is due is not state: it is timed by the engine, from the
 * moments at which it applied grant and renewal (engine/lessor.h).
 *
 * A renewal is a log record, named by its offset. An expiry and a checkpoint
 * name the renewal that their proposer knew of, and do nothing when there has
 * been another since.
 *
 * Renewals are many and say little. They are kept in memory and written with
 * the next commit that has something to write anyway, so that a batch of
 * nothing but renewals costs no write; the position of the log in the database
 * stays behind with them. A renewal of a lease whose remaining time was
 * recorded is written at once, or a crash would shorten the lease.
 */
#ifndef KETA_LEASE_H
#define KETA_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "record.pb-c.h"
#include "rpc.pb-c.h"
#include "state/store.h"

enum {
	LEASE_MIN_TTL_SEC = 2, /* a shorter one is made that long */
};
#define LEASE_MAX_TTL_SEC INT64_C(9000000000)

/* Inside apply. 'offset' is the record's. All but the first two change nothing
 * of a lease that does not exist, and it is no error. */

/* STATUS_LEASE_EXISTS, STATUS_LEASE_TTL_TOO_LARGE. */
enum status_code lease_apply_grant(struct store *st, const Pb__LeaseGrantRequest *request, int64_t offset,
                                   struct arena *arena, Pb__LeaseGrantResponse **response);

/* Deletes the lease and, in byte order, the keys attached to it.
 * STATUS_LEASE_NOT_FOUND. */
enum status_code lease_apply_revoke(struct store *st, const Pb__LeaseRevokeRequest *request, struct arena *arena,
                                    Pb__LeaseRevokeResponse **response);

/* The response has for each id its time to live, 0 for an unknown one. */
enum status_code lease_apply_renew(struct store *st, const Pb__LeaseRenew *request, int64_t offset,
                                   struct arena *arena, Pb__LeaseRenewed **response);

/* As revoke, of many; each lease whose keys fall makes a revision of its own. */
enum status_code lease_apply_expire(struct store *st, const Pb__LeaseExpire *request, struct arena *arena);

/* Records what is left of leases. */
enum status_code lease_apply_checkpoint(struct store *st, const Pb__LeaseCheckpointed *request);

/* On a fresh reader's view: the keys attached, for TimeToLive. */
enum status_code lease_read_keys(struct view *view, int64_t id, struct arena *arena, size_t *count,
                                 ProtobufCBinaryData **keys);

/* On any view: tells of every lease, in the order of ids. Renewals that are not
 * written yet are not seen. */
struct lease_row {
	int64_t id;
	int64_t ttl_sec;
	int64_t remaining_sec; /* as last recorded; ttl_sec if never */
	int64_t renewal;
};
typedef enum status_code lease_row_fn(void *arg, const struct lease_row *row);
enum status_code lease_read_all(struct view *view, lease_row_fn *tell, void *arg);

#endif
