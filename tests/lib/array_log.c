/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/array_log.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	uint8_t *data;
	size_t len;
};

struct array_log {
	struct log base;
	struct entry *entries; /* the record of offset n is number n - 1 */
	size_t count, size;
	size_t next; /* the entry that the next poll gives */
};

static enum status_code append(struct log *base, const uint8_t *data, size_t len, uint64_t tag)
{
	struct array_log *log = (struct array_log *)base;
	struct entry *entry;

	(void)tag;
	if (log->count == log->size) {
		size_t size = log->size == 0 ? 64 : log->size * 2;
		struct entry *grown = realloc(log->entries, size * sizeof *grown);

		if (grown == NULL)
			return STATUS_NO_MEMORY;
		log->entries = grown;
		log->size = size;
	}
	entry = &log->entries[log->count];
	entry->data = malloc(len);
	if (entry->data == NULL)
		return STATUS_NO_MEMORY;
	memcpy(entry->data, data, len);
	entry->len = len;
	log->count++;
	return STATUS_OK;
}

static enum status_code poll_records(struct log *base, struct log_record *records, size_t max,
                                     size_t *count, int timeout_ms)
{
	struct array_log *log = (struct array_log *)base;

	(void)timeout_ms;
	for (*count = 0; *count < max && log->next < log->count; log->next++, ++*count) {
		const struct entry *entry = &log->entries[log->next];

		records[*count] = (struct log_record){(int64_t)log->next + 1, entry->data, entry->len};
	}
	return STATUS_OK;
}

static enum status_code trim(struct log *base, int64_t before)
{
	(void)base;
	(void)before;
	return STATUS_OK;
}

static void wake(struct log *base)
{
	(void)base;
}

static void close_log(struct log *base)
{
	struct array_log *log = (struct array_log *)base;

	for (size_t i = 0; i < log->count; i++)
		free(log->entries[i].data);
	free(log->entries);
	log_release(base);
	free(log);
}

static const struct log_ops LOG_ARRAY = {
	.name = "array",
	.append = append,
	.poll = poll_records,
	.trim = trim,
	.wake = wake,
	.close = close_log,
};

struct log *array_log_new(void)
{
	struct array_log *log = calloc(1, sizeof *log);

	if (log == NULL)
		return NULL;
	log_init(&log->base, &LOG_ARRAY);
	return &log->base;
}

void array_log_seek(struct log *base, int64_t applied)
{
	((struct array_log *)base)->next = (size_t)applied;
}

int64_t array_log_end(const struct log *base)
{
	return (int64_t)((const struct array_log *)base)->count;
}
