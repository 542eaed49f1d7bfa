/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LeaseKeepAlive. Renewals go through the log, all of a thread that arrive while
 * its records are on their way in the next one:
 *
 *   receive ─► waiting ─ record ─► apply ─► done ─ task of the shard ─► answer
 *              (the reader's thread)        (the applier's)  (the reader's)
 *
 * Everything but the list of finished records belongs to the reader's thread. A
 * stream answers in the order of its requests, whatever the order in which
 * their records come back. One that closes leaves its requests behind as
 * orphans, to be thrown away when they come back.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "engine/handlers.h"
#include "engine/internal.h"
#include "watch/shard.h"

enum {
	RECORD_IDS = 4096,
	RECORDS_ON_WAY = 2, /* of one reader: while one is applied, the next can be there */
	/* Requests of a stream that are not answered yet; more than a body has (BODY_MESSAGES_MAX). */
	STREAM_WAITING = 16384,
	SPARE_RENEWALS = 4096,
};

struct keep_alive;

struct renewal {
	struct renewal *next; /* of its stream; or a spare one */
	struct renewal *next_in_record;
	struct keep_alive *owner; /* NULL when the stream is closed */
	int64_t id;
	int64_t revision; /* when it arrived: what the lease saw since need not be so at a later one */
	int64_t ttl_sec;
	enum status_code code;
	bool answered;
};

/* A stream. */
struct keep_alive {
	struct stream *stream;
	struct renewer *renewer;
	struct renewal *head, **tail; /* its requests, the oldest first */
	size_t count;
	bool ending; /* the client sends no more */
};

/* What all streams of a reader share. It outlives the reader when records are
 * on their way then. */
struct renewer {
	struct shard_task task; /* first: it is found by it */
	struct engine *engine;
	struct shard *shard;
	struct renewal *waiting, **waiting_tail; /* for a record */
	size_t waiting_count;
	struct renewal *spare;
	size_t spare_count;

	pthread_mutex_t lock;   /* guards what follows */
	size_t on_way;          /* records proposed and not taken back */
	struct call_queue done; /* of these */
	bool posted;            /* the task is on its way */
	bool abandoned;         /* the reader is gone */
};

/* One record, in the arena of its call. */
struct record {
	struct call *call;
	struct renewer *renewer;
	Pb__LeaseRenew request;
	struct renewal *first, **last; /* in the order of the ids */
};

static void free_list(struct renewal *renewal)
{
	while (renewal != NULL) {
		struct renewal *next = renewal->next_in_record;

		free(renewal);
		renewal = next;
	}
}

/* With the renewals in it. */
static void free_record(struct record *record)
{
	free_list(record->first);
	call_free(record->call);
}

static void free_renewer(struct renewer *renewer)
{
	while (renewer->spare != NULL) {
		struct renewal *next = renewer->spare->next;

		free(renewer->spare);
		renewer->spare = next;
	}
	free_list(renewer->waiting);
	pthread_mutex_destroy(&renewer->lock);
	free(renewer);
}

static struct renewal *get_renewal(struct renewer *renewer)
{
	struct renewal *renewal = renewer->spare;

	if (renewal == NULL)
		return malloc(sizeof *renewal);
	renewer->spare = renewal->next;
	renewer->spare_count--;
	return renewal;
}

static void put_renewal(struct renewer *renewer, struct renewal *renewal)
{
	if (renewer->spare_count >= SPARE_RENEWALS) {
		free(renewal);
		return;
	}
	renewal->next = renewer->spare;
	renewer->spare = renewal;
	renewer->spare_count++;
}

static void send(struct keep_alive *alive, const struct renewal *renewal)
{
	struct stream *stream = alive->stream;
	Pb__LeaseKeepAliveResponse response;
	Pb__ResponseHeader header;

	pb__lease_keep_alive_response__init(&response);
	stream_fill_header(stream->engine, &header, renewal->revision);
	response.header = &header;
	response.id = renewal->id;
	response.ttl = renewal->ttl_sec;
	stream->ops->message(stream, &response.base);
}

/* Sends the answers that are there, as far as those before them are. */
static void answer(struct keep_alive *alive)
{
	struct stream *stream = alive->stream;
	struct renewal *renewal;

	while (!stream->ended && (renewal = alive->head) != NULL && renewal->answered &&
	       stream->ops->has_room(stream)) {
		if (renewal->code != STATUS_OK) {
			stream_fail(stream, renewal->code, NULL);
			return;
		}
		alive->head = renewal->next;
		if (alive->head == NULL)
			alive->tail = &alive->head;
		alive->count--;
		send(alive, renewal);
		put_renewal(alive->renewer, renewal);
	}
	if (alive->ending && alive->head == NULL)
		stream_fail(stream, STATUS_OK, NULL);
}

static void settle(struct renewer *renewer, struct renewal *renewal, enum status_code code, int64_t ttl_sec)
{
	if (renewal->owner == NULL) {
		put_renewal(renewer, renewal);
		return;
	}
	renewal->code = code;
	renewal->ttl_sec = ttl_sec;
	renewal->answered = true;
	answer(renewal->owner);
}

/* A record came back, on the reader's thread. */
static void settle_record(struct record *record)
{
	const struct call *call = record->call;
	const Pb__LeaseRenewed *renewed = (const Pb__LeaseRenewed *)call->response;
	enum status_code code = call->status.code;
	struct renewal *renewal = record->first, *next;

	for (size_t i = 0; renewal != NULL; i++, renewal = next) {
		next = renewal->next_in_record;
		settle(record->renewer, renewal, code, code == STATUS_OK ? renewed->ttls[i] : 0);
	}
	call_free(record->call);
}

/* A record is applied, or will not be waited for: on whatever thread. Its
 * reader may be gone. */
static void on_finish(struct call *call, bool slow)
{
	struct record *record = call->edge;
	struct renewer *renewer = record->renewer;
	bool abandoned, last = false;

	(void)slow;
	metric_observe(METRIC_REQUEST_SECONDS, clock_us() - call->started_us);
	pthread_mutex_lock(&renewer->lock);
	abandoned = renewer->abandoned;
	if (abandoned) {
		last = --renewer->on_way == 0;
	} else {
		call_queue_push(&renewer->done, call);
		if (!renewer->posted)
			shard_post(renewer->shard, &renewer->task);
		renewer->posted = true;
	}
	pthread_mutex_unlock(&renewer->lock);
	if (abandoned)
		free_record(record);
	if (last)
		free_renewer(renewer);
}

static const struct call_ops RECORD_OPS = {.finish = on_finish};

/* A record that holds nothing yet; NULL without memory. */
static struct record *record_new(struct renewer *renewer, size_t count)
{
	struct call *call = call_new(&RECORD_OPS, NULL, ENGINE_RESPONSE_CAP_BYTES);
	struct record *record;

	if (call == NULL)
		return NULL;
	record = arena_calloc(&call->arena, 1, sizeof *record);
	if (record != NULL) {
		pb__lease_renew__init(&record->request);
		record->request.ids = arena_calloc(&call->arena, count, sizeof *record->request.ids);
	}
	if (record == NULL || record->request.ids == NULL) {
		call_free(call);
		return NULL;
	}
	record->call = call;
	record->renewer = renewer;
	record->last = &record->first;
	call->edge = record;
	call->request = &record->request.base;
	return record;
}

static struct renewal *take_waiting(struct renewer *renewer)
{
	struct renewal *renewal = renewer->waiting;

	renewer->waiting = renewal->next_in_record;
	if (renewer->waiting == NULL)
		renewer->waiting_tail = &renewer->waiting;
	renewer->waiting_count--;
	renewal->next_in_record = NULL;
	return renewal;
}

static void refuse_waiting(struct renewer *renewer, enum status_code code)
{
	while (renewer->waiting != NULL)
		settle(renewer, take_waiting(renewer), code, 0);
}

/* Proposes a record of what waits. */
static void start_record(struct renewer *renewer)
{
	size_t count = renewer->waiting_count < RECORD_IDS ? renewer->waiting_count : RECORD_IDS;
	struct record *record = record_new(renewer, count);

	if (record == NULL) {
		refuse_waiting(renewer, STATUS_NO_MEMORY);
		return;
	}
	while (record->request.n_ids < count) {
		struct renewal *renewal = take_waiting(renewer);

		record->request.ids[record->request.n_ids++] = renewal->id;
		*record->last = renewal;
		record->last = &renewal->next_in_record;
	}
	pthread_mutex_lock(&renewer->lock);
	renewer->on_way++;
	pthread_mutex_unlock(&renewer->lock);
	metric_observe(METRIC_RENEWAL_IDS, (int64_t)count);
	propose_own(renewer->engine, record->call);
}

static void flush(struct renewer *renewer)
{
	while (renewer->waiting != NULL) {
		size_t on_way;

		pthread_mutex_lock(&renewer->lock);
		on_way = renewer->on_way;
		pthread_mutex_unlock(&renewer->lock);
		if (on_way >= RECORDS_ON_WAY)
			return;
		start_record(renewer);
	}
}

/* On the reader's thread: records have come back. */
static void take_back(struct shard *shard, struct shard_task *task)
{
	struct renewer *renewer = (struct renewer *)task;
	struct call_queue done;
	struct call *call;

	(void)shard;
	pthread_mutex_lock(&renewer->lock);
	call_queue_move(&done, &renewer->done);
	for (call = done.head; call != NULL; call = call->next)
		renewer->on_way--;
	renewer->posted = false;
	pthread_mutex_unlock(&renewer->lock);
	flush(renewer); /* what waits need not wait for the answers to be written */
	while ((call = call_queue_pop(&done)) != NULL)
		settle_record(call->edge);
}

static struct renewer *renewer_of(struct reader *reader)
{
	struct renewer *renewer = reader->renewer;

	if (renewer != NULL)
		return renewer;
	renewer = calloc(1, sizeof *renewer);
	if (renewer == NULL)
		return NULL;
	renewer->task.run = take_back;
	renewer->engine = reader->engine;
	renewer->shard = reader->shard;
	renewer->waiting_tail = &renewer->waiting;
	pthread_mutex_init(&renewer->lock, NULL);
	call_queue_init(&renewer->done);
	reader->renewer = renewer;
	return renewer;
}

void keep_alive_leave(struct reader *reader)
{
	struct renewer *renewer = reader->renewer;
	struct call_queue done;
	struct call *call;
	bool last;

	if (renewer == NULL)
		return;
	reader->renewer = NULL;
	pthread_mutex_lock(&renewer->lock);
	call_queue_move(&done, &renewer->done);
	for (call = done.head; call != NULL; call = call->next)
		renewer->on_way--;
	renewer->abandoned = true;
	last = renewer->on_way == 0;
	pthread_mutex_unlock(&renewer->lock);
	while ((call = call_queue_pop(&done)) != NULL)
		free_record(call->edge);
	if (last)
		free_renewer(renewer);
}

static void receive(struct stream *stream, const ProtobufCMessage *request)
{
	struct keep_alive *alive = stream->state;
	struct renewer *renewer = alive->renewer;
	struct renewal *renewal;

	if (atomic_load_explicit(&stream->engine->draining, memory_order_relaxed)) {
		stream_fail(stream, STATUS_STOPPED, NULL);
		return;
	}
	if (alive->count >= STREAM_WAITING) {
		stream_fail(stream, STATUS_TOO_MANY_REQUESTS, NULL);
		return;
	}
	renewal = get_renewal(renewer);
	if (renewal == NULL) {
		stream_fail(stream, STATUS_NO_MEMORY, NULL);
		return;
	}
	*renewal = (struct renewal){
		.owner = alive,
		.id = ((const Pb__LeaseKeepAliveRequest *)request)->id,
		.revision = atomic_load(&stream->engine->revision),
	};
	*alive->tail = renewal;
	alive->tail = &renewal->next;
	alive->count++;
	*renewer->waiting_tail = renewal;
	renewer->waiting_tail = &renewal->next_in_record;
	renewer->waiting_count++;
	flush(renewer);
}

static void end_requests(struct stream *stream)
{
	struct keep_alive *alive = stream->state;

	alive->ending = true;
	answer(alive);
}

static void resume(struct stream *stream)
{
	answer(stream->state);
}

static void close_stream(struct stream *stream)
{
	struct keep_alive *alive = stream->state;
	struct renewal *renewal = alive->head;

	while (renewal != NULL) {
		struct renewal *next = renewal->next;

		if (renewal->answered)
			put_renewal(alive->renewer, renewal);
		else
			renewal->owner = NULL;
		renewal = next;
	}
	free(alive);
}

static const struct stream_handler HANDLER = {
	.receive = receive,
	.end_requests = end_requests,
	.resume = resume,
	.close = close_stream,
};

bool keep_alive_open(struct engine *engine, struct stream *stream)
{
	struct renewer *renewer = renewer_of(stream->reader);
	struct keep_alive *alive = renewer != NULL ? malloc(sizeof *alive) : NULL;

	(void)engine;
	if (alive == NULL)
		return stream_fail(stream, STATUS_NO_MEMORY, NULL);
	*alive = (struct keep_alive){.stream = stream, .renewer = renewer};
	alive->tail = &alive->head;
	stream->state = alive;
	stream->handler = &HANDLER;
	return true;
}
