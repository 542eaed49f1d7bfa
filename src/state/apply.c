/* SPDX-License-Identifier: Apache-2.0 */
#include "state/apply.h"

#include "state/cluster.h"
#include "state/compact.h"
#include "state/lease.h"
#include "state/maintenance.h"
#include "state/quota.h"
#include "state/txn.h"
#include "state/write.h"

static bool is_node_failure(enum status_code status)
{
	return status == STATUS_IO_ERROR || status == STATUS_DISK_FULL || status == STATUS_BUSY;
}

/* SQLite may give up the whole transaction when it runs out of memory. What came
 * after would be committed statement by statement. */
static bool is_rolled_back(const struct store *st)
{
	return sqlite3_get_autocommit(st->view.db) != 0;
}

static enum status_code apply_put(struct store *st, const Pb__PutRequest *request, struct arena *arena,
                                  ProtobufCMessage **out)
{
	Pb__PutResponse *response;
	enum status_code status;

	if (st->alarm_corrupt)
		return STATUS_CORRUPT;
	if (st->alarm_nospace)
		return STATUS_NO_SPACE;
	status = write_check_put(st, request);
	if (status == STATUS_OK)
		status = write_put(st, request, arena, &response);
	if (status == STATUS_OK)
		*out = &response->base;
	return status;
}

static enum status_code apply_delete_range(struct store *st, const Pb__DeleteRangeRequest *request,
                                           struct arena *arena, ProtobufCMessage **out)
{
	Pb__DeleteRangeResponse *response;
	enum status_code status;

	if (st->alarm_corrupt)
		return STATUS_CORRUPT;
	status = write_delete_range(st, request, arena, &response);
	if (status == STATUS_OK)
		*out = &response->base;
	return status;
}

static enum status_code apply_txn(struct store *st, const Pb__TxnRequest *request, struct arena *arena,
                                  ProtobufCMessage **out)
{
	Pb__TxnResponse *response;
	enum status_code status;

	if (st->alarm_corrupt)
		return STATUS_CORRUPT;
	if (st->alarm_nospace && quota_txn_cost(request) > 0)
		return STATUS_NO_SPACE;
	status = txn_apply(st, request, arena, &response);
	if (status == STATUS_OK)
		*out = &response->base;
	return status;
}

static enum status_code apply_compaction(struct store *st, const Pb__CompactionRequest *request,
                                         struct arena *arena, ProtobufCMessage **out)
{
	Pb__CompactionResponse *response = arena_alloc(arena, sizeof *response);
	enum status_code status;

	if (st->alarm_corrupt)
		return STATUS_CORRUPT;
	if (response == NULL)
		return STATUS_NO_MEMORY;
	pb__compaction_response__init(response);
	response->header = view_header(st->view.state.revision, arena);
	if (response->header == NULL)
		return STATUS_NO_MEMORY;
	status = compact_apply(st, request->revision);
	if (status == STATUS_OK)
		*out = &response->base;
	return status;
}

static enum status_code apply_alarm(struct store *st, const Pb__AlarmRequest *request, struct arena *arena,
                                    ProtobufCMessage **out)
{
	Pb__AlarmResponse *response;
	enum status_code status = maintenance_apply_alarm(st, request, arena, &response);

	if (status == STATUS_OK)
		*out = &response->base;
	return status;
}

static enum status_code apply_lease_grant(struct store *st, const Pb__LeaseGrantRequest *request,
                                          int64_t offset, struct arena *arena, ProtobufCMessage **out)
{
	Pb__LeaseGrantResponse *response;
	enum status_code status;

	if (st->alarm_corrupt)
		return STATUS_CORRUPT;
	if (st->alarm_nospace)
		return STATUS_NO_SPACE;
	status = lease_apply_grant(st, request, offset, arena, &response);
	if (status == STATUS_OK)
		*out = &response->base;
	return status;
}

static enum status_code apply_lease_revoke(struct store *st, const Pb__LeaseRevokeRequest *request,
                                           struct arena *arena, ProtobufCMessage **out)
{
	Pb__LeaseRevokeResponse *response;
	enum status_code status;

	if (st->alarm_corrupt)
		return STATUS_CORRUPT;
	status = lease_apply_revoke(st, request, arena, &response);
	if (status == STATUS_OK)
		*out = &response->base;
	return status;
}

/* Renewals and checkpoints change no key: no alarm stops them. */
static enum status_code apply_lease_renew(struct store *st, const Pb__LeaseRenew *request, int64_t offset,
                                          struct arena *arena, ProtobufCMessage **out)
{
	Pb__LeaseRenewed *response;
	enum status_code status = lease_apply_renew(st, request, offset, arena, &response);

	if (status == STATUS_OK)
		*out = &response->base;
	return status;
}

static enum status_code apply_lease_expire(struct store *st, const Pb__LeaseExpire *request,
                                           struct arena *arena)
{
	return st->alarm_corrupt ? STATUS_CORRUPT : lease_apply_expire(st, request, arena);
}

static enum status_code dispatch(struct store *st, const Pb__Record *rec, int64_t offset,
                                 struct arena *arena, ProtobufCMessage **response)
{
	if (rec->cluster_id != st->view.state.cluster_id)
		return STATUS_BAD_RECORD; /* of another cluster, or a second genesis: not ours to apply */
	if (rec->cluster_id == 0 && rec->request_case != PB__RECORD__REQUEST_GENESIS)
		return STATUS_BAD_RECORD; /* there is no cluster yet */
	switch (rec->request_case) {
	case PB__RECORD__REQUEST_GENESIS:
		return maintenance_apply_genesis(st, rec->genesis);
	case PB__RECORD__REQUEST_PUT:
		return apply_put(st, rec->put, arena, response);
	case PB__RECORD__REQUEST_DELETE_RANGE:
		return apply_delete_range(st, rec->delete_range, arena, response);
	case PB__RECORD__REQUEST_TXN:
		return apply_txn(st, rec->txn, arena, response);
	case PB__RECORD__REQUEST_COMPACTION:
		return apply_compaction(st, rec->compaction, arena, response);
	case PB__RECORD__REQUEST_ALARM:
		return apply_alarm(st, rec->alarm, arena, response);
	case PB__RECORD__REQUEST_LEASE_GRANT:
		return apply_lease_grant(st, rec->lease_grant, offset, arena, response);
	case PB__RECORD__REQUEST_LEASE_REVOKE:
		return apply_lease_revoke(st, rec->lease_revoke, arena, response);
	case PB__RECORD__REQUEST_LEASE_RENEW:
		return apply_lease_renew(st, rec->lease_renew, offset, arena, response);
	case PB__RECORD__REQUEST_LEASE_EXPIRE:
		return apply_lease_expire(st, rec->lease_expire, arena);
	case PB__RECORD__REQUEST_LEASE_CHECKPOINT:
		return lease_apply_checkpoint(st, rec->lease_checkpoint);
	case PB__RECORD__REQUEST_JOIN:
		return cluster_apply_join(st, rec);
	case PB__RECORD__REQUEST_TAKE_OFFICE:
		return cluster_apply_take_office(st, rec);
	case PB__RECORD__REQUEST_COVERED:
		return cluster_apply_covered(st, rec->covered);
	case PB__RECORD__REQUEST_HASH_VERDICT:
		return cluster_apply_hash_verdict(st, rec);
	case PB__RECORD__REQUEST_RAISE_LEVEL:
		cluster_apply_raise_level(st, rec->raise_level);
		return STATUS_OK;
	case PB__RECORD__REQUEST_BARRIER:
	case PB__RECORD__REQUEST_HASH_ASK:
	case PB__RECORD__REQUEST_HASH_VOTE:
		return STATUS_OK; /* whoever waits for it, or answers it, is told that it was applied */
	default:
		return STATUS_UNIMPLEMENTED;
	}
}

enum status_code apply(struct store *st, const Pb__Record *rec, int64_t offset, bool undoable,
                       struct arena *arena, struct applied *out)
{
	enum status_code status = STATUS_OK;
	bool counts = true;
	bool refused;

	*out = (struct applied){0};
	if (st->shared)
		status = cluster_admit(st, rec, offset, &counts);
	if (status != STATUS_OK)
		return status;
	if (!counts) {
		*out = (struct applied){
			.status = STATUS_TIMEOUT, .ignored = true, .revision = st->view.state.revision};
		st->view.state.applied_offset = offset;
		return STATUS_OK;
	}
	status = store_record_begin(st, undoable);
	if (status != STATUS_OK)
		return status;
	out->status = dispatch(st, rec, offset, arena, &out->response);
	if (is_node_failure(out->status) || (out->status != STATUS_OK && is_rolled_back(st)))
		return out->status;
	/* Other nodes have applied the record: it cannot be refused here alone. */
	if (st->shared && out->status == STATUS_NO_MEMORY)
		return STATUS_NO_MEMORY;
	refused = out->status != STATUS_OK;
	if (refused) {
		out->response = NULL;
		if (store_record_changed(st) && !undoable)
			return STATUS_HALF_APPLIED;
	}
	out->changes = refused ? 0 : st->record_changes;
	status = store_record_end(st, undoable, refused);
	out->revision = st->view.state.revision;
	st->view.state.applied_offset = offset;
	return status;
}

enum status_code apply_skip(struct store *st, int64_t offset)
{
	store_mix(st, &offset, sizeof offset);
	st->view.state.applied_offset = offset;
	return STATUS_OK;
}
