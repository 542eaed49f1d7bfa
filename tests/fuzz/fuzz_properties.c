/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a file of properties. What is read is UTF-8, lines only grow,
 * and written out with every character escaped it is read the same again.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/properties.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
	struct buf plain;   /* what came, each text with its length */
	struct buf escaped; /* the same as a file */
	size_t line;
};

/* A '\' makes any character stand for itself, but for those that are names of
 * others and for line ends. */
static void escape(struct buf *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n' || text[i] == '\r' || strchr("tnrfu", text[i]) != NULL)
			buf_printf(out, "\\u%04x", (unsigned)(unsigned char)text[i]);
		else if ((unsigned char)text[i] < 0x80)
			buf_printf(out, "\\%c", text[i]);
		else
			buf_append_byte(out, (uint8_t)text[i]);
	}
}

static void note(struct buf *out, const char *text, size_t len)
{
	if (!utf8_is_valid((const uint8_t *)text, len) || text[len] != '\0')
		abort();
	buf_append_u64(out, len);
	buf_append_byte(out, ':');
	buf_append(out, text, len);
}

static enum status_code keep(void *arg, const struct property *property)
{
	struct reading *reading = arg;

	if (property->line <= reading->line)
		abort();
	reading->line = property->line;
	note(&reading->plain, property->key, property->key_len);
	note(&reading->plain, property->value, property->value_len);
	escape(&reading->escaped, property->key, property->key_len);
	buf_append_byte(&reading->escaped, '=');
	escape(&reading->escaped, property->value, property->value_len);
	buf_append_byte(&reading->escaped, '\n');
	return STATUS_OK;
}

static enum status_code read_bytes(const uint8_t *data, size_t size, struct reading *reading)
{
	struct properties_error error = {0};
	enum status_code status;

	*reading = (struct reading){.line = 0};
	/* A byte order mark that begins a key must not begin the file, where it is skipped. */
	buf_append_byte(&reading->escaped, '\n');
	status = properties_parse((const char *)data, size, keep, reading, &error);
	if (status != STATUS_OK && (status != STATUS_BAD_CONFIG || error.line == 0 || error.text == NULL))
		abort();
	return status;
}

static void release(struct reading *reading)
{
	buf_release(&reading->plain);
	buf_release(&reading->escaped);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reading first, second;

	if (read_bytes(data, size, &first) == STATUS_OK) {
		if (read_bytes(first.escaped.data, first.escaped.len, &second) != STATUS_OK ||
		    first.plain.len != second.plain.len ||
		    (first.plain.len > 0 &&
		     memcmp(first.plain.data, second.plain.data, first.plain.len) != 0))
			abort();
		release(&second);
	}
	release(&first);
	return 0;
}
