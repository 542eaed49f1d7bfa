/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: takes typed calls, reads or proposes, and answers. It owns the
 * applier's thread, the reader threads and the housekeeper; it is given the
 * log and the store.
 *
 * Edges use engine/call.h and this header, nothing deeper.
 */
#ifndef KETA_ENGINE_H
#define KETA_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct buf;
struct config;
struct election;
struct engine;
struct log;
struct reader;
struct store;
struct tables;

/* What makes a node one of several. All but the log, which is given beside it,
 * are borrowed and outlive the engine. */
struct engine_cluster {
	struct tables *tables;
	struct election *election;
	const char *node_name; /* unique in the cluster */
	int64_t caught_up_at;  /* ready once this offset is applied */
	bool found;            /* log and tables are empty: a cluster may be founded */

	/* Asks, every few minutes, whether what holds the log is still set up as the
	 * guarantees need it; may block. Anything but OK says in 'why' what is wrong:
	 * until it is mended nothing is written and no linearizable read answered. NULL: no need to ask. */
	enum status_code (*check)(void *arg, struct buf *why);
	void *check_arg;

	/* The engine cannot go on, see engine_verdict. Any thread. */
	void (*give_up)(void *arg);
	void *give_up_arg;

	uint32_t max_level;    /* of records, that this node knows; 0: all that this binary does */
	bool manual;           /* no threads: applier_turn and its like do their work (tests) */
	int64_t poison_offset; /* of a record that is not to be applied, see engine/attempt.h; 0: none */
	uint64_t incarnation;  /* the process's own number; 0: drawn (tests give one) */
};

/* What an edge may show of the node, at one moment. */
struct engine_info {
	uint64_t cluster_id;
	uint64_t member_id;
	int64_t revision;
	int64_t compact_revision; /* -1 before the first compaction */
	int64_t applied_offset;
	uint64_t term;
	bool alarm_nospace;
	bool alarm_corrupt;
	const char *fault; /* why nothing can be written now, a static text; NULL while well */
	/* The rest is for nodes whose log is shared; all zero where it is not. */
	bool shared;
	bool ready;            /* it has caught up with the log and may answer */
	bool leads;            /* this node is the leader, with the term in force */
	bool has_leader;       /* some node is */
	const char *log_fault; /* why the log cannot be followed now, a static text; NULL while well */
	int64_t newest_offset; /* of the newest record known of; applied_offset when caught up */
	uint64_t state_hash;   /* over the state as of applied_offset */
};

/* Starts the threads. 'log' and 'store' are borrowed and outlive the engine;
 * config too. On a fresh store the genesis record is proposed and applied
 * before this returns. For a log that is not shared. */
enum status_code engine_start(const struct config *config, struct log *log, struct store *store,
                              struct engine **out);

/* The same for a node under a shared log, whose position in it engine/boot.h has
 * found to be sound. Returns at once; calls are refused with STATUS_NOT_READY
 * until the node has caught up and joined: see engine_info. */
enum status_code engine_join(const struct config *config, struct log *log, struct store *store,
                             const struct engine_cluster *cluster, struct engine **out);

/* Why the engine gave up; it answers nothing any more and is to be stopped.
 * STATUS_OK: it has not.
 * STATUS_NOT_READY: the log has to be looked at anew (engine/boot.h): the next record is gone.
 * STATUS_CORRUPT: this node's state differs from that of most; it is to be rebuilt.
 * STATUS_BAD_LOG, STATUS_REPLACED, STATUS_NEWER_RECORD: not to be mended by a restart. It was logged. */
enum status_code engine_verdict(const struct engine *engine);

/* Asks for a look at what holds the log, and for a checkpoint if this node leads,
 * soon. Any thread. */
void engine_request_checkpoint(struct engine *engine);

/* Refuses new calls, finishes all that were started, stops the threads and
 * frees the engine. No call_start may be under way or follow. */
void engine_stop(struct engine *engine);

/* From now on calls fail with STATUS_STOPPED; those under way are finished.
 * First step of a clean stop, before the edges close. */
void engine_drain(struct engine *engine);

/* Calls that were started and not yet finished. */
int64_t engine_pending(const struct engine *engine);

void engine_info(struct engine *engine, struct engine_info *out);

/* A read connection with its prepared statements, for one thread at a time. */
enum status_code engine_reader_new(struct engine *engine, struct reader **out);
void engine_reader_free(struct reader *reader);

/* Lets streams, and calls that wait long, live on the reader's thread: what
 * happens for them elsewhere is kept for engine_reader_run, and 'wake' asks,
 * from any thread, for that to be called soon. STATUS_NO_MEMORY. */
typedef void engine_wake_fn(void *arg);
enum status_code engine_reader_listen(struct reader *reader, engine_wake_fn *wake, void *arg);

/* Does what is due for the reader's streams and calls, about a millisecond of
 * it. Returns when to call it again at the latest, on clock_ms's scale: 0 for
 * at once, INT64_MAX for when it is woken. */
int64_t engine_reader_run(struct reader *reader, int64_t now_ms);

/* Whether nothing is on its way to the reader from other threads. A reader that
 * listens is freed only then; until then engine_reader_run is called. */
bool engine_reader_is_idle(const struct reader *reader);

/* To be called before the reader's thread waits for more work: gives back the
 * snapshot that reads of the last moments shared. */
void engine_reader_rest(struct reader *reader);

/* Sizes for status and metrics: of the file, of its used pages, of the
 * write-ahead log, and the logical bytes that the quota counts. 'reader' is the
 * calling thread's own. All 0 when they cannot be read. */
struct engine_sizes {
	int64_t file_bytes;
	int64_t used_bytes;
	int64_t wal_bytes;
	int64_t logical_bytes;
	int64_t keys;
};
void engine_sizes(struct engine *engine, struct reader *reader, struct engine_sizes *out);

#endif
