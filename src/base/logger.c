/* SPDX-License-Identifier: Apache-2.0 */
#include "base/logger.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/utf8.h"

enum { LINES_PER_SECOND = 10 };

static _Atomic int threshold = LOGGER_INFO;
static _Atomic int chosen = LOGGER_AUTO;

static const char *const NAMES[] = {"debug", "info", "warn", "error"};

void logger_init(enum logger_level level, enum logger_format format)
{
	atomic_store(&threshold, level);
	atomic_store(&chosen, format);
}

void logger_set_level(enum logger_level level)
{
	atomic_store(&threshold, level);
}

bool logger_is_on(enum logger_level level)
{
	return (int)level >= atomic_load_explicit(&threshold, memory_order_relaxed);
}

/* Counts the line; false when the site has had its share of this second. Two
 * threads at the turn of a second may let one line more through. */
static bool admit(struct logger_site *site, unsigned *left_out)
{
	int64_t second = clock_ms() / 1000;

	if (atomic_exchange(&site->second, second) != second)
		atomic_store(&site->lines, 0);
	if (atomic_fetch_add(&site->lines, 1) >= LINES_PER_SECOND) {
		atomic_fetch_add(&site->left_out, 1);
		return false;
	}
	*left_out = atomic_exchange(&site->left_out, 0);
	return true;
}

static void append_time(struct buf *line)
{
	int64_t ms = clock_wall_ms();
	time_t seconds = (time_t)(ms / 1000);
	struct tm utc;

	gmtime_r(&seconds, &utc);
	buf_printf(line, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1,
	           utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, (int)(ms % 1000));
}

/* The code of a character of 'len' bytes. */
static uint32_t decode(const uint8_t *text, size_t len)
{
	static const uint8_t FIRST_BITS[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	uint32_t code = text[0] & FIRST_BITS[len];

	for (size_t i = 1; i < len; i++)
		code = code << 6 | (text[i] & 0x3f);
	return code;
}

/* What a terminal or a viewer obeys instead of showing it: the controls (U+009B
 * begins a terminal's commands as ESC [ does), ends of lines, and marks that
 * turn the direction of the text around them. */
static bool is_command(uint32_t code)
{
	return code < ' ' || (code >= 0x7f && code <= 0x9f) || code == 0x61c ||
	       (code >= 0x200e && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2066 && code <= 0x2069);
}

static void append_character(struct buf *line, const uint8_t *text, size_t len)
{
	uint32_t code = decode(text, len);

	if (code == '"' || code == '\\')
		buf_append_byte(line, '\\');
	if (code == '\n')
		buf_append_text(line, "\\n");
	else if (is_command(code))
		buf_printf(line, "\\u%04x", (unsigned)code);
	else
		buf_append(line, text, len);
}

/* A JSON string, for both formats. It escapes more than an answer to a client
 * does (buf_append_json), for it may be shown at a terminal. */
static void append_quoted(struct buf *line, const char *text)
{
	const uint8_t *at = (const uint8_t *)text;
	size_t left = strlen(text);

	buf_append_byte(line, '"');
	while (left > 0) {
		size_t len = utf8_sequence(at, left);

		if (len > 0) {
			append_character(line, at, len);
		} else {
			buf_append_text(line, "\xef\xbf\xbd");
			len = 1;
		}
		at += len;
		left -= len;
	}
	buf_append_byte(line, '"');
}

static bool is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text <= ' ' || *text == '"' || *text == '\\' || *text == '=' || *text >= 0x7f)
			return false;
	return true;
}

static void append_text_field(struct buf *line, const struct log_field *field)
{
	buf_printf(line, " %s=", field->name);
	if (field->text == NULL)
		buf_append_i64(line, field->number);
	else if (field->text[0] != '\0' && is_plain(field->text))
		buf_append_text(line, field->text);
	else
		append_quoted(line, field->text);
}

static void append_json_field(struct buf *line, const struct log_field *field)
{
	buf_append_byte(line, ',');
	append_quoted(line, field->name);
	buf_append_byte(line, ':');
	if (field->text == NULL)
		buf_append_i64(line, field->number);
	else
		append_quoted(line, field->text);
}

static void format_text(struct buf *line, enum logger_level level, const char *component,
                        const char *message, const struct log_field *fields, unsigned left_out)
{
	append_time(line);
	buf_printf(line, " %-5s %s: %s", NAMES[level], component, message);
	for (; fields->name != NULL; fields++)
		append_text_field(line, fields);
	if (left_out > 0)
		buf_printf(line, " left_out=%u", left_out);
}

static void format_json(struct buf *line, enum logger_level level, const char *component,
                        const char *message, const struct log_field *fields, unsigned left_out)
{
	buf_append_text(line, "{\"time\":\"");
	append_time(line);
	buf_printf(line, "\",\"level\":\"%s\",\"component\":", NAMES[level]);
	append_quoted(line, component);
	buf_append_text(line, ",\"message\":");
	append_quoted(line, message);
	for (; fields->name != NULL; fields++)
		append_json_field(line, fields);
	if (left_out > 0)
		buf_printf(line, ",\"left_out\":%u", left_out);
	buf_append_byte(line, '}');
}

static bool is_text(void)
{
	int format = atomic_load_explicit(&chosen, memory_order_relaxed);

	return format == LOGGER_TEXT || (format == LOGGER_AUTO && isatty(STDERR_FILENO));
}

void logger_write(enum logger_level level, struct logger_site *site, const char *component,
                  const char *message, const struct log_field *fields)
{
	int saved = errno;
	unsigned left_out;
	struct buf line;
	ssize_t written;

	if (!admit(site, &left_out))
		return;
	buf_init(&line);
	if (is_text())
		format_text(&line, level, component, message, fields, left_out);
	else
		format_json(&line, level, component, message, fields, left_out);
	buf_append_byte(&line, '\n');
	/* Nobody could be told of a failure to log. */
	written = line.failed ? 0 : write(STDERR_FILENO, line.data, line.len);
	(void)written;
	buf_release(&line);
	errno = saved;
}
