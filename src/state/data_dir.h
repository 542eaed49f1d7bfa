/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory that holds the database: made, locked and looked over before
 * SQLite opens a file in it, whose own messages would not say what is wrong.
 * What is refused was logged with its path.
 */
#ifndef KETA_DATA_DIR_H
#define KETA_DATA_DIR_H

#include <stdbool.h>

#include "base/status.h"

/* Makes the directory if it is not there (not its parents), and sees to it that
 * its entry outlives a power cut. STATUS_IO_ERROR, STATUS_DISK_FULL,
 * STATUS_NO_MEMORY. */
enum status_code data_dir_make(const char *dir);

/* Takes the directory for this process, until *lock_fd is closed. STATUS_BUSY
 * when another one has it; STATUS_IO_ERROR, STATUS_DISK_FULL. */
enum status_code data_dir_lock(const char *dir, int *lock_fd);

/* Whether the database is a file that can be read and written, or not there
 * yet. STATUS_IO_ERROR. */
enum status_code data_dir_check_file(const char *path);

/* A note that the database must not be used, which outlives the process: a node
 * whose state turned out to be wrong must not serve it after a crash. Writing it
 * again, or taking away one that is not there, does no harm. STATUS_IO_ERROR, logged. */
enum status_code data_dir_note_discard(const char *dir);
bool data_dir_is_discarded(const char *dir);
enum status_code data_dir_forget_discard(const char *dir);

#endif
