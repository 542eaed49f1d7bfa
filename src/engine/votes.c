/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether all nodes have the same state: now and then the leader names an offset
 * and the hash that its state had there; each node answers with its own. The
 * votes are records, so every node reads the same ones; the leader counts them.
 */
#include <pthread.h>
#include <stdlib.h>

#include "engine/internal.h"

struct votes {
	pthread_mutex_t lock; /* guards all that follows */
	int64_t offset;       /* that is voted on; 0: none is */
	size_t count;
	struct vote votes[STORE_MEMBERS_MAX]; /* one of each member */
};

enum status_code votes_new(struct votes **out)
{
	struct votes *votes = calloc(1, sizeof *votes);

	if (votes == NULL)
		return STATUS_NO_MEMORY;
	pthread_mutex_init(&votes->lock, NULL);
	*out = votes;
	return STATUS_OK;
}

void votes_free(struct votes *votes)
{
	if (votes == NULL)
		return;
	pthread_mutex_destroy(&votes->lock);
	free(votes);
}

void votes_begin(struct votes *votes, int64_t offset, uint64_t hash)
{
	pthread_mutex_lock(&votes->lock);
	votes->offset = offset;
	votes->count = 1;
	votes->votes[0] = (struct vote){0, offset, hash};
	pthread_mutex_unlock(&votes->lock);
}

void votes_note(struct votes *votes, const struct vote *vote)
{
	bool is_new;

	pthread_mutex_lock(&votes->lock);
	is_new = vote->offset == votes->offset && votes->count < STORE_MEMBERS_MAX;
	for (size_t i = 0; i < votes->count; i++)
		is_new = is_new && votes->votes[i].member_id != vote->member_id;
	if (is_new)
		votes->votes[votes->count++] = *vote;
	pthread_mutex_unlock(&votes->lock);
}

static size_t count_hash(const struct votes *votes, uint64_t hash)
{
	size_t count = 0;

	for (size_t i = 0; i < votes->count; i++)
		count += votes->votes[i].hash == hash;
	return count;
}

void votes_tally(struct votes *votes, struct tally *tally)
{
	pthread_mutex_lock(&votes->lock);
	*tally = (struct tally){.offset = votes->offset, .votes = votes->count};
	if (votes->count > 0)
		tally->agree = count_hash(votes, votes->votes[0].hash);
	for (size_t i = 0; i < votes->count && !tally->decided; i++) {
		tally->hash = votes->votes[i].hash;
		tally->decided = 2 * count_hash(votes, tally->hash) > votes->count;
	}
	pthread_mutex_unlock(&votes->lock);
}
