/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream over HTTP that answers each request with one message and then ends,
 * as a keep-alive of leases: its few answers are collected and sent as one
 * ordinary answer. The connection stays libmicrohttpd's, and open.
 */
#ifndef KETA_PAIRED_H
#define KETA_PAIRED_H

#include <microhttpd.h>

struct exchange;
struct method;
struct paired;

/* Runs a complete request. Is what the access handler returns. */
enum MHD_Result paired_start(struct exchange *exchange, const struct method *method);

/* The exchange was resumed because it has ended. */
enum MHD_Result paired_finished(struct exchange *exchange);

/* Whenever the exchange goes. NULL is fine. */
void paired_free(struct paired *paired);

#endif
