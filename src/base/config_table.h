/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every key of the configuration, once: its type, its default, where it is
 * stored, and what is printed about it. For config*.c and their tests only.
 */
#ifndef KETA_CONFIG_TABLE_H
#define KETA_CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config_value.h"

/* Why what is not built yet refuses the start instead of being passed over. */
#define CONFIG_NO_TLS                                                                                      \
	"asks for TLS, which is not built into this version yet; there is no falling back to plain text"
#define CONFIG_NO_JWT                                                                                      \
	"asks for signed tokens, which are not built into this version yet; token.type must be simple"

/* With these begin the keys of the original's cache library, ours that have its
 * names, and the properties of Kafka's client. */
#define CONFIG_KAFKA_PREFIX "kafkacache."
#define CONFIG_KAFKA_SERVERS "kafkacache.bootstrap.servers"
#define CONFIG_VARIABLE_PREFIX "KETA_"
#define CONFIG_KAFKA_VARIABLE_PREFIX CONFIG_VARIABLE_PREFIX "KAFKACACHE_"

enum { CONFIG_KEY_COUNT = 77 };

enum config_section {
	SECTION_NODE,
	SECTION_CLIENTS,
	SECTION_LIMITS,
	SECTION_HISTORY,
	SECTION_AUTH,
	SECTION_LOG,
	SECTION_CLUSTER,
	SECTION_KAFKA,
	SECTION_UNUSED, /* keys of the original's that mean nothing here; taken, and that is said */
	SECTION_LATER,  /* known keys whose feature is not built; only the default is taken */
	SECTION_COUNT,
};

struct config_choice {
	const char *text; /* NULL ends the list */
	int value;
};

struct config_key {
	enum config_section section;
	const char *name; /* unused: a '*' at the end stands for anything */
	const struct config_type *type;
	const char *initial; /* the default, as it would be written */
	size_t offset;       /* of the field in struct config */
	const char *help;    /* one sentence */
	int64_t min, max;    /* numbers and sizes */
	const struct config_choice *choices;
	const char *why;    /* fixed: why nothing else is taken; unused: what it asks for */
	const char *sample; /* set in the sample file to this; NULL: its default, commented out */
	bool secret;        /* a password: never printed */
};

extern const struct config_key config_keys[CONFIG_KEY_COUNT];

const char *config_section_title(enum config_section section);

/* The row, or NULL. */
const struct config_key *config_key_find(const char *name);

/* The same by the name of its variable, KETA_ and all. */
const struct config_key *config_key_find_variable(const char *variable);

/* The row whose name, or whose variable's, a person who wrote this may have
 * meant; NULL when none is near. */
const struct config_key *config_key_nearest(const char *name);
const struct config_key *config_key_nearest_variable(const char *variable);

/* Appends the name of the key's variable. */
void config_key_variable(const struct config_key *key, struct buf *out);

/* The smallest number of characters to insert, remove or replace that makes one
 * text the other. Texts above 64 bytes are infinitely far from any. */
size_t config_distance(const char *a, const char *b);

/* Whether that is close enough to ask "did you mean". */
bool config_is_near(size_t distance, const char *name);

#endif
