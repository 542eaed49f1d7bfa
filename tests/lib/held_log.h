/* SPDX-License-Identifier: Apache-2.0 */
/* A log whose records can be kept from the applier for a while. */
#ifndef KETA_HELD_LOG_H
#define KETA_HELD_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "log/log.h"

/* A log that wraps the embedded one. While it is held, polls do not return and
 * barriers are not answered. */
struct held_log {
	struct log base;
	struct log *inner;
	_Atomic bool held;
	pthread_mutex_t lock; /* guards the one barrier kept back */
	log_done_fn *done;
	void *arg;
	int64_t offset; /* that the barrier is answered with */
};

/* A new one over an embedded log; the offset is that of the last record applied. */
struct held_log *held_log_open(int64_t applied);

/* Answers the barrier that was kept back, waiting for it to be asked. */
void held_log_answer_barrier(struct held_log *log);

#endif
