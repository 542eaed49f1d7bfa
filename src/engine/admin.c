/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of the Maintenance and Cluster services. */
#include <inttypes.h>

#include "base/version.h"
#include "engine/handlers.h"
#include "engine/internal.h"
#include "state/maintenance.h"

static bool run_get_alarms(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__AlarmRequest *request = (const Pb__AlarmRequest *)call->request;
	Pb__AlarmResponse *response = arena_alloc(&call->arena, sizeof *response);
	enum status_code status = view_refresh(&reader->view);

	(void)engine;
	if (response == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	pb__alarm_response__init(response);
	response->header = view_header(reader->view.state.revision, &call->arena);
	if (status == STATUS_OK)
		status = maintenance_read_alarms(&reader->view, request->alarm, &call->arena,
		                                 &response->n_alarms, &response->alarms);
	if (status != STATUS_OK || response->header == NULL)
		return call_fail(call, status != STATUS_OK ? status : STATUS_NO_MEMORY, NULL);
	call->response = &response->base;
	return true;
}

bool maintenance_alarm(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__AlarmRequest *request = (const Pb__AlarmRequest *)call->request;

	switch ((int)request->action) {
	case PB__ALARM_REQUEST__ALARM_ACTION__GET:
		call->resume = run_get_alarms;
		if (!read_barrier(engine, call))
			return false;
		return call->status.code != STATUS_OK || run_get_alarms(engine, reader, call);
	case PB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE:
	case PB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE:
		return propose(engine, call);
	default:
		return call_fail(call, STATUS_UNKNOWN_ALARM_ACTION,
		                 "etcdserver: unknown alarm action; use GET, ACTIVATE or DEACTIVATE");
	}
}

static const char *alarm_name(Pb__AlarmType kind)
{
	const ProtobufCEnumValue *value =
		protobuf_c_enum_descriptor_get_value(&pb__alarm_type__descriptor, (int)kind);

	return value != NULL ? value->name : "UNKNOWN";
}

/* Alarms, as etcd tells them: one text each. */
static enum status_code fill_errors(struct view *view, struct arena *arena, Pb__StatusResponse *response)
{
	Pb__AlarmMember **alarms;
	size_t count;
	enum status_code status =
		maintenance_read_alarms(view, PB__ALARM_TYPE__NONE, arena, &count, &alarms);

	if (status != STATUS_OK || count == 0)
		return status;
	response->errors = arena_calloc(arena, count, sizeof *response->errors);
	for (size_t i = 0; response->errors != NULL && i < count; i++) {
		response->errors[i] = arena_printf(arena, "memberID:%" PRIu64 " alarm:%s",
		                                   alarms[i]->memberid, alarm_name(alarms[i]->alarm));
		if (response->errors[i] == NULL)
			return STATUS_NO_MEMORY;
		response->n_errors++;
	}
	return response->errors != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status_code fill_status(struct engine *engine, struct view *view, struct arena *arena,
                                    Pb__StatusResponse *response)
{
	int64_t wal_bytes;
	enum status_code status;

	response->header = view_header(view->state.revision, arena);
	response->downgradeinfo = arena_alloc(arena, sizeof *response->downgradeinfo);
	response->version = arena_strdup(arena, ETCD_SERVER_VERSION);
	response->storageversion = arena_strdup(arena, ETCD_STORAGE_VERSION);
	if (response->header == NULL || response->downgradeinfo == NULL || response->version == NULL ||
	    response->storageversion == NULL)
		return STATUS_NO_MEMORY;
	pb__downgrade_info__init(response->downgradeinfo);
	response->leader = engine->shared ? atomic_load(&engine->owner_member) : view->state.member_id;
	/* What the database says may be behind: renewals of leases are written later. */
	response->raftindex = (uint64_t)atomic_load(&engine->applied_offset);
	response->raftappliedindex = response->raftindex;
	response->raftterm = view->state.term;
	response->dbsizequota = engine->config->quota_backend_bytes;
	status = store_sizes(engine->store, view, &response->dbsize, &response->dbsizeinuse, &wal_bytes);
	return status == STATUS_OK ? fill_errors(view, arena, response) : status;
}

bool maintenance_status(struct engine *engine, struct reader *reader, struct call *call)
{
	Pb__StatusResponse *response = arena_alloc(&call->arena, sizeof *response);
	enum status_code status;

	if (response == NULL)
		return call_fail(call, STATUS_NO_MEMORY, NULL);
	pb__status_response__init(response);
	early_await(engine);
	status = view_refresh(&reader->view);
	if (status == STATUS_OK)
		status = fill_status(engine, &reader->view, &call->arena, response);
	if (status != STATUS_OK)
		return call_fail(call, status, NULL);
	call->response = &response->base;
	return true;
}

static bool run_member_list(struct engine *engine, struct reader *reader, struct call *call)
{
	Pb__MemberListResponse *response = arena_alloc(&call->arena, sizeof *response);
	enum status_code status = view_refresh(&reader->view);

	if (response == NULL || status != STATUS_OK)
		return call_fail(call, status != STATUS_OK ? status : STATUS_NO_MEMORY, NULL);
	pb__member_list_response__init(response);
	/* etcd's cluster service names no revision. */
	response->header = view_header(0, &call->arena);
	if (response->header != NULL) {
		response->header->cluster_id = atomic_load(&engine->cluster_id);
		response->header->member_id = atomic_load(&engine->member_id);
		response->header->raft_term = atomic_load(&engine->term);
	}
	status = maintenance_read_members(&reader->view, &call->arena, &response->n_members,
	                                  &response->members);
	if (status != STATUS_OK || response->header == NULL)
		return call_fail(call, status != STATUS_OK ? status : STATUS_NO_MEMORY, NULL);
	call->response = &response->base;
	return true;
}

bool cluster_member_list(struct engine *engine, struct reader *reader, struct call *call)
{
	const Pb__MemberListRequest *request = (const Pb__MemberListRequest *)call->request;

	call->resume = run_member_list;
	if (!request->linearizable)
		early_await(engine);
	else if (!read_barrier(engine, call))
		return false;
	return call->status.code != STATUS_OK || run_member_list(engine, reader, call);
}
