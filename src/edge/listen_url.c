/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name may stand for several addresses. As Go's net package does, which etcd
 * uses, one of them is taken, an IPv4 one if there is any.
 */
#include "edge/listen_url.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	BACKLOG = 1024,
	HOST_BYTES = 256,
	PORT_TEXT_BYTES = 6,
};

struct address {
	char host[HOST_BYTES];
	char port[PORT_TEXT_BYTES];
};

/* "http://host:port", "http://[::1]:port"; a path of "/" is let pass. */
static bool parse_url(const char *url, size_t len, struct address *out)
{
	static const char SCHEME[] = "http://";
	const size_t scheme_len = sizeof SCHEME - 1;
	const char *host = url + scheme_len;
	const char *end = url + len;
	const char *colon;

	if (len <= scheme_len || strncasecmp(url, SCHEME, scheme_len) != 0)
		return false;
	if (end[-1] == '/')
		end--;
	colon = memrchr(host, ':', (size_t)(end - host));
	if (colon == NULL || colon + 1 == end || (size_t)(end - colon - 1) >= sizeof out->port)
		return false;
	snprintf(out->port, sizeof out->port, "%.*s", (int)(end - colon - 1), colon + 1);
	if (strspn(out->port, "0123456789") != strlen(out->port) || atoi(out->port) > UINT16_MAX)
		return false;
	if (*host == '[') {
		if (colon[-1] != ']')
			return false;
		host++;
		colon--;
	}
	if ((size_t)(colon - host) >= sizeof out->host)
		return false;
	snprintf(out->host, sizeof out->host, "%.*s", (int)(colon - host), host);
	return true;
}

static int bind_socket(const struct addrinfo *info)
{
	int one = 1;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	/* Inherited by the sockets accepted here: an answer is one write and must
	 * not wait for the acknowledgement of the one before. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	close(fd);
	return -1;
}

static const char *resolve_error(int code)
{
	return code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code);
}

static int bind_address(const struct address *address, const char **error)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
	};
	struct addrinfo *found = NULL;
	int fd = -1;
	int code =
		getaddrinfo(address->host[0] != '\0' ? address->host : NULL, address->port, &hints, &found);

	if (code != 0) {
		*error = resolve_error(code);
		return -1;
	}
	for (int pass = 0; pass < 2 && fd < 0; pass++) {
		for (const struct addrinfo *info = found; info != NULL && fd < 0; info = info->ai_next) {
			if ((info->ai_family == AF_INET) != (pass == 0))
				continue;
			fd = bind_socket(info);
			if (fd < 0)
				*error = strerror(errno);
		}
	}
	freeaddrinfo(found);
	return fd;
}

static bool is_loopback(const struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)addr)->sin6_addr);
	return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> IN_CLASSA_NSHIFT ==
	       IN_LOOPBACKNET;
}

/* What was bound in the end, as far as the configuration left it open. */
static void describe(const struct address *address, struct listen_socket *out)
{
	bool has_colon = strchr(address->host, ':') != NULL;
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof addr;

	getsockname(out->fd, (struct sockaddr *)&addr, &len);
	out->port = ntohs(addr.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&addr)->sin6_port
	                                             : ((struct sockaddr_in *)&addr)->sin_port);
	out->is_loopback = is_loopback(&addr);
	snprintf(out->url, sizeof out->url, "http://%s%s%s:%u", has_colon ? "[" : "", address->host,
	         has_colon ? "]" : "", out->port);
}

enum status_code listen_at_url(const char *url, size_t len, struct listen_socket *out)
{
	struct address address;

	*out = (struct listen_socket){.fd = -1};
	if (!parse_url(url, len, &address)) {
		out->error = "not of the form http://HOST:PORT";
		return STATUS_BAD_CONFIG;
	}
	out->fd = bind_address(&address, &out->error);
	if (out->fd < 0)
		return STATUS_CANNOT_LISTEN;
	describe(&address, out);
	return STATUS_OK;
}
