/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a plain replay of the log makes of it, written down a second time: whose
 * records count, and what they do (lib/model.h). It follows the log record by
 * record as they arrive and remembers of each offset what the state was there
 * and what the record was answered with.
 *
 * A state is compared as a sum over all that clients and nodes can tell apart,
 * which a node's database and the rows of the tables give as well.
 */
#ifndef KETA_SIM_ORACLE_H
#define KETA_SIM_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "lib/model.h"
#include "record.pb-c.h"
#include "sim/model_kafka.h"
#include "state/store.h"

enum { ORACLE_MEMBERS_MAX = 16, ORACLE_LEASES_MAX = 256 };

/* What two states are compared by. 'text', unless NULL, gets it in a form for people. */
struct content {
	uint64_t sum;
	struct buf *text;
};

struct oracle_member {
	uint64_t id, number, incarnation, sequence, level;
};

/* Of an offset. */
struct oracle_place {
	uint64_t sum;     /* of the state behind it */
	uint64_t hash;    /* the nodes' own, as the first of them had it; 0: none has been there */
	int64_t revision; /* behind it */
	uint64_t member_id, incarnation, sequence;
	bool unreadable, ignored;
	Pb__Record__RequestCase kind;
	enum status_code status;
	uint8_t *response; /* packed */
	size_t response_len;
};

/* Of a lease, by id. */
struct oracle_lease {
	int64_t id, ttl_sec;
	int64_t asked_ms;  /* when its grant or last renewal was handed to the log */
	int64_t silent_ms; /* how long the log was silent until then */
	bool ended;
};

struct oracle {
	struct model_kafka *kafka;
	struct model model;
	uint64_t cluster_id, term, owner, owner_member, level;
	struct oracle_member members[ORACLE_MEMBERS_MAX];
	size_t member_count;

	struct oracle_place *places; /* that of offset n is number n; 0 is the empty state */
	size_t count, size;

	struct oracle_lease leases[ORACLE_LEASES_MAX];
	size_t lease_count;
	int64_t expired;

	struct arena arena;
};

void oracle_init(struct oracle *oracle, struct model_kafka *kafka);
void oracle_release(struct oracle *oracle);

/* Follows one more record. NULL, or what is wrong with it. */
const char *oracle_apply(struct oracle *oracle, int64_t offset, int64_t now_ms, int64_t silent_ms);

/* The log's newest records were lost: what remains is replayed. */
void oracle_rewind(struct oracle *oracle);

const struct oracle_place *oracle_at(const struct oracle *oracle, int64_t offset);
struct oracle_lease *oracle_find_lease(struct oracle *oracle, int64_t id);
const struct oracle_member *oracle_find_member(const struct oracle *oracle, uint64_t id);

/* The state that the oracle has now. */
void oracle_sum(const struct oracle *oracle, struct content *out);

/* The same of a node between two batches, and of the rows of the tables; the
 * offset is the marker's, -1 where there is none. */
void store_sum(struct store *st, struct content *out);
int64_t tables_sum(const struct model_kafka *kafka, struct content *out);

/* The state at an offset, found by another replay: for people. */
void oracle_explain(const struct oracle *oracle, int64_t offset, struct buf *text);

/* A response as it is compared: without what its node adds. The bytes are the caller's. */
uint8_t *oracle_pack(ProtobufCMessage *response, size_t *len);

#endif
