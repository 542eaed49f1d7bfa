/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The streams of one event loop: their places in its epoll, their time limits,
 * and those that have something to send. For the loop's thread only.
 */
#ifndef KETA_STREAM_SET_H
#define KETA_STREAM_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "edge/client_stream.h"

struct listener;

struct client_list {
	struct client_stream *oldest, *newest;
};

struct stream_set {
	int epoll_fd;
	struct listener *listener; /* to be told of closed connections */
	size_t message_limit;      /* of one from a client, as protobuf */
	struct buf text;           /* where a message's JSON is made */
	int64_t now_ms;

	size_t count;
	struct client_list lists[CLIENT_PHASES];
	struct client_stream **by_fd;
	size_t by_fd_size;
	struct client_stream *dirty, *last_dirty;
	bool resumed;             /* stream_resume was called while settling */
	int64_t next_deadline_ms; /* no stream's is before */
};

/* 'epoll_fd' is the loop's. Events come with an id from STREAM_ID_MIN to
 * STREAM_ID_MAX. */
#define STREAM_ID_MIN (UINT64_C(1) << 31)
#define STREAM_ID_MAX UINT32_MAX
void stream_set_init(struct stream_set *set, int epoll_fd, struct listener *listener, size_t message_limit);

/* When it is empty. */
void stream_set_release(struct stream_set *set);

/* Takes a stream in, and sets its socket up: the set owns both. False when the
 * system refuses; both are the caller's still. */
bool stream_set_add(struct stream_set *set, struct client_stream *client, enum client_phase phase);

void stream_set_phase(struct stream_set *set, struct client_stream *client, enum client_phase phase);

/* It is to be settled. Again does no harm. */
void stream_set_mark(struct stream_set *set, struct client_stream *client);

/* What epoll tells. */
void stream_set_event(struct stream_set *set, uint64_t id, uint32_t events);

/* Settles all that are marked; at the end of a turn. Returns whether the engine
 * was allowed to go on with one of them, so that it has something to do. */
bool stream_set_settle(struct stream_set *set);

/* Ends those whose deadline has passed, and returns when to be called next:
 * INT64_MAX for not at all. */
int64_t stream_set_check_deadlines(struct stream_set *set);

/* Looks after the phases' limits; every second. */
void stream_set_check_phases(struct stream_set *set);

/* Ends all streams; they go when their clients have taken what is queued. */
void stream_set_stop(struct stream_set *set);

/* Cuts them all, now. */
void stream_set_cut(struct stream_set *set);

#endif
