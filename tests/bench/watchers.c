/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Very many watchers, over HTTP/1.1 as a browser's fetch or curl would watch:
 * one POST, whose answer does not end. One thread holds them all, and the
 * writers too, so that the time from a put to its event is taken by one clock.
 *
 *   fan     watchers, each of one key, and writers that put these keys in turn;
 *           in the end each watcher must have got as many events as there were
 *           puts of its key
 *   hold    only watches: says "ready" and holds them until its input ends
 *   follow  one watch of a range of keys: says "ready" and counts events until
 *           there are enough of them, or its input ends
 *
 * Events are counted and not read: of each, "mod_revision" is looked for.
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
#include "scan.h"
#include "tool.h"

enum {
	EVENTS = 256,
	CREATE_BYTES = 160, /* the most that one create request takes */
	/* Puts wait while so many events are on their way: a run then ends soon after its last put. */
	DEFAULT_AHEAD = 1 << 16,
};

enum mode { MODE_FAN, MODE_HOLD, MODE_FOLLOW };

static const char *const MODE_NAMES[] = {"fan", "hold", "follow", NULL};

/* What an epoll event is about: the first member of the structs below. */
enum subject { SUBJECT_STREAM, SUBJECT_WRITER, SUBJECT_TICKER, SUBJECT_INPUT };

/* A connection with one watch or several. */
struct stream {
	enum subject subject;
	int fd;
	size_t created;
	uint64_t events;
	struct scan scan;
	struct answer answer;
};

struct writer {
	enum subject subject;
	int fd;
	struct answer answer;
};

struct bench {
	enum mode mode;
	unsigned port;
	size_t watchers, stream_count, keys, writer_count, value_bytes;
	uint64_t first, from, wanted, ahead;
	double seconds, rate;
	bool again;

	int epoll_fd, ticker_fd;
	struct stream *streams;
	struct writer *writers;
	struct writer **idle;
	size_t idle_count;
	size_t per_stream; /* watches */
	size_t ready;      /* streams whose watches are there */
	char *put;
	size_t put_len;
	char *put_key;       /* its place in the put */
	size_t value_len;    /* in base64 */
	uint64_t *key_puts;  /* of each key */
	int64_t *sent_ns;    /* of each put, if there is a rate */
	uint64_t sent_limit; /* how many of these there is room for */

	bool input_ended;
	int64_t started_ns, until_ns, answered_ns, event_ns;
	uint64_t sent, answered; /* puts */
	uint64_t due, events;    /* of all streams */
	uint64_t passes;
	struct histogram latencies;
	char buffer[RECEIVE_BYTES];
};

static enum subject ticker = SUBJECT_TICKER, input = SUBJECT_INPUT;

static void await(struct bench *bench, int fd, enum subject *subject)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = subject};

	if (epoll_ctl(bench->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		fail("epoll_ctl");
}

/* ---- Watches ---- */

/* One create request; *to is moved behind it. */
static void write_create(const struct bench *bench, uint64_t watcher, char **to)
{
	char key[] = KEY_MARK, end[] = KEY_MARK;

	if (bench->mode == MODE_FOLLOW) {
		set_key(key, bench->first);
		set_key(end, bench->first + bench->keys);
		*to += sprintf(*to,
		               "{\"create_request\":{\"key\":\"%s\",\"range_end\":\"%s\","
		               "\"start_revision\":\"%" PRIu64 "\"}}\n",
		               key, end, bench->from);
		return;
	}
	set_key(key, bench->first + watcher % bench->keys);
	*to += sprintf(*to, "{\"create_request\":{\"key\":\"%s\"}}\n", key);
}

static void open_stream(struct bench *bench, size_t which)
{
	struct stream *stream = &bench->streams[which];
	char *body = allocate(bench->per_stream * CREATE_BYTES + 1), *to = body, *request;
	size_t len;

	for (size_t i = 0; i < bench->per_stream; i++)
		write_create(bench, which * bench->per_stream + i, &to);
	request = make_post("/v3/watch", body, &len);
	*stream = (struct stream){.subject = SUBJECT_STREAM, .fd = open_socket(bench->port)};
	scan_init(&stream->scan, "\"created\":true", 0);
	await(bench, stream->fd, &stream->subject);
	send_all(stream->fd, request, len);
	free(request);
	free(body);
}

static void note_created(struct bench *bench, struct stream *stream)
{
	if (++stream->created < bench->per_stream)
		return;
	bench->ready++;
	/* The value comes after the revision, and is most of the event: no need to look into it. But a
	 * follower may see deletions, which have none. */
	scan_init(&stream->scan, "\"mod_revision\"", bench->mode == MODE_FAN ? bench->value_len : 0);
}

static void note_event(struct bench *bench, struct stream *stream, int64_t now)
{
	if (bench->rate > 0 && stream->events < bench->sent)
		histogram_add(&bench->latencies, now - bench->sent_ns[stream->events]);
	stream->events++;
	bench->events++;
	bench->event_ns = now;
}

static void read_stream(struct bench *bench, struct stream *stream)
{
	size_t len = receive_some(stream->fd, bench->buffer, sizeof bench->buffer);
	int64_t now = now_ns();

	for (size_t at = 0; at < len;) {
		const char *body = bench->buffer + at;
		size_t body_len;

		at += answer_take(&stream->answer, body, len - at);
		body_len = stream->answer.body_len;
		if (stream->answer.complete || (body_len > 0 && stream->answer.status != 200))
			fail("a watch was refused or ended");
		while (scan_next(&stream->scan, &body, &body_len)) {
			if (stream->created < bench->per_stream)
				note_created(bench, stream);
			else
				note_event(bench, stream, now);
		}
	}
}

/* ---- Puts ---- */

static void make_put(struct bench *bench)
{
	char *value = make_value(bench->value_bytes);
	char *body = allocate(strlen(value) + 64);

	sprintf(body, "{\"key\":\"" KEY_MARK "\",\"value\":\"%s\"}", value);
	bench->put = make_post("/v3/kv/put", body, &bench->put_len);
	bench->put_key = strstr(bench->put, KEY_MARK);
	bench->value_len = strlen(value);
	free(body);
	free(value);
}

/* How many watchers a key has. */
static uint64_t watchers_of(const struct bench *bench, uint64_t key)
{
	return bench->watchers / bench->keys + (key < bench->watchers % bench->keys);
}

static void send_put(struct bench *bench, struct writer *writer)
{
	uint64_t key = bench->sent % bench->keys;

	set_key(bench->put_key, bench->first + key);
	bench->key_puts[key]++;
	bench->due += watchers_of(bench, key);
	if (bench->rate > 0)
		bench->sent_ns[bench->sent] = now_ns();
	bench->sent++;
	send_all(writer->fd, bench->put, bench->put_len);
}

/* The time is over, or 'sent_ns' is full. */
static bool is_over(const struct bench *bench)
{
	return now_ns() >= bench->until_ns || (bench->rate > 0 && bench->sent == bench->sent_limit);
}

static void send_puts(struct bench *bench)
{
	while (bench->rate == 0 && bench->idle_count > 0 && bench->due - bench->events < bench->ahead &&
	       !is_over(bench))
		send_put(bench, bench->idle[--bench->idle_count]);
}

/* With a rate, puts do not wait for the answers of those before: all go over
 * one connection, so that the n-th event is the n-th put's. */
static void tick(struct bench *bench)
{
	for (uint64_t ticks = ticker_ticks(bench->ticker_fd); ticks > 0 && !is_over(bench); ticks--)
		send_put(bench, &bench->writers[0]);
}

static void read_writer(struct bench *bench, struct writer *writer)
{
	size_t len = receive_some(writer->fd, bench->buffer, sizeof bench->buffer);

	for (size_t at = 0; at < len;) {
		at += answer_take(&writer->answer, bench->buffer + at, len - at);
		if (!writer->answer.complete)
			continue;
		if (writer->answer.status != 200)
			fail("a put failed");
		bench->answered++;
		bench->answered_ns = now_ns();
		if (bench->rate == 0)
			bench->idle[bench->idle_count++] = writer;
	}
}

static void open_writers(struct bench *bench)
{
	make_put(bench);
	bench->writer_count = bench->rate > 0 ? 1 : bench->writer_count;
	bench->writers = calloc(bench->writer_count, sizeof *bench->writers);
	bench->idle = allocate(bench->writer_count * sizeof(struct writer *));
	bench->key_puts = calloc(bench->keys, sizeof *bench->key_puts);
	if (bench->writers == NULL || bench->key_puts == NULL)
		fail("no memory");
	bench->sent_limit = (uint64_t)(bench->rate * bench->seconds) + 1;
	bench->sent_ns = allocate(bench->sent_limit * sizeof *bench->sent_ns);
	for (size_t i = 0; i < bench->writer_count; i++) {
		struct writer *writer = &bench->writers[i];

		*writer = (struct writer){.subject = SUBJECT_WRITER, .fd = open_socket(bench->port)};
		await(bench, writer->fd, &writer->subject);
		bench->idle[bench->idle_count++] = writer;
	}
}

/* ---- The run ---- */

/* Waits for the server, at most 'timeout_ms' (-1: for ever), and takes what there is. */
static void step(struct bench *bench, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(bench->epoll_fd, events, EVENTS, timeout_ms);

	errno = 0;
	if (count == 0)
		fail("the server says nothing more, and something is missing");
	for (int i = 0; i < count; i++) {
		enum subject *subject = events[i].data.ptr;

		if (*subject == SUBJECT_STREAM)
			read_stream(bench, (struct stream *)subject);
		else if (*subject == SUBJECT_WRITER)
			read_writer(bench, (struct writer *)subject);
		else if (*subject == SUBJECT_TICKER)
			tick(bench);
		else
			bench->input_ended = true;
	}
}

static void open_watches(struct bench *bench)
{
	bench->ready = 0;
	for (size_t i = 0; i < bench->stream_count; i++)
		open_stream(bench, i);
	while (bench->ready < bench->stream_count)
		step(bench, SILENCE_MS);
}

/* Each watcher, and not only all of them together, must have got what it is due. */
static void check_events(const struct bench *bench)
{
	for (size_t i = 0; i < bench->watchers; i++) {
		if (bench->streams[i].events == bench->key_puts[i % bench->keys])
			continue;
		fprintf(stderr, "watchers: watcher %zu got %" PRIu64 " events of %" PRIu64 "\n", i,
		        bench->streams[i].events, bench->key_puts[i % bench->keys]);
		exit(1);
	}
}

static void fan(struct bench *bench)
{
	double seconds, put_seconds;

	open_writers(bench);
	open_watches(bench);
	bench->started_ns = now_ns();
	bench->until_ns = bench->started_ns + (int64_t)(bench->seconds * 1e9);
	if (bench->rate > 0) {
		bench->ticker_fd = ticker_open(bench->rate);
		await(bench, bench->ticker_fd, &ticker);
	}
	send_puts(bench);
	while (!is_over(bench) || bench->answered < bench->sent || bench->events < bench->due) {
		step(bench, SILENCE_MS);
		send_puts(bench);
	}
	check_events(bench);
	seconds = (double)(bench->event_ns - bench->started_ns) / 1e9;
	put_seconds = (double)(bench->answered_ns - bench->started_ns) / 1e9;
	printf("{\"events\": %" PRIu64 ", \"seconds\": %.6f, \"events_rate\": %.1f, \"puts\": %" PRIu64
	       ", \"puts_rate\": %.1f, \"median_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f"
	       ", \"cpu_seconds\": %.3f}\n",
	       bench->events, seconds, (double)bench->events / seconds, bench->sent,
	       (double)bench->sent / put_seconds, histogram_percentile(&bench->latencies, 0.5),
	       histogram_percentile(&bench->latencies, 0.99), histogram_percentile(&bench->latencies, 1),
	       cpu_seconds());
}

static void say_ready(struct bench *bench)
{
	await(bench, STDIN_FILENO, &input);
	puts("ready");
	fflush(stdout);
}

static void hold(struct bench *bench)
{
	open_watches(bench);
	say_ready(bench);
	while (!bench->input_ended)
		step(bench, -1);
	printf("{\"watches\": %zu, \"events\": %" PRIu64 "}\n", bench->watchers, bench->events);
}

/* Starts from the beginning, on a new connection. */
static void follow_again(struct bench *bench)
{
	bench->passes++;
	close(bench->streams[0].fd);
	open_stream(bench, 0);
}

static void follow(struct bench *bench)
{
	double seconds;

	bench->started_ns = now_ns();
	open_watches(bench);
	say_ready(bench);
	while (!bench->input_ended) {
		if (bench->wanted > 0 && bench->streams[0].events >= bench->wanted) {
			if (!bench->again)
				break;
			follow_again(bench);
		}
		step(bench, SILENCE_MS);
	}
	seconds = (double)(bench->event_ns - bench->started_ns) / 1e9;
	printf("{\"events\": %" PRIu64 ", \"seconds\": %.6f, \"events_rate\": %.1f, \"passes\": %" PRIu64
	       ", \"last\": %.6f, \"cpu_seconds\": %.3f}\n",
	       bench->events, seconds, bench->events > 0 ? (double)bench->events / seconds : 0,
	       bench->passes, (double)bench->event_ns / 1e9, cpu_seconds());
}

/* ---- Options ---- */

static _Noreturn void usage(void)
{
	fputs("usage: watchers --port PORT [--mode fan|hold|follow] [options]\n"
	      "  --watchers N      (1)\n"
	      "  --keys N          watched, or in the range that is followed (1)\n"
	      "  --first N         the number of the first of these keys (0)\n"
	      " fan:\n"
	      "  --seconds S       (2)\n"
	      "  --connections N   of writers, each with one put under way (64)\n"
	      "  --rate R          puts a second, over one connection; without: as many as are\n"
	      "                    answered. Needs --keys 1\n"
	      "  --ahead N         puts wait while so many events are on their way (65536)\n"
	      "  --value-bytes N   (256)\n"
	      " hold:\n"
	      "  --streams N       connections for the watchers (one each)\n"
	      " follow:\n"
	      "  --from N          the first revision (0: from now on)\n"
	      "  --events N        so many are enough (0: never)\n"
	      "  --again           then watch again from the first\n",
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

static void set_option(struct bench *bench, int option, const char *text)
{
	switch (option) {
	case 'p':
		bench->port = (unsigned)number(text, 1, 65535);
		break;
	case 'm':
		bench->mode = mode_of(text);
		break;
	case 'w':
		bench->watchers = number(text, 1, 1000000);
		break;
	case 'S':
		bench->stream_count = number(text, 1, 1000000);
		break;
	case 'k':
		bench->keys = number(text, 1, MAX_KEYS);
		break;
	case 'f':
		bench->first = number(text, 0, MAX_KEYS);
		break;
	case 's':
		bench->seconds = strtod(text, NULL);
		break;
	case 'c':
		bench->writer_count = number(text, 1, 100000);
		break;
	case 'r':
		bench->rate = strtod(text, NULL);
		break;
	case 'a':
		bench->ahead = number(text, 1, UINT64_MAX);
		break;
	case 'v':
		bench->value_bytes = number(text, 0, MAX_VALUE_BYTES);
		break;
	case 'F':
		bench->from = number(text, 0, INT64_MAX);
		break;
	case 'e':
		bench->wanted = number(text, 0, UINT64_MAX);
		break;
	case 'A':
		bench->again = true;
		break;
	default:
		usage();
	}
}

static void read_options(struct bench *bench, int argc, char **argv)
{
	static const struct option OPTIONS[] = {
		{"port", required_argument, NULL, 'p'},
		{"mode", required_argument, NULL, 'm'},
		{"watchers", required_argument, NULL, 'w'},
		{"streams", required_argument, NULL, 'S'},
		{"keys", required_argument, NULL, 'k'},
		{"first", required_argument, NULL, 'f'},
		{"seconds", required_argument, NULL, 's'},
		{"connections", required_argument, NULL, 'c'},
		{"rate", required_argument, NULL, 'r'},
		{"ahead", required_argument, NULL, 'a'},
		{"value-bytes", required_argument, NULL, 'v'},
		{"from", required_argument, NULL, 'F'},
		{"events", required_argument, NULL, 'e'},
		{"again", no_argument, NULL, 'A'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1)
		set_option(bench, option, optarg);
	if (bench->mode == MODE_FOLLOW)
		bench->watchers = 1;
	if (bench->stream_count == 0 || bench->mode != MODE_HOLD)
		bench->stream_count = bench->watchers;
	bench->per_stream = bench->watchers / bench->stream_count;
	if (bench->port == 0 || optind != argc || bench->watchers % bench->stream_count != 0 ||
	    bench->seconds <= 0 || (bench->rate > 0 && bench->keys > 1) ||
	    (bench->mode == MODE_FAN && bench->keys > bench->watchers))
		usage();
}

int main(int argc, char **argv)
{
	static struct bench bench = {.watchers = 1,
	                             .keys = 1,
	                             .seconds = 2,
	                             .writer_count = 64,
	                             .value_bytes = 256,
	                             .ahead = DEFAULT_AHEAD};
	static void (*const RUN[])(struct bench *) = {
		[MODE_FAN] = fan, [MODE_HOLD] = hold, [MODE_FOLLOW] = follow};

	tool_init("watchers");
	read_options(&bench, argc, argv);
	bench.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bench.streams = calloc(bench.stream_count, sizeof *bench.streams);
	if (bench.epoll_fd < 0 || bench.streams == NULL)
		fail("start");
	RUN[bench.mode](&bench);
	return 0;
}
