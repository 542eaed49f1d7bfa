/* SPDX-License-Identifier: Apache-2.0 */
#include "tool.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const char *tool_name = "tool";
static char digits[1000][4]; /* three digits in base64 */

_Noreturn void fail(const char *what)
{
	fprintf(stderr, "%s: %s%s%s\n", tool_name, what, errno != 0 ? ": " : "",
	        errno != 0 ? strerror(errno) : "");
	exit(1);
}

void *allocate(size_t len)
{
	void *memory = malloc(len);

	if (memory == NULL)
		fail("no memory");
	return memory;
}

uint64_t number(const char *text, uint64_t low, uint64_t high)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (end == text || *end != '\0' || value < low || value > high) {
		errno = ERANGE;
		fail(text);
	}
	return value;
}

int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- Texts ---- */

static void encode_base64(const uint8_t *from, size_t len, char *to)
{
	static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	while (len > 0) {
		size_t taken = len < 3 ? len : 3;
		uint32_t word = (uint32_t)from[0] << 16;

		word |= taken > 1 ? (uint32_t)from[1] << 8 : 0;
		word |= taken > 2 ? from[2] : 0;
		to[0] = ALPHABET[word >> 18];
		to[1] = ALPHABET[word >> 12 & 63];
		to[2] = taken > 1 ? ALPHABET[word >> 6 & 63] : '=';
		to[3] = taken > 2 ? ALPHABET[word & 63] : '=';
		from += taken;
		to += 4;
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

char *make_value(size_t bytes)
{
	uint8_t *raw = allocate(bytes + 1);
	char *text = allocate((bytes + 2) / 3 * 4 + 1);
	uint64_t random = (uint64_t)now_ns() | 1;

	for (size_t i = 0; i < bytes; i++) {
		random = random * 6364136223846793005U + 1442695040888963407U;
		raw[i] = (uint8_t)(random >> 56);
	}
	encode_base64(raw, bytes, text);
	text[(bytes + 2) / 3 * 4] = '\0';
	free(raw);
	return text;
}

void set_key(char *place, uint64_t key)
{
	memcpy(place + 4, digits[key / 1000000 % 1000], 4); /* after "key" */
	memcpy(place + 8, digits[key / 1000 % 1000], 4);
	memcpy(place + 12, digits[key % 1000], 4);
}

void set_lease(char *place, uint64_t lease)
{
	for (char *to = place + LEASE_TEXT - 1; to > place; to--, lease /= 10)
		*to = (char)('0' + lease % 10);
}

char *make_post(const char *path, const char *body, size_t *len)
{
	size_t size = strlen(path) + strlen(body) + 256;
	char *text = allocate(size);

	*len = (size_t)snprintf(text, size,
	                        "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	                        "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
	                        path, strlen(body), body);
	return text;
}

/* ---- Connections ---- */

int open_socket(unsigned port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0)
		fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

void send_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			fail("send");
		data += sent;
		len -= (size_t)sent;
	}
}

size_t receive_some(int fd, char *buffer, size_t size)
{
	ssize_t len = recv(fd, buffer, size, MSG_DONTWAIT);

	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (len < 0)
		fail("receive");
	errno = 0;
	if (len == 0)
		fail("the server closed a connection");
	return (size_t)len;
}

int ticker_open(double rate)
{
	int64_t step_ns = (int64_t)(1e9 / rate);
	struct timespec step = {.tv_sec = step_ns / 1000000000, .tv_nsec = step_ns % 1000000000};
	struct itimerspec times = {.it_interval = step, .it_value = step};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd < 0 || timerfd_settime(fd, 0, &times, NULL) != 0)
		fail("timer");
	return fd;
}

uint64_t ticker_ticks(int fd)
{
	uint64_t ticks = 0;

	return read(fd, &ticks, sizeof ticks) == sizeof ticks ? ticks : 0;
}

/* ---- Latencies ---- */

void histogram_add(struct histogram *histogram, int64_t latency_ns)
{
	uint64_t ns = latency_ns > 0 ? (uint64_t)latency_ns : 0;
	unsigned shift = ns >> BUCKET_BITS == 0 ? 0 : 63 - (unsigned)__builtin_clzll(ns) - BUCKET_BITS;

	histogram->count++;
	histogram->buckets[((size_t)shift << BUCKET_BITS) + (size_t)(ns >> shift)]++;
}

/* The middle of what a bucket holds, in microseconds. */
static double bucket_us(size_t bucket)
{
	size_t shift = bucket >> BUCKET_BITS == 0 ? 0 : (bucket >> BUCKET_BITS) - 1;
	uint64_t low = (uint64_t)(bucket - (shift << BUCKET_BITS)) << shift;

	return ((double)low + (double)(1ULL << shift) / 2) / 1000;
}

double histogram_percentile(const struct histogram *histogram, double share)
{
	uint64_t rank = (uint64_t)((double)histogram->count * share), seen = 0;

	if (rank >= histogram->count && histogram->count > 0)
		rank = histogram->count - 1;
	for (size_t i = 0; i < BUCKETS; i++) {
		seen += histogram->buckets[i];
		if (seen > rank)
			return bucket_us(i);
	}
	return 0;
}

void tool_init(const char *name)
{
	struct rlimit files;

	tool_name = name;
	make_digits();
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}
