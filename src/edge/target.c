/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/target.h"

#include <stdlib.h>
#include <string.h>

static const char GATEWAY[] = "v3";
static const char OLD_GATEWAY[] = "/v3beta/";

/* A borrowed piece of the target. */
struct piece {
	const char *text;
	size_t len;
};

static int hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* The byte of an escape such as %2F, or -1. */
static int escaped_byte(const char *text, size_t len)
{
	if (len < 3 || text[0] != '%' || hex_value(text[1]) < 0 || hex_value(text[2]) < 0)
		return -1;
	return hex_value(text[1]) * 16 + hex_value(text[2]);
}

/* Takes one decoded byte off the piece; its escapes are known to be good. */
static char take_decoded(struct piece *piece)
{
	int byte = escaped_byte(piece->text, piece->len);
	size_t taken = byte < 0 ? 1 : 3;
	char decoded = byte < 0 ? piece->text[0] : (char)byte;

	piece->text += taken;
	piece->len -= taken;
	return decoded;
}

/* Takes a prefix off the piece if it has it, however it is escaped. */
static bool take_prefix(struct piece *piece, const char *prefix)
{
	struct piece rest = *piece;

	for (; *prefix != '\0'; prefix++) {
		if (rest.len == 0 || take_decoded(&rest) != *prefix)
			return false;
	}
	*piece = rest;
	return true;
}

static bool is_letter(char character)
{
	return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z');
}

/* Takes "scheme://authority" off. The path of such a target may be missing. */
static bool take_authority(struct piece *piece)
{
	const char *colon = memchr(piece->text, ':', piece->len);
	size_t at;

	if (colon == NULL || !is_letter(piece->text[0]) || strncmp(colon, "://", 3) != 0)
		return false;
	at = (size_t)(colon - piece->text) + 3;
	if (memchr(piece->text, '/', piece->len) < (const void *)colon)
		return false;
	while (at < piece->len && piece->text[at] != '/' && piece->text[at] != '?')
		at++;
	piece->text += at;
	piece->len -= at;
	return true;
}

static bool has_bad_byte(const struct piece *piece)
{
	for (size_t i = 0; i < piece->len; i++) {
		unsigned char byte = (unsigned char)piece->text[i];

		if (byte <= ' ' || byte == 0x7f)
			return true;
	}
	return false;
}

static bool has_bad_escape(const struct piece *path)
{
	for (size_t i = 0; i < path->len; i++) {
		if (path->text[i] == '%' && escaped_byte(path->text + i, path->len - i) < 0)
			return true;
	}
	return false;
}

/* Goes back behind the slash before the last segment. */
static size_t drop_segment(const char *to, size_t len)
{
	while (len > 1 && to[len - 1] != '/')
		len--;
	return len > 1 ? len - 1 : len;
}

/* Writes the path without empty segments, "." and "..", and returns its
 * length. It starts with a slash, and ends with one if the path does. */
static size_t clean(struct piece path, char *to)
{
	size_t len = 1;
	bool ends_with_slash = path.len > 0 && path.text[path.len - 1] == '/';

	to[0] = '/';
	while (path.len > 0) {
		const char *slash = memchr(path.text, '/', path.len);
		size_t segment = slash == NULL ? path.len : (size_t)(slash - path.text);
		size_t step = slash == NULL ? segment : segment + 1;

		if (segment == 2 && memcmp(path.text, "..", 2) == 0) {
			len = drop_segment(to, len);
		} else if (segment > 0 && !(segment == 1 && path.text[0] == '.')) {
			if (len > 1)
				to[len++] = '/';
			memmove(to + len, path.text, segment);
			len += segment;
		}
		path.text += step;
		path.len -= step;
	}
	if (ends_with_slash && len > 1)
		to[len++] = '/';
	return len;
}

/* Whether the first segment is the gateway's; *alone when nothing follows. */
static bool is_in_gateway(struct piece path, bool *alone)
{
	const char *slash = memchr(path.text + 1, '/', path.len - 1);
	struct piece segment = {.text = path.text + 1, .len = path.len - 1};

	if (slash != NULL)
		segment.len = (size_t)(slash - segment.text);
	*alone = slash == NULL;
	return take_prefix(&segment, GATEWAY) && segment.len == 0;
}

/* Decodes in place. An escaped slash is kept as it is where it would join
 * what the server's paths keep apart. */
static size_t decode(char *path, size_t len, bool slashes)
{
	struct piece rest = {.text = path, .len = len};
	size_t written = 0;

	while (rest.len > 0) {
		if (!slashes && escaped_byte(rest.text, rest.len) == '/') {
			memmove(path + written, rest.text, 3);
			written += 3;
			rest.text += 3;
			rest.len -= 3;
			continue;
		}
		path[written++] = take_decoded(&rest);
	}
	return written;
}

static bool is_url_byte(char byte)
{
	return is_letter(byte) || (byte >= '0' && byte <= '9') ||
	       (byte != '\0' && strchr("-_.~!$&'()*+,;=:@/%", byte) != NULL);
}

/* The cleaned path as a header may carry it, with the query as it came. */
static enum status_code make_location(struct target *target, const struct piece *path)
{
	static const char HEX[] = "0123456789ABCDEF";
	char *to = malloc(3 * path->len + target->query_len + 2);

	if (to == NULL)
		return STATUS_NO_MEMORY;
	target->redirect = to;
	target->location = to;
	for (size_t i = 0; i < path->len; i++) {
		unsigned char byte = (unsigned char)path->text[i];

		if (is_url_byte(path->text[i])) {
			*to++ = path->text[i];
			continue;
		}
		*to++ = '%';
		*to++ = HEX[byte >> 4];
		*to++ = HEX[byte & 15];
	}
	if (target->query_len > 0) {
		*to++ = '?';
		memcpy(to, target->query, target->query_len);
		to += target->query_len;
	}
	*to = '\0';
	return STATUS_OK;
}

/* Cleans the path into the target's memory, behind the copy of the query. */
static enum status_code settle_path(struct target *target, struct piece path, char *to)
{
	struct piece cleaned = {.text = to};
	bool alone;
	bool gateway;
	bool changed;
	enum status_code status = STATUS_OK;

	cleaned.len = clean(path, to);
	changed = cleaned.len != path.len || memcmp(to, path.text, path.len) != 0;
	gateway = is_in_gateway(cleaned, &alone);
	if (gateway && alone) {
		to[cleaned.len++] = '/';
		changed = true;
	}
	if (changed)
		status = make_location(target, &cleaned);
	target->path = to;
	target->path_len = decode(to, cleaned.len, gateway);
	return status;
}

static enum status_code settle(struct target *target, struct piece path, struct piece query)
{
	/* The gateway's older name is rewritten first, so that a redirect names
	 * the newer. */
	bool old = take_prefix(&path, OLD_GATEWAY);
	size_t need = query.len + sizeof OLD_GATEWAY + 2 * path.len + 2;
	char *to = target->inline_text;

	if (need > sizeof target->inline_text) {
		to = malloc(need);
		if (to == NULL)
			return STATUS_NO_MEMORY;
		target->text = to;
	}
	memcpy(to, query.text, query.len);
	target->query = to;
	target->query_len = query.len;
	to += query.len;
	if (old) {
		memcpy(to, "/v3/", 4);
		memcpy(to + 4, path.text, path.len);
		path = (struct piece){.text = to, .len = path.len + 4};
		to += path.len;
	}
	return settle_path(target, path, to);
}

void target_init(struct target *target, const char *raw)
{
	struct piece path = {.text = raw, .len = strlen(raw)};
	struct piece query = {.text = ""};
	const char *mark;

	*target = (struct target){.status = STATUS_BAD_REQUEST};
	if (path.len == 0 || has_bad_byte(&path))
		return;
	if (path.text[0] != '/' && !take_authority(&path))
		return;
	mark = memchr(path.text, '?', path.len);
	if (mark != NULL) {
		query.text = mark + 1;
		query.len = path.len - (size_t)(mark - path.text) - 1;
		path.len = (size_t)(mark - path.text);
	}
	if (!has_bad_escape(&path))
		target->status = settle(target, path, query);
}

void target_release(struct target *target)
{
	free(target->text);
	free(target->redirect);
}

static const char *html_entity(char character)
{
	switch (character) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&#34;";
	case '\'':
		return "&#39;";
	default:
		return NULL;
	}
}

void target_redirect_body(const struct target *target, struct buf *buf)
{
	buf_append_text(buf, "<a href=\"");
	for (const char *at = target->location; *at != '\0'; at++) {
		const char *entity = html_entity(*at);

		if (entity != NULL)
			buf_append_text(buf, entity);
		else
			buf_append_byte(buf, (uint8_t)*at);
	}
	buf_append_text(buf, "\">Temporary Redirect</a>.\n\n");
}

void target_query_init(struct target_query *query, const char *text, size_t len)
{
	query->next = text;
	query->left = len;
}

/* Decodes one side of a parameter, where '+' is a space. */
static bool decode_side(struct piece side, char to[static TARGET_PAIR_BYTES], size_t *len)
{
	*len = 0;
	if (side.len > TARGET_PAIR_BYTES || has_bad_escape(&side))
		return false;
	while (side.len > 0) {
		bool plus = side.text[0] == '+';
		char byte = take_decoded(&side);

		to[(*len)++] = plus ? ' ' : byte;
	}
	return true;
}

static bool decode_pair(struct target_query *query, struct piece whole, struct target_pair *pair)
{
	const char *equals = memchr(whole.text, '=', whole.len);
	struct piece name = whole;
	struct piece value = {.text = ""};

	if (whole.len == 0 || memchr(whole.text, ';', whole.len) != NULL)
		return false;
	if (equals != NULL) {
		name.len = (size_t)(equals - whole.text);
		value.text = equals + 1;
		value.len = whole.len - name.len - 1;
	}
	pair->name = query->text;
	pair->value = query->text + TARGET_PAIR_BYTES;
	return decode_side(name, query->text, &pair->name_len) &&
	       decode_side(value, query->text + TARGET_PAIR_BYTES, &pair->value_len);
}

bool target_query_next(struct target_query *query, struct target_pair *pair)
{
	while (query->left > 0) {
		const char *end = memchr(query->next, '&', query->left);
		struct piece whole = {.text = query->next, .len = query->left};

		if (end != NULL)
			whole.len = (size_t)(end - query->next);
		query->next += whole.len;
		query->left -= whole.len;
		if (end != NULL) {
			query->next++;
			query->left--;
		}
		if (decode_pair(query, whole, pair))
			return true;
	}
	return false;
}
