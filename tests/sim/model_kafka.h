/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of Kafka for simulations: one log and the tables, in memory, and what
 * each process of a node has of them (a link). Nothing happens by itself: the
 * scheduler lets records arrive, be confirmed or time out, and lets commits be
 * seen table by table.
 *
 *     log_append ─► outbox ─► the log ─► confirmation ─► log_done_fn
 *                      └────► limbo: arrives at any time, or never
 *
 * It keeps Kafka's promises and nothing beyond: records of a link arrive in the
 * order in which they were appended, but for those that timed out; a commit takes
 * effect as a whole but is seen in each table in its own time; a writer of the
 * tables that was fenced can commit nothing. The promises can be broken on demand,
 * to see that it is found out. Of the log's producer it promises less than
 * there is, since no guarantee is to rest on it: a record may arrive twice, at once or at any
 * time later, and may be overtaken by later ones, as if it had to be sent again.
 */
#ifndef KETA_MODEL_KAFKA_H
#define KETA_MODEL_KAFKA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "lib/prng.h"
#include "log/election.h"
#include "log/log.h"
#include "log/tables.h"

enum {
	MODEL_APPEND_TIMEOUT_MS = 6500,
};

struct model_record {
	uint8_t *data;
	size_t len;
	int64_t appended_ms; /* handed to the log */
	bool twin;           /* the record before, once more */
};

/* A change of one row; value NULL: it is gone. */
struct model_op {
	enum table table;
	struct buf key, value;
	bool gone;
	int64_t commit;        /* of which it is part, from 1 */
	int64_t superseded_by; /* a later commit that has the row as well; 0: none */
};

struct model_ops {
	struct model_op *items;
	size_t count, size;
};

struct model_queue {
	struct model_letter *items;
	size_t first, count, size;
};

struct model_link;

struct model_kafka {
	struct prng *prng;
	int64_t (*now_ms)(void);
	bool out; /* nobody is answered, nothing arrives */

	struct model_record *records; /* that of offset n is number n - 1 */
	size_t count, size;
	int64_t first; /* the oldest offset that is left */
	struct model_queue limbo;

	uint64_t epoch; /* of the writer of the tables */
	int64_t commits;
	struct model_ops ops;      /* of all commits */
	int64_t seen[TABLE_COUNT]; /* the commit up to which a table shows them */
	struct model_ops late;     /* a transaction whose outcome is open */
	uint64_t late_epoch;       /* its writer; 0: there is none */

	/* Who checks what happens. */
	void (*on_record)(void *arg, int64_t offset);
	void (*on_commit)(void *arg);
	void (*on_trim)(void *arg);
	/* A process may be stopped here, while it waits for Kafka. */
	void (*on_wait)(void *arg, const struct model_link *link);
	void *listener;

	/* Broken promises. */
	bool fences_nobody, shows_early, keeps_gone_leases, freezes_markers, trims_ahead, trusts_log;

	struct {
		int64_t late, twins, overtaken, timeouts, unknown_commits, fenced, commits, trims;
	} counts;
};

void model_kafka_init(struct model_kafka *kafka, struct prng *prng, int64_t (*now_ms)(void));
void model_kafka_release(struct model_kafka *kafka);

/* What a process of a node has; it follows the log from behind 'applied'. */
struct model_link *model_link_new(struct model_kafka *kafka, int64_t applied);

/* The process is gone; what it had appended may still arrive. */
void model_link_free(struct model_link *link);

struct log *model_link_log(struct model_link *link);
struct tables *model_link_tables(struct model_link *link);
struct election *model_link_election(struct model_link *link);

void model_link_give_hint(struct model_link *link, bool holds);
bool model_link_has_hint(const struct model_link *link);

/* How many records the next polls give at most. */
void model_link_set_batch(struct model_link *link, size_t batch);

/* True between the begin and the end of a transaction. */
bool model_link_is_writing(const struct model_link *link);

/* Cuts this node off from Kafka. */
void model_link_cut(struct model_link *link, bool cut);

/* A rebuild begins: from here on, with freezes_markers, the first marker read is the only one. */
void model_link_freeze(struct model_link *link);

/* Called where a process may lose the processor to its other threads. */
void model_link_on_switch(struct model_link *link, void (*run)(void *arg), void *arg);

/* The newest offset that this process has applied: for trims_ahead. */
void model_link_note_applied(struct model_link *link, int64_t offset);

/* The next record on its way arrives, or times out. */
void model_link_deliver(struct model_link *link);

/* The process hears of the oldest record that has arrived. */
void model_link_confirm(struct model_link *link);

/* Those that are too old time out. */
void model_link_expire(struct model_link *link);
size_t model_link_waiting(const struct model_link *link);

/* Where the record of this tag stands first, 0: not (yet); and whether its process was told so. */
int64_t model_link_offset(const struct model_link *link, uint64_t tag);
bool model_link_is_confirmed(const struct model_link *link, uint64_t tag);

/* One of the records in limbo arrives, or is lost. */
void model_kafka_deliver_late(struct model_kafka *kafka);

/* Adds a record as it is. */
int64_t model_kafka_append(struct model_kafka *kafka, const void *data, size_t len);

/* One more commit is seen in a table; in all, all are. */
void model_kafka_show(struct model_kafka *kafka, enum table table);
void model_kafka_show_all(struct model_kafka *kafka);

/* A commit of which nobody knows takes effect, or does not. */
void model_kafka_settle_late(struct model_kafka *kafka);

/* Takes the log's newest records away. */
void model_kafka_lose_tail(struct model_kafka *kafka, size_t count);

/* An empty log in place of the old one. */
void model_kafka_recreate(struct model_kafka *kafka);

/* Tells of the committed rows of a table, the newest of each key. */
void model_kafka_rows(const struct model_kafka *kafka, enum table table, table_row_fn *row, void *arg);

#endif
