/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: our own few flags, and etcd's, so that a line made for etcd
 * can be tried here. Each of etcd's either is another name for a key, or has no
 * effect (and the operator is told), or is refused with the reason. For
 * config*.c and their tests only.
 *
 * The grammar is that of Go's flag package: one dash or two; "--flag value" or
 * "--flag=value"; a boolean flag alone is true and takes a value after '=' only.
 */
#ifndef KETA_CONFIG_FLAGS_H
#define KETA_CONFIG_FLAGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

enum config_flag_kind {
	FLAG_CONFIG,   /* ours: a file of properties */
	FLAG_SET,      /* ours: KEY=VALUE */
	FLAG_ACTION,   /* ours: do something other than run; boolean */
	FLAG_KEY,      /* another name for a key */
	FLAG_DURATION, /* the same; the key is in milliseconds, the flag a duration */
	FLAG_ONLY,     /* nothing but a value that changes nothing is taken */
	FLAG_IGNORED,  /* has no effect here */
	FLAG_REFUSED,  /* whatever its value */
};

struct config_flag {
	const char *name; /* without dashes; a '*' at the end stands for anything */
	enum config_flag_kind kind;
	bool is_boolean;
	int action;          /* FLAG_ACTION: enum config_action */
	const char *key;     /* FLAG_KEY, FLAG_DURATION: the key. Ours: what help calls the value */
	const char *allowed; /* FLAG_ONLY: values parted by '|' */
	const char *why;     /* why it is refused or has no effect. Ours: what it does */
};

extern const struct config_flag config_flags[];
extern const size_t config_flag_count;

/* The row of a name without dashes, or NULL. */
const struct config_flag *config_flag_find(const char *name, size_t len);

/* One flag as it stands on the command line. */
struct config_option {
	const struct config_flag *flag;
	const char *name; /* as written, without dashes and value; not ended by NUL */
	size_t name_len;
	const char *value; /* a boolean flag without one has "true" */
};

/* Reads the option at argv[*at] and moves *at behind it; there must be one.
 * STATUS_BAD_REQUEST with a line in 'message' when it is none, is unknown, or
 * lacks its value. */
enum status_code config_option_next(int argc, char **argv, int *at, struct config_option *out,
                                    struct buf *message);

/* Whether FLAG_ONLY takes the value. */
bool config_flag_allows(const struct config_flag *flag, const char *value);

#endif
