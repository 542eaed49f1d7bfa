/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's handlers as doubles, for programs that want the method table
 * and no engine. None may be called. */
#include "engine/handlers.h"

#include <stdlib.h>

#define DOUBLE(name)                                                                                       \
	bool name(struct engine *engine, struct reader *reader, struct call *call)                         \
	{                                                                                                  \
		(void)engine;                                                                              \
		(void)reader;                                                                              \
		(void)call;                                                                                \
		abort();                                                                                   \
	}

DOUBLE(kv_range)
DOUBLE(kv_put)
DOUBLE(kv_delete_range)
DOUBLE(kv_txn)
DOUBLE(kv_compact)
DOUBLE(maintenance_alarm)
DOUBLE(maintenance_status)
DOUBLE(cluster_member_list)
