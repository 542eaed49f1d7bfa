/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ARENA_ALIGN = 16,
	ARENA_CHUNK_MIN = 4096,
	/* Above malloc's mmap threshold a chunk returns to the system when freed. */
	ARENA_CHUNK_MAX = 1 << 20,
};

struct arena_chunk {
	struct arena_chunk *next;
	size_t size;
};

_Static_assert(sizeof(struct arena_chunk) % ARENA_ALIGN == 0, "objects must stay aligned");

static void *allocator_alloc(void *data, size_t size)
{
	return arena_alloc(data, size);
}

static void allocator_free(void *data, void *pointer)
{
	(void)data;
	(void)pointer;
}

void arena_init(struct arena *arena, size_t cap_bytes, void *first, size_t first_size)
{
	*arena = (struct arena){
		.next = first,
		.left = first_size,
		.first = first,
		.first_size = first_size,
		.cap_bytes = cap_bytes,
		.allocator = {.alloc = allocator_alloc, .free = allocator_free, .allocator_data = arena},
	};
}

struct arena_mark arena_mark(const struct arena *arena)
{
	return (struct arena_mark){
		.chunks = arena->chunks,
		.next = arena->next,
		.left = arena->left,
		.used_bytes = arena->used_bytes,
	};
}

void arena_rewind(struct arena *arena, const struct arena_mark *mark)
{
	while (arena->chunks != mark->chunks) {
		struct arena_chunk *chunk = arena->chunks;

		arena->chunks = chunk->next;
		free(chunk);
	}
	arena->next = mark->next;
	arena->left = mark->left;
	arena->used_bytes = mark->used_bytes;
}

void arena_release(struct arena *arena)
{
	static const struct arena_mark nothing;

	arena_rewind(arena, &nothing);
}

void arena_reset(struct arena *arena)
{
	arena_release(arena);
	arena->next = arena->first;
	arena->left = arena->first_size;
}

/* Chunks double, so that a large message costs few of them. */
static size_t chunk_size(const struct arena *arena, size_t need)
{
	size_t size = arena->chunks == NULL ? ARENA_CHUNK_MIN : arena->chunks->size * 2;

#ifdef ARENA_OBJECTS
	return need;
#endif
	if (size > ARENA_CHUNK_MAX)
		size = ARENA_CHUNK_MAX;
	return size < need ? need : size;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	size_t rounded;
	void *object;

	if (size > arena->cap_bytes)
		return NULL;
	rounded = size == 0 ? ARENA_ALIGN : (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	if (rounded > arena->cap_bytes - arena->used_bytes)
		return NULL;
#ifdef ARENA_OBJECTS
	arena->left = 0;
	if (size == 0)
		size = 1;
#else
	size = rounded;
#endif
	if (size > arena->left) {
		size_t room = chunk_size(arena, size);
		struct arena_chunk *chunk = malloc(sizeof *chunk + room);

		if (chunk == NULL)
			return NULL;
		*chunk = (struct arena_chunk){.next = arena->chunks, .size = room};
		arena->chunks = chunk;
		arena->next = (uint8_t *)(chunk + 1);
		arena->left = room;
	}
	object = arena->next;
	arena->next += size;
	arena->left -= size;
	arena->used_bytes += rounded;
	return object;
}

void *arena_calloc(struct arena *arena, size_t count, size_t size)
{
	size_t total;
	void *object;

	if (__builtin_mul_overflow(count, size, &total))
		return NULL;
	object = arena_alloc(arena, total);
	if (object != NULL)
		memset(object, 0, total);
	return object;
}

void *arena_copy(struct arena *arena, const void *data, size_t size)
{
	void *object = arena_alloc(arena, size);

	if (object != NULL && size > 0)
		memcpy(object, data, size);
	return object;
}

char *arena_strdup(struct arena *arena, const char *text)
{
	return arena_copy(arena, text, strlen(text) + 1);
}

void *arena_grow(struct arena *arena, const void *items, size_t count, size_t item_size)
{
	union {
		const void *in;
		void *out;
	} unconst = {.in = items};
	void *grown;

	if (count != 0 && (count & (count - 1)) != 0)
		return unconst.out;
	grown = arena_alloc(arena, (count == 0 ? 1 : count * 2) * item_size);
	if (grown != NULL && count > 0)
		memcpy(grown, items, count * item_size);
	return grown;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	va_list args;
	int length;
	char *text;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0)
		return NULL;
	text = arena_alloc(arena, (size_t)length + 1);
	if (text == NULL)
		return NULL;
	va_start(args, format);
	vsnprintf(text, (size_t)length + 1, format, args);
	va_end(args);
	return text;
}

ProtobufCAllocator *arena_allocator(struct arena *arena)
{
	return &arena->allocator;
}
