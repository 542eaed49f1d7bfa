/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of refusals is the gateway's of etcd: the time limit, then the
 * body's syntax, then the message's size.
 */
#include "edge/gateway.h"

#include <stdint.h>
#include <string.h>

#include "base/clock.h"
#include "base/metrics.h"
#include "edge/json.h"

/* ---- Grpc-Timeout ---- */

struct timeout_unit {
	char name;
	int64_t ns;
};

static const struct timeout_unit TIMEOUT_UNITS[] = {
	{'H', 3600LL * 1000000000},
	{'M', 60LL * 1000000000},
	{'S', 1000000000},
	{'m', 1000000},
	{'u', 1000},
	{'n', 1},
};

static int64_t unit_ns(char name)
{
	for (size_t i = 0; i < sizeof TIMEOUT_UNITS / sizeof TIMEOUT_UNITS[0]; i++) {
		if (TIMEOUT_UNITS[i].name == name)
			return TIMEOUT_UNITS[i].ns;
	}
	return 0;
}

/* An optional sign, digits, a unit. A time too long to count in nanoseconds is
 * cut to the longest. */
static bool parse_timeout(const struct header *header, int64_t *out_ns)
{
	const char *at = header->text;
	const char *end = header->text + header->len - 1;
	int64_t unit, value = 0;
	bool negative;

	if (header->len < 2 || (unit = unit_ns(*end)) == 0)
		return false;
	negative = *at == '-';
	if (*at == '-' || *at == '+')
		at++;
	if (at == end)
		return false;
	for (; at < end; at++) {
		if (*at < '0' || *at > '9')
			return false;
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, *at - '0', &value))
			return false;
	}
	if (__builtin_mul_overflow(value, unit, &value))
		value = INT64_MAX;
	*out_ns = negative ? -value : value;
	return true;
}

enum status_code gateway_deadline(const struct header *timeout, struct arena *arena, int64_t *deadline_ms,
                                  const char **error)
{
	static const int64_t NS_PER_MS = 1000000;
	int64_t timeout_ns;

	*deadline_ms = 0;
	*error = NULL;
	if (timeout->len == 0)
		return STATUS_OK;
	if (!parse_timeout(timeout, &timeout_ns)) {
		*error =
			arena_printf(arena, "invalid grpc-timeout: %.*s", (int)timeout->len, timeout->text);
		return STATUS_BAD_REQUEST;
	}
	/* Zero is no limit. A limit below the clock's precision has as good as passed. */
	if (timeout_ns != 0 && timeout_ns < NS_PER_MS)
		return STATUS_DEADLINE_EXCEEDED;
	if (timeout_ns > 0)
		*deadline_ms = clock_ms() + (timeout_ns - 1) / NS_PER_MS + 1;
	return STATUS_OK;
}

/* ---- The token ---- */

struct header gateway_token(const struct head *head)
{
	static const char BEARER[] = "Bearer ";
	const size_t bearer_len = sizeof BEARER - 1;
	struct header header = head->token.text != NULL ? head->token : head->authorization;

	if (header.len >= bearer_len && memcmp(header.text, BEARER, bearer_len) == 0) {
		header.text += bearer_len;
		header.len -= bearer_len;
	}
	return header;
}

static bool read_token(struct call *call, const struct head *head)
{
	struct header header = gateway_token(head);
	char *token;

	if (header.text == NULL)
		return true;
	token = arena_alloc(&call->arena, header.len + 1);
	if (token == NULL) {
		call_fail(call, STATUS_NO_MEMORY, NULL);
		return false;
	}
	memcpy(token, header.text, header.len);
	token[header.len] = '\0';
	call->token = token;
	return true;
}

/* ---- The message ---- */

enum status_code gateway_refuse_size(struct arena *arena, size_t size, size_t limit, const char **error)
{
	*error = arena_printf(arena, "grpc: received message larger than max (%zu vs. %zu)", size, limit);
	return STATUS_MESSAGE_TOO_LARGE;
}

/* The limit is for the protobuf form. That is never much longer than the JSON
 * (a negative number takes ten bytes and a tag), so the usual small request is
 * not measured. */
static enum status_code check_size(const ProtobufCMessage *message, size_t json_len, size_t limit,
                                   struct arena *arena, const char **error)
{
	size_t size;

	if (json_len <= limit / 4)
		return STATUS_OK;
	size = protobuf_c_message_get_packed_size(message);
	return size <= limit ? STATUS_OK : gateway_refuse_size(arena, size, limit, error);
}

enum status_code gateway_decode_next(const struct method *method, size_t message_limit, const char **text,
                                     size_t *len, struct arena *arena, ProtobufCMessage **out,
                                     const char **error)
{
	size_t before = *len;
	enum status_code status = json_decode_next(method->input, text, len, arena, out, error);

	if (status != STATUS_OK || *out == NULL)
		return status;
	return check_size(*out, before - *len, message_limit, arena, error);
}

static enum status_code decode_message(struct call *call, const struct gateway_request *request,
                                       const char **error)
{
	ProtobufCMessage *message;
	enum status_code status;

	if (request->received > request->len)
		return gateway_refuse_size(&call->arena, request->received,
		                           request->message_limit * GATEWAY_BODY_FACTOR, error);
	status = json_decode(call->method->input, request->body, request->len, &call->arena, &message,
	                     error);
	if (status != STATUS_OK)
		return status;
	call->request = message;
	return check_size(message, request->len, request->message_limit, &call->arena, error);
}

static bool decode(struct call *call, const struct method *method, const struct gateway_request *request)
{
	const char *error = NULL;
	enum status_code status;

	call->method = method;
	status = gateway_deadline(&request->head->timeout, &call->arena, &call->deadline_ms, &error);
	if (status == STATUS_OK)
		status = decode_message(call, request, &error);
	if (status != STATUS_OK) {
		call_fail(call, status, error);
		return false;
	}
	return read_token(call, request->head);
}

bool gateway_decode(struct call *call, const struct method *method, const struct gateway_request *request)
{
	if (decode(call, method, request))
		return true;
	/* The engine counts the calls that reach it. */
	metric_add(metric_refused(status_grpc(call->status.code)), 1);
	return false;
}

unsigned gateway_encode_error(const struct status *status, struct buf *buf)
{
	json_encode_error(buf, (int)status_grpc(status->code), status_text(status));
	return (unsigned)status_http(status->code);
}

unsigned gateway_encode(const struct call *call, struct buf *buf)
{
	if (call->status.code != STATUS_OK)
		return gateway_encode_error(&call->status, buf);
	json_encode(call->response, buf);
	return (unsigned)status_http(STATUS_OK);
}
