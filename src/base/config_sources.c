/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config_sources.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_flags.h"
#include "base/properties.h"

#define ETCD_VARIABLE_PREFIX "ETCD_"

enum { MAX_FILE_BYTES = 1 << 20 }; /* a file of every key with its explanation has a hundredth of it */

struct file_loader {
	struct config_loader *loader;
	const char *path;
};

static enum status_code put_property(void *arg, const struct property *property)
{
	struct file_loader *file = arg;
	struct config_loader *loader = file->loader;
	const struct config_key *key = config_key_find(property->key);
	const char *origin;
	size_t before;

	if (strlen(property->key) != property->key_len || strlen(property->value) != property->value_len ||
	    !config_text_is_clean(property->key)) {
		config_loader_refuse(loader, STATUS_BAD_CONFIG,
		                     "%s:%zu: keys and values must not hold control characters", file->path,
		                     property->line);
		return STATUS_OK;
	}
	origin = arena_printf(loader->arena, "%s:%zu: %s", file->path, property->line, property->key);
	before = key != NULL ? loader->settings[key - config_keys].line : 0;
	if (origin != NULL && before > 0)
		buf_printf(&loader->notices, "%s: this is the value in force, line %zu is not\n", origin,
		           before);
	config_loader_put_named(loader, origin, property->line, property->key, property->value);
	return STATUS_OK;
}

static void read_properties(struct config_loader *loader, const char *path, const char *text, size_t len)
{
	struct file_loader file = {.loader = loader, .path = path};
	struct properties_error error;
	enum status_code status = properties_parse(text, len, put_property, &file, &error);

	if (status == STATUS_BAD_CONFIG)
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s:%zu: %s", path, error.line, error.text);
	else if (status != STATUS_OK)
		config_loader_no_memory(loader);
}

void config_load_file(struct config_loader *loader, const char *path)
{
	char *text = malloc(MAX_FILE_BYTES + 1);
	FILE *file = fopen(path, "re");
	size_t len = file != NULL && text != NULL ? fread(text, 1, MAX_FILE_BYTES + 1, file) : 0;

	if (text == NULL)
		config_loader_no_memory(loader);
	else if (file == NULL || ferror(file))
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: %s", path, strerror(errno));
	else if (len > MAX_FILE_BYTES)
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: is larger than %d bytes", path,
		                     MAX_FILE_BYTES);
	else
		read_properties(loader, path, text, len);
	if (file != NULL)
		fclose(file);
	free(text);
}

/* For a service named keta Kubernetes puts KETA_SERVICE_HOST, KETA_PORT and
 * their like into the environment; no key begins so. */
static bool is_of_kubernetes(const char *variable)
{
	static const char *const STARTS[] = {"KETA_SERVICE_HOST", "KETA_SERVICE_PORT", "KETA_PORT"};

	for (size_t i = 0; i < sizeof STARTS / sizeof *STARTS; i++) {
		size_t len = strlen(STARTS[i]);

		if (strncmp(variable, STARTS[i], len) == 0 &&
		    (variable[len] == '\0' || variable[len] == '_'))
			return true;
	}
	return false;
}

static void refuse_unknown_variable(struct config_loader *loader, const char *variable)
{
	struct buf name;
	const struct config_key *nearest = config_key_nearest_variable(variable);

	buf_init(&name);
	if (nearest != NULL) {
		config_key_variable(nearest, &name);
		config_loader_refuse(loader, STATUS_BAD_CONFIG,
		                     "%s: there is no such variable; did you mean %.*s?", variable,
		                     (int)name.len, (const char *)name.data);
	} else {
		config_loader_refuse(
			loader, STATUS_BAD_CONFIG,
			"%s: there is no such variable; those that begin with " CONFIG_VARIABLE_PREFIX
			" are for keys",
			variable);
	}
	buf_release(&name);
}

/* KETA_KAFKACACHE_SASL_USERNAME is sasl.username. Properties have dots between
 * words, but for a few. */
static void load_property(struct config_loader *loader, const char *variable, const char *value)
{
	static const char *const EXCEPTIONS[] = {"log_level", "enabled_events", "enable_sasl_queue"};
	char *name = arena_strdup(loader->arena, variable + strlen(CONFIG_KAFKA_VARIABLE_PREFIX));

	if (name == NULL) {
		config_loader_no_memory(loader);
		return;
	}
	for (char *c = name; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	for (size_t i = 0; i < sizeof EXCEPTIONS / sizeof *EXCEPTIONS; i++) {
		if (strcmp(name, EXCEPTIONS[i]) == 0) {
			config_loader_put_property(loader, variable, 0, name, value);
			return;
		}
	}
	for (char *c = name; *c != '\0'; c++)
		if (*c == '_')
			*c = '.';
	config_loader_put_property(loader, variable, 0, name, value);
}

static void load_variable(struct config_loader *loader, const char *variable, const char *value)
{
	const struct config_key *key = config_key_find_variable(variable);

	if (key != NULL)
		config_loader_put(loader, key, variable, 0, value);
	else if (strncmp(variable, CONFIG_KAFKA_VARIABLE_PREFIX, strlen(CONFIG_KAFKA_VARIABLE_PREFIX)) == 0)
		load_property(loader, variable, value);
	else if (!is_of_kubernetes(variable))
		refuse_unknown_variable(loader, variable);
}

/* etcd takes its flags from variables too: ETCD_CERT_FILE is --cert-file. They
 * may be there for an etcd beside this server, so they are not obeyed; but who
 * has put this server in etcd's place must hear of it. */
static void note_variable_of_etcd(struct config_loader *loader, const char *variable)
{
	const char *text = variable + strlen(ETCD_VARIABLE_PREFIX);
	char name[64];
	size_t len = 0;

	for (; text[len] != '=' && text[len] != '\0' && len < sizeof name; len++)
		name[len] = text[len] == '_' ? '-' : (char)tolower((unsigned char)text[len]);
	if (config_flag_find(name, len) != NULL)
		buf_printf(&loader->notices,
		           ETCD_VARIABLE_PREFIX "%.*s: is not read; use the flag --%.*s\n", (int)len, text,
		           (int)len, name);
}

void config_load_environment(struct config_loader *loader, char **environment)
{
	for (; *environment != NULL; environment++) {
		size_t len = strcspn(*environment, "=");
		char *variable;

		if (strncmp(*environment, ETCD_VARIABLE_PREFIX, strlen(ETCD_VARIABLE_PREFIX)) == 0)
			note_variable_of_etcd(loader, *environment);
		if (strncmp(*environment, CONFIG_VARIABLE_PREFIX, strlen(CONFIG_VARIABLE_PREFIX)) != 0 ||
		    (*environment)[len] != '=')
			continue;
		variable = arena_strdup(loader->arena, *environment);
		if (variable == NULL) {
			config_loader_no_memory(loader);
			return;
		}
		variable[len] = '\0';
		load_variable(loader, variable, variable + len + 1);
	}
}
