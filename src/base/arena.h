/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A capped region of memory, freed in one step.
 *
 * A call owns an arena: its request, its response and every text made on the
 * way live in it and die with it, so nothing in between frees anything. The
 * cap bounds what one client can make the server allocate: two bytes on the
 * wire can ask for a hundred in memory.
 *
 * Memory comes in chunks. Large chunks are mapped and go straight back to the
 * system on release. Under AddressSanitizer each object is an allocation of
 * its own, so that a read past an object's end is found.
 *
 * An arena is used by one thread at a time.
 */
#ifndef KETA_ARENA_H
#define KETA_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

/* Each object is an allocation of its own. */
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_OBJECTS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_OBJECTS 1
#endif
#endif

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* newest first; allocations come from the first */
	uint8_t *next;              /* free bytes of the newest chunk, or of the first block */
	size_t left;
	uint8_t *first; /* a block the owner lent, may be NULL */
	size_t first_size;
	size_t used_bytes; /* asked for so far, rounded up */
	size_t cap_bytes;
	ProtobufCAllocator allocator;
};

/* Starts an empty arena that refuses to grow beyond cap_bytes. 'first' is a
 * block of first_size bytes that the caller lends until release, used before
 * anything is allocated; it may be NULL. It must be aligned to 16 bytes. The
 * arena must not be moved in memory afterwards. */
void arena_init(struct arena *arena, size_t cap_bytes, void *first, size_t first_size);

/* Frees everything; the arena is empty and may be used again. */
void arena_reset(struct arena *arena);

/* Frees everything; the arena must be initialised before its next use. */
void arena_release(struct arena *arena);

/* size bytes aligned to 16, uninitialised; NULL when the cap is reached or
 * memory ran out. Zero bytes give a valid pointer. */
void *arena_alloc(struct arena *arena, size_t size);

/* The same for count * size bytes, zeroed, with overflow checked. */
void *arena_calloc(struct arena *arena, size_t count, size_t size);

/* Copies. NULL as above. */
void *arena_copy(struct arena *arena, const void *data, size_t size);
char *arena_strdup(struct arena *arena, const char *text);
/* Makes room for one more item in an array of the arena that holds 'count', and
 * that grows only by this function: it is copied whenever that is a power of
 * two. NULL as above. */
void *arena_grow(struct arena *arena, const void *items, size_t count, size_t item_size);
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A point to which an arena can be taken back. */
struct arena_mark {
	struct arena_chunk *chunks;
	uint8_t *next;
	size_t left;
	size_t used_bytes;
};

/* Frees what was allocated since the mark was taken. A mark may be used more
 * than once, but not after the arena went back behind it. */
struct arena_mark arena_mark(const struct arena *arena);
void arena_rewind(struct arena *arena, const struct arena_mark *mark);

/* The arena as protobuf-c sees it; its free does nothing. Valid as long as
 * the arena is. */
ProtobufCAllocator *arena_allocator(struct arena *arena);

#endif
