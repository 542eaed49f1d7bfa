/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd copies each header into three allocations, so a header that
 * need not be sent is not. Date, Content-Length and Connection are its own.
 */
#include "edge/reply.h"

#include <stdlib.h>

const char REPLY_JSON[] = "application/json";
const char REPLY_TEXT[] = "text/plain; charset=utf-8";

static const char CORS_METHODS[] = "POST, GET, OPTIONS, PUT, DELETE";
static const char CORS_HEADERS[] = "accept, content-type, authorization";

/* libmicrohttpd takes the body as writable memory and does not write. */
static void *writable(const char *body)
{
	union {
		const char *from;
		void *to;
	} cast = {.from = body};

	return cast.to;
}

static void add(struct MHD_Response *response, const char *name, const char *value)
{
	if (value != NULL)
		MHD_add_response_header(response, name, value);
}

static void add_headers(struct MHD_Response *response, const struct reply *reply)
{
	add(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
	add(response, "Grpc-Metadata-Content-Type", reply->grpc ? "application/grpc" : NULL);
	if (reply->cors_origin != NULL) {
		add(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS);
		add(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, reply->cors_origin);
		add(response, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS);
	}
	add(response, MHD_HTTP_HEADER_X_CONTENT_TYPE_OPTIONS, reply->nosniff ? "nosniff" : NULL);
	add(response, MHD_HTTP_HEADER_ALLOW, reply->allow);
	add(response, MHD_HTTP_HEADER_LOCATION, reply->location);
	add(response, MHD_HTTP_HEADER_CONNECTION, reply->close ? "close" : NULL);
}

enum MHD_Result reply_queue(struct MHD_Connection *connection, const struct reply *reply)
{
	enum MHD_ResponseMemoryMode mode = reply->owned ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT;
	struct MHD_Response *response =
		MHD_create_response_from_buffer(reply->len, writable(reply->body), mode);
	enum MHD_Result result;

	if (response == NULL) {
		if (reply->owned)
			free(writable(reply->body));
		return MHD_NO;
	}
	add_headers(response, reply);
	result = MHD_queue_response(connection, reply->status, response);
	MHD_destroy_response(response);
	return result;
}
