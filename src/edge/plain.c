/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes and checks are tables. The answers are etcd's to the byte, because
 * probes and scripts compare them.
 */
#include "edge/plain.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/metrics.h"
#include "base/process.h"
#include "base/progress.h"
#include "base/version.h"
#include "edge/target.h"
#include "engine/engine.h"

/* What a health answer can depend on. */
enum check {
	CHECK_NOSPACE,
	CHECK_CORRUPT,
	CHECK_SERIALIZABLE_READ,
	CHECK_LINEARIZABLE_READ,
	CHECK_NON_LEARNER,
	CHECK_CATCH_UP, /* nodes of a shared log only, and not etcd's */
	CHECK_COUNT,
	CHECK_NONE = CHECK_COUNT,
};

#define BIT(check) (1U << (check))

/* The names in paths, in 'exclude', and in the answers' lines. /health names
 * its alarms otherwise: by etcd's alarm types. */
static const char *const CHECK_NAMES[CHECK_COUNT] = {
	[CHECK_NOSPACE] = "NOSPACE",
	[CHECK_CORRUPT] = "data_corruption",
	[CHECK_SERIALIZABLE_READ] = "serializable_read",
	[CHECK_LINEARIZABLE_READ] = "linearizable_read",
	[CHECK_NON_LEARNER] = "non_learner",
	[CHECK_CATCH_UP] = "catch_up",
};

enum kind { KIND_HEALTH, KIND_CHECKS, KIND_VERSION, KIND_METRICS };

struct plain_route {
	const char *path;
	enum kind kind;
	unsigned checks;
	bool excludable; /* ?exclude= is heard */
};

static const unsigned LIVE_CHECKS = BIT(CHECK_SERIALIZABLE_READ);
static const unsigned READY_CHECKS = BIT(CHECK_CORRUPT) | BIT(CHECK_SERIALIZABLE_READ) |
                                     BIT(CHECK_LINEARIZABLE_READ) | BIT(CHECK_NON_LEARNER);
static const unsigned HEALTH_CHECKS =
	BIT(CHECK_NOSPACE) | BIT(CHECK_CORRUPT) | BIT(CHECK_LINEARIZABLE_READ);

static const struct plain_route ROUTES[] = {
	{"/health", KIND_HEALTH, HEALTH_CHECKS, true},
	{"/livez", KIND_CHECKS, LIVE_CHECKS, true},
	{"/livez/serializable_read", KIND_CHECKS, BIT(CHECK_SERIALIZABLE_READ), false},
	{"/readyz", KIND_CHECKS, READY_CHECKS, true},
	{"/readyz/data_corruption", KIND_CHECKS, BIT(CHECK_CORRUPT), false},
	{"/readyz/serializable_read", KIND_CHECKS, BIT(CHECK_SERIALIZABLE_READ), false},
	{"/readyz/linearizable_read", KIND_CHECKS, BIT(CHECK_LINEARIZABLE_READ), false},
	{"/readyz/non_learner", KIND_CHECKS, BIT(CHECK_NON_LEARNER), false},
	{"/readyz/catch_up", KIND_CHECKS, BIT(CHECK_CATCH_UP), false},
	{"/version", KIND_VERSION, 0, false},
	{"/metrics", KIND_METRICS, 0, false},
};

#define LIVE_PATH "/livez"

enum { ROUTE_COUNT = sizeof ROUTES / sizeof ROUTES[0] };

static const char VERSION_BODY[] =
	"{\"etcdserver\":\"" ETCD_SERVER_VERSION "\",\"etcdcluster\":\"" ETCD_CLUSTER_VERSION
	"\",\"storage\":\"" ETCD_STORAGE_VERSION "\"}";
static const char METRICS_TYPE[] = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

const struct plain_route *plain_find(const char *path, size_t len)
{
	for (size_t i = 0; i < ROUTE_COUNT; i++) {
		if (strlen(ROUTES[i].path) == len && memcmp(ROUTES[i].path, path, len) == 0)
			return &ROUTES[i];
	}
	return NULL;
}

/* ---- The query ---- */

static bool text_is(const char *text, size_t len, const char *other)
{
	return strlen(other) == len && memcmp(text, other, len) == 0;
}

static void exclude(struct plain *plain, const char *name, size_t len)
{
	if (plain->route->kind == KIND_HEALTH) {
		if (text_is(name, len, "NOSPACE"))
			plain->checks &= ~BIT(CHECK_NOSPACE);
		if (text_is(name, len, "CORRUPT"))
			plain->checks &= ~BIT(CHECK_CORRUPT);
		return;
	}
	for (unsigned check = 0; check < CHECK_COUNT; check++) {
		if (text_is(name, len, CHECK_NAMES[check]))
			plain->checks &= ~BIT(check);
	}
}

/* Only a node that follows a shared log can lag behind it. */
static unsigned checks_of(const struct plain_route *route, struct engine *engine)
{
	struct engine_info info = {.shared = false};

	if (route->checks != READY_CHECKS || engine == NULL)
		return route->checks;
	engine_info(engine, &info);
	return info.shared ? READY_CHECKS | BIT(CHECK_CATCH_UP) : READY_CHECKS;
}

void plain_init(struct plain *plain, const struct plain_route *route, struct engine *engine,
                struct reader *reader, const char *query, size_t query_len)
{
	struct target_query pairs;
	struct target_pair pair;
	bool serializable_seen = false;

	*plain = (struct plain){
		.route = route,
		.engine = engine,
		.reader = reader,
		.checks = checks_of(route, engine),
		.check = CHECK_NONE,
	};
	target_query_init(&pairs, query, query_len);
	while (target_query_next(&pairs, &pair)) {
		if (text_is(pair.name, pair.name_len, "verbose"))
			plain->verbose = true;
		if (text_is(pair.name, pair.name_len, "exclude") && route->excludable)
			exclude(plain, pair.value, pair.value_len);
		if (text_is(pair.name, pair.name_len, "serializable") && route->kind == KIND_HEALTH &&
		    !serializable_seen) {
			serializable_seen = true;
			if (text_is(pair.value, pair.value_len, "true")) {
				plain->checks &= ~BIT(CHECK_LINEARIZABLE_READ);
				plain->checks |= BIT(CHECK_SERIALIZABLE_READ);
			}
		}
	}
}

void plain_release(struct plain *plain)
{
	buf_release(&plain->text);
}

/* ---- Replies ---- */

static enum plain_next reply_static(struct reply *reply, unsigned status, const char *type,
                                    const char *body)
{
	reply->status = status;
	reply->content_type = type;
	reply->body = body;
	reply->len = strlen(body);
	return PLAIN_REPLY;
}

static enum plain_next reply_buf(struct reply *reply, unsigned status, const char *type, struct buf *buf)
{
	reply->status = status;
	reply->content_type = type;
	reply->len = buf->len;
	reply->body = (const char *)buf_detach(buf);
	reply->owned = true;
	if (reply->body != NULL)
		return PLAIN_REPLY;
	reply->owned = false;
	return reply_static(reply, 503, REPLY_TEXT, "not enough memory\n");
}

static enum plain_next refuse_method(struct reply *reply)
{
	reply->allow = "GET";
	reply->nosniff = true;
	return reply_static(reply, 405, REPLY_TEXT, "Method Not Allowed\n");
}

static void read_process(void)
{
	struct process_info process;

	process_read(&process);
	metric_set_label(METRIC_SERVER_VERSION, ETCD_SERVER_VERSION);
	metric_set_label(METRIC_CLUSTER_VERSION, "3.7");
	metric_set(METRIC_PROCESS_CPU, process.cpu_us);
	metric_set(METRIC_PROCESS_RSS, process.resident_bytes);
	metric_set(METRIC_PROCESS_VIRTUAL, process.virtual_bytes);
	metric_set(METRIC_PROCESS_FDS, process.open_fds);
	metric_set(METRIC_PROCESS_MAX_FDS, process.max_fds);
	metric_set(METRIC_PROCESS_START, process.start_us);
}

static void read_log(const struct engine_info *info)
{
	char hash[20];

	snprintf(hash, sizeof hash, "%016" PRIx64, info->state_hash);
	metric_set_label(METRIC_STATE_HASH, hash);
	metric_set(METRIC_HAS_LEADER, info->has_leader);
	metric_set(METRIC_IS_LEADER, info->leads);
	metric_set(METRIC_LOG_LAG, info->newest_offset - info->applied_offset);
}

static void read_gauges(struct engine *engine, struct reader *reader)
{
	struct engine_info info;
	struct engine_sizes sizes;
	char id[20];

	engine_info(engine, &info);
	engine_sizes(engine, reader, &sizes);
	read_process();
	snprintf(id, sizeof id, "%" PRIx64, info.member_id);
	metric_set_label(METRIC_SERVER_ID, id);
	metric_set(METRIC_REVISION, info.revision);
	metric_set(METRIC_COMPACT_REVISION, info.compact_revision);
	if (info.shared) {
		read_log(&info);
	} else {
		metric_set(METRIC_HAS_LEADER, info.fault == NULL);
		metric_set(METRIC_IS_LEADER, info.fault == NULL);
	}
	metric_set(METRIC_TERM, (int64_t)info.term);
	metric_set(METRIC_LOG_APPLIED_OFFSET, info.applied_offset);
	metric_set(METRIC_APPLIED, info.applied_offset);
	metric_set(METRIC_COMMITTED, info.applied_offset);
	metric_set(METRIC_PROPOSALS_PENDING, engine_pending(engine));
	metric_set(METRIC_FILE_BYTES, sizes.file_bytes);
	metric_set(METRIC_USED_BYTES, sizes.used_bytes);
	metric_set(METRIC_WAL_BYTES, sizes.wal_bytes);
	metric_set(METRIC_LOGICAL_BYTES, sizes.logical_bytes);
	metric_set(METRIC_KEYS, sizes.keys);
}

static enum plain_next reply_metrics(struct plain *plain, struct reply *reply)
{
	if (plain->engine != NULL)
		read_gauges(plain->engine, plain->reader);
	else
		read_process();
	metrics_write(&plain->text);
	return reply_buf(reply, 200, METRICS_TYPE, &plain->text);
}

/* ---- Checks ---- */

/* /health stops at the first failure and says why; the others list all. */
static void note_result(struct plain *plain, unsigned check, const char *failure)
{
	plain->failed = plain->failed || failure != NULL;
	if (plain->route->kind == KIND_HEALTH) {
		if (failure == NULL)
			return;
		plain->checks = 0;
		if (check <= CHECK_CORRUPT)
			buf_printf(&plain->text, "ALARM %s",
			           check == CHECK_CORRUPT ? "CORRUPT" : "NOSPACE");
		else
			buf_printf(&plain->text, "RANGE ERROR:%s", failure);
		return;
	}
	if (failure != NULL)
		buf_printf(&plain->text, "[-]%s failed: %s\n", CHECK_NAMES[check], failure);
	else
		buf_printf(&plain->text, "[+]%s ok\n", CHECK_NAMES[check]);
}

static void check_alarm(struct plain *plain, unsigned check)
{
	struct engine_info info;
	bool raised;

	engine_info(plain->engine, &info);
	raised = check == CHECK_CORRUPT ? info.alarm_corrupt : info.alarm_nospace;
	note_result(plain, check, raised ? "alarm activated: CORRUPT" : NULL);
}

/* Fed by the engine (engine_info), and by the start's progress while there is any. */
static void check_catch_up(struct plain *plain)
{
	struct engine_info info;
	struct buf why;

	engine_info(plain->engine, &info);
	if (!info.shared || (info.ready && info.log_fault == NULL)) {
		note_result(plain, CHECK_CATCH_UP, NULL);
		return;
	}
	buf_init(&why);
	if (info.log_fault != NULL)
		buf_append_text(&why, info.log_fault);
	else
		progress_describe(&why);
	buf_append_byte(&why, '\0');
	note_result(plain, CHECK_CATCH_UP, why.failed ? "not enough memory" : (const char *)why.data);
	buf_release(&why);
}

static enum plain_next reply_health(struct plain *plain, struct reply *reply)
{
	struct buf body;

	metric_add(plain->failed ? METRIC_HEALTH_FAILURES : METRIC_HEALTH_SUCCESS, 1);
	if (!plain->failed)
		return reply_static(reply, 200, REPLY_TEXT, "{\"health\":\"true\",\"reason\":\"\"}");
	buf_init(&body);
	buf_append_text(&body, "{\"health\":\"false\",\"reason\":");
	buf_append_json(&body, (const char *)plain->text.data, plain->text.len);
	buf_append_text(&body, "}\n");
	reply->nosniff = true;
	return reply_buf(reply, 503, REPLY_TEXT, &body);
}

static enum plain_next reply_checks(struct plain *plain, struct reply *reply)
{
	reply->nosniff = true;
	if (!plain->failed && !plain->verbose)
		return reply_static(reply, 200, REPLY_TEXT, "ok\n");
	buf_append_text(&plain->text, plain->failed ? "\n" : "ok\n");
	return reply_buf(reply, plain->failed ? 503 : 200, REPLY_TEXT, &plain->text);
}

/* A server that cannot write is told as one whose linearizable reads fail: in
 * etcd they are the same thing. */
static void note_read(struct plain *plain, const struct status *read)
{
	struct engine_info info;
	const char *fault;

	if (read->code != STATUS_OK) {
		note_result(plain, plain->check, status_text(read));
		return;
	}
	engine_info(plain->engine, &info);
	fault = info.fault != NULL ? info.fault : info.log_fault;
	note_result(plain, plain->check, plain->check == CHECK_LINEARIZABLE_READ ? fault : NULL);
}

static enum plain_next run_checks(struct plain *plain, const struct status *read, struct reply *reply)
{
	if (read != NULL)
		note_read(plain, read);
	while (plain->checks != 0) {
		unsigned check = (unsigned)__builtin_ctz(plain->checks);

		plain->checks &= plain->checks - 1;
		plain->check = check;
		switch ((enum check)check) {
		case CHECK_SERIALIZABLE_READ:
			return PLAIN_READ_SERIALIZABLE;
		case CHECK_LINEARIZABLE_READ:
			return PLAIN_READ;
		case CHECK_NOSPACE:
		case CHECK_CORRUPT:
			check_alarm(plain, check);
			break;
		case CHECK_CATCH_UP:
			check_catch_up(plain);
			break;
		case CHECK_NON_LEARNER:
		case CHECK_COUNT:
			/* Every member of this server's clusters votes. */
			note_result(plain, check, NULL);
			break;
		}
	}
	return plain->route->kind == KIND_HEALTH ? reply_health(plain, reply) : reply_checks(plain, reply);
}

enum plain_next plain_step(struct plain *plain, const char *method, const struct status *read,
                           struct reply *reply)
{
	if (plain->route->kind == KIND_METRICS)
		return reply_metrics(plain, reply);
	if (strcmp(method, "GET") != 0)
		return refuse_method(reply);
	if (plain->route->kind == KIND_VERSION)
		return reply_static(reply, 200, REPLY_JSON, VERSION_BODY);
	return run_checks(plain, read, reply);
}

/* Without an engine one thing is known: that the node does not serve yet. */
static void note_start(struct plain *plain)
{
	struct buf why;

	buf_init(&why);
	progress_describe(&why);
	buf_append_byte(&why, '\0');
	plain->failed = true;
	if (plain->route->kind == KIND_HEALTH)
		buf_append_text(&plain->text, "NOT READY:");
	else
		buf_printf(&plain->text, "[-]%s failed: ", CHECK_NAMES[CHECK_CATCH_UP]);
	buf_append_text(&plain->text, why.failed ? "not enough memory" : (const char *)why.data);
	if (plain->route->kind != KIND_HEALTH)
		buf_append_byte(&plain->text, '\n');
	buf_release(&why);
}

void plain_answer_starting(struct plain *plain, const char *method, struct reply *reply)
{
	const bool is_check = plain->route->kind == KIND_HEALTH || plain->route->kind == KIND_CHECKS;

	if (!is_check || strcmp(method, "GET") != 0) {
		plain_step(plain, method, NULL, reply);
		return;
	}
	/* That the process answers at all is what /livez asks for. */
	if (strncmp(plain->route->path, LIVE_PATH, strlen(LIVE_PATH)) == 0) {
		plain->verbose = false;
		reply_checks(plain, reply);
		return;
	}
	note_start(plain);
	if (plain->route->kind == KIND_HEALTH)
		reply_health(plain, reply);
	else
		reply_checks(plain, reply);
}
