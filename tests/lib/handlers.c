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

#define OPEN_DOUBLE(name)                                                                                  \
	bool name(struct engine *engine, struct stream *stream)                                            \
	{                                                                                                  \
		(void)engine;                                                                              \
		(void)stream;                                                                              \
		abort();                                                                                   \
	}

DOUBLE(kv_range)
DOUBLE(kv_put)
DOUBLE(kv_delete_range)
DOUBLE(kv_txn)
DOUBLE(kv_compact)
OPEN_DOUBLE(watch_open)
DOUBLE(lease_grant)
DOUBLE(lease_revoke)
OPEN_DOUBLE(keep_alive_open)
DOUBLE(lease_time_to_live)
DOUBLE(lease_leases)
DOUBLE(maintenance_alarm)
DOUBLE(maintenance_status)
DOUBLE(cluster_member_list)
DOUBLE(lock_lock)
DOUBLE(lock_unlock)
DOUBLE(election_campaign)
DOUBLE(election_proclaim)
DOUBLE(election_leader)
OPEN_DOUBLE(election_observe)
DOUBLE(election_resign)
