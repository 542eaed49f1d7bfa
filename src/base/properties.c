/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In two steps, as Java does it, because the result depends on it: natural
 * lines become logical lines (comments and blank lines dropped, continuations
 * joined), and a logical line is split before its escapes are resolved. All
 * characters with a meaning are ASCII, so the steps work on bytes.
 */
#include "base/properties.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"

struct reader {
	const char *next;
	const char *end;
	size_t line;          /* of 'next' */
	struct buf logical;   /* the logical line, escapes as written */
	size_t logical_start; /* its line */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\f';
}

static bool is_line_end(char c)
{
	return c == '\n' || c == '\r';
}

static void skip_blanks(struct reader *reader)
{
	while (reader->next < reader->end && is_blank(*reader->next))
		reader->next++;
}

/* Steps over one line end: \n, \r or \r\n. */
static void skip_line_end(struct reader *reader)
{
	if (reader->next == reader->end)
		return;
	if (*reader->next == '\r' && reader->next + 1 < reader->end && reader->next[1] == '\n')
		reader->next++;
	reader->next++;
	reader->line++;
}

/* Adds the rest of the natural line; true when its last '\' continues it. */
static bool take_natural_line(struct reader *reader)
{
	const char *start = reader->next;
	bool escaped = false;

	while (reader->next < reader->end && !is_line_end(*reader->next))
		escaped = *reader->next++ == '\\' && !escaped;
	buf_append(&reader->logical, start, (size_t)(reader->next - start) - (escaped ? 1 : 0));
	return escaped;
}

static void skip_natural_line(struct reader *reader)
{
	while (reader->next < reader->end && !is_line_end(*reader->next))
		reader->next++;
	skip_line_end(reader);
}

/* The next logical line; false at the end of the text. Java's two surprises are
 * kept: after a line of nothing but '\' a comment may still follow, and such a
 * line at the end of the text is an entry with an empty key, unless it ends with
 * "\r\n". */
static bool next_logical_line(struct reader *reader)
{
	buf_reset(&reader->logical);
	for (;;) {
		bool goes_on, is_last;

		skip_blanks(reader);
		if (reader->next == reader->end)
			return reader->logical.len > 0;
		if (reader->logical.len == 0) {
			if (is_line_end(*reader->next)) {
				skip_line_end(reader);
				continue;
			}
			if (*reader->next == '#' || *reader->next == '!') {
				skip_natural_line(reader);
				continue;
			}
			reader->logical_start = reader->line;
		}
		goes_on = take_natural_line(reader);
		is_last = reader->end - reader->next <= 1;
		skip_line_end(reader);
		if (!goes_on || is_last)
			return true;
	}
}

/* Where the key ends and the value begins. */
static void split(const char *line, size_t len, size_t *key_len, size_t *value_at)
{
	bool escaped = false;
	bool separated = false;
	size_t at = 0;

	for (; at < len; at++) {
		if (!escaped && (line[at] == '=' || line[at] == ':' || is_blank(line[at])))
			break;
		escaped = line[at] == '\\' && !escaped;
	}
	*key_len = at;
	for (; at < len; at++) {
		if (is_blank(line[at]))
			continue;
		if (separated || (line[at] != '=' && line[at] != ':'))
			break;
		separated = true;
	}
	*value_at = at;
}

/* The unit behind "\u", or -1. */
static int32_t read_unit(const char *text, const char *end)
{
	int32_t unit = 0;

	if (end - text < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = text[i];

		if (c >= '0' && c <= '9')
			unit = unit * 16 + (c - '0');
		else if (c >= 'a' && c <= 'f')
			unit = unit * 16 + (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			unit = unit * 16 + (c - 'A' + 10);
		else
			return -1;
	}
	return unit;
}

static void append_utf8(struct buf *out, uint32_t c)
{
	if (c < 0x80) {
		buf_append_byte(out, (uint8_t)c);
		return;
	}
	if (c < 0x800) {
		buf_append_byte(out, (uint8_t)(0xc0 | c >> 6));
	} else if (c < 0x10000) {
		buf_append_byte(out, (uint8_t)(0xe0 | c >> 12));
		buf_append_byte(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
	} else {
		buf_append_byte(out, (uint8_t)(0xf0 | c >> 18));
		buf_append_byte(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
		buf_append_byte(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
	}
	buf_append_byte(out, (uint8_t)(0x80 | (c & 0x3f)));
}

/* Resolves the escape whose 'u' is at *at, and moves past it. Java's strings are
 * UTF-16, so what lies above U+FFFF comes as two of them. Returns what is wrong,
 * or NULL. */
static const char *resolve_unicode(const char **at, const char *end, struct buf *out)
{
	int32_t unit = read_unit(*at + 1, end);
	int32_t low;

	if (unit < 0)
		return "\\u must be followed by four hexadecimal digits";
	*at += 5;
	if (unit < 0xd800 || unit > 0xdfff) {
		append_utf8(out, (uint32_t)unit);
		return NULL;
	}
	low = end - *at >= 2 && (*at)[0] == '\\' && (*at)[1] == 'u' ? read_unit(*at + 2, end) : -1;
	if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff)
		return "a \\uD800 to \\uDFFF stands alone; these come in pairs";
	*at += 6;
	append_utf8(out, 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
	return NULL;
}

/* Appends the text with its escapes resolved. Returns what is wrong, or NULL. */
static const char *resolve(const char *text, size_t len, struct buf *out)
{
	const char *end = text + len;
	const char *error = NULL;

	while (text < end && error == NULL) {
		if (*text != '\\' || text + 1 == end) {
			buf_append_byte(out, (uint8_t)*text++);
			continue;
		}
		text++;
		switch (*text) {
		case 'u':
			error = resolve_unicode(&text, end, out);
			continue;
		case 't':
			buf_append_byte(out, '\t');
			break;
		case 'n':
			buf_append_byte(out, '\n');
			break;
		case 'r':
			buf_append_byte(out, '\r');
			break;
		case 'f':
			buf_append_byte(out, '\f');
			break;
		default:
			buf_append_byte(out, (uint8_t)*text);
		}
		text++;
	}
	return error;
}

/* Reports the logical line; both texts are built one after the other in 'texts'. */
static enum status_code report(const struct reader *reader, struct buf *texts, property_fn *fn, void *arg,
                               struct properties_error *error)
{
	const char *line = reader->logical.len > 0 ? (const char *)reader->logical.data : "";
	size_t len = reader->logical.len;
	size_t key_len, value_at, key_end;
	const char *wrong;

	buf_reset(texts);
	split(line, len, &key_len, &value_at);
	wrong = resolve(line, key_len, texts);
	key_end = texts->len;
	buf_append_byte(texts, '\0');
	if (wrong == NULL)
		wrong = resolve(line + value_at, len - value_at, texts);
	buf_append_byte(texts, '\0');
	if (wrong != NULL) {
		*error = (struct properties_error){.line = reader->logical_start, .text = wrong};
		return STATUS_BAD_CONFIG;
	}
	if (texts->failed || reader->logical.failed)
		return STATUS_NO_MEMORY;
	return fn(arg, &(struct property){
			       .key = (const char *)texts->data,
			       .key_len = key_end,
			       .value = (const char *)texts->data + key_end + 1,
			       .value_len = texts->len - key_end - 2,
			       .line = reader->logical_start,
		       });
}

/* The line of the first byte that is not UTF-8, or 0. */
static size_t find_bad_line(const char *text, size_t len)
{
	struct reader reader = {.next = text, .end = text + len, .line = 1};

	while (reader.next < reader.end) {
		size_t length =
			utf8_sequence((const uint8_t *)reader.next, (size_t)(reader.end - reader.next));

		if (length == 0)
			return reader.line;
		if (is_line_end(*reader.next))
			skip_line_end(&reader);
		else
			reader.next += length;
	}
	return 0;
}

enum status_code properties_parse(const char *text, size_t len, property_fn *fn, void *arg,
                                  struct properties_error *error)
{
	static const char MARK[] = "\xef\xbb\xbf"; /* U+FEFF, which some editors begin a UTF-8 file with */
	struct reader reader = {.line = 1};
	enum status_code status = STATUS_OK;
	size_t bad_line;
	struct buf texts;

	if (len == 0)
		return STATUS_OK; /* 'text' may be NULL */
	reader.end = text + len;
	reader.next = len >= sizeof MARK - 1 && memcmp(text, MARK, sizeof MARK - 1) == 0
	                      ? text + sizeof MARK - 1
	                      : text;
	bad_line = find_bad_line(text, len);
	if (bad_line > 0) {
		*error = (struct properties_error){.line = bad_line, .text = "the text is not UTF-8"};
		return STATUS_BAD_CONFIG;
	}
	buf_init(&reader.logical);
	buf_init(&texts);
	while (status == STATUS_OK && next_logical_line(&reader))
		status = report(&reader, &texts, fn, arg, error);
	if (status == STATUS_OK && reader.logical.failed)
		status = STATUS_NO_MEMORY;
	buf_release(&reader.logical);
	buf_release(&texts);
	return status;
}
