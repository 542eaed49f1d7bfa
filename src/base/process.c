/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads /proc/self. The start time there is counted in clock ticks since the
 * machine booted, so the boot time is read too, once.
 */
#include "base/process.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { US_PER_SECOND = 1000000 };

static pthread_once_t start_once = PTHREAD_ONCE_INIT;
static int64_t start_us;

static int64_t read_boot_seconds(void)
{
	FILE *file = fopen("/proc/stat", "re");
	char line[256];
	int64_t seconds = 0;

	if (file == NULL)
		return 0;
	while (fgets(line, sizeof line, file) != NULL) {
		if (sscanf(line, "btime %" SCNd64, &seconds) == 1)
			break;
	}
	fclose(file);
	return seconds;
}

/* The 22nd field of /proc/self/stat. The second is the program's name in
 * parentheses, which may hold spaces: count from the last one. */
static int64_t read_start_ticks(void)
{
	FILE *file = fopen("/proc/self/stat", "re");
	char text[1024];
	const char *at;
	int64_t ticks = 0;
	size_t len;

	if (file == NULL)
		return 0;
	len = fread(text, 1, sizeof text - 1, file);
	fclose(file);
	text[len] = '\0';
	at = strrchr(text, ')');
	for (int field = 2; at != NULL && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (at != NULL)
		sscanf(at, " %" SCNd64, &ticks);
	return ticks;
}

static void read_start(void)
{
	int64_t per_second = sysconf(_SC_CLK_TCK);

	if (per_second > 0)
		start_us = read_boot_seconds() * US_PER_SECOND +
		           read_start_ticks() * (US_PER_SECOND / per_second);
}

static void read_memory(struct process_info *out)
{
	FILE *file = fopen("/proc/self/statm", "re");
	int64_t page = sysconf(_SC_PAGESIZE);
	int64_t total = 0, resident = 0;

	if (file == NULL)
		return;
	if (fscanf(file, "%" SCNd64 " %" SCNd64, &total, &resident) == 2) {
		out->virtual_bytes = total * page;
		out->resident_bytes = resident * page;
	}
	fclose(file);
}

static int64_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int64_t count = 0;

	if (dir == NULL)
		return 0;
	for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count - 1; /* the directory's own */
}

static int64_t in_us(const struct timeval *time)
{
	return (int64_t)time->tv_sec * US_PER_SECOND + time->tv_usec;
}

void process_read(struct process_info *out)
{
	struct rusage usage;
	struct rlimit limit;

	pthread_once(&start_once, read_start);
	*out = (struct process_info){.start_us = start_us, .open_fds = count_fds()};
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		out->cpu_us = in_us(&usage.ru_utime) + in_us(&usage.ru_stime);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		out->max_fds = (int64_t)limit.rlim_cur;
	read_memory(out);
}

int64_t process_raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
		getrlimit(RLIMIT_NOFILE, &limit);
	}
	return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur;
}
