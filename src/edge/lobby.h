/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers at the listeners while the node is not ready: while it connects to
 * Kafka, rebuilds its database and catches up, which may take minutes. Probes
 * and operators learn that it lives and how far it is; clients are told to come
 * back, or to go to another node.
 *
 *     /livez    200        /version, /metrics    as later
 *     /readyz   503, how far it is               /health    503, the same
 *     anything else   503, {"code":14, ...}
 *
 * Each answer closes its connection, so that a client's next request reaches the edge.
 */
#ifndef KETA_LOBBY_H
#define KETA_LOBBY_H

#include "base/status.h"

struct listen_set;
struct lobby;

/* Accepts at the set, which is borrowed until lobby_stop, on a thread of its own.
 * STATUS_NO_MEMORY, STATUS_INTERNAL. */
enum status_code lobby_start(const struct listen_set *set, struct lobby **out);

/* Accepts no more, answers what was asked (half a second at most), and frees the lobby. The
 * set stays open: those who connect now wait for the edge. NULL is fine. */
void lobby_stop(struct lobby *lobby);

#endif
