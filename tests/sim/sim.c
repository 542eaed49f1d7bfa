/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/sim.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/logger.h"
#include "engine/method.h"
#include "lib/fault_vfs.h"
#include "lib/fixture.h"
#include "log/record.h"
#include "sim/node.h"
#include "sim/oracle.h"
#include "sim/plants.h"

enum {
	NODES_MAX = 4,
	KEY_COUNT = 5,
	/* What of an outage may count against a lease: the time to notice it. */
	NOTICE_MS = 1600,
	ROUND_MS = 40,
	ROUNDS_MAX = 6000,
	PENDING_MAX = 24, /* calls on one node */
	SIM_LEASES_MAX = 6,
};

enum kind {
	KIND_PUT,
	KIND_DELETE,
	KIND_SWAP,
	KIND_COMPACT,
	KIND_GRANT,
	KIND_RENEW,
	KIND_REVOKE,
	KIND_RANGE,
	KIND_OLD_RANGE
};

/* What befalls a run beside the faults that are always there. */
enum scenario {
	SCENARIO_PLAIN,
	SCENARIO_UPGRADE,   /* nodes are upgraded one by one; a new one is old */
	SCENARIO_POISON,    /* a record that nobody can read */
	SCENARIO_DIVERGED,  /* a node's state becomes another */
	SCENARIO_TWIN_NAME, /* two nodes of one name */
	SCENARIO_LOST_TAIL, /* an unclean broker */
	SCENARIO_RECREATED, /* another log in the place of the old one */
	SCENARIO_BAD_DISK,
	SCENARIO_COUNT
};

static const char *const SCENARIO_NAMES[SCENARIO_COUNT] = {
	"", "upgrade", "poison", "diverged", "twin name", "lost tail", "recreated", "bad disk",
};

struct sim {
	const struct sim_options *options;
	struct sim_counts *counts;
	struct prng prng;
	struct model_kafka kafka;
	struct oracle oracle;
	struct node nodes[NODES_MAX];
	int node_count;
	const char *dir;
	int64_t step;
	bool broken;
	bool over; /* an unclean broker has done what no node can find out */
	struct errand *errands;
	int64_t acked_offset; /* the highest whose effect a client has seen */
	int64_t acked_revision;
	uint64_t led_by[4096]; /* the incarnation that has led in a term */
	int64_t out_since_ms, out_until_ms, silent_ms;
	bool held[NODES_MAX];    /* its process is stopped in the middle of something */
	bool tainted[NODES_MAX]; /* it has applied what the log does not hold, or its files were tampered
	                            with */
	bool is_holding, is_ending;
	enum scenario scenario;
	enum { ACT_BEFORE, ACT_GOING, ACT_OVER } act; /* of the scenario */
	int64_t act_step;
	struct node *victim;
	int64_t victim_rebuilds;
	int64_t poison_offset;
	bool scenario_mutes;             /* nothing that is answered can be judged any more */
	int64_t away_until[NODES_MAX];   /* the step before which it does not start again */
	int64_t old_position[NODES_MAX]; /* when the log became another one */
	int64_t next_lease;
	int64_t skip_offset; /* that the operator said to pass over; 0: none */
};

/* A client's call. */
struct errand {
	struct errand *next;
	struct sim *sim;
	struct node *node;
	struct model_link *link;
	uint64_t incarnation;
	enum kind kind;
	struct call *call;
	int64_t began_ms, floor_offset, floor_revision;
};

/* ---- Time ---- */

static int64_t clock_now_us;

static int64_t read_monotonic(void)
{
	return clock_now_us;
}

static int64_t read_wall(void)
{
	return clock_now_us + INT64_C(1700000000000000);
}

static int64_t now_ms(void)
{
	return clock_now_us / 1000;
}

static void pass_time(int64_t ms)
{
	clock_now_us += ms * 1000;
}

static int64_t count_silent(int64_t since_ms)
{
	int64_t silent_ms = now_ms() - since_ms - NOTICE_MS;

	return silent_ms > 0 ? silent_ms : 0;
}

/* How long the log could not be written so far. */
static int64_t silent_ms(const struct sim *sim)
{
	return sim->silent_ms + (sim->kafka.out ? count_silent(sim->out_since_ms) : 0);
}

/* ---- What is said ---- */

static void tell(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(const struct sim *sim, const char *format, ...)
{
	va_list args;

	if (!sim->options->trace)
		return;
	printf("%6" PRId64 " %8" PRId64 "ms  ", sim->step, now_ms() - 1000000);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

/* Only the first counts. */
static void broke(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void broke(struct sim *sim, const char *format, ...)
{
	va_list args;

	if (sim->broken)
		return;
	sim->broken = true;
	if (plants_are_quiet())
		return;
	printf("seed %" PRIu64 ", step %" PRId64 "%s%s: ", sim->options->seed, sim->step,
	       sim->scenario == SCENARIO_PLAIN ? "" : ", ", SCENARIO_NAMES[sim->scenario]);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

static void explain(const struct sim *sim, const char *title, struct buf *text)
{
	if (sim->options->trace)
		printf("--- %s\n%.*s", title, (int)text->len,
		       text->data != NULL ? (const char *)text->data : "");
	buf_release(text);
}

/* ---- Checks ---- */

static void show_difference(struct sim *sim, struct store *st, int64_t offset)
{
	struct buf here, wanted;
	struct content content = {.text = &here};

	if (!sim->options->trace)
		return;
	buf_init(&here);
	buf_init(&wanted);
	if (st != NULL)
		store_sum(st, &content);
	else
		tables_sum(&sim->kafka, &content);
	oracle_explain(&sim->oracle, offset, &wanted);
	explain(sim, "found", &here);
	explain(sim, "wanted", &wanted);
}

static int index_of(const struct sim *sim, const struct node *node)
{
	return (int)(node - sim->nodes);
}

static bool is_tainted(const struct sim *sim, const struct node *node)
{
	return sim->tainted[index_of(sim, node)];
}

static void check_node(struct sim *sim, struct node *node, bool in_full)
{
	struct store *st = node->store;
	int64_t offset = st->saved.applied_offset;
	struct oracle_place *place = (struct oracle_place *)(uintptr_t)oracle_at(&sim->oracle, offset);
	struct content content = {0};

	if (sim->broken || sim->over || is_tainted(sim, node) ||
	    (sim->scenario == SCENARIO_RECREATED && sim->scenario_mutes))
		return;
	if (sim->poison_offset > 0 && sim->skip_offset == 0 && offset >= sim->poison_offset)
		broke(sim, "node %s has passed over the record at %" PRId64 ", which nobody allowed",
		      node->label, sim->poison_offset);
	if (place == NULL) {
		broke(sim, "node %s is at %" PRId64 ", where the log has not been", node->label, offset);
		return;
	}
	if (place->hash == 0)
		place->hash = st->saved.hash;
	else if (place->hash != st->saved.hash && offset > 0)
		broke(sim, "node %s has another hash at %" PRId64 " than others had there", node->label,
		      offset);
	if (!in_full && !sim->broken)
		return;
	sim->counts->sums++;
	store_sum(st, &content);
	if (content.sum == place->sum && !sim->broken)
		return;
	broke(sim, "node %s differs from a plain replay at %" PRId64, node->label, offset);
	show_difference(sim, st, offset);
}

static void on_position(void *arg, struct node *node)
{
	struct sim *sim = arg;

	check_node(sim, node, node->engine == NULL || prng_chance(&sim->prng, 20));
}

static void on_record(void *arg, int64_t offset)
{
	struct sim *sim = arg;
	int64_t expired = sim->oracle.expired;
	const char *wrong = oracle_apply(&sim->oracle, offset, now_ms(), silent_ms(sim));
	const struct oracle_place *place = oracle_at(&sim->oracle, offset);

	sim->counts->records++;
	sim->counts->ignored += place->ignored;
	sim->counts->barriers += place->kind == PB__RECORD__REQUEST_BARRIER;
	sim->counts->verdicts += place->kind == PB__RECORD__REQUEST_HASH_VERDICT && !place->ignored;
	sim->counts->raises += place->kind == PB__RECORD__REQUEST_RAISE_LEVEL && !place->ignored;
	sim->counts->expiries += sim->oracle.expired - expired;
	tell(sim,
	     "log %" PRId64 ": kind %d of %" PRIx64 "/%" PRIx64 " number %" PRIu64
	     "%s%s, status %s, revision %" PRId64,
	     offset, (int)place->kind, place->member_id, place->incarnation, place->sequence,
	     place->ignored ? ", ignored" : "", place->unreadable ? ", unreadable" : "",
	     status_code_name(place->status), place->revision);
	if (wrong != NULL)
		broke(sim, "%s, by the record at %" PRId64, wrong, offset);
}

static int64_t marker_offset(struct sim *sim)
{
	struct content content = {0};

	return tables_sum(&sim->kafka, &content);
}

static void on_commit(void *arg)
{
	struct sim *sim = arg;
	struct content content = {0};
	int64_t offset = tables_sum(&sim->kafka, &content);
	const struct oracle_place *place = oracle_at(&sim->oracle, offset);

	tell(sim, "tables: commit %" PRId64 ", marker %" PRId64, sim->kafka.commits, offset);
	if (sim->scenario == SCENARIO_LOST_TAIL && sim->scenario_mutes &&
	    (place == NULL || place->sum != content.sum)) {
		/* A leader that was overtaken by the new records before it looked: nothing that follows
		 * means anything. */
		sim->counts->unnoticed++;
		sim->over = true;
		return;
	}
	if (place == NULL || place->sum != content.sum) {
		broke(sim, "the tables are not the state at their marker %" PRId64, offset);
		show_difference(sim, NULL, offset);
	}
	if (offset + 1 < sim->kafka.first)
		broke(sim, "the log starts at %" PRId64 " and the new marker is %" PRId64, sim->kafka.first,
		      offset);
}

static void on_trim(void *arg)
{
	struct sim *sim = arg;
	int64_t offset = marker_offset(sim);

	tell(sim, "the log starts at %" PRId64 ", the marker is %" PRId64, sim->kafka.first, offset);
	if (offset + 1 < sim->kafka.first)
		broke(sim, "the log is cut below %" PRId64 " and the newest marker is %" PRId64,
		      sim->kafka.first, offset);
}

static void check_leader(struct sim *sim, struct node *node)
{
	const struct engine *engine = node->engine;
	uint64_t term;

	if (engine == NULL || !engine->leading || engine->owner != engine->incarnation)
		return;
	term = engine->term;
	if (term == node->claimed || term >= sizeof sim->led_by / sizeof sim->led_by[0])
		return;
	node->claimed = term;
	sim->counts->offices++;
	tell(sim, "node %s leads in term %" PRIu64, node->label, term);
	if (sim->led_by[term] != 0 && sim->led_by[term] != engine->incarnation)
		broke(sim, "two leaders of term %" PRIu64, term);
	sim->led_by[term] = engine->incarnation;
}

/* ---- Clients ---- */

static void unlink_errand(struct errand *errand)
{
	struct errand **at = &errand->sim->errands;

	while (*at != NULL && *at != errand)
		at = &(*at)->next;
	if (*at == NULL) {
		broke(errand->sim, "a call has ended twice");
		return;
	}
	*at = errand->next;
}

/* What apply says, and never the node. */
static bool is_of_apply(enum status_code code)
{
	switch (code) {
	case STATUS_OK:
	case STATUS_COMPACTED:
	case STATUS_FUTURE_REVISION:
	case STATUS_LEASE_NOT_FOUND:
	case STATUS_LEASE_EXISTS:
	case STATUS_CORRUPT:
	case STATUS_KEY_NOT_FOUND:
		return true;
	default:
		return false;
	}
}

/* Where the record of a call stands; one that timed out may have got there by another way. */
static int64_t find_record(const struct sim *sim, uint64_t incarnation, uint64_t sequence)
{
	for (size_t at = 1; at < sim->oracle.count; at++)
		if (sim->oracle.places[at].incarnation == incarnation &&
		    sim->oracle.places[at].sequence == sequence)
			return (int64_t)at;
	return 0;
}

static void judge_write(struct errand *errand)
{
	struct sim *sim = errand->sim;
	struct call *call = errand->call;
	int64_t offset =
		is_of_apply(call->status.code) ? find_record(sim, errand->incarnation, call->sequence) : 0;
	const struct oracle_place *place = oracle_at(&sim->oracle, offset);
	uint8_t *packed;
	size_t len;

	if (!is_of_apply(call->status.code)) {
		sim->counts->lost++;
		return;
	}
	if (offset == 0) {
		broke(sim, "node %s has answered a write with %s that is not in the log",
		      errand->node->label, status_code_name(call->status.code));
		return;
	}
	if (call->status.code == STATUS_OK && !model_link_is_confirmed(errand->link, call->sequence))
		broke(sim, "the write at %" PRId64 " was acknowledged before the log had confirmed it",
		      offset);
	if (place->ignored)
		broke(sim, "the write at %" PRId64 " was acknowledged, and does not count", offset);
	if (place->status != call->status.code)
		broke(sim, "the write at %" PRId64 " was answered with %s instead of %s", offset,
		      status_code_name(call->status.code), status_code_name(place->status));
	if (offset > sim->acked_offset)
		sim->acked_offset = offset;
	if (place->revision > sim->acked_revision)
		sim->acked_revision = place->revision;
	if (call->status.code != STATUS_OK) {
		sim->counts->refused++;
		return;
	}
	packed = oracle_pack(call->response, &len);
	if (len != place->response_len || memcmp(packed, place->response, len) != 0)
		broke(sim, "the write at %" PRId64 " was answered in another way than a plain replay does",
		      offset);
	free(packed);
	sim->counts->acknowledged++;
}

static bool is_same_range(const Pb__RangeResponse *a, const Pb__RangeResponse *b)
{
	if (a->n_kvs != b->n_kvs || a->count != b->count || a->more != b->more)
		return false;
	for (size_t i = 0; i < a->n_kvs; i++) {
		size_t len = protobuf_c_message_get_packed_size(&a->kvs[i]->base);
		uint8_t left[1024], right[1024];

		if (len > sizeof left || len != protobuf_c_message_get_packed_size(&b->kvs[i]->base))
			return false;
		protobuf_c_message_pack(&a->kvs[i]->base, left);
		protobuf_c_message_pack(&b->kvs[i]->base, right);
		if (memcmp(left, right, len) != 0)
			return false;
	}
	return true;
}

static void judge_read(struct errand *errand)
{
	struct sim *sim = errand->sim;
	struct model *model = &sim->oracle.model;
	Pb__RangeRequest request = *(const Pb__RangeRequest *)errand->call->request;
	const Pb__RangeResponse *got = (const Pb__RangeResponse *)errand->call->response;
	Pb__RangeResponse *wanted = NULL;
	int64_t revision, compacted = model->compact_revision;

	if (errand->call->status.code == STATUS_COMPACTED) {
		if (request.revision == 0 || request.revision >= compacted)
			broke(sim, "node %s says that revision %" PRId64 " is compacted",
			      errand->node->label, request.revision);
		return;
	}
	if (errand->call->status.code != STATUS_OK) {
		sim->counts->lost++;
		return;
	}
	revision = got->header->revision;
	if (revision > model->revision) {
		broke(sim, "node %s has answered a read at revision %" PRId64 ", which there is not",
		      errand->node->label, revision);
		return;
	}
	if (!request.serializable) {
		sim->counts->reads++;
		if (revision < errand->floor_revision)
			broke(sim, "stale read on %s: at revision %" PRId64 " after %" PRId64,
			      errand->node->label, revision, errand->floor_revision);
		if (node_position(errand->node) < errand->floor_offset)
			broke(sim,
			      "stale read on %s: answered at %" PRId64 ", and %" PRId64
			      " was acknowledged before it began",
			      errand->node->label, node_position(errand->node), errand->floor_offset);
		if (revision > sim->acked_revision)
			sim->acked_revision = revision;
	} else {
		sim->counts->old_reads++;
	}
	request.revision = request.revision > 0 ? request.revision : revision;
	model->compact_revision = -1;
	arena_reset(&sim->oracle.arena);
	if (model_range(model, &request, &sim->oracle.arena, &wanted) != STATUS_OK ||
	    !is_same_range(got, wanted))
		broke(sim, "node %s has read something else at revision %" PRId64 " than there was",
		      errand->node->label, request.revision);
	model->compact_revision = compacted;
}

static void judge(struct errand *errand)
{
	struct sim *sim = errand->sim;

	tell(sim, "node %s: call of kind %d, number %" PRIu64 ", ends with %s%s", errand->node->label,
	     (int)errand->kind, errand->call->sequence, status_code_name(errand->call->status.code),
	     errand->node->dying ? " as the process does" : "");
	unlink_errand(errand);
	if (errand->node->dying)
		sim->counts->lost++;
	else if (is_tainted(sim, errand->node) || sim->scenario_mutes)
		sim->counts->lost++;
	else if (errand->kind >= KIND_RANGE)
		judge_read(errand);
	else
		judge_write(errand);
	call_free(errand->call);
	free(errand);
}

static void on_finish(struct call *call, bool slow)
{
	(void)slow;
	judge(call->edge);
}

static const struct call_ops CALL_OPS = {.finish = on_finish};

static ProtobufCBinaryData any_key(struct sim *sim, struct arena *arena)
{
	char key[2] = {(char)('a' + prng_below(&sim->prng, KEY_COUNT)), '\0'};

	return make_bytes(arena, key);
}

static Pb__PutRequest *any_put(struct sim *sim, struct node *node, struct arena *arena)
{
	Pb__PutRequest *put = make_put(arena, "", "");
	char value[40];

	snprintf(value, sizeof value, "%s%" PRId64, node->label, sim->step);
	put->key = any_key(sim, arena);
	put->value = make_bytes(arena, value);
	put->prev_kv = prng_chance(&sim->prng, 30);
	if (sim->oracle.model.lease_count > 0 && prng_chance(&sim->prng, 25))
		put->lease =
			sim->oracle.model
				.leases[prng_below(&sim->prng, (unsigned)sim->oracle.model.lease_count)]
				.id;
	return put;
}

/* Puts where the key is as the client's node has it, else deletes another. */
static Pb__TxnRequest *any_swap(struct sim *sim, struct node *node, struct arena *arena)
{
	Pb__TxnRequest *txn = make_txn(arena);
	Pb__Compare *compare = make_compare(arena, "", PB__COMPARE__COMPARE_TARGET__MOD,
	                                    PB__COMPARE__COMPARE_RESULT__LESS);
	Pb__PutRequest *put = any_put(sim, node, arena);
	Pb__DeleteRangeRequest *del = make_delete(arena, "", NULL);

	compare->key = put->key;
	compare->target_union_case = PB__COMPARE__TARGET_UNION_MOD_REVISION;
	compare->mod_revision = node->store->saved.revision - prng_below(&sim->prng, 6);
	del->key = any_key(sim, arena);
	del->prev_kv = true;
	txn_add_compare(arena, txn, compare);
	txn_add_success(arena, txn, &put->base);
	txn_add_failure(arena, txn, &del->base);
	return txn;
}

static Pb__RangeRequest *any_range(struct sim *sim, struct node *node, struct arena *arena, bool old)
{
	Pb__RangeRequest *range = make_range(arena, "", NULL);

	range->key = any_key(sim, arena);
	if (prng_chance(&sim->prng, 40))
		range->range_end = make_bytes(arena, "z");
	range->serializable = old;
	if (old && prng_chance(&sim->prng, 60))
		range->revision = node->store->saved.revision - prng_below(&sim->prng, 20);
	if (range->revision < 0)
		range->revision = 0;
	return range;
}

static int64_t any_lease(struct sim *sim)
{
	if (sim->oracle.lease_count == 0)
		return 1;
	if (prng_chance(&sim->prng, 80) && sim->oracle.model.lease_count > 0)
		return sim->oracle.model
		        .leases[prng_below(&sim->prng, (unsigned)sim->oracle.model.lease_count)]
		        .id;
	return sim->oracle.leases[prng_below(&sim->prng, (unsigned)sim->oracle.lease_count)].id;
}

static Pb__LeaseRenew *any_renewal(struct sim *sim, struct arena *arena)
{
	int64_t *ids = arena_calloc(arena, 2, sizeof *ids);

	ids[0] = any_lease(sim);
	ids[1] = any_lease(sim);
	return make_renew(arena, ids, 1 + prng_below(&sim->prng, 2));
}

static const ProtobufCMessage *make_request(struct errand *errand, const char **service,
                                            const char **method)
{
	struct sim *sim = errand->sim;
	struct node *node = errand->node;
	struct arena *arena = &errand->call->arena;

	*service = "KV";
	*method = NULL;
	switch (errand->kind) {
	case KIND_PUT:
		*method = "Put";
		return &any_put(sim, node, arena)->base;
	case KIND_DELETE:
		*method = "DeleteRange";
		{
			Pb__DeleteRangeRequest *del = make_delete(arena, "", NULL);

			del->key = any_key(sim, arena);
			if (prng_chance(&sim->prng, 10))
				del->range_end = make_bytes(arena, "z");
			return &del->base;
		}
	case KIND_SWAP:
		*method = "Txn";
		return &any_swap(sim, node, arena)->base;
	case KIND_COMPACT:
		*method = "Compact";
		{
			int64_t revision = node->store->saved.revision - prng_below(&sim->prng, 8);

			return &make_compaction(arena, revision > 1 ? revision : 1)->base;
		}
	case KIND_GRANT:
		*service = "Lease";
		*method = "LeaseGrant";
		if (prng_chance(&sim->prng, 10))
			return &make_grant(arena, any_lease(sim), 3)->base;
		return &make_grant(arena, ++sim->next_lease, 2 + prng_below(&sim->prng, 5))->base;
	case KIND_REVOKE:
		*service = "Lease";
		*method = "LeaseRevoke";
		return &make_revoke(arena, any_lease(sim))->base;
	case KIND_RENEW:
		return &any_renewal(sim, arena)->base;
	case KIND_RANGE:
	case KIND_OLD_RANGE:
		*method = "Range";
		return &any_range(sim, node, arena, errand->kind == KIND_OLD_RANGE)->base;
	}
	return NULL;
}

static size_t count_errands(const struct sim *sim, const struct node *node)
{
	size_t count = 0;

	for (const struct errand *it = sim->errands; it != NULL; it = it->next)
		count += node == NULL || it->node == node;
	return count;
}

static void start_errand(struct sim *sim, struct node *node, enum kind kind)
{
	struct errand *errand = calloc(1, sizeof *errand);
	const char *service, *method;

	assert(errand != NULL);
	*errand = (struct errand){.next = sim->errands,
	                          .sim = sim,
	                          .node = node,
	                          .link = node->link,
	                          .kind = kind,
	                          .incarnation = node->engine->incarnation,
	                          .began_ms = now_ms(),
	                          .floor_offset = sim->acked_offset,
	                          .floor_revision = sim->acked_revision};
	errand->call = call_new(&CALL_OPS, errand, 64 << 20);
	sim->errands = errand;
	sim->counts->calls++;
	errand->call->request = make_request(errand, &service, &method);
	if (prng_chance(&sim->prng, 5))
		errand->call->deadline_ms = now_ms() + 1 + prng_below(&sim->prng, 2000);
	tell(sim, "node %s: call of kind %d begins", node->label, (int)kind);
	if (kind == KIND_RENEW) {
		propose_own(node->engine, errand->call);
		return;
	}
	errand->call->method = method_by_name(service, method);
	assert(errand->call->method != NULL);
	if (call_start(node->engine, node->reader, errand->call))
		judge(errand);
	engine_reader_rest(node->reader);
}

static void be_client(struct sim *sim, struct node *node)
{
	static const enum kind KINDS[] = {KIND_PUT,   KIND_PUT,   KIND_PUT,      KIND_PUT,   KIND_DELETE,
	                                  KIND_SWAP,  KIND_SWAP,  KIND_COMPACT,  KIND_GRANT, KIND_RENEW,
	                                  KIND_RENEW, KIND_RENEW, KIND_REVOKE,   KIND_RANGE, KIND_RANGE,
	                                  KIND_RANGE, KIND_RANGE, KIND_OLD_RANGE};
	enum kind kind = KINDS[prng_below(&sim->prng, sizeof KINDS / sizeof KINDS[0])];

	if (count_errands(sim, node) >= PENDING_MAX)
		return;
	if (kind == KIND_GRANT && sim->oracle.model.lease_count >= SIM_LEASES_MAX)
		return;
	if (kind == KIND_REVOKE && prng_chance(&sim->prng, 50))
		return;
	if ((kind == KIND_RENEW || kind == KIND_GRANT) && !node_is_ready(node))
		return;
	start_errand(sim, node, kind);
}

/* ---- Faults ---- */

static void begin_outage(struct sim *sim)
{
	if (sim->kafka.out)
		return;
	sim->kafka.out = true;
	sim->out_since_ms = now_ms();
	sim->out_until_ms =
		now_ms() + 300 + prng_below(&sim->prng, prng_chance(&sim->prng, 50) ? 2000 : 12000);
	sim->counts->outages++;
	tell(sim, "Kafka is out");
}

static void end_outage(struct sim *sim)
{
	if (!sim->kafka.out)
		return;
	sim->silent_ms += count_silent(sim->out_since_ms);
	sim->kafka.out = false;
	tell(sim, "Kafka is back");
}

static void start_node(struct sim *sim, struct node *node)
{
	node->incarnation = (prng_next(&sim->prng) >> 2) | 1;
	node->claimed = 0;
	tell(sim, "node %s starts as %" PRIx64, node->label, node->incarnation);
	node_start(node);
}

static void crash(struct sim *sim, struct node *node)
{
	static const enum node_end ENDS[] = {NODE_KILL,      NODE_KILL, NODE_KILL, NODE_POWER_CUT,
	                                     NODE_POWER_CUT, NODE_WIPE, NODE_STOP};
	enum node_end how = ENDS[prng_below(&sim->prng, sizeof ENDS / sizeof ENDS[0])];

	if (node->phase == NODE_DOWN || node->phase == NODE_REFUSED || is_tainted(sim, node))
		return;
	tell(sim, "node %s ends: %d", node->label, (int)how);
	sim->counts->kills += how == NODE_KILL;
	sim->counts->power_cuts += how == NODE_POWER_CUT;
	sim->counts->wipes += how == NODE_WIPE;
	sim->counts->stops += how == NODE_STOP;
	node_end(node, how);
	if (prng_chance(&sim->prng, 25))
		sim->away_until[index_of(sim, node)] = sim->step + 800;
}

static void elect(struct sim *sim, struct node *node)
{
	if (node->link == NULL)
		return;
	if (node == sim->victim)
		return;
	sim->counts->elections++;
	for (int i = 0; i < sim->node_count; i++)
		if (sim->nodes[i].link != NULL)
			model_link_give_hint(sim->nodes[i].link,
			                     &sim->nodes[i] != sim->victim && prng_chance(&sim->prng, 35));
	model_link_give_hint(node->link, true);
	tell(sim, "node %s is to lead", node->label);
}

/* ---- The scheduler ---- */

static void run_node(struct sim *sim, struct node *node, unsigned dice)
{
	if (node->phase == NODE_DOWN) {
		if (dice < 200 && sim->step >= sim->away_until[index_of(sim, node)])
			start_node(sim, node);
	} else if (node->phase == NODE_LOOK || node->phase == NODE_REBUILD) {
		node_boot_turn(node);
	} else if (node->phase == NODE_RUN && dice < 320) {
		node_apply(node, 1 + prng_below(&sim->prng, 6));
	} else if (node->phase == NODE_RUN && dice < 640) {
		node_keep_house(node);
		if (node->phase == NODE_RUN)
			node_lead(node);
		check_leader(sim, node);
	} else if (node->phase == NODE_RUN && dice < 660) {
		node_guard(node);
	} else if (node->phase == NODE_RUN && dice < 676) {
		engine_request_checkpoint(node->engine);
	} else if (node->phase == NODE_RUN && dice < 684) {
		node_copy(node);
	} else if (node->phase == NODE_RUN) {
		be_client(sim, node);
	}
}

static void move_network(struct sim *sim, struct node *node)
{
	if (prng_chance(&sim->prng, 4))
		model_kafka_deliver_late(&sim->kafka);
	if (node->link == NULL)
		return;
	model_link_expire(node->link);
	for (unsigned i = prng_below(&sim->prng, 4); i > 0; i--) {
		if (prng_chance(&sim->prng, 60))
			model_link_deliver(node->link);
		else if (node->phase == NODE_RUN)
			model_link_confirm(node->link);
	}
}

static void disturb(struct sim *sim, struct node *node)
{
	unsigned dice = prng_below(&sim->prng, 1000);

	if (dice < 60) {
		crash(sim, node);
	} else if (dice < 200) {
		elect(sim, node);
	} else if (dice < 350) {
		model_kafka_show(&sim->kafka, (enum table)prng_below(&sim->prng, TABLE_COUNT));
		model_kafka_show(&sim->kafka, TABLE_MARKERS);
	} else if (dice < (node->paused ? 900U : 420U)) {
		node->paused = !node->paused;
		sim->counts->pauses += node->paused;
		tell(sim, "node %s %s", node->label, node->paused ? "is paused" : "goes on");
	} else if (dice < 435) {
		begin_outage(sim);
	} else if (dice < 443 && node->link != NULL) {
		model_link_cut(node->link, true);
		sim->counts->cuts++;
		tell(sim, "node %s is cut off", node->label);
	} else if (dice < 620 && node->link != NULL) {
		model_link_cut(node->link, false);
	} else if (dice < 640) {
		pass_time(prng_below(&sim->prng, 4000));
		sim->counts->leaps++;
	} else if (dice < 700) {
		model_kafka_settle_late(&sim->kafka);
	}
}

static void play(struct sim *sim);

static void step(struct sim *sim)
{
	struct node *node = &sim->nodes[prng_below(&sim->prng, (unsigned)sim->node_count)];
	unsigned dice = prng_below(&sim->prng, 1000);

	sim->step++;
	sim->counts->steps++;
	pass_time(prng_below(&sim->prng, 13));
	if (sim->kafka.out && now_ms() >= sim->out_until_ms)
		end_outage(sim);
	if (sim->held[index_of(sim, node)])
		return;
	play(sim);
	if (sim->broken || sim->held[index_of(sim, node)] || index_of(sim, node) >= sim->node_count)
		return;
	if (dice < 45)
		disturb(sim, node);
	else if (dice < 350)
		move_network(sim, node); /* also while the node is paused: the network holds its requests */
	else if (!node->paused)
		run_node(sim, node, prng_below(&sim->prng, 1000));
	else if (node->phase == NODE_RUN && prng_chance(&sim->prng, 5))
		node_lead(node); /* what a thread was about to do when the process was stopped */
}

/* ---- What befalls a run ---- */

static void round_of_all(struct sim *sim, int round);

/* What was lost may have been sent again, byte for byte and in the same order. */
static bool is_still_other(struct sim *sim, struct node *node)
{
	const struct oracle_place *place = oracle_at(&sim->oracle, node_position(node));
	struct content content = {0};

	store_sum(node->store, &content);
	return place == NULL || place->sum != content.sum;
}

/* A log that is another one and has grown past the node's position between two looks may go unnoticed. */
static void note_unnoticed(struct sim *sim, struct node *node)
{
	sim->counts->unnoticed++;
	if (node_position(node) == sim->old_position[index_of(sim, node)])
		broke(sim, "node %s is where it was, and does not see that the log is another one",
		      node->label);
}

/* Whoever has applied what was lost finds out and stops, as may those who read what it wrote; the others
 * agree. */
static void check_lost_tail(struct sim *sim)
{
	for (int round = 0; round < 1500 && !sim->broken; round++)
		round_of_all(sim, round);
	for (int i = 0; i < sim->node_count && !sim->broken; i++) {
		struct node *node = &sim->nodes[i];

		if (sim->tainted[i] && node->phase != NODE_REFUSED && node->store != NULL &&
		    is_still_other(sim, node))
			note_unnoticed(sim, node);
		if (node->phase == NODE_REFUSED && node->refused != STATUS_BAD_LOG)
			broke(sim, "node %s has given up: %s", node->label,
			      status_code_name(node->refused));
	}
}

static struct node *any_running(struct sim *sim)
{
	struct node *node = &sim->nodes[prng_below(&sim->prng, 3)];

	return node->phase == NODE_RUN && !sim->held[index_of(sim, node)] && node_is_ready(node) ? node
	                                                                                         : NULL;
}

/* Its files are tampered with: what it says counts for nothing until it is built anew. */
static bool diverge(struct sim *sim)
{
	struct node *node = any_running(sim);

	if (node == NULL || node->engine->leading || sim->counts->checkpoints < 0)
		return false;
	sim->victim = node;
	sim->victim_rebuilds = node->rebuilds;
	sim->tainted[index_of(sim, node)] = true;
	node->store->saved.hash ^= 4711;
	node->store->view.state.hash = node->store->saved.hash;
	sqlite3_exec(node->store->view.db, "UPDATE current SET value = 'tampered'", NULL, NULL, NULL);
	model_link_give_hint(node->link, false);
	sim->counts->diverged++;
	tell(sim, "the state of node %s becomes another", node->label);
	return true;
}

static bool lose_tail(struct sim *sim)
{
	size_t count = 1 + prng_below(&sim->prng, 6);
	int64_t end = (int64_t)sim->kafka.count - (int64_t)count;

	if (end < sim->kafka.first + 5 || marker_offset(sim) > end)
		return false;
	for (int i = 0; i < sim->node_count; i++)
		if (sim->held[i] || sim->nodes[i].phase == NODE_REBUILD || sim->nodes[i].phase == NODE_LOOK)
			return false;
	model_kafka_lose_tail(&sim->kafka, count);
	oracle_rewind(&sim->oracle);
	for (int i = 0; i < sim->node_count; i++) {
		if (sim->nodes[i].phase == NODE_DOWN)
			node_end(&sim->nodes[i], NODE_WIPE); /* nobody knows what is on its disk */
		sim->tainted[i] |= node_position(&sim->nodes[i]) > end;
		sim->old_position[i] = node_position(&sim->nodes[i]);
	}
	sim->acked_offset = 0;
	sim->acked_revision = 0;
	sim->scenario_mutes = true;
	sim->counts->lost_tails++;
	tell(sim, "the log's tail behind %" PRId64 " is lost", end);
	return true;
}

static void append_foreign(struct sim *sim, const ProtobufCMessage *request, uint64_t cluster_id,
                           uint64_t sequence)
{
	Pb__Record rec;
	struct buf packed;

	pb__record__init(&rec);
	record_set_request(&rec, request);
	rec.cluster_id = cluster_id;
	rec.member_id = 77;
	rec.incarnation = 7;
	rec.sequence = sequence;
	buf_init(&packed);
	record_pack(&rec, 1, &packed);
	model_kafka_append(&sim->kafka, packed.data, packed.len);
	buf_release(&packed);
}

/* Another cluster's log in the place of this one's, or an empty one. */
static bool recreate(struct sim *sim)
{
	Pb__Genesis genesis = PB__GENESIS__INIT;
	Pb__Join founding = PB__JOIN__INIT;
	Pb__PutRequest *put = make_put(&sim->oracle.arena, "foreign", "1");
	unsigned records = prng_chance(&sim->prng, 40) ? 0 : prng_below(&sim->prng, 300);

	for (int i = 0; i < sim->node_count; i++) {
		const struct node *node = &sim->nodes[i];

		if (sim->held[i] || node->phase != NODE_RUN || node_position(node) < 10)
			return false;
	}
	for (int i = 0; i < sim->node_count; i++)
		sim->old_position[i] = node_position(&sim->nodes[i]);
	sim->kafka.on_record = NULL;
	sim->kafka.on_commit = NULL;
	sim->scenario_mutes = true;
	model_kafka_recreate(&sim->kafka);
	genesis.cluster_id = 4711;
	genesis.member_name = (char *)(uintptr_t) "foreign";
	founding.name = genesis.member_name;
	founding.number = 1;
	founding.level = 1;
	founding.version = genesis.member_name;
	if (records > 0)
		append_foreign(sim, &genesis.base, 0, 1);
	if (records > 0)
		append_foreign(sim, &founding.base, 4711, 1);
	for (unsigned i = 0; i < records; i++)
		append_foreign(sim, &put->base, 4711, 2 + i);
	sim->counts->recreated++;
	tell(sim, "the log is another one, with %u records", records);
	return true;
}

static bool poison(struct sim *sim)
{
	static const char bytes[] = "KETA is not what this is";

	if (sim->kafka.count < 8)
		return false;
	sim->poison_offset = model_kafka_append(&sim->kafka, bytes, sizeof bytes);
	plants_poison(&sim->nodes[0], sim->poison_offset);
	sim->counts->poisons++;
	return true;
}

/* The operator has seen that no node goes on. */
static void pass_over_poison(struct sim *sim)
{
	tell(sim, "the operator says to pass over %" PRId64, sim->poison_offset);
	sim->skip_offset = sim->poison_offset;
	for (int i = 0; i < sim->node_count; i++) {
		sim->nodes[i].config.log_skip_offset = sim->poison_offset;
		if (!sim->held[i] && sim->nodes[i].phase != NODE_DOWN)
			node_end(&sim->nodes[i], NODE_STOP);
	}
}

/* One node after the other gets the newer version; one more, an old one, joins in between. */
static bool upgrade(struct sim *sim)
{
	struct node *node = &sim->nodes[prng_below(&sim->prng, (unsigned)sim->node_count)];

	if (sim->held[index_of(sim, node)] || node->phase == NODE_DOWN)
		return false;
	if (node->max_level == 1 && node->phase == NODE_REFUSED && node->refused != STATUS_NEWER_RECORD)
		broke(sim, "node %s has given up: %s", node->label, status_code_name(node->refused));
	node_end(node, NODE_STOP);
	node->max_level = 2;
	sim->counts->upgrades++;
	tell(sim, "node %s is upgraded", node->label);
	return true;
}

/* Who knows the newer level asks for it, at a checkpoint. */
static void let_newer_lead(struct sim *sim)
{
	for (int i = 0; i < sim->node_count; i++)
		if (sim->nodes[i].phase == NODE_RUN && sim->nodes[i].max_level == 2) {
			elect(sim, &sim->nodes[i]);
			engine_request_checkpoint(sim->nodes[i].engine);
			return;
		}
}

/* The fourth node has the name of the first, on a disk of its own. */
static bool start_twin(struct sim *sim)
{
	struct node *twin = &sim->nodes[3];

	if (sim->nodes[0].phase != NODE_RUN || !node_is_ready(&sim->nodes[0]) || sim->held[0])
		return false;
	node_init(twin, &sim->kafka, sim->dir, "D");
	snprintf(twin->name, sizeof twin->name, "%s", sim->nodes[0].name);
	twin->config.name = twin->name;
	twin->max_level = 2;
	twin->on_position = on_position;
	twin->listener = sim;
	sim->node_count = 4;
	sim->counts->twin_names++;
	return true;
}

/* Of two of one name the older gives up. The operator sees it, and removes the newer. */
static void end_twin(struct sim *sim)
{
	int refused = 0;

	for (int i = 0; i < sim->node_count; i++)
		refused += sim->nodes[i].phase == NODE_REFUSED && sim->nodes[i].refused == STATUS_REPLACED;
	if (refused == 0 || sim->held[0] || sim->held[3])
		return;
	node_end(&sim->nodes[3], NODE_WIPE);
	sim->node_count = 3;
	if (sim->nodes[0].phase == NODE_REFUSED)
		node_end(&sim->nodes[0], NODE_STOP);
	sim->act = ACT_OVER;
}

static bool spoil_disk(struct sim *sim)
{
	struct fault fault = {
		.calls = FAULT_WRITE | FAULT_SYNC | (prng_chance(&sim->prng, 50) ? FAULT_READ : 0U),
		.at = 1 + prng_below(&sim->prng, 20),
		.from_then_on = prng_chance(&sim->prng, 60),
		.code = prng_chance(&sim->prng, 50) ? SQLITE_FULL : SQLITE_IOERR,
	};

	fault_vfs_plan(&fault);
	sim->counts->disk_faults++;
	tell(sim, "the disk of node %s fails", sim->nodes[0].name);
	return true;
}

static bool begin_act(struct sim *sim)
{
	switch (sim->scenario) {
	case SCENARIO_UPGRADE:
		return upgrade(sim);
	case SCENARIO_POISON:
		return poison(sim);
	case SCENARIO_DIVERGED:
		return diverge(sim);
	case SCENARIO_TWIN_NAME:
		return start_twin(sim);
	case SCENARIO_LOST_TAIL:
		return lose_tail(sim);
	case SCENARIO_RECREATED:
		return recreate(sim);
	case SCENARIO_BAD_DISK:
		return spoil_disk(sim);
	case SCENARIO_PLAIN:
	case SCENARIO_COUNT:
		break;
	}
	return false;
}

/* The victim has been built anew: it counts again. */
static void look_after_victim(struct sim *sim)
{
	if (sim->victim == NULL)
		return;
	if (sim->victim->link != NULL)
		model_link_give_hint(sim->victim->link, false);
	if (sim->victim->rebuilds == sim->victim_rebuilds)
		return;
	sim->tainted[index_of(sim, sim->victim)] = false;
	sim->victim = NULL;
	sim->act = ACT_OVER;
}

static void play(struct sim *sim)
{
	if (sim->scenario == SCENARIO_PLAIN)
		return;
	look_after_victim(sim);
	if (sim->act == ACT_BEFORE && sim->step > 400 && prng_below(&sim->prng, 100) == 0 &&
	    begin_act(sim)) {
		sim->act = ACT_GOING;
		sim->act_step = sim->step;
	} else if (sim->act == ACT_GOING && sim->scenario == SCENARIO_TWIN_NAME) {
		end_twin(sim);
	} else if (sim->act == ACT_GOING && sim->scenario == SCENARIO_UPGRADE &&
	           prng_below(&sim->prng, 60) == 0) {
		let_newer_lead(sim);
	} else if (sim->act == ACT_GOING && prng_below(&sim->prng, 300) == 0) {
		if (sim->scenario == SCENARIO_POISON && sim->skip_offset == 0)
			pass_over_poison(sim);
		else if (sim->scenario == SCENARIO_UPGRADE)
			upgrade(sim);
		else if (sim->scenario == SCENARIO_BAD_DISK && prng_chance(&sim->prng, 50))
			fault_vfs_plan(NULL);
		else if (sim->scenario == SCENARIO_BAD_DISK)
			spoil_disk(sim);
	}
}

/* What an operator does once all else is well again. */
static void repair(struct sim *sim)
{
	switch (sim->scenario) {
	case SCENARIO_POISON:
		if (sim->poison_offset > 0 && sim->skip_offset == 0)
			pass_over_poison(sim);
		break;
	case SCENARIO_UPGRADE:
		for (int i = 0; i < sim->node_count; i++) {
			if (sim->nodes[i].phase == NODE_REFUSED &&
			    sim->nodes[i].refused != STATUS_NEWER_RECORD)
				broke(sim, "node %s has given up: %s", sim->nodes[i].label,
				      status_code_name(sim->nodes[i].refused));
			if (sim->nodes[i].phase == NODE_REFUSED || sim->nodes[i].max_level == 1)
				node_end(&sim->nodes[i], NODE_STOP);
			sim->nodes[i].max_level = 2;
		}
		break;
	case SCENARIO_TWIN_NAME:
		for (int round = 0; round < 2000 && sim->node_count == 4 && !sim->broken; round++) {
			round_of_all(sim, round);
			end_twin(sim);
		}
		if (sim->node_count == 4)
			broke(sim, "of two nodes of one name none gives up");
		break;
	case SCENARIO_BAD_DISK:
		fault_vfs_plan(NULL);
		break;
	default:
		break;
	}
}

/* Another one leads, and writes a checkpoint, while this one stands still. */
static void replace_leader(struct sim *sim, int at)
{
	struct node *node = &sim->nodes[(at + 1) % sim->node_count];

	elect(sim, node);
	if (node->phase == NODE_RUN)
		engine_request_checkpoint(node->engine);
}

/* A process is stopped while it waits for Kafka; the others go on. */
static void on_wait(void *arg, const struct model_link *link)
{
	struct sim *sim = arg;
	bool commits = model_link_is_writing(link);
	bool replaced = commits || prng_chance(&sim->prng, 50);
	int at = 0;

	if (sim->is_holding || sim->is_ending || !prng_chance(&sim->prng, commits ? 20 : 6))
		return;
	while (at < sim->node_count && sim->nodes[at].link != link)
		at++;
	if (at == sim->node_count)
		return;
	sim->counts->stalls++;
	tell(sim, "node %s is stopped in the middle", sim->nodes[at].label);
	sim->is_holding = sim->held[at] = true;
	for (unsigned i = prng_below(&sim->prng, replaced ? 2400 : 400); i > 0 && !sim->broken; i--) {
		if (replaced && i % 300 == 299)
			replace_leader(sim, at);
		step(sim);
	}
	sim->is_holding = sim->held[at] = false;
	tell(sim, "node %s goes on in the middle", sim->nodes[at].label);
}

/* ---- The end ---- */

static void heal(struct sim *sim)
{
	sim->is_ending = true;
	end_outage(sim);
	for (int i = 0; i < sim->node_count; i++) {
		sim->nodes[i].paused = false;
		if (sim->nodes[i].link != NULL)
			model_link_cut(sim->nodes[i].link, false);
	}
}

/* All do what they have to. */
static void round_of_all(struct sim *sim, int round)
{
	struct node *hinted = &sim->nodes[round / 100 % sim->node_count];

	pass_time(ROUND_MS);
	model_kafka_show_all(&sim->kafka);
	model_kafka_deliver_late(&sim->kafka);
	for (int i = 0; i < sim->node_count && !sim->broken; i++) {
		struct node *node = &sim->nodes[i];

		if (node->phase == NODE_DOWN)
			start_node(sim, node);
		if (node->phase == NODE_LOOK || node->phase == NODE_REBUILD)
			node_boot_turn(node);
		if (node->link != NULL && round % 100 == 0)
			model_link_give_hint(node->link, node == hinted && node != sim->victim);
		for (int j = 0; j < 30 && node->link != NULL && model_link_waiting(node->link) > 0; j++) {
			model_link_expire(node->link);
			model_link_deliver(node->link);
			if (node->phase == NODE_RUN)
				model_link_confirm(node->link);
		}
		if (node->phase == NODE_RUN)
			node_apply(node, 1000);
		if (node->phase == NODE_RUN)
			node_keep_house(node);
		if (node->phase == NODE_RUN)
			node_lead(node);
		check_leader(sim, node);
		if (node->phase == NODE_RUN)
			node_guard(node);
	}
}

static bool is_calm(const struct sim *sim)
{
	bool leads = false;

	/* Of a corrupt cluster no lease ends. */
	if ((sim->oracle.model.lease_count > 0 && !sim->oracle.model.corrupt) || sim->errands != NULL ||
	    sim->kafka.limbo.count > 0)
		return false;
	for (int i = 0; i < sim->node_count; i++) {
		const struct node *node = &sim->nodes[i];

		if (!node_is_ready(node) || node_position(node) != (int64_t)sim->kafka.count)
			return false;
		leads |= node->engine->leading;
	}
	return leads;
}

static void complain(struct sim *sim)
{
	for (int i = 0; i < sim->node_count; i++) {
		struct node *node = &sim->nodes[i];

		if (node->phase == NODE_REFUSED)
			broke(sim, "at the end node %s has given up: %s", node->label,
			      status_code_name(node->refused));
		else if (!node_is_ready(node))
			broke(sim, "at the end node %s is not ready (phase %d)", node->label,
			      (int)node->phase);
	}
	if (sim->errands != NULL)
		broke(sim, "at the end %zu calls have not ended, the first on %s of kind %d",
		      count_errands(sim, NULL), sim->errands->node->label, (int)sim->errands->kind);
	if (sim->oracle.model.lease_count > 0)
		broke(sim, "at the end lease %" PRId64 " has not ended", sim->oracle.model.leases[0].id);
	broke(sim, "at the end the cluster does not come to rest");
}

static void settle(struct sim *sim)
{
	int round = 0;

	while (!sim->broken && round < ROUNDS_MAX && !is_calm(sim))
		round_of_all(sim, round++);
	if (!sim->broken && !is_calm(sim))
		complain(sim);
	for (int i = 0; i < sim->node_count && !sim->broken; i++)
		check_node(sim, &sim->nodes[i], true);
}

/* An empty node comes up from what there is, whatever it is. */
static void prove_rebuild(struct sim *sim)
{
	struct node *node = &sim->nodes[prng_below(&sim->prng, (unsigned)sim->node_count)];

	for (int i = 0; i < sim->node_count; i++)
		engine_request_checkpoint(sim->nodes[i].engine);
	for (int round = 0; round < 20 && !sim->broken; round++)
		round_of_all(sim, 1);
	if (sim->broken || node->phase != NODE_RUN)
		return;
	tell(sim, "node %s is to come up from nothing", node->label);
	node_end(node, NODE_WIPE);
	settle(sim);
}

/* Of another log in the place of theirs all nodes find out, and apply nothing. */
static void check_refusals(struct sim *sim)
{
	for (int round = 0; round < 1500 && !sim->broken; round++)
		round_of_all(sim, round);
	for (int i = 0; i < sim->node_count && !sim->broken; i++) {
		struct node *node = &sim->nodes[i];

		if (node->phase == NODE_REFUSED && node->refused != STATUS_BAD_LOG)
			broke(sim, "node %s has given up: %s", node->label,
			      status_code_name(node->refused));
		if (node->phase != NODE_REFUSED)
			note_unnoticed(sim, node);
	}
}

static void set_up(struct sim *sim, const char *dir)
{
	static const char *const NAMES[NODES_MAX] = {"A", "B", "C", "D"};

	clock_now_us = INT64_C(1000000000);
	clock_replace(read_monotonic, read_wall);
	prng_init(&sim->prng, sim->options->seed * 7919 + 17);
	model_kafka_init(&sim->kafka, &sim->prng, now_ms);
	oracle_init(&sim->oracle, &sim->kafka);
	sim->kafka.on_record = on_record;
	sim->kafka.on_commit = on_commit;
	sim->kafka.on_trim = on_trim;
	sim->kafka.on_wait = on_wait;
	sim->kafka.listener = sim;
	sim->node_count = 3;
	sim->scenario = prng_chance(&sim->prng, 55) ? SCENARIO_PLAIN
	                                            : (enum scenario)prng_below(&sim->prng, SCENARIO_COUNT);
	for (int i = 0; i < sim->node_count; i++) {
		struct node *node = &sim->nodes[i];

		node_init(node, &sim->kafka, dir, NAMES[i]);
		node_end(node, NODE_WIPE);
		node->on_position = on_position;
		node->listener = sim;
		node->config.checkpoint_interval_ms = 1500 + prng_below(&sim->prng, 5000);
		node->max_level = sim->scenario == SCENARIO_UPGRADE ? 1 : 2;
	}
	if (sim->scenario == SCENARIO_BAD_DISK) {
		fault_vfs_start(sim->nodes[0].dir);
		sim->nodes[0].vfs = FAULT_VFS;
	}
	plants_begin(&sim->kafka, sim->nodes, sim->node_count);
}

static void tear_down(struct sim *sim)
{
	for (int i = 0; i < sim->node_count; i++) {
		sim->counts->rebuilds += sim->nodes[i].rebuilds;
		sim->counts->gaps += sim->nodes[i].gaps;
		node_end(&sim->nodes[i], NODE_WIPE);
	}
	sim->counts->twins += sim->kafka.counts.twins;
	sim->counts->overtaken += sim->kafka.counts.overtaken;
	sim->counts->late += sim->kafka.counts.late;
	sim->counts->timeouts += sim->kafka.counts.timeouts;
	sim->counts->checkpoints += sim->kafka.counts.commits;
	sim->counts->fenced += sim->kafka.counts.fenced;
	sim->counts->unknown_commits += sim->kafka.counts.unknown_commits;
	sim->counts->trims += sim->kafka.counts.trims;
	model_kafka_release(&sim->kafka);
	oracle_release(&sim->oracle);
	clock_replace(NULL, NULL);
}

bool sim_run(const struct sim_options *options, const char *dir, struct sim_counts *counts)
{
	struct sim *sim = calloc(1, sizeof *sim);
	bool held;

	assert(sim != NULL);
	sim->options = options;
	sim->counts = counts;
	sim->dir = dir;
	set_up(sim, dir);
	while (!sim->broken && !sim->over && sim->step < options->steps)
		step(sim);
	if (!sim->broken)
		heal(sim);
	if (sim->over) {
		/* It is. */
	} else if (!sim->broken && sim->scenario == SCENARIO_RECREATED && sim->act != ACT_BEFORE) {
		check_refusals(sim);
	} else if (!sim->broken && sim->scenario == SCENARIO_LOST_TAIL && sim->act != ACT_BEFORE) {
		check_lost_tail(sim);
	} else {
		if (!sim->broken)
			repair(sim);
		if (!sim->broken)
			settle(sim);
		if (!sim->broken)
			prove_rebuild(sim);
	}
	held = !sim->broken;
	tear_down(sim);
	free(sim);
	return held;
}
