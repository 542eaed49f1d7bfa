/* SPDX-License-Identifier: Apache-2.0 */
#include "base/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "lib/test.h"

static FILE *captured; /* stands in for standard error while a test runs */
static int saved_stderr = -1;
static char text[1 << 16];

static void capture(void)
{
	captured = tmpfile();
	ck_assert_ptr_nonnull(captured);
	saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	ck_assert_int_ge(dup2(fileno(captured), STDERR_FILENO), 0);
}

static void restore(void)
{
	if (saved_stderr >= 0) {
		dup2(saved_stderr, STDERR_FILENO);
		close(saved_stderr);
		fclose(captured);
	}
	saved_stderr = -1;
	logger_init(LOGGER_INFO, LOGGER_AUTO);
}

/* All that was logged so far. */
static const char *logged(void)
{
	ssize_t len = pread(fileno(captured), text, sizeof text - 1, 0);

	ck_assert_int_ge(len, 0);
	text[len] = '\0';
	return text;
}

static size_t count(const char *all, const char *part)
{
	size_t found = 0;

	for (; (all = strstr(all, part)) != NULL; all++)
		found++;
	return found;
}

static json_t *logged_json(void)
{
	json_t *line = json_loads(logged(), JSON_REJECT_DUPLICATES, NULL);

	ck_assert_ptr_nonnull(line);
	return line;
}

static void expect_text(const json_t *line, const char *name, const char *value)
{
	ck_assert_str_eq(json_string_value(json_object_get(line, name)), value);
}

START_TEST(a_line_of_text_has_time_level_component_message_and_fields)
{
	int year, fields_at = 0;

	logger_init(LOGGER_INFO, LOGGER_TEXT);
	logger_warn("engine", "slow request", LOG_STR("method", "Range"), LOG_I64("took_ms", -7), LOG_END);
	ck_assert_int_eq(sscanf(logged(), "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ%n", &year, &fields_at), 1);
	ck_assert_int_eq(fields_at, (int)strlen("2000-01-01T00:00:00.000Z"));
	ck_assert_int_ge(year, 1970);
	ck_assert_str_eq(logged() + fields_at, " warn  engine: slow request method=Range took_ms=-7\n");
}
END_TEST

START_TEST(a_line_of_json_is_one_object)
{
	json_t *line;

	logger_init(LOGGER_INFO, LOGGER_JSON);
	logger_error("main", "cannot start", LOG_STR("error", "in use"), LOG_I64("port", 2379), LOG_END);
	line = logged_json();
	expect_text(line, "level", "error");
	expect_text(line, "component", "main");
	expect_text(line, "message", "cannot start");
	expect_text(line, "error", "in use");
	ck_assert_int_eq(json_integer_value(json_object_get(line, "port")), 2379);
	ck_assert_ptr_nonnull(json_object_get(line, "time"));
	ck_assert_uint_eq(json_object_size(line), 6);
	ck_assert_str_eq(strchr(logged(), '\n'), "\n");
	json_decref(line);
}
END_TEST

START_TEST(what_is_no_terminal_gets_json)
{
	logger_init(LOGGER_INFO, LOGGER_AUTO);
	logger_info("main", "ready", LOG_END);
	ck_assert_int_eq(logged()[0], '{');
}
END_TEST

static const char FORGED[] = "x\n2000-01-01T00:00:00.000Z error main: y=\"1\" \033[2J\t\177\\ z=2";

START_TEST(no_value_forges_a_line_or_a_field_of_text)
{
	logger_init(LOGGER_INFO, LOGGER_TEXT);
	logger_info("edge", "refused", LOG_STR("host", FORGED), LOG_STR("empty", ""), LOG_STR("two", "a b"),
	            LOG_STR("equals", "a=b"), LOG_END);
	ck_assert_uint_eq(count(logged(), "\n"), 1);
	ck_assert_ptr_null(strchr(logged(), '\033'));
	ck_assert_ptr_nonnull(strstr(logged(), " host=\"x\\n2000"));
	ck_assert_ptr_nonnull(strstr(logged(), "y=\\\"1\\\""));
	ck_assert_ptr_nonnull(strstr(logged(), " empty=\"\" two=\"a b\" equals=\"a=b\"\n"));
}
END_TEST

START_TEST(no_value_forges_a_line_or_a_field_of_json)
{
	json_t *line;

	logger_init(LOGGER_INFO, LOGGER_JSON);
	logger_info("edge", "refused", LOG_STR("host", FORGED), LOG_STR("bytes", "\xff"), LOG_END);
	ck_assert_uint_eq(count(logged(), "\n"), 1);
	line = logged_json();
	expect_text(line, "host", FORGED);
	expect_text(line, "bytes", "\357\277\275");
	expect_text(line, "level", "info");
	json_decref(line);
}
END_TEST

/* DEL; CSI as one character; a line separator; marks that turn the direction of what follows. */
static const char COMMANDS[] = "a\177b\302\233"
			       "31m\302\200\342\200\250\342\200\256\342\201\246\342\200\216\330\234z";

START_TEST(no_value_commands_a_terminal)
{
	static const char ESCAPED[] = "a\\u007fb\\u009b31m\\u0080\\u2028\\u202e\\u2066\\u200e\\u061cz";
	enum logger_format format = _i == 0 ? LOGGER_TEXT : LOGGER_JSON;

	logger_init(LOGGER_INFO, format);
	logger_info("edge", "refused", LOG_STR("host", COMMANDS), LOG_END);
	ck_assert_ptr_nonnull(strstr(logged(), ESCAPED));
	for (const char *c = logged(); *c != '\0'; c++)
		ck_assert(*c == '\n' || (*c >= ' ' && *c < 0x7f));
}
END_TEST

START_TEST(letters_of_all_languages_are_shown_as_they_are)
{
	logger_init(LOGGER_INFO, LOGGER_TEXT);
	logger_info("store", "opened", LOG_STR("path", "/b\303\244r/\342\202\254/\360\237\230\200\302\240"),
	            LOG_END);
	ck_assert_ptr_nonnull(
		strstr(logged(), " path=\"/b\303\244r/\342\202\254/\360\237\230\200\302\240\"\n"));
}
END_TEST

START_TEST(a_list_of_fields_ends_by_itself)
{
	logger_init(LOGGER_INFO, LOGGER_TEXT);
	logger_info("main", "ready", LOG_I64("port", 2379));
	ck_assert_ptr_nonnull(strstr(logged(), " info  main: ready port=2379\n"));
}
END_TEST

static int evaluated;

static int64_t evaluate(void)
{
	return ++evaluated;
}

START_TEST(below_the_level_nothing_is_logged_or_evaluated)
{
	logger_init(LOGGER_WARN, LOGGER_TEXT);
	ck_assert(!logger_is_on(LOGGER_INFO));
	ck_assert(logger_is_on(LOGGER_WARN));
	logger_info("main", "quiet", LOG_I64("n", evaluate()), LOG_END);
	logger_debug("main", "quiet", LOG_I64("n", evaluate()), LOG_END);
	ck_assert_int_eq(evaluated, 0);
	ck_assert_str_eq(logged(), "");
	logger_set_level(LOGGER_DEBUG);
	logger_debug("main", "loud", LOG_I64("n", evaluate()), LOG_END);
	ck_assert_int_eq(evaluated, 1);
	ck_assert_ptr_nonnull(strstr(logged(), "debug main: loud n=1\n"));
}
END_TEST

static void log_at(struct logger_site *site)
{
	const struct log_field fields[] = {LOG_END};

	logger_write(LOGGER_INFO, site, "main", "often", fields);
}

/* The second may turn once in between, and then a few more come through. */
START_TEST(a_busy_site_is_quiet_and_says_how_many_were_left_out)
{
	struct logger_site site = {0};
	struct logger_site other = {0};
	char note[64];
	size_t lines;

	logger_init(LOGGER_INFO, LOGGER_TEXT);
	for (int i = 0; i < 1000; i++)
		log_at(&site);
	lines = count(logged(), "\n");
	ck_assert_uint_ge(lines, 10);
	ck_assert_uint_le(lines, 100);
	snprintf(note, sizeof note, "often left_out=%u\n", (unsigned)site.left_out);
	ck_assert_uint_gt(site.left_out, 0);
	log_at(&other);
	ck_assert_uint_eq(count(logged(), "\n"), lines + 1);

	site.second--; /* as if a second had gone by */
	log_at(&site);
	ck_assert_ptr_nonnull(strstr(logged(), note));
	ck_assert_uint_eq(site.left_out, 0);
}
END_TEST

START_TEST(logging_leaves_errno_alone)
{
	logger_init(LOGGER_INFO, LOGGER_JSON);
	errno = ENOSPC;
	logger_info("main", "ready", LOG_END);
	ck_assert_int_eq(errno, ENOSPC);
	close(STDERR_FILENO); /* nobody could be told */
	errno = ENOSPC;
	logger_info("main", "ready", LOG_END);
	ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("logger");
	TCase *tcase = tcase_create("logger");

	tcase_add_checked_fixture(tcase, capture, restore);
	tcase_add_test(tcase, a_line_of_text_has_time_level_component_message_and_fields);
	tcase_add_test(tcase, a_line_of_json_is_one_object);
	tcase_add_test(tcase, what_is_no_terminal_gets_json);
	tcase_add_test(tcase, no_value_forges_a_line_or_a_field_of_text);
	tcase_add_test(tcase, no_value_forges_a_line_or_a_field_of_json);
	tcase_add_loop_test(tcase, no_value_commands_a_terminal, 0, 2);
	tcase_add_test(tcase, letters_of_all_languages_are_shown_as_they_are);
	tcase_add_test(tcase, a_list_of_fields_ends_by_itself);
	tcase_add_test(tcase, below_the_level_nothing_is_logged_or_evaluated);
	tcase_add_test(tcase, a_busy_site_is_quiet_and_says_how_many_were_left_out);
	tcase_add_test(tcase, logging_leaves_errno_alone);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(void)
{
	return test_run(make_suite());
}
