/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cells behind the table. A counter or gauge has one cell; a histogram has
 * one per bucket, one for what lies above the last, and one for the sum.
 *
 * There are SHARDS copies of all cells, each on cache lines of its own. A
 * thread is given a copy when it first counts; with more threads than copies
 * some share one, which costs time and nothing else.
 */
#include "base/metrics.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
	SHARDS = 16,
	CACHE_LINE_BYTES = 64,
	LABEL_BYTES = 64,
	US_PER_SECOND = 1000000,
};

struct row {
	const char *family;
	const char *labels;
	const char *help;
	enum metric_kind kind;
	int first; /* bound of the first bucket */
	int buckets;
	int cell; /* the first of its cells */
};

#define CELLS_OF(buckets) ((buckets) == 0 ? 1 : (buckets) + 2)

/* Where each row's cells start, by adding up those before it. */
enum cell_place {
#define X(name, kind, family, labels, first, buckets, help)                                                \
	CELL_##name, CELL_END_##name = CELL_##name + CELLS_OF(buckets) - 1,
	METRIC_TABLE(X)
#undef X
		CELL_COUNT
};

static const struct row ROWS[METRIC_COUNT] = {
#define X(name, kind, family, labels, first, buckets, help)                                                \
	{family, labels, help, METRIC_##kind, first, buckets, CELL_##name},
	METRIC_TABLE(X)
#undef X
};

struct shard {
	alignas(CACHE_LINE_BYTES) _Atomic int64_t cells[CELL_COUNT];
};

static struct shard shards[SHARDS];
static atomic_uint threads_seen;
static _Thread_local struct shard *own_shard;

static pthread_mutex_t labels_lock = PTHREAD_MUTEX_INITIALIZER;
static char label_values[METRIC_COUNT][LABEL_BYTES];

static void add_to_cell(int cell, int64_t value)
{
	struct shard *shard = own_shard;

	if (shard == NULL) {
		shard = &shards[atomic_fetch_add_explicit(&threads_seen, 1, memory_order_relaxed) % SHARDS];
		own_shard = shard;
	}
	atomic_fetch_add_explicit(&shard->cells[cell], value, memory_order_relaxed);
}

static int64_t read_cell(int cell)
{
	int64_t sum = 0;

	for (int i = 0; i < SHARDS; i++)
		sum += atomic_load_explicit(&shards[i].cells[cell], memory_order_relaxed);
	return sum;
}

void metric_add(enum metric metric, int64_t value)
{
	add_to_cell(ROWS[metric].cell, value);
}

void metric_set(enum metric metric, int64_t value)
{
	atomic_store_explicit(&shards[0].cells[ROWS[metric].cell], value, memory_order_relaxed);
}

void metric_set_label(enum metric metric, const char *text)
{
	pthread_mutex_lock(&labels_lock);
	snprintf(label_values[metric], LABEL_BYTES, "%s", text);
	pthread_mutex_unlock(&labels_lock);
}

/* The first bucket whose bound is not below the value; 'buckets' for none. */
static int find_bucket(const struct row *row, int64_t value)
{
	int64_t bound = row->first;
	int i = 0;

	while (i < row->buckets && value > bound) {
		bound *= 2;
		i++;
	}
	return i;
}

void metric_observe(enum metric metric, int64_t value)
{
	const struct row *row = &ROWS[metric];

	add_to_cell(row->cell + find_bucket(row, value), 1);
	add_to_cell(row->cell + row->buckets + 1, value);
}

static int64_t count_observations(const struct row *row)
{
	int64_t count = 0;

	for (int i = 0; i <= row->buckets; i++)
		count += read_cell(row->cell + i);
	return count;
}

int64_t metric_value(enum metric metric)
{
	const struct row *row = &ROWS[metric];

	return row->buckets > 0 ? count_observations(row) : read_cell(row->cell);
}

static bool is_in_seconds(const struct row *row)
{
	return row->kind == METRIC_SECONDS_COUNTER || row->kind == METRIC_SECONDS_GAUGE ||
	       row->kind == METRIC_SECONDS_HISTOGRAM;
}

static void append_value(struct buf *buf, const struct row *row, int64_t value)
{
	if (is_in_seconds(row))
		buf_printf(buf, "%.16g", (double)value / US_PER_SECOND);
	else
		buf_append_i64(buf, value);
}

static const char *type_name(const struct row *row)
{
	switch (row->kind) {
	case METRIC_COUNTER:
	case METRIC_SECONDS_COUNTER:
		return "counter";
	case METRIC_HISTOGRAM:
	case METRIC_SECONDS_HISTOGRAM:
		return "histogram";
	default:
		return "gauge";
	}
}

static void write_histogram(struct buf *buf, const struct row *row)
{
	int64_t bound = row->first;
	int64_t count = 0;

	for (int i = 0; i < row->buckets; i++, bound *= 2) {
		count += read_cell(row->cell + i);
		buf_printf(buf, "%s_bucket{le=\"", row->family);
		append_value(buf, row, bound);
		buf_printf(buf, "\"} %lld\n", (long long)count);
	}
	count += read_cell(row->cell + row->buckets);
	buf_printf(buf, "%s_bucket{le=\"+Inf\"} %lld\n%s_sum ", row->family, (long long)count, row->family);
	append_value(buf, row, read_cell(row->cell + row->buckets + 1));
	buf_printf(buf, "\n%s_count %lld\n", row->family, (long long)count);
}

static void write_info(struct buf *buf, enum metric metric)
{
	char value[LABEL_BYTES];

	pthread_mutex_lock(&labels_lock);
	memcpy(value, label_values[metric], LABEL_BYTES);
	pthread_mutex_unlock(&labels_lock);
	buf_printf(buf, "%s{%s=\"%s\"} 1\n", ROWS[metric].family, ROWS[metric].labels, value);
}

static void write_series(struct buf *buf, enum metric metric)
{
	const struct row *row = &ROWS[metric];

	if (row->buckets > 0) {
		write_histogram(buf, row);
		return;
	}
	if (row->kind == METRIC_INFO) {
		write_info(buf, metric);
		return;
	}
	buf_append_text(buf, row->family);
	if (row->labels[0] != '\0')
		buf_printf(buf, "{%s}", row->labels);
	buf_append_byte(buf, ' ');
	append_value(buf, row, read_cell(row->cell));
	buf_append_byte(buf, '\n');
}

static bool starts_family(int i)
{
	return i == 0 || strcmp(ROWS[i].family, ROWS[i - 1].family) != 0;
}

void metrics_write(struct buf *buf)
{
	for (int i = 0; i < METRIC_COUNT; i++) {
		const struct row *row = &ROWS[i];

		if (starts_family(i))
			buf_printf(buf, "# HELP %s %s\n# TYPE %s %s\n", row->family, row->help, row->family,
			           type_name(row));
		write_series(buf, (enum metric)i);
	}
}

void metrics_document(struct buf *buf)
{
	buf_append_text(
		buf, "# Metrics\n\n"
		     "`GET /metrics` answers in Prometheus' text format. A family named `etcd_*` is the\n"
		     "same thing as in etcd 3.7; what etcd has and this server has not is left out.\n"
		     "This page is printed from the table in `src/base/metrics.h`.\n\n"
		     "| family | type | meaning |\n| --- | --- | --- |\n");
	for (int i = 0; i < METRIC_COUNT; i++) {
		if (starts_family(i))
			buf_printf(buf, "| `%s` | %s | %s |\n", ROWS[i].family, type_name(&ROWS[i]),
			           ROWS[i].help);
	}
}
