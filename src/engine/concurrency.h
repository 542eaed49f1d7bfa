/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Lock and Election services, composed of transactions, leases and watches
 * as etcd's clients compose them. A lock or an election is a key prefix; who
 * wants it puts a key of its own under it, named after its lease, and has it
 * once no key there is older. The order is that of the create revisions.
 *
 * The handlers are declared in engine/handlers.h.
 */
#ifndef KETA_CONCURRENCY_H
#define KETA_CONCURRENCY_H

#include "engine/internal.h"

/* The server stops: those who wait on this reader's thread are told so. Their
 * keys stay, so that they find their place again. */
void concurrency_drain(struct reader *reader);

#endif
