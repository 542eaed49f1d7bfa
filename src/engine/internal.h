/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's inside: what its files share and no edge sees.
 *
 *   call.c         the life of a call
 *   dispatch.c     starting and ending one
 *   kv.c, admin.c  a handler per RPC
 *   validate.c     refusals that need no state
 *   propose.c      a write becomes a record; the table of those that wait
 *   early.c        answers ahead of the commit
 *   read.c         barriers, and the threads for long reads
 *   watermark.c    the other kind of barrier
 *   own_record.c   records of the engine's own that it waits for
 *   entry.c        how a node begins to take part in a shared log
 *   leader.c       what only one node does, in its term
 *   checkpoint.c   what the leader writes to the tables
 *   votes.c        whether all nodes have the same state
 *   guard.c        whether the log is still the one that was applied
 *   places.c       what the log and the state were at recent offsets
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
#include "watch/shard.h"

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
	struct reader_timer *next, *prev, **list;                /* list is NULL: it is not set */
	int64_t due_ms;                                          /* on clock_ms's scale */
	void (*run)(struct reader_timer *timer, int64_t now_ms); /* it is cleared before */
};

/* A first-in first-out list of calls. */
struct call_queue {
	struct call *head;
	struct call **tail;
};

/* Reads of a reader that have passed their barrier and go on on its thread. */
struct homecoming {
	struct shard_task task;
	struct reader *reader;
	pthread_mutex_t lock; /* guards what follows */
	struct call_queue calls;
	bool posted;
};

struct reader {
	struct engine *engine;
	struct view view;
	struct shard *shard;     /* NULL unless it listens */
	struct renewer *renewer; /* see engine/keep_alive.c; NULL until there is a stream of that kind */
	struct reader_timer *timers, *due; /* those that are being run */
	int64_t next_due_ms;               /* no timer is due before */
	struct waiter *waiters; /* calls that wait for a lock or an office; see engine/waiter.h */
	struct homecoming homecoming;
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

/* The calls whose records are on their way, by sequence number: a ring, since
 * records come back in the order in which they were numbered. */
struct pending_slot {
	struct call *call; /* NULL: nobody waits, or the applier has it */
	uint8_t flags;     /* see engine/propose.c */
};
struct pending {
	struct pending_slot *slots; /* a power of two of them */
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
	_Atomic bool alarm_proposed;       /* NOSPACE was proposed and is not in force yet */
	_Atomic(const char *) fault;       /* why the applier cannot commit, or NULL */
	_Atomic int64_t applying_since_ms; /* the batch under way, on clock_ms's scale; 0: none is */

	/* Under a shared log. */
	bool shared;
	struct engine_cluster cluster;
	_Atomic bool joined;          /* this incarnation's records count */
	_Atomic bool leading;         /* it is the leader, and has taken office in full */
	_Atomic bool position_wanted; /* in the database, with the next commit: see engine/leader.c */
	_Atomic bool checkpoint_requested, check_requested; /* the latter of the guard */
	_Atomic uint64_t owner, owner_member;               /* of the term */
	_Atomic uint64_t state_hash;
	_Atomic int64_t covered_offset; /* of the newest checkpoint that the log tells of */
	_Atomic uint32_t level;         /* the format of records in force */
	_Atomic int64_t applied_ms;     /* when a record was applied last, on clock_ms's scale */
	_Atomic int64_t confirmed_ms;   /* when the log confirmed one of this node's last */
	_Atomic int64_t log_bytes;      /* of the records applied since the start */
	_Atomic enum status_code verdict;
	_Atomic(const char *) log_fault; /* why the log must not be written, or NULL */
	pthread_mutex_t place_lock;      /* guards the position below, which is that of the last batch */
	int64_t place_offset;
	uint64_t place_record, place_chain;
	struct applier *applying; /* the applier's */
	struct entry *entry;
	struct leader *leader;
	struct guard *guard;
	struct votes *votes;
	struct watermark *watermark; /* NULL unless reads wait that way */
	int64_t poison_offset;       /* of a record that crashes the server, or 0 */
	struct housekeeping *housekeeping;

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
	struct call_queue reads;  /* ready for a reader thread */
	size_t read_count;        /* of these */
	struct call_queue barred; /* until their barrier is applied */
	uint64_t barred_newest;   /* the highest number that one of these waits for */
	size_t barred_count;
	size_t read_crowd;         /* that shared a barrier lately */
	bool barrier_on_way;       /* a record that they wait for is, or soon will be */
	int64_t barrier_due_us;    /* the next one waits until then for more to share it; 0: it does not */
	uint64_t barrier_sequence; /* of the last one */
	int64_t barrier_asked_ms;
	pthread_t readers[ENGINE_READER_THREADS];
	size_t reader_count;

	_Atomic bool is_early; /* answers have gone out whose batch is not committed: see engine/early.c */
	pthread_mutex_t early_lock;
	pthread_cond_t early_over;
	uint64_t early_turn; /* counts the ends */
	bool early_stalls;   /* somebody has waited in vain */

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

void propose_init(struct engine *engine);

/* Appends a request of the engine's own, for which nobody waits. *sequence,
 * unless NULL, is its record's number. */
enum status_code propose_internal(struct engine *engine, const ProtobufCMessage *request,
                                  uint64_t *sequence);

/* The number that the next record will have. */
uint64_t propose_next(struct engine *engine);

/* Appends the request of a call of the engine's own, which has no method and is
 * neither counted nor given a header. Its arena may grow as that of any other
 * call. Its finish follows in any case, possibly before this returns. */
void propose_own(struct engine *engine, struct call *call);

/* The waiting call of a record of this incarnation, taken out of the table;
 * NULL when it timed out or never was. */
struct call *propose_take(struct engine *engine, uint64_t sequence);

/* A call that was taken has its outcome, in its status or, if OK, its response.
 * True when it may be finished; false when the log's confirmation will. */
bool propose_settle(struct engine *engine, struct call *call);

/* Ends the waiting writes whose deadline has passed. */
void propose_expire(struct engine *engine, int64_t now_ms);

/* Whether a put of this cost still fits the quota. */
bool propose_has_space(const struct engine *engine, int64_t cost);

/* Refuses the call for lack of space, after the alarm that says so is in force:
 * true when it is over, false when it waits for that. */
bool propose_no_space(struct engine *engine, struct call *call);

/* The applier answers the writes of a batch before it commits it; that is over, or has failed. */
void early_begin(struct engine *engine);
void early_end(struct engine *engine);

/* To be called before the newest state is read without a barrier: returns when what was answered
 * until now can be read, or the disk stalls. Any thread but the applier's. */
void early_await(struct engine *engine);

/* Waits until the newest state may be read. True when it may at once; false when
 * the call went to wait, and call->resume will be run on a reader thread. */
bool read_barrier(struct engine *engine, struct call *call);

/* Runs call->resume on a reader thread. True when too many wait already and the
 * call is over; false when it is pending. */
bool read_later(struct engine *engine, struct call *call);

/* The applier tells how far it is: the newest number of this node's records that
 * is applied. Lets barred reads go. */
void read_applied(struct engine *engine, uint64_t sequence);

/* Runs a reader's reads that have passed their barrier; see struct homecoming. */
void read_come_home(struct shard *shard, struct shard_task *task);

/* Asks for the barrier that waited for more to share it, when it is due. Returns how
 * long the applier may wait for the next record, timeout_ms at most. */
int read_tick(struct engine *engine, int timeout_ms);

/* A record of this number, or a barrier (0), did not get into the log. */
void read_append_failed(struct engine *engine, uint64_t sequence);

/* As read_barrier, by asking the log where it ends. 'now_ms' of watermark_applied:
 * 0, or who waits too long ends. */
enum status_code watermark_start(struct engine *engine);
void watermark_stop(struct engine *engine);
bool watermark_barrier(struct engine *engine, struct call *call);
void watermark_applied(struct engine *engine, int64_t now_ms);

/* Asks again where a barrier got lost; to be called often. */
void read_retry_barrier(struct engine *engine);

/* Runs the reads that are ready, on the caller's thread: for an engine without threads. */
void read_run_ready(struct engine *engine, struct reader *reader);

/* Ends the waiting reads whose deadline has passed. */
void read_expire(struct engine *engine, int64_t now_ms);

enum status_code read_start_threads(struct engine *engine);
void read_stop_threads(struct engine *engine);

enum status_code applier_start(struct engine *engine);
void applier_stop(struct engine *engine);

/* One turn of the applier's: takes what the log has, waiting at most so long for
 * it. False when the log cannot be followed any more. For an engine without threads. */
bool applier_turn(struct engine *engine, int timeout_ms);

/* Something of the engine's own that waits for its record: see engine/own_record.c. */
struct own_record {
	_Atomic bool waiting;
	enum status_code status; /* once it does not wait any more: what apply said of it */
};

/* Proposes the request; 'own' must live until it waits no more, and must not wait yet. */
void own_record_start(struct engine *engine, struct own_record *own, const ProtobufCMessage *request);

/* Why nothing may be proposed, or NULL. */
const char *engine_log_fault(const struct engine *engine);

/* Gives up: see engine_verdict. The first reason counts. Any thread. */
void engine_give_up(struct engine *engine, enum status_code verdict);

/* Gives up because another node has joined under this one's name. Any thread. */
void engine_note_replaced(struct engine *engine);

/* How a node begins: founds the cluster if there is none, catches up, joins. To
 * be called often. The housekeeper's thread. */
enum status_code entry_new(struct engine *engine, struct entry **out);
void entry_free(struct entry *entry);
void entry_turn(struct entry *entry);

/* The leader's thread. */
enum status_code leader_start(struct engine *engine);
void leader_stop(struct engine *engine);

/* When none of its records is on its way any more. */
void leader_free(struct engine *engine);

/* One turn of the leader's work, which may block where the tables do. Returns
 * whether there is more to do at once. For an engine without threads. */
bool leader_turn(struct leader *leader, int64_t now_ms);

/* Hands the office over before a clean stop. */
void leader_resign(struct leader *leader);

/* What is known of checkpoints: the newest marker's offset, 0 for none, and its age. */
void leader_checkpoint_info(const struct leader *leader, int64_t *offset, int64_t *age_ms);

/* The guard's thread: whether the log is still what it was when it was applied. */
enum status_code guard_start(struct engine *engine);
void guard_stop(struct engine *engine);
void guard_turn(struct guard *guard, int64_t now_ms);

/* The hash votes; see engine/votes.c. The applier tells of each record about them that counted. */
enum status_code votes_new(struct votes **out);
void votes_free(struct votes *votes);
struct vote {
	uint64_t member_id;
	int64_t offset;
	uint64_t hash;
};
void votes_note(struct votes *votes, const struct vote *vote);

/* Begins to collect votes on the state at this offset, with the leader's own. */
void votes_begin(struct votes *votes, int64_t offset, uint64_t hash);

/* What they come to so far: of all who voted, how many have the leader's hash, and
 * the hash that most have with its count. */
struct tally {
	int64_t offset;
	size_t votes, agree;
	uint64_t hash; /* that more than half have, if 'decided' */
	bool decided;
};
void votes_tally(struct votes *votes, struct tally *tally);

/* One tick of the housekeeper's, for an engine without threads. */
void housekeeper_turn(struct engine *engine, int64_t now_ms);

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
