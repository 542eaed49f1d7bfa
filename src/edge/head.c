/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the headers. The names that matter are a table; a name is
 * compared only with those of its length.
 */
#include "edge/head.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

/* What a header's second appearance means. */
enum repeat {
	REPEAT_FIRST, /* nothing: the first one counts */
	REPEAT_SAME,  /* malformed, unless it says the same */
	REPEAT_NEVER, /* malformed */
};

struct known_header {
	const char *name;
	size_t len;
	size_t offset; /* of its struct header in struct head */
	enum repeat repeat;
};

#define KNOWN(name, field, repeat)                                                                         \
	{                                                                                                  \
		name, sizeof name - 1, offsetof(struct head, field), repeat                                \
	}
static const struct known_header KNOWN_HEADERS[] = {
	KNOWN("Host", host, REPEAT_NEVER),
	KNOWN("Origin", origin, REPEAT_FIRST),
	KNOWN("Authorization", authorization, REPEAT_FIRST),
	KNOWN("Grpc-Metadata-Token", token, REPEAT_FIRST),
	KNOWN("Grpc-Timeout", timeout, REPEAT_FIRST),
	KNOWN("X-HTTP-Method-Override", method_override, REPEAT_FIRST),
	KNOWN("Content-Type", content_type, REPEAT_FIRST),
	KNOWN("Content-Length", content_length, REPEAT_SAME),
	KNOWN("Transfer-Encoding", transfer_encoding, REPEAT_NEVER),
	KNOWN("Expect", expect, REPEAT_FIRST),
	KNOWN("Upgrade", upgrade, REPEAT_FIRST),
};
#undef KNOWN

enum { KNOWN_COUNT = sizeof KNOWN_HEADERS / sizeof KNOWN_HEADERS[0] };

/* What may stand in a token (RFC 9110, 5.6.2) and in a Host (RFC 3986, 3.2.2, as
 * etcd's server takes it). Letters and digits may in both. */
enum { CHAR_TOKEN = 1, CHAR_HOST = 2, CHAR_BOTH = CHAR_TOKEN | CHAR_HOST };

static const uint8_t CHAR_CLASS[256] = {
	['0' ... '9'] = CHAR_BOTH, ['A' ... 'Z'] = CHAR_BOTH, ['a' ... 'z'] = CHAR_BOTH, ['!'] = CHAR_BOTH,
	['$'] = CHAR_BOTH,         ['%'] = CHAR_BOTH,         ['&'] = CHAR_BOTH,         ['\''] = CHAR_BOTH,
	['*'] = CHAR_BOTH,         ['+'] = CHAR_BOTH,         ['-'] = CHAR_BOTH,         ['.'] = CHAR_BOTH,
	['_'] = CHAR_BOTH,         ['~'] = CHAR_BOTH,         ['#'] = CHAR_TOKEN,        ['^'] = CHAR_TOKEN,
	['`'] = CHAR_TOKEN,        ['|'] = CHAR_TOKEN,        ['('] = CHAR_HOST,         [')'] = CHAR_HOST,
	[','] = CHAR_HOST,         [':'] = CHAR_HOST,         [';'] = CHAR_HOST,         ['='] = CHAR_HOST,
	['@'] = CHAR_HOST,         ['['] = CHAR_HOST,         [']'] = CHAR_HOST,
};

static bool all_of(const char *text, size_t len, uint8_t class)
{
	for (size_t i = 0; i < len; i++) {
		if ((CHAR_CLASS[(unsigned char)text[i]] & class) == 0)
			return false;
	}
	return true;
}

static bool has_control(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

/* Blanks behind a value are no part of it; libmicrohttpd drops those before it only. */
static size_t trim(const char *value, size_t len)
{
	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	return len;
}

static const struct known_header *find_known(const char *name, size_t len)
{
	for (size_t i = 0; i < KNOWN_COUNT; i++) {
		if (KNOWN_HEADERS[i].len == len && strncasecmp(KNOWN_HEADERS[i].name, name, len) == 0)
			return &KNOWN_HEADERS[i];
	}
	return NULL;
}

static bool header_is(const struct header *header, const char *text)
{
	return header->text != NULL && strlen(text) == header->len &&
	       strncasecmp(header->text, text, header->len) == 0;
}

static void keep(struct head *head, const struct known_header *known, const char *value, size_t len)
{
	struct header *header = (struct header *)(void *)((char *)head + known->offset);

	if (header->text == NULL)
		*header = (struct header){.text = value, .len = len};
	else if (known->repeat == REPEAT_NEVER ||
	         (known->repeat == REPEAT_SAME &&
	          (header->len != len || memcmp(header->text, value, len) != 0)))
		head->malformed = true;
}

static enum MHD_Result read_header(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                   const char *value, size_t value_len)
{
	struct head *head = arg;
	const struct known_header *known;

	(void)kind;
	if (value == NULL)
		value = "";
	value_len = trim(value, value_len);
	if (name_len == 0 || !all_of(name, name_len, CHAR_TOKEN) || has_control(value, value_len))
		head->malformed = true;
	known = find_known(name, name_len);
	if (known != NULL)
		keep(head, known, value, value_len);
	return MHD_YES;
}

static struct head_refusal judge(const struct head *head)
{
	bool is_1_1 = !head->is_1_0;

	if (!all_of(head->method, strlen(head->method), CHAR_TOKEN))
		return (struct head_refusal){400, "400 Bad Request: malformed method"};
	if (head->malformed)
		return (struct head_refusal){400, "400 Bad Request: malformed or contradicting headers"};
	if (is_1_1 && head->host.text == NULL)
		return (struct head_refusal){400, "400 Bad Request: missing required Host header"};
	if (head->host.text != NULL && !all_of(head->host.text, head->host.len, CHAR_HOST))
		return (struct head_refusal){400, "400 Bad Request: malformed Host header"};
	if (head->transfer_encoding.text != NULL) {
		if (!header_is(&head->transfer_encoding, "chunked"))
			return (struct head_refusal){501,
			                             "501 Not Implemented: unsupported transfer encoding"};
		if (!is_1_1 || head->content_length.text != NULL)
			return (struct head_refusal){400, "400 Bad Request: two lengths for one body"};
	}
	if (head->expect.text != NULL && head->expect.len > 0 && !header_is(&head->expect, "100-continue"))
		return (struct head_refusal){417, "417 Expectation Failed"};
	return (struct head_refusal){0};
}

struct head_refusal head_read(struct head *head, struct MHD_Connection *connection, const char *method,
                              const char *version)
{
	*head = (struct head){.method = method, .is_1_0 = strcmp(version, "HTTP/1.0") == 0};
	MHD_get_connection_values_n(connection, MHD_HEADER_KIND, read_header, head);
	return judge(head);
}

uint64_t head_content_length(const struct head *head)
{
	uint64_t length = 0;

	/* The library has checked that these are digits that fit. */
	for (size_t i = 0; i < head->content_length.len; i++)
		length = length * 10 + (uint64_t)(head->content_length.text[i] - '0');
	return length;
}

const char *head_method(const struct head *head)
{
	if (head->method_override.len > 0 && strcmp(head->method, MHD_HTTP_METHOD_POST) == 0 &&
	    header_is(&head->content_type, "application/x-www-form-urlencoded"))
		return head->method_override.text;
	return head->method;
}
