/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/logger.h"
#include "base/version.h"

/* As it lies in the file. */
struct page {
	char version[32]; /* another version may be able to apply it: the count begins anew */
	volatile int64_t offset;
	volatile int64_t crashed_offset;
	volatile int64_t crashes; /* at that offset, one after the other */
};

static const int SIGNALS[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};
enum { SIGNAL_COUNT = sizeof SIGNALS / sizeof SIGNALS[0] };

static struct page *page;
static struct sigaction before[SIGNAL_COUNT];

/* Counts, and leaves the rest to whoever handled the signal before. */
static void on_crash(int number)
{
	if (page != NULL && page->offset != 0) {
		page->crashes = page->crashed_offset == page->offset ? page->crashes + 1 : 1;
		page->crashed_offset = page->offset;
	}
	for (int i = 0; i < SIGNAL_COUNT; i++)
		if (SIGNALS[i] == number)
			sigaction(number, &before[i], NULL);
	/* Returning meets the same fault again, but for signals that were sent. */
	raise(number);
}

static void watch_signals(void)
{
	struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_NODEFER};

	sigemptyset(&action.sa_mask);
	for (int i = 0; i < SIGNAL_COUNT; i++)
		sigaction(SIGNALS[i], &action, &before[i]);
}

static enum status_code refuse(const char *path)
{
	logger_error("applier", "the note of what is being applied cannot be kept", LOG_STR("path", path),
	             LOG_STR("error", strerror(errno)), LOG_END);
	return STATUS_IO_ERROR;
}

enum status_code attempt_open(const char *dir, int64_t *poison)
{
	char path[4096];
	int fd;
	void *mapped;

	snprintf(path, sizeof path, "%s/keta.applying", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return refuse(path);
	if (ftruncate(fd, (off_t)sizeof *page) != 0) {
		close(fd);
		return refuse(path);
	}
	mapped = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED)
		return refuse(path);
	page = mapped;
	if (strncmp(page->version, PACKAGE_VERSION, sizeof page->version) != 0) {
		memset(mapped, 0, sizeof *page);
		snprintf(page->version, sizeof page->version, "%s", PACKAGE_VERSION);
	}
	page->offset = 0;
	*poison = page->crashes >= ATTEMPTS_MAX ? page->crashed_offset : 0;
	watch_signals();
	return STATUS_OK;
}

void attempt_close(void)
{
	if (page == NULL)
		return;
	for (int i = 0; i < SIGNAL_COUNT; i++)
		sigaction(SIGNALS[i], &before[i], NULL);
	munmap(page, sizeof *page);
	page = NULL;
}

void attempt_note(int64_t offset)
{
	if (page != NULL)
		page->offset = offset;
}
