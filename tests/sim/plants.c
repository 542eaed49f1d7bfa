/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/plants.h"

#include <assert.h>
#include <string.h>

#include "base/seed.h"
#include "engine/lessor.h"
#include "engine/places.h"
#include "state/cluster.h"
#include "state/compact.h"
#include "state/lease.h"
#include "state/renewals.h"
#include "state/restore.h"
#include "state/rows.h"

/* name, what is wrong */
#define PLANTS(X)                                                                                          \
	X(EARLY_BARRIER, "early-barrier")   /* a read rides on a record that was on its way before it */   \
	X(NO_FENCING, "no-fencing")         /* a writer of the tables that was replaced can commit */      \
	X(EARLY_DROP, "early-drop")         /* rows are dropped before the tables do without them */       \
	X(BLIND_EXPIRY, "blind-expiry")     /* a lease ends although it was renewed meanwhile */           \
	X(OFFSET_APART, "offset-apart")     /* the position is not a part of the transaction */            \
	X(HASTY_OFFICE, "hasty-office")     /* no barrier before the newest marker is read */              \
	X(TRUNCATE_AHEAD, "truncate-ahead") /* the log is cut below the leader's position */               \
	X(ONE_LOOK_BOOTSTRAP, "one-look-bootstrap") /* rows of two markers are taken for those of one */   \
	X(TRUST_THE_END, "trust-the-end")           /* a table is read before all commits show */          \
	X(HIGHEST_TERM, "highest-term")             /* the last to claim a term has it */                  \
	X(LOST_TAIL, "lost-tail")         /* nobody looks whether the log is still the one applied */      \
	X(OTHER_LOG, "other-log")         /* nor whose log it is */                                        \
	X(OUTAGE_EXPIRY, "outage-expiry") /* the time of leases passes while nothing can be written */     \
	X(REPEATED, "repeated")           /* a record that stands twice is applied twice */                \
	X(DEAD_INCARNATION, "dead-incarnation") /* records of a process that was replaced count */         \
	X(NOT_CONFIRMED, "not-confirmed")       /* a write is answered before the log confirms it */       \
	X(GONE_LEASES, "gone-leases")           /* leases that ended stay in the tables */                 \
	X(OBSOLETE_SUMS, "obsolete-sums")       /* rows that go stay in the marker's sums */               \
	X(EARLY_LEVEL, "early-level")           /* the level rises before all members know it */           \
	X(LONE_SKIP, "lone-skip")               /* one node alone passes over a record */                  \
	X(ANY_LEADER, "any-leader")             /* a leader's records count without its term */            \
	X(LOST_SEQUENCE, "lost-sequence") /* how far a member's records were applied is written late */

enum plant {
	PLANT_NONE,
#define X(name, text) PLANT_##name,
	PLANTS(X)
#undef X
		PLANT_COUNT
};

static const char *const NAMES[] = {
#define X(name, text) text,
	PLANTS(X)
#undef X
};

static enum plant planted;
static bool quiet;
static struct prng ids;

const char *plants_name(size_t number)
{
	return number + 1 < PLANT_COUNT ? NAMES[number] : NULL;
}

bool plants_choose(const char *name)
{
	planted = PLANT_NONE;
	for (int i = 1; name != NULL && i < PLANT_COUNT; i++)
		if (strcmp(NAMES[i - 1], name) == 0)
			planted = (enum plant)i;
	return name == NULL || planted != PLANT_NONE;
}

bool plants_are_quiet(void)
{
	return quiet;
}

void plants_be_quiet(bool is_quiet)
{
	quiet = is_quiet;
}

void plants_begin(struct model_kafka *kafka, struct node *nodes, int count)
{
	prng_init(&ids, prng_next(kafka->prng));
	kafka->fences_nobody = planted == PLANT_NO_FENCING;
	kafka->shows_early = planted == PLANT_TRUST_THE_END;
	kafka->keeps_gone_leases = planted == PLANT_GONE_LEASES;
	kafka->freezes_markers = planted == PLANT_ONE_LOOK_BOOTSTRAP;
	kafka->trims_ahead = planted == PLANT_TRUNCATE_AHEAD;
	kafka->trusts_log = planted == PLANT_LOST_TAIL || planted == PLANT_OTHER_LOG;
	for (int i = 0; i < count; i++)
		nodes[i].keeps_position = planted == PLANT_OFFSET_APART;
}

void plants_poison(struct node *node, int64_t offset)
{
	if (planted == PLANT_LONE_SKIP)
		node->config.log_skip_offset = offset;
}

/* ---- What is drawn by chance repeats with the seed ---- */

enum status_code __wrap_engine_draw_id(uint64_t *id);
uint64_t __wrap_seed_draw(void);

enum status_code __wrap_engine_draw_id(uint64_t *id)
{
	*id = (prng_next(&ids) >> 1) | 1;
	return STATUS_OK;
}

uint64_t __wrap_seed_draw(void)
{
	return 4711;
}

/* ---- Engine ---- */

uint64_t __real_propose_next(struct engine *engine);
uint64_t __wrap_propose_next(struct engine *engine);
bool __real_propose_settle(struct engine *engine, struct call *call);
bool __wrap_propose_settle(struct engine *engine, struct call *call);
void __real_own_record_start(struct engine *engine, struct own_record *own,
                             const ProtobufCMessage *request);
void __wrap_own_record_start(struct engine *engine, struct own_record *own,
                             const ProtobufCMessage *request);
void __real_guard_turn(struct guard *guard, int64_t now_ms);
void __wrap_guard_turn(struct guard *guard, int64_t now_ms);
const struct place *__real_places_find(const struct places *places, int64_t offset);
const struct place *__wrap_places_find(const struct places *places, int64_t offset);
void __real_lessor_tick(struct lessor *lessor, int64_t now_ms, bool held);
void __wrap_lessor_tick(struct lessor *lessor, int64_t now_ms, bool held);

uint64_t __wrap_propose_next(struct engine *engine)
{
	uint64_t next = __real_propose_next(engine);

	return next - (planted == PLANT_EARLY_BARRIER && next > 1);
}

bool __wrap_propose_settle(struct engine *engine, struct call *call)
{
	if (planted == PLANT_NOT_CONFIRMED)
		engine->log->done(engine->log->done_arg, call->sequence, STATUS_OK);
	return __real_propose_settle(engine, call);
}

void __wrap_own_record_start(struct engine *engine, struct own_record *own, const ProtobufCMessage *request)
{
	if (planted == PLANT_HASTY_OFFICE && request->descriptor == &pb__barrier__descriptor)
		own->status = STATUS_OK;
	else
		__real_own_record_start(engine, own, request);
}

void __wrap_guard_turn(struct guard *guard, int64_t now_ms)
{
	if (planted != PLANT_LOST_TAIL && planted != PLANT_OTHER_LOG)
		__real_guard_turn(guard, now_ms);
}

const struct place *__wrap_places_find(const struct places *places, int64_t offset)
{
	if (planted == PLANT_LOST_TAIL || planted == PLANT_OTHER_LOG)
		return NULL;
	return __real_places_find(places, offset);
}

void __wrap_lessor_tick(struct lessor *lessor, int64_t now_ms, bool held)
{
	__real_lessor_tick(lessor, now_ms, held && planted != PLANT_OUTAGE_EXPIRY);
}

/* ---- State ---- */

enum status_code __real_cluster_admit(struct store *st, const Pb__Record *rec, int64_t offset,
                                      bool *counts);
enum status_code __wrap_cluster_admit(struct store *st, const Pb__Record *rec, int64_t offset,
                                      bool *counts);
enum status_code __real_cluster_apply_join(struct store *st, const Pb__Record *rec);
enum status_code __wrap_cluster_apply_join(struct store *st, const Pb__Record *rec);
enum status_code __real_cluster_apply_take_office(struct store *st, const Pb__Record *rec);
enum status_code __wrap_cluster_apply_take_office(struct store *st, const Pb__Record *rec);
void __real_cluster_apply_raise_level(struct store *st, const Pb__RaiseLevel *request);
void __wrap_cluster_apply_raise_level(struct store *st, const Pb__RaiseLevel *request);
enum status_code __real_compact_apply(struct store *st, int64_t revision);
enum status_code __wrap_compact_apply(struct store *st, int64_t revision);
enum status_code __real_lease_apply_expire(struct store *st, const Pb__LeaseExpire *request,
                                           struct arena *arena);
enum status_code __wrap_lease_apply_expire(struct store *st, const Pb__LeaseExpire *request,
                                           struct arena *arena);

/* The one before the wrong one says no: what the planted bug lets through all the same. */
static bool is_let_through(struct store *st, const Pb__Record *rec, uint64_t sequence)
{
	const struct store_member *member = store_find_member(st, rec->member_id);
	bool is_registered = member != NULL && member->incarnation == rec->incarnation;

	switch (planted) {
	case PLANT_REPEATED:
		return is_registered && rec->sequence <= sequence && !cluster_is_for_leaders(rec);
	case PLANT_DEAD_INCARNATION:
		return member != NULL && !is_registered && !cluster_is_for_leaders(rec);
	case PLANT_ANY_LEADER:
		return is_registered && rec->sequence > sequence && cluster_is_for_leaders(rec);
	default:
		return false;
	}
}

enum status_code __wrap_cluster_admit(struct store *st, const Pb__Record *rec, int64_t offset, bool *counts)
{
	const struct store_member *member = store_find_member(st, rec->member_id);
	uint64_t sequence = member != NULL ? member->sequence : 0;
	enum status_code status;

	if (planted == PLANT_OTHER_LOG)
		((Pb__Record *)(uintptr_t)rec)->cluster_id =
			rec->cluster_id != 0 ? st->view.state.cluster_id : 0;
	status = __real_cluster_admit(st, rec, offset, counts);
	if (status == STATUS_OK && !*counts && rec->request_case != PB__RECORD__REQUEST_GENESIS)
		*counts = is_let_through(st, rec, sequence);
	return status;
}

enum status_code __wrap_cluster_apply_join(struct store *st, const Pb__Record *rec)
{
	uint64_t written[STORE_MEMBERS_MAX];
	enum status_code status;

	memcpy(written, st->written_sequences, sizeof written);
	status = __real_cluster_apply_join(st, rec);
	if (planted == PLANT_LOST_SEQUENCE)
		memcpy(st->written_sequences, written, sizeof written);
	return status;
}

enum status_code __wrap_cluster_apply_take_office(struct store *st, const Pb__Record *rec)
{
	if (planted == PLANT_HIGHEST_TERM && rec->take_office->term == st->view.state.term) {
		st->view.state.owner = rec->incarnation;
		st->view.state.owner_member = rec->member_id;
		return STATUS_OK;
	}
	return __real_cluster_apply_take_office(st, rec);
}

void __wrap_cluster_apply_raise_level(struct store *st, const Pb__RaiseLevel *request)
{
	if (planted == PLANT_EARLY_LEVEL)
		st->view.state.level = request->level;
	else
		__real_cluster_apply_raise_level(st, request);
}

enum status_code __wrap_compact_apply(struct store *st, int64_t revision)
{
	enum status_code status = __real_compact_apply(st, revision);

	if (status == STATUS_OK && planted == PLANT_EARLY_DROP)
		status = compact_allow_drop(st, revision);
	return status;
}

/* The renewal that a lease has now. */
static int64_t find_renewal(struct store *st, int64_t id)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_LEASE];
	int64_t renewal = 0;

	sqlite3_bind_int64(stmt, 1, id);
	if (sqlite3_step(stmt) == SQLITE_ROW)
		renewal = sqlite3_column_int64(stmt, 3);
	sqlite3_reset(stmt);
	renewals_find(st->renewals, id, &renewal);
	return renewal;
}

enum status_code __wrap_lease_apply_expire(struct store *st, const Pb__LeaseExpire *request,
                                           struct arena *arena)
{
	for (size_t i = 0; planted == PLANT_BLIND_EXPIRY && i < request->n_renewals; i++)
		request->renewals[i] = find_renewal(st, request->ids[i]);
	return __real_lease_apply_expire(st, request, arena);
}

/* ---- Tables ---- */

void __real_row_sum_add(struct row_sum *sum, int64_t id, const void *value, size_t len);
void __wrap_row_sum_add(struct row_sum *sum, int64_t id, const void *value, size_t len);
void __real_row_sum_remove(struct row_sum *sum, int64_t id, const void *value, size_t len);
void __wrap_row_sum_remove(struct row_sum *sum, int64_t id, const void *value, size_t len);
void __real_row_pack_kv(sqlite3_stmt *stmt, struct buf *out);
void __wrap_row_pack_kv(sqlite3_stmt *stmt, struct buf *out);
void __real_row_pack_lease(int64_t ttl_sec, int64_t remaining_sec, int64_t renewal, struct buf *out);
void __wrap_row_pack_lease(int64_t ttl_sec, int64_t remaining_sec, int64_t renewal, struct buf *out);
enum status_code __real_restore_finish(struct restore *restore, const Pb__Marker *marker,
                                       const char *kafka_id);
enum status_code __wrap_restore_finish(struct restore *restore, const Pb__Marker *marker,
                                       const char *kafka_id);

/* The sums are a second guard behind some bugs: these make any rows fit the marker. */
static Pb__Marker fitted;
static bool fits, is_lease;

void __wrap_row_sum_add(struct row_sum *sum, int64_t id, const void *value, size_t len)
{
	__real_row_sum_add(sum, id, value, len);
	if (fits && is_lease) {
		fitted.lease_rows = sum->rows;
		fitted.lease_sum = sum->sum;
	} else if (fits) {
		fitted.kv_rows = sum->rows;
		fitted.kv_sum = sum->sum;
	}
}

void __wrap_row_sum_remove(struct row_sum *sum, int64_t id, const void *value, size_t len)
{
	if (planted != PLANT_OBSOLETE_SUMS)
		__real_row_sum_remove(sum, id, value, len);
}

void __wrap_row_pack_kv(sqlite3_stmt *stmt, struct buf *out)
{
	is_lease = false;
	__real_row_pack_kv(stmt, out);
}

void __wrap_row_pack_lease(int64_t ttl_sec, int64_t remaining_sec, int64_t renewal, struct buf *out)
{
	is_lease = true;
	__real_row_pack_lease(ttl_sec, remaining_sec, renewal, out);
}

enum status_code __wrap_restore_finish(struct restore *restore, const Pb__Marker *marker,
                                       const char *kafka_id)
{
	enum status_code status;

	if (planted != PLANT_ONE_LOOK_BOOTSTRAP && planted != PLANT_TRUST_THE_END)
		return __real_restore_finish(restore, marker, kafka_id);
	fitted = *marker;
	fitted.kv_rows = fitted.lease_rows = 0;
	fitted.kv_sum = fitted.lease_sum = 0;
	fits = true;
	status = __real_restore_finish(restore, &fitted, kafka_id);
	fits = false;
	return status;
}
