/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says about this process: for metrics, and for limits that
 * must fit the machine. */
#ifndef KETA_PROCESS_H
#define KETA_PROCESS_H

#include <stdint.h>

/* Fields that the kernel does not tell are 0. */
struct process_info {
	int64_t cpu_us; /* user and system time */
	int64_t resident_bytes;
	int64_t virtual_bytes;
	int64_t open_fds;
	int64_t max_fds;
	int64_t start_us; /* since 1970 */
};

void process_read(struct process_info *out);

/* Raises the soft limit of open descriptors to the hard one and returns it. */
int64_t process_raise_fd_limit(void);

#endif
