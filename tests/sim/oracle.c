/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/oracle.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/wire.h"
#include "log/record.h"
#include "rows.pb-c.h"
#include "state/cluster.h"
#include "state/renewals.h"
#include "state/rows.h"

enum { ARENA_CAP_BYTES = 64 << 20, LEVEL_ANY = 1000, KEYS_MAX = 64 };

/* ---- Sums ---- */

struct scalars {
	int64_t revision, compact_revision;
	uint64_t cluster_id, term, owner, owner_member, level;
	int64_t corrupt;
};

struct version {
	uint64_t key, value; /* hashes */
	int64_t mod, created, version, lease, deleted;
};

static void add(struct content *content, int kind, const void *data, size_t len)
{
	content->sum += XXH3_64bits_withSeed(data, len, (uint64_t)kind);
}

static void add_scalars(struct content *content, const struct scalars *scalars)
{
	add(content, 1, scalars, sizeof *scalars);
	if (content->text != NULL)
		buf_printf(content->text,
		           "revision %" PRId64 " compacted %" PRId64 " cluster %" PRIx64 " term %" PRIu64
		           " owner %" PRIx64 " by %" PRIx64 " level %" PRIu64 " corrupt %" PRId64 "\n",
		           scalars->revision, scalars->compact_revision, scalars->cluster_id, scalars->term,
		           scalars->owner, scalars->owner_member, scalars->level, scalars->corrupt);
}

static void add_member(struct content *content, const struct oracle_member *member)
{
	add(content, 2, member, sizeof *member);
	if (content->text != NULL)
		buf_printf(content->text,
		           "member %" PRIx64 " number %" PRIu64 " incarnation %" PRIx64 " sequence %" PRIu64
		           " level %" PRIu64 "\n",
		           member->id, member->number, member->incarnation, member->sequence,
		           member->level);
}

static void add_version(struct content *content, const void *key, size_t key_len, const void *value,
                        size_t value_len, struct version version)
{
	version.key = XXH3_64bits(key, key_len);
	version.value = XXH3_64bits(value, value_len);
	add(content, 3, &version, sizeof version);
	if (content->text != NULL)
		buf_printf(content->text,
		           "version %.*s = %.*s mod %" PRId64 " created %" PRId64 " version %" PRId64
		           " lease %" PRId64 "%s\n",
		           (int)key_len, (const char *)key, (int)value_len,
		           value != NULL ? (const char *)value : "", version.mod, version.created,
		           version.version, version.lease, version.deleted ? " deleted" : "");
}

static void add_lease(struct content *content, int64_t id, int64_t ttl_sec, int64_t remaining_sec,
                      int64_t renewal)
{
	int64_t fields[] = {id, ttl_sec, remaining_sec, renewal};

	add(content, 4, fields, sizeof fields);
	if (content->text != NULL)
		buf_printf(content->text,
		           "lease %" PRId64 " ttl %" PRId64 " remaining %" PRId64 " renewal %" PRId64 "\n",
		           id, ttl_sec, remaining_sec, renewal);
}

static bool is_retained(const struct model *model, const struct model_key *key, size_t at)
{
	if (key->versions[at].deleted)
		return key->versions[at].mod >= model->compact_revision;
	return at + 1 == key->count || key->versions[at + 1].mod > model->compact_revision;
}

void oracle_sum(const struct oracle *oracle, struct content *out)
{
	const struct model *model = &oracle->model;

	out->sum = 0;
	add_scalars(out, &(struct scalars){model->revision, model->compact_revision, oracle->cluster_id,
	                                   oracle->term, oracle->owner, oracle->owner_member, oracle->level,
	                                   model->corrupt});
	for (size_t i = 0; i < oracle->member_count; i++)
		add_member(out, &oracle->members[i]);
	for (size_t i = 0; i < model->key_count; i++) {
		const struct model_key *key = &model->keys[i];

		/* From the newest on: those before the first that is gone are gone as well. */
		for (size_t j = key->count; j > 0; j--) {
			const struct model_version *it = &key->versions[j - 1];

			if (is_retained(model, key, j - 1))
				add_version(out, key->key, key->key_len, it->value, it->value_len,
				            (struct version){.mod = it->mod,
				                             .created = it->created,
				                             .version = it->version,
				                             .lease = it->lease,
				                             .deleted = it->deleted});
			else if (it->mod < model->compact_revision)
				break;
		}
	}
	for (size_t i = 0; i < model->lease_count; i++)
		add_lease(out, model->leases[i].id, model->leases[i].ttl_sec,
		          model->leases[i].remaining_sec, model->leases[i].renewal);
}

/* Rows from the newest to the oldest: one of a key that has been seen at or below the compacted
 * revision is obsolete, and a deletion below it is as well. */
struct sieve {
	int64_t compact_revision;
	uint64_t superseded[KEYS_MAX];
	int64_t by[KEYS_MAX];
	size_t count;
};

static bool is_obsolete(struct sieve *sieve, const void *key, size_t key_len, int64_t mod, bool deleted)
{
	uint64_t hash = XXH3_64bits(key, key_len);
	size_t at = 0;
	bool obsolete;

	while (at < sieve->count && sieve->superseded[at] != hash)
		at++;
	if (at == sieve->count) {
		assert(sieve->count < KEYS_MAX);
		sieve->superseded[sieve->count] = hash;
		sieve->by[sieve->count++] = INT64_MAX;
	}
	obsolete = deleted ? mod < sieve->compact_revision : sieve->by[at] <= sieve->compact_revision;
	sieve->by[at] = mod;
	return obsolete;
}

static void sum_versions(sqlite3 *db, int64_t compact_revision, struct content *out)
{
	struct sieve sieve = {.compact_revision = compact_revision};
	sqlite3_stmt *stmt = NULL;
	int code =
		sqlite3_prepare_v2(db,
	                           "SELECT key, value, mod, created, version, lease, deleted FROM version"
	                           " ORDER BY id DESC",
	                           -1, &stmt, NULL);

	assert(code == SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		const void *key = sqlite3_column_blob(stmt, 0), *value = sqlite3_column_blob(stmt, 1);
		size_t key_len = (size_t)sqlite3_column_bytes(stmt, 0),
		       value_len = (size_t)sqlite3_column_bytes(stmt, 1);
		struct version version = {
			.mod = sqlite3_column_int64(stmt, 2),
			.created = sqlite3_column_int64(stmt, 3),
			.version = sqlite3_column_int64(stmt, 4),
			.lease = sqlite3_column_int64(stmt, 5),
			.deleted = sqlite3_column_int64(stmt, 6),
		};

		if (!is_obsolete(&sieve, key, key_len, version.mod, version.deleted))
			add_version(out, key, key_len, value, value_len, version);
	}
	sqlite3_finalize(stmt);
}

static void sum_leases(struct store *st, struct content *out)
{
	sqlite3_stmt *stmt = NULL;
	int code = sqlite3_prepare_v2(st->view.db, "SELECT id, ttl_sec, remaining_sec, renewal FROM lease",
	                              -1, &stmt, NULL);

	assert(code == SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		int64_t id = sqlite3_column_int64(stmt, 0), renewal = sqlite3_column_int64(stmt, 3);

		renewals_find(st->renewals, id, &renewal);
		add_lease(out, id, sqlite3_column_int64(stmt, 1), sqlite3_column_int64(stmt, 2), renewal);
	}
	sqlite3_finalize(stmt);
}

void store_sum(struct store *st, struct content *out)
{
	const struct store_state *state = &st->saved;

	out->sum = 0;
	add_scalars(out, &(struct scalars){state->revision, state->compact_revision, state->cluster_id,
	                                   state->term, state->owner, state->owner_member, state->level,
	                                   st->saved_corrupt});
	for (size_t i = 0; i < st->member_count; i++) {
		const struct store_member *it = &st->members[i];

		add_member(out, &(struct oracle_member){it->id, it->number, it->incarnation, it->sequence,
		                                        it->level});
	}
	sum_versions(st->view.db, state->compact_revision, out);
	sum_leases(st, out);
}

/* ---- The tables ---- */

struct table_sums {
	struct content *out;
	struct arena arena;
	Pb__Marker *marker;
	struct row_sum kv, leases;
	bool broken;
};

static ProtobufCMessage *unpack(struct table_sums *sums, const ProtobufCMessageDescriptor *type,
                                const struct table_row *row)
{
	ProtobufCMessage *message = NULL;

	if (wire_unpack(type, row->value, row->value_len, &sums->arena, &message) != STATUS_OK)
		sums->broken = true;
	return message;
}

static enum status_code take_marker(void *arg, const struct table_row *row)
{
	struct table_sums *sums = arg;

	sums->marker = (Pb__Marker *)unpack(sums, &pb__marker__descriptor, row);
	return STATUS_OK;
}

static enum status_code take_version(void *arg, const struct table_row *row)
{
	struct table_sums *sums = arg;
	const Pb__KvRow *kv = (const Pb__KvRow *)unpack(sums, &pb__kv_row__descriptor, row);
	int64_t id = 0;

	if (kv == NULL || !row_id(row->key, row->key_len, &id)) {
		sums->broken = true;
		return STATUS_OK;
	}
	row_sum_add(&sums->kv, id, row->value, row->value_len);
	add_version(sums->out, kv->key.data, kv->key.len, kv->value.data, kv->value.len,
	            (struct version){.mod = kv->mod_revision,
	                             .created = kv->create_revision,
	                             .version = kv->version,
	                             .lease = kv->lease,
	                             .deleted = kv->deleted});
	return STATUS_OK;
}

static enum status_code take_lease(void *arg, const struct table_row *row)
{
	struct table_sums *sums = arg;
	const Pb__LeaseRow *lease = (const Pb__LeaseRow *)unpack(sums, &pb__lease_row__descriptor, row);
	int64_t id = 0;

	if (lease == NULL || !row_id(row->key, row->key_len, &id)) {
		sums->broken = true;
		return STATUS_OK;
	}
	row_sum_add(&sums->leases, id, row->value, row->value_len);
	add_lease(sums->out, id, lease->ttl_sec, lease->remaining_sec, lease->renewal);
	return STATUS_OK;
}

static void add_marker(struct content *out, const Pb__Marker *marker)
{
	int64_t corrupt = 0;

	for (size_t i = 0; i < marker->n_alarms; i++)
		corrupt |= marker->alarms[i]->alarm == PB__ALARM_TYPE__CORRUPT;
	add_scalars(out, &(struct scalars){marker->revision, marker->compact_revision, marker->cluster_id,
	                                   marker->term, marker->owner, marker->owner_member, marker->level,
	                                   corrupt});
	for (size_t i = 0; i < marker->n_members; i++) {
		const Pb__MemberRow *it = marker->members[i];

		add_member(out, &(struct oracle_member){it->id, it->number, it->incarnation, it->sequence,
		                                        it->level});
	}
}

int64_t tables_sum(const struct model_kafka *kafka, struct content *out)
{
	struct table_sums sums = {.out = out};
	int64_t offset = -1;

	out->sum = 0;
	arena_init(&sums.arena, ARENA_CAP_BYTES, NULL, 0);
	model_kafka_rows(kafka, TABLE_MARKERS, take_marker, &sums);
	if (sums.marker != NULL) {
		add_marker(out, sums.marker);
		model_kafka_rows(kafka, TABLE_KV, take_version, &sums);
		model_kafka_rows(kafka, TABLE_LEASES, take_lease, &sums);
		offset = sums.marker->offset;
		if (sums.broken || sums.kv.rows != sums.marker->kv_rows ||
		    sums.kv.sum != sums.marker->kv_sum || sums.leases.rows != sums.marker->lease_rows ||
		    sums.leases.sum != sums.marker->lease_sum) {
			out->sum = ~out->sum; /* nobody could come up from these */
			if (out->text != NULL)
				buf_printf(out->text, "the sums of the marker are not those of the rows\n");
		}
	}
	arena_release(&sums.arena);
	return offset;
}

/* ---- The replay ---- */

static void add_place(struct oracle *oracle, struct oracle_place place)
{
	struct content content = {0};

	oracle_sum(oracle, &content);
	place.sum = content.sum;
	place.revision = oracle->model.revision;
	if (oracle->count == oracle->size) {
		oracle->size = oracle->size == 0 ? 1024 : oracle->size * 2;
		oracle->places = realloc(oracle->places, oracle->size * sizeof *oracle->places);
		assert(oracle->places != NULL);
	}
	oracle->places[oracle->count++] = place;
}

void oracle_init(struct oracle *oracle, struct model_kafka *kafka)
{
	*oracle = (struct oracle){.kafka = kafka, .term = 1, .level = 1};
	model_init(&oracle->model);
	arena_init(&oracle->arena, ARENA_CAP_BYTES, NULL, 0);
	add_place(oracle, (struct oracle_place){0});
}

void oracle_release(struct oracle *oracle)
{
	for (size_t i = 0; i < oracle->count; i++)
		free(oracle->places[i].response);
	free(oracle->places);
	model_release(&oracle->model);
	arena_release(&oracle->arena);
}

const struct oracle_place *oracle_at(const struct oracle *oracle, int64_t offset)
{
	return offset >= 0 && (size_t)offset < oracle->count ? &oracle->places[offset] : NULL;
}

const struct oracle_member *oracle_find_member(const struct oracle *oracle, uint64_t id)
{
	for (size_t i = 0; i < oracle->member_count; i++)
		if (oracle->members[i].id == id)
			return &oracle->members[i];
	return NULL;
}

struct oracle_lease *oracle_find_lease(struct oracle *oracle, int64_t id)
{
	for (size_t i = 0; i < oracle->lease_count; i++)
		if (oracle->leases[i].id == id)
			return &oracle->leases[i];
	return NULL;
}

static struct oracle_member *member_of(struct oracle *oracle, uint64_t id)
{
	for (size_t i = 0; i < oracle->member_count; i++)
		if (oracle->members[i].id == id)
			return &oracle->members[i];
	return NULL;
}

/* An incarnation's first record: it replaces the one before it. */
static enum status_code apply_join(struct oracle *oracle, const Pb__Record *rec)
{
	struct oracle_member *member = member_of(oracle, rec->member_id);

	if (member != NULL && rec->join->number <= member->number)
		return STATUS_REPLACED;
	if (member == NULL) {
		assert(oracle->member_count < ORACLE_MEMBERS_MAX);
		member = &oracle->members[oracle->member_count++];
	}
	*member = (struct oracle_member){rec->member_id, rec->join->number, rec->incarnation, rec->sequence,
	                                 rec->join->level};
	return STATUS_OK;
}

static enum status_code apply_take_office(struct oracle *oracle, const Pb__Record *rec)
{
	if (rec->take_office->term <= oracle->term)
		return STATUS_FENCED;
	oracle->term = rec->take_office->term;
	oracle->owner = rec->incarnation;
	oracle->owner_member = rec->member_id;
	return STATUS_OK;
}

static void apply_raise_level(struct oracle *oracle, uint64_t level)
{
	for (size_t i = 0; i < oracle->member_count; i++)
		if (oracle->members[i].level < level)
			return;
	if (level > oracle->level)
		oracle->level = level;
}

static bool is_leaders(const struct oracle *oracle, const Pb__Record *rec)
{
	return rec->term == oracle->term && rec->incarnation == oracle->owner;
}

/* Whether it counts; notes that it was there. */
static bool admit(struct oracle *oracle, const Pb__Record *rec, int64_t offset)
{
	struct oracle_member *member = member_of(oracle, rec->member_id);

	if (rec->request_case == PB__RECORD__REQUEST_GENESIS)
		return oracle->cluster_id == 0;
	if (rec->seen_offset >= offset) /* the log has lost what its proposer saw */
		return false;
	if (member == NULL || member->incarnation != rec->incarnation)
		return rec->request_case == PB__RECORD__REQUEST_JOIN;
	if (rec->sequence <= member->sequence)
		return false;
	member->sequence = rec->sequence;
	switch (rec->request_case) {
	case PB__RECORD__REQUEST_LEASE_EXPIRE:
	case PB__RECORD__REQUEST_LEASE_CHECKPOINT:
	case PB__RECORD__REQUEST_COVERED:
	case PB__RECORD__REQUEST_HASH_ASK:
	case PB__RECORD__REQUEST_HASH_VERDICT:
	case PB__RECORD__REQUEST_RAISE_LEVEL:
		return is_leaders(oracle, rec);
	default:
		return true;
	}
}

static enum status_code run(struct oracle *oracle, const Pb__Record *rec, ProtobufCMessage **response)
{
	switch (rec->request_case) {
	case PB__RECORD__REQUEST_GENESIS:
		oracle->cluster_id = rec->genesis->cluster_id;
		return STATUS_OK;
	case PB__RECORD__REQUEST_JOIN:
		return apply_join(oracle, rec);
	case PB__RECORD__REQUEST_TAKE_OFFICE:
		return apply_take_office(oracle, rec);
	case PB__RECORD__REQUEST_RAISE_LEVEL:
		apply_raise_level(oracle, rec->raise_level->level);
		return STATUS_OK;
	case PB__RECORD__REQUEST_HASH_VERDICT:
		oracle->model.corrupt |= rec->hash_verdict->undecided;
		return STATUS_OK;
	case PB__RECORD__REQUEST_BARRIER:
	case PB__RECORD__REQUEST_COVERED:
	case PB__RECORD__REQUEST_HASH_ASK:
	case PB__RECORD__REQUEST_HASH_VOTE:
		return STATUS_OK;
	default:
		return model_apply(&oracle->model, record_request(rec), &oracle->arena, response);
	}
}

static void note_renewal(struct oracle *oracle, int64_t id, int64_t ttl_sec, int64_t asked_ms,
                         int64_t silent_ms)
{
	struct oracle_lease *lease = oracle_find_lease(oracle, id);

	if (lease == NULL) {
		assert(oracle->lease_count < ORACLE_LEASES_MAX);
		lease = &oracle->leases[oracle->lease_count++];
		*lease = (struct oracle_lease){.id = id};
	}
	lease->ttl_sec = ttl_sec;
	lease->asked_ms = asked_ms;
	lease->silent_ms = silent_ms;
	lease->ended = false;
}

static void note_leases(struct oracle *oracle, const Pb__Record *rec, const ProtobufCMessage *response,
                        int64_t asked_ms, int64_t silent_ms)
{
	if (rec->request_case == PB__RECORD__REQUEST_LEASE_GRANT) {
		const Pb__LeaseGrantResponse *granted = (const Pb__LeaseGrantResponse *)response;

		note_renewal(oracle, granted->id, granted->ttl, asked_ms, silent_ms);
	} else if (rec->request_case == PB__RECORD__REQUEST_LEASE_RENEW) {
		const Pb__LeaseRenewed *renewed = (const Pb__LeaseRenewed *)response;

		for (size_t i = 0; i < renewed->n_ttls; i++)
			if (renewed->ttls[i] > 0)
				note_renewal(oracle, rec->lease_renew->ids[i], renewed->ttls[i], asked_ms,
				             silent_ms);
	}
}

static const char *check_expiries(struct oracle *oracle, const Pb__Record *rec, int64_t now_ms,
                                  int64_t silent_ms)
{
	for (size_t i = 0; i < oracle->lease_count; i++) {
		struct oracle_lease *lease = &oracle->leases[i];
		int64_t passed_ms = now_ms - lease->asked_ms, silence_ms = silent_ms - lease->silent_ms;
		bool exists = false;

		for (size_t j = 0; j < oracle->model.lease_count; j++)
			exists |= oracle->model.leases[j].id == lease->id;
		if (exists || lease->ended)
			continue;
		lease->ended = true;
		if (rec->request_case != PB__RECORD__REQUEST_LEASE_EXPIRE)
			continue;
		oracle->expired++;
		if (passed_ms < lease->ttl_sec * 1000)
			return "a lease has ended before its time";
		if (passed_ms - silence_ms < lease->ttl_sec * 1000)
			return "the time of a lease has passed while nobody could renew it";
	}
	return NULL;
}

uint8_t *oracle_pack(ProtobufCMessage *response, size_t *len)
{
	const ProtobufCMessageDescriptor *type = response->descriptor;
	Pb__ResponseHeader *header = NULL, kept = PB__RESPONSE_HEADER__INIT;
	uint8_t *bytes;

	if (type->n_fields > 0 && type->fields[0].descriptor == &pb__response_header__descriptor)
		memcpy(&header, (uint8_t *)response + type->fields[0].offset, sizeof header);
	if (header != NULL) {
		kept = *header;
		header->cluster_id = header->member_id = header->raft_term = 0;
	}
	*len = protobuf_c_message_get_packed_size(response);
	bytes = malloc(*len + 1);
	assert(bytes != NULL);
	protobuf_c_message_pack(response, bytes);
	if (header != NULL)
		*header = kept;
	return bytes;
}

const char *oracle_apply(struct oracle *oracle, int64_t offset, int64_t now_ms, int64_t silent_ms)
{
	const struct model_record *raw = &oracle->kafka->records[offset - 1];
	struct oracle_place place = {.status = STATUS_TIMEOUT, .ignored = true};
	ProtobufCMessage *response = NULL;
	const char *broken = NULL;
	Pb__Record *rec;

	assert(offset == (int64_t)oracle->count);
	arena_reset(&oracle->arena);
	oracle->model.offset = offset - 1;
	if (record_unpack(raw->data, raw->len, LEVEL_ANY, &oracle->arena, &rec) != STATUS_OK) {
		add_place(oracle, (struct oracle_place){.unreadable = true});
		return NULL;
	}
	place.member_id = rec->member_id;
	place.incarnation = rec->incarnation;
	place.sequence = rec->sequence;
	place.kind = rec->request_case;
	if (admit(oracle, rec, offset)) {
		place.ignored = false;
		place.status = run(oracle, rec, &response);
	}
	if (place.status == STATUS_OK && response != NULL) {
		place.response = oracle_pack(response, &place.response_len);
		note_leases(oracle, rec, response, raw->appended_ms, silent_ms);
	}
	broken = check_expiries(oracle, rec, now_ms, silent_ms);
	add_place(oracle, place);
	return broken;
}

void oracle_rewind(struct oracle *oracle)
{
	struct oracle old = *oracle;

	oracle_init(oracle, old.kafka);
	for (size_t at = 1; at <= oracle->kafka->count; at++) {
		oracle_apply(oracle, (int64_t)at, 0, 0);
		oracle->places[at].hash = old.places[at].hash;
	}
	/* Of time only what goes on is known: nothing is held against it. */
	for (size_t i = 0; i < oracle->lease_count; i++)
		oracle->leases[i].asked_ms = INT64_MIN / 2;
	oracle->expired = old.expired;
	oracle_release(&old);
}

void oracle_explain(const struct oracle *oracle, int64_t offset, struct buf *text)
{
	struct oracle again;
	struct content content = {.text = text};

	oracle_init(&again, oracle->kafka);
	for (int64_t at = 1; at <= offset; at++)
		oracle_apply(&again, at, 0, 0);
	oracle_sum(&again, &content);
	oracle_release(&again);
}
