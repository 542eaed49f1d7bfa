/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the load programs share: time, keys, connections, latencies. Each of
 * them is one thread that ends the process when something goes wrong, for a
 * figure from a run with errors is worth nothing.
 *
 * Keys are "key" and nine digits: twelve bytes, that is sixteen characters of
 * base64 in which each three digits are four characters of their own. A
 * lease's number is a one and nine digits. So both have the same length
 * always, and a request is a prepared text in which only these places change.
 */
#ifndef BENCH_TOOL_H
#define BENCH_TOOL_H

#include <stddef.h>
#include <stdint.h>

enum {
	KEY_TEXT = 16, /* a key in base64 */
	LEASE_TEXT = 10,
	MAX_KEYS = 1000000000,
	MAX_VALUE_BYTES = 1 << 20,
	RECEIVE_BYTES = 256 * 1024,
	SILENCE_MS = 60000, /* a server that says nothing for so long has failed */
	/* A histogram of nanoseconds: 32 buckets to each power of two. */
	BUCKET_BITS = 5,
	BUCKETS = 64 << BUCKET_BITS,
};

/* What stands in a prepared text for the first key and the first lease. */
#define KEY_MARK "a2V5MDAwMDAwMDAw"
#define LEASE_MARK "1000000000"

struct histogram {
	uint64_t count;
	uint64_t buckets[BUCKETS];
};

/* Prepares the rest. 'name' stands before what is said on standard error. The
 * limit of open files is raised as far as it goes. */
void tool_init(const char *name);

/* Ends the process; errno, unless it is 0, gives the reason. */
_Noreturn void fail(const char *what);

/* As malloc, but never NULL. */
void *allocate(size_t len);

/* An option's number. One that is out of bounds ends the process. */
uint64_t number(const char *text, uint64_t low, uint64_t high);

int64_t now_ns(void);
double cpu_seconds(void);

/* Random bytes in base64, to be freed. */
char *make_value(size_t bytes);

/* Writes a key's or a lease's number over its place in a text. */
void set_key(char *place, uint64_t key);
void set_lease(char *place, uint64_t lease);

/* A POST, head and body, to be freed. */
char *make_post(const char *path, const char *body, size_t *len);

/* A connection to a port of 127.0.0.1. */
int open_socket(unsigned port);

/* All of it, waiting as long as it takes. */
void send_all(int fd, const char *data, size_t len);

/* What is there, at most 'size' bytes; 0 when nothing is. That the server
 * closed the connection ends the process. */
size_t receive_some(int fd, char *buffer, size_t size);

/* A descriptor for epoll that becomes readable 'rate' times a second, and how
 * many times it has since this was last asked. */
int ticker_open(double rate);
uint64_t ticker_ticks(int fd);

void histogram_add(struct histogram *histogram, int64_t ns);

/* In microseconds. A share of 1 is the longest. */
double histogram_percentile(const struct histogram *histogram, double share);

#endif
