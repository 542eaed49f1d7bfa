/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decimal text to an integer, exactly. The text has the form of a JSON number;
 * a fraction or an exponent is fine as long as the value is whole: "1.50e1" is
 * 15. Nothing passes through floating point, so no digit is lost.
 */
#ifndef KETA_DECIMAL_H
#define KETA_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A whole number of either sign; zero is never negative. */
struct decimal {
	uint64_t magnitude;
	bool negative;
};

/* False when the text has another form, is not whole, or does not fit. */
bool decimal_parse(const char *text, size_t len, struct decimal *out);

#endif
