/* SPDX-License-Identifier: Apache-2.0 */
/* The client's side of a WebSocket, to the byte, on a socket of http_client.h. */
#ifndef KETA_WS_CLIENT_H
#define KETA_WS_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/http_client.h"

enum { WS_BYTES = 300 * 1024 };

enum ws_opcode { WS_CONTINUE = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

struct ws_frame {
	int opcode; /* -1: the connection has ended */
	size_t len;
	unsigned code;       /* of a close; 0: none */
	char data[WS_BYTES]; /* ended by NUL; of a close, the reason */
};

/* Asks for an upgrade and reads the head of the answer. 'headers' is empty or
 * lines that each end in CRLF. */
void ws_ask(int fd, const char *path, const char *headers, struct http_answer *answer);

/* A frame, masked. 'first' is the opcode with the FIN bit (0x80) and others. */
void ws_send_frame(int fd, unsigned first, const void *data, size_t len);
void ws_send_text(int fd, const char *text);
void ws_send_close(int fd, unsigned code, const char *reason);

/* The next frame from the server, which must not be masked or in fragments. */
void ws_read(int fd, struct ws_frame *frame);

#endif
