/* SPDX-License-Identifier: Apache-2.0 */
#include "base/logger.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"

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
	buf_printf(line, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
	           utc.tm_hour, utc.tm_min, utc.tm_sec, (int)(ms % 1000));
}

static void append_json(struct buf *line, const char *text)
{
	buf_append_json(line, text, strlen(text));
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
		append_json(line, field->text);
}

static void append_json_field(struct buf *line, const struct log_field *field)
{
	buf_append_byte(line, ',');
	append_json(line, field->name);
	buf_append_byte(line, ':');
	if (field->text == NULL)
		buf_append_i64(line, field->number);
	else
		append_json(line, field->text);
}

static void format_text(struct buf *line, enum logger_level level, const char *component, const char *message,
                        const struct log_field *fields, unsigned left_out)
{
	append_time(line);
	buf_printf(line, " %-5s %s: %s", NAMES[level], component, message);
	for (; fields->name != NULL; fields++)
		append_text_field(line, fields);
	if (left_out > 0)
		buf_printf(line, " left_out=%u", left_out);
}

static void format_json(struct buf *line, enum logger_level level, const char *component, const char *message,
                        const struct log_field *fields, unsigned left_out)
{
	buf_append_text(line, "{\"time\":\"");
	append_time(line);
	buf_printf(line, "\",\"level\":\"%s\",\"component\":", NAMES[level]);
	append_json(line, component);
	buf_append_text(line, ",\"message\":");
	append_json(line, message);
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
