/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream as a response of HTTP/1.1 that does not end: one line of JSON per
 * message, each in a chunk. Nothing is sent before the first message, not even
 * the status, which an error may still decide.
 *
 * The request's body has ended. Whatever the client sends now stays unread in
 * the kernel, which stops it when its buffer is full.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "edge/client_stream.h"
#include "edge/reply.h"
#include "edge/stream_json.h"
#include "edge/stream_set.h"

struct http_stream {
	struct client_stream client; /* first */
	bool chunked;
	bool head_sent;
	char *cors_origin; /* NULL: any, or none */
	bool any_origin;
};

static const char CHUNKED[] = "Transfer-Encoding: chunked\r\n";
static const char LAST_CHUNK[] = "0\r\n\r\n";

enum { FRAMING_BYTES = 64 };

static const char *origin_of(const struct http_stream *http)
{
	return http->any_origin ? "*" : http->cors_origin;
}

static void send_head(struct http_stream *http, struct reply *reply, const char *framing)
{
	struct buf head;

	buf_init(&head);
	reply->cors_origin = origin_of(http);
	reply->close = true;
	reply_write_head(reply, framing, &head);
	if (head.failed)
		http->client.out.failed = true;
	else
		out_queue_append(&http->client.out, head.data, head.len);
	buf_release(&head);
	http->head_sent = true;
}

/* One line, in a chunk if the client knows chunks. */
static void send_line(struct http_stream *http, const struct stream_json *json)
{
	struct out_queue *out = &http->client.out;
	char size[FRAMING_BYTES];

	if (http->chunked) {
		snprintf(size, sizeof size, "%zx\r\n", json->len + 1);
		out_queue_append_text(out, size);
	}
	stream_json_append(json, out);
	out_queue_append_text(out, http->chunked ? "\n\r\n" : "\n");
}

static void send_message(struct client_stream *client, const struct stream_json *json)
{
	struct http_stream *http = (struct http_stream *)client;
	struct reply reply = {.status = MHD_HTTP_OK, .content_type = REPLY_JSON, .grpc = true};

	if (!http->head_sent)
		send_head(http, &reply, http->chunked ? CHUNKED : "");
	send_line(http, json);
}

/* The whole answer: an error before anything was said, or nothing at all. */
static void send_alone(struct http_stream *http, const struct status *status)
{
	struct out_queue *out = &http->client.out;
	struct reply reply = {.status = (unsigned)status_http(status->code)};
	struct stream_json json = {0};
	char framing[FRAMING_BYTES];

	if (status->code != STATUS_OK) {
		reply.content_type = REPLY_JSON;
		out->failed = !stream_json_error(&json, &http->client.set->text, status) || out->failed;
	}
	snprintf(framing, sizeof framing, "Content-Length: %zu\r\n", json.len + (json.len > 0));
	send_head(http, &reply, framing);
	if (json.len == 0)
		return;
	stream_json_append(&json, out);
	out_queue_append_text(out, "\n");
}

static void send_end(struct client_stream *client, const struct status *status)
{
	struct http_stream *http = (struct http_stream *)client;
	struct stream_json json;

	if (!http->head_sent) {
		send_alone(http, status);
		return;
	}
	if (status->code != STATUS_OK) {
		if (stream_json_error(&json, &client->set->text, status))
			send_line(http, &json);
		else
			client->out.failed = true;
	}
	if (http->chunked)
		out_queue_append_text(&client->out, LAST_CHUNK);
}

/* A stream that has begun just ends. */
static void stop(struct client_stream *client)
{
	struct http_stream *http = (struct http_stream *)client;
	const struct status status = {.code = http->head_sent ? STATUS_OK : STATUS_STOPPED};

	send_end(client, &status);
}

static bool wants_input(const struct client_stream *client)
{
	(void)client;
	return false;
}

static bool is_done(const struct client_stream *client)
{
	(void)client;
	return true;
}

static void free_stream(struct client_stream *client)
{
	free(((struct http_stream *)client)->cors_origin);
	client_stream_release(client);
	free(client);
}

static const struct client_kind HTTP_KIND = {
	.message = send_message,
	.end = send_end,
	.stop = stop,
	.wants_input = wants_input,
	.is_done = is_done,
	.free = free_stream,
};

struct client_stream *http_stream_new(const struct client_options *options, const char *cors_origin,
                                      bool chunked)
{
	struct http_stream *http = calloc(1, sizeof *http);

	if (http == NULL)
		return NULL;
	if (!client_stream_init(&http->client, &HTTP_KIND, options))
		goto no_memory;
	http->chunked = chunked;
	http->any_origin = cors_origin != NULL && strcmp(cors_origin, "*") == 0;
	if (cors_origin == NULL || http->any_origin)
		return &http->client;
	http->cors_origin = strdup(cors_origin);
	if (http->cors_origin != NULL)
		return &http->client;
	client_stream_release(&http->client);

no_memory:
	free(http);
	return NULL;
}
