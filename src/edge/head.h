/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of a request: the headers that this server reads, and the refusals
 * that libmicrohttpd leaves to its user. A request whose end two parsers could
 * see in different places is refused: behind a proxy it would smuggle another.
 */
#ifndef KETA_HEAD_H
#define KETA_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <microhttpd.h>

/* A header's value in the connection's memory, valid as long as the request;
 * text is NULL when the header is absent. */
struct header {
	const char *text;
	size_t len;
};

struct head {
	const char *method;
	bool is_1_0; /* HTTP/1.0 */
	struct header host;
	struct header origin;
	struct header authorization;
	struct header token;   /* Grpc-Metadata-Token */
	struct header timeout; /* Grpc-Timeout */
	struct header method_override;
	struct header content_type;
	struct header content_length;
	struct header transfer_encoding;
	struct header expect;
	struct header upgrade;
	bool malformed; /* a name, a value, or two that contradict each other */
};

/* Why a head is refused: an HTTP status and a line of text; 0 if it is not. */
struct head_refusal {
	unsigned status;
	const char *text;
};

/* Reads the headers once, and judges them. */
struct head_refusal head_read(struct head *head, struct MHD_Connection *connection, const char *method,
                              const char *version);

/* The announced length of the body, 0 if there is none or it is chunked. */
uint64_t head_content_length(const struct head *head);

/* The gateway lets a form's POST stand for another method; then that method,
 * else the request's own. */
const char *head_method(const struct head *head);

#endif
