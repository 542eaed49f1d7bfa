/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handlers that api/methods.def names: one function per RPC that is
 * built, of the type method_run_fn, or method_open_fn for a stream
 * (engine/method.h).
 */
#ifndef KETA_HANDLERS_H
#define KETA_HANDLERS_H

#include <stdbool.h>

struct call;
struct engine;
struct reader;
struct stream;

bool kv_range(struct engine *engine, struct reader *reader, struct call *call);
bool kv_put(struct engine *engine, struct reader *reader, struct call *call);
bool kv_delete_range(struct engine *engine, struct reader *reader, struct call *call);
bool kv_txn(struct engine *engine, struct reader *reader, struct call *call);
bool kv_compact(struct engine *engine, struct reader *reader, struct call *call);

bool watch_open(struct engine *engine, struct stream *stream);

bool lease_grant(struct engine *engine, struct reader *reader, struct call *call);
bool lease_revoke(struct engine *engine, struct reader *reader, struct call *call);
bool keep_alive_open(struct engine *engine, struct stream *stream);
bool lease_time_to_live(struct engine *engine, struct reader *reader, struct call *call);
bool lease_leases(struct engine *engine, struct reader *reader, struct call *call);

bool lock_lock(struct engine *engine, struct reader *reader, struct call *call);
bool lock_unlock(struct engine *engine, struct reader *reader, struct call *call);

bool election_campaign(struct engine *engine, struct reader *reader, struct call *call);
bool election_proclaim(struct engine *engine, struct reader *reader, struct call *call);
bool election_leader(struct engine *engine, struct reader *reader, struct call *call);
bool election_observe(struct engine *engine, struct stream *stream);
bool election_resign(struct engine *engine, struct reader *reader, struct call *call);

bool maintenance_alarm(struct engine *engine, struct reader *reader, struct call *call);
bool maintenance_status(struct engine *engine, struct reader *reader, struct call *call);

bool cluster_member_list(struct engine *engine, struct reader *reader, struct call *call);

#endif
