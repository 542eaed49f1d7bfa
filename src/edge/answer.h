/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a complete request is answered: which endpoint it means, and what that
 * says. Each function queues an answer, or lets the request wait until its call
 * has finished, and returns what the access handler returns (MHD_NO closes the
 * connection). On the loop's thread, but for answer_encode.
 */
#ifndef KETA_ANSWER_H
#define KETA_ANSWER_H

#include <microhttpd.h>

struct buf;
struct exchange;
struct head_refusal;
struct reply;
struct status;

/* The request is complete. */
enum MHD_Result answer_request(struct exchange *exchange);

/* Its call has finished. */
enum MHD_Result answer_finished(struct exchange *exchange);

/* Its client hung up, perhaps only for one direction. */
enum MHD_Result answer_canceled(struct exchange *exchange);

/* Its head cannot be trusted. The connection ends: where the next request
 * would start is not certain. 'text' is static. */
enum MHD_Result answer_refusal(struct exchange *exchange, unsigned status, const char *text);

/* For stream_start.c and paired.c: an answer, one with the bytes of a buffer,
 * which is taken over, an error, and a handshake that is refused. */
enum MHD_Result answer_reply(struct exchange *exchange, struct reply *reply);
enum MHD_Result answer_buf(struct exchange *exchange, struct buf *buf, struct reply *reply);
enum MHD_Result answer_error(struct exchange *exchange, const struct status *status);
enum MHD_Result answer_handshake(struct exchange *exchange, const struct head_refusal *refusal);

/* Turns a finished call into the bytes to send, ahead of time. On any thread
 * that has the call to itself. */
void answer_encode(struct exchange *exchange);

#endif
