/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config_url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/config_table.h"

enum { MAX_PORT = 65535 };

static const char NOT_A_URL[] = "must be URLs of the form http://HOST:PORT, parted by commas";
static const char NO_PORT[] =
	"must be URLs of the form http://HOST:PORT, parted by commas; the port is missing";
static const char NO_ADDRESS[] = "has a host that is written as an IP address, and is no IP address";
static const char NOT_AN_ORIGIN[] =
	"must be * or origins of the form http://HOST or http://HOST:PORT, with nothing behind, "
	"parted by commas";

static bool is_port(const char *text, const char *end)
{
	long port = 0;

	if (text == end || end - text > 5)
		return false;
	for (; text < end; text++) {
		if (!isdigit((unsigned char)*text))
			return false;
		port = port * 10 + (*text - '0');
	}
	return port <= MAX_PORT;
}

/* Whether none of the characters ends a URL's host and port, or is none of a URL at all. */
static bool is_clean(const char *text, const char *end)
{
	for (; text < end; text++)
		if (!isgraph((unsigned char)*text) || strchr("/?#@\\\"", *text) != NULL)
			return false;
	return true;
}

/* The colon before the port in HOST:PORT, or NULL. IPv6 addresses have brackets. */
static const char *find_port(const char *text, const char *end)
{
	const char *colon = memrchr(text, ':', (size_t)(end - text));

	if (colon == NULL || !is_port(colon + 1, end) || !is_clean(text, colon))
		return NULL;
	if (*text == '[')
		return colon - text > 2 && colon[-1] == ']' ? colon : NULL;
	return memchr(text, ':', (size_t)(colon - text)) == NULL ? colon : NULL;
}

static bool is_address(int family, const char *text, size_t len)
{
	char copy[INET6_ADDRSTRLEN];
	struct in6_addr address; /* the larger of the two */

	if (len >= sizeof copy)
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	return inet_pton(family, copy, &address) == 1;
}

/* What looks like an address is one. Otherwise the name server would be asked
 * for it, and the mistake would pass for an outage that may end. */
static bool is_host(const char *text, size_t len)
{
	const char *zone;

	if (len > 0 && strspn(text, "0123456789.") >= len)
		return is_address(AF_INET, text, len);
	if (*text != '[')
		return true;
	text++;
	len -= 2;
	zone = memchr(text, '%', len); /* "fe80::1%eth0": which of the links */
	if (zone == NULL)
		return is_address(AF_INET6, text, len);
	return zone + 1 < text + len && is_address(AF_INET6, text, (size_t)(zone - text));
}

/* HOST:PORT, a single '/' behind it let pass. */
static const char *check_authority(const char *text, const char *end)
{
	const char *bracket = memchr(text, ']', (size_t)(end - text));
	const char *host_end = bracket != NULL ? bracket : text;
	const char *colon;

	if (memchr(host_end, ':', (size_t)(end - host_end)) == NULL)
		return NO_PORT;
	if (end[-1] == '/')
		end--;
	colon = find_port(text, end);
	if (colon == NULL)
		return NOT_A_URL;
	return is_host(text, (size_t)(colon - text)) ? NULL : NO_ADDRESS;
}

/* Schemes are the same in capitals (RFC 3986, 3.1). */
static bool has_scheme(const char *text, size_t len, const char *scheme)
{
	return len >= strlen(scheme) && strncasecmp(text, scheme, strlen(scheme)) == 0;
}

const char *config_check_listener(const char *text, size_t len)
{
	if (has_scheme(text, len, "https://"))
		return CONFIG_NO_TLS;
	if (!has_scheme(text, len, "http://"))
		return NOT_A_URL;
	return check_authority(text + strlen("http://"), text + len);
}

const char *config_check_url(const char *text, size_t len)
{
	size_t scheme = has_scheme(text, len, "http://")    ? strlen("http://")
	                : has_scheme(text, len, "https://") ? strlen("https://")
	                                                    : 0;

	if (scheme == 0 || text[scheme] == ':')
		return NOT_A_URL;
	return check_authority(text + scheme, text + len);
}

const char *config_check_origin(const char *text, size_t len)
{
	static const char PARTING[] = "://";
	const char *parting = memmem(text, len, PARTING, strlen(PARTING));
	const char *end = text + len;
	const char *host;

	if (len == 1 && *text == '*')
		return NULL;
	if (parting == NULL || parting == text)
		return NOT_AN_ORIGIN;
	host = parting + strlen(PARTING);
	return host < end && is_clean(text, parting) && is_clean(host, end) ? NULL : NOT_AN_ORIGIN;
}
