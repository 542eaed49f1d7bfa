/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases by id in a hash table, and on two agendas: when they are due, and when
 * what is left of them has to be recorded. Noting a renewal moves an entry on
 * both and allocates nothing; nothing here walks over all leases but the list
 * of them, and the last record at a stop.
 *
 * Times are on the lessor's own clock, which each tick moves on. What happens
 * between two ticks is put on it by the time that has passed since the last
 * one, so that no lease is due early.
 */
#include "engine/lessor.h"

#include <pthread.h>
#include <stdlib.h>
#include <xxhash.h>

#include "base/metrics.h"
#include "base/seed.h"
#include "engine/agenda.h"
#include "state/lease.h"

enum {
	FIRST_SIZE = 64, /* a power of two: of the buckets, and room on the agendas for as many */
	MAX_STEP_MS = 1000,
	RETRY_MS = 2000, /* until a lease that was given and is still there is given again */
	/* A record saves less than it costs when it is about less than this and a tenth of the time to
	   live. */
	RECORD_SLACK_MS = 60 * 1000,
	MS_PER_SEC = 1000,
};

struct entry {
	struct entry *next; /* of the same bucket */
	int64_t id;
	int64_t ttl_sec;
	int64_t renewal;
	int64_t due_ms;
	int64_t recorded_sec;      /* what it would have after a crash */
	bool given;                /* as due, since its time began */
	struct agenda_item expiry; /* when to give it as due: at first then, later again */
	struct agenda_item record; /* when to record what is left; not on the agenda unless worth it */
};

struct lessor {
	pthread_mutex_t lock; /* guards all that follows */
	int64_t clock_ms;
	int64_t ticked_ms; /* the last tick, on the caller's clock */
	bool held;         /* as of the last tick */
	uint64_t seed;     /* of the hash of ids, which clients choose */
	struct entry **buckets;
	size_t bucket_count;
	size_t cursor; /* the bucket where a walk over all goes on */
	size_t count;
	struct agenda expiries; /* all are on it */
	struct agenda records;
};

static struct entry *of_expiry(struct agenda_item *item)
{
	return (struct entry *)((char *)item - offsetof(struct entry, expiry));
}

static struct entry *of_record(struct agenda_item *item)
{
	return (struct entry *)((char *)item - offsetof(struct entry, record));
}

static struct entry **bucket_of(const struct lessor *lessor, int64_t id)
{
	return &lessor->buckets[XXH3_64bits_withSeed(&id, sizeof id, lessor->seed) &
	                        (lessor->bucket_count - 1)];
}

static struct entry *find(const struct lessor *lessor, int64_t id)
{
	struct entry *entry = *bucket_of(lessor, id);

	while (entry != NULL && entry->id != id)
		entry = entry->next;
	return entry;
}

static enum status_code grow_buckets(struct lessor *lessor, size_t size)
{
	struct entry **old = lessor->buckets;
	size_t old_count = lessor->bucket_count;
	struct entry **buckets = calloc(size, sizeof(struct entry *));

	if (buckets == NULL)
		return STATUS_NO_MEMORY;
	lessor->buckets = buckets;
	lessor->bucket_count = size;
	lessor->cursor = 0;
	for (size_t i = 0; i < old_count; i++) {
		struct entry *entry = old[i];

		while (entry != NULL) {
			struct entry *next = entry->next;
			struct entry **bucket = bucket_of(lessor, entry->id);

			entry->next = *bucket;
			*bucket = entry;
			entry = next;
		}
	}
	free(old);
	return STATUS_OK;
}

/* Room for one more everywhere. */
static enum status_code reserve(struct lessor *lessor)
{
	size_t size = lessor->bucket_count == 0 ? FIRST_SIZE : lessor->bucket_count * 2;
	enum status_code status;

	if (lessor->count < lessor->bucket_count)
		return STATUS_OK;
	status = agenda_reserve(&lessor->expiries, size);
	if (status == STATUS_OK)
		status = agenda_reserve(&lessor->records, size);
	return status == STATUS_OK ? grow_buckets(lessor, size) : status;
}

static struct entry *add(struct lessor *lessor, int64_t id)
{
	struct entry *entry = NULL;
	struct entry **bucket;

	if (reserve(lessor) == STATUS_OK)
		entry = malloc(sizeof *entry);
	if (entry == NULL)
		return NULL;
	bucket = bucket_of(lessor, id);
	*entry = (struct entry){.next = *bucket, .id = id};
	*bucket = entry;
	lessor->count++;
	metric_add(METRIC_LEASES, 1);
	return entry;
}

static void drop(struct lessor *lessor, int64_t id)
{
	struct entry **link = bucket_of(lessor, id);
	struct entry *entry;

	while (*link != NULL && (*link)->id != id)
		link = &(*link)->next;
	entry = *link;
	if (entry == NULL)
		return;
	*link = entry->next;
	agenda_remove(&lessor->expiries, &entry->expiry);
	agenda_remove(&lessor->records, &entry->record);
	free(entry);
	lessor->count--;
	metric_add(METRIC_LEASES, -1);
}

/* When so little is left, against what was recorded, that it should be again.
 * A lease that is due before that never is. */
static void plan_record(struct lessor *lessor, struct entry *entry)
{
	int64_t slack_ms = entry->ttl_sec * MS_PER_SEC / 10 + RECORD_SLACK_MS;
	int64_t when_ms = entry->due_ms - entry->recorded_sec * MS_PER_SEC + slack_ms;

	if (when_ms < entry->due_ms)
		agenda_set(&lessor->records, &entry->record, when_ms);
	else
		agenda_remove(&lessor->records, &entry->record);
}

/* Gives a lease so much time from a moment on the lessor's clock. */
static void start_time(struct lessor *lessor, struct entry *entry, int64_t from_ms, int64_t remaining_sec)
{
	entry->due_ms = from_ms + remaining_sec * MS_PER_SEC;
	entry->recorded_sec = remaining_sec;
	entry->given = false;
	agenda_set(&lessor->expiries, &entry->expiry, entry->due_ms);
	plan_record(lessor, entry);
}

/* How far a step of the caller's clock moves the lessor's. */
static int64_t step(const struct lessor *lessor, int64_t now_ms)
{
	int64_t step_ms = now_ms - lessor->ticked_ms;

	if (step_ms < 0)
		return 0;
	return step_ms < MAX_STEP_MS ? step_ms : MAX_STEP_MS;
}

static enum status_code add_row(void *arg, const struct lease_row *row)
{
	struct lessor *lessor = arg;
	struct entry *entry = add(lessor, row->id);

	if (entry == NULL)
		return STATUS_NO_MEMORY;
	entry->ttl_sec = row->ttl_sec;
	entry->renewal = row->renewal;
	start_time(lessor, entry, lessor->clock_ms, row->remaining_sec);
	return STATUS_OK;
}

enum status_code lessor_new(struct view *view, int64_t now_ms, struct lessor **out)
{
	struct lessor *lessor = calloc(1, sizeof *lessor);
	enum status_code status;

	if (lessor == NULL)
		return STATUS_NO_MEMORY;
	pthread_mutex_init(&lessor->lock, NULL);
	lessor->ticked_ms = now_ms;
	lessor->seed = seed_draw();
	status = reserve(lessor);
	if (status == STATUS_OK)
		status = lease_read_all(view, add_row, lessor);
	if (status != STATUS_OK) {
		lessor_free(lessor);
		return status;
	}
	*out = lessor;
	return STATUS_OK;
}

void lessor_free(struct lessor *lessor)
{
	if (lessor == NULL)
		return;
	for (size_t i = 0; i < lessor->expiries.count; i++)
		free(of_expiry(lessor->expiries.items[i]));
	agenda_release(&lessor->expiries);
	agenda_release(&lessor->records);
	free(lessor->buckets);
	metric_add(METRIC_LEASES, -(int64_t)lessor->count);
	pthread_mutex_destroy(&lessor->lock);
	free(lessor);
}

static enum status_code note(struct lessor *lessor, const struct lease_note *note, int64_t from_ms)
{
	struct entry *entry = note->deed == LEASE_GONE ? NULL : find(lessor, note->id);

	switch (note->deed) {
	case LEASE_GONE:
		metric_add(METRIC_LEASES_REVOKED, 1);
		drop(lessor, note->id);
		return STATUS_OK;
	case LEASE_GRANTED:
		metric_add(METRIC_LEASES_GRANTED, 1);
		if (entry == NULL)
			entry = add(lessor, note->id);
		if (entry == NULL)
			return STATUS_NO_MEMORY;
		break;
	case LEASE_RENEWED:
		metric_add(METRIC_LEASES_RENEWED, 1);
		break;
	}
	if (entry == NULL)
		return STATUS_OK;
	entry->ttl_sec = note->ttl_sec;
	entry->renewal = note->renewal;
	start_time(lessor, entry, from_ms, note->ttl_sec);
	return STATUS_OK;
}

enum status_code lessor_note(struct lessor *lessor, const struct lease_note *notes, size_t count,
                             int64_t now_ms)
{
	enum status_code status = STATUS_OK;
	int64_t from_ms;

	pthread_mutex_lock(&lessor->lock);
	from_ms = lessor->clock_ms + step(lessor, now_ms);
	for (size_t i = 0; status == STATUS_OK && i < count; i++)
		status = note(lessor, &notes[i], from_ms);
	pthread_mutex_unlock(&lessor->lock);
	return status;
}

void lessor_tick(struct lessor *lessor, int64_t now_ms, bool held)
{
	pthread_mutex_lock(&lessor->lock);
	/* Of a step in which the hold began or ended it is not known how much could be used. */
	if (!held && !lessor->held)
		lessor->clock_ms += step(lessor, now_ms);
	lessor->held = held;
	lessor->ticked_ms = now_ms;
	pthread_mutex_unlock(&lessor->lock);
}

static int64_t left_ms(const struct lessor *lessor, const struct entry *entry)
{
	int64_t left = entry->due_ms - lessor->clock_ms;
	int64_t most = entry->ttl_sec * MS_PER_SEC;

	if (left < 0)
		return 0;
	return left < most ? left : most; /* one noted since the last tick has more, on this clock */
}

bool lessor_find(struct lessor *lessor, int64_t id, int64_t *ttl_sec, int64_t *remaining_ms)
{
	const struct entry *entry;

	pthread_mutex_lock(&lessor->lock);
	entry = find(lessor, id);
	if (entry != NULL) {
		*ttl_sec = entry->ttl_sec;
		*remaining_ms = left_ms(lessor, entry);
	}
	pthread_mutex_unlock(&lessor->lock);
	return entry != NULL;
}

/* The next to be given as due, NULL when there is none. */
static struct entry *next_due(const struct lessor *lessor)
{
	struct agenda_item *item = lessor->held ? NULL : agenda_due(&lessor->expiries, lessor->clock_ms);

	return item != NULL ? of_expiry(item) : NULL;
}

size_t lessor_take_due(struct lessor *lessor, size_t max, int64_t *ids, int64_t *renewals)
{
	struct entry *entry;
	size_t count = 0;
	bool alone = false;

	pthread_mutex_lock(&lessor->lock);
	while (!alone && count < max && (entry = next_due(lessor)) != NULL) {
		alone = entry->given;
		if (alone && count > 0)
			break;
		entry->given = true;
		ids[count] = entry->id;
		renewals[count++] = entry->renewal;
		agenda_set(&lessor->expiries, &entry->expiry, lessor->clock_ms + RETRY_MS);
	}
	pthread_mutex_unlock(&lessor->lock);
	return count;
}

struct remainder {
	size_t count, max;
	int64_t *ids, *renewals, *remaining_sec;
};

/* Takes a lease if something of it is to be recorded. */
static void take_remainder(struct lessor *lessor, struct entry *entry, struct remainder *out)
{
	int64_t left_sec = (left_ms(lessor, entry) + MS_PER_SEC - 1) / MS_PER_SEC;

	/* One that is due gets a second: to have none left is to be gone. */
	if (left_sec == 0)
		left_sec = 1;
	if (left_sec < entry->recorded_sec) {
		out->ids[out->count] = entry->id;
		out->renewals[out->count] = entry->renewal;
		out->remaining_sec[out->count++] = left_sec;
		entry->recorded_sec = left_sec;
	}
	plan_record(lessor, entry);
}

static void take_due_remainders(struct lessor *lessor, struct remainder *out)
{
	struct agenda_item *item;

	while (out->count < out->max && (item = agenda_due(&lessor->records, lessor->clock_ms)) != NULL)
		take_remainder(lessor, of_record(item), out);
}

/* Goes on where the last walk stopped: what was taken is not taken again. */
static void take_all_remainders(struct lessor *lessor, struct remainder *out)
{
	for (size_t visited = 0; visited <= lessor->bucket_count; visited++) {
		struct entry *entry = lessor->buckets[lessor->cursor];

		for (; entry != NULL; entry = entry->next) {
			if (out->count == out->max)
				return;
			take_remainder(lessor, entry, out);
		}
		lessor->cursor = (lessor->cursor + 1) & (lessor->bucket_count - 1);
	}
}

size_t lessor_take_unrecorded(struct lessor *lessor, bool all, size_t max, int64_t *ids, int64_t *renewals,
                              int64_t *remaining_sec)
{
	struct remainder out = {
		.max = max, .ids = ids, .renewals = renewals, .remaining_sec = remaining_sec};

	pthread_mutex_lock(&lessor->lock);
	if (all)
		take_all_remainders(lessor, &out);
	else
		take_due_remainders(lessor, &out);
	pthread_mutex_unlock(&lessor->lock);
	return out.count;
}

struct listed {
	int64_t due_ms, id;
};

static int compare_listed(const void *left, const void *right)
{
	const struct listed *a = left, *b = right;

	if (a->due_ms != b->due_ms)
		return a->due_ms < b->due_ms ? -1 : 1;
	return (a->id > b->id) - (a->id < b->id);
}

/* A copy of what is to be sorted, which is not done under the lock. */
static struct listed *copy_all(struct lessor *lessor, struct arena *arena, size_t *count)
{
	struct listed *all;

	pthread_mutex_lock(&lessor->lock);
	*count = lessor->expiries.count;
	all = arena_calloc(arena, *count, sizeof *all);
	for (size_t i = 0; all != NULL && i < *count; i++) {
		const struct entry *entry = of_expiry(lessor->expiries.items[i]);

		all[i] = (struct listed){entry->due_ms, entry->id};
	}
	pthread_mutex_unlock(&lessor->lock);
	return all;
}

enum status_code lessor_list(struct lessor *lessor, struct arena *arena, size_t *count, int64_t **ids)
{
	struct listed *all = copy_all(lessor, arena, count);

	if (all == NULL)
		return STATUS_NO_MEMORY;
	*ids = arena_calloc(arena, *count, sizeof **ids);
	if (*ids == NULL)
		return STATUS_NO_MEMORY;
	qsort(all, *count, sizeof *all, compare_listed);
	for (size_t i = 0; i < *count; i++)
		(*ids)[i] = all[i].id;
	return STATUS_OK;
}

size_t lessor_count(struct lessor *lessor)
{
	size_t count;

	pthread_mutex_lock(&lessor->lock);
	count = lessor->count;
	pthread_mutex_unlock(&lessor->lock);
	return count;
}
