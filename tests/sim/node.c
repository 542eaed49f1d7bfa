/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/node.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static const char *const FILES[] = {"keta.db", "keta.db-wal"};

enum { FILE_COUNT = sizeof FILES / sizeof FILES[0] };

void node_init(struct node *node, struct model_kafka *kafka, const char *parent, const char *name)
{
	*node = (struct node){.kafka = kafka, .label = name, .max_level = 1};
	snprintf(node->name, sizeof node->name, "%s", name);
	snprintf(node->dir, sizeof node->dir, "%s/%s", parent, name);
	mkdir(node->dir, 0700);
	node->config = (struct config){
		.name = node->name,
		.listeners = "http://127.0.0.1:2379",
		.leader_eligibility = true,
		.quota_backend_bytes = -1,
		.max_request_bytes = 1536 * 1024,
		.max_txn_ops = 128,
		.slow_request_ms = 3600000,
		.progress_notify_ms = 600000,
		.checkpoint_interval_ms = 8000,
		.checkpoint_log_bytes = 1 << 20,
		.log_skip_offset = -1,
	};
}

/* ---- Files ---- */

static void name_file(const struct node *node, int file, int copy, char out[300])
{
	if (copy < 0)
		snprintf(out, 300, "%s/%s", node->dir, FILES[file]);
	else
		snprintf(out, 300, "%s/copy%d-%s", node->dir, copy, FILES[file]);
}

static void copy_file(const char *from, const char *to)
{
	static char bytes[1 << 20];
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	ssize_t count;

	unlink(to);
	if (in < 0)
		return;
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert(out >= 0);
	while ((count = read(in, bytes, sizeof bytes)) > 0)
		if (write(out, bytes, (size_t)count) != count)
			abort();
	close(in);
	close(out);
}

static void copy_files(const struct node *node, int from, int to)
{
	for (int i = 0; i < FILE_COUNT; i++) {
		char source[300], target[300];

		name_file(node, i, from, source);
		name_file(node, i, to, target);
		copy_file(source, target);
	}
}

static void drop_files(const struct node *node, int copy)
{
	for (int i = 0; i < FILE_COUNT; i++) {
		char path[300];

		name_file(node, i, copy, path);
		unlink(path);
	}
}

void node_copy(struct node *node)
{
	if (node->store == NULL)
		return;
	if (node->copies == NODE_COPIES) {
		copy_files(node, 1, 0);
		node->copies--;
	}
	copy_files(node, -1, node->copies++);
}

/* A copy of what is on disk now, beside those for power cuts. */
enum { KILL_COPY = NODE_COPIES };

/* ---- The beginning ---- */

static void open_store(struct node *node)
{
	struct store_options options = {
		.dir = node->dir, .vfs = node->vfs, .log_kind = LOG_KAFKA, .kafka_id = "kafka"};

	if (store_open(&options, &node->store) != STATUS_OK) {
		node->store = NULL;
		node->phase = NODE_DOWN;
		return;
	}
	node->link = model_link_new(node->kafka, node->store->saved.applied_offset);
	node->boot = (struct boot){0};
	node->phase = NODE_LOOK;
	if (node->on_position != NULL)
		node->on_position(node->listener, node);
}

void node_start(struct node *node)
{
	assert(node->store == NULL && node->engine == NULL);
	node->paused = false;
	node->discard = false;
	open_store(node);
}

static void close_store(struct node *node)
{
	store_close(node->store);
	node->store = NULL;
	model_link_free(node->link);
	node->link = NULL;
}

static void refuse(struct node *node, enum status_code why)
{
	node_end(node, NODE_STOP);
	node->phase = NODE_REFUSED;
	node->refused = why;
}

static void join(struct node *node)
{
	struct engine_cluster cluster = {
		.tables = model_link_tables(node->link),
		.election = model_link_election(node->link),
		.node_name = node->name,
		.caught_up_at = node->boot.caught_up_at,
		.found = node->boot.found,
		.max_level = node->max_level,
		.manual = true,
		.incarnation = node->incarnation,
	};

	if (engine_join(&node->config, model_link_log(node->link), node->store, &cluster, &node->engine) !=
	    STATUS_OK) {
		node->engine = NULL;
		node_end(node, NODE_STOP);
		return;
	}
	if (engine_reader_new(node->engine, &node->reader) != STATUS_OK) {
		node->reader = NULL;
		node_end(node, NODE_STOP);
		return;
	}
	node->phase = NODE_RUN;
}

static void begin_rebuild(struct node *node)
{
	node->gaps += !node->discard && node->store->saved.applied_offset > 0;
	store_close(node->store);
	node->store = NULL;
	if (rebuild_new(node->dir, node->vfs, "kafka", model_link_log(node->link),
	                model_link_tables(node->link), &node->rebuild) != STATUS_OK)
		abort();
	model_link_freeze(node->link);
	node->phase = NODE_REBUILD;
}

static void look(struct node *node)
{
	enum status_code status = boot_look(&node->boot, node->store, model_link_log(node->link),
	                                    model_link_tables(node->link), node->discard, clock_ms());

	if (status == STATUS_BUSY || status == STATUS_NO_KAFKA)
		return;
	if (status != STATUS_OK)
		refuse(node, status);
	else if (node->boot.rebuild)
		begin_rebuild(node);
	else
		join(node);
}

static void end_rebuild(struct node *node)
{
	rebuild_free(node->rebuild);
	node->rebuild = NULL;
	model_link_free(node->link);
	node->link = NULL;
}

static void go_on_rebuilding(struct node *node)
{
	enum status_code status = rebuild_turn(node->rebuild, clock_ms());

	if (status == STATUS_BUSY || status == STATUS_NO_KAFKA)
		return;
	end_rebuild(node);
	if (status == STATUS_BAD_LOG) {
		refuse(node, status);
		return;
	}
	node->phase = NODE_DOWN;
	if (status != STATUS_OK)
		return; /* the process ends, and is started again */
	node->copies = 0;
	node->discard = false;
	node->rebuilds++;
	open_store(node);
}

void node_boot_turn(struct node *node)
{
	if (node->phase == NODE_LOOK)
		look(node);
	else if (node->phase == NODE_REBUILD)
		go_on_rebuilding(node);
}

/* ---- The end ---- */

/* Everything that waits is told, as a clean stop does, or as clients find out that a process is gone. */
static void end_calls(struct node *node)
{
	node->dying = true;
	model_link_on_switch(node->link, NULL, NULL);
	propose_expire(node->engine, INT64_MAX);
	read_expire(node->engine, INT64_MAX);
	node->dying = false;
}

/* Everything but how far the state is goes back. */
static void move_position(const struct node *node, const struct store_state *state)
{
	char path[300], sql[300];
	sqlite3 *db = NULL;

	name_file(node, 0, -1, path);
	snprintf(sql, sizeof sql,
	         "UPDATE state SET applied_offset = %lld, record_hash = %lld, chain = %lld",
	         (long long)state->applied_offset, (long long)state->record_hash, (long long)state->chain);
	if (sqlite3_open(path, &db) == SQLITE_OK)
		sqlite3_exec(db, sql, NULL, NULL, NULL);
	sqlite3_close(db);
}

static void put_files_back(struct node *node, enum node_end how, const struct store_state *state)
{
	if (how == NODE_KILL) {
		copy_files(node, KILL_COPY, -1);
	} else if (how == NODE_POWER_CUT) {
		int copy = node->copies > 0 ? (int)prng_below(node->kafka->prng, (unsigned)node->copies)
		                            : KILL_COPY;

		copy_files(node, copy, -1);
		if (copy != KILL_COPY && node->keeps_position)
			move_position(node, state);
	} else if (how == NODE_WIPE) {
		drop_files(node, -1);
	}
	if (how != NODE_STOP)
		node->copies = 0;
}

void node_end(struct node *node, enum node_end how)
{
	struct store_state state = {0};

	copy_files(node, -1, KILL_COPY);
	if (node->rebuild != NULL)
		end_rebuild(node);
	if (node->store != NULL)
		state = node->store->saved;
	if (node->engine != NULL) {
		end_calls(node);
		engine_reader_free(node->reader);
		engine_stop(node->engine);
		node->reader = NULL;
		node->engine = NULL;
	}
	if (node->store != NULL)
		close_store(node);
	put_files_back(node, how, &state);
	node->phase = NODE_DOWN;
	node->discard = false;
}

static void heed_verdict(struct node *node)
{
	enum status_code verdict = engine_verdict(node->engine);

	if (verdict == STATUS_OK)
		return;
	if (verdict != STATUS_NOT_READY && verdict != STATUS_CORRUPT) {
		refuse(node, verdict);
		return;
	}
	node_end(node, NODE_STOP);
	node->discard = verdict == STATUS_CORRUPT;
	node->phase = NODE_LOOK; /* it goes on in the same process */
	open_store(node);
}

/* ---- While it runs ---- */

int64_t node_position(const struct node *node)
{
	return node->store != NULL ? node->store->saved.applied_offset : -1;
}

bool node_is_ready(const struct node *node)
{
	struct engine_info info;

	if (node->phase != NODE_RUN)
		return false;
	engine_info(node->engine, &info);
	return info.ready;
}

static void apply_some(struct node *node, size_t batch)
{
	int64_t before = node_position(node);

	model_link_set_batch(node->link, batch);
	applier_turn(node->engine, 0);
	model_link_note_applied(node->link, node_position(node));
	if (node->on_position != NULL && node_position(node) != before)
		node->on_position(node->listener, node);
}

void node_apply(struct node *node, size_t batch)
{
	apply_some(node, batch);
	read_run_ready(node->engine, node->reader);
	heed_verdict(node);
}

void node_keep_house(struct node *node)
{
	housekeeper_turn(node->engine, clock_ms());
	heed_verdict(node);
}

/* The applier's thread runs beside the leader's. */
static void switch_to_applier(void *arg)
{
	struct node *node = arg;

	if (engine_verdict(node->engine) == STATUS_OK && prng_chance(node->kafka->prng, 20))
		apply_some(node, 1 + prng_below(node->kafka->prng, 4));
}

void node_lead(struct node *node)
{
	model_link_on_switch(node->link, switch_to_applier, node);
	leader_turn(node->engine->leader, clock_ms());
	model_link_on_switch(node->link, NULL, NULL);
	heed_verdict(node);
}

void node_guard(struct node *node)
{
	guard_turn(node->engine->guard, clock_ms());
	heed_verdict(node);
}
