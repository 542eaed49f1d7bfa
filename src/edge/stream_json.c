/* SPDX-License-Identifier: Apache-2.0 */
/*
 * {"result":{"header":{...},"watch_id":"1","events":[E,E,E]}}
 *  └──────────── the buffer ───────────────────────┘       └─ TAIL
 *
 * The order of the fields of a JSON object means nothing: events come last,
 * where they can be put behind a head that is encoded like any message.
 */
#include "edge/stream_json.h"

#include "edge/json.h"
#include "edge/out_queue.h"
#include "engine/stream.h"
#include "state/event.h"

static const char TAIL[] = "]}}";

/* From so many events on their text is one, to be referred to: it has some 4 KiB
 * then, and what is shorter the queue copies anyway. */
enum { RUN_EVENTS_MIN = 32 };

static void encode_event(const Pb__Event *event, struct buf *buf)
{
	json_encode(&event->base, buf);
}

static enum event_form which_form(const struct watch_message *message)
{
	return message->prev_kv ? EVENT_JSON_PREV : EVENT_JSON;
}

static const struct event_bytes *form_of(const struct watch_message *message, size_t i)
{
	return event_form(message->events[i], which_form(message), encode_event);
}

static const struct event_bytes *run_of(const struct watch_message *message)
{
	if (message->count < RUN_EVENTS_MIN)
		return NULL;
	return event_run_form(message->events, message->count, which_form(message), encode_event);
}

static bool finish(struct stream_json *json, struct buf *buf)
{
	*json = (struct stream_json){.buf = buf, .len = buf->len};
	return !buf->failed;
}

bool stream_json_message(struct stream_json *json, struct buf *buf, const ProtobufCMessage *message)
{
	buf_reset(buf);
	buf_append_text(buf, "{\"result\":");
	json_encode(message, buf);
	buf_append_byte(buf, '}');
	return finish(json, buf);
}

bool stream_json_error(struct stream_json *json, struct buf *buf, const struct status *status)
{
	buf_reset(buf);
	buf_append_text(buf, "{\"error\":");
	json_encode_error(buf, (int)status_grpc(status->code), status_text(status));
	buf_append_byte(buf, '}');
	return finish(json, buf);
}

/* Takes the brace off that ends the head, and goes on behind it. */
static void open_events(struct buf *buf)
{
	if (buf->failed)
		return;
	buf->len--;
	if (buf->data[buf->len - 1] != '{')
		buf_append_byte(buf, ',');
	buf_append_text(buf, "\"events\":[");
}

/* Adds the length of the events, with the commas between. */
static bool measure_events(struct stream_json *json)
{
	const struct watch_message *message = json->watch;

	json->run = run_of(message);
	if (json->run != NULL) {
		json->len += json->run->len;
		return true;
	}
	json->len += message->count - 1;
	for (size_t i = 0; i < message->count; i++) {
		const struct event_bytes *form = form_of(message, i);

		if (form == NULL)
			return false;
		json->len += form->len;
	}
	return true;
}

bool stream_json_events(struct stream_json *json, struct buf *buf, const struct watch_message *message)
{
	if (message->count == 0)
		return stream_json_message(json, buf, message->head);
	buf_reset(buf);
	buf_append_text(buf, "{\"result\":");
	json_encode(message->head, buf);
	open_events(buf);
	if (!finish(json, buf))
		return false;
	json->watch = message;
	json->len += sizeof TAIL - 1;
	return measure_events(json);
}

static void append_one_by_one(const struct watch_message *message, struct out_queue *queue)
{
	for (size_t i = 0; i < message->count; i++) {
		/* It was made when the message was measured, and stays. */
		const struct event_bytes *form = form_of(message, i);

		if (i > 0)
			out_queue_append(queue, ",", 1);
		out_queue_append_shared(queue, message->events[i]->batch, form->data, form->len);
	}
}

void stream_json_append(const struct stream_json *json, struct out_queue *queue)
{
	out_queue_append(queue, json->buf->data, json->buf->len);
	if (json->watch == NULL)
		return;
	if (json->run != NULL)
		out_queue_append_shared(queue, json->watch->events[0]->batch, json->run->data,
		                        json->run->len);
	else
		append_one_by_one(json->watch, queue);
	out_queue_append(queue, TAIL, sizeof TAIL - 1);
}
