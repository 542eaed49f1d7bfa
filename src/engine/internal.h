/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's inside: what its files share and no edge sees.
 *
 *   call.c         the life of a call
 *   dispatch.c     starting and ending one
 *   kv.c, admin.c  a handler per RPC
 *   validate.c     refusals that need no state
 *   propose.c      a write becomes a record; the table of those that wait
 *   read.c         barriers, and the threads for long reads
 *   reader.c       what an edge's thread has of the engine: view, shard, timers
 *   stream.c       the life of a stream
 *   watch.c        the Watch service
 *   lease.c        the Lease service
 *   keep_alive.c   its keep-alives, in batches
 *   lessor.c       when leases are due
 *   agenda.c       things by time
 *   expiry.c       the records that this leads to
 *   claim.c        whose key it is when a client calls twice
 *   concurrency.c, election.c, observe.c
 *                  locks and elections, made of transactions and watches
 *   applier.c      the thread that applies records and wakes their calls
 *   housekeeper.c  the thread for what time brings: time-outs, checkpoints,
 *                  automatic compaction
 */
#ifndef KETA_ENGINE_INTERNAL_H
#define KETA_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "engine/call.h"
#include "engine/claim.h"
#include "engine/engine.h"
#include "engine/method.h"
#include "engine/stream.h"
#include "log/log.h"
#include "record.pb-c.h"
#include "state/store.h"

enum {
	/* etcd's request time-out: 5 s and twice its default election time-out. */
	ENGINE_TIMEOUT_MS = 7000,
	/* What a response may take; a range that needs more must be paged. */
	ENGINE_RESPONSE_CAP_BYTES = 1 << 30,
	ENGINE_READER_THREADS = 2,
	/* Long reads that may wait for a thread. */
	ENGINE_READS_MAX = 1000,
};

/* Something to be done at a time, on the reader's thread. */
struct reader_timer {
	struct reader_timer *next, *prev, **list; /* list is NULL: it is not set */
	int64_t due_ms; /* on clock_ms's scale */
	void (*run)(struct reader_timer *timer, int64_t now_ms); /* it is cleared before */
};

struct reader {
	struct engine *engine;
	struct view view;
	struct shard *shard; /* NULL unless it listens */
	struct renewer *renewer; /* see engine/keep_alive.c; NULL until there is a stream of that kind */
	struct reader_timer *timers, *due; /* those that are being run */
	int64_t next_due_ms; /* no timer is due before */
	struct waiter *waiters; /* calls that wait for a lock or an office; see engine/waiter.h */
	int64_t tasks; /* that other threads will post to the shard: it must not go before */
};

/* A reader with a view for this use; engine_reader_free frees it. */
enum status_code reader_new(struct engine *engine, enum view_use use, struct reader **out);

/* Sets a timer that is not set, or clears one; clearing again does no harm. */
void reader_set_timer(struct reader *reader, struct reader_timer *timer, int64_t due_ms);
void reader_clear_timer(struct reader_timer *timer);

/* What a stream's method does; set by its method_open_fn. */
struct stream_handler {
	void (*receive)(struct stream *stream, const ProtobufCMessage *request);
	void (*end_requests)(struct stream *stream);
	void (*resume)(struct stream *stream); /* the client keeps up again */
	void (*close)(struct stream *stream);  /* free the state */
};

/* Ends the engine's side of a stream, once. With a message of its own if not
 * NULL. Returns false, "refused", to end a method_open_fn with. */
bool stream_fail(struct stream *stream, enum status_code code, const char *message);

/* The response header of a message that a stream sends. */
void stream_fill_header(struct engine *engine, Pb__ResponseHeader *header, int64_t revision);

/* To be called before a reader's shard is freed: keep-alives of its streams that
 * are on their way find nobody. */
void keep_alive_leave(struct reader *reader);

/* A first-in first-out list of calls. */
struct call_queue {
	struct call *head;
	struct call **tail;
};

/* The calls whose records are on their way, by sequence number: a ring, since
 * records come back in the order in which they were numbered. */
struct pending {
	struct call **slots; /* a power of two of them; NULL where nobody waits */
	size_t size;
	uint64_t first; /* the oldest number that may be waiting */
	uint64_t next;  /* the next to be given */
};

struct engine {
	const struct config *config;
	struct log *log;
	struct store *store;
	struct hub *hub;
	struct lessor *lessor;
	struct claims claims;
	uint64_t incarnation;

	_Atomic uint64_t cluster_id, member_id, term;
	_Atomic int64_t revision, compact_revision, applied_offset, logical_bytes;
	_Atomic bool alarm_nospace, alarm_corrupt;
	_Atomic bool alarm_proposed; /* NOSPACE was proposed and is not in force yet */
	_Atomic(const char *) fault; /* why the applier cannot commit, or NULL */
	_Atomic int64_t applying_since_ms; /* the batch under way, on clock_ms's scale; 0: none is */

	_Atomic bool expiring; /* records that end leases are on their way, one after the other */
	int64_t expired;       /* by these; of whom 'expiring' is */

	_Atomic bool draining;
	_Atomic bool stopping;
	_Atomic int64_t in_flight;

	pthread_mutex_t propose_lock; /* guards record and pending; numbering and append are one step */
	struct buf record;
	struct pending pending;

	pthread_mutex_t read_lock; /* guards what follows, up to 'barred' */
	pthread_cond_t read_ready;
	struct call_queue reads;   /* ready for a reader thread */
	size_t read_count;         /* of these */
	struct call_queue barred;  /* until their barrier is applied */
	pthread_t readers[ENGINE_READER_THREADS];
	size_t reader_count;

	pthread_t applier;
	pthread_t housekeeper;
	bool applier_started, housekeeper_started;
	pthread_mutex_t tick_lock;
	pthread_cond_t tick; /* ends the housekeeper's pause */
};

void call_queue_init(struct call_queue *queue);
void call_queue_push(struct call_queue *queue, struct call *call);
struct call *call_queue_pop(struct call_queue *queue);
void call_queue_move(struct call_queue *to, struct call_queue *from);

/* Ends a pending call: fills the header, counts, logs a slow one, and tells the
 * edge. The call is the edge's from here on. */
void call_finish(struct call *call, bool slow);

/* Whether the client's deadline or the server's own limit has passed. */
bool call_is_expired(const struct call *call, int64_t now_ms);

/* Ends a pending call for that reason, or because it was canceled. */
void call_finish_expired(struct call *call, int64_t now_ms);

/* Appends the call's request to the log. True when it was refused and the call
 * is over; false when it is pending. */
bool propose(struct engine *engine, struct call *call);

/* Appends a request of the engine's own, for which nobody waits. */
enum status_code propose_internal(struct engine *engine, const ProtobufCMessage *request);

/* Appends the request of a call of the engine's own, which has no method and is
 * neither counted nor given a header. Its arena may grow as that of any other
 * call. Its finish follows in any case, possibly before this returns. */
void propose_own(struct engine *engine, struct call *call);

/* The waiting call of a record of this incarnation, taken out of the table;
 * NULL when it timed out or never was. */
struct call *propose_take(struct engine *engine, uint64_t sequence);

/* Ends the waiting writes whose deadline has passed. */
void propose_expire(struct engine *engine, int64_t now_ms);

/* Whether a put of this cost still fits the quota. */
bool propose_has_space(const struct engine *engine, int64_t cost);

/* Refuses the call for lack of space, after the alarm that says so is in force:
 * true when it is over, false when it waits for that. */
bool propose_no_space(struct engine *engine, struct call *call);

/* Waits until the newest state may be read. True when it may at once; false when
 * the call went to wait, and call->resume will be run on a reader thread. */
bool read_barrier(struct engine *engine, struct call *call);

/* Runs call->resume on a reader thread. True when too many wait already and the
 * call is over; false when it is pending. */
bool read_later(struct engine *engine, struct call *call);

/* The applier tells how far it is: lets barred reads go. */
void read_applied(struct engine *engine, int64_t offset);

/* Ends the waiting reads whose deadline has passed. */
void read_expire(struct engine *engine, int64_t now_ms);

enum status_code read_start_threads(struct engine *engine);
void read_stop_threads(struct engine *engine);

enum status_code applier_start(struct engine *engine);
void applier_stop(struct engine *engine);

/* Begins to end the leases that are due; to be called often. The housekeeper's thread. */
void expiry_run(struct engine *engine);

/* Proposes records of what is left of leases: of those where it is worth it, or,
 * before a stop, of all. Does not wait for them. */
void expiry_record(struct engine *engine, bool all);

/* A random id that is neither 0 nor negative: some clients read it as signed. */
enum status_code engine_draw_id(uint64_t *id);

enum status_code housekeeper_start(struct engine *engine);
void housekeeper_stop(struct engine *engine);

#endif
