/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers ahead of the commit. Under a shared log a write that is confirmed and
 * applied cannot be lost: what this node's database makes of it can be had from the
 * log again. So its client need not wait for the commit. But who has been answered
 * must find what he wrote, at this node and at once: what is read without a barrier
 * waits until the commit is over, as little as that takes, where it came from.
 *
 *     applier      apply ── early_begin ── answers ── commit ── watchers told ── early_end
 *     event loop                             └ client ── read ── early_await ········ └ reads
 */
#include "engine/internal.h"

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
	pthread_cond_broadcast(&engine->early_over);
	pthread_mutex_unlock(&engine->early_lock);
}

void early_await(struct engine *engine)
{
	uint64_t turn;

	if (!atomic_load(&engine->is_early))
		return;
	pthread_mutex_lock(&engine->early_lock);
	/* The next batch is no concern of one who was answered in this. */
	turn = engine->early_turn;
	while (atomic_load(&engine->is_early) && engine->early_turn == turn)
		pthread_cond_wait(&engine->early_over, &engine->early_lock);
	pthread_mutex_unlock(&engine->early_lock);
}
