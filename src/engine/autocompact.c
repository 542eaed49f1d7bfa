/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/autocompact.h"

enum {
	HOUR_MS = 3600 * 1000,
	REVISION_INTERVAL_MS = 5 * 60 * 1000,
	SAMPLES_PER_PERIOD = 10,
	/* Samples must reach back a whole period: a period of many hours has coarser ones. */
	SAMPLES_KEPT = AUTOCOMPACT_SAMPLES / 2,
};

static int64_t min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void add_sample(struct autocompact *plan, int64_t now_ms, int64_t revision)
{
	uint64_t at = plan->end++ % AUTOCOMPACT_SAMPLES;

	plan->samples[at].at_ms = now_ms;
	plan->samples[at].revision = revision;
	if (plan->end - plan->first > AUTOCOMPACT_SAMPLES)
		plan->first = plan->end - AUTOCOMPACT_SAMPLES;
}

void autocompact_init(struct autocompact *plan, enum config_compaction mode, int64_t retention, int64_t now_ms,
                      int64_t revision)
{
	*plan = (struct autocompact){.mode = retention > 0 ? mode : COMPACTION_OFF, .retention = retention};
	if (plan->mode == COMPACTION_PERIODIC) {
		plan->interval_ms = min(retention, HOUR_MS);
		plan->sample_ms = max(max(plan->interval_ms / SAMPLES_PER_PERIOD, retention / SAMPLES_KEPT), 1);
		plan->next_ms = now_ms + retention;
		plan->next_sample_ms = now_ms + plan->sample_ms;
		add_sample(plan, now_ms, revision);
	} else {
		plan->interval_ms = REVISION_INTERVAL_MS;
		plan->next_ms = now_ms + plan->interval_ms;
	}
}

/* What was the newest revision a retention period ago; older samples go. */
static int64_t find_retained(struct autocompact *plan, int64_t now_ms)
{
	int64_t revision = 0;

	while (plan->first < plan->end &&
	       plan->samples[plan->first % AUTOCOMPACT_SAMPLES].at_ms <= now_ms - plan->retention)
		revision = plan->samples[plan->first++ % AUTOCOMPACT_SAMPLES].revision;
	return revision;
}

int64_t autocompact_tick(struct autocompact *plan, int64_t now_ms, int64_t revision)
{
	int64_t target;

	if (plan->mode == COMPACTION_OFF)
		return 0;
	if (plan->mode == COMPACTION_PERIODIC && now_ms >= plan->next_sample_ms) {
		add_sample(plan, now_ms, revision);
		plan->next_sample_ms = now_ms + plan->sample_ms;
	}
	if (now_ms < plan->next_ms)
		return 0;
	target = plan->mode == COMPACTION_PERIODIC ? find_retained(plan, now_ms) : revision - plan->retention;
	if (target <= plan->compacted || target <= 0) {
		/* Nothing was written back then. What was written since comes due with the next sample. */
		plan->next_ms = plan->mode == COMPACTION_PERIODIC ? plan->next_sample_ms
		                                                  : now_ms + plan->interval_ms;
		return 0;
	}
	plan->next_ms = now_ms + plan->interval_ms;
	plan->compacted = target;
	return target;
}
