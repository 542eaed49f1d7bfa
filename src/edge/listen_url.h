/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket for a URL of the configuration. */
#ifndef KETA_LISTEN_URL_H
#define KETA_LISTEN_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { LISTEN_URL_BYTES = 288 }; /* the longest host name, and what stands around it */

struct listen_socket {
	int fd; /* non-blocking, the caller's; -1 after a failure */
	uint16_t port;
	bool is_loopback;           /* only this machine can connect */
	char url[LISTEN_URL_BYTES]; /* as given, with the port that was bound */
	const char *error;          /* after a failure: why; not to be freed */
};

/* Binds and listens at "http://HOST:PORT"; HOST is a name, an address, an IPv6
 * address in brackets, or empty for all addresses, and port 0 takes a free one.
 * STATUS_BAD_CONFIG when the text is no such URL, STATUS_CANNOT_LISTEN when the
 * system refuses, which may pass. One thread at a time. */
enum status_code listen_at_url(const char *url, size_t len, struct listen_socket *out);

#endif
