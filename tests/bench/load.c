/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load generator for etcd's JSON API: one thread and N keep-alive
 * connections. In a closed loop each sends its next request when the answer to
 * the last has arrived in full. With a rate, requests are due at times of their
 * own; one that finds no free connection waits, and its wait counts. It prints
 * one line of JSON.
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

#include "answer.h"
#include "tool.h"

enum { EVENTS = 256 };

enum mode {
	MODE_RANGE,
	MODE_PUT,
	MODE_MIXED,
	MODE_LIST,
	MODE_COUNT,
	MODE_FILL,
	MODE_GRANT,
	MODE_ATTACH,
	MODE_KEEPALIVE,
	MODE_SERIALIZABLE,
};

static const char *const MODE_NAMES[] = {"range", "put",    "mixed",     "list",         "count", "fill",
                                         "grant", "attach", "keepalive", "serializable", NULL};

/* A request's text and the places in it where keys and a lease go. */
struct request {
	char *text;
	size_t len;
	size_t *key_at;
	size_t key_count;
	size_t lease_at; /* 0: none */
};

struct connection {
	int fd;
	int64_t sent_ns;
	struct answer answer;
};

struct load {
	enum mode mode;
	unsigned port;
	size_t connections;
	double seconds, rate;
	uint64_t requests; /* 0: no limit but the time */
	uint64_t first;    /* the first key's number, and the first lease's */
	uint64_t keys;     /* chosen from, or filled */
	uint64_t span;     /* keys of a listing, or puts of a transaction */
	uint64_t ttl_sec;
	size_t value_bytes;
	bool progress;

	struct request range, put, other;
	int epoll_fd, ticker_fd;
	int64_t started_ns, until_ns, shown_ns;
	uint64_t random;
	uint64_t sent, received, errors, bytes;
	uint64_t due;   /* by the rate, and not sent yet */
	size_t waiting; /* connections with a request under way */
	struct connection **idle;
	size_t idle_count;
	struct histogram latencies;
	char buffer[RECEIVE_BYTES];
};

/* xorshift64*: good enough to spread over keys. */
static uint64_t next_random(struct load *load)
{
	load->random ^= load->random >> 12;
	load->random ^= load->random << 25;
	load->random ^= load->random >> 27;
	return load->random * 0x2545f4914f6cdd1dU;
}

/* ---- Requests ---- */

/* Puts the head before a body and finds the marks in it. */
static void make_request(struct request *request, const char *path, const char *body)
{
	char *found;

	request->text = make_post(path, body, &request->len);
	request->key_at = allocate((strlen(body) / KEY_TEXT + 1) * sizeof *request->key_at);
	for (found = request->text; (found = strstr(found, KEY_MARK)) != NULL; found += KEY_TEXT)
		request->key_at[request->key_count++] = (size_t)(found - request->text);
	found = strstr(request->text, LEASE_MARK);
	request->lease_at = found != NULL ? (size_t)(found - request->text) : 0;
}

static void make_fill(struct load *load, const char *value)
{
	size_t op_bytes = strlen(value) + 96;
	char *body = allocate(load->span * op_bytes + 64);
	char *to = body;

	to = stpcpy(to, "{\"success\":[");
	for (uint64_t i = 0; i < load->span; i++)
		to += snprintf(to, op_bytes,
		               "%s{\"requestPut\":{\"key\":\"" KEY_MARK "\",\"value\":\"%s\"}}",
		               i > 0 ? "," : "", value);
	stpcpy(to, "]}");
	make_request(&load->other, "/v3/kv/txn", body);
	free(body);
}

/* What the modes with a request of their own send, but for MODE_FILL. */
static void make_other(struct load *load, const char *value)
{
	static const char *const PATHS[] = {
		[MODE_LIST] = "/v3/kv/range",
		[MODE_COUNT] = "/v3/kv/range",
		[MODE_GRANT] = "/v3/lease/grant",
		[MODE_ATTACH] = "/v3/kv/put",
		[MODE_KEEPALIVE] = "/v3/lease/keepalive",
		[MODE_SERIALIZABLE] = "/v3/kv/range",
	};
	size_t size = strlen(value) + 128;
	char *body = allocate(size);

	if (load->mode == MODE_LIST)
		strcpy(body, "{\"key\":\"" KEY_MARK "\",\"range_end\":\"" KEY_MARK "\"}");
	else if (load->mode == MODE_SERIALIZABLE)
		strcpy(body, "{\"key\":\"" KEY_MARK "\",\"serializable\":true}");
	else if (load->mode == MODE_COUNT)
		strcpy(body, "{\"key\":\"AA==\",\"range_end\":\"AA==\",\"count_only\":true}");
	else if (load->mode == MODE_GRANT)
		snprintf(body, size, "{\"ID\":\"" LEASE_MARK "\",\"TTL\":\"%" PRIu64 "\"}", load->ttl_sec);
	else if (load->mode == MODE_ATTACH)
		snprintf(body, size,
		         "{\"key\":\"" KEY_MARK "\",\"lease\":\"" LEASE_MARK "\",\"value\":\"%s\"}", value);
	else
		strcpy(body, "{\"ID\":\"" LEASE_MARK "\"}");
	make_request(&load->other, PATHS[load->mode], body);
	free(body);
}

static void make_requests(struct load *load)
{
	char *value = make_value(load->value_bytes);
	char *put = allocate(strlen(value) + 64);

	sprintf(put, "{\"key\":\"" KEY_MARK "\",\"value\":\"%s\"}", value);
	make_request(&load->put, "/v3/kv/put", put);
	make_request(&load->range, "/v3/kv/range", "{\"key\":\"" KEY_MARK "\"}");
	if (load->mode == MODE_FILL)
		make_fill(load, value);
	else if (load->mode > MODE_MIXED)
		make_other(load, value);
	free(put);
	free(value);
}

static void set_keys(const struct load *load, const struct request *request, size_t at, uint64_t key)
{
	set_key(request->text + request->key_at[at], load->first + key);
}

static void set_lease_of(const struct load *load, const struct request *request, uint64_t lease)
{
	set_lease(request->text + request->lease_at, load->first + lease);
}

static struct request *prepare_other(struct load *load, uint64_t key)
{
	struct request *request = &load->other;

	if (load->mode == MODE_LIST) {
		key = load->keys > load->span ? key % (load->keys - load->span + 1) : 0;
		set_keys(load, request, 0, key);
		set_keys(load, request, 1, key + load->span);
	} else if (load->mode == MODE_SERIALIZABLE) {
		set_keys(load, request, 0, key);
	} else if (load->mode == MODE_FILL) {
		/* In key order, over and over. */
		for (uint64_t i = 0; i < load->span; i++)
			set_keys(load, request, i, (load->sent * load->span + i) % load->keys);
	} else if (load->mode == MODE_GRANT || load->mode == MODE_ATTACH) {
		/* In order: a lease can be granted once only. */
		set_lease_of(load, request, load->sent);
		if (load->mode == MODE_ATTACH)
			set_keys(load, request, 0, load->sent);
	} else if (load->mode == MODE_KEEPALIVE) {
		set_lease_of(load, request, key);
	}
	return request;
}

static struct request *prepare_request(struct load *load)
{
	uint64_t key = load->keys > 1 ? next_random(load) % load->keys : 0;
	struct request *request = &load->range;

	if (load->mode > MODE_MIXED)
		return prepare_other(load, key);
	if (load->mode == MODE_PUT || (load->mode == MODE_MIXED && load->sent % 10 == 9))
		request = &load->put;
	set_keys(load, request, 0, key);
	return request;
}

/* ---- Connections ---- */

static bool is_over(const struct load *load, int64_t now)
{
	return now >= load->until_ns || (load->requests > 0 && load->sent == load->requests);
}

static void send_next(struct load *load, struct connection *connection, int64_t due_ns)
{
	const struct request *request = prepare_request(load);

	connection->sent_ns = due_ns;
	send_all(connection->fd, request->text, request->len);
	load->sent++;
	load->waiting++;
}

/* What is due, as far as there are connections. */
static void send_due(struct load *load)
{
	while (load->due > 0 && load->idle_count > 0 && !is_over(load, now_ns())) {
		send_next(load, load->idle[--load->idle_count], now_ns());
		load->due--;
	}
}

/* The next request on a connection that has become free. */
static void go_on(struct load *load, struct connection *connection, int64_t now)
{
	if (load->rate == 0 && !is_over(load, now)) {
		send_next(load, connection, now);
	} else if (load->due > 0 && !is_over(load, now)) {
		int64_t due_ns = load->started_ns + (int64_t)((double)(load->sent + 1) * 1e9 / load->rate);

		send_next(load, connection, due_ns < now ? due_ns : now);
		load->due--;
	} else {
		load->idle[load->idle_count++] = connection;
	}
}

static void end_answer(struct load *load, struct connection *connection)
{
	int64_t now = now_ns();

	if (connection->answer.status != 200 && load->errors++ == 0)
		fprintf(stderr, "load: answered with status %d\n", connection->answer.status);
	load->received++;
	load->waiting--;
	histogram_add(&load->latencies, now - connection->sent_ns);
	go_on(load, connection, now);
}

static void receive(struct load *load, struct connection *connection)
{
	size_t len = receive_some(connection->fd, load->buffer, sizeof load->buffer);

	load->bytes += len;
	for (size_t at = 0; at < len;) {
		at += answer_take(&connection->answer, load->buffer + at, len - at);
		if (connection->answer.complete)
			end_answer(load, connection);
	}
}

static void await(struct load *load, int fd, struct connection *connection)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};

	if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
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

static void start(struct load *load, struct connection *connections)
{
	load->started_ns = now_ns();
	load->until_ns = load->seconds > 0 ? load->started_ns + (int64_t)(load->seconds * 1e9) : INT64_MAX;
	if (load->rate > 0) {
		load->ticker_fd = ticker_open(load->rate);
		await(load, load->ticker_fd, NULL);
	}
	for (size_t i = 0; i < load->connections; i++)
		go_on(load, &connections[i], now_ns());
}

static void run(struct load *load, struct connection *connections)
{
	struct epoll_event events[EVENTS];

	start(load, connections);
	while (load->waiting > 0 || (load->rate > 0 && !is_over(load, now_ns()))) {
		int count = epoll_wait(load->epoll_fd, events, EVENTS, SILENCE_MS);

		errno = count == 0 ? 0 : errno;
		if (count == 0)
			fail("the server does not answer");
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr != NULL) {
				receive(load, events[i].data.ptr);
			} else {
				load->due += ticker_ticks(load->ticker_fd);
				send_due(load);
			}
		}
		show_progress(load);
	}
	if (load->progress)
		fprintf(stderr, "\r%40s\r", "");
}

static void report(const struct load *load)
{
	int64_t ended_ns = now_ns();
	double seconds = (double)(ended_ns - load->started_ns) / 1e9;
	const struct histogram *latencies = &load->latencies;

	printf("{\"requests\": %" PRIu64 ", \"seconds\": %.6f, \"rate\": %.1f, \"median_us\": %.1f,"
	       " \"p99_us\": %.1f, \"max_us\": %.1f, \"errors\": %" PRIu64 ", \"bytes\": %" PRIu64
	       ", \"ended\": %.6f, \"cpu_seconds\": %.3f}\n",
	       load->received, seconds, (double)load->received / seconds,
	       histogram_percentile(latencies, 0.5), histogram_percentile(latencies, 0.99),
	       histogram_percentile(latencies, 1), load->errors, load->bytes, (double)ended_ns / 1e9,
	       cpu_seconds());
}

static _Noreturn void usage(void)
{
	fputs("usage: load --port PORT [options]\n"
	      "  --mode MODE       range, put, mixed (nine ranges to a put), list, count,\n"
	      "                    fill (transactions of puts in key order), grant, attach\n"
	      "                    (a key to each lease), keepalive, serializable (as range)\n"
	      "  --connections N   (64)\n"
	      "  --seconds S, --requests N   whichever comes first (2 s)\n"
	      "  --rate R          requests a second; without: as many as are answered\n"
	      "  --keys K          how many keys or leases there are (1)\n"
	      "  --first N         the number of the first of them (0)\n"
	      "  --span N          keys of a listing, puts of a transaction (100)\n"
	      "  --ttl S           of leases (3600)\n"
	      "  --value-bytes N   (256)\n"
	      "  --progress        to the terminal\n",
	      stderr);
	exit(2);
}

static enum mode mode_of(const char *name)
{
	for (int i = 0; MODE_NAMES[i] != NULL; i++) {
		if (strcmp(name, MODE_NAMES[i]) == 0)
			return (enum mode)i;
	}
	usage();
}

static void set_option(struct load *load, int option, const char *text)
{
	switch (option) {
	case 'p':
		load->port = (unsigned)number(text, 1, 65535);
		break;
	case 'm':
		load->mode = mode_of(text);
		break;
	case 'c':
		load->connections = number(text, 1, 100000);
		break;
	case 's':
		load->seconds = strtod(text, NULL);
		break;
	case 'n':
		load->requests = number(text, 1, UINT64_MAX);
		break;
	case 'r':
		load->rate = strtod(text, NULL);
		break;
	case 'k':
		load->keys = number(text, 1, MAX_KEYS);
		break;
	case 'f':
		load->first = number(text, 0, MAX_KEYS);
		break;
	case 'l':
		load->span = number(text, 1, MAX_KEYS);
		break;
	case 't':
		load->ttl_sec = number(text, 1, INT32_MAX);
		break;
	case 'v':
		load->value_bytes = number(text, 0, MAX_VALUE_BYTES);
		break;
	case 'P':
		load->progress = true;
		break;
	default:
		usage();
	}
}

static void read_options(struct load *load, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"port", required_argument, NULL, 'p'},
		{"mode", required_argument, NULL, 'm'},
		{"connections", required_argument, NULL, 'c'},
		{"seconds", required_argument, NULL, 's'},
		{"requests", required_argument, NULL, 'n'},
		{"rate", required_argument, NULL, 'r'},
		{"keys", required_argument, NULL, 'k'},
		{"first", required_argument, NULL, 'f'},
		{"span", required_argument, NULL, 'l'},
		{"ttl", required_argument, NULL, 't'},
		{"value-bytes", required_argument, NULL, 'v'},
		{"progress", no_argument, NULL, 'P'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1)
		set_option(load, option, optarg);
	if (load->port == 0 || optind != argc || (load->mode == MODE_FILL && load->span > 10000))
		usage();
	if (load->seconds <= 0 && load->requests == 0)
		load->seconds = 2;
}

int main(int argc, char **argv)
{
	static struct load load = {
		.connections = 64, .keys = 1, .span = 100, .ttl_sec = 3600, .value_bytes = 256};
	struct connection *connections;

	tool_init("load");
	read_options(&load, argc, argv);
	load.random = (uint64_t)now_ns() | 1;
	load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (load.epoll_fd < 0)
		fail("epoll");
	connections = calloc(load.connections, sizeof *connections);
	load.idle = allocate(load.connections * sizeof(struct connection *));
	if (connections == NULL)
		fail("no memory");
	make_requests(&load);
	for (size_t i = 0; i < load.connections; i++) {
		connections[i].fd = open_socket(load.port);
		await(&load, connections[i].fd, &connections[i]);
	}
	run(&load, connections);
	report(&load);
	for (size_t i = 0; i < load.connections; i++)
		close(connections[i].fd);
	close(load.epoll_fd);
	free(load.idle);
	free(connections);
	return load.errors > 0 ? 1 : 0;
}
