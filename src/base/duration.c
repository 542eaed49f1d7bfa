/* SPDX-License-Identifier: Apache-2.0 */
#include "base/duration.h"

#include <string.h>

struct duration_unit {
	const char *name;
	int64_t ns;
};

/* Longer names first where one begins with another. */
static const struct duration_unit UNITS[] = {
	{"ns", 1},
	{"us", 1000},
	{"\302\265s", 1000}, /* the micro sign */
	{"\316\274s", 1000}, /* the Greek letter */
	{"ms", 1000 * 1000},
	{"s", 1000 * 1000 * 1000},
	{"m", 60 * 1000LL * 1000 * 1000},
	{"h", 3600 * 1000LL * 1000 * 1000},
};

static const struct duration_unit *find_unit(const char *text)
{
	for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++)
		if (strncmp(text, UNITS[i].name, strlen(UNITS[i].name)) == 0)
			return &UNITS[i];
	return NULL;
}

static bool read_whole(const char *text, size_t digits, int64_t *out)
{
	for (*out = 0; digits > 0; digits--, text++)
		if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *text - '0', out))
			return false;
	return true;
}

/* One part such as "1.5h". Digits of a fraction too small to count are skipped. */
static const char *read_part(const char *text, int64_t *total_ns)
{
	const struct duration_unit *unit;
	const char *fraction = NULL;
	int64_t whole = 0;
	int64_t share;
	size_t whole_digits = strspn(text, "0123456789");
	size_t fraction_digits = 0;

	if (!read_whole(text, whole_digits, &whole))
		return NULL;
	text += whole_digits;
	if (*text == '.') {
		fraction = ++text;
		fraction_digits = strspn(text, "0123456789");
		text += fraction_digits;
	}
	unit = find_unit(text);
	if (unit == NULL || whole_digits + fraction_digits == 0 ||
	    __builtin_mul_overflow(whole, unit->ns, &share) ||
	    __builtin_add_overflow(*total_ns, share, total_ns))
		return NULL;
	share = unit->ns;
	for (size_t i = 0; i < fraction_digits && share > 0; i++) {
		int64_t tenth = share / 10;

		if (__builtin_add_overflow(*total_ns, tenth * (fraction[i] - '0'), total_ns))
			return NULL;
		share = tenth;
	}
	return text + strlen(unit->name);
}

bool duration_parse(const char *text, int64_t *out_ms)
{
	int64_t total_ns = 0;

	if (*text == '+')
		text++;
	if (strcmp(text, "0") == 0) {
		*out_ms = 0;
		return true;
	}
	if (*text == '\0')
		return false;
	while (text != NULL && *text != '\0')
		text = read_part(text, &total_ns);
	*out_ms = total_ns / 1000000 + (total_ns % 1000000 != 0);
	return text != NULL;
}
