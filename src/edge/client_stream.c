/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/client_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "edge/stream_json.h"
#include "edge/stream_set.h"

enum { READ_BYTES = 16384 }; /* at once; the next turn of the loop reads on */

/* ---- What the engine calls ---- */

static void queue_message(struct client_stream *client, const struct stream_json *json)
{
	client->kind->message(client, json);
	stream_set_mark(client->set, client);
}

static void on_message(struct stream *stream, const ProtobufCMessage *response)
{
	struct client_stream *client = (struct client_stream *)stream;
	struct stream_json json;

	if (client->over || client->lost)
		return;
	if (stream_json_message(&json, &client->set->text, response))
		queue_message(client, &json);
	else
		client_stream_lose(client);
}

static void on_events(struct stream *stream, const struct watch_message *message)
{
	struct client_stream *client = (struct client_stream *)stream;
	struct stream_json json;

	if (client->over || client->lost)
		return;
	if (stream_json_events(&json, &client->set->text, message))
		queue_message(client, &json);
	else
		client_stream_lose(client);
}

static void on_end(struct stream *stream, const struct status *status)
{
	client_stream_end((struct client_stream *)stream, status);
}

static bool has_room(const struct stream *stream)
{
	const struct client_stream *client = (const struct client_stream *)stream;

	return client->out.len < CLIENT_ROOM_BYTES;
}

static const struct stream_ops OPS = {
	.message = on_message,
	.events = on_events,
	.end = on_end,
	.has_room = has_room,
};

/* ---- Life ---- */

bool client_stream_init(struct client_stream *client, const struct client_kind *kind,
                        const struct client_options *options)
{
	*client = (struct client_stream){
		.stream = {.ops = &OPS, .method = options->method},
		.kind = kind,
		.set = options->set,
		.fd = options->fd,
		.deadline_ms = options->deadline_ms,
	};
	out_queue_init(&client->out);
	if (options->token.text == NULL)
		return true;
	client->token = strndup(options->token.text, options->token.len);
	client->stream.token = client->token;
	return client->token != NULL;
}

void client_stream_release(struct client_stream *client)
{
	out_queue_release(&client->out);
	free(client->token);
}

void client_stream_close(struct client_stream *client)
{
	if (client->closed)
		return;
	client->closed = true;
	stream_close(&client->stream);
}

void client_stream_end(struct client_stream *client, const struct status *status)
{
	if (client->over || client->lost)
		return;
	client->kind->end(client, status);
	client->over = true;
	stream_set_mark(client->set, client);
}

void client_stream_stop(struct client_stream *client)
{
	if (client->over || client->lost)
		return;
	client->kind->stop(client);
	client->over = true;
	stream_set_mark(client->set, client);
}

void client_stream_lose(struct client_stream *client)
{
	client->lost = true;
	stream_set_mark(client->set, client);
}

/* ---- The socket ---- */

void client_stream_read(struct client_stream *client)
{
	char data[READ_BYTES];
	ssize_t len = recv(client->fd, data, sizeof data, MSG_DONTWAIT);

	if (len > 0)
		client->kind->receive(client, data, (size_t)len);
	else if (len == 0 || (errno != EAGAIN && errno != EINTR))
		client_stream_lose(client);
	stream_set_mark(client->set, client);
}

/* Nothing is sent but here: if the engine has been told in this turn that there is
 * no room, there is none now, be it messages or pongs that have taken it. */
static void note_crowding(struct client_stream *client)
{
	client->crowded = client->crowded || client->out.len >= CLIENT_ROOM_BYTES;
}

/* Lets the engine go on when enough has been taken by the client. */
static void resume(struct client_stream *client)
{
	if (!client->crowded || client->over || client->out.len >= CLIENT_RESUME_BYTES)
		return;
	client->crowded = false;
	client->set->resumed = true;
	stream_resume(&client->stream);
}

bool client_stream_settle(struct client_stream *client)
{
	enum out_result result;

	if (client->over || client->lost)
		client_stream_close(client);
	if (client->lost || client->out.failed)
		return false;
	note_crowding(client);
	result = out_queue_send(&client->out, client->fd);
	if (result == OUT_LOST)
		return false;
	if (result == OUT_EMPTY && client->over && client->kind->is_done(client))
		return false;
	client->full = result == OUT_FULL;
	resume(client);
	return true;
}
