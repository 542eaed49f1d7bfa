/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SQLite's files with faults on demand: a layer over the VFS that the server
 * uses. Of the files below one directory it can
 *
 *   - let the N-th call of some kinds fail, once or from then on;
 *   - let writes and syncs take as long as the test likes;
 *   - cut the power at the N-th call that changes anything: every call fails
 *     from then on, and fault_vfs_power_on puts in the place of the files what a
 *     disk may hold after that (lib/disk.h).
 *
 * No file is really synced, which makes a test of hundreds of cuts a matter of
 * seconds; what a sync means is kept by the disk. Files are not mapped. Faults
 * may be planned while other threads use the files; a cut and its end, as the
 * start, are for one thread.
 */
#ifndef KETA_FAULT_VFS_H
#define KETA_FAULT_VFS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/prng.h"

#define FAULT_VFS "keta-fault"

enum fault_call {
	FAULT_OPEN = 1,
	FAULT_READ = 2, /* the size of a file too */
	FAULT_WRITE = 4,
	FAULT_TRUNCATE = 8,
	FAULT_SYNC = 16,
	FAULT_DELETE = 32,
};

struct fault {
	unsigned calls; /* the kinds that count, of enum fault_call */
	int64_t at;     /* the number of the one that fails, from 1; 0 for none */
	bool from_then_on;
	bool torn;  /* a write that fails has written half */
	bool loses; /* a sync that fails leaves nothing for the next one to write */
	int code;   /* SQLite's; 0 for the one that belongs to the kind */
};

/* Registers it; faults and cuts concern files below 'dir' only, an absolute
 * path. Forgets what was planned and counted. */
void fault_vfs_start(const char *dir);

/* Plans a fault; counting starts at 0. NULL plans none. */
void fault_vfs_plan(const struct fault *fault);

/* Whether the planned fault has happened. */
bool fault_vfs_happened(void);

/* Lets every call of these kinds, FAULT_WRITE or FAULT_SYNC, that begins wait until
 * that is taken back with 0; from any thread. */
void fault_vfs_stall(unsigned calls);

/* Cuts the power at the N-th write, truncation, sync or deletion from now. */
void fault_vfs_cut_at(int64_t call);

/* Cuts it now. */
void fault_vfs_cut(void);
bool fault_vfs_is_off(void);

/* The files are closed: puts the disk's in their place. */
void fault_vfs_power_on(struct prng *prng);

#endif
