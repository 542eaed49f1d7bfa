/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every value takes the same way, wherever it comes from: put checks it by its
 * key's row, stores it over what was there, and remembers where it came from.
 * What involves two keys is looked at when all is read.
 */
#include "base/config_loader.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/config_url.h"
#include "base/utf8.h"

#define BLANKS " \t\f\r\n"
#define PROPERTY_CHARS "abcdefghijklmnopqrstuvwxyz0123456789._-"

enum {
	SHOWN_BYTES = 80,    /* of a value in a message */
	SHOWN_REFUSALS = 20, /* more than a person mends at once: it may be the wrong file */
};

static const int64_t DEFAULT_QUOTA_BYTES = (int64_t)2 << 30;
static const int64_t DEFAULT_PROGRESS_MS = 600000;

void config_loader_refuse(struct config_loader *loader, enum status_code status, const char *format, ...)
{
	char text[1024];
	va_list args;

	if (loader->status == STATUS_OK)
		loader->status = status;
	if (++loader->refused > SHOWN_REFUSALS) {
		if (loader->refused == SHOWN_REFUSALS + 1)
			buf_append_text(loader->message, "... and there is more\n");
		return;
	}
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	buf_append_text(loader->message, text);
	buf_append_byte(loader->message, '\n');
}

void config_loader_no_memory(struct config_loader *loader)
{
	if (loader->status != STATUS_NO_MEMORY)
		config_loader_refuse(loader, STATUS_NO_MEMORY,
		                     "there is not enough memory to read the configuration");
	loader->status = STATUS_NO_MEMORY;
}

static struct config_setting *setting_of(struct config_loader *loader, const struct config_key *key)
{
	return &loader->settings[key - config_keys];
}

/* A copy without the blanks around it, or NULL. */
static char *trim(struct config_loader *loader, const char *text)
{
	char *copy = arena_strdup(loader->arena, text + strspn(text, BLANKS));
	size_t len;

	if (copy == NULL)
		return NULL;
	len = strlen(copy);
	while (len > 0 && strchr(BLANKS, copy[len - 1]) != NULL)
		len--;
	copy[len] = '\0';
	return copy;
}

/* Values end up in log lines and protobuf strings. */
bool config_text_is_clean(const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return false;
	return utf8_is_valid((const uint8_t *)text, strlen(text));
}

/* A value is quoted so that the operator sees what was read, unless it is a
 * password or a URL that may have one before its '@'. */
static void refuse_value(struct config_loader *loader, const struct config_key *key, const char *origin,
                         const char *text, const struct buf *reason)
{
	int reason_len = (int)reason->len;
	const char *why = (const char *)reason->data;

	if (key->secret || strchr(text, '@') != NULL)
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: %.*s", origin, reason_len, why);
	else
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: \"%.*s\"%s %.*s", origin, SHOWN_BYTES,
		                     text, strlen(text) > SHOWN_BYTES ? "..." : "", reason_len, why);
}

static bool is_kafka(const char *name)
{
	return strncmp(name, CONFIG_KAFKA_PREFIX, strlen(CONFIG_KAFKA_PREFIX)) == 0;
}

/* Remembers the first key that means nothing without Kafka. */
static void note_kafka(struct config_loader *loader, const struct config_key *key, const char *origin)
{
	if (loader->kafka_origin == NULL && (key->section == SECTION_KAFKA || is_kafka(key->name)))
		loader->kafka_origin = origin;
}

void config_loader_put(struct config_loader *loader, const struct config_key *key, const char *origin,
                       size_t line, const char *value)
{
	void *field = (char *)loader->config + key->offset;
	char *text = trim(loader, value);
	enum status_code status;
	struct buf reason;

	if (text == NULL || origin == NULL) {
		config_loader_no_memory(loader);
		return;
	}
	if (!config_text_is_clean(text)) {
		config_loader_refuse(loader, STATUS_BAD_CONFIG,
		                     "%s: must be UTF-8 without control characters", origin);
		return;
	}
	buf_init(&reason);
	status = key->type->parse(key, text, loader->arena, field, &reason);
	if (status == STATUS_NO_MEMORY || reason.failed)
		config_loader_no_memory(loader);
	else if (status != STATUS_OK)
		refuse_value(loader, key, origin, text, &reason);
	buf_release(&reason);
	note_kafka(loader, key, origin);
	*setting_of(loader, key) = (struct config_setting){.text = text, .origin = origin, .line = line};
}

static void put_defaults(struct config_loader *loader)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];
		void *field = (char *)loader->config + key->offset;

		if (key->type->parse(key, key->initial, loader->arena, field, loader->message) != STATUS_OK)
			config_loader_no_memory(loader);
	}
}

static bool is_property_name(const char *name)
{
	return *name != '\0' && name[strspn(name, PROPERTY_CHARS)] == '\0';
}

/* The place of the property of this name, which may be new. */
static size_t property_place(const struct config_loader *loader, const char *name)
{
	size_t i = 0;

	while (i < loader->property_count && strcmp(loader->properties[i].name, name) != 0)
		i++;
	return i;
}

/* A value may be of several lines, such as a certificate's. No message shows it. */
void config_loader_put_property(struct config_loader *loader, const char *origin, size_t line,
                                const char *name, const char *value)
{
	const size_t place = property_place(loader, name);
	const struct config_property property = {
		.name = arena_strdup(loader->arena, name),
		.value = trim(loader, value),
		.origin = origin,
	};

	if (property.name == NULL || property.value == NULL || origin == NULL) {
		config_loader_no_memory(loader);
		return;
	}
	if (loader->kafka_origin == NULL)
		loader->kafka_origin = origin;
	if (!is_property_name(name) || place == CONFIG_PROPERTIES_MAX) {
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: %s", origin,
		                     place == CONFIG_PROPERTIES_MAX
		                             ? "there are more properties than Kafka's client has"
		                             : "there is no such property of Kafka's client");
		return;
	}
	if (line > 0 && place < loader->property_count && loader->property_lines[place] > 0)
		buf_printf(&loader->notices, "%s: this is the value in force, line %zu is not\n", origin,
		           loader->property_lines[place]);
	loader->properties[place] = property;
	loader->property_lines[place] = line;
	if (place == loader->property_count)
		loader->property_count++;
}

/* The value is not shown: an unknown key may be a misspelt password's. */
static void refuse_unknown(struct config_loader *loader, const char *origin, const char *name)
{
	const struct config_key *nearest = config_key_nearest(name);

	if (nearest != NULL)
		config_loader_refuse(loader, STATUS_BAD_CONFIG,
		                     "%s: there is no such key; did you mean %s?", origin, nearest->name);
	else
		config_loader_refuse(loader, STATUS_BAD_CONFIG,
		                     "%s: there is no such key; --help lists them", origin);
}

void config_loader_put_named(struct config_loader *loader, const char *origin, size_t line,
                             const char *name, const char *value)
{
	const struct config_key *key = config_key_find(name);

	if (origin == NULL)
		config_loader_no_memory(loader);
	else if (key != NULL)
		config_loader_put(loader, key, origin, line, value);
	else if (is_kafka(name))
		config_loader_put_property(loader, origin, line, name + strlen(CONFIG_KAFKA_PREFIX), value);
	else
		refuse_unknown(loader, origin, name);
}

void config_loader_init(struct config_loader *loader, struct config *config, struct arena *arena,
                        struct buf *message)
{
	*loader = (struct config_loader){.config = config, .arena = arena, .message = message};
	buf_init(&loader->notices);
	put_defaults(loader);
}

void config_loader_release(struct config_loader *loader)
{
	buf_release(&loader->notices);
}

/* A node that was meant to be one of several must not come up alone because a
 * variable got lost. */
static void refuse_alone(struct config_loader *loader)
{
	const struct config_setting *servers = setting_of(loader, config_key_find(CONFIG_KAFKA_SERVERS));

	/* Servers that could not be read have been refused already. */
	if (loader->kafka_origin != NULL && (servers->text == NULL || *servers->text == '\0'))
		config_loader_refuse(
			loader, STATUS_BAD_CONFIG,
			"%s: is for the Kafka log, but " CONFIG_KAFKA_SERVERS
			" is not set; without it the node would write alone. Remove all keys of "
			"Kafka if that is meant",
			loader->kafka_origin);
}

static bool is_one_of(const struct config_choice *choices, const char *text)
{
	for (; choices != NULL && choices->text != NULL; choices++)
		if (strcmp(choices->text, text) == 0)
			return true;
	return false;
}

static void note_unused(struct config_loader *loader)
{
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_setting *setting = &loader->settings[i];

		if (config_keys[i].section == SECTION_UNUSED && setting->text != NULL &&
		    !is_one_of(config_keys[i].choices, setting->text))
			buf_printf(&loader->notices, "%s: has no effect: it %s\n", setting->origin,
			           config_keys[i].why);
	}
}

/* The name that stands for Kafka wins, wherever the two were set. */
static void choose_data_dir(struct config_loader *loader)
{
	struct config *config = loader->config;
	const struct config_setting *alone = setting_of(loader, config_key_find("data.dir"));

	if (config->kafka_data_dir[0] == '\0')
		return;
	if (alone->text != NULL && strcmp(config->data_dir, config->kafka_data_dir) != 0)
		buf_printf(&loader->notices, "%s: has no effect: kafkacache.data.dir is set\n",
		           alone->origin);
	config->data_dir = config->kafka_data_dir;
}

static void finish_kafka(struct config_loader *loader)
{
	struct config *config = loader->config;
	const size_t size = loader->property_count * sizeof *loader->properties;
	struct config_property *properties = arena_alloc(loader->arena, size > 0 ? size : 1);

	if (properties == NULL || config->kafka_servers == NULL || config->kafka_data_dir == NULL) {
		config_loader_no_memory(loader);
		return;
	}
	if (config->kafka_servers[0] == '\0') {
		refuse_alone(loader);
		return;
	}
	memcpy(properties, loader->properties, size);
	config->kafka_properties = properties;
	config->kafka_property_count = loader->property_count;
	note_unused(loader);
	choose_data_dir(loader);
}

static void finish_compaction(struct config_loader *loader)
{
	struct config *config = loader->config;
	const struct config_setting *setting =
		setting_of(loader, config_key_find("auto.compaction.retention"));
	bool periodic = config->compaction_mode == COMPACTION_PERIODIC;

	if (setting->text != NULL &&
	    !config_parse_retention(setting->text, periodic, &config->compaction_retention))
		config_loader_refuse(loader, STATUS_BAD_CONFIG,
		                     "%s: must be %s when auto.compaction.mode is %s", setting->origin,
		                     periodic ? "a duration or a number of hours" : "a number of revisions",
		                     periodic ? "periodic" : "revision");
	if (config->compaction_retention == 0)
		config->compaction_mode = COMPACTION_OFF;
}

/* Each listener's URL with the host name in the place of its host. */
static enum status_code advertise_host(struct config_loader *loader)
{
	const char *host = loader->config->host_name;
	const bool is_ipv6 = strchr(host, ':') != NULL && *host != '[';
	const char *url = loader->config->listeners;
	const char *wrong = NULL;
	struct buf urls;

	buf_init(&urls);
	while (*url != '\0' && wrong == NULL) {
		const size_t len = strcspn(url, ",");
		const char *port = memrchr(url, ':', len);
		const size_t start = urls.len;

		buf_printf(&urls, is_ipv6 ? "http://[%s]%.*s" : "http://%s%.*s", host,
		           (int)(url + len - port), port);
		if (!urls.failed)
			wrong = config_check_url((const char *)urls.data + start, urls.len - start);
		url += len;
		if (*url == ',')
			buf_append_byte(&urls, (uint8_t)*url++);
	}
	buf_append_byte(&urls, '\0');
	loader->config->advertised_listeners =
		urls.failed ? NULL : arena_strdup(loader->arena, (const char *)urls.data);
	buf_release(&urls);
	if (loader->config->advertised_listeners == NULL)
		return STATUS_NO_MEMORY;
	return wrong == NULL ? STATUS_OK : STATUS_BAD_CONFIG;
}

static void finish_host_name(struct config_loader *loader)
{
	const struct config *config = loader->config;
	enum status_code status = STATUS_OK;

	if (config->host_name[0] != '\0' && config->advertised_listeners[0] == '\0')
		status = advertise_host(loader);
	if (status == STATUS_NO_MEMORY)
		config_loader_no_memory(loader);
	else if (status != STATUS_OK)
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: must be a host name or an IP address",
		                     setting_of(loader, config_key_find("host.name"))->origin);
}

enum status_code config_loader_finish(struct config_loader *loader)
{
	struct config *config = loader->config;

	finish_kafka(loader);
	if (loader->status == STATUS_OK)
		finish_compaction(loader);
	if (loader->status == STATUS_OK)
		finish_host_name(loader);
	/* etcd's way to ask for the default. */
	if (config->quota_backend_bytes == 0)
		config->quota_backend_bytes = DEFAULT_QUOTA_BYTES;
	if (config->progress_notify_ms == 0)
		config->progress_notify_ms = DEFAULT_PROGRESS_MS;
	return loader->status;
}

bool config_property_is_secret(const char *name)
{
	static const char *const PARTS[] = {"password", "secret", "key", "jaas", "token"};

	for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++)
		if (strstr(name, PARTS[i]) != NULL)
			return true;
	return false;
}
