/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a value, checked and stored: a function per type. Each returns
 * STATUS_OK, STATUS_NO_MEMORY, or STATUS_BAD_CONFIG with the reason appended to
 * 'reason' ("must be ..."); a reason never quotes the value.
 */
#ifndef KETA_CONFIG_VALUE_H
#define KETA_CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"

struct config_key;

/* Reads 'text', without blanks around it, as the key's row says, and stores it
 * in 'field'; texts are copied to the arena. */
typedef enum status_code config_parse_fn(const struct config_key *key, const char *text,
                                         struct arena *arena, void *field, struct buf *reason);

struct config_type {
	const char *name; /* for people */
	config_parse_fn *parse;
};

extern const struct config_type config_type_text;      /* const char *, not empty */
extern const struct config_type config_type_any;       /* const char *, may be empty */
extern const struct config_type config_type_list;      /* const char *, blanks around commas removed */
extern const struct config_type config_type_origins;   /* the same; origins or '*' */
extern const struct config_type config_type_listeners; /* the same; http URLs, at least one */
extern const struct config_type config_type_urls;      /* the same; http and https URLs, or none */
extern const struct config_type config_type_flag;      /* bool */
extern const struct config_type config_type_number;    /* int64_t from min to max */
extern const struct config_type config_type_size;      /* the same, with KiB, MiB or GiB */
extern const struct config_type config_type_choice;    /* an enum, by the key's choices */
extern const struct config_type config_type_retention; /* int64_t, checked later: see below */
extern const struct config_type config_type_fixed;     /* nothing stored: one of the key's choices */
extern const struct config_type config_type_topic;     /* const char *, part of a Kafka topic's name */
extern const struct config_type config_type_unused;    /* nothing stored: anything */

/* As Go's flag package reads a boolean. */
bool config_parse_flag(const char *text, bool *out);

/* How long history is kept: in periodic mode a duration, or a bare number of
 * hours; otherwise a number of revisions. Which it is is known only when
 * everything has been read. */
bool config_parse_retention(const char *text, bool periodic, int64_t *out);

#endif
