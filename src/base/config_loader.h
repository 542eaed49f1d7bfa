/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where all sources of the configuration end: values are checked one by one,
 * the last of each key counts, and what is wrong is collected, so that the
 * operator needs one attempt and not five. For config.c only.
 */
#ifndef KETA_CONFIG_LOADER_H
#define KETA_CONFIG_LOADER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/config.h"
#include "base/config_table.h"

/* Kafka's client library has some 150. */
enum { CONFIG_PROPERTIES_MAX = 200 };

/* The value in force of a key. */
struct config_setting {
	const char *text;   /* NULL: the default */
	const char *origin; /* "keta.properties:7: listeners", "--cors"; begins a message */
	size_t line;        /* of the file, or 0 */
};

struct config_loader {
	struct config *config;
	struct arena *arena;      /* texts of the configuration, and origins */
	struct buf *message;      /* what is wrong, a line each */
	struct buf notices;       /* what the operator should know when nothing is wrong */
	size_t refused;           /* how many things are wrong */
	enum status_code status;  /* of the first thing that is wrong */
	const char *kafka_origin; /* the first of Kafka's keys that was given */
	struct config_setting settings[CONFIG_KEY_COUNT];
	struct config_property properties[CONFIG_PROPERTIES_MAX]; /* each name once */
	size_t property_lines[CONFIG_PROPERTIES_MAX];             /* of the file, or 0 */
	size_t property_count;
};

/* Borrows all three; sets every field to its default. */
void config_loader_init(struct config_loader *loader, struct config *config, struct arena *arena,
                        struct buf *message);
void config_loader_release(struct config_loader *loader);

/* Notes something wrong; 'format' has no line end. */
void config_loader_refuse(struct config_loader *loader, enum status_code status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void config_loader_no_memory(struct config_loader *loader);

/* Sets a key; 'origin' lives in the arena or as long, and NULL means that there
 * was no memory for it. 'line' as in struct config_setting. */
void config_loader_put(struct config_loader *loader, const struct config_key *key, const char *origin,
                       size_t line, const char *value);

/* The same by the key's name, which may be unknown or one of Kafka's. */
void config_loader_put_named(struct config_loader *loader, const char *origin, size_t line,
                             const char *name, const char *value);

/* Sets a property of Kafka's client library; 'name' is without kafkacache. */
void config_loader_put_property(struct config_loader *loader, const char *origin, size_t line,
                                const char *name, const char *value);

/* Looks at what takes more than one key. Returns the status of all. */
enum status_code config_loader_finish(struct config_loader *loader);

/* Whether the text is UTF-8 without control characters. */
bool config_text_is_clean(const char *text);

#endif
