/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database built anew from the rows of the tables and their marker.
 *
 *     restore_begin ─ restore_row* ─ restore_finish
 *
 * It is made in a file of its own and takes the store's place, by one rename,
 * only when it is complete: a crash before leaves what was there. Rows come in
 * any number of times and in the order in which they were written, the newest
 * of a key counts. Chains of versions (state/chain.h) are made anew: they are
 * each database's own.
 */
#ifndef KETA_RESTORE_H
#define KETA_RESTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "rows.pb-c.h"

struct restore;

/* Begins a new file in the directory, in place of one that was not finished. 'vfs' may be NULL. */
enum status_code restore_begin(const char *dir, const char *vfs, struct restore **out);

/* Takes one row of a table; value NULL removes it. STATUS_BAD_RECORD for one
 * that cannot be read, an I/O error, STATUS_DISK_FULL. */
enum status_code restore_row(struct restore *restore, bool is_lease, const uint8_t *key, size_t key_len,
                             const uint8_t *value, size_t value_len);

/* Builds the rest and puts the file in the place of the store's, which must not
 * be open. STATUS_BUSY when the rows are not those that the marker tells of: they
 * were read while they changed; begin again. Frees 'restore' in any case. */
enum status_code restore_finish(struct restore *restore, const Pb__Marker *marker, const char *kafka_id);

/* Removes the database, which must not be open: the next one begins from nothing. */
enum status_code restore_nothing(const char *dir);

/* Gives up and removes the file. NULL is fine. */
void restore_abort(struct restore *restore);

#endif
