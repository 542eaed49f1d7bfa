/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config_value.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_table.h"
#include "base/config_url.h"
#include "base/duration.h"

enum { HOUR_MS = 3600 * 1000 };

/* Kafka's names of topics end at 249 bytes; what follows the prefix is shorter than 49. */
enum { MAX_TOPIC_BYTES = 200 };

#define TOPIC_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static enum status_code refuse(struct buf *reason, const char *text)
{
	buf_append_text(reason, text);
	return STATUS_BAD_CONFIG;
}

static enum status_code store_text(struct arena *arena, const char *text, void *field)
{
	char *copy = arena_strdup(arena, text);

	if (copy == NULL)
		return STATUS_NO_MEMORY;
	*(const char **)field = copy;
	return STATUS_OK;
}

static enum status_code parse_any(const struct config_key *key, const char *text, struct arena *arena,
                                  void *field, struct buf *reason)
{
	(void)key;
	(void)reason;
	return store_text(arena, text, field);
}

static enum status_code parse_text(const struct config_key *key, const char *text, struct arena *arena,
                                   void *field, struct buf *reason)
{
	(void)key;
	if (*text == '\0')
		return refuse(reason, "must not be empty");
	return store_text(arena, text, field);
}

/* Checks one element of a list; NULL, or what it must be. */
typedef const char *element_fn(const char *text, size_t len);

/* Copies the list without blanks around its elements. */
static enum status_code parse_elements(const char *text, element_fn *check, struct arena *arena,
                                       void *field, struct buf *reason)
{
	char *list = arena_alloc(arena, strlen(text) + 1);
	char *end = list;

	if (list == NULL)
		return STATUS_NO_MEMORY;
	while (*text != '\0') {
		const char *element = text + strspn(text, " ");
		size_t len = strcspn(element, ",");
		const char *wrong;

		text = element + len;
		while (len > 0 && element[len - 1] == ' ')
			len--;
		wrong = len == 0 ? "must be a list without empty elements" : check(element, len);
		if (wrong != NULL || (*text == ',' && text[1] == '\0'))
			return refuse(reason, wrong != NULL ? wrong : "must not end with a comma");
		memcpy(end, element, len);
		end += len;
		if (*text == ',') {
			*end++ = ',';
			text++;
		}
	}
	*end = '\0';
	*(const char **)field = list;
	return STATUS_OK;
}

static const char *check_name(const char *text, size_t len)
{
	return memchr(text, ' ', len) == NULL ? NULL : "must be names parted by commas";
}

static enum status_code parse_list(const struct config_key *key, const char *text, struct arena *arena,
                                   void *field, struct buf *reason)
{
	(void)key;
	return parse_elements(text, check_name, arena, field, reason);
}

static enum status_code parse_origins(const struct config_key *key, const char *text, struct arena *arena,
                                      void *field, struct buf *reason)
{
	(void)key;
	return parse_elements(text, config_check_origin, arena, field, reason);
}

static enum status_code parse_urls(const struct config_key *key, const char *text, struct arena *arena,
                                   void *field, struct buf *reason)
{
	(void)key;
	return parse_elements(text, config_check_url, arena, field, reason);
}

static enum status_code parse_listeners(const struct config_key *key, const char *text, struct arena *arena,
                                        void *field, struct buf *reason)
{
	(void)key;
	if (*text == '\0')
		return refuse(reason, "must not be empty");
	return parse_elements(text, config_check_listener, arena, field, reason);
}

bool config_parse_flag(const char *text, bool *out)
{
	static const char *const WORDS[2][6] = {
		{"0", "f", "F", "false", "False", "FALSE"},
		{"1", "t", "T", "true", "True", "TRUE"},
	};

	for (int value = 0; value < 2; value++) {
		for (size_t i = 0; i < 6; i++) {
			if (strcmp(text, WORDS[value][i]) == 0) {
				*out = value == 1;
				return true;
			}
		}
	}
	return false;
}

static enum status_code parse_flag(const struct config_key *key, const char *text, struct arena *arena,
                                   void *field, struct buf *reason)
{
	(void)key;
	(void)arena;
	return config_parse_flag(text, field) ? STATUS_OK : refuse(reason, "must be true or false");
}

/* A number and where it ends; NULL when there is none or it does not fit. */
static const char *read_number(const char *text, int64_t *out)
{
	const char *digits = text + (*text == '-' || *text == '+');
	char *end;

	if (!isdigit((unsigned char)*digits))
		return NULL;
	errno = 0;
	*out = strtoll(text, &end, 10);
	return errno == 0 ? end : NULL;
}

static enum status_code store_number(const struct config_key *key, int64_t number, void *field,
                                     struct buf *reason)
{
	if (number < key->min || number > key->max) {
		buf_printf(reason, "must be from %lld to %lld", (long long)key->min, (long long)key->max);
		return STATUS_BAD_CONFIG;
	}
	*(int64_t *)field = number;
	return STATUS_OK;
}

static enum status_code parse_number(const struct config_key *key, const char *text, struct arena *arena,
                                     void *field, struct buf *reason)
{
	int64_t number;
	const char *end = read_number(text, &number);

	(void)arena;
	if (end == NULL || *end != '\0')
		return refuse(reason, "must be a whole number");
	return store_number(key, number, field, reason);
}

static enum status_code parse_size(const struct config_key *key, const char *text, struct arena *arena,
                                   void *field, struct buf *reason)
{
	static const char *const SUFFIXES[] = {"", "KiB", "MiB", "GiB"};
	int64_t number;
	const char *end = read_number(text, &number);

	(void)arena;
	if (end != NULL) {
		end += strspn(end, " ");
		for (size_t i = 0; i < 4; i++) {
			if (strcmp(end, SUFFIXES[i]) != 0)
				continue;
			if (__builtin_mul_overflow(number, (int64_t)1 << (10 * i), &number))
				break;
			return store_number(key, number, field, reason);
		}
	}
	return refuse(reason, "must be a number of bytes, or of KiB, MiB or GiB such as 64MiB");
}

static enum status_code refuse_choice(const struct config_key *key, struct buf *reason)
{
	buf_append_text(reason, "must be one of");
	for (const struct config_choice *choice = key->choices; choice->text != NULL; choice++)
		buf_printf(reason, "%s %s", choice == key->choices ? "" : ",", choice->text);
	return STATUS_BAD_CONFIG;
}

static enum status_code parse_choice(const struct config_key *key, const char *text, struct arena *arena,
                                     void *field, struct buf *reason)
{
	(void)arena;
	for (const struct config_choice *choice = key->choices; choice->text != NULL; choice++) {
		if (strcmp(text, choice->text) == 0) {
			/* All enums of struct config have this size: config_table.c asserts it. */
			memcpy(field, &choice->value, sizeof choice->value);
			return STATUS_OK;
		}
	}
	return refuse_choice(key, reason);
}

static enum status_code parse_fixed(const struct config_key *key, const char *text, struct arena *arena,
                                    void *field, struct buf *reason)
{
	(void)arena;
	(void)field;
	for (const struct config_choice *choice = key->choices; choice->text != NULL; choice++)
		if (strcmp(text, choice->text) == 0)
			return STATUS_OK;
	return refuse(reason, key->why);
}

static enum status_code parse_topic(const struct config_key *key, const char *text, struct arena *arena,
                                    void *field, struct buf *reason)
{
	const size_t len = strlen(text);

	(void)key;
	if (len == 0 || len > MAX_TOPIC_BYTES || strspn(text, TOPIC_CHARS) != len)
		return refuse(reason, "must be one to 200 of the characters that a topic's name may have: "
		                      "letters, digits, '.', '_' and '-'");
	return store_text(arena, text, field);
}

static enum status_code parse_unused(const struct config_key *key, const char *text, struct arena *arena,
                                     void *field, struct buf *reason)
{
	(void)key;
	(void)text;
	(void)arena;
	(void)field;
	(void)reason;
	return STATUS_OK;
}

bool config_parse_retention(const char *text, bool periodic, int64_t *out)
{
	const char *end = read_number(text, out);

	if (end != NULL && *end == '\0') {
		if (*out < 0)
			return false;
		return !periodic || !__builtin_mul_overflow(*out, (int64_t)HOUR_MS, out);
	}
	return periodic && duration_parse(text, out);
}

static enum status_code parse_retention(const struct config_key *key, const char *text, struct arena *arena,
                                        void *field, struct buf *reason)
{
	(void)key;
	(void)arena;
	if (config_parse_retention(text, true, field) || config_parse_retention(text, false, field))
		return STATUS_OK;
	return refuse(reason, "must be a number, or a duration such as 5m or 1h30m");
}

const struct config_type config_type_text = {"text", parse_text};
const struct config_type config_type_any = {"text", parse_any};
const struct config_type config_type_list = {"list", parse_list};
const struct config_type config_type_origins = {"list", parse_origins};
const struct config_type config_type_listeners = {"URLs", parse_listeners};
const struct config_type config_type_urls = {"URLs", parse_urls};
const struct config_type config_type_flag = {"true or false", parse_flag};
const struct config_type config_type_number = {"number", parse_number};
const struct config_type config_type_size = {"size", parse_size};
const struct config_type config_type_choice = {"choice", parse_choice};
const struct config_type config_type_retention = {"number or duration", parse_retention};
const struct config_type config_type_fixed = {"fixed", parse_fixed};
const struct config_type config_type_topic = {"text", parse_topic};
const struct config_type config_type_unused = {"any", parse_unused};
