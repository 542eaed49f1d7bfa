/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real engine on a fresh store, with one reader that listens: what a front
 * end's thread has, run by the test itself.
 *
 *     station_open(&station, NULL);
 *     tape_open(&tape, &station, "Watch", "Watch");
 *     tape_send(&tape, &request.base);
 *     ck_assert_str_eq(tape_next(&tape), "{...}");
 *     tape_close(&tape);
 *     station_close(&station);
 */
#ifndef KETA_STATION_H
#define KETA_STATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/config.h"
#include "engine/call.h"
#include "engine/engine.h"
#include "engine/stream.h"
#include "lib/held_log.h"
#include "state/store.h"

struct station {
	struct config config;
	struct held_log *log;
	struct store *store;
	struct engine *engine;
	struct reader *reader;
	struct arena arena; /* for requests */
	int wake_fd;
	char dir[300];
};

/* 'dir' is that of a station that was closed, or NULL for a new one. */
void station_open(struct station *station, const char *dir);

/* The same on a disk of the test's (lib/fault_vfs.h); 'dir' is not NULL. */
void station_open_on(struct station *station, const char *dir, const char *vfs);
void station_close(struct station *station);

/* Runs the reader's thread's work once, waiting for some when there is none. */
void station_turn(struct station *station);

/* The work that is there, until there is none: everything that was acknowledged
 * has been told after this. */
void station_settle(struct station *station);

/* A call to its end; freed by the caller. */
struct call *station_call(struct station *station, const char *service, const char *name,
                          const ProtobufCMessage *request);

/* The same, started only; over is set when it is. */
struct errand {
	struct call *call;
	struct station *station;
	_Atomic bool over;
};
void errand_start(struct errand *errand, struct station *station, const char *service, const char *name,
                  const ProtobufCMessage *request, int64_t deadline_ms);
struct call *errand_await(struct errand *errand);

/* Puts and deletes that must succeed; the revision. end NULL: one key. */
int64_t station_put(struct station *station, const char *key, const char *value);
int64_t station_put_leased(struct station *station, const char *key, const char *value, int64_t lease);
int64_t station_delete(struct station *station, const char *key, const char *end);
void station_grant(struct station *station, int64_t id, int64_t ttl_sec);

/* A stream whose messages are kept as texts: JSON without the header's ids and
 * term, such as {"header":{"revision":"2"},"created":true}. */
struct tape {
	struct stream stream; /* first */
	struct station *station;
	struct buf *texts;
	size_t count, taken;
	bool full; /* what has_room is to deny */
	bool ended;
	struct status status;
};
void tape_open(struct tape *tape, struct station *station, const char *service, const char *name);
void tape_close(struct tape *tape);
void tape_send(struct tape *tape, const ProtobufCMessage *request);

/* Waits for the next message; valid until the tape is closed. */
const char *tape_next(struct tape *tape);

/* Whether nothing is there that was not taken, after all has settled. */
bool tape_is_silent(struct tape *tape);

#endif
