/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines: one event each, with a level, the component it happened in, a
 * message that is the same every time, and what differs as key=value pairs.
 *
 *     logger_warn("engine", "slow request", LOG_STR("method", name), LOG_I64("took_ms", ms), LOG_END);
 *
 * People at a terminal get text, everything else gets a JSON object per line.
 * Values are escaped, so that no input can forge a line or a field, nor command
 * the terminal that shows it. Keys and values of the store, passwords and
 * tokens are never logged.
 *
 * Any thread may log. A line is one write(2) to standard error. A call site
 * that logs more than a few lines a second is quiet for the rest of it, and its
 * next line says how many were left out.
 *
 *   error   the operator must act        info    life cycle
 *   warn    it may soon be so            debug   a decision and its inputs
 */
#ifndef KETA_LOGGER_H
#define KETA_LOGGER_H

#include <stdbool.h>
#include <stdint.h>

enum logger_level { LOGGER_DEBUG, LOGGER_INFO, LOGGER_WARN, LOGGER_ERROR };
enum logger_format { LOGGER_AUTO, LOGGER_TEXT, LOGGER_JSON };

/* Before the first line, else: info, and the format by what standard error is. */
void logger_init(enum logger_level level, enum logger_format format);

/* Any thread, any time. */
void logger_set_level(enum logger_level level);

struct log_field {
	const char *name; /* NULL ends the list */
	const char *text; /* NULL: the number counts */
	int64_t number;
};

#define LOG_STR(name, text) ((struct log_field){(name), (text), 0})
#define LOG_I64(name, number) ((struct log_field){(name), NULL, (number)})
#define LOG_END ((struct log_field){NULL, NULL, 0})

/* How often a call site may log. */
struct logger_site {
	_Atomic int64_t second;
	_Atomic unsigned lines; /* in that second */
	_Atomic unsigned left_out;
};

bool logger_is_on(enum logger_level level);
void logger_write(enum logger_level level, struct logger_site *site, const char *component,
                  const char *message, const struct log_field *fields);

/* A statement. The fields are not evaluated when the level is off. The list ends
 * by itself too: one that forgot LOG_END would be read past its end. */
#define logger_at(level, component, message, ...)                                                        \
	do {                                                                                             \
		static struct logger_site logger_site_here;                                              \
		if (logger_is_on(level))                                                                 \
			logger_write((level), &logger_site_here, (component), (message),                 \
			             (const struct log_field[]){__VA_ARGS__, LOG_END});                           \
	} while (0)
#define logger_debug(component, ...) logger_at(LOGGER_DEBUG, component, __VA_ARGS__)
#define logger_info(component, ...) logger_at(LOGGER_INFO, component, __VA_ARGS__)
#define logger_warn(component, ...) logger_at(LOGGER_WARN, component, __VA_ARGS__)
#define logger_error(component, ...) logger_at(LOGGER_ERROR, component, __VA_ARGS__)

#endif
