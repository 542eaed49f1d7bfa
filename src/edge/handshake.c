/* SPDX-License-Identifier: Apache-2.0 */
#include "edge/handshake.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"

enum { NONCE_BYTES = 16 };

static const char GUID[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
static const char BEARER[] = "Bearer";

/* What the headers say that matter to a handshake alone. */
struct fields {
	bool connection_upgrade;
	bool version_13;
	struct header key;
	bool two_keys;
	struct header protocol;
	struct header cookie_token;
};

static struct header trim(const char *text, size_t len)
{
	while (len > 0 && (*text == ' ' || *text == '\t')) {
		text++;
		len--;
	}
	while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	return (struct header){.text = text, .len = len};
}

/* Takes the first item off a list; false at its end. */
static bool take_item(struct header *list, char separator, struct header *item)
{
	const char *end;
	size_t len;

	if (list->text == NULL)
		return false;
	end = memchr(list->text, separator, list->len);
	len = end != NULL ? (size_t)(end - list->text) : list->len;
	*item = trim(list->text, len);
	list->text = end != NULL ? end + 1 : NULL;
	list->len -= end != NULL ? len + 1 : len;
	return true;
}

static bool is_text(const struct header *header, const char *text)
{
	return header->len == strlen(text) && strncasecmp(header->text, text, header->len) == 0;
}

static bool list_holds(struct header list, const char *text)
{
	struct header item;

	while (take_item(&list, ',', &item)) {
		if (is_text(&item, text))
			return true;
	}
	return false;
}

bool handshake_is_asked(const struct head *head)
{
	return strcmp(head->method, MHD_HTTP_METHOD_GET) == 0 && list_holds(head->upgrade, "websocket");
}

/* ---- The headers ---- */

static void read_cookies(struct fields *fields, struct header list)
{
	static const char NAME[] = "token=";
	const size_t name_len = sizeof NAME - 1;
	struct header item;

	while (take_item(&list, ';', &item)) {
		if (item.len < name_len || memcmp(item.text, NAME, name_len) != 0 ||
		    fields->cookie_token.text != NULL)
			continue;
		item.text += name_len;
		item.len -= name_len;
		if (item.len >= 2 && item.text[0] == '"' && item.text[item.len - 1] == '"') {
			item.text++;
			item.len -= 2;
		}
		fields->cookie_token = item;
	}
}

static enum MHD_Result read_field(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_len,
                                  const char *value, size_t value_len)
{
	struct fields *fields = arg;
	struct header header = trim(value != NULL ? value : "", value_len);
	struct header field = {.text = name, .len = name_len};

	(void)kind;
	if (is_text(&field, "Connection")) {
		fields->connection_upgrade = fields->connection_upgrade || list_holds(header, "upgrade");
	} else if (is_text(&field, "Sec-WebSocket-Version")) {
		fields->version_13 = fields->version_13 || list_holds(header, "13");
	} else if (is_text(&field, "Sec-WebSocket-Key")) {
		fields->two_keys = fields->key.text != NULL;
		fields->key = header;
	} else if (is_text(&field, "Sec-WebSocket-Protocol")) {
		if (fields->protocol.text == NULL)
			fields->protocol = header;
	} else if (is_text(&field, "Cookie")) {
		read_cookies(fields, header);
	}
	return MHD_YES;
}

/* "Bearer, TOKEN". Browsers cannot send a header of their own with a
 * WebSocket, but they can name subprotocols. A cookie counts before it, as in
 * etcd's proxy, and the Authorization header does not at all. */
static void find_token(const struct fields *fields, struct handshake *handshake)
{
	struct header list = fields->protocol;
	struct header item;

	if (take_item(&list, ',', &item) && item.len == sizeof BEARER - 1 &&
	    memcmp(item.text, BEARER, item.len) == 0) {
		handshake->is_bearer = true;
		if (take_item(&list, ',', &item))
			handshake->token = item;
	}
	if (fields->cookie_token.text != NULL)
		handshake->token = fields->cookie_token;
}

/* ---- The checks ---- */

static bool is_key(const struct header *key)
{
	uint8_t nonce[BASE64_DECODED_MAX(HANDSHAKE_KEY_BYTES)];
	size_t len;

	return key->len == HANDSHAKE_KEY_BYTES && base64_decode(key->text, key->len, nonce, &len) == NULL &&
	       len == NONCE_BYTES;
}

/* The origin without its scheme: a proxy in front may speak TLS where we do not. */
static bool is_same_origin(const struct header *origin, const struct header *host)
{
	const char *slashes = memmem(origin->text, origin->len, "://", 3);
	size_t skipped;

	if (slashes == NULL || host->text == NULL)
		return false;
	skipped = (size_t)(slashes - origin->text) + 3;
	return origin->len - skipped == host->len &&
	       strncasecmp(origin->text + skipped, host->text, host->len) == 0;
}

static bool is_origin_allowed(const struct head *head, const struct origin_set *origins)
{
	if (head->origin.text == NULL)
		return true; /* no browser */
	if (!origins->any && origin_set_holds(origins, head->origin.text, head->origin.len))
		return true;
	return is_same_origin(&head->origin, &head->host);
}

static struct head_refusal judge(const struct fields *fields, const struct head *head,
                                 const struct origin_set *origins)
{
	if (head->is_1_0 || !fields->connection_upgrade)
		return (struct head_refusal){400,
		                             "a WebSocket needs HTTP/1.1 and \"Connection: Upgrade\"\n"};
	if (!fields->version_13)
		return (struct head_refusal){426, "a WebSocket needs \"Sec-WebSocket-Version: 13\"\n"};
	if (fields->two_keys || !is_key(&fields->key))
		return (struct head_refusal){400, "Sec-WebSocket-Key must be 16 bytes in base64\n"};
	if (!is_origin_allowed(head, origins))
		return (struct head_refusal){403, "a page of this origin may not open a WebSocket here; "
		                                  "cors.origins can allow it\n"};
	return (struct head_refusal){0};
}

/* What proves that the key was understood (section 4.2.2, step 5.4). */
static void write_accept(const char *key, struct buf *buf)
{
	char text[HANDSHAKE_KEY_BYTES + sizeof GUID - 1];
	uint8_t digest[SHA_DIGEST_LENGTH];

	memcpy(text, key, HANDSHAKE_KEY_BYTES);
	memcpy(text + HANDSHAKE_KEY_BYTES, GUID, sizeof GUID - 1);
	EVP_Digest(text, sizeof text, digest, NULL, EVP_sha1(), NULL);
	buf_append_base64(buf, digest, sizeof digest);
}

void handshake_read(struct handshake *handshake, struct MHD_Connection *connection, const struct head *head,
                    const struct origin_set *origins)
{
	struct fields fields = {0};

	*handshake = (struct handshake){0};
	MHD_get_connection_values_n(connection, MHD_HEADER_KIND, read_field, &fields);
	handshake->refusal = judge(&fields, head, origins);
	if (handshake->refusal.status != 0)
		return;
	handshake->key = fields.key.text;
	find_token(&fields, handshake);
}

void handshake_write(const struct handshake *handshake, struct buf *buf)
{
	buf_append_text(buf, "HTTP/1.1 101 Switching Protocols\r\n"
	                     "Upgrade: websocket\r\n"
	                     "Connection: Upgrade\r\n"
	                     "Sec-WebSocket-Accept: ");
	write_accept(handshake->key, buf);
	if (handshake->is_bearer)
		buf_append_text(buf, "\r\nSec-WebSocket-Protocol: Bearer");
	buf_append_text(buf, "\r\n\r\n");
}
