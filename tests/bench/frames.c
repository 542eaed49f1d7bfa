/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keep-alives over WebSocket (RFC 6455): each connection renews leases one after
 * the other in text frames, with some of them under way, as a client with many
 * leases would. One thread; prints one line of JSON.
 *
 * A frame from us is short and masked, one to us is short and not. Messages
 * in several frames come from no server that is measured here, and end the run.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tool.h"

enum {
	EVENTS = 64,
	FRAME_BYTES = 64 * 1024, /* more than any answer has */
	OPCODE_TEXT = 1,
	OPCODE_PING = 9,
	OPCODE_PONG = 10,
	FRAME_FINAL = 0x80,
	FRAME_MASKED = 0x80,
	SHORT_LEN = 125, /* the most that a frame's second byte tells */
	MASK_BYTES = 4,
};

struct connection {
	int fd;
	size_t under_way;
	size_t len; /* of what has arrived and was not used */
	char bytes[FRAME_BYTES];
};

struct frames {
	unsigned port;
	size_t connections, depth;
	uint64_t first, leases;
	double seconds;

	int epoll_fd;
	int64_t started_ns, until_ns;
	uint64_t sent, received;
	uint32_t mask;
};

/* ---- Frames ---- */

/* Appends a masked frame. Returns its length. */
static size_t write_frame(struct frames *frames, int opcode, const char *text, size_t len, char *to)
{
	uint8_t mask[MASK_BYTES];

	frames->mask = frames->mask * 1664525 + 1013904223;
	memcpy(mask, &frames->mask, sizeof mask);
	to[0] = (char)(FRAME_FINAL | opcode);
	to[1] = (char)(FRAME_MASKED | (int)len);
	memcpy(to + 2, mask, sizeof mask);
	for (size_t i = 0; i < len; i++)
		to[2 + MASK_BYTES + i] = (char)(text[i] ^ mask[i % MASK_BYTES]);
	return 2 + MASK_BYTES + len;
}

/* The frame at the start of what has arrived: its whole length, 0 when it is
 * not there yet. *text is its content. */
static size_t read_frame(const char *bytes, size_t len, const char **text, size_t *text_len)
{
	const uint8_t *raw = (const uint8_t *)bytes;
	size_t head = 2;

	if (len < 2)
		return 0;
	*text_len = raw[1];
	if (raw[1] > SHORT_LEN + 1) {
		errno = 0;
		fail("a frame is masked or very long");
	}
	if (raw[1] == SHORT_LEN + 1) {
		head = 4;
		*text_len = len < head ? 0 : (size_t)raw[2] << 8 | raw[3];
	}
	*text = bytes + head;
	return len < head + *text_len ? 0 : head + *text_len;
}

/* ---- Keep-alives ---- */

static void send_more(struct frames *frames, struct connection *connection, int64_t now)
{
	char text[] = "{\"ID\":\"" LEASE_MARK "\"}";
	char *place = strstr(text, LEASE_MARK);
	char bytes[FRAME_BYTES];
	size_t len = 0;

	while (connection->under_way < frames->depth && now < frames->until_ns &&
	       len + SHORT_LEN + 2 + MASK_BYTES <= sizeof bytes) {
		set_lease(place, frames->first + frames->sent % frames->leases);
		len += write_frame(frames, OPCODE_TEXT, text, strlen(text), bytes + len);
		connection->under_way++;
		frames->sent++;
	}
	send_all(connection->fd, bytes, len);
}

static void take_frame(struct frames *frames, struct connection *connection, int first, const char *text,
                       size_t len)
{
	static const char RENEWED[] = "\"TTL\"";

	errno = 0;
	if (first == (FRAME_FINAL | OPCODE_PING) && len <= SHORT_LEN) {
		char pong[SHORT_LEN + 2 + MASK_BYTES];

		send_all(connection->fd, pong, write_frame(frames, OPCODE_PONG, text, len, pong));
		return;
	}
	if (first != (FRAME_FINAL | OPCODE_TEXT))
		fail("a frame is not a whole text");
	if (memmem(text, len, RENEWED, sizeof RENEWED - 1) == NULL)
		fail("a lease was not renewed");
	if (connection->under_way == 0)
		fail("more answers than requests");
	connection->under_way--;
	frames->received++;
}

static void receive(struct frames *frames, struct connection *connection)
{
	size_t at = 0, frame_len, text_len;
	const char *text;

	connection->len += receive_some(connection->fd, connection->bytes + connection->len,
	                                sizeof connection->bytes - connection->len);
	while ((frame_len = read_frame(connection->bytes + at, connection->len - at, &text, &text_len)) >
	       0) {
		take_frame(frames, connection, (uint8_t)connection->bytes[at], text, text_len);
		at += frame_len;
	}
	connection->len -= at;
	memmove(connection->bytes, connection->bytes + at, connection->len);
	if (connection->len == sizeof connection->bytes)
		fail("a frame is too long");
	send_more(frames, connection, now_ns());
}

/* ---- The run ---- */

/* Reads the answer's head byte by byte: what follows it are frames. */
static void upgrade(struct connection *connection)
{
	static const char REQUEST[] =
		"GET /v3/lease/keepalive HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
		"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	static const char SWITCHED[] = "HTTP/1.1 101", END[] = "\r\n\r\n";
	char head[1024] = "";
	size_t len = 0;

	send_all(connection->fd, REQUEST, sizeof REQUEST - 1);
	while (strstr(head, END) == NULL && len < sizeof head - 1 &&
	       read(connection->fd, head + len, 1) == 1)
		len++;
	errno = 0;
	if (strncmp(head, SWITCHED, sizeof SWITCHED - 1) != 0)
		fail("no WebSocket");
}

static void open_connection(struct frames *frames, struct connection *connection)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};

	connection->fd = open_socket(frames->port);
	upgrade(connection);
	if (epoll_ctl(frames->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) != 0)
		fail("epoll_ctl");
}

static void run(struct frames *frames, struct connection *connections)
{
	struct epoll_event events[EVENTS];

	frames->started_ns = now_ns();
	frames->until_ns = frames->started_ns + (int64_t)(frames->seconds * 1e9);
	for (size_t i = 0; i < frames->connections; i++)
		send_more(frames, &connections[i], frames->started_ns);
	while (frames->received < frames->sent) {
		int count = epoll_wait(frames->epoll_fd, events, EVENTS, SILENCE_MS);

		errno = 0;
		if (count == 0)
			fail("the server does not answer");
		for (int i = 0; i < count; i++)
			receive(frames, events[i].data.ptr);
	}
}

static _Noreturn void usage(void)
{
	fputs("usage: frames --port PORT [options]\n"
	      "  --connections N   (1)\n"
	      "  --depth N         renewals under way on each (64)\n"
	      "  --keys N          leases, renewed in turn (1)\n"
	      "  --first N         the number of the first of them (0)\n"
	      "  --seconds S       (2)\n",
	      stderr);
	exit(2);
}

static void read_options(struct frames *frames, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"port", required_argument, NULL, 'p'},
		{"connections", required_argument, NULL, 'c'},
		{"depth", required_argument, NULL, 'd'},
		{"keys", required_argument, NULL, 'k'},
		{"first", required_argument, NULL, 'f'},
		{"seconds", required_argument, NULL, 's'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		if (option == 'p')
			frames->port = (unsigned)number(optarg, 1, 65535);
		else if (option == 'c')
			frames->connections = number(optarg, 1, 100000);
		else if (option == 'd')
			frames->depth = number(optarg, 1, 100000);
		else if (option == 'k')
			frames->leases = number(optarg, 1, MAX_KEYS);
		else if (option == 'f')
			frames->first = number(optarg, 0, MAX_KEYS);
		else if (option == 's')
			frames->seconds = strtod(optarg, NULL);
		else
			usage();
	}
	if (frames->port == 0 || optind != argc || frames->seconds <= 0)
		usage();
}

int main(int argc, char **argv)
{
	static struct frames frames = {.connections = 1, .depth = 64, .leases = 1, .seconds = 2};
	struct connection *connections;
	double seconds;

	tool_init("frames");
	read_options(&frames, argc, argv);
	frames.mask = (uint32_t)now_ns();
	frames.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	connections = calloc(frames.connections, sizeof *connections);
	if (frames.epoll_fd < 0 || connections == NULL)
		fail("start");
	for (size_t i = 0; i < frames.connections; i++)
		open_connection(&frames, &connections[i]);
	run(&frames, connections);
	seconds = (double)(now_ns() - frames.started_ns) / 1e9;
	printf("{\"requests\": %" PRIu64 ", \"seconds\": %.6f, \"rate\": %.1f, \"cpu_seconds\": %.3f}\n",
	       frames.received, seconds, (double)frames.received / seconds, cpu_seconds());
	free(connections);
	return 0;
}
