/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libmicrohttpd copies each header into three allocations, so a header that
 * need not be sent is not. Date, Content-Length and Connection are its own.
 */
#include "edge/reply.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

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

/* Where a header goes. */
typedef void header_put_fn(void *to, const char *name, const char *value);

static void put_headers(const struct reply *reply, header_put_fn *put, void *to)
{
	put(to, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
	put(to, "Grpc-Metadata-Content-Type", reply->grpc ? "application/grpc" : NULL);
	if (reply->cors_origin != NULL) {
		put(to, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_METHODS, CORS_METHODS);
		put(to, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_ORIGIN, reply->cors_origin);
		put(to, MHD_HTTP_HEADER_ACCESS_CONTROL_ALLOW_HEADERS, CORS_HEADERS);
	}
	put(to, MHD_HTTP_HEADER_X_CONTENT_TYPE_OPTIONS, reply->nosniff ? "nosniff" : NULL);
	put(to, MHD_HTTP_HEADER_ALLOW, reply->allow);
	put(to, MHD_HTTP_HEADER_LOCATION, reply->location);
	put(to, MHD_HTTP_HEADER_SEC_WEBSOCKET_VERSION, reply->websocket_version);
	put(to, MHD_HTTP_HEADER_CONNECTION, reply->close ? "close" : NULL);
}

static void put_in_response(void *to, const char *name, const char *value)
{
	struct MHD_Response *response = to;

	if (value != NULL)
		MHD_add_response_header(response, name, value);
}

static void put_in_buf(void *to, const char *name, const char *value)
{
	struct buf *buf = to;

	if (value == NULL)
		return;
	buf_append_text(buf, name);
	buf_append_text(buf, ": ");
	buf_append_text(buf, value);
	buf_append_text(buf, "\r\n");
}

/* In the one form that is sent (RFC 9110, section 5.6.7), whatever the locale. */
static void write_date(struct buf *buf)
{
	static const char DAYS[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char MONTHS[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	                                 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t now = (time_t)(clock_wall_ms() / 1000);
	struct tm tm;

	gmtime_r(&now, &tm);
	buf_printf(buf, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", DAYS[tm.tm_wday], tm.tm_mday,
	           MONTHS[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void reply_write_head(const struct reply *reply, const char *framing, struct buf *buf)
{
	buf_printf(buf, "HTTP/1.1 %u %s\r\n", reply->status, MHD_get_reason_phrase_for(reply->status));
	write_date(buf);
	put_headers(reply, put_in_buf, buf);
	buf_append_text(buf, framing);
	buf_append_text(buf, "\r\n");
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
	put_headers(reply, put_in_response, response);
	result = MHD_queue_response(connection, reply->status, response);
	MHD_destroy_response(response);
	return result;
}
