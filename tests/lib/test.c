/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/test.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char directory[256];
static pid_t directory_owner;

int test_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place)
{
	(void)info;
	(void)kind;
	(void)place;
	return remove(path);
}

/* Check runs each test in a child; only the process that made it removes it. */
static void remove_directory(void)
{
	if (getpid() == directory_owner)
		nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_directory(void)
{
	const char *parent = getenv("TMPDIR");

	if (directory_owner == getpid())
		return directory;
	snprintf(directory, sizeof directory, "%s/keta-test-XXXXXX", parent != NULL ? parent : "/tmp");
	if (mkdtemp(directory) == NULL) {
		perror(directory);
		abort();
	}
	directory_owner = getpid();
	atexit(remove_directory);
	return directory;
}
