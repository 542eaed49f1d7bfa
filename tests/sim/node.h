/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node of a simulation: the real engine, store and boot over a model of Kafka,
 * without threads. What a process would do by itself is done when the scheduler
 * says so.
 *
 *     DOWN ──► LOOK ──► RUN ──► DOWN, LOOK or REFUSED
 *               │ ▲
 *               ▼ │
 *             REBUILD
 */
#ifndef KETA_SIM_NODE_H
#define KETA_SIM_NODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "engine/boot.h"
#include "engine/internal.h"
#include "sim/model_kafka.h"

enum node_phase { NODE_DOWN, NODE_LOOK, NODE_REBUILD, NODE_RUN, NODE_REFUSED };

/* How a process ends. */
enum node_end { NODE_STOP, NODE_KILL, NODE_POWER_CUT, NODE_WIPE };

enum { NODE_COPIES = 2 };

struct node {
	struct model_kafka *kafka;
	const char *label; /* for people */
	char name[16], dir[256];
	const char *vfs;
	struct config config;
	uint32_t max_level;
	uint64_t incarnation; /* of the next process */

	enum node_phase phase;
	enum status_code refused; /* with what */
	bool paused, discard;
	struct model_link *link;
	struct store *store;
	struct boot boot;
	struct rebuild *rebuild;
	struct engine *engine;
	struct reader *reader;
	bool dying;             /* calls that end now do so because the process does */
	int copies;             /* of the files, older states that a power cut may fall back to */
	uint64_t claimed;       /* the term that it was last seen to lead in */
	bool keeps_position;    /* broken: a power cut takes back everything but the position */
	int64_t rebuilds, gaps; /* the latter: because the log no longer reached back to its position */

	/* Told when a node has come up, or has applied something. */
	void (*on_position)(void *arg, struct node *node);
	void *listener;
};

/* A node that is down. 'dir' is created. */
void node_init(struct node *node, struct model_kafka *kafka, const char *parent, const char *name);

/* Starts a process. */
void node_start(struct node *node);

/* Ends it, if there is one. */
void node_end(struct node *node, enum node_end how);

/* One turn of whatever it does: looking, rebuilding, or, when it runs, nothing. */
void node_boot_turn(struct node *node);

/* Of a node that runs: the applier's, at most so many records, with the reads that it makes ready. */
void node_apply(struct node *node, size_t batch);
void node_keep_house(struct node *node);
void node_lead(struct node *node);
void node_guard(struct node *node);

bool node_is_ready(const struct node *node);
int64_t node_position(const struct node *node);

/* Remembers the files as they are, for a power cut. */
void node_copy(struct node *node);

#endif
