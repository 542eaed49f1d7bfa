/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http_client.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/config.h"
#include "edge/http.h"
#include "edge/listen_set.h"

enum status_code http_serve(const struct config *config, struct engine *engine, struct http **out)
{
	struct listen_set *set;
	enum status_code status = listen_set_open(config->listeners, &set);

	return status == STATUS_OK ? http_start(config, set, engine, out) : status;
}

int http_connect(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr = {htonl(INADDR_LOOPBACK)},
	};
	const struct timeval limit = {.tv_sec = 60};
	const int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	/* Head and body are sent apart: the second must not wait for the first. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

void http_send_bytes(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);

		ck_assert_msg(sent > 0, "send: %s", strerror(errno));
		at += sent;
		len -= (size_t)sent;
	}
}

void http_send(int fd, const char *text)
{
	http_send_bytes(fd, text, strlen(text));
}

void http_post(int fd, const char *path, const char *headers, const char *body)
{
	char head[HTTP_HEAD_BYTES];

	snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n",
	         path, headers, strlen(body));
	http_send(fd, head);
	http_send(fd, body);
}

void http_get(int fd, const char *path)
{
	char head[HTTP_HEAD_BYTES];

	snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
	http_send(fd, head);
}

/* Up to and with the empty line; byte by byte, so that nothing after it is
 * taken. False when the connection ended first. */
static bool read_head(int fd, struct http_answer *answer)
{
	size_t len = 0;

	while (len < sizeof answer->head - 1) {
		ssize_t got = recv(fd, answer->head + len, 1, 0);

		ck_assert_msg(got >= 0 || errno == ECONNRESET, "recv: %s", strerror(errno));
		if (got <= 0)
			return false;
		answer->head[++len] = '\0';
		if (len >= 4 && memcmp(answer->head + len - 4, "\r\n\r\n", 4) == 0)
			return true;
	}
	return false;
}

void http_read_head(int fd, struct http_answer *answer)
{
	memset(answer, 0, sizeof *answer);
	if (read_head(fd, answer))
		answer->status = atoi(answer->head + strlen("HTTP/1.1 "));
}

bool http_receive(int fd, void *data, size_t len)
{
	char *at = data;

	while (len > 0) {
		ssize_t got = recv(fd, at, len, 0);

		ck_assert_msg(got >= 0 || errno == ECONNRESET, "recv: %s", strerror(errno));
		if (got <= 0)
			return false;
		at += got;
		len -= (size_t)got;
	}
	return true;
}

size_t http_read_chunk(int fd, struct http_answer *answer)
{
	char line[32] = "";
	char end[2];
	size_t used = 0;
	size_t len;

	while (used < 2 || line[used - 1] != '\n') {
		ck_assert_uint_lt(used, sizeof line - 1);
		ck_assert_msg(http_receive(fd, line + used, 1), "the body has ended");
		used++;
	}
	len = strtoul(line, NULL, 16);
	ck_assert_uint_lt(len, sizeof answer->body);
	ck_assert(http_receive(fd, answer->body, len));
	ck_assert(http_receive(fd, end, sizeof end));
	ck_assert_mem_eq(end, "\r\n", sizeof end);
	answer->body[len] = '\0';
	return len;
}

const char *http_header(const struct http_answer *answer, const char *name)
{
	static char value[HTTP_HEAD_BYTES];
	const char *line = strstr(answer->head, "\r\n");
	size_t name_len = strlen(name);

	while (line != NULL && line[2] != '\r') {
		line += 2;
		if (strncasecmp(line, name, name_len) == 0 && line[name_len] == ':') {
			const char *from = line + name_len + 1;

			from += strspn(from, " ");
			snprintf(value, sizeof value, "%.*s", (int)strcspn(from, "\r"), from);
			return value;
		}
		line = strstr(line, "\r\n");
	}
	return NULL;
}

void http_read(int fd, struct http_answer *answer, bool head)
{
	static char dropped[HTTP_BODY_BYTES];
	const char *length;
	size_t got = 0;

	memset(answer, 0, sizeof *answer);
	if (!read_head(fd, answer))
		return;
	answer->status = atoi(answer->head + strlen("HTTP/1.1 "));
	length = http_header(answer, "Content-Length");
	answer->body_len = length != NULL ? strtoul(length, NULL, 10) : 0;
	while (got < answer->body_len && !head) {
		bool kept = got < sizeof answer->body - 1;
		size_t room = kept ? sizeof answer->body - 1 - got : sizeof dropped;
		size_t left = answer->body_len - got;
		ssize_t len = recv(fd, kept ? answer->body + got : dropped, left < room ? left : room, 0);

		if (len <= 0)
			break;
		got += (size_t)len;
	}
}

bool http_is_closed(int fd)
{
	char byte;
	ssize_t got = recv(fd, &byte, 1, 0);

	return got == 0 || (got < 0 && errno == ECONNRESET);
}
