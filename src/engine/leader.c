/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only one node does: ending leases, automatic compaction, checkpoints,
 * cutting the log, asking for votes. Without a leader all of it waits, and
 * nothing else does: writes and reads need none.
 *
 *     IDLE ── election's hint ──► CLAIM ──► TAKE ──► CHECK ──► LEAD ◄──► CHECKPOINT
 *       ▲                           │         │        │        │           │
 *       └───────────────────────────┴─────────┴────────┴────────┴───────────┘
 *          not, or no longer, the owner of the term in force; an error of the tables
 *
 * The hint (log/election.h) may be wrong; the term decides, a record that counts
 * only if its number is a new one. To lead is to own the term in force. The order
 * of taking office matters: claim the term; take the tables, which shuts out
 * whoever wrote them before; then a barrier, so that this state holds all that
 * the last writer may have had; is it still the owner? Then the newest marker is
 * read. A leader that was paused and wakes up can neither commit to the tables
 * nor write a record that counts.
 *
 * A checkpoint is committed when another node has told that it has the same state
 * there; without an answer after a while, but not against one: a node whose state is
 * wrong must not give it to all that come after. The record at its position is read
 * again before, for the log may have lost it.
 *
 * After a checkpoint is committed a record says so: every node may drop from then
 * on what the tables do without, and not before, for each may be the next leader.
 * The log is cut below the last checkpoint but one, when another node has the same
 * state as this one had there.
 */
#include <stdlib.h>
#include <time.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/metrics.h"
#include "engine/checkpoint.h"
#include "engine/internal.h"
#include "engine/lessor.h"
#include "log/election.h"

enum {
	TURN_MS = 50,
	RETRY_MS = 1000,
	/* A record of the leader's own that is acknowledged within a second keeps lease time going. */
	HEARTBEAT_MS = 300,
	/* One who cannot do his duties for so long lets another have the office. */
	UNFIT_MS = 3000,
	/* Votes that have not come by then are of nodes that are away. */
	VOTES_MS = 3000,
	/* Others that have not answered for so long are taken to be gone: the log must not grow for ever.
	 */
	UNANSWERED_MS = 3600 * 1000,
};

enum stage { STAGE_IDLE, STAGE_CLAIM, STAGE_TAKE, STAGE_CHECK, STAGE_LEAD, STAGE_CHECKPOINT };

struct leader {
	struct engine *engine;
	struct reader *reader;
	enum stage stage;
	int64_t again_ms;       /* IDLE: not before then */
	int64_t unfit_since_ms; /* nothing can be written here, or should be; 0: it can */
	struct own_record claim, barrier, position, covered, heartbeat, ask, verdict, level;

	struct marker newest;
	bool newest_confirmed; /* another node had the same state there */
	_Atomic int64_t newest_offset, newest_wall_ms;
	int64_t previous_offset; /* of the marker before, if it was confirmed; 0: none was */
	bool covered_said;

	struct checkpoint checkpoint;
	int64_t checkpoint_ms;        /* when the last one began, or office was taken */
	int64_t checkpoint_log_bytes; /* engine->log_bytes then */
	bool is_prepared;             /* the barrier before a checkpoint is on its way, or back */
	int64_t answered_ms;          /* when another node has voted last, or office was taken */
	bool rows_written;            /* of the checkpoint under way: it only has to be committed */
	struct buf record;
	int64_t asked_ms; /* when the votes were asked for that are being counted; 0: none are */

	pthread_t thread;
	bool started;
};

static bool is_waiting(const struct own_record *own)
{
	return atomic_load_explicit(&own->waiting, memory_order_acquire);
}

static bool is_owner(const struct engine *engine)
{
	return atomic_load(&engine->owner) == engine->incarnation;
}

static void step_down(struct leader *leader, int64_t now_ms, const char *why)
{
	if (leader->stage == STAGE_CHECKPOINT) {
		checkpoint_release(&leader->checkpoint);
		tables_abort(leader->engine->cluster.tables);
	}
	if (atomic_exchange(&leader->engine->leading, false))
		logger_info("leader", "this node does not lead any more", LOG_STR("reason", why), LOG_END);
	leader->stage = STAGE_IDLE;
	leader->again_ms = now_ms + RETRY_MS;
	leader->asked_ms = 0;
}

/* ---- Taking office ---- */

static bool idle(struct leader *leader, int64_t now_ms)
{
	struct engine *engine = leader->engine;
	Pb__TakeOffice request = PB__TAKE_OFFICE__INIT;

	if (now_ms < leader->again_ms || !atomic_load(&engine->joined) ||
	    engine_log_fault(engine) != NULL || !election_holds(engine->cluster.election) ||
	    is_waiting(&leader->claim))
		return false;
	if (is_owner(engine)) {
		leader->stage = STAGE_TAKE;
		return true;
	}
	request.term = atomic_load(&engine->term) + 1;
	leader->stage = STAGE_CLAIM;
	own_record_start(engine, &leader->claim, &request.base);
	return false;
}

static bool claim(struct leader *leader, int64_t now_ms)
{
	if (is_waiting(&leader->claim))
		return false;
	if (leader->claim.status != STATUS_OK || !is_owner(leader->engine)) {
		step_down(leader, now_ms, "the term was claimed by another node, or not in time");
		return false;
	}
	leader->stage = STAGE_TAKE;
	return true;
}

static bool take(struct leader *leader, int64_t now_ms)
{
	struct engine *engine = leader->engine;
	Pb__Barrier barrier = PB__BARRIER__INIT;
	enum status_code status;

	if (is_waiting(&leader->barrier))
		return false;
	status = tables_take(engine->cluster.tables, atomic_load(&engine->cluster_id));
	if (status != STATUS_OK) {
		logger_warn("leader", "the tables cannot be written now; it is tried again",
		            LOG_STR("error", status_code_name(status)), LOG_END);
		step_down(leader, now_ms, "the tables cannot be written");
		return false;
	}
	leader->stage = STAGE_CHECK;
	own_record_start(engine, &leader->barrier, &barrier.base);
	return false;
}

static void note_marker(struct leader *leader)
{
	atomic_store(&leader->newest_offset, leader->newest.pb != NULL ? leader->newest.pb->offset : 0);
	atomic_store(&leader->newest_wall_ms, leader->newest.pb != NULL ? leader->newest.pb->time_ms : 0);
}

static bool check(struct leader *leader, int64_t now_ms)
{
	struct engine *engine = leader->engine;
	enum status_code status;

	if (is_waiting(&leader->barrier))
		return false;
	if (leader->barrier.status != STATUS_OK || !is_owner(engine)) {
		step_down(leader, now_ms, "another node has taken office meanwhile");
		return false;
	}
	status = marker_read(&leader->newest, engine->cluster.tables);
	if (status == STATUS_BUSY)
		return false;
	if (status != STATUS_OK) {
		logger_warn("leader", "the newest marker cannot be read; it is tried again",
		            LOG_STR("error", status_code_name(status)), LOG_END);
		step_down(leader, now_ms, "the tables cannot be read");
		return false;
	}
	note_marker(leader);
	/* A broker that was just started may not know yet how far a table goes. */
	if (atomic_load(&leader->newest_offset) < atomic_load(&engine->covered_offset)) {
		step_down(leader, now_ms, "the tables do not show their newest checkpoint yet");
		return false;
	}
	leader->newest_confirmed = false;
	leader->previous_offset = 0;
	leader->covered_said = leader->newest.pb == NULL;
	leader->checkpoint_ms = leader->answered_ms = now_ms;
	leader->checkpoint_log_bytes = atomic_load(&engine->log_bytes);
	leader->stage = STAGE_LEAD;
	atomic_store(&engine->leading, true);
	logger_info("leader", "this node leads", LOG_I64("term", (int64_t)atomic_load(&engine->term)),
	            LOG_I64("checkpoint_offset", atomic_load(&leader->newest_offset)), LOG_END);
	return true;
}

/* ---- Duties ---- */

/* Lease time passes only while the log can be written, which has to be seen. */
static void keep_alive(struct leader *leader, int64_t now_ms)
{
	struct engine *engine = leader->engine;
	Pb__Barrier barrier = PB__BARRIER__INIT;

	if (lessor_count(engine->lessor) > 0 &&
	    now_ms >= atomic_load(&engine->confirmed_ms) + HEARTBEAT_MS && !is_waiting(&leader->heartbeat))
		own_record_start(engine, &leader->heartbeat, &barrier.base);
}

/* Says of the newest checkpoint that it is there, in case the leader before had no time to. */
static void say_covered(struct leader *leader)
{
	Pb__Covered covered = PB__COVERED__INIT;

	if (leader->covered_said || is_waiting(&leader->covered))
		return;
	covered.offset = leader->newest.pb->offset;
	covered.compact_revision = leader->newest.pb->compact_revision;
	leader->covered_said = true;
	own_record_start(leader->engine, &leader->covered, &covered.base);
}

static void raise_level(struct leader *leader)
{
	struct engine *engine = leader->engine;
	Pb__RaiseLevel request = PB__RAISE_LEVEL__INIT;

	/* Whether all members know it, apply finds out. It is asked for once per term and checkpoint. */
	if (atomic_load(&engine->level) >= engine->cluster.max_level || is_waiting(&leader->level))
		return;
	request.level = engine->cluster.max_level;
	own_record_start(engine, &leader->level, &request.base);
}

/* A single node has nobody to ask. */
static bool is_alone(struct leader *leader)
{
	struct view *view = &leader->reader->view;
	size_t members = 0;
	sqlite3_stmt *stmt = view->stmts[SQL_MEMBERS];
	int code;

	if (view_refresh(view) != STATUS_OK)
		return false;
	while ((code = sqlite3_step(stmt)) == SQLITE_ROW)
		members++;
	sqlite3_reset(stmt);
	view_rest(view);
	/* When they cannot all be read there may be more. */
	return code == SQLITE_DONE && members == 1;
}

/* Says what the votes came to, where they differ. */
static void give_verdict(struct leader *leader, const struct tally *tally)
{
	Pb__HashVerdict verdict = PB__HASH_VERDICT__INIT;

	if (tally->agree == tally->votes || is_waiting(&leader->verdict))
		return;
	logger_error("leader", "the nodes do not have the same state", LOG_I64("offset", tally->offset),
	             LOG_I64("votes", (int64_t)tally->votes), LOG_I64("as_here", (int64_t)tally->agree),
	             LOG_END);
	verdict.offset = tally->offset;
	verdict.hash = tally->hash;
	verdict.undecided = !tally->decided;
	own_record_start(leader->engine, &leader->verdict, &verdict.base);
}

/* A node may vote late, or otherwise than those that were enough for the checkpoint. */
static void count_votes(struct leader *leader, int64_t now_ms)
{
	struct tally tally;

	if (leader->asked_ms == 0 || leader->stage == STAGE_CHECKPOINT)
		return;
	votes_tally(leader->engine->votes, &tally);
	if (leader->newest.pb != NULL && tally.offset == leader->newest.pb->offset && tally.agree > 1)
		leader->newest_confirmed = true;
	if (now_ms < leader->asked_ms + VOTES_MS)
		return;
	leader->asked_ms = 0;
	give_verdict(leader, &tally);
}

static void ask_for_votes(struct leader *leader, int64_t now_ms)
{
	const Pb__Marker *marker = leader->checkpoint.snapshot.marker;
	Pb__HashAsk ask = PB__HASH_ASK__INIT;

	ask.offset = marker->offset;
	ask.hash = marker->hash;
	votes_begin(leader->engine->votes, ask.offset, ask.hash);
	leader->asked_ms = now_ms;
	own_record_start(leader->engine, &leader->ask, &ask.base);
}

/* ---- Checkpoints ---- */

static bool is_checkpoint_due(const struct leader *leader, int64_t now_ms)
{
	struct engine *engine = leader->engine;
	const struct config *config = engine->config;

	if (atomic_load(&engine->fault) != NULL || is_waiting(&leader->covered) || is_waiting(&leader->ask))
		return false;
	if (atomic_load(&engine->checkpoint_requested))
		return true;
	if (atomic_load(&engine->applied_offset) <= atomic_load(&leader->newest_offset))
		return false;
	return now_ms >= leader->checkpoint_ms + config->checkpoint_interval_ms ||
	       atomic_load(&engine->log_bytes) >=
	               leader->checkpoint_log_bytes + config->checkpoint_log_bytes;
}

/* What the database has is behind what was applied, by renewals and barriers, and not
 * by the same on every node: a marker must not be older than the one before. True
 * when the position is written. */
static bool prepare_checkpoint(struct leader *leader)
{
	Pb__Barrier barrier = PB__BARRIER__INIT;

	if (leader->is_prepared && !is_waiting(&leader->position)) {
		leader->is_prepared = false;
		return true;
	}
	if (!leader->is_prepared) {
		leader->is_prepared = true;
		atomic_store(&leader->engine->position_wanted, true);
		own_record_start(leader->engine, &leader->position, &barrier.base);
	}
	return false;
}

static void begin_checkpoint(struct leader *leader, int64_t now_ms)
{
	struct engine *engine = leader->engine;
	enum status_code status;

	atomic_store(&engine->checkpoint_requested, false);
	leader->checkpoint_ms = now_ms;
	leader->checkpoint_log_bytes = atomic_load(&engine->log_bytes);
	status = checkpoint_begin(&leader->checkpoint, engine->cluster.tables, &leader->reader->view,
	                          leader->newest.pb);
	if (status != STATUS_OK) {
		step_down(leader, now_ms, status_code_name(status));
		return;
	}
	leader->stage = STAGE_CHECKPOINT;
	leader->rows_written = false;
	if (leader->newest.pb != NULL &&
	    leader->checkpoint.snapshot.marker->offset < leader->newest.pb->offset) {
		step_down(leader, now_ms, "the database is behind the newest checkpoint");
		return;
	}
	ask_for_votes(leader, now_ms);
}

static void trim(struct leader *leader)
{
	if (leader->previous_offset > 0)
		log_trim(leader->engine->log, leader->previous_offset + 1);
}

enum decision { DECISION_WAIT, DECISION_COMMIT, DECISION_ABORT };

/* Whether the state that was written is that of the others. */
static enum decision decide(struct leader *leader, int64_t now_ms, bool *confirmed)
{
	struct tally tally;
	bool differs, is_mine;

	votes_tally(leader->engine->votes, &tally);
	differs = tally.agree != tally.votes;
	if (tally.votes > 1)
		leader->answered_ms = now_ms;
	*confirmed = tally.agree > 1 || is_alone(leader) || now_ms >= leader->answered_ms + UNANSWERED_MS;
	if (*confirmed && !differs)
		return DECISION_COMMIT;
	if (now_ms < leader->asked_ms + VOTES_MS)
		return DECISION_WAIT;
	leader->asked_ms = 0;
	is_mine = tally.decided && 2 * tally.agree > tally.votes;
	give_verdict(leader, &tally);
	return !differs || is_mine ? DECISION_COMMIT : DECISION_ABORT;
}

/* A log that has lost its end may have lost what this state was made of. */
static bool is_in_log(struct leader *leader)
{
	const Pb__Marker *marker = leader->checkpoint.snapshot.marker;

	return log_read_at(leader->engine->log, marker->offset, &leader->record) == STATUS_OK &&
	       XXH3_64bits(leader->record.data, leader->record.len) == marker->record_hash;
}

static void end_checkpoint(struct leader *leader, int64_t now_ms, bool confirmed)
{
	const Pb__Marker *marker = leader->checkpoint.snapshot.marker;
	enum status_code status;

	if (!is_in_log(leader)) {
		atomic_store(&leader->engine->check_requested, true);
		step_down(leader, now_ms, "the log does not have the record that the checkpoint ends with");
		return;
	}
	status = checkpoint_commit(&leader->checkpoint, clock_wall_ms());
	if (status == STATUS_OK) {
		leader->previous_offset = leader->newest_confirmed ? leader->newest.pb->offset : 0;
		leader->newest_confirmed = confirmed;
		status = marker_set(&leader->newest, marker);
	}
	if (status != STATUS_OK) {
		step_down(leader, now_ms, status_code_name(status));
		return;
	}
	logger_info("leader", "checkpoint written", LOG_I64("offset", marker->offset),
	            LOG_I64("rows", leader->checkpoint.rows),
	            LOG_I64("took_ms", clock_ms() - leader->checkpoint_ms),
	            LOG_STR("agreed",
	                    confirmed ? "yes" : "no answer of another node: the log is not cut below it"),
	            LOG_END);
	checkpoint_release(&leader->checkpoint);
	leader->stage = STAGE_LEAD;
	leader->covered_said = false;
	note_marker(leader);
	say_covered(leader);
	trim(leader);
}

static void abort_checkpoint(struct leader *leader)
{
	checkpoint_release(&leader->checkpoint);
	tables_abort(leader->engine->cluster.tables);
	leader->stage = STAGE_LEAD;
}

/* Returns whether there is more to do at once. */
static bool write_checkpoint(struct leader *leader, int64_t now_ms)
{
	enum status_code status = STATUS_OK;
	bool confirmed;

	if (!leader->rows_written) {
		status = checkpoint_step(&leader->checkpoint, &leader->rows_written);
		if (status != STATUS_OK)
			step_down(leader, now_ms, status_code_name(status));
		return true;
	}
	switch (decide(leader, now_ms, &confirmed)) {
	case DECISION_COMMIT:
		end_checkpoint(leader, now_ms, confirmed);
		return true;
	case DECISION_ABORT:
		abort_checkpoint(leader);
		return true;
	case DECISION_WAIT:
		break;
	}
	return false;
}

static bool lead(struct leader *leader, int64_t now_ms)
{
	struct engine *engine = leader->engine;

	if (!is_owner(engine)) {
		step_down(leader, now_ms, "another node has taken office");
		return false;
	}
	if (!election_holds(engine->cluster.election)) {
		step_down(leader, now_ms, "it is not chosen to lead now");
		return false;
	}
	keep_alive(leader, now_ms);
	count_votes(leader, now_ms);
	if (leader->stage == STAGE_CHECKPOINT)
		return write_checkpoint(leader, now_ms);
	say_covered(leader);
	if (is_checkpoint_due(leader, now_ms) && prepare_checkpoint(leader)) {
		raise_level(leader);
		begin_checkpoint(leader, now_ms);
		return true;
	}
	return false;
}

/* A node whose disk is full, say, can lead nobody: others may be well. */
static bool is_unfit(struct leader *leader, int64_t now_ms)
{
	struct engine *engine = leader->engine;

	if (engine_log_fault(engine) == NULL) {
		if (leader->unfit_since_ms != 0)
			election_stand(engine->cluster.election, true);
		leader->unfit_since_ms = 0;
		return false;
	}
	if (leader->unfit_since_ms == 0)
		leader->unfit_since_ms = now_ms;
	if (now_ms < leader->unfit_since_ms + UNFIT_MS)
		return false;
	election_stand(engine->cluster.election, false);
	if (leader->stage != STAGE_IDLE)
		step_down(leader, now_ms, "this node cannot write");
	return true;
}

bool leader_turn(struct leader *leader, int64_t now_ms)
{
	if (atomic_load(&leader->engine->verdict) != STATUS_OK || is_unfit(leader, now_ms))
		return false;
	switch (leader->stage) {
	case STAGE_IDLE:
		return idle(leader, now_ms);
	case STAGE_CLAIM:
		return claim(leader, now_ms);
	case STAGE_TAKE:
		return take(leader, now_ms);
	case STAGE_CHECK:
		return check(leader, now_ms);
	case STAGE_LEAD:
	case STAGE_CHECKPOINT:
		return lead(leader, now_ms);
	}
	return false;
}

void leader_checkpoint_info(const struct leader *leader, int64_t *offset, int64_t *age_ms)
{
	int64_t wall_ms = atomic_load(&leader->newest_wall_ms);

	*offset = atomic_load(&leader->newest_offset);
	*age_ms = wall_ms > 0 ? clock_wall_ms() - wall_ms : 0;
}

void leader_resign(struct leader *leader)
{
	election_resign(leader->engine->cluster.election);
}

static void *run(void *arg)
{
	struct leader *leader = arg;
	const struct timespec pause = {.tv_nsec = (long)TURN_MS * 1000000};

	while (!atomic_load(&leader->engine->draining))
		if (!leader_turn(leader, clock_ms()))
			nanosleep(&pause, NULL);
	return NULL;
}

enum status_code leader_start(struct engine *engine)
{
	struct leader *leader = calloc(1, sizeof *leader);
	enum status_code status;

	if (leader == NULL)
		return STATUS_NO_MEMORY;
	leader->engine = engine;
	marker_init(&leader->newest);
	buf_init(&leader->record);
	engine->leader = leader;
	status = reader_new(engine, VIEW_LONG_READ, &leader->reader);
	if (status != STATUS_OK || engine->cluster.manual)
		return status;
	if (pthread_create(&leader->thread, NULL, run, leader) != 0)
		return STATUS_NO_MEMORY;
	pthread_setname_np(leader->thread, "keta-leader");
	leader->started = true;
	return STATUS_OK;
}

void leader_stop(struct engine *engine)
{
	struct leader *leader = engine->leader;

	if (leader == NULL || !leader->started)
		return;
	tables_interrupt(engine->cluster.tables, true);
	pthread_join(leader->thread, NULL);
	if (leader->stage == STAGE_CHECKPOINT)
		abort_checkpoint(leader);
	tables_interrupt(engine->cluster.tables, false);
	leader->started = false;
}

void leader_free(struct engine *engine)
{
	struct leader *leader = engine->leader;

	if (leader == NULL)
		return;
	if (leader->stage == STAGE_CHECKPOINT)
		checkpoint_release(&leader->checkpoint);
	marker_release(&leader->newest);
	buf_release(&leader->record);
	engine_reader_free(leader->reader);
	free(leader);
	engine->leader = NULL;
}
