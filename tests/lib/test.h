/* SPDX-License-Identifier: Apache-2.0 */
/* What every unit test program shares. A program is a suite per file:
 *
 *     int main(void) { return test_run(make_suite()); }
 */
#ifndef KETA_TEST_H
#define KETA_TEST_H

#include <check.h>

/* Runs the suite; 0 when all passed. CK_FORK=no runs it under a debugger. */
int test_run(Suite *suite);

/* A new empty directory under $TMPDIR or /tmp, removed with all it holds when
 * the program ends. The text is the library's, valid until then. */
const char *test_directory(void);

#endif
