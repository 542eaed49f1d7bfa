/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON text to jansson's tree, with the memory set aside beforehand.
 *
 * jansson allocates every value by itself, and does not survive an allocation
 * that fails in the middle of a string. So all that a text can need is
 * reserved before it is parsed: from the tree's own block for small texts, in
 * one piece for others. That is faster, nothing can fail half way, and a text
 * that asks for far more memory than it is long is refused before it gets it.
 *
 * Long strings do not go through jansson at all (edge/json_shorten.h): read a
 * string with json_tree_string only.
 *
 * This is the only place that parses JSON. The tree is read-only, and it is
 * released by freeing its memory, not value by value.
 */
#ifndef KETA_JSON_PARSE_H
#define KETA_JSON_PARSE_H

#include <stdalign.h>
#include <stddef.h>

#include <jansson.h>

#include "base/arena.h"
#include "base/status.h"

enum { JSON_TREE_BLOCK_BYTES = 8192 };

struct json_tree {
	const json_t *root; /* never unreferenced: it lives in the memory below */
	const char *text;   /* where the strings are that were cut out of it; NULL: none */
	struct arena memory;
	void *reserved; /* for a text that the block is too small for */
	alignas(16) unsigned char block[JSON_TREE_BLOCK_BYTES];
};

/* Parses the first JSON value of the text, which must outlive the tree. STATUS_NO_MEMORY, or
 * STATUS_BAD_REQUEST with *message, made in 'arena'. After anything but
 * STATUS_OK there is nothing to release. */
enum status_code json_parse(const char *text, size_t len, struct arena *arena, struct json_tree *tree,
                            const char **message);

/* A string of the tree. Not terminated by NUL, and valid as long as both the
 * tree and the text it was parsed from. */
const char *json_tree_string(const struct json_tree *tree, const json_t *json, size_t *len);

void json_tree_release(struct json_tree *tree);

#endif
