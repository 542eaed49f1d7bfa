/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/listen_set.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/logger.h"
#include "edge/listen_url.h"

struct listen_set {
	struct listen_socket *sockets;
	size_t count;
};

static void log_failure(const char *url, size_t len, const char *error)
{
	char text[LISTEN_URL_BYTES];

	snprintf(text, sizeof text, "%.*s", (int)len, url);
	logger_error("listener", "cannot listen", LOG_STR("url", text), LOG_STR("error", error), LOG_END);
}

static enum status_code open_url(struct listen_set *set, const char *url, size_t len)
{
	struct listen_socket *sockets = realloc(set->sockets, (set->count + 1) * sizeof *sockets);
	enum status_code status;

	if (sockets == NULL)
		return STATUS_NO_MEMORY;
	set->sockets = sockets;
	status = listen_at_url(url, len, &sockets[set->count]);
	if (status != STATUS_OK)
		log_failure(url, len, sockets[set->count].error);
	else
		set->count++;
	return status;
}

static enum status_code open_urls(struct listen_set *set, const char *urls)
{
	while (*urls != '\0') {
		size_t len = strcspn(urls, ",");
		enum status_code status = len == 0 ? STATUS_OK : open_url(set, urls, len);

		if (status != STATUS_OK)
			return status;
		urls += len;
		urls += *urls == ',';
	}
	return set->count > 0 ? STATUS_OK : STATUS_BAD_CONFIG;
}

enum status_code listen_set_open(const char *urls, struct listen_set **out)
{
	struct listen_set *set = calloc(1, sizeof *set);
	enum status_code status;

	if (set == NULL)
		return STATUS_NO_MEMORY;
	status = open_urls(set, urls);
	if (status != STATUS_OK) {
		listen_set_free(set);
		return status;
	}
	*out = set;
	return STATUS_OK;
}

size_t listen_set_count(const struct listen_set *set)
{
	return set->count;
}

int listen_set_fd(const struct listen_set *set, size_t i)
{
	assert(i < set->count);
	return set->sockets[i].fd;
}

uint16_t listen_set_port(const struct listen_set *set, size_t i)
{
	assert(i < set->count);
	return set->sockets[i].port;
}

const char *listen_set_url(const struct listen_set *set, size_t i)
{
	assert(i < set->count);
	return set->sockets[i].url;
}

bool listen_set_is_loopback(const struct listen_set *set, size_t i)
{
	assert(i < set->count);
	return set->sockets[i].is_loopback;
}

void listen_set_close(struct listen_set *set)
{
	for (size_t i = 0; i < set->count; i++) {
		if (set->sockets[i].fd >= 0)
			close(set->sockets[i].fd);
		set->sockets[i].fd = -1;
	}
}

void listen_set_free(struct listen_set *set)
{
	if (set == NULL)
		return;
	listen_set_close(set);
	free(set->sockets);
	free(set);
}
