/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream to one client, on a socket of its own.
 *
 * Such a socket is not libmicrohttpd's any more. It was accepted and its
 * request was read there, and then it is taken over (edge/stream_start.h),
 * because a connection that stays suspended there makes every resumption of
 * another one walk past it: ten thousand idle watches would cost every put.
 *
 *   engine ── message, events ──► kind: a chunk or a frame ──► out ──► socket
 *     ▲                                                               │
 *     └────────── stream_receive ◄── kind: frames (WebSocket only) ◄──┘
 *
 * What happens in a turn of the loop only marks a stream dirty. It is settled
 * once, at the end of the turn: all messages go out in one system call, and
 * whatever has ended is freed, when nobody is inside it.
 *
 * For the loop's thread.
 */
#ifndef KETA_CLIENT_STREAM_H
#define KETA_CLIENT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "edge/head.h"
#include "edge/out_queue.h"
#include "engine/stream.h"

struct client_stream;
struct handshake;
struct stream_json;
struct stream_set;

enum {
	/* What a client may owe us before the engine holds back. One message may
	 * go beyond it. */
	CLIENT_ROOM_BYTES = 256 << 10,
	/* When it has come down to this, the engine goes on. */
	CLIENT_RESUME_BYTES = CLIENT_ROOM_BYTES / 2,
};

/* What a stream waits for; each has its own time limit. */
enum client_phase {
	CLIENT_OPEN,    /* anything, without a limit */
	CLIENT_QUIET,   /* the next ping */
	CLIENT_PINGED,  /* the answer to it */
	CLIENT_CLOSING, /* the client's side of the closing */
	CLIENT_PHASES
};

/* How a stream is spoken. After the end none is called but 'receive',
 * 'wants_input', 'is_done', 'expire' and 'free'. A kind that never wants input
 * has no 'receive', and one that stays in CLIENT_OPEN no 'expire'. */
struct client_kind {
	void (*message)(struct client_stream *client, const struct stream_json *json);
	void (*end)(struct client_stream *client, const struct status *status);
	void (*stop)(struct client_stream *client); /* an end that is the server's own */
	void (*receive)(struct client_stream *client, const void *data, size_t len);
	bool (*wants_input)(const struct client_stream *client);
	bool (*is_done)(const struct client_stream *client);          /* once all is sent */
	void (*expire)(struct client_stream *client, int64_t now_ms); /* of its phase */
	void (*free)(struct client_stream *client);
};

struct client_stream {
	struct stream stream; /* first */
	const struct client_kind *kind;
	struct stream_set *set;

	/* The set's. */
	struct client_stream *prev, *next; /* in its phase's list, by age */
	struct client_stream *next_dirty;
	enum client_phase phase;
	int64_t since_ms;
	uint32_t interest; /* the epoll events asked for */
	bool dirty;

	int fd;
	bool over;           /* the last message is queued */
	bool closed;         /* stream_close was called */
	bool lost;           /* the connection is of no use any more */
	bool full;           /* the socket takes no more for now */
	bool crowded;        /* has had no room since the last stream_resume */
	int64_t deadline_ms; /* 0: none */
	char *token;
	struct out_queue out;
};

/* What both kinds begin with. The socket, the token's copy and the struct
 * belong to the set after stream_set_add. */
struct client_options {
	struct stream_set *set;
	const struct method *method;
	int fd;
	struct header token; /* its text is NULL if there is none */
	int64_t deadline_ms;
};

/* False without memory; there is nothing to release then. */
bool client_stream_init(struct client_stream *client, const struct client_kind *kind,
                        const struct client_options *options);

/* Frees what it owns, but for the socket. */
void client_stream_release(struct client_stream *client);

/* Ends it, from the edge's side or the engine's. Does nothing once it is over. */
void client_stream_end(struct client_stream *client, const struct status *status);
void client_stream_stop(struct client_stream *client);

/* The connection is broken, or not worth keeping. */
void client_stream_lose(struct client_stream *client);

/* The socket can be read. */
void client_stream_read(struct client_stream *client);

/* Sends what is queued. False when the stream is done with and to be freed. */
bool client_stream_settle(struct client_stream *client);

/* Closes the engine's side, if it has not been. */
void client_stream_close(struct client_stream *client);

/* The two kinds, not yet in the set; NULL without memory. 'cors_origin' is
 * copied unless it is "*"; 'chunked' says that the client knows HTTP/1.1. */
struct client_stream *http_stream_new(const struct client_options *options, const char *cors_origin,
                                      bool chunked);
struct client_stream *ws_stream_new(const struct client_options *options,
                                    const struct handshake *handshake);

#endif
