/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request is read to its end before anything is answered (a client that is
 * still sending would not read an early answer); only a head that no one can
 * trust is answered at once, and its connection closed.
 *
 * An answer that is there at once is queued at once. Otherwise the handler
 * returns without one, and libmicrohttpd calls it again in each of its runs, until
 * the answer is there: the request lingers. Suspending its connection and resuming
 * it would take two calls of epoll_ctl and one of recv that finds nothing, so that is
 * for requests that wait long. Either way the mail that announces the
 * finish is read by this thread, and cannot come too early.
 */
#include "edge/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"
#include "edge/answer.h"
#include "edge/gateway.h"
#include "edge/paired.h"
#include "engine/call.h"

/* A longer body is not even read and dropped. */
enum { BODY_MAX_BYTES = 64 << 20 };

/* ---- Waiting ---- */

/* It goes on, in the daemon's next run. */
static void go_on(struct exchange *exchange, enum stage stage)
{
	struct loop *loop = exchange->loop;

	exchange->stage = stage;
	loop->moving++;
	loop->resumed = true;
	metric_add(METRIC_SUSPENDED, -1);
	if (!exchange->suspended) {
		loop->lingering--;
		return;
	}
	exchange->suspended = false;
	loop->suspended--;
	MHD_resume_connection(exchange->mhd);
}

static void give_up(struct exchange *exchange)
{
	metric_add(METRIC_ABANDONED, 1);
	if (exchange->in_engine)
		call_cancel(exchange->call);
	go_on(exchange, STAGE_ABANDONED);
}

void exchange_abandon(struct exchange *exchange)
{
	if (exchange->stage == STAGE_WAITING)
		give_up(exchange);
}

enum MHD_Result exchange_wait(struct exchange *exchange)
{
	struct loop *loop = exchange->loop;

	exchange->stage = STAGE_WAITING;
	exchange->waiting_since_ms = loop->now_ms;
	loop->moving--;
	loop->lingering++;
	metric_add(METRIC_SUSPENDED, 1);
	/* The hang-up of a client that sent its request and left is not told again. */
	if (exchange->connection->hung_up)
		exchange_abandon(exchange);
	return MHD_YES;
}

/* The daemon asks those who linger in each of its runs. */
static enum MHD_Result linger(struct exchange *exchange)
{
	struct loop *loop = exchange->loop;

	if (loop_lets_linger(loop, exchange->waiting_since_ms))
		return MHD_YES;
	exchange->suspended = true;
	loop->lingering--;
	loop->suspended++;
	MHD_suspend_connection(exchange->mhd);
	return MHD_YES;
}

/* ---- Life ---- */

static void set_phase(struct exchange *exchange, enum phase phase)
{
	connections_set_phase(&exchange->loop->connections, exchange->connection, phase,
	                      exchange->loop->now_ms);
}

static struct exchange *new_exchange(struct loop *loop)
{
	struct exchange *exchange = malloc(sizeof *exchange);

	if (exchange == NULL)
		return NULL;
	memset(exchange, 0, offsetof(struct exchange, inline_body));
	exchange->loop = loop;
	loop->exchanges++;
	loop->moving++;
	loop->heard = true;
	return exchange;
}

static void free_exchange(struct exchange *exchange)
{
	exchange->loop->exchanges--;
	call_free(exchange->call);
	paired_free(exchange->paired);
	plain_release(&exchange->plain);
	target_release(&exchange->target);
	buf_release(&exchange->body);
	buf_release(&exchange->answer);
	free(exchange);
}

void *exchange_begin(void *arg, const char *uri, struct MHD_Connection *mhd)
{
	struct loop *loop = arg;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct connection *connection = info->socket_context;
	struct exchange *exchange;

	if (connection == NULL)
		return NULL; /* there was no memory for it */
	exchange = new_exchange(loop);
	if (exchange == NULL)
		return NULL;
	exchange->mhd = mhd;
	exchange->connection = connection;
	connection->exchange = exchange;
	if (connection->phase != PHASE_HEAD)
		set_phase(exchange, PHASE_HEAD);
	target_init(&exchange->target, uri != NULL ? uri : "");
	return exchange;
}

void exchange_end(void *arg, struct MHD_Connection *mhd, void **context,
                  enum MHD_RequestTerminationCode code)
{
	struct exchange *exchange = *context;

	(void)arg;
	(void)mhd;
	(void)code;
	*context = NULL;
	if (exchange == NULL)
		return;
	if (exchange->stage == STAGE_WAITING)
		give_up(exchange);
	exchange->loop->moving--;
	if (exchange->loop->runs_due == 0)
		exchange->loop->runs_due = 1; /* to read on */
	exchange->connection->exchange = NULL;
	set_phase(exchange, exchange->connection->hung_up ? PHASE_LEFT : PHASE_IDLE);
	exchange->connection = NULL;
	exchange->mhd = NULL;
	if (!exchange->in_engine)
		free_exchange(exchange);
}

enum MHD_Result exchange_await_call(struct exchange *exchange)
{
	exchange->in_engine = true;
	exchange->loop->in_engine++;
	return exchange_wait(exchange);
}

void exchange_wake(struct exchange *exchange)
{
	if (exchange->stage == STAGE_WAITING)
		go_on(exchange, STAGE_FINISHED);
}

static void deliver_finish(struct loop *loop, struct mail *mail)
{
	struct exchange *exchange = (struct exchange *)mail;

	exchange->in_engine = false;
	loop->in_engine--;
	if (exchange->mhd == NULL)
		free_exchange(exchange);
	else
		exchange_wake(exchange);
}

/* The engine's callback, on the thread that finished the call. */
static void finish(struct call *call, bool slow)
{
	struct exchange *exchange = call->edge;

	if (slow && exchange->plain.route == NULL)
		answer_encode(exchange);
	exchange->mail.deliver = deliver_finish;
	loop_post(exchange->loop, &exchange->mail);
}

const struct call_ops EXCHANGE_CALL_OPS = {.finish = finish};

/* ---- Reading the request ---- */

static enum MHD_Result take_head(struct exchange *exchange, const char *method, const char *version)
{
	struct head_refusal refusal = head_read(&exchange->head, exchange->mhd, method, version);

	if (refusal.status != 0)
		return answer_refusal(exchange, refusal.status, refusal.text);
	if (exchange->target.status == STATUS_NO_MEMORY)
		return MHD_NO;
	if (exchange->target.status != STATUS_OK)
		return answer_refusal(exchange, MHD_HTTP_BAD_REQUEST,
		                      "400 Bad Request: malformed request target");
	exchange->stage = STAGE_BODY;
	if (exchange->head.content_length.text != NULL || exchange->head.transfer_encoding.text != NULL)
		set_phase(exchange, PHASE_BODY);
	return MHD_YES;
}

static void keep_body(struct exchange *exchange, const char *data, size_t len)
{
	if (exchange->body.len == 0) {
		if (exchange->inline_len + len <= sizeof exchange->inline_body) {
			memcpy(exchange->inline_body + exchange->inline_len, data, len);
			exchange->inline_len += len;
			return;
		}
		buf_append(&exchange->body, exchange->inline_body, exchange->inline_len);
	}
	buf_append(&exchange->body, data, len);
}

const char *exchange_body(const struct exchange *exchange, size_t *len)
{
	bool is_inline = exchange->body.len == 0;

	*len = is_inline ? exchange->inline_len : exchange->body.len;
	return is_inline ? exchange->inline_body : (const char *)exchange->body.data;
}

/* Past the limit the body is still read to its end, and dropped. */
static enum MHD_Result take_body(struct exchange *exchange, const char *data, size_t len)
{
	const size_t limit = exchange->loop->edge->message_limit * GATEWAY_BODY_FACTOR;
	bool was_within = exchange->received <= limit;

	exchange->received += len;
	if (exchange->received > BODY_MAX_BYTES)
		return MHD_NO;
	if (exchange->received <= limit) {
		keep_body(exchange, data, len);
	} else if (was_within) {
		metric_add(METRIC_HTTP_TOO_LARGE, 1);
		buf_release(&exchange->body);
		exchange->inline_len = 0;
	}
	return MHD_YES;
}

static enum MHD_Result take_end(struct exchange *exchange)
{
	if (exchange->loop->stopping)
		return MHD_NO;
	set_phase(exchange, PHASE_BUSY);
	return answer_request(exchange);
}

enum MHD_Result exchange_handle(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
                                const char *version, const char *data, size_t *data_len, void **context)
{
	struct exchange *exchange = *context;
	size_t len = *data_len;

	(void)arg;
	(void)mhd;
	(void)url;
	if (exchange == NULL)
		return MHD_NO;
	switch (exchange->stage) {
	case STAGE_HEAD:
		return take_head(exchange, method, version);
	case STAGE_BODY:
		*data_len = 0;
		return len > 0 ? take_body(exchange, data, len) : take_end(exchange);
	case STAGE_FINISHED:
		return answer_finished(exchange);
	case STAGE_ABANDONED:
		return answer_canceled(exchange);
	case STAGE_WAITING:
		return linger(exchange);
	case STAGE_ANSWERED:
		break;
	}
	return MHD_YES;
}
