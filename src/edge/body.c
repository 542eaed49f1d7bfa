/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/body.h"

#include "edge/exchange.h"
#include "edge/gateway.h"
#include "engine/method.h"

enum status_code body_init(struct body *body, const struct exchange *exchange, struct arena *arena,
                           const char **error)
{
	const size_t limit = exchange->loop->edge->message_limit;

	*body = (struct body){.message_limit = limit};
	body->text = exchange_body(exchange, &body->len);
	if (exchange->body.failed)
		return STATUS_NO_MEMORY;
	if (exchange->received > body->len)
		return gateway_refuse_size(arena, exchange->received, limit * GATEWAY_BODY_FACTOR, error);
	return STATUS_OK;
}

enum status_code body_next(struct body *body, const struct method *method, struct arena *arena,
                           ProtobufCMessage **request, const char **error)
{
	enum status_code status;

	if (++body->count > BODY_MESSAGES_MAX) {
		*error = "too many messages in one body";
		return STATUS_BAD_REQUEST;
	}
	status = gateway_decode_next(method, body->message_limit, &body->text, &body->len, arena, request,
	                             error);
	if (status != STATUS_OK || *request != NULL || body->count > 1)
		return status;
	/* One request of its own is {} when it is left out; the first of many is not. */
	if (!method->request_stream) {
		const char *empty = "{}";
		size_t empty_len = 2;

		return gateway_decode_next(method, body->message_limit, &empty, &empty_len, arena, request,
		                           error);
	}
	*error = "the body holds no message";
	return STATUS_BAD_REQUEST;
}
