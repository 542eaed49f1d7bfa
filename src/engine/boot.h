/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before a node under a shared log starts: is its database a state of this very
 * log, and does the log still hold what comes next? Where not, either the
 * database is built anew from the tables, or the node refuses and says why.
 *
 *     store_open ─ boot_look ─┬─ follow: engine_join
 *                             └─ rebuild: store_close ─ rebuild_turn* ─ store_open ─ boot_look
 *
 * What has no newer state in the tables and no way on in the log is never served:
 * a log that was cut below the node's position while the tables have no
 * checkpoint behind that, a record at the position that is another one than was
 * applied, a log that ends before the position or before the newest checkpoint.
 */
#ifndef KETA_BOOT_H
#define KETA_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "log/log.h"
#include "log/tables.h"
#include "state/store.h"

/* What was found. */
struct boot {
	bool rebuild;           /* the database has to be built anew, from a checkpoint at: */
	int64_t marker_offset;  /* 0: from nothing, by the log alone */
	bool found;             /* there is nothing anywhere: a cluster may be founded */
	int64_t caught_up_at;   /* the log's newest offset */
	int64_t short_since_ms; /* how long the log has been too short; 0 before the first look */
};

/* Looks; 'boot' is all zero before the first time. 'discard' says that the
 * database must not be used, whatever it holds. Blocks while it asks. STATUS_OK;
 * STATUS_BUSY: look again in a moment; STATUS_NO_KAFKA; STATUS_BAD_LOG: refused,
 * and the log says why and what to do. */
enum status_code boot_look(struct boot *boot, struct store *st, struct log *log, struct tables *tables,
                           bool discard, int64_t now_ms);

/* Builds the database in 'dir' anew, while no store is open there. */
struct rebuild;
enum status_code rebuild_new(const char *dir, const char *vfs, const char *kafka_id, struct log *log,
                             struct tables *tables, struct rebuild **out);

/* One turn; blocks while it reads. STATUS_BUSY: there is more to do; STATUS_OK: done. Otherwise it
 * failed: STATUS_NO_KAFKA and such as rebuild_new may be tried again, STATUS_BAD_LOG not. */
enum status_code rebuild_turn(struct rebuild *rebuild, int64_t now_ms);
void rebuild_free(struct rebuild *rebuild);

#endif
