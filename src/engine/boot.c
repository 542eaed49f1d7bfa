/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/boot.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/logger.h"
#include "base/progress.h"
#include "engine/checkpoint.h"
#include "state/restore.h"

enum {
	/* A broker that has just taken over may not know yet how far the log goes. */
	SHORT_LOG_MS = 30 * 1000,
	/* Removed rows may leave the tables unseen after twice that (delete.retention.ms). */
	REBUILD_MAX_MS = 30 * 60 * 1000,
	/* Rows that do not agree with their marker were read while they changed, or from a broker that did
	   not know of all of them yet; not for ever. */
	REBUILD_TRIES = 200,
};

#define KEEP_OR_DELETE                                                                                     \
	"find out what became of the topics; when what is there now is to be kept, delete this node's "    \
	"data "                                                                                            \
	"directory and start it again"

/* Where tables are there without their log, an empty directory would only be built from them again. */
#define RESTORE_OR_BEGIN_ANEW                                                                              \
	"restore the topics; or, to give up what is in them, delete all of them and the data directory "   \
	"of "                                                                                              \
	"every node, and start anew"

#define RESTORE "restore the topics, or start from a node that still has its data directory"

static enum status_code refuse(const char *found, int64_t position, int64_t first, int64_t end,
                               const char *advice)
{
	logger_error("boot", found, LOG_I64("position", position), LOG_I64("log_first", first),
	             LOG_I64("log_end", end), LOG_STR("advice", advice), LOG_END);
	return STATUS_BAD_LOG;
}

/* The log is shorter than it must be: a broker may not know better yet. */
static enum status_code wait_for_log(struct boot *boot, int64_t now_ms, const char *found, int64_t position,
                                     int64_t first, int64_t end, const char *advice)
{
	if (boot->short_since_ms == 0)
		boot->short_since_ms = now_ms;
	if (now_ms < boot->short_since_ms + SHORT_LOG_MS)
		return STATUS_BUSY;
	return refuse(found, position, first, end, advice);
}

/* Whether the record at the node's position is the one that it has applied. */
static enum status_code compare_record(const struct store_state *state, struct log *log, int64_t first,
                                       int64_t end)
{
	struct buf record;
	enum status_code status;
	uint64_t hash;

	buf_init(&record);
	status = log_read_at(log, state->applied_offset, &record);
	hash = status == STATUS_OK ? XXH3_64bits(record.data, record.len) : 0;
	buf_release(&record);
	if (status == STATUS_BAD_LOG)
		return STATUS_BUSY; /* it was cut off this moment */
	if (status == STATUS_OK && hash != state->record_hash)
		return refuse("the log is not the one that this node followed: another record stands at "
		              "its position",
		              state->applied_offset, first, end, KEEP_OR_DELETE);
	return status;
}

static enum status_code look_at_position(struct boot *boot, const struct store_state *state,
                                         struct log *log, int64_t first, int64_t end, int64_t now_ms)
{
	if (state->applied_offset >= end)
		return wait_for_log(boot, now_ms, "the log ends before what this node has applied",
		                    state->applied_offset, first, end, KEEP_OR_DELETE);
	return state->applied_offset >= first ? compare_record(state, log, first, end) : STATUS_OK;
}

static enum status_code plan_rebuild(struct boot *boot, const Pb__Marker *marker, int64_t position,
                                     int64_t first, int64_t end, int64_t now_ms)
{
	/* From nothing, where the log has everything. */
	if (marker == NULL && first == 1) {
		boot->rebuild = true;
		return STATUS_OK;
	}
	if (marker == NULL)
		return wait_for_log(
			boot, now_ms,
			"the log begins behind this node's position, and there is no checkpoint to go by",
			position, first, end, RESTORE);
	if (marker->offset + 1 < first)
		return wait_for_log(boot, now_ms, "the log begins behind the newest checkpoint",
		                    marker->offset, first, end, RESTORE);
	if (marker->offset >= end)
		return wait_for_log(boot, now_ms, "the log ends before the newest checkpoint",
		                    marker->offset, first, end, RESTORE_OR_BEGIN_ANEW);
	boot->rebuild = true;
	boot->marker_offset = marker->offset;
	return STATUS_OK;
}

static enum status_code look(struct boot *boot, const struct store_state *state, struct log *log,
                             const Pb__Marker *marker, bool discard, int64_t first, int64_t end,
                             int64_t now_ms)
{
	int64_t position = state->applied_offset;
	bool is_empty = position == 0;

	boot->caught_up_at = end - 1;
	if (marker != NULL && !is_empty && !discard && marker->cluster_id != state->cluster_id)
		return refuse("the tables belong to another cluster than this node's database", position,
		              first, end,
		              "check kafkacache.bootstrap.servers and topic.prefix, or give this node "
		              "another data "
		              "directory");
	if (discard || (is_empty && marker != NULL) || position + 1 < first)
		return plan_rebuild(boot, marker, position, first, end, now_ms);
	if (is_empty) {
		boot->found = first == 1 && end == 1;
		return STATUS_OK;
	}
	return look_at_position(boot, state, log, first, end, now_ms);
}

enum status_code boot_look(struct boot *boot, struct store *st, struct log *log, struct tables *tables,
                           bool discard, int64_t now_ms)
{
	struct marker marker;
	int64_t first, end;
	enum status_code status;

	boot->rebuild = boot->found = false;
	marker_init(&marker);
	/* The marker first: what is committed later cuts the log further only behind it. */
	status = marker_read(&marker, tables);
	if (status == STATUS_OK)
		status = log_bounds(log, &first, &end);
	if (status == STATUS_OK)
		status = look(boot, &st->saved, log, marker.pb, discard, first, end, now_ms);
	marker_release(&marker);
	return status;
}

/* ---- Building anew ---- */

enum rebuild_stage { REBUILD_BEGIN, REBUILD_KV, REBUILD_LEASES, REBUILD_END };

struct rebuild {
	const char *dir, *vfs, *kafka_id;
	struct log *log;
	struct tables *tables;
	enum rebuild_stage stage;
	struct marker marker, again;
	struct restore *restore;
	bool is_lease; /* of the rows that are being read */
	int64_t began_ms;
	int tries;
};

enum status_code rebuild_new(const char *dir, const char *vfs, const char *kafka_id, struct log *log,
                             struct tables *tables, struct rebuild **out)
{
	struct rebuild *rebuild = calloc(1, sizeof *rebuild);

	if (rebuild == NULL)
		return STATUS_NO_MEMORY;
	*rebuild = (struct rebuild){
		.dir = dir, .vfs = vfs, .kafka_id = kafka_id, .log = log, .tables = tables};
	marker_init(&rebuild->marker);
	marker_init(&rebuild->again);
	*out = rebuild;
	return STATUS_OK;
}

void rebuild_free(struct rebuild *rebuild)
{
	if (rebuild == NULL)
		return;
	restore_abort(rebuild->restore);
	marker_release(&rebuild->marker);
	marker_release(&rebuild->again);
	free(rebuild);
}

static enum status_code take_row(void *arg, const struct table_row *row)
{
	struct rebuild *rebuild = arg;

	progress_set(row->at, row->end);
	return restore_row(rebuild->restore, rebuild->is_lease, row->key, row->key_len, row->value,
	                   row->value_len);
}

static enum status_code begin_again(struct rebuild *rebuild)
{
	restore_abort(rebuild->restore);
	rebuild->restore = NULL;
	rebuild->stage = REBUILD_BEGIN;
	if (++rebuild->tries < REBUILD_TRIES)
		return STATUS_NO_KAFKA; /* after a moment */
	logger_error("boot", "the tables do not become what their newest marker says they are",
	             LOG_STR("advice", RESTORE), LOG_END);
	return STATUS_BAD_LOG;
}

static enum status_code begin(struct rebuild *rebuild, int64_t now_ms)
{
	enum status_code status = marker_read(&rebuild->marker, rebuild->tables);

	if (status == STATUS_OK && rebuild->marker.pb == NULL)
		return restore_nothing(rebuild->dir);
	if (status == STATUS_OK)
		status = restore_begin(rebuild->dir, rebuild->vfs, &rebuild->restore);
	if (status != STATUS_OK)
		return status;
	rebuild->began_ms = now_ms;
	rebuild->stage = REBUILD_KV;
	logger_info("boot", "the database is built anew from Kafka",
	            LOG_I64("checkpoint_offset", rebuild->marker.pb->offset),
	            LOG_I64("rows", rebuild->marker.pb->kv_rows), LOG_END);
	return STATUS_BUSY;
}

static enum status_code read_table(struct rebuild *rebuild, enum table table, enum rebuild_stage next)
{
	enum status_code status;

	rebuild->is_lease = table == TABLE_LEASES;
	progress_begin(rebuild->is_lease ? "reading leases from Kafka" : "reading keys from Kafka", "rows");
	status = tables_read(rebuild->tables, table, take_row, rebuild);
	progress_end();
	if (status != STATUS_OK)
		return status;
	rebuild->stage = next;
	return STATUS_BUSY;
}

/* The rows may be those of a newer marker in part: a commit gets to each table in
 * its own time. Then there is that marker by now. */
static enum status_code end(struct rebuild *rebuild, int64_t now_ms)
{
	int64_t first, log_end;
	enum status_code status = marker_read(&rebuild->again, rebuild->tables);

	if (status == STATUS_OK)
		status = log_bounds(rebuild->log, &first, &log_end);
	if (status != STATUS_OK)
		return status;
	if (rebuild->again.pb == NULL || rebuild->again.pb->offset != rebuild->marker.pb->offset ||
	    rebuild->again.pb->time_ms != rebuild->marker.pb->time_ms ||
	    rebuild->marker.pb->offset + 1 < first || now_ms > rebuild->began_ms + REBUILD_MAX_MS)
		return begin_again(rebuild);
	progress_begin("building the database", "steps");
	status = restore_finish(rebuild->restore, rebuild->marker.pb, rebuild->kafka_id);
	progress_end();
	rebuild->restore = NULL;
	return status == STATUS_BUSY ? begin_again(rebuild) : status;
}

enum status_code rebuild_turn(struct rebuild *rebuild, int64_t now_ms)
{
	switch (rebuild->stage) {
	case REBUILD_BEGIN:
		return begin(rebuild, now_ms);
	case REBUILD_KV:
		return read_table(rebuild, TABLE_KV, REBUILD_LEASES);
	case REBUILD_LEASES:
		return read_table(rebuild, TABLE_LEASES, REBUILD_END);
	case REBUILD_END:
		return end(rebuild, now_ms);
	}
	return STATUS_INTERNAL;
}
