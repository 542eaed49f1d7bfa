/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When leases are due. The state knows which leases there are; this times
 * them, from the moments at which their grants and renewals were applied, in a
 * heap by due time: leases cost nothing while nothing happens to them.
 *
 * Its clock is the monotonic one, but stands still while nobody could renew: as
 * long as it is told so by lessor_tick, and while the process did not run.
 *
 * Any thread; each function takes the lessor's own lock for a short time.
 */
#ifndef KETA_LESSOR_H
#define KETA_LESSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "state/store.h"

struct lessor;

/* Reads all leases; each has from now on what was left of it when that was last
 * recorded, or its full time. */
enum status_code lessor_new(struct view *view, int64_t now_ms, struct lessor **out);
void lessor_free(struct lessor *lessor);

/* What a transaction did, after its commit and before its clients are told.
 * STATUS_NO_MEMORY: some were not noted, and the node must not go on until all
 * are; to note them again from the first does no harm. */
enum status_code lessor_note(struct lessor *lessor, const struct lease_note *notes, size_t count,
                             int64_t now_ms);

/* Moves the lessor's clock on; to be called some times a second. 'held': nothing
 * can be written now, so its time stands still. A step longer than a second
 * counts as one: the process was stopped. */
void lessor_tick(struct lessor *lessor, int64_t now_ms, bool held);

/* What is left of a lease, in milliseconds, not below 0; false when there is none. */
bool lessor_find(struct lessor *lessor, int64_t id, int64_t *ttl_sec, int64_t *remaining_ms);

/* Up to 'max' leases that are due, each with its renewal; none while the clock
 * stands still. They are not given again for a while, and then each alone: the
 * record that was to end them may have got lost, or one of them cannot end. */
size_t lessor_take_due(struct lessor *lessor, size_t max, int64_t *ids, int64_t *renewals);

/* Up to 'max' leases of whose remaining time less is left than was recorded, by
 * more than a tenth of the time to live and a minute ('all': by anything), with
 * what is left in seconds, rounded up. They count as recorded from now on. */
size_t lessor_take_unrecorded(struct lessor *lessor, bool all, size_t max, int64_t *ids, int64_t *renewals,
                              int64_t *remaining_sec);

/* All ids by due time, as etcd lists them, in the arena. */
enum status_code lessor_list(struct lessor *lessor, struct arena *arena, size_t *count, int64_t **ids);

size_t lessor_count(struct lessor *lessor);

#endif
