/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a request becomes a stream.
 *
 * Its connection is taken over from libmicrohttpd: the descriptor is
 * duplicated, and then the access handler returns MHD_NO, so that
 * libmicrohttpd closes its own and frees what it had for the connection. Since
 * it runs with MHD_USE_TURBO it does not shut the socket down first
 * (documented as "disables certain calls to shutdown()"; a test sees to it), so
 * the connection lives on in our descriptor.
 *
 * The other ways do not hold ten thousand idle streams. A suspended connection
 * is walked past by every MHD_resume_connection of another one; one that was
 * upgraded by MHD stays in the same list.
 */
#ifndef KETA_STREAM_START_H
#define KETA_STREAM_START_H

#include <microhttpd.h>

struct exchange;
struct method;

/* Answers a complete request to a METHOD_STREAM method, a POST or, if it asks
 * for a WebSocket, a GET. Is what the access handler returns. */
enum MHD_Result stream_start(struct exchange *exchange, const struct method *method);

#endif
