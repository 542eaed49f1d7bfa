/* SPDX-License-Identifier: Apache-2.0 */
/* A listening socket for a URL of the configuration. */
#ifndef KETA_LISTEN_URL_H
#define KETA_LISTEN_URL_H

#include <stddef.h>
#include <stdint.h>

/* Binds and listens at "http://HOST:PORT"; HOST is a name, an address, an IPv6
 * address in brackets, or empty for all addresses, and port 0 takes a free one.
 * Returns the descriptor, non-blocking, and its port, or -1 and errno's value in
 * *error, which is 0 when the text is no such URL. */
int listen_at_url(const char *url, size_t len, uint16_t *port, int *error);

#endif
