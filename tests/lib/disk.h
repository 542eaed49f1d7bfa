/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk holds when the power fails: of each file the bytes as of its last
 * sync, and of what was written since, any part. Kept beside the real files,
 * which stand for the system's page cache and have everything.
 *
 *     write, truncate ── pending ──sync──> durable
 *     create, delete  ── pending ──directory sync──> durable
 *
 * After a cut each pending write survives or not for each sector on its own, so
 * that writes are torn and reordered; each new file may be missing, each
 * deleted one may be back.
 */
#ifndef KETA_DISK_H
#define KETA_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/prng.h"

enum { DISK_SECTOR_BYTES = 512 };

struct disk_file;

/* The file of this path; a new one if 'created', else what lies there is taken
 * to be durable. Valid until the next disk_restore or disk_forget. */
struct disk_file *disk_open(const char *path, bool created);

void disk_write(struct disk_file *file, int64_t offset, const void *data, size_t len);
void disk_truncate(struct disk_file *file, int64_t size);
void disk_sync(struct disk_file *file);

/* A sync that failed: what was to be written is not, and no later sync will do
 * it, for the system takes those pages for clean. */
void disk_lose(struct disk_file *file);

void disk_delete(const char *path);

/* Makes all files made and deleted so far durable as such. */
void disk_sync_directory(void);

/* Replaces the real files by what the disk holds. They must be closed. */
void disk_restore(struct prng *prng);

/* Forgets all files. */
void disk_forget(void);

#endif
