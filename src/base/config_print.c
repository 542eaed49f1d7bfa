/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables for people: --help, the sample file, and the tables of
 * doc/configuration.md. A test compares the two files with what is printed.
 */
#include <string.h>

#include "base/config.h"
#include "base/config_flags.h"
#include "base/config_table.h"

enum { HELP_COLUMN = 26 };

static bool is_ours(const struct config_flag *flag)
{
	return flag->kind == FLAG_CONFIG || flag->kind == FLAG_SET || flag->kind == FLAG_ACTION;
}

static bool is_alias(const struct config_flag *flag)
{
	return flag->kind == FLAG_KEY || flag->kind == FLAG_DURATION;
}

/* Of keys that do nothing only the manual tells. */
static bool is_for_use(const struct config_key *key)
{
	return key->section != SECTION_LATER && key->section != SECTION_UNUSED;
}

/* etcd's flag for the key, or NULL. */
static const struct config_flag *alias_of(const struct config_key *key)
{
	for (size_t i = 0; i < config_flag_count; i++)
		if (is_alias(&config_flags[i]) && strcmp(config_flags[i].key, key->name) == 0)
			return &config_flags[i];
	return NULL;
}

static void print_choices(const struct config_key *key, struct buf *out)
{
	for (const struct config_choice *choice = key->choices; choice->text != NULL; choice++)
		buf_printf(out, "%s%s", choice == key->choices ? "" : ", ", choice->text);
}

static void pad(struct buf *out, size_t from, size_t width)
{
	for (size_t len = out->len - from; len < width; len++)
		buf_append_byte(out, ' ');
}

static void print_our_flags(struct buf *out)
{
	for (size_t i = 0; i < config_flag_count; i++) {
		const struct config_flag *flag = &config_flags[i];
		size_t start = out->len;

		if (!is_ours(flag))
			continue;
		buf_printf(out, "  %s%s", flag->name[1] == '\0' ? "-" : "--", flag->name);
		if (flag->key != NULL)
			buf_printf(out, " %s", flag->key);
		pad(out, start, HELP_COLUMN);
		buf_printf(out, "%s\n", flag->why);
	}
}

static void print_key_help(const struct config_key *key, struct buf *out)
{
	const struct config_flag *alias = alias_of(key);

	buf_printf(out, "  %s=%s", key->name, key->initial);
	if (alias != NULL)
		buf_printf(out, "  (--%s)", alias->name);
	buf_printf(out, "\n      %s", key->help);
	if (key->type == &config_type_choice) {
		buf_append_text(out, "\n      One of: ");
		print_choices(key, out);
	}
	buf_append_byte(out, '\n');
}

void config_print_help(struct buf *out)
{
	buf_append_text(out, "ketad serves the etcd v3 API over HTTP.\n\n"
	                     "Usage: ketad [FLAG]...\n\n"
	                     "Flags:\n");
	print_our_flags(out);
	buf_append_text(out, "\nKeys with their defaults, and etcd's flag where there is one. A key is set "
	                     "in the file,\n"
	                     "then by its variable (" CONFIG_VARIABLE_PREFIX
	                     "LOG_LEVEL for log.level), then by --set or its flag; the last one counts.\n");
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];

		if (!is_for_use(key))
			continue;
		if (i == 0 || key->section != config_keys[i - 1].section)
			buf_printf(out, "\n%s\n", config_section_title(key->section));
		print_key_help(key, out);
	}
	buf_append_text(out, "\nSizes are in bytes, or in KiB, MiB or GiB. doc/configuration.md says what "
	                     "becomes of etcd's\n"
	                     "other flags. The exit status is 2 for a bad command line, 78 for a bad "
	                     "configuration,\n65 for a database of another version, and 1 when anything "
	                     "else stops the server.\n");
}

void config_print_sample(struct buf *out)
{
	buf_append_text(
		out,
		"# Configuration of ketad; doc/configuration.md says more. A line that begins with # is a\n"
		"# comment: what follows are the defaults, but for what is set here.\n");
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];

		if (!is_for_use(key))
			continue;
		if (i == 0 || key->section != config_keys[i - 1].section)
			buf_printf(out, "\n## %s\n", config_section_title(key->section));
		buf_printf(out, "\n# %s\n", key->help);
		if (key->type == &config_type_choice) {
			buf_append_text(out, "# One of: ");
			print_choices(key, out);
			buf_append_byte(out, '\n');
		}
		if (key->sample != NULL)
			buf_printf(out, "# The default is %s.\n%s=%s\n", key->initial, key->name,
			           key->sample);
		else
			buf_printf(out, "#%s=%s\n", key->name, key->initial);
	}
}

static void print_code(struct buf *out, const char *text)
{
	if (*text == '\0')
		buf_append_text(out, "empty");
	else
		buf_printf(out, "`%s`", text);
}

static void print_key_row(const struct config_key *key, struct buf *out)
{
	const struct config_flag *alias = alias_of(key);

	buf_printf(out, "| `%s` | ", key->name);
	print_code(out, key->initial);
	buf_append_text(out, " | ");
	if (key->type == &config_type_choice || key->type == &config_type_fixed)
		print_choices(key, out);
	else
		buf_append_text(out, key->type->name);
	buf_append_text(out, " | ");
	if (alias != NULL)
		buf_printf(out, "`--%s`", alias->name);
	buf_printf(out, " | %s |\n", key->help);
}

static void print_unused_row(const struct config_key *key, struct buf *out)
{
	buf_printf(out, "| `%s` | %s |\n", key->name, key->why);
}

static void print_title(enum config_section section, struct buf *out)
{
	buf_printf(out, "\n### %s\n\n", config_section_title(section));
	if (section == SECTION_UNUSED)
		buf_append_text(out,
		                "These keys of the original are taken with any value, and it is said that "
		                "they have no effect.\n\n"
		                "| key | it |\n| --- | --- |\n");
	else if (section == SECTION_LATER)
		buf_append_text(out,
		                "These keys are known, but what they ask for is not built yet. Any value "
		                "but those listed refuses the start.\n\n"
		                "| key | taken |\n| --- | --- |\n");
	else
		buf_append_text(out, "| key | default | value | etcd's flag | meaning |\n"
		                     "| --- | --- | --- | --- | --- |\n");
}

/* A key that is known, and refused unless it says what holds anyway. */
static void print_later_row(const struct config_key *key, struct buf *out)
{
	buf_printf(out, "| `%s` | ", key->name);
	for (const struct config_choice *choice = key->choices; choice->text != NULL; choice++) {
		if (choice != key->choices)
			buf_append_text(out, " or ");
		print_code(out, choice->text);
	}
	buf_append_text(out, " |\n");
}

static void print_flag_row(const struct config_flag *flag, struct buf *out)
{
	buf_printf(out, "| `--%s` | ", flag->name);
	switch (flag->kind) {
	case FLAG_KEY:
		buf_printf(out, "is `%s`", flag->key);
		break;
	case FLAG_DURATION:
		buf_printf(out, "is `%s`, written as a duration such as `1m30s`", flag->key);
		break;
	case FLAG_ONLY:
		buf_append_text(out, "refused unless ");
		for (const char *c = flag->allowed; *c != '\0'; c++)
			buf_append_text(out, *c == '|' ? " or " : (const char[]){*c, '\0'});
		buf_printf(out, "%s: it %s", *flag->allowed == '\0' ? "empty" : "", flag->why);
		break;
	case FLAG_IGNORED:
		buf_printf(out, "has no effect: it %s", flag->why);
		break;
	default:
		buf_printf(out, "refused: it %s", flag->why);
	}
	buf_append_text(out, " |\n");
}

void config_print_doc(struct buf *out)
{
	buf_append_text(out, "## Keys\n");
	for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
		const struct config_key *key = &config_keys[i];

		if (i == 0 || key->section != config_keys[i - 1].section)
			print_title(key->section, out);
		if (key->section == SECTION_UNUSED)
			print_unused_row(key, out);
		else if (key->section == SECTION_LATER)
			print_later_row(key, out);
		else
			print_key_row(key, out);
	}
	buf_append_text(out, "\n## etcd's flags\n\n| flag | here |\n| --- | --- |\n");
	for (size_t i = 0; i < config_flag_count; i++)
		if (!is_ours(&config_flags[i]))
			print_flag_row(&config_flags[i], out);
}
