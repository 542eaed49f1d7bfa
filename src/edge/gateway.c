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

static bool read_timeout(struct call *call, const struct header *header)
{
	static const int64_t NS_PER_MS = 1000000;
	int64_t timeout_ns;

	if (header->len == 0)
		return true;
	if (!parse_timeout(header, &timeout_ns)) {
		call_fail(call, STATUS_BAD_REQUEST,
		          arena_printf(&call->arena, "invalid grpc-timeout: %.*s", (int)header->len,
		                       header->text));
		return false;
	}
	/* Zero is no limit. A limit below the clock's precision has as good as passed. */
	if (timeout_ns != 0 && timeout_ns < NS_PER_MS) {
		call_fail(call, STATUS_DEADLINE_EXCEEDED, NULL);
		return false;
	}
	if (timeout_ns > 0)
		call->deadline_ms = clock_ms() + (timeout_ns - 1) / NS_PER_MS + 1;
	return true;
}

/* ---- The token ---- */

static bool read_token(struct call *call, const struct head *head)
{
	static const char BEARER[] = "Bearer ";
	const size_t bearer_len = sizeof BEARER - 1;
	struct header header = head->token.text != NULL ? head->token : head->authorization;
	char *token;

	if (header.text == NULL)
		return true;
	if (header.len >= bearer_len && memcmp(header.text, BEARER, bearer_len) == 0) {
		header.text += bearer_len;
		header.len -= bearer_len;
	}
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

static void refuse_size(struct call *call, size_t size, size_t limit)
{
	call_fail(call, STATUS_MESSAGE_TOO_LARGE,
	          arena_printf(&call->arena, "grpc: received message larger than max (%zu vs. %zu)", size,
	                       limit));
}

/* The limit is for the protobuf form. That is never much longer than the JSON
 * (a negative number takes ten bytes and a tag), so the usual small request is
 * not measured. */
static bool check_size(struct call *call, const struct gateway_request *request)
{
	size_t size;

	if (request->len <= request->message_limit / 4)
		return true;
	size = protobuf_c_message_get_packed_size(call->request);
	if (size <= request->message_limit)
		return true;
	refuse_size(call, size, request->message_limit);
	return false;
}

static bool decode(struct call *call, const struct method *method, const struct gateway_request *request)
{
	ProtobufCMessage *message;
	const char *error = NULL;
	enum status_code status;

	call->method = method;
	if (!read_timeout(call, &request->head->timeout))
		return false;
	if (request->received > request->len) {
		refuse_size(call, request->received, request->message_limit * GATEWAY_BODY_FACTOR);
		return false;
	}
	status = json_decode(method->input, request->body, request->len, &call->arena, &message, &error);
	if (status != STATUS_OK) {
		call_fail(call, status, error);
		return false;
	}
	call->request = message;
	return check_size(call, request) && read_token(call, request->head);
}

bool gateway_decode(struct call *call, const struct method *method, const struct gateway_request *request)
{
	if (decode(call, method, request))
		return true;
	/* The engine counts the calls that reach it. */
	metric_add(metric_refused(status_grpc(call->status.code)), 1);
	return false;
}

unsigned gateway_encode_error(enum status_code code, struct buf *buf)
{
	json_encode_error(buf, (int)status_grpc(code), status_code_text(code));
	return (unsigned)status_http(code);
}

unsigned gateway_encode(const struct call *call, struct buf *buf)
{
	if (call->status.code == STATUS_OK)
		json_encode(call->response, buf);
	else
		json_encode_error(buf, (int)status_grpc(call->status.code), status_text(&call->status));
	return (unsigned)status_http(call->status.code);
}
