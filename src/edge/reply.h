/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer, as the headers a client of etcd expects, given to libmicrohttpd or
 * written out.
 */
#ifndef KETA_REPLY_H
#define KETA_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#include <microhttpd.h>

#include "base/buf.h"

struct reply {
	unsigned status;
	const char *content_type; /* NULL: no header */
	const char *body;         /* static, unless 'owned' */
	size_t len;
	bool owned; /* the body came from malloc and is freed once sent */
	bool grpc;  /* with Grpc-Metadata-Content-Type, as successes of the gateway */
	bool nosniff;
	bool close;              /* the connection ends with this answer */
	const char *cors_origin; /* NULL: no CORS headers */
	const char *allow;       /* NULL: no such header; so is the next */
	const char *location;
	const char *websocket_version; /* that is spoken here */
};

extern const char REPLY_JSON[];
extern const char REPLY_TEXT[];

/* Queues the answer; to be called from the access handler, and what that
 * returns. An owned body is freed also when this fails (MHD_NO). */
enum MHD_Result reply_queue(struct MHD_Connection *connection, const struct reply *reply);

/* Appends the status line and the headers, for a connection that libmicrohttpd
 * has no part in any more. 'framing' says where the body ends: a header with
 * its CRLF, or "". */
void reply_write_head(const struct reply *reply, const char *framing, struct buf *buf);

#endif
