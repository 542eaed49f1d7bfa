/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may talk to this server from a browser: the origins that get CORS
 * headers, and the Host names that are answered at all (a page that makes its
 * own name resolve to this address must not reach it, CVE-2018-5702).
 */
#ifndef KETA_ORIGIN_H
#define KETA_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

/* A set of names from a comma-separated list. Empty, or with a "*" in it, it
 * holds every name. Names are compared byte by byte, as etcd does. */
struct origin_set {
	char *text; /* the names, each ended by NUL */
	size_t count;
	bool any;
};

/* STATUS_OK or STATUS_NO_MEMORY. 'list' may be NULL. */
enum status_code origin_set_init(struct origin_set *set, const char *list);
void origin_set_release(struct origin_set *set);
bool origin_set_holds(const struct origin_set *set, const char *name, size_t len);

/* The name in a Host header, without port and, if there is one, without the
 * brackets of an IPv6 address. Points into 'host'. What has no port, or is
 * not well formed, is taken whole. */
const char *origin_host_name(const char *host, size_t len, size_t *name_len);

/* The text of the refusal (421) for a Host name. */
void origin_refusal(struct buf *buf, const char *name, size_t len);

#endif
