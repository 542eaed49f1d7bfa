/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three sources, in the order in which they count. The command line is
 * read twice: first for its form, for the name of the file, and for --help and
 * its like, which must work whatever else is wrong; then for its values.
 */
#include "base/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/config_flags.h"
#include "base/config_loader.h"
#include "base/config_sources.h"
#include "base/config_table.h"
#include "base/duration.h"

enum { MAX_MEMORY_BYTES = 64 << 20 }; /* an origin for each entry of the largest file */

/* What config_load hands out is the first member. */
struct loaded {
	struct config config;
	struct arena arena; /* owns the texts */
};

/* What the command line asks for as a whole. */
struct command {
	enum config_action action;
	const char *path; /* of the file, or NULL */
};

static bool is_final(enum config_action action)
{
	return action != CONFIG_RUN && action != CONFIG_CHECK;
}

static enum status_code scan_command(int argc, char **argv, struct command *out, struct buf *message)
{
	struct config_option option;
	bool is_on;

	*out = (struct command){.action = CONFIG_RUN};
	for (int at = 1; at < argc && !is_final(out->action);) {
		enum status_code status = config_option_next(argc, argv, &at, &option, message);

		if (status != STATUS_OK)
			return status;
		if (option.flag->kind == FLAG_ACTION) {
			if (!config_parse_flag(option.value, &is_on)) {
				buf_printf(message, "--%s: must be true or false\n", option.flag->name);
				return STATUS_BAD_REQUEST;
			}
			if (is_on)
				out->action = (enum config_action)option.flag->action;
		} else if (option.flag->kind == FLAG_CONFIG) {
			if (out->path != NULL) {
				buf_append_text(message, "--config: may be given once\n");
				return STATUS_BAD_REQUEST;
			}
			out->path = option.value;
		}
	}
	return STATUS_OK;
}

static void apply_set(struct config_loader *loader, const char *value)
{
	size_t len = strcspn(value, "=");
	const char *name = arena_printf(loader->arena, "%.*s", (int)len, value);
	const char *origin = arena_printf(loader->arena, "--set %.*s", (int)len, value);

	if (name == NULL)
		config_loader_no_memory(loader);
	else if (value[len] == '=')
		config_loader_put_named(loader, origin, 0, name, value + len + 1);
	else
		config_loader_refuse(loader, STATUS_BAD_REQUEST, "--set: must be followed by KEY=VALUE");
}

static void apply_duration(struct config_loader *loader, const struct config_key *key, const char *origin,
                           const char *value)
{
	char text[32];
	int64_t ms;

	if (!duration_parse(value, &ms)) {
		config_loader_refuse(loader, STATUS_BAD_CONFIG,
		                     "%s: must be a duration such as 100ms or 1m30s", origin);
		return;
	}
	snprintf(text, sizeof text, "%lld", (long long)ms);
	config_loader_put(loader, key, origin, 0, text);
}

/* FLAG_ONLY: a boolean is compared as one, so that =F is as good as =false. */
static void apply_only(struct config_loader *loader, const struct config_flag *flag, const char *origin,
                       const char *value)
{
	bool is_on;

	if (flag->is_boolean && !config_parse_flag(value, &is_on)) {
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: must be true or false", origin);
		return;
	}
	if (flag->is_boolean)
		value = is_on ? "true" : "false";
	if (!config_flag_allows(flag, value))
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: %s", origin, flag->why);
}

static void apply_option(struct config_loader *loader, const struct config_option *option)
{
	const struct config_flag *flag = option->flag;
	const struct config_key *key = flag->key != NULL ? config_key_find(flag->key) : NULL;
	const char *origin = arena_printf(loader->arena, "--%.*s", (int)option->name_len, option->name);

	if (origin == NULL) {
		config_loader_no_memory(loader);
		return;
	}
	switch (flag->kind) {
	case FLAG_CONFIG:
	case FLAG_ACTION:
		break;
	case FLAG_SET:
		apply_set(loader, option->value);
		break;
	case FLAG_KEY:
		config_loader_put(loader, key, origin, 0, option->value);
		break;
	case FLAG_DURATION:
		apply_duration(loader, key, origin, option->value);
		break;
	case FLAG_ONLY:
		apply_only(loader, flag, origin, option->value);
		break;
	case FLAG_IGNORED:
		buf_printf(&loader->notices, "%s: has no effect: it %s\n", origin, flag->why);
		break;
	case FLAG_REFUSED:
		config_loader_refuse(loader, STATUS_BAD_CONFIG, "%s: %s", origin, flag->why);
		break;
	}
}

static void load_command(struct config_loader *loader, int argc, char **argv)
{
	struct config_option option;

	for (int at = 1; at < argc;) {
		/* The form was found good before. */
		if (config_option_next(argc, argv, &at, &option, loader->message) != STATUS_OK)
			return;
		apply_option(loader, &option);
	}
}

static enum status_code load(struct loaded *loaded, const struct command *command, int argc, char **argv,
                             char **environment, struct buf *message)
{
	struct config_loader loader;
	enum status_code status;

	config_loader_init(&loader, &loaded->config, &loaded->arena, message);
	loaded->config.action = command->action;
	if (!is_final(command->action)) {
		if (command->path != NULL)
			config_load_file(&loader, command->path);
		config_load_environment(&loader, environment);
		load_command(&loader, argc, argv);
	}
	status = config_loader_finish(&loader);
	if (status == STATUS_OK && loader.notices.len > 0)
		buf_append(message, loader.notices.data, loader.notices.len);
	config_loader_release(&loader);
	return status;
}

enum status_code config_load(int argc, char **argv, char **environment, struct config **out,
                             struct buf *message)
{
	struct command command;
	struct loaded *loaded;
	enum status_code status = scan_command(argc, argv, &command, message);

	*out = NULL;
	if (status != STATUS_OK)
		return status;
	loaded = calloc(1, sizeof *loaded);
	if (loaded == NULL)
		return STATUS_NO_MEMORY;
	arena_init(&loaded->arena, MAX_MEMORY_BYTES, NULL, 0);
	status = load(loaded, &command, argc, argv, environment, message);
	if (status == STATUS_OK)
		*out = &loaded->config;
	else
		config_free(&loaded->config);
	return status;
}

void config_free(struct config *config)
{
	struct loaded *loaded = (struct loaded *)config;

	if (loaded == NULL)
		return;
	arena_release(&loaded->arena);
	free(loaded);
}
