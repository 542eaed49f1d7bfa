/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A closed-loop load generator for etcd's JSON API: one thread, N keep-alive
 * connections, each of which sends its next request when the answer to the
 * last has arrived in full. It prints one line of JSON.
 *
 * A request is a prepared text in which only the keys change, and an answer is
 * read no further than its status and its length, so that the generator costs
 * less than what it measures. Keys are "key" and nine digits: twelve bytes,
 * that is sixteen characters of base64 in which each three digits are four
 * characters of their own, looked up in a table.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	KEY_TEXT = 16, /* a key in base64 */
	MAX_KEYS = 1000000000,
	HEAD_BYTES = 2048, /* of an answer; etcd's are under 400 */
	RECEIVE_BYTES = 256 * 1024,
	MAX_VALUE_BYTES = 1 << 20,
	EVENTS = 256,
	SILENCE_MS = 60000, /* a server that says nothing for so long has failed */
	/* A histogram of nanoseconds: 32 buckets to each power of two. */
	BUCKET_BITS = 5,
	BUCKETS = 64 << BUCKET_BITS,
};

enum mode { MODE_RANGE, MODE_PUT, MODE_MIXED, MODE_LIST, MODE_COUNT, MODE_FILL };

static const char *const MODE_NAMES[] = {"range", "put", "mixed", "list", "count", "fill", NULL};

/* A request's text and the places in it where keys go. */
struct request {
	char *text;
	size_t len;
	size_t *key_at;
	size_t key_count;
};

enum state { STATE_HEAD, STATE_BODY, STATE_CHUNK_LINE, STATE_CHUNK, STATE_TRAILER };

struct connection {
	int fd;
	enum state state;
	int status;
	size_t left; /* of the body or the chunk, its line end included */
	int64_t sent_ns;
	size_t head_len;
	char head[HEAD_BYTES]; /* also a chunk's line and the trailer */
};

struct load {
	enum mode mode;
	unsigned port;
	size_t connections;
	double seconds;
	uint64_t requests; /* 0: no limit but the time */
	uint64_t keys;     /* chosen from, or filled */
	uint64_t span;     /* keys of a listing, or puts of a transaction */
	size_t value_bytes;
	bool progress;

	struct request range, put, other;
	int epoll_fd;
	int64_t started_ns, until_ns, shown_ns;
	uint64_t random;
	uint64_t sent, received, errors, bytes;
	size_t waiting; /* connections with a request under way */
	uint64_t histogram[BUCKETS];
	char buffer[RECEIVE_BYTES];
};

static char digits[1000][4]; /* three digits in base64 */

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "load: %s%s%s\n", what, errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* xorshift64*: good enough to spread over keys. */
static uint64_t next_random(struct load *load)
{
	load->random ^= load->random >> 12;
	load->random ^= load->random << 25;
	load->random ^= load->random >> 27;
	return load->random * 0x2545f4914f6cdd1dU;
}

/* ---- Requests ---- */

static void encode_base64(const uint8_t *from, size_t len, char *to)
{
	static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (; len > 0; from += 3, to += 4) {
		size_t taken = len < 3 ? len : 3;
		uint32_t word = (uint32_t)from[0] << 16;

		word |= taken > 1 ? (uint32_t)from[1] << 8 : 0;
		word |= taken > 2 ? from[2] : 0;
		to[0] = ALPHABET[word >> 18];
		to[1] = ALPHABET[word >> 12 & 63];
		to[2] = taken > 1 ? ALPHABET[word >> 6 & 63] : '=';
		to[3] = taken > 2 ? ALPHABET[word & 63] : '=';
		len -= taken;
	}
}

static void make_digits(void)
{
	for (unsigned i = 0; i < 1000; i++) {
		const uint8_t text[3] = {(uint8_t)('0' + i / 100), (uint8_t)('0' + i / 10 % 10),
		                         (uint8_t)('0' + i % 10)};

		encode_base64(text, sizeof text, digits[i]);
	}
}

static void set_key(struct request *request, size_t at, uint64_t key)
{
	char *to = request->text + request->key_at[at] + 4; /* after "key" */

	memcpy(to, digits[key / 1000000 % 1000], 4);
	memcpy(to + 4, digits[key / 1000 % 1000], 4);
	memcpy(to + 8, digits[key % 1000], 4);
}

/* Puts the head before a body and finds the keys, which stand in it as "key000000000". */
static void make_request(struct request *request, const char *path, const char *body)
{
	static const char MARK[] = "a2V5MDAwMDAwMDAw";
	size_t size = strlen(body) + 256;
	char *found;

	request->text = malloc(size);
	request->key_at = malloc((strlen(body) / KEY_TEXT + 1) * sizeof *request->key_at);
	if (request->text == NULL || request->key_at == NULL)
		fail("no memory");
	request->len = (size_t)snprintf(request->text, size,
	                                "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	                                "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
	                                path, strlen(body), body);
	for (found = request->text; (found = strstr(found, MARK)) != NULL; found += KEY_TEXT)
		request->key_at[request->key_count++] = (size_t)(found - request->text);
}

static char *make_value(struct load *load)
{
	uint8_t *bytes = malloc(load->value_bytes + 3);
	char *text = calloc(1, load->value_bytes / 3 * 4 + 8);

	if (bytes == NULL || text == NULL)
		fail("no memory");
	for (size_t i = 0; i < load->value_bytes; i++)
		bytes[i] = (uint8_t)next_random(load);
	encode_base64(bytes, load->value_bytes, text);
	free(bytes);
	return text;
}

static void make_fill(struct load *load, const char *value)
{
	size_t op_bytes = strlen(value) + 96;
	char *body = malloc(load->span * op_bytes + 64);
	char *to = body;

	if (body == NULL)
		fail("no memory");
	to = stpcpy(to, "{\"success\":[");
	for (uint64_t i = 0; i < load->span; i++)
		to += snprintf(to, op_bytes,
		               "%s{\"requestPut\":{\"key\":\"a2V5MDAwMDAwMDAw\",\"value\":\"%s\"}}",
		               i > 0 ? "," : "", value);
	stpcpy(to, "]}");
	make_request(&load->other, "/v3/kv/txn", body);
	free(body);
}

static void make_requests(struct load *load)
{
	char *value = make_value(load);
	char *put = malloc(strlen(value) + 64);

	if (put == NULL)
		fail("no memory");
	sprintf(put, "{\"key\":\"a2V5MDAwMDAwMDAw\",\"value\":\"%s\"}", value);
	make_request(&load->put, "/v3/kv/put", put);
	make_request(&load->range, "/v3/kv/range", "{\"key\":\"a2V5MDAwMDAwMDAw\"}");
	if (load->mode == MODE_LIST)
		make_request(&load->other, "/v3/kv/range",
		             "{\"key\":\"a2V5MDAwMDAwMDAw\",\"range_end\":\"a2V5MDAwMDAwMDAw\"}");
	else if (load->mode == MODE_COUNT)
		make_request(&load->other, "/v3/kv/range",
		             "{\"key\":\"AA==\",\"range_end\":\"AA==\",\"count_only\":true}");
	else if (load->mode == MODE_FILL)
		make_fill(load, value);
	free(put);
	free(value);
}

static struct request *prepare_request(struct load *load)
{
	struct request *request = &load->other;
	uint64_t key = load->keys > 1 ? next_random(load) % load->keys : 0;

	switch (load->mode) {
	case MODE_LIST:
		key = load->keys > load->span ? key % (load->keys - load->span + 1) : 0;
		set_key(request, 0, key);
		set_key(request, 1, key + load->span);
		return request;
	case MODE_FILL:
		/* In key order, over and over. */
		for (uint64_t i = 0; i < load->span; i++)
			set_key(request, i, (load->sent * load->span + i) % load->keys);
		return request;
	case MODE_COUNT:
		return request;
	case MODE_RANGE:
	case MODE_PUT:
	case MODE_MIXED:
		break;
	}
	request = load->mode == MODE_PUT || (load->mode == MODE_MIXED && load->sent % 10 == 9)
	                  ? &load->put
	                  : &load->range;
	set_key(request, 0, key);
	return request;
}

/* ---- Connections ---- */

static void send_next(struct load *load, struct connection *connection, int64_t now)
{
	const struct request *request;
	size_t sent = 0;

	if (now >= load->until_ns || (load->requests > 0 && load->sent == load->requests))
		return;
	request = prepare_request(load);
	connection->sent_ns = now;
	while (sent < request->len) {
		ssize_t count =
			send(connection->fd, request->text + sent, request->len - sent, MSG_NOSIGNAL);

		if (count < 0 && errno != EINTR)
			fail("send");
		sent += count > 0 ? (size_t)count : 0;
	}
	load->sent++;
	load->waiting++;
}

static size_t bucket_of(uint64_t ns)
{
	unsigned shift = ns >> BUCKET_BITS == 0 ? 0 : 63 - (unsigned)__builtin_clzll(ns) - BUCKET_BITS;

	return ((size_t)shift << BUCKET_BITS) + (size_t)(ns >> shift);
}

/* The middle of what a bucket holds, in microseconds. */
static double bucket_us(size_t bucket)
{
	size_t shift = bucket >> BUCKET_BITS == 0 ? 0 : (bucket >> BUCKET_BITS) - 1;
	uint64_t low = (uint64_t)(bucket - (shift << BUCKET_BITS)) << shift;

	return ((double)low + (double)(1ULL << shift) / 2) / 1000;
}

static void end_answer(struct load *load, struct connection *connection)
{
	int64_t now = now_ns();

	if (connection->status != 200 && load->errors++ == 0)
		fprintf(stderr, "load: answered with status %d\n", connection->status);
	load->received++;
	load->waiting--;
	load->histogram[bucket_of((uint64_t)(now - connection->sent_ns))]++;
	connection->state = STATE_HEAD;
	connection->head_len = 0;
	send_next(load, connection, now);
}

/* What the head says of the body's length; -1 when it comes in chunks. */
static int64_t body_length(const char *head)
{
	static const char LENGTH[] = "Content-Length:", CHUNKED[] = "Transfer-Encoding:";

	for (const char *line = strchr(head, '\n'); line != NULL; line = strchr(line, '\n')) {
		line++;
		if ((*line | 0x20) == 'c' && strncasecmp(line, LENGTH, sizeof LENGTH - 1) == 0)
			return strtoll(line + sizeof LENGTH - 1, NULL, 10);
		if ((*line | 0x20) == 't' && strncasecmp(line, CHUNKED, sizeof CHUNKED - 1) == 0)
			return -1;
	}
	return 0;
}

static void begin_body(struct load *load, struct connection *connection)
{
	int64_t length = body_length(connection->head);

	connection->status = atoi(connection->head + strlen("HTTP/1.1 "));
	connection->head_len = 0;
	connection->left = length > 0 ? (size_t)length : 0;
	connection->state = length < 0 ? STATE_CHUNK_LINE : STATE_BODY;
	if (length == 0)
		end_answer(load, connection);
}

static void begin_chunk(struct connection *connection)
{
	size_t length = strtoul(connection->head, NULL, 16);

	connection->head_len = 0;
	connection->left = length + 2;
	connection->state = length > 0 ? STATE_CHUNK : STATE_TRAILER;
}

/* Takes text up to and including 'end' into connection->head. Returns how much was taken. */
static size_t take_until(struct connection *connection, const char *data, size_t len, const char *end,
                         bool *complete)
{
	size_t end_len = strlen(end);
	size_t seen = connection->head_len < end_len ? 0 : connection->head_len - end_len + 1;
	size_t room = sizeof connection->head - 1 - connection->head_len;
	size_t taken = len < room ? len : room;
	const char *found;

	if (taken == 0)
		fail("an answer's head is too long");
	memcpy(connection->head + connection->head_len, data, taken);
	found = memmem(connection->head + seen, connection->head_len + taken - seen, end, end_len);
	*complete = found != NULL;
	if (found != NULL)
		taken = (size_t)(found - connection->head) + end_len - connection->head_len;
	connection->head_len += taken;
	connection->head[connection->head_len] = '\0';
	return taken;
}

static size_t take_left(struct connection *connection, size_t len)
{
	size_t taken = len < connection->left ? len : connection->left;

	connection->left -= taken;
	return taken;
}

/* One step of reading an answer. Returns how much was taken. */
static size_t take(struct load *load, struct connection *connection, const char *data, size_t len)
{
	bool complete = false;
	size_t taken = 0;

	switch (connection->state) {
	case STATE_HEAD:
		taken = take_until(connection, data, len, "\r\n\r\n", &complete);
		if (complete)
			begin_body(load, connection);
		break;
	case STATE_BODY:
		taken = take_left(connection, len);
		if (connection->left == 0)
			end_answer(load, connection);
		break;
	case STATE_CHUNK_LINE:
		taken = take_until(connection, data, len, "\r\n", &complete);
		if (complete)
			begin_chunk(connection);
		break;
	case STATE_CHUNK:
		taken = take_left(connection, len);
		if (connection->left == 0)
			connection->state = STATE_CHUNK_LINE;
		break;
	case STATE_TRAILER:
		/* Nobody sends a trailer here: the empty line that ends it is all. */
		taken = take_until(connection, data, len, "\r\n", &complete);
		if (complete)
			end_answer(load, connection);
		break;
	}
	return taken;
}

static void receive(struct load *load, struct connection *connection)
{
	ssize_t len = recv(connection->fd, load->buffer, sizeof load->buffer, MSG_DONTWAIT);

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len < 0)
		fail("receive");
	errno = 0;
	if (len == 0)
		fail("the server closed a connection");
	load->bytes += (uint64_t)len;
	for (size_t at = 0; at < (size_t)len;)
		at += take(load, connection, load->buffer + at, (size_t)len - at);
}

static void open_connection(struct load *load, struct connection *connection)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)load->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
	int one = 1;

	*connection = (struct connection){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&addr, sizeof addr) != 0)
		fail("connect");
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) != 0)
		fail("epoll_ctl");
}

/* ---- The run ---- */

static void show_progress(struct load *load)
{
	int64_t now = now_ns();

	if (!load->progress || now - load->shown_ns < 500000000)
		return;
	load->shown_ns = now;
	fprintf(stderr, "\r  %" PRIu64 " requests, %.0f /s ", load->received,
	        (double)load->received * 1e9 / (double)(now - load->started_ns));
}

static void run(struct load *load, struct connection *connections)
{
	struct epoll_event events[EVENTS];

	load->started_ns = now_ns();
	load->until_ns = load->seconds > 0 ? load->started_ns + (int64_t)(load->seconds * 1e9) : INT64_MAX;
	for (size_t i = 0; i < load->connections; i++)
		send_next(load, &connections[i], now_ns());
	while (load->waiting > 0) {
		int count = epoll_wait(load->epoll_fd, events, EVENTS, SILENCE_MS);

		errno = count == 0 ? 0 : errno;
		if (count == 0)
			fail("the server does not answer");
		for (int i = 0; i < count; i++)
			receive(load, events[i].data.ptr);
		show_progress(load);
	}
	if (load->progress)
		fprintf(stderr, "\r%40s\r", "");
}

static double percentile(const struct load *load, double share)
{
	uint64_t rank = (uint64_t)((double)load->received * share), seen = 0;

	for (size_t i = 0; i < BUCKETS; i++) {
		seen += load->histogram[i];
		if (seen > rank)
			return bucket_us(i);
	}
	return 0;
}

static void report(const struct load *load)
{
	double seconds = (double)(now_ns() - load->started_ns) / 1e9;
	struct rusage usage;
	double cpu;

	getrusage(RUSAGE_SELF, &usage);
	cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	      (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	printf("{\"requests\": %" PRIu64 ", \"seconds\": %.6f, \"rate\": %.1f, \"median_us\": %.1f,"
	       " \"p99_us\": %.1f, \"max_us\": %.1f, \"errors\": %" PRIu64 ", \"bytes\": %" PRIu64
	       ", \"cpu_seconds\": %.3f}\n",
	       load->received, seconds, (double)load->received / seconds, percentile(load, 0.5),
	       percentile(load, 0.99), percentile(load, 1 - 1e-12), load->errors, load->bytes, cpu);
}

static _Noreturn void usage(void)
{
	fputs("usage: load --port PORT [options]\n"
	      "  --mode range|put|mixed|list|count|fill   (range; mixed: nine ranges to a put;\n"
	      "                    fill: transactions of puts in key order)\n"
	      "  --connections N   (64)\n"
	      "  --seconds S, --requests N   whichever comes first (2 s)\n"
	      "  --keys K          how many keys there are to choose from or to fill (1)\n"
	      "  --span N          keys of a listing, puts of a transaction (100)\n"
	      "  --value-bytes N   (256)\n"
	      "  --progress        to the terminal\n",
	      stderr);
	exit(2);
}

static uint64_t number(const char *text, uint64_t low, uint64_t high)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (end == text || *end != '\0' || value < low || value > high)
		usage();
	return value;
}

static enum mode mode_of(const char *name)
{
	for (int i = 0; MODE_NAMES[i] != NULL; i++) {
		if (strcmp(name, MODE_NAMES[i]) == 0)
			return (enum mode)i;
	}
	usage();
}

static void read_options(struct load *load, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"port", required_argument, NULL, 'p'},
		{"mode", required_argument, NULL, 'm'},
		{"connections", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 's'},
		{"requests", required_argument, NULL, 'n'},
		{"keys", required_argument, NULL, 'k'},
		{"span", required_argument, NULL, 'l'},
		{"value-bytes", required_argument, NULL, 'v'},
		{"progress", no_argument, NULL, 'P'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		switch (option) {
		case 'p':
			load->port = (unsigned)number(optarg, 1, 65535);
			break;
		case 'm':
			load->mode = mode_of(optarg);
			break;
		case 'c':
			load->connections = number(optarg, 1, 100000);
			break;
		case 's':
			load->seconds = strtod(optarg, NULL);
			break;
		case 'n':
			load->requests = number(optarg, 1, UINT64_MAX);
			break;
		case 'k':
			load->keys = number(optarg, 1, MAX_KEYS);
			break;
		case 'l':
			load->span = number(optarg, 1, MAX_KEYS);
			break;
		case 'v':
			load->value_bytes = number(optarg, 0, MAX_VALUE_BYTES);
			break;
		case 'P':
			load->progress = true;
			break;
		default:
			usage();
		}
	}
	if (load->port == 0 || optind != argc || (load->mode == MODE_FILL && load->span > 10000))
		usage();
	if (load->seconds <= 0 && load->requests == 0)
		load->seconds = 2;
}

int main(int argc, char **argv)
{
	static struct load load = {.connections = 64, .keys = 1, .span = 100, .value_bytes = 256};
	struct connection *connections;

	read_options(&load, argc, argv);
	load.random = (uint64_t)now_ns() | 1;
	load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	connections = calloc(load.connections, sizeof *connections);
	if (load.epoll_fd < 0 || connections == NULL)
		fail("start");
	make_digits();
	make_requests(&load);
	for (size_t i = 0; i < load.connections; i++)
		open_connection(&load, &connections[i]);
	run(&load, connections);
	report(&load);
	for (size_t i = 0; i < load.connections; i++)
		close(connections[i].fd);
	close(load.epoll_fd);
	free(connections);
	return load.errors > 0 ? 1 : 0;
}
