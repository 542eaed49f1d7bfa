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

struct config;
struct engine;
struct log;
struct reader;
struct store;

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
	const char *fault;    /* why nothing can be written now, a static text; NULL while well */
};

/* Starts the threads. 'log' and 'store' are borrowed and outlive the engine;
 * config too. On a fresh store the genesis record is proposed and applied
 * before this returns. */
enum status_code engine_start(const struct config *config, struct log *log, struct store *store,
                              struct engine **out);

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
