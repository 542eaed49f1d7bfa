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

#include "base/utf8.h"

#define BLANKS " \t\f\r\n"

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

static bool is_kafka(const char *name)
{
	return strncmp(name, CONFIG_KAFKA_PREFIX, strlen(CONFIG_KAFKA_PREFIX)) == 0;
}

static bool is_blank(const char *text)
{
	return text[strspn(text, BLANKS)] == '\0';
}

void config_loader_put_kafka(struct config_loader *loader, const char *origin, bool is_servers)
{
	if (loader->kafka_origin == NULL || (is_servers && !loader->has_kafka_servers))
		loader->kafka_origin = origin;
	loader->has_kafka_servers |= is_servers;
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
		config_loader_put_kafka(loader, origin,
		                        strcmp(name, CONFIG_KAFKA_SERVERS) == 0 && !is_blank(value));
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

/* A node that was meant to be one of several must not come up alone, be it
 * that this version cannot join them or that a variable got lost. */
static void finish_kafka(struct config_loader *loader)
{
	if (loader->has_kafka_servers)
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: %s", loader->kafka_origin,
		                     CONFIG_NO_KAFKA);
	else if (loader->kafka_origin != NULL)
		config_loader_refuse(
			loader, STATUS_BAD_CONFIG,
			"%s: is for the Kafka log, but " CONFIG_KAFKA_SERVERS
			" is not set; without it the node would write alone. Remove all keys of "
			"Kafka if that is meant",
			loader->kafka_origin);
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

enum status_code config_loader_finish(struct config_loader *loader)
{
	struct config *config = loader->config;

	finish_kafka(loader);
	if (loader->status == STATUS_OK)
		finish_compaction(loader);
	/* etcd's way to ask for the default. */
	if (config->quota_backend_bytes == 0)
		config->quota_backend_bytes = DEFAULT_QUOTA_BYTES;
	if (config->progress_notify_ms == 0)
		config->progress_notify_ms = DEFAULT_PROGRESS_MS;
	return loader->status;
}
