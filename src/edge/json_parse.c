/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/json_parse.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "edge/json_shorten.h"

enum {
	/* What jansson allocates at most for each '{', '[', ',' or ':' of a text,
	 * over all: an object with its first buckets 208 bytes, an entry with its
	 * share of larger bucket arrays 224. */
	MARK_BYTES = 256,
	/* The same for each byte: a token grows by doubling and is copied, the
	 * name of a field twice; and there is the shortened text. */
	TEXT_BYTES = 8,
	BASE_BYTES = 512,
	/* A put inside a transaction has seven: enough for 30,000 of them. */
	MARKS_MAX = 1 << 18,
};

/* Where this thread's parser takes its memory from; NULL outside of a parse. */
static _Thread_local struct arena *parser_memory;

static void *parser_alloc(size_t size)
{
	return parser_memory != NULL ? arena_alloc(parser_memory, size) : malloc(size);
}

static void parser_free(void *object)
{
	if (parser_memory == NULL)
		free(object);
}

static void set_up(void)
{
	json_set_alloc_funcs(parser_alloc, parser_free);
}

static size_t count_marks(const char *text, size_t len)
{
	size_t count = 0;

	for (size_t i = 0; i < len; i++) {
		count += text[i] == ',' || text[i] == ':' || (text[i] | 0x20) == '{';
		if (text[i] == '"')
			i = json_string_end(text, i + 1, len);
	}
	return count;
}

/* Memory for the tree of a text with so many marks, and for a copy of it. */
static enum status_code reserve(struct json_tree *tree, size_t marks, size_t len)
{
	size_t need = marks * MARK_BYTES + BASE_BYTES;

	if (len > (SIZE_MAX - need) / TEXT_BYTES)
		return STATUS_NO_MEMORY;
	need += len * TEXT_BYTES;
	tree->reserved = NULL;
	if (need <= sizeof tree->block) {
		arena_init(&tree->memory, SIZE_MAX, tree->block, sizeof tree->block);
		return STATUS_OK;
	}
	tree->reserved = malloc(need);
	if (tree->reserved == NULL)
		return STATUS_NO_MEMORY;
	arena_init(&tree->memory, SIZE_MAX, tree->reserved, need);
	return STATUS_OK;
}

/* jansson's words, as far as they are fixed, and ours. */
static const struct {
	const char *theirs;
	const char *ours;
} WORDS[] = {
	{"string or '}' expected", "expected a field name in double quotes, or '}'"},
	{"':' expected", "expected ':' after the name of a field"},
	{"'}' expected", "expected ',' or '}' after the value of a field"},
	{"']' expected", "expected ',' or ']' after an item of a list"},
	{"unexpected token", "expected a value"},
	{"invalid token", "expected a value (text goes in double quotes)"},
	{"control character", "control characters in a string must be escaped"},
	{"unexpected newline", "a line break in a string must be escaped"},
	{"premature end of input", "the string is not closed"},
	{"invalid escape", "no such escape sequence"},
	{"invalid Unicode", "half of a surrogate pair"},
	{"unable to decode", "not valid UTF-8"},
	{"too big", "this integer needs quotes: beyond 63 bits it must be in a string"},
	{"real number overflow", "this number is too large"},
	{"duplicate object key", "this field is given twice"},
	{"NUL byte in object key", "a field name must not hold U+0000"},
	{"maximum parsing depth", "values are nested too deeply"},
};

static const char *describe(const char *text)
{
	for (size_t i = 0; i < sizeof WORDS / sizeof WORDS[0]; i++) {
		if (strncmp(text, WORDS[i].theirs, strlen(WORDS[i].theirs)) == 0)
			return WORDS[i].ours;
	}
	return "not valid JSON";
}

/* What the parser had read when it gave up: "near 'x'", or nothing. */
static const char *find_place(const char *text)
{
	const char *near = strstr(text, " near ");

	if (near == NULL)
		return "";
	return strcmp(near, " near end of file") == 0 ? ", but the body ends here" : near;
}

static enum status_code explain(const json_error_t *error, struct arena *arena, const char **message)
{
	*message = arena_printf(arena, "the body is not valid JSON: line %d, column %d: %s%s", error->line,
	                        error->column, describe(error->text), find_place(error->text));
	return *message == NULL ? STATUS_NO_MEMORY : STATUS_BAD_REQUEST;
}

static void parse(struct json_tree *tree, const char *text, size_t len, json_error_t *error)
{
	parser_memory = &tree->memory;
	tree->root = json_loadb(
		text, len,
		JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, error);
	parser_memory = NULL;
}

static void parse_shortened(struct json_tree *tree, const char *text, size_t len, json_error_t *error)
{
	char *copy = arena_alloc(&tree->memory, len);
	size_t copy_len = copy != NULL ? json_shorten(text, len, copy) : 0;

	if (copy_len == 0)
		return;
	parse(tree, copy, copy_len, error);
	if (tree->root != NULL)
		tree->text = text;
}

enum status_code json_parse(const char *text, size_t len, struct arena *arena, struct json_tree *tree,
                            const char **message)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t marks = count_marks(text, len);
	json_error_t error;
	enum status_code status;

	pthread_once(&once, set_up);
	if (marks > MARKS_MAX) {
		*message = "the body holds too many values";
		return STATUS_BAD_REQUEST;
	}
	status = reserve(tree, marks, len);
	if (status != STATUS_OK)
		return status;
	tree->root = NULL;
	tree->text = NULL;
	if (len >= JSON_CUT_BYTES_MIN)
		parse_shortened(tree, text, len, &error);
	/* What is refused when shortened is parsed again as it is, for the sake of
	 * the column that the client knows. */
	if (tree->root == NULL) {
		arena_reset(&tree->memory);
		parse(tree, text, len, &error);
	}
	if (tree->root != NULL)
		return STATUS_OK;
	json_tree_release(tree);
	return explain(&error, arena, message);
}

const char *json_tree_string(const struct json_tree *tree, const json_t *json, size_t *len)
{
	const char *string = json_string_value(json);

	*len = json_string_length(json);
	if (tree->text != NULL)
		json_restore(tree->text, &string, len);
	return string;
}

void json_tree_release(struct json_tree *tree)
{
	arena_release(&tree->memory);
	free(tree->reserved);
}
