/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The versions of one key, newest to oldest, as a chain: each names the one it
 * superseded. A read at an old revision starts at the newest and walks back.
 *
 * So that a key with a million versions takes some dozens of steps and not a
 * million, the versions are numbered along the chain, and one whose number is
 * divisible by 16^n names besides, for each power up to that, the one before it
 * whose number is divisible by it: its skips.
 *
 *     number  1 .. 15  16  17 .. 31  32  33 ..
 *                      ◄──────────────┘ skip
 *
 * Who holds the newest version (table 'current', or 'tombstone' when it is a
 * deletion) holds its number and, for each power, the newest version whose
 * number it divides: the heads. A put therefore reads no older version. Both
 * lists are stored as blobs of little-endian 64-bit ids, the lowest power
 * first; most versions have no skips and most keys no heads.
 *
 * Compaction drops the oldest versions, whose names stay in the chain. A walk
 * never asks for one of them: it only goes where it may not stop, and what it
 * looks for is kept.
 */
#ifndef KETA_CHAIN_H
#define KETA_CHAIN_H

#include <stdint.h>

#include <sqlite3.h>

#include "base/status.h"

struct view;

enum {
	CHAIN_POWER_BITS = 4,
	CHAIN_POWERS_MAX = 15, /* 16^15 versions of one key are out of reach */
};

/* The newest end of a key's chain. All zero: the key has none. */
struct chain {
	int64_t id; /* of the newest version, or 0 */
	int64_t number;
	int64_t heads[CHAIN_POWERS_MAX];
	int powers; /* heads in use */
};

/* The ids of a list as they are stored. */
struct chain_blob {
	uint64_t ids[CHAIN_POWERS_MAX];
	int bytes;
};

/* Reads an end from columns of a row. */
void chain_read(struct chain *chain, sqlite3_stmt *stmt, int id_column, int number_column, int heads_column);

/* Adds a version at the end; *skips is what its row is to hold. */
void chain_add(struct chain *chain, int64_t id, struct chain_blob *skips);

/* What the holder of the end is to hold. */
void chain_heads(const struct chain *chain, struct chain_blob *heads);

/* The newest version whose id is not above last_id: 0 when there is none, or
 * when it is a deletion, which compaction may have dropped. The newest of all
 * must be above it. */
enum status_code chain_find(struct view *view, const struct chain *chain, int64_t last_id, int64_t *id);

#endif
