/* SPDX-License-Identifier: Apache-2.0 */
#include "state/maintenance.h"

#include <string.h>

#include "base/buf.h"

static Pb__AlarmMember *make_alarm(uint64_t member_id, Pb__AlarmType kind, struct arena *arena)
{
	Pb__AlarmMember *alarm = arena_alloc(arena, sizeof *alarm);

	if (alarm == NULL)
		return NULL;
	pb__alarm_member__init(alarm);
	alarm->memberid = member_id;
	alarm->alarm = kind;
	return alarm;
}

enum status_code maintenance_read_alarms(struct view *view, Pb__AlarmType kind, struct arena *arena,
                                         size_t *count, Pb__AlarmMember ***alarms)
{
	sqlite3_stmt *stmt = view->stmts[SQL_ALARMS];
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	*count = 0;
	*alarms = NULL;
	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		Pb__AlarmType found = (Pb__AlarmType)sqlite3_column_int(stmt, 1);

		if (kind != PB__ALARM_TYPE__NONE && found != kind)
			continue;
		*alarms = arena_grow(arena, *alarms, *count, sizeof **alarms);
		if (*alarms != NULL)
			(*alarms)[*count] =
				make_alarm((uint64_t)sqlite3_column_int64(stmt, 0), found, arena);
		if (*alarms == NULL || (*alarms)[*count] == NULL)
			status = STATUS_NO_MEMORY;
		else
			++*count;
	}
	sqlite3_reset(stmt);
	if (status == STATUS_OK && code != SQLITE_DONE)
		status = view_failed(view, code);
	return status;
}

/* Runs ADD_ALARM or DROP_ALARM; *changed tells whether it was not so before. */
static enum status_code set_alarm(struct store *st, enum sql which, const Pb__AlarmRequest *request,
                                  bool *changed)
{
	sqlite3_stmt *stmt = st->view.stmts[which];
	enum status_code status;

	sqlite3_bind_int64(stmt, 1, (int64_t)request->memberid);
	sqlite3_bind_int(stmt, 2, (int)request->alarm);
	status = view_run(&st->view, which);
	*changed = sqlite3_changes(st->view.db) > 0;
	return status;
}

/* Whether any member has the alarm now. */
static enum status_code refresh_alarm(struct store *st, Pb__AlarmType kind, struct arena *arena)
{
	Pb__AlarmMember **alarms;
	size_t count;
	enum status_code status = maintenance_read_alarms(&st->view, kind, arena, &count, &alarms);

	if (kind == PB__ALARM_TYPE__NOSPACE)
		st->alarm_nospace = count > 0;
	if (kind == PB__ALARM_TYPE__CORRUPT)
		st->alarm_corrupt = count > 0;
	return status;
}

/* The response, complete before anything changes. */
static Pb__AlarmResponse *make_response(const Pb__AlarmRequest *request, struct arena *arena)
{
	Pb__AlarmResponse *response = arena_alloc(arena, sizeof *response);

	if (response == NULL)
		return NULL;
	pb__alarm_response__init(response);
	response->header = view_header(0, arena);
	response->alarms = arena_alloc(arena, sizeof *response->alarms);
	if (response->header == NULL || response->alarms == NULL)
		return NULL;
	response->alarms[0] = make_alarm(request->memberid, request->alarm, arena);
	return response->alarms[0] != NULL ? response : NULL;
}

enum status_code maintenance_apply_alarm(struct store *st, const Pb__AlarmRequest *request,
                                         struct arena *arena, Pb__AlarmResponse **out)
{
	Pb__AlarmResponse *response = make_response(request, arena);
	bool raise = request->action == PB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
	int64_t fields[] = {(int64_t)request->memberid, request->alarm, raise};
	enum status_code status;
	bool changed;

	if (response == NULL)
		return STATUS_NO_MEMORY;
	*out = response;
	if (request->alarm == PB__ALARM_TYPE__NONE)
		return STATUS_OK;
	status = set_alarm(st, raise ? SQL_ADD_ALARM : SQL_DROP_ALARM, request, &changed);
	if (status == STATUS_OK)
		status = refresh_alarm(st, request->alarm, arena);
	if (status != STATUS_OK)
		return status;
	if (changed)
		store_mix(st, fields, sizeof fields);
	/* etcd names an alarm that is raised again, and none that was not there to clear. */
	response->n_alarms = raise || changed;
	return STATUS_OK;
}

enum status_code maintenance_apply_genesis(struct store *st, const Pb__Genesis *genesis)
{
	sqlite3_stmt *stmt = st->view.stmts[SQL_ADD_MEMBER];
	struct buf urls;
	enum status_code status = STATUS_OK;

	if (st->view.state.cluster_id != 0)
		return STATUS_BAD_RECORD;
	buf_init(&urls);
	for (size_t i = 0; i < genesis->n_client_urls; i++) {
		if (i > 0)
			buf_append_byte(&urls, ',');
		buf_append_text(&urls, genesis->client_urls[i]);
	}
	sqlite3_bind_int64(stmt, 1, (int64_t)genesis->member_id);
	sqlite3_bind_text(stmt, 2, genesis->member_name, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 3, urls.len > 0 ? (const char *)urls.data : "", (int)urls.len,
	                  SQLITE_STATIC);
	for (int at = 4; at <= 8; at++)
		sqlite3_bind_int(stmt, at,
		                 0); /* a member without a shared log proposes as nobody else does */
	sqlite3_bind_text(stmt, 7, "", -1, SQLITE_STATIC);
	if (urls.failed)
		status = STATUS_NO_MEMORY;
	else if (!st->shared) /* under a shared log nodes join after that */
		status = view_run(&st->view, SQL_ADD_MEMBER);
	buf_release(&urls);
	if (status != STATUS_OK)
		return status;
	store_mix(st, &genesis->cluster_id, sizeof genesis->cluster_id);
	st->view.state.cluster_id = genesis->cluster_id;
	st->view.state.member_id = genesis->member_id;
	return STATUS_OK;
}

/* The comma-separated list as an array. */
static enum status_code split_urls(const char *text, struct arena *arena, size_t *count, char ***urls)
{
	char *copy = arena_strdup(arena, text);
	char *place = NULL;

	if (copy == NULL)
		return STATUS_NO_MEMORY;
	*count = 0;
	*urls = NULL;
	for (char *url = strtok_r(copy, ",", &place); url != NULL; url = strtok_r(NULL, ",", &place)) {
		*urls = arena_grow(arena, *urls, *count, sizeof **urls);
		if (*urls == NULL)
			return STATUS_NO_MEMORY;
		(*urls)[(*count)++] = url;
	}
	return STATUS_OK;
}

static enum status_code read_member(sqlite3_stmt *stmt, struct arena *arena, Pb__Member **out)
{
	Pb__Member *member = arena_alloc(arena, sizeof *member);
	enum status_code status;

	if (member == NULL)
		return STATUS_NO_MEMORY;
	pb__member__init(member);
	member->id = (uint64_t)sqlite3_column_int64(stmt, 0);
	member->name = arena_strdup(arena, (const char *)sqlite3_column_text(stmt, 1));
	if (member->name == NULL)
		return STATUS_NO_MEMORY;
	status = split_urls((const char *)sqlite3_column_text(stmt, 2), arena, &member->n_clienturls,
	                    &member->clienturls);
	*out = member;
	return status;
}

enum status_code maintenance_read_members(struct view *view, struct arena *arena, size_t *count,
                                          Pb__Member ***members)
{
	sqlite3_stmt *stmt = view->stmts[SQL_MEMBERS];
	enum status_code status = STATUS_OK;
	int code = SQLITE_DONE;

	*count = 0;
	*members = NULL;
	while (status == STATUS_OK && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
		*members = arena_grow(arena, *members, *count, sizeof **members);
		status =
			*members == NULL ? STATUS_NO_MEMORY : read_member(stmt, arena, &(*members)[*count]);
		++*count;
	}
	sqlite3_reset(stmt);
	if (status == STATUS_OK && code != SQLITE_DONE)
		status = view_failed(view, code);
	return status;
}
