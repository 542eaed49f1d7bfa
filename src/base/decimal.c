/* SPDX-License-Identifier: Apache-2.0 */
#include "base/decimal.h"

/* Further digits of an exponent change nothing: such a value is 0 or does not
 * fit. Above the length of any text, so that no row of zeros makes up for it. */
#define EXPONENT_MAX ((int64_t)1 << 40)

/* The parts of a number, as spans of the text. */
struct parts {
	const char *whole;
	size_t whole_len; /* 0 when the whole part is "0" */
	const char *fraction;
	size_t fraction_len; /* without zeros at the end */
	int64_t exponent;
	bool negative;
};

static size_t count_digits(const char *text, size_t len)
{
	size_t count = 0;

	while (count < len && text[count] >= '0' && text[count] <= '9')
		count++;
	return count;
}

static bool parse_exponent(const char *text, size_t len, int64_t *exponent)
{
	bool negative = len > 0 && text[0] == '-';
	int64_t value = 0;

	if (len > 0 && (text[0] == '-' || text[0] == '+')) {
		text++;
		len--;
	}
	if (len == 0 || count_digits(text, len) != len)
		return false;
	for (size_t i = 0; i < len && value < EXPONENT_MAX; i++)
		value = value * 10 + (text[i] - '0');
	*exponent = negative ? -value : value;
	return true;
}

static bool split(const char *text, size_t len, struct parts *parts)
{
	*parts = (struct parts){.negative = len > 0 && text[0] == '-'};
	if (parts->negative) {
		text++;
		len--;
	}
	parts->whole = text;
	parts->whole_len = count_digits(text, len);
	if (parts->whole_len == 0 || (parts->whole_len > 1 && text[0] == '0'))
		return false;
	text += parts->whole_len;
	len -= parts->whole_len;
	if (parts->whole[0] == '0')
		parts->whole_len = 0;
	if (len > 0 && text[0] == '.') {
		size_t count = count_digits(text + 1, len - 1);

		if (count == 0)
			return false;
		parts->fraction = text + 1;
		text += count + 1;
		len -= count + 1;
		while (count > 0 && parts->fraction[count - 1] == '0')
			count--;
		parts->fraction_len = count;
	}
	if (len == 0)
		return true;
	return (text[0] == 'e' || text[0] == 'E') && parse_exponent(text + 1, len - 1, &parts->exponent);
}

static bool append_digit(uint64_t *value, char digit)
{
	return !__builtin_mul_overflow(*value, 10, value) &&
	       !__builtin_add_overflow(*value, (uint64_t)(digit - '0'), value);
}

static bool append_digits(uint64_t *value, const char *digits, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (!append_digit(value, digits[i]))
			return false;
	}
	return true;
}

bool decimal_parse(const char *text, size_t len, struct decimal *out)
{
	struct parts parts;
	int64_t zeros;

	if (!split(text, len, &parts))
		return false;
	*out = (struct decimal){0};
	if (parts.whole_len == 0 && parts.fraction_len == 0)
		return true;
	zeros = parts.exponent - (int64_t)parts.fraction_len;
	/* A negative count takes zeros away, and only the whole part ends in any. */
	for (; zeros < 0; zeros++) {
		if (parts.fraction_len > 0 || parts.whole_len == 0 ||
		    parts.whole[parts.whole_len - 1] != '0')
			return false;
		parts.whole_len--;
	}
	if (!append_digits(&out->magnitude, parts.whole, parts.whole_len) ||
	    !append_digits(&out->magnitude, parts.fraction, parts.fraction_len))
		return false;
	for (; zeros > 0; zeros--) {
		if (!append_digit(&out->magnitude, '0'))
			return false;
	}
	out->negative = parts.negative;
	return true;
}
