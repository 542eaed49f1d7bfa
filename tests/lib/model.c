/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "record.pb-c.h"
#include "state/quota.h"
#include "state/store.h"

void model_init(struct model *model)
{
	*model = (struct model){.revision = 1, .compact_revision = -1, .offset = 1};
}

void model_release(struct model *model)
{
	for (size_t i = 0; i < model->key_count; i++) {
		for (size_t j = 0; j < model->keys[i].count; j++)
			free(model->keys[i].versions[j].value);
		free(model->keys[i].versions);
		free(model->keys[i].key);
	}
	free(model->keys);
}

static int compare_bytes(const uint8_t *a, size_t a_len, const uint8_t *b, size_t b_len)
{
	for (size_t i = 0; i < a_len && i < b_len; i++)
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	return (a_len > b_len) - (a_len < b_len);
}

static struct model_key *find_key(struct model *model, ProtobufCBinaryData key)
{
	size_t at = 0;

	while (at < model->key_count &&
	       compare_bytes(model->keys[at].key, model->keys[at].key_len, key.data, key.len) < 0)
		at++;
	if (at < model->key_count &&
	    compare_bytes(model->keys[at].key, model->keys[at].key_len, key.data, key.len) == 0)
		return &model->keys[at];
	if (model->key_count == model->key_size) {
		model->key_size = model->key_size == 0 ? 64 : model->key_size * 2;
		model->keys = realloc(model->keys, model->key_size * sizeof *model->keys);
		assert(model->keys != NULL);
	}
	memmove(&model->keys[at + 1], &model->keys[at], (model->key_count - at) * sizeof *model->keys);
	model->key_count++;
	model->keys[at] = (struct model_key){.key = malloc(key.len + 1), .key_len = key.len};
	assert(model->keys[at].key != NULL);
	memcpy(model->keys[at].key, key.data, key.len);
	return &model->keys[at];
}

static void add_version(struct model *model, struct model_key *key, struct model_version version,
                        ProtobufCBinaryData value)
{
	if (key->count == key->size) {
		key->size = key->size == 0 ? 8 : key->size * 2;
		key->versions = realloc(key->versions, key->size * sizeof *key->versions);
		assert(key->versions != NULL);
	}
	version.value = malloc(value.len + 1);
	assert(version.value != NULL);
	if (value.len > 0)
		memcpy(version.value, value.data, value.len);
	version.value_len = value.len;
	version.mod = model->revision + 1;
	version.order = ++model->order;
	key->versions[key->count++] = version;
	model->changes++;
}

static void undo(struct model *model)
{
	for (size_t i = 0; i < model->key_count; i++) {
		struct model_key *key = &model->keys[i];

		while (key->count > 0 && key->versions[key->count - 1].mod > model->revision)
			free(key->versions[--key->count].value);
	}
	model->changes = 0;
}

const struct model_version *model_visible(const struct model_key *key, int64_t revision)
{
	const struct model_version *newest = NULL;

	for (size_t i = 0; i < key->count; i++)
		if (key->versions[i].mod <= revision)
			newest = &key->versions[i];
	return newest == NULL || newest->deleted ? NULL : newest;
}

static int64_t current_revision(const struct model *model)
{
	return model->revision + (model->changes > 0 ? 1 : 0);
}

bool model_in_span(const struct model_key *key, ProtobufCBinaryData begin, ProtobufCBinaryData end)
{
	int order = compare_bytes(key->key, key->key_len, begin.data, begin.len);

	if (end.len == 0)
		return order == 0;
	if (order < 0)
		return false;
	return (end.len == 1 && end.data[0] == 0) ||
	       compare_bytes(key->key, key->key_len, end.data, end.len) < 0;
}

Pb__KeyValue *model_kv(const struct model_key *key, const struct model_version *version,
                       struct arena *arena)
{
	Pb__KeyValue *kv = arena_alloc(arena, sizeof *kv);

	pb__key_value__init(kv);
	kv->key = (ProtobufCBinaryData){key->key_len, arena_copy(arena, key->key, key->key_len)};
	kv->create_revision = version->created;
	kv->mod_revision = version->mod;
	kv->version = version->version;
	kv->lease = version->lease;
	if (version->value_len > 0)
		kv->value = (ProtobufCBinaryData){version->value_len,
		                                  arena_copy(arena, version->value, version->value_len)};
	return kv;
}

static Pb__ResponseHeader *make_header(int64_t revision, struct arena *arena)
{
	Pb__ResponseHeader *header = arena_alloc(arena, sizeof *header);

	pb__response_header__init(header);
	header->revision = revision;
	return header;
}

static bool is_filtered_out(const Pb__RangeRequest *request, const Pb__KeyValue *kv)
{
	if (request->min_mod_revision != 0 && kv->mod_revision < request->min_mod_revision)
		return true;
	if (request->max_mod_revision != 0 && kv->mod_revision > request->max_mod_revision)
		return true;
	if (request->min_create_revision != 0 && kv->create_revision < request->min_create_revision)
		return true;
	return request->max_create_revision != 0 && kv->create_revision > request->max_create_revision;
}

static int64_t difference(const Pb__RangeRequest *request, const Pb__KeyValue *a, const Pb__KeyValue *b)
{
	switch (request->sort_target) {
	case PB__RANGE_REQUEST__SORT_TARGET__VERSION:
		return a->version - b->version;
	case PB__RANGE_REQUEST__SORT_TARGET__CREATE:
		return a->create_revision - b->create_revision;
	case PB__RANGE_REQUEST__SORT_TARGET__MOD:
		return a->mod_revision - b->mod_revision;
	case PB__RANGE_REQUEST__SORT_TARGET__VALUE:
		return compare_bytes(a->value.data, a->value.len, b->value.data, b->value.len);
	default:
		return compare_bytes(a->key.data, a->key.len, b->key.data, b->key.len);
	}
}

/* Insertion sort: equal ones stay in the order of their keys. */
static void sort(const Pb__RangeRequest *request, Pb__KeyValue **kvs, size_t count)
{
	bool descending = request->sort_order == PB__RANGE_REQUEST__SORT_ORDER__DESCEND;

	for (size_t i = 1; i < count; i++) {
		Pb__KeyValue *moving = kvs[i];
		size_t at = i;

		while (at > 0) {
			int64_t order = difference(request, kvs[at - 1], moving);

			if (descending ? order >= 0 : order <= 0)
				break;
			kvs[at] = kvs[at - 1];
			at--;
		}
		kvs[at] = moving;
	}
}

static enum status_code check_revision(const struct model *model, int64_t revision, int64_t current)
{
	if (revision > current)
		return STATUS_FUTURE_REVISION;
	return revision > 0 && revision < model->compact_revision ? STATUS_COMPACTED : STATUS_OK;
}

/* etcd reads one row more than the limit when it takes the order of the keys for
 * the one asked for; what it then sorts are those rows only. */
static size_t rows_read(const Pb__RangeRequest *request)
{
	bool by_key = request->sort_target == PB__RANGE_REQUEST__SORT_TARGET__KEY;
	bool in_order = request->sort_order == PB__RANGE_REQUEST__SORT_ORDER__NONE ||
	                (by_key && request->sort_order == PB__RANGE_REQUEST__SORT_ORDER__ASCEND);
	bool filters = request->min_mod_revision != 0 || request->max_mod_revision != 0 ||
	               request->min_create_revision != 0 || request->max_create_revision != 0;

	return in_order && !filters && request->limit > 0 ? (size_t)request->limit + 1 : SIZE_MAX;
}

enum status_code model_range(const struct model *model, const Pb__RangeRequest *request,
                             struct arena *arena, Pb__RangeResponse **out)
{
	int64_t current = current_revision(model);
	int64_t revision = request->revision > 0 ? request->revision : current;
	enum status_code status = check_revision(model, request->revision, current);
	Pb__RangeResponse *response = arena_alloc(arena, sizeof *response);

	if (status != STATUS_OK)
		return status;
	pb__range_response__init(response);
	response->header = make_header(current, arena);
	response->kvs = arena_calloc(arena, model->key_count, sizeof *response->kvs);
	for (size_t i = 0; i < model->key_count; i++) {
		const struct model_version *version = model_visible(&model->keys[i], revision);
		Pb__KeyValue *kv;

		if (version == NULL || !model_in_span(&model->keys[i], request->key, request->range_end))
			continue;
		response->count++;
		kv = model_kv(&model->keys[i], version, arena);
		if (!request->count_only && response->n_kvs < rows_read(request) &&
		    !is_filtered_out(request, kv))
			response->kvs[response->n_kvs++] = kv;
	}
	if (request->sort_order == PB__RANGE_REQUEST__SORT_ORDER__DESCEND ||
	    request->sort_target != PB__RANGE_REQUEST__SORT_TARGET__KEY)
		sort(request, response->kvs, response->n_kvs);
	if (request->limit > 0 && response->n_kvs > (size_t)request->limit) {
		response->n_kvs = (size_t)request->limit;
		response->more = true;
	}
	for (size_t i = 0; request->keys_only && i < response->n_kvs; i++) {
		response->kvs[i]->value = (ProtobufCBinaryData){0};
		if (request->sort_target != PB__RANGE_REQUEST__SORT_TARGET__VALUE)
			response->kvs[i]->lease = 0;
	}
	*out = response;
	return STATUS_OK;
}

static struct model_lease *find_lease(struct model *model, int64_t id)
{
	for (size_t i = 0; i < model->lease_count; i++)
		if (model->leases[i].id == id)
			return &model->leases[i];
	return NULL;
}

static enum status_code check_put(struct model *model, const Pb__PutRequest *request)
{
	if (request->lease != 0 && find_lease(model, request->lease) == NULL)
		return STATUS_LEASE_NOT_FOUND;
	if ((request->ignore_value || request->ignore_lease) &&
	    model_visible(find_key(model, request->key), INT64_MAX) == NULL)
		return STATUS_KEY_NOT_FOUND;
	return STATUS_OK;
}

static enum status_code put(struct model *model, const Pb__PutRequest *request, struct arena *arena,
                            Pb__PutResponse **out)
{
	struct model_key *key = find_key(model, request->key);
	const struct model_version *previous = model_visible(key, INT64_MAX);
	Pb__PutResponse *response = arena_alloc(arena, sizeof *response);
	ProtobufCBinaryData value = request->value;
	struct model_version next = {.version = 1, .created = model->revision + 1, .lease = request->lease};

	if (previous == NULL && (request->ignore_value || request->ignore_lease))
		return STATUS_KEY_NOT_FOUND;
	pb__put_response__init(response);
	response->header = make_header(model->revision + 1, arena);
	if (previous != NULL) {
		next.version = previous->version + 1;
		next.created = previous->created;
		if (request->prev_kv)
			response->prev_kv = model_kv(key, previous, arena);
		if (request->ignore_lease)
			next.lease = previous->lease;
		if (request->ignore_value)
			value = model_kv(key, previous, arena)->value;
	}
	add_version(model, key, next, value);
	*out = response;
	return STATUS_OK;
}

static void delete_range(struct model *model, const Pb__DeleteRangeRequest *request, struct arena *arena,
                         Pb__DeleteRangeResponse **out)
{
	Pb__DeleteRangeResponse *response = arena_alloc(arena, sizeof *response);

	pb__delete_range_response__init(response);
	response->prev_kvs = arena_calloc(arena, model->key_count, sizeof *response->prev_kvs);
	for (size_t i = 0; i < model->key_count; i++) {
		const struct model_version *version = model_visible(&model->keys[i], INT64_MAX);

		if (version == NULL || !model_in_span(&model->keys[i], request->key, request->range_end))
			continue;
		response->deleted++;
		if (request->prev_kv)
			response->prev_kvs[response->n_prev_kvs++] =
				model_kv(&model->keys[i], version, arena);
		add_version(model, &model->keys[i], (struct model_version){.deleted = true},
		            (ProtobufCBinaryData){0});
	}
	response->header = make_header(current_revision(model), arena);
	*out = response;
}

/* How one version, or none at all, stands to what the compare wants. */
static int64_t stands(const Pb__Compare *compare, const struct model_version *version)
{
	bool fits;

	switch ((int)compare->target) {
	case PB__COMPARE__COMPARE_TARGET__VERSION:
		fits = compare->target_union_case == PB__COMPARE__TARGET_UNION_VERSION;
		return version->version - (fits ? compare->version : 0);
	case PB__COMPARE__COMPARE_TARGET__CREATE:
		fits = compare->target_union_case == PB__COMPARE__TARGET_UNION_CREATE_REVISION;
		return version->created - (fits ? compare->create_revision : 0);
	case PB__COMPARE__COMPARE_TARGET__MOD:
		fits = compare->target_union_case == PB__COMPARE__TARGET_UNION_MOD_REVISION;
		return version->mod - (fits ? compare->mod_revision : 0);
	case PB__COMPARE__COMPARE_TARGET__LEASE:
		fits = compare->target_union_case == PB__COMPARE__TARGET_UNION_LEASE;
		return version->lease - (fits ? compare->lease : 0);
	case PB__COMPARE__COMPARE_TARGET__VALUE:
		fits = compare->target_union_case == PB__COMPARE__TARGET_UNION_VALUE;
		return compare_bytes(version->value, version->value_len, fits ? compare->value.data : NULL,
		                     fits ? compare->value.len : 0);
	default:
		return 0;
	}
}

static bool is_fulfilled(const Pb__Compare *compare, const struct model_version *version)
{
	int64_t order = stands(compare, version);

	switch ((int)compare->result) {
	case PB__COMPARE__COMPARE_RESULT__EQUAL:
		return order == 0;
	case PB__COMPARE__COMPARE_RESULT__NOT_EQUAL:
		return order != 0;
	case PB__COMPARE__COMPARE_RESULT__GREATER:
		return order > 0;
	case PB__COMPARE__COMPARE_RESULT__LESS:
		return order < 0;
	default:
		return true;
	}
}

static bool check_compare(const struct model *model, const Pb__Compare *compare)
{
	static const struct model_version NONE;
	bool any = false;

	for (size_t i = 0; i < model->key_count; i++) {
		const struct model_version *version = model_visible(&model->keys[i], INT64_MAX);

		if (version == NULL || !model_in_span(&model->keys[i], compare->key, compare->range_end))
			continue;
		any = true;
		if (!is_fulfilled(compare, version))
			return false;
	}
	if (any)
		return true;
	return compare->target != PB__COMPARE__COMPARE_TARGET__VALUE && is_fulfilled(compare, &NONE);
}

static bool check_compares(const struct model *model, const Pb__TxnRequest *request)
{
	for (size_t i = 0; i < request->n_compare; i++)
		if (!check_compare(model, request->compare[i]))
			return false;
	return true;
}

/* A transaction whose branches are chosen: every nested one has its own. */
struct plan {
	bool succeeded;
	Pb__RequestOp **ops;
	size_t count;
	struct plan *nested; /* as many as operations */
};

static void choose(const struct model *model, const Pb__TxnRequest *request, struct arena *arena,
                   struct plan *plan)
{
	plan->succeeded = check_compares(model, request);
	plan->ops = plan->succeeded ? request->success : request->failure;
	plan->count = plan->succeeded ? request->n_success : request->n_failure;
	plan->nested = arena_calloc(arena, plan->count, sizeof *plan->nested);
	for (size_t i = 0; i < plan->count; i++)
		if (plan->ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_TXN)
			choose(model, plan->ops[i]->request_txn, arena, &plan->nested[i]);
}

/* Inside a transaction a negative revision is below a compacted one. */
static enum status_code check_range(const struct model *model, const Pb__RangeRequest *request)
{
	if (request->revision == 0)
		return STATUS_OK;
	if (request->revision > model->revision)
		return STATUS_FUTURE_REVISION;
	return request->revision < model->compact_revision ? STATUS_COMPACTED : STATUS_OK;
}

static enum status_code check_plan(struct model *model, const struct plan *plan)
{
	enum status_code status = STATUS_OK;

	for (size_t i = 0; status == STATUS_OK && i < plan->count; i++) {
		const Pb__RequestOp *op = plan->ops[i];

		if (op->request_case == PB__REQUEST_OP__REQUEST_REQUEST_RANGE)
			status = check_range(model, op->request_range);
		else if (op->request_case == PB__REQUEST_OP__REQUEST_REQUEST_PUT)
			status = check_put(model, op->request_put);
		else if (op->request_case == PB__REQUEST_OP__REQUEST_REQUEST_TXN)
			status = check_plan(model, &plan->nested[i]);
	}
	return status;
}

static enum status_code run_plan(struct model *model, const struct plan *plan, struct arena *arena,
                                 Pb__TxnResponse **out);

static enum status_code run_op(struct model *model, const Pb__RequestOp *op, const struct plan *nested,
                               struct arena *arena, Pb__ResponseOp *answer)
{
	enum status_code status;

	switch (op->request_case) {
	case PB__REQUEST_OP__REQUEST_REQUEST_RANGE:
		answer->response_case = PB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
		return model_range(model, op->request_range, arena, &answer->response_range);
	case PB__REQUEST_OP__REQUEST_REQUEST_PUT:
		answer->response_case = PB__RESPONSE_OP__RESPONSE_RESPONSE_PUT;
		return put(model, op->request_put, arena, &answer->response_put);
	case PB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
		answer->response_case = PB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE;
		delete_range(model, op->request_delete_range, arena, &answer->response_delete_range);
		return STATUS_OK;
	default:
		answer->response_case = PB__RESPONSE_OP__RESPONSE_RESPONSE_TXN;
		status = run_plan(model, nested, arena, &answer->response_txn);
		if (status == STATUS_OK)
			answer->response_txn->header = make_header(0, arena);
		return status;
	}
}

static enum status_code run_plan(struct model *model, const struct plan *plan, struct arena *arena,
                                 Pb__TxnResponse **out)
{
	Pb__TxnResponse *response = arena_alloc(arena, sizeof *response);
	enum status_code status = STATUS_OK;

	pb__txn_response__init(response);
	response->succeeded = plan->succeeded;
	response->responses = arena_calloc(arena, plan->count, sizeof *response->responses);
	for (size_t i = 0; status == STATUS_OK && i < plan->count; i++) {
		Pb__ResponseOp *answer = arena_alloc(arena, sizeof *answer);

		pb__response_op__init(answer);
		response->responses[response->n_responses++] = answer;
		status = run_op(model, plan->ops[i], &plan->nested[i], arena, answer);
	}
	*out = response;
	return status;
}

static enum status_code apply_txn(struct model *model, const Pb__TxnRequest *request, struct arena *arena,
                                  Pb__TxnResponse **out)
{
	struct plan plan;
	enum status_code status;

	choose(model, request, arena, &plan);
	status = check_plan(model, &plan);
	if (status == STATUS_OK)
		status = run_plan(model, &plan, arena, out);
	if (status == STATUS_OK)
		(*out)->header = make_header(current_revision(model), arena);
	return status;
}

/* Whether either branch, or one nested in it, puts anything. */
static bool has_puts(const Pb__TxnRequest *request)
{
	for (int branch = 0; branch < 2; branch++) {
		Pb__RequestOp **ops = branch == 0 ? request->success : request->failure;
		size_t count = branch == 0 ? request->n_success : request->n_failure;

		for (size_t i = 0; i < count; i++)
			if (ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_PUT ||
			    (ops[i]->request_case == PB__REQUEST_OP__REQUEST_REQUEST_TXN &&
			     has_puts(ops[i]->request_txn)))
				return true;
	}
	return false;
}

static enum status_code compact(struct model *model, const Pb__CompactionRequest *request,
                                struct arena *arena, Pb__CompactionResponse **out)
{
	Pb__CompactionResponse *response = arena_alloc(arena, sizeof *response);

	if (request->revision <= model->compact_revision)
		return STATUS_COMPACTED;
	if (request->revision > model->revision)
		return STATUS_FUTURE_REVISION;
	model->compact_revision = request->revision;
	pb__compaction_response__init(response);
	response->header = make_header(model->revision, arena);
	*out = response;
	return STATUS_OK;
}

static void set_alarm(struct model *model, const Pb__AlarmRequest *request, struct arena *arena,
                      Pb__AlarmResponse **out)
{
	bool raise = request->action == PB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
	bool *alarm = request->alarm == PB__ALARM_TYPE__NOSPACE ? &model->nospace : &model->corrupt;
	Pb__AlarmResponse *response = arena_alloc(arena, sizeof *response);

	pb__alarm_response__init(response);
	response->header = make_header(0, arena);
	*out = response;
	if (raise || *alarm) {
		response->n_alarms = 1;
		response->alarms = arena_alloc(arena, sizeof *response->alarms);
		response->alarms[0] = arena_alloc(arena, sizeof **response->alarms);
		pb__alarm_member__init(response->alarms[0]);
		response->alarms[0]->memberid = request->memberid;
		response->alarms[0]->alarm = request->alarm;
	}
	*alarm = raise;
}

static enum status_code grant(struct model *model, const Pb__LeaseGrantRequest *request,
                              struct arena *arena, Pb__LeaseGrantResponse **out)
{
	Pb__LeaseGrantResponse *response = arena_alloc(arena, sizeof *response);
	int64_t ttl = request->ttl < 2 ? 2 : request->ttl;

	if (model->nospace)
		return STATUS_NO_SPACE;
	if (ttl > 9000000000)
		return STATUS_LEASE_TTL_TOO_LARGE;
	if (find_lease(model, request->id) != NULL)
		return STATUS_LEASE_EXISTS;
	assert(model->lease_count < MODEL_LEASES_MAX);
	model->leases[model->lease_count++] = (struct model_lease){request->id, ttl, ttl, model->offset};
	pb__lease_grant_response__init(response);
	response->header = make_header(model->revision, arena);
	response->id = request->id;
	response->ttl = ttl;
	*out = response;
	return STATUS_OK;
}

static void end_lease(struct model *model, struct model_lease *lease)
{
	for (size_t i = 0; i < model->key_count; i++) {
		const struct model_version *version = model_visible(&model->keys[i], INT64_MAX);

		if (version != NULL && version->lease == lease->id)
			add_version(model, &model->keys[i], (struct model_version){.deleted = true},
			            (ProtobufCBinaryData){0});
	}
	*lease = model->leases[--model->lease_count];
}

static enum status_code revoke(struct model *model, const Pb__LeaseRevokeRequest *request,
                               struct arena *arena, Pb__LeaseRevokeResponse **out)
{
	struct model_lease *lease = find_lease(model, request->id);
	Pb__LeaseRevokeResponse *response = arena_alloc(arena, sizeof *response);

	if (lease == NULL)
		return STATUS_LEASE_NOT_FOUND;
	end_lease(model, lease);
	pb__lease_revoke_response__init(response);
	response->header = make_header(current_revision(model), arena);
	*out = response;
	return STATUS_OK;
}

static void expire(struct model *model, const Pb__LeaseExpire *request)
{
	for (size_t i = 0; i < request->n_ids; i++) {
		struct model_lease *lease = find_lease(model, request->ids[i]);

		if (lease == NULL || lease->renewal != request->renewals[i])
			continue;
		end_lease(model, lease);
		model->revision = current_revision(model);
		model->changes = 0;
	}
}

static void renew(struct model *model, const Pb__LeaseRenew *request, struct arena *arena,
                  Pb__LeaseRenewed **out)
{
	Pb__LeaseRenewed *response = arena_alloc(arena, sizeof *response);

	pb__lease_renewed__init(response);
	response->ttls = arena_calloc(arena, request->n_ids, sizeof *response->ttls);
	response->n_ttls = request->n_ids;
	for (size_t i = 0; i < request->n_ids; i++) {
		struct model_lease *lease = find_lease(model, request->ids[i]);

		if (lease == NULL)
			continue;
		response->ttls[i] = lease->remaining_sec = lease->ttl_sec;
		lease->renewal = model->offset;
	}
	*out = response;
}

static void record_remaining(struct model *model, const Pb__LeaseCheckpointed *request)
{
	for (size_t i = 0; i < request->n_ids; i++) {
		struct model_lease *lease = find_lease(model, request->ids[i]);

		if (lease != NULL && lease->renewal == request->renewals[i] &&
		    request->remaining[i] < lease->ttl_sec)
			lease->remaining_sec = request->remaining[i];
	}
}

/* What no alarm stops. False: it is another request. */
static bool dispatch_always(struct model *model, const ProtobufCMessage *request, struct arena *arena,
                            ProtobufCMessage **response)
{
	const ProtobufCMessageDescriptor *type = request->descriptor;

	if (type == &pb__alarm_request__descriptor)
		set_alarm(model, (const Pb__AlarmRequest *)request, arena, (Pb__AlarmResponse **)response);
	else if (type == &pb__lease_renew__descriptor)
		renew(model, (const Pb__LeaseRenew *)request, arena, (Pb__LeaseRenewed **)response);
	else if (type == &pb__lease_checkpointed__descriptor)
		record_remaining(model, (const Pb__LeaseCheckpointed *)request);
	else
		return false;
	return true;
}

static enum status_code dispatch(struct model *model, const ProtobufCMessage *request, struct arena *arena,
                                 ProtobufCMessage **response)
{
	const ProtobufCMessageDescriptor *type = request->descriptor;
	enum status_code status;

	if (dispatch_always(model, request, arena, response))
		return STATUS_OK;
	if (model->corrupt)
		return STATUS_CORRUPT;
	if (type == &pb__lease_grant_request__descriptor)
		return grant(model, (const Pb__LeaseGrantRequest *)request, arena,
		             (Pb__LeaseGrantResponse **)response);
	if (type == &pb__lease_revoke_request__descriptor)
		return revoke(model, (const Pb__LeaseRevokeRequest *)request, arena,
		              (Pb__LeaseRevokeResponse **)response);
	if (type == &pb__lease_expire__descriptor) {
		expire(model, (const Pb__LeaseExpire *)request);
		return STATUS_OK;
	}
	if (type == &pb__compaction_request__descriptor)
		return compact(model, (const Pb__CompactionRequest *)request, arena,
		               (Pb__CompactionResponse **)response);
	if (type == &pb__delete_range_request__descriptor) {
		delete_range(model, (const Pb__DeleteRangeRequest *)request, arena,
		             (Pb__DeleteRangeResponse **)response);
		return STATUS_OK;
	}
	if (type == &pb__txn_request__descriptor) {
		const Pb__TxnRequest *txn = (const Pb__TxnRequest *)request;

		if (model->nospace && has_puts(txn))
			return STATUS_NO_SPACE;
		return apply_txn(model, txn, arena, (Pb__TxnResponse **)response);
	}
	assert(type == &pb__put_request__descriptor);
	if (model->nospace)
		return STATUS_NO_SPACE;
	status = check_put(model, (const Pb__PutRequest *)request);
	if (status == STATUS_OK)
		status = put(model, (const Pb__PutRequest *)request, arena, (Pb__PutResponse **)response);
	return status;
}

enum status_code model_apply(struct model *model, const ProtobufCMessage *request, struct arena *arena,
                             ProtobufCMessage **response)
{
	enum status_code status;

	model->offset++;
	status = dispatch(model, request, arena, response);
	if (status != STATUS_OK)
		undo(model);
	model->revision = current_revision(model);
	model->changes = 0;
	return status;
}

int64_t model_live_keys(const struct model *model)
{
	int64_t count = 0;

	for (size_t i = 0; i < model->key_count; i++)
		count += model_visible(&model->keys[i], INT64_MAX) != NULL;
	return count;
}

/* A value goes once a version of the same key at or below the compacted revision
 * follows it; a deletion goes when it is older than that revision. */
static bool is_retained(const struct model *model, const struct model_key *key, size_t at)
{
	if (key->versions[at].deleted)
		return key->versions[at].mod >= model->compact_revision;
	return at + 1 == key->count || key->versions[at + 1].mod > model->compact_revision;
}

int64_t model_retained_bytes(const struct model *model)
{
	int64_t bytes = (int64_t)model->lease_count * QUOTA_LEASE_BYTES;

	for (size_t i = 0; i < model->key_count; i++)
		for (size_t j = 0; j < model->keys[i].count; j++)
			if (is_retained(model, &model->keys[i], j))
				bytes += version_cost(model->keys[i].key_len,
				                      model->keys[i].versions[j].value_len);
	return bytes;
}
