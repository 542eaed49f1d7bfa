/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a shared log says of the nodes that write to it: who has joined, whose
 * records count, who leads. Inside apply; without a shared log none of it
 * happens.
 *
 * A record counts when its proposer's incarnation is the one registered under
 * its id and its sequence number is above the last one applied. So what a
 * process left in flight when it died cannot disturb its successor, and a
 * record that got into the log twice is applied once.
 */
#ifndef KETA_CLUSTER_H
#define KETA_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "record.pb-c.h"
#include "state/store.h"

/* The id of a node: the same for the same name in the same cluster, at every
 * start. Neither 0 nor, read as signed, negative. */
uint64_t cluster_member_id(uint64_t cluster_id, const char *name);

/* Whether the record has no effect but by the leader of the term in force. */
bool cluster_is_for_leaders(const Pb__Record *rec);

/* Whether the record is to be applied; notes its sequence number if so. *counts
 * is false for one of a replaced incarnation, of one that has not joined, for a
 * repeated one, for one that only a leader may write and whose writer is not
 * the leader any more, and for one whose proposer had applied an offset that is not below the
 * record's own: the log has lost what it saw, and it will find out. STATUS_BAD_LOG for a record of another
 * cluster: this is not the log that the state was made of. */
enum status_code cluster_admit(struct store *st, const Pb__Record *rec, int64_t offset, bool *counts);

/* STATUS_REPLACED when the number is not a new one; STATUS_TOO_MANY_REQUESTS when
 * there are too many members. */
enum status_code cluster_apply_join(struct store *st, const Pb__Record *rec);

/* STATUS_FENCED when the term is not a new one. */
enum status_code cluster_apply_take_office(struct store *st, const Pb__Record *rec);

/* The tables hold everything up to the offset: what was kept for them is dropped. Returns OK or
 * an error of the database, as the next does. */
enum status_code cluster_apply_covered(struct store *st, const Pb__Covered *request);
enum status_code cluster_apply_hash_verdict(struct store *st, const Pb__Record *rec);

/* A level that not all members know, or that is in force already, changes nothing. */
void cluster_apply_raise_level(struct store *st, const Pb__RaiseLevel *request);

#endif
