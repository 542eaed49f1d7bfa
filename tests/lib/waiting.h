/* SPDX-License-Identifier: Apache-2.0 */
/* A call to a real engine, and somebody who waits for it to be over. */
#ifndef KETA_WAITING_H
#define KETA_WAITING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/call.h"
#include "engine/engine.h"

struct waiting {
	struct call *call; /* to be freed once it is over */
	int64_t started_ms;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool over;
};

/* Starts a call of a method. The request is borrowed until it is over. */
void waiting_start(struct waiting *waiting, struct engine *engine, struct reader *reader, const char *service,
                   const char *name, const ProtobufCMessage *request, int64_t deadline_ms);

/* Waits until the call is over; the call. */
struct call *waiting_await(struct waiting *waiting);

bool waiting_is_over(struct waiting *waiting);

#endif
