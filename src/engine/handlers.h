/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handlers that api/methods.def names: one function per RPC that is
 * built, all of the type method_run_fn (engine/method.h).
 */
#ifndef KETA_HANDLERS_H
#define KETA_HANDLERS_H

#include <stdbool.h>

struct call;
struct engine;
struct reader;

bool kv_range(struct engine *engine, struct reader *reader, struct call *call);
bool kv_put(struct engine *engine, struct reader *reader, struct call *call);
bool kv_delete_range(struct engine *engine, struct reader *reader, struct call *call);
bool kv_txn(struct engine *engine, struct reader *reader, struct call *call);
bool kv_compact(struct engine *engine, struct reader *reader, struct call *call);

bool maintenance_alarm(struct engine *engine, struct reader *reader, struct call *call);
bool maintenance_status(struct engine *engine, struct reader *reader, struct call *call);

bool cluster_member_list(struct engine *engine, struct reader *reader, struct call *call);

#endif
