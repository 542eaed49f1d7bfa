/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/2 client starts with a fixed text that no HTTP/1 request begins with
 * (RFC 9113, section 3.4). One byte that differs decides; to be HTTP/2, all of
 * it must be there.
 */
#include "edge/greeting.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum { PREFACE_BYTES = sizeof PREFACE - 1 };

enum greeting greeting_peek(int fd)
{
	char bytes[PREFACE_BYTES];
	ssize_t len = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);

	if (len < 0)
		return errno == EAGAIN || errno == EINTR ? GREETING_UNKNOWN : GREETING_CLOSED;
	if (len == 0)
		return GREETING_CLOSED;
	if (memcmp(bytes, PREFACE, (size_t)len) != 0)
		return GREETING_HTTP1;
	return len == PREFACE_BYTES ? GREETING_HTTP2 : GREETING_UNKNOWN;
}
