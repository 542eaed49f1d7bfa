/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine that knows nothing, so that an edge can be tested alone. It links
 * in the place of the real one and answers as the request's key says:
 *
 *   "slow..."    from another thread, soon, as a thread for long work does
 *   "later..."   from another thread, soon
 *   "never..."   not before fake_engine_release or the end
 *   "error..."   at once, with the status set by fake_engine_fail_with
 *   other keys   at once
 *
 * A Range answers with the key itself as key and value, a Put with the header
 * alone. Requests without a key (other methods) are answered at once. Its
 * readers and its streams are in lib/fake_streams.h.
 */
#ifndef KETA_FAKE_ENGINE_H
#define KETA_FAKE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/engine.h"

struct engine *fake_engine_new(void);

/* Finishes what is held, joins the thread, and frees. */
void fake_engine_free(struct engine *engine);

/* Finishes all calls that are held back. */
void fake_engine_release(struct engine *engine);

/* Finishes the one that has been held back for the shortest time. */
void fake_engine_release_newest(struct engine *engine);

/* The calls held back now. */
int fake_engine_held(struct engine *engine);

/* Waits until that many calls are held. */
void fake_engine_wait_held(struct engine *engine, int count);

/* Calls started so far. */
int64_t fake_engine_started(struct engine *engine);

void fake_engine_fail_with(struct engine *engine, enum status_code code);
enum status_code fake_engine_failure(struct engine *engine);
void fake_engine_raise(struct engine *engine, bool nospace, bool corrupt);

/* Says that nothing can be written, and why; NULL: all is well again. */
void fake_engine_break(struct engine *engine, const char *fault);

/* From now on its log is one that nodes share, which this node has caught up with or not;
 * 'fault' as engine_info's log_fault. */
void fake_engine_share(struct engine *engine, bool ready, const char *fault);

/* The token and the time left of the call started last; "" for no token, 0 for
 * no deadline. */
const char *fake_engine_last_token(struct engine *engine);
int64_t fake_engine_last_timeout_ms(struct engine *engine);

#endif
