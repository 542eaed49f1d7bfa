/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/disk.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A write of data, or a truncation when data is NULL; in the order of time. */
struct pending {
	struct pending *next;
	int64_t offset; /* of a truncation: the size */
	size_t len;
	uint8_t *data;
};

struct disk_file {
	struct disk_file *next;
	char *path;
	uint8_t *bytes; /* durable */
	size_t size;
	struct pending *first;
	struct pending **last;
	bool durable_entry;         /* the directory's entry was synced */
	bool deleted;               /* and that was not synced yet */
	struct disk_file *replaced; /* the file deleted before, which may come back instead */
};

static struct disk_file *files;

static void *must(void *memory)
{
	assert(memory != NULL);
	return memory;
}

static void free_pending(struct disk_file *file)
{
	while (file->first != NULL) {
		struct pending *next = file->first->next;

		free(file->first->data);
		free(file->first);
		file->first = next;
	}
	file->last = &file->first;
}

static void free_file(struct disk_file *file)
{
	if (file == NULL)
		return;
	free_file(file->replaced);
	free_pending(file);
	free(file->bytes);
	free(file->path);
	free(file);
}

static void resize(struct disk_file *file, size_t size)
{
	if (size > file->size) {
		file->bytes = must(realloc(file->bytes, size));
		memset(file->bytes + file->size, 0, size - file->size);
	}
	file->size = size;
}

static void load(struct disk_file *file)
{
	int fd = open(file->path, O_RDONLY | O_CLOEXEC);
	struct stat info;
	size_t done = 0;

	if (fd < 0)
		return;
	assert(fstat(fd, &info) == 0);
	resize(file, (size_t)info.st_size);
	while (done < file->size) {
		ssize_t got = read(fd, file->bytes + done, file->size - done);

		assert(got > 0);
		done += (size_t)got;
	}
	close(fd);
}

static struct disk_file **find(const char *path)
{
	struct disk_file **at = &files;

	while (*at != NULL && strcmp((*at)->path, path) != 0)
		at = &(*at)->next;
	return at;
}

struct disk_file *disk_open(const char *path, bool created)
{
	struct disk_file **at = find(path), *file;

	if (*at != NULL && !(*at)->deleted)
		return *at;
	file = must(calloc(1, sizeof *file));
	file->path = must(strdup(path));
	file->last = &file->first;
	file->durable_entry = !created;
	if (*at != NULL) {
		file->next = (*at)->next;
		file->replaced = *at;
	}
	*at = file;
	if (!created)
		load(file);
	return file;
}

static void add_pending(struct disk_file *file, int64_t offset, const void *data, size_t len)
{
	struct pending *pending = must(calloc(1, sizeof *pending));

	pending->offset = offset;
	pending->len = len;
	if (data != NULL) {
		pending->data = must(malloc(len));
		memcpy(pending->data, data, len);
	}
	*file->last = pending;
	file->last = &pending->next;
}

void disk_write(struct disk_file *file, int64_t offset, const void *data, size_t len)
{
	add_pending(file, offset, data, len);
}

void disk_truncate(struct disk_file *file, int64_t size)
{
	add_pending(file, size, NULL, 0);
}

/* A part of a write reaches the durable bytes. */
static void settle(struct disk_file *file, const struct pending *pending, size_t from, size_t to)
{
	size_t end = (size_t)pending->offset + to;

	if (end > file->size)
		resize(file, end);
	memcpy(file->bytes + (size_t)pending->offset + from, pending->data + from, to - from);
}

void disk_sync(struct disk_file *file)
{
	for (const struct pending *it = file->first; it != NULL; it = it->next) {
		if (it->data != NULL)
			settle(file, it, 0, it->len);
		else
			resize(file, (size_t)it->offset);
	}
	free_pending(file);
}

void disk_lose(struct disk_file *file)
{
	free_pending(file);
}

void disk_delete(const char *path)
{
	struct disk_file **at = find(path), *file = *at;

	if (file == NULL || file->deleted)
		return;
	if (file->durable_entry) {
		file->deleted = true;
		return;
	}
	*at = file->next;
	if (file->replaced != NULL) {
		file->replaced->next = file->next;
		*at = file->replaced;
		file->replaced = NULL;
	}
	free_file(file);
}

void disk_sync_directory(void)
{
	struct disk_file **at = &files;

	while (*at != NULL) {
		struct disk_file *file = *at;

		free_file(file->replaced);
		file->replaced = NULL;
		file->durable_entry = true;
		if (file->deleted) {
			*at = file->next;
			free_file(file);
		} else {
			at = &file->next;
		}
	}
}

/* Each sector of each write on its own: it may have reached the disk. */
static void keep_some(struct disk_file *file, struct prng *prng)
{
	/* From nothing at all to everything. */
	unsigned percent = prng_below(prng, 5) * 25;

	for (const struct pending *it = file->first; it != NULL; it = it->next) {
		if (it->data == NULL) {
			if (prng_chance(prng, percent))
				resize(file, (size_t)it->offset);
			continue;
		}
		for (size_t from = 0, to; from < it->len; from = to) {
			size_t into = ((size_t)it->offset + from) % DISK_SECTOR_BYTES;

			to = from + DISK_SECTOR_BYTES - into;
			if (to > it->len)
				to = it->len;
			if (prng_chance(prng, percent))
				settle(file, it, from, to);
		}
	}
	free_pending(file);
}

static void store_bytes(const struct disk_file *file)
{
	int fd = open(file->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t done = 0;

	assert(fd >= 0);
	while (done < file->size) {
		ssize_t put = write(fd, file->bytes + done, file->size - done);

		assert(put > 0);
		done += (size_t)put;
	}
	close(fd);
}

/* The file that the directory's entry leads to now, or NULL. */
static struct disk_file *choose(struct disk_file *file, struct prng *prng)
{
	if (file->deleted)
		return prng_chance(prng, 50) ? file : NULL;
	if (file->durable_entry || prng_chance(prng, 50))
		return file;
	return file->replaced != NULL ? choose(file->replaced, prng) : NULL;
}

void disk_restore(struct prng *prng)
{
	for (struct disk_file *file = files; file != NULL; file = file->next) {
		struct disk_file *kept = choose(file, prng);

		unlink(file->path);
		if (kept == NULL)
			continue;
		keep_some(kept, prng);
		store_bytes(kept);
	}
	disk_forget();
}

void disk_forget(void)
{
	while (files != NULL) {
		struct disk_file *next = files->next;

		free_file(files);
		files = next;
	}
}
