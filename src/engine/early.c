/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers ahead of the commit. Under a shared log a write that is confirmed and
 * applied cannot be lost: what this node's database makes of it can be had from the
 * log again. So its client need not wait for the commit. But who has been answered
 * must find what he wrote, at this node and at once: what is read without a barrier
 * waits until the commit is over, on the thread that it came from, for it takes
 * as little as a read does. When the disk stalls nobody waits for longer than once:
 * what is read then may be old, as such reads may be.
 *
 *     applier      apply ── early_begin ── answers ── commit ── watchers told ── early_end
 *     event loop                             └ client ── read ── early_await ········ └ reads
 */
#include <errno.h>

#include "base/clock.h"
#include "engine/internal.h"

enum { WAIT_MS = 100 };

void early_begin(struct engine *engine)
{
	atomic_store(&engine->is_early, true);
}

void early_end(struct engine *engine)
{
	if (!atomic_load_explicit(&engine->is_early, memory_order_relaxed))
		return;
	pthread_mutex_lock(&engine->early_lock);
	atomic_store(&engine->is_early, false);
	engine->early_turn++;
	engine->early_stalls = false;
	pthread_cond_broadcast(&engine->early_over);
	pthread_mutex_unlock(&engine->early_lock);
}

/* Under the lock: whether that commit is still to come. */
static bool is_owed(const struct engine *engine, uint64_t turn)
{
	return atomic_load(&engine->is_early) && engine->early_turn == turn;
}

void early_await(struct engine *engine)
{
	struct timespec until;
	uint64_t turn;

	if (!atomic_load(&engine->is_early))
		return;
	until = clock_deadline(WAIT_MS);
	pthread_mutex_lock(&engine->early_lock);
	/* The next batch is no concern of one who was answered in this. */
	turn = engine->early_turn;
	while (is_owed(engine, turn) && !engine->early_stalls)
		if (pthread_cond_timedwait(&engine->early_over, &engine->early_lock, &until) == ETIMEDOUT)
			engine->early_stalls |= is_owed(engine, turn);
	pthread_mutex_unlock(&engine->early_lock);
}
