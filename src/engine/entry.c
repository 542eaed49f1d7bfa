/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a node begins to take part in a shared log.
 *
 *     FOUND ──► FOLLOW ──► JOIN ──► JOINING ──► CHECK ──► DONE
 *                            ▲         │
 *                            └─────────┘ the number was taken, or the record got lost
 *
 * FOUND: where there is nothing yet, the node proposes to found the cluster; of
 * several that do, the one whose record comes first has. FOLLOW: until everything
 * is applied that was in the log when the node started. JOIN: the node announces
 * its incarnation, with the next number of its name; its records count from there
 * on, and no record of an older incarnation does. CHECK: whether another has
 * joined under its name since, which the applier only tells of one that has joined.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/version.h"
#include "engine/internal.h"
#include "state/schema.h"

enum stage { STAGE_FOUND, STAGE_FOLLOW, STAGE_JOIN, STAGE_JOINING, STAGE_CHECK, STAGE_DONE };

struct entry {
	struct engine *engine;
	enum stage stage;
	struct own_record own;
	int64_t again_ms; /* not before then */
	int64_t found_ms; /* when it was proposed to found a cluster */
};

enum { PAUSE_MS = 200, FOUND_AGAIN_MS = 10 * 1000 };

enum status_code entry_new(struct engine *engine, struct entry **out)
{
	struct entry *entry = calloc(1, sizeof *entry);

	if (entry == NULL)
		return STATUS_NO_MEMORY;
	entry->engine = engine;
	entry->stage = engine->cluster.found ? STAGE_FOUND : STAGE_FOLLOW;
	*out = entry;
	return STATUS_OK;
}

void entry_free(struct entry *entry)
{
	free(entry);
}

static void found(struct entry *entry)
{
	struct engine *engine = entry->engine;
	Pb__Genesis genesis;

	pb__genesis__init(&genesis);
	if (engine_draw_id(&genesis.cluster_id) != STATUS_OK)
		return;
	genesis.member_name = (char *)(uintptr_t)engine->cluster.node_name;
	if (propose_internal(engine, &genesis.base, NULL) == STATUS_OK)
		entry->stage = STAGE_FOLLOW;
	entry->found_ms = clock_ms();
}

static bool has_caught_up(const struct engine *engine)
{
	return atomic_load(&engine->cluster_id) != 0 &&
	       atomic_load(&engine->applied_offset) >= engine->cluster.caught_up_at;
}

/* The member of this node's name: the number of its newest incarnation, and that; both 0 when it is new.
 * The table is the applier's; a view of one's own tells what is committed. */
static enum status_code find_self(struct engine *engine, uint64_t *number, uint64_t *incarnation)
{
	struct reader *reader;
	enum status_code status = engine_reader_new(engine, &reader);
	sqlite3_stmt *stmt;
	int code = SQLITE_DONE;

	if (status != STATUS_OK)
		return status;
	status = view_refresh(&reader->view);
	stmt = reader->view.stmts[SQL_MEMBERS];
	*number = *incarnation = 0;
	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW)
		if ((uint64_t)sqlite3_column_int64(stmt, 0) == atomic_load(&engine->member_id)) {
			*number = (uint64_t)sqlite3_column_int64(stmt, 3);
			*incarnation = (uint64_t)sqlite3_column_int64(stmt, 4);
		}
	if (status == STATUS_OK)
		status = schema_translate(code);
	sqlite3_reset(stmt);
	engine_reader_free(reader);
	return status;
}

static void join(struct entry *entry)
{
	struct engine *engine = entry->engine;
	const char *advertised = engine->config->advertised_listeners;
	Pb__Join request;
	uint64_t number, incarnation;
	char *urls;

	pb__join__init(&request);
	if (advertised == NULL || advertised[0] == '\0')
		advertised = engine->config->listeners;
	urls = (char *)(uintptr_t)advertised;
	if (find_self(engine, &number, &incarnation) != STATUS_OK)
		return;
	request.number = number + 1;
	request.name = (char *)(uintptr_t)engine->cluster.node_name;
	request.client_urls = &urls;
	request.n_client_urls = 1;
	request.version = (char *)(uintptr_t)PACKAGE_VERSION;
	request.level = engine->cluster.max_level;
	entry->stage = STAGE_JOINING;
	own_record_start(engine, &entry->own, &request.base);
}

/* False when the database cannot be read now. */
static bool check_replaced(struct engine *engine)
{
	uint64_t number, incarnation;

	if (find_self(engine, &number, &incarnation) != STATUS_OK)
		return false;
	if (incarnation != engine->incarnation)
		engine_note_replaced(engine);
	return true;
}

static void note_joined(struct engine *engine)
{
	atomic_store(&engine->applied_ms, clock_ms());
	atomic_store(&engine->joined, true);
	logger_info("engine", "the node has caught up and joined the cluster",
	            LOG_STR("name", engine->cluster.node_name),
	            LOG_I64("offset", atomic_load(&engine->applied_offset)),
	            LOG_I64("revision", atomic_load(&engine->revision)), LOG_END);
}

void entry_turn(struct entry *entry)
{
	struct engine *engine = entry->engine;
	int64_t now_ms = clock_ms();

	if (now_ms < entry->again_ms)
		return;
	switch (entry->stage) {
	case STAGE_FOUND:
		found(entry);
		break;
	case STAGE_FOLLOW:
		if (has_caught_up(engine))
			entry->stage = STAGE_JOIN;
		else if (engine->cluster.found && atomic_load(&engine->cluster_id) == 0 &&
		         now_ms >= entry->found_ms + FOUND_AGAIN_MS)
			entry->stage = STAGE_FOUND; /* the record got lost; a second one does no harm */
		break;
	case STAGE_JOIN:
		join(entry);
		break;
	case STAGE_JOINING:
		if (atomic_load_explicit(&entry->own.waiting, memory_order_acquire))
			break;
		if (entry->own.status == STATUS_OK) {
			note_joined(engine);
			entry->stage = STAGE_CHECK;
			break;
		}
		logger_warn("engine", "joining the cluster did not succeed; it is tried again",
		            LOG_STR("error", status_code_name(entry->own.status)), LOG_END);
		entry->stage = STAGE_JOIN;
		entry->again_ms = now_ms + PAUSE_MS;
		break;
	case STAGE_CHECK:
		if (check_replaced(engine))
			entry->stage = STAGE_DONE;
		break;
	case STAGE_DONE:
		break;
	}
}
