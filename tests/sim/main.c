/* SPDX-License-Identifier: Apache-2.0 */
/*
 *     check_sim [--seeds 0-99] [--steps 1500] [--bug NAME | --all-bugs] [--trace]
 *
 * Runs the simulation with each seed. With a bug planted a seed passes when
 * nothing was noticed; with --all-bugs a bug passes when it was.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/logger.h"
#include "sim/plants.h"
#include "sim/sim.h"

enum { SHOWN_MAX = 40, SEEDS_PER_BUG = 1200 };

static struct sim_counts counts;

static void print_counts(void)
{
	const char *between = "";

#define X(name)                                                                                            \
	printf("%s%" PRId64 " %s", between, counts.name, #name);                                           \
	between = ", ";
	SIM_COUNTS(X)
#undef X
	printf("\n");
}

static int run_seeds(struct sim_options options, uint64_t first, uint64_t last, const char *dir)
{
	int passed = 0, failed = 0;

	for (uint64_t seed = first; seed <= last; seed++) {
		options.seed = seed;
		plants_be_quiet(failed >= SHOWN_MAX);
		if (sim_run(&options, dir, &counts))
			passed++;
		else
			failed++;
	}
	print_counts();
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}

static bool is_found(struct sim_options options, const char *dir)
{
	for (options.seed = 0; options.seed < SEEDS_PER_BUG; options.seed++)
		if (!sim_run(&options, dir, &counts))
			return true;
	return false;
}

static int run_bugs(struct sim_options options, const char *dir)
{
	int passed = 0, failed = 0;
	const char *name;

	plants_be_quiet(true);
	for (size_t i = 0; (name = plants_name(i)) != NULL; i++) {
		bool found;

		plants_choose(name);
		found = is_found(options, dir);
		printf("%-28s %s\n", name, found ? "found" : "NOT FOUND");
		fflush(stdout);
		passed += found;
		failed += !found;
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}

/* In memory where there is such a place: what a disk may lose is made by copies of the files. */
static const char *make_directory(void)
{
	static char dir[256];
	const char *parent = getenv("TMPDIR");

	snprintf(dir, sizeof dir, "%s/keta-sim-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm"
	         : parent != NULL              ? parent
	                                       : "/tmp");
	return mkdtemp(dir);
}

static void remove_directory(const char *dir)
{
	char command[300];

	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	if (system(command) != 0)
		perror(dir);
}

int main(int argc, char **argv)
{
	struct sim_options options = {.steps = 1500};
	const char *dir = make_directory();
	uint64_t first = 0, last = 99;
	bool all_bugs = false;
	int result;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc) {
			char *end;

			first = last = strtoull(argv[++i], &end, 10);
			if (*end == '-')
				last = strtoull(end + 1, NULL, 10);
		} else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc) {
			options.steps = atoi(argv[++i]);
		} else if (strcmp(argv[i], "--bug") == 0 && i + 1 < argc && plants_choose(argv[i + 1])) {
			options.bug = argv[++i];
		} else if (strcmp(argv[i], "--all-bugs") == 0) {
			all_bugs = true;
		} else if (strcmp(argv[i], "--trace") == 0) {
			options.trace = true;
		} else {
			fprintf(stderr,
			        "usage: %s [--seeds 0-99] [--steps 1500] [--bug NAME | --all-bugs] "
			        "[--trace]\n",
			        argv[0]);
			return 2;
		}
	}
	if (dir == NULL)
		return 2;
	logger_init(LOGGER_ERROR, LOGGER_TEXT);
	logger_set_level(options.trace ? LOGGER_DEBUG : (enum logger_level)(LOGGER_ERROR + 1));
	result = all_bugs ? run_bugs(options, dir) : run_seeds(options, first, last, dir);
	remove_directory(dir);
	return result;
}
