/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two small sets of names. They are read from the configuration once and
 * hold a handful of names each: a linear search is enough.
 */
#include "edge/origin.h"

#include <stdlib.h>
#include <string.h>

enum status_code origin_set_init(struct origin_set *set, const char *list)
{
	const char *from = list != NULL ? list : "";
	char *to;

	*set = (struct origin_set){0};
	set->text = malloc(strlen(from) + 2);
	if (set->text == NULL)
		return STATUS_NO_MEMORY;
	to = set->text;
	while (*from != '\0') {
		size_t len;

		from += strspn(from, ", \t");
		len = strcspn(from, ", \t");
		if (len == 0)
			continue;
		memcpy(to, from, len);
		to[len] = '\0';
		set->any = set->any || strcmp(to, "*") == 0;
		set->count++;
		to += len + 1;
		from += len;
	}
	set->any = set->any || set->count == 0;
	return STATUS_OK;
}

void origin_set_release(struct origin_set *set)
{
	free(set->text);
	*set = (struct origin_set){0};
}

bool origin_set_holds(const struct origin_set *set, const char *name, size_t len)
{
	const char *held = set->text;

	if (set->any)
		return true;
	for (size_t i = 0; i < set->count; i++) {
		size_t held_len = strlen(held);

		if (held_len == len && memcmp(held, name, len) == 0)
			return true;
		held += held_len + 1;
	}
	return false;
}

const char *origin_host_name(const char *host, size_t len, size_t *name_len)
{
	const char *colon = memrchr(host, ':', len);

	*name_len = len;
	if (colon == NULL)
		return host;
	if (len > 0 && host[0] == '[') {
		if (colon == host + 1 || colon[-1] != ']')
			return host;
		*name_len = (size_t)(colon - host) - 2;
		return host + 1;
	}
	if (memchr(host, ':', (size_t)(colon - host)) != NULL)
		return host;
	*name_len = (size_t)(colon - host);
	return host;
}

/* The words are etcd's: its users search for them. */
void origin_refusal(struct buf *buf, const char *name, size_t len)
{
	buf_append_text(buf, "\n"
	                     "etcd received your request, but the Host header was unrecognized.\n"
	                     "\n"
	                     "To fix this, choose one of the following options:\n"
	                     "- Enable TLS, then any HTTPS request will be allowed.\n"
	                     "- Add the hostname you want to use to the whitelist in settings.\n"
	                     "  - e.g. etcd --host-whitelist \"");
	buf_append(buf, name, len);
	buf_append_text(buf, "\"\n"
	                     "\n"
	                     "This requirement has been added to help prevent \"DNS Rebinding\" attacks "
	                     "(CVE-2018-5702).\n"
	                     "\n");
}
